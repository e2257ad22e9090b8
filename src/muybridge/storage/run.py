"""Run folder: the files of one run (format: docs/formats.md), read with NumPy only, so that reports need no torch.

RUN/
  recipe.json        everything that changes the result, resolved (precision, hashes)
  runtime.json       device, workers, …
  environment.json   versions, machine, threads
  dataset.json       classes, mirroring, reversed pairs, sizes of the splits and of the classes in them
  trained_on.npz     ids, groups and content hashes of the training videos, and hashes of those of the runs it builds upon
  cost.json          parameters, multiply-adds
  init.json          pretrained weights: what was loaded and what was not
  metrics.jsonl      losses, accuracies and facts of the network; no value depends on time
  timing.jsonl       training time per epoch
  checkpoints/       step-00000120/ …, and the pointers `last` and `best`
  scores/            test.npz, val.npz: per-view scores
  evaluations/       NAME/: further evaluations that `evaluate --keep` stored (`muybridge.storage.evaluations`)
  calibration.json   temperature and threshold of its answers, written by `muybridge calibrate`
  diagnosis/         results of `diagnose`: diagnosis.json, per-view scores of each order of frames, saliency/
  pauses.json        val at the steps at which a search paused it
  skipped.json       videos that could not be read and were left out (data.on_error=skip)
  source/            source files of the user's model
  result.json        final metrics; a run is finished when it exists
  speed.json         speed and memory, written by `muybridge measure`
  fused.json         of fused scores alone (`muybridge fuse`): the runs they are of, and weights; such a folder has no
                     checkpoints, metrics or timing
"""

import io
import json
import os
import re
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, diff, fingerprint, from_json
from muybridge.recipe.schedule import budget, steps_per_epoch
from muybridge.runtime.files import (
    as_kind,
    check_fences,
    clear_partials,
    is_partial,
    owned,
    parsed_json,
    read_as,
    read_json,
    read_text,
    within,
    write_atomic,
    write_durable,
    write_json,
)
from muybridge.runtime.locks import is_locked, locked
from muybridge.runtime.shown import Shown, heading, table_of
from muybridge.storage import bundle, shapes
from muybridge.storage.scores import Scores, load_arrays

if TYPE_CHECKING:
    from muybridge import load as Predictor  # its class, by the package's door

FORMAT_VERSION = 1
SPEED_VERSION = 2
"""Format version of speed.json."""
DIAGNOSIS_VERSION = 2
"""Version of diagnosis.json and the names of its scores."""
CALIBRATION_FILE = "calibration.json"
DIAGNOSIS_FILE = "diagnosis/diagnosis.json"
TODAYS_ORDERS = {"single_frame": "frozen_frame", "thinned": "subsampled"}
"""Orders of frames by the names that a diagnosis of version 1 has for them."""

State = Literal["finished", "training", "stopped", "begun", "damaged"]
STATES: tuple[State, ...] = get_args(State)
"""States of a run. finished: it has a result; training: a process trains it; stopped: `train --resume` continues it; begun:
it has no checkpoint yet; damaged: a file of it cannot be read."""

_BESIDE_RECIPE = ("dataset.json", "environment.json", "runtime.json", "checkpoints")
"""Names of which any, beside a recipe.json, marks a folder as a run."""

RUN_FOLDERS = ("checkpoints", "diagnosis", "evaluations", "scores", "source", "trackers")
"""Folders inside a run, which are not searched for runs."""


def is_run_of(names: Container[str]) -> bool:
    """Whether a folder that holds files and folders of these names is a run."""
    return "recipe.json" in names and any(name in names for name in _BESIDE_RECIPE)


MOST_NAME_BYTES = 200
"""Longest name of a run's folder; files beside it have longer ones."""


def check_name(name: str, file: Path) -> None:
    """Raise UserError for a name in a file of a study that cannot be that of a run's folder."""
    is_name = name.isprintable() and Path(name).name == name and not name.startswith("@") and name not in (".", "..")
    if not name or not is_name or len(name.encode()) > MOST_NAME_BYTES:
        raise UserError(
            f"{file}: it is damaged: {name[:MOST_NAME_BYTES]!r} is not the name of a run's folder. Restore it"
        )


