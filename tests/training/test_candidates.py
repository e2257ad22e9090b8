"""Copies that are trained at once are what each would be alone; val chooses, and test is scored once."""

import json

import numpy as np
import pytest
import torch

import muybridge
from muybridge.errors import Interrupted, UserError
from muybridge.evaluation.trained import of_run
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.recipe.shipped import load
from muybridge.storage.run import Run
from muybridge.storage.scores import metrics
from muybridge.training import loop, session
from muybridge.training.loop import resume, train
from muybridge.training.session import best_candidate

GRID = {"optim.lr_grid": (0.02, 0.002), "optim.weight_decay_grid": (0.0, 0.5)}


@pytest.fixture(scope="module")
def store(recipe, made_set, tmp_path_factory):
    """A store of vectors of single frames."""
    folder = tmp_path_factory.mktemp("store")
    frames = train(replace(recipe, {"model.name": "tsn_resnet_tiny", "clip.num_frames": 1}), out=folder / "frames")
    return muybridge.features(frames.path, data=made_set, out=folder / "store").path


@pytest.fixture(scope="module")
def heads(store):
    """The recipe `heads`, a few steps long, without dropout."""
    return replace(
        load("heads"),
        {
            "data.manifest": str(store), "model.name": "gru", "model.options": {"width": 16}, "model.dropout": 0.0,
            "clip.num_frames": 12, "optim.batch_size": 16, "optim.epochs": 2, "optim.min_steps": 0,
            "optim.clip_grad_norm": 0.5, "evaluation.every_epochs": 1, "precision": "fp32", **GRID,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def together(heads, tmp_path_factory):
    """A finished run of four copies."""
    return train(heads, out=tmp_path_factory.mktemp("runs") / "together")


@pytest.mark.parametrize("model", ["gru", "mean_pool"])
def test_each_copy_has_the_bits_that_it_has_alone(model, heads, together, tmp_path):
    if model != "gru":  # features without weights are computed once for all
        heads = replace(heads, {"model.name": model, "model.options": {}})
        together = train(heads, out=tmp_path / "together")
    net = of_run(together).load("last")
    assert net.shares_features == (model == "mean_pool")
    copies = net.copies
    assert len(copies) == 4
    for index, (lr, decay) in enumerate(heads.candidates):
        alone = {"optim.lr_grid": (), "optim.weight_decay_grid": (), "optim.lr": lr, "optim.weight_decay": decay}
        single = of_run(train(replace(heads, alone), out=tmp_path / str(index))).load("last")
        theirs = copies[index].state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in single.state_dict().items()), (lr, decay)


def test_val_chooses_and_the_test_split_is_scored_by_the_chosen_alone(heads, together):
    found = together.candidates()
    assert [(one["lr"], one["weight_decay"]) for one in found["tried"]] == heads.candidates
    model = of_run(together).load("last")
    assert model.chosen == found["chosen"] == together.result()["chosen"]
    accuracies = []
    for index in range(4):
        model.chosen = index
        val = metrics(_scored(together, model, "val"))
        assert val["video_top1"] == pytest.approx(found["tried"][index]["video_top1"])
        accuracies.append((-val["video_top1"], val["loss"], index))
    assert min(accuracies)[2] == found["chosen"]
    assert np.array_equal(
        muybridge.evaluate(together, runtime=Runtime(inference="plain")).logits_VK, together.scores().logits_VK
    )
    assert {file.name for file in (together.path / "scores").iterdir()} == {"val.npz", "test.npz"}
    assert together.cost()["params"] == sum(parameter.numel() for parameter in model.copies[0].parameters())


def _scored(run, model, split):
    from muybridge import build
    from muybridge.data.manifest import Manifest
    from muybridge.evaluation.score import score
    from muybridge.runtime.device import Placement

    recipe = run.recipe()
    manifest = Manifest.load(recipe.data.manifest)
    rows = manifest.split(split)
    return score(
        model, build.video_views(recipe, manifest, build.file_reader(recipe)), rows, where=Placement(torch.device("cpu")),
        labels_N=manifest.labels()[rows], classes=manifest.classes, average="logits", batch_size=16,
    )["ordered"]  # fmt: skip


def test_the_loss_that_is_told_is_the_mean_of_the_copies(heads, together):
    lines = [json.loads(line) for line in together.metrics_file.read_text().splitlines()]
    start = next(line for line in lines if line["kind"] == "start")
    assert start["loss"] == pytest.approx(np.log(len(together.dataset()["classes"])), abs=0.2)


def test_a_stopped_run_ends_with_the_same_bits_and_the_same_choice(heads, together, tmp_path, monkeypatch):
    steps = iter(range(100))
    step = loop.training_step

    def stopping(*given, **named):
        if next(steps) == 3:
            raise KeyboardInterrupt
        return step(*given, **named)

    monkeypatch.setattr(loop, "training_step", stopping)
    with pytest.raises(Interrupted):
        train(heads, out=tmp_path / "run")
    monkeypatch.setattr(loop, "training_step", step)
    run = resume(tmp_path / "run")
    assert run.candidates() == together.candidates()
    for split in ("val", "test"):
        assert np.array_equal(run.scores(split).logits_VK, together.scores(split).logits_VK)
    ours, theirs = (of_run(one).load("last").state_dict() for one in (run, together))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def poisoned(monkeypatch, copies):
    """From the second step on the weights of these copies are not finite."""
    step = loop.training_step

    def planted(model, *given, **named):
        done = step(model, *given, **named)
        for index in copies:
            model.copies[index].fc.weight.data.fill_(float("nan"))
        return done

    monkeypatch.setattr(loop, "training_step", planted)


def test_a_copy_that_diverges_leaves_the_others_as_they_are(heads, together, tmp_path, monkeypatch):
    lost = 1 if together.candidates()["chosen"] != 1 else 2
    poisoned(monkeypatch, [lost])
    run = train(heads, out=tmp_path / "run")
    found, whole = run.candidates(), together.candidates()
    assert found["tried"][lost] == {
        "lr": GRID["optim.lr_grid"][lost // 2],
        "weight_decay": 0.5 * (lost % 2),
        "diverged": True,
    }
    assert [one for index, one in enumerate(found["tried"]) if index != lost] == [
        one for index, one in enumerate(whole["tried"]) if index != lost
    ]
    assert found["chosen"] == whole["chosen"]
    assert np.array_equal(run.scores().logits_VK, together.scores().logits_VK)


def test_where_every_copy_diverges_the_run_ends_with_the_cause(heads, tmp_path, monkeypatch):
    poisoned(monkeypatch, range(4))
    with pytest.raises(UserError, match="loss: it became nan at step 1"):
        train(heads, out=tmp_path / "run")


def test_the_best_is_by_accuracy_then_loss_then_the_earlier():
    one = lambda top1, loss: {"video_top1": top1, "loss": loss}  # noqa: E731
    assert best_candidate([one(0.5, 1.0), one(0.6, 3.0), one(0.6, 2.0), one(0.6, 2.0)]) == 2
    assert best_candidate([one(0.9, float("nan")), one(0.1, 2.0)]) == 1
    assert session.best_candidate is best_candidate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.lr_grid": (0.1, 0.1)}, r"optim\.lr_grid: \[0\.1, 0\.1\] are not different numbers above 0"),
        ({"optim.weight_decay_grid": (-1.0,)}, r"optim\.weight_decay_grid: .* 0 or above"),
        ({**GRID, "optim.ema_decay": 0.9}, r"optim\.ema_decay: it does not go with optim\.lr_grid"),
        ({**GRID, "optim.train_from": "head"}, r"optim\.train_from: it does not go with"),
    ],
)
def test_what_a_grid_excludes(changes, message):
    with pytest.raises(UserError, match=message):
        replace(Recipe(), changes)


def test_a_grid_needs_a_validation_split(heads, store, tmp_path):
    import shutil

    shutil.copytree(store, tmp_path / "store")
    file = tmp_path / "store" / "manifest.csv"
    file.write_text(file.read_text().replace(",val", ",unused"))
    with pytest.raises(UserError, match=r"optim\.lr_grid: the best copy is chosen on a validation split"):
        train(replace(heads, {"data.manifest": str(file)}), out=tmp_path / "run")
    assert not Run(tmp_path / "run").path.exists()


def test_copies_that_do_not_fit_into_memory_are_refused_before_a_file_is_written(heads, tmp_path, monkeypatch):
    monkeypatch.setattr("muybridge.training.job.free_bytes", lambda: 1e5)
    with pytest.raises(UserError, match=r"copies of \w+, of .* take .* with their optimizer.*Give fewer values"):
        train(heads, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
