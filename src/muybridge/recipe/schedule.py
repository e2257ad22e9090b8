"""Arithmetic of schedules: steps, epochs and the learning rate at any time (no torch)."""

import math
from dataclasses import dataclass
from typing import Literal

from muybridge.data.order import num_batches
from muybridge.errors import UserError
from muybridge.recipe.fields import replace
from muybridge.recipe.sections import Recipe
from muybridge.text import plural


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


def resized(
    recipe: Recipe, *, shorten: float | None = None, epochs: int | None = None, steps: int | None = None
) -> Recipe:
    """Recipe with a schedule of another length; at most one length may be given.

    `shorten`: the share that is kept of its epochs, warm-up, milestones and hours, at least one epoch. `epochs`,
    `steps`: exactly that number, whatever `optim.min_steps` says; warm-up and milestones keep their share. Raises
    UserError.
    """
    lengths = {"--shorten": shorten, "--epochs": epochs, "--steps": steps}
    given = {name: length for name, length in lengths.items() if length is not None}
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: they are given together. Give one of them")
    for name, length in given.items():
        if not length > 0 or (shorten is not None and not shorten <= 1):
            what = (
                "a share. Give a number above 0 and at most 1"
                if name == "--shorten"
                else "a number of them. Give 1 or more"
            )
            raise UserError(f"{name}: {length:g} is not {what}")
        if name != "--shorten" and recipe.optim.schedule_unit == "hours":
            raise UserError(
                f"{name}: this recipe goes by hours ({recipe.stop.max_hours:g}). Use --shorten, or set stop.max_hours"
            )
    o, s = recipe.optim, recipe.stop
    if steps is not None:
        return replace(recipe, {"optim.steps": steps})
    if epochs is not None:
        share = epochs / (o.epochs or epochs)
        return replace(recipe, {
            "optim.epochs": epochs, "optim.steps": None, "optim.min_steps": 0,
            "optim.warmup_epochs": o.warmup_epochs * share,
            "optim.milestones": tuple(milestone * share for milestone in o.milestones),
        })  # fmt: skip
    if shorten is None:
        return recipe
    fewer = None if o.epochs is None else max(1, round(o.epochs * shorten))
    share = shorten if o.epochs is None or fewer is None else fewer / o.epochs
    by_hours = o.schedule_unit == "hours"
    return replace(recipe, {
        "optim.epochs": fewer,
        "optim.steps": None if o.steps is None else max(1, round(o.steps * shorten)),
        "optim.min_steps": round(o.min_steps * shorten),
        "optim.warmup_epochs": o.warmup_epochs * share,
        "optim.milestones": tuple(m * (shorten if by_hours else share) for m in o.milestones),
        "stop.max_hours": None if s.max_hours is None else s.max_hours * shorten,
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


@dataclass(frozen=True)
class Budget:
    """Length of a training, as its recipe and the number of its videos have it."""

    videos: int
    """Number of training videos."""
    steps_per_epoch: int
    steps: int | None
    """Number of steps in all; None where hours end training."""
    reason: str
    """Field that decides the number of steps."""
    of_epochs: int | None
    """Number of steps of the recipe's `optim.epochs`; None where it has none."""
    max_hours: float | None
    stop: str = ""
    """Rule of `stop` that may end it before, in words."""

    @property
    def epochs(self) -> int | None:
        """Number of epochs, the last perhaps cut short; None where hours end training."""
        return None if self.steps is None else -(-self.steps // self.steps_per_epoch)

    @property
    def ended(self) -> str:
        """Reason to end training once all steps are done."""
        return f"all {self.steps} steps" if self.reason == "optim.steps" else f"all {self.epochs} epochs"

    def __str__(self) -> str:
        hours = "" if self.max_hours is None else f"{self.max_hours:g} hours of training (stop.max_hours)"
        epoch = f"{plural(self.videos, 'video')}, {plural(self.steps_per_epoch, 'step')} an epoch"
        if self.steps is None:
            return f"{epoch}; {hours}{self.stop}"
        whole = f"{plural(self.steps, 'step')} in {plural(self.epochs or 0, 'epoch')}"
        if self.reason != "optim.epochs":
            whole += f", by {self.reason} (the recipe's epochs would be {plural(self.of_epochs or 0, 'step')})"
        return f"{epoch}; {whole}{f', at most {hours}' if hours else ''}{self.stop}"


def budget(recipe: Recipe, num_rows: int) -> Budget:
    """Length of a training on `num_rows` videos."""
    o, per_epoch = recipe.optim, steps_per_epoch(recipe, num_rows)
    of_epochs = None if o.epochs is None else o.epochs * per_epoch
    steps, reason = of_epochs, "optim.epochs"
    if o.steps is not None:
        steps, reason = o.steps, "optim.steps"
    elif of_epochs is not None and of_epochs < o.min_steps:
        steps, reason = math.ceil(o.min_steps / per_epoch) * per_epoch, "optim.min_steps"
    elif of_epochs is None:
        reason = "stop.max_hours"
    s, rules = recipe.stop, []
    if s.target is not None:
        rules.append(f"{s.metric} reaches {s.target:g}")
    if s.patience_epochs is not None:
        rules.append(f"{s.metric} has not improved for {plural(s.patience_epochs, 'epoch')}")
    stop = f", or until {' or '.join(rules)}" if rules else ""
    return Budget(num_rows, per_epoch, steps, reason, of_epochs, s.max_hours, stop)


def lr_schedule(recipe: Recipe, num_rows: int) -> Schedule:
    """Learning rate schedule of a training on `num_rows` videos, in steps or in seconds of training."""
    o, length = recipe.optim, budget(recipe, num_rows)
    unit, end = float(length.steps_per_epoch), float(length.steps or math.inf)
    if o.schedule_unit == "hours":
        assert recipe.stop.max_hours is not None
        unit, end = 3600.0, recipe.stop.max_hours * 3600.0
    elif o.steps is not None:  # warm-up and milestones keep their share
        unit *= o.steps / (budget(replace(recipe, {"optim.steps": None}), num_rows).steps or o.steps)
    return Schedule(
        o.schedule,
        peak=peak_lr(recipe),
        end=end,
        warmup=round(o.warmup_epochs * unit),
        warmup_lr=warmup_lr(recipe),
        milestones=tuple(milestone * unit for milestone in o.milestones),
        factor=o.milestone_factor,
    )
