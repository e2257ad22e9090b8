"""`load_weights`: public or own weights into a model, by names and shapes, with nothing lost in silence."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from muybridge.errors import UserError
from muybridge.models.contract import LibraryWeights, Preprocessing, VideoModel
from muybridge.models.weights import SOURCES
from muybridge.models.weights.download import digest_in, download
from muybridge.models.weights.reading import Read, read, state_of
from muybridge.models.weights.source import Source, State

Inflation = Literal["divide", "repeat"]


@dataclass(frozen=True)
class Loaded:
    """What became of a file of weights. `print` it."""

    source: str
    """Whose weights they are."""
    matched: int
    """Tensors that were loaded."""
    inflated: int
    """Those of them that were 2D and became 3D."""
    inflation: Inflation
    fresh: tuple[str, ...]
    """The model's parameters and statistics that stayed as they were: a classifier for other classes, temporal modules
    that image weights know nothing of."""
    left_out: tuple[str, ...]
    """The file's tensors that have no place in the model, and need none."""
    preprocessing: Preprocessing
    """The model's from now on."""

    def __str__(self) -> str:
        how = "repeated along time" if self.inflation == "repeat" else "repeated along time and divided by its length"
        lines = [f"{self.source}: {self.matched} tensors" + (f", {self.inflated} {how}" if self.inflated else "")]
        lines += [f"fresh: {_listed(self.fresh)}"] if self.fresh else []
        lines += [f"left out: {_listed(self.left_out)}"] if self.left_out else []
        mean, std = (
            ", ".join(f"{value:g}" for value in values) for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        lines += [f"input: mean {mean}; standard deviation {std}"]
        return "\n".join(lines)


def load_weights(
    model: VideoModel, source: str | Path | Mapping[str, Any], *, inflation: Inflation = "divide"
) -> Loaded:
    """Fill a model with weights that it, an image network or another code base was trained to.

    `source`: a name in `model.published` ("imagenet", "kinetics400"), a URL, a file (.safetensors, or PyTorch's, of which
    only tensors are read), or a state dict. `inflation` of 2D kernels: "divide" (Carreira and Zisserman 2017, section
    2.1: a still clip gives the picture's response) or "repeat" (the 2021 study).

    The classifier stays fresh where the weights have none, or one for another number of classes, as do temporal modules
    where the weights have none at all. Raises UserError, and changes nothing, where anything else does not fit.
    """
    if inflation not in ("divide", "repeat"):
        raise UserError(f"There is no inflation '{inflation}'. Valid: divide, repeat.")
    if not isinstance(source, str | Path | Mapping):
        raise UserError(f"Weights come from a name, a path, a URL or a state dict, not from a {type(source).__name__}")
    state, preprocessing, writer = _find(model, source)
    strange = [name for name, tensor in state.items() if not (tensor.is_floating_point() or _is_counter(name))]
    sparse = [name for name, tensor in state.items() if tensor.layout != torch.strided]
    if sparse:
        raise UserError(f"'{sparse[0]}' is a sparse tensor; weights are dense")
    if strange:
        raise UserError(f"'{strange[0]}' is of type {str(state[strange[0]].dtype).removeprefix('torch.')}: no weight")
    kind = _recognise(state, model, writer)
    fitted, inflated, fresh, left_out = _match(kind, state, model, inflation)
    own = model.state_dict()
    empty = [name for name, tensor in fitted.items() if tensor.is_meta and not own[name].is_meta]
    if empty:
        raise UserError(f"'{empty[0]}' has a shape, but no values (it is on the meta device)")
    with torch.no_grad():
        for name, tensor in fitted.items():
            own[name].copy_(tensor)
    model.preprocessing = preprocessing or kind.preprocessing or model.preprocessing
    published = model.published.get(source) if isinstance(source, str) else None
    whose = published.about if published else f"{kind.name}'s {writer}" if writer else kind.name
    return Loaded(whose, len(fitted), len(inflated), inflation, tuple(fresh), tuple(left_out), model.preprocessing)


def _find(model: VideoModel, source: str | Path | Mapping[str, Any]) -> Read:
    if isinstance(source, Mapping):
        return Read(state_of(source, "The state dict"))
    if isinstance(source, str):
        published = model.published.get(source)
        if isinstance(published, LibraryWeights):
            return Read(state_of(published.fetch(), published.about), published.preprocessing)
        if published is not None:
            return _downloaded(published.url, published.sha256)._replace(preprocessing=published.preprocessing)
        if "://" in source:
            return _downloaded(source)
        if not source or not Path(source).expanduser().exists():
            names = ", ".join(sorted(model.published)) or "none"
            raise UserError(
                f"There are no weights '{source}': it is no file, no URL, and not among those published for this model "
                f"({names})"
            )
    return read(Path(source).expanduser())


def _downloaded(url: str, sha256: str = "") -> Read:
    file = download(url, sha256=sha256)
    try:
        return read(file)
    except UserError as error:
        if sha256 or digest_in(url):
            raise
        file.unlink(missing_ok=True)  # nothing told that it is whole: the next call fetches it again
        raise UserError(f"{url} gave no weights ({error}). The file was removed") from None


def _recognise(state: State, model: VideoModel, writer: str) -> Source:
    for kind in SOURCES:
        if kind.recognises(state, model):
            return kind
    if writer:
        raise UserError(
            f"These weights were written by muybridge's {writer}, perhaps with other options; their names are others than "
            f"those of {model.name or type(model).__name__}: {_listed(list(state))}"
        )
    raise UserError(
        f"Nobody's weights that are known here have such names: {_listed(list(state))}. Known: "
        + "; ".join(kind.name for kind in SOURCES)
    )


def _match(
    kind: Source, state: State, model: VideoModel, inflation: Inflation
) -> tuple[State, list[str], list[str], list[str]]:
    """Tensors of the model's shapes by the model's names; the names of those that were inflated, of what stays fresh in
    the model, and of what is left out of the file. Raises UserError."""
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    given = kind.convert(state, model)
    given = {name: tensor for name, tensor in given.items() if name in own or not _is_counter(name)}
    left_out = [name for name in given if name not in own and name.startswith(kind.leaves_out)]
    homeless = [name for name in given if name not in own and name not in left_out]
    fitted: State = {}
    inflated, misfits = [], []
    for name, tensor in given.items():
        if name in own:
            fitting = _reshaped(tensor, own[name])
            if fitting is None and _is_2d_of(tensor, own[name]):
                fitting = inflate(tensor, own[name][2], inflation)
                inflated.append(name)
            if fitting is None:
                misfits.append(name)
            else:
                fitted[name] = fitting
    fresh = [name for name in own if name not in given and not _is_counter(name)]
    missing = fresh if any(map(_is_temporal, given)) else [name for name in fresh if not _is_temporal(name)]
    classifier = model.classifier_names()
    if _is_for_other_classes([given.get(name) for name in classifier], [own[name] for name in classifier]):
        left_out += [name for name in classifier if name in given]
        fitted = {name: tensor for name, tensor in fitted.items() if name not in classifier}
        fresh = [name for name in own if name in fresh or name in classifier]
        missing, misfits = ([name for name in names if name not in classifier] for names in (missing, misfits))
    new = model.fresh_names()
    if not any(name in given for name in new):
        missing = [name for name in missing if name not in new]
    if homeless or misfits or missing:
        shapes = [f"{name}: {tuple(given[name].shape)} for {tuple(own[name])}" for name in misfits]
        faults = [
            f"{len(names)} {what}: {_listed(names, count=False)}"
            for names, what in (
                (shapes, "of the wrong shape"), (homeless, "without a place in the model"),
                (missing, "of the model's without a weight"),
            )
            if names
        ]  # fmt: skip
        raise UserError(f"These weights ({kind.name}) do not fit the model. " + ". ".join(faults))
    return fitted, inflated, fresh, left_out


def _is_for_other_classes(given: list[torch.Tensor | None], own: list[torch.Size]) -> bool:
    """A classifier that is not there at all, or whole and only of another number of classes."""
    if all(tensor is None for tensor in given):
        return True
    sizes = {tensor.shape[0] for tensor in given if tensor is not None and tensor.dim()}
    return len(sizes) == 1 and all(
        tensor is not None and tensor.dim() and tensor.shape[0] != shape[0] and tensor.shape[1:] == shape[1:]
        for tensor, shape in zip(given, own, strict=True)
    )


def inflate(weight_OIHW: torch.Tensor, frames: int, how: Inflation) -> torch.Tensor:
    """A 2D kernel as a 3D one of so many frames."""
    weight_OITHW = weight_OIHW[:, :, None].expand(-1, -1, frames, -1, -1)
    return weight_OITHW / frames if how == "divide" else weight_OITHW


def _is_2d_of(tensor: torch.Tensor, shape: torch.Size) -> bool:
    return tensor.dim() == 4 and len(shape) == 5 and tensor.shape == (*shape[:2], *shape[3:])


def _reshaped(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """The same but for sides of 1: a 1x1x1 kernel for a 1x1 one, 1xkxk for kxk, kx1x1 for kx1."""
    long = [[side for side in sides[1:] if side != 1] for sides in (tensor.shape, shape)]
    return tensor.reshape(shape) if tensor.shape[:1] == shape[:1] and long[0] == long[1] else None


def _is_counter(name: str) -> bool:
    """How many batches a norm has seen: counted, and never used here."""
    return name.endswith("num_batches_tracked")


def _is_temporal(name: str) -> bool:
    """Is it of a module that `put` has put before or after another?"""
    return any(part.endswith(("before", "after")) for part in name.split("."))


def _listed(names: list[str] | tuple[str, ...], *, count: bool = True) -> str:
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"{len(names)} ({shown})" if count else shown
