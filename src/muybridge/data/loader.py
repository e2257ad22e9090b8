"""From rows to batches: what training sees each step, what evaluation sees of each video.

`TrainClips[epoch, row]` is one random clip, keyed by (seed, epoch, video id) alone; `VideoViews[row]` is every view of
one video. Order and batches are made here too, so any worker count gives the same batches, and training can start at
any step.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec, test_indices, train_indices
from muybridge.data.transforms import Box, crop_resize, multiscale_box, random_box, test_boxes
from muybridge.draws import generator
from muybridge.video import DecodeError, Reader, Row


@dataclass(frozen=True)
class Batch:
    """Clips of one training step."""

    clips_BTHWC: torch.Tensor
    """uint8."""
    labels_B: torch.Tensor
    flip_B: torch.Tensor
    """bool: mirror this clip, on the device. Its label is the mirrored one already."""
    rows_B: tuple[int, ...]

    def pin_memory(self) -> "Batch":
        return Batch(self.clips_BTHWC.pin_memory(), self.labels_B.pin_memory(), self.flip_B.pin_memory(), self.rows_B)


@dataclass(frozen=True)
class Views:
    """All views of one video."""

    clips_VTHWC: torch.Tensor
    """uint8."""
    row: int
    clip_start_V: np.ndarray
    crop_V: np.ndarray


class TrainClips(Dataset[Any]):
    """One random clip of a row; the key is (epoch, row)."""

    def __init__(
        self,
        manifest: Manifest,
        reader: Reader,
        spec: ClipSpec,
        *,
        size: int,
        crop: Literal["multiscale", "random", "center"],
        flip_probability: float,
        crop_fraction: float,
        seed: int,
    ) -> None:
        self.manifest, self.reader, self.spec, self.size, self.seed = manifest, reader, spec, size, seed
        self.crop, self.crop_fraction = crop, crop_fraction
        self.labels_N = manifest.labels()
        self.mirrored_K = manifest.mirrored_labels()
        self.flip_probability = flip_probability if self.mirrored_K is not None else 0.0

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, int, bool, int] | DecodeError:
        """Clip (T,H,W,C) uint8, label, flip, row. A failure is handed on, not raised: it must cross from the worker to
        the trainer as it is."""
        epoch, index = key
        row = self.manifest.row(index)
        indices_TL = train_indices(row.num_frames, row.fps, self.spec, generator(self.seed, "clip", epoch, row.id))
        frames = _read(self.reader, row, indices_TL.reshape(-1))
        if isinstance(frames, DecodeError):
            return frames
        clip = crop_resize(frames, self._box(frames.shape[1], frames.shape[2], epoch, row), self.size)
        flip = bool(generator(self.seed, "flip", epoch, row.id).random() < self.flip_probability)
        label = int(self.labels_N[index])
        return clip, int(self.mirrored_K[label]) if flip and self.mirrored_K is not None else label, flip, index

    def _box(self, height: int, width: int, epoch: int, row: Row) -> Box:
        if self.crop == "center":
            return test_boxes(height, width, num_crops=1, crop_fraction=self.crop_fraction)[0]
        draw = generator(self.seed, "crop", epoch, row.id)
        if self.crop == "multiscale":
            return multiscale_box(height, width, draw)
        return random_box(height, width, self.size, draw)


class VideoViews(Dataset[Any]):
    """Every view (clip × crop) of a row; each distinct frame is read once."""

    def __init__(
        self,
        manifest: Manifest,
        reader: Reader,
        spec: ClipSpec,
        *,
        size: int,
        num_clips: int,
        num_crops: int,
        crop_fraction: float,
    ) -> None:
        self.manifest, self.reader, self.spec, self.size = manifest, reader, spec, size
        self.num_clips, self.num_crops, self.crop_fraction = num_clips, num_crops, crop_fraction

    @property
    def num_views(self) -> int:
        return self.num_clips * self.num_crops

    def __getitem__(self, index: int) -> Views | DecodeError:
        row = self.manifest.row(index)
        indices_MTL = test_indices(row.num_frames, row.fps, self.spec, num_clips=self.num_clips)
        distinct, places = np.unique(indices_MTL, return_inverse=True)
        frames = _read(self.reader, row, distinct)
        if isinstance(frames, DecodeError):
            return frames
        boxes = test_boxes(frames.shape[1], frames.shape[2], num_crops=self.num_crops, crop_fraction=self.crop_fraction)
        crops = [crop_resize(frames, box, self.size) for box in boxes]  # each (distinct,S,S,C)
        places_MF = places.reshape(self.num_clips, -1)
        views = np.stack([crop[places_F] for places_F in places_MF for crop in crops])
        starts_M = indices_MTL[:, 0, 0]
        return Views(
            torch.from_numpy(views),
            index,
            np.repeat(starts_M, self.num_crops),
            np.tile(np.arange(self.num_crops), self.num_clips),
        )


def epoch_batches(rows: np.ndarray, *, batch_size: int, epoch: int, seed: int) -> list[np.ndarray]:
    """Rows in this epoch's random order, cut into batches as even as can be: every row once, none dropped, none left
    alone at the end."""
    shuffled = generator(seed, "order", epoch).permutation(rows)
    return np.array_split(shuffled, num_batches(len(rows), batch_size))


def num_batches(num_rows: int, batch_size: int) -> int:
    return -(-num_rows // batch_size)


class _Keys:
    """The batch sampler: (epoch, row) keys from a given step on, epoch after epoch."""

    def __init__(self, rows: np.ndarray, *, batch_size: int, seed: int, first_step: int, num_steps: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.first_step, self.num_steps = first_step, num_steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = num_batches(len(self.rows), self.batch_size)
        batches: list[np.ndarray] = []
        for step in range(self.first_step, self.num_steps):
            epoch, batch = divmod(step, per_epoch)
            if batch == 0 or not batches:
                batches = epoch_batches(self.rows, batch_size=self.batch_size, epoch=epoch, seed=self.seed)
            yield [(epoch, int(row)) for row in batches[batch]]

    def __len__(self) -> int:
        return self.num_steps - self.first_step


def train_batches(
    clips: TrainClips,
    rows: np.ndarray,
    *,
    batch_size: int,
    first_step: int,
    num_steps: int,
    num_workers: int,
    pin_memory: bool,
) -> Iterator[Batch]:
    """Batches of the steps first_step … num_steps - 1. Raises the DecodeError of a worker as it was."""
    keys = _Keys(rows, batch_size=batch_size, seed=clips.seed, first_step=first_step, num_steps=num_steps)
    return _raising(_loader(clips, keys, _collate, num_workers, pin_memory))


def view_batches(views: VideoViews, rows: Sequence[int], *, num_workers: int) -> Iterator[Views]:
    """The views of each row, in order, one row an item."""
    return _raising(_loader(views, [[int(row)] for row in rows], _only, num_workers, pin_memory=False))


def _loader(dataset: Dataset[Any], batches: Any, collate: Any, num_workers: int, pin_memory: bool) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        prefetch_factor=4 if num_workers else None,
        pin_memory=pin_memory,
        in_order=True,
    )


def _raising(loader: DataLoader[Any]) -> Iterator[Any]:
    with _ignored_by_children(signal.SIGINT):
        items = iter(loader)
    for item in items:
        if isinstance(item, DecodeError):
            raise item
        yield item


@contextmanager
def _ignored_by_children(number: int) -> Iterator[None]:
    """Processes started here ignore a signal from their first instruction on: Ctrl-C reaches the whole group, but it is
    the trainer's to answer; it saves, then ends the workers."""
    try:
        before = signal.signal(number, signal.SIG_IGN)
    except ValueError:  # not the main thread: signals are not ours to set
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)


def _collate(items: list[tuple[np.ndarray, int, bool, int] | DecodeError]) -> Batch | DecodeError:
    good = []
    for item in items:
        if isinstance(item, DecodeError):
            return item
        good.append(item)
    clips, labels, flips, rows = zip(*good, strict=True)
    return Batch(torch.from_numpy(np.stack(clips)), torch.tensor(labels), torch.tensor(flips), tuple(rows))


def _only(items: list[Views | DecodeError]) -> Views | DecodeError:
    return items[0]


def _read(reader: Reader, row: Row, indices: np.ndarray) -> np.ndarray | DecodeError:
    """Frames, or the failure with the file's path and the cause."""
    try:
        return reader.read(row, indices)
    except DecodeError as error:
        return error
    except (OSError, MemoryError) as error:
        return DecodeError(row.path, f"frames {indices.tolist()} cannot be read: {error}")
