"""Trains in float64 and writes the mean loss of every update, over all processes; OUT is continued
if it is there: python float64_driver.py OUT MANIFEST FIELD=VALUE … [checkpoint_steps=N] [stop_after=STEPS]"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from muybridge.recipe import (
    Augment,
    Clip,
    Evaluation,
    Model,
    Optim,
    Recipe,
    Runtime,
    parse_overrides,
    replace,
)
from muybridge.runtime.launch import launched
from muybridge.training import loop as training


def main(words):
    """Train as the words say. This process is left as it was, but for its random numbers."""
    out, manifest, *settings = words
    changes = parse_overrides(settings)
    stop_after = changes.pop("stop_after", 0)
    runtime = Runtime(checkpoint_steps=changes.pop("checkpoint_steps", None))
    losses, step = [], training.training_step

    def watched(*arguments, processes, **named):
        loss_sum, correct = step(*arguments, processes=processes, **named)
        total, clips = processes.all_reduce([loss_sum, len(arguments[2].rows_B)])
        losses.append(total / clips)
        if len(losses) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss_sum, correct

    recipe = Recipe(
        clip=Clip(num_frames=4, size=32),
        augment=Augment(crop="multiscale"),
        model=Model(name="tsm_resnet_tiny", dropout=0.0),
        optim=Optim(lr=0.02, batch_size=7, epochs=8, batch_norm="frozen"),
        evaluation=Evaluation(num_clips=2, num_crops=3, every_epochs=8),
        precision="fp32",
    )
    torch.set_default_dtype(torch.float64)
    training.training_step = watched
    try:
        if (Path(out) / "recipe.json").exists():
            training.resume(out, runtime=runtime)
        else:
            training.train(replace(recipe, {"data.manifest": manifest, **changes}), out=out, runtime=runtime)
    finally:
        training.training_step = step
        torch.set_default_dtype(torch.float32)
    if launched().rank == 0:
        (Path(out) / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(sys.argv[1:])
