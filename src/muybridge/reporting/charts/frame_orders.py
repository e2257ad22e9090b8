"""Chart of accuracy with the frames in other orders."""

from typing import Any

import altair as alt

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.temporal import LABELS
from muybridge.reporting.charts.accuracy import STEP
from muybridge.reporting.charts.style import (
    COLORS,
    GRAY,
    SHAPES,
    TEXT,
    WIDTH,
    Chart,
    accuracy_axis,
    baseline_rules,
    baselines_near,
    emphasis,
    isolating,
    shown_name,
    tips,
    values,
)


def orders(comparison: Comparison) -> Chart:
    """Accuracies of the diagnosed models: a row a model, a symbol an order of its frames."""
    marks: list[dict[str, Any]] = [
        {"model": model.name, "name": shown_name(model.name, comparison), "order": LABELS.get(order, order),
         "value": model.diagnosed.accuracy(order)}
        for model in comparison.models
        if model.diagnosed is not None
        for order in model.diagnosed.predicted
    ]  # fmt: skip
    names = list(dict.fromkeys(mark["order"] for mark in marks))
    accuracies = [mark["value"] for mark in marks]
    baselines = baselines_near(comparison, accuracies)
    axis, scale = accuracy_axis([*accuracies, *baselines])
    base = alt.Chart(values(marks)).encode(
        y=alt.Y("name:N", sort=None, axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0)), opacity=emphasis()
    )
    x = alt.X("value:Q", axis=axis, scale=scale, title="video top-1 accuracy on the test split")
    legend = alt.Legend(title="frames shown", columns=3, symbolStrokeWidth=2)
    layers = [baseline_rules(comparison, "x", baselines, axis=axis, scale=scale)] if baselines else []
    layers += [
        base.mark_rule(color=GRAY, yOffset=9).encode(
            x=alt.X("min(value):Q", axis=axis, scale=scale), x2=alt.X2("max(value):Q")
        ),
        base.mark_point(filled=True, size=80, opacity=1, yOffset=9).encode(
            x=x,
            color=alt.Color("order:N", scale=alt.Scale(domain=names, range=list(COLORS[-len(names) :])), legend=legend),
            shape=alt.Shape("order:N", scale=alt.Scale(domain=names, range=list(SHAPES[: len(names)])), legend=legend),
            tooltip=tips("model:N", "order:N", alt.Tooltip("value:Q", format=".3f")),
        ),
        base.transform_aggregate(groupby=["name", "model"])
        .mark_text(align="left", baseline="middle", fontSize=TEXT, dy=-8, dx=2, fontWeight=600)
        .encode(text=alt.Text("name:N"), x=alt.XValue(0), color=alt.ColorValue("#22262b")),
    ]
    num_rows = len({mark["model"] for mark in marks})
    return alt.layer(*layers).properties(width=WIDTH, height=STEP * num_rows).add_params(isolating())
