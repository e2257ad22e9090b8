"""`flow`: compute the optical flow of a set once, into a store that stands where a manifest does.

    flow.json                how it was computed, and of what; `finished` once all is there
    manifest.csv             the rows of the source, each where its fields lie
    frames-00000.pack        fields of motion in 8 bits (`muybridge.video.packs`, `muybridge.video.fields`)
    .frames-00001/           of a file that is being made: a small pack for each video that is done

Field i of a video leads from its frame i to frame i + `frame_distance`, so n frames have n - `frame_distance` fields. A row
that is a part of a file has the fields whose frames both lie in the part. A row of too few frames has one field without
motion, so that no video is lost; their number is in flow.json.

Which videos a file holds follows from the manifest alone. A call that was killed continues behind the last finished video,
several calls may share the work by files (`shard`), and the bytes are the same in the end.
"""

import functools
import json
import math
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from muybridge.data.manifest import FLOW, Manifest
from muybridge.data.stores.common import (
    Form,
    check_form,
    check_shard,
    check_sources,
    check_unchanged,
    decoded_frames,
    gib,
    kept_frames,
    read_record,
    resume_hint,
    stored_rows,
    video_name,
    videos_of,
)
from muybridge.data.stores.packed import check_bytes, check_manifest, close, placed
from muybridge.data.stores.parallel import in_order
from muybridge.errors import UserError
from muybridge.runtime import processors
from muybridge.runtime.cluster import map_shards
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import clear_partials, read_as, sync_folder, within, write_json
from muybridge.runtime.locks import locked
from muybridge.text import duration, plural
from muybridge.video import DecodeError, Row, fields, packs
from muybridge.video import flow as methods
from muybridge.video.scaling import scaled_size

NOUN = "flow"
FORMAT_VERSION = 1
QUALITIES = {"jpeg": (1, 95, 100), "h264": (0, 18, 51), "png": (0, 0, 0)}
"""Lowest, default and highest value of each codec."""
RAW_BYTES = 2**33
"""Bytes of codes, before they are compressed, at which a file of a store ends."""
MOST_DISTANCE = 1024
LEAST_BOUND, LARGEST_BOUND = 0.01, 1e4
SCRATCH_BYTES = 2**25
"""Size in bytes above which a coded video waits on disk, not in memory."""
SAMPLE_VIDEOS, SAMPLE_FIELDS = 4, 4
"""Videos, and fields of each, that an estimate computes."""


class _File(TypedDict):
    name: str


class _Finished(TypedDict):
    """Fields of the record of a finished store."""

    files: list[_File]
    fields: int
    bytes: int
    clipped: float
    error_pixels: dict[str, float]
    still_rows: int


@dataclass(frozen=True)
class Computed:
    """Result of `flow`: a store, a part of one (`shard`), or an estimate (`dry_run`)."""

    path: Path
    finished: bool
    videos: int
    rows: int
    fields: int
    """Fields of motion in the store; of an unfinished one, those it will have."""
    bytes: int
    computed: int
    """Fields that this call computed."""
    seconds: float
    bound: float
    """Largest component of a vector that is stored, in pixels."""
    clipped: float | None
    """Share of the vectors that are longer than the bound along x or y, and cut to it; None: not known yet."""
    error_pixels: dict[str, float]
    """`mean` and `most` of the mean error of three fields of every video, read back; empty: not known yet."""
    still_rows: int
    """Rows of too few frames, which have one field without motion."""
    jobs: int
    checked: bool = False
    """Whether this call read a finished store again, and found it as it was written."""

    def pace(self) -> str:
        """The speed of this call, in words."""
        if not self.computed:
            return "checked: every byte was read again" if self.checked else "nothing was left to compute"
        return f"{self.computed / self.seconds:.1f} frames a second, {duration(self.seconds)}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path)}


