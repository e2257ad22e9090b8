"""Intervals of accuracies, tests of differences, multiple comparisons, and calibration.

**One accuracy.** One run on videos that share nothing: Wilson's interval. Otherwise an accuracy p varies more than that:
over the groups of videos that share a source (G - 1 degrees of freedom) or over videos, and over seeds. Both variances
are estimated from the same table of seeds × units; what is left once both means are taken out is in either, and is counted
once. Quantiles of sums of variances with few degrees of freedom are Howe's (1974): q² V = Σ V_i t_i². Wilson's
interval is then taken with that quantile and the number of videos that would vary as much, p (1 - p) / V, at most as many
as there are. Near 1 it keeps to the range and covers better than p ± q √V. Where every video is right (or none), nothing is
known of how errors come together: then each group counts as one video.

**Means of means**: the mean over classes of their accuracies, or over official splits of one set, is a weighted mean of
answers. Each answer is held against the mean of its class (or split), so that what classes differ by does not count; a
source that lies in several counts once, with all it adds. Degrees of freedom are Satterthwaite's (1946) over the classes. A
class whose few videos are all right or all wrong varies as if half a video were not.

**Two accuracies** are compared on the same videos: what varies over videos (or groups) is their difference, so that a
video that is hard for both costs nothing. Each model's seeds vary by themselves, but count for no less than the seeds of
the study's models vary on average: among many, some agree by chance. Below three seeds the seeds' variance is
not estimated at all, and what is said holds for those runs only.

**Many.** With m pairs, differences are called real by Holm's rule (1979): in 5 % of studies in which nothing differs is
anything called so. The interval of a pair is the one by which the rule decided, so the two never disagree.

`benchmarks/simulate.py` measures coverage, false alarms and power; tests/analysis/test_statistics.py holds them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import chdtri, ndtri, stdtr, stdtrit

from muybridge.analysis.shares import wilson

CONFIDENCE = 0.95
SEEDS_OF_A_CLAIM = 3
"""Least seeds of each model for a claim about models; below, a comparison is one of runs."""
USUAL_SEED_SD = 0.01
"""Standard deviation over seeds of one model where it was measured (0.6 to 1.1 points on 3,800 videos).

