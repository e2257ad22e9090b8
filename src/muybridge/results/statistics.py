"""How sure an accuracy is: 95 % intervals of Wilson's form, for every design.

One run on videos that share nothing: Wilson's interval. Otherwise an accuracy p varies more than that, and its variance
is estimated: over the groups of videos that share a source (cluster-robust, G - 1 degrees of freedom), or over videos,
plus over seeds (Satterthwaite's degrees of freedom). Wilson's interval is then taken with t's quantile and the number of
videos that would vary as much, p (1 - p) / variance, at most as many as there are. Near 1 it keeps to the range and
covers far better than p ± t · standard error (tests/results/test_statistics.py simulates both).

Where every video is right (or none), nothing is known of how errors come together: then each group counts as one video.
The part of the variance that seeds and videos share is counted twice, so intervals over seeds err to the wide side.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

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
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    if num_seeds == 1 and not grouped:
        return Interval(value, *wilson(value, num_videos, z), f"Wilson over {num_videos} videos")
    unit_N = _units(groups_N)
    residuals_G = np.bincount(unit_N, weights=correct_SN.mean(0) - value)
    num_units = len(residuals_G)
    over = "group" if grouped else "video"
    if num_units == 1:
        return Interval(value, 0.0, 1.0, f"one {over} says nothing of others")
    method = f"Wilson over {num_units} {over}s" + (f" and {num_seeds} seeds" if num_seeds > 1 else "")
    if value in (0, 1):
        return Interval(value, *wilson(value, num_units, z), method)
    parts = [(num_units / (num_units - 1) * float((residuals_G**2).sum()) / num_videos**2, num_units - 1)]
    if num_seeds > 1:
        parts.append((float(correct_SN.mean(1).var(ddof=1)) / num_seeds, num_seeds - 1))
    variance = sum(v for v, _ in parts)
    spread = sum(v**2 / dof for v, dof in parts)
    dof = variance**2 / spread if spread > 0 else num_units - 1
    most = num_seeds * num_videos
    as_many = min(value * (1 - value) / variance, most) if variance > 0 else most
    return Interval(value, *wilson(value, as_many, float(stdtrit(dof, 0.5 + CONFIDENCE / 2))), method)


def wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """Ends of Wilson's score interval of a share of `count` independent answers; `count` need not be whole."""
    shrink = 1 + quantile**2 / count
    center = (share + quantile**2 / (2 * count)) / shrink
    half = quantile / shrink * (share * (1 - share) / count + quantile**2 / (4 * count**2)) ** 0.5
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))


def _units(groups_N: np.ndarray) -> np.ndarray:
    """What varies independently, numbered: a group, or a video without one."""
    _, group_N = np.unique(groups_N, return_inverse=True)
    alone_N = len(groups_N) + np.arange(len(groups_N))
    _, unit_N = np.unique(np.where(groups_N == "", alone_N, group_N), return_inverse=True)
    return unit_N
