"""Tables as text: CSV, and with tabs, semicolons or bars in the place of commas."""

import csv
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from muybridge.errors import UserError
from muybridge.storage.predictions.columns import Columns
from muybridge.storage.predictions.table import Table, is_number, is_text

MOST_BYTES = 2**26
"""Most bytes of a line."""

MARKS = ",\t;|"
"""Marks that may part columns."""


def read_delimited(path: Path, columns: Columns) -> Table:
    """Read a table of text. Raises UserError that names the line."""
    first = next(text_lines(path), (0, ""))[1]
    mark = max(MARKS, key=first.count) if any(one in first for one in MARKS) else ","
    header = _header(path, mark)
    keep_text = is_text(columns)
    as_text = {place for place, name in enumerate(header) if keep_text(name)}
    table = _read(path, mark, header, as_text)
    if isinstance(table, set):  # columns that turned out to hold other things than numbers
        table = _read(path, mark, header, as_text | table)
    assert isinstance(table, Table)
    return table if mark == "," else _with_decimal_commas(table, {header[place] for place in as_text})


_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
"""A number with a decimal comma."""


def _with_decimal_commas(table: Table, as_text: Collection[str]) -> Table:
    """The table with numbers in the place of text columns whose cells are all numbers, of which some have a comma."""
    read: dict[str, np.ndarray] = {}
    example = ""
    for name, cells in table.columns.items():
        if name in as_text or cells.dtype.kind != "O":
            continue
        with_comma = [cell for cell in map(str.strip, cells.tolist()) if _COMMA.fullmatch(cell)]
        if with_comma and all(_COMMA.fullmatch(cell.strip()) or is_number(cell) for cell in cells.tolist()):
            read[name] = np.array([float(cell.replace(",", ".")) for cell in cells.tolist()])
            example = example or with_comma[0]
    if not read:
        return table
    first = next(iter(read))
    columns = f"the column '{first}' has" if len(read) == 1 else f"{len(read)} columns, such as '{first}', have"
    note = f"{columns} decimal commas: {example} is read as {example.replace(',', '.')}"
    return replace(table, columns={**table.columns, **read}, notes=(*table.notes, note))


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, its end included. Raises UserError for bytes that are not UTF-8 text."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_BYTES), b""), start=1):
            if len(line) == MOST_BYTES:
                raise UserError(f"{path}, line {number}: it is longer than 64 MiB. Give a table with a line a row")
            if b"\0" in line:
                raise UserError(
                    f"{path}, line {number}: it has a NUL byte, which no text has. Save the file as UTF-8 text"
                )
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, line {number}: not UTF-8 text ({error.reason}). Save it as UTF-8") from None


def _rows(path: Path, mark: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of the rows, empty lines left out. Raises UserError."""
    reader = csv.reader((line for _, line in text_lines(path)), delimiter=mark, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: not CSV: {error}. Correct it, or save it as CSV again"
        ) from None


def _header(path: Path, mark: str) -> list[str]:
    header = [name.strip() for name in next(_rows(path, mark), (0, []))[1]]
    if not header:
        raise UserError(f"{path}: it is empty. Give a table with a header and a line a video")
    twice = next((name for name, count in Counter(header).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{path}: the column '{twice[:60]}' is there twice. Rename or remove one")
    if all(map(is_number, header)) and header != [str(place) for place in range(len(header))]:
        raise UserError(f"{path}: its first line has numbers in the place of the columns' names. Add a line of names")
    return header


def _read(path: Path, mark: str, header: list[str], as_text: set[int]) -> Table | set[int]:
    """The table, or the columns beyond `as_text` that are text, too."""
    width, lines = len(header), array("q")
    numbers: list[int] = []
    texts: dict[int, list[str]] = {place: [] for place in range(width)}
    values, odd = array("d"), set[int]()
    pick: Callable[[list[str]], tuple[str, ...]] = tuple
    rows = _rows(path, mark)
    next(rows, None)  # the header
    for line, row in rows:
        if len(row) != width:
            raise UserError(
                f"{path}, line {line}: it has {len(row)} columns, and the header has {width}. Correct it, or save the table "
                "again"
            )
        if not lines:
            numbers = [place for place, cell in enumerate(row) if place not in as_text and is_number(cell)]
            texts = {place: [] for place in range(width) if place not in set(numbers)}
            pick = _picker(numbers)
        lines.append(line)
        cells = pick(row)
        try:
            if odd or "_" in "".join(cells):
                raise ValueError  # Python takes 1_000 for a number
            values.extend(map(float, cells))
        except ValueError:
            odd |= {place for place, cell in zip(numbers, cells, strict=True) if not is_number(cell)}
        for place, kept in texts.items():
            kept.append(row[place])
    if odd:
        return odd
    block = np.frombuffer(values, dtype=np.float64).reshape(len(lines), len(numbers))
    columns: dict[str, np.ndarray] = {}
    where = {place: column for column, place in enumerate(numbers)}
    for place, name in enumerate(header):
        columns[name] = block[:, where[place]] if place in where else np.array(texts[place], dtype=object)
    kind = "tsv" if mark == "\t" else "csv"
    return Table(str(path), kind, columns, lambda row: f"line {lines[row]}")


def _picker(places: list[int]) -> Callable[[list[str]], tuple[str, ...]]:
    """A function that takes the cells at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: tuple(row[place] for place in places)
