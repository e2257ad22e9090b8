"""Videos to prepare, by name: of a standard set, a CSV, lists, or a folder of class folders."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from muybridge.data.prepare.folders import Item, Listed, class_folders, csv_list
from muybridge.data.prepare.lists import (
    Names,
    class_names,
    have_labels,
    in_order,
    labelled_lists,
    listed_videos,
    names_by_number,
    split_lists,
)
from muybridge.data.prepare.subsets import some_classes, some_videos, with_classes
from muybridge.data.sets import base, known
from muybridge.data.sets.subsets import subset
from muybridge.errors import UserError
from muybridge.text import plural


@dataclass(frozen=True)
class Part:
    """A part of a set that is asked for."""

    subset: str | None = None
    half: int | None = None
    num_classes: int | None = None
    train_per_class: int | None = None
    val_per_class: int | None = None
    seed: int = 0

    @property
    def is_asked_for(self) -> bool:
        """Whether it is less than the whole."""
        return self != Part(seed=self.seed)


def listing(
    *,
    folder: str | Path | None,
    csv: str | Path | None,
    column: Mapping[str, str] | None,
    standard: str | None,
    root: str | Path | None,
    lists: dict[str, Path],
    classes: str | Path | Sequence[str] | None,
    layout: str,
    part: Part,
) -> Listed:
    """List the videos of one of the sources, and keep the part that is asked for. Raises UserError."""
    names = class_names(Path(classes)) if isinstance(classes, str | Path) else classes
    if part.half is not None and part.num_classes is not None:
        raise UserError("--half, --num-classes: each says how many classes are kept. Leave one of them out")
    if part.subset is not None and standard is None:
        raise UserError(f"--subset {part.subset}: it is a part of a standard set. Give --set NAME with it")
    if standard is not None:
        listed = base.listed(known(standard), base.checked_root(known(standard), root))
        kept = _part_of(_with(listed, names), part, standard)
        return base.reported(kept, known(standard))
    if folder is not None and lists:
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder. Name the folder of the videos")
        if have_labels(lists):
            listed = Listed(Path(folder), *labelled_lists(Path(folder), lists, names))
        else:
            listed = Listed(Path(folder), *listed_videos(Path(folder), lists, names, layout=layout))
        return _part_of(listed, part, None)
    listed = _of_csv(Path(csv), column, root, lists) if csv is not None else _of_folder(Path(folder or ""), layout)
    return _part_of(_with(listed, names), part, None)


def _of_csv(csv: Path, column: Mapping[str, str] | None, root: str | Path | None, lists: Mapping[str, Path]) -> Listed:
    """Rows of a list; where its columns or its root are given, a path may be the name of a video below the root."""
    items, warnings = csv_list(csv, column)
    where = Path(root) if root is not None else csv.parent
    missing: list[Item] = []
    if (column or root is not None) and not all((where / item.path).exists() for item in items):
        files = base.Files(where)
        places = [item if (where / item.path).exists() else files.find(item) for item in items]
        missing = [item for item, place in zip(items, places, strict=True) if place is None]
        items = [place for place in places if place is not None]
        if not items:
            raise UserError(
                f"{csv}: none of its {plural(len(missing), 'video')} is below {where} (the first: {missing[0].path}). Name "
                "their folder by --root, or another column as their path"
            )
    if lists:
        items = split_lists(items, lists)
    return Listed(where, items, sorted({item.label for item in items}), [], warnings, missing=missing)


def _of_folder(root: Path, layout: str) -> Listed:
    items, strays = class_folders(root, layout)
    folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    empty = sorted(folders - {item.path.partition("/")[0] for item in items})
    warnings = [f"{', '.join(empty)}: folders without a usable file"] if empty else []
    return Listed(root, items, sorted({item.label for item in items}), strays, warnings)


def _with(listed: Listed, names: Names | None) -> Listed:
    """Give numbers their names, or keep the classes that are named."""
    if names is None:
        return listed
    if not all(re.fullmatch("[0-9]{1,15}", name) for name in listed.classes):
        return with_classes(listed, in_order(names), "--classes")
    by_number = names_by_number(names, {int(name) for name in listed.classes})
    for item in listed.items:
        if int(item.label) not in by_number:
            raise UserError(f"--classes: it does not name the label {item.label} of {item.path}. Add its line")
    items = [replace(item, label=by_number[int(item.label)]) for item in listed.items]
    return replace(listed, items=items, classes=list(by_number.values()))


def _part_of(listed: Listed, part: Part, standard: str | None) -> Listed:
    if part.subset is not None:
        listed = subset(listed, part.subset, of=standard or "", seed=part.seed)
    if part.half is not None:
        if part.half < 0:
            raise UserError(f"--half {part.half}: not a seed. Give a whole number from 0")
        if len(listed.classes) < 4:
            raise UserError(
                f"--half {part.half}: the set has {plural(len(listed.classes), 'class')}, and a half is fewer than two. Leave "
                "it out, or name classes: --classes FILE"
            )
        listed = some_classes(listed, len(listed.classes) // 2, seed=part.half, option="--half")
    if part.num_classes is not None:
        listed = some_classes(listed, part.num_classes, seed=part.seed, option="--num-classes")
    limits = {"train": part.train_per_class, "val": part.val_per_class}
    asked = {split: most for split, most in limits.items() if most is not None}
    return some_videos(listed, asked, seed=part.seed) if asked else listed
