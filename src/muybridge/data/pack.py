"""`pack`: rewrite a set for training, so that any frame of any video is read at once.

A pack is a folder: a few large files (`muybridge.video.packs`), a manifest with the rows, ids, labels, groups and splits
of the one it was made from, and `pack.json`. It stands wherever a manifest stands. Videos are packed in the manifest's
order; a file that is full is finished, flushed and renamed, so a stopped call goes on after the last whole file, and ends
with the same bytes as one that was never stopped.
"""

import errno
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any, cast

import numpy as np
from filelock import FileLock, Timeout

from muybridge.console import log, progress
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.parallel import in_order
from muybridge.errors import Interrupted, UserError, nearest
from muybridge.files import read_json, sha256_file, sync_folder, write_json
from muybridge.video import DecodeError, Row, arrays, images, packs
from muybridge.video.decode import times_seconds
from muybridge.video.packs import Codec, Coded
from muybridge.video.readers import medium_of

FORMAT_VERSION = 1
FILE_BYTES = 2**29
"""A file of a pack is finished when it has grown to this."""
QUALITIES = {"jpeg": (1, 90, 100), "h264": (0, 23, 51)}
"""Least, usual and greatest: JPEG's quality, H.264's CRF."""
LEAST_PSNR_DB = 35.0
"""A pack of JPEGs with a frame below is told so."""
MAX_SHORT_SIDE = 4096
SCRATCH_BYTES = 2**25
"""Coded videos larger than this wait on the disk, not in memory."""
SAMPLE_VIDEOS, SAMPLE_FRAMES = 8, 48
"""What an estimate codes."""

GIB = 2**30


