"""Work in threads ends when the caller is stopped, also at the last item."""

import os
import signal
import threading

import pytest

from muybridge.data.stores.parallel import in_order


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_stop_ends_what_a_job_waits_for(count):
    given_up, dropped = threading.Event(), []

    def job(item, stop):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        assert given_up.wait(60), "nobody ended it"
        return item

    with pytest.raises(KeyboardInterrupt):
        list(in_order(job, range(count), jobs=1, give_up=given_up.set, drop=dropped.append))
    assert dropped == [0]


def test_results_come_in_order_and_none_is_dropped():
    dropped = []
    assert list(in_order(lambda item, stop: -item, range(20), jobs=3, drop=dropped.append)) == [-n for n in range(20)]
    assert dropped == []


def test_a_fault_of_a_job_is_raised_and_later_results_are_dropped():
    dropped, later = [], threading.Event()

    def job(item, stop):
        if item == 2:
            assert later.wait(60)
            raise ValueError("two")
        if item == 3:
            later.set()
        return item

    taken = []
    with pytest.raises(ValueError, match="two"):
        taken.extend(in_order(job, range(4), jobs=4, drop=dropped.append))
    assert dropped == [3]
