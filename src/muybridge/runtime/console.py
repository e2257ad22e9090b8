"""Log lines and progress bars, all on standard error.

Standard output belongs to results. Where standard error is not a terminal, bars become a line now and then. Threads may
log and show bars at the same time.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from muybridge.runtime.launch import launched
from muybridge.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_LINE_SECONDS = 15.0


@cache
def console() -> "Console":
    """Console on standard error; rich is imported by the first line that is shown."""
    from rich.console import Console

    return Console(
        stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True,
        force_jupyter=False,  # a notebook, too, has a standard error; what it stores as output are results
        quiet=launched().rank > 0,  # of several processes, the first logs
    )  # fmt: skip


def log(message: str) -> None:
    """Print one line, control characters escaped."""
    console().print(printable(message))


class _Display:
    """The display that all open bars share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._bars = 0

    def enter(self) -> "Progress":
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        with self._lock:
            self._bars += 1
            if self._progress is None:
                self._progress = Progress(
                    TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                    TimeElapsedColumn(), TimeRemainingColumn(), console=console(), transient=True,
                )  # fmt: skip
                self._progress.start()
            return self._progress

    def leave(self) -> None:
        with self._lock:
            self._bars -= 1
            if self._bars == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


_display = _Display()


class Bar:
    """One task's progress: `advance()` per item, `describe()` to change its text."""

    def __init__(self, text: str | None, total: int | None) -> None:
        self._text, self._total, self._done = text, total, 0
        self._progress: Progress | None = None
        self._next_line = time.monotonic() + _LINE_SECONDS
        if text is not None and console().is_terminal:
            self._progress = _display.enter()
            self._task = self._progress.add_task(printable(text), total=total)

    def advance(self, items: int = 1) -> None:
        """Count items as done."""
        self._done += items
        if self._progress is not None:
            self._progress.advance(self._task, items)
        elif self._text is not None and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            log(f"{self._text}: {self._done}" + (f"/{self._total}" if self._total is not None else ""))

    def describe(self, text: str) -> None:
        """Replace the text beside the bar."""
        self._text = text
        if self._progress is not None:
            self._progress.update(self._task, description=printable(text))

    def close(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.remove_task(self._task)
            _display.leave()


@contextmanager
def progress(text: str | None, total: int | None) -> Iterator[Bar]:
    """Show a progress bar in the block; without a `total` it only counts, without a `text` it is not shown."""
    bar = Bar(text, total)
    try:
        yield bar
    finally:
        bar.close()


class ByteBar:
    """A bar that counts bytes and shows MiB."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._bytes = bar, 0

    def advance(self, num_bytes: int) -> None:
        """Count bytes as done."""
        before, self._bytes = self._bytes, self._bytes + num_bytes
        self._bar.advance(self._bytes // 2**20 - before // 2**20)


@contextmanager
def byte_progress(text: str, num_bytes: int | None) -> Iterator[ByteBar]:
    """Show a progress bar of bytes in the block, as `progress` does."""
    with progress(f"{text} (MiB)", None if num_bytes is None else num_bytes // 2**20) as bar:
        yield ByteBar(bar)
