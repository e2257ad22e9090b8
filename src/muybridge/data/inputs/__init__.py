"""The one table of inputs: all that a clip can be made of, a file each. No module outside this package names one.

A file of this package defines one input as `INPUT`, and a line here registers it. `register` also adds one from outside.
Stored vectors are an input for each length of theirs, `features:D` (`features.py`). Stacks (`clip.stack`) are one for each
length of theirs, too: `of` finds the one that a recipe's clip is made of.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from muybridge.data.inputs import features, flow, rgb, rgb_difference, rgb_differences, warped_flow
from muybridge.data.inputs.base import Input as Input
from muybridge.data.inputs.base import Vectors as Vectors
from muybridge.errors import UserError, nearest

if TYPE_CHECKING:
    from muybridge.data.manifest import Manifest

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


class Clip(Protocol):
    """Fields of a recipe's section `clip` that name its input."""

    @property
    def modality(self) -> str:
        """Name of the input."""
        ...

    @property
    def stack(self) -> int | None:
        """Length of its stacks; None: its own."""
        ...


def of(clip: Clip) -> Input:
    """The input of a clip, with stacks of its length. Raises UserError for an unknown name, and for a stack of another."""
    found = find(clip.modality)
    return found if clip.stack is None else found.stacked(clip.stack)


def held_by(manifest: "Manifest") -> Input | None:
    """The input that a manifest's files hold in place of pictures: vectors, or fields of motion; None for pictures.

    Raises UserError where the files differ.
    """
    name = flow.fields_of(manifest)
    return find(name) if name else features.vectors_of(manifest)


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
register(rgb_differences.INPUT)
register(flow.INPUT)
register(warped_flow.INPUT)
