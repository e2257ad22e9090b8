"""Checkpoints: a new directory, then an atomic pointer. A process killed at any moment leaves the last whole one.

    checkpoints/step-00000120/model.safetensors       parameters and buffers that are scored
                              trained.safetensors     those that training goes on with, where the scored ones are their mean
                              optimizer.safetensors   the optimiser's tensors, by parameter name
                              state.json              step, position in metrics.jsonl, sums of the running epoch, …
    checkpoints/last, best                            the name of a step's directory

No pickles: loading a checkpoint runs no code.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.runtime.files import (
    as_kind,
    check_regular,
    is_partial,
    read_as,
    read_json,
    sha256_file,
    sync_folder,
    within,
    write_atomic,
    write_durable,
)
from muybridge.storage.run import pointed_by
from muybridge.zoo import VideoModel
from muybridge.zoo.weights.tag import read_tag, tag_of

FORMAT_VERSION = 1
STEP = re.compile(r"step-[0-9]{8,}")
"""Names of checkpoints' directories."""


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
    train_seconds: float = 0.0
    """Spent on training steps."""
    stop_best: float | None = None
    """Best value so far of the quantity that may stop training, and the epoch it is of."""
    stop_best_epoch: int = 0
    ended: str = ""
    """Why training is over, if it is."""
    unvalidated: bool = False
    """Validation of this step is still to come."""
    loss_scale: float = 65536.0
    """fp16's, and how many steps it has gone well with."""
    loss_scale_steps: int = 0


HASHES = "sha256.json"
"""In a checkpoint: the hash of each of its files of tensors."""


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    *,
    scored: nn.Module | None = None,
    is_best: bool = False,
) -> None:
    """Write a checkpoint of `state.step`, point `last` (and `best`) at it, and remove what nothing points at. One that is
    there already gets the new state: a step has one set of weights. `scored`: where not `model` itself but a mean of its
    weights is scored."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{state.step:08d}"
    partial, final = within(folder, f".{name}.partial"), within(folder, name)
    for leftover in (partial, final):  # of a killed process: whole, perhaps, but never pointed at
        if leftover.exists() and name not in _pointed(folder):
            shutil.rmtree(leftover)
    about = json.dumps({"format_version": FORMAT_VERSION, **asdict(state)}, indent=2)
    is_new = not final.exists()
    if is_new:
        try:
            partial.mkdir()
            hashes = {}
            for file, data in _files(model, optimizer, scored):
                write_durable(partial / file, data)
                hashes[file] = hashlib.sha256(data).hexdigest()
                del data  # one at a time in memory
            write_durable(partial / HASHES, (json.dumps(hashes, indent=2) + "\n").encode())
            write_durable(partial / "state.json", about.encode())
            sync_folder(partial)
        except OSError:  # a full disk: the part that fitted would fill it further
            shutil.rmtree(partial, ignore_errors=True)
            raise
        partial.rename(final)
        sync_folder(folder)
    if is_best:  # before `last`: a run that resumes from this step counts its best as known
        write_atomic(within(folder, "best"), name)
    if not is_new:  # after `best`, which the state counts as known
        write_atomic(within(folder, f"{name}/state.json"), about)
    write_atomic(within(folder, "last"), name)
    for other in folder.iterdir():
        is_ours = STEP.fullmatch(other.name) or is_partial(other.name)
        if is_ours and other.is_dir() and not other.is_symlink() and other.name not in _pointed(folder):
            shutil.rmtree(other)


def _files(model: nn.Module, optimizer: torch.optim.Optimizer, scored: nn.Module | None) -> Iterator[tuple[str, bytes]]:
    yield "model.safetensors", _weights(scored or model)
    if scored is not None:
        yield "trained.safetensors", _weights(model)
    yield "optimizer.safetensors", safetensors.torch.save(_optimizer_tensors(model, optimizer))


def exists(folder: Path, which: str = "last") -> bool:
    return (folder / which).exists()


def load_state(folder: Path, which: str = "last") -> State:
    file = directory(folder, which) / "state.json"
    values = read_json(file)
    if not isinstance(values, dict) or values.pop("format_version", None) != FORMAT_VERSION:
        raise UserError(f"{file} was written by another version of muybridge")
    state: State = as_kind(State, values, str(file))
    counts = (
        state.step,
        state.metrics_bytes,
        state.correct,
        state.clips,
        state.stop_best_epoch,
        state.loss_scale_steps,
    )
    if min(counts) < 0 or (file.parent.name.startswith("step-") and f"step-{state.step:08d}" != file.parent.name):
        raise UserError(
            f"{file} does not say where training stood: step {state.step}, {min(counts)} of what is counted"
        )
    return state


def model_file(folder: Path, which: str = "last") -> Path:
    """The weights of a checkpoint. Raises UserError where there is none."""
    return directory(folder, which) / "model.safetensors"


def rewind(folder: Path, which: str) -> None:
    """Let `last` be another checkpoint: `best`, or the name of a step's directory. Raises UserError where there is none,
    or no whole one."""
    with offering_others(folder, which):
        name = directory(folder, which).name
        _check_whole(folder / name)
    write_atomic(within(folder, "last"), name)


@contextmanager
def offering_others(folder: Path, which: str = "last") -> Iterator[None]:
    """To what is wrong with a checkpoint, those that are whole are added."""
    try:
        yield
    except UserError as error:
        wrong = (folder / which).read_bytes().decode(errors="replace").strip() if (folder / which).is_file() else which
        others = [
            path.name for path in sorted(folder.glob("step-*"), reverse=True) if path.name != wrong and _is_whole(path)
        ]
        rest = (
            f"Whole: {', '.join(others)} (--resume RUN --checkpoint {others[0]})" if others else "It holds no whole one"
        )
        raise UserError(f"{str(error).rstrip('.')}. {rest}") from None


def _is_whole(path: Path) -> bool:
    try:
        _check_whole(path)
    except UserError:
        return False
    return True


def _check_whole(path: Path) -> None:
    """Raises UserError for a directory that lacks a file, or holds a part of one."""
    if not path.is_dir():
        raise UserError(f"{path.parent} holds no checkpoint '{path.name}'")
    read_json(path / "state.json")
    for name in {"model.safetensors", "optimizer.safetensors"} | {file.name for file in path.glob("*.safetensors")}:
        check_regular(path / name)
        try:
            with safetensors.safe_open(path / name, framework="pt"):  # compares the file's length with its header
                pass
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{path / name} cannot be read: {error}") from None
        check_hash(path / name)


def check_hash(file: Path) -> None:
    """Raises UserError where a checkpoint's file is not as it was written. (Those of earlier versions have no hash.)"""
    hashes = read_as(dict[str, str], file.parent / HASHES) if (file.parent / HASHES).exists() else {}
    if file.name in hashes and sha256_file(file) != hashes[file.name]:
        raise UserError(f"{file} is damaged: its bytes are not those that were written")


