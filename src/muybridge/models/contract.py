"""The face of every model: `x_BCTHW` in, `logits_BK` out, `forward(x) = head(features(x))`.

B clips, C channels, T frames, H × W pixels, K classes, D features.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from muybridge.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """What RGB values of 0 to 1 must become for a network's weights: (x - mean) / std. It travels with them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class WeightedLogits(NamedTuple):
    """What a model may return in training instead of logits: N sets of them (auxiliary heads, time steps). The loss is
    the weighted sum of their cross-entropies; `logits_NBK[0]` is the model's answer."""

    logits_NBK: torch.Tensor
    weights_N: torch.Tensor


class VideoModel(nn.Module):
    """Base of every model.

    `features` gives f_BTD, T = 1 where a network leaves no time. `head` is dropout, a linear layer a frame, and the
    mean of the logits over time (2021 study, section 3).
    """

    input_kind = "clip"
    """"clip": x_BCTHW; "features": f_BTD."""
    preprocessing: Preprocessing = IMAGENET
    min_frames: int = 1
    """The shortest clip the network takes."""
    min_size: int = 1
    """The smallest height and width."""

    def __init__(self, num_features: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(num_features, num_classes)
        self.reset_classifier(num_classes)

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def head(self, f_BTD: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(f_BTD)).mean(1)

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor | WeightedLogits:
        self.check_input(x_BCTHW)
        return self.head(self.features(x_BCTHW))

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh linear layer for other classes."""
        self.fc = nn.Linear(self.num_features, num_classes).to(self.fc.weight.device, self.fc.weight.dtype)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def check_input(self, x_BCTHW: torch.Tensor) -> None:
        """Raises UserError where a clip is too short or too small, with the minimum."""
        name = type(self).__name__
        if x_BCTHW.dim() != 5:
            raise UserError(f"{name} takes clips (B,C,T,H,W); got shape {tuple(x_BCTHW.shape)}")
        frames, height, width = x_BCTHW.shape[2:]
        if frames < self.min_frames:
            raise UserError(f"{name} needs clips of at least {self.min_frames} frames; got {frames} (clip.num_frames)")
        if min(height, width) < self.min_size:
            raise UserError(
                f"{name} needs at least {self.min_size}x{self.min_size} pixels; got {height}x{width} (clip.size)"
            )
