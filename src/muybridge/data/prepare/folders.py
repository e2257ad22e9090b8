"""Labelled videos from a folder of folders, or from a CSV, by their names alone: no video is opened."""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from muybridge.data.manifest import SPLITS
from muybridge.data.prepare.tables import read_table
from muybridge.errors import UserError, nearest
from muybridge.text import plural
from muybridge.video.images import is_frame, is_image


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled video (a file, or a folder of images), or a part of one, before it is decoded."""

    path: str
    """Relative to the root, with forward slashes."""
    label: str
    group: str = ""
    split: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    first_number: int | None = None
    """First image of a part, by the number in its name; of a video file, the first frame, counted from 1."""
    last_number: int | None = None
    may_be_cut: bool = False
    """Whether the file may hold the part alone. Then a file that is not longer than the part is taken whole."""

    @property
    def id(self) -> str:
        """Path, followed by the part where it is one."""
        if self.first_number is not None:
            return f"{self.path}#{self.first_number}-{self.last_number}"
        if self.start_seconds is None and self.end_seconds is None:
            return self.path
        end = "" if self.end_seconds is None else f"{self.end_seconds:.12g}"
        return f"{self.path}#{self.start_seconds or 0:.12g}-{end}"


@dataclass(frozen=True)
class Listed:
    """Videos by name, before they are decoded."""

    root: Path
    items: list[Item]
    classes: list[str]
    """Names of the classes in order."""
    strays: list[tuple[str, str]] = field(default_factory=list)
    """Paths that cannot be used, with the reason."""
    warnings: list[str] = field(default_factory=list)
    folds: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Split of each path in each of several official splits; a path that is not there is unused."""
    missing: list[Item] = field(default_factory=list)
    """Videos of official lists that are not there, by their names in the lists."""


SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "validate": "val", "test": "test", "testing": "test", "unused": "unused",
}  # fmt: skip
"""Names of splits in columns and folders, in lower case."""

_BESIDE_FRAMES = {".db", ".ini", ".txt", ".md", ".json", ".xml", ".csv", ".log"}
"""Extensions of files that tools leave beside frames."""


# --- folders


ROLES = ("class", "split", "group", "-")
"""Meanings that the folders above a video may have; "-": nothing."""
AUTO = "auto"


def class_folders(root: Path, layout: str = AUTO) -> tuple[list[Item], list[tuple[str, str]]]:
    """Items and strays below `root`: files and folders of numbered images, labelled by the folders above them.

    Strays are what cannot be used, with the reason. Hidden files are skipped. `layout` names the folders from `root`
    down, as "class", "split/class" or "group/class"; deeper folders mean nothing. The automatic layout is class, or
    split/class where all folders below `root` are named as splits. Raises UserError where nothing is found, and where
    the folders leave open which are the classes.
    """
    paths, strays = walk(root, least_depth=2)
    roles = _roles(layout) if layout != AUTO else _auto_layout(root, paths)
    items = []
    for path in paths:
        if len(path.parts) <= len(roles):
            where = "in no class folder" if roles == ["class"] else f"above the folders of --layout {'/'.join(roles)}"
            strays.append((path.as_posix(), f"lies {where}"))
            continue
        parts = list(zip(roles, path.parts, strict=False))
        label = next(part for role, part in parts if role == "class")
        group = "/".join(part for role, part in parts if role == "group")
        split = next((part for role, part in parts if role == "split"), "")
        if split and split.lower() not in SPLIT_NAMES:
            raise UserError(f"{root / split}: not a split. {nearest(split.lower(), SPLIT_NAMES)}")
        items.append(Item(path.as_posix(), label, group, SPLIT_NAMES[split.lower()] if split else ""))
    if not items:
        first = f" ({strays[0][0]}: {strays[0][1]})" if strays else ""
        raise UserError(
            f"{root}: it holds no class folders with videos{first}. Give FOLDER/CLASS/video or "
            "FOLDER/CLASS/VIDEO/00001.jpg, or --csv FILE, or lists with labels (--train-list, --test-list)"
        )
    items.sort(key=lambda item: (item.label, item.path))
    return items, strays


