"""The training videos of a set, or a share of them: what a smaller set would have had."""

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.random import generator


def training_rows(manifest: Manifest, fold: int | None = None, *, share: float = 1.0, seed: int = 0) -> np.ndarray:
    """Indices of the training rows of a fold, or of a share of them.

    Shares of one seed are nested: the quarter lies in the half. Groups are taken whole, and of each class about the same
    share, the first group or video of every class first. A share is met as nearly as whole groups allow. Val and test stay
    as they are. Raises UserError for a fold that the manifest lacks.
    """
    rows = manifest.split("train", fold)
    if share >= 1 or not len(rows):
        return rows
    labels_N, names_N = manifest.labels()[rows], manifest.text("group", rows)
    alone_N = np.char.add("video ", manifest.text("id", rows))
    _, unit_N = np.unique(np.where(names_N == "", alone_N, np.char.add("group ", names_N)), return_inverse=True)
    order = _order_of_units(unit_N, labels_N, len(manifest.classes), generator(seed, "train share"))
    videos = np.cumsum(np.bincount(unit_N)[order])
    taken = 1 + int(np.argmin(np.abs(videos - share * len(rows))))
    return rows[np.isin(unit_N, order[:taken])]


def _order_of_units(
    unit_N: np.ndarray, labels_N: np.ndarray, num_classes: int, draw: np.random.Generator
) -> np.ndarray:
    """Order (U,) in which units are taken: at random, each class at an even pace, and first what shows a new class."""
    counts_UK = np.zeros((int(unit_N.max()) + 1, num_classes), dtype=np.int64)
    np.add.at(counts_UK, (unit_N, labels_N), 1)
    main_U, size_U, total_K = counts_UK.argmax(1), counts_UK.sum(1), counts_UK.sum(0)
    shuffled = draw.permutation(len(counts_UK))
    before_U = np.zeros(len(counts_UK))
    for k in range(num_classes):
        of_class = shuffled[main_U[shuffled] == k]
        before_U[of_class] = (np.cumsum(size_U[of_class]) - size_U[of_class]) / max(1, total_K[k])
    paced = shuffled[np.argsort(before_U[shuffled], kind="stable")]
    seen_K, first = np.zeros(num_classes, dtype=bool), []
    for unit in paced.tolist():
        shows_K = counts_UK[unit] > 0
        if (shows_K & ~seen_K).any():
            first.append(unit)
            seen_K |= shows_K
    return np.concatenate([np.array(first), paced[~np.isin(paced, first)]])
