"""Create, lock and resume output folders: the common part of `pack` and `frames`.

It also selects videos and frames, checks the stored form, estimates the disk space, and checks that the source has not
changed since it was prepared.
"""

import errno
import hashlib
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any, cast

import numpy as np
from typing_extensions import TypedDict

from muybridge.data.inputs import held_by
from muybridge.data.manifest import Manifest
from muybridge.data.stores.parallel import in_order
from muybridge.errors import Interrupted, UserError, nearest
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import as_kind, clear_partials, is_partial, read_as, sha256_file
from muybridge.runtime.locks import locked
from muybridge.text import duration, gib, plural
from muybridge.video import DecodeError, Row, arrays, images, packs
from muybridge.video.decode import times_seconds
from muybridge.video.packs import Codec
from muybridge.video.readers import medium_of

QUALITIES = {"jpeg": (1, 90, 100), "h264": (0, 23, 51)}
"""Lowest, default and highest value: JPEG's quality, H.264's CRF."""
MAX_SHORT_SIDE = 4096
SAMPLE_VIDEOS, SAMPLE_FRAMES = 8, 48
"""Videos, and frames of each, that an estimate codes."""


@dataclass(frozen=True)
class Form:
    """Form in which frames are stored."""

    short_side: int | None
    fps: float | None
    codec: Codec
    quality: int


def check_form(
    short_side: int | None,
    fps: float | None,
    codec: str,
    quality: int | None,
    *,
    qualities: Mapping[str, tuple[int, int, int]] = QUALITIES,
) -> Form:
    """Check the options of a stored form and fill in the quality. Raises UserError.

    `qualities`: lowest, default and highest of each codec that there is.
    """
    if codec not in qualities:
        raise UserError(f"--codec: '{codec}' is unknown. {nearest(codec, qualities)}")
    least, default, greatest = qualities[codec]
    if quality is not None and least == greatest:
        raise UserError(f"--quality {quality}: {codec} loses nothing and has no quality. Leave it out")
    if quality is not None and not least <= quality <= greatest:
        raise UserError(
            f"--quality {quality}: out of range. Give {least} to {greatest} for {codec} (default {default})"
        )
    if short_side is not None and not 1 <= short_side <= MAX_SHORT_SIDE:
        raise UserError(f"--short-side {short_side}: out of range. Give 1 to {MAX_SHORT_SIDE} pixels")
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"--fps {fps}: not a frame rate. Give a number above 0")
    return Form(short_side, fps, cast(Codec, codec), default if quality is None else quality)


def check_shard(text: str | None) -> tuple[int, int]:
    """Index, from 0, and number of the calls that share a work: (1, 4) of "2/4", and (0, 1) without. Raises UserError."""
    if text is None:
        return 0, 1
    number, slash, count = text.partition("/")
    are_numbers = all(re.fullmatch("[0-9]{1,6}", part) for part in (number, count))
    if not (slash and are_numbers and 1 <= int(number) <= int(count)):
        raise UserError(f"--shard: '{text}' is not i/n. For the second of four calls: --shard 2/4")
    return int(number) - 1, int(count)


def videos_of(manifest: Manifest) -> list[np.ndarray]:
    """Row indices of each video, in the manifest's order.

    Rows that are parts of one file are one video; in a pack or an array every row is a video. Raises UserError for a store
    of vectors or of flow, which has no frames.
    """
    held = held_by(manifest)
    if held is not None:
        raise UserError(
            f"videos: it is a store that holds {held.about} and needs no other form. Name the manifest of the videos"
        )
    return _units(manifest)


def _units(manifest: Manifest) -> list[np.ndarray]:
    paths = manifest.columns["path"]
    is_store = np.char.endswith(paths, packs.SUFFIX.encode()) | np.char.endswith(paths, b".npy")
    units = np.where(is_store, manifest.columns["id"], paths)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[inverse]
    order = np.argsort(rank, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(rank[order])) + 1)


