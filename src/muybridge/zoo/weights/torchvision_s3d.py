"""torchvision's S3D: `features.0.0.0.weight`, `features.5.branch1.1.0.0.weight`, `classifier.1.weight`."""

import re

from muybridge.zoo.backbones.inception_v1 import WIDTHS
from muybridge.zoo.base import VideoModel
from muybridge.zoo.weights.source import Source, State

BLOCKS = (5, 6, 8, 9, 10, 11, 12, 14, 15)
LAYERS = {"0": "conv1", "2": "conv2", "3": "conv3"} | {
    str(i): f"inception{name}" for i, name in zip(BLOCKS, WIDTHS, strict=True)
}
PARTS = {"0": "conv", "1": "bn", "0.0": "conv", "0.1": "bn", "1.0": "after.conv", "1.1": "after.bn"}
"""Parts of a unit, and of a separable one."""


def _recognises(state: State, model: VideoModel) -> bool:
    return "features.5.branch1.1.0.0.weight" in state


def _convert(state: State, model: VideoModel) -> State:
    return {
        _name(name): tensor.flatten(1) if name == "classifier.1.weight" else tensor for name, tensor in state.items()
    }


def _name(name: str) -> str:
    if name.startswith("classifier.1."):
        return f"fc.{name.removeprefix('classifier.1.')}"
    match = re.fullmatch(r"features\.(\d+)(?:\.branch(0|[123]\.\d))?\.(\d(?:\.\d)?)\.(\w+)", name)
    if not match or match[1] not in LAYERS or match[3] not in PARTS:
        return name
    layer, branch, part, tensor = match.groups()
    inside = f".branch{int(branch[0]) + 1}{branch[1:]}" if branch else ""  # branches begin with 0 there, with 1 here
    return f"backbone.{LAYERS[layer]}{inside}.{PARTS[part]}.{tensor}"


SOURCE = Source("torchvision's S3D", _recognises, _convert)
