"""One look at every video: its header, and a few frames, small. What the doctor's checks share.

Sixteen frames are decoded, evenly spaced over the row. Kept are their brightness in 24 x 24 pixels, the median colours of
24 x 32 cells, and how much the picture changed from each to the next. A row takes about ten kilobytes, on disk while it is
used, so a second call over unchanged files decodes nothing and memory stays flat.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.stores.common import videos_of
from muybridge.data.stores.parallel import in_order
from muybridge.errors import UserError
from muybridge.runtime import processors
from muybridge.runtime.console import progress
from muybridge.runtime.files import allocate, check_regular, clear_partials, partial_name, used_up, within
from muybridge.runtime.locks import locked
from muybridge.video import DecodeError, FileReader, Row, decode
from muybridge.video.readers import medium_of
from muybridge.video.scaling import scaled

FRAMES = 16
SIDE = 24
"""Pixels of the sides of a frame's brightness; the aspect is not kept."""
STILL = (24, 32)
"""Rows and columns of the median colours."""
WAIT_SECONDS = 3600.0
"""Longest wait for another doctor of the same set."""
READ_SIDE = 64
"""Short side in pixels at which frames are decoded and compared with the one before."""
VERSION = 3

LOOK = np.dtype([
    ("key", "S40"),
    ("problem", "S400"),
    ("container", "S32"), ("codec", "S16"), ("has_audio", "?"), ("bytes", "i8"), ("declared_frames", "i8"),
    ("gray", "u1", (FRAMES, SIDE, SIDE)),
    ("still", "u1", (*STILL, 3)),
    ("changes", "f4", (FRAMES - 1,)),
    ("contrast", "f4"),
])  # fmt: skip
"""A row's look. changes: mean absolute difference of the pixels of one looked-at frame and the next, in levels of 255;
NaN where both are the same frame of a short video.
contrast: the largest standard deviation of the pixels of any frame. problem: why it could not be read; else empty."""

_GRAY = np.array([0.299, 0.587, 0.114])


def look_at(manifest: Manifest, *, cache: Path, jobs: int | None = None) -> np.ndarray:
    """Look at every row of a manifest: (N,) of `LOOK`, kept in the file `cache` for the next call.

    Files that cannot be read have a `problem`. Raises UserError for a manifest of stored vectors.
    """
    videos = videos_of(manifest)
    keys_N = np.array([_key(manifest.row(index)) for index in range(len(manifest))], dtype="S40")
    known = _kept(cache)
    if known is not None and np.array_equal(known["key"], keys_N):
        return known
    at = {} if known is None else {key: index for index, key in enumerate(known["key"].tolist())}
    todo = [indices for indices in videos if any(keys_N[index] not in at for index in indices)]

    def look(indices: np.ndarray, stop: Callable[[], bool]) -> np.ndarray:
        looks = np.zeros(len(indices), dtype=LOOK)
        if not stop():
            _look([manifest.row(int(index)) for index in indices], looks)
        return looks

    with locked(cache.parent, "looks at the videos", keep=False, wait_seconds=WAIT_SECONDS):
        clear_partials(cache.parent)
        partial = partial_name(within(cache.parent, cache.name))
        try:
            looks_N = np.lib.format.open_memmap(partial, mode="w+", dtype=LOOK, shape=(len(manifest),))
            allocate(partial)
            for index, key in enumerate(keys_N.tolist()):
                if known is not None and key in at:
                    looks_N[index] = known[at[key]]
            with progress("looking at videos", len(todo)) as bar:
                looked = in_order(look, todo, jobs=jobs or processors.left().jobs)
                for indices, looks in zip(todo, looked, strict=True):
                    looks["key"] = keys_N[indices]
                    looks_N[indices] = looks
                    bar.advance()
            looks_N.flush()
            partial.replace(cache)
        except OSError as error:
            if not (reason := used_up(error, cache.parent)):
                raise
            raise UserError(f"{cache.parent}: {reason}. Free some space, or name another page by --out") from None
        finally:
            partial.unlink(missing_ok=True)
    return looks_N


def indices_of(num_frames: int, count: int = FRAMES) -> np.ndarray:
    """Frames that are looked at: the middle of each of `count` even parts."""
    return ((np.arange(count) + 0.5) * num_frames / count).astype(np.int64)


def _key(row: Row) -> str:
    """Hash that changes with a row's file or part."""
    stamp: tuple[int, ...] = ()
    with suppress(OSError):
        status = os.stat(row.path)
        stamp = status.st_size, status.st_mtime_ns
    return hashlib.sha1(repr((VERSION, row.path, row.start_frame, row.num_frames, stamp)).encode()).hexdigest()


def _kept(cache: Path) -> np.ndarray | None:
    """Looks of an earlier call; None for a file that is not such."""
    if cache.is_symlink() or not cache.is_file():
        return None
    with suppress(Exception):  # whatever the file is: it is made again
        kept = np.lib.format.open_memmap(cache, mode="r")
        if kept.dtype == LOOK and kept.ndim == 1:
            return kept
    return None


def _look(rows: Sequence[Row], looks: np.ndarray) -> None:
    """Look at the rows of one file, in one pass over it."""
    asked = [row.start_frame + indices_of(row.num_frames) for row in rows]
    distinct = np.unique(np.concatenate(asked))
    whole = rows[0]._replace(start_frame=0, num_frames=int(distinct[-1]) + 1)
    try:
        check_regular(Path(whole.path.partition("::")[0]))
        if medium_of(whole.path) is decode:
            header = decode.header(whole.path)
            looks["container"], looks["codec"] = header.container, header.codec
            looks["has_audio"], looks["declared_frames"] = header.has_audio, header.declared_frames
            looks["bytes"] = os.path.getsize(whole.path)
        frames_THW3 = FileReader(short_side=READ_SIDE).read(whole, distinct)
    except (DecodeError, UserError, OSError) as error:
        looks["problem"] = DecodeError.of(whole.path, error).reason.encode()[:400]
        return
    for indices, look in zip(asked, looks, strict=True):
        clip_THW3 = frames_THW3[np.searchsorted(distinct, indices)]
        gray_THW = clip_THW3 @ _GRAY
        change_T = np.abs(np.diff(gray_THW, axis=0)).mean((1, 2))
        look["changes"] = np.where(np.diff(indices) > 0, change_T, np.nan)
        look["contrast"] = gray_THW.std((1, 2)).max()
        look["gray"] = np.rint(np.stack([scaled(frame, (SIDE, SIDE)) for frame in clip_THW3]) @ _GRAY)
        look["still"] = scaled(np.median(clip_THW3, axis=0).astype(np.uint8), STILL[::-1])
