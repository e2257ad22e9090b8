"""Detection of events, held against annotated ones: average precision of events, of their starts, and of frames.

**Events** (ActivityNet's and THUMOS' metric). Overlap is temporal intersection over union. The events of a class, of all
videos, are taken by score, the highest first. Each takes the annotated event of its video and class with the largest overlap
among those that no event before it has taken. It is right if that overlap reaches the threshold. So every annotated event
counts once, and a second event on it is wrong. Average precision is the area below the interpolated precision: at each recall
the highest precision at that recall or a larger one, as in ActivityNet's evaluation code. The mean is over classes that have
annotated events.

**Starts** (point-level average precision, Shou et al. 2018): the same, but an event is right if it starts within a
tolerance of the annotated start; the nearest start is taken.

**Frames** (De Geest et al. 2016, section 5): the frames of all videos by a class's score. Average precision is the mean
precision at the frames of that class, not interpolated; equal scores count together, so their order changes nothing.
Calibrated average precision takes w TP / (w TP + FP) for precision, w = negatives / positives of the class: a guess then has
0.5 for any class, however rare. Both are means over classes that have frames.

**Intervals**: the middle 95 % over resampled videos (percentile bootstrap). With few videos they are too narrow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from muybridge.analysis.events import Event, edges

OVERLAPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Thresholds of overlap (THUMOS' range, and two below it)."""
TOLERANCES_SECONDS = (0.5, 1.0, 2.0, 5.0)
"""Distances within which a start is right."""
RESAMPLED = 1000
"""Resampled sets of videos behind an interval."""
LEAST_VIDEOS = 3
"""Below it there are no intervals."""
TAIL = 0.025
_CHUNK = 2**22
"""Most numbers in memory at once while resampling."""


class Annotated(Protocol):
    """An annotated event. A span without length is an instant."""

    @property
    def start_seconds(self) -> float:
        """Start."""
        ...

    @property
    def end_seconds(self) -> float:
        """End."""
        ...

    @property
    def label(self) -> str:
        """Class."""
        ...


@dataclass(frozen=True)
class Video:
    """Events that were found in a video, and those that are annotated."""

    found: Sequence[Event]
    truth: Sequence[Annotated]
    times_N: np.ndarray
    """Centres of its windows."""
    scores_NK: np.ndarray
    frame_times_F: np.ndarray
    """Time of each of its frames."""
    end_seconds: float


