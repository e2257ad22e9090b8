"""Folders of images: a video's frames as the papers' own tools leave them (`00001.jpg`, `img_00001.jpg`)."""

from collections.abc import Iterator

import numpy as np


def frames(path: str, *, start_frame: int = 0, short_side: int | None = None) -> Iterator[np.ndarray]:
    """Images from the `start_frame`-th on, in the order of their numbers."""
    raise NotImplementedError


def read_frames(path: str, indices: np.ndarray, *, short_side: int | None = None, seekable: bool = False) -> np.ndarray:
    raise NotImplementedError
