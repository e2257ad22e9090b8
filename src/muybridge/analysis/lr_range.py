"""Range test of the learning rate: what its losses say (needs no torch).

The rate rises exponentially from step to step, as the loss falls, turns and rises (Smith 2017, "Cyclical Learning Rates for
Training Neural Networks", section 3.3). Losses are smoothed by a running mean. The rate at which that is least is where the
loss turns; a tenth of it is suggested, as the mean lags behind and a rate that still falls for one step may be too large for
a thousand. Where the loss has fallen by no more than the noise of its beginning, nothing is suggested.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

SMOOTHING = 0.9
"""Weight of the past in the running mean of losses: about ten steps."""
BEGINNING = 10
"""Steps from which the loss and its noise at the start are taken."""
DIVERGED = 4.0
"""Multiple of the least smoothed loss at which a test ends."""
LEAST_FALL = 3.0
"""Standard errors of the beginning by which the smoothed loss must fall."""
FAR = 10.0
"""Factor from the suggestion at which a rate is called far off."""


@dataclass(frozen=True)
class LrRange:
    """Losses of training steps at rising learning rates."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Mean loss of each step's clips, before its update."""
    recipe_lr: float
    """Peak learning rate of the recipe, as steps take it."""
    lr_scale: float = 1.0
    """That over `optim.lr`: the rule of linear scaling, where the recipe has it."""

    @cached_property
    def smoothed(self) -> tuple[float, ...]:
        """Running mean of the losses, each weighted by how many steps ago it was."""
        means: list[float] = []
        total = weight = 0.0
        for loss in self.losses:
            total, weight = SMOOTHING * total + loss, SMOOTHING * weight + 1
            means.append(total / weight)
        return tuple(means)

    @property
    def has_diverged(self) -> bool:
        """Whether the smoothed loss is a multiple of its least."""
        return len(self.losses) > BEGINNING and self.smoothed[-1] > DIVERGED * min(self.smoothed)

    @property
    def turn(self) -> float | None:
        """The rate at which the smoothed loss is least; None where it never falls."""
        first = self.losses[:BEGINNING]
        if len(self.losses) <= BEGINNING:
            return None
        error = stdev(first) / BEGINNING**0.5
        later = self.smoothed[BEGINNING:]
        if min(later) > fmean(first) - LEAST_FALL * error:
            return None
        return self.rates[BEGINNING + later.index(min(later))]

    @property
    def suggested(self) -> float | None:
        """A tenth of the rate at which the loss turns."""
        return None if self.turn is None else self.turn / 10

    @property
    def verdict(self) -> str:
        """Sentence that holds the recipe's rate against the suggestion."""
        if self.suggested is None:
            return (
                f"The loss fell at no learning rate from {self.rates[0]:.2g} to {self.rates[-1]:.2g}. Check the labels, and "
                "whether the network is dead (docs/learning.md)"
            )
        ratio = self.recipe_lr / self.suggested
        where = "far above" if ratio > FAR else "far below" if ratio < 1 / FAR else "near"
        return (
            f"The loss turns at a learning rate of {self.turn:.2g}. Suggested: {self.suggested:.2g}"
            + (f" (optim.lr={self.suggested / self.lr_scale:.2g})" if self.lr_scale != 1 else "")
            + f". The recipe's, {self.recipe_lr:.2g}, is {where} it"
        )

    def as_json(self) -> dict[str, Any]:
        """Content of the JSON file."""
        return {
            "format_version": 1, "suggested": self.suggested, "turn": self.turn, "recipe_lr": self.recipe_lr,
            "suggested_optim_lr": None if self.suggested is None else self.suggested / self.lr_scale,
            "verdict": self.verdict, "rates": list(self.rates), "losses": list(self.losses),
            "smoothed": list(self.smoothed),
        }  # fmt: skip
