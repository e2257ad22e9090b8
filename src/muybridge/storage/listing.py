"""Run folders below a folder, and the state of each."""

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
from muybridge.storage.run import RUN_FOLDERS, Run, State, data_name, is_run_of


@dataclass(frozen=True)
class Standing:
    """Progress and result of a run; None: absent or unknown."""

    run: Run
    state: State
    recipe: Recipe | None = None
    epoch: int | None = None
    """Epochs done; for a run that is not being trained, those in its checkpoint."""
    epochs: int | None = None
    """Epochs planned; None where hours end training."""
    split: str | None = None
    """Split of the accuracy: test, or val until the test is scored."""
    video_top1: float | None = None
    """Top-1 accuracy of videos on `split`, from 0 to 1."""
    train_seconds: float | None = None
    """Training time in seconds, validation not counted."""
    changed: datetime | None = None
    """Time of the last write by training."""
    reason: str = ""
    """Fault of a damaged run; empty for others."""
    fused: str = ""
    """Name of fused scores, which says of what they are; empty for a run that was trained."""

    @property
    def shown_path(self) -> str:
        """Path of the run, relative to the current folder if it lies below it."""
        path, here = self.run.path.absolute(), Path.cwd()
        return str(path.relative_to(here) if path.is_relative_to(here) else self.run.path)

    def as_json(self) -> dict[str, Any]:
        """Row of `muybridge runs --json`."""
        recipe = self.recipe
        return {
            "path": self.shown_path,
            "name": self.run.path.absolute().resolve().name,
            "model": recipe and recipe.model.name,
            "fused": self.fused or None,
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
    """Progress and result of a run; a file that cannot be read makes it damaged, with the rest kept."""
    result = Standing(run, "damaged", changed=_changed(run))
    try:
        result = replace(result, recipe=run.recipe())
        result = replace(result, fused=(run.fused() or {"name": ""})["name"])
        state, epochs = run.state(), None if run.is_fused else run.planned_epochs()
        train, val = run.metrics("train"), run.metrics("val")
        if state in ("stopped", "begun"):  # later lines are measured again
            saved = run.saved_step() or 0
            train, val = ([line for line in lines if line["step"] <= saved] for lines in (train, val))
        metrics = {**({"val": val[-1]} if val else {}), **(run.result() if state == "finished" else {})}
        split = next((split for split in ("test", "val") if split in metrics), None)
        return replace(
            result, state=state, epoch=None if run.is_fused else train[-1]["epoch"] if train else 0, epochs=epochs, split=split,
            video_top1=metrics[split]["video_top1"] if split else None,
            train_seconds=run.train_seconds(),
        )  # fmt: skip
    except UserError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or run.path} cannot be read: {error.strerror}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{run.path} is damaged: a value is not a run's: {type(error).__name__}: {error}"
    return replace(result, reason=reason)


def find(folder: str | Path, *, unreadable: Callable[[OSError], None] | None = None) -> list[Run]:
    """Run folders at `folder` and at any depth below it, in the order of their paths.

    Hidden folders are not entered; links are, but no folder twice. `unreadable` is called with the error of a folder that
    cannot be read; None: the error is raised. Raises UserError where `folder` is not a folder.
    """
    if not Path(folder).is_dir():
        fault = "is a file" if Path(folder).exists() else "does not exist"
        raise UserError(f"{folder}: it {fault}. Name a folder to look for runs in")
    runs, seen, waiting = [], set(), deque([Path(folder)])
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
        is_run = is_run_of(inside)
        if is_run:
            runs.append(Run(path))
        for entry in sorted(folders, key=lambda entry: entry.name):
            if not (is_run and entry.name in RUN_FOLDERS):  # links wait: a folder is known by its own path
                (waiting.append if entry.is_symlink() else waiting.appendleft)(path / entry.name)
    return sorted(runs, key=lambda run: run.path.parts)


def _changed(run: Run) -> datetime | None:
    written = ("recipe.json", "metrics.jsonl", "timing.jsonl", "checkpoints/last", "result.json")
    times = []
    for name in written:
        with suppress(OSError):
            times.append((run.path / name).stat().st_mtime)
    return datetime.fromtimestamp(max(times)).astimezone() if times else None
