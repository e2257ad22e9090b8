"""Waiting: the threads of a step wait for each other, beside other programs too."""

import ctypes
import os
import re
import struct
import sys
from contextlib import suppress

WAITING_SET_BY = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Variables by which a user says how the threads of GNU OpenMP, torch's on Linux, wait for each other."""
SPINS = 10_000
"""Turns in which a thread waits for the others before it sleeps; 300,000 is the library's own default.

Measured by `benchmarks/busy.py`: fewer make a quiet step slower, as threads have to be woken; more keep a processor from
the very thread that is waited for.
"""
SLICE_NANOSECONDS = 100_000
"""Time slice of the threads. Linux's own is a few milliseconds: all threads of a step wait so long for one that lost its
processor."""


def is_set() -> bool:
    """Whether the environment says how threads wait for each other, by the user or by `share_with_others`.

    Only what GNU OpenMP takes counts: anything else leaves its own default.
    """
    spins, policy = (os.environ.get(name, "").strip().lower() for name in WAITING_SET_BY)
    return bool(re.fullmatch(r"\d+\s*[kmgt]?|infinite|infinity", spins)) or policy in ("active", "passive")


def may_spin() -> bool:
    """Whether the user wants threads that wait to keep their processors, in other libraries of threads, too."""
    return os.environ.get("OMP_WAIT_POLICY", "").strip().lower() == "active"


def variables() -> dict[str, str]:
    """Variables for a process that loads torch, with which its threads share processors; empty where the user has chosen."""
    return {} if is_set() else {"GOMP_SPINCOUNT": str(SPINS)}


def share_with_others() -> None:
    """Let the threads of this process share processors well. To be called before torch is loaded, and before threads start.

    A step is computed by threads that wait for each other. On a busy machine one of them has to wait for its processor; the
    others then spin for as long, on processors that it could have had. Here they sleep soon, and ask for short time slices
    (Linux 6.12; earlier ones take no notice), so that none is waited for long. The share of the processors stays the same.
    Where the user has chosen another way of waiting, nothing is changed.
    """
    ours = {"GOMP_SPINCOUNT": str(SPINS)}  # a child finds what its parent has set
    if is_set() and {name: os.environ[name] for name in WAITING_SET_BY if os.environ.get(name)} != ours:
        return
    os.environ.update(ours)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            nice = os.getpriority(os.PRIO_PROCESS, 0)
            size, other_policy = 48, 0
            asked = struct.pack("=IIQiIQQQ", size, other_policy, 0, nice, 0, SLICE_NANOSECONDS, 0, 0)
            number = {"x86_64": 314, "aarch64": 274, "riscv64": 274}.get(os.uname().machine)
            if number is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
                ctypes.CDLL(None).syscall(number, 0, asked, 0)  # refused, it changes nothing
