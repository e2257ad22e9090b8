"""Memory and processors that a container or a batch system leaves to this process, by its cgroups (versions 1 and 2)."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the groups of this process, from its own to the root, and whether they are of version 2."""
    try:
        lines = [line.split(":", 2) for line in OWN.read_text(errors="surrogateescape").splitlines()]
    except OSError:  # not Linux
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        is_second = not controllers
        if is_second or controller in controllers.split(","):
            root = ROOT if is_second else ROOT / controller
            own = root / path.lstrip("/")
            for folder in (own, *own.parents):  # inside a container the root stands for the group itself
                yield folder, is_second
                if folder == root:
                    break


def _number(file: Path, name: str | None = None) -> int | None:
    """A number in a file, or that of a line `name number`; None for "max" and for numbers below 0."""
    try:
        text = file.read_text()
        words = text if name is None else next(line.split()[1] for line in text.splitlines() if line.split()[0] == name)
        return number if (number := int(words)) >= 0 else None
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def memory_left() -> tuple[int, int] | None:
    """(limit, left) in bytes of the group with the least left; None without a limit. Files that may be dropped count as left."""
    found = []
    for folder, is_second in _groups("memory"):
        limit = _number(folder / ("memory.max" if is_second else "memory.limit_in_bytes"))
        used = _number(folder / ("memory.current" if is_second else "memory.usage_in_bytes"))
        if limit is None or used is None or limit >= 2**60:  # version 1 writes "no limit" as a huge number
            continue
        files = _number(folder / "memory.stat", "inactive_file" if is_second else "total_inactive_file") or 0
        found.append((limit, max(0, limit - max(0, used - files))))
    return min(found, key=lambda one: one[1], default=None)


def processors() -> float | None:
    """Processors that the groups allow, as 1.5; None without a limit."""
    found = []
    for folder, is_second in _groups("cpu"):
        if is_second:
            try:
                limit, of = (int(word) for word in (folder / "cpu.max").read_text().split())
            except (OSError, ValueError):  # "max"
                continue
        else:
            limit, of = _number(folder / "cpu.cfs_quota_us") or 0, _number(folder / "cpu.cfs_period_us") or 0
        if limit > 0 and of > 0:
            with suppress(OverflowError):  # no limit either
                found.append(limit / of)
    return min(found, default=None)


def stopped_seconds() -> float:
    """Time for which quotas have stopped the groups of this process since they were made, on all processors together.

    Of nested groups that which was stopped longest counts. Others in a group may have been what was stopped.
    """
    stopped = 0.0
    for folder, is_second in _groups("cpu"):
        name, unit = ("throttled_usec", 1e6) if is_second else ("throttled_time", 1e9)
        stopped = max(stopped, (_number(folder / "cpu.stat", name) or 0) / unit)
    return stopped


def free_bytes() -> float:
    """Available memory, also inside a container."""
    import psutil

    free = float(psutil.virtual_memory().available)
    limited = memory_left()
    return free if limited is None else min(free, float(limited[1]))
