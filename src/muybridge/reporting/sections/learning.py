"""Section on runs that do not learn as they should."""

from muybridge.analysis.learning import symptoms
from muybridge.reporting.sections.parts import Chapter, Section, Table
from muybridge.text import plural


def learning(chapter: Chapter) -> Section | None:
    """Section with the symptoms of each row, or with one sentence where nothing was found."""
    rows: list[list[str]] = []
    runs = [run for model in chapter.comparison.models for run in model.trained_runs]
    if not any(run.metrics("train") for run in runs):
        return None
    for model in chapter.comparison.models:
        found = [symptom for run in model.trained_runs for symptom in symptoms(run)]
        for name in dict.fromkeys(symptom.name for symptom in found):
            of_name = [symptom for symptom in found if symptom.name == name]
            count = f"{len(of_name)} of {len(model.runs)}"
            rows.append([model.name, name, count, of_name[0].evidence, of_name[0].remedy])
    if not rows:
        return Section(
            title="Training health",
            text=(f"No symptom of a failed training was found in {plural(len(runs), 'run')}.",),
        )
    return Section(
        title="Training health",
        tables=(Table(["model", "symptom", "runs", "evidence", "what to try"], rows, "words", "learning"),),
        caption="Evidence of the first such run. What explains other symptoms is named alone (docs/learning.md).",
        kind="warning",
    )
