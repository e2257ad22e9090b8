"""The number of threads of a run: settled where the processors are taken, noted, and kept."""

import itertools
import json
import os
import random
import signal
import sys

import numpy as np
import pytest
import torch
from same_bits import everything

from muybridge.errors import Interrupted
from muybridge.recipe import Runtime, replace
from muybridge.runtime import device, processors
from muybridge.training import loop, session, threads
from muybridge.training.loop import resume, train
from muybridge.training.threads import Settled


@pytest.fixture
def free(monkeypatch):
    """Two threads on two processors; nobody has said their number."""
    for name in processors.THREADS_SET_BY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(processors, "left", lambda: processors.Processors(usable=2, cores=2, quota=None))
    monkeypatch.setattr(device, "BY_ITSELF", 2)
    with device.threads_kept():
        torch.set_num_threads(2)
        yield


@pytest.fixture
def taken(monkeypatch):
    """Sets the share of time that threads wait, and whether a quota is why."""

    def of(share, *, by_quota=False):
        monkeypatch.setattr(threads.Waiting, "share", lambda self, number: share)
        monkeypatch.setattr(threads.Waiting, "by_quota", by_quota)

    of(0.0)
    return of


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for steps: `paced` makes one that takes so many seconds by its number of threads."""
    now = [0.0]
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])

    def paced(seconds):
        called = []

        def step():
            called.append(torch.get_num_threads())
            now[0] += seconds[called[-1]]

        return step, called

    return paced


@pytest.fixture
def fewer(monkeypatch):
    """Lets every trial find that one thread is fastest; the numbers that were tried."""
    tried = []
    monkeypatch.setattr(
        threads,
        "_tried",
        lambda step, times, numbers, _: [step(), tried.append([*times, *numbers])] and {1: 1.0, 2: 9.0},
    )
    return tried


def noted(folder):
    about = json.loads((folder / "environment.json").read_text())
    return about["threads"], about["threads_chosen_by"]


@pytest.fixture
def killed(monkeypatch):
    """`killed(train, …)` dies as soon as `when()` holds: before `at` is called, a function of the loop or of a session."""

    def run(start, *arguments, when=lambda: True, at=(loop, "training_step"), **named):
        real = getattr(*at)

        def dies(*given, **by_name):
            if when():
                raise KeyboardInterrupt
            return real(*given, **by_name)

        with monkeypatch.context() as patched:
            patched.setattr(*at, dies)
            with pytest.raises((KeyboardInterrupt, Interrupted)):
                start(*arguments, **named)

    return run


def test_a_quiet_machine_keeps_all_threads_after_two_steps(free, taken, clock, capsys):
    step, called = clock({2: 0.02})
    assert threads.choose(step) == Settled(2, "machine")
    assert called == [2, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("one", "two", "chosen"), [(0.01, 0.03, 1), (0.03, 0.01, 2), (0.019, 0.02, 2), (0.01, 0.9, 1)])
def test_beside_others_the_faster_number_computes(free, taken, clock, capsys, one, two, chosen):
    taken(0.5)
    step, called = clock({1: one, 2: two})
    assert threads.choose(step) == Settled(chosen, "first batch")
    assert torch.get_num_threads() == chosen
    assert set(called) == {1, 2}
    told = capsys.readouterr().err
    assert told.startswith("other programs keep the processors of this training busy: the first batch is tried ")
    assert ("training with 1 of 2 threads" in told) == (chosen == 1)
    assert told.count("\n") == 1 + (chosen == 1)


def test_one_slow_step_among_others_decides_nothing(free, taken, clock):
    taken(0.5)
    two = itertools.chain([0.02] * 5, [5.0], itertools.repeat(0.02))

    def hiccup():
        clock({1: 0.025, 2: next(two) if torch.get_num_threads() == 2 else None})[0]()

    assert threads.choose(hiccup).number == 2


@pytest.mark.parametrize("seconds", [0.001, 0.4, 4.0, 11.0, 70.0])
def test_a_trial_takes_half_a_minute_and_the_step_in_hand(free, taken, clock, monkeypatch, seconds):
    taken(0.5)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    torch.set_num_threads(16)
    step, called = clock({number: seconds * 16 / number for number in range(1, 17)})
    assert threads.choose(step).number == torch.get_num_threads() == 16
    assert sum(seconds * 16 / number for number in called[:-1]) < threads.PATIENCE_SECONDS
    assert called.count(4) <= 1 or seconds < threads.TURN_SECONDS / 4  # clearly slower, and given up
    assert called[:2] == [16, 16] or seconds > threads.PATIENCE_SECONDS


def test_a_stop_is_heard_between_two_steps_of_a_trial(free, taken, clock):
    taken(0.5)
    step, called = clock({1: 0.1, 2: 0.3})
    with pytest.raises(KeyboardInterrupt):
        threads.choose(step, is_stopped=lambda: len(called) >= 4)
    assert len(called) == 4
    assert torch.get_num_threads() == 2


def test_ctrl_c_in_a_trial_ends_the_run_and_a_resume_tries_again(free, taken, fewer, recipe, tmp_path, monkeypatch):
    taken(0.5)
    real = session.training_step

    def struck(*arguments, **named):
        signal.raise_signal(signal.SIGINT)
        return real(*arguments, **named)

    monkeypatch.setattr(session, "training_step", struck)
    monkeypatch.setattr(loop, "training_step", None)  # no step is done
    with pytest.raises(Interrupted, match="before anything was trained"):
        train(recipe, out=tmp_path / "run")
    assert torch.get_num_threads() == 2
    assert noted(tmp_path / "run") == (None, None)


def test_a_choice_is_noted_changes_no_bit_and_is_kept_by_a_resume(free, taken, fewer, recipe, tmp_path, killed):
    taken(0.5)
    chosen = train(recipe, out=tmp_path / "chosen")
    assert noted(chosen.path) == (1, "first batch")
    assert torch.get_num_threads() == 2  # as before the run
    said = train(recipe, out=tmp_path / "said", runtime=Runtime(threads=1))
    assert noted(said.path) == (1, "user")
    assert everything(chosen) == everything(said)

    stopped = tmp_path / "stopped"
    killed(train, recipe, out=stopped, when=(stopped / "checkpoints" / "last").exists)
    taken(0.0)  # the others have left meanwhile
    assert everything(resume(stopped)) == everything(chosen)
    assert fewer == [[2, 1]] * 2
    assert "continued" not in json.loads((stopped / "environment.json").read_text())


def test_a_run_that_is_killed_before_its_first_step_has_chosen_nothing(
    free, taken, fewer, recipe, tmp_path, killed, capsys
):
    runtime = Runtime(num_workers=1)
    whole = train(recipe, out=tmp_path / "whole", runtime=runtime)
    assert noted(whole.path) == (1, "machine")  # the other core decodes
    early = tmp_path / "early"
    killed(train, recipe, out=early, runtime=runtime, at=(session.Session, "begin"))
    assert noted(early) == (None, None)
    capsys.readouterr()
    assert everything(resume(early)) == everything(whole)
    assert "warning" not in capsys.readouterr().err

    taken(0.5)
    alone = tmp_path / "alone"
    killed(train, recipe, out=alone)  # after the trial, before the step
    assert (noted(alone), len(fewer)) == ((1, "first batch"), 1)
    taken(0.0)
    assert noted(resume(alone).path) == (2, "machine")


@pytest.fixture
def computing(monkeypatch):
    """Numbers of threads that steps were computed with."""
    seen = set()
    real = loop.training_step

    def step(*arguments, **named):
        seen.add(torch.get_num_threads())
        return real(*arguments, **named)

    monkeypatch.setattr(loop, "training_step", step)
    return seen


def test_another_number_in_a_resume_is_told_once_and_noted(free, taken, recipe, tmp_path, killed, capsys, computing):
    run = tmp_path / "run"
    last = run / "checkpoints" / "last"
    step_by_step = Runtime(checkpoint_steps=1)
    killed(train, recipe, out=run, runtime=step_by_step, when=last.exists)
    steps = iter(range(10))
    killed(resume, run, runtime=Runtime(threads=1, checkpoint_steps=1), when=lambda: next(steps) == 2)
    assert capsys.readouterr().err.count("threads was 2, is 1") == 1
    part = {"from_step": 1, "threads": 1, "threads_chosen_by": "user"}
    about = json.loads((run / "environment.json").read_text())
    assert (about["threads"], about["continued"]) == (2, [part])

    computing.clear()
    steps = iter(range(10))
    killed(resume, run, when=lambda: next(steps) == 1)
    assert computing == {1}  # the last number is kept
    assert "warning" not in capsys.readouterr().err
    resume(run, checkpoint="step-00000004")
    assert json.loads((run / "environment.json").read_text())["continued"] == [part]


def test_notes_of_steps_that_are_done_again_are_forgotten(free, taken, recipe, tmp_path, killed, capsys, computing):
    run = tmp_path / "run"
    killed(train, recipe, out=run, when=(run / "checkpoints" / "last").exists)
    killed(resume, run, runtime=Runtime(threads=1))  # before any step of it is saved
    assert len(json.loads((run / "environment.json").read_text())["continued"]) == 1
    capsys.readouterr()
    resume(run)
    assert computing == {2}
    assert "warning" not in capsys.readouterr().err
    assert "continued" not in json.loads((run / "environment.json").read_text())


def test_the_threads_of_a_larger_machine_are_not_kept_on_a_smaller_one(free):
    def had(number, usable=None, runtime=Runtime()):
        offered = {} if usable is None else {"processors": {"usable": usable}}
        return threads.kept(runtime, {"threads": number, **offered}).threads

    assert had(1) == 1
    assert had(64) == had(64, 64) == had(4, 8) is None
    assert had(4, 2) == 4  # more than processors even then
    assert had(1, runtime=Runtime(threads=2)) == 2
    assert threads.kept(Runtime(), {}).threads is None


def test_as_many_threads_as_second_threads_of_cores_are_kept(free, monkeypatch):
    monkeypatch.setattr(processors, "left", lambda: processors.Processors(usable=8, cores=4, quota=None))
    assert threads.kept(Runtime(), {"threads": 8}).threads == 8


def test_a_number_that_was_given_to_torch_in_python_wins_and_stays(free, taken, fewer, recipe, tmp_path):
    taken(0.5)
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0.0, "evaluation.score_test": False})
    for number in (4, 1):
        torch.set_num_threads(number)
        assert noted(train(short, out=tmp_path / str(number)).path) == (number, "user")
        assert torch.get_num_threads() == number
    assert fewer == []
    torch.set_num_threads(2)
    device.placement("cpu", precision="fp32", threads=1)  # not what somebody has said to torch
    assert device.usual_threads() == 2
    assert not device.threads_said()


def test_a_session_that_fails_leaves_the_number_as_it_was(free, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(session.build, "train_clips", None)
    with pytest.raises(TypeError):
        train(recipe, out=tmp_path / "run", runtime=Runtime(threads=1))
    assert torch.get_num_threads() == 2


NETWORK = """
import random
import threading
import numpy, torch
from torch import nn
from muybridge.zoo import VideoModel

