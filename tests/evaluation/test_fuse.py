"""Fused scores: the weighted mean, weights chosen on val alone, what is refused, and what a report makes of them."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import CLASSES, PAIRS, made_scores, make_run
from typer.testing import CliRunner

import muybridge
from muybridge.analysis.comparison import compared_runs
from muybridge.analysis.findings import findings
from muybridge.cli.app import app
from muybridge.errors import UserError
from muybridge.evaluation import fuse as fusing
from muybridge.evaluation.fuse import choose_weights, fused_scores
from muybridge.reporting.report import Report
from muybridge.storage import evaluations
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores, ViewGrid, softmax

GRID = ViewGrid("uniform", 2, 1)


def scores(seed, *, videos=12, views=2, grid=GRID, average="logits", **changes):
    """Random scores; with a grid, of two clips a video."""
    made = made_scores(np.ones(videos, dtype=bool), views=views, average=average)
    logits_VK = np.random.default_rng(seed).normal(size=made.logits_VK.shape).astype(np.float32)
    crop_V = np.zeros(videos * views, dtype=np.int64)
    return dataclasses.replace(made, logits_VK=logits_VK, grid=grid, crop_V=crop_V, **changes)


def shuffled(made, seed=0):
    """The same scores, with the videos in another order."""
    order_N = np.random.default_rng(seed).permutation(len(made.ids_N))
    place_N = np.argsort(order_N)
    return dataclasses.replace(
        made, ids_N=made.ids_N[order_N], labels_N=made.labels_N[order_N], groups_N=made.groups_N[order_N],
        video_V=place_N[made.video_V],
    )  # fmt: skip


def right_on(correct_N, *, margin=4.0, **changes):
    """Scores that are right where it says so, and as sure as `margin`."""
    made = made_scores(np.asarray(correct_N))
    return dataclasses.replace(made, logits_VK=made.logits_VK * np.float32(margin / 4), **changes)


def two_runs(folder, *, test=(0.7, 0.8), val=None, models=("tsn_resnet_tiny", "tsm_resnet_tiny"), videos=60, **options):
    """Two finished runs with scores of test and val."""
    runs = []
    for number, (model, accuracy) in enumerate(zip(models, test, strict=True)):
        run = make_run(folder / f"{model}-{number}", model=model, accuracy=accuracy, videos=videos, **options)
        correct_N = np.random.default_rng(number).random(videos) < 0.5 if val is None else val[number]
        run.save_scores("val", made_scores(np.asarray(correct_N), groups=options.get("groups", 0)))
        runs.append(run)
    return runs


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- the mean


@pytest.mark.parametrize("weights", [(1.0, 1.5), (3.0, 1.0), (0.0, 1.0)])
def test_fused_logits_are_the_weighted_mean_view_by_view(weights):
    a, b = scores(1), scores(2)
    fused = fused_scores([a, b], weights, "logits")
    expected_VK = (weights[0] * a.logits_VK + weights[1] * b.logits_VK) / sum(weights)
    np.testing.assert_allclose(fused.logits_VK, expected_VK, rtol=1e-6, atol=1e-7)
    assert fused.grid == GRID
    assert fused.num_views == 2
    assert fused.average == "logits"
    by_video_NK = (weights[0] * a.video_scores() + weights[1] * b.video_scores()) / sum(weights)
    np.testing.assert_allclose(fused.video_scores(), by_video_NK, rtol=1e-5, atol=1e-6)


def test_fused_probabilities_are_the_weighted_mean_of_probabilities():
    a, b = (scores(seed, average="probabilities") for seed in (1, 2))
    fused = fused_scores([a, b], (1, 3), "probabilities")
    expected_NK = 0.25 * a.video_probabilities() + 0.75 * b.video_probabilities()
    np.testing.assert_allclose(fused.video_probabilities(), expected_NK, rtol=1e-5)
    np.testing.assert_allclose(
        softmax(fused.logits_VK), 0.25 * softmax(a.logits_VK) + 0.75 * softmax(b.logits_VK), rtol=1e-5
    )


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_order_of_the_videos_does_not_matter(average):
    a, b = scores(1), scores(2)
    fused, other = fused_scores([a, b], (1, 2), average), fused_scores([a, shuffled(b)], (1, 2), average)
    np.testing.assert_array_equal(fused.ids_N, other.ids_N)
    np.testing.assert_array_equal(fused.logits_VK, other.logits_VK)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_scores_of_other_views_are_fused_by_video(average):
    a, b = scores(1, average=average), scores(2, views=5, grid=ViewGrid("dense", 5, 1), average=average)
    fused = fused_scores([a, b], (1, 1), average)
    assert fused.num_views == 1
    assert fused.grid is None
    np.testing.assert_allclose(fused.video_scores(), (a.video_scores() + b.video_scores()) / 2, rtol=1e-5, atol=1e-6)


def test_a_run_fused_with_itself_stays_what_it_is():
    a = scores(1)
    np.testing.assert_allclose(fused_scores([a, a, a], (1, 5, 2), "logits").logits_VK, a.logits_VK, rtol=1e-6)


# --- weights


def test_weights_are_those_that_are_right_on_most_val_videos():
    """B is right wherever A is wrong, and half as sure: only with more than twice A's weight it decides."""
    correct_N = np.arange(40) % 4 > 0
    a, b = right_on(correct_N, margin=4.0), right_on(~correct_N | (np.arange(40) < 30), margin=2.0)
    chosen = choose_weights([a, b], "logits")
    best = max((fused_scores([a, b], (1 - w, w), "logits").correct().sum() for w in np.linspace(0, 1, 21)), default=0)
    assert chosen.right == best > chosen.right_equal
    assert chosen.right == fused_scores([a, b], chosen.weights, "logits").correct().sum()
    assert chosen.right_equal == fused_scores([a, b], (1, 1), "logits").correct().sum()
    assert sum(chosen.weights) == pytest.approx(1)


