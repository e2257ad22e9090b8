"""Indices of the frames that make a clip: arithmetic on integers, without files or global random state.

Indices are (T,L): T snippets of L frames each. L is 1 for RGB; more for inputs made of neighbouring frames.

Uniform (TSN): the video is cut into T equal segments and one frame is taken from each; a video shorter than T is
*stretched*: its frames are repeated in order, the middle of every segment, in training as in tests, never at random.
Dense: T frames, `stride_frames` apart; what happens past the end is a named policy (`past_end`). An index of -1 stands for
a time step that is not there.
Sources: Wang et al. 2016 (TSN), section 3.1; the 2021 study "Deep Analysis of CNN-based Spatio-temporal
Representations", section 4 and supplement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Order = Literal["ordered", "shuffled", "reversed", "frozen_frame", "subsampled"]
ORDERS: tuple[Order, ...] = get_args(Order)
"""Arrangements of a clip's time steps; `rearranged` defines them."""


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Sampling of a clip; the fields are those of the recipe's section `clip`."""

    num_frames: int
    sampling: Literal["uniform", "dense"] = "uniform"
    jitter: Literal["segment", "shared"] = "segment"
    stride_frames: int = 2
    fps: float | None = None
    past_end: Literal["repeat", "mirror", "wrap", "absent"] = "wrap"
    snippet_frames: int = 1
    order: Literal["ordered", "shuffled"] = "ordered"
    """Order of the time steps of a training clip."""
    whole: bool = False
    """Whether a test clip is the whole video, all its frames, however many."""


def train_indices(num_frames_in_video: int, fps: float, spec: ClipSpec, generator: np.random.Generator) -> np.ndarray:
    """Draw the frame indices of one random clip, (T,L). The frames are the same ones in any `order`."""
    indices_TL = _in_order(num_frames_in_video, fps, spec, generator)
    return rearranged(indices_TL, spec.order, generator)


def _in_order(num_frames_in_video: int, fps: float, spec: ClipSpec, generator: np.random.Generator) -> np.ndarray:
    n, T = num_frames_in_video, spec.num_frames
    if spec.sampling == "uniform":
        num_starts = _num_starts(n, spec)
        if num_starts < T:
            return _snippets(_middles(num_starts, T), n, spec)
        offsets = generator.random(T) if spec.jitter == "segment" else np.full(T, generator.random())
        ends_T = np.ceil((np.arange(T) + 1) * num_starts / T)
        starts_T = np.minimum(
            np.floor((np.arange(T) + offsets) * num_starts / T), ends_T - 1
        )  # rounding must not leave the segment
    else:
        steps_T = np.arange(T) * _stride(fps, spec)
        latest = max(0.0, n - _span(fps, spec))
        starts_T = np.floor(generator.integers(0, int(latest) + 1) + steps_T)
    return _snippets(starts_T.astype(np.int64), n, spec)


