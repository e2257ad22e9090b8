"""The run folder: what one recipe leaves on disk (format: docs/formats.md). NumPy only, so that reports need no torch.

RUN/
  recipe.json        everything that changes the result, resolved (precision, hashes)
  runtime.json       device, workers, …
  environment.json   versions, machine, threads
  dataset.json       classes, mirroring, reversed pairs, sizes of the splits
  trained_on.npz     ids, groups and content hashes of the training videos, and hashes of those of the runs it builds upon
  cost.json          parameters, multiply-adds
  init.json          what it started from, where that is not nothing
  metrics.jsonl      what training measured; nothing in it depends on time
  timing.jsonl       how long it took
  checkpoints/       step-00000120/ …, and the pointers `last` and `best`
  scores/            test.npz, val.npz: per-view scores
  diagnosis/         what `diagnose` found: diagnosis.json, per-view scores of each order of frames, saliency/
  skipped.json       videos that could not be read, where the recipe says to go on without them
  source/            the file of a model of your own
  result.json        the final figures; a run is finished when it is there
  speed.json         what its model takes, where `muybridge measure` was asked
"""

import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from filelock import FileLock, Timeout

from muybridge.errors import UserError
from muybridge.files import read_json, write_atomic, write_durable, write_json
from muybridge.recipe import Recipe, Runtime, from_json
from muybridge.scores import Scores

FORMAT_VERSION = 1

State = Literal["finished", "training", "stopped", "begun", "damaged"]
STATES: tuple[State, ...] = get_args(State)
"""finished: it has a result; training: a process is at it; stopped: `train --resume` goes on; begun: nothing is saved yet;
damaged: a file of it cannot be read."""

BESIDE_RECIPE = ("dataset.json", "environment.json", "runtime.json", "checkpoints")
"""Beside a recipe.json each of these says that a folder is a run."""

OWN_FOLDERS = ("checkpoints", "diagnosis", "scores", "source", "trackers")
"""Of a run; no runs lie there."""


