"""Does a model use time? A run is scored on the same clips in several orders of their frames (docs/diagnosis.md), and
chosen videos are looked at part by part (`muybridge.evaluation.saliency`).

All orders are scored in one pass: what they share is decoded once and goes through the network once.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from muybridge import build
from muybridge.analysis.statistics import change, judged
from muybridge.data import inputs
from muybridge.data.sampling import ORDERS, Order
from muybridge.errors import UserError, nearest
from muybridge.evaluation.evaluate import Task, prepared
from muybridge.evaluation.saliency import View, centre_view, saliency
from muybridge.recipe import Runtime
from muybridge.runtime.device import Placement
from muybridge.runtime.files import clear_partials, write_atomic, write_json
from muybridge.runtime.locks import locked
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores
from muybridge.user_code import Consent

FORMAT_VERSION = 1
GRID = 8
LONGEST_FILE_NAME = 150
"""Bytes, without the ending."""
WAIT_SECONDS = 900.0
"""For another process that writes the diagnosis of the same run."""
EQUAL = 1e-5
"""Scores that differ by no more are the same, but for rounding."""
CHANCE = 0.05
"""A change that pure chance would make more often than this is told as none."""

CHANGED: Mapping[Order, tuple[str, str, str]] = {
    "shuffled": (
        "Shuffling the frames",
        "the model uses their order",
        "whether frames are shuffled or not: the model sees a set of frames, no order",
    ),
    "reversed": (
        "Playing videos backwards",
        "the model uses the direction of time",
        "whether videos run forwards or backwards: the model does not see the direction of time",
    ),
    "single_frame": (
        "Holding one frame",
        "the model uses more than a still",
        "for the clip and for one frame of it, held: the model sees no more than a still",
    ),
    "thinned": (
        "Holding every second frame for two",
        "the model uses the frames between",
        "without every second frame: the model does not use them",
    ),
}
"""What is done to a video; what it means where accuracy falls; and where no score changes."""


@dataclass(frozen=True)
class Diagnosis:
    """Scores of the same videos in every order of their frames, and what they say."""

    run: Run
    scores: Mapping[Order, Scores]
    checkpoint: str
    data: str
    num_frames: int
    """Time steps of a clip."""
    reversed_pairs: tuple[tuple[str, str], ...]
    """Classes that are each other's reversal in time."""

    def as_json(self) -> dict[str, Any]:
        """What diagnosis.json holds (docs/formats.md)."""
        ordered = self.scores["ordered"]
        left_out = {"skipped": len(ordered.skipped_ids), "trained_on": ordered.num_trained_on}
        return {
            "format_version": FORMAT_VERSION,
            "checkpoint": self.checkpoint,
            "split": ordered.split,
            "data": self.data,
            "num_frames": self.num_frames,
            "videos": len(ordered.ids_N),
            "views": ordered.num_views,
            **{name: count for name, count in left_out.items() if count},
            "accuracy": {order: scores.video_accuracy() for order, scores in self._averaged.items()},
            "per_class": self.per_class(),
            "reversed_as": self.reversed_as(),
            "largest_change": self.largest_change(),
            "pairs": self.pairs(),
            "findings": self.findings(),
        }

    @property
    def classes(self) -> tuple[str, ...]:
        return self.scores["ordered"].classes

    @cached_property
    def _averaged(self) -> dict[Order, Scores]:
        """The scores with a video's views averaged, once for all that is asked of them."""
        averaged = {}
        for order, scores in self.scores.items():
            zeros_N = np.zeros(len(scores.ids_N), dtype=np.int64)
            averaged[order] = replace(
                scores, video_V=np.arange(len(zeros_N)), clip_start_V=zeros_N, crop_V=zeros_N,
                logits_VK=scores.video_scores(), average="logits", grid=None,
            )  # fmt: skip
        return averaged

    def per_class(self) -> dict[str, dict[str, float]]:
        """Of the classes that have videos: how many, and the share of them that is right in each order."""
        labels_N = self.scores["ordered"].labels_N
        correct = {order: scores.correct() for order, scores in self._averaged.items()}
        return {
            self.classes[k]: {"videos": int((labels_N == k).sum())}
            | {order: float(correct_N[labels_N == k].mean()) for order, correct_N in correct.items()}
            for k in np.unique(labels_N)
        }

    def reversed_as(self) -> dict[str, dict[str, int]]:
        """What videos of each class were taken for when they ran backwards, the most frequent first."""
        found: dict[str, dict[str, int]] = {}
        for name, counts_K in zip(self.classes, self._averaged["reversed"].confusion(), strict=True):
            taken_for = [k for k in np.argsort(-counts_K, kind="stable") if counts_K[k]]
            if taken_for:
                found[name] = {self.classes[k]: int(counts_K[k]) for k in taken_for}
        return found

    def largest_change(self) -> dict[Order, float]:
        """Of any score of any video, against the ordered clip."""
        ordered_NK = self._averaged["ordered"].logits_VK
        return {
            order: float(np.abs(scores.logits_VK - ordered_NK).max())
            for order, scores in self._averaged.items()
            if order != "ordered"
        }

    def pairs(self) -> list[dict[str, Any]]:
        """Of each pair of classes that are each other's reversal and both have videos: accuracy within the pair, and how
        many videos are taken for the partner when they run backwards."""
        present = self.per_class()
        backwards = self._averaged["reversed"]
        answers_N = backwards.logits_VK.argmax(1)
        found = []
        for a, b in self.reversed_pairs:
            if a not in present or b not in present or a == b:
                continue
            chosen, ordered = self._averaged["ordered"].within(a, b)
            _, shuffled = self._averaged["shuffled"].within(a, b)
            first, second = self.classes.index(a), self.classes.index(b)
            partner_N = np.where(backwards.labels_N == first, second, first)
            found.append(
                {
                    "classes": [a, b],
                    "videos": len(chosen),
                    "ordered_within": float(ordered.mean()),
                    "shuffled_within": float(shuffled.mean()),
                    "reversed_partner": float((answers_N == partner_N)[chosen].mean()),
                }
            )
        return found

    def findings(self) -> list[str]:
        """Sentences for a person. What chance alone may do is told as such."""
        if self.num_frames == 1:
            return ["A clip has one time step: there is no order to use."]
        changes = self.largest_change()
        if all(change <= EQUAL for change in changes.values()):
            return [
                "Scores are equal to 1e-5 in every order, even for one frame that is held: nothing moves in these "
                "videos, or the model sees no more than a still."
            ]
        found = [self._finding(order) for order in changes]
        pairs = self.pairs()
        if pairs:
            count = sum(pair["videos"] for pair in pairs)
            of_all = {
                name: sum(pair[name] * pair["videos"] for pair in pairs) / count
                for name in ("ordered_within", "shuffled_within", "reversed_partner")
            }
            found.append(
                f"Within pairs of classes that are each other's reversal ({count} videos) {of_all['ordered_within']:.3f} are "
                f"right, {of_all['shuffled_within']:.3f} with shuffled frames, where chance gives 0.5; played backwards, "
                f"{of_all['reversed_partner']:.3f} are taken for the partner."
            )
        return found

    def _finding(self, order: Order) -> str:
        done, used, unused = CHANGED[order]
        before, after = (self._averaged[which].video_accuracy() for which in ("ordered", order))
        largest = self.largest_change()[order]
        if largest <= EQUAL:
            return f"Scores are equal to 1e-5 {unused}."
        p = self._chance(order)
        if p >= CHANCE:
            return (
                f"{done}: accuracy {before:.3f} to {after:.3f}, no more than chance may do with "
                f"{len(self.scores['ordered'].ids_N)} videos (p = {p:.2f}); scores do change, by up to {largest:.2g}."
            )
        if after < before:
            return f"{done} costs {before - after:.3f} of accuracy ({before:.3f} to {after:.3f}): {used}."
        return f"{done} adds {after - before:.3f} to accuracy ({before:.3f} to {after:.3f})."

    def _chance(self, order: Order) -> float:
        """How often chance alone would change accuracy as much, by the report's test: paired on the videos, or on groups of
        videos that share a source; corrected for the number of orders."""
        ordered = self.scores["ordered"]
        others: list[Order] = [name for name in self.scores if name != "ordered"]
        changes = [
            change(ordered.correct()[None], self.scores[name].correct()[None], ordered.groups_N) for name in others
        ]
        return judged(changes)[others.index(order)].p


