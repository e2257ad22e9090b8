"""Names of a study's runs, and the record that study.json keeps of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.analysis.rows import REPEATED
from muybridge.recipe import Recipe
from muybridge.storage import searches
from muybridge.storage.study import STREAM, RunRecord, SetRecord, StudyRecord
from muybridge.studies.plan import Plan, data_name, repeat_name, run_name
from muybridge.studies.search import notes
from muybridge.studies.workplace import begun


def named(plan: Plan, out: Path) -> Plan:
    """The plan with the names that its settings have in this study already.

    A name that another setting has gets the data set's name in front, which a plan of one set leaves out.
    """
    records = StudyRecord.load(out).runs if (out / "study.json").exists() else {}
    axes_of = {name: records[name].axes for name in records if records[name].axes}
    for name, run in begun(out).items():
        axes_of.setdefault(name, _axes_of(run.recipe()))
    taken: dict[str, dict[str, Any]] = {}  # by the name without seed and fold
    for name, axes in axes_of.items():
        taken.setdefault(_stem(name, axes)[0], _apart_from_repeats(axes))
    names = {}
    for name, planned in plan.runs.items():
        stem, repeat = _stem(name, planned.axes)
        axes = _apart_from_repeats(planned.axes)
        if stem in taken and taken[stem].get("data") == axes.get("data"):
            continue
        same = [other for other, theirs in taken.items() if theirs == axes]
        if same:
            names[name] = same[0] + repeat
        elif stem in taken:
            names[name] = run_name(str(axes.get("data", "")), stem) + repeat
    return plan.renamed(names)


def _stem(name: str, axes: Mapping[str, Any]) -> tuple[str, str]:
    """A run's name without seed and fold, and these."""
    repeat = "" if "seed" not in axes else repeat_name("", axes["seed"], axes.get("fold"))
    return (name.removesuffix(repeat), repeat) if repeat and name.endswith(repeat) else (name, "")


def _apart_from_repeats(axes: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: value for axis, value in axes.items() if axis not in REPEATED}


def _axes_of(recipe: Recipe) -> dict[str, Any]:
    """Axes of a run that was made before studies kept them: models were compared, and nothing else."""
    axes = {"data": data_name(recipe.data.manifest), "model": recipe.model.name, "seed": recipe.seed}
    return axes if recipe.data.fold is None else axes | {"fold": recipe.data.fold}


def study_record(plan: Plan, out: Path) -> StudyRecord:
    """The record of the plan's runs, and of the finished runs of earlier calls."""
    earlier = StudyRecord.load(out) if (out / "study.json").exists() else StudyRecord(out)
    kept = {
        name: record if record.axes else RunRecord(_axes_of(earlier.run(name).recipe()))
        for name, record in earlier.runs.items()
        if name not in plan.runs and earlier.run(name).is_finished
    }
    runs = kept | {name: RunRecord(dict(planned.axes), planned.starts_from) for name, planned in plan.runs.items()}
    varies = {
        axis: tuple(dict.fromkeys((*earlier.varies.get(axis, ()), *plan.varies.get(axis, ()))))
        for axis in dict.fromkeys(axis for record in runs.values() for axis in record.axes)
    }
    sets: dict[str, list[str]] = {}
    for name, record in runs.items():
        recipe = plan.runs[name].recipe if name in plan.runs else earlier.run(name).recipe()
        of_streams = record.axes.get("data") if STREAM in record.axes else None  # all are of the first one's set
        sets.setdefault(str(of_streams or data_name(recipe.data.manifest)), []).append(name)
    set_records, known = {}, searches.load(out)
    for called, names in sets.items():
        recipes = {name: plan.runs[name].recipe if name in plan.runs else earlier.run(name).recipe() for name in names}
        set_records[called] = SetRecord(tuple(names), tuple(notes(known, called, recipes)))
    return StudyRecord(out, plan.title, runs, varies, set_records)
