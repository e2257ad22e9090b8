"""From rows to batches: what training sees each step, what evaluation sees of each video.

`TrainClips` makes one random clip, keyed by (seed, epoch, video id) alone; `VideoViews` makes every view of one video.
Order and batches are made here too, so any worker count gives the same batches, and training can start at any step.
"""

import atexit
import functools
import operator
import os
import pickle
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import count
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from muybridge.console import log
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec, Order, rearranged, test_indices, train_indices
from muybridge.data.transforms import (
    MIRRORED_FROM,
    Box,
    Jitter,
    crop_resize,
    multiscale_box,
    random_box,
    test_boxes,
)
from muybridge.draws import generator
from muybridge.errors import UserError
from muybridge.launch import safe_children
from muybridge.video import DecodeError, Reader, Row


@dataclass(frozen=True)
class Unreadable:
    """A video that could not be read. It is handed on, not raised: it must cross from the worker as it is."""

    row: int
    """Index in the manifest."""
    error: DecodeError
    """The file's path and the cause."""
    skippable: bool = True
    """False where memory ran out, which is no fault of the video."""


@dataclass(frozen=True)
class Batch:
    """Clips of one training step."""

    clips_BTHWC: torch.Tensor
    """uint8."""
    labels_B: torch.Tensor
    flip_B: torch.Tensor | None
    """bool: mirror this clip, on the device. Its label is the mirrored one already. None: no clip is mirrored."""
    jitter: Jitter | None
    """Colours and rotation, for the device. None: all switched off."""
    rows_B: tuple[int, ...]
    unreadable: tuple[Unreadable, ...] = ()
    """What was left out of this step."""

    def pin_memory(self) -> "Batch":
        return _mapped(self, torch.Tensor.pin_memory)


@dataclass(frozen=True)
class Views:
    """All views of one video: the pictures they show, each distinct frame and crop once."""

    pictures_PHWC: torch.Tensor
    """uint8."""
    picture_VF: np.ndarray
    """Which pictures a view shows, one after another: F frames, those of a snippet side by side."""
    mirrored_V: np.ndarray
    """bool: the view shows the mirror images of its pictures. Mirrored on the device."""
    row: int
    clip_start_V: np.ndarray
    """First frame of the view's clip, in whatever order it is shown."""
    crop_V: np.ndarray

    def pin_memory(self) -> "Views":
        return _mapped(self, torch.Tensor.pin_memory)


class WorkerLost(UserError):
    """A process that reads videos has ended, and not by its own doing."""

    @staticmethod
    def of(error: RuntimeError) -> "WorkerLost | None":
        """What torch says of it, in whatever moment; none where the error is another one."""
        if "DataLoader worker (pid" not in str(error):
            return None
        return WorkerLost(
            f"A process that reads videos was ended from outside ({str(error).splitlines()[0].strip().rstrip('.')}): memory may "
            "have run out. Fewer of them take less: --set runtime.num_workers=1"
        )


@contextmanager
def _watched() -> Iterator[None]:
    """Raises WorkerLost for a worker process that has ended."""
    try:
        yield
    except RuntimeError as error:
        lost = WorkerLost.of(error)
        if lost is None:
            raise
        raise lost from error


class ClipKey(NamedTuple):
    """What makes a training clip. It brings its row along, so that no worker needs the manifest: one of 240,000 rows
    sent to each of them would delay every worker's start by seconds."""

    epoch: int
    row_index: int
    row: Row
    label: int


class ViewKey(NamedTuple):
    """What makes the views of a video."""

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
        self.reader, self.spec, self.size, self.seed = reader, spec, size, seed
        self.crop, self.crop_fraction, self.short_sides = crop, crop_fraction, short_sides
        self.manifest, self.labels_N = manifest, manifest.labels()
        self.mirrored_K = manifest.mirrored_labels()
        self.flip_probability = flip_probability if self.mirrored_K is not None else 0.0
        factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        ranges = {name: (max(0.0, 1 - x), 1 + x) for name, x in factors.items() if x}
        ranges |= {name: (-x, x) for name, x in (("hue_turns", hue), ("rotation_degrees", rotation_degrees)) if x}
        self.jitter_ranges = ranges

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None, "labels_N": None}

    def key(self, epoch: int, row_index: int) -> ClipKey:
        return ClipKey(epoch, row_index, self.manifest.row(row_index), int(self.labels_N[row_index]))

    def __getitem__(self, key: ClipKey) -> "_Clip | Unreadable":
        with _naming(key.row):
            epoch, row_index, row, label = key
            draw = generator(self.seed, "clip", epoch, row.id)
            indices_TL = train_indices(row.num_frames, row.fps, self.spec, draw)
            frames = _read(self.reader, row_index, row, indices_TL.reshape(-1))
            if isinstance(frames, Unreadable):
                return frames
            clip = crop_resize(frames, self._box(frames.shape[1], frames.shape[2], epoch, row), self.size)
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
    """What a worker makes of a key."""

    clip_THWC: np.ndarray
    label: int
    flip: bool
    jitter: dict[str, float]
    """By the names of `Jitter`, without their axis."""
    row_index: int


