"""Ray: connect to a cluster, prove that its machines fit together, and map a function over them (extra `cluster`).

Nothing of muybridge's state lives in Ray. What is mapped keeps its own state on the shared folder, and can be called again.
"""

import functools
import importlib.metadata
import os
import platform
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge import __version__
from muybridge.errors import UserError
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import within, write_atomic

SCHEME = "ray"
CONNECT_SECONDS, PROBE_SECONDS = 60, 120
RETRIES = 3
"""Times that Ray starts a call again whose machine was lost."""


def is_ray(cluster: str) -> bool:
    """Whether a cluster's name means Ray: "ray" or "ray://HOST:PORT"."""
    return cluster == SCHEME or cluster.startswith(f"{SCHEME}://")


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, and what it offers."""

    id: str
    host: str
    cpus: float
    gpus: float
    versions: dict[str, str]


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to."""

    ray: Any
    nodes: Sequence[Node]

    def submit(self, function: Callable[..., Any], *arguments: Any, cpus: float, gpus: float = 0.0) -> Any:
        """Call a function on some machine; returns a reference for `finished`. Lost machines are replaced."""
        remote = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(function)
        return remote.remote(*arguments)

    def finished(self, references: Sequence[Any], *, seconds: float) -> list[Any]:
        """References whose calls have ended within these seconds."""
        if not references:
            return []
        ready, _ = self.ray.wait(list(references), num_returns=len(references), timeout=seconds)
        return list(ready)

    def result(self, reference: Any) -> Any:
        """Answer of a call that has ended. Raises what it raised, or RuntimeError where its machine was lost too often."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, Exception) else RuntimeError(str(error))) from error
        except self.ray.exceptions.RayError as error:
            raise RuntimeError(str(error).strip().splitlines()[0]) from error

    def cancel(self, references: Sequence[Any], *, seconds: float) -> None:
        """Interrupt calls, as Ctrl-C would, and wait until they have saved their work."""
        for reference in references:
            self.ray.cancel(reference, force=False)
        self.finished(references, seconds=seconds)

    def map(
        self, function: Callable[..., Any], items: Sequence[Any], *, cpus: float, gpus: float = 0.0
    ) -> Iterator[Any]:
        """Call a function once for each item; yields the answers as they come. Raises what a call raises."""
        left = [self.submit(function, item, cpus=cpus, gpus=gpus) for item in items]
        try:
            while left:
                for reference in self.finished(left, seconds=1.0)[:1]:
                    left.remove(reference)
                    yield self.result(reference)
        except BaseException:
            self.cancel(left, seconds=30.0)
            raise


@contextmanager
def connected(cluster: str, shared: Path, *, mixed_versions: bool = False) -> Iterator[Cluster]:
    """Connect to a cluster, or start one of this machine alone, for the block.

    Every machine is asked first whether it sees the folder `shared`, and for its versions. `mixed_versions`: go on where
    those of muybridge or torch differ. Only what was started here is ended. Raises UserError.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--cluster ray: Ray is not installed. Install it: pip install 'muybridge[cluster]'") from None
    address = cluster.removeprefix(SCHEME).removeprefix("://")
    if ray.is_initialized():
        raise UserError("--cluster ray: this process is connected to a Ray cluster already. Leave it: ray.shutdown()")
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": True, "logging_level": "ERROR"}
    try:
        if address:
            os.environ.setdefault("RAY_gcs_rpc_server_connect_timeout_s", str(CONNECT_SECONDS))
            ray.init(address=address, **options)
        else:
            ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
    except Exception as error:  # of many classes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--cluster {cluster}: Ray cannot be reached ({reason}). Call this on a machine of the cluster, with the address "
            "that `ray start --head` printed, and the same token on every machine (docs/cluster.md)"
        ) from None
    try:
        yield Cluster(ray, _proven(ray, shared, cluster, mixed_versions))
    finally:
        ray.shutdown()  # a cluster that others started keeps running


SHARES_A_NODE = 4
"""Shares of a work for each machine, so that a slow machine does fewer of them."""


