"""Rules on fields of a recipe that depend on each other."""

from typing import TYPE_CHECKING

from muybridge.data import inputs
from muybridge.errors import UserError

if TYPE_CHECKING:
    from muybridge.recipe.sections import Recipe


def check(recipe: "Recipe") -> None:
    """Check that the fields of a recipe fit together. Raises ValueError that names the fields."""
    _check_schedule(recipe)
    _check_stop(recipe)
    _check_augment(recipe)
    _check_lengths(recipe)
    _check_grid(recipe)
    _check_balance(recipe)
    _check_stack(recipe)
    if recipe.optim.batch_norm == "synced" and recipe.optim.micro_batch_size == 1:
        raise ValueError(
            "optim.batch_norm: 'synced' needs the same number of forward passes in all processes. Set "
            "optim.micro_batch_size to at least 2, or to none"
        )
    for name in ("backbone_lr", "layer_decay") if recipe.optim.train_from == "head" else ():
        if getattr(recipe.optim, name) is not None:
            raise ValueError(f"optim.{name}: it is for what optim.train_from 'head' freezes. Leave one of them out")
    short_sides = recipe.augment.short_sides
    if short_sides is not None:
        if recipe.augment.crop != "random":
            raise ValueError(
                f"augment.short_sides: it applies to augment.crop 'random', not '{recipe.augment.crop}'. Set "
                "augment.crop=random, or leave it out"
            )
        if not recipe.clip.size <= short_sides[0] <= short_sides[1]:
            raise ValueError(
                f"augment.short_sides: {list(short_sides)} must rise and start at clip.size ({recipe.clip.size}) or above. "
                f"For example: [{recipe.clip.size * 8 // 7}, {recipe.clip.size * 10 // 7}]"
            )
    elif (
        recipe.clip.short_side is not None
        and recipe.clip.short_side < recipe.clip.size
        and recipe.augment.crop == "random"
    ):
        raise ValueError(
            f"augment.crop: 'random' cannot crop {recipe.clip.size} pixels from a short side of {recipe.clip.short_side}. "
            "Raise clip.short_side or lower clip.size"
        )


def _check_lengths(recipe: "Recipe") -> None:
    """Clips of several lengths are for vectors; networks of pictures take one."""
    c, e = recipe.clip, recipe.evaluation
    if e.whole and e.num_clips > 1:
        raise ValueError(f"evaluation.whole: a whole video is one clip, not {e.num_clips}. Set evaluation.num_clips=1")
    if c.past_end == "absent" and c.sampling != "dense":
        raise ValueError("clip.past_end: 'absent' is of dense sampling. Set clip.sampling=dense")


def _check_stack(recipe: "Recipe") -> None:
    """A stack is of an input of stacks, named or held by the data, which is seen when a run is made."""
    if inputs.find(recipe.clip.modality) is inputs.RGB:
        return
    try:
        inputs.of(recipe.clip)
    except UserError as error:
        raise ValueError(str(error)) from None


def _check_grid(recipe: "Recipe") -> None:
    o = recipe.optim
    for name, values, least in (
        ("lr_grid", o.lr_grid, "above 0"),
        ("weight_decay_grid", o.weight_decay_grid, "0 or above"),
    ):
        if len(set(values)) < len(values) or any(value < 0 or (value == 0 and name == "lr_grid") for value in values):
            raise ValueError(
                f"optim.{name}: {list(values)} are not different numbers {least}. For example: [0.001, 0.0001]"
            )
    if len(recipe.candidates) == 1:
        return
    for name, is_set in (
        ("train_from", o.train_from is not None), ("ema_decay", o.ema_decay is not None),
        ("backbone_lr", o.backbone_lr is not None), ("layer_decay", o.layer_decay is not None),
        ("batch_norm", o.batch_norm != "local"),
    ):  # fmt: skip
        if is_set:
            raise ValueError(
                f"optim.{name}: it does not go with optim.lr_grid, which trains copies of the whole network. Leave one of "
                "them out"
            )


def _check_balance(recipe: "Recipe") -> None:
    levers = {
        "data.balanced_sampling": recipe.data.balanced_sampling,
        "optim.class_weights": recipe.optim.class_weights is not None,
        "optim.logit_adjustment": recipe.optim.logit_adjustment > 0,
    }
    used = [name for name, is_used in levers.items() if is_used]
    if len(used) > 1:
        raise ValueError(
            f"{used[1]}: it does not go with {used[0]}, as each of them makes up for the same imbalance, and two would turn it "
            "round. Leave one out"
        )


