"""Run folders below a folder, and how far each has come."""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.recipe import Recipe
from muybridge.storage.run import BESIDE_RECIPE, OWN_FOLDERS, Run, State, data_name


@dataclass(frozen=True)
class Standing:
    """How far a run has come. None: not there, or not known."""

    run: Run
    state: State
    recipe: Recipe | None = None
    epoch: int | None = None
    """Epochs done; of a run that is not being trained, those that its checkpoint has."""
    epochs: int | None = None
    """Epochs planned; none where hours end it."""
    split: str | None = None
    """Of the accuracy: test, or val where the test is still to come."""
    video_top1: float | None = None
    train_seconds: float | None = None
    """Validation not counted."""
    changed: datetime | None = None
    """When training last wrote to it."""
    reason: str = ""
    """Why it counts as damaged."""

    @property
    def shown_path(self) -> str:
        """The run's path as seen from where one stands, if it lies below."""
        path, here = self.run.path.absolute(), Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else self.run.path)

    def as_json(self) -> dict[str, Any]:
        """A row of `muybridge runs --json`."""
        recipe = self.recipe
        return {
            "path": self.shown_path,
            "name": self.run.path.absolute().resolve().name,
            "model": recipe and recipe.model.name,
            "data": recipe and data_name(recipe.data.manifest),
            "seed": recipe and recipe.seed,
            "fold": recipe and recipe.data.fold,
            "state": self.state,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "max_hours": recipe and recipe.stop.max_hours,
            "split": self.split,
            "video_top1": self.video_top1,
            "train_seconds": self.train_seconds,
            "changed": self.changed and self.changed.isoformat(timespec="seconds"),
            "reason": self.reason or None,
        }


def standing(run: Run) -> Standing:
    """How far a run has come. What cannot be read makes it a damaged one; what can be is kept."""
    known = Standing(run, "damaged", changed=_changed(run))
    try:
        known = replace(known, recipe=run.recipe())
        state, epochs = run.state(), run.planned_epochs()
        train, val = run.metrics("train"), run.metrics("val")
        if state in ("stopped", "begun"):  # what came after the checkpoint is done again
            saved = run.saved_step() or 0
            train, val = ([line for line in lines if line["step"] <= saved] for lines in (train, val))
        figures = {**({"val": val[-1]} if val else {}), **(run.result() if state == "finished" else {})}
        split = next((split for split in ("test", "val") if split in figures), None)
        return replace(
            known, state=state, epoch=train[-1]["epoch"] if train else 0, epochs=epochs, split=split,
            video_top1=figures[split]["video_top1"] if split else None,
            train_seconds=sum(line["train_seconds"] for line in run.timing()),
        )  # fmt: skip
    except UserError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or run.path} cannot be read: {error.strerror}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{run.path} holds other values than a run's: {type(error).__name__}: {error}"
    return replace(known, reason=reason)


def find(folder: str | Path, *, unreadable: Callable[[OSError], None] | None = None) -> list[Run]:
    """Run folders at `folder` and at any depth below it, in the order of their paths. Hidden folders are not entered, links
    are, but no folder twice. `unreadable` hears of folders that cannot be; none: they are raised. Raises UserError."""
    if not Path(folder).is_dir():
        what = "is a file" if Path(folder).exists() else "does not exist"
        raise UserError(f"{folder} {what}; name a folder to look for runs in")
    found, seen, waiting = [], set(), deque([Path(folder)])
    while waiting:
        path = waiting.popleft()
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as scanned:
                inside = {entry.name: entry for entry in scanned}
                folders = [entry for entry in inside.values() if entry.name[0] != "." and entry.is_dir()]
        except OSError as error:
            if unreadable is None:
                raise
            unreadable(error)
            continue
        is_run = "recipe.json" in inside and any(name in inside for name in BESIDE_RECIPE)
        if is_run:
            found.append(Run(path))
        for entry in sorted(folders, key=lambda entry: entry.name):
            if not (is_run and entry.name in OWN_FOLDERS):  # links wait: a folder is known by its own path
                (waiting.append if entry.is_symlink() else waiting.appendleft)(path / entry.name)
    return sorted(found, key=lambda run: run.path.parts)


def _changed(run: Run) -> datetime | None:
    written = ("recipe.json", "metrics.jsonl", "timing.jsonl", "checkpoints/last", "result.json")
    times = []
    for name in written:
        with suppress(OSError):
            times.append((run.path / name).stat().st_mtime)
    return datetime.fromtimestamp(max(times)).astimezone() if times else None