class VideoViews(Dataset[Any]):
    """Every view (order × clip × crop) of a row, by its `key`; each distinct frame is read once. Raises UserError where
    crops are to be mirrored and the manifest says that no label names what its videos show then.

    `orders`: how each clip's time steps are arranged; `seed`: of those that are shuffled.
    """

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
        orders: Sequence[Order] = ("ordered",),
        seed: int = 0,
    ) -> None:
        self.manifest, self.reader, self.spec, self.size = manifest, reader, spec, size
        self.num_clips, self.num_crops, self.crop_fraction = num_clips, num_crops, crop_fraction
        self.orders, self.seed = tuple(orders), seed
        if num_crops > MIRRORED_FROM and manifest.mirror is None:
            raise UserError(
                f"evaluation.num_crops is {num_crops}: half of them are mirror images, but mirroring is off for this manifest, "
                f"as it changes what a video shows. Take evaluation.num_crops={MIRRORED_FROM}"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "manifest": None}

    @property
    def num_views(self) -> int:
        """Of one order."""
        return self.num_clips * self.num_crops

    def key(self, row_index: int) -> ViewKey:
        return ViewKey(row_index, self.manifest.row(row_index))

    def __getitem__(self, key: ViewKey) -> Views | Unreadable:
        with _naming(key.row):
            row_index, row = key
            indices_MTL = test_indices(row.num_frames, row.fps, self.spec, num_clips=self.num_clips)
            indices_OMTL = np.stack([self._rearranged(indices_MTL, order, row) for order in self.orders])
            distinct, places = np.unique(indices_OMTL, return_inverse=True)
            frames = _read(self.reader, row_index, row, distinct)
            if isinstance(frames, Unreadable):
                return frames
            height, width = frames.shape[1:3]
            boxes = test_boxes(height, width, num_crops=self.num_crops, crop_fraction=self.crop_fraction)
            distinct_boxes = list(dict.fromkeys(boxes))
            pictures = np.concatenate([crop_resize(frames, box, self.size) for box in distinct_boxes])
            first_of_crop_C = len(distinct) * np.array([distinct_boxes.index(box) for box in boxes])
            num_orders = len(self.orders)
            places_MF = places.reshape(num_orders * self.num_clips, -1)
            crop_V = np.tile(np.arange(self.num_crops), num_orders * self.num_clips)
            return Views(
                torch.from_numpy(pictures),
                (places_MF[:, None] + first_of_crop_C[:, None]).reshape(num_orders * self.num_views, -1),
                crop_V >= MIRRORED_FROM,
                row_index,
                np.tile(np.repeat(indices_MTL[:, 0, 0], self.num_crops), num_orders),
                crop_V,
            )

    def _rearranged(self, indices_MTL: np.ndarray, order: Order, row: Row) -> np.ndarray:
        return np.stack(
            [
                rearranged(indices_TL, order, generator(self.seed, "shuffle", row.id, clip))
                for clip, indices_TL in enumerate(indices_MTL)
            ]
        )


def pass_batches(rows: np.ndarray, *, batch_size: int, number: int, seed: int) -> list[np.ndarray]:
    """Rows in the random order of the pass of this number, cut into batches as even as can be: every row once, none
    dropped, none left alone at the end."""
    shuffled = generator(seed, "order", number).permutation(rows)
    return np.array_split(shuffled, num_batches(len(rows), batch_size))


