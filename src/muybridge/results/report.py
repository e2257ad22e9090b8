"""The report: one HTML file that opens from disk, offline, and its table as Markdown, CSV and JSON beside it.

A report is a list of sections; each says something in words, tables or charts. To add one, write a function from a
Comparison to a Section (or none, where it has nothing to say) and put it into SECTIONS. How the page looks is in
report.html.jinja; charts are in figures.py.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, Literal

import altair as alt
import jinja2
import numpy as np
import vl_convert
from markupsafe import Markup, escape

from muybridge import __version__
from muybridge.errors import UserError
from muybridge.files import write_atomic, write_json
from muybridge.recipe import Recipe, fields
from muybridge.results import figures
from muybridge.results.comparison import COMPARED, Comparison, compared, listed, plural
from muybridge.results.record import StudyRecord
from muybridge.runs import Run

MOST_MATRICES = 12
"""Confusion matrices drawn, those of the best models."""


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]
    kind: Literal["numbers", "words"] = "numbers"
    """numbers: all columns but the first stand to the right and do not wrap."""


@dataclass(frozen=True)
class Section:
    """A part of the page, in this order: text, tables, key, charts, details, caption."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[tuple[str, alt.TopLevelMixin], ...] = ()
    """(description for those who cannot see it, chart)."""
    has_key: bool = False
    """Whether the charts need the key of the models' colours."""
    details: tuple[tuple[str, str], ...] = ()
    """(summary, preformatted text), folded away."""
    caption: str = ""
    kind: Literal["plain", "warning", "folded"] = "plain"
    """warning: set apart; folded: the tables are shown on a click."""


BESIDE = (".table.csv", ".table.md", ".results.json")
"""What lies beside a report."""


def write_report(
    runs: Sequence[Run],
    *,
    out: str | Path,
    title: str | None = None,
    study: StudyRecord | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """Write `out` (HTML) and its table as .md, .csv and .json beside it. `study`: what is known of runs that are its own.
    Raises UserError where no run is finished."""
    out = Path(out)
    if out.suffix != ".html":
        raise UserError(f"A report is one .html file; '{out}' is not. For example: {out.name}.html")
    comparison = compared(runs, study=study, notes=notes)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, render(comparison, title=title or default_title(comparison)))
    header, rows = comparison.table()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    table_csv, table_md, results = (out.with_suffix(suffix) for suffix in BESIDE)
    write_atomic(table_csv, text.getvalue())
    write_atomic(table_md, markdown(header, rows))
    write_json(results, comparison.as_json())
    return comparison


def write_reports(
    study: StudyRecord, *, out: str | Path | None = None, title: str | None = None
) -> dict[Path, Comparison]:
    """Write every report of a study, into its folder or as `out` (of several: OUT-NAME.html). Raises UserError."""
    written = {}
    begun = [name for name, report in study.reports.items() if any(study.run(run).is_finished for run in report.runs)]
    for name in begun or study.reports:
        report = study.reports[name]
        file = study.path / name
        if out is not None:
            file = Path(out).with_name(
                Path(out).stem + name.removeprefix("report").removesuffix(".html") + Path(out).suffix
            )
        runs = [study.run(run) for run in report.runs]
        written[file] = write_report(runs, out=file, title=title or report.title, study=study, notes=report.notes)
    only = study.path / "report.html"  # of the time when there was one set
    if only.name not in study.reports:
        for suffix in (".html", *BESIDE):
            only.with_suffix(suffix).unlink(missing_ok=True)
    return written


def default_title(comparison: Comparison) -> str:
    """What was compared on what."""
    models = comparison.models
    manifest = Path(comparison.protocol.data.manifest)
    data = manifest.parent.name if manifest.stem == "manifest" and manifest.parent.name else manifest.stem
    return f"{models[0].name if len(models) == 1 else f'{len(models)} models'} on {data}"


