"""Images of clips for people: strips of frames, heat maps over frames. NumPy and this package, no torch."""

import numpy as np

from muybridge.video.jpeg import encode_jpeg
from muybridge.video.scaling import scaled

HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=np.float64)
"""Evenly spaced colours of a map of even lightness (matplotlib's inferno)."""

OPACITY = 0.75
"""Opacity of the greatest heat."""

PAPER = 255
"""Value of the gaps between frames: white."""


def strip(frames_THWC: np.ndarray, *, height: int, most: int = 8, gap: int = 2) -> np.ndarray:
    """Put at most `most` frames side by side, the first and the last among them, as (H,W,3) uint8.

    Frames are `height` pixels high and `gap` pixels apart.
    """
    count, frame_height, frame_width = frames_THWC.shape[:3]
    picked = np.round(np.linspace(0, count - 1, min(count, most))).astype(np.int64)
    size = (max(1, round(frame_width * height / frame_height)), height)
    between = np.full((height, gap, 3), PAPER, dtype=np.uint8)
    parts: list[np.ndarray] = []
    for index in picked:
        parts += [between, scaled(frames_THWC[index], size)]
    return np.concatenate(parts[1:], axis=1)


def heated(frames_THWC: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map over frames, with colour and opacity by its fraction of the greatest heat.

    `heat` is (T,H,W), or a coarser grid (T,G,G) that covers the frames. Without positive heat frames stay unchanged.
    """
    height, width = frames_THWC.shape[1:3]
    heat_THW = heat[:, cells(height, heat.shape[1])][:, :, cells(width, heat.shape[2])]
    greatest = float(heat.max(initial=0.0))
    if greatest <= 0:
        return frames_THWC.copy()
    fraction_THW = np.clip(heat_THW / greatest, 0, 1)
    knots = np.linspace(0, 1, len(HEAT))
    color_THWC = np.stack([np.interp(fraction_THW, knots, HEAT[:, channel]) for channel in range(3)], axis=-1)
    opacity_THW1 = OPACITY * fraction_THW[..., None]
    return np.rint((1 - opacity_THW1) * frames_THWC + opacity_THW1 * color_THWC).astype(np.uint8)


def cells(length: int, count: int) -> np.ndarray:
    """(length,) index of the cell of each pixel, for `count` even cells along a side."""
    return np.arange(length) * count // length


def jpeg_bytes(image_HW3: np.ndarray, *, quality: int = 85) -> bytes:
    """Encode an image as a JPEG file."""
    return encode_jpeg(image_HW3, quality)
