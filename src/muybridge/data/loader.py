"""Batches of training clips and views of test videos, made by worker processes.

The main process decides order and batches. So any worker count gives the same batches, and training can start at any step.
"""

import atexit
import functools
import multiprocessing
import operator
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from multiprocessing import forkserver
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from muybridge.data.inputs import Input
from muybridge.data.order import balanced_batches, num_batches, pass_batches
from muybridge.data.transforms import Jitter
from muybridge.data.views import Batch, ClipKey, TrainClips, Unreadable, VideoViews, ViewKey, Views, _Clip, _mapped
from muybridge.errors import UserError
from muybridge.runtime.console import log
from muybridge.runtime.launch import safe_children


class WorkerLost(UserError):
    """A worker process was ended from outside."""

    @staticmethod
    def of(error: RuntimeError) -> "WorkerLost | None":
        """Recognise torch's error about a lost worker; None for any other error."""
        if "DataLoader worker (pid" not in str(error):
            return None
        return WorkerLost.because(str(error).splitlines()[0].strip().rstrip("."))

    @staticmethod
    def because(what: str) -> "WorkerLost":
        """The error, with what was seen of it."""
        return WorkerLost(
            f"runtime.num_workers: a process that reads videos was ended from outside ({what}), perhaps for lack of "
            "memory. Use fewer: --set runtime.num_workers=1"
        )


