"""Comparison of finished runs on one data set: its rows, what can be told apart, and how fair it is.

Models are compared on the same videos, over seeds, corrected for the number of pairs (`statistics.py`); with fewer than
three seeds each, runs are. Where a study says by which axes its runs differ, what the axes set on purpose is not unfair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.analysis.answers import Evaluated, weighing
from muybridge.analysis.baselines import Baselines
from muybridge.analysis.datasets import Dataset
from muybridge.analysis.results import ModelResult, RunsResult
from muybridge.analysis.rows import rows_of, value_of
from muybridge.analysis.searching import Searched, searched_settings
from muybridge.analysis.statistics import (
    SEEDS_OF_A_CLAIM,
    Interval,
    Sample,
    Verdict,
    judged,
    letter_sets,
    paired_difference,
    usual_spread,
)
from muybridge.analysis.temporal import Pair
from muybridge.data.overview import is_uneven
from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff
from muybridge.runtime.shown import Shown, heading, lines, table
from muybridge.storage.run import Run, data_name
from muybridge.storage.searches import load_races
from muybridge.storage.study import StudyRecord
from muybridge.text import giga, listed, millions, nth, plural

MOST_LETTERS = 8
"""Most letters that a reader can keep apart."""

LONGEST_IN_TEXT = 72
"""Most characters of a row's name in a sentence of the verdict; a longer one is said by its place."""

COMPARED = {"model.name", "seed", "data.fold", "model.source_sha256", "model.weights_sha256"}
"""Fields in which the runs of a comparison may differ without a word."""


