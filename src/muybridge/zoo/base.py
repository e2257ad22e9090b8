"""The interface of every model: `x_BCTHW` in, `logits_BK` out, `forward(x) = head(features(x))`.

B clips, C channels, T frames, H × W pixels, K classes, D features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from muybridge.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation of channel values of 0 to 1 that a network's weights expect, (x - mean) / std; stored with them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Inception networks. (torchvision's take ImageNet's and turn it into this one before their first layer.)"""
KINETICS = Preprocessing((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
"""torchvision's video networks."""


class Clips(NamedTuple):
    """Clips that weights are made for: frames `stride_frames` apart, `size` pixels high and wide."""

    num_frames: int
    size: int
    stride_frames: int
    fps: float | None = None
    """Frame rate at which the stride is counted; None: the video's own."""

    def __str__(self) -> str:
        apart = f", {self.stride_frames} apart" if self.stride_frames > 1 else ""
        rate = f" at {self.fps:g} frames a second" if self.fps else ""
        return f"{self.num_frames} frames of {self.size}x{self.size}{apart}{rate}"


@dataclass(frozen=True)
class Published:
    """Weights that their authors offer for download."""

    url: str
    sha256: str
    """The file's: all 64 hex digits, or as many as the authors publish (torchvision: the eight in the file's name)."""
    preprocessing: Preprocessing
    about: str
    """The authors, and what they trained on."""
    clips: Clips | None = field(default=None, kw_only=True)
    """The clips that they are made for (images are clips of one frame); None: not known."""
    classes: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the classes, in the order of the classifier; empty: not known."""


@dataclass(frozen=True)
class LibraryWeights(Published):
    """Weights that `fetch` brings and checks: a library's (timm, Hugging Face's; `sha256` is empty), or a package's."""

    fetch: Callable[[bool], dict[str, torch.Tensor]]
    """fetch(whole): the tensors, by the names of the model's `state_dict()`.

    Weights of a 2D convolution may stand for those of a 3D one. The classifier is there if the weights have one. With
    `whole` False: only the tensors that the library's network takes.
    """


class WeightedLogits(NamedTuple):
    """N sets of logits (auxiliary heads, time steps), which a model may return in training instead of one.

    The loss is the weighted sum of their cross-entropies; `logits_NBK[0]` is the model's answer.
    """

    logits_NBK: torch.Tensor
    weights_N: torch.Tensor
    """(N,), or (N,B) where they differ between clips."""


class VideoModel(nn.Module):
    """Base class of every model.

    `features` gives f_BTD, T = 1 where a network leaves no time. `head` is dropout, a linear layer on each frame, and the
    mean of the logits over time (2021 study, section 3).

    A model of stored vectors sets `input_kind` to "features" and gets f_BTD, D = `in_channels`, in the place of clips::

        class Recurrent(VideoModel):
            input_kind = "features"

            def __init__(self, *, num_classes, in_channels, dropout=0.5):
                super().__init__(256, num_classes, dropout=dropout, in_channels=in_channels)
                self.rnn = nn.GRU(in_channels, 256, batch_first=True)

            def features(self, f_BTD):
                return self.rnn(f_BTD)[0]
    """

    name: str = ""
    """The name that `create` was called with, for messages."""
    input_kind: Literal["clip", "features"] = "clip"
    """Input of the network: "clip" x_BCTHW, or "features" f_BTD; C or D is `in_channels`."""
    looks_at: Literal["clip", "frame", "past"] = "clip"
    """Reach of the features: "frame" means that those of a frame are the same in every clip; only the head sees time.

    "past": a frame's see it and the frames before, and what looks back does so by `muybridge.zoo.memory`.
    """
    preprocessing: Preprocessing = IMAGENET
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of the classifier, kept with the weights; empty: not known."""
    in_channels: int = 3
    min_frames: int = 1
    """The shortest clip that the network takes."""
    frames_multiple: int = 1
    """Number of frames that the length of a clip must be a multiple of."""
    usual_frames: int | None = None
    """The clip length that the network's weights are made for, where it takes others, too."""
    min_size: int = 1
    """The smallest height and width."""
    fixed_frames: int | None = None
    """The only clip length that the network takes, where its weights are made for one."""
    fixed_size: int | None = None
    """The only height and width that the network takes, likewise."""
    loss_weight: float = 1.0
    """Sum of the weights of the losses in training: that of `WeightedLogits.weights_N`, where `forward` returns them."""
    num_copies: int = 1
    """Networks in this one that are trained side by side (`muybridge.zoo.candidates`)."""
    chosen: int = 0
    """Index of the copy that answers."""
    averages_features: bool = False
    """Average the features over time before the classifier, instead of the logits after it.

    The answer is the same, except with dropout in training.
    """
    image_network: str = "backbone"
    """Name of the submodule that has grown from an image network; a model without one has no such module."""
    published: Mapping[str, Published] = {}
    """Public weights by what they were trained on: "imagenet", "kinetics400"."""

    def __init__(self, num_features: int, num_classes: int, *, dropout: float, in_channels: int | None = None) -> None:
        """`num_features`: D of the features. `in_channels`: of the clips; None: those of the class."""
        super().__init__()
        if in_channels is not None:
            self.in_channels = in_channels
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(num_features, num_classes)
        self.reset_classifier(num_classes)

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Features f_BTD of clips; a subclass computes them."""
        raise NotImplementedError

    def head(self, f_BTD: torch.Tensor) -> torch.Tensor:
        """Logits (B,K) of features f_BTD."""
        if self.averages_features:
            f_BTD = f_BTD.mean(1, keepdim=True)
        return self.fc(self.dropout(f_BTD)).mean(1)

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor | WeightedLogits:
        """Logits (B,K) of clips. Raises UserError for clips that do not fit."""
        self.check_input(x_BCTHW)
        return self.head(self.features(x_BCTHW))

    def zeros(self, num_frames: int, size: int, *, batch_size: int = 1, device: Any = None) -> torch.Tensor:
        """A batch of zeros in the shape that the network takes."""
        if self.input_kind == "features":
            return torch.zeros(batch_size, num_frames, self.in_channels, device=device)
        return torch.zeros(batch_size, self.in_channels, num_frames, size, size, device=device)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a fresh linear layer for other classes."""
        self.fc = nn.Linear(self.num_features, num_classes).to(self.fc.weight.device, self.fc.weight.dtype)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def classifier_names(self) -> tuple[str, ...]:
        """Parameters that depend on the number of classes, which weights for another number cannot fill."""
        return ("fc.weight", "fc.bias")

    def fresh_names(self) -> tuple[str, ...]:
        """Parameters that stay fresh, and the classifier with them, where other people's weights have none of them."""
        return ()

    def check_input(self, x_BCTHW: torch.Tensor) -> None:
        """Raise UserError for clips (or vectors) that do not fit the network, with what would."""
        name = self.name or type(self).__name__
        if self.input_kind == "features":
            if x_BCTHW.dim() != 3 or x_BCTHW.shape[0] < 1 or x_BCTHW.shape[2] != self.in_channels:
                raise UserError(
                    f"{name}: the input has shape {tuple(x_BCTHW.shape)}. Give vectors (B,T,{self.in_channels}), at "
                    "least one"
                )
            self.check_frames(x_BCTHW.shape[1])
            return
        if x_BCTHW.dim() != 5 or x_BCTHW.shape[0] < 1:
            raise UserError(f"{name}: the input has shape {tuple(x_BCTHW.shape)}. Give clips (B,C,T,H,W), at least one")
        channels, frames, height, width = x_BCTHW.shape[1:]
        if channels != self.in_channels:
            raise UserError(
                f"{name}: it takes {self.in_channels} channels, but got {channels}. Choose another clip.modality or "
                "model"
            )
        self.check_frames(frames)
        if self.fixed_size is not None and (height, width) != (self.fixed_size, self.fixed_size):
            raise UserError(
                f"{name}: it takes {self.fixed_size}x{self.fixed_size} pixels, but got {height}x{width}. Set "
                f"clip.size={self.fixed_size} (and evaluation.size, where it is set)"
            )
        if min(height, width) < self.min_size:
            raise UserError(
                f"{name}: it needs at least {self.min_size}x{self.min_size} pixels, but got {height}x{width}. Raise "
                "clip.size (and evaluation.size, where it is set)"
            )

    def check_frames(self, frames: int) -> None:
        """Raise UserError for a clip length that the network does not take."""
        name = self.name or type(self).__name__
        if self.fixed_frames is not None and frames != self.fixed_frames:
            raise UserError(
                f"{name}: it takes clips of {self.fixed_frames} frames, but got {frames}. Set "
                f"clip.num_frames={self.fixed_frames}"
            )
        if frames % self.frames_multiple and frames > self.min_frames:
            below = frames - frames % self.frames_multiple
            raise UserError(
                f"{name}: it takes clips of a multiple of {self.frames_multiple} frames, but got {frames}. Set "
                f"clip.num_frames={below} or {below + self.frames_multiple}"
            )
        if frames < self.min_frames:
            raise UserError(
                f"{name}: it needs clips of at least {self.min_frames} frames, but got {frames}. Raise clip.num_frames"
            )
