"""Predictions that other tools made, read from their files: one file a format.

Of the rooms outside, only this door is imported. No code of a file is run, and no torch is imported.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from muybridge.errors import UserError, nearest
from muybridge.runtime.files import check_regular
from muybridge.storage.predictions.columns import Columns as Columns
from muybridge.storage.predictions.contents import Predictions as Predictions
from muybridge.storage.predictions.delimited import read_delimited
from muybridge.storage.predictions.table import predictions


def _table(path: Path, columns: Columns) -> list[Predictions]:
    return predictions(read_delimited(path, columns), columns)


_READERS: Mapping[str, Callable[[Path, Columns], list[Predictions]]] = {"csv": _table}

FORMATS: Mapping[str, str] = {"csv": "a table of text: commas, tabs, semicolons or bars, with a header"}
"""What is read, by the name of the format."""


def read(path: str | Path, *, format: str | None = None, columns: Columns = Columns()) -> list[Predictions]:
    """Predictions of a file, one a model, seed and split that it holds.

    `format`: one of `FORMATS`; None: found by its content and ending. Raises UserError that names the file and the row.
    """
    path = Path(path)
    check_regular(path)
    if format is not None and format not in FORMATS:
        raise UserError(f"--format: '{format}' is not known. {nearest(format, FORMATS)}")
    try:
        return _READERS[format or "csv"](path, columns)
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror}). Check its path and permissions") from None
