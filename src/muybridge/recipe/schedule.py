"""Arithmetic of schedules: steps, epochs and the learning rate at any time (no torch)."""

import math
from dataclasses import dataclass
from typing import Literal

from muybridge.data.order import num_batches
from muybridge.errors import UserError
from muybridge.recipe.fields import replace
from muybridge.recipe.sections import Recipe


@dataclass(frozen=True)
class Schedule:
    """Learning rate over time; `end`, `warmup` and `milestones` share one unit: steps, or seconds."""

    kind: Literal["cosine", "steps", "constant"]
    peak: float
    end: float
    warmup: float = 0.0
    warmup_lr: float = 0.0
    """Learning rate at the start of the linear warm-up."""
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    """Factor of the learning rate at each milestone."""

    def lr(self, now: float) -> float:
        """Learning rate of the step that starts at `now`."""
        if now < self.warmup:
            return self.warmup_lr + (self.peak - self.warmup_lr) * now / self.warmup
        if self.kind == "constant":
            return self.peak
        if self.kind == "steps":
            return self.peak * self.factor ** sum(now >= milestone for milestone in self.milestones)
        done = min(1.0, (now - self.warmup) / (self.end - self.warmup)) if now < self.end else 1.0
        return self.peak * 0.5 * (1 + math.cos(math.pi * done))


def shortened(recipe: Recipe, factor: float) -> Recipe:
    """Recipe with a shorter schedule: epochs, warm-up, milestones and hours times `factor`, at least one epoch.

    Raises UserError unless 0 < `factor` <= 1.
    """
    if not 0 < factor <= 1:
        raise UserError(f"--shorten: {factor:g} is not a share. Give a number above 0 and at most 1")
    o, s = recipe.optim, recipe.stop
    epochs = None if o.epochs is None else max(1, round(o.epochs * factor))
    share = factor if o.epochs is None or epochs is None else epochs / o.epochs
    by_hours = o.schedule_unit == "hours"
    return replace(recipe, {
        "optim.epochs": epochs,
        "optim.min_steps": round(o.min_steps * factor),
        "optim.warmup_epochs": o.warmup_epochs * share,
        "optim.milestones": tuple(m * (factor if by_hours else share) for m in o.milestones),
        "stop.max_hours": None if s.max_hours is None else s.max_hours * factor,
    })  # fmt: skip


def peak_lr(recipe: Recipe) -> float:
    """Peak learning rate; SGD's is scaled linearly from `lr_batch_size` to `batch_size`."""
    return recipe.optim.lr * _lr_scale(recipe)


def warmup_lr(recipe: Recipe) -> float:
    """Learning rate at the start of the warm-up, scaled as the peak is."""
    given = recipe.optim.warmup_lr
    return peak_lr(recipe) * 0.01 if given is None else given * _lr_scale(recipe)


def _lr_scale(recipe: Recipe) -> float:
    o = recipe.optim
    return o.batch_size / o.lr_batch_size if o.optimizer == "sgd" and o.lr_batch_size is not None else 1.0


def steps_per_epoch(recipe: Recipe, num_rows: int) -> int:
    """Steps in an epoch of `num_rows` training videos."""
    return recipe.optim.steps_per_epoch or num_batches(num_rows, recipe.optim.batch_size)


def num_epochs(recipe: Recipe, num_rows: int) -> int | None:
    """Number of epochs: the recipe's, or those that its `min_steps` take; None where hours end training."""
    if recipe.optim.epochs is None:
        return None
    return max(recipe.optim.epochs, math.ceil(recipe.optim.min_steps / steps_per_epoch(recipe, num_rows)))


def lr_schedule(recipe: Recipe, num_rows: int) -> Schedule:
    """Learning rate schedule of a training on `num_rows` videos, in steps or in seconds of training."""
    o = recipe.optim
    if o.schedule_unit == "hours":
        assert recipe.stop.max_hours is not None
        unit, end = 3600.0, recipe.stop.max_hours
    else:
        unit, end = float(steps_per_epoch(recipe, num_rows)), float(num_epochs(recipe, num_rows) or math.inf)
    return Schedule(
        o.schedule,
        peak=peak_lr(recipe),
        end=end * unit,
        warmup=round(o.warmup_epochs * unit),
        warmup_lr=warmup_lr(recipe),
        milestones=tuple(milestone * unit for milestone in o.milestones),
        factor=o.milestone_factor,
    )
