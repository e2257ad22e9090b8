"""Facts of a training: they are right, cost no bit, and name failures that are planted."""

import csv
import json
import random
import shutil
import sys

import numpy as np
import pytest
import torch
from same_bits import everything
from torch import nn

from muybridge.analysis.learning import Facts, symptoms
from muybridge.data.sets.motions import motions
from muybridge.data.views import Batch
from muybridge.recipe import replace
from muybridge.runtime.device import Placement
from muybridge.training import health
from muybridge.training.loop import train
from muybridge.user_code import allow
from muybridge.zoo import VideoModel

CPU = Placement(torch.device("cpu"))


class Plain(VideoModel):
    """Four channels of a convolution through a ReLU, two of them through a second one; counts its passes."""

    def __init__(self, way, *, bias=0.0):
        super().__init__(2, 3, dropout=0.5)
        self.conv, self.way = nn.Conv3d(3, 4, 1), way
        nn.init.constant_(self.conv.weight, 0.1)
        with torch.no_grad():
            self.conv.bias.copy_(torch.tensor([0.0, bias, bias, bias]))
        self.norm = nn.BatchNorm1d(2)

    def features(self, x_BCTHW):
        self.asked = (self.training, torch.is_grad_enabled())
        x = self.way(self.conv(x_BCTHW.abs())).mean((3, 4)).transpose(1, 2)
        return self.norm(torch.relu(x[..., :2]).mean(1))[:, None]


