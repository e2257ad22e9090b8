"""Frames out of video files: NumPy and PyAV, no torch."""

from muybridge.video.decode import DecodeError, VideoInfo, frames, probe, read_frames
from muybridge.video.readers import FileReader, RamCache, Reader, Row

__all__ = ["DecodeError", "FileReader", "RamCache", "Reader", "Row", "VideoInfo", "frames", "probe", "read_frames"]
