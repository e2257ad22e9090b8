"""Intervals: known values, what must not change them, and how often they hold the truth."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from muybridge.analysis.shares import wilson
from muybridge.analysis.statistics import (
    Difference,
    Sample,
    _Variance,
    accuracy_interval,
    calibration,
    change,
    judged,
    letter_sets,
    p_values,
    paired_difference,
    takes,
    usual_spread,
)

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


def test_seeds_add_their_variance_with_howes_quantile():
    """By hand: what videos and seeds vary by, each with its own quantile; what both hold is in one of them only."""
    correct = np.zeros((3, 10), dtype=bool)
    correct[0, :4], correct[1, :8], correct[2, :6] = True, True, True
    video, seed = correct.mean(0), correct.mean(1)
    left = correct - seed[:, None] - video + 0.6
    residual = (left**2).sum() / (2 * 9) / 30
    over_videos = video.var(ddof=1) / 10
    over_seeds = seed.var(ddof=1) / 3 - residual
    assert over_seeds > 0
    variance = over_videos + over_seeds
    quantile = np.sqrt((over_videos * stats.t.ppf(0.975, 9) ** 2 + over_seeds * stats.t.ppf(0.975, 2) ** 2) / variance)
    interval = accuracy_interval(correct, ungrouped(10))
    assert ends(interval) == pytest.approx(wilson(0.6, 0.24 / variance, quantile), abs=1e-9)
    assert interval.method == "Wilson over 10 videos and 3 seeds"


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


# --- seeds and videos


def drawn(draw, videos, *, seeds, spread, truth=0.75, own=None, shift=0.0):
    """(S,N) right answers: videos differ in difficulty (`own`: their chances, or drawn), seeds by `spread`."""
    chances = draw.beta(truth, 1 - truth, videos) if own is None else own  # most videos are easy, or hopeless
    slope = (chances * (1 - chances)).mean()
    logit = np.log(np.clip(chances, 1e-9, None) / np.clip(1 - chances, 1e-9, None))
    moved = (shift + draw.normal(0, spread, (seeds, 1))) / slope
    return draw.random((seeds, videos)) < 1 / (1 + np.exp(-logit - moved))


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.005), (3, 0.02), (5, 0.01)])
def test_coverage_over_seeds_and_videos(seeds, spread):
    """benchmarks/simulate.py has the table; here with the error of 1,500 draws (0.6 points) beside 93.5 to 96.5 %."""
    draw, covered, runs = np.random.default_rng(5), 0, 1500
    for _ in range(runs):
        interval = accuracy_interval(drawn(draw, 500, seeds=seeds, spread=spread), ungrouped(500))
        covered += interval.low <= 0.75 <= interval.high
    assert 0.93 <= covered / runs <= 0.975


def difference_of(a, b, groups=None):
    groups = ungrouped(a.shape[1]) if groups is None else groups
    return paired_difference(Sample.of(a, groups), Sample.of(b, groups))


def test_a_difference_is_paired_what_is_hard_for_both_costs_nothing():
    """Two models that agree on all but 12 videos: far surer than two intervals side by side."""
    a = np.tile(np.arange(400) < 300, (3, 1))
    b = a.copy()
    b[:, :12] = False
    found = difference_of(a, b)
    assert found.value == pytest.approx(0.03)
    [verdict] = judged([found])
    assert verdict.apart
    one, other = accuracy_interval(a, ungrouped(400)), accuracy_interval(b, ungrouped(400))
    assert one.low < other.high, "the intervals alone overlap"
    shuffled = np.random.default_rng(0).permuted(b, axis=1)
    assert difference_of(a, shuffled).half_width(0.95) > 2 * found.half_width(0.95)


def test_one_run_each_by_hand():
    """McNemar's table with half a video added to either side, as a t."""
    a, b = np.zeros((1, 100), dtype=bool), np.zeros((1, 100), dtype=bool)
    a[0, :30], b[0, 20:30], b[0, 30:33] = True, True, True  # 20 videos only a, 3 only b
    found = difference_of(a, b)
    d = np.concatenate([np.ones(20), -np.ones(3), np.zeros(77)])
    variance = d.var(ddof=1) / 100 + 1 / 99 / 100
    assert found.value == pytest.approx(0.17)
    assert found.half_width(0.95) == pytest.approx(stats.t.ppf(0.975, 99) * variance**0.5)
    assert p_values([found])[0] == pytest.approx(2 * stats.t.sf(0.17 / variance**0.5, 99))
    assert not found.over_seeds


