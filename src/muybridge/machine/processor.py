"""Processors: how many this process may use, how busy they are, and the threads that libraries will start."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from muybridge.machine.finding import Asked, Finding
from muybridge.machine.programs import whole_number
from muybridge.runtime.processors import THREADS_SET_BY, left, threads_set_by_user
from muybridge.text import plural

BUSY_SHARE = 0.5
"""Doubt where others keep more than this share of the processors busy."""
THREADS = (*THREADS_SET_BY, "OPENBLAS_NUM_THREADS")
MOST_SECONDS = 0.3
"""Length of the measurement of how busy the processors are."""


def look(asked: Asked) -> Iterator[Finding]:
    """Count the processors that are left to this process, and what keeps them busy."""
    import psutil

    there, own = os.cpu_count() or 1, left()
    figures = {"model": _model(), "processors": there, **own.as_json(), "threads": own.threads}
    computes = "" if threads_set_by_user() else f"; a training computes with {plural(own.threads, 'thread')}"
    by_quota = own.quota is not None and own.quota < own.usable
    if by_quota or own.usable < there:
        number, why = (own.quota, "a quota") if by_quota else (own.usable, "an affinity")
        words = f"{number:g} of {there} processors are left to this process, by {why}{computes}."
        yield Finding("processors", "note", words, figures=figures)
    else:
        words = f"{plural(there, 'processor')} ({_model()}){computes}."
        yield Finding("processors", "good", words, figures=figures)
    yield from _threads(own.threads, own.jobs)
    if asked.is_quick:
        return
    busy = psutil.cpu_percent(MOST_SECONDS) / 100
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    figures = {"busy": round(busy, 3), "load": round(load, 2)}
    if busy > BUSY_SHARE:
        yield Finding(
            "processors-busy",
            "doubt",
            f"Others keep the processors {100 * busy:.0f} % busy (load {load:.1f}): speeds that are measured now are too low.",
            "Stop what else runs, or read the speeds below as the least to expect",
            figures,
        )
    else:
        yield Finding("processors-idle", "good", f"The processors are {100 * busy:.0f} % busy.", figures=figures)


def _threads(cores: int, jobs: int) -> Iterator[Finding]:
    values = {name: whole_number(os.environ.get(name, "")) for name in THREADS}
    set_to = {name: number for name, number in values.items() if number is not None}
    numbers = list(set_to.values())
    if any(number > jobs for number in numbers):
        yield Finding(
            "threads",
            "doubt",
            f"{_said(set_to)}: more threads than the {jobs} processors that are left slow each other down.",
            f"export OMP_NUM_THREADS={cores}",
            {"threads": set_to},
        )
    elif numbers and min(numbers) < cores:
        yield Finding(
            "threads",
            "note",
            f"{_said(set_to)}: a training uses no more threads, though it would use {cores} by itself.",
            figures={"threads": set_to},
        )


def _said(set_to: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in set_to.items())


def _model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
