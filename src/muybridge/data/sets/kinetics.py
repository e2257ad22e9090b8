"""Kinetics-400, -600 and -700: clips of ten seconds of YouTube videos, by lists in CSV or JSON."""

import math
import re
from functools import partial
from pathlib import Path, PurePosixPath

from muybridge.data.prepare.folders import SPLIT_NAMES, Item
from muybridge.data.prepare.tables import KEY, read_table
from muybridge.data.sets.base import Files, Lists, StandardSet, labels_by_folder
from muybridge.errors import UserError

_COLUMNS = {
    "id": ("youtube_id", KEY),
    "label": ("label", "annotations.label"),
    "start": ("time_start", "annotations.segment.0"),
    "end": ("time_end", "annotations.segment.1"),
    "split": ("split", "subset"),
}
"""Columns of the lists, in CSV and in JSON."""

_NAMES = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


def group(item: Item) -> str:
    """Id of the YouTube video: of a list, or of a file ID_START_END."""
    if item.start_seconds is not None:
        return item.path
    return re.sub(r"_\d+_\d+$", "", PurePosixPath(item.path).stem)


def read(files: Files, number: int) -> Lists:
    """Read the lists of all splits that are there; without any, the folders SPLIT/CLASS."""
    items: list[Item] = []
    notes: list[str] = []
    unlabelled = 0
    for split, names in _NAMES.items():
        file = files.list(
            *(f"{before}{name}.{ending}" for name in names for before in _before(number) for ending in ("csv", "json"))
        )
        if file is not None:
            listed, without = _list_items(file, split)
            items += listed
            unlabelled += without
            if split == "test" and listed and not without:
                notes.append(
                    f"{file.name} has labels, so the official test is the test. Most papers report on the validation "
                    "split: remove that list to do as they do"
                )
    if unlabelled:
        notes.append(f"{unlabelled:,} clips of the lists have no label and are left out")
    if not items:
        items = labels_by_folder(files)
        if items and not all(item.split for item in items):
            items = [Item(item.path, item.label) for item in items]
        notes.append("no list with labels is there: classes and splits are those of the folders")
    return Lists(items, sorted({item.label for item in items}), notes=notes)


def _before(number: int) -> tuple[str, ...]:
    """Beginnings of the lists' names, of the publication and of common tools."""
    words = (f"kinetics{number}", f"kinetics-{number}", f"kinetics_{number}", f"k{number}", f"kinetics{number}_2020")
    return ("", *(f"{word}{joint}" for word in words for joint in ("_", "-")))


def _list_items(file: Path, split: str) -> tuple[list[Item], int]:
    """Items of a list, and the number of its rows without a label."""
    table = read_table(file)
    columns = {role: next((name for name in names if name in table.columns), None) for role, names in _COLUMNS.items()}
    for role in ("id", "start", "end"):
        if columns[role] is None:
            raise UserError(f"{file}: it has no column {_COLUMNS[role][0]}. Restore the list")
    items, unlabelled = [], 0
    for place, row in table.rows:
        cells = {role: (row.get(name) or "").strip() if name else "" for role, name in columns.items()}
        try:
            start, end = float(cells["start"]), float(cells["end"])
        except ValueError:
            start = end = math.nan
        if not (math.isfinite(start) and math.isfinite(end)):
            raise UserError(f"{file}, {place}: its times are not numbers of seconds. Restore the list")
        if not cells["id"]:
            raise UserError(f"{file}, {place}: it has no {_COLUMNS['id'][0]}. Restore the list")
        if not cells["label"]:
            unlabelled += 1
            continue
        of_row = SPLIT_NAMES.get(cells["split"].lower(), split)
        items.append(Item(cells["id"], cells["label"], split=of_row, start_seconds=start, end_seconds=end))
    return items, unlabelled


def _kinetics(number: int, source: str, counts: dict[str, int]) -> StandardSet:
    return StandardSet(
        name=f"kinetics{number}",
        title=f"Kinetics-{number}",
        source=source,
        page=f"""
The videos are YouTube's, so no copy is complete. The lists and most clips are at
https://github.com/cvdfoundation/kinetics-dataset. Put both below one folder:

  train.csv, val.csv (or validate.csv), test.csv; or train.json, …   (columns label, youtube_id, time_start, time_end)
  anywhere: ID_000012_000022.mp4, or ID.mp4 (a clip, or the whole video), in any folders, also .mkv and .webm,
  or folders of frames of these names

Without lists: train/CLASS/…, val/CLASS/…, with the {number} classes as folders.
""",
        protocol="Papers report on the official validation split: it is the test here, and validation is cut from train. A "
        "list test.csv with labels is the test instead. A group is a YouTube video.",
        num_classes=number,
        counts=counts,
        read=partial(read, number=number),
        group=group,
        reports_on_val=True,
    )


SETS = (
    _kinetics(400, "Kay et al. 2017", {"train": 246_245, "val": 20_000}),
    _kinetics(600, "Carreira et al. 2018", {"train": 392_622, "val": 30_000}),
    _kinetics(700, "Carreira et al. 2019", {"train": 545_317, "val": 35_000}),
)
