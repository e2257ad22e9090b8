"""S3D on Inception-v3, from a reproduction study of 2018: `s3dv3`, `s3dv3_topheavy`, `s3dv3_inflated`.

The blocks are Inception-v3's (Szegedy et al. 2015, figures 5 to 7 and 10); "Sep" is 1 x k x k, then k x 1 x 1, with one
norm and ReLU after both. (The 2021 study's recipe on Inception-v3 is `s3d_inceptionv3`.)

Two convolutions of the published code that change nothing (1 x 1 x 1 behind one another) and a kernel it mistyped are left
out: 26,223,717 parameters at 5 classes, where it has 28,757,093.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.zoo.base import HALF, VideoModel, WeightedLogits
from muybridge.zoo.registry import register
from muybridge.zoo.temporal.frames import draw_weights
from muybridge.zoo.volumes import (
    Conv,
    ConvUnit,
    Padding,
    Pool,
    Sides,
    refuse_temporal_pooling,
)

Sevens = Literal["separable", "inflated", "spatial"]
"""The convolutions in the place of Inception-v3's 1 x 7 and 7 x 1.

"separable": three, one an axis; "inflated": two that look at seven frames each; "spatial": those two as they are.
"""

SEVENS: dict[Sevens, tuple[Sides, ...]] = {
    "separable": ((7, 1, 1), (1, 7, 1), (1, 1, 7)),
    "inflated": ((7, 1, 7), (7, 7, 1)),
    "spatial": ((1, 1, 7), (1, 7, 1)),
}

AUX_WEIGHT = 0.3
"""Weight of the auxiliary head's loss (Szegedy et al. 2014, section 5)."""


class Branches(nn.ModuleList):
    """Modules side by side, their channels joined."""

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to all branches' channels."""
        return torch.cat([branch(x_BCTHW) for branch in self], 1)


def unit(c_in: int, c_out: int, kernel: Sides = (1, 1, 1)) -> ConvUnit:
    """A convolution with norm and ReLU."""
    return ConvUnit(Conv(c_in, c_out, kernel), c_out)


def sep(
    c_in: int, c_out: int, kernel: int, *, stride: int = 1, padding: Padding = "same", temporal: bool = True
) -> ConvUnit:
    """Sep; without `temporal`, its spatial half alone."""
    convs = [Conv(c_in, c_out, (1, kernel, kernel), (1, stride, stride), padding=padding)]
    if temporal:
        convs.append(Conv(c_out, c_out, (kernel, 1, 1), (stride, 1, 1), padding=padding))
    return ConvUnit(nn.Sequential(*convs), c_out)


def seven_long(c_in: int, c_out: int, kind: Sevens, *, rounds: int = 1) -> nn.Sequential:
    """The convolutions of seven, `rounds` times; all of `c_in` channels but the last."""
    kernels = SEVENS[kind] * rounds
    widths = [c_in] * len(kernels) + [c_out]
    return nn.Sequential(*(unit(a, b, kernel) for a, b, kernel in zip(widths, widths[1:], kernels, strict=False)))


def pooled(c_in: int, c_out: int, *, temporal: bool) -> nn.Sequential:
    """A mean-pool of 3 x 3 (x 3) and a 1 x 1 x 1 unit."""
    return nn.Sequential(Pool((3 if temporal else 1, 3, 3), kind="mean"), unit(c_in, c_out))


def type_1(c_in: int, pool: int, *, temporal: bool) -> Branches:
    """Inception-v3's first block (figure 5)."""
    return Branches(
        [
            unit(c_in, 64),
            nn.Sequential(unit(c_in, 48), sep(48, 64, 5, temporal=temporal)),
            nn.Sequential(unit(c_in, 64), sep(64, 96, 3, temporal=temporal), sep(96, 96, 3, temporal=temporal)),
            pooled(c_in, pool, temporal=temporal),
        ]
    )


