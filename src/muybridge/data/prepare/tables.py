"""Tables that list videos: the rows of a CSV, or the entries of a JSON file, as text by column."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.runtime.files import read_json

KEY = "key"
"""Column of the names under which a JSON file keeps its entries."""


@dataclass(frozen=True)
class Table:
    """Rows of a file."""

    path: Path
    columns: list[str]
    rows: list[tuple[str, dict[str | Any, Any]]]
    """Each with its place in the file: "line 3", "entry 3"."""


def read_table(path: Path, *, columns: Sequence[str] | None = None) -> Table:
    """Read a CSV (separated by commas, semicolons or tabs), or a JSON file (`.json`).

    `columns`: names for those of a CSV without a header. Raises UserError.
    """
    return _json_table(path) if path.suffix.lower() == ".json" else _csv_table(path, columns)


def _csv_table(path: Path, columns: Sequence[str] | None) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = next((mark for mark in (",;\t" if columns is None else ";\t,") if mark in first), ",")
            reader = csv.DictReader(file, columns, delimiter=delimiter)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            return Table(path, header, [(f"line {reader.line_num}", row) for row in reader])
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror}). Check its path and permissions") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV text file: {error}. Save it as CSV in UTF-8") from None


def _json_table(path: Path) -> Table:
    """Entries of a JSON file: a list, or an object by names (ActivityNet keeps that under `database`).

    Fields within fields are columns with dots between (`annotations.label`, `annotations.segment.0`). Several
    annotations of a video are several rows.
    """
    if not path.is_file():
        raise UserError(f"{path}: it cannot be read (no such file). Check its path and permissions")
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("database"), dict):
        content = content["database"]
    if isinstance(content, dict):
        content = [
            {KEY: name, **(entry if isinstance(entry, dict) else {"value": entry})} for name, entry in content.items()
        ]
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise UserError(f"{path}: not a list of entries. Give a list of objects, or an object of them by name")
    try:
        rows = [
            (f"entry {n}", row)
            for n, entry in enumerate(content, start=1)
            for row in _flat(entry, f"{path}, entry {n}")
        ]
    except RecursionError:
        raise UserError(f"{path}: its fields are nested too deeply. Give entries of a few levels") from None
    return Table(path, list(dict.fromkeys(name for _, row in rows for name in row)), rows)


def _flat(entry: Mapping[str, Any], where: str, before: str = "") -> list[dict[str, str]]:
    """Rows of an entry: one, or one for each object of a list of objects. Raises UserError for two such lists."""
    cells: dict[str, str] = {}
    several: dict[str, list[dict[str, str]]] = {}
    for name, value in entry.items():
        column = f"{before}{name}"
        if isinstance(value, dict | list):
            is_of_objects = isinstance(value, list) and value and all(isinstance(part, dict) for part in value)
            fields = {str(n): part for n, part in enumerate(value)} if isinstance(value, list) else value
            rows = (
                [row for part in value for row in _flat(part, where, f"{column}.")]
                if is_of_objects
                else _flat(fields, where, f"{column}.")
            )
            if len(rows) == 1:
                cells |= rows[0]
            else:
                several[column] = rows
        else:
            cells[column] = "" if value is None else str(value)
    if len(several) > 1:
        raise UserError(
            f"{where}: {' and '.join(several)} are both lists of objects, so which belong together is open. Leave one out"
        )
    return [cells | row for row in next(iter(several.values()))] if several else [cells]
