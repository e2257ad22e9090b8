"""Commands that put a run to use: `predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    LIMITS,
    AllowCode,
    Json,
    MaxFrames,
    MaxMemory,
    MaxPixels,
    MaxSeconds,
    Settings,
    limits_of,
    parsed_settings,
)
from muybridge.cli.output import answer, answering, clock, say
from muybridge.errors import UserError


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO…")],
    top: Annotated[int, typer.Option(min=1, help="How many labels.")] = 5,
    window_seconds: Annotated[
        float | None,
        typer.Option(help="Cut videos into windows; 0: never. None: those far longer than the training videos."),
    ] = None,
    max_pixels: MaxPixels = LIMITS["pixels"],
    max_frames: MaxFrames = LIMITS["frames"],
    max_seconds: MaxSeconds = LIMITS["seconds"],
    max_memory: MaxMemory = LIMITS["memory_gib"],
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Label videos with a run, by the same code as the evaluation, each as soon as it is done; a long video gives time-stamped
    windows. A file that cannot be read is told, and the others are labelled."""
    with answering(as_json):
        from muybridge.inference.predict import Predictor
        from muybridge.video import DecodeError

        changes, runtime = parsed_settings(settings)
        if changes:
            raise UserError(f"predict uses the run's own recipe; '{next(iter(changes))}' cannot be set, runtime.… can")
        limits = limits_of(max_pixels, max_frames, max_seconds, max_memory)
        found: list[Any] = []
        failed: list[DecodeError] = []
        with Predictor(run, runtime=runtime, allow_code=allow_code, limits=limits) as predictor:
            for _, found_in in predictor.each(videos, top=top, window_seconds=window_seconds):
                if isinstance(found_in, DecodeError):
                    failed.append(found_in)
                    if not as_json:
                        say(f"error: {found_in}", err=True)
                else:
                    found += found_in
                    if not as_json:
                        _print_predictions(found_in)
        value = {
            "run": str(run),
            "predictions": [prediction.as_json() for prediction in found],
            "failed": [{"path": error.path, "reason": error.reason} for error in failed],
        }
        if as_json and failed and not found:
            raise failed[0]
        answer(as_json, lambda: value, lambda: None)
        if as_json:
            for error in failed:
                say(f"error: {error}", err=True)
        if failed:
            raise typer.Exit(2)


def _print_predictions(found: list[Any]) -> None:
    for prediction in found:
        say(f"{prediction.path}  {clock(prediction.start_seconds)} – {clock(prediction.end_seconds)}")
        for label, score in zip(prediction.labels, prediction.scores, strict=True):
            say(f"  {score:6.3f}  {label}")
