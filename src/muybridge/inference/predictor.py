"""A loaded run, or public weights, that answers for videos: files, arrays, bytes, and any number of them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, Self, overload

import numpy as np

from muybridge import build
from muybridge.data import inputs
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.sampling import test_indices
from muybridge.data.views import Views
from muybridge.errors import UserError
from muybridge.inference.ahead import Ahead
from muybridge.inference.annotate import check_target, write_annotated
from muybridge.inference.answering import Answering, answering
from muybridge.inference.over_time import (
    OverTime,
    centres,
    check_windows,
    rising,
    usual_window_seconds,
    window_starts,
)
from muybridge.inference.results import Prediction, Predictions, best_first
from muybridge.inference.sources import File, InMemory, check_rate, is_several, source_of
from muybridge.recipe import Runtime
from muybridge.runtime import processors
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores
from muybridge.video import DecodeError, FileReader, Reader, Row
from muybridge.video.limits import Limits
from muybridge.video.overlapping import Overlapping
from muybridge.video.safe import Held, MachineFault, SafeReader

LONG = 2.0
"""A video this many times longer than the longest that was trained on is cut into windows."""
MOST_TOGETHER = 16
"""Most videos that go through the network together."""
PATIENCE_SECONDS = 0.1
"""Videos of an iterator are answered, also if they are few, where no other comes for this long."""
READY_BYTES = 2**25
"""Most memory for the pictures of a video that are read ahead; further windows of a long video are read as they come."""
BLOCK_BYTES = 2**25
"""About the memory for frames that are read at a time to be written into."""
FPS = 25.0
"""Frame rate of what holds none, as `muybridge prepare` has it."""


class _Asked(NamedTuple):
    """Arguments of a call."""

    top: int
    window_seconds: float | None
    fps: float | None


@dataclass(frozen=True)
class _Prepared:
    """A video that was opened: its rows, a window each, and their views as far as they are ready."""

    source: File | InMemory
    rows: Sequence[Row]
    size: tuple[int, int]
    """(width, height)"""
    ready: Mapping[int, Views]


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
        """Load a run, or the best run of a study; or, with `pretrained`, the network called `run` with these weights.

        `changes`: with `pretrained`, dotted fields of what it is shown (`clip.num_frames`) and of the model's options; of a
        run its `precision` alone. Raises UserError for a run that is not there or not whole, for a model of its own without
        `allow_code`, and for weights that give no answers.
        """
        self.answering: Answering = answering(
            run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code
        )
        self.classes: tuple[str, ...] = tuple(self.answering.dataset["classes"])
        self._input = inputs.of(self.answering.recipe.clip)
        self._short_side = self.answering.recipe.clip.short_side
        self._cores = processors.left().jobs
        self._files = SafeReader(limits, most_processes=max(4, self._cores))

    @property
    def answered_by(self) -> str:
        """Words for what computes: "cpu, fp32, 2 threads, 20 norms folded"."""
        return self.answering.answered_by

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that open files; the next call starts new ones."""
        self._files.close()

    @overload
    def __call__(
        self,
        video: list[Any] | tuple[Any, ...] | Iterator[Any],
        *,
        top: int = 5,
        window_seconds: float | None = None,
        fps: float | None = None,
    ) -> Iterator[Predictions | DecodeError]: ...

    @overload
    def __call__(
        self, video: Any, *, top: int = 5, window_seconds: float | None = None, fps: float | None = None
    ) -> Predictions: ...

    def __call__(
        self, video: Any, *, top: int = 5, window_seconds: float | None = None, fps: float | None = None
    ) -> Predictions | Iterator[Predictions | DecodeError]:
        """Label a video: one prediction, or one a window of a long video (`window_seconds=0`: never windows).

        `video`: the path of a file or of a folder of images, an array or tensor (T,H,W,3) of uint8 in red, green and blue,
        the bytes of a file, a binary file object, or a row of a manifest; of a network of vectors a .npy file or an array
        (T,D). A list, a tuple or an iterator of such gives an iterator: the answers in order, as they come, each the
        DecodeError of a video that cannot be read. Videos are then read ahead, and go through the network together. A thread
        pulls them; arrays of an iterator are copied, so it may fill the same one again.

        `fps`: frames a second of what holds no rate. None: of arrays the rate at which the run samples (`clip.fps`), else 25.

        Raises DecodeError (a UserError) for a video that cannot be read.
        """
        asked = self._asked(top, window_seconds, fps)
        if is_several(video):
            return (answer for _, answer in self._each(video, asked))
        return self._answer(self._prepared(self._source(video), asked), asked)

    def each(
        self,
        videos: Iterable[Any],
        *,
        top: int = 5,
        window_seconds: float | None = None,
        fps: float | None = None,
    ) -> Iterator[tuple[str, Predictions | DecodeError]]:
        """The name of each video with its predictions, or with the error that it gave; in order, as they come."""
        return self._each(videos, self._asked(top, window_seconds, fps))

    def over_time(
        self, video: Any, *, window_seconds: float | None = None, overlap: float = 0.5, fps: float | None = None
    ) -> OverTime:
        """Probabilities over time: windows that share `overlap` of their length with the next, the last at the video's end.

        `video`, `fps`: as in a call. `window_seconds`: their length; None: `usual_window_seconds`. All frames that windows
        show are decoded in one pass. Raises DecodeError (a UserError) for a video that cannot be read, and UserError.
        """
        check_windows(window_seconds, overlap)
        check_rate(fps)
        source = self._source(video)
        with _naming(source), self._files.held(self._short_side) as held:
            whole, size, times_F = self._whole(source, held, fps)
            spec, longest = build.clip_spec(self.answering.recipe), self.answering.dataset["longest_trained_seconds"]
            window_seconds = window_seconds or usual_window_seconds(spec, whole.fps, longest)
            length = min(whole.num_frames, max(1, round(window_seconds * whole.fps)))
            starts_N = window_starts(whole.num_frames, length, overlap)
            rows = [
                whole._replace(start_frame=whole.start_frame + start, num_frames=length) for start in starts_N.tolist()
            ]
            reader: Reader = source if isinstance(source, InMemory) else self._frames(held)
            if isinstance(reader, Held):
                num_clips = self.answering.recipe.evaluation.num_clips
                shown = test_indices(length, whole.fps, spec, num_clips=num_clips)
                reader = Overlapping(reader, whole.start_frame + starts_N, shown)
            manifest = self._manifest([(row, size) for row in rows])
            views = build.video_views(self.answering.recipe, manifest, self._input.reader(reader))
            calibrated = self.answering.calibrated
            probabilities_NK = calibrated.probabilities(self.answering.scores(views).video_probabilities())
        times_F = rising(times_F, whole.fps) + whole.start_frame / whole.fps
        end_seconds = float(times_F[-1]) + 1 / whole.fps
        return OverTime(
            path=source.name, classes=self.classes, times_N=centres(times_F, end_seconds, starts_N, length),
            probabilities_NK=probabilities_NK, frame_times_F=times_F, end_seconds=end_seconds,
            window_seconds=length / whole.fps,
            step_seconds=float(starts_N[1]) / whole.fps if len(starts_N) > 1 else end_seconds,
            unknown_below=calibrated.threshold,
        )  # fmt: skip

    def annotate(self, video: Any, answer: Predictions, out: str | Path, *, fps: float | None = None) -> None:
        """Write a copy of a video with the labels of its answer in the frames (.mp4, .mkv or .mov), without sound.

        `fps`: as it was given for the answer. Raises DecodeError where the video cannot be read, and UserError for a path
        that holds a file already, or for a network of vectors, which saw no frames.
        """
        check_target(Path(out))
        check_rate(fps)
        if not answer:
            raise UserError("--annotate: the answer is empty. Give what the predictor answered for this video")
        if not self._input.is_picture:
            raise UserError("--annotate: this network takes vectors, which cannot be shown. Leave it out")
        source = source_of(video, short_side=None, vector_width=None, limits=self._files.limits)
        with _naming(source), self._files.held(None) as held:
            reader: Reader = held
            if isinstance(source, InMemory):
                reader, info = source, source.info(fps or self.answering.recipe.clip.fps or FPS)
                row = Row(source.name, source.name, 0, info.num_frames, info.fps)
            else:
                info = held.look(source.path, image_fps=fps or FPS).video
                row = source.row or Row(source.name, source.path, 0, info.num_frames, info.fps)
            times_seconds = info.times_seconds[row.start_frame : row.start_frame + row.num_frames]
            starts_seconds = row.start_frame / row.fps
            shown = [
                replace(
                    one, start_seconds=one.start_seconds - starts_seconds, end_seconds=one.end_seconds - starts_seconds
                )
                for one in answer
            ]
            frames = _in_blocks(reader, row, max(1, BLOCK_BYTES // (3 * info.width * info.height)))
            write_annotated(Path(out), frames, times_seconds - times_seconds[0], shown, fps=row.fps)

    def score(self, rows: Manifest) -> Scores:
        """Per-view scores of rows, as an evaluation gives them."""
        recipe = self.answering.recipe
        with self._files.held(self._short_side) as held:
            reader = self._input.reader(self._frames(held))
            return self.answering.scores(build.video_views(recipe, rows, reader))

    def _asked(self, top: int, window_seconds: float | None, fps: float | None) -> _Asked:
        if window_seconds is not None and not (isinstance(window_seconds, Real) and 0 <= window_seconds < math.inf):
            raise UserError(
                f"--window-seconds {window_seconds}: not a length. Give seconds above 0, or 0 for no windows"
            )
        if not (isinstance(top, Integral) and top >= 1):
            raise UserError(f"--top {top}: not a number of labels. Give 1 or more")
        check_rate(fps)
        return _Asked(top, window_seconds, fps)

    def _each(self, videos: Iterable[Any], asked: _Asked) -> Iterator[tuple[str, Predictions | DecodeError]]:
        """Answers in order; the videos of two batches at most are read ahead."""
        together, is_at_hand = self._num_together(), isinstance(videos, list | tuple)
        pool = ThreadPoolExecutor(min(self._cores, 2 * together), thread_name_prefix="muybridge-read")

        def begin(video: Any) -> Future[_Prepared | DecodeError]:
            try:
                source = self._source(video)
            except DecodeError as error:
                return pool.submit(lambda fault: fault, error)
            if isinstance(source, InMemory) and not is_at_hand:
                source = replace(source, values=source.values.copy())
            return pool.submit(self._prepared_or_fault, source, asked)

        coming = Ahead(iter(videos), begin, most=2 * together)
        try:
            while batch := coming.batch(together, None if is_at_hand else PATIENCE_SECONDS):
                yield from self._answered([one.result() for one in batch], asked)
                coming.done(len(batch))
        finally:
            coming.leave()
            pool.shutdown(wait=False, cancel_futures=True)  # what is being read may hang: nobody waits for it

    def _num_together(self) -> int:
        """Number of videos whose clips are about one batch of the network's."""
        recipe = self.answering.recipe
        num_views = recipe.evaluation.num_clips * recipe.evaluation.num_crops
        return max(1, min(MOST_TOGETHER, build.scoring_batch_size(recipe) // num_views))

    def _answered(
        self, batch: Sequence[_Prepared | DecodeError], asked: _Asked
    ) -> Iterator[tuple[str, Predictions | DecodeError]]:
        opened = [one for one in batch if isinstance(one, _Prepared)]
        answers: list[Predictions | DecodeError]
        try:
            answers = [*self._answers(opened, asked)]
        except (DecodeError, MachineFault):  # of one of them, in a part that was not read ahead
            answers = [self._answer_or_fault(one, asked) for one in opened]
        coming = iter(answers)
        for one in batch:
            yield (one.path, one) if isinstance(one, DecodeError) else (one.source.name, next(coming))

    def _prepared_or_fault(self, source: File | InMemory, asked: _Asked) -> _Prepared | DecodeError:
        try:
            return self._prepared(source, asked)
        except DecodeError as error:
            return error

    def _answer_or_fault(self, prepared: _Prepared, asked: _Asked) -> Predictions | DecodeError:
        try:
            return self._answer(prepared, asked)
        except DecodeError as error:
            return error

    def _answer(self, prepared: _Prepared, asked: _Asked) -> Predictions:
        with _naming(prepared.source):
            [answer] = self._answers([prepared], asked)
        return answer

    def _prepared(self, source: File | InMemory, asked: _Asked) -> _Prepared:
        """Open a video, and make its views as far as they fit. Raises DecodeError."""
        with _naming(source), self._files.held(self._short_side) as held:
            whole, size, _ = self._whole(source, held, asked.fps)
            rows = windows(whole, self.answering.dataset, asked.window_seconds)
            reader = source if isinstance(source, InMemory) else self._frames(held)
            return _Prepared(source, rows, size, self._made(rows, size, reader))

    def _source(self, video: Any) -> File | InMemory:
        return source_of(
            video, short_side=self._short_side, limits=self._files.limits,
            vector_width=None if self._input.is_picture else self._input.channels,
        )  # fmt: skip

    def _whole(self, source: File | InMemory, held: Held, fps: float | None) -> tuple[Row, tuple[int, int], np.ndarray]:
        """The whole of a source as a row, its width and height, and the times of its frames. Raises DecodeError."""
        if isinstance(source, File) and source.row is not None:
            return source.row, (1, 1), np.arange(source.row.num_frames) / source.row.fps
        if isinstance(source, InMemory):
            rate = fps or self.answering.recipe.clip.fps or FPS
            info, path = source.info(rate), source.name
            if self._input.is_picture:
                info = self._input.look(Path(source.name), lambda _: info)
        else:
            info = self._input.look(Path(source.path), lambda path: held.look(path, image_fps=fps or FPS).video)
            path, rate = source.path, info.fps
        return Row(source.name, path, 0, info.num_frames, rate), (info.width, info.height), info.times_seconds

    def _made(self, rows: Sequence[Row], size: tuple[int, int], reader: Reader) -> dict[int, Views]:
        """The views of the first rows, of all if they fit into READY_BYTES."""
        manifest = self._manifest([(row, size) for row in rows])
        views = build.video_views(self.answering.recipe, manifest, self._input.reader(reader))
        made: dict[int, Views] = {}
        num_bytes = 0
        for index in range(len(rows)):
            item = views[views.key(index)]
            if not isinstance(item, Views):
                raise item.error
            made[index] = item
            num_bytes += item.pictures_PHWC.nbytes
            if num_bytes > READY_BYTES:
                break
        return made

    def _answers(self, opened: Sequence[_Prepared], asked: _Asked) -> Iterator[Predictions]:
        """The answers for videos that go through the network together. Raises DecodeError, where one cannot be read on."""
        if not opened:
            return
        manifest = self._manifest([(row, one.size) for one in opened for row in one.rows])
        ready: dict[int, Views] = {}
        in_memory: dict[str, InMemory] = {}
        first = 0
        for one in opened:
            ready |= {first + index: replace(views, row=first + index) for index, views in one.ready.items()}
            if isinstance(one.source, InMemory):
                in_memory |= {_id(first + index, row): one.source for index, row in enumerate(one.rows)}
            first += len(one.rows)
        with self._files.held(self._short_side) as held:
            reader = self._input.reader(_Sources(in_memory, self._frames(held)))
            views = build.video_views(self.answering.recipe, manifest, reader, ready=ready)
            probabilities_NK = self.answering.scores(views).video_probabilities()
        probabilities_NK = self.answering.calibrated.probabilities(probabilities_NK)
        first = 0
        for one in opened:
            yield self._predictions(one, probabilities_NK[first : first + len(one.rows)], asked.top)
            first += len(one.rows)

    def _predictions(self, video: _Prepared, probabilities_WK: np.ndarray, top: int) -> Predictions:
        predictions = []
        for row, probabilities_K in zip(video.rows, probabilities_WK, strict=True):
            order = best_first(probabilities_K)[:top]
            predictions.append(
                Prediction(
                    video.source.name,
                    row.start_frame / row.fps,
                    (row.start_frame + row.num_frames) / row.fps,
                    tuple(self.classes[k] for k in order),
                    tuple(float(probabilities_K[k]) for k in order),
                    self.answering.calibrated.is_unknown(probabilities_K.max()),
                )
            )
        return Predictions(predictions, classes=self.classes, probabilities_WK=probabilities_WK)

    def _frames(self, held: Held) -> Reader:
        """The reader of files: what is stored is read in place."""
        return FileReader() if self._input.is_in_place else held

    def _manifest(self, rows: Sequence[tuple[Row, tuple[int, int]]]) -> Manifest:
        """A manifest of rows with their sizes, for the evaluation's code."""
        dataset, classes = self.answering.dataset, self.answering.dataset["classes"]
        plain, sizes, count = [row for row, _ in rows], [size for _, size in rows], len(rows)
        return from_columns(
            {
                "id": [_id(number, row) for number, row in enumerate(plain)], "path": [row.path for row in plain],
                "start_frame": [row.start_frame for row in plain], "num_frames": [row.num_frames for row in plain],
                "label": [classes[0]] * count, "group": [""] * count, "fps": [row.fps for row in plain],
                "width": [size[0] for size in sizes], "height": [size[1] for size in sizes],
                "sha256": [""] * count, "split": ["unused"] * count,
            },
            classes=classes, root=Path("/"), mirror=dataset["mirror"], where="videos",
        )  # fmt: skip


def _id(number: int, row: Row) -> str:
    return f"{number}: {row.id}#{row.start_frame}"


@dataclass(frozen=True)
class _Sources:
    """Reads rows of arrays where they are, by their ids, and other rows by `files`."""

    in_memory: Mapping[str, InMemory]
    files: Reader

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices`. Raises DecodeError."""
        return self.in_memory.get(row.id, self.files).read(row, indices)


@contextmanager
def _naming(source: File | InMemory) -> Iterator[None]:
    """Let errors name the source as it was given; what the machine did is an error of the source, too."""
    try:
        yield
    except MachineFault as error:
        where = source.path if isinstance(source, File) else source.name
        raise DecodeError(source.name, str(error).removeprefix(f"{where}: ")) from None
    except DecodeError as error:
        if isinstance(source, File) and error.path.startswith(source.path):
            raise DecodeError(source.name + error.path.removeprefix(source.path), error.reason) from None
        raise


def _in_blocks(reader: Reader, row: Row, num_frames: int) -> Iterator[np.ndarray]:
    """All frames of a row in order, `num_frames` read at a time."""
    for start in range(0, row.num_frames, num_frames):
        yield from reader.read(row, np.arange(start, min(start + num_frames, row.num_frames)))


def windows(whole: Row, dataset: Mapping[str, Any], window_seconds: float | None) -> list[Row]:
    """The whole, or equal windows of it. `dataset`: what the network knows of the videos that it was trained on."""
    longest_trained_seconds = dataset["longest_trained_seconds"]
    length = whole.num_frames
    if window_seconds is None:
        is_long = whole.num_frames / whole.fps > LONG * longest_trained_seconds
        window_seconds = longest_trained_seconds if is_long else 0.0
    if window_seconds:
        length = max(1, round(window_seconds * whole.fps))
    starts = list(range(0, whole.num_frames, length))
    if len(starts) > 1 and whole.num_frames - starts[-1] < length / 2:
        starts = starts[:-1]  # a short rest joins the last window
    ends = [*starts[1:], whole.num_frames]
    return [
        whole._replace(start_frame=whole.start_frame + start, num_frames=end - start)
        for start, end in zip(starts, ends, strict=True)
    ]
