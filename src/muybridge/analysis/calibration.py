"""Temperature of a network's probabilities, and the probability below which it had better answer "unknown".

**Temperature.** Probabilities p of a video become p^(1/T), normalised. T is that of the highest likelihood (Guo et al.
2017, section 4.2). The mean loss is convex in 1/T, so there is one. Its interval is the middle 95 % of the temperatures of
resampled sources of videos (percentile bootstrap).

**Threshold by precision.** The precision of the answers above a probability has a lower bound: the lower end of its 95 %
interval by Clopper & Pearson (1934). The threshold is the lowest probability whose bound reaches what is wanted. An end
alone is passed by chance in 2.5 % of cases; with the search over probabilities, precision is below the wanted one in at
most 5 % where surer answers are more often right (tests/analysis/test_calibration.py). Videos that share a source are not
independent: they count as many as would vary as much, with fewer degrees of freedom (Korn & Graubard 1998), and a bound is
never above that of as many right answers as there are sources.

**Threshold by costs.** The probability that makes the mean cost on val lowest (Chow 1970).
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import betaincinv, stdtrit

from muybridge.analysis.statistics import calibration, unit_numbers
from muybridge.errors import UserError
from muybridge.storage.calibration import Calibrated, tempered
from muybridge.storage.scores import Scores
from muybridge.storage.shapes import COLDEST, HOTTEST
from muybridge.text import plural

TAIL = 0.025
"""Share beyond an end of a 95 % interval."""
FEWEST = 20
"""Fewest videos or sources for an interval: its coverage has been measured from there on (docs/calibration.md)."""
RESAMPLED = 1000
"""Resampled sets of sources behind an interval."""
MOST_TRIED = 1000
"""Most probabilities that are tried as a threshold."""
MOST_TIMES = 100
"""Largest val set, in times of the one there is, that a refusal names."""
GRID = 121
"""Temperatures at which the losses of resampled sets are computed, evenly spaced in log T; between them a parabola."""


@dataclass(frozen=True)
class Temperature:
    """A temperature and its 95 % interval."""

    value: float
    low: float | None
    """None where none can be fitted, as all answers are right: then the value is 1. And where there are below FEWEST videos
    or sources.
    """
    high: float | None

    @property
    def may_be_one(self) -> bool:
        """Whether 1, which changes nothing, lies in the interval."""
        return self.low is None or self.high is None or self.low <= 1 <= self.high


def fit_temperature(probabilities_NK: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray) -> Temperature:
    """Temperature of the highest likelihood. `groups_N`: the source that a video shares; the empty string: none."""
    if (probabilities_NK.argmax(1) == labels_N).all():
        return Temperature(1.0, None, None)

    def loss(log_temperature: float) -> float:
        return float(_losses(probabilities_NK, labels_N, math.exp(log_temperature)).mean())

    ends = (math.log(COLDEST), math.log(HOTTEST))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7})
    unit_N = unit_numbers(groups_N)
    num_units = int(unit_N.max()) + 1
    if num_units < FEWEST:
        return Temperature(math.exp(found.x), None, None)
    grid_G = np.linspace(*ends, GRID)
    losses_NG = np.stack([_losses(probabilities_NK, labels_N, math.exp(log)) for log in grid_G], axis=1)
    losses_UG = np.stack(
        [np.bincount(unit_N, weights=losses_N, minlength=num_units) for losses_N in losses_NG.T], axis=1
    )
    rng = np.random.default_rng(0)
    times_BU = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=RESAMPLED)
    logs_B = _lowest(times_BU @ losses_UG, grid_G)
    low, high = np.clip(np.exp(np.quantile(logs_B, [TAIL, 1 - TAIL])), COLDEST, HOTTEST)
    return Temperature(math.exp(found.x), float(low), float(high))


def is_at_edge(temperature: float) -> bool:
    """Whether it is an end of what is tried, within a hundredth: the losses of the videos have no lowest point inside."""
    return not 1.01 * COLDEST < temperature < HOTTEST / 1.01


def mean_loss(probabilities_NK: np.ndarray, labels_N: np.ndarray) -> float:
    """Mean over videos of the negative log probability of the label."""
    return float(_losses(probabilities_NK, labels_N, 1.0).mean())


def _losses(probabilities_NK: np.ndarray, labels_N: np.ndarray, temperature: float) -> np.ndarray:
    """(N,) negative log probabilities of the labels."""
    of_label_N = tempered(probabilities_NK, temperature)[np.arange(len(labels_N)), labels_N]
    losses_N: np.ndarray = -np.log(np.maximum(of_label_N, np.finfo(np.float64).tiny))
    return losses_N


def _lowest(losses_BG: np.ndarray, grid_G: np.ndarray) -> np.ndarray:
    """(B,) place of the lowest loss of each row, by a parabola through the lowest three points."""
    at_B = losses_BG.argmin(1)
    inside_B = np.clip(at_B, 1, len(grid_G) - 2)
    rows = np.arange(len(losses_BG))
    left, middle, right = (losses_BG[rows, inside_B + shift] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift_B = np.where(bend > 0, (left - right) / (2 * np.where(bend > 0, bend, 1.0)), 0.0)
    is_inside_B = at_B == inside_B
    step = grid_G[1] - grid_G[0]
    places_B: np.ndarray = grid_G[at_B] + np.where(is_inside_B, step * np.clip(shift_B, -1, 1), 0.0)
    return places_B


@dataclass(frozen=True)
class Rule:
    """Aim of a threshold: a precision, or the lowest cost."""

    precision: float | None = None
    cost_wrong: float | None = None
    cost_unknown: float | None = None

    @staticmethod
    def parsed(text: str) -> "Rule":
        """Rule as it is typed: "precision=0.95", or "cost_wrong=5,cost_unknown=1". Raises UserError."""
        pairs = [part.partition("=")[::2] for part in text.replace(" ", "").split(",")]
        parts = dict(pairs)
        if len(parts) < len(pairs):
            raise UserError(f"--threshold: '{text}' has a part twice. Give each once")
        try:
            given = {name: float(value) for name, value in parts.items()}
        except ValueError:
            given = {}
        if given.keys() == {"precision"}:
            if not 0 < given["precision"] < 1:
                raise UserError(
                    f"--threshold: a precision of {given['precision']:g} cannot be promised. Give one between 0 and 1"
                )
            return Rule(precision=given["precision"])
        if given.keys() == {"cost_wrong", "cost_unknown"}:
            if not all(0 <= cost < math.inf for cost in given.values()):
                raise UserError(
                    f"--threshold: '{text}' has a cost below 0, or without end. Give finite numbers from 0 on"
                )
            return Rule(cost_wrong=given["cost_wrong"], cost_unknown=given["cost_unknown"])
        raise UserError(
            f"--threshold: '{text}' is unknown. Choose precision=0.95, cost_wrong=5,cost_unknown=1, or none, which removes it"
        )

    def __str__(self) -> str:
        return ",".join(f"{name}={value!r}" for name, value in asdict(self).items() if value is not None)


@dataclass(frozen=True)
class Threshold:
    """A probability below which the answer is "unknown", and what it gives on the videos it was chosen on."""

    rule: str
    value: float
    answered: float
    """Share of the videos that get an answer."""
    precision: float
    """Share of those answers that are right."""
    precision_low: float
    """Lower end of its 95 % interval."""
    method: str
    cost: float | None
    """Mean cost of a video; None of a rule without costs."""
    cost_of_all: float | None
    """Mean cost if every video got an answer."""

    def as_json(self) -> dict[str, Any]:
        """Entry in calibration.json."""
        return asdict(self)


def choose_threshold(rule: Rule, confidence_N: np.ndarray, correct_N: np.ndarray, groups_N: np.ndarray) -> Threshold:
    """Threshold by a rule. Raises UserError where the videos cannot give the precision, with how many could."""
    order_N = np.argsort(-confidence_N, kind="stable")
    sorted_N, right_N, unit_N = confidence_N[order_N], correct_N[order_N], unit_numbers(groups_N)[order_N]
    ends = np.append(np.flatnonzero(np.diff(sorted_N)), len(sorted_N) - 1)  # equal probabilities go together
    counts = ends[np.unique(np.linspace(0, len(ends) - 1, MOST_TRIED).round().astype(int))] + 1
    rights = np.cumsum(right_N)[counts - 1]
    cost = cost_of_all = None
    if rule.precision is not None:
        evidence = [Evidence.of(right_N[:n], unit_N[:n]) for n in counts]
        reached = [n for n, of_n in zip(counts, evidence, strict=True) if of_n.low() >= rule.precision]
        if not reached:
            why = _refusal(rule.precision, evidence, int(unit_N.max()) + 1)
            raise UserError(
                f"--threshold: {why}. Ask for less, calibrate with more val videos, or train a better model"
            )
        n = int(reached[-1])
        value = sorted_N[n - 1]
    else:
        wrong, unknown = float(rule.cost_wrong or 0), float(rule.cost_unknown or 0)
        costs = ((counts - rights) * wrong + (len(sorted_N) - counts) * unknown) / len(sorted_N)
        cost, cost_of_all = float(costs.min()), float(costs[-1])
        if cost > unknown:
            raise UserError(
                f"--threshold: with these costs every answer costs more than none on val ({cost:.3g}, not {unknown:.3g}, a "
                "video). Give other costs, or train a better model"
            )
        n = int(counts[np.flatnonzero(costs == cost)[-1]])
        value = sorted_N[n - 1] if n < len(sorted_N) else 0.0  # 0: everything is answered
    of_answers = Evidence.of(right_N[:n], unit_N[:n])
    return Threshold(
        rule=str(rule), value=float(value), answered=n / len(sorted_N), precision=of_answers.share,
        precision_low=of_answers.low(), method=method_of(groups_N), cost=cost, cost_of_all=cost_of_all,
    )  # fmt: skip


def method_of(groups_N: np.ndarray) -> str:
    """Name of the interval by which a precision is bounded."""
    return "Clopper-Pearson by sources of videos" if (groups_N != "").any() else "Clopper-Pearson"


@dataclass(frozen=True)
class Evidence:
    """Answers as evidence of the share that is right."""

    share: float
    """Share of right answers."""
    videos: int
    as_many: float
    """Number of independent videos that would vary as much."""
    sources: float
    """Number of equal sources that would weigh as theirs; without shared sources the number of videos."""

    @staticmethod
    def of(correct_N: np.ndarray, unit_N: np.ndarray) -> "Evidence":
        """Evidence of answers. `unit_N`: number of each video's source."""
        count, share = len(correct_N), float(correct_N.mean())
        sizes_U = np.bincount(unit_N)
        num_units = int((sizes_U > 0).sum())
        if num_units == count:
            return Evidence(share, count, count, count)
        sources = count**2 / float((sizes_U**2).sum())
        moves_U = np.bincount(unit_N, weights=correct_N - share)
        variance = num_units / max(1, num_units - 1) * float((moves_U**2).sum()) / count**2
        if num_units == 1 or not variance:
            return Evidence(share, count, sources, sources)
        fewer = (stdtrit(count - 1, 1 - TAIL) / stdtrit(num_units - 1, 1 - TAIL)) ** 2
        return Evidence(share, count, min(count, share * (1 - share) / variance * fewer), sources)

    def low(self, times: int = 1) -> float:
        """Lower end of the 95 % interval of the share. `times`: if there were as many times more, answered alike."""
        as_many, sources = times * self.as_many, times * self.sources
        if not self.share:
            return 0.0
        end = float(betaincinv(self.share * as_many, (1 - self.share) * as_many + 1, TAIL))
        return min(end, TAIL ** (1 / sources))


