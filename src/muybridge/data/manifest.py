"""The manifest of a data set: one row for each video or labelled part of one (format: docs/formats.md).

`NAME.csv` holds the rows; `NAME.csv.json` beside it holds the ordered classes, the root of the paths and the mirrored
labels. In memory the columns are fixed-width arrays: 240,000 rows take tens of megabytes and pickle at copying speed.
"""

import csv
import hashlib
import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError, nearest
from muybridge.runtime.files import check_regular, csv_text, read_json, write_together
from muybridge.video import Row

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test", "unused")

FLOW = "flow "
"""Beginning of `made_by` of a store of flow; its options follow."""

_TEXT = ("id", "path", "label", "group", "sha256")
_INTEGERS = ("start_frame", "num_frames", "width", "height", "seekable")
COLUMNS = ("id", "path", "start_frame", "num_frames", "label", "group", "fps", "width", "height", "sha256")
OPTIONAL = {"seekable": 0}
"""Columns that may be missing, with their values then."""
LARGEST = 2**53
"""Larger numbers are not exact in every program that edits tables."""
_UNESCAPED = (string.digits + string.ascii_letters + string.punctuation + " ").translate({39: None, 92: None}).encode()
"""Characters that stand for themselves where Python writes bytes: printable ASCII but the quote ' and the backslash."""


@dataclass(frozen=True)
class Manifest:
    """N rows as columns. Text is kept as UTF-8 bytes; read it with `text`."""

    columns: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    """Class i of every model trained on it is `classes[i]`."""
    root: Path
    """Paths are relative to it."""
    mirror: Mapping[str, str] | None = field(default_factory=dict)
    """Labels of mirrored videos; a class that is not listed keeps its label. None: no label names what a mirrored video
    shows, so training must not mirror."""
    reversed_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of classes that only the direction of time tells apart."""
    made_by: str = ""
    """Hash of the network and the options that computed the vectors of a store, or the options of a store of flow; empty for
    videos."""
    official_splits: bool = False
    """Whether the folds are official splits of one set, as UCF101 has three: a video may be trained on in one and tested in
    another, or in several, and the mean over splits is reported."""

    def __len__(self) -> int:
        return len(self.columns["id"])

    @property
    def split_columns(self) -> tuple[str, ...]:
        """Names of the split columns, in their order in the file."""
        return tuple(name for name in self.columns if _is_split(name))

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the folds; empty for a manifest with one split."""
        return tuple(int(name.removeprefix("split_")) for name in self.split_columns if name != "split")

    def text(self, column: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Decode a text column, or some of its rows."""
        return np.char.decode(self.columns[column][rows], "utf-8")

    def plain_columns(self) -> dict[str, np.ndarray]:
        """Copy of the columns for `from_columns`, text as Python strings of any length."""
        return {
            name: self.text(name).astype(object) if column.dtype.kind == "S" else column.copy()
            for name, column in self.columns.items()
        }

    def labels(self) -> np.ndarray:
        """Class index of every row, (N,)."""
        index = {name.encode(): i for i, name in enumerate(self.classes)}
        return np.fromiter(map(index.__getitem__, self.columns["label"].tolist()), np.int64, len(self))

    def mirrored_labels(self) -> np.ndarray | None:
        """Class index of each class when mirrored, (K,); None where mirroring is off."""
        if self.mirror is None:
            return None
        return np.array([self.classes.index(self.mirror.get(name, name)) for name in self.classes], dtype=np.int64)

    def row(self, index: int) -> Row:
        """One row, as readers take it."""
        columns = self.columns
        return Row(
            id=columns["id"][index].decode(),
            path=str(self.root / columns["path"][index].decode()),
            start_frame=int(columns["start_frame"][index]),
            num_frames=int(columns["num_frames"][index]),
            fps=float(columns["fps"][index]),
            seekable=bool(columns["seekable"][index]),
        )

    def split(self, name: str, fold: int | None = None) -> np.ndarray:
        """Indices of the rows of one split. Raises UserError for a fold that the manifest lacks."""
        column = "split" if fold is None else f"split_{fold}"
        if column not in self.columns:
            if fold is None:
                raise UserError(
                    f"--fold: this manifest has {len(self.folds)} folds. Choose one (in a recipe: data.fold)"
                )
            have = f"folds {', '.join(map(str, self.folds))}" if self.folds else "one split and no folds"
            raise UserError(f"--fold: this manifest has no fold {fold}, but {have}. Choose what it has")
        return np.flatnonzero(self.columns[column] == name.encode())

    @cached_property
    def array_paths(self) -> tuple[str, ...]:
        """Distinct paths of the rows that name arrays (`.npy` files, datasets of HDF5 files), whatever these hold."""
        paths = self.columns["path"]
        is_array = np.char.endswith(paths, b".npy") | (np.char.find(paths, b".h5::") >= 0)
        return tuple(str(self.root / path) for path in np.char.decode(np.unique(paths[is_array]), "utf-8").tolist())

    def sha256(self) -> str:
        """Hash of everything that can change a result: the videos' content, parts, labels, groups, splits, classes, mirroring.

        Paths and reading speed are left out.
        """
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        about = [self.classes, self.mirror, FORMAT_VERSION, *([self.made_by] if self.made_by else [])]
        digest = hashlib.sha256(json.dumps(about).encode())
        for name in sorted(self.columns.keys() - {"path", "seekable"}):
            digest.update(name.encode() + b"\0" + _hashed(self.columns[name]))
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write `path` (CSV) and the JSON beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        names = [*COLUMNS, *OPTIONAL, *self.split_columns]
        plain = [
            self.text(n).tolist() if self.columns[n].dtype.kind == "S" else self.columns[n].tolist() for n in names
        ]
        folder = path.parent.resolve()
        inside = self.root.resolve().is_relative_to(folder)
        about = {
            "format_version": FORMAT_VERSION,
            "root": self.root.resolve().relative_to(folder).as_posix() if inside else str(self.root.resolve()),
            "classes": list(self.classes),
            "mirror": None if self.mirror is None else dict(self.mirror),
            "reversed_pairs": [list(pair) for pair in self.reversed_pairs],
            **({"made_by": self.made_by} if self.made_by else {}),
            **({"official_splits": True} if self.official_splits else {}),
        }
        rows = csv_text([names, *zip(*plain, strict=True)])
        write_together({path: rows, path.with_suffix(".csv.json"): json.dumps(about, indent=2) + "\n"})

    @staticmethod
    def load(path: str | Path) -> "Manifest":
        """Read and check a manifest, which may have been edited by hand.

        A folder stands for the `manifest.csv` in it, as in a pack. Raises UserError that names file, row and field.
        """
        path = Path(path)
        if (path / "manifest.csv").is_file():
            path = path / "manifest.csv"
        return _load(path, _stamps(path))


def _stamps(path: Path) -> tuple[tuple[int, ...], ...]:
    """Stamps of a manifest's two files, which change when a file does."""
    files = [file for file in (path, path.with_suffix(".csv.json")) if file.exists()]
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in (file.stat() for file in files))


