"""Differences of neighbouring frames (Wang et al. 2016, TSN, section 3.2)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from muybridge.data.inputs.base import Input

if TYPE_CHECKING:
    import torch


class Differences(Input):
    """Each time step is the second of two frames minus the first."""

    name = "rgb_difference"
    formerly = "difference"
    about = "frame differences"
    meaning = (
        "each frame's successor minus the frame, so that what stands still is zero (TSN's RGB difference; for a camera that "
        "does not move)"
    )
    step_frames = 2
    shows_stills = False

    @property
    def step_called(self) -> tuple[str, str]:
        """A time step in words, and several of them."""
        return "difference of 2 frames", "differences of 2 frames"

    def steps(self, x_BLTHWC: "torch.Tensor") -> "torch.Tensor":
        """Difference of the two frames of each time step."""
        first, second = x_BLTHWC.float().unbind(2)
        return second - first

    def offset(self, mean: Sequence[float]) -> Sequence[float]:
        """Zeros: the mean of a difference."""
        return [0.0] * len(mean)


INPUT = Differences()
