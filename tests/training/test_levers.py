"""Every lever of a recipe does what its documentation says: against a formula, or against what must stay as it was."""

import copy
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from same_bits import everything
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

import muybridge
from muybridge import build
from muybridge.data.inputs import RGB
from muybridge.data.loader import train_batches
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.evaluation.trained import of_run
from muybridge.inference.predictor import Predictor
from muybridge.recipe import Recipe, Runtime, fields, parse_overrides, replace
from muybridge.runtime.device import Placement
from muybridge.storage import checkpoints as checkpoint
from muybridge.storage.run import Run
from muybridge.training import loop as training
from muybridge.training import session
from muybridge.training.loop import resume, train
from muybridge.training.step import set_lr, training_step

BATCH = 14


@pytest.fixture(scope="session")
def plain(recipe):
    """The shared recipe without what is random in the model, with one view a video."""
    return replace(recipe, {
        "model.dropout": 0.0, "optim.clip_grad_norm": None, "optim.warmup_epochs": 0, "evaluation.num_clips": 1,
        "evaluation.num_crops": 1,
    })  # fmt: skip


@pytest.fixture(scope="session")
def batch(plain):
    """One real batch of 14 clips."""
    manifest = Manifest.load(plain.data.manifest)
    rows = manifest.split("train")
    clips = build.train_clips(plain, manifest, build.file_reader(plain))
    batches = train_batches(clips, rows, batch_size=BATCH, first_step=0, num_workers=0, pin_memory=False)
    first = next(batches)
    batches.close()
    assert len(first.rows_B) == BATCH
    return first


@pytest.fixture(scope="session")
def train_of(plain, tmp_path_factory):
    """A finished run with changes; the test split is not scored."""

    def run(changes, runtime=None):
        out = tmp_path_factory.mktemp("levers") / "run"
        return train(replace(plain, {"evaluation.score_test": False} | changes), out=out, runtime=runtime)

    return run


def network(recipe):
    where = Placement(torch.device("cpu"))
    model = build.model(recipe, 10)
    return model, build.optimizer(recipe, model), where


def gradients(recipe, batch, *, frozen_norms=False):
    """Loss sum, right answers and gradients of one update, in float64 (an optimiser that moves nothing)."""
    model = build.model(recipe, 10).double()
    build.frozen(replace(recipe, {"optim.batch_norm": "frozen"}) if frozen_norms else recipe, model).train()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    net = Doubled(model)
    loss_sum, correct = training_step(model, still, batch, Placement(torch.device("cpu")), recipe, net=net)
    return loss_sum, correct, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, model


