"""Files of a pack: the frames of many videos in one file, with random access (format: docs/formats.md).

A file holds the coded frames one after another; the offset of each (N+1 × uint64); whether each is a key frame
(N × uint8); JSON that names the videos; and a tail with the lengths. Frames are counted over all videos of a file.

Two codecs: JPEG, every frame alone; and H.264 without B-frames, a key frame every few frames, coded for fast decoding:
about a fifth of the bytes at a third of the speed.

The frames may be fields of motion vectors (`muybridge.video.fields`), (H,W,2) in place of (H,W,3). Such a file has a
checksum of every frame, too (N × uint32, before the JSON), which is compared whenever one is read; and PNG, without loss,
is its third codec.
"""

import functools
import hashlib
import json
import os
import stat
import struct
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from muybridge.video import fields
from muybridge.video.errors import DecodeError
from muybridge.video.indices import as_asked, distinct_frames
from muybridge.video.jpeg import decode_gray_jpeg, decode_jpeg, encode_gray_jpeg, encode_jpeg
from muybridge.video.scaling import scaled, scaled_size

SUFFIX = ".pack"
FORMAT_VERSION = 1
Codec = Literal["jpeg", "h264", "png"]

GOP_FRAMES = 4
"""Distance of key frames in H.264."""

_TAIL = struct.Struct("<QQ8s")
"""The tail: number of frames, bytes of JSON, magic."""
_MAGIC = {3: b"mbpack\x00\x01", 2: b"mbflow\x00\x01"}
"""The end of a file by the values of a pixel: colours, or the components of a motion vector."""
_CHUNK_BYTES = 2**22


def frames(path: str, *, start_frame: int = 0, short_side: int | None = None) -> Iterator[np.ndarray]:
    """Yield frames from `start_frame` on, each (H,W,3) uint8 RGB (or codes of vectors, (H,W,2)), through all videos."""
    file = _opened(path)
    ends = [int(end) for end in file.ends_V if end > start_frame]
    for end in ends:
        for start in range(start_frame, end, 8 * GOP_FRAMES):
            yield from read_frames(path, range(start, min(end, start + 8 * GOP_FRAMES)), short_side=short_side)
        start_frame = end


def read_frames(
    path: str, indices: Sequence[int] | np.ndarray, *, short_side: int | None = None, seekable: bool = False
) -> np.ndarray:
    """Read the frames at `indices` (any order, repeats allowed; of one video) as (T,H,W,3) uint8, or (T,H,W,2) of vectors.

    Scaled vectors become longer or shorter with the frame, and are float16. Raises DecodeError.
    """
    distinct, positions = distinct_frames(indices)
    file = _opened(path)
    if distinct[-1] >= file.num_frames:
        raise DecodeError(path, f"frame {distinct[-1]} was asked for, but it holds {file.num_frames} frames")
    try:
        clip = decode(file, distinct.tolist(), short_side)
    except (ValueError, LookupError, TypeError, OSError, av.error.FFmpegError) as error:
        raise DecodeError(path, f"frames {distinct.tolist()} cannot be decoded: {error}") from None
    return as_asked(clip, positions)


def about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON of a pack's file. Raises DecodeError for another or an incomplete file."""
    return _opened(os.fspath(path)).about()


def num_channels(path: str | os.PathLike[str]) -> int:
    """Values of a pixel: 3, or 2 in a file of motion vectors. Raises DecodeError for another or an incomplete file."""
    try:
        with open(path, "rb") as stream:
            stream.seek(-len(_MAGIC[3]), os.SEEK_END)
            return _channels_of(path, stream.read())
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None


def _channels_of(path: str | os.PathLike[str], tail: bytes) -> int:
    for channels, magic in _MAGIC.items():
        if tail.endswith(magic):
            return channels
    raise DecodeError(path, "not a file of a pack, or an incomplete one")


