"""KTH: six actions of 25 people, split by person; 00sequences.txt cuts each video into up to four sequences."""

import re
from pathlib import PurePosixPath

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.lists import numbered_lines
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.base import Files, Lists, StandardSet
from muybridge.errors import UserError

CLASSES = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
_PEOPLE = {
    "train": (11, 12, 13, 14, 15, 16, 17, 18),
    "val": (19, 20, 21, 23, 24, 25, 1, 4),
    "test": (22, 2, 3, 5, 6, 7, 8, 9, 10),
}
"""Split of each person, as 00sequences.txt has it."""
_SPLITS = {person: split for split, people in _PEOPLE.items() for person in people}
_NAME = re.compile(rf"(?P<name>person(?P<person>\d\d)_(?P<label>{'|'.join(CLASSES)})_d\d)")

_MOST_DIGITS = 9
"""Digits of the number of a frame."""


def group(item: Item) -> str:
    """Person, the first part of a name."""
    match = _NAME.search(item.path)
    return f"person{match['person']}" if match else ""


def read(files: Files) -> Lists:
    """Read the sequences; without their list, every video is one."""
    file = files.list("00sequences.txt")
    items: list[Item] = []
    notes: list[str] = []
    if file is None:
        for path in files.videos:
            if match := _NAME.match(PurePosixPath(path).name):
                items.append(_item(match, path))
        notes.append("00sequences.txt is not there: every video is one sequence, its pauses included")
    for line, text in numbered_lines(file) if file else []:
        match = _NAME.match(text)
        if match is None:
            continue  # the text above the list
        name = f"{match['name']}_uncomp" if files.has(f"{match['name']}_uncomp") else match["name"]
        for first, last in re.findall(r"(\d+)\s*-\s*(\d+)", text[match.end() :]):
            if max(len(first), len(last)) > _MOST_DIGITS:
                raise UserError(f"{file}, line {line}: '{first[:9]}…-{last[:9]}…' are no frames. Restore the list")
            if int(first) > int(last):
                notes.append(f"{file}, line {line}: frames {first}-{last} of {name} are no sequence and left out")
            else:
                items.append(_item(match, name, int(first), int(last)))
    present = {item.label for item in items}
    return Lists(items, [name for name in CLASSES if name in present], notes=notes)


def _item(match: re.Match[str], path: str, first: int | None = None, last: int | None = None) -> Item:
    split = _SPLITS.get(int(match["person"]), "unused")
    return Item(path, match["label"], split=split, first_number=first, last_number=last)


SET = StandardSet(
    name="kth",
    title="KTH",
    source="Schüldt, Laptev, Caputo 2004",
    page="""
Get boxing.zip, handclapping.zip, handwaving.zip, jogging.zip, running.zip, walking.zip and 00sequences.txt from
https://www.csc.kth.se/cvap/actions/ and unpack each:

  boxing/person01_boxing_d1_uncomp.avi …
  00sequences.txt   (first and last frame of every sequence)
""",
    protocol="One official split by person: 8 train, 8 validation, 9 test. A group is a person.",
    num_classes=6,
    counts={"videos": 2_391},
    read=read,
    group=group,
    ungrouped="personNN_CLASS_dN",
    archives=(
        *(Archive((f"https://www.csc.kth.se/cvap/actions/{name}.zip",), name) for name in CLASSES),
        Archive(("https://www.csc.kth.se/cvap/actions/00sequences.txt",), ""),
    ),
)
