"""Contention: the share of its time that this process waits for processors, by the system's own figures."""

import math
import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

from muybridge.runtime import cgroups

THREADS = Path("/proc/self/task")
FULL = 0.95
"""Share of the processors from which on a machine counts as full."""


class Waiting:
    """Share of time that threads waited for a processor since the last look."""

    by_quota = False
    """Whether quotas had stopped the groups of this process for most of the time that it waited, at the last look."""

    def __init__(self) -> None:
        self._seen = _Look()

    def share(self, threads: int) -> float:
        """The share since the last look, or since the beginning, of the time of this many threads; 0 … 1."""
        before, self._seen = self._seen, _Look()
        seconds = max(1e-9, self._seen.at - before.at)
        if self._seen.waited is not None and before.waited is not None:
            waited = max(0.0, self._seen.waited - before.waited)
            self.by_quota = self._seen.stopped - before.stopped > waited / 2
            return min(1.0, waited / (seconds * threads))
        processors = (os.cpu_count() or 1) * seconds
        busy, own = self._seen.busy - before.busy, self._seen.own - before.own
        return min(1.0, max(0.0, busy - own) / processors) if busy >= FULL * processors else 0.0


class _Look:
    """Figures of a moment, in seconds."""

    waited: float | None
    """Time that the threads of this process were ready to run and did not, also as a quota stopped them; None: not known."""
    stopped = 0.0
    """Time that quotas had stopped the groups."""
    busy, own = math.nan, math.nan
    """Time that all processors of the machine, and that this process had worked; not a number: hidden."""

    def __init__(self) -> None:
        self.at = time.perf_counter()
        self.waited = _waited_seconds()
        if self.waited is not None:
            self.stopped = cgroups.stopped_seconds()
            return
        with suppress(psutil.Error, OSError, TypeError, ValueError):  # hidden by a container
            times, own = psutil.cpu_times(), psutil.Process().cpu_times()
            self.busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
            self.own = own.user + own.system


def _waited_seconds() -> float | None:
    """Time in the queues of processors, of all threads; None: not known. Linux counts there what a quota holds up, too."""
    nanoseconds, known = 0, False
    try:
        for thread in os.listdir(THREADS):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                nanoseconds += int((THREADS / thread / "schedstat").read_text().split()[1])
                known = True
    except (OSError, IndexError, ValueError):  # not Linux, or not kept
        return None
    return nanoseconds / 1e9 if known else None