def walk(root: Path, *, least_depth: int = 1) -> tuple[list[Path], list[tuple[str, str]]]:
    """Paths and strays below `root`: files that may be videos, and folders of numbered images.

    Folders of images lie at least `least_depth` deep. Strays are what cannot be a video, with the reason. Raises
    UserError where `root` is not a folder.
    """
    if not root.exists():
        raise UserError(f"{root}: no such folder. Name a folder of videos")
    if not root.is_dir():
        raise UserError(f"{root}: it is a file. Give a folder with one subfolder a class, or --csv FILE")
    paths: list[Path] = []
    strays: list[tuple[str, str]] = []
    entered = {os.path.realpath(root)}
    pending = [Path()]
    while pending:
        folder = pending.pop()
        try:
            subfolders, names = _entries(root / folder)
        except (PermissionError, FileNotFoundError) as error:
            strays.append((folder.as_posix(), f"this folder cannot be read: {error.strerror}"))
            continue
        below = []
        for name in subfolders:
            if (root / folder / name).is_symlink() and (reason := _not_entered(root, folder / name, entered)):
                strays.append(((folder / name).as_posix(), reason))
            else:
                below.append(folder / name)
        pending += reversed(below)  # the first is the next
        files, unusable = _files(folder, names, least_depth)
        strays += unusable
        for path in files:
            readable = path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            if readable != path.as_posix():
                strays.append((readable, "its name is not UTF-8 text; rename it"))
            else:
                paths.append(path)
    return paths, strays


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Subfolders and other entries, sorted; hidden ones are left out."""
    subfolders: list[str] = []
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            if not entry.name.startswith("."):
                (subfolders if is_folder else names).append(entry.name)
    return subfolders, names


def _not_entered(root: Path, link: Path, entered: set[str]) -> str:
    """Reason why a link to a folder is not entered; empty where it is, which `entered` then records.

    A target inside `root` is read by its own name, and no target is read twice: links that lead to each other would be
    walked forever.
    """
    top, target = os.path.realpath(root), os.path.realpath(root / link)
    inside = Path(target).relative_to(top) if Path(target).is_relative_to(top) else None
    if inside is not None and not any(part.startswith(".") for part in inside.parts):
        return f"is a link to {inside.as_posix()}, which is read by its own name"
    if Path(top).is_relative_to(target) or target in entered:
        return "is a link to a folder that is read already"
    entered.add(target)
    return ""


def _files(folder: Path, names: list[str], least_depth: int) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files of a folder that may be videos, or the folder itself where it holds frames; and strays with the reason."""
    others = [folder / name for name in sorted(names) if not name.startswith(".") and not is_image(name)]
    loose = sorted(name for name in names if is_image(name))
    if not loose:
        return others, []
    if len(folder.parts) < least_depth:
        where = "in a class folder" if folder.parts else "in no class folder"
        reason = f"{len(loose)} image(s) lie {where} (the first: {loose[0]}); the frames of a video need a folder of their own"
        return others, [(folder.as_posix(), reason)]
    unnumbered = [name for name in loose if not is_frame(name)]
    ending = "as their names do not end in a number (img_00001.jpg, frame_0001_rgb.png)"
    reason = f"{len(unnumbered)} image(s) are no frames, {ending}; the first: {unnumbered[0]}" if unnumbered else ""
    strays = [(folder.as_posix(), reason)] if unnumbered else []
    if len(unnumbered) == len(loose):
        return others, strays
    return [folder, *(path for path in others if path.suffix.lower() not in _BESIDE_FRAMES)], strays


def _roles(layout: str) -> list[str]:
    roles = layout.split("/")
    for role in roles:
        if role not in ROLES:
            raise UserError(f"--layout {layout}: '{role}' is unknown. {nearest(role, ROLES)}")
    if roles.count("class") != 1 or roles.count("split") > 1:
        raise UserError(
            f"--layout {layout}: it has not exactly one class, or more than one split. Name one folder as the class, "
            "and one at the most as the split"
        )
    return roles


