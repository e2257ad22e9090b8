"""Arrays of clips: a `.npy` file of shape (N,T,H,W,3), uint8, read as N·T frames."""

from collections.abc import Iterator

import numpy as np

SUFFIX = ".npy"


def frames(path: str, *, start_frame: int = 0, short_side: int | None = None) -> Iterator[np.ndarray]:
    raise NotImplementedError


def read_frames(path: str, indices: np.ndarray, *, short_side: int | None = None, seekable: bool = False) -> np.ndarray:
    raise NotImplementedError
