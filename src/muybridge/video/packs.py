"""A pack's files: many videos' frames, each readable at random."""

from collections.abc import Iterator

import numpy as np

SUFFIX = ".pack"


def frames(path: str, *, start_frame: int = 0, short_side: int | None = None) -> Iterator[np.ndarray]:
    raise NotImplementedError


def read_frames(path: str, indices: np.ndarray, *, short_side: int | None = None, seekable: bool = False) -> np.ndarray:
    raise NotImplementedError
