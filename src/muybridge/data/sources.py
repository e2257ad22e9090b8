"""Where labelled videos come from: a folder of class folders, or a CSV. Names only; nothing is opened."""

import csv
import math
import os
import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from muybridge.data.manifest import SPLITS
from muybridge.errors import UserError, nearest
from muybridge.video.images import is_frame, is_image


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled video (a file, or a folder of images), or a part of one, before anybody looked inside."""

    path: str
    """Relative to the root, with forward slashes."""
    label: str
    group: str = ""
    split: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    first_number: int | None = None
    """A part as a list file names it: the number of its first image; of a video file, its first frame counted from 1."""
    last_number: int | None = None

    @property
    def id(self) -> str:
        """The path, with the part where it is one."""
        if self.first_number is not None:
            return f"{self.path}#{self.first_number}-{self.last_number}"
        if self.start_seconds is None and self.end_seconds is None:
            return self.path
        end = "" if self.end_seconds is None else f"{self.end_seconds:.12g}"
        return f"{self.path}#{self.start_seconds or 0:.12g}-{end}"


_BESIDE_FRAMES = {".db", ".ini", ".txt", ".md", ".json", ".xml", ".csv", ".log"}
"""What tools leave in a folder of frames, and is none of it."""


def class_folders(root: Path) -> tuple[list[Item], list[tuple[str, str]]]:
    """Every file below `root/CLASS/`, and every folder of numbered images below a class folder, as (items, strays):
    strays are what cannot be used, with the reason. Hidden files are passed over. Raises UserError where there is nothing
    to find."""
    if not root.exists():
        raise UserError(f"There is no folder {root}")
    if not root.is_dir():
        raise UserError(f"{root} is a file. `prepare` takes a folder with one subfolder a class, or --csv FILE")
    items: list[Item] = []
    strays: list[tuple[str, str]] = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        above = os.path.realpath(folder)
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not name.startswith(".")
            and not f"{above}{os.sep}".startswith(os.path.realpath(os.path.join(folder, name)) + os.sep)
        ]  # a link that leads back up would be walked for ever
        place = Path(folder).relative_to(root)
        files, strange = _files(place, names)
        strays += strange
        for path in files:
            readable = path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            if readable != path.as_posix():
                strays.append((readable, "its name is not UTF-8 text; rename it"))
            elif len(path.parts) == 1:
                strays.append((path.as_posix(), "lies in no class folder"))
            else:
                items.append(Item(path.as_posix(), path.parts[0]))
    if not items:
        first = f" ({strays[0][0]}: {strays[0][1]})" if strays else ""
        raise UserError(
            f"{root} holds no class folders with videos{first}: FOLDER/CLASS/video or FOLDER/CLASS/VIDEO/00001.jpg is "
            "expected, or --csv FILE, or lists with labels (--train-list, --test-list)"
        )
    items.sort(key=lambda item: (item.label, item.path))
    return items, strays


def _files(place: Path, names: list[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """What may be a video among the files of the folder `place`, or the folder itself where it holds frames; and what
    cannot be, with the reason."""
    others = [place / name for name in sorted(names) if not name.startswith(".") and not is_image(name)]
    loose = sorted(name for name in names if is_image(name))
    if not loose:
        return others, []
    if len(place.parts) < 2:
        where = "in a class folder" if place.parts else "in no class folder"
        reason = f"{len(loose)} image(s) lie {where} (the first: {loose[0]}); the frames of a video need a folder of their own"
        return others, [(place.as_posix(), reason)]
    unnumbered = [name for name in loose if not is_frame(name)]
    told = f"{len(unnumbered)} image(s) without a number at the end of their name are no frames"
    strays = [(place.as_posix(), f"{told} (the first: {unnumbered[0]})")] if unnumbered else []
    if len(unnumbered) == len(loose):
        return others, strays
    return [place, *(path for path in others if path.suffix.lower() not in _BESIDE_FRAMES)], strays


def csv_list(path: Path) -> list[Item]:
    """Rows of a CSV with the columns path,label and optionally group,split,start,end (seconds); paths relative to the
    CSV's folder. Raises UserError that names line and column."""
    known = ("path", "label", "group", "split", "start", "end")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or []]
            for needed in ("path", "label"):
                if needed not in header:
                    raise UserError(f"{path} needs the columns path,label; it has {','.join(header) or 'none'}")
            absent = [name for name in known if name not in header]
            for name in header:
                if name not in known and get_close_matches(name, absent, cutoff=0.75):  # not a column of the user's own
                    raise UserError(f"{path}: unknown column '{name}'. {nearest(name, absent)}")
            reader.fieldnames = header
            items = [_item(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV text file: {error}") from None
    if not items:
        raise UserError(f"{path} has no rows")
    return items


def grouped(items: list[Item], pattern: str) -> tuple[list[Item], list[tuple[str, str]]]:
    """Items with the group that a regular expression finds in their path (its first parenthesis, or the whole match),
    and those it finds nothing in, with the reason. Raises UserError where it finds nothing at all."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group '{pattern}' is no regular expression: {error}") from None
    found: list[Item] = []
    without: list[tuple[str, str]] = []
    for item in items:
        match = expression.search(item.path)
        name = (match.group(1 if expression.groups else 0) or "") if match else ""
        if name:
            found.append(replace(item, group=name))
        else:
            without.append((item.path, f"--group '{pattern}' finds nothing in its path"))
    if not found:
        raise UserError(
            f"--group '{pattern}' finds nothing in any of {len(items)} paths; the first is '{items[0].path}'"
        )
    return found, without


def _item(path: Path, number: int, row: dict[str | Any, str | Any]) -> Item:
    def text(name: str) -> str:
        return (row.get(name) or "").strip()

    def seconds(name: str) -> float | None:
        try:
            value = float(text(name)) if text(name) else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise UserError(f"{path}, line {number}: {name} is '{text(name)}', seconds are needed")
        return value

    if None in row:
        raise UserError(f'{path}, line {number}: more fields than the header has; a comma in a name needs "quotes"')
    if not text("path") or not text("label"):
        raise UserError(f"{path}, line {number}: path and label must not be empty")
    start, end = seconds("start"), seconds("end")
    if (end is not None and end <= (start or 0.0)) or (start is not None and start < 0):
        raise UserError(f"{path}, line {number}: start {start} and end {end} enclose no part of a video")
    split = {"validation": "val", "valid": "val", "training": "train", "testing": "test"}.get(
        text("split"), text("split")
    )
    if split and split not in SPLITS:
        raise UserError(f"{path}, line {number}: split is '{split}'. {nearest(split, SPLITS)}")
    return Item(Path(text("path")).as_posix(), text("label"), text("group"), split, start, end)
