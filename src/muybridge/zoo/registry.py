"""The registry of models: names, the functions that build them, and the papers they come from."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from muybridge.errors import UserError, nearest
from muybridge.user_code import allow, function, parsed
from muybridge.zoo import user_network
from muybridge.zoo.base import Preprocessing, VideoModel

Builder = Callable[..., VideoModel]


@dataclass(frozen=True)
class Entry:
    """A registered model."""

    name: str
    family: str
    paper: str
    build: Builder
    """build(*, num_classes, num_frames, temporal_pooling, dropout, in_channels, **options)."""
    takes: Callable[..., Any]
    """The function whose keyword arguments, beyond the common ones, are the options: `build`, or one that it calls."""
    min_frames: int = 1
    """The shortest clip."""
    min_size: int = 32
    """The smallest height and width."""
    in_channels: int = 3
    """Channels of the clips, or values of the vectors, that it is built for where nobody says how many."""

    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond the common ones, with their defaults."""
        return _options(self.takes)


_ENTRIES: dict[str, Entry] = {}
_METHODS: dict[str, tuple[Builder, Callable[..., Any]]] = {}
_REQUIRED = ("num_classes", "num_frames", "temporal_pooling", "dropout")
"""Keyword arguments that every function of a user's takes."""
COMMON = (*_REQUIRED, "in_channels")
"""Keyword arguments that every registered builder takes; options have other names."""


def register(
    name: str,
    *,
    family: str,
    paper: str,
    build: Builder,
    takes: Callable[..., Any] | None = None,
    min_frames: int = 1,
    min_size: int = 32,
    in_channels: int = 3,
) -> None:
    """Add a model. Raises ValueError for a name that is taken."""
    if name in _ENTRIES:
        raise ValueError(f"model '{name}' is registered twice")
    _ENTRIES[name] = Entry(name, family, paper, build, takes or build, min_frames, min_size, in_channels)


def register_method(name: str, *, build: Builder, takes: Callable[..., Any]) -> None:
    """Add a method for names `NAME@IMAGE_NETWORK`; `build` gets the image network's name as `backbone`."""
    _METHODS[name] = (build, takes)


def entries() -> list[Entry]:
    """All registered models, by name."""
    return [_ENTRIES[name] for name in sorted(_ENTRIES)]


def entry(name: str) -> Entry:
    """A registered model. Raises UserError with the nearest names."""
    if name not in _ENTRIES:
        raise UserError(f"model '{name}': no such model. {nearest(name, _ENTRIES)} List all: muybridge models")
    return _ENTRIES[name]


def builds_on_meta(name: str) -> bool:
    """Can the model be built without values? A function of the user's may compute some."""
    parts = parsed(name)
    return parts.code is None and not parts.method


def create(
    name: str,
    *,
    num_classes: int,
    num_frames: int = 8,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int | None = None,
    **options: Any,
) -> VideoModel:
    """Build a model with fresh weights for clips of `num_frames` frames and `in_channels` channels.

    Of a model of vectors, `in_channels` are their values. None: three channels, or 1,024 values.
    `name` is a registered one; `METHOD@module:function` or `METHOD@timm:NAME`, a method over an image network that is
    brought along; `hf:NAME`, a video classifier of the Hugging Face hub; or the user's own `module:function`, called with
    the same arguments (`in_channels` only where it takes that).

    A call with a name that means code lets that code run. Raises UserError for an unknown name or option, and for a clip
    that the model does not take.
    """
    allow(name)
    model = assemble(
        name,
        num_classes=num_classes,
        num_frames=num_frames,
        temporal_pooling=temporal_pooling,
        dropout=dropout,
        in_channels=in_channels,
        **options,
    )
    model.check_frames(num_frames)
    return model


