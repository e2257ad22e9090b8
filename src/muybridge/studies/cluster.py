"""A planned study on a Ray cluster: `work` mapped over its machines, and a table of what they do.

The driver only starts workers and looks at the shared folder. It may be killed and started again anywhere: the leases decide
which run is open.
"""

import ctypes
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.errors import Interrupted, UserError
from muybridge.runtime.cluster import Cluster, connected
from muybridge.runtime.console import console, log
from muybridge.runtime.files import parsed_json
from muybridge.runtime.launch import module_process
from muybridge.runtime.leases import LOST_SECONDS, Leases
from muybridge.runtime.signals import stop_signals
from muybridge.storage.plan import StoredPlan
from muybridge.storage.run import Run
from muybridge.studies.work import FOLDER, MEASURE, REPORT, Worked, raise_failed, state_of, work
from muybridge.text import plural, printable

if TYPE_CHECKING:
    from rich.table import Table

POLL_SECONDS = 1.0
SAVE_SECONDS = 120.0
"""Longest wait for trials that save their work after Ctrl-C."""
MOST_LOST = 10
"""Lost calls in a row after which the cluster counts as broken."""


@dataclass(frozen=True)
class Share:
    """Part of a machine that a run gets."""

    gpus: int
    cpus: float


def run_on_ray(
    study: Path,
    cluster: str,
    *,
    gpus_per_run: int | None = None,
    cpus_per_run: int | None = None,
    jobs: int | None = None,
    lost_after: float = LOST_SECONDS,
    allow_code: bool = False,
    mixed_versions: bool = False,
) -> Worked:
    """Carry out a planned study by workers on a Ray cluster. Raises UserError, Interrupted.

    `gpus_per_run`: none: one where the cluster has GPUs. `cpus_per_run`: none: a GPU's share of its machine, or one. `jobs`:
    the most runs at once; none: as many as fit.
    """
    plan = StoredPlan.load(study.resolve())
    with connected(cluster, plan.path, mixed_versions=mixed_versions) as machines, stop_signals():
        share = share_of(machines, gpus_per_run, cpus_per_run)
        if share.gpus > 1 and (plan.measure or plan.largest):
            raise UserError(
                "--measure, --largest: speed is measured by one process, alone. Measure afterwards: muybridge measure STUDY"
            )
        board = Board(plan.path, lost_seconds=lost_after)
        arguments = (str(plan.path), share.gpus, allow_code, lost_after)
        fits = sum(
            min(node.cpus // max(share.cpus, 1e-9), node.gpus // share.gpus if share.gpus else float("inf"))
            for node in machines.nodes
        )
        log(
            f"{plural(len(machines.nodes), 'machine')}, {plural(int(fits), 'run')} at once ({plural(share.gpus, 'GPU')} and "
            f"{plural(int(share.cpus), 'CPU')} each): "
            f"{', '.join(sorted({node.host for node in machines.nodes}))}"
        )
        running: list[Any] = []
        lost = 0
        try:
            with board.shown():
                while not board.is_over():
                    wanted = min(max(1, board.left()), jobs or max(1, board.left()))
                    while len(running) < wanted:
                        running.append(machines.submit(trial, *arguments, cpus=share.cpus, gpus=share.gpus))
                    for reference in machines.finished(running, seconds=POLL_SECONDS):
                        running.remove(reference)
                        try:
                            machines.result(reference)
                            lost = 0
                        except Exception as error:
                            lost += 1
                            log(f"a worker was lost: {error}")
                            if lost >= MOST_LOST:
                                raise UserError(
                                    f"--cluster {cluster}: {lost} workers in a row were lost, the last by: "
                                    f"{str(error).rstrip('.')}. Mend that and repeat the command: finished runs are kept"
                                ) from None
                    board.refresh()
        except KeyboardInterrupt:
            log("stopping: workers save what they have …")
            machines.cancel(running, seconds=SAVE_SECONDS)
            raise Interrupted(f"Stopped; finished runs stay in {study}. Repeat the command to resume") from None
        machines.cancel(running, seconds=POLL_SECONDS)  # those that only wait
    worked = state_of(StoredPlan.load(plan.path), Leases(plan.path / FOLDER))
    raise_failed(worked)
    return worked


def share_of(machines: Cluster, gpus: int | None, cpus: int | None) -> Share:
    """Part of a machine that a run gets. Raises UserError where no machine has that much."""
    with_gpus = [node for node in machines.nodes if node.gpus]
    gpus = (1 if with_gpus else 0) if gpus is None else gpus
    if gpus and max((node.gpus for node in with_gpus), default=0) < gpus:
        most = int(max((node.gpus for node in machines.nodes), default=0))
        raise UserError(f"--gpus-per-run: {gpus} GPUs are wanted, and no machine has more than {most}. Give fewer")
    if cpus is None:
        per_gpu = min((node.cpus // node.gpus for node in with_gpus if node.gpus >= gpus), default=1.0)
        return Share(gpus, max(1.0, per_gpu * gpus) if gpus else 1.0)
    if max((node.cpus for node in machines.nodes), default=0) < cpus:
        raise UserError(f"--cpus-per-run: no machine has {cpus} CPUs. Give fewer")
    return Share(gpus, float(cpus))


def trial(study: str, gpus: int, allow_code: bool, lost_after: float) -> list[str]:
    """Finish the next open run of a study here; returns its name. Called on a machine of the cluster.

    Several GPUs are used by as many processes, which torchrun starts.
    """
    if gpus > 1:
        _torchrun(study, gpus, allow_code, lost_after)
        return []
    try:
        return list(work(study, max_runs=1, lost_after=lost_after, allow_code=allow_code).finished)
    except UserError as error:  # recorded: the driver sees it in the folder
        log(str(error))
        return []


def torchrun_arguments(gpus: int) -> list[str]:
    """Arguments of Python that start as many processes of a module of muybridge as a run has GPUs."""
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m", "muybridge"]


def _torchrun(study: str, gpus: int, allow_code: bool, lost_after: float) -> None:
    options = ["--max-runs", "1", "--lost-after", str(lost_after), *(["--allow-code"] if allow_code else [])]
    process = subprocess.Popen(
        [sys.executable, "-P", *torchrun_arguments(gpus), "work", study, *options],
        env=module_process("muybridge")["env"], preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )  # fmt: skip
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code not in (0, 1, 2):  # torchrun ends with 1 where a process ended with an error for people
        raise RuntimeError(f"torchrun ended with {code}")


def _end_with_parent() -> None:
    """Let the kernel end this process with its parent (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Board:
    """The workers of a study and what they do, read from its folder."""

    def __init__(self, study: Path, *, lost_seconds: float = LOST_SECONDS) -> None:
        self.study = study
        self._leases = Leases(study / FOLDER, lost_seconds=lost_seconds)
        self._shown: dict[str, str] = {}
        self._live: Any = None
        self._next_line = time.monotonic()
        self.refresh()

    def shown(self) -> Any:
        """Show the table while the block runs, on a terminal; else a line now and then."""
        from contextlib import nullcontext

        if not console().is_terminal:
            return nullcontext()
        from rich.live import Live

        self._live = Live(self._table(), console=console(), transient=True, refresh_per_second=2)
        return self._live

    def refresh(self) -> None:
        """Look at the folder again."""
        self._plan, self._standing = StoredPlan.load(self.study), self._leases.standing()
        if self._live is not None:
            self._live.update(self._table())
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 15.0
            now = {"": self._summary()}
            if now != self._shown and self._standing.numbers:
                self._shown = now
                log(now[""])

    def left(self) -> int:
        """Runs that are neither done nor failed."""
        return sum(name not in self._standing.done | self._standing.failed for name in self._plan.runs)

    def is_over(self) -> bool:
        """Whether the report is written, or cannot be."""
        return REPORT in self._standing.done | self._standing.failed

    def rows(self) -> list[list[str]]:
        """State, epoch, val accuracy and machine of the runs that are at work, and of those that failed."""
        rows = []
        for key in [*self._plan.runs, MEASURE, REPORT]:
            if key in self._standing.done:
                continue
            if key in self._standing.failed:
                rows.append([key, "failed", "", "", self._leases.reason(key)[:60]])
                continue
            holder = self._leases.holder(key, self._standing) if key in self._standing.numbers else None
            if holder is not None:
                epoch, val = progress_of(Run(self.study / "runs" / key)) if key in self._plan.runs else ("", "")
                rows.append([key, "at work", epoch, val, str(holder.get("host", ""))])
        return rows

    def _summary(self) -> str:
        done = sum(name in self._standing.done for name in self._plan.runs)
        failed = sum(name in self._standing.failed for name in self._plan.runs)
        at_work = sum(row[1] == "at work" for row in self.rows())
        return f"{done} of {len(self._plan.runs)} runs done, {at_work} at work" + (
            f", {failed} failed" if failed else ""
        )

    def _table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._summary(), title_justify="left", box=None)
        for column in ("run", "state", "epoch", "val", "machine"):
            table.add_column(column, justify="right" if column in ("epoch", "val") else "left")
        for row in self.rows()[:40]:
            table.add_row(*(Text(printable(cell)) for cell in row))
        return table


def progress_of(run: Run) -> tuple[str, str]:
    """Epoch and val accuracy of a run so far, by the end of its metrics."""
    epoch = val = ""
    with suppress(OSError, UserError), run.metrics_file.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 8192))
        for line in file.read().decode(errors="replace").splitlines():
            with suppress(UserError):
                values = parsed_json(line, "")
                if isinstance(values, dict) and values.get("kind") == "train":
                    epoch = str(values.get("epoch", ""))
                if isinstance(values, dict) and values.get("kind") == "val":
                    val = f"{values.get('video_top1', 0.0):.3f}"
    return epoch, val
