"""Readers: one interface, `read(row, indices)`, for frames in every kind of storage."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from muybridge.video import arrays, decode, images, packs, vectors
from muybridge.video.errors import DecodeError
from muybridge.video.kept import KeptFrames
from muybridge.video.limits import Limits, Watch


class Row(NamedTuple):
    """A video, or a labelled part of one, as readers need it."""

    id: str
    path: str
    start_frame: int
    num_frames: int
    fps: float
    seekable: bool = False
    """Whether time stamps give the right frames, as `prepare` has verified."""


class Reader(Protocol):
    """Anything that reads the frames of rows."""

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices`, counted from the row's start, as uint8 (T,H,W,C), or float (T,D)."""
        ...


class Medium(Protocol):
    """A kind of storage of frames: a module with these two functions. Both raise DecodeError."""

    def frames(self, path: str, *, start_frame: int = 0, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Frames in order from `start_frame` on, each (H,W,3) uint8 RGB, or (D,) float32."""
        ...

    def read_frames(
        self, path: str, indices: np.ndarray, *, short_side: int | None = None, seekable: bool = False
    ) -> np.ndarray:
        """The frames at `indices` as (T,H,W,3) uint8, or (T,D) float32."""
        ...


def medium_of(path: str) -> Medium:
    """Find the module for a path: a pack's file, vectors, an array of clips, a folder of images, else a video file."""
    if path.endswith(packs.SUFFIX):
        return packs
    if vectors.IN_HDF5 in path:
        return vectors
    if path.endswith(arrays.SUFFIX):
        return vectors if vectors.is_vectors(path) else arrays
    return images if os.path.isdir(path) else decode


def probe(
    path: str | os.PathLike[str],
    *,
    image_fps: float = 25.0,
    limits: Limits | None = None,
    alive: Callable[[], None] = lambda: None,
    keep: KeptFrames | None = None,
) -> decode.VideoInfo:
    """Decode all frames of a video file, a folder of images, an array of one clip or one of vectors once.

    Images and arrays, which hold no frame rate, get `image_fps`. `alive` is called while decoding. `keep` gets the frames
    of files and images; whether a file is seekable is then not tried. Raises DecodeError, also where a limit is passed.
    """
    medium = medium_of(os.fspath(path))
    if medium is images:
        return images.probe(path, fps=image_fps, limits=limits, alive=alive, keep=keep)
    if medium is vectors:
        return vectors.probe(path, fps=image_fps)
    if medium is arrays:
        return arrays.probe(path, fps=image_fps, limits=limits)
    return decode.probe(path, limits=limits, alive=alive, keep=keep)


@dataclass(frozen=True)
class FileReader:
    """Reads the files of rows, and scales frames to a short side of `short_side` pixels while decoding."""

    short_side: int | None = None

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices` as (T,H,W,3) uint8. Raises DecodeError."""
        return medium_of(row.path).read_frames(
            row.path, np.asarray(indices) + row.start_frame, short_side=self.short_side, seekable=row.seekable
        )

    def read_all(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """Read all frames of rows of one file, in one pass over it. Raises DecodeError."""
        path, first = rows[0].path, min(row.start_frame for row in rows)
        end = max(row.start_frame + row.num_frames for row in rows)
        frames: dict[str, list[np.ndarray]] = {row.id: [] for row in rows}
        waiting = sorted(rows, key=lambda row: row.start_frame, reverse=True)
        current: list[Row] = []
        position = first - 1
        decoded = medium_of(path).frames(path, start_frame=first, short_side=self.short_side)
        for position, frame in enumerate(decoded, start=first):
            while waiting and waiting[-1].start_frame == position:
                current.append(waiting.pop())
            for row in current:
                frames[row.id].append(frame)
            current = [row for row in current if position + 1 < row.start_frame + row.num_frames]
            if position == end - 1:
                return [np.stack(frames[row.id]) for row in rows]
        raise DecodeError(path, f"frame {end - 1} was asked for, but decoding gives {position + 1} frames")


class RamCache:
    """A reader that keeps all frames of the rows it was filled with; other rows are read through `reader`.

    It belongs to one process: use it without workers.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._clips: dict[str, np.ndarray] = {}

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._clips

    def fill(
        self,
        rows: Sequence[Row],
        *,
        threads: int,
        advance: Callable[[int], None] = lambda rows: None,
        failed: Callable[[DecodeError], None] | None = None,
    ) -> None:
        """Decode rows in parallel threads (decoding releases the interpreter lock), each video file once.

        A file that cannot be decoded completely raises its DecodeError; with `failed`, the error is handed to it and the
        file stays out of the cache.
        """
        together: dict[str, list[Row]] = {}
        for row in rows:
            together.setdefault(row.path if medium_of(row.path) is decode else row.id, []).append(row)
        with ThreadPoolExecutor(threads) as pool:
            jobs = {pool.submit(self._read_all, parts): parts for parts in together.values()}
            try:
                for job in as_completed(jobs):
                    parts = jobs.pop(job)
                    clips = job.result()
                    if not isinstance(clips, DecodeError):
                        self._clips |= {row.id: clip for row, clip in zip(parts, clips, strict=True)}
                    elif failed is None:
                        raise clips
                    else:
                        failed(clips)
                    advance(len(parts))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _read_all(self, parts: Sequence[Row]) -> list[np.ndarray] | DecodeError:
        """Read rows of one file; every error names the file, except running out of memory."""
        try:
            if isinstance(self._reader, FileReader):
                return self._reader.read_all(parts)
            return [self._reader.read(row, np.arange(row.num_frames)) for row in parts]
        except MemoryError:
            raise
        except Exception as error:
            return DecodeError.of(parts[0].path, error)

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices`, from the cache where it has the row. Raises DecodeError."""
        clip = self._clips.get(row.id)
        return self._reader.read(row, indices) if clip is None else clip[np.asarray(indices)]


class ForwardReader:
    """Reads rows of long files in order: each call continues where the last one stopped.

    All windows of a video cost one pass over it. An earlier frame, or another file, starts again.
    """

    def __init__(
        self, *, short_side: int | None, limits: Limits | None = None, alive: Callable[[], None] = lambda: None
    ) -> None:
        """Set limits, and `alive`, which is called while decoding."""
        self._short_side, self._limits, self._alive = short_side, limits, alive
        self._path, self._position = "", 0
        self._frames: Iterator[np.ndarray] = iter(())

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices` as (T,H,W,3) uint8. Raises DecodeError, also where a limit is passed."""
        distinct, positions = np.unique(np.asarray(indices) + row.start_frame, return_inverse=True)
        if row.path != self._path or distinct[0] < self._position:
            self._path, self._position = row.path, 0
            self._frames = medium_of(row.path).frames(row.path, short_side=self._short_side)
        frames, watch = [], Watch(row.path, self._limits, self._alive)
        for index in distinct:
            for frame in self._frames:
                self._position += 1
                watch.tick()
                if self._position == index + 1:
                    frames.append(frame)
                    break
            else:
                raise DecodeError(row.path, f"frame {index} was asked for, but decoding gives {self._position} frames")
        return np.stack(frames)[positions.reshape(-1)]
