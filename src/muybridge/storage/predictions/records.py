"""From values (lists of records, objects by video, arrays by name) to a table, whatever file they were in."""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.storage.predictions.columns import LISTS, USUAL, plain
from muybridge.storage.predictions.table import Table

CLASSES = ("classes", "class_names", "label_names", "categories")
"""Names under which a file keeps the names of its classes."""

MOST_CELLS = 2**27
"""Most fields times entries."""

MOST_LISTED = 2**27
"""Most numbers in lists, which a pickle may name many times."""

MOST_REPEATED_BYTES = 2**30
"""Most bytes of arrays that are made by repeating numbers of the file."""

VIDEO = "video"
"""Column of the names by which an object keeps its entries."""


class Records:
    """Columns that grow by one record after the other: text, numbers, lists of numbers, numbers by class."""

    def __init__(self, path: str, unit: str = "entry") -> None:
        self.path, self.unit = path, unit
        self.cells: dict[str, list[Any]] = {}
        self.classes: dict[str, tuple[str, ...]] = {}
        self.faults: dict[str, str] = {}
        self.places: list[int] = []
        self.listed = 0
        """Numbers in lists so far."""

    def add(self, record: Mapping[str, Any], place: int) -> None:
        """Add a record. Raises UserError where it is empty or its names are no text."""
        count = len(self.places)
        self.places.append(place)
        for name, value in record.items():
            if not isinstance(name, str):
                raise UserError(f"{self.path}, {self.unit} {place}: a field has no name. Give names as text")
            kept = self.cells.get(name)
            if kept is None:
                self._check_size(len(self.cells) + 1)
                kept = self.cells[name] = []
            if len(kept) < count:
                kept.extend([None] * (count - len(kept)))
            if name not in self.faults:
                kept.append(self._cell(name, value, place))

    def _check_size(self, num_columns: int) -> None:
        if num_columns * len(self.places) > MOST_CELLS:
            raise UserError(
                f"{self.path}: {num_columns} different fields in {len(self.places)} entries are too many. Give the scores of an "
                "entry as one list"
            )

    def _cell(self, name: str, value: Any, place: int) -> Any:
        """A cell: text, a number, an array of numbers, None, or a fault of the whole column."""
        if value is None or isinstance(value, str | bool | int | float):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict) and set(value) == {"item"}:  # MMEngine's LabelData
            value = value["item"]
        if isinstance(value, np.ndarray) and value.ndim == 0:
            return value.item()
        names: tuple[str, ...] | None = None
        if isinstance(value, dict):
            names, value = tuple(map(str, value)), list(value.values())
        if isinstance(value, list | tuple):
            self.listed += len(value)
            _check_listed(self.path, self.listed)
        numbers = _numbers(value)
        if numbers is None:
            self.faults[name] = f"{self.unit} {place} has neither text nor numbers in it"
            self.cells[name].clear()
            return None
        first = next((cell for cell in self.cells[name] if isinstance(cell, np.ndarray)), None)
        if names is not None:
            known = self.classes.setdefault(name, names) if first is None else self.classes.get(name)
            if known is None or known != names:
                if known is None or len(set(names)) < len(names) or set(known) != set(names):
                    self.faults[name] = f"{self.unit} {place} has other classes than those before"
                    return None
                where = {one: column for column, one in enumerate(names)}
                numbers = numbers[[where[one] for one in known]]
        elif name in self.classes:
            self.faults[name] = f"{self.unit} {place} has no names of classes, and those before have"
            return None
        return numbers

    def table(self, format: str) -> Table:
        """All that was added."""
        self._check_size(len(self.cells))
        count = len(self.places)
        columns: dict[str, np.ndarray] = {}
        for name, cells in self.cells.items():
            if name in self.faults:
                continue
            cells.extend([None] * (count - len(cells)))
            column = self._column(name, cells)
            if column is not None:
                columns[name] = column
        places, unit = self.places, self.unit
        num_views = max((column.shape[1] for column in columns.values() if column.ndim == 3), default=1)
        columns, is_numbered = by_view(self.path, columns, count)
        return Table(
            self.path, format, columns, lambda row: f"{unit} {places[row // num_views]}",
            classes={name: names for name, names in self.classes.items() if name in columns}, left_out=self.faults,
            is_numbered=is_numbered,
        )  # fmt: skip

    def _column(self, name: str, cells: list[Any]) -> np.ndarray | None:
        kinds = set(map(type, cells))
        if np.ndarray in kinds:
            shapes = [cell.shape if isinstance(cell, np.ndarray) else None for cell in cells]
            odd = next((row for row, shape in enumerate(shapes) if shape is None or shape != shapes[0]), None)
            if odd is None:
                return _stacked(self.path, cells)
            has = "none" if shapes[odd] is None else f"{shapes[odd]} numbers"
            self.faults[name] = f"{self.unit} {self.places[odd]} has {has}, and the first has {shapes[0] or 'none'}"
            return None
        if kinds <= {int, type(None)} and int in kinds and None not in cells:
            try:
                return np.array(cells, dtype=np.int64)
            except OverflowError:
                return np.array([str(cell) for cell in cells], dtype=object)
        if kinds <= {int, float, type(None)} and kinds != {type(None)}:
            try:
                return np.array([math.nan if cell is None else float(cell) for cell in cells])
            except OverflowError:
                self.faults[name] = "it has a number that is too large"
                return None
        return np.array(["" if cell is None else str(cell) for cell in cells], dtype=object)


