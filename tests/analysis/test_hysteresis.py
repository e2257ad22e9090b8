"""Events of scores over time: by hand, against a brute force that looks at all cells at once, and a score at a time."""

import numpy as np
import pytest

from muybridge.analysis.events import Event, Hysteresis, Rules, edges, events, smoothed
from muybridge.errors import UserError

CLASSES = ("run", "jump", "none")


def of_one(scores_N, **rules):
    """Events of one class of scores at 0.5, 1.5, 2.5 … s."""
    times_N = np.arange(len(scores_N)) + 0.5
    scores_NK = np.column_stack([scores_N, np.zeros(len(scores_N))])
    return events(times_N, scores_NK, ("run", "jump"), Rules(**rules), end_seconds=float(len(scores_N)))


def spans(found):
    return [(event.start_seconds, event.end_seconds) for event in found]


def test_an_event_begins_high_and_ends_low():
    found = of_one([0.1, 0.4, 0.6, 0.4, 0.35, 0.2, 0.4, 0.1], start_above=0.5, end_below=0.3)
    assert spans(found) == [(2.0, 5.0)]  # .4 alone begins none, and .4 and .35 do not end it
    assert found[0].label == "run"
    assert type(found[0].start_seconds) is type(found[0].score) is float  # for JSON
    assert found[0].score == pytest.approx((0.6 + 0.4 + 0.35) / 3)


def test_scores_on_the_thresholds_are_in():
    assert spans(of_one([0.0, 0.5, 0.3, 0.29], start_above=0.5, end_below=0.3)) == [(1.0, 3.0)]


def test_the_first_and_the_last_cell_reach_the_ends_of_the_video():
    found = events(np.array([1.0, 2.0, 4.0]), np.array([[0.9], [0.1], [0.9]]), ("run",), end_seconds=9.0)
    assert spans(found) == [(0.0, 1.5), (3.0, 9.0)]


def test_near_events_become_one_before_short_ones_are_dropped():
    scores = [0.9, 0.0, 0.8, 0.0, 0.0, 0.0, 0.9, 0.0]
    assert spans(of_one(scores)) == [(0, 1), (2, 3), (6, 7)]
    assert spans(of_one(scores, merge_seconds=1.0)) == [(0, 3), (6, 7)]
    assert spans(of_one(scores, merge_seconds=1.0, min_seconds=3.0)) == [(0, 3)]
    assert spans(of_one(scores, merge_seconds=0.9, min_seconds=1.1)) == []
    merged = of_one(scores, merge_seconds=1.0)[0]
    assert merged.score == pytest.approx((0.9 + 0.0 + 0.8) / 3)  # the gap counts
    assert spans(of_one(scores, merge_seconds=3.0)) == [(0, 7)]


def test_the_background_makes_no_events_and_unknown_answers_end_them():
    times_N, scores_NK = np.arange(4) + 0.5, np.array([[0.1, 0.9], [0.7, 0.3], [0.55, 0.45], [0.8, 0.2]])
    assert [e.label for e in events(times_N, scores_NK, ("run", "none"))] == ["none", "run"]
    quiet = events(times_N, scores_NK, ("run", "none"), Rules(background="none"), end_seconds=4.0)
    assert [(e.label, e.start_seconds, e.end_seconds) for e in quiet] == [("run", 1.0, 4.0)]
    sure = events(times_N, scores_NK, ("run", "none"), Rules(background="none", unknown_below=0.6), end_seconds=4.0)
    assert spans(sure) == [(1.0, 2.0), (3.0, 4.0)]
    bridged = Rules(background="none", unknown_below=0.6, merge_seconds=1.0)
    assert spans(events(times_N, scores_NK, ("run", "none"), bridged, end_seconds=4.0)) == [(1.0, 4.0)]


def brute_force(times_N, scores_NK, rules, end_seconds):
    """Masks of cells, grown by hand from both sides of the rule; then gaps and lengths over lists."""
    edge = edges(times_N, start_seconds=0.0, end_seconds=end_seconds)
    known_N = scores_NK.max(1) >= rules.unknown_below
    found = []
    for k, name in enumerate(CLASSES):
        if name == rules.background:
            continue
        start_N, hold_N = (known_N & (scores_NK[:, k] >= level) for level in (rules.start_above, rules.end_below))
        parts, i = [], 0
        while i < len(times_N):
            if start_N[i]:
                stop = next((j for j in range(i, len(times_N)) if not hold_N[j]), len(times_N))
                parts.append([i, stop])
                i = stop
            i += 1
        merged = []
        for part in parts:
            if merged and edge[part[0]] - edge[merged[-1][1]] <= rules.merge_seconds + 1e-9:
                merged[-1][1] = part[1]
            else:
                merged.append(part)
        found += [
            Event(edge[i], edge[j], name, scores_NK[i:j, k].mean()) for i, j in merged
            if edge[j] - edge[i] >= rules.min_seconds - 1e-9
        ]  # fmt: skip
    return sorted(found, key=lambda e: (e.start_seconds, e.end_seconds, e.label))


