"""Labelled clips in one array: checked, and where needed converted to a file that can be mapped into memory.

A `.npy` of uint8 (N,T,H,W,3) stays where it is. Everything else becomes `NAME.frames.npy` beside the manifest.
"""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muybridge.data.prepare.inspection import VideoRow
from muybridge.data.prepare.lists import class_names, in_order, names_by_number, numbered_classes
from muybridge.errors import UserError, nearest
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import partial_name, sync_folder
from muybridge.video import DecodeError
from muybridge.video.arrays import SUFFIX, mapped

Values = str | Path | Sequence[object] | np.ndarray
"""Values for the clips, one each: a `.npy` file, or the values themselves."""

_CLIPS = ("clips", "x", "videos", "video", "frames", "data")
_LABELS = ("labels", "label", "y")
_CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class Clips:
    """Rows of a manifest, one for each clip."""

    root: Path
    rows: list[VideoRow]
    classes: list[str]
    """Names of the classes in order."""


def labelled_clips(
    source: str | Path | np.ndarray,
    labels: Values | None,
    *,
    groups: Values | None = None,
    classes: str | Path | Sequence[str] | None = None,
    min_frames: int = 1,
    image_fps: float,
    out: Path,
) -> Clips:
    """Rows for the clips of an array: a `.npy`, a `.npz` that may hold the labels too, or an array in memory.

    Labels are whole numbers, one-hot rows or names. `classes`: names of the numbers, or a file with a line for each.
    Raises UserError.
    """
    with _opened(source, out) as (clips, where, file, labels_inside):
        _check_layout(clips, where)
        if clips.shape[1] < min_frames:
            raise UserError(
                f"{where}: its clips have {clips.shape[1]} frames, and at least {min_frames} are needed. Lower "
                "--min-frames, or give longer clips"
            )
        if labels is None and labels_inside is None:
            raise UserError(
                "--arrays: the labels of its clips are missing. Give --labels FILE.npy, or an array `labels` in the "
                ".npz"
            )
        values = labels_inside if labels is None else _values(labels, "labels")
        assert values is not None
        names, order = _names(values, classes, len(clips))
        group_names = (
            _texts(_values(groups, "groups"), "groups", len(clips)) if groups is not None else [""] * len(clips)
        )
        path = out.with_name(f"{out.stem}.frames.npy")
        if file is not None and clips.dtype == np.uint8 and clips.shape[-1] == 3 and clips.flags.c_contiguous:
            path = file
        else:
            if file is not None and path.resolve() == file.resolve():
                raise UserError(f"{path}: it would be converted onto itself. Choose another --out")
            _convert(clips, path, where)
            log(f"{where} was written to {path} as uint8 {(*clips.shape[:4], 3)}")
    clips_NTHW3 = mapped(path)
    num_clips, num_frames, height, width, _ = clips_NTHW3.shape
    name = out.stem if isinstance(source, np.ndarray) else Path(source).stem
    rows = []
    with progress("reading clips", num_clips) as bar:
        for n, (label, group) in enumerate(zip(names, group_names, strict=True)):
            digest = hashlib.sha256(np.ascontiguousarray(clips_NTHW3[n]).data).hexdigest()
            fields = (f"{name}#{n}", path.name, label, group, "", n * num_frames, num_frames)
            rows.append(VideoRow(*fields, image_fps, width, height, digest))
            bar.advance()
    return Clips(path.parent, rows, order)


