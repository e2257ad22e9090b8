"""Heads: the vectors of a video's frames in, features of its answer out. A head is one file and one line here.

Over stored vectors (`lstm`), end to end over an image network (`lstm_resnet18`, `lstm@timm:NAME`), and as the probe of
`hf:` encoders.
"""

from collections.abc import Callable
from dataclasses import dataclass

from muybridge.zoo.heads.attentive import AttentivePool
from muybridge.zoo.heads.base import Head
from muybridge.zoo.heads.convolution import TemporalConvolutions
from muybridge.zoo.heads.fusion import EarlyFusion, LateFusion, SlowFusion
from muybridge.zoo.heads.pooling import MaxPool, MeanPool, SideBySide
from muybridge.zoo.heads.recurrent import GRU, LSTM
from muybridge.zoo.heads.transformer import Transformer


@dataclass(frozen=True)
class HeadKind:
    """A head by its name."""

    build: Callable[..., Head]
    """build(num_inputs, **options); with `num_frames`, too, where the head is for clips of one length."""
    paper: str
    fixed_frames: bool = False
    """Whether it is for clips of one length."""


HEADS: dict[str, HeadKind] = {
    "mean_pool": HeadKind(MeanPool, "mean of the vectors (linear probe)"),
    "max_pool": HeadKind(MaxPool, "maximum of the vectors"),
    "linear": HeadKind(SideBySide, "one linear layer over the vectors of all frames", fixed_frames=True),
    "attentive": HeadKind(AttentivePool, "Bardes et al. 2024, V-JEPA, attentive probe"),
    "lstm": HeadKind(LSTM, "Donahue et al. 2015, LRCN"),
    "gru": HeadKind(GRU, "Cho et al. 2014, gated recurrent units"),
    "tcn": HeadKind(TemporalConvolutions, "Lea et al. 2017, temporal convolutional networks"),
    "transformer": HeadKind(Transformer, "Vaswani et al. 2017, transformer encoder"),
    "early_fusion": HeadKind(EarlyFusion, "Karpathy et al. 2014, early fusion (of vectors)", fixed_frames=True),
    "late_fusion": HeadKind(LateFusion, "Karpathy et al. 2014, late fusion"),
    "slow_fusion": HeadKind(SlowFusion, "Karpathy et al. 2014, slow fusion"),
}

__all__ = ["HEADS", "Head", "HeadKind"]
