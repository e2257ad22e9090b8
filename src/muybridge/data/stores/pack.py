"""`pack`: rewrite a set for training, so that any frame of any video can be read directly.

A pack is a folder: a few large files (`muybridge.video.packs`), a manifest with the rows, ids, labels, groups and splits
of its source, and `pack.json`. It serves wherever a manifest does. Videos are packed in the manifest's order. A full file
is finished, flushed and renamed, so a stopped call resumes after the last complete file, and ends with the same bytes as an
uninterrupted one.
"""

import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.stores.common import (
    Form,
    announce,
    check_form,
    check_shard,
    check_sources,
    check_unchanged,
    decoded_frames,
    estimate,
    exclusive,
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
from muybridge.runtime.files import within, write_json
from muybridge.video import packs
from muybridge.video.packs import Coded

FORMAT_VERSION = 1
FILE_BYTES = 2**29
"""Size in bytes at which a file of a pack is finished."""
LEAST_PSNR_DB = 35.0
"""Lowest quality of a compared JPEG that raises no warning."""
PART_BYTES = 2**26
"""Size in bytes at which a file of a part is finished; a killed call loses at most one."""
PARTS = ".parts-of-"
"""Folders of the parts that several calls write."""
WAIT_SECONDS = 3600.0
"""Longest wait for a call that joins the parts."""
SCRATCH_BYTES = 2**25
"""Size in bytes above which a coded video waits on disk, not in memory."""


@dataclass(frozen=True)
class Packed:
    """Result of `pack`: a pack, or an estimate of one (`dry_run`), which is not finished."""

    path: Path
    finished: bool
    videos: int
    rows: int
    """Number of rows in the manifest; parts of one video share its frames."""
    frames: int
    bytes: int
    files: int
    psnr_db: dict[str, float]
    """`least` and `mean` over three frames of every video, decoded again and compared with the source."""
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    shard: str | None = None,
    cluster: str | None = None,
    dry_run: bool = False,
) -> Packed:
    """Write a pack of a manifest's videos into the folder `out`, which serves wherever a manifest does.

    Frames are stored with the short side `short_side` (None: unscaled). With `fps`, the first frame of every 1/fps
    seconds is kept (a video of a lower rate keeps all). Without it every frame is stored, and a recipe picks the same
    frames as from the videos. `codec`: "jpeg", or "h264" for about a fifth of the bytes; `quality`: JPEG's (1 … 100,
    None: 90), or H.264's CRF (0 … 51, None: 23). `shard`: "i/n", the i-th of n calls that share the work, on any machines that
    share `out`; the last one joins them, to the same bytes. `cluster`: "ray" or "ray://HOST:PORT", whose machines share it.
    `dry_run` estimates bytes and time, and writes nothing.

    The same call resumes a stopped one, and checks a finished pack by reading it again. Raises UserError; DecodeError
    for a video that cannot be read or has changed since it was prepared; Interrupted after Ctrl-C.
    """
    started = time.monotonic()
    out, source, jobs = Path(out), Manifest.load(manifest), jobs or processors.left().jobs
    form = check_form(short_side, fps, codec, quality)
    number, count = check_shard(shard)
    about = {"format_version": FORMAT_VERSION, "source_sha256": source.sha256(), **asdict(form)}
    if codec == "h264":
        about["gop_frames"] = packs.GOP_FRAMES
    read_record(out, "pack", about)
    videos = videos_of(source)
    if dry_run:
        expected = estimate(source, videos, form, jobs)
        num_files = max(1, -(-expected.bytes // FILE_BYTES))
        return Packed(
            out, False, len(videos), len(source), expected.frames, expected.bytes, num_files, {}, expected.seconds
        )
    if count > len(videos):
        raise UserError(f"--shard {shard}: the set has {len(videos)} videos. Give fewer shares")
    out.mkdir(parents=True, exist_ok=True)
    if cluster is not None:
        shares = functools.partial(
            pack, str(Path(manifest).resolve()), out=str(out.resolve()), short_side=short_side, fps=fps, codec=codec,
            quality=quality,
        )  # fmt: skip
        map_shards(cluster, out, shares, most=len(videos), begun=_begun_count(out))
    shared = count > 1 or cluster is not None
    with resume_hint(out):
        if count > 1:
            _write_share(out, source, videos, form, jobs, about, number, count)
        with exclusive(out, wait_seconds=WAIT_SECONDS if shared else 0.5):
            record = read_record(out, "pack", about)
            parts = _parts(out, videos, count) if count > 1 else []
            if record is not None and record.get("finished"):
                log(f"{out} is finished already" + ("" if shared else "; reading it again to check it"))
                if not shared:
                    _check_finished(out, source, about, record, jobs)
            elif count > 1 and len(parts) < count:
                log(f"{len(parts)} of {count} parts are packed; the call that packs the last one joins them")
                return Packed(out, False, len(videos), len(source), 0, 0, 0, {}, time.monotonic() - started)
            else:
                write_json(within(out, "pack.json"), {**about, "finished": False})
                if parts:
                    _join(out, source, videos, form, parts)
                else:
                    _write_files(out, source, videos, form, jobs)
                record = _finish(out, source, about)
                for folder in out.glob(f"{PARTS}*"):
                    shutil.rmtree(within(out, folder.name))
    if codec == "jpeg" and record["psnr_db"]["least"] < LEAST_PSNR_DB:
        log(
            f"warning: the worst of the compared frames is {record['psnr_db']['least']:.1f} dB from its source. Hard edges "
            "between colours, and noise, suffer from JPEG's halved colour resolution; a higher --quality helps a little"
        )
    return Packed(
        out, True, len(videos), len(source), record["frames"], record["bytes"], len(record["files"]), record["psnr_db"],
        time.monotonic() - started,
    )  # fmt: skip


# --- parts, by several calls


def _share(videos: list[np.ndarray], number: int, count: int) -> list[np.ndarray]:
    """Videos of one of several calls: neighbours, so that parts are joined in order."""
    return videos[len(videos) * number // count : len(videos) * (number + 1) // count]


def _folder(out: Path, number: int, count: int) -> Path:
    return within(out, f"{PARTS}{count}/{number + 1}")


def _begun_count(out: Path) -> int | None:
    """The number of calls that began to share this pack."""
    counts = [folder.name.removeprefix(PARTS) for folder in out.glob(f"{PARTS}*")]
    return max((int(count) for count in counts if count.isdecimal()), default=None)


def _write_share(
    out: Path,
    source: Manifest,
    videos: list[np.ndarray],
    form: Form,
    jobs: int,
    about: dict[str, Any],
    number: int,
    count: int,
) -> None:
    """Pack the videos of one of several calls into files of their own."""
    with exclusive(out, wait_seconds=WAIT_SECONDS):
        record = read_record(out, "pack", about)
        if record is not None and record.get("finished"):
            return
        write_json(within(out, "pack.json"), {**about, "finished": False})
        folder = _folder(out, number, count)
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        _write_files(folder, source, _share(videos, number, count), form, jobs, file_bytes=PART_BYTES)


def _parts(out: Path, videos: list[np.ndarray], count: int) -> list[list[Path]]:
    """Files of the shares that are complete."""
    complete = []
    for number in range(count):
        files = sorted(_folder(out, number, count).glob(f"frames-*{packs.SUFFIX}"))
        if sum(len(packs.about(path)["videos"]) for path in files) == len(_share(videos, number, count)):
            complete.append(files)
    return complete


def _join(out: Path, source: Manifest, videos: list[np.ndarray], form: Form, parts: list[list[Path]]) -> None:
    """Write the files of the pack from those of its parts: the frames are copied as they were coded."""
    with tempfile.SpooledTemporaryFile(SCRATCH_BYTES, dir=str(out)) as scratch:
        every = (video for files in parts for path in files for video in packs.stored(path, scratch))
        done = _done(out, source, videos)
        _write(out, islice(every, done, None), form, done=done, total=len(videos), text="joining")


# --- files


def _done(out: Path, source: Manifest, videos: list[np.ndarray]) -> int:
    """Videos that lie in finished files. Raises UserError for files of another pack."""
    files = sorted(out.glob(f"frames-*{packs.SUFFIX}"))
    done = [video["name"] for path in files for video in packs.about(path)["videos"]]
    if done != [video_name(source, indices) for indices in videos[: len(done)]]:
        raise UserError(f"{out}: it holds files of another pack. Delete it, or choose another --out")
    return len(done)


def _write_files(
    out: Path, source: Manifest, videos: list[np.ndarray], form: Form, jobs: int, *, file_bytes: int | None = None
) -> None:
    done = _done(out, source, videos)
    if done:
        log(f"{done} of {len(videos)} videos are packed already")
    left = videos[done:]
    if not left:
        return
    announce(out, source, left, form, jobs)

    def code(indices: np.ndarray, stop: Callable[[], bool]) -> tuple[Coded, dict[str, Any]]:
        return _code(source, indices, form, out, stop)

    def closing() -> Iterator[tuple[Coded, dict[str, Any]]]:
        for coded, about_video in in_order(code, left, jobs=jobs, drop=_drop):
            with coded.scratch:
                yield coded, about_video

    _write(out, closing(), form, done=done, total=len(videos), text="packing", file_bytes=file_bytes)


def _write(
    out: Path,
    coded_videos: Iterator[tuple[Coded, dict[str, Any]]],
    form: Form,
    *,
    done: int,
    total: int,
    text: str,
    file_bytes: int | None = None,
) -> None:
    """Write coded videos into files behind those that are finished."""
    number = len(list(out.glob(f"frames-*{packs.SUFFIX}")))
    writer: packs.Writer | None = None
    try:
        with progress(text, total) as bar:
            bar.advance(done)
            for coded, about_video in coded_videos:
                writer = writer or packs.Writer(within(out, f"frames-{number:05d}{packs.SUFFIX}"), form.codec)
                writer.add(coded, about_video)
                bar.advance()
                if writer.num_bytes >= (file_bytes or FILE_BYTES):
                    close(writer)
                    number, writer = number + 1, None
        if writer is not None:
            close(writer)
    finally:
        if writer is not None:
            writer.discard()


def _code(
    source: Manifest, indices: np.ndarray, form: Form, out: Path, stop: Callable[[], bool]
) -> tuple[Coded, dict[str, Any]]:
    """Code a video's frames and describe them for the pack's file. Long ones wait in an unnamed file in `out`."""
    rows = [source.row(int(index)) for index in indices]
    check_unchanged(rows[0], source.text("sha256", indices[:1])[0])
    kept = kept_frames(rows, form.fps)
    compared = {0, len(kept) // 2, len(kept) - 1}
    originals: dict[int, np.ndarray] = {}

    def watched() -> Iterator[np.ndarray]:
        for index, frame in enumerate(decoded_frames(rows, kept, form.short_side, stop)):
            if index in compared:
                originals[index] = np.array(frame)
            yield frame

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
    """Peak signal-to-noise ratio of two uint8 images in decibels; 100 where they are equal."""
    error = float(np.mean((a.astype(np.float32) - b) ** 2))
    return min(100.0, 10 * float(np.log10(255**2 / error))) if error > 0 else 100.0


def _stored(out: Path, source: Manifest, about: dict[str, Any]) -> tuple[Manifest, dict[str, Any]]:
    """Manifest and finished `pack.json` of the pack's files."""
    manifest, files, videos = placed(out, source)
    psnr_db = [value for video in videos for value in video["psnr_db"]]
    record = {
        **about, "finished": True, "frames": sum(file["frames"] for file in files),
        "bytes": sum(file["bytes"] for file in files),
        "psnr_db": {"least": min(psnr_db), "mean": round(float(np.mean(psnr_db)), 2)}, "files": files,
    }  # fmt: skip
    return manifest, record


def _finish(out: Path, source: Manifest, about: dict[str, Any]) -> dict[str, Any]:
    manifest, record = _stored(out, source, about)
    manifest.save(within(out, "manifest.csv"))
    write_json(within(out, "pack.json"), record)
    return record


def _check_finished(out: Path, source: Manifest, about: dict[str, Any], record: dict[str, Any], jobs: int) -> None:
    """Read every byte again, of the videos, too, and write a missing manifest again. Raises UserError, DecodeError."""
    check_bytes(out, [file["name"] for file in record["files"]])
    check_sources(source, jobs=jobs)
    manifest, expected = _stored(out, source, about)
    if expected != record:
        raise UserError(f"{out / 'pack.json'}: it does not belong to these files. Delete {out} and pack again")
    check_manifest(out, manifest)
