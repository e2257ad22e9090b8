"""Checkpoints: a new directory, then an atomic pointer. A process killed at any moment leaves the last whole one.

    checkpoints/step-00000120/model.safetensors       parameters and buffers
                              optimizer.safetensors   the optimiser's tensors, by parameter name
                              state.json              step, position in metrics.jsonl, sums of the running epoch
    checkpoints/last, best                            the name of a step's directory

No pickles: loading a checkpoint runs no code.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.files import read_json, sync_folder, write_atomic, write_durable
from muybridge.models import VideoModel
from muybridge.models.weights.tag import read_tag, tag_of

FORMAT_VERSION = 1


@dataclass
class State:
    """Where training stands, beside the weights."""

    step: int = 0
    """Steps done."""
    metrics_bytes: int = 0
    """Length of metrics.jsonl then."""
    best: float = -1.0
    """Best validation accuracy so far."""
    loss_sum: float = 0.0
    """Of the clips of the running epoch."""
    correct: int = 0
    clips: int = 0


def save(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State, *, is_best: bool = False
) -> None:
    """Write a checkpoint of `state.step`, point `last` (and `best`) at it, and remove what nothing points at."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{state.step:08d}"
    partial, final = folder / f".{name}.partial", folder / name
    for leftover in (partial, final):  # of a killed process: whole, perhaps, but never pointed at
        if leftover.exists() and name not in _pointed(folder):
            shutil.rmtree(leftover)
    if not final.exists():
        partial.mkdir()
        model_tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        write_durable(partial / "model.safetensors", safetensors.torch.save(model_tensors, tag_of(model)))
        write_durable(partial / "optimizer.safetensors", safetensors.torch.save(_optimizer_tensors(model, optimizer)))
        about = json.dumps({"format_version": FORMAT_VERSION, **asdict(state)}, indent=2)
        write_durable(partial / "state.json", about.encode())
        sync_folder(partial)
        partial.rename(final)
        sync_folder(folder)
    if is_best:  # before `last`: a run that resumes from this step counts its best as known
        write_atomic(folder / "best", name)
    write_atomic(folder / "last", name)
    for other in folder.iterdir():
        if other.is_dir() and other.name not in _pointed(folder):
            shutil.rmtree(other)


def exists(folder: Path, which: str = "last") -> bool:
    return (folder / which).exists()


def load_state(folder: Path, which: str = "last") -> State:
    values = read_json(_directory(folder, which) / "state.json")
    if values.pop("format_version", None) != FORMAT_VERSION:
        raise UserError(f"{_directory(folder, which)} was written by another version of muybridge")
    return State(**values)


def model_file(folder: Path, which: str = "last") -> Path:
    """The weights of a checkpoint. Raises UserError where there is none."""
    return _directory(folder, which) / "model.safetensors"


def load_model(folder: Path, model: VideoModel, which: str = "last") -> None:
    """Fill a model, with the preprocessing that its weights are for. Raises UserError where names or shapes do not
    agree."""
    file = model_file(folder, which)
    tensors = _tensors(file)
    own = model.state_dict()
    wrong = [key for key in own if key not in tensors or tensors[key].shape != own[key].shape]
    wrong += [key for key in tensors if key not in own]
    if wrong:
        raise UserError(f"{file} does not fit the model: {len(wrong)} tensors differ, the first is '{wrong[0]}'")
    model.load_state_dict(tensors)
    with safetensors.safe_open(file, framework="pt") as opened:
        tag = read_tag(opened.metadata(), str(file))
    if tag.preprocessing is not None:
        model.preprocessing = tag.preprocessing


def load_optimizer(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, which: str = "last") -> None:
    """Fill an optimiser, by parameter name."""
    tensors = _tensors(_directory(folder, which) / "optimizer.safetensors")
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters[name]
        if tensor.shape == parameter.shape:  # like the parameter, in its memory layout and on its device
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        optimizer.state[parameter][slot] = tensor


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{slot}": value.contiguous()
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def _pointed(folder: Path) -> set[str]:
    return {(folder / which).read_text().strip() for which in ("last", "best") if (folder / which).exists()}


def _directory(folder: Path, which: str) -> Path:
    try:
        return folder / (folder / which).read_text().strip()
    except OSError:
        raise UserError(f"{folder} holds no checkpoint '{which}'") from None


def _tensors(file: Path) -> dict[str, Any]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
