"""Decode a video file: frame i is the i-th frame of a full, sequential decode, in display order.

Counting decoded frames, rather than trusting headers or time stamps, is right for every file: headers give wrong counts,
frame rates vary, AVI indices count packets. Frames are upright (rotation flags applied) and of one size.

Most files can be read faster, by their time stamps: frames that no requested frame depends on are not decoded. `probe`,
which decodes the whole file, verifies that this gives the same frames as counting; only then is a file `seekable`.
"""

import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from muybridge.video.errors import DecodeError
from muybridge.video.indices import as_asked, distinct_frames
from muybridge.video.kept import KeptFrames
from muybridge.video.limits import Limits, Watch
from muybridge.video.scaling import scaled_size


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, from a full decode."""

    num_frames: int
    declared_frames: int
    """Number of frames in the header; 0 where it holds none."""
    fps: float
    width: int
    height: int
    times_seconds: np.ndarray
    """(num_frames,) display time of each frame, counted from the first."""
    seekable: bool
    """Whether reading by time stamps was verified to give the same frames as counting."""
    odd: str = ""
    """Remark about an unusual file, for the user."""


def probe(
    path: str | os.PathLike[str],
    *,
    limits: Limits | None = None,
    alive: Callable[[], None] = lambda: None,
    keep: KeptFrames | None = None,
) -> VideoInfo:
    """Decode the whole file once, without keeping pixels.

    `alive` is called while decoding. `keep`: gets every frame, as `frames` gives it; whether the file is seekable is then
    not tried. Raises DecodeError with the decoder's last message, or where a limit is passed.
    """
    times: list[float | None] = []
    pts: list[int | None] = []
    sizes: set[tuple[int, int]] = set()
    kinds: set[tuple[object, ...]] = set()
    width = height = 0
    trial, watch = _Trial(), Watch(path, limits, alive)
    convert = None if keep is None else Converter(path, keep.short_side)
    with _listening() as complaints, _opened(path, limits) as (container, stream):
        declared_frames = stream.frames
        declared = [float(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
        declared_seconds = _declared_seconds(container, stream)
        for frame in container.decode(stream):
            watch.frame(frame.width, frame.height)
            if not times:
                quarter_turns = round(frame.rotation / 90) % 2
                width, height = (frame.height, frame.width) if quarter_turns else (frame.width, frame.height)
            if keep is not None and convert is not None and keep.is_open:
                keep.add(convert(frame))
            elif (kind := _pixel_kind(frame)) not in kinds:  # can these pixels be converted?
                kinds.add(kind)
                Converter(path, None)(frame)
            if keep is None:
                trial.watch(len(times), frame)
            times.append(frame.time)
            pts.append(frame.pts)
            sizes.add((frame.width, frame.height))
    if not times:
        raise DecodeError(path, "not one frame could be decoded")
    times_seconds = _in_order(times)
    span_seconds = 0.0 if times_seconds is None else times_seconds[-1] - times_seconds[0]
    stamped_fps = round((len(times) - 1) / span_seconds, 4) if span_seconds > 0 else None
    if stamped_fps == 0:
        raise DecodeError(path, f"its time stamps span {span_seconds:.0f} seconds for {len(times)} frames")
    mixed_seconds = _out_of_order(times) if times_seconds is None else None
    mixed_fps = None if mixed_seconds is None else round((len(times) - 1) / float(mixed_seconds[-1]), 4)
    fps, odd = _frame_rate(stamped_fps, mixed_fps, len(times), declared, declared_seconds)
    if mixed_seconds is not None and fps == mixed_fps:
        times_seconds = mixed_seconds
    elif times_seconds is None or fps != stamped_fps:
        times_seconds = np.arange(len(times)) / fps
    if odd:  # its time stamps are unreliable
        return VideoInfo(len(times), declared_frames, fps, width, height, times_seconds, False, odd)
    # Concealment of errors depends on the frames decoded before; and a later size must not become the clip's.
    seekable = keep is None and not complaints and len(sizes) == 1 and trial.passes(path, pts, watch.tick)
    return VideoInfo(len(times), declared_frames, fps, width, height, times_seconds, seekable)


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Duration in the header; None where it holds none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _frame_rate(
    stamped_fps: float | None,
    mixed_fps: float | None,
    num_frames: int,
    declared: Sequence[float],
    declared_seconds: float | None,
) -> tuple[float, str]:
    """Choose the frame rate, and describe a contradiction.

    The rate of the time stamps, unless the header's duration and one of its declared rates agree on another; or that of
    time stamps in another order than the frames (`mixed_fps`), where only these agree with the duration. The header of
    H.264 that was copied into AVI declares twice the rate, or hundreds.
    """
    fps = stamped_fps or (round(declared[0], 4) if declared else 25.0)
    if not declared or not declared_seconds or declared_seconds <= 0:
        return fps, ""
    by_length = num_frames / declared_seconds
    nearest, by = min(declared, key=lambda rate: abs(rate / by_length - 1)), "length"
    if mixed_fps and not 0.8 < by_length / nearest < 1.25:
        nearest, by = mixed_fps, "time stamps"
    if not 0.8 < by_length / nearest < 1.25 or 1 / 1.5 < fps / nearest < 1.5:
        return fps, ""
    whose = "its time stamps say" if stamped_fps else "it declares"
    return round(nearest, 4), f"{whose} {fps:g} frames a second, its {by} {nearest:g}, which is taken"


@dataclass(frozen=True)
class Header:
    """Properties that a file states, whether they are true or not."""

    container: str
    codec: str
    has_audio: bool
    declared_frames: int
    """0 where it says none."""


def header(path: str | os.PathLike[str]) -> Header:
    """Read a file's header; no frame is decoded. Raises DecodeError."""
    with _opened(path) as (container, stream):
        return Header(container.format.name, stream.codec_context.name, bool(container.streams.audio), stream.frames)


