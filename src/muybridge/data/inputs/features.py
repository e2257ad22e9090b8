"""Stored vectors of frames or clips (`muybridge features`), as `features:D`: D numbers a time step."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from muybridge.data.inputs.base import Vectors
from muybridge.errors import UserError

if TYPE_CHECKING:
    import torch

    from muybridge.data.manifest import Manifest
    from muybridge.video import Reader, Row, VideoInfo

PREFIX = "features:"
LARGEST = 2**20
"""Most numbers of a vector."""


@dataclass(frozen=True)
class WithAbsent:
    """A reader that gives NaN for a time step that is not there, whose index is -1."""

    stored: "Reader"

    def read(self, row: "Row", indices: np.ndarray) -> np.ndarray:
        """Vectors at `indices` as (T,D) float32. Raises DecodeError."""
        indices = np.asarray(indices)
        there_T = indices >= 0
        if there_T.all():
            return self.stored.read(row, indices)
        read_SD = self.stored.read(row, indices[there_T])
        all_TD = np.full((len(indices), read_SD.shape[1]), np.nan, dtype=np.float32)
        all_TD[there_T] = read_SD
        return all_TD


class Features(Vectors):
    """Vectors of `width` numbers, read in place where a manifest's files hold them."""

    about = "stored vectors"
    store = "features SOURCE --data MANIFEST --out STORE"
    is_in_place = True

    def __init__(self, width: int) -> None:
        self.name = f"{PREFIX}{width}"
        self.meaning = f"stored vectors of {width} numbers"
        self.channels = self.read_channels = width

    def look(self, path: Path, look: "Callable[[Path], VideoInfo]") -> "VideoInfo":
        """Number and length of the vectors in a file. Raises DecodeError for a file of pictures, and for other vectors."""
        from muybridge.video import DecodeError, vectors

        if not vectors.is_vectors(path):
            raise DecodeError(
                path, f"it holds no vectors, which this network takes ({self.name}): store those of its videos "
                "(`muybridge features`), and evaluate the run on that store"
            )  # fmt: skip
        if vectors.width(path) != self.channels:
            raise DecodeError(
                path, f"its vectors have {vectors.width(path)} numbers, and the network takes {self.channels}"
            )
        return vectors.probe(path, fps=25.0)

    def reader(self, pixels: "Reader") -> "Reader":
        """A reader of vectors, and of steps that are not there."""
        return WithAbsent(pixels)

    def collated(self, clips: Sequence[np.ndarray]) -> "torch.Tensor":
        """Clips as one tensor, without the last steps where none of them has any."""
        x_BTD = super().collated(clips)
        there_T = (~x_BTD[..., 0].isnan()).any(0).nonzero()
        return x_BTD[:, : int(there_T.max()) + 1] if len(there_T) else x_BTD


def named(name: str) -> Features | None:
    """The input of a name `features:D`; None for other names. Raises UserError for a D that is not a number."""
    if not name.startswith(PREFIX):
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,6}", name.removeprefix(PREFIX)) or int(name.removeprefix(PREFIX)) > LARGEST:
        raise UserError(
            f"clip.modality: '{name}' does not say how long the vectors are. Write {PREFIX}D, such as {PREFIX}1280; a store "
            "of vectors as --data says it by itself"
        )
    return Features(int(name.removeprefix(PREFIX)))


def vectors_of(manifest: "Manifest") -> Features | None:
    """The input that a manifest's files of vectors hold; None for other files. Raises UserError where they differ."""
    from muybridge.video import vectors

    widths = {vectors.width(path): path for path in manifest.array_paths if vectors.is_vectors(path)}
    if not widths:
        return None
    if len(widths) > 1:
        shown = "; ".join(f"{path}: {width}" for width, path in list(widths.items())[:2])
        raise UserError(f"videos: their vectors differ in length ({shown}). Make one manifest of each")
    paths = np.unique(manifest.columns["path"])
    if len(paths) > sum(vectors.is_vectors(path) for path in manifest.array_paths):
        raise UserError("videos: some are stored vectors, and some are pictures. Make two manifests of them")
    return Features(*widths)
