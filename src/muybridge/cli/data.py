"""Commands that create and rewrite data sets: `motions`, `prepare`, `describe`, `pack`, `frames`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    LIMITS,
    DataCluster,
    Fps,
    Jobs,
    Json,
    MaxFrames,
    MaxMemory,
    MaxPixels,
    MaxSeconds,
    Shard,
    ShortSide,
    decode_limits,
)
from muybridge.cli.output import SCREEN_LINES, answer, answering, say, table
from muybridge.errors import UserError
from muybridge.text import plural


def motions(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; new or empty.")],
    clips: Annotated[int, typer.Option(help="Number of videos.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same bytes.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads; none: one per core.")] = None,
    as_json: Json = False,
) -> None:
    """Generate a data set of video files in which most classes differ only in the direction of time."""
    with answering(as_json):
        import muybridge

        prepared = muybridge.motions(folder, clips=clips, seed=seed, jobs=jobs)
        answer(as_json, prepared.as_json, lambda: _print_prepared(prepared))


def prepare(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]", help="Folder with one subfolder per class, of video files or folders of images."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="MANIFEST", help="Manifest to write, a .csv file.")] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV with columns path,label and optionally group,split,start,end (seconds)."
        ),
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Clips (N,T,H,W,3) in a .npy or .npz file, instead of a folder.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --arrays: one label per clip, .npy.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --arrays: one group (source) per clip, .npy.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names for numeric labels, one per line.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="FOLDERS",
            help="Meaning of the folders above a video, from the top: class, split/class, group/class, class/group, -/class; "
            "auto: class, or split/class for folders called train, val, test.",
        ),
    ] = "auto",
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Pattern whose first parenthesis is the group (person, recording) in a path; groups are never split.",
        ),
    ] = None,
    train_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Official split: one video per line, with labels (path start end label) or without."
        ),
    ] = None,
    val_list: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --train-list: the validation list, if any.")
    ] = None,
    test_list: Annotated[Path | None, typer.Option(metavar="FILE", help="With --train-list: the test list.")] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Number of test folds, instead of one test split.")
    ] = None,
    all_as: Annotated[
        str | None,
        typer.Option(
            "--all", metavar="SPLIT", help="Put every video into this split, such as test for a set to evaluate on."
        ),
    ] = None,
    val: Annotated[float, typer.Option(help="Fraction of train for validation, split by group.")] = 0.15,
    test: Annotated[float, typer.Option(help="Fraction for the test split.")] = 0.2,
    min_frames: Annotated[
        int, typer.Option(min=1, help="Fewest frames of a video; shorter ones are left out and listed.")
    ] = 4,
    image_fps: Annotated[float, typer.Option(help="Frame rate of images and arrays.")] = 25.0,
    mirror: Annotated[
        str, typer.Option(help="Labels of flipped videos: same, off (no flips), or auto (left and right swap).")
    ] = "auto",
    max_pixels: MaxPixels = LIMITS["pixels"],
    max_frames: MaxFrames = LIMITS["frames"],
    max_seconds: MaxSeconds = LIMITS["seconds"],
    max_memory: MaxMemory = LIMITS["memory_gib"],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Decoding processes; none: one per core.")] = None,
    shard: Shard = None,
    cluster: DataCluster = None,
    as_json: Json = False,
) -> None:
    """Decode every video once, list broken ones, split without leaks, and write a manifest."""
    with answering(as_json):
        import muybridge

        if out is None:
            raise UserError("--out: it is missing. Name the .csv file to write: --out MANIFEST")
        prepared = muybridge.prepare(
            folder, out=out, csv=csv, arrays=arrays, labels=labels, groups=groups, classes=classes, layout=layout,
            group=group, train_list=train_list, val_list=val_list, test_list=test_list, folds=folds, all_as=all_as,
            val=val, test=test, min_frames=min_frames, image_fps=image_fps, mirror=mirror, seed=seed, jobs=jobs, shard=shard,
            cluster=cluster,
            limits=decode_limits(max_pixels, max_frames, max_seconds, max_memory),
        )  # fmt: skip
        answer(as_json, prepared.as_json, lambda: _print_prepared(prepared))


def describe(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest that `prepare` wrote, or a pack.")],
    fold: Annotated[int | None, typer.Option(help="Fold of a manifest with folds.")] = None,
    as_json: Json = False,
) -> None:
    """Describe a data set: videos, classes, lengths, frame rates and sizes of each split.

    Only the manifest is read. --json also prints the number of videos of each class.
    """
    with answering(as_json):
        import muybridge

        described = muybridge.describe(manifest, fold=fold)

        def show() -> None:
            from muybridge.data.overview import HEADER

            lines = [split.cells() for split in described.splits]
            table(HEADER, lines, numeric=tuple(range(1, len(HEADER))))
            say(str(described))

        answer(as_json, described.as_json, show)


def pack(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest that `prepare` wrote.")],
    out: Annotated[Path, typer.Option(metavar="PACK", help="Folder to write; it is used like a manifest.")],
    short_side: ShortSide = 256,
    fps: Fps = None,
    codec: Annotated[
        str, typer.Option(help="jpeg: fastest; h264: about a fifth of the size, a third of the speed.")
    ] = "jpeg",
    quality: Annotated[
        int | None, typer.Option(help="JPEG quality (1 to 100, usually 90) or H.264 CRF (0 to 51, usually 23).")
    ] = None,
    jobs: Jobs = None,
    shard: Shard = None,
    cluster: DataCluster = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate size and time; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Rewrite a data set into few large files with fast access to every frame.

    Recipes see the same frames as before. Repeat the command to resume a stopped one; a finished pack is verified.
    """
    with answering(as_json):
        import muybridge

        packed = muybridge.pack(
            manifest, out=out, short_side=short_side or None, fps=fps, codec=codec, quality=quality, jobs=jobs,
            shard=shard, cluster=cluster, dry_run=dry_run,
        )  # fmt: skip
        answer(as_json, packed.as_json, lambda: _print_packed(packed, dry_run))


