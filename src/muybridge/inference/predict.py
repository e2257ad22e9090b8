"""The verb `predict`: label any number of videos with a run, keep the answers, and write them into copies of the videos."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

from muybridge.errors import UserError
from muybridge.inference import annotate as annotating
from muybridge.inference import answers
from muybridge.inference.listing import listed
from muybridge.inference.predictor import Predictor
from muybridge.inference.results import PredictionList, Predictions
from muybridge.inference.sources import name_of
from muybridge.recipe import Runtime
from muybridge.runtime.console import log, progress
from muybridge.storage.run import Run
from muybridge.text import plural
from muybridge.video import DecodeError
from muybridge.video.limits import Limits


def predict(
    run: str | Path | Run,
    videos: Any,
    *,
    pretrained: str | Path | None = None,
    top: int = 5,
    window_seconds: float | None = None,
    fps: float | None = None,
    out: str | Path | None = None,
    annotate: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
    ready: Callable[[Predictions | DecodeError], None] | None = None,
) -> tuple[PredictionList, list[DecodeError]]:
    """Label videos with a run, with the best run of a study, or with a network called `run` and `pretrained` weights.

    `videos`: one or several of what `muybridge.inference.listing.listed` reads (files, folders, globs, lists, manifests,
    "-"), or of what a `Predictor` takes (arrays, bytes, …). `out`: a file of answers, .csv or .jsonl, written as they come;
    one that is there is continued: videos whose answers it holds are left out. `annotate`: a copy of the video with the
    labels in its frames; of several videos a folder of such. Nothing is overwritten.

    Returns the new predictions in order, and the errors of files that cannot be read. `ready` is called with the
    predictions of each video, or its error, as soon as they are there. `pretrained`, `changes`, `top`, `window_seconds`,
    `fps`: as in `Predictor`. Raises UserError for a run that is not there, and for files that are in the way.
    """
    names = list(videos) if isinstance(videos, list | tuple) and not hasattr(videos, "_fields") else [videos]
    several = listed(names)
    for line in several.told():
        log(line)
    into = None if annotate is None else _Copies(Path(annotate), is_one=several.total == 1)
    if out is not None:
        answers.check_answers(Path(out))
    predictions = PredictionList()
    failed: list[DecodeError] = []
    with Predictor(
        run, pretrained=pretrained, changes=changes, runtime=runtime, allow_code=allow_code, limits=limits
    ) as predictor:
        log(f"answers: {predictor.answered_by}")
        about = [predictor.answering.sha256, top, window_seconds, fps] if out is not None else []
        call_sha256 = sha256(json.dumps(about).encode()).hexdigest()[:16]
        of_file = nullcontext() if out is None else answers.opened(Path(out), call_sha256=call_sha256, top=top)
        shown = None if ready is not None and out is None else "predicting"
        with of_file as kept, progress(shown, several.total) as bar:
            there = set(kept.done) if kept is not None else set()
            if kept is not None and kept.done:
                unread = f", {kept.num_failed} of which could not be read" if kept.num_failed else ""
                log(f"{out}: it holds the answers of {plural(len(kept.done), 'video')} already{unread}")
            asked: deque[tuple[Any, Path]] = deque()  # videos whose copies are not written yet, and the names for these

            def new() -> Iterator[Any]:
                for video in several.videos:
                    copy = None if into is None else into.reserved(name_of(video) or "video")
                    if kept is not None:
                        key = kept.key(_name(video))
                        if key in there:
                            bar.advance()
                            continue
                        there.add(key)
                    if copy is not None:
                        asked.append((video, copy))
                    yield video

            for name, answer in predictor.each(new(), top=top, window_seconds=window_seconds, fps=fps):
                if into is not None:
                    answer = into.write(predictor, *asked.popleft(), answer, fps=fps)
                if kept is not None:
                    kept.add(name, answer)
                if ready is not None:
                    ready(answer)
                if isinstance(answer, DecodeError):
                    failed.append(answer)
                else:
                    predictions += answer
                bar.advance()
        predictions.answered_by = predictor.answered_by
    return predictions, failed


def _name(video: Any) -> str:
    name = name_of(video)
    if name is None:
        raise UserError(
            "--out: a video has no name, by which its answers are found again. Give paths, or rows of a manifest"
        )
    return name


class _Copies:
    """Copies of videos with their labels: one file, or files in a folder, each called as its video."""

    def __init__(self, path: Path, *, is_one: bool) -> None:
        self._path, self._is_one = path, is_one and path.suffix != ""
        self._taken: set[str] = set()
        if self._is_one:
            annotating.check_target(path)
        elif path.suffix in annotating.ENDINGS or path.is_file():
            raise UserError(f"--annotate: '{path}' is one file, but there are several videos. Name a folder")

    def write(
        self, predictor: Predictor, video: Any, path: Path, answer: Predictions | DecodeError, *, fps: float | None
    ) -> Predictions | DecodeError:
        """Write the copy of a video; returns its answer, or the error that reading it once more, or the encoder, gave.

        In a folder a copy that is there already is left as it is, which is logged.
        """
        if isinstance(answer, DecodeError):
            return answer
        if not self._is_one and path.exists():
            log(f"{path}: it exists already, and is left as it is")
            return answer
        try:
            predictor.annotate(video, answer, path, fps=fps)
            return answer
        except DecodeError as error:
            return error

    def reserved(self, name: str) -> Path:
        """The path of a video's copy; a second video of the same name gets a number.

        Each listed video reserves its own, also one that needs no answer any more: so its copy is called the same again.
        """
        if self._is_one:
            return self._path
        stem = Path(name).stem or "video"
        called, number = f"{stem}.mp4", 1
        while called in self._taken:
            number += 1
            called = f"{stem}-{number}.mp4"
        self._taken.add(called)
        return self._path / called


load = Predictor
"""A run or public weights, ready to label videos: `load("runs/tsm")("some.mp4")`."""