def test_equal_weights_win_ties():
    a = scores(1)
    for count in (2, 3, 4, 7):
        chosen = choose_weights([a] * count, "logits")
        assert chosen.weights == (1 / count,) * count
        assert chosen.right == chosen.right_equal
        assert "as equal weights" in str(chosen)


def test_among_weights_that_are_right_as_often_the_loss_decides():
    everything = np.ones(30, dtype=bool)
    sure, unsure = right_on(everything, margin=6.0), right_on(everything, margin=1.0)
    chosen = choose_weights([unsure, sure], "logits")
    assert chosen.weights == (0.0, 1.0)
    assert chosen.loss < chosen.loss_equal


@pytest.mark.parametrize(("count", "steps"), [(2, 20), (3, 20), (4, 10), (5, 6), (12, 2), (40, 1)])
def test_what_is_tried_covers_all_shares_and_stays_few(count, steps):
    tried = list(fusing._combinations(count))
    assert len(tried) == len(set(tried)) == math.comb(steps + count - 1, count - 1) <= max(fusing.MOST_TRIED, count)
    assert all(sum(weights) == pytest.approx(1) and min(weights) >= 0 for weights in tried)


def test_few_val_videos_say_how_unsure_the_weights_are():
    a, b = right_on([True, True, False, True]), right_on([False, True, True, True], margin=2.0)
    chosen = choose_weights([a, b], "logits")
    assert chosen.videos == 4
    assert chosen.low <= 0
    many = [right_on(np.resize(pattern, 400), margin=margin) for pattern, margin in (((True, True, False, True), 4.0),)]
    worse = right_on(np.resize((False, False, False, True), 400), margin=4.5)
    sure = choose_weights([*many, worse], "logits")
    assert sure.right > sure.right_equal
    assert sure.low > 0
    assert "chance" not in str(sure)


