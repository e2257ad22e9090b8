"""One registry: a name, what builds it, where it comes from."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.errors import UserError, nearest
from muybridge.files import sha256_file
from muybridge.models.contract import VideoModel

Builder = Callable[..., VideoModel]


@dataclass(frozen=True)
class Entry:
    """A registered model."""

    name: str
    family: str
    paper: str
    build: Builder
    """build(*, num_classes, num_frames, temporal_pooling, dropout, **options)."""

    def options(self) -> dict[str, Any]:
        """Keyword arguments beyond the common ones, with their defaults."""
        return _options(self.build)


_ENTRIES: dict[str, Entry] = {}
_COMMON = ("num_classes", "num_frames", "temporal_pooling", "dropout")


def register(name: str, *, family: str, paper: str, build: Builder) -> None:
    """Raises ValueError for a name that is taken."""
    if name in _ENTRIES:
        raise ValueError(f"model '{name}' is registered twice")
    _ENTRIES[name] = Entry(name, family, paper, build)


def entries() -> list[Entry]:
    """All registered models, by name."""
    return [_ENTRIES[name] for name in sorted(_ENTRIES)]


def entry(name: str) -> Entry:
    """Raises UserError with the nearest names."""
    if name not in _ENTRIES:
        raise UserError(f"There is no model '{name}'. {nearest(name, _ENTRIES)} `muybridge models` lists all")
    return _ENTRIES[name]


def create(
    name: str,
    *,
    num_classes: int,
    num_frames: int = 8,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    **options: Any,
) -> VideoModel:
    """Build a model by its registered name, or your own as `module:function` (called with the same arguments).

    Raises UserError for an unknown name or option.
    """
    build = _own(name) if ":" in name else entry(name).build
    valid = _options(build)
    unknown = [option for option in options if option not in valid]
    if unknown:
        raise UserError(
            f"Model '{name}' has no option '{unknown[0]}'. {nearest(unknown[0], valid) if valid else 'It has none.'}"
        )
    arguments = {"num_classes": num_classes, "num_frames": num_frames, "temporal_pooling": temporal_pooling}
    try:
        model = build(**arguments, dropout=dropout, **options)
    except UserError:
        raise
    except Exception as error:
        if ":" not in name:
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"Model '{name}', {frame.filename}, line {frame.lineno}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, VideoModel):
        raise UserError(
            f"'{name}' returned a {type(model).__name__}; a subclass of muybridge.models.VideoModel is needed"
        )
    if num_frames < model.min_frames:
        raise UserError(f"Model '{name}' needs at least {model.min_frames} frames; the clip has {num_frames}")
    return model


def _options(build: Builder) -> dict[str, Any]:
    bound = getattr(build, "keywords", {})  # what a partial has fixed is no option
    return {
        p.name: p.default
        for p in inspect.signature(build).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in _COMMON and p.name not in bound
    }


def _own(name: str) -> Builder:
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"Model '{name}': the module '{module_name}' cannot be imported: {error}") from None
    build = getattr(module, function, None)
    if not callable(build):
        raise UserError(f"Model '{name}': '{module_name}' has no function '{function}'")
    parameters = inspect.signature(build).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if not takes_all and any(needed not in parameters for needed in _COMMON):
        raise UserError(f"Model '{name}': the function must take the keyword arguments {', '.join(_COMMON)}")
    return build


def source_file(name: str) -> Path | None:
    """The file of a `module:function` model; None for a registered one. Raises UserError where it is not found."""
    if ":" not in name:
        return None
    module = name.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(f"Model '{name}': the module '{module}' is not found on Python's path")
    return Path(spec.origin)


def source_sha256(name: str) -> str | None:
    file = source_file(name)
    return None if file is None else sha256_file(file)


def import_source(folder: Path, name: str, sha256: str | None) -> None:
    """Make the copy of a `module:function` model in `folder` importable. Raises UserError where it was changed."""
    module_name = name.partition(":")[0]
    file = folder / f"{module_name.rpartition('.')[2]}.py"
    if not file.is_file() or sha256_file(file) != sha256:
        raise UserError(f"{file} is missing or is not the file that the run was trained with")
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
