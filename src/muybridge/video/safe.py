"""Unknown files, decoded in separate processes.

A file that crashes the decoder, hangs in it, or takes too much memory fails alone and does not end the command. A process
costs a third of a second once and then about a millisecond a file. Each has its own pipe, unlike those of a library's pool,
where a process that is killed while it holds a shared lock would stop all others.
"""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import psutil

from muybridge.runtime.launch import module_process
from muybridge.video.decode import VideoInfo
from muybridge.video.errors import DecodeError
from muybridge.video.limits import Limits
from muybridge.video.readers import Row

STALL_SECONDS = 120.0
"""A decoder that returns no frame for this long counts as hanging."""
_POLL_SECONDS = 0.5
_CRASHES = {
    number
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP", "SIGXCPU", "SIGXFSZ")
    if (number := getattr(signal, name, None)) is not None
}
"""Signals that a process causes itself."""


class MachineFault(OSError):
    """The machine failed, not the file: a network share went away, or file descriptors ran out."""


@dataclass(frozen=True)
class Looked:
    """Result of inspecting a video once."""

    video: VideoInfo
    numbers: Sequence[int]
    """Numbers by which lists name its frames, rising."""
    sha256: str
    says_no_rate: bool
    """Whether it holds no frame rate, as images and arrays."""


class SafeReader:
    """Inspects files and reads their frames in separate processes; any number of threads may call it.

    As a context manager it ends its processes.
    """

    def __init__(self, limits: Limits | None = None, *, most_processes: int | None = None) -> None:
        """Set limits. `most_processes`: callers beyond this number wait for one to be free; None: there is one for each."""
        self.limits = limits or Limits()
        self._room = nullcontext() if most_processes is None else threading.BoundedSemaphore(most_processes)
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        self._all: list[_Process] = []
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, _end_all, self._all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; callers that wait for one get a MachineFault. The next call starts new ones."""
        with self._lock:
            _end_all(self._all)

    def look(self, path: str | os.PathLike[str], *, image_fps: float = 25.0, with_hash: bool = True) -> Looked:
        """Inspect a video file, a folder of images or an array of one clip.

        Raises DecodeError, also where a limit is passed, and MachineFault.
        """
        question = {"what": "look", "path": os.fspath(path), "image_fps": image_fps, "with_hash": with_hash}
        with self._process() as process:
            return _looked(*process.ask(question, os.fspath(path)))

    def reader(self, short_side: int | None) -> "Frames":
        """A `Reader` of frames, scaled to a short side of `short_side` pixels."""
        return Frames(self, short_side)

    @contextmanager
    def held(self, short_side: int | None) -> Iterator["Held"]:
        """Look at one video and read it in the block, for one thread: what was decoded for the look is not decoded again.

        Frames are scaled to a short side of `short_side` pixels. The process is taken by the first question, and kept from
        others until the end of the block.
        """
        with ExitStack() as stack:
            yield Held(lambda: stack.enter_context(self._forgetful()), short_side)

    @contextmanager
    def _forgetful(self) -> Iterator["_Process"]:
        with self._process() as process:
            try:
                yield process
            finally:
                process.forget()

    @contextmanager
    def _process(self) -> Iterator["_Process"]:
        with self._room:
            try:
                process = self._idle.get_nowait()
            except queue.Empty:
                process = _Process(self.limits)
                with self._lock:
                    self._all.append(process)
            try:
                yield process
            finally:
                self._idle.put(process)


@dataclass(frozen=True)
class Frames:
    """Reads frames of rows in order, as `ForwardReader` does."""

    source: SafeReader
    short_side: int | None

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices` as (T,H,W,3) uint8. Raises DecodeError, MachineFault."""
        with self.source._process() as process:
            return _read(process, row, indices, self.short_side)


