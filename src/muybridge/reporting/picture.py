"""One chart as one file: SVG, PNG, or an HTML page that opens offline."""

from pathlib import Path

import vl_convert

from muybridge.errors import UserError
from muybridge.reporting.charts.style import Chart, themed
from muybridge.runtime.files import write_atomic

ENDINGS = (".svg", ".png", ".html")


def check_picture(path: Path) -> None:
    """Raise UserError for a path that a picture cannot be written to, or that holds a file."""
    if path.suffix not in ENDINGS:
        raise UserError(
            f"--out: '{path}' does not end as a picture does. Name a file that ends in {', '.join(ENDINGS)}"
        )
    for file in (path, path.with_suffix(".json")):
        if file.exists() or file.is_symlink():
            raise UserError(f"{file}: it exists already. Choose another --out")


def write_picture(path: Path, chart: Chart) -> None:
    """Draw a chart on white paper, in the format that the ending names."""
    spec = themed(chart) | {"background": "white", "padding": 8}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        write_atomic(path, vl_convert.vegalite_to_html(spec, bundle=True))
        return
    svg = vl_convert.vegalite_to_svg(spec)
    write_atomic(path, svg if path.suffix == ".svg" else vl_convert.svg_to_png(svg, scale=1.5))
