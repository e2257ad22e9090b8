"""Frames out of video files, folders of images, arrays and packs: NumPy, PyAV and simplejpeg, no torch."""

from muybridge.video.decode import VideoInfo, frames, read_frames
from muybridge.video.errors import DecodeError
from muybridge.video.readers import FileReader, ForwardReader, RamCache, Reader, Row, probe

__all__ = [
    "DecodeError",
    "FileReader",
    "ForwardReader",
    "RamCache",
    "Reader",
    "Row",
    "VideoInfo",
    "frames",
    "probe",
    "read_frames",
]
