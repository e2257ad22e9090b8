"""Windows of one video that overlap, read in order: each frame is asked for once, however many windows show it."""

import numpy as np

from muybridge.video.readers import Reader, Row


class Overlapping:
    """Reads windows by `reader`, and keeps the frames that later windows show, too.

    Frames come in order, so a reader that goes forwards decodes the video once. At most the frames of two windows are kept.
    """

    def __init__(self, reader: Reader, starts_W: np.ndarray, indices: np.ndarray) -> None:
        """Set the windows by their first frames, rising, and by the `indices` that all of them show, from the first on."""
        self._reader, self._starts_W = reader, starts_W
        shown_WF = starts_W[:, None] + np.unique(indices)
        self._frames_M, place_WF = np.unique(shown_WF, return_inverse=True)
        self._last_M = np.zeros(len(self._frames_M), dtype=np.int64)
        """Last window that shows each frame."""
        windows_WF = np.broadcast_to(np.arange(len(starts_W))[:, None], shown_WF.shape)
        np.maximum.at(self._last_M, place_WF.reshape(-1), windows_WF.reshape(-1))
        self._num_read = 0
        self._kept: dict[int, np.ndarray] = {}

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices` as (T,H,W,C). Raises DecodeError."""
        wanted = (np.asarray(indices) + row.start_frame).tolist()
        until = int(np.searchsorted(self._frames_M, max(wanted), side="right"))
        if until > self._num_read:
            new_M = self._frames_M[self._num_read : until]
            frames = self._reader.read(row._replace(start_frame=0, num_frames=int(new_M[-1]) + 1), new_M)
            self._kept |= zip(new_M.tolist(), frames, strict=True)
            self._num_read = until
        if not self._kept.keys() >= set(wanted):  # windows out of order, or other frames
            return self._reader.read(row, indices)
        shown = np.stack([self._kept[frame] for frame in wanted])
        window = int(np.searchsorted(self._starts_W, row.start_frame, side="right")) - 1
        for frame in [frame for frame in self._kept if self._last_of(frame) <= window]:
            del self._kept[frame]
        return shown

    def _last_of(self, frame: int) -> int:
        return int(self._last_M[np.searchsorted(self._frames_M, frame)])
