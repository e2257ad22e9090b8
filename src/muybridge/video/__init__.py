"""Frames out of video files: NumPy and PyAV, no torch."""

from muybridge.video.decode import DecodeError, VideoInfo, frames, probe, read_frames
from muybridge.video.readers import FileReader, ForwardReader, RamCache, Reader, Row

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
