"""Range test: the steps of a training with learning rates that rise until the loss diverges."""

import math
from contextlib import closing

import torch

from muybridge import build
from muybridge.analysis.lr_range import LrRange
from muybridge.data.loader import train_batches
from muybridge.data.random import torch_seed
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime
from muybridge.recipe.schedule import peak_lr
from muybridge.runtime.console import log, progress
from muybridge.runtime.device import cores_left_to, to_device
from muybridge.runtime.launch import launched
from muybridge.training.job import Jobs
from muybridge.training.step import set_lr, training_step
from muybridge.user_code import check_consent

NUM_STEPS = 100
RANGES = {"sgd": (1e-6, 10.0), "adam": (1e-7, 1.0), "adamw": (1e-7, 1.0)}
"""Least and largest learning rate by optimizer. A step of Adam is as long as its rate, whatever the gradient."""


def lr_range(recipe: Recipe, *, allow_code: bool = False, runtime: Runtime | None = None) -> LrRange:
    """Measure the loss at rising learning rates: a recipe's own model, weights, data, batches and augmentation.

    About 100 steps, fewer where the loss diverges before. Nothing is written. The same recipe gives the same numbers.
    A model of the user's own needs `allow_code`, unless they have named it before. Raises UserError.
    """
    check_consent(recipe.model.name, where="The recipe", allow_code=allow_code)
    if launched().count > 1:
        raise UserError("--find-lr: it runs in one process. Start it without torchrun")
    runtime = runtime or Runtime()
    job = Jobs(runtime).job(recipe)
    recipe, manifest = job.recipe, job.manifest
    where = build.placement(recipe, runtime)
    rows = build.train_rows(recipe, manifest)
    reader, num_workers = build.reader_and_workers(recipe, runtime, manifest, rows)
    model = build.model(recipe, len(manifest.classes), classes=manifest.classes)
    to_device(model, where)
    frozen = build.frozen(recipe, model)
    optimizer, scaler = build.optimizer(recipe, model), where.scaler()
    frozen.train()
    balance = build.balance(recipe, manifest, where.device)
    low, high = RANGES[recipe.optim.optimizer]
    found = LrRange((), (), peak_lr(recipe), lr_scale=peak_lr(recipe) / recipe.optim.lr)
    batches = train_batches(
        build.train_clips(recipe, manifest, reader), rows, batch_size=recipe.optim.batch_size, first_step=0,
        num_workers=num_workers, pin_memory=where.device.type == "cuda", on_error=recipe.data.on_error,
        balanced=recipe.data.balanced_sampling,
    )  # fmt: skip
    beside = cores_left_to(num_workers, where, threads=runtime.threads)
    with closing(batches), beside, progress("finding a learning rate", NUM_STEPS) as bar:
        for step in range(NUM_STEPS):
            batch = next(batches)
            for failure in batch.unreadable:
                log(f"skipped: {failure.error}")
            lr = low * (high / low) ** (step / (NUM_STEPS - 1))
            set_lr(optimizer, lr)
            torch.manual_seed(torch_seed(recipe.seed, "dropout", step))
            loss_sum, _ = training_step(model, optimizer, batch, where, recipe, scaler=scaler, balance=balance)
            loss = loss_sum / len(batch.rows_B)
            if not math.isfinite(loss):
                break
            found = LrRange((*found.rates, lr), (*found.losses, loss), found.recipe_lr, found.lr_scale)
            bar.advance()
            bar.describe(f"learning rate {lr:.2g}  loss {loss:.3f}")
            if found.has_diverged:
                break
    if not found.losses:
        raise UserError(
            f"loss: it is not finite at the first step, before any update. Check the input of {recipe.model.name}, or set "
            "precision=fp32"
        )
    return found