def num_batches(num_rows: int, batch_size: int) -> int:
    return -(-num_rows // batch_size)


class _Keys:
    """The batch sampler: keys from a given step on, pass after pass without an end; of each batch one process's part."""

    def __init__(
        self, clips: TrainClips, rows: np.ndarray, *, batch_size: int, first_step: int, rank: int, ranks: int
    ) -> None:
        self.clips, self.rows, self.batch_size = clips, rows, batch_size
        self.first_step, self.rank, self.ranks = first_step, rank, ranks

    def __iter__(self) -> Iterator[list[ClipKey]]:
        per_pass = num_batches(len(self.rows), self.batch_size)
        batches: list[np.ndarray] = []
        for step in count(self.first_step):
            number, batch = divmod(step, per_pass)
            if batch == 0 or not batches:
                batches = pass_batches(self.rows, batch_size=self.batch_size, number=number, seed=self.clips.seed)
            own = np.array_split(batches[batch], self.ranks)[self.rank]
            yield [self.clips.key(number, int(row)) for row in own]


def train_batches(
    clips: TrainClips,
    rows: np.ndarray,
    *,
    batch_size: int,
    first_step: int,
    num_workers: int,
    pin_memory: bool,
    on_error: Literal["stop", "skip"] = "stop",
    rank: int = 0,
    ranks: int = 1,
) -> Generator[Batch, None, None]:
    """Batches of the steps first_step, first_step + 1, … without an end; of each, the part of the process `rank` of
    `ranks`. Worker processes end when it is closed.

    A video that cannot be read raises its DecodeError, or, with `on_error` skip, is left out of its batch. UserError
    where none is left; the part of one of several processes may be empty.
    """
    keys = _Keys(clips, rows, batch_size=batch_size, first_step=first_step, rank=rank, ranks=ranks)
    items = _started(_loader(clips, keys, _collate, num_workers, pin_memory, prefetch=4))
    try:
        for batch in _received(items, pin_memory):
            for failure in batch.unreadable:
                if on_error == "stop" or not failure.skippable:
                    raise failure.error
            if not batch.rows_B and ranks == 1:
                number, first = len(batch.unreadable), batch.unreadable[0].error
                raise UserError(f"Not one of the {number} videos of an update could be read; the first is {first}")
            yield batch
    finally:
        _end_workers(items)


def micro_batches(batch: Batch, size: int | None, *, largest: int) -> Iterator[Batch]:
    """A batch in parts of at most `size` clips, as even as can be; into as many parts as a batch of `largest` clips is
    cut, so that processes whose shares differ by one clip go through the network equally often."""
    if not batch.rows_B:
        return
    if size is None or largest <= size:
        yield batch
        return
    for places in np.array_split(np.arange(len(batch.rows_B)), num_batches(largest, size)):
        if len(places):
            of_part = slice(int(places[0]), int(places[-1]) + 1)
            part = _mapped(batch, operator.itemgetter(of_part))
            yield replace(part, rows_B=batch.rows_B[of_part])


class ViewLoader:
    """The views of rows, as often as they are asked for, by worker processes that live until `close`, or until the end
    of the `with` block."""

    def __init__(self, views: VideoViews, *, num_workers: int, pin_memory: bool = False) -> None:
        self.views = views
        self._keys: list[list[ViewKey]] = []  # what the loader's next pass goes through
        self._pin_memory = pin_memory
        self._loader = _loader(  # one video ahead: all its views may be hundreds of megabytes
            views, self._keys, _only, num_workers, pin_memory, prefetch=1, keep_workers=True
        )
        self._items: Iterator[Any] = iter(())

    def batches(self, rows: Sequence[int] | np.ndarray) -> Iterator[Views | Unreadable]:
        """The views of each row, or why there are none, in order, one row an item."""
        self._keys[:] = [[self.views.key(int(row))] for row in rows]
        self._items = _started(self._loader)
        yield from _received(self._items, self._pin_memory)

    def close(self) -> None:
        _end_workers(self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


P = TypeVar("P", Batch, Views)


def moved(part: P, device: torch.device, *, non_blocking: bool = False) -> P:
    """A batch or views on the device; as it is where it lies there already."""
    return _mapped(part, lambda tensor: tensor.to(device, non_blocking=non_blocking))


def ahead_on_device(parts: Iterator[P], device: torch.device) -> Iterator[P]:
    """The same parts. For CUDA they lie on the device, and the next one is copied, from pinned memory and on a stream of
    its own, while the present one computes; for other devices nothing is done here."""
    return _copied_ahead(parts, device) if device.type == "cuda" else parts


def _copied_ahead(parts: Iterable[P], device: torch.device) -> Iterator[P]:
    copying = torch.cuda.Stream(device)

    def copied(part: P) -> tuple[P, torch.cuda.Event]:
        with torch.cuda.stream(copying):
            return moved(part, device, non_blocking=True), copying.record_event()

    def ready(part: P, copy_done: torch.cuda.Event) -> P:
        computing = torch.cuda.current_stream(device)
        computing.wait_event(copy_done)

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(computing)  # its memory was taken on the other stream: not to be reused too early
            return tensor

        return _mapped(part, keep)

    ahead: tuple[P, torch.cuda.Event] | None = None
    for part in parts:
        present, ahead = ahead, copied(part)
        if present is not None:
            yield ready(*present)
    if ahead is not None:
        yield ready(*ahead)


def _mapped(part: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A dataclass with its tensors changed, and those of the dataclasses in it."""
    changed: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, torch.Tensor):
            changed[field.name] = change(value)
        elif is_dataclass(value):
            changed[field.name] = _mapped(value, change)
    return replace(part, **changed)


def _loader(
    dataset: Dataset[Any],
    batches: Any,
    collate: Any,
    num_workers: int,
    pin_memory: bool,
    *,
    prefetch: int,
    keep_workers: bool = False,
) -> DataLoader[Any]:
    """`prefetch`: how many items each worker has ready."""
    if num_workers and _shared_memory_is_small():
        collate = functools.partial(_pickled, collate)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=functools.partial(_start_worker, os.getpid()) if num_workers else None,
        prefetch_factor=prefetch if num_workers else None,
        persistent_workers=keep_workers and num_workers > 0,
        pin_memory=pin_memory,
        in_order=True,
    )


LEAST_SHARED_BYTES = 2**30
"""With less shared memory, workers send what they made through pipes: they would be killed where it runs out."""


@functools.cache
def _shared_memory_is_small() -> bool:
    """As in containers, which have 64 MB of it unless told otherwise. Says so, once."""
    try:
        system = os.statvfs("/dev/shm")
    except OSError:  # another system
        return False
    free_bytes = system.f_bavail * system.f_frsize
    if free_bytes >= LEAST_SHARED_BYTES:
        return False
    log(
        f"/dev/shm has only {free_bytes / 2**20:.0f} MiB free: videos are passed on through pipes, a little slower (containers: "
        "--shm-size 2g, or --ipc host)"
    )
    return True


def _pickled(collate: Callable[[list[Any]], Any], items: list[Any]) -> bytes:
    return pickle.dumps(collate(items), protocol=pickle.HIGHEST_PROTOCOL)


def _received(items: Iterator[Any], pin_memory: bool) -> Iterator[Any]:
    """What the workers send, whichever way it came. Raises WorkerLost."""
    while True:
        with _watched():
            try:
                item = next(items)
            except StopIteration:
                return
        if isinstance(item, bytes):
            item = pickle.loads(item)  # from a process of our own
            item = item.pin_memory() if pin_memory and not isinstance(item, Unreadable) else item
        yield item


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    with _ignored_by_children(signal.SIGINT), safe_children():
        return iter(loader)


def _end_workers(items: Any) -> None:
    """Torch ends the processes of a loader when its iterator is collected; an error that is on its way up would keep
    them alive."""
    if hasattr(items, "_shutdown_workers"):
        with suppress(RuntimeError):  # one that fell while it was being ended: it was in the midst of sending
            items._shutdown_workers()


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


def _start_worker(trainer: int, worker: int) -> None:
    if os.getppid() != trainer:  # it was killed while this process started: torch would wait for it for ever
        os._exit(1)
    torch.set_num_threads(1)
    # Leave without taking the interpreter down: that aborts the process where the queue's thread is in the midst of
    # sending, as it is when training is stopped.
    atexit.register(os._exit, 0)


def _collate(items: list[_Clip | Unreadable]) -> Batch:
    clips = [item for item in items if isinstance(item, _Clip)]
    unreadable = tuple(item for item in items if isinstance(item, Unreadable))
    pixels = torch.from_numpy(np.stack([clip.clip_THWC for clip in clips])) if clips else torch.empty(0)
    jitter = None
    if clips and clips[0].jitter:
        jitter = Jitter(
            **{f"{name}_B": torch.tensor([clip.jitter[name] for clip in clips]) for name in clips[0].jitter}
        )
    return Batch(
        pixels,
        torch.tensor([clip.label for clip in clips]),
        torch.tensor([clip.flip for clip in clips]) if any(clip.flip for clip in clips) else None,
        jitter,
        tuple(clip.row_index for clip in clips),
        unreadable,
    )


def _only(items: list[Views | Unreadable]) -> Views | Unreadable:
    return items[0]


def _read(reader: Reader, row_index: int, row: Row, indices: np.ndarray) -> np.ndarray | Unreadable:
    """Frames, or the failure with the file's path and the cause, whatever it was."""
    try:
        return reader.read(row, indices)
    except DecodeError as error:
        return Unreadable(row_index, error)
    except Exception as error:
        cause = f"frames {indices.tolist()} cannot be read: {type(error).__name__}: {error}"
        return Unreadable(row_index, DecodeError(row.path, cause), skippable=not isinstance(error, MemoryError))


@contextmanager
def _naming(row: Row) -> Iterator[None]:
    """An error that is no fault of the file is a fault of the program, never skipped; it says at which video, too."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This happened with {row.path} ({row.id}).")
        raise
