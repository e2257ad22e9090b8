"""Levers against classes of uneven size: each against its formula, and nothing changed where none is used."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from same_bits import everything

from muybridge import build
from muybridge.build import NO_BALANCE, Balance, balance
from muybridge.data.loader import train_batches
from muybridge.data.manifest import Manifest
from muybridge.data.order import balanced_batches, pass_batches
from muybridge.errors import Interrupted, UserError
from muybridge.recipe import Recipe, parse_overrides, replace
from muybridge.runtime.signals import Stop
from muybridge.training.health import reference
from muybridge.training.job import Job, suggest_balance
from muybridge.training.loop import resume, train
from muybridge.training.step import mean_loss
from muybridge.zoo import WeightedLogits


@pytest.fixture(scope="session")
def uneven_set(made_set, tmp_path_factory):
    """The made set, with all videos but those of two classes in the first class, and three training videos in another."""
    folder = Path(shutil.copytree(Path(made_set).parent, tmp_path_factory.mktemp("uneven") / "set"))
    path = folder / Path(made_set).name
    classes = Manifest.load(path).classes
    header, *lines = [line.split(",") for line in path.read_text().splitlines()]
    label, split = header.index("label"), header.index("split")
    for number, line in enumerate(lines):
        line[label] = line[label] if line[label] in classes[1:3] else classes[0]
        before = [other for other in lines[:number] if other[label] == line[label] and other[split] == "train"]
        if line[label] == classes[2] and line[split] == "train" and len(before) >= 3:
            line[split] = "unused"
    path.write_text("\n".join(map(",".join, [header, *lines])) + "\n")
    return path


@pytest.fixture
def uneven(recipe, uneven_set):
    return replace(recipe, {"data.manifest": str(uneven_set)})


def logits(count=12, classes=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, classes, generator=draw), torch.randint(0, classes, (count,), generator=draw)


def loss(logits_BK, labels_B, **named):
    return mean_loss(WeightedLogits(logits_BK[None], logits_BK.new_ones(1)), labels_B, **named)


def test_without_a_lever_the_loss_has_the_bits_of_plain_cross_entropy():
    logits_BK, labels_B = logits()
    for smoothing in (0.0, 0.1):
        plain = F.cross_entropy(logits_BK, labels_B, label_smoothing=smoothing)
        assert loss(logits_BK, labels_B, label_smoothing=smoothing).equal(plain)
        assert loss(logits_BK, labels_B, label_smoothing=smoothing, balance=NO_BALANCE).equal(plain)
    assert balance(Recipe(), None) is NO_BALANCE, "and the manifest is not even looked at"


def test_weights_multiply_each_videos_loss_and_micro_batches_add_up():
    logits_BK, labels_B = logits()
    weight_K = torch.tensor([0.5, 1.0, 2.0, 4.0])
    by_hand = sum(
        weight_K[label] * -(row.log_softmax(0)[label]) for row, label in zip(logits_BK, labels_B, strict=True)
    )
    whole = loss(logits_BK, labels_B, balance=Balance(weight_K))
    assert whole.item() == pytest.approx(by_hand.item() / 12, rel=1e-5)
    parts = [loss(logits_BK[s], labels_B[s], balance=Balance(weight_K)) for s in (slice(0, 3), slice(3, 12))]
    assert (parts[0] * 3 + parts[1] * 9).item() / 12 == pytest.approx(whole.item(), rel=1e-5)


def test_logit_adjustment_adds_tau_log_prior(uneven):
    """Menon et al. 2021, equation 10: the loss is cross-entropy of f_y(x) + tau log pi_y."""
    manifest = Manifest.load(uneven.data.manifest)
    made = balance(replace(uneven, {"optim.logit_adjustment": 0.5}), manifest)
    counts_K = np.bincount(manifest.labels()[manifest.split("train")])
    assert made.weight_K is None
    assert made.shift_K[:3].numpy() == pytest.approx(0.5 * np.log(counts_K / counts_K.sum()), rel=1e-5)
    assert made.shift_K[3:].numpy() == pytest.approx(0.5 * np.log(1 / counts_K.sum())), "no video counts as one"
    logits_BK, labels_B = logits(classes=10)
    plain = F.cross_entropy(logits_BK + made.shift_K, labels_B)
    assert loss(logits_BK, labels_B, balance=made).equal(plain)


def test_balanced_weights_give_each_class_the_same_say(uneven):
    manifest = Manifest.load(uneven.data.manifest)
    counts_K = np.bincount(manifest.labels()[manifest.split("train")])
    weight_K = balance(replace(uneven, {"optim.class_weights": "balanced"}), manifest).weight_K.numpy()
    say_K = weight_K[:3] * counts_K
    assert say_K == pytest.approx(np.full(3, counts_K.sum() / 3), rel=1e-5)


def test_weights_by_number_and_by_name_are_scaled_to_a_mean_of_one(uneven):
    manifest = Manifest.load(uneven.data.manifest)
    counts_K, classes = np.bincount(manifest.labels()[manifest.split("train")]), manifest.classes
    named = balance(replace(uneven, {"optim.class_weights": {classes[1]: 3}}), manifest).weight_K.numpy()
    listed = [1.0, 3.0, *[1.0] * (len(classes) - 2)]
    assert balance(replace(uneven, {"optim.class_weights": listed}), manifest).weight_K.numpy() == pytest.approx(named)
    assert named[1] / named[0] == pytest.approx(3)
    assert (named[:3] * counts_K).sum() / counts_K.sum() == pytest.approx(1)
    assert parse_overrides(['optim.class_weights={"a": 3}']) == {"optim.class_weights": {"a": 3}}


@pytest.mark.parametrize(
    ("weights", "said"),
    [([1, 2], "2 numbers for 10 classes"), ({"no such": 2}, "'no such' is not a class")],
)
def test_weights_that_are_not_of_these_classes_are_told_before_anything_is_written(uneven, tmp_path, weights, said):
    with pytest.raises(UserError, match=said):
        train(replace(uneven, {"optim.class_weights": weights}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "weights",
    ["even", "balance", [0, 1], [-1, 1], {"a": "much"}, {"a": 0}, [1, float("nan")], [True, 1], [], [1, 10**400]],
)
def test_what_is_no_weight_is_refused_in_one_sentence(weights):
    with pytest.raises(UserError, match=r"optim\.class_weights: .* is neither balanced nor numbers above 0") as caught:
        replace(Recipe(), {"optim.class_weights": weights})
    assert ";" not in str(caught.value)
    assert "tuple" not in str(caught.value)


def test_a_class_with_two_weights_is_refused():
    with pytest.raises(UserError, match=r"optim\.class_weights: it names 'a' twice"):
        parse_overrides(['optim.class_weights={"a": 2, "a": 3}'])
    with pytest.raises(UserError, match="'a' has two weights"):
        replace(Recipe(), {"optim.class_weights": [["a", 2], ["a", 3]]})


@pytest.mark.parametrize(
    "weights",
    [
        [1e308] * 10,
        [1e308, *[1.0] * 9],
        [1.0] * 9 + [1e308],
        [1e30, 1e-30, *[1.0] * 8],
        [1e20, 1e-20, *[1.0] * 8],
    ],
)
def test_weights_that_leave_single_precision_are_refused(uneven, weights):
    with pytest.raises(UserError, match=r"optim\.class_weights: the numbers are too large, or too far apart"):
        balance(replace(uneven, {"optim.class_weights": weights}), Manifest.load(uneven.data.manifest))


@pytest.mark.parametrize("tau", [1e39, 1e308])
def test_a_factor_of_logit_adjustment_that_leaves_single_precision_is_refused(tau):
    with pytest.raises(UserError, match=r"optim\.logit_adjustment"):
        replace(Recipe(), {"optim.logit_adjustment": tau})


@pytest.mark.parametrize(
    "changes",
    [
        {"data.balanced_sampling": True, "optim.class_weights": "balanced"},
        {"data.balanced_sampling": True, "optim.logit_adjustment": 1.0},
        {"optim.class_weights": [1.0, 2.0], "optim.logit_adjustment": 1.0},
    ],
)
def test_two_levers_at_once_are_refused_with_the_reason(changes):
    with pytest.raises(UserError, match="makes up for the same imbalance"):
        replace(Recipe(), changes)


ROWS, LABELS = np.arange(100, 153), np.array([0] * 40 + [1] * 10 + [2] * 3)


def drawn(passes, **changed):
    cut = {"batch_size": 8, "seed": 3} | changed
    return [
        [tuple(map(int, pair)) for batch in balanced_batches(ROWS, LABELS, number=number, **cut) for pair in batch]
        for number in range(passes)
    ]


def test_balanced_sampling_draws_each_class_equally_often():
    for one in drawn(6):
        assert len(one) == len(ROWS), "a pass is as long as before"
        of_class = Counter(int(LABELS[row - 100]) for _, row in one)
        assert max(of_class.values()) - min(of_class.values()) <= 1
    over_three = Counter(int(LABELS[row - 100]) for one in drawn(3) for _, row in one)
    assert set(over_three.values()) == {53}, "over as many passes as classes exactly"


def test_no_clip_of_balanced_sampling_comes_twice_and_videos_of_a_class_keep_step():
    pairs = [pair for one in drawn(9) for pair in one]
    assert len(set(pairs)) == len(pairs), "another draw of frames, crop and flip each time"
    times = Counter(row for _, row in pairs)
    for k in range(3):
        of_class = [times[int(row)] for row in ROWS[k == LABELS]]
        assert max(of_class) - min(of_class) <= 1


def test_batches_of_balanced_sampling_are_those_of_a_plain_pass_in_number_and_size():
    balanced = balanced_batches(ROWS, LABELS, batch_size=8, number=2, seed=0)
    assert [len(b) for b in balanced] == [len(b) for b in pass_batches(ROWS, batch_size=8, number=2, seed=0)]
    assert drawn(2) == drawn(2) != drawn(2, seed=4)


def batches_of(recipe, manifest, first, count, **named):
    clips = build.train_clips(recipe, manifest, build.file_reader(recipe))
    stream = train_batches(
        clips, manifest.split("train"), batch_size=6, first_step=first, num_workers=0, pin_memory=False, **named
    )
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


def test_balanced_batches_begin_at_any_step_and_are_dealt_to_processes(uneven):
    manifest = Manifest.load(uneven.data.manifest)
    whole = batches_of(uneven, manifest, 0, 9, balanced=True)
    later = batches_of(uneven, manifest, 5, 4, balanced=True)
    for a, b in zip(whole[5:], later, strict=True):
        assert a.rows_B == b.rows_B
        assert a.clips_BTHWC.equal(b.clips_BTHWC)
    halves = [batches_of(uneven, manifest, 0, 2, balanced=True, rank=rank, ranks=2) for rank in (0, 1)]
    for step in range(2):
        assert halves[0][step].rows_B + halves[1][step].rows_B == whole[step].rows_B
    plain = batches_of(uneven, manifest, 0, 9)
    assert [b.rows_B for b in plain] != [b.rows_B for b in whole]
    assert [b.rows_B for b in plain] == [b.rows_B for b in batches_of(uneven, manifest, 0, 9, balanced=False)]


LEVERS = [{"data.balanced_sampling": True}, {"optim.class_weights": "balanced"}, {"optim.logit_adjustment": 1.0}]


@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: next(iter(lever)))
def test_a_run_with_a_lever_resumes_to_the_bit(uneven, lever, tmp_path, monkeypatch):
    asked = replace(uneven, {**lever, "optim.min_steps": 8})
    whole = train(asked, out=tmp_path / "whole")
    assert whole.result()["steps"] >= 8
    plain = train(replace(uneven, {"optim.min_steps": 8}), out=tmp_path / "plain")
    assert everything(plain) != everything(whole)
    steps = iter(range(100))
    with monkeypatch.context() as patched:
        patched.setattr(Stop, "asked", property(lambda self: next(steps) >= 4), raising=False)
        with pytest.raises(Interrupted):
            train(asked, out=tmp_path / "stopped")
    assert everything(resume(tmp_path / "stopped")) == everything(whole)


def test_losses_to_beat_follow_the_levers():
    labels_N = np.array([0] * 6 + [1] * 2)
    plain = {"label_smoothing": 0.0, "loss_weight": 1.0}
    even = reference(labels_N, 2, **plain, is_even=True)
    assert even["majority"] == 0.5
    assert even["constant_loss"] == pytest.approx(np.log(2))
    weighted = reference(labels_N, 2, **plain, balance=Balance(torch.tensor([2 / 3, 2.0])))
    assert weighted["constant_loss"] == pytest.approx(np.log(2), rel=1e-6)
    assert weighted["uniform_loss"] == pytest.approx(np.log(2))
    shift_K = torch.log(torch.tensor([0.75, 0.25]))
    adjusted = reference(labels_N, 2, **plain, balance=Balance(None, shift_K))
    assert adjusted["uniform_loss"] == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    assert adjusted["constant_loss"] == pytest.approx(adjusted["uniform_loss"]), "equal logits answer the prior then"


def test_who_trains_on_very_uneven_classes_is_told_the_levers_once(uneven, recipe, capsys):
    manifest = Manifest.load(uneven.data.manifest)
    assert suggest_balance(Job(uneven, manifest, {}))
    said = " ".join(capsys.readouterr().err.split())
    assert f"3 of {manifest.classes[2]}" in said
    for name in ("data.balanced_sampling=true", "optim.class_weights=balanced", "optim.logit_adjustment=1"):
        assert name in said
    for lever in LEVERS:
        assert not suggest_balance(Job(replace(uneven, lever), manifest, {}))
    assert not suggest_balance(Job(recipe, Manifest.load(recipe.data.manifest), {}))


def test_a_share_of_the_training_videos_is_what_the_run_says_it_saw(recipe, tmp_path):
    run = train(
        replace(recipe, {"data.train_share": 0.5, "optim.epochs": 1, "optim.warmup_epochs": 0}), out=tmp_path / "run"
    )
    whole = len(Manifest.load(recipe.data.manifest).split("train"))
    about = json.loads((run.path / "dataset.json").read_text())
    assert about["split_sizes"]["train"] == sum(about["class_sizes"]["train"]) == len(run.trained_on()["id"])
    assert abs(about["split_sizes"]["train"] - whole / 2) <= 1
    assert run.result()["steps"] == run.steps_per_epoch() < -(-whole // recipe.optim.batch_size)
