"""Annotated events of videos, from a CSV or a JSON file: video, start, end, label (format: docs/formats.md)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from muybridge.data.prepare.tables import read_table
from muybridge.errors import UserError, nearest
from muybridge.text import from_spreadsheet

COLUMNS = {
    "video": ("video", "path", "key"),
    "start_seconds": ("start_seconds", "start", "annotations.segment.0"),
    "end_seconds": ("end_seconds", "end", "annotations.segment.1"),
    "label": ("label", "annotations.label"),
}
"""Names that a column may have; the last ones are those of ActivityNet's JSON."""


class Annotation(NamedTuple):
    """An event that a person has seen."""

    start_seconds: float
    end_seconds: float
    label: str


@dataclass(frozen=True)
class Annotations:
    """Events by video, as the file names the videos. A video without events has an empty list."""

    path: Path
    events: dict[str, list[Annotation]]

    def of(self, videos: Sequence[str]) -> list[list[Annotation] | None]:
        """Events of each video; None for one that is not named.

        The file names a video by its path (from the current folder, or from the file's folder), or by its name, with or
        without the ending. Raises UserError where a name fits several videos, or where none of the videos is named.
        """
        found = [self._of(video, videos) for video in videos]
        if all(events is None for events in found):
            first = next(iter(self.events))
            raise UserError(
                f"{self.path}: it names none of the videos, but '{first}'. Name '{videos[0]}', or '{Path(videos[0]).name}'"
            )
        return found

    def _of(self, video: str, videos: Sequence[str]) -> list[Annotation] | None:
        place = Path(video).absolute()
        for name in self.events:
            for path in (name, from_spreadsheet(name)):  # as `muybridge events --out` writes it
                if place in (Path(path).absolute(), self.path.absolute().parent / path):
                    return self.events[name]
        for name in (place.name, place.stem):
            if name in self.events:
                same = [other for other in videos if name in (Path(other).name, Path(other).stem)]
                if len(same) > 1:
                    raise UserError(
                        f"{self.path}: '{name}' may be {same[0]} or {same[1]}. Name videos by their paths in it"
                    )
                return self.events[name]
        return None


def read_annotations(path: Path, classes: Sequence[str]) -> Annotations:
    """Read a file of events. A row without label, start and end names a video without events.

    `classes`: labels that are known. Raises UserError that names the line.
    """
    table = read_table(path)
    columns = {
        column: next((name for name in names if name in table.columns), None) for column, names in COLUMNS.items()
    }
    missing = [column for column, name in columns.items() if name is None]
    if missing:
        raise UserError(
            f"{path}: it lacks the column {', '.join(missing)}. Give the columns video,start_seconds,end_seconds,label"
        )
    events: dict[str, list[Annotation]] = {}
    for place, row in table.rows:
        where = f"{path}, {place}"
        video, start, end, label = ((row.get(name) or "").strip() for name in columns.values())
        if not video:
            raise UserError(f"{where}: it names no video. Fill the column {columns['video']}")
        of_video = events.setdefault(video, [])
        if not (start or end or label):
            continue
        if label not in classes:
            label = from_spreadsheet(label)
        if label not in classes:
            raise UserError(f"{where}: class '{label}': the run does not know it. {nearest(label, classes)}")
        start_seconds, end_seconds = (
            _seconds(text, f"{where}: {columns[column]}")
            for text, column in ((start, "start_seconds"), (end, "end_seconds"))
        )
        if end_seconds < start_seconds:
            raise UserError(
                f"{where}: it ends at {end_seconds:g} s, before it starts at {start_seconds:g} s. Correct it"
            )
        of_video.append(Annotation(start_seconds, end_seconds, label))
    if not events:
        raise UserError(f"{path}: it has no rows. Give a row an event: video,start_seconds,end_seconds,label")
    return Annotations(path, events)


def _seconds(text: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{where}: '{text}' is not a time. Give seconds, from 0 on")
    return seconds
