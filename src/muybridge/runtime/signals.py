"""Ctrl-C and SIGTERM during training."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from muybridge.runtime.console import log


class Stop:
    """A stop request: raises KeyboardInterrupt at once, or is deferred inside `later()`."""

    asked = False
    """Whether a stop was requested; also set where a library swallowed the KeyboardInterrupt."""
    _deferred = False
    _raised = False

    @contextmanager
    def later(self) -> Iterator[None]:
        """Defer in the block: a first request only sets `asked`, a second one raises."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def at_once(self, wanted: bool = True) -> Iterator[None]:
        """Raise at once again, in a block inside `later()`."""
        before, self._deferred = self._deferred, self._deferred and not wanted
        try:
            with self.kept():
                yield
        finally:
            self._deferred = before

    @contextmanager
    def kept(self) -> Iterator[None]:
        """End the block with the KeyboardInterrupt that was raised in it, whatever a library made of it.

        NumPy turns it into another error when it compares structured arrays; others swallow it.
        """
        try:
            yield
        except Exception as error:
            if self._raised:
                raise KeyboardInterrupt from error
            raise
        if self._raised:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: Any) -> None:
        """Signal handler."""
        self._raised = self.asked or not self._deferred
        self.asked = True
        if self._raised:
            raise KeyboardInterrupt
        log("stopping as soon as the work in hand is saved …")


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Handle Ctrl-C and SIGTERM in the block."""
    stop = Stop()
    try:
        before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's signals are the caller's
        before = {}
    try:
        with stop.kept():
            yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
