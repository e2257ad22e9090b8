"""Memory: how much is left, how fast it is, and the shared memory through which worker processes send batches."""

import os
import time
from collections.abc import Iterator

from muybridge.machine.finding import Asked, Finding, imported
from muybridge.runtime.cgroups import free_bytes, memory_left
from muybridge.text import gib

LEAST_BYTES = 2**31
"""Doubt where less is left: torch alone takes a quarter of it."""
SHARED = "/dev/shm"
LEAST_SHARED_BYTES = 2**30
"""Below it the loader sends batches through pipes (`muybridge.data.loader`)."""
COPIED_BYTES = 2**27
"""Size of the array that is copied; more than the caches of processors."""


def look(asked: Asked) -> Iterator[Finding]:
    """Find what is left of memory and of shared memory, and measure a copy."""
    import psutil

    there, left, limited = psutil.virtual_memory().total, free_bytes(), memory_left()
    figures = {"total_bytes": there, "free_bytes": int(left), "limit_bytes": None if limited is None else limited[0]}
    of = (
        f"{gib(there)} of memory"
        if limited is None
        else f"the {gib(limited[0])} that the container may use ({gib(there)} are there)"
    )
    if left < LEAST_BYTES:
        yield Finding(
            "memory-short",
            "doubt",
            f"{gib(left)} are left of {of}: a training may be ended by the system.",
            "Stop what else runs, or take a machine or container with more",
            figures,
        )
    else:
        yield Finding("memory", "good", f"{gib(left)} are left of {of}.", figures=figures)
    yield from shared(SHARED)
    if not asked.is_quick and left > 4 * COPIED_BYTES:
        yield from _speed()


def shared(path: str) -> Iterator[Finding]:
    """The shared memory at a path, where the system has one."""
    try:
        system = os.statvfs(path)
    except OSError:  # another system
        return
    size, free = system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize
    figures = {"size_bytes": size, "free_bytes": free}
    if free < LEAST_SHARED_BYTES:
        yield Finding(
            "shared-memory-small",
            "doubt",
            f"/dev/shm has {gib(free)} free: worker processes send batches through pipes, a little slower.",
            "Start the container with --shm-size 2g, or --ipc host",
            figures,
        )
    else:
        yield Finding("shared-memory", "good", f"/dev/shm has {gib(free)} free for worker processes.", figures=figures)


def _speed() -> Iterator[Finding]:
    numpy, why = imported("numpy")
    if numpy is None:
        yield Finding(
            "numpy-cannot-be-imported",
            "fault",
            f"numpy cannot be imported: {why}.",
            "pip install --force-reinstall numpy",
        )
        return
    source, target = numpy.ones(COPIED_BYTES, numpy.uint8), numpy.zeros(COPIED_BYTES, numpy.uint8)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        numpy.copyto(target, source)
        seconds.append(time.perf_counter() - started)
    rate = 2 * COPIED_BYTES / min(seconds)
    yield Finding(
        "memory-speed",
        "good",
        f"One thread reads and writes {rate / 1e9:.1f} GB/s of memory (measured).",
        figures={"bytes_per_s": round(rate)},
    )