def diagnose(
    run: str | Path | Run,
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
) -> Diagnosis:
    """Score a finished run on a split in every order of frames, and write what is found into its folder `diagnosis`.

    What is refused, and which `changes` are open, is as in `evaluate`. `videos`: ids of the manifest, or how their ids or
    paths end; of these it is found out by hiding cells of a `grid` × `grid` where and when the model looks. Raises
    UserError.
    """
    folder = Run.open(run)
    folder.check_finished()
    with prepared(
        folder, data=data, split=split, fold=fold, checkpoint=checkpoint, changes=changes, allow_code=allow_code,
        runtime=runtime,
    ) as task:  # fmt: skip
        if not 1 <= grid <= task.recipe.clip.size:
            raise UserError(
                f"--grid {grid}: cells of a side, 1 to {task.recipe.clip.size}, as frames are {task.recipe.clip.size} pixels wide"
            )
        chosen = list(dict.fromkeys(_place(str(video), task) for video in videos))
        names = dict(zip(chosen, _file_names(task, chosen), strict=True))
        seen = {place: _view(task, place) for place in task.processes.shard(chosen)}
        scores = task.scores(ORDERS, text="diagnosing")
        found = Diagnosis(
            run=folder,
            scores=scores,
            checkpoint=task.checkpoint,
            data=task.data,
            num_frames=task.recipe.clip.num_frames,
            reversed_pairs=tuple((a, b) for a, b in task.dataset["reversed_pairs"]),
        )
        first = task.processes.is_first
        writing = locked(folder.folder("diagnosis"), "writes its diagnosis", wait_seconds=WAIT_SECONDS)
        with writing if first else nullcontext():
            if first:
                clear_partials(folder.diagnosis_folder)
                if chosen:
                    folder.folder("diagnosis/saliency")
                folder.file("diagnosis/diagnosis.json").unlink(missing_ok=True)  # it says that all else is there
                for order, of_order in scores.items():
                    of_order.save(folder.file(f"diagnosis/{order}.npz"))
            task.processes.broadcast(None)
            for place, view in seen.items():
                _look(task, place, view, grid=grid, called=names[place])
            task.processes.gathered(None)
            if first:
                write_json(folder.file("diagnosis/diagnosis.json"), found.as_json())
        return found


