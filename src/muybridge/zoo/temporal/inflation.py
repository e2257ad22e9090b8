"""I3D (Carreira and Zisserman 2017), made of an image network.

Every k x k convolution becomes k x k x k, every max-pool but the first looks at three frames. With temporal pooling the
layers that do the last three halvings of the image halve time, too: strided convolutions in a ResNet (the 2021 study's code;
its text says max-pools), pools in an Inception network.
"""

import threading

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from muybridge.errors import UserError
from muybridge.zoo.anatomy import Anatomy, Site
from muybridge.zoo.temporal.frames import EverySecondFrame, FrameAxis, TemporalPool, VolumeConv, check_dilation, put


def inflate(net: nn.Module, anatomy: Anatomy, axis: FrameAxis, *, temporal_pooling: bool, dilation: int = 1) -> None:
    """Make an image network 3D.

    The 2D weights are repeated along time and divided by its length, so that a clip of one still image gives the response
    to that image. `dilation`: frames between the taps of every inflated kernel. Raises UserError for one below 1, and for
    a convolution that cannot be made 3D.
    """
    check_dilation(dilation)
    anatomy.check_all_called(net)
    tied = _tied(anatomy)
    halving = {seen.name for seen in anatomy.halving_layers()} if temporal_pooling else set()
    for seen in anatomy.convs():
        stride = 2 if seen.name in halving else 1
        frames = kernel_frames(seen.module)
        if seen.name == anatomy.stem:
            frames = getattr(net, "inflated_stem_frames", min(frames, 3))
        if frames > 1:
            replace_conv(net, seen.name, axis, frames=frames, stride_frames=stride, dilation_frames=dilation)
        elif stride > 1:
            put(net, Site(seen.name), EverySecondFrame(axis))
    for one, another, which in tied:  # (a convolution that is used twice is one module still)
        _tie(net, one, another, which)
    grow_pools(net, anatomy, axis, halving)
    check_halvings(anatomy, halving, temporal_pooling)


def _tied(anatomy: Anatomy) -> list[tuple[str, str, str]]:
    """Convolutions that share a parameter: (one, another, which)."""
    first: dict[nn.Parameter, str] = {}
    ties = []
    for seen in anatomy.convs():
        for which, parameter in seen.module._parameters.items():
            if parameter is not None and first.setdefault(parameter, seen.name) != seen.name:
                ties.append((first[parameter], seen.name, which))
    return ties


def _tie(net: nn.Module, one: str, another: str, which: str) -> None:
    """Raises UserError where both have become of different lengths."""
    a, b = (net.get_submodule(name).get_parameter(which) for name in (one, another))
    if a.shape != b.shape:
        raise UserError(
            f"{type(net).__name__}: its '{one}' and '{another}' share their {which}, but would look at different "
            f"numbers of frames (the first convolution at no more than three): {tuple(a.shape)} and {tuple(b.shape)}. "
            "Choose another image network"
        )
    net.get_submodule(another).register_parameter(which, a)


def kernel_frames(conv: nn.Module) -> int:
    """Temporal length of an inflated convolution: that of its longer side, made odd."""
    assert isinstance(conv, nn.Conv2d)
    longest = max(conv.kernel_size)
    return longest if longest % 2 else longest - 1


