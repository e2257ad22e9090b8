"""The 2D family: frames are folded into the batch, so that an image network runs on them as it is.

TSN (Wang et al. 2016) is just that. The other methods put a module that looks along time into the image network; such
a module must know how the N images of a folded batch fall into clips, which `FrameAxis` tells it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.models.contract import VideoModel

MakeModule = Callable[["FrameAxis", int], nn.Module]
"""(frame axis, channels) to the module that a method puts in."""


class FrameAxis:
    """How many frames of one clip lie side by side in a folded batch, at this place of the forward pass."""

    num_frames = 1


class FramesNet(VideoModel):
    """An image network on every frame, with an optional module along time in each block."""

    def __init__(
        self,
        backbone: nn.Module,
        axis: FrameAxis,
        *,
        num_features: int,
        num_classes: int,
        dropout: float,
        min_frames: int,
    ) -> None:
        super().__init__(num_features, num_classes, dropout=dropout)
        self.backbone = backbone
        self.min_frames = min_frames
        self.min_size = 32
        self._axis = axis

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        clips = x_BCTHW.shape[0]
        self._axis.num_frames = x_BCTHW.shape[2]
        f_NDHW = self.backbone(x_BCTHW.transpose(1, 2).flatten(0, 1))
        return f_NDHW.mean((2, 3)).unflatten(0, (clips, self._axis.num_frames))


class TemporalMaxPool(nn.Module):
    """Max-pool of 3 along time with stride 2, on folded frames: T becomes ⌈T/2⌉ (2021 study, supplement)."""

    def __init__(self, axis: FrameAxis) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        x_BTP, unfold = as_clips(x_NCHW, self._axis)
        # columns as channels would be huge: pool over (T, P) with a window of 3 x 1
        pooled_BTP = F.max_pool2d(x_BTP.unsqueeze(1), (3, 1), (2, 1), (1, 0)).squeeze(1)
        self._axis.num_frames = pooled_BTP.shape[1]
        return unfold(pooled_BTP)


def as_clips(x_NCHW: torch.Tensor, axis: FrameAxis) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Folded frames as (B,T,P), P = H·W·C in channels-last order, and the way back (for any T). No copy where the input
    is channels-last."""
    channels, height, width = x_NCHW.shape[1:]
    x_BTP = x_NCHW.permute(0, 2, 3, 1).reshape(-1, axis.num_frames, height * width * channels)

    def unfold(y_BTP: torch.Tensor) -> torch.Tensor:
        return y_BTP.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    return x_BTP, unfold
