"""Sampling: exact indices, and what must hold for every length of video."""

import numpy as np
import pytest

from muybridge.data.random import generator
from muybridge.data.sampling import ORDERS, ClipSpec, rearranged, test_indices, train_indices

test_indices.__test__ = False  # pytest would take the function for a test


def draw(seed):
    return generator(seed, "test of sampling")


def clips(n, num_clips=1, video_fps=25.0, **spec):
    """(M,T) of single frames."""
    return test_indices(n, video_fps, ClipSpec(**spec), num_clips=num_clips)[:, :, 0].tolist()


def train(n, seed=0, video_fps=25.0, **spec):
    return train_indices(n, video_fps, ClipSpec(**spec), draw(seed))[:, 0]


MIDDLES = [6, 18, 31, 43, 56, 68, 81, 93]


def test_uniform_takes_the_middle_of_each_segment():
    assert clips(100, num_frames=8) == [MIDDLES]


@pytest.mark.parametrize("T", [1, 2, 3, 7, 8, 16, 32])
def test_uniform_middles_are_exact_for_every_length(T):
    for n in range(1, 400):
        assert clips(n, num_frames=T) == [[(2 * i + 1) * n // (2 * T) for i in range(T)]]


def test_uniform_clips_shift_by_integers():
    expected = [[middle + shift for middle in MIDDLES] for shift in range(-4, 6)]
    assert clips(100, 10, num_frames=8) == expected


@pytest.mark.parametrize(
    ("num_clips", "shifts"), [(1, [0]), (2, [0, 1]), (3, [-1, 0, 1]), (4, [-1, 0, 1, 2]), (5, [-2, -1, 0, 1, 2])]
)
def test_uniform_shifts_of_m_clips(num_clips, shifts):
    assert clips(100, num_clips, num_frames=8) == [[middle + s for middle in MIDDLES] for s in shifts]


def test_uniform_shifts_stop_at_half_a_segment():
    middles = [3, 9, 15, 21, 27, 33, 39, 45]  # segments of 6: half is 3
    shifts = [-3, -3, -2, -1, 0, 1, 2, 3, 3, 3]
    expected = [[min(middle + s, 47) for middle in middles] for s in shifts]
    assert clips(48, 10, num_frames=8) == expected


def test_uniform_repeats_frames_of_a_short_video_in_order():
    assert clips(5, num_frames=8) == [[0, 0, 1, 2, 2, 3, 4, 4]]
    assert clips(1, 3, num_frames=4) == [[0, 0, 0, 0]] * 3
    for n in range(1, 8):
        [clip] = clips(n, num_frames=8)
        assert clip == sorted(clip)
        assert set(clip) == set(range(n))


@pytest.mark.parametrize("jitter", ["segment", "shared"])
def test_a_short_video_is_stretched_and_never_at_random(jitter):
    """Training repeats the very frames that a test does, whatever the draw and whatever happens past the end."""
    exact = {1: [0] * 8, 3: [0, 0, 0, 1, 1, 2, 2, 2], 5: [0, 0, 1, 2, 2, 3, 4, 4], 7: [0, 1, 2, 3, 3, 4, 5, 6]}
    for n, expected in exact.items():
        for policy in ("repeat", "mirror", "wrap"):
            spec = {"num_frames": 8, "jitter": jitter, "past_end": policy}
            assert clips(n, 10, **spec) == [expected] * 10
            assert {tuple(train(n, seed, **spec).tolist()) for seed in range(50)} == {tuple(expected)}
    assert train(8, num_frames=8, jitter=jitter).tolist() == list(range(8))
    snippets = ClipSpec(num_frames=4, snippet_frames=2, jitter=jitter)
    stretched = [[0, 1], [0, 1], [1, 2], [1, 2]]  # two places where a snippet of two fits into three frames
    assert test_indices(3, 25, snippets, num_clips=1).tolist() == [stretched]
    assert all(train_indices(3, 25, snippets, draw(seed)).tolist() == stretched for seed in range(20))


class Offsets:
    """Draws that are known beforehand."""

    def __init__(self, *values, start=0):
        self.values, self.start = values, start

    def random(self, size=None):
        return self.values[0] if size is None else np.array(self.values)

    def integers(self, low, high):
        assert low <= self.start < high
        return self.start


def test_uniform_training_is_exact_given_its_draws():
    own = Offsets(0.0, 0.5, 0.99, 0.0, 0.5, 0.99, 0.0, 0.5)
    spec = ClipSpec(num_frames=8)
    assert train_indices(100, 25, spec, own)[:, 0].tolist() == [0, 18, 37, 37, 56, 74, 75, 93]
    shared = ClipSpec(num_frames=8, jitter="shared")
    expected = {0.0: [0, 12, 25, 37, 50, 62, 75, 87], 0.5: MIDDLES, 0.9: [11, 23, 36, 48, 61, 73, 86, 98]}
    for offset, indices in expected.items():
        assert train_indices(100, 25, shared, Offsets(offset))[:, 0].tolist() == indices


def test_dense_kinetics_clips():
    """T = 32, stride 2, span 64: starts of 0 … n - 64, both ends included; ten clips of a test; wrapped when short."""
    spec = ClipSpec(num_frames=32, sampling="dense", stride_frames=2)
    for start in (0, 117, 236):
        found = train_indices(300, 30, spec, Offsets(start=start))[:, 0].tolist()
        assert found == list(range(start, start + 64, 2))
    with pytest.raises(AssertionError):
        train_indices(300, 30, spec, Offsets(start=237))
    firsts = [clip[0] for clip in clips(300, 10, num_frames=32, sampling="dense", stride_frames=2)]
    assert firsts == [0, 26, 52, 78, 104, 131, 157, 183, 209, 236]
    wrapped = [*range(0, 50, 2), *range(0, 14, 2)]
    assert clips(50, 3, num_frames=32, sampling="dense", stride_frames=2) == [wrapped] * 3
    assert train_indices(50, 30, spec, Offsets(start=0))[:, 0].tolist() == wrapped


def test_dense_at_a_frame_rate_is_exact():
    """Stride 2 at 15 frames a second is 4 frames of a video of 30."""
    spec = {"num_frames": 8, "sampling": "dense", "stride_frames": 2, "fps": 15.0}
    assert clips(100, 3, video_fps=30.0, **spec) == [[start + 4 * i for i in range(8)] for start in (0, 34, 68)]


def test_dense_starts_are_spread_from_zero_to_the_last_that_fits():
    expected = [[start + 2 * i for i in range(8)] for start in (0, 42, 84)]
    assert clips(100, 3, num_frames=8, sampling="dense", stride_frames=2) == expected


def test_dense_takes_the_first_clip_where_there_is_one():
    assert clips(100, 1, num_frames=8, sampling="dense", stride_frames=3) == [[3 * i for i in range(8)]]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("repeat", [0, 2, 4, 4, 4, 4]), ("mirror", [0, 2, 4, 2, 0, 2]), ("wrap", [0, 2, 4, 1, 3, 0])],
)
def test_what_happens_past_the_end(policy, expected):
    spec = {"num_frames": 6, "sampling": "dense", "stride_frames": 2, "past_end": policy}
    assert clips(5, 2, **spec) == [expected, expected]
    assert train(5, seed=1, **spec).tolist() == expected