def batch_of(num):
    frames = torch.randint(0, 255, (num, 2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(frames, torch.arange(num) % 3, None, None, tuple(range(num)), ())


@pytest.mark.parametrize(
    "way",
    [torch.relu, nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(inplace=True), torch.Tensor.relu_, nn.functional.relu],
)
def test_a_look_counts_channels_that_are_zero_everywhere(recipe, way):
    model = Plain(way, bias=-100.0).train()
    facts = health.look(model, batch_of(6), CPU, recipe)
    assert facts["relus"] == 2, "however they are called"
    assert facts["dead"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert facts["dead_relus"] == 0
    assert facts["clips"] == 6
    with torch.no_grad():
        model.conv.bias.fill_(-100.0)
    facts = health.look(model, batch_of(6), CPU, recipe)
    assert (facts["dead_relus"], facts["spread"], facts["most_common"]) == (2, 0.0, 6)


def test_a_look_is_right_about_answers_and_leaves_no_trace(recipe):
    model = Plain(torch.relu).train()
    nn.init.normal_(model.fc.weight, std=3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    facts = health.look(model, batch_of(6), CPU, recipe)
    assert model.asked == (False, False)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    frames = batch_of(6).clips_BTHWC.permute(0, 4, 1, 2, 3) / 255
    mean, std = (torch.tensor(each).view(3, 1, 1, 1) for each in (model.preprocessing.mean, model.preprocessing.std))
    with torch.no_grad():
        logits_BK = model((frames - mean) / std)
    assert facts["correct"] == int((logits_BK.argmax(1) == torch.arange(6) % 3).sum())
    assert facts["most_common"] == int(logits_BK.argmax(1).bincount().max())
    assert facts["confidence"] == pytest.approx(float(logits_BK.softmax(1).amax(1).mean()), rel=1e-4)
    assert facts["spread"] == pytest.approx(float((logits_BK.amax(0) - logits_BK.amin(0)).max()), rel=1e-4)
    micro = health.look(model, batch_of(6), CPU, replace(recipe, {"optim.micro_batch_size": 2}))
    assert micro["clips"] == 2, "no more at a time than in training"
    nn.init.constant_(model.fc.weight, float("nan"))
    assert health.look(model, batch_of(6), CPU, recipe) == {}


def test_an_update_is_held_against_the_size_of_the_weights():
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    before = health.trained_weights(model)
    nn.init.constant_(model.weight, 3.3)
    assert health.relative_update(before, model) == pytest.approx(0.1, rel=1e-5)


def test_what_is_to_be_beaten():
    of = health.reference(np.array([0, 0, 0, 1]), 2, label_smoothing=0.0, loss_weight=1.5)
    assert of["uniform_loss"] == pytest.approx(1.5 * np.log(2))
    assert of["constant_loss"] == pytest.approx(1.5 * -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert of["majority"] == 0.75
    smooth = health.reference(np.array([0, 0, 0, 1]), 2, label_smoothing=1 - 1e-9, loss_weight=1.0)
    assert smooth["constant_loss"] == pytest.approx(np.log(2))


def test_facts_cost_no_bit(run, recipe, tmp_path, monkeypatch):
    assert [line["step"] for line in run.metrics("start")] == [1]
    assert [line["step"] for line in run.metrics("health")] == [3, 6]
    assert all(line["update"] > 0 for line in run.metrics("health"))
    monkeypatch.setattr(health, "look", lambda *arguments: {})
    blind = train(recipe, out=tmp_path / "blind")
    assert blind.metrics("health") == []
    seen, unseen = everything(run), everything(blind)
    lines = [json.loads(line) for line in seen.pop("metrics.jsonl").splitlines()]
    others = [json.loads(line) for line in unseen.pop("metrics.jsonl").splitlines()]
    assert seen == unseen
    assert [line for line in lines if line["kind"] in ("train", "val")] == others[1:]


def test_a_short_trial_is_called_too_short_and_nothing_else(run, recipe, tmp_path, capsys):
    assert [symptom.name for symptom in symptoms(run)] == ["far too few updates"]
    train(replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0}), out=tmp_path / "trial")
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("far too few updates: 3 updates in all") == 1
    assert "trial: it does not learn as it should: far too few updates" in told


def test_a_rate_a_thousand_times_too_high_is_named_on_the_way(recipe, tmp_path, capsys):
    wild = replace(recipe, {"optim.lr": 20.0, "optim.clip_grad_norm": None, "optim.warmup_epochs": 0})
    run = train(wild, out=tmp_path / "wild")
    assert "learning rate too high" in [symptom.name for symptom in symptoms(run)]
    told = " ".join(capsys.readouterr().err.split())
    assert "wild: learning rate too high: the loss rose from 2.3" in told
    assert told.count("wild: learning rate too high") == 1


DEAD = """
from torch import nn
from muybridge.zoo import VideoModel
class Net(VideoModel):
    def __init__(self, num_classes, dropout, in_channels):
        super().__init__(8, num_classes, dropout=dropout, in_channels=in_channels)
        self.conv = nn.Conv3d(in_channels, 8, 3)
        nn.init.constant_(self.conv.bias, -1000.0)
    def features(self, x):
        return self.conv(x).relu().mean((3, 4)).transpose(1, 2)
def net(*, num_classes, num_frames=8, temporal_pooling=False, dropout=0.5, in_channels=3):
    return Net(num_classes, dropout, in_channels)
"""


def test_a_dead_network_is_named_before_anything_else(recipe, tmp_path, monkeypatch, capsys):
    (tmp_path / "deadnet.py").write_text(DEAD)
    monkeypatch.syspath_prepend(tmp_path)
    allow("deadnet:net")
    run = train(replace(recipe, {"model.name": "deadnet:net"}), out=tmp_path / "dead")
    assert [symptom.name for symptom in symptoms(run)] == ["dead network"]
    told = " ".join(capsys.readouterr().err.split())
    assert "dead: dead network: before the first update no logit differs by more than 0 between the 14 clips" in told
    assert "of its 1 ReLUs 1 are zero everywhere" in told
    sys.modules.pop("deadnet")


def shuffled(manifest, out):
    """The same videos with the labels of others."""
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    labels = [row["label"] for row in rows]
    random.Random(0).shuffle(labels)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": label} for row, label in zip(rows, labels, strict=True))
    shutil.copy(f"{manifest}.json", f"{out}.json")
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "shuffle", "names"),
    [
        ({}, False, []),
        ({"optim.lr": 3.0}, False, ["learning rate too high"]),
        ({"optim.lr": 3e-6}, False, ["learning rate too low"]),
        ({"optim.epochs": 2}, False, ["far too few updates"]),
        ({}, True, ["labels learnt by heart"]),
    ],
    ids=["healthy", "lr x 1000", "lr / 1000", "few updates", "shuffled labels"],
)  # fmt: skip
def test_planted_failures_are_named_and_a_healthy_run_is_not(recipe, tmp_path, changes, shuffle, names):
    manifest = motions(tmp_path / "set", clips=600, seed=1).manifest
    if shuffle:
        manifest = shuffled(manifest, manifest.with_name("shuffled.csv"))
    run = train(
        replace(recipe, {
            "data.manifest": str(manifest), "clip.num_frames": 8, "augment.crop": "center", "model.dropout": 0.0,
            "optim.optimizer": "adamw", "optim.lr": 3e-3, "optim.weight_decay": 0.05, "optim.clip_grad_norm": None,
            "optim.epochs": 20, "evaluation.num_clips": 1, "evaluation.num_crops": 1, "evaluation.every_epochs": 4, **changes,
        }),
        out=tmp_path / "run",
    )  # fmt: skip
    assert [symptom.name for symptom in symptoms(run)] == names, Facts.of(run).train[-1]


def test_a_network_that_keeps_a_tensor_of_its_first_pass_trains(made_set, recipe, tmp_path, monkeypatch):
    """The look before the first step is that first pass: what it leaves behind must be fit for gradients."""
    (tmp_path / "keeps.py").write_text(
        "import torch\nfrom torch import nn\nfrom muybridge.zoo import VideoModel\n\n\n"
        "class Keeps(VideoModel):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(3, num_classes, dropout=0.0)\n"
        "        self.scale, self.table = nn.Parameter(torch.ones(3)), None\n\n"
        "    def features(self, x):\n"
        "        if self.table is None:\n"
        "            self.table = torch.ones(3)\n"
        "        return x.mean((3, 4)).transpose(1, 2) * (self.scale * self.table)\n\n\n"
        "def net(*, num_classes, num_frames, temporal_pooling, dropout):\n    return Keeps(num_classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    short = replace(recipe, {"model.name": "keeps:net", "optim.epochs": 1, "optim.warmup_epochs": 0})
    assert train(short, out=tmp_path / "run", allow_code=True).result()["steps"] == 3
