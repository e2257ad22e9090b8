"""Folders of images: a video's frames as the papers' own tools leave them (`00001.jpg`, `img_00001.jpg`,
`frame_0001_rgb.png`).

Frame i is the i-th image in the order of the numbers in their names, the last number of each. Where other series lie beside
it (TSN's `flow_x_00001.jpg`), the one of RGB frames is taken. Pixels are as they are stored; all frames have the first
one's size.
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
from muybridge.video.limits import Limits, Watch
from muybridge.video.scaling import scaled, scaled_size

_IMAGE = re.compile(r"[^.].*\.(?:jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE | re.DOTALL)
_NUMBERED = re.compile(r"(.*?)([0-9]+)((?:[-_. )\]][^0-9]*)?\.[^.]+)", re.DOTALL)
"""`00001.jpg`, `img_00001.jpg`, `frame_0001_rgb.png`, `frame (1).png`."""


def is_image(name: str) -> bool:
    """By its ending; hidden files are none."""
    return _IMAGE.fullmatch(name) is not None


def is_frame(name: str) -> bool:
    """An image with a number in its name."""
    return is_image(name) and _NUMBERED.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Series:
    """The frames of one folder: small where their names follow from the first one's."""

    prefix: str
    first: int
    """The first frame's number."""
    digits: int
    """How many its name has at least; shorter numbers have zeros in front."""
    suffix: str
    count: int
    names: str = ""
    """All names, joined by slashes; empty where numbers have no gap and names differ in nothing else."""

    def __len__(self) -> int:
        return self.count

    def name(self, frame: int) -> str:
        return self.names_of([frame])[0]

    def names_of(self, frames: Sequence[int]) -> list[str]:
        """File names of the frames at these places, counted from 0."""
        if self.names:
            names = self.names.split("/")
            return [names[frame] for frame in frames]
        return [f"{self.prefix}{self.first + frame:0{self.digits}d}{self.suffix}" for frame in frames]

    def numbers(self) -> Sequence[int]:
        """The number in each frame's name, rising."""
        if self.names:
            return [_parsed(name)[1] for name in self.names.split("/")]
        return range(self.first, self.first + self.count)


def series(path: str | os.PathLike[str]) -> Series:
    """The frames that a folder holds. Raises DecodeError where there are none, or several series to choose from."""
    return _series(os.fspath(path), _mtime_ns(path))


def _mtime_ns(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None


@functools.lru_cache(maxsize=1 << 15)  # below 1 kB each where numbers have no gap; a folder is not listed at each call
def _series(path: str, mtime_ns: int) -> Series:
    try:
        with os.scandir(path) as entries:
            listed = [entry.name for entry in entries if is_frame(entry.name) and entry.is_file()]
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None
    found: dict[tuple[str, str], dict[int, str]] = {}  # by what stands before the number, and between it and the ending
    for name in sorted(listed):
        prefix, number, suffix = _parsed(name)
        series_name = (prefix, suffix.rpartition(".")[0])
        other = found.setdefault(series_name, {}).setdefault(number, name)
        if other != name:
            raise DecodeError(path, f"{other} and {name} have the same number")
    if not found:
        raise DecodeError(path, "is a folder without numbered images (00001.jpg, img_00001.jpg)")
    chosen = [name for name in found if not any("flow" in part.lower() for part in name)] or sorted(found)
    if len(chosen) > 1:
        told = ", ".join(f"{before}*{after}: {len(found[before, after])}" for before, after in sorted(chosen))
        raise DecodeError(
            path, f"holds several series of images ({told}); the frames of a video need a folder of their own"
        )
    by_number = found[chosen[0]]
    names = [by_number[number] for number in sorted(by_number)]
    prefix, number, suffix = _parsed(names[0])
    digits = len(names[0]) - len(prefix) - len(suffix)
    by_rule = Series(prefix, number, digits, suffix, len(names))
    return by_rule if by_rule.names_of(range(len(names))) == names else replace(by_rule, names="/".join(names))


def _parsed(name: str) -> tuple[str, int, str]:
    """Prefix, number and ending of a frame's name."""
    match = _NUMBERED.fullmatch(name)
    assert match is not None, f"{name} is no frame"
    return match[1], int(match[2]), match[3]


def _size(path: str | os.PathLike[str], short_side: int | None) -> tuple[int, int]:
    """(width, height) of all frames: what the folder's first one gives, whichever are read."""
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
) -> VideoInfo:
    """Decode every image once, without keeping pixels; `fps`, as images say none. `alive` hears that it goes on. Raises
    DecodeError with the path of the image that is broken, or where it passes a limit."""
    found, watch = series(path), Watch(path, limits, alive)
    if limits is not None and len(found) > limits.frames:
        raise DecodeError(path, f"it has {len(found)} frames; at most {limits.frames} are read (--max-frames)")
    size = scaled_size(*_first_size(os.fspath(path), _mtime_ns(path), limits), None)
    for name in found.names_of(range(len(found))):
        _picture(os.path.join(path, name), size, None, limits)
        watch.frame(*size)
    return VideoInfo(len(found), 0, fps, *size, np.arange(len(found)) / fps, seekable=False)