@contextmanager
def _opened(
    source: str | Path | np.ndarray, out: Path
) -> Iterator[tuple[np.ndarray, str, Path | None, np.ndarray | None]]:
    """Map an array of clips into memory.

    Yields the array, its name for messages, the file that holds it alone, and the labels stored with it.
    """
    if isinstance(source, np.ndarray):
        yield source, "the array", None, None
        return
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file. Name a .npy or .npz file")
    if not zipfile.is_zipfile(path):
        yield mapped(path), str(path), path if path.suffix == SUFFIX else None, None
        return
    # Arrays inside a .npz cannot be mapped; the one of clips is unpacked for a while.
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        clips_name, labels_name = _chosen(names, path)
        unpacked = partial_name(out.with_name(f"{out.stem}.unpacked.npy"))
        try:
            labels = None if labels_name is None else np.array(_unpacked(archive, labels_name, unpacked, path))
            yield _unpacked(archive, clips_name, unpacked, path), f"{path}: {clips_name}", None, labels
        finally:
            unpacked.unlink(missing_ok=True)


def _chosen(names: list[str], path: Path) -> tuple[str, str | None]:
    """Names of the clips and of the labels among the arrays in a .npz."""
    labels = [name for name in names if name.lower() in _LABELS]
    others = [name for name in names if name not in labels]
    clips = [name for name in others if name.lower() in _CLIPS] or others
    if len(clips) != 1 or len(labels) > 1:
        raise UserError(
            f"{path}: it holds the arrays {', '.join(names) or '(none)'}; one of clips ({', '.join(_CLIPS)}) and one "
            f"of labels ({', '.join(_LABELS)}) are read. For other names, save the array alone: np.save('clips.npy', "
            "…)"
        )
    return clips[0], labels[0] if labels else None


def _unpacked(archive: zipfile.ZipFile, name: str, target: Path, path: Path) -> np.ndarray:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        needed, free = archive.getinfo(f"{name}.npy").file_size, shutil.disk_usage(target.parent).free
        if needed > free:
            raise UserError(
                f"{path}: unpacked, {name} takes {needed / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are free. Free "
                "some space, or choose an --out on another disk"
            )
        with archive.open(f"{name}.npy") as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file)
        return mapped(target)
    except DecodeError as error:
        raise DecodeError(path, f"{name} {error.reason}") from None
    except zipfile.BadZipFile as error:
        raise DecodeError(path, f"{name} is damaged: {error}") from None


def _check_layout(clips: np.ndarray, where: str) -> None:
    """Check for (N,T,H,W,3), or without colour (N,T,H,W) or (N,T,H,W,1). Raises UserError with the needed change."""
    shape = clips.shape
    is_gray = len(shape) == 4 and shape[-1] != 3
    if is_gray or (len(shape) == 5 and shape[-1] in (1, 3)):
        if 0 in shape:
            raise UserError(f"{where}: it is empty (its shape is {shape}). Give at least one clip")
        return
    fault = f"it has the shape {shape}, not (N,T,H,W,3): clips, frames, rows, columns, red green blue"
    if len(shape) == 5 and (shape[1] in (1, 3) or shape[2] in (1, 3)):
        axes = (0, 2, 3, 4, 1) if shape[1] in (1, 3) else (0, 1, 3, 4, 2)
        raise UserError(f"{where}: {fault}. Put its channels last: clips.transpose{axes}")
    if len(shape) == 4:
        raise UserError(f"{where}: {fault}. For one clip: clips[None] (images are not clips)")
    raise UserError(f"{where}: {fault}. Give it these axes")


