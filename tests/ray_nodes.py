"""A Ray cluster of several nodes on this machine, bound to loopback; every process is ended by its number."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


class Nodes:
    """Nodes with a private folder each: home, temporary files, current folder."""

    def __init__(self, folder):
        self.folder, self._logs = folder, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.environment = os.environ | {
            "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        self.private, self._processes = {}, {}

    def start(self, name, *, cpus, head=False):
        """Start a node and wait until it has joined."""
        private = self.folder / name
        private.mkdir()
        to = ["--head", "--port", self.address.split(":")[1], "--temp-dir", str(self.folder / "ray"),
              "--include-dashboard=false"] if head else ["--address", self.address]  # fmt: skip
        command = [
            str(Path(sys.executable).parent / "ray"), "start", "--block", "--node-ip-address", "127.0.0.1", "--num-cpus",
            str(cpus), "--num-gpus", "0", "--object-store-memory", str(100 * 2**20), "--disable-usage-stats", *to,
        ]  # fmt: skip
        own = {"HOME": str(private), "TMPDIR": str(private)}
        with (self.folder / f"{name}.txt").open("w") as output:
            self._processes[name] = subprocess.Popen(
                command, env=self.environment | own, cwd=private, stdout=output, stderr=output, start_new_session=True
            )
        self.private[name] = private
        until = time.monotonic() + 90
        while "Ray runtime started" not in (said := (self.folder / f"{name}.txt").read_text()):
            assert self._processes[name].poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.2)

    def kill(self, name):
        """Kill a node's processes, and delete its private folder."""
        if name not in self._processes:
            return
        process = self._processes.pop(name)
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            for one in [*parent.children(recursive=True), parent]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        process.wait()
        shutil.rmtree(self.private[name], ignore_errors=True)


@contextmanager
def two_nodes(*, cpus=1):
    """A head and a second node."""
    folder = Path(tempfile.mkdtemp(prefix="mbray", dir="/tmp"))  # sockets have short paths
    nodes = Nodes(folder)
    try:
        nodes.start("head", cpus=cpus, head=True)
        nodes.start("second", cpus=cpus)
        yield nodes
    finally:
        nodes.kill("second")
        nodes.kill("head")
        shutil.rmtree(folder, ignore_errors=True)
