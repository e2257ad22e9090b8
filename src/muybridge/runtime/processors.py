"""Processors that are left to this process, and how many threads and workers share them."""

import math
import os
import re
from collections.abc import Iterable, Sequence
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
WORTH_JOINING = 0.125
"""Slower cores compute along where each adds at least this share of a fast core's speed."""
SLOW_OF_INTEL = 1 / 3
"""Speed of an efficient core of Intel by that of a fast one: half the width of vectors, at two thirds of the frequency."""


@dataclass(frozen=True)
class Processors:
    """Processors that the machine, the affinity and a container's quota leave to this process."""

    usable: int
    """Logical processors that it may run on."""
    cores: int
    """Physical cores among them that a step is shared by; of a hybrid processor those that are fastest together."""
    quota: float | None
    """Processors that the cgroups allow, as 1.5; None without a limit."""

    @property
    def threads(self) -> int:
        """Threads that compute: one a core. Second threads of a core do not help, as they share what computes.

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
    """Count the processors of this process; of several that were started together on a machine its share.

    Each counts the processors that it may run on, and those of its parent. Where each may run on all that the parent may,
    as under torchrun, they share them; where Slurm has given each its own, nothing is left to share. A quota is that of all.
    """
    affinity = _affinity(0)
    together = launched().local_count
    sharing = max(1, math.ceil(together * len(affinity) / len(affinity | _affinity(os.getppid()))))
    quota = cgroups.processors()
    return Processors(
        max(1, len(affinity) // sharing),
        max(1, _cores(sorted(affinity)) // sharing),
        None if quota is None else quota / together,
    )


def _affinity(process: int) -> set[int]:
    """Processors that a process may run on. 0: this one, and so is a parent outside of the container."""
    try:
        return os.sched_getaffinity(process)
    except AttributeError:  # not Linux
        return set(range(os.cpu_count() or 1))
    except OSError:  # it has ended
        return os.sched_getaffinity(0)


def _cores(affinity: Sequence[int]) -> int:
    """Number of physical cores, among logical processors, that compute fastest together."""
    speeds, is_known = _speeds(affinity), True
    cores: dict[str, float] = {}
    for number in affinity:
        try:
            core = (SYSTEM / f"system/cpu/cpu{number}/topology/thread_siblings_list").read_text().strip()
        except OSError:  # not Linux, or hidden
            core, is_known = str(number), False
        cores[core] = speeds[number]
    fastest = _fastest_together(list(cores.values()))
    if is_known:
        return fastest
    import psutil

    return max(1, min(psutil.cpu_count(logical=False) or fastest, fastest))


def _fastest_together(speeds: Sequence[float]) -> int:
    """Number of cores that share a step: the fast ones, and a slower kind where each of it adds WORTH_JOINING of a fast one.

    Threads get equal parts and wait for the slowest, so n cores are n times as fast as the slowest of them.
    """
    fastest, number = max(speeds), 0
    together = 0.0
    for slowest in sorted(set(speeds), reverse=True):
        more = sum(speed >= slowest for speed in speeds)
        if more * slowest - together >= WORTH_JOINING * fastest * (more - number):
            number, together = more, more * slowest
    return number


def _speeds(affinity: Iterable[int]) -> dict[int, float]:
    """Speed of the core of each processor, by that of a fast one."""
    with suppress(OSError, ValueError):  # Arm
        return {
            number: int((SYSTEM / f"system/cpu/cpu{number}/cpu_capacity").read_text()) / 1024 for number in affinity
        }
    slow: set[int] = set()
    with suppress(OSError, ValueError):  # Intel
        slow = _listed((SYSTEM / "cpu_atom/cpus").read_text())
    return {number: SLOW_OF_INTEL if number in slow else 1.0 for number in affinity}


def _listed(text: str) -> set[int]:
    """Numbers of a list as the kernel writes it: 0-3,8."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def threads_set_by_user() -> bool:
    """Whether the environment says how many threads compute: by a number that the libraries take, and that is not torchrun's.

    torchrun writes OMP_NUM_THREADS=1 where nobody has set it.
    """
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and launched().local_count > 1
    said = {name: os.environ.get(name, "") for name in THREADS_SET_BY}
    if by_torchrun and said["OMP_NUM_THREADS"] == "1":
        del said["OMP_NUM_THREADS"]
    return any(re.fullmatch(r"(0*[1-9]\d*)(,0*[1-9]\d*)*", "".join(text.split())) for text in said.values())
