"""Chart of the accuracy of the surest answers over the share that is answered."""

from typing import Any

import altair as alt
import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.reporting.charts.style import WIDTH, Chart, accuracy_axis, color, emphasis, isolating, tips, values

POINTS = 100
"""Most points of a line."""
FEWEST_SHOWN = 0.05
"""Least share of answers that is drawn: below it a line is the luck of a few videos."""


def coverage(comparison: Comparison, most: int) -> Chart | None:
    """Accuracy over coverage, a line a model. None where all that is drawn would lie at 1."""
    rows: list[dict[str, Any]] = []
    for model in comparison.models[:most]:
        if model.risk_coverage is None:
            continue
        risk_N = model.risk_coverage.risk_N
        count = len(risk_N)
        numbers = np.unique(np.linspace(max(1, FEWEST_SHOWN * count), count, POINTS).round().astype(int))
        rows += [
            {"model": model.name, "coverage": n / count, "accuracy": 1 - float(risk_N[n - 1])} for n in numbers.tolist()
        ]
    if all(one["accuracy"] == 1 for one in rows):
        return None
    axis, scale = accuracy_axis([one["accuracy"] for one in rows])
    share = alt.Scale(domain=[0, 1])
    base = alt.Chart(values(rows)).encode(
        x=alt.X("coverage:Q", scale=share, axis=alt.Axis(format="%"), title="share of the videos that get an answer"),
        y=alt.Y("accuracy:Q", axis=axis, scale=scale, title="share of those answers that are right"),
        color=color(comparison), opacity=emphasis(),
        tooltip=tips("model:N", alt.Tooltip("coverage:Q", format=".2f"), alt.Tooltip("accuracy:Q", format=".3f")),
    )  # fmt: skip
    return base.mark_line(strokeWidth=1.8).properties(width=WIDTH, height=260).add_params(isolating())
