"""Commands that use a trained network: `predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    LIMITS,
    AllowCode,
    Answerer,
    Json,
    MaxFrames,
    MaxMemory,
    MaxPixels,
    MaxSeconds,
    ReadyMade,
    Settings,
    allow_named,
    decode_limits,
    parsed_settings,
)
from muybridge.cli.output import answer, answering, clock, say
from muybridge.text import plural


def predict(
    run: Answerer,
    videos: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEO…",
            help="Files, folders, patterns in quotes ('day/**/*.mp4'), lists (FILE.txt, a path a line, from the list's "
            "folder on), manifests (FILE.csv), or - for paths on standard input.",
        ),
    ],
    pretrained: ReadyMade = None,
    top: Annotated[int, typer.Option(min=1, help="Number of labels per window.")] = 5,
    window_seconds: Annotated[
        float | None,
        typer.Option(help="Window length; 0: never cut; none: cut videos far longer than the training videos."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frame rate of folders of images and of arrays, which hold none; none: 25.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="ANSWERS",
            help="Write answers as they come to a .csv or .jsonl file; the same command continues it.",
        ),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="VIDEO|FOLDER",
            help="Write a copy of the video with its labels in the frames, without sound; of several videos into a folder.",
        ),
    ] = None,
    max_pixels: MaxPixels = LIMITS["pixels"],
    max_frames: MaxFrames = LIMITS["frames"],
    max_seconds: MaxSeconds = LIMITS["seconds"],
    max_memory: MaxMemory = LIMITS["memory_gib"],
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Label videos with a run, or with public weights; long videos give time-stamped windows.

    Each result is printed as soon as it is ready, or written to --out. Files that cannot be read are reported, and the others
    labelled.
    """
    with answering(as_json):
        import muybridge
        from muybridge.video import DecodeError

        changes, runtime = parsed_settings(settings)
        if pretrained is not None:
            allow_named(run, allow_code=allow_code)

        def show(result: Any) -> None:
            if isinstance(result, DecodeError):
                say(f"error: {result}", err=True)
            elif out is None:
                _print_predictions(result)

        predictions, failed = muybridge.predict(
            run, videos, pretrained=pretrained, top=top, window_seconds=window_seconds, fps=fps, out=out,
            annotate=annotate, changes=changes, allow_code=allow_code, runtime=runtime, ready=None if as_json else show,
            limits=decode_limits(max_pixels, max_frames, max_seconds, max_memory),
        )  # fmt: skip
        value = {
            "run": run,
            **({} if pretrained is None else {"pretrained": pretrained}),
            "answered_by": predictions.answered_by,
            "predictions": [prediction.as_json() for prediction in predictions],
            "failed": [{"path": error.path, "reason": error.reason} for error in failed],
        }
        if as_json and failed and not predictions:
            raise failed[0]
        answer(as_json, lambda: value, lambda: _print_count(predictions, failed, out))
        if as_json:
            for error in failed:
                say(f"error: {error}", err=True)
        if failed:
            raise typer.Exit(2)


def _print_count(predictions: list[Any], failed: list[Any], out: Path | None) -> None:
    if out is not None:
        videos = len({prediction.path for prediction in predictions})
        unread = f"; {plural(len(failed), 'video')} could not be read" if failed else ""
        say(f"{plural(videos, 'video')} answered{unread}: {out}")


def _print_predictions(predictions: list[Any]) -> None:
    for prediction in predictions:
        say(f"{prediction.path}  {clock(prediction.start_seconds)} – {clock(prediction.end_seconds)}")
        if prediction.is_unknown:
            say("  unknown, as the best guess is below the threshold:")
        for label, score in zip(prediction.labels, prediction.scores, strict=True):
            say(f"  {score:6.3f}  {label}")
