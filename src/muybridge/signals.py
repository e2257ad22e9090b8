"""Ctrl-C and SIGTERM while a run is trained."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from muybridge.console import log


class Stop:
    """Whether a person, or the system, has asked to stop."""

    asked = False
    is_at_once = False

    @contextmanager
    def at_once(self, wanted: bool) -> Iterator[None]:
        """In the block it is a KeyboardInterrupt that asks."""
        self.is_at_once = wanted
        try:
            yield
        finally:
            self.is_at_once = False

    def handle(self, number: int, frame: Any) -> None:
        if self.asked or self.is_at_once:
            raise KeyboardInterrupt
        self.asked = True
        log("stopping after this step …")


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM finish the step and save; a second Ctrl-C stops at once."""
    stop = Stop()
    try:
        before = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's signals are the caller's
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
