"""The parts of a report, each a function from a chapter (a comparison of one data set, and what was asked for) to a Section,
or none where it has nothing to say; a module a question. To add one, write a function and put it into SECTIONS. How a page
looks is in page/; charts are in figures/.
"""

from collections.abc import Callable

from muybridge.reporting.sections import classes as where
from muybridge.reporting.sections import cost, result, training
from muybridge.reporting.sections import temporal as time
from muybridge.reporting.sections.cost import overview as overview
from muybridge.reporting.sections.parts import Chapter as Chapter
from muybridge.reporting.sections.parts import Figure as Figure
from muybridge.reporting.sections.parts import Picture as Picture
from muybridge.reporting.sections.parts import Section as Section
from muybridge.reporting.sections.parts import Table as Table

SECTIONS: tuple[Callable[[Chapter], Section | None], ...] = (
    result.verdict,
    result.differences,
    result.told_apart,
    result.by_setting,
    training.how_long,
    cost.at_what_cost,
    cost.views_and_frames,
    cost.literature,
    time.direction,
    time.uses_time,
    time.looks,
    where.by_class,
    where.confusion,
    where.parted,
    result.confidence,
    training.learning,
    training.protocol,
)


def sections(chapter: Chapter) -> list[Section]:
    return [section for make in SECTIONS if (section := make(chapter)) is not None]