def _auto_layout(root: Path, paths: Sequence[Path]) -> list[str]:
    """Roles of the folders by their names. Raises UserError where the names leave them open."""
    above = [path.parts[:-1] for path in paths if len(path.parts) > 1]
    tops = sorted({parts[0] for parts in above})
    if tops and all(name.lower() in SPLIT_NAMES for name in tops):
        flat = [parts for parts in above if len(parts) == 1]
        if not flat:
            _check_one_level(root, [parts[1:] for parts in above], "split/")
            return ["split", "class"]
        raise UserError(
            f"{root}: it holds {_shown(tops)}, with videos right inside of them, without class folders. If these are "
            "the splits, say the labels with a list: --csv FILE (path,label,split). If they are the classes: "
            "--layout class"
        )
    _check_one_level(root, above, "")
    return ["class"]


def _check_one_level(root: Path, above: Sequence[tuple[str, ...]], before: str) -> None:
    """Raises UserError where folders further down could be the classes as well, as their names repeat.

    `before`: roles of the folders further up.
    """
    tops = sorted({parts[0] for parts in above})
    if len(tops) == 1 and not before and all(len(parts) > 1 for parts in above):
        raise UserError(
            f"{root}: it holds one folder, {tops[0]}, and that holds folders. If these are the classes: prepare "
            f"{root / tops[0]}. If {tops[0]} is the only class: --layout class"
        )
    for depth in range(1, max(map(len, above), default=0)):
        below: dict[str, set[str]] = {}
        for parts in above:
            if len(parts) > depth:
                below.setdefault(parts[depth], set()).add(parts[0])
        repeated = sorted(name for name, where in below.items() if len(where) > max(1, len(tops) / 2))
        in_repeated = sum(len(parts) > depth and parts[depth] in repeated for parts in above)
        if 2 * in_repeated > len(above):
            between = "-/" * (depth - 1)
            raise UserError(
                f"{root}: folders of the same names ({_shown(repeated)}) lie under most of {_shown(tops)}. Which are "
                "the classes? If the lower ones, and the upper are people or recordings: --layout "
                f"{before}group/{between}class. If the upper ones, and the lower are: --layout "
                f"{before}class/{between}group. If there are no groups: --layout {before}-/{between}class or "
                f"{before}class{'' if before else f' (or split/{between}class, if the upper are splits)'}"
            )


def _shown(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# --- a CSV

COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "video_file", "clip_path"),
    "label": ("label", "class", "action", "category", "class_name", "label_name", "activity"),
    "group": (
        "group", "subject", "subject_id", "person", "person_id", "actor", "actor_id", "participant", "participant_id",
        "performer", "recording",
    ),
    "split": ("split", "subset", "partition", "set", "fold", "phase", "usage"),
    "start": ("start", "start_time", "time_start", "start_seconds", "start_sec", "start_timestamp", "t_start", "begin", "onset"),
    "end": ("end", "end_time", "time_end", "end_seconds", "end_sec", "stop_timestamp", "t_end", "stop", "stop_time", "offset"),
    "start_frame": ("start_frame", "frame_start", "first_frame", "begin_frame"),
    "end_frame": ("end_frame", "stop_frame", "frame_end", "frame_stop", "last_frame"),
}  # fmt: skip
"""Columns that are read, each with its usual names in lower case, the default first."""

MOST_CHARACTERS = 4096
"""Longest cell: no path is longer, and a manifest's columns are as wide as their longest text."""

PAIRS = (("start", "end"), ("start_frame", "end_frame"))


def csv_list(path: Path, columns: Mapping[str, str] | None = None) -> tuple[list[Item], list[str]]:
    """Read the rows of a CSV or of a JSON file, with notes on how they were read.

    It has columns for path and label, and may have some for group, split, and a part by seconds or by frames (`COLUMNS`
    has their names). `columns` says which they are in this file. Paths are relative to the file's folder. Raises
    UserError that names line and column.
    """
    table = read_table(path)
    rows = table.rows
    found = _columns(path, table.columns, rows, columns or {})
    if not rows:
        raise UserError(f"{path}: it has no rows. Add a line for each video")
    read = {role: name for role, name in found.items() if name is not None}
    rows, without = _labelled(rows, read)
    items = [_item(path, place, row, read) for place, row in rows]
    notes = [
        f"{path}: column {name} is read as {role}"
        for role, name in read.items()
        if name.lower() != role and role not in (columns or {})
    ]
    if without:
        notes.append(
            f"{path}: {plural(without, 'row')} of the test without a label, which nobody can score, are left out"
        )
    unread = [name for name in table.columns if name and name not in read.values()]
    if unread:
        notes.append(f"{path}: columns that are not read: {', '.join(unread)}")
    for part, empty, how in (("start", "end", "to its end"), ("end", "start", "from its beginning")):
        places = [
            place
            for (place, _), item in zip(rows, items, strict=True)
            if getattr(item, f"{part}_seconds") is not None and getattr(item, f"{empty}_seconds") is None
        ]
        if places:
            notes.append(
                f"{path}: {read[empty]} is empty in {plural(len(places), 'row')} with a part (the first: {places[0]}): the "
                f"video is read {how}"
            )
    if "start_frame" in read:
        items, counted = _counted_from_one(path.parent, items)
        notes.append(
            f"{path}: {read['start_frame']} and {read['end_frame']} are read as the first and the last frame, {counted}"
        )
    return items, notes


