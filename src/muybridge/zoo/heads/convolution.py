"""A temporal convolutional network over the vectors (Lea et al. 2017; Bai et al. 2018)."""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo import memory
from muybridge.zoo.heads.base import Head, check_count, front, mean_of_present, whole, without_absent


class DilatedBlock(nn.Module):
    """Two dilated convolutions with ReLU beside a shortcut, and a ReLU (Bai et al. 2018, section 3.3)."""

    def __init__(self, num_inputs: int, width: int, taps: int, dilation: int, *, causal: bool = False) -> None:
        """`causal`: look back only."""
        super().__init__()
        self.conv1 = nn.Conv1d(num_inputs, width, taps, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, taps, dilation=dilation)
        self.shortcut = nn.Conv1d(num_inputs, width, 1) if num_inputs != width else None
        self.causal, self.reach = causal, dilation * (taps - 1 if causal else taps // 2)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x_BCT: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
        """Steps to as many steps; those that are not there are zeros, like what lies beyond the ends."""
        y_BCT = x_BCT
        for conv in (self.conv1, self.conv2):
            padded = memory.behind(conv, y_BCT, self.reach) if self.causal else F.pad(y_BCT, (self.reach, self.reach))
            y_BCT = _cleared(F.relu(conv(padded)), present_BT)
        if self.shortcut is not None:
            x_BCT = self.shortcut(x_BCT)
        return _cleared(F.relu(x_BCT + y_BCT), present_BT)


class TemporalConvolutions(Head):
    """Residual blocks of convolutions with dilation 1, 2, 4, …, and the mean over time.

    They look both ways, as Lea et al. do, or back only, as Bai et al. do. Without weight norm and dropout inside.
    """

    def __init__(
        self, num_inputs: int, *, levels: int = 3, width: int = 256, taps: int = 3, causal: bool = False
    ) -> None:
        """`levels`: blocks. `width`: channels. `taps`: steps that a convolution sees. `causal`: look back only.

        `taps` is an odd number, unless the head is causal. Raises UserError.
        """
        check_count("levels", levels, most=10)
        check_count("width", width)
        check_count("taps", taps)
        if taps % 2 == 0 and not causal:
            raise UserError(
                f"model.options.taps: it is {taps}, which has no middle. Give an odd number, or set causal=true"
            )
        super().__init__(num_inputs, width)
        self.looks_back = causal
        self.blocks = nn.ModuleList(
            DilatedBlock(num_inputs if level == 0 else width, width, taps, 2**level, causal=causal)
            for level in range(levels)
        )

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        f_BTD, present_BT = front(f_BTD, present_BT)
        x_BCT = f_BTD.transpose(1, 2)
        for block in self.blocks:
            x_BCT = block(x_BCT, present_BT)
        return whole(mean_of_present(x_BCT.transpose(1, 2), present_BT))


def _cleared(x_BCT: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
    return without_absent(x_BCT.transpose(1, 2), present_BT).transpose(1, 2)
