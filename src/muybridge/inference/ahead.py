"""Items of an iterator that a thread pulls ahead: nobody waits for the next one while there is work to do."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """The results of `begin` for each item of an iterator, at most `most` ahead of those that are `done`.

    Both run in a thread, one item after the other: an iterator may use an item again once the next one is asked for.
    """

    def __init__(self, items: Iterator[Any], begin: Callable[[Any], T], *, most: int) -> None:
        self._begun: queue.SimpleQueue[T | None] = queue.SimpleQueue()  # None: there are no more
        # not a semaphore: Ctrl-C in the middle of its release would leave its lock taken, and `leave` waiting for ever
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.done(most)
        self._raised: BaseException | None = None
        self._is_over = self._is_left = False
        threading.Thread(  # a daemon: an iterator that never returns shall not keep the program from ending
            target=self._pull, args=(items, begin), name="muybridge-read-ahead", daemon=True
        ).start()

    def _pull(self, items: Iterator[Any], begin: Callable[[Any], T]) -> None:
        try:
            while True:
                self._room.get()
                if self._is_left:
                    return
                try:
                    item = next(items)
                except StopIteration:
                    return
                self._begun.put(begin(item))
        except BaseException as error:
            self._raised = error
        finally:
            self._begun.put(None)

    def batch(self, most: int, patience_seconds: float | None) -> list[T]:
        """Up to `most` items in order; fewer where the next one does not come within the patience (None: it is waited for).

        Empty at the end. What the iterator raised is raised after the items before it.
        """
        items: list[T] = []
        while len(items) < most and not self._is_over:
            try:
                item = self._begun.get(timeout=patience_seconds if items else None)
            except queue.Empty:
                break
            if item is None:
                self._is_over = True
            else:
                items.append(item)
        if not items and self._raised is not None:
            raise self._raised
        return items

    def done(self, count: int) -> None:
        """Make room for as many more."""
        for _ in range(count):
            self._room.put(None)

    def leave(self) -> None:
        """Ask for no more items."""
        self._is_left = True
        self._room.put(None)