def _labelled(
    rows: list[tuple[str, dict[str | Any, Any]]], columns: Mapping[str, str]
) -> tuple[list[tuple[str, dict[str | Any, Any]]], int]:
    """Rows without those of the test that have no label, and the number of these; one without a split stays."""
    if "split" not in columns:
        return rows, 0
    label, split = columns["label"], columns["split"]
    kept = [row for row in rows if (row[1].get(label) or "").strip() or _split_of(row[1].get(split)) != "test"]
    return kept or rows, len(rows) - len(kept or rows)


def _columns(
    path: Path, header: list[str], rows: Sequence[tuple[str, dict[str | Any, Any]]], given: Mapping[str, str]
) -> dict[str, str | None]:
    """Header's name for each of `COLUMNS`, or None; `given` are the user's. Raises UserError where that is ambiguous."""
    for role, name in given.items():
        if role not in COLUMNS:
            raise UserError(f"--column {role}={name}: '{role}' is unknown. {nearest(role, COLUMNS)}")
        if name not in header:
            raise UserError(f"--column {role}={name}: {path} has no column '{name}'. {nearest(name, header)}")
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise UserError(f"{path}: it has the column {twice[0]} more than once. Rename or remove one")
    by_name = {name.lower(): name for name in header if name not in given.values()}
    columns: dict[str, str | None] = {}
    for role, names in COLUMNS.items():
        if role in given:
            columns[role] = given[role]
            continue
        candidates = [by_name[name] for name in names if name in by_name]
        if role == "split" and candidates and candidates[0].lower() != "split":  # other columns may have that name
            candidates = [name for name in candidates if all(_split_of(row.get(name)) is not None for _, row in rows)]
        if role == "group" and candidates and candidates[0].lower() != "group":  # one value for all separates nothing
            candidates = [name for name in candidates if len({row.get(name) for _, row in rows}) > 1]
        if len(candidates) > 1 and candidates[0].lower() != role:
            raise UserError(f"{path}: each of {' and '.join(candidates)} may be the {role}. Call that column {role}")
        columns[role] = candidates[0] if candidates else None
    for needed in ("path", "label"):
        if columns[needed] is None:
            raise UserError(
                f"{path}: it needs the columns path,label, and has {','.join(header) or 'none'}. Name them so, or "
                f"{', '.join(COLUMNS[needed][1:4])}, …, or say which it is: --column {needed}=NAME"
            )
    absent = [role for role, name in columns.items() if name is None]
    for name in () if given else header:
        if name not in columns.values() and get_close_matches(
            name.lower(), absent, cutoff=0.75
        ):  # mistyped, not a column of the user's
            raise UserError(f"{path}: unknown column '{name}'. {nearest(name.lower(), absent)}")
    for start, end in PAIRS:
        if (columns[start] is None) != (columns[end] is None):
            present, missing = (columns[start], end) if columns[end] is None else (columns[end], start)
            raise UserError(
                f"{path}: it has the column {present}, and no {missing} with it. Give a part both, or neither"
            )
    if columns["start"] is not None and columns["start_frame"] is not None:
        raise UserError(
            f"{path}: it gives parts by seconds ({columns['start']}) and by frames ({columns['start_frame']}). Leave "
            "one of the two out"
        )
    return columns


