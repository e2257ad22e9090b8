"""SlowFast (Feichtenhofer et al. 2019, SlowFast Networks for Video Recognition, section 3, table 1).

A wide ResNet50 on few frames and one of an eighth of its width on all of them, which feeds the first before each of its
stages.

`slowfast_resnet50` is the 8x8 network (of 32 frames the slow pathway sees 8), `slowfast_resnet50_4x16` sees 4 of them.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.backbones.resnet import resnet
from muybridge.zoo.base import Clips, VideoModel
from muybridge.zoo.networks.video_resnets import SLOW, Cycles, lengthen, pytorchvideo_kinetics
from muybridge.zoo.registry import register
from muybridge.zoo.temporal.frames import FrameAxis, TimeConv, draw_weights
from muybridge.zoo.volumes import refuse_temporal_pooling

FAST: Cycles = ((3,), (3,), (3,), (3,))
WIDTH = 64
BETA = 8
"""Ratio of the slow pathway's width to the fast one's."""


class Lateral(nn.Module):
    """The lateral connection from the fast pathway to the slow one (section 3.3, "time-strided convolution").

    A convolution along time with the stride that takes one frame rate to the other, and twice as many channels.
    """

    def __init__(self, axis: FrameAxis, channels: int, *, alpha: int, taps: int) -> None:
        super().__init__()
        self.conv = TimeConv(axis, channels, 2 * channels, taps, stride=alpha)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames of the fast pathway to those of the slow one."""
        return F.relu(self.bn(self.conv(x_NCHW)))


class SlowFast(VideoModel):
    """Two ResNet50s, slow and fast, with lateral connections."""

    min_size = 32
    image_network = "slow"

    def __init__(self, num_classes: int, *, alpha: int, fusion_taps: int, dropout: float, in_channels: int) -> None:
        """`alpha`: fast frames to a slow one; `fusion_taps`: frames that a lateral connection looks at."""
        fast_width = WIDTH // BETA
        fast_channels = (fast_width, 4 * fast_width, 8 * fast_width, 16 * fast_width)  # where the slow one is joined
        axis = FrameAxis()
        lateral_channels = tuple(2 * channels for channels in fast_channels)
        slow = resnet("resnet50", width=WIDTH, in_channels=in_channels, lateral_channels=lateral_channels)
        fast = resnet("resnet50", width=fast_width, in_channels=in_channels)
        lengthen(slow, axis, stem_frames=1, cycles=SLOW)
        lengthen(fast, axis, stem_frames=5, cycles=FAST)
        super().__init__(slow.num_features + fast.num_features, num_classes, dropout=dropout, in_channels=in_channels)
        self.slow, self.fast, self.alpha, self.min_frames, self._axis = slow, fast, alpha, alpha, axis
        self.lateral = nn.ModuleList(Lateral(axis, c, alpha=alpha, taps=fusion_taps) for c in fast_channels)
        for pathway in (self.slow, self.fast, self.lateral):
            draw_weights(pathway)

    def check_frames(self, frames: int) -> None:
        """Raise UserError for a clip length that is not a multiple of alpha."""
        super().check_frames(frames)
        if frames % self.alpha:
            raise UserError(
                f"SlowFast: it takes clips of a multiple of {self.alpha} frames, one of which the slow pathway sees, "
                f"but got {frames}. Change clip.num_frames"
            )

    def slow_frames(self, frames: int) -> torch.Tensor:
        """Indices of the frames that the slow pathway sees, as many as a stride of alpha leaves.

        From the first to the last at even distances, rounded down (PySlowFast's choice, not every alpha-th).
        """
        return torch.linspace(0, frames - 1, frames // self.alpha, device="cpu").long()

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to f_BTD, T = 1."""
        self._axis.clips = x_BCTHW.shape[0]
        slow = self.slow.stem(self._axis.fold(x_BCTHW[:, :, self.slow_frames(x_BCTHW.shape[2])]))
        fast = self.fast.stem(self._axis.fold(x_BCTHW))
        for stage, lateral in enumerate(self.lateral, start=1):
            slow = self.slow.get_submodule(f"layer{stage}")(torch.cat([slow, lateral(fast)], 1))
            fast = self.fast.get_submodule(f"layer{stage}")(fast)
        pooled_BD = [self._axis.unfold(pathway).mean((2, 3, 4)) for pathway in (slow, fast)]
        return torch.cat(pooled_BD, 1)[:, None]


def _build(
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
    in_channels: int,
    name: str,
    alpha: int,
    fusion_taps: int,
    weights: str,
) -> VideoModel:
    refuse_temporal_pooling(name, temporal_pooling)
    model = SlowFast(num_classes, alpha=alpha, fusion_taps=fusion_taps, dropout=dropout, in_channels=in_channels)
    model.published = pytorchvideo_kinetics(weights, Clips(32, 224, 2, fps=30))
    model.preprocessing = model.published["kinetics400"].preprocessing
    return model


for _name, _alpha, _fusion_taps, _weights in (
    ("slowfast_resnet50", 4, 7, "SLOWFAST_8x8_R50.pyth"),
    ("slowfast_resnet50_4x16", 8, 5, "SLOWFAST_4x16_R50.pyth"),
):
    register(
        _name, family="slowfast", paper="Feichtenhofer et al. 2019, SlowFast Networks", min_frames=_alpha,
        build=partial(_build, name=_name, alpha=_alpha, fusion_taps=_fusion_taps, weights=_weights),
    )  # fmt: skip