@dataclass(frozen=True)
class Estimate:
    """A mean over classes, and its interval over videos."""

    value: float
    """NaN: there is nothing to measure, as of frames where all events are instants."""
    low: float | None = None
    """None: too few videos."""
    high: float | None = None

    def __str__(self) -> str:
        return (
            "–"
            if np.isnan(self.value)
            else f"{self.value:.3f}" + ("" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]")
        )

    def as_json(self) -> dict[str, Any]:
        """Entry of `muybridge events --json`."""
        return {"value": _number(self.value), "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Judgement:
    """Metrics of events on annotated videos."""

    classes: tuple[str, ...]
    """Classes that have annotated events."""
    num_videos: int
    num_true_C: tuple[int, ...]
    num_found_C: tuple[int, ...]
    num_elsewhere: int
    """Number of found events of classes without annotated ones, which count nowhere."""
    event_ap_OC: np.ndarray
    """Average precision of events at each of `OVERLAPS`."""
    start_ap_SC: np.ndarray
    """Average precision of starts at each of `TOLERANCES_SECONDS`."""
    frame_ap_C: np.ndarray
    """NaN for a class whose events hold no frame."""
    calibrated_ap_C: np.ndarray
    event_map_O: tuple[Estimate, ...]
    mean_event_map: Estimate
    """Mean over the thresholds."""
    start_map_S: tuple[Estimate, ...]
    frame_map: Estimate
    calibrated_map: Estimate

    def as_json(self) -> dict[str, Any]:
        """Content of `truth` of `muybridge events --json`."""

        def by_threshold(thresholds: Sequence[float], estimates: Sequence[Estimate]) -> dict[str, Any]:
            return {f"{at:g}": estimate.as_json() for at, estimate in zip(thresholds, estimates, strict=True)}

        return {
            "videos": self.num_videos,
            "event_map": by_threshold(OVERLAPS, self.event_map_O),
            "mean_event_map": self.mean_event_map.as_json(),
            "start_map": by_threshold(TOLERANCES_SECONDS, self.start_map_S),
            "frame_map": self.frame_map.as_json(),
            "calibrated_frame_map": self.calibrated_map.as_json(),
            "found_of_other_classes": self.num_elsewhere,
            "classes": {
                name: {
                    "true": self.num_true_C[c],
                    "found": self.num_found_C[c],
                    "event_ap": {f"{at:g}": float(ap) for at, ap in zip(OVERLAPS, self.event_ap_OC[:, c], strict=True)},
                    "start_ap": {
                        f"{at:g}": float(ap) for at, ap in zip(TOLERANCES_SECONDS, self.start_ap_SC[:, c], strict=True)
                    },
                    "frame_ap": _number(self.frame_ap_C[c]),
                    "calibrated_frame_ap": _number(self.calibrated_ap_C[c]),
                }
                for c, name in enumerate(self.classes)
            },
        }


def judge(videos: Sequence[Video], classes: Sequence[str]) -> Judgement | None:
    """Metrics of found events and scores; None where nothing is annotated. `classes`: of the columns of the scores."""
    true = [name for name in classes if any(event.label == name for video in videos for event in video.truth)]
    if not true:
        return None
    times_BV = _resampled(len(videos))
    ones_1V = np.ones((1, len(videos)))
    weights_BV = np.concatenate([ones_1V, times_BV])
    ranked = [_Ranked.of(videos, name) for name in true]
    events_OBC = np.stack([[one.average_precision(weights_BV, at) for one in ranked] for at in OVERLAPS]).swapaxes(1, 2)
    starts = [_Ranked.of(videos, name, _nearness) for name in true]
    starts_SBC = np.stack(
        [[one.average_precision(weights_BV, -at - 1e-9) for one in starts] for at in TOLERANCES_SECONDS]
    ).swapaxes(1, 2)
    frames = [_Frames.of(videos, name, list(classes).index(name)) for name in true]
    frame_BC = np.stack([one.average_precision(weights_BV) for one in frames], axis=1)
    calibrated_BC = np.stack([one.average_precision(weights_BV, is_calibrated=True) for one in frames], axis=1)
    found = [event.label for video in videos for event in video.found]
    return Judgement(
        classes=tuple(true),
        num_videos=len(videos),
        num_true_C=tuple(sum(event.label == name for video in videos for event in video.truth) for name in true),
        num_found_C=tuple(map(found.count, true)),
        num_elsewhere=sum(label not in true for label in found),
        event_ap_OC=events_OBC[:, 0],
        start_ap_SC=starts_SBC[:, 0],
        frame_ap_C=frame_BC[0],
        calibrated_ap_C=calibrated_BC[0],
        event_map_O=tuple(_estimate(_means(ap_BC)) for ap_BC in events_OBC),
        mean_event_map=_estimate(np.mean([_means(ap_BC) for ap_BC in events_OBC], axis=0)),
        start_map_S=tuple(_estimate(_means(ap_BC)) for ap_BC in starts_SBC),
        frame_map=_estimate(_means(frame_BC)),
        calibrated_map=_estimate(_means(calibrated_BC)),
    )


def overlap(one: Annotated, other: Annotated) -> float:
    """Temporal intersection over union; 0 where neither has a length."""
    shared = min(one.end_seconds, other.end_seconds) - max(one.start_seconds, other.start_seconds)
    both = max(one.end_seconds, other.end_seconds) - min(one.start_seconds, other.start_seconds)
    return max(0.0, shared) / both if both > 0 else 0.0


def _nearness(one: Annotated, other: Annotated) -> float:
    """Distance of the starts, negative: the larger the nearer."""
    return -abs(one.start_seconds - other.start_seconds)


@dataclass(frozen=True)
class _Ranked:
    """Found events of a class in all videos, the highest score first, and how they match the annotated ones."""

    found: Sequence[tuple[int, Event]]
    """Each with its video."""
    truth_V: Sequence[Sequence[Annotated]]
    quality: Callable[[Annotated, Annotated], float]

    @staticmethod
    def of(
        videos: Sequence[Video], label: str, quality: Callable[[Annotated, Annotated], float] = overlap
    ) -> "_Ranked":
        found = [(v, event) for v, video in enumerate(videos) for event in video.found if event.label == label]
        found.sort(key=lambda one: (-one[1].score, one[0], one[1].start_seconds))
        return _Ranked(found, [[true for true in video.truth if true.label == label] for video in videos], quality)

    def is_right(self, least: float) -> np.ndarray:
        """(D,) whether each event takes an annotated one with a quality of `least`."""
        taken: set[tuple[int, int]] = set()
        right = np.zeros(len(self.found), dtype=bool)
        for d, (v, event) in enumerate(self.found):
            free = [(self.quality(event, true), -t) for t, true in enumerate(self.truth_V[v]) if (v, t) not in taken]
            best = max(free, default=(-np.inf, 0))
            if best[0] >= least:
                right[d] = True
                taken.add((v, -best[1]))
        return right

    def average_precision(self, weights_BV: np.ndarray, least: float) -> np.ndarray:
        """(B,) interpolated average precision with each video counted `weights_BV` times; NaN without annotated events.

        A video that counts twice counts as two videos with the same content.
        """
        num_true_B = weights_BV @ np.array([len(truth) for truth in self.truth_V], dtype=np.float64)
        if not self.found:
            return np.where(num_true_B > 0, 0.0, np.nan)
        video_D, right_D = np.array([v for v, _ in self.found]), self.is_right(least)

        def of_part(weights_BV: np.ndarray) -> np.ndarray:
            weights_BD = weights_BV[:, video_D]
            right_BD = np.cumsum(weights_BD * right_D, axis=1)
            precision_BD = _share(right_BD, np.cumsum(weights_BD, axis=1))
            highest_BD = np.maximum.accumulate(precision_BD[:, ::-1], axis=1)[:, ::-1]
            sums_B: np.ndarray = (highest_BD * weights_BD * right_D).sum(1)
            return sums_B

        return _share(_in_parts(of_part, weights_BV, len(video_D)), num_true_B, missing=np.nan)


@dataclass(frozen=True)
class _Frames:
    """Numbers of frames of a class and of others, by distinct scores, the highest first."""

    video_M: np.ndarray
    score_M: np.ndarray
    positive_M: np.ndarray
    negative_M: np.ndarray
    num_videos: int

    @staticmethod
    def of(videos: Sequence[Video], label: str, column: int) -> "_Frames":
        """Frames take the score of the cell that they lie in."""
        parts = []
        for v, video in enumerate(videos):
            is_shown_F = np.zeros(len(video.frame_times_F), dtype=bool)
            for event in video.truth:
                if event.label == label:
                    is_shown_F |= (video.frame_times_F >= event.start_seconds) & (
                        video.frame_times_F < event.end_seconds
                    )
            positive_N, all_N = (
                np.bincount(cells, minlength=len(video.times_N))
                for cell_F in [cell_of(video.frame_times_F, video.times_N, video.end_seconds)]
                for cells in (cell_F[is_shown_F], cell_F)
            )
            parts.append((np.full(len(video.times_N), v), video.scores_NK[:, column], positive_N, all_N - positive_N))
        video_M, score_M, positive_M, negative_M = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(-score_M, kind="stable")
        return _Frames(video_M[order], score_M[order], positive_M[order], negative_M[order], len(videos))

    def average_precision(self, weights_BV: np.ndarray, *, is_calibrated: bool = False) -> np.ndarray:
        """(B,) average precision with each video counted `weights_BV` times; NaN without frames of the class."""
        last_L = np.flatnonzero(np.append(np.diff(self.score_M) != 0, True))  # of the frames with one score

        def of_part(weights_BV: np.ndarray) -> np.ndarray:
            weights_BM = weights_BV[:, self.video_M]
            right_BL = np.cumsum(weights_BM * self.positive_M, axis=1)[:, last_L]
            wrong_BL = np.cumsum(weights_BM * self.negative_M, axis=1)[:, last_L]
            factor_B = _share(wrong_BL[:, -1], right_BL[:, -1]) if is_calibrated else np.ones(len(weights_BM))
            weighted_BL = right_BL * factor_B[:, None]
            # (without negatives every guess is right)
            precision_BL = _share(weighted_BL, weighted_BL + wrong_BL, missing=1.0)
            gained_BL = np.diff(right_BL, axis=1, prepend=0.0)
            return _share((precision_BL * gained_BL).sum(1), right_BL[:, -1], missing=np.nan)

        return _in_parts(of_part, weights_BV, len(self.video_M))


def frame_average_precision(scores_F: np.ndarray, is_shown_F: np.ndarray, *, is_calibrated: bool = False) -> float:
    """Average precision of frames of one class; NaN without frames of it. Equal scores count together."""
    order_F, zero_F = np.argsort(-scores_F, kind="stable"), np.zeros(len(scores_F), dtype=np.int64)
    shown_F = is_shown_F[order_F].astype(np.int64)
    frames = _Frames(zero_F, scores_F[order_F], shown_F, 1 - shown_F, 1)
    return float(frames.average_precision(np.ones((1, 1)), is_calibrated=is_calibrated)[0])


def cell_of(frame_times_F: np.ndarray, times_N: np.ndarray, end_seconds: float) -> np.ndarray:
    """(F,) index of the cell that each frame lies in (`muybridge.analysis.events`)."""
    between = edges(times_N, start_seconds=0.0, end_seconds=end_seconds)[1:-1]
    cells_F: np.ndarray = np.searchsorted(between, frame_times_F, side="right")
    return cells_F


def _resampled(num_videos: int) -> np.ndarray:
    """(B,V) how often each video is in a resampled set; B is 0 with too few videos."""
    if num_videos < LEAST_VIDEOS:
        return np.zeros((0, num_videos))
    drawn_BV = np.random.default_rng(0).multinomial(num_videos, np.full(num_videos, 1 / num_videos), size=RESAMPLED)
    return drawn_BV.astype(np.float64)


def _in_parts(of_part: Callable[[np.ndarray], np.ndarray], weights_BV: np.ndarray, width: int) -> np.ndarray:
    """Results of parts of the resampled sets, joined, so that memory is bounded."""
    num_parts = -(-len(weights_BV) * width // _CHUNK) or 1
    return np.concatenate([of_part(part) for part in np.array_split(weights_BV, min(num_parts, len(weights_BV)))])


def _share(part: np.ndarray, whole: np.ndarray, missing: float = 0.0) -> np.ndarray:
    """Quotient; `missing` where the whole is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), missing)


def _means(ap_BC: np.ndarray) -> np.ndarray:
    """(B,) mean over the classes that are there."""
    there_BC = ~np.isnan(ap_BC)
    return _share(np.where(there_BC, ap_BC, 0.0).sum(1), there_BC.sum(1), missing=np.nan)


def _estimate(means_B: np.ndarray) -> Estimate:
    """The first is the estimate, the others are of resampled sets."""
    resampled = means_B[1:][~np.isnan(means_B[1:])]
    if not len(resampled):
        return Estimate(float(means_B[0]))
    low, high = np.quantile(resampled, [TAIL, 1 - TAIL])
    return Estimate(float(means_B[0]), float(low), float(high))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
