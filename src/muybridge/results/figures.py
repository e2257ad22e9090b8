"""The report's figures, as Altair charts. Each takes a Comparison and names its conventions in its axis titles.

No chart has a legend of its own: a model has one colour on the whole page (`colors`), and the page shows the key.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from muybridge.results.comparison import Comparison, ModelResult
from muybridge.results.statistics import Interval

WIDTH = 560
COLORS = [
    "#2a6f97", "#d1495b", "#4f9d69", "#d9961a", "#7b5ea7", "#00a5b5",
    "#b5838d", "#6c757d", "#8c6d31", "#c2559d", "#1f3b73", "#9bb83c",
]  # fmt: skip
LONGEST_NAME = 36
SI = "format(datum.value, '~s')"
"""Each tick with its own prefix, 50M and 1.2G; an axis format would give all the same."""


def colors(comparison: Comparison) -> dict[str, str]:
    """Each model's colour on the whole page, by the order of the names, so that an accuracy changes none of them."""
    names = sorted(model.name for model in comparison.models)
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def accuracies(comparison: Comparison) -> alt.LayerChart | alt.FacetChart:
    """A row a model: video accuracy and its interval."""
    values = {model.name: model.accuracy for model in comparison.models}
    return _intervals(comparison, values, "video top-1 accuracy on the test split, with 95 % interval")


def direction(comparison: Comparison) -> alt.LayerChart | alt.FacetChart:
    """A row a model: accuracy between time-reversed classes, and the line of chance."""
    values = {model.name: model.within_pairs(comparison.pairs) for model in comparison.models}
    title = "accuracy between time-reversed classes, all pairs, with 95 % interval (line: chance)"
    return _intervals(comparison, values, title, chance=0.5)


def accuracy_against_macs(comparison: Comparison) -> alt.LayerChart | alt.FacetChart:
    """Video accuracy with its interval over convolution MACs; the bubbles' area shows parameters."""
    macs = np.array([model.cost["conv_macs"] for model in comparison.models], dtype=float)
    low, high = macs.min() / 1.7, macs.max() * 1.7
    px_per_unit = WIDTH / math.log(high / low)
    margin_px = math.log(1.7) * px_per_unit
    drawn_px = _apart(np.log(macs / low) * px_per_unit, gap=min(30.0, 2 * margin_px / len(macs)))
    rows = [
        {**_row(model.name, model.accuracy, comparison), "MACs": model.cost["conv_macs"],
         "parameters": model.cost["params"], "drawn": low * math.exp(px / px_per_unit)}
        for model, px in zip(comparison.models, drawn_px, strict=True)
    ]  # fmt: skip
    clip = comparison.protocol.clip
    shared = not any(name.startswith("clip.") for name in (*comparison.differences, *comparison.varied))
    of_what = f"one clip of {clip.num_frames} × {clip.size} × {clip.size}" if shared else "one clip"
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "drawn:Q",
            scale=alt.Scale(type="log", domain=[low, high], nice=False),
            axis=alt.Axis(labelExpr=SI, values=_log_ticks(low, high), grid=False),
            title=f"convolution multiply-adds (MACs) of {of_what}, log",
        ),
        color=_color(comparison),
    )
    axis, scale = _accuracy_axis([model.accuracy for model in comparison.models])
    bars = base.mark_rule(strokeWidth=2, opacity=0.7).encode(
        y=alt.Y("low:Q", axis=axis, scale=scale, title="video top-1 accuracy, 95 % interval"), y2="high:Q"
    )
    params = [model.cost["params"] for model in comparison.models]
    bubbles = base.mark_circle(opacity=0.85, stroke="white", strokeWidth=1).encode(
        y=alt.Y("value:Q", axis=axis, scale=scale),
        size=alt.Size(
            "parameters:Q",
            scale=alt.Scale(range=[40, 500], domain=[0, max(params)]),
            legend=alt.Legend(
                title="parameters", labelExpr=SI, symbolFillColor="#888", symbolStrokeWidth=0,
                values=sorted({float(f"{count:.2g}") for count in (min(params), max(params))}),
            ),
        ),
        tooltip=[
            "model:N", "accuracy:N", "interval:N", alt.Tooltip("MACs:Q", format=".3s"),
            alt.Tooltip("parameters:Q", format=".3s"),
        ],
    )  # fmt: skip
    return alt.layer(bars, bubbles).properties(width=WIDTH, height=320)


