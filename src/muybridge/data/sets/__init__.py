"""Data sets: those that papers report on, a file each, and one that muybridge generates (`motions`)."""

from muybridge.data.sets import (
    diving48,
    hmdb51,
    jester,
    kinetics,
    kth,
    moments_in_time,
    something_something_v2,
    ucf11,
    ucf50,
    ucf101,
)
from muybridge.data.sets.base import StandardSet
from muybridge.errors import UserError, nearest

SETS: dict[str, StandardSet] = {
    standard.name: standard
    for standard in (
        ucf11.SET,
        ucf50.SET,
        ucf101.SET,
        hmdb51.SET,
        *kinetics.SETS,
        something_something_v2.SET,
        moments_in_time.SET,
        jester.SET,
        diving48.SET,
        kth.SET,
    )
}
"""The sets that `prepare --set` knows."""


def known(name: str) -> StandardSet:
    """Standard set of a name. Raises UserError for another name."""
    if name not in SETS:
        raise UserError(f"--set: '{name}' is unknown. {nearest(name, SETS)}")
    return SETS[name]
