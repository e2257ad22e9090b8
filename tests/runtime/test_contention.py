"""Contention: how long threads waited for a processor, by the system's own figures."""

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from muybridge.runtime import contention
from muybridge.runtime.contention import Waiting


@pytest.fixture
def threads(tmp_path, monkeypatch):
    """Writes what Linux keeps of threads: seconds that each waited, and that quotas stopped the group. Looks are 4 s apart."""
    monkeypatch.setattr(contention, "THREADS", tmp_path)
    clock = iter(range(100, 200, 4))
    monkeypatch.setattr(contention.time, "perf_counter", lambda: float(next(clock)))

    def write(*waited, stopped=0.0):
        for old in tmp_path.iterdir():
            (old / "schedstat").unlink()
            old.rmdir()
        for number, seconds in enumerate(waited):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "schedstat").write_text(f"77 {int(seconds * 1e9)} 3\n")
        monkeypatch.setattr(contention.cgroups, "stopped_seconds", lambda: stopped)

    return write


def test_waiting_is_what_the_system_says(threads):
    threads(5, 1)
    seen = Waiting()
    threads(5, 3)
    assert seen.share(2) == 2 / (4 * 2)
    threads(5)  # the thread has ended
    assert seen.share(2) == 0


def test_what_a_quota_stops_is_in_the_wait_already_and_tells_the_cause(threads):
    threads(1, 1)
    seen = Waiting()
    threads(2, 2, stopped=1.9)
    assert (seen.share(2), seen.by_quota) == (2 / 8, True)
    threads(4, 4, stopped=2.0)  # by others now
    assert (seen.share(2), seen.by_quota) == (4 / 8, False)
    threads(4, 4, stopped=9.0)  # others in the group were stopped, and this process had nothing to do
    assert seen.share(2) == 0


def test_where_the_system_keeps_no_waits_a_full_machine_tells_the_share_of_others(monkeypatch):
    monkeypatch.setattr(contention.os, "cpu_count", lambda: 2)
    figures = iter([(0.0, 10.0, 3.0), (10.0, 30.0, 13.0), (20.0, 45.0, 23.0)])  # seconds: clock, busy, own

    def look():
        at, busy, own = next(figures)
        return SimpleNamespace(at=at, busy=busy, own=own, waited=None)

    monkeypatch.setattr(contention, "_Look", look)
    seen = Waiting()
    assert seen.share(2) == 0.5  # full, and half of it by others
    assert seen.share(2) == 0.0  # a quarter is idle


def test_where_the_system_hides_all_figures_nothing_is_said(tmp_path, monkeypatch):
    def hidden():
        raise ValueError("/proc/stat is empty")

    monkeypatch.setattr(psutil, "cpu_times", hidden)
    monkeypatch.setattr(contention, "THREADS", tmp_path / "none")
    seen = Waiting()
    assert seen.share(2) == 0.0
    monkeypatch.undo()
    monkeypatch.setattr(contention, "THREADS", tmp_path / "none")
    assert seen.share(2) == 0.0  # no figure, not all that was since the machine started


SPIN = """
import os, time
from muybridge.runtime.contention import Waiting
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
seen, began = Waiting(), time.process_time()
until = time.perf_counter() + 2
while time.perf_counter() < until: pass
print(seen.share(1), 1 - (time.process_time() - began) / 2)
"""


@pytest.mark.skipif(not contention.THREADS.exists(), reason="Linux")
def test_a_process_that_shares_its_processor_waits_for_the_time_that_it_does_not_get():
    command = [sys.executable, "-c", SPIN]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) for _ in range(2)]
    for process in both:
        told, true = (float(word) for word in process.communicate()[0].split())
        assert told == pytest.approx(true, abs=0.05)
