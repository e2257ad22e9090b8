"""Overview of a data set: a row a split, with its videos, classes, lengths, frame rates and sizes."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.manifest import SPLITS, Manifest
from muybridge.text import plural, thousands

UNBALANCED = 8
"""Ratio of the largest class to the smallest from which accuracy is mostly that of the largest."""
UNEVEN = 3
"""Ratio of the largest class of a test to the smallest from which models are compared by the mean over classes. The usual
tests lie below: UCF101's first split has 28 to 49 videos a class, those of HMDB51 and of Kinetics as many of each."""
EVERY = "all"
"""Name of the row of all videos."""


@dataclass(frozen=True)
class SplitOverview:
    """Videos of one split, or of the whole manifest."""

    split: str
    videos: int
    classes: int
    """Classes that have videos here."""
    groups: int
    """Groups (people, recordings) that are named."""
    hours: float
    median_seconds: float
    shortest_seconds: float
    longest_seconds: float
    lowest_fps: float
    highest_fps: float
    smallest: tuple[int, int]
    """Width and height in pixels of the smallest frames, by area."""
    largest: tuple[int, int]
    sizes: int
    """Number of different sizes."""
    fewest_a_class: int
    """Videos of the rarest of the manifest's classes, also where it has none here."""
    most_a_class: int

    def cells(self) -> list[str]:
        """Cells of a row, under `HEADER`."""
        size = f"{self.smallest[0]} × {self.smallest[1]}"
        if self.sizes > 1:
            size += f" – {self.largest[0]} × {self.largest[1]} ({self.sizes})"
        return [
            self.split, thousands(self.videos), str(self.classes), f"{self.hours:.2f}", f"{self.median_seconds:.1f}",
            _span(f"{self.shortest_seconds:.1f}", f"{self.longest_seconds:.1f}"),
            _span(f"{self.lowest_fps:.4g}", f"{self.highest_fps:.4g}"), size,
            thousands(self.groups) if self.groups else "–",
            _span(thousands(self.fewest_a_class), thousands(self.most_a_class)),
        ]  # fmt: skip


HEADER = [
    "split", "videos", "classes", "hours", "median seconds", "seconds", "fps", "width × height (sizes)", "groups",
    "videos a class",
]  # fmt: skip


@dataclass(frozen=True)
class Overview:
    """Overview of a manifest."""

    manifest: Path
    fold: int | None
    classes: tuple[str, ...]
    splits: tuple[SplitOverview, ...]
    """Splits that have videos, and a last row of all videos."""
    class_sizes: dict[str, list[int]]
    """Videos of each class, by split."""

    def as_json(self) -> dict[str, Any]:
        """Content as `muybridge describe --json` prints it."""
        return {
            "manifest": str(self.manifest), "fold": self.fold, "classes": list(self.classes),
            "splits": [asdict(split) for split in self.splits], "class_sizes": self.class_sizes,
        }  # fmt: skip

    def __str__(self) -> str:
        return f"{plural(self.splits[-1].videos, 'video')} of {plural(len(self.classes), 'class')}: {self.manifest}"


def describe(manifest: str | Path, *, fold: int | None = None) -> Overview:
    """Describe a data set by its manifest alone: a row a split. No video is opened.

    `fold`: of a manifest with folds. Raises UserError.
    """
    return overview(Manifest.load(manifest), Path(manifest), fold)


def overview(manifest: Manifest, path: Path, fold: int | None) -> Overview:
    """Overview of a manifest that is loaded; `path` is named. Raises UserError for a fold that it lacks."""
    rows_of = {split: manifest.split(split, fold) for split in SPLITS}
    rows_of = {split: rows for split, rows in rows_of.items() if len(rows)} | {EVERY: np.arange(len(manifest))}
    return Overview(
        path, fold, manifest.classes,
        tuple(_split(manifest, split, rows) for split, rows in rows_of.items()), class_sizes(manifest, fold),
    )  # fmt: skip


def class_sizes(manifest: Manifest, fold: int | None) -> dict[str, list[int]]:
    """Videos of each class, in the order of the classes, by split. Raises UserError for a fold that is not there."""
    labels_N, count = manifest.labels(), len(manifest.classes)
    return {
        split: np.bincount(labels_N[manifest.split(split, fold)], minlength=count).tolist()
        for split in ("train", "val", "test")
    }


def is_unbalanced(counts_K: np.ndarray) -> bool:
    """Whether classes (of counts_K videos; those without any do not count) are very uneven: UNBALANCED and more."""
    return _ratio(counts_K) >= UNBALANCED


def is_uneven(counts_K: np.ndarray) -> bool:
    """Whether a test is so uneven that the mean over classes says more than that over videos: UNEVEN and more."""
    return _ratio(counts_K) >= UNEVEN


def _ratio(counts_K: np.ndarray) -> float:
    present_K = counts_K[counts_K > 0]
    return float(present_K.max() / present_K.min()) if len(present_K) else 1.0


def _split(manifest: Manifest, name: str, rows: np.ndarray) -> SplitOverview:
    columns = manifest.columns
    seconds_N, fps_N = columns["num_frames"][rows] / columns["fps"][rows], columns["fps"][rows]
    sizes = Counter(zip(columns["width"][rows].tolist(), columns["height"][rows].tolist(), strict=True))
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    counts_K = np.bincount(manifest.labels()[rows], minlength=len(manifest.classes))
    return SplitOverview(
        split=name, videos=len(rows), classes=int((counts_K > 0).sum()),
        groups=len(set(columns["group"][rows].tolist()) - {b""}), hours=float(seconds_N.sum()) / 3600,
        median_seconds=float(np.median(seconds_N)), shortest_seconds=float(seconds_N.min()),
        longest_seconds=float(seconds_N.max()), lowest_fps=float(fps_N.min()), highest_fps=float(fps_N.max()),
        smallest=by_area[0], largest=by_area[-1], sizes=len(sizes),
        fewest_a_class=int(counts_K.min()), most_a_class=int(counts_K.max()),
    )  # fmt: skip


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} – {high}"