def flow(
    manifest: str | Path,
    *,
    out: str | Path,
    method: str = "dis",
    bound: float = 20.0,
    codec: str = "jpeg",
    quality: int | None = None,
    short_side: int | None = 256,
    frame_distance: int = 1,
    fps: float | None = None,
    warped: bool = False,
    shard: str | None = None,
    cluster: str | None = None,
    dry_run: bool = False,
    jobs: int | None = None,
) -> Computed:
    """Compute the optical flow of a manifest's videos into the folder `out`, which stands where a manifest does.

    `method`: "dis" (DIS of medium quality), "tvl1", "farneback", or "raft" on a GPU. Vectors are in pixels of frames whose
    short side is at most `short_side` (None: unscaled; larger frames are scaled before), from a frame to the one
    `frame_distance` later; with `fps` among the first frames of every 1/fps seconds. Both components are stored in 8 bits
    up to ±`bound` pixels, by the `codec` "jpeg", "h264" or "png" (without loss); `quality`: JPEG's (1 … 100, None: 95), or
    H.264's CRF (0 … 51, None: 18). `warped`: without the camera's motion. `shard`: "i/n", every n-th file, beginning with
    the i-th; the call that completes the store joins them. `cluster`: "ray" or "ray://HOST:PORT", whose machines share the
    files. `jobs`: threads. `dry_run`: estimate bytes and time, and write nothing.

    The same call resumes a stopped one, and checks a finished store and its videos by reading them again. Raises UserError;
    DecodeError for a video that cannot be read or has changed since it was prepared; Interrupted after Ctrl-C.
    """
    started = time.monotonic()
    out, source, jobs = Path(out), Manifest.load(manifest), jobs or processors.left().jobs
    form = check_form(short_side, fps, codec, quality, qualities=QUALITIES)
    if not LEAST_BOUND <= bound <= LARGEST_BOUND:
        raise UserError(
            f"--bound {bound:g}: out of range. Give {LEAST_BOUND:g} to {LARGEST_BOUND:g} pixels (default 20)"
        )
    if not 1 <= frame_distance <= MOST_DISTANCE:
        raise UserError(
            f"--frame-distance {frame_distance}: out of range. Give 1 to {MOST_DISTANCE} frames (default 1)"
        )
    first, step = check_shard(shard)
    options = {
        "method": method, "warped": warped, "bound": float(bound), "frame_distance": frame_distance, **asdict(form)
    }  # fmt: skip
    if codec == "h264":
        options["gop_frames"] = packs.GOP_FRAMES
    work = _Work(source, videos_of(source), form, options)
    methods.method(method)  # a library that is missing is told before anything else
    if warped:
        methods.opencv()
    about = {"format_version": FORMAT_VERSION, "source_sha256": source.sha256(), **options}
    record = read_record(out, NOUN, about, finished=_Finished) or {}
    parts = work.parts()
    if dry_run:
        sample = work.sample(range(len(work.videos)))
        return _told(out, work, {}, sample.bytes, 0, sample.seconds / jobs, jobs, finished=False)
    out.mkdir(parents=True, exist_ok=True)
    computed = 0
    with resume_hint(out, smaller="a smaller --short-side, a lower --quality, or --codec h264"):
        names = [_name(number) for number in range(len(parts))]
        is_checked = bool(record.get("finished")) and all((out / name).exists() for name in names)
        if is_checked:
            log(f"{out} is finished already; reading it again to check it")
            check_bytes(out, names)
            check_sources(source, jobs=jobs)
            stored, expected = work.stored(out, about)
            if expected != record:
                raise UserError(
                    f"{out / 'flow.json'}: it does not belong to these files. Delete {out} and compute again"
                )
            check_manifest(out, stored)
        else:
            if not record:
                began = {
                    "manifest": str(Path(manifest).resolve()),
                    "library": methods.library(method),
                    "finished": False,
                }
                write_json(within(out, "flow.json"), {**about, **began})
            if cluster is not None:
                shares = functools.partial(
                    flow, str(Path(manifest).resolve()), out=str(out.resolve()), method=method, bound=bound, codec=codec,
                    quality=quality, short_side=short_side, frame_distance=frame_distance, fps=fps, warped=warped,
                )  # fmt: skip
                done = map_shards(cluster, out, shares, most=len(parts), gpus=method == "raft")
                computed = sum(part.computed for part in done)
            own = list(enumerate(parts))[first::step]
            _announce(out, work, [part for number, part in own if not (out / names[number]).exists()], jobs)
            computed += _write(out, work, own, jobs)
            record = _join(out, work, names, about)
    return _told(
        out, work, record, record.get("bytes", 0), computed, time.monotonic() - started, jobs,
        finished=bool(record.get("finished")), checked=is_checked,
    )  # fmt: skip


class _Sample:
    """Bytes and seconds that computing takes, by a few fields."""

    def __init__(self, num_bytes: int, seconds: float) -> None:
        self.bytes, self.seconds = num_bytes, seconds


