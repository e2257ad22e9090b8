"""Checkpoints of TSM's authors (Lin et al. 2019, github.com/mit-han-lab/temporal-shift-module).

TSN and TSM on ResNets, plain or with non-local blocks.
"""

import re

from muybridge.errors import UserError
from muybridge.zoo.base import IMAGENET, VideoModel
from muybridge.zoo.temporal.shift import TemporalShift
from muybridge.zoo.weights.image_networks import frames_net
from muybridge.zoo.weights.source import Source, State

_SHIFTED = ".conv1.net.weight"
_RENAMED = (
    (re.compile(r"^base_model\."), ""),
    (re.compile(r"^new_fc\."), "fc."),
    (re.compile(r"\.conv1\.net\.weight$"), ".conv1.weight"),
    (re.compile(r"^(layer\d\.\d+)\.block\."), r"\1."),
    (re.compile(r"^(layer\d\.\d+)\.nl\.(theta|phi|g)\.(0\.)?(weight|bias)$"), r"\1.after.\2.\4"),
    (re.compile(r"^(layer\d\.\d+)\.nl\.W\.0\."), r"\1.after.out."),
    (re.compile(r"^(layer\d\.\d+)\.nl\.W\.1\."), r"\1.after.norm."),
)


def _recognises(state: State, model: VideoModel) -> bool:
    return "base_model.conv1.weight" in state and any(name.startswith("base_model.layer1.") for name in state)


def _convert(state: State, model: VideoModel) -> State:
    renamed: State = {}
    for name, tensor in state.items():
        for pattern, ours in _RENAMED:
            name = pattern.sub(ours, name)
        renamed[name] = tensor
    return frames_net(renamed)


def _check_shifts(state: State, model: VideoModel) -> None:
    """Raise UserError for a network that shifts in other blocks: a shift has no weights that would show it."""
    prefix = re.compile(r"^base_model\.|\.block(?=\.)")
    theirs = {prefix.sub("", name.removesuffix(_SHIFTED)) for name in state if name.endswith(_SHIFTED)}
    ours = {
        re.sub(r"^backbone\.|\.conv1\.[a-z_]*before$", "", name)
        for name, module in model.named_modules()
        if isinstance(module, TemporalShift)
    }
    if theirs and theirs != ours:
        raise UserError(
            f"weights: they are of a TSM that shifts in {len(theirs)} blocks, and the model shifts in {len(ours)}. "
            + (
                "Use tsm_resnet…"
                if not ours
                else "Use weights of this model (TSM's authors shift in every second block of a ResNet101)"
            )
        )


SOURCE = Source("TSM's authors", _recognises, _convert, IMAGENET, check=_check_shifts)
