"""Readers: one face, `read(row, indices)`, whatever the frames lie in."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from muybridge.video.decode import DecodeError, frames, read_frames


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

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._clips

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

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        return self._clips[row.id][np.asarray(indices)]


class ForwardReader:
    """Rows of long files, read in order: each call goes on where the last one stopped, so that all windows of a video
    cost one pass over it. An earlier frame, or another file, starts again."""

    def __init__(self, *, short_side: int | None) -> None:
        self._short_side = short_side
        self._path, self._position = "", 0
        self._frames: Iterator[np.ndarray] = iter(())

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        distinct, places = np.unique(np.asarray(indices) + row.start_frame, return_inverse=True)
        if row.path != self._path or distinct[0] < self._position:
            self._path, self._position = row.path, 0
            self._frames = frames(row.path, short_side=self._short_side)
        found = []
        for index in distinct:
            for frame in self._frames:
                self._position += 1
                if self._position == index + 1:
                    found.append(frame)
                    break
            else:
                raise DecodeError(row.path, f"frame {index} was asked for, but decoding gives {self._position} frames")
        return np.stack(found)[places.reshape(-1)]
