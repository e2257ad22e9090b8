"""Lists of test videos as other tools keep them: for files of predictions that name no videos, and as a truth.

A line a video: its name, or name and class (MMAction2's videos, PySlowFast, TSN), or name, number of frames and class (raw
frames). Spaces, tabs, commas or semicolons part them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muybridge.errors import UserError
from muybridge.runtime.files import check_regular
from muybridge.storage.predictions.delimited import text_lines
from muybridge.text import plural

_NUMBERS = re.compile(r"(?P<name>.*?\S)(?P<numbers>(?:[\s,;]+-?\d+){0,2})")
"""A line: a name, and up to two numbers after it."""


@dataclass(frozen=True)
class VideoList:
    """Videos in the order of a test."""

    path: str
    names: tuple[str, ...]
    labels_N: np.ndarray | None
    """(N,) numbers of the classes; None of a list of names alone."""


def read_list(path: str | Path) -> VideoList:
    """Read a list. Raises UserError that names the line."""
    path = Path(path)
    check_regular(path)
    names: list[str] = []
    numbers: list[list[int]] = []
    first = 0
    try:
        for line, text in text_lines(path):
            match = _NUMBERS.fullmatch(text.strip())
            if match is None:
                if text.strip():
                    raise UserError(
                        f"{path}, line {line}: it names no video. Write a video and its class: clips/a.mp4 3"
                    )
                continue
            found = [int(number) for number in re.split(r"[\s,;]+", match["numbers"])[1:]]
            if any(abs(number) >= 2**31 for number in found):
                raise UserError(
                    f"{path}, line {line}: a number is too large. Write a video and its class: clips/a.mp4 3"
                )
            if numbers and len(found) != len(numbers[0]):
                raise UserError(
                    f"{path}, line {line}: it has {plural(len(found), 'number')} after the name, and line {first} has "
                    f"{len(numbers[0])}. Write all lines alike"
                )
            first = first or line
            names.append(match["name"].strip("\"'"))
            numbers.append(found)
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror}). Check its path and permissions") from None
    if not names:
        raise UserError(f"{path}: it is empty. Give a list with a line a video")
    twice = next((name for name, count in zip(*np.unique(names, return_counts=True), strict=True) if count > 1), None)
    if twice is not None:
        raise UserError(f"{path}: '{str(twice)[:80]}' is there twice. Remove one, so that each name is one video's")
    labels = np.array([found[-1] for found in numbers], dtype=np.int64) if numbers[0] else None
    return VideoList(str(path), tuple(names), labels)
