"""File locks: one process at a time in a folder. The error for a held lock names its holder."""

import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muybridge.errors import InUse, UserError
from muybridge.runtime.console import log
from muybridge.runtime.files import within

NAME = ".lock"


@contextmanager
def locked(
    folder: Path, what: str, *, name: str = NAME, keep: bool = True, wait_seconds: float = 0.5
) -> Iterator[None]:
    """Hold the lock of a folder in the block.

    `what`: the other process's work, as in "trains in it". `keep`: leave the lock's file when the block ends. Raises
    InUse with the holder where the lock is not released within `wait_seconds`.
    """
    from filelock import FileLock, Timeout

    file = within(folder, name)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=min(0.5, wait_seconds))  # `is_locked` holds it for a moment
    except Timeout:
        if wait_seconds <= 0.5:
            raise InUse(
                f"{folder}: it is in use: {_holder(file)} {what}. Wait until that ends, or choose another folder"
            ) from None
        log(f"waiting: {_holder(file)} {what} ({folder})")
        try:
            lock.acquire(timeout=wait_seconds)
        except Timeout:
            raise InUse(
                f"{folder}: it is in use: {_holder(file)} {what}. Wait until that ends, or choose another folder"
            ) from None
    try:
        _note(file, f"process {os.getpid()} on {socket.gethostname()} ({shlex.join(map(str, sys.argv))[:500]})")
        yield
    finally:
        _note(file, "")
        if not keep:
            with suppress(OSError):  # (Windows removes no file that is open)
                file.unlink()
        lock.release()


def is_locked(folder: Path, name: str = NAME) -> bool:
    """Whether a process holds the lock; creates no file.

    Raises UserError where the lock's file cannot be opened for writing.
    """
    file = folder / name
    if not file.exists():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(within(folder, name)).acquire(
            timeout=0.05, poll_interval=0.01
        ):  # another process may be checking, too
            return False
    except Timeout:
        return True
    except OSError as error:
        raise UserError(
            f"{file}: it cannot be opened for writing ({error.strerror}), so nobody can tell whether a process is at "
            "work there. Allow writing to it"
        ) from None


def _note(file: Path, text: str) -> None:
    """Write the holder into the lock's file, unless the file has another name (hard link), too."""
    with suppress(OSError):  # (Windows does not allow writing to a locked file)
        if file.stat().st_nlink == 1:
            file.write_text(text, encoding="utf-8", errors="replace")


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()[:600] or "another process"
    except OSError:
        return "another process"
