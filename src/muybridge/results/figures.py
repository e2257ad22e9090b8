"""The report's figures, as Altair charts. Each takes a Comparison and names its conventions in its axis titles."""

from typing import Any

import altair as alt
import numpy as np

from muybridge.results.comparison import Comparison, ModelResult

WIDTH = 520
COLORS = ["#2a6f97", "#d1495b", "#66a182", "#edae49", "#7b5ea7", "#00798c", "#b56576", "#6c757d"]


def accuracy_against_macs(comparison: Comparison) -> alt.LayerChart | alt.FacetChart:
    """Video accuracy with its interval over convolution MACs; area shows parameters."""
    rows = [
        {
            "model": model.name, "accuracy": model.accuracy.value, "low": model.accuracy.low,
            "high": model.accuracy.high, "GMACs": model.cost["conv_macs"] / 1e9,
            "parameters (M)": model.cost["params"] / 1e6, "interval": model.accuracy.method,
        }
        for model in comparison.models
    ]  # fmt: skip
    protocol = comparison.protocol.clip
    x = alt.X(
        "GMACs:Q",
        scale=alt.Scale(type="log", nice=False, padding=40),
        axis=alt.Axis(format="~s", tickCount=4, grid=False),
        title=f"convolution MACs of one clip, G ({protocol.num_frames} x {protocol.size} x {protocol.size}, log)",
    )
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    margin = max(0.02, 0.08 * (high - low))
    domain = [max(0.0, low - margin), min(1.0 + margin / 2, high + margin)]
    color = _color(comparison)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=color)
    bars = base.mark_rule(strokeWidth=2, opacity=0.7).encode(
        y=alt.Y("low:Q", scale=alt.Scale(domain=domain, zero=False), title="video accuracy (top-1), 95 % interval"),
        y2="high:Q",
    )
    bubbles = base.mark_circle(opacity=0.75, stroke="white", strokeWidth=1).encode(
        y=alt.Y("accuracy:Q", scale=alt.Scale(domain=domain, zero=False)),
        size=alt.Size(
            "parameters (M):Q",
            scale=alt.Scale(range=[80, 700], zero=True),
            legend=alt.Legend(title="parameters, M", symbolFillColor="#888", symbolStrokeWidth=0, tickCount=3),
        ),
        order=alt.Order("parameters (M):Q", sort="descending"),
        tooltip=[
            "model:N", alt.Tooltip("accuracy:Q", format=".3f"), alt.Tooltip("low:Q", format=".3f"),
            alt.Tooltip("high:Q", format=".3f"), alt.Tooltip("GMACs:Q", format=".3f"),
            alt.Tooltip("parameters (M):Q", format=".2f"), "interval:N",
        ],
    )  # fmt: skip
    return alt.layer(bars, bubbles).properties(width=WIDTH, height=320)


def curves(comparison: Comparison, quantity: str) -> alt.Chart:
    """ "loss" or "accuracy" over the epochs, training (dashed) and validation (solid), mean over runs."""
    train_key, val_key, title = {
        "loss": ("loss", "loss", "cross-entropy"),
        "accuracy": ("clip_top1", "video_top1", "accuracy: train clips (augmented), val videos"),
    }[quantity]
    rows: list[dict[str, Any]] = []
    for model in comparison.models:
        rows += _curve(model, "train", train_key) + _curve(model, "val", val_key)
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8, clip=True)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("value:Q", title=title, scale=_scale(rows, quantity)),
            color=_color(comparison),
            strokeDash=alt.StrokeDash(
                "part:N", title=None, scale=alt.Scale(domain=["val", "train"], range=[[1, 0], [4, 3]])
            ),
            tooltip=["model:N", "part:N", "epoch:Q", alt.Tooltip("value:Q", format=".3f")],
        )
        .properties(width=360, height=240)
    )


def confusion(comparison: Comparison, model: ModelResult) -> alt.LayerChart | alt.FacetChart:
    """Row-normalised confusion matrix; the counts are summed over seeds and folds."""
    counts_KK = model.confusion
    shares_KK = counts_KK / np.maximum(1, counts_KK.sum(1, keepdims=True))
    classes = list(comparison.classes)
    rows = [
        {"true": classes[i], "predicted": classes[j], "count": int(counts_KK[i, j]), "share": float(shares_KK[i, j])}
        for i in range(len(classes))
        for j in range(len(classes))
        if counts_KK[i, j] or len(classes) <= 30
    ]
    cell = max(4, min(26, 640 // len(classes)))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("predicted:N", sort=classes, axis=alt.Axis(labelAngle=-50, labelLimit=150), title="predicted"),
        y=alt.Y("true:N", sort=classes, axis=alt.Axis(labelLimit=150), title="true class"),
    )
    cells = base.mark_rect(stroke="#eee", strokeWidth=0.5).encode(
        color=alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None),
        tooltip=["true:N", "predicted:N", "count:Q", alt.Tooltip("share:Q", format=".0%")],
    )
    layers = [cells]
    if cell >= 18:
        layers.append(
            base.mark_text(fontSize=9)
            .encode(
                text="count:Q",
                color=alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#333")),
            )
            .transform_filter("datum.count > 0")
        )
    return alt.layer(*layers).properties(width=cell * len(classes), height=cell * len(classes), title=model.name)


def _color(comparison: Comparison) -> alt.Color:
    names = [model.name for model in comparison.models]
    palette = [COLORS[i % len(COLORS)] for i in range(len(names))]
    return alt.Color(
        "model:N", scale=alt.Scale(domain=names, range=palette), legend=alt.Legend(title=None, labelLimit=240)
    )


def _curve(model: ModelResult, part: str, key: str) -> list[dict[str, Any]]:
    by_epoch: dict[int, list[float]] = {}
    for run in model.runs:
        for line in run.metrics(part):
            by_epoch.setdefault(line["epoch"], []).append(line[key])
    return [
        {"model": model.name, "part": part, "epoch": epoch, "value": float(np.mean(values))}
        for epoch, values in sorted(by_epoch.items())
    ]


def _scale(rows: list[dict[str, Any]], quantity: str) -> alt.Scale:
    """Accuracy from 0 to 1; loss without the spikes of the first epochs."""
    if quantity == "accuracy":
        return alt.Scale(domain=[0, 1])
    values = sorted(row["value"] for row in rows)
    return alt.Scale(domain=[0, values[int(0.95 * (len(values) - 1))] * 1.1]) if values else alt.Scale()