def covered_frames(rows: Sequence[Row]) -> np.ndarray:
    """Indices of the frames of a video that lie in any of its rows."""
    return np.unique(np.concatenate([np.arange(row.start_frame, row.start_frame + row.num_frames) for row in rows]))


def kept_frames(rows: Sequence[Row], fps: float | None) -> np.ndarray:
    """Indices of the frames of a video to store: all that lie in one of its rows.

    With `fps`, the first frame of every 1/fps seconds, and at least the first of every row.
    """
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


def decoded_frames(
    rows: Sequence[Row], kept: np.ndarray, short_side: int | None, stop: Callable[[], bool] = lambda: False
) -> Iterator[np.ndarray]:
    """Decode the kept frames of a video in order, each (H,W,3) uint8.

    Raises DecodeError where the video ends before the last, KeyboardInterrupt where `stop()` is true.
    """
    path, done = rows[0].path, 0
    position = int(kept[0]) - 1
    for position, frame in enumerate(
        medium_of(path).frames(path, start_frame=int(kept[0]), short_side=short_side), start=int(kept[0])
    ):
        if stop():
            raise KeyboardInterrupt
        if position == kept[done]:
            yield frame
            done += 1
            if done == len(kept):
                return
    raise DecodeError(path, f"frame {kept[-1]} was asked for, but decoding gives {position + 1} frames")


def stored_rows(rows: Sequence[Row], kept: np.ndarray, fps: float | None) -> list[dict[str, Any]]:
    """Position of each row among the kept frames, as fields of a manifest."""
    fields = []
    for row in rows:
        start = int(np.searchsorted(kept, row.start_frame))
        end = int(np.searchsorted(kept, row.start_frame + row.num_frames))
        rate = row.fps if fps is None else round((end - start) * row.fps / row.num_frames, 4)
        fields.append({"id": row.id, "start_frame": start, "num_frames": end - start, "fps": rate})
    return fields


