"""Events in time: from class scores over time to start, end, label and score.

**Cells.** A score belongs to the centre of the window that it was computed from, and holds for the cell around it: from
halfway to the centre before, to halfway to the centre after. The first cell begins where the video does and the last one
ends where the video ends. So the cells cover the video without gaps, and an event begins and ends where cells do.

**Hysteresis**, for each class alone: an event begins with the first cell whose score is at least `start_above`, and ends with
the first cell after it whose score is below `end_below`, which is not part of it. Events of a class that are at most
`merge_seconds` apart become one, and then those shorter than `min_seconds` are dropped. A cell whose best score is below
`unknown_below` belongs to no event.

NumPy alone: streams use `Hysteresis` too, a score at a time.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muybridge.errors import UserError, nearest

ROUNDING = 1e-9
"""Seconds by which lengths may differ through rounding."""
REACH = 4.0
"""Standard deviations of the Gaussian beyond which a score has no weight."""


@dataclass(frozen=True)
class Event:
    """A part of a video that shows a class."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float
    """Mean score of the class over the cells from start to end, those of merged gaps among them."""

    def as_json(self) -> dict[str, Any]:
        """One event of `muybridge events --json`."""
        return asdict(self)


@dataclass(frozen=True)
class Rules:
    """Rules that make events of scores. Raises UserError for values that make none."""

    start_above: float = 0.5
    end_below: float = 0.3
    min_seconds: float = 0.0
    merge_seconds: float = 0.0
    background: str | None = None
    """Class that makes no events."""
    unknown_below: float = 0.0

    def __post_init__(self) -> None:
        for name, share in (("start-above", self.start_above), ("end-below", self.end_below)):
            if not 0 <= share <= 1:
                raise UserError(f"--{name} {share:g}: not a probability. Give a number from 0 to 1")
        if self.end_below > self.start_above:
            raise UserError(
                f"--end-below {self.end_below:g}: it is above --start-above {self.start_above:g}, so events would end as "
                "they begin. Give a lower one"
            )
        for name, seconds in (("min-seconds", self.min_seconds), ("merge-seconds", self.merge_seconds)):
            if not 0 <= seconds < math.inf:
                raise UserError(f"--{name} {seconds:g}: not a length. Give seconds, from 0 on")

    def check(self, classes: Sequence[str]) -> None:
        """Raise UserError for a background that is not among the classes."""
        if self.background is not None and self.background not in classes:
            raise UserError(
                f"--background: '{self.background}' is not a class of the run. {nearest(self.background, classes)}"
            )


@dataclass
class _Run:
    """Cells in a row that may become an event."""

    start_seconds: float
    end_seconds: float | None = None
    """None: the last cell belongs to it."""
    total: float = 0.0
    cells: int = 0
    gap_total: float = 0.0
    """Sum of the scores of the cells since its end."""
    gap_cells: int = 0

    def extend(self, score: float) -> None:
        """Take the next cell, and the gap before it."""
        self.total += self.gap_total + score
        self.cells += self.gap_cells + 1
        self.gap_total, self.gap_cells, self.end_seconds = 0.0, 0, None


