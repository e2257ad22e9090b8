"""Scores over time: windows that overlap, each with the probabilities of the classes at its centre."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from muybridge.analysis.events import smoothed
from muybridge.data.sampling import ClipSpec, span_seconds
from muybridge.errors import UserError


@dataclass(frozen=True, repr=False)
class OverTime:
    """N windows of a video, K classes."""

    path: str
    classes: tuple[str, ...]
    times_N: np.ndarray
    """Centre of each window, in seconds from the file's first frame: halfway from where its first frame begins to where its last
    one ends, by the time stamps of the video."""
    probabilities_NK: np.ndarray
    """At the run's temperature where it is calibrated."""
    frame_times_F: np.ndarray
    """Time of each frame of the video."""
    end_seconds: float
    window_seconds: float
    step_seconds: float
    unknown_below: float = 0.0
    """Probability below which the run answers "unknown"; 0: it always answers."""

    @property
    def start_seconds(self) -> float:
        """Time of the first frame: 0, but for a part of a file."""
        return float(self.frame_times_F[0])

    def smoothed(self, seconds: float) -> "OverTime":
        """The same with smoothed probabilities (`muybridge.analysis.events.smoothed`)."""
        return replace(self, probabilities_NK=smoothed(self.times_N, self.probabilities_NK, seconds))


def check_windows(window_seconds: float | None, overlap: float) -> None:
    """Raise UserError for windows that cannot be laid."""
    if window_seconds is not None and not 0 < window_seconds < math.inf:
        raise UserError(f"--window-seconds {window_seconds:g}: not a length. Give seconds above 0")
    if not 0 <= overlap < 1:
        raise UserError(
            f"--overlap {overlap:g}: not the share that two windows may have in common. Give 0 or more, below 1"
        )


def usual_window_seconds(spec: ClipSpec, fps: float, longest_trained_seconds: float) -> float:
    """Length of windows that are like what a network was trained on.

    Dense sampling: what a clip covers. Uniform sampling stretches a clip over a whole video: the longest that was trained
    on. Raises UserError where that is not known, as of public weights.
    """
    seconds = longest_trained_seconds
    if spec.sampling == "dense" and not spec.whole:
        seconds = min(seconds, span_seconds(fps, spec))
    if not math.isfinite(seconds):
        raise UserError(
            "--window-seconds: how long the videos were that this network was trained on is not known. Give a length"
        )
    return seconds


def window_starts(num_frames: int, length: int, overlap: float) -> np.ndarray:
    """First frames of windows of `length` frames that share `overlap` of it with the next; the last one ends the video.

    A video that is shorter than a window is one window.
    """
    step = max(1, round(length * (1 - overlap)))
    starts = list(range(0, max(1, num_frames - length + 1), step))
    last = max(0, num_frames - length)
    return np.array(starts if starts[-1] == last else [*starts, last], dtype=np.int64)


def centres(frame_times_F: np.ndarray, end_seconds: float, starts_N: np.ndarray, length: int) -> np.ndarray:
    """(N,) centres of windows in seconds."""
    times = np.append(frame_times_F, end_seconds)
    ends_N = np.minimum(starts_N + length, len(frame_times_F))
    centres_N: np.ndarray = (times[starts_N] + times[ends_N]) / 2
    return centres_N


def rising(frame_times_F: Sequence[float] | np.ndarray, fps: float) -> np.ndarray:
    """Times of frames; by the frame rate where the time stamps do not rise."""
    times_F = np.asarray(frame_times_F, dtype=np.float64)
    return times_F if (np.diff(times_F) > 0).all() else np.arange(len(times_F)) / fps