def check(path: str | os.PathLike[str]) -> None:
    """Verify the hash of a file's frames and tables. Raises DecodeError where a byte differs."""
    file = _opened(os.fspath(path))
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        left = file.hashed_bytes
        while left > 0 and (chunk := stream.read(min(_CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
    if digest.hexdigest() != file.about()["sha256"]:
        raise DecodeError(path, "its bytes are not those that were written: delete it and make it again")


class CodedFrames(Protocol):
    """Coded frames by index."""

    codec: Codec
    channels: int
    """3, or 2 for motion vectors."""

    def blob(self, index: int) -> bytes:
        """Coded bytes of a frame."""
        ...

    def is_key(self, index: int) -> bool:
        """Whether a frame is a key frame."""
        ...

    def size_of(self, index: int) -> tuple[int, int]:
        """(width, height) of a frame."""
        ...


def decode(coded: CodedFrames, indices: Sequence[int], short_side: int | None = None) -> np.ndarray:
    """Decode frames at sorted, distinct indices, of one size, to (T,H,W,3) uint8 RGB, or to (T,H,W,2) codes of vectors.

    Codes of scaled vectors are float16, and may be beyond the largest code. Raises ValueError, FFmpegError.
    """
    width, height = size = scaled_size(*coded.size_of(indices[0]), short_side)
    kind = np.float16 if coded.channels == 2 and size != coded.size_of(indices[0]) else np.uint8
    clip_THWC = np.empty((len(indices), height, width, coded.channels), kind)
    if coded.channels == 2:
        grays = map(decode_gray_jpeg if coded.codec == "jpeg" else _decode_png, map(coded.blob, indices))
        if coded.codec == "h264":
            grays = map(_luma, _h264_frames(coded, indices))
        for index, gray_HW, into_HW2 in zip(indices, grays, clip_THWC, strict=True):
            into_HW2[:] = fields.resized(fields.unstacked(gray_HW, coded.size_of(index)), size)
        return clip_THWC
    if coded.codec == "jpeg":
        for index, into_HW3 in zip(indices, clip_THWC, strict=True):
            pixels = decode_jpeg(coded.blob(index), short_side, into_HW3=into_HW3)
            if not np.shares_memory(pixels, into_HW3):
                into_HW3[:] = pixels
        return clip_THWC
    reformatter = VideoReformatter()
    for index, frame, into_HW3 in zip(indices, _h264_frames(coded, indices), clip_THWC, strict=True):
        pixels = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        stored_width, stored_height = coded.size_of(index)
        into_HW3[:] = scaled(pixels[:stored_height, :stored_width], size)
    return clip_THWC


def _h264_frames(coded: CodedFrames, indices: Sequence[int]) -> Iterator[VideoFrame]:
    """Decoded frames at sorted indices, each from its key frame on. Raises ValueError, FFmpegError."""
    context = VideoCodecContext.create("h264", "r")
    context.thread_type = "NONE"
    position = -1
    for index in indices:
        start = index
        while not coded.is_key(start):
            start -= 1
        for i in range(max(start, position + 1), index + 1):
            decoded = context.decode(av.Packet(coded.blob(i)))
            if len(decoded) != 1:
                raise ValueError(f"frame {i} is damaged")
        position = index
        yield decoded[0]


def _luma(frame: VideoFrame) -> np.ndarray:
    """The first plane (H,W) of a frame, as it was coded."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


def _decode_png(data: bytes) -> np.ndarray:
    context = VideoCodecContext.create("png", "r")
    decoded = context.decode(av.Packet(data)) or context.decode(None)
    if len(decoded) != 1 or decoded[0].format.name != "gray":
        raise ValueError("a frame is damaged")
    return decoded[0].to_ndarray()


def _encode_png(gray_HW: np.ndarray) -> bytes:
    height, width = gray_HW.shape
    context = VideoCodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, "gray", Fraction(1, 25)
    packets = [*context.encode(VideoFrame.from_ndarray(gray_HW, format="gray")), *context.encode(None)]
    return b"".join(map(bytes, packets))


class _File:
    """An open file of a pack; reads are positional, so threads share it."""

    def __init__(self, path: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise DecodeError(path, error.strerror or str(error)) from None
        weakref.finalize(self, os.close, self._descriptor)
        size_bytes = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _TAIL.size, max(0, size_bytes - _TAIL.size))
        if len(tail) < _TAIL.size:
            raise DecodeError(path, "not a file of a pack, or an incomplete one")
        self.channels = _channels_of(path, tail)
        self.num_frames, json_bytes, _ = _TAIL.unpack(tail)
        self._json_bytes, self.hashed_bytes = json_bytes, size_bytes - _TAIL.size - json_bytes
        table_bytes = 8 * (self.num_frames + 1) + (1 if self.channels == 3 else 5) * self.num_frames
        if self.hashed_bytes < table_bytes:
            raise DecodeError(path, "its end is damaged: delete it and make it again")
        try:
            described = self.about()  # not kept: it is large, and many files are open
            self.codec: Codec = described["codec"]
            self.ends_V = np.array([video["first_frame"] + video["num_frames"] for video in described["videos"]])
            self._sizes_V2 = np.array([(video["width"], video["height"]) for video in described["videos"]])
            if not len(self.ends_V) or self.ends_V[-1] != self.num_frames or (np.diff(self.ends_V) < 0).any():
                raise ValueError("the lengths of its videos do not add up to its number of frames")
            if self._sizes_V2.min() < 1 or self._sizes_V2.max() >= 2**16:
                raise ValueError("a video has an impossible size")
            table = np.memmap(path, np.uint8, "r", offset=self.hashed_bytes - table_bytes, shape=(table_bytes,))
        except (ValueError, LookupError, TypeError, OSError, RecursionError) as error:
            raise DecodeError(path, f"its end is damaged ({error}): delete it and make it again") from None
        self.offsets: np.ndarray = np.asarray(table[: 8 * (self.num_frames + 1)]).view("<u8")
        keys = np.asarray(table[8 * (self.num_frames + 1) :])
        self._keys, checksums = keys[: self.num_frames], keys[self.num_frames :]
        self._checksums = checksums.view("<u4") if self.channels == 2 else None

    def about(self) -> dict[str, Any]:
        return dict(json.loads(os.pread(self._descriptor, self._json_bytes, self.hashed_bytes)))

    def blob(self, index: int) -> bytes:
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        if not start <= end <= self.hashed_bytes:
            raise ValueError("its table of frames is damaged")
        data = os.pread(self._descriptor, end - start, start)
        if self._checksums is not None and zlib.crc32(data) != self._checksums[index]:
            raise ValueError(
                f"frame {index} is not as it was written; delete the file and repeat `muybridge flow`, which computes it "
                "alone again"
            )
        return data

    def is_key(self, index: int) -> bool:
        return bool(self._keys[index])

    def size_of(self, index: int) -> tuple[int, int]:
        width, height = self._sizes_V2[int(np.searchsorted(self.ends_V, index, side="right"))].tolist()
        return width, height


def _opened(path: str) -> _File:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DecodeError(path, error.strerror or str(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(path, "not a regular file")
    return _cached_file(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _cached_file(path: str, mtime_ns: int, num_bytes: int) -> _File:
    return _File(path)


class Coded:
    """The coded frames of a video in a scratch file, as `encode` returns and `Writer.add` takes them."""

    def __init__(self, scratch: IO[bytes], codec: Codec, size: tuple[int, int], channels: int = 3) -> None:
        self.scratch, self.codec, self.size, self.channels = scratch, codec, size, channels
        self.offsets = [0]
        self.keys: list[bool] = []
        self.checksums: list[int] = []

    def add(self, data: bytes, *, is_key: bool) -> None:
        """Append a coded frame."""
        self.scratch.write(data)
        self.offsets.append(self.offsets[-1] + len(data))
        self.keys.append(is_key)
        self.checksums.append(zlib.crc32(data))

    def blob(self, index: int) -> bytes:
        """Coded bytes of a frame."""
        self.scratch.seek(self.offsets[index])
        return self.scratch.read(self.offsets[index + 1] - self.offsets[index])

    def is_key(self, index: int) -> bool:
        """Whether a frame is a key frame."""
        return self.keys[index]

    def size_of(self, index: int) -> tuple[int, int]:
        """(width, height) of all frames."""
        return self.size


def encode(frames_HWC: Iterable[np.ndarray], scratch: IO[bytes], *, codec: Codec, quality: int) -> Coded:
    """Encode frames, each (H,W,3) uint8 or codes of vectors (H,W,2), all of one size; the same frames give the same bytes.

    `quality`: of JPEG 1 … 100, or the CRF of H.264 (0 … 51, less is better). Raises ValueError without frames.
    """
    coded: Coded | None = None
    context: VideoCodecContext | None = None
    for index, pixels_HWC in enumerate(frames_HWC):
        height, width, channels = pixels_HWC.shape
        pixels = pixels_HWC if channels == 3 else fields.stacked(pixels_HWC)
        if coded is None:
            coded = Coded(scratch, codec, (width, height), channels)
            context = _h264_encoder(width, len(pixels), crf=quality, gray=channels == 2) if codec == "h264" else None
        if context is not None:
            padded = np.pad(pixels, [(0, len(pixels) % 2), (0, width % 2), (0, 0)][: pixels.ndim], mode="edge")
            layout = "rgb24" if channels == 3 else "gray"
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(padded), format=layout)
            frame.pts = index
            for packet in context.encode(frame):
                coded.add(bytes(packet), is_key=packet.is_keyframe)
        elif codec == "png":
            coded.add(_encode_png(pixels), is_key=True)
        else:
            coded.add((encode_jpeg if channels == 3 else encode_gray_jpeg)(pixels, quality), is_key=True)
    if coded is None:
        raise ValueError("there are no frames to encode")
    if context is not None:
        for packet in context.encode(None):
            coded.add(bytes(packet), is_key=packet.is_keyframe)
    return coded


def _h264_encoder(width: int, height: int, *, crf: int, gray: bool) -> VideoCodecContext:
    context = VideoCodecContext.create("libx264", "w")
    context.width, context.height = width + width % 2, height + height % 2
    context.pix_fmt, context.time_base = "gray" if gray else "yuv420p", Fraction(1, 25)
    context.thread_type, context.thread_count = "NONE", 1
    context.options = {
        "preset": "veryfast", "tune": "fastdecode", "crf": str(crf), "g": str(GOP_FRAMES), "bf": "0",
        "sc_threshold": "0", "rc-lookahead": "0", "x264-params": "mbtree=0",  # with lookahead x264 is not repeatable
    }  # fmt: skip
    return context


def stored(path: str | os.PathLike[str], scratch: IO[bytes]) -> Iterator[tuple[Coded, dict[str, Any]]]:
    """Videos of a file as `Writer.add` takes them, one after the other in `scratch`. Raises DecodeError."""
    file = _opened(os.fspath(path))
    for video in file.about()["videos"]:
        scratch.seek(0)
        scratch.truncate()
        coded = Coded(scratch, file.codec, (video["width"], video["height"]))
        first = video["first_frame"]
        try:
            for index in range(first, first + video["num_frames"]):
                coded.add(file.blob(index), is_key=file.is_key(index))
        except ValueError as error:
            raise DecodeError(os.fspath(path), f"{error}: delete it and make it again") from None
        yield coded, {name: value for name, value in video.items() if name not in _PLACE}


_PLACE = ("first_frame", "num_frames", "width", "height")
"""Fields of a video that a `Writer` sets."""


class Writer:
    """Writes one file of a pack: videos in order, then `close`. The file is complete or absent.

    `about`: entries of the file's JSON beside its own.
    """

    def __init__(self, path: Path, codec: Codec, *, channels: int = 3, about: Mapping[str, Any] | None = None) -> None:
        self.path, self._codec, self._channels, self._about = path, codec, channels, dict(about or {})
        self._partial = path.with_name(f".{path.name}.partial")
        self._partial.unlink(missing_ok=True)
        self._stream = self._partial.open("xb")  # a new file, whatever was there
        self._digest = hashlib.sha256()
        self._offsets = [0]
        self._keys: list[bool] = []
        self._checksums: list[int] = []
        self._videos: list[dict[str, Any]] = []

    @property
    def num_bytes(self) -> int:
        """Bytes of coded frames so far."""
        return self._offsets[-1]

    @property
    def num_frames(self) -> int:
        """Number of frames so far."""
        return len(self._keys)

    def add(self, coded: Coded, about_video: dict[str, Any]) -> None:
        """Append a video; `about_video` is added to its entry in the file's JSON."""
        width, height = coded.size
        first = {"first_frame": self.num_frames, "num_frames": len(coded.keys), "width": width, "height": height}
        self._videos.append({**first, **about_video})
        coded.scratch.seek(0)
        while chunk := coded.scratch.read(_CHUNK_BYTES):
            self._write(chunk)
        start = self._offsets[-1]
        self._offsets += [start + offset for offset in coded.offsets[1:]]
        self._keys += coded.keys
        self._checksums += coded.checksums

    def append(self, path: Path) -> None:
        """Append all videos of another file of the same kind. Raises DecodeError for a frame that is not as it was written."""
        file = _File(os.fspath(path))
        first, start = self.num_frames, self._offsets[-1]
        self._videos += [{**video, "first_frame": first + video["first_frame"]} for video in file.about()["videos"]]
        for index in range(file.num_frames):
            try:
                data = file.blob(index)
            except ValueError as error:
                raise DecodeError(path, str(error)) from None
            self._write(data)
            self._offsets.append(self._offsets[-1] + len(data))
            self._keys.append(file.is_key(index))
            self._checksums.append(zlib.crc32(data))
        assert self._offsets[-1] - start == int(file.offsets[-1])

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)

    def close(self) -> None:
        """Finish the file, flush it to the disk, and rename it to its final name."""
        tables = [np.array(self._offsets, dtype="<u8"), np.array(self._keys, dtype=np.uint8)]
        if self._channels == 2:
            tables.append(np.array(self._checksums, dtype="<u4"))
        with self._stream as stream:
            for table in tables:
                self._write(table.tobytes())
            described = {
                "format_version": FORMAT_VERSION, "codec": self._codec, **self._about, "sha256": self._digest.hexdigest(),
                "videos": self._videos,
            }  # fmt: skip
            text = json.dumps(described, separators=(",", ":")).encode()
            stream.write(text)
            stream.write(_TAIL.pack(self.num_frames, len(text), _MAGIC[self._channels]))
            stream.flush()
            os.fsync(stream.fileno())
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._stream.close()
        self._partial.unlink(missing_ok=True)