def reduction_1(c_in: int) -> Branches:
    """Inception-v3's first reduction without its pool: 480 channels."""
    halve = partial(sep, stride=2, padding="valid")
    return Branches([halve(c_in, 384, 3), nn.Sequential(unit(c_in, 64), sep(64, 96, 3), halve(96, 96, 3))])


def type_2(c_in: int, width: int, kind: Sevens) -> Branches:
    """Inception-v3's second block (figure 6)."""
    return Branches(
        [
            unit(c_in, 192),
            nn.Sequential(unit(c_in, width), seven_long(width, 192, kind)),
            nn.Sequential(unit(c_in, width), seven_long(width, 192, kind, rounds=2)),
            pooled(c_in, 192, temporal=kind != "spatial"),
        ]
    )


def reduction_2(c_in: int, kind: Sevens) -> Branches:
    """Inception-v3's second reduction."""
    halve = partial(sep, stride=2, padding="valid")
    return Branches(
        [
            nn.Sequential(unit(c_in, 192), halve(192, 320, 3)),
            nn.Sequential(unit(c_in, 192), seven_long(192, 192, kind), halve(192, 192, 3)),
            Pool((3, 3, 3), (2, 2, 2), padding="valid"),
        ]
    )


def type_3(c_in: int, *, temporal: bool) -> Branches:
    """Inception-v3's third block; without `temporal`, only its 3 x 3 x 3 looks along time."""
    kernels: tuple[Sides, ...] = ((1, 1, 3), (1, 3, 1))
    if temporal:
        kernels = ((3, 1, 1), *kernels)

    def split() -> Branches:
        return Branches([unit(384, 768 // len(kernels), kernel) for kernel in kernels])

    return Branches(
        [
            unit(c_in, 320),
            nn.Sequential(unit(c_in, 384), split()),
            nn.Sequential(unit(c_in, 448), sep(448, 384, 3), split()),
            pooled(c_in, 192, temporal=temporal),
        ]
    )


class AuxHead(nn.Module):
    """The auxiliary classifier, on the feature map that Inception-v3's takes.

    The last convolution spans what 64 x 224 x 224 leaves of it; of larger clips, its outputs are averaged. Images of less
    than 177 pixels leave less than 3 x 3 behind the pool; theirs are pooled to that.
    """

    def __init__(self, c_in: int, num_classes: int) -> None:
        super().__init__()
        self.pool = Pool((1, 5, 5), (1, 3, 3), padding="valid", kind="mean")
        self.conv1 = unit(c_in, 128)
        self.conv2 = ConvUnit(Conv(128, 768, (3, 3, 3), padding="valid"), 768)
        self.fc = nn.Linear(768, num_classes)
        self.reset_classifier(num_classes)

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Feature map (B,C,T,H,W) to logits (B,K)."""
        if min(x_BCTHW.shape[3:]) < 11:
            pooled_BCTHW = F.adaptive_avg_pool3d(x_BCTHW, (x_BCTHW.shape[2], 3, 3))
        else:
            pooled_BCTHW = self.pool(x_BCTHW)
        return self.fc(self.conv2(self.conv1(pooled_BCTHW)).mean((2, 3, 4)))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace its classifier by a fresh linear layer."""
        self.fc = nn.Linear(768, num_classes).to(self.fc.weight.device, self.fc.weight.dtype)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)


class S3DV3(VideoModel):
    """S3D on Inception-v3, in training with an auxiliary head."""

    preprocessing = HALF
    loss_weights_N: torch.Tensor

    def __init__(
        self, *, num_classes: int, dropout: float, in_channels: int, sevens: Sevens, topheavy: bool, aux: bool
    ) -> None:
        """`topheavy`: nothing looks along time, and no frame is lost, before Mixed2. `aux`: has an auxiliary head."""
        super().__init__(2048, num_classes, dropout=dropout, in_channels=in_channels)
        low = not topheavy
        halve = partial(Pool, (3, 3, 3), (2, 2, 2)) if low else partial(Pool, (1, 3, 3), (1, 2, 2))
        self.stem = nn.Sequential(
            sep(in_channels, 32, 3, stride=2, temporal=low),
            sep(32, 32, 3, temporal=low),
            sep(32, 64, 3, temporal=low),
            halve(),
            unit(64, 80),
            sep(80, 192, 3, temporal=low),
            halve(),
        )
        self.middle = nn.Sequential(  # Mixed0 to Mixed7
            type_1(192, 32, temporal=low),
            type_1(256, 64, temporal=low),
            type_1(288, 64, temporal=True),
            reduction_1(288),
            type_2(480, 128, sevens),
            type_2(768, 160, sevens),
            type_2(768, 160, sevens),
            type_2(768, 192, sevens),
        )
        self.top = nn.Sequential(  # Mixed8 to Mixed10
            reduction_2(768, sevens), type_3(1280, temporal=low), type_3(2048, temporal=low)
        )
        # the two unpadded reductions need 7 frames and pixels; SAME halvings before them leave ⌈T/8⌉ and ⌈H/8⌉
        self.min_frames, self.min_size = 7 if topheavy else 49, 49
        if aux:
            self.aux = AuxHead(768, num_classes)
            self.register_buffer("loss_weights_N", torch.tensor([1.0, AUX_WEIGHT]), persistent=False)
            self.loss_weight = 1.0 + AUX_WEIGHT
        draw_weights(self)

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to f_BTD."""
        return self._top_features(self.middle(self.stem(x_BCTHW)))

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor | WeightedLogits:
        """Logits (B,K) of clips; in training with an auxiliary head: those, and that head's."""
        if not (self.training and self._has_aux):
            return super().forward(x_BCTHW)
        self.check_input(x_BCTHW)
        middle_BCTHW = self.middle(self.stem(x_BCTHW))
        logits_BK = self.head(self._top_features(middle_BCTHW))
        return WeightedLogits(torch.stack([logits_BK, self.aux(middle_BCTHW)]), self.loss_weights_N)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace both classifiers by fresh linear layers."""
        super().reset_classifier(num_classes)
        if self._has_aux:
            self.aux.reset_classifier(num_classes)

    def classifier_names(self) -> tuple[str, ...]:
        """Parameters of both classifiers."""
        return (*super().classifier_names(), *(("aux.fc.weight", "aux.fc.bias") if self._has_aux else ()))

    @property
    def _has_aux(self) -> bool:
        return hasattr(self, "aux")

    def _top_features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        return self.top(x_BCTHW).mean((3, 4)).transpose(1, 2)


def build(
    *,
    num_classes: int,
    num_frames: int = 64,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
    name: str,
    sevens: Sevens = "separable",
    topheavy: bool = False,
    aux: bool = True,
) -> VideoModel:
    """Build a variant of S3D on Inception-v3.

    `aux`: an auxiliary head in training, as the paper describes it; its code has it commented out, and the published
    parameter counts are without.

    Top-heavy has 10 % fewer parameters than `s3dv3`, but 3.5 times its multiply-adds (162 against 46 G for 64 x 224 x 224),
    as its stem keeps all frames. Inflated, the paper's "future work", has 54.7 million parameters.
    """
    refuse_temporal_pooling(name, temporal_pooling)
    return S3DV3(
        num_classes=num_classes, dropout=dropout, in_channels=in_channels, sevens=sevens, topheavy=topheavy, aux=aux
    )


_VARIANTS: dict[str, tuple[Sevens, bool]] = {
    "s3dv3": ("separable", False),
    "s3dv3_topheavy": ("spatial", True),
    "s3dv3_inflated": ("inflated", False),
}
for _name, (_sevens, _topheavy) in _VARIANTS.items():
    _build = partial(build, name=_name, sevens=_sevens, topheavy=_topheavy)
    register(
        _name, family="s3dv3", paper="S3D on Inception-v3 (a reproduction study of 2018, after Xie et al. 2018)",
        build=_build, min_frames=7 if _topheavy else 49, min_size=49,
    )  # fmt: skip
