"""TAM, the 2021 study's temporal aggregation module (Fan et al. 2019).

A depthwise convolution of 3 taps along time, no bias, zeros outside the clip, then ReLU: the first operation of the
residual branch of every block. (Not MMAction2's TANet.) The study's "Conv." is the same with a dense convolution.
"""

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.anatomy import Anatomy
from muybridge.zoo.temporal.frames import FrameAxis, TimeConv, check_dilation, halve_time, put


class TemporalAggregation(nn.Module):
    """A depthwise (or dense) convolution along time, then ReLU."""

    def __init__(
        self, axis: FrameAxis, channels: int, *, taps: int = 3, dilation: int = 1, dense: bool = False
    ) -> None:
        super().__init__()
        if taps < 1 or taps % 2 == 0:
            raise UserError(f"TAM: it blends an odd number of frames, but got taps {taps}. Give an odd number")
        check_dilation(dilation)
        groups = 1 if dense else channels
        self.conv = TimeConv(axis, channels, channels, taps, dilation=dilation, groups=groups, relu=True)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames."""
        return self.conv(x_NCHW)


def aggregate(
    net: nn.Module,
    anatomy: Anatomy,
    axis: FrameAxis,
    *,
    temporal_pooling: bool,
    taps: int = 3,
    dilation: int = 1,
    dense: bool = False,
) -> None:
    """Put TAM into an image network.

    `taps`: frames that are blended (an odd number), `dilation` frames apart; `dense`: across channels, too. Raises
    UserError for numbers that are out of range.
    """
    for site in anatomy.sites.aggregation:
        put(net, site, TemporalAggregation(axis, anatomy.channels(site), taps=taps, dilation=dilation, dense=dense))
    if temporal_pooling:
        halve_time(net, anatomy, axis)
