"""The process that decodes one connection of a stream; `muybridge.video.live` starts it.

    python -m muybridge.video.live_worker

What it shall do lies in an environment variable, as standard input may be the stream. Its answers are lines of JSON, each
followed by the number of bytes that it names. It ends with the stream, or in order at a SIGTERM: a recording is closed
first. NumPy and PyAV, no torch.
"""

import io
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, cast

import av
import av.error
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from muybridge.video.decode import LISTS, Converter, main_stream, reason
from muybridge.video.errors import DecodeError
from muybridge.video.limits import Limits
from muybridge.video.source import Source
from muybridge.video.worker import limit_memory

ASKED = "MUYBRIDGE_LIVE"
"""The environment variable."""
FPS = 25.0
"""Frame rate of what holds none."""
CHECK = "Check that it is a video that plays elsewhere, and that it is whole"
"""Remedy where not one frame could be decoded."""
MOST_DAMAGED = 1000
"""Packets in a row that cannot be decoded, after which a stream is given up."""
JUMP_SECONDS = 10.0
"""Time stamps of a live stream that run so far ahead of the clock are those of another one."""
BACK_SECONDS = 1.0
"""Time stamps that go back less are out of order, and no new beginning."""
_TICKS = 90_000
_GOP_SECONDS = 2.0
FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's format of a recording, by the ending of its name."""


@dataclass(frozen=True)
class Asked:
    """One connection to open, and the way to do it."""

    source: Source
    short_side: int | None
    limits: Limits
    real_time: bool
    """Whether a file is read at its own pace."""
    stall_seconds: float
    record: str | None

    @staticmethod
    def from_json(text: str) -> "Asked":
        """From the environment variable."""
        values = json.loads(text)
        return Asked(**{**values, "source": Source(**values["source"]), "limits": Limits(**values["limits"])})


class Clock:
    """Time in the stream: 0 at the first frame and rising, whatever time stamps say."""

    def __init__(self, fps: float, is_live: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._interval_seconds, self._is_live, self._now = 1 / fps, is_live, now
        self._offset: float | None = None
        self._last_seconds = self._heard = 0.0

    def at(self, stamp_seconds: float | None) -> tuple[float, bool]:
        """Seconds of a frame by its time stamp, and whether another stream begins with it."""
        if stamp_seconds is not None and math.isnan(stamp_seconds):
            stamp_seconds = None
        now = self._now()
        passed, self._heard = now - self._heard, now
        if self._offset is None:
            self._offset = -stamp_seconds if stamp_seconds is not None else 0.0
            return 0.0, False
        next_seconds, jumps = self._last_seconds + self._interval_seconds, False
        if stamp_seconds is None:
            seconds = next_seconds
        else:
            seconds = stamp_seconds + self._offset
            step = seconds - self._last_seconds
            jumps = step <= -BACK_SECONDS or (self._is_live and step > passed + JUMP_SECONDS)
            if jumps:
                seconds = self._last_seconds + max(passed if self._is_live else 0.0, self._interval_seconds)
                self._offset = seconds - stamp_seconds
            elif step <= 0:
                seconds = next_seconds
        self._last_seconds = seconds
        return seconds, jumps


class Recorder:
    """Writes frames into a new file, as H.264, in pieces: what is written can be played whatever happens then."""

    def __init__(self, path: str, fps: float) -> None:
        """Raises FileExistsError: nothing is overwritten."""
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115
        self._fps = fps
        self._container: OutputContainer | None = None
        self._last_pts = -1
        self._format = FORMATS[os.path.splitext(path)[1].lower()]

    def write(self, frame: VideoFrame, upright_HW3: Callable[[], np.ndarray], seconds: float) -> None:
        """Write a frame, upright, scaled to the size of the first one."""
        if frame.rotation:
            frame = VideoFrame.from_ndarray(upright_HW3(), format="rgb24")
        if self._container is None:
            self._begin(frame.width - frame.width % 2 or 2, frame.height - frame.height % 2 or 2)
        assert self._container is not None
        self._last_pts = max(self._last_pts + 1, round(seconds * _TICKS))
        picture = frame.reformat(self._video.width, self._video.height, "yuv420p")
        picture.pts, picture.time_base = self._last_pts, self._video.codec_context.time_base
        picture.pict_type = 0  # of the encoder's choice, not as it was
        self._container.mux(self._video.encode(picture))

    def _begin(self, width: int, height: int) -> None:
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if self._format != "matroska" else {}
        self._container = av.open(self._file, "w", format=self._format, options=options)
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        rate = max(1, round(self._fps))
        video = cast(VideoStream, self._container.add_stream(codec, rate=rate))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, _TICKS)
        video.codec_context.gop_size = max(1, round(_GOP_SECONDS * rate))
        if codec == "libx264":
            video.options = {"preset": "superfast", "tune": "zerolatency", "crf": "20"}
        self._video = video

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        if self._container is not None:
            self._container.mux(self._video.encode(None))
            self._container.close()
            self._container = None
        self._file.close()


