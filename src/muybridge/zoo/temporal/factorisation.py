"""S3D (Xie et al. 2018) as the 2021 study has it.

k x k becomes 1 x k x k, norm, ReLU, k x 1 x 1 of the same width, norm. 1 x 1 convolutions stay, and the stem is one
3 x 7 x 7. Time is halved where I3D halves it.
"""

from torch import nn

from muybridge.zoo.anatomy import Anatomy, Site
from muybridge.zoo.temporal.frames import EverySecondFrame, FrameAxis, TimeConv, check_dilation, put
from muybridge.zoo.temporal.inflation import check_halvings, grow_pools, kernel_frames, replace_conv


def factorise(net: nn.Module, anatomy: Anatomy, axis: FrameAxis, *, temporal_pooling: bool, dilation: int = 1) -> None:
    """Put temporal convolutions behind an image network's spatial ones.

    The 2D convolution and its norm stay as they are; the temporal convolution and its norm follow them. Where no plain
    batch norm follows a convolution, they are put between it and what follows. `dilation`: frames between the taps of
    every temporal convolution, the stem's too. Raises UserError for one below 1.
    """
    check_dilation(dilation)
    anatomy.check_all_called(net)
    halving = {seen.name for seen in anatomy.halving_layers()} if temporal_pooling else set()
    bias = getattr(net, "factorised_bias", False)
    for seen in anatomy.convs():
        stride = 2 if seen.name in halving else 1
        if seen.name == anatomy.stem:
            if kernel_frames(seen.module) > 1:
                replace_conv(net, seen.name, axis, frames=3, stride_frames=stride, dilation_frames=dilation)
        elif seen.is_spatial:
            width, taps = seen.channels_out, max(3, kernel_frames(seen.module))
            groups = seen.module.groups if isinstance(seen.module, nn.Conv2d) else 1  # depthwise stays depthwise
            conv = TimeConv(axis, width, width, taps, stride=stride, dilation=dilation, groups=groups, bias=bias)
            norm = net.get_submodule(seen.norm) if seen.norm else None
            eps = norm.eps if isinstance(norm, nn.BatchNorm2d) else 1e-5
            if seen.norm:
                parts = [nn.ReLU(inplace=True), conv, nn.BatchNorm2d(width, eps)]
            else:
                parts = [nn.BatchNorm2d(width, eps), nn.ReLU(inplace=True), conv]
            put(net, Site(seen.norm or seen.name, after=True), nn.Sequential(*parts))
        elif stride > 1:
            put(net, Site(seen.name), EverySecondFrame(axis))
    grow_pools(net, anatomy, axis, halving)
    check_halvings(anatomy, halving, temporal_pooling)
