"""Predictions that other tools made, read from their files: one file a format.

Rooms outside import this door alone. No code of a file is run, and no torch is imported.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError, nearest
from muybridge.runtime.files import check_regular
from muybridge.storage.predictions import lm, mmaction, mteb, own, pyslowfast
from muybridge.storage.predictions.columns import Columns as Columns
from muybridge.storage.predictions.columns import MissingColumn as MissingColumn
from muybridge.storage.predictions.contents import Predictions as Predictions
from muybridge.storage.predictions.delimited import read_delimited
from muybridge.storage.predictions.json_files import json_lines, json_value
from muybridge.storage.predictions.lists import VideoList as VideoList
from muybridge.storage.predictions.lists import read_list as read_list
from muybridge.storage.predictions.parquet import read_parquet
from muybridge.storage.predictions.pickles import DAMAGES, unpickled
from muybridge.storage.predictions.records import Records, of_arrays, table_of
from muybridge.storage.predictions.table import check_order as check_order
from muybridge.storage.predictions.table import predictions
from muybridge.storage.scores import load_arrays

FORMATS: Mapping[str, str] = {
    "csv": "a table of text with a header: commas, tabs, semicolons or bars",
    "parquet": "a Parquet table",
    "jsonl": "JSON Lines: an object a line",
    "json": "JSON: a list of objects, an object by video, or lists by column",
    "npz": "arrays of NumPy: .npz, or .npy with the scores",
    "pickle": "a pickle, or a file of torch.save: arrays by name, records, scores",
    "mmaction": "MMAction2's --dump",
    "pyslowfast": "PySlowFast's TEST.SAVE_RESULTS_PATH",
    "mteb": "mteb's prediction_folder",
    "lm": "samples of lm-evaluation-harness or lmms-eval",
    "muybridge": "scores of an evaluation, or answers of muybridge predict --out",
}
"""Formats that are read, by name."""


def read(path: str | Path, *, format: str | None = None, columns: Columns = Columns()) -> list[Predictions]:
    """Predictions of a file, one a model, seed and split that it holds.

    `format`: one of `FORMATS`; None: found by its content and ending. Raises UserError that names the file and the row.
    """
    path = Path(path)
    check_regular(path)
    if format is not None and format not in FORMATS:
        raise UserError(f"--format: '{format}' is not known. {nearest(format, FORMATS)}")
    try:
        return _READERS[format or found_format(path)](path, columns)
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror}). Check its path and permissions") from None
    except MemoryError:
        raise UserError(f"{path}: it does not fit into the memory. Give a smaller file, or one a model") from None


_ENDINGS: Mapping[str, str] = {
    ".parquet": "parquet", ".pq": "parquet", ".npz": "npz", ".npy": "npz", ".pkl": "pickle", ".pickle": "pickle",
    ".pt": "pickle", ".pth": "pickle", ".pyth": "pickle", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv",
    ".tsv": "csv",
}  # fmt: skip

_BEGINNINGS: Mapping[bytes, str] = {b"PAR1": "parquet", b"\x93NUMPY": "npz", b"\x80": "pickle"}

_FOREIGN: Mapping[bytes, str] = {
    b"\x1f\x8b": "packed by gzip", b"BZh": "packed by bzip2", b"\xfd7zXZ": "packed by xz", b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"\x89HDF": "HDF5", b"ARROW1": "Arrow or Feather", b"\xd0\xcf\x11\xe0": "a file of Office",
}  # fmt: skip
"""Beginnings of files that are not read."""


def found_format(path: Path) -> str:
    """The format of a file by its content, or where that leaves it open, by its ending. Raises UserError."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.strip():
        raise UserError(f"{path}: it is empty. Give a file with predictions")
    foreign = next((what for begin, what in _FOREIGN.items() if head.startswith(begin)), None)
    if foreign is not None:
        raise UserError(f"{path}: it is {foreign}, which is not read. Save the predictions as CSV")
    if head.startswith(b"PK"):
        return _of_zip(path)
    found = next((kind for begin, kind in _BEGINNINGS.items() if head.startswith(begin)), None)
    if found is not None:
        return found
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    ending = _ENDINGS.get(path.suffix.lower())
    if begin in (b"{", b"[") and ending not in ("json", "jsonl"):
        return "jsonl" if begin == b"{" and b"}\n" in head and b"\n" in head.strip() else "json"
    return ending or "csv"


