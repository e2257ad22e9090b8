"""Rows of a comparison: what a model answered over its seeds, and, of muybridge's own runs, all that they tell beside it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from muybridge.analysis.answers import Evaluated, OwnEvaluation, weighing
from muybridge.analysis.coverage import COVERAGES, RiskCoverage
from muybridge.analysis.curves import ACCURACY, Part, Point, curve
from muybridge.analysis.datasets import Dataset
from muybridge.analysis.further import Further
from muybridge.analysis.statistics import CONFIDENCE, Calibration, Interval, Weighed, accuracy_interval, calibration
from muybridge.analysis.temporal import FrameOrders, Pair
from muybridge.analysis.unknown import Unknown
from muybridge.recipe import fingerprint
from muybridge.storage.run import Run


@dataclass(frozen=True, repr=False, kw_only=True)
class ModelResult(Evaluated):
    """A model's answers, pooled over folds, one `Answers` a seed; all seeds answered the same videos."""

    split: str = "test"
    tested: tuple[tuple[Dataset, np.ndarray], ...]
    """Each fold's data set, of the first seed, and (K,) its test videos of each class."""
    brief: str = ""
    """Name for a sentence, with as few fields as tell it from the other rows; empty: `name` is such a one."""
    axes: Mapping[str, Any] = field(default_factory=dict)
    """Axes by which a study tells this row from others; empty without a study."""
    runs: tuple[Run, ...] = ()
    """Runs of muybridge's that answered; none of predictions that another tool made."""
    files: tuple[str, ...] = ()
    """Files of the predictions that another tool made; none of runs."""
    scores_sha256: tuple[str, ...] = ()
    """Hashes of the scores of such predictions (`Scores.sha256`), one a seed; none of answers alone, nor of runs."""
    manifest: str | None = None
    """Manifest that names the videos of such predictions; None where none was given."""
    truth_videos: int | None = None
    """Videos of a known label that the truth of such predictions has, answered or not; None of runs."""
    speed: dict[str, Any] | None = None
    """Speed and memory by `muybridge measure RUN`; None: not measured."""
    diagnosed: FrameOrders | None = None
    """None where none of its seeds was diagnosed on all test videos."""
    further: tuple[Further, ...] = ()
    """Further evaluations that all its runs keep."""
    unknown: tuple[Unknown, ...] = ()
    """Clips of no class that all its runs keep, a data set each."""
    calibrations: tuple[Mapping[str, Any], ...] = ()
    """Content of the calibration.json of each of its runs; empty where one is not calibrated."""
    fused: tuple[Mapping[str, Any], ...] = ()
    """Content of the fused.json of each run of fused scores: parts and weights; empty for a row that was trained."""

    @property
    def model(self) -> str:
        """The network's name."""
        return self.name

    @property
    def unanswered(self) -> int:
        """Videos of the truth that it, or one of its seeds, has no answer to: none of its figures is about them."""
        return 0 if self.truth_videos is None else self.truth_videos - self.num_videos

    @property
    def fingerprints(self) -> frozenset[str]:
        """Hashes of its runs' recipes, by which fused scores know their parts; none of fused scores themselves."""
        return frozenset()

    @property
    def manifests(self) -> list[str]:
        """Paths of the manifests of its videos."""
        return [] if self.manifest is None else [self.manifest]

    @cached_property
    def has_scores(self) -> bool:
        """Whether every seed gave a score for each class, not its answer alone."""
        return all(answers.has_scores for answers in self.answers)

    @property
    def method(self) -> str:
        """Name of the method, e.g. tsm."""
        return method_and_backbone(self.model)[0]

    @property
    def backbone(self) -> str:
        """Name of the image network, e.g. resnet50; empty for a network of its own kind."""
        return method_and_backbone(self.model)[1]

    @property
    def trained_runs(self) -> tuple[Run, ...]:
        """Its runs; none of fused scores, which no training made."""
        return () if self.fused else self.runs

    @cached_property
    def calibration(self) -> Calibration | None:
        """Calibration over the answers of all seeds; None of answers without scores."""
        if not self.has_scores:
            return None
        return calibration(np.stack([answers.confidence_N for answers in self.answers]), self.correct_SN)

    @cached_property
    def calibrated(self) -> Calibration | None:
        """Calibration over the answers of all seeds at the runs' temperatures; None where a run has none."""
        if not self.calibrations:
            return None
        return calibration(np.stack([answers.sure_N for answers in self.answers]), self.correct_SN)

    @property
    def loss(self) -> float | None:
        """Mean negative log probability of the labels; None of answers without scores."""
        return _loss([answers.truth_N for answers in self.answers]) if self.has_scores else None

    @property
    def loss_calibrated(self) -> float | None:
        """The same at the runs' temperatures; None where a run has none."""
        return _loss([answers.sure_truth_N for answers in self.answers]) if self.calibrations else None

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperature of each run; empty where one is not calibrated."""
        return tuple(of_run["temperature"] for of_run in self.calibrations)

    @cached_property
    def risk_coverage(self) -> RiskCoverage | None:
        """Errors if only the surest answers are given, at the runs' temperatures where they have any.

        None of answers without scores.
        """
        if not self.has_scores:
            return None
        return RiskCoverage.of(np.stack([answers.sure_N for answers in self.answers]), self.correct_SN)

    @cached_property
    def above_threshold(self) -> tuple[str, float, float | None] | None:
        """Rule of the runs' thresholds, share of the videos with an answer, and share of those that is right.

        None where a run has no threshold, or another rule.
        """
        rules = {None if (kept := of_run["threshold"]) is None else str(kept["rule"]) for of_run in self.calibrations}
        rule = rules.pop() if len(rules) == 1 else None
        if rule is None:
            return None
        answered_SN = np.stack([answers.answered_N for answers in self.answers])
        precision = float(self.correct_SN[answered_SN].mean()) if answered_SN.any() else None
        return rule, float(answered_SN.mean()), precision

    @property
    def training_accuracy(self) -> float | None:
        """Video accuracy on the training split by a kept evaluation of the row's own views; None: not kept."""
        plain = [one.accuracy.value for one in self.further if one.split == "train" and not one.changes]
        return plain[0] if plain else None

    def within_pairs(self, pairs: Sequence[Pair], looks: int = 1) -> Interval:
        """Two-class accuracy over the videos of all pairs.

        `looks`: number of such intervals that hold together with 95 %.
        """
        correct_SN = np.stack([np.concatenate([answers.within[pair] for pair in pairs]) for answers in self.answers])
        chosen = [np.flatnonzero(self._of_classes(pair)) for pair in pairs]
        videos = np.concatenate(chosen)
        return accuracy_interval(
            correct_SN, self.units_N[videos], 1 - (1 - CONFIDENCE) / looks, weighed=self._weighed(videos)
        )

    def outside_pairs(self, pairs: Sequence[Pair]) -> Interval | None:
        """Accuracy on the videos of the classes that are in no pair; None without such videos."""
        rest_N = ~self._of_classes([name for pair in pairs for name in pair])
        if not rest_N.any():
            return None
        return accuracy_interval(self.correct_SN[:, rest_N], self.units_N[rest_N], weighed=self._weighed(rest_N))

    def _weighed(self, videos: np.ndarray) -> Weighed:
        """Weights and strata of some videos, for an interval."""
        return weighing(self.split_N[videos], self.labels_N[videos])

    def _of_classes(self, names: Sequence[str]) -> np.ndarray:
        """(N,) bool."""
        is_named_N: np.ndarray = np.isin(self.labels_N, [self.classes.index(name) for name in names])
        return is_named_N

    def _calibrated_as_json(self) -> dict[str, Any] | None:
        """The test at the runs' temperatures and thresholds; None where a run has none."""
        if self.calibrated is None:
            return None
        rule, answered, precision = self.above_threshold or (None, None, None)
        return {
            "temperatures": list(self.temperatures), "loss": self.loss_calibrated,
            "calibration_error": self.calibrated.error, "overconfidence": self.calibrated.overconfidence,
            "threshold_rule": rule, "answered": answered, "precision": precision,
        }  # fmt: skip

    def _by_class(self, values_K: np.ndarray) -> dict[str, float]:
        """Finite values by the class's name."""
        pairs = zip(self.classes, values_K.tolist(), strict=True)
        return {name: value for name, value in pairs if np.isfinite(value)}

    def as_json(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Entry of this row in report.json."""
        bins, coverage = self.calibration, self.risk_coverage
        value: dict[str, Any] = {
            "model": self.name, "method": self.method, "backbone": self.backbone, "axes": dict(self.axes),
            "runs": [str(run.path) for run in self.runs], "files": list(self.files), "seeds": self.num_seeds,
            **self.metrics_as_json(), "unanswered": self.unanswered, "training_video_top1": self.training_accuracy,
            "calibration_error": None if bins is None else bins.error,
            "overconfidence": None if bins is None else bins.overconfidence,
            "loss": self.loss, "calibrated": self._calibrated_as_json(),
            "risk_coverage_area": None if coverage is None else coverage.area,
            "accuracy_at_coverage":
            {} if coverage is None else {str(share): coverage.accuracy(share) for share in COVERAGES},
            "unknown": [one.as_json() for one in self.unknown], "speed": self.speed,
            "calibration_bins": [] if bins is None else [list(one) for one in bins.bins],
            "class_accuracy": self._by_class(self.class_accuracy_K), "class_f1": self._by_class(self.f1_K),
            "class_precision": self._by_class(self.precision_K), "class_videos": self._by_class(self.videos_K),
            "confusion": [
                [self.classes[i], self.classes[j], int(self.confusion[i, j])] for i, j in np.argwhere(self.confusion).tolist()
            ],
            "diagnosis": None if self.diagnosed is None else self.diagnosed.as_json(),
            "further": [one.as_json() for one in self.further],
            "fused": [
                {"weights": one["weights"], "rule": one["rule"], "chosen": one["chosen"],
                 "parts": [part["name"] for part in one["parts"]]}
                for one in self.fused
            ],
        }  # fmt: skip
        if pairs:
            value["pairs"] = {f"{a}/{b}": self.within_pairs([(a, b)]).value for a, b in pairs}
            within = self.within_pairs(pairs)
            value |= {"within_pairs": within.value, "within_low": within.low, "within_high": within.high}
            outside = self.outside_pairs(pairs)
            value["outside_pairs"] = None if outside is None else outside.value
        return value


@dataclass(frozen=True, repr=False, kw_only=True)
class RunsResult(ModelResult, OwnEvaluation):
    """The answers of muybridge's own runs."""

    @property
    def model(self) -> str:
        """The network's name."""
        return self.recipe.model.name

    @cached_property
    def fingerprints(self) -> frozenset[str]:
        """Hashes of its runs' recipes, by which fused scores know their parts; none of fused scores themselves."""
        return frozenset() if self.fused else frozenset(fingerprint(run.recipe()) for run in self.runs)

    @property
    def manifests(self) -> list[str]:
        """Paths of the manifests of its runs; of fused scores those of the parts."""
        of_parts = [str(part["manifest"]) for one in self.fused for part in one["parts"]]
        return list(dict.fromkeys(of_parts or [run.recipe().data.manifest for run in self.runs]))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Optimizer steps of each run."""
        return tuple(run.result()["steps"] for run in self.runs)

    @property
    def epochs(self) -> tuple[float, ...]:
        """Passes over the training videos, by each run's own count of steps an epoch."""
        return tuple(run.epochs_trained() for run in self.runs)

    @cached_property
    def train_hours(self) -> tuple[float, ...]:
        """Hours of training of each run, validation not counted."""
        return tuple(run.train_seconds() / 3600 for run in self.runs)

    @cached_property
    def train_clips_per_s(self) -> float | None:
        """Training speed: median over epochs and runs, on the machine that trained; None: not measured."""
        rates = [line["train_clips_per_s"] for run in self.runs for line in run.timing()]
        return float(median(rates)) if rates else None

    @cached_property
    def curves(self) -> dict[Part, list[Point]]:
        """Learning curves, mean over runs, by part."""
        return {part: curve(self.runs, part) for part in ACCURACY}

    @property
    def training_clip_accuracy(self) -> float | None:
        """Accuracy on augmented training clips in the last epoch, while the weights move; None: not measured."""
        train = self.curves["train"]
        return train[-1].accuracy if train else None

    def as_json(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Entry of this row in report.json, with all that its runs tell of training."""
        return super().as_json(pairs) | {
            "training_clip_top1": self.training_clip_accuracy, "train_clips_per_s": self.train_clips_per_s,
            "steps": list(self.steps), "epochs": list(self.epochs), "train_hours": list(self.train_hours),
            "curves": [point.as_json() for points in self.curves.values() for point in points],
        }  # fmt: skip


def method_and_backbone(model: str) -> tuple[str, str]:
    """Names of method and backbone: tam, resnet50 of tam_resnet50; tsm, timm:densenet121 of tsm@timm:densenet121.

    A user's network has no backbone.
    """
    method, at, brought = model.partition("@")
    if at:
        return method, brought
    match = re.fullmatch(r"(\w+?)_((?:resnet|inception|vgg|mobilenet|efficientnet)\w*)", model)
    return (match[1], match[2]) if match else (model, "")


def _loss(truth_SN: Sequence[np.ndarray]) -> float:
    """Mean negative log of probabilities."""
    return float(-np.log(np.maximum(np.stack(truth_SN), 1e-12)).mean())
