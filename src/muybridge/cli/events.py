"""The command `events`: what happens when in long videos."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    LIMITS,
    AllowCode,
    Answerer,
    Background,
    EndBelow,
    Json,
    MaxFrames,
    MaxMemory,
    MaxPixels,
    MaxSeconds,
    MergeSeconds,
    MinSeconds,
    ReadyMade,
    Settings,
    StartAbove,
    allow_named,
    decode_limits,
    parsed_settings,
)
from muybridge.cli.output import answer, answering, clock, say, table
from muybridge.text import plural


def events(
    run: Answerer,
    videos: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEO…",
            help="Files, folders, patterns in quotes, lists, manifests, or -, as `predict` takes them.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write .csv or .json of all videos, or .srt or .vtt for each ({name}: the video's name).",
        ),
    ] = None,
    window_seconds: Annotated[
        float | None,
        typer.Option(
            help="Window length; none: what a dense clip covers, or (uniform sampling) the longest training video."
        ),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share of a window that the next one shows, too.")] = 0.5,
    fps: Annotated[
        float | None, typer.Option(help="Frame rate of folders of images and of arrays, which hold none; none: 25.")
    ] = None,
    smooth_seconds: Annotated[
        float, typer.Option(help="Smooth scores over time: standard deviation of the Gaussian; 0: not at all.")
    ] = 0.0,
    start_above: StartAbove = 0.5,
    end_below: EndBelow = 0.3,
    min_seconds: MinSeconds = 0.0,
    merge_seconds: MergeSeconds = 0.0,
    background: Background = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Annotated events (video,start_seconds,end_seconds,label): prints how well the found ones agree.",
        ),
    ] = None,
    pretrained: ReadyMade = None,
    max_pixels: MaxPixels = LIMITS["pixels"],
    max_frames: MaxFrames = LIMITS["frames"],
    max_seconds: MaxSeconds = LIMITS["seconds"],
    max_memory: MaxMemory = LIMITS["memory_gib"],
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Find events in long videos: start, end, label, score. Hold them against annotated ones with --truth.

    Files that cannot be read are reported, and the others done.
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
            else:
                _print_video(result)

        found = muybridge.events(
            run, videos, out=out, window_seconds=window_seconds, overlap=overlap, fps=fps, smooth_seconds=smooth_seconds,
            start_above=start_above, end_below=end_below, min_seconds=min_seconds, merge_seconds=merge_seconds,
            background=background, truth=truth, pretrained=pretrained, changes=changes, allow_code=allow_code,
            runtime=runtime, ready=None if as_json else show,
            limits=decode_limits(max_pixels, max_frames, max_seconds, max_memory),
        )  # fmt: skip
        if as_json and found.failed and not found.videos:
            raise found.failed[0]
        answer(as_json, lambda: {"run": run, **found.as_json()}, lambda: _print_truth(found))
        if as_json:
            for error in found.failed:
                say(f"error: {error}", err=True)
        if found.failed:
            raise typer.Exit(2)


def _print_video(video: Any) -> None:
    over_time = video.over_time
    say(
        f"{video.path}  {clock(over_time.end_seconds)}, {plural(len(over_time.times_N), 'window')} of "
        f"{over_time.window_seconds:.2f} s, one every {over_time.step_seconds:.2f} s"
    )
    for event in video.events:
        say(f"  {clock(event.start_seconds)} – {clock(event.end_seconds)}  {event.score:.3f}  {event.label}")
    if not video.events:
        say("  no events")


def _print_truth(found: Any) -> None:
    for note in found.notes:
        say(f"truth: {note}", err=True)
    judged = found.judgement
    if judged is None:
        return
    from muybridge.analysis.detection import OVERLAPS, TOLERANCES_SECONDS, Estimate

    lines = [
        *([f"events, overlap {at:g}", str(e)] for at, e in zip(OVERLAPS, judged.event_map_O, strict=True)),
        ["events, mean of these", str(judged.mean_event_map)],
        *([f"starts, within {at:g} s", str(e)] for at, e in zip(TOLERANCES_SECONDS, judged.start_map_S, strict=True)),
        ["frames", str(judged.frame_map)],
        ["frames, calibrated", str(judged.calibrated_map)],
    ]
    table(["mean average precision", plural(judged.num_videos, "video")], lines, numeric=(1,))
    at = OVERLAPS.index(0.5)
    cells = [
        [name, str(judged.num_true_C[c]), str(judged.num_found_C[c]),
         *(str(Estimate(ap_C[c])) for ap_C in (judged.event_ap_OC[at], judged.frame_ap_C, judged.calibrated_ap_C))]
        for c, name in enumerate(judged.classes)
    ]  # fmt: skip
    header = ["class", "annotated", "found", "events, overlap 0.5", "frames", "frames, calibrated"]
    table(header, cells, numeric=(1, 2, 3, 4, 5))
    if judged.num_elsewhere:
        say(f"{plural(judged.num_elsewhere, 'event')} found of classes that are annotated nowhere, which count nowhere")
