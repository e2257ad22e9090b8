"""Export of every family: does the graph answer as the network does? Prints a table for docs/use.md.

    OMP_NUM_THREADS=1 python benchmarks/export.py                    # every family as ONNX
    OMP_NUM_THREADS=1 python benchmarks/export.py tsm_resnet_tiny --to torch openvino onnx

Weights are random, with a classifier whose logits go to about 6. Clips are made ones. What is compared, and the bound, are
those of `muybridge export`: probabilities, and logits in shares of the largest, of one video and of seven.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from muybridge import build
from muybridge.errors import UserError
from muybridge.evaluation.trained import Trained
from muybridge.inference.clips import tried
from muybridge.inference.export import parity, references
from muybridge.inference.formats import SUFFIXES, WRITERS, load
from muybridge.inference.graph import graph_of
from muybridge.recipe import Recipe, replace
from muybridge.zoo.families import BACKBONES, METHODS
from muybridge.zoo.heads import HEADS
from muybridge.zoo.registry import entries, entry

CLASSES = ("left", "right", "up", "down", "still")
MIRROR = {"left": "right", "right": "left"}
LARGEST_LOGIT = 6.0
VALUES = 64
"""Numbers of a stored vector."""


def families() -> list[str]:
    """Every method and head over the tiny network, TSM over every other, every head alone, all networks of papers."""
    over = {f"{kind}_{backbone}" for kind in (*METHODS, *HEADS) for backbone in BACKBONES}
    own = [about.name for about in entries() if about.name not in over and about.name not in HEADS]
    methods = [f"{method}_resnet_tiny" for method in METHODS]
    others = [f"tsm_{backbone}" for backbone in BACKBONES if backbone != "resnet_tiny"]
    return [*methods, *others, *HEADS, *(f"{head}_resnet_tiny" for head in HEADS), *own]


def recipe_of(name: str) -> Recipe:
    """A small recipe of a family: ten crops where the network is small."""
    about = entry(name)
    if name in HEADS:
        changes = {"clip.modality": f"features:{VALUES}", "augment.flip_probability": 0.0}
    else:
        tiny = name.endswith("_tiny")
        size = max(64 if tiny else 32, about.min_size)
        changes = {"clip.size": size, "evaluation.num_crops": 10 if tiny else 1}
    frames = max(8, about.min_frames)
    return replace(Recipe(), {
        "model.name": name, "clip.num_frames": frames, "clip.sampling": "dense", "data.manifest": "gone.csv",
        "precision": "fp32", **changes,
    })  # fmt: skip


def network_of(name: str, recipe: Recipe) -> Trained:
    """A network with random weights, as if it were trained."""
    net = build.model(recipe, len(CLASSES), pretrained=False).eval()
    dataset = {"classes": list(CLASSES), "mirror": MIRROR, "longest_trained_seconds": 1.0}
    return Trained(name, recipe, dataset, lambda which: net)


def stretch(net: torch.nn.Module, reference: list) -> None:
    """Scale the classifier, so that the largest logit is about LARGEST_LOGIT."""
    largest = max(abs(logits_VK).max() for _, logits_VK in reference)
    with torch.no_grad():
        net.fc.weight *= LARGEST_LOGIT / float(largest)


def row(name: str, to: str, folder: Path) -> str:
    """Line of the table."""
    start = time.perf_counter()
    try:
        recipe = recipe_of(name)
        network = network_of(name, recipe)
        shown_to, graph = tried(network, recipe, None), graph_of(network, recipe)
        stretch(graph.model, references(network, recipe, graph, shown_to)[0])
        file = folder / f"{name}{SUFFIXES[to]}"
        WRITERS[to](graph, recipe, {}, file)
        reference, frames = references(network, recipe, graph, shown_to)
        found = parity(load(to, file), frames, reference, where=name)
        size = sum(each.stat().st_size for each in folder.glob(f"{name}.*"))
        one, many = found.values()
        told = f"{one:.1e} | {many:.1e} | {size / 1e6:.1f}"
    except UserError as error:
        told = f"— | — | {str(error)[:160]}"
    shape = "x".join(map(str, frames[0].shape)) if "—" not in told else ""
    return f"| `{name}` | {to} | {shape} | {told} | {time.perf_counter() - start:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--to", nargs="+", default=["onnx"], choices=SUFFIXES)
    arguments = parser.parse_args()
    print("| network | to | a video's input | at 1 | at 7 | MB | seconds |\n|---|---|---|--:|--:|--:|--:|", flush=True)
    for name in arguments.names or families():
        for to in arguments.to:
            with tempfile.TemporaryDirectory() as folder:
                print(row(name, to, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
