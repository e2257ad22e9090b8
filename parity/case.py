"""One proof: the same random weights in a peer's network and in ours, the same clip, the same answer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from muybridge.zoo import VideoModel


@dataclass(frozen=True)
class Pair:
    """Both networks, built.

    `run.py` draws the peer's weights and running statistics, hands its state dict to `load_weights`, and compares the
    answers in eval mode and float64.
    """

    peer: nn.Module
    ours: VideoModel
    clip_BCTHW: torch.Tensor
    """The clips, as ours takes them."""
    answer: Callable[[nn.Module, torch.Tensor], torch.Tensor]
    """answer(peer, clip_BCTHW): the peer's logits (B,K) of the same clip, in whatever layout it takes it."""


@dataclass(frozen=True)
class Case:
    """A proof by name, built when it is run."""

    name: str
    """The name of ours, as `create` takes it."""
    origin: str
    """The peer: package or repository, and its network."""
    make: Callable[[], Pair]