def test_weights_come_from_val_alone(tmp_path):
    """On val the first run is right and the second never, on test the other way round: test would choose otherwise."""
    val = [np.ones(60, dtype=bool), np.zeros(60, dtype=bool)]
    runs = two_runs(tmp_path, test=(0.0, 1.0), val=val)
    fused = muybridge.fuse(runs, out=tmp_path / "fused").runs[0]
    on_test = choose_weights([run.scores("test") for run in runs], "logits")
    held = fused.fused()
    assert held["weights"][0] > 0.5 > on_test.weights[0]
    assert held["chosen"]["right"] == 60
    assert fused.result()["val"]["video_top1"] == 1.0
    assert fused.result()["test"]["video_top1"] == 0.0
    changed = two_runs(tmp_path / "other", test=(1.0, 0.0), val=val)  # another test changes no weight
    assert muybridge.fuse(changed, out=tmp_path / "again").runs[0].fused()["weights"] == held["weights"]


def test_without_val_videos_weights_are_equal(tmp_path, capsys):
    runs = two_runs(tmp_path)
    for run in runs:
        dataset = json.loads((run.path / "dataset.json").read_text())
        dataset["split_sizes"]["val"] = 0
        (run.path / "dataset.json").write_text(json.dumps(dataset))
        run.scores_file("val").unlink()
    fused = muybridge.fuse(runs, out=tmp_path / "fused").runs[0]
    assert fused.fused()["weights"] == [0.5, 0.5]
    assert fused.fused()["chosen"] is None
    assert "no val videos" in capsys.readouterr().err
    assert "val" not in fused.result()


def test_missing_val_scores_are_asked_for_with_the_command(tmp_path):
    a, b = two_runs(tmp_path)
    val = b.scores("val")
    b.scores_file("val").unlink()
    with pytest.raises(UserError, match=f"muybridge evaluate {b.path} --split val --keep"):
        muybridge.fuse([a, b], out=tmp_path / "fused")
    assert not (tmp_path / "fused").exists()
    cost = {"params": 1, "conv_macs": 1, "macs": 1}
    evaluations.keep(b, "val", val, b.recipe(), split="val", checkpoint="last", cost=cost)
    fused = muybridge.fuse([a, b], out=tmp_path / "fused").runs[0]
    assert fused.fused()["chosen"]["videos"] == 60
    equal = muybridge.fuse([a, b], weights="equal", out=tmp_path / "equal").runs[0]
    assert equal.fused()["weights"] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("weights", "what"),
    [("1", "1 are given for 2 parts"), ("1,2,3", "3 are given for 2"), ("1,x", "1,x"), ("0,0", "0,0"), ("-1,2", "-1,2"),
     ("best", "best"), ("nan,1", "nan"), ("1e308,1e308", "1e308")],
)  # fmt: skip
def test_weights_that_are_none_are_refused(tmp_path, weights, what):
    with pytest.raises(UserError, match=what):
        muybridge.fuse(two_runs(tmp_path), weights=weights, out=tmp_path / "fused")


# --- what does not fit together


def refused(runs, out, *words):
    with pytest.raises(UserError) as error:
        muybridge.fuse(runs, weights="equal", out=out)
    for word in words:
        assert word in str(error.value)
    assert not out.exists()


def test_other_classes_are_refused_by_name(tmp_path):
    a = make_run(tmp_path / "a")
    b = make_run(tmp_path / "b", model="tsn_resnet_tiny", classes=(*CLASSES[:-1], "jump"))
    refused([a, b], tmp_path / "fused", "classes", "1 only in", "wave", "jump")


def test_other_videos_are_refused_by_count_and_name(tmp_path):
    a = make_run(tmp_path / "a", videos=60)
    b = make_run(tmp_path / "b", model="tsn_resnet_tiny", videos=66)
    refused([a, b], tmp_path / "fused", "test videos are others", f"6 only in {b.path}", "0/00060.mp4", ", …")


