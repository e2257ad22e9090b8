"""Many videos at a time."""

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
    """Results of `job(item, stop)` by threads (decoding and coding release the interpreter), in order. Few are ahead of
    the taker, so that memory stays flat; `stop()` tells a job that nobody waits for it any more, and `give_up` ends what
    jobs wait for then. `drop` gets the results that nobody took."""
    ahead: deque[Future[Result]] = deque()
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(job, item, stop.is_set))
                if len(ahead) == 2 * jobs:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if ahead:
                give_up()
            pool.shutdown(wait=True)
            for future in ahead:
                if not future.cancelled() and future.exception() is None:
                    drop(future.result())
