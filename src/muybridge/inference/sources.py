"""Sources of a predictor: a path, an array or tensor of frames, the bytes of a file, a file object, a row of a manifest.

Bytes and file objects are strangers' files: they are written to a temporary file, and opened by the process that opens all.
"""

import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.text import printable
from muybridge.video import DecodeError, Row, VideoInfo, arrays
from muybridge.video.limits import Limits

NUMPY = b"\x93NUMPY"
"""Beginning of a .npy file."""
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class File:
    """A video's file, a folder of images, or a file of vectors."""

    name: str
    """Its name for people: as it was given; of bytes not that of the temporary file."""
    path: str
    """Its place, from the root."""
    row: Row | None = None
    """The part of it that a manifest names; None: the whole, which is looked at first."""
    _temporary: Any = field(default=None, compare=False)
    """Holds a temporary file, which is deleted with the last that needs it."""


@dataclass(frozen=True)
class InMemory:
    """Frames (T,H,W,3), or vectors (T,D), that are in memory."""

    name: str
    values: np.ndarray
    short_side: int | None = None

    def info(self, fps: float) -> VideoInfo:
        """Properties of the frames, as of a file; `fps` is given."""
        num_frames = len(self.values)
        height, width = self.values.shape[1:3] if self.values.ndim == 4 else (1, self.values.shape[1])
        return VideoInfo(num_frames, 0, fps, width, height, np.arange(num_frames) / fps, seekable=False)

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices`, counted from the row's start, as (T,H,W,3) uint8; or vectors as (T,D) float32."""
        indices = np.asarray(indices) + row.start_frame
        if self.values.ndim == 2:
            return self.values[indices].astype(np.float32)
        return arrays.frames_at(self.values[None], indices, short_side=self.short_side, path=self.name)


def is_several(video: Any) -> bool:
    """Whether it is a list, a tuple or an iterator of videos, and not one video."""
    if isinstance(video, Row):
        return False
    return isinstance(video, list | tuple | Iterator) and not hasattr(video, "read")


def source_of(video: Any, *, short_side: int | None, vector_width: int | None, limits: Limits) -> File | InMemory:
    """The source that a caller named. Raises DecodeError, with what is wrong with it, and whatever reading it raised.

    `vector_width`: of a network of vectors their length; None: it takes pictures.
    """
    try:
        return _source_of(video, short_side, vector_width, limits)
    except DecodeError:
        raise
    except Exception as error:  # of an object of the caller's
        raise DecodeError.of(_title(video), error) from error


def _source_of(video: Any, short_side: int | None, vector_width: int | None, limits: Limits) -> File | InMemory:
    if isinstance(video, Row):
        path = str(Path.cwd() / video.path)
        return File(part_name(video), path, video._replace(path=path))
    if isinstance(video, str | os.PathLike):
        return _named(video)
    if isinstance(video, bytes | bytearray | memoryview):
        return _written("bytes", [bytes(video)])
    if hasattr(video, "read"):
        return _read(video)
    if hasattr(video, "detach"):  # a tensor
        video = _array(video)
    if not isinstance(video, np.ndarray):
        raise DecodeError(
            type(video).__name__, "not a video; give a path, an array or tensor (T,H,W,3) of uint8, bytes, a binary file, or "
            "a list of such",
        )  # fmt: skip
    if vector_width is None:
        return InMemory("array", _checked(video, limits), short_side)
    return InMemory("array", _checked_vectors(video, vector_width))


def _array(tensor: Any) -> np.ndarray:
    try:
        return np.asarray(tensor.detach().cpu().numpy())
    except (TypeError, RuntimeError):  # (NotImplementedError among them: it lies nowhere)
        raise DecodeError(
            "tensor",
            f"{tensor.dtype} on '{tensor.device}', {tensor.layout}: it cannot be read; give a dense tensor of uint8",
        ) from None


def name_of(video: Any) -> str | None:
    """The name of a video that has one of its own: a path, or a row of a manifest; None for all else."""
    if isinstance(video, Row):
        return part_name(video)
    return os.fspath(video) if isinstance(video, str | os.PathLike) else None


def part_name(row: Row) -> str:
    """A part of a file by its first and last frame, counted from 0; the file alone where the row is called as it."""
    return row.path if row.id == row.path else f"{row.path}#{row.start_frame}-{row.start_frame + row.num_frames - 1}"


def _named(video: str | os.PathLike[str]) -> File:
    name = os.fspath(video)
    if "\0" in name:
        raise DecodeError(name.replace("\0", "\\0"), "its name holds a zero byte, as no file's does")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DecodeError(video, "its name is not UTF-8 text; rename it") from None
    return File(name, str(Path.cwd() / name))


def _checked(frames: np.ndarray, limits: Limits) -> np.ndarray:
    """The frames of one video. Raises DecodeError for other shapes and values."""
    shape = "×".join(map(str, frames.shape))
    if frames.ndim == 3:
        fault = f"of shape {shape} it is one frame; give those of a video as (T,H,W,3): np.stack(frames)"
    elif frames.ndim == 5:
        fault = f"of shape {shape} it holds several videos; give them one by one: list(array)"
    elif frames.ndim != 4:
        fault = f"of shape {shape} it is not a video; give (T,H,W,3)"
    elif frames.shape[-1] != 3 and frames.shape[1] == 3:
        fault = f"of shape {shape} its colours come before its rows; give (T,H,W,3): array.transpose(0, 2, 3, 1)"
    elif frames.shape[-1] != 3:
        fault = f"of shape {shape} it has {frames.shape[-1]} values a pixel; give (T,H,W,3), red, green and blue"
    elif frames.dtype.kind == "f" and frames.size and frames.min() >= 0 and frames.max() <= 1:
        fault = f"its values are {frames.dtype} from 0 to 1; give uint8 from 0 to 255: (255 * array).round().astype('uint8')"
    elif frames.dtype != np.uint8:
        fault = f"its values are {frames.dtype}; give uint8 from 0 to 255"
    elif frames.size == 0:
        fault = f"of shape {shape} it is empty; give at least one frame"
    elif len(frames) > limits.frames:
        fault = f"it has {len(frames)} frames; at most {limits.frames} are read (Limits.frames)"
    else:
        limits.check_size("array", frames.shape[2], frames.shape[1])
        return frames
    raise DecodeError("array", fault)


def _checked_vectors(vectors: np.ndarray, width: int) -> np.ndarray:
    """The vectors of one video. Raises DecodeError for other shapes and values."""
    if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32) or vectors.size == 0:
        fault = f"is {vectors.dtype} of shape {vectors.shape}; this network takes vectors, (T,{width}) of float32"
    elif vectors.shape[1] != width:
        fault = f"its vectors have {vectors.shape[1]} numbers, and the network takes {width}"
    elif not np.isfinite(vectors).all():
        fault = "it holds numbers that are not finite"
    else:
        return vectors
    raise DecodeError("array", fault)


def _read(file: Any) -> File:
    """A binary file object, from where it stands."""
    name = _title(file)
    start = file.read(len(NUMPY))
    if not isinstance(start, bytes):
        raise DecodeError(name, "it is open as text; open it as binary: open(path, 'rb')")

    def parts() -> Iterator[bytes]:
        yield start
        while part := file.read(_CHUNK_BYTES):
            yield part

    return _written(name, parts())


def _written(name: str, parts: Any) -> File:
    """A temporary file of a stranger's bytes, that its owner alone may read."""
    parts = iter(parts)
    start = next(parts)
    path, holder = _temporary(arrays.SUFFIX if start.startswith(NUMPY) else "")
    with open(path, "wb", buffering=0) as file:
        for part in chain([start], parts):
            try:
                _write_all(file, part)
            except OSError as error:
                raise DecodeError(
                    name, f"its temporary copy cannot be written: {error.strerror}; make room, or set TMPDIR"
                ) from None
    return File(name, path, _temporary=holder)


def _write_all(file: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _title(video: Any) -> str:
    """Name of an object for people: that of a file that is open, else its type's."""
    if isinstance(video, bytes | bytearray | memoryview):
        return "bytes"
    name = getattr(video, "name", None)
    if isinstance(name, str):
        return printable(name)
    return "file" if hasattr(video, "read") else type(video).__name__


class _Holder:
    """Deletes a file when nobody needs it any more."""

    def __init__(self, path: str) -> None:
        weakref.finalize(self, _delete, path)


def _temporary(suffix: str) -> tuple[str, _Holder]:
    descriptor, path = tempfile.mkstemp(suffix, "muybridge-")
    os.close(descriptor)
    return path, _Holder(path)


def _delete(path: str) -> None:
    Path(path).unlink(missing_ok=True)


LOWEST_FPS, HIGHEST_FPS = 1e-5, 1e6
"""Frame rates between a picture a day and the fastest cameras; times of others would overflow a video's clock."""


def check_rate(fps: float | None) -> None:
    """Raise UserError for what cannot be a frame rate."""
    if fps is not None and not (isinstance(fps, Real) and LOWEST_FPS <= fps <= HIGHEST_FPS):
        raise UserError(
            f"--fps {fps}: not a frame rate. Give frames a second, between {LOWEST_FPS:g} and {HIGHEST_FPS:g}"
        )
