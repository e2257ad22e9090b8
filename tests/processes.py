"""The worker processes that a test's own process has started."""

import psutil


def worker_processes():
    """On Linux they are forks of one server process, and have its command line; the server stays."""
    servers = [child for child in psutil.Process().children() if _runs(child, "multiprocessing.forkserver")]
    forks = [worker for server in servers for worker in server.children()]
    return [*forks, *(child for child in psutil.Process().children() if _runs(child, "spawn_main"))]


def _runs(process, name):
    return any(name in word for word in process.cmdline())
