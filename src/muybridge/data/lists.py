"""Official list files: a line a video. They split items that have labels already, or bring the labels themselves."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from muybridge.data.sources import Item
from muybridge.errors import UserError
from muybridge.video import DecodeError
from muybridge.video.images import series

_NUMBER = r"[\s;,]+(-?[0-9]+)"
_PART = re.compile(rf"(.*?\S){_NUMBER * 3}")
"""`path start end label`: numbers of the first and the last image."""
_COUNT = re.compile(rf"(.*?\S){_NUMBER * 2}")
"""`path num_frames label`"""


def split_lists(items: list[Item], lists: Mapping[str, Path]) -> list[Item]:
    """Items with the split that official list files give: a line a video, its path (UCF101's `Class/v_x.avi 1` too; a
    path may leave out folder or ending, or have the ending of the video that a folder of images was made of). Items in no
    list are marked unused. Raises UserError for a line that matches no video."""
    by_name: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        path = Path(item.path)
        for name in {item.path, path.name, path.stem, path.with_suffix("").as_posix()}:
            by_name.setdefault(name, []).append(index)
    splits = ["unused"] * len(items)
    for split, file in lists.items():
        for number, line in _lines(file):
            name = line
            if name not in by_name:
                name = re.sub(r"\s+-?\d+$", "", name)
            matches = by_name.get(name) or by_name.get(os.path.splitext(name)[0], [])
            if len(matches) != 1:
                raise UserError(f"{file}, line {number}: '{name}' matches {len(matches) or 'no'} videos; one is needed")
            if splits[matches[0]] not in ("unused", split):
                raise UserError(f"{file}, line {number}: '{name}' is in the list of {splits[matches[0]]} too")
            splits[matches[0]] = split
    return [replace(item, split=split) for item, split in zip(items, splits, strict=True)]


def have_labels(lists: Mapping[str, Path]) -> bool:
    """Do the lines say `path start end label`, or `path num_frames label`? (Most decide: a mistyped line is told later.)"""
    lines = [line for file in lists.values() for _, line in _lines(file)]
    return 2 * sum(_COUNT.fullmatch(line) is not None for line in lines) > len(lines)


def labelled_lists(
    root: Path, lists: Mapping[str, Path], classes: Sequence[str] | None
) -> tuple[list[Item], list[str]]:
    """Items with the label and split that list files give, and all class names in order: `classes`, or class_000,
    class_001 … for the numbers.

    A line is `path start end label` or `path num_frames label`, the path relative to the root, a folder of images or a
    video file. Raises UserError that names list and line for numbers that fit neither the folder nor the classes. A path
    where nothing (or nothing whole) is stays an item: it is told when videos are looked at.
    """
    read = [(split, f"{file}, line {number}", line) for split, file in lists.items() for number, line in _lines(file)]
    if not read:
        raise UserError(f"{', '.join(map(str, lists.values()))}: no list has a line")
    form = _form(root, [line for _, _, line in read])
    found: list[tuple[Item, int]] = []
    seen: dict[tuple[str, int | None, int | None], str] = {}
    for split, where, line in read:
        match = form.fullmatch(line)
        if match is None:
            expected = "path start end label" if form is _PART else "path num_frames label"
            raise UserError(f"{where}: '{line}' is not `{expected}` (whole numbers; labels count from 0)")
        *numbers, label = (int(number) for number in match.groups()[1:])
        if label < 0 or (classes is not None and label >= len(classes)):
            valid = "0 or more" if classes is None else f"0 to {len(classes) - 1} for {len(classes)} classes"
            raise UserError(f"{where}: label {label} is none; labels count from 0: {valid}")
        path = _relative(root, match[1], where)
        first, last = _numbers(root / path, numbers, where)
        other = seen.setdefault((path, first, last), where)
        if other != where:
            raise UserError(f"{where}: '{line}' is in {other} already")
        found.append((Item(path, "", split=split, first_number=first, last_number=last), label))
    names = dict(enumerate(classes)) if classes is not None else numbered_classes(label for _, label in found)
    return [replace(item, label=names[label]) for item, label in found], list(names.values())


def class_names(file: Path) -> list[str]:
    """Class i from line i of a file: `name`, `index name` or `name index`, indices from 0 or from 1. Raises UserError."""
    lines = _lines(file)
    if not lines:
        raise UserError(f"{file} names no classes: a line for each is expected")
    for place, (number, _) in enumerate(lines, start=1):
        if number != place:
            raise UserError(f"{file}, line {place} is empty, and would move the classes below it by one")
    names = [name for _, name in lines]
    for form in (r"(?P<index>[0-9]+)[\s,;]+(?P<name>.+)", r"(?P<name>.+?)[\s,;]+(?P<index>[0-9]+)"):
        matches = [match for name in names if (match := re.fullmatch(form, name))]
        by_index = {int(match["index"]): match["name"] for match in matches}
        if sorted(by_index) in (list(range(len(names))), list(range(1, len(names) + 1))):
            names = [by_index[index] for index in sorted(by_index)]
            break
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{file} names the class '{twice[0]}' more than once")
    return names


def numbered_classes(numbers: Iterable[int]) -> dict[int, str]:
    """Names for classes that have only a number, in their order, and as wide as keeps it."""
    distinct = sorted(set(numbers))
    digits = max(3, len(str(distinct[-1])))
    return {number: f"class_{number:0{digits}d}" for number in distinct}


def _lines(file: Path) -> list[tuple[int, str]]:
    """Numbered lines that are not empty, without the blanks around them."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _form(root: Path, lines: list[str]) -> re.Pattern[str]:
    """What most lines say. A path may end in a number (`clip 7 120 3`): then what lies in the folder decides."""
    parts = [match for line in lines if (match := _PART.fullmatch(line))]
    if 2 * len(parts) <= len(lines):
        return _COUNT
    counts = [match for line in lines if (match := _COUNT.fullmatch(line))]
    by_part, by_count = (sum(os.path.exists(root / match[1]) for match in found) for found in (parts, counts))
    return _COUNT if by_count > by_part else _PART


def _relative(root: Path, path: str, where: str) -> str:
    if not Path(path).is_absolute():
        return Path(path).as_posix()
    for base in (root.absolute(), root.resolve()):
        if Path(path).is_relative_to(base):
            return Path(path).relative_to(base).as_posix()
    raise UserError(f"{where}: '{path}' does not lie in {root}; paths are relative to it, or absolute and inside")


def _numbers(path: Path, numbers: Sequence[int], where: str) -> tuple[int | None, int | None]:
    """Numbers of the first and last frame of a part; none for a whole folder. Raises UserError for those there are not."""
    asked = f"images {numbers[0]} to {numbers[1]}" if len(numbers) == 2 else f"{numbers[0]} frames"
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise UserError(f"{where}: start {numbers[0]} comes after end {numbers[1]}")
    if not path.is_dir():
        first, last = numbers if len(numbers) == 2 else (1, numbers[0])
        if path.is_file() and not 1 <= first <= last:
            raise UserError(f"{where}: {asked} are asked for; frames of a video file count from 1")
        return first, last
    try:
        have = series(path).numbers()
    except DecodeError:  # told with the other videos that cannot be used
        return None, None
    if len(numbers) == 2:
        first, last = numbers
    else:
        first, last = have[0], have[numbers[0] - 1] if 1 <= numbers[0] <= len(have) else -1
    if not have[0] <= first <= last <= have[-1]:
        raise UserError(f"{where}: {asked} are asked for; {path} has {len(have)}, {have[0]} to {have[-1]}")
    return (None, None) if (first, last) == (have[0], have[-1]) else (first, last)
