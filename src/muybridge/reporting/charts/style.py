"""Style of all charts. A method has one colour on the whole page, its settings shades of it, a backbone one symbol.

Every colour has a contrast of at least 3 to 1 with white paper and with the dark page (WCAG 2.2, 1.4.11). Text, axes and
grid are coloured by the page's style sheet, so that one chart serves light and dark.
"""

import colorsys
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import altair as alt
from altair.utils.schemapi import debug_mode

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult
from muybridge.analysis.statistics import Interval
from muybridge.text import printable
from muybridge.text import shortened as shortened_to

WIDTH = 560
TEXT = 13
"""Pixels of all text (page/charts.js counts on it), but of counts in cells."""
SMALL_TEXT = 12
COLORS = (
    "#2f7fb3", "#d1495b", "#3d8f5a", "#b87a1e", "#8b6bb8", "#0a8f9c",
    "#a8637a", "#717a85", "#8f7638", "#c2559d", "#5a6fc0", "#6f8a1f",
)  # fmt: skip
DARKEST, LIGHTEST = 0.14, 0.28
"""Relative luminance of shades."""
GRAY = "#7d8590"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
LONGEST_NAME = 36
BACKSLASH = "\u29f5"
SI = "format(datum.value, '~s')"
"""Each tick with its own prefix, 50M and 1.2G; an axis format would give all the same."""
FADED = 0.12

Chart = alt.Chart | alt.LayerChart | alt.FacetChart