_LISTENERS = 0
_LISTENERS_LOCK = threading.Lock()
# While the log is on for one thread, other threads' messages go to Python's logging, which shows them only on request.
logging.getLogger("libav").addHandler(logging.NullHandler())


@contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """Collect the decoder's messages in this thread. Its log, which is global, is off otherwise."""
    global _LISTENERS
    with _LISTENERS_LOCK:
        _LISTENERS += 1
        if _LISTENERS == 1:
            av.logging.set_skip_repeated(
                False
            )  # a message of one thread must not be suppressed as another's repetition
            av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as complaints:
            yield complaints
    finally:
        with _LISTENERS_LOCK:
            _LISTENERS -= 1
            if _LISTENERS == 0:
                av.logging.set_level(None)


def frames(
    path: str | os.PathLike[str], *, start_frame: int = 0, short_side: int | None = None
) -> Iterator[np.ndarray]:
    """Yield frames from `start_frame` on in display order, each (H,W,3) uint8 RGB.

    They are scaled to a short side of `short_side` pixels.
    """
    convert = Converter(path, short_side)
    with _opened(path) as (container, stream):
        for position, frame in enumerate(container.decode(stream)):
            convert.fix_size(frame)
            if position >= start_frame:
                yield convert(frame)


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | np.ndarray,
    *,
    short_side: int | None = None,
    seekable: bool = False,
) -> np.ndarray:
    """Read the frames at `indices` (any order, repeats allowed) as (T,H,W,3) uint8.

    `seekable`: the result of `probe`. Raises DecodeError where the file cannot be decoded or ends before the largest index.
    """
    distinct, positions = distinct_frames(indices)
    convert, clip = Converter(path, short_side), None
    if seekable:
        index = _index_of(path)
        clip = _stacked(_by_time_stamps(path, index, distinct.tolist()), len(distinct), convert)
    if clip is None:
        convert = Converter(path, short_side)
        clip = _counted(path, distinct.tolist(), convert)
    return as_asked(clip, positions)