def same(one, other):
    assert [(e.label, e.start_seconds, e.end_seconds) for e in one] == [
        (e.label, e.start_seconds, e.end_seconds) for e in other
    ]
    assert [e.score for e in one] == pytest.approx([e.score for e in other])


@pytest.mark.parametrize("seed", range(40))
def test_events_are_those_of_a_brute_force_and_of_a_score_at_a_time(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    times_N = np.cumsum(rng.uniform(0.05, 1.0, n))
    scores_NK = smoothed(times_N, rng.dirichlet(np.full(3, 0.3), n), float(rng.choice([0, 0.5])))
    low, high = sorted(rng.uniform(0.1, 0.9, 2))
    rules = Rules(
        start_above=high, end_below=low, min_seconds=float(rng.choice([0, 0.5, 2])),
        merge_seconds=float(rng.choice([0, 0.4, 1.5])), background=[None, "none"][seed % 2],
        unknown_below=float(rng.choice([0, 0.6])),
    )  # fmt: skip
    end = times_N[-1] + 0.3
    expected = brute_force(times_N, scores_NK, rules, end)
    same(events(times_N, scores_NK, CLASSES, rules, end_seconds=end), expected)
    stream, found = Hysteresis(CLASSES, rules, start_seconds=0.0), []
    for time, scores_K in zip(times_N, scores_NK, strict=True):
        closed = stream.push(time, scores_K)
        assert all(event.end_seconds <= time for event in closed)  # nothing is closed ahead of time
        found += closed
    found += stream.finish(end)
    same(sorted(found, key=lambda e: (e.start_seconds, e.end_seconds, e.label)), expected)


def test_a_stream_tells_of_an_event_as_soon_as_it_is_certain():
    stream = Hysteresis(("run",), Rules(merge_seconds=1.0), start_seconds=0.0)
    assert stream.push(0.5, np.array([0.9])) == []
    assert spans(stream.open) == [(0.0, 0.5)]
    assert stream.push(1.5, np.array([0.1])) == []  # may be merged with what comes
    assert stream.open == []
    assert spans(stream.push(2.5, np.array([0.1]))) == [(0.0, 1.0)]
    assert stream.finish() == []


def test_times_out_of_order_are_refused():
    stream = Hysteresis(("run",))
    stream.push(1.0, np.array([0.5]))
    with pytest.raises(ValueError, match="after"):
        stream.push(1.0, np.array([0.5]))


@pytest.mark.parametrize(
    "rules",
    [{"start_above": 1.5}, {"end_below": -0.1}, {"start_above": 0.2, "end_below": 0.3}, {"min_seconds": -1.0},
     {"merge_seconds": float("nan")}, {"merge_seconds": float("inf")}],
)  # fmt: skip
def test_rules_that_make_no_events_are_refused(rules):
    with pytest.raises(UserError, match=r"^--.*\. Give"):
        Rules(**rules)


def test_a_background_that_is_no_class_is_refused():
    with pytest.raises(UserError, match="Did you mean 'none'"):
        Hysteresis(CLASSES, Rules(background="nine"))


def test_smoothing_moves_nothing_and_keeps_probabilities():
    times_N = np.arange(41) * 0.5
    peak_NK = np.column_stack([np.eye(41)[20], 1 - np.eye(41)[20]])
    smooth_NK = smoothed(times_N, peak_NK, 1.0)
    assert smooth_NK.sum(1) == pytest.approx(np.ones(41))
    assert smooth_NK[:, 0] == pytest.approx(smooth_NK[::-1, 0])
    assert smooth_NK[:, 0].argmax() == 20
    assert (times_N * smooth_NK[:, 0]).sum() / smooth_NK[:, 0].sum() == pytest.approx(10.0)
    assert smooth_NK[22, 0] / smooth_NK[20, 0] == pytest.approx(np.exp(-0.5))  # a standard deviation away
    assert smoothed(times_N, peak_NK, 0.0) is peak_NK


def test_smoothing_uneven_times_is_the_weighted_mean():
    rng = np.random.default_rng(1)
    times_N, scores_NK = np.cumsum(rng.uniform(0.1, 2, 30)), rng.random((30, 3))
    apart_NN = np.abs(times_N[:, None] - times_N)
    weights_NN = np.where(apart_NN <= 4 * 0.8, np.exp(-0.5 * (apart_NN / 0.8) ** 2), 0)
    expected_NK = weights_NN @ scores_NK / weights_NN.sum(1, keepdims=True)
    assert np.allclose(smoothed(times_N, scores_NK, 0.8), expected_NK)
