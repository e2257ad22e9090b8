"""Arrays of clips: a `.npy` file of uint8 (N,T,H,W,3), read in place. Frame n·T+t is frame t of clip n.

One clip, (T,H,W,3), is read as N = 1. `prepare` converts other arrays to such a file.
"""

import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np

from muybridge.video.decode import VideoInfo
from muybridge.video.errors import DecodeError
from muybridge.video.indices import as_asked, distinct_frames
from muybridge.video.limits import Limits
from muybridge.video.scaling import scaled, scaled_size

SUFFIX = ".npy"


def clips_of(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a file as (N,T,H,W,3) uint8, without loading it. Raises DecodeError."""
    try:
        return _mapped(os.fspath(path), os.stat(path).st_mtime_ns)
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None


@functools.lru_cache(maxsize=256)
def _mapped(path: str, mtime_ns: int) -> np.ndarray:
    clips = mapped(path)
    if clips.ndim == 4:
        clips = clips[None]
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8 or clips.size == 0:
        raise DecodeError(
            path,
            f"is {clips.dtype} of shape {clips.shape}; uint8 of (N,T,H,W,3) is read (`muybridge prepare --arrays` converts)",
        )
    return clips


def mapped(path: str | os.PathLike[str]) -> np.ndarray:
    """Map the array of a `.npy` file, without loading it. Raises DecodeError, also for Python objects (pickles)."""
    try:
        try:
            return np.lib.format.open_memmap(path, mode="r")
        except SystemError:  # CPython 3.11 may miscount while another thread parses (gh-106905): no fault of the file
            return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None
    except MemoryError:
        raise
    except Exception as error:  # NumPy reads the header as Python, and raises whatever that does
        if "Python objects" in str(error):
            raise DecodeError(
                path,
                "holds Python objects (pickles), which are not loaded, as they can run any code; save one plain array",
            ) from None
        raise DecodeError(path, f"not a complete .npy file: {error}") from None


def probe(path: str | os.PathLike[str], *, fps: float, limits: Limits | None = None) -> VideoInfo:
    """Describe a file of one clip; `fps` is given, as arrays hold none. Raises DecodeError."""
    clips_NTHW3 = clips_of(path)
    num_clips, num_frames, height, width, _ = clips_NTHW3.shape
    if limits is not None:
        limits.check_size(path, width, height)
        if num_frames > limits.frames:
            raise DecodeError(path, f"it has {num_frames} frames; at most {limits.frames} are read (--max-frames)")
    if num_clips > 1:
        raise DecodeError(path, f"holds {num_clips} clips, each with a label of its own: `muybridge prepare --arrays`")
    return VideoInfo(num_frames, 0, fps, width, height, np.arange(num_frames) / fps, seekable=False)


def frames(
    path: str | os.PathLike[str], *, start_frame: int = 0, short_side: int | None = None
) -> Iterator[np.ndarray]:
    """Yield frames from `start_frame` on, each (H,W,3) uint8, scaled to a short side of `short_side` pixels."""
    clips_NTHW3 = clips_of(path)
    num_clips, num_frames, height, width, _ = clips_NTHW3.shape
    size = scaled_size(width, height, short_side)
    for index in range(start_frame, num_clips * num_frames):
        yield scaled(np.array(clips_NTHW3[divmod(index, num_frames)]), size)


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | np.ndarray,
    *,
    short_side: int | None = None,
    seekable: bool = False,
) -> np.ndarray:
    """Read the frames at `indices` (any order, repeats allowed) as (T,H,W,3) uint8.

    Raises DecodeError past the last one.
    """
    return frames_at(clips_of(path), indices, short_side=short_side, path=path)


def frames_at(
    clips_NTHW3: np.ndarray,
    indices: Sequence[int] | np.ndarray,
    *,
    short_side: int | None,
    path: str | os.PathLike[str],
) -> np.ndarray:
    """Frames of clips in memory, as `read_frames` reads those of a file. `path` names them in errors."""
    distinct, positions = distinct_frames(indices)
    num_clips, num_frames, height, width, _ = clips_NTHW3.shape
    if distinct[-1] >= num_clips * num_frames:
        total = num_clips * num_frames
        raise DecodeError(path, f"frame {distinct[-1]} was asked for, but decoding gives {total} frames")
    clip_THW3 = np.ascontiguousarray(clips_NTHW3[np.divmod(distinct, num_frames)])
    size = scaled_size(width, height, short_side)
    if size != (width, height):
        clip_THW3 = np.stack([scaled(frame, size) for frame in clip_THW3])
    return as_asked(clip_THW3, positions)
