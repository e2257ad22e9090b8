"""Small image networks as others write them, for the tests: a function each, without arguments."""

import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from muybridge.zoo.anatomy import Site, Sites


class ConvNorm(nn.Sequential):
    def __init__(self, c_in, c_out, kernel, stride=1, groups=1, dilation=1, act=nn.ReLU):
        super().__init__(
            nn.Conv2d(
                c_in, c_out, kernel, stride, dilation * (kernel // 2), dilation=dilation, groups=groups, bias=False
            ),
            nn.BatchNorm2d(c_out),
            act(),
        )


class DenseLayer(nn.Module):
    """Norms come first; what it gives is joined to what it took."""

    def __init__(self, c_in, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(c_in), nn.Conv2d(c_in, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


def dense():
    """DenseNet: transitions with average pools."""

    def transition(c_in, c_out):
        return nn.Sequential(nn.BatchNorm2d(c_in), nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.AvgPool2d(2))

    layers, channels = [ConvNorm(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1)], 8
    for _ in range(3):
        layers += [DenseLayer(channels, 4), DenseLayer(channels + 4, 4), transition(channels + 8, channels)]
    return nn.Sequential(*layers, DenseLayer(channels, 4))


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        return x * self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


class InvertedResidual(nn.Module):
    def __init__(self, c_in, c_out, kernel, stride):
        super().__init__()
        width = 4 * c_in
        self.expand = ConvNorm(c_in, width, 1, act=nn.SiLU)
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width, act=nn.SiLU)
        self.excite = SqueezeExcite(width)
        self.project = ConvNorm(width, c_out, 1, act=nn.Identity)
        self.is_residual = stride == 1 and c_in == c_out

    def forward(self, x):
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.is_residual else y


def mobile():
    """EfficientNet: squeeze and excitation, depthwise convolutions, SiLU."""
    blocks = [(8, 8, 3, 2), (8, 12, 5, 2), (12, 12, 3, 1), (12, 16, 3, 2), (16, 16, 5, 2)]
    return nn.Sequential(ConvNorm(3, 8, 3, 2, act=nn.SiLU), *(InvertedResidual(*block) for block in blocks))


class Grouped(nn.Module):
    def __init__(self, c_in, c_out, stride=1, dilation=1):
        super().__init__()
        self.conv1 = ConvNorm(c_in, c_out, 1)
        self.conv2 = ConvNorm(c_out, c_out, 3, stride, groups=4, dilation=dilation, act=nn.Identity)
        self.short = ConvNorm(c_in, c_out, 1, stride, act=nn.Identity)

    def forward(self, x):
        return F.relu(self.conv2(self.conv1(x)) + self.short(x))


def dilated():
    """ResNeXt for dense prediction: an eighth of the side, dilation instead of stride after it."""
    return nn.Sequential(
        ConvNorm(3, 8, 7, 2), Grouped(8, 8, 2), Grouped(8, 16, 2), Grouped(16, 16, dilation=2),
        Grouped(16, 16, dilation=4),
    )  # fmt: skip


class ChannelNorm(nn.LayerNorm):
    """Over the channels of (N,C,H,W)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NextBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x):
        y_NHWC = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return x + y_NHWC.permute(0, 3, 1, 2)


def next_net():
    """ConvNeXt: no batch norm, patches instead of pools, linear layers on channels-last pictures."""
    layers = [nn.Conv2d(3, 8, 4, 4), ChannelNorm(8)]
    for c_in, c_out in ((8, 8), (8, 12), (12, 16)):
        layers += [NextBlock(c_in), ChannelNorm(c_in), nn.Conv2d(c_in, c_out, 2, 2)]
    return nn.Sequential(*layers, NextBlock(16))


class Functional(nn.Module):
    """All but the layers with weights in `forward`."""

    def __init__(self):
        super().__init__()
        widths = (3, 8, 8, 12, 12, 16)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding="same") for a, b in pairwise(widths))

    def forward(self, x):
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return x


class OnePool(nn.Module):
    """One pool that is used for every halving, one convolution that is used twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = ConvNorm(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.again, self.pool = self.conv, nn.MaxPool2d(2)

    def forward(self, x):
        x = self.pool(self.pool(self.stem(x)))
        return self.pool(self.again(self.pool(self.conv(x))))


class Vectors(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(ConvNorm(a, b, 3, 2) for a, b in ((3, 8), (8, 8), (8, 12), (12, 16), (16, 16))))
        self.neck = nn.Linear(16, 20)

    def forward(self, x):
        return self.neck(self.body(x).mean((2, 3)))


class Tokens(nn.Module):
    """A vision transformer: no convolution but the one that cuts patches."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 16, 16)
        self.start = nn.Parameter(torch.zeros(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.block(torch.cat([self.start.expand(len(x), -1, -1), tokens], 1))


class BlockD(nn.Module):
    """The shortcut of a ResNet-D: an average pool, then 1x1."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(c_in, c_out, 3, 2), ConvNorm(c_out, c_out, 3, act=nn.Identity)
        self.short = nn.Sequential(nn.AvgPool2d(2, 2), ConvNorm(c_in, c_out, 1, act=nn.Identity))

    def forward(self, x):
        return F.relu(self.conv2(self.conv1(x)) + self.short(x))


class Stage(nn.Module):
    """Runs whatever children it has, as RegNet's stages of timm do."""

    def __init__(self, *blocks):
        super().__init__()
        for index, block in enumerate(blocks):
            self.add_module(f"b{index}", block)

    def forward(self, x):
        for block in self.children():
            x = block(x)
        return x


class ResNetD(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.pool = ConvNorm(3, 8, 3, 2), nn.MaxPool2d(3, 2, 1)
        self.stage2 = Stage(BlockD(8, 8), ConvNorm(8, 8, 3))
        self.stage3, self.stage4 = Stage(BlockD(8, 12)), Stage(BlockD(12, 16))

    def forward(self, x):
        return self.stage4(self.stage3(self.stage2(self.pool(self.stem(x)))))


class PreActBlock(nn.Module):
    """What its first convolution gives is taken by a norm, and by the shortcut as well."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(c_in, c_out, 3, 2, 1), nn.BatchNorm2d(c_out)
        self.conv2, self.short = nn.Conv2d(c_out, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 1)

    def forward(self, x):
        x = self.conv1(x)
        return self.conv2(F.relu(self.norm(x))) + self.short(x)


def pre_act():
    return nn.Sequential(ConvNorm(3, 8, 3, 2), *(PreActBlock(a, b) for a, b in ((8, 8), (8, 8), (8, 12), (12, 16))))


class BlurPool(nn.Module):
    """Halves a picture with a fixed kernel, as no layer of torch's."""

    def forward(self, x):
        kernel = x.new_tensor([1.0, 2.0, 1.0]) / 4
        weight = (kernel[:, None] * kernel).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), weight, stride=2, groups=x.shape[1])


class SumInPlace(nn.Module):
    """Branches that are added up in place, as in MobileOne."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.one = ConvNorm(c_in, c_out, 1, 2, act=nn.Identity)
        self.more = nn.ModuleList(ConvNorm(c_in, c_out, 3, 2, act=nn.Identity) for _ in range(2))
        self.act = nn.ReLU()

    def forward(self, x):
        out = self.one(x)
        for branch in self.more:
            out += branch(x)
        return self.act(out)


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, 8, 3, 2), ConvNorm(8, 8, 3, 2))
        self.stage2 = nn.Sequential(SumInPlace(8, 8), ConvNorm(8, 8, 3))
        self.stage3, self.stage4 = nn.Sequential(ConvNorm(8, 12, 3), BlurPool()), nn.Sequential(SumInPlace(12, 16))

    def forward(self, x):
        return self.stage4(self.stage3(self.stage2(self.stem(x))))


class StandardConv(nn.Conv2d):
    """Weights of mean 0 and variance 1, made anew in each pass."""

    def forward(self, x):
        w = self.weight.flatten(1)
        w = (w - w.mean(1, keepdim=True)) / (w.std(1, keepdim=True) + 1e-5)
        return F.conv2d(x, w.view_as(self.weight), self.bias, self.stride, self.padding)


def strange():
    """Convolutions that do more than convolve with zeros around the picture."""
    return nn.Sequential(
        StandardConv(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), StandardConv(8, 8, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1, padding_mode="reflect"), nn.ReLU(), weight_norm(nn.Conv2d(8, 12, 3, 2, 1)), nn.ReLU(),
        nn.Conv2d(12, 12, 4, padding="same"), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1),
    )  # fmt: skip


class SameConv(nn.Conv2d):
    """As many zeros as the picture's size asks for, one more on one side than on the other."""

    def forward(self, x):
        pads = [max((-(-side // 2) - 1) * 2 + 3 - side, 0) for side in (x.shape[3], x.shape[2])]
        padded = F.pad(x, [half for pad in pads for half in (pad // 2, pad - pad // 2)])
        return F.conv2d(padded, self.weight, self.bias, 2)


class GainConv(StandardConv):
    """A learnt gain for each filter, of four dimensions."""

    def __init__(self, c_in, c_out):
        super().__init__(c_in, c_out, 3, 2, 1)
        self.gain = nn.Parameter(torch.rand(c_out, 1, 1, 1) + 0.5)

    def forward(self, x):
        return super().forward(x) * self.gain.view(-1, 1, 1)


def made_anew():
    """A weight that a hook makes of others before each pass."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        conv = nn.utils.weight_norm(nn.Conv2d(8, 8, 3, 2, 1))
    return nn.Sequential(ConvNorm(3, 8, 3, 2), conv, ConvNorm(8, 8, 3, 2), SameConv(8, 12, 3), GainConv(12, 16))


def spectral(norm):
    return nn.Sequential(ConvNorm(3, 8, 3, 2), norm(nn.Conv2d(8, 8, 3, 2, 1)), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))


def hook_spectral():
    return spectral(nn.utils.spectral_norm)


def new_spectral():
    return spectral(nn.utils.parametrizations.spectral_norm)


class TwoBranches(nn.Module):
    """Two resolutions side by side to the end: no place halves the whole picture."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, 8, 3, 2), ConvNorm(8, 8, 3, 2))
        self.high = ConvNorm(8, 8, 3)
        self.down1, self.down2, self.down3 = (ConvNorm(8, 8, 3, 2) for _ in range(3))

    def forward(self, x):
        x = self.stem(x)
        low = self.down3(self.down2(self.down1(x)))
        return low + F.adaptive_avg_pool2d(self.high(x), low.shape[-1])


class Fixed(nn.Module):
    """Made for pictures of 64 x 64."""

    fixed_size = 64

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(ConvNorm(a, b, 3, 2) for a, b in ((3, 8), (8, 8), (8, 8), (8, 8), (8, 4))))
        self.neck = nn.Linear(4 * 2 * 2, 10)

    def forward(self, x):
        return self.neck(self.body(x).flatten(1))


class OneSize(nn.Module):
    """Made for pictures of 224 x 224, and does not say so."""

    def __init__(self):
        super().__init__()
        self.body, self.neck = Vectors().body, nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        return self.neck(self.body(x).flatten(1))


class OneSmallSize(Fixed):
    """Does not say so, either."""

    fixed_size = None


class Remembers(Vectors):
    """Keeps what it made in attributes."""

    def __init__(self):
        super().__init__()
        self.last = None

    def forward(self, x):
        self.last = self.scale = x.new_ones(())
        return super().forward(x) * self.scale


def with_sites():
    """Says itself where temporal modules sit."""
    net = Vectors()
    net.sites = Sites(shift=(Site("body.1"),), aggregation=(Site("body.2", after=True),), non_local=(Site("body.3"),))
    return net


def with_a_wrong_site():
    net = Vectors()
    net.sites = Sites(shift=(Site("layer9"),), aggregation=(), non_local=())
    return net


def already_in_eval_mode():
    return Vectors().eval()


class ChannelsLast(Vectors):
    def forward(self, x):
        return self.body(x).permute(0, 2, 3, 1)


class Lists(Vectors):
    def forward(self, x):
        return [x]


class Fails(Vectors):
    def forward(self, x):
        raise LookupError("no weights here")


def linear_only():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))


def needs(width):
    return Vectors()


def gives_no_module():
    return {"weights": 1}


def raises():
    raise ZeroDivisionError("in the user's file")
