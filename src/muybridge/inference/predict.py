"""Use a run, or public weights: labels for a video file, by the evaluation's code; time-stamped windows for a long one."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from muybridge import build
from muybridge.data import inputs
from muybridge.data.manifest import Manifest, from_columns
from muybridge.errors import UserError
from muybridge.inference.answering import Answering, TrainedNetwork
from muybridge.recipe import Runtime
from muybridge.storage.calibration import UNKNOWN
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores
from muybridge.video import DecodeError, FileReader, Reader, VideoInfo
from muybridge.video.limits import Limits
from muybridge.video.safe import MachineFault, SafeReader

LONG = 2.0
"""A video this many times longer than the longest that was trained on is cut into windows."""


@dataclass(frozen=True)
class Prediction:
    """The labels that a run gives a video, or one window of it."""

    path: str
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    """Best first."""
    scores: tuple[float, ...]
    """Probabilities of `labels`, at the run's temperature where it is calibrated."""
    is_unknown: bool = False
    """Whether the best label's probability is below the run's threshold (`muybridge calibrate --threshold`)."""

    @property
    def label(self) -> str:
        """The best label, or "unknown"."""
        return UNKNOWN if self.is_unknown else self.labels[0]

    def as_json(self) -> dict[str, Any]:
        """One prediction of `muybridge predict --json`."""
        return {"label": self.label, **asdict(self), "labels": list(self.labels), "scores": list(self.scores)}


class Predictor:
    """A loaded run, or a network with public weights: `predictor("some.mp4")`. Any number of threads may call it.

    Files are opened in processes of their own: one that crashes a decoder, hangs in it or passes one of the `limits` is an
    error of that file. They end with the predictor, or at the end of a `with` block.
    """

    def __init__(
        self,
        run: str | Path | Run,
        *,
        pretrained: str | Path | None = None,
        changes: Mapping[str, Any] | None = None,
        runtime: Runtime | None = None,
        allow_code: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """Load a run; or, with `pretrained`, the network called `run` with these weights and their own classifier.

        `changes`: with `pretrained` alone, dotted fields of what it is shown (`clip.num_frames`) and of the model's options.
        Raises UserError for a run that is not there or not whole, for a model of its own without `allow_code`, and for
        weights that give no answers.
        """
        self.answering: Answering = TrainedNetwork(
            run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code
        )
        self.classes: tuple[str, ...] = tuple(self.answering.dataset["classes"])
        self._input = inputs.of(self.answering.recipe.clip)
        self._files = SafeReader(limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that open files; the next call starts new ones."""
        self._files.close()

    def __call__(self, video: str | Path, *, top: int = 5, window_seconds: float | None = None) -> list[Prediction]:
        """Label a video: one prediction, or one a window of a long video (`window_seconds=0`: never windows).

        Raises DecodeError (a UserError) for a file that cannot be read as a video.
        """
        if window_seconds is not None and not 0 <= window_seconds < math.inf:
            raise UserError(
                f"--window-seconds {window_seconds}: not a length. Give seconds above 0, or 0 for no windows"
            )
        if top < 1:
            raise UserError(f"--top {top}: too few labels. Give at least 1")
        try:
            os.fspath(video).encode()
        except UnicodeEncodeError:
            raise DecodeError(video, "its name is not UTF-8 text; rename it") from None
        try:
            info = self._input.look(Path(video), lambda path: self._files.look(path, with_hash=False).video)
        except MachineFault as error:
            raise DecodeError(video, str(error).removeprefix(f"{video}: ")) from None
        rows = _windows(Path(video), info, self.answering.dataset, window_seconds)
        calibrated = self.answering.calibrated
        probabilities_NK = calibrated.probabilities(self.score(rows).video_probabilities())
        predictions = []
        for index in range(len(rows)):
            order = np.argsort(-probabilities_NK[index], kind="stable")[:top]
            row = rows.row(index)
            predictions.append(
                Prediction(
                    str(video),
                    row.start_frame / row.fps,
                    (row.start_frame + row.num_frames) / row.fps,
                    tuple(self.classes[k] for k in order),
                    tuple(float(probabilities_NK[index, k]) for k in order),
                    calibrated.is_unknown(probabilities_NK[index].max()),
                )
            )
        return predictions

    def each(
        self, videos: Iterable[str | Path], *, top: int = 5, window_seconds: float | None = None
    ) -> Iterator[tuple[str, list[Prediction] | DecodeError]]:
        """The predictions for each file, or the error that it gave, in order, as they come."""
        for video in videos:
            try:
                yield str(video), self(video, top=top, window_seconds=window_seconds)
            except DecodeError as error:
                yield str(video), error

    def score(self, rows: Manifest) -> Scores:
        """Per-view scores of rows, as an evaluation gives them."""
        recipe = self.answering.recipe
        frames: Reader = FileReader() if self._input.is_in_place else self._files.reader(recipe.clip.short_side)
        return self.answering.scores(build.video_views(recipe, rows, self._input.reader(frames)))


def predict(
    run: str | Path | Run,
    videos: str | Path | Sequence[str | Path],
    *,
    pretrained: str | Path | None = None,
    top: int = 5,
    window_seconds: float | None = None,
    changes: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
    ready: Callable[[list[Prediction] | DecodeError], None] | None = None,
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


def _windows(video: Path, info: VideoInfo, dataset: Mapping[str, Any], window_seconds: float | None) -> Manifest:
    """A manifest of one file: the whole, or equal windows. `dataset`: what the run knows of its own."""
    longest_trained_seconds, classes = dataset["longest_trained_seconds"], dataset["classes"]
    length = info.num_frames
    if window_seconds is None:
        is_long = info.num_frames / info.fps > LONG * longest_trained_seconds
        window_seconds = longest_trained_seconds if is_long else 0.0
    if window_seconds:
        length = max(1, round(window_seconds * info.fps))
    starts = np.arange(0, info.num_frames, length)
    if len(starts) > 1 and info.num_frames - starts[-1] < length / 2:
        starts = starts[:-1]  # a short rest joins the last window
    ends = [*starts[1:], info.num_frames]
    count = len(starts)
    return from_columns(
        {
            "id": [f"{video}#{start}" for start in starts], "path": [str(video.resolve())] * count,
            "start_frame": starts, "num_frames": np.array(ends) - starts, "label": [classes[0]] * count,
            "group": [""] * count, "fps": [info.fps] * count, "width": [info.width] * count,
            "height": [info.height] * count, "sha256": [""] * count, "split": ["unused"] * count,
        },
        classes=classes, root=Path("/"), mirror=dataset["mirror"], where=str(video),
    )  # fmt: skip


load = Predictor
"""A run or public weights, ready to label videos: `load("runs/tsm")("some.mp4")`."""
