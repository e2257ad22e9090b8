"""Subsets of standard sets that papers report on, by their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from muybridge.data.prepare.folders import Listed
from muybridge.data.prepare.lists import class_names, in_order
from muybridge.data.prepare.subsets import some_classes, some_videos, with_classes
from muybridge.errors import UserError, nearest

_MINI = "https://github.com/IBM/action-recognition-pytorch"


@dataclass(frozen=True)
class Subset:
    """Some classes of a set."""

    of: str
    """Name of the set."""
    source: str
    """Paper."""
    lists: tuple[str, ...] = ()
    """Names of its published list, which is read below the root of the set."""
    published: str = ""
    """Address of that list."""
    classes: tuple[str, ...] = ()
    """Its classes, where they are few."""
    num_classes: int = 0
    """Number of classes, drawn by the seed where no list is published."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Most videos of a class, by split, drawn by the seed."""


SUBSETS = {
    "mini_ssv2": Subset(
        "something_something_v2", "Chen et al. 2021", lists=("mini_ssv2.txt",), published=f"{_MINI} (mini_ssv2.txt)"
    ),
    "mini_kinetics": Subset(
        "kinetics400",
        "Chen et al. 2021",
        lists=("mini_kinetics400.txt", "mini_kinetics.txt"),
        published=f"{_MINI} (mini_kinetics400.txt)",
    ),
    "mini_moments": Subset(
        "moments_in_time", "Chen et al. 2021", num_classes=200, limits={"train": 500, "val": 50}
    ),
    "kinetics5": Subset(
        "kinetics400",
        "the reproduction of 2018",
        classes=("cartwheeling", "cleaning gutters", "cooking chicken", "filling eyebrows", "playing recorder"),
    ),
}  # fmt: skip
"""Subsets that `prepare --subset` knows."""


def subset(listed: Listed, name: str, *, of: str, seed: int) -> Listed:
    """Keep the videos of a subset of the set `of`. Raises UserError for another set, and for a missing list."""
    if name not in SUBSETS:
        raise UserError(f"--subset: '{name}' is unknown. {nearest(name, SUBSETS)}")
    chosen = SUBSETS[name]
    if chosen.of != of:
        raise UserError(f"--subset {name}: it is a part of {chosen.of}. Give --set {chosen.of}")
    if chosen.lists:
        return with_classes(listed, _published(listed.root, name, chosen), f"--subset {name}")
    if chosen.classes:
        return with_classes(listed, chosen.classes, f"--subset {name}")
    warning = (
        f"--subset {name}: {chosen.source} published no list of it, so classes and videos are drawn by --seed {seed}. Its "
        "numbers are theirs, its classes are not"
    )
    listed.warnings.append(warning)
    drawn = some_classes(listed, chosen.num_classes, seed=seed, option=f"--subset {name}")
    return some_videos(drawn, chosen.limits, seed=seed)


def _published(root: Path, name: str, chosen: Subset) -> list[str]:
    file = next((path for wanted in chosen.lists for path in sorted(root.rglob(wanted))), None)
    if file is None:
        raise UserError(
            f"--subset {name}: the list of {chosen.source} is not below {root} ({' or '.join(chosen.lists)}). Download it from "
            f"{chosen.published} and put it there, or take another half of the classes by a seed: --half 0"
        )
    return [line.replace("[", "").replace("]", "") for line in in_order(class_names(file))]
