"""Files of events: CSV and JSON for programs, SubRip (.srt) and WebVTT (.vtt) for players."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.analysis.events import Event
from muybridge.errors import UserError
from muybridge.runtime.files import check_writable, csv_text, write_new
from muybridge.text import printable, spreadsheet

COLUMNS = ("path", "start_seconds", "end_seconds", "label", "score")
"""Columns of a CSV; `--truth` reads it, too."""
NAME = "{name}"
"""Place for a video's name, without its ending, in the name of a file."""


def csv(videos: Iterable[tuple[str, Sequence[Event]]]) -> str:
    """Events as CSV, a row each."""
    rows = [
        (spreadsheet(path), f"{e.start_seconds:.3f}", f"{e.end_seconds:.3f}", spreadsheet(e.label), f"{e.score:.6f}")
        for path, events in videos
        for e in events
    ]
    return csv_text([COLUMNS, *rows])


_MARKUP = re.compile(r"([<{])(?=\S)")
"""Beginning of what players take for markup. SubRip has no escapes; a space behind it makes it text."""


def srt(events: Iterable[Event]) -> str:
    """Subtitles in SubRip's format: a label with its score, from start to end."""
    return "\n".join(
        f"{number}\n{_clock(event.start_seconds, ',')} --> {_clock(event.end_seconds, ',')}\n"
        + _MARKUP.sub(r"\1 ", _text(event))
        + "\n"
        for number, event in enumerate(events, start=1)
    )


def vtt(events: Iterable[Event]) -> str:
    """Subtitles in WebVTT's format."""
    cues = [
        f"{_clock(event.start_seconds, '.')} --> {_clock(event.end_seconds, '.')}\n"
        + _text(event).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        for event in events
    ]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


SUBTITLES = {".srt": srt, ".vtt": vtt}


def _clock(seconds: float, point: str) -> str:
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _text(event: Event) -> str:
    """Label and score in one line, without the arrow that ends a cue's times."""
    label = " ".join(printable(event.label).split()).replace("-->", "->")
    return f"{label} ({event.score:.2f})"


@dataclass(frozen=True)
class EventFiles:
    """The files that `--out` names: one of all videos (.csv, .json), or one a video (.srt, .vtt)."""

    out: Path

    @staticmethod
    def checked(out: str | Path, videos: Sequence[str]) -> "EventFiles":
        """Files for these videos. Raises UserError for another ending, and where one is there already."""
        files = EventFiles(Path(out))
        if files.out.suffix.lower() not in (".csv", ".json", *SUBTITLES):
            raise UserError(f"--out {out}: not a kind of file that holds events. Name a .csv, .json, .srt or .vtt")
        if NAME in files.out.name and not files.is_a_video_each:
            raise UserError(
                f"--out {out}: {files.out.suffix} holds the events of all videos, and {NAME} would be a part of its name. Leave "
                f"it out, or name a .srt or .vtt"
            )
        if files.is_a_video_each and len(videos) > 1 and NAME not in files.out.name:
            raise UserError(
                f"--out {out}: subtitles are a file for each of {len(videos)} videos. Write {NAME} where the video's name "
                f"shall be, as in '{NAME}{files.out.suffix}'"
            )
        paths = [files.of(video) for video in videos] if files.is_a_video_each else [files.out]
        for number, path in enumerate(paths):
            if path in paths[:number]:
                other = videos[paths.index(path)]
                raise UserError(
                    f"--out {out}: {other} and {videos[number]} would both be {path}. Call it once for each"
                )
            if path.exists() or path.is_symlink():
                raise UserError(f"--out {path}: it is there already. Choose another name, or remove it")
            check_writable(path.parent)
        return files

    @property
    def is_a_video_each(self) -> bool:
        """Whether each video has a file of its own."""
        return self.out.suffix.lower() in SUBTITLES

    def of(self, video: str) -> Path:
        """The file of a video."""
        return self.out.with_name(self.out.name.replace(NAME, Path(video).stem))

    def write_subtitles(self, video: str, events: Sequence[Event]) -> None:
        """Write the file of a video."""
        self._write(self.of(video), SUBTITLES[self.out.suffix.lower()](events))

    def write_all(self, videos: Sequence[tuple[str, Sequence[Event]]], document: Any) -> None:
        """Write the file of all videos: the events as CSV, or the document as JSON."""
        is_csv = self.out.suffix.lower() == ".csv"
        self._write(self.out, csv(videos) if is_csv else json.dumps(document, indent=2) + "\n")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, text)