Used where nothing is known.
"""
POWER = 0.8
EXACT = 1e-12
"""Distance of sums of weights from 0 or 1 that is rounding."""
BINS = 15
"""Bins of a reliability curve (Guo et al. 2017)."""


Weighed = tuple[np.ndarray | None, np.ndarray | None]
"""Weights (N,) of answers, and strata (N,), the parts whose means are averaged; None, None: every answer alike."""


@dataclass(frozen=True)
class Interval:
    """Estimate and 95 % confidence interval."""

    value: float
    low: float
    high: float
    method: str

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class _Variance:
    """Variance of a mean over seeds and units (videos, or groups), in the parts by which it is estimated."""

    units: float
    units_dof: float
    seeds: float = 0.0
    """Part that seeds add."""
    seeds_dof: float = 1.0

    @property
    def total(self) -> float:
        return self.units + self.seeds

    def squared_half(self, tail: float | np.ndarray) -> float | np.ndarray:
        """Squared half width, q² V, of the interval that leaves `tail` outside at each end."""
        units = self.units * stdtrit(self.units_dof, 1 - tail) ** 2
        return units if not self.seeds else units + self.seeds * stdtrit(self.seeds_dof, 1 - tail) ** 2


@dataclass(frozen=True, repr=False)
class Sample:
    """Right answers of S seeds on N videos, by G independent units: groups that share a source, or videos."""

    value_S: np.ndarray
    """Accuracy of each seed."""
    moves_SG: np.ndarray
    """Distance by which each unit moves the accuracy of each seed, corrected for the few units that the mean is of."""
    dof: float
    """Degrees of freedom of estimates over the units: their number less one.

    Fewer if some weigh much more than others (the effective number, Carter, Schnepel & Steigerwald 2017)."""
    num_videos: int
    is_grouped: bool
    half_video: float
    """Variance by half a video more on either side."""
    unseen: float = 0.0
    """Variance of the classes in which too little varies, as if half a video of each were wrong, or right."""
    as_many: float = 0.0
    """Number of equal units that would vary as much."""

    @staticmethod
    def of(
        answers_SN: np.ndarray,
        groups_N: np.ndarray,
        weights_N: np.ndarray | None = None,
        strata_N: np.ndarray | None = None,
    ) -> "Sample":
        """Sample of (S,N) answers. `groups_N` holds the empty string for a video that shares its source with no other.

        `weights_N`: weight of each answer, of sum 1; None: all weigh the same. `strata_N`: parts whose means are averaged
        (classes, or official splits): a unit is held against the mean of its part, and the parts count as they are.
        """
        num_videos, is_grouped = answers_SN.shape[1], bool((groups_N != "").any())
        unit_N = unit_numbers(groups_N) if is_grouped else np.arange(num_videos)
        num_units = int(unit_N.max()) + 1
        weights_N = np.full(num_videos, 1 / num_videos) if weights_N is None else weights_N
        stratum_N = (
            np.zeros(num_videos, dtype=np.int64) if strata_N is None else np.unique(strata_N, return_inverse=True)[1]
        )
        cell_N = stratum_N * num_units + unit_N
        _, first_C, cell_N = np.unique(cell_N, return_index=True, return_inverse=True)
        weight_C, stratum_C, unit_C = np.bincount(cell_N, weights=weights_N), stratum_N[first_C], unit_N[first_C]
        sum_SC = np.stack([np.bincount(cell_N, weights=weights_N * answers_N) for answers_N in answers_SN])
        weight_L = np.bincount(stratum_C, weights=weight_C)
        units_L = weight_L**2 / np.bincount(stratum_C, weights=weight_C**2)
        dof_L = np.maximum(0.2, units_L - 1)
        mean_SL = np.stack([np.bincount(stratum_C, weights=sum_C) for sum_C in sum_SC]) / weight_L
        scale_L = ((dof_L + 1) / dof_L) ** 0.5
        move_SC = scale_L[stratum_C] * (sum_SC - weight_C * mean_SL[:, stratum_C])
        variance_L = weight_L**2 / units_L
        dof = float(variance_L.sum() ** 2 / (variance_L**2 / dof_L).sum())
        half_L = weight_L**2 / units_L**2 / 2
        seen_L = np.bincount(stratum_C, weights=move_SC.mean(0) ** 2)
        return Sample(
            value_S=sum_SC.sum(1),
            moves_SG=np.stack([np.bincount(unit_C, weights=move_C, minlength=num_units) for move_C in move_SC]),
            dof=dof if len(weight_L) == 1 else max(0.2, min(dof, _effective(np.bincount(unit_C, weights=weight_C)) - 1)),
            num_videos=num_videos, is_grouped=is_grouped,
            half_video=float((scale_L**2 * weight_L**2 / np.bincount(stratum_N) ** 2).sum()),
            unseen=float(np.maximum(0.0, half_L - seen_L).sum()) if len(weight_L) > 1 else 0.0,
            as_many=num_units if len(weight_L) == 1 else float(1 / variance_L.sum()),
        )  # fmt: skip

    @property
    def num_seeds(self) -> int:
        """Number of seeds."""
        return len(self.value_S)

    @property
    def num_units(self) -> int:
        """Number of independent units."""
        return self.moves_SG.shape[1]

    @cached_property
    def units_variance(self) -> float:
        """Variance of the mean, estimated from the units' distances to it."""
        return float((self.move_G**2).sum())

    @cached_property
    def move_G(self) -> np.ndarray:
        """(G,) means over seeds."""
        means: np.ndarray = self.moves_SG.mean(0)
        return means

    @cached_property
    def value(self) -> float:
        """Mean over units and seeds."""
        return float(self.value_S.mean())

    @cached_property
    def residual(self) -> float:
        """Part of the variances over units and over seeds that is neither's: interaction of seed and unit.

        0 for a single seed, or unit.
        """
        if min(self.num_seeds, self.num_units) < 2:
            return 0.0
        return float(((self.moves_SG - self.move_G) ** 2).sum()) / (self.num_seeds - 1) / self.num_seeds

    @cached_property
    def seeds_variance(self) -> float:
        """Variance that seeds add to the mean over units. 0 for a single seed."""
        if self.num_seeds < 2:
            return 0.0
        return max(0.0, float(self.value_S.var(ddof=1)) / self.num_seeds - self.residual)


def unit_numbers(groups_N: np.ndarray) -> np.ndarray:
    """(N,) number of each video's unit: its group, or itself."""
    _, group_N = np.unique(groups_N, return_inverse=True)
    alone_N = len(groups_N) + np.arange(len(groups_N))
    units_N: np.ndarray = np.unique(np.where(groups_N == "", alone_N, group_N), return_inverse=True)[1]
    return units_N


