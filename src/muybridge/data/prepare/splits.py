"""Cut a set into parts without leaks: whole groups, classes as even as the groups allow."""

import numpy as np

from muybridge.data.random import generator


def assign(units_N: np.ndarray, labels_N: np.ndarray, shares: list[float], *, seed: int, purpose: str) -> np.ndarray:
    """Assign each of N rows to a part (an index into `shares`), (N,).

    All rows of a unit go together, and every part gets about its share of every class. Units are assigned one after
    another, the least even first, ties at random by the seed: each where the squared distance of all class counts from
    their targets grows least.
    """
    _, units_N = np.unique(units_N, return_inverse=True)
    classes, labels_N = np.unique(labels_N, return_inverse=True)
    counts_UK = np.zeros((units_N.max() + 1, len(classes)))
    np.add.at(counts_UK, (units_N, labels_N), 1)
    shares_P = np.array(shares) / np.sum(shares)
    totals_K = counts_UK.sum(0)
    target_PK = shares_P[:, None] * totals_K
    shuffled_U = generator(seed, purpose).permutation(len(counts_UK))
    order_U = shuffled_U[np.argsort(-counts_UK[shuffled_U].std(1), kind="stable")]
    filled_PK = np.zeros_like(target_PK)
    part_U = np.zeros(len(counts_UK), dtype=np.int64)
    for unit in order_U:
        # relative to the target, so that a small part is not starved by a large one
        error_P = [
            np.sum((filled_PK[part] + counts_UK[unit] - target_PK[part]) ** 2 / np.maximum(target_PK[part], 1e-9))
            - np.sum((filled_PK[part] - target_PK[part]) ** 2 / np.maximum(target_PK[part], 1e-9))
            for part in range(len(shares))
        ]
        nearest = np.flatnonzero(np.array(error_P) <= min(error_P) + 1e-9)  # of these, the part that lacks most rows
        part_U[unit] = nearest[np.argmax((target_PK - filled_PK)[nearest].sum(1))]
        filled_PK[part_U[unit]] += counts_UK[unit]
    return part_U[units_N]
