"""Average precision of events, starts and frames: by hand, and against slow code written from the definitions."""

import json

import numpy as np
import pytest

from muybridge.analysis.detection import (
    OVERLAPS,
    TOLERANCES_SECONDS,
    Video,
    cell_of,
    frame_average_precision,
    judge,
    overlap,
)
from muybridge.analysis.events import Event
from muybridge.data.annotations import Annotation

FPS = 10


def video(found, truth, *, scores_NK=None, seconds=20.0, classes=1):
    """A video with a window a second."""
    times_N = np.arange(int(seconds)) + 0.5
    scores_NK = np.zeros((len(times_N), classes)) if scores_NK is None else np.asarray(scores_NK, dtype=float)
    return Video(found, truth, times_N, scores_NK, np.arange(int(seconds * FPS)) / FPS, seconds)


def event(start, end, score, label="run"):
    return Event(start, end, label, score)


def true(start, end, label="run"):
    return Annotation(start, end, label)


def event_ap(judgement, at):
    return judgement.event_ap_OC[OVERLAPS.index(at), 0]


def test_overlap_is_intersection_over_union():
    assert overlap(true(0, 4), true(2, 6)) == pytest.approx(2 / 6)
    assert overlap(true(0, 4), true(4, 6)) == 0
    assert overlap(true(1, 3), true(0, 4)) == pytest.approx(0.5)
    assert overlap(true(1, 1), true(1, 1)) == 0


def test_average_precision_of_events_by_hand():
    """Right, wrong, right of three true events: precision 1 up to a recall of 1/3, 2/3 up to 2/3, then nothing."""
    found = [event(0, 2, 0.9), event(15, 17, 0.8), event(4, 6, 0.7)]
    judged = judge([video(found, [true(0, 2), true(4, 6), true(8, 10)])], ("run",))
    assert event_ap(judged, 0.5) == pytest.approx((1 + 2 / 3) / 3)


def test_precision_is_interpolated():
    """Wrong, right, right: precision 0, 1/2, 2/3. At either recall the highest to its right is 2/3."""
    found = [event(15, 17, 0.9), event(0, 2, 0.8), event(4, 6, 0.7)]
    judged = judge([video(found, [true(0, 2), true(4, 6)])], ("run",))
    assert event_ap(judged, 0.5) == pytest.approx(2 / 3)


def test_an_annotated_event_counts_once():
    twice = judge([video([event(0, 2, 0.9), event(0, 2, 0.8)], [true(0, 2), true(10, 12)])], ("run",))
    assert event_ap(twice, 0.5) == pytest.approx(0.5)
    lost = judge(
        [video([event(10, 12, 0.5), event(0, 2, 0.9), event(0, 2, 0.8)], [true(0, 2), true(10, 12)])], ("run",)
    )
    assert event_ap(lost, 0.5) == pytest.approx((1 + 2 / 3) / 2)


def test_an_event_takes_the_best_free_one_as_activitynet_does():
    """The second event overlaps most with what is taken. It gets the next (PASCAL's rule would call it wrong)."""
    truth = [true(0, 10), true(6, 16)]
    judged = judge([video([event(0, 10, 0.9), event(2, 12, 0.8)], truth)], ("run",))
    assert overlap(true(2, 12), truth[0]) > overlap(true(2, 12), truth[1]) > 0.4
    assert event_ap(judged, 0.4) == pytest.approx(1.0)
    assert event_ap(judged, 0.5) == pytest.approx(0.5)


def test_an_event_of_another_video_or_class_is_wrong():
    videos = [video([event(0, 2, 0.9)], []), video([event(0, 2, 0.8)], [true(0, 2)])]
    assert event_ap(judge(videos, ("run",)), 0.5) == pytest.approx(0.5)
    judged = judge([video([event(0, 2, 0.9, "jump")], [true(0, 2)])], ("run", "jump"))
    assert (judged.classes, judged.num_elsewhere, event_ap(judged, 0.1)) == (("run",), 1, 0.0)


def test_starts_are_right_within_a_tolerance_whatever_the_end():
    judged = judge([video([event(1.0, 20, 0.9), event(8, 9, 0.5)], [true(0, 2), true(7.5, 19)])], ("run",))
    by_tolerance = dict(zip(TOLERANCES_SECONDS, judged.start_ap_SC[:, 0], strict=True))
    assert by_tolerance == pytest.approx({0.5: 0.25, 1.0: 1.0, 2.0: 1.0, 5.0: 1.0})


