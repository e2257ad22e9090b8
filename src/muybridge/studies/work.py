"""Workers: processes that take the open runs of a planned study, one after the other, on any machines that share its folder.

STUDY/
  plan.json        the runs that are wanted (`muybridge.storage.plan`)
  leases/          which worker does which piece (`muybridge.runtime.leases`)
  code/HASH/       files of the user's own models

A piece is a run; after the last one, the measurements (@measure), and then the report (@report). A run that starts from
another is open once that one is done. `compare` is a worker, too: it stops at the first run that fails.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muybridge.analysis.comparison import Comparison, compared_study
from muybridge.data.loader import WorkerLost
from muybridge.errors import Diverged, InUse, UserError
from muybridge.evaluation import diagnose as diagnosis
from muybridge.recipe import Recipe, Runtime
from muybridge.reporting.report import Report
from muybridge.runtime.console import log
from muybridge.runtime.distributed import ProcessLost
from muybridge.runtime.files import within
from muybridge.runtime.leases import LOST_SECONDS, Lease, LeaseLost, Leases, Standing
from muybridge.runtime.signals import stop_signals
from muybridge.storage.plan import StoredPlan
from muybridge.storage.run import DIAGNOSIS_FILE, Run
from muybridge.storage.study import StudyRecord
from muybridge.studies.fusing import fused_streams
from muybridge.studies.workplace import Workplace, started
from muybridge.text import plural
from muybridge.training.speed import Measuring, measure_run
from muybridge.user_code import keep_source, use_copy
from muybridge.video import DecodeError

FOLDER = "leases"
MEASURE, REPORT = "@measure", "@report"
"""Pieces that follow the last run."""
POLL_SECONDS = (0.5, 5.0)
"""Time between two looks at leases that others hold, at first and after a while."""
TURN_SECONDS = 60.0
"""Longest wait of the first of several processes before the others hear of it."""
_WAIT, _END = "", "."
"""Words that several processes hear instead of a piece: wait, or end."""


@dataclass(frozen=True)
class Worked:
    """Outcome of a worker, and state of the study."""

    path: Path
    runs: int
    """Runs of the plan."""
    done: int
    """Runs that are done, by whomever."""
    finished: tuple[str, ...]
    """Runs that this worker finished."""
    failed: dict[str, str] = field(default_factory=dict)
    """Runs (and @measure, @report) that cannot be done, and why."""
    blocked: tuple[str, ...] = ()
    """Runs that start from one of those."""
    is_reported: bool = False
    """Whether the report is written, by whomever."""

    @property
    def report(self) -> Path | None:
        """The page, once it is written."""
        return self.path / "report.html" if self.is_reported else None

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "study": str(self.path), "runs": self.runs, "done": self.done, "finished": list(self.finished),
            "failed": self.failed, "blocked": list(self.blocked), "report": self.report and str(self.report),
        }  # fmt: skip


def work(
    study: str | Path,
    *,
    max_runs: int | None = None,
    retry: bool = False,
    lost_after: float = LOST_SECONDS,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Worked:
    """Take the next open run of a planned study, finish it, and take the next, until none is open.

    Any number of workers may do so at once, on any machines that see the folder under the same path. `max_runs`: end after
    this number of runs. `retry`: take runs that failed, too. `lost_after`: seconds without a sign of life after which
    another worker's run is taken over. `runtime`: none: that of the plan. A run that fails is recorded, with its reason, and
    the next one is taken. The last worker writes the report. Raises UserError at the end where runs failed; Interrupted.
    """
    plan = StoredPlan.load(Path(study))
    worker = Worker(
        Workplace.at(plan.path, runtime or plan.runtime),
        lost_seconds=lost_after,
        max_runs=max_runs,
        allow_code=allow_code,
    )
    if (plan.measure or plan.largest) and worker.workplace.processes.count > 1:
        raise UserError(
            f"{plan.path}: it is to be measured, and speed is measured by one process, alone. Leave out --measure when "
            "planning, and measure afterwards: muybridge measure STUDY"
        )
    with worker.workplace.processes.report_failure():
        worker.use_code()
        if retry and worker.workplace.processes.is_first:
            worker.retry()
        worker.run()
        worked = worker.worked()
    if worker.failed or max_runs is None:
        raise_failed(worked)
    return worked


def raise_failed(worked: Worked) -> None:
    """Raise UserError where runs failed."""
    if not worked.failed:
        return
    name, reason = next(iter(worked.failed.items()))
    more = f", and {len(worked.blocked)} that start from these wait" if worked.blocked else ""
    runs = sum(key not in (MEASURE, REPORT) for key in worked.failed)
    raise UserError(
        f"{worked.path}: {plural(runs, 'run')} of {worked.runs} failed{more}. {name}: "
        f"{reason.rstrip('.')}. Mend the cause, and open it again: muybridge work {worked.path} --retry"
    )


class Worker:
    """A process, or several that torchrun started together, at work on the pieces of a study."""

    def __init__(
        self,
        workplace: Workplace,
        *,
        lost_seconds: float = LOST_SECONDS,
        max_runs: int | None = None,
        allow_code: bool = False,
        stops_at_failure: bool = False,
    ) -> None:
        self.workplace, self.max_runs, self.allow_code = workplace, max_runs, allow_code
        self.stops_at_failure = stops_at_failure
        self.leases = Leases(workplace.out / FOLDER, lost_seconds=lost_seconds)
        self.finished: list[str] = []
        self.failed: list[str] = []
        self.comparisons: dict[str, Comparison] | None = None
        """What the report says, where this worker wrote it."""
        self._in_use: dict[str, float] = {}
        """Runs in whose folders others are at work, and when to look again."""
        self._is_waiting = False

    @property
    def plan(self) -> StoredPlan:
        """The plan as it is now."""
        return StoredPlan.load(self.workplace.out)

    def retry(self) -> None:
        """Open the runs that failed again."""
        for key in self.leases.standing().failed:
            self.leases.forget(key, "failed")
            self.leases.forget(REPORT, "done")

    def use_code(self) -> None:
        """Find all of the user's own code that the plan needs. Raises UserError where it is not allowed or not there."""
        for recipe in self.plan.distinct_code():
            self._use_code(recipe)

    def say_done(self) -> None:
        """Log the runs that are done already."""
        plan, standing = self.plan, self.leases.standing()
        for number, name in enumerate(plan.runs, start=1):
            if name in standing.done:
                log(f"[{number}/{len(plan.runs)}] {name}: finished before")

    def run(self) -> None:
        """Take pieces until none is open."""
        is_last = False
        while not is_last:
            with self._next() as key:
                if key == _END:
                    is_last = True
                elif key != _WAIT:
                    self._do(key)

    def worked(self) -> Worked:
        """State of the study, and what this worker did of it."""
        return state_of(self.plan, self.leases, finished=self.finished)

    # --- which piece

    @contextmanager
    def _next(self) -> Iterator[str]:
        """Hold a piece in the block, and hear its name."""
        processes = self.workplace.processes
        with ExitStack() as held:
            key = processes.broadcast(self._take(held) if processes.is_first else _WAIT)
            try:
                yield key
            except LeaseLost as error:
                log(f"warning: {error}")
                if processes.count > 1:
                    raise

    def _take(self, held: ExitStack) -> str:
        """Hold the next piece until `held` ends; waits while all that is left is done by others."""
        until, pause_seconds = time.monotonic() + TURN_SECONDS, POLL_SECONDS[0]
        with stop_signals():
            while True:
                plan, standing = self.plan, self.leases.standing()
                candidates, waits = self._open(plan, standing)
                for key in candidates:
                    if self._hold(key, standing, held):
                        self._is_waiting = False
                        return key
                if not candidates and not waits:
                    return _END
                if self.max_runs is not None and self._has_enough():
                    return _END
                if not self._is_waiting:
                    self._is_waiting = True
                    log(
                        f"waiting: {plural(len(candidates) + waits, 'piece')} of work left, each held by another worker"
                    )
                if time.monotonic() >= until and self.workplace.processes.count > 1:
                    return _WAIT
                time.sleep(pause_seconds)
                pause_seconds = min(1.5 * pause_seconds, POLL_SECONDS[1])

    def _has_enough(self) -> bool:
        return self.max_runs is not None and len(self.finished) + len(self.failed) >= self.max_runs

    def _open(self, plan: StoredPlan, standing: Standing) -> tuple[list[str], int]:
        """Pieces that may be begun, in order, and the number of those that wait for others."""
        blocked = _blocked(plan, standing)
        left = [name for name in plan.runs if name not in standing.done and name not in blocked]
        if left:
            ready = [name for name in left if plan.runs[name] is None or plan.runs[name] in standing.done]
            return ([] if self._has_enough() else ready), len(left) - len(ready)
        for key, is_wanted in ((MEASURE, plan.measure or plan.largest), (REPORT, not plan.is_round)):
            if is_wanted and key not in standing.done | standing.failed:
                return [key], 0
        return [], 0

    def _hold(self, key: str, standing: Standing, held: ExitStack) -> Lease | None:
        if self._in_use.get(key, 0.0) > time.monotonic():
            return None
        return held.enter_context(self.leases.hold(key, standing))

    # --- the work

    def _do(self, key: str) -> None:
        workplace = self.workplace
        try:
            if key == MEASURE:
                self._measure()
            elif key == REPORT:
                self._report()
            else:
                self._finish(key)
                self.finished.append(key)
        except InUse as error:  # trained by hand, or by a worker that was only asleep
            if self.stops_at_failure:
                raise
            log(f"{key}: {error}")
            self._in_use[key] = time.monotonic() + self.leases.lost_seconds
        except UserError as error:
            if self.stops_at_failure or _is_the_machines(error):
                raise
            self._fail(key, str(error))
            if workplace.processes.count > 1 and not isinstance(error, Diverged):
                raise  # the others may not have seen it
            workplace.processes.clear_failure()
        except (LeaseLost, OSError, MemoryError):
            raise
        except Exception as error:
            if not self.stops_at_failure:
                self._fail(key, f"{type(error).__name__}: {error}")
            raise

    def _fail(self, key: str, reason: str) -> None:
        log(f"{key} failed: {reason}")
        self.failed.append(key)
        if self.workplace.processes.is_first:
            self.leases.fail(key, reason)

    def _done(self, key: str) -> None:
        if self.workplace.processes.is_first:
            self.leases.finish(key)

    def _finish(self, name: str) -> None:
        plan, workplace = self.plan, self.workplace
        run, base = _run(plan, name), plan.runs[name]
        recipe = plan.recipe(name)
        self._use_code(recipe)
        number = list(plan.runs).index(name) + 1
        recipe = started(recipe, None if base is None else _run(plan, base))
        workplace.finish(run, recipe, f"[{number}/{len(plan.runs)}] {name}")
        if plan.diagnose and workplace.processes.broadcast(run.diagnosis() is None):
            log(f"diagnosing {name}")
            diagnosis.diagnose(run, runtime=workplace.runtime, allow_code="mine")
        self._done(name)

    def _measure(self) -> None:
        plan = self.plan
        with Measuring() as process:
            for names in plan.settings.values():
                run = _run(plan, names[0])
                if not run.is_finished:
                    continue
                known = run.speed()
                lacks_largest = plan.largest and (known or {}).get("max_batch_size") is None
                if known is None or known.get("memory_is_unknown") or lacks_largest:
                    self._use_code(plan.recipe(names[0]))
                    measure_run(
                        run, runtime=self.workplace.runtime, largest=plan.largest, allow_code="mine", process=process
                    )
        self._done(MEASURE)

    def _report(self) -> None:
        plan, standing = self.plan, self.leases.standing()
        lost = [name for name in plan.runs if name in standing.done and not is_done(plan, name)]
        for name in lost:  # somebody has removed the folder
            log(f"{name}: it was finished, and is gone: it is open again")
            if self.workplace.processes.is_first:
                self.leases.forget(name, "done")
        if lost:
            return
        record = StudyRecord.load(plan.path)
        if plan.fused:
            record = self.workplace.processes.broadcast(
                fused_streams(plan.fused, record) if self.workplace.processes.is_first else record
            )
        self.comparisons = compared_study(record)
        if self.workplace.processes.is_first:
            Report.of(self.comparisons, title=record.title).write(plan.path / "report.html")
        self._done(REPORT)

    def _use_code(self, recipe: Recipe) -> None:
        use_copy(
            _code(self.workplace.out, recipe), recipe.model.name, recipe.model.source_sha256, allow_code=self.allow_code
        )


