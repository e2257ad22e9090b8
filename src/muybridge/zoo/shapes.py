"""Shapes without values, quickly: what torch need not do on the meta device."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Shapes(TorchFunctionMode):
    """Skip operations on the meta device that change values and no shape: nothing has values there.

    torch decomposes them in Python; without, building a model takes a tenth of the time, counting it a third. Tensors that
    have values are left to torch: a network may compute with them on its way, and keep them.
    """

    DRAWN = frozenset({
        "normal_", "uniform_", "zero_", "fill_", "kaiming_normal_", "kaiming_uniform_", "trunc_normal_",
    })  # fmt: skip
    IN_PLACE = frozenset({"copy_", "add_", "__iadd__"})
    ACTIVATIONS = frozenset({"relu", "silu"})
    BINARY = frozenset({"add", "__add__", "div", "__truediv__"})
    FILLED = frozenset({"zeros", "ones"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in self.FILLED:
            empty = torch.empty(*args, **kwargs)
            return empty if empty.is_meta else func(*args, **kwargs)
        x = args[0] if args else kwargs.get("tensor")
        if not isinstance(x, torch.Tensor) or not x.is_meta:
            return func(*args, **kwargs)
        if name in self.DRAWN:
            return x
        if name == "batch_norm" and _is_norm_of(x, (*args[1:], *kwargs.values())):
            return torch.empty_like(x)
        if _has_tensor(kwargs.values()):
            return func(*args, **kwargs)
        if name in self.IN_PLACE and _fits_into(x, args[1:]):
            return x
        if name in self.ACTIVATIONS:
            return x if kwargs.get("inplace") else torch.empty_like(x)
        if name in self.BINARY and _is_like(x, args[1:]):
            return torch.empty_like(x)
        return func(*args, **kwargs)


def _has_tensor(values: Iterable[Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in values)


def _fits_into(x: torch.Tensor, operands: tuple[Any, ...]) -> bool:
    """Can the operand be broadcast to `x`? If not, torch says so."""
    if len(operands) != 1 or not isinstance(operands[0], torch.Tensor):
        return len(operands) == 1 and isinstance(operands[0], int | float)
    shape, own = operands[0].shape, x.shape
    return len(shape) <= len(own) and all(a in (1, b) for a, b in zip(shape[::-1], own[::-1], strict=False))


def _is_like(x: torch.Tensor, operands: tuple[Any, ...]) -> bool:
    """Does an operation on `x` and the operand give the shape and the dtype of `x`, for sure?"""
    if len(operands) != 1 or not x.dtype.is_floating_point:
        return False
    if isinstance(operands[0], torch.Tensor):
        return operands[0].shape == x.shape and operands[0].dtype == x.dtype
    return isinstance(operands[0], int | float)


def _is_norm_of(x: torch.Tensor, operands: tuple[Any, ...]) -> bool:
    """Are the norm's tensors as long as `x` has channels? If not, torch says so."""
    return all(each.shape == x.shape[1:2] for each in operands if isinstance(each, torch.Tensor))
