"""Further evaluations of a row: those that its runs keep (`evaluate --keep`), pooled over seeds and folds as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from muybridge.analysis.answers import Answers, OwnEvaluation, weighing
from muybridge.analysis.statistics import Sample, Verdict, judged, paired_difference
from muybridge.errors import UserError
from muybridge.storage import evaluations
from muybridge.storage.evaluations import Kept
from muybridge.storage.run import Run
from muybridge.text import plural

IN_THE_VIEWS = ("evaluation.num_clips", "evaluation.num_crops", "evaluation.size", "clip.size", "clip.sampling")
"""Fields that the words on views tell."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Further(OwnEvaluation):
    """A further evaluation of a row. It is in no ranking, letters or verdicts on pairs."""

    own: OwnEvaluation = field(repr=False)
    """The row's evaluation of its own."""
    changes: Mapping[str, Any]
    """Fields that differ from the row's recipe, and `checkpoint`, by their values here."""

    @cached_property
    def difference(self) -> Verdict | None:
        """Accuracy minus that of the row's own evaluation, on the same videos; None where these are others."""
        own, mine = self.own.answers[0], self.answers[0]
        is_same = np.array_equal(own.ids_N, mine.ids_N) and np.array_equal(own.split_N, mine.split_N)
        if not (is_same and np.array_equal(own.labels_N, mine.labels_N)):
            return None
        weighed = weighing(self.split_N, self.labels_N)
        here, there = (Sample.of(one.correct_SN, self.units_N, *weighed) for one in (self, self.own))
        return judged([paired_difference(here, there)])[0]

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        difference = self.difference
        return {
            "name": self.name, "split": self.split, "changes": dict(self.changes), **self.metrics_as_json(),
            "minus_own": None if difference is None
            else {"difference": difference.difference.value, "low": difference.low, "high": difference.high},
        }  # fmt: skip


def views_words(evaluated: OwnEvaluation) -> str:
    """Views of an evaluation: "10 x 3 views of 256, dense"."""
    e, clip = evaluated.recipe.evaluation, evaluated.recipe.clip
    return f"{e.num_clips} x {e.num_crops} views of {evaluated.recipe.test_size}" + (
        ", dense" if clip.sampling == "dense" else ""
    )


def further_of(own: OwnEvaluation, runs_by_seed: Sequence[Sequence[Run]], notes: list[str]) -> tuple[Further, ...]:
    """Further evaluations that all runs of a row keep. `runs_by_seed`: the runs of each seed, a run a fold.

    What only some runs keep, or what cannot be read, is added to `notes` and left out.
    """
    runs = [run for of_seed in runs_by_seed for run in of_seed]
    kept: dict[str, dict[Run, Kept]] = {}
    for run in runs:
        for name in evaluations.names(run):
            try:
                of_run = evaluations.kept(run, name)
            except UserError as error:
                notes.append(f"{run.name}: an evaluation is left out, as it cannot be read: {error}")
                continue
            if not of_run.unknown:
                kept.setdefault(name, {})[run] = of_run
    found = []
    for name, by_run in sorted(kept.items()):
        if len(by_run) < len(runs):
            notes.append(
                f"{own.name}: the evaluation {name} is left out, as {len(by_run)} of {plural(len(runs), 'run')} keep it."
            )
            continue
        first = by_run[runs[0]]
        try:
            scores_of = {run: of_run.scores() for run, of_run in by_run.items()}
            answers = tuple(Answers.pooled(seed, scores_of.__getitem__) for seed in runs_by_seed)
            if any(not np.array_equal(one.ids_N, answers[0].ids_N) for one in answers):
                raise UserError(f"{first.scores_file}: seeds scored other videos. Evaluate all seeds again")
        except (UserError, ValueError) as error:
            notes.append(f"{own.name}: the evaluation {name} is left out, as it cannot be read: {error}")
            continue
        changes = dict(first.changes)
        if first.checkpoint != own.recipe.evaluation.checkpoint:
            changes["checkpoint"] = first.checkpoint
        found.append(Further(
            name=own.name, answers=answers, recipe=first.recipe, cost=dict(first.cost), classes=own.classes,
            split=first.split, own=own, changes=changes,
        ))  # fmt: skip
    return tuple(_named(one) for one in found)


def _named(further: Further) -> Further:
    """The evaluation with its name: the row's, its views, and whatever else differs."""
    others = {name: value for name, value in further.changes.items() if name not in IN_THE_VIEWS}
    words = [f"{name.rpartition('.')[2]}={value}" for name, value in sorted(others.items())]
    if further.split != "test":
        words.append(f"on {further.split}")
    return replace(further, name=", ".join([f"{further.name}, {views_words(further)}", *words]))
