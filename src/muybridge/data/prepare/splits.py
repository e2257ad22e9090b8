"""Cut a set into parts without leaks: whole groups, classes as even as the groups allow."""

import numpy as np

from muybridge.data.random import generator

_CHUNK = 1024
"""Units whose counts of all classes are in memory at once."""


def assign(units_N: np.ndarray, labels_N: np.ndarray, shares: list[float], *, seed: int, purpose: str) -> np.ndarray:
    """Assign each of N rows to a part (an index into `shares`), (N,).

    All rows of a unit go together, and every part gets about its share of every class. Units are assigned one after
    another, the least even first, ties at random by the seed: each where the squared distance of all class counts from
    their targets grows least.
    """
    _, units_N = np.unique(units_N, return_inverse=True)
    classes, labels_N = np.unique(labels_N, return_inverse=True)
    num_units, num_classes = int(units_N.max()) + 1, len(classes)
    # (unit, class) pairs with rows, by unit: a table of all would take gigabytes for the largest sets
    pairs_M, counts_M = np.unique(units_N * num_classes + labels_N, return_counts=True)
    unit_M, class_M = np.divmod(pairs_M, num_classes)
    first_U = np.searchsorted(unit_M, np.arange(num_units + 1))
    spread_U = np.empty(num_units)
    for start in range(0, num_units, _CHUNK):
        stop = min(start + _CHUNK, num_units)
        rows = slice(first_U[start], first_U[stop])
        counts_CK = np.zeros((stop - start, num_classes))
        counts_CK[unit_M[rows] - start, class_M[rows]] = counts_M[rows]
        spread_U[start:stop] = counts_CK.std(1)
    shares_P = np.array(shares) / np.sum(shares)
    target_PK = shares_P[:, None] * np.bincount(labels_N, minlength=num_classes).astype(np.float64)
    scale_PK = np.maximum(target_PK, 1e-9)  # relative to the target, so that a small part is not starved by a large one
    shuffled_U = generator(seed, purpose).permutation(num_units)
    order_U = shuffled_U[np.argsort(-spread_U[shuffled_U], kind="stable")]
    filled_PK = np.zeros_like(target_PK)
    part_U = np.zeros(num_units, dtype=np.int64)
    for unit in order_U:
        rows = slice(first_U[unit], first_U[unit + 1])
        own, counts = class_M[rows], counts_M[rows]  # other classes' distances do not change
        lack_PC = filled_PK[:, own] - target_PK[:, own]
        error_P = (((lack_PC + counts) ** 2 - lack_PC**2) / scale_PK[:, own]).sum(1)
        nearest = np.flatnonzero(error_P <= error_P.min() + 1e-9)  # of these, the part that lacks most rows
        part = nearest[np.argmax((target_PK - filled_PK)[nearest].sum(1))] if len(nearest) > 1 else nearest[0]
        part_U[unit] = part
        filled_PK[part, own] += counts
    return part_U[units_N]