def _check_listed(path: str, count: int) -> None:
    """Raise UserError for more numbers in lists than fit; a pickle may name one list many times."""
    if count > MOST_LISTED:
        raise UserError(f"{path}: it has more than {MOST_LISTED} numbers in lists. Give arrays: .npz, .npy")


def _check_repeated(path: str, num_bytes: int, own_bytes: int) -> None:
    """Raise UserError where numbers of a file would be repeated until they fill the memory."""
    if num_bytes > max(MOST_REPEATED_BYTES, 8 * own_bytes):
        raise UserError(
            f"{path}: it names the same numbers again and again, making {num_bytes} bytes of {own_bytes}. Give an array "
            "with a row a video"
        )


def _own_bytes(arrays: Iterable[np.ndarray]) -> int:
    """Bytes of memory that arrays lie in, those that several share counted once."""
    spans = []
    for one in arrays:
        reach = [(size - 1) * step for size, step in zip(one.shape, one.strides, strict=True)]
        begin = one.ctypes.data
        if one.size:
            spans.append(
                (begin + sum(min(0, far) for far in reach), begin + sum(max(0, far) for far in reach) + one.itemsize)
            )
    count, end = 0, 0
    for low, high in sorted(spans):
        count += max(0, high - max(low, end))
        end = max(high, end)
    return count


def _stacked(path: str, cells: Sequence[np.ndarray]) -> np.ndarray:
    """(R,C) numbers; lists of one number are that number."""
    _check_repeated(path, sum(cell.nbytes for cell in cells), _own_bytes(cells))
    stacked = np.stack(cells)
    return stacked[:, 0] if stacked.ndim == 2 and stacked.shape[1] == 1 else stacked


def _numbers(value: Any) -> np.ndarray | None:
    """An array of numbers of an array or a list; None for anything else."""
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "iuf" and value.ndim in (1, 2) and value.size else None
    if not isinstance(value, list | tuple) or not value or not set(map(type, value)) <= {int, float}:
        return None
    try:
        numbers = array("d", value) if float in set(map(type, value)) else array("q", value)
    except OverflowError:
        return None
    return np.frombuffer(numbers, numbers.typecode)


