"""Videos to leave out, by a list of their ids or paths."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from muybridge.errors import UserError, nearest
from muybridge.runtime.files import read_text
from muybridge.text import plural


class Named(Protocol):
    """A video, or a part of one, with an id and a path."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def path(self) -> str:
        """Path relative to the root; parts of a file share it."""
        ...


Video = TypeVar("Video", bound=Named)


def remaining(videos: Sequence[Video], exclude: str | Path | Sequence[str | Path] | None) -> list[Video]:
    """Videos that no list names. Raises UserError for an entry that names none of them, and where none is left.

    An id names one video, a path all parts of its file.
    """
    lists = [] if exclude is None else [exclude] if isinstance(exclude, str | Path) else exclude
    ids, paths = {video.id for video in videos}, {video.path for video in videos}
    named: set[str] = set()
    for file in map(Path, lists):
        entries = _entries(file)
        unknown = [entry for entry in entries if entry not in ids and entry not in paths]
        if unknown:
            more = f", nor are {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise UserError(
                f"--exclude {file}: '{unknown[0]}' is not a video of the set{more}. {nearest(unknown[0], ids | paths)}"
            )
        named.update(entries)
    left = [video for video in videos if not {video.id, video.path} & named]
    if videos and not left:
        raise UserError(f"--exclude: all {plural(len(videos), 'video')} are excluded. Leave some in")
    return left


def _entries(file: Path) -> list[str]:
    """Ids or paths in a file: those of the column `id`, or else `path`, of a CSV, or else its lines."""
    text = read_text(file).removeprefix("\ufeff")
    rows = [row for row in csv.reader(text.splitlines(keepends=True)) if row]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    column = next((header.index(name) for name in ("id", "path") if name in header), None)
    if column is None:
        entries = [line.strip() for line in text.splitlines()]
    else:
        short = [number for number, row in enumerate(rows, start=1) if len(row) <= column]
        if short:
            raise UserError(f"--exclude {file}, row {short[0]}: it lacks the column {header[column]}. Correct the row")
        entries = [row[column] for row in rows[1:]]
    return [entry for entry in entries if entry]
