"""Label budgets: accuracy against the number of training videos, with a fitted curve beyond the largest.

The error of many networks falls as a power of the number of training videos (Hestness et al. 2017, "Deep learning scaling is
predictable, empirically"): error = b n^-c, a straight line over logarithms. It is fitted by least squares, and read at twice
the videos. How sure that is comes from 2,000 draws of a Bayesian bootstrap (Rubin 1981): weights of the test's groups (or
videos) and of the seeds, one draw for all shares, as all answer the same videos. A curve levels off in the end, as a power law
does not: what the law gets wrong is not in the interval.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from muybridge.analysis.answers import weighing
from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import RunsResult
from muybridge.analysis.rows import OTHER_RUN, value_of
from muybridge.analysis.statistics import Interval, unit_numbers
from muybridge.recipe import Recipe, fingerprint, replace

DRAWS = 2000
LEAST_ERROR = 0.5
"""Videos that are wrong at least, in a fit: a logarithm needs some."""
FIELD = "data.train_share"


@dataclass(frozen=True)
class Curve:
    """One model trained on several shares of the training videos, the smallest first."""

    name: str
    models: tuple[RunsResult, ...]
    """A row a share; all answered the same test videos."""
    videos: tuple[float, ...]
    """Training videos of each, mean over runs."""
    accuracies: tuple[Interval, ...]
    by_class: bool

    @property
    def twice(self) -> float:
        """Twice the training videos of the largest share."""
        return 2 * self.videos[-1]

    @cached_property
    def fit(self) -> tuple[float, float]:
        """B and c of error = b n^-c."""
        scale, slope = _fitted(
            np.array(self.videos), self._errors(np.array([one.value for one in self.accuracies]))[:, None]
        )
        return float(np.exp(scale[0])), float(-slope[0])

    def accuracy_at(self, videos: float) -> float:
        """Accuracy by the fitted curve."""
        scale, power = self.fit
        return float(1 - min(1.0, scale * videos**-power))

    @property
    def misfit(self) -> float:
        """Largest distance of a measured accuracy from the curve; 0 of two shares, through which every curve goes."""
        return max(
            abs(one.value - self.accuracy_at(videos)) for one, videos in zip(self.accuracies, self.videos, strict=True)
        )

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """(D,) accuracies of the curve at twice the videos, and at the largest share, by draw."""
        accuracy_DP = _draws(self.models, by_class=self.by_class)
        scale_D, slope_D = _fitted(np.array(self.videos), self._errors(accuracy_DP).T)
        at = [np.maximum(0.0, 1 - np.exp(scale_D + slope_D * np.log(n))) for n in (self.twice, self.videos[-1])]
        return at[0], at[1]

    @cached_property
    def at_twice(self) -> Interval:
        """Accuracy at twice the training videos, by the curve."""
        return _interval(self.accuracy_at(self.twice), self._drawn[0])

    @cached_property
    def gain(self) -> Interval:
        """Rise of the curve from the largest share to twice its videos."""
        value = self.accuracy_at(self.twice) - self.accuracy_at(self.videos[-1])
        return _interval(value, self._drawn[0] - self._drawn[1])

    @property
    def num_seeds(self) -> int:
        """Seeds of the share that has fewest."""
        return min(model.num_seeds for model in self.models)

    def __str__(self) -> str:
        where = f"{self.name}: twice the training videos ({self.twice:.0f})"
        points = f"{100 * self.gain.value:+.1f} points [{100 * self.gain.low:+.1f}, {100 * self.gain.high:+.1f}]"
        if self.gain.low <= 0 <= self.gain.high:
            return (
                f"Whether more labels would help {self.name} cannot be told from these shares: the curve says {points}."
            )
        if self.gain.high < 0:
            return (
                f"{self.name} does not get better with more videos here: the curve falls, by {points} at twice as many."
            )
        return f"{where} would give {self.at_twice} by the fitted curve, {points} more."

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        return {
            "model": self.name,
            "points": [
                {
                    "row": model.name, "share": model.recipe.data.train_share, "train_videos": videos, "value": one.value,
                    "low": one.low, "high": one.high,
                }
                for model, videos, one in zip(self.models, self.videos, self.accuracies, strict=True)
            ],
            "error": {"b": self.fit[0], "c": self.fit[1], "largest_misfit": self.misfit},
            "twice_videos": self.twice,
            "at_twice": {"value": self.at_twice.value, "low": self.at_twice.low, "high": self.at_twice.high},
            "gain": {"value": self.gain.value, "low": self.gain.low, "high": self.gain.high},
        }  # fmt: skip

    def _errors(self, accuracies: np.ndarray) -> np.ndarray:
        errors: np.ndarray = np.maximum(1 - accuracies, LEAST_ERROR / self.models[0].num_videos)
        return errors


def curves(comparison: Comparison) -> list[Curve]:
    """Curves of a comparison: of each setting that was trained on several shares and tested on the same videos."""
    settings: dict[str, list[RunsResult]] = {}
    for model in comparison.of_runs:
        settings.setdefault(_but_for_share(model.recipe), []).append(model)
    found = []
    for models in settings.values():
        models.sort(key=lambda model: model.recipe.data.train_share)
        if len({model.recipe.data.train_share for model in models}) < max(2, len(models)) or not _same_test(models):
            continue
        videos = [float(np.mean([run.dataset()["split_sizes"]["train"] for run in model.runs])) for model in models]
        if len(set(videos)) == len(models):
            intervals = tuple(comparison.measure(model) for model in models)
            found.append(Curve(_name(models[-1]), tuple(models), tuple(videos), intervals, comparison.by_class))
    return found


def _but_for_share(recipe: Recipe) -> str:
    starts = {"model.pretrained_sha256": None} if recipe.model.pretrained == OTHER_RUN else {}
    fresh = Recipe()
    same = {name: value_of(fresh, name) for name in (FIELD, "seed", "data.fold")}
    return fingerprint(replace(recipe, same | starts))


def _same_test(models: Sequence[RunsResult]) -> bool:
    first = models[0].answers[0]
    return all(
        np.array_equal(model.answers[0].ids_N, first.ids_N)
        and np.array_equal(model.answers[0].split_N, first.split_N)
        and np.array_equal(model.labels_N, first.labels_N)
        for model in models
    )


def _name(model: RunsResult) -> str:
    """Name of a row without its share."""
    inside = re.sub(r"(, )?train_share=[^,)]*", "", model.name)
    return re.sub(r" \((, )?\)$", "", inside.replace("(, ", "("))


def _fitted(videos_P: np.ndarray, errors_PD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercepts and slopes (D,) of least squares over logarithms."""
    x_P = np.log(videos_P)
    y_PD, centred_P = np.log(errors_PD), x_P - x_P.mean()
    slope_D = centred_P @ y_PD / (centred_P**2).sum()
    return y_PD.mean(0) - slope_D * x_P.mean(), slope_D


