"""Answers for a video: labels and probabilities of the whole, or of each window; as rows, a table, a picture."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.runtime.shown import Shown, table
from muybridge.storage.calibration import UNKNOWN


class Labelled:
    """An answer: labels with their probabilities, the best first."""

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    is_unknown: bool

    @property
    def label(self) -> str:
        """The best label, or "unknown"."""
        return UNKNOWN if self.is_unknown else self.labels[0]

    @property
    def score(self) -> float:
        """Probability of the best label."""
        return self.scores[0]


@dataclass(frozen=True)
class Prediction(Labelled):
    """The labels that a run gives a video, or one window of it."""

    path: str
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    """Best first."""
    scores: tuple[float, ...]
    """Probabilities of `labels`, at the run's temperature where it is calibrated."""
    is_unknown: bool = False
    """Whether the best label's probability is below the run's threshold (`muybridge calibrate --threshold`)."""

    def top(self, k: int) -> list[tuple[str, float]]:
        """The `k` best labels with their probabilities. Raises UserError for more than it holds."""
        if not 1 <= k <= len(self.labels):
            raise UserError(
                f"top({k}): this prediction holds {len(self.labels)} labels. Ask for more: predictor(…, top={k})"
            )
        return list(zip(self.labels[:k], self.scores[:k], strict=True))

    def as_json(self) -> dict[str, Any]:
        """One prediction of `muybridge predict --json`."""
        return {"label": self.label, **asdict(self), "labels": list(self.labels), "scores": list(self.scores)}

    def as_row(self) -> dict[str, Any]:
        """The prediction as one row of a table: label and score of the best, then label_2, score_2, ..."""
        row: dict[str, Any] = {"path": self.path, "start_seconds": self.start_seconds, "end_seconds": self.end_seconds}
        for place, (label, score) in enumerate(zip(self.labels, self.scores, strict=True), start=1):
            ending = "" if place == 1 else f"_{place}"
            row |= {f"label{ending}": label, f"score{ending}": score}
        return row


class PredictionList(Shown, list[Prediction]):
    """Predictions of any number of videos, a list that shows itself in a notebook."""

    answered_by: str = ""
    """Words for what computed them (`Predictor.answered_by`), where `muybridge.predict` gave them."""

    def as_rows(self) -> list[dict[str, Any]]:
        """A row a prediction (`Prediction.as_row`)."""
        return [one.as_row() for one in self]

    def to_frame(self) -> Any:
        """The former name of `frame`."""
        return self.frame()

    def plot(self, k: int = 20) -> Any:
        """An Altair chart of the `k` labels that were given most often: a bar each."""
        import altair as alt

        counts = Counter(one.label for one in self).most_common(k)
        bars = alt.Chart(alt.Data(values=[{"label": label, "count": count} for label, count in counts])).mark_bar()
        return bars.encode(
            x=alt.X("count:Q", title="predictions", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("label:N", title=None, sort=None),
        )

    def _repr_html_(self) -> str:
        rows = [
            [one.path, f"{one.start_seconds:.2f} – {one.end_seconds:.2f} s", one.label, f"{one.score:.3f}"]
            for one in self
        ]
        return table(["path", "seconds", "label", "score"], rows)


class Predictions(PredictionList):
    """The answer for one video, a list: one prediction, or one a window of a long video.

    `label`, `score` and `top` are those of the whole video: of the mean of the windows' probabilities, weighted by their
    lengths.
    """

    def __init__(
        self, predictions: Sequence[Prediction], *, classes: tuple[str, ...], probabilities_WK: np.ndarray
    ) -> None:
        super().__init__(predictions)
        self.classes = classes
        self.probabilities_WK = probabilities_WK
        """Of each window and class, the classes in the order of `classes`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (list(self), self.classes, self.probabilities_WK)

    @property
    def probabilities_K(self) -> np.ndarray:
        """Probability of each class for the whole video."""
        if len(self) == 1:
            return np.asarray(self.probabilities_WK[0])
        seconds_W = [one.end_seconds - one.start_seconds for one in self]
        return np.asarray(np.average(self.probabilities_WK, axis=0, weights=seconds_W))

    @property
    def label(self) -> str:
        """The best label of the whole video."""
        return self.top(1)[0][0]

    @property
    def score(self) -> float:
        """Probability of the best label of the whole video."""
        return self.top(1)[0][1]

    def top(self, k: int) -> list[tuple[str, float]]:
        """The `k` best labels of the whole video with their probabilities; all, if there are fewer."""
        if k < 1:
            raise UserError(f"top({k}): too few labels. Give at least 1")
        probabilities_K = self.probabilities_K
        return [(self.classes[c], float(probabilities_K[c])) for c in best_first(probabilities_K)[:k]]

    def plot(self, k: int = 5) -> Any:
        """An Altair chart of the `k` best labels: a bar each; of several windows a line each, over time."""
        import altair as alt

        if len(self) == 1:
            bars = [{"label": label, "score": score} for label, score in self.top(k)]
            return (
                alt.Chart(alt.Data(values=bars), title=self[0].path)
                .mark_bar()
                .encode(
                    x=alt.X("score:Q", title="probability", scale=alt.Scale(domain=[0, 1])),
                    y=alt.Y("label:N", title=None, sort=None),
                )
            )
        names = [label for label, _ in self.top(k)]
        steps = [
            {"label": name, "seconds": seconds, "score": float(self.probabilities_WK[window, self.classes.index(name)])}
            for name in names
            for window, one in enumerate(self)
            for seconds in (one.start_seconds, one.end_seconds)
        ]
        return (
            alt.Chart(alt.Data(values=steps), title=self[0].path)
            .mark_line()
            .encode(
                x=alt.X("seconds:Q", title="seconds"),
                y=alt.Y("score:Q", title="probability", scale=alt.Scale(domain=[0, 1])),
                color=alt.Color("label:N", sort=names, title=None),
            )
        )


def _again(predictions: list[Prediction], classes: tuple[str, ...], probabilities_WK: np.ndarray) -> Predictions:
    return Predictions(predictions, classes=classes, probabilities_WK=probabilities_WK)


def best_first(probabilities_K: np.ndarray) -> np.ndarray:
    """Indices of the classes, the most probable first; of equals the first in the order of the classes."""
    return np.argsort(-probabilities_K, kind="stable")