def _effective(weights_G: np.ndarray) -> float:
    """Number of equal weights that would vary as much."""
    return float(weights_G.sum() ** 2 / (weights_G**2).sum())


def accuracy_interval(
    correct_SN: np.ndarray,
    groups_N: np.ndarray,
    confidence: float = CONFIDENCE,
    *,
    weighed: Weighed = (None, None),
    of: str = "",
) -> Interval:
    """Accuracy over S seeds and N videos, with an interval over both.

    `groups_N` holds the empty string for a video that shares its source with no other. `weighed`: weights and strata of a mean
    of means (`Sample.of`); `of`: words for it.
    """
    sample, is_plain = Sample.of(correct_SN, groups_N, *weighed), weighed[0] is None
    value = float(correct_SN.mean()) if is_plain else min(1.0, max(0.0, sample.value))
    num_units, over = sample.num_units, "group" if sample.is_grouped else "video"
    z = float(ndtri(0.5 + confidence / 2))
    if sample.num_seeds == 1 and not sample.is_grouped and is_plain:
        return Interval(value, *wilson(value, sample.num_videos, z), f"Wilson over {sample.num_videos} videos")
    if num_units == 1:
        return Interval(value, 0.0, 1.0, f"one {over} says nothing of others")
    seeds = f" and {sample.num_seeds} seeds" if sample.num_seeds > 1 else ""
    method = f"{of}Wilson over {num_units} {over}s{seeds}"
    if min(value, 1 - value) < EXACT:
        return Interval(value, *wilson(round(value), sample.as_many, z), method)
    units = sample.units_variance + sample.unseen
    variance = _Variance(units, sample.dof, sample.seeds_variance, max(1, sample.num_seeds - 1))
    most = math.inf if weighed[1] is not None and variance.total else sample.num_seeds * sample.num_videos
    if variance.total > 0:
        as_many = min(value * (1 - value) / variance.total, most)
        quantile = float((variance.squared_half((1 - confidence) / 2) / variance.total) ** 0.5)
    else:
        as_many, quantile = most, float(stdtrit(sample.dof, 0.5 + confidence / 2))
    return Interval(value, *wilson(value, as_many, quantile), method)


@dataclass(frozen=True)
class Difference:
    """Accuracy of one minus that of another, on the same videos."""

    value: float
    variance: _Variance
    num_units: int
    over_seeds: bool
    """True: it holds for the models; False: for these runs, whose seeds are too few."""
    is_grouped: bool = False
    """Whether units are groups of videos."""
    fixed: float = 0.0
    """Part of the variance over units that more seeds do not reduce."""
    residual: float = 0.0
    """Part of the variance for one seed of each; S seeds of each have a share 1 / S."""
    a_seed: float = 0.0
    """Variance that one seed of each adds."""

    def half_width(self, level: float) -> float:
        """Half width of the interval at this level, e.g. 0.95."""
        if self.num_units < 2:
            return 2.0  # all that a difference can be
        return float(self.variance.squared_half((1 - level) / 2) ** 0.5)


STABLE = 5.0


def usual_spread(samples: Sequence[Sample]) -> tuple[float, float]:
    """Variance that one seed adds, mean over models, and its degrees of freedom; 0, 0 if no model has enough seeds.

    An unstable model counts for no more than STABLE times what the models' median says.
    """
    enough = [sample for sample in samples if sample.num_seeds >= SEEDS_OF_A_CLAIM]
    if not enough:
        return 0.0, 0.0
    spreads = [sample.seeds_variance * sample.num_seeds for sample in enough]
    dofs = [sample.num_seeds - 1 for sample in enough]
    dof = float(np.median(dofs))
    of_mean = float(chdtri(dof, 0.5)) / dof if len(enough) > 2 else 1.0  # a variance's median, in shares of its mean
    return float(np.minimum(spreads, STABLE * np.median(spreads) / of_mean).mean()), float(sum(dofs))


