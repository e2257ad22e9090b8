"""Networks that a user's function makes (`module:function`): called, hashed, kept in a run.

A run keeps the network as it was returned, all but its weights, which are in the checkpoints. So a run is loaded without
calling the function, and without whatever files that reads.
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from muybridge import user_code
from muybridge.errors import UserError
from muybridge.former_names import resolve_former_names


def network(code: str, **arguments: Any) -> Any:
    """Call `module:function`; or, while a run is loaded that kept its network, restore that. Raises UserError."""
    file = user_code.stored_network(code)
    return user_code.call(code, **arguments) if file is None else _restored(file)


def brought_sha256(build: Callable[[], nn.Module]) -> str:
    """Hash of the names and shapes of a network's tensors, and of the values that do not depend on torch's random numbers."""

    def made(seed: int) -> dict[str, tuple[str, np.ndarray]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return {
                name: (f"{tuple(value.shape)} {value.dtype}", _bytes(value))
                for name, value in _held(build(), "", set())
            }

    first = made(0)
    brought = {name: np.ones(len(bytes_NB), bool) for name, (_, bytes_NB) in first.items()}
    for other in (made(1), made(2)):  # a third, as two random numbers may be the same
        for name, (kind, bytes_NB) in first.items():
            others_kind, others_NB = other.get(name, ("", bytes_NB))
            brought[name] &= (bytes_NB == others_NB).all(1) if others_kind == kind else False
    digest = hashlib.sha256()
    for name, (kind, bytes_NB) in sorted(first.items()):
        digest.update(f"{name} {kind}\n".encode())
        brought_N = brought[name]
        if brought_N.any() and not brought_N.all():
            digest.update(np.packbits(brought_N).tobytes())
        digest.update(bytes_NB[brought_N].tobytes())
    return digest.hexdigest()


def _held(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor | np.ndarray]]:
    """The tensors and arrays that a value holds, by name.

    A module holds parameters, buffers (also those that no checkpoint keeps), those of its modules, and what its other
    attributes hold. `seen`: ids of the values that were searched already.
    """
    if isinstance(value, torch.Tensor | np.ndarray):
        yield name, value
        return
    parts: Mapping[Any, Any] = {}
    if isinstance(value, nn.Module):
        registered = ("_parameters", "_buffers", "_modules")
        others = {key: part for key, part in vars(value).items() if key not in registered}
        parts = {**others, **value._parameters, **value._buffers, **value._modules}
    elif isinstance(value, Mapping):
        parts = value
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    if parts and id(value) not in seen:
        seen.add(id(value))
        for key, part in parts.items():
            yield from _held(part, f"{name}.{key}" if name else str(key), seen)


def _bytes(value: torch.Tensor | np.ndarray) -> np.ndarray:
    """(N,B): N values of B bytes each; N = 0 for a tensor without values (meta) and an array of Python objects."""
    if isinstance(value, np.ndarray):
        kept = value.reshape(-1)[: 0 if value.dtype.hasobject else None]
        return np.frombuffer(kept.tobytes(), np.uint8).reshape(kept.size, kept.itemsize)
    if value.is_meta:
        return np.empty((0, 1), np.uint8)
    plain = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
    flat = plain.resolve_conj().resolve_neg().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().reshape(flat.numel(), flat.element_size())


def keep(net: nn.Module) -> bytes:
    """Pickle a network without the values of its weights.

    Raises UserError where Python cannot pickle it (a function inside a function, a lambda).
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, net).dump(net)
    except Exception as error:  # whatever a stranger's class does when it is asked for its parts
        raise UserError(
            f"{type(net).__name__}: it cannot be kept: {type(error).__name__}: {error}. Remove from it what Python "
            "cannot pickle"
        ) from error
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
        with file.open("rb") as opened, resolve_former_names():
            return _Unpickler(opened).load()
    except Exception as error:
        raise UserError(
            f"{file}: it is damaged: {type(error).__name__}: {error}. Restore it, or train into another folder"
        ) from error
