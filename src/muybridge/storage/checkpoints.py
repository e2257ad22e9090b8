"""Checkpoints: a new directory, then an atomic pointer, so that a killed process leaves the last complete one.

    checkpoints/step-00000120/model.safetensors       weights and buffers that are scored
                              trained.safetensors     weights that are trained, where the scored ones are their average
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
    check_fences,
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
"""Pattern of the names of checkpoint directories."""


@dataclass
class State:
    """Progress of training, stored beside the weights."""

    step: int = 0
    """Number of steps done."""
    metrics_bytes: int = 0
    """Length of metrics.jsonl at this step."""
    best: float = -1.0
    """Best validation accuracy so far."""
    loss_sum: float = 0.0
    """Sum of the losses of the clips of the current epoch."""
    correct: int = 0
    """Correctly classified clips of the current epoch."""
    clips: int = 0
    """Clips of the current epoch that were trained on."""
    train_seconds: float = 0.0
    """Time spent on training steps, in seconds."""
    stop_best: float | None = None
    """Best value so far of the metric that may stop training."""
    stop_best_epoch: int = 0
    """Epoch of `stop_best`."""
    ended: str = ""
    """Reason why training ended; empty while it has not."""
    unvalidated: bool = False
    """True where the validation due at this step has not run yet."""
    loss_scale: float = 65536.0
    """Loss scale of fp16."""
    loss_scale_steps: int = 0
    """Steps without overflow since the loss scale last changed."""
    chosen: int = 0
    """Index of the copy that answers, where several are trained at once."""


HASHES = "sha256.json"
"""File in a checkpoint with the SHA-256 of each of its tensor files."""


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    *,
    scored: nn.Module | None = None,
    is_best: bool = False,
) -> None:
    """Write a checkpoint of `state.step`, point `last` (and `best`) at it, and remove those without a pointer.

    An existing checkpoint of the step gets the new state only: a step has one set of weights. `scored`: the averaged
    network, where that is scored instead of `model`.
    """
    check_fences()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{state.step:08d}"
    partial, final = within(folder, f".{name}.partial"), within(folder, name)
    for leftover in (partial, final):  # of a killed process: perhaps complete, but without a pointer
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
        except OSError:  # a full disk: the partial directory would keep it full
            shutil.rmtree(partial, ignore_errors=True)
            raise
        partial.rename(final)
        sync_folder(folder)
    if is_best:  # before `last`: a run resumed from this step takes its best as saved
        write_atomic(within(folder, "best"), name)
    if not is_new:  # after `best`, which the state takes as saved
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
    """True where the pointer `which` is there."""
    return (folder / which).exists()


def load_state(folder: Path, which: str = "last") -> State:
    """Load and check the state of a checkpoint. Raises UserError for another format or impossible values."""
    file = directory(folder, which) / "state.json"
    values = read_json(file)
    if not isinstance(values, dict) or values.pop("format_version", None) != FORMAT_VERSION:
        raise UserError(f"{file}: it was written by another version of muybridge. Use that version")
    state: State = as_kind(State, values, str(file))
    counts = (
        state.step,
        state.metrics_bytes,
        state.correct,
        state.clips,
        state.stop_best_epoch,
        state.loss_scale_steps,
        state.chosen,
    )
    if min(counts) < 0 or (file.parent.name.startswith("step-") and f"step-{state.step:08d}" != file.parent.name):
        raise UserError(
            f"{file}: it is damaged: step {state.step}, smallest count {min(counts)}. Resume from another checkpoint"
        )
    return state


def model_file(folder: Path, which: str = "last") -> Path:
    """Path of the weights of a checkpoint. Raises UserError where the pointer is missing."""
    return directory(folder, which) / "model.safetensors"


def rewind(folder: Path, which: str) -> None:
    """Point `last` at another checkpoint: `best`, or the name of a step's directory.

    Raises UserError where that is missing or incomplete.
    """
    with offering_others(folder, which):
        name = directory(folder, which).name
        _check_complete(folder / name)
    write_atomic(within(folder, "last"), name)


@contextmanager
def offering_others(folder: Path, which: str = "last") -> Iterator[None]:
    """Add the names of complete checkpoints to a UserError about a checkpoint."""
    try:
        yield
    except UserError as error:
        faulty = (folder / which).read_bytes().decode(errors="replace").strip() if (folder / which).is_file() else which
        others = [
            path.name
            for path in sorted(folder.glob("step-*"), reverse=True)
            if path.name != faulty and _is_complete(path)
        ]
        rest = (
            f"Use a complete one ({', '.join(others)}): --resume RUN --checkpoint {others[0]}"
            if others
            else "No complete checkpoint is left. Train again into another folder"
        )
        raise UserError(f"{str(error).rstrip('.')}. {rest}") from None


def _is_complete(path: Path) -> bool:
    try:
        _check_complete(path)
    except UserError:
        return False
    return True


def _check_complete(path: Path) -> None:
    """Check that a checkpoint has all its files, each whole. Raises UserError."""
    if not path.is_dir():
        raise UserError(f"{path.parent}: it holds no checkpoint '{path.name}'. Name another")
    read_json(path / "state.json")
    for name in {"model.safetensors", "optimizer.safetensors"} | {file.name for file in path.glob("*.safetensors")}:
        check_regular(path / name)
        try:
            with safetensors.safe_open(path / name, framework="pt"):  # compares the file's length with its header
                pass
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(
                f"{path / name}: it cannot be read: {error}. Restore it, or use another checkpoint"
            ) from None
        check_hash(path / name)


def check_hash(file: Path) -> None:
    """Check a file of a checkpoint against its stored hash, if there is one. Raises UserError."""
    hashes = read_as(dict[str, str], file.parent / HASHES) if (file.parent / HASHES).exists() else {}
    if file.name in hashes and sha256_file(file) != hashes[file.name]:
        raise UserError(
            f"{file}: it is damaged, as its bytes are not those that were written. Restore it, or use another "
            "checkpoint"
        )


def load_model(folder: Path, model: VideoModel, which: str = "last", *, trained: bool = False) -> None:
    """Load the weights of a checkpoint into a model, with their preprocessing.

    `trained`: the weights that are trained, in a run that scores their average. Raises UserError where names or shapes
    differ.
    """
    file = model_file(folder, which)
    if trained:
        file = file.parent / "trained.safetensors"
    tensors = _tensors(file)
    expected = model.state_dict()
    differing = [key for key in expected if key not in tensors or tensors[key].shape != expected[key].shape]
    differing += [key for key in tensors if key not in expected]
    if differing:
        raise UserError(
            f"{file}: it does not fit the model: {len(differing)} tensors differ, the first is '{differing[0]}'. Use "
            "a checkpoint of this model"
        )
    model.load_state_dict(tensors)
    with safetensors.safe_open(file, framework="pt") as opened:
        tag = read_tag(opened.metadata(), str(file))
    if tag.preprocessing is not None:
        model.preprocessing = tag.preprocessing
    if model.num_copies > 1:
        chosen = load_state(folder, which).chosen
        if chosen >= model.num_copies:
            raise UserError(f"{file.parent / 'state.json'}: it is damaged: chosen is {chosen}. Use another checkpoint")
        model.chosen = chosen


def load_optimizer(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, which: str = "last") -> None:
    """Load the tensors of a checkpoint into an optimizer, by parameter name. Raises UserError for an unknown name."""
    tensors = _tensors(directory(folder, which) / "optimizer.safetensors")
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, slot = key.rpartition("/")
        if name not in parameters:
            raise UserError(
                f"{directory(folder, which) / 'optimizer.safetensors'}: it does not fit the model: it has '{name}'. "
                "Use a checkpoint of this model"
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
    """Directory of a checkpoint: `last`, `best`, or a step's name. Raises UserError where the pointer is missing."""
    if STEP.fullmatch(which):
        return folder / which
    if which not in ("last", "best") or not (folder / which).is_file():
        raise UserError(f"{folder}: it holds no checkpoint '{which}'. Name another")
    return folder / pointed_by(folder / which)


def _pointed(folder: Path) -> set[str]:
    return {pointed_by(folder / which) for which in ("last", "best") if (folder / which).exists()}


def _tensors(file: Path) -> dict[str, Any]:
    check_regular(file)
    try:
        tensors: dict[str, Any] = safetensors.torch.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{file}: it cannot be read: {error}. Restore it, or use another checkpoint") from None
    check_hash(file)
    return tensors
