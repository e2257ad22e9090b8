"""Two streams: every model on each input, and both fused; a study that is resumed, grown and fused again."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.stores.pack import pack
from muybridge.errors import UserError
from muybridge.recipe import Recipe, replace
from muybridge.storage.run import Run
from muybridge.storage.study import STREAM, StudyRecord
from muybridge.studies.shipped import SHIPPED, of
from muybridge.studies.two_streams import parsed_streams
from muybridge.training import loop

TINY = {
    "clip.size": 32, "clip.num_frames": 4, "clip.short_side": 36, "optim.batch_size": 16,
    "augment.crop": "center", "precision": "fp32", "optim.warmup_epochs": 0,
}  # fmt: skip


def options(changes):
    return [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def packed(made_set, tmp_path_factory):
    """The same videos in another place."""
    return pack(made_set, out=tmp_path_factory.mktemp("packs") / "pack").path / "manifest.csv"


def compared(out, made_set, streams=("rgb", "rgb_difference"), **asked):
    return muybridge.compare(
        ["tsn_resnet_tiny"], data=made_set, streams=streams, out=out, epochs=1, changes=TINY, **asked
    )


@pytest.fixture(scope="module")
def study(made_set, tmp_path_factory):
    """A model on two streams, two seeds."""
    return compared(tmp_path_factory.mktemp("studies") / "study", made_set, seeds=2)


def test_each_model_is_trained_on_each_stream_and_fused(study):
    record = StudyRecord.load(study.path)
    assert list(record.runs) == [
        "tsn_resnet_tiny-rgb-seed0", "tsn_resnet_tiny-rgb-seed1", "tsn_resnet_tiny-rgb_difference-seed0",
        "tsn_resnet_tiny-rgb_difference-seed1", "tsn_resnet_tiny-rgb+rgb_difference-seed0",
        "tsn_resnet_tiny-rgb+rgb_difference-seed1",
    ]  # fmt: skip
    assert {record.run(name).recipe().clip.modality for name in list(record.runs)[:4]} == {"rgb", "rgb_difference"}
    assert [model.axes[STREAM] for model in study.comparison.models] == list(
        dict.fromkeys(model.axes[STREAM] for model in study.comparison.models)
    )
    rows = {model.axes[STREAM]: model for model in study.comparison.models}
    assert rows.keys() == {"rgb", "rgb_difference", "rgb+rgb_difference"}
    assert all(row.num_seeds == 2 and row.num_videos == 10 for row in rows.values())
    for seed in (0, 1):
        fused = record.run(f"tsn_resnet_tiny-rgb+rgb_difference-seed{seed}")
        parts = [record.run(f"tsn_resnet_tiny-{stream}-seed{seed}").scores() for stream in ("rgb", "rgb_difference")]
        weights = fused.fused()["weights"]
        expected = weights[0] * parts[0].video_scores() + weights[1] * parts[1].video_scores()
        np.testing.assert_allclose(fused.scores().video_scores(), expected, rtol=1e-4, atol=1e-5)


def test_the_report_has_rows_for_each_stream_and_the_pair(study):
    text = (study.path / "report.md").read_text()
    assert "## Fused scores" in text
    assert "better part" in text
    assert "Protocol differences" not in text  # the study means the inputs to differ
    values = json.loads((study.path / "report.json").read_text())
    pairs = {frozenset((verdict["a"], verdict["b"])) for verdict in values["verdicts"]}
    fused = "tsn_resnet_tiny (stream=rgb+rgb_difference)"
    assert {frozenset((fused, f"tsn_resnet_tiny (stream={one})")) for one in ("rgb", "rgb_difference")} <= pairs
    assert "modality" not in json.dumps(values["differences"])


def test_the_same_command_changes_nothing_and_more_seeds_are_added(study, made_set, tmp_path):
    import shutil

    out = tmp_path / "study"
    shutil.copytree(study.path, out)
    scores = {run.name: run.scores_file("test").read_bytes() for run in map(Run, (out / "runs").iterdir())}
    again = compared(out, made_set, seeds=3)
    assert {name: Run(out / "runs" / name).scores_file("test").read_bytes() for name in scores} == scores
    assert {model.num_seeds for model in again.comparison.models} == {3}
    assert len(StudyRecord.load(out).runs) == 9
    # streams alone, by --only: nothing is fused, and what was is kept
    kept = compared(out, made_set, seeds=3, only={STREAM: ["rgb"]})
    assert len(kept.runs) == 9


def test_a_study_that_is_stopped_before_it_fuses_is_completed(study, made_set, tmp_path, monkeypatch):
    whole = {run.name: run.scores_file("test").read_bytes() for run in study.runs}
    count = 0
    real = Run.finish

    def stopping(self, result):
        nonlocal count
        count += self.is_fused
        if count == 2:
            raise KeyboardInterrupt
        real(self, result)

    monkeypatch.setattr(Run, "finish", stopping)
    with pytest.raises(KeyboardInterrupt):
        compared(tmp_path / "study", made_set, seeds=2)
    monkeypatch.undo()
    done = compared(tmp_path / "study", made_set, seeds=2)
    assert {run.name: run.scores_file("test").read_bytes() for run in done.runs} == whole


def test_a_study_is_fused_again_by_other_weights(study, made_set, tmp_path):
    import shutil

    out = tmp_path / "study"
    shutil.copytree(study.path, out)
    fused = muybridge.fuse(out, weights="1,1.5")
    assert [run.fused()["weights"] for run in fused.runs] == [[0.4, 0.6]] * 2
    written = muybridge.report(out)
    (comparison,) = written.comparisons.values()
    assert {model.name for model in comparison.models} == {
        "tsn_resnet_tiny (stream=rgb)", "tsn_resnet_tiny (stream=rgb_difference)",
        "tsn_resnet_tiny (stream=rgb+rgb_difference)", "tsn_resnet_tiny (stream=rgb+rgb_difference, weights=1 : 1.5)",
    }  # fmt: skip
    again = compared(out, made_set, seeds=2)  # keeps them
    assert len(again.runs) == 8


def test_what_goes_over_a_study_leaves_fused_scores_out(study, made_set, capsys):
    assert len(muybridge.measure(study.path, speed=False)) == 2
    standings = muybridge.runs(study.path)
    assert sum(one.run.is_fused for one in standings) == 2
    assert {one.state for one in standings} == {"finished"}


def test_a_stream_may_come_from_another_manifest(study, made_set, packed, tmp_path):
    made = muybridge.plan(
        ["tsn_resnet_tiny", "tsm_resnet_tiny"], data=made_set, streams=["rgb", f"rgb_difference={packed}"], changes=TINY
    )
    manifests = {planned.axes[STREAM]: planned.recipe.data.manifest for planned in made.runs.values()}
    assert manifests == {"rgb": str(made_set), "rgb_difference": str(packed)}
    assert made.fused() == [
        [f"{model}-rgb-seed0", f"{model}-rgb_difference-seed0"] for model in ("tsn_resnet_tiny", "tsm_resnet_tiny")
    ]
    done = compared(tmp_path / "study", made_set, streams=("rgb", f"rgb_difference={packed}"))
    assert len(done.comparisons) == 1  # one set, wherever its streams lie
    assert len(done.comparison.models) == 3
    assert not done.comparison.differences


def test_a_store_of_other_videos_is_refused_before_anything_is_trained(made_set, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("it trained")

    monkeypatch.setattr(loop, "finish", never)
    manifest = Manifest.load(made_set)
    columns = {name: values.copy() for name, values in manifest.columns.items()}
    test = manifest.split("test")
    columns["sha256"][test[:2]] = b"f" * 64
    dataclasses.replace(manifest, columns=columns).save(tmp_path / "changed.csv")
    with pytest.raises(UserError, match="2 videos of the same name have another content"):
        compared(tmp_path / "study", made_set, streams=("rgb", f"rgb_difference={tmp_path / 'changed.csv'}"))
    columns = {name: values.copy() for name, values in manifest.columns.items()}
    columns["split"][test[0]] = b"train"
    dataclasses.replace(manifest, columns=columns).save(tmp_path / "resplit.csv")
    with pytest.raises(UserError, match="its test videos are not those of"):
        compared(tmp_path / "study", made_set, streams=("rgb", f"rgb_difference={tmp_path / 'resplit.csv'}"))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("streams", "what"),
    [(["rgb"], "not two different inputs"), (["rgb", "rgb"], "not two different"), (["rgb", "optical"], "optical"),
     (["rgb", "rgb_difference="], "names no manifest"), (["rgb", "=x.csv"], "'' is not a name"),
     (["rgb", "a/b=x.csv"], "'a/b' is not a name"), (["rgb", "a\x1bb=x.csv"], "is not a name")],
)  # fmt: skip
def test_streams_that_are_none_are_refused(made_set, streams, what):
    with pytest.raises(UserError, match=what):
        muybridge.plan(["tsn_resnet_tiny"], data=made_set, streams=streams)


def test_a_stream_is_called_what_it_holds_and_named_once(made_set, tmp_path):
    pytest.importorskip("cv2")
    store = muybridge.flow(made_set, out=tmp_path / "store").path
    assert parsed_streams(["rgb", f"motion={store}"], [made_set])
    for streams, what in (
        (["rgb", f"warped_flow={store}"], "holds 'flow', not 'warped_flow'"),
        ([f"a={store}", f"b={store}"], "'a' and 'b' are the same input"),
        (["rgb", f"mine={made_set}"], "own names are for stores"),
    ):
        with pytest.raises(UserError, match=what):
            parsed_streams(streams, [made_set])


def test_a_manifest_of_a_stream_is_of_one_set(made_set):
    with pytest.raises(UserError, match="one set"):
        parsed_streams(["rgb", "rgb_difference=x.csv"], ["a.csv", "b.csv"])


def test_the_input_is_said_by_the_streams_alone(made_set):
    with pytest.raises(UserError, match="streams"):
        muybridge.plan(
            ["tsn_resnet_tiny"], data=made_set, streams=["rgb", "rgb_difference"],
            changes={"clip.modality": "rgb"},
        )  # fmt: skip


def test_the_command_counts_what_it_will_fuse(made_set, tmp_path):
    words = [
        "compare", "--data", made_set, "--models", "tsn_resnet_tiny", "--streams", "rgb,rgb_difference", "--seeds", "2",
        "--epochs", "1", "--out", tmp_path / "study", "--dry-run", "--json", *options(TINY),
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    planned = json.loads(result.stdout)
    assert len(planned["runs"]) == 4
    assert len(planned["fused"]) == 2


# --- the shipped studies


def test_two_streams_takes_a_manifest_for_each_stream(made_set, packed):
    with pytest.raises(UserError, match="one is given"):
        of("two_streams", data=[str(made_set)])
    plan = of("two_streams", data=[str(made_set)], streams=("rgb", "rgb_difference"), models=("tsn_resnet_tiny",))
    assert [planned.axes[STREAM] for planned in plan.runs.values()] == ["rgb", "rgb_difference"]
    assert plan.has_streams
    two = of("two_streams", data=[str(made_set), str(packed)], models=("tsn_resnet_tiny",))
    assert [planned.recipe.data.manifest for planned in two.runs.values()] == [str(made_set), str(packed)]
    assert len({planned.axes["data"] for planned in two.runs.values()}) == 1
    models = {
        planned.recipe.model.name for planned in of("two_streams", data=[str(made_set), str(packed)]).runs.values()
    }
    assert models == {"tsn_resnet50", "tsm_resnet50", "i3d_resnet50"}
    assert {"two_streams", "two_stream_features"} <= SHIPPED.keys()


def test_two_stores_of_vectors_are_two_streams(run, made_set, tmp_path):
    """An LSTM over two encoders' vectors of the same videos, as over those of frames and of flow."""
    stores = []
    for name, layer in (("first", None), ("second", "backbone.layer3.0.bn2")):
        made = muybridge.features(run.path, data=made_set, out=tmp_path / name, layer=layer)
        stores.append(made.path / "manifest.csv")
    recipe = replace(Recipe(), {"optim.batch_size": 16, "optim.warmup_epochs": 0, "precision": "fp32"})
    done = muybridge.compare(study="two_stream_features", data=stores, recipe=recipe, out=tmp_path / "study", epochs=1)
    assert len(done.comparisons) == 1
    assert {model.axes[STREAM] for model in done.comparison.models} == {"first", "second", "first+second"}