def paired_difference(a: Sample, b: Sample, usual: tuple[float, float] = (0.0, 0.0)) -> Difference:
    """Difference of two models on the same videos; each has its own seeds.

    Among many models some have seeds that happen to agree, and would be told apart for that: if the seeds of two vary less
    than those of the study's models do (`usual_spread`), these count. Half a video that one alone gets right is added to
    either side (Agresti & Min 2005), so that a handful of videos on which the two differ does not pass for certainty.
    """
    value, grouped = a.value - b.value, a.is_grouped
    over_seeds = min(a.num_seeds, b.num_seeds) >= SEEDS_OF_A_CLAIM
    if a.num_units < 2:
        return Difference(value, _Variance(1.0, 1), a.num_units, over_seeds, grouped)
    units = float(((a.move_G - b.move_G) ** 2).sum()) + a.half_video
    if not over_seeds:
        return Difference(value, _Variance(units, a.dof), a.num_units, over_seeds, grouped, fixed=units)
    seeds = a.seeds_variance + b.seeds_variance
    spread = sum(sample.seeds_variance**2 / (sample.num_seeds - 1) for sample in (a, b))
    dof = seeds**2 / spread if spread else a.num_seeds + b.num_seeds - 2  # Welch's
    of_study = usual[0] * (1 / a.num_seeds + 1 / b.num_seeds)
    if of_study > seeds * (1 + 1e-9):  # of two models with as many seeds the usual is their own
        seeds, dof = of_study, usual[1]
    return Difference(
        value, _Variance(units, a.dof, seeds, dof), a.num_units, over_seeds, grouped,
        fixed=max(0.0, units - a.residual - b.residual),
        residual=a.residual * a.num_seeds + b.residual * b.num_seeds,
        a_seed=a.seeds_variance * a.num_seeds + b.seeds_variance * b.num_seeds,
    )  # fmt: skip


def change(before_SN: np.ndarray, after_SN: np.ndarray, groups_N: np.ndarray) -> Difference:
    """Accuracy on changed videos minus that on the originals, of the same runs."""
    sample = Sample.of(after_SN.astype(np.float64) - before_SN, groups_N)
    over_seeds = sample.num_seeds >= SEEDS_OF_A_CLAIM
    if sample.num_units < 2:
        return Difference(sample.value, _Variance(1.0, 1), sample.num_units, over_seeds, sample.is_grouped)
    variance = _Variance(
        sample.units_variance + sample.half_video, sample.dof,
        sample.seeds_variance if over_seeds else 0.0, max(1, sample.num_seeds - 1),
    )  # fmt: skip
    return Difference(sample.value, variance, sample.num_units, over_seeds, sample.is_grouped)


@dataclass(frozen=True)
class Verdict:
    """Verdict on one pair, corrected for all others of a study."""

    difference: Difference
    p: float
    """p-value, corrected for the number of pairs."""
    low: float
    high: float
    """The interval by which it was decided; it holds 0 where the two cannot be told apart."""
    apart: bool

    def mirrored(self) -> "Verdict":
        """The verdict on the same two, the other way round."""
        other = replace(self.difference, value=-self.difference.value)
        return Verdict(other, self.p, -self.high, -self.low, self.apart)

    def __str__(self) -> str:
        return f"{self.difference.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def judged(differences: Sequence[Difference], *, alpha: float = 1 - CONFIDENCE) -> list[Verdict]:
    """Verdicts by Holm's rule (1979).

    The smallest of m p-values is held against `alpha` / m, the next against `alpha` / (m - 1), … until one fails; the
    intervals of that one and of all behind it are those of its level.
    """
    p_M, count = p_values(differences), len(differences)
    verdicts: dict[int, Verdict] = {}
    largest, stopped = 0.0, 0
    for rank, index in enumerate(np.argsort(p_M, kind="stable")):
        left = stopped or count - rank
        largest = max(largest, min(1.0, float(p_M[index]) * (count - rank)))
        if not stopped and p_M[index] > alpha / left:
            stopped = left
        difference = differences[index]
        half = difference.half_width(1 - alpha / left)
        low, high = max(-1.0, difference.value - half), min(1.0, difference.value + half)
        verdicts[int(index)] = Verdict(difference, largest, low, high, not stopped)
    return [verdicts[index] for index in range(count)]


def p_values(differences: Sequence[Difference]) -> np.ndarray:
    """(M,) p-values, uncorrected: the level at which an interval just touches 0."""
    if not differences:
        return np.empty(0)
    parts = [difference.variance for difference in differences]
    units, units_dof, seeds, seeds_dof = np.array([[v.units, v.units_dof, v.seeds, v.seeds_dof] for v in parts]).T
    value_M = np.abs([difference.value for difference in differences])
    if not seeds.any():
        p_M = 2 * stdtr(units_dof, -value_M / np.sqrt(units))
    else:  # bisection on the logarithm
        low_M, high_M = np.full(len(value_M), -700.0), np.full(len(value_M), math.log(0.5))
        for _ in range(60):
            middle_M = (low_M + high_M) / 2
            tail_M = np.exp(middle_M)
            half_M = np.sqrt(units * stdtrit(units_dof, tail_M) ** 2 + seeds * stdtrit(seeds_dof, tail_M) ** 2)
            touches_M = half_M < value_M  # the interval is too narrow: p is smaller
            high_M, low_M = np.where(touches_M, middle_M, high_M), np.where(touches_M, low_M, middle_M)
        p_M = 2 * np.exp(high_M)
    alone_M = np.array([difference.num_units < 2 for difference in differences])
    return np.where(alone_M, 1.0, np.minimum(1.0, p_M))


