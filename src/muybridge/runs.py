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
  skipped.json       videos that could not be read, where the recipe says to go on without them
  source/            the file of a model of your own
  result.json        the final figures; a run is finished when it is there
"""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from muybridge.errors import UserError
from muybridge.files import read_json, write_atomic, write_durable, write_json
from muybridge.recipe import Recipe, Runtime, from_json
from muybridge.scores import Scores

FORMAT_VERSION = 1


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

    def recipe(self) -> Recipe:
        return from_json(Recipe, self.path / "recipe.json")

    def runtime(self) -> Runtime:
        return from_json(Runtime, self.path / "runtime.json")

    def dataset(self) -> dict[str, Any]:
        return read_json(self.path / "dataset.json")

    def cost(self) -> dict[str, Any]:
        return read_json(self.path / "cost.json")

    def environment(self) -> dict[str, Any]:
        return read_json(self.path / "environment.json")

    def result(self) -> dict[str, Any]:
        return read_json(self.path / "result.json")

    def metrics(self, kind: str) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl of one kind ("train", "val")."""
        if not self.metrics_file.exists():
            return []
        lines = (json.loads(line) for line in self.metrics_file.read_text().splitlines())
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

    def forget_skipped(self) -> None:
        (self.path / "skipped.json").unlink(missing_ok=True)

    def holds_only_beginnings(self) -> bool:
        """Is there nothing here but what a run leaves that was stopped before its first checkpoint?"""
        own = {
            "recipe.json", "runtime.json", "environment.json", "dataset.json", "trained_on.npz", "cost.json", "source",
            "init.json", "metrics.jsonl", "timing.jsonl", "skipped.json", "checkpoints", "trackers", ".lock",
        }  # fmt: skip
        return all(file.name in own or file.name.endswith(".partial") for file in self.path.iterdir())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process trains in a folder. Raises UserError where another one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
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


def _append(path: Path, line: dict[str, Any]) -> None:
    try:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
