"""Images of clips for people: strips of frames and of their flow, heat maps over frames. NumPy and this package, no torch."""

from collections.abc import Sequence

import numpy as np

from muybridge.video import flow_colours
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


def stacked(strips: Sequence[np.ndarray], *, gap: int = 2) -> np.ndarray:
    """Put strips below each other, `gap` pixels apart, with paper to the right of narrower ones."""
    width = max(one.shape[1] for one in strips)
    between = np.full((gap, width, 3), PAPER, dtype=np.uint8)
    rows: list[np.ndarray] = []
    for one in strips:
        beside = np.full((one.shape[0], width - one.shape[1], 3), PAPER, dtype=np.uint8)
        rows += [between, np.concatenate([one, beside], axis=1)]
    return np.concatenate(rows[1:])


def flow_strip(
    frames_THWC: np.ndarray, flow_THW2: np.ndarray, *, height: int = 96, bound: float | None = None, most: int = 8
) -> np.ndarray:
    """Frames, and below each its flow in colours, with the key of the colours beside them, as (H,W,3) uint8.

    `flow_THW2`: a field for each frame, or for each but the last. `bound`: length in pixels at which a colour is full; none:
    the longest vector that is not among the longest hundredth.
    """
    count = len(flow_THW2)
    colours = flow_colours.coloured(flow_THW2, flow_colours.longest(flow_THW2) if bound is None else bound)
    both = stacked([strip(part, height=height, most=most) for part in (frames_THWC[:count], colours)])
    paper = np.full((both.shape[0], height + 2, 3), PAPER, dtype=np.uint8)
    paper[-height:, 2:] = flow_colours.key(height)
    return np.concatenate([both, paper], axis=1)


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
