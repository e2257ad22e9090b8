"""Intervals: known values, what must not change them, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from muybridge.results.statistics import accuracy_interval, wilson

Z = 1.959964


def ungrouped(num_videos):
    return np.full(num_videos, "")


def named(groups):
    return np.array([f"g{group}" for group in groups])


def ends(interval):
    return interval.low, interval.high


@pytest.mark.parametrize(("right", "videos"), [(0, 10), (7, 10), (45, 50), (400, 400), (1, 3)])
def test_one_run_on_independent_videos_is_wilsons_interval(right, videos):
    interval = accuracy_interval(np.arange(videos)[None] < right, ungrouped(videos))
    known = stats.binomtest(right, videos).proportion_ci(0.95, method="wilson")
    assert ends(interval) == pytest.approx((known.low, known.high), abs=1e-6)
    assert interval.value == right / videos
    assert interval.method == f"Wilson over {videos} videos"


def test_a_published_value():
    assert wilson(0.9, 50, Z) == pytest.approx((0.7864, 0.9565), abs=1e-4)


def test_groups_are_cluster_robust_with_one_degree_less_than_groups():
    """By hand: accuracies 1, 1/2, 0 of three groups of 4, p = 1/2, so residual sums 2, 0, -2."""
    correct = np.array([[1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0]], dtype=bool)
    variance = 3 / 2 * (2**2 + 0 + 2**2) / 12**2
    interval = accuracy_interval(correct, named([0] * 4 + [1] * 4 + [2] * 4))
    t = 4.302653  # 97.5 % of Student's t, 2 degrees of freedom
    for end in ends(interval):  # what defines Wilson's ends: (p - x)² = t² x (1 - x) / n, with n = p (1 - p) / variance
        assert (0.5 - end) ** 2 == pytest.approx(t**2 * end * (1 - end) * variance / 0.25, rel=1e-5)
    assert interval.low < 0.5 < interval.high
    assert interval.method == "Wilson over 3 groups"


def test_seeds_add_their_variance_with_satterthwaites_degrees_of_freedom():
    correct = np.zeros((2, 10), dtype=bool)
    correct[0, :4], correct[1, :8] = True, True
    means = correct.mean(0)
    over_videos, over_seeds = means.var(ddof=1) / 10, np.var([0.4, 0.8], ddof=1) / 2
    variance = over_videos + over_seeds
    dof = variance**2 / (over_videos**2 / 9 + over_seeds**2 / 1)
    interval = accuracy_interval(correct, ungrouped(10))
    assert ends(interval) == pytest.approx(wilson(0.6, 0.24 / variance, stats.t.ppf(0.975, dof)), abs=1e-9)
    assert interval.method == "Wilson over 10 videos and 2 seeds"


def test_seeds_that_agree_tell_no_more_than_one_of_them():
    correct = np.random.default_rng(0).random((1, 300)) < 0.8
    one, three = accuracy_interval(correct, ungrouped(300)), accuracy_interval(np.repeat(correct, 3, 0), ungrouped(300))
    assert ends(three) == pytest.approx(ends(one), abs=2e-3)


def test_order_does_not_matter_and_right_and_wrong_mirror_each_other():
    draw = np.random.default_rng(1)
    correct, groups = draw.random((3, 60)) < 0.7, named(draw.integers(0, 7, 60))
    interval = accuracy_interval(correct, groups)
    order = draw.permutation(60)
    assert ends(accuracy_interval(correct[::-1][:, order], groups[order])) == pytest.approx(ends(interval))
    mirrored = accuracy_interval(~correct, groups)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx(ends(interval))


def test_errors_that_come_in_groups_make_a_figure_less_sure():
    groups = named(np.repeat(np.arange(10), 30))
    spread, clustered = np.ones((1, 300), dtype=bool), np.ones((1, 300), dtype=bool)
    spread[0, ::10] = False
    clustered[0, :30] = False
    alone = accuracy_interval(spread, ungrouped(300))
    assert accuracy_interval(spread, groups).low == pytest.approx(alone.low, abs=0.02)
    assert accuracy_interval(clustered, groups).low < alone.low - 0.1


def test_groups_of_one_video_are_no_groups():
    correct = np.random.default_rng(2).random((1, 200)) < 0.85
    alone = accuracy_interval(correct, ungrouped(200))
    assert ends(accuracy_interval(correct, named(np.arange(200)))) == pytest.approx(ends(alone), abs=1e-3)


def test_a_video_without_a_group_stands_for_itself():
    groups = np.array(["a", "a", "a", "", "", "b"])
    correct = np.array([[1, 0, 1, 0, 1, 1]], dtype=bool)
    assert accuracy_interval(correct, groups).method == "Wilson over 4 groups"
    explicit = np.array(["a", "a", "a", "c", "d", "b"])
    assert ends(accuracy_interval(correct, groups)) == ends(accuracy_interval(correct, explicit))


@pytest.mark.parametrize("right", [True, False])
def test_without_a_single_error_each_group_counts_as_one_video(right):
    correct = np.full((1, 270), right)
    interval = accuracy_interval(correct, named(np.arange(270) % 9))
    assert ends(interval) == pytest.approx(wilson(float(right), 9, Z), abs=1e-6)
    assert interval.high - interval.low > 0.25
    seeds = accuracy_interval(np.full((3, 270), right), ungrouped(270))
    assert ends(seeds) == pytest.approx(wilson(float(right), 270, Z), abs=1e-6)


def test_groups_that_happen_to_be_equal_are_not_certain():
    correct = np.tile([True, True, True, True, False], 2)[None]
    interval = accuracy_interval(correct, named([0] * 5 + [1] * 5))
    assert interval.low < 0.25
    assert interval.high > 0.95


def test_one_group_says_nothing():
    interval = accuracy_interval(np.array([[True, True, False]]), named([0, 0, 0]))
    assert ends(interval) == (0, 1)
    assert "one group" in interval.method


def test_the_value_lies_inside_and_the_ends_between_0_and_1():
    draw = np.random.default_rng(3)
    for _ in range(300):
        seeds, videos = draw.integers(1, 4), draw.integers(1, 30)
        groups = named(draw.integers(0, 4, videos)) if draw.random() < 0.5 else ungrouped(videos)
        interval = accuracy_interval(draw.random((seeds, videos)) < draw.choice([0.02, 0.5, 0.98]), groups)
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.low < interval.high


def test_coverage_of_one_run_on_independent_videos():
    """Exact: every count of right answers, weighted by its probability."""
    videos = 200
    found = [accuracy_interval(np.arange(videos)[None] < right, ungrouped(videos)) for right in range(videos + 1)]
    low, high = np.array([ends(interval) for interval in found]).T
    for truth in (0.5, 0.7, 0.9, 0.95):
        around = np.linspace(truth - 0.02, truth + 0.02, 41)  # coverage of any interval jumps with the truth
        weights = stats.binom.pmf(np.arange(videos + 1)[:, None], videos, around)
        inside = (low[:, None] <= around) & (around <= high[:, None])
        assert 0.935 <= (weights * inside).sum(0).mean() <= 0.965


@pytest.mark.parametrize(("truth", "correlation"), [(0.7, 0.2), (0.8, 0.1), (0.9, 0.1), (0.97, 0.05)])
def test_coverage_over_nine_groups(truth, correlation):
    """Groups whose own accuracies vary (beta-binomial); the interval that ignores them is shown to fail."""
    draw = np.random.default_rng(4)
    groups = np.repeat(np.arange(9), draw.integers(20, 41, 9))
    strength = (1 - correlation) / correlation
    covered = ignoring = standard_error = 0
    runs = 1500
    for _ in range(runs):
        own = draw.beta(truth * strength, (1 - truth) * strength, 9)
        correct = draw.random((1, len(groups))) < own[groups]
        interval = accuracy_interval(correct, named(groups))
        covered += interval.low <= truth <= interval.high
        naive = accuracy_interval(correct, ungrouped(len(groups)))
        ignoring += naive.low <= truth <= naive.high
        residuals = np.bincount(groups, weights=correct[0] - correct.mean())
        half = 2.306 * (9 / 8 * (residuals**2).sum()) ** 0.5 / len(groups)
        standard_error += abs(correct.mean() - truth) <= half
    assert covered / runs >= 0.91
    assert ignoring < covered - 0.05 * runs
    assert standard_error <= covered  # what p ± t · standard error would have covered


@pytest.mark.parametrize("spread_of_seeds", [0.005, 0.03])
def test_coverage_over_three_seeds(spread_of_seeds):
    draw = np.random.default_rng(5)
    truth, covered, runs = 0.8, 0, 1500
    for _ in range(runs):
        own = draw.beta(truth * 2, (1 - truth) * 2, 200) + draw.normal(0, spread_of_seeds, (3, 1))
        interval = accuracy_interval(draw.random((3, 200)) < own, ungrouped(200))
        covered += interval.low <= truth <= interval.high
    assert covered / runs >= 0.93
