"""X3D (Feichtenhofer 2020, X3D: Expanding Architectures for Efficient Video Recognition, table 3 and section 4.1).

A thin ResNet whose only spatial convolutions are depthwise 3x3x3.

`x3d_s` and `x3d_m` are one network. S was trained on clips of 13 frames of 160 x 160 (tested at 182), M on 16 frames of
224 x 224 (tested at 256). Layers are PySlowFast's; PyTorchVideo's network has no norm in its first shortcut (48 parameters
fewer), and its weights get one that changes nothing.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.zoo.base import Clips, VideoModel
from muybridge.zoo.networks.video_resnets import pytorchvideo_kinetics
from muybridge.zoo.registry import register
from muybridge.zoo.temporal.frames import FrameAxis, FramesNet, TimeConv, VolumeConv, draw_weights
from muybridge.zoo.volumes import refuse_temporal_pooling

DEPTHS = (3, 5, 11, 7)
"""Blocks of each stage: 1, 2, 5, 3 times 2.2, rounded up."""
WIDTHS = (24, 48, 96, 192)
BOTTLENECK = 2.25
"""Ratio of a block's inner width to its outer one."""
SQUEEZE = 1 / 16


class SqueezeExcitation(nn.Module):
    """Weights of channels, from their means over the clip (Hu et al. 2018)."""

    def __init__(self, axis: FrameAxis, channels: int, squeezed: int) -> None:
        super().__init__()
        self._axis = axis
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames, each channel times its weight."""
        mean_BC11 = self._axis.unfold(x_NCHW).mean((2, 3, 4))[..., None, None]
        weight_BC11 = torch.sigmoid(self.fc2(F.relu(self.fc1(mean_BC11))))
        return (x_NCHW.unflatten(0, (self._axis.clips, -1)) * weight_BC11[:, None]).flatten(0, 1)


class Block(nn.Module):
    """1x1x1, depthwise 3x3x3 (with the stride; Swish behind), 1x1x1; names as the ResNet's."""

    def __init__(self, axis: FrameAxis, c_in: int, c_out: int, *, stride: int, squeezes: bool) -> None:
        super().__init__()
        inner = int(BOTTLENECK * c_out)
        self.conv1, self.bn1 = nn.Conv2d(c_in, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = VolumeConv(
            axis, inner, inner, (3, 3, 3), stride=(1, stride, stride), padding=(1, 1, 1), groups=inner
        )
        self.bn2 = nn.BatchNorm2d(inner)
        self.se = SqueezeExcitation(axis, inner, _in_eights(inner * SQUEEZE)) if squeezes else nn.Identity()
        self.conv3, self.bn3 = nn.Conv2d(inner, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.silu(self.se(self.bn2(self.conv2(out))))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class X3D(nn.Module):
    """Folded frames (B·T,C,H,W) to vectors (B,2048): the clip is averaged before the last but one layer."""

    num_features = 2048

    def __init__(self, axis: FrameAxis, *, in_channels: int = 3) -> None:
        super().__init__()
        self._axis = axis
        channels = WIDTHS[0]
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, 2, padding=1, bias=False),
            TimeConv(axis, channels, channels, 5, groups=channels),
        )
        self.bn1 = nn.BatchNorm2d(channels)
        for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
            blocks = []
            for index in range(depth):
                blocks.append(Block(axis, channels, width, stride=1 if index else 2, squeezes=index % 2 == 0))
                channels = width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        inner = int(BOTTLENECK * channels)
        self.conv5, self.bn5 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.linear5 = nn.Linear(inner, self.num_features, bias=False)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames (B·T,C,H,W) to vectors (B,2048)."""
        x = F.relu(self.bn1(self.conv1(x_NCHW)))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        x = F.relu(self.bn5(self.conv5(x)))
        return F.relu(self.linear5(self._axis.unfold(x).mean((2, 3, 4))))


def _in_eights(channels: float) -> int:
    """The nearest multiple of 8, but no less than nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _build(
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
    in_channels: int,
    name: str,
    weights: str,
    clips: Clips,
) -> VideoModel:
    refuse_temporal_pooling(name, temporal_pooling)
    axis = FrameAxis()
    net = X3D(axis, in_channels=in_channels)
    draw_weights(net)
    model = FramesNet(
        net, axis, num_features=net.num_features, num_classes=num_classes, dropout=dropout, in_channels=in_channels
    )
    model.published = pytorchvideo_kinetics(weights, clips)
    model.preprocessing = model.published["kinetics400"].preprocessing
    return model


for _name, _weights, _clips in (
    ("x3d_s", "X3D_S.pyth", Clips(13, 160, 6, fps=30)),
    ("x3d_m", "X3D_M.pyth", Clips(16, 224, 5, fps=30)),
):
    register(
        _name, family="x3d", paper="Feichtenhofer 2020, X3D",
        build=partial(_build, name=_name, weights=_weights, clips=_clips),
    )  # fmt: skip
