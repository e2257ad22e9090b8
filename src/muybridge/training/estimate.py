"""Estimates of the computing time of trainings, by a step that is measured on this machine."""

import math
import statistics
import time

from muybridge import build
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.recipe import Recipe, Runtime, fingerprint, replace
from muybridge.recipe.schedule import Budget, budget
from muybridge.training.speed import Measuring, measure_recipe

MOST_CLIPS = 2
"""Clips of the largest batch of pictures that is measured. A clip of a larger batch takes about as long, or less."""
REPETITIONS = 3
PATIENCE_SECONDS = 60.0
"""Time spent on measuring. Settings that come later are estimated by their multiply-adds."""


class Estimates:
    """Estimates of trainings. A step of each setting is measured once, as far as patience lasts."""

    def __init__(self, runtime: Runtime, process: Measuring | None = None) -> None:
        """`process` measures all settings, one after the other."""
        self._runtime, self._process = runtime, process
        self._rates: dict[str, tuple[float, float] | None] = {}
        self._macs_per_s: list[tuple[float, float]] = []
        self._spent_seconds = 0.0

    def seconds(self, recipe: Recipe, manifest: Manifest, *, macs: int) -> float | None:
        """Computing time of all steps, validations and the test in seconds, without the decoding of videos.

        `macs`: multiply-adds of a clip. None where a step does not fit into memory. Raises UserError for a network that
        cannot be measured.
        """
        rates = self._clips_per_s(recipe, len(manifest.classes), macs)
        if rates is None:
            return None
        train_clips_per_s, forward_clips_per_s = rates
        splits = {split: len(manifest.split(split, recipe.data.fold)) for split in ("val", "test")}
        splits["train"] = len(build.train_rows(recipe, manifest))
        length = budget(recipe, splits["train"])
        if length.steps is None:
            assert length.max_hours is not None
            training = length.max_hours * 3600
        else:
            clips = splits["train"] * length.steps / length.steps_per_epoch
            if recipe.optim.steps_per_epoch is not None:
                clips = recipe.optim.batch_size * length.steps
            training = clips / train_clips_per_s
            if length.max_hours is not None:
                training = min(training, length.max_hours * 3600)
        e = recipe.evaluation
        scored = splits["test"] * e.score_test + splits["val"] * _validations(length, e.every_epochs)
        views = scored * e.num_clips * e.num_crops
        return training + views / forward_clips_per_s

    def _clips_per_s(self, recipe: Recipe, num_classes: int, macs: int) -> tuple[float, float] | None:
        """Clips a second in training and in scoring; None where they are not known."""
        key = f"{num_classes} {fingerprint(replace(recipe, {'seed': 0, 'data.fold': None}))}"
        if key not in self._rates:
            if self._spent_seconds > PATIENCE_SECONDS and self._macs_per_s:
                train, forward = (statistics.median(rates) for rates in zip(*self._macs_per_s, strict=True))
                return train / macs, forward / macs
            self._rates[key] = self._measured(recipe, num_classes, macs)
        return self._rates[key]

    def _measured(self, recipe: Recipe, num_classes: int, macs: int) -> tuple[float, float] | None:
        started = time.monotonic()
        batch_size = recipe.optim.micro_batch_size or recipe.optim.batch_size
        if not inputs.of(recipe.clip).is_in_place:  # batches of vectors take milliseconds
            batch_size = min(MOST_CLIPS, batch_size)
        speed = measure_recipe(
            recipe, num_classes=num_classes, batch_size=batch_size, runtime=self._runtime, repetitions=REPETITIONS,
            process=self._process,
        )  # fmt: skip
        self._spent_seconds += time.monotonic() - started
        train, forward = speed.train_clips_per_s, speed.forward_clips_per_s
        if train is None or forward is None:
            return None
        self._macs_per_s.append((train * macs, forward * macs))
        return train, forward


def _validations(length: Budget, every_epochs: int) -> int:
    """Number of validations; those of a training by hours are not known, but the last."""
    return 1 if length.epochs is None else math.ceil(length.epochs / every_epochs)
