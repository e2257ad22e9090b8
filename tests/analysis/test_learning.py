"""Symptoms are a pure function of stored facts: each is named by its own, none on a healthy run."""

from dataclasses import replace as with_
from math import log

import pytest

from muybridge.analysis.learning import LEAST_UPDATES, Facts, symptoms
from muybridge.analysis.lr_range import LrRange
from muybridge.recipe import Recipe, replace, shipped
from muybridge.recipe.schedule import resized

EPOCHS, PER_EPOCH = 20, 20
START = {
    "kind": "start", "epoch": 1, "step": 1, "loss": 2.32, "uniform_loss": log(10), "constant_loss": log(10),
    "majority": 0.1, "val_majority": 0.1, "clips": 16, "correct": 2, "most_common": 15, "confidence": 0.12, "spread": 0.1,
    "relus": 9, "dead_relus": 0, "dead": 0.0,
}  # fmt: skip


def facts(*, start=None, loss=None, top1=None, val=0.85, num_train=320, num_val=100, **look):
    """A healthy run of 400 updates on 320 videos, but for what is given; `loss` and `top1` are functions of 0 … 1."""
    loss, top1 = loss or (lambda done: 2.3 - 2 * done), top1 or (lambda done: 0.1 + 0.85 * done)
    lines = [] if start == {} else [{**START, **(start or {})}]
    for epoch in range(1, EPOCHS + 1):
        done, about = epoch / EPOCHS, {"epoch": epoch, "step": PER_EPOCH * epoch}
        lines.append({"kind": "train", **about, "loss": loss(done), "clip_top1": top1(done), "lr": 0.01})
        if start != {}:
            usual = {
                "clips": 16, "correct": round(16 * top1(done)), "most_common": 3, "confidence": top1(done), "spread": 5.0,
                "relus": 9, "dead_relus": 0, "dead": 0.02, "update": 0.005,
            }  # fmt: skip
            lines.append({"kind": "health", **about, **usual, **look})
        lines.append({"kind": "val", **about, "video_top1": val, "loss": 1.0})
    recipe = replace(Recipe(), {"optim.epochs": EPOCHS, "optim.batch_size": 16, "optim.min_steps": 0})
    return Facts(recipe, 10, num_train=num_train, num_val=num_val, lines=lines, is_over=True)


def chance(done):
    return 0.1


def stuck(done):
    return log(10) + 0.01 * ((1000 * done) % 3 - 1)


def names(of):
    return [symptom.name for symptom in symptoms(of)]


def test_a_healthy_run_has_none():
    assert names(facts()) == []
    assert names(facts(start={"loss": 40.0})) == [], "it began far off, and fits its videos all the same"


@pytest.mark.parametrize(
    ("name", "given", "evidence"),
    [
        ("dead network", {"start": {"spread": 0.0, "dead_relus": 9, "dead": 1.0}}, "9 ReLUs 9 are zero"),
        (
            "first loss far from ln K", {"start": {"loss": 40.0}, "top1": lambda done: 0.4, "val": 0.4},
            "first loss is 40, that of a guess among 10 classes 2.3",
        ),
        ("learning rate too high", {"loss": lambda done: 2.3 + 5 * done, "top1": chance}, "rose from 2.32 to 7.3"),
        ("learning rate too high", {"spread": 0.0, "dead": 1.0, "dead_relus": 9}, "alive before training"),
        ("learning rate too high", {"loss": stuck, "top1": chance, "update": 0.8}, "changed the weights by 80%"),
        ("learning rate too low", {"loss": stuck, "top1": chance, "update": 1e-5}, "moved the weights by at most 0.4%"),
        ("dead units", {"loss": stuck, "top1": chance, "dead": 0.7}, "70% of the channels"),
        ("saturated logits", {"loss": stuck, "top1": chance, "confidence": 0.99}, "mean probability of 0.99"),
        ("one answer for all", {"loss": stuck, "top1": chance, "most_common": 16}, "100% of the clips"),
        ("labels not learnt", {"loss": stuck, "top1": chance}, "after 400 updates 0.100"),
        ("labels learnt by heart", {"val": 0.12}, "0.120 [0.070, 0.198] of 100 validation videos"),
        ("training fits, validation does not", {"val": 0.3}, "0.300 [0.219, 0.396]"),
    ],
)  # fmt: skip
def test_each_is_named_alone_by_its_own_facts(name, given, evidence):
    (found,) = symptoms(facts(**given))
    assert found.name == name
    assert evidence in found.evidence
    assert str(found) == f"{found.name}: {found.evidence}. {found.remedy}"


def test_what_explains_the_others_is_named_alone():
    everything = {
        "loss": lambda done: 9.0,
        "top1": chance,
        "most_common": 16,
        "confidence": 0.99,
        "dead": 0.9,
        "val": 0.1,
    }
    assert names(facts(start={"spread": 0.0}, **everything)) == ["dead network"]
    assert names(facts(**everything)) == ["learning rate too high"]
    assert names(facts(**{**everything, "loss": stuck}, start={"loss": 9.0})) == [
        "first loss far from ln K",
        "dead units",
    ]


