"""`load_weights`: public weights or the user's into a model, by names and shapes; nothing is lost silently."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from muybridge.errors import UserError
from muybridge.zoo.base import LibraryWeights, Preprocessing, VideoModel
from muybridge.zoo.weights import SOURCES, muybridge
from muybridge.zoo.weights.download import digest_in, download
from muybridge.zoo.weights.reading import Read, read, state_of
from muybridge.zoo.weights.source import Source, State

Inflation = Literal["divide", "repeat"]
Part = Literal["whole", "agreeing"]
COLOURS = 3
"""Channels of pictures."""


@dataclass(frozen=True)
class Loaded:
    """Report of `load_weights`; `print` it."""

    source: str
    """The weights' authors or code base."""
    taken: tuple[str, ...]
    """The model's tensors that were filled."""
    inflated: int
    """Number of those that were 2D and became 3D."""
    inflation: Inflation
    fresh: tuple[str, ...]
    """The model's parameters and statistics that stayed as they were.

    A classifier for other classes, temporal modules that image weights do not have, and those that do not match.
    """
    left_out: tuple[str, ...]
    """The file's tensors that were not taken."""
    other_shapes: Mapping[str, str]
    """Names that both have with different shapes, and the two shapes."""
    preprocessing: Preprocessing
    """The model's from now on."""
    crossed: Mapping[str, int] = field(default_factory=dict)
    """First layers that were averaged over red, green and blue and repeated, and for how many channels."""
    classes: tuple[str, ...] = ()
    """Names of the classes that the weights are for, in the order of their classifier; empty: not known."""

    @property
    def matched(self) -> int:
        """Number of tensors that were loaded."""
        return len(self.taken)

    def why(self, name: str) -> str:
        """The reason why a name of `fresh` or `left_out` was not loaded."""
        if name in self.other_shapes:
            return f"other shape: {self.other_shapes[name]}"
        if name in self.fresh and name in self.left_out:
            return "of a classifier for other classes or features"
        return "no such name among the weights" if name in self.fresh else "no such name in the model"

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values, each name that was not loaded with its reason."""
        return {
            "source": self.source,
            "taken": list(self.taken),
            "inflated": self.inflated,
            "crossed": dict(self.crossed),
            "fresh": {name: self.why(name) for name in self.fresh},
            "left_out": {name: self.why(name) for name in self.left_out},
        }

    def __str__(self) -> str:
        how = "repeated along time" if self.inflation == "repeat" else "repeated along time and divided by its length"
        lines = [f"{self.source}: {self.matched} tensors" + (f", {self.inflated} {how}" if self.inflated else "")]
        lines += [
            f"{name}: averaged over red, green and blue, and repeated for {channels} channels"
            for name, channels in self.crossed.items()
        ]
        lines += [f"fresh: {_listed(self.fresh)}"] if self.fresh else []
        lines += [f"left out: {_listed(self.left_out)}"] if self.left_out else []
        shapes = [f"{name}: {shapes}" for name, shapes in self.other_shapes.items()]
        lines += [f"both, for their shape: {_listed(shapes)}"] if shapes else []
        mean, std = (
            ", ".join(f"{value:g}" for value in values) for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        lines += [f"input: mean {mean}; standard deviation {std}"]
        return "\n".join(lines)


def load_weights(
    model: VideoModel,
    source: str | Path | Mapping[str, Any],
    *,
    part: Part = "whole",
    inflation: Inflation = "divide",
    other_classes: bool = False,
    own_classifier: bool = False,
) -> Loaded:
    """Fill a model with weights of its own, of another network or of another code base.

    `source`: a name in `model.published` ("imagenet", "kinetics400"), a URL, a file (.safetensors, or PyTorch's, of which
    only tensors are read), or a state dict. `inflation` of 2D kernels: "divide" (Carreira and Zisserman 2017, section
    2.1: a still clip gives the image's response) or "repeat" (the 2021 study). A first layer of pictures is averaged over
    red, green and blue and repeated for a model of other channels, and not scaled (cross-modality initialisation, Wang et
    al. 2016, section 3.2); the model's mean is then .5, and its deviation the mean of those of the colours.

    The classifier stays fresh where the weights have none, or one for another number of classes, where they are known
    to be for `other_classes`, and where all of the model's `fresh_names` stay fresh, of which its features are made.
    With `own_classifier` the model takes that of the weights, for as many classes as it has; weights without one are an
    error. With the `part` "whole", only temporal modules may stay fresh beside it, where the weights have none at all, and
    anything else that does not fit is an error. With "agreeing", all tensors that match in name and shape are taken, 2D
    for 3D too, and the rest stays fresh; no match at all is an error. (An image network's names are those of the
    model's `image_network`, such as SlowFast's slow pathway.) The model's preprocessing becomes that of the weights.
    Raises UserError, and changes nothing then.
    """
    if inflation not in ("divide", "repeat"):
        raise UserError(f"inflation: '{inflation}' is unknown. Choose divide or repeat")
    if part not in ("whole", "agreeing"):
        raise UserError(f"part: '{part}' of weights is unknown. Choose whole or agreeing")
    if not isinstance(source, str | Path | Mapping):
        raise UserError(
            f"weights: they cannot come from a {type(source).__name__}. Give a name, a path, a URL or a state dict"
        )
    state, preprocessing, writer, classes = _find(model, source, whole=part == "whole")
    strange = [name for name, tensor in state.items() if not (tensor.is_floating_point() or _is_counter(name))]
    sparse = [name for name, tensor in state.items() if tensor.layout != torch.strided]
    if sparse:
        raise UserError(f"'{sparse[0]}': it is a sparse tensor. Make all weights dense")
    if strange:
        raise UserError(
            f"'{strange[0]}': it is of type {str(state[strange[0]].dtype).removeprefix('torch.')}, which no weight "
            "has. Remove it, or convert it"
        )
    kind = _recognise(state, model, writer, part)
    if part == "whole":
        kind.check(state, model)
    given = kind.convert(state, model)
    if own_classifier:
        weight = given.get(model.classifier_names()[0])
        if weight is None or not weight.dim():
            raise UserError(
                f"weights ({kind.name}): they have no classifier, so they know no classes. Train one: muybridge train "
                f"--model {model.name} --pretrained {source if isinstance(source, str | Path) else 'WEIGHTS'}"
            )
        model.reset_classifier(len(weight))
    if part == "agreeing":
        given = {_at_home(name, model): tensor for name, tensor in given.items()}
    ours = model.state_dict()
    given = {name: tensor for name, tensor in given.items() if name in ours or not _is_counter(name)}
    shapes_of = {name: tensor.shape for name, tensor in ours.items()}
    fit = _fit(given, shapes_of, inflation, _channels(model))
    classifier = model.classifier_names()
    new = model.fresh_names()
    if new and not any(name in given for name in new):
        other_classes = True  # it looks at what these make
    if part == "whole":
        other_classes = other_classes or _is_for_other_classes(classifier, given, ours)
        _check_whole(kind, model, given, fit, other_classes)
    elif not all(name in fit.tensors for name in classifier):
        other_classes = True  # a bias without its weight would be one of nothing
    fitted = {name: t for name, t in fit.tensors.items() if not (other_classes and name in classifier)}
    if not any(not _is_counter(name) for name in fitted):
        shapes = [f"{name}: {shapes}" for name, shapes in fit.other_shapes.items()]
        raise UserError(
            f"weights ({kind.name}): nothing of them agrees with {model.name or type(model).__name__} in name and shape "
            f"(theirs: {_listed(list(given))}"
            + (f"; of other shapes: {_listed(shapes)}" if shapes else "")
            + "). Choose others"
        )
    empty = [name for name, tensor in fitted.items() if tensor.is_meta and not ours[name].is_meta]
    if empty:
        raise UserError(
            f"'{empty[0]}': it has a shape, but no values (it is on the meta device). Load its values first"
        )
    with torch.no_grad():
        for name, tensor in fitted.items():
            ours[name].copy_(tensor)
    theirs = preprocessing or kind.preprocessing or model.preprocessing
    crossed = {name: shapes_of[name][1] for name in fit.crossed if name in fitted}
    if crossed:
        count = len(model.preprocessing.mean)
        theirs = Preprocessing((0.5,) * count, (sum(theirs.std) / len(theirs.std),) * count)
    if len(theirs.mean) == len(model.preprocessing.mean):  # else the first layer, for other channels, stayed fresh
        model.preprocessing = theirs
    published = model.published.get(source) if isinstance(source, str) else None
    return Loaded(
        source=published.about if published else f"{kind.name}'s {writer}" if writer else kind.name,
        taken=tuple(fitted),
        inflated=sum(name in fit.inflated for name in fitted),
        inflation=inflation,
        fresh=tuple(name for name in ours if name not in fitted and not _is_counter(name)),
        left_out=tuple(name for name in given if name not in fitted and not _is_counter(name)),
        other_shapes=fit.other_shapes,
        preprocessing=model.preprocessing,
        crossed=crossed,
        classes=classes,
    )


def _find(model: VideoModel, source: str | Path | Mapping[str, Any], *, whole: bool) -> Read:
    if isinstance(source, Mapping):
        return Read(state_of(source, "The state dict"))
    if isinstance(source, str):
        published = model.published.get(source)
        if isinstance(published, LibraryWeights):
            state = state_of(published.fetch(whole), published.about)
            return Read(state, published.preprocessing, classes=published.classes)
        if published is not None:
            return _downloaded(published.url, published.sha256)._replace(
                preprocessing=published.preprocessing, classes=published.classes
            )
        if "://" in source:
            return _downloaded(source)
        if not source or not Path(source).expanduser().exists():
            names = ", ".join(sorted(model.published)) or "none"
            raise UserError(
                f"weights '{source}': not a file, not a URL, and not among those published for this model ({names}). "
                "Name others, or where they lie now, by --pretrained or --init (in a recipe: model.pretrained). To "
                "start from scratch: --pretrained none"
            )
    return read(Path(source).expanduser())


def _downloaded(url: str, sha256: str = "") -> Read:
    file = download(url, sha256=sha256)
    try:
        return read(file)
    except UserError as error:
        if sha256 or digest_in(url):
            raise
        file.unlink(missing_ok=True)  # without a digest it may be cut: the next call fetches it again
        raise UserError(f"{url}: it gave no weights ({error}), and the file was removed. Check the address") from None


def _recognise(state: State, model: VideoModel, writer: str, part: Part) -> Source:
    if writer and part == "agreeing":  # whatever the model: ours have the same names in all networks
        return muybridge.SOURCE
    for kind in SOURCES:
        if kind.recognises(state, model):
            return kind
    if part == "agreeing":
        return muybridge.AS_THEY_ARE
    if writer:
        raise UserError(
            f"weights: muybridge's {writer} wrote them, perhaps with other options, and their names are others than "
            f"those of {model.name or type(model).__name__}: {_listed(list(state))}. Take what agrees: --init "
            "(model.strict=false)"
        )
    raise UserError(
        f"weights: no supported code base has such names: {_listed(list(state))}. Choose weights of a supported one: "
        f"{'; '.join(kind.name for kind in SOURCES)}"
    )


def _at_home(name: str, model: VideoModel) -> str:
    """The name in the model of an image network's tensor."""
    return f"{model.image_network}.{name.removeprefix('backbone.')}" if name.startswith("backbone.") else name


class _Fit(NamedTuple):
    """Tensors that match the model's, and those that do not."""

    tensors: State
    """Tensors in the model's shapes, by its names."""
    inflated: set[str]
    other_shapes: dict[str, str]
    """Names that both have, with the two shapes."""
    crossed: set[str]
    """First layers of pictures that were made ones of other channels."""


def _channels(model: VideoModel) -> int | None:
    """Channels of a model of clips that are not red, green and blue; None for other models."""
    return model.in_channels if model.input_kind == "clip" and model.in_channels != COLOURS else None


def _fit(given: State, shapes: Mapping[str, torch.Size], inflation: Inflation, channels: int | None) -> _Fit:
    tensors: State = {}
    inflated: set[str] = set()
    crossed: set[str] = set()
    other_shapes: dict[str, str] = {}
    for name, tensor in given.items():
        if name not in shapes:
            continue
        if channels is not None and _is_first_layer(tensor, shapes[name], channels):
            tensor = tensor.mean(1, keepdim=True).expand(-1, channels, *tensor.shape[2:])
            crossed.add(name)
        fitting = _reshaped(tensor, shapes[name])
        if fitting is None and _is_2d_of(tensor, shapes[name]):
            fitting = inflate(tensor, shapes[name][2], inflation)
            inflated.add(name)
        if fitting is None:
            other_shapes[name] = f"{tuple(tensor.shape)} for {tuple(shapes[name])}"
        else:
            tensors[name] = fitting
    return _Fit(tensors, inflated, other_shapes, crossed)


def _check_whole(kind: Source, model: VideoModel, given: State, fit: _Fit, other_classes: bool) -> None:
    """Raise UserError for a tensor without a place, or a place without a tensor, that must have one."""
    names = model.state_dict()
    homeless = [name for name in given if name not in names and not name.startswith(kind.leaves_out)]
    missing = [name for name in names if name not in given and not _is_counter(name)]
    if not any(map(_is_temporal, given)):
        missing = [name for name in missing if not _is_temporal(name)]
    new = model.fresh_names()
    if not any(name in given for name in new):
        missing = [name for name in missing if name not in new]
    excused = model.classifier_names() if other_classes else ()
    missing = [name for name in missing if name not in excused]
    shapes = [f"{name}: {shapes}" for name, shapes in fit.other_shapes.items() if name not in excused]
    faults = [
        f"{len(names)} {what}: {_listed(names, count=False)}"
        for names, what in (
            (shapes, "of the wrong shape"), (homeless, "without a place in the model"),
            (missing, "of the model's without a weight"),
        )
        if names
    ]  # fmt: skip
    if faults:
        raise UserError(
            f"weights ({kind.name}): they do not fit the model: {'; '.join(faults)}. Choose others, or take what "
            "agrees: --init"
        )


def _is_for_other_classes(classifier: tuple[str, ...], given: State, ours: Mapping[str, torch.Tensor]) -> bool:
    """Is the classifier missing altogether, or whole and only for another number of classes?"""
    theirs = [given.get(name) for name in classifier]
    if all(tensor is None for tensor in theirs):
        return True
    sizes = {tensor.shape[0] for tensor in theirs if tensor is not None and tensor.dim()}
    return len(sizes) == 1 and all(
        tensor is not None and tensor.dim() and tensor.shape[0] != ours[name].shape[0]
        and tensor.shape[1:] == ours[name].shape[1:]
        for name, tensor in zip(classifier, theirs, strict=True)
    )  # fmt: skip


def inflate(weight_OIHW: torch.Tensor, frames: int, how: Inflation) -> torch.Tensor:
    """Make a 3D kernel of `frames` frames from a 2D one."""
    weight_OITHW = weight_OIHW[:, :, None].expand(-1, -1, frames, -1, -1)
    return weight_OITHW / frames if how == "divide" else weight_OITHW


def _is_first_layer(tensor: torch.Tensor, shape: torch.Size, channels: int) -> bool:
    """Is it a convolution of red, green and blue, where the model has one of `channels`?"""
    sides = (tensor.shape[2:], shape[2:])
    return (
        tensor.dim() in (4, 5) and tensor.shape[:2] == (shape[0], COLOURS) and len(shape) > 3 and shape[1] == channels
        and (sides[0] == sides[1] or sides[0] == sides[1][1:])
    )  # fmt: skip


def _is_2d_of(tensor: torch.Tensor, shape: torch.Size) -> bool:
    return tensor.dim() == 4 and len(shape) == 5 and tensor.shape == (*shape[:2], *shape[3:])


def _reshaped(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """A tensor that differs in sides of 1 only: a 1x1x1 kernel for a 1x1 one, 1xkxk for kxk, kx1x1 for kx1."""
    long = [[side for side in sides[1:] if side != 1] for sides in (tensor.shape, shape)]
    return tensor.reshape(shape) if tensor.shape[:1] == shape[:1] and long[0] == long[1] else None


def _is_counter(name: str) -> bool:
    """Is it the number of batches that a norm has seen, which is never used here?"""
    return name.endswith("num_batches_tracked")


def _is_temporal(name: str) -> bool:
    """Is it of a module that `put` has put before or after another?"""
    return any(part.endswith(("before", "after")) for part in name.split("."))


def _listed(names: list[str] | tuple[str, ...], *, count: bool = True) -> str:
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"{len(names)} ({shown})" if count else shown
