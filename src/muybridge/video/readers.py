"""Readers: one face, `read(row, indices)`, whatever the frames lie in."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from muybridge.video.decode import frames, read_frames


class Row(NamedTuple):
    """A video, or a labelled part of one, as a reader sees it."""

    id: str
    path: str
    start_frame: int
    num_frames: int
    fps: float


class Reader(Protocol):
    """`read(row, indices)`: the frames at `indices`, counted from the row's start, as uint8 (T,H,W,C)."""

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class FileReader:
    """Frames straight from video files, scaled at decoding so that the short side is `short_side` pixels."""

    short_side: int | None = None

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        return read_frames(row.path, np.asarray(indices) + row.start_frame, short_side=self.short_side)

    def read_all(self, row: Row) -> np.ndarray:
        """Every frame of the row."""
        if row.start_frame == 0:  # one pass without bookkeeping; also checks nothing past the row's end
            found = []
            for frame in frames(row.path, short_side=self.short_side):
                found.append(frame)
                if len(found) == row.num_frames:
                    return np.stack(found)
        return self.read(row, np.arange(row.num_frames))


class RamCache:
    """All frames of the rows it was filled with, as a reader. It lives in one process: use it without workers."""

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader
        self._clips: dict[str, np.ndarray] = {}

    def missing(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are not in memory yet."""
        return [row for row in rows if row.id not in self._clips]

    def fill(self, rows: Sequence[Row], *, threads: int, advance: Callable[[], None] = lambda: None) -> None:
        """Decode rows in parallel (decoding releases the interpreter). Raises DecodeError at the first failure."""
        with ThreadPoolExecutor(threads) as pool:
            jobs = {pool.submit(self._reader.read_all, row): row for row in rows}
            try:
                for job in as_completed(jobs):
                    self._clips[jobs[job].id] = job.result()
                    advance()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    @property
    def size_bytes(self) -> int:
        return sum(clip.nbytes for clip in self._clips.values())

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        return self._clips[row.id][np.asarray(indices)]
