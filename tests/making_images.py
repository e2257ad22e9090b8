"""Folders of images whose pictures say their own number, as `making` has it for video files."""

from fractions import Fraction

import av
import numpy as np
import simplejpeg
from making import coded


def encoded(picture_HW3, ending, *, kind="rgb"):
    """The bytes of an image file. `kind`, of JPEG: rgb, gray or cmyk (no black ink); of PNG: rgb, gray or rgba."""
    picture_HW3 = np.ascontiguousarray(picture_HW3)
    if ending.lower() in (".jpg", ".jpeg"):
        if kind == "gray":
            return simplejpeg.encode_jpeg(picture_HW3[..., :1].copy(), colorspace="GRAY", colorsubsampling="Gray")
        if kind == "cmyk":
            full_HW1 = np.full((*picture_HW3.shape[:2], 1), 255, np.uint8)
            inks = np.ascontiguousarray(np.concatenate([picture_HW3, full_HW1], axis=2))
            return simplejpeg.encode_jpeg(inks, quality=95, colorspace="CMYK")
        return simplejpeg.encode_jpeg(picture_HW3, quality=95, colorspace="RGB", colorsubsampling="420")
    codec, pixels = {
        ".png": ("png", {"rgb": "rgb24", "gray": "gray", "rgba": "rgba"}[kind]), ".bmp": ("bmp", "bgr24"),
        ".webp": ("libwebp", "yuv420p"), ".tif": ("tiff", "rgb24"), ".tiff": ("tiff", "rgb24"),
    }[ending.lower()]  # fmt: skip
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = picture_HW3.shape[:2]
    context.pix_fmt, context.time_base = pixels, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture_HW3, format="rgb24").reformat(format=pixels)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def write_images(folder, first=0, num_frames=6, *, name="img_{:05d}.jpg", start=1, kind="rgb", height=48, width=64):
    """The numbers first, first + 1, … as images numbered from `start`."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(num_frames):
        path = folder / name.format(start + i)
        path.write_bytes(encoded(coded(first + i, height=height, width=width), path.suffix, kind=kind))
    return folder
