"""Write the drawings docs/networks/*.svg and the tables of costs in docs/networks.md.

    python docs/networks/make.py            # writes them
    python docs/networks/make.py --check    # exits with 1 where one differs from what it would write

Drawings are those of `muybridge models NAME --draw`, costs those of `muybridge models NAME`. Clips a second are read from
docs/benchmarks.md, where they were measured; where nobody measured, nothing stands.
"""

import re
import sys
from pathlib import Path

from muybridge.reporting.drawing import drawing
from muybridge.text import giga, millions
from muybridge.zoo.count import Cost, count, count_module, outline
from muybridge.zoo.structure import structure

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "networks.md"
BENCHMARKS = FOLDER.parent / "benchmarks.md"
CLASSES = 400
"""Kinetics-400's."""

NETWORKS = {
    "tsn_resnet50": (8, 224), "tsm_resnet50": (8, 224), "tam_resnet50": (8, 224), "nln_resnet50": (8, 224),
    "i3d_resnet50": (8, 224), "s3d_resnet50": (8, 224), "i3d": (64, 224), "s3d": (16, 224), "s3dv3": (64, 224),
    "slowfast_resnet50": (32, 224), "c3d": (16, 112), "c3d_small": (30, 64), "cnn_lstm": (30, 64), "vgg9": (30, 64),
    "lstm_resnet50": (16, 224), "tsn_vgg16": (8, 224), "tsn_inceptionv1": (8, 224), "tsn_inceptionv3": (8, 299),
    "tsn_mobilenet_v2": (8, 224), "tsn_efficientnet_lite0": (8, 224), "tsn_resnet_tiny": (8, 64),
}  # fmt: skip
"""Networks with a drawing and a row: frames and pixels of their clip."""
CHAPTERS = {
    "tsn": ("tsn_resnet50",), "tsm": ("tsm_resnet50",), "tam": ("tam_resnet50", "nln_resnet50"),
    "i3d": ("i3d_resnet50", "i3d"), "s3d": ("s3d_resnet50", "s3d", "s3dv3"), "slowfast": ("slowfast_resnet50",),
    "c3d": ("c3d", "c3d_small"), "cnn_lstm": ("cnn_lstm", "lstm_resnet50"),
    "images": (
        "tsn_vgg16", "tsn_inceptionv1", "tsn_inceptionv3", "tsn_mobilenet_v2", "tsn_efficientnet_lite0",
        "tsn_resnet_tiny", "vgg9",
    ),
}  # fmt: skip
"""Chapters, and the networks that are shown in each."""


def drawn(name: str) -> str:
    """The SVG of a network."""
    frames, size = NETWORKS[name]
    model = outline(name, num_classes=CLASSES, num_frames=frames)
    params, _, macs = count_module(model, num_frames=frames, size=size)
    found = structure(model, num_frames=frames, size=size).as_json()
    return drawing(
        {"model": name, "num_classes": CLASSES, "size": size, "params": params, "macs": macs, "structure": found}
    )


def costs() -> str:
    """The table of all networks that have a drawing."""
    head = ["| network | chapter | clip | parameters | conv MACs | MACs |", "| --- | --- | --- | --- | --- | --- |"]
    rows = []
    for chapter, names in CHAPTERS.items():
        for name in names:
            frames, size = NETWORKS[name]
            found = count(name, num_classes=CLASSES, num_frames=frames, size=size)
            clip = f"{frames} x {size} x {size}"
            where = f"[{chapter}](networks/{chapter}.md)"
            rows.append(
                f"| [`{name}`](networks/{name}.svg) | {where} | {clip} | {millions(found.params)} | "
                f"{giga(found.conv_macs)} | {giga(found.macs)} |"
            )
    return "\n".join([*head, *rows])


def speeds() -> str:
    """The networks that docs/benchmarks.md has clips a second of, with their costs for the clip measured there."""
    measured = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", _table_of_speeds(), flags=re.M)
    head = [
        "| network | parameters | MACs | training clips/s, bf16 | fp32 |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = []
    for name, bf16, fp32 in measured:
        found: Cost = count(name, num_classes=CLASSES, num_frames=8, size=112)
        rows.append(f"| `{name}` | {millions(found.params)} | {giga(found.macs)} | {bf16} | {fp32} |")
    return "\n".join([*head, *rows])


def _table_of_speeds() -> str:
    text = BENCHMARKS.read_text(encoding="utf-8")
    begin = text.index("| clips/s | bf16 | fp32 |")
    return text[begin : text.index("\n\n", begin)] + "\n"


def page() -> str:
    """docs/networks.md with its two tables made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("costs", costs()), ("speeds", speeds())):
        mark = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", flags=re.S)
        if not mark.search(text):
            sys.exit(f"{PAGE}: it has no <!-- {name} --> … <!-- /{name} -->. Put them in")
        text = mark.sub(lambda match, table=table: match[1] + table + match[2], text)
    return text


def main() -> int:
    """Write, or with --check compare; the exit status."""
    made = {FOLDER / f"{name}.svg": drawn(name) for name in NETWORKS} | {PAGE: page()}
    if "--check" not in sys.argv[1:]:
        for path, text in made.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    stale += [path for path in FOLDER.glob("*.svg") if path not in made]
    for path in stale:
        print(f"{path}: it differs from what `python docs/networks/make.py` writes")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
