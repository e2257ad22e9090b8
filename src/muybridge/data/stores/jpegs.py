"""`frames`: write a set's frames as folders of JPEGs with list files, in the form that the papers' tools use."""

import hashlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.stores.common import (
    Form,
    announce,
    check_form,
    check_unchanged,
    decoded_frames,
    exclusive,
    kept_frames,
    read_record,
    resume_hint,
    stored_rows,
    video_name,
    videos_of,
)
from muybridge.data.stores.parallel import in_order
from muybridge.runtime import processors
from muybridge.runtime.console import progress
from muybridge.runtime.files import sync_folder, within, write_atomic, write_json
from muybridge.text import printable
from muybridge.video import Row
from muybridge.video.jpeg import encode_jpeg, jpeg_size

FORMAT_VERSION = 1
LONGEST_NAME = 180
"""Longest name of a folder in bytes; most systems take 255."""


@dataclass(frozen=True)
class Written:
    """Result of `frames`."""

    path: Path
    videos: int
    frames: int
    bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path)}


def frames(
    manifest: str | Path,
    *,
    out: str | Path,
    short_side: int | None = 256,
    fps: float | None = None,
    quality: int = 90,
    jobs: int | None = None,
) -> Written:
    """Write `out/VIDEO/00001.jpg …` for every video of a manifest, `out/manifest.csv` and a list of every split.

    A list has a line `path start end label` for each row: the numbers of the first and last image, and the index of the
    label in `classes.txt`. `short_side` and `fps` are those of `pack`; `quality` is JPEG's (1 … 100). The same call
    resumes a stopped one. Raises UserError; DecodeError for a video that cannot be read; Interrupted after Ctrl-C.
    """
    started = time.monotonic()
    out, source, jobs = Path(out), Manifest.load(manifest), jobs or processors.left().jobs
    form = check_form(short_side, fps, "jpeg", quality)
    about = {"format_version": FORMAT_VERSION, "source_sha256": source.sha256(), **asdict(form)}
    read_record(out, "frames", about)
    videos = videos_of(source)
    out.mkdir(parents=True, exist_ok=True)
    named = list(zip(videos, _folders(source, videos), strict=True))

    def write(item: tuple[np.ndarray, str], stop: Callable[[], bool]) -> _Folder:
        indices, folder = item
        rows = [source.row(int(index)) for index in indices]
        return _write(within(out, folder), rows, source.text("sha256", indices[:1])[0], form, stop)

    columns = source.plain_columns()
    num_frames = num_bytes = 0
    with exclusive(out), resume_hint(out):
        read_record(out, "frames", about)
        write_json(within(out, "frames.json"), about)
        announce(out, source, videos, form, jobs)
        with progress("writing frames", len(videos)) as bar:
            for (indices, folder), done in zip(named, in_order(write, named, jobs=jobs), strict=True):
                num_frames, num_bytes = num_frames + done.frames, num_bytes + done.bytes
                for index, row in zip(indices, done.rows, strict=True):
                    changed = {**row, "path": folder, "width": done.width, "height": done.height, "seekable": 0}
                    for name, value in changed.items():
                        columns[name][index] = value
                bar.advance()
        written = from_columns(
            columns, classes=source.classes, root=out, mirror=source.mirror, reversed_pairs=source.reversed_pairs,
            official_splits=source.official_splits, where=str(out),
        )  # fmt: skip
        written.save(within(out, "manifest.csv"))
        _write_lists(out, written)
    return Written(out, len(videos), num_frames, num_bytes, time.monotonic() - started)


@dataclass(frozen=True)
class _Folder:
    """A video's folder of images."""

    rows: list[dict[str, Any]]
    frames: int
    bytes: int
    width: int
    height: int


def _write(folder: Path, rows: Sequence[Row], sha256: str, form: Form, stop: Callable[[], bool]) -> _Folder:
    """Write a video's folder, complete or not at all; a complete one is kept."""
    kept = kept_frames(rows, form.fps)
    images = [folder / f"{number:05d}.jpg" for number in range(1, len(kept) + 1)]
    check_unchanged(rows[0], sha256)
    size = _size_of(images)
    if size is None:
        partial = within(folder.parent, f".{folder.name}.partial")
        for old in (folder, partial):
            if old.is_dir():
                shutil.rmtree(old)
        partial.mkdir(parents=True)
        for image, frame in zip(images, decoded_frames(rows, kept, form.short_side, stop), strict=True):
            (partial / image.name).write_bytes(encode_jpeg(frame, form.quality))
        partial.replace(folder)
        sync_folder(folder.parent)
        size = _size_of(images)
        assert size is not None, "they were just written"
    num_bytes = sum(image.stat().st_size for image in images)
    return _Folder(stored_rows(rows, kept, form.fps), len(kept), num_bytes, *size)


def _size_of(images: list[Path]) -> tuple[int, int] | None:
    """Width and height of the first image; None where any is missing or empty."""
    try:
        return jpeg_size(images[0].read_bytes()) if all(image.stat().st_size for image in images) else None
    except (OSError, ValueError):
        return None


def _folders(source: Manifest, videos: list[np.ndarray]) -> list[str]:
    """Folder of each video, named as its file; without the extension where nothing else has or holds that name."""
    names = [video_name(source, indices) for indices in videos]
    whole = [
        "/".join(_folder_name(part) for part in PurePosixPath(name).parts if part not in ("/", ".")) or "_"
        for name in names
    ]
    short = [PurePosixPath(name).with_suffix("").as_posix() for name in whole]
    above = {parent.as_posix() for name in whole for parent in PurePosixPath(name).parents}
    taken = Counter(short) + Counter(name for name, other in zip(whole, short, strict=True) if name != other)
    folders: list[str] = []
    used = {"manifest.csv", "manifest.csv.json", "frames.json", "classes.txt", *_list_names(source)}
    for plain, name in zip(short, whole, strict=True):
        chosen = plain if taken[plain] == 1 and plain not in above else name
        while chosen in used or chosen in above:
            chosen += "~"
        used.add(chosen)
        folders.append(chosen)
    return folders


def _folder_name(part: str) -> str:
    """Name of a folder for a part of a path: no parent folder, no line break, not too long for the system."""
    name = "_" if part == ".." else re.sub(r"[\r\n]", "_", part)
    if len(name.encode("utf-8", "surrogateescape")) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}-{digest}"


def _list_names(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Names of the list files, each with its split and the manifest's column."""
    return {
        f"{split}{column.removeprefix('split')}.txt": (split, column)
        for column in manifest.split_columns
        for split in ("train", "val", "test")
    }


def _write_lists(out: Path, manifest: Manifest) -> None:
    write_atomic(within(out, "classes.txt"), "".join(f"{printable(name)}\n" for name in manifest.classes))
    paths, labels = manifest.text("path").tolist(), manifest.labels().tolist()
    starts = manifest.columns["start_frame"] + 1
    ends = manifest.columns["start_frame"] + manifest.columns["num_frames"]
    for name, (split, column) in _list_names(manifest).items():
        rows = np.flatnonzero(manifest.text(column) == split)
        lines = [f"{paths[i]} {starts[i]} {ends[i]} {labels[i]}\n" for i in rows]
        if lines:
            write_atomic(within(out, name), "".join(lines))
