"""Plans, the shipped studies, and what runs them: what starts from what, what is searched on val, what goes on."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
from typer.testing import CliRunner

import muybridge
from muybridge import api
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import motions
from muybridge.errors import UserError
from muybridge.recipe import diff, replace, to_json
from muybridge.recipe.shipped import five_class, mini
from muybridge.storage.run import Run
from muybridge.storage.study import StudyRecord
from muybridge.studies import run as study
from muybridge.studies import workplace
from muybridge.studies.plan import Plan, Planned, data_name, of_models, parse_only, repeated
from muybridge.studies.shipped import MODELS_2021, SHIPPED, of
from muybridge.training import estimate
from muybridge.training import loop as training
from muybridge.training.speed import Speed

TINY = {
    "clip.size": 32, "clip.short_side": 36, "optim.batch_size": 16, "model.dropout": 0.0, "augment.crop": "center",
    "precision": "fp32",
}  # fmt: skip
SHORT = 0.01  # one epoch of each schedule
runner = CliRunner()


def call(*words):
    return runner.invoke(app, [str(word) for word in words])


def options(changes):
    return [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def other_set(tmp_path_factory):
    return motions(tmp_path_factory.mktemp("motions") / "other", clips=60, seed=4).manifest


# --- plans


def test_the_study_of_2021_has_every_setting_once_and_each_starts_from_half_its_frames():
    plan = of("study_2021", data=["ssv2.csv", "mini_kinetics.csv"])
    assert len(plan.runs) == 2 * 192
    settings = {tuple(sorted(planned.axes.items())) for planned in plan.runs.values()}
    assert len(settings) == 2 * 192
    assert {planned.recipe.model.name for planned in plan.runs.values()} == set(MODELS_2021)
    for planned in plan.runs.values():
        frames = planned.axes["num_frames"]
        if frames == 8:
            assert planned.starts_from is None
            assert planned.recipe.model.pretrained == "imagenet"
        else:
            base = plan.runs[planned.starts_from]
            assert {**base.axes, "num_frames": frames} == {**planned.axes}
            assert base.axes["num_frames"] == frames // 2
        recipe = mini(frames, kinetics=planned.axes["data"] == "mini_kinetics")
        assert set(diff(recipe, planned.recipe)) <= {
            "data.manifest", "model.name", "model.temporal_pooling", "clip.sampling",
        }  # fmt: skip
        assert planned.recipe.clip.sampling == planned.axes["sampling"]
        assert planned.recipe.model.temporal_pooling == planned.axes["temporal_pooling"]


def test_a_filter_takes_a_slice_and_what_it_starts_from():
    plan = of("study_2021", data=["ssv2.csv"])
    chosen = parse_only(["method=tam,tsn", "backbone=resnet50", "num_frames=16,8", "temporal_pooling=False"])
    part, kept = plan.only({**chosen, "sampling": ["dense"]})
    assert list(part.runs) == [f"{m}_resnet50-{f}f-dense" for m in ("tsn", "tam") for f in (8, 16)]
    assert kept == []
    part, kept = plan.only({"model": ["i3d_resnet18"], "num_frames": [32], "temporal_pooling": [True]})
    assert [name for name in part.runs if name not in kept] == ["i3d_resnet18-32f-tp", "i3d_resnet18-32f-tp-dense"]
    assert {plan.runs[name].axes["num_frames"] for name in kept} == {8, 16}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"num_frame": ["8"]}, "no axis 'num_frame'. Did you mean 'num_frames'"),
        ({"num_frames": ["9"]}, "num_frames=9"),
        ({"method": ["tsm"]}, "method=tsm. Did you mean .*'tsn'"),
        ({"model": ["tsn_resnet50"], "method": ["tam"]}, "model=tsn_resnet50 and method=tam at once"),
    ],
)
def test_a_filter_names_what_no_run_has(chosen, message):
    with pytest.raises(UserError, match=message):
        of("study_2021", data=["ssv2.csv"]).only(chosen)
    with pytest.raises(UserError, match="is not AXIS=VALUE"):
        parse_only(["num_frames"])


def test_shorten_and_set_reach_every_run_but_not_what_the_study_varies():
    plan = of("mini", data=["ssv2.csv"], models=("tam_resnet50",))
    short = plan.changed({"optim.lr": 0.5}, shorten=0.2)
    assert [planned.recipe.optim.epochs for planned in short.runs.values()] == [15, 7, 7, 7]
    assert short.runs["tam_resnet50-64f"].recipe.optim.milestones == (2.0, 4.0, 6.0)
    assert {planned.recipe.optim.lr for planned in short.runs.values()} == {0.5}
    with pytest.raises(UserError, match=r"clip\.num_frames: this study varies it.*--only num_frames="):
        plan.changed({"clip.num_frames": 4})
    with pytest.raises(UserError, match=r"model\.pretrained: this study varies it"):
        of("pretraining", data=["ssv2.csv"]).changed({"model.pretrained": None})


def test_a_run_starts_from_the_one_of_its_seed_and_fold():
    plan = of("mini", data=["a.csv"], models=("tam_resnet50",), num_frames=(8, 16))
    plan = plan.repeated(seeds=(0, 7), folds={"a.csv": (1, 2)})
    assert len(plan.runs) == 8
    for name, planned in plan.runs.items():
        assert (planned.recipe.seed, planned.recipe.data.fold) == (planned.axes["seed"], planned.axes["fold"])
        if "16f" in name:
            assert planned.starts_from == name.replace("16f", "8f")
    away = of("transfer", data=["a.csv", "b.csv"], models=("tam_resnet50",))
    away = away.repeated(seeds=(0,), folds={"a.csv": (3, 4), "b.csv": (1, 2)})
    assert away.runs["b-tam_resnet50-from-a-seed0-fold2"].starts_from == "a-tam_resnet50-seed0-fold3"
    assert away.runs["b-tam_resnet50-scratch-seed0-fold2"].starts_from is None


def test_plans_are_checked_when_they_are_made(recipe):
    def plan(**starts):
        return Plan("a plan", {name: Planned(recipe, {}, start) for name, start in starts.items()})

    assert plan(c="b", a=None, b="a").order() == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"run c: it starts from 'bb', which the plan does not have\. Did you mean 'b'"):
        plan(c="bb", b=None)
    with pytest.raises(UserError, match="starts from itself"):
        plan(a="c", b="a", c="b")
    with pytest.raises(UserError, match=r"x/set\.csv and y/set\.csv are both called 'set'"):
        of_models(["a"], recipe=recipe, data=["x/set.csv", "y/set.csv"])


def test_a_set_has_one_name_wherever_one_stands(made_set, monkeypatch):
    monkeypatch.chdir(made_set.parent)
    assert data_name("manifest.csv") == data_name(made_set) == "set"
    assert data_name("ssv2.csv") == "ssv2"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_study_says_its_source_and_makes_valid_plans(name):
    assert "Source: " in SHIPPED[name].__doc__
    assert "Published: " in SHIPPED[name].__doc__
    plan = of(name, data=["a.csv", "b.csv"])
    for planned in plan.runs.values():
        of_set = "a.csv" if plan.has_streams else planned.recipe.data.manifest  # streams are of the first one's set
        assert planned.axes["data"] == Path(of_set).stem
        assert planned.axes["model"] == planned.recipe.model.name
        assert set(planned.axes) <= set(plan.varies)


def test_pretraining_and_equal_time_differ_in_one_thing(made_set):
    plan = of("pretraining", data=["a.csv"], models=("i3d_resnet50",))
    with_, without = plan.runs.values()
    assert diff(with_.recipe, without.recipe) == {"model.pretrained": ("imagenet", None)}
    plan = of("equal_time", data=["a.csv"])
    assert [planned.recipe.model.name for planned in plan.runs.values()] == ["i3d", "s3d", "s3dv3", "s3dv3_topheavy"]
    for planned in plan.runs.values():
        assert set(diff(five_class(), planned.recipe)) == {"data.manifest", "model.name"}
    with pytest.raises(UserError, match=r"leaves stop\.max_hours open\. Give it: --set stop\.max_hours="):
        api.plan(data=made_set, study="equal_time", recipe="small")
    changes = {"stop.max_hours": 0.5, "optim.epochs": 4}
    given = api.plan(data=made_set, study="equal_time", recipe="small", changes=changes)
    assert {planned.recipe.stop.max_hours for planned in given.runs.values()} == {0.5}


def test_a_study_of_ones_own_and_a_dry_run(made_set, tmp_path, monkeypatch):
    speed = Speed(2, 40.0, 10.0, None, None, None, 1, "cpu", "", "fp32", 1)  # measured in tests of `train --dry-run`
    monkeypatch.setattr(estimate, "measure_recipe", lambda *_, **__: speed)
    (tmp_path / "mine.py").write_text(
        "from muybridge.recipe import replace\n"
        "from muybridge.recipe.shipped import small\n"
        "from muybridge.studies.plan import Plan, Planned, data_name\n"
        "def sizes(data, *, models=('tsm_resnet_tiny',)):\n"
        "    return Plan('Sizes', {\n"
        "        f'{model}-{size}': Planned(replace(small(), {'data.manifest': path, 'model.name': model, 'clip.size': size}),\n"
        "                                   {'data': data_name(path), 'model': model, 'size': size})\n"
        "        for path in data for model in models for size in (32, 64)}, {'size': ('clip.size',)})\n"
    )
    words = ["compare", "--study", f"{tmp_path / 'mine.py'}:sizes", "--data", made_set, "--out", tmp_path / "s"]
    listed = json.loads(call(*words, "--seeds", 2, "--only", "size=64", "--dry-run", "--json").stdout)
    assert [run["name"] for run in listed["runs"]] == ["tsm_resnet_tiny-64-seed0", "tsm_resnet_tiny-64-seed1"]
    assert listed["runs"][0]["axes"] == {"data": "set", "model": "tsm_resnet_tiny", "size": 64, "seed": 0}
    assert "tsm_resnet_tiny-32-seed0" in call(*words, "--dry-run").stdout
    listed = json.loads(call(*words, "--tune", 3, "--dry-run", "--json").stdout)
    assert {name: search["trials"] for name, search in listed["searches"].items()} == {
        "tsm_resnet_tiny-32": 3, "tsm_resnet_tiny-64": 3,
    }  # fmt: skip
    asked = {"study": f"{tmp_path / 'mine.py'}:sizes", "data": made_set}
    planned = muybridge.plan(**asked, out=tmp_path / "s", tune=3)
    measured = [run.pop("estimated_seconds") for run in listed["runs"]]
    assert all(seconds > 0 for seconds in measured)
    counted = planned.as_json()
    assert [run.pop("estimated_seconds") for run in counted["runs"]] == [None] * len(measured)
    assert counted == listed
    assert (counted["runs"][0]["steps"], counted["runs"][0]["epochs"]) == (1002, 334)
    with pytest.raises(UserError, match="search, tune, race, estimate, runtime: they are for a study's folder"):
        muybridge.plan(**asked, tune=3)
    wrong = call(*words, "--models", "tsm_resnet_tny", "--dry-run")
    assert (wrong.exit_code, "tsm_resnet_tiny" in wrong.stderr) == (2, True)
    wrong = call(*words, "--folds", 3, "--dry-run", "--json")
    assert (wrong.exit_code, "no fold 3" in json.loads(wrong.stdout)["error"]) == (2, True)
    assert not (tmp_path / "s").exists()
    wrong = call(*words, "--pretrained", "imagenet")
    assert wrong.exit_code == 2
    assert "does not take it. Use only data, models" in wrong.stderr
    assert "Did you mean 'mini'" in call(*words[:2], "min", *words[3:]).stderr
    assert "clip.size: this study varies it" in " ".join(call(*words, "--set", "clip.size=48").stderr.split())


def test_the_documents_example_is_a_study(tmp_path, made_set):
    page = Path(__file__).parents[2] / "docs" / "studies.md"
    (code,) = re.findall(r"```python\n(# mine.*?)```", page.read_text(), flags=re.S)
    (tmp_path / "mine.py").write_text(code)
    plan = of(f"{tmp_path / 'mine.py'}:sizes", data=[str(made_set)])
    assert {planned.recipe.clip.size for planned in plan.runs.values()} == {64, 96, 128}
    for name in SHIPPED:
        assert f"| `{name}` |" in page.read_text()


# --- running them


@pytest.fixture(scope="module")
def chain(made_set, tmp_path_factory):
    """The mini protocol at toy size, two seeds: 8 → 16 → 32 frames."""
    return api.compare(
        ["tsm_resnet_tiny"], data=made_set, out=tmp_path_factory.mktemp("chain") / "study", study="mini", seeds=2,
        only={"num_frames": [8, 16, 32]}, shorten=SHORT, changes={**TINY, "model.pretrained": None},
    )  # fmt: skip


def weights(run):
    return safetensors.torch.load_file(run.checkpoints / (run.checkpoints / "last").read_text() / "model.safetensors")


def test_runs_start_from_each_other(chain, made_set):
    record = StudyRecord.load(chain.path)
    assert len(chain.runs) == 6
    for name, known in record.runs.items():
        run = record.run(name)
        assert run.is_finished
        if known.starts_from is None:
            assert run.recipe().model.pretrained is None
            continue
        base = record.run(known.starts_from)
        assert Path(run.recipe().model.pretrained).resolve().is_relative_to(base.path.resolve())
        assert base.recipe().seed == run.recipe().seed
        # the batch norms' running means are a tenth of the way on at each step: the run began where the other ended
        before, after = weights(base), weights(run)
        steps = [k for k in after if k.endswith("num_batches_tracked")]
        assert {int(after[k] - before[k]) for k in steps} == {run.result()["steps"]}


def test_a_chain_is_reported_by_its_axes_and_is_not_called_unfair(chain):
    comparison = chain.comparison
    assert {model.name for model in comparison.models} == {
        f"tsm_resnet_tiny (num_frames={frames})" for frames in (8, 16, 32)
    }
    assert all(model.num_seeds == 2 for model in comparison.models)
    assert comparison.differences == {}
    assert {"clip.num_frames", "optim.schedule", "model.pretrained"} <= set(comparison.varied)
    page = chain.report.read_text()
    assert "Video accuracy by num_frames" in page
    assert "Protocol differences" not in page
    again = call("report", chain.path, "--json")
    assert json.loads(again.stdout)["varied"] == json.loads(json.dumps(comparison.varied))


def test_what_no_axis_sets_is_still_named(chain, tmp_path):
    """A run of the study in whose recipe someone changed a field that the study does not vary."""
    shutil.copytree(chain.path, tmp_path / "study")
    run = StudyRecord.load(tmp_path / "study").run("tsm_resnet_tiny-16f-seed0")
    changes = {"optim.momentum": 0.5, "optim.epochs": 2}
    (run.path / "recipe.json").write_text(to_json(replace(run.recipe(), changes)))
    answer = json.loads(call("report", tmp_path / "study", "--json").stdout)
    # num_frames sets epochs, but two runs of 16 frames have different ones now
    assert set(answer["differences"]) == {"optim.momentum", "optim.epochs"}
    assert len(answer["models"]) == 4, "two settings never pass for seeds of each other"


def test_a_finished_chain_is_not_run_again_and_a_lost_link_is(chain, made_set):
    def again():
        return api.compare(
            ["tsm_resnet_tiny"], data=made_set, out=chain.path, study="mini", seeds=2,
            only={"num_frames": [8, 16, 32]}, shorten=SHORT, changes={**TINY, "model.pretrained": None},
        )  # fmt: skip

    stamps = {run.name: (run.path / "result.json").stat().st_mtime_ns for run in chain.runs}
    (chain.path / "runs" / "tsm_resnet_tiny-16f-seed1" / "result.json").unlink()
    changed = [run.name for run in again().runs if (run.path / "result.json").stat().st_mtime_ns != stamps[run.name]]
    assert changed == ["tsm_resnet_tiny-16f-seed1"]
    with pytest.raises(UserError, match=r"another recipe \(optim\.momentum was 0\.9, is 0\.8"):
        api.compare(
            ["tsm_resnet_tiny"], data=made_set, out=chain.path, study="mini", shorten=SHORT,
            only={"num_frames": [8]}, changes={**TINY, "model.pretrained": None, "optim.momentum": 0.8},
        )  # fmt: skip


def test_a_moved_study_goes_on(chain, made_set, tmp_path):
    """Its runs name what they start from by a path that is no more."""
    shutil.copytree(chain.path, tmp_path / "moved")
    last = StudyRecord.load(tmp_path / "moved").run("tsm_resnet_tiny-16f-seed0")
    (last.path / "result.json").unlink()
    (last.path / "recipe.json").write_text(
        to_json(replace(last.recipe(), {"model.pretrained": str(tmp_path / "before" / "model.safetensors")}))
    )
    moved = api.compare(
        ["tsm_resnet_tiny"], data=made_set, out=tmp_path / "moved", study="mini", only={"num_frames": [8, 16]},
        shorten=SHORT, changes={**TINY, "model.pretrained": None},
    )  # fmt: skip
    assert last.is_finished
    assert Path(last.recipe().model.pretrained).is_relative_to(tmp_path / "moved")
    assert len(moved.runs) == 6


def test_a_stopped_study_goes_on(recipe, tmp_path, monkeypatch):
    whole = api.compare(
        ["tsn_resnet_tiny", "tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "whole"
    )
    done, step = [], training.training_step

    def until(*arguments, **named):
        done.append(None)
        if len(done) == 10:  # in the second run's second epoch
            raise KeyboardInterrupt
        return step(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(training, "training_step", until)
        with pytest.raises(KeyboardInterrupt):
            api.compare(
                ["tsn_resnet_tiny", "tsm_resnet_tiny"],
                data=recipe.data.manifest,
                recipe=recipe,
                out=tmp_path / "stopped",
            )
    first, second = (Run(tmp_path / "stopped" / "runs" / run.name) for run in whole.runs)
    assert first.is_finished
    assert not second.is_finished
    told = json.loads(call("report", tmp_path / "stopped", "--json").stdout)
    assert told["notes"] == [f"Not finished, and left out: {second.name}."]
    gone_on = api.compare(
        ["tsn_resnet_tiny", "tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "stopped"
    )
    for ours, theirs in zip(gone_on.runs, whole.runs, strict=True):
        assert ours.metrics_file.read_text() == theirs.metrics_file.read_text()


@pytest.mark.slow
def test_transfer_has_a_chapter_for_each_set(made_set, other_set, recipe, tmp_path):
    (tmp_path / "recipe.json").write_text(to_json(replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0})))
    out = tmp_path / "study"
    answer = call(
        "compare", "--study", "transfer", "--models", "tsm_resnet_tiny", "--data", f"{made_set},{other_set}",
        "--out", out, "--recipe", tmp_path / "recipe.json", "--json",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert Path(told["report"]) == out / "report.html"
    assert [of_set["data"] for of_set in told["sets"]] == ["set", "other"]
    assert {model["model"] for model in told["sets"][1]["models"]} == {
        "tsm_resnet_tiny (start=set)", "tsm_resnet_tiny (start=scratch)",
    }  # fmt: skip
    assert told["sets"][1]["differences"] == {}
    record = StudyRecord.load(out)
    moved, scratch = (record.run(f"other-tsm_resnet_tiny-{way}-seed0").recipe() for way in ("from-set", "scratch"))
    assert set(diff(moved, scratch)) == {"model.pretrained", "model.pretrained_sha256"}
    call("report", out, "--out", tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text().count('class="chapter"') == 2


def test_a_set_is_added_to_a_study_and_nothing_is_run_again(made_set, other_set, recipe, tmp_path, monkeypatch):
    recipe = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0, "optim.min_steps": 4})
    trained, finish = [], workplace.finish

    def noted(run, job, **named):
        trained.append(run.name)
        return finish(run, job, **named)

    monkeypatch.setattr(workplace, "finish", noted)

    def compare(*data, **named):
        return api.compare(["tsm_resnet_tiny"], data=data, out=tmp_path / "study", recipe=recipe, **named)

    compare(made_set)
    listed = api.plan(["tsm_resnet_tiny"], data=[other_set], recipe=recipe, out=tmp_path / "study").runs
    assert list(listed) == ["other-tsm_resnet_tiny-seed0"]
    compare(other_set)
    lines = Run(f"{tmp_path}/study/runs/other-tsm_resnet_tiny-seed0").metrics("train")
    epochs = [line["epoch"] for line in lines]
    assert (epochs[-1], listed["other-tsm_resnet_tiny-seed0"].budget.epochs) == (2, 2)
    assert trained == ["tsm_resnet_tiny-seed0", "other-tsm_resnet_tiny-seed0"]
    both = compare(made_set, other_set)
    assert len(trained) == 2, "called with both sets, it has the same runs"
    assert list(both.comparisons) == ["set", "other"]
    assert both.report.read_text().count('class="chapter"') == 2
    assert all(len(comparison.models) == 1 for comparison in both.comparisons.values())
    grown = compare(other_set, made_set, seeds=2)
    assert sorted(trained[2:]) == ["other-tsm_resnet_tiny-seed1", "tsm_resnet_tiny-seed1"]
    for comparison in grown.comparisons.values():
        (model,) = comparison.models
        assert model.num_seeds == 2


def test_an_earlier_run_that_did_not_finish_is_left_out_of_a_call_without_it(recipe, tmp_path):
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0})
    both = api.compare(
        ["tsn_resnet_tiny", "tsm_resnet_tiny"], data=short.data.manifest, recipe=short, out=tmp_path / "study"
    )
    (both.runs[0].path / "result.json").unlink()
    again = api.compare(["tsm_resnet_tiny"], data=short.data.manifest, recipe=short, out=tmp_path / "study")
    assert [run.name for run in again.runs] == ["tsm_resnet_tiny-seed0"]


def changeable(path):
    """A manifest of its own: what `load` gives is shared, and cannot be written."""
    manifest = Manifest.load(path)
    return dataclasses.replace(manifest, columns={name: column.copy() for name, column in manifest.columns.items()})


def turned_around(made_set, file):
    """A manifest of the same videos, whose training videos are the test videos, and the other way round."""
    turned = changeable(made_set)
    split = turned.columns["split"]
    was_test, was_train = split == b"test", split == b"train"
    split[was_test], split[was_train] = b"train", b"test"
    turned.save(file)
    return file


def test_nothing_starts_from_a_run_that_was_trained_on_its_test_videos(made_set, recipe, run, tmp_path):
    turned = replace(recipe, {"data.manifest": str(turned_around(made_set, tmp_path / "turned.csv"))})
    message = f"{run.path}: this run would start from its weights, but it was trained on 40 of the 40 test videos"
    for start in ({"init": run.path}, {"pretrained": run.path / "checkpoints" / "last"}):
        with pytest.raises(UserError, match=message):
            api.train(turned, **start, out=tmp_path / "run")
    with pytest.raises(UserError, match=message):
        api.compare(["tsm_resnet_tiny"], data=turned.data.manifest, init=run.path, recipe=turned, out=tmp_path / "run")
    with pytest.raises(UserError, match=message):
        api.compare(
            ["tsm_resnet_tiny"], data=turned.data.manifest, study="pretraining", pretrained=run.path, recipe=recipe,
            out=tmp_path / "run",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_chain_does_not_end_on_the_videos_that_its_start_was_trained_on(made_set, other_set, recipe, run, tmp_path):
    """From the run, by way of another set, to the set whose test videos the run was trained on."""
    data = [other_set, turned_around(made_set, tmp_path / "turned.csv")]
    with pytest.raises(UserError, match=f"would be tested on 40 videos that {run.path} was trained on"):
        api.compare(
            ["tsm_resnet_tiny"], data=data, study="transfer", pretrained=run.path, recipe=recipe, out=tmp_path / "study"
        )
    assert not (tmp_path / "study").exists()


def test_what_a_run_was_trained_on_carries_over_to_what_starts_from_it(made_set, other_set, recipe, run, tmp_path):
    """By way of two runs on other videos; in a figure of its own training videos they count as trained on."""
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0, "data.manifest": str(other_set)})
    first = api.train(short, pretrained=run.path, out=tmp_path / "first")
    second = api.train(short, init=first.path, out=tmp_path / "second")
    trained = run.trained_on()["sha256"].tolist()
    assert second.trained_on()["base_sha256"].tolist() == sorted({*trained, *first.trained_on()["sha256"].tolist()})
    turned = turned_around(made_set, tmp_path / "turned.csv")
    for later in (first, second):
        with pytest.raises(UserError, match="or a run that it builds upon, was trained on 40 of the 40 videos"):
            muybridge.evaluate(later, data=turned)
        assert muybridge.evaluate(later, data=made_set, split="train").num_trained_on == 40
        assert muybridge.evaluate(later, data=made_set).num_trained_on == 0
    with pytest.raises(UserError, match="was trained on 40 of the 40 test videos"):
        api.train(replace(short, {"data.manifest": str(turned)}), pretrained=second.path, out=tmp_path / "third")


def test_a_run_is_not_tested_on_what_it_was_trained_on_before(made_set, recipe, tmp_path):
    """A set to come from that trains on the videos on which the set to go to tests."""
    turned = turned_around(made_set, tmp_path / "turned.csv")
    plan = of("transfer", data=[str(turned), str(made_set)], models=("tsm_resnet_tiny",), recipe=recipe)
    with pytest.raises(UserError, match="would be tested on 10 videos that it was trained on before"):
        study.run(repeated(plan, seeds=(0,)), out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_pretraining_holds_weights_against_none(made_set, recipe, run, tmp_path):
    weights_file = tmp_path / "public.safetensors"
    weights_file.write_bytes(next(run.checkpoints.glob("step-*/model.safetensors")).read_bytes())
    compared = api.compare(
        ["tsm_resnet_tiny"], data=made_set, out=tmp_path / "study", study="pretraining", pretrained=weights_file,
        recipe=recipe, changes={"optim.epochs": 1, "optim.warmup_epochs": 0},
    )  # fmt: skip
    assert {model.name for model in compared.comparison.models} == {
        "tsm_resnet_tiny (pretrained=public.safetensors)", "tsm_resnet_tiny (pretrained=none)",
    }  # fmt: skip
    assert compared.comparison.differences == {}
    assert {run.recipe().model.pretrained for run in compared.runs} == {None, str(weights_file)}


def test_equal_time_tells_how_much_each_got_done(made_set, tmp_path):
    compared = api.compare(
        ["tsn_resnet_tiny", "i3d_resnet_tiny"], data=made_set, out=tmp_path / "study", study="equal_time",
        changes={**TINY, "clip.num_frames": 4, "optim.milestones": [0.0001], "stop.max_hours": 0.0002},
    )  # fmt: skip
    for model in compared.comparison.models:
        assert 0.0002 <= model.train_hours[0] < 0.0004
        assert model.epochs[0] == pytest.approx(model.steps[0] / 3)  # 42 videos are three batches of at most 16
        (run,) = model.runs
        assert [line["lr"] for line in run.metrics("train")][-1] == pytest.approx(0.1 * 0.01 * 16 / 5)
    page = compared.report.read_text()
    assert "Training duration" in page
    assert f"{compared.comparison.models[0].steps[0]:,}" in page
    assert "stop.max_hours: 0.0002 hours of training" in page


@pytest.mark.slow
def test_a_slice_of_the_study_of_2021(made_set, other_set, tmp_path):
    """Two methods, two sets, with and without temporal pooling, uniform and dense, 8 → 16 frames."""
    words = [
        "compare", "--study", "study_2021", "--models", "tsn_resnet_tiny,tam_resnet_tiny", "--data", made_set, "--data",
        other_set, "--only", "num_frames=8,16", "--out", tmp_path / "study", "--shorten", SHORT,
        *options({**TINY, "model.pretrained": "none"}),
    ]  # fmt: skip
    answer = call(*words, "--json")
    assert answer.exit_code == 0, answer.stderr
    first, second = json.loads(answer.stdout)["sets"]
    assert len(first["models"]) == len(second["models"]) == 2 * 2 * 2 * 2
    assert first["differences"] == {}
    names = {model["model"] for model in first["models"]}
    assert "tam_resnet_tiny (temporal_pooling=True, num_frames=16, sampling=dense)" in names
    pooled = StudyRecord.load(tmp_path / "study").run("other-tam_resnet_tiny-16f-tp-dense-seed0").recipe()
    assert pooled.model.temporal_pooling
    assert pooled.clip.sampling == "dense"


# --- real processes


def words_of(made_set, out):
    return [
        "compare", "--study", "mini", "--models", "tsm_resnet_tiny", "--data", str(made_set), "--out", str(out),
        "--only", "num_frames=8,16", "--shorten", "0.04", "--json",
        *options({**TINY, "model.pretrained": "none", "runtime.threads": 1}),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_killed_study_goes_on(made_set, tmp_path):
    command = [sys.executable, "-m", "muybridge", *words_of(made_set, tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    second = tmp_path / "killed" / "runs" / "tsm_resnet_tiny-16f-seed0" / "recipe.json"
    while not second.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (tmp_path / "killed" / "report.html").exists()
    subprocess.run(command, check=True, capture_output=True)
    whole = [sys.executable, "-m", "muybridge", *words_of(made_set, tmp_path / "whole")]
    subprocess.run(whole, check=True, capture_output=True)
    for name in ("tsm_resnet_tiny-8f-seed0", "tsm_resnet_tiny-16f-seed0"):
        killed, undisturbed = (Run(tmp_path / which / "runs" / name) for which in ("killed", "whole"))
        assert killed.metrics_file.read_text() == undisturbed.metrics_file.read_text()


@pytest.mark.slow
def test_two_processes_make_one_study(made_set, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "muybridge",
    ]
    command = [*launcher, *words_of(made_set, tmp_path / "study"), "--tune", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["models"]) == 2, "one of them speaks"
    for run in (tmp_path / "study" / "runs").iterdir():
        assert Run(run).environment()["processes"] == 2
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(done.stdout)