def curves(comparison: Comparison, quantity: str) -> alt.Chart:
    """ "loss" or "accuracy" over the epochs, training (dashed) and validation (solid), mean over runs."""
    train_key, val_key, title = {
        "loss": ("loss", "loss", "cross-entropy (solid: val, dashed: train)"),
        "accuracy": ("clip_top1", "video_top1", "top-1 accuracy (solid: val videos, dashed: train clips)"),
    }[quantity]
    rows: list[dict[str, Any]] = []
    for model in comparison.models:
        rows += _curve(model, "train", train_key) + _curve(model, "val", val_key)
    last = max((row["epoch"] for row in rows), default=1)
    few = last <= 3  # a line of one epoch would not be seen
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8, clip=not few, point=alt.OverlayMarkDef(size=30) if few else False)
        .encode(
            x=alt.X(
                "epoch:Q",
                scale=alt.Scale(domain=[1, last] if last > 1 else [0, 2], nice=False),
                axis=alt.Axis(values=_epoch_ticks(last), format="d"),
                title="epoch",
            ),
            y=alt.Y("value:Q", title=title, scale=_scale(rows, quantity), axis=alt.Axis(tickCount=6)),
            color=_color(comparison),
            strokeDash=alt.StrokeDash(
                "part:N", legend=None, scale=alt.Scale(domain=["val", "train"], range=[[1, 0], [4, 3]])
            ),
            tooltip=["model:N", "part:N", "epoch:Q", alt.Tooltip("value:Q", format=".3f")],
        )
        .properties(width=440, height=260)
    )


def confusion(comparison: Comparison, model: ModelResult) -> alt.LayerChart | alt.FacetChart:
    """Row-normalised confusion matrix; the counts are summed over seeds and folds."""
    counts_KK = model.confusion
    shares_KK = counts_KK / np.maximum(1, counts_KK.sum(1, keepdims=True))
    classes = list(comparison.classes)
    has_room = len(classes) <= 30
    rows = [
        {"true": classes[i], "predicted": classes[j], "count": int(counts_KK[i, j]), "share": float(shares_KK[i, j])}
        for i in range(len(classes))
        for j in range(len(classes))
        if counts_KK[i, j] or has_room
    ]
    cell = max(16, min(30, 300 / len(classes))) if has_room else max(2, 420 / len(classes))
    # where there is no room for every name, some are left out, and the tooltip has them all
    names = alt.Axis(labelLimit=150, labelOverlap=not has_room, ticks=has_room, domain=False)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "predicted:N",
            scale=alt.Scale(domain=classes, paddingInner=0, paddingOuter=0),
            axis=alt.Axis(**{**names.to_dict(), "labelAngle": -50 if has_room else -90}),
            title="predicted class",
        ),
        y=alt.Y(
            "true:N", scale=alt.Scale(domain=classes, paddingInner=0, paddingOuter=0), axis=names, title="true class"
        ),
    )
    cells = base.mark_rect(stroke="#eee" if has_room else None, strokeWidth=0.5).encode(
        color=alt.condition(
            "datum.count > 0",
            alt.Color("share:Q", scale=alt.Scale(range=["#d3e3f1", "#08306b"], domain=[0, 1]), legend=None),
            alt.value("white"),
        ),
        tooltip=["true:N", "predicted:N", "count:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    layers = [cells]
    if has_room:
        layers.append(
            base.mark_text(fontSize=9)
            .encode(text="count:Q", color=alt.condition("datum.share > 0.4", alt.value("white"), alt.value("#222")))
            .transform_filter("datum.count > 0")
        )
    side = cell * len(classes)
    return alt.layer(*layers).properties(width=side, height=side, title=_short(model.name), view={"stroke": "#ccc"})


def _intervals(
    comparison: Comparison, values: dict[str, Interval], title: str, chance: float | None = None
) -> alt.LayerChart | alt.FacetChart:
    rows = [_row(name, interval, comparison) for name, interval in values.items()]
    axis, scale = _accuracy_axis(list(values.values()), chance)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=0, ticks=False, domain=False)),
        color=_color(comparison),
        tooltip=["model:N", "accuracy:N", "interval:N"],
    )
    x = alt.X("low:Q", axis=axis, scale=scale, title=title)
    layers = [
        base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q"),
        base.mark_circle(size=90, opacity=1).encode(x=alt.X("value:Q", axis=axis, scale=scale)),
    ]
    if chance is not None:
        line = alt.Chart(alt.Data(values=[{"chance": chance}])).mark_rule(color="#555", strokeDash=[4, 3])
        layers.insert(0, line.encode(x=alt.X("chance:Q", axis=axis, scale=scale)))
    return alt.layer(*layers).properties(width=WIDTH, height=alt.Step(26))


