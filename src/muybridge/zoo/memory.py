"""Memory of modules that look back, where the steps of a stream (frames, or vectors) come one by one.

A module that looks back sees zeros before a clip's first step. In a stream it sees what it has kept instead, so that
steps one by one give what the clip gives. `muybridge.zoo.steps` makes it so.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from muybridge.errors import UserError

Memory = dict[nn.Module, torch.Tensor]
"""One tensor for each module that looks back."""


class _Stream(threading.local):
    """The stream whose step a thread computes, as two dictionaries; None: it computes whole clips."""

    before: Memory | None = None
    after: Memory | None = None


_STREAM = _Stream()


@contextmanager
def stream(before: Memory) -> Iterator[Memory]:
    """Let modules see what they have kept, in this thread; gives what they keep for the step to come.

    `before` is left as it is; empty at the start of a stream.
    """
    outer = _STREAM.before, _STREAM.after
    after: Memory = {}
    _STREAM.before, _STREAM.after = before, after
    try:
        yield after
    finally:
        _STREAM.before, _STREAM.after = outer


def kept(module: nn.Module, *shape: int) -> torch.Tensor | None:
    """Tensor that a module has kept; None at the start of a stream, and in whole clips.

    Raises UserError where that has another shape than the module needs.
    """
    if _STREAM.before is None or module not in _STREAM.before:
        return None
    tensor = _STREAM.before[module]
    if tensor.shape != shape:
        raise UserError(
            f"the stream's state: a {type(module).__name__} has kept values of shape {tuple(tensor.shape)}, but needs "
            f"{shape}. Start a new state where the frames' size changes, and for another network"
        )
    return tensor


def keep(module: nn.Module, tensor: torch.Tensor) -> None:
    """Keep a tensor for a module's next step; without effect in whole clips."""
    if _STREAM.after is not None:
        _STREAM.after[module] = tensor.clone(memory_format=torch.contiguous_format)


def behind(module: nn.Module, x_BCT: torch.Tensor, steps: int) -> torch.Tensor:
    """The `steps` steps before x, and x: those that the module has seen last in a stream, else zeros."""
    if steps == 0:
        return x_BCT
    before_BCT = kept(module, *x_BCT.shape[:2], steps)
    if before_BCT is None:
        before_BCT = x_BCT.new_zeros(*x_BCT.shape[:2], steps)
    joined_BCT = torch.cat([before_BCT.to(x_BCT.dtype), x_BCT], dim=2)
    keep(module, joined_BCT[..., -steps:])
    return joined_BCT