@contextmanager
def _watched() -> Iterator[None]:
    """Raise WorkerLost for a worker process that has ended, also while it sends or starts."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        if str(error).startswith("Caught ") or hasattr(error, "__notes__"):  # the program's own, with a video
            raise
        raise WorkerLost.because(f"{type(error).__name__}: a pipe broke") from error
    except RuntimeError as error:
        lost = WorkerLost.of(error)
        if lost is None:
            raise
        raise lost from error


class _Keys:
    """Batch sampler: keys from a given step on, without end; of each batch the share of one rank."""

    def __init__(
        self,
        clips: TrainClips,
        rows: np.ndarray,
        *,
        batch_size: int,
        first_step: int,
        rank: int,
        ranks: int,
        balanced: bool,
    ) -> None:
        self.clips, self.rows, self.batch_size, self.balanced = clips, rows, batch_size, balanced
        self.first_step, self.rank, self.ranks = first_step, rank, ranks

    def __iter__(self) -> Iterator[list[ClipKey]]:
        per_pass = num_batches(len(self.rows), self.batch_size)
        batches: list[list[tuple[int, int]]] = []
        for step in count(self.first_step):
            number, batch = divmod(step, per_pass)
            if batch == 0 or not batches:
                batches = self._pass(number)
            yield [self.clips.key(draw, row) for draw, row in batches[batch]]

    def _pass(self, number: int) -> list[list[tuple[int, int]]]:
        """Batches of a pass, of each the share of this rank: clips by the number that keys their draws, and their row."""
        cut = {"batch_size": self.batch_size, "number": number, "seed": self.clips.seed}
        if self.balanced:
            batches = balanced_batches(self.rows, self.clips.labels_N[self.rows], **cut)
        else:
            batches = [np.stack([np.full_like(rows, number), rows], axis=1) for rows in pass_batches(self.rows, **cut)]
        shards = [np.array_split(batch, self.ranks)[self.rank] for batch in batches]
        return [[(int(draw), int(row)) for draw, row in shard] for shard in shards]


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
    balanced: bool = False,
) -> Generator[Batch, None, None]:
    """Batches of the steps first_step, first_step + 1, … without end; of each, the share of process `rank` of `ranks`.

    `balanced`: each class occurs equally often. Closing it ends the worker processes. A video that cannot be read raises its
    DecodeError or, with `on_error` skip, is left out of its batch. Raises UserError where a single process has no video left;
    one of several may have none.
    """
    keys = _Keys(clips, rows, batch_size=batch_size, first_step=first_step, rank=rank, ranks=ranks, balanced=balanced)
    items = _started(
        _loader(clips, keys, functools.partial(_collate, clips.input), num_workers, pin_memory, prefetch=4)
    )
    try:
        for batch in _received(items, pin_memory):
            for failure in batch.unreadable:
                if on_error == "stop" or not failure.skippable:
                    raise failure.error
            if not batch.rows_B and ranks == 1:
                number, first = len(batch.unreadable), batch.unreadable[0].error
                raise UserError(f"videos: none of the {number} of a step could be read. Check the first: {first}")
            yield batch
    finally:
        _end_workers(items)


def micro_batches(batch: Batch, size: int | None, *, largest: int) -> Iterator[Batch]:
    """Cut a batch into parts of at most `size` clips and of even size.

    The number of parts is that of a batch of `largest` clips, so that processes whose shares differ by one clip run the
    network equally often.
    """
    if not batch.rows_B:
        return
    if size is None or largest <= size:
        yield batch
        return
    for indices in np.array_split(np.arange(len(batch.rows_B)), num_batches(largest, size)):
        if len(indices):
            of_part = slice(int(indices[0]), int(indices[-1]) + 1)
            part = _mapped(batch, operator.itemgetter(of_part))
            yield replace(part, rows_B=batch.rows_B[of_part])


class ViewLoader:
    """Views of rows, made by worker processes that live until `close` or the end of the `with` block."""

    def __init__(self, views: VideoViews, *, num_workers: int, pin_memory: bool = False) -> None:
        self.views = views
        self._keys: list[list[ViewKey]] = []  # of the loader's next pass
        self._pin_memory = pin_memory
        self._loader = _loader(  # one video ahead: all its views may be hundreds of megabytes
            views, self._keys, _only, num_workers, pin_memory, prefetch=1, keep_workers=True
        )
        self._items: Iterator[Any] = iter(())

    def batches(self, rows: Sequence[int] | np.ndarray) -> Iterator[Views | Unreadable]:
        """The views of each row, or the reason why it has none, in order."""
        self._keys[:] = [[self.views.key(int(row))] for row in rows]
        self._items = _started(self._loader)
        yield from _received(self._items, self._pin_memory)

    def close(self) -> None:
        """End the worker processes."""
        _end_workers(self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


P = TypeVar("P", Batch, Views)


def moved(part: P, device: torch.device, *, non_blocking: bool = False) -> P:
    """Copy a batch or views to the device; unchanged where they are there already."""
    return _mapped(part, lambda tensor: tensor.to(device, non_blocking=non_blocking))


def ahead_on_device(parts: Iterator[P], device: torch.device) -> Iterator[P]:
    """Copy each part to a CUDA device while the one before computes, from pinned memory and on a separate stream.

    For other devices the parts pass unchanged.
    """
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
    """Make a DataLoader; each worker keeps `prefetch` items ready."""
    if num_workers and _shared_memory_is_small():
        collate = functools.partial(_pickled, collate)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context=_start_method() if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        prefetch_factor=prefetch if num_workers else None,
        persistent_workers=keep_workers and num_workers > 0,
        pin_memory=pin_memory,
        in_order=True,
    )


@functools.cache
def _start_method() -> Literal["forkserver", "spawn"]:
    """Start method of workers: on Linux a server process imports torch once, and every worker is a fork of it.

    The server has no thread, no CUDA and none of this process's memory. Its workers start in milliseconds, where each
    spawned one takes seconds of a core for its imports.
    """
    if sys.platform != "linux":  # macOS cannot fork safely, and Windows not at all
        return "spawn"
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    return "forkserver"


LEAST_SHARED_BYTES = 2**30
"""Workers with less shared memory send their results through pipes: the system kills a worker that runs out of it."""


@functools.cache
def _shared_memory_is_small() -> bool:
    """Report once that shared memory is small, as in containers (64 MB by default)."""
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
    """Items from the workers, through shared memory or pipes. Raises WorkerLost."""
    while True:
        with _watched():
            try:
                item = next(items)
            except StopIteration:
                return
        if isinstance(item, bytes):
            item = pickle.loads(item)  # from a worker of this process
            item = item.pin_memory() if pin_memory and not isinstance(item, Unreadable) else item
        yield item


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    if not loader.num_workers:
        return iter(loader)
    with _watched():
        with _ignored_by_children(signal.SIGINT), safe_children():
            if _start_method() == "spawn":
                return iter(loader)
            forkserver.ensure_running()  # it returns before the server has imported anything
        return iter(loader)


def _end_workers(items: Any) -> None:
    """End the processes of a loader now: torch waits until its iterator is collected, which a raised error delays."""
    if hasattr(items, "_shutdown_workers"):
        with suppress(RuntimeError):  # a worker that failed while it was sending
            items._shutdown_workers()


@contextmanager
def _ignored_by_children(number: int) -> Iterator[None]:
    """Let processes started here ignore a signal from their first instruction on.

    Ctrl-C reaches the whole group, but the trainer answers it: it saves, then ends the workers.
    """
    try:
        before = signal.signal(number, signal.SIG_IGN)
    except ValueError:  # only the main thread may set signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


def _start_worker(worker: int) -> None:
    threading.Thread(target=_end_with_trainer, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    # Skip the interpreter's shutdown: it aborts the process while the queue's thread is sending, as it may be when
    # training is stopped.
    atexit.register(os._exit, 0)


def _end_with_trainer() -> None:
    """End this process when the trainer is killed: nobody would end it, and torch might wait forever."""
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        trainer.join()
        os._exit(1)


def _collate(input: Input, items: list[_Clip | Unreadable]) -> Batch:
    clips = [item for item in items if isinstance(item, _Clip)]
    unreadable = tuple(item for item in items if isinstance(item, Unreadable))
    pixels = input.collated([clip.clip_THWC for clip in clips]) if clips else torch.empty(0)
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
