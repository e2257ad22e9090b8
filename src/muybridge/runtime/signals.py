"""Ctrl-C and SIGTERM while a run is trained."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from muybridge.runtime.console import log


class Stop:
    """Whether a person, or the system, has asked to stop. At first that is a KeyboardInterrupt, on the spot; in a block
    that is not to be broken off it is remembered."""

    asked = False
    """Also where a library on the way took no notice of the KeyboardInterrupt."""
    _waits = False
    _broken_off = False

    @contextmanager
    def later(self) -> Iterator[None]:
        """In the block `asked` is set, and nothing broken off, unless it is asked for twice."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    @contextmanager
    def at_once(self, wanted: bool = True) -> Iterator[None]:
        """In a block of such a block, it is a KeyboardInterrupt again."""
        waited, self._waits = self._waits, self._waits and not wanted
        try:
            with self.kept():
                yield
        finally:
            self._waits = waited

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The block ends in a KeyboardInterrupt where one was raised in it, though a library on the way made another error
        of it (NumPy does, in comparing structured arrays) or took no notice."""
        try:
            yield
        except Exception as error:
            if self._broken_off:
                raise KeyboardInterrupt from error
            raise
        if self._broken_off:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: Any) -> None:
        self._broken_off = self.asked or not self._waits
        self.asked = True
        if self._broken_off:
            raise KeyboardInterrupt
        log("stopping as soon as the work in hand is saved …")


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM are heard in the block."""
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
