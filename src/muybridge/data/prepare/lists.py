"""Official list files, a line for each video: they split labelled items, or bring the labels themselves.

A line is `path`, `path label`, `path num_frames label` or `path start end label`, separated by blanks, tabs, commas or
semicolons.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from muybridge.data.prepare.folders import AUTO, MOST_CHARACTERS, Item, class_folders, walk
from muybridge.errors import UserError
from muybridge.text import plural
from muybridge.video import DecodeError
from muybridge.video.images import series

_NUMBER = r"[\s;,]+(-?[0-9]{1,15})"
_PART = re.compile(rf"(.*?[^\s;,]){_NUMBER * 3}")
"""`path start end label`: numbers of the first and the last image."""
_COUNT = re.compile(rf"(.*?[^\s;,]){_NUMBER * 2}")
"""`path num_frames label`"""
_LABELLED = re.compile(r"(.*?[^\s;,])[\s;,]+([^\s;,]\S*)")
"""`path label`"""

MOSTLY = 0.75
"""Share of lines whose label and class folder agree above which the others are mistakes."""


@dataclass(frozen=True)
class Line:
    """A line of a list, matched to an item."""

    item: Item
    label: str
    """Label in the line, a number or a name; empty where it has none."""
    where: str
    """File and line."""


Names = Sequence[str] | Mapping[int, str]
"""Names of classes, by their position or by their numbers in a file."""


def split_lists(items: list[Item], lists: Mapping[str, Path]) -> list[Item]:
    """Split items by official list files; those in no list are unused.

    Labels in a line (UCF101's `Class/v_x.avi 1`) must separate the items as the items' labels do. Raises UserError for a
    line that matches no video.
    """
    lines = _matched(items, lists)
    _check_labels(lines, {line.item.path: line.item.label for line in lines})
    splits = {line.item.id: line.item.split for line in lines}
    return [replace(item, split=splits.get(item.id, "unused")) for item in items]


def have_labels(lists: Mapping[str, Path]) -> bool:
    """Whether most lines are `path start end label` or `path num_frames label`; a mistyped one is reported later."""
    lines = [line for file in lists.values() for _, line in numbered_lines(file)]
    return 2 * sum(_COUNT.fullmatch(line) is not None for line in lines) > len(lines)


def listed_videos(
    root: Path, lists: Mapping[str, Path], classes: Names | None, *, layout: str = AUTO
) -> tuple[list[Item], list[str], list[tuple[str, str]], list[str]]:
    """Split the videos below `root` by lists of `path` or `path label`.

    Returns (items, class names in order, strays, warnings). The label is the class where lines have labels; where each
    label belongs to one folder, the folder gives its name (unless `classes` does). Where no line has one, the class
    folder is the class. Raises UserError for a line that matches no video, and for one whose label and class folder
    contradict each other.
    """
    paths, strays = walk(root)
    candidates = [Item(path.as_posix(), path.parts[0] if len(path.parts) > 1 else "") for path in paths]
    lines = _matched(candidates, lists)
    if len({line.label for line in lines} - {""}) < 2:  # (a 1 behind every path is no label)
        if classes is not None:
            raise UserError(
                f"--classes: {', '.join(map(str, lists.values()))} have no labels that it could name. Leave --classes "
                "out, or add labels to the lists"
            )
        labelled, strays = class_folders(root, layout)
        return split_lists(labelled, lists), sorted({item.label for item in labelled}), strays, []
    if all(re.fullmatch(r"-?[0-9]+(\.0+)?", line.label) for line in lines if line.label):  # 3.0, as tables write 3
        lines = [replace(line, label=line.label.partition(".")[0]) for line in lines]
    folders = {line.item.path: line.item.label for line in lines}
    are_classes = _check_labels(lines, folders)
    names, order = _names(lines, classes, folders if are_classes else {})
    items = []
    for line in lines:
        label = names.get(line.label, "")
        if not line.label and (are_classes and folders[line.item.path] in order):
            label = folders[line.item.path]
        if not label:
            raise UserError(
                f"{line.where}: '{line.item.path}' has no label, and its folder is not among the classes of other "
                "lines. Add its label"
            )
        items.append(replace(line.item, label=label))
    _check_named_folders(lines, items, folders)
    listed = {item.path for item in items}
    left = [item for item in candidates if item.path not in listed]
    if are_classes:
        items += [replace(item, split="unused") for item in left if item.label in order]
        left = [item for item in left if item.label not in order]
    warnings = (
        [f"{len(left)} files below {root} are in no list and left out (the first: {left[0].path})"] if left else []
    )
    return sorted(items, key=lambda item: (order.index(item.label), item.path)), order, strays, warnings


def labelled_lists(root: Path, lists: Mapping[str, Path], classes: Names | None) -> tuple[list[Item], list[str]]:
    """Items with label and split from list files, and all class names in order.

    The names are `classes`, or class_000, class_001, …. A line is `path start end label` or `path num_frames label`, the
    path relative to the root, a folder of images or a video file. Raises UserError that names list and line for numbers
    that fit neither the folder nor the classes, and for a label that contradicts the class folder. A missing or damaged
    path stays an item: the inspection of videos reports it.
    """
    read = [
        (split, f"{file}, line {number}", line) for split, file in lists.items() for number, line in _list_lines(file)
    ]
    form = _form(root, [line for _, _, line in read])
    parsed: list[tuple[str, str, str, list[int], int]] = []
    for split, where, line in read:
        match = form.fullmatch(line)
        if match is None:
            expected = "path start end label" if form is _PART else "path num_frames label"
            raise UserError(f"{where}: '{line}' is not `{expected}`. Give whole numbers, and count labels from 0")
        *numbers, label = (int(number) for number in match.groups()[1:])
        parsed.append((split, where, match[1], numbers, label))
    by_number = None if classes is None else names_by_number(classes, {label for *_, label in parsed})
    lines: list[Line] = []
    seen: dict[tuple[str, int | None, int | None], str] = {}
    for (split, where, name, numbers, label), (_, _, line) in zip(parsed, read, strict=True):
        if label < 0 or (by_number is not None and label not in by_number):
            valid = "0 or more" if by_number is None else f"0 to {len(by_number) - 1} for {len(by_number)} classes"
            raise UserError(f"{where}: label {label} is out of range. Count labels from 0: {valid}")
        path = _relative(root, name, where)
        first, last = _numbers(root / path, numbers, where)
        other = seen.setdefault((path, first, last), where)
        if other != where:
            raise UserError(f"{where}: '{line}' is in {other} already. Remove one of the two")
        lines.append(Line(Item(path, "", split=split, first_number=first, last_number=last), str(label), where))
    folders = {line.item.path: line.item.path.partition("/")[0] for line in lines if "/" in line.item.path}
    _check_labels(lines, folders)
    names = by_number or numbered_classes(int(line.label) for line in lines)
    items = [replace(line.item, label=names[int(line.label)]) for line in lines]
    _check_named_folders(lines, items, folders)
    return items, list(names.values())


def class_names(file: Path) -> Names:
    """Read the names of classes from a file: lines of `name`, `index name` or `name index`, indices from 0 or 1.

    Raises UserError.
    """
    lines = numbered_lines(file)
    if not lines:
        raise UserError(f"{file}: it names no classes. Write a line for each")
    for expected, (number, _) in enumerate(lines, start=1):
        if number != expected:
            raise UserError(
                f"{file}, line {expected}: it is empty, and would move the classes below it by one. Fill it, or "
                "remove it"
            )
    names: Names = [name for _, name in lines]
    for form in (r"(?P<index>[0-9]{1,15})[\s,;]+(?P<name>.+)", r"(?P<name>.+?)[\s,;]+(?P<index>[0-9]{1,15})"):
        matches = [match for _, name in lines if (match := re.fullmatch(form, name))]
        by_index = {int(match["index"]): match["name"] for match in matches}
        if sorted(by_index) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            names = {index: by_index[index] for index in sorted(by_index)}
            break
    values = list(names.values() if isinstance(names, Mapping) else names)
    twice = [name for name, count in Counter(values).items() if count > 1]
    if twice:
        raise UserError(f"{file}: it names the class '{twice[0]}' more than once. Name each class once")
    return names if isinstance(names, Mapping) and 0 not in names else values


def in_order(names: Names) -> list[str]:
    """Names of classes in their order, whatever their numbers."""
    return list(names.values() if isinstance(names, Mapping) else names)


def numbered_classes(numbers: Iterable[int]) -> dict[int, str]:
    """Names for classes that have only a number, padded so that they sort in its order."""
    distinct = sorted(set(numbers))
    digits = max(3, len(str(distinct[-1])))
    return {number: f"class_{number:0{digits}d}" for number in distinct}


def names_by_number(names: Names, numbers: set[int]) -> dict[int, str]:
    """Names by the labels' numbers, counted from 0, or from 1 where both the labels and the file of names do so.

    Raises UserError where that is left open.
    """
    ordered = in_order(names)
    from_zero, from_one = dict(enumerate(ordered)), dict(enumerate(ordered, start=1))
    if not isinstance(names, Mapping) or not numbers or 0 in numbers:
        return from_zero
    if max(numbers) == len(ordered) and min(numbers) >= 1:
        return from_one
    if max(numbers) < len(ordered) and min(numbers) >= 1:
        raise UserError(
            f"--classes: the file numbers classes from 1, but labels run from {min(numbers)} to {max(numbers)} and "
            "may count from 0 or from 1. If from 0: leave the numbers out of the file. If from 1: name only the "
            "classes that occur, or take lists in which the last one occurs"
        )
    return from_zero


def _names(
    lines: Sequence[Line], classes: Names | None, folders: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Name of each label, and all names in order. Raises UserError for a label that is not a class."""
    labels = {line.label: line.where for line in lines if line.label}
    are_numbers = all(re.fullmatch(r"-?[0-9]{1,15}", label) for label in labels)
    if not are_numbers:
        order = in_order(classes) if classes is not None else sorted(labels)
        for label, where in labels.items():
            if label not in order:
                raise UserError(
                    f"{where}: label '{label}' is not among the classes. Correct it, or add it to the classes"
                )
        return {label: label for label in labels}, order
    numbers = {int(label) for label in labels}
    if classes is not None:
        by_number = names_by_number(classes, numbers)
        for label, where in labels.items():
            if int(label) not in by_number:
                raise UserError(
                    f"{where}: label {label} is out of range. Count labels from 0 to {len(by_number) - 1}, or from 1 "
                    "where the file of classes numbers them so (1 name)"
                )
        return {label: by_number[int(label)] for label in labels}, list(by_number.values())
    if folders:
        named = {line.label: folders[line.item.path] for line in lines if line.label}
        return named, [named[label] for label in sorted(named, key=int)]
    made = numbered_classes(numbers)
    return {label: made[int(label)] for label in labels}, list(made.values())


def _check_labels(lines: Sequence[Line], folders: Mapping[str, str]) -> bool:
    """Whether each label belongs to one folder, and each folder to one label.

    Raises UserError for the line that contradicts that, where most do not.
    """
    pairs = [(line, folders[line.item.path]) for line in lines if line.label and folders.get(line.item.path)]
    if len({line.label for line, _ in pairs}) < 2:
        return False
    of_label: defaultdict[str, Counter[str]] = defaultdict(Counter)
    of_folder: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line, folder in pairs:
        of_label[line.label][folder] += 1
        of_folder[folder][line.label] += 1
    usual = {label: counts.most_common(1)[0][0] for label, counts in of_label.items()}
    usual_label = {folder: counts.most_common(1)[0][0] for folder, counts in of_folder.items()}
    others = [
        (line, folder) for line, folder in pairs if usual[line.label] != folder or usual_label[folder] != line.label
    ]
    if not others:
        return len({line.label for line in lines if line.label}) == len(of_label)
    if len(pairs) - len(others) >= MOSTLY * len(pairs):
        line, folder = others[0]
        raise UserError(
            f"{line.where}: '{line.item.path}' lies in {folder}, but has the label {line.label}, which is that of "
            f"{usual[line.label]} in {of_label[line.label][usual[line.label]]} other lines. Correct one of the two"
        )
    return False


def _check_named_folders(lines: Sequence[Line], items: Sequence[Item], folders: Mapping[str, str]) -> None:
    """Raises UserError for a line whose class has another name than its folder.

    That is a mistake where the folder has the name of another class, or where most folders have the name of their class.
    """
    pairs = [
        (line, item, folders[item.path]) for line, item in zip(lines, items, strict=True) if folders.get(item.path)
    ]
    classes = {_plain(item.label) for item in items}
    others = [one for one in pairs if _plain(one[1].label) != _plain(one[2])]
    wrong = (
        others
        if len(pairs) - len(others) >= MOSTLY * len(pairs)
        else [one for one in others if _plain(one[2]) in classes]
    )
    if wrong:
        line, item, folder = wrong[0]
        more = f" ({plural(len(wrong) - 1, 'more line')} like it)" if len(wrong) > 1 else ""
        raise UserError(
            f"{line.where}: '{item.path}' has the label of {item.label}, but lies in {folder}{more}. Correct one of "
            "the two"
        )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()


def _matched(items: Sequence[Item], lists: Mapping[str, Path]) -> list[Line]:
    """Match lines of `path` or `path label` to items, each with its split.

    A path may leave out folder or extension, or have the extension of the video that a folder of images was made of.
    Raises UserError for a line that matches no video, or more than one, and for a video in two lists.
    """
    by_name: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        path = Path(item.path)
        for name in {item.path, path.name, path.stem, path.with_suffix("").as_posix()}:
            by_name.setdefault(name, []).append(index)

    def matches_of(name: str) -> list[int]:
        name = name.removeprefix("./")
        without, ending = os.path.splitext(name)
        return by_name.get(name) or ([] if re.search(r"[\s;,|:]", ending) else by_name.get(without, []))

    matched: dict[int, Line] = {}
    for split, file in lists.items():
        for number, line in _list_lines(file):
            where, name, label = f"{file}, line {number}", line, ""
            matches = matches_of(name)
            labelled = _LABELLED.fullmatch(line)
            if not matches and labelled is not None:
                name, label = labelled[1], labelled[2]
                matches = matches_of(name)
            if len(matches) != 1:
                raise UserError(
                    f"{where}: '{name}' matches {len(matches) or 'no'} videos; one is needed. Write `path` or `path "
                    "label`, with a blank, a tab, a comma or a semicolon between them"
                )
            item = items[matches[0]]
            before = matched.get(matches[0])
            if before is not None and before.item.split != split:
                raise UserError(
                    f"{where}: '{name}' is in the list of {before.item.split} too. Remove it from one of them"
                )
            if before is not None and before.label != label:
                raise UserError(
                    f"{where}: '{name}' has the label {label or '(none)'}, and {before.label} in {before.where}. "
                    "Correct one of the two"
                )
            matched[matches[0]] = Line(replace(item, split=split), label, where)
    return list(matched.values())


def _list_lines(file: Path) -> list[tuple[int, str]]:
    """Numbered lines of a list of videos. Raises UserError for an empty one."""
    lines = numbered_lines(file)
    if not lines:
        raise UserError(f"{file}: it is empty. Write a line for each video, or leave the list out")
    return lines


def numbered_lines(file: Path) -> list[tuple[int, str]]:
    """Numbered lines that are not empty, without the blanks around them. Raises UserError."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: it cannot be read: {error}. Check its path, and save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if len(line) > MOST_CHARACTERS:
            raise UserError(
                f"{file}, line {number}: it has {len(line):,} characters, and at most {MOST_CHARACTERS:,} are read. Shorten it"
            )
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _form(root: Path, lines: list[str]) -> re.Pattern[str]:
    """Form of most lines. A path may end in a number (`clip 7 120 3`): then the existing files decide."""
    parts = [match for line in lines if (match := _PART.fullmatch(line))]
    if 2 * len(parts) <= len(lines):
        return _COUNT
    counts = [match for line in lines if (match := _COUNT.fullmatch(line))]
    by_part, by_count = (sum(os.path.exists(root / match[1]) for match in matches) for matches in (parts, counts))
    return _COUNT if by_count > by_part else _PART


def _relative(root: Path, path: str, where: str) -> str:
    if not Path(path).is_absolute():
        return Path(path).as_posix()
    for base in (root.absolute(), root.resolve()):
        if Path(path).is_relative_to(base):
            return Path(path).relative_to(base).as_posix()
    raise UserError(f"{where}: '{path}' does not lie in {root}. Give paths relative to it, or absolute ones inside")


def _numbers(path: Path, numbers: Sequence[int], where: str) -> tuple[int | None, int | None]:
    """Numbers of the first and last frame of a part, None for a whole folder. Raises UserError for missing frames."""
    asked = f"images {numbers[0]} to {numbers[1]}" if len(numbers) == 2 else f"{numbers[0]} frames"
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise UserError(f"{where}: start {numbers[0]} comes after end {numbers[1]}. Correct the numbers")
    if not path.is_dir():
        first, last = numbers if len(numbers) == 2 else (1, numbers[0])
        if path.is_file() and not 1 <= first <= last:
            raise UserError(f"{where}: {asked} are asked for. Count frames of a video file from 1")
        return first, last
    try:
        have = series(path).numbers()
    except DecodeError:  # reported with the other videos that cannot be used
        return None, None
    if len(numbers) == 2:
        first, last = numbers
    else:
        first, last = have[0], have[numbers[0] - 1] if 1 <= numbers[0] <= len(have) else -1
    if not have[0] <= first <= last <= have[-1]:
        raise UserError(
            f"{where}: {asked} are asked for, but {path} has {len(have)}, {have[0]} to {have[-1]}. Correct the numbers"
        )
    return (None, None) if (first, last) == (have[0], have[-1]) else (first, last)
