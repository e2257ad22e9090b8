"""From a recipe to the levers against imbalance: weights of classes and adjusted logits, by the training videos."""

from dataclasses import dataclass

import numpy as np
import torch

from muybridge.data.manifest import Manifest
from muybridge.data.subsets import training_rows
from muybridge.errors import UserError, nearest
from muybridge.recipe import Recipe


@dataclass(frozen=True)
class Balance:
    """Parts of a loss that make up for classes of uneven size; both None: it does nothing about them."""

    weight_K: torch.Tensor | None = None
    """Weight of each class in the loss; its mean over the training videos is 1."""
    shift_K: torch.Tensor | None = None
    """Added to the logits in the loss: tau times the logarithm of a class's share of the training videos."""


NO_BALANCE = Balance()


def train_rows(recipe: Recipe, manifest: Manifest) -> np.ndarray:
    """Indices of the rows that a recipe trains on."""
    return training_rows(manifest, recipe.data.fold, share=recipe.data.train_share, seed=recipe.seed)


def balance(recipe: Recipe, manifest: Manifest, device: torch.device | str = "cpu") -> Balance:
    """Weights and shifts of a recipe's loss.

    Logit adjustment: Menon et al. 2021, "Long-tail learning via logit adjustment", equation 10. A class without a training
    video is taken as one of a single video. Raises UserError for weights that are not of the manifest's classes.
    """
    given, tau = recipe.optim.class_weights, recipe.optim.logit_adjustment
    if given is None and not tau:
        return NO_BALANCE
    counts_K = np.bincount(manifest.labels()[train_rows(recipe, manifest)], minlength=len(manifest.classes))
    weight_K = shift_K = None
    if given is not None:
        raw_K = 1 / np.maximum(counts_K, 1) if given == "balanced" else _weights(given, manifest.classes)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled_K = (raw_K * counts_K.sum() / (raw_K * counts_K).sum()).astype(np.float32)
        _check_scaled(scaled_K, manifest.classes)
        weight_K = torch.tensor(scaled_K, device=device)
    if tau:
        shares_K = np.maximum(counts_K, 1) / counts_K.sum()
        shift_K = torch.tensor(tau * np.log(shares_K), dtype=torch.float32, device=device)
    return Balance(weight_K, shift_K)


def _check_scaled(weight_K: np.ndarray, classes: tuple[str, ...]) -> None:
    """Raise UserError for weights that are no numbers above 0 any more, once they have a mean of 1."""
    for name, weight in zip(classes, weight_K.tolist(), strict=True):
        if not float(np.finfo(np.float32).tiny) <= weight < float("inf"):
            raise UserError(
                f"optim.class_weights: the numbers are too large, or too far apart: scaled to a mean of 1 over the training "
                f"videos, the weight of '{name}' would be {weight:g}. Give numbers nearer to 1"
            )


def _weights(given: tuple[float, ...] | tuple[tuple[str, float], ...], classes: tuple[str, ...]) -> np.ndarray:
    """Weights by class, as they are given: for all in order, or for some by name (the others have 1)."""
    named = {one[0]: one[1] for one in given if isinstance(one, tuple)}
    if not named:
        if len(given) != len(classes):
            raise UserError(
                f"optim.class_weights: {len(given)} numbers for {len(classes)} classes. Give one for each, in the manifest's "
                'order, or names: {"NAME": 3}'
            )
        return np.array(given, dtype=np.float64)
    for name in named:
        if name not in classes:
            raise UserError(f"optim.class_weights: '{name}' is not a class. {nearest(name, classes)}")
    return np.array([named.get(name, 1.0) for name in classes])
