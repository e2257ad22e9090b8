"""Answers to videos by models that were not trained on them: a study's tests, or a probe over stored features."""

from pathlib import Path

import numpy as np

from muybridge.analysis.comparison import find_runs
from muybridge.analysis.doctor.probe import folds_of, out_of_fold, probabilities
from muybridge.analysis.doctor.shortcuts import units_of
from muybridge.data.doctor.finding import Answers, Case
from muybridge.data.inputs import held_by
from muybridge.data.manifest import Manifest
from muybridge.data.stores import vectors as store
from muybridge.errors import UserError
from muybridge.text import plural


def of_study(manifest: Manifest, study: str | Path) -> Answers:
    """Mean probabilities of a study's finished runs for the videos that each was tested on.

    With folds that is every video. Raises UserError where no run was trained on this manifest.
    """
    runs, _ = find_runs([study])
    tested = [run for run in runs if run.is_finished and run.has_test_scores]
    if not tested:
        raise UserError(f"--study {study}: no run of it is finished and tested. Resume it: muybridge compare")
    row_of = {name: row for row, name in enumerate(manifest.text("id").tolist())}
    sums_NK, counts_N = np.zeros((len(manifest), len(manifest.classes))), np.zeros(len(manifest))
    for run in tested:
        if run.recipe().data.sha256 != manifest.sha256():
            raise UserError(
                f"--study {study}: {run.name} was trained on another manifest, or this one has changed since. Name the "
                "manifest of the study"
            )
        scores = run.scores()
        if scores.classes != manifest.classes or not set(scores.ids_N.tolist()) <= row_of.keys():
            raise UserError(
                f"{run.scores_file('test')}: it is damaged: its classes or videos are not those of {run.name}'s manifest. "
                "Restore it, or evaluate the run again"
            )
        rows = np.array([row_of[name] for name in scores.ids_N.tolist()])
        sums_NK[rows] += scores.video_probabilities()
        counts_N[rows] += 1
    with np.errstate(invalid="ignore"):
        return Answers(sums_NK / counts_N[:, None], f"{plural(len(tested), 'run')} of {study}, tested on them")


def stored(manifest: Manifest, features: str | Path) -> np.ndarray:
    """Mean vector (N,D) of every row of a manifest, of a store of the same videos. Raises UserError, DecodeError."""
    source = Manifest.load(features)
    if held_by(source) is None:
        raise UserError(
            f"--features {features}: it holds videos, not vectors. Make a store: muybridge features SOURCE --data MANIFEST "
            "--out STORE"
        )
    row_of = {name: row for row, name in enumerate(source.text("id").tolist())}
    missing = [name for name in manifest.text("id").tolist() if name not in row_of]
    if missing:
        raise UserError(
            f"--features {features}: it lacks {plural(len(missing), 'video')} of the manifest, the first: {missing[0]}. Name a "
            "store of the same videos"
        )
    seen = np.isin(manifest.text("sha256"), store.trained_on(source))
    if seen.any():
        raise UserError(
            f"--features {features}: the network behind it was trained on {plural(int(seen.sum()), 'video')} of these, and "
            "knows their labels. Use a network of other videos, or a study with folds: --study"
        )
    return store.means(source, [row_of[name] for name in manifest.text("id").tolist()])


def of_features(case: Case, values_ND: np.ndarray, name: str) -> Answers:
    """Probabilities of a linear probe over vectors, each of a fold that it was not fitted to."""
    folds_N = folds_of(units_of(case), case.labels_N)
    scores_NK = out_of_fold(values_ND, case.labels_N, folds_N, len(case.manifest.classes))
    accuracy = float((scores_NK.argmax(1) == case.labels_N).mean())
    return Answers(
        probabilities(scores_NK, case.labels_N),
        f"a probe over {name} (right on {accuracy:.0%} of the videos, out of fold)",
    )
