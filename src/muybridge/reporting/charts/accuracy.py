"""Charts of accuracies and differences with their intervals, and of reliability."""

from collections.abc import Mapping
from statistics import median
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
    color,
    emphasis,
    isolating,
    row,
    shown_name,
    tips,
    values,
)

ROUNDING = 1e-9
FEWEST_BINS = 4
"""Fewest points of a reliability line: fewer show no curve."""
LEAST_WIDTH = 0.04
"""Least share of the axis that the median interval takes, for the axis to reach down to the baselines."""
STEP = 38
"""Pixels of a row: a name and, below it, its interval."""


def accuracies(comparison: Comparison) -> Chart | None:
    """A row a model: video accuracy and its interval, with the lines of chance and of the majority class.

    Where the axis cannot reach down to these without making intervals unreadable, it begins above them; a mark at its left
    end and its title say so. None where no interval says anything.
    """
    interval_of = {model.name: comparison.measure(model) for model in comparison.models}
    if all(_says_nothing(one.low, one.high, 1.0) for one in interval_of.values()):
        return None
    title = "mean class accuracy" if comparison.by_class else "video top-1 accuracy"
    return _intervals(comparison, interval_of, f"{title}, 95 % interval", with_baselines=True)


def direction(comparison: Comparison) -> Chart | None:
    """A row a model: accuracy between time-reversed classes, and the line of chance. None where no interval says anything."""
    interval_of = {model.name: model.within_pairs(comparison.pairs) for model in comparison.models}
    if all(_says_nothing(one.low, one.high, 1.0) for one in interval_of.values()):
        return None
    title = "accuracy between time-reversed classes (line: chance)"
    return _intervals(comparison, interval_of, title, line=0.5)


def _says_nothing(low: float, high: float, span: float) -> bool:
    """Whether an interval is as wide as the range that a figure can have."""
    return high - low > span - ROUNDING


def from_the_best(comparison: Comparison) -> Chart | None:
    """A row a model: how much less accurate it is than the first one, and the interval by which that was judged.

    Models whose interval says nothing are left out. None where none is left.
    """
    rows: list[dict[str, Any]] = []
    for (a, b), verdict in comparison.verdicts.items():
        if a == 0 and not _says_nothing(verdict.low, verdict.high, 2.0):
            model = comparison.models[b]
            rows.append({
                "model": model.name, "name": shown_name(model.name, comparison), "value": -verdict.difference.value,
                "low": -verdict.high, "high": -verdict.low, "accuracy": str(verdict), "p": verdict.p,
                "judged": "told apart" if verdict.apart else "cannot be told apart",
            })  # fmt: skip
    if not rows:
        return None
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


def reliability(comparison: Comparison, most: int) -> Chart | None:
    """Accuracy over confidence, a line a model, and the diagonal of honest confidence.

    Models of fewer than `FEWEST_BINS` points are left out. None where none is left.
    """
    rows: list[dict[str, Any]] = [
        {"model": model.name, "confidence": confidence, "accuracy": accuracy, "answers": count}
        for model in comparison.models[:most]
        if model.calibration is not None and len(model.calibration.bins) >= FEWEST_BINS
        for confidence, accuracy, count in model.calibration.bins
    ]
    if not rows:
        return None
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
    by_class = comparison.by_class
    of_baseline = {one.name: one.mean_class if by_class else one.top1 for one in comparison.baselines.both}
    widths = [one.high - one.low for one in interval_of.values()]
    lowest = max(min(of_baseline.values()), max(ends) - median(widths) / LEAST_WIDTH) if with_baselines else 1.0
    drawn = {name: value for name, value in of_baseline.items() if with_baselines and value >= lowest}
    left_out = {name: value for name, value in of_baseline.items() if with_baselines and name not in drawn}
    axis, scale = accuracy_axis([*ends, *drawn.values()])
    tooltip = tips("model:N", "accuracy:N", "interval:N")
    layers = []
    if drawn:
        layers.append(baseline_rules(
            comparison, "x", list(drawn.values()), by_class=by_class, axis=axis, scale=scale
        ))  # fmt: skip
        title += f"; dotted: {_named(drawn)}"
    if left_out:
        layers.append(_beyond_the_left_end(left_out))
        title += f"; off the axis, to the left: {_named(left_out)}"
    behind = alt.layer(*layers) if layers else None
    return _rows_with_names(
        alt.Chart(values(rows)), comparison, axis, scale, title, tooltip, line=line, count=len(rows), behind=behind
    )  # fmt: skip


def _named(baselines: Mapping[str, float]) -> str:
    """Baselines with their values; those that are equal together."""
    by_value: dict[str, list[str]] = {}
    for name, value in baselines.items():
        by_value.setdefault(f"{value:.3f}", []).append(name)
    return ", ".join(f"{' and '.join(names)} {value}" for value, names in by_value.items())


def _beyond_the_left_end(baselines: Mapping[str, float]) -> alt.Chart:
    """A mark at the left end of the axis, that points to baselines below it."""
    rows = [{"beyond": _named(baselines)}]
    mark = alt.Chart(values(rows)).mark_point(shape="triangle-left", filled=True, size=60, color=GRAY, opacity=1)
    return mark.encode(
        x=alt.XValue(0), y=alt.YValue("height"), tooltip=tips(alt.Tooltip("beyond:N", title="below the axis"))
    )


def _rows_with_names(
    base: alt.Chart, comparison: Comparison, axis: alt.Axis, scale: alt.Scale, title: str, tooltip: list[Any], *,
    line: float | None, count: int, behind: Chart | None = None,
) -> Chart:  # fmt: skip
    """Names stand above their intervals, not beside them: on a telephone both have no room."""
    base = base.encode(
        y=alt.Y("name:N", sort=None, axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0)),
        color=color(comparison), opacity=emphasis(), tooltip=tooltip,
    )  # fmt: skip
    x = alt.X("low:Q", axis=axis, scale=scale, title=title)
    value = alt.X("value:Q", axis=axis, scale=scale)
    layers: list[Chart] = [
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