@contextmanager
def resume_hint(out: Path, *, smaller: str = "a smaller --short-side or --fps") -> Iterator[None]:
    """Say how to resume after Ctrl-C or on a full disk: raises Interrupted, UserError. `smaller`: what takes less space."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped; finished files stay in {out}. Rerun the same command to resume") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{out}: {error.strerror}. Finished files stay there. Free some space and repeat the command to resume, "
            f"or use {smaller}"
        ) from None


@contextmanager
def exclusive(folder: Path, *, wait_seconds: float = 0.5) -> Iterator[None]:
    """Lock a folder and clear partial files. Raises UserError where another process holds the lock for longer."""
    with locked(folder, "writes it", wait_seconds=wait_seconds):
        clear_partials(folder)
        yield


class _File(TypedDict):
    name: str


class _Finished(TypedDict):
    """Fields of the record of a finished pack."""

    files: list[_File]
    frames: int
    bytes: int
    psnr_db: dict[str, float]


def read_record(out: Path, noun: str, about: dict[str, Any], *, finished: Any = _Finished) -> dict[str, Any] | None:
    """Read `NOUN.json` in the folder `out`; None for a folder that is new or empty.

    `finished`: what a finished one has. Raises UserError where the record differs from `about`, and for a folder with
    other content.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: it is a file. Name the folder to make by --out")
    if not (out / f"{noun}.json").exists():
        if out.exists() and any(not (path.name == ".lock" or is_partial(path.name)) for path in out.iterdir()):
            raise UserError(f"{out}: it is not empty and holds no {noun}. Choose another --out")
        return None
    record: dict[str, Any] = read_as(dict[str, Any], out / f"{noun}.json")
    if record.get("finished"):
        as_kind(finished, record, str(out / f"{noun}.json"))
    for name, value in about.items():
        if record.get(name) != value:
            what = "another manifest" if name == "source_sha256" else f"{name} {record.get(name)}, not {value}"
            raise UserError(f"{out}: it was begun with {what}. Choose another --out, or delete it")
    return record


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of storing a set."""

    frames: int
    bytes: int
    seconds: float


def estimate(source: Manifest, videos: list[np.ndarray], form: Form, jobs: int) -> Estimate:
    """Estimate the cost of storing a set from the first frames of a few videos."""
    chosen = [videos[i] for i in np.unique(np.linspace(0, len(videos) - 1, SAMPLE_VIDEOS).astype(int))]
    num_frames = num_bytes = 0
    started = time.monotonic()
    for indices in chosen:
        rows = [source.row(int(index)) for index in indices]
        kept = kept_frames(rows, form.fps)[:SAMPLE_FRAMES]
        with tempfile.TemporaryFile() as scratch:
            coded = packs.encode(
                decoded_frames(rows, kept, form.short_side), scratch, codec=form.codec, quality=form.quality
            )
        num_frames, num_bytes = num_frames + len(coded.keys), num_bytes + coded.offsets[-1]
    seconds = (time.monotonic() - started) / num_frames
    total = 0
    for indices in videos:
        rows = [source.row(int(index)) for index in indices]
        rate = 1.0 if form.fps is None else min(1.0, form.fps / rows[0].fps)
        total += math.ceil(len(covered_frames(rows)) * rate)
    return Estimate(total, int(total * num_bytes / num_frames), total * seconds / jobs)


def announce(out: Path, source: Manifest, videos: list[np.ndarray], form: Form, jobs: int) -> None:
    """Log the expected time and bytes. Raises UserError where the disk has too little space."""
    expected = estimate(source, videos, form, jobs)
    free_bytes = disk_usage(out).free
    log(
        f"{len(videos)} videos, {expected.frames} frames: about {gib(expected.bytes)} and "
        f"{duration(expected.seconds)} with {jobs} thread(s); {gib(free_bytes)} are free"
    )
    if expected.bytes > free_bytes:
        raise UserError(
            f"{out}: {gib(free_bytes)} are free there, and about {gib(expected.bytes)} are needed. Use a smaller "
            "--short-side or --fps, or a pack with --codec h264"
        )


def video_name(source: Manifest, indices: np.ndarray) -> str:
    """Name of a video: the id of its only row, or the path that its rows share."""
    return str(source.text("path" if len(indices) > 1 else "id", indices[:1])[0])


def check_unchanged(row: Row, sha256: str) -> None:
    """Compare a video with its hash in the manifest; packs check their own. Raises DecodeError where it has changed."""
    medium = medium_of(row.path)
    if not sha256 or medium is packs:
        return
    if medium is images:
        hashes = {images.sha256(row.path)}
    elif not os.path.isfile(row.path):
        return  # opening it reports that
    elif medium is arrays:
        clip = arrays.read_frames(row.path, np.arange(row.start_frame, row.start_frame + row.num_frames))
        hashes = {hashlib.sha256(clip.data).hexdigest()}
        if sha256 not in hashes:
            hashes.add(sha256_file(Path(row.path)))  # an array that was prepared as a single file
    else:
        hashes = {sha256_file(Path(row.path))}
    if sha256 not in hashes:
        raise DecodeError(row.path, "has changed since it was prepared (its hash differs). Prepare the set again")


def check_sources(source: Manifest, *, jobs: int) -> None:
    """Compare every video that a finished store was made of with its hash in the manifest.

    Videos that are gone cannot be compared, and their number is logged. Raises DecodeError for the first that has changed.
    """
    units, hashes = _units(source), source.text("sha256")

    def check(indices: np.ndarray, stop: Callable[[], bool]) -> bool:
        row = source.row(int(indices[0]))
        check_unchanged(row, str(hashes[indices[0]]))
        return os.path.exists(row.path.partition("::")[0])

    gone = 0
    with progress("hashing", len(units)) as bar:
        for is_there in in_order(check, units, jobs=jobs):
            gone += not is_there
            bar.advance()
    if gone:
        words = "is gone, so whether it" if gone == 1 else "are gone, so whether they"
        log(f"{plural(gone, 'video')} of {len(units)} {words} changed is not known")