@lru_cache(maxsize=4)  # one command reads a set once, however many runs and verbs ask for it
def _load(path: Path, stamps: tuple[tuple[int, ...], ...]) -> Manifest:
    about = _read_about(path)
    check_regular(path)
    table = _plain_table(path)
    header, lines = (list(table), []) if table else _csv_lines(path)
    missing = [name for name in COLUMNS if name not in header]
    if missing or not any(map(_is_split, header)):
        needed = ", ".join(missing or ["split"])
        raise UserError(
            f"{path}: it lacks the column {needed}. Make it with `muybridge prepare`, or add the column "
            "(docs/formats.md)"
        )
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(line)} fields where the header has {len(header)}. Correct the line"
            )
    if not (table or lines):
        raise UserError(f"{path}: it has no rows. Make it again: muybridge prepare")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise UserError(f"{path}: it has the column {twice[0]} more than once. Rename or remove one")
    table = table or {name: [line[i] for line in lines] for i, name in enumerate(header)}
    root = Path(about["root"])
    manifest = from_columns(
        {name: _parse(path, name, table[name]) for name in header if name in (*COLUMNS, *OPTIONAL) or _is_split(name)},
        classes=about["classes"],
        root=root if root.is_absolute() else (path.resolve().parent if path.is_symlink() else path.parent) / root,
        mirror=about["mirror"],
        reversed_pairs=about["reversed_pairs"],
        made_by=about.get("made_by", ""),
        official_splits=about.get("official_splits", False),
        where=str(path),
    )
    for column in manifest.columns.values():
        column.flags.writeable = False  # others have it, too
    return manifest


