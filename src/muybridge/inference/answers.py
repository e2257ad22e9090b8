"""A file of answers, a row a prediction, that is written as they come: CSV or JSON Lines. The same command continues it.

Every row names the call by its hash, so that answers of different runs never mix. The rows of a video are written at once, and
each says how many they are: a video whose rows are not all there, as the writer was killed, is answered again.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.inference.results import Predictions
from muybridge.runtime.files import check_fences, check_regular, csv_text, owned
from muybridge.runtime.locks import locked
from muybridge.text import spreadsheet
from muybridge.video import DecodeError

ENDINGS = (".csv", ".jsonl")
_BEGINNINGS = (b'{"label": ', b'{"path": ')
"""First bytes of a row in JSON Lines: of an answer, and of a video that cannot be read."""


class AnswersFile:
    """Answers on disk. Use it by `opened`."""

    def __init__(self, path: Path, call_sha256: str, columns: Sequence[str]) -> None:
        self.path, self.call_sha256, self._columns = path, call_sha256, list(columns)
        self._is_csv = path.suffix == ".csv"
        self.done: set[str] = set()
        """Names of the videos whose answers are there, as `key` gives them."""
        self.num_failed = 0
        """How many of them could not be read."""

    def key(self, name: str) -> str:
        """A video's name as the file holds it."""
        return _cell(name) if self._is_csv else name

    def add(self, name: str, answer: Predictions | DecodeError) -> None:
        """Append the rows of a video."""
        rows: list[dict[str, Any]]
        if isinstance(answer, DecodeError):
            rows = [{"path": name, "error": answer.reason}]
        else:
            shown = [one.as_row() if self._is_csv else one.as_json() for one in answer]
            rows = [{**row, "path": name} for row in shown]
        about = {"windows": len(rows), "call_sha256": self.call_sha256}
        self._append([{**row, "window": number, **about} for number, row in enumerate(rows, start=1)])

    def _append(self, rows: list[dict[str, Any]]) -> None:
        if self._is_csv:
            text = csv_text([_cell(row.get(name, "")) for name in self._columns] for row in rows)
        else:
            text = "".join(json.dumps(row) + "\n" for row in rows)
        check_fences()
        try:
            with self.path.open("ab") as file:
                file.write(text.encode())
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise

    def begin(self) -> None:
        """Create the file, or find out what it holds. What a killed writer left of a video is cut off.

        Raises UserError for a file of other content, or of other answers.
        """
        check_regular(self.path)
        header = csv_text([self._columns]).encode() if self._is_csv else b""
        data = self.path.read_bytes() if self.path.exists() else b""
        if header.startswith(data):  # new, or killed while it was begun
            check_fences()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            owned(self.path).write_bytes(header)
            return
        if not data.startswith(header):
            raise self._foreign("its first line is another")
        whole = start = len(header)
        names: list[str] = []
        for line in data[start:].splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            row = self._parsed(line)
            start += len(line)
            names.append(row["path"])
            self.num_failed += bool(row.get("error"))
            if len(set(names)) > 1 or int(row["window"]) != len(names):
                raise self._foreign(f"the rows of {names[0]} are not all there")
            if len(names) == int(row["windows"]):
                self.done.add(names[0])
                names, whole = [], start
        if not self._is_csv and (tail := data[start:]):
            self._check_tail(tail)
        if whole < len(data):
            check_fences()
            os.truncate(owned(self.path), whole)

    def _check_tail(self, tail: bytes) -> None:
        """Raise UserError for a last line without an end that is not the beginning of an answer in JSON."""
        if not any(tail.startswith(begin[: len(tail)]) for begin in _BEGINNINGS):
            raise self._foreign("its last line is not an answer")
        try:
            json.loads(tail)
        except (ValueError, RecursionError):
            return  # cut off in the middle
        self._parsed(tail)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            text = line.decode()
            row = dict(zip(self._columns, next(csv.reader([text])), strict=True)) if self._is_csv else json.loads(text)
            path, by, _ = row["path"], row["call_sha256"], (int(row["window"]), int(row["windows"]))
        except (ValueError, LookupError, TypeError, RecursionError, csv.Error):
            raise self._foreign("a line of it is not an answer") from None
        if not isinstance(path, str):
            raise self._foreign("a line of it is not an answer")
        if by != self.call_sha256:
            raise UserError(
                f"{self.path}: it holds answers of another run, or by other options (--top, --window-seconds, --fps). Choose "
                "another --out"
            )
        return row

    def _foreign(self, why: str) -> UserError:
        return UserError(
            f"{self.path}: it was not written by this command ({why}), and it is not overwritten. Choose another --out"
        )


def check_answers(path: Path) -> None:
    """Raise UserError for a path that answers cannot be written to."""
    if path.suffix not in ENDINGS:
        raise UserError(f"--out: '{path}' does not end as answers do. Name a file that ends in {' or '.join(ENDINGS)}")
    if path.is_dir():
        raise UserError(f"--out: '{path}' is a folder. Name a file that ends in {' or '.join(ENDINGS)}")


@contextmanager
def opened(path: Path, *, call_sha256: str, top: int) -> Iterator[AnswersFile]:
    """The file of answers at a path, for this process alone. `top`: most labels of a row. Raises UserError."""
    check_answers(path)
    labels = [name for place in range(1, top + 1) for name in _labels(place)]
    columns = ["path", "window", "windows", "start_seconds", "end_seconds", *labels, "error", "call_sha256"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent, f"writes {path.name}", name=f".{path.name}.lock", keep=False):
        file = AnswersFile(path, call_sha256, columns)
        file.begin()
        yield file


def _labels(place: int) -> tuple[str, str]:
    return ("label", "score") if place == 1 else (f"label_{place}", f"score_{place}")


def _cell(value: Any) -> str:
    """A cell of one line, safe in a spreadsheet."""
    if isinstance(value, float):
        return f"{value:.6f}"
    return spreadsheet(str(value)).replace("\n", "\\n").replace("\t", "\\t")
