"""Loss at rising learning rates."""

from typing import Any

import altair as alt

from muybridge.analysis.lr_range import LrRange
from muybridge.reporting.charts.style import COLORS, GRAY, Chart, log_ticks, tips, values


def lr_range(found: LrRange, title: str) -> Chart:
    """Losses of single steps as points, their running mean as a line, and rules at the suggested rate and the recipe's."""
    most = 2 * max(found.smoothed[: len(found.smoothed) // 2 + 1])
    steps = [
        {"lr": lr, "loss": min(loss, most), "smoothed": min(smooth, most)}
        for lr, loss, smooth in zip(found.rates, found.losses, found.smoothed, strict=True)
    ]
    marks: list[dict[str, Any]] = [{"lr": found.recipe_lr, "what": f"recipe: {found.recipe_lr:.2g}"}]
    if found.suggested is not None:
        marks.append({"lr": found.suggested, "what": f"suggested: {found.suggested:.2g}"})
    low, high = min(*found.rates, found.recipe_lr), max(*found.rates, found.recipe_lr)
    x = alt.X(
        "lr:Q", scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=log_ticks(low, high), format="~g", labelOverlap=True), title="learning rate",
    )  # fmt: skip
    y_scale = alt.Scale(zero=False)
    base = alt.Chart(values(steps))
    points = base.mark_circle(size=18, color=GRAY, opacity=0.6).encode(
        x=x, y=alt.Y("loss:Q", scale=y_scale, title="loss")
    )
    line = base.mark_line(color=COLORS[0], strokeWidth=2).encode(
        x=x, y=alt.Y("smoothed:Q", scale=y_scale), tooltip=tips(
            alt.Tooltip("lr:Q", format=".2g"), alt.Tooltip("smoothed:Q", format=".3f"),
        ),
    )  # fmt: skip
    color = alt.Color(
        "what:N", scale=alt.Scale(domain=[mark["what"] for mark in marks], range=[COLORS[1], COLORS[2]]),
        legend=alt.Legend(orient="bottom", title=None, labelLimit=300),
    )  # fmt: skip
    rules = alt.Chart(values(marks)).mark_rule(strokeWidth=2, strokeDash=[5, 3]).encode(x=x, color=color)
    return alt.layer(points, line, rules).properties(width=520, height=300, title=title)
