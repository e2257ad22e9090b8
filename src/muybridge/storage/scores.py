"""Per-view scores: all that an evaluation writes, and all that its metrics are computed from.

A **view** is one clip and one crop of a video; a video's score is the mean over its views. Clip accuracy counts each
view separately, video accuracy counts videos: two different metrics, never mixed. Views of fewer clips and crops that lie
among those of more are picked from one file (`Scores.subset`, `Scores.views_curve`). NumPy only, so that reports need no torch.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from muybridge.errors import UserError
from muybridge.runtime.files import check_regular, write_atomic
from muybridge.runtime.shown import Shown, heading, table_of

FORMAT_VERSION = 1

Average = Literal["logits", "probabilities"]
Sampling = Literal["uniform", "dense"]
CROPS = (1, 3, 5, 10)
"""Numbers of crops that an evaluation may look at."""


@dataclass(frozen=True)
class ViewGrid:
    """Views of every video of an evaluation: clips × crops, clip by clip, the crops of one in their order."""

    sampling: Sampling
    num_clips: int
    num_crops: int

    def clips(self, fewer: int) -> np.ndarray | None:
        """Indices of the clips that an evaluation of `fewer` clips looks at; None if it looks at others.

        Uniform clips are shifts by the integers -M/2 < s ≤ M/2: those of any smaller M are among them. Dense clips start
        at equal parts of the video: those of m are among those of M where m - 1 divides M - 1, and the first is always.
        """
        if not 1 <= fewer <= self.num_clips:
            return None
        if self.sampling == "uniform":
            return np.arange(fewer) + (self.num_clips - 1) // 2 - (fewer - 1) // 2
        if fewer == 1:
            return np.array([0])
        every, rest = divmod(self.num_clips - 1, fewer - 1)
        return None if rest else np.arange(fewer) * every

    def crops(self, fewer: int) -> np.ndarray | None:
        """Indices of the crops that an evaluation of `fewer` crops looks at; None if it looks at others.

        The centre comes first, and the five of ten before their mirror images. The three along the longer side are not among
        five or ten.
        """
        nests = fewer in (1, self.num_crops) or (fewer, self.num_crops) == (5, 10)
        return np.arange(fewer) if nests else None

    def nested(self) -> tuple[list[int], list[int]]:
        """Numbers of clips, and of crops, whose views are among these."""
        clips = [m for m in range(1, self.num_clips + 1) if self.clips(m) is not None]
        return clips, [c for c in CROPS if self.crops(c) is not None]

    def left_out(self) -> tuple[list[int], list[int]]:
        """Smaller numbers of clips, and of crops, whose views are others."""
        clips, crops = self.nested()
        other_clips = [m for m in range(1, self.num_clips) if m not in clips]
        return other_clips, [c for c in CROPS if c < self.num_crops and c not in crops]


@dataclass(frozen=True, repr=False)
class Scores(Shown):
    """N videos, V views, K classes."""

    classes: tuple[str, ...]
    ids_N: np.ndarray
    """Row ids of the manifest."""
    labels_N: np.ndarray
    """Class indices; -1 where the truth is unknown."""
    groups_N: np.ndarray
    """Group of each video; the empty string where it has none."""
    video_V: np.ndarray
    """Index into N of each view's video."""
    clip_start_V: np.ndarray
    """First frame of the view's clip, counted from the start of the row."""
    crop_V: np.ndarray
    """Index of the crop, in the order of `muybridge.data.transforms.test_boxes`: 0 is the centre."""
    logits_VK: np.ndarray
    """float32."""
    average: Average = "logits"
    """Quantity that is averaged to a video's score."""
    skipped_ids: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.str_))
    """Ids of the videos that belong here, too, but could not be read."""
    grid: ViewGrid | None = None
    """Grid of the views; None: unknown (a file of an older muybridge)."""
    split: str = ""
    """Split of the manifest; empty: unknown."""
    num_trained_on: int = 0
    """Number of the videos that the model was trained on: above 0, metrics are training accuracy."""
    answered_by: str = ""
    """Words for what computed them (device, precision, threads, folded norms); empty: unknown, or in training."""
    are_probabilities: bool = False
    """Whether `logits_VK` holds probabilities, which another tool gave; they are averaged as they are, and never saved."""

    def __post_init__(self) -> None:
        num_videos, num_views = len(self.ids_N), len(self.video_V)
        if self.logits_VK.shape != (num_views, len(self.classes)):
            raise ValueError(
                f"logits of shape {self.logits_VK.shape} for {num_views} views, {len(self.classes)} classes"
            )
        if not np.array_equal(np.unique(self.video_V), np.arange(num_videos)):
            raise ValueError("every video needs at least one view")
        if not np.issubdtype(self.labels_N.dtype, np.integer) or not np.issubdtype(self.logits_VK.dtype, np.floating):
            raise ValueError(f"labels of type {self.labels_N.dtype} and logits of type {self.logits_VK.dtype}")
        for name, values, length in (
            ("labels", self.labels_N, num_videos), ("groups", self.groups_N, num_videos),
            ("clip starts", self.clip_start_V, num_views), ("crops", self.crop_V, num_views),
        ):  # fmt: skip
            if values.shape != (length,):
                raise ValueError(f"{name} of shape {values.shape}, not ({length},)")
        if not num_videos or self.labels_N.min() < -1 or self.labels_N.max() >= len(self.classes):
            raise ValueError(f"labels of {num_videos} videos are not all among {len(self.classes)} classes")
        if not np.isfinite(self.logits_VK).all():
            raise ValueError("logits that are not finite")
        for what, names in (("class", list(self.classes)), ("video", self.ids_N.tolist())):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"the {what} '{twice[0]}' is there more than once")
        if not 0 <= self.num_trained_on <= num_videos:
            raise ValueError(f"{self.num_trained_on} of {num_videos} videos were trained on")
        if self.average not in get_args(Average):
            raise ValueError(f"average '{self.average}' is not known")
        if self.are_probabilities and (self.average != "probabilities" or self.logits_VK.min() < 0):
            raise ValueError("probabilities that are averaged as logits, or are negative")
        if self.grid is not None:
            crops = np.tile(np.arange(self.grid.num_crops), self.grid.num_clips)
            of_videos = self.crop_V[np.argsort(self.video_V, kind="stable")]
            if not np.array_equal(of_videos, np.tile(crops, num_videos)):
                raise ValueError(f"the views are not those of {self.grid}")

    def __repr__(self) -> str:
        return f"Scores({len(self.ids_N)} videos, {self.num_views} views each, {len(self.classes)} classes)"

    @property
    def num_views(self) -> int:
        """Number of views of each video; all videos of one evaluation have as many."""
        return len(self.video_V) // max(1, len(self.ids_N))

    def known_grid(self) -> ViewGrid:
        """Grid of the views. Raises UserError if it is unknown."""
        if self.grid is None:
            raise UserError(
                "scores: an older muybridge wrote them, and which views they are of is not known. Evaluate again"
            )
        return self.grid

    def video_scores(self) -> np.ndarray:
        """(N,K) mean of each video's views, logits or probabilities as `average` says. Computed once; read-only."""
        return self._video_scores

    @cached_property
    def _video_scores(self) -> np.ndarray:
        is_softmaxed = self.average == "probabilities" and not self.are_probabilities
        views_VK = softmax(self.logits_VK) if is_softmaxed else self.logits_VK.astype(np.float64)
        counts_N = np.bincount(self.video_V, minlength=len(self.ids_N))
        if (np.diff(self.video_V) < 0).any():
            views_VK = views_VK[np.argsort(self.video_V, kind="stable")]
        scores_NK: np.ndarray = views_VK
        if len(views_VK) > len(counts_N):
            sums_NK = np.add.reduceat(views_VK, np.cumsum(counts_N) - counts_N)
            scores_NK = sums_NK / counts_N[:, None]
        scores_NK.setflags(write=False)
        return scores_NK

    def video_probabilities(self) -> np.ndarray:
        """(N,K), rows sum to one."""
        scores_NK = self.video_scores()
        return scores_NK if self.average == "probabilities" else softmax(scores_NK)

    def correct(self) -> np.ndarray:
        """(N,) bool: whether a video's highest score is its label's."""
        return self.video_scores().argmax(1) == self.labels_N

    def video_accuracy(self, k: int = 1) -> float:
        """Top-k accuracy of the videos."""
        return topk_accuracy(self.video_scores(), self.labels_N, k)

    def clip_accuracy(self, k: int = 1) -> float:
        """Top-k accuracy with each view counted separately."""
        return topk_accuracy(self.logits_VK, self.labels_N[self.video_V], k)

    def mean_class_accuracy(self) -> float:
        """Mean of the accuracies of the classes that have videos."""
        return mean_class(class_accuracies(self.correct(), self.labels_N, len(self.classes)))

    def cross_entropy(self) -> float:
        """Mean over videos of the negative log probability of the label."""
        probabilities_N = self.video_probabilities()[np.arange(len(self.labels_N)), self.labels_N]
        return float(-np.log(np.maximum(probabilities_N, 1e-12)).mean())

    def confusion(self) -> np.ndarray:
        """(K,K) counts: rows are true classes, columns predicted ones. Videos of unknown truth are in no row."""
        return confusion_counts(self.labels_N, self.video_scores().argmax(1), len(self.classes))

    def labelled(self) -> np.ndarray:
        """Indices of the videos whose label is known, sorted by id. Raises UserError for scores without any."""
        order_N = np.argsort(self.ids_N, kind="stable")
        order_N = order_N[self.labels_N[order_N] >= 0]
        if not len(order_N):
            raise UserError("scores: no video has a label. Evaluate on a manifest with labels")
        return order_N

    def videos_of_classes(self) -> np.ndarray:
        """(K,) number of videos of each class; those of unknown truth are in none."""
        return np.bincount(self.labels_N[self.labels_N >= 0], minlength=len(self.classes))

    def pair(self, a: str, b: str) -> tuple[int, int]:
        """Indices of two classes."""
        return self.classes.index(a), self.classes.index(b)

    def within(self, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
        """Two-class accuracy of classes `a` and `b`: their videos' indices, and which are right (`within_pair`)."""
        return within_pair(self.video_scores(), self.labels_N, self.pair(a, b))

    def accuracy_by_clips(self) -> dict[int, float]:
        """Video accuracy for every number of clips whose views are among these, with all crops.

        Videos of unknown truth are left out. Empty for scores of an unknown grid.
        """
        if self.grid is None:
            return {}
        known_N = self.labels_N >= 0
        return {m: float(self.subset(num_clips=m).correct()[known_N].mean()) for m in self.grid.nested()[0]}

    def subset(self, *, num_clips: int | None = None, num_crops: int | None = None) -> "Scores":
        """Scores that an evaluation with fewer views would give.

        Raises UserError if its views are not among these, or if these are unknown.
        """
        grid = self.known_grid()
        clips = grid.clips(grid.num_clips if num_clips is None else num_clips)
        crops = grid.crops(grid.num_crops if num_crops is None else num_crops)
        if clips is None or crops is None:
            of_clips, of_crops = (", ".join(map(str, numbers)) for numbers in grid.nested())
            asked = f"{num_clips} clips" if clips is None else f"{num_crops} crops"
            raise UserError(
                f"views: those of {asked} are not among these ({grid.num_clips} {grid.sampling} clips × "
                f"{grid.num_crops} crops). Choose {of_clips} clips, and {of_crops} crops"
            )
        if (len(clips), len(crops)) == (grid.num_clips, grid.num_crops):
            return self
        order = np.argsort(self.video_V, kind="stable").reshape(len(self.ids_N), grid.num_clips, -1)
        kept = order[:, clips][:, :, crops].reshape(-1)
        return replace(
            self, video_V=self.video_V[kept], clip_start_V=self.clip_start_V[kept], crop_V=self.crop_V[kept],
            logits_VK=self.logits_VK[kept], grid=replace(grid, num_clips=len(clips), num_crops=len(crops)),
        )  # fmt: skip

    def views_curve(self) -> dict[str, Any]:
        """Metrics for every number of clips and crops whose views are among these (`rows`), and the others (`left_out`).

        Raises UserError if the grid is unknown.
        """
        grid = self.known_grid()
        clips, crops = grid.nested()
        rows = [
            {"num_clips": m, "num_crops": c} | metrics(self.subset(num_clips=m, num_crops=c))
            for c in crops
            for m in clips
        ]
        num_clips, num_crops = grid.left_out()
        return {"rows": rows, "left_out": {"num_clips": num_clips, "num_crops": num_crops}}

    def as_rows(self) -> list[dict[str, Any]]:
        """A row a video: its id, group, label, the answer, its probability, and whether it is right (None: no label)."""
        probabilities_NK = self.video_probabilities()
        predicted_N = self.video_scores().argmax(1)
        return [
            {
                "id": str(self.ids_N[video]), "group": str(self.groups_N[video]),
                "label": None if label < 0 else self.classes[label], "predicted": self.classes[predicted],
                "probability": float(probabilities_NK[video, predicted]),
                "correct": None if label < 0 else bool(label == predicted),
            }
            for video, (label, predicted) in enumerate(zip(self.labels_N.tolist(), predicted_N.tolist(), strict=True))
        ]  # fmt: skip

    def plot(self, figure: str = "accuracy") -> Any:
        """An Altair chart: the accuracy of each class, or their `confusion`. Raises UserError without labels."""
        import muybridge

        return muybridge.plot(self, figure)

    def _repr_html_(self) -> str:
        known = metrics(self) if (self.labels_N >= 0).any() else {}
        return heading(repr(self)) + table_of([known] if known else self.as_rows())

    def sha256(self) -> str:
        """Hash of the classes, the videos' ids and the scores of their views, whatever the order of the rows in the file."""
        order_V = np.lexsort((self.crop_V, self.clip_start_V, self.ids_N[self.video_V]))
        ids_V = self.ids_N[self.video_V][order_V].tolist()
        places = [self.clip_start_V[order_V].tolist(), self.crop_V[order_V].tolist()]
        digest = hashlib.sha256(json.dumps([self.average, self.classes, ids_V, *places]).encode())
        digest.update(np.ascontiguousarray(self.logits_VK[order_V], dtype="<f8").data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a .npz file. Raises ValueError for probabilities of another tool."""
        if self.are_probabilities:
            raise ValueError("probabilities cannot be saved as logits")
        buffer = io.BytesIO()
        grid = self.grid
        grid_fields: dict[str, Any] = {}
        if grid is not None:
            grid_fields = {"sampling": grid.sampling, "num_clips": grid.num_clips, "num_crops": grid.num_crops}
        told: dict[str, Any] = {"answered_by": self.answered_by} if self.answered_by else {}
        np.savez(
            buffer, format_version=FORMAT_VERSION, classes=np.array(self.classes), ids=self.ids_N, labels=self.labels_N,
            groups=self.groups_N, video=self.video_V, clip_start=self.clip_start_V, crop=self.crop_V,
            logits=self.logits_VK, average=self.average, skipped=self.skipped_ids, split=self.split,
            num_trained_on=self.num_trained_on, **grid_fields, **told,
        )  # fmt: skip
        write_atomic(path, buffer.getvalue())

    @staticmethod
    def load(path: str | Path) -> "Scores":
        """Load and check a file of scores. Raises UserError that names it."""
        arrays = load_arrays(path, "scores")
        try:
            version = int(arrays["format_version"])
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{path}: it has format_version {version}, but this muybridge reads {FORMAT_VERSION}. Evaluate "
                    "again"
                )
            return Scores(
                classes=tuple(str(name) for name in arrays["classes"]), ids_N=arrays["ids"],
                labels_N=arrays["labels"], groups_N=arrays["groups"], video_V=arrays["video"],
                clip_start_V=arrays["clip_start"], crop_V=arrays["crop"], logits_VK=arrays["logits"],
                average=cast(Average, str(arrays["average"])),
                skipped_ids=arrays["skipped"] if "skipped" in arrays else np.array([], dtype=np.str_),
                grid=_grid(arrays), split=str(arrays["split"]) if "split" in arrays else "",
                num_trained_on=int(arrays["num_trained_on"]) if "num_trained_on" in arrays else 0,
                answered_by=str(arrays["answered_by"]) if "answered_by" in arrays else "",
            )  # fmt: skip
        except UserError:
            raise
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise UserError(f"{path}: it holds no scores: {error}. Evaluate again") from None


def load_arrays(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """All arrays of a .npz file. `what`: the expected content. Raises UserError; no pickle is ever loaded."""
    path = Path(path)
    check_regular(path)
    try:
        check_unpacked(path)
        # of bytes, as NumPy leaves a damaged file open
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as packed:
            arrays = dict(packed)
        for array in arrays.values():
            if array.dtype.kind == "U":
                "".join(array.ravel().tolist()).encode()  # text that could not be written again is none
        return arrays
    except FileNotFoundError:
        raise UserError(f"{path}: it is not there. Restore it, or name another file") from None
    except (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError) as error:
        cause = error if zipfile.is_zipfile(path) else "not a .npz file"  # NumPy would have one load it unsafely
        raise UserError(
            f"{path}: it holds no {what.removeprefix('the ')}: {cause}. Restore it, or name another file"
        ) from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(
            f"{path}: it holds no {what.removeprefix('the ')}: {error}. Restore it, or name another file"
        ) from None


def check_unpacked(path: Path) -> None:
    """Refuse a small zip that would fill the memory: numbers do not pack to a hundredth. Raises ValueError."""
    with zipfile.ZipFile(path) as packed:
        unpacked_bytes = sum(member.file_size for member in packed.infolist())
    if unpacked_bytes > max(2**30, 100 * path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked_bytes / 2**30:.1f} GiB")


def concatenate(parts: list[Scores]) -> Scores:
    """Join scores of disjoint sets of videos (the test folds of a cross-validation). Raises ValueError."""
    first = parts[0]
    kinds = {(part.classes, part.average, part.are_probabilities) for part in parts}
    if len(kinds) > 1:
        raise ValueError("scores of different classes or averages cannot be joined")
    offsets = np.cumsum([0] + [len(part.ids_N) for part in parts])
    ids_N = np.concatenate([part.ids_N for part in parts])
    if len(np.unique(ids_N)) != len(ids_N):
        raise ValueError("a video occurs in more than one part")
    return Scores(
        classes=first.classes, ids_N=ids_N, labels_N=np.concatenate([part.labels_N for part in parts]),
        groups_N=np.concatenate([part.groups_N for part in parts]),
        video_V=np.concatenate([part.video_V + offset for part, offset in zip(parts, offsets, strict=False)]),
        clip_start_V=np.concatenate([part.clip_start_V for part in parts]),
        crop_V=np.concatenate([part.crop_V for part in parts]),
        logits_VK=np.concatenate([part.logits_VK for part in parts]), average=first.average,
        skipped_ids=np.concatenate([part.skipped_ids for part in parts]),
        grid=first.grid if all(part.grid == first.grid for part in parts) else None,
        split=first.split if all(part.split == first.split for part in parts) else "",
        num_trained_on=sum(part.num_trained_on for part in parts), are_probabilities=first.are_probabilities,
    )  # fmt: skip


def metrics(scores: Scores) -> dict[str, float]:
    """Metrics of one evaluation; each name says at which level it counts.

    Numbers of videos that were left out, or that the model was trained on, are among them. `kinetics_error`, in percent: the
    mean of top-1 and top-5 error (Kinetics challenge 2017). Where there are no more than k classes every answer is among the
    first k: then `video_top5` is 1, and metrics of a larger k are left out.
    """
    num_classes, skipped = len(scores.classes), len(scores.skipped_ids)
    top1, top5 = scores.video_accuracy(), scores.video_accuracy(5)
    return (
        {"video_top1": top1, "video_top5": top5}
        | ({"video_top10": scores.video_accuracy(10)} if num_classes > 10 else {})
        | {"clip_top1": scores.clip_accuracy(), "mean_class": scores.mean_class_accuracy()}
        | ({"kinetics_error": 100 * (1 - (top1 + top5) / 2)} if num_classes > 5 else {})
        | {"loss": scores.cross_entropy(), "videos": len(scores.ids_N), "views": scores.num_views}
        | ({"skipped": skipped} if skipped else {})
        | ({"trained_on": scores.num_trained_on} if scores.num_trained_on else {})
    )


def within_pair(scores_NK: np.ndarray, labels_N: np.ndarray, pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the videos of two classes, and which of them are right if only these two may be answered."""
    pair_2 = np.array(pair)
    chosen = np.flatnonzero(np.isin(labels_N, pair_2))
    answers = pair_2[scores_NK[chosen][:, pair_2].argmax(1)]
    return chosen, answers == labels_N[chosen]


def confusion_counts(labels_N: np.ndarray, predicted_N: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,K) counts: rows are true classes, columns predicted ones. Below 0 both are in none."""
    counts_KK = np.zeros((num_classes, num_classes), dtype=np.int64)
    known_N = (labels_N >= 0) & (predicted_N >= 0)
    np.add.at(counts_KK, (labels_N[known_N], predicted_N[known_N]), 1)
    return counts_KK


def class_accuracies(
    correct_N: np.ndarray, labels_N: np.ndarray, num_classes: int, weights_N: np.ndarray | None = None
) -> np.ndarray:
    """(K,) mean of `correct_N` (bool, or shares of seeds) over each class's videos; NaN for a class without any.

    `weights_N`: of a weighted mean.
    """
    known_N = labels_N >= 0
    weights_N = np.ones(len(labels_N)) if weights_N is None else weights_N
    right_K = np.bincount(labels_N[known_N], weights=(weights_N * correct_N)[known_N], minlength=num_classes)
    with np.errstate(invalid="ignore"):
        accuracy_K: np.ndarray = right_K / np.bincount(
            labels_N[known_N], weights=weights_N[known_N], minlength=num_classes
        )
    return accuracy_K


def mean_class(accuracy_K: np.ndarray) -> float:
    """Mean over the classes that have videos; 0 without any."""
    present_K = accuracy_K[np.isfinite(accuracy_K)]
    return float(np.mean(present_K)) if len(present_K) else 0.0


def topk_accuracy(scores_NK: np.ndarray, labels_N: np.ndarray, k: int = 1) -> float:
    """Share of rows whose label is among the k highest scores."""
    return float((label_ranks(scores_NK, labels_N) < k).mean())


def label_ranks(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """(N,) number of classes that come before the label: of a higher score, or as high and earlier in the list.

    For a label below 0, which is in no list, larger than any number of classes.
    """
    known_N = labels_N >= 0
    of_label_N1 = scores_NK[np.arange(len(labels_N)), labels_N][:, None]
    earlier_NK = np.arange(scores_NK.shape[1]) < labels_N[:, None]
    before_N = ((scores_NK > of_label_N1) | ((scores_NK == of_label_N1) & earlier_NK)).sum(1)
    return np.where(known_N, before_N, np.iinfo(np.int64).max)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax along the last axis, in float64."""
    powers: np.ndarray = logits.astype(np.float64)
    powers -= logits.max(-1, keepdims=True)
    np.exp(powers, out=powers)  # in place, as fresh memory costs more than the sum
    powers /= powers.sum(-1, keepdims=True)
    return powers


def _grid(arrays: Any) -> ViewGrid | None:
    """Grid of the views; None if the file has none. Raises ValueError for an unknown sampling."""
    if "sampling" not in arrays:
        return None
    sampling = str(arrays["sampling"])
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling '{sampling}' is not known")
    return ViewGrid(cast(Sampling, sampling), int(arrays["num_clips"]), int(arrays["num_crops"]))