def test_learning_is_judged_by_intervals():
    lucky = facts(loss=stuck, top1=lambda done: 0.15, num_train=60)
    assert names(lucky) == ["labels not learnt"], "9 of 60 right may be luck"
    assert names(facts(loss=stuck, top1=lambda done: 0.15, num_train=6000, val=0.15)) == []
    common = {"majority": 0.9, "constant_loss": 0.4, "val_majority": 0.9}
    right = facts(start=common, top1=lambda done: 0.9, loss=lambda done: 0.4 - 0.2 * done, val=0.9)
    assert names(right) == [], "most are of one class: the loss tells what the accuracy cannot"
    assert names(facts(start=common, top1=lambda done: 0.9, loss=lambda done: 0.4, val=0.9)) == ["labels not learnt"]
    assert names(facts(val=0.3, num_val=10)) == [], "ten videos cannot tell"


def test_nothing_is_said_of_learning_before_half_of_the_updates():
    whole = facts(loss=stuck, top1=chance)
    half = [line for line in whole.lines if line["step"] < PER_EPOCH * EPOCHS / 2]
    assert names(with_(whole, lines=half, is_over=False)) == []
    assert names(with_(whole, is_over=False)) == ["labels not learnt"]


def test_of_earlier_versions_that_is_judged_which_was_stored():
    assert names(facts(start={})) == []
    assert names(facts(start={}, loss=stuck, top1=chance)) == ["labels not learnt"]
    assert names(facts(start={}, val=0.12)) == ["labels learnt by heart"]


@pytest.mark.parametrize("name", shipped.SHIPPED)
def test_no_shipped_recipe_has_too_few_updates_on_a_usual_set(name):
    for videos in (1200, 9537) if name != "small" else (50, 9537):
        assert names(Facts(shipped.load(name), 10, num_train=videos, num_val=0, lines=[])) == []


def test_a_recipe_cut_short_has_too_few_updates():
    small = shipped.load("small")
    for recipe in (resized(small, shorten=0.01), replace(small, {"optim.min_steps": 0, "optim.epochs": 2})):
        (found,) = symptoms(Facts(recipe, 10, num_train=200, num_val=0, lines=[]))
        assert (found.name, f"takes at least {LEAST_UPDATES}" in found.evidence) == ("far too few updates", True)
    tuned = replace(small, {"optim.min_steps": 0, "optim.epochs": 5, "model.pretrained": "imagenet"})
    assert names(Facts(tuned, 10, num_train=200, num_val=0, lines=[])) == [], "65 updates are enough to tune weights"
    warm = replace(small, {"optim.min_steps": 0, "optim.epochs": 20, "optim.warmup_epochs": 15})
    (found,) = symptoms(Facts(warm, 10, num_train=400, num_val=0, lines=[]))
    assert "the warm-up takes 375 of 500 updates" in found.evidence
    fitted = [{"kind": "train", "epoch": 2, "step": 26, "loss": 0.1, "clip_top1": 0.99}]
    cut = Facts(resized(small, shorten=0.01), 10, num_train=200, num_val=0, lines=fitted, is_over=True)
    assert names(cut) == [], "what fits its videos was trained enough"


def swept(loss, num=100, recipe_lr=1e-3):
    rates = tuple(1e-7 * 1e7 ** (i / (num - 1)) for i in range(num))
    return LrRange(rates, tuple(loss(lr, i) for i, lr in enumerate(rates)), recipe_lr)


def valley(lr, i):
    """Flat, falling from 1e-4 on, rising from 1e-2 on, with noise."""
    return 2.3 - 0.5 * max(0, log(lr / 1e-4)) / log(100) + (5 * log(lr / 1e-2) if lr > 1e-2 else 0) + 0.01 * (-1) ** i


def test_a_tenth_of_the_rate_at_which_the_loss_turns_is_suggested():
    found = swept(valley)
    assert 5e-3 < found.turn < 3e-2
    assert found.suggested == pytest.approx(found.turn / 10)
    assert "is near it" in found.verdict
    assert "is far above it" in swept(valley, recipe_lr=0.5).verdict
    assert "is far below it" in swept(valley, recipe_lr=1e-6).verdict
    scaled = with_(found, lr_scale=0.25)
    assert scaled.as_json()["suggested_optim_lr"] == pytest.approx(4 * found.suggested)
    assert found.has_diverged, "it rises to ten times its least"
    assert not swept(lambda lr, i: 2.3).has_diverged


def test_noise_suggests_nothing():
    found = swept(lambda lr, i: 2.3 + 0.1 * ((7 * i) % 11 - 5))
    assert found.suggested is None
    assert "fell at no learning rate" in found.verdict
    assert LrRange((1e-7,), (2.3,), 1e-3).suggested is None
