"""Frame indices in any order, with repeats."""

from collections.abc import Sequence

import numpy as np


def distinct_frames(indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct frame indices, sorted, and the position of each index among them.

    Raises ValueError for an empty list and for negative indices.
    """
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.size == 0 or wanted.min() < 0:
        raise ValueError(f"frame indices: at least one is needed, all ≥ 0; got {wanted.tolist()}")
    return np.unique(wanted, return_inverse=True)


def as_asked(distinct_THW3: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Clip in the requested order; not copied where the order is the same.

    `positions`: those that `distinct_frames` returns.
    """
    in_order = np.array_equal(positions, np.arange(len(distinct_THW3)))
    return distinct_THW3 if in_order else distinct_THW3[positions]
