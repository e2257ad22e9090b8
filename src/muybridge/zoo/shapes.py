"""Shapes without values, quickly: what torch need not do on the meta device."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Shapes(TorchFunctionMode):
    """Skip operations that change values and no shape: on the meta device nothing has values.

    torch decomposes them there in Python; without, building a model takes a tenth of the time, counting it a third.
    """

    IN_PLACE = frozenset({
        "normal_", "uniform_", "zero_", "fill_", "copy_", "add_", "__iadd__", "kaiming_normal_", "kaiming_uniform_",
        "trunc_normal_",
    })  # fmt: skip
    ELEMENTWISE = frozenset({"batch_norm", "relu", "silu", "add", "__add__", "div", "__truediv__"})
    FILLED = frozenset({"zeros", "ones"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in self.IN_PLACE:
            return args[0] if args else kwargs["tensor"]
        if name in self.ELEMENTWISE and _keeps_shape(name, args):
            return args[0] if kwargs.get("inplace") else torch.empty_like(args[0])
        if name in self.FILLED:
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


def _keeps_shape(name: str, args: tuple[Any, ...]) -> bool:
    """Is the shape that of the first argument, for sure? If not, torch decides, or says what does not fit."""
    if name == "batch_norm":
        return all(each.shape == args[0].shape[1:2] for each in args[1:5] if isinstance(each, torch.Tensor))
    second = args[1] if len(args) > 1 else None
    return not isinstance(second, torch.Tensor) or second.shape == args[0].shape
