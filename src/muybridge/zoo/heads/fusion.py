"""The 2014 study's ways of fusing frames (Karpathy et al. 2014, section 3.1), over vectors of frames.

The study fuses inside an image network. Here its wirings run over the vectors that such a network, or any, gives. Hidden
layers end in a ReLU.
"""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.zoo.heads.base import Head, check_count, front, mean_of_present, whole, without_absent


class LateFusion(Head):
    """The vectors of the first and the last step that are there, side by side, into a hidden layer."""

    def __init__(self, num_inputs: int, *, width: int = 512) -> None:
        """`width`: units of the hidden layer. Raises UserError."""
        check_count("width", width)
        super().__init__(num_inputs, width)
        self.hidden = nn.Linear(2 * num_inputs, width)

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        f_BTD, present_BT = front(f_BTD, present_BT)
        if present_BT is None:
            last_BD = f_BTD[:, -1]
        else:
            last_BD = f_BTD[torch.arange(f_BTD.shape[0], device=f_BTD.device), present_BT.sum(1) - 1]
        return whole(F.relu(self.hidden(torch.cat([f_BTD[:, 0], last_BD], dim=1))))


class EarlyFusion(Head):
    """The vectors of all steps side by side into one hidden layer.

    The study fuses early in the pixels: its first convolution sees all frames. Here the vectors are fused, after the image
    network. Zeros stand in the place of a step that is not there.
    """

    def __init__(self, num_inputs: int, *, num_frames: int, width: int = 512) -> None:
        """`width`: units of the hidden layer. Raises UserError."""
        check_count("width", width)
        super().__init__(num_inputs, width)
        self.hidden = nn.Linear(num_frames * num_inputs, width)

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        return whole(F.relu(self.hidden(without_absent(f_BTD, present_BT).flatten(1))))


class SlowFusion(Head):
    """Convolutions of 4, 2 and 2 taps, each with stride 2, and the mean of what they leave.

    Of the study's 10 frames they leave 4, 2 and 1. A last window that is not full is filled up with zeros, so that any
    number of frames goes in.
    """

    TAPS = (4, 2, 2)

    def __init__(self, num_inputs: int, *, width: int = 512) -> None:
        """`width`: channels of the convolutions. Raises UserError."""
        check_count("width", width)
        super().__init__(num_inputs, width)
        self.convs = nn.ModuleList(
            nn.Conv1d(num_inputs if level == 0 else width, width, taps, stride=2)
            for level, taps in enumerate(self.TAPS)
        )

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        x_BTD, present_BT = front(f_BTD, present_BT)
        length_B = None if present_BT is None else present_BT.sum(1)
        for conv, taps in zip(self.convs, self.TAPS, strict=True):
            steps = x_BTD.shape[1]
            windows = (max(steps - taps, 0) + 1) // 2 + 1
            x_BCT = F.pad(x_BTD.transpose(1, 2), (0, 2 * (windows - 1) + taps - steps))
            x_BTD = F.relu(conv(x_BCT)).transpose(1, 2)
            if length_B is not None:
                length_B = ((length_B - taps).clamp(min=0) + 1) // 2 + 1
                present_BT = torch.arange(windows, device=x_BTD.device) < length_B[:, None]
                x_BTD = without_absent(x_BTD, present_BT)
        return whole(mean_of_present(x_BTD, present_BT))
