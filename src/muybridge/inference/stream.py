"""Answers for a stream, as its frames come.

**Steps.** A stream is sampled as the run's clips are: a step each `clip.stride_frames / clip.fps` seconds of its time
stamps, or each `clip.stride_frames` frames where the run has no rate. The frame of a step is the last one that is shown by
then (to a millisecond). So rates may vary, and dropped frames shift nothing. An answer is that of `muybridge predict` for
the last `clip.num_frames` steps as one clip, with the crops of the run's evaluation. The first comes once these are there.

**Frame by frame**, a network of single frames, or one that looks back only, sees each frame once (`muybridge.zoo.steps`). Any
other is given the whole window for each answer. A frame is decoded, scaled and cropped once either way.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge import build
from muybridge.analysis.events import Event, Hysteresis, Rules
from muybridge.data import inputs
from muybridge.data.manifest import from_columns
from muybridge.data.transforms import MIRRORED_FROM, Box, test_boxes
from muybridge.data.views import Views
from muybridge.errors import UserError
from muybridge.evaluation.score import mirrored_classes
from muybridge.inference.answering import Answering, FrameByFrame, Stepping, answering
from muybridge.inference.results import Labelled, best_first
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime.console import log
from muybridge.storage.run import Run
from muybridge.storage.scores import CROPS, softmax
from muybridge.text import plural
from muybridge.video import Row
from muybridge.video.limits import Limits
from muybridge.video.live import MOST_DELAY_SECONDS, LiveFrame, LiveFrames, Note
from muybridge.video.scaling import scaled, scaled_size
from muybridge.video.source import source_of
from muybridge.zoo.steps import State

FPS = 25.0
"""Frame rate of a stream that says none."""
ROUNDING_SECONDS = 1e-3
"""Time stamps differ from the true times by less, as containers round them."""
LEAST_SECONDS = 1e-6
"""Time between two steps, whatever the time stamps say."""
ANSWERS_A_WINDOW = 4
"""Answers while a window passes, of a network that takes whole windows."""


@dataclass(frozen=True)
class Answer(Labelled):
    """The labels at a moment of a stream."""

    time_seconds: float
    """Time in the stream of the last step that was looked at."""
    start_seconds: float
    """Time of the first step of its window."""
    frame: int
    """Number of the last frame, from 0."""
    labels: tuple[str, ...]
    """Best first."""
    scores: tuple[float, ...]
    """Probabilities of `labels`, at the run's temperature where it is calibrated."""
    is_unknown: bool
    """Whether the best label's probability is below the run's threshold (`muybridge calibrate --threshold`)."""
    milliseconds: float
    """From the moment when the last frame was there to the answer."""
    dropped: int = 0
    """Frames of the stream that were dropped so far."""
    open: tuple[Event, ...] = ()
    """Events that last, as far as they have come."""
    closed: tuple[Event, ...] = ()
    """Events that have ended since the answer before."""
    probabilities_K: np.ndarray | None = None
    """Probabilities of all classes, in the order of the run's."""

    def as_json(self) -> dict[str, Any]:
        """A line of `muybridge stream --json`."""
        return {
            "kind": "answer", "time_seconds": round(self.time_seconds, 6), "frame": self.frame, "label": self.label,
            "labels": list(self.labels), "scores": list(self.scores), "is_unknown": self.is_unknown,
            "start_seconds": round(self.start_seconds, 6), "milliseconds": round(self.milliseconds, 3),
            "dropped": self.dropped, "open": [event.as_json() for event in self.open],
            "closed": [event.as_json() for event in self.closed],
        }  # fmt: skip


class _Frame:
    """A frame that was pushed; its crops are made once, where they are needed."""

    def __init__(self, pixels_HW3: np.ndarray, time_seconds: float, number: int, arrived: float) -> None:
        self.pixels_HW3, self.time_seconds, self.number, self.arrived = pixels_HW3, time_seconds, number, arrived
        self.pictures_BHWC: np.ndarray | None = None
        """One a distinct box."""


@dataclass
class _Step:
    """A time step of a clip."""

    time_seconds: float
    frames: list[_Frame]


