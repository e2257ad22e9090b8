"""Uneven tests: models are compared by the mean over classes, with an interval of its own."""

import numpy as np
import pytest
from made_runs import make_run

from muybridge.analysis.comparison import compared
from muybridge.analysis.findings import findings
from muybridge.analysis.statistics import Sample, accuracy_interval
from muybridge.data.overview import is_unbalanced, is_uneven
from muybridge.storage.scores import Scores

CLASSES = ("normal", "fall", "jump")
COUNTS = (40, 6, 4)


def uneven_run(folder, right, *, seed=0, model="tsm_resnet_tiny", counts=COUNTS):
    """A run that is right on so many videos of each class, and answers the next class else."""
    run = make_run(folder, model=model, seed=seed, classes=CLASSES, videos=sum(counts))
    labels_N = np.repeat(np.arange(3), counts)
    place_N = np.concatenate([np.arange(count) for count in counts])
    answers_N = np.where(place_N < np.array(right)[labels_N], labels_N, (labels_N + 1) % 3)
    count = len(labels_N)
    run.save_scores("test", Scores(
        classes=CLASSES, ids_N=np.array([f"{i:05d}" for i in range(count)]), labels_N=labels_N,
        groups_N=np.full(count, ""), video_V=np.arange(count), clip_start_V=np.zeros(count, int),
        crop_V=np.zeros(count, int), logits_VK=4.0 * np.eye(3, dtype=np.float32)[answers_N], average="logits",
    ))  # fmt: skip
    return run


def test_the_rule_leaves_the_usual_tests_alone():
    assert is_uneven(np.array([30, 10]))
    assert not is_uneven(np.array([29, 10]))
    assert not is_uneven(np.array([49, 28])), "UCF101's first split"
    assert is_uneven(np.array([3, 1, 0])), "a class without videos does not count"
    assert is_unbalanced(np.array([8, 1]))
    assert not is_unbalanced(np.array([7, 1]))


def test_a_model_that_knows_the_rare_classes_wins_over_one_that_always_says_the_common_one(tmp_path):
    always = uneven_run(tmp_path / "a", (40, 0, 0), model="tsn_resnet_tiny")
    knows = uneven_run(tmp_path / "b", (30, 6, 4))
    comparison = compared([always, knows])
    assert comparison.by_class
    assert [model.model for model in comparison.models] == ["tsm_resnet_tiny", "tsn_resnet_tiny"]
    assert comparison.models[1].accuracy.value == comparison.models[0].accuracy.value == 0.8
    header, rows = comparison.table()
    assert header[1] == "mean class [95 %]"
    assert rows[0][1].startswith(f"{(0.75 + 1 + 1) / 3:.3f} [")
    assert "video top-1" in header
    verdict = comparison.verdicts[0, 1]
    assert verdict.difference.value == pytest.approx((0.75 + 1 + 1) / 3 - 1 / 3)
    assert verdict.apart
    said = " ".join(findings(comparison))
    assert "The test is uneven (normal 40, jump 4), so models are compared by the mean over classes" in said
    assert "tsm_resnet_tiny has the highest mean class accuracy" in said
    assert "No better than a guess (mean class 0.333): tsn_resnet_tiny" in said
    told = comparison.as_json()
    assert told["measure"] == "mean_class"
    assert [model["beats_a_guess"] for model in told["models"]] == [True, False]
    assert told["models"][0]["mean_class_low"] < told["models"][0]["mean_class"] < told["models"][0]["mean_class_high"]


def test_a_model_that_always_says_the_common_class_is_no_better_than_a_guess(tmp_path):
    said = " ".join(findings(compared([uneven_run(tmp_path / "a", (40, 0, 0))])))
    assert "A guess has a mean class accuracy of 0.333: tsm_resnet_tiny does no better." in said


def test_a_model_that_is_little_better_by_class_is_not_held_against_the_videos_of_the_common_one(tmp_path):
    said = " ".join(findings(compared([uneven_run(tmp_path / "a", (38, 1, 0))])))
    assert "No better than a guess (mean class 0.333): tsm_resnet_tiny" in said
    assert "Always answering" not in said


def test_an_even_test_goes_by_videos(tmp_path):
    comparison = compared([uneven_run(tmp_path / "a", (10, 9, 5), counts=(12, 12, 12))])
    assert not comparison.by_class
    assert comparison.as_json()["measure"] == "video_top1"
    assert comparison.table()[0][1] == "video top-1 [95 %]"


def strata(counts):
    labels_N = np.repeat(np.arange(len(counts)), counts)
    return 1 / (len(counts) * np.array(counts)[labels_N]), labels_N


def test_what_classes_differ_by_is_no_variance():
    """By hand: two classes, each with its own binomial variance, n - 1 in the denominator."""
    right = np.array([[1] * 9 + [0] + [1] * 2 + [0] * 3], dtype=bool)
    weighed = strata((10, 5))
    sample = Sample.of(right, np.full(15, ""), *weighed)
    variances = np.array([0.9 * 0.1 / 9, 0.4 * 0.6 / 4])
    assert sample.value == pytest.approx((0.9 + 0.4) / 2)
    assert sample.units_variance == pytest.approx(variances.sum() / 4)
    weights = np.array([1 / 10, 1 / 5]) / 4  # variances if classes vary alike
    assert sample.dof == pytest.approx(weights.sum() ** 2 / (weights[0] ** 2 / 9 + weights[1] ** 2 / 4))
    assert sample.unseen == 0


def test_a_rare_class_without_an_error_is_not_certain():
    weighed = strata((40, 3))
    right = np.ones((1, 43), dtype=bool)
    right[0, :8] = False
    sure = accuracy_interval(right, np.full(43, ""), weighed=weighed)
    assert sure.value == pytest.approx(0.9)
    assert sure.low < 0.65, "three of three may be two of three in truth"
    many = accuracy_interval(np.repeat(right, 10, axis=1), np.full(430, ""), weighed=strata((400, 30)))
    assert many.high - many.low < (sure.high - sure.low) / 3


def test_a_source_that_shows_every_class_counts_once():
    """Nine people who do all ten actions are nine people, whatever the number of classes."""
    labels_N, people = np.tile(np.arange(10), 9), np.repeat(np.arange(9), 10)
    right = (people < 6)[None]
    weights_N = np.full(90, 1 / 90)
    by_class = accuracy_interval(right, np.char.add("p", people.astype(str)), weighed=(weights_N, labels_N))
    plain = accuracy_interval(right, np.char.add("p", people.astype(str)))
    assert (by_class.low, by_class.high) == pytest.approx((plain.low, plain.high), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(40, 6, 3), (200, 30, 15), (300, 100, 50, 30, 20, 10, 10, 10)])
@pytest.mark.parametrize(("best", "worst"), [(0.95, 0.05), (0.9, 0.3), (0.75, 0.75)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_coverage_of_the_mean_over_classes(counts, best, worst, seeds):
    draw, studies, held = np.random.default_rng(0), 1000, 0
    weights_N, labels_N = strata(counts)
    truth_K = np.linspace(best, worst, len(counts))
    for _ in range(studies):
        own_N = draw.beta(truth_K[labels_N], 1 - truth_K[labels_N])
        right = draw.random((seeds, len(labels_N))) < own_N
        interval = accuracy_interval(right, np.full(len(labels_N), ""), weighed=(weights_N, labels_N))
        held += interval.low <= truth_K.mean() <= interval.high
    assert held / studies >= 0.935
    if min(counts) >= 10:
        assert held / studies <= 0.99
