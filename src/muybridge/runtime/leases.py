"""Leases: which of many processes, on any machines that share a folder, does which piece of work.

FOLDER/
  KEY.00001.lease    who does the piece, and a counter that they raise every few seconds; the highest number counts
  KEY.done           the piece is done
  KEY.failed         the piece cannot be done, and why

No clock is compared with another machine's: who watches a lease judges its holder lost when the content of the file has not
changed for a while by the watcher's own clock. To take a piece is to create the next number, which one process alone can
(`O_EXCL`, atomic on NFS, too). Only then are the lower numbers removed, and only then does the work begin. A holder writes
into the file that it has open, so it never writes into another's. It looks before every write of the piece whether its file
is still there (`runtime.files.fenced`): who was asleep while the piece was taken stops without writing.
"""

import json
import math
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.runtime.console import log
from muybridge.runtime.files import fenced, read_json, within, write_json

BEAT_SECONDS = 2.0
"""Time between two signs of life."""
LOST_SECONDS = 60.0
"""Time without a sign of life after which a holder counts as lost."""
LEAST_LOST_SECONDS = 3 * BEAT_SECONDS
_FILE = re.compile(r"(?P<key>.+)\.(?:(?P<number>[0-9]{5,})\.lease|(?P<mark>done|failed))")
_CONTENT_BYTES = 512
"""Length of a lease's file, so that a shorter content leaves nothing of a longer one."""
_MOST_DIGITS = 9
"""Most digits of a lease's number: nobody takes a piece a billion times."""


class LeaseLost(Exception):
    """The piece of work was taken by another process, as this one gave no sign of life."""


@dataclass(frozen=True)
class Standing:
    """State of every piece, from one look at the names of the files in a folder."""

    done: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    numbers: Mapping[str, int] = field(default_factory=dict)
    """The highest number of each piece that is or was held."""
    lower: Mapping[str, list[int]] = field(default_factory=dict)
    """Its other numbers that are still there."""


