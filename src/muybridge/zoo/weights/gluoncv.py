"""GluonCV's I3D-ResNet50 v1 for PyTorch."""

import re

from muybridge.zoo.base import IMAGENET, VideoModel
from muybridge.zoo.weights.source import Source, State

_STEM = {"0": "conv1", "1": "bn1"}
_NAME = re.compile(r"(first_stage|res_layers)\.(\d)\.(.+)")


def _recognises(state: State, model: VideoModel) -> bool:
    return "first_stage.0.weight" in state and any(name.startswith("res_layers.") for name in state)


def _renamed(name: str) -> str:
    match = _NAME.fullmatch(name)
    if match is None:
        return name  # the classifier, fc, which head.1 repeats
    part, number, rest = match.groups()
    if part == "first_stage":
        return f"backbone.{_STEM[number]}.{rest}" if number in _STEM else name
    return f"backbone.layer{int(number) + 1}.{rest}"


def _convert(state: State, model: VideoModel) -> State:
    return {_renamed(name): tensor for name, tensor in state.items()}


SOURCE = Source("GluonCV", _recognises, _convert, IMAGENET, leaves_out=("head.",))
