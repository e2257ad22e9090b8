"""Metadata of a file of weights: the model that wrote it, and the preprocessing and classes that belong to the weights.

One entry of the metadata of safetensors, as several would be written in any order, and equal runs write equal bytes.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.base import Preprocessing

_KEY = "muybridge"


class Tag(NamedTuple):
    """Metadata of a file of weights."""

    model: str = ""
    """The name that the model was created by."""
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the classifier; empty: not known."""


def tag_of(model: nn.Module) -> dict[str, str]:
    """Metadata to write for a model; empty for a module that has no preprocessing."""
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is None:
        return {}
    about = {
        "model": getattr(model, "name", ""), "preprocessing": preprocessing.__dict__,
        "classes": list(getattr(model, "class_names", ())),
    }  # fmt: skip
    return {_KEY: json.dumps(about)}


def read_tag(metadata: Mapping[str, str] | None, where: str) -> Tag:
    """Read a file's tag. Raises UserError for one that cannot be understood."""
    text = (metadata or {}).get(_KEY)
    if text is None:
        return Tag()
    try:
        about = json.loads(text)
        mean, std = (tuple(map(float, about["preprocessing"][key])) for key in ("mean", "std"))
        classes = about.get("classes", [])
        if not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
            raise ValueError("classes")
        return Tag(str(about["model"]), Preprocessing(mean, std), tuple(classes))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(
            f"{where}: what it says of itself cannot be understood: {text}. Remove its metadata, or save it again"
        ) from None