def _row(name: str, interval: Interval, comparison: Comparison) -> dict[str, Any]:
    names = [model.name for model in comparison.models]
    short = _short(name)
    return {
        "model": name, "name": short if [_short(other) for other in names].count(short) == 1 else name,
        "value": interval.value, "low": interval.low, "high": interval.high, "accuracy": str(interval),
        "interval": interval.method,
    }  # fmt: skip


def _short(name: str) -> str:
    half = (LONGEST_NAME - 1) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def _color(comparison: Comparison) -> alt.Color:
    palette = colors(comparison)
    return alt.Color("model:N", scale=alt.Scale(domain=list(palette), range=list(palette.values())), legend=None)


def _accuracy_axis(intervals: Sequence[Interval], also: float | None = None) -> tuple[alt.Axis, alt.Scale]:
    """Just what the intervals span, with ticks that never pass 1."""
    ends = [end for interval in intervals for end in (interval.low, interval.high)] + ([] if also is None else [also])
    margin = max(0.01, 0.05 * (max(ends) - min(ends)))
    low, high = max(0.0, min(ends) - margin), min(1.0, max(ends) + margin)
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 7)
    ticks = [round(i * step, 3) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    decimals = 3 if step < 0.01 else 2 if step < 0.1 else 1
    return alt.Axis(values=ticks, format=f".{decimals}f"), alt.Scale(domain=[low, high], nice=False, zero=False)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; more where the range is narrow, the powers alone where it is wide."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    leading = (1, 1.5, 2, 3, 5, 7) if high / low < 10 else (1, 2, 5) if high / low < 1e3 else (1,)
    return [float(f"{digit}e{power}") for power in powers for digit in leading if low <= digit * 10.0**power <= high]


def _epoch_ticks(last: int) -> list[int]:
    """Whole epochs, at most ten or so."""
    step = next(digit * 10**power for power in range(9) for digit in (1, 2, 5) if last <= 10 * digit * 10**power)
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def _apart(positions: np.ndarray, *, gap: float) -> np.ndarray:
    """Positions moved as little as it takes for neighbours to lie `gap` apart: those that crowd spread around their
    middle."""
    blocks: list[list[float]] = []

    def start(block: list[float]) -> float:
        return float(np.mean(block)) - gap * (len(block) - 1) / 2

    for position in np.sort(positions):
        blocks.append([float(position)])
        while len(blocks) > 1 and start(blocks[-2]) + gap * len(blocks[-2]) > start(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    spread = np.concatenate([start(block) + gap * np.arange(len(block)) for block in blocks])
    moved = np.empty_like(spread)
    moved[np.argsort(positions, kind="stable")] = spread
    return moved


def _curve(model: ModelResult, part: str, key: str) -> list[dict[str, Any]]:
    by_epoch: dict[int, list[float]] = {}
    for run in model.runs:
        for line in run.metrics(part):
            if math.isfinite(line[key]):
                by_epoch.setdefault(line["epoch"], []).append(line[key])
    return [
        {"model": model.name, "part": part, "epoch": epoch, "value": float(np.mean(values))}
        for epoch, values in sorted(by_epoch.items())
    ]


def _scale(rows: list[dict[str, Any]], quantity: str) -> alt.Scale:
    """Accuracy from 0 to 1; loss without the spikes that a few epochs may have."""
    if quantity == "accuracy":
        return alt.Scale(domain=[0, 1])
    values = sorted(row["value"] for row in rows)
    return (
        alt.Scale(domain=[0, min(values[-1], 2 * values[int(0.9 * (len(values) - 1))]) * 1.05])
        if values
        else alt.Scale()
    )
