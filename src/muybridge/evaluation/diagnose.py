"""Diagnosis of a run: scores of the same clips in several orders of their frames, and saliency of chosen videos.

All orders are scored in one pass: what they share is decoded once and goes through the network once. What the scores say is
in `muybridge.analysis.temporal`, saliency in `muybridge.evaluation.saliency`, the meaning in docs/diagnosis.md.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from muybridge import build
from muybridge.analysis.comparison import find_runs
from muybridge.analysis.temporal import FrameOrders
from muybridge.data import inputs
from muybridge.data.sampling import ORDERS, Order
from muybridge.errors import UserError, nearest
from muybridge.evaluation.evaluate import Task, prepared
from muybridge.evaluation.saliency import View, centre_view, saliency
from muybridge.evaluation.trained import of_run
from muybridge.recipe import Runtime
from muybridge.runtime.console import log
from muybridge.runtime.device import Placement
from muybridge.runtime.locks import locked
from muybridge.storage.run import DIAGNOSIS_VERSION, Run
from muybridge.storage.scores import Scores
from muybridge.text import listed
from muybridge.user_code import Consent

GRID = 8
LONGEST_FILE_NAME = 150
"""Bytes, without the ending."""
WAIT_SECONDS = 900.0
"""For another process that writes the diagnosis of the same run."""


@dataclass(frozen=True)
class Diagnosis:
    """Scores of the same videos in every order of their frames, and what they say."""

    run: Run
    scores: Mapping[Order, Scores]
    checkpoint: str
    data: str
    num_frames: int
    """Time steps of a clip."""
    shown: inputs.Input
    """Input of the network."""
    reversed_pairs: tuple[tuple[str, str], ...]
    """Classes that are each other's reversal in time."""

    @cached_property
    def answers(self) -> FrameOrders:
        """Answers in every order: all that follows from the scores."""
        return FrameOrders.of(self.scores, self.reversed_pairs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the run's classes."""
        return self.answers.classes

    def per_class(self) -> dict[str, dict[str, float]]:
        """Number of videos of each class that has any, and its accuracy by order."""
        return self.answers.per_class

    def reversed_as(self) -> dict[str, dict[str, int]]:
        """Answers to the videos of each class when they ran backwards, the most frequent first."""
        return self.answers.reversed_as

    def largest_change(self) -> Mapping[str, float]:
        """Largest change of any score of any video against the ordered clip, by order."""
        return self.answers.largest_change

    def pairs(self) -> list[dict[str, Any]]:
        """Two-class accuracies of each pair of `reversed_pairs` that has videos of both."""
        return self.answers.pairs

    def findings(self) -> list[str]:
        """Sentences for a person."""
        return self.answers.findings(self.num_frames, self.shown)

    def as_json(self) -> dict[str, Any]:
        """Content of diagnosis.json (docs/formats.md)."""
        ordered = self.scores["ordered"]
        left_out = {"skipped": len(ordered.skipped_ids), "trained_on": ordered.num_trained_on}
        return {
            "format_version": DIAGNOSIS_VERSION,
            "checkpoint": self.checkpoint,
            "split": ordered.split,
            "data": self.data,
            "num_frames": self.num_frames,
            "videos": len(ordered.ids_N),
            "views": ordered.num_views,
            **{name: count for name, count in left_out.items() if count},
            "accuracy": {order: self.answers.accuracy(order) for order in self.scores},
            "per_class": self.per_class(),
            "reversed_as": self.reversed_as(),
            "largest_change": self.largest_change(),
            "pairs": self.pairs(),
            "findings": self.findings(),
            **({"answered_by": ordered.answered_by} if ordered.answered_by else {}),
        }


@overload
def diagnose(  # type: ignore[overload-overlap]  # a text is a sequence, too: of texts
    runs: str | Path | Run, *, data: str | Path | None = ..., split: str | None = ..., fold: int | None = ...,
    checkpoint: str | None = ..., changes: Mapping[str, Any] | None = ..., videos: Sequence[str | Path] = ...,
    grid: int = ..., allow_code: Consent = ..., runtime: Runtime | None = ...,
) -> Diagnosis: ...  # fmt: skip
@overload
def diagnose(
    runs: Sequence[str | Path | Run], *, data: str | Path | None = ..., split: str | None = ..., fold: int | None = ...,
    checkpoint: str | None = ..., changes: Mapping[str, Any] | None = ..., videos: Sequence[str | Path] = ...,
    grid: int = ..., allow_code: Consent = ..., runtime: Runtime | None = ...,
) -> list[Diagnosis]: ...  # fmt: skip
def diagnose(
    runs: str | Path | Run | Sequence[str | Path | Run],
    *,
    data: str | Path | None = None,
    split: str | None = None,
    fold: int | None = None,
    checkpoint: str | None = None,
    changes: Mapping[str, Any] | None = None,
    videos: Sequence[str | Path] = (),
    grid: int = GRID,
    allow_code: Consent = False,
    runtime: Runtime | None = None,
) -> Diagnosis | list[Diagnosis]:
    """Score a finished run on a split in every order of frames, and write a diagnosis into its folder `diagnosis`.

    `runs`: one run, which gives one diagnosis; or a list of runs and studies, which gives a list with one for each run.
    What is refused, and which `changes` are open, is as in `evaluate`. `videos`: ids of the manifest, or endings of ids or
    paths; where and when the model looks in these is measured by hiding cells of a `grid` × `grid`. Raises UserError.
    """
    several = [runs] if isinstance(runs, str | Path | Run) else runs
    folders, study = find_runs(several)
    if study is not None and several is not runs:
        raise UserError(f"{study}: it is a study, of any number of runs. Name it in a list: diagnose(['{study}'])")
    fused = [folder for folder in folders if folder.is_fused]
    if fused and len(fused) < len(folders):  # a study's, beside its runs
        log(f"left out, as fused scores have no network: {listed([folder.name for folder in fused])}")
        folders = [folder for folder in folders if folder not in fused]
    for folder in folders:
        folder.check_finished()
    diagnoses = []
    for folder in folders:
        with prepared(
            of_run(folder, allow_code=allow_code), data=data, split=split, fold=fold, checkpoint=checkpoint, changes=changes,
            runtime=runtime,
        ) as task:  # fmt: skip
            diagnoses.append(_diagnosis(task, videos=videos, grid=grid))
    return diagnoses if several is runs else diagnoses[0]


def _diagnosis(task: Task, *, videos: Sequence[str | Path], grid: int) -> Diagnosis:
    """Diagnose the task's run, and write what is found into its folder."""
    if not 1 <= grid <= task.recipe.test_size:
        raise UserError(
            f"--grid {grid}: out of range. Give 1 to {task.recipe.test_size} cells a side, as frames are "
            f"{task.recipe.test_size} pixels wide"
        )
    chosen = list(dict.fromkeys(_index(str(video), task) for video in videos))
    names = dict(zip(chosen, _file_names(task, chosen), strict=True))
    views = {index: _view(task, index) for index in task.processes.shard(chosen)}
    scores = task.scores(ORDERS, text="diagnosing")
    diagnosis = Diagnosis(
        run=task.run,
        scores=scores,
        checkpoint=task.checkpoint,
        data=task.data,
        num_frames=task.recipe.clip.num_frames,
        shown=inputs.of(task.recipe.clip),
        reversed_pairs=tuple((a, b) for a, b in task.dataset["reversed_pairs"]),
    )
    first = task.processes.is_first
    writing = locked(task.run.folder("diagnosis"), "writes its diagnosis", wait_seconds=WAIT_SECONDS)
    with writing if first else nullcontext():
        if first:
            task.run.save_diagnosed_scores(scores)
        task.processes.broadcast(None)
        for index, view in views.items():
            _look(task, index, view, grid=grid, name=names[index])
        task.processes.gathered(None)
        if first:
            task.run.save_diagnosis(diagnosis.as_json())
    return diagnosis


def _view(task: Task, index: int) -> View:
    """View of one of the task's videos that is looked at. Raises DecodeError."""
    recipe = task.recipe
    return centre_view(
        task.reader, task.manifest.row(int(task.rows[index])), build.clip_spec(recipe), input=inputs.of(recipe.clip),
        num_clips=recipe.evaluation.num_clips, size=recipe.test_size, crop_fraction=recipe.evaluation.crop_fraction,
    )  # fmt: skip


def _look(task: Task, index: int, view: View, *, grid: int, name: str) -> None:
    """Measure and write where and when the model looks in a video, to files called `name`."""
    video, classes = task.manifest.row(int(task.rows[index])).id, task.dataset["classes"]
    drops = saliency(
        task.model, view, where=Placement(task.where.device), grid=grid,
        batch_size=build.scoring_batch_size(task.recipe), text=f"hiding parts of {video}",
    )  # fmt: skip
    label, predicted = classes[int(task.labels_N[index])], classes[drops.predicted]
    task.run.save_saliency(name, npz=drops.npz(id=video, label=label, predicted=predicted), jpg=drops.jpg())


def _index(video: str, task: Task) -> int:
    """Index among the task's rows of a video: by its id, or by how its id or path ends. Raises UserError."""
    ids = task.manifest.text("id", task.rows).tolist()
    if video in ids:
        return int(ids.index(video))
    paths = [str(task.manifest.root / path) for path in task.manifest.text("path", task.rows).tolist()]
    ending = f"/{Path(video).as_posix().removeprefix('./')}"
    matches = [
        index
        for index, (name, path) in enumerate(zip(ids, paths, strict=True))
        if f"/{name}".endswith(ending) or f"/{Path(path).as_posix()}".endswith(ending)
    ] or [index for index, path in enumerate(paths) if Path(path).resolve() == Path(video).resolve()]
    if len(matches) > 1:
        several = ", ".join(ids[index] for index in matches[:5]) + (", …" if len(matches) > 5 else "")
        raise UserError(f"--video {video}: it is the end of {len(matches)} videos: {several}. Name one by its id")
    if matches:
        return matches[0]
    if video in task.manifest.text("id").tolist():
        raise UserError(f"--video {video}: it is not in split '{task.split}' of {task.data}. Choose its split: --split")
    raise UserError(f"--video {video}: no such video in split '{task.split}' of {task.data}. {nearest(video, ids)}")


def _file_names(task: Task, indices: Sequence[int]) -> list[str]:
    """Distinct file names for videos, made of their ids."""
    names: list[str] = []
    for index in indices:
        name = re.sub(r"[^\w.#-]+", "_", task.manifest.row(int(task.rows[index])).id).strip("_")
        name = name.encode()[-LONGEST_FILE_NAME:].decode(errors="ignore")  # its end tells more
        same = sum(other == name for other in names)
        names.append(f"{name}-{same + 1}" if same else name)
    return names
