"""DeepMind's I3D as pytorch-i3d (piergiaj) converted it: `Mixed_3b.b1b.conv3d.weight`, `logits.conv3d.weight`.

Its files are of frames (`rgb_imagenet.pt`, `rgb_charades.pt`) and of flow (`flow_imagenet.pt`, `flow_charades.pt`), which
differ in the first layer: 3 or 2 channels.
"""

import re

from muybridge.errors import UserError
from muybridge.zoo.base import VideoModel
from muybridge.zoo.weights.source import Source, State

LAYERS = {"Conv3d_1a_7x7": "conv1", "Conv3d_2b_1x1": "conv2", "Conv3d_2c_3x3": "conv3"}
BRANCHES = {"b0": "branch1", "b1a": "branch2.0", "b1b": "branch2.1", "b2a": "branch3.0", "b2b": "branch3.1"} | {
    "b3b": "branch4.1"
}


def _recognises(state: State, model: VideoModel) -> bool:
    return "Conv3d_1a_7x7.conv3d.weight" in state


def _convert(state: State, model: VideoModel) -> State:
    return {
        _name(name): tensor.flatten(1) if name == "logits.conv3d.weight" else tensor for name, tensor in state.items()
    }


def _name(name: str) -> str:
    if name.startswith("logits.conv3d."):
        return f"fc.{name.removeprefix('logits.conv3d.')}"
    layer, _, rest = name.partition(".")
    block = re.fullmatch(r"Mixed_([345])([b-f])", layer)
    if block:
        branch, _, rest = rest.partition(".")
        if branch not in BRANCHES:
            return name
        ours = (
            f"inception{block[1]}{chr(ord(block[2]) - 1)}.{BRANCHES[branch]}"  # blocks begin with b there, with a here
        )
    elif layer in LAYERS:
        ours = LAYERS[layer]
    else:
        return name
    return f"backbone.{ours}.{rest.replace('conv3d.', 'conv.')}"


def _check(state: State, model: VideoModel) -> None:
    """Raise UserError for weights of flow in a network of other channels."""
    theirs = state["Conv3d_1a_7x7.conv3d.weight"].shape[1]
    if theirs == 2 and model.in_channels != theirs:
        raise UserError(
            f"weights (pytorch-i3d): they are for single fields of flow, of 2 channels, and this network takes "
            f"{model.in_channels}. Train on a store of flow (muybridge flow) with --set clip.stack=1"
        )


SOURCE = Source("pytorch-i3d", _recognises, _convert, check=_check)