@dataclass(frozen=True)
class Packed:
    """A pack; or an estimate of one (`dry_run`), not finished."""

    path: Path
    finished: bool
    videos: int
    rows: int
    """Rows of the manifest; parts of one video share its frames."""
    frames: int
    bytes: int
    files: int
    psnr_db: dict[str, float]
    """`least` and `mean`, over three frames of every video that were decoded again and compared with the source."""
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def pack(
    manifest: str | Path,
    *,
    out: str | Path,
    short_side: int | None = 256,
    fps: float | None = None,
    codec: str = "jpeg",
    quality: int | None = None,
    jobs: int | None = None,
    dry_run: bool = False,
) -> Packed:
    """Write a pack of a manifest's videos into the folder `out`; use that wherever a manifest is asked for.

    Frames are stored with the short side `short_side` (none: as they are). With `fps`, the first frame of every 1/fps
    seconds is kept (a video with fewer frames a second keeps all). Without it every frame is stored, and a recipe picks
    the same frames as from the videos. `codec`: "jpeg", or "h264" for about a fifth of the bytes; `quality`: JPEG's
    (1 … 100, none: 90), or H.264's CRF (0 … 51, none: 23).
    `dry_run` estimates bytes and time, and writes nothing.

    The same call goes on where a stopped one was, and reads a finished pack again to check it. Raises UserError;
    DecodeError for a video that cannot be read or is not the one that was prepared; Interrupted after Ctrl-C.
    """
    started = time.monotonic()
    out, source, jobs = Path(out), Manifest.load(manifest), jobs or os.cpu_count() or 1
    form = check_form(short_side, fps, codec, quality)
    about = {"format_version": FORMAT_VERSION, "source_sha256": source.sha256(), **asdict(form)}
    if codec == "h264":
        about["gop_frames"] = packs.GOP_FRAMES
    begun(out, "pack", about)
    videos = videos_of(source)
    if dry_run:
        estimate = _estimate(source, videos, form, jobs)
        num_files = max(1, -(-estimate.bytes // FILE_BYTES))
        return Packed(
            out, False, len(videos), len(source), estimate.frames, estimate.bytes, num_files, {}, estimate.seconds
        )
    out.mkdir(parents=True, exist_ok=True)
    with locked(out), going_on(out):
        known = begun(out, "pack", about)
        if known is not None and known.get("finished"):
            log(f"{out} is finished already; reading it again to check it")
            _check_finished(out, source, about, known)
        else:
            write_json(out / "pack.json", {**about, "finished": False})
            _write_files(out, source, videos, form, jobs)
            known = _finish(out, source, about)
    if codec == "jpeg" and known["psnr_db"]["least"] < LEAST_PSNR_DB:
        log(
            f"warning: the worst of the compared frames is {known['psnr_db']['least']:.1f} dB from its source. Hard edges "
            "between colours suffer from JPEG's halved colour resolution; noise, too; a higher --quality helps a little"
        )
    return Packed(
        out, True, len(videos), len(source), known["frames"], known["bytes"], len(known["files"]), known["psnr_db"],
        time.monotonic() - started,
    )  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How frames are stored."""

    short_side: int | None
    fps: float | None
    codec: Codec
    quality: int


def check_form(short_side: int | None, fps: float | None, codec: str, quality: int | None) -> Form:
    """Raises UserError for what cannot be."""
    if codec not in QUALITIES:
        raise UserError(f"--codec is '{codec}'. {nearest(codec, QUALITIES)}")
    least, usual, greatest = QUALITIES[codec]
    if quality is not None and not least <= quality <= greatest:
        raise UserError(f"--quality {quality}: {codec} takes {least} to {greatest}; {usual} is usual")
    if short_side is not None and not 1 <= short_side <= MAX_SHORT_SIDE:
        raise UserError(f"--short-side {short_side}: at least one pixel is needed, and at most {MAX_SHORT_SIDE}")
    if fps is not None and not 0 < fps < math.inf:
        raise UserError(f"--fps {fps}: a frame rate above 0 is needed")
    return Form(short_side, fps, cast(Codec, codec), usual if quality is None else quality)


def videos_of(manifest: Manifest) -> list[np.ndarray]:
    """The rows of each video, in the manifest's order: rows that are parts of one file are one video. (In a pack or an
    array every row is a video of its own.)"""
    paths = manifest.columns["path"]
    is_store = np.char.endswith(paths, packs.SUFFIX.encode()) | np.char.endswith(paths, b".npy")
    units = np.where(is_store, manifest.columns["id"], paths)
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[inverse]
    order = np.argsort(rank, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(rank[order])) + 1)


def covered_frames(rows: Sequence[Row]) -> np.ndarray:
    """Frames of a video that lie in one of its rows."""
    return np.unique(np.concatenate([np.arange(row.start_frame, row.start_frame + row.num_frames) for row in rows]))


def kept_frames(rows: Sequence[Row], fps: float | None) -> np.ndarray:
    """Which frames of a video its rows need: all that lie in one; with `fps` of every 1/fps seconds the first of them,
    and of every row at least the first."""
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


def pictures(
    rows: Sequence[Row], kept: np.ndarray, short_side: int | None, stop: Callable[[], bool] = lambda: False
) -> Iterator[np.ndarray]:
    """The kept frames of a video, in order, each (H,W,3) uint8. Raises DecodeError where the video ends before the
    last, KeyboardInterrupt when it is asked to stop."""
    path, done = rows[0].path, 0
    position = int(kept[0]) - 1
    for position, picture in enumerate(
        medium_of(path).frames(path, start_frame=int(kept[0]), short_side=short_side), start=int(kept[0])
    ):
        if stop():
            raise KeyboardInterrupt
        if position == kept[done]:
            yield picture
            done += 1
            if done == len(kept):
                return
    raise DecodeError(path, f"frame {kept[-1]} was asked for, but decoding gives {position + 1} frames")


def stored_rows(rows: Sequence[Row], kept: np.ndarray, fps: float | None) -> list[dict[str, Any]]:
    """Where each row lies among the kept frames."""
    found = []
    for row in rows:
        start = int(np.searchsorted(kept, row.start_frame))
        end = int(np.searchsorted(kept, row.start_frame + row.num_frames))
        rate = row.fps if fps is None else round((end - start) * row.fps / row.num_frames, 4)
        found.append({"id": row.id, "start_frame": start, "num_frames": end - start, "fps": rate})
    return found


@contextmanager
def going_on(out: Path) -> Iterator[None]:
    """Ctrl-C and a full disk say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped; what is whole stays in {out}. The same command goes on from there") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{out}: {error.strerror}. What is whole stays there; with more room the same command goes on. A smaller "
            "--short-side, or --fps, needs less"
        ) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time. Raises UserError where another one is at work."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"{folder} is being written by another process") from None


