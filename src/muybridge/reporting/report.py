"""Report: one HTML file that opens from disk, offline, and beside it the same as Markdown, JSON, CSV, LaTeX, SVG and PNG.

    report.html        the page
    report.md          text and tables, with the charts of
    report.files/      a CSV and a LaTeX `tabular` a table, an SVG and a PNG a chart, a JPEG a strip of frames
    report.json        every number

A report has a chapter a data set; a chapter is a list of sections (`sections/`). Needs no torch and no browser.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from itertools import chain, count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import vl_convert
from altair.utils.schemapi import debug_mode
from markupsafe import Markup, escape

from muybridge import __version__
from muybridge.analysis.comparison import Comparison
from muybridge.analysis.findings import findings
from muybridge.analysis.label_budget import curves
from muybridge.analysis.missing import missing
from muybridge.analysis.published import published
from muybridge.analysis.questions import questions
from muybridge.analysis.verdict import study_verdict, verdict_on
from muybridge.errors import UserError, nearest
from muybridge.reporting.charts.style import colors
from muybridge.reporting.latex import tabular
from muybridge.reporting.render import drawn
from muybridge.reporting.sections import Chapter, Figure, Section, Table, of_all, overview, sections
from muybridge.runtime.files import check_regular, clear_partials, csv_text, within, write_atomic, write_json
from muybridge.runtime.locks import locked
from muybridge.text import markdown, printable, spreadsheet

MARK = "<!-- Made by muybridge -->"
FOOTER = b"<footer>Made by muybridge "
"""Ending of every page: all that tells those of earlier versions."""
"""Words at the foot of every page."""
ENDINGS = (".csv", ".tex", ".svg", ".png", ".jpg")
"""Endings of the files in report.files."""
LONGEST_FILE_NAME = 100
"""Most bytes of a file name, without the ending."""
WAIT_SECONDS = 900.0
"""Longest wait for another process that writes the same report."""


@dataclass(frozen=True)
class Report:
    """Content of a report, of every data set."""

    title: str
    comparisons: Mapping[str, Comparison]
    """Comparisons by the name of the data set."""
    chapters: Sequence["_Chapter"]

    @staticmethod
    def of(
        comparisons: Mapping[str, Comparison],
        *,
        title: str | None = None,
        beside: str | Mapping[str, str] | None = None,
        pair: Sequence[str] | None = None,
        with_frames: bool = True,
    ) -> "Report":
        """Make a report of comparisons.

        `beside`: data set whose published results are shown, a key of `published.DATA_SETS`; of several data sets, by their
        names. `pair`: two rows that are compared class by class and video by video; None: the two best. `with_frames`: show
        frames of videos. Raises UserError.
        """
        several = len(comparisons) > 1
        besides = _besides(comparisons, beside)
        names = _FileNames()
        chapters = [_Chapter(names, "", None, [of_all(comparisons), overview(comparisons)])] if several else []
        for name, comparison in comparisons.items():
            asked = Chapter(
                comparison, beside=besides.get(name), pair=_ranks(comparisons, name, pair), with_frames=with_frames
            )
            with debug_mode(False):  # Altair would check every part of every chart as it is made
                chapters.append(_Chapter(names, name if several else "", comparison, sections(asked)))
        return Report(title or default_title(comparisons), comparisons, chapters)

    def page(self, folder: str = "report.files") -> str:
        """Page as HTML. `folder`: name of the folder of its files."""
        return _page(self.chapters, self.title, folder, "report")

    def write(self, out: str | Path) -> None:
        """Write `out` (HTML) and what lies beside it.

        Charts and tables of an earlier report of that name are removed. Files that are not a report's are never overwritten.
        Raises UserError.
        """
        out = Path(out)
        if out.suffix != ".html" or out.is_dir():
            raise UserError(
                f"--out: '{out}' is not one .html file. Name one, for example {out.stem or 'report'}-1.html"
            )
        _check_free(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        page, text, numbers = (within(out.parent, out.with_suffix(ending).name) for ending in (".html", ".md", ".json"))
        folder = within(out.parent, out.with_suffix(".files").name)
        folder.mkdir(exist_ok=True)
        with locked(folder, "writes this report", keep=False, wait_seconds=WAIT_SECONDS):
            clear_partials(folder)
            clear_partials(out.parent, of=[page.name, text.name, numbers.name])
            for name in _files_of(numbers):
                within(folder, name).unlink(missing_ok=True)
            files: list[str] = []
            with drawn([(within(folder, name), figure.spec) for name, figure in self._figures()]):
                write_atomic(page, self.page(folder.name))
                write_atomic(text, "".join(_markdown(self.chapters, self.title, folder, files)))
            content = {"title": self.title, "muybridge": __version__, **document(self.comparisons), "files": files}
            write_json(numbers, content)

    def _figures(self) -> Iterator[tuple[str, Figure]]:
        """Charts with the names of their files."""
        for chapter in self.chapters:
            yield from ((chapter.file(one.name), one) for section in chapter.sections for one in section.figures)

    def contents(self) -> Iterator[tuple[str, Section, list[tuple[str, Figure]], list[tuple[str, Table]]]]:
        """Each section with its chapter's name, and its charts and tables with the names of their files."""
        for chapter in self.chapters:
            for section in chapter.sections:
                figures = [(chapter.file(one.name), one) for one in section.figures]
                yield chapter.name, section, figures, [(chapter.file(one.name), one) for one in section.tables]


