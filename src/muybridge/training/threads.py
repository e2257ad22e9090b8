"""The number of threads that a run computes with: settled before its first step, kept to its end.

The last bits of a network that trains on a CPU depend on the number of threads, so a run has one, and a run that is
continued keeps it. On a quiet machine that is one a core. Beside other programs fewer may be faster: all threads of a step
wait for the one that shares its core. So where the first batch finds the processors taken, it is tried with fewer.

`settle` is the one place where all this happens, in order. A run that is killed before its first checkpoint has settled
nothing: it begins anew.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low as median
from typing import Any, Literal

import torch

from muybridge.recipe import Runtime
from muybridge.runtime import processors, waiting
from muybridge.runtime.console import log
from muybridge.runtime.contention import Waiting
from muybridge.runtime.device import leave_cores_to, set_threads, threads_said
from muybridge.text import plural

TAKEN = 0.05
"""The processors are taken by others where a step waits for them for more than this share of its time."""
GAIN = 0.9
"""Fewer threads are chosen where a step takes at most this share of the time that it takes with all."""
SLOWER = 2.0
"""A number of threads is given up where a step takes this many times as long as with the best one."""
TURN_SECONDS, TURNS = 0.5, 3
"""The numbers of threads take turns of this length, and of one step at least."""
PATIENCE_SECONDS = 30.0
"""No further step is tried after this time."""
HELD_UP = 0.15
"""A training says once that it waits, where it waits for processors for more than this share of its time."""
LOOK_SECONDS = 10.0
"""Time between two looks at how much a training waits."""

Step = Callable[[], object]


@dataclass(frozen=True)
class Settled:
    """The number of threads of a run, and what settled it."""

    number: int
    by: Literal["user", "machine", "first batch"]


def settle(
    runtime: Runtime,
    *,
    num_workers: int,
    trial: Callable[[], Step | None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> Settled:
    """Settle the number of threads of a run, and set it. `build.placement` has set what was said, or what is usual.

    What somebody has said stands. Else it is that of the cores that are left to this process, less those of `num_workers`
    processes that decode; and fewer where the first batch is faster so. `trial` makes the step that is tried, as `choose`
    asks for; None: nothing can be tried. Raises KeyboardInterrupt as `choose` does.
    """
    if runtime.threads is not None or threads_said():
        return Settled(torch.get_num_threads(), "user")
    leave_cores_to(num_workers)
    number = torch.get_num_threads()
    step = trial() if number > 1 else None
    return Settled(number, "machine") if step is None else choose(step, num_workers=num_workers, is_stopped=is_stopped)


def kept(runtime: Runtime, before: Mapping[str, Any]) -> Runtime:
    """The runtime of a run that is continued: with the threads that it had, where nobody has said another number.

    `before`: what it computed with (`provenance.computed_with`). Where fewer processors than it needs are left now, nothing
    is kept, and the caller warns.
    """
    had = before.get("threads")
    if runtime.threads is not None or threads_said() or not isinstance(had, int):
        return runtime
    needed = min(had, before.get("processors", {}).get("usable", had))
    return runtime.model_copy(update={"threads": had}) if needed <= processors.left().usable else runtime


def choose(step: Step, *, num_workers: int = 0, is_stopped: Callable[[], bool] = lambda: False) -> Settled:
    """Choose the number of threads with which `step` takes the shortest time here and now, and set it.

    `step` computes as a step of the training does, and changes nothing. On a quiet machine it is called twice. Where others
    keep the processors busy, fewer threads are tried until PATIENCE_SECONDS have gone; the step in hand then ends. Raises
    KeyboardInterrupt where `is_stopped` between two steps.
    """
    full, begun = torch.get_num_threads(), time.perf_counter()

    def may_go_on() -> bool:
        if is_stopped():
            raise KeyboardInterrupt
        return time.perf_counter() - begun < PATIENCE_SECONDS

    may_go_on()
    step()  # the first one prepares
    if not may_go_on():
        return Settled(full, "machine")
    seen = Waiting()
    seconds = _timed(step)
    if seen.share(full) < TAKEN or not may_go_on():
        return Settled(full, "machine")
    cause = _cause(seen, full, num_workers)
    log(f"{cause.words}: the first batch is tried with fewer threads, for half a minute at most")
    fewer = sorted({max(1, full * 3 // 4), max(1, full // 2), max(1, full // 4)} - {full}, reverse=True)
    try:
        found = _tried(step, {full: [seconds]}, fewer, may_go_on)
    finally:
        set_threads(full)
    best = min(found, key=lambda number: found[number])
    if found[best] <= GAIN * found[full]:
        set_threads(best)
        log(
            f"training with {best} of {full} threads: a step takes {found[best]:.2g} s so, and {found[full]:.2g} s with all "
            "(runtime.threads sets another number)"
        )
    return Settled(torch.get_num_threads(), "first batch" if len(found) > 1 else "machine")


def _timed(step: Step) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def _tried(
    step: Step, times: dict[int, list[float]], numbers: Sequence[int], may_go_on: Callable[[], bool]
) -> dict[int, float]:
    """Seconds that a step takes with each number of threads: those in `times`, and `numbers`, by turns until it is over."""
    running = [*numbers, *times]
    for number in running * TURNS:
        if number not in running:
            continue
        set_threads(number)
        seconds = _turn(step, may_go_on)
        if seconds is None:
            break
        times.setdefault(number, []).append(seconds)
        if median(times[number]) > SLOWER * min(map(median, times.values())):
            running.remove(number)
    return {number: median(of) for number, of in times.items()}


def _turn(step: Step, may_go_on: Callable[[], bool]) -> float | None:
    """Seconds of a step in one turn. None: it was over before one was done.

    During the first step the system places the threads, and what belongs to their number is prepared. It counts where it is
    so long that this does not matter.
    """
    if not may_go_on():
        return None
    first = _timed(step)
    if first >= TURN_SECONDS:
        return first
    begun, steps = time.perf_counter(), 0
    while (not steps or time.perf_counter() - begun < TURN_SECONDS) and may_go_on():
        step()
        steps += 1
    return (time.perf_counter() - begun) / steps if steps else None


class Contention:
    """Tells once, in a line, that a training waits for processors, and what to do. It looks from its making on."""

    def __init__(self, settled: Settled, num_workers: int) -> None:
        """`num_workers`: processes that decode for this training."""
        self._settled, self._num_workers = settled, num_workers
        self._waiting, self._looked_at, self._is_told = Waiting(), time.monotonic(), False

    def look(self) -> None:
        """To be called after each step; looks every LOOK_SECONDS."""
        if self._is_told or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        share = self._waiting.share(self._settled.number)
        if share < HELD_UP:
            return
        self._is_told = True
        cause = _cause(self._waiting, self._settled.number, self._num_workers)
        remedies = [cause.remedy]
        if not waiting.is_set():
            remedies.append(f"start with GOMP_SPINCOUNT={waiting.SPINS} in the environment")
        if cause.threads < self._settled.number and self._settled.by != "first batch":  # which has tried fewer
            remedies.append(f"train anew with fewer threads (--set runtime.threads={cause.threads})")
        log(f"{cause.words}: its threads wait for one {100 * share:.0f} % of the time. {', or '.join(remedies)}")


@dataclass(frozen=True)
class _Cause:
    """Why threads wait for processors."""

    words: str
    remedy: str
    threads: int
    """A number that may suit better."""


def _cause(seen: Waiting, threads: int, num_workers: int) -> _Cause:
    """Why this many threads of a training waited, beside processes that decode for it."""
    own = processors.left()
    if seen.by_quota and own.quota is not None:
        words = f"a container's quota of {own.quota:g} processors stops {plural(threads, 'thread')} of this training"
        return _Cause(words, "Give the container more", own.threads)
    if threads + num_workers > own.usable:
        decoders = f" and {plural(num_workers, 'process')} that decode" if num_workers else ""
        words = f"{plural(threads, 'thread')}{decoders} of this training share {plural(own.usable, 'processor')}"
        remedy = "Lower runtime.num_workers" if num_workers else "Stop what else runs"
        return _Cause(words, remedy, own.threads_beside(num_workers))
    words = "other programs keep the processors of this training busy"
    return _Cause(words, "Stop what else runs", max(1, threads // 2))


def environment() -> dict[str, Any]:
    """Fields of environment.json: what the machine offers, and how threads wait."""
    return {"processors": processors.left().as_json(), "spins": os.environ.get("GOMP_SPINCOUNT")}
