"""Evaluation of a trained network on a split: everything checked and loaded, then scored (`score`).

It is the one evaluation for every model: in training, alone, and in `predict`. Clip and video accuracy, and every number
of the report, come from per-view scores that are computed once.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from muybridge import build
from muybridge.data.manifest import FLOW, SPLITS, Manifest
from muybridge.data.sampling import Order
from muybridge.errors import UserError, nearest
from muybridge.evaluation.ready import Ready, Work, made_ready
from muybridge.evaluation.score import batches, score
from muybridge.evaluation.trained import Trained
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime import distributed
from muybridge.runtime.console import log
from muybridge.runtime.device import Placement, cores_left_to, find_device, to_device
from muybridge.runtime.distributed import Processes
from muybridge.storage import evaluations
from muybridge.storage.run import Run, data_name, view_cost
from muybridge.storage.scores import Scores
from muybridge.text import listed
from muybridge.video import Reader
from muybridge.zoo import VideoModel

EVERY = "all"
"""Split of all videos of a manifest."""
FEW = 5
"""Classes that an error lists."""


@dataclass(frozen=True)
class Task:
    """A network and the videos that it is to be scored on, everything checked and loaded."""

    trained: Trained
    recipe: Recipe
    checkpoint: str
    data: str
    """Path of the manifest, as it was given."""
    split: str
    fold: int | None
    manifest: Manifest
    rows: np.ndarray
    labels_N: np.ndarray
    trained_on_N: np.ndarray
    """bool."""
    is_unknown: bool
    """Whether the videos are of none of the network's classes; their labels are -1."""
    model: VideoModel
    where: Placement
    ready: Ready
    """The network made ready (`muybridge.evaluation.ready.made_ready`): it says what computes."""
    reader: Reader
    num_workers: int
    processes: Processes

    @property
    def run(self) -> Run:
        """The run that is scored. Raises UserError for public weights, which no run is of."""
        if self.trained.run is None:
            raise UserError(
                f"--keep: only a run keeps evaluations, not {self.trained.name}. Use --out FILE.npz instead"
            )
        return self.trained.run

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The set that was trained on, as far as it is known (`Trained.dataset`)."""
        return self.trained.dataset

    def scores(self, orders: Sequence[Order] = ("ordered",), *, text: str = "evaluating") -> dict[Order, Scores]:
        """Score all videos that can be read, in each order of their frames."""
        skips = self.recipe.data.on_error == "skip"
        scores_of = score(
            self.model,
            build.video_views(self.recipe, self.manifest, self.reader, orders=orders),
            self.rows,
            where=self.where,
            labels_N=self.labels_N,
            classes=self.dataset["classes"],
            average=self.recipe.evaluation.average,
            batch_size=build.scoring_batch_size(self.recipe),
            num_workers=self.num_workers,
            text=text,
            skip=(lambda failure: log(f"skipped: {failure.error}")) if skips else None,
            processes=self.processes,
        )
        skipped_ids = scores_of[orders[0]].skipped_ids
        if len(skipped_ids):
            log(f"scored without {len(skipped_ids)} of the {len(self.rows)} videos, which could not be read")
        scored_N = ~np.isin(self.manifest.text("id", self.rows), skipped_ids)
        num_trained_on = int((self.trained_on_N & scored_N).sum())
        return {
            order: dataclasses.replace(
                scores, split=self.split, num_trained_on=num_trained_on, answered_by=str(self.ready)
            )
            for order, scores in scores_of.items()
        }

    def name_to_keep(self) -> str:
        """Name under which the run keeps this evaluation: of its own data set, or of clips of none of its classes.

        Raises UserError where it cannot.
        """
        if self.is_unknown:
            name = evaluations.name_of_unknown(data_name(self.data), self.manifest.sha256())
            evaluations.check_new(self.run, name)
            return name
        trained = self.run.recipe()
        if self.manifest.sha256() != trained.data.sha256 or self.fold != trained.data.fold:
            raise UserError(
                f"--keep: {self.data} is not the data set, or not the fold, of {self.run.path}. Use --out FILE.npz instead"
            )
        if self.recipe.evaluation.checkpoint != trained.evaluation.checkpoint:
            raise UserError(
                "evaluation.checkpoint: it says what a run scores at its end. Choose with --checkpoint instead"
            )
        name = evaluations.name_of(self.run, self.recipe, split=self.split, checkpoint=self.checkpoint)
        evaluations.check_new(self.run, name)
        return name

    def keep(self, name: str, scores: Scores) -> None:
        """Store scores in the run, with the cost of a view."""
        num_classes = len(self.dataset["classes"])
        cost = view_cost(build.cost(self.recipe, build.outline(self.recipe, num_classes), num_classes))
        stored = evaluations.keep(
            self.run, name, scores, self.recipe, split=self.split, checkpoint=self.checkpoint, cost=cost,
            unknown=data_name(self.data) if self.is_unknown else "",
        )  # fmt: skip
        log(f"kept in {self.run.path / stored.scores_file}, for the report")


@contextmanager
def prepared(
    trained: Trained,
    *,
    data: str | Path | None,
    split: str | None,
    fold: int | None,
    checkpoint: str | None,
    changes: Mapping[str, Any] | None,
    runtime: Runtime | None,
    unknown: bool = False,
) -> Iterator[Task]:
    """Load and check everything needed to score a network; errors in the block reach all processes.

    `unknown`: the videos are of none of the network's classes.
    """
    run, asked = trained.run, trained.recipe
    if run is None:
        _check_public(data, checkpoint)
    if unknown:
        _check_unknown(data, checkpoint, changes or {})
    wrong = [name for name in changes or {} if not name.startswith(evaluations.OPEN_FIELDS)]
    if wrong:
        raise UserError(
            f"{wrong[0]}: an evaluation cannot change it. Set only evaluation.…, clip.…, data.on_error and precision"
        )
    if asked.evaluation.size and "clip.size" in (changes or {}) and "evaluation.size" not in (changes or {}):
        raise UserError(
            f"clip.size: the recipe of {trained.name} tests at evaluation.size {asked.evaluation.size}. Set "
            f"evaluation.size={(changes or {})['clip.size']}"
        )
    runtime = runtime or Runtime()
    recipe = replace(asked, changes or {})
    recipe = replace(recipe, {"precision": build.settled_precision(recipe, runtime)})
    if data is None and not Path(recipe.data.manifest).exists():
        raise UserError(
            f"{recipe.data.manifest}: the manifest of {trained.name} is not there any more. Say where it is: --data "
            "MANIFEST"
        )
    processes = distributed.join(find_device(runtime.device))
    with processes.report_failure(), ExitStack() as stack:
        manifest = Manifest.load(data or recipe.data.manifest)
        if data is None and manifest.sha256() != recipe.data.sha256:
            raise UserError(
                f"{recipe.data.manifest}: it has changed since {trained.name} was trained. To use it all the same, name "
                "it: --data MANIFEST"
            )
        theirs = trained.dataset.get("features", {}).get("network", "") or trained.dataset.get("made_by", "")
        if manifest.made_by != theirs:
            raise UserError(
                f"{data or recipe.data.manifest}: it holds {_made(manifest.made_by)}, but {trained.name} was trained on "
                f"{_made(theirs)}. {'Use a store that was made like that' if theirs else 'Name a manifest of videos'}"
            )
        fold = recipe.data.fold if fold is None and data is None else fold
        if unknown:
            split = split or EVERY
        if split is None:
            split = next((name for name in ("test", "val") if len(manifest.split(name, fold))), "test")
            if split == "val":
                log(f"{data or recipe.data.manifest} has no test split: val is scored, on which settings may be chosen")
        rows = np.arange(len(manifest)) if split == EVERY and unknown else manifest.split(split, fold)
        if len(rows) == 0:
            there = [name for name in SPLITS if len(manifest.split(name, fold))]
            advice = f"Choose {' or '.join(there)}" if split in SPLITS else nearest(split, SPLITS)
            raise UserError(f"--split: no video is in '{split}' of {data or recipe.data.manifest}. {advice}")
        if unknown:
            _check_of_no_class(manifest, rows, trained)
            trained_on_N = np.zeros(len(rows), bool) if run is None else _trained_on(run, manifest, rows, EVERY)
            labels_N = np.full(len(rows), -1)
        elif run is not None:
            trained_on_N = _trained_on(run, manifest, rows, split)
            labels_N = class_indices(manifest, rows, trained.classes)
        else:
            labels_N = alike_indices(manifest, rows, trained)
            trained_on_N = np.zeros(len(rows), dtype=bool)
            log(_warning_of_public(asked.model.pretrained))
        which = checkpoint or asked.evaluation.checkpoint
        model = trained.load(which)
        where = build.placement(recipe, runtime)
        reader, workers = build.reader_and_workers(recipe, runtime, manifest, rows[processes.rank :: processes.count])
        stack.enter_context(cores_left_to(workers, where, threads=runtime.threads))
        to_device(model, where)
        e, num_rows = recipe.evaluation, len(rows[processes.rank :: processes.count])
        num_views, work = e.num_clips * e.num_crops, None
        if num_rows and not e.whole:  # (whole videos are of any length)
            work = Work(batches(num_rows, num_views, build.scoring_batch_size(recipe)), num_rows * num_views)
        ready = made_ready(model, recipe, where, runtime, work)
        log(f"answers: {ready}")
        if manifest.mirror is not None:  # what the model's classes become, not those of another manifest
            manifest = dataclasses.replace(manifest, mirror=trained.dataset["mirror"])
        yield Task(
            trained=trained,
            recipe=recipe,
            checkpoint=which,
            data=str(data or recipe.data.manifest),
            split=split,
            fold=fold,
            manifest=manifest,
            rows=rows,
            labels_N=labels_N,
            trained_on_N=trained_on_N,
            is_unknown=unknown,
            model=model,
            where=where,
            ready=ready,
            reader=reader,
            num_workers=workers,
            processes=processes,
        )


def _made(made_by: str) -> str:
    """Words for what files hold, by what computed it (`Manifest.made_by`)."""
    if made_by.startswith(FLOW):
        return f"flow computed by {made_by.removeprefix(FLOW)}"
    return f"vectors computed by {made_by}" if made_by else "videos"


def check_scores_file(out: Path) -> None:
    """Check, before anything is computed, that scores can be written to a file. Raises UserError."""
    if out.suffix != ".npz" or out.is_dir():
        raise UserError(
            f"--out: '{out}' is not a .npz file, to which scores are written. Name one, for example {out.stem}.npz"
        )
    if out.exists():
        try:
            Scores.load(out)
        except UserError as error:
            raise UserError(f"--out {out}: it is there and holds no scores ({error}). Choose another name") from None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {out.parent} cannot be made ({error.strerror}). Choose another folder") from None
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"--out {out}: {out.parent} may not be written to. Choose another folder")


def _check_public(data: str | Path | None, checkpoint: str | None) -> None:
    """Refuse what only a run has. Raises UserError."""
    if data is None:
        raise UserError("--data: public weights bring no videos. Name a manifest: --data MANIFEST")
    if checkpoint is not None:
        raise UserError("--checkpoint: public weights have no checkpoints. Leave it out")


def _check_unknown(data: str | Path | None, checkpoint: str | None, changes: Mapping[str, Any]) -> None:
    """Refuse what would make another evaluation than the run's own test, beside which clips of no class are held."""
    if data is None:
        raise UserError("--unknown: it is for clips of none of the run's classes. Name their manifest: --data MANIFEST")
    other = ["--checkpoint"] if checkpoint is not None else [name for name in changes if name != "data.on_error"]
    if other:
        raise UserError(f"{other[0]}: clips of no class are scored as the run's own test was (--unknown). Leave it out")


