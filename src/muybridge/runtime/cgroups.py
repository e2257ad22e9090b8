"""Memory and processors that a container or a batch system leaves to this process, by its cgroups (versions 1 and 2)."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the groups of this process, from its own to the root, and whether they are of version 2."""
    try:
        lines = [line.split(":", 2) for line in OWN.read_text().splitlines()]
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
    """A number in a file, or that of a line `name number`; None where the file says "max"."""
    try:
        text = file.read_text()
        if name is None:
            return int(text)
        return next((int(line.split()[1]) for line in text.splitlines() if line.split()[0] == name), None)
    except (OSError, ValueError, IndexError):
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
                quota, period = (folder / "cpu.max").read_text().split()
                found.append(int(quota) / int(period))
            except (OSError, ValueError):  # "max"
                continue
        else:
            limit, of = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            if limit is not None and of and limit > 0:
                found.append(limit / of)
    return min(found, default=None)


def free_bytes() -> float:
    """Available memory, also inside a container."""
    import psutil

    free = float(psutil.virtual_memory().available)
    limited = memory_left()
    return free if limited is None else min(free, float(limited[1]))
