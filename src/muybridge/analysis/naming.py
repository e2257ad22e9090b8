"""Names of videos and classes as other tools write them, found among those of a truth."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from muybridge.errors import UserError, nearest
from muybridge.text import from_spreadsheet

SHOWN = 3
"""Names that a message gives as examples."""
ARRAYS = "truth"
"""Origin of labels that were given in Python, in the order of arrays."""

_ENDING = re.compile(
    r"\.(avi|mp4|mkv|webm|mpe?g|mov|m4v|wmv|flv|3gp|m?ts|ogv|gif|jpe?g|png|bmp|webp|tiff?|npy|npz|pt|pth|pkl|pickle|h5|hdf5|mat|"
    r"csv|tsv|json|txt|parquet|feather|zip|tar)$",
    re.IGNORECASE,
)
"""Ending of a file of a video, of pictures or of numbers: of cam.left and cam.right both names count whole."""


class Names:
    """Finds videos by what other tools call them."""

    LEVELS = (
        "id",
        "path",
        "end of the path",
        "end of the path without the ending",
        "file name",
        "file name without the ending",
    )
    """Ways to match, the strictest first. All names of a file are matched in one way: the first that fits any."""

    def __init__(self, rows: np.ndarray, names: Sequence[tuple[str, ...]]) -> None:
        self.rows = rows
        self._names = [tuple(_clean(name) for name in of_video) for of_video in names]
        self._indices: dict[int, dict[str, list[int]]] = {}

    def find(self, asked: Sequence[str], where: str) -> tuple[np.ndarray, str]:
        """Rows of the truth of some names, -1 for a name without a video; and how they were matched.

        Raises UserError where a name may be two videos, or two names are one.
        """
        for level, how in enumerate(self.LEVELS):
            index = self._index(level)
            found = [self._hits(index, name, level) for name in asked]
            if not any(found):
                continue
            at = np.array([hits[0] if hits else -1 for hits in found], dtype=np.int64)
            for name, hits in zip(asked, found, strict=True):
                if len(hits) > 1:
                    one, other = (self._names[hit][0] for hit in hits[:2])
                    raise UserError(
                        f"{where}: '{name}' may be {one} or {other} (matched by the {how}). Name videos by their ids or paths "
                        "in it"
                    )
            named: dict[int, str] = {}
            for name, hits in zip(asked, found, strict=True):
                if hits and named.setdefault(hits[0], name) != name:
                    raise UserError(
                        f"{where}: '{named[hits[0]]}' and '{name}' are both {self._names[hits[0]][0]} (matched by the {how}). "
                        "Name videos by their ids or paths in it"
                    )
            return np.where(at >= 0, self.rows[at], -1), how
        return np.full(len(asked), -1, dtype=np.int64), ""

    def _index(self, level: int) -> dict[str, list[int]]:
        """Videos by each name that they have in one way of matching."""
        if level not in self._indices:
            index: dict[str, list[int]] = {}
            for number, of_video in enumerate(self._names):
                for key in {key for name in of_video[: 1 if level == 0 else None] for key in _keys(name, level)}:
                    index.setdefault(key, []).append(number)
            self._indices[level] = index
        return self._indices[level]

    @staticmethod
    def _hits(index: Mapping[str, list[int]], name: str, level: int) -> list[int]:
        """Videos of the longest part of a name that any has."""
        name = _clean(name)
        asked = [name, str(Path(name).absolute())] if level == 1 else _keys(name, level)
        return next((index[key] for key in asked if key in index), [])


def _clean(name: str) -> str:
    """A name with the separators of POSIX, no "./" in front, and letters with their accents as one sign (NFC)."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return name[2:] if name.startswith("./") else name


def _keys(name: str, level: int) -> list[str]:
    """Names by which one name is found in one way of matching, the longest first."""
    if level < 2:
        return [name]
    if level in (3, 5):
        name = _ENDING.sub("", name)
    parts = PurePosixPath(name).parts
    if level > 3:
        return list(parts[-1:])
    return ["/".join(parts[start:]).removeprefix("//") for start in range(len(parts) - 1)]