def render(comparison: Comparison, *, title: str) -> str:
    """The page."""
    sections = [section for make in SECTIONS if (section := make(comparison)) is not None]
    charts: list[dict[str, Any]] = []
    for section in sections:
        for _, chart in section.charts:
            charts.append(_themed(chart).to_dict())
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["breakable"] = _breakable
    template = environment.from_string(resources("muybridge.results").joinpath("report.html.jinja").read_text())
    return template.render(
        title=title,
        sections=sections,
        key=figures.colors(comparison),
        # "<" cannot end the script element then
        charts=json.dumps(charts).replace("<", "\\u003c"),
        bundle=_bundle(),
        version=__version__,
    )


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _verdict(comparison: Comparison) -> Section:
    header, rows = comparison.table()
    settings_differ = comparison.differences or comparison.varied
    clip, evaluation = comparison.protocol.clip, comparison.protocol.evaluation
    sampling = clip.sampling if clip.sampling == "uniform" else f"dense, stride {clip.stride_frames}"
    methods = listed(sorted({model.accuracy.method for model in comparison.models}))
    tested = sorted({len(model.scores[0].ids_N) for model in comparison.models})
    return Section(
        title="Result",
        text=tuple(comparison.findings()) + comparison.notes,
        tables=(Table(header, rows),),
        charts=(("Video accuracy with its interval: " + _spoken(comparison), figures.accuracies(comparison)),),
        caption=(
            f"{'The first run' if settings_differ else 'Every model'}: {clip.num_frames} frames ({sampling}) of "
            f"{clip.size} × {clip.size}; a video's score is the mean of the {evaluation.average} of "
            f"{plural(evaluation.num_clips, 'clip')} × {plural(evaluation.num_crops, 'crop')}; "
            f"{evaluation.checkpoint} checkpoint; {listed([str(count) for count in tested])} test videos. Clip top-1 counts "
            "every view alone; mean class is the mean of the classes' accuracies. Conv MACs are the multiply-adds of "
            "convolutions only, of one clip. Train clips/s is the median over epochs on the machine that trained. "
            f"Intervals: 95 %, {methods}."
        ),
    )


def _differences(comparison: Comparison) -> Section | None:
    if not comparison.differences:
        return None
    rows = [[name, " · ".join(map(str, values))] for name, values in comparison.differences.items()]
    return Section(
        title="What differs beside the model",
        text=("These runs did not follow one protocol. What they differ in, beside model, seed and fold:",),
        tables=(Table(["field", "values"], rows, "words"),),
        kind="warning",
    )


def _settings(comparison: Comparison) -> Section | None:
    """Accuracy over two of a study's axes at once: where numbers of frames differ, those across; else the last axis."""
    by_axis = {
        axis: list(dict.fromkeys(model.axes.get(axis) for model in comparison.models))
        for axis in dict.fromkeys(axis for model in comparison.models for axis in model.axes)
        if axis not in ("data", "model", "method", "backbone")
    }
    varied = [axis for axis, values in by_axis.items() if len(values) > 1]
    if not varied:
        return None
    across = "num_frames" if "num_frames" in varied else varied[-1]
    columns = by_axis[across] if across != "num_frames" else sorted(by_axis[across], key=lambda value: value or 0)
    cells: dict[tuple[str, ...], dict[Any, list[str]]] = {}
    down = [axis for axis in varied if axis != across]
    for model in comparison.models:
        row = (model.model, *(f"{axis}={model.axes.get(axis)}" for axis in down))
        cells.setdefault(row, {}).setdefault(model.axes.get(across), []).append(str(model.accuracy))
    rows = [
        [", ".join(row), *("; ".join(of_row.get(value, ["–"])) for value in columns)]
        for row, of_row in sorted(cells.items())
    ]
    return Section(
        title=f"Video accuracy by {across}",
        tables=(Table(["", *(f"{across}={value}" for value in columns)], rows),),
        caption="The same figures as above, with their 95 % intervals, settings that differ in one thing side by side.",
    )


def _training(comparison: Comparison) -> Section | None:
    """How long each model was trained, where time or a figure ended it, or where that differs."""
    stop = comparison.protocol.stop
    if stop.max_hours is None and stop.quantity is None and len({model.steps for model in comparison.models}) == 1:
        return None

    def span(values: Sequence[float], digits: int) -> str:
        low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
        return low if low == high else f"{low} – {high}"

    rows = []
    for model in comparison.models:
        ended = dict.fromkeys(run.result().get("ended", "") for run in model.runs)
        rows.append([
            model.name, span(model.steps, 0), span(model.epochs, 1), span(model.train_hours, 3), "; ".join(ended)
        ])  # fmt: skip
    return Section(
        title="How long each was trained",
        tables=(Table(["model", "updates", "epochs", "hours", "ended by"], rows, "words"),),
        caption="Of every run of a model. Hours of training, validation not counted, on the machine that trained.",
    )


def _cost(comparison: Comparison) -> Section:
    return Section(
        title="Accuracy against cost",
        charts=(
            ("Video accuracy against multiply-adds: " + _spoken(comparison), figures.accuracy_against_macs(comparison)),
        ),
        has_key=True,
        caption=(
            "Area grows with parameters. Models of nearly the same cost are moved apart to be seen; the table has their figures."
        ),
    )


