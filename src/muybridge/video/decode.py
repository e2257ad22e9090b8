"""Decode a video file: frame i is the i-th frame that a full, sequential decode gives, in display order.

Counting decoded frames, rather than trusting headers or time stamps, is right for every file: headers lie about the
count, frame rates vary, AVI indices count packets. Frames come upright (rotation flags applied) and of one size.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import av.error
import av.logging
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from muybridge.errors import UserError


class DecodeError(UserError):
    """A file that cannot be decoded: `path`, and the decoder's `reason`."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path, self.reason = os.fspath(path), reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # crosses process borders whole
        return DecodeError, (self.path, self.reason)


@dataclass(frozen=True)
class VideoInfo:
    """What a full decode of a file found."""

    num_frames: int
    declared_frames: int
    """What the header says; 0 where it says nothing."""
    fps: float
    width: int
    height: int
    times_seconds: np.ndarray
    """(num_frames,) display time of each frame, counted from the first."""


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Decode the whole file once, without keeping pixels. Raises DecodeError with the decoder's own last words."""
    try:
        return _probe(path)
    except DecodeError:
        # The decoder's log is off by default (it is global and slow); a failing file is read again with it on.
        with _LOG_LOCK, av.logging.Capture():
            av.logging.set_level(av.logging.ERROR)
            try:
                return _probe(path)
            finally:
                av.logging.set_level(None)


_LOG_LOCK = threading.Lock()
# While the log is on for one thread, other threads' messages go to Python's logging: nobody's terminal unless asked for.
logging.getLogger("libav").addHandler(logging.NullHandler())


def _probe(path: str | os.PathLike[str]) -> VideoInfo:
    times: list[float | None] = []
    width = height = 0
    declared = _Declared(0, None)
    for frame, declared in _decoded(path):  # noqa: B007 (used below)
        if not times:
            quarter_turns = round(frame.rotation / 90) % 2
            width, height = (frame.height, frame.width) if quarter_turns else (frame.width, frame.height)
            _Converter(path, None)(frame)  # can its pixels be had, too?
        times.append(frame.time)
    if not times:
        raise DecodeError(path, "not one frame could be decoded")
    declared_fps = declared.fps
    times_seconds = _clean_times(times, declared_fps or 25.0)
    span_seconds = times_seconds[-1] - times_seconds[0]
    fps = round((len(times) - 1) / span_seconds, 4) if span_seconds > 0 else (declared_fps or 25.0)
    if fps <= 0:
        raise DecodeError(path, f"its time stamps span {span_seconds:.0f} seconds for {len(times)} frames")
    return VideoInfo(len(times), declared.num_frames, fps, width, height, times_seconds)


def frames(path: str | os.PathLike[str], *, short_side: int | None = None) -> Iterator[np.ndarray]:
    """All frames in display order, each (H,W,3) uint8 RGB; scaled so that the short side is `short_side` pixels."""
    convert = _Converter(path, short_side)
    for frame, _ in _decoded(path):
        yield convert(frame)


def read_frames(
    path: str | os.PathLike[str], indices: Sequence[int] | np.ndarray, *, short_side: int | None = None
) -> np.ndarray:
    """The frames at `indices` (any order, repeats allowed) as (T,H,W,3) uint8. Raises DecodeError where the file
    cannot be decoded or ends before the largest index."""
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.size == 0 or wanted.min() < 0:
        raise ValueError(f"frame indices must be ≥ 0 and at least one; got {wanted.tolist()}")
    distinct, places = np.unique(wanted, return_inverse=True)
    convert = _Converter(path, short_side)
    found: list[np.ndarray] = []
    position = -1
    for position, (frame, _) in enumerate(_decoded(path)):
        if position == distinct[len(found)]:
            found.append(convert(frame))
            if len(found) == len(distinct):
                return np.stack(found)[places]
    raise DecodeError(path, f"frame {distinct[-1]} was asked for, but decoding gives {position + 1} frames")


class _Converter:
    """Frames to upright RGB arrays of one size; one scaler for the whole clip."""

    def __init__(self, path: str | os.PathLike[str], short_side: int | None) -> None:
        self._path = path
        self._reformatter = VideoReformatter()
        self._short_side = short_side
        self._size: tuple[int, int] | None = None  # width, height; the first frame's, also where later ones differ

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        if self._size is None:
            self._size = _scaled(frame.width, frame.height, self._short_side)
        width, height = self._size
        try:
            rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
            pixels = rgb.to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise DecodeError(
                self._path, f"pixels of format {frame.format.name} cannot be converted: {error}"
            ) from None
        quarter_turns = round(frame.rotation / 90) % 4
        mirrored = _is_mirrored(frame)
        if not quarter_turns and not mirrored:
            return pixels
        return np.ascontiguousarray(np.rot90(pixels[::-1] if mirrored else pixels, quarter_turns))


def _is_mirrored(frame: VideoFrame) -> bool:
    """Does the display matrix mirror the picture, beside turning it? (`rotation` is the turn of its rows alone.)"""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(cast(bytes, matrix), dtype=np.int32)[:5].tolist()  # it is a buffer
    return bool(a * d - b * c < 0)


def _scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class _Declared:
    """What the header says."""

    num_frames: int
    fps: float | None


def _decoded(path: str | os.PathLike[str]) -> Iterator[tuple[VideoFrame, _Declared]]:
    """Decoded frames in display order with what the header declares; every failure is a DecodeError."""
    if Path(path).is_dir():
        raise DecodeError(path, "is a folder, not a video file")
    try:
        with av.open(f"file:{os.fspath(path)}") as container:  # a name is a name, also with a colon in it
            if not container.streams.video:
                raise DecodeError(path, "no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # one thread a reader: processes scale better
            declared = _Declared(stream.frames, float(stream.average_rate) if stream.average_rate else None)
            for frame in container.decode(stream):
                yield frame, declared
    except av.error.FFmpegError as error:
        raise DecodeError(path, _reason(error)) from None
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None


def _reason(error: av.error.FFmpegError) -> str:
    reason = error.strerror or type(error).__name__
    if error.log is not None:
        _, component, message = cast(tuple[int, str, str], error.log)  # PyAV's stub names two
        reason += f" ({component}: {message.strip()})"
    return reason


def _clean_times(times: list[float | None], fps: float) -> np.ndarray:
    """Seconds from the first frame; counted at `fps` where time stamps are missing or run backwards."""
    known = np.array([np.nan if time is None else time for time in times])
    if np.isnan(known).any() or (np.diff(known) <= 0).any():
        return np.arange(len(times)) / fps
    return known - known[0]
