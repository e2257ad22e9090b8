"""The networks that predictions and streams ask: a run, public weights, or an exported file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from muybridge import build
from muybridge.data.views import VideoViews
from muybridge.errors import UserError
from muybridge.evaluation.score import score
from muybridge.evaluation.trained import trained
from muybridge.recipe import Recipe, Runtime
from muybridge.runtime.device import to_device
from muybridge.storage.calibration import Calibrated
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores


class Answering(Protocol):
    """A network that is ready to answer. Any number of threads may ask it."""

    name: str
    """The run's folder, the names of network and weights, or the exported file."""
    recipe: Recipe
    """Its `clip` and `evaluation` say what the network is shown."""
    dataset: Mapping[str, Any]
    """Content of a run's dataset.json, as far as it is known: `classes`, `mirror`, `longest_trained_seconds`."""
    calibrated: Calibrated
    """How its probabilities become answers (`muybridge calibrate`)."""

    def scores(self, views: VideoViews) -> Scores:
        """Per-view scores of every row of the views, in order. Their labels are -1."""
        ...


class TrainedNetwork:
    """A run, or public weights, on the device that the runtime names."""

    def __init__(
        self,
        run: str | Path | Run,
        *,
        pretrained: str | Path | None = None,
        changes: Mapping[str, Any] | None = None,
        runtime: Runtime | None = None,
        allow_code: bool = False,
    ) -> None:
        """Load it. `changes`: with `pretrained` alone. Raises UserError, as `muybridge.evaluation.trained` does."""
        if changes and pretrained is None:
            raise UserError(
                f"--set: '{next(iter(changes))}' cannot be set, as predict uses the run's recipe. Set runtime.FIELD"
            )
        network = trained(run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code)
        self.name, self.recipe, self.dataset = network.name, network.recipe, network.dataset
        self.calibrated = Calibrated() if network.run is None else Calibrated.of(network.run)
        self.where = build.placement(self.recipe, runtime or Runtime())
        self.model = network.load(self.recipe.evaluation.checkpoint)
        to_device(self.model, self.where)
        self.model.eval()  # for good: other threads may be computing while one begins

    def scores(self, views: VideoViews) -> Scores:
        """Per-view scores, by the evaluation's code."""
        rows = views.manifest
        return score(
            self.model,
            views,
            range(len(rows)),
            where=self.where,
            labels_N=np.full(len(rows), -1),
            classes=tuple(self.dataset["classes"]),
            average=self.recipe.evaluation.average,
            batch_size=build.scoring_batch_size(self.recipe),
            text="predicting",
        )["ordered"]