def _chunks(clips: np.ndarray) -> Iterator[np.ndarray]:
    """A few clips at a time, so that memory stays flat."""
    step = max(1, _CHUNK_BYTES // max(1, clips[0].nbytes))
    for start in range(0, len(clips), step):
        yield np.asarray(clips[start : start + step])


def _brightness(clips: np.ndarray, where: str) -> float:
    """Factor that scales the values to 0 … 255. Raises UserError for a range that is neither that nor 0 … 1."""
    if clips.dtype == np.uint8:
        return 1.0
    if clips.dtype == np.bool_:
        return 255.0
    if clips.dtype.kind not in "iuf":
        raise UserError(
            f"{where}: it is of type {clips.dtype}, which no pixels have. Save pixels as uint8, or as numbers from 0 "
            "to 1 or from 0 to 255"
        )
    extremes = np.array([(chunk.min(), chunk.max()) for chunk in _chunks(clips)], dtype=np.float64)
    least, most = float(extremes[:, 0].min()), float(extremes[:, 1].max())
    if clips.dtype.kind == "f" and least >= 0 and most <= 1:
        return 255.0
    if least >= 0 and (2 <= most <= 255 or (most <= 255 and clips.dtype.kind != "f")):
        return 1.0
    raise UserError(
        f"{where}: it has values from {least:g} to {most:g}. Give pixels from 0 to 1 or from 0 to 255, before any "
        "normalisation (training does that itself)"
    )


def _convert(clips: np.ndarray, target: Path, where: str) -> None:
    """Write clips as uint8 (N,T,H,W,3), a few at a time, completely or not at all."""
    brightness = _brightness(clips, where)
    num_clips, num_frames, height, width = clips.shape[:4]
    shape = (num_clips, num_frames, height, width, 3)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(target)
    try:
        with partial.open("xb") as file, progress("writing clips", num_clips) as bar:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for chunk in _chunks(clips):
                if chunk.dtype != np.uint8:
                    chunk = np.rint(chunk.astype(np.float32) * brightness).astype(np.uint8)
                file.write(np.broadcast_to(chunk.reshape(*chunk.shape[:4], -1), (len(chunk), *shape[1:])).tobytes())
                bar.advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _values(given: Values, what: str) -> np.ndarray:
    """Array of one value for each clip, from a file or as given."""
    if isinstance(given, str | Path):
        return np.array(mapped(given))
    try:
        return np.asarray(given)
    except ValueError as error:
        raise UserError(f"{what}: not one value for each clip: {error}. Give one value a clip") from None


def _texts(values: np.ndarray, what: str, num_clips: int) -> list[str]:
    """One string for each clip, from strings or whole numbers. Raises UserError."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) != num_clips:
        raise UserError(
            f"{what}: their shape is {values.shape}, and there are {num_clips} clips. Give one value for each clip"
        )
    if values.dtype.kind == "S":
        return [value.decode("utf-8") for value in values.tolist()]
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "Uiub":
        raise UserError(f"{what}: they are of type {values.dtype}. Give names or whole numbers")
    return [str(value) for value in (values.astype(np.int64) if values.dtype.kind == "b" else values).tolist()]


def _names(
    values: np.ndarray, classes: str | Path | Sequence[str] | None, num_clips: int
) -> tuple[list[str], list[str]]:
    """Class name of every clip, and all names in order."""
    given = class_names(Path(classes)) if isinstance(classes, str | Path) else list(classes) if classes else None
    valid_names = None if given is None else in_order(given)
    if values.ndim == 2 and values.shape[1] > 1:
        wrong = np.flatnonzero(((values != 0).sum(1) != 1) | (values.max(1) != 1))
        if len(wrong):
            raise UserError(
                f"labels: row {wrong[0]} of shape {values.shape} is not one-hot. Give rows with one 1 among 0"
            )
        values = values.argmax(1)
    texts = _texts(values, "labels", num_clips)
    if values.dtype.kind in "US":
        order = valid_names or sorted(set(texts))
        for n, text in enumerate(texts):
            if text not in order:
                raise UserError(
                    f"labels: the label of clip {n} is '{text}', which is not a class. {nearest(text, order)}"
                )
        return texts, order
    numbers = [int(text) for text in texts]
    by_number = numbered_classes(numbers) if given is None else names_by_number(given, set(numbers))
    for n, number in enumerate(numbers):
        if number < 0 or number not in by_number:
            valid = f" to {len(valid_names) - 1} for {len(valid_names)} classes" if valid_names is not None else ""
            raise UserError(f"labels: the label of clip {n} is {number}. Count labels from 0{valid}")
    return [by_number[number] for number in numbers], list(by_number.values())
