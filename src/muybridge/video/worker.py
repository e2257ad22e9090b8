"""The process that decodes unknown files; `muybridge.video.safe` starts it.

    python -m muybridge.video.worker

Questions are lines of JSON; the first line holds the limits. An answer is a line of JSON, followed by the number of bytes
that it names. While a file is decoded, lines report progress. NumPy and PyAV, no torch.
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
from muybridge.video.kept import KeptFrames
from muybridge.video.limits import Limits, Watch
from muybridge.video.readers import ForwardReader, Row, medium_of, probe

_NAMES = (
    "EMFILE", "ENFILE", "ENOSPC", "EIO", "ESTALE", "ENOTCONN", "ENODEV", "EREMOTEIO", "ETIMEDOUT", "EHOSTDOWN",
    "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ESHUTDOWN",
)  # fmt: skip
MACHINE = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""Error numbers of the machine, not of a file: a share went away, or descriptors ran out."""

_CHUNK_BYTES = 2**20
KEPT_BYTES = 2**28
"""Most memory for the frames of the video that was looked at last; a quarter of what the process may have, if that is less."""


class Worker:
    """Answers questions, one after another."""

    def __init__(self, limits: Limits, alive: Callable[[], None]) -> None:
        self.limits, self.alive = limits, alive
        self._reader: tuple[int | None, ForwardReader] | None = None
        self._kept: KeptFrames | None = None

    def look(
        self, path: str, image_fps: float, with_hash: bool, keep: bool = False, short_side: int | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """Decode a video once: its properties, the numbers by which lists name its frames, and its hash.

        `keep`: its frames, scaled to `short_side`, are kept for `read`, as far as they fit; whether it is seekable is not
        tried. The payload is the time of each frame, float64.
        """
        self.forget()
        if keep:
            self._kept = KeptFrames(path, short_side, min(KEPT_BYTES, self.limits.memory_bytes // 4))
        medium, watch = medium_of(path), Watch(path, self.limits, self.alive)
        is_folder, digest, numbers = medium is images, "", None
        if not is_folder:
            _check_regular(path)
            digest = _sha256(path, watch) if with_hash else ""
        video = probe(path, image_fps=image_fps, limits=self.limits, alive=self.alive, keep=self._kept)
        if is_folder:
            in_names = images.series(path).numbers()
            numbers = list(in_names) if not isinstance(in_names, range) else [in_names.start, in_names.stop]
            digest = images.sha256(path, watch.tick) if with_hash else ""
        about = {
            "num_frames": video.num_frames, "declared_frames": video.declared_frames, "fps": video.fps,
            "width": video.width, "height": video.height, "seekable": video.seekable, "odd": video.odd,
            "sha256": digest, "numbers": numbers, "is_range": numbers is None or isinstance(in_names, range),
            "says_no_rate": medium in (images, arrays),
        }  # fmt: skip
        return about, video.times_seconds.astype("<f8").tobytes()

    def read(self, row: list[Any], indices: list[int], short_side: int | None) -> tuple[dict[str, Any], bytes]:
        """Read frames of a row, counted from its start; the payload is (T,H,W,3) uint8.

        Questions in order decode a file once, and one whose frames were kept is not decoded again.
        """
        frames_THW3 = None
        if self._kept is not None:
            frames_THW3 = self._kept.read(row[1], np.array(indices) + row[2], short_side)
        if frames_THW3 is None:
            if self._reader is None or self._reader[0] != short_side:
                self._reader = (short_side, ForwardReader(short_side=short_side, limits=self.limits, alive=self.alive))
            frames_THW3 = self._reader[1].read(Row(*row), np.array(indices))
        return {"shape": list(frames_THW3.shape)}, np.ascontiguousarray(frames_THW3).tobytes()

    def forget(self) -> tuple[dict[str, Any], bytes]:
        """Drop the frames that are kept, and close the file that is read."""
        self._kept = self._reader = None
        return {}, b""


def _check_regular(path: str) -> None:
    """Raise DecodeError for an empty file and for what is not a regular file, OSError where it cannot be read."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(path, "not a regular file")
    if status.st_size == 0:
        raise DecodeError(path, "is empty (0 bytes)")


def _sha256(path: str, watch: Watch) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            watch.tick()
    return digest.hexdigest()


def fault(path: str, error: Exception) -> dict[str, Any]:
    """Answer for an error: the reason, the path, and whether the machine or the file is at fault."""
    decode_error = DecodeError.of(path, error)
    number = error.errno if isinstance(error, OSError) else None
    if number not in MACHINE:  # a decoder raises other errors; can the file still be read?
        number = _errno_of(path)
    is_machine = number is not None and number in MACHINE
    if number is not None and is_machine:
        decode_error = DecodeError(path, os.strerror(number))
    return {
        "error": decode_error.reason, "path": decode_error.path, "machine": is_machine, "missing": number == errno.ENOENT,
    }  # fmt: skip


def _errno_of(path: str) -> int | None:
    """Error number of reading the beginning of a file, or of listing a folder; None where it succeeds."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            os.listdir(path)
        elif stat.S_ISREG(mode):  # opening a pipe would wait for a writer
            with open(path, "rb") as file:
                file.read(1)
    except OSError as error:
        return error.errno
    except ValueError:  # a name that no file can have
        return None
    return None


def limit_memory(num_bytes: int) -> None:
    """Limit the memory of this process, on systems that support it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except (ImportError, OSError, ValueError, OverflowError):  # Windows; a system that is stricter already
        pass


def main() -> None:
    """Answer questions from standard input on standard output, until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with answers

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
        what, path = question.pop("what"), question.get("path") or question.get("row", ["", ""])[1]
        try:
            say(*getattr(worker, what)(**question))
        except Exception as error:
            say({"out_of_memory": True} if _asks_for_memory(error) else fault(path, error))


def _asks_for_memory(error: BaseException | None) -> bool:
    """Whether a refusal of memory is the cause of an error."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    main()
