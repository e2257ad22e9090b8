"""What a file of weights says of itself: which model wrote it, and the preprocessing that travels with the weights.

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
    model: str = ""
    """The name that it was created by."""
    preprocessing: Preprocessing | None = None


def tag_of(model: nn.Module) -> dict[str, str]:
    """As metadata; empty for what is no model of ours."""
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is None:
        return {}
    about = {"model": getattr(model, "name", ""), "preprocessing": preprocessing.__dict__}
    return {_KEY: json.dumps(about)}


def read_tag(metadata: Mapping[str, str] | None, where: str) -> Tag:
    """Raises UserError for one that cannot be understood."""
    text = (metadata or {}).get(_KEY)
    if text is None:
        return Tag()
    try:
        about = json.loads(text)
        mean, std = (tuple(map(float, about["preprocessing"][key])) for key in ("mean", "std"))
        return Tag(str(about["model"]), Preprocessing(mean, std))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{where}: what it says of itself cannot be understood: {text}") from None
