"""Frames of a stream as they come: from a process of its own, through a bounded queue, over lost connections.

Rules. A file or a pipe waits for whoever reads, and no frame of it is dropped. A camera or an address does not wait: where
the queue is full, and where a frame has waited longer than `max_delay_seconds` while newer ones are there, the oldest is
dropped and counted. A live source that is lost is opened again after 1 s, then 2, 4, … 30 s. One that has never given a
frame is an error.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import psutil

from muybridge.errors import UserError
from muybridge.runtime.launch import module_process
from muybridge.video.errors import DecodeError
from muybridge.video.limits import Limits
from muybridge.video.live_worker import ASKED, CHECK, FORMATS
from muybridge.video.source import STDIN, Source, masked

STALL_SECONDS = 10.0
"""A live source that gives no data for this long is lost."""
HANG_SECONDS = 120.0
"""A file's decoder that gives no frame for this long hangs."""
MOST_DELAY_SECONDS = 1.0
QUEUE_BYTES = 2**26
QUEUE_FRAMES = 256
FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS = 1.0, 30.0
_POLL_SECONDS = 0.5
_CLOSE_SECONDS = 8.0


@dataclass(frozen=True)
class LiveFrame:
    """A frame of a stream."""

    pixels_HW3: np.ndarray
    """uint8, red, green, blue."""
    time_seconds: float
    """Since the first frame of the stream; it continues over lost connections."""
    number: int
    """Frames before it, dropped ones among them."""
    arrived: float
    """When it came, by `time.monotonic`."""
    begins: bool
    """Whether it does not follow the frame before: the first one, and the first after a lost connection or a jump."""


@dataclass(frozen=True)
class Note:
    """Something that happened to a source."""

    kind: Literal["about", "opened", "lost", "resized", "damaged", "recording", "ended"]
    text: str
    about: dict[str, Any] = field(default_factory=dict)