def test_other_labels_are_refused(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", model="tsn_resnet_tiny")
    made = b.scores("test")
    labels_N = made.labels_N.copy()
    labels_N[:2] = labels_N[:2][::-1]
    b.save_scores("test", dataclasses.replace(made, labels_N=labels_N))
    refused([a, b], tmp_path / "fused", "2 test videos have another label", "0/00000.mp4")


def test_other_val_videos_are_refused(tmp_path):
    a, b = two_runs(tmp_path)
    b.save_scores("val", made_scores(np.ones(30, dtype=bool)))
    with pytest.raises(UserError, match="val videos are others: 30 only in"):
        muybridge.fuse([a, b], out=tmp_path / "fused")


def test_other_averages_must_be_chosen_between(tmp_path):
    a = make_run(tmp_path / "a")
    b = make_run(tmp_path / "b", model="tsn_resnet_tiny", changes={"evaluation.average": "probabilities"})
    refused([a, b], tmp_path / "fused", "--average")
    fused = muybridge.fuse([a, b], weights="equal", average="logits", out=tmp_path / "fused").runs[0]
    assert fused.scores().average == "logits"
    assert fused.recipe().evaluation.average == "logits"


def test_videos_of_another_content_are_refused(tmp_path, made_set):
    """The same names in another manifest: the content of each video tells."""
    from muybridge.data.manifest import Manifest

    manifest = Manifest.load(made_set)
    columns = dict(manifest.columns)
    columns["sha256"] = columns["sha256"].copy()
    columns["sha256"][:3] = b"f" * 64
    other = dataclasses.replace(manifest, columns=columns)
    other.save(tmp_path / "other.csv")
    other = Manifest.load(tmp_path / "other.csv")
    runs = [
        make_run(
            tmp_path / name, model=model, changes={"data.manifest": str(path), "data.sha256": of.sha256()},
        )
        for name, model, path, of in (
            ("a", "tsn_resnet_tiny", made_set, manifest), ("b", "tsm_resnet_tiny", tmp_path / "other.csv", other)
        )
    ]  # fmt: skip
    refused(runs, tmp_path / "fused", "3 videos of the same name have another content")
    (tmp_path / "other.csv").unlink()
    refused(runs, tmp_path / "fused", "cannot be told")


def test_unfinished_and_untested_runs_are_refused(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", model="tsn_resnet_tiny", finished=False)
    refused([a, b], tmp_path / "fused", "not finished")
    c = make_run(tmp_path / "c", model="tsn_resnet_tiny")
    c.scores_file("test").unlink()
    refused([a, c], tmp_path / "fused", "no test scores")


def test_one_run_alone_and_fused_scores_are_refused(tmp_path):
    runs = two_runs(tmp_path)
    refused(runs[:1], tmp_path / "fused", "nothing to be fused with")
    fused = muybridge.fuse(runs, out=tmp_path / "there").runs[0]
    refused([runs[0], fused], tmp_path / "fused", "fused scores already")


# --- folds and seeds


def test_runs_of_the_same_fold_and_seed_are_fused(tmp_path):
    runs = [
        make_run(tmp_path / f"{model}-seed{seed}-fold{fold}", model=f"{model}_resnet_tiny", seed=seed, fold=fold)
        for model in ("tsn", "tsm") for seed in (0, 1, 2) for fold in (1, 2)
    ]  # fmt: skip
    fused = muybridge.fuse(runs, weights="equal", out=tmp_path / "fused")
    assert sorted(run.name for run in fused.runs) == [
        f"tsn+tsm-seed{seed}-fold{fold}" for seed in (0, 1, 2) for fold in (1, 2)
    ]
    for run in fused.runs:
        places = {(part["seed"], part["fold"]) for part in run.fused()["parts"]}
        assert places == {(run.recipe().seed, run.recipe().data.fold)}
    (comparison,) = fused.comparisons.values()
    row = next(model for model in comparison.models if model.fused)
    assert row.num_seeds == 3
    assert row.num_videos == 120
    assert len(comparison.models) == 3
    lacking = [run for run in runs if run.name != "tsm-seed1-fold2"]
    with pytest.raises(UserError, match="tsm_resnet_tiny: it has no run of seed 1, fold 2"):
        muybridge.fuse(lacking, weights="equal", out=tmp_path / "more")


def test_seeds_of_one_setting_are_an_ensemble(tmp_path):
    runs = [make_run(tmp_path / f"tsm-seed{seed}", seed=seed, accuracy=0.6) for seed in range(3)]
    (fused,) = muybridge.fuse(runs, weights="equal", out=tmp_path / "fused").runs
    expected = np.mean([run.scores().video_scores() for run in runs], axis=0)
    np.testing.assert_allclose(fused.scores().video_scores(), expected, rtol=1e-5)
    comparison = compared_runs([*runs, fused])["set"]
    assert {model.name: model.num_seeds for model in comparison.models} == {
        "tsm_resnet_tiny": 3, "tsm_resnet_tiny (3 seeds fused), equal weights": 1,
    }  # fmt: skip
    assert any("single runs of tsm_resnet_tiny" in sentence for sentence in findings(comparison))


def test_models_of_other_seeds_are_fused_where_each_has_one(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", seed=3), make_run(tmp_path / "b", model="tsn_resnet_tiny", seed=8)
    (fused,) = muybridge.fuse([a, b], weights="equal", out=tmp_path / "fused").runs
    assert [part["seed"] for part in fused.fused()["parts"]] == [3, 8]
    assert "the parts are of other seeds (tsm_resnet_tiny 3 and tsn_resnet_tiny 8)" in capsys.readouterr().err
    c = make_run(tmp_path / "c", model="tsn_resnet_tiny", seed=3)
    muybridge.fuse([a, c], weights="equal", out=tmp_path / "same")
    assert "other seeds" not in capsys.readouterr().err


# --- what a report makes of it


def halves(folder, *, seeds=3, videos=120):
    """Two models that err on different halves of the classes' videos, surely where they are right: fused they err less."""
    runs = []
    for model, half in (("tsn_resnet_tiny", 0), ("tsm_resnet_tiny", 1)):
        for seed in range(seeds):
            correct_N = (np.arange(videos) // 6 % 2 == half) | (np.arange(videos) % 6 < 2)
            run = make_run(
                folder / f"{model}-{seed}", model=model, seed=seed, correct_N=correct_N, videos=videos, pairs=PAIRS,
                macs=(1 + half) * 1e6, params=1000 * (1 + half),
            )  # fmt: skip
            for split in ("test", "val"):
                made = made_scores(correct_N, views=2)
                sure_V = np.where(np.repeat(correct_N, 2), 2.0, 0.5)[:, None]
                run.save_scores(
                    split, dataclasses.replace(made, logits_VK=(made.logits_VK * sure_V).astype(np.float32))
                )
            runs.append(run)
    return runs


def test_a_report_pairs_a_fused_row_with_its_better_part(tmp_path):
    runs = halves(tmp_path)
    fused = muybridge.fuse(runs, out=tmp_path / "fused")
    (comparison,) = compared_runs([*runs, *fused.runs]).values()
    assert comparison.models[0].name == "tsn_resnet_tiny + tsm_resnet_tiny"
    assert comparison.models[0].accuracy.value == 1.0
    parts = comparison.parts_of(0)
    assert sorted(comparison.models[part].name for part in parts) == ["tsm_resnet_tiny", "tsn_resnet_tiny"]
    assert all(comparison.parts_of(part) == [] for part in parts)
    verdict = comparison.minus(0, parts[0])
    assert verdict == comparison.verdicts[0, parts[0]]
    assert verdict.apart
    assert verdict.difference.over_seeds
    turned = comparison.minus(parts[0], 0)
    assert (turned.low, turned.high) == (-verdict.high, -verdict.low)
    (sentence,) = [one for one in findings(comparison) if "better part" in one]
    assert str(verdict) in sentence
    assert "adds to it" in sentence
    assert "In these runs" not in sentence
    sections = {section.title: section for section in Report.of({"set": comparison}).chapters[0].sections}
    (row,) = sections["Fused scores"].tables[0].rows
    assert str(verdict) in row
    assert row[-1] == "yes"
    pairs = [line[:2] for line in sections["Significance"].tables[0].rows]
    assert [comparison.models[0].name, comparison.models[parts[0]].name] in pairs
    assert "Protocol differences" not in sections


def test_nothing_is_claimed_where_fusing_adds_nothing(tmp_path):
    correct_N = np.arange(60) % 3 > 0
    runs = [make_run(tmp_path / m, model=f"{m}_resnet_tiny", correct_N=correct_N) for m in ("tsn", "tsm")]
    fused = muybridge.fuse(runs, weights="equal", out=tmp_path / "fused")
    (comparison,) = fused.comparisons.values()
    (sentence,) = [one for one in findings(comparison) if "better part" in one]
    assert "cannot be told" in sentence
    assert "is not shown" in sentence
    assert sentence.startswith("In these runs")


def test_a_part_that_is_not_compared_is_named(tmp_path):
    """Against one part alone nothing is said: neither that it is the better one, nor of seeds."""
    runs = [make_run(tmp_path / m, model=f"{m}_resnet_tiny", accuracy=0.6) for m in ("tsn", "tsm")]
    (fused,) = muybridge.fuse(runs, weights="equal", out=tmp_path / "fused").runs
    (comparison,) = compared_runs([runs[0], fused]).values()
    said = " ".join(findings(comparison))
    assert "of its parts tsm_resnet_tiny is not compared here" in said
    assert "averaging runs" not in said
    assert "better part" not in said
    sections = {section.title: section for section in Report.of({"set": comparison}).chapters[0].sections}
    assert sections["Fused scores"].tables[0].rows[0][-4:] == ["–"] * 4


def test_costs_are_the_sum_of_the_parts(tmp_path):
    runs = halves(tmp_path, seeds=1)
    (fused,) = muybridge.fuse(runs, out=tmp_path / "fused").runs
    (comparison,) = compared_runs([*runs, fused]).values()
    row = comparison.models[0]
    assert row.cost == {"params": 3000, "conv_macs": 3_000_000, "macs": 3_002_000}
    assert row.train_hours == (sum(run.train_seconds() for run in runs) / 3600,)
    assert row.steps == (80,)
    assert row.epochs == (sum(run.epochs_trained() for run in runs),)
    assert row.train_clips_per_s is None
    assert row.speed is None
    assert row.as_json(())["fused"][0]["parts"] == ["tsn_resnet_tiny", "tsm_resnet_tiny"]


def test_costs_of_other_views_count_all_views(tmp_path):
    a = make_run(tmp_path / "a", views=10, macs=1e6)
    b = make_run(tmp_path / "b", model="tsn_resnet_tiny", views=2, macs=3e6)
    (fused,) = muybridge.fuse([a, b], weights="equal", out=tmp_path / "fused").runs
    assert fused.scores().num_views == 1
    assert fused.view_cost()["conv_macs"] == 10 * 1_000_000 + 2 * 3_000_000


def test_a_fused_result_is_listed_and_scored_from_its_file(tmp_path):
    runs = two_runs(tmp_path)
    (fused,) = muybridge.fuse(runs, weights=[1, 1.5], out=tmp_path / "fused").runs
    scored = muybridge.evaluate(fused.scores_file("test"))
    assert scored.video_accuracy() == fused.result()["test"]["video_top1"]
    (standing,) = [one for one in muybridge.runs(tmp_path) if one.run == fused]
    assert standing.state == "finished"
    assert standing.as_json()["fused"] == fused.fused()["name"]
    assert [one.as_json()["fused"] for one in muybridge.runs(tmp_path) if one.run != fused] == [None] * 2
    assert standing.epoch is None
    assert standing.video_top1 == scored.video_accuracy()


@pytest.mark.parametrize(
    "words",
    [["predict", "FUSED", "video.mp4"], ["evaluate", "FUSED"], ["diagnose", "FUSED"], ["measure", "FUSED"],
     ["train", "--resume", "FUSED"], ["train", "FUSED", "--data", "set.csv", "--out", "new"],
     ["train", "small", "--model", "tsn_resnet_tiny", "--init", "FUSED", "--data", "SET", "--out", "new"],
     ["features", "FUSED", "--data", "SET", "--out", "new"]],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_what_needs_a_network_is_refused_and_names_the_parts(tmp_path, made_set, words):
    runs = two_runs(tmp_path)
    (fused,) = muybridge.fuse(runs, out=tmp_path / "fused").runs
    names = {"FUSED": str(fused.path), "SET": str(made_set)}
    result = CliRunner().invoke(app, [names.get(word, word) for word in words])
    assert result.exit_code == 2
    assert "fused scores" in result.stderr
    if words[:2] != ["train", "FUSED"]:
        assert str(runs[0].path) in result.stderr
    assert not Path("new").exists()


# --- the folder


def test_fusing_again_changes_nothing_and_another_fusion_is_refused(tmp_path):
    runs = two_runs(tmp_path)
    out = tmp_path / "fused"
    muybridge.fuse(runs, out=out)
    before = files(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    muybridge.fuse(runs, out=out)
    assert files(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps
    with pytest.raises(UserError, match="by other weights"):
        muybridge.fuse(runs, weights="1,9", out=out)
    with pytest.raises(UserError, match=r"folder of a run|holds no fused scores"):
        muybridge.fuse(runs, out=runs[0].path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no fused scores"):
        muybridge.fuse(runs, out=tmp_path / "mine")
    assert files(out) == before
    assert files(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_parts_that_were_moved_are_the_same_parts(tmp_path):
    runs = two_runs(tmp_path / "here")
    muybridge.fuse(runs, out=tmp_path / "fused")
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = [Run(tmp_path / "there" / run.name) for run in runs]
    before = files(tmp_path / "fused")
    fused = muybridge.fuse(moved, out=tmp_path / "fused")
    assert files(tmp_path / "fused") == before
    (comparison,) = fused.comparisons.values()
    assert any(comparison.parts_of(rank) for rank in range(3))


@pytest.mark.parametrize("written", range(8))
def test_a_stopped_fusion_is_completed_to_the_same_bytes(tmp_path, monkeypatch, written):
    """Stopped after any number of files."""
    runs = two_runs(tmp_path)
    muybridge.fuse(runs, out=tmp_path / "whole")
    whole = files(tmp_path / "whole")
    count = 0
    real = Run.file

    def stopping(self, name):
        nonlocal count
        count += 1
        if count > written:
            raise KeyboardInterrupt
        return real(self, name)

    monkeypatch.setattr(Run, "file", stopping)
    with pytest.raises(KeyboardInterrupt):
        muybridge.fuse(runs, out=tmp_path / "stopped")
    monkeypatch.undo()
    assert not Run(tmp_path / "stopped").is_finished
    muybridge.fuse(runs, out=tmp_path / "stopped")
    assert files(tmp_path / "stopped") == whole


def test_two_at_once_write_one_result(tmp_path):
    runs = two_runs(tmp_path)
    muybridge.fuse(runs, out=tmp_path / "alone")
    command = [sys.executable, "-m", "muybridge", "fuse", *(str(run.path) for run in runs), "--out", "both", "--json"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    first, second = (json.loads(out) for out, _ in answers)
    assert first == second
    assert first["run"] == "both"
    assert files(tmp_path / "both") == files(tmp_path / "alone")


def test_a_damaged_fused_file_is_named(tmp_path):
    runs = two_runs(tmp_path)
    (fused,) = muybridge.fuse(runs, out=tmp_path / "fused").runs
    content = json.loads((fused.path / "fused.json").read_text())
    for damage in ({"weights": [1.0]}, {"parts": []}, {"rule": "test"}, {"weights": [0.5, 0.25, 0.25]}):
        (fused.path / "fused.json").write_text(json.dumps(content | damage))
        with pytest.raises(UserError, match=r"fused\.json"):
            compared_runs([*runs, fused])


def test_the_command_says_weights_and_what_fusing_adds(tmp_path):
    runs = halves(tmp_path, seeds=1)
    result = CliRunner().invoke(app, ["fuse", *(str(run.path) for run in runs), "--out", str(tmp_path / "fused")])
    assert result.exit_code == 0, result.output
    assert "chosen on val" in result.stdout
    assert "better part" in result.stdout
    assert "val videos" in result.stderr
    loaded = Scores.load(tmp_path / "fused" / "scores" / "test.npz")
    assert loaded.split == "test"
    assert loaded.video_accuracy() == 1.0
