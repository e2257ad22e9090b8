"""The report: one HTML file that opens from disk, offline, and its table as Markdown, CSV and JSON beside it.

A report is a list of sections; each says something in words, tables or charts. To add one, write a function from a
Comparison to a Section (or none, where it has nothing to say) and put it into SECTIONS.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert

from muybridge import __version__
from muybridge.files import write_atomic, write_json
from muybridge.recipe import fields
from muybridge.results import figures
from muybridge.results.comparison import Comparison, compared
from muybridge.runs import Run


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[tuple[str, alt.TopLevelMixin], ...] = ()
    """(description for those who cannot see it, chart)."""
    details: tuple[tuple[str, str], ...] = ()
    """(summary, preformatted text), folded away."""
    caption: str = ""
    kind: str = field(default="plain")


def write_report(runs: Sequence[Run], *, out: str | Path, title: str | None = None) -> Comparison:
    """Write `out` (HTML) and its table as .md, .csv and .json beside it. Raises UserError where no run is finished."""
    out = Path(out)
    comparison = compared(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, render(comparison, title=title or "muybridge report"))
    header, rows = comparison.table()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    write_atomic(out.with_suffix(".csv"), text.getvalue())
    write_atomic(out.with_suffix(".md"), markdown(header, rows))
    write_json(out.with_suffix(".json"), comparison.as_json())
    return comparison


def render(comparison: Comparison, *, title: str) -> str:
    """The page."""
    sections = [section for make in SECTIONS if (section := make(comparison)) is not None]
    charts: list[dict[str, Any]] = []
    for section in sections:
        for _, chart in section.charts:
            charts.append(_themed(chart).to_dict())
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources("muybridge.results").joinpath("report.html.jinja").read_text())
    return template.render(
        title=title,
        sections=sections,
        # "<" cannot end the script element then
        charts=json.dumps(charts).replace("<", "\\u003c"),
        bundle=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"),
        version=__version__,
    )


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _verdict(comparison: Comparison) -> Section:
    header, rows = comparison.table()
    clip, evaluation = comparison.protocol.clip, comparison.protocol.evaluation
    first = comparison.models[0]
    sampling = clip.sampling if clip.sampling == "uniform" else f"dense, stride {clip.stride_frames}"
    return Section(
        title="Result",
        text=tuple(comparison.findings()) + comparison.notes,
        tables=(Table(header, rows),),
        caption=(
            f"Every model: {clip.num_frames} frames ({sampling}) of {clip.size} x {clip.size}; a video's score is the "
            f"mean of the {evaluation.average} of {evaluation.num_clips} clip(s) x {evaluation.num_crops} crop(s); "
            f"{evaluation.checkpoint} checkpoint; {len(first.scores[0].ids_N)} test videos. Clip top-1 counts every view "
            "alone. Conv MACs are multiply-adds of convolutions only, of one clip. Train clips/s is the median over "
            "epochs on the machine that trained. Intervals: " + first.accuracy.method + "."
        ),
    )


def _differences(comparison: Comparison) -> Section | None:
    if not comparison.differences:
        return None
    rows = [[name, " · ".join(map(str, values))] for name, values in comparison.differences.items()]
    return Section(
        title="What differs beside the model",
        text=("These runs did not follow one protocol. What they differ in, beside model, seed and fold:",),
        tables=(Table(["field", "values"], rows),),
        kind="warning",
    )


def _cost(comparison: Comparison) -> Section:
    models = ", ".join(f"{m.name} {m.accuracy.value:.3f}" for m in comparison.models)
    description = f"Video accuracy against multiply-adds: {models}"
    return Section(title="Accuracy against cost", charts=((description, figures.accuracy_against_macs(comparison)),))


def _pairs(comparison: Comparison) -> Section | None:
    if not comparison.pairs:
        return None
    rows = []
    for model in comparison.models:
        rows.append([model.name, *(str(model.within_pairs([pair])) for pair in comparison.pairs)])
    return Section(
        title="Does it use time?",
        text=(
            "The classes of each pair are each other's reversal in time. A video of the pair is shown, and only the two "
            "may be answered: 0.5 is chance.",
        ),
        tables=(Table(["model", *(f"{a} / {b}" for a, b in comparison.pairs)], rows),),
    )


def _curves(comparison: Comparison) -> Section | None:
    if not any(run.metrics("train") for model in comparison.models for run in model.runs):
        return None
    return Section(
        title="Training and validation",
        charts=(
            ("Loss over the epochs", figures.curves(comparison, "loss")),
            ("Accuracy over the epochs", figures.curves(comparison, "accuracy")),
        ),
        caption="Mean over the runs of a model. Solid: validation; dashed: training, measured on augmented clips on the way.",
    )


def _confusion(comparison: Comparison) -> Section:
    charts = tuple(
        (f"Confusion matrix of {model.name}", figures.confusion(comparison, model)) for model in comparison.models
    )
    return Section(
        title="Confusion",
        charts=charts,
        caption="Test videos, summed over seeds and folds. Shade: share of the true class.",
        kind="grid",
    )


def _protocol(comparison: Comparison) -> Section:
    values = comparison.protocol.model_dump()
    described = fields(type(comparison.protocol))
    rows = []
    for name, description in described.items():
        if name in ("model.name", "seed", "data.fold", "model.source_sha256"):
            continue
        value: Any = values
        for part in name.split("."):
            value = value[part]
        rows.append([name, json.dumps(value), description])
    runs = [run for model in comparison.models for run in model.runs]
    environment = runs[0].environment()
    sizes = runs[0].dataset()["split_sizes"]
    return Section(
        title="Protocol",
        text=(
            f"{len(runs)} runs; videos in train, val, test: {sizes['train']}, {sizes['val']}, {sizes['test']}"
            + (" (of the first fold)." if comparison.protocol.data.fold else ".")
            + f" {environment['processor']}, {environment['device']}, {environment['threads']} threads, "
            f"torch {environment['torch']}, Python {environment['python']}.",
        ),
        tables=(Table(["field", "value", "meaning"], rows),),
        details=(("Runs", "\n".join(str(run.path) for run in runs)),),
        kind="folded",
    )


SECTIONS: tuple[Callable[[Comparison], Section | None], ...] = (
    _verdict,
    _differences,
    _cost,
    _pairs,
    _curves,
    _confusion,
    _protocol,
)


def _themed(chart: Any) -> Any:
    return (
        chart.configure_view(strokeWidth=0)
        .configure_axis(
            labelFontSize=11, titleFontSize=11, titleFontWeight="normal", gridColor="#eee", domainColor="#999"
        )
        .configure_legend(labelFontSize=11, titleFontSize=11, titleFontWeight="normal", orient="right")
        .configure_title(fontSize=12, anchor="start")
    )