def test_nothing_annotated_is_no_judgement():
    assert judge([video([event(0, 2, 0.9)], [])], ("run",)) is None


def test_frames_by_hand():
    scores, shown = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert frame_average_precision(scores, shown) == pytest.approx((1 + 2 / 3) / 2)
    rare = np.array([True, False, False, False])
    assert frame_average_precision(np.array([0.5, 0.9, 0.4, 0.3]), rare) == pytest.approx(1 / 2)
    # w = 3: 3 TP / (3 TP + FP)
    assert frame_average_precision(np.array([0.5, 0.9, 0.4, 0.3]), rare, is_calibrated=True) == pytest.approx(3 / 4)


def test_a_guess_has_the_share_of_the_class_and_calibrated_one_half():
    for share in (0.02, 0.5, 0.9):
        shown = np.arange(1000) < share * 1000
        assert frame_average_precision(np.ones(1000), shown) == pytest.approx(share)
        assert frame_average_precision(np.ones(1000), shown, is_calibrated=True) == pytest.approx(0.5)


def test_copies_of_what_is_not_the_class_lower_average_precision_but_not_the_calibrated_one():
    rng = np.random.default_rng(0)
    scores, shown = rng.random(50), rng.random(50) < 0.3
    copied = (
        np.concatenate([scores, np.repeat(scores[~shown], 9)]),
        np.concatenate([shown, np.zeros(9 * (~shown).sum()) > 0]),
    )
    assert frame_average_precision(*copied) < frame_average_precision(scores, shown)
    both = [frame_average_precision(*frames, is_calibrated=True) for frames in (copied, (scores, shown))]
    assert both[0] == pytest.approx(both[1])


def test_a_class_of_all_frames_and_one_of_none():
    assert frame_average_precision(np.array([0.2, 0.1]), np.array([True, True]), is_calibrated=True) == 1.0
    assert np.isnan(frame_average_precision(np.array([0.2, 0.1]), np.array([False, False])))


def test_frames_take_the_score_of_their_cell():
    cells = cell_of(np.array([0.0, 0.99, 1.0, 2.4, 9.0]), np.array([0.5, 1.5, 2.5]), 10.0)
    assert cells.tolist() == [0, 0, 1, 2, 2]


# ---- slow code, from the definitions ----


def slow_event_ap(videos, label, least):
    """ActivityNet's loop, with its order of steps: sort, go through the true events by overlap, lock; then envelope."""
    found = [(v, e) for v, one in enumerate(videos) for e in one.found if e.label == label]
    found.sort(key=lambda pair: -pair[1].score)
    locked, tp = set(), []
    for v, e in found:
        candidates = sorted(
            ((overlap(e, t), n) for n, t in enumerate(videos[v].truth) if t.label == label), key=lambda pair: -pair[0]
        )
        hit = False
        for value, n in candidates:
            if value < least:
                break
            if (v, n) in locked:
                continue
            locked.add((v, n))
            hit = True
            break
        tp.append(hit)
    count = sum(t.label == label for one in videos for t in one.truth)
    tp = np.cumsum(tp)
    recall, precision = tp / count, tp / np.arange(1, len(tp) + 1)
    mprec, mrec = np.hstack([[0], precision, [0]]), np.hstack([[0], recall, [1]])
    for i in range(len(mprec) - 1)[::-1]:
        mprec[i] = max(mprec[i], mprec[i + 1])
    at = np.where(mrec[1:] != mrec[:-1])[0] + 1
    return np.sum((mrec[at] - mrec[at - 1]) * mprec[at])


def slow_frame_ap(videos, label, column, is_calibrated):
    """Every frame is looked up and every threshold tried."""
    scores, shown = [], []
    for one in videos:
        for t in one.frame_times_F:
            scores.append(one.scores_NK[np.abs(one.times_N - t - 1e-9).argmin(), column])
            shown.append(any(e.label == label and e.start_seconds <= t < e.end_seconds for e in one.truth))
    scores, shown = np.array(scores), np.array(shown)
    w = (~shown).sum() / shown.sum() if is_calibrated else 1.0
    total = 0.0
    for score in scores[shown]:  # precision at each frame of the class
        taken = scores >= score
        tp, fp = (taken & shown).sum(), (taken & ~shown).sum()
        total += w * tp / (w * tp + fp)
    return total / shown.sum()


