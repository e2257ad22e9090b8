"""PyTorchVideo's SlowFast, Slow, I3D and X3D."""

import re

from muybridge.zoo.base import VideoModel
from muybridge.zoo.networks.video_resnets import GREY
from muybridge.zoo.weights.source import Source, State

EPS = 1e-5
"""Epsilon of batch norms: a variance of 1 is 1 - EPS and it."""

_MODULE = re.compile(r"blocks\.(\d+)\.(?:multipathway_blocks\.(\d)\.)?(?:res_blocks\.(\d+)\.)?(.+)")
_PATHWAYS = {None: "backbone", "0": "slow", "1": "fast"}
_IN_BLOCKS = {
    "branch1_conv": "downsample.0", "branch1_norm": "downsample.1",
    "branch2.conv_a": "conv1", "branch2.norm_a": "bn1",
    "branch2.conv_b": "conv2", "branch2.norm_b": "bn2", "branch2.norm_b.0": "bn2",
    "branch2.norm_b.1.block.0": "se.fc1", "branch2.norm_b.1.block.2": "se.fc2",
    "branch2.conv_c": "conv3", "branch2.norm_c": "bn3",
}  # fmt: skip
_OUTSIDE = {
    "conv": "conv1", "norm": "bn1",
    "conv.conv_t": "conv1.0", "conv.conv_xy": "conv1.1",  # X3D's spatial one is called conv_t there
    "pool.pre_conv": "conv5", "pool.pre_norm": "bn5", "pool.post_conv": "linear5",
}  # fmt: skip
_FUSION = {"multipathway_fusion.conv_fast_to_slow": "conv", "multipathway_fusion.norm": "bn"}


_FIRST_SHORTCUT = "backbone.layer1.0.downsample"
"""X3D's has no norm there, and gets the one that changes nothing."""


def _recognises(state: State, model: VideoModel) -> bool:
    return any(name.startswith("blocks.") and ".branch2.conv_a." in name for name in state)


def _convert(state: State, model: VideoModel) -> State:
    numbers = {match[1] for name in state if (match := _MODULE.match(name)) and match[3]}
    stages = {block: stage for stage, block in enumerate(sorted(numbers, key=int), start=1)}  # a pool may lie between
    renamed = {_renamed(name, stages): tensor for name, tensor in state.items()}
    is_x3d = any(".se." in name for name in renamed)
    first = renamed.get(f"{_FIRST_SHORTCUT}.0.weight")
    if is_x3d and first is not None and not any(name.startswith(f"{_FIRST_SHORTCUT}.1.") for name in renamed):
        ones, zeros = first.new_ones(len(first)), first.new_zeros(len(first))
        norm = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones - EPS}
        renamed |= {f"{_FIRST_SHORTCUT}.1.{key}": value for key, value in norm.items()}
    return renamed


def _renamed(name: str, stages: dict[str, int]) -> str:
    module, _, tensor = name.rpartition(".")
    match = _MODULE.fullmatch(module)
    if not match:
        return name
    block, pathway, index, part = match.groups()
    if part == "proj":
        return f"fc.{tensor}"
    if part in _FUSION:
        return f"lateral.{block}.{_FUSION[part]}.{tensor}"
    if index is not None and part in _IN_BLOCKS:
        return f"{_PATHWAYS[pathway]}.layer{stages[block]}.{index}.{_IN_BLOCKS[part]}.{tensor}"
    if index is None and part in _OUTSIDE:
        return f"{_PATHWAYS[pathway]}.{_OUTSIDE[part]}.{tensor}"
    return name


SOURCE = Source("PyTorchVideo", _recognises, _convert, GREY)
