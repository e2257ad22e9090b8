"""Checkpoints of the 2021 study (Chen et al., github.com/IBM/action-recognition-pytorch).

TAM, I3D and S3D on ResNets and InceptionV1. Its TSN is recognised as torchvision's image network, whose names it has.
"""

import re

import torch

from muybridge.zoo.base import HALF, IMAGENET, Preprocessing, VideoModel
from muybridge.zoo.weights.image_networks import frames_net
from muybridge.zoo.weights.source import Source, State

_TAM = re.compile(r"(.*)\btam(\w*)\.(?:blending_layers\.(\d+)|(prev|curr|next)_se)\.fc1\.weight")
"""TAM's frames, each a convolution of 1x1 there, are the taps of one convolution here."""
_THREE = {"prev": 0, "curr": 1, "next": 2}
_INCEPTION_SITES = {"1": "conv1", "2": "conv2", "3": "conv3"}
_FACTORISED = (
    (re.compile(r"\bconv(\d?)_t\."), r"bn\1.after.1."),
    (re.compile(r"\bbn(\d?)_t\."), r"bn\1.after.2."),
)
"""S3D: the temporal convolution and its norm come after the norm of the spatial one."""


def _convert(state: State, model: VideoModel) -> State:
    renamed: State = {}
    taps: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in state.items():
        match = _TAM.fullmatch(name)
        if match:
            block, site, tap, word = match.groups()
            layer = _INCEPTION_SITES.get(site, f"inception{site}")
            where = f"{layer}.after" if site else f"{block}conv1.before"
            taps.setdefault(f"{where}.conv.weight", {})[int(tap) if tap else _THREE[word]] = tensor
        else:
            for pattern, ours in _FACTORISED:
                name = pattern.sub(ours, name)
            renamed[name] = tensor
    for name, tensors in taps.items():
        renamed[name] = torch.cat([tensors[tap] for tap in sorted(tensors)], dim=2)  # (C,I,1,1) each
    return frames_net(renamed)


def _source(name: str, layer: str, preprocessing: Preprocessing) -> Source:
    def recognises(state: State, model: VideoModel) -> bool:
        return layer in state and (state[layer].dim() == 5 or any(_TAM.fullmatch(n) for n in state))

    return Source(name, recognises, _convert, preprocessing)


SOURCES = (
    _source("the 2021 study's ResNet", "layer1.0.conv1.weight", IMAGENET),
    _source("the 2021 study's InceptionV1", "inception3a.branch1.conv.weight", HALF),
)