def begun(out: Path, noun: str, about: dict[str, Any]) -> dict[str, Any] | None:
    """What the folder `out` says of itself in `NOUN.json`; none where nothing was begun. Raises UserError where it is
    something else than `about`."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out names the folder to make")
    if not (out / f"{noun}.json").exists():
        ours = (".lock", f".{noun}.json.partial")
        if out.exists() and any(path.name not in ours for path in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no {noun}; choose another --out")
        return None
    known = read_json(out / f"{noun}.json")
    if not isinstance(known, dict) or (
        known.get("finished") and not {"files", "frames", "bytes", "psnr_db"} <= known.keys()
    ):
        raise UserError(f"{out / f'{noun}.json'} is damaged; delete {out} and begin again")
    for name, value in about.items():
        if known.get(name) != value:
            what = "another manifest" if name == "source_sha256" else f"{name} {known.get(name)}, not {value}"
            raise UserError(f"{out} was begun with {what}; choose another --out, or delete it")
    return dict(known)


@dataclass(frozen=True)
class _Estimate:
    frames: int
    bytes: int
    seconds: float


def _estimate(source: Manifest, videos: list[np.ndarray], form: Form, jobs: int) -> _Estimate:
    """From the first frames of a few videos."""
    chosen = [videos[i] for i in np.unique(np.linspace(0, len(videos) - 1, SAMPLE_VIDEOS).astype(int))]
    num_frames = num_bytes = 0
    started = time.monotonic()
    for indices in chosen:
        rows = [source.row(int(index)) for index in indices]
        kept = kept_frames(rows, form.fps)[:SAMPLE_FRAMES]
        with tempfile.TemporaryFile() as scratch:
            coded = packs.encode(pictures(rows, kept, form.short_side), scratch, codec=form.codec, quality=form.quality)
        num_frames, num_bytes = num_frames + len(coded.keys), num_bytes + coded.offsets[-1]
    seconds = (time.monotonic() - started) / num_frames
    total = 0
    for indices in videos:
        rows = [source.row(int(index)) for index in indices]
        rate = 1.0 if form.fps is None else min(1.0, form.fps / rows[0].fps)
        total += math.ceil(len(covered_frames(rows)) * rate)
    return _Estimate(total, int(total * num_bytes / num_frames), total * seconds / jobs)


def announce(out: Path, source: Manifest, videos: list[np.ndarray], form: Form, jobs: int) -> None:
    """Say how long it takes and how many bytes. Raises UserError where there is no room for them."""
    estimate = _estimate(source, videos, form, jobs)
    free_bytes = disk_usage(out).free
    log(
        f"{len(videos)} videos, {estimate.frames} frames: about {_gib(estimate.bytes)} and "
        f"{_duration(estimate.seconds)} with {jobs} thread(s); {_gib(free_bytes)} are free"
    )
    if estimate.bytes > free_bytes:
        raise UserError(
            f"{out} has {_gib(free_bytes)} free, about {_gib(estimate.bytes)} are needed: a smaller --short-side, --fps, or "
            "a pack with --codec h264 needs less"
        )


def _write_files(out: Path, source: Manifest, videos: list[np.ndarray], form: Form, jobs: int) -> None:
    files = sorted(out.glob(f"frames-*{packs.SUFFIX}"))
    done = [video["name"] for path in files for video in packs.about(path)["videos"]]
    if done != [video_name(source, indices) for indices in videos[: len(done)]]:
        raise UserError(f"{out} holds files of another pack; delete it, or choose another --out")
    if done:
        log(f"{len(done)} of {len(videos)} videos are packed already")
    left = videos[len(done) :]
    if not left:
        return
    announce(out, source, left, form, jobs)

    def code(indices: np.ndarray, stop: Callable[[], bool]) -> tuple[Coded, dict[str, Any]]:
        return _code(source, indices, form, out, stop)

    writer: packs.Writer | None = None
    try:
        with progress("packing", len(videos)) as bar:
            bar.advance(len(done))
            for coded, about_video in in_order(code, left, jobs=jobs, drop=_drop):
                writer = writer or packs.Writer(out / f"frames-{len(files):05d}{packs.SUFFIX}", form.codec)
                with coded.scratch:
                    writer.add(coded, about_video)
                bar.advance()
                if writer.num_bytes >= FILE_BYTES:
                    files.append(_close(writer))
                    writer = None
        if writer is not None:
            files.append(_close(writer))
    finally:
        if writer is not None:
            writer.discard()


def _code(
    source: Manifest, indices: np.ndarray, form: Form, out: Path, stop: Callable[[], bool]
) -> tuple[Coded, dict[str, Any]]:
    """A video's coded frames, and what the pack's file says of it. Long ones wait in a file without a name in `out`."""
    rows = [source.row(int(index)) for index in indices]
    check_unchanged(rows[0], source.text("sha256", indices[:1])[0])
    kept = kept_frames(rows, form.fps)
    compared = {0, len(kept) // 2, len(kept) - 1}
    originals: dict[int, np.ndarray] = {}

    def watched() -> Iterator[np.ndarray]:
        for index, picture in enumerate(pictures(rows, kept, form.short_side, stop)):
            if index in compared:
                originals[index] = np.array(picture)
            yield picture

    scratch = tempfile.SpooledTemporaryFile(SCRATCH_BYTES, dir=str(out))  # noqa: SIM115 (the writer closes it)
    try:
        coded = packs.encode(watched(), scratch, codec=form.codec, quality=form.quality)
        again = packs.decode(coded, sorted(originals))
    except BaseException:
        scratch.close()
        raise
    psnr_db = [round(psnr(originals[index], pixels), 2) for index, pixels in zip(sorted(originals), again, strict=True)]
    return coded, {
        "name": video_name(source, indices), "psnr_db": psnr_db, "rows": stored_rows(rows, kept, form.fps),
    }  # fmt: skip


def _drop(result: tuple[Coded, dict[str, Any]]) -> None:
    result[0].scratch.close()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in decibels; 100 where they are equal."""
    error = float(np.mean((a.astype(np.float32) - b) ** 2))
    return min(100.0, 10 * float(np.log10(255**2 / error))) if error > 0 else 100.0


