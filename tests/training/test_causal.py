"""`muybridge causal`: from a trained TSM to one that is asked frame by frame."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import muybridge
from muybridge import build
from muybridge.cli.app import app
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.evaluation.trained import trained
from muybridge.recipe import replace
from muybridge.storage import checkpoints
from muybridge.storage.run import Run
from muybridge.training.causal import LR_SHARE, looking_back
from muybridge.training.loop import train
from muybridge.zoo.steps import steps

DENSE = {"clip.sampling": "dense", "clip.stride_frames": 2, "evaluation.num_clips": 1, "evaluation.num_crops": 1}


@pytest.fixture(scope="module")
def dense(recipe, tmp_path_factory):
    """A finished run of dense clips, in twenty steps."""
    changes = {
        **DENSE,
        "optim.epochs": 10,
        "optim.warmup_epochs": 2,
        "optim.warmup_lr": 0.001,
        "evaluation.every_epochs": 5,
    }
    return train(replace(recipe, changes), out=tmp_path_factory.mktemp("dense") / "run")


@pytest.fixture(scope="module")
def past(dense, tmp_path_factory):
    """The run, turned to look back only."""
    return muybridge.causal(dense, out=tmp_path_factory.mktemp("past") / "run")


def relabelled(run, folder, changes):
    """A copy of a run whose recipe says something else."""
    shutil.copytree(run.path, folder)
    values = json.loads((folder / "recipe.json").read_text())
    for dotted, value in changes.items():
        section, _, name = dotted.partition(".")
        values[section][name] = value
    (folder / "recipe.json").write_text(json.dumps(values))
    return Run(folder)


def changed(manifest, **columns):
    """A manifest with other columns."""
    loaded = Manifest.load(manifest)
    return dataclasses.replace(loaded, columns={**loaded.columns, **columns})


def test_a_tenth_of_the_training_from_the_weights_of_the_run(dense, past):
    before, after = dense.recipe(), past.recipe()
    assert dense.result()["steps"] == 30
    assert past.result()["steps"] == after.optim.steps == 3
    assert after.model.options == {"direction": "past"}
    assert Path(after.model.pretrained) == checkpoints.model_file(dense.checkpoints).resolve()
    assert after.optim.lr == pytest.approx(LR_SHARE * before.optim.lr)
    assert after.optim.warmup_lr == pytest.approx(LR_SHARE * before.optim.warmup_lr)
    assert after.clip == before.clip.model_copy(update={"fps": 24.0})
    assert past.state() == "finished"
    loaded = json.loads((past.path / "init.json").read_text())
    assert not loaded.get("fresh")
    names = load_file(checkpoints.model_file(past.checkpoints)).keys()
    assert names == load_file(checkpoints.model_file(dense.checkpoints)).keys()


def test_the_answer_at_a_frame_is_that_of_the_runs_evaluation(past):
    """Frames of a test video, one by one from its first, give the logits that the run has stored for it."""
    recipe, stored = past.recipe(), past.scores("test")
    model = trained(past).load("last")
    manifest = Manifest.load(recipe.data.manifest)
    views = build.video_views(recipe, manifest, build.file_reader(recipe))
    for at in (0, 5):
        view = views[views.key(manifest.text("id").tolist().index(str(stored.ids_N[at])))]
        x_1CTHW = inputs.of(recipe.clip).to_model(
            view.pictures_PHWC[torch.from_numpy(view.picture_VF[0])][None], None, mean=model.preprocessing.mean,
            std=model.preprocessing.std,
        )  # fmt: skip
        stepped = steps(model, recipe.clip.num_frames)
        state = stepped.start()
        for x_1CHW in x_1CTHW.unbind(2):
            logits_1K, state = stepped.step(x_1CHW, state)
        assert np.allclose(logits_1K[0].numpy(), stored.logits_VK[at], rtol=0, atol=1e-5)


def test_what_it_was_trained_on_is_known(dense, past, recipe, tmp_path):
    """Videos that the first run has seen are none to test the second on."""
    assert set(past.seen_sha256()) == set(dense.seen_sha256())
    manifest = Manifest.load(recipe.data.manifest)
    swapped = manifest.text("split")
    swapped = np.where(swapped == "train", "test", np.where(swapped == "test", "train", swapped))
    changed(recipe.data.manifest, split=swapped).save(tmp_path / "swapped.csv")
    with pytest.raises(UserError, match=r"start from its weights, but it was trained on \d+ of the"):
        muybridge.causal(dense, data=tmp_path / "swapped.csv", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lengths_and_fields_that_are_named_win(dense):
    assert looking_back(dense, steps=5).optim.steps == 5
    by_epochs = looking_back(dense, epochs=2)
    assert (by_epochs.optim.epochs, by_epochs.optim.steps, by_epochs.optim.warmup_epochs) == (2, None, 0.4)
    by_epochs = looking_back(dense, changes={"optim.epochs": 3})
    assert (by_epochs.optim.epochs, by_epochs.optim.steps) == (3, None)
    assert looking_back(dense, changes={"optim.steps": 7}).optim.steps == 7
    by_fields = looking_back(dense, changes={"optim.lr": 0.5, "clip.fps": 12.0, "model.options.share": 4})
    assert (by_fields.optim.lr, by_fields.clip.fps) == (0.5, 12.0)
    assert by_fields.model.options == {"direction": "past", "share": 4}
    with pytest.raises(UserError, match=r"^--epochs: optim\.epochs is given, too"):
        muybridge.causal(dense, out="run", epochs=2, changes={"optim.epochs": 3})


def test_of_a_run_by_hours_a_tenth_of_the_hours_is_kept(dense, tmp_path):
    hours = {"optim.schedule_unit": "hours", "optim.epochs": None, "optim.warmup_epochs": 0.0,
             "optim.warmup_lr": None, "stop.max_hours": 2.0}  # fmt: skip
    made = looking_back(relabelled(dense, tmp_path / "run", hours))
    assert made.stop.max_hours == pytest.approx(0.2)
    assert made.optim.steps is None


def test_uniform_clips_cannot_stream_and_the_error_says_what_can(run, tmp_path):
    with pytest.raises(UserError, match=r"^clip\.sampling: .* a stream has no end") as told:
        muybridge.causal(run, out=tmp_path / "run")
    settings = dict(word.split("=") for word in str(told.value).split(" --set ")[1:])
    assert settings == {"clip.sampling": "dense", "clip.fps": "24", "clip.stride_frames": "6"}  # 24 frames by 4
    made = looking_back(run, changes={"clip.sampling": "dense", "clip.fps": 24.0, "clip.stride_frames": 6})
    assert made.model.options == {"direction": "past"}


def test_a_rate_is_asked_for_where_videos_differ(dense, recipe, tmp_path):
    rates = np.where(np.arange(60) % 3 == 0, 12.0, 30.0)
    changed(recipe.data.manifest, fps=rates).save(tmp_path / "mixed.csv")
    with pytest.raises(UserError, match=r"their rates go from 12 to 30 a second.* --set clip\.fps=30"):
        looking_back(dense, data=str(tmp_path / "mixed.csv"))
    assert looking_back(dense, data=str(tmp_path / "mixed.csv"), changes={"clip.fps": 10.0}).clip.fps == 10.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"model.name": "i3d_resnet_tiny"}, "i3d_resnet_tiny cannot be turned .* Use it as it is: muybridge stream"),
     ({"model.name": "tcn_resnet_tiny"}, r"Train one with --set model\.options\.causal=true"),
     ({"model.name": "tsn@evil:net"}, "tsn@evil:net cannot be turned"),
     ({"model.options": {"direction": "past"}}, "it looks back only already"),
     ({"model.temporal_pooling": True, "clip.num_frames": 8}, "its temporal pooling looks ahead")],
)  # fmt: skip
def test_runs_that_cannot_be_turned(dense, tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        muybridge.causal(relabelled(dense, tmp_path / "run", changes), out=tmp_path / "past")
    assert not (tmp_path / "past").exists()


def test_a_run_that_is_not_finished_is_refused(dense, tmp_path):
    copied = relabelled(dense, tmp_path / "run", {})
    (copied.path / "result.json").unlink()
    with pytest.raises(UserError, match=r"it is not finished\. Continue it"):
        muybridge.causal(copied, out=tmp_path / "past")


def test_a_network_in_code_needs_consent(dense, tmp_path):
    with pytest.raises(UserError, match="allow"):
        muybridge.causal(relabelled(dense, tmp_path / "run", {"model.name": "tsm@evil:net"}), out=tmp_path / "past")


def test_the_command_prints_the_run(dense, past, tmp_path):
    words = ["causal", str(dense.path), "--out", str(tmp_path / "run"), "--steps", "3", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["run"] == str(tmp_path / "run")
    assert told["test"]["video_top1"] == past.result()["test"]["video_top1"]
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "run" in json.loads(again.stdout)["error"]
