"""Folders of images: frames as common tools extract them (`00001.jpg`, `img_00001.jpg`, `frame_0001_rgb.png`).

Frame i is the i-th image in the order of the last number in each name. Beside other series (TSN's `flow_x_00001.jpg`) the
one of RGB frames is taken. Pixels are as they are stored; all frames are scaled to the size of the first.
"""

import functools
import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import av
import av.error
import numpy as np
import simplejpeg
from av.video.codeccontext import VideoCodecContext

from muybridge.video.decode import VideoInfo
from muybridge.video.errors import DecodeError
from muybridge.video.indices import as_asked, distinct_frames
from muybridge.video.jpeg import decode_jpeg, jpeg_size
from muybridge.video.kept import KeptFrames
from muybridge.video.limits import Limits, Watch
from muybridge.video.scaling import scaled, scaled_size

_IMAGE = re.compile(r"[^.].*\.(?:jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE | re.DOTALL)
_NUMBERED = re.compile(r"(.*?)([0-9]+)((?:[-_. )\]][^0-9]*)?\.[^.]+)", re.DOTALL)
"""Names such as `00001.jpg`, `img_00001.jpg`, `frame_0001_rgb.png`, `frame (1).png`."""


def is_image(name: str) -> bool:
    """Whether a name ends like an image's; hidden files do not count."""
    return _IMAGE.fullmatch(name) is not None


def is_frame(name: str) -> bool:
    """Whether a name is that of an image with a number."""
    return is_image(name) and _NUMBERED.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Series:
    """The frames of one folder; stored compactly where all names follow from the first."""

    prefix: str
    first: int
    """Number of the first frame."""
    digits: int
    """Least number of digits; shorter numbers have leading zeros."""
    suffix: str
    count: int
    names: str = ""
    """All names, joined by slashes; empty where they follow from the first: consecutive numbers, else the same."""

    def __len__(self) -> int:
        return self.count

    def name(self, frame: int) -> str:
        """File name of a frame, counted from 0."""
        return self.names_of([frame])[0]

    def names_of(self, frames: Sequence[int]) -> list[str]:
        """File names of frames, counted from 0."""
        if self.names:
            names = self.names.split("/")
            return [names[frame] for frame in frames]
        return [f"{self.prefix}{self.first + frame:0{self.digits}d}{self.suffix}" for frame in frames]

    def numbers(self) -> Sequence[int]:
        """Number in each frame's name, in rising order."""
        if self.names:
            return [_parsed(name)[1] for name in self.names.split("/")]
        return range(self.first, self.first + self.count)


def series(path: str | os.PathLike[str]) -> Series:
    """Find the frames of a folder. Raises DecodeError for a folder without frames, or with several series."""
    return _series(os.fspath(path), _mtime_ns(path))


def _mtime_ns(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None


@functools.lru_cache(maxsize=1 << 15)  # below 1 kB each for consecutive numbers; a folder is listed once
def _series(path: str, mtime_ns: int) -> Series:
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if is_frame(entry.name) and entry.is_file()]
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None
    by_series: dict[
        tuple[str, str], dict[int, str]
    ] = {}  # by the text before the number, and after it up to the ending
    for name in sorted(names):
        prefix, number, suffix = _parsed(name)
        series_name = (prefix, suffix.rpartition(".")[0])
        other = by_series.setdefault(series_name, {}).setdefault(number, name)
        if other != name:
            raise DecodeError(path, f"{other} and {name} have the same number")
    if not by_series:
        raise DecodeError(
            path, "is a folder without numbered images (00001.jpg, img_00001.jpg). Restore them, or leave it out"
        )
    chosen = [name for name in by_series if not any("flow" in part.lower() for part in name)] or sorted(by_series)
    if len(chosen) > 1:
        counts = ", ".join(f"{before}*{after}: {len(by_series[before, after])}" for before, after in sorted(chosen))
        raise DecodeError(
            path, f"holds several series of images ({counts}); the frames of a video need a folder of their own"
        )
    by_number = by_series[chosen[0]]
    names = [by_number[number] for number in sorted(by_number)]
    prefix, number, suffix = _parsed(names[0])
    digits = len(names[0]) - len(prefix) - len(suffix)
    by_rule = Series(prefix, number, digits, suffix, len(names))
    return by_rule if by_rule.names_of(range(len(names))) == names else replace(by_rule, names="/".join(names))


def _parsed(name: str) -> tuple[str, int, str]:
    """Split a frame's name into prefix, number and ending."""
    match = _NUMBERED.fullmatch(name)
    assert match is not None, f"{name} is not a frame"
    return match[1], int(match[2]), match[3]


def _size(path: str | os.PathLike[str], short_side: int | None) -> tuple[int, int]:
    """(width, height) of all frames: that of the first image, scaled to `short_side`."""
    return scaled_size(*_first_size(os.fspath(path), _mtime_ns(path)), short_side)


@functools.lru_cache(maxsize=1 << 15)
def _first_size(path: str, mtime_ns: int, limits: Limits | None = None) -> tuple[int, int]:
    first = os.path.join(path, _series(path, mtime_ns).name(0))
    with _naming(first):
        data = _bytes_of(first)
        if simplejpeg.is_jpeg(data):
            return jpeg_size(data)
        height, width, _ = _decoded(data, first, limits).shape
        return width, height


def probe(
    path: str | os.PathLike[str],
    *,
    fps: float,
    limits: Limits | None = None,
    alive: Callable[[], None] = lambda: None,
    keep: KeptFrames | None = None,
) -> VideoInfo:
    """Decode every image once, without keeping pixels; `fps` is given, as images hold none.

    `alive` is called while decoding. `keep`: gets every frame, as `frames` gives it. Raises DecodeError with the path of a
    broken image, or where a limit is passed.
    """
    images, watch = series(path), Watch(path, limits, alive)
    if limits is not None and len(images) > limits.frames:
        raise DecodeError(path, f"it has {len(images)} frames; at most {limits.frames} are read (--max-frames)")
    size = scaled_size(*_first_size(os.fspath(path), _mtime_ns(path), limits), None)
    for name in images.names_of(range(len(images))):
        image = os.path.join(path, name)
        if keep is not None and keep.is_open:
            keep.add(_frame(image, scaled_size(*size, keep.short_side), keep.short_side, limits))
        else:
            _frame(image, size, None, limits)
        watch.frame(*size)
    return VideoInfo(len(images), 0, fps, *size, np.arange(len(images)) / fps, seekable=False)


def sha256(path: str | os.PathLike[str], alive: Callable[[], None] = lambda: None) -> str:
    """Hash of the frames of a folder: their names and contents, in order. `alive` is called for each."""
    images, digest = series(path), hashlib.sha256()
    for name in images.names_of(range(len(images))):
        alive()
        with _naming(os.path.join(path, name)):
            data = _bytes_of(os.path.join(path, name))
        digest.update(f"{name}/{len(data)}/".encode("utf-8", "surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def frames(
    path: str | os.PathLike[str], *, start_frame: int = 0, short_side: int | None = None
) -> Iterator[np.ndarray]:
    """Yield frames from `start_frame` on, each (H,W,3) uint8 RGB, scaled to a short side of `short_side` pixels."""
    images, size = series(path), _size(path, short_side)
    for name in images.names_of(range(start_frame, len(images))):
        yield _frame(os.path.join(path, name), size, short_side)


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | np.ndarray,
    *,
    short_side: int | None = None,
    seekable: bool = False,
) -> np.ndarray:
    """Read the frames at `indices` (any order, repeats allowed) as (T,H,W,3) uint8; no other image is read.

    Raises DecodeError for a broken image, and past the last one.
    """
    distinct, positions = distinct_frames(indices)
    images, size = series(path), _size(path, short_side)
    if distinct[-1] >= len(images):
        raise DecodeError(path, f"frame {distinct[-1]} was asked for, but decoding gives {len(images)} frames")
    names = images.names_of(distinct.tolist())
    clip_THW3 = np.stack([_frame(os.path.join(path, name), size, short_side) for name in names])
    return as_asked(clip_THW3, positions)


def _frame(path: str, size: tuple[int, int], short_side: int | None, limits: Limits | None = None) -> np.ndarray:
    """Decode an image to (H,W,3) uint8 of `size` (width, height).

    `short_side`: the one that `size` was computed from; lets JPEG images be decoded at a fraction of their size.
    """
    with _naming(path):
        data = _bytes_of(path)
        if not simplejpeg.is_jpeg(data):
            return scaled(_decoded(data, path, limits), size)
        if limits is not None:
            limits.check_size(path, *jpeg_size(data))
        return scaled(decode_jpeg(data, short_side), size)


_CODECS = {b"\x89PNG": "png", b"BM": "bmp", b"RIFF": "webp", b"II*\0": "tiff", b"MM\0*": "tiff"}
"""FFmpeg's decoder by the first bytes of a file, as names are unreliable."""


def _decoded(data: bytes, path: str, limits: Limits | None = None) -> np.ndarray:
    """Decode image data other than JPEG to (H,W,3) uint8.

    Raises ValueError and FFmpeg's errors; DecodeError for an image that is too large.
    """
    codec = next((name for start, name in _CODECS.items() if data.startswith(start)), None)
    if codec is None:
        raise ValueError("not a JPEG, PNG, BMP, WebP or TIFF image" if data else "is empty")
    context = cast(VideoCodecContext, av.CodecContext.create(codec, "r"))
    context.thread_type = "NONE"
    # incomplete images are errors; for TIFF they are anyway, and with `explode` its decoder refuses FFmpeg's own files
    context.options = {"err_detect": "crccheck" if codec == "tiff" else "crccheck+explode"}
    if limits is not None:
        if codec == "png" and len(data) >= 24:
            limits.check_size(path, *struct.unpack(">II", data[16:24]))
        context.options = {**context.options, "max_pixels": str(limits.pixels)}
    for frame in [*context.decode(av.Packet(data)), *context.decode(None)]:
        return frame.to_ndarray(format="rgb24")
    raise ValueError("holds no image")


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn every failure inside into a DecodeError of the image at `path`."""
    try:
        yield
    except DecodeError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        raise DecodeError(path, error.strerror or type(error).__name__) from None
    except ValueError as error:
        raise DecodeError(path, str(error)) from None
    except MemoryError:
        raise
    except Exception as error:
        raise DecodeError.of(path, error) from None
