"""TAM, the 2021 study's temporal aggregation module (Fan et al. 2019): a depthwise convolution of 3 taps along time, no
bias, zeros outside the clip, then ReLU. The first operation of the residual branch of every block. (Not MMAction2's
TANet.)"""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.models.temporal.frames import FrameAxis

TAPS = 3


class TemporalAggregation(nn.Module):
    def __init__(self, axis: FrameAxis, channels: int) -> None:
        super().__init__()
        self._axis = axis
        self.conv = nn.Conv2d(channels, channels, (TAPS, 1), padding=(TAPS // 2, 0), groups=channels, bias=False)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        channels, height, width = x_NCHW.shape[1:]
        x_BTSC = x_NCHW.permute(0, 2, 3, 1).reshape(-1, self._axis.num_frames, height * width, channels)
        # a 2D convolution over (time, pixels): several times faster than a depthwise 3D one on a CPU
        y_BTSC = F.relu(self.conv(x_BTSC.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        return y_BTSC.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
