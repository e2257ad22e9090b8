"""Estimates of computing time: their arithmetic over a recipe, and what is measured for them."""

import pytest

from muybridge.data.manifest import Manifest
from muybridge.recipe import Runtime, replace
from muybridge.recipe.schedule import resized
from muybridge.training import estimate
from muybridge.training.estimate import Estimates
from muybridge.training.speed import Speed

TRAIN, FORWARD = 10.0, 40.0


@pytest.fixture
def measured(monkeypatch):
    """Names of the models that were measured, at 10 clips a second in training and 40 in scoring."""
    names = []

    def measure_recipe(recipe, *, num_classes, batch_size, runtime, repetitions, process):
        names.append((recipe.model.name, batch_size))
        return Speed(batch_size, FORWARD, TRAIN, None, None, None, 1, "cpu", "", "fp32", 1)

    monkeypatch.setattr(estimate, "measure_recipe", measure_recipe)
    return names


def test_steps_validations_and_the_test_are_counted(recipe, made_set, measured):
    manifest = Manifest.load(made_set)  # 40, 10 and 10 videos
    two = replace(recipe, {"optim.epochs": 7, "evaluation.every_epochs": 3, "optim.micro_batch_size": 4})
    estimates = Estimates(Runtime())
    assert estimates.seconds(two, manifest, macs=1) == pytest.approx(7 * 40 / TRAIN + (3 * 10 + 10) * 6 / FORWARD)
    without_test = replace(two, {"evaluation.score_test": False, "optim.steps_per_epoch": 5})
    assert estimates.seconds(without_test, manifest, macs=1) == pytest.approx(7 * 5 * 16 / TRAIN + 3 * 10 * 6 / FORWARD)
    larger = replace(resized(recipe, steps=4), {"evaluation.size": 64})  # 3 steps an epoch, two validations
    assert estimates.seconds(larger, manifest, macs=1) == pytest.approx(40 * 4 / 3 / TRAIN + (20 + 10) * 6 / FORWARD)
    hours = replace(recipe, {"optim.epochs": None, "stop.max_hours": 2, "optim.schedule": "constant"})
    assert estimates.seconds(hours, manifest, macs=1) == pytest.approx(7200 + (10 + 10) * 6 / FORWARD)
    assert measured == [("tsm_resnet_tiny", 2)] * 4


def test_seeds_are_measured_once_and_late_settings_by_their_multiply_adds(recipe, made_set, measured, monkeypatch):
    manifest, estimates = Manifest.load(made_set), Estimates(Runtime())
    first = estimates.seconds(recipe, manifest, macs=100)
    assert estimates.seconds(replace(recipe, {"seed": 5}), manifest, macs=100) == first
    assert len(measured) == 1
    monkeypatch.setattr(estimate, "PATIENCE_SECONDS", -1.0)
    other = replace(recipe, {"model.name": "i3d_resnet_tiny"})
    assert estimates.seconds(other, manifest, macs=300) == pytest.approx(3 * first)
    assert len(measured) == 1


def test_a_step_that_does_not_fit_gives_no_time(recipe, made_set, monkeypatch):
    none = Speed(8, None, None, None, None, None, None, "cpu", "", "fp32", 1)
    monkeypatch.setattr(estimate, "measure_recipe", lambda *_, **__: none)
    assert Estimates(Runtime()).seconds(recipe, Manifest.load(made_set), macs=1) is None
