"""Baselines: what guessing and always giving one answer reach on the test videos."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muybridge.analysis.answers import MORE_ANSWERS
from muybridge.analysis.datasets import Dataset


@dataclass(frozen=True)
class Baseline:
    """Metrics of a way to answer without looking at the video."""

    name: str
    top1: float
    top: dict[int, float]
    """Top-k accuracy, by k; only of more than k classes."""
    mean_class: float
    macro_f1: float | None
    """None where it is not defined by the classes' shares alone."""

    @property
    def kinetics_error(self) -> float | None:
        """Mean of top-1 and top-5 error in percent; None for at most five classes."""
        return 100 * (1 - (self.top1 + self.top[5]) / 2) if 5 in self.top else None


@dataclass(frozen=True)
class Baselines:
    """Chance, and the class that is most common."""

    chance: Baseline
    """A class drawn evenly from all."""
    majority: Baseline
    """Always the class that is most common in training; of more answers, the most common ones."""
    answer: str
    """The class that the majority answers; of folds that have several, the first one's."""
    from_training: bool
    """False: training labels are not known, and the class is the most common one of the test, which flatters it."""

    @property
    def both(self) -> tuple[Baseline, Baseline]:
        """Both, in the order in which they are shown."""
        return self.chance, self.majority

    def guess(self, *, by_class: bool = False) -> float:
        """Accuracy of the better of the two; `by_class`: as the mean over classes."""
        return max(one.mean_class if by_class else one.top1 for one in self.both)

    def __str__(self) -> str:
        source = "" if self.from_training else ", the most common class of the test as training labels are not known"
        return f"chance {self.chance.top1:.3f}, always {self.answer} {self.majority.top1:.3f}{source}"

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        return {
            "chance": asdict(self.chance), "majority": asdict(self.majority), "answer": self.answer,
            "from_training": self.from_training,
        }  # fmt: skip

    @staticmethod
    def of(tested: Sequence[tuple[Dataset, np.ndarray]], classes: Sequence[str]) -> "Baselines":
        """Baselines on the test of a row. `tested`: of each fold its data set, and (K,) test videos of each class.

        Official splits weigh the same, whatever the sizes of their tests.
        """
        num_classes = len(classes)
        if all(dataset.official_splits for dataset, _ in tested):
            tested = [(dataset, counts_K / counts_K.sum()) for dataset, counts_K in tested]
        test_K = np.sum([counts_K for _, counts_K in tested], axis=0)
        right = dict.fromkeys((1, *MORE_ANSWERS), 0.0)
        from_training = all("train" in (dataset.class_sizes or {}) for dataset, _ in tested)
        answered_K = np.zeros(num_classes)
        answers = []
        for dataset, counts_K in tested:
            judged_K = dataset.class_sizes["train"] if from_training and dataset.class_sizes is not None else test_K
            order_K = np.argsort(-judged_K, kind="stable")
            answers.append(int(order_K[0]))
            answered_K[order_K[0]] += counts_K.sum()
            for k in right:
                right[k] += float(counts_K[order_K[:k]].sum())
        total, present_K = float(test_K.sum()), test_K > 0
        right_K = np.zeros(num_classes)
        for answer, (_, counts_K) in zip(answers, tested, strict=True):
            right_K[answer] += counts_K[answer]
        recall_K = right_K[present_K] / test_K[present_K]
        f1_K = 2 * right_K[present_K] / (test_K + answered_K)[present_K]
        top = {k: right[k] / total for k in MORE_ANSWERS if num_classes > k}
        return Baselines(
            Baseline("chance", 1 / num_classes, {k: k / num_classes for k in top}, 1 / num_classes, None),
            Baseline("majority class", right[1] / total, top, float(recall_K.mean()), float(f1_K.mean())),
            classes[answers[0]], from_training,
        )  # fmt: skip
