"""Rows of a comparison: finished runs, pooled over folds and lined up over seeds.

Runs whose recipes agree in all but seed and fold are one row: their folds are joined, their seeds averaged. Two settings
of one model are two rows, and never pass for seeds of each other. Where a study says by which axes its runs differ, rows
are named by these. Of the scores of a run a row keeps what its videos were answered, not every view's logits: a hundred
runs fit in memory.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from statistics import median
from typing import Any

import numpy as np

from muybridge.analysis.answers import Answers, Evaluated, official_splits, weighing
from muybridge.analysis.coverage import COVERAGES, RiskCoverage
from muybridge.analysis.curves import ACCURACY, Part, Point, curve
from muybridge.analysis.further import Further, further_of
from muybridge.analysis.statistics import CONFIDENCE, Calibration, Interval, Weighed, accuracy_interval, calibration
from muybridge.analysis.temporal import FrameOrders, Pair
from muybridge.analysis.unknown import Unknown, unknown_of
from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff, fingerprint, replace
from muybridge.storage.calibration import Calibrated, is_of_val_scores
from muybridge.storage.run import Run
from muybridge.storage.scores import concatenate
from muybridge.storage.study import RunRecord, StudyRecord
from muybridge.text import listed, plural

REPEATED = ("seed", "fold")
"""Axes over which a row is pooled."""

SAME_ANSWERS = 0.98
"""Least share of equal answers in diagnosis and test, if they are of the same clips: devices round differently."""

OTHER_RUN = "another run of the study"


@dataclass(frozen=True, repr=False)
class ModelResult(Evaluated):
    """A model's runs, pooled over folds, one `Answers` a seed; all seeds scored the same videos."""

    runs: tuple[Run, ...]
    speed: dict[str, Any] | None
    """Speed and memory by `muybridge measure RUN`; None: not measured."""
    axes: Mapping[str, Any]
    """Axes by which a study tells this row from others; empty without a study."""
    tested: tuple[tuple[Run, np.ndarray], ...]
    """Each fold's run of the first seed, and (K,) its test videos of each class."""
    diagnosed: FrameOrders | None
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
        return self.recipe.model.name

    @property
    def method(self) -> str:
        """Name of the method, e.g. tsm."""
        return method_and_backbone(self.model)[0]

    @property
    def backbone(self) -> str:
        """Name of the image network, e.g. resnet50; empty for a network of its own kind."""
        return method_and_backbone(self.model)[1]

    @cached_property
    def fingerprints(self) -> frozenset[str]:
        """Hashes of its runs' recipes, by which fused scores know their parts; none of fused scores themselves."""
        return frozenset() if self.fused else frozenset(fingerprint(run.recipe()) for run in self.runs)

    @property
    def manifests(self) -> list[str]:
        """Paths of the manifests of its runs; of fused scores those of the parts."""
        of_parts = [str(part["manifest"]) for one in self.fused for part in one["parts"]]
        return list(dict.fromkeys(of_parts or [run.recipe().data.manifest for run in self.runs]))

    @property
    def trained_runs(self) -> tuple[Run, ...]:
        """Its runs; none of fused scores, which no training made."""
        return () if self.fused else self.runs

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration over the answers of all seeds."""
        return calibration(np.stack([answers.confidence_N for answers in self.answers]), self.correct_SN)

    @cached_property
    def calibrated(self) -> Calibration | None:
        """Calibration over the answers of all seeds at the runs' temperatures; None where a run has none."""
        if not self.calibrations:
            return None
        return calibration(np.stack([answers.sure_N for answers in self.answers]), self.correct_SN)

    @property
    def loss(self) -> float:
        """Mean negative log probability of the labels."""
        return _loss([answers.truth_N for answers in self.answers])

    @property
    def loss_calibrated(self) -> float | None:
        """The same at the runs' temperatures; None where a run has none."""
        return _loss([answers.sure_truth_N for answers in self.answers]) if self.calibrations else None

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperature of each run; empty where one is not calibrated."""
        return tuple(of_run["temperature"] for of_run in self.calibrations)

    @cached_property
    def risk_coverage(self) -> RiskCoverage:
        """Errors if only the surest answers are given, at the runs' temperatures where they have any."""
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

    def as_json(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Entry of this row in report.json."""
        value: dict[str, Any] = {
            "model": self.name, "method": self.method, "backbone": self.backbone, "axes": dict(self.axes),
            "runs": [str(run.path) for run in self.runs], "seeds": self.num_seeds, **self.metrics_as_json(),
            "training_clip_top1": self.training_clip_accuracy, "training_video_top1": self.training_accuracy,
            "calibration_error": self.calibration.error, "overconfidence": self.calibration.overconfidence,
            "loss": self.loss, "calibrated": self._calibrated_as_json(),
            "risk_coverage_area": self.risk_coverage.area,
            "accuracy_at_coverage": {str(share): self.risk_coverage.accuracy(share) for share in COVERAGES},
            "unknown": [one.as_json() for one in self.unknown],
            "train_clips_per_s": self.train_clips_per_s, "speed": self.speed, "steps": list(self.steps),
            "epochs": list(self.epochs), "train_hours": list(self.train_hours),
            "curves": [point.as_json() for points in self.curves.values() for point in points],
            "calibration_bins": [list(one) for one in self.calibration.bins],
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


def method_and_backbone(model: str) -> tuple[str, str]:
    """Names of method and backbone: tam, resnet50 of tam_resnet50; tsm, timm:densenet121 of tsm@timm:densenet121.

    A user's network has no backbone.
    """
    method, at, brought = model.partition("@")
    if at:
        return method, brought
    match = re.fullmatch(r"(\w+?)_((?:resnet|inception|vgg|mobilenet|efficientnet)\w*)", model)
    return (match[1], match[2]) if match else (model, "")


def rows_of(
    finished: Sequence[Run], *, study: StudyRecord | None, notes: list[str]
) -> tuple[list[ModelResult], dict[Run, Recipe], dict[Run, RunRecord]]:
    """Rows of a comparison, one a setting, and each run's recipe and record.

    What is left out is added to `notes`. Raises UserError for runs that cannot be pooled.
    """
    records = {run: _record(run, study) for run in finished}
    recipes = {run: _with_one_start(run.recipe(), records[run]) for run in finished}
    settings = settings_of(finished, study=study)
    rows = [of_setting.runs for of_setting in settings]
    axes_of_rows = [of_setting.axes for of_setting in settings]
    names = [of_setting.name for of_setting in settings]
    pairs = [(str(a), str(b)) for a, b in finished[0].dataset()["reversed_pairs"]]
    models = [
        _model(name, of_setting, axes, recipes, pairs, notes)
        for name, of_setting, axes in zip(names, rows, axes_of_rows, strict=True)
    ]
    return models, recipes, records


@dataclass(frozen=True)
class Setting:
    """Runs whose recipes agree in all but seed and fold."""

    name: str
    axes: Mapping[str, Any]
    """Axes by which a study tells it from others, seed and fold left out."""
    digest: str
    """Hash of what its runs share."""
    runs: list[Run]


def settings_of(runs: Sequence[Run], *, study: StudyRecord | None = None) -> list[Setting]:
    """Settings of runs, named by what tells them apart, in the order of their first runs."""
    varies = {} if study is None else study.varies
    by_key: dict[Any, list[Run]] = {}
    for run in runs:
        record = _record(run, study)
        axes = tuple(sorted(_row_axes(record).items()))
        shared = _apart_from_repeats(_with_one_start(run.recipe(), record), varies)
        fused = run.fused()
        by_key.setdefault((axes, shared, None if fused is None else fused["setting"]), []).append(run)
    axes_of = [_row_axes(_record(of_key[0], study)) for of_key in by_key.values()]
    recipes = [_with_one_start(of_key[0].recipe(), _record(of_key[0], study)) for of_key in by_key.values()]
    # fused scores that no study names have one of their own, and a part's recipe
    fused_names = [
        None if axes or (fused := of_key[0].fused()) is None else str(fused["name"])
        for axes, of_key in zip(axes_of, by_key.values(), strict=True)
    ]
    trained = [number for number, name in enumerate(fused_names) if name is None]
    by_recipe = _row_names([recipes[number] for number in trained], [axes_of[number] for number in trained])
    names = dict(zip(trained, by_recipe, strict=True))
    for number, (name, of_key) in enumerate(zip(fused_names, by_key.values(), strict=True)):
        if name is not None:
            names[number] = name if fused_names.count(name) == 1 else f"{name}, {of_key[0].name}"
    return [
        Setting(names[number], axes, sha256(repr(key).encode()).hexdigest()[:16], of_key)
        for number, (axes, (key, of_key)) in enumerate(zip(axes_of, by_key.items(), strict=True))
    ]


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
    calibrations = _calibrations(name, runs, notes)
    calibrated = {run: Calibrated.from_json(kept) for run, kept in calibrations.items()}
    pooled: dict[int, Answers] = {}
    counts_of: dict[Run, np.ndarray] = {}
    for seed, of_seed in sorted(by_seed.items()):
        folds = Counter(recipes[run].data.fold for run in of_seed)
        twice = [run for run in of_seed if folds[recipes[run].data.fold] > 1]
        if twice:
            raise UserError(
                f"{twice[0].path}: it is the same run as {twice[1].path} (both are {name} of seed {seed}). Leave one "
                "out"
            )
        parts = {run: run.scores("test") for run in of_seed}
        counts_of |= {run: part.videos_of_classes() for run, part in parts.items()}
        try:
            pooled[seed] = Answers.pooled(of_seed, parts.__getitem__, pairs, calibrated)
        except UserError as error:
            raise UserError(f"{of_seed[0].scores_file('test')}: {error}") from None
        except ValueError as error:
            paths = ", ".join(str(run.path) for run in of_seed)
            raise UserError(
                f"{paths}: they cannot be pooled as folds of {name}, seed {seed}: {error}. Leave the wrong one out"
            ) from None
    tested = {
        seed: tuple(zip(answers.ids_N.tolist(), answers.split_N.tolist(), strict=True))
        for seed, answers in pooled.items()
    }
    seeds_of = Counter(tested.values())
    whole = max(seeds_of, key=lambda ids: (len(ids), seeds_of[ids]))
    kept = [seed for seed in pooled if tested[seed] == whole]
    if len(kept) < len(pooled):
        notes.append(
            f"{name}: {len(pooled) - len(kept)} of {len(pooled)} seeds lack folds or videos that others have, and are left out."
        )
    used = [run for seed in kept for run in by_seed[seed]]
    of_set, trained = official_splits(used[0]), {recipes[run].data.fold for run in used}
    if of_set and trained != set(of_set):
        notes.append(
            f"{name}: of the official splits {listed(list(map(str, of_set)))} only {listed(sorted(map(str, trained)))} "
            f"{'is' if len(trained) == 1 else 'are'} trained; the literature reports the mean over all."
        )
    speeds = [speed for run in used if (speed := _optional(run, run.speed, notes)) is not None]
    model = ModelResult(
        name=name, answers=tuple(pooled[seed] for seed in kept), recipe=recipes[used[0]], cost=used[0].view_cost(),
        classes=tuple(used[0].dataset()["classes"]), split="test", runs=tuple(used),
        speed=speeds[0] if speeds else None, axes=axes,
        tested=tuple((run, counts_of[run]) for run in by_seed[kept[0]]),
        diagnosed=_diagnosed(name, {seed: by_seed[seed] for seed in kept}, pooled, notes),
        fused=tuple(fused for run in used if (fused := run.fused()) is not None),
    )  # fmt: skip
    return dataclasses.replace(
        model, further=further_of(model, [by_seed[seed] for seed in kept], notes), unknown=unknown_of(used, name, notes),
        calibrations=tuple(calibrations[run] for run in used) if calibrations else (),
    )  # fmt: skip


def _calibrations(name: str, runs: Sequence[Run], notes: list[str]) -> dict[Run, dict[str, Any]]:
    """Content of each run's calibration.json; empty unless all have one, of their val scores. What is left out is noted."""
    kept = {run: content for run in runs if (content := _optional(run, run.calibration, notes)) is not None}
    others = [run for run, content in kept.items() if not is_of_val_scores(run, content)]
    if others:
        notes.append(f"{name}: {others[0].name} is calibrated by other val scores than it has; that is left out.")
    elif kept and len(kept) < len(runs):
        notes.append(f"{name}: {len(kept)} of {plural(len(runs), 'run')} are calibrated; that is left out.")
    return kept if len(kept) == len(runs) and not others else {}


def _loss(truth_SN: Sequence[np.ndarray]) -> float:
    """Mean negative log of probabilities."""
    return float(-np.log(np.maximum(np.stack(truth_SN), 1e-12)).mean())


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
            if official_splits(runs[0]) and len(np.unique(answers[seed].ids_N)) < len(answers[seed].ids_N):
                notes.append(f"{name}: its diagnosis is left out, as its splits test the same videos more than once.")
                break
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
