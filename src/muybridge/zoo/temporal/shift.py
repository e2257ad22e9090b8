"""TSM, the temporal shift module (Lin et al. 2019).

An eighth of the channels takes the next frame's values, an eighth the previous one's; zeros at the ends of the clip. No
parameters, no multiply-adds. It sits in the residual branch, the shortcut stays unshifted.
"""

from typing import Any

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.anatomy import Anatomy
from muybridge.zoo.temporal.frames import FrameAxis, halve_time, put


class TemporalShift(nn.Module):
    """Channels shifted by a frame, 1 / `share` of them each way."""

    def __init__(self, axis: FrameAxis, channels: int, *, share: int = 8) -> None:
        super().__init__()
        self._axis = axis
        self.fold = channels // share if share > 0 else 0
        if not 0 < 2 * self.fold <= channels:
            raise UserError(
                f"TSM: one channel in {share} of {channels} moves each way, which is {self.fold}. Give a share from 2 "
                f"to {channels}"
            )

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames."""
        return self._axis.images(_Shift.apply(self._axis.pixels(x_NCHW), self.fold, True), *x_NCHW.shape[2:])


class _Shift(torch.autograd.Function):
    """A shift of channels that costs one copy, and one more for the gradient, which is the opposite shift.

    (The gradient of torch's own slices would be a whole tensor of zeros each.)
    """

    @staticmethod
    def forward(ctx: Any, x_BTSC: torch.Tensor, fold: int, ahead: bool) -> torch.Tensor:
        """`ahead`: the first `fold` channels look at the next frame, else at the previous one."""
        ctx.fold, ctx.ahead = fold, ahead
        out = x_BTSC.clone()
        for part, from_next in ((slice(fold), ahead), (slice(fold, 2 * fold), not ahead)):
            if from_next:
                out[:, :-1, :, part] = x_BTSC[:, 1:, :, part]
                out[:, -1, :, part] = 0
            else:
                out[:, 1:, :, part] = x_BTSC[:, :-1, :, part]
                out[:, 0, :, part] = 0
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _Shift.apply(grads[0], ctx.fold, not ctx.ahead), None, None


def shift(net: nn.Module, anatomy: Anatomy, axis: FrameAxis, *, temporal_pooling: bool, share: int = 8) -> None:
    """Put temporal shifts into an image network. `share`: one channel in `share` moves each way."""
    for site in anatomy.sites.shift:
        put(net, site, TemporalShift(axis, anatomy.channels(site), share=share))
    if temporal_pooling:
        halve_time(net, anatomy, axis)
