"""A store of vectors: what a network computed of every row of a manifest, in few files that are read in place.

    features.json            what computed them, and of what; `finished` once all is there
    manifest.csv             the rows of the source, each where its vectors lie
    vectors-00000.npy        (N,D) of the rows in order; vectors-00001.npy, …
    scores-00000.npy         (N,K) logits beside them, where the network has a classifier
    vectors-00000.json       rows, first vector and checksum of each; written last, so the file is whole
    trained_on.json          hashes of the videos that the network was trained on, where it is a run
    statistics-HASH.npy      mean and deviation of a training split

Which rows a file holds follows from the manifest alone. A file that is being written has its full size from the start, and
a journal of the rows that are in it, so a call that was killed continues behind the last row and ends with the same bytes.
"""

import functools
import hashlib
import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Self

import numpy as np
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from muybridge.data.manifest import FLOW, Manifest, from_columns
from muybridge.data.subsets import training_rows
from muybridge.errors import UserError
from muybridge.runtime.files import (
    allocate,
    check_regular,
    partial_name,
    read_as,
    sync_folder,
    within,
    write_atomic,
    write_json,
)
from muybridge.video import DecodeError, FileReader, Reader, Row, vectors

FORMAT_VERSION = 1
FILE_BYTES = 2**27
"""Bytes of vectors above which a file ends."""
JOURNAL_SECONDS = 2.0
"""Time between two entries of the journal, each after what it names is on the disk."""
KINDS = ("vectors", "scores")
"""Parts of what a store may hold of a row."""
LEAST_STD = 1e-6
"""Smallest deviation that is divided by; a number that varies less stays as it is."""

_Count = Annotated[int, Field(ge=0)]


