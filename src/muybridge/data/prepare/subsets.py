"""Parts of a set: some of its classes, some videos of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from muybridge.data.prepare.folders import Item, Listed
from muybridge.data.random import generator
from muybridge.errors import UserError, nearest
from muybridge.text import plural


def with_classes(listed: Listed, names: Sequence[str], where: str) -> Listed:
    """Keep the videos of the classes `names`, which come from `where`.

    Blanks, underscores and capitals make no difference between names. Raises UserError for one that is not a class.
    """
    by_plain = {plain(name): name for name in listed.classes}
    wanted = []
    for name in names:
        if plain(name) not in by_plain:
            raise UserError(f"{where}: '{name}' is not a class of the set. {nearest(name, listed.classes)}")
        wanted.append(by_plain[plain(name)])
    return _restricted(listed, set(wanted))


def some_classes(listed: Listed, count: int, *, seed: int, option: str) -> Listed:
    """Keep `count` classes, drawn by the seed. Raises UserError where there are not as many."""
    if not 2 <= count <= len(listed.classes):
        raise UserError(
            f"{option}: it asks for {plural(count, 'class')} of {len(listed.classes)}. Give a number from 2 to that"
        )
    drawn = generator(seed, "classes of a subset").permutation(len(listed.classes))[:count]
    return _restricted(listed, {listed.classes[i] for i in drawn})


def some_videos(listed: Listed, limits: Mapping[str, int], *, seed: int) -> Listed:
    """Keep at most a number of videos of each class in a split (`limits`), drawn by the seed.

    Raises UserError for a split that the set does not have by itself.
    """
    if listed.folds:
        raise UserError(
            "--train-per-class, --val-per-class: the set has several official splits, in which a video is on both "
            "sides. Leave them out, or take fewer classes: --num-classes"
        )
    warnings = list(listed.warnings)
    kept = [True] * len(listed.items)
    for split, most in limits.items():
        if most < 1:
            raise UserError(f"--{split}-per-class {most}: too few. Give at least one")
        by_class: dict[str, list[int]] = {}
        for index, item in enumerate(listed.items):
            if item.split == split:
                by_class.setdefault(item.label, []).append(index)
        if not by_class:
            raise UserError(
                f"--{split}-per-class: the set has no {split} split of its own to choose from. Leave the option out, or "
                "give a set with official splits"
            )
        for name, indices in by_class.items():
            order = generator(seed, "videos of a subset", split, name).permutation(len(indices))
            for position in order[most:]:
                kept[indices[position]] = False
        if short := [name for name in listed.classes if len(by_class.get(name, ())) < most]:
            warnings.append(
                f"--{split}-per-class {most}: {plural(len(short), 'class')} with fewer, the first: {short[0]} with "
                f"{len(by_class.get(short[0], ()))}"
            )
    items = [item for item, is_kept in zip(listed.items, kept, strict=True) if is_kept]
    return replace(listed, items=items, warnings=warnings)


def plain(name: str) -> str:
    """Name of a class or folder without what differs between copies of a set: blanks, underscores, capitals."""
    return "".join(mark for mark in name if mark not in " _").lower()


def _restricted(listed: Listed, classes: set[str]) -> Listed:
    def of_class(items: Sequence[Item]) -> list[Item]:
        return [item for item in items if item.label in classes]

    return replace(
        listed,
        items=of_class(listed.items),
        missing=of_class(listed.missing),
        classes=[name for name in listed.classes if name in classes],
    )