class Player:
    """Decodes one connection, and says what comes."""

    def __init__(self, asked: Asked, say: Callable[..., None]) -> None:
        self.asked, self.say = asked, say
        self.recorder: Recorder | None = None
        self.lock = threading.Lock()
        """Held while the recording is written."""
        self._damaged = self._told_damaged = self._in_a_row = 0
        self._frame_at = self._told_at = time.monotonic()
        self._size: tuple[int, int] | None = None

    def play(self) -> None:
        """Decode until the stream ends. Raises DecodeError."""
        source = self.asked.source
        stall = self.asked.stall_seconds if source.is_live else None
        try:
            with av.open(
                source.opened,
                format=source.format,
                options=dict(source.options),
                timeout=stall,
                metadata_errors="replace",
            ) as container:
                self._decode(container)
        except av.error.ExitError:
            raise DecodeError(source.name, f"no data came for {self.asked.stall_seconds:g} seconds") from None
        except av.error.FFmpegError as error:
            is_none = self._size is None and not source.is_live
            raise DecodeError(source.name, f"{reason(error)}. {CHECK}" if is_none else reason(error)) from None

    def _decode(self, container: InputContainer) -> None:
        source, limits = self.asked.source, self.asked.limits
        if source.kind != "network" and not LISTS.isdisjoint(container.format.name.split(",")):
            raise DecodeError(source.name, f"is a list of other files ({container.format.name}), not a video")
        stream = main_stream(container, source.name)
        context = stream.codec_context
        if context.width and context.height:
            limits.check_size(source.name, context.width, context.height)
        context.options = {**context.options, "max_pixels": str(min(limits.pixels, 2**31 - 1))}
        stream.thread_type = "NONE"
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        is_endless = source.is_live and not container.duration
        self.say({"opened": {
            "width": context.width, "height": context.height, "fps": fps or None, "codec": context.name,
            "container": container.format.name, "is_endless": is_endless,
        }})  # fmt: skip
        clock = Clock(fps or FPS, is_endless)
        if self.asked.record:
            self.recorder = Recorder(self.asked.record, fps or FPS)
        started = time.monotonic()

        def show(frames: Sequence[Any]) -> None:
            for frame in frames:
                seconds, jumps = clock.at(frame.time)
                if self.asked.real_time:
                    time.sleep(max(0.0, started + seconds - time.monotonic()))
                self._frame(frame, seconds, jumps)

        while True:
            try:
                for packet in container.demux(stream):
                    self._damaged += packet.is_corrupt
                    try:
                        frames = packet.decode()
                    except av.error.EOFError:
                        raise
                    except av.error.FFmpegError as error:
                        self._damage(error)
                        continue
                    show(frames)
                return
            except av.error.EOFError:
                return
            except av.error.InvalidDataError as error:  # between packets: the next read goes on behind it
                self._damage(error)
            except av.error.FFmpegError:  # the connection is lost, but not what the decoder holds
                show(context.decode(None))
                raise

    def _frame(self, frame: VideoFrame, seconds: float, jumps: bool) -> None:
        """Send a frame."""
        source, limits = self.asked.source, self.asked.limits
        limits.check_size(source.name, frame.width, frame.height)
        self._in_a_row, self._frame_at = 0, time.monotonic()
        if frame.is_corrupt:
            self._damaged += 1
        size = (frame.width, frame.height)
        if size != self._size:
            self._convert, self._upright = Converter(source.name, self.asked.short_side), Converter(source.name, None)
            if self._size is not None:
                self.say({"resized": list(size)})
            self._size = size
        if self.recorder is not None:
            with self.lock:
                self.recorder.write(frame, lambda: self._upright(frame), seconds)
        pixels_HW3 = np.ascontiguousarray(self._convert(frame))
        self._tell_damage()
        self.say({"time": seconds, "jumps": jumps, "shape": list(pixels_HW3.shape)}, pixels_HW3.data)

    def _damage(self, error: av.error.FFmpegError) -> None:
        """Count a packet that cannot be decoded. Raises DecodeError after too many in a row."""
        self._damaged += 1
        self._in_a_row += 1
        waited = time.monotonic() - self._frame_at
        if self._in_a_row > MOST_DAMAGED or (self.asked.source.is_live and waited > self.asked.stall_seconds):
            if self._size is None and self.asked.source.kind == "pipe":
                raise DecodeError(
                    self.asked.source.name,
                    f"{reason(error)}; pipe what can be read from front to back, such as MPEG-TS",
                )
            raise DecodeError(
                self.asked.source.name, f"the last {self._in_a_row} packets could not be decoded: {reason(error)}"
            )
        self._tell_damage()

    def _tell_damage(self) -> None:
        """Say how much was damaged, once a second at most."""
        now = time.monotonic()
        if self._damaged > self._told_damaged and now - self._told_at >= 1.0:
            self._told_damaged, self._told_at = self._damaged, now
            self.say({"damaged": self._damaged})

    def finish(self) -> None:
        """Close the recording."""
        if self.recorder is not None:
            self.recorder.close()
            self.recorder = None

    @property
    def damaged(self) -> int:
        """Packets and frames that were damaged."""
        return self._damaged


