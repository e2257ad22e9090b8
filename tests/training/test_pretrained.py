"""Runs that start from weights, and networks that are brought along, through training, evaluation and prediction."""

import json
import textwrap

import pytest
import safetensors.torch
import torch
from same_bits import everything

import muybridge
from muybridge import build
from muybridge.data.manifest import Manifest
from muybridge.errors import Interrupted, UserError
from muybridge.evaluation.trained import of_run
from muybridge.inference.predictor import Predictor
from muybridge.recipe import Runtime, fingerprint, replace
from muybridge.training.job import Jobs
from muybridge.training.loop import resume, train
from muybridge.zoo import Preprocessing, create

NETWORK = """
from torch import nn

def pictures():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1, groups=2), nn.BatchNorm2d(16), nn.ReLU(),
    )
"""


def weights(folder):
    name = (folder / "checkpoints" / "last").read_text().strip()
    return safetensors.torch.load_file(folder / "checkpoints" / name / "model.safetensors")


def test_a_run_starts_from_another_run_s_weights(recipe, run, tmp_path):
    changed = replace(recipe, {"model.pretrained": str(run.path), "optim.lr": 1e-12, "optim.weight_decay": 0.0})
    after = train(changed, out=tmp_path / "run")
    before = weights(run.path)
    learned = dict(create("tsm_resnet_tiny", num_classes=10, num_frames=4).named_parameters())
    now = weights(after.path)
    assert all(torch.allclose(now[name], before[name], atol=1e-7) for name in learned)
    assert after.recipe().model.pretrained_sha256 is not None


def test_where_a_file_of_weights_lies_does_not_count_but_what_is_in_it_does(recipe, run, tmp_path):
    manifest = Manifest.load(recipe.data.manifest)
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file(weights(run.path), file)
    moved = tmp_path / "b.safetensors"
    moved.write_bytes(file.read_bytes())
    other = tmp_path / "c.safetensors"
    safetensors.torch.save_file({name: tensor * 2 for name, tensor in weights(run.path).items()}, other)
    prints = [
        fingerprint(build.resolve(replace(recipe, {"model.pretrained": str(path)}), Runtime(), manifest))
        for path in (file, moved, other)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_changed_file_of_weights_is_refused(recipe, run, tmp_path):
    manifest = Manifest.load(recipe.data.manifest)
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(weights(run.path), file)
    resolved = build.resolve(replace(recipe, {"model.pretrained": str(file)}), Runtime(), manifest)
    safetensors.torch.save_file({name: tensor * 2 for name, tensor in weights(run.path).items()}, file)
    with pytest.raises(UserError, match=r"model.pretrained_sha256: the file of weights was changed"):
        build.resolve(resolved, Runtime(), manifest)


def test_a_stopped_run_resumes_to_the_same_bits_without_its_first_weights(recipe, run, tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(weights(run.path), file)
    started = replace(recipe, {"model.pretrained": str(file)})
    whole = train(started, out=tmp_path / "whole")
    steps = []

    def stop_at_the_second(*arguments, **named):
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return training_step(*arguments, **named)

    from muybridge.training import loop as training

    training_step = training.training_step
    monkeypatch.setattr(training, "training_step", stop_at_the_second)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        train(started, out=tmp_path / "stopped", runtime=Runtime(checkpoint_steps=1))
    monkeypatch.undo()
    again = resume(tmp_path / "stopped")
    assert everything(again) == everything(whole)


def test_the_preprocessing_of_the_weights_comes_back_with_the_run(recipe, run, tmp_path, monkeypatch):
    half = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    fresh = build.model

    def with_other_preprocessing(*arguments, pretrained=True, **keywords):
        model = fresh(*arguments, pretrained=pretrained, **keywords)
        if pretrained:  # as weights for other inputs do
            model.preprocessing = half
        return model

    monkeypatch.setattr(build, "model", with_other_preprocessing)
    trained = train(recipe, out=tmp_path / "run")
    assert of_run(trained).load("last").preprocessing == half
    assert of_run(run).load("last").preprocessing != half


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("tsm_resnet_tiny", "imagenet", "not among those published for this model"),
        ("tsm_resnet18", "kinetics400", r"not among those published for this model \(imagenet\)"),
        ("tsm_resnet18", "no/such/file.pth", "not a file, not a URL"),
    ],
)
def test_weights_that_are_not_there_are_told_before_anything_is_written(recipe, tmp_path, name, pretrained, message):
    with pytest.raises(UserError, match=message):
        train(replace(recipe, {"model.name": name, "model.pretrained": pretrained}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused(recipe, run, tmp_path):
    with pytest.raises(UserError, match="do not fit"):
        train(replace(recipe, {"model.name": "i3d_resnet18", "model.pretrained": str(run.path)}), out=tmp_path / "run")


def test_a_network_that_is_brought_is_trained_compared_loaded_and_used(recipe, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(textwrap.dedent(NETWORK))
    monkeypatch.syspath_prepend(str(tmp_path))
    study = muybridge.compare(
        ["tsm@mine:pictures", "i3d@mine:pictures"],
        data=recipe.data.manifest,
        recipe=recipe,
        out=tmp_path / "study",
        seeds=[0],
    )
    names = sorted(path.name for path in (tmp_path / "study" / "runs").iterdir())
    assert names == ["i3d.mine.pictures-seed0", "tsm.mine.pictures-seed0"]
    trained = study.runs[0]
    assert (trained.path / "source" / "mine.py").read_text() == textwrap.dedent(NETWORK)
    with pytest.raises(UserError, match="--allow-code"):
        Predictor(trained)
    manifest = Manifest.load(recipe.data.manifest)
    found = Predictor(trained, allow_code=True)(manifest.root / manifest.row(0).path)[0]
    assert len(found.labels) == 5
    cost = json.loads((trained.path / "cost.json").read_text())
    assert cost["params"] == 3 * 8 * 9 + 8 + 16 + 4 * 16 * 9 + 16 + 32 + 16 * 10 + 10


@pytest.mark.parametrize(("model", "norms", "said"), [
    ("nln_resnet_tiny", "frozen", True), ("s3d_resnet_tiny", "partial", True), ("nln_resnet_tiny", "local", False),
    ("tam_resnet_tiny", "frozen", False),
])  # fmt: skip
def test_norms_of_a_method_that_would_stay_as_drawn_are_told(recipe, tmp_path, capsys, model, norms, said):
    """Where image weights come, and batch norms are frozen: non-local blocks would add nothing for ever."""
    file = tmp_path / "pictures.safetensors"
    safetensors.torch.save_file(create("tsn_resnet_tiny", num_classes=10).state_dict(), file)
    changes = {"model.pretrained": str(file), "model.name": model, "optim.batch_norm": norms, "model.strict": False}
    Jobs(Runtime()).job(replace(recipe, changes))
    told = " ".join(capsys.readouterr().err.split())
    assert (f"of {model} came with no weights (backbone." in told) == said
    assert ("optim.batch_norm=local" in told) == said
