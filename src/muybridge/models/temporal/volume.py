"""The 3D family: an image network whose convolutions, norms and pools are replaced by ones over (T,H,W).

I3D (Carreira and Zisserman 2017) inflates every k x k convolution to k x k x k. S3D (Xie et al. 2018) factorises it into
1 x k x k, BN, ReLU and k x 1 x 1. 1 x 1 convolutions stay 1 x 1 x 1, and the stem is one 3 x 7 x 7 in both (2021 study).
With temporal pooling, convolutions that halve space halve time too (the published code; its text says max-pools).
"""

from collections.abc import Callable

import torch
from torch import nn

from muybridge.models.contract import VideoModel

MakeConv = Callable[[nn.Conv2d, int], nn.Module]
"""(the 2D convolution, its stride along time) to what replaces it."""


class VolumeNet(VideoModel):
    """A 3D network under the common head."""

    def __init__(
        self, backbone: nn.Module, *, num_features: int, num_classes: int, dropout: float, min_frames: int
    ) -> None:
        super().__init__(num_features, num_classes, dropout=dropout)
        self.backbone = backbone
        self.min_frames = min_frames
        self.min_size = 32

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        return self.backbone(x_BCTHW).mean((3, 4)).transpose(1, 2)


def grow(backbone: nn.Module, make_conv: MakeConv, *, stem: str, stem_frames: int, temporal_pooling: bool) -> nn.Module:
    """Replace the 2D layers of `backbone` in place by 3D ones; names stay, so that published 2D weights find their
    place. Weights start afresh (He et al. 2015)."""
    for name, module in list(backbone.named_modules()):
        new: nn.Module
        if isinstance(module, nn.Conv2d):
            if name == stem:
                new = conv3d(module, frames=stem_frames)
            else:
                new = make_conv(module, 2 if temporal_pooling and module.stride != (1, 1) else 1)
        elif isinstance(module, nn.BatchNorm2d):
            new = nn.BatchNorm3d(module.num_features, module.eps, module.momentum)
        elif isinstance(module, nn.MaxPool2d):
            new = FramePool(module)
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, new)
    for module in backbone.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone


def inflated(conv: nn.Conv2d, stride_frames: int) -> nn.Module:
    """k x k to k x k x k (I3D)."""
    return conv3d(conv, frames=conv.kernel_size[0], stride_frames=stride_frames)


def factorised(conv: nn.Conv2d, stride_frames: int) -> nn.Module:
    """k x k to 1 x k x k, BN, ReLU, k x 1 x 1 of the same width (S3D)."""
    if conv.kernel_size == (1, 1):
        return conv3d(conv, frames=1, stride_frames=stride_frames)
    return Factorised(conv, stride_frames)


class Factorised(nn.Module):
    """Space, then time. The norm and ReLU that follow the 2D convolution follow the temporal one."""

    def __init__(self, conv: nn.Conv2d, stride_frames: int) -> None:
        super().__init__()
        width, taps = conv.out_channels, conv.kernel_size[0]
        self.spatial = conv3d(conv, frames=1)
        self.bn = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.temporal = nn.Conv3d(width, width, (taps, 1, 1), (stride_frames, 1, 1), (taps // 2, 0, 0), bias=False)

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        return self.temporal(self.relu(self.bn(self.spatial(x_BCTHW))))


class FramePool(nn.Module):
    """The 2D pool, frame by frame. (MaxPool3d's gradient is not repeatable on CUDA; max_pool2d's is.)"""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(x_BCTHW.transpose(1, 2).flatten(0, 1))
        return pooled.unflatten(0, (x_BCTHW.shape[0], x_BCTHW.shape[2])).transpose(1, 2)


def conv3d(conv: nn.Conv2d, *, frames: int, stride_frames: int = 1) -> nn.Conv3d:
    """The convolution with a temporal extent; stride, dilation and groups kept."""
    if isinstance(conv.padding, str):
        raise ValueError(f"padding '{conv.padding}' of a backbone's convolution: numbers are needed")
    (kernel_h, kernel_w), (stride_h, stride_w) = conv.kernel_size, conv.stride
    (padding_h, padding_w), (dilation_h, dilation_w) = conv.padding, conv.dilation
    return nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        (frames, kernel_h, kernel_w),
        (stride_frames, stride_h, stride_w),
        (frames // 2, padding_h, padding_w),
        (1, dilation_h, dilation_w),
        conv.groups,
        conv.bias is not None,
    )