def test_the_p_value_is_the_level_whose_interval_touches_nothing():
    draw = np.random.default_rng(1)
    found = [
        difference_of(drawn(draw, 200, seeds=4, spread=0.02), drawn(draw, 200, seeds=3, spread=0.02, shift=shift))
        for shift in (0.0, 0.05, 0.1, 0.3)
    ]
    for difference, p in zip(found, p_values(found), strict=True):
        assert difference.half_width(1 - p) == pytest.approx(abs(difference.value), rel=1e-6)


def test_nothing_that_differs_nowhere_is_certain():
    same = np.ones((3, 50), dtype=bool)
    [verdict] = judged([difference_of(same, same)])
    assert (verdict.difference.value, verdict.p, verdict.apart) == (0, 1, False)
    assert verdict.low < 0 < verdict.high
    one_group = difference_of(same, ~same, np.full(50, "g"))
    [verdict] = judged([one_group])
    assert not verdict.apart, "one source says nothing of others"


def test_groups_make_a_difference_less_sure():
    groups = named(np.repeat(np.arange(6), 50))
    a, b = np.ones((3, 300), dtype=bool), np.ones((3, 300), dtype=bool)
    b[:, :30] = False  # all in one group
    assert judged([difference_of(a, b)])[0].apart
    assert not judged([difference_of(a, b, groups)])[0].apart


def test_one_unstable_model_does_not_blur_the_others():
    draw = np.random.default_rng(11)
    own = draw.beta(0.75, 0.25, 2000)
    steady = [Sample.of(drawn(draw, 2000, seeds=5, spread=0.003, own=own), ungrouped(2000)) for _ in range(4)]
    wild = Sample.of(drawn(draw, 2000, seeds=5, spread=0.08, own=own), ungrouped(2000))
    usual, with_wild = usual_spread(steady), usual_spread([*steady, wild])
    a, b = steady[:2]
    assert paired_difference(a, b, with_wild).half_width(0.95) < 1.3 * paired_difference(a, b, usual).half_width(0.95)


@pytest.mark.parametrize("sizes", [[2, 4, 8, 16, 32, 64, 128, 256], [200, *[1] * 200], [300, 300, 300, *[5] * 20]])
def test_groups_of_very_unequal_size(sizes):
    """What would be called different of two equal models: never much more than in 5 % of studies."""
    draw, alarms, runs = np.random.default_rng(12), 0, 400
    of_N = np.repeat(np.arange(len(sizes)), sizes)
    names = np.array([f"g{g}" if sizes[g] > 1 else "" for g in of_N])
    for _ in range(runs):
        own_G = draw.beta(6, 2, len(sizes))[of_N]
        tilt = 0.15 * draw.standard_normal(len(sizes))[of_N]  # what one of them finds easier, group by group
        a, b = (draw.random((1, len(of_N))) < np.clip(own_G + side * tilt, 0, 1) for side in (0.5, -0.5))
        alarms += judged([paired_difference(Sample.of(a, names), Sample.of(b, names))])[0].apart
    assert alarms / runs <= 0.09


# --- many pairs


def test_holms_rule_by_hand_and_intervals_agree_with_it():
    """p-values 0.001, 0.012, 0.03, 0.4 of four pairs: times 4, 3, 2, 1, never falling."""
    units = 1e-4
    t = stats.t.isf(np.array([0.001, 0.012, 0.03, 0.4]) / 2, 99)
    differences = [Difference(value * units**0.5, _Variance(units, 99), 100, False) for value in t]
    order = [2, 0, 3, 1]
    verdicts = judged([differences[i] for i in order])
    by_p = [verdicts[order.index(i)] for i in range(4)]
    assert [verdict.p for verdict in by_p] == pytest.approx([0.004, 0.036, 0.06, 0.4], rel=1e-6)
    assert [verdict.apart for verdict in by_p] == [True, True, False, False]
    for verdict in by_p:
        assert verdict.apart == (not verdict.low <= 0 <= verdict.high)
    half = by_p[0].high - by_p[0].difference.value
    assert half == pytest.approx(stats.t.ppf(1 - 0.05 / 4 / 2, 99) * 0.01)


def test_intervals_and_verdicts_never_disagree():
    draw = np.random.default_rng(3)
    for _ in range(200):
        samples = [
            Sample.of(drawn(draw, 60, seeds=3, spread=0.02, shift=shift), ungrouped(60))
            for shift in draw.normal(0, 0.2, 5)
        ]
        pairs = [paired_difference(a, b) for a, b in combinations(samples, 2)]
        for verdict in judged(pairs):
            assert verdict.apart == (verdict.p < 0.05) == (not verdict.low <= 0 <= verdict.high)


def test_groups_are_the_largest_sets_of_which_no_two_are_apart():
    assert letter_sets(1, []) == [(0,)]
    assert letter_sets(3, []) == [(0, 1, 2)]
    assert letter_sets(3, [(0, 2)]) == [(0, 1), (1, 2)]
    assert letter_sets(4, [(0, 1), (0, 2), (0, 3), (1, 3)]) == [(0,), (1, 2), (2, 3)]


