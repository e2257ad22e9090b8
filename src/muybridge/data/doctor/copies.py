"""Copies among the videos of a set: the same file, the same frames coded again, and mirror images of these.

Exact copies have the same hash. Near ones are found in three steps, each for what the one before let through.

1. All pairs, by matrix products in blocks: the mean picture (24 x 24 pixels of brightness) must correlate by 0.9, and so
   must by 0.4 how the picture departs from that mean in four parts of the video (8 x 8 cells), unless both hardly move.
2. The few that are left are decoded again, at 96 x 96 pixels, and laid over each other in time: in seconds, at every start
   that fits, and stretched to the same length.
3. They are copies where the difference that is left is what coding takes, or less (10 squared levels, and a fifth of the
   energy of what moves). Videos of one studio share the background, but not what moves in front of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.stores.parallel import in_order
from muybridge.runtime import processors
from muybridge.runtime.console import progress
from muybridge.video import DecodeError, FileReader, Row, packs
from muybridge.video.arrays import SUFFIX as ARRAY
from muybridge.video.scaling import scaled

Kind = Literal["exact", "near", "mirrored"]

ALIKE = 0.9
"""Least correlation of the mean pictures of a copy."""
MOVES_ALIKE = 0.4
"""Least correlation of how two pictures depart from their means."""
HARDLY_MOVES = 3.0
"""Root mean square in levels of what departs from the mean, below which its form says nothing."""
BLANK = 5.0
"""Contrast in levels below which a picture has nothing to be recognised by."""
CODING, MOVING = 10.0, 0.2
"""Squared levels of difference that coding takes, and the share of the energy of what moves."""
OF_CONTRAST = 0.45
"""Largest difference, as a share of the contrast."""
SIDE = 96
"""Pixels of the sides of frames that are compared."""
MOST_FRAMES = 128
"""Frames of a video that are compared at most, evenly spaced."""
TIMES, STARTS = 12, 40
"""Moments at which two videos are compared, and starts that are tried at most."""
MOST_PAIRS = 30
"""Pairs for each video that are compared at most, the most alike first."""
BLOCK = 1024
TILE = 48
"""Rows whose pairs are compared together; the frames of three tiles are kept, at most 200 MB."""


class Pair(NamedTuple):
    """Two rows that show the same, a before b."""

    a: int
    b: int
    kind: Kind


@dataclass(frozen=True)
class Copies:
    """Copies among the rows of a manifest."""

    pairs: tuple[Pair, ...]
    left_out: int = 0
    """Pairs that look alike and were not compared, as there were too many."""

    def clusters(self, pairs: tuple[Pair, ...] | None = None) -> list[list[int]]:
        """Rows that are copies of each other, by some chain of pairs; the earliest first."""
        parent: dict[int, int] = {}

        def root(row: int) -> int:
            while parent.setdefault(row, row) != row:
                row = parent[row]
            return row

        for pair in self.pairs if pairs is None else pairs:
            low, high = sorted((root(pair.a), root(pair.b)))
            parent[high] = low
        together: dict[int, list[int]] = {}
        for row in sorted(parent):
            together.setdefault(root(row), []).append(row)
        return list(together.values())


def find_copies(manifest: Manifest, looks_N: np.ndarray | None, *, jobs: int | None = None) -> Copies:
    """Find the copies among the rows of a manifest; near ones only with a look at every row (`looks.LOOK`)."""
    exact = _exact(manifest)
    if looks_N is None:
        return Copies(tuple(exact))
    known = {(pair.a, pair.b) for pair in exact}
    candidates, left_out = _candidates(looks_N, known)
    near = _compared(manifest, candidates, jobs or processors.left().jobs)
    return Copies(tuple(sorted([*exact, *near])), left_out)


def same_file(manifest: Manifest) -> list[list[int]]:
    """Rows of one file (by its hash), where there are several."""
    rows_by_hash: dict[bytes, list[int]] = {}
    for row, digest in enumerate(manifest.columns["sha256"].tolist()):
        if digest:
            rows_by_hash.setdefault(digest, []).append(row)
    return [rows for rows in rows_by_hash.values() if len(rows) > 1]


def _exact(manifest: Manifest) -> list[Pair]:
    """Each row with the first that has its hash and its frames."""
    columns, found = manifest.columns, []
    for rows in same_file(manifest):
        first_of: dict[object, int] = {}
        for row in rows:
            path, name = columns["path"][row].decode(), columns["id"][row].decode()
            in_store = path.endswith((ARRAY, packs.SUFFIX))  # there a row's start says nothing of the part
            part = name.rpartition("#")[2] if in_store and "#" in name and not path.endswith(ARRAY) else ""
            start = part if in_store else int(columns["start_frame"][row])
            before = first_of.setdefault((start, int(columns["num_frames"][row])), row)
            if before != row:
                found.append(Pair(before, row, "exact"))
    return found


# --- candidates


def _unit(values_ND: np.ndarray) -> np.ndarray:
    """Rows of length one, about their means; float32."""
    centred_ND = values_ND - values_ND.mean(1, keepdims=True)
    return (centred_ND / np.maximum(np.linalg.norm(centred_ND, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _signatures(looks_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean pictures (N,H,W), departures (N,4,8,8), their root mean squares (N,), and which rows can be recognised (N,)."""
    count, (frames, side) = len(looks_N), looks_N["gray"].shape[1:3]
    means_NHW = np.empty((count, side, side), dtype=np.float32)
    moves_NTHW = np.empty((count, 4, 8, 8), dtype=np.float32)
    rms_N = np.empty(count)
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        gray_NTHW = looks_N["gray"][part].astype(np.float32)
        means_NHW[part] = gray_NTHW.mean(1)
        departs_NTHW = gray_NTHW - means_NHW[part][:, None]
        rms_N[part] = np.sqrt((departs_NTHW**2).mean((1, 2, 3)))
        blocks = departs_NTHW.reshape(len(gray_NTHW), 4, frames // 4, 8, side // 8, 8, side // 8)
        moves_NTHW[part] = blocks.mean((2, 4, 6))
    seen_N = (looks_N["problem"] == b"") & (looks_N["contrast"] >= BLANK)
    return means_NHW, moves_NTHW, rms_N, seen_N


def _candidates(looks_N: np.ndarray, known: set[tuple[int, int]]) -> tuple[list[Pair], int]:
    """Pairs that may be copies, and how many more were left out, the least alike."""
    means_NHW, moves_NTHW, rms_N, seen_N = _signatures(looks_N)
    count = len(looks_N)
    pictures, moves = _unit(means_NHW.reshape(count, -1)), _unit(moves_NTHW.reshape(count, -1))
    still_N = rms_N < HARDLY_MOVES
    found: list[np.ndarray] = []
    for kind, is_mirrored in (("near", False), ("mirrored", True)):
        others = _unit(means_NHW[:, :, ::-1].reshape(count, -1)) if is_mirrored else pictures
        other_moves = _unit(moves_NTHW[..., ::-1].reshape(count, -1)) if is_mirrored else moves
        for start in range(0, count, BLOCK):
            part = slice(start, start + BLOCK)
            alike = pictures[part] @ others[start:].T
            a, b = np.nonzero(np.triu(alike >= ALIKE, 1))
            a, b, value = a + start, b + start, alike[a, b]
            usable = seen_N[a] & seen_N[b]
            a, b, value = a[usable], b[usable], value[usable]
            moving = np.empty(len(a), dtype=np.float32)
            for first in range(0, len(a), 1 << 16):
                few = slice(first, first + (1 << 16))
                moving[few] = np.einsum("nd,nd->n", moves[a[few]], other_moves[b[few]])
            both_still = still_N[a] & still_N[b]
            kept = both_still | (moving >= MOVES_ALIKE)
            score = np.where(both_still, value, moving)
            found.append(np.stack([a[kept], b[kept], np.full(kept.sum(), kind == "mirrored"), score[kept]]))
    a, b, mirrored, score = np.concatenate(found, axis=1)
    order = np.argsort(-score, kind="stable")
    most = MOST_PAIRS * count
    pairs = [
        Pair(int(a[i]), int(b[i]), "mirrored" if mirrored[i] else "near")
        for i in order[:most] if (int(a[i]), int(b[i])) not in known
    ]  # fmt: skip
    return pairs, max(0, len(order) - most)


# --- comparison


class _Clip(NamedTuple):
    """Frames of a video, small, with their times."""

    frames_THW: np.ndarray
    """uint8."""
    coarse_THW: np.ndarray
    """The same in a quarter of the rows and columns, float32."""
    seconds_T: np.ndarray
    length_seconds: float


def _compared(manifest: Manifest, candidates: list[Pair], jobs: int) -> list[Pair]:
    """Candidates that are copies."""
    tiled = sorted(
        candidates, key=lambda pair: (pair.a // TILE, pair.b // TILE, pair)
    )  # what is read serves many pairs

    @lru_cache(maxsize=3 * TILE)
    def clip(row: int) -> _Clip | None:
        return _clip(manifest.row(row))

    def compare(pair: Pair, stop: Callable[[], bool]) -> bool:
        if stop():
            return False
        a, b = clip(pair.a), clip(pair.b)
        return a is not None and b is not None and is_copy(a, b, mirrored=pair.kind == "mirrored")

    found: dict[tuple[int, int], Pair] = {}
    with progress("comparing pairs", len(tiled)) as bar:
        for pair, same in zip(tiled, in_order(compare, tiled, jobs=jobs), strict=True):
            if same and ((pair.a, pair.b) not in found or pair.kind == "near"):
                found[pair.a, pair.b] = pair  # a symmetric picture is its own mirror image
            bar.advance()
    return list(found.values())


def _clip(row: Row) -> _Clip | None:
    """Frames of a row to compare; None where it cannot be read."""
    indices = np.unique(np.linspace(0, row.num_frames - 1, min(MOST_FRAMES, row.num_frames)).astype(np.int64))
    try:
        frames_THW3 = FileReader(short_side=SIDE).read(row, indices)
    except (DecodeError, OSError):
        return None
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    gray_THW = np.stack([np.rint(scaled(frame, (SIDE, SIDE)) @ weights) for frame in frames_THW3]).astype(np.uint8)
    coarse_THW = gray_THW.reshape(-1, SIDE // 4, 4, SIDE // 4, 4).mean((2, 4), dtype=np.float32)
    return _Clip(gray_THW, coarse_THW, (indices + 0.5) / row.fps, row.num_frames / row.fps)


def is_copy(a: _Clip, b: _Clip, *, mirrored: bool) -> bool:
    """Whether two videos show the same, at some start or stretched to one length."""
    longer, shorter = (a, b) if a.length_seconds >= b.length_seconds else (b, a)
    chosen_T = np.unique(((np.arange(TIMES) + 0.5) / TIMES * len(shorter.seconds_T)).astype(np.int64))
    turn = slice(None, None, -1 if mirrored else None)
    coarse_THW = shorter.coarse_THW[chosen_T][..., turn]
    departs_THW, best, at_T = coarse_THW - coarse_THW.mean(0), -2.0, chosen_T
    for times_T in _times(longer, shorter, shorter.seconds_T[chosen_T]):
        nearest_T = np.abs(longer.seconds_T[None] - times_T[:, None]).argmin(1)
        theirs_THW = longer.coarse_THW[nearest_T]
        moving_THW = theirs_THW - theirs_THW.mean(0)
        alike = float((moving_THW * departs_THW).sum() / np.sqrt((moving_THW**2).sum() + 1e-6))
        if alike > best:
            best, at_T = alike, nearest_T
    ours_THW = shorter.frames_THW[chosen_T][..., turn].astype(np.float32)
    theirs_THW = longer.frames_THW[at_T].astype(np.float32)
    energy, contrast = float(ours_THW.var(0).mean()), float(ours_THW.std((1, 2)).mean())
    scale = ours_THW.std() / max(float(theirs_THW.std()), 1e-6)  # brightness and contrast may have been changed
    left_THW = (theirs_THW - theirs_THW.mean()) * scale + ours_THW.mean() - ours_THW
    difference = float((left_THW**2).mean())
    return contrast >= BLANK and difference <= min(CODING + MOVING * energy, (OF_CONTRAST * contrast) ** 2)


def _times(longer: _Clip, shorter: _Clip, times_T: np.ndarray) -> Iterator[np.ndarray]:
    """Moments of the longer video at which the shorter one may lie."""
    spare = longer.length_seconds - shorter.length_seconds
    frame = longer.length_seconds / len(longer.seconds_T)  # rates are rounded, each to its own grid
    count = min(STARTS, int((spare + 2 * frame) / (frame / 2)) + 1)
    for start in np.linspace(-frame, spare + frame, count):
        yield times_T + start
    if spare > 0.03 * longer.length_seconds:
        yield times_T * (longer.length_seconds / shorter.length_seconds)
