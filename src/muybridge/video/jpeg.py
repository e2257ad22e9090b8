"""JPEG images, by simplejpeg (libjpeg-turbo)."""

import numpy as np
import simplejpeg

from muybridge.video.scaling import scaled, scaled_size


def decode_jpeg(data: bytes, short_side: int | None = None, *, into_HW3: np.ndarray | None = None) -> np.ndarray:
    """Decode a JPEG image to (H,W,3) uint8 RGB; into `into_HW3` where no scaling is needed.

    For a much smaller short side it is decoded at a half, a quarter … of its size. Raises ValueError for a broken image.
    """
    if short_side is None:
        return simplejpeg.decode_jpeg(data, "RGB", buffer=into_HW3)
    width, height = jpeg_size(data)
    size = scaled_size(width, height, short_side)
    if size == (width, height):
        return simplejpeg.decode_jpeg(data, "RGB", buffer=into_HW3)
    if size[0] > width:
        return scaled(simplejpeg.decode_jpeg(data, "RGB"), size)
    return scaled(simplejpeg.decode_jpeg(data, "RGB", min_width=size[0], min_height=size[1]), size)


def encode_jpeg(pixels_HW3: np.ndarray, quality: int) -> bytes:
    """Encode (H,W,3) uint8 RGB as JPEG, with half the colour resolution (4:2:0), as in videos."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels_HW3), quality=quality, colorspace="RGB", colorsubsampling="420"
    )


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Read (width, height) from a JPEG header. Raises ValueError for other data."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    return width, height


def decode_gray_jpeg(data: bytes) -> np.ndarray:
    """Decode a gray JPEG image to (H,W) uint8. Raises ValueError for a broken image."""
    return simplejpeg.decode_jpeg(data, "GRAY")[..., 0]


def encode_gray_jpeg(gray_HW: np.ndarray, quality: int) -> bytes:
    """Encode (H,W) uint8 as a gray JPEG."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(gray_HW)[..., None], quality=quality, colorspace="GRAY", colorsubsampling="Gray"
    )