def view_cost(cost: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, and multiply-adds of a view of a test, of what cost.json holds."""
    of_view = cost.get("test", cost)
    return {"params": cost["params"], "conv_macs": of_view["conv_macs"], "macs": of_view["macs"]}


@dataclass(frozen=True)
class Run(Shown):
    """Run folder, by its path.

    Reading raises UserError that names the file and its fault. Nothing is written through a link inside the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @staticmethod
    def open(run: "str | Path | Run", *, fused: bool = False) -> "Run":
        """Open an existing run folder, or a bundle, whose files are checked. Raises UserError where it is missing or no run.

        `fused`: whether fused scores will do, which have no network.
        """
        path = bundle.opened(run.path if isinstance(run, Run) else Path(run))
        if not (path / "recipe.json").exists():
            fault = "has no recipe.json" if path.is_dir() else "is a file" if path.exists() else "does not exist"
            raise UserError(f"{path}: no such run, as it {fault}. Name a folder that `muybridge train --out` made")
        if not fused:
            Run(path).check_has_network()
        return Run(path)

    def predictor(self, **options: Any) -> "Predictor":
        """The network of the run, ready to label videos: `run.predictor()("some.mp4")`.

        `options` are those of `muybridge.load`. Raises UserError.
        """
        import muybridge

        return muybridge.load(self, **options)

    def as_rows(self) -> list[dict[str, Any]]:
        """A row an epoch: loss and accuracy of training, and, where it was validated, of val."""
        val = {line["epoch"]: line for line in self.metrics("val")}
        rows = []
        for line in self.metrics("train", timed=True):
            row = {name: value for name, value in line.items() if name != "kind"}
            of_val = val.get(line["epoch"], {})
            rows.append(row | {f"val_{name}": of_val.get(name) for name in ("loss", "video_top1", "clip_top1")})
        return rows

    def plot(self) -> Any:
        """An Altair chart of loss and accuracy over the epochs, of training and of val. Raises UserError without any."""
        import muybridge

        return muybridge.plot(self)

    def _repr_html_(self) -> str:
        recipe = self.recipe()
        about = [f"{recipe.model.name} on {recipe.data.manifest}, seed {recipe.seed}"]
        if not self.is_finished:
            return heading(str(self.path), *about, "not finished") + table_of(self.as_rows()[-5:])
        result = self.result()
        splits = [{"split": name, **result[name]} for name in ("val", "test") if name in result]
        return heading(str(self.path), *about, f"{result['steps']} steps") + table_of(splits)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints and their pointers."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """Path of metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def is_finished(self) -> bool:
        """True where the run has a result."""
        return (self.path / "result.json").exists()

    @property
    def is_fused(self) -> bool:
        """True for fused scores of other runs (`muybridge fuse`): they have no network of their own."""
        return (self.path / "fused.json").exists()

    def check_has_network(self) -> None:
        """Raises UserError for fused scores."""
        if self.is_fused:
            parts = ", ".join(part["path"] for part in (self.fused() or {})["parts"])
            raise UserError(
                f"{self.path}: it holds fused scores of other runs, and no network. Name one of these instead: {parts}; or, "
                f"for metrics, {self.scores_file('test')}"
            )

    def fused(self) -> dict[str, Any] | None:
        """Content of fused.json: the runs whose scores were fused, and their weights; None for a run that was trained."""
        file = self.path / "fused.json"
        content: dict[str, Any] | None = read_as(shapes.Fused, file) if file.exists() else None
        if content is not None and len(content["weights"]) != len(content["parts"]):
            raise UserError(f"{file}: it is damaged: it has not a weight for each part. Restore it")
        return content

    def save_fused(self, content: Mapping[str, Any]) -> None:
        """Write fused.json."""
        write_json(self.file("fused.json"), {"format_version": FORMAT_VERSION, **content})

    @property
    def is_trial(self) -> bool:
        """True for a trial of a search (`compare --search`, `--tune`)."""
        path = self.path.resolve()
        return path.parent.parent.name in ("search", "tuning") and path.name.startswith("trial-")

    @property
    def how_to_continue(self) -> str:
        """The order that continues it: a run of a planned study is continued by a worker, which holds its lease."""
        if self.is_trial:
            return "Continue: repeat the command"
        folder = self.path.absolute().parent
        if folder.name == "runs" and (folder.parent / "plan.json").exists():
            return f"Continue: repeat the command, or {shlex.join(['muybridge', 'work', str(folder.parent)])}"
        return f"Continue: {shlex.join(['muybridge', 'train', '--resume', str(self.path)])}"

    def recipe(self) -> Recipe:
        """Read recipe.json, which names a model and a manifest."""
        path = self.path / "recipe.json"
        recipe = from_json(Recipe, path)
        for field, value in (("model.name", recipe.model.name), ("data.manifest", recipe.data.manifest)):
            if not value:  # a recipe may leave it open, a run's may not
                raise UserError(
                    f"{path}: it is damaged: {field}: field required. Restore it, or train into another folder"
                )
        return recipe

    def runtime(self) -> Runtime:
        """Read runtime.json."""
        return from_json(Runtime, self.path / "runtime.json")

    def dataset(self) -> dict[str, Any]:
        """Read and check dataset.json."""
        file = self.path / "dataset.json"
        dataset: dict[str, Any] = read_as(shapes.Dataset, file)
        classes, named = dataset["classes"], set(dataset["mirror"] or {}).union((dataset["mirror"] or {}).values())
        fault = (
            "it has no classes" if not classes
            else "a class is named twice" if len(set(classes)) < len(classes)
            else f"mirror names '{min(unknown)}', which is not a class" if (unknown := named - set(classes))
            else "split_sizes has no training video" if not dataset["split_sizes"].get("train")
            else "class_sizes is not of these splits and classes" if not _sizes_fit(dataset)
            else "longest_trained_seconds is not a length" if not 0 < dataset["longest_trained_seconds"] < inf
            else ""
        )  # fmt: skip
        if fault:
            raise UserError(f"{file}: it is damaged: {fault}. Restore it, or train into another folder")
        return dataset

    def cost(self) -> dict[str, Any]:
        """Read cost.json: parameters, multiply-adds of a training clip, and of a view where it has another size."""
        cost: dict[str, Any] = read_as(shapes.Cost, self.path / "cost.json")
        return cost

    def view_cost(self) -> dict[str, Any]:
        """Parameters, and multiply-adds of a view of a test."""
        return view_cost(self.cost())

    def environment(self) -> dict[str, Any]:
        """Read environment.json: versions, machine, threads."""
        environment: dict[str, Any] = read_as(shapes.Environment, self.path / "environment.json")
        return environment

    def save_environment(self, environment: dict[str, Any]) -> None:
        """Write environment.json."""
        write_json(self.file("environment.json"), environment)

    def result(self) -> dict[str, Any]:
        """Read result.json: final metrics per split."""
        result: dict[str, Any] = read_as(shapes.Result, self.path / "result.json")
        return result

    def metrics(self, kind: str, *, timed: bool = False) -> list[dict[str, Any]]:
        """Lines of one kind ("train", "val", "start", "health") in metrics.jsonl.

        `timed`: with the `seconds` of training until then, of timing.jsonl; an epoch without a line there has none.
        """
        of_kind = [line for line in self.all_metrics() if line["kind"] == kind]
        if not timed:
            return of_kind
        seconds = {line["epoch"]: line["seconds"] for line in self.timing()}
        return [line | ({"seconds": seconds[epoch]} if (epoch := line["epoch"]) in seconds else {}) for line in of_kind]

    def all_metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl."""
        lines = _lines(shapes.Measured, self.metrics_file, whole=self.is_finished)
        if not lines and self.is_finished and not self.is_fused and self.result()["steps"]:
            raise UserError(
                f"{self.metrics_file}: it is damaged or gone, as the run is finished, but it has no lines. Restore it"
            )
        return lines

    def timing(self) -> list[dict[str, Any]]:
        """Lines of timing.jsonl, one per epoch: the last one where a resumed run repeated an epoch.

        `seconds` of training until then are summed up where an earlier version did not write them.
        """
        by_epoch = {
            line["epoch"]: line for line in _lines(shapes.Timing, self.path / "timing.jsonl", whole=self.is_finished)
        }
        lines: list[dict[str, Any]] = []
        for epoch in sorted(by_epoch):
            before = lines[-1]["seconds"] if lines else 0.0
            lines.append({"seconds": before + by_epoch[epoch]["train_seconds"]} | by_epoch[epoch])
        return lines

    def train_seconds(self) -> float:
        """Time of training in seconds, validation not counted; of fused scores the sum over their parts."""
        fused = self.fused()
        if fused is not None:
            return float(sum(part["train_seconds"] for part in fused["parts"]))
        lines = self.timing()
        return lines[-1]["seconds"] if lines else 0.0

    def epochs_trained(self) -> float:
        """Passes over the training videos, by its own count of steps; of fused scores the sum over their parts."""
        fused = self.fused()
        if fused is not None:
            return float(sum(part["epochs"] for part in fused["parts"]))
        steps: int = self.result()["steps"]
        return steps / self.steps_per_epoch()

    def scores_file(self, split: str) -> Path:
        """Per-view scores of a split, written when the run finishes."""
        return self.path / "scores" / f"{split}.npz"

    @property
    def has_test_scores(self) -> bool:
        """Whether its test split was scored: not without a test split, nor by a recipe that leaves that out."""
        return self.scores_file("test").exists()

    def scores(self, name: str = "test") -> Scores:
        """Per-view scores of a split."""
        return Scores.load(self.scores_file(name))

    @property
    def diagnosis_folder(self) -> Path:
        """Folder of the results of `diagnose`."""
        return self.path / "diagnosis"

    @property
    def saliency_folder(self) -> Path:
        """Folder of the saliency maps of `diagnose --video`."""
        return self.diagnosis_folder / "saliency"

    def diagnosis(self) -> dict[str, Any] | None:
        """Content of diagnosis.json in today's names of the orders; None for a run that was not diagnosed."""
        diagnosis = self._stored_diagnosis()
        if diagnosis is None or not _has_first_names(diagnosis):
            return diagnosis
        per_class = diagnosis.get("per_class")
        shares = per_class.values() if isinstance(per_class, dict) else ()
        for by_order in (diagnosis.get("accuracy"), diagnosis.get("largest_change"), *shares):
            if isinstance(by_order, dict):
                entries = [(TODAYS_ORDERS.get(name, name), value) for name, value in by_order.items()]
                by_order.clear()
                by_order.update(entries)
        return diagnosis | {"format_version": DIAGNOSIS_VERSION}

    def _stored_diagnosis(self) -> dict[str, Any] | None:
        file = self.path / DIAGNOSIS_FILE
        if not file.exists():
            return None
        stored: dict[str, Any] = read_json(file)  # its fields in the order in which they are printed
        as_kind(shapes.Diagnosis, stored, str(file))
        return stored

    def diagnosed_scores(self, order: str) -> Scores:
        """Scores with the frames in one of the orders of `muybridge.data.sampling.ORDERS`."""
        stored = self._stored_diagnosis()
        if stored is not None and _has_first_names(stored):
            order = {name: first for first, name in TODAYS_ORDERS.items()}.get(order, order)
        return Scores.load(self.diagnosis_folder / f"{order}.npz")

    def save_diagnosed_scores(self, scores: Mapping[Any, Scores]) -> None:
        """Replace an earlier diagnosis by scores in each order of the frames; `save_diagnosis` completes it."""
        self.folder("diagnosis")
        clear_partials(self.diagnosis_folder)
        self.file(DIAGNOSIS_FILE).unlink(missing_ok=True)  # it says that all else is there
        for first in TODAYS_ORDERS:
            self.file(f"diagnosis/{first}.npz").unlink(missing_ok=True)
        for order, of_order in scores.items():
            of_order.save(self.file(f"diagnosis/{order}.npz"))

    def save_diagnosis(self, diagnosis: dict[str, Any]) -> None:
        """Write diagnosis.json, the last file of a diagnosis."""
        write_json(self.file(DIAGNOSIS_FILE), diagnosis)

    def save_saliency(self, name: str, *, npz: bytes, jpg: bytes) -> None:
        """Write saliency/NAME.npz, and NAME.jpg for human eyes."""
        self.folder("diagnosis/saliency")
        write_atomic(self.file(f"diagnosis/saliency/{name}.jpg"), jpg)
        write_atomic(self.file(f"diagnosis/saliency/{name}.npz"), npz)

    def trained_on(self) -> dict[str, np.ndarray]:
        """Arrays id, group and sha256 of the training videos, and base_sha256 of those of the runs it starts from, if any."""
        file = self.path / "trained_on.npz"
        arrays = load_arrays(file, "the training videos of a run")
        missing = {"id", "group", "sha256"} - arrays.keys()
        if missing:
            raise UserError(
                f"{file}: it is damaged: it lacks {', '.join(sorted(missing))}. Restore it, or train into another "
                "folder"
            )
        return arrays

    def seen_sha256(self) -> np.ndarray:
        """Hashes of all videos that the weights were trained on, in this run and in those it starts from."""
        arrays = self.trained_on()
        seen = np.unique(np.concatenate([arrays["sha256"], arrays.get("base_sha256", arrays["sha256"][:0])]))
        return seen[seen != ""]  # empty: the hash is unknown

    def save_trained_on(
        self, *, ids: np.ndarray, groups: np.ndarray, sha256: np.ndarray, before_sha256: np.ndarray | None = None
    ) -> None:
        """Write trained_on.npz. `before_sha256`: of the runs that this one starts from, or that computed its vectors."""
        buffer = io.BytesIO()
        arrays = {"id": ids, "group": groups, "sha256": sha256}
        np.savez(
            buffer, allow_pickle=False, **arrays | ({} if before_sha256 is None else {"base_sha256": before_sha256})
        )
        write_atomic(self.file("trained_on.npz"), buffer.getvalue())

    def skipped(self) -> dict[str, dict[str, str]]:
        """Videos that could not be read and were left out: map of id to path and cause."""
        file = self.path / "skipped.json"
        videos: dict[str, dict[str, str]] = read_as(shapes.AllSkipped, file)["videos"] if file.exists() else {}
        return videos

    def save_skipped(self, videos: dict[str, dict[str, str]]) -> None:
        """Write skipped.json."""
        in_order = {name: videos[name] for name in sorted(videos)}
        write_json(self.file("skipped.json"), {"format_version": FORMAT_VERSION, "videos": in_order})

    def save_candidates(self, tried: Sequence[Mapping[str, Any]], chosen: int) -> None:
        """Write candidates.json: settings and val metrics of the copies that were trained at once, and which answers."""
        write_json(
            self.file("candidates.json"), {"format_version": FORMAT_VERSION, "tried": list(tried), "chosen": chosen}
        )

    def candidates(self) -> dict[str, Any] | None:
        """Content of candidates.json; None where one network was trained. Raises UserError."""
        file = self.path / "candidates.json"
        content: dict[str, Any] | None = read_as(shapes.Candidates, file) if file.exists() else None
        if content is not None and content["chosen"] >= len(content["tried"]):
            raise UserError(f"{file}: it is damaged: chosen is {content['chosen']}. Restore it")
        return content

    def pauses(self) -> dict[int, dict[str, Any]]:
        """Val at each step at which the training was paused (`muybridge.training.loop.finish`), and `seconds` until then."""
        file = self.path / "pauses.json"
        content: dict[str, dict[str, Any]] = read_as(shapes.Pauses, file)["steps"] if file.exists() else {}
        return {int(step): figures for step, figures in content.items()}

    def save_pause(self, step: int, figures: Mapping[str, Any]) -> None:
        """Add a step to pauses.json."""
        steps = {str(one): known for one, known in sorted({**self.pauses(), step: figures}.items())}
        write_json(self.file("pauses.json"), {"format_version": FORMAT_VERSION, "steps": steps})

    def save_init(self, loaded: dict[str, Any]) -> None:
        """Write init.json: pretrained tensors that were loaded, those that were not, and why."""
        write_json(self.file("init.json"), {"format_version": FORMAT_VERSION, **loaded})

    def calibration(self) -> dict[str, Any] | None:
        """Content of calibration.json; None where the run is not calibrated. Raises UserError."""
        file = self.path / CALIBRATION_FILE
        if not file.exists():
            return None
        try:
            content: dict[str, Any] = read_as(shapes.Calibration, file)
        except UserError as error:
            raise UserError(f"{error}. Or remove it, and use muybridge calibrate {self.path}") from None
        return content

    def save_calibration(self, content: Mapping[str, Any]) -> None:
        """Write calibration.json."""
        write_json(self.file(CALIBRATION_FILE), {"format_version": FORMAT_VERSION, **content})

    def speed(self) -> dict[str, Any] | None:
        """Speed and memory from `muybridge measure`; None where it has not run.

        Version 1 may hold the memory of the measuring command on a CPU: it is dropped, and `memory_is_unknown` set.
        """
        file = self.path / "speed.json"
        if not file.exists():
            return None
        speed: dict[str, Any] = read_as(shapes.Speed, file)
        if speed.get("format_version", 1) < SPEED_VERSION and speed.get("device", "cpu") == "cpu":
            speed |= {"peak_memory_bytes": None, "memory_is_unknown": True}
        return speed

    def save_speed(self, speed: dict[str, Any]) -> None:
        """Write speed.json."""
        write_json(self.file("speed.json"), {"format_version": SPEED_VERSION, **speed})

    def forget_skipped(self) -> None:
        """Delete skipped.json."""
        self.file("skipped.json").unlink(missing_ok=True)

    def holds_only_beginnings(self) -> bool:
        """True where the folder holds only files of a run that stopped before its first checkpoint."""
        expected = {
            "recipe.json", "runtime.json", "environment.json", "dataset.json", "trained_on.npz", "cost.json", "source",
            "init.json", "metrics.jsonl", "timing.jsonl", "skipped.json", "checkpoints", "trackers", ".lock",
        }  # fmt: skip
        return all(file.name in expected or is_partial(file.name) for file in self.path.iterdir())

    def state(self) -> State:
        """State of the run by its files. Raises UserError where they contradict each other."""
        if not self.is_finished and self.is_in_use():
            return "training"
        if self.is_finished:  # checked again: it may have finished before the lock was free
            return "finished"
        return "begun" if self.saved_step() is None else "stopped"

    def check_finished(self) -> None:
        """Check that the run is finished. Raises UserError."""
        if not self.is_finished:
            raise UserError(f"{self.path}: it is not finished. Continue it: muybridge train --resume {self.path}")

    def state_for(self, resolved: Recipe) -> Literal["new", "begun", "finished"]:
        """Progress of the run of this recipe in the folder: "new" before its first checkpoint.

        Raises UserError for a folder that holds a run of another recipe.
        """
        if not (self.path / "recipe.json").exists() or not (self.is_finished or (self.checkpoints / "last").exists()):
            return "new"
        recipe = self.recipe()
        if fingerprint(recipe) != fingerprint(resolved):
            changes = "; ".join(f"{name} was {a}, is {b}" for name, (a, b) in list(diff(recipe, resolved).items())[:4])
            raise UserError(
                f"{self.path}: it holds a run of another recipe ({changes}). Choose another --out, or delete that "
                "folder"
            )
        return "finished" if self.is_finished else "begun"

    def saved_step(self) -> int | None:
        """Step of the last checkpoint; None before the first. Raises UserError where it is gone."""
        pointer = self.checkpoints / "last"
        if not pointer.exists():
            return None
        name = pointed_by(pointer)
        if not (self.checkpoints / name / "state.json").is_file():
            raise UserError(f"{pointer}: it names '{name}', but that checkpoint is missing. Restore it")
        return int(name.removeprefix("step-"))

    def planned_epochs(self) -> int | None:
        """Number of epochs, as `optim.steps` or `min_steps` have them; None where hours end training."""
        recipe = self.recipe()
        if recipe.optim.steps is None and (recipe.optim.epochs is None or not recipe.optim.min_steps):
            return recipe.optim.epochs  # damage to dataset.json does not hide it
        return budget(recipe, self._num_trained()).epochs

    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch."""
        return steps_per_epoch(self.recipe(), self._num_trained())

    def _num_trained(self) -> int:
        count: int = self.dataset()["split_sizes"]["train"]
        return count

    def file(self, name: str) -> Path:
        """Path of a file of the run for writing or deleting. Raises UserError for a link, and for a bundle in one file."""
        bundle.check_writable(self.path)
        return within(self.path, name)

    def folder(self, name: str) -> Path:
        """Path of a folder of the run for writing, created if missing. Raises UserError as `file` does."""
        bundle.check_writable(self.path)
        folder = within(self.path, name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def is_in_use(self) -> bool:
        """True while a process trains in the folder. Raises UserError where the lock cannot be read."""
        return is_locked(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for one training process. Raises UserError that names the process that holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path, "trains in it"):
            for name in RUN_FOLDERS:
                within(self.path, name)
            for folder in (self.path, self.checkpoints, self.path / "scores"):
                clear_partials(folder)
            yield

    def write_metrics(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        _append(self.file("metrics.jsonl"), line)

    def write_timing(self, line: dict[str, Any]) -> None:
        """Append a line to timing.jsonl."""
        _append(self.file("timing.jsonl"), line)

    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl, after flushing it to the disk."""
        if not self.metrics_file.exists():
            return 0
        descriptor = os.open(self.metrics_file, os.O_RDWR)
        try:
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def truncate_metrics(self, length: int) -> int:
        """Cut metrics.jsonl to its length at a checkpoint. Returns the number of bytes that it lacks."""
        file = self.file("metrics.jsonl")
        if not file.exists():
            write_durable(file, b"")
        check_fences()
        size = file.stat().st_size
        os.truncate(owned(file), min(size, length))
        owned(self.file("timing.jsonl"))
        return max(0, length - size)

    def save_scores(self, name: str, scores: Scores) -> None:
        """Write the per-view scores of a split."""
        self.folder("scores")
        replace(scores, split=name).save(self.file(f"scores/{name}.npz"))

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json, which finishes the run."""
        write_json(self.file("result.json"), {"format_version": FORMAT_VERSION, **result})


def _sizes_fit(dataset: dict[str, Any]) -> bool:
    """Whether `class_sizes`, which earlier versions did not write, has as many videos a split as `split_sizes`."""
    sizes, counts = dataset["split_sizes"], dataset.get("class_sizes")
    return counts is None or (
        all(len(of_split) == len(dataset["classes"]) for of_split in counts.values())
        and {split: sum(of_split) for split, of_split in counts.items()} == sizes
    )


def data_name(manifest: str | Path) -> str:
    """Name of a data set: its manifest's name, or that of the folder of a manifest.csv."""
    path = Path(manifest).absolute()
    return path.parent.name if path.stem == "manifest" and path.parent.name else path.stem


def _has_first_names(diagnosis: dict[str, Any]) -> bool:
    return diagnosis.get("format_version") == 1


def pointed_by(pointer: Path) -> str:
    """Name of the checkpoint in a file `last` or `best`. Raises UserError for any other content."""
    name = read_text(pointer).strip()
    if not re.fullmatch(r"step-[0-9]{8,}", name):
        raise UserError(f"{pointer}: it is damaged: '{name[:80]}' is not the name of a checkpoint. Restore it")
    return name


def _lines(kind: Any, path: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    """Lines of a .jsonl file; empty where the file is missing. Raises UserError that names a damaged line.

    The last line may be incomplete, unless the file must be `whole`.
    """
    texts = read_text(path).splitlines() if path.exists() else []
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            value = parsed_json(text, f"{path}, line {number}")
        except UserError:
            if number == len(texts) and not whole:  # a killed process may leave it incomplete
                break
            raise
        lines.append(as_kind(kind, value, f"{path}, line {number}"))
    return lines


def _append(path: Path, line: dict[str, Any]) -> None:
    check_fences()
    try:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
