"""Rewriting a set for training: what `pack` and `frames` share. Which videos and frames, in which form, whether there is
room, whether the source is still what was prepared; and folders that are begun, locked and gone on with."""

import errno
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any, cast

import numpy as np
from typing_extensions import TypedDict

from muybridge.data.manifest import Manifest
from muybridge.errors import Interrupted, UserError, nearest
from muybridge.runtime.console import log
from muybridge.runtime.files import as_kind, clear_partials, is_partial, read_as, sha256_file
from muybridge.runtime.locks import locked
from muybridge.video import DecodeError, Row, arrays, images, packs
from muybridge.video.decode import times_seconds
from muybridge.video.packs import Codec
from muybridge.video.readers import medium_of

QUALITIES = {"jpeg": (1, 90, 100), "h264": (0, 23, 51)}
"""Least, usual and greatest: JPEG's quality, H.264's CRF."""
MAX_SHORT_SIDE = 4096
SAMPLE_VIDEOS, SAMPLE_FRAMES = 8, 48
"""What an estimate codes."""
GIB = 2**30


@dataclass(frozen=True)
class Form:
    """How frames are stored."""

    short_side: int | None
    fps: float | None
    codec: Codec
    quality: int


def check_form(short_side: int | None, fps: float | None, codec: str, quality: int | None) -> Form:
    """Raises UserError for what cannot be."""
    if codec not in QUALITIES:
        raise UserError(f"--codec is '{codec}'. {nearest(codec, QUALITIES)}")
    least, usual, greatest = QUALITIES[codec]
    if quality is not None and not least <= quality <= greatest:
        raise UserError(f"--quality {quality}: {codec} takes {least} to {greatest}; {usual} is usual")
    if short_side is not None and not 1 <= short_side <= MAX_SHORT_SIDE:
        raise UserError(f"--short-side {short_side}: at least one pixel is needed, and at most {MAX_SHORT_SIDE}")
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"--fps {fps}: a frame rate above 0 is needed")
    return Form(short_side, fps, cast(Codec, codec), usual if quality is None else quality)


def videos_of(manifest: Manifest) -> list[np.ndarray]:
    """The rows of each video, in the manifest's order: rows that are parts of one file are one video. (In a pack or an
    array every row is a video of its own.)"""
    paths = manifest.columns["path"]
    is_store = np.char.endswith(paths, packs.SUFFIX.encode()) | np.char.endswith(paths, b".npy")
    units = np.where(is_store, manifest.columns["id"], paths)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[inverse]
    order = np.argsort(rank, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(rank[order])) + 1)


def covered_frames(rows: Sequence[Row]) -> np.ndarray:
    """Frames of a video that lie in one of its rows."""
    return np.unique(np.concatenate([np.arange(row.start_frame, row.start_frame + row.num_frames) for row in rows]))


def kept_frames(rows: Sequence[Row], fps: float | None) -> np.ndarray:
    """Which frames of a video its rows need: all that lie in one; with `fps` of every 1/fps seconds the first of them,
    and of every row at least the first."""
    covered = covered_frames(rows)
    if fps is None:
        return covered
    times = times_seconds(rows[0].path) if rows[0].seekable else None
    seconds = covered / rows[0].fps if times is None else times[covered]
    slots = np.floor((seconds - seconds[0]) * fps + 1e-6)
    kept = covered[np.diff(slots, prepend=-1.0) > 0]
    starts = np.array([row.start_frame for row in rows])
    ends = starts + [row.num_frames for row in rows]
    without = starts[np.searchsorted(kept, starts) == np.searchsorted(kept, ends)]  # parts shorter than 1/fps seconds
    return np.union1d(kept, without)


def pictures(
    rows: Sequence[Row], kept: np.ndarray, short_side: int | None, stop: Callable[[], bool] = lambda: False
) -> Iterator[np.ndarray]:
    """The kept frames of a video, in order, each (H,W,3) uint8. Raises DecodeError where the video ends before the
    last, KeyboardInterrupt when it is asked to stop."""
    path, done = rows[0].path, 0
    position = int(kept[0]) - 1
    for position, picture in enumerate(
        medium_of(path).frames(path, start_frame=int(kept[0]), short_side=short_side), start=int(kept[0])
    ):
        if stop():
            raise KeyboardInterrupt
        if position == kept[done]:
            yield picture
            done += 1
            if done == len(kept):
                return
    raise DecodeError(path, f"frame {kept[-1]} was asked for, but decoding gives {position + 1} frames")


def stored_rows(rows: Sequence[Row], kept: np.ndarray, fps: float | None) -> list[dict[str, Any]]:
    """Where each row lies among the kept frames."""
    found = []
    for row in rows:
        start = int(np.searchsorted(kept, row.start_frame))
        end = int(np.searchsorted(kept, row.start_frame + row.num_frames))
        rate = row.fps if fps is None else round((end - start) * row.fps / row.num_frames, 4)
        found.append({"id": row.id, "start_frame": start, "num_frames": end - start, "fps": rate})
    return found