def state_of(plan: StoredPlan, leases: Leases, *, finished: Sequence[str] = ()) -> Worked:
    """State of a planned study. `finished`: runs that a worker finished."""
    standing = leases.standing()
    failed = {key: leases.reason(key) for key in (*plan.runs, MEASURE, REPORT) if key in standing.failed}
    blocked = tuple(name for name in _blocked(plan, standing) if name not in failed)
    done = sum(name in standing.done for name in plan.runs)
    return Worked(plan.path, len(plan.runs), done, tuple(finished), failed, blocked, REPORT in standing.done)


def store(plan: StoredPlan) -> None:
    """Write a plan, with the user's own code that it needs, and open what is not done of it."""
    for recipe in plan.distinct_code():
        keep_source(_code(plan.path, recipe), recipe.model.name)
    (plan.path / FOLDER).mkdir(exist_ok=True)
    leases = Leases(plan.path / FOLDER)
    standing = leases.standing()
    plan.save()
    for name in plan.runs:
        finished = is_done(plan, name)
        if finished and name not in standing.done:
            leases.finish(name)
        if not finished and name in standing.done:
            leases.forget(name, "done")
    for key in standing.failed:
        leases.forget(key, "failed")
    for key in (MEASURE, REPORT):
        leases.forget(key, "done")


def is_done(plan: StoredPlan, name: str) -> bool:
    """Whether all that the plan wants of a run is on the disk."""
    run = _run(plan, name)
    return run.is_finished and (not plan.diagnose or (run.path / DIAGNOSIS_FILE).exists())


def _run(plan: StoredPlan, name: str) -> Run:
    return Run(plan.path / "runs" / name)


def _code(study: Path, recipe: Recipe) -> Path:
    return within(study, f"code/{(recipe.model.source_sha256 or 'unknown')[:16]}")


def _blocked(plan: StoredPlan, standing: Standing) -> set[str]:
    """Runs that failed, and those that start from them, directly or not."""
    blocked: set[str] = set()
    for name, base in plan.runs.items():
        if name not in standing.done and (name in standing.failed or base in blocked):
            blocked.add(name)
    return blocked


def _is_the_machines(error: BaseException | None) -> bool:
    """Whether an error is the fault of the machine (a full disk, a lost process), not of the run."""
    while error is not None:
        if isinstance(error, DecodeError):
            return False
        if isinstance(error, OSError | MemoryError | ProcessLost | WorkerLost):
            return True
        error = error.__cause__ or error.__context__
    return False
