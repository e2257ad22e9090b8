"""Names that a person gives, as the videos that they stand for: files, folders, globs, lists, manifests, standard input."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from muybridge.data.manifest import Manifest
from muybridge.data.prepare.folders import walk
from muybridge.data.sets.base import VIDEOS
from muybridge.errors import UserError
from muybridge.runtime.files import read_text
from muybridge.text import plural
from muybridge.video.arrays import SUFFIX
from muybridge.video.images import is_frame

STANDARD_INPUT = "-"
_CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class Listing:
    """Videos in order, as a predictor takes them."""

    videos: Iterable[Any]
    total: int | None
    """Their number; None: it is known at the end of standard input alone."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of files that are left out, by the reason."""

    def told(self) -> list[str]:
        """A line for each reason for which files are left out."""
        return [f"left out: {plural(count, 'file')} ({reason})" for reason, count in self.left_out.items()]


def listed(names: Sequence[Any]) -> Listing:
    """The videos of several names in order.

    A folder of numbered images is one video. Of another folder all videos at any depth are taken, sorted; a folder without
    any stands for itself. A name with * ? [ is a glob, unless there is such a file. FILE.txt has a path a line, from its own
    folder on; FILE.csv is a manifest; "-" stands for paths on standard input, a line each, from the current folder on. All
    else is one video. Raises UserError for a glob, a list or a manifest that gives no video.
    """
    left_out: Counter[str] = Counter()
    parts: list[Iterable[Any]] = []
    for name in names:
        parts.append(_of(name, left_out) if isinstance(name, str | os.PathLike) else [name])
    counts = [len(part) if isinstance(part, Sequence) else None for part in parts]
    total = None if None in counts else sum(count for count in counts if count is not None)
    return Listing(chain.from_iterable(parts), total, left_out)


def _of(name: str | os.PathLike[str], left_out: Counter[str]) -> Iterable[Any]:
    text = os.fspath(name)
    if text == STANDARD_INPUT:
        return _of_standard_input()
    path = Path(text)
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError):  # a name that no file can have: whoever opens it says so
        return [text]
    if is_folder:
        return _of_folder(path, left_out)
    if not is_there and glob.has_magic(text):
        found = [
            each for each in sorted(glob.glob(text, recursive=True)) if not os.path.isdir(each) or _is_video(Path(each))
        ]
        if not found:
            raise UserError(f"{text}: no file has such a name. Check the pattern, and put it in quotes")
        return found
    if path.suffix == ".txt" and is_there:
        lines = [line for line in read_text(path).splitlines() if line.strip()]
        if not lines:
            raise UserError(f"{path}: it lists no video. Write a path a line")
        return [str(path.parent / line.strip()) for line in lines]
    if path.suffix == ".csv" and is_there:
        return _of_manifest(path)
    return [name]


def _of_standard_input() -> Iterator[str]:
    source = getattr(
        sys.stdin.buffer, "raw", sys.stdin.buffer
    )  # Python cannot end while a thread reads the buffered one
    rest, is_open = b"", True
    while is_open:
        part = source.read(_CHUNK_BYTES)
        is_open = bool(part)
        *lines, rest = (rest + (part or b"\n")).split(b"\n")
        yield from (os.fsdecode(line.rstrip(b"\r")) for line in lines if line.strip())


def _is_video(folder: Path) -> bool:
    """Whether a folder holds the images of one video, and no video's file."""
    names = os.listdir(folder)
    return any(map(is_frame, names)) and not any(Path(name).suffix.lower() in VIDEOS for name in names)


def _of_folder(folder: Path, left_out: Counter[str]) -> list[str]:
    if _is_video(folder):
        return [str(folder)]
    found, strays = walk(folder)
    videos = [path for path in found if path.suffix.lower() in (*VIDEOS, SUFFIX) or (folder / path).is_dir()]
    if not videos:
        return [str(folder)]
    for path in set(found).difference(videos):
        left_out[f"not videos by their names, {path.suffix.lower() or 'without an ending'}"] += 1
    left_out.update(reason for _, reason in strays)
    if hidden := _num_hidden(folder):
        left_out["hidden"] += hidden
    return [str(folder / path) for path in videos]


def _num_hidden(folder: Path) -> int:
    """Number of hidden files and folders; what is inside of a hidden folder does not count."""
    count = 0
    for _, folders, files in os.walk(folder):
        count += sum(name.startswith(".") for name in (*folders, *files))
        folders[:] = [name for name in folders if not name.startswith(".")]
    return count


def _of_manifest(path: Path) -> list[Any]:
    """Rows of a manifest; of one that is the whole of its file the row is called as the file."""
    manifest = Manifest.load(path)
    rows = [manifest.row(index) for index in range(len(manifest))]
    of_file = Counter(row.path for row in rows)
    return [row._replace(id=row.path) if of_file[row.path] == 1 and row.start_frame == 0 else row for row in rows]
