"""Worth of a model's own sureness: errors if the least sure answers are left out, and clips of no class."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

COVERAGES = (1.0, 0.9, 0.8, 0.5)
"""Shares of answered videos at which accuracies are shown."""
KEPT = 0.95
"""Share of the known clips that pass where a false positive rate is taken."""


@dataclass(frozen=True)
class RiskCoverage:
    """Share of wrong answers among the surest ones, for every share that is answered (Geifman & El-Yaniv 2017)."""

    risk_N: np.ndarray
    """Share of wrong answers among the n surest, n = 1 … N, mean over seeds."""

    @staticmethod
    def of(confidence_SN: np.ndarray, correct_SN: np.ndarray) -> "RiskCoverage":
        """Curve of S seeds. Answers that are equally sure count as in any order, on average."""
        return RiskCoverage(np.mean([_risks(*seed) for seed in zip(confidence_SN, correct_SN, strict=True)], axis=0))

    @property
    def area(self) -> float:
        """Area under the curve, the mean risk over all coverages: 0 if no answer is wrong."""
        return float(self.risk_N.mean())

    def accuracy(self, coverage: float) -> float:
        """Accuracy where this share of the videos is answered, at least one."""
        return 1 - float(self.risk_N[max(1, round(coverage * len(self.risk_N))) - 1])


def _risks(confidence_N: np.ndarray, correct_N: np.ndarray) -> np.ndarray:
    order_N = np.argsort(-confidence_N, kind="stable")
    _, tie_N = np.unique(-confidence_N[order_N], return_inverse=True)
    wrong_N = 1.0 - correct_N[order_N]
    mean_T = np.bincount(tie_N, weights=wrong_N) / np.bincount(tie_N)
    risks_N: np.ndarray = np.cumsum(mean_T[tie_N]) / np.arange(1, len(wrong_N) + 1)
    return risks_N


@dataclass(frozen=True)
class ToldApart:
    """Figures of telling known classes from none by the highest probability (Hendrycks & Gimpel 2017)."""

    auroc: float
    """Probability that a known clip gets a higher one than an unknown clip; equal ones count half."""
    aupr: float
    """Average precision with the known clips as positives; `known_share` by chance."""
    fpr95: float
    """Share of the unknown clips that pass where at least 95 % of the known ones do."""
    known_share: float
    """Share of known clips among all."""

    def as_json(self) -> dict[str, float]:
        """Entry in report.json."""
        return asdict(self)


def told_apart(known_N: np.ndarray, unknown_M: np.ndarray) -> ToldApart:
    """Compare the highest probabilities of clips of known classes, and of clips of none."""
    from scipy.stats import rankdata  # a third of a second, which few need

    num_known, num_unknown = len(known_N), len(unknown_M)
    ranks = rankdata(np.concatenate([known_N, unknown_M]))
    above = ranks[:num_known].sum() - num_known * (num_known + 1) / 2
    values = np.unique(np.concatenate([known_N, unknown_M]))[::-1]
    known_V = num_known - np.searchsorted(np.sort(known_N), values)  # as sure, or surer
    unknown_V = num_unknown - np.searchsorted(np.sort(unknown_M), values)
    gains_V = np.diff(known_V, prepend=0) / num_known
    at = int(np.flatnonzero(known_V >= KEPT * num_known)[0])
    return ToldApart(
        auroc=float(above / (num_known * num_unknown)), aupr=float((gains_V * known_V / (known_V + unknown_V)).sum()),
        fpr95=float(unknown_V[at] / num_unknown), known_share=num_known / (num_known + num_unknown),
    )  # fmt: skip


def mean_told_apart(several: Sequence[ToldApart]) -> ToldApart:
    """Mean of several runs."""
    return ToldApart(**{name: float(np.mean([getattr(one, name) for one in several])) for name in asdict(several[0])})
