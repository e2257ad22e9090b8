"""Figures of a paper or a talk: the charts of a report at a width of their own, as PDF and SVG, and its tables as LaTeX.

    FOLDER/
      README.md       a caption for each file
      NAME.pdf        a chart, its font embedded
      NAME.svg        the same, its text as paths
      NAME.tex        a table, a LaTeX `tabular`
      figures.json    names of these files, by which the next call replaces them

Charts are laid out for the width, and then scaled as one, so that text has the same size in all of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vl_convert

from muybridge import __version__
from muybridge.errors import UserError, nearest
from muybridge.reporting.charts.style import BACKSLASH, STYLE
from muybridge.reporting.latex import PACKAGES, tabular
from muybridge.reporting.outlines import SVG, fonts_of, outlined
from muybridge.reporting.render import with_key
from muybridge.reporting.report import MARK, WAIT_SECONDS, Report
from muybridge.runtime.files import check_writable, clear_partials, parsed_json, within, write_atomic, write_json
from muybridge.runtime.locks import locked
from muybridge.text import markdown

POINTS = 72 / 25.4
"""Points of a millimetre."""
NUMBERS = "figures.json"
README = "README.md"
ENDINGS = (".pdf", ".svg", ".tex")
"""Endings of the files that a folder of figures has, beside README.md and figures.json."""


@dataclass(frozen=True)
class Size:
    """Size of figures on paper or on a screen."""

    width_mm: float
    height_mm: float
    """Height of a slide; of paper the most that a figure takes."""
    text_points: float
    """Size of the text at the axes."""
    key_columns: int
    """Columns of a legend."""
    is_filled: bool = False
    """Whether a figure has just this height, as a slide has."""
    about: str = ""

    @property
    def scale(self) -> float:
        """Points of a unit in which charts are laid out."""
        return self.text_points / float(STYLE["axis"]["labelFontSize"])


SIZES = {
    "column": Size(85, 230, 7, 2, about="a column, 85 mm wide"),
    "page": Size(175, 230, 8, 3, about="a page, 175 mm wide"),
    "slide": Size(13.333 * 25.4, 7.5 * 25.4, 18, 3, is_filled=True, about="a slide of 16:9, 13.33 x 7.5 inches"),
}
"""Sizes by their names."""

LEAST_SPACE = 120.0
"""Least width and height of a chart without its axes, in its own units."""
MARGIN = 4
SYMBOL = 40
"""Space of a legend's symbol, and of the gap before the next one."""
AXIS = 45
"""Space of an axis, beside which a legend begins."""
LETTER = 6.2
"""Width of a letter."""
TURNS = 4
"""Layouts that are tried to meet a width."""


def check_figures(folder: Path, size: str) -> None:
    """Raise UserError for an unknown size, and for a folder that nothing can be written into."""
    if size not in SIZES:
        raise UserError(f"--size: '{size}' is unknown. {nearest(size, SIZES)}")
    check_writable(folder)


def write_figures(report: Report, folder: Path, *, size: str = "column") -> list[str]:
    """Write the figures and tables of a report into a folder, and return the names of their files.

    `size`: a key of `SIZES`. What an earlier call wrote there goes; other files stay. Raises UserError where one of
    them is in the way.
    """
    check_figures(folder, size)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "writes figures there", keep=False, wait_seconds=WAIT_SECONDS):
        clear_partials(folder)
        ours = _earlier(folder)
        names = [
            f"{name}{ending}"
            for _, _, figures, tables in report.contents()
            for name, ending in [(name, end) for name, _ in figures for end in (".pdf", ".svg")]
            + [(name, ".tex") for name, _ in tables]
        ]
        for name in (README, NUMBERS, *names):
            path = within(folder, name)
            if name not in ours and path.exists():
                raise UserError(
                    f"{path}: it is there already, and is not a figure of muybridge's. Choose another --figures, or "
                    "rename it"
                )
        write_json(  # names first: a process that is killed leaves nothing that is not known to be ours
            within(folder, NUMBERS), _about(report, size, sorted({*names, *ours} - {README, NUMBERS}))
        )
        for name in ours - {README, NUMBERS, *names}:
            within(folder, name).unlink(missing_ok=True)
        write_atomic(within(folder, README), "".join(_readme(report, folder, SIZES[size])))
        write_json(within(folder, NUMBERS), _about(report, size, names))
    return [README, *names]


