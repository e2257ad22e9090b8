"""What a person sees while muybridge works: log lines and progress bars, all on standard error.

Standard output belongs to results. Where standard error is no terminal, bars become a line now and then.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from muybridge.launch import launched

console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=launched().rank > 0)  # one of several speaks
_LINE_SECONDS = 15.0
_open_bars: list[Progress] = []


def log(message: str) -> None:
    """One line for the person who waits."""
    console.print(message, markup=False)


class Bar:
    """One task's progress: `advance()` per item, `describe()` for what changes on the way."""

    def __init__(self, text: str, total: int | None) -> None:
        self._text, self._total, self._done = text, total, 0
        self._progress: Progress | None = None
        self._next_line = time.monotonic() + _LINE_SECONDS
        if console.is_terminal:
            if not _open_bars:  # nested bars share one display
                columns = (
                    TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                    TimeElapsedColumn(), TimeRemainingColumn(),
                )  # fmt: skip
                _open_bars.append(Progress(*columns, console=console, transient=True))
                _open_bars[0].start()
                self._owner = True
            else:
                self._owner = False
            self._progress = _open_bars[0]
            self._task = self._progress.add_task(_escape(text), total=total)

    def advance(self, items: int = 1) -> None:
        self._done += items
        if self._progress is not None:
            self._progress.advance(self._task, items)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            log(f"{self._text}: {self._done}" + (f"/{self._total}" if self._total is not None else ""))

    def describe(self, text: str) -> None:
        self._text = text
        if self._progress is not None:
            self._progress.update(self._task, description=_escape(text))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.remove_task(self._task)
            if self._owner:
                self._progress.stop()
                _open_bars.clear()


@contextmanager
def progress(text: str, total: int | None) -> Iterator[Bar]:
    """A progress bar that closes itself; without a `total` it only counts."""
    bar = Bar(text, total)
    try:
        yield bar
    finally:
        bar.close()


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
