"""Networks with shapes and no values, for tests that need no more: quick to build, in evaluation mode."""

from muybridge.zoo import VideoModel, entry
from muybridge.zoo.count import outline


def on_meta(name: str, *, num_classes: int = 5, num_frames: int | None = None, **arguments) -> VideoModel:
    """A model by name, for `num_frames` frames; None: for eight, or as many as it needs."""
    if num_frames is None:
        num_frames = max(8, entry(name).min_frames)
    return outline(name, num_classes=num_classes, num_frames=num_frames, dropout=0.0, **arguments)
