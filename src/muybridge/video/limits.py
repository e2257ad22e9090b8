"""What a file that nobody knows may take, before it is called a fault of the file."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from muybridge.errors import UserError
from muybridge.video.errors import DecodeError

GIB = 2**30
MOST_ASPECT = 512
"""How much longer than the other a side may be."""


@dataclass(frozen=True)
class Limits:
    """Of one file. Raises UserError for a limit that is none."""

    pixels: int = 2**26
    """Pixels of a frame: 8K has half as many."""
    frames: int = 2_000_000
    """Frames: nine hours of 60 a second."""
    seconds: float = 1800.0
    """Seconds that decoding takes."""
    memory_gib: float = 4.0
    """Memory of the process that decodes."""

    def __post_init__(self) -> None:
        for name, value in (("pixels", self.pixels), ("frames", self.frames), ("seconds", self.seconds)):
            if not value > 0:
                raise UserError(f"--max-{name} {value}: a number above 0 is needed")
        if not self.memory_gib >= 0.25:
            raise UserError(f"--max-memory-gib {self.memory_gib}: at least 0.25 is needed, for the decoder itself")

    @property
    def memory_bytes(self) -> int:
        return int(min(self.memory_gib, 2**32) * GIB)

    def check_size(self, path: str | os.PathLike[str], width: int, height: int) -> None:
        """Raises DecodeError for a frame that is too large, or would be once its short side is scaled up."""
        if max(width, height) > MOST_ASPECT * min(width, height):
            raise DecodeError(path, f"its frames of {width} × {height} pixels are too narrow for a video")
        if width * height > self.pixels:
            raise DecodeError(
                path, f"its frames have {width} × {height} pixels; at most {self.pixels} are decoded (--max-pixels)"
            )


class Watch:
    """Counts the frames of one file against its limits; `alive` hears that there is progress, at most once a second."""

    def __init__(
        self, path: str | os.PathLike[str], limits: Limits | None, alive: Callable[[], None] = lambda: None
    ) -> None:
        self.path, self.limits, self.alive = path, limits, alive
        self.num_frames = 0
        self._started = self._told = time.monotonic()

    def frame(self, width: int, height: int) -> None:
        """One more frame was decoded. Raises DecodeError where a limit is passed."""
        self.num_frames += 1
        if self.limits is not None:
            self.limits.check_size(self.path, width, height)
            if self.num_frames > self.limits.frames:
                raise DecodeError(self.path, f"it has more than {self.limits.frames} frames (--max-frames)")
        self.tick()

    def tick(self) -> None:
        """Something went on. Raises DecodeError where it has gone on for too long."""
        now = time.monotonic()
        if self.limits is not None and now - self._started > self.limits.seconds:
            raise DecodeError(self.path, f"decoding takes more than {self.limits.seconds:g} seconds (--max-seconds)")
        if now - self._told >= 1.0:
            self._told = now
            self.alive()
