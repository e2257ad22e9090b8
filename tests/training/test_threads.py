"""The number of threads of a run: chosen where the processors are taken, noted, and kept."""

import time

import pytest
import torch
from same_bits import everything

from muybridge.recipe import Runtime
from muybridge.runtime import processors
from muybridge.training import loop, threads
from muybridge.training.loop import resume, train


@pytest.fixture
def free(monkeypatch):
    """Two threads, of which nobody has said the number."""
    for name in processors.THREADS_SET_BY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processors, "left", lambda: processors.Processors(usable=2, cores=2, quota=None))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def taken(monkeypatch):
    """Sets the share of time that threads wait."""

    def of(share):
        monkeypatch.setattr(threads.Waiting, "share", lambda self, number: share)

    return of


def paced(seconds):
    """A step that takes so many seconds by its number of threads; and the numbers that it was called with."""
    called = []

    def step():
        called.append(torch.get_num_threads())
        time.sleep(seconds[called[-1]])

    return step, called


def test_a_quiet_machine_keeps_all_threads_after_two_steps(free, taken):
    taken(0.0)
    step, called = paced({1: 0.0, 2: 0.02})
    assert threads.choose(step) == 2
    assert called == [2, 2]


@pytest.mark.parametrize(("one", "two", "chosen"), [(0.01, 0.03, 1), (0.03, 0.01, 2), (0.019, 0.02, 2)])
def test_beside_others_the_faster_number_computes(free, taken, monkeypatch, caplog, capsys, one, two, chosen):
    taken(0.5)
    monkeypatch.setattr(threads, "TURN_SECONDS", 0.06)
    step, called = paced({1: one, 2: two})
    assert threads.choose(step) == torch.get_num_threads() == chosen
    assert set(called) == {1, 2}
    assert ("training with 1 of 2 threads" in capsys.readouterr().err) == (chosen == 1)


def test_a_choice_is_noted_changes_no_bit_and_is_kept_by_a_resume(free, taken, recipe, tmp_path, monkeypatch):
    tried = []
    taken(0.5)
    monkeypatch.setattr(threads, "_tried", lambda step, numbers: [step(), tried.append(numbers)] and {1: 1.0, 2: 9.0})
    chosen = train(recipe, out=tmp_path / "chosen")
    environment = chosen.environment()
    assert (environment["threads"], environment["threads_chosen_by"]) == (1, "first batch")
    assert torch.get_num_threads() == 2  # as before the run
    said = train(recipe, out=tmp_path / "said", runtime=Runtime(threads=1))
    assert said.environment()["threads_chosen_by"] == "user"
    assert everything(chosen) == everything(said)

    torch.set_num_threads(2)
    stopped = tmp_path / "stopped"
    real = loop.training_step

    def stop(*arguments, **named):
        if (stopped / "checkpoints" / "last").exists():
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(loop, "training_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=stopped)
    monkeypatch.setattr(loop, "training_step", real)
    taken(0.0)  # the others have left meanwhile
    assert everything(resume(stopped)) == everything(chosen)
    assert len(tried) == 2


def test_the_threads_of_a_larger_machine_are_not_kept_on_a_smaller_one(free):
    assert threads.kept(Runtime(), {"threads": 1}).threads == 1
    assert threads.kept(Runtime(), {"threads": 64}).threads is None
    assert threads.kept(Runtime(threads=2), {"threads": 1}).threads == 2
    assert threads.kept(Runtime(), {}).threads is None


def test_a_training_says_once_that_it_waits_and_what_to_do(free, taken, monkeypatch, capsys):
    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.0)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    contention = threads.Contention()
    taken(0.1)
    contention.look(0)
    assert capsys.readouterr().err == ""
    taken(0.4)
    contention.look(0)
    contention.look(0)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for words in ("40 %", "GOMP_SPINCOUNT=", "runtime.threads=1", "other programs"):
        assert words in told


def test_a_quota_is_named_as_the_cause(free, taken, monkeypatch, capsys):
    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(processors, "left", lambda: processors.Processors(usable=2, cores=2, quota=1.5))
    taken(0.4)
    threads.Contention().look(0)
    told = capsys.readouterr().err
    assert "1.5 processors by a container's quota, and 2 threads" in told
    assert "runtime.threads" not in told  # two are what 1.5 processors are best used by
    torch.set_num_threads(4)
    threads.Contention().look(0)
    assert "runtime.threads=2" in capsys.readouterr().err
