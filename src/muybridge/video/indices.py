"""Frame indices as a caller gives them: in any order, with repeats."""

from collections.abc import Sequence

import numpy as np


def distinct_frames(indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each frame that is asked for once, sorted, and where each index finds it. Raises ValueError for none, or below 0."""
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.size == 0 or wanted.min() < 0:
        raise ValueError(f"frame indices must be ≥ 0 and at least one; got {wanted.tolist()}")
    return np.unique(wanted, return_inverse=True)


def as_asked(distinct_THW3: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The clip in the order that was asked for; not copied where that is the same."""
    in_order = np.array_equal(places, np.arange(len(distinct_THW3)))
    return distinct_THW3 if in_order else distinct_THW3[places]
