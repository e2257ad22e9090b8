"""Published numbers beside ours: `python parity/fidelity.py` writes docs/fidelity.md and the table of all models.

`muybridge models` shows that table (src/muybridge/zoo/table.json). `published.csv` holds every figure (tests/zoo/test_count.py
reads the same file), `results.json` the results of run.py.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from muybridge.zoo.count import Cost, count, listing_by_class

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "fidelity.md"
TABLE = HERE.parent / "src" / "muybridge" / "zoo" / "table.json"

HEAD = """# Fidelity

Written by `python parity/fidelity.py`; tests hold every line of it.

Ours beside what was published, or counted in the published code. *Convolutions* are multiply-adds of convolutions alone,
which is what the 2021 study ("Deep Analysis of CNN-based Spatio-temporal Representations") calls FLOPs; *all* counts linear
layers and matrix products, too. For one clip. `muybridge measure MODEL` gives the same numbers for any input.
"""

NOTES = """
1. Printed as 33.6 G: the study's last max-pool has no padding in time and loses a frame. Here it is padded and all frames
   are kept, which costs what is shown. S3D's code has the same pool.
2. Printed as 196 G, which is no count for 8 frames. Of the published code: convolutions, and all products with keys and
   values sub-sampled or not.
3. Printed as 407 M in the TPU repository, which does not say of what. Of the package's network: convolutions and the linear
   layer.
"""


@dataclass(frozen=True)
class Figure:
    """One line of published.csv."""

    model: str
    source: str
    num_classes: int
    num_frames: int
    size: int
    temporal_pooling: bool
    options: tuple[tuple[str, Any], ...]
    figure: str
    """Field of a `Cost`: params, conv_macs or macs."""
    published: str
    """The figure as published: a whole number, or as rounded in print, 65.71 G."""

    def ours(self) -> int:
        """Our number."""
        return getattr(_cost(self), self.figure)

    def ours_as_published(self) -> str:
        """Ours, rounded as the published figure is."""
        if not self.published.endswith(" G"):
            return str(self.ours())
        digits = len(self.published.removesuffix(" G").partition(".")[2])
        return f"{self.ours() / 1e9:.{digits}f} G"


def figures() -> list[Figure]:
    """Every line of published.csv."""
    with (HERE / "published.csv").open(newline="", encoding="utf-8") as file:
        return [
            Figure(
                row["model"], row["source"], int(row["num_classes"]), int(row["num_frames"]), int(row["size"]),
                row["temporal_pooling"] == "yes", tuple(_options(row["options"])), row["figure"], row["published"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def _options(text: str) -> Iterator[tuple[str, Any]]:
    for part in text.split():
        name, _, value = part.partition("=")
        yield name, json.loads(value)


def _cost(figure: Figure) -> Cost:
    return _count(
        figure.model, figure.num_classes, figure.num_frames, figure.size, figure.temporal_pooling, figure.options
    )


@cache
def _count(name: str, num_classes: int, num_frames: int, size: int, pooling: bool, options: tuple[Any, ...]) -> Cost:
    return count(
        name, num_classes=num_classes, num_frames=num_frames, size=size, temporal_pooling=pooling, **dict(options)
    )


def page() -> str:
    """The Markdown of docs/fidelity.md."""
    return "\n".join([HEAD, *_published(), NOTES, *_proofs()]) + "\n"


def _published() -> Iterator[str]:
    yield "| model | source | input | | published | ours |"
    yield "|---|---|---|---|---:|---:|"
    kinds = {"params": "parameters", "conv_macs": "convolutions", "macs": "all"}
    for figure in figures():
        shape = f"{figure.num_frames}x{figure.size}x{figure.size}, {figure.num_classes} classes"
        if figure.temporal_pooling:
            shape += ", temporal pooling"
        shape += "".join(f", {name}={json.dumps(value)}" for name, value in figure.options)
        published = figure.published if figure.published.endswith("G") else f"{int(figure.published):,}"
        yield (
            f"| {figure.model} | {figure.source} | {shape} | {kinds[figure.figure]} | {published} | {figure.ours():,} |"
        )


def _proofs() -> Iterator[str]:
    """Lines of the results of parity/run.py."""
    results = HERE / "results.json"
    if not results.exists():
        return
    yield "## The same answers\n"
    yield "The same random weights and the same clips in another code base's network and in ours, in float64"
    yield "(`python parity/run.py --json`; [how](../parity/README.md)). The difference is to the largest logit.\n"
    yield "| model | other network | clips (B,C,T,H,W) | tensors | largest difference |"
    yield "|---|---|---|---:|---:|"
    content = json.loads(results.read_text(encoding="utf-8"))
    for result in content["results"] if isinstance(content, dict) else content:
        clip = "x".join(str(n) for n in result["clip"])
        yield (
            f"| {result['name']} | {result['origin']} | {clip} | {result['tensors']} | {result['relative_difference']:.0e} |"
        )


def table() -> str:
    """JSON of all models, a line each."""
    return "[\n" + ",\n".join(map(json.dumps, listing_by_class())) + "\n]\n"


if __name__ == "__main__":
    for file, text in ((PAGE, page()), (TABLE, table())):
        file.write_text(text, encoding="utf-8")
        print(file)
