"""The calls of a model's modules while one clip goes through it, and which call each takes its input from.

Hooks hear every module's call, and every tensor carries the calls that it comes from. So what runs side by side and what
runs one after another is found out, not guessed from names. Nothing has values, as in `muybridge.zoo.count`.
"""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from muybridge.zoo.base import VideoModel
from muybridge.zoo.heads.blocks import CrossAttention, SelfAttention
from muybridge.zoo.networks.x3d import SqueezeExcitation
from muybridge.zoo.shapes import Shapes
from muybridge.zoo.temporal.aggregation import TemporalAggregation
from muybridge.zoo.temporal.frames import EverySecondFrame, TemporalPool
from muybridge.zoo.temporal.inflation import FrameConvs
from muybridge.zoo.temporal.non_local import NonLocal
from muybridge.zoo.temporal.shift import TemporalShift
from muybridge.zoo.volumes import Pool

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.MaxPool3d, nn.AvgPool3d)
TOGETHER = (
    TemporalAggregation, NonLocal, SqueezeExcitation, SelfAttention, CrossAttention, nn.MultiheadAttention, FrameConvs,
)  # fmt: skip
"""Modules with others inside that are shown as one operation."""


@dataclass(eq=False)
class Call:
    """A call of a module."""

    module: nn.Module
    name: str
    parent: "Call | None"
    sources: frozenset["Call"]
    """Calls that its input comes from; itself empty for the clip."""
    shape_in: tuple[int, ...]
    shape: tuple[int, ...] = ()
    out_sources: frozenset["Call"] = frozenset()
    """Calls that its output comes from, seen from inside."""
    children: list["Call"] = field(default_factory=list)
    attends: bool = False
    handled: BaseException | None = None
    """Error that was being handled when it began: another one at its end is its own."""

    def under(self) -> Iterator["Call"]:
        """This call and all inside it."""
        yield self
        for child in self.children:
            yield from child.under()


class _Flow(TorchFunctionMode):
    """Let tensors carry the calls that they come from, through functions between modules."""

    def __init__(self, stack: list[Call], frames: int) -> None:
        super().__init__()
        self._stack, self._frames = stack, frames
        self.used: set[int] = set()
        """Addresses of the parameters that functions were given."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.used |= {id(each) for each in _tensors((args, kwargs)) if isinstance(each, nn.Parameter)}
        sources = _sources((args, kwargs))
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            self._stack[-1].attends |= self._mixes(args[1] if len(args) > 1 else (kwargs or {})["key"])
        if name == "softmax" and args and args[0].dim() == 4 and args[0].shape[-1] == args[0].shape[-2]:
            self._stack[-1].attends |= self._mixes(args[0])
        for tensor in _tensors(out):
            if sources:
                tensor._comes_from = sources  # type: ignore[attr-defined]
        return out

    def _mixes(self, keys: torch.Tensor) -> bool:
        """Whether attention to keys (B,heads,L,…) goes from frame to frame: where frames are the batch, it does not.

        It does where the clip is the batch, or where the keys are as many as there are frames (divided attention).
        """
        return self._frames > 1 and keys.shape[-2] > 1 and (keys.shape[0] == 1 or keys.shape[-2] == self._frames)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _sources(value: Any) -> frozenset[Call]:
    found: frozenset[Call] = frozenset()
    for tensor in _tensors(value):
        found |= getattr(tensor, "_comes_from", frozenset())
    return found


def traced(model: VideoModel, num_frames: int, size: int) -> tuple[Call, set[int]]:
    """Send one clip through a model. Returns its call, with all calls inside it, and the `id` of each parameter in use.

    A call that raises an error, which the network catches, is left out.
    """
    names = {module: name for name, module in model.named_modules()}
    device = next(model.parameters()).device
    stack: list[Call] = []
    clip = Call(nn.Identity(), "", None, frozenset(), ())  # what the clip itself comes from
    roots: list[Call] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        parent = stack[-1] if stack else None
        sources = _sources((args, kwargs))
        if not sources:  # (a function that torch shows nobody)
            sources = frozenset(parent.children[-1:]) if parent else frozenset({clip})
        shape = max((tuple(tensor.shape) for tensor in _tensors((args, kwargs))), key=prod, default=())
        call = Call(module, names[module], parent, sources, shape)
        call.handled = sys.exc_info()[1]
        (parent.children if parent else roots).append(call)
        stack.append(call)

    def leave(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        call = stack.pop()
        if sys.exc_info()[1] is not call.handled:
            (stack[-1].children if stack else roots).remove(call)
            return
        found = list(_tensors(list(out.values()) if isinstance(out, dict) else getattr(out, "to_tuple", lambda: out)()))
        call.shape = tuple(found[0].shape) if found else ()
        call.out_sources = _sources(found[:1])
        passes = is_silent(call)
        for tensor in found:
            tensor._comes_from = call.sources if passes else frozenset({call})  # type: ignore[attr-defined]

    heard = [each for each in model.modules() if not isinstance(each, torch.jit.ScriptModule)]  # (which takes no hooks)
    handles = [each.register_forward_pre_hook(enter, with_kwargs=True) for each in heard]
    # (what other hooks of a module call is not its own work)
    handles += [each.register_forward_hook(leave, with_kwargs=True, prepend=True, always_call=True) for each in heard]
    flow = _Flow(stack, num_frames)
    try:
        with torch.no_grad(), Shapes() if device.type == "meta" else nullcontext():
            x = model.zeros(num_frames, size, device=device)
            x._comes_from = frozenset({clip})  # type: ignore[attr-defined]
            with flow:
                model.eval()(x)
    finally:
        for handle in handles:
            handle.remove()
    return roots[0], flow.used


def is_leaf(call: Call) -> bool:
    """Whether a call is shown as one operation."""
    return not call.children or call.attends or isinstance(call.module, (*TOGETHER, nn.Conv2d, nn.Conv3d))


def is_silent(call: Call) -> bool:
    """Whether a module changes values alone: a norm, an activation, dropout."""
    module = call.module
    known = (*TOGETHER, *POOLS, TemporalShift, TemporalPool, EverySecondFrame, Pool, nn.RNNBase)
    if call.children or call.shape != call.shape_in or isinstance(module, known) or call.attends:
        return False
    own = module.parameters(recurse=False)  # (what hooks call is kept in it, too)
    return all(parameter.dim() <= 1 or parameter.numel() == max(parameter.shape) for parameter in own)
