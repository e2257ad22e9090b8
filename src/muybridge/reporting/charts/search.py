"""Searches: what each field did, and the curves of all trials."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from muybridge.analysis.searching import Searched
from muybridge.reporting.charts.style import COLORS, GRAY, Chart, log_ticks, tips, values


def slices(settings: Sequence[Searched], field: str) -> Chart:
    """Accuracy on val of every trial on the first rung, over the values of one field; a colour a setting."""
    rows = [
        {"setting": one.name, "at": trial["changes"][field], "accuracy": round(trial["rungs"][0]["val_video_top1"], 4),
         "trial": number + 1, "step": trial["rungs"][0]["step"]}
        for one in settings
        for number, trial in enumerate(one.trials)
        if trial["rungs"] and field in trial["changes"]
    ]  # fmt: skip
    found = [row["at"] for row in rows]
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in found)
    if is_number and min(found) > 0 and max(found) / min(found) > 20:
        ticks = alt.Axis(values=log_ticks(min(found), max(found)), format="~g", labelOverlap=True)
        x = alt.X("at:Q", title=field, scale=alt.Scale(type="log"), axis=ticks)
    elif is_number and len(set(found)) > 6:
        x = alt.X("at:Q", title=field, scale=alt.Scale(zero=False), axis=alt.Axis(format="~g", labelOverlap=True))
    else:
        rows = [row | {"at": str(row["at"])} for row in rows]
        order = list(dict.fromkeys(str(value) for value in (sorted(found) if is_number else found)))
        x = alt.X("at:O", title=field, sort=order)
    return (
        alt.Chart(values(rows))
        .mark_point(filled=True, size=50, opacity=0.8)
        .encode(
            x=x,
            y=alt.Y("accuracy:Q", title="video accuracy on val", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=6)),
            color=_colors(settings),
            tooltip=tips("setting:N", "trial:Q", "at:N", "step:Q", alt.Tooltip("accuracy:Q", format=".3f")),
        )
        .properties(width=300, height=220)
    )  # fmt: skip


def trials(one: Searched) -> Chart:
    """Accuracy on val over the epochs of every trial of a setting: the winner's in colour, the others' gray."""
    rows: list[dict[str, Any]] = []
    for number, trial in enumerate(one.trials):
        which = "winner" if trial is one.chosen else "diverged" if "failed" in trial else "others"
        rows += [
            {"trial": number + 1, "which": which, "epoch": epoch, "accuracy": round(accuracy, 4)}
            for epoch, accuracy in one.curve(number)
        ]
    last = max((row["epoch"] for row in rows), default=1)
    colors = {"winner": COLORS[0], "others": GRAY, "diverged": COLORS[1]}
    shown = [which for which in colors if any(row["which"] == which for row in rows)]
    color = alt.Color(
        "which:N", scale=alt.Scale(domain=shown, range=[colors[which] for which in shown]),
        legend=alt.Legend(orient="bottom", title=None),
    )  # fmt: skip
    return (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=1.6, opacity=0.8, point=alt.OverlayMarkDef(size=24))
        .encode(
            x=alt.X("epoch:Q", title="epoch", scale=alt.Scale(domain=[0, last]), axis=alt.Axis(format="d", tickCount=6)),
            y=alt.Y("accuracy:Q", title="video accuracy on val", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=6)),
            color=color,
            detail=alt.Detail("trial:N"),
            tooltip=tips("trial:Q", "which:N", "epoch:Q", alt.Tooltip("accuracy:Q", format=".3f")),
        )
        .properties(width=440, height=260, title=one.name)
    )  # fmt: skip


def _colors(settings: Sequence[Searched]) -> alt.Color:
    names = [one.name for one in settings]
    return alt.Color(
        "setting:N", scale=alt.Scale(domain=names, range=[COLORS[i % len(COLORS)] for i in range(len(names))]),
        legend=alt.Legend(orient="bottom", title=None, columns=2, labelLimit=300) if len(names) > 1 else None,
    )  # fmt: skip
