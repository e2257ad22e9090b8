"""Leases: one holder at a time, whatever dies, sleeps or looks at old news."""

import os
import threading
import time
from contextlib import ExitStack

import pytest

from muybridge.errors import UserError
from muybridge.runtime import leases as leasing
from muybridge.runtime.files import write_atomic
from muybridge.runtime.leases import LeaseLost, Leases


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leasing, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(leasing, "LEAST_LOST_SECONDS", 0.0)


def abandoned(folder, key):
    """A lease whose holder was killed: its file stays as it was."""
    others = Leases(folder)
    lease = others._take(key, others.standing())
    os.close(lease._descriptor)
    return lease


def watched(folder, key, *, lost_seconds=0.1):
    """A watcher that has seen a lease unchanged for long enough."""
    watcher = Leases(folder, lost_seconds=lost_seconds)
    assert watcher.holder(key, watcher.standing()) is not None
    time.sleep(lost_seconds + 0.05)
    return watcher


def test_one_holds_and_gives_back(tmp_path):
    a, b = Leases(tmp_path), Leases(tmp_path)
    with a.hold("run", a.standing()) as held:
        assert held is not None
        with b.hold("run", b.standing()) as other:
            assert other is None
        assert b.holder("run", b.standing())["pid"] == os.getpid()
    assert b.holder("run", b.standing()) is None
    with b.hold("run", b.standing()) as held:
        assert held is not None
        b.finish("run")
    assert a.standing().done == {"run"}
    assert [file.name for file in tmp_path.iterdir()] == ["run.done"]
    with a.hold("run", a.standing()) as held:
        assert held is None


def test_who_gives_signs_of_life_keeps_it(tmp_path):
    a = Leases(tmp_path)
    with a.hold("run", a.standing()):
        watcher = Leases(tmp_path, lost_seconds=0.3)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            with watcher.hold("run", watcher.standing()) as other:
                assert other is None
            time.sleep(0.02)


def test_the_lease_of_a_dead_holder_ends_whatever_the_clocks_say(tmp_path):
    lease = abandoned(tmp_path, "run")
    for stamp in (0, 4_000_000_000):  # 1970, and far ahead
        os.utime(lease.path, (stamp, stamp))
        watcher = Leases(tmp_path, lost_seconds=0.2)
        with watcher.hold("run", watcher.standing()) as held:
            assert held is None, "nobody has seen it unchanged for long enough"
    watcher = watched(tmp_path, "run")
    with watcher.hold("run", watcher.standing()) as held:
        assert held is not None
        assert not lease.path.exists()


def test_of_many_watchers_one_takes_it(tmp_path):
    for number in range(10):
        abandoned(tmp_path, f"run{number}")
    watchers = [Leases(tmp_path, lost_seconds=0.05) for _ in range(8)]
    for watcher in watchers:
        for number in range(10):
            watcher.holder(f"run{number}", watcher.standing())
    time.sleep(0.1)
    taken, both, ended = [], threading.Barrier(8), threading.Event()

    def take(watcher):
        standing = watcher.standing()
        both.wait()
        with ExitStack() as held:
            for number in range(10):
                if held.enter_context(watcher.hold(f"run{number}", standing)) is not None:
                    taken.append(f"run{number}")
            ended.wait()

    threads = [threading.Thread(target=take, args=(watcher,)) for watcher in watchers]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    ended.set()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [f"run{number}" for number in range(10)]


def test_who_was_asleep_writes_nothing(tmp_path):
    folder, mine = tmp_path / "leases", Leases(tmp_path / "leases")
    lost = None
    try:
        with mine.hold("run", mine.standing()) as lease:
            write_atomic(tmp_path / "before", "written")
            lease._ended.set()  # asleep: no more signs of life
            time.sleep(0.1)
            watcher = watched(folder, "run")
            with watcher.hold("run", watcher.standing()) as held:
                assert held is not None
                lease.beat()  # awake again: it writes into the file it had open, which is nobody's any more
                held.check()
                watcher_holds = watcher.standing().numbers
                write_atomic(tmp_path / "after", "written")
    except LeaseLost as error:
        lost = str(error)
    assert "another has taken it" in (lost or "")
    assert watcher_holds == {"run": 2}
    assert (tmp_path / "before").exists()
    assert not (tmp_path / "after").exists()


def test_old_news_take_nothing(tmp_path):
    """Judged lost, it was taken, given back, and taken again before the judge came."""
    abandoned(tmp_path, "run")
    slow = watched(tmp_path, "run")
    news = slow.standing()
    quick = watched(tmp_path, "run")
    with quick.hold("run", quick.standing()) as held:
        assert held is not None
    third = Leases(tmp_path)
    with third.hold("run", third.standing()) as held:
        assert held is not None
        with slow.hold("run", news) as stolen:
            assert stolen is None
        held.check()
        assert third.standing().numbers == {"run": 3}


def test_a_holder_that_wakes_up_while_it_is_taken_keeps_it(tmp_path, monkeypatch):
    others = Leases(tmp_path)
    lease = others._take("run", others.standing())
    watcher = watched(tmp_path, "run")
    real = leasing.Lease.beat

    def beat(self, **state):
        if self is not lease:
            real(lease)  # between the judgement and the end of the taking
        real(self, **state)

    monkeypatch.setattr(leasing.Lease, "beat", beat)
    with watcher.hold("run", watcher.standing()) as held:
        assert held is None
    lease.check()
    os.close(lease._descriptor)


def test_a_failed_piece_is_left_alone_until_it_is_opened_again(tmp_path):
    a = Leases(tmp_path)
    with a.hold("run", a.standing()):
        a.fail("run", "it diverged")
    assert (a.standing().failed, a.reason("run")) == ({"run"}, "it diverged")
    with a.hold("run", a.standing()) as held:
        assert held is None
    a.forget("run", "failed")
    with a.hold("run", a.standing()) as held:
        assert held is not None


def test_a_high_number_that_somebody_wrote_holds_nobody_up(tmp_path):
    """Only numbers that are there are removed."""
    (tmp_path / "run.00003.lease").write_text('{"state": "free"}')
    (tmp_path / "run.100000000.lease").write_text('{"state": "free"}')
    leases = Leases(tmp_path)
    began = time.monotonic()
    with leases.hold("run", leases.standing()) as held:
        assert held.path.name == "run.100000001.lease"
        assert [file.name for file in tmp_path.iterdir()] == [held.path.name]
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", ["run.00001.lease", "run.done", "run.failed"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_is_named(tmp_path, name, kind):
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: os.symlink("/dev/zero", path)}
    make[kind](tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}: it is damaged: not a regular file. Remove it"):
        Leases(tmp_path).standing()


def test_numbers_that_nobody_reaches_and_times_that_never_end_are_refused(tmp_path):
    for seconds in (float("inf"), float("nan")):
        with pytest.raises(UserError, match="--lost-after"):
            Leases(tmp_path, lost_seconds=seconds)
    (tmp_path / f"run.{'9' * 100}.lease").touch()
    with pytest.raises(UserError, match=r"no lease has so high a number. Remove it"):
        Leases(tmp_path).standing()


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "leases").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leases: it is a link"):
        Leases(tmp_path / "leases")


def test_a_mark_without_a_reason_says_so(tmp_path):
    for content in ('{"reason": ""}', "{}", "[1]"):
        (tmp_path / "run.failed").write_text(content)
        assert Leases(tmp_path).reason("run") == "its mark does not say why"
