"""Data parallel training: what several processes that were started together say to each other.

    torchrun --nproc-per-node 4 -m muybridge train …        (several machines: torchrun's --nnodes, or srun)

Gradients are averaged by DistributedDataParallel; everything else (sums, scores, whether to stop) goes through
`Processes`, over gloo, on any device. A process that fails tells the others why.
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
    """Another process of the run has ended."""


@dataclass(frozen=True)
class Processes:
    """Those that train or score together; one alone is the usual case, and then nothing is sent."""

    launch: Launch = field(default_factory=Launch)
    _store: Any = field(default=None, repr=False)
    _gloo: Any = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        return self.launch.rank

    @property
    def count(self) -> int:
        return self.launch.count

    @property
    def is_first(self) -> bool:
        """The one that writes files."""
        return self.rank == 0

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Of each value over all processes."""
        if self.count == 1:
            return list(values)
        with self.talking():
            sums = torch.tensor(values, dtype=torch.float64)
            dist.all_reduce(sums, group=self._gloo)
            return [float(value) for value in sums.tolist()]

    def gathered(self, part: X) -> list[X]:
        """Every process's part, in their order, at every process."""
        if self.count == 1:
            return [part]
        with self.talking():
            parts: list[Any] = [None] * self.count
            dist.all_gather_object(parts, part, group=self._gloo)
            return parts

    def broadcast(self, value: X) -> X:
        """The first process's value, at every process."""
        return self.gathered(value)[0]

    def all_gather(self, value: float) -> list[float]:
        """Every process's value, in their order."""
        return self.all_reduce([value if rank == self.rank else 0.0 for rank in range(self.count)])

    def average_statistics(self, net: nn.Module) -> None:
        """Give batch norms the mean of all processes' running statistics: what is scored, saved and gone on with is the
        same everywhere, after every step."""
        if self.count == 1:
            return
        own = [buffer for buffer in net.buffers() if buffer.is_floating_point()]
        if own:
            with self.talking():
                flat = torch.cat([buffer.detach().double().flatten() for buffer in own])
                dist.all_reduce(flat)  # where they lie, on a GPU by its own means
            for buffer, mean in zip(own, (flat / self.count).split([buffer.numel() for buffer in own]), strict=True):
                buffer.copy_(mean.view_as(buffer))

    def shard(self, items: Sequence[X]) -> Sequence[X]:
        """This process's part of the items, dealt in turn: each goes to one process, whatever their number."""
        return items[self.rank :: self.count]

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Raises ProcessLost, with the cause, where a process that is waited for has ended."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _PEER_IS_GONE.search(f"{type(error).__name__} {error}"):
                raise
            raise ProcessLost(f"Another of the {self.count} processes ended. {self._told()}".rstrip(".")) from None

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What ends this process in the block is told to the others."""
        try:
            yield
        except BaseException as error:
            if self.count > 1 and not isinstance(error, ProcessLost | Interrupted):
                text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                self._store.compare_set(_FAILURE, "", f"Process {self.rank}: {text}")  # the first cause stands
            raise

    def clear_failure(self) -> None:
        """What ended the work of all processes was caught by all: it will be no cause of what comes later."""
        if self.count > 1:
            self.broadcast(None)
            if self.is_first:
                self._store.delete_key(_FAILURE)
            self.broadcast(None)

    def _told(self) -> str:
        try:
            self._store.wait([_FAILURE], datetime.timedelta(seconds=3))
            return str(self._store.get(_FAILURE).decode())
        except RuntimeError:  # it was killed, or the machine that keeps the store is gone
            return "It left no word: it was killed, ran out of memory, or its machine failed"


ALONE = Processes()


def join(device: torch.device) -> Processes:
    """Meet the processes that this one was started with; none where it is alone. Meets once, however often it is called."""
    return _joined(device.type) if launched().count > 1 else ALONE


@functools.cache
def _joined(device_type: str) -> Processes:
    launch = launched()
    os.environ |= {key: value for key, value in _address(launch).items() if key not in os.environ}
    store, rank, count = next(iter(dist.rendezvous("env://")))
    backend = "nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("group", store), rank=rank, world_size=count)
    atexit.register(_leave)
    gloo = dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo")
    return Processes(launch, store, gloo)


def _leave() -> None:
    """The threads of a process group must not outlive the interpreter."""
    _joined.cache_clear()
    dist.destroy_process_group()
    gc.collect()


def _address(launch: Launch) -> dict[str, str]:
    """Where processes meet, where torchrun did not say: on the first machine of a Slurm step."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    first = re.sub(r"\[(\w+).*", r"\1", nodes.split(",")[0])  # "node[03-05,9]" is node03 first
    port = 20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000
    return {
        "RANK": str(launch.rank), "WORLD_SIZE": str(launch.count), "LOCAL_RANK": str(launch.local_rank),
        "MASTER_ADDR": first, "MASTER_PORT": str(port),
    }  # fmt: skip


def parallel(net: nn.Module, processes: Processes, device: torch.device, *, uses_all: bool = True) -> nn.Module:
    """The network with gradients averaged over the processes; itself where there is one. `uses_all`: whether every
    parameter has a part in every answer; if not, those that have none are looked for each time."""
    if processes.count == 1 or not any(parameter.requires_grad for parameter in net.parameters()):
        return net
    where = [device.index] if device.type == "cuda" else None
    newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # torch 2.13
    own_statistics: dict[str, Any] = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
    return DistributedDataParallel(
        net, device_ids=where, gradient_as_bucket_view=True, find_unused_parameters=not uses_all, **own_statistics
    )


def gradients_wait(net: nn.Module, waits: bool) -> AbstractContextManager[Any]:
    """Leave averaging gradients to a later pass, where `waits`."""
    return net.no_sync() if waits and isinstance(net, DistributedDataParallel) else nullcontext()


def synced(net: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch norms over the clips of all processes."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = functools.partial(_synced_norm, module)  # type: ignore[method-assign]
    return net


def _synced_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Batch norm over all processes where torch's SyncBatchNorm, which is CUDA's alone, cannot: the mean, then the mean
    square of what differs from it."""
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