@dataclass
class Lease:
    """A piece of work that this process holds."""

    key: str
    path: Path
    holder: str
    _descriptor: int
    _beats: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Raise LeaseLost where another process has taken the piece."""
        try:
            content = self.path.read_bytes()  # opening asks a file server anew, which a look at the name may not
        except FileNotFoundError:
            content = b""
        if self.holder.encode() not in content:
            raise LeaseLost(f"{self.key}: this process gave no sign of life, and another has taken it. It stops here")

    def beat(self, *, state: str = "held") -> None:
        """Write a sign of life."""
        with self._writing:
            self._beats += 1
            content = {
                "holder": self.holder, "state": state, "beats": self._beats, "host": socket.gethostname()[:100],
                "pid": os.getpid(),
            }  # fmt: skip
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, json.dumps(content).encode().ljust(_CONTENT_BYTES - 1) + b"\n")
            os.fsync(self._descriptor)

    def keep_alive(self) -> None:
        """Write signs of life until the lease ends or is lost. Runs in a thread."""
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # a file server may be away for a moment
                self.beat()

    def end(self, *, done: bool) -> None:
        """Give the piece back. Its file stays, as free, unless the piece is done: numbers never go back."""
        self._ended.set()
        with suppress(OSError):
            if not done:
                self.beat(state="free")
        os.close(self._descriptor)
        if done:
            with suppress(OSError):
                self.path.unlink()


class Leases:
    """The leases of a folder, as one process sees them."""

    def __init__(self, folder: Path, *, lost_seconds: float = LOST_SECONDS) -> None:
        if not math.isfinite(lost_seconds):
            raise UserError(
                f"--lost-after: {lost_seconds} seconds never end. Give a number, such as {LOST_SECONDS:.0f}"
            )
        self.folder = within(folder.parent, folder.name)
        self.lost_seconds = max(lost_seconds, LEAST_LOST_SECONDS)
        self._seen: dict[str, tuple[bytes, float]] = {}
        """Content of the leases of others, and when this process first saw it, by its own clock."""

    def standing(self) -> Standing:
        """Look once at the names in the folder. Raises UserError for a pipe, a link and the like."""
        done: set[str] = set()
        failed: set[str] = set()
        numbers: dict[str, list[int]] = {}
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                found = _FILE.fullmatch(entry.name)
                if found is None:
                    continue
                if not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                    raise UserError(f"{entry.path}: it is damaged: not a regular file. Remove it")
                key = found["key"]
                if found["mark"]:
                    (done if found["mark"] == "done" else failed).add(key)
                elif len(found["number"]) > _MOST_DIGITS:
                    raise UserError(f"{entry.path}: it is damaged: no lease has so high a number. Remove it")
                else:
                    numbers.setdefault(key, []).append(int(found["number"]))
        ordered = {key: sorted(of_key) for key, of_key in numbers.items()}
        return Standing(
            frozenset(done), frozenset(failed), {key: of_key[-1] for key, of_key in ordered.items()},
            {key: of_key[:-1] for key, of_key in ordered.items() if len(of_key) > 1},
        )  # fmt: skip

    def holder(self, key: str, standing: Standing) -> dict[str, Any] | None:
        """Who holds a piece (host, pid, beats); None where nobody does, or a holder is lost."""
        content = self._content(key, standing.numbers.get(key, 0))
        if content is None or self._is_free(key, standing.numbers[key], content):
            return None
        try:
            about = json.loads(content)
        except ValueError:
            about = None
        return about if isinstance(about, dict) else {}

    @contextmanager
    def hold(self, key: str, standing: Standing) -> Iterator[Lease | None]:
        """Hold a piece in the block; None where another process does, or it is done or failed.

        What the block writes is fenced: LeaseLost is raised where the piece was taken meanwhile.
        """
        lease = self._take(key, standing)
        if lease is None:
            yield None
            return
        beating = threading.Thread(target=lease.keep_alive, daemon=True, name=f"lease {key}")
        beating.start()
        try:
            with fenced(lease.check):
                yield lease
        finally:
            lease._ended.set()
            beating.join()
            lease.end(done=self._mark(key, "done").exists())

    def finish(self, key: str, **about: Any) -> None:
        """Mark a piece as done. Call it while holding it."""
        write_json(self._mark(key, "done"), about)

    def fail(self, key: str, reason: str) -> None:
        """Mark a piece as one that cannot be done. Call it while holding it."""
        write_json(self._mark(key, "failed"), {"reason": reason})

    def reason(self, key: str) -> str:
        """Why a piece cannot be done."""
        found = read_json(self._mark(key, "failed"))
        return str((found.get("reason") if isinstance(found, dict) else "") or "its mark does not say why")

    def forget(self, key: str, mark: str) -> None:
        """Remove a mark, "done" or "failed": the piece is open again."""
        self._mark(key, mark).unlink(missing_ok=True)

    def _mark(self, key: str, mark: str) -> Path:
        return within(self.folder, f"{key}.{mark}")

    def _path(self, key: str, number: int) -> Path:
        return within(self.folder, f"{key}.{number:05d}.lease")

    def _content(self, key: str, number: int) -> bytes | None:
        try:
            if number:
                with self._path(key, number).open("rb") as file:
                    return file.read(_CONTENT_BYTES)
        except FileNotFoundError:
            pass
        return None

    def _is_free(self, key: str, number: int, content: bytes) -> bool:
        """Whether a lease was given back, or its holder is lost: no sign of life, by this process's own clock."""
        name, now = f"{key}.{number}", time.monotonic()
        if b'"state": "free"' in content:
            return True
        before, since = self._seen.get(name, (None, now))
        if before != content:
            self._seen[name] = (content, now)
            return False
        return now - since >= self.lost_seconds

    def _take(self, key: str, standing: Standing) -> Lease | None:
        number = standing.numbers.get(key, 0)
        judged = self._content(key, number)
        if judged is not None and not self._is_free(key, number, judged):
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path, holder = self._path(key, number + 1), secrets.token_hex(8)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            return None
        lease = Lease(key, path, holder, descriptor)
        lease.beat()
        now = self.standing()  # fresh: this process has just changed the folder
        if (
            key in now.done | now.failed
            or now.numbers.get(key) != number + 1
            or self._content(key, number) != judged  # its holder was alive, or another took it before
        ):
            os.close(descriptor)
            path.unlink(missing_ok=True)
            return None
        if judged is not None and b'"state": "free"' not in judged:
            log(f"{key}: its holder gave no sign of life for {self.lost_seconds:.0f} seconds; taken over")
        for lower in now.lower.get(key, ()):
            self._path(key, lower).unlink(missing_ok=True)
        self._seen.pop(f"{key}.{number}", None)
        return lease
