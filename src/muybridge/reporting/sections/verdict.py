"""The first sections: the verdict in a sentence with at most three figures, and the study's questions."""

from collections.abc import Mapping

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.questions import questions as asked
from muybridge.analysis.verdict import StudyVerdict, study_verdict, verdict_on
from muybridge.reporting.sections.parts import Chapter, Section, Table


def verdict(chapter: Chapter) -> Section:
    """Section with the verdict on one data set."""
    return _section(verdict_on(chapter.comparison))


def of_all(comparisons: Mapping[str, Comparison]) -> Section:
    """Section with the verdict on several data sets."""
    return _section(study_verdict(comparisons))


def _section(found: StudyVerdict) -> Section:
    return Section(
        title="Verdict",
        headline=found.headline,
        numbers=tuple((number.figure, number.interval, number.about) for number in found.numbers),
        text=(found.recommendation,),
        code=() if found.command is None else (found.command,),
        caption=" ".join(found.rests_on),
        kind="verdict",
    )


def questions(chapter: Chapter) -> Section:
    """Section with the questions that the comparison, or a command, answers."""
    rows = [[one.question, one.answer, one.why, one.command or "–"] for one in asked(chapter.comparison)]
    return Section(
        title="Questions",
        tables=(Table(["question", "answer", "why", "command that tells more"], rows, "words", "questions"),),
        kind="questions",
    )