_WHOLE = re.compile(r"[0-9]{1,9}(\.0+)?")


def class_numbers(values: np.ndarray, classes: Sequence[str], where: str) -> np.ndarray:
    """Indices of classes that are given by their names or numbers; -1 for an empty one or -1.

    Raises UserError for one that is not among the classes.
    """
    option = option_of_classes(where == ARRAYS)
    numbers = class_indices(values, classes)
    strange = np.flatnonzero((numbers < 0) & ~np.isin(np.char.strip(values.astype(np.str_)), ["", "-1"]))
    if not len(strange):
        return numbers
    one = values[strange[0]]
    if count_from_one(values, classes):
        raise UserError(
            f"{where}: numbers go from 1 to {len(classes)}, and the {len(classes)} classes are 0 to {len(classes) - 1}. If they "
            f"count from 1, subtract 1, or else give the list that they are of: {option}"
        )
    if values.dtype.kind in "iu" and numbered(classes).get(0) == 0:
        raise UserError(
            f"{where}: class {one} is not among the {len(classes)} classes, which are 0 to {len(classes) - 1}. Give the list "
            f"that the numbers are of: {option}"
        )
    raise UserError(f"{where}: class '{one}' is not among the {len(classes)} classes. {nearest(str(one), classes)}")


def option_of_classes(in_python: bool) -> str:
    """The list of classes, as arrays or files are given it."""
    return "classes=[…]" if in_python else "--classes FILE"


def class_indices(values: np.ndarray, classes: Sequence[str], *, may_be_numbers: bool = True) -> np.ndarray:
    """Indices of classes that are given by their names or numbers; -1 for anything else.

    A number is the class that is called so, where all are called by numbers. `may_be_numbers`: one in text may be a number.
    """
    index, by_number = {name: number for number, name in enumerate(classes)}, numbered(classes)
    names, which = np.unique(values if values.dtype.kind in "iu" else values.astype(np.str_), return_inverse=True)
    numbers = []
    for name in names.tolist():
        if isinstance(name, int):
            number = by_number.get(name)
        else:
            number = index.get(name, index.get(from_spreadsheet(name).strip()))
            if number is None and may_be_numbers and _WHOLE.fullmatch(name):
                number = by_number.get(int(float(name)))
        numbers.append(-1 if number is None else number)
    return np.array(numbers, dtype=np.int64)[which.reshape(-1)]


def numbered(classes: Sequence[str]) -> dict[int, int]:
    """Index of each class by the number that it is called by, or by its place where classes have names."""
    if not all(re.fullmatch("[0-9]{1,9}", name) for name in classes):
        return {number: number for number in range(len(classes))}
    by_number = {int(name): number for number, name in enumerate(classes)}
    return by_number if len(by_number) == len(classes) else {}  # 1 and 01


def count_from_one(values: np.ndarray, classes: Sequence[str]) -> bool:
    """Whether numbers go from 1 to K, where classes have the places 0 to K-1."""
    texts = set(map(str, np.unique(values.astype(np.str_)).tolist())) - {"", "-1"}
    if not texts or not all(map(_WHOLE.fullmatch, texts)) or numbered(classes).get(0) != 0:
        return False
    numbers = {int(float(text)) for text in texts}
    return min(numbers) == 1 and max(numbers) == len(classes) > 1


def answered_classes(values: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Indices of the classes that were answered; -1 for one that names none of them, such as free text.

    Numbers in text are numbers of classes only where all answers are: among names a "3" names none.
    """
    known = {*classes}
    are_numbers = values.dtype.kind in "iu" or all(
        text in known or text == "-1" or _WHOLE.fullmatch(text) for text in np.unique(values.astype(np.str_)).tolist()
    )
    return class_indices(values, classes, may_be_numbers=are_numbers)


def examples(names: Sequence[str]) -> str:
    """Some names, for a message that counts them all."""
    shown = ", ".join(names[:SHOWN])
    return f"{shown}, …" if len(names) > SHOWN else shown