def from_columns(
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    *,
    classes: Iterable[str],
    root: Path,
    mirror: Mapping[str, str] | None,
    reversed_pairs: Iterable[Sequence[str]] = (),
    made_by: str = "",
    official_splits: bool = False,
    where: str = "manifest",
) -> Manifest:
    """Make a checked manifest from columns; text is `str`, or an array of UTF-8 bytes.

    `where` names it in errors. Raises UserError.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if name in _TEXT or name.startswith("split"):
            if isinstance(values, np.ndarray) and values.dtype.kind == "S":
                arrays[name] = values
            else:
                arrays[name] = np.char.encode(np.asarray(values, dtype=np.str_), "utf-8")
        else:
            arrays[name] = np.asarray(values, dtype=np.int64 if name in _INTEGERS else np.float64)
    for name, value in OPTIONAL.items():
        arrays.setdefault(name, np.full(len(arrays["id"]), value, dtype=np.int64))
    pairs = tuple((str(a), str(b)) for a, b in reversed_pairs)
    manifest = Manifest(arrays, tuple(classes), root, mirror, pairs, made_by, official_splits)
    _check(manifest, where)
    return manifest


def _read_about(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path}: no such manifest. Make one: muybridge prepare FOLDER --out {path}")
    for noun in ("pack", "frames", "features", "flow"):
        if (path / f"{noun}.json").exists():
            raise UserError(f"{path}: `muybridge {noun}` has not finished it. Rerun the same command to resume")
    if path.is_dir():
        raise UserError(
            f"{path}: it is a folder. Make a manifest of it: muybridge prepare {path} --out {path.name}.csv"
        )
    beside = path.with_suffix(".csv.json")
    if path.suffix != ".csv" or not beside.exists():
        raise UserError(
            f"{path}: not a manifest, which is NAME.csv with NAME.csv.json beside it. Make one of a plain list of "
            "path,label: muybridge prepare --csv"
        )
    about = read_json(beside)
    if not isinstance(about, dict) or about.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{beside}: not the JSON of a manifest of format_version {FORMAT_VERSION}. Make the manifest again: "
            "muybridge prepare"
        )
    expected: dict[str, Any] = {"root": str, "classes": list, "mirror": (dict, type(None)), "reversed_pairs": list}
    for name, kind in expected.items():
        if name not in about or not isinstance(about[name], kind):
            raise UserError(f"{beside}: '{name}' is missing or of the wrong type. Correct it (docs/formats.md)")
    if not isinstance(about.get("made_by", ""), str):
        raise UserError(f"{beside}: 'made_by' is not text. Correct it (docs/formats.md)")
    if not isinstance(about.get("official_splits", False), bool):
        raise UserError(f"{beside}: 'official_splits' is not true or false. Correct it (docs/formats.md)")
    pairs = [*about["reversed_pairs"], *map(list, (about["mirror"] or {}).items())]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise UserError(f"{beside}: 'reversed_pairs' is not a list of pairs of classes. Correct it (docs/formats.md)")
    if not all(isinstance(name, str) for name in [*about["classes"], *(name for pair in pairs for name in pair)]):
        raise UserError(f"{beside}: a name of a class is not text. Put names in quotes (docs/formats.md)")
    return about


def _is_split(column: str) -> bool:
    """Whether a column is `split`, `split_1`, `split_2`, …; other columns are the user's."""
    return re.fullmatch(r"split(_[1-9][0-9]*)?", column) is not None


def _plain_table(path: Path) -> dict[str, list[str]] | None:
    """The columns of a CSV without quotes, each row as long as the header; None for any other file.

    One split of the whole text is several times as fast as `csv.reader`, which reads (and judges) all other files.
    """
    data = path.read_bytes()
    if b'"' in data or b"\r" in data:
        return None
    try:
        lines = data.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return None
    header = lines[0].split(",")
    is_even = {line.count(",") for line in lines} == {len(header) - 1}
    if (
        not is_even
        or len(lines) == 1
        or len(set(header)) < len(header)
        or max(map(len, lines)) > csv.field_size_limit()
    ):
        return None
    fields = ",".join(lines[1:]).split(",")
    return {name: fields[i :: len(header)] for i, name in enumerate(header)}


def _csv_lines(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows that are not empty. Raises UserError for a file that is not a CSV."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            return next(reader, []), [line for line in reader if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV text file: {error}. Save it as CSV in UTF-8") from None


def _parse(path: Path, name: str, values: Sequence[str]) -> np.ndarray:
    """A column as an array: UTF-8 bytes, int64 or float64. Raises UserError with the line of the first bad number."""
    if name in _TEXT or name.startswith("split"):
        try:
            return np.array(values, dtype=np.bytes_)
        except UnicodeEncodeError:  # not ASCII
            return np.array([value.encode() for value in values], dtype=np.bytes_)
    kind, dtype = (int, np.int64) if name in _INTEGERS else (float, np.float64)
    try:
        parsed: np.ndarray = np.fromiter(map(kind, values), dtype, len(values))
    except (ValueError, OverflowError):
        _check_numbers(path, name, values)
        raise
    if ((parsed > LARGEST) | (parsed < -LARGEST)).any():
        _check_numbers(path, name, values)
    return parsed


