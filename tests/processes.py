"""The worker processes that a test's own process has started."""

import psutil


def worker_processes():
    children = psutil.Process().children(recursive=True)
    return [child for child in children if any("spawn_main" in word for word in child.cmdline())]
