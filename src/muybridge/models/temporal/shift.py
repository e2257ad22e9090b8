"""TSM, the temporal shift module (Lin et al. 2019): an eighth of the channels takes the next frame's values, an eighth
the previous one's; zeros at the ends of the clip. No parameters, no multiply-adds. It sits in the residual branch, the
shortcut stays unshifted."""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.models.anatomy import Anatomy
from muybridge.models.temporal.frames import FrameAxis, halve_time, put


class TemporalShift(nn.Module):
    def __init__(self, axis: FrameAxis, channels: int, *, share: int = 8) -> None:
        super().__init__()
        self._axis = axis
        self.fold = channels // share

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        x_BTSC = self._axis.pixels(x_NCHW)
        fold = self.fold
        from_next = F.pad(x_BTSC[:, 1:, :, :fold], (0, 0, 0, 0, 0, 1))
        from_previous = F.pad(x_BTSC[:, :-1, :, fold : 2 * fold], (0, 0, 0, 0, 1, 0))
        shifted = torch.cat([from_next, from_previous, x_BTSC[..., 2 * fold :]], dim=3)
        return self._axis.pictures(shifted, *x_NCHW.shape[2:])


def shift(net: nn.Module, anatomy: Anatomy, axis: FrameAxis, *, temporal_pooling: bool, share: int = 8) -> None:
    """`share`: one channel in so many moves each way."""
    for site in anatomy.sites.shift:
        put(net, site, TemporalShift(axis, anatomy.channels(site), share=share))
    if temporal_pooling:
        halve_time(net, anatomy, axis)