class Remembers(VideoModel):
    def __init__(self, num_classes):
        super().__init__(3, num_classes, dropout=0.5)
        self.norm, self.calls, self.seen = nn.BatchNorm3d(3), 0, {}
        self.register_buffer("late", None, persistent=False)
        self.register_buffer("grown", torch.zeros(1), persistent=False)

    def features(self, x):
        if self.training:
            self.calls += 1
            self.seen[self.calls] = 0.1 * (random.random() + numpy.random.rand())
            self.late = torch.full((3,), float(self.calls))
            self.grown = torch.cat([self.grown, self.late])
        x = self.norm(x).mean((3, 4)).transpose(1, 2)
        return x if self.late is None else (x + self.late) * (1 + 0.1 * self.grown.sum() + sum(self.seen.values()))

def remembers(num_classes, **options):
    return Remembers(num_classes)

def cannot_be_copied(num_classes, **options):
    model = Remembers(num_classes)
    model.lock = threading.Lock()
    return model
"""


@pytest.mark.parametrize("function", ["remembers", "cannot_be_copied"])
def test_a_trial_leaves_nothing_in_a_network_that_remembers(
    free, taken, recipe, tmp_path, monkeypatch, capsys, function
):
    (tmp_path / "remembering.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(threads, "_tried", lambda step, *_: [step(), step(), {1: 9.0, 2: 1.0}][-1])
    taken(0.5)
    short = replace(recipe, {
        "model.name": f"remembering:{function}", "optim.epochs": 1, "optim.warmup_epochs": 0.0,
        "evaluation.score_test": False,
    })  # fmt: skip
    runs = []
    for name, runtime in (("tried", Runtime()), ("said", Runtime(threads=2))):
        sys.modules.pop("remembering", None)
        random.seed(1)
        np.random.seed(1)
        runs.append(train(short, out=tmp_path / name, runtime=runtime, allow_code=True))
    assert everything(runs[0]) == everything(runs[1])
    tried = function == "remembers"
    assert noted(runs[0].path) == (2, "first batch" if tried else "machine")
    assert ("is tried with fewer threads" in capsys.readouterr().err) == tried


def test_a_training_says_once_that_it_waits_and_what_to_do(free, taken, monkeypatch, capsys):
    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.0)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    contention = threads.Contention(Settled(2, "machine"), num_workers=0)
    taken(0.1)
    contention.look()
    assert capsys.readouterr().err == ""
    taken(0.4)
    contention.look()
    contention.look()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for words in ("40 %", "GOMP_SPINCOUNT=", "runtime.threads=1", "other programs"):
        assert words in told


@pytest.mark.parametrize(("quota", "number", "by", "num_workers", "words", "advised"), [
    (None, 2, "first batch", 0, "other programs", None),  # fewer were slower
    (None, 2, "machine", 0, "other programs", 1),
    (1.5, 2, "machine", 0, "quota of 1.5 processors stops 2 threads of this training", None),  # two are what it is best for
    (1.5, 4, "user", 0, "quota of 1.5 processors stops 4 threads of this training", 2),
    (None, 2, "user", 2, "2 threads and 2 processes that decode of this training share 2 processors", 1),
    (None, 1, "machine", 1, "other programs", None),
])  # fmt: skip
def test_the_cause_is_told_and_what_was_tried_is_not_advised(
    free, taken, monkeypatch, capsys, quota, number, by, num_workers, words, advised
):
    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(processors, "left", lambda: processors.Processors(usable=2, cores=2, quota=quota))
    taken(0.4, by_quota=quota is not None)
    threads.Contention(Settled(number, by), num_workers).look()
    told = capsys.readouterr().err
    assert words in told
    assert ("runtime.threads=" in told) == (advised is not None)
    assert advised is None or f"runtime.threads={advised})" in told


def test_a_trial_in_a_quota_names_it_too(free, taken, clock, monkeypatch, capsys):
    monkeypatch.setattr(processors, "left", lambda: processors.Processors(usable=2, cores=2, quota=1.5))
    taken(0.4, by_quota=True)
    threads.choose(clock({1: 0.02, 2: 0.03})[0])
    told = capsys.readouterr().err
    assert told.startswith(
        "a container's quota of 1.5 processors stops 2 threads of this training: the first batch is "
    )
    assert "other programs" not in told


def test_the_line_of_a_training_looks_at_what_came_after_the_trial(free, taken, fewer, recipe, tmp_path, monkeypatch):
    taken(0.5)
    made = []
    real = threads.Contention

    def contention(settled, num_workers):
        made.append((settled, num_workers, len(fewer)))
        return real(settled, num_workers)

    monkeypatch.setattr(threads, "Contention", contention)
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0.0, "evaluation.score_test": False})
    train(short, out=tmp_path / "run")
    assert made == [(Settled(1, "first batch"), 0, 1)]
