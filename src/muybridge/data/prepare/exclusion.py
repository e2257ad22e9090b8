"""Videos to leave out, by a list of their ids or paths."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from muybridge.data.prepare.folders import MOST_CHARACTERS
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
            shown = unknown[0].replace("\n", "\\n")
            raise UserError(
                f"--exclude {file}: '{shown}' is not a video of the set{more}. {nearest(unknown[0], ids | paths)}"
            )
        named.update(entries)
    left = [video for video in videos if not {video.id, video.path} & named]
    if videos and not left:
        raise UserError(f"--exclude: all {plural(len(videos), 'video')} are excluded. Leave some in")
    return left


def _entries(file: Path) -> list[str]:
    """Ids or paths in a file: those of the column `id`, or else `path`, of a CSV, or else its lines."""
    text = read_text(file).removeprefix("\ufeff")
    lines = [line.strip() for line in text.splitlines()]
    try:
        header = [name.strip().lower() for name in next(csv.reader(list(filter(None, lines))[:1]), [])]
        column = next((header.index(name) for name in ("id", "path") if name in header), None)
        rows = [row for row in csv.reader(text.splitlines(keepends=True)) if row] if column is not None else []
    except csv.Error as error:
        raise UserError(f"--exclude {file}: it cannot be read ({error}). Write an id or a path a line") from None
    if column is None:
        entries = lines
    else:
        short = [number for number, row in enumerate(rows, start=1) if len(row) <= column]
        if short:
            raise UserError(f"--exclude {file}, row {short[0]}: it lacks the column {header[column]}. Correct the row")
        entries = [row[column] for row in rows[1:]]
    longest = max(map(len, entries), default=0)
    if longest > MOST_CHARACTERS:
        raise UserError(
            f"--exclude {file}: it has an entry of {longest:,} characters, and no path is longer than {MOST_CHARACTERS:,}. "
            "Write an id or a path a line"
        )
    return [entry for entry in entries if entry]
