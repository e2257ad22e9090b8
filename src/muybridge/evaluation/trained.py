"""A network that answers, a run's or one with public weights: all that an evaluation and a prediction ask of either."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge import build
from muybridge.recipe import Recipe, Runtime
from muybridge.runtime.console import log
from muybridge.storage import checkpoints
from muybridge.storage.run import Run
from muybridge.user_code import Consent, allow, use_source
from muybridge.zoo import VideoModel

KINETICS_SECONDS = 10.0
"""Length of Kinetics' videos (Kay et al. 2017)."""


@dataclass(frozen=True)
class Trained:
    """A network with a classifier, and what must be known to ask it."""

    name: str
    """The run's folder, or the names of the network and its weights."""
    recipe: Recipe
    dataset: Mapping[str, Any]
    """Content of a run's dataset.json; of public weights what of it is known."""
    load: Callable[[str], VideoModel]
    """load(checkpoint): the network with its weights, on the CPU."""
    run: Run | None = None
    """None: public weights."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the classifier."""
        return tuple(self.dataset["classes"])


def trained(
    run: str | Path | Run,
    *,
    pretrained: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    runtime: Runtime | None = None,
    allow_code: Consent = False,
) -> Trained:
    """A run; or, with `pretrained`, a network by its name with these weights, which `changes` may set up.

    Raises UserError for a run that is not there, and for weights that give no answers.
    """
    if pretrained is None:
        return of_run(Run.open(run), allow_code=allow_code)
    return of_weights(str(run), str(pretrained), changes=changes or {}, runtime=runtime or Runtime())


def of_run(run: Run, *, allow_code: Consent = False) -> Trained:
    """A run with the weights of one of its checkpoints. Loading a user's model needs `allow_code`."""
    run.check_has_network()
    recipe, dataset = run.recipe(), run.dataset()

    def load(which: str) -> VideoModel:
        use_source(run.path, recipe.model.name, recipe.model.source_sha256, allow_code=allow_code)
        model = build.model(recipe, len(dataset["classes"]), pretrained=False)
        checkpoints.load_model(run.checkpoints, model, which)
        return model

    return Trained(str(run.path), recipe, dataset, load, run)


def of_weights(name: str, pretrained: str, *, changes: Mapping[str, Any], runtime: Runtime) -> Trained:
    """A network with public weights, or a file's, and their own classifier. What it is shown is logged.

    The call is the consent to run code that `name` means. Raises UserError for weights that give no answers.
    """
    allow(name)
    recipe = build.ready_made(name, pretrained, changes=changes, runtime=runtime)
    model, loaded = build.answering(recipe)
    dataset = {
        "classes": list(model.class_names), "mirror": {}, "reversed_pairs": [],
        "longest_trained_seconds": KINETICS_SECONDS if pretrained == "kinetics400" else math.inf,
    }  # fmt: skip
    log(
        f"{name} with {pretrained} ({loaded.source}): {_classes(len(model.class_names), loaded.classes)}; {_shown(recipe)}"
    )
    return Trained(f"{name} with {pretrained}", recipe, dataset, lambda which: model)


def _classes(count: int, names: tuple[str, ...]) -> str:
    return f"{count} classes" if names else f"{count} classes without names, which are called 0 to {count - 1}"


def _shown(recipe: Recipe) -> str:
    """Words for the clips and crops of a video."""
    c, e = recipe.clip, recipe.evaluation
    stride = f", {c.stride_frames} apart" + (f" at {c.fps:g} frames a second" if c.fps else "")
    return (
        f"{e.num_clips} {c.sampling} clip(s) of {c.num_frames} frames{stride if c.sampling == 'dense' else ''}, "
        f"{e.num_crops} crop(s) of {recipe.test_size}x{recipe.test_size} pixels, {recipe.precision}"
    )