def _check_augment(recipe: "Recipe") -> None:
    shown = inputs.find(recipe.clip.modality)
    for name in ("brightness", "contrast", "saturation", "hue", "rotation_degrees"):
        is_possible = shown.is_picture if name == "rotation_degrees" else shown.has_colours
        if getattr(recipe.augment, name) and not is_possible:
            what = "colours" if shown.is_picture else "picture"
            raise ValueError(f"augment.{name}: input '{shown.name}' has no {what} to change. Set augment.{name}=0")


def _check_schedule(recipe: "Recipe") -> None:
    o = recipe.optim
    if o.epochs is None and recipe.stop.max_hours is None:
        raise ValueError("optim.epochs: none needs an end. Set stop.max_hours")
    if o.steps is not None and (o.epochs is None or o.schedule_unit == "hours"):
        raise ValueError(
            "optim.steps: it needs optim.epochs, whose schedule it stretches, and no hours. Set optim.epochs, or leave it out"
        )
    if o.schedule_unit == "hours":
        if recipe.stop.max_hours is None:
            raise ValueError("optim.schedule_unit: 'hours' needs stop.max_hours. Set it")
        if o.epochs is not None:
            raise ValueError(
                f"optim.schedule_unit: 'hours' ends at stop.max_hours, but optim.epochs ({o.epochs}) might end training "
                "before. Set optim.epochs=none"
            )
        if o.schedule == "constant":
            raise ValueError(
                "optim.schedule: 'constant' has no milestones or end. Leave optim.schedule_unit at 'epochs'"
            )
        if o.warmup_epochs:
            raise ValueError(
                "optim.warmup_epochs: it counts epochs, but optim.schedule_unit is 'hours'. Use only one of them"
            )
    elif o.epochs is None and o.schedule == "cosine":
        raise ValueError("optim.schedule: 'cosine' needs an end. Set optim.epochs, or optim.schedule_unit=hours")
    if o.epochs is not None and o.warmup_epochs >= o.epochs:
        raise ValueError(
            f"optim.warmup_epochs: {o.warmup_epochs:g} must be below optim.epochs ({o.epochs}). "
            f"Set both, for example optim.warmup_epochs={o.epochs / 10:g}"
        )
    if o.warmup_lr is not None and not (o.warmup_epochs and o.warmup_lr <= o.lr):
        raise ValueError(
            "optim.warmup_lr: it needs a warm-up and may not exceed optim.lr. Set optim.warmup_epochs, or lower it"
        )
    if (o.schedule == "steps") != bool(o.milestones):
        raise ValueError(
            "optim.milestones: they need optim.schedule 'steps', and it needs them. Set both, for example "
            "optim.schedule=steps optim.milestones=[10,20]"
        )
    end = recipe.stop.max_hours if o.schedule_unit == "hours" else o.epochs
    if list(o.milestones) != sorted({m for m in o.milestones if m > o.warmup_epochs and (end is None or m < end)}):
        start = f"the warm-up ({o.warmup_epochs:g})" if o.warmup_epochs else "0"
        raise ValueError(
            f"optim.milestones: {list(o.milestones)} must rise, from above {start} to below the {o.schedule_unit}"
            + (f" ({end:g})" if end is not None else "")
            + ". To shorten the whole schedule, use --shorten"
        )


def _check_stop(recipe: "Recipe") -> None:
    s = recipe.stop
    if (s.metric is None) != (s.target is None and s.patience_epochs is None):
        raise ValueError(
            "stop.metric: it needs stop.target, stop.patience_epochs, or both, and they need it. For example "
            "stop.metric=val.loss stop.patience_epochs=10"
        )
    every = recipe.evaluation.every_epochs
    if s.patience_epochs is not None and (s.metric or "").startswith("val.") and s.patience_epochs < every:
        raise ValueError(
            f"stop.patience_epochs: {s.patience_epochs} is less than the {every} epochs between validations. Raise it, or "
            "lower evaluation.every_epochs"
        )
    is_loss = s.metric is not None and s.metric.endswith("loss")
    if s.target is not None and not (s.target > 0 and (is_loss or s.target <= 1)):
        raise ValueError(
            f"stop.target: {s.target:g} is out of range for {s.metric}. Give a value "
            f"{'above 0' if is_loss else 'above 0 and at most 1'}"
        )