def methods(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Each method's colour, by the order of the names, so that an accuracy changes none of them."""
    names = sorted({model.method for comparison in comparisons for model in comparison.models})
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def backbones(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Each backbone's symbol."""
    names = sorted({model.backbone for comparison in comparisons for model in comparison.models})
    return {name: SHAPES[i % len(SHAPES)] for i, name in enumerate(names)}


def colors(comparison: Comparison) -> dict[str, str]:
    """Each row's: its method's colour; shades of it where the method has several rows."""
    base = methods([comparison])
    color_of: dict[str, str] = {}
    for method, color in base.items():
        names = sorted(model.name for model in comparison.models if model.method == method)
        if len(names) == 1:
            color_of[names[0]] = color
            continue
        for i, name in enumerate(names):
            color_of[name] = _shade(color, DARKEST + (LIGHTEST - DARKEST) * i / (len(names) - 1))
    return {name: color_of[name] for name in sorted(color_of)}


def color(comparison: Comparison) -> alt.Color:
    """Colour by row, without a legend: the page has a key, and files get one (`render.py`)."""
    palette = colors(comparison)
    return alt.Color("model:N", scale=alt.Scale(domain=list(palette), range=list(palette.values())), legend=None)


def tips(*fields: str | alt.Tooltip) -> list[alt.Tooltip]:
    """Tooltip of fields, as objects: Altair takes 10 ms to find the class of a string."""
    return [alt.Tooltip(field) if isinstance(field, str) else field for field in fields]


def isolating() -> alt.Parameter:
    """Parameter that the page sets to a model's name when it is clicked."""
    return alt.param(name="isolated", value="")


def emphasis(opacity: float = 1.0) -> Any:
    """An opacity that fades all but the isolated model."""
    shown = "isolated === '' || datum.model === isolated"
    return alt.OpacityValue(**alt.condition(shown, alt.value(opacity), alt.value(min(opacity, FADED))))


def row(model: ModelResult, interval: Interval, comparison: Comparison) -> dict[str, Any]:
    """Row of a chart with a model's interval."""
    return {
        "model": model.name, "name": shown_name(model.name, comparison), "value": interval.value, "low": interval.low,
        "high": interval.high, "accuracy": str(interval), "interval": interval.method,
    }  # fmt: skip


def shown_name(name: str, comparison: Comparison) -> str:
    """Shortened where it stays distinct."""
    short = shortened(name)
    return short if [shortened(other.name) for other in comparison.models].count(short) == 1 else name


def shortened(name: str) -> str:
    """Name with its middle left out if it is long."""
    return shortened_to(name, LONGEST_NAME)


def accuracy_axis(ends: Sequence[float], *, floor: float = 0.0) -> tuple[alt.Axis, alt.Scale]:
    """Just what is to be drawn, with ticks that never pass 1 (nor, downwards, `floor`)."""
    margin = max(0.01, 0.05 * (max(ends) - min(ends)))
    low, high = max(floor, min(ends) - margin), min(1.0, max(ends) + margin)
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 7)
    ticks = [round(i * step, 3) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    decimals = 3 if step < 0.01 else 2 if step < 0.1 else 1
    return alt.Axis(values=ticks, format=f".{decimals}f"), alt.Scale(domain=[low, high], nice=False, zero=False)


def baselines_near(comparison: Comparison, ends: Sequence[float]) -> list[float]:
    """Accuracies of the baselines that lie no farther below `ends` than these are apart, or than a tenth."""
    low, span = min(ends), max(max(ends) - min(ends), 0.1)
    return [one.top1 for one in comparison.baselines.both if one.top1 >= low - span]


def baseline_rules(
    comparison: Comparison, across: Literal["x", "y"], shown: Sequence[float] | None = None, *, by_class: bool = False,
    **of: Any,
) -> alt.Chart:  # fmt: skip
    """Thin dotted lines of chance and of the majority class, across the axis of accuracies.

    `shown`: the accuracies that the axis has room for; None: all. `by_class`: of the mean over classes. `of`: axis and scale
    of that axis.
    """
    at = {one.name: one.mean_class if by_class else one.top1 for one in comparison.baselines.both}
    rows = [{"baseline": name, "at": value} for name, value in at.items() if shown is None or value in shown]
    rule = alt.Chart(values(rows)).mark_rule(color=GRAY, strokeWidth=1, strokeDash=[1, 3])
    channel = alt.X("at:Q", **of) if across == "x" else alt.Y("at:Q", **of)
    return rule.encode(channel, tooltip=tips("baseline:N", alt.Tooltip("at:Q", format=".3f", title="accuracy")))


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; more where the range is narrow, the powers alone where it is wide."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    leading = (1, 1.5, 2, 3, 5, 7) if high / low < 10 else (1, 2, 5) if high / low < 1e3 else (1,)
    return [float(f"{digit}e{power}") for power in powers for digit in leading if low <= digit * 10.0**power <= high]


class Rows(alt.Data):
    """Rows as they are: Altair would look at every value of every row, and copy them, again and again."""

    def __deepcopy__(self, _: Any) -> "Rows":
        return self

    def to_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Rows as Vega-Lite data."""
        return {"values": self._kwds["values"]}


def values(rows: Sequence[Mapping[str, Any]]) -> alt.Data:
    """Rows as data of a chart."""
    with debug_mode(False):
        return Rows(values=list(rows))


STYLE: dict[str, Any] = {
    "background": "transparent",
    "view": {"continuousWidth": 300, "continuousHeight": 300, "strokeWidth": 0},
    "axis": {
        "labelFontSize": TEXT, "titleFontSize": TEXT, "titleFontWeight": "normal", "gridColor": "#e7eaee",
        "domainColor": "#999",
    },
    "legend": {
        "labelFontSize": TEXT, "titleFontSize": TEXT, "titleFontWeight": "normal", "orient": "bottom", "columns": 3,
        "labelLimit": 130, "symbolStrokeWidth": 1.5, "rowPadding": 3,
    },
    "title": {"fontSize": TEXT + 1, "subtitleFontSize": TEXT, "anchor": "start"},
}  # fmt: skip
"""Vega-Lite's configuration of every chart."""


def themed(chart: Chart) -> dict[str, Any]:
    """The chart as Vega-Lite, in the report's style."""
    with debug_mode(False):
        shown: dict[str, Any] = _shown(chart.to_dict(validate=False) | {"config": STYLE})
    return shown


def _shown(part: Any) -> Any:
    """A part of a chart without characters that no drawing can show: at some the renderer ends the process.

    Vega puts titles into expressions, where a backslash would begin an escape: a character that looks like it stands for it.
    """
    if isinstance(part, str):
        return printable(part).replace("\\", BACKSLASH)
    if isinstance(part, dict):
        return {_shown(name): _shown(value) for name, value in part.items()}
    return [_shown(value) for value in part] if isinstance(part, list) else part


@cache
def _shade(color: str, luminance: float) -> str:
    """The same hue, as light as that."""
    hue, _, saturation = colorsys.rgb_to_hls(*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if _luminance(colorsys.hls_to_rgb(hue, middle, saturation)) < luminance:
            low = middle
        else:
            high = middle
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, low, saturation))


def _luminance(rgb: tuple[float, float, float]) -> float:
    """Relative luminance (WCAG 2.2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2.2)."""
    light = sorted(_luminance(tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5))) for c in (a, b))  # type: ignore[arg-type]
    return (light[1] + 0.05) / (light[0] + 0.05)
