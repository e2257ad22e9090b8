"""Published results, to be drawn behind measured ones and never put in one table with them.

They are in `published.csv`: other people's, on their copies of the data, by their code. What a source does not state is
empty there and None here. Parameters and multiply-adds are muybridge's own counts.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from muybridge.errors import UserError, nearest

DATA_SETS: Mapping[str, str] = {
    "mini_ssv2": "Mini-Something-Something V2, 87 of its 174 classes",
    "mini_kinetics": "Mini-Kinetics, 200 classes of Kinetics-400",
    "mini_moments": "Mini-Moments in Time, 200 of its 339 classes",
    "kinetics400": "Kinetics-400, 400 classes",
    "kinetics5": "5 classes of Kinetics, about 400 training videos each",
    "ucf101": "UCF101, 101 classes",
    "hmdb51": "HMDB51, 51 classes",
    "ucf11": "UCF-11, 11 classes",
}
"""Data sets with published results, in words."""


@dataclass(frozen=True)
class Published:
    """One published result; a row of `published.csv`."""

    data: str
    """A key of `DATA_SETS`."""
    source: str
    label: str
    """Name that the source gives the network."""
    method: str | None
    backbone: str | None
    """Names of method and backbone in muybridge, if it has them."""
    temporal_pooling: bool | None
    num_frames: int | None
    sampling: str | None
    size: int | None
    views: str | None
    """Clips x crops."""
    split: str | None
    """Split that was scored: test, val (if test labels are not public, as those of Kinetics), or train.

    Accuracy on train says nothing of unseen videos.
    """
    top1: float
    top5: float | None
    """Accuracies, 0 to 1."""
    params: int | None
    conv_macs: int | None
    """Multiply-adds of one clip."""
    note: str | None

    @property
    def name(self) -> str:
        """Label with frames and pooling: "TAM-ResNet50, 8 frames, no temporal pooling"."""
        parts = [self.label]
        if self.num_frames is not None:
            parts.append("1 frame" if self.num_frames == 1 else f"{self.num_frames} frames")
        if self.temporal_pooling is not None:
            parts.append("temporal pooling" if self.temporal_pooling else "no temporal pooling")
        if self.split == "train":
            parts.append("accuracy on its training videos")
        return ", ".join(parts)


def published(data: str) -> tuple[Published, ...]:
    """Published results of a data set, by its key. Raises UserError for an unknown key."""
    if data not in DATA_SETS:
        raise UserError(f"'{data}': no published results of this data set are known. {nearest(data, DATA_SETS)}")
    return _all()[data]


@cache
def _all() -> dict[str, tuple[Published, ...]]:
    text = files("muybridge.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    rows = [_parsed(row) for row in csv.DictReader(text.splitlines())]
    return {data: tuple(row for row in rows if row.data == data) for data in DATA_SETS}


def _parsed(row: dict[str, str]) -> Published:
    def whole(column: str) -> int | None:
        return int(row[column]) if row[column] else None

    pooling = whole("temporal_pooling")
    return Published(
        data=row["data"],
        source=row["source"],
        label=row["label"],
        method=row["method"] or None,
        backbone=row["backbone"] or None,
        temporal_pooling=None if pooling is None else bool(pooling),
        num_frames=whole("num_frames"),
        sampling=row["sampling"] or None,
        size=whole("size"),
        views=row["views"] or None,
        split=row["split"] or None,
        top1=float(row["top1"]),
        top5=float(row["top5"]) if row["top5"] else None,
        params=whole("params"),
        conv_macs=whole("conv_macs"),
        note=row["note"] or None,
    )
