"""Copies of one network that are trained side by side on the same batches, each by settings of its own.

The living protocol of probes trains many heads at once and keeps one (Assran et al. 2025, V-JEPA 2, appendix). Reading
the data, the cost of a small head, is then paid once.
"""

import copy

import torch
from torch import nn

from muybridge.zoo.base import VideoModel, WeightedLogits

TAKEN_OVER = (
    "name", "input_kind", "looks_at", "preprocessing", "in_channels", "min_frames", "min_size", "fixed_frames", "fixed_size",
    "averages_features", "published", "num_features",
)  # fmt: skip
"""Attributes that the copies share."""


class Candidates(VideoModel):
    """Copies of a network. Training gives the loss of each; one, `chosen`, answers.

    Features that no weight is trained for (a mean of stored vectors) are computed once for all.
    """

    shares_features: bool

    def __init__(self, net: VideoModel, count: int, *, chosen: int = 0) -> None:
        """`count`: number of copies, all of which begin with the weights of `net`. `chosen`: the one that answers."""
        nn.Module.__init__(self)
        self.copies = nn.ModuleList([copy.deepcopy(net) for _ in range(count)])
        self.chosen = chosen
        for attribute in TAKEN_OVER:
            setattr(self, attribute, getattr(net, attribute))
        self.num_copies = count
        self.shares_features = {name for name, _ in net.named_parameters()} <= set(net.classifier_names())
        self.loss_weight = net.loss_weight

    @property
    def answering(self) -> VideoModel:
        """The copy that answers."""
        return self._copy(self.chosen)

    def _copy(self, index: int) -> VideoModel:
        copied = self.copies[index]
        assert isinstance(copied, VideoModel)
        return copied

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Features of the copy that answers."""
        return self.answering.features(x_BCTHW)

    def head(self, f_BTD: torch.Tensor) -> torch.Tensor:
        """Logits of the copy that answers."""
        return self.answering.head(f_BTD)

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor | WeightedLogits:
        """Logits of the copy that answers; in training those of all, its own first."""
        if not self.training:
            return self.answering(x_BCTHW)
        order = [self.chosen, *(index for index in range(self.num_copies) if index != self.chosen)]
        if self.shares_features:
            self.answering.check_input(x_BCTHW)
            f_BTD = self.answering.features(x_BCTHW)
            outs = [self._copy(index).head(f_BTD) for index in order]
        else:
            outs = [self.copies[index](x_BCTHW) for index in order]
        weighted = [
            out if isinstance(out, WeightedLogits) else WeightedLogits(out[None], out.new_ones(1)) for out in outs
        ]
        return WeightedLogits(*(torch.cat(parts) for parts in zip(*weighted, strict=True)))

    def classifier_names(self) -> tuple[str, ...]:
        """Parameters that depend on the number of classes, of every copy."""
        names = self.answering.classifier_names()
        return tuple(f"copies.{index}.{name}" for index in range(self.num_copies) for name in names)
