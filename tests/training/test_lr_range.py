"""The range test of the learning rate: the recipe's own steps, the same numbers every time, a picture and nothing else."""

import json
from itertools import pairwise

import pytest
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.errors import UserError
from muybridge.recipe import replace, to_json
from muybridge.training import lr_range
from muybridge.training.lr_range import RANGES


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(lr_range, "NUM_STEPS", 14)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_same_recipe_gives_the_same_numbers(recipe, run, optimizer):
    of = replace(recipe, {"optim.optimizer": optimizer})
    found = lr_range.lr_range(of)
    assert found.rates[0] == pytest.approx(RANGES[optimizer][0])
    assert found.rates[-1] == pytest.approx(RANGES[optimizer][1]) or found.has_diverged or len(found.rates) < 14
    assert all(b / a == pytest.approx(found.rates[1] / found.rates[0]) for a, b in pairwise(found.rates))
    assert found.losses[0] == run.metrics("start")[0]["loss"], "the first step is that of the training"
    if optimizer == "sgd":
        assert lr_range.lr_range(of) == found
        assert lr_range.lr_range(replace(of, {"seed": 1})).losses != found.losses


@pytest.mark.parametrize("ending", [".svg", ".png", ".html"])
def test_a_picture_and_its_numbers_are_all_that_is_written(recipe, tmp_path, ending):
    (tmp_path / "recipe.json").write_text(to_json(replace(recipe, {"optim.lr_batch_size": 64})))
    out = tmp_path / "made" / f"lr{ending}"
    words = ["train", str(tmp_path / "recipe.json"), "--find-lr", "--out", str(out), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in out.parent.iterdir()) == sorted([out.name, "lr.json"])
    stored = json.loads((out.parent / "lr.json").read_text())
    assert len(stored["rates"]) == len(stored["losses"]) == len(stored["smoothed"])
    assert stored["recipe_lr"] == pytest.approx(0.02 * 16 / 64)
    assert json.loads(result.stdout) == {"picture": str(out), **stored}
    head = {".svg": b"<svg", ".png": b"\x89PNG", ".html": b"<!DOCTYPE html>"}[ending]
    assert out.read_bytes().startswith(head)
    if ending == ".html":
        assert b'src="http' not in out.read_bytes(), "it opens offline"
    again = CliRunner().invoke(app, words[:-1])
    assert again.exit_code == 2
    assert "it exists already" in again.output.replace("\n", "")


def test_what_cannot_be_is_refused_before_anything_is_computed(recipe, run, tmp_path, monkeypatch):
    monkeypatch.setattr(lr_range, "training_step", lambda *a, **named: pytest.fail("computed"))
    with pytest.raises(UserError, match="does not end as a picture does"):
        muybridge.find_lr(recipe, out=tmp_path / "folder")
    for words, said in (
        (["train", "--find-lr"], "--out: it is missing"),
        (["train", "--resume", str(run.path), "--find-lr"], "--find-lr: it does not apply to --resume"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert said in result.output.replace("\n", " ")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match="one process"):
        muybridge.find_lr(recipe, out=tmp_path / "lr.svg")


def test_a_loss_that_is_not_finite_ends_the_test(recipe, monkeypatch):
    losses = iter([2.3, 2.2, float("nan")])
    monkeypatch.setattr(lr_range, "training_step", lambda model, optimizer, batch, *a, **named: (
        next(losses) * len(batch.rows_B), 0))  # fmt: skip
    assert len(lr_range.lr_range(recipe).losses) == 2
    losses = iter([float("inf")])
    with pytest.raises(UserError, match="not finite at the first step"):
        lr_range.lr_range(recipe)