def by_view(path: str, columns: Mapping[str, np.ndarray], num_videos: int) -> tuple[dict[str, np.ndarray], bool]:
    """Columns with a row a view where one has three axes (videos, views, classes); whether videos became their numbers.

    Raises UserError for different numbers of views.
    """
    views = sorted({column.shape[1] for column in columns.values() if column.ndim == 3})
    if len(views) > 1:
        raise UserError(f"{path}: arrays have {' and '.join(map(str, views))} views. Give one array of scores")
    made: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        if views and column.ndim < 3:
            _check_repeated(path, column.nbytes * views[0], column.nbytes)
        rows = (
            column
            if not views
            else column.reshape(-1, column.shape[2])
            if column.ndim == 3
            else np.repeat(column, views[0], 0)
        )
        made[name] = rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows
    is_numbered = bool(views) and not any(plain(name) in USUAL["video"] for name in made)
    if is_numbered:
        made[VIDEO] = np.repeat(np.arange(num_videos), views[0]).astype(np.str_).astype(object)
    return made, is_numbered


def table_of(path: str, format: str, value: Any) -> Table:
    """A table of what a file holds as one value: a list of records, an object by video, or arrays by name.

    Raises UserError that says what it holds.
    """
    if isinstance(value, np.ndarray) and value.ndim in (2, 3) and value.dtype.kind in "iuf":
        return of_arrays(path, format, {"scores": value})
    if isinstance(value, dict):
        return _of_object(path, format, value)
    if isinstance(value, list | tuple) and value:
        if all(isinstance(entry, dict) for entry in value):
            return of_records(path, format, value)
        _check_listed(path, sum(len(entry) for entry in value if isinstance(entry, list | tuple)))
        arrays = [_numbers(entry) for entry in value]
        if all(entry is not None and entry.ndim == 1 for entry in arrays):
            return of_records(path, format, [{"scores": entry} for entry in arrays])
        if all(entry is not None and entry.ndim == 2 for entry in arrays):
            views = [entry for entry in arrays if entry is not None]
            _check_repeated(path, sum(one.nbytes for one in views), _own_bytes(views))
            return _of_views(path, format, views)
    what = (
        "an empty list" if isinstance(value, list | tuple) and not value else f"a value of type {type(value).__name__}"
    )
    what = "a list of mixed values" if isinstance(value, list | tuple) and value else what
    raise UserError(
        f"{path}: it holds {what}, and no predictions. Give a list of records, or an object with an entry a video"
    )


def of_records(path: str, format: str, entries: Iterable[Mapping[str, Any]], *, unit: str = "entry") -> Table:
    """A table of records, counted from 1."""
    records = Records(path, unit)
    for place, entry in enumerate(entries, start=1):
        records.add(entry, place)
    return records.table(format)


def _of_views(path: str, format: str, videos: Sequence[np.ndarray]) -> Table:
    """A table of the views of each video, whose names are their numbers."""
    views = [{VIDEO: str(number), "scores": row} for number, scores_VC in enumerate(videos) for row in scores_VC]
    return replace(of_records(path, format, views), is_numbered=True)


def _of_object(path: str, format: str, value: Mapping[Any, Any]) -> Table:
    """A table of an object: with a list of records in it, with lists by column, or with an entry a video."""
    classes = next((_names(value[name]) for name in CLASSES if name in value and _names(value[name])), None)
    lists = {
        name: inner for name, inner in value.items()
        if isinstance(inner, list) and inner and all(isinstance(entry, dict) for entry in inner)
    }  # fmt: skip
    if len(lists) == 1 and not any(isinstance(inner, dict) for inner in value.values()):
        table = of_records(path, format, next(iter(lists.values())))
        return replace(table, class_names=classes)
    usual = {name for kind in USUAL.values() for name in kind} | set(LISTS)
    if any(plain(str(name)) in usual and isinstance(inner, list | tuple | np.ndarray) for name, inner in value.items()):
        return of_arrays(path, format, value)
    entries = []
    for name, inner in value.items():
        entry = inner
        if isinstance(inner, dict) and _numbers(list(inner.values())) is not None:
            entry = {"scores": inner}
        elif not isinstance(inner, dict):
            entry = {"scores" if _numbers(inner) is not None else "prediction": inner}
        if VIDEO in entry:
            raise UserError(
                f"{path}: the entry '{str(name)[:60]}' has a field 'video', too. Rename it, or give a list of records"
            )
        entries.append({VIDEO: str(name), **entry})
    if not entries:
        raise UserError(f"{path}: it is empty. Give a list of records, or an object with an entry a video")
    return of_records(path, format, entries)


