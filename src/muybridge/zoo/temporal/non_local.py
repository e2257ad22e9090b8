"""NLN, non-local blocks (Wang et al. 2018): every position of the clip looks at every other one.

Embedded Gaussian, half the width inside, keys and values sub-sampled 2 x 2. The output's norm starts at zero: a block is
the identity at the start.
"""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.zoo.anatomy import Anatomy
from muybridge.zoo.temporal.frames import FrameAxis, halve_time, put


class NonLocal(nn.Module):
    """A non-local block with a residual connection."""

    def __init__(self, axis: FrameAxis, channels: int, *, subsample: bool = True) -> None:
        super().__init__()
        self._axis = axis
        inner = max(1, channels // 2)
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.subsample = subsample
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames."""
        query_BPC = self._axis.pixels(self.theta(x_NCHW)).flatten(1, 2)  # P = T·H·W positions of a clip
        key_BQC = self._axis.pixels(self._sampled(self.phi(x_NCHW))).flatten(1, 2)
        value_BQC = self._axis.pixels(self._sampled(self.g(x_NCHW))).flatten(1, 2)
        # one head; the softmax of plain dot products, as published (no division by the root of the width)
        y_BPC = F.scaled_dot_product_attention(query_BPC[:, None], key_BQC[:, None], value_BQC[:, None], scale=1.0)[
            :, 0
        ]
        y_NCHW = self._axis.images(y_BPC, *x_NCHW.shape[2:])
        return x_NCHW + self.norm(self.out(y_NCHW))

    def _sampled(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """A quarter of the positions: an odd last row or column is left out, as published; one pixel stays."""
        return F.max_pool2d(x_NCHW, 2, ceil_mode=min(x_NCHW.shape[2:]) < 2) if self.subsample else x_NCHW


def non_local(
    net: nn.Module, anatomy: Anatomy, axis: FrameAxis, *, temporal_pooling: bool, subsample: bool = True
) -> None:
    """Put non-local blocks into an image network. `subsample`: a quarter of the positions as keys and values."""
    for site in anatomy.sites.non_local:
        put(net, site, NonLocal(axis, anatomy.channels(site), subsample=subsample))
    if temporal_pooling:
        halve_time(net, anatomy, axis)
