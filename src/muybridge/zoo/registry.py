"""One registry: a name, what builds it, where it comes from."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from muybridge.errors import UserError, nearest
from muybridge.user_code import allow, function, parsed
from muybridge.zoo import user_network
from muybridge.zoo.base import VideoModel

Builder = Callable[..., VideoModel]


@dataclass(frozen=True)
class Entry:
    """A registered model."""

    name: str
    family: str
    paper: str
    build: Builder
    """build(*, num_classes, num_frames, temporal_pooling, dropout, **options)."""
    takes: Callable[..., Any]
    """The function whose keyword arguments, beyond the common ones, are the options: `build`, or one that it hands them
    to."""
    min_frames: int = 1
    """The shortest clip."""
    min_size: int = 32
    """The smallest picture."""

    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond the common ones, with their defaults."""
        return _options(self.takes)


_ENTRIES: dict[str, Entry] = {}
_METHODS: dict[str, tuple[Builder, Callable[..., Any]]] = {}
_COMMON = ("num_classes", "num_frames", "temporal_pooling", "dropout")


def register(
    name: str,
    *,
    family: str,
    paper: str,
    build: Builder,
    takes: Callable[..., Any] | None = None,
    min_frames: int = 1,
    min_size: int = 32,
) -> None:
    """Raises ValueError for a name that is taken."""
    if name in _ENTRIES:
        raise ValueError(f"model '{name}' is registered twice")
    _ENTRIES[name] = Entry(name, family, paper, build, takes or build, min_frames, min_size)


def register_method(name: str, *, build: Builder, takes: Callable[..., Any]) -> None:
    """What `NAME@IMAGE_NETWORK` means; `build` is called with `backbone`, too."""
    _METHODS[name] = (build, takes)


def entries() -> list[Entry]:
    """All registered models, by name."""
    return [_ENTRIES[name] for name in sorted(_ENTRIES)]


def entry(name: str) -> Entry:
    """Raises UserError with the nearest names."""
    if name not in _ENTRIES:
        raise UserError(f"There is no model '{name}'. {nearest(name, _ENTRIES)} `muybridge models` lists all")
    return _ENTRIES[name]


def builds_on_meta(name: str) -> bool:
    """May the model be built without values? A function of your own may compute some."""
    found = parsed(name)
    return found.code is None and not found.method


def create(
    name: str,
    *,
    num_classes: int,
    num_frames: int = 8,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    **options: Any,
) -> VideoModel:
    """A model with fresh weights for clips of `num_frames`. `name`: a registered one; `METHOD@module:function` or
    `METHOD@timm:NAME`, a method over an image network that is brought along; `hf:NAME`, a video classifier of the Hugging
    Face hub; or your own as `module:function` (called with the same arguments).

    Whoever calls it with a name that means code lets that code run. Raises UserError for an unknown name or option, and for
    a clip length that the model does not take.
    """
    allow(name)
    model = assemble(
        name,
        num_classes=num_classes,
        num_frames=num_frames,
        temporal_pooling=temporal_pooling,
        dropout=dropout,
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
    **options: Any,
) -> VideoModel:
    """`create`, but that `num_frames` need not be what the model takes, and that code must have been allowed
    (`muybridge.user_code`)."""
    build, takes = _builder(name)
    valid = _options(takes)
    unknown = [option for option in options if option not in valid]
    if unknown:
        raise UserError(
            f"Model '{name}' has no option '{unknown[0]}'. {nearest(unknown[0], valid) if valid else 'It has none.'}"
        )
    for option, value in options.items():
        _check_option(name, option, value, valid[option])
    if num_classes < 1 or not 0 <= dropout < 1:
        raise UserError(
            f"Model '{name}': num_classes is at least 1 and dropout from 0 to below 1; got {num_classes}, {dropout}"
        )
    arguments = {"num_classes": num_classes, "num_frames": num_frames, "temporal_pooling": temporal_pooling}
    model = build(**arguments, dropout=dropout, **options)
    if not isinstance(model, VideoModel):
        raise UserError(f"'{name}' returned a {type(model).__name__}; a subclass of muybridge.zoo.VideoModel is needed")
    model.name = name
    return model


def user_builder(name: str, **arguments: Any) -> Callable[[], Any] | None:
    """What calls the user's function that a model's name means: with the arguments of `create`, or, of an image network,
    with none. None where the name means no code."""
    found = parsed(name)
    if found.code is None:
        return None
    return partial(user_network.network, found.code, **({} if found.method else arguments))


def _builder(name: str) -> tuple[Builder, Callable[..., Any]]:
    """What builds a model of this name, and the function whose keyword arguments are its options."""
    found = parsed(name)
    if found.method:
        if found.method not in _METHODS:
            raise UserError(f"There is no method '{found.method}' (in '{name}'). {nearest(found.method, _METHODS)}")
        if not found.library and found.code is None:
            whole = f"{found.method}_{found.network}"
            ours = f"; {whole} may be meant" if whole in _ENTRIES else ""
            raise UserError(f"'{name}': METHOD@module:function or METHOD@timm:NAME is needed{ours}")
        build, takes = _METHODS[found.method]
        return partial(build, backbone=name.partition("@")[2]), takes
    if found.library == "hf":
        from muybridge.zoo.networks import hub

        return partial(hub.build, name=found.network), hub.build
    if found.code is not None:
        own = function(found.code)
        parameters = inspect.signature(own).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if not takes_all and any(needed not in parameters for needed in _COMMON):
            raise UserError(f"Model '{name}': the function must take the keyword arguments {', '.join(_COMMON)}")
        return partial(user_network.network, found.code), own
    registered = entry(name)
    return registered.build, registered.takes


def _check_option(name: str, option: str, value: Any, default: Any) -> None:
    """Raises UserError for a value of another kind than the default's."""
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
    fits = kinds.get(type(default), (object,))
    if not isinstance(value, fits) or (isinstance(value, bool) and bool not in fits and object not in fits):
        raise UserError(
            f"Model '{name}': option {option} is {value!r}, but takes a {type(default).__name__}, like {default!r}"
        )


def _options(takes: Callable[..., Any]) -> dict[str, Any]:
    bound = getattr(takes, "keywords", {})  # what a partial has fixed is no option
    return {
        p.name: p.default
        for p in inspect.signature(takes).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty and p.name not in _COMMON and p.name not in bound
    }
