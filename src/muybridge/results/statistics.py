"""How sure a figure is: 95 % intervals (SciPy).

One run on independent videos: Wilson's interval. Videos that share a source (groups): t on the residuals of the groups,
as the bootstrap over a handful of groups covers too little. Several seeds: the variance over videos of the mean over
seeds, plus the variance over seeds, with Satterthwaite's degrees of freedom.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and where its truth lies, 95 % of the time."""

    value: float
    low: float
    high: float
    method: str

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def accuracy_interval(correct_SN: np.ndarray, groups_N: np.ndarray) -> Interval:
    """Accuracy over S seeds and N videos, with an interval over both. `groups_N` holds the empty string for a video
    that shares its source with no other."""
    num_seeds, num_videos = correct_SN.shape
    value = float(correct_SN.mean())
    grouped = bool((groups_N != "").any())
    if num_seeds == 1 and not grouped:
        wilson = stats.binomtest(int(correct_SN.sum()), num_videos).proportion_ci(CONFIDENCE, method="wilson")
        return Interval(value, float(wilson.low), float(wilson.high), "Wilson over videos")
    units = np.where(groups_N == "", np.char.add("#", np.arange(num_videos).astype(str)), groups_N)
    _, unit_N = np.unique(units, return_inverse=True)
    residuals_G = np.bincount(unit_N, weights=correct_SN.mean(0) - value)
    num_units = len(residuals_G)
    over = "groups" if grouped else "videos"
    if num_units < 2:
        return Interval(value, 0.0, 1.0, f"one of the {over} says nothing of others")
    var_units = num_units / (num_units - 1) * float((residuals_G**2).sum()) / num_videos**2
    var_seeds = float(correct_SN.mean(1).var(ddof=1)) / num_seeds if num_seeds > 1 else 0.0
    variance = var_units + var_seeds
    parts = [(var_units, num_units - 1)] + ([(var_seeds, num_seeds - 1)] if num_seeds > 1 else [])
    spread = sum(v**2 / dof for v, dof in parts)
    dof = variance**2 / spread if spread > 0 else num_units - 1
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, dof)) * variance**0.5
    method = f"t over {num_units} {over}" + (f" and {num_seeds} seeds" if num_seeds > 1 else "")
    return Interval(value, max(0.0, value - half), min(1.0, value + half), method)
