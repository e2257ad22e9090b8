"""A comparison: one protocol, nothing run twice, nothing mixed."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

import muybridge
from muybridge.data import manifest
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.recipe import diff, replace
from muybridge.recipe.shipped import demo as demo_recipe
from muybridge.storage.study import StudyRecord
from muybridge.studies import demo
from muybridge.studies.plan import of_models
from muybridge.zoo import registry


@pytest.fixture(scope="module")
def counts():
    """Manifests that were read, and networks that were built, by name."""
    return {"manifests": [], "networks": Counter()}


@pytest.fixture(scope="module")
def study(recipe, tmp_path_factory, counts):
    out = tmp_path_factory.mktemp("study")
    read, build = manifest._read_about, registry._builder

    def counted_read(path):
        counts["manifests"].append(path)
        return read(path)

    def counted_build(name):
        counts["networks"][name] += 1
        return build(name)

    manifest._load.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "_read_about", counted_read)
        patch.setattr(registry, "_builder", counted_build)
        return muybridge.compare(
            ["tsn_resnet_tiny", "tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=out, seeds=(0, 1)
        )


def test_a_manifest_is_read_once_and_a_network_built_once_more_than_it_is_trained(study, counts):
    assert len(counts["manifests"]) == 1
    assert counts["networks"] == {"tsn_resnet_tiny": 3, "tsm_resnet_tiny": 3}  # two seeds each, and an outline


def test_runs_and_report(study):
    assert [run.name for run in study.runs] == [
        "tsn_resnet_tiny-seed0", "tsn_resnet_tiny-seed1", "tsm_resnet_tiny-seed0", "tsm_resnet_tiny-seed1",
    ]  # fmt: skip
    assert all(run.is_finished for run in study.runs)
    page = study.report.read_text()
    assert "tsn_resnet_tiny" in page
    assert {file.suffix for file in study.path.glob("report.*")} == {".html", ".md", ".json", ".files"}


def test_a_finished_run_is_not_run_again_and_a_lost_one_is(study, recipe):
    stamps = {run.name: (run.path / "result.json").stat().st_mtime_ns for run in study.runs}
    (study.runs[1].path / "result.json").unlink()  # as if it had been stopped before the end
    again = muybridge.compare(
        ["tsn_resnet_tiny", "tsm_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=study.path, seeds=(0, 1)
    )
    changed = [run.name for run in again.runs if (run.path / "result.json").stat().st_mtime_ns != stamps[run.name]]
    assert changed == ["tsn_resnet_tiny-seed1"]


def test_another_recipe_in_the_same_folder_is_refused(study, recipe):
    with pytest.raises(UserError, match=r"optim\.lr was 0\.02, is 0\.03"):
        muybridge.compare(
            ["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=replace(recipe, {"optim.lr": 0.03}), out=study.path
        )


def test_a_study_grows(study, recipe):
    grown = muybridge.compare(["tam_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=study.path)
    assert [run.name for run in grown.runs] == [*(run.name for run in study.runs), "tam_resnet_tiny-seed0"]
    assert {model.name for model in grown.comparison.models} == {
        "tsn_resnet_tiny",
        "tsm_resnet_tiny",
        "tam_resnet_tiny",
    }


def test_a_study_of_an_earlier_version_grows(study, recipe, tmp_path):
    """Its study.json has names alone."""
    shutil.copytree(study.path, tmp_path / "old")
    names = ["tsn_resnet_tiny-seed0", "tsm_resnet_tiny-seed0"]
    (tmp_path / "old" / "study.json").write_text(json.dumps({"format_version": 1, "title": "t", "runs": names}))
    grown = muybridge.compare(
        ["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "old", seeds=(1,)
    )
    assert {model.name: model.num_seeds for model in grown.comparison.models} == {
        "tsn_resnet_tiny": 2, "tsm_resnet_tiny": 1,
    }  # fmt: skip
    assert grown.comparison.differences == {}


def test_a_study_is_measured_and_diagnosed_once(study, recipe, tmp_path, monkeypatch):
    """Of each setting one run is measured, every run is diagnosed, and the report has it."""
    shutil.copytree(study.path, tmp_path / "s")
    asked = {"data": recipe.data.manifest, "recipe": recipe, "out": tmp_path / "s", "seeds": (0, 1)}
    found = muybridge.compare(["tsm_resnet_tiny"], **asked, measure=True, diagnose=True)
    known = {run.name: (run.speed() is not None, run.diagnosis() is not None) for run in found.runs}
    assert known["tsn_resnet_tiny-seed0"] == known["tsn_resnet_tiny-seed1"] == (False, False), "not asked for"
    assert (known["tsm_resnet_tiny-seed0"], known["tsm_resnet_tiny-seed1"]) == ((True, True), (False, True))
    row = next(model for model in found.comparison.models if model.name == "tsm_resnet_tiny")
    assert row.speed["peak_memory_bytes"] > 0
    assert row.diagnosed.correct["shuffled"].shape == (2, row.num_videos)
    assert row.diagnosed.accuracy("ordered") == row.accuracy.value, "the same clips, in their order"
    page = found.report.read_text()
    assert "Frame order" in page
    assert "Not diagnosed: " in page
    monkeypatch.setattr("muybridge.studies.work.measure_run", lambda *_, **__: pytest.fail("measured twice"))
    monkeypatch.setattr("muybridge.studies.work.diagnosis.diagnose", lambda *_, **__: pytest.fail("diagnosed twice"))
    muybridge.compare(["tsm_resnet_tiny"], **asked, measure=True, diagnose=True)
    measured = []

    def measure_run(run, *, largest, **_):
        measured.append((run.name, largest))
        run.save_speed(run.speed() | {"max_batch_size": 77})

    monkeypatch.setattr("muybridge.studies.work.measure_run", measure_run)
    for _ in range(2):
        found = muybridge.compare(["tsm_resnet_tiny"], **asked, largest=True)
    assert measured == [("tsm_resnet_tiny-seed0", True)], "anew, as the largest batch was not known, and once"
    costs = (found.path / "report.files" / "costs.csv").read_text().splitlines()
    assert next(line for line in costs if line.startswith("tsm_resnet_tiny")).split(",")[5] == "77"


def test_the_runs_of_a_study_are_diagnosed_by_its_folder(study, tmp_path):
    shutil.copytree(study.path, tmp_path / "s")
    every = muybridge.diagnose([tmp_path / "s"], split="val")
    assert [one.run.name for one in every] == list(StudyRecord.load(tmp_path / "s").runs)
    assert all(one.run.diagnosis() == one.as_json() for one in every)
    with pytest.raises(UserError, match="it is a study"):
        muybridge.diagnose(tmp_path / "s")


def test_what_compare_varies_cannot_be_set(recipe, tmp_path):
    for name in ("seed", "data.fold", "model.name"):
        with pytest.raises(UserError, match=f"{name}: compare varies"):
            muybridge.compare(["tsn_resnet_tiny"], data=recipe.data.manifest, out=tmp_path / "s", changes={name: 1})


def test_every_model_of_a_study_sees_the_same_clips(study):
    orders = {run.name: run.trained_on()["id"].tolist() for run in study.runs}
    assert len({tuple(order) for order in orders.values()}) == 1


def test_recipes_of_a_study_differ_in_model_seed_and_fold_only(recipe):
    plan = of_models(["a", "b"], recipe=recipe, data=["set.csv"])
    plan = plan.repeated(seeds=(0, 1), folds={"set.csv": (1, 2)})
    assert len(plan.runs) == 8
    for planned in plan.runs.values():
        assert set(diff(recipe, planned.recipe)) <= {"model.name", "seed", "data.fold", "data.manifest"}


def test_the_demo_compares_five_models_under_one_recipe():
    shorter = replace(demo_recipe(), demo.SHORTER)
    plan = list(of_models(demo.MODELS, recipe=shorter, data=["set.csv"]).runs.values())
    assert len(plan) == 5
    assert {planned.recipe.model.name.split("_")[0] for planned in plan} == {"tsn", "tsm", "tam", "i3d", "s3d"}
    for planned in plan[1:]:
        assert set(diff(plan[0].recipe, planned.recipe)) == {"model.name"}


def test_a_demo_does_not_go_on_in_the_folder_of_another(tmp_path):
    (tmp_path / "demo" / f"videos-{demo.CLIPS}-seed0").mkdir(parents=True)
    with pytest.raises(
        UserError, match=f"videos-{demo.CLIPS}-seed0 there belongs to another demo. Choose another --out"
    ):
        muybridge.demo(tmp_path / "demo", quick=True)


@pytest.mark.slow
def test_the_quick_demo_shows_what_the_demo_shows(tmp_path):
    study = muybridge.demo(tmp_path / "demo", quick=True)
    (comparison,) = study.comparisons.values()
    within = {model.name: model.within_pairs(comparison.pairs).value for model in comparison.models}
    assert within["tam_resnet_tiny"] >= 0.9
    assert within["tsn_resnet_tiny"] == pytest.approx(0.5, abs=0.1)


def test_wrong_models_stop_before_anything_is_trained(recipe, tmp_path):
    with pytest.raises(UserError, match="tsm_resnet_tiny"):
        muybridge.compare(
            ["tsn_resnet_tiny", "tsm_resnet_tny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study"
        )
    assert not (tmp_path / "study").exists()
    with pytest.raises(UserError, match="at least 8 frames"):
        muybridge.compare(
            ["tsn_resnet_tiny"],
            data=recipe.data.manifest,
            recipe=replace(recipe, {"model.temporal_pooling": True}),
            out=tmp_path / "study",
        )
    with pytest.raises(UserError, match="no fold 3"):
        muybridge.compare(
            ["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study", folds=(3,)
        )
    with pytest.raises(UserError, match="at least one model"):
        muybridge.compare([], data=recipe.data.manifest, out=tmp_path / "study")


def test_folds_that_test_a_video_twice_are_refused_before_training(recipe, made_set, tmp_path):
    """As those of HMDB51 do: they are no cross-validation."""
    manifest = Manifest.load(made_set)
    columns = {name: column for name, column in manifest.columns.items() if name != "split"}
    columns |= {f"split_{fold}": manifest.columns["split"] for fold in (1, 2)}
    columns["path"] = np.array([str(manifest.row(i).path) for i in range(len(manifest))], dtype="S")
    Manifest(columns, manifest.classes, manifest.root, manifest.mirror).save(tmp_path / "twice.csv")
    twice = replace(recipe, {"data.manifest": str(tmp_path / "twice.csv")})
    with pytest.raises(UserError, match=r"test \d+ videos more than once.*--folds 1"):
        muybridge.compare(["tsn_resnet_tiny"], data=twice.data.manifest, recipe=twice, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_the_folder_of_a_run_becomes_no_study(run, recipe):
    before = sorted(path.name for path in run.path.iterdir())
    with pytest.raises(UserError, match="it is the folder of a run"):
        muybridge.compare(["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=run.path)
    assert sorted(path.name for path in run.path.iterdir()) == before