class Hysteresis:
    """Events of scores that come one after another."""

    def __init__(
        self, classes: Sequence[str], rules: Rules | None = None, *, start_seconds: float | None = None
    ) -> None:
        """Set the `rules`. `start_seconds`: where the first cell begins; None: at its centre. Raises UserError."""
        self.classes, self.rules = tuple(classes), rules or Rules()
        self.rules.check(self.classes)
        self._start_seconds = start_seconds
        self._last_seconds: float | None = None
        self._runs: dict[int, _Run] = {}
        self._may_start_K = np.array([name != self.rules.background for name in self.classes])

    @property
    def open(self) -> list[Event]:
        """Events that the last cell belongs to, as far as they have come."""
        last = self._last_seconds or 0.0
        return _in_order(self._event(k, run, last) for k, run in self._runs.items() if run.end_seconds is None)

    def push(self, time_seconds: float, scores_K: np.ndarray) -> list[Event]:
        """Take the scores at a time, which must be later than the one before. Gives the events that are closed by it.

        An event is closed once no later cell can be merged with it. Raises ValueError for times out of order.
        """
        time_seconds = float(time_seconds)
        rules, edge = self.rules, self._edge(time_seconds)
        self._last_seconds = time_seconds
        is_known = bool(scores_K.max() >= rules.unknown_below)
        high_K = (scores_K >= rules.start_above) & self._may_start_K & is_known
        closed: list[Event] = []
        for k in sorted({*self._runs, *np.flatnonzero(high_K).tolist()}):
            run, score = self._runs.get(k), float(scores_K[k])
            is_within = run is not None and run.end_seconds is None
            if is_known and score >= rules.end_below if is_within else high_K[k]:
                if run is None or not self._reaches(run, edge):
                    closed += self._closed(k)
                    run = self._runs[k] = _Run(edge)
                run.extend(score)
            elif run is not None:
                run.end_seconds = edge if run.end_seconds is None else run.end_seconds
                run.gap_total += score
                run.gap_cells += 1
                if time_seconds - run.end_seconds >= rules.merge_seconds + ROUNDING:  # later cells begin later still
                    closed += self._closed(k)
        return _in_order(closed)

    def finish(self, end_seconds: float | None = None) -> list[Event]:
        """Close all events, those that are open at `end_seconds` (None: at the last centre)."""
        end = end_seconds if end_seconds is not None else self._last_seconds
        for run in self._runs.values():
            run.end_seconds = end if run.end_seconds is None else run.end_seconds
        closed = [event for k in sorted(self._runs) for event in self._closed(k)]
        self._last_seconds = None
        return _in_order(closed)

    def _edge(self, time_seconds: float) -> float:
        """Time at which the cell of this centre begins."""
        if self._last_seconds is None:
            return time_seconds if self._start_seconds is None else self._start_seconds
        if time_seconds <= self._last_seconds:
            raise ValueError(f"scores at {time_seconds} s after those at {self._last_seconds} s")
        return (self._last_seconds + time_seconds) / 2

    def _reaches(self, run: _Run, edge: float) -> bool:
        """Whether a cell that begins at `edge` belongs to the run, or is near enough to be merged."""
        return run.end_seconds is None or edge - run.end_seconds <= self.rules.merge_seconds + ROUNDING

    def _closed(self, k: int) -> list[Event]:
        """The event of a class's run, which ends; none of a run that is too short."""
        run = self._runs.pop(k, None)
        if run is None or run.end_seconds is None:
            return []
        is_long = run.end_seconds - run.start_seconds >= self.rules.min_seconds - ROUNDING
        return [self._event(k, run, run.end_seconds)] if is_long else []

    def _event(self, k: int, run: _Run, end_seconds: float) -> Event:
        return Event(run.start_seconds, end_seconds, self.classes[k], run.total / run.cells)


def events(
    times_N: np.ndarray,
    scores_NK: np.ndarray,
    classes: Sequence[str],
    rules: Rules | None = None,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> list[Event]:
    """Events of scores (N,K) at the times of windows' centres (N,), by their starts.

    `start_seconds`, `end_seconds`: where the video begins and ends; None: at the last centre. Raises UserError.
    """
    hysteresis = Hysteresis(classes, rules, start_seconds=start_seconds)
    found = [event for time, row in zip(times_N, scores_NK, strict=True) for event in hysteresis.push(time, row)]
    return _in_order([*found, *hysteresis.finish(end_seconds)])


def _in_order(found: Iterable[Event]) -> list[Event]:
    return sorted(found, key=lambda event: (event.start_seconds, event.end_seconds, event.label))


def smoothed(times_N: np.ndarray, scores_NK: np.ndarray, seconds: float) -> np.ndarray:
    """Scores (N,K) as means over time, weighted by a Gaussian of the distance, with a standard deviation of `seconds`.

    The weights are alike before and after, so nothing moves in time; at the ends there are those of one side. Weights end
    at four standard deviations. 0: as they are.
    """
    if not seconds:
        return scores_NK
    sums_NK, weights_N = scores_NK.astype(np.float64), np.ones(len(times_N))
    for distance in range(1, len(times_N)):
        apart_M = times_N[distance:] - times_N[:-distance]
        if apart_M.min() > REACH * seconds:
            break
        weight_M = np.where(apart_M <= REACH * seconds, np.exp(-0.5 * (apart_M / seconds) ** 2), 0.0)
        sums_NK[distance:] += weight_M[:, None] * scores_NK[:-distance]
        sums_NK[:-distance] += weight_M[:, None] * scores_NK[distance:]
        weights_N[distance:] += weight_M
        weights_N[:-distance] += weight_M
    means_NK: np.ndarray = sums_NK / weights_N[:, None]
    return means_NK


def edges(times_N: np.ndarray, *, start_seconds: float, end_seconds: float) -> np.ndarray:
    """(N+1,) where the cells around centres begin, and where the last one ends."""
    return np.concatenate([[start_seconds], (times_N[1:] + times_N[:-1]) / 2, [end_seconds]])
