"""Answers to test videos, and every metric of them: what a row and each further evaluation of it have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from muybridge.analysis.statistics import CONFIDENCE, Interval, Weighed, accuracy_interval
from muybridge.analysis.temporal import Pair
from muybridge.recipe import Recipe
from muybridge.storage.calibration import Calibrated, tempered
from muybridge.storage.run import Run
from muybridge.storage.scores import (
    Scores,
    class_accuracies,
    concatenate,
    confusion_counts,
    label_ranks,
    mean_class,
    softmax,
    within_pair,
)

ALONG_VIDEOS = (
    "ids_N", "labels_N", "groups_N", "predicted_N", "confidence_N", "truth_N", "sure_N", "sure_truth_N", "answered_N",
)  # fmt: skip
"""Fields of `Answers` that have a value for each video."""
MORE_ANSWERS = (5, 10)
"""Numbers k of the top-k accuracies beside top-1; each only of more than k classes."""


@dataclass(frozen=True, repr=False)
class Answers:
    """Answers of the runs of one seed to the N test videos, sorted by id.

    Of official splits, whose tests may share videos, there is one answer for each split that tests a video.
    """

    ids_N: np.ndarray
    labels_N: np.ndarray
    groups_N: np.ndarray
    predicted_N: np.ndarray
    """Class indices; -1 for another tool's answer that names no class."""
    confidence_N: np.ndarray
    """Probability of the predicted class."""
    truth_N: np.ndarray
    """Probability of the label."""
    within: Mapping[Pair, np.ndarray]
    """Two-class answers: which videos of a pair are right if only its two classes may be answered."""
    clip_top1: float
    """Clip accuracy: each view counted separately; NaN where the views are not known."""
    num_views: int
    """Number of views of each video; 0 where it is not known, or not that of all."""
    by_clips: Mapping[int, float]
    """Video accuracy with fewer clips, where these are among the clips that were scored; all crops."""
    top: Mapping[int, float]
    """Video accuracy if the label need only be among the first k answers, by k of `MORE_ANSWERS`."""
    split_N: np.ndarray
    """Number of the official split that tests the video; 0 where the set has none."""
    sure_N: np.ndarray
    """`confidence_N` at the run's temperature, where it is calibrated."""
    sure_truth_N: np.ndarray
    """`truth_N` at the run's temperature."""
    answered_N: np.ndarray
    """(N,) bool: whether the answer is not "unknown", by the run's threshold."""

    @property
    def correct_N(self) -> np.ndarray:
        """(N,) bool."""
        return self.predicted_N == self.labels_N

    @property
    def has_scores(self) -> bool:
        """Whether each class had a score; without, there are no probabilities, top-k answers or two-class answers."""
        return not np.isnan(self.confidence_N).any()

    @staticmethod
    def of(scores: Scores, pairs: Sequence[Pair] = (), calibrated: Sequence[Calibrated] = ()) -> "Answers":
        """Answers to the videos with a known label. Raises UserError for scores without any.

        `calibrated`: how each video of the scores is answered; none: as its probabilities are.
        """
        videos = scores.labelled()
        scores_NK, labels_N = scores.video_scores()[videos], scores.labels_N[videos]
        probabilities_NK = scores_NK if scores.average == "probabilities" else softmax(scores_NK)
        predicted_N, everything, ranks_N = scores_NK.argmax(1), np.arange(len(videos)), label_ranks(scores_NK, labels_N)
        calibrated_N = [calibrated[video] for video in videos] if calibrated else [Calibrated()] * len(videos)
        sure_NK = tempered(probabilities_NK, np.array([one.temperature for one in calibrated_N]))
        sure_N = sure_NK[everything, predicted_N]
        return Answers(
            ids_N=scores.ids_N[videos], labels_N=labels_N, groups_N=scores.groups_N[videos], predicted_N=predicted_N,
            confidence_N=probabilities_NK[everything, predicted_N], truth_N=probabilities_NK[everything, labels_N],
            within={(a, b): within_pair(scores_NK, labels_N, scores.pair(a, b))[1] for a, b in pairs},
            clip_top1=scores.clip_accuracy(), num_views=scores.num_views, by_clips=scores.accuracy_by_clips(),
            top={k: float((ranks_N < k).mean()) for k in MORE_ANSWERS if len(scores.classes) > k},
            split_N=np.zeros(len(videos), dtype=np.int64), sure_N=sure_N, sure_truth_N=sure_NK[everything, labels_N],
            answered_N=sure_N >= np.array([one.threshold for one in calibrated_N]),
        )  # fmt: skip

    @staticmethod
    def pooled(
        runs: Sequence[Run],
        scores: Callable[[Run], Scores],
        pairs: Sequence[Pair] = (),
        calibrated: Mapping[Run, Calibrated] | None = None,
    ) -> "Answers":
        """Answers of one seed's runs, a run a fold: the folds' tests joined, or official splits side by side.

        `calibrated`: how runs answer, where they are calibrated. Raises UserError, or ValueError for scores that cannot be
        joined.
        """
        parts = [scores(run) for run in runs]
        answering = [(calibrated or {}).get(run, Calibrated()) for run in runs]
        if not all(map(official_splits, runs)):
            of_videos = [one for part, one in zip(parts, answering, strict=True) for _ in part.ids_N]
            return Answers.of(concatenate(parts), pairs, of_videos)
        if any(part.classes != parts[0].classes for part in parts):
            raise ValueError("scores of different classes cannot be joined")
        split_of = [run.recipe().data.fold or 0 for run in runs]
        answers = [Answers.of(part, pairs, [one] * len(part.ids_N)) for part, one in zip(parts, answering, strict=True)]
        return _side_by_side(answers, split_of, parts[0].classes)


