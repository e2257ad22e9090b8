"""Training and validation over the epochs."""

import math
from typing import Any

import altair as alt
import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.rows import ModelResult
from muybridge.reporting.charts.style import Chart, color, emphasis, isolating, tips, values

MOST_POINTS = 100
"""Most points of a curve; a longer one is subsampled evenly, its last epoch kept."""


def curves(comparison: Comparison, quantity: str, most: int) -> Chart:
    """Curves of "loss" or "accuracy" over the epochs, training dashed and validation solid; mean over a model's runs."""
    train_key, val_key, title = {
        "loss": ("loss", "loss", "cross-entropy (solid: val, dashed: train)"),
        "accuracy": ("clip_top1", "video_top1", "top-1 accuracy (solid: val videos, dashed: train clips)"),
    }[quantity]
    rows: list[dict[str, Any]] = []
    for model in comparison.models[:most]:
        rows += _curve(model, "train", train_key) + _curve(model, "val", val_key)
    last = max((row["epoch"] for row in rows), default=1)
    few = last <= 3  # a line of one epoch would not be seen; its points are whole, and none lies outside
    return (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=1.8, clip=not few, point=alt.OverlayMarkDef(size=30) if few else False)
        .encode(
            x=alt.X(
                "epoch:Q",
                scale=alt.Scale(domain=[1, last] if last > 1 else [0, 2], nice=False),
                axis=alt.Axis(values=_epoch_ticks(last), format="d", labelOverlap=True),
                title="epoch",
            ),
            y=alt.Y("value:Q", title=title, scale=_scale(rows, quantity, spikes=few), axis=alt.Axis(tickCount=6)),
            color=color(comparison),
            opacity=emphasis(),
            strokeDash=alt.StrokeDash(
                "part:N", legend=None, scale=alt.Scale(domain=["val", "train"], range=[[1, 0], [4, 3]])
            ),
            tooltip=tips(
                "model:N",
                "part:N",
                "epoch:Q",
                alt.Tooltip("value:Q", format=".3f"),
            ),
        )
        .properties(width=440, height=260)
        .add_params(isolating())
    )


def _epoch_ticks(last: int) -> list[int]:
    """Whole epochs, at most ten or so."""
    step = next(digit * 10**power for power in range(9) for digit in (1, 2, 5) if last <= 10 * digit * 10**power)
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def _curve(model: ModelResult, part: str, key: str) -> list[dict[str, Any]]:
    by_epoch: dict[int, list[float]] = {}
    for run in model.runs:
        for line in run.metrics(part):
            if math.isfinite(line.get(key, math.nan)):
                by_epoch.setdefault(line["epoch"], []).append(line[key])
    epochs = sorted(by_epoch)
    kept = {epochs[round(place)] for place in np.linspace(0, len(epochs) - 1, min(len(epochs), MOST_POINTS))}
    return [
        {"model": model.name, "part": part, "epoch": epoch, "value": round(float(np.mean(by_epoch[epoch])), 4)}
        for epoch in epochs
        if epoch in kept
    ]


def _scale(rows: list[dict[str, Any]], quantity: str, *, spikes: bool) -> alt.Scale:
    """Accuracy from 0 to 1; loss with or without the spikes that a few epochs may have."""
    if quantity == "accuracy":
        return alt.Scale(domain=[0, 1])
    values = sorted(row["value"] for row in rows)
    if not values:
        return alt.Scale()
    usual = 2 * values[int(0.9 * (len(values) - 1))]
    return alt.Scale(domain=[0, (values[-1] if spikes else min(values[-1], usual)) * 1.05])
