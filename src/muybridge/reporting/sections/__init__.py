"""Sections of a report: functions from a chapter to a Section, or None where there is nothing to say.

A chapter is a comparison of one data set and the options of the report. To add a section, write a function and put it into
SECTIONS. The page's template is in page/, charts are in charts/.
"""

from collections.abc import Callable

from muybridge.reporting.sections import (
    classes,
    confidence,
    cost,
    data,
    fused,
    label_budget,
    learning,
    result,
    search,
    temporal,
    training,
    vectors,
    verdict,
)
from muybridge.reporting.sections.cost import overview as overview
from muybridge.reporting.sections.parts import Chapter as Chapter
from muybridge.reporting.sections.parts import Figure as Figure
from muybridge.reporting.sections.parts import Picture as Picture
from muybridge.reporting.sections.parts import Section as Section
from muybridge.reporting.sections.parts import Table as Table
from muybridge.reporting.sections.verdict import of_all as of_all

SECTIONS: tuple[Callable[[Chapter], Section | None], ...] = (
    verdict.verdict,
    verdict.questions,
    result.summary,
    result.differences,
    result.significance,
    fused.fused,
    result.by_setting,
    label_budget.label_budget,
    search.search,
    search.race,
    training.durations,
    cost.pareto,
    cost.views_and_frames,
    cost.literature,
    temporal.direction,
    temporal.frame_order,
    temporal.saliency,
    classes.by_class,
    classes.gains,
    classes.confusion,
    classes.disagreements,
    confidence.calibration,
    confidence.coverage,
    data.overview,
    vectors.change,
    learning.learning,
    training.learning_curves,
    training.protocol,
)


def sections(chapter: Chapter) -> list[Section]:
    """Sections of a chapter that have something to say."""
    return [section for make in SECTIONS if (section := make(chapter)) is not None]
