"""Charts by class: confusion matrices, and gains of one model over another."""

from collections.abc import Sequence

import altair as alt
import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult
from muybridge.reporting.charts.style import COLORS, SMALL_TEXT, Chart, shortened, tips, values

MOST_GAINS = 8
"""Classes of each kind that are drawn."""
SHADES = ("#d3e3f1", "#08306b")
"""Colours of a cell, from next to none to all of a class."""
WHITE_FROM = 0.6
"""Shares from which counts are written in white: either way their contrast is 4.5 to 1."""
FEW_CLASSES = 30
"""Most classes that have room for names and counts."""


def order_of_classes(comparison: Comparison) -> list[int]:
    """Order of the classes in which those that are taken for each other lie together.

    Leaves of a tree over the share of videos that go one way or the other, mean over the models (average linkage, best order
    of the leaves).
    """
    return neighbours(np.mean([normalised(model) for model in comparison.models], axis=0))


def neighbours(shares_KK: np.ndarray) -> list[int]:
    """Order of classes by the share of each one's videos that goes to each other (see `order_of_classes`)."""
    count = len(shares_KK)
    if count < 3:
        return list(range(count))
    distance_KK = 1 - np.clip(shares_KK + shares_KK.T, 0, 1)
    np.fill_diagonal(distance_KK, 0)
    tree = linkage(squareform(distance_KK, checks=False), "average", optimal_ordering=count <= 500)
    return [int(leaf) for leaf in leaves_list(tree)]


def normalised(model: ModelResult) -> np.ndarray:
    """Rows of the confusion as shares of the class's videos; a row without videos is 0."""
    shares_KK: np.ndarray = model.confusion / np.maximum(1, model.videos_K * model.num_seeds)[:, None]
    return shares_KK


def confusion(comparison: Comparison, model: ModelResult, order: list[int]) -> Chart:
    """Confusion matrix of a model, normalised by row; counts are summed over seeds and folds."""
    return matrix(model.confusion, normalised(model), comparison.classes, order, shortened(model.name), "all seeds")


def matrix(
    counts_KK: np.ndarray, shares_KK: np.ndarray, names_K: Sequence[str], order: list[int], title: str, counted: str
) -> Chart:
    """Confusion matrix of `counts_KK`, shaded by the shares of each row. `counted`: what is counted, in words."""
    classes = [names_K[k] for k in order]
    has_room = len(classes) <= FEW_CLASSES
    rows = [
        {"true": names_K[i], "predicted": names_K[j], "count": int(counts_KK[i, j]),
         "share": round(float(shares_KK[i, j]), 4)}
        for i in order
        for j in order
        if counts_KK[i, j] or has_room
    ]  # fmt: skip
    digits = len(str(counts_KK.max(initial=0)))
    cell = max(8 * digits + 1, min(34, 340 / len(classes)), 18) if has_room else max(2, 420 / len(classes))
    # where there is no room for every name, some are left out, and the tooltip has them all
    names = alt.Axis(labelLimit=150, labelOverlap=not has_room, ticks=has_room, domain=False)
    base = alt.Chart(values(rows)).encode(
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
        color=alt.ColorValue(
            **alt.condition(
                "datum.count > 0",
                alt.Color("share:Q", scale=alt.Scale(range=list(SHADES), domain=[0, 1]), legend=None),
                alt.value("white"),
            )
        ),
        tooltip=tips(
            "true:N",
            "predicted:N",
            "count:Q",
            alt.Tooltip("share:Q", format=".1%"),
        ),
    )
    layers = [cells]
    if has_room:
        layers.append(
            base.mark_text(fontSize=SMALL_TEXT)
            .encode(
                text=alt.Text("count:Q"),
                color=alt.ColorValue(
                    **alt.condition(f"datum.share > {WHITE_FROM}", alt.value("#ffffff"), alt.value("#000000"))
                ),
            )
            .transform_filter("datum.count > 0")
            .properties(name="counts")
        )
    side = cell * len(classes)
    return alt.layer(*layers).properties(
        width=side,
        height=side,
        title=alt.Title(title, subtitle=f"shade: share of the true class; counts: {counted}"),
        view=alt.ViewConfig(stroke="#ccc", fill="white"),
        usermeta={"cells": len(classes), "digits": digits},
    )


def gains(comparison: Comparison, a: int, b: int) -> Chart:
    """Accuracy of A minus that of B, class by class: the largest gains and losses. On the page A and B are chosen."""
    names = [model.name for model in comparison.models]
    rows = [
        {"class": comparison.classes[k], "of": model.name, "accuracy": round(float(value), 4)}
        for model in comparison.models
        for k, value in enumerate(model.class_accuracy_K)
        if np.isfinite(value)
    ]
    num_classes = len({one["class"] for one in rows})
    choose = [
        alt.param(name=name, value=names[chosen], bind=alt.binding_select(options=names, name=f"{name} "))
        for name, chosen in (("A", a), ("B", b))
    ]
    color = alt.ColorValue(**alt.condition("datum.gain >= 0", alt.value(COLORS[0]), alt.value(COLORS[1])))
    base = (
        alt.Chart(values(rows))
        .transform_filter("datum.of === A || datum.of === B")
        .transform_calculate(
            a="datum.of === A ? datum.accuracy : 0", b="datum.of === B ? datum.accuracy : 0",
            signed="(datum.of === A ? datum.accuracy : 0) - (datum.of === B ? datum.accuracy : 0)",
        )
        .transform_aggregate(gain="sum(signed)", of_a="sum(a)", of_b="sum(b)", groupby=["class"])
        .transform_window(top="row_number()", sort=[alt.SortField("gain", "descending")])
        .transform_window(bottom="row_number()", sort=[alt.SortField("gain", "ascending")])
        .transform_filter(f"datum.top <= {MOST_GAINS} || datum.bottom <= {MOST_GAINS}")
        .encode(
            y=alt.Y("class:N", sort=alt.EncodingSortField("gain", op="sum", order="descending"), title=None,
                    axis=alt.Axis(labelLimit=160, ticks=False, domain=False)),
            x=alt.X("gain:Q", title="accuracy of A minus accuracy of B", axis=alt.Axis(format="+.3~f", tickCount=6)),
            tooltip=tips("class:N", alt.Tooltip("gain:Q", format="+.3f"), alt.Tooltip("of_a:Q", format=".3f", title="A"),
                     alt.Tooltip("of_b:Q", format=".3f", title="B")),
        )
    )  # fmt: skip
    return (
        alt.layer(base.mark_bar(height=12).encode(color=color))
        .properties(
            width=380,
            height=20 * min(num_classes, 2 * MOST_GAINS),
            title=alt.Title({"expr": "[A + ' (A) against', B + ' (B)']"}),
        )
        .add_params(*choose)
    )