def _view(task: Task, place: int) -> View:
    """What is looked at of a video. Raises DecodeError."""
    recipe = task.recipe
    return centre_view(
        task.reader, task.manifest.row(int(task.rows[place])), build.clip_spec(recipe), input=inputs.find(recipe.clip.modality),
        num_clips=recipe.evaluation.num_clips, size=recipe.clip.size, crop_fraction=recipe.evaluation.crop_fraction,
    )  # fmt: skip


def _look(task: Task, place: int, view: View, *, grid: int, called: str) -> None:
    """Where and when the model looks in a video: CALLED.npz, and CALLED.jpg for human eyes."""
    name, classes = task.manifest.row(int(task.rows[place])).id, task.dataset["classes"]
    found = saliency(
        task.model, view, where=Placement(task.where.device), grid=grid,
        batch_size=build.scoring_batch_size(task.recipe), text=f"hiding parts of {name}",
    )  # fmt: skip
    label, predicted = classes[int(task.labels_N[place])], classes[found.predicted]
    write_atomic(task.run.file(f"diagnosis/saliency/{called}.jpg"), found.jpg())
    write_atomic(
        task.run.file(f"diagnosis/saliency/{called}.npz"), found.npz(id=name, label=label, predicted=predicted)
    )


def _place(video: str, task: Task) -> int:
    """Which of the task's rows a video is: by its id, or by how its id or path ends. Raises UserError."""
    ids = task.manifest.text("id", task.rows).tolist()
    if video in ids:
        return int(ids.index(video))
    paths = [str(task.manifest.root / path) for path in task.manifest.text("path", task.rows).tolist()]
    ending = f"/{Path(video).as_posix().removeprefix('./')}"
    found = [
        place
        for place, (name, path) in enumerate(zip(ids, paths, strict=True))
        if f"/{name}".endswith(ending) or f"/{Path(path).as_posix()}".endswith(ending)
    ] or [place for place, path in enumerate(paths) if Path(path).resolve() == Path(video).resolve()]
    if len(found) > 1:
        several = ", ".join(ids[place] for place in found[:5]) + (", …" if len(found) > 5 else "")
        raise UserError(f"--video {video} is the end of {len(found)} videos: {several}. Name one by its id")
    if found:
        return found[0]
    if video in task.manifest.text("id").tolist():
        raise UserError(f"--video {video} is not in split '{task.split}' of {task.data}; see --split")
    raise UserError(f"--video {video} is no video of split '{task.split}' of {task.data}. {nearest(video, ids)}")


def _file_names(task: Task, places: Sequence[int]) -> list[str]:
    """A name for the files of each video, made of its id."""
    names: list[str] = []
    for place in places:
        name = re.sub(r"[^\w.#-]+", "_", task.manifest.row(int(task.rows[place])).id).strip("_")
        name = name.encode()[-LONGEST_FILE_NAME:].decode(errors="ignore")  # its end tells more
        same = sum(other == name for other in names)
        names.append(f"{name}-{same + 1}" if same else name)
    return names
