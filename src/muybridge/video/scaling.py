"""Sizes of frames, and scaling of frames that are arrays."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) with a short side of `short_side` pixels, the aspect kept; None: unchanged."""
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def scaled(pixels_HW3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a frame, (H,W,3) or gray (H,W), to `size` (width, height), bilinear."""
    height, width = pixels_HW3.shape[:2]
    if size == (width, height):
        return pixels_HW3
    layout = "gray" if pixels_HW3.ndim == 2 else "rgb24"
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HW3), format=layout)
    return VideoReformatter().reformat(frame, width=size[0], height=size[1], threads=1).to_ndarray()