def _check_of_no_class(manifest: Manifest, rows: np.ndarray, trained: Trained) -> None:
    """Raise UserError where a label is one of the classes, by its name but for case, spaces and underscores."""
    known = {_plain(name): name for name in trained.classes}
    labels = manifest.text("label", rows).tolist()
    shared = sorted({label for label in labels if _plain(label) in known})
    if shared:
        count = sum(label in shared for label in labels)
        raise UserError(
            f"--unknown: {count} of {len(rows)} videos are of classes that {trained.name} knows: {listed(shared)}. Leave them "
            "out of the manifest, or evaluate without --unknown"
        )


def _warning_of_public(pretrained: str | None) -> str:
    """Sentence on videos that public weights may have been trained on."""
    is_named = pretrained in ("imagenet", "kinetics400")
    what = (
        f"the weights were trained on {pretrained}"
        if is_named
        else "what the weights were trained on is not known here"
    )
    return f"{what}; if these videos are among theirs, the figure flatters the model"


def class_indices(manifest: Manifest, rows: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Labels of rows as indices into a run's classes. Raises UserError for an unknown class."""
    index = {name: i for i, name in enumerate(classes)}
    labels = manifest.text("label", rows).tolist()
    unknown = sorted(set(labels) - index.keys())
    if unknown:
        raise UserError(f"class '{unknown[0]}': the run does not know it. {nearest(unknown[0], classes)}")
    return np.array([index[label] for label in labels], dtype=np.int64)


def alike_indices(manifest: Manifest, rows: np.ndarray, trained: Trained) -> np.ndarray:
    """Labels of rows as indices into the classes of public weights, by names but for case, spaces and underscores.

    Raises UserError where a label is not among them, or two labels are one of them.
    """
    index = {name: i for i, name in enumerate(trained.classes)}
    same: dict[str, list[str]] = {}
    for name in trained.classes:
        same.setdefault(_plain(name), []).append(name)
    labels = manifest.text("label", rows).tolist()
    found = {
        label: label if label in index else next(iter(same[_plain(label)]))
        for label in sorted(set(labels))
        if label in index or len(same.get(_plain(label), ())) == 1
    }
    unknown = sorted(set(labels) - found.keys())
    train = (
        f"Train the network on your classes: muybridge train --model {trained.recipe.model.name} --pretrained "
        f"{trained.recipe.model.pretrained}"
    )
    if unknown:
        shown = ", ".join(f"'{label}'{_close(label, trained.classes)}" for label in unknown[:FEW])
        more = f" and {len(unknown) - FEW} more" if len(unknown) > FEW else ""
        raise UserError(
            f"{trained.name}: it does not know {len(unknown)} of the {len(set(labels))} classes: {shown}{more}. {train}"
        )
    taken: dict[str, str] = {}
    for label, name in found.items():
        if name in taken:
            raise UserError(f"{trained.name}: '{taken[name]}' and '{label}' are one class to it, '{name}'. {train}")
        taken[name] = label
    return np.array([index[found[label]] for label in labels], dtype=np.int64)


def _plain(name: str) -> str:
    """A class's name without case, spaces and underscores."""
    return "".join(name.casefold().replace("_", " ").split())


def _close(label: str, classes: Sequence[str]) -> str:
    """The nearest name of a class, in brackets; empty where none is near."""
    by_plain = {_plain(name): name for name in classes}
    close = get_close_matches(_plain(label), by_plain, n=1)
    return f" (nearest: '{by_plain[close[0]]}')" if close else ""


def _trained_on(folder: Run, manifest: Manifest, rows: np.ndarray, split: str) -> np.ndarray:
    """(N,) bool: whether the run, or one that it builds upon, was trained on the video, by its content.

    Raises UserError if it was on any, but for the split "train"; warns if only the name of a group is the same.
    """
    seen = folder.trained_on()
    known_N = np.isin(manifest.text("sha256", rows), folder.seen_sha256())
    if split == "train":
        return known_N
    if known_N.any():
        raise UserError(
            f"{folder.path}: it, or a run that it builds upon, was trained on {known_N.sum()} of the {len(rows)} "
            f"videos of split '{split}'. Such a figure would flatter the model. For training accuracy: --split train"
        )
    groups = sorted((set(seen["group"].tolist()) - {""}) & set(manifest.text("group", rows).tolist()))
    if groups:
        log(
            f"warning: {len(groups)} groups of split '{split}' have the name of a group that was trained on ('{groups[0]}'). "
            "If they are the same sources, the figure flatters the model"
        )
    return known_N
