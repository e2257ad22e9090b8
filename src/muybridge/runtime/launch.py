"""Rank of this process among those that torchrun or srun started together; and starting muybridge's own processes."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from muybridge.runtime import waiting


@dataclass(frozen=True)
class Launch:
    """Rank and number of the processes that were started together."""

    rank: int = 0
    """Index among all processes; the first, 0, writes files and logs."""
    count: int = 1
    local_rank: int = 0
    """Index among the processes of this machine."""
    local_count: int = 1


def launched() -> Launch:
    """Read the launch from torchrun's variables, or those of a Slurm step; else a single process."""
    for rank, count, local_rank, local_count in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
    ):
        if _number(count) > 1 and rank in os.environ:
            return Launch(_number(rank), _number(count), _number(local_rank), max(1, _number(local_count)))
    return Launch()


def module_process(module: str) -> dict[str, Any]:
    """Arguments of `subprocess.Popen` to run a module of muybridge.

    It imports from the same path as this process, in the same order, and not from the current folder. Its threads share
    processors well (`muybridge.runtime.waiting`).
    """
    environment = {**os.environ, **waiting.variables(), "PYTHONPATH": _import_path()}
    return {"args": [sys.executable, "-P", "-m", module], "env": environment}


def _import_path() -> str:
    return os.pathsep.join(path for path in sys.path if path)


_environment = threading.RLock()
"""Held while the environment is another one for children."""


@contextmanager
def safe_children() -> Iterator[None]:
    """Let Python processes that are started in the block import from this one's path, and not from the current folder."""
    changes = {"PYTHONSAFEPATH": "1", "PYTHONPATH": _import_path()}
    with _environment:
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def end_with_parent(parent: int, before: Callable[[], object] = lambda: None) -> None:
    """End this process when its parent has ended, as nobody waits for an answer any more. Runs in a thread.

    `before` is called before the end.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    before()
    os._exit(1)


def _number(name: str) -> int:
    """Parse a number; Slurm writes "4(x2)" for four on each of two machines."""
    digits = os.environ.get(name, "").partition("(")[0].partition(",")[0]
    return int(digits) if digits.isdigit() else 0
