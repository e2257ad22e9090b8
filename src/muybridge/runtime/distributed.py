"""Data parallel training: communication among the processes that were started together.

    torchrun --nproc-per-node 4 -m muybridge train …        (several machines: torchrun's --nnodes, or srun)

Gradients are averaged by DistributedDataParallel; everything else (sums, scores, whether to stop) goes through
`Processes`, over gloo, on any device. A process that fails reports the cause to the others.
"""

import atexit
import datetime
import functools
import gc
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from muybridge.errors import Interrupted, UserError
from muybridge.runtime.launch import Launch, launched

X = TypeVar("X")

_FAILURE = "muybridge/failure"
_PEER_IS_GONE = re.compile(r"gloo|nccl|Connection (closed|reset|refused)|Broken pipe|recvValue failed", re.IGNORECASE)


class ProcessLost(UserError):
    """Another process of the run ended."""


@dataclass(frozen=True)
class Processes:
    """The processes that train or score together; a single one, the usual case, sends nothing."""

    launch: Launch = field(default_factory=Launch)
    _store: Any = field(default=None, repr=False)
    _gloo: Any = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        """Index of this process, from 0."""
        return self.launch.rank

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.launch.count

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files."""
        return self.rank == 0

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Sum of each value over all processes."""
        if self.count == 1:
            return list(values)
        with self.explain_lost_process():
            sums = torch.tensor(values, dtype=torch.float64)
            dist.all_reduce(sums, group=self._gloo)
            return [float(value) for value in sums.tolist()]

    def gathered(self, part: X) -> list[X]:
        """Gather an object from every process, in order of rank, at every process."""
        if self.count == 1:
            return [part]
        with self.explain_lost_process():
            parts: list[Any] = [None] * self.count
            dist.all_gather_object(parts, part, group=self._gloo)
            return parts

    def broadcast(self, value: X) -> X:
        """Value of rank 0, at every process."""
        return self.gathered(value)[0]

    def all_gather(self, value: float) -> list[float]:
        """Value of every process, in order of rank."""
        return self.all_reduce([value if rank == self.rank else 0.0 for rank in range(self.count)])

    def average_statistics(self, net: nn.Module) -> None:
        """Average the running statistics of batch norms over all processes.

        Done after every step, so that scoring, saving and training use the same statistics everywhere.
        """
        if self.count == 1:
            return
        buffers = [buffer for buffer in net.buffers() if buffer.is_floating_point()]
        if buffers:
            with self.explain_lost_process():
                flat = torch.cat([buffer.detach().double().flatten() for buffer in buffers])
                dist.all_reduce(flat)  # on their device; on a GPU by nccl
            for buffer, mean in zip(
                buffers, (flat / self.count).split([buffer.numel() for buffer in buffers]), strict=True
            ):
                buffer.copy_(mean.view_as(buffer))

    def shard(self, items: Sequence[X]) -> Sequence[X]:
        """Items of this process, dealt in turn: each goes to one process, whatever their number."""
        return items[self.rank :: self.count]

    @contextmanager
    def explain_lost_process(self) -> Iterator[None]:
        """Raise ProcessLost, with the cause, where communication fails because another process ended."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _PEER_IS_GONE.search(f"{type(error).__name__} {error}"):
                raise
            raise ProcessLost(
                (
                    f"processes: another of the {self.count} ended. Mend the cause and repeat the command: "
                    f"{self._failure()}"
                ).rstrip(".")
            ) from None

    @contextmanager
    def report_failure(self) -> Iterator[None]:
        """Report an exception that leaves the block to the other processes."""
        try:
            yield
        except BaseException as error:
            if self.count > 1 and not isinstance(error, ProcessLost | Interrupted):
                text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                self._store.compare_set(_FAILURE, "", f"Process {self.rank}: {text}")  # the first cause counts
            raise

    def clear_failure(self) -> None:
        """Forget a failure that all processes have caught, so that it does not count as the cause of a later one."""
        if self.count > 1:
            self.broadcast(None)
            if self.is_first:
                self._store.delete_key(_FAILURE)
            self.broadcast(None)

    def _failure(self) -> str:
        try:
            self._store.wait([_FAILURE], datetime.timedelta(seconds=3))
            return str(self._store.get(_FAILURE).decode())
        except RuntimeError:  # it was killed, or the machine with the store is gone
            return "it reported no cause; it was killed, ran out of memory, or its machine failed"


ALONE = Processes()


def join(device: torch.device) -> Processes:
    """Join the processes that this one was started with; ALONE for a single process. Joins once, however often called."""
    return _joined(device.type) if launched().count > 1 else ALONE


@functools.cache
def _joined(device_type: str) -> Processes:
    launch = launched()
    os.environ |= {key: value for key, value in _address(launch).items() if key not in os.environ}
    store, rank, count = next(iter(dist.rendezvous("env://")))
    if (
        os.environ.get("GROUP_WORLD_SIZE") == "1"
    ):  # torchrun restarts with the store of the attempt before, and its addresses
        store = dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("group", store), rank=rank, world_size=count)
    atexit.register(_leave)
    gloo = dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo")
    return Processes(launch, store, gloo)


def _leave() -> None:
    """Destroy the process group, as its threads must not outlive the interpreter."""
    _joined.cache_clear()
    dist.destroy_process_group()
    gc.collect()


def _address(launch: Launch) -> dict[str, str]:
    """Address of the rendezvous where torchrun sets none: the first machine of a Slurm step."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    first = re.sub(r"\[(\w+).*", r"\1", nodes.split(",")[0])  # "node[03-05,9]" is node03 first
    port = 20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000
    return {
        "RANK": str(launch.rank), "WORLD_SIZE": str(launch.count), "LOCAL_RANK": str(launch.local_rank),
        "MASTER_ADDR": first, "MASTER_PORT": str(port),
    }  # fmt: skip


def parallel(net: nn.Module, processes: Processes, device: torch.device, *, uses_all: bool = True) -> nn.Module:
    """Wrap a network so that gradients are averaged over the processes; a single process gets it back as it is.

    `uses_all`: whether every parameter contributes to every output; otherwise unused ones are searched in each step.
    """
    if processes.count == 1 or not any(parameter.requires_grad for parameter in net.parameters()):
        return net
    device_ids = [device.index] if device.type == "cuda" else None
    newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # torch 2.13
    own_statistics: dict[str, Any] = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
    return DistributedDataParallel(
        net, device_ids=device_ids, gradient_as_bucket_view=True, find_unused_parameters=not uses_all, **own_statistics
    )


def gradients_wait(net: nn.Module, waits: bool) -> AbstractContextManager[Any]:
    """Leave the averaging of gradients to a later pass, where `waits`."""
    return net.no_sync() if waits and isinstance(net, DistributedDataParallel) else nullcontext()


def synced(net: nn.Module, device: torch.device) -> nn.Module:
    """Replace batch norms by ones over the clips of all processes."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = functools.partial(_synced_norm, module)  # type: ignore[method-assign]
    return net


def _synced_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Batch norm over all processes on CPUs, as torch's SyncBatchNorm needs CUDA.

    The mean is reduced first, then the mean squared difference from it.
    """
    if not norm.training:
        return torch.nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    total = torch.cat([values.sum(axes), values.new_tensor([values.numel() / values.shape[1]])])
    total = dist_functional.all_reduce(total)
    count, mean = total[-1].detach(), total[:-1] / total[-1].detach()
    centred = values - mean.view(shape)
    var = dist_functional.all_reduce(centred.square().sum(axes)) / count
    with torch.no_grad():
        norm.num_batches_tracked += 1
        rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
        norm.running_var.lerp_((var * count / (count - 1)).to(norm.running_var.dtype), rate)
    y = centred * (var + norm.eps).rsqrt().view(shape)
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(x.dtype)
