"""Heads as models: HEAD over stored vectors, HEAD_NETWORK end to end over an image network.

`HEAD@module:function` is a head over the user's image network, `HEAD@timm:NAME` over one of timm's.
"""

from functools import partial
from typing import Any

import torch

from muybridge.errors import UserError
from muybridge.zoo.anatomy import survey
from muybridge.zoo.base import VideoModel, WeightedLogits
from muybridge.zoo.families import BACKBONES, image_network, introduced, smallest
from muybridge.zoo.heads import HEADS, Head
from muybridge.zoo.registry import register, register_method
from muybridge.zoo.temporal.frames import FrameAxis, FramesNet, draw_weights

NATURAL_INPUTS = 1024
"""Values of a stored vector where nobody says how many: those of InceptionV1, and of the usual image transformers."""


class Answering(VideoModel):
    """A model whose answer comes from its head `sequence`.

    The features are those of the answer, f_B1E. A head that takes the loss of every step gives `WeightedLogits` in
    training: the answer, which weighs nothing, and the logits of each step with its weight in each video.
    """

    sequence: Head

    def vectors(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors f_BTD that the head gets, and which of them are there (B,T); None: all."""
        raise NotImplementedError

    def steps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features g_BSE of the head's steps, and weights_BS."""
        return self.sequence(*self.vectors(x))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the answer, f_B1E."""
        g_BSE, weights_BS = self.steps(x)
        return (weights_BS[..., None] * g_BSE).sum(1, keepdim=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor | WeightedLogits:
        """Logits (B,K) of clips, or vectors. Raises UserError for input that does not fit."""
        if not (self.training and self.sequence.every_step):
            return super().forward(x)
        self.check_input(x)
        g_BSE, weights_BS = self.steps(x)
        logits_SBK = self.fc(self.dropout(g_BSE)).transpose(0, 1)
        weights_SB = weights_BS.T
        answer_1BK = (weights_SB[..., None] * logits_SBK).sum(0, keepdim=True)
        nothing_1B = torch.zeros_like(weights_SB[:1])
        return WeightedLogits(
            torch.cat([answer_1BK, logits_SBK.to(answer_1BK.dtype)]), torch.cat([nothing_1B, weights_SB])
        )


class VectorsNet(Answering):
    """A head over stored vectors f_BTD, standardised by `mean_D` and `std_D`.

    A step whose vector has a NaN is not there.
    """

    input_kind = "features"
    may_lack_steps: bool | None = None
    """Whether steps may be absent; None: each batch is asked, which a graph that is exported cannot do."""
    mean_D: torch.Tensor
    std_D: torch.Tensor

    def __init__(self, head: Head, *, num_classes: int, dropout: float, num_frames: int | None = None) -> None:
        """`num_frames`: the only number of steps that the head takes, where there is one."""
        super().__init__(head.num_features, num_classes, dropout=dropout, in_channels=head.num_inputs)
        self.sequence = head
        self.looks_at = "past" if head.looks_back else "clip"
        self.fixed_frames = num_frames
        self.register_buffer("mean_D", torch.zeros(head.num_inputs))
        self.register_buffer("std_D", torch.ones(head.num_inputs))

    def vectors(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Standardised vectors, and which are there. Raises UserError for a video without any."""
        f_BTD = (x - self.mean_D) / self.std_D
        present_BT = self._present(x)
        if present_BT is not None:
            f_BTD = f_BTD.masked_fill(~present_BT[..., None], 0.0)
        return f_BTD, present_BT

    def _present(self, x: torch.Tensor) -> torch.Tensor | None:
        """Steps that are there, (B,T); None: all of them."""
        if x.is_meta:
            return None
        present_BT = ~x.isnan().any(2)
        if self.may_lack_steps is not None:
            return present_BT if self.may_lack_steps else None
        if present_BT.all():
            return None
        if not present_BT.any(1).all():
            raise UserError(
                f"{self.name or type(self).__name__}: a video has no vector without a NaN. Check its stored vectors, or "
                "leave the video out"
            )
        return present_BT


class FramesSequence(Answering, FramesNet):
    """A head over the vectors of an image network, both trained together."""

    def __init__(self, head: Head, backbone: torch.nn.Module, **arguments: Any) -> None:
        """`arguments`: those of `FramesNet`."""
        super().__init__(backbone, FrameAxis(), num_features=head.num_features, **arguments)
        self.sequence = head
        self.looks_at = "past" if head.looks_back else "clip"

    def vectors(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors of all frames."""
        return FramesNet.features(self, x), None

    def fresh_names(self) -> tuple[str, ...]:
        """The head's parameters: weights of an image network have none of them."""
        return FramesNet.fresh_names(self) + tuple(f"sequence.{name}" for name in self.sequence.state_dict())


def _head(name: str, num_inputs: int, num_frames: int, temporal_pooling: bool, options: dict[str, Any]) -> Head:
    if temporal_pooling:
        raise UserError(
            f"{name}: it has no temporal pooling, as a head looks at the vectors of all frames. Set "
            "model.temporal_pooling=false"
        )
    kind = HEADS[name]
    return kind.build(num_inputs, **({"num_frames": num_frames} if kind.fixed_frames else {}), **options)


def _over_vectors(
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
    in_channels: int,
    head: str,
    **options: Any,
) -> VideoModel:
    return VectorsNet(
        _head(head, in_channels, num_frames, temporal_pooling, options), num_classes=num_classes, dropout=dropout,
        num_frames=num_frames if HEADS[head].fixed_frames else None,
    )  # fmt: skip


def _over_network(
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
    in_channels: int,
    head: str,
    backbone: str,
    **options: Any,
) -> VideoModel:
    """`backbone`: as the methods take it (`muybridge.zoo.families`)."""
    net = image_network(backbone, in_channels=in_channels)
    num_inputs = survey(net, in_channels=in_channels).num_features
    if backbone in BACKBONES:
        draw_weights(net)
    model = FramesSequence(
        _head(head, num_inputs, num_frames, temporal_pooling, options), net, num_classes=num_classes, dropout=dropout,
        in_channels=in_channels,
    )  # fmt: skip
    if HEADS[head].fixed_frames:
        model.fixed_frames = num_frames
    return introduced(model, net)


for _name, _kind in HEADS.items():
    register(
        _name, family="heads", paper=_kind.paper, build=partial(_over_vectors, head=_name), takes=_kind.build,
        in_channels=NATURAL_INPUTS, min_size=1,
    )  # fmt: skip
    register_method(_name, build=partial(_over_network, head=_name), takes=_kind.build)
    for _backbone in BACKBONES:
        register(
            f"{_name}_{_backbone}", family=_name, paper=_kind.paper,
            build=partial(_over_network, head=_name, backbone=_backbone), takes=_kind.build,
            min_size=smallest(_backbone),
        )  # fmt: skip
