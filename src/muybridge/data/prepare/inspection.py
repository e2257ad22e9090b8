"""Decode every video once: count its frames, hash it, and locate its labelled parts."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from muybridge.data.prepare.folders import Item
from muybridge.data.stores.parallel import in_order
from muybridge.errors import UserError
from muybridge.runtime.console import progress
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
) -> Inspection:
    """Decode every distinct video once, in parallel, in processes that a damaged file may take down.

    Only a record of each stays in memory. Raises UserError where the machine is at fault, not a file.
    """
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

    results: list[VideoRow | str] = [""] * len(items)
    warnings: dict[str, None] = {}  # each once
    with SafeReader(limits) as safe, progress("decoding", len(videos)) as bar:
        for indices, (rows, messages) in zip(
            videos, in_order(look, videos, jobs=jobs or os.cpu_count() or 1, give_up=safe.close), strict=True
        ):
            for index, result in zip(indices, rows, strict=True):
                results[index] = result
            warnings |= dict.fromkeys(messages)
            bar.advance()
    return Inspection(
        [result for result in results if isinstance(result, VideoRow)],
        [
            {"path": item.path, "reason": result}
            for item, result in zip(items, results, strict=True)
            if isinstance(result, str)
        ],
        list(warnings),
    )


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
