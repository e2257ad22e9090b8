"""Networks that a user's function makes (`module:function`): called, told by what they bring along, kept in a run.

A run keeps the network as it was returned, all but its weights, which are in the checkpoints. So a run is loaded without
calling the function, and without whatever files that reads.
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from muybridge import user_code
from muybridge.errors import UserError


def network(code: str, **arguments: Any) -> Any:
    """What the function `module:function` returns; of a run that is being loaded, the network that it kept. Raises
    UserError."""
    file = user_code.stored_network(code)
    return user_code.call(code, **arguments) if file is None else _restored(file)


def brought_sha256(build: Callable[[], nn.Module]) -> str:
    """Hash of what a function brings along: the names and shapes of the network's tensors, and the values of those that do
    not depend on torch's random numbers."""
    found: list[Mapping[str, torch.Tensor]] = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(build().state_dict())
    first, second = found
    digest = hashlib.sha256()
    for name in sorted(first):
        tensor, other = first[name], second.get(name)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if other is not None and not tensor.is_meta and torch.equal(tensor, other):
            digest.update(tensor.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def keep(net: nn.Module) -> bytes:
    """A network without the values of its weights. Raises UserError where Python cannot keep it (a function inside a
    function, a lambda)."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, net).dump(net)
    except Exception as error:  # whatever a stranger's class does when it is asked for its parts
        raise UserError(f"{type(net).__name__} cannot be kept: {type(error).__name__}: {error}") from error
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, net: nn.Module) -> None:
        super().__init__(file)
        self.names: dict[int, str] = {}
        for name, tensor in net.state_dict(keep_vars=True).items():
            self.names.setdefault(id(tensor), name)  # one that is used twice stays one

    def persistent_id(self, value: Any) -> Any:
        name = self.names.get(id(value))
        if name is None:
            return None
        shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
        return name, shape, dtype, isinstance(value, nn.Parameter), value.requires_grad


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.tensors: dict[str, torch.Tensor] = {}

    def persistent_load(self, pid: Any) -> torch.Tensor:
        name, shape, dtype, is_parameter, requires_grad = pid
        if name not in self.tensors:
            values = torch.zeros(shape, dtype=getattr(torch, dtype))
            self.tensors[name] = nn.Parameter(values, requires_grad=requires_grad) if is_parameter else values
        return self.tensors[name]


def _restored(file: Path) -> Any:
    """Only of a run whose code is allowed to run."""
    try:
        with file.open("rb") as opened:
            return _Unpickler(opened).load()
    except Exception as error:
        raise UserError(f"{file} is damaged: {type(error).__name__}: {error}") from error