def replace_conv(
    net: nn.Module, name: str, axis: FrameAxis, *, frames: int, stride_frames: int = 1, dilation_frames: int = 1
) -> None:
    """Put a 3D convolution of `frames` (odd) in the place of a 2D one; its taps lie `dilation_frames` apart.

    The image's stride, padding and dilation are kept, and the groups; weights are repeated and divided. One that does
    more than convolve with zero padding still does it, frame by frame. Raises UserError for one that keeps more than
    weights.
    """
    conv = net.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    if not is_plain(conv):
        kept = [buffer for buffer, _ in conv.named_buffers()]
        if kept:
            raise UserError(
                f"{type(net).__name__}: its convolution '{name}' cannot be made 3D: beside its weights it keeps "
                f"'{kept[0]}' (as spectral norms do), which is of one image's weight and fits none of a clip's. "
                "Remove that from the network"
            )
        swap(net, conv, FrameConvs(axis, conv, frames, stride=stride_frames, dilation=dilation_frames))
        return
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = conv.kernel_size, conv.stride, conv.dilation
    if conv.padding == "same":
        padding_h, padding_w = dilation_h * (kernel_h - 1) // 2, dilation_w * (kernel_w - 1) // 2
    else:
        padding_h, padding_w = (0, 0) if isinstance(conv.padding, str) else conv.padding
    new = VolumeConv(
        axis, conv.in_channels, conv.out_channels, (frames, kernel_h, kernel_w),
        stride=(stride_frames, stride_h, stride_w), padding=(dilation_frames * (frames // 2), padding_h, padding_w),
        dilation=(dilation_frames, dilation_h, dilation_w), groups=conv.groups, bias=conv.bias is not None,
    )  # fmt: skip
    new.to(conv.weight.device, conv.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(conv.weight[:, :, None] / frames)
        if new.bias is not None and conv.bias is not None:
            new.bias.copy_(conv.bias)
            new.bias.requires_grad_(conv.bias.requires_grad)
    new.weight.requires_grad_(conv.weight.requires_grad)
    swap(net, conv, new)


def swap(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module by another, wherever it is used."""
    for module in list(net.modules()):
        for name, child in list(module._modules.items()):  # (named_children lists each one once)
            if child is old:
                setattr(module, name, new)


def is_plain(conv: nn.Conv2d) -> bool:
    """Is it a convolution and nothing else, with zeros around the image, as many on one side as on the other?"""
    kind = type(conv)
    is_own = kind.forward is not nn.Conv2d.forward or kind._conv_forward is not nn.Conv2d._conv_forward
    has_hooks = bool(conv._forward_pre_hooks or conv._forward_hooks)  # they may make its weight anew
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    is_uneven = conv.padding == "same" and any(span % 2 for span in spans)
    return not (is_own or has_hooks or is_uneven or is_parametrized(conv) or conv.padding_mode != "zeros")


class FrameConvs(nn.Module):
    """Any 2D convolution (weight standardisation, reflected borders, …) made 3D, under its own parameters' names.

    Parameters of four dimensions get one of time, as in every inflated convolution: repeated, and divided by its length.
    The convolution runs for each frame of the window, with that frame's slices times the length; the mean of what it
    gives is the 3D convolution's where it is linear in its weight. A still clip gives the image's response for any.
    What lies outside the clip is zero.
    """

    def __init__(self, axis: FrameAxis, conv: nn.Conv2d, frames: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self._axis, self.frames, self.stride, self.dilation = axis, frames, stride, dilation
        for name, parameter in conv.named_parameters():
            tensor = parameter.detach()
            if tensor.dim() == 4:
                tensor = tensor[:, :, None].expand(-1, -1, frames, -1, -1) / frames
            *path, last = name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            owner.register_parameter(last, nn.Parameter(tensor.clone(), requires_grad=parameter.requires_grad))
        self._conv = (conv.to("meta"),)  # no module of this one: it adds no names and has no values

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames, T to ⌈T/stride⌉."""
        (conv,), reach = self._conv, self.dilation * (self.frames // 2)
        conv.train(self.training)
        parameters = [(name, self.get_parameter(name), old.dim() == 4) for name, old in conv.named_parameters()]
        x_BTCHW = x_NCHW.unflatten(0, (self._axis.clips, -1))
        last = x_BTCHW.shape[1]
        padded = F.pad(x_BTCHW, (0, 0, 0, 0, 0, 0, reach, reach))
        parts = []
        with _ONE_AT_A_TIME:
            for i in range(self.frames):
                weights = {name: p[:, :, i] * self.frames if is_inflated else p for name, p, is_inflated in parameters}
                images = padded[:, i * self.dilation : i * self.dilation + last : self.stride].flatten(0, 1)
                parts.append(functional_call(conv, weights, (images,)))
        return torch.stack(parts).mean(0)


_ONE_AT_A_TIME = threading.Lock()
"""Lock: a call with other weights changes the module while it lasts."""


def grow_pools(net: nn.Module, anatomy: Anatomy, axis: FrameAxis, halving: set[str]) -> None:
    """Make every max-pool but the first look at three frames; and pools of any kind that halve time: maximum or mean."""
    layers = [s for s in anatomy.seen.values() if not isinstance(s.module, nn.Conv2d)]
    first = next((s.name for s in layers if isinstance(s.module, nn.MaxPool2d)), None)
    for seen in layers:
        is_max, stride = isinstance(seen.module, nn.MaxPool2d), 2 if seen.name in halving else 1
        if stride == 2 or (is_max and seen.name != first):
            put(net, Site(seen.name, after=True), TemporalPool(axis, stride=stride, kind="max" if is_max else "mean"))


def check_halvings(anatomy: Anatomy, halving: set[str], temporal_pooling: bool) -> None:
    """Raises UserError where temporal pooling is asked for and not all three halvings are done by layers."""
    levels = {anatomy.seen[name].level_in for name in halving}
    if temporal_pooling and len(levels) < 3:
        raise UserError(
            "model.temporal_pooling: it halves time with the last three halvings of the image, and convolutions and "
            f"pools of this image network do {len(levels)} of them. Set model.temporal_pooling=false"
        )
