"""Stacks of differences of neighbouring frames (Wang et al. 2016, TSN, section 3.1: stacked RGB difference)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from muybridge.data.inputs.base import Input
from muybridge.text import plural

if TYPE_CHECKING:
    import torch

STACK = 5
"""TSN's length of a stack."""


class StackedDifferences(Input):
    """Each time step is the L differences of L + 1 frames that follow each other, 3 L channels.

    A mirror image changes no sign: a difference of mirrored frames is the mirrored difference.
    """

    name = "rgb_differences"
    about = "stacked frame differences"
    meaning = (
        "the differences of clip.stack + 1 frames that follow each other, one after the other as channels (TSN's stacked RGB "
        "difference: 5 of them, 15 channels)"
    )
    shows_stills = False

    def __init__(self, stack: int = STACK) -> None:
        self.stack, self.step_frames, self.channels = stack, stack + 1, 3 * stack

    def stacked(self, stack: int) -> "StackedDifferences":
        """The input with stacks of another length."""
        return StackedDifferences(stack)

    @property
    def step_called(self) -> tuple[str, str]:
        """A time step in words, and several of them."""
        differences = plural(self.step_frames - 1, "difference")
        return f"stack of {differences}", f"stacks of {differences}"

    def steps(self, x_BLTHWC: "torch.Tensor") -> "torch.Tensor":
        """Differences of neighbouring frames of each time step, the first one's colours first."""
        differences_BTLHWC = x_BLTHWC.float().diff(dim=2)
        return differences_BTLHWC.permute(0, 1, 3, 4, 2, 5).flatten(4)

    def offset(self, mean: Sequence[float]) -> Sequence[float]:
        """Zeros: the mean of a difference."""
        return [0.0] * len(mean)


INPUT = StackedDifferences()