def _stacked(frames: Iterator[VideoFrame], num_frames: int, convert: "Converter") -> np.ndarray | None:
    """Convert exactly `num_frames` frames to (T,H,W,3); None where there are fewer."""
    clip: np.ndarray | None = None
    count = 0
    for frame in frames:
        pixels = convert(frame)
        if clip is None:
            clip = np.empty((num_frames, *pixels.shape), np.uint8)
        clip[count] = pixels
        count += 1
    return clip if count == num_frames else None


def times_seconds(path: str | os.PathLike[str]) -> np.ndarray | None:
    """(N,) display time of each frame of a seekable file, counted from the first, without decoding.

    None where its packets hold no times.
    """
    index = _index_of(path)
    return None if index is None else (index.pts_N - index.pts_N[0]) * index.tick_seconds


def _counted(path: str | os.PathLike[str], wanted: list[int], convert: "Converter") -> np.ndarray:
    """Decode sequentially to the frames at `wanted` (sorted, distinct), as (T,H,W,3).

    All frames on the way are converted, too: a decoder conceals damage with the content of its buffers, and the scaler holds
    one of them; which one is next must not depend on the request. Raises DecodeError where the file ends before the last.
    """
    clip: np.ndarray | None = None
    done = position = 0
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            pixels = convert(frame)
            if position == wanted[done]:
                if clip is None:
                    clip = np.empty((len(wanted), *pixels.shape), np.uint8)
                clip[done] = pixels
                done += 1
                if done == len(wanted):
                    return clip
            position += 1
    raise DecodeError(path, f"frame {wanted[-1]} was asked for, but decoding gives {position} frames")


SEEK_PACKETS = 8
"""A key frame further ahead is sought, a nearer one is run up to: reading and dropping a packet is cheaper than a seek."""


def _by_time_stamps(path: str | os.PathLike[str], index: "_Index | None", wanted: list[int]) -> Iterator[VideoFrame]:
    """Yield the frames at `wanted` (sorted, distinct), in order; fewer where packets and frames contradict each other.

    Packets are read in their order. Those before the last key frame that a requested frame needs are dropped, or skipped by
    seeking; of the others, those that no frame depends on (B-frames that are not references) are not decoded.
    """
    if index is None or wanted[-1] >= len(index.pts_N):
        return
    wanted_pts: list[int] = index.pts_N[wanted].tolist()
    last_key_before = index.keys_K[np.searchsorted(index.keys_K, wanted, side="right") - 1]
    key_pts: list[int] = index.pts_N[last_key_before].tolist()
    shown = set(wanted_pts)
    try:
        with _opened(path) as (container, stream):
            context = stream.codec_context
            packets = container.demux(stream)
            num_read = done = 0
            reached: int | None = None  # the key frame that was decoded last
            skipping = False
            while True:
                if reached is None or key_pts[done] > reached:  # nothing before it needs decoding
                    if last_key_before[done] > num_read + SEEK_PACKETS:
                        container.seek(key_pts[done], stream=stream)
                        packets, num_read = container.demux(stream), int(last_key_before[done])
                    packet = next(packets, None)
                    while packet is not None and packet.pts != key_pts[done]:
                        packet, num_read = next(packets, None), num_read + 1
                    context.flush_buffers()
                else:
                    packet = next(packets, None)
                if packet is None:
                    return
                num_read += 1
                if packet.is_keyframe and packet.pts is not None:
                    reached = packet.pts
                skip = packet.size > 0 and packet.pts not in shown
                if skip != skipping:
                    context.skip_frame = "NONREF" if skip else "DEFAULT"
                    skipping = skip
                for frame in packet.decode():
                    if frame.pts == wanted_pts[done]:
                        yield frame
                        done += 1
                        if done == len(wanted_pts):
                            return
    except DecodeError:
        return