def assemble(
    name: str,
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int | None = None,
    **options: Any,
) -> VideoModel:
    """Build a model as `create` does, without checking `num_frames`.

    Code that the name means must have been allowed before (`muybridge.user_code`).
    """
    build, takes = _builder(name)
    if in_channels is None:
        in_channels = _ENTRIES[name].in_channels if name in _ENTRIES else 3
    valid = _options(takes)
    unknown = [option for option in options if option not in valid]
    if unknown:
        raise UserError(
            f"Model '{name}': it has no option '{unknown[0]}'. "
            f"{nearest(unknown[0], valid) if valid else 'Leave it out'}"
        )
    for option, value in options.items():
        _check_option(name, option, value, valid[option])
    if num_classes < 1 or not 0 <= dropout < 1 or in_channels < 1:
        raise UserError(
            f"Model '{name}': num_classes, in_channels or dropout is out of range ({num_classes}, {in_channels}, "
            f"{dropout}). Give at least 1 for the first two, and a dropout from 0 to below 1"
        )
    model = build(
        num_classes=num_classes, num_frames=num_frames, temporal_pooling=temporal_pooling, dropout=dropout,
        in_channels=in_channels, **options,
    )  # fmt: skip
    if not isinstance(model, VideoModel):
        raise UserError(
            f"'{name}': it returned a {type(model).__name__}. Return a subclass of muybridge.zoo.VideoModel"
        )
    model.name = name
    if model.in_channels != in_channels:
        raise UserError(
            f"Model '{name}': it takes {model.in_channels} channels, but a clip has {in_channels} here. "
            f"{_channels_advice(name)}"
        )
    if model.input_kind == "clip" and len(model.preprocessing.mean) != in_channels:
        model.preprocessing = Preprocessing((0.5,) * in_channels, (0.5,) * in_channels)
    return model


def user_builder(name: str, **arguments: Any) -> Callable[[], Any] | None:
    """A call of the user's function that a model's name means; None where the name means no code.

    The function gets the arguments of `create`; one that makes an image network gets none.
    """
    parts = parsed(name)
    if parts.code is None:
        return None
    return partial(user_network.network, parts.code) if parts.method else partial(_user_model, parts.code, **arguments)


def _user_model(code: str, *, in_channels: int, **arguments: Any) -> Any:
    if _takes(function(code), "in_channels"):
        arguments["in_channels"] = in_channels
    return user_network.network(code, **arguments)


def _takes(user_function: Callable[..., Any], argument: str) -> bool:
    """Does a function take an argument of this name, or of any?"""
    parameters = inspect.signature(user_function).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _channels_advice(name: str) -> str:
    """A sentence on how the user's function makes a model for clips of other channels."""
    parts = parsed(name)
    if parts.code is None or parts.method:
        return "Choose another clip.modality or model"
    if not _takes(function(parts.code), "in_channels"):
        return "The function takes no in_channels. Add that argument"
    return "The function takes in_channels. Hand it on to VideoModel.__init__, or set the model's"


def _builder(name: str) -> tuple[Builder, Callable[..., Any]]:
    """The function that builds a model of this name, and the one whose keyword arguments are its options."""
    parts = parsed(name)
    if parts.method:
        if parts.method not in _METHODS:
            raise UserError(f"'{name}': the method '{parts.method}' is unknown. {nearest(parts.method, _METHODS)}")
        if not parts.library and parts.code is None:
            whole = f"{parts.method}_{parts.network}"
            ours = f", or {whole}" if whole in _ENTRIES else ""
            raise UserError(
                f"'{name}': no image network stands behind the @. Write METHOD@module:function or "
                f"METHOD@timm:NAME{ours}"
            )
        build, takes = _METHODS[parts.method]
        return partial(build, backbone=name.partition("@")[2]), takes
    if parts.library == "hf":
        from muybridge.zoo.networks import hub

        return partial(hub.build, name=parts.network), hub.build
    if parts.code is not None:
        user_function = function(parts.code)
        if not all(_takes(user_function, argument) for argument in _REQUIRED):
            raise UserError(
                f"Model '{name}': the function lacks arguments. Make it take the keyword arguments "
                f"{', '.join(_REQUIRED)}"
            )
        return partial(_user_model, parts.code), user_function
    registered = entry(name)
    return registered.build, registered.takes


def _check_option(name: str, option: str, value: Any, default: Any) -> None:
    """Raises UserError for a value of another type than the default's."""
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
    fits = kinds.get(type(default), (object,))
    if not isinstance(value, fits) or (isinstance(value, bool) and bool not in fits and object not in fits):
        raise UserError(
            f"Model '{name}': option {option} is {value!r}, not a {type(default).__name__}. Give one like {default!r}"
        )


def _options(takes: Callable[..., Any]) -> dict[str, Any]:
    bound = getattr(takes, "keywords", {})  # what a partial has fixed is not an option
    return {
        p.name: p.default
        for p in inspect.signature(takes).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty and p.name not in COMMON and p.name not in bound
    }