def _draws(models: Sequence[RunsResult], *, by_class: bool) -> np.ndarray:
    """(D,P) accuracies of the shares by draw: units and seeds get random weights, the same for all shares."""
    first, draw = models[0], np.random.default_rng(0)
    weights_N, strata_N = weighing(first.split_N, first.labels_N, by_class=by_class)
    unit_N = unit_numbers(first.units_N)
    part_N = np.zeros(len(unit_N), dtype=np.int64) if strata_N is None else np.unique(strata_N, return_inverse=True)[1]
    weights_N = np.full(len(unit_N), 1 / len(unit_N)) if weights_N is None else weights_N
    most_seeds = max(model.num_seeds for model in models)
    accuracies = np.empty((DRAWS, len(models)))
    whole_L = np.bincount(part_N, weights=weights_N)
    for number in range(DRAWS):
        drawn_N = weights_N * draw.standard_exponential(int(unit_N.max()) + 1)[unit_N]
        drawn_N *= (whole_L / np.bincount(part_N, weights=drawn_N))[part_N]
        seeds_S = draw.standard_exponential(most_seeds)
        for place, model in enumerate(models):
            of_seed_S, count = model.correct_SN @ drawn_N, model.num_seeds
            mean = of_seed_S.mean()
            wider = ((count + 1) / (count - 1)) ** 0.5 if count > 1 else 0.0  # S seeds drawn vary too little
            drawn = seeds_S[:count] @ of_seed_S / seeds_S[:count].sum()
            accuracies[number, place] = mean + wider * (drawn - mean)
    return np.clip(accuracies, 0.0, 1.0)


def _interval(value: float, drawn_D: np.ndarray) -> Interval:
    low, high = np.percentile(drawn_D, [2.5, 97.5])
    return Interval(value, float(min(low, value)), float(max(high, value)), f"bootstrap of {DRAWS} draws")
