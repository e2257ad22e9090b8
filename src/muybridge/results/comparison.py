"""What a set of finished runs says, as numbers: one row a model, over its seeds and folds.

Runs whose recipes agree in all but seed and fold are one row: their folds are joined, their seeds averaged. Two settings
of one model are two rows, and never pass for seeds of each other. Where a study says by which axes its runs differ, rows
are named by these, and what the axes set on purpose is no unfairness.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff, fingerprint, replace
from muybridge.results.record import RunRecord, StudyRecord
from muybridge.results.statistics import Interval, accuracy_interval
from muybridge.runs import Run
from muybridge.scores import Scores, concatenate

COMPARED = {"model.name", "seed", "data.fold", "model.source_sha256"}
"""Fields in which the runs of a comparison may differ without a word."""

REPEATED = ("seed", "fold")
"""Axes over which a row is pooled."""

OTHER_RUN = "another run of the study"


@dataclass(frozen=True)
class ModelResult:
    """A model's runs, pooled over folds, one `Scores` a seed; all seeds scored the same videos, in the same order."""

    name: str
    family: str
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]
    cost: dict[str, Any]
    model: str
    """The network's name."""
    axes: Mapping[str, Any]
    """What a study tells this row from others by; none where there is no study."""

    @cached_property
    def correct_SN(self) -> np.ndarray:
        return np.stack([scores.correct() for scores in self.scores])

    @cached_property
    def accuracy(self) -> Interval:
        """Video accuracy."""
        return accuracy_interval(self.correct_SN, self.scores[0].groups_N)

    @property
    def clip_accuracy(self) -> float:
        return float(np.mean([scores.clip_accuracy() for scores in self.scores]))

    @property
    def steps(self) -> tuple[int, ...]:
        """Updates of each run."""
        return tuple(run.result()["steps"] for run in self.runs)

    @property
    def epochs(self) -> tuple[float, ...]:
        """Passes over the training videos of each run, by its own count of steps an epoch."""
        return tuple(steps / _steps_per_epoch(run) for steps, run in zip(self.steps, self.runs, strict=True))

    @property
    def train_hours(self) -> tuple[float, ...]:
        """Of each run, validation not counted."""
        return tuple(sum(line["train_seconds"] for line in run.timing()) / 3600 for run in self.runs)

    @property
    def mean_class(self) -> float:
        return float(np.mean([scores.mean_class_accuracy() for scores in self.scores]))

    @property
    def confusion(self) -> np.ndarray:
        """(K,K) counts, summed over seeds."""
        return np.sum([scores.confusion() for scores in self.scores], axis=0)

    @property
    def train_clips_per_s(self) -> float | None:
        """Median over epochs and runs, on the machine that trained; none where that was not measured."""
        rates = [line["train_clips_per_s"] for run in self.runs for line in run.timing()]
        return float(median(rates)) if rates else None

    def within_pairs(self, pairs: Sequence[Sequence[str]]) -> Interval:
        """Two-class accuracy over the videos of all pairs."""
        parts_S = [[scores.within(a, b) for a, b in pairs] for scores in self.scores]
        correct_SN = np.stack([np.concatenate([right for _, right in parts]) for parts in parts_S])
        videos_N = np.concatenate([chosen for chosen, _ in parts_S[0]])
        return accuracy_interval(correct_SN, self.scores[0].groups_N[videos_N])

    def outside_pairs(self, pairs: Sequence[Sequence[str]]) -> Interval | None:
        """Accuracy on the videos of the classes that are in no pair; none where there are none."""
        scores = self.scores[0]
        paired = [scores.classes.index(name) for pair in pairs for name in pair]
        rest_N = ~np.isin(scores.labels_N, paired)
        if not rest_N.any():
            return None
        return accuracy_interval(self.correct_SN[:, rest_N], scores.groups_N[rest_N])

    def as_json(self, pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
        first = self.scores[0]
        value: dict[str, Any] = {
            "model": self.name, "family": self.family, "axes": dict(self.axes), "runs": [str(run.path) for run in self.runs],
            "seeds": len(self.scores), "videos": len(first.ids_N), "views": first.num_views,
            "video_top1": self.accuracy.value, "low": self.accuracy.low, "high": self.accuracy.high,
            "interval": self.accuracy.method, "clip_top1": self.clip_accuracy, "mean_class": self.mean_class,
            "params": self.cost["params"], "conv_macs": self.cost["conv_macs"], "macs": self.cost["macs"],
            "train_clips_per_s": self.train_clips_per_s, "steps": list(self.steps), "epochs": list(self.epochs),
            "train_hours": list(self.train_hours),
        }  # fmt: skip
        if pairs:
            value["pairs"] = {f"{a}/{b}": self.within_pairs([(a, b)]).value for a, b in pairs}
            value["within_pairs"] = self.within_pairs(pairs).value
            outside = self.outside_pairs(pairs)
            value["outside_pairs"] = None if outside is None else outside.value
        return value


@dataclass(frozen=True)
class Comparison:
    """Models side by side, the best first."""

    models: tuple[ModelResult, ...]
    classes: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    """Pairs of classes that nothing but the direction of time tells apart, as the manifest says; only those with test
    videos."""
    protocol: Recipe
    """The first run's recipe: what all share but for `differences`, `varied`, model, seed and fold."""
    differences: dict[str, list[Any]]
    """Fields, beyond model, seed and fold, in which the runs differ, with every value: an unfair comparison's names."""
    varied: dict[str, list[Any]]
    """Fields in which they differ as the study means them to."""
    notes: tuple[str, ...]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows, as printed and as in the report."""
        header = ["model", "video top-1 [95 %]", "clip top-1", "mean class"]
        if self.pairs:
            header += ["within pairs [95 %]", "other classes"]
        header += ["parameters", "conv MACs", "train clips/s"]
        counts_seeds = any(len(model.scores) > 1 for model in self.models)
        if counts_seeds:
            header.append("seeds")
        rows = []
        for model in self.models:
            row = [model.name, str(model.accuracy), f"{model.clip_accuracy:.3f}", f"{model.mean_class:.3f}"]
            if self.pairs:
                outside = model.outside_pairs(self.pairs)
                row += [str(model.within_pairs(self.pairs)), "–" if outside is None else f"{outside.value:.3f}"]
            cost, rate = model.cost, model.train_clips_per_s
            row += [millions(cost["params"]), giga(cost["conv_macs"]), "–" if rate is None else f"{rate:.0f}"]
            rows.append([*row, str(len(model.scores))] if counts_seeds else row)
        return header, rows

    def findings(self) -> list[str]:
        """What the figures say, in sentences; every word depends on the data."""
        return [*self._who_won(), *self._who_sees_time()]

    def _who_won(self) -> list[str]:
        best = self.models[0].accuracy
        count, views = len(self.models[0].scores[0].ids_N), self.models[0].scores[0].num_views
        tested = f"on {count} test videos, {plural(views, 'view')} each"
        if len(self.models) == 1:
            return [f"{self.models[0].name} has video accuracy {best} {tested} ({best.method})."]
        first = [model for model in self.models if model.accuracy.value == best.value]
        others = self.models[len(first) :]
        low = min(model.accuracy.low for model in first)
        close = [model.name for model in others if model.accuracy.high >= low]
        apart = [model.name for model in others if model.accuracy.high < low]
        if len(first) == 1:
            said = [f"{first[0].name} has the highest video accuracy: {best} {tested} ({best.method})."]
        else:
            names = listed([model.name for model in first])
            said = [f"{names} share the highest video accuracy, {best.value:.3f} {tested}."]
        if close:
            intervals = "Its interval overlaps" if len(first) == 1 else "Their intervals overlap"
            said.append(f"{intervals} with that of {listed(close)}: these figures do not tell them apart.")
        elif len(first) > 1:
            said.append("These figures do not tell them apart.")
        if apart:
            intervals = "Its interval lies" if len(first) == 1 else "Their intervals lie"
            said.append(f"{intervals} above that of {listed(apart)}.")
        seeds = min(len(model.scores) for model in self.models)
        if seeds < 3:
            said.append(
                f"With {plural(seeds, 'seed')} a model this compares these runs; a claim about the models needs at least 3."
            )
        if any(len(model.scores) != seeds for model in self.models):
            counts = listed([f"{model.name} {len(model.scores)}" for model in self.models])
            said.append(f"The numbers of seeds differ ({counts}): means over more seeds are surer.")
        if self.differences:
            fields = listed(list(self.differences))
            said.append(f"The runs differ in more than the model ({fields}): what is seen here may come from that.")
        return said

    def _who_sees_time(self) -> list[str]:
        if not self.pairs:
            return []
        blind: list[str] = []
        seeing: list[str] = []
        reversing: list[str] = []
        for model in self.models:
            found = model.within_pairs(self.pairs)
            where = seeing if found.low > 0.5 else reversing if found.high < 0.25 else blind
            where.append(f"{model.name} ({found.value:.2f})")
        said = []
        if blind:
            verb, intervals = ("is", "interval does") if len(blind) == 1 else ("are", "intervals do")
            said.append(
                f"Asked only which of two time-reversed classes a video shows, {listed(blind)} {verb} no better than a coin: "
                f"the {intervals} not lie above 0.50."
            )
        if seeing:
            verb, intervals = ("tells", "interval lies") if len(seeing) == 1 else ("tell", "intervals lie")
            said.append(f"{listed(seeing)} {verb} the direction of time: the {intervals} above 0.50.")
        if reversing:
            verb, intervals = ("answers", "interval lies") if len(reversing) == 1 else ("answer", "intervals lie")
            said.append(
                f"{listed(reversing)} {verb} with the opposite direction: the {intervals} below 0.25. Labels or clips are "
                "probably reversed between training and test."
            )
        outside = [model.outside_pairs(self.pairs) for model in self.models]
        known = [f"{interval.value:.2f}" for interval in outside if interval is not None]
        if known:
            low, high = min(known), max(known)
            said.append(f"Accuracy on the other classes: {low if low == high else f'{low} to {high}'}.")
        return said

    def as_json(self) -> dict[str, Any]:
        return {
            "models": [model.as_json(self.pairs) for model in self.models],
            "findings": self.findings(),
            "differences": self.differences,
            "varied": self.varied,
            "notes": list(self.notes),
        }


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], Path | None]:
    """Runs named by their folders or by studies' folders; and the study's folder, if one alone is named. Raises
    UserError."""
    paths = list(paths)
    studies = [path for path in paths if (path / "study.json").exists()]
    runs = []
    for path in paths:
        if path in studies:
            record = StudyRecord.load(path)
            runs += [record.run(name) for name in record.runs]
        else:
            runs.append(Run.open(path))
    return runs, paths[0] if paths == studies and len(paths) == 1 else None


def compared(runs: Sequence[Run], *, study: StudyRecord | None = None, notes: Sequence[str] = ()) -> Comparison:
    """`study`: what is known of runs that are its own. Raises UserError where no run is finished, or where runs were tested
    on different classes."""
    runs = list({run.path.resolve(): run for run in runs}.values())
    finished = [run for run in runs if run.is_finished and (run.path / "scores" / "test.npz").exists()]
    said = list(notes)
    left_out = [run.name for run in runs if run not in finished]
    if left_out:
        said.append(f"Not finished, and left out: {listed(left_out)}.")
    if not finished:
        raise UserError("None of these runs is finished with test scores: " + ", ".join(str(run.path) for run in runs))
    first = finished[0].dataset()
    for run in finished:
        if run.dataset()["classes"] != first["classes"]:
            raise UserError(f"{run.path} and {finished[0].path} have different classes and cannot be compared")
    varies = {} if study is None else study.varies
    known = {run: _known(run, study) for run in finished}
    recipes = {run: _own(run.recipe(), known[run]) for run in finished}
    settings: dict[Any, list[Run]] = {}
    for run in finished:
        axes = tuple(sorted((axis, value) for axis, value in known[run].axes.items() if axis not in REPEATED))
        settings.setdefault((axes, _apart_from_repeats(recipes[run], varies)), []).append(run)
    rows = list(settings.values())
    axes_of_rows = [_row_axes(known[of_setting[0]]) for of_setting in rows]
    names = _row_names([recipes[of_setting[0]] for of_setting in rows], axes_of_rows)
    models = [
        _model(name, of_setting, axes, recipes, said)
        for name, of_setting, axes in zip(names, rows, axes_of_rows, strict=True)
    ]
    models.sort(key=lambda model: -model.accuracy.value)
    if len({tuple(model.scores[0].ids_N.tolist()) for model in models}) > 1:
        said.append("The models were not tested on the same videos: compare their figures with care.")
    without = [f"{run.name} ({plural(len(run.skipped()), 'video')})" for run in finished if run.skipped()]
    if without:
        said.append(f"Went on without videos that could not be read (listed in skipped.json): {listed(without)}.")
    machines = {run: run.environment() for run in finished}
    if len({(machine["processor"], machine["device"], machine["threads"]) for machine in machines.values()}) > 1:
        said.append("The runs were not trained on the same machine: their clips/s do not compare.")
    differences = _differences(list(recipes.values()))
    axes_of_runs = [known[run].axes for run in finished]
    on_purpose = {
        name
        for name in differences
        if _follows([_value(recipe, name) for recipe in recipes.values()], axes_of_runs, _axes_that_set(name, varies))
    }
    return Comparison(
        models=tuple(models),
        classes=tuple(first["classes"]),
        pairs=_tested_pairs(first["reversed_pairs"], models, said),
        protocol=recipes[finished[0]],
        differences={name: values for name, values in differences.items() if name not in on_purpose},
        varied={name: values for name, values in differences.items() if name in on_purpose},
        notes=tuple(said),
    )


def _known(run: Run, study: StudyRecord | None) -> RunRecord:
    """What its study knows of a run."""
    own = study is not None and run.path.resolve() == study.run(run.name).path.resolve()
    return study.runs.get(run.name, RunRecord()) if study is not None and own else RunRecord()


def _own(recipe: Recipe, known: RunRecord) -> Recipe:
    """A recipe in which the run of the same study that it starts from is one start, whichever seed's and fold's it is."""
    if known.starts_from is None:
        return recipe
    return replace(recipe, {"model.pretrained": OTHER_RUN, "model.pretrained_sha256": None})


def _apart_from_repeats(recipe: Recipe, varies: Mapping[str, Sequence[str]]) -> str:
    """What all seeds and folds of one setting share."""
    repeated = {"seed", "data.fold"}.union(*(varies.get(axis, ()) for axis in REPEATED))
    fresh = Recipe()
    return fingerprint(replace(recipe, {name: _value(fresh, name) for name in repeated}))


def _row_axes(known: RunRecord) -> dict[str, Any]:
    return {axis: value for axis, value in known.axes.items() if axis not in REPEATED}


def _axes_that_set(name: str, varies: Mapping[str, Sequence[str]]) -> list[str]:
    return [axis for axis, fields in varies.items() if name in fields]


def _follows(values: Sequence[Any], axes_of_runs: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> bool:
    """Does a field go by these axes alone: has it one value wherever they agree?"""
    by_axes: dict[Any, Any] = {}
    for value, of_run in zip(values, axes_of_runs, strict=True):
        if by_axes.setdefault(tuple(of_run.get(axis) for axis in axes), value) != value:
            return False
    return True


def _row_names(settings: list[Recipe], axes_of_rows: list[dict[str, Any]]) -> list[str]:
    """The models' names; where settings share one, with the axes by which they differ; where these are the same, too, with
    the fields."""
    names = []
    for setting, axes in zip(settings, axes_of_rows, strict=True):
        rivals = [
            (other, others)
            for other, others in zip(settings, axes_of_rows, strict=True)
            if other.model.name == setting.model.name
        ]
        told = {axis: axes.get(axis) for axis in axes if any(others.get(axis) != axes[axis] for _, others in rivals)}
        named_by = {"seed", "data.fold"} | ({"data.manifest"} if setting.data.sha256 else set())
        fields = {name for other, others in rivals if others == axes for name in diff(setting, other)} - named_by
        values = [f"{axis}={_short(value)}" for axis, value in told.items()]
        values += [f"{name.rsplit('.', 1)[-1]}={_short(_value(setting, name))}" for name in sorted(fields)]
        names.append(setting.model.name + (f" ({', '.join(values)})" if values else ""))
    return names


def _model(
    name: str, runs: list[Run], axes: Mapping[str, Any], recipes: dict[Run, Recipe], notes: list[str]
) -> ModelResult:
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(recipes[run].seed, []).append(run)
    pooled: dict[int, Scores] = {}
    for seed, of_seed in sorted(by_seed.items()):
        try:
            pooled[seed] = _sorted(concatenate([run.scores("test") for run in of_seed]))
        except ValueError as error:
            paths = ", ".join(str(run.path) for run in of_seed)
            raise UserError(f"{paths} cannot be pooled as folds of {name}, seed {seed}: {error}") from None
    tested = {seed: tuple(scores.ids_N.tolist()) for seed, scores in pooled.items()}
    seeds_of = Counter(tested.values())
    whole = max(seeds_of, key=lambda ids: (len(ids), seeds_of[ids]))
    kept = [seed for seed in pooled if tested[seed] == whole]
    if len(kept) < len(pooled):
        notes.append(f"{name}: {len(pooled) - len(kept)} of {len(pooled)} seeds lack folds and are left out.")
    used = [run for seed in kept for run in by_seed[seed]]
    model = recipes[used[0]].model.name
    family = model.split("_")[0]
    scores = tuple(pooled[seed] for seed in kept)
    return ModelResult(name, family, tuple(used), scores, used[0].cost(), model, axes)


def _steps_per_epoch(run: Run) -> int:
    optim = run.recipe().optim
    return optim.steps_per_epoch or -(-run.dataset()["split_sizes"]["train"] // optim.batch_size)


def _tested_pairs(
    pairs: Sequence[Sequence[str]], models: Sequence[ModelResult], notes: list[str]
) -> tuple[tuple[str, str], ...]:
    seen = [{scores.classes[label] for label in np.unique(scores.labels_N)} for m in models for scores in m.scores[:1]]
    tested = tuple((a, b) for a, b in pairs if all(a in classes and b in classes for classes in seen))
    if len(tested) < len(pairs):
        missing = [f"{a} / {b}" for a, b in pairs if (a, b) not in tested]
        notes.append(f"Without test videos of both classes, and left out as time-reversed pairs: {listed(missing)}.")
    return tested


def _sorted(scores: Scores) -> Scores:
    """Videos by id, so that seeds line up."""
    order = np.argsort(scores.ids_N, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return dataclasses.replace(
        scores, ids_N=scores.ids_N[order], labels_N=scores.labels_N[order], groups_N=scores.groups_N[order],
        video_V=rank[scores.video_V],
    )  # fmt: skip


def _differences(recipes: list[Recipe]) -> dict[str, list[Any]]:
    names = {name for recipe in recipes for name in diff(recipes[0], recipe)} - COMPARED
    if all(recipe.data.sha256 == recipes[0].data.sha256 is not None for recipe in recipes):
        names -= {"data.manifest"}  # the same content, wherever it lies
    found: dict[str, list[Any]] = {name: [] for name in sorted(names)}
    for name, values in found.items():
        for recipe in recipes:
            if (value := _value(recipe, name)) not in values:
                values.append(value)
    return found


def _value(recipe: Recipe, name: str) -> Any:
    """A dotted field; none for an option of the model that this recipe does not give."""
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text[:8] if len(text) == 64 else text  # a hash


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"; beyond six, the first five and how many others."""
    if len(names) > 6:
        names = [*names[:5], f"{len(names) - 5} others"]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def millions(count: float) -> str:
    return f"{count / 1e6:.2f} M"


def giga(count: float) -> str:
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"
