"""Trackers: what a run measures, sent to TensorBoard, Weights & Biases or MLflow as well (the extra `track`).

Each of the three is asked by its own library in a few lines. (Accelerate's trackers ask them the same, and refuse to work
without its `PartialState`, which chooses devices and joins processes; here the run has done both already.)

RUN/trackers/
  tensorboard/         events: tensorboard --logdir RUNS
  wandb/, wandb.id     Weights & Biases' own files, and the name of the run there
  mlflow.id            the name of the run there; where it lies, MLFLOW_TRACKING_URI says
"""

import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from muybridge.errors import UserError
from muybridge.runtime.console import log
from muybridge.runtime.files import write_atomic

FINISH_SECONDS = 60.0
"""Longest that a run waits at its end for Weights & Biases to have it all (`wandb sync` sends the rest)."""


class Tracker(Protocol):
    """One place that measurements are sent to. Whatever it raises is told, and ends it alone."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self, finished: bool) -> None: ...


class TensorBoard:
    def __init__(self, *, project: str, name: str, folder: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # of a run that goes on, what it measured after its last checkpoint is forgotten
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self.writer.add_text("recipe", "".join(f"    {key}: {value}\n" for key, value in config.items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, finished: bool) -> None:
        self.writer.close()


class WeightsAndBiases:
    def __init__(self, *, project: str, name: str, folder: Path, config: Mapping[str, Any], step: int) -> None:
        import wandb

        file = folder / "wandb.id"
        self.run = wandb.init(
            project=project, name=name, dir=str(folder), config=dict(config), reinit="create_new", resume="allow",
            id=file.read_text() if file.exists() else None,
            settings=wandb.Settings(console="off", finish_timeout=FINISH_SECONDS),
        )  # fmt: skip
        write_atomic(file, self.run.id)
        self.run.define_metric("*", step_metric="step")  # its own count only rises; a run that goes on may go back

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({"step": step, **values})

    def close(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)


class MLflow:
    def __init__(self, *, project: str, name: str, folder: Path, config: Mapping[str, Any], step: int) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client = MlflowClient()
        file = folder / "mlflow.id"
        if file.exists():
            self.run_id = file.read_text()
            self.client.update_run(self.run_id, status="RUNNING")
            return
        experiment = self.client.get_experiment_by_name(project)
        experiment_id = self.client.create_experiment(project) if experiment is None else experiment.experiment_id
        self.run_id = self.client.create_run(experiment_id, run_name=name).info.run_id
        write_atomic(file, self.run_id)
        self.client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in config.items()])

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now_ms, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def close(self, finished: bool) -> None:
        self.client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED")


_TRACKERS: dict[str, tuple[str, Callable[..., Tracker]]] = {
    "tensorboard": ("TensorBoard", TensorBoard),
    "wandb": ("Weights & Biases", WeightsAndBiases),
    "mlflow": ("MLflow", MLflow),
}
"""By the name of the library."""


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError where the library of a tracker is not there."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"runtime.trackers has {name}, which is not installed: pip install 'muybridge[track]', or pip install {name}"
            )


class Trackers:
    """The named trackers of one run, started on entering. What one of them cannot do (no network, nobody logged in) is told
    once, and the run goes on without it."""

    def __init__(
        self, names: Sequence[str], *, project: str, name: str, folder: Path, config: Mapping[str, Any], step: int = 0
    ) -> None:
        """`project`, `name`: what the run is called there. `folder`: where trackers keep files. `config`: what the run was
        asked for. `step`: what a run that goes on goes on from."""
        self.names = names
        self.about = {"project": project, "name": name, "folder": folder, "config": dict(_flat(config)), "step": step}
        self.folder = folder
        self.started: dict[str, Tracker] = {}

    def log(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl: its numbers, as KIND/NAME at its step."""
        values = {
            f"{line['kind']}/{key}": float(value)
            for key, value in line.items()
            if key != "step" and isinstance(value, int | float)
        }
        for name, tracker in list(self.started.items()):
            with self._telling(name):
                tracker.log(values, line["step"])

    def __enter__(self) -> Self:
        if self.names:
            self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            with self._telling(name):
                self.started[name] = _TRACKERS[name][1](**self.about)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, tracker in list(self.started.items()):
            with self._telling(name):
                tracker.close(finished=kind is None)

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """What a tracker cannot do is said, and the last that is asked of it."""
        try:
            yield
        except Exception as error:  # whatever goes wrong in another's library and on its way to another's machine
            cause = str(error).strip().splitlines() or [type(error).__name__]
            log(f"warning: {_TRACKERS[name][0]} failed, and the run goes on without it: {cause[0]}")
            self.started.pop(name, None)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values under dotted names; lists as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str | int | float | None) else json.dumps(value)