@dataclass(frozen=True)
class Comparison(Shown):
    """Models side by side on one data set, the best first."""

    models: tuple[ModelResult, ...]
    classes: tuple[str, ...]
    pairs: tuple[Pair, ...]
    """Pairs of classes that nothing but the direction of time tells apart, as the manifest says; only those with test
    videos."""
    data: str
    """Name of the data set: the manifest's, or its folder's where it is called manifest.csv."""
    protocol: Recipe | None
    """The first run's recipe: what all share but for `differences`, `varied`, model, seed and fold. None without a run."""
    differences: dict[str, list[Any]]
    """Fields, beyond model, seed and fold, in which the runs differ, with every value: an unfair comparison's names."""
    varied: dict[str, list[Any]]
    """Fields in which they differ as the study means them to."""
    notes: tuple[str, ...]
    searches: tuple[Searched, ...] = ()
    """Searches that chose fields of the recipes."""
    race: Mapping[str, Any] | None = None
    """The race that decided on numbers of seeds, as race.json has it; None without one."""

    @cached_property
    def of_runs(self) -> tuple[RunsResult, ...]:
        """Rows of muybridge's own runs, the best first; predictions that another tool made are in no such row."""
        return tuple(model for model in self.models if isinstance(model, RunsResult))

    @property
    def dataset(self) -> Dataset:
        """Data set of the best model, of its first fold."""
        return self.models[0].tested[0][0]

    @cached_property
    def about_models(self) -> bool:
        """Whether results hold for models: they have at least three seeds each. Else they hold for these runs."""
        return all(model.num_seeds >= SEEDS_OF_A_CLAIM for model in self.models)

    @property
    def is_mixed(self) -> bool:
        """Whether some pairs of models have enough seeds for a claim, and others have not."""
        return not self.about_models and any(verdict.difference.over_seeds for verdict in self.verdicts.values())

    @cached_property
    def common(self) -> tuple[np.ndarray, ...]:
        """Indices of the test videos that all models were tested on with the same label, by model, in one order."""
        videos_of = [
            list(zip(model.answers[0].ids_N.tolist(), model.split_N.tolist(), model.labels_N.tolist(), strict=True))
            for model in self.models
        ]
        shared = set(videos_of[0]).intersection(*videos_of[1:])
        return tuple(np.flatnonzero([video in shared for video in of]) for of in videos_of)

    @property
    def noun(self) -> str:
        """Name of a row: a model, whose results hold for other seeds, too; a run; or a setting of several runs."""
        alone = all(model.num_seeds == 1 for model in self.models)
        return "model" if self.about_models else "run" if alone else "setting"

    @cached_property
    def common_groups(self) -> tuple[np.ndarray, bool]:
        """(N,) sources of the common videos, and whether all models have these; else the one's whose sources are fewest."""
        groupings = [model.units_N[videos] for model, videos in zip(self.models, self.common, strict=True)]
        fewest = min(groupings, key=lambda of: int((of == "").sum()) + len(set(of.tolist()) - {""}))
        return fewest, all(np.array_equal(of, fewest) for of in groupings)

    @cached_property
    def by_class(self) -> bool:
        """Whether models are compared by the mean over classes, not over videos: the test is uneven."""
        return compares_by_class(self.models)

    def measure(self, evaluated: Evaluated) -> Interval:
        """The accuracy by which models are compared: that of videos, or, of an uneven test, the mean over classes."""
        return evaluated.mean_class_interval if self.by_class else evaluated.accuracy

    def short_name(self, rank: int) -> str:
        """Name of a row for a sentence, distinct and never cut; of a row without a short one, its place: "the first"."""
        return self.short_names[rank]

    @cached_property
    def short_names(self) -> tuple[str, ...]:
        """Names of all rows for sentences."""
        briefs = [model.brief or model.name for model in self.models]
        names = [
            brief if briefs.count(brief) == 1 else model.name for brief, model in zip(briefs, self.models, strict=True)
        ]
        if len(names) == 1:
            return (names[0] if len(names[0]) <= LONGEST_IN_TEXT else "this model",)
        return tuple(name if len(name) <= LONGEST_IN_TEXT else nth(rank + 1) for rank, name in enumerate(names))

    @property
    def measured(self) -> str:
        """Name of that accuracy."""
        return "mean class accuracy" if self.by_class else "video accuracy"

    @cached_property
    def verdicts(self) -> dict[tuple[int, int], Verdict]:
        """Verdict on each pair of models, by their ranks, on the videos that all were tested on.

        Empty without common videos.
        """
        if not len(self.common[0]):
            return {}
        first, videos = self.models[0], self.common[0]
        weighed = weighing(first.split_N[videos], first.labels_N[videos], by_class=self.by_class)
        samples = [
            Sample.of(model.correct_SN[:, videos], self.common_groups[0], *weighed)
            for model, videos in zip(self.models, self.common, strict=True)
        ]
        pairs = list(combinations(range(len(samples)), 2))
        usual = usual_spread(samples)
        verdicts = judged([paired_difference(samples[a], samples[b], usual) for a, b in pairs])
        return dict(zip(pairs, verdicts, strict=True))

    def parts_of(self, rank: int) -> list[int]:
        """Ranks of the rows whose scores are fused in a row, the best first; empty for a row that was trained."""
        of_parts = {part["fingerprint"] for fused in self.models[rank].fused for part in fused["parts"]}
        return [other for other, model in enumerate(self.models) if model.fingerprints & of_parts]

    def missing_parts(self, rank: int) -> list[str]:
        """Names of the settings whose scores are fused in a row, and of which no run is compared here."""
        here = set().union(*(model.fingerprints for model in self.models))
        parts = [part for fused in self.models[rank].fused for part in fused["parts"]]
        present = {part["setting"] for part in parts if part["fingerprint"] in here}
        return list(dict.fromkeys(part["name"] for part in parts if part["setting"] not in present))

    def minus(self, a: int, b: int) -> Verdict | None:
        """Verdict on the accuracy of one row minus that of another, by their ranks; None without common videos."""
        if a < b or (b, a) not in self.verdicts:
            return self.verdicts.get((a, b))
        one = self.verdicts[b, a]
        difference = replace(one.difference, value=-one.difference.value)
        return replace(one, difference=difference, low=-one.high, high=-one.low)

    @cached_property
    def letter_sets(self) -> list[tuple[int, ...]]:
        """Largest sets of models of which no two can be told apart, by their ranks; each has a letter."""
        if not self.verdicts:
            return []
        return letter_sets(len(self.models), [pair for pair, verdict in self.verdicts.items() if verdict.apart])

    def letters(self, rank: int) -> str:
        """Letters of a model: a, b, …; models that share a letter cannot be told apart.

        Where letters would be too many: "best" for models that cannot be told from the best.
        """
        if not self.letter_sets or len(self.letter_sets) > MOST_LETTERS:
            return "best" if rank == 0 or not self.verdicts[0, rank].apart else ""
        return " ".join(self.letter(number) for number, group in enumerate(self.letter_sets) if rank in group)

    @staticmethod
    def letter(number: int) -> str:
        """Letter of a set: a, b, …, z, aa, ab, … by number."""
        more, last = divmod(number, 26)
        return (Comparison.letter(more - 1) if more else "") + chr(97 + last)

    @cached_property
    def baselines(self) -> Baselines:
        """Accuracy of guessing, on the test videos of the best model."""
        return Baselines.of(self.models[0].tested, self.classes)

    def beats_a_guess(self, evaluated: Evaluated, *, looks: int = 1) -> bool:
        """Whether its interval lies above both baselines. `looks`: number of models that are asked at once."""
        interval = self.measure(evaluated) if looks == 1 else evaluated.interval(by_class=self.by_class, looks=looks)
        return interval.low > self.baselines.guess(by_class=self.by_class)

    def baseline_rows(self, header: Sequence[str]) -> list[list[str]]:
        """Lines of the baselines, under the header of a table whose first column names models."""
        rows = []
        for one in self.baselines.both:
            error, f1 = one.kinetics_error, one.macro_f1
            known = {
                "video top-1 [95 %]": f"{one.top1:.3f}", "mean class [95 %]": f"{one.mean_class:.3f}",
                "video top-1": f"{one.top1:.3f}", "mean class": f"{one.mean_class:.3f}",
                **{f"top-{k}": f"{value:.3f}" for k, value in {1: one.top1, **one.top}.items()},
                "top-1, top-5 error": "–" if error is None else f"{error:.1f} %",
                "macro F1": "–" if f1 is None else f"{f1:.3f}",
            }  # fmt: skip
            rows.append([one.name, *(known.get(name, "–") for name in header[1:])])
        return rows

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of the result table, as printed and as in the report, without the baselines."""
        header = ["model", "mean class [95 %]" if self.by_class else "video top-1 [95 %]"]
        if self.verdicts:
            header.append("letter")
        guesses = not all(map(self.beats_a_guess, self.models))
        if guesses:
            header.append("better than a guess")
        further = ["video top-1", "clip top-1"] if self.by_class else ["clip top-1", "mean class"]
        if all(model.clip_accuracy is None for model in self.models):
            further.remove("clip top-1")
        header += further
        if self.pairs:
            header += ["within pairs [95 %]", "other classes"]
        header += ["parameters", "conv MACs", "train clips/s"] * bool(self.of_runs) + ["seeds"]
        rows = []
        for rank, model in enumerate(self.models):
            row = [model.name, str(self.measure(model))]
            if self.verdicts:
                row.append(self.letters(rank))
            if guesses:
                row.append("yes" if self.beats_a_guess(model) else "no")
            values = {
                "video top-1": model.accuracy.value, "clip top-1": model.clip_accuracy, "mean class": model.mean_class,
            }  # fmt: skip
            row += ["–" if (value := values[name]) is None else f"{value:.3f}" for name in further]
            if self.pairs:
                outside = model.outside_pairs(self.pairs)
                row += [str(model.within_pairs(self.pairs)), "–" if outside is None else f"{outside.value:.3f}"]
            if self.of_runs:
                row += _cost_cells(model)
            rows.append([*row, str(model.num_seeds)])
        return header, rows

    def as_rows(self) -> list[dict[str, Any]]:
        """A row a model, the best first: its name, axes of a study, metrics with the interval, cost, seeds."""
        return [
            {
                "model": model.name, "method": model.method, "backbone": model.backbone, **model.axes,
                **{
                    name: value for name, value in model.metrics_as_json().items()
                    if not isinstance(value, dict | list | tuple)
                },
                "seeds": model.num_seeds, "letters": self.letters(rank) if self.verdicts else "",
                "beats_a_guess": self.beats_a_guess(model),
            }
            for rank, model in enumerate(self.models)
        ]  # fmt: skip

    def plot(self, figure: str = "accuracy") -> Any:
        """An Altair chart, by the name that its file has in a report, such as cost-macs.

        Raises UserError for a figure that the report of this comparison has not.
        """
        import muybridge

        return muybridge.plot(self, figure)

    def _repr_html_(self) -> str:
        from muybridge.analysis.findings import findings
        from muybridge.analysis.verdict import verdict_on

        header, rows = self.table()
        verdict = verdict_on(self)
        first = heading(verdict.headline, verdict.recommendation, *filter(None, [verdict.command]))
        said = lines([*findings(self), *self.notes])
        return first + heading(self.data) + table(header, rows + self.baseline_rows(header)) + said

    def as_json(self) -> dict[str, Any]:
        """Entry of this data set in report.json."""
        return {
            "data": self.data,
            "about": "models" if self.about_models else "runs",
            "measure": "mean_class" if self.by_class else "video_top1",
            "models": [
                model.as_json(self.pairs) | {"beats_a_guess": self.beats_a_guess(model)} for model in self.models
            ],
            "baselines": self.baselines.as_json(),
            "dataset": self.dataset.as_json(),
            "verdicts": [
                {
                    "a": self.models[a].name, "b": self.models[b].name, "difference": verdict.difference.value,
                    "low": verdict.low, "high": verdict.high, "p": verdict.p, "apart": verdict.apart,
                    "about": "models" if verdict.difference.over_seeds else "runs",
                }
                for (a, b), verdict in self.verdicts.items()
            ],
            "classes": list(self.classes),
            "groups": [[self.models[rank].name for rank in group] for group in self.letter_sets],
            "differences": self.differences,
            "varied": self.varied,
            "notes": list(self.notes),
            **({"searches": [one.as_json() for one in self.searches]} if self.searches else {}),
            **({} if self.race is None else {"race": dict(self.race)}),
        }  # fmt: skip


def _cost_cells(model: ModelResult) -> list[str]:
    """Cells of a row on its cost, which of predictions that another tool made is not known."""
    if not isinstance(model, RunsResult):
        return ["–"] * 3
    rate = model.train_clips_per_s
    return [millions(model.cost["params"]), giga(model.cost["conv_macs"]), "–" if rate is None else f"{rate:.0f}"]


def find_runs(names: Iterable[str | Path | Run]) -> tuple[list[Run], Path | None]:
    """Runs in folders of runs or studies; and the study's folder, if one alone is named.

    Raises UserError.
    """
    paths = [name.path if isinstance(name, Run) else Path(name) for name in names]
    studies = [path for path in paths if (path / "study.json").exists()]
    runs = []
    for path in paths:
        if path in studies:
            record = StudyRecord.load(path)
            runs += [record.run(name) for name in record.runs]
        else:
            runs.append(Run.open(path, fused=True))
    return runs, paths[0] if paths == studies and len(paths) == 1 else None


def compared_study(record: StudyRecord) -> dict[str, Comparison]:
    """Comparisons of a study's data sets that have a finished run, by the set's name.

    Raises UserError if no run is finished.
    """
    begun = {
        name: of_set for name, of_set in record.sets.items() if any(record.run(run).is_finished for run in of_set.runs)
    }
    comparisons = [
        compared([record.run(run) for run in of_set.runs], study=record, notes=of_set.notes)
        for of_set in (begun or record.sets).values()
    ]
    return {name or comparison.data: comparison for name, comparison in zip(begun, comparisons, strict=True)}


def compared_runs(runs: Sequence[Run]) -> dict[str, Comparison]:
    """Comparisons of runs from anywhere, by the name of the data set: runs of the same classes go together.

    Raises UserError if no run is finished.
    """
    finished = [run for run in runs if run.is_finished]
    by_classes: dict[tuple[str, ...], list[Run]] = {}
    for run in finished or runs[:1]:
        by_classes.setdefault(tuple(run.dataset()["classes"]), []).append(run)
    unfinished = [run for run in runs if run not in finished]
    comparisons: dict[str, Comparison] = {}
    for of_classes in by_classes.values():
        comparison = compared([*of_classes, *(unfinished if not comparisons else [])])
        name, number = comparison.data, 1
        while name in comparisons:
            number += 1
            name = f"{comparison.data} ({number})"
        comparisons[name] = comparison
    return comparisons


def compared(
    runs: Sequence[Run],
    *,
    study: StudyRecord | None = None,
    others: Sequence[ModelResult] = (),
    data: str = "",
    pairs: Sequence[Pair] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare runs on one data set, and `others`: predictions of other tools, in one order with them.

    `study`: record of the study that the runs are part of. `data`, `pairs`: name of the data set and its time-reversed
    pairs where nothing but `others` is compared. Raises UserError if no run is finished with test scores, or if runs were
    tested on different classes.
    """
    runs = list({run.path.resolve(): run for run in runs}.values())
    finished = [run for run in runs if run.is_finished and run.has_test_scores]
    all_notes = list(notes)
    for is_finished, why in ((False, "Not finished"), (True, "Without test scores")):
        left_out = [run.name for run in runs if run not in finished and run.is_finished is is_finished]
        if left_out:
            all_notes.append(f"{why}, and left out: {listed(left_out)}.")
    if not finished and (runs or not others):
        each = [f"{run.path} ({'no scores/test.npz' if run.is_finished else 'no result.json'})" for run in runs]
        raise UserError(
            f"runs: none of these is finished with test scores ({', '.join(each)}). Continue an unfinished one: "
            "muybridge train --resume RUN. For scores, train on a set with a test split"
        )
    protocol: Recipe | None = None
    own: Sequence[RunsResult] = ()
    differences: dict[str, list[Any]] = {}
    on_purpose: set[str] = set()
    if finished:
        first = finished[0].dataset()
        for run in finished:
            if run.dataset()["classes"] != first["classes"]:
                raise UserError(
                    f"{run.path}: its classes are different from those of {finished[0].path}. Compare runs of the same "
                    "classes"
                )
        own, recipes, records = rows_of(finished, study=study, notes=all_notes)
        protocol, pairs = recipes[finished[0]], first["reversed_pairs"]
        data = data_name(protocol.data.manifest)
        without = [f"{run.name} ({plural(len(run.skipped()), 'video')})" for run in finished if run.skipped()]
        if without:
            all_notes.append(
                f"Went on without videos that could not be read (listed in skipped.json): {listed(without)}."
            )
        machines = {run: run.environment() for run in finished}
        if len({(machine["processor"], machine["device"], machine["threads"]) for machine in machines.values()}) > 1:
            all_notes.append("The runs were not trained on the same machine: their clips/s do not compare.")
        differences = _differences(list(recipes.values()))
        varies = {} if study is None else study.varies
        axes_of_runs = [records[run].axes for run in finished]
        on_purpose = {
            name
            for name in differences
            if _follows(
                [value_of(recipe, name) for recipe in recipes.values()], axes_of_runs, _axes_that_set(name, varies)
            )
        }
    models: list[ModelResult] = [*own, *others]
    by_class = compares_by_class(models)
    models.sort(key=lambda model: -(model.mean_class if by_class else model.accuracy.value))
    made = Comparison(
        models=tuple(models),
        classes=models[0].classes,
        pairs=_tested_pairs(pairs, models, all_notes),
        data=data,
        protocol=protocol,
        differences={name: values for name, values in differences.items() if name not in on_purpose},
        varied={name: values for name, values in differences.items() if name in on_purpose},
        notes=(),
        searches=() if study is None else searched_settings(study.path, finished),
        race=None if study is None else load_races(study.path).get(data),
    )
    return replace(made, notes=(*all_notes, *_what_is_common(made, "models" if others else "runs")))