@dataclass(frozen=True)
class Run:
    """A run folder. Reading raises UserError that names the file."""

    path: Path

    @staticmethod
    def open(run: "str | Path | Run") -> "Run":
        """An existing run folder, by its path. Raises UserError where there is none."""
        path = run.path if isinstance(run, Run) else Path(run)
        if not (path / "recipe.json").exists():
            what = "has no recipe.json, so it is no run" if path.is_dir() else "does not exist"
            raise UserError(f"No such run: {path} {what}. A run is the folder that `muybridge train --out` makes")
        return Run(path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def is_finished(self) -> bool:
        return (self.path / "result.json").exists()

    @property
    def is_trial(self) -> bool:
        """Was it made by a search (`compare --tune`)?"""
        path = self.path.resolve()
        return path.parent.parent.name == "tuning" and path.name.startswith("trial-")

    def recipe(self) -> Recipe:
        return from_json(Recipe, self.path / "recipe.json")

    def runtime(self) -> Runtime:
        return from_json(Runtime, self.path / "runtime.json")

    def dataset(self) -> dict[str, Any]:
        return read_json(self.path / "dataset.json")

    def cost(self) -> dict[str, Any]:
        cost = read_json(self.path / "cost.json")
        missing = [name for name in ("params", "conv_macs", "macs") if not isinstance(cost, dict) or name not in cost]
        if missing:
            raise UserError(f"{self.path / 'cost.json'} lacks {', '.join(missing)}")
        return cost

    def environment(self) -> dict[str, Any]:
        return read_json(self.path / "environment.json")

    def result(self) -> dict[str, Any]:
        result = read_json(self.path / "result.json")
        if not isinstance(result, dict):
            raise UserError(f"{self.path / 'result.json'} holds no result: an object with figures is expected")
        return result

    def metrics(self, kind: str) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl of one kind ("train", "val")."""
        texts = self.metrics_file.read_text().splitlines() if self.metrics_file.exists() else []
        lines = []
        for number, text in enumerate(texts, start=1):
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError as error:
                if number < len(texts):  # the last line of a killed process may be torn
                    raise UserError(f"{self.metrics_file}, line {number}, is not JSON: {error}") from None
        return [line for line in lines if line["kind"] == kind]

    def timing(self) -> list[dict[str, Any]]:
        """A line an epoch; the last one where a resumed run did an epoch again."""
        file = self.path / "timing.jsonl"
        by_epoch: dict[int, dict[str, Any]] = {}
        for line in file.read_text().splitlines() if file.exists() else []:
            with suppress(json.JSONDecodeError):  # the torn last line of a killed process
                by_epoch |= {(values := json.loads(line))["epoch"]: values}
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]

    def scores(self, name: str = "test") -> Scores:
        return Scores.load(self.path / "scores" / f"{name}.npz")

    @property
    def diagnosis_folder(self) -> Path:
        return self.path / "diagnosis"

    def diagnosis(self) -> dict[str, Any] | None:
        """What `diagnose` found, if it was asked."""
        file = self.diagnosis_folder / "diagnosis.json"
        return read_json(file) if file.exists() else None

    def diagnosed_scores(self, order: str) -> Scores:
        """Of frames in one of the orders of `muybridge.data.sampling.ORDERS`."""
        return Scores.load(self.diagnosis_folder / f"{order}.npz")

    def trained_on(self) -> dict[str, np.ndarray]:
        """id, group and sha256 of the training videos; base_sha256 of those of the runs that it builds upon, if any."""
        with np.load(self.path / "trained_on.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def seen_sha256(self) -> np.ndarray:
        """Of all videos that its weights were trained on, in this run and in those that it builds upon."""
        arrays = self.trained_on()
        seen = np.unique(np.concatenate([arrays["sha256"], arrays.get("base_sha256", arrays["sha256"][:0])]))
        return seen[seen != ""]  # a hash that is not known is none

    def save_trained_on(
        self, *, ids: np.ndarray, groups: np.ndarray, sha256: np.ndarray, base: "Run | None" = None
    ) -> None:
        """`base`: the run that this one starts from."""
        buffer = io.BytesIO()
        arrays = {"id": ids, "group": groups, "sha256": sha256}
        np.savez(buffer, allow_pickle=False, **arrays | ({} if base is None else {"base_sha256": base.seen_sha256()}))
        write_atomic(self.path / "trained_on.npz", buffer.getvalue())

    def skipped(self) -> dict[str, dict[str, str]]:
        """Videos that could not be read and were left out: id to path and cause."""
        file = self.path / "skipped.json"
        return read_json(file)["videos"] if file.exists() else {}

    def save_skipped(self, videos: dict[str, dict[str, str]]) -> None:
        in_order = {name: videos[name] for name in sorted(videos)}
        write_json(self.path / "skipped.json", {"format_version": FORMAT_VERSION, "videos": in_order})

    def save_init(self, loaded: dict[str, Any]) -> None:
        """Which weights it started from: what came, what did not, and why."""
        write_json(self.path / "init.json", {"format_version": FORMAT_VERSION, **loaded})

    def speed(self) -> dict[str, Any] | None:
        """What `muybridge measure` found its model to take; none where it was not asked."""
        file = self.path / "speed.json"
        return read_json(file) if file.exists() else None

    def save_speed(self, speed: dict[str, Any]) -> None:
        write_json(self.path / "speed.json", {"format_version": FORMAT_VERSION, **speed})

    def forget_skipped(self) -> None:
        (self.path / "skipped.json").unlink(missing_ok=True)

    def holds_only_beginnings(self) -> bool:
        """Is there nothing here but what a run leaves that was stopped before its first checkpoint?"""
        own = {
            "recipe.json", "runtime.json", "environment.json", "dataset.json", "trained_on.npz", "cost.json", "source",
            "init.json", "metrics.jsonl", "timing.jsonl", "skipped.json", "checkpoints", "trackers", ".lock",
        }  # fmt: skip
        return all(file.name in own or file.name.endswith(".partial") for file in self.path.iterdir())

    def state(self) -> State:
        """Where it stands, by the files that are there. Raises UserError where they do not tell."""
        if not self.is_finished and self.is_in_use():
            return "training"
        if self.is_finished:  # asked again: it may have become so before the lock was free
            return "finished"
        return "begun" if self.saved_step() is None else "stopped"

    def saved_step(self) -> int | None:
        """The step of the last checkpoint; none where nothing is saved. Raises UserError where that is gone."""
        pointer = self.checkpoints / "last"
        if not pointer.exists():
            return None
        name = pointer.read_text().strip()
        if not (name.startswith("step-") and (self.checkpoints / name / "state.json").is_file()):
            raise UserError(f"{pointer} names '{name}', and there is no such checkpoint beside it")
        return int(name.removeprefix("step-"))

    def planned_epochs(self) -> int | None:
        """As many as its `min_steps` take, if the recipe's are fewer (as in training); none where hours end it."""
        o = self.recipe().optim
        if o.epochs is None or not o.min_steps:
            return o.epochs
        per_epoch = o.steps_per_epoch or -(-self.dataset()["split_sizes"]["train"] // o.batch_size)
        return max(o.epochs, -(-o.min_steps // per_epoch))

    def is_in_use(self) -> bool:
        """Does a process train in it? Tries the lock, and leaves none where there was none. Raises UserError where it may
        not be tried."""
        file = self.path / ".lock"
        if not file.exists():
            return False
        try:
            with FileLock(file).acquire(timeout=0.05, poll_interval=0.01):  # somebody else may be asking the same
                return False
        except Timeout:
            return True
        except OSError as error:
            raise UserError(
                f"{file} cannot be opened for writing, so nobody can tell whether a process trains there: {error.strerror}"
            ) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process trains in a folder. Raises UserError where another one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0.5)  # `is_in_use` holds it for a moment
        except Timeout:
            raise UserError(f"{self.path} is in use: another process trains in it") from None
        try:
            yield
        finally:
            lock.release()

    def write_metrics(self, line: dict[str, Any]) -> None:
        _append(self.metrics_file, line)

    def write_timing(self, line: dict[str, Any]) -> None:
        _append(self.path / "timing.jsonl", line)

    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl, once it is on the disk for sure."""
        if not self.metrics_file.exists():
            return 0
        descriptor = os.open(self.metrics_file, os.O_RDWR)
        try:
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def truncate_metrics(self, length: int) -> None:
        """Forget what was measured after a checkpoint."""
        if not self.metrics_file.exists():
            write_durable(self.metrics_file, b"")
        os.truncate(self.metrics_file, length)

    def save_scores(self, name: str, scores: Scores) -> None:
        (self.path / "scores").mkdir(exist_ok=True)
        replace(scores, split=name).save(self.path / "scores" / f"{name}.npz")

    def finish(self, result: dict[str, Any]) -> None:
        write_json(self.path / "result.json", {"format_version": FORMAT_VERSION, **result})


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


def _append(path: Path, line: dict[str, Any]) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
