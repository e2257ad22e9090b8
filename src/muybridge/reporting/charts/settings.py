"""Views and frames: accuracy against the number of clips, what they cost, and of frames."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from muybridge.analysis.answers import OwnEvaluation
from muybridge.analysis.comparison import Comparison
from muybridge.analysis.published import Published
from muybridge.analysis.results import RunsResult
from muybridge.analysis.rows import value_of
from muybridge.reporting.charts.cost import costs_of, counted
from muybridge.reporting.charts.style import (
    GRAY,
    SI,
    Chart,
    accuracy_axis,
    baseline_rules,
    baselines_near,
    color,
    emphasis,
    isolating,
    log_ticks,
    methods,
    tips,
    values,
)


def over_clips(comparison: Comparison, most: int) -> Chart | None:
    """Video accuracy with fewer clips of the same evaluation; none where there was one clip."""
    rows: list[dict[str, Any]] = [
        {"model": model.name, "clips": clips, "value": value, "sampling": model.recipe.clip.sampling}
        for model in comparison.of_runs[:most]
        for clips, value in model.by_clips.items()
    ]
    numbers = sorted({one["clips"] for one in rows})
    if len(numbers) < 2:
        return None
    accuracies = [one["value"] for one in rows]
    baselines = baselines_near(comparison, accuracies)
    axis, scale = accuracy_axis([*accuracies, *baselines])
    rules = [baseline_rules(comparison, "y", baselines, axis=axis, scale=scale)] if baselines else []
    lines = (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=36))
        .encode(
            x=alt.X("clips:Q", axis=alt.Axis(values=numbers, format="d", labelOverlap=True), title="clips a video (× its crops)",
                    scale=alt.Scale(domain=[1, numbers[-1]], nice=False)),
            y=alt.Y("value:Q", axis=axis, scale=scale, title="video top-1 accuracy"),
            color=color(comparison), opacity=emphasis(),
            strokeDash=alt.StrokeDash(
                "sampling:N", legend=None, scale=alt.Scale(domain=["uniform", "dense"], range=[[1, 0], [5, 3]])
            ),
            tooltip=tips("model:N", "sampling:N", "clips:Q", alt.Tooltip("value:Q", format=".3f")),
        )
    )  # fmt: skip
    return alt.layer(*rules, lines).properties(width=440, height=280).add_params(isolating())


def over_macs(comparison: Comparison, most: int) -> Chart | None:
    """Video accuracy over multiply-adds times views, a line over the numbers of clips of one evaluation of a row.

    The 2021 study's figure 1. Solid: uniform clips; dashed: dense ones; hollow: further evaluations. None where nothing has
    several numbers of clips, and no further evaluation is kept.
    """
    key, title = counted([comparison]), costs_of([comparison])[0].title
    rows: list[dict[str, Any]] = [
        {"model": model.name, "evaluation": one.name, "line": f"{model.name} {size_and_sampling(one)}", "clips": clips,
         "views": views, "macs": views * one.cost[key], "value": value, "sampling": one.recipe.clip.sampling,
         "kind": "its own" if one is model else "a further one"}
        for model in comparison.of_runs[:most]
        for one in (model, *model.further)
        if one.split == "test" and one.cost[key]
        for clips, views, value in one.by_views
    ]  # fmt: skip
    if len(rows) == len(comparison.of_runs[:most]):
        return None
    accuracies = [one["value"] for one in rows]
    baselines = baselines_near(comparison, accuracies)
    axis, scale = accuracy_axis([*accuracies, *baselines])
    low, high = min(one["macs"] for one in rows) / 1.3, max(one["macs"] for one in rows) * 1.3
    base = alt.Chart(values(rows)).encode(
        x=alt.X("macs:Q", title=title.format(clip="all views of a video"),
                scale=alt.Scale(type="log", domain=[low, high], nice=False),
                axis=alt.Axis(labelExpr=SI, values=log_ticks(low, high), grid=False, labelOverlap=True)),
        y=alt.Y("value:Q", axis=axis, scale=scale, title="video top-1 accuracy"),
        color=color(comparison), opacity=emphasis(),
    )  # fmt: skip
    samplings = {one["sampling"] for one in rows}
    lines = base.mark_line(strokeWidth=1.8).encode(
        detail=alt.Detail("line:N"), order=alt.Order("macs:Q"),
        strokeDash=alt.StrokeDash(
            "sampling:N", scale=alt.Scale(domain=["uniform", "dense"], range=[[1, 0], [5, 3]]),
            legend=alt.Legend(title="sampling") if len(samplings) > 1 else None,
        ),
    )  # fmt: skip
    tooltip = tips(
        "evaluation:N", "sampling:N", "clips:Q", "views:Q", alt.Tooltip("macs:Q", format=".3s"),
        alt.Tooltip("value:Q", format=".3f"),
    )  # fmt: skip
    rules = [baseline_rules(comparison, "y", baselines, axis=axis, scale=scale)] if baselines else []
    points = [
        base.transform_filter(f"datum.kind === '{kind}'")
        .mark_point(filled=filled, size=40, opacity=1)
        .encode(tooltip=tooltip)
        for kind, filled in (("its own", True), ("a further one", False))
        if any(one["kind"] == kind for one in rows)
    ]
    return alt.layer(*rules, lines, *points).properties(width=440, height=300).add_params(isolating())


def size_and_sampling(evaluated: OwnEvaluation) -> str:
    """Key of a line over numbers of clips: crops, size and choice of frames."""
    clip = evaluated.recipe.clip
    parts = (
        evaluated.num_views // max(evaluated.by_clips, default=1),
        evaluated.recipe.test_size,
        clip.sampling,
        clip.num_frames,
    )
    return " ".join(map(str, (*parts, clip.stride_frames, evaluated.recipe.evaluation.average)))


def over_frames(comparison: Comparison, published: Sequence[Published] = ()) -> Chart | None:
    """Video accuracy over the frames of a clip, a line a method, backbone, pooling and sampling.

    None if all have as many frames.
    """
    rows: list[dict[str, Any]] = [
        {"model": model.name, "line": _line_of(comparison, model),
         "method": model.method, "backbone": model.backbone or "its own", "frames": model.recipe.clip.num_frames,
         "value": model.accuracy.value, "low": model.accuracy.low, "high": model.accuracy.high,
         "pooling": "temporal pooling" if model.recipe.model.temporal_pooling else "no temporal pooling",
         "sampling": model.recipe.clip.sampling, "accuracy": str(model.accuracy)}
        for model in comparison.of_runs
    ]  # fmt: skip
    numbers = sorted({one["frames"] for one in rows})
    if len(numbers) < 2:
        return None
    there: list[dict[str, Any]] = [
        {"line": f"published {_line(one.method, one.backbone, one.temporal_pooling, one.sampling)}", "frames": one.num_frames,
         "value": one.top1, "name": f"published: {one.name}", "source": one.source}
        for one in published
        if one.num_frames and one.top1 is not None and one.split != "train" and one.method
    ]  # fmt: skip
    numbers = sorted({*numbers, *(one["frames"] for one in there)})
    accuracies = [one[end] for one in rows for end in ("low", "high")] + [one["value"] for one in there]
    baselines = baselines_near(comparison, accuracies)
    axis, scale = accuracy_axis([*accuracies, *baselines])
    palette = methods([comparison])
    x = alt.X("frames:Q", title="frames of a clip, log", axis=alt.Axis(values=numbers, format="d"),
              scale=alt.Scale(type="log", base=2, domain=[numbers[0] / 1.1, numbers[-1] * 1.1], nice=False))  # fmt: skip
    y = alt.Y("value:Q", axis=axis, scale=scale, title="video top-1 accuracy, 95 % interval")
    base = alt.Chart(values(rows)).encode(
        x=x, opacity=emphasis(), detail=alt.Detail("line:N"),
        color=alt.Color(
            "method:N", scale=alt.Scale(domain=list(palette), range=list(palette.values())),
            legend=alt.Legend(title="method") if len(palette) > 1 else None,
        ),
    )  # fmt: skip
    shared = sorted({one["pooling"] for one in rows} | {one["sampling"] for one in rows})
    dash = alt.StrokeDash(
        "pooling:N", scale=alt.Scale(domain=["no temporal pooling", "temporal pooling"], range=[[1, 0], [5, 3]]),
        legend=alt.Legend(title="temporal pooling") if "temporal pooling" in shared else None,
    )  # fmt: skip
    tooltip = tips(
        "model:N",
        "accuracy:N",
        "frames:Q",
        "method:N",
        "backbone:N",
        "pooling:N",
        "sampling:N",
    )
    layers = [baseline_rules(comparison, "y", baselines, axis=axis, scale=scale)] if baselines else []
    if there:
        behind = alt.Chart(values(there)).encode(
            x=x, y=y, detail=alt.Detail("line:N"),
            tooltip=tips(alt.Tooltip("name:N", title="not measured here"), alt.Tooltip("value:Q", format=".3f"), "source:N"),
        )  # fmt: skip
        layers += [
            behind.mark_line(color=GRAY, strokeWidth=1, opacity=0.45),
            behind.mark_point(shape="cross", color=GRAY, size=24, opacity=0.7),
        ]
    layers += [
        base.mark_line(strokeWidth=1.8).encode(y=y, strokeDash=dash),
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", axis=axis, scale=scale), y2=alt.Y2("high:Q")),
        base.mark_point(filled=True, size=60, opacity=1).encode(
            y=y, tooltip=tooltip,
            shape=alt.Shape("sampling:N", scale=alt.Scale(domain=["uniform", "dense"], range=["circle", "square"]),
                            legend=alt.Legend(title="sampling") if len(set(shared) & {"uniform", "dense"}) > 1 else None),
        ),
    ]  # fmt: skip
    return alt.layer(*layers).properties(width=440, height=300).add_params(isolating())


def _line_of(comparison: Comparison, model: RunsResult) -> str:
    """Key of a line of settings that differ in frames alone: axes, or fields of the recipe if no study says any.

    Methods, pooling and sampling are part of it.
    """
    recipe = model.recipe
    if model.axes:
        others: dict[str, object] = {axis: value for axis, value in model.axes.items() if axis != "num_frames"}
    else:
        fields = (*comparison.differences, *comparison.varied)
        others = {name: value_of(recipe, name) for name in fields if name != "clip.num_frames"}
    own = _line(model.method, model.backbone, recipe.model.temporal_pooling, recipe.clip.sampling)
    return own + "".join(f" {name}={value}" for name, value in sorted(others.items()))


def _line(method: str | None, backbone: str | None, pooling: bool | None, sampling: str | None) -> str:
    return f"{method} {backbone or ''} {bool(pooling)} {sampling}"