def drawing(spec: dict[str, Any], size: Size) -> tuple[str, bytes, bool]:
    """Draw a chart: SVG with its text as paths, PDF, and whether all text of the SVG is paths."""
    wanted = (size.width_mm * POINTS / size.scale, size.height_mm * POINTS / size.scale)
    columns = _key_columns(spec, size, wanted[0])
    chart = _readied(spec, columns, wanted[0])
    width = float(spec.get("width", wanted[0]))
    height = float(spec.get("height", width))
    has_rows = _has_rows(spec)
    ratio = height / width
    inner = [min(width, wanted[0]), height]
    svg = ""
    for _ in range(TURNS):
        inner[1] = height if has_rows else inner[1] if size.is_filled else ratio * inner[0]
        svg = vl_convert.vegalite_to_svg(_laid_out(chart, inner))
        over = [got - want for got, want in zip(_size(svg), wanted, strict=True)]
        if abs(over[0]) < 1 and (has_rows or not size.is_filled or abs(over[1]) < 1):
            break
        if over[0] > 1 and inner[0] <= LEAST_SPACE and columns > 1:  # the legend is wider than the chart
            columns -= 1
            chart = _readied(spec, columns, wanted[0])
        inner[0] = max(LEAST_SPACE, inner[0] - over[0])
        inner[1] = max(LEAST_SPACE, inner[1] - over[1])
    boxed = _boxed(svg.replace(BACKSLASH, "\\"), size)  # fonts lack what stands for it
    pdf: bytes = vl_convert.svg_to_pdf(boxed)
    paths, whole = outlined(_in_millimetres(boxed), fonts_of(pdf))
    return paths, pdf, whole


def _key_columns(spec: dict[str, Any], size: Size, width: float) -> int:
    """Columns of a legend in which names are whole, if that can be."""
    longest = max(map(len, _models(spec)), default=1)
    return max(1, min(size.key_columns, int((width - AXIS) / (LETTER * longest + SYMBOL))))


def _models(part: Any) -> Iterator[str]:
    """Names of the rows that have a colour."""
    if isinstance(part, list):
        for one in part:
            yield from _models(one)
    elif isinstance(part, dict):
        if part.get("field") == "model" and isinstance(scale := part.get("scale"), dict):
            yield from scale.get("domain", [])
        for name, value in part.items():
            if name != "data":
                yield from _models(value)


def _readied(spec: dict[str, Any], columns: int, width: float) -> dict[str, Any]:
    """The chart with a legend, and with no text that is longer than the width."""
    keyed = spec if _names_rows(spec) else with_key(spec, columns=columns, longest=(width - AXIS) / columns - SYMBOL)
    chart: dict[str, Any] = _limited(keyed, width - 2 * MARGIN)
    config = chart.get("config", {})
    limits = {"title": {"limit": width - 2 * MARGIN}, "axisX": {"titleLimit": width - 2 * MARGIN}}
    return chart | {"config": config | {name: config.get(name, {}) | limit for name, limit in limits.items()}}


def _names_rows(part: Any) -> bool:
    """Whether the names of the models stand in the chart, which then needs no legend."""
    if isinstance(part, list):
        return any(map(_names_rows, part))
    if not isinstance(part, dict):
        return False
    text = part.get("text")
    return (isinstance(text, dict) and text.get("field") == "name") or any(
        _names_rows(value) for name, value in part.items() if name != "data"
    )


