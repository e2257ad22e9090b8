"""Training and validation over the epochs, and over the hours of training."""

from typing import Any, Literal

import altair as alt
import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.curves import ACCURACY, Part, curve
from muybridge.analysis.results import RunsResult
from muybridge.reporting.charts.style import COLORS, Chart, baseline_rules, color, emphasis, isolating, tips, values
from muybridge.storage.run import Run

Quantity = Literal["loss", "accuracy"]
Over = Literal["epoch", "hours"]

MOST_POINTS = 100
"""Most points of a curve; a longer one is subsampled evenly, its last epoch kept."""

SHORT_MINUTES = 120.0
"""Training in minutes, below which time is shown in minutes."""


def curves(comparison: Comparison, quantity: Quantity, most: int, *, over: Over = "epoch") -> Chart:
    """Curves over the epochs or the hours of training, training dashed and validation solid; mean over a model's runs."""
    title = {
        "loss": "cross-entropy (solid: val, dashed: train)",
        "accuracy": "top-1 accuracy (solid: val videos, dashed: train clips)",
    }[quantity]
    rows = [row for model in comparison.of_runs[:most] for part in ACCURACY for row in _curve(model, part, quantity)]
    last_epoch = max((row["epoch"] for row in rows), default=1)
    few = last_epoch <= 3  # a line of one epoch would not be seen; its points are whole, and none lies outside
    x = _over_epochs(last_epoch) if over == "epoch" else _over_time(rows)
    lines = (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=1.8, clip=not few, point=alt.OverlayMarkDef(size=30) if few else False)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=title, scale=_scale(rows, quantity, spikes=few), axis=alt.Axis(tickCount=6)),
            color=color(comparison),
            opacity=emphasis(),
            strokeDash=alt.StrokeDash(
                "part:N", legend=None, scale=alt.Scale(domain=["val", "train"], range=[[1, 0], [4, 3]])
            ),
            tooltip=tips(
                "model:N", "part:N", "epoch:Q", alt.Tooltip("minutes:Q", format=",.1f"), alt.Tooltip("value:Q", format=".3f")
            ),
        )
    )  # fmt: skip
    rules = [baseline_rules(comparison, "y")] if quantity == "accuracy" else []
    return alt.layer(*rules, lines).properties(width=440, height=260).add_params(isolating())


def of_run(run: Run) -> Chart:
    """Loss and accuracy of one run over the epochs, side by side: training and val."""
    points = [point for part in ACCURACY for point in curve([run], part)]
    last = max((point.epoch for point in points), default=1)
    panels = []
    titles: dict[Quantity, str] = {"loss": "cross-entropy", "accuracy": "top-1 accuracy"}
    for quantity, title in titles.items():
        rows = [
            {"part": point.part, "epoch": point.epoch, "value": value}
            for point in points
            if (value := getattr(point, quantity)) is not None
        ]
        panels.append(
            alt.Chart(values(rows))
            .mark_line(point=alt.OverlayMarkDef(size=30) if last <= 3 else False, clip=last > 3)
            .encode(
                x=_over_epochs(last),
                y=alt.Y("value:Q", title=title, scale=_scale(rows, quantity, spikes=last <= 3)),
                color=alt.Color("part:N", title=None, scale=alt.Scale(domain=["val", "train"], range=list(COLORS[:2]))),
                tooltip=tips("part:N", "epoch:Q", alt.Tooltip("value:Q", format=".3f")),
            )
            .properties(width=300, height=220)
        )
    return alt.hconcat(*panels)


def _over_epochs(last: int) -> alt.X:
    return alt.X(
        "epoch:Q",
        scale=alt.Scale(domain=[1, last] if last > 1 else [0, 2], nice=False),
        axis=alt.Axis(values=_epoch_ticks(last), format="d", labelOverlap=True),
        title="epoch",
    )


def _over_time(rows: list[dict[str, Any]]) -> alt.X:
    """Hours of training, or minutes where all took less than two hours."""
    last_minutes = max((row["minutes"] for row in rows), default=1.0)
    unit, length = ("minutes", last_minutes) if last_minutes < SHORT_MINUTES else ("hours", last_minutes / 60)
    return alt.X(
        f"{unit}:Q",
        scale=alt.Scale(domain=[0, length or 1], nice=False),
        axis=alt.Axis(tickCount=6, labelOverlap=True),
        title=f"{unit} of training, validation not counted",
    )


def _epoch_ticks(last: int) -> list[int]:
    """Whole epochs, at most ten or so."""
    step = next(digit * 10**power for power in range(9) for digit in (1, 2, 5) if last <= 10 * digit * 10**power)
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def _curve(model: RunsResult, part: Part, quantity: Quantity) -> list[dict[str, Any]]:
    points = [point for point in model.curves[part] if getattr(point, quantity) is not None]
    kept = {round(place) for place in np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS))}
    return [
        {"model": model.name, "part": part, "epoch": point.epoch, "value": round(getattr(point, quantity), 4),
         "hours": round(point.hours or 0.0, 6), "minutes": round(60 * (point.hours or 0.0), 4)}
        for number, point in enumerate(points)
        if number in kept
    ]  # fmt: skip


def _scale(rows: list[dict[str, Any]], quantity: Quantity, *, spikes: bool) -> alt.Scale:
    """Accuracy from 0 to 1; loss with or without the spikes that a few epochs may have."""
    if quantity == "accuracy":
        return alt.Scale(domain=[0, 1])
    values = sorted(row["value"] for row in rows)
    if not values:
        return alt.Scale()
    usual = 2 * values[int(0.9 * (len(values) - 1))]
    return alt.Scale(domain=[0, (values[-1] if spikes else min(values[-1], usual)) * 1.05])
