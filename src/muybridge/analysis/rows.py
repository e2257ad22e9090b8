"""Rows of a comparison: finished runs, pooled over folds and lined up over seeds.

Runs whose recipes agree in all but seed and fold are one row: their folds are joined, their seeds averaged. Two settings
of one model are two rows, and never pass for seeds of each other. Where a study says by which axes its runs differ, rows
are named by these. Of the scores of a run a row keeps what its videos were answered, not every view's logits: a hundred
runs fit in memory.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from muybridge.analysis.statistics import (
    CONFIDENCE,
    Calibration,
    Interval,
    accuracy_interval,
    calibration,
)
from muybridge.analysis.temporal import FrameOrders, Pair
from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff, fingerprint, replace
from muybridge.storage.run import Run
from muybridge.storage.scores import (
    Scores,
    class_accuracies,
    concatenate,
    confusion_counts,
    mean_class,
    softmax,
    within_pair,
)
from muybridge.storage.study import RunRecord, StudyRecord

REPEATED = ("seed", "fold")
"""Axes over which a row is pooled."""

SAME_ANSWERS = 0.98
"""Least share of equal answers in diagnosis and test, if they are of the same clips: devices round differently."""

OTHER_RUN = "another run of the study"


@dataclass(frozen=True, repr=False)
class Answers:
    """Answers of the runs of one seed to the N test videos, sorted by id."""

    ids_N: np.ndarray
    labels_N: np.ndarray
    groups_N: np.ndarray
    predicted_N: np.ndarray
    """Class indices."""
    confidence_N: np.ndarray
    """Probability of the predicted class."""
    truth_N: np.ndarray
    """Probability of the label."""
    within: Mapping[Pair, np.ndarray]
    """Two-class answers: which videos of a pair are right if only its two classes may be answered."""
    clip_top1: float
    """Clip accuracy: each view counted separately."""
    num_views: int
    by_clips: Mapping[int, float]
    """Video accuracy with fewer clips, where these are among the clips that were scored; all crops."""

    @property
    def correct_N(self) -> np.ndarray:
        """(N,) bool."""
        return self.predicted_N == self.labels_N

    @staticmethod
    def of(scores: Scores, pairs: Sequence[Pair]) -> "Answers":
        """Answers to the videos with a known label. Raises UserError for scores without any."""
        videos = scores.labelled()
        scores_NK, labels_N = scores.video_scores()[videos], scores.labels_N[videos]
        probabilities_NK = scores_NK if scores.average == "probabilities" else softmax(scores_NK)
        predicted_N, everything = scores_NK.argmax(1), np.arange(len(videos))
        return Answers(
            ids_N=scores.ids_N[videos], labels_N=labels_N, groups_N=scores.groups_N[videos], predicted_N=predicted_N,
            confidence_N=probabilities_NK[everything, predicted_N], truth_N=probabilities_NK[everything, labels_N],
            within={(a, b): within_pair(scores_NK, labels_N, scores.pair(a, b))[1] for a, b in pairs},
            clip_top1=scores.clip_accuracy(), num_views=scores.num_views, by_clips=scores.accuracy_by_clips(),
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class ModelResult:
    """A model's runs, pooled over folds, one `Answers` a seed; all seeds scored the same videos."""

    name: str
    runs: tuple[Run, ...]
    answers: tuple[Answers, ...]
    cost: dict[str, Any]
    speed: dict[str, Any] | None
    """Speed and memory by `muybridge measure RUN`; None: not measured."""
    recipe: Recipe
    """The first run's."""
    axes: Mapping[str, Any]
    """Axes by which a study tells this row from others; empty without a study."""
    classes: tuple[str, ...]
    diagnosed: FrameOrders | None
    """None where none of its seeds was diagnosed on all test videos."""

    @property
    def model(self) -> str:
        """The network's name."""
        return self.recipe.model.name

    @property
    def method(self) -> str:
        """Name of the method, e.g. tsm."""
        return method_and_backbone(self.model)[0]

    @property
    def backbone(self) -> str:
        """Name of the image network, e.g. resnet50; empty for a network of its own kind."""
        return method_and_backbone(self.model)[1]

    @property
    def num_seeds(self) -> int:
        """Number of seeds."""
        return len(self.answers)

    @property
    def num_videos(self) -> int:
        """Number of test videos."""
        return len(self.answers[0].ids_N)

    @property
    def labels_N(self) -> np.ndarray:
        """(N,) class indices."""
        return self.answers[0].labels_N

    @property
    def groups_N(self) -> np.ndarray:
        """(N,) groups; the empty string for a video without one."""
        return self.answers[0].groups_N

    @cached_property
    def correct_SN(self) -> np.ndarray:
        """(S,N) bool."""
        return np.stack([answers.correct_N for answers in self.answers])

    @cached_property
    def accuracy(self) -> Interval:
        """Video accuracy."""
        return accuracy_interval(self.correct_SN, self.groups_N)

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration over the answers of all seeds."""
        return calibration(np.stack([answers.confidence_N for answers in self.answers]), self.correct_SN)

    @property
    def clip_accuracy(self) -> float:
        """Clip accuracy, mean over seeds."""
        return float(np.mean([answers.clip_top1 for answers in self.answers]))

    @cached_property
    def by_clips(self) -> dict[int, float]:
        """Video accuracy with fewer clips, mean over seeds."""
        common = set.intersection(*(set(answers.by_clips) for answers in self.answers))
        return {m: float(np.mean([answers.by_clips[m] for answers in self.answers])) for m in sorted(common)}

    @cached_property
    def class_accuracy_K(self) -> np.ndarray:
        """Accuracy of each class, mean over seeds; NaN for a class without test videos."""
        return class_accuracies(self.correct_SN.mean(0), self.labels_N, len(self.classes))

    @property
    def mean_class(self) -> float:
        """Mean of the accuracies of the classes that have test videos."""
        return mean_class(self.class_accuracy_K)

    @cached_property
    def confusion(self) -> np.ndarray:
        """(K,K) counts, summed over seeds: rows are true classes."""
        counts_SKK = [
            confusion_counts(answers.labels_N, answers.predicted_N, len(self.classes)) for answers in self.answers
        ]
        counts_KK: np.ndarray = np.sum(counts_SKK, axis=0)
        return counts_KK

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Optimizer steps of each run."""
        return tuple(run.result()["steps"] for run in self.runs)

    @property
    def epochs(self) -> tuple[float, ...]:
        """Passes over the training videos, by each run's own count of steps an epoch."""
        return tuple(steps / run.steps_per_epoch() for steps, run in zip(self.steps, self.runs, strict=True))

    @cached_property
    def train_hours(self) -> tuple[float, ...]:
        """Hours of training of each run, validation not counted."""
        return tuple(sum(line["train_seconds"] for line in run.timing()) / 3600 for run in self.runs)

    @cached_property
    def train_clips_per_s(self) -> float | None:
        """Training speed: median over epochs and runs, on the machine that trained; None: not measured."""
        rates = [line["train_clips_per_s"] for run in self.runs for line in run.timing()]
        return float(median(rates)) if rates else None

    def within_pairs(self, pairs: Sequence[Pair], looks: int = 1) -> Interval:
        """Two-class accuracy over the videos of all pairs.

        `looks`: number of such intervals that hold together with 95 %.
        """
        correct_SN = np.stack([np.concatenate([answers.within[pair] for pair in pairs]) for answers in self.answers])
        chosen = [np.flatnonzero(self._of_classes(pair)) for pair in pairs]
        return accuracy_interval(correct_SN, self.groups_N[np.concatenate(chosen)], 1 - (1 - CONFIDENCE) / looks)

    def outside_pairs(self, pairs: Sequence[Pair]) -> Interval | None:
        """Accuracy on the videos of the classes that are in no pair; None without such videos."""
        rest_N = ~self._of_classes([name for pair in pairs for name in pair])
        if not rest_N.any():
            return None
        return accuracy_interval(self.correct_SN[:, rest_N], self.groups_N[rest_N])

    def _of_classes(self, names: Sequence[str]) -> np.ndarray:
        """(N,) bool."""
        is_named_N: np.ndarray = np.isin(self.labels_N, [self.classes.index(name) for name in names])
        return is_named_N

    def as_json(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Entry of this row in report.json."""
        value: dict[str, Any] = {
            "model": self.name, "method": self.method, "backbone": self.backbone, "axes": dict(self.axes),
            "runs": [str(run.path) for run in self.runs], "seeds": self.num_seeds, "videos": self.num_videos,
            "views": self.answers[0].num_views,
            "video_top1": self.accuracy.value, "low": self.accuracy.low, "high": self.accuracy.high,
            "interval": self.accuracy.method, "of_seeds": self.correct_SN.mean(1).tolist(),
            "clip_top1": self.clip_accuracy, "mean_class": self.mean_class,
            "calibration_error": self.calibration.error, "overconfidence": self.calibration.overconfidence,
            "params": self.cost["params"], "conv_macs": self.cost["conv_macs"], "macs": self.cost["macs"],
            "train_clips_per_s": self.train_clips_per_s, "speed": self.speed, "steps": list(self.steps),
            "epochs": list(self.epochs), "train_hours": list(self.train_hours),
            "calibration_bins": [list(one) for one in self.calibration.bins],
            "class_accuracy": {
                name: float(value)
                for name, value in zip(self.classes, self.class_accuracy_K, strict=True)
                if np.isfinite(value)
            },
            "confusion": [
                [self.classes[i], self.classes[j], int(self.confusion[i, j])] for i, j in np.argwhere(self.confusion).tolist()
            ],
            "diagnosis": None if self.diagnosed is None else self.diagnosed.as_json(),
            "by_clips": {str(clips): value for clips, value in self.by_clips.items()},
        }  # fmt: skip
        if pairs:
            value["pairs"] = {f"{a}/{b}": self.within_pairs([(a, b)]).value for a, b in pairs}
            within = self.within_pairs(pairs)
            value |= {"within_pairs": within.value, "within_low": within.low, "within_high": within.high}
            outside = self.outside_pairs(pairs)
            value["outside_pairs"] = None if outside is None else outside.value
        return value


def method_and_backbone(model: str) -> tuple[str, str]:
    """Names of method and backbone: tam, resnet50 of tam_resnet50; tsm, timm:densenet121 of tsm@timm:densenet121.

    A user's network has no backbone.
    """
    method, at, brought = model.partition("@")
    if at:
        return method, brought
    match = re.fullmatch(r"(\w+?)_((?:resnet|inception|vgg)\w*)", model)
    return (match[1], match[2]) if match else (model, "")


def rows_of(
    finished: Sequence[Run], *, study: StudyRecord | None, notes: list[str]
) -> tuple[list[ModelResult], dict[Run, Recipe], dict[Run, RunRecord]]:
    """Rows of a comparison, one a setting, and each run's recipe and record.

    What is left out is added to `notes`. Raises UserError for runs that cannot be pooled.
    """
    varies = {} if study is None else study.varies
    records = {run: _record(run, study) for run in finished}
    recipes = {run: _with_one_start(run.recipe(), records[run]) for run in finished}
    settings: dict[Any, list[Run]] = {}
    for run in finished:
        axes = tuple(sorted((axis, value) for axis, value in records[run].axes.items() if axis not in REPEATED))
        settings.setdefault((axes, _apart_from_repeats(recipes[run], varies)), []).append(run)
    rows = list(settings.values())
    axes_of_rows = [_row_axes(records[of_setting[0]]) for of_setting in rows]
    names = _row_names([recipes[of_setting[0]] for of_setting in rows], axes_of_rows)
    pairs = [(str(a), str(b)) for a, b in finished[0].dataset()["reversed_pairs"]]
    models = [
        _model(name, of_setting, axes, recipes, pairs, notes)
        for name, of_setting, axes in zip(names, rows, axes_of_rows, strict=True)
    ]
    return models, recipes, records


def _record(run: Run, study: StudyRecord | None) -> RunRecord:
    """Record of a run in its study; an empty one for a run that is not the study's."""
    is_of_study = study is not None and run.path.resolve() == study.run(run.name).path.resolve()
    return study.runs.get(run.name, RunRecord()) if study is not None and is_of_study else RunRecord()


def _with_one_start(recipe: Recipe, record: RunRecord) -> Recipe:
    """Recipe whose start, a run of the same study, is one start for all seeds and folds."""
    if record.starts_from is None:
        return recipe
    return replace(recipe, {"model.pretrained": OTHER_RUN, "model.pretrained_sha256": None})


def _apart_from_repeats(recipe: Recipe, varies: Mapping[str, Sequence[str]]) -> str:
    """Fingerprint that all seeds and folds of one setting share."""
    repeated = {"seed", "data.fold"}.union(*(varies.get(axis, ()) for axis in REPEATED))
    fresh = Recipe()
    return fingerprint(replace(recipe, {name: value_of(fresh, name) for name in repeated}))


def _row_axes(record: RunRecord) -> dict[str, Any]:
    return {axis: value for axis, value in record.axes.items() if axis not in REPEATED}


def _row_names(settings: list[Recipe], axes_of_rows: list[dict[str, Any]]) -> list[str]:
    """Names of rows: the model's.

    Where settings share one: with the axes by which they differ, or, if these are the same, too, with the fields.
    """
    names = []
    for setting, axes in zip(settings, axes_of_rows, strict=True):
        rivals = [
            (other, others)
            for other, others in zip(settings, axes_of_rows, strict=True)
            if other.model.name == setting.model.name
        ]
        varied = {axis: axes.get(axis) for axis in axes if any(others.get(axis) != axes[axis] for _, others in rivals)}
        named_by = {"seed", "data.fold"} | ({"data.manifest"} if setting.data.sha256 else set())
        fields = {name for other, others in rivals if others == axes for name in diff(setting, other)} - named_by
        values = [f"{axis}={_short(value)}" for axis, value in varied.items()]
        values += [f"{name.rsplit('.', 1)[-1]}={_short(value_of(setting, name))}" for name in sorted(fields)]
        names.append(setting.model.name + (f" ({', '.join(values)})" if values else ""))
    return names


def _model(
    name: str,
    runs: list[Run],
    axes: Mapping[str, Any],
    recipes: Mapping[Run, Recipe],
    pairs: Sequence[Pair],
    notes: list[str],
) -> ModelResult:
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(recipes[run].seed, []).append(run)
    pooled: dict[int, Answers] = {}
    for seed, of_seed in sorted(by_seed.items()):
        folds = Counter(recipes[run].data.fold for run in of_seed)
        twice = [run for run in of_seed if folds[recipes[run].data.fold] > 1]
        if twice:
            raise UserError(
                f"{twice[0].path}: it is the same run as {twice[1].path} (both are {name} of seed {seed}). Leave one "
                "out"
            )
        parts = [run.scores("test") for run in of_seed]
        try:
            pooled[seed] = Answers.of(concatenate(parts), pairs)
        except UserError as error:
            raise UserError(f"{of_seed[0].scores_file('test')}: {error}") from None
        except ValueError as error:
            paths = ", ".join(str(run.path) for run in of_seed)
            raise UserError(
                f"{paths}: they cannot be pooled as folds of {name}, seed {seed}: {error}. Leave the wrong one out"
            ) from None
    tested = {seed: tuple(answers.ids_N.tolist()) for seed, answers in pooled.items()}
    seeds_of = Counter(tested.values())
    whole = max(seeds_of, key=lambda ids: (len(ids), seeds_of[ids]))
    kept = [seed for seed in pooled if tested[seed] == whole]
    if len(kept) < len(pooled):
        notes.append(
            f"{name}: {len(pooled) - len(kept)} of {len(pooled)} seeds lack folds or videos that others have, and are left out."
        )
    used = [run for seed in kept for run in by_seed[seed]]
    speeds = [speed for run in used if (speed := _optional(run, run.speed, notes)) is not None]
    return ModelResult(
        name, tuple(used), tuple(pooled[seed] for seed in kept), used[0].cost(), speeds[0] if speeds else None,
        recipes[used[0]], axes,
        tuple(used[0].dataset()["classes"]), _diagnosed(name, {seed: by_seed[seed] for seed in kept}, pooled, notes),
    )  # fmt: skip


def _optional(run: Run, read: Callable[[], dict[str, Any] | None], notes: list[str]) -> dict[str, Any] | None:
    """Read a file that a run need not have; a damaged one is noted and left out."""
    try:
        content = read()
        if content is not None and not isinstance(content, dict):
            raise UserError("content: not a JSON object. Restore the file")
        return content
    except UserError as error:
        notes.append(f"{run.name}: left out, as it cannot be read: {error}")
        return None


def _diagnosed(
    name: str, seeds: Mapping[int, Sequence[Run]], answers: Mapping[int, Answers], notes: list[str]
) -> FrameOrders | None:
    """Answers of the seeds whose runs were all diagnosed, on the clips of the test and by the checkpoint that was scored."""
    by_seed: list[FrameOrders] = []
    others = 0
    for seed, runs in seeds.items():
        diagnoses = [_optional(run, run.diagnosis, notes) for run in runs]
        if None in diagnoses:
            continue
        try:
            orders = ["ordered", *dict(diagnoses[0]["largest_change"])]  # type: ignore[index]
            orders_of_seed = FrameOrders.of(
                {order: concatenate([run.diagnosed_scores(order) for run in runs]) for order in orders}, ()
            )
        except (UserError, ValueError, LookupError, TypeError) as error:
            notes.append(f"{name}, seed {seed}: its diagnosis is left out, as it is damaged: {error}")
            continue
        if not _is_of_the_test(orders_of_seed, answers[seed]) or (
            by_seed and orders_of_seed.predicted.keys() != by_seed[0].predicted.keys()
        ):
            others += 1
            continue
        by_seed.append(orders_of_seed)
    if others:
        notes.append(
            f"{name}: {others} of {len(seeds)} seeds were diagnosed on other clips, videos, orders or checkpoints than the "
            "test's; that is left out (muybridge diagnose RUN, without options, is for this report)."
        )
    return FrameOrders.pooled(by_seed) if by_seed else None


def _is_of_the_test(orders: FrameOrders, tested: Answers) -> bool:
    """Whether ordered clips were answered as in the test."""
    return (
        np.array_equal(orders.ids_N, tested.ids_N)
        and np.array_equal(orders.labels_N, tested.labels_N)
        and orders.num_views == tested.num_views
        and float((orders.predicted["ordered"][0] == tested.predicted_N).mean()) >= SAME_ANSWERS
    )


def value_of(recipe: Recipe, name: str) -> Any:
    """Value of a dotted field; None for a model option that this recipe does not give."""
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text[:8] if len(text) == 64 else text  # a hash
