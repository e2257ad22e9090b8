"""Training clips and test views of a row.

`TrainClips` makes one random clip, keyed by (seed, epoch, video id) alone; `VideoViews` makes every view of one video.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from muybridge.data.inputs import RGB, Input
from muybridge.data.manifest import Manifest
from muybridge.data.random import generator
from muybridge.data.sampling import ClipSpec, Order, rearranged, test_indices, train_indices
from muybridge.data.transforms import MIRRORED_FROM, Box, Jitter, multiscale_box, random_box, test_boxes
from muybridge.errors import UserError
from muybridge.video import DecodeError, Reader, Row


@dataclass(frozen=True)
class Unreadable:
    """A video that could not be read; passed on as a value, as it must cross from the worker unchanged."""

    row: int
    """Index in the manifest."""
    error: DecodeError
    """The file's path and the cause."""
    skippable: bool = True
    """False where memory ran out, for which the video is not to blame."""


@dataclass(frozen=True)
class Batch:
    """Clips of one training step."""

    clips_BTHWC: torch.Tensor
    """uint8."""
    labels_B: torch.Tensor
    flip_B: torch.Tensor | None
    """bool: mirror this clip on the device. Its label is the mirrored one already. None: no clip is mirrored."""
    jitter: Jitter | None
    """Colours and rotation, for the device. None: all switched off."""
    rows_B: tuple[int, ...]
    unreadable: tuple[Unreadable, ...] = ()
    """Videos left out of this step."""

    def pin_memory(self) -> "Batch":
        """Copy the tensors to page-locked memory."""
        return _mapped(self, torch.Tensor.pin_memory)


@dataclass(frozen=True)
class Views:
    """All views of one video: the pictures they show, each distinct frame and crop once."""

    pictures_PHWC: torch.Tensor
    """uint8."""
    picture_VF: np.ndarray
    """Indices of the pictures that each view shows: F frames in order, those of a snippet side by side."""
    mirrored_V: np.ndarray
    """bool: the view shows the mirror images of its pictures. Mirrored on the device."""
    row: int
    clip_start_V: np.ndarray
    """First frame of the view's clip, before its time steps are rearranged."""
    crop_V: np.ndarray

    def pin_memory(self) -> "Views":
        """Copy the tensors to page-locked memory."""
        return _mapped(self, torch.Tensor.pin_memory)


class ClipKey(NamedTuple):
    """Key of a training clip, with its row, so that no worker needs the manifest.

    Sending a manifest of 240,000 rows to each worker would delay its start by seconds.
    """

    epoch: int
    row_index: int
    row: Row
    label: int


class ViewKey(NamedTuple):
    """Key of the views of a video."""

    row_index: int
    row: Row


class TrainClips(Dataset[Any]):
    """One random clip of a row, by its `key`."""

    def __init__(
        self,
        manifest: Manifest,
        reader: Reader,
        spec: ClipSpec,
        *,
        input: Input = RGB,
        size: int,
        crop: Literal["multiscale", "random", "center"],
        flip_probability: float,
        crop_fraction: float,
        seed: int,
        short_sides: tuple[int, int] | None = None,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        rotation_degrees: float = 0.0,
    ) -> None:
        self.reader, self.spec, self.input, self.size, self.seed = reader, spec, input, size, seed
        self.crop, self.crop_fraction, self.short_sides = crop, crop_fraction, short_sides
        self.manifest, self.labels_N = manifest, manifest.labels()
        self.mirrored_K = manifest.mirrored_labels()
        self.flip_probability = flip_probability if self.mirrored_K is not None and input.is_picture else 0.0
        factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        ranges = {name: (max(0.0, 1 - x), 1 + x) for name, x in factors.items() if x}
        ranges |= {name: (-x, x) for name, x in (("hue_turns", hue), ("rotation_degrees", rotation_degrees)) if x}
        self.jitter_ranges = ranges

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None, "labels_N": None}

    def key(self, epoch: int, row_index: int) -> ClipKey:
        """Key of the clip of a row in an epoch."""
        return ClipKey(epoch, row_index, self.manifest.row(row_index), int(self.labels_N[row_index]))

    def __getitem__(self, key: ClipKey) -> "_Clip | Unreadable":
        with _naming(key.row):
            epoch, row_index, row, label = key
            draw = generator(self.seed, "clip", epoch, row.id)
            indices_TL = train_indices(row.num_frames, row.fps, self.spec, draw)
            frames = _read(self.reader, row_index, row, indices_TL.reshape(-1))
            if isinstance(frames, Unreadable):
                return frames
            box = self._box(frames.shape[1], frames.shape[2], epoch, row) if self.input.is_picture else None
            clip = self.input.fitted(frames, box, self.size)
            flip = False
            if self.flip_probability and self.mirrored_K is not None:
                flip = bool(generator(self.seed, "flip", epoch, row.id).random() < self.flip_probability)
                label = int(self.mirrored_K[label]) if flip else label
            jitter = {
                name: generator(self.seed, name, epoch, row.id).uniform(low, high)
                for name, (low, high) in self.jitter_ranges.items()
            }
            return _Clip(clip, label, flip, jitter, row_index)

    def _box(self, height: int, width: int, epoch: int, row: Row) -> Box:
        if self.crop == "center":
            return test_boxes(height, width, num_crops=1, crop_fraction=self.crop_fraction)[0]
        draw = generator(self.seed, "crop", epoch, row.id)
        if self.crop == "multiscale":
            return multiscale_box(height, width, draw)
        return random_box(height, width, self.size, draw, short_sides=self.short_sides)