class Doubled(nn.Module):
    """A network whose clips come in float32 and whose weights are float64."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x_BCTHW):
        return self.model(x_BCTHW.double())


def norms_of(model):
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


# --- how the weights move


def by_hand(kind, weight, steps, *, lr, decay, momentum=0.9):
    """Weights after updates by the formulas of the papers; `steps` are gradients."""
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, gradient in enumerate(steps, start=1):
        if kind != "adamw":
            gradient = gradient + decay * weight  # decay is part of the gradient
        if kind == "sgd":
            first = momentum * first + gradient
            weight = weight - lr * first
            continue
        if kind == "adamw":
            weight = weight - lr * decay * weight
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weight = weight - lr * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
    return weight


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("kind", ["sgd", "adamw", "adam"])
def test_an_update_is_that_of_the_formula(plain, kind, momentum):
    recipe = replace(plain, {
        "optim.optimizer": kind, "optim.lr": 0.01, "optim.weight_decay": 0.1, "optim.momentum": momentum,
        "optim.weight_decay_exempt": "nothing",
    })  # fmt: skip
    model, optimizer, _ = network(recipe)
    model.double()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    draw = torch.Generator().manual_seed(0)
    steps = [
        {name: torch.randn(w.shape, generator=draw, dtype=w.dtype) for name, w in before.items()} for _ in range(3)
    ]
    for gradients_of in steps:
        for name, parameter in model.named_parameters():
            parameter.grad = gradients_of[name]
        optimizer.step()
    for name, parameter in model.named_parameters():
        expected = by_hand(kind, before[name], [s[name] for s in steps], lr=0.01, decay=0.1, momentum=momentum)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_early_layers_learn_more_slowly(plain, kind):
    """An update of each parameter is its part of one without factors: of decay and of the gradient."""
    moved = {}
    for changes in ({}, {"optim.backbone_lr": 0.5, "optim.layer_decay": 0.5}):
        settings = {"optim.optimizer": kind, "optim.weight_decay": 0.1, "optim.lr": 0.01}
        model, optimizer, _ = network(replace(plain, settings | changes))
        model.double()
        for parameter in model.parameters():
            nn.init.ones_(parameter)
            parameter.grad = torch.full_like(parameter, 0.5)
        set_lr(optimizer, 0.1)
        optimizer.step()
        for name, parameter in model.named_parameters():
            moved.setdefault(name, []).append((1 - parameter.detach()).mean().item())
    parts = {name: slow / whole for name, (whole, slow) in moved.items()}
    blocks = [
        f"backbone.{name}" for name in ("conv1", "layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv2", "layer4.0.bn2")
    ]
    assert parts["fc.weight"] == parts["fc.bias"] == pytest.approx(1)
    assert [parts[f"{name}.weight"] for name in blocks] == pytest.approx([0.5 * 0.5**i for i in (5, 4, 3, 2, 1)])


@pytest.mark.parametrize("exempt", ["norms_and_biases", "norms", "nothing"])
def test_what_does_not_decay(plain, exempt):
    """Without gradients, an update is decay alone."""
    recipe = replace(plain, {"optim.weight_decay_exempt": exempt, "optim.weight_decay": 0.5, "optim.lr": 0.1})
    model, optimizer, _ = network(recipe)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {name for name, parameter in model.named_parameters() if not bool((parameter == 1).all())}
    norms = {f"{name}.{key}" for name, module in model.named_modules() for key in ("weight", "bias")
             if isinstance(module, nn.BatchNorm2d)}  # fmt: skip
    everything_else = {name for name, _ in model.named_parameters()} - norms
    assert (
        decayed
        == {
            "norms_and_biases": everything_else - {"fc.bias"},
            "norms": everything_else,
            "nothing": everything_else | norms,
        }[exempt]
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing(plain, batch, smoothing):
    recipe = replace(plain, {"optim.label_smoothing": smoothing, "model.init_std": 0.1})
    loss_sum, correct, _, _ = gradients(recipe, batch)
    model = build.model(recipe, 10).double().train()
    x = RGB.to_model(batch.clips_BTHWC, batch.flip_B, mean=model.preprocessing.mean, std=model.preprocessing.std)
    logs_BK = F.log_softmax(model(x.double()), 1)
    right_B, all_B = logs_BK.gather(1, batch.labels_B[:, None])[:, 0], logs_BK.mean(1)
    expected = -((1 - smoothing) * right_B + smoothing * all_B).sum()
    assert loss_sum == pytest.approx(expected.item(), rel=1e-6)
    assert abs((right_B - all_B).sum().item()) > 0.1, "smoothing would change nothing"
    assert correct == int((logs_BK.argmax(1) == batch.labels_B).sum())


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_the_norm_of_the_gradient_is_clipped(plain, batch, limit):
    whole = gradients(plain, batch)[2]
    clipped = gradients(replace(plain, {"optim.clip_grad_norm": limit}), batch)[2]
    norm = float(torch.cat([gradient.flatten() for gradient in whole.values()]).norm())
    assert 0.01 < norm < 1e6
    for name, gradient in whole.items():
        torch.testing.assert_close(clipped[name], gradient * min(1.0, limit / norm), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("size", [1, 4, 5, 7, 13])  # of 14: 14 × 1, 4+4+3+3, 5+5+4, 7+7, 7+7
def test_gradients_are_accumulated_to_those_of_the_whole_batch(plain, batch, size):
    loss, correct, whole, _ = gradients(plain, batch, frozen_norms=True)
    parts = gradients(replace(plain, {"optim.micro_batch_size": size}), batch, frozen_norms=True)
    assert parts[0] == pytest.approx(loss, rel=1e-6)
    assert parts[1] == correct
    assert parts[2].keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[2][name], gradient, rtol=1e-5, atol=1e-9)


def test_batch_norms_see_a_micro_batch_at_a_time(plain, batch):
    recipe = replace(plain, {"optim.micro_batch_size": 5})
    trained = gradients(recipe, batch)[3]
    sizes = []
    model = build.model(recipe, 10).double().train()
    x = RGB.to_model(
        batch.clips_BTHWC, batch.flip_B, mean=model.preprocessing.mean, std=model.preprocessing.std
    ).double()
    with torch.no_grad():
        for part in x.split([5, 5, 4]):
            sizes.append(len(part))
            model(part)
    assert sizes == [5, 5, 4]
    for theirs, ours in zip(norms_of(trained), norms_of(model), strict=True):
        assert int(theirs.num_batches_tracked) == 3
        torch.testing.assert_close(theirs.running_mean, ours.running_mean, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(theirs.running_var, ours.running_var, rtol=1e-6, atol=1e-8)


# --- averaged weights


def weights(run, which="model", point="last"):
    return safetensors.torch.load_file(checkpoint.directory(run.checkpoints, point) / f"{which}.safetensors")


def seen_weights(monkeypatch):
    """The trained weights after every step."""
    step, seen = training.training_step, []

    def recorded(model, *arguments, **named):
        result = step(model, *arguments, **named)
        seen.append(copy.deepcopy({name: p.detach() for name, p in model.named_parameters()}))
        return result

    monkeypatch.setattr(training, "training_step", recorded)
    return seen


def test_the_mean_of_the_weights_is_kept_scored_and_used(plain, tmp_path, monkeypatch, capsys):
    recipe = replace(plain, {"optim.ema_decay": 0.7, "optim.lr": 0.1})
    seen = seen_weights(monkeypatch)
    run = train(recipe, out=tmp_path / "run")
    mean = seen[0]
    for after in seen[1:]:
        mean = {name: 0.7 * mean[name] + 0.3 * after[name] for name in mean}
    kept, trained = weights(run), weights(run, "trained")
    for name, expected in mean.items():
        torch.testing.assert_close(kept[name], expected, rtol=1e-5, atol=1e-7)
        assert torch.equal(trained[name], seen[-1][name])
        assert not torch.equal(kept[name], trained[name])
    for name in kept.keys() - mean.keys():  # statistics of norms are the network's
        assert torch.equal(kept[name], trained[name]), name

    last = {name: p.detach() for name, p in of_run(run).load("last").named_parameters()}
    assert all(torch.equal(last[name], kept[name]) for name in last)
    answering = Predictor(run, runtime=Runtime(inference="plain")).answering
    assert all(torch.equal(p.detach(), kept[name]) for name, p in answering.model.named_parameters())
    again = muybridge.evaluate(run, split="val", runtime=Runtime(inference="plain"))
    assert np.array_equal(again.logits_VK, run.scores("val").logits_VK)
    assert run.metrics("val")[-1]["loss"] == pytest.approx(again.cross_entropy(), abs=1e-12)
    plainly = train(replace(recipe, {"optim.ema_decay": None}), out=tmp_path / "plain")
    assert plainly.metrics("train") == run.metrics("train")  # the mean changes what is scored, not what is trained
    assert plainly.metrics("val")[-1]["loss"] != run.metrics("val")[-1]["loss"]
    assert not (checkpoint.directory(plainly.checkpoints) / "trained.safetensors").exists()


# --- what is frozen


@pytest.mark.parametrize(
    ("changes", "still", "moving"),
    [
        pytest.param(
            {"optim.batch_norm": "frozen"}, ("bn1", "layer4.0.bn2", "downsample.1"), ("conv1.weight", "fc.weight"),
            marks=pytest.mark.slow,
        ),
        ({"optim.batch_norm": "partial"}, ("layer1.0.bn1", "layer4.0.bn2"), ("backbone.bn1", "conv1.weight")),
        pytest.param({"optim.train_from": "head"}, ("backbone",), ("fc.weight", "fc.bias"), marks=pytest.mark.slow),
        ({"optim.train_from": "layer4"}, ("backbone.bn1", "layer1", "layer3"), ("layer4.0.bn1", "fc.weight")),
        ({"optim.train_from": "head", "optim.ema_decay": 0.5}, ("backbone",), ("fc.weight",)),
    ],
    ids=["frozen norms", "partial norms", "head", "layer4", "head, averaged"],
)  # fmt: skip
def test_what_is_frozen_keeps_its_bits(plain, tmp_path, changes, still, moving):
    """Weights, biases and statistics, over three epochs with validations in between."""
    start = tmp_path / "start"
    train(replace(plain, {"optim.epochs": 1}), out=start)
    run = train(replace(plain, {"optim.epochs": 3, "model.pretrained": str(start)} | changes), out=tmp_path / "run")
    before, after = weights(training.Run(start)), weights(run)
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen_first = changes.get("optim.batch_norm") == "partial"
    for name in before:
        if any(part in name for part in still) and not (frozen_first and name.startswith("backbone.bn1")):
            assert name in same, f"{name} changed"
    for part in moving:
        assert any(part in name and name not in same for name in before), f"{part} did not change"
    optimised = {
        key.rpartition("/")[0]
        for key in safetensors.torch.load_file(checkpoint.directory(run.checkpoints) / "optimizer.safetensors")
    }
    assert not optimised & same


def test_synced_norms_of_one_process_are_local_ones(plain, train_of):
    assert everything(train_of({"optim.batch_norm": "synced"})) == everything(train_of({}))


def test_fresh_weights_of_one_spread(plain):
    model = build.model(replace(plain, {"model.init_std": 0.1}), 10)
    usual = dict(build.model(plain, 10).named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            values = parameter.detach()
            n = values.numel()
            assert abs(float(values.mean())) < 5 * 0.1 / n**0.5, name
            assert float(values.std()) == pytest.approx(0.1, rel=4 / (2 * n) ** 0.5), name
        else:
            assert torch.equal(parameter, usual[name]), name
    again = dict(build.model(replace(plain, {"model.init_std": 0.1}), 10).named_parameters())
    assert all(torch.equal(p, again[name]) for name, p in model.named_parameters())


def test_weights_to_start_from_are_not_drawn_anew(plain, train_of):
    first = train_of({"optim.epochs": 1})
    file = checkpoint.model_file(first.checkpoints)
    model = build.model(replace(plain, {"model.init_std": 0.1, "model.pretrained": str(file)}), 10)
    kept = weights(first)
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters())


# --- precision and compilation


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_convolutions_compute_in_the_precision_and_weights_stay(plain, batch, precision):
    recipe = replace(plain, {"precision": precision})
    model, optimizer, _ = network(recipe)
    where = build.placement(recipe, Runtime(device="cpu"))
    dtypes = Counter()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: dtypes.update([out.dtype]))
    before = model.fc.weight.detach().clone()
    loss_sum, _ = training_step(model.train(), optimizer, batch, where, recipe)
    assert dtypes.keys() == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert loss_sum / BATCH == pytest.approx(np.log(10), rel=0.2)
    assert not torch.equal(model.fc.weight, before)


def test_fp16_learns_as_fp32_does(train_of):
    halves, singles = train_of({"precision": "fp16", "optim.epochs": 1}), train_of({"optim.epochs": 1})
    assert halves.metrics("train") != singles.metrics("train")
    for a, b in zip(halves.metrics("train"), singles.metrics("train"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.02)


@pytest.mark.slow
def test_a_gradient_that_overflows_skips_the_update_and_halves_the_scale(plain, batch):
    recipe = replace(plain, {"precision": "fp16", "optim.clip_grad_norm": 1.0})
    model, optimizer, _ = network(recipe)
    model.train()
    where = build.placement(recipe, Runtime(device="cpu"))
    scaler = where.scaler()
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**24})
    before = copy.deepcopy(dict(model.named_parameters()))
    training_step(model, optimizer, batch, where, recipe, scaler=scaler)
    assert scaler.get_scale() == 2.0**23
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    while scaler.get_scale() > 2.0**10 and all(torch.equal(p, before[n]) for n, p in model.named_parameters()):
        training_step(model, optimizer, batch, where, recipe, scaler=scaler)
    assert not torch.equal(model.fc.weight, before["fc.weight"])
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_fp16_gradients_are_clipped_by_their_true_norm(plain, batch):
    """Not by that of the gradients of the scaled loss: then next to nothing would be left of an update."""
    moved = {}
    for precision in ("fp32", "fp16"):
        recipe = replace(plain, {"precision": precision, "optim.clip_grad_norm": 0.5, "optim.weight_decay": 0.0})
        model, optimizer, _ = network(recipe)
        model.train()
        where = build.placement(recipe, Runtime(device="cpu"))
        scaler = where.scaler()
        if precision == "fp16":
            scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**10})
        before = torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
        training_step(model, optimizer, batch, where, recipe, scaler=scaler)
        after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        moved[precision] = float((after - before).norm()) / recipe.optim.lr
    assert moved["fp32"] == pytest.approx(0.5, rel=1e-3)
    assert moved["fp16"] == pytest.approx(0.5, rel=1e-2)


def test_the_scale_of_the_loss_goes_on_after_a_stop(plain, tmp_path, monkeypatch):
    """A scale that is too large is halved in the first steps; a resumed run does not begin with it anew."""
    monkeypatch.setattr(
        Placement, "scaler",
        lambda self: torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=4, enabled=True),
    )  # fmt: skip
    recipe = replace(plain, {"precision": "fp16", "optim.clip_grad_norm": 1.0})
    whole = train(recipe, out=tmp_path / "whole")
    state = checkpoint.load_state(whole.checkpoints)
    assert 1 < state.loss_scale < 2.0**22
    stop_at(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "stopped", runtime=Runtime(checkpoint_steps=1))
    monkeypatch.setattr(training, "training_step", training_step)
    assert checkpoint.load_state(training.Run(tmp_path / "stopped").checkpoints).step == 4
    assert everything(resume(tmp_path / "stopped")) == everything(whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    ("name", "micro_batch_size"), [("tsn_resnet_tiny", None), ("tsm_resnet_tiny", 5), ("i3d_resnet_tiny", None)]
)
def test_a_compiled_network_computes_the_same(name, micro_batch_size, train_of):
    """Also where clips are counted beside the tensors, and their number changes."""
    changes = {"model.name": name, "optim.micro_batch_size": micro_batch_size, "optim.epochs": 1, "optim.lr": 0.002}
    as_it_is = train_of(changes)
    compiled = train_of(changes, runtime=Runtime(compile=True))
    for a, b in zip(as_it_is.metrics("train"), compiled.metrics("train"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-4)
    assert compiled.metrics("val")[-1]["loss"] == pytest.approx(as_it_is.metrics("val")[-1]["loss"], abs=1e-3)
    assert weights(compiled).keys() == weights(as_it_is).keys()


# --- how long


def batches_of(monkeypatch):
    step, seen = training.training_step, []

    def recorded(model, optimizer, batch, *arguments, **named):
        seen.append(batch.rows_B)
        return step(model, optimizer, batch, *arguments, **named)

    monkeypatch.setattr(training, "training_step", recorded)
    return seen


@pytest.mark.parametrize("steps_per_epoch", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_an_epoch_of_so_many_steps(plain, train_of, monkeypatch, steps_per_epoch):
    """A pass has three. What is seen does not depend on where epochs end; only what is measured does."""
    with monkeypatch.context() as patched:
        by_passes = batches_of(patched)
        train_of({"optim.epochs": 5, "optim.schedule": "constant"})
    with monkeypatch.context() as patched:
        seen = batches_of(patched)
        run = train_of({"optim.epochs": 2, "optim.steps_per_epoch": steps_per_epoch})
    assert seen == by_passes[: 2 * steps_per_epoch]
    assert [line["step"] for line in run.metrics("train")] == [steps_per_epoch, 2 * steps_per_epoch]
    assert [line["step"] for line in run.metrics("val")] == [steps_per_epoch, 2 * steps_per_epoch]
    assert run.result()["steps"] == 2 * steps_per_epoch


def test_a_target_ends_training(train_of):
    run = train_of({"optim.epochs": 9, "optim.lr": 1e-5, "stop.metric": "val.loss", "stop.target": 2.5,
                    "evaluation.every_epochs": 2})  # fmt: skip
    assert run.metrics("val")[0]["loss"] < 2.5
    assert run.metrics("val")[0]["epoch"] == 2
    assert len(run.metrics("val")) == 1
    loss = run.metrics("val")[0]["loss"]
    assert run.result()["ended"] == f"stop.target: val.loss is {loss:.4g} after 2 epochs"
    assert run.result()["steps"] == 6


def test_a_target_of_training_is_looked_at_every_epoch_and_then_validated(train_of):
    run = train_of({"optim.epochs": 9, "optim.lr": 1e-5, "stop.metric": "train.loss", "stop.target": 4.0,
                    "evaluation.every_epochs": 4})  # fmt: skip
    assert [line["epoch"] for line in run.metrics("val")] == [1]
    assert run.result()["ended"].startswith("stop.target: train.loss is ")
    unreached = train_of({"stop.metric": "train.loss", "stop.target": 0.01})
    assert unreached.result()["ended"] == "all 2 epochs"


def measured_as(monkeypatch, values):
    """Validation figures that follow a script."""
    real, script = session.metrics, iter(values)
    monkeypatch.setattr(session, "metrics", lambda scores: real(scores) | next(script))


@pytest.mark.parametrize(
    ("quantity", "values", "every", "ends", "best"),
    [
        ("val.loss", [3, 2, 2.5, 2, 1.9, 1.9, 2, 2], 1, 8, 5),  # as good as the best is not better
        pytest.param("val.video_top1", [0.1, 0.3, 0.2, 0.2, 0.3, 0.9], 1, 5, 2, marks=pytest.mark.slow),
        pytest.param("val.loss", [3, 2, 2.5, 2.5], 2, 8, 4, marks=pytest.mark.slow),  # epochs 2, 4, 6, 8
        ("val.mean_class", [0.5, 0.4], 3, 6, 3),  # patience counts epochs, not validations
    ],
)  # fmt: skip
def test_patience_ends_training(train_of, monkeypatch, quantity, values, every, ends, best):
    name = quantity.partition(".")[2]
    measured_as(monkeypatch, [{name: value} for value in values] + [{}] * 3)
    run = train_of({"optim.epochs": 20, "stop.metric": quantity, "stop.patience_epochs": 3,
                    "evaluation.every_epochs": every})  # fmt: skip
    assert run.metrics("val")[-1]["epoch"] == ends
    shown = f"{values[best // every - 1]:.4g}"
    assert run.result()["ended"] == f"stop.patience_epochs: {quantity} was best, {shown}, after {best} of {ends} epochs"
    assert run.result()["steps"] == 3 * ends


def test_patience_with_training_goes_by_every_epoch(train_of, monkeypatch):
    run = train_of({"optim.epochs": 30, "stop.metric": "train.clip_top1", "stop.patience_epochs": 2, "optim.lr": 1e-8,
                    "evaluation.every_epochs": 30})  # fmt: skip
    accuracies = [line["clip_top1"] for line in run.metrics("train")]
    bests = [max(accuracies[: n + 1]) for n in range(len(accuracies))]
    last_rise = max(n for n in range(len(bests)) if n == 0 or bests[n] > bests[n - 1])
    assert len(accuracies) - 1 - last_rise == 2 or len(accuracies) == 30
    assert run.result()["ended"].startswith("stop.patience_epochs") == (len(accuracies) < 30)


def test_the_test_split_can_be_left_alone(train_of):
    run = train_of({"evaluation.score_test": False})
    assert "test" not in run.result()
    assert "val" in run.result()
    assert not (run.path / "scores" / "test.npz").exists()


def test_checkpoints_between_epochs(train_of, monkeypatch):
    saved, save = [], checkpoint.save

    def watched(folder, model, optimizer, state, **named):
        saved.append(state.step)
        save(folder, model, optimizer, state, **named)

    monkeypatch.setattr(checkpoint, "save", watched)
    train_of({"optim.epochs": 4, "evaluation.every_epochs": 4}, runtime=Runtime(checkpoint_steps=5))
    assert saved == [5, 10, 12, 12], "after the last step before and after validation"


# --- stopped and resumed


def stop_at(monkeypatch, number):
    """What step `number` (from 1) would do is a second Ctrl-C: training ends at once, without a save."""
    calls = []

    def until(*arguments, **named):
        calls.append(None)
        if len(calls) == number:
            raise KeyboardInterrupt
        return training_step(*arguments, **named)

    monkeypatch.setattr(training, "training_step", until)


LEVERS = {
    "adam, steps, smoothing, accumulation": {
        "optim.optimizer": "adam", "optim.lr": 1e-3, "optim.schedule": "steps", "optim.milestones": [1],
        "optim.label_smoothing": 0.1, "optim.micro_batch_size": 5,
    },
    "adamw, warm-up, clipping, dropout": {
        "optim.optimizer": "adamw", "optim.lr": 1e-3, "optim.warmup_epochs": 1, "optim.warmup_lr": 1e-4,
        "optim.clip_grad_norm": 1.0, "model.dropout": 0.5,
    },
    "layers of their own rates": {
        "optim.optimizer": "adamw", "optim.lr": 1e-3, "optim.backbone_lr": 0.3, "optim.layer_decay": 0.7,
    },
    "averaged, best": {"optim.ema_decay": 0.9, "evaluation.checkpoint": "best", "optim.momentum": 0.0},
    "averaged, from a stage up": {"optim.train_from": "layer3", "optim.ema_decay": 0.9},
    "frozen norms": {"optim.batch_norm": "frozen"},
    "partial norms, bf16": {"optim.batch_norm": "partial", "precision": "bf16"},
    "short epochs": {"optim.steps_per_epoch": 2},
    "long epochs": {"optim.steps_per_epoch": 5},
    "patience": {"stop.metric": "val.loss", "stop.patience_epochs": 1, "optim.epochs": 6, "optim.lr": 1e-6},
    "training's patience": {"stop.metric": "train.loss", "stop.patience_epochs": 1, "optim.epochs": 6},
}  # fmt: skip


STOPPED_IN_CI = {
    "adam, steps, smoothing, accumulation", "adamw, warm-up, clipping, dropout", "averaged, best",
    "layers of their own rates", "training's patience",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in STOPPED_IN_CI else pytest.mark.slow) for name in LEVERS]
)
def test_a_stopped_run_ends_with_the_same_bits(plain, tmp_path, monkeypatch, name):
    recipe = replace(plain, {"optim.epochs": 2, "evaluation.score_test": False} | LEVERS[name])
    whole = train(recipe, out=tmp_path / "whole")
    stop_at(monkeypatch, 6 if name == "long epochs" else 4)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "stopped", runtime=Runtime(checkpoint_steps=1))
    monkeypatch.undo()
    assert everything(resume(tmp_path / "stopped")) == everything(whole)
    for which in ("last", "best"):
        ours, theirs = (
            checkpoint.directory(training.Run(tmp_path / end).checkpoints, which) for end in ("stopped", "whole")
        )
        assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in theirs.iterdir())
        for file in theirs.glob("*.safetensors"):
            assert (ours / file.name).read_bytes() == file.read_bytes(), file.name
    results = [training.Run(tmp_path / end).result() for end in ("stopped", "whole")]
    assert results[0] == results[1]


def test_what_has_ended_is_scored_and_not_trained_on(train_of, monkeypatch):
    run = train_of({"optim.epochs": 9, "optim.lr": 1e-5, "stop.metric": "val.loss", "stop.target": 2.5})
    result = run.result()
    assert result["steps"] == 3
    (run.path / "result.json").unlink()
    shutil.rmtree(run.path / "scores")
    before = everything_but_scores(run)
    monkeypatch.setattr(training, "training_step", lambda *arguments, **named: pytest.fail("trained further"))
    assert resume(run).result() == result
    assert everything_but_scores(run) == before
    assert (run.path / "scores" / "val.npz").exists()


def everything_but_scores(run):
    return {name: content for name, content in everything(run).items() if "scores" not in name}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled")
def test_a_machine_without_a_compiler_is_told(plain, tmp_path):
    torch.compiler.reset()
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True}),
        pytest.raises(UserError, match=r"^runtime\.compile: .*No working C\+\+ compiler"),
    ):
        train(plain, out=tmp_path / "run", runtime=Runtime(compile=True))


def test_what_a_backend_of_the_compiler_raised_is_told(tmp_path):
    error = BackendCompilerFailed(lambda: None, OSError("no ptxas here"), None)
    assert "no ptxas" not in str(error).splitlines()[0]
    with (
        pytest.raises(UserError, match=r"^runtime\.compile: .*no ptxas here.*runtime\.compile=false$"),
        session.explaining(Run(tmp_path)),
    ):
        raise error


def test_the_page_on_training_names_every_lever():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    levers = [name for name in fields(Recipe) if name.startswith(("optim.", "stop."))]
    assert [name for name in levers if f"`{name}`" not in page] == []
    examples = set(re.findall(r"--set '?([a-z_.]+=[^\s`|']+)", page)) - {"section.field=value"}
    assert len(examples) > 30
    for example in examples:
        changes = parse_overrides([example])
        assert changes.keys() <= fields(Recipe).keys() | {f"runtime.{name}" for name in fields(Runtime)}, example