def drawn(rng, labels):
    spans = [(s, s + rng.uniform(0.5, 4)) for s in rng.uniform(0, 16, 5)]
    return [(round(s, 2), round(e, 2), str(rng.choice(labels))) for s, e in spans]


def made(seed, num_videos=4):
    rng, labels = np.random.default_rng(seed), ("run", "jump")
    videos = []
    for _ in range(num_videos):
        truth = [Annotation(*span) for span in drawn(rng, labels)]
        near = [
            Event(max(0.0, t.start_seconds + rng.normal(0, 0.5)), t.end_seconds + rng.uniform(0, 1), t.label, rng.random())
            for t in truth if rng.random() < 0.8
        ]  # fmt: skip
        other = [Event(s, e, name, rng.random()) for s, e, name in drawn(rng, labels)]
        videos.append(video([*near, *other], truth, scores_NK=rng.dirichlet([0.5, 0.5], 20).round(1), classes=2))
    return videos, labels


@pytest.mark.parametrize("seed", range(8))
def test_metrics_are_those_of_slow_code(seed):
    videos, labels = made(seed)
    judged = judge(videos, labels)
    for c, name in enumerate(judged.classes):
        for o, least in enumerate(OVERLAPS):
            assert judged.event_ap_OC[o, c] == pytest.approx(slow_event_ap(videos, name, least))
        column = labels.index(name)
        assert judged.frame_ap_C[c] == pytest.approx(slow_frame_ap(videos, name, column, False))
        assert judged.calibrated_ap_C[c] == pytest.approx(slow_frame_ap(videos, name, column, True))
    assert judged.event_map_O[4].value == pytest.approx(judged.event_ap_OC[4].mean())
    assert judged.mean_event_map.value == pytest.approx(judged.event_ap_OC.mean())
    assert judged.frame_map.value == pytest.approx(judged.frame_ap_C.mean())


def test_a_video_that_is_resampled_twice_counts_as_two():
    """Intervals weigh videos. Weights are the same as copies."""
    videos, labels = made(3)
    copied = judge([videos[0], videos[0], videos[2], *[videos[3]] * 3], labels)
    from muybridge.analysis.detection import _Frames, _Ranked

    weights_1V = np.array([[2.0, 0.0, 1.0, 3.0]])
    for c, name in enumerate(copied.classes):
        ranked = _Ranked.of(videos, name)
        assert ranked.average_precision(weights_1V, 0.3)[0] == pytest.approx(copied.event_ap_OC[OVERLAPS.index(0.3), c])
        frames = _Frames.of(videos, name, labels.index(name))
        for is_calibrated, ap_C in ((False, copied.frame_ap_C), (True, copied.calibrated_ap_C)):
            assert frames.average_precision(weights_1V, is_calibrated=is_calibrated)[0] == pytest.approx(ap_C[c])


def test_intervals_hold_the_value_and_need_several_videos():
    videos, labels = made(5, num_videos=8)
    many = judge(videos, labels)
    for estimate in (*many.event_map_O, many.mean_event_map, *many.start_map_S, many.frame_map, many.calibrated_map):
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.low < estimate.high
    few = judge(videos[:2], labels)
    assert few.frame_map.low is None
    assert str(few.frame_map) == f"{few.frame_map.value:.3f}"
    same = judge([videos[0]] * 5, labels)  # videos that are all alike vary by nothing
    assert same.frame_map.high - same.frame_map.low < 1e-9


def test_a_perfect_finder_is_perfect():
    truth = [true(2, 5), true(8, 10, "jump")]
    scores_NK = np.zeros((20, 2))
    scores_NK[2:5, 0] = scores_NK[8:10, 1] = 1
    found = [event(t.start_seconds, t.end_seconds, 0.5, t.label) for t in truth]
    judged = judge([video(found, truth, scores_NK=scores_NK, classes=2)], ("run", "jump"))
    assert (judged.event_ap_OC == 1).all()
    assert (judged.start_ap_SC == 1).all()
    assert (judged.frame_ap_C == 1).all()
    assert (judged.calibrated_ap_C == 1).all()


def test_instants_have_starts_and_no_frames():
    judged = judge([video([event(3.2, 4, 0.9)], [true(3, 3)])] * 3, ("run",))
    assert judged.start_map_S[0].value == 1.0
    assert judged.event_map_O[0].value == 0.0
    assert np.isnan(judged.frame_map.value)
    assert str(judged.frame_map) == "–"
    assert json.loads(json.dumps(judged.as_json(), allow_nan=False))["classes"]["run"]["frame_ap"] is None
