"""Races: who gets no more seeds, by what, and what the report says of it."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_scores, make_run

from muybridge import api
from muybridge.analysis.racing import level, validated
from muybridge.errors import UserError
from muybridge.recipe import to_json
from muybridge.storage.run import Run
from muybridge.studies import race as racing
from muybridge.studies import workplace

MODELS = ("tsn_resnet_tiny", "tsm_resnet_tiny", "tam_resnet_tiny")
ACCURACY = {"tsn_resnet_tiny": 0.3, "tsm_resnet_tiny": 0.8, "tam_resnet_tiny": 0.8}


@pytest.fixture
def trained(monkeypatch):
    """The runs that were trained, in order: each is made, with the accuracy on val of its model."""
    runs = []

    def finish(run, job, **named):
        runs.append(run.name)
        model, seed = job.recipe.model.name, job.recipe.seed
        if run.path.is_dir():
            run.path.rmdir()
        make_run(run.path, model=model, seed=seed, accuracy=ACCURACY[model], videos=120, classes=job.manifest.classes)
        (run.path / "recipe.json").write_text(to_json(job.recipe))
        right_N = np.random.default_rng([seed, len(model), ord(model[2])]).random(120) < ACCURACY[model]
        run.save_scores("val", made_scores(right_N, classes=job.manifest.classes))
        return run

    monkeypatch.setattr(workplace, "finish", finish)
    return runs


def compare(recipe, out, **named):
    return api.compare(MODELS, data=recipe.data.manifest, recipe=recipe, out=out, race=True, **named)


def seeds_of(runs):
    return Counter(name.partition("-seed")[0] for name in runs)


def test_a_model_that_is_worse_on_val_gets_no_more_seeds(recipe, tmp_path, trained):
    compared = compare(recipe, tmp_path / "study", seeds=5)
    assert seeds_of(trained) == {"tsn_resnet_tiny": 3, "tsm_resnet_tiny": 5, "tam_resnet_tiny": 5}
    assert trained[:4] == [f"{model}-seed0" for model in MODELS] + ["tsn_resnet_tiny-seed1"], "by rounds"
    told = compared.comparison.as_json()["race"]
    assert [look["seeds"] for look in told["looks"]] == [3, 4]
    [stopped] = told["looks"][0]["stopped"]
    assert (stopped["row"], stopped["seeds"], stopped["saved_runs"]) == ("tsn_resnet_tiny", 3, 2)
    assert stopped["high"] < 0
    assert stopped["saved_seconds"] == pytest.approx(2 * 4.0), "a made run took 4 s"
    assert told["level"] == pytest.approx(0.025)
    by_name = {model.name: model.num_seeds for model in compared.comparison.models}
    assert by_name == {"tsn_resnet_tiny": 3, "tsm_resnet_tiny": 5, "tam_resnet_tiny": 5}, "it still appears"
    assert compared.comparison.about_models
    assert not any("Not finished" in note for note in compared.comparison.notes)
    text = (compared.path / "report.md").read_text()
    assert "Stopped: tsn_resnet_tiny. That saved 2 of 15 runs, about 8 s of training." in text


def test_a_race_that_was_stopped_decides_alike(recipe, tmp_path, trained, monkeypatch):
    made, calls = workplace.finish, []

    def until(run, job, **named):
        calls.append(run)
        if len(calls) > 11:
            raise KeyboardInterrupt
        return made(run, job, **named)

    monkeypatch.setattr(workplace, "finish", until)
    with pytest.raises(KeyboardInterrupt):
        compare(recipe, tmp_path / "study", seeds=5)
    listed = json.loads((tmp_path / "study" / "study.json").read_text())["runs"]
    assert "tsn_resnet_tiny-seed3" not in listed, "what will not be trained is not planned"
    monkeypatch.setattr(workplace, "finish", made)
    compare(recipe, tmp_path / "study", seeds=5)
    assert len(trained) == len(set(trained)) == 13
    before = json.loads((tmp_path / "study" / "race.json").read_text())
    again = compare(recipe, tmp_path / "study", seeds=5)
    assert len(trained) == 13
    assert json.loads((tmp_path / "study" / "race.json").read_text()) == before
    assert len(again.runs) == 13


def test_test_scores_decide_nothing(recipe, tmp_path, trained, monkeypatch):
    """All that a race reads is val: the report, which reads the test, does not begin here."""
    read, scores = [], Run.scores
    monkeypatch.setattr(Run, "scores", lambda run, name="test": read.append(name) or scores(run, name))

    def report(record):
        raise StopIteration

    monkeypatch.setattr("muybridge.studies.work.compared_study", report)
    with pytest.raises(StopIteration):
        compare(recipe, tmp_path / "study", seeds=5)
    assert set(read) == {"val"}
    assert seeds_of(trained)["tsn_resnet_tiny"] == 3


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"seeds": 3}, "nothing could be saved"),
        ({"seeds": 5, "race_from": 2}, "--race-from: 2 seeds say nothing"),
    ],
)
def test_a_race_that_cannot_be_is_refused(recipe, tmp_path, trained, named, message):
    with pytest.raises(UserError, match=message):
        compare(recipe, tmp_path / "study", **named)
    with pytest.raises(UserError, match="nobody to race with"):
        api.compare(
            ["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "s", race=True, seeds=5
        )
    with pytest.raises(UserError, match="starts from another run"):
        api.compare(MODELS, data=recipe.data.manifest, study="mini", out=tmp_path / "s", race=True, seeds=5)
    assert trained == []
    assert not (tmp_path / "study").exists()


def test_looks_share_the_level():
    assert level(5, 3) == pytest.approx(0.025)
    assert level(10, 3) == pytest.approx(0.05 / 7)
    assert level(4, 3) == pytest.approx(0.05)


def test_a_video_in_val_of_two_folds_is_one_unit(tmp_path):
    """Two folds that validate on the same 60 videos know no more of other videos than one of them."""

    def runs(folds):
        made = []
        for seed in range(2):
            of_seed = []
            for fold in folds:
                run = make_run(tmp_path / f"{len(folds)}-{seed}-{fold}", seed=seed, fold=fold)
                right_N = np.random.default_rng(seed).random(60) < 0.7
                run.save_scores("val", made_scores(right_N))
                of_seed.append(run)
            made.append(of_seed)
        return made

    one, two = (validated({"a": runs(folds)})["a"] for folds in ((1,), (1, 2)))
    assert (one.num_units, two.num_units) == (60, 60)
    assert two.num_videos == 120
    assert two.units_variance == pytest.approx(one.units_variance)
    assert two.value == pytest.approx(one.value)


def test_seeds_that_skipped_videos_are_compared_on_common_ones(tmp_path):
    runs = []
    for seed, videos in enumerate((60, 50)):
        run = make_run(tmp_path / str(seed), seed=seed)
        run.save_scores("val", made_scores(np.arange(videos) < 25))
        runs.append([run])
    sample = validated({"a": runs})["a"]
    assert sample.moves_SG.shape == (2, 50)
    assert sample.value == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("videos", "sd", "seeds", "alike"), [(100, 0.01, 5, True), (400, 0.01, 5, True), (400, 0.0, 5, False)]
)
def test_few_races_of_equal_models_stop_any(videos, sd, seeds, alike):
    """benchmarks/simulate.py has the table; here 1,000 races, with their error (two of 0.7 points) above 5 %."""
    told = simulate().races(np.random.default_rng(1), 1000, models=5, videos=videos, seeds=seeds, sd=sd, alike=alike)
    assert told["wrongly"] <= 0.064
    assert told["false_alarms"] <= 0.064, "and unequal numbers of seeds make the report no bolder"


@pytest.mark.slow
def test_a_model_that_is_much_worse_is_stopped():
    told = simulate().races(np.random.default_rng(1), 200, models=5, videos=400, seeds=5, sd=0.01, worse=10)
    assert told["rightly"] > 0.8
    assert told["saved"] > 0.05


def simulate():
    import importlib.util

    file = Path(__file__).parents[2] / "benchmarks" / "simulate.py"
    spec = importlib.util.spec_from_file_location("simulate", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_are_settings_of_each_set(recipe):
    plan = api.plan(MODELS[:2], data=recipe.data.manifest, recipe=recipe, seeds=3)
    [(data, rows)] = racing._rows_of_sets(plan).items()
    assert data == "set"
    assert {row: list(of_row) for row, of_row in rows.items()} == {name: [0, 1, 2] for name in MODELS[:2]}