@pytest.mark.parametrize("policy", ["repeat", "mirror", "wrap"])
def test_one_frame_is_enough(policy):
    spec = {"num_frames": 4, "sampling": "dense", "stride_frames": 2, "past_end": policy}
    assert clips(1, 2, **spec) == [[0, 0, 0, 0]] * 2
    assert train(1, **spec).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("fps", [10, 20, 30, 60])
def test_target_fps_spans_the_same_seconds_at_any_rate(fps):
    spec = {"num_frames": 8, "sampling": "dense", "stride_frames": 2, "fps": 10.0}
    seconds = [0.2 * i for i in range(8)]
    [first, last] = clips(10 * fps, 2, video_fps=fps, **spec)
    np.testing.assert_allclose(np.array(first) / fps, seconds)
    np.testing.assert_allclose(np.array(last) / fps, [10 - 1.6 + s for s in seconds])
    trained = train(10 * fps, video_fps=fps, **spec) / fps
    np.testing.assert_allclose(trained - trained[0], seconds)


def test_target_fps_with_a_stride_between_frames_is_cut_down():
    spec = {"num_frames": 5, "sampling": "dense", "stride_frames": 2, "fps": 10.0}
    assert clips(100, video_fps=24, **spec) == [[0, 4, 9, 14, 19]]  # 4.8 frames apart
    assert clips(100, video_fps=5, **spec) == [[0, 1, 2, 3, 4]]
    assert clips(100, video_fps=2.5, **spec) == [[0, 0, 1, 1, 2]], "a slow video repeats frames, in order"


def test_without_target_fps_the_rate_does_not_matter():
    spec = {"num_frames": 4, "sampling": "dense", "stride_frames": 3}
    assert clips(90, 3, video_fps=10, **spec) == clips(90, 3, video_fps=60, **spec)


