"""torchvision's video ResNets: `r3d_18`, `mc3_18`, `r2plus1d_18`."""

import re

from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.base import KINETICS, VideoModel
from muybridge.zoo.weights.image_networks import frames_net
from muybridge.zoo.weights.source import Source, State

_STEM = ((re.compile(r"^stem\.0\."), "conv1."), (re.compile(r"^stem\.1\."), "bn1."))
_FACTORISED_STEM = ((re.compile(r"^stem\.4\."), "bn1."), (re.compile(r"^stem\."), "conv1."))
_BLOCKS = (
    (re.compile(r"^(layer\d\.\d+)\.conv(\d)\.1\."), r"\1.bn\2."),
    (re.compile(r"^(layer\d\.\d+\.conv\d)\.0\."), r"\1."),
)


def _recognises(state: State, model: VideoModel) -> bool:
    return "stem.0.weight" in state and any(name.startswith("layer1.0.conv1.0.") for name in state)


def _check_stem(state: State, model: VideoModel) -> None:
    if isinstance(getattr(getattr(model, "backbone", None), "maxpool", None), nn.MaxPool2d):
        raise UserError(
            f"weights ({SOURCE.name}): they are of a network without a pool behind its stem, and this one has that "
            "pool. Use r3d_resnet18, mc3_resnet18 or r2plus1d_resnet18"
        )


def _convert(state: State, model: VideoModel) -> State:
    rules = (*(_FACTORISED_STEM if "stem.4.weight" in state else _STEM), *_BLOCKS)
    renamed: State = {}
    for name, tensor in state.items():
        for pattern, ours in rules:
            name = pattern.sub(ours, name)
        renamed[name] = tensor
    return frames_net(renamed)


SOURCE = Source("torchvision's video ResNets", _recognises, _convert, KINETICS, check=_check_stem)
