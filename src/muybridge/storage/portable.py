"""A recipe that can be handed on: without the paths of the machine that it was written on."""

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from muybridge.recipe import Recipe, replace


def portable(recipe: Recipe) -> Recipe:
    """The recipe with the names alone of its manifest, of a file of weights, and of a folder of a hub's network.

    What they hold is still told by their hashes.
    """
    m = recipe.model
    changes: dict[str, Any] = {"data.manifest": last(recipe.data.manifest)}
    if m.pretrained is not None and _is_path(m.pretrained):
        changes["model.pretrained"] = last(m.pretrained)
    if m.name.startswith("hf:") and _is_path(m.name.removeprefix("hf:")):
        changes["model.name"] = f"hf:{last(m.name.removeprefix('hf:'))}"
    options = {name: last(value) for name, value in m.options.items() if isinstance(value, str) and _is_path(value)}
    return replace(recipe, changes | {f"model.options.{name}": value for name, value in options.items()})


def last(path: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name


def _is_path(text: str) -> bool:
    """Whether text is a path of this machine rather than a name or an address."""
    if re.match(r"[a-z]+://", text):
        return False
    return Path(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith(("~", "./", "../"))