def _direction(comparison: Comparison) -> Section | None:
    if not comparison.pairs:
        return None
    models = comparison.models
    rows = [[f"{a} / {b}", *(str(model.within_pairs([(a, b)])) for model in models)] for a, b in comparison.pairs] + [
        ["all pairs", *(str(model.within_pairs(comparison.pairs)) for model in models)]
    ]
    spoken = "; ".join(f"{model.name} {model.within_pairs(comparison.pairs).value:.3f}" for model in models)
    return Section(
        title="Does it use time?",
        text=(
            "The classes of each pair are each other's reversal in time. A video of the pair is shown, and only the two "
            "may be answered: 0.5 is chance.",
        ),
        tables=(Table(["pair", *(model.name for model in models)], rows),),
        charts=(("Accuracy between time-reversed classes: " + spoken, figures.direction(comparison)),),
    )


def _curves(comparison: Comparison) -> Section | None:
    if not any(run.metrics(part) for model in comparison.models for run in model.runs for part in ("train", "val")):
        return None
    return Section(
        title="Training and validation",
        charts=(
            ("Loss over the epochs", figures.curves(comparison, "loss")),
            ("Accuracy over the epochs", figures.curves(comparison, "accuracy")),
        ),
        has_key=True,
        caption=(
            "Mean over the runs of a model. Solid: validation videos; dashed: training clips, augmented and measured while "
            "the weights move."
        ),
    )


def _confusion(comparison: Comparison) -> Section:
    models = comparison.models
    rows = [[model.name, _most_frequent_errors(comparison.classes, model.confusion)] for model in models]
    text = "Most frequent errors as true class → predicted class, and how many of the true class's videos."
    drawn = models[:MOST_MATRICES]
    of_whom = f" Drawn for the {len(drawn)} best of {len(models)}." if len(drawn) < len(models) else ""
    return Section(
        title="Confusion",
        text=(text,),
        tables=(Table(["model", "most frequent errors"], rows, "words"),),
        charts=tuple((f"Confusion matrix of {model.name}", figures.confusion(comparison, model)) for model in drawn),
        caption=(
            "Test videos, summed over seeds and folds. Shade: share of the true class's videos, white for none, dark blue "
            f"for all.{of_whom}"
        ),
    )


def _protocol(comparison: Comparison) -> Section:
    values = comparison.protocol.model_dump()
    rows = []
    for name, description in fields(Recipe).items():
        if name in COMPARED:
            continue
        value: Any = values
        for part in name.split("."):
            value = value[part]
        shown = (comparison.differences | comparison.varied).get(name, [value])
        rows.append([name, " · ".join(json.dumps(value) for value in shown), description])
    runs = [run for model in comparison.models for run in model.runs]
    sizes = runs[0].dataset()["split_sizes"]
    machines = {
        "{processor}, {device}, {threads} threads, torch {torch}, Python {python}".format(**run.environment()): None
        for run in runs
    }
    return Section(
        title="Protocol",
        text=(
            f"{plural(len(runs), 'run')}; videos in train, val, test: {sizes['train']}, {sizes['val']}, {sizes['test']}"
            + (" (of the first run's fold)." if comparison.protocol.data.fold else ".")
            + f" Trained on {'; '.join(machines)}.",
        ),
        tables=(Table(["field", "value", "meaning"], rows, "words"),),
        details=(("Runs", "\n".join(str(run.path) for run in runs)),),
        kind="folded",
    )


SECTIONS: tuple[Callable[[Comparison], Section | None], ...] = (
    _verdict,
    _differences,
    _settings,
    _training,
    _cost,
    _direction,
    _curves,
    _confusion,
    _protocol,
)


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, so that the page needs no network."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def _breakable(text: str) -> Markup:
    """Long names, and no others, may go on in the next line after a separator."""
    words = [re.sub(r"(?<=[_/:.])", "<wbr>", word) if len(word) > 28 else word for word in str(escape(text)).split(" ")]
    return Markup(" ".join(words))


def _spoken(comparison: Comparison) -> str:
    return "; ".join(f"{model.name} {model.accuracy}" for model in comparison.models)


def _most_frequent_errors(classes: Sequence[str], counts_KK: np.ndarray, most: int = 3) -> str:
    errors_KK = counts_KK - np.diag(np.diag(counts_KK))
    order = np.argsort(-errors_KK, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), len(classes)) for index in order]
    found = [
        f"{classes[i]} → {classes[j]} ({errors_KK[i, j]} of {counts_KK[i].sum()})" for i, j in pairs if errors_KK[i, j]
    ]
    return ", ".join(found) or "none"


def _themed(chart: Any) -> Any:
    return (
        chart.configure_view(strokeWidth=0)
        .configure_axis(
            labelFontSize=11, titleFontSize=11, titleFontWeight="normal", gridColor="#eee", domainColor="#999"
        )
        .configure_legend(labelFontSize=11, titleFontSize=11, titleFontWeight="normal", orient="right")
        .configure_title(fontSize=12, anchor="start")
    )
