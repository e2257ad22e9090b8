"""The manifest: one row a video, or a labelled part of one (format: docs/formats.md).

`NAME.csv` holds the rows, `NAME.csv.json` beside it the ordered classes, the root of the paths and what mirroring does to a
label. In memory it is columns of fixed-width arrays: 240,000 rows cost tens of megabytes and pickle at copying speed.
"""

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError, nearest
from muybridge.runtime.files import check_regular, csv_text, read_json, write_together
from muybridge.video import Row

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test", "unused")

_TEXT = ("id", "path", "label", "group", "sha256")
_INTEGERS = ("start_frame", "num_frames", "width", "height", "seekable")
COLUMNS = ("id", "path", "start_frame", "num_frames", "label", "group", "fps", "width", "height", "sha256")
OPTIONAL = {"seekable": 0}
"""Columns that may be missing, and what they hold then."""


@dataclass(frozen=True)
class Manifest:
    """N rows as columns. Text is kept as UTF-8 bytes; read it with `text`."""

    columns: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    """Class i of every model trained on it is `classes[i]`."""
    root: Path
    """Paths are relative to it."""
    mirror: Mapping[str, str] | None = field(default_factory=dict)
    """What a label becomes when the picture is mirrored; a class that is not named keeps its label. None: mirroring
    changes what a video shows in a way that no label names, so training must not mirror."""
    reversed_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of classes that nothing but the direction of time tells apart."""

    def __len__(self) -> int:
        return len(self.columns["id"])

    @property
    def split_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self.columns if _is_split(name))

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the folds; empty where the manifest has one split."""
        return tuple(int(name.removeprefix("split_")) for name in self.split_columns if name != "split")

    def text(self, column: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        return np.char.decode(self.columns[column][rows], "utf-8")

    def plain_columns(self) -> dict[str, np.ndarray]:
        """A copy of the columns, text as text: what `from_columns` takes. Text may become longer."""
        return {
            name: self.text(name).astype(object) if column.dtype.kind == "S" else column.copy()
            for name, column in self.columns.items()
        }

    def labels(self) -> np.ndarray:
        """(N,) class index of every row."""
        index = {name.encode(): i for i, name in enumerate(self.classes)}
        return np.array([index[label] for label in self.columns["label"].tolist()], dtype=np.int64)

    def mirrored_labels(self) -> np.ndarray | None:
        """(K,) class index that each class becomes when mirrored; None where mirroring is off."""
        if self.mirror is None:
            return None
        return np.array([self.classes.index(self.mirror.get(name, name)) for name in self.classes], dtype=np.int64)

    def row(self, index: int) -> Row:
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
        """Indices of the rows of one split. Raises UserError for a fold that is not there."""
        column = "split" if fold is None else f"split_{fold}"
        if column not in self.columns:
            if fold is None:
                raise UserError(f"This manifest has {len(self.folds)} folds; name one (--fold; in a recipe data.fold)")
            have = f"folds {', '.join(map(str, self.folds))}" if self.folds else "one split and no folds"
            raise UserError(f"There is no fold {fold}: this manifest has {have}")
        return np.flatnonzero(self.columns[column] == name.encode())

    def sha256(self) -> str:
        """Hash of everything that can change a result: content of the videos, parts, labels, groups, splits, classes,
        mirroring. Not of where the files lie and how fast they can be read."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256(json.dumps([self.classes, self.mirror, FORMAT_VERSION]).encode())
        for name in sorted(self.columns.keys() - {"path", "seekable"}):
            digest.update(name.encode() + b"\0" + b"\0".join(str(v).encode() for v in self.columns[name].tolist()))
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
        }
        rows = csv_text([names, *zip(*plain, strict=True)])
        write_together({path: rows, path.with_suffix(".csv.json"): json.dumps(about, indent=2) + "\n"})

    @staticmethod
    def load(path: str | Path) -> "Manifest":
        """Read and check a manifest; a hand-edited one too. A folder stands for the `manifest.csv` in it, as a pack has
        one. Raises UserError that names file, row and field."""
        path = Path(path)
        if (path / "manifest.csv").is_file():
            path = path / "manifest.csv"
        about = _read_about(path)
        check_regular(path)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                header = next(reader, [])
                lines = [line for line in reader if line]
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} is not a CSV text file: {error}") from None
        missing = [name for name in COLUMNS if name not in header]
        if missing or not any(map(_is_split, header)):
            needed = ", ".join(missing or ["split"])
            raise UserError(
                f"{path} lacks the column {needed}. `muybridge prepare` writes manifests; see docs/formats.md"
            )
        for number, line in enumerate(lines, start=2):
            if len(line) != len(header):
                raise UserError(f"{path}, line {number}: {len(line)} fields where the header has {len(header)}")
        if not lines:
            raise UserError(f"{path} has no rows")
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise UserError(f"{path} has the column {twice[0]} more than once")
        table = dict(zip(header, zip(*lines, strict=True), strict=True))
        root = Path(about["root"])
        manifest = from_columns(
            {
                name: _parse(path, name, table[name])
                for name in header
                if name in (*COLUMNS, *OPTIONAL) or _is_split(name)
            },
            classes=about["classes"],
            root=root if root.is_absolute() else (path.resolve().parent if path.is_symlink() else path.parent) / root,
            mirror=about["mirror"],
            reversed_pairs=about["reversed_pairs"],
            where=str(path),
        )
        return manifest


def from_columns(
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    *,
    classes: Iterable[str],
    root: Path,
    mirror: Mapping[str, str] | None,
    reversed_pairs: Iterable[Sequence[str]] = (),
    where: str = "manifest",
) -> Manifest:
    """A checked manifest from plain columns. Raises UserError."""
    arrays: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if name in _TEXT or name.startswith("split"):
            arrays[name] = np.char.encode(np.asarray(values, dtype=np.str_), "utf-8")
        else:
            arrays[name] = np.asarray(values, dtype=np.int64 if name in _INTEGERS else np.float64)
    for name, value in OPTIONAL.items():
        arrays.setdefault(name, np.full(len(arrays["id"]), value, dtype=np.int64))
    pairs = tuple((str(a), str(b)) for a, b in reversed_pairs)
    manifest = Manifest(arrays, tuple(classes), root, mirror, pairs)
    _check(manifest, where)
    return manifest


def _read_about(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"There is no manifest {path}. Make one: muybridge prepare FOLDER --out {path}")
    for noun in ("pack", "frames"):
        if (path / f"{noun}.json").exists():
            raise UserError(f"{path} was begun by `muybridge {noun}` and is not finished: the same command goes on")
    if path.is_dir():
        raise UserError(f"{path} is a folder. Make a manifest of it: muybridge prepare {path} --out {path.name}.csv")
    beside = path.with_suffix(".csv.json")
    if path.suffix != ".csv" or not beside.exists():
        raise UserError(
            f"{path} is no manifest: a manifest is NAME.csv with NAME.csv.json beside it, as `muybridge prepare` writes it "
            "(a plain list of path,label becomes one with `muybridge prepare --csv`)"
        )
    about = read_json(beside)
    if not isinstance(about, dict) or about.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{beside} is not the JSON of a manifest of format_version {FORMAT_VERSION}")
    expected: dict[str, Any] = {"root": str, "classes": list, "mirror": (dict, type(None)), "reversed_pairs": list}
    for name, kind in expected.items():
        if name not in about or not isinstance(about[name], kind):
            raise UserError(f"{beside}: '{name}' is missing or of the wrong type; see docs/formats.md")
    pairs = [*about["reversed_pairs"], *map(list, (about["mirror"] or {}).items())]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise UserError(f"{beside}: 'reversed_pairs' is a list of pairs of classes; see docs/formats.md")
    if not all(isinstance(name, str) for name in [*about["classes"], *(name for pair in pairs for name in pair)]):
        raise UserError(f"{beside}: names of classes are text, in quotes; see docs/formats.md")
    return about


def _is_split(column: str) -> bool:
    """`split`, or `split_1`, `split_2`, … (other columns are the user's own)."""
    return re.fullmatch(r"split(_[1-9][0-9]*)?", column) is not None


def _parse(path: Path, name: str, values: Sequence[str]) -> Sequence[Any]:
    if name in _TEXT or name.startswith("split"):
        return values
    kind = int if name in _INTEGERS else float
    parsed: list[int | float] = []
    for number, value in enumerate(values, start=2):
        try:
            parsed.append(kind(value))
        except ValueError:
            raise UserError(f"{path}, line {number}: {name} is '{value}', a number is needed") from None
        if abs(parsed[-1]) > 2**53:
            raise UserError(f"{path}, line {number}: {name} is '{value}', too large")
    return parsed


def _check(manifest: Manifest, where: str) -> None:
    columns = manifest.columns
    classes = set(manifest.classes)
    if len(classes) < len(manifest.classes):
        raise UserError(f"{where}: a class is named twice; classes are {', '.join(manifest.classes)}")
    is_trained_on = any((columns[name] == b"train").any() for name in manifest.split_columns)
    if len(classes) < (2 if is_trained_on else 1):
        raise UserError(f"{where}: a classifier needs at least two classes, here is {len(classes)}")
    for number, label in enumerate(manifest.text("label").tolist(), start=2):
        if label not in classes:
            raise UserError(
                f"{where}, line {number}: label '{label}' is not among the classes. {nearest(label, classes)}"
            )
    ids, counts = np.unique(columns["id"], return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{where}: the id '{ids[counts > 1][0].decode()}' occurs more than once; ids must be unique")
    if (columns["num_frames"] < 1).any() or (columns["start_frame"] < 0).any() or not (columns["fps"] > 0).all():
        bad = (columns["num_frames"] < 1) | (columns["start_frame"] < 0) | ~(columns["fps"] > 0)
        line = int(np.flatnonzero(bad)[0]) + 2
        raise UserError(f"{where}, line {line}: num_frames must be ≥ 1, start_frame ≥ 0 and fps > 0")
    for a, b in [*manifest.reversed_pairs, *(manifest.mirror or {}).items()]:
        for name in (a, b):
            if name not in classes:
                raise UserError(f"{where}: '{name}' in mirror or reversed_pairs is no class. {nearest(name, classes)}")
    for column in manifest.split_columns:
        splits = manifest.text(column)
        unknown = np.flatnonzero(~np.isin(splits, SPLITS))
        if len(unknown):
            raise UserError(
                f"{where}, line {unknown[0] + 2}: {column} is '{splits[unknown[0]]}'; {' '.join(SPLITS)} are valid"
            )
        _check_groups(manifest, column, where)


def _check_groups(manifest: Manifest, column: str, where: str) -> None:
    seen: dict[bytes, tuple[bytes, int]] = {}
    for line, (group, split) in enumerate(
        zip(manifest.columns["group"], manifest.columns[column], strict=True), start=2
    ):
        if group and split != b"unused":
            first_split, first_line = seen.setdefault(group, (split, line))
            if split != first_split:
                raise UserError(
                    f"{where}: group '{group.decode()}' is in {first_split.decode()} (line {first_line}) and in "
                    f"{split.decode()} (line {line}) of {column}. A group must lie on one side, or the test would show "
                    "what training saw"
                )
