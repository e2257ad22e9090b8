"""Colours of optical flow: the hue says the direction, the saturation how far (the wheel of Baker et al. 2011, Middlebury).

No motion is white. NumPy alone, without torch.
"""

import numpy as np

TRANSITIONS = (
    ((255, 0, 0), (255, 255, 0), 15),
    ((255, 255, 0), (0, 255, 0), 6),
    ((0, 255, 0), (0, 255, 255), 4),
    ((0, 255, 255), (0, 0, 255), 11),
    ((0, 0, 255), (255, 0, 255), 13),
    ((255, 0, 255), (255, 0, 0), 6),
)
"""From a colour to the next in a number of steps, more of them where the eye tells more hues apart (Baker et al. 2011)."""

BEYOND = 0.75
"""Brightness of vectors that are longer than the bound."""


def wheel() -> np.ndarray:
    """(55,3) colours of directions, from 0 to 1, once round: red, yellow, green, cyan, blue, magenta."""
    parts = [
        np.array(first) + (np.array(then) - np.array(first)) * np.arange(steps)[:, None] / steps
        for first, then, steps in TRANSITIONS
    ]
    colours_N3: np.ndarray = np.concatenate(parts) / 255
    return colours_N3


def coloured(flow_THW2: np.ndarray, bound: float) -> np.ndarray:
    """Flow as images: uint8 (T,H,W,3). Red points right, yellow down, cyan left, blue and violet up.

    `bound`: length in pixels at which a colour is full; longer vectors are darker. A vector that is not finite is black.
    """
    is_known_THW = np.isfinite(flow_THW2).all(-1)
    flow_THW2 = np.where(is_known_THW[..., None], flow_THW2, 0.0).astype(np.float64)
    x_THW, y_THW = flow_THW2[..., 0], flow_THW2[..., 1]
    length_THW1 = np.hypot(x_THW, y_THW)[..., None] / bound
    colours_N3 = wheel()
    place_THW = np.arctan2(y_THW, x_THW) / (2 * np.pi) % 1 * len(colours_N3)
    before_THW = np.floor(place_THW).astype(np.int64) % len(colours_N3)
    part_THW1 = (place_THW - np.floor(place_THW))[..., None]
    full_THW3 = (1 - part_THW1) * colours_N3[before_THW] + part_THW1 * colours_N3[(before_THW + 1) % len(colours_N3)]
    shown_THW3 = np.where(length_THW1 <= 1, 1 - length_THW1 * (1 - full_THW3), BEYOND * full_THW3)
    return np.rint(255 * shown_THW3 * is_known_THW[..., None]).astype(np.uint8)


def longest(flow_THW2: np.ndarray) -> float:
    """Length of the longest vectors, but for the longest hundredth, by which one picture is coloured; 1 without motion."""
    lengths = np.hypot(flow_THW2[..., 0], flow_THW2[..., 1])
    return float(np.nanquantile(lengths, 0.99)) or 1.0


def key(side: int, bound: float = 1.0) -> np.ndarray:
    """The wheel as an image, uint8 (side,side,3): the colour of each vector from the centre; white outside of the bound."""
    axis = np.linspace(-1.0, 1.0, side)
    flow_HW2 = bound * np.stack(np.meshgrid(axis, axis), axis=-1)
    outside_HW = np.hypot(flow_HW2[..., 0], flow_HW2[..., 1]) > bound
    return coloured(np.where(outside_HW[..., None], 0.0, flow_HW2)[None], bound)[0]