def _check_numbers(path: Path, name: str, values: Sequence[str]) -> None:
    """Raises UserError for the first value that is not a number, or is too large."""
    kind = int if name in _INTEGERS else float
    for number, value in enumerate(values, start=2):
        try:
            is_too_large = abs(kind(value)) > LARGEST
        except ValueError:
            raise UserError(f"{path}, line {number}: {name} is '{value}', not a number. Give a number") from None
        if is_too_large:
            raise UserError(f"{path}, line {number}: {name} is '{value}', too large. Give at most {LARGEST}")


def _hashed(column: np.ndarray) -> bytes:
    """The values as `str` writes them (bytes as b'…', escapes included), with zero bytes between: what the hash covers."""
    values = column.tolist()
    if column.dtype.kind == "S":
        joined = b"\0".join(values)
        if joined.translate(None, _UNESCAPED) == b"\0" * (len(values) - 1):
            return b"b'" + joined.replace(b"\0", b"'\0b'") + b"'"
    if column.dtype.kind == "i":
        numbers, inverse = np.unique(column, return_inverse=True)
        texts = list(map(str, numbers.tolist()))
        return "\0".join(map(texts.__getitem__, inverse.tolist())).encode()
    return "\0".join(map(str, values)).encode()


def _check(manifest: Manifest, where: str) -> None:
    columns = manifest.columns
    classes = set(manifest.classes)
    if len(classes) < len(manifest.classes):
        raise UserError(f"{where}: a class is named twice ({', '.join(manifest.classes)}). Name each class once")
    is_trained_on = any((columns[name] == b"train").any() for name in manifest.split_columns)
    if len(classes) < (2 if is_trained_on else 1):
        raise UserError(
            f"{where}: a classifier needs at least two classes, here is {len(classes)}. Add videos of another class"
        )
    labels = columns["label"].tolist()
    unknown_labels = {label for label in set(labels) if label.decode() not in classes}
    if unknown_labels:
        index = next(i for i, label in enumerate(labels) if label in unknown_labels)
        label = labels[index].decode()
        raise UserError(
            f"{where}, line {index + 2}: label '{label}' is not among the classes. {nearest(label, classes)}"
        )
    if len(set(columns["id"].tolist())) < len(manifest):
        ids, counts = np.unique(columns["id"], return_counts=True)
        raise UserError(
            f"{where}: the id '{ids[counts > 1][0].decode()}' occurs more than once. Give each row an id of its own"
        )
    if (columns["num_frames"] < 1).any() or (columns["start_frame"] < 0).any() or not (columns["fps"] > 0).all():
        bad = (columns["num_frames"] < 1) | (columns["start_frame"] < 0) | ~(columns["fps"] > 0)
        line = int(np.flatnonzero(bad)[0]) + 2
        raise UserError(
            f"{where}, line {line}: num_frames, start_frame or fps is out of range. Give num_frames ≥ 1, start_frame "
            "≥ 0 and fps > 0"
        )
    for a, b in [*manifest.reversed_pairs, *(manifest.mirror or {}).items()]:
        for name in (a, b):
            if name not in classes:
                raise UserError(
                    f"{where}: '{name}' in mirror or reversed_pairs is not a class. {nearest(name, classes)}"
                )
    for column in manifest.split_columns:
        splits = columns[column].tolist()
        unknown_splits = set(splits) - {name.encode() for name in SPLITS}
        if unknown_splits:
            index = next(i for i, split in enumerate(splits) if split in unknown_splits)
            raise UserError(
                f"{where}, line {index + 2}: {column} is '{splits[index].decode()}'. Choose from {', '.join(SPLITS)}"
            )
        _check_groups(manifest, column, where)


def _check_groups(manifest: Manifest, column: str, where: str) -> None:
    """Raises UserError for the first row whose group lies in another split already; unused rows are in none."""
    groups, splits = manifest.columns["group"], manifest.columns[column]
    members = [set(groups[splits == name.encode()].tolist()) - {b""} for name in SPLITS if name != "unused"]
    if sum(map(len, members)) == len(set().union(*members)):
        return
    first_rows: dict[bytes, tuple[bytes, int]] = {}
    for line, (group, split) in enumerate(zip(groups.tolist(), splits.tolist(), strict=True), start=2):
        if group and split != b"unused":
            first_split, first_line = first_rows.setdefault(group, (split, line))
            if split != first_split:
                raise UserError(
                    f"{where}: group '{group.decode()}' is in {first_split.decode()} (line {first_line}) and in "
                    f"{split.decode()} (line {line}) of {column}, so the test would show what training saw. Put each "
                    "group into one split"
                )
