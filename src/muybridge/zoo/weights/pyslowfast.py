"""PySlowFast's SlowFast, Slow, I3D and X3D (github.com/facebookresearch/SlowFast)."""

import re

from muybridge.zoo.base import VideoModel
from muybridge.zoo.networks.video_resnets import GREY
from muybridge.zoo.weights.source import Source, State

_MODULE = re.compile(r"s(\d)\.pathway(\d)_(?:stem|res(\d+))\.(.+)")
_FUSION = re.compile(r"s(\d)_fuse\.(conv_f2s|bn)")
_IN_BLOCKS = {
    "branch1": "downsample.0", "branch1_bn": "downsample.1",
    "branch2.a": "conv1", "branch2.a_bn": "bn1",
    "branch2.b": "conv2", "branch2.b_bn": "bn2",
    "branch2.se.fc1": "se.fc1", "branch2.se.fc2": "se.fc2",
    "branch2.c": "conv3", "branch2.c_bn": "bn3",
}  # fmt: skip
_STEM = {"conv": "conv1", "bn": "bn1"}
_X3D_STEM = {"conv_xy": "conv1.0", "conv": "conv1.1", "bn": "bn1"}
_HEAD = {
    "head.projection": "fc", "head.conv_5": "backbone.conv5", "head.conv_5_bn": "backbone.bn5",
    "head.lin_5": "backbone.linear5",
}  # fmt: skip


def _recognises(state: State, model: VideoModel) -> bool:
    return "s1.pathway0_stem.conv.weight" in state and "s2.pathway0_res0.branch2.a.weight" in state


def _convert(state: State, model: VideoModel) -> State:
    two = any(name.startswith("s1.pathway1_") for name in state)
    pathways = ("slow", "fast") if two else ("backbone",)
    stem = _X3D_STEM if "s1.pathway0_stem.conv_xy.weight" in state else _STEM
    return {_renamed(name, pathways, stem): tensor for name, tensor in state.items()}


def _renamed(name: str, pathways: tuple[str, ...], stem: dict[str, str]) -> str:
    module, _, tensor = name.rpartition(".")
    if module in _HEAD:
        return f"{_HEAD[module]}.{tensor}"
    fusion = _FUSION.fullmatch(module)
    if fusion:
        return f"lateral.{int(fusion[1]) - 1}.{'bn' if fusion[2] == 'bn' else 'conv'}.{tensor}"
    match = _MODULE.fullmatch(module)
    if match:
        stage, pathway, index, part = match.groups()
        if index is None and part in stem:
            return f"{pathways[int(pathway)]}.{stem[part]}.{tensor}"
        if index is not None and part in _IN_BLOCKS:
            return f"{pathways[int(pathway)]}.layer{int(stage) - 1}.{index}.{_IN_BLOCKS[part]}.{tensor}"
    return name


SOURCE = Source("PySlowFast", _recognises, _convert, GREY)
