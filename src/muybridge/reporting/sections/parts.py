"""What a section is made of, and what it is made from."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.published import DATA_SETS, Published, published
from muybridge.reporting.charts.style import Chart, themed

MOST_MATRICES = 6
"""Confusion matrices drawn, those of the best models."""

MOST_LINES = 24
"""Lines of a chart that still can be told from each other, with a click."""


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]
    kind: Literal["numbers", "words"] = "numbers"
    """numbers: all columns but the first stand to the right and do not wrap."""
    name: str = ""
    """Of its CSV file; empty: it gets none."""
    most: int | None = None
    """Rows on the page; files have all."""


@dataclass(frozen=True)
class Figure:
    name: str
    """Of its files."""
    description: str
    """For those who cannot see it."""
    chart: Chart

    @cached_property
    def spec(self) -> dict[str, Any]:
        """As Vega-Lite."""
        return themed(self.chart)


@dataclass(frozen=True)
class Picture:
    """Frames of a video, and what is said of them."""

    name: str
    caption: str
    jpeg: bytes


@dataclass(frozen=True)
class Section:
    """A part of the page, in this order: text, tables, key, figures, pictures, details, caption."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    pictures: tuple[Picture, ...] = ()
    has_key: bool = False
    """Whether the charts need the key of the models' colours."""
    details: tuple[tuple[str, str], ...] = ()
    """(summary, preformatted text), folded away."""
    caption: str = ""
    kind: Literal["plain", "warning", "folded"] = "plain"
    """warning: set apart; folded: the tables are shown on a click."""


@dataclass(frozen=True)
class Chapter:
    """One data set of a report."""

    comparison: Comparison
    beside: str | None = None
    """Whose published results are shown, a key of `published.DATA_SETS`."""
    pair: tuple[int, int] = (0, 1)
    """The two models that are held against each other class by class and video by video, by their places."""
    with_frames: bool = True
    """Whether frames of videos are shown."""

    @property
    def published(self) -> tuple[Published, ...]:
        return published(self.beside) if self.beside else ()


def spoken(c: Comparison) -> str:
    return "; ".join(f"{model.name} {model.accuracy}" for model in c.models)


def published_words(chapter: Chapter) -> str:
    return (
        f" Grey crosses: published results on {DATA_SETS[chapter.beside]}, not measured here." if chapter.beside else ""
    )
