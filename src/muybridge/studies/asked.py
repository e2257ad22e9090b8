"""Options of a search, read and checked before anything that trains is imported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muybridge.analysis.searching import MOST_TRIALS, Ladder, most_trials
from muybridge.errors import UserError
from muybridge.recipe import Recipe
from muybridge.recipe.schedule import Budget
from muybridge.storage.searches import Asked
from muybridge.studies.space import Space
from muybridge.text import listed

TRIALS = 16
"""Trials of a search without a budget."""
WAYS = ("tpe", "random", "grid")


@dataclass(frozen=True)
class Search:
    """A search, the same for every setting."""

    space: Space
    by: str
    """One of WAYS, or halton."""
    trials: int | None = None
    epochs: float | None = None
    """Most epochs of all trials of a setting."""
    hours: float | None = None
    """Most hours of training of all trials of a setting, by the pace of those before."""
    halving: int = 0
    """Factor between two rungs; 0: every trial is trained whole."""

    @staticmethod
    def of(
        search: Sequence[str] = (),
        *,
        by: str = "tpe",
        trials: int | None = None,
        epochs: float | None = None,
        hours: float | None = None,
        halving: int = 0,
        tune: int = 0,
    ) -> "Search | None":
        """A search by the options of `compare`; None where none is asked for. Raises UserError."""
        budgets = {"--trials": trials, "--search-epochs": epochs, "--search-hours": hours}
        given = [name for name, value in budgets.items() if value is not None]
        if not search and not tune:
            stray = given or (["--halving"] if halving else ["--search-by"] if by != "tpe" else [])
            if stray:
                raise UserError(f"{stray[0]}: nothing is searched. Say what: --search optim.lr=1e-4..1e-1:log")
            return None
        if halving and halving < 2:
            raise UserError(f"--halving: {halving} keeps every trial. Give at least 2")
        if max(tune, trials or 0) > MOST_TRIALS:
            raise UserError(f"--{'tune' if tune else 'trials'}: more than {MOST_TRIALS:,} are too many. Give fewer")
        if tune:
            if search or given or by != "tpe":
                raise UserError("--tune: it is a search of its own. Give it alone, or write it as --search")
            return Search(Space(("--tune",), ()), "halton", trials=tune, halving=halving)
        if by not in WAYS:
            raise UserError(f"--search-by: '{by}' is unknown. Choose {listed(WAYS)}")
        if len(given) > 1:
            raise UserError(f"{given[1]}: {given[0]} is given, too. Give one budget")
        for name in given:
            if not math.isfinite(budgets[name] or 0):
                raise UserError(
                    f"{name}: {budgets[name]} is not a number to count to. Give one, or leave the option out"
                )
            if budgets[name] <= 0:  # type: ignore[operator]
                raise UserError(f"{name}: it is not above 0. Give a larger budget")
        space = Space.parse(search)
        if by != "grid":
            return Search(space, by, trials if given else TRIALS, epochs, hours, halving)
        if given:
            raise UserError(
                f"{given[0]}: a grid has as many trials as points. Leave it out, or search by random or tpe"
            )
        return Search(space, by, len(space.points()), halving=halving)

    def asked(self) -> Asked:
        """Options that are kept, and must not change until a search is finished."""
        unit, value = next(
            (unit, value)
            for unit, value in (("epochs", self.epochs), ("hours", self.hours), ("trials", self.trials))
            if value is not None
        )
        asked: Asked = {
            "space": list(self.space.texts), "by": self.by, "budget": f"{value:g} {unit}", "halving": self.halving
        }  # fmt: skip
        if self.space.code:
            asked["code_sha256"] = self.space.code_sha256()
        return asked

    def points(self, recipe: Recipe) -> list[dict[str, Any]] | None:
        """All trials of a recipe, where they are known beforehand."""
        if self.by == "halton":
            return [_times(recipe, lr, decay) for lr, decay in factors(self.trials or 0)]
        return self.space.points() if self.by == "grid" else None

    def count(self, length: Budget) -> int | None:
        """Number of trials of trainings of this length; None: until hours are over."""
        if self.epochs is not None:
            return most_trials(self.epochs, length, self.halving)
        return None if self.hours is not None else self.trials

    def ladder(self, length: Budget) -> Ladder:
        """Rungs of trainings of this length."""
        count = self.count(length)
        return Ladder.of(self.halving**2 if count is None else count, length, self.halving)


def factors(trials: int) -> list[tuple[float, float]]:
    """Factors of the learning rate and the weight decay of each trial: 1 at first, then .1 to 10, spread evenly.

    They are a Halton sequence, log-uniform: more trials continue where fewer ended. No two trials share a learning rate,
    as a weight decay of 0 stays 0.
    """
    from scipy.stats import qmc

    drawn_N2 = qmc.Halton(d=2, scramble=False).random(trials)[1:]  # the first is the corner, (0, 0)
    # the learning rate takes the thirds: of the halves, the first is the middle, which changes nothing
    return [(1.0, 1.0), *((float(10 ** (2 * lr - 1)), float(10 ** (2 * decay - 1))) for decay, lr in drawn_N2)]


def _times(recipe: Recipe, lr: float, weight_decay: float) -> dict[str, Any]:
    """The learning rate and weight decay of a recipe, times factors; the warm-up starts in proportion."""
    o = recipe.optim
    warmup = {} if o.warmup_lr is None else {"optim.warmup_lr": o.warmup_lr * lr}
    return {"optim.lr": o.lr * lr, "optim.weight_decay": o.weight_decay * weight_decay, **warmup}
