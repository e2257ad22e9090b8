"""Charts of accuracies and differences with their intervals, and of reliability."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.statistics import Interval
from muybridge.reporting.charts.style import (
    GRAY,
    TEXT,
    WIDTH,
    Chart,
    accuracy_axis,
    baseline_rules,
    baselines_near,
    color,
    emphasis,
    isolating,
    row,
    shown_name,
    tips,
    values,
)

STEP = 38
"""Pixels of a row: a name and, below it, its interval."""


def accuracies(comparison: Comparison) -> Chart:
    """A row a model: video accuracy and its interval."""
    interval_of = {model.name: comparison.measure(model) for model in comparison.models}
    title = "mean class accuracy, 95 % interval" if comparison.by_class else "video top-1 accuracy, 95 % interval"
    return _intervals(comparison, interval_of, title, with_baselines=not comparison.by_class)


def direction(comparison: Comparison) -> Chart:
    """A row a model: accuracy between time-reversed classes, and the line of chance."""
    interval_of = {model.name: model.within_pairs(comparison.pairs) for model in comparison.models}
    title = "accuracy between time-reversed classes (line: chance)"
    return _intervals(comparison, interval_of, title, line=0.5)


def from_the_best(comparison: Comparison) -> Chart:
    """A row a model: how much less accurate it is than the first one, and the interval by which that was judged."""
    rows: list[dict[str, Any]] = []
    for (a, b), verdict in comparison.verdicts.items():
        if a == 0:
            model = comparison.models[b]
            rows.append({
                "model": model.name, "name": shown_name(model.name, comparison), "value": -verdict.difference.value,
                "low": -verdict.high, "high": -verdict.low, "accuracy": str(verdict), "p": verdict.p,
                "judged": "told apart" if verdict.apart else "cannot be told apart",
            })  # fmt: skip
    ends = [end for one in rows for end in (one["low"], one["high"])] + [0.0]
    axis, scale = accuracy_axis(ends, floor=-1.0)
    first = shown_name(comparison.models[0].name, comparison)
    title = f"{'mean class ' if comparison.by_class else ''}accuracy minus that of {first}, on the same videos"
    tooltip: list[Any] = [
        "model:N",
        alt.Tooltip("accuracy:N", title="best minus it"),
        "judged:N",
        alt.Tooltip("p:Q", format=".3g"),
    ]
    base = alt.Chart(values(rows))
    return _rows_with_names(
        base, comparison, axis, scale, title, tooltip, line=0.0,
        count=len(rows),
    )  # fmt: skip


def reliability(comparison: Comparison, most: int) -> Chart:
    """Accuracy over confidence, a line a model, and the diagonal of honest confidence."""
    rows: list[dict[str, Any]] = [
        {"model": model.name, "confidence": confidence, "accuracy": accuracy, "answers": count}
        for model in comparison.models[:most]
        if model.calibration is not None
        for confidence, accuracy, count in model.calibration.bins
    ]
    unit = alt.Scale(domain=[0, 1])
    base = (
        alt.Chart(values(rows))
        .encode(
            x=alt.X("confidence:Q", scale=unit, title="confidence: probability of the answer (mean of its bin)"),
            y=alt.Y("accuracy:Q", scale=unit, title="share of those answers that are right"),
            color=color(comparison), opacity=emphasis(),
            tooltip=tips(
                "model:N", alt.Tooltip("confidence:Q", format=".3f"), alt.Tooltip("accuracy:Q", format=".3f"), "answers:Q"
            ),
        )
    )  # fmt: skip
    honest = alt.Chart(values([{"x": 0, "y": 0}, {"x": 1, "y": 1}])).mark_line(color=GRAY, strokeDash=[4, 3])
    return (
        alt.layer(
            honest.encode(x=alt.X("x:Q", scale=unit), y=alt.Y("y:Q", scale=unit)),
            base.mark_line(strokeWidth=1.8),
            base.mark_point(filled=True, opacity=1).encode(
                size=alt.Size("answers:Q", scale=alt.Scale(range=[12, 120], zero=True), legend=None)
            ),
        )
        .properties(width=360, height=320)
        .add_params(isolating())
    )


def _intervals(
    comparison: Comparison, interval_of: Mapping[str, Interval], title: str, line: float | None = None, *,
    with_baselines: bool = False,
) -> Chart:  # fmt: skip
    rows: list[dict[str, Any]] = [row(model, interval_of[model.name], comparison) for model in comparison.models]
    ends = [end for one in interval_of.values() for end in (one.low, one.high)] + ([] if line is None else [line])
    baselines = baselines_near(comparison, ends) if with_baselines else []
    axis, scale = accuracy_axis([*ends, *baselines])
    tooltip = tips("model:N", "accuracy:N", "interval:N")
    behind = baseline_rules(comparison, "x", baselines, axis=axis, scale=scale) if baselines else None
    return _rows_with_names(
        alt.Chart(values(rows)), comparison, axis, scale, title, tooltip, line=line, count=len(rows), behind=behind
    )  # fmt: skip


def _rows_with_names(
    base: alt.Chart, comparison: Comparison, axis: alt.Axis, scale: alt.Scale, title: str, tooltip: list[Any], *,
    line: float | None, count: int, behind: alt.Chart | None = None,
) -> Chart:  # fmt: skip
    """Names stand above their intervals, not beside them: on a telephone both have no room."""
    base = base.encode(
        y=alt.Y("name:N", sort=None, axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0)),
        color=color(comparison), opacity=emphasis(), tooltip=tooltip,
    )  # fmt: skip
    x = alt.X("low:Q", axis=axis, scale=scale, title=title)
    value = alt.X("value:Q", axis=axis, scale=scale)
    layers: list[alt.Chart] = [
        base.mark_rule(strokeWidth=2.5, yOffset=9).encode(x=x, x2=alt.X2("high:Q")),
        base.mark_circle(size=90, yOffset=9).encode(x=value),
        base.mark_text(align="left", baseline="middle", fontSize=TEXT, dy=-8, dx=2, fontWeight=600).encode(
            text=alt.Text("name:N"), x=alt.XValue(0), color=alt.ColorValue("#22262b")
        ),
    ]
    if line is not None:
        rule = alt.Chart(values([{"line": line}])).mark_rule(color=GRAY, strokeDash=[4, 3])
        layers.insert(0, rule.encode(x=alt.X("line:Q", axis=axis, scale=scale)))
    if behind is not None:
        layers.insert(0, behind)
    return alt.layer(*layers).properties(width=WIDTH, height=STEP * count).add_params(isolating())