def _names(value: Any) -> tuple[str, ...] | None:
    """Names of classes, of a list of text or an array of it."""
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, list | tuple) or not values or not all(isinstance(name, str) for name in values):
        return None
    return tuple(values)


def of_arrays(path: str, format: str, values: Mapping[Any, Any]) -> Table:
    """A table of arrays (or lists) by name. Of three axes (videos, views, classes) each view is a row.

    Raises UserError where they are not as long as each other.
    """
    classes = next((_names(values[name]) for name in CLASSES if name in values and _names(values[name])), None)
    scalars: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    faults: dict[str, str] = {}
    for name, value in values.items():
        if name in CLASSES:
            continue
        found = _as_array(path, value)
        if found is None:
            faults[str(name)] = "it holds neither text nor numbers"
        elif found.ndim == 0:
            scalars[str(name)] = found.item()
        elif found.ndim > 3 or (found.ndim == 3 and found.dtype.kind not in "iuf"):
            faults[str(name)] = f"it has {found.ndim} axes"
        else:
            arrays[str(name)] = found
    rows = _num_rows(path, arrays)
    for name in [name for name, found in arrays.items() if len(found) != rows]:
        faults[name] = f"it has {len(arrays.pop(name))} entries, and there are {rows} videos"
    columns, is_numbered = by_view(path, arrays, rows)
    num_rows = len(next(iter(columns.values())))
    known = {name for kind in ("model", "seed", "split") for name in USUAL[kind]}
    for name, scalar in scalars.items():
        if plain(name) in known:
            columns[name] = np.array([str(scalar)] * num_rows, dtype=object)
    return Table(
        path, format, columns, lambda row: f"entry {row * rows // num_rows + 1}", class_names=classes, left_out=faults,
        is_numbered=is_numbered,
    )  # fmt: skip


def _num_rows(path: str, arrays: Mapping[str, np.ndarray]) -> int:
    """Number of the videos: the length of the scores, answers or names."""
    for wanted in (LISTS, USUAL["answer"], USUAL["video"]):
        for usual in wanted:
            for name, found in arrays.items():
                if plain(name) == usual:
                    return len(found)
    lengths = [len(found) for found in arrays.values() if found.ndim > 1] or [len(found) for found in arrays.values()]
    if not lengths:
        raise UserError(
            f"{path}: it holds no arrays of scores or answers. Name them scores, predictions, labels, videos"
        )
    return max(lengths, key=lengths.count)


def _as_array(path: str, value: Any) -> np.ndarray | None:
    """An array of text (as objects) or numbers; None for anything else."""
    if isinstance(value, list | tuple):
        if value and all(isinstance(entry, list | tuple) for entry in value):
            _check_listed(path, sum(map(len, value)))
            rows = [_numbers(entry) for entry in value]
            first = rows[0]
            if first is None or any(row is None or row.shape != first.shape for row in rows):
                return None
            return np.stack([row for row in rows if row is not None])
        kinds = set(map(type, value))
        if not value or not kinds <= {str, int, float, bool, type(None)}:
            stacked = [entry for entry in value if isinstance(entry, np.ndarray)]
            same = value and len(stacked) == len(value) and len({entry.shape for entry in stacked}) == 1
            if same:
                _check_repeated(path, sum(one.nbytes for one in stacked), _own_bytes(stacked))
            return np.stack(stacked) if same else None
        if kinds <= {int, float}:
            return _numbers(value)
        return np.array(["" if entry is None else str(entry) for entry in value], dtype=object)
    found = np.asarray(value)
    if found.dtype.kind in "iuf":
        return found
    if found.dtype.kind == "S":
        try:
            return np.char.decode(found, "utf-8").astype(object)
        except UnicodeDecodeError:
            return None
    if found.dtype.kind in "Ub":
        return found.astype(np.str_).astype(object)
    return None
