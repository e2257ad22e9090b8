"""Networks without values, each made once a test process: what needs shapes only shares them."""

from functools import cache

import torch

from muybridge.zoo import VideoModel, create, entry


@cache
def on_meta(name: str, temporal_pooling: bool = False) -> VideoModel:
    """With five classes, for eight frames or as many as it needs."""
    num_frames = max(8, entry(name).min_frames)
    with torch.device("meta"):
        return create(name, num_classes=5, num_frames=num_frames, dropout=0.0, temporal_pooling=temporal_pooling).eval()
