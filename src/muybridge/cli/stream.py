"""The command `stream`: answers for a camera, an address, a file or standard input, as its frames come."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muybridge.cli.options import (
    LIMITS,
    AllowCode,
    Answerer,
    Background,
    EndBelow,
    MaxMemory,
    MaxPixels,
    MergeSeconds,
    MinSeconds,
    ReadyMade,
    StartAbove,
    allow_named,
    decode_limits,
    parsed_settings,
)
from muybridge.cli.output import answered, answering, clock, say

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

_LAST_EVENTS = 5
"""Closed events that the terminal view shows."""
_BAR = 30


def stream(
    run: Answerer,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="camera:0 (or /dev/video0), rtsp://…, http://…, udp://… and the like, a file, or - for standard input.",
        ),
    ],
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="WxH@FPS", help="Standard input is frames without a container, RGB of 8 bits: 640x480@30."
        ),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Play a file at its own pace, and drop late frames, as of a camera.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Time between answers; none: each step frame by frame, else a quarter of a window."
        ),
    ] = None,
    window_frames: Annotated[
        int | None,
        typer.Option(
            min=1, help="Frames that an answer frame by frame is a mean over: few answer sooner; none: those of a clip."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of labels per answer.")] = 5,
    crops: Annotated[
        int | None,
        typer.Option(help="Crops of a frame: 1 (the centre), 3, 5, 10; none: those of the run's evaluation."),
    ] = None,
    for_: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", help="End after so much of the stream; none: at its end."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record the stream into a new file: .mp4, .mov or .mkv.")
    ] = None,
    max_delay: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Drop frames of a live source that have waited longer, while newer ones wait."
        ),
    ] = 1.0,
    retries: Annotated[
        int | None,
        typer.Option(min=0, help="Times that a lost live source is opened again in a row; none: without end."),
    ] = None,
    start_above: StartAbove = 0.5,
    end_below: EndBelow = 0.3,
    min_seconds: MinSeconds = 0.0,
    merge_seconds: MergeSeconds = 0.0,
    background: Background = None,
    pretrained: ReadyMade = None,
    max_pixels: MaxPixels = LIMITS["pixels"],
    max_memory: MaxMemory = LIMITS["memory_gib"],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Of a run: runtime.device, runtime.threads, …; with --pretrained clip.*, too.",
        ),
    ] = None,
    allow_code: AllowCode = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each answer, and for what happens to the source.")
    ] = False,
) -> None:
    """Answer for a camera, an address, a file or standard input, as its frames come.

    Exits with 0 at the end of the stream or of --for, with 130 at Ctrl-C (a recording is closed first), and with 2 for a
    source that gives no frame, is damaged, or is lost for good.
    """
    with answering(as_json, lines=True):
        import muybridge
        from muybridge.runtime.signals import stop_signals

        changes, runtime = parsed_settings(settings)
        if pretrained is not None:
            allow_named(run, allow_code=allow_code)

        with _view(as_json) as view, stop_signals():
            answers = muybridge.stream(
                run, source, raw=raw, real_time=real_time, every_seconds=every, window_frames=window_frames, top=top,
                crops=crops, for_seconds=for_, record=record, max_delay_seconds=max_delay, retries=retries,
                start_above=start_above, end_below=end_below, min_seconds=min_seconds, merge_seconds=merge_seconds,
                background=background, pretrained=pretrained, changes=changes, allow_code=allow_code, runtime=runtime,
                told=view.told, limits=decode_limits(max_pixels, LIMITS["frames"], LIMITS["seconds"], max_memory),
            )  # fmt: skip
            with closing(answers):
                for answer in answers:
                    view.show(answer)


class _Lines:
    """Answers as lines of text, and what happens to the source on standard error."""

    def show(self, answer: Any) -> None:
        """Print an answer."""
        for event in answer.closed:
            say(f"{_span(event)}  {event.score:.3f}  {event.label}")
        best = "  ".join(f"{score:.3f} {label}" for label, score in zip(answer.labels, answer.scores, strict=True))
        say(f"{clock(answer.time_seconds)}  {'unknown: ' if answer.is_unknown else ''}{best}")

    def told(self, note: Any) -> None:
        """Print what happens to the source."""
        from muybridge.runtime.console import log

        log(note.text)


class _JsonLines(_Lines):
    """Answers, and what happens to the source, as lines of JSON."""

    def show(self, answer: Any) -> None:
        """Print an answer."""
        _line(answer.as_json())

    def told(self, note: Any) -> None:
        """Print what happens to the source, on standard error, too."""
        _line({"kind": note.kind, "text": note.text, **note.about})
        super().told(note)


class _Screen:
    """The last answer, in place."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._events: deque[Any] = deque(maxlen=_LAST_EVENTS)

    def show(self, answer: Any) -> None:
        """Draw an answer."""
        self._live.update(_drawn(answer, self._events), refresh=True)

    def told(self, note: Any) -> None:
        """Print what happens to the source, above the answer."""
        from muybridge.text import printable

        self._live.console.print(printable(note.text))


@contextmanager
def _view(as_json: bool) -> Iterator[_Lines | _Screen]:
    """Show answers as JSON, in place in a terminal, or else as lines."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False, emoji=False)
    if as_json or not console.is_terminal:
        yield _JsonLines() if as_json else _Lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield _Screen(live)


def _line(value: dict[str, Any]) -> None:
    """Print a line of JSON at once."""
    answered.append(True)
    typer.echo(json.dumps(value))


def _drawn(answer: Any, events: "deque[Any]") -> "Group":
    """An answer for a terminal: labels with bars, events, and how late it is."""
    from rich.console import Group
    from rich.text import Text

    from muybridge.text import printable

    events.extend(answer.closed)
    lines = [
        f"{clock(answer.time_seconds)}  {printable(answer.label)}",
        *(
            f"  {score:6.3f}  {'█' * round(_BAR * score):{_BAR}}  {printable(label)}"
            for label, score in zip(answer.labels, answer.scores, strict=True)
        ),
        *(f"  {_span(event)}  {event.score:.3f}  {printable(event.label)}" for event in events),
        *(
            f"  {clock(event.start_seconds)} …        {event.score:.3f}  {printable(event.label)}"
            for event in answer.open
        ),
        f"  {answer.milliseconds:.0f} ms from frame to answer, {answer.dropped} frames dropped",
    ]
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def _span(event: Any) -> str:
    return f"{clock(event.start_seconds)} – {clock(event.end_seconds)}"
