"""The verb `predict`: label any number of videos with a run, and keep the answers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from muybridge.inference.predictor import Predictor
from muybridge.inference.results import Prediction, Predictions
from muybridge.recipe import Runtime
from muybridge.storage.run import Run
from muybridge.video import DecodeError
from muybridge.video.limits import Limits


def predict(
    run: str | Path | Run,
    videos: Any,
    *,
    pretrained: str | Path | None = None,
    top: int = 5,
    window_seconds: float | None = None,
    changes: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
    ready: Callable[[Predictions | DecodeError], None] | None = None,
) -> tuple[list[Prediction], list[DecodeError]]:
    """Label files with a run, or with a network called `run` and `pretrained` weights.

    Returns predictions in order, and the errors of files that cannot be read. `ready` is called with the predictions of
    each file, or its error, as soon as they are there. `pretrained`, `changes`, `top`, `window_seconds`: as in `Predictor`.
    Raises UserError for a run that is not there.
    """
    files = [videos] if isinstance(videos, str | Path) else videos
    predictions: list[Prediction] = []
    failed: list[DecodeError] = []
    with Predictor(
        run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code, limits=limits
    ) as predictor:
        for _, answer in predictor.each(files, top=top, window_seconds=window_seconds):
            if ready is not None:
                ready(answer)
            if isinstance(answer, DecodeError):
                failed.append(answer)
            else:
                predictions += answer
    return predictions, failed


load = Predictor
"""A run or public weights, ready to label videos: `load("runs/tsm")("some.mp4")`."""