def frames(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest that `prepare` wrote.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: DIR/VIDEO/00001.jpg …")],
    short_side: ShortSide = 256,
    fps: Fps = None,
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 90,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Write frames as folders of JPEGs, with a manifest and lists for other tools (`path start end label`).

    To train with muybridge, prefer a pack: it is as fast, in few files.
    """
    with answering(as_json):
        import muybridge

        written = muybridge.frames(
            manifest, out=out, short_side=short_side or None, fps=fps, quality=quality, jobs=jobs
        )

        def show() -> None:
            say(
                f"{written.videos} videos, {written.frames} frames, {written.bytes / 2**20:.1f} MiB in "
                f"{written.seconds:.0f} s: {written.path} (train with --data {written.path})"
            )

        answer(as_json, written.as_json, show)


def _print_prepared(prepared: Any) -> None:
    from muybridge.data.prepare.prepare import rejected_file

    if not prepared.finished:
        say(f"not written yet, as other calls are at work: {prepared.manifest}")
        return
    for warning in prepared.warnings[:SCREEN_LINES]:
        say(f"warning: {warning}", err=True)
    if len(prepared.warnings) > SCREEN_LINES:
        say(f"… and {plural(len(prepared.warnings) - SCREEN_LINES, 'more warning')} (--json has all)", err=True)
    for rejected in prepared.rejected[:SCREEN_LINES]:
        say(f"rejected: {rejected['path']}: {rejected['reason']}", err=True)
    if len(prepared.rejected) > SCREEN_LINES:
        more = f"{len(prepared.rejected) - SCREEN_LINES} more"
        say(f"… and {more}; all are in {rejected_file(prepared.manifest)}", err=True)
    lines = [
        [name, *(str(counts.get(split, 0)) for split in ("train", "val", "test", "unused"))]
        for name, counts in list(prepared.splits.items())[:SCREEN_LINES]
    ]
    table(["split", "train", "val", "test", "unused"], lines, numeric=(1, 2, 3, 4))
    if len(prepared.splits) > SCREEN_LINES:
        say(f"… and {len(prepared.splits) - SCREEN_LINES} more folds")
    groups = f", {plural(prepared.groups, 'group')}" if prepared.groups else ""
    counts_text = f"{plural(prepared.videos, 'video')}, {plural(len(prepared.classes), 'class')}{groups}"
    say(f"{counts_text}, {len(prepared.rejected)} rejected: {prepared.manifest}")
    if prepared.mirror is None:
        say("mirroring is off: no left-right flips in training")
    elif prepared.mirror:
        swaps = [f"{a} ↔ {b}" for a, b in prepared.mirror.items() if a <= b]
        more = f" and {len(swaps) - SCREEN_LINES} more" if len(swaps) > SCREEN_LINES else ""
        say(
            f"mirroring swaps {', '.join(swaps[:SCREEN_LINES])}{more}; the other classes stay as they are (--mirror off: never "
            "mirror)"
        )


def _print_packed(packed: Any, dry_run: bool) -> None:
    if not packed.finished and not dry_run:
        say(f"its part is packed, other calls are at work: {packed.path}")
        return
    size = f"{packed.bytes / 2**20:.1f} MiB in {packed.files} file(s)"
    counts = f"{packed.rows} clips of {packed.videos} videos, {packed.frames} frames"
    if not packed.finished:
        say(f"{counts}: about {size}, {packed.seconds:.0f} s")
        return
    say(f"{counts}, {size}, {packed.seconds:.0f} s: {packed.path}")
    say(
        f"checked: every byte was read again; PSNR against the source {packed.psnr_db['mean']:.1f} dB, at the least "
        f"{packed.psnr_db['least']:.1f} dB"
    )
    say(f"train with --data {packed.path}")