def main() -> None:
    """Decode what the environment variable names."""
    answers = os.fdopen(os.dup(1), "wb", buffering=2**16)
    os.dup2(2, 1)  # output of libraries must not mix with answers
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(answers.fileno(), fcntl.F_SETPIPE_SZ, 2**20)

    def say(answer: dict[str, Any], payload: Any = b"") -> None:
        answers.write(json.dumps({**answer, "bytes": len(memoryview(payload).cast("B"))}).encode() + b"\n")
        answers.write(payload)
        answers.flush()

    asked = Asked.from_json(os.environ.pop(ASKED))
    limit_memory(asked.limits.memory_bytes)
    player = Player(asked, say)
    _end_in_order(player)
    end: dict[str, Any] = {"ended": "", "fault": False}
    try:
        player.play()
    except BrokenPipeError:  # nobody listens any more
        pass
    except Exception as error:
        end = {"ended": DecodeError.of(asked.source.name, error).reason, "fault": True}
    with player.lock:
        try:
            player.finish()
        except (OSError, av.error.FFmpegError) as error:
            end = {"ended": f"the recording cannot be written: {error}", "fault": True, "record": True}
    with suppress(BrokenPipeError, io.UnsupportedOperation):
        say({**end, "damaged": player.damaged})
    os._exit(0)  # a library's thread may still wait for the network


def _end_in_order(player: Player) -> None:
    """End in order at a SIGTERM, or when the parent has ended, also while FFmpeg waits for data."""

    def end() -> None:
        if player.lock.acquire(timeout=5.0):
            with suppress(Exception):
                player.finish()
        os._exit(0)

    def wait_for_signal() -> None:
        signal.sigwait({signal.SIGTERM})
        end()

    def wait_for_parent(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        end()

    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # for FFmpeg's threads, too
        threading.Thread(target=wait_for_signal, daemon=True).start()
    threading.Thread(target=wait_for_parent, args=(os.getppid(),), daemon=True).start()


if __name__ == "__main__":
    main()