@pytest.mark.parametrize("jitter", ["segment", "shared"])
@pytest.mark.parametrize("n", [8, 13, 64, 100, 301])
def test_training_takes_one_frame_of_every_segment_and_every_frame_in_time(jitter, n):
    T, seen = 8, set()
    for seed in range(400):
        clip = train(n, seed, num_frames=T, jitter=jitter)
        for i, index in enumerate(clip.tolist()):
            assert i * n // T <= index <= -(-(i + 1) * n // T) - 1
        seen.update(clip.tolist())
    if n <= 100:
        assert seen == set(range(n))


def test_jitter_of_segments_is_their_own_and_shared_jitter_is_one():
    shared = np.stack([train(80, seed, num_frames=8, jitter="shared") for seed in range(200)])
    assert (np.diff(shared, axis=1) == 10).all()
    assert set(shared[:, 0].tolist()) == set(range(10))
    own = np.stack([train(80, seed, num_frames=8, jitter="segment") for seed in range(200)]) % 10
    correlations = np.corrcoef(own.T)[~np.eye(8, dtype=bool)]
    assert np.abs(correlations).max() < 5 / np.sqrt(200)


def test_training_offsets_are_even():
    """A frame of a segment is as likely as any other (chi-squared, 9 degrees of freedom)."""
    offsets = np.concatenate([train(80, seed, num_frames=8) % 10 for seed in range(500)])
    counts = np.bincount(offsets, minlength=10)
    assert ((counts - 400) ** 2 / 400).sum() < 35


def test_dense_training_starts_anywhere_that_fits():
    clips_ = [train(20, seed, num_frames=4, sampling="dense", stride_frames=2) for seed in range(600)]
    assert {int(clip[0]) for clip in clips_} == set(range(13))  # 20 - 4 × 2, and zero
    assert all((np.diff(clip) == 2).all() for clip in clips_)


@pytest.mark.parametrize("jitter", ["segment", "shared"])
def test_training_repeats_frames_of_a_short_video_in_order(jitter):
    for seed in range(50):
        clip = train(3, seed, num_frames=8, jitter=jitter).tolist()
        assert clip == sorted(clip)
        assert set(clip) == {0, 1, 2}


@pytest.mark.parametrize("policy", ["repeat", "mirror", "wrap"])
@pytest.mark.parametrize("L", [2, 5])
@pytest.mark.parametrize("n", [30, 41, 100])
def test_snippets_are_neighbouring_frames_and_stay_in_the_video(policy, L, n):
    """A snippet that ran past the end would show a jump that is not in the video."""
    for sampling in ("uniform", "dense"):
        spec = ClipSpec(num_frames=8, snippet_frames=L, sampling=sampling, past_end=policy)
        found = test_indices(n, 25, spec, num_clips=10)
        assert found.shape == (10, 8, L)
        trained = np.stack([train_indices(n, 25, spec, draw(seed)) for seed in range(200)])
        assert trained.shape == (200, 8, L)
        assert (np.diff(found, axis=2) == 1).all()
        assert (np.diff(trained, axis=2) == 1).all()
        assert (trained.min(), trained.max()) == (0, n - 1), "the first and the last frame are seen"


def test_snippets_of_one_frame_change_nothing_of_the_clip():
    for sampling in ("uniform", "dense"):
        one = ClipSpec(num_frames=8, sampling=sampling)
        assert test_indices(70, 25, one, num_clips=4).shape == (4, 8, 1)
        assert train_indices(70, 25, one, draw(0)).shape == (8, 1)


def test_the_middle_of_each_segment_for_snippets():
    """TSN: the segments are cut from the places where a snippet can start."""
    spec = ClipSpec(num_frames=4, snippet_frames=5)
    assert test_indices(44, 25, spec, num_clips=1).tolist() == [[[s + i for i in range(5)] for s in (5, 15, 25, 35)]]


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
@pytest.mark.parametrize("policy", ["repeat", "mirror", "wrap"])
def test_indices_are_always_in_range(sampling, policy):
    random = np.random.default_rng(1)
    for _ in range(400):
        n, T, L, M = (int(random.integers(1, high)) for high in (200, 40, 6, 12))
        spec = ClipSpec(
            num_frames=T, sampling=sampling, past_end=policy, snippet_frames=L,
            stride_frames=int(random.integers(1, 9)), jitter=str(random.choice(["segment", "shared"])),
            fps=None if random.random() < 0.5 else float(random.uniform(1, 60)),
        )  # fmt: skip
        fps = float(random.uniform(0.5, 240))
        trained = train_indices(n, fps, spec, random)
        tested = test_indices(n, fps, spec, num_clips=M)
        assert trained.shape == (T, L)
        assert tested.shape == (M, T, L)
        for indices in (trained, tested):
            assert np.issubdtype(indices.dtype, np.integer)
            assert indices.min() >= 0
            assert indices.max() < n


