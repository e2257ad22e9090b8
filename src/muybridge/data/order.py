"""In what order training sees the rows of a manifest, and how they are cut into batches. No torch."""

import numpy as np

from muybridge.data.random import generator


def pass_batches(rows: np.ndarray, *, batch_size: int, number: int, seed: int) -> list[np.ndarray]:
    """Rows in the random order of the pass of this number, cut into batches as even as can be: every row once, none
    dropped, none left alone at the end."""
    shuffled = generator(seed, "order", number).permutation(rows)
    return np.array_split(shuffled, num_batches(len(rows), batch_size))


def num_batches(num_rows: int, batch_size: int) -> int:
    """Batches that a pass over `num_rows` is cut into."""
    return -(-num_rows // batch_size)