def _refusal(wanted: float, evidence: Sequence[Evidence], num_units: int) -> str:
    """Reason why val cannot promise a precision, and how many videos could."""
    start = f"val cannot promise a precision of {wanted:g}"
    videos = evidence[-1].videos
    there = plural(num_units, "video") if num_units == videos else f"{plural(num_units, 'source')} of videos"
    least = math.ceil(math.log(TAIL) / math.log(wanted))
    if num_units < least:
        return f"{start}: it has {there}, and it takes {least} at least, with every answer right"
    best = max(evidence, key=Evidence.low)
    told = (
        f"{start}: the most is {best.low():.3f}, for the {plural(best.videos, 'surest video')} of {videos}, of which "
        f"{round(best.share * best.videos)} are right"
    )
    times = 2 + bisect_left(
        range(2, MOST_TIMES + 1), True, key=lambda times: any(one.low(times) >= wanted for one in evidence)
    )
    return told if times > MOST_TIMES else f"{told}; answered alike, about {times * videos} val videos could"


def applied(calibrated: Calibrated, scores: Scores) -> dict[str, Any]:
    """Losses, calibration errors and answers at a temperature and a threshold, of the videos with a label."""
    videos = scores.labelled()
    labels_N, correct_N = scores.labels_N[videos], scores.correct()[videos]
    before_NK = scores.video_probabilities()[videos]
    after_NK = calibrated.probabilities(before_NK)
    answered_N = after_NK.max(1) >= calibrated.threshold
    return {
        "temperature": calibrated.temperature, "threshold": calibrated.threshold or None,
        "loss": mean_loss(after_NK, labels_N), "loss_before": mean_loss(before_NK, labels_N),
        "calibration_error": calibration(after_NK.max(1), correct_N).error,
        "calibration_error_before": calibration(before_NK.max(1), correct_N).error,
        "answered": float(answered_N.mean()),
        "precision": float(correct_N[answered_N].mean()) if answered_N.any() else None,
    }  # fmt: skip


def parsed_threshold(threshold: str | Mapping[str, float]) -> Rule | None:
    """Rule of a threshold as it is given: text, or a mapping; None for "none". Raises UserError."""
    if not isinstance(threshold, str):
        threshold = ",".join(f"{name}={value}" for name, value in threshold.items())
    return None if threshold.strip() == "none" else Rule.parsed(threshold)
