"""TODO."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.analysis.comparison import COMPARED, Comparison
from muybridge.analysis.rows import ModelResult, Pair, rows_of, value_of
from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff
from muybridge.storage.run import Run
from muybridge.storage.study import StudyRecord
from muybridge.text import listed, plural


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


def compared_study(record: StudyRecord) -> dict[str, Comparison]:
    """The comparison of each of a study's data sets that has a finished run, by the set's name. Raises UserError where
    there is none."""
    begun = {
        name: of_set for name, of_set in record.sets.items() if any(record.run(run).is_finished for run in of_set.runs)
    }
    found = [
        compared([record.run(run) for run in of_set.runs], study=record, notes=of_set.notes)
        for of_set in (begun or record.sets).values()
    ]
    return {name or comparison.data: comparison for name, comparison in zip(begun, found, strict=True)}


def compared_runs(runs: Sequence[Run]) -> dict[str, Comparison]:
    """Runs from anywhere, those of the same classes side by side: a comparison each, by the name of the data set. Raises
    UserError where no run is finished."""
    finished = [run for run in runs if run.is_finished]
    by_classes: dict[tuple[str, ...], list[Run]] = {}
    for run in finished or runs[:1]:
        by_classes.setdefault(tuple(run.dataset()["classes"]), []).append(run)
    unfinished = [run for run in runs if run not in finished]
    found: dict[str, Comparison] = {}
    for of_classes in by_classes.values():
        comparison = compared([*of_classes, *(unfinished if not found else [])])
        name, number = comparison.data, 1
        while name in found:
            number += 1
            name = f"{comparison.data} ({number})"
        found[name] = comparison
    return found


def compared(runs: Sequence[Run], *, study: StudyRecord | None = None, notes: Sequence[str] = ()) -> Comparison:
    """`study`: what is known of runs that are its own. Raises UserError where no run is finished, or where runs were tested
    on different classes."""
    runs = list({run.path.resolve(): run for run in runs}.values())
    finished = [run for run in runs if run.is_finished and (run.path / "scores" / "test.npz").exists()]
    said = list(notes)
    for is_finished, why in ((False, "Not finished"), (True, "Without test scores")):
        left_out = [run.name for run in runs if run not in finished and run.is_finished is is_finished]
        if left_out:
            said.append(f"{why}, and left out: {listed(left_out)}.")
    if not finished:
        each = [f"{run.path} ({'no scores/test.npz' if run.is_finished else 'no result.json'})" for run in runs]
        raise UserError(
            f"None of these runs is finished with test scores: {', '.join(each)}. A run that is not finished goes on with "
            "`muybridge train --resume RUN`; one whose set has no test split has no test scores"
        )
    first = finished[0].dataset()
    for run in finished:
        if run.dataset()["classes"] != first["classes"]:
            raise UserError(f"{run.path} and {finished[0].path} have different classes and cannot be compared")
    varies = {} if study is None else study.varies
    models, recipes, known = rows_of(finished, study=study, notes=said)
    models.sort(key=lambda model: -model.accuracy.value)
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
        if _follows([value_of(recipe, name) for recipe in recipes.values()], axes_of_runs, _axes_that_set(name, varies))
    }
    made = Comparison(
        models=tuple(models),
        classes=tuple(first["classes"]),
        pairs=_tested_pairs(first["reversed_pairs"], models, said),
        protocol=recipes[finished[0]],
        differences={name: values for name, values in differences.items() if name not in on_purpose},
        varied={name: values for name, values in differences.items() if name in on_purpose},
        notes=(),
    )
    tested = {model.num_videos for model in models}
    shared = len(made.common[0])
    by_name = [set(model.answers[0].ids_N.tolist()) for model in models]
    relabelled = len(by_name[0].intersection(*by_name[1:])) - shared
    if relabelled:
        said.append(
            f"Not all runs have the same label for {plural(relabelled, 'test video')} of the same name: these are left out "
            "where pairs are told apart."
        )
    if not made.common_groups[1]:
        said.append(
            "Not all runs know the same sources (groups) of the videos: pairs are told apart by those of the run that has fewest."
        )
    if tested != {shared + relabelled}:
        said.append(
            f"They were not tested on the same videos: of {min(tested)} to {max(tested)} test videos {shared} are common to all. "
            "Pairs are told apart on these; all other figures are of all that each was tested on."
        )
    return replace(made, notes=tuple(said))


def _differences(recipes: list[Recipe]) -> dict[str, list[Any]]:
    names = {name for recipe in recipes for name in diff(recipes[0], recipe)} - COMPARED
    if all(recipe.data.sha256 == recipes[0].data.sha256 is not None for recipe in recipes):
        names -= {"data.manifest"}  # the same content, wherever it lies
    found: dict[str, list[Any]] = {name: [] for name in sorted(names)}
    for name, values in found.items():
        for recipe in recipes:
            if (value := value_of(recipe, name)) not in values:
                values.append(value)
    return found


def _axes_that_set(name: str, varies: Mapping[str, Sequence[str]]) -> list[str]:
    return [axis for axis, fields in varies.items() if name in fields]


def _follows(values: Sequence[Any], axes_of_runs: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> bool:
    """Does a field go by these axes alone: has it one value wherever they agree?"""
    by_axes: dict[Any, Any] = {}
    for value, of_run in zip(values, axes_of_runs, strict=True):
        if by_axes.setdefault(tuple(of_run.get(axis) for axis in axes), value) != value:
            return False
    return True


def _tested_pairs(pairs: Sequence[Sequence[str]], models: Sequence[ModelResult], notes: list[str]) -> tuple[Pair, ...]:
    seen = [{model.classes[label] for label in np.unique(model.labels_N)} for model in models]
    tested = tuple((a, b) for a, b in pairs if all(a in classes and b in classes for classes in seen))
    if len(tested) < len(pairs):
        missing = [f"{a} / {b}" for a, b in pairs if (a, b) not in tested]
        notes.append(f"Without test videos of both classes, and left out as time-reversed pairs: {listed(missing)}.")
    return tested