def sha256(path: str | os.PathLike[str], alive: Callable[[], None] = lambda: None) -> str:
    """Hash of the frames of a folder: their names and contents, in order. `alive` hears that it goes on."""
    found, digest = series(path), hashlib.sha256()
    for name in found.names_of(range(len(found))):
        alive()
        with _naming(os.path.join(path, name)):
            data = _bytes_of(os.path.join(path, name))
        digest.update(f"{name}/{len(data)}/".encode("utf-8", "surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def frames(
    path: str | os.PathLike[str], *, start_frame: int = 0, short_side: int | None = None
) -> Iterator[np.ndarray]:
    """Frames from `start_frame` on, each (H,W,3) uint8 RGB; scaled so that the short side is `short_side` pixels."""
    found, size = series(path), _size(path, short_side)
    for name in found.names_of(range(start_frame, len(found))):
        yield _picture(os.path.join(path, name), size, short_side)


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | np.ndarray,
    *,
    short_side: int | None = None,
    seekable: bool = False,
) -> np.ndarray:
    """The frames at `indices` (any order, repeats allowed) as (T,H,W,3) uint8; no other image is read. Raises
    DecodeError where an image is broken, or there are fewer."""
    distinct, places = distinct_frames(indices)
    found, size = series(path), _size(path, short_side)
    if distinct[-1] >= len(found):
        raise DecodeError(path, f"frame {distinct[-1]} was asked for, but decoding gives {len(found)} frames")
    names = found.names_of(distinct.tolist())
    clip_THW3 = np.stack([_picture(os.path.join(path, name), size, short_side) for name in names])
    return as_asked(clip_THW3, places)


def _picture(path: str, size: tuple[int, int], short_side: int | None, limits: Limits | None = None) -> np.ndarray:
    """(H,W,3) uint8 of `size` (width, height), which for images as large as the first is that of `short_side`."""
    with _naming(path):
        data = _bytes_of(path)
        if not simplejpeg.is_jpeg(data):
            return scaled(_decoded(data, path, limits), size)
        if limits is not None:
            limits.check_size(path, *jpeg_size(data))
        return scaled(decode_jpeg(data, short_side), size)


_CODECS = {b"\x89PNG": "png", b"BM": "bmp", b"RIFF": "webp", b"II*\0": "tiff", b"MM\0*": "tiff"}
"""FFmpeg's decoder by what a file begins with; names lie."""


def _decoded(data: bytes, path: str, limits: Limits | None = None) -> np.ndarray:
    """(H,W,3) uint8 from the bytes of a file that is no JPEG. Raises ValueError and FFmpeg's errors; DecodeError for a
    picture that is too large."""
    codec = next((name for start, name in _CODECS.items() if data.startswith(start)), None)
    if codec is None:
        raise ValueError("is no JPEG, PNG, BMP, WebP or TIFF image" if data else "is empty")
    context = cast(VideoCodecContext, av.CodecContext.create(codec, "r"))
    context.thread_type = "NONE"
    # half a picture is none; of TIFF that is so anyway, and its decoder calls FFmpeg's own files wrong
    context.options = {"err_detect": "crccheck" if codec == "tiff" else "crccheck+explode"}
    if limits is not None:
        if codec == "png" and len(data) >= 24:
            limits.check_size(path, *struct.unpack(">II", data[16:24]))
        context.options = {**context.options, "max_pixels": str(limits.pixels)}
    for frame in [*context.decode(av.Packet(data)), *context.decode(None)]:
        return frame.to_ndarray(format="rgb24")
    raise ValueError("holds no picture")


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Every failure inside is a DecodeError of the image at `path`."""
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