def document(comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    """Content of report.json: of the one data set, or the verdict on all and a list of `sets`."""
    values = [
        {
            "verdict": verdict_on(comparison).as_json(), "questions": [one.as_json() for one in questions(comparison)],
            **comparison.as_json(), "findings": findings(comparison),
            "label_budget": [curve.as_json() for curve in curves(comparison)],
            "missing": [one.as_json() for one in missing(comparison)],
        }
        for comparison in comparisons.values()
    ]  # fmt: skip
    if len(values) == 1:
        return values[0]
    return {"verdict": study_verdict(comparisons).as_json(), "sets": values}


def default_title(comparisons: Mapping[str, Comparison]) -> str:
    """Title: the number of settings, or of models of other tools, and the data sets."""
    names = list(dict.fromkeys(model.name for comparison in comparisons.values() for model in comparison.models))
    sets = ", ".join(comparison.data for comparison in comparisons.values())
    if len(names) == 1:
        return names[0] if names[0] == sets else f"{names[0]} on {sets}"
    noun = "settings" if any(comparison.of_runs for comparison in comparisons.values()) else "models"
    return f"{len(names)} {noun} on {sets}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table in Markdown."""
    head, *lines = [[markdown(cell) for cell in line] for line in (header, *rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, ["---"] * len(header), *lines))


class _FileNames:
    """File names of a report: short enough for any system, no two alike."""

    def __init__(self) -> None:
        self._by_text: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        if text not in self._by_text:
            name = _slug(text)
            if len(name.encode()) > LONGEST_FILE_NAME:
                digest = hashlib.sha256(text.encode()).hexdigest()[:8]
                name = f"{name.encode()[:LONGEST_FILE_NAME].decode(errors='ignore')}-{digest}"
            numbered = chain([name], (f"{name}-{number}" for number in count(2)))
            taken = set(self._by_text.values())
            self._by_text[text] = next(one for one in numbered if one not in taken)
        return self._by_text[text]


@dataclass(frozen=True)
class _Chapter:
    file_names: _FileNames
    name: str
    """Empty where the report has one data set."""
    comparison: Comparison | None
    sections: Sequence[Section]

    @property
    def anchor(self) -> str:
        return _slug(self.name)

    def file(self, name: str) -> str:
        """File name of a table or chart, without its ending."""
        return self.file_names(f"{self.name}-{name}" if self.name else name)


def _besides(comparisons: Mapping[str, Comparison], beside: str | Mapping[str, str] | None) -> dict[str, str]:
    """Published data sets by one's own. Raises UserError."""
    if beside is None:
        return {}
    if isinstance(beside, str):
        if len(comparisons) > 1:
            names = " ".join(f"--beside {name}=SET" for name in comparisons)
            raise UserError(f"--beside: this report has several data sets. Say for which of them: {names}")
        beside = dict.fromkeys(comparisons, beside)
    for name, values in beside.items():
        published(values)
        if name not in comparisons:
            raise UserError(f"--beside: no data set '{name}' is here. {nearest(name, comparisons)}")
    return dict(beside)


def _check_free(out: Path) -> None:
    """Refuse to overwrite a file that is not a report's. (A study's folder is ours.) Raises UserError."""
    if (out.parent / "study.json").exists():
        return
    numbers = out.with_suffix(".json")
    ours = numbers.exists() and "muybridge" in _content(numbers)
    text = out.with_suffix(".md")
    for path, is_ours in ((out, _is_page(out, "report")), (text, _is_text(text)), (numbers, False)):
        if path.exists() and not ours and not is_ours:
            raise UserError(f"{path}: it is there already, and is not a report of muybridge's. Choose another --out")


def _content(report: Path) -> dict[str, Any]:
    """Content of a report.json; empty for another file."""
    try:
        values = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _files_of(report: Path) -> list[str]:
    """Files that an earlier report of that name has written beside it."""
    content = _content(report)
    named = content.get("files") if "muybridge" in content else None
    return [
        name
        for name in (named if isinstance(named, list) else ())
        if isinstance(name, str) and Path(name).name == name and Path(name).suffix in ENDINGS
    ]


def _ranks(comparisons: Mapping[str, Comparison], data: str, pair: Sequence[str] | None) -> tuple[int, int]:
    """Ranks of the two rows in a data set; the two best if it lacks one, and another set has both."""
    if pair is None:
        return 0, 1
    if len(pair) != 2 or pair[0] == pair[1]:
        raise UserError(f"--pair: {', '.join(pair)} are not two different rows. Name two: --pair A,B")
    by_set = {name: [model.name for model in comparison.models] for name, comparison in comparisons.items()}
    if set(pair) <= set(by_set[data]):
        return by_set[data].index(pair[0]), by_set[data].index(pair[1])
    if not any(set(pair) <= set(names) for names in by_set.values()):
        every = sorted({name for names in by_set.values() for name in names})
        missing = next((name for name in pair if name not in every), pair[0])
        raise UserError(f"--pair: no row '{missing}' is beside the other. {nearest(missing, every)}")
    return 0, 1


def check_page(page: Path, kind: str) -> None:
    """Refuse a page that is not an .html file, or that would overwrite a file other than an older page of its kind.

    Raises UserError.
    """
    if page.suffix != ".html" or page.is_dir():
        raise UserError(f"--out: '{page}' is not one .html file. Name one, for example {page.stem or kind}-1.html")
    if page.exists() and not _is_page(page, kind):
        raise UserError(f"{page}: it is there already, and is not such a page of muybridge's. Choose another --out")


def _is_page(path: Path, kind: str) -> bool:
    """Whether a file is a page of ours, of this kind; one of an earlier version does not tell its kind. Raises UserError."""
    check_regular(path)
    if not path.is_file():
        return False
    content = path.read_bytes()
    if not content.startswith(b"<!doctype html>") or FOOTER not in content:
        return False
    head = content[: content.find(b"<style>")]
    return b'name="generator"' not in head or _generator(kind).encode() in head


def _is_text(path: Path) -> bool:
    """Whether a file is the Markdown of a report. Raises UserError."""
    check_regular(path)
    return path.is_file() and f"\n{MARK}\n".encode() in path.read_bytes()


def _generator(kind: str) -> str:
    return f'<meta name="generator" content="muybridge {kind}">'


def page_of(parts: Sequence[Section], title: str, folder: str, kind: str) -> str:
    """Page of sections that no comparison is behind. `folder`: name of the folder of its files; `kind`: as in `check_page`."""
    return _page([_Chapter(_FileNames(), "", None, parts)], title, folder, kind)


def _page(chapters: Sequence[_Chapter], title: str, folder: str, kind: str) -> str:
    charts: list[dict[str, Any]] = []
    shown = []
    swatches: dict[str, str] = {}
    for number, chapter in enumerate(chapters):
        of_chapter = []
        for section in chapter.sections:
            numbered = []
            for figure in section.figures:
                numbered.append({"number": len(charts), "description": figure.description})
                charts.append(figure.spec)
            anchor = _slug(f"{number}-{section.title}" if len(chapters) > 1 else section.title)
            names = [f"{chapter.file(table.name)}.csv" for table in section.tables]
            of_chapter.append(
                {
                    "it": section,
                    "anchor": anchor,
                    "charts": numbered,
                    "tables": [
                        (_on_page(section, table), name) for table, name in zip(section.tables, names, strict=True)
                    ],
                }
            )
        key = {} if chapter.comparison is None else colors(chapter.comparison)
        for color in key.values():
            swatches.setdefault(color, f"swatch{len(swatches)}")
        shown.append({"name": chapter.name, "anchor": chapter.anchor, "sections": of_chapter, "key": key})
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["breakable"] = _breakable
    environment.filters["data_address"] = lambda jpeg: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    style = _resource("report.css") + "".join(f".{name} {{ --color: {color}; }}\n" for color, name in swatches.items())
    data = json.dumps(charts).replace("<", "\\u003c")  # cannot end the script element then
    script = f"\nconst charts = {data};\n" + _resource("report.js") + _resource("charts.js")
    bundle = _bundle() if charts else ""
    page: str = environment.from_string(_resource("report.html.jinja")).render(
        title=title,
        folder=folder,
        chapters=shown,
        swatches=swatches,
        policy=_policy(style, script, bundle),
        style=style,
        script=script,
        bundle=bundle,
        version=__version__,
        generator=_generator(kind),
    )
    return page


def _on_page(section: Section, table: Table) -> Table:
    """Table as it is read; questions have all their columns."""
    return table if section.kind == "questions" else table.on_page


def _policy(style: str, *scripts: str) -> str:
    """Content security policy: the page's own style and scripts by their hashes, images that it holds, and nothing else."""
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in (style, *scripts)
    ]
    return (
        f"default-src 'none'; script-src {' '.join(hashes[1:])}; style-src {hashes[0]}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _markdown(chapters: Sequence[_Chapter], title: str, folder: Path, files: list[str]) -> Iterator[str]:
    """Text of report.md, while every table and image that it names is written.

    Names of all files are added to `files`.
    """
    address = quote(os.fsencode(folder.name))
    yield f"# {markdown(title)}\n"
    for chapter in chapters:
        if chapter.name:
            yield f"\n# {markdown(chapter.name)}\n"
        for section in chapter.sections:
            yield f"\n## {section.title}\n"
            if section.headline:
                yield f"\n**{markdown(section.headline)}**\n"
            for number, of_number in enumerate(section.numbers):
                yield "\n" * (number == 0) + f"- {markdown(' '.join(filter(None, of_number)))}\n"
            yield from (f"\n{markdown(line)}\n" for line in section.text)
            yield from (f"\n    {printable(line)}\n" for line in section.code)
            for table in section.tables:
                stem = chapter.file(table.name)
                name = f"{stem}.csv"
                _write_csv(within(folder, name), [table.header, *table.rows])
                write_atomic(within(folder, f"{stem}.tex"), tabular(table.header, table.rows, foot=table.foot))
                files += [name, f"{stem}.tex"]
                seen = _on_page(section, table)
                shown = seen.rows if seen.most is None else seen.rows[: seen.most]
                if shown:
                    yield "\n" + markdown_table(seen.header, shown)
                if len(shown) < len(seen.rows):
                    more = (
                        f"{len(shown)} of {len(seen.rows)} rows; all are in" if shown else "Of all models and classes:"
                    )
                    yield f"\n{more} [{name}]({address}/{name}).\n"
            for figure in section.figures:
                name = chapter.file(figure.name)
                files += [f"{name}.svg", f"{name}.png"]
                yield f"\n![{markdown(figure.description)}]({address}/{name}.svg)\n"
            for picture in section.pictures:
                name = f"{chapter.file(picture.name)}.jpg"
                write_atomic(within(folder, name), picture.jpeg)
                files.append(name)
                yield f"\n![{markdown(picture.caption)}]({address}/{name})\n\n{markdown(picture.caption)}\n"
            if section.caption:
                yield f"\n*{markdown(section.caption)}*\n"
    yield f"\n{MARK}\n"


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write a table; an estimate with its interval becomes three columns."""
    columns: list[list[str]] = []
    for column in zip(*rows, strict=True):
        matches = [re.fullmatch(r"([+-]?[\d.]+) \[([+-]?[\d.]+), ([+-]?[\d.]+)\]", cell) for cell in column[1:]]
        if not any(matches):
            columns.append(list(column))
            continue
        name = re.sub(r" \[.*\]$", "", column[0])
        parts = [match.groups() if match else (cell, "", "") for match, cell in zip(matches, column[1:], strict=True)]
        ends = zip((name, f"{name} low", f"{name} high"), *parts, strict=True)
        columns += [list(one) for one in ends]
    cells = [[spreadsheet(cell) for cell in column] for column in columns]
    write_atomic(path, csv_text(zip(*cells, strict=True)))


@cache
def _resource(name: str) -> str:
    return resources("muybridge.reporting").joinpath("page", name).read_text(encoding="utf-8")


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, so that the page needs no network."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def _breakable(text: str) -> Markup:
    """HTML in which long names, and no others, may break after a separator."""
    words = [
        re.sub(r"(?<=[_/:.])", "<wbr>", word) if len(word) > 28 else word
        for word in str(escape(printable(text))).split(" ")
    ]
    return Markup(" ".join(words))


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text.lower()).strip("-")
