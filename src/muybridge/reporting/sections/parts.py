"""Parts of a section, and the chapter it is made from."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.published import DATA_SETS, Published, published
from muybridge.reporting.charts.style import Chart, themed

NOT_KNOWN = "–"
"""Cell of a figure that is not known."""

MOST_MATRICES = 6
"""Confusion matrices drawn, those of the best models."""

MOST_LINES = 24
"""Lines of a chart that still can be told from each other, with a click."""


@dataclass(frozen=True)
class Table:
    """Table of a section."""

    header: list[str]
    rows: list[list[str]]
    kind: Literal["numbers", "words"] = "numbers"
    """Kind of columns. numbers: all but the first are right-aligned and do not wrap."""
    name: str = ""
    """Name of its files."""
    most: int | None = None
    """Rows on the page; files have all."""
    foot: int = 0
    """Number of the last rows that are set apart, as baselines are."""
    foot_in_files: bool = False
    """Whether files alone have these last rows, as they say next to nothing here."""

    @cached_property
    def on_page(self) -> "Table":
        """The table as the page has it: without columns in which no row has a value."""
        body = self.rows[: len(self.rows) - self.foot]
        told = [place for place in range(len(self.header)) if not body or any(row[place] != NOT_KNOWN for row in body)]
        rows = body if self.foot_in_files else self.rows
        return replace(
            self, header=[self.header[place] for place in told], rows=[[row[place] for place in told] for row in rows],
            foot=0 if self.foot_in_files else self.foot,
        )  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """Chart of a section."""

    name: str
    """Name of its files."""
    description: str
    """Description for those who cannot see it."""
    chart: Chart

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Chart as Vega-Lite."""
        return themed(self.chart)


def figures(name: str, description: str, chart: Chart | None) -> tuple[Figure, ...]:
    """The chart as the only figure of a section; none where there is nothing to draw."""
    return () if chart is None else (Figure(name, description, chart),)


@dataclass(frozen=True)
class Picture:
    """Frames of a video, with a caption."""

    name: str
    caption: str
    jpeg: bytes
    frames: int = 0
    """Frames side by side, of one width, in every row of the picture: the page plays them. 0: it does not."""


@dataclass(frozen=True)
class Section:
    """Section of the page, in this order: headline, numbers, text, commands, tables, key, charts, images, details, caption."""

    title: str
    headline: str = ""
    """The answer in a sentence, set large."""
    numbers: tuple[tuple[str, str, str], ...] = ()
    """(figure, its interval or nothing, words on it)."""
    text: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    """Commands, one a line."""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    pictures: tuple[Picture, ...] = ()
    has_key: bool = False
    """Whether the charts need the key of the models' colours."""
    details: tuple[tuple[str, str], ...] = ()
    """(summary, preformatted text), folded away."""
    caption: str = ""
    """Help in reading the section, folded away on the page."""
    kind: Literal["plain", "warning", "folded", "verdict", "questions"] = "plain"
    """warning: set apart; folded: the tables are shown on a click; verdict: the answer, set large; questions: rows of the table
    are a question, its answer, why, and a command."""


@dataclass(frozen=True)
class Chapter:
    """Chapter of a report: one data set and the report's options."""

    comparison: Comparison
    beside: str | None = None
    """Data set whose published results are shown, a key of `published.DATA_SETS`."""
    pair: tuple[int, int] = (0, 1)
    """Ranks of the two models that are compared class by class and video by video."""
    with_frames: bool = True
    """Whether frames of videos are shown."""

    @property
    def published(self) -> tuple[Published, ...]:
        """Published results that are shown."""
        return published(self.beside) if self.beside else ()


def share(value: float | None) -> str:
    """Share with three digits; a dash where it is not known."""
    return f"{value:.3f}" if value is not None and math.isfinite(value) else "–"


def spoken(c: Comparison) -> str:
    """Accuracies of all models in words."""
    return "; ".join(f"{model.name} {c.measure(model)}" for model in c.models)


def published_words(chapter: Chapter) -> str:
    """Sentence of a caption on published results, if they are shown."""
    return (
        f" Grey crosses: published results on {DATA_SETS[chapter.beside]}, not measured here." if chapter.beside else ""
    )
