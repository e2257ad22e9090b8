"""Limits of time, memory and size for decoding an unknown file."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from muybridge.errors import UserError
from muybridge.video.errors import DecodeError

GIB = 2**30
MOST_ASPECT = 512
"""Greatest ratio of the sides of a frame."""


@dataclass(frozen=True)
class Limits:
    """Limits of one file. Raises UserError for an invalid limit."""

    pixels: int = 2**26
    """Pixels of a frame; 8K has half as many."""
    frames: int = 2_000_000
    """Number of frames; nine hours at 60 a second."""
    seconds: float = 1800.0
    """Seconds of decoding."""
    memory_gib: float = 4.0
    """Memory of the decoding process."""

    def __post_init__(self) -> None:
        for name, value in (("pixels", self.pixels), ("frames", self.frames), ("seconds", self.seconds)):
            if not value > 0:
                raise UserError(f"--max-{name} {value}: not above 0. Give a positive number")
        if not self.memory_gib >= 0.25:
            raise UserError(f"--max-memory-gib {self.memory_gib}: too little for the decoder. Give at least 0.25")

    @property
    def memory_bytes(self) -> int:
        """`memory_gib` in bytes; finite."""
        return int(min(self.memory_gib, 2**32) * GIB)

    def check_size(self, path: str | os.PathLike[str], width: int, height: int) -> None:
        """Raise DecodeError for a frame that is too large, or too narrow to be scaled by its short side."""
        if max(width, height) > MOST_ASPECT * min(width, height):
            raise DecodeError(path, f"its frames of {width} × {height} pixels are too narrow for a video")
        if width * height > self.pixels:
            raise DecodeError(
                path, f"its frames have {width} × {height} pixels; at most {self.pixels} are decoded (--max-pixels)"
            )


class Watch:
    """Counts the frames of one file against its limits; calls `alive` at most once a second while decoding."""

    def __init__(
        self, path: str | os.PathLike[str], limits: Limits | None, alive: Callable[[], None] = lambda: None
    ) -> None:
        self.path, self.limits, self.alive = path, limits, alive
        self.num_frames = 0
        self._started = self._reported = time.monotonic()

    def frame(self, width: int, height: int) -> None:
        """Count a decoded frame. Raises DecodeError where a limit is passed."""
        self.num_frames += 1
        if self.limits is not None:
            self.limits.check_size(self.path, width, height)
            if self.num_frames > self.limits.frames:
                raise DecodeError(self.path, f"it has more than {self.limits.frames} frames (--max-frames)")
        self.tick()

    def tick(self) -> None:
        """Report progress. Raises DecodeError where decoding takes too long."""
        now = time.monotonic()
        if self.limits is not None and now - self._started > self.limits.seconds:
            raise DecodeError(self.path, f"decoding takes more than {self.limits.seconds:g} seconds (--max-seconds)")
        if now - self._reported >= 1.0:
            self._reported = now
            self.alive()