class _Work:
    """The videos of a set, and how their flow is computed and stored."""

    def __init__(self, source: Manifest, videos: list[np.ndarray], form: Form, options: Mapping[str, Any]) -> None:
        self.source, self.videos, self.form, self.options = source, videos, form, options
        self.distance, self.bound = int(options["frame_distance"]), float(options["bound"])

    @property
    def made_by(self) -> str:
        """Name of what computes the fields, which two stores share whose fields mean the same."""
        return FLOW + json.dumps(self.options, sort_keys=True)

    def rows(self, video: int) -> list[Row]:
        """Rows of a video."""
        return [self.source.row(int(index)) for index in self.videos[video]]

    def short_side(self, video: int) -> int | None:
        """Short side that a video's frames are scaled to; None where they are no larger."""
        index = self.videos[video][0]
        own = min(int(self.source.columns[name][index]) for name in ("width", "height"))
        return None if self.form.short_side is None or own <= self.form.short_side else self.form.short_side

    def num_fields(self, video: int) -> int:
        """Fields of a video, as far as the manifest tells: parts that overlap and frames left out are not looked at."""
        indices, columns = self.videos[video], self.source.columns
        frames_R = columns["num_frames"][indices]
        if self.form.fps is not None:
            frames_R = np.ceil(frames_R * np.minimum(1.0, self.form.fps / columns["fps"][indices])).astype(np.int64)
        return int(np.maximum(1, frames_R - self.distance).sum())

    def parts(self) -> list[range]:
        """The videos of each file: one ends with the video that brings its codes to RAW_BYTES."""
        parts: list[range] = []
        first, held = 0, 0
        for video, indices in enumerate(self.videos):
            size = [int(self.source.columns[name][indices[0]]) for name in ("width", "height")]
            held += self.num_fields(video) * 2 * math.prod(scaled_size(size[0], size[1], self.short_side(video)))
            if held >= RAW_BYTES or video == len(self.videos) - 1:
                parts.append(range(first, video + 1))
                first, held = video + 1, 0
        return parts

    def between(self, how: methods.Method, first: np.ndarray, second: np.ndarray, path: str) -> np.ndarray:
        """Flow (H,W,2) in pixels between two images. Raises DecodeError."""
        try:
            return methods.without_camera(how, first, second) if self.options["warped"] else how.between(first, second)
        except ValueError as error:
            raise DecodeError(path, str(error)) from None

    def compute(self, video: int, path: Path, stop: Callable[[], bool]) -> int:
        """Write the fields of a video as a pack of their own; returns how many they are. Raises DecodeError."""
        rows = self.rows(video)
        check_unchanged(rows[0], self.source.text("sha256", self.videos[video][:1])[0])
        kept = kept_frames(rows, self.form.fps)
        firsts, described = _placed(stored_rows(rows, kept, self.form.fps), self.distance)
        num_still = sum(row["start_frame"] == len(firsts) for row in described)
        has_still = num_still > 0
        count = len(firsts) + has_still
        compared = sorted({0, count // 2, count - 1})
        originals: dict[int, np.ndarray] = {}
        clipped = vectors = 0

        def codes() -> Iterator[np.ndarray]:
            nonlocal clipped, vectors
            for index, field_HW2 in enumerate(self._fields(video, kept, firsts, has_still, stop)):
                clipped += fields.num_clipped(field_HW2, self.bound)
                vectors += field_HW2.shape[0] * field_HW2.shape[1]
                if index in compared:
                    originals[index] = np.clip(field_HW2, -self.bound, self.bound)
                yield fields.coded(field_HW2, self.bound)

        with tempfile.SpooledTemporaryFile(SCRATCH_BYTES, dir=str(path.parent)) as scratch:
            coded = packs.encode(codes(), scratch, codec=self.form.codec, quality=self.form.quality)
            again = fields.vectors_of(packs.decode(coded, compared), self.bound)
            error_pixels = [
                round(float(np.linalg.norm(originals[index] - read, axis=-1).mean()), 4)
                for index, read in zip(compared, again, strict=True)
            ]
            about = {
                "name": video_name(self.source, self.videos[video]), "clipped": clipped, "vectors": vectors,
                "error_pixels": error_pixels, "still": num_still, "rows": described,
            }  # fmt: skip
            writer = self.writer(path)
            try:
                writer.add(coded, about)
                writer.close()
            except BaseException:
                writer.discard()
                raise
        return count

    def _fields(
        self, video: int, kept: np.ndarray, firsts: np.ndarray, has_still: bool, stop: Callable[[], bool]
    ) -> Iterator[np.ndarray]:
        """Flow (H,W,2) from each of these kept frames on, and a field without motion where one is needed."""
        how, before, wanted = methods.method(self.options["method"]), deque[np.ndarray](), set(firsts.tolist())
        image, rows = np.zeros((0, 0)), self.rows(video)
        for position, frame_HW3 in enumerate(decoded_frames(rows, kept, self.short_side(video), stop)):
            image = how.image(frame_HW3)
            if len(before) == self.distance:
                first = before.popleft()
                if position - self.distance in wanted:
                    yield self.between(how, first, image, rows[0].path)
            before.append(image)
        if has_still:
            yield np.zeros((*image.shape[:2], 2), dtype=np.float32)

    def writer(self, path: Path) -> packs.Writer:
        """Writer of a file of the store."""
        about = {"bound": self.bound, "warped": self.options["warped"]}
        return packs.Writer(path, self.form.codec, channels=2, about=about)

    def sample(self, videos: Sequence[int]) -> _Sample:
        """Estimate bytes, and seconds of one thread, that the fields of these videos take, by a few of them."""
        chosen = [videos[i] for i in np.unique(np.linspace(0, len(videos) - 1, SAMPLE_VIDEOS).astype(int))]
        done = num_bytes = 0
        started = time.monotonic()
        for video in chosen:
            rows = self.rows(video)
            kept = kept_frames(rows[:1], self.form.fps)[: SAMPLE_FIELDS + self.distance]
            firsts = np.arange(max(0, len(kept) - self.distance))
            codes = (
                fields.coded(field_HW2, self.bound)
                for field_HW2 in self._fields(video, kept, firsts, not len(firsts), lambda: False)
            )
            with tempfile.TemporaryFile() as scratch:
                coded = packs.encode(codes, scratch, codec=self.form.codec, quality=self.form.quality)
            done, num_bytes = done + len(coded.keys), num_bytes + coded.offsets[-1]
        seconds = (time.monotonic() - started) / done
        total = sum(map(self.num_fields, videos))
        return _Sample(int(total * num_bytes / done), total * seconds)

    def stored(self, out: Path, about: Mapping[str, Any]) -> tuple[Manifest, dict[str, Any]]:
        """Manifest and finished flow.json of the store's files."""
        manifest, files, videos = placed(out, self.source, made_by=self.made_by)
        errors = [error for video in videos for error in video["error_pixels"]]
        begun = read_as(dict[str, Any], out / "flow.json")
        record = {
            **about, "manifest": begun.get("manifest", ""), "library": begun.get("library", ""), "finished": True,
            "fields": sum(file["frames"] for file in files), "bytes": sum(file["bytes"] for file in files),
            "clipped": round(sum(v["clipped"] for v in videos) / max(1, sum(v["vectors"] for v in videos)), 6),
            "error_pixels": {"mean": round(float(np.mean(errors)), 4), "most": max(errors)},
            "still_rows": sum(video["still"] for video in videos), "files": files,
        }  # fmt: skip
        return manifest, record


def _placed(rows: Sequence[dict[str, Any]], distance: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Positions (N,) of the frames that a field begins at, and where the fields of each row lie among them.

    A row of too few frames lies behind all of them: one field without motion. `rows`: as `stored_rows` gives them.
    """
    of_rows = [np.arange(row["start_frame"], row["start_frame"] + row["num_frames"] - distance) for row in rows]
    firsts = np.unique(np.concatenate(of_rows)).astype(np.int64)
    described = [
        {
            **row, "num_frames": max(1, len(own)),
            "start_frame": int(np.searchsorted(firsts, own[0])) if len(own) else len(firsts),
        }
        for row, own in zip(rows, of_rows, strict=True)
    ]  # fmt: skip
    return firsts, described


def _name(number: int) -> str:
    return f"frames-{number:05d}{packs.SUFFIX}"


def _announce(out: Path, work: _Work, missing: Sequence[range], jobs: int) -> None:
    """Log the expected time and bytes. Raises UserError where the disk has too little space."""
    videos = [video for part in missing for video in part]
    if not videos:
        return
    expected = work.sample(videos)
    free_bytes = disk_usage(out).free
    log(
        f"{plural(len(videos), 'video')}, {sum(map(work.num_fields, videos))} fields of motion: about "
        f"{gib(expected.bytes)} and {duration(expected.seconds / jobs)} with {plural(jobs, 'thread')}; {gib(free_bytes)} "
        "are free"
    )
    if expected.bytes > free_bytes:
        raise UserError(
            f"{out}: {gib(free_bytes)} are free there, and about {gib(expected.bytes)} are needed. Use a smaller "
            "--short-side, or --codec h264"
        )


def _write(out: Path, work: _Work, parts: Sequence[tuple[int, range]], jobs: int) -> int:
    """Compute what is missing of these files; returns the number of fields that were computed."""
    computed = 0
    begun = time.monotonic()
    with progress("flow", sum(work.num_fields(video) for _, part in parts for video in part)) as bar:
        for number, part in parts:
            if (out / _name(number)).exists():
                bar.advance(sum(map(work.num_fields, part)))
                continue
            with locked(out, "computes flow", name=f".{_name(number)}.lock", keep=False):
                if (out / _name(number)).exists():  # another call was faster
                    bar.advance(sum(map(work.num_fields, part)))
                    continue
                folder = within(out, f".{Path(_name(number)).stem}")
                folder.mkdir(exist_ok=True)
                clear_partials(folder)
                files = {video: folder / f"{video - part.start:07d}{packs.SUFFIX}" for video in part}
                left = [video for video, file in files.items() if not _is_sound(file)]
                bar.advance(sum(work.num_fields(video) for video in part if video not in set(left)))

                def compute(video: int, stop: Callable[[], bool], files: Mapping[int, Path] = files) -> tuple[int, int]:
                    return video, work.compute(video, files[video], stop)

                for video, count in in_order(compute, left, jobs=jobs):
                    computed += count
                    bar.advance(work.num_fields(video))
                    bar.describe(f"flow  {computed / max(1e-9, time.monotonic() - begun):.1f} frames/s")
                _joined(out, work, number, list(files.values()))
                shutil.rmtree(folder)
    return computed


def _is_sound(file: Path) -> bool:
    """Whether a video's own pack is there, as it was written."""
    if not file.exists():
        return False
    try:
        packs.check(file)
    except DecodeError:
        file.unlink()
        return False
    return True


def _joined(out: Path, work: _Work, number: int, files: Sequence[Path]) -> None:
    """Make one file of the packs of its videos."""
    sync_folder(files[0].parent)
    writer = work.writer(within(out, _name(number)))
    try:
        for file in files:
            writer.append(file)
        close(writer)
    except BaseException:
        writer.discard()
        raise


def source_of(manifest: Manifest) -> str:
    """The manifest of the videos that a store of flow was computed of, as it was called then; empty for other manifests."""
    if not manifest.made_by.startswith(FLOW):
        return ""
    return str(read_as(dict[str, Any], manifest.root / "flow.json").get("manifest", ""))


def _join(out: Path, work: _Work, names: Sequence[str], about: dict[str, Any]) -> dict[str, Any]:
    """Finish the store where all of its files are there; else say how many are."""
    written = sum((out / name).exists() for name in names)
    if written < len(names):
        log(f"{written} of {len(names)} files are written; the call that writes the last one joins them")
        return {}
    with locked(out, "finishes the store", wait_seconds=600):
        record: dict[str, Any] = read_as(dict[str, Any], out / "flow.json")
        if record.get("finished") and (out / "manifest.csv.json").exists():
            return record
        for name in names:
            shutil.rmtree(within(out, f".{Path(name).stem}"), ignore_errors=True)
            (out / f".{name}.lock").unlink(missing_ok=True)  # of a call that was killed
        manifest, record = work.stored(out, about)
        manifest.save(within(out, "manifest.csv"))
        write_json(within(out, "flow.json"), record)
    if record["still_rows"]:
        log(
            f"{plural(record['still_rows'], 'video')} of at most {work.distance} frame(s) got one field without motion, so "
            "that no video is missing"
        )
    return record


def _told(
    out: Path,
    work: _Work,
    record: Mapping[str, Any],
    num_bytes: int,
    computed: int,
    seconds: float,
    jobs: int,
    *,
    finished: bool,
    checked: bool = False,
) -> Computed:
    return Computed(
        out, finished, len(work.videos), len(work.source),
        record.get("fields") or sum(work.num_fields(video) for video in range(len(work.videos))), num_bytes, computed,
        seconds, work.bound, record.get("clipped"), record.get("error_pixels", {}), record.get("still_rows", 0), jobs,
        checked,
    )  # fmt: skip