def _what_is_common(made: Comparison, rows: str) -> list[str]:
    """Sentences on videos, labels and sources that not all models share. `rows`: what these are called."""
    notes = []
    tested = {model.num_videos for model in made.models}
    shared = len(made.common[0])
    by_name = [set(model.answers[0].ids_N.tolist()) for model in made.models]
    relabelled = len(by_name[0].intersection(*by_name[1:])) - shared
    if relabelled:
        notes.append(
            f"Not all {rows} have the same label for {plural(relabelled, 'test video')} of the same name: these are left out "
            "of the comparison of pairs."
        )
    if not made.common_groups[1]:
        notes.append(
            f"Not all {rows} know the same sources (groups) of the videos: pairs are compared by those of the {rows[:-1]} that "
            "has fewest."
        )
    if tested != {shared + relabelled}:
        notes.append(
            f"They were not tested on the same videos: of {min(tested)} to {max(tested)} test videos {shared} are common to all. "
            "Pairs are compared on these; all other numbers are of all that each was tested on."
        )
    return notes


def compares_by_class(models: Sequence[Evaluated]) -> bool:
    """Whether the test of any of them is uneven (`muybridge.data.overview.UNEVEN`): then the mean over classes decides."""
    return any(is_uneven(model.videos_K) for model in models)


