"""TSM, the temporal shift module (Lin et al. 2019).

An eighth of the channels takes the next frame's values, an eighth the previous one's; zeros at the ends of the clip. No
parameters, no multiply-adds. It sits in the residual branch, the shortcut stays unshifted.

With the direction "past" no channel looks ahead (section 3.4, online models). Those that would hold the present, so that
the weights of a trained network of both directions keep their meaning.
"""

from typing import Any

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo import memory
from muybridge.zoo.anatomy import Anatomy
from muybridge.zoo.temporal.frames import FrameAxis, halve_time, put

DIRECTIONS = ("both", "past")


class TemporalShift(nn.Module):
    """Channels shifted by a frame, 1 / `share` of them each way, or from the past alone."""

    def __init__(self, axis: FrameAxis, channels: int, *, share: int = 8, direction: str = "both") -> None:
        super().__init__()
        self._axis, self.direction = axis, direction
        self.fold = channels // share if share > 0 else 0
        if not 0 < 2 * self.fold <= channels:
            raise UserError(
                f"TSM: one channel in {share} of {channels} moves each way, which is {self.fold}. Give a share from 2 "
                f"to {channels}"
            )

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames."""
        x_BTSC = self._axis.pixels(x_NCHW)
        from_next, from_previous = slice(self.fold), slice(self.fold, 2 * self.fold)
        if self.direction == "both":
            return self._axis.images(_Shift.apply(x_BTSC, from_next, from_previous), *x_NCHW.shape[2:])
        out_BTSC = _Shift.apply(x_BTSC, slice(0), from_previous)
        before_BSC = memory.kept(self, x_BTSC.shape[0], x_BTSC.shape[2], self.fold)
        if before_BSC is not None:
            out_BTSC[:, 0, :, from_previous] = before_BSC
        memory.keep(self, x_BTSC[:, -1, :, from_previous])
        return self._axis.images(out_BTSC, *x_NCHW.shape[2:])


class _Shift(torch.autograd.Function):
    """A shift of channels that costs one copy, and one more for the gradient, which is the opposite shift.

    (The gradient of torch's own slices would be a whole tensor of zeros each.)
    """

    @staticmethod
    def forward(ctx: Any, x_BTSC: torch.Tensor, from_next: slice, from_previous: slice) -> torch.Tensor:
        """`from_next`, `from_previous`: the channels that look at the next frame, and at the previous one."""
        ctx.channels = from_next, from_previous
        out = x_BTSC.clone()
        out[:, :-1, :, from_next] = x_BTSC[:, 1:, :, from_next]
        out[:, -1, :, from_next] = 0
        out[:, 1:, :, from_previous] = x_BTSC[:, :-1, :, from_previous]
        out[:, 0, :, from_previous] = 0
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        from_next, from_previous = ctx.channels
        return _Shift.apply(grads[0], from_previous, from_next), None, None


def shift(
    net: nn.Module,
    anatomy: Anatomy,
    axis: FrameAxis,
    *,
    temporal_pooling: bool,
    share: int = 8,
    direction: str = "both",
) -> None:
    """Put temporal shifts into an image network.

    `share`: one channel in `share` moves each way. `direction`: "both", or "past", with which no frame sees a later one
    and the network may be asked frame by frame (`muybridge.zoo.steps`). Raises UserError.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"model.options.direction: '{direction}' is unknown. Choose both or past")
    if direction == "past" and temporal_pooling:
        raise UserError(
            "model.options.direction: temporal pooling looks ahead, past or not. Set model.temporal_pooling=false, or "
            "leave the direction out"
        )
    for site in anatomy.sites.shift:
        put(net, site, TemporalShift(axis, anatomy.channels(site), share=share, direction=direction))
    if temporal_pooling:
        halve_time(net, anatomy, axis)
