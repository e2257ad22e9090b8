"""At what cost: accuracy against multiply-adds, clips a second or memory, with the Pareto front (the 2021 study's figure 2).

Colour is the method, symbol the backbone, area the parameters; a hollow symbol has temporal pooling. Published results, where
they are asked for, are small grey crosses behind.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from muybridge.results.comparison import Comparison
from muybridge.results.figures.style import (
    GRAY,
    SI,
    WIDTH,
    Chart,
    accuracy_axis,
    backbones,
    emphasis,
    isolating,
    log_ticks,
    methods,
    row,
    values,
)
from muybridge.results.published import Published
from muybridge.results.rows import ModelResult


@dataclass(frozen=True)
class Cost:
    """A way to count what a model costs."""

    name: str
    title: str
    """Of the axis, with its convention."""
    of: Callable[[ModelResult], float | None]
    more_is_better: bool = False


def _speed(key: str) -> Callable[[ModelResult], float | None]:
    return lambda model: None if model.speed is None else model.speed.get(key)


COSTS = (
    Cost("macs", "convolution multiply-adds (MACs) of {clip}, log", lambda model: model.cost["conv_macs"]),
    Cost(
        "train_speed", "clips a second in training, on the machine that trained, log",
        lambda model: model.train_clips_per_s, more_is_better=True,
    ),
    Cost(
        "forward_speed", "clips a second, forward only, as measured (muybridge measure), log",
        _speed("forward_clips_per_s"), more_is_better=True,
    ),
    Cost("memory", "peak memory of training, bytes, as measured (muybridge measure), log", _speed("peak_memory_bytes")),
)  # fmt: skip


def known(comparison: Comparison, cost: Cost) -> list[ModelResult]:
    """The models of which it is known."""
    return [model for model in comparison.models if cost.of(model)]


def pareto(comparison: Comparison, cost: Cost) -> list[ModelResult]:
    """The models to which no other is both as cheap and as accurate, and one of the two more; the cheapest first."""
    sign = -1.0 if cost.more_is_better else 1.0
    price = {model.name: sign * (cost.of(model) or 0.0) for model in known(comparison, cost)}
    ranked = sorted(known(comparison, cost), key=lambda model: (price[model.name], -model.accuracy.value))
    front: list[ModelResult] = []
    for model in ranked:
        if not front or model.accuracy.value > front[-1].accuracy.value:
            front.append(model)
    return front


def accuracy_against(
    comparison: Comparison,
    cost: Cost,
    *,
    beside: Sequence[Comparison] = (),
    published: Sequence[Published] = (),
    title: str = "",
) -> Chart:
    """`beside`: other data sets whose panels use the same colours and symbols. `published`: drawn behind, where it has
    multiply-adds."""
    models = known(comparison, cost)
    there = [
        one
        for one in published
        if cost.name == "macs" and one.conv_macs and one.top1 is not None and one.split != "train"
    ]
    costs = np.array([cost.of(model) for model in models], dtype=float)
    ends = np.concatenate([costs, [one.conv_macs or 1.0 for one in there]])
    low, high = ends.min() / 1.7, ends.max() * 1.7
    px_per_unit = WIDTH / math.log(high / low)
    margin_px = math.log(1.7) * px_per_unit
    drawn_px = apart(np.log(costs / low) * px_per_unit, gap=min(30.0, 2 * margin_px / len(costs)))
    rows = [
        {**row(model, model.accuracy, comparison), "cost": value, "parameters": model.cost["params"],
         "drawn": low * math.exp(px / px_per_unit), "method": model.method, "backbone": model.backbone or "its own",
         "pooling": "temporal pooling" if model.recipe.model.temporal_pooling else "no temporal pooling",
         "frames": model.recipe.clip.num_frames}
        for model, value, px in zip(models, costs.tolist(), drawn_px, strict=True)
    ]  # fmt: skip
    by_name = {one["model"]: one for one in rows}
    axis, scale = accuracy_axis(
        [end for model in models for end in (model.accuracy.low, model.accuracy.high)]
        + [one.top1 for one in there if one.top1 is not None]
    )
    x = alt.X(
        "drawn:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(labelExpr=SI, values=log_ticks(low, high), grid=False, labelOverlap=True),
        title=cost.title.format(clip=_clip(comparison)),
    )
    y = alt.Y("value:Q", axis=axis, scale=scale, title="video top-1 accuracy, 95 % interval")
    base = alt.Chart(values(rows)).encode(x=x, color=_by_method([comparison, *beside]), opacity=emphasis())
    layers: list[alt.Chart] = []
    if there:
        layers.append(_behind(there, y, x))
    front = [by_name[model.name] for model in pareto(comparison, cost)]
    if len(front) > 1:
        line = alt.Chart(values(front)).mark_line(
            color=GRAY, strokeWidth=1.2, interpolate="step-before" if cost.more_is_better else "step-after"
        )
        layers.append(line.encode(x=x, y=y, order=alt.Order("drawn:Q")))
    layers.append(
        base.mark_rule(strokeWidth=2, opacity=0.7).encode(y=alt.Y("low:Q", axis=axis, scale=scale), y2="high:Q")
    )
    symbols = backbones([comparison, *beside])
    params = [model.cost["params"] for other in (comparison, *beside) for model in other.models]
    poolings = {one["pooling"] for one in rows}
    marks = base.encode(
        y=y,
        size=alt.Size(
            "parameters:Q",
            scale=alt.Scale(range=[40, 500], domain=[0, max(params)]),
            legend=alt.Legend(
                title="parameters", labelExpr=SI, symbolType="circle", symbolFillColor=GRAY, symbolStrokeWidth=0,
                values=sorted({float(f"{count:.2g}") for count in (min(params), max(params))}),
            ),
        ),
        shape=alt.Shape(
            "backbone:N",
            scale=alt.Scale(domain=[name or "its own" for name in symbols], range=list(symbols.values())),
            legend=alt.Legend(title="backbone", symbolFillColor=GRAY, symbolStrokeColor=GRAY) if len(symbols) > 1 else None,
        ),
        tooltip=[
            "model:N", "accuracy:N", "interval:N", alt.Tooltip("cost:Q", format=".3s", title=cost.name),
            alt.Tooltip("parameters:Q", format=".3s"), "method:N", "backbone:N", "pooling:N", "frames:Q",
        ],
    )  # fmt: skip
    for pooling in sorted(poolings):
        filled = pooling == "no temporal pooling"
        layers.append(
            marks.transform_filter(f"datum.pooling === '{pooling}'").mark_point(
                filled=filled, strokeWidth=2, opacity=0.9
            )
        )
    return (
        alt.layer(*layers)
        .properties(width=WIDTH if not beside else 400, height=320, title=title)
        .add_params(isolating())
    )


def apart(positions: np.ndarray, *, gap: float) -> np.ndarray:
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


def _clip(comparison: Comparison) -> str:
    clip = comparison.protocol.clip
    shared = not any(name.startswith("clip.") for name in (*comparison.differences, *comparison.varied))
    return f"one clip of {clip.num_frames} × {clip.size} × {clip.size}" if shared else "one clip"


def _by_method(comparisons: Sequence[Comparison]) -> alt.Color:
    palette = methods(comparisons)
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    return alt.Color("method:N", scale=scale, legend=alt.Legend(title="method") if len(palette) > 1 else None)


def _behind(there: Sequence[Published], y: alt.Y, x: alt.X) -> alt.Chart:
    rows: list[dict[str, Any]] = [
        {"model": f"published: {one.name}", "drawn": one.conv_macs, "value": one.top1, "source": one.source}
        for one in there
    ]
    tooltip = [alt.Tooltip("model:N", title="not measured here"), alt.Tooltip("value:Q", format=".3f"), "source:N"]
    return alt.Chart(values(rows)).mark_point(shape="cross", size=28, color=GRAY, opacity=0.7).encode(
        x=x, y=y, tooltip=tooltip
    )  # fmt: skip
