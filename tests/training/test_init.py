"""`--init`: runs that start from as much of other weights as agrees, through training, comparison and the command line."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from muybridge import api, build
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.recipe import Runtime, fingerprint, replace
from muybridge.runtime.files import read_json
from muybridge.storage import checkpoints as checkpoint
from muybridge.training.loop import resume, train
from muybridge.zoo import Preprocessing, create

STILL = {"optim.lr": 1e-12, "optim.weight_decay": 0.0, "optim.epochs": 1, "optim.warmup_epochs": 0.0}
"""Training that moves no weight."""
CLASSIFIER = ("fc.weight", "fc.bias")


def weights(run, which="last"):
    return safetensors.torch.load_file(checkpoint.model_file(run.checkpoints, which))


def init_of(run):
    return read_json(run.path / "init.json")


@pytest.fixture(scope="module")
def best(run, tmp_path_factory):
    """The run, and a checkpoint of other values that is its best."""
    folder = tmp_path_factory.mktemp("best") / "run"
    shutil.copytree(run.path, folder)
    last = folder / "checkpoints" / (folder / "checkpoints" / "last").read_text()
    other = last.with_name("step-00000001")
    shutil.copytree(last, other)
    tensors = {name: tensor + 1 for name, tensor in safetensors.torch.load_file(last / "model.safetensors").items()}
    safetensors.torch.save_file(tensors, other / "model.safetensors")
    (other / "sha256.json").unlink()
    (folder / "checkpoints" / "best").write_text(other.name)
    return folder


@pytest.fixture(scope="module")
def other_order(made_set, tmp_path_factory):
    """A manifest of the same videos whose classes are the same in another order."""
    folder = tmp_path_factory.mktemp("order")
    shutil.copytree(made_set.parent, folder / "set")
    about = json.loads((folder / "set" / "manifest.csv.json").read_text())
    about["classes"] = about["classes"][::-1]
    (folder / "set" / "manifest.csv.json").write_text(json.dumps(about))
    return folder / "set" / "manifest.csv"


def test_a_2d_run_starts_a_3d_network(recipe, run, tmp_path, capsys):
    started = api.train(
        replace(recipe, {"model.name": "i3d_resnet_tiny"}), init=run.path, out=tmp_path / "run", changes=STILL
    )
    assert started.recipe().model.strict is False
    before, after = weights(run), weights(started)
    learned = {name for name, _ in create("i3d_resnet_tiny", num_classes=10, num_frames=4).named_parameters()}
    deep = {name for name in before if after[name].dim() == 5 and before[name].dim() == 4}
    assert len(deep) == 9
    for name in learned - deep:
        assert torch.allclose(after[name], before[name].reshape(after[name].shape), atol=1e-7)
    for name in deep:
        frames = after[name].shape[2]
        assert torch.allclose(after[name], before[name][:, :, None] / frames, atol=1e-7)
    about = init_of(started)
    assert (set(about["taken"]), about["inflated"], about["fresh"], about["left_out"]) == (set(after), 9, {}, {})
    assert f"muybridge's tsm_resnet_tiny: {len(after)} tensors, 9 repeated along time" in capsys.readouterr().err


def test_what_did_not_come_is_listed_with_the_reason(recipe, run, tmp_path, capsys):
    deep = api.train(
        replace(recipe, {"model.name": "s3d_resnet_tiny"}), init=run.path, out=tmp_path / "deep", changes=STILL
    )
    back = api.train(recipe, model="tsn_resnet_tiny", init=deep.path, out=tmp_path / "back", changes=STILL)
    before, after, about = weights(deep), weights(back), init_of(back)
    temporal = {name for name in before if ".after." in name and not name.endswith("num_batches_tracked")}
    stem = "backbone.conv1.weight"
    assert about["fresh"] == {stem: "other shape: (16, 3, 3, 7, 7) for (16, 3, 7, 7)"}
    assert set(about["left_out"]) == temporal | {stem}
    assert {about["left_out"][name] for name in temporal} == {"no such name in the model"}
    assert set(init_of(deep)["fresh"]) == temporal
    assert set(init_of(deep)["fresh"].values()) == {"no such name among the weights"}
    drawn = build.model(replace(recipe, {"model.name": "tsn_resnet_tiny"}), 10).state_dict()
    assert torch.allclose(after[stem], drawn[stem], atol=1e-7)
    assert torch.allclose(
        after["backbone.layer2.0.conv1.weight"].flatten(), before["backbone.layer2.0.conv1.weight"].flatten()
    )
    said = capsys.readouterr().err
    assert f"left out: {len(temporal) + 1} (" in said
    assert f"both, for their shape: 1 ({stem}: (16, 3, 3, 7, 7) for (16, 3, 7, 7))" in said


@pytest.mark.parametrize("part", ["whole", "agreeing"])
def test_a_classifier_comes_along_to_the_same_classes_only(recipe, run, other_order, part):
    started = build.resolve(
        replace(recipe, {"model.pretrained": str(run.path), "model.strict": part == "whole"}),
        Runtime(), Manifest.load(recipe.data.manifest),
    )  # fmt: skip
    before = weights(run)
    told = []
    same = build.model(started, 10, classes=Manifest.load(recipe.data.manifest).classes, tell=told.append)
    other = build.model(started, 10, classes=Manifest.load(other_order).classes, tell=told.append)
    drawn = build.model(started, 10, pretrained=False)
    assert [loaded.fresh for loaded in told] == [(), CLASSIFIER]
    assert set(told[1].left_out) == set(CLASSIFIER)
    assert told[1].why("fc.bias") == "of a classifier for other classes or features"
    assert torch.equal(same.fc.weight, before["fc.weight"])
    assert torch.equal(other.fc.weight, drawn.fc.weight)
    assert torch.equal(other.backbone.conv1.weight, before["backbone.conv1.weight"])


def test_training_knows_that_the_classes_are_others(recipe, run, other_order, tmp_path):
    changed = replace(recipe, {**STILL, "data.manifest": str(other_order), "model.pretrained": str(run.path)})
    assert tuple(init_of(train(changed, out=tmp_path / "run"))["fresh"]) == CLASSIFIER


def test_the_preprocessing_travels_with_what_agrees(recipe, run, tmp_path):
    grey = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    ours = create("tsn_resnet_tiny", num_classes=10)
    ours.preprocessing = grey
    checkpoint.save(tmp_path, ours, torch.optim.SGD(ours.parameters(), lr=0.1), checkpoint.State(step=1))
    started = api.recipe_of(recipe, init=tmp_path / "step-00000001" / "model.safetensors")
    assert build.model(started, 10, tell=lambda loaded: None).preprocessing == grey


def test_any_checkpoint_of_a_run_can_be_named(recipe, best):
    for name, value in {
        "": "step-00000006", "checkpoints/last": "step-00000006", "checkpoints/best": "step-00000001",
        "checkpoints/step-00000001": "step-00000001", "checkpoints/step-00000006/model.safetensors": "step-00000006",
    }.items():  # fmt: skip
        assert build.weights_file(str(best / name)) == best / "checkpoints" / value / "model.safetensors"
    manifest = Manifest.load(recipe.data.manifest)
    starts = [
        build.resolve(replace(recipe, {"model.pretrained": str(best / name)}), Runtime(), manifest)
        for name in ("", "checkpoints/best")
    ]
    assert fingerprint(starts[0]) != fingerprint(starts[1])
    last, better = (build.model(start, 10, classes=manifest.classes) for start in starts)
    assert torch.allclose(better.fc.bias, last.fc.bias + 1)


def test_a_file_in_a_folder_of_that_name_is_just_a_file(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "resnet18.pth"
    file.touch()
    assert build.weights_file(str(file)) == file


def test_other_parts_of_the_same_weights_are_another_recipe(recipe, run):
    manifest = Manifest.load(recipe.data.manifest)
    whole, agreeing = (
        build.resolve(api.recipe_of(recipe, **option), Runtime(), manifest)
        for option in ({"pretrained": run.path}, {"init": run.path})
    )
    assert fingerprint(whole) != fingerprint(agreeing)


def test_a_begun_run_is_resumed_when_the_weights_it_started_from_are_gone(recipe, run, tmp_path, monkeypatch):
    source = tmp_path / "source.safetensors"
    safetensors.torch.save_file(weights(run), source)

    from muybridge.training import loop as training

    step = training.training_step

    def stop(*arguments, **keywords):
        if checkpoint.exists(tmp_path / "run" / "checkpoints"):
            raise KeyboardInterrupt
        return step(*arguments, **keywords)

    monkeypatch.setattr(training, "training_step", stop)
    started = api.recipe_of(recipe, init=source)
    with pytest.raises(KeyboardInterrupt):
        train(started, out=tmp_path / "run", runtime=Runtime(checkpoint_steps=1))
    monkeypatch.undo()
    source.unlink()
    again = resume(tmp_path / "run")
    assert again.is_finished
    assert again.recipe().model.pretrained_sha256 is not None
    with pytest.raises(UserError, match=r"weights '.*source\.safetensors': .* by --pretrained or --init"):
        train(again.recipe(), out=tmp_path / "anew")


def refused(arguments, message):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    return result


def test_what_cannot_start_a_run_is_told_before_anything_is_written(recipe, run, tmp_path):
    beginning, empty = tmp_path / "beginning", tmp_path / "empty"
    beginning.mkdir()
    empty.mkdir()
    shutil.copy(run.path / "recipe.json", beginning)
    vgg = tmp_path / "vgg.safetensors"
    names = {f"features.{i}.weight": torch.ones(64, 3, 3, 3) for i in range(4)}
    names |= {"fc.weight": torch.ones(10, 7), "fc.bias": torch.ones(10)}
    safetensors.torch.save_file(names, vgg)
    train = ["train", run.path / "recipe.json", "--out", tmp_path / "run"]
    refused([*train, "--init", empty], "has no recipe.json")
    refused([*train, "--init", beginning], "it has no checkpoint yet")
    refused([*train, "--init", tmp_path / "nothing"], "not a file, not a URL, and not among those published")
    refused(
        [*train, "--init", vgg], "weights (tensors under their own names): nothing of them agrees with tsm_resnet_tiny"
    )
    refused(
        [*train, "--init", run.path, "--pretrained", run.path],
        "--pretrained takes weights whole, --init as far as they agree",
    )
    refused([*train, "--init", ""], "the name is empty")
    refused(["train", "--resume", run.path, "--init", run.path], "--init: it does not apply to --resume")
    assert not (tmp_path / "run").exists()


def test_compare_starts_every_model_alike(recipe, run, made_set, tmp_path):
    (tmp_path / "recipe.json").write_text((run.path / "recipe.json").read_text())
    result = CliRunner().invoke(app, [
        "compare", "--models", "tsn_resnet_tiny,tam_resnet_tiny", "--data", str(made_set), "--out", str(tmp_path / "study"),
        "--recipe", str(tmp_path / "recipe.json"), "--init", str(run.path), "--json",
        *(word for name, value in STILL.items() for word in ("--set", f"{name}={value}")),
    ])  # fmt: skip
    assert result.exit_code == 0, result.stderr
    fresh = {
        folder.name: set(read_json(folder / "init.json")["fresh"]) for folder in (tmp_path / "study" / "runs").iterdir()
    }
    assert fresh.keys() == {"tsn_resnet_tiny-seed0", "tam_resnet_tiny-seed0"}
    assert fresh["tsn_resnet_tiny-seed0"] == set()
    assert fresh["tam_resnet_tiny-seed0"]
    assert all(".before." in name for name in fresh["tam_resnet_tiny-seed0"])
