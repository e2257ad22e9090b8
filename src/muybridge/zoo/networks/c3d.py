"""C3D (Tran et al. 2015, section 3.3), and a smaller one for small clips.

3 x 3 x 3 convolutions with bias and no norms, max-pools, fully connected layers over what is left of the clip.
"""

from collections.abc import Iterable

import torch
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.base import VideoModel
from muybridge.zoo.registry import register
from muybridge.zoo.temporal.frames import draw_weights
from muybridge.zoo.volumes import Conv, Pool, refuse_temporal_pooling

SMALL_FRAMES, SMALL_SIZE = 30, 64
"""Frames and pixels of the clips that the small networks are made for (UCF-11)."""


def draw_layers(modules: Iterable[nn.Module]) -> None:
    """Draw fresh weights for linear layers with ReLU (He et al. 2015)."""
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)


class C3D(VideoModel):
    """C3D, for clips of one length and one size."""

    def __init__(
        self,
        stages: tuple[tuple[int, ...], ...],
        hidden: int,
        *,
        num_classes: int,
        num_frames: int,
        size: int,
        dropout: float,
        in_channels: int = 3,
        padded_last_pool: bool = False,
    ) -> None:
        """`stages`: the convolutions' widths between pools; the first pool keeps time.

        `hidden`: width of the two layers before the classifier, each with dropout. Raises UserError for a clip of which the
        pools leave nothing.
        """
        super().__init__(hidden, num_classes, dropout=dropout, in_channels=in_channels)
        self.fixed_frames, self.fixed_size = num_frames, size
        layers: list[nn.Module] = []
        channels, frames, side = in_channels, num_frames, size
        for index, widths in enumerate(stages):
            for width in widths:
                layers += [Conv(channels, width, (3, 3, 3), bias=True), nn.ReLU(inplace=True)]
                channels = width
            step = 1 if index == 0 else 2
            pad = 1 if padded_last_pool and index == len(stages) - 1 else 0
            layers.append(Pool((step, 2, 2), (step, 2, 2), padding=(0, pad, pad)))
            frames, side = frames // step, (side + 2 * pad) // 2
        if min(frames, side) < 1:
            least = f"{2 ** (len(stages) - 1)} frames of {2 ** len(stages)}x{2 ** len(stages)} pixels"
            raise UserError(
                f"C3D: with {len(stages)} pools it needs clips of at least {least}, but got {num_frames} frames of "
                f"{size}x{size}. Raise clip.num_frames or clip.size"
            )
        self.convs = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Linear(channels * frames * side**2, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True),
        )  # fmt: skip
        draw_weights(self.convs)
        draw_layers(self.hidden)

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to f_BTD, T = 1."""
        return self.hidden(self.convs(x_BCTHW).flatten(1))[:, None]


def c3d(
    *,
    num_classes: int,
    num_frames: int = 16,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
) -> VideoModel:
    """C3D, for 16 x 112 x 112 and nothing else. Its last pool is padded by a pixel: 8192 features."""
    refuse_temporal_pooling("c3d", temporal_pooling)
    return C3D(
        ((64,), (128,), (256, 256), (512, 512), (512, 512)), 4096, num_classes=num_classes, num_frames=16, size=112,
        dropout=dropout, in_channels=in_channels, padded_last_pool=True,
    )  # fmt: skip


def c3d_small(
    *,
    num_classes: int,
    num_frames: int = SMALL_FRAMES,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
    size: int = SMALL_SIZE,
) -> VideoModel:
    """C3D with six convolutions, four pools and two layers of 1024, for clips of `num_frames` x `size` x `size` only.

    Source: a course project of 2019, which does not give the widths; C3D's without its last stage are our choice.
    """
    refuse_temporal_pooling("c3d_small", temporal_pooling)
    return C3D(
        ((64,), (128,), (256, 256), (512, 512)), 1024, num_classes=num_classes, num_frames=num_frames, size=size,
        dropout=dropout, in_channels=in_channels,
    )  # fmt: skip


register(
    "c3d", family="c3d", paper="Tran et al. 2015, Learning Spatiotemporal Features with 3D Convolutional Networks",
    build=c3d, min_frames=16, min_size=112,
)  # fmt: skip
register(
    "c3d_small", family="c3d", paper="after Tran et al. 2015 (a course project of 2019)", build=c3d_small,
    min_frames=SMALL_FRAMES, min_size=SMALL_SIZE,
)  # fmt: skip
