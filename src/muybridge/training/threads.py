"""The number of threads that a run computes with: chosen before its first step, kept to its end.

The last bits of a network that trains on a CPU depend on the number of threads, so a run has one, and a run that is
continued keeps it. On a quiet machine that is one a core. Beside other programs fewer may be faster: all threads of a step
wait for the one that shares its core. So where the first batch finds the processors taken, it is tried with fewer.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from muybridge.recipe import Runtime
from muybridge.runtime import processors, waiting
from muybridge.runtime.console import log
from muybridge.runtime.contention import Waiting
from muybridge.runtime.device import usual_threads

TAKEN = 0.05
"""The processors are taken by others where a step waits for them for more than this share of its time."""
GAIN = 0.9
"""Fewer threads are chosen where a step takes at most this share of the time that it takes with all."""
TURN_SECONDS, TURNS = 0.5, 3
"""The numbers of threads take turns of this length, and of one step at least."""
PATIENCE_SECONDS = 30.0
"""No further turn after this time."""
HELD_UP = 0.15
"""A training says once that it waits, where it waits for processors for more than this share of its time."""
LOOK_SECONDS = 10.0
"""Time between two looks at how much a training waits."""


def kept(runtime: Runtime, before: Mapping[str, Any]) -> Runtime:
    """The runtime of a run that is continued: with the threads that it had, where nobody has said another number.

    `before`: the run's environment.json. Where fewer processors are left now, their number stands, and the caller warns.
    """
    had = before.get("threads")
    if not is_free(runtime) or not isinstance(had, int):
        return runtime
    return runtime.model_copy(update={"threads": had}) if had <= usual_threads() else runtime


def is_free(runtime: Runtime) -> bool:
    """Whether nobody has said a number of threads."""
    return runtime.threads is None and not processors.threads_set_by_user()


def leave_cores_to(workers: int) -> None:
    """Let processes that decode have cores of their own: as many threads fewer compute."""
    torch.set_num_threads(min(torch.get_num_threads(), processors.left().threads_beside(workers)))


def choose(step: Callable[[], object]) -> int:
    """The number of threads with which `step` takes the shortest time here and now; it is set, and logged if it is fewer.

    `step` computes as a step of the training does, and changes nothing. On a quiet machine it is called twice.
    """
    full = torch.get_num_threads()
    step()  # the first one prepares
    seen = Waiting()
    step()
    if seen.share(full) < TAKEN:
        return full
    seconds = _tried(step, sorted({full, max(1, full * 3 // 4), max(1, full // 2), max(1, full // 4)}))
    best = min(seconds, key=lambda threads: seconds[threads])
    chosen = best if seconds[best] <= GAIN * seconds[full] else full
    torch.set_num_threads(chosen)
    if chosen < full:
        log(
            f"other programs keep the processors busy: training with {chosen} of {full} threads, as a step takes "
            f"{seconds[chosen]:.2g} s so, and {seconds[full]:.2g} s with all (runtime.threads sets another number)"
        )
    return chosen


def _tried(step: Callable[[], object], numbers: Sequence[int]) -> dict[int, float]:
    """Seconds that a step takes with each number of threads, by turns."""
    means: dict[int, list[float]] = {number: [] for number in numbers}
    begun = time.perf_counter()
    for number in numbers:  # what is prepared for a number of threads is prepared once
        torch.set_num_threads(number)
        step()
    for turn in range(TURNS):
        if turn and time.perf_counter() - begun > PATIENCE_SECONDS:
            break
        for number in numbers:
            torch.set_num_threads(number)
            step()  # while the system places the threads
            started, steps = time.perf_counter(), 0
            while not steps or time.perf_counter() - started < TURN_SECONDS:
                step()
                steps += 1
            means[number].append((time.perf_counter() - started) / steps)
    return {number: statistics.median(times) for number, times in means.items()}


class Contention:
    """Tells once, in a line, that a training waits for processors, and what to do."""

    def __init__(self) -> None:
        self._waiting, self._looked_at, self._is_told = Waiting(), time.monotonic(), False

    def look(self, num_workers: int) -> None:
        """To be called after each step; looks every LOOK_SECONDS. `num_workers`: processes that decode for this training."""
        if self._is_told or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        threads, self._looked_at = torch.get_num_threads(), time.monotonic()
        share = self._waiting.share(threads)
        if share < HELD_UP:
            return
        self._is_told = True
        cause, remedies = _advice(num_workers, threads)
        log(f"{cause}: its threads wait for one {100 * share:.0f} % of the time. {', or '.join(remedies)}")


def _advice(num_workers: int, threads: int) -> tuple[str, list[str]]:
    """Words for the cause of waiting, and what helps against it."""
    own = processors.left()
    if own.quota is not None and own.quota < threads:
        cause = f"this training has {own.quota:g} processors by a container's quota, and {threads} threads"
        remedies, fewer = ["Give the container more"], own.threads
    else:
        others = "other programs" + (" or the run's own decoding processes" if num_workers else "")
        cause, remedies = f"{others} keep the processors of this training busy", ["Stop what else runs"]
        fewer = max(1, threads // 2)
        if not waiting.is_set():
            remedies.append(f"start with GOMP_SPINCOUNT={waiting.SPINS} in the environment")
    if fewer < threads:
        remedies.append(f"train anew with fewer threads (--set runtime.threads={fewer})")
    return cause, remedies


def environment(runtime: Runtime) -> dict[str, Any]:
    """Fields of environment.json: how many threads compute and why, and what the machine offers."""
    return {
        "threads": usual_threads() if runtime.threads is None else runtime.threads,
        "threads_chosen_by": "machine" if is_free(runtime) else "user",
        "processors": processors.left().as_json(),
        "spins": os.environ.get("GOMP_SPINCOUNT"),
    }
