"""The learning rate over a training, by steps and by hours."""

import math

import pytest

from muybridge.recipe import Recipe, replace
from muybridge.recipe.schedule import Schedule, lr_schedule
from muybridge.training import loop as training
from muybridge.training.loop import train

ROWS = 42  # 3 steps of 16, 14 or so


def built(**changes):
    return lr_schedule(replace(Recipe(), {name.replace("__", "."): value for name, value in changes.items()}), ROWS)


def rates(schedule, steps):
    return [schedule.lr(step) for step in range(steps)]


def test_cosine_goes_from_the_peak_to_zero_over_all_steps():
    schedule = built(optim__epochs=4, optim__lr=0.2)
    assert rates(schedule, 12) == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 12)) for step in range(12)])
    assert schedule.lr(12) == 0


def test_steps_fall_at_their_epochs():
    schedule = built(optim__epochs=6, optim__lr=0.2, optim__schedule="steps", optim__milestones=[2, 5],
                     optim__milestone_factor=0.5)  # fmt: skip
    assert rates(schedule, 18) == pytest.approx([0.2] * 6 + [0.1] * 9 + [0.05] * 3)


@pytest.mark.parametrize("steps", [3, 10, 18, 60])
def test_a_number_of_steps_keeps_the_shape_of_the_schedule(steps):
    share = {"optim__epochs": 6, "optim__lr": 0.2}
    for kind in ({}, {"optim__warmup_epochs": 2}, {"optim__schedule": "steps", "optim__milestones": [2, 5]}):
        whole, other = built(**share, **kind), built(**share, **kind, optim__steps=steps)
        assert other.end == steps
        if steps == 18:
            assert other == whole
        assert other.warmup == pytest.approx(whole.warmup * steps / 18, abs=0.5)
        assert other.milestones == pytest.approx([at * steps / 18 for at in whole.milestones])
    assert built(**share, optim__min_steps=90, optim__warmup_epochs=2, optim__steps=9).warmup == round(6 * 9 / 90)


def test_constant_stays():
    assert rates(built(optim__epochs=6, optim__lr=0.2, optim__schedule="constant"), 18) == [0.2] * 18


@pytest.mark.parametrize("kind", ["cosine", "steps", "constant"])
def test_a_warm_up_is_linear_and_ends_at_the_peak(kind):
    milestones = {"optim__milestones": [3]} if kind == "steps" else {}
    schedule = built(optim__epochs=6, optim__lr=0.2, optim__schedule=kind, optim__warmup_epochs=2,
                     optim__warmup_lr=0.08, **milestones)  # fmt: skip
    assert rates(schedule, 7) == pytest.approx([0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2])


def test_a_warm_up_begins_at_a_hundredth_and_is_scaled_with_the_batch():
    assert built(optim__epochs=6, optim__lr=0.2, optim__warmup_epochs=1).lr(0) == pytest.approx(0.002)
    scaled = built(optim__epochs=6, optim__lr=1.6, optim__warmup_epochs=1, optim__warmup_lr=0.01,
                   optim__lr_batch_size=1024, optim__batch_size=16)  # fmt: skip
    assert (scaled.lr(0), scaled.lr(3)) == pytest.approx((0.01 / 64, 1.6 / 64))


def test_a_cosine_after_a_warm_up_ends_at_zero():
    schedule = Schedule("cosine", peak=1.0, warmup=10, warmup_lr=0.01, end=110)
    assert [schedule.lr(step) for step in (10, 60, 110)] == pytest.approx([1.0, 0.5, 0.0], abs=1e-9)


def test_by_hours_it_goes_by_seconds_of_training():
    hours = {"optim__schedule_unit": "hours", "optim__epochs": None, "stop__max_hours": 24, "optim__lr": 0.01}
    steps = built(**hours, optim__schedule="steps", optim__milestones=[12])  # reproduction of 2018
    assert [steps.lr(3600 * hour) for hour in (0, 11.99, 12, 23)] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    cosine = built(**hours)
    assert [cosine.lr(3600 * hour) for hour in (0, 12, 24)] == pytest.approx([0.01, 0.005, 0], abs=1e-12)
    short = built(**hours | {"stop__max_hours": 1e-4})  # under a second
    assert [short.lr(seconds) for seconds in (0, 0.18, 0.36)] == pytest.approx([0.01, 0.005, 0], abs=1e-12)


class Clock:
    """Every step takes as long as it is told to; nothing else takes time."""

    def __init__(self, monkeypatch, *, step_seconds):
        self.now, step = 0.0, training.training_step
        monkeypatch.setattr(training.time, "perf_counter", lambda: self.now)

        def timed(*arguments, **named):
            self.now += step_seconds
            return step(*arguments, **named)

        monkeypatch.setattr(training, "training_step", timed)


def test_the_loop_goes_by_the_clock(recipe, tmp_path, monkeypatch):
    by_hours = replace(recipe, {
        "optim.schedule_unit": "hours", "optim.epochs": None, "optim.warmup_epochs": 0, "optim.schedule": "steps",
        "optim.milestones": [1.0, 2.0], "stop.max_hours": 2.5, "evaluation.score_test": False, "optim.lr": 0.01,
    })  # fmt: skip
    Clock(monkeypatch, step_seconds=900)  # ten steps, three an epoch; the rate falls before the 5th and the 9th
    run = train(by_hours, out=tmp_path / "run")
    assert [line["step"] for line in run.metrics("train")] == [3, 6, 9, 10]
    assert [line["lr"] for line in run.metrics("train")] == pytest.approx([0.01, 0.001, 0.0001, 0.0001])
    assert [line["train_seconds"] for line in run.timing()] == [2700, 2700, 2700, 900]
    assert [line["seconds"] for line in run.timing()] == [2700, 5400, 8100, 9000]
    assert [line["seconds"] for line in run.metrics("val", timed=True)] == [2700, 5400, 8100, 9000]
    assert run.result()["ended"] == "stop.max_hours: 2.5 hours of training"
    assert run.metrics("val")[-1]["step"] == run.result()["steps"] == 10


def test_hours_end_a_run_by_epochs(recipe, tmp_path, monkeypatch):
    Clock(monkeypatch, step_seconds=3600)
    run = train(replace(recipe, {"stop.max_hours": 4, "optim.epochs": 12}), out=tmp_path / "run")
    assert run.result()["steps"] == 4
    assert run.result()["ended"].startswith("stop.max_hours")
