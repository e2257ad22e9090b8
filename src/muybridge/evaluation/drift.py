"""Figures of a store of vectors without any training: change along a video, accuracy of a frame."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from muybridge.data.manifest import SPLITS, Manifest
from muybridge.storage.scores import softmax, topk_accuracy

POSITIONS = 11
"""Places along a video, from its first vector to its last, at which its distance from the first is measured."""
TOP = (1, 5, 10)


def change(manifest: Manifest, vectors_N: Iterator[np.ndarray]) -> dict[str, Any]:
    """Change of the vectors along a video, by class: is there enough for a recurrent net to learn from?

    Distances are root mean squares over the videos of a class, in units of the distance between two vectors of the set
    taken at random (1: as different as any two). `first`: from the first vector, at places evenly along the video;
    `previous`: from the vector before. `videos`: between the means of two videos of the set.
    """
    labels_N = manifest.labels()
    num_classes = len(manifest.classes)
    first_KP, previous_K = np.zeros((num_classes, POSITIONS)), np.zeros(num_classes)
    counts_K = np.zeros(num_classes)
    total_D, squares, count = np.zeros(1), 0.0, 0
    means: list[np.ndarray] = []
    for label, vectors_TD in zip(labels_N, vectors_N, strict=True):
        x_TD = vectors_TD.astype(np.float64)
        at = np.linspace(0, len(x_TD) - 1, POSITIONS).round().astype(int)
        first_KP[label] += ((x_TD[at] - x_TD[0]) ** 2).sum(1)
        if len(x_TD) > 1:
            previous_K[label] += (np.diff(x_TD, axis=0) ** 2).sum(1).mean()
        counts_K[label] += 1
        total_D, squares, count = total_D + x_TD.sum(0), squares + float((x_TD**2).sum()), count + len(x_TD)
        means.append(x_TD.mean(0))
    mean_D = total_D / count
    unit = np.sqrt(2 * max(squares / count - float(mean_D @ mean_D), 1e-30))
    with np.errstate(invalid="ignore"):
        first_KP, previous_K = (np.sqrt(sums.T / counts_K).T / unit for sums in (first_KP, previous_K))
    return {
        "classes": {
            name: {"first": first_P.tolist(), "previous": float(previous)}
            for name, first_P, previous, videos in zip(manifest.classes, first_KP, previous_K, counts_K, strict=True)
            if videos
        },
        "videos": float(np.sqrt(2 * np.stack(means).var(0).sum()) / unit),
    }


def accuracy(manifest: Manifest, scores_N: Iterator[np.ndarray], seen_N: np.ndarray) -> dict[str, Any]:
    """Accuracy of a frame, over all frames, and of a video, by the mean of its frames' probabilities, by split.

    Of k below the number of classes only, as top-k is 1 else. `seen_N`: whether the network was trained on the video; their
    number in a split stands beside.
    """
    labels_N = manifest.labels()
    top = [k for k in TOP if k == 1 or k < len(manifest.classes)]
    frames: list[np.ndarray] = []
    videos: list[np.ndarray] = []
    for scores_TK, label in zip(scores_N, labels_N, strict=True):
        labels_T = np.full(len(scores_TK), label)
        frames.append(np.array([topk_accuracy(scores_TK, labels_T, k) for k in top]) * len(scores_TK))
        videos.append(softmax(scores_TK).mean(0))
    correct_NJ = np.stack(frames)
    counts_N = manifest.columns["num_frames"]
    scores_NK = np.stack(videos)
    told: dict[str, Any] = {}
    for column in manifest.split_columns:
        for split in SPLITS[:3]:
            rows = np.flatnonzero(manifest.columns[column] == split.encode())
            if len(rows):
                of_frames = correct_NJ[rows].sum(0) / counts_N[rows].sum()
                told.setdefault(column, {})[split] = {
                    "videos": len(rows), "trained_on": int(seen_N[rows].sum()), "frames": int(counts_N[rows].sum()),
                    **{f"frame_top{k}": float(value) for k, value in zip(top, of_frames, strict=True)},
                    **{f"video_top{k}": topk_accuracy(scores_NK[rows], labels_N[rows], k) for k in top},
                }  # fmt: skip
    return told
