"""Frames of one video that are kept in memory while it is looked at, so that reading it decodes nothing again."""

import numpy as np

from muybridge.video.indices import as_asked, distinct_frames


class KeptFrames:
    """All frames of a video in order, scaled; none of a video that needs more than `most_bytes`."""

    def __init__(self, path: str, short_side: int | None, most_bytes: int) -> None:
        self.path, self.short_side, self._most_bytes = path, short_side, most_bytes
        self._frames: list[np.ndarray] = []
        self._num_bytes = 0
        self.is_open = True
        """Whether frames are taken: all that were added so far are here."""

    def add(self, frame_HW3: np.ndarray) -> None:
        """Keep the next frame; where it is too much, all are dropped, and no more are taken."""
        self._num_bytes += frame_HW3.nbytes
        if self._num_bytes > self._most_bytes:
            self._frames, self.is_open = [], False
        else:
            self._frames.append(frame_HW3)

    def read(self, path: str, indices: np.ndarray, short_side: int | None) -> np.ndarray | None:
        """Frames at `indices` as (T,H,W,3); None where they are those of another video or size, or not all here."""
        distinct, positions = distinct_frames(indices)
        if (path, short_side) != (self.path, self.short_side) or distinct[-1] >= len(self._frames):
            return None
        return as_asked(np.stack([self._frames[index] for index in distinct]), positions)
