"""Processors that are left to this process, and how many threads and workers share them."""

import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from muybridge.runtime import cgroups
from muybridge.runtime.launch import launched

SYSTEM = Path("/sys/devices")
THREADS_SET_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user says how many threads compute."""
MOST_WORKERS = 8
"""Most processes that decode by themselves."""


@dataclass(frozen=True)
class Processors:
    """Processors that the machine, the affinity and a container's quota leave to this process."""

    usable: int
    """Logical processors that it may run on."""
    cores: int
    """Physical cores among them; of a hybrid processor the fast ones alone."""
    quota: float | None
    """Processors that the cgroups allow, as 1.5; None without a limit."""

    @property
    def threads(self) -> int:
        """Threads that compute: one a core. All wait for the slowest, so slow cores and second threads of a core do not help.

        A quota is rounded to the nearest number: of 1.5 processors two threads make more than one does, though they are
        stopped for a quarter of the time; of 1.2 they do not.
        """
        return max(1, min(self.cores, self.cores if self.quota is None else math.floor(self.quota + 0.5)))

    @property
    def jobs(self) -> int:
        """Threads or processes that work apart from each other, as decoders do: one a logical processor."""
        return max(1, min(self.usable, self.usable if self.quota is None else math.ceil(self.quota)))

    def workers(self, *, computes: bool) -> int:
        """Processes that decode ahead of a training. `computes`: its network computes on these processors, too.

        Such a step takes far longer than its clips' decoding: a quarter of the cores decodes.
        """
        return max(1, min(MOST_WORKERS, self.threads // 4 if computes else self.jobs))

    def threads_beside(self, workers: int) -> int:
        """Threads that compute beside processes that decode. A core each: all threads wait for one that has to share its."""
        return max(1, self.threads - workers)

    def as_json(self) -> dict[str, Any]:
        """Fields of environment.json."""
        return asdict(self)


def left() -> Processors:
    """Count the processors of this process; of several that were started together on a machine its share."""
    there = os.cpu_count() or 1
    try:
        affinity = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        affinity = list(range(there))
    here = launched().local_count if len(affinity) == there else 1  # else a batch system has parted them already
    quota = cgroups.processors()
    return Processors(
        max(1, len(affinity) // here), max(1, _cores(affinity) // here), None if quota is None else quota / here
    )


def _cores(affinity: list[int]) -> int:
    """Number of fast physical cores among logical processors."""
    fast = _fast(affinity)
    cores = set()
    for number in fast:
        try:
            cores.add((SYSTEM / f"system/cpu/cpu{number}/topology/thread_siblings_list").read_text().strip())
        except OSError:  # not Linux, or hidden
            import psutil

            physical = psutil.cpu_count(logical=False) or len(affinity)
            return max(1, min(physical, len(fast)))
    return len(cores)


def _fast(affinity: list[int]) -> list[int]:
    """The processors of the fast kind, where the machine has two; else all."""
    with suppress(OSError, ValueError):  # Intel
        kind = _listed((SYSTEM / "cpu_core/cpus").read_text())
        return [number for number in affinity if number in kind] or affinity
    with suppress(OSError, ValueError):  # Arm
        capacity = {number: int((SYSTEM / f"system/cpu/cpu{number}/cpu_capacity").read_text()) for number in affinity}
        return [number for number in affinity if capacity[number] == max(capacity.values())]
    return affinity


def _listed(text: str) -> set[int]:
    """Numbers of a list as the kernel writes it: 0-3,8."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def threads_set_by_user() -> bool:
    """Whether the environment says how many threads compute."""
    return any(os.environ.get(name) for name in THREADS_SET_BY)