def video_name(source: Manifest, indices: np.ndarray) -> str:
    return str(source.text("path" if len(indices) > 1 else "id", indices[:1])[0])


def check_unchanged(row: Row, sha256: str) -> None:
    """Is it what `prepare` saw? (A pack's frames are its own; they have a hash there.) Raises DecodeError."""
    medium = medium_of(row.path)
    if not sha256 or medium is packs:
        return
    if medium is images:
        found = {images.sha256(row.path)}
    elif not os.path.isfile(row.path):
        return  # told when it is opened
    elif medium is arrays:
        clip = arrays.read_frames(row.path, np.arange(row.start_frame, row.start_frame + row.num_frames))
        found = {hashlib.sha256(clip.data).hexdigest()}
        if sha256 not in found:
            found.add(sha256_file(Path(row.path)))  # an array that was prepared as a file of its own
    else:
        found = {sha256_file(Path(row.path))}
    if sha256 not in found:
        raise DecodeError(row.path, "is not what was prepared (its hash differs); prepare the set again")


def _close(writer: packs.Writer) -> Path:
    """Finish a file and read it again."""
    writer.close()
    sync_folder(writer.path.parent)
    packs.check(writer.path)
    return writer.path


def _stored(out: Path, source: Manifest, about: dict[str, Any]) -> tuple[Manifest, dict[str, Any]]:
    """The manifest and the finished `pack.json` that belong to the pack's files."""
    columns = source.plain_columns()
    index_of = {name: index for index, name in enumerate(columns["id"])}
    files, psnr_db = [], []
    for path in sorted(out.glob(f"frames-*{packs.SUFFIX}")):
        described = packs.about(path)
        for video in described["videos"]:
            psnr_db += video["psnr_db"]
            for row in video["rows"]:
                changed = {
                    **row, "path": path.name, "start_frame": video["first_frame"] + row["start_frame"],
                    "width": video["width"], "height": video["height"], "seekable": 0,
                }  # fmt: skip
                for name, value in changed.items():
                    columns[name][index_of[row["id"]]] = value
        num_frames = sum(video["num_frames"] for video in described["videos"])
        files.append({
            "name": path.name, "bytes": path.stat().st_size, "frames": num_frames, "sha256": described["sha256"],
        })  # fmt: skip
    manifest = from_columns(
        columns, classes=source.classes, root=out, mirror=source.mirror, reversed_pairs=source.reversed_pairs,
        where=str(out),
    )  # fmt: skip
    known = {
        **about, "finished": True, "frames": sum(file["frames"] for file in files),
        "bytes": sum(file["bytes"] for file in files),
        "psnr_db": {"least": min(psnr_db), "mean": round(float(np.mean(psnr_db)), 2)}, "files": files,
    }  # fmt: skip
    return manifest, known


def _finish(out: Path, source: Manifest, about: dict[str, Any]) -> dict[str, Any]:
    manifest, known = _stored(out, source, about)
    manifest.save(out / "manifest.csv")
    write_json(out / "pack.json", known)
    return known


def _check_finished(out: Path, source: Manifest, about: dict[str, Any], known: dict[str, Any]) -> None:
    """Read every byte again. A manifest that is gone is written again; one whose rows lie elsewhere is told. (Its labels
    and splits may have been edited.) Raises UserError, DecodeError."""
    with progress("checking", len(known["files"])) as bar:
        for file in known["files"]:
            packs.check(out / file["name"])
            bar.advance()
    manifest, expected = _stored(out, source, about)
    if expected != known:
        raise UserError(f"{out / 'pack.json'} is not of these files; delete {out} and pack again")
    if not (out / "manifest.csv").exists() or not (out / "manifest.csv.json").exists():
        log(f"{out / 'manifest.csv'} was gone and is written again")
        manifest.save(out / "manifest.csv")
    found = Manifest.load(out / "manifest.csv")
    index_of = {name: index for index, name in enumerate(manifest.columns["id"].tolist())}
    for column in ("path", "start_frame", "num_frames", "width", "height"):
        for name, value in zip(found.columns["id"].tolist(), found.columns[column].tolist(), strict=True):
            if name not in index_of or manifest.columns[column][index_of[name]] != value:
                raise UserError(
                    f"{out / 'manifest.csv'}: {column} of '{name.decode()}' is not what the pack's files say. Delete it, and "
                    "the same command writes it again"
                )


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.2f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
