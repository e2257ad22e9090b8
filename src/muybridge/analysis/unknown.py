"""Clips of none of a model's classes: how well its sureness tells them from clips of its test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from muybridge.analysis.coverage import ToldApart, mean_told_apart, told_apart
from muybridge.errors import UserError
from muybridge.storage import evaluations
from muybridge.storage.calibration import Calibrated
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores
from muybridge.text import plural


@dataclass(frozen=True)
class Unknown:
    """Clips of no class of one data set, as the runs of a row are sure of them."""

    data: str
    videos: int
    of_runs: tuple[ToldApart, ...]
    refused: float | None
    """Share that is answered "unknown", mean over runs; None where a run has no threshold."""
    refused_known: float | None
    """The same share of the clips of known classes."""

    @property
    def apart(self) -> ToldApart:
        """Mean over runs."""
        return mean_told_apart(self.of_runs)

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        return {
            "data": self.data, "videos": self.videos, **self.apart.as_json(), "refused": self.refused,
            "refused_known": self.refused_known, "auroc_of_runs": [one.auroc for one in self.of_runs],
        }  # fmt: skip


def unknown_by(runs: Sequence[Run], scores: Sequence[Scores], *, data: str) -> Unknown:
    """Sureness of runs about clips of no class. `scores`: of these clips, by each run. Raises UserError."""
    of_runs, refused, refused_known = [], [], []
    for run, of_run in zip(runs, scores, strict=True):
        calibrated = Calibrated.of(run)
        known_N, unknown_M = (
            calibrated.probabilities(one.video_probabilities()).max(1) for one in (known_scores(run), of_run)
        )
        of_runs.append(told_apart(known_N, unknown_M))
        if calibrated.threshold:
            refused.append(float((unknown_M < calibrated.threshold).mean()))
            refused_known.append(float((known_N < calibrated.threshold).mean()))
    has_thresholds = len(refused) == len(runs)
    return Unknown(
        data, len(scores[0].ids_N), tuple(of_runs), float(np.mean(refused)) if has_thresholds else None,
        float(np.mean(refused_known)) if has_thresholds else None,
    )  # fmt: skip


def known_scores(run: Run) -> Scores:
    """Scores of clips of the run's classes that it was not trained on: its test, or val without one."""
    return run.scores("test" if run.has_test_scores else "val")


def unknown_of(runs: Sequence[Run], name: str, notes: list[str]) -> tuple[Unknown, ...]:
    """Clips of no class that all runs of a row keep, a data set each. `name`: the row's.

    What only some runs keep, or what cannot be read, is added to `notes` and left out.
    """
    kept: dict[str, list[evaluations.Kept]] = {}
    for run in runs:
        for of_run in evaluations.names(run):
            try:
                one = evaluations.kept(run, of_run)
            except UserError:  # noted by `further_of`
                continue
            if one.unknown:
                kept.setdefault(of_run, []).append(one)
    found = []
    for evaluation, by_run in sorted(kept.items()):
        if len(by_run) < len(runs):
            told = f"as {len(by_run)} of {plural(len(runs), 'run')} keep it."
            notes.append(f"{name}: the evaluation {evaluation} is left out, {told}")
            continue
        try:
            found.append(unknown_by(runs, [one.scores() for one in by_run], data=by_run[0].unknown))
        except UserError as error:
            notes.append(f"{name}: the evaluation {evaluation} is left out, as it cannot be read: {error}")
    return tuple(found)
