"""Clips that an export is tried on: of the run's own videos, of others, or made ones."""

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from muybridge import build
from muybridge.data import inputs
from muybridge.data.inputs import Input
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.random import generator
from muybridge.data.sets.motions import CLASSES, FPS, NUM_FRAMES, SIZE, render
from muybridge.data.views import VideoViews, Views
from muybridge.errors import UserError
from muybridge.evaluation.trained import Trained
from muybridge.recipe import Recipe
from muybridge.video import Row

PARITY = 7
"""Videos that a graph and its run both answer."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """Videos, and words for where they are from."""

    views: VideoViews
    rows: np.ndarray
    about: str

    def items(self, count: int | None = None) -> Iterator[tuple[int, Views]]:
        """Rows and views of the first `count` videos that can be read; None: of all."""
        read = ((int(row), self.views[self.views.key(int(row))]) for row in self.rows)
        return islice(((row, item) for row, item in read if isinstance(item, Views)), count)


def tried(network: Trained, recipe: Recipe, data: str | Path | None) -> Tried:
    """Real videos of val or test (or any of `data`) where one of them can be read; else made ones.

    Raises UserError where none of `data` can be read.
    """
    for split in ("val", "test") if data is None else ("val", "test", "unused", "train"):
        found = of_split(network, recipe, data, split)
        if found is not None and next(found.items(1), None) is not None:
            return found
    if data is not None:
        raise UserError(f"--data {data}: none of its videos can be read. Check the first of them, or leave it out")
    return _made(network, recipe)


def of_split(network: Trained, recipe: Recipe, data: str | Path | None, split: str) -> Tried | None:
    """Videos of a split; None where the manifest is gone or has none of it. Raises UserError."""
    file = Path(recipe.data.manifest if data is None else data)
    if data is None and not file.exists():
        return None
    manifest = Manifest.load(file)
    rows = manifest.split(split, recipe.data.fold if data is None else None)
    if not len(rows):
        return None
    if manifest.mirror is not None:
        manifest = dataclasses.replace(manifest, mirror=network.dataset["mirror"])
    views = build.video_views(recipe, manifest, build.file_reader(recipe))
    return Tried(views, rows, f"{split} of {file}")


def _made(network: Trained, recipe: Recipe) -> Tried:
    classes, count, shown = network.classes, PARITY, inputs.of(recipe.clip)
    numbers, width = np.arange(count), SIZE if shown.is_picture else 1
    frames = NUM_FRAMES if not recipe.evaluation.whole else recipe.clip.num_frames
    manifest = from_columns(
        {
            "id": [f"made-{number}" for number in numbers], "path": [f"made-{number}" for number in numbers],
            "start_frame": 0 * numbers, "num_frames": np.full(count, frames), "label": [classes[0]] * count,
            "group": [""] * count, "fps": np.full(count, float(FPS)), "width": np.full(count, width),
            "height": np.full(count, width), "sha256": [""] * count, "split": ["unused"] * count,
        },
        classes=classes, root=Path("/"), mirror=network.dataset["mirror"], where="made clips",
    )  # fmt: skip
    return Tried(
        build.video_views(recipe, manifest, _Made(shown)), numbers, "made clips, as no video of the run is there"
    )


@dataclasses.dataclass(frozen=True)
class _Made:
    """A reader of drawn videos; of other inputs than pictures, of random values."""

    input: Input

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Frames at `indices`."""
        number = int(row.id.rpartition("-")[2])
        if self.input.is_picture and self.input.read_channels == 3:
            return render(CLASSES[number], seed=0, index=number)[indices]
        draw = generator(0, "made", number, self.input.name)
        if not self.input.is_picture:
            drawn = draw.standard_normal((row.num_frames, self.input.read_channels), dtype=np.float32)
            return drawn[np.maximum(indices, 0)]
        shape = (row.num_frames, SIZE, SIZE, self.input.read_channels)
        return draw.integers(1, 256, shape, dtype=np.uint8)[indices]
