"""Is this one of several processes that were started together (torchrun, srun), and which? Read from the environment. And
how one of muybridge's own modules becomes a process."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Launch:
    """How this process was started."""

    rank: int = 0
    """Which of all processes it is; the first, 0, writes and speaks."""
    count: int = 1
    local_rank: int = 0
    """Which of this machine's."""
    local_count: int = 1


def launched() -> Launch:
    """By torchrun's variables, else those of a Slurm step; else it is alone."""
    for rank, count, local_rank, local_count in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
    ):
        if _number(count) > 1 and rank in os.environ:
            return Launch(_number(rank), _number(count), _number(local_rank), max(1, _number(local_count)))
    return Launch()


def module_process(module: str) -> dict[str, Any]:
    """What `subprocess.Popen` takes to run a module of muybridge: it finds what this process finds, in the same order, and
    nothing before it in the folder where the user stands."""
    path = os.pathsep.join(path for path in sys.path if path)
    return {"args": [sys.executable, "-P", "-m", module], "env": {**os.environ, "PYTHONPATH": path}}


@contextmanager
def safe_children() -> Iterator[None]:
    """Python processes that are started in the block look for no module in the folder where the user stands."""
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def end_with_parent(parent: int) -> None:
    """End this process when the one that started it has ended, as nobody waits for an answer any more. For a thread."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _number(name: str) -> int:
    """Slurm writes "4(x2)" for four on each of two machines."""
    digits = os.environ.get(name, "").partition("(")[0].partition(",")[0]
    return int(digits) if digits.isdigit() else 0
