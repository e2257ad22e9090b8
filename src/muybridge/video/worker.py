"""The process that opens files nobody knows (`muybridge.video.safe` starts it).

    python -m muybridge.video.worker

Questions come as lines of JSON, the first one says the limits. An answer is a line of JSON, and behind it as many bytes as
it says; while a file is decoded, lines say that it goes on. NumPy and PyAV, no torch.
"""

import errno
import hashlib
import json
import os
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from muybridge.runtime.launch import end_with_parent
from muybridge.video import arrays, images
from muybridge.video.errors import DecodeError
from muybridge.video.limits import Limits, Watch
from muybridge.video.readers import ForwardReader, Row, medium_of, probe

_NAMES = (
    "EMFILE", "ENFILE", "ENOSPC", "EIO", "ESTALE", "ENOTCONN", "ENODEV", "EREMOTEIO", "ETIMEDOUT", "EHOSTDOWN",
    "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ESHUTDOWN",
)  # fmt: skip
MACHINE = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""What the system says where a share goes away or descriptors run out: no fault of a file."""

_CHUNK_BYTES = 2**20


class Worker:
    """Answers questions, one after the other."""

    def __init__(self, limits: Limits, alive: Callable[[], None]) -> None:
        self.limits, self.alive = limits, alive
        self._reader: tuple[int | None, ForwardReader] | None = None

    def look(self, path: str, image_fps: float, with_hash: bool) -> tuple[dict[str, Any], bytes]:
        """What a full decode of a video finds, the numbers by which lists name its frames, and its hash; behind it the time
        of each frame, float64."""
        medium, watch = medium_of(path), Watch(path, self.limits, self.alive)
        is_folder, digest, numbers = medium is images, "", None
        if not is_folder:
            _check_regular(path)
            digest = _sha256(path, watch) if with_hash else ""
        video = probe(path, image_fps=image_fps, limits=self.limits, alive=self.alive)
        if is_folder:
            found = images.series(path).numbers()
            numbers = list(found) if not isinstance(found, range) else [found.start, found.stop]
            digest = images.sha256(path, watch.tick) if with_hash else ""
        about = {
            "num_frames": video.num_frames, "declared_frames": video.declared_frames, "fps": video.fps,
            "width": video.width, "height": video.height, "seekable": video.seekable, "odd": video.odd,
            "sha256": digest, "numbers": numbers, "is_range": numbers is None or isinstance(found, range),
            "says_no_rate": medium in (images, arrays),
        }  # fmt: skip
        return about, video.times_seconds.astype("<f8").tobytes()

    def read(self, row: list[Any], indices: list[int], short_side: int | None) -> tuple[dict[str, Any], bytes]:
        """Frames of a row, counted from its start; behind it (T,H,W,3) uint8. In order, a file is decoded once."""
        if self._reader is None or self._reader[0] != short_side:
            self._reader = (short_side, ForwardReader(short_side=short_side, limits=self.limits, alive=self.alive))
        frames_THW3 = self._reader[1].read(Row(*row), np.array(indices))
        return {"shape": list(frames_THW3.shape)}, np.ascontiguousarray(frames_THW3).tobytes()


def _check_regular(path: str) -> None:
    """Raises DecodeError for what is no file to be read, and OSError where it cannot be."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise DecodeError(path, "is no regular file")
    if found.st_size == 0:
        raise DecodeError(path, "is empty (0 bytes)")


def _sha256(path: str, watch: Watch) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            watch.tick()
    return digest.hexdigest()


def fault(path: str, error: Exception) -> dict[str, Any]:
    """An error as an answer: whether the file is to blame or the machine, the path, and what is wrong."""
    found = DecodeError.of(path, error)
    number = error.errno if isinstance(error, OSError) else None
    if number not in MACHINE:  # a decoder has errors of its own; can the file still be read?
        number = _errno_of(path)
    is_machine = number is not None and number in MACHINE
    if number is not None and is_machine:
        found = DecodeError(path, os.strerror(number))
    return {
        "error": found.reason, "path": found.path, "machine": is_machine, "missing": number == errno.ENOENT,
    }  # fmt: skip


def _errno_of(path: str) -> int | None:
    """What the system says to reading the beginning of a file, or to listing a folder; none where it can."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            os.listdir(path)
        elif stat.S_ISREG(mode):  # opening a pipe would wait for who writes
            with open(path, "rb") as file:
                file.read(1)
    except OSError as error:
        return error.errno
    except ValueError:  # a name that no file can have
        return None
    return None


def limit_memory(num_bytes: int) -> None:
    """The process gets no more memory than this, on systems that can say so."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except (ImportError, OSError, ValueError, OverflowError):  # Windows; a system that is stricter already
        pass


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(answer: dict[str, Any], payload: bytes = b"") -> None:
        answers.write(json.dumps({**answer, "bytes": len(payload)}).encode() + b"\n")
        answers.write(payload)
        answers.flush()

    limits = Limits(**json.loads(sys.stdin.readline()))
    limit_memory(limits.memory_bytes)
    worker = Worker(limits, lambda: say({"alive": True}))
    say({"ready": True})
    for line in sys.stdin:
        question = json.loads(line)
        what, path = question.pop("what"), question["path"] if "path" in question else question["row"][1]
        try:
            say(*getattr(worker, what)(**question))
        except Exception as error:
            say({"out_of_memory": True} if _asks_for_memory(error) else fault(path, error))


def _asks_for_memory(error: BaseException | None) -> bool:
    """Is a refusal of memory behind it?"""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    main()
