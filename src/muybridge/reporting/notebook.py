"""Charts for notebooks: `muybridge.plot`, and behind it the method `plot` of runs, studies, comparisons and scores."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.errors import UserError, nearest
from muybridge.reporting.charts import accuracy, classes, curves
from muybridge.reporting.charts.style import COLORS, Chart, themed, tips, values
from muybridge.reporting.render import with_key
from muybridge.reporting.sections import Chapter, sections
from muybridge.runtime.shown import ShownSets
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores, class_accuracies

ROW = 22
"""Pixels of a class."""


def plot(shown: Run | Scores | Comparison | ShownSets, figure: str = "accuracy") -> Any:
    """An Altair chart of a run (loss and accuracy over the epochs), of scores, or of a comparison.

    `figure`: of comparisons, studies and reports, the name that the chart's file has in a report: accuracy, cost-macs,
    confusion-1-NAME, …; of scores accuracy (of each class) or confusion. Raises UserError for one that is not there, and
    where there is nothing to draw.
    """
    if isinstance(shown, Run):
        return _altair(themed(_of_run(shown)))
    if isinstance(shown, Scores):
        if figure not in OF_SCORES:
            raise UserError(f"plot: scores have no figure '{figure}'. {nearest(figure, OF_SCORES)}")
        return _altair(themed(OF_SCORES[figure](shown)))
    if isinstance(shown, Comparison):
        return _altair(_figure(shown, figure))
    return _altair(_stacked({name: _figure(one, figure) for name, one in _several(shown).items()}))


def _several(shown: Any) -> Mapping[str, Comparison]:
    comparisons: Mapping[str, Comparison] = shown.comparisons
    if not comparisons:
        raise UserError(f"{getattr(shown, 'path', 'plot')}: no run is finished. Continue it first")
    return comparisons


def _figure(comparison: Comparison, figure: str) -> dict[str, Any]:
    """A chart of the report."""
    if figure == "accuracy" and (chart := accuracy.accuracies(comparison)) is not None:  # without making all sections
        return themed(chart)
    figures = {one.name: one for section in sections(Chapter(comparison, with_frames=False)) for one in section.figures}
    if figure not in figures:
        raise UserError(f"plot: the report of {comparison.data} has no figure '{figure}'. {nearest(figure, figures)}")
    spec: dict[str, Any] = with_key(figures[figure].spec)
    return spec


def _stacked(specs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Charts one below the other, with one style and one set of parameters; a single one is itself."""
    if len(specs) == 1:
        return next(iter(specs.values()))
    parts: list[dict[str, Any]] = []
    params: dict[str, Any] = {}
    for name, spec in specs.items():
        own = {key: value for key, value in spec.items() if key not in ("config", "params", "$schema")}
        parts.append({"title": name, **own})
        params |= {one["name"]: one for one in spec.get("params", ())}
    return {"vconcat": parts, "params": list(params.values()), "config": next(iter(specs.values()))["config"]}


def _altair(spec: dict[str, Any]) -> Any:
    """The chart on white paper, as its text is dark."""
    return alt.Chart.from_dict(spec | {"background": "white", "padding": 8})


def _of_run(run: Run) -> Chart:
    if not run.metrics("train"):
        raise UserError(f"{run.path}: no epoch was trained yet, so there is nothing to draw. Continue the run")
    return curves.of_run(run)


def _by_class(scores: Scores) -> Chart:
    """A bar a class: the share of its videos that is right, the lowest first."""
    known_N = _known(scores)
    counts_K = np.bincount(scores.labels_N[known_N], minlength=len(scores.classes))
    correct_N = scores.video_scores().argmax(1) == scores.labels_N
    accuracy_K = class_accuracies(correct_N, scores.labels_N, len(scores.classes))
    rows = [
        {"class": scores.classes[k], "accuracy": float(accuracy_K[k]), "videos": int(counts_K[k])}
        for k in np.argsort(accuracy_K, kind="stable").tolist()
        if counts_K[k]
    ]
    return (
        alt.Chart(values(rows))
        .mark_bar(color=COLORS[0])
        .encode(
            x=alt.X("accuracy:Q", title="share of the class's videos that is right", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("class:N", title=None, sort=None),
            tooltip=tips("class:N", alt.Tooltip("accuracy:Q", format=".3f"), "videos:Q"),
        )
        .properties(width=400, height=ROW * len(rows))
    )


def _confusion(scores: Scores) -> Chart:
    """A count for each pair of class and answer; classes that are taken for each other lie together."""
    _known(scores)
    counts_KK = scores.confusion()
    shares_KK = counts_KK / np.maximum(1, counts_KK.sum(1, keepdims=True))
    return classes.matrix(counts_KK, shares_KK, scores.classes, classes.neighbours(shares_KK), scores.split, "videos")


def _known(scores: Scores) -> np.ndarray:
    """Mask (N,) of the videos that have a label. Raises UserError where none has."""
    known_N: np.ndarray = scores.labels_N >= 0
    if not known_N.any():
        raise UserError("plot: the scores have no labels to be held against. Take their rows: frame()")
    return known_N


OF_SCORES = {"accuracy": _by_class, "confusion": _confusion}
"""Figures of scores."""