def _differences(recipes: list[Recipe]) -> dict[str, list[Any]]:
    names = {name for recipe in recipes for name in diff(recipes[0], recipe)} - COMPARED
    if all(recipe.data.sha256 == recipes[0].data.sha256 is not None for recipe in recipes):
        names -= {"data.manifest"}  # the same content, wherever it lies
    varying: dict[str, list[Any]] = {name: [] for name in sorted(names)}
    for name, values in varying.items():
        for recipe in recipes:
            if (value := value_of(recipe, name)) not in values:
                values.append(value)
    return varying


def _axes_that_set(name: str, varies: Mapping[str, Sequence[str]]) -> list[str]:
    return [axis for axis, fields in varies.items() if name in fields]


def _follows(values: Sequence[Any], axes_of_runs: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> bool:
    """Whether these axes determine a field: it has one value wherever they agree."""
    by_axes: dict[Any, Any] = {}
    for value, of_run in zip(values, axes_of_runs, strict=True):
        if by_axes.setdefault(tuple(of_run.get(axis) for axis in axes), value) != value:
            return False
    return True


def _tested_pairs(pairs: Sequence[Sequence[str]], models: Sequence[ModelResult], notes: list[str]) -> tuple[Pair, ...]:
    """Pairs of which both classes have test videos; none where a model has no scores to choose between two by."""
    without = [model.name for model in models if not model.has_scores]
    if pairs and without:
        answer = "gives" if len(without) == 1 else "give"
        notes.append(
            f"Time-reversed pairs are left out, as {listed(without)} {answer} answers alone: to be asked which of two classes "
            "a video shows takes a score for each."
        )
        return ()
    seen = [{model.classes[label] for label in np.unique(model.labels_N)} for model in models]
    tested = tuple((a, b) for a, b in pairs if all(a in classes and b in classes for classes in seen))
    if len(tested) < len(pairs):
        missing = [f"{a} / {b}" for a, b in pairs if (a, b) not in tested]
        notes.append(f"Without test videos of both classes, and left out as time-reversed pairs: {listed(missing)}.")
    return tested
