"""`load_weights`: public or own weights into a model, by names and shapes, with nothing lost in silence."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from muybridge.errors import UserError
from muybridge.models.contract import LibraryWeights, Preprocessing, VideoModel
from muybridge.models.weights import SOURCES
from muybridge.models.weights.download import download
from muybridge.models.weights.reading import read, state_of
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
        return "\n".join(lines)


def load_weights(
    model: VideoModel, source: str | Path | Mapping[str, Any], *, inflation: Inflation = "divide"
) -> Loaded:
    """Fill a model with weights that it, an image network or another code base was trained to.

    `source`: a name in `model.published` ("imagenet", "kinetics400"), a URL, a file (.safetensors, or PyTorch's, of which
    only tensors are read), or a state dict. `inflation` of 2D kernels: "divide" (Carreira and Zisserman 2017, section
    2.1: a still clip gives the picture's response) or "repeat" (the 2021 study).

    The classifier stays fresh where the number of classes differs, as do temporal modules where the weights have none at
    all. Raises UserError, and changes nothing, where anything else does not fit.
    """
    if inflation not in ("divide", "repeat"):
        raise UserError(f"There is no inflation '{inflation}'. Valid: divide, repeat.")
    state, preprocessing = _find(model, source)
    kind = _recognise(state, model)
    fitted, inflated, fresh, left_out = _match(kind, state, model, inflation)
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in fitted.items():
            own[name].copy_(tensor)
    model.preprocessing = preprocessing or kind.preprocessing or model.preprocessing
    published = model.published.get(source) if isinstance(source, str) else None
    whose = published.about if published else kind.name
    return Loaded(whose, len(fitted), len(inflated), inflation, tuple(fresh), tuple(left_out), model.preprocessing)


def _find(model: VideoModel, source: str | Path | Mapping[str, Any]) -> tuple[State, Preprocessing | None]:
    if isinstance(source, Mapping):
        return state_of(source, "The state dict"), None
    if isinstance(source, str):
        published = model.published.get(source)
        if isinstance(published, LibraryWeights):
            return state_of(published.fetch(), published.about), published.preprocessing
        if published is not None:
            state, _ = read(download(published.url, sha256=published.sha256))
            return state, published.preprocessing
        if "://" in source:
            return read(download(source))
        if not Path(source).exists():
            names = ", ".join(sorted(model.published)) or "none"
            raise UserError(
                f"There are no weights '{source}': it is no file, no URL, and not among those published for this model "
                f"({names})"
            )
    return read(Path(source))


def _recognise(state: State, model: VideoModel) -> Source:
    for kind in SOURCES:
        if kind.recognises(state, model):
            return kind
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
    if any(name not in fitted for name in classifier):  # all of it or none
        fitted = {name: tensor for name, tensor in fitted.items() if name not in classifier}
        fresh = [name for name in own if name in fresh or name in classifier]
        missing, misfits = ([name for name in names if name not in classifier] for names in (missing, misfits))
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
