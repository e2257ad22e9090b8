"""Order and batches in which training sees the rows of a manifest, without torch."""

import numpy as np

from muybridge.data.random import generator


def pass_batches(rows: np.ndarray, *, batch_size: int, number: int, seed: int) -> list[np.ndarray]:
    """Cut the rows, in the random order of pass `number`, into batches of even size.

    Each row occurs once: none is dropped, and no small batch is left at the end.
    """
    shuffled = generator(seed, "order", number).permutation(rows)
    return np.array_split(shuffled, num_batches(len(rows), batch_size))


def num_batches(num_rows: int, batch_size: int) -> int:
    """Number of batches in a pass over `num_rows`."""
    return -(-num_rows // batch_size)
