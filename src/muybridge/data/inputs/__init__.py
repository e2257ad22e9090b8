"""The one table of inputs: all that a clip can be made of, a file each. No module outside this package names one.

A file of this package defines one input as `INPUT`, and a line here registers it. `register` also adds one from outside.
Stored vectors are an input for each length of theirs, `features:D` (`features.py`).
"""

from collections.abc import Iterable

from muybridge.data.inputs import features, rgb, rgb_difference
from muybridge.data.inputs.base import Input as Input
from muybridge.data.inputs.base import Vectors as Vectors
from muybridge.data.inputs.features import held_by as held_by
from muybridge.errors import UserError, nearest

INPUTS: dict[str, Input] = {}
"""Every input, by name."""

DEFAULT = rgb.INPUT.name


def register(made: Input) -> Input:
    """Add an input to the table. Raises ValueError for a name that is taken, also as a former one."""
    if not made.name:
        raise ValueError("an input needs a name")
    taken = {*INPUTS, *(each.formerly for each in INPUTS.values())}
    for name in (made.name, made.formerly):
        if name and name in taken:
            raise ValueError(f"input '{name}' is registered twice")
    INPUTS[made.name] = made
    return made


def find(name: str) -> Input:
    """An input by its name, or by its former one. Raises UserError with the nearest names."""
    stored = features.named(name)
    if stored is not None:
        return stored
    name = next((each.name for each in INPUTS.values() if name and each.formerly == name), name)
    if name not in INPUTS:
        names = [*INPUTS, f"{features.PREFIX}D"]
        raise UserError(f"clip.modality: '{name}' is unknown; it takes {_listed(names)}. {nearest(name, names)}")
    return INPUTS[name]


def described() -> list[tuple[str, str]]:
    """Name and meaning of every input, for the help."""
    stored = (
        f"{features.PREFIX}D",
        "stored vectors of D numbers (`muybridge features`), as the manifest's files hold them",
    )
    return [*((each.name, each.meaning) for each in INPUTS.values()), stored]


def _listed(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


RGB = register(rgb.INPUT)
RGB_DIFFERENCE = register(rgb_difference.INPUT)
