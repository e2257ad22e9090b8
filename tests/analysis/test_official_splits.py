"""Official splits that share videos: the mean over splits, and an interval that knows what they share."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_runs import made_scores, make_run

from muybridge.analysis.comparison import compared
from muybridge.analysis.statistics import Sample, accuracy_interval, judged, paired_difference, usual_spread

SIZES = {1: 60, 2: 30, 3: 24}
"""Test videos of each split, of which the first ones are common to all."""


def official(run, *, splits=(1, 2, 3)):
    """A made run as one of a set with official splits: ids do not name the fold, so that tests share videos."""
    about = json.loads((run.path / "dataset.json").read_text())
    (run.path / "dataset.json").write_text(json.dumps({**about, "official_splits": list(splits)}))
    scores = run.scores("test")
    bare = np.array([name.partition("/")[2] for name in scores.ids_N.tolist()])
    groups_N = np.array([name and name.partition("/")[2] for name in scores.groups_N.tolist()])
    run.save_scores("test", replace(scores, ids_N=bare, groups_N=groups_N))
    return run


def runs_of(folder, right, *, model="tsm_resnet_tiny", seed=0, **more):
    """A run for each split; `right` says which of its videos are right."""
    return [
        official(make_run(
            folder / f"{model}-{seed}-{split}", model=model, seed=seed, fold=split, correct_N=of_split,
            videos=len(of_split), **more,
        ))
        for split, of_split in right.items()
    ]  # fmt: skip


def first(share, count):
    return np.arange(count) < round(share * count)


ACCURACIES = {1: 0.5, 2: 0.8, 3: 0.75}


@pytest.fixture
def whole(tmp_path):
    return compared(runs_of(tmp_path, {split: first(ACCURACIES[split], SIZES[split]) for split in SIZES}))


def test_the_mean_over_splits_is_reported_not_that_over_all_answers(whole):
    [model] = whole.models
    mean = (0.5 + 0.8 + 0.75) / 3
    assert model.accuracy.value == pytest.approx(mean)
    assert model.accuracy.value != pytest.approx((30 + 24 + 18) / 114)
    assert model.by_split == pytest.approx(ACCURACIES)
    told = whole.as_json()["models"][0]
    assert told["video_top1"] == pytest.approx(mean)
    assert told["of_seeds"] == pytest.approx([mean])
    assert told["by_split"] == pytest.approx({"1": 0.5, "2": 0.8, "3": 0.75})
    assert whole.table()[1][0][1].startswith(f"{mean:.3f} [")
    assert model.accuracy.method.startswith("mean over 3 official splits, ")
    assert model.num_videos == 60, "each video once"


def test_the_order_of_the_runs_does_not_matter(tmp_path, whole):
    again = compared(list(reversed(whole.models[0].runs)))
    assert again.models[0].accuracy == whole.models[0].accuracy


def test_folds_of_a_cross_validation_are_pooled_as_before(tmp_path):
    runs = [make_run(tmp_path / str(fold), fold=fold, videos=size, accuracy=0.5) for fold, size in SIZES.items()]
    [model] = compared(runs).models
    assert model.num_videos == 114
    assert model.by_split == {}
    assert model.accuracy.method == "Wilson over 114 videos"


def test_a_part_of_the_splits_is_said(tmp_path):
    right = {split: first(0.5, SIZES[split]) for split in (1, 3)}
    comparison = compared(runs_of(tmp_path, right))
    assert any("of the official splits 1, 2 and 3 only 1 and 3 are trained" in note for note in comparison.notes)
    alone = compared(runs_of(tmp_path / "one", {2: first(0.5, 30)}))
    assert "official split 2 alone" in alone.models[0].accuracy.method
    assert any("only 2 is trained" in note for note in alone.notes)


def test_a_video_that_two_splits_test_is_one_video(tmp_path):
    """Answers that are the same in all splits say no more than those of one."""
    right = first(0.7, 60)
    thrice = compared(runs_of(tmp_path, dict.fromkeys((1, 2, 3), right))).models[0].accuracy
    once = accuracy_interval(right[None], np.char.add("video ", np.arange(60).astype(str)))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-6)


def test_pairs_are_compared_by_the_mean_over_splits_on_the_same_videos_of_the_same_splits(tmp_path):
    a = {split: first(ACCURACIES[split], SIZES[split]) for split in SIZES}
    b = {split: first(0.5, SIZES[split]) for split in SIZES}
    runs = [*runs_of(tmp_path, a), *runs_of(tmp_path, b, model="tsn_resnet_tiny")]
    comparison = compared(runs)
    assert comparison.verdicts[0, 1].difference.value == pytest.approx((0.5 + 0.8 + 0.75) / 3 - 0.5)
    fewer = compared([run for run in runs if "tsn_resnet_tiny-0-3" not in run.name])
    assert fewer.verdicts[0, 1].difference.value == pytest.approx(0.15), "on the two splits that both have"


def test_clip_and_top_k_accuracies_are_means_over_splits_too(whole):
    [model] = whole.models
    assert model.clip_accuracy == pytest.approx(model.accuracy.value)
    assert whole.baselines.majority.top1 == pytest.approx(1 / 6)


def study(draw, *, groups, splits, seeds, model_sd=0.0, overlap=True):
    """Right answers of seeds on official splits of one set: sources differ in their mean, and lie in several splits."""
    of_group = draw.integers(2, 12, groups)
    own_G = draw.beta(0.75 * 6, 0.25 * 6, groups)
    names, split_N = [], []
    for split in range(splits):
        chosen = draw.permutation(groups)[: groups // 2] if overlap else np.arange(groups) % splits == split
        chosen = np.flatnonzero(chosen) if not overlap else chosen
        for group in chosen:
            names += [group] * int(of_group[group])
            split_N += [split + 1] * int(of_group[group])
    names, split_N = np.array(names), np.array(split_N)
    shift_S1 = draw.normal(0, model_sd, (seeds, 1))
    right = draw.random((seeds, len(names))) < np.clip(own_G[names] + shift_S1, 0, 1)
    sizes = np.bincount(split_N)
    return right, np.char.add("g", names.astype(str)), 1 / (splits * sizes[split_N]), split_N


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("groups", "seeds", "sd"), [(60, 1, 0.0), (300, 1, 0.0), (300, 3, 0.01)])
def test_coverage_of_the_mean_over_splits(overlap, groups, seeds, sd):
    draw, studies, held, naive = np.random.default_rng(0), 1200, 0, 0
    for _ in range(studies):
        right, names, weights_N, split_N = study(
            draw, groups=groups, splits=3, seeds=seeds, model_sd=sd, overlap=overlap
        )
        interval = accuracy_interval(right, names, weighed=(weights_N, split_N))
        held += interval.low <= 0.75 <= interval.high
        blind = accuracy_interval(right[:1], np.full(len(names), ""))
        naive += blind.low <= 0.75 <= blind.high
    assert 0.93 <= held / studies <= 0.985
    assert naive / studies < 0.88, "an interval that takes every answer for a video of its own promises too much"


@pytest.mark.slow
def test_equal_models_are_seldom_told_apart_over_splits():
    draw, studies, called = np.random.default_rng(1), 1200, 0
    for _ in range(studies):
        right, names, weights_N, split_N = study(draw, groups=200, splits=3, seeds=3)
        other = draw.permuted(right, axis=0)  # seeds of the same model
        other = np.where(draw.random(right.shape) < 0.2, draw.random(right.shape) < 0.75, other)
        right = np.where(draw.random(right.shape) < 0.2, draw.random(right.shape) < 0.75, right)
        samples = [Sample.of(one, names, weights_N, split_N) for one in (right, other)]
        called += judged([paired_difference(*samples, usual_spread(samples))])[0].apart
    assert called / studies < 0.055


def test_made_scores_are_what_these_tests_think():
    assert made_scores(first(0.5, 4)).correct().tolist() == [True, True, False, False]
