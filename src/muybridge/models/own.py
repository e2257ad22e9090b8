"""Functions of your own by name, `module:function`: how they are found, called, hashed, and imported from a run."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.files import sha256_file

LIBRARIES = ("timm", "hf")
"""Prefixes that look like a module, but name a library's networks."""


def own_part(name: str) -> str | None:
    """The `module:function` in a model's name, also behind `METHOD@`; None where there is none."""
    part = name.rpartition("@")[2]
    return part if ":" in part and part.partition(":")[0] not in LIBRARIES else None


def resolved_name(name: str) -> str:
    """The name by which a model is found from any folder: `hf:FOLDER` with the folder's whole path."""
    library, _, folder = name.partition(":")
    return f"hf:{Path(folder).resolve()}" if library == "hf" and Path(folder).is_dir() else name


def own_function(name: str) -> Callable[..., Any]:
    """The function `module:function`. Raises UserError where it cannot be imported."""
    module_name, _, function = name.partition(":")
    _check_module(name, module_name)
    try:
        with own_errors(name):
            module = importlib.import_module(module_name)
    except UserError as error:
        if isinstance(error.__cause__, ImportError):
            message = f"Model '{name}': the module '{module_name}' cannot be imported: {error.__cause__}"
            raise UserError(message) from error.__cause__
        raise
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"Model '{name}': '{module_name}' has no function '{function}'")
    return found


@contextmanager
def own_errors(name: str) -> Iterator[None]:
    """What goes wrong in a function of one's own is told with its line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, SyntaxError):
            file, line, message = error.filename, error.lineno, error.msg
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            file, line, message = frame.filename, frame.lineno, str(error)
        raise UserError(f"Model '{name}', {file}, line {line}: {type(error).__name__}: {message}") from error


def source_file(name: str) -> Path | None:
    """The file of a `module:function` model; None for a registered one. Raises UserError where it is not found."""
    own = own_part(name)
    if own is None:
        return None
    module = own.partition(":")[0]
    _check_module(name, module)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(f"Model '{name}': the module '{module}' is not found on Python's path")
    return Path(spec.origin)


def _check_module(name: str, module: str) -> None:
    """Raises UserError for what is no module's name: a path."""
    if not all(part.isidentifier() for part in module.split(".")):
        stem = Path(module).stem
        example = f": '{stem}' for {stem}.py in the folder where you stand, or on Python's path" if stem else ""
        raise UserError(f"Model '{name}': '{module}' is no name of a module, which is needed{example}")


def source_sha256(name: str) -> str | None:
    file = source_file(name)
    return None if file is None else sha256_file(file)


def import_source(folder: Path, name: str, sha256: str | None) -> None:
    """Make the copy of a `module:function` model in `folder` importable. Raises UserError where it was changed."""
    module_name = (own_part(name) or name).partition(":")[0]
    file = folder / f"{module_name.rpartition('.')[2]}.py"
    if not file.is_file() or sha256_file(file) != sha256:
        raise UserError(f"{file} is missing or is not the file that the run was trained with")
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