class _Clip(NamedTuple):
    """The clip that a worker makes of a key."""

    clip_THWC: np.ndarray
    label: int
    flip: bool
    jitter: dict[str, float]
    """Draws by the names of `Jitter`, without their axis."""
    row_index: int


class VideoViews(Dataset[Any]):
    """Every view (order × clip × crop) of a row, by its `key`; each distinct frame is read once.

    `orders`: arrangements of each clip's time steps; `seed` keys the shuffled ones. `ready`: views of some rows, by their
    indices, that were made before: these rows are not read. Raises UserError where crops are to be mirrored and the manifest
    has switched mirroring off.
    """

    def __init__(
        self,
        manifest: Manifest,
        reader: Reader,
        spec: ClipSpec,
        *,
        input: Input = RGB,
        size: int,
        num_clips: int,
        num_crops: int,
        crop_fraction: float,
        orders: Sequence[Order] = ("ordered",),
        seed: int = 0,
        ready: Mapping[int, Views] | None = None,
    ) -> None:
        self.manifest, self.reader, self.spec, self.input, self.size = manifest, reader, spec, input, size
        self.ready = {} if ready is None else ready
        self.num_clips, self.num_crops, self.crop_fraction = num_clips, num_crops, crop_fraction
        self.orders, self.seed = tuple(orders), seed
        if num_crops > 1 and not input.is_picture:
            raise UserError(
                f"evaluation.num_crops: {num_crops} are asked for, but {input.name} has no picture to crop. Set "
                "evaluation.num_crops=1"
            )
        if num_crops > MIRRORED_FROM and manifest.mirror is None:
            raise UserError(
                f"evaluation.num_crops: half of {num_crops} are mirror images, but mirroring is off for this "
                f"manifest, as it changes what a video shows. Set evaluation.num_crops={MIRRORED_FROM}"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None}

    @property
    def num_views(self) -> int:
        """Number of views of a video in one order."""
        return self.num_clips * self.num_crops

    def key(self, row_index: int) -> ViewKey:
        """Key of the views of a row."""
        return ViewKey(row_index, self.manifest.row(row_index))

    def __getitem__(self, key: ViewKey) -> Views | Unreadable:
        with _naming(key.row):
            row_index, row = key
            if row_index in self.ready:
                return self.ready[row_index]
            indices_MTL = test_indices(row.num_frames, row.fps, self.spec, num_clips=self.num_clips)
            indices_OMTL = np.stack([self._rearranged(indices_MTL, order, row) for order in self.orders])
            distinct, position = np.unique(indices_OMTL, return_inverse=True)
            frames = _read(self.reader, row_index, row, distinct)
            if isinstance(frames, Unreadable):
                return frames
            boxes = self._boxes(frames)
            distinct_boxes = list(dict.fromkeys(boxes))
            pictures = np.concatenate([self.input.fitted(frames, box, self.size) for box in distinct_boxes])
            first_of_crop_C = len(distinct) * np.array([distinct_boxes.index(box) for box in boxes])
            num_orders = len(self.orders)
            position_MF = position.reshape(num_orders * self.num_clips, -1)
            crop_V = np.tile(np.arange(self.num_crops), num_orders * self.num_clips)
            return Views(
                torch.from_numpy(pictures),
                (position_MF[:, None] + first_of_crop_C[:, None]).reshape(num_orders * self.num_views, -1),
                crop_V >= MIRRORED_FROM,
                row_index,
                np.tile(np.repeat(indices_MTL[:, 0, 0], self.num_crops), num_orders),
                crop_V,
            )

    def _boxes(self, frames: np.ndarray) -> Sequence[Box | None]:
        if not self.input.is_picture:
            return [None]
        return test_boxes(*frames.shape[1:3], num_crops=self.num_crops, crop_fraction=self.crop_fraction)

    def _rearranged(self, indices_MTL: np.ndarray, order: Order, row: Row) -> np.ndarray:
        return np.stack(
            [
                rearranged(indices_TL, order, generator(self.seed, "shuffle", row.id, clip))
                for clip, indices_TL in enumerate(indices_MTL)
            ]
        )


def _mapped(part: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Copy of a dataclass with its tensors changed, those of nested dataclasses too."""
    changed: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, torch.Tensor):
            changed[field.name] = change(value)
        elif is_dataclass(value):
            changed[field.name] = _mapped(value, change)
    return replace(part, **changed)


def _read(reader: Reader, row_index: int, row: Row, indices: np.ndarray) -> np.ndarray | Unreadable:
    """Read frames; any failure becomes an Unreadable with the file's path and the cause."""
    try:
        return reader.read(row, indices)
    except DecodeError as error:
        return Unreadable(row_index, error)
    except Exception as error:
        cause = f"frames {indices.tolist()} cannot be read: {type(error).__name__}: {error}"
        return Unreadable(row_index, DecodeError(row.path, cause), skippable=not isinstance(error, MemoryError))


@contextmanager
def _naming(row: Row) -> Iterator[None]:
    """Add the video's path and id to an unexpected error, which is a fault of the program and never skipped."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This happened with {row.path} ({row.id}).")
        raise
