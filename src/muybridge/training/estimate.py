"""Estimates of the computing time of trainings, by a step that is measured on this machine."""

import math

from muybridge.data.manifest import Manifest
from muybridge.recipe import Recipe, Runtime, fingerprint, replace
from muybridge.recipe.schedule import Budget, budget
from muybridge.training.speed import Speed, measure_recipe

MOST_CLIPS = 8
"""Clips of the largest batch that is measured. A clip of a larger batch takes about as long."""
REPETITIONS = 3


class Estimates:
    """Estimates of trainings. A step of each network and clip is measured once."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._measured: dict[str, Speed] = {}

    def seconds(self, recipe: Recipe, manifest: Manifest) -> float | None:
        """Computing time of all steps, validations and the test in seconds, without the decoding of videos.

        None where a step does not fit into memory. Raises UserError for a network that cannot be measured.
        """
        speed = self._speed(recipe, len(manifest.classes))
        if speed.train_clips_per_s is None or speed.forward_clips_per_s is None:
            return None
        splits = {split: len(manifest.split(split, recipe.data.fold)) for split in ("train", "val", "test")}
        length = budget(recipe, splits["train"])
        if length.steps is None:
            assert length.max_hours is not None
            training = length.max_hours * 3600
        else:
            clips = splits["train"] * length.steps / length.steps_per_epoch
            if recipe.optim.steps_per_epoch is not None:
                clips = recipe.optim.batch_size * length.steps
            training = clips / speed.train_clips_per_s
            if length.max_hours is not None:
                training = min(training, length.max_hours * 3600)
        e = recipe.evaluation
        scored = splits["test"] * e.score_test + splits["val"] * _validations(length, e.every_epochs)
        views = scored * e.num_clips * e.num_crops * (recipe.test_size / recipe.clip.size) ** 2
        return training + views / speed.forward_clips_per_s

    def _speed(self, recipe: Recipe, num_classes: int) -> Speed:
        key = f"{num_classes} {fingerprint(replace(recipe, {'seed': 0, 'data.fold': None}))}"
        if key not in self._measured:
            batch_size = min(MOST_CLIPS, recipe.optim.micro_batch_size or recipe.optim.batch_size)
            self._measured[key] = measure_recipe(
                recipe, num_classes=num_classes, batch_size=batch_size, runtime=self._runtime, repetitions=REPETITIONS
            )
        return self._measured[key]


def _validations(length: Budget, every_epochs: int) -> int:
    """Number of validations; those of a training by hours are not known, but the last."""
    return 1 if length.epochs is None else math.ceil(length.epochs / every_epochs)
