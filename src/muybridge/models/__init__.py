"""Networks: clip in, logits out. `create("tsm_resnet18", num_classes=10)` builds one by name."""

from muybridge.models import c3d, families, inception_volumes, s3dv3, slowfast, small_clips, video_resnets, x3d
from muybridge.models.contract import Preprocessing, VideoModel, WeightedLogits
from muybridge.models.registry import Entry, create, entries, entry
from muybridge.models.weights.load import Loaded, load_weights

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
    "slowfast",
    "small_clips",
    "video_resnets",
    "x3d",
]