def _split_of(text: Any) -> str | None:
    """Split by any of its names; empty for an empty cell, None for any other text."""
    return SPLIT_NAMES.get(str(text or "").strip().lower()) if str(text or "").strip() else ""


def _counted_from_one(root: Path, items: list[Item]) -> tuple[list[Item], str]:
    """Count frame numbers of video files from 1, and say how they were counted; those of images are in their names."""
    numbers = [item.first_number for item in items if item.first_number is not None]
    if 0 not in numbers:
        return items, "counted from 1"
    return [
        item
        if item.first_number is None or item.last_number is None or (root / item.path).is_dir()
        else replace(item, first_number=item.first_number + 1, last_number=item.last_number + 1)
        for item in items
    ], "counted from 0, as one of them is 0"


def grouped(items: list[Item], pattern: str) -> tuple[list[Item], list[tuple[str, str]]]:
    """Take each item's group from its path by a regular expression: its first group, or the whole match.

    Returns the grouped items, and the paths without a match, with the reason. Raises UserError where nothing matches.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group '{pattern}': not a regular expression: {error}. Correct it") from None
    matched: list[Item] = []
    unmatched: list[tuple[str, str]] = []
    for item in items:
        match = expression.search(item.path)
        name = (match.group(1 if expression.groups else 0) or "") if match else ""
        if name:
            matched.append(replace(item, group=name))
        else:
            unmatched.append((item.path, f"--group '{pattern}' finds nothing in its path"))
    if not matched:
        raise UserError(
            f"--group '{pattern}': it finds nothing in any of {len(items)} paths. Correct it to fit them; the first "
            f"is '{items[0].path}'"
        )
    return matched, unmatched


def _item(path: Path, place: str, row: dict[str | Any, str | Any], columns: dict[str, str]) -> Item:
    where = f"{path}, {place}"

    def text(role: str) -> str:
        return (row.get(columns[role]) or "").strip() if role in columns else ""

    if None in row:
        raise UserError(f'{where}: more fields than the header has. Put a name with a comma in "quotes"')
    if not text("path") or not text("label"):
        raise UserError(f"{where}: path or label is empty. Fill both")
    for role, column in columns.items():
        if len(text(role)) > MOST_CHARACTERS:
            raise UserError(
                f"{where}: {column} has {len(text(role))} characters, and at most {MOST_CHARACTERS} are read. Shorten "
                "it"
            )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text("path")):
        raise UserError(
            f"{where}: '{text('path')}' is an address, and only files of this machine are read. Download it, and give "
            "the file's path"
        )
    start, end = (_seconds(text(role), columns.get(role, role), where) for role in ("start", "end"))
    if (end is not None and end <= (start or 0.0)) or (start is not None and start < 0):
        raise UserError(
            f"{where}: start {start} and end {end} enclose no part of a video. Give a start from 0, and an end after it"
        )
    first, last = (_frame(text(role), columns.get(role, role), where) for role in ("start_frame", "end_frame"))
    if (first is None) != (last is None):
        raise UserError(
            f"{where}: only one of {columns['start_frame']} and {columns['end_frame']} is filled in. Give both, or "
            "neither"
        )
    if first is not None and last is not None and not 0 <= first <= last:
        raise UserError(
            f"{where}: frames {first} to {last} are no part of a video. Give a first frame from 0, and a last one not "
            "before it"
        )
    split = _split_of(text("split"))
    if split is None:
        raise UserError(f"{where}: split is '{text('split')}'. {nearest(text('split'), SPLITS)}")
    return Item(Path(text("path")).as_posix(), text("label"), text("group"), split, start, end, first, last)


def _seconds(text: str, column: str, where: str) -> float | None:
    """Parse seconds, or hours, minutes and seconds with colons between. Raises UserError."""
    if not text:
        return None
    try:
        value = sum(float(part) * 60**power for power, part in enumerate(reversed(text.split(":"))))
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {column} is '{text}', not a number of seconds. Give seconds")
    return value


def _frame(text: str, column: str, where: str) -> int | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value.is_integer() or abs(value) >= 2**53:
        raise UserError(f"{where}: {column} is '{text}', not the number of a frame. Give a whole number")
    return int(value)