def test_groups_against_every_subset():
    draw = np.random.default_rng(4)
    for _ in range(60):
        count = int(draw.integers(2, 8))
        apart = [pair for pair in combinations(range(count), 2) if draw.random() < 0.5]
        free = [
            set(subset)
            for size in range(1, count + 1)
            for subset in combinations(range(count), size)
            if not any(a in subset and b in subset for a, b in apart)
        ]
        largest = sorted(tuple(sorted(one)) for one in free if not any(one < other for other in free))
        assert letter_sets(count, apart) == largest


def test_two_models_of_equal_truth_are_seldom_told_apart_and_three_points_are_found():
    """The figures of many more draws are in docs/statistics.md."""
    draw, runs = np.random.default_rng(6), 150
    alarms = found = 0
    for _ in range(runs):
        own = draw.beta(0.75, 0.25, 3800)
        a = drawn(draw, 3800, seeds=5, spread=0.01, own=own)
        alarms += judged([difference_of(a, drawn(draw, 3800, seeds=5, spread=0.01, own=own))])[0].apart
        found += judged([difference_of(a, drawn(draw, 3800, seeds=5, spread=0.01, own=own, shift=-0.03))])[0].apart
    assert alarms <= stats.binom.ppf(0.999, runs, 0.05)
    assert found >= stats.binom.ppf(0.001, runs, 0.9)


def test_a_change_of_the_same_runs_is_paired_by_seed():
    before = np.tile(np.arange(200) < 180, (3, 1))
    after = np.tile(np.arange(200) < 120, (3, 1))
    found = change(before, after, ungrouped(200))
    assert found.value == pytest.approx(-0.3)
    assert judged([found])[0].high < 0
    assert judged([change(before, before, ungrouped(200))])[0].p == 1


# --- what it takes


def test_what_it_takes_finds_the_difference_in_four_of_five_studies():
    draw = np.random.default_rng(7)
    own = draw.beta(0.75, 0.25, 2000)

    def study(seeds):
        a = drawn(draw, 2000, seeds=seeds, spread=0.01, own=own)
        return difference_of(a, drawn(draw, 2000, seeds=seeds, spread=0.01, own=own, shift=-0.025))

    known = study(60)  # how seeds and videos vary is known well
    needed = takes(known, pairs=1)
    assert (needed.times_videos, needed.is_assumed) == (1, False)
    assert needed.seed_sd == pytest.approx(0.01, abs=0.003)
    power = np.mean([judged([study(needed.seeds)])[0].apart for _ in range(300)])
    assert 0.68 <= power <= 0.92
    smaller = takes(replace(known, value=0.012), pairs=1)
    assert smaller.times_videos * smaller.seeds > needed.seeds
    assert takes(known, pairs=45).seeds > needed.seeds


def test_what_it_takes_from_one_run_each_assumes_how_seeds_spread():
    draw = np.random.default_rng(8)
    own = draw.beta(0.75, 0.25, 3800)
    found = takes(difference_of(
        drawn(draw, 3800, seeds=1, spread=0.0, own=own), drawn(draw, 3800, seeds=1, spread=0.0, own=own, shift=-0.03)
    ), pairs=1)  # fmt: skip
    assert found.is_assumed
    assert found.seed_sd == pytest.approx(0.01)
    assert 3 <= found.seeds <= 8
    same = np.ones((1, 10), dtype=bool)
    assert takes(difference_of(same, same), pairs=1) is None
    tiny = Difference(0.0001, _Variance(1e-4, 99), 100, False, fixed=1e-4)
    assert takes(tiny, pairs=1) is None


# --- calibration


def test_calibration_by_hand():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([1, 1, 1, 0, 1, 0], dtype=bool)
    found = calibration(confidence, correct, num_bins=10)
    assert found.bins == ((pytest.approx(0.55), 0.5, 2), (pytest.approx(0.95), 0.75, 4))
    assert found.error == pytest.approx((2 * 0.05 + 4 * 0.2) / 6)
    assert found.overconfidence == pytest.approx(confidence.mean() - correct.mean())


def test_honest_confidence_has_next_to_no_error_and_too_sure_has():
    draw = np.random.default_rng(9)
    confidence = draw.uniform(0.3, 1, 100_000)
    correct = draw.random(100_000) < confidence
    assert calibration(confidence, correct).error < 0.01
    assert calibration(np.minimum(1.0, confidence + 0.2), correct).overconfidence > 0.1
    assert calibration(np.array([1.0, 0.0]), np.array([True, False])).error == 0