def _limited(part: Any, width: float) -> Any:
    """Text marks that are cut where they are longer than the width."""
    if isinstance(part, list):
        return [_limited(one, width) for one in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "text" and "align" in part:
        return {"limit": width, **part}
    return {name: value if name == "data" else _limited(value, width) for name, value in part.items()}


def _laid_out(chart: dict[str, Any], inner: list[float]) -> dict[str, Any]:
    return chart | {"width": inner[0], "height": inner[1], "background": "white", "padding": MARGIN}


def _has_rows(spec: Any) -> bool:
    """Whether the rows of a chart have names, and so a height of their own; squares of two such axes have not."""
    kinds = {channel: set(_kinds(spec, channel)) for channel in ("x", "y")}
    return kinds["y"] == {"nominal"} and "quantitative" in kinds["x"]


def _kinds(part: Any, channel: str) -> Iterator[str]:
    if isinstance(part, list):
        for one in part:
            yield from _kinds(one, channel)
    elif isinstance(part, dict):
        axis = (part.get("encoding") or {}).get(channel)
        if isinstance(axis, dict) and "type" in axis:
            yield axis["type"]
        for name in ("layer", "spec", "hconcat", "vconcat"):
            yield from _kinds(part.get(name, []), channel)


def _size(svg: str) -> tuple[float, float]:
    match = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if match is None:
        raise RuntimeError("vl-convert wrote an SVG without a view box")
    return float(match[1]), float(match[2])


def _boxed(svg: str, size: Size) -> str:
    """The drawing in a box of the size, in points: scaled to text of the size, and further down where it is too large."""
    width, height = _size(svg)
    box_width, most = size.width_mm * POINTS, size.height_mm * POINTS
    scale = min(size.scale, box_width / width, most / height)
    box_height = most if size.is_filled else scale * height
    left, top = (box_width - scale * width) / 2, (box_height - scale * height) / 2
    content = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    return (
        f'<svg xmlns="{SVG}" version="1.1" width="{box_width:.2f}" height="{box_height:.2f}" '
        f'viewBox="0 0 {box_width:.2f} {box_height:.2f}"><rect width="100%" height="100%" fill="white"/>'
        f'<g transform="translate({left:.3f},{top:.3f}) scale({scale:.5f})">{content}</g></svg>'
    )


def _in_millimetres(svg: str) -> str:
    """The same with its size on paper; its view box stays in points."""
    width, height = _size(svg)
    root = svg[: svg.index(">")]
    sized = re.sub(
        r' width="[\d.]+" height="[\d.]+"', f' width="{width / POINTS:.3f}mm" height="{height / POINTS:.3f}mm"', root
    )
    return sized + svg[svg.index(">") :]


def _readme(report: Report, folder: Path, size: Size) -> Iterator[str]:
    """Text of README.md, while every figure and table that it names is written."""
    yield f"# Figures: {markdown(report.title)}\n\nFor {size.about}, text of {size.text_points:g} points.\n"
    yield "The PDFs hold their font. In the SVGs text is paths, and nothing else is needed to show them.\n"
    last, any_table = "", False
    for chapter, section, figures, tables in report.contents():
        if chapter != last:
            yield f"\n# {markdown(chapter)}\n"
            last = chapter
        if figures or tables:
            yield f"\n## {markdown(section.title)}\n"
        for name, figure in figures:
            svg, pdf, whole = drawing(figure.spec, size)
            write_atomic(within(folder, f"{name}.svg"), svg)
            write_atomic(within(folder, f"{name}.pdf"), pdf)
            left = "" if whole else " The SVG keeps some text as text: no TrueType font has these characters."
            yield f"\n**`{name}.pdf`, `{name}.svg`**: {markdown(figure.description.rstrip('.'))}.{left}\n"
        for name, table in tables:
            write_atomic(within(folder, f"{name}.tex"), tabular(table.header, table.rows, foot=table.foot))
            any_table = True
            columns = ", ".join(filter(None, table.header))
            yield f"\n**`{name}.tex`**: a table of {len(table.rows)} rows: {markdown(columns)}.\n"
        if (figures or tables) and section.caption:
            yield f"\n*{markdown(section.caption)}*\n"
    if any_table:
        yield f"\nTables need `{PACKAGES}` and `\\usepackage[T1]{{fontenc}}`: `\\input{{{folder.name}/NAME}}`.\n"
    yield f"\n{MARK}\n"


def _about(report: Report, size: str, names: list[str]) -> dict[str, Any]:
    return {"muybridge": __version__, "title": report.title, "size": size, "files": names}


def _earlier(folder: Path) -> set[str]:
    """Files that an earlier call wrote there."""
    file = within(folder, NUMBERS)
    try:
        content = parsed_json(file.read_text(encoding="utf-8"), str(file))
    except (OSError, ValueError, UserError):
        return set()
    named = content.get("files") if isinstance(content, dict) and "muybridge" in content else None
    if not isinstance(named, list):
        return set()
    return {README, NUMBERS} | {
        name for name in named
        if isinstance(name, str) and Path(name).name == name and Path(name).suffix in ENDINGS
    }  # fmt: skip
