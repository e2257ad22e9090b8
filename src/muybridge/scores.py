"""Per-view scores: the one thing an evaluation writes, and all that its figures are computed from.

A **view** is one clip and one crop of a video; a video's score is the mean over its views. Clip accuracy counts every
view alone, video accuracy counts videos: two different figures, never mixed. NumPy only, so that reports need no torch.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from muybridge.errors import UserError
from muybridge.files import write_atomic

FORMAT_VERSION = 1

Average = Literal["logits", "probabilities"]


@dataclass(frozen=True, repr=False)
class Scores:
    """N videos, V views, K classes."""

    classes: tuple[str, ...]
    ids_N: np.ndarray
    """Row ids of the manifest."""
    labels_N: np.ndarray
    """Class indices; -1 where the truth is unknown."""
    groups_N: np.ndarray
    """Group of each video; the empty string where it has none."""
    video_V: np.ndarray
    """Which video (index into N) a view belongs to."""
    clip_start_V: np.ndarray
    """First frame of the view's clip, counted from the start of the row."""
    crop_V: np.ndarray
    """Which crop: 0 … num_crops - 1 along the longer side."""
    logits_VK: np.ndarray
    """float32."""
    average: Average = "logits"
    """What a video's score is the mean of."""
    skipped_ids: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.str_))
    """Videos that belong here, too, but could not be read."""

    def __post_init__(self) -> None:
        num_videos, num_views = len(self.ids_N), len(self.video_V)
        if self.logits_VK.shape != (num_views, len(self.classes)):
            raise ValueError(
                f"logits of shape {self.logits_VK.shape} for {num_views} views, {len(self.classes)} classes"
            )
        if not np.array_equal(np.unique(self.video_V), np.arange(num_videos)):
            raise ValueError("every video needs at least one view")

    def __repr__(self) -> str:
        return f"Scores({len(self.ids_N)} videos, {self.num_views} views each, {len(self.classes)} classes)"

    @property
    def num_views(self) -> int:
        """Views a video (all videos of one evaluation have the same number)."""
        return len(self.video_V) // max(1, len(self.ids_N))

    def video_scores(self) -> np.ndarray:
        """(N,K): the mean of each video's views, logits or probabilities as `average` says."""
        views_VK = softmax(self.logits_VK) if self.average == "probabilities" else self.logits_VK.astype(np.float64)
        sums_NK = np.zeros((len(self.ids_N), len(self.classes)))
        np.add.at(sums_NK, self.video_V, views_VK)
        return sums_NK / np.bincount(self.video_V, minlength=len(self.ids_N))[:, None]

    def video_probabilities(self) -> np.ndarray:
        """(N,K), rows sum to one."""
        scores_NK = self.video_scores()
        return scores_NK if self.average == "probabilities" else softmax(scores_NK)

    def correct(self) -> np.ndarray:
        """(N,) bool: is a video's highest score its label's?"""
        return self.video_scores().argmax(1) == self.labels_N

    def video_accuracy(self, k: int = 1) -> float:
        return topk_accuracy(self.video_scores(), self.labels_N, k)

    def clip_accuracy(self, k: int = 1) -> float:
        """Each view counted alone."""
        return topk_accuracy(self.logits_VK, self.labels_N[self.video_V], k)

    def mean_class_accuracy(self) -> float:
        """Mean over the classes that occur of the share of their videos that are right."""
        correct_N = self.correct()
        return float(np.mean([correct_N[self.labels_N == k].mean() for k in np.unique(self.labels_N)]))

    def cross_entropy(self) -> float:
        """Mean over videos of the negative log probability of the label."""
        probabilities_N = self.video_probabilities()[np.arange(len(self.labels_N)), self.labels_N]
        return float(-np.log(np.maximum(probabilities_N, 1e-12)).mean())

    def confusion(self) -> np.ndarray:
        """(K,K) counts: rows are true classes, columns predicted ones. Videos of unknown truth are in no row."""
        counts_KK = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        known_N = self.labels_N >= 0
        np.add.at(counts_KK, (self.labels_N[known_N], self.video_scores().argmax(1)[known_N]), 1)
        return counts_KK

    def within(self, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
        """Two-class view of the videos of classes `a` and `b`: their indices, and which are right when only these
        two may be answered."""
        pair = np.array([self.classes.index(a), self.classes.index(b)])
        chosen = np.flatnonzero(np.isin(self.labels_N, pair))
        answers = pair[self.video_scores()[chosen][:, pair].argmax(1)]
        return chosen, answers == self.labels_N[chosen]

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        np.savez(
            buffer, format_version=FORMAT_VERSION, classes=np.array(self.classes), ids=self.ids_N, labels=self.labels_N,
            groups=self.groups_N, video=self.video_V, clip_start=self.clip_start_V, crop=self.crop_V,
            logits=self.logits_VK, average=self.average, skipped=self.skipped_ids,
        )  # fmt: skip
        write_atomic(path, buffer.getvalue())

    @staticmethod
    def load(path: Path) -> "Scores":
        """Raises UserError that names the file."""
        try:
            # of bytes, as NumPy leaves a damaged file open
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                version = int(arrays["format_version"])
                if version != FORMAT_VERSION:
                    raise UserError(f"{path} has format_version {version}; this muybridge reads {FORMAT_VERSION}")
                return Scores(
                    classes=tuple(str(name) for name in arrays["classes"]), ids_N=arrays["ids"],
                    labels_N=arrays["labels"], groups_N=arrays["groups"], video_V=arrays["video"],
                    clip_start_V=arrays["clip_start"], crop_V=arrays["crop"], logits_VK=arrays["logits"],
                    average="probabilities" if str(arrays["average"]) == "probabilities" else "logits",
                    skipped_ids=arrays["skipped"] if "skipped" in arrays else np.array([], dtype=np.str_),
                )  # fmt: skip
        except FileNotFoundError:
            raise UserError(f"{path} is not there") from None
        except UserError:
            raise
        except (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{path} holds no scores: {error}") from None
        except (zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} holds no scores: {error}") from None


def concatenate(parts: list[Scores]) -> Scores:
    """The scores of disjoint sets of videos (the test folds of a cross-validation) as one."""
    first = parts[0]
    if any(part.classes != first.classes or part.average != first.average for part in parts):
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
    )  # fmt: skip


def topk_accuracy(scores_NK: np.ndarray, labels_N: np.ndarray, k: int = 1) -> float:
    """Share of rows whose label is among the k highest scores."""
    top_Nk = np.argsort(-scores_NK, axis=1, kind="stable")[:, :k]
    return float((top_Nk == labels_N[:, None]).any(1).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
