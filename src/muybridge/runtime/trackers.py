"""Experiment trackers: a run's metrics, sent to TensorBoard, Weights & Biases or MLflow (the extra `track`).

Each of the three is called through its own library. (Accelerate's trackers do the same, but need its `PartialState`, which
chooses devices and joins processes; here the run has done both already.)

RUN/trackers/
  tensorboard/         events: tensorboard --logdir RUNS
  wandb/, wandb.id     files of Weights & Biases, and the run's id there
  mlflow.id            the run's id in the store that MLFLOW_TRACKING_URI names
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
"""Longest wait at the end of a run for Weights & Biases to receive everything (`wandb sync` sends the rest)."""


class Tracker(Protocol):
    """A destination of metrics. An error in it is reported, ends it, and does not end the run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send metrics of a step."""
        ...

    def close(self, finished: bool) -> None:
        """Send what remains, and whether the run finished."""
        ...


class TensorBoard:
    """Event files for TensorBoard."""

    def __init__(self, *, project: str, name: str, folder: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # a resumed run discards what it logged after its last checkpoint
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self.writer.add_text("recipe", "".join(f"    {key}: {value}\n" for key, value in config.items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send metrics of a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, finished: bool) -> None:
        """Send what remains, and whether the run finished."""
        self.writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases; a resumed run continues it."""

    def __init__(self, *, project: str, name: str, folder: Path, config: Mapping[str, Any], step: int) -> None:
        import wandb

        file = folder / "wandb.id"
        self.run = wandb.init(
            project=project, name=name, dir=str(folder), config=dict(config), reinit="create_new", resume="allow",
            id=file.read_text() if file.exists() else None,
            settings=wandb.Settings(console="off", finish_timeout=FINISH_SECONDS),
        )  # fmt: skip
        write_atomic(file, self.run.id)
        self.run.define_metric("*", step_metric="step")  # its own step only rises; a resumed run may step back

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send metrics of a step."""
        self.run.log({"step": step, **values})

    def close(self, finished: bool) -> None:
        """Send what remains, and whether the run finished."""
        self.run.finish(exit_code=0 if finished else 1)


class MLflow:
    """A run in an MLflow store; a resumed run continues it."""

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
        """Send metrics of a step."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now_ms, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def close(self, finished: bool) -> None:
        """Send what remains, and whether the run finished."""
        self.client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED")


_TRACKERS: dict[str, tuple[str, Callable[..., Tracker]]] = {
    "tensorboard": ("TensorBoard", TensorBoard),
    "wandb": ("Weights & Biases", WeightsAndBiases),
    "mlflow": ("MLflow", MLflow),
}
"""Display name and class of each tracker, by the name of its library."""


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError where the library of a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"runtime.trackers: {name} is not installed. Install it: pip install 'muybridge[track]', or pip install {name}"
            )


class Trackers:
    """The trackers of one run, started on entering.

    If one fails (no network, not logged in), training continues without it, with one warning.
    """

    def __init__(
        self, names: Sequence[str], *, project: str, name: str, folder: Path, config: Mapping[str, Any], step: int = 0
    ) -> None:
        """Collect what a tracker needs to start.

        `project`, `name`: names of project and run there. `folder`: for files of trackers. `config`: the recipe. `step`: the
        step a resumed run continues from.
        """
        self.names = names
        self.about = {"project": project, "name": name, "folder": folder, "config": dict(_flat(config)), "step": step}
        self.folder = folder
        self.started: dict[str, Tracker] = {}

    def log(self, line: Mapping[str, Any]) -> None:
        """Send the numbers of a line of metrics.jsonl, as KIND/NAME at its step."""
        values = {
            f"{line['kind']}/{key}": float(value)
            for key, value in line.items()
            if key != "step" and isinstance(value, int | float)
        }
        for name, tracker in list(self.started.items()):
            with self._reporting(name):
                tracker.log(values, line["step"])

    def __enter__(self) -> Self:
        if self.names:
            self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            with self._reporting(name):
                self.started[name] = _TRACKERS[name][1](**self.about)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, tracker in list(self.started.items()):
            with self._reporting(name):
                tracker.close(finished=kind is None)

    @contextmanager
    def _reporting(self, name: str) -> Iterator[None]:
        """Report an error of a tracker, and stop using it."""
        try:
            yield
        except Exception as error:  # anything may go wrong in the library or the network
            cause = str(error).strip().splitlines() or [type(error).__name__]
            log(f"warning: {_TRACKERS[name][0]} failed; training continues without it: {cause[0]}")
            self.started.pop(name, None)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested values to dotted names; lists become JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str | int | float | None) else json.dumps(value)