def official_splits(run: Run) -> list[int]:
    """Numbers of the official splits of a run's data set, of which its fold is one; empty for any other set."""
    return list(run.dataset().get("official_splits", []))


def _side_by_side(parts: Sequence[Answers], split_of: Sequence[int], classes: Sequence[str]) -> Answers:
    """Answers of official splits as one, sorted by id and split; figures that are kept for a split are means over splits."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    split_N = np.repeat(split_of, [len(part.ids_N) for part in parts])
    order = np.lexsort((split_N, joined("ids_N")))
    labels_N, within = joined("labels_N"), {}
    for pair in parts[0].within:
        is_of_pair_N, right_N = np.isin(labels_N, [classes.index(name) for name in pair]), np.zeros(len(labels_N), bool)
        right_N[is_of_pair_N] = np.concatenate([part.within[pair] for part in parts])
        within[pair] = right_N[order][is_of_pair_N[order]]
    clips = set.intersection(*(set(part.by_clips) for part in parts))
    return Answers(
        **{name: joined(name)[order] for name in ALONG_VIDEOS},
        within=within, clip_top1=float(np.mean([part.clip_top1 for part in parts])), num_views=parts[0].num_views,
        by_clips={m: float(np.mean([part.by_clips[m] for part in parts])) for m in sorted(clips)},
        top={k: float(np.mean([part.top[k] for part in parts])) for k in parts[0].top}, split_N=split_N[order],
    )  # fmt: skip


def weighing(split_N: np.ndarray, labels_N: np.ndarray, *, by_class: bool = False) -> Weighed:
    """Weights of answers in an accuracy, and the parts whose means it is the mean of.

    Official splits weigh the same, whatever the sizes of their tests; `by_class`: classes do.
    """
    if not by_class and not split_N.any():
        return None, None
    _, which_N, sizes = np.unique(split_N, return_inverse=True, return_counts=True)
    weights_N: np.ndarray = 1 / (len(sizes) * sizes[which_N])
    if not by_class:
        return weights_N, split_N
    of_class_K = np.bincount(labels_N, weights=weights_N)
    return weights_N / of_class_K[labels_N] / (of_class_K > 0).sum(), labels_N


@dataclass(frozen=True, repr=False, kw_only=True)
class Evaluated:
    """Answers of a model, whoever trained it: one `Answers` a seed; all seeds answered the same videos."""

    name: str
    answers: tuple[Answers, ...]
    classes: tuple[str, ...]
    split: str
    """Split of the videos; of a row "test"."""

    @property
    def num_seeds(self) -> int:
        """Number of seeds."""
        return len(self.answers)

    @property
    def num_videos(self) -> int:
        """Number of videos."""
        return len(self.answers[0].ids_N) if not self.split_N.any() else len(np.unique(self.answers[0].ids_N))

    @property
    def num_views(self) -> int:
        """Number of views of a video: clips times crops."""
        return self.answers[0].num_views

    @property
    def labels_N(self) -> np.ndarray:
        """(N,) class indices."""
        return self.answers[0].labels_N

    @property
    def groups_N(self) -> np.ndarray:
        """(N,) groups; the empty string for a video without one."""
        return self.answers[0].groups_N

    @property
    def split_N(self) -> np.ndarray:
        """(N,) numbers of the official splits; 0 where the set has none."""
        return self.answers[0].split_N

    @cached_property
    def units_N(self) -> np.ndarray:
        """(N,) what is independent: the group, or, where official splits test a video more than once, the video itself."""
        if not self.split_N.any():
            return self.groups_N
        ids, times = np.unique(self.answers[0].ids_N, return_counts=True)
        repeated_N = np.isin(self.answers[0].ids_N, ids[times > 1])
        own_N = np.where(repeated_N, np.char.add("video ", self.answers[0].ids_N), "")
        return np.where(self.groups_N == "", own_N, self.groups_N)

    @cached_property
    def correct_SN(self) -> np.ndarray:
        """(S,N) bool."""
        return np.stack([answers.correct_N for answers in self.answers])

    @cached_property
    def accuracy(self) -> Interval:
        """Video accuracy; of official splits, the mean over them."""
        return self.interval(by_class=False)

    @cached_property
    def mean_class_interval(self) -> Interval:
        """Mean of the accuracies of the classes that have videos."""
        return self.interval(by_class=True)

    def interval(self, *, by_class: bool, looks: int = 1) -> Interval:
        """Video accuracy, or the mean over classes. `looks`: number of such intervals that hold together with 95 %."""
        weighed = weighing(self.split_N, self.labels_N, by_class=by_class)
        splits = f"{self.splits_words}, " if self.splits_words else ""
        of = f"{splits}mean over {len(np.unique(self.labels_N))} classes, " if by_class else splits
        return accuracy_interval(self.correct_SN, self.units_N, 1 - (1 - CONFIDENCE) / looks, weighed=weighed, of=of)

    @property
    def splits_words(self) -> str:
        """Official splits that are tested: "mean over 3 official splits"; empty where the set has none."""
        tested = np.unique(self.split_N).tolist()
        if tested == [0]:
            return ""
        return f"official split {tested[0]} alone" if len(tested) == 1 else f"mean over {len(tested)} official splits"

    @property
    def by_split(self) -> dict[int, float]:
        """Video accuracy on each official split, mean over seeds; empty where the set has none."""
        return {
            split: float(self.correct_SN[:, self.split_N == split].mean())
            for split in np.unique(self.split_N).tolist()
            if split
        }

    @property
    def clip_accuracy(self) -> float | None:
        """Clip accuracy, mean over seeds; None where the views are not known."""
        mean = float(np.mean([answers.clip_top1 for answers in self.answers]))
        return None if np.isnan(mean) else mean

    def top(self, k: int) -> float | None:
        """Top-k video accuracy, mean over seeds; None where there are no more than k classes, or no scores."""
        return float(np.mean([of.top[k] for of in self.answers])) if all(k in of.top for of in self.answers) else None

    @property
    def kinetics_error(self) -> float | None:
        """Mean of top-1 and top-5 error in percent (Kinetics challenge 2017); None without top-5."""
        top5 = self.top(5)
        return None if top5 is None else 100 * (1 - (self.accuracy.value + top5) / 2)

    @cached_property
    def by_clips(self) -> dict[int, float]:
        """Video accuracy with fewer clips, mean over seeds."""
        common = set.intersection(*(set(answers.by_clips) for answers in self.answers))
        return {m: float(np.mean([answers.by_clips[m] for answers in self.answers])) for m in sorted(common)}

    @property
    def confusions_SKK(self) -> np.ndarray:
        """(S,K,K) counts of each seed: rows are true classes. Not kept, as many models of many classes would fill memory."""
        count = len(self.classes)
        return np.stack([confusion_counts(of.labels_N, of.predicted_N, count) for of in self.answers])

    @cached_property
    def confusion(self) -> np.ndarray:
        """(K,K) counts, summed over seeds: rows are true classes."""
        counts_KK: np.ndarray = self.confusions_SKK.sum(0)
        return counts_KK

    @cached_property
    def videos_K(self) -> np.ndarray:
        """(K,) number of videos of each class."""
        return np.bincount(self.labels_N, minlength=len(self.classes))

    @cached_property
    def class_accuracy_K(self) -> np.ndarray:
        """Accuracy (recall) of each class, mean over seeds; NaN for a class without videos."""
        weights_N, _ = weighing(self.split_N, self.labels_N)
        return class_accuracies(self.correct_SN.mean(0), self.labels_N, len(self.classes), weights_N)

    @property
    def mean_class(self) -> float:
        """Mean of the accuracies of the classes that have videos."""
        return mean_class(self.class_accuracy_K)

    @cached_property
    def precision_K(self) -> np.ndarray:
        """Share of the answers of a class that are right, mean over the seeds that gave it; NaN where none did."""
        counts_SKK = self.confusions_SKK
        right_SK, answered_SK = np.einsum("skk->sk", counts_SKK), counts_SKK.sum(1)
        shares_SK = np.divide(right_SK, answered_SK, out=np.zeros(right_SK.shape), where=answered_SK > 0)
        given_K = (answered_SK > 0).sum(0)
        return np.divide(shares_SK.sum(0), given_K, out=np.full(len(given_K), np.nan), where=given_K > 0)

    @cached_property
    def f1_K(self) -> np.ndarray:
        """F1 of each class, the harmonic mean of precision and recall, mean over seeds; NaN for a class without videos."""
        counts_SKK = self.confusions_SKK
        right_SK, both_SK = np.einsum("skk->sk", counts_SKK), counts_SKK.sum(1) + self.videos_K
        f1_SK = np.divide(2 * right_SK, both_SK, out=np.zeros(right_SK.shape), where=both_SK > 0)
        return np.where(self.videos_K > 0, f1_SK.mean(0), np.nan)

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of the classes that have videos."""
        return mean_class(self.f1_K)

    def _of_seed(self, correct_N: np.ndarray) -> float:
        weights_N, _ = weighing(self.split_N, self.labels_N)
        return float(correct_N.mean() if weights_N is None else weights_N @ correct_N)

    def metrics_as_json(self) -> dict[str, Any]:
        """Metrics in report.json; None where there are too few classes for it."""
        return {
            "videos": self.num_videos, "views": self.num_views, "video_top1": self.accuracy.value,
            "low": self.accuracy.low, "high": self.accuracy.high, "interval": self.accuracy.method,
            "of_seeds": [self._of_seed(correct_N) for correct_N in self.correct_SN],
            "by_split": {str(split): value for split, value in self.by_split.items()},
            **{f"video_top{k}": self.top(k) for k in MORE_ANSWERS}, "kinetics_error": self.kinetics_error,
            "clip_top1": self.clip_accuracy, "mean_class": self.mean_class,
            "mean_class_low": self.mean_class_interval.low, "mean_class_high": self.mean_class_interval.high,
            "macro_f1": self.macro_f1,
            "by_clips": {str(clips): value for clips, value in self.by_clips.items()},
        }  # fmt: skip


@dataclass(frozen=True, repr=False, kw_only=True)
class OwnEvaluation(Evaluated):
    """An evaluation of muybridge's own, by a recipe."""

    recipe: Recipe
    """Recipe of the evaluation, the first run's."""
    cost: Mapping[str, Any]
    """Parameters, and multiply-adds of one view."""

    @property
    def by_views(self) -> list[tuple[int, int, float]]:
        """Clips, views (clips times crops) and video accuracy, the fewest first; where the views are not known, all alone."""
        if not self.by_clips:
            return [(self.recipe.evaluation.num_clips, self.num_views, self.accuracy.value)]
        crops = self.num_views // max(self.by_clips)
        return [(clips, clips * crops, value) for clips, value in self.by_clips.items()]

    def metrics_as_json(self) -> dict[str, Any]:
        """Metrics in report.json, with parameters and multiply-adds."""
        cost = {name: self.cost[name] for name in ("params", "conv_macs", "macs")}
        return super().metrics_as_json() | cost
