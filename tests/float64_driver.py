"""Trains in float64 and writes the mean loss of every update, over all processes: python float64_driver.py OUT MANIFEST
FIELD=VALUE …"""

import json
import sys
from pathlib import Path

import torch

from muybridge import training
from muybridge.launch import launched
from muybridge.recipe import Augment, Clip, Evaluation, Model, Optim, Recipe, parse_overrides, replace

torch.set_default_dtype(torch.float64)
losses = []
step = training.training_step


def watched(*arguments, processes, **named):
    loss_sum, correct = step(*arguments, processes=processes, **named)
    total, clips = processes.sums([loss_sum, len(arguments[2].rows_B)])
    losses.append(total / clips)
    return loss_sum, correct


if __name__ == "__main__":
    out, manifest, *settings = sys.argv[1:]
    training.training_step = watched
    recipe = Recipe(
        clip=Clip(num_frames=4, size=32),
        augment=Augment(crop="multiscale"),
        model=Model(name="tsm_resnet_tiny", dropout=0.0),
        optim=Optim(lr=0.02, batch_size=13, epochs=13, batch_norm="frozen"),
        evaluation=Evaluation(num_clips=2, num_crops=3, every_epochs=13),
        precision="fp32",
    )
    run = training.train(replace(recipe, {"data.manifest": manifest, **parse_overrides(settings)}), out=out)
    if launched().rank == 0:
        (Path(out) / "losses.json").write_text(json.dumps(losses))
