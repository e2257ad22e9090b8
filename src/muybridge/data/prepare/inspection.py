"""Decode every video once: count its frames, hash it, and locate its labelled parts."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from typing_extensions import TypedDict

from muybridge.data.prepare.folders import Item
from muybridge.data.stores.parallel import in_order
from muybridge.errors import UserError
from muybridge.runtime import processors
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import read_as, within, write_json
from muybridge.video import DecodeError
from muybridge.video.limits import Limits
from muybridge.video.safe import Looked, MachineFault, Missing, SafeReader


@dataclass(frozen=True, slots=True)
class VideoRow:
    """A video, or a part of one, that can be used: a row of the manifest."""

    id: str
    path: str
    label: str
    group: str
    split: str
    start_frame: int
    num_frames: int
    fps: float
    width: int
    height: int
    sha256: str
    seekable: bool = False


class _Video(TypedDict):
    rows: list[VideoRow | str]
    warnings: list[str]


class _Part(TypedDict):
    """Content of the file of a part."""

    videos: list[_Video]


@dataclass(frozen=True)
class Inspection:
    """Usable and rejected items of a set."""

    rows: list[VideoRow]
    """Usable items, in order."""
    rejected: list[dict[str, str]]
    """Items that cannot be used: path and reason."""
    warnings: list[str]


def inspect(
    root: Path,
    items: Sequence[Item],
    *,
    min_frames: int,
    image_fps: float,
    limits: Limits | None = None,
    jobs: int | None = None,
    shard: tuple[int, int] = (0, 1),
    parts: Path | None = None,
) -> Inspection | None:
    """Decode every distinct video once, in parallel, in processes that a damaged file may take down.

    Only a record of each stays in memory. `shard`: index, from 0, and number of the calls that share the videos by the
    folder `parts`; None is returned while not all of them have ended. Raises UserError where the machine is at fault, not a
    file.
    """
    number, count = shard
    order = sorted(range(len(items)), key=lambda index: items[index].path)
    videos = [list(together) for _, together in groupby(order, key=lambda index: items[index].path)]
    existing = {path for indices in videos if (path := root / items[indices[0]].path).exists()}

    def look(indices: list[int], stop: Callable[[], bool]) -> tuple[list[VideoRow | str], list[str]]:
        part = [items[index] for index in indices]
        if stop():
            return [], []
        path = root / part[0].path
        try:
            looked = safe.look(path, image_fps=image_fps)
        except MachineFault as error:
            raise UserError(
                f"{error}. The file is not at fault, so nothing was written. Repeat the command when {root} can be read again"
            ) from None
        except Missing as error:
            if path in existing:
                raise UserError(
                    f"{path}: it was there and has gone away (a share, a disk?). Nothing was written. Repeat the command when "
                    f"{root} can be read again"
                ) from None
            return [error.reason for _ in part], []
        except DecodeError as error:
            image = "" if error.path == str(path) else f"{os.path.basename(error.path)}: "
            return [f"{image}{error.reason}" for _ in part], []
        return _rows(part, looked, min_frames, image_fps)

    own = videos[number::count]
    seen: list[_Seen] = []
    if parts is None or not _part_file(parts, number, count).exists():
        with SafeReader(limits) as safe, progress("decoding", len(own)) as bar:
            for looked_at in in_order(look, own, jobs=jobs or processors.left().jobs, give_up=safe.close):
                seen.append(looked_at)
                bar.advance()
        if parts is not None:
            _save_part(_part_file(parts, number, count), seen)
    if parts is not None:
        by_part = _loaded_parts(parts, count)
        if by_part is None:
            return None
        seen = [by_part[place % count][place // count] for place in range(len(videos))]
    results: list[VideoRow | str] = [""] * len(items)
    warnings: dict[str, None] = {}  # each once
    for indices, (rows, messages) in zip(videos, seen, strict=True):
        for index, result in zip(indices, rows, strict=True):
            results[index] = result
        warnings |= dict.fromkeys(messages)
    return Inspection(
        [result for result in results if isinstance(result, VideoRow)],
        [
            {"path": item.path, "reason": result}
            for item, result in zip(items, results, strict=True)
            if isinstance(result, str)
        ],
        list(warnings),
    )


_Seen = tuple[list[VideoRow | str], list[str]]
"""Rows of a video, or the reasons for rejecting them; and warnings."""


def _part_file(parts: Path, number: int, count: int) -> Path:
    return within(parts, f"{number + 1}-of-{count}.json")


def _save_part(file: Path, seen: Sequence[_Seen]) -> None:
    videos = [
        {"rows": [row if isinstance(row, str) else asdict(row) for row in rows], "warnings": messages}
        for rows, messages in seen
    ]
    write_json(file, {"format_version": 1, "videos": videos})


def _loaded_parts(parts: Path, count: int) -> list[list[_Seen]] | None:
    """All that the calls saw; None while some are missing. Raises UserError for a damaged file."""
    files = [_part_file(parts, number, count) for number in range(count)]
    missing = sum(not file.exists() for file in files)
    if missing:
        log(
            f"{count - missing} of {count} parts are inspected; the call that inspects the last one writes the manifest"
        )
        return None
    try:
        contents = [read_as(_Part, file) for file in files]
    except UserError:
        if all(file.exists() for file in files):
            raise
        return None  # another call saw the last one, too, and has joined them
    return [[(video["rows"], video["warnings"]) for video in content["videos"]] for content in contents]


def no_frame_rate(image_fps: float) -> str:
    """Warning for frames that are images or arrays."""
    return f"images and arrays say no frame rate: {image_fps:g} frames a second are taken (--image-fps)"


def _rows(
    items: Sequence[Item], looked: Looked, min_frames: int, image_fps: float
) -> tuple[list[VideoRow | str], list[str]]:
    """Rows of the items in one video, or the reasons for rejecting them; and warnings about the video."""
    video, numbers = looked.video, looked.numbers
    warnings = [no_frame_rate(image_fps)] if looked.says_no_rate else []
    if video.num_frames < video.declared_frames - 1:
        warnings.append(
            f"{items[0].path}: the header says {video.declared_frames} frames, {video.num_frames} can be decoded"
        )
    if video.odd:
        warnings.append(f"{items[0].path}: {video.odd}")
    results: list[VideoRow | str] = []
    cut = [item for item in items if item.may_be_cut and _is_cut(item, looked)]
    for item in items:
        if len(cut) > 1 and item in cut:
            results.append(
                f"it is one clip, and the list names {len(cut)} parts of that video: nobody can say which it is"
            )
            continue
        if item in cut:
            item = replace(item, start_seconds=None, end_seconds=None)
        start, end = _part(item, looked)
        if end - start < min_frames:
            part = "" if item.id == item.path else " in this part"
            results.append(
                f"too short: {max(0, end - start)} frames{part}, at least {min_frames} are needed (--min-frames)"
            )
            continue
        if item.last_number is not None and item.last_number > numbers[-1]:
            warnings.append(f"{item.id}: the list ends with frame {item.last_number}, {len(numbers)} can be decoded")
        if item.end_seconds is not None and item.end_seconds > 1.5 * (long := video.num_frames / video.fps) + 1:
            warnings.append(
                f"{item.id}: the list ends at {item.end_seconds:g} seconds, the video at {long:.1f}. Are these frames? "
                "Their columns are called start_frame and end_frame"
            )
        if item.first_number is not None and end - start == video.num_frames:
            item = replace(item, first_number=None, last_number=None)  # not a part
        fields = (item.id, item.path, item.label, item.group, item.split, start, end - start)
        results.append(VideoRow(*fields, video.fps, video.width, video.height, looked.sha256, video.seekable))
    return results, warnings


def _is_cut(item: Item, looked: Looked) -> bool:
    """Whether a video is longer by at most a second than the part that is asked for."""
    if item.end_seconds is None:
        return False
    return looked.video.num_frames / looked.video.fps <= item.end_seconds - (item.start_seconds or 0.0) + 1


def _part(item: Item, looked: Looked) -> tuple[int, int]:
    """First frame of the labelled part and the one past its last, by numbers or by display time."""
    if item.first_number is not None and item.last_number is not None:
        return bisect_left(looked.numbers, item.first_number), bisect_right(looked.numbers, item.last_number)
    times_seconds = looked.video.times_seconds
    start = 0 if item.start_seconds is None else int(np.searchsorted(times_seconds, item.start_seconds - 1e-6))
    if item.end_seconds is None:
        return start, looked.video.num_frames
    return start, int(np.searchsorted(times_seconds, item.end_seconds - 1e-6))