@dataclass(frozen=True)
class _Index:
    """Display times of the frames of a file, from its packets."""

    pts_N: np.ndarray
    """Presentation time stamps, sorted; frame i is the one with pts_N[i]."""
    keys_K: np.ndarray
    """Indices of the key frames; the first frame is one."""
    tick_seconds: float


def _index_of(path: str | os.PathLike[str]) -> _Index | None:
    """Index of a file, cached: it is scanned once, not in every epoch."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _cached_index(os.fspath(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8192)  # about 3 kB each
def _cached_index(path: str, mtime_ns: int, num_bytes: int) -> _Index | None:
    return _scan(path)


def _scan(path: str | os.PathLike[str], tick: Callable[[], None] = lambda: None) -> _Index | None:
    """Read all packets; None where they do not hold the display time of every frame."""
    pts: list[int] = []
    keys: list[int] = []
    try:
        with _opened(path) as (container, stream):
            tick_seconds = float(stream.time_base or 0)
            for packet in container.demux(stream):
                tick()
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    return None
                pts.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
    except DecodeError:
        return None
    pts_N = np.array(sorted(pts), dtype=np.int64)
    keys_K = np.searchsorted(pts_N, np.array(sorted(keys), dtype=np.int64))
    if len(pts_N) == 0 or len(keys_K) == 0 or keys_K[0] != 0 or (np.diff(pts_N) <= 0).any():
        return None
    return _Index(pts_N, keys_K, tick_seconds)


class _Trial:
    """Verifies that time stamps give the same frames as counting.

    Some frames of a full decode are kept (a few key frames, ever further apart, and frames after them), then read by their
    time stamps.
    """

    AFTER_KEY = (0, 1, 4)

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._next_key, self._key = 0, 0
        self._seen: dict[int, np.ndarray] = {}
        self._keys: set[int] = set()
        self._whole = True

    def watch(self, position: int, frame: VideoFrame) -> None:
        """Take note of the next frame of the full decode."""
        if frame.key_frame and PictureType(frame.pict_type) is PictureType.I:
            self._keys.add(position)
        self._whole = self._whole and not frame.is_corrupt
        if frame.key_frame and position >= self._next_key:
            self._key, self._next_key = position, 4 * position + 8
        if position - self._key in self.AFTER_KEY:
            self._seen[position] = self._gray(frame)

    def passes(self, path: str | os.PathLike[str], pts: list[int | None], tick: Callable[[], None]) -> bool:
        """Whether the kept frames are read by their time stamps to the bit; `pts` are those of the full decode."""
        index = _scan(path, tick)
        if index is None or index.pts_N.tolist() != pts or not self._whole:
            return False
        if not self._keys.issuperset(index.keys_K.tolist()):  # recovery points, from which images only build up
            return False
        frames = [self._gray(frame) for frame in _by_time_stamps(path, index, list(self._seen))]
        return len(frames) == len(self._seen) and all(map(np.array_equal, frames, self._seen.values()))

    def _gray(self, frame: VideoFrame) -> np.ndarray:
        return self._reformatter.reformat(frame, format="gray", threads=1).to_ndarray()


class Converter:
    """Converts frames to upright RGB arrays of one size; its scalers serve the whole clip."""

    def __init__(self, path: str | os.PathLike[str], short_side: int | None) -> None:
        self._path = path
        self._scaler, self._to_rgb = VideoReformatter(), VideoReformatter()
        self._short_side = short_side
        self._size: tuple[int, int] | None = None

    def fix_size(self, frame: VideoFrame) -> tuple[int, int]:
        """(width, height) of all frames, from the first frame that is passed.

        Where sizes may differ, pass the file's first frame, whether it is requested or not.
        """
        if self._size is None:
            self._size = scaled_size(frame.width, frame.height, self._short_side)
        return self._size

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Pixels (H,W,3) uint8. Raises DecodeError."""
        width, height = self.fix_size(frame)
        try:
            if frame.format.name in _SCALED_FIRST and (frame.width, frame.height) != (width, height):
                scaled = self._scaler.reformat(frame, width=width, height=height, threads=1)
            else:
                scaled = frame
            rgb = self._to_rgb.reformat(scaled, width=width, height=height, format="rgb24", threads=1)
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


