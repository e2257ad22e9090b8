"""Arithmetic of searches: rungs of successive halving, what was spent, and what the winner loses on fresh seeds.

**Successive halving** (Jamieson & Talwalkar 2016): of n trials each is trained for a share of its length, the best n / eta of
them for eta times as long, and so on; the last rung is the whole training. Every trial follows the schedule of its whole
length, so that a survivor continues as if it had never paused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.recipe import Recipe, flat
from muybridge.recipe.schedule import Budget
from muybridge.storage import searches
from muybridge.storage.run import Run

MOST_TRIALS = 10_000
"""Most trials of a search."""
MIN_RUNG_STEPS = 20
"""Least steps of the first rung, where a whole training has too few epochs to be cut between them."""


@dataclass(frozen=True)
class Ladder:
    """Rungs of a search: all trainings are `eta` times as long on each as on the one below."""

    eta: int
    levels: int
    """Rungs below the whole training; 0: every trial is trained whole."""

    @staticmethod
    def of(trials: int, length: Budget, eta: int) -> "Ladder":
        """The highest ladder for a number of trials of this length; `eta` 0: none.

        The first rung is an epoch at least, or, where there are fewer than `eta` epochs, MIN_RUNG_STEPS.
        """
        if not eta or length.steps is None:
            return Ladder(max(eta, 2), 0)
        least = length.steps_per_epoch if length.steps >= eta * length.steps_per_epoch else MIN_RUNG_STEPS
        return Ladder(eta, max(0, min(_whole_log(trials, eta), _whole_log(length.steps / least, eta))))

    def step(self, rung: int, length: Budget) -> int | None:
        """Step at which trials are compared on a rung, at an epoch's end where it has one; None: at their end."""
        if rung == self.levels or length.steps is None:
            return None
        steps, epoch = length.steps / self.eta ** (self.levels - rung), length.steps_per_epoch
        return round(steps / epoch) * epoch if steps >= epoch else max(1, round(steps))

    def kept(self, rung: int, trials: int) -> int:
        """Number of trials on a rung."""
        return max(1, trials // self.eta**rung)

    def steps(self, trials: int, length: Budget) -> int:
        """Steps of all trials of this length together."""
        if length.steps is None:
            raise ValueError("a length in hours has no number of steps")
        total, below = 0, 0
        for rung in range(self.levels + 1):
            here = self.step(rung, length) or length.steps
            total += self.kept(rung, trials) * (here - below)
            below = here
        return total


def _whole_log(value: float, base: int) -> int:
    return math.floor(math.log(value, base) + 1e-9) if value >= 1 else -1


def most_trials(epochs: float, length: Budget, eta: int) -> int:
    """Largest number of trials whose search takes at most this number of epochs; 0 where one takes more.

    More than MOST_TRIALS are not told from one more than them.
    """
    assert length.steps is not None
    limit, most, trials = epochs * length.steps_per_epoch, 0, 1
    shortest = MIN_RUNG_STEPS if eta and length.steps < eta * length.steps_per_epoch else length.steps_per_epoch
    while trials <= MOST_TRIALS + 1 and trials * min(shortest if eta else length.steps, length.steps) <= limit:
        if Ladder.of(trials, length, eta).steps(trials, length) <= limit:
            most = trials
        trials += 1
    return most


def ranked(trials: Sequence[Mapping[str, Any]], rung: int) -> list[int]:
    """Trials that were compared on a rung, best first: by video accuracy on val, then the loss there, then the earlier one."""
    there = [number for number, trial in enumerate(trials) if len(trial["rungs"]) > rung]
    return sorted(
        there,
        key=lambda number: (-trials[number]["rungs"][rung]["val_video_top1"], trials[number]["rungs"][rung]["val_loss"], number),
    )  # fmt: skip


def best_trial(trials: Sequence[Mapping[str, Any]]) -> int | None:
    """The best of those that came furthest; None where every trial failed."""
    levels = max((len(trial["rungs"]) for trial in trials if "failed" not in trial), default=0)
    whole = [number for number in ranked(trials, levels - 1) if "failed" not in trials[number]] if levels else []
    return whole[0] if whole else None


@dataclass(frozen=True)
class Spent:
    """Cost of the trials of a setting."""

    trials: int
    epochs: float | None
    """None where it is not known."""
    hours: float
    share: float | None
    """Share of what as many whole trainings would have taken; None where hours end them."""

    @staticmethod
    def of(search: Mapping[str, Any]) -> "Spent":
        """Cost by a setting's record in search.json."""
        trials = search["trials"]
        per_epoch = [trial.get("steps_per_epoch", search["steps_per_epoch"]) for trial in trials]
        steps, full = sum(trial["steps"] for trial in trials), [trial["full_steps"] for trial in trials]
        epochs = (
            sum(trial["steps"] / of_one for trial, of_one in zip(trials, per_epoch, strict=True))
            if all(per_epoch)
            else None
        )
        return Spent(
            len(trials), epochs, sum(trial["seconds"] for trial in trials) / 3600,
            steps / sum(full) if full and None not in full else None,
        )  # fmt: skip

    def __str__(self) -> str:
        epochs = "" if self.epochs is None else f"{self.epochs:,.4g} epochs, "
        share = "" if self.share is None else f", {self.share:.0%} of {self.trials} whole trainings"
        return f"{epochs}{self.hours:.2g} hours of training{share}"


def follows(recipe: Recipe, changes: Mapping[str, Any]) -> bool:
    """Whether a recipe has the values of a trial, as JSON has kept them."""
    own = flat(recipe)
    return all(own.get(name) == (tuple(value) if isinstance(value, list) else value) for name, value in changes.items())


@dataclass(frozen=True)
class Searched:
    """The search of a setting, and the runs that believed it."""

    name: str
    """Name of the setting: that of its runs without the seed."""
    record: Mapping[str, Any]
    """Its entry in search.json."""
    study: Path
    fresh: tuple[float, ...]
    """Video accuracy on val of the runs with the winner's values, each of another seed."""

    @property
    def trials(self) -> Sequence[Mapping[str, Any]]:
        """All trials."""
        trials: Sequence[Mapping[str, Any]] = self.record["trials"]
        return trials

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The winner."""
        return self.trials[self.record["chosen"]]

    @property
    def accuracy(self) -> float:
        """Video accuracy on val of the winner, in the search."""
        accuracy: float = self.chosen["rungs"][-1]["val_video_top1"]
        return accuracy

    @property
    def gap(self) -> float | None:
        """Accuracy of the winner in the search less that of fresh seeds; None where no such run is finished."""
        return self.accuracy - sum(self.fresh) / len(self.fresh) if self.fresh else None

    @property
    def spent(self) -> Spent:
        """Cost of all trials."""
        return Spent.of(self.record)

    def curve(self, number: int) -> list[tuple[int, float]]:
        """Epochs and video accuracy on val of a trial; empty where its folder is gone."""
        run = searches.run_of(self.study, self.trials[number])
        return [(line["epoch"], line["video_top1"]) for line in run.metrics("val")] if run.path.is_dir() else []

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        spent = self.spent
        return {
            "setting": self.name, "asked": self.record["asked"], "trials": spent.trials, "epochs": spent.epochs,
            "hours": spent.hours, "share": spent.share, "changes": self.chosen["changes"], "val_in_search": self.accuracy,
            "val_of_fresh_seeds": list(self.fresh), "gap": self.gap, "importance": self.record.get("importance", {}),
        }  # fmt: skip


def searched_settings(study: Path, runs: Sequence[Run]) -> tuple[Searched, ...]:
    """Searches of a study whose winner finished runs have believed, in the order of the runs."""
    records = searches.load(study)
    fresh: dict[str, list[float]] = {}
    for run in runs:
        recipe = run.recipe()
        name = run.name.replace(f"-seed{recipe.seed}", "")
        record = records.get(name)
        if record is None or record["chosen"] is None or "val" not in run.result():
            continue
        if follows(recipe, record["trials"][record["chosen"]]["changes"]):
            fresh.setdefault(name, []).append(run.result()["val"]["video_top1"])
    return tuple(Searched(name, records[name], study, tuple(values)) for name, values in fresh.items())
