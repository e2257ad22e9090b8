"""Which fields of a recipe go together."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muybridge.recipe.sections import Recipe


def check(recipe: "Recipe") -> None:
    """Raises ValueError where fields of a recipe do not go together."""
    _check_schedule(recipe)
    _check_stop(recipe)
    if recipe.optim.batch_norm == "synced" and recipe.optim.micro_batch_size == 1:
        raise ValueError(
            "optim.batch_norm 'synced' needs optim.micro_batch_size of at least 2, or none: processes must go through the "
            "network equally often"
        )
    short_sides = recipe.augment.short_sides
    if short_sides is not None:
        if recipe.augment.crop != "random":
            raise ValueError(f"augment.short_sides belongs to augment.crop 'random', not '{recipe.augment.crop}'")
        if not recipe.clip.size <= short_sides[0] <= short_sides[1]:
            raise ValueError(
                f"augment.short_sides is {list(short_sides)}: the smaller comes first, and is at least clip.size "
                f"({recipe.clip.size}), for example [{recipe.clip.size * 8 // 7}, {recipe.clip.size * 10 // 7}]"
            )
    elif (
        recipe.clip.short_side is not None
        and recipe.clip.short_side < recipe.clip.size
        and recipe.augment.crop == "random"
    ):
        raise ValueError(
            f"augment.crop 'random' cuts {recipe.clip.size} pixels from a short side of {recipe.clip.short_side}; "
            "raise clip.short_side or lower clip.size"
        )


def _check_schedule(recipe: "Recipe") -> None:
    o = recipe.optim
    if o.epochs is None and recipe.stop.max_hours is None:
        raise ValueError("optim.epochs is none: then stop.max_hours must say when training ends")
    if o.schedule_unit == "hours":
        if recipe.stop.max_hours is None:
            raise ValueError("optim.schedule_unit 'hours' goes by stop.max_hours: give it")
        if o.epochs is not None:
            raise ValueError(
                f"optim.schedule_unit 'hours' goes by stop.max_hours, and optim.epochs ({o.epochs}) might end it before: set "
                "optim.epochs=none"
            )
        if o.schedule == "constant":
            raise ValueError("optim.schedule 'constant' goes by no clock: leave optim.schedule_unit at 'epochs'")
        if o.warmup_epochs:
            raise ValueError("optim.warmup_epochs goes by epochs, and optim.schedule_unit by hours: one of them only")
    elif o.epochs is None and o.schedule == "cosine":
        raise ValueError("optim.schedule 'cosine' ends with optim.epochs: give them, or optim.schedule_unit=hours")
    if o.epochs is not None and o.warmup_epochs >= o.epochs:
        raise ValueError(
            f"optim.warmup_epochs ({o.warmup_epochs:g}) must be below optim.epochs ({o.epochs}): "
            f"say both, for example optim.warmup_epochs={o.epochs / 10:g}"
        )
    if o.warmup_lr is not None and not (o.warmup_epochs and o.warmup_lr <= o.lr):
        raise ValueError(
            "optim.warmup_lr is where a warm-up starts: it needs optim.warmup_epochs, and is at most optim.lr"
        )
    if (o.schedule == "steps") != bool(o.milestones):
        raise ValueError(
            "optim.milestones belong to optim.schedule 'steps', and it to them: give both, for example "
            "optim.schedule=steps optim.milestones=[10,20]"
        )
    end = recipe.stop.max_hours if o.schedule_unit == "hours" else o.epochs
    if list(o.milestones) != sorted({m for m in o.milestones if m > o.warmup_epochs and (end is None or m < end)}):
        start = f"the warm-up ({o.warmup_epochs:g})" if o.warmup_epochs else "0"
        raise ValueError(
            f"optim.milestones is {list(o.milestones)}: they rise, from above {start} to below the {o.schedule_unit}"
            + (f" ({end:g})" if end is not None else "")
            + ". (To shorten a schedule as a whole: --shorten)"
        )


def _check_stop(recipe: "Recipe") -> None:
    s = recipe.stop
    if (s.metric is None) != (s.target is None and s.patience_epochs is None):
        raise ValueError(
            "stop.metric goes with stop.target, stop.patience_epochs, or both, for example stop.metric=val.loss "
            "stop.patience_epochs=10"
        )
    every = recipe.evaluation.every_epochs
    if s.patience_epochs is not None and (s.metric or "").startswith("val.") and s.patience_epochs < every:
        raise ValueError(
            f"stop.patience_epochs is {s.patience_epochs}, but val is measured every {every} epochs only "
            "(evaluation.every_epochs): one of them must change"
        )
    is_loss = s.metric is not None and s.metric.endswith("loss")
    if s.target is not None and not (s.target > 0 and (is_loss or s.target <= 1)):
        raise ValueError(
            f"stop.target is {s.target:g}, but {s.metric} is {'above 0' if is_loss else 'a share, from 0 to 1'}"
        )
