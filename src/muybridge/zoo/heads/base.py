"""The interface of heads: vectors of a video's steps in, features of its answer out.

B videos, T steps (frames, or tokens of clips), D values of a vector, S steps of the answer, E features.
"""

import torch
from torch import nn

from muybridge.errors import UserError


class Head(nn.Module):
    """Base class of heads: `forward` gives features of S steps and how much each of them counts in the answer.

    The answer's features are the sum of weights times features. S = 1 for a head that pools.
    """

    every_step = False
    """Whether training takes the loss of every step, by its weight, or that of the answer alone."""
    looks_back = False
    """Whether a step is seen by itself and later ones alone, and the answer is a weighted mean over steps.

    Such a head takes steps one by one, too (`muybridge.zoo.memory`).
    """

    def __init__(self, num_inputs: int, num_features: int) -> None:
        """`num_inputs`: D of the vectors. `num_features`: E of what `forward` gives."""
        super().__init__()
        self.num_inputs, self.num_features = num_inputs, num_features

    def forward(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors f_BTD to features g_BSE and weights_BS, whose rows sum to 1.

        `present_BT`: which steps are there, at least one of each video; None: all. The others have no influence.
        """
        raise NotImplementedError

    def weights(self, f_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
        """Weights (B,T) of the steps in the answer, where a head looks back: all alike. Rows sum to 1."""
        there_BT = torch.ones_like(f_BTD[..., 0]) if present_BT is None else present_BT.to(f_BTD.dtype)
        return there_BT / there_BT.sum(1, keepdim=True)


def whole(g_BE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the answer as the only step, which counts in full."""
    return g_BE[:, None], g_BE.new_ones(g_BE.shape[0], 1)


def without_absent(x_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
    """Zeros in the place of steps that are not there."""
    return x_BTD if present_BT is None else x_BTD.masked_fill(~present_BT[..., None], 0.0)


def front(f_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The steps that are there, in their order and side by side, and zeros after them; and where they are now."""
    if present_BT is None:
        return f_BTD, None
    order_BT = order(present_BT)
    return taken(without_absent(f_BTD, present_BT), order_BT), present_BT.gather(1, order_BT)


def order(present_BT: torch.Tensor) -> torch.Tensor:
    """Indices (B,T) of the steps that are there, and after them those of the others."""
    return (~present_BT).to(torch.int32).argsort(dim=1, stable=True)


def taken(x_BTD: torch.Tensor, index_BT: torch.Tensor) -> torch.Tensor:
    """Steps of each video by their indices."""
    return x_BTD.gather(1, index_BT[..., None].expand(-1, -1, x_BTD.shape[2]))


def mean_of_present(x_BTD: torch.Tensor, present_BT: torch.Tensor | None) -> torch.Tensor:
    """The mean of the steps that are there, (B,D)."""
    if present_BT is None:
        return x_BTD.mean(1)
    return without_absent(x_BTD, present_BT).sum(1) / present_BT.sum(1, keepdim=True)


def check_count(option: str, value: int, *, least: int = 1, most: int | None = None) -> None:
    """Raises UserError for an option of the model, a whole number, outside of its range."""
    if value < least or (most is not None and value > most):
        valid = f"{least} or more" if most is None else f"a number from {least} to {most}"
        raise UserError(f"model.options.{option}: it is {value}, out of range. Give {valid}")
