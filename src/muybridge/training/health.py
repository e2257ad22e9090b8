"""Facts of a network in training: one look an epoch at a batch that is there already.

A look is a forward pass without gradients in evaluation mode. It changes no weight, no statistic and no random state that
a later step reads, so that a training has the same bits with and without it. `muybridge.analysis.learning` judges the facts.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from muybridge.build import NO_BALANCE, Balance
from muybridge.data.loader import micro_batches, moved
from muybridge.data.views import Batch
from muybridge.evaluation.score import answer, testing
from muybridge.recipe import Recipe
from muybridge.runtime.device import Placement
from muybridge.runtime.distributed import ALONE, Processes
from muybridge.training.step import network_input
from muybridge.zoo import VideoModel

RELUS = {F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_}
"""Functions that leave a unit at zero; modules call one of them."""


class ReluWatch(TorchFunctionMode):
    """Notes which channels of every ReLU are above zero anywhere in a batch, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[np.ndarray] = []
        """Of each call, (C,) bool."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        is_relu6 = func is F.hardtanh and (kwargs or {}).get("min_val") == 0  # nn.ReLU6 calls it
        if (func in RELUS or is_relu6) and out.dim() > 1:
            channel = 2 if out.dim() == 3 else 1  # (B,T,D) of a linear layer; else (B,C,…)
            self.alive.append(out.detach().transpose(0, channel).flatten(1).amax(1).gt(0).cpu().numpy())
        return out


@dataclass(frozen=True)
class _Seen:
    """Answers and activity of a batch in one process."""

    logits_BK: np.ndarray
    labels_B: np.ndarray
    alive: list[np.ndarray] = field(default_factory=list)


def look(
    model: VideoModel, batch: Batch, where: Placement, recipe: Recipe, processes: Processes = ALONE
) -> dict[str, Any]:
    """Facts of a network on one forward pass of a batch: its first micro-batch in every process.

    `clips`, and of these `correct` and `most_common` (the number that got the commonest answer); `confidence`, the mean
    probability of the answers; `spread`, the most that any logit differs between two clips; `relus`, the number of calls
    of a ReLU, of these `dead_relus` without a unit above zero, and `dead`, the mean share of channels that are zero at
    every position of every clip. Empty for a batch without clips, and where an answer is not finite.
    """
    seen = processes.gathered(_forward(model, batch, where, recipe))
    with_clips = [part for part in seen if part is not None]
    if not with_clips:
        return {}
    logits_BK = np.concatenate([part.logits_BK for part in with_clips])
    labels_B = np.concatenate([part.labels_B for part in with_clips])
    if not np.isfinite(logits_BK).all():
        return {}
    dead = [1 - np.logical_or.reduce(calls).mean() for calls in zip(*(part.alive for part in with_clips), strict=True)]
    answers_B = logits_BK.argmax(1)
    probability_BK = np.exp(logits_BK - logits_BK.max(1, keepdims=True))
    return {
        "clips": len(labels_B),
        "correct": int((answers_B == labels_B).sum()),
        "most_common": int(np.bincount(answers_B).max()),
        "confidence": float((1 / probability_BK.sum(1)).mean()),
        "spread": float(np.ptp(logits_BK, axis=0).max()),
        "relus": len(dead),
        "dead_relus": int(sum(share == 1 for share in dead)),
        "dead": float(np.mean(dead)) if dead else 0.0,
    }


def _forward(model: VideoModel, batch: Batch, where: Placement, recipe: Recipe) -> _Seen | None:
    part = next(micro_batches(batch, recipe.optim.micro_batch_size, largest=len(batch.rows_B)), None)
    if part is None:
        return None
    part = moved(part, where.device)
    with testing(model), torch.no_grad(), where.autocast(), ReluWatch() as watch:
        logits_BK = answer(model, network_input(part, model, recipe))
    return _Seen(logits_BK.double().cpu().numpy(), part.labels_B.cpu().numpy(), watch.alive)


def trained_weights(model: nn.Module) -> list[torch.Tensor]:
    """Copies of the parameters that are trained."""
    return [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]


def relative_update(before: Sequence[torch.Tensor], model: nn.Module) -> float:
    """Norm of the last update over the norm of the weights `before` it; 0 where one is not finite, which saving reports."""
    pairs = zip(before, (p.detach() for p in model.parameters() if p.requires_grad), strict=True)
    squares = [((now - old).double().square().sum(), old.double().square().sum()) for old, now in pairs]
    change, size = (float(torch.stack(each).sum()) for each in zip(*squares, strict=True))
    return math.sqrt(change / size) if size and math.isfinite(change) else 0.0


def reference(
    labels_N: np.ndarray,
    num_classes: int,
    *,
    label_smoothing: float,
    loss_weight: float,
    is_even: bool = False,
    balance: Balance = NO_BALANCE,
) -> dict[str, float]:
    """Losses and accuracy that training has to beat, by the labels (N,) of the training videos.

    `uniform_loss`: the loss of a network that answers all classes alike, ln K where no logit is adjusted;
    `constant_loss`: the least loss of an answer that no clip changes; `majority`: the share of the commonest class. Losses
    are times `loss_weight`, and with `label_smoothing` and `balance`. `is_even`: the classes that are there are drawn
    equally often.
    """
    counts_K = np.bincount(labels_N, minlength=num_classes)
    share_K = (counts_K > 0) / (counts_K > 0).sum() if is_even else counts_K / len(labels_N)
    weighted_K = share_K if balance.weight_K is None else share_K * balance.weight_K.double().cpu().numpy()
    target_K = (1 - label_smoothing) * weighted_K + label_smoothing / num_classes
    entropy = -sum(float(share) * math.log(share) for share in target_K if share)
    uniform = math.log(num_classes)
    if balance.shift_K is not None:
        shift_K = balance.shift_K.double().cpu().numpy()
        uniform = float(target_K @ (np.log(np.exp(shift_K).sum()) - shift_K))
    return {
        "uniform_loss": loss_weight * uniform,
        "constant_loss": loss_weight * entropy,
        "majority": float(share_K.max()),
    }
