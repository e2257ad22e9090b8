"""Device, precision, threads and memory of a network."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.runtime import processors
from muybridge.runtime.launch import launched

BY_ITSELF = torch.get_num_threads()
"""Threads that torch had when this module was loaded."""


@dataclass(frozen=True)
class Placement:
    """A device and the precision of computation."""

    device: torch.device
    autocast_dtype: torch.dtype | None = None
    """Type for matrix products and convolutions; None: that of the weights."""

    @property
    def non_blocking(self) -> bool:
        """Whether copies to the device may overlap with computation."""
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        """Context of mixed precision; does nothing without `autocast_dtype`."""
        return torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaler that keeps small fp16 gradients from underflow; does nothing for other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.autocast_dtype == torch.float16)


def find_device(name: str) -> torch.device:
    """Find a device by name; "auto" is CUDA where there is one. Each of several processes takes a GPU of its own.

    Raises UserError for a device that is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched().count > 1:
        name = f"cuda:{launched().local_rank}"
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"runtime.device: '{name}' cannot be used: {str(error).splitlines()[0]}. Choose another, such as cpu"
        ) from None
    if chosen.type == "meta":
        raise UserError("runtime.device: 'meta' has shapes and no values. Choose cpu or cuda")
    return chosen


def placement(device: str, *, precision: str, threads: int | None, deterministic: bool = True) -> Placement:
    """Choose device and precision; set the number of threads and, for CUDA, whether algorithms must repeat their bits.

    `precision`: fp32, bf16 or fp16. `threads`: None is `usual_threads`. `deterministic`: False leaves
    algorithms on CUDA to PyTorch's defaults. Raises UserError for a device that is not available.
    """
    set_threads(usual_threads() if threads is None else threads)
    chosen = find_device(device)
    if chosen.type == "cpu":
        keep_memory()
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # repeatable matrix products need it
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    return Placement(chosen, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision))


def usual_threads() -> int:
    """The number of threads that compute unless `runtime.threads` says it.

    That which somebody has said, or else torch's, but no more than the processors that are left.
    """
    found = _found_threads()
    return found if threads_said() else min(found, processors.left().threads)


def threads_said() -> bool:
    """Whether somebody has said how many threads compute: by a variable, or by `torch.set_num_threads` in Python.

    The latter shows by a number that torch has not by itself: another one than when this module was loaded, or more than
    the machine's processors.
    """
    found = _found_threads()
    return processors.threads_set_by_user() or found != BY_ITSELF or found > (os.cpu_count() or 1)


_found, _set = 0, 0
"""Threads that torch had before `set_threads`, and since."""


def set_threads(number: int) -> None:
    """Set torch's number of threads. It does not count as what somebody has said."""
    global _found, _set
    _found, _set = _found_threads(), number
    if number != torch.get_num_threads():
        torch.set_num_threads(number)


def _found_threads() -> int:
    """Torch's number of threads; where it is still the one of `set_threads`, that of before."""
    now = torch.get_num_threads()
    return _found if now == _set else now


@contextmanager
def threads_kept() -> Iterator[None]:
    """Give torch its number of threads back after the block, also where it fails."""
    global _found, _set
    before, found, had = torch.get_num_threads(), _found, _set
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _found, _set = found, had


@contextmanager
def cores_left_to(workers: int, where: Placement, *, threads: int | None) -> Iterator[None]:
    """Let processes that decode have cores of their own: as many threads fewer compute in the block.

    Nothing is changed where a GPU computes, or where `threads` or somebody else has said their number.
    """
    with threads_kept():
        if workers and where.device.type == "cpu" and threads is None and not threads_said():
            leave_cores_to(workers)
        yield


def leave_cores_to(workers: int) -> None:
    """Compute with as many threads fewer as processes decode."""
    set_threads(min(torch.get_num_threads(), processors.left().threads_beside(workers)))


def keep_memory() -> None:
    """Let glibc keep the memory of freed tensors, in one place for all threads.

    Otherwise it returns large blocks to the system and gets them anew, page by page, in every step. That takes a tenth of
    the time of a ResNet50 in fp32, and more where large tensors are copied (TSM). With a place for each thread, as it has by
    itself, memory that is kept would grow for as long as threads by turns ask for blocks of several sizes.
    """
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # another C library
            return
        mallopt(-8, 1)  # M_ARENA_MAX
        mallopt(-4, 0)  # M_MMAP_MAX: no mapping for single allocations
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def has_bf16(chosen: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 natively."""
    if chosen.type == "cuda":
        return torch.cuda.get_device_capability(chosen) >= (8, 0)
    if chosen.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def to_device(net: nn.Module, where: Placement) -> None:
    """Move a network to the device, its convolution weights channels-last (2.8 times faster on CPUs; GPUs prefer it)."""
    net.to(where.device)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in net.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.to(memory_format=formats[parameter.dim()])
