"""Charts as files, SVG and PNG, drawn without a browser.

    python -m muybridge.reporting.render < CHARTS        a JSON list of [path, spec]

draws them in a process of its own: vl-convert keeps Python's lock while it draws, so that threads would not help.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import vl_convert

from muybridge.errors import UserError
from muybridge.runtime import processors
from muybridge.runtime.files import write_atomic
from muybridge.runtime.launch import module_process

STATIC_KEY_COLUMNS = 3
LONGEST_LABEL = 300
"""Pixels of a label in a legend; a longer one is cut."""
TALL = 1000
"""Pixels; a PNG of more is not enlarged."""
MANY = 12
"""Drawings; of more a second process draws half."""


def draw(path: Path, spec: dict[str, Any]) -> None:
    """`path`, without ending, as SVG and PNG: on white paper, with a key of its own."""
    svg = vl_convert.vegalite_to_svg(with_key(spec) | {"background": "white", "padding": 8})
    write_atomic(path.with_name(f"{path.name}.svg"), svg)
    scale = 1.0 if spec.get("height", 0) > TALL else 1.5
    write_atomic(path.with_name(f"{path.name}.png"), vl_convert.svg_to_png(svg, scale=scale))


@contextmanager
def drawn(drawings: Sequence[tuple[Path, dict[str, Any]]]) -> Iterator[None]:
    """When the block ends, all are drawn; many of them meanwhile. Raises UserError where a file cannot be written."""
    shared = len(drawings) > MANY and processors.left().jobs > 1
    theirs = drawings[1::2] if shared else ()
    with tempfile.TemporaryFile("w+") as charts, tempfile.TemporaryFile("w+") as errors:
        json.dump([[str(path), spec] for path, spec in theirs], charts)
        charts.seek(0)
        itself = module_process("muybridge.reporting.render")
        process = subprocess.Popen(**itself, stdin=charts, stderr=errors) if theirs else None
        try:
            yield
            for path, spec in drawings[::2] if shared else drawings:
                draw(path, spec)
            if process and process.wait():
                errors.seek(0)
                message = errors.read().strip()
                if process.returncode == 2:
                    raise UserError(message)
                raise RuntimeError(f"The process that draws ended with {process.returncode}: {message}")
        finally:
            if process:
                process.kill()
                process.wait()


def with_key(part: Any, *, columns: int = STATIC_KEY_COLUMNS, longest: float = LONGEST_LABEL) -> Any:
    """Give a chart a legend for the colours that the page has a key for.

    `columns`: of the legend; `longest`: pixels of a label, of which a longer one is cut.
    """
    if isinstance(part, list):
        return [with_key(one, columns=columns, longest=longest) for one in part]
    if not isinstance(part, dict):
        return part
    if (
        part.get("field") == "model"
        and "legend" in part
        and part["legend"] is None
        and "range" in part.get("scale", {})
    ):
        return {**part, "legend": {"orient": "bottom", "columns": columns, "labelLimit": longest, "title": None}}
    return {
        name: value if name == "data" else with_key(value, columns=columns, longest=longest)
        for name, value in part.items()
    }


def _main() -> None:
    for path, spec in json.load(sys.stdin):
        try:
            draw(Path(path), spec)
        except OSError as error:  # a full disk
            sys.stderr.write(f"{error.filename or path}: {error.strerror or error}")
            raise SystemExit(2) from None


if __name__ == "__main__":
    _main()
