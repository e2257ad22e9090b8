"""DeepMind's I3D against pytorch-i3d, S3D against torchvision. Odd lengths and sizes show how each of them pads."""

import importlib

import peers
import torch
from case import Case, Pair
from torch import nn

from muybridge.zoo import create


def _mean_logits(peer: nn.Module, clip_BCTHW: torch.Tensor) -> torch.Tensor:
    """pytorch-i3d leaves the mean over time to its caller (and squeezes 1 x 1 pixels)."""
    return peer(clip_BCTHW).flatten(2).mean(2)


def _i3d(in_channels: int, frames: int, height: int, width: int) -> Pair:
    peers.path("pytorch-i3d")
    peer = importlib.import_module("pytorch_i3d").InceptionI3d(400, in_channels=in_channels)
    ours = create("i3d", num_classes=400, num_frames=frames, in_channels=in_channels)
    return Pair(peer, ours, torch.randn(2, in_channels, frames, height, width), _mean_logits)


def _s3d(frames: int, height: int, width: int) -> Pair:
    peer = peers.torchvision().models.video.s3d(num_classes=400)
    ours = create("s3d", num_classes=400, num_frames=frames)
    return Pair(peer, ours, torch.randn(2, 3, frames, height, width), lambda peer, clip_BCTHW: peer(clip_BCTHW))


CASES = [
    Case("i3d", "pytorch-i3d, InceptionI3d (RGB)", lambda: _i3d(3, 16, 224, 224)),
    Case("i3d", "pytorch-i3d, InceptionI3d (RGB), odd sizes", lambda: _i3d(3, 19, 199, 213)),
    Case("i3d", "pytorch-i3d, InceptionI3d (flow)", lambda: _i3d(2, 16, 224, 224)),
    Case("s3d", "torchvision, s3d", lambda: _s3d(16, 224, 224)),
    Case("s3d", "torchvision, s3d, odd sizes", lambda: _s3d(19, 231, 243)),
]
