"""Two networks for small clips, 30 frames of 64 x 64 (UCF-11; a course project of 2019).

A small convolutional network on each frame, then one layer over the outputs of all frames. What the project leaves open is
our choice, marked "ours".
"""

from typing import Literal

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.base import VideoModel
from muybridge.zoo.networks.c3d import SMALL_FRAMES, SMALL_SIZE, draw_layers
from muybridge.zoo.registry import register
from muybridge.zoo.temporal.frames import draw_weights
from muybridge.zoo.volumes import refuse_temporal_pooling

LABELS = 500
"""Outputs of the fully connected layer on each frame."""


class SmallClips(VideoModel):
    """A network on each frame: `convs` gives feature maps, `rest` makes f_BTD of the flattened maps, D = `num_outputs`.

    `flatten`: the classifier is one layer over the outputs of all frames, which fixes their number; otherwise over each
    frame's, and the logits are averaged.
    """

    def __init__(
        self,
        convs: nn.Module,
        rest: nn.Module,
        num_outputs: int,
        *,
        num_classes: int,
        num_frames: int,
        size: int,
        dropout: float,
        in_channels: int = 3,
        flatten: bool = True,
    ) -> None:
        num_features = num_outputs * (num_frames if flatten else 1)
        super().__init__(num_features, num_classes, dropout=dropout, in_channels=in_channels)
        self.convs, self.rest = convs, rest
        self.fixed_frames, self.fixed_size = num_frames if flatten else None, size
        self._flatten = flatten
        draw_weights(convs)
        draw_layers(rest.modules())
        for name, parameter in rest.named_parameters():
            if ".bias_" in name:  # of an LSTM
                nn.init.zeros_(parameter)

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to f_BTD; T = 1 if flattened."""
        f_NP = self.convs(x_BCTHW.transpose(1, 2).flatten(0, 1)).flatten(1)
        f_BTD = self.rest(f_NP.unflatten(0, (x_BCTHW.shape[0], -1)))
        return f_BTD.flatten(1)[:, None] if self._flatten else f_BTD


class AllOutputs(nn.LSTM):
    """An LSTM that returns the outputs of all steps, without the last state."""

    def forward(self, f_BTD: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Sequence f_BTD to the outputs of all steps."""
        return super().forward(f_BTD)[0]


def conv_layers(
    stages: tuple[tuple[tuple[int, int], ...], ...], size: int, name: str, *, in_channels: int = 3
) -> tuple[nn.Sequential, int]:
    """Stages of (kernel, width) with ReLU, a 2 x 2 max-pool after each; and how many numbers they leave of an image.

    Raises UserError where they leave nothing.
    """
    layers: list[nn.Module] = []
    channels, side = in_channels, size
    for stage in stages:
        for kernel, width in stage:
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
            channels, side = width, side + 2 * (kernel // 2) - kernel + 1
        layers.append(nn.MaxPool2d(2))
        side //= 2
    if side < 1:
        raise UserError(
            f"{name}: {len(stages)} pools leave nothing of {size}x{size} pixels. Raise the model option size"
        )
    return nn.Sequential(*layers), channels * side**2


def vgg9(
    *,
    num_classes: int,
    num_frames: int = SMALL_FRAMES,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
    size: int = SMALL_SIZE,
    fusion: Literal["linear", "mean"] = "linear",
) -> VideoModel:
    """VGG9 on each frame, for clips of `num_frames` x `size` x `size`.

    Nine layers with weights, widths 64 doubling after each pool, two layers of 2048, 500 outputs a frame. `fusion`:
    "linear", one layer over the outputs of all frames; "mean", the mean of the frames' logits, for any number of frames.

    Ours: VGG11's convolutions (Simonyan and Zisserman 2014) without its last stage; ReLU after the 500 outputs, as two
    linear layers in a row would be one.
    """
    refuse_temporal_pooling("vgg9", temporal_pooling)
    if fusion not in ("linear", "mean"):
        raise UserError(f"vgg9: fusion '{fusion}' is unknown. Choose linear or mean")
    stages = (((3, 64),), ((3, 128),), ((3, 256), (3, 256)), ((3, 512), (3, 512)))
    convs, left = conv_layers(stages, size, "vgg9", in_channels=in_channels)
    rest = nn.Sequential(
        nn.Linear(left, 2048), nn.ReLU(inplace=True), nn.Dropout(dropout),
        nn.Linear(2048, 2048), nn.ReLU(inplace=True), nn.Dropout(dropout),
        nn.Linear(2048, LABELS), nn.ReLU(inplace=True),
    )  # fmt: skip
    model = SmallClips(
        convs, rest, LABELS, num_classes=num_classes, num_frames=num_frames, size=size, dropout=dropout,
        in_channels=in_channels, flatten=fusion == "linear",
    )  # fmt: skip
    model.looks_at = "clip" if fusion == "linear" else "frame"
    return model


def cnn_lstm(
    *,
    num_classes: int,
    num_frames: int = SMALL_FRAMES,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
    size: int = SMALL_SIZE,
) -> VideoModel:
    """CNN-LSTM, for clips of `num_frames` x `size` x `size`.

    Convolutions of 2 x 2, 3 x 3 and 5 x 5, each with ReLU and pool, end in a fully connected layer on each frame, of 500
    "preliminary labels"; an LSTM over the frames; one layer over its outputs at all of them. Biases begin as zero.
    Ours: widths 32, 64, 128, as many labels as VGG9 has, one LSTM layer of 256 units.
    """
    refuse_temporal_pooling("cnn_lstm", temporal_pooling)
    convs, left = conv_layers((((2, 32),), ((3, 64),), ((5, 128),)), size, "cnn_lstm", in_channels=in_channels)
    rest = nn.Sequential(nn.Linear(left, LABELS), AllOutputs(LABELS, 256, batch_first=True))
    return SmallClips(
        convs, rest, 256, num_classes=num_classes, num_frames=num_frames, size=size,
        dropout=dropout, in_channels=in_channels,
    )  # fmt: skip


for _name, _build in (("vgg9", vgg9), ("cnn_lstm", cnn_lstm)):
    register(
        _name, family="small clips", paper="a course project of 2019 on UCF-11", build=_build,
        min_frames=SMALL_FRAMES, min_size=SMALL_SIZE,
    )  # fmt: skip