def _pixel_kind(frame: VideoFrame) -> tuple[object, ...]:
    """Properties that decide whether a frame's pixels can be converted."""
    return (
        frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range, frame.color_trc,
        frame.color_primaries,
    )  # fmt: skip


_SCALED_FIRST = {f"yuv{full}{layout}p" for full in ("", "j") for layout in ("420", "422", "444")}
"""Pixel formats that are scaled first and converted afterwards: three times faster than both in one."""


def _is_mirrored(frame: VideoFrame) -> bool:
    """Whether the display matrix mirrors the frame, beside rotating it (`rotation` is that of its rows alone).

    The frame's own `side_data` would refer back to the frame, which then stayed in memory until Python looks for cycles.
    """
    try:
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # its stub has no __init__
    except (ValueError, LookupError):  # other side data is of a kind that PyAV does not know
        return False
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(cast(bytes, matrix), dtype=np.int32)[:5].tolist()  # it is a buffer
    return bool(a * d - b * c < 0)


LISTS = {"concat", "hls", "dash", "sdp", "imf", "webm_dash_manifest"}
"""Formats whose files refer to other files."""


@contextmanager
def _opened(path: str | os.PathLike[str], limits: Limits | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its main video stream; every failure inside except MemoryError becomes a DecodeError."""
    if Path(path).is_dir():
        raise DecodeError(path, "is a folder, not a video file")
    try:
        # names may have colons; tags may have any encoding
        with av.open(f"file:{os.fspath(path)}", metadata_errors="replace") as container:
            if not LISTS.isdisjoint(container.format.name.split(",")):
                raise DecodeError(path, f"is a list of other files ({container.format.name}), not a video")
            stream = main_stream(container, path)
            if limits is not None:
                limits.check_size(path, stream.codec_context.width, stream.codec_context.height)
                stream.codec_context.options = {
                    **stream.codec_context.options,
                    "max_pixels": str(min(limits.pixels, 2**31 - 1)),
                }
            stream.thread_type = "NONE"  # one thread per reader: processes scale better
            yield container, stream
    except av.error.FFmpegError as error:
        raise DecodeError(path, reason(error)) from None
    except MemoryError:
        raise
    except Exception as error:
        raise DecodeError.of(path, error) from None


def main_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    """The decoder's choice of stream, never a cover image. Raises DecodeError."""
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        raise DecodeError(path, "no video stream" + (", only a cover image" if container.streams.video else ""))
    best = container.streams.best("video")
    main = next((stream for stream in videos if best is not None and stream.index == best.index), videos[0])
    if main.codec_context is None:
        raise DecodeError(path, "no decoder is known for its video stream")
    return main


def reason(error: av.error.FFmpegError) -> str:
    """Describe an error of FFmpeg, with its last message."""
    text = error.strerror or type(error).__name__
    if error.log is not None:
        _, component, message = cast(tuple[int, str, str], error.log)  # PyAV's stub names two
        text += f" ({component}: {message.strip()})"
    return text


def _in_order(times: Sequence[float | None]) -> np.ndarray | None:
    """Seconds from the first frame; None where time stamps are missing or do not rise."""
    seconds = np.array([np.nan if time is None else time for time in times])
    if np.isnan(seconds).any() or (np.diff(seconds) <= 0).any():
        return None
    rising: np.ndarray = seconds - seconds[0]
    return rising


def _out_of_order(times: list[float | None]) -> np.ndarray | None:
    """Sorted seconds from the first frame, where all frames have distinct time stamps; else None."""
    stamps = [time for time in times if time is not None]
    return _in_order(sorted(stamps)) if len(stamps) == len(times) > 1 else None