class Held:
    """Looks at one video and reads its frames, as `Frames` does, in the same process (`SafeReader.held`)."""

    def __init__(self, take: "Callable[[], _Process]", short_side: int | None) -> None:
        self._take, self._short_side = take, short_side

    @cached_property
    def _process(self) -> "_Process":
        return self._take()

    def look(self, path: str | os.PathLike[str], *, image_fps: float = 25.0) -> Looked:
        """Inspect a video, and keep its frames for `read`, as far as they fit.

        Its hash, and whether it is seekable, are left out. Raises DecodeError, also where a limit is passed, and MachineFault.
        """
        question = {
            "what": "look", "path": os.fspath(path), "image_fps": image_fps, "with_hash": False, "keep": True,
            "short_side": self._short_side,
        }  # fmt: skip
        return _looked(*self._process.ask(question, os.fspath(path)))

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices` as (T,H,W,3) uint8. Raises DecodeError, MachineFault."""
        return _read(self._process, row, indices, self._short_side)


def _looked(about: dict[str, Any], payload: bytes) -> Looked:
    video = VideoInfo(
        about["num_frames"], about["declared_frames"], about["fps"], about["width"], about["height"],
        np.frombuffer(payload, dtype="<f8"), about["seekable"], about["odd"],
    )  # fmt: skip
    numbers: Sequence[int] = about["numbers"] or (1, video.num_frames + 1)
    numbers = range(*numbers) if about["is_range"] else numbers
    return Looked(video, numbers, about["sha256"], about["says_no_rate"])


def _read(process: "_Process", row: Row, indices: np.ndarray, short_side: int | None) -> np.ndarray:
    question = {"what": "read", "row": list(row), "indices": np.asarray(indices).tolist(), "short_side": short_side}
    about, payload = process.ask(question, row.path)
    return np.frombuffer(bytearray(payload), dtype=np.uint8).reshape(about["shape"])


def _end_all(processes: list["_Process"]) -> None:
    for process in processes:
        process.give_up()


class _Process:
    """One process, restarted where it has ended."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._is_asked = self._is_given_up = False
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def ask(self, question: dict[str, Any], path: str) -> tuple[dict[str, Any], bytes]:
        """Ask the process. Raises DecodeError where the file ends the process, and MachineFault."""
        self._is_asked, self._is_given_up = True, False
        try:
            return self._ask(question, path)
        finally:
            self._is_asked = False

    def _ask(self, question: dict[str, Any], path: str) -> tuple[dict[str, Any], bytes]:
        for is_last in (False, True):
            try:
                answer, payload = self._exchange(question, path)
                break
            except _EndedFromOutside as ended:  # perhaps memory was short: once more, alone
                if is_last:
                    raise DecodeError(path, f"the process that decoded it was ended twice, {ended}") from None
        if answer.get("out_of_memory"):
            self.end()
            raise self._too_much_memory(path)
        if "error" in answer:
            if answer["machine"]:
                raise MachineFault(f"{answer['path']}: {answer['error']}")
            raise (
                Missing(answer["path"], answer["error"])
                if answer["missing"]
                else DecodeError(answer["path"], answer["error"])
            )
        return answer, payload

    def _exchange(self, question: dict[str, Any], path: str) -> tuple[dict[str, Any], bytes]:
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            while True:
                answer = json.loads(self._line(process, path))
                payload = self._bytes(process, path, answer["bytes"])
                if "alive" not in answer:
                    return answer, payload
        except (BrokenPipeError, EOFError):
            raise self._ended(path) from None
        except BaseException:  # the next question must not get this answer
            self.end()
            raise

    def forget(self) -> None:
        """Let the process drop what it keeps of a video, if it is alive."""
        if self._process is not None and self._process.poll() is None:
            with suppress(DecodeError, MachineFault):
                self.ask({"what": "forget"}, "the process that opens videos")

    def _line(self, process: subprocess.Popen[bytes], path: str) -> bytes:
        while b"\n" not in self._buffer:
            self._buffer += self._some(process, path)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _bytes(self, process: subprocess.Popen[bytes], path: str, count: int) -> bytes:
        parts, have = [self._buffer], len(self._buffer)
        while have < count:
            parts.append(self._some(process, path))
            have += len(parts[-1])
        whole = b"".join(parts)
        self._buffer = whole[count:]
        return whole[:count]

    def _some(self, process: subprocess.Popen[bytes], path: str) -> bytes:
        """Next bytes of the pipe. Raises EOFError where the process has ended, DecodeError where it hangs or grows."""
        assert process.stdout is not None
        started = time.monotonic()
        while not _ready(process.stdout, _POLL_SECONDS):
            waited = time.monotonic() - started
            if waited > min(STALL_SECONDS, self._limits.seconds + 5):
                self.end()
                raise DecodeError(path, f"the decoder hangs: it gave no frame for {waited:.0f} seconds")
            if _memory_of(process.pid) > self._limits.memory_bytes:
                self.end()
                raise self._too_much_memory(path)
        data = os.read(process.stdout.fileno(), 2**20)
        if not data:
            raise EOFError
        return data

    def _too_much_memory(self, path: str) -> DecodeError:
        return DecodeError(
            path, f"decoding asks for more memory than it may have ({self._limits.memory_gib:g} GiB: --max-memory-gib)"
        )

    def _ended(self, path: str) -> Exception:
        """Exception for the end of the process: a fault of the file, or an end from outside."""
        assert self._process is not None
        code = self._process.wait()
        self.end()
        self._check_wanted()
        if code < 0 and -code not in _CRASHES:
            return _EndedFromOutside(f"by {signal.Signals(-code).name}")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return DecodeError(path, f"the decoder crashed on it ({how})")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.end()
            if not (self._start() or self._start()):
                raise MachineFault("the process that opens videos ends before it begins. Check for free memory")
        assert self._process is not None
        return self._process

    def _start(self) -> bool:
        about = module_process("muybridge.video.worker")
        about["env"] |= {"PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            **about, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is handled by the command
        )  # fmt: skip
        assert self._process.stdin is not None
        self._check_wanted()
        try:
            self._process.stdin.write(json.dumps(asdict(self._limits)).encode() + b"\n")
            self._process.stdin.flush()
            self._line(self._process, "the process that opens videos")
        except (BrokenPipeError, EOFError, DecodeError):
            self.end()
            return False
        return True

    def _check_wanted(self) -> None:
        """Raise MachineFault where the question was given up meanwhile."""
        if self._is_given_up:
            self.end()
            raise MachineFault("the processes that open videos were ended")

    def give_up(self) -> None:
        """End the process; a thread that waits for its answer closes the pipes."""
        self._is_given_up = True
        if not self._is_asked:
            self.end()
        elif (process := self._process) is not None:
            process.kill()

    def end(self) -> None:
        """Kill the process and close its pipes."""
        process, self._process, self._buffer = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(OSError):  # unwritten data has no reader
                    stream.close()


class Missing(DecodeError):
    """The file does not exist."""

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return Missing, (self.path, self.reason)


class _EndedFromOutside(Exception):
    """The process was ended from outside: by the system, where memory ran out, or by a person."""


def _ready(stream: Any, seconds: float) -> bool:
    if sys.platform == "win32":  # pipes cannot be waited for: reading waits
        return True
    poll = select.poll()  # `select.select` takes no descriptor above 1024
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _memory_of(process: int) -> int:
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0
