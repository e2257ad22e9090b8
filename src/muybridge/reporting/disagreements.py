"""Videos on which two models disagree, and their frames as strips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.data.stores.flow import source_of
from muybridge.data.stores.vectors import about as stored
from muybridge.errors import UserError
from muybridge.runtime.files import check_regular
from muybridge.video import FileReader, fields, flow_colours
from muybridge.video.strips import jpeg_bytes, stacked, strip

FRAMES = 8
HEIGHT = 72
"""Pixels of a strip."""
WIDEST = 65_500
"""Most pixels of a side of a JPEG."""
PICTURES = "frames"
"""Kind of a row that shows frames; others are named by their inputs."""


@dataclass(frozen=True)
class Changed:
    """Videos that one model gets right and the other wrong, in most of its seeds; the clearest first."""

    right: ModelResult
    wrong: ModelResult
    videos: np.ndarray
    """Indices among the sorted test videos of the one that is right."""
    of_wrong: np.ndarray
    """Indices among the sorted test videos of the other."""


def changed_sides(comparison: Comparison, a: int, b: int) -> tuple[Changed, Changed]:
    """Videos that A gets right and B wrong, and the other way round; the largest gains of the truth's probability first."""
    first, second = comparison.models[a], comparison.models[b]
    videos_a, videos_b = comparison.common[a], comparison.common[b]
    share_a, share_b = first.correct_SN[:, videos_a].mean(0), second.correct_SN[:, videos_b].mean(0)
    gain_N = _truth(first)[videos_a] - _truth(second)[videos_b]
    of_a = np.flatnonzero((share_a > 0.5) & (share_b <= 0.5))
    of_b = np.flatnonzero((share_b > 0.5) & (share_a <= 0.5))
    of_a, of_b = of_a[np.argsort(-gain_N[of_a], kind="stable")], of_b[np.argsort(gain_N[of_b], kind="stable")]
    return (
        Changed(first, second, videos_a[of_a], videos_b[of_a]),
        Changed(second, first, videos_b[of_b], videos_a[of_b]),
    )


def answer_of(model: ModelResult, video: int, *, right: bool) -> str:
    """Answer of most of a model's seeds that are right, or wrong, and their mean confidence where it is known."""
    label = model.labels_N[video]
    answers_S = np.array([answers.predicted_N[video] for answers in model.answers])
    chosen_S = answers_S[(answers_S == label) == right]
    answers, counts = np.unique(chosen_S, return_counts=True)
    top = int(answers[counts.argmax()])
    name = model.classes[top] if top >= 0 else "none of the classes"
    sure = np.mean([answers.confidence_N[video] for answers in model.answers if answers.predicted_N[video] == top])
    told = [f"{sure:.2f}"] if model.has_scores else []
    told += [f"{int((answers_S == top).sum())} of {len(answers_S)} seeds"] if len(answers_S) > 1 else []
    return f"{name} ({', '.join(told)})" if told else name


@dataclass(frozen=True)
class Strip:
    """Picture of a video: a row of frames, and a row of each kind of flow."""

    jpeg: bytes
    rows: tuple[str, ...]
    """Kinds of the rows, from above: "frames", "flow", "warped flow"."""
    frames: int
    """Frames in every row; 0 where rows differ."""

    @property
    def has_flow(self) -> bool:
        """Whether any row is of flow."""
        return self.rows != (PICTURES,)

    def __str__(self) -> str:
        return f"From above: {', '.join(self.rows)}." if self.has_flow else ""


class Frames:
    """Frames of videos, as strips; each manifest is read once. `frames`: of a video; `height`: of a strip, in pixels."""

    def __init__(self, manifests: Sequence[str], *, frames: int = FRAMES, height: int = HEIGHT) -> None:
        self._frames, self._height = frames, height
        self._sources: list[tuple[Manifest, dict[str, int], str]] = []
        self.problem = ""
        """Reason why frames are missing; empty if they are not."""
        for path in dict.fromkeys(manifests):
            try:
                manifest = Manifest.load(path)
                about, videos = stored(manifest), source_of(manifest)
                if about is not None:  # vectors show nothing: the videos that they were computed of do
                    manifest = Manifest.load(about["manifest"])
                self._add(manifest)
                if videos:
                    self._add(Manifest.load(videos))
            except UserError as error:
                self.problem = str(error)

    def _add(self, manifest: Manifest) -> None:
        held = inputs.held_by(manifest)
        kind = PICTURES if held is None else held.name.replace("_", " ")
        self._sources.append((manifest, {name: i for i, name in enumerate(manifest.text("id").tolist())}, kind))

    def strip(self, video_id: str) -> Strip | None:
        """A video's frames, and its flow below; None if it cannot be read: `problem` then says why."""
        shown: dict[str, np.ndarray] = {}
        counts: set[tuple[int, int]] = set()  # frames and width of each row
        for manifest, rows, kind in self._sources:
            if video_id not in rows:
                continue
            row = manifest.row(rows[video_id])
            indices = np.round(np.linspace(0, row.num_frames - 1, min(self._frames, row.num_frames))).astype(np.int64)
            try:
                check_regular(Path(row.path))
                frames = FileReader(short_side=self._height).read(row, indices)
            except (UserError, OSError) as error:
                self.problem = str(error)
                continue
            if frames.shape[-1] == 2:
                flow_THW2 = frames.astype(np.float32) - fields.ZERO
                frames = flow_colours.coloured(flow_THW2, flow_colours.longest(flow_THW2))
            shown.setdefault(kind, strip(frames, height=self._height, most=self._frames))
            counts.add((len(frames), shown[kind].shape[1]))
        if shown:
            kinds = sorted(shown, key=lambda kind: (kind != PICTURES, kind))
            picture = stacked([shown[kind] for kind in kinds])
            if picture.shape[1] > WIDEST or picture.shape[0] > WIDEST:
                self.problem = f"its frames side by side are {picture.shape[1]:,} pixels wide, more than a JPEG may be"
                return None
            jpeg = jpeg_bytes(picture, quality=75)
            return Strip(jpeg, tuple(kinds), min(counts)[0] if len(counts) == 1 else 0)
        self.problem = (
            self.problem or f"{video_id} is in none of {', '.join(str(Path(m.root)) for m, *_ in self._sources)}"
        )
        return None


def _truth(model: ModelResult) -> np.ndarray:
    """(N,) mean probability that the seeds give to the label."""
    mean_N: np.ndarray = np.mean([answers.truth_N for answers in model.answers], axis=0)
    return mean_N
