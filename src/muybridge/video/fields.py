"""Fields of motion vectors as pictures of 8 bits: a vector (x,y) of pixels, to the right and down, is two codes.

Code c stands for (c - 128) · bound / 127 pixels, c = 1 … 255, so that no motion is exactly 128, the middle of a JPEG's
range, and opposite vectors are exactly opposite. (The literature writes round(255 (v + bound) / (2 bound)), of which no
code is zero: what stands still becomes .078 pixels to the right and down at a bound of 20.)

To be compressed the two components lie one above the other, each filled up to whole blocks with its last row.
"""

import numpy as np

from muybridge.video.scaling import scaled

ZERO = 128
"""Code of no motion."""
LEVELS = 127
"""Codes of each sign; the last is the bound."""
BLOCK = 16
"""Rows of a component are a multiple of this, so that no block of a codec holds both components."""


def coded(vectors_HW2: np.ndarray, bound: float) -> np.ndarray:
    """Codes of vectors in pixels, (…,2) uint8; a longer component than `bound` is cut to it."""
    return (np.clip(np.rint(vectors_HW2 * (LEVELS / bound)), -LEVELS, LEVELS) + ZERO).astype(np.uint8)


def vectors_of(codes_HW2: np.ndarray, bound: float) -> np.ndarray:
    """Vectors in pixels of codes, (…,2) float32."""
    return (codes_HW2.astype(np.float32) - ZERO) * np.float32(bound / LEVELS)


def num_clipped(vectors_HW2: np.ndarray, bound: float) -> int:
    """Number of vectors with a component beyond the bound."""
    return int((np.abs(vectors_HW2) > bound).any(-1).sum())


def stacked(codes_HW2: np.ndarray) -> np.ndarray:
    """One gray picture (2h,W) of both components, h being H rounded up to whole blocks."""
    missing = -len(codes_HW2) % BLOCK
    padded_HW2 = np.pad(codes_HW2, ((0, missing), (0, 0), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded_HW2.transpose(2, 0, 1).reshape(-1, codes_HW2.shape[1]))


def unstacked(gray_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Codes (H,W,2) of a field of `size` (width, height) from its gray picture. Raises ValueError for another size."""
    width, height = size
    half = height + -height % BLOCK
    if len(gray_HW) < 2 * half or gray_HW.shape[1] < width:
        raise ValueError(f"a field of {width}x{height} does not fit into a picture of {gray_HW.shape[::-1]}")
    return np.stack([gray_HW[:height, :width], gray_HW[half : half + height, :width]], axis=-1)


def resized(codes_HW2: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The field scaled to `size` (width, height), float16 about `ZERO`: its vectors become longer or shorter with it.

    Longer ones may be beyond the bound, and are not cut. A field of that size already is given as it is.
    """
    height, width = codes_HW2.shape[:2]
    if size == (width, height):
        return codes_HW2
    components = [scaled(np.ascontiguousarray(codes_HW2[..., axis]), size) for axis in (0, 1)]
    from_zero_HW2 = np.stack(components, axis=-1).astype(np.float32) - ZERO
    longer_2 = np.array([size[0] / width, size[1] / height], dtype=np.float32)
    return (from_zero_HW2 * longer_2 + ZERO).astype(np.float16)
