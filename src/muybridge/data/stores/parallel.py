"""Work on several videos at a time, in threads."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    job: Callable[[Item, Callable[[], bool]], Result],
    items: Sequence[Item],
    *,
    jobs: int,
    drop: Callable[[Result], object] = lambda result: None,
    give_up: Callable[[], object] = lambda: None,
) -> Iterator[Result]:
    """Run `job(item, stop)` in threads (decoding and coding release the interpreter); yield the results in order.

    Few results are made ahead, so that memory stays flat. When the caller stops early, `stop()` becomes true, `give_up`
    ends what jobs wait for, and `drop` gets the results that were not taken.
    """
    ahead: deque[Future[Result]] = deque()
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(job, item, stop.is_set))
                if len(ahead) == 2 * jobs:
                    yield _first(ahead)
            while ahead:
                yield _first(ahead)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if ahead:
                give_up()
            pool.shutdown(wait=True)
            for future in ahead:
                if not future.cancelled() and future.exception() is None:
                    drop(future.result())


def _first(ahead: deque[Future[Result]]) -> Result:
    """Wait for the first result, and take it; while it is waited for, it is still ahead."""
    result = ahead[0].result()
    ahead.popleft()
    return result