class LiveFrames:
    """Iterates over the frames and notes of a source, in a `with` block, which ends it. One thread may iterate.

    Raises DecodeError for a source that gives no frame, for a damaged file, and for a live source that is lost for good.
    """

    def __init__(
        self,
        source: Source,
        *,
        short_side: int | None = None,
        limits: Limits | None = None,
        real_time: bool = False,
        record: str | os.PathLike[str] | None = None,
        max_delay_seconds: float = MOST_DELAY_SECONDS,
        retries: int | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """Set what to open. `real_time`: play a file as a camera would. `retries`: in a row; None: without end.

        `record`: a new file (.mp4, .mov, .mkv); after a lost connection the recording continues in NAME-2 and so on. Raises
        UserError.
        """
        if real_time and source.kind != "file":
            raise UserError(
                f"--real-time: it plays a file at its own pace, but {source.name} is not a file. Leave it out"
            )
        if not max_delay_seconds > 0:
            raise UserError(f"--max-delay {max_delay_seconds:g}: not a time. Give seconds above 0")
        if retries is not None and retries < 0:
            raise UserError(f"--retries {retries}: not a number of tries. Give 0 or more")
        self.source, self.limits, self._short_side = source, limits or Limits(), short_side
        self._real_time, self._stall_seconds = real_time, stall_seconds
        self._max_delay_seconds, self._retries = max_delay_seconds, retries
        self._record = None if record is None else _new_recording(Path(record))
        self.dropped = 0
        """Frames that came too fast."""
        self.damaged = 0
        """Packets and frames that were damaged, as far as the decoder has noticed."""
        self.recordings: list[Path] = []
        self._items: deque[LiveFrame | Note | Exception | None] = deque()
        self._held_bytes = self._held_frames = 0
        self.drops = source.is_live or real_time
        """Whether frames that come too fast are dropped."""
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed_for = ""
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the source's process, which closes its recording first."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._end_process()
        self._thread.join(_CLOSE_SECONDS)

    def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def behind(self) -> int:
        """Frames that wait."""
        return self._held_frames

    def take(self, timeout_seconds: float | None = None) -> LiveFrame | Note | None:
        """The next frame or note; None at the end, and where none has come in time. Raises DecodeError."""
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                if self.drops:
                    self._drop_old()
                if self._items:
                    break
                left = _POLL_SECONDS if until is None else min(_POLL_SECONDS, until - time.monotonic())
                if left <= 0 or (self._closed.is_set() and not self._thread.is_alive()):
                    return None
                self._changed.wait(left)
                self._check_process()
            item = self._items[0]
            if item is None or isinstance(item, Exception):  # it stays: the end is the end
                if item is not None:
                    raise item
                return None
            self._items.popleft()
            if isinstance(item, LiveFrame):
                self._held_bytes -= item.pixels_HW3.nbytes
                self._held_frames -= 1
            self._changed.notify_all()
            return item

    @property
    def has_ended(self) -> bool:
        """Whether `take` has nothing more to give."""
        with self._changed:
            return bool(self._items) and not isinstance(self._items[0], LiveFrame | Note)

    def __iter__(self) -> Iterator[LiveFrame | Note]:
        while (item := self.take()) is not None:
            yield item

    def _drop_old(self) -> None:
        """Drop what has waited too long while newer frames are there. Called with the lock."""
        oldest_allowed = time.monotonic() - self._max_delay_seconds
        while self._held_frames > 1:
            frame = next(item for item in self._items if isinstance(item, LiveFrame))
            if frame.arrived >= oldest_allowed:
                return
            self._drop(frame)

    def _drop(self, frame: LiveFrame) -> None:
        """Drop a frame, the oldest; the next one begins what it would have begun."""
        place = next(index for index, item in enumerate(self._items) if item is frame)
        del self._items[place]
        if frame.begins:
            for index in range(place, len(self._items)):
                follower = self._items[index]
                if isinstance(follower, LiveFrame):
                    self._items[index] = replace(follower, begins=True)
                    break
        self._held_bytes -= frame.pixels_HW3.nbytes
        self._held_frames -= 1
        self.dropped += 1

    def _put(self, item: LiveFrame | Note | Exception | None) -> None:
        with self._changed:
            if isinstance(item, LiveFrame):
                while self._is_full(item) and not self._closed.is_set():
                    if self.drops:
                        self._drop(next(one for one in self._items if isinstance(one, LiveFrame)))
                    else:
                        self._changed.wait(_POLL_SECONDS)
                self._held_bytes += item.pixels_HW3.nbytes
                self._held_frames += 1
                self._heard = time.monotonic()
            self._items.append(item)
            self._changed.notify_all()

    def _is_full(self, frame: LiveFrame) -> bool:
        most = QUEUE_FRAMES if self.drops else QUEUE_FRAMES // 16
        too_many_bytes = self._held_bytes + frame.pixels_HW3.nbytes > QUEUE_BYTES
        return self._held_frames >= most or (too_many_bytes and self._held_frames > 0)

    def _run(self) -> None:
        """Read one connection after another, in a thread of its own."""
        try:
            self._read_all()
        except Exception as error:
            self._put(error)
        else:
            self._put(None)

    def _read_all(self) -> None:
        number, base_seconds, failed, backoff = 0, 0.0, 0, FIRST_BACKOFF_SECONDS
        while not self._closed.is_set():
            connection = _Connection(number, base_seconds)
            self._read(connection)
            if self._closed.is_set():
                return
            ended, got_frames = connection.ended, connection.number > number
            if not connection.is_endless or (not got_frames and number == 0):
                if connection.is_fault or not got_frames:
                    raise DecodeError(self.source.name, masked(ended) or f"not one frame could be decoded. {CHECK}")
                return
            if got_frames:
                failed, backoff, number = 0, FIRST_BACKOFF_SECONDS, connection.number
            failed += 1
            why = masked(ended) or "the stream ended"
            if self._retries is not None and failed > self._retries:
                raise DecodeError(
                    self.source.name, f"it is lost: {why} (opened again {self._retries} times: --retries)"
                )
            self._put(
                Note(
                    "lost", f"{self.source.name}: lost: {why}. Opened again in {backoff:g} s",
                    {"reason": why, "again_in_seconds": backoff},
                )
            )  # fmt: skip
            self._closed.wait(backoff)
            backoff = min(2 * backoff, LAST_BACKOFF_SECONDS)
            base_seconds = connection.seconds + (time.monotonic() - connection.arrived if number else 0.0)

    def _damage_note(self) -> Note:
        text = f"{self.source.name}: {self.damaged} damaged packets or frames so far"
        return Note("damaged", text, {"damaged": self.damaged})

    def _read(self, connection: "_Connection") -> None:
        """Read one connection to its end."""
        record = None
        if self._record is not None:
            record = self._record if not self.recordings else _next_free(self._record)
        asked = {
            "source": self.source.as_json(), "short_side": self._short_side, "limits": asdict(self.limits),
            "real_time": self._real_time, "stall_seconds": self._stall_seconds,
            "record": None if record is None else str(record),
        }  # fmt: skip
        connection.is_endless = self.source.is_live
        about = module_process("muybridge.video.live_worker")
        about["env"] |= {"PYTHONWARNINGS": "ignore", ASKED: json.dumps(asked)}
        self._heard, self._killed_for = time.monotonic(), ""
        process = subprocess.Popen(
            **about, stdin=None if self.source.opened == STDIN else subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,  # Ctrl-C is handled by the command
        )  # fmt: skip
        self._process = process
        if self._closed.is_set():
            process.terminate()
        assert process.stdout is not None
        damaged = told = self.damaged
        try:
            while line := process.stdout.readline():
                said = json.loads(line)
                pixels = _exactly(process.stdout, said["bytes"])
                self._heard = time.monotonic()
                if "damaged" in said:
                    self.damaged = damaged + said["damaged"]
                if "shape" in said:
                    self._put(connection.frame(said, pixels))
                elif "opened" in said:
                    connection.is_endless = bool(said["opened"]["is_endless"])
                    self.drops = connection.is_endless or self._real_time
                    self._put(Note("opened", f"{self.source.name}: {_described(said['opened'])}", said["opened"]))
                    if record is not None:
                        self.recordings.append(record)
                        self._put(Note("recording", f"recording into {record}", {"path": str(record)}))
                elif "resized" in said:
                    width, height = said["resized"]
                    self._put(Note("resized", f"{self.source.name}: frames are {width} × {height} now", said))
                elif "ended" in said:
                    if self.damaged > told:
                        self._put(self._damage_note())
                    connection.ended, connection.is_fault = said["ended"], said["fault"]
                    if said.get("record"):
                        raise UserError(f"--record {record}: {said['ended']}. Check the disk, or record elsewhere")
                    return
                elif "damaged" in said:
                    told = self.damaged
                    self._put(self._damage_note())
                self._check_memory(process)
            connection.ended, connection.is_fault = self._killed_for or _end_of(process), True
        finally:
            if process.poll() is None:
                self._end_process()
            process.stdout.close()

    def _check_process(self) -> None:
        """Kill a process that hangs, or asks for too much memory. Called while nothing comes."""
        process = self._process
        if process is None or process.poll() is not None or self.source.kind == "pipe":
            return
        silent_seconds = time.monotonic() - self._heard
        if silent_seconds > (2 * self._stall_seconds + 5 if self.source.is_live else HANG_SECONDS):
            self._killed_for = f"the decoder hangs: it gave no frame for {silent_seconds:.0f} seconds"
            process.kill()
        else:
            self._check_memory(process)

    def _check_memory(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(psutil.Error):
            if psutil.Process(process.pid).memory_info().rss > self.limits.memory_bytes:
                self._killed_for = (
                    f"decoding asks for more memory than it may have ({self.limits.memory_gib:g} GiB: --max-memory-gib)"
                )
                process.kill()


class _Connection:
    """One connection, and the frames that have come of it."""

    def __init__(self, number: int, base_seconds: float) -> None:
        self.number, self.seconds, self._base_seconds = number, base_seconds, base_seconds
        self.arrived = time.monotonic()
        self.ended, self.is_fault, self.is_endless = "", False, False
        self._begins = True

    def frame(self, said: dict[str, Any], pixels: bytearray) -> LiveFrame:
        """The next frame."""
        self.seconds, self.arrived = self._base_seconds + said["time"], time.monotonic()
        pixels_HW3 = np.frombuffer(pixels, dtype=np.uint8).reshape(said["shape"])
        begins, self._begins = self._begins or said["jumps"], False
        self.number += 1
        return LiveFrame(pixels_HW3, self.seconds, self.number - 1, self.arrived, begins)


def _exactly(stream: Any, count: int) -> bytearray:
    """Bytes of the pipe. Raises EOFError where it ends before."""
    buffer, have = bytearray(count), 0
    view = memoryview(buffer)
    while have < count:
        some = stream.readinto(view[have:])
        if not some:
            break  # the next line is empty, too
        have += some
    return buffer


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """Describe the end of a process that has not said it."""
    try:
        code = process.wait(_CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        return "the decoder closed its answers"
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    return f"the decoder crashed on it ({how})"


def _described(opened: dict[str, Any]) -> str:
    rate = f", {opened['fps']:g} frames a second" if opened["fps"] else ""
    return f"{opened['codec']} in {opened['container']}, {opened['width']} × {opened['height']}{rate}"


def _new_recording(path: Path) -> Path:
    """The path of a recording. Raises UserError for one that is there, or cannot be."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--record {path}: not a name of a video file. Use one that ends in {', '.join(FORMATS)}")
    if path.exists() or path.is_symlink():
        raise UserError(f"--record {path}: it is there already, and nothing is overwritten. Give another name")
    if not path.parent.is_dir():
        raise UserError(f"--record {path}: the folder {path.parent} is missing. Make it first")
    return path


def _next_free(path: Path) -> Path:
    number = 2
    while (other := path.with_stem(f"{path.stem}-{number}")).exists() or other.is_symlink():
        number += 1
    return other