def _of_zip(path: Path) -> str:
    """The format of a zip: arrays, or what torch.save writes."""
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
    except DAMAGES as error:
        raise UserError(f"{path}: a damaged zip ({error}). Write it again, or restore it") from None
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "pickle"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    raise UserError(f"{path}: a zip without arrays. Save the predictions as CSV")


def _csv(path: Path, columns: Columns) -> list[Predictions]:
    table = read_delimited(path, columns)
    return own.of_answers_table(table) if own.is_answers(table.columns) else predictions(table, columns)


def _parquet(path: Path, columns: Columns) -> list[Predictions]:
    return predictions(read_parquet(path), columns)


def _jsonl(path: Path, columns: Columns) -> list[Predictions]:
    _, first = next(json_lines(path), (0, {}))
    if lm.is_sample(first):
        return lm.of_samples(str(path), json_lines(path), columns)
    if own.is_answers(first):
        return own.of_answers_lines(str(path), json_lines(path))
    records = Records(str(path), "line")
    for number, record in json_lines(path):
        records.add(record, number)
    return predictions(records.table("jsonl"), columns)


def _json(path: Path, columns: Columns) -> list[Predictions]:
    return _of_json(path, json_value(path), columns)


def _of_json(path: Path, value: Any, columns: Columns) -> list[Predictions]:
    if mteb.is_predictions(value):
        return mteb.of_value(str(path), value)
    samples = value.get("logs", value.get("samples")) if isinstance(value, dict) else value
    if isinstance(samples, list) and samples and lm.is_sample(samples[0]):
        return lm.of_samples(str(path), enumerate(samples, start=1), columns, unit="entry")
    return predictions(table_of(str(path), "json", value), columns)


def _npz(path: Path, columns: Columns) -> list[Predictions]:
    with path.open("rb") as file:
        is_one = file.read(6) == b"\x93NUMPY"
    if is_one:
        return predictions(table_of(str(path), "npz", _one_array(path)), columns)
    arrays = load_arrays(path, "predictions")
    if {"format_version", "ids", "logits", "video"} <= set(arrays):
        return own.of_scores(path)
    return predictions(of_arrays(str(path), "npz", arrays), columns)


def _one_array(path: Path) -> np.ndarray:
    """The array of a .npy file. Raises UserError."""
    try:
        array: np.ndarray = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except DAMAGES as error:
        cause = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UserError(f"{path}: a damaged array ({cause}). Write it again, or restore it") from None
    return array


def _pickle(path: Path, columns: Columns) -> list[Predictions]:
    value = unpickled(path)
    if pyslowfast.is_results(value):
        return predictions(pyslowfast.table(str(path), value), columns)
    if mmaction.is_dump(value):
        return predictions(mmaction.table(str(path), value), columns)
    return predictions(table_of(str(path), "pickle", value), columns)


def _mmaction(path: Path, columns: Columns) -> list[Predictions]:
    return predictions(mmaction.table(str(path), unpickled(path)), columns)


def _pyslowfast(path: Path, columns: Columns) -> list[Predictions]:
    return predictions(pyslowfast.table(str(path), unpickled(path)), columns)


def _mteb(path: Path, columns: Columns) -> list[Predictions]:
    return mteb.of_value(str(path), json_value(path))


def _lm(path: Path, columns: Columns) -> list[Predictions]:
    return (
        _json(path, columns) if path.suffix.lower() == ".json" else lm.of_samples(str(path), json_lines(path), columns)
    )


def _muybridge(path: Path, columns: Columns) -> list[Predictions]:
    if found_format(path) == "npz":
        return own.of_scores(path)
    if found_format(path) == "jsonl":
        return own.of_answers_lines(str(path), json_lines(path))
    table = read_delimited(path, columns)
    if not own.is_answers(table.columns):
        raise UserError(f"{path}: not a file of answers. Give what muybridge predict --out has written")
    return own.of_answers_table(table)


_READERS: Mapping[str, Callable[[Path, Columns], list[Predictions]]] = {
    "csv": _csv, "parquet": _parquet, "jsonl": _jsonl, "json": _json, "npz": _npz, "pickle": _pickle, "mmaction": _mmaction,
    "pyslowfast": _pyslowfast, "mteb": _mteb, "lm": _lm, "muybridge": _muybridge,
}  # fmt: skip