def test_the_same_generator_gives_the_same_clip_and_the_global_one_is_left_alone():
    before = np.random.get_state()[1].copy()
    assert (train(77, 5, num_frames=8) == train(77, 5, num_frames=8)).all()
    assert (train(77, 5, num_frames=8) != train(77, 6, num_frames=8)).any()
    assert (np.random.get_state()[1] == before).all()


class AlmostOne:
    """The largest number below one, as a generator may give it."""

    def random(self, size=None):
        value = np.nextafter(1.0, 0.0)
        return value if size is None else np.full(size, value)


@pytest.mark.parametrize("jitter", ["segment", "shared"])
def test_rounding_does_not_push_the_last_frame_over_the_end(jitter):
    for n in (8, 9, 100, 299):
        clip = train_indices(n, 25, ClipSpec(num_frames=8, jitter=jitter), AlmostOne())[:, 0].tolist()
        assert clip == [-(-(i + 1) * n // 8) - 1 for i in range(8)]


# ---------------------------------------------------------------------------------------------------------- other orders


def clip_of(T, L, n=200):
    return test_indices(n, 25, ClipSpec(num_frames=T, snippet_frames=L), num_clips=1)[0]


@pytest.mark.parametrize("L", [1, 2])
def test_each_order_is_exact(L):
    clip = clip_of(5, L)
    a, b, c, d, e = clip.tolist()
    other = {order: rearranged(clip, order, draw(0)).tolist() for order in ORDERS}
    assert other["ordered"] == [a, b, c, d, e]
    assert other["reversed"] == [snippet[::-1] for snippet in (e, d, c, b, a)]
    assert other["frozen_frame"] == [[c[0]] * L] * 5
    assert other["subsampled"] == [a, a, c, c, e]
    assert other["shuffled"] != other["ordered"]
    assert sorted(other["shuffled"]) == [a, b, c, d, e], "snippets stay whole"


@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("T", [1, 2, 3, 8, 16])
def test_orders_keep_the_shape_and_show_no_frame_that_the_clip_has_not(T, L):
    for n in (1, 2, T, 200):
        clip = clip_of(T, L, n)
        for order in ORDERS:
            found = rearranged(clip, order, draw(1))
            assert found.shape == (T, L)
            assert set(found.ravel().tolist()) <= set(clip.ravel().tolist())
        backwards = rearranged(clip, "reversed", draw(1))
        assert rearranged(backwards, "reversed", draw(1)).tolist() == clip.tolist()


def test_shuffled_steps_are_never_as_they_were_where_two_differ():
    for T in (2, 3, 8):
        clip = clip_of(T, 1)
        assert all((rearranged(clip, "shuffled", draw(seed)) != clip).any() for seed in range(200))
    stretched = np.array([[0], [0], [0], [1]])  # most permutations change nothing
    assert all((rearranged(stretched, "shuffled", draw(seed)) != stretched).any() for seed in range(50))
    same = np.zeros((4, 2), dtype=np.int64)
    assert (rearranged(same, "shuffled", draw(0)) == same).all()


def test_every_other_order_of_the_steps_is_as_likely():
    clip = clip_of(3, 1)
    found = [tuple(rearranged(clip, "shuffled", draw(seed))[:, 0].tolist()) for seed in range(1000)]
    counts = [found.count(order) for order in set(found)]
    assert len(counts) == 5
    assert ((np.array(counts) - 200) ** 2 / 200).sum() < 25  # chi-squared, 4 degrees of freedom


def test_a_shuffle_is_its_generators():
    clip = clip_of(8, 2)
    assert rearranged(clip, "shuffled", draw(3)).tolist() == rearranged(clip, "shuffled", draw(3)).tolist()
    assert rearranged(clip, "shuffled", draw(3)).tolist() != rearranged(clip, "shuffled", draw(4)).tolist()


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
def test_shuffled_training_clips_show_the_same_frames_in_another_order(sampling):
    specs = [ClipSpec(num_frames=8, sampling=sampling, order=order) for order in ("ordered", "shuffled")]
    orders = set()
    for seed in range(30):
        ordered, shuffled = (train_indices(100, 25, spec, draw(seed))[:, 0].tolist() for spec in specs)
        assert ordered == sorted(shuffled) != shuffled
        orders.add(tuple(np.argsort(shuffled).tolist()))
    assert len(orders) > 25
    tested = [test_indices(100, 25, spec, num_clips=3) for spec in specs]
    assert np.array_equal(*tested), "tests keep the order"
