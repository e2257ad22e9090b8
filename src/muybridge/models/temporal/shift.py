"""TSM, the temporal shift module (Lin et al. 2019): an eighth of the channels takes the next frame's values, an eighth
the previous one's; zeros at the ends of the clip. No parameters, no multiply-adds. It sits in the residual branch, the
shortcut stays unshifted."""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.models.temporal.frames import FrameAxis


class TemporalShift(nn.Module):
    def __init__(self, axis: FrameAxis, channels: int, *, share: int = 8) -> None:
        super().__init__()
        self._axis = axis
        self.fold = channels // share

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        channels, height, width = x_NCHW.shape[1:]
        x_BTSC = x_NCHW.permute(0, 2, 3, 1).reshape(-1, self._axis.num_frames, height * width, channels)
        fold = self.fold
        from_next = F.pad(x_BTSC[:, 1:, :, :fold], (0, 0, 0, 0, 0, 1))
        from_previous = F.pad(x_BTSC[:, :-1, :, fold : 2 * fold], (0, 0, 0, 0, 1, 0))
        shifted = torch.cat([from_next, from_previous, x_BTSC[..., 2 * fold :]], dim=3)
        return shifted.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