def test_indices(num_frames_in_video: int, fps: float, spec: ClipSpec, *, num_clips: int) -> np.ndarray:
    """Frame indices of the M clips that an evaluation looks at, (M,T,L).

    Uniform: the middle frame of each segment; M clips shift it by the integers -M/2 < s ≤ M/2, cut to half a segment.
    Dense: M starts evenly from 0 to the last that fits, truncated; one clip starts at 0. Whole: one clip of all frames.
    """
    n, T, M = num_frames_in_video, spec.num_frames, num_clips
    if spec.whole:
        return np.arange(n)[None, :, None]
    if spec.sampling == "uniform":
        num_starts = _num_starts(n, spec)
        shifts_M = np.arange(M) - (M - 1) // 2
        half = num_starts / T / 2
        shifts_M = np.clip(shifts_M, -np.floor(half), np.floor(half))
        starts_MT = np.clip(_middles(num_starts, T) + shifts_M[:, None], 0, num_starts - 1)
    else:
        latest = max(0.0, n - _span(fps, spec))
        clips_M, last = np.arange(M), max(1, M - 1)
        common_M = np.gcd(clips_M, last)  # lowest terms: the middle one of 3 clips is that of 15, to the frame
        first_M = np.floor(clips_M // common_M * latest / (last // common_M))
        starts_MT = np.floor(first_M[:, None] + np.arange(T) * _stride(fps, spec))
    return np.stack([_snippets(starts_T.astype(np.int64), n, spec) for starts_T in starts_MT])


def sliding_starts(num_frames_in_video: int, fps: float, spec: ClipSpec, *, stride: int) -> range:
    """First frames of all dense clips that begin `stride` frames apart and fit into the video; at least one."""
    reach = int((spec.num_frames - 1) * _stride(fps, spec)) + spec.snippet_frames
    return range(0, max(1, num_frames_in_video - reach + 1), stride)


def sliding_indices(num_frames_in_video: int, fps: float, spec: ClipSpec, starts: Sequence[int]) -> np.ndarray:
    """Frame indices of the dense clips that begin at these frames, (M,T,L)."""
    steps_T = np.floor(np.arange(spec.num_frames) * _stride(fps, spec)).astype(np.int64)
    return np.stack([_snippets(start + steps_T, num_frames_in_video, spec) for start in starts])


def span_seconds(fps: float, spec: ClipSpec) -> float:
    """Seconds that a dense clip of a video covers, as Kinetics protocols count them: T × stride."""
    return _span(fps, spec) / fps


def rearranged(indices_TL: np.ndarray, order: Order, generator: np.random.Generator) -> np.ndarray:
    """Frame indices of the same clip in another order, (T,L).

    ordered: as it is. shuffled: the time steps at random, never as they are where two differ; a snippet stays whole.
    reversed: backwards, snippets too, as in a video that is played backwards. frozen_frame: the first frame of the middle
    step, held. subsampled: every second time step, held for two. Steps that are not there stay at the end.
    """
    there = int((indices_TL[:, 0] >= 0).sum())
    if there < len(indices_TL):
        return np.concatenate([rearranged(indices_TL[:there], order, generator), indices_TL[there:]])
    num_steps = len(indices_TL)
    match order:
        case "ordered":
            return indices_TL
        case "shuffled":
            shuffled_TL = indices_TL
            while np.array_equal(shuffled_TL, indices_TL) and (indices_TL != indices_TL[0]).any():
                shuffled_TL = generator.permutation(indices_TL)
            return shuffled_TL
        case "reversed":
            return indices_TL[::-1, ::-1]
        case "frozen_frame":
            return np.full_like(indices_TL, indices_TL[num_steps // 2, 0])
        case "subsampled":
            return indices_TL[np.arange(num_steps) // 2 * 2]


def _num_starts(n: int, spec: ClipSpec) -> int:
    """Number of frames at which a snippet can start without running past the end."""
    return max(1, n - spec.snippet_frames + 1)


def _middles(num_starts: int, num_segments: int) -> np.ndarray:
    """The middle of each of T equal segments; where there are fewer starts than segments, each is held in turn."""
    return np.floor((np.arange(num_segments) + 0.5) * num_starts / num_segments).astype(np.int64)


def _stride(fps: float, spec: ClipSpec) -> float:
    """Frames of this video between two of a clip."""
    return spec.stride_frames * (fps / spec.fps if spec.fps else 1.0)


def _span(fps: float, spec: ClipSpec) -> float:
    """Frames of this video that a clip covers, as Kinetics protocols count them: T × stride.

    More where the last snippet is longer than a stride.
    """
    stride = _stride(fps, spec)
    return spec.num_frames * stride + max(0.0, spec.snippet_frames - max(1.0, stride))


def _snippets(starts_T: np.ndarray, n: int, spec: ClipSpec) -> np.ndarray:
    indices_TL = starts_T[:, None] + np.arange(spec.snippet_frames)
    if spec.past_end == "wrap":
        return indices_TL % n
    if spec.past_end == "absent":
        return np.where(indices_TL < n, indices_TL, -1)
    if spec.past_end == "mirror" and n > 1:
        folded = indices_TL % (2 * n - 2)
        return np.where(folded < n, folded, 2 * n - 2 - folded)
    return np.minimum(indices_TL, n - 1)
