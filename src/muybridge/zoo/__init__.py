"""Networks: clip in, logits out. `create("tsm_resnet18", num_classes=10)` builds one by name."""

from muybridge.zoo import families, sequences
from muybridge.zoo.base import Preprocessing, VideoModel, WeightedLogits
from muybridge.zoo.networks import (
    c3d,
    inception_volumes,
    s3dv3,
    slowfast,
    small_clips,
    video_resnets,
    x3d,
)
from muybridge.zoo.registry import Entry, create, entries, entry
from muybridge.zoo.weights.load import Loaded, load_weights

__all__ = [
    "Entry",
    "Loaded",
    "Preprocessing",
    "VideoModel",
    "WeightedLogits",
    "c3d",
    "create",
    "entries",
    "entry",
    "families",
    "inception_volumes",
    "load_weights",
    "s3dv3",
    "sequences",
    "slowfast",
    "small_clips",
    "video_resnets",
    "x3d",
]