def load_model(folder: Path, model: VideoModel, which: str = "last", *, trained: bool = False) -> None:
    """Fill a model, with the preprocessing that its weights are for. `trained`: with the weights that training goes on
    with, of a run that scores their mean. Raises UserError where names or shapes do not agree."""
    file = model_file(folder, which)
    if trained:
        file = file.parent / "trained.safetensors"
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
    tensors = _tensors(directory(folder, which) / "optimizer.safetensors")
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, slot = key.rpartition("/")
        if name not in parameters:
            raise UserError(
                f"{directory(folder, which) / 'optimizer.safetensors'} does not fit the model: it has '{name}'"
            )
        parameter = parameters[name]
        if tensor.shape == parameter.shape:  # like the parameter, in its memory layout and on its device
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        optimizer.state[parameter][slot] = tensor


def _weights(model: nn.Module) -> bytes:
    return safetensors.torch.save({key: value.contiguous() for key, value in model.state_dict().items()}, tag_of(model))


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{slot}": value.contiguous()
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def directory(folder: Path, which: str = "last") -> Path:
    """Of a checkpoint: `last`, `best`, or a step's name. Raises UserError where there is no such pointer."""
    if STEP.fullmatch(which):
        return folder / which
    if which not in ("last", "best") or not (folder / which).is_file():
        raise UserError(f"{folder} holds no checkpoint '{which}'")
    return folder / pointed_by(folder / which)


def _pointed(folder: Path) -> set[str]:
    return {pointed_by(folder / which) for which in ("last", "best") if (folder / which).exists()}


def _tensors(file: Path) -> dict[str, Any]:
    check_regular(file)
    try:
        tensors: dict[str, Any] = safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    check_hash(file)
    return tensors
