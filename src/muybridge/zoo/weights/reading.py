"""Tensors by name from a file. Nothing but tensors and plain values is ever unpickled."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from muybridge.errors import UserError
from muybridge.runtime.files import check_regular
from muybridge.zoo.base import Preprocessing
from muybridge.zoo.weights.source import State
from muybridge.zoo.weights.tag import read_tag

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")
"""Names of the weights among the other things that training scripts save."""
_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes of `DataParallel` and `torch.compile`."""


class Read(NamedTuple):
    """Content of a file of weights, with the metadata that muybridge writes."""

    state: State
    preprocessing: Preprocessing | None = None
    model: str = ""
    """The name of the model that wrote it."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the classifier; empty: not known."""


def read(path: Path) -> Read:
    """Read a file of weights. Raises UserError."""
    if path.is_dir():
        raise UserError(f"{path}: it is a folder. Give the file of weights in it")
    if not path.is_file():
        raise UserError(f"{path}: it does not exist. Check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return Read(state_of(_read_torch(path), str(path)))


def state_of(checkpoint: Any, where: str) -> State:
    """The weights in a checkpoint, without outer dictionaries and prefixes. Raises UserError."""
    while isinstance(checkpoint, Mapping):
        inner = [checkpoint[key] for key in WRAPPERS if isinstance(checkpoint.get(key), Mapping)]
        if not inner:
            break
        checkpoint = inner[0]
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise UserError(f"{where}: it holds a {type(checkpoint).__name__}. Give a dictionary of tensors by name")
    for name, value in checkpoint.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise UserError(
                f"{where}: not a dictionary of tensors by name, as '{name}' is a {type(value).__name__}. Save the "
                f"weights alone, if they are deeper in it (looked for: {', '.join(WRAPPERS)})"
            )
    state = {name: tensor.detach() for name, tensor in checkpoint.items()}
    for prefix in _PREFIXES * 2:  # one in the other, or twice
        while all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_safetensors(path: Path) -> Read:
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: it cannot be read: {error}. Restore it, or give another file") from None
    tag = read_tag(metadata, str(path))
    return Read(state_of(tensors, str(path)), tag.preprocessing, tag.model, tag.classes)


def _read_torch(path: Path) -> Any:
    check_regular(path)
    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise UserError(f"{path}: it cannot be read: permission denied. Allow reading it") from None
    except Exception as error:  # whatever a broken or hostile file provokes
        message = str(error)
        names = sorted(set(re.findall(r"GLOBAL ([\w.]+\w)", message)))
        if names or "Can only build" in message:
            what = f"holds more than tensors ({', '.join(names) or 'objects'})"
        elif ".tar format" in message:
            what = "is in PyTorch's oldest format (a tar file)"
        elif "TorchScript" in message:
            what = "is a TorchScript program"
        else:
            reason = (
                message.splitlines()[-1 if "WeightsUnpickler" in message.splitlines()[-1] else 0] if message else ""
            ).partition(" Re-running")[0]  # torch's advice to read it all the same
            raise UserError(
                f"{path}: not a file of weights that PyTorch can read: {reason or type(error).__name__}. Give another "
                "file"
            ) from None
    raise UserError(
        f"{path}: it {what}, and reading that could run any code. If you trust its maker, convert it once: import "
        f"torch; c = torch.load({str(path)!r}, map_location='cpu', weights_only=False); torch.save(c.state_dict() if "
        "hasattr(c, 'state_dict') else c.get('state_dict', c), 'weights.pt')"
    )


def _numbers() -> list[Any]:
    """NumPy's scalars, which training scripts leave beside the weights (the best accuracy).

    They are made of bytes and a type, and run nothing.
    """
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [np.dtype, *kinds, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
