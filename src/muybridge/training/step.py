"""One update: a batch in, its loss, gradients, new weights."""

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.build import NO_BALANCE, Balance
from muybridge.data import inputs
from muybridge.data.loader import micro_batches, moved
from muybridge.data.views import Batch
from muybridge.errors import UserError
from muybridge.recipe import Recipe
from muybridge.runtime import distributed
from muybridge.runtime.device import Placement
from muybridge.runtime.distributed import ALONE, Processes
from muybridge.zoo import VideoModel, WeightedLogits
from muybridge.zoo.candidates import Candidates
from muybridge.zoo.freezing import norms_still


def training_step(
    model: VideoModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    where: Placement,
    recipe: Recipe,
    *,
    net: nn.Module | None = None,
    scaler: torch.amp.GradScaler | None = None,
    processes: Processes = ALONE,
    balance: Balance = NO_BALANCE,
) -> tuple[float, int]:
    """One update by the mean loss of the clips of all processes.

    Returns the sum of this process's losses, and the number of its clips that were right. `net`: what computes in the
    model's place (the same, parallel or compiled). `balance`: what the loss does about classes of uneven size.
    """
    net = model if net is None else net
    scaler = where.scaler() if scaler is None else scaler
    batch = moved(batch, where.device, non_blocking=where.non_blocking)
    shares = processes.all_gather(len(batch.rows_B))
    total = sum(shares)
    if not total:
        raise UserError(
            "videos: none of an update could be read, by any process. Check the files, or prepare the set again"
        )
    optimizer.zero_grad(set_to_none=True)
    if not batch.rows_B:
        _take_part(net, model.zeros(recipe.clip.num_frames, recipe.clip.size, device=where.device), where, processes)
    loss_sum = torch.zeros((), dtype=torch.float64, device=where.device)
    correct = torch.zeros((), dtype=torch.int64, device=where.device)
    parts = list(micro_batches(batch, recipe.optim.micro_batch_size, largest=int(max(shares))))
    for number, part in enumerate(parts, start=1):
        clips = len(part.labels_B)
        x = network_input(part, model, recipe)
        with processes.explain_lost_process(), distributed.gradients_wait(net, number < len(parts)):
            try:
                with where.autocast():
                    out = net(x)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise UserError(
                    f"optim.batch_size: one clip alone in a batch is too few for this model's batch norm ({error}). "
                    "Give larger batches"
                ) from error
            weighted = out if isinstance(out, WeightedLogits) else WeightedLogits(out[None], out.new_ones(1))
            loss = mean_loss(
                weighted, part.labels_B, label_smoothing=recipe.optim.label_smoothing, leave_out=model.num_copies > 1,
                balance=balance,
            )  # fmt: skip
            share = clips * processes.count / total  # gradients are averaged over processes
            scaler.scale(loss if share == 1 else loss * share).backward()
        loss_sum += loss.detach().double() * clips / model.num_copies
        correct += (weighted.logits_NBK[0].argmax(1) == part.labels_B).sum()
    if recipe.optim.clip_grad_norm is not None:
        scaler.unscale_(optimizer)
        for alone in model.copies if isinstance(model, Candidates) else (model,):
            torch.nn.utils.clip_grad_norm_(alone.parameters(), recipe.optim.clip_grad_norm)
    scaler.step(optimizer)
    scaler.update()
    return loss_sum.item(), int(correct)  # the loop's one point of synchronisation


class Still(torch.optim.SGD):
    """An optimizer that leaves the weights as they are: for steps that are tried."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change nothing."""


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group of parameters: its own part of `lr`, if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def mean_loss(
    weighted: WeightedLogits,
    labels_B: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    leave_out: bool = False,
    balance: Balance = NO_BALANCE,
) -> torch.Tensor:
    """The mean over clips of their weighted sums of cross-entropies.

    With weights of classes it is the mean over clips of weight times loss, not divided by the weights of the batch: then
    micro-batches and processes add up to the batch. `leave_out`: sets of logits whose loss is not finite do not
    count, unless none is (one of several copies diverged).
    """

    def losses(logits_BK: torch.Tensor, reduction: str) -> torch.Tensor:
        logits_BK = logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))
        if balance.shift_K is not None:
            logits_BK = logits_BK + balance.shift_K
        if balance.weight_K is None:
            return F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing, reduction=reduction)
        losses_B = F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing, reduction="none")
        losses_B = losses_B * balance.weight_K[labels_B]
        return losses_B.mean() if reduction == "mean" else losses_B

    if weighted.weights_N.dim() == 1:
        losses_N = _without_diverged(
            torch.stack([losses(logits_BK, "mean") for logits_BK in weighted.logits_NBK]), leave_out
        )
        return (losses_N * weighted.weights_N).sum()
    losses_NB = _without_diverged(
        torch.stack([losses(logits_BK, "none") for logits_BK in weighted.logits_NBK]), leave_out
    )
    return (losses_NB * weighted.weights_N).sum(0).mean()


def _without_diverged(losses: torch.Tensor, leave_out: bool) -> torch.Tensor:
    finite = losses.isfinite()
    return torch.where(finite, losses, 0.0) if leave_out and bool(finite.any()) else losses


def network_input(part: Batch, model: VideoModel, recipe: Recipe) -> torch.Tensor:
    """Clips of a batch on the device as the network takes them, augmented and normalised."""
    normal = model.preprocessing
    return inputs.of(recipe.clip).to_model(
        part.clips_BTHWC, part.flip_B, mean=normal.mean, std=normal.std, jitter=part.jitter
    )


def _take_part(net: nn.Module, x: torch.Tensor, where: Placement, processes: Processes) -> None:
    """One of several processes that has no clip of an update adds gradients of zero, and nothing to batch norms."""
    with processes.explain_lost_process(), norms_still(net), where.autocast():
        out = net(x)
        (0 * (out.logits_NBK if isinstance(out, WeightedLogits) else out).sum()).backward()