class Stream:
    """A network that answers for frames that are pushed, one stream at a time: `answer = stream.push(frame, seconds)`.

    Streams share a network: load it once (`muybridge.inference.answering.answering`), and make a `Stream` of it for each
    camera. What a stream holds is bounded: the crops of a window, or the network's state.
    """

    _last: _Frame | None = None
    _before_last: _Frame | None = None
    _states: list[State]

    def __init__(
        self,
        run: str | Path | Run | Answering,
        *,
        pretrained: str | Path | None = None,
        changes: Mapping[str, Any] | None = None,
        runtime: Runtime | None = None,
        allow_code: bool = False,
        top: int = 5,
        every_seconds: float | None = None,
        window_frames: int | None = None,
        crops: int | None = None,
        fps: float | None = None,
        rules: Rules | None = None,
    ) -> None:
        """Load a run, as `muybridge.load` does, or take a network that is loaded.

        `every_seconds`: time between answers, rounded to whole steps; None: each step of a network that goes frame by frame,
        else a quarter of a window. `window_frames`: that an answer of a network that goes frame by frame is a mean over; None:
        those of a clip. `crops`: None: those of the run's evaluation; 1: the centre alone. `fps`: frames a second
        of the stream, for the times that are named where the run has no rate. `rules`: of events. Raises UserError, also for
        a run whose clips no stream has.
        """
        if isinstance(run, str | Path | Run):
            run = answering(run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code)
        if top < 1:
            raise UserError(f"--top {top}: too few labels. Give at least 1")
        if every_seconds is not None and not every_seconds > 0:
            raise UserError(f"--every {every_seconds:g}: not a time. Give seconds above 0")
        if crops is not None and crops not in CROPS:
            raise UserError(f"--crops {crops}: not a number of crops. Give one of {', '.join(map(str, CROPS))}")
        _check_clips(run, is_public=pretrained is not None)
        self.network = run
        self.classes: tuple[str, ...] = tuple(run.dataset["classes"])
        self.top = top
        rules = changed(rules or Rules(), unknown_below=run.calibrated.threshold)
        self._events, self._closed = Hysteresis(self.classes, rules), list[Event]()
        recipe = run.recipe
        self._clip, self._input = recipe.clip, inputs.of(recipe.clip)
        self._crops = crops or recipe.evaluation.num_crops
        one_clip = {"evaluation.num_clips": 1, "evaluation.num_crops": self._crops}
        self._recipe: Recipe = replace(recipe, one_clip)
        self._every_seconds, self._fps = every_seconds, fps or FPS
        self._now = _Now()
        self._reader = self._input.reader(self._now)
        self._window_frames = self._clip.num_frames if window_frames is None else window_frames
        self._steps: FrameByFrame | None = None
        if isinstance(run, Stepping):
            self._steps = run.frame_by_frame(self._window_frames)
        if self._steps is None and window_frames is not None:
            raise UserError(
                f"--window-frames {window_frames}: {run.name} takes whole clips of {self._clip.num_frames} frames. Leave it out"
            )
        self._ready: dict[int, Views] = {}
        self._views = build.video_views(
            self._recipe, _one_row(self._clip.num_frames * self._input.step_frames, run.dataset), self._now,
            ready=self._ready,
        )  # fmt: skip
        self._mirrored_K = mirrored_classes(run.dataset["mirror"], self.classes)
        self.skipped = 0
        """Answers that were left out, as they came too late."""
        self._boxes: tuple[tuple[int, int], Sequence[Box]] = ((0, 0), ())
        self._is_loaded = False
        self._begin(0.0, 0)

    @property
    def is_frame_by_frame(self) -> bool:
        """Whether the network sees each frame once; else it is given the whole window for each answer."""
        return self._steps is not None

    @property
    def step_seconds(self) -> float:
        """Time between two frames that the network sees."""
        return self._clip.stride_frames / (self._clip.fps or self._fps)

    @property
    def every_steps(self) -> int:
        """Steps between two answers."""
        if self._every_seconds is not None:
            return max(1, round(self._every_seconds / self.step_seconds))
        return 1 if self.is_frame_by_frame else max(1, self._window_frames // ANSWERS_A_WINDOW)

    def about(self, fps: float | None = None) -> dict[str, Any]:
        """Describe what the network looks at, and when it answers. `fps`: frames a second of the stream, where it says them."""
        self._fps = fps or self._fps
        window_seconds = (self._window_frames - 1) * self.step_seconds + (self._input.step_frames - 1) / self._fps
        return {
            "network": self.network.name, "answered_by": self.network.answered_by, "classes": len(self.classes),
            "way": "frame by frame" if self.is_frame_by_frame else "windows",
            "window_frames": self._window_frames, "crops": self._crops, "step_seconds": self.step_seconds,
            "window_seconds": window_seconds, "every_seconds": self.every_steps * self.step_seconds,
            "delay_seconds": window_seconds / 2,
        }  # fmt: skip

    def push(
        self,
        frame_HW3: np.ndarray,
        time_seconds: float,
        *,
        number: int | None = None,
        begins: bool = False,
        arrived: float | None = None,
        is_late: bool = False,
    ) -> Answer | None:
        """Take the next frame of the stream, uint8 (H,W,3) in red, green and blue; an answer, where one is due.

        `time_seconds`: when it is shown, rising. `number`: of the frame in the stream, where some are left out. `begins`: it
        does not follow the frames before, so the window begins with it. `arrived`: when it was there, by `time.monotonic`.
        `is_late`: answers by whole windows are left out. Where several answers are due, the last. Raises UserError.
        """
        if frame_HW3.dtype != np.uint8 or frame_HW3.ndim != 3 or frame_HW3.shape[2] != 3:
            raise UserError(
                f"frame: an array of {frame_HW3.dtype} {frame_HW3.shape}. Give uint8 (H,W,3), in red, green and blue"
            )
        number = self._last.number + 1 if number is None and self._last is not None else (number or 0)
        frame = _Frame(frame_HW3, time_seconds, number, time.monotonic() if arrived is None else arrived)
        if begins or self._last is None:
            self._begin(time_seconds, number)
        elif time_seconds < self._last.time_seconds:
            raise UserError(
                f"time_seconds: {time_seconds:g} after {self._last.time_seconds:g}. Give rising times, or begins=True for "
                "another stream"
            )
        position = self._position(frame)
        if self._last is not None:
            self._hold(position)
        for step in self._waiting:  # of several frames
            step.frames += [frame][: self._input.step_frames - len(step.frames)]
        if self._next <= position + self._rounding:
            self._take(frame)
        self._before_last, self._last = self._last, frame
        return self._answer_due(is_late=is_late)

    def finish(self) -> Answer | None:
        """Take the end of the stream: the last frame is shown for as long as the one before it. An answer, if one is due."""
        if self._last is None or self._before_last is None:
            return None
        self._hold(2 * self._position(self._last) - self._position(self._before_last))
        self._last = None
        return self._answer_due(is_late=False)

    def end_events(self) -> list[Event]:
        """Close the events that last, at the middle of the last window: those since the last answer."""
        closed, self._closed = [*self._closed, *self._events.finish()], []
        return closed

    def save_state(self, path: str | Path) -> None:
        """Write the state of a network that goes frame by frame into a file, with the network's hash. Raises UserError."""
        self._one_state().save_state(path, self._states[0])

    def load_state(self, path: str | Path) -> None:
        """Go on from a state: the next frame that is pushed follows those that made it. Raises UserError."""
        self._states = [self._one_state().load_state(path)]
        self._count = int(self._states[0]["seen"])
        self._is_loaded, self._last = True, None

    def _one_state(self) -> FrameByFrame:
        if self._steps is None:
            raise UserError(f"{self.network.name}: it takes whole windows and has no state. Begin a new stream")
        if self._crops > 1:
            raise UserError(
                f"{self.network.name}: each of {self._crops} crops has a state. Make the stream with crops=1"
            )
        return self._steps

    def _begin(self, time_seconds: float, number: int) -> None:
        """Begin a window."""
        self._first_seconds, self._first_number, self._next = time_seconds, number, 0
        self._step_seconds = time_seconds - LEAST_SECONDS
        self._last = self._before_last = None
        self._closed = self.end_events()
        self._waiting: deque[_Step] = deque()
        self._window: deque[_Step] = deque(maxlen=self._window_frames)
        if self._is_loaded:
            self._is_loaded = False
            return
        self._count = 0
        self._states = [] if self._steps is None else [self._steps.start() for _ in range(self._crops)]

    def _position(self, frame: _Frame) -> float:
        """Time of a frame, in steps."""
        if self._clip.fps is None:
            return (frame.number - self._first_number) / self._clip.stride_frames
        return (frame.time_seconds - self._first_seconds) * self._clip.fps / self._clip.stride_frames

    @property
    def _rounding(self) -> float:
        """Part of a step by which the times of frames may differ from those of steps."""
        return min(0.05, ROUNDING_SECONDS / self.step_seconds) if self._clip.fps else 1e-9

    def _hold(self, position: float) -> None:
        """Let the last frame be that of all steps before a position."""
        assert self._last is not None
        self._next = max(self._next, int(position) - self._window_frames)  # a frame that is held fills the window
        while self._next + self._rounding < position:
            self._take(self._last)

    def _take(self, frame: _Frame) -> None:
        """Begin the next step with a frame, which may have been shown for a while."""
        shown_seconds = (self._next - self._position(frame)) * self.step_seconds
        self._step_seconds = max(frame.time_seconds + shown_seconds, self._step_seconds + LEAST_SECONDS)
        self._waiting.append(_Step(self._step_seconds, [frame]))
        self._next += 1

    def _answer_due(self, *, is_late: bool) -> Answer | None:
        """Show the network the steps that are whole; the last answer that is due."""
        answer: Answer | None = None
        closed: list[Event] = []
        while self._waiting and len(self._waiting[0].frames) == self._input.step_frames:
            due = self._step(self._waiting.popleft(), is_late=is_late)
            if due is not None:
                answer, closed = due, [*closed, *due.closed]
        return None if answer is None else changed(answer, closed=tuple(closed))

    def _step(self, step: _Step, *, is_late: bool) -> Answer | None:
        """Show the network a step; an answer, where one is due."""
        frames = step.frames
        self._window.append(step)
        self._count += 1
        logits_CK = None
        if self._steps is not None:
            logits = []
            for crop in range(self._crops):
                pictures_LHWC = np.stack([self._pictures(frame)[self._box_of(crop)] for frame in frames])
                logits_K, self._states[crop] = self._steps.step(
                    pictures_LHWC, self._states[crop], is_mirrored=crop >= MIRRORED_FROM
                )
                logits.append(logits_K[self._mirrored_K] if crop >= MIRRORED_FROM else logits_K)
            logits_CK = np.stack(logits)
        else:
            for frame in frames:
                self._pictures(frame)
        since_full = self._count - self._window_frames
        if since_full < 0 or since_full % self.every_steps:
            return None
        if logits_CK is None and is_late:
            self.skipped += 1
            return None
        probabilities_1K = self._of_window() if logits_CK is None else self._of_logits(logits_CK)
        return self._answer(probabilities_1K, step)

    def _of_logits(self, logits_CK: np.ndarray) -> np.ndarray:
        """(1,K) probabilities, the mean over crops as the recipe averages views."""
        if self._recipe.evaluation.average == "probabilities":
            return np.asarray(softmax(logits_CK).mean(0, keepdims=True))
        return np.asarray(softmax(logits_CK.astype(np.float64).mean(0, keepdims=True)))

    def _of_window(self) -> np.ndarray:
        """(1,K) probabilities of the window, by the evaluation's code."""
        frames = [frame for step in self._window for frame in step.frames]
        pictures_FBHWC = np.stack([self._pictures(frame) for frame in frames])
        num_frames, num_boxes = pictures_FBHWC.shape[:2]
        box_C = np.array([self._box_of(crop) for crop in range(self._crops)])
        self._ready[0] = Views(
            torch.from_numpy(pictures_FBHWC.reshape(num_frames * num_boxes, *pictures_FBHWC.shape[2:])),
            np.arange(num_frames)[None] * num_boxes + box_C[:, None],
            np.arange(self._crops) >= MIRRORED_FROM,
            0,
            np.zeros(self._crops, dtype=np.int64),
            np.arange(self._crops),
        )
        return self.network.scores(self._views).video_probabilities()

    def _answer(self, probabilities_1K: np.ndarray, step: _Step) -> Answer:
        calibrated = self.network.calibrated
        (probabilities_K,) = calibrated.probabilities(probabilities_1K)
        best = best_first(probabilities_K)[: self.top]
        start_seconds, last = self._window[0].time_seconds, step.frames[-1]
        closed = [*self._closed, *self._events.push((start_seconds + step.time_seconds) / 2, probabilities_K)]
        self._closed = []
        return Answer(
            step.time_seconds, start_seconds, last.number,
            tuple(self.classes[k] for k in best), tuple(float(probabilities_K[k]) for k in best),
            calibrated.is_unknown(probabilities_K.max()), 1000 * (time.monotonic() - last.arrived),
            open=tuple(self._events.open), closed=tuple(closed), probabilities_K=probabilities_K,
        )  # fmt: skip

    def _pictures(self, frame: _Frame) -> np.ndarray:
        """(B,H,W,C) crops of a frame at the network's size, each distinct box once."""
        if frame.pictures_BHWC is None:
            height, width = frame.pixels_HW3.shape[:2]
            pixels_HW3 = scaled(frame.pixels_HW3, scaled_size(width, height, self._clip.short_side))
            self._now.frame_1HW3 = pixels_HW3[None]
            frame_1HWC = self._reader.read(_ROW, np.zeros(1, dtype=np.int64))
            boxes = self._distinct_boxes(*frame_1HWC.shape[1:3])
            frame.pictures_BHWC = np.concatenate(
                [self._input.fitted(frame_1HWC, box, self._recipe.test_size) for box in boxes]
            )
            frame.pixels_HW3 = pixels_HW3[:0]  # of no more use
        return frame.pictures_BHWC

    def _distinct_boxes(self, height: int, width: int) -> Sequence[Box]:
        if self._boxes[0] != (height, width):
            boxes = test_boxes(
                height, width, num_crops=self._crops, crop_fraction=self._recipe.evaluation.crop_fraction
            )
            self._boxes = (height, width), boxes[:MIRRORED_FROM]
        return self._boxes[1]

    def _box_of(self, crop: int) -> int:
        """Number of a crop's box: the mirrored ones are those of the first five."""
        return crop % MIRRORED_FROM


def _check_clips(network: Answering, *, is_public: bool) -> None:
    """Raise UserError for a network whose clips no stream has, with what would do."""
    recipe, dataset = network.recipe, network.dataset
    wanted = inputs.of(recipe.clip)
    if wanted.store or not wanted.is_picture:
        raise UserError(
            f"{network.name}: it takes {wanted.about}, which are made beforehand, so no stream has them. Train a network "
            "of frames"
        )
    if recipe.clip.sampling == "uniform":
        seconds = dataset["longest_trained_seconds"]
        fps = f"{recipe.clip.num_frames / seconds:.3g}" if 0 < seconds < float("inf") else "FPS"
        how = "Take frames" if is_public else "Train it with frames"
        raise UserError(
            f"{network.name}: its clips are made of whole videos (clip.sampling=uniform), and a stream has no end. {how} at "
            f"a rate: --set clip.sampling=dense --set clip.stride_frames=1 --set clip.fps={fps}"
        )


class _Now:
    """Reads the frame that is in hand."""

    frame_1HW3: np.ndarray

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        return self.frame_1HW3


_ROW = Row("stream", "stream", 0, 1, FPS)


def _one_row(num_frames: int, dataset: Mapping[str, Any]) -> Any:
    """A manifest of one window."""
    classes = dataset["classes"]
    return from_columns(
        {
            "id": ["stream"], "path": ["stream"], "start_frame": [0], "num_frames": [num_frames], "label": [classes[0]],
            "group": [""], "fps": [FPS], "width": [1], "height": [1], "sha256": [""], "split": ["unused"],
        },
        classes=classes, root=Path("/"), mirror=dataset["mirror"], where="stream",
    )  # fmt: skip


def stream(
    run: str | Path | Run | Answering,
    source: str | Path,
    *,
    raw: str | None = None,
    real_time: bool = False,
    pretrained: str | Path | None = None,
    top: int = 5,
    every_seconds: float | None = None,
    window_frames: int | None = None,
    crops: int | None = None,
    for_seconds: float | None = None,
    record: str | Path | None = None,
    max_delay_seconds: float = MOST_DELAY_SECONDS,
    retries: int | None = None,
    start_above: float = 0.5,
    end_below: float = 0.3,
    min_seconds: float = 0.0,
    merge_seconds: float = 0.0,
    background: str | None = None,
    changes: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
    told: Callable[[Note], None] | None = None,
) -> Generator[Answer, None, None]:
    """Answer for a source as its frames come: `for answer in muybridge.stream(run, "rtsp://…")`.

    `source`, `raw`: as in `muybridge.video.source.source_of`. `real_time`, `record`, `max_delay_seconds`, `retries`: as in
    `muybridge.video.live.LiveFrames`. `run`, `pretrained`, `changes`, `top`, `every_seconds`, `window_frames`, `crops`: as in
    `Stream`.
    `for_seconds`: of the stream, after which it ends. `start_above` to `background`: rules of events, as in
    `muybridge.analysis.events.Rules`. `told` hears what happens to the source; None: it is logged.

    Raises UserError, also for a source that ends before its first window is full.
    """
    if for_seconds is not None and not for_seconds > 0:
        raise UserError(f"--for {for_seconds:g}: not a time. Give seconds above 0")
    opened = source_of(source, raw=raw)
    network = Stream(
        run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code, top=top,
        every_seconds=every_seconds, window_frames=window_frames, crops=crops,
        rules=Rules(start_above, end_below, min_seconds, merge_seconds, background),
    )  # fmt: skip
    live = LiveFrames(
        opened, short_side=network.network.recipe.clip.short_side, limits=limits, real_time=real_time, record=record,
        max_delay_seconds=max_delay_seconds, retries=retries,
    )  # fmt: skip
    return _answers(network, live, for_seconds, told or _logged)


def _answers(
    network: Stream, live: LiveFrames, for_seconds: float | None, told: Callable[[Note], None]
) -> Generator[Answer, None, None]:
    """Answers of a source, to its end; then a note of how it ended."""
    about: dict[str, Any] = {"reason": "stopped", "seconds": 0.0, "frames": 0, "answers": 0}
    until = float("inf") if for_seconds is None else for_seconds
    started = time.monotonic()
    failed = False
    try:
        with live:
            while about["reason"] == "stopped":
                left = max(0.0, until - time.monotonic() + started)
                item = live.take(left if live.drops and for_seconds is not None else None)
                if isinstance(item, Note):
                    told(item)
                    if item.kind == "opened":
                        looks = network.about(item.about["fps"])
                        told(Note("about", _told(looks), looks))
                    continue
                if item is None or item.time_seconds >= until:
                    about["reason"] = "ended" if live.has_ended else f"{for_seconds:g} seconds are over"
                    answer = network.finish()
                else:
                    about |= {"seconds": item.time_seconds, "frames": about["frames"] + 1}
                    answer = _pushed(network, live, item)
                if answer is not None:
                    about["answers"] += 1
                    yield answer
            if not about["answers"] and about["reason"] == "ended":
                raise UserError(
                    f"{live.source.name}: it ended after {about['seconds']:.2f} s, before the first window of "
                    f"{network.about()['window_seconds']:.2f} s was full. Use muybridge predict for short videos"
                )
    except Exception:
        failed = True
        raise
    finally:
        if not failed:
            text = (
                f"{plural(about['answers'], 'answer')} for {plural(about['frames'], 'frame')}, {live.dropped} dropped"
            )
            about |= {
                "skipped": network.skipped, "dropped": live.dropped, "damaged": live.damaged,
                "recordings": list(map(str, live.recordings)),
                "closed": [event.as_json() for event in network.end_events()],
            }  # fmt: skip
            told(Note("ended", f"{live.source.name}: {about['reason']}; {text}", about))


def _pushed(network: Stream, live: LiveFrames, frame: LiveFrame) -> Answer | None:
    """The answer at a frame. A live source's answers that come too late are left out while newer frames wait."""
    late_seconds = time.monotonic() - frame.arrived
    is_late = live.drops and live.behind() > 0 and late_seconds > network.every_steps * network.step_seconds
    answer = network.push(
        frame.pixels_HW3, frame.time_seconds, number=frame.number, begins=frame.begins, arrived=frame.arrived,
        is_late=is_late,
    )  # fmt: skip
    return None if answer is None else changed(answer, dropped=live.dropped)


def _told(about: Mapping[str, Any]) -> str:
    """Text of a stream's first line."""
    return (
        f"{about['network']}: {about['way']}; looks back {about['window_seconds']:.2g} s "
        f"({about['window_frames']} frames), answers every {about['every_seconds']:.2g} s; an answer is of the middle of "
        f"what it looks at, {about['delay_seconds']:.2g} s before; answered by: {about['answered_by']}"
    )


def _logged(note: Note) -> None:
    log(note.text)
