"""I3D (Carreira and Zisserman 2017): every k x k convolution becomes k x k x k, every max-pool but the first looks at
three frames. With temporal pooling the layers that do the last three halvings of the picture halve time, too: strided
convolutions in a ResNet (the 2021 study's code; its text says max-pools), pools in an Inception network."""

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.models.anatomy import Anatomy, Seen, Site
from muybridge.models.temporal.frames import EverySecondFrame, FrameAxis, TemporalPool, VolumeConv, put


def inflate(net: nn.Module, anatomy: Anatomy, axis: FrameAxis, *, temporal_pooling: bool) -> None:
    """The 2D weights are repeated along time and divided by its length: a clip of one still picture gives the response
    to that picture."""
    halving = {seen.name for seen in anatomy.halving_layers()} if temporal_pooling else set()
    for seen in anatomy.convs():
        stride = 2 if seen.name in halving else 1
        frames = kernel_frames(seen.module)
        if seen.name == anatomy.stem:
            frames = getattr(net, "inflated_stem_frames", min(frames, 3))
        if frames > 1:
            replace_conv(net, seen.name, axis, frames=frames, stride_frames=stride)
        elif stride > 1:
            put(net, Site(seen.name), EverySecondFrame(axis))
    grow_pools(net, anatomy, axis, halving)
    check_halvings(anatomy, halving, temporal_pooling)


def kernel_frames(conv: nn.Module) -> int:
    """Temporal length of an inflated convolution: that of its longer side, made odd."""
    assert isinstance(conv, nn.Conv2d)
    longest = max(conv.kernel_size)
    return longest if longest % 2 else longest - 1


def replace_conv(net: nn.Module, name: str, axis: FrameAxis, *, frames: int, stride_frames: int = 1) -> None:
    """A 3D convolution of `frames` (odd) in the place of a 2D one; stride, padding, dilation, groups kept, weights
    repeated and divided. Raises UserError for a convolution with a forward of its own."""
    conv = net.get_submodule(name)
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros":
        raise UserError(
            f"'{name}' is a {type(conv).__name__} that does more than a convolution with zero padding; it cannot be "
            "made 3D (tsn, tsm, tam, tconv, nln and s3d leave it as it is)"
        )
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = conv.kernel_size, conv.stride, conv.dilation
    if conv.padding == "same":
        padding_h, padding_w = dilation_h * (kernel_h - 1) // 2, dilation_w * (kernel_w - 1) // 2
    else:
        padding_h, padding_w = (0, 0) if isinstance(conv.padding, str) else conv.padding
    new = VolumeConv(
        axis, conv.in_channels, conv.out_channels, (frames, kernel_h, kernel_w),
        stride=(stride_frames, stride_h, stride_w), padding=(frames // 2, padding_h, padding_w),
        dilation=(1, dilation_h, dilation_w), groups=conv.groups, bias=conv.bias is not None,
    )  # fmt: skip
    new.to(conv.weight.device, conv.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(conv.weight[:, :, None] / frames)
        if new.bias is not None and conv.bias is not None:
            new.bias.copy_(conv.bias)
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, new)


def grow_pools(net: nn.Module, anatomy: Anatomy, axis: FrameAxis, halving: set[str]) -> None:
    """Every max-pool but the first looks at three frames; pools that halve time, too."""
    pools = [s for s in anatomy.seen.values() if isinstance(s.module, nn.MaxPool2d | nn.AvgPool2d)]
    first = next((s.name for s in pools if isinstance(s.module, nn.MaxPool2d)), None)
    for seen in pools:
        is_max, stride = isinstance(seen.module, nn.MaxPool2d), 2 if seen.name in halving else 1
        if stride == 2 or (is_max and seen.name != first):
            put(net, Site(seen.name, after=True), TemporalPool(axis, stride=stride, kind="max" if is_max else "mean"))


def check_halvings(anatomy: Anatomy, halving: set[str], temporal_pooling: bool) -> None:
    """Raises UserError where temporal pooling is asked for and not all three halvings are layers of a known kind."""
    if not temporal_pooling:
        return
    known = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    layers: list[Seen] = [anatomy.seen[name] for name in halving]
    strange = [seen for seen in layers if not isinstance(seen.module, known)]
    if strange:
        raise UserError(
            f"'{strange[0].name}' ({type(strange[0].module).__name__}) halves the picture, but cannot halve time"
        )
    levels = {seen.level_in for seen in layers}
    if len(levels) < 3:
        raise UserError(
            f"Temporal pooling halves time with the last three halvings of the picture; convolutions and pools of this "
            f"image network do {len(levels)} of them"
        )
