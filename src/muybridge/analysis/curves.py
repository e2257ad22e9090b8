"""Learning curves of a row: loss and accuracy after each epoch, over epochs and over time of training."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from muybridge.storage.run import Run

Part = Literal["train", "val"]
ACCURACY: dict[Part, str] = {"train": "clip_top1", "val": "video_top1"}
"""The accuracy that is measured of each part: of clips while training, of videos in validation."""


@dataclass(frozen=True)
class Point:
    """Means over the runs of a row that measured this epoch; None where none measured it, or where it was not finite."""

    part: Part
    epoch: int
    hours: float | None
    """Training until then, validation not counted, on the machine that trained."""
    loss: float | None
    accuracy: float | None

    def as_json(self) -> dict[str, Any]:
        """Entry in report.json."""
        return asdict(self)


def curve(runs: Sequence[Run], part: Part) -> list[Point]:
    """Points of a learning curve, by epoch. Raises UserError for damaged metrics."""
    by_epoch: dict[int, list[dict[str, Any]]] = {}
    for run in runs:
        for line in run.metrics(part, timed=True):
            by_epoch.setdefault(line["epoch"], []).append(line)
    points = []
    for epoch, lines in sorted(by_epoch.items()):
        seconds, loss, accuracy = (_mean(lines, key) for key in ("seconds", "loss", ACCURACY[part]))
        points.append(Point(part, epoch, None if seconds is None else seconds / 3600, loss, accuracy))
    return points


def _mean(lines: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [line[key] for line in lines if math.isfinite(line.get(key, math.nan))]
    return float(np.mean(values)) if values else None
