"""A linear probe in closed form: ridge regression to one-hot labels, scored out of fold.

The penalty is chosen on the training part of each fold by generalised cross-validation (Golub, Heath and Wahba 1979), from
the same eigenvectors that solve it, so a probe of 13,000 videos takes seconds and needs no further library.
"""

from collections.abc import Sequence

import numpy as np

from muybridge.data.prepare.splits import assign

FOLDS = 5
PENALTIES = np.logspace(-4, 4, 17)
"""Penalties that are tried, as multiples of the mean eigenvalue."""
TEMPERATURES = np.logspace(-2, 1, 31)


def folds_of(units_N: np.ndarray, labels_N: np.ndarray, *, count: int = FOLDS) -> np.ndarray:
    """Fold of each row, (N,): rows of a unit go together, classes are spread evenly."""
    return assign(units_N, labels_N, [1.0] * min(count, len(np.unique(units_N))), seed=0, purpose="doctor")


def out_of_fold(values_ND: np.ndarray, labels_N: np.ndarray, folds_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Scores (N,K) of each row by a probe that was fitted to the rows of the other folds."""
    scores_NK = np.zeros((len(labels_N), num_classes))
    target_NK = np.eye(num_classes)[labels_N]
    for fold in np.unique(folds_N):
        train_N, test_N = folds_N != fold, folds_N == fold
        mean_D, std_D = values_ND[train_N].mean(0), values_ND[train_N].std(0)
        scale_D = np.where(std_D > 1e-9, std_D, np.inf)
        weights_DK, bias_K = ridge((values_ND[train_N] - mean_D) / scale_D, target_NK[train_N])
        scores_NK[test_N] = (values_ND[test_N] - mean_D) / scale_D @ weights_DK + bias_K
    return scores_NK


def ridge(x_ND: np.ndarray, y_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (D,K) and bias (K,) of ridge regression; columns of `x_ND` have a mean of zero."""
    count, bias_K = len(x_ND), y_NK.mean(0)
    y_NK = y_NK - bias_K
    if x_ND.shape[1] <= count:
        values_R, vectors_DR = np.linalg.eigh(x_ND.T @ x_ND)
    else:
        values_R, vectors_NR = np.linalg.eigh(x_ND @ x_ND.T)
        vectors_DR = x_ND.T @ vectors_NR / np.sqrt(np.maximum(values_R, 1e-12))
    kept_R = values_R > 1e-9 * max(float(values_R.max(initial=0.0)), 1e-12)
    values_R, vectors_DR = values_R[kept_R], vectors_DR[:, kept_R]
    if not len(values_R):
        return np.zeros((x_ND.shape[1], y_NK.shape[1])), bias_K
    projected_RK = vectors_DR.T @ (x_ND.T @ y_NK)
    squared_R, total = (projected_RK**2).sum(1), float((y_NK**2).sum())
    scores = []
    for penalty in PENALTIES * values_R.mean():
        shrunk_R = values_R + penalty
        left = total - float((squared_R * (2 / shrunk_R - values_R / shrunk_R**2)).sum())
        free = count - 1 - float((values_R / shrunk_R).sum())
        scores.append(left / free**2 if free > 0 else np.inf)
    penalty = PENALTIES[int(np.argmin(scores))] * values_R.mean()
    weights_DK: np.ndarray = vectors_DR @ (projected_RK / (values_R + penalty)[:, None])
    return weights_DK, bias_K


def probabilities(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Probabilities (N,K) of out-of-fold scores: a softmax at the temperature that fits the labels best (Guo et al. 2017)."""
    best: tuple[float, np.ndarray] | None = None
    for temperature in TEMPERATURES:
        logits_NK = scores_NK / temperature
        logits_NK = logits_NK - logits_NK.max(1, keepdims=True)
        chance_NK = np.exp(logits_NK)
        chance_NK /= chance_NK.sum(1, keepdims=True)
        loss = -float(np.log(np.maximum(chance_NK[np.arange(len(labels_N)), labels_N], 1e-12)).mean())
        if best is None or loss < best[0]:
            best = loss, chance_NK
    assert best is not None
    return best[1]


def binned(columns: Sequence[np.ndarray], *, most: int = 8) -> np.ndarray:
    """One-hot bins (N,D) of columns of numbers or text, so that a linear probe may use any part of a range."""
    parts = []
    for values_N in columns:
        _, codes_N = np.unique(values_N, return_inverse=True)
        if values_N.dtype.kind in "if" and codes_N.max() >= most:
            edges = np.unique(np.quantile(values_N, np.linspace(0, 1, most + 1)[1:-1]))
            codes_N = np.searchsorted(edges, values_N, side="right")
        parts.append(np.eye(int(codes_N.max()) + 1)[codes_N])
    return np.concatenate(parts, axis=1)