@contextmanager
def going_on(out: Path) -> Iterator[None]:
    """Ctrl-C and a full disk say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped; what is whole stays in {out}. The same command goes on from there") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{out}: {error.strerror}. What is whole stays there; with more room the same command goes on. A smaller "
            "--short-side, or --fps, needs less"
        ) from None


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """One process at a time. Raises UserError where another one is at work."""
    with locked(folder, "writes it"):
        clear_partials(folder)
        yield


class _File(TypedDict):
    name: str


class _Finished(TypedDict):
    """What a pack says of itself when it is whole."""

    files: list[_File]
    frames: int
    bytes: int
    psnr_db: dict[str, float]


def begun(out: Path, noun: str, about: dict[str, Any]) -> dict[str, Any] | None:
    """What the folder `out` says of itself in `NOUN.json`; none where nothing was begun. Raises UserError where it is
    something else than `about`."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out names the folder to make")
    if not (out / f"{noun}.json").exists():
        if out.exists() and any(not (path.name == ".lock" or is_partial(path.name)) for path in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no {noun}; choose another --out")
        return None
    known: dict[str, Any] = read_as(dict[str, Any], out / f"{noun}.json")
    if known.get("finished"):
        as_kind(_Finished, known, str(out / f"{noun}.json"))
    for name, value in about.items():
        if known.get(name) != value:
            what = "another manifest" if name == "source_sha256" else f"{name} {known.get(name)}, not {value}"
            raise UserError(f"{out} was begun with {what}; choose another --out, or delete it")
    return known


@dataclass(frozen=True)
class Estimate:
    frames: int
    bytes: int
    seconds: float


def estimated(source: Manifest, videos: list[np.ndarray], form: Form, jobs: int) -> Estimate:
    """From the first frames of a few videos."""
    chosen = [videos[i] for i in np.unique(np.linspace(0, len(videos) - 1, SAMPLE_VIDEOS).astype(int))]
    num_frames = num_bytes = 0
    started = time.monotonic()
    for indices in chosen:
        rows = [source.row(int(index)) for index in indices]
        kept = kept_frames(rows, form.fps)[:SAMPLE_FRAMES]
        with tempfile.TemporaryFile() as scratch:
            coded = packs.encode(pictures(rows, kept, form.short_side), scratch, codec=form.codec, quality=form.quality)
        num_frames, num_bytes = num_frames + len(coded.keys), num_bytes + coded.offsets[-1]
    seconds = (time.monotonic() - started) / num_frames
    total = 0
    for indices in videos:
        rows = [source.row(int(index)) for index in indices]
        rate = 1.0 if form.fps is None else min(1.0, form.fps / rows[0].fps)
        total += math.ceil(len(covered_frames(rows)) * rate)
    return Estimate(total, int(total * num_bytes / num_frames), total * seconds / jobs)


def announce(out: Path, source: Manifest, videos: list[np.ndarray], form: Form, jobs: int) -> None:
    """Say how long it takes and how many bytes. Raises UserError where there is no room for them."""
    estimate = estimated(source, videos, form, jobs)
    free_bytes = disk_usage(out).free
    log(
        f"{len(videos)} videos, {estimate.frames} frames: about {gib(estimate.bytes)} and "
        f"{_duration(estimate.seconds)} with {jobs} thread(s); {gib(free_bytes)} are free"
    )
    if estimate.bytes > free_bytes:
        raise UserError(
            f"{out} has {gib(free_bytes)} free, about {gib(estimate.bytes)} are needed: a smaller --short-side, --fps, or "
            "a pack with --codec h264 needs less"
        )


def video_name(source: Manifest, indices: np.ndarray) -> str:
    return str(source.text("path" if len(indices) > 1 else "id", indices[:1])[0])


def check_unchanged(row: Row, sha256: str) -> None:
    """Is it what `prepare` saw? (A pack's frames are its own; they have a hash there.) Raises DecodeError."""
    medium = medium_of(row.path)
    if not sha256 or medium is packs:
        return
    if medium is images:
        found = {images.sha256(row.path)}
    elif not os.path.isfile(row.path):
        return  # told when it is opened
    elif medium is arrays:
        clip = arrays.read_frames(row.path, np.arange(row.start_frame, row.start_frame + row.num_frames))
        found = {hashlib.sha256(clip.data).hexdigest()}
        if sha256 not in found:
            found.add(sha256_file(Path(row.path)))  # an array that was prepared as a file of its own
    else:
        found = {sha256_file(Path(row.path))}
    if sha256 not in found:
        raise DecodeError(row.path, "is not what was prepared (its hash differs); prepare the set again")


def gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.2f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
