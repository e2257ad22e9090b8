"""Accuracy against the number of training videos, with the fitted curve up to twice as many."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.label_budget import Curve
from muybridge.reporting.charts.style import Chart, accuracy_axis, color, emphasis, isolating, log_ticks, tips, values

POINTS_OF_A_LINE = 40


def over_videos(comparison: Comparison, curves: Sequence[Curve]) -> Chart:
    """A line a model: points with intervals as measured, the fitted curve, and at its end what twice the videos give."""
    points: list[dict[str, Any]] = [
        {"model": curve.models[-1].name, "name": row.name, "videos": videos, "value": one.value, "low": one.low,
         "high": one.high, "accuracy": str(one), "kind": "measured"}
        for curve in curves
        for row, videos, one in zip(curve.models, curve.videos, curve.accuracies, strict=True)
    ]  # fmt: skip
    ends: list[dict[str, Any]] = [
        {"model": curve.models[-1].name, "name": curve.name, "videos": curve.twice, "value": curve.at_twice.value,
         "low": curve.at_twice.low, "high": curve.at_twice.high, "accuracy": str(curve.at_twice), "kind": "by the curve"}
        for curve in curves
    ]  # fmt: skip
    line: list[dict[str, Any]] = [
        {"model": curve.models[-1].name, "videos": float(videos), "value": curve.accuracy_at(float(videos))}
        for curve in curves
        for videos in np.geomspace(curve.videos[0], curve.twice, POINTS_OF_A_LINE)
    ]
    axis, scale = accuracy_axis([one[end] for one in [*points, *ends] for end in ("low", "high")])
    low, high = min(one["videos"] for one in points) / 1.1, max(one["videos"] for one in ends) * 1.1
    x = alt.X(
        "videos:Q", title="training videos, log", scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high), format="d", grid=False, labelOverlap=True),
    )  # fmt: skip
    title = "mean class accuracy" if comparison.by_class else "video top-1 accuracy"
    y = alt.Y("value:Q", axis=axis, scale=scale, title=f"{title}, 95 % interval")

    def drawn(rows: list[dict[str, Any]]) -> alt.Chart:
        return alt.Chart(values(rows)).encode(x=x, color=color(comparison), opacity=emphasis())

    spans = alt.Y("low:Q", axis=axis, scale=scale)
    tooltip = tips("name:N", "kind:N", alt.Tooltip("videos:Q", format=".0f"), "accuracy:N")
    return (
        alt.layer(
            drawn(line).mark_line(strokeWidth=1.5, strokeDash=[4, 3]).encode(y=y),
            drawn([*points, *ends]).mark_rule(strokeWidth=1.5).encode(y=spans, y2=alt.Y2("high:Q")),
            drawn(points).mark_point(filled=True, size=60, opacity=1).encode(y=y, tooltip=tooltip),
            drawn(ends).mark_point(filled=False, size=60, opacity=1).encode(y=y, tooltip=tooltip),
        )
        .properties(width=440, height=300)
        .add_params(isolating())
    )
