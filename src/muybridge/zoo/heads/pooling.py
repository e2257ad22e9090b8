"""Heads that pool the vectors without parameters, or leave them side by side."""

import torch

from muybridge.zoo.heads.base import Head, mean_of_present, whole, without_absent


class MeanPool(Head):
    """The mean over time. A linear classifier on top makes it the usual linear probe."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__(num_inputs, num_inputs)

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        return whole(mean_of_present(f_BTD, present_BT))


class MaxPool(Head):
    """The maximum over time, of each value by itself."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__(num_inputs, num_inputs)

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step."""
        if present_BT is not None:
            f_BTD = f_BTD.masked_fill(~present_BT[..., None], -torch.inf)
        return whole(f_BTD.amax(1))


class SideBySide(Head):
    """The vectors of all steps side by side, so that the classifier is one linear layer that knows their order.

    Zeros stand in the place of a step that is not there.
    """

    def __init__(self, num_inputs: int, *, num_frames: int) -> None:
        super().__init__(num_inputs, num_frames * num_inputs)

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors to features of one step, E = T·D."""
        return whole(without_absent(f_BTD, present_BT).flatten(1))