MOST_GROUPS = 500
"""Most sets; beyond that nobody reads them, and finding them may not end."""


def letter_sets(count: int, apart: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Largest sets of items 0 … count - 1 of which no two are in `apart`; each other pair lies in one.

    An item may be in several (insert and absorb, Piepho 2004). Sorted; empty if they are too many to be found.
    """
    sets = [(1 << count) - 1]
    for a, b in apart:
        if len(sets) > MOST_GROUPS:
            return []
        both = (1 << a) | (1 << b)
        split = [s for s in sets if s & both == both]
        if not split:
            continue
        kept = [s for s in sets if s & both != both]
        for new in sorted({s & ~(1 << one) for s in split for one in (a, b)}, key=int.bit_count, reverse=True):
            if not any(new | s == s for s in kept):
                kept.append(new)
        sets = kept
    return sorted(tuple(i for i in range(count) if s >> i & 1) for s in sets)


@dataclass(frozen=True)
class Takes:
    """Seeds and videos that would tell two models apart that differ as these do."""

    seeds: int
    """Seeds per model."""
    times_videos: float
    """Times as many test videos as there are: 1 if these are enough."""
    seed_sd: float
    """Standard deviation over seeds that was assumed or estimated."""
    is_assumed: bool


MOST_SEEDS = 30
TIMES = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def takes(difference: Difference, *, pairs: int) -> Takes | None:
    """Least seeds × videos that find a difference as large as the one seen in 80 % of such studies.

    None for equal accuracies, if the variance over videos is unknown, or if nothing within reach is enough.
    """
    d = difference
    if abs(d.value) < 1e-9 or d.num_units < 2:
        return None
    tail, a_seed = (1 - CONFIDENCE) / 2 / pairs, d.a_seed if d.over_seeds else 2 * USUAL_SEED_SD**2

    def finds(seeds: int, times_videos: float) -> bool:
        units = (d.fixed + d.residual / seeds) / times_videos
        variance = _Variance(units, (d.variance.units_dof + 1) * times_videos - 1, a_seed / seeds, 2 * (seeds - 1))
        return bool(variance.squared_half(tail) ** 0.5 + ndtri(POWER) * variance.total**0.5 <= abs(d.value))

    ways = [
        (seeds * times_videos, times_videos, seeds)
        for times_videos in TIMES
        for seeds in [next((s for s in range(SEEDS_OF_A_CLAIM, MOST_SEEDS + 1) if finds(s, times_videos)), None)]
        if seeds is not None
    ]
    if not ways:
        return None
    _, times_videos, seeds = min(ways)
    return Takes(seeds, times_videos, (a_seed / 2) ** 0.5, not d.over_seeds)


@dataclass(frozen=True)
class Calibration:
    """Calibration: the distance of confidence from accuracy."""

    error: float
    """Expected calibration error: the mean over the videos of |accuracy - confidence| of their bin."""
    bins: tuple[tuple[float, float, int], ...]
    """(mean confidence, accuracy, how many answers) of each bin that is not empty."""

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy."""
        total = sum(count for _, _, count in self.bins)
        return sum(count * (confidence - accuracy) for confidence, accuracy, count in self.bins) / total


def calibration(confidence: np.ndarray, correct: np.ndarray, *, num_bins: int = BINS) -> Calibration:
    """Calibration of answers by their probability, in bins of equal width (Guo et al. 2017, section 2)."""
    place = np.clip(np.ceil(confidence.reshape(-1) * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    sure = np.bincount(place, weights=confidence.reshape(-1), minlength=num_bins)
    right = np.bincount(place, weights=correct.reshape(-1).astype(float), minlength=num_bins)
    filled = np.flatnonzero(counts)
    error = float(np.abs(right - sure)[filled].sum() / counts.sum())
    bins = tuple((float(sure[i] / counts[i]), float(right[i] / counts[i]), int(counts[i])) for i in filled)
    return Calibration(error, bins)