def map_shards(
    cluster: str,
    shared: Path,
    function: Callable[..., Any],
    *,
    most: int,
    begun: int | None = None,
    gpus: bool = False,
    mixed_versions: bool = False,
) -> list[Any]:
    """Call `function(shard="i/n", jobs=…)` for every i on the machines of a cluster, each with all CPUs of its machine.

    `most`: the largest n. `begun`: the n of an earlier call, whose finished shares then count. `gpus`: give each a GPU where
    there are some. Returns the answers as they came. Raises UserError, and what the function raises.
    """
    if not is_ray(cluster):
        raise UserError(
            f"--cluster: '{cluster}' does not share data sets. Give ray or ray://HOST:PORT, or start calls with --shard"
        )
    with connected(cluster, shared, mixed_versions=mixed_versions) as machines:
        with_gpus = [node for node in machines.nodes if node.gpus] if gpus else []
        places = sum(int(node.gpus) for node in with_gpus) or len(machines.nodes)
        cpus = min(node.cpus // max(node.gpus, 1.0) for node in with_gpus or machines.nodes)
        count = min(most, begun or SHARES_A_NODE * places)
        log(f"{count} shares of the work on {len(machines.nodes)} machine(s), {cpus:g} CPUs for each at a time")
        calls = [
            functools.partial(function, shard=f"{number + 1}/{count}", jobs=max(1, int(cpus)))
            for number in range(count)
        ]
        answers = []
        with progress("shares", count) as bar:
            for answer in machines.map(_called, calls, cpus=max(1.0, cpus), gpus=1.0 if with_gpus else 0.0):
                answers.append(answer)
                bar.advance()
    return answers


def _called(call: Callable[[], Any]) -> Any:
    return call()


def versions() -> dict[str, str]:
    """Versions of what decides a result on this machine."""
    import torch

    return {
        "muybridge": __version__, "torch": importlib.metadata.version("torch"), "python": platform.python_version(),
        "CUDA": str(torch.version.cuda or "none"),
    }  # fmt: skip


def probe(token: str) -> dict[str, Any]:
    """Name and versions of this machine, and the content of the token's file as it is seen here."""
    try:
        content = Path(token).read_text(encoding="utf-8")
    except OSError as error:
        content = f"cannot be read: {error.strerror}"
    return {"host": socket.gethostname(), "token": content, "versions": versions(), "executable": sys.executable}


def _proven(ray: Any, shared: Path, cluster: str, mixed_versions: bool) -> list[Node]:
    """The machines, each of which has read a token that this process wrote. Raises UserError."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    shared.mkdir(parents=True, exist_ok=True)
    token, content = within(shared.resolve(), f".token-{secrets.token_hex(8)}"), secrets.token_hex(16)
    write_atomic(token, content)
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        asked = {
            node["NodeID"]: ray.remote(num_cpus=0, max_retries=RETRIES)(probe)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(str(token))
            for node in alive
        }
        try:
            answers = dict(zip(asked, ray.get(list(asked.values()), timeout=PROBE_SECONDS), strict=True))
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"--cluster {cluster}: a machine does not answer ({reason}). Install muybridge there in the same environment"
            ) from None
    finally:
        token.unlink(missing_ok=True)
    nodes = []
    for node in alive:
        answer = answers[node["NodeID"]]
        if answer["token"] != content:
            raise UserError(
                f"{shared}: the machine {answer['host']} ({node['NodeManagerAddress']}) does not see this folder: the file "
                f"{token.name} {answer['token'][:80]}. Choose a folder that all machines share under this path"
            )
        resources = node["Resources"]
        nodes.append(
            Node(
                node["NodeID"], answer["host"], resources.get("CPU", 0.0), resources.get("GPU", 0.0), answer["versions"]
            )
        )
    _check_versions(nodes, mixed_versions)
    return nodes


def _check_versions(nodes: Sequence[Node], mixed_versions: bool) -> None:
    """Log versions that differ from this machine's; raise UserError for those of muybridge and torch."""
    here = versions()
    for node in nodes:
        differing = [
            f"{name} {node.versions[name]}, here {here[name]}" for name in here if node.versions[name] != here[name]
        ]
        if not differing:
            continue
        if any(node.versions[name] != here[name] for name in ("muybridge", "torch")) and not mixed_versions:
            raise UserError(
                f"{node.host}: it has other versions ({'; '.join(differing)}), so its results would not compare. Install the "
                "same there, or allow it: --mixed-versions"
            )
        log(f"warning: {node.host} has other versions: {'; '.join(differing)}")
