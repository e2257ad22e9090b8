"""Change of stored vectors along a video."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from muybridge.reporting.charts.style import GRAY, Chart, tips, values


def change(by_class: Mapping[str, Mapping[str, Any]]) -> Chart:
    """Distance from a video's first vector over its place in the video, a line a class."""
    rows = [
        {"class": name, "place": place / (len(of_class["first"]) - 1), "distance": distance}
        for name, of_class in by_class.items()
        for place, distance in enumerate(of_class["first"])
    ]
    return (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=1.6, color=GRAY, opacity=0.75)
        .encode(
            x=alt.X("place:Q", title="place in the video (0: first vector, 1: last)", axis=alt.Axis(tickCount=5)),
            y=alt.Y("distance:Q", title="distance from the first vector", axis=alt.Axis(tickCount=5)),
            detail=alt.Detail("class:N"),
            tooltip=tips("class:N", alt.Tooltip("place:Q", format=".1f"), alt.Tooltip("distance:Q", format=".2f")),
        )
        .properties(width=440, height=220)
    )