@with_config(ConfigDict(extra="allow"))
class About(TypedDict):
    """Content of features.json."""

    format_version: Literal[1]
    source: str
    """Name of the network, for people."""
    network: str
    """Hash of the network and of the options that it computed with."""
    source_sha256: str
    """Hash of the source's manifest."""
    manifest: Annotated[str, Field(min_length=1)]
    """Path of the source's manifest, for pictures of its videos."""
    width: Annotated[int, Field(ge=1)]
    dtype: Literal["float32", "float16"]
    classes: list[str] | None
    """Classes of the stored logits."""
    options: dict[str, Any]
    trained_on_sha256: str
    """Digest of the hashes in trained_on.json."""
    finished: NotRequired[bool]
    accuracy: NotRequired[dict[str, Any]]
    change: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """The rows of one file, and how many vectors each has."""

    number: int
    first_row: int
    counts: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its file, without ending."""
        return f"vectors-{self.number:05d}"

    @property
    def length(self) -> int:
        """Vectors in the file."""
        return sum(self.counts)


def parts_of(counts_N: Sequence[int], width: int, dtype: str) -> list[Part]:
    """Cut rows into files: one ends with the row that brings it to FILE_BYTES."""
    parts: list[Part] = []
    first, held = 0, 0
    size_bytes = width * np.dtype(dtype).itemsize
    for row, count in enumerate(counts_N):
        held += count * size_bytes
        if held >= FILE_BYTES or row == len(counts_N) - 1:
            parts.append(Part(len(parts), first, tuple(int(c) for c in counts_N[first : row + 1])))
            first, held = row + 1, 0
    return parts


class PartWriter:
    """Writes the file of a part, row by row; begins behind the last row that a journal names."""

    def __init__(self, out: Path, part: Part, *, widths: Mapping[str, int], dtype: str) -> None:
        """`widths`: "vectors" and, with a classifier, "scores", by the length of their rows."""
        self._out, self._part, self._widths = out, part, widths
        self._journal = within(out, f"{part.name}.journal")
        self.checksums = self._journaled()
        self._files: dict[str, np.memmap] = {}
        for kind, width in widths.items():
            path = self._begun(kind)
            if self.checksums:
                self._files[kind] = np.lib.format.open_memmap(path, mode="r+")
            else:
                kind_dtype = dtype if kind == "vectors" else "float32"
                check_regular(path)
                self._files[kind] = np.lib.format.open_memmap(
                    path, mode="w+", dtype=kind_dtype, shape=(part.length, width)
                )
                allocate(path)
        self._at = sum(part.counts[: len(self.checksums)])
        self._new: list[int] = []
        self._noted_at = time.monotonic()

    def _begun(self, kind: str) -> Path:
        return within(self._out, f"{kind}-{self._part.number:05d}.part")

    def _journaled(self) -> list[int]:
        """Checksums of the first rows that are on the disk as the journal has them, which is cut to these."""
        if not self._journal.exists():
            return []
        check_regular(self._journal)
        lines = self._journal.read_bytes().split(b"\n")[:-1]  # the last one may have been cut
        checksums = self._confirmed([int(line) if re.fullmatch(rb"[0-9]{1,10}", line) else -1 for line in lines])
        write_atomic(self._journal, b"".join(b"%d\n" % checksum for checksum in checksums))
        return checksums

    def _confirmed(self, checksums: list[int]) -> list[int]:
        """The first of these that are those of the rows on the disk."""
        stored: dict[str, np.ndarray] = {}
        for kind, width in self._widths.items():
            try:
                check_regular(self._begun(kind))
                stored[kind] = np.lib.format.open_memmap(self._begun(kind), mode="r")
            except (OSError, ValueError):
                return []
            if stored[kind].shape != (self._part.length, width):
                return []
        start = 0
        for number, (checksum, count) in enumerate(zip(checksums, self._part.counts, strict=False)):
            if _checksum(stored, slice(start, start + count)) != checksum:
                return checksums[:number]
            start += count
        return checksums[: len(self._part.counts)]

    @property
    def rows_done(self) -> int:
        """Rows of the part that are written."""
        return len(self.checksums) + len(self._new)

    def add(self, **arrays: np.ndarray) -> None:
        """Write the vectors (and scores) of the next row."""
        count = self._part.counts[self.rows_done]
        for kind, values in arrays.items():
            assert values.shape == (count, self._widths[kind]), (kind, values.shape, count)
            self._files[kind][self._at : self._at + count] = values
        self._new.append(_checksum(self._files, slice(self._at, self._at + count)))
        self._at += count
        if time.monotonic() - self._noted_at >= JOURNAL_SECONDS:
            self._note()

    def _note(self) -> None:
        for file in self._files.values():
            file.flush()
        if self._new:
            with self._journal.open("ab") as journal:
                journal.write(b"".join(b"%d\n" % checksum for checksum in self._new))
        self.checksums += self._new
        self._new = []
        self._noted_at = time.monotonic()

    def close(self) -> None:
        """Make the finished file one of the store."""
        self._note()
        self._files.clear()
        for kind in self._widths:
            self._begun(kind).replace(within(self._out, f"{kind}-{self._part.number:05d}.npy"))
        sync_folder(self._out)
        write_json(within(self._out, f"{self._part.name}.json"), {
            "first_row": self._part.first_row, "counts": list(self._part.counts), "crc32": self.checksums,
        })  # fmt: skip
        self._journal.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._files and self._new:
            self._note()


def _checksum(files: Mapping[str, np.ndarray], rows: slice) -> int:
    """Checksum of the vectors of a row, and of its scores where it has some."""
    checksum = 0
    for kind in KINDS:
        if kind in files:
            checksum = zlib.crc32(np.ascontiguousarray(files[kind][rows]).data, checksum)
    return checksum


def begun_bytes(out: Path, parts: Sequence[Part]) -> int:
    """Bytes that files which are being written take already."""
    begun = [out / f"{kind}-{part.number:05d}.part" for part in parts for kind in KINDS]
    return sum(path.stat().st_size for path in begun if path.is_file())


class _Written(TypedDict):
    first_row: _Count
    counts: list[_Count]
    crc32: list[_Count]


def is_written(out: Path, part: Part, kinds: Sequence[str]) -> bool:
    """Whether the files of a part are there. Raises UserError for those of another store."""
    file = out / f"{part.name}.json"
    if not file.exists() or not all((out / f"{kind}-{part.number:05d}.npy").exists() for kind in kinds):
        return False
    written = read_as(_Written, file)
    if (written["first_row"], tuple(written["counts"])) != (part.first_row, part.counts):
        raise UserError(f"{file}: it is of another store. Delete {out}, or choose another --out")
    return True


def check(out: Path, part: Part, source: Manifest, kinds: Sequence[str]) -> None:
    """Read the files of a part again. Raises DecodeError that names the first row whose vectors or scores have changed."""
    path, start = out / f"{part.name}.npy", 0
    stored = {kind: vectors.vectors_of(out / f"{kind}-{part.number:05d}.npy") for kind in kinds}
    if any(len(values) != part.length for values in stored.values()):
        raise DecodeError(path, f"it does not hold the {part.length} vectors that were written. {_again(out, part)}")
    checksums = read_as(_Written, out / f"{part.name}.json")["crc32"]
    if len(checksums) != len(part.counts):
        raise DecodeError(out / f"{part.name}.json", f"it is damaged. {_again(out, part)}")
    for offset, (count, checksum) in enumerate(zip(part.counts, checksums, strict=True)):
        if _checksum(stored, slice(start, start + count)) != checksum:
            name = source.text("id", np.array([part.first_row + offset]))[0]
            raise DecodeError(path, f"the vectors of '{name}' are not those that were written. {_again(out, part)}")
        start += count


def _again(out: Path, part: Part) -> str:
    return f"Delete {out / part.name}.json and repeat the command: this file alone is computed again"


def finish(
    out: Path, source: Manifest, about: Mapping[str, Any], parts: Sequence[Part], *, fps_N: np.ndarray
) -> Manifest:
    """Write the manifest of a store whose files are all there. `fps_N`: vectors per second of each row."""
    columns = source.plain_columns()
    counts_N = np.concatenate([part.counts for part in parts])
    columns["path"] = np.concatenate([np.full(len(part.counts), f"{part.name}.npy", dtype=object) for part in parts])
    columns["start_frame"] = np.concatenate([np.cumsum([0, *part.counts[:-1]]) for part in parts])
    columns["num_frames"], columns["fps"] = counts_N, fps_N
    columns["width"], columns["height"] = np.full(len(counts_N), about["width"]), np.ones(len(counts_N), dtype=np.int64)
    columns["seekable"] = np.zeros(len(counts_N), dtype=np.int64)
    manifest = from_columns(
        columns, classes=source.classes, root=out, mirror=source.mirror, reversed_pairs=source.reversed_pairs,
        made_by=about["network"], official_splits=source.official_splits, where=str(out),
    )  # fmt: skip
    manifest.save(within(out, "manifest.csv"))
    return manifest


# --- a finished store


@dataclass(frozen=True)
class CheckedReader:
    """A reader that compares the checksum of a row of a store the first time the row is read. Other files are read alone."""

    files: Reader
    _checked: set[tuple[str, int]] = field(default_factory=set)

    def read(self, row: Row, indices: np.ndarray) -> np.ndarray:
        """Vectors at `indices` as (T,D) float32. Raises DecodeError, which names a row that is not as it was written."""
        key = row.path, row.start_frame
        if key not in self._checked:
            _check_row(row)
            self._checked.add(key)
        return self.files.read(row, indices)


def means(manifest: Manifest, rows: Sequence[int]) -> np.ndarray:
    """Mean vector (N,D) of each of these rows of a store, checked as it is read. Raises DecodeError."""
    reader = CheckedReader(FileReader())
    every_row = map(manifest.row, rows)
    return np.stack([reader.read(row, np.arange(row.num_frames)).astype(np.float64).mean(0) for row in every_row])


def _check_row(row: Row) -> None:
    file = Path(row.path)
    written = file.with_suffix(".json")
    if not re.fullmatch(r"vectors-[0-9]{5}\.npy", file.name) or not written.is_file():
        return
    checksums = _checksums(str(written), written.stat().st_mtime_ns)
    if (row.start_frame, row.num_frames) not in checksums:
        return  # a part of what was stored: it has no checksum of its own
    rows = slice(row.start_frame, row.start_frame + row.num_frames)
    stored = {"vectors": vectors.vectors_of(file)}
    scores = file.with_name(file.name.replace("vectors", "scores"))
    if scores.exists():
        stored["scores"] = vectors.vectors_of(scores)
    if _checksum(stored, rows) != checksums[row.start_frame, row.num_frames]:
        raise DecodeError(
            file, f"the vectors of '{row.id}' are not those that were written. Delete {written} and repeat `muybridge "
            "features`: this file alone is computed again"
        )  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _checksums(file: str, mtime_ns: int) -> dict[tuple[int, int], int]:
    """Checksums by first vector and number of vectors of a row."""
    written = read_as(_Written, Path(file))
    firsts = np.cumsum([0, *written["counts"][:-1]]).tolist()
    return dict(zip(zip(firsts, written["counts"], strict=True), written["crc32"], strict=False))


def about(manifest: Manifest) -> dict[str, Any] | None:
    """Content of features.json of the store of vectors that a manifest lies in; None for others. Raises UserError."""
    file = manifest.root / "features.json"
    if not manifest.made_by or manifest.made_by.startswith(FLOW):
        return None
    if not file.exists():
        raise UserError(f"{file}: it is missing, and says what computed these vectors. Restore it from the store")
    found: dict[str, Any] = read_as(About, file)
    if not found.get("finished"):
        raise UserError(f"{manifest.root}: `muybridge features` has not finished it. Rerun the same command to resume")
    if found["network"] != manifest.made_by:
        raise UserError(
            f"{file}: the vectors were computed by {found['network']}, but the manifest is of {manifest.made_by}. Use the "
            "manifest of this store"
        )
    return found


def trained_on(manifest: Manifest) -> np.ndarray:
    """Hashes of the videos that the network of a store was trained on. Raises UserError where they are not known."""
    found = about(manifest)
    if found is None:
        return np.array([], dtype=np.str_)
    file = manifest.root / "trained_on.json"
    hashes = read_as(list[str], file)
    if digest(hashes) != found["trained_on_sha256"]:
        raise UserError(
            f"{file}: it does not list the videos that the network was trained on, as its hash differs. Restore it from "
            "the store"
        )
    return np.array(hashes, dtype=np.str_)


def statistics(manifest: Manifest, fold: int | None, *, share: float = 1.0, seed: int = 0) -> np.ndarray:
    """Mean and deviation (2,D) of every number over all vectors of the training split. Raises DecodeError.

    `share`, `seed`: of a share of it (`muybridge.data.subsets.training_rows`). They are kept beside the vectors, under a name
    that says which rows they are of.
    """
    rows = training_rows(manifest, fold, share=share, seed=seed)
    key = hashlib.sha256(json.dumps([manifest.made_by, manifest.text("id", rows).tolist()]).encode()).hexdigest()[:16]
    file = manifest.root / f"statistics-{key}.npy"
    if manifest.made_by and file.is_file() and not file.is_symlink():
        with suppress(Exception):  # whatever the file is: it is computed again
            kept = np.load(file, allow_pickle=False)
            is_sound = kept.dtype == np.float64 and kept.shape == (2, int(manifest.columns["width"][0]))
            if is_sound and np.isfinite(kept).all() and (kept[1] >= 0).all():
                return np.asarray(kept)
    computed = _statistics(manifest, rows)
    if manifest.made_by:
        with suppress(OSError):  # a store that may not be written to is read all the same
            _save_array(within(manifest.root, file.name), computed)
    return computed


def _statistics(manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    def read(index: int) -> np.ndarray:
        row = manifest.row(index)
        indices_T = np.arange(row.start_frame, row.start_frame + row.num_frames)
        return vectors.read_frames(row.path, indices_T).astype(np.float64)

    near_D = read(int(rows[0]))[0]  # sums about a vector of the set: no digits are lost where the mean is large
    total_D, squares_D, count = np.zeros_like(near_D), np.zeros_like(near_D), 0
    for index in rows:
        from_near_TD = read(int(index)) - near_D
        total_D += from_near_TD.sum(0)
        squares_D += (from_near_TD**2).sum(0)
        count += len(from_near_TD)
    mean_D = total_D / count
    return np.stack([near_D + mean_D, np.sqrt(np.maximum(squares_D / count - mean_D**2, 0.0))])


def _save_array(path: Path, values: np.ndarray) -> None:
    partial = partial_name(path)
    try:
        with partial.open("xb") as file:
            np.save(file, values)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def each_row(out: Path, parts: Sequence[Part], kind: str = "vectors") -> Iterator[np.ndarray]:
    """Vectors (T,D) of each row, in order, or its scores (T,K), as float32. Raises DecodeError."""
    for part in parts:
        stored_ND = vectors.vectors_of(out / f"{kind}-{part.number:05d}.npy")
        for values_TD in np.split(stored_ND, np.cumsum(part.counts[:-1])):
            yield np.asarray(values_TD, dtype=np.float32)


def digest(sha256: Sequence[str]) -> str:
    """Hash of a list of hashes, in any order."""
    return hashlib.sha256(json.dumps(sorted(sha256)).encode()).hexdigest()


def save_trained_on(out: Path, sha256: Sequence[str]) -> None:
    """Write the hashes of the videos that the network was trained on."""
    write_atomic(within(out, "trained_on.json"), json.dumps(sorted(sha256)) + "\n")
