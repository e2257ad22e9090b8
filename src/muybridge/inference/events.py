"""The verb `events`: what happens when in long videos, and how well that agrees with annotated events."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muybridge.analysis.detection import Judgement, Video, judge
from muybridge.analysis.events import Event, Rules
from muybridge.analysis.events import events as events_of
from muybridge.data.annotations import Annotation, read_annotations
from muybridge.errors import UserError
from muybridge.inference.event_files import EventFiles
from muybridge.inference.listing import listed
from muybridge.inference.over_time import OverTime, check_windows
from muybridge.inference.predictor import Predictor
from muybridge.inference.sources import name_of
from muybridge.recipe import Runtime
from muybridge.runtime.console import log
from muybridge.storage.run import Run
from muybridge.text import plural
from muybridge.video import DecodeError
from muybridge.video.limits import Limits


@dataclass(frozen=True, repr=False)
class VideoEvents:
    """Events of a video, by their starts, and the scores that they were made of."""

    path: str
    events: tuple[Event, ...]
    over_time: OverTime
    """Smoothed."""

    def as_json(self) -> dict[str, Any]:
        """One video of `muybridge events --json`."""
        return {
            "path": self.path,
            "seconds": self.over_time.end_seconds,
            "windows": len(self.over_time.times_N),
            "window_seconds": self.over_time.window_seconds,
            "step_seconds": self.over_time.step_seconds,
            "events": [event.as_json() for event in self.events],
        }


@dataclass(frozen=True, repr=False)
class Events:
    """Events of several videos."""

    videos: tuple[VideoEvents, ...]
    failed: tuple[DecodeError, ...]
    """Videos that cannot be read."""
    judgement: Judgement | None = None
    """Agreement with annotated events, of the videos that could be read."""
    notes: tuple[str, ...] = ()
    """Remarks about the annotated events."""
    answered_by: str = ""
    """Words for what computed the scores (`Predictor.answered_by`)."""

    def as_json(self) -> dict[str, Any]:
        """Content of `muybridge events --json`."""
        return {
            "answered_by": self.answered_by,
            "videos": [video.as_json() for video in self.videos],
            "failed": [{"path": error.path, "reason": error.reason} for error in self.failed],
            "truth": None if self.judgement is None else self.judgement.as_json(),
            "notes": list(self.notes),
        }


def events(
    run: str | Path | Run,
    videos: Any,
    *,
    out: str | Path | None = None,
    window_seconds: float | None = None,
    overlap: float = 0.5,
    fps: float | None = None,
    smooth_seconds: float = 0.0,
    start_above: float = 0.5,
    end_below: float = 0.3,
    min_seconds: float = 0.0,
    merge_seconds: float = 0.0,
    background: str | None = None,
    truth: str | Path | None = None,
    pretrained: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
    ready: Callable[[VideoEvents | DecodeError], None] | None = None,
) -> Events:
    """Find events in videos: windows with overlap, smoothed scores, hysteresis (`muybridge.analysis.events.Rules`).

    `videos`: as in `muybridge.predict`. `window_seconds`, `overlap`, `fps`: as in `Predictor.over_time`. `smooth_seconds`:
    standard deviation of a Gaussian over time. `out`: a .csv or .json of all videos, or a .srt or .vtt for each, with
    `{name}` for the video's name. `truth`: a CSV of annotated events, which the found ones are held against. `ready` is
    called with each video, or its error, as it is done.

    Raises UserError for a run that is not there, for rules that make no events, and for files that are there already.
    """
    check_windows(window_seconds, overlap)
    if not 0 <= smooth_seconds < float("inf"):
        raise UserError(f"--smooth-seconds {smooth_seconds:g}: not a length. Give seconds, from 0 on")
    rules = Rules(start_above, end_below, min_seconds, merge_seconds, background)
    is_several = isinstance(videos, list | tuple) and not hasattr(videos, "_fields")
    given = listed(videos if is_several else [videos])
    for line in given.told():
        log(line)
    by_name: dict[str, Any] = {}
    for video in given.videos:
        name = name_of(video) or "array"
        if name in by_name:
            raise UserError(f"{name}: it is given twice. Name each video once")
        by_name[name] = video
    if not by_name:
        raise UserError("videos: none is given. Name files, folders or lists of them")
    names = list(by_name)
    files = None if out is None else EventFiles.checked(out, names)
    found: list[VideoEvents] = []
    failed: list[DecodeError] = []
    with Predictor(
        run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code, limits=limits
    ) as predictor:
        rules.check(predictor.classes)
        log(f"answers: {predictor.answered_by}")
        expected = None if truth is None else _expected(Path(truth), predictor.classes, background, names)
        for name, source in by_name.items():
            try:
                over_time = predictor.over_time(source, window_seconds=window_seconds, overlap=overlap, fps=fps)
            except DecodeError as error:
                failed.append(error)
                if ready is not None:
                    ready(error)
                continue
            over_time = over_time.smoothed(smooth_seconds)
            video = VideoEvents(name, tuple(_events(over_time, rules)), over_time)
            found.append(video)
            if files is not None and files.is_a_video_each:
                files.write_subtitles(name, video.events)
            if ready is not None:
                ready(video)
        answered_by = predictor.answered_by
    judgement: Judgement | None = None
    notes: tuple[str, ...] = ()
    if expected is not None:
        judgement = judge([_held_against(video, expected.of[video.path]) for video in found], predictor.classes)
        notes = expected.notes + tuple(_beyond(found, expected.of))
    result = Events(tuple(found), tuple(failed), judgement, notes, answered_by)
    if files is not None and not files.is_a_video_each and found:
        files.write_all([(video.path, video.events) for video in found], result.as_json())
    return result


def _events(over_time: OverTime, rules: Rules) -> list[Event]:
    return events_of(
        over_time.times_N, over_time.probabilities_NK, over_time.classes,
        replace(rules, unknown_below=over_time.unknown_below), start_seconds=over_time.start_seconds,
        end_seconds=over_time.end_seconds,
    )  # fmt: skip


@dataclass(frozen=True)
class _Expected:
    """Annotated events by video, without those of the background."""

    of: Mapping[str, Sequence[Annotation]]
    notes: tuple[str, ...]


def _expected(path: Path, classes: Sequence[str], background: str | None, videos: Sequence[str]) -> _Expected:
    """The annotated events of these videos, and what is to be said of them. Raises UserError."""
    annotations = read_annotations(path, classes)
    by_video = dict(zip(videos, annotations.of(videos), strict=True))
    notes = []
    if unnamed := [video for video, events in by_video.items() if events is None]:
        notes.append(f"{path} does not name {unnamed[0]}{_others(unnamed)}: taken as without events")
    if (unused := len(annotations.events) - (len(by_video) - len(unnamed))) > 0:
        notes.append(f"{path} names {unused} more, which were not given")
    of_background = sum(event.label == background for events in by_video.values() for event in events or ())
    if of_background:
        notes.append(f"{of_background} annotated as '{background}', the background: left out")
    kept = {video: [e for e in events or () if e.label != background] for video, events in by_video.items()}
    if not any(kept.values()):
        notes.append("no event is annotated in these videos, so there is nothing to hold the found ones against")
    return _Expected(kept, tuple(notes))


def _beyond(found: Sequence[VideoEvents], truth: Mapping[str, Sequence[Annotation]]) -> Iterator[str]:
    """A remark for each video with annotated events that begin after it ends."""
    for video in found:
        end_seconds = video.over_time.end_seconds
        count = sum(event.start_seconds >= end_seconds for event in truth[video.path])
        if count:
            yield f"{plural(count, 'event')} of {video.path} after its end, at {end_seconds:.2f} s: counted as not found"


def _others(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _held_against(video: VideoEvents, truth: Sequence[Annotation]) -> Video:
    scores = video.over_time
    return Video(video.events, truth, scores.times_N, scores.probabilities_NK, scores.frame_times_F, scores.end_seconds)
