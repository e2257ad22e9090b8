"""Charts of accuracy against multiply-adds, speed or memory, with the Pareto front (the 2021 study's figure 2).

Colour is the method, symbol the backbone, area the parameters; a hollow symbol has temporal pooling. Published results, if
they are asked for, are small grey crosses behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.published import Published
from muybridge.analysis.results import RunsResult
from muybridge.data import inputs
from muybridge.reporting.charts.style import (
    GRAY,
    SI,
    WIDTH,
    Chart,
    accuracy_axis,
    backbones,
    baseline_rules,
    baselines_near,
    emphasis,
    isolating,
    log_ticks,
    methods,
    row,
    tips,
    values,
)


@dataclass(frozen=True)
class Cost:
    """A way to count what a model costs."""

    name: str
    title: str
    """Title of the axis, with its convention."""
    of: Callable[[RunsResult], float | None]
    more_is_better: bool = False


def _speed(key: str) -> Callable[[RunsResult], float | None]:
    return lambda model: None if model.speed is None else model.speed.get(key)


ALL_MACS = Cost("macs", "multiply-adds (MACs) of {clip}, all of them, log", lambda model: model.cost["macs"])
"""All multiply-adds, used if some model has many beside convolutions (transformers)."""

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


def counted(comparisons: Sequence[Comparison]) -> Literal["conv_macs", "macs"]:
    """The multiply-adds that do all these models justice: of convolutions, or all where some have many beside them."""
    every = [model.cost for comparison in comparisons for model in comparison.of_runs]
    return "macs" if any(one["macs"] > 1.2 * one["conv_macs"] for one in every) else "conv_macs"


def costs_of(comparisons: Sequence[Comparison]) -> tuple[Cost, ...]:
    """The ways to count that do all these models justice."""
    return (ALL_MACS, *COSTS[1:]) if counted(comparisons) == "macs" else COSTS


def known(comparison: Comparison, cost: Cost) -> list[RunsResult]:
    """Models whose cost is known."""
    return [model for model in comparison.of_runs if cost.of(model)]


def pareto(comparison: Comparison, cost: Cost) -> list[RunsResult]:
    """The models to which no other is both as cheap and as accurate, and one of the two more; the cheapest first."""
    sign = -1.0 if cost.more_is_better else 1.0
    price = {model.name: sign * (cost.of(model) or 0.0) for model in known(comparison, cost)}
    ranked = sorted(known(comparison, cost), key=lambda model: (price[model.name], -model.accuracy.value))
    front: list[RunsResult] = []
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
    """Chart of accuracy against one kind of cost.

    `beside`: other data sets whose panels use the same colours and symbols. `published`: drawn behind, if multiply-adds are
    known.
    """
    models = known(comparison, cost)
    there = [
        one for one in published if cost is COSTS[0] and one.conv_macs and one.top1 is not None and one.split != "train"
    ]
    costs = [float(cost.of(model) or 0.0) for model in models]
    ends = [*costs, *(float(one.conv_macs or 0) for one in there)]
    low, high = min(ends) / 1.4, max(ends) * 1.4
    rows = [
        {**row(model, model.accuracy, comparison), "cost": value, "parameters": model.cost["params"],
         "method": model.method, "backbone": model.backbone or "its own",
         "pooling": "temporal pooling" if model.recipe.model.temporal_pooling else "no temporal pooling",
         "frames": model.recipe.clip.num_frames}
        for model, value in zip(models, costs, strict=True)
    ]  # fmt: skip
    by_name = {one["model"]: one for one in rows}
    accuracies = [end for model in models for end in (model.accuracy.low, model.accuracy.high)]
    accuracies += [one.top1 for one in there if one.top1 is not None]
    baselines = baselines_near(comparison, accuracies)
    axis, scale = accuracy_axis([*accuracies, *baselines])
    x = alt.X(
        "cost:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(labelExpr=SI, values=log_ticks(low, high), grid=False, labelOverlap=True),
        title=cost.title.format(clip="one clip" if there else _clip(comparison)),
    )
    y = alt.Y("value:Q", axis=axis, scale=scale, title="video top-1 accuracy, 95 % interval")
    base = alt.Chart(values(rows)).encode(x=x, color=_by_method([comparison, *beside]), opacity=emphasis())
    layers = [baseline_rules(comparison, "y", baselines, axis=axis, scale=scale)] if baselines else []
    if there:
        layers.append(_behind(there, y, x))
    front = [by_name[model.name] for model in pareto(comparison, cost)]
    if len(front) > 1:
        line = alt.Chart(values(front)).mark_line(
            color=GRAY, strokeWidth=1.2, interpolate="step-before" if cost.more_is_better else "step-after"
        )
        layers.append(line.encode(x=x, y=y, order=alt.Order("cost:Q")))
    layers.append(
        base.mark_rule(strokeWidth=2, opacity=0.7).encode(y=alt.Y("low:Q", axis=axis, scale=scale), y2=alt.Y2("high:Q"))
    )
    symbols = backbones([comparison, *beside])
    params = [model.cost["params"] for other in (comparison, *beside) for model in other.of_runs]
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
        tooltip=tips(
            "model:N", "accuracy:N", "interval:N", alt.Tooltip("cost:Q", format=".3s", title=cost.name),
            alt.Tooltip("parameters:Q", format=".3s"), "method:N", "backbone:N", "pooling:N", "frames:Q",
        ),
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
        .properties(
            width=WIDTH if not beside else 400,
            height=320,
            title=alt.Title(
                title, subtitle="grey line: Pareto front" + "; hollow: temporal pooling" * (len(poolings) > 1)
            ),
        )
        .add_params(isolating())
    )


def _clip(comparison: Comparison) -> str:
    recipe = comparison.of_runs[0].recipe
    clip, size = recipe.clip, recipe.test_size
    shared = not any(
        name.startswith(("clip.", "evaluation.size")) for name in (*comparison.differences, *comparison.varied)
    )
    if not shared:
        return "one clip"
    if not inputs.of(clip).is_picture:
        return f"one clip of {clip.num_frames} vectors"
    return f"one clip of {clip.num_frames} × {size} × {size}"


def _by_method(comparisons: Sequence[Comparison]) -> alt.Color:
    palette = methods(comparisons)
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    return alt.Color("method:N", scale=scale, legend=alt.Legend(title="method") if len(palette) > 1 else None)


def _behind(there: Sequence[Published], y: alt.Y, x: alt.X) -> alt.Chart:
    rows: list[dict[str, Any]] = [
        {"model": f"published: {one.name}", "cost": one.conv_macs, "value": one.top1, "source": one.source}
        for one in there
    ]
    tooltip = tips(
        alt.Tooltip("model:N", title="not measured here"),
        alt.Tooltip("value:Q", format=".3f"),
        "source:N",
    )
    return alt.Chart(values(rows)).mark_point(shape="cross", size=28, color=GRAY, opacity=0.7).encode(
        x=x, y=y, tooltip=tooltip
    )  # fmt: skip
