"""Commands that create, show, check and rewrite data sets.

They are `motions`, `prepare`, `describe`, `show`, `doctor`, `verify`, `pack` and `frames`.
"""

import re
import webbrowser
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
    Settings,
    Shard,
    ShortSide,
    allow_named,
    decode_limits,
    pairs,
    recipe_changes,
)
from muybridge.cli.output import SCREEN_LINES, answer, answering, say, table
from muybridge.errors import UserError
from muybridge.text import counted, plural


def motions(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; new or empty.")],
    clips: Annotated[int, typer.Option(help="Number of videos.")] = 2000,
    long: Annotated[
        int, typer.Option(min=0, help="Long videos to make as well, with what happens when in long/events.csv.")
    ] = 0,
    layout: Annotated[
        str | None,
        typer.Option(metavar="SET", help="Folders, names and official lists of a standard set: ucf101, hmdb51, ucf11."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same bytes.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads; none: one per core.")] = None,
    as_json: Json = False,
) -> None:
    """Generate a data set of video files in which most classes differ only in the direction of time."""
    with answering(as_json):
        import muybridge

        prepared = muybridge.motions(folder, clips=clips, long=long, layout=layout, seed=seed, jobs=jobs)
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
            metavar="FILE", help="CSV or .json with columns path,label and optionally group,split,start,end (seconds)."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=NAME",
            help="With --csv: the column that is the path, label, start, end, split or group. A path may then be the name or "
            "id of a video below --root. Repeat it.",
        ),
    ] = None,
    set: Annotated[
        str | None, typer.Option(metavar="NAME", help="Standard set, such as ucf101; list: print their names.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --set: the folder of its lists and videos; with --csv: of its videos."),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Get the public archives of the set into --root first, unless they are there."),
    ] = False,
    subset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --set: mini_ssv2, mini_kinetics, mini_moments or kinetics5."),
    ] = None,
    half: Annotated[int | None, typer.Option(metavar="SEED", help="Half of the classes, drawn by this seed.")] = None,
    num_classes: Annotated[
        int | None, typer.Option(metavar="K", help="Number of classes to keep, drawn by --seed.")
    ] = None,
    train_per_class: Annotated[
        int | None, typer.Option(metavar="N", help="Most videos of a class in the official train, drawn by --seed.")
    ] = None,
    val_per_class: Annotated[
        int | None, typer.Option(metavar="N", help="Most videos of a class in the official validation, by --seed.")
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
        Path | None,
        typer.Option(metavar="FILE", help="Class names for numeric labels, one per line; else the classes to keep."),
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
    val: Annotated[float, typer.Option(help="Share of all videos for validation, cut from train by group.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share of all videos for the test split.")] = 0.2,
    min_frames: Annotated[
        int, typer.Option(min=1, help="Fewest frames of a video; shorter ones are left out and listed.")
    ] = 4,
    image_fps: Annotated[float, typer.Option(help="Frame rate of images and arrays.")] = 25.0,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Leave these videos out: ids or paths, one a line, or a CSV with a column id or path (`doctor` writes "
            "some); repeatable.",
        ),
    ] = None,
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

        if set == "list":
            _print_sets(as_json)
            return
        if out is None and (set is None or root is not None):
            raise UserError("--out: it is missing. Name the .csv file to write: --out MANIFEST")
        prepared = muybridge.prepare(
            folder, out=out or f"{set}.csv", csv=csv, column=pairs("--column", column), set=set, root=root,
            download=download, subset=subset, half=half, num_classes=num_classes,
            train_per_class=train_per_class, val_per_class=val_per_class,
            arrays=arrays, labels=labels, groups=groups, classes=classes, layout=layout, group=group,
            train_list=train_list, val_list=val_list, test_list=test_list, folds=folds, all_as=all_as, val=val, test=test,
            min_frames=min_frames, image_fps=image_fps, exclude=exclude, mirror=mirror, seed=seed, jobs=jobs,
            shard=shard, cluster=cluster,
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


def show(
    data: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest that `prepare` wrote, or a pack.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Page to write.")],
    split: Annotated[str, typer.Option(help="Split of the videos: train, val, test, unused or all.")] = "train",
    fold: Annotated[int | None, typer.Option(help="Fold of a manifest with folds.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="CLASS", help="Show this class alone; repeatable. None: every class.")
    ] = None,
    id: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Show this video, of any split; repeatable. None: some of every class."),
    ] = None,
    videos: Annotated[int, typer.Option(min=1, help="Videos of each class, drawn by --seed.")] = 1,
    frames: Annotated[int, typer.Option(min=1, max=64, help="Frames of each video, evenly spread.")] = 8,
    height: Annotated[int, typer.Option(min=1, max=1080, metavar="PIXELS", help="Height of the frames.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Show frames of some videos of every class, on a page that works offline.

    Videos that cannot be read are named.
    """
    with answering(as_json):
        import muybridge

        shown = muybridge.show(
            data, split=split, fold=fold, labels=label, ids=id, videos=videos, frames=frames, height=height, seed=seed,
            out=out,
        )  # fmt: skip
        if open_it:
            webbrowser.open(out.resolve().as_uri())

        def told() -> None:
            for line in str(shown).splitlines():
                say(line)
            say(str(out))

        answer(as_json, lambda: {**shown.as_json(), "page": str(out)}, told)


def doctor(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest that `prepare` wrote, or a pack.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Page to write; none: NAME.doctor.html beside the manifest."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe whose clip lengths and rates are held against; none: the default one.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE", help="Stored vectors of these videos: a probe over them tells which labels look wrong."
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY", help="Study of this manifest: its tests tell which labels look wrong (use folds)."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Read the manifest alone: look at no video, write nothing.")
    ] = False,
    settings: Settings = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Look for what is wrong with a data set: copies across splits, shortcuts, dead clips, wrong labels.

    Writes a page with pictures, and lists for `prepare --exclude`. Exits with 1 where a test shows what training saw.
    """
    with answering(as_json):
        import muybridge

        changes = recipe_changes(settings)
        allow_named(recipe)
        found = muybridge.doctor(
            manifest, out=out, recipe=recipe, changes=changes, features=features, study=study, quick=quick, jobs=jobs
        )
        answer(as_json, found.as_json, lambda: _print_checkup(found))
        if found.has_leak:
            raise typer.Exit(1)


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST | CARD", help="Manifest that `prepare` wrote, a pack, a store of vectors, or a card."
        ),
    ],
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN… | STUDY | [NAME=]FILE…]", help="Of a card: what its figures are derived from again."
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a card of `judge`: the truth that it was given.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a card of `judge`: the file of classes that it was given.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a card: the public Ed25519 key that must have signed it.")
    ] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Hash every file of a manifest again; or check a card of a result against the runs that it is of.

    Of a manifest: list what is changed or missing, and exit with 1 then. The hash of the manifest that is printed is the one
    that runs and reports hold. Of a card (`report --card`): say which hashes and figures agree, and exit with 2 where one
    does not, or where the signature does not fit.
    """
    with answering(as_json):
        import muybridge

        verified = muybridge.verify(path, runs, truth=truth, classes=classes, key=key, jobs=jobs)
        is_card = hasattr(verified, "figures")
        answer(as_json, verified.as_json, lambda: (_print_card if is_card else _print_verified)(verified))
        if not verified.is_sound:
            raise typer.Exit(2 if is_card else 1)


def _print_verified(verified: Any) -> None:
    for fault in verified.faults[:SCREEN_LINES]:
        say(f"{fault['path']}: {fault['reason']}")
    if len(verified.faults) > SCREEN_LINES:
        say(f"… and {len(verified.faults) - SCREEN_LINES} more (--json has all)")
    if verified.unhashed:
        say(f"{plural(verified.unhashed, 'row')} without a hash: only looked for")
    say(str(verified))


def _print_card(checked: Any) -> None:
    agreeing = [one.name for one in checked.figures if one.agrees]
    if agreeing:
        say(f"agree: {', '.join(agreeing[:SCREEN_LINES])}{' …' if len(agreeing) > SCREEN_LINES else ''}")
    for one in checked.differing:
        say(f"differs: {one.name}: the card says {_shown(one.said)}, the scores give {_shown(one.found)}")
    say(str(checked))


def _shown(value: Any) -> str:
    """A figure or hash; "nothing" for one that is missing."""
    return "nothing" if value is None else str(value)


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


def _print_sets(as_json: bool) -> None:
    from muybridge.data.sets import SETS

    def show() -> None:
        table(
            ["set", "title", "classes", "source"],
            [[s.name, s.title, str(s.num_classes), s.source] for s in SETS.values()],
        )
        say("prepare --set NAME: what to get, and where to put it")

    answer(as_json, lambda: list(SETS), show)


def _print_prepared(prepared: Any) -> None:
    from muybridge.data.prepare.prepare import missing_file, rejected_file

    if not prepared.finished:
        say(f"not written yet, as other shares are missing: {prepared.manifest}")
        return
    warnings = counted((_kind_of(warning), warning) for warning in prepared.warnings)
    for warning in warnings[:SCREEN_LINES]:
        say(f"warning: {warning}", err=True)
    if len(warnings) > SCREEN_LINES:
        say(f"… and {plural(len(warnings) - SCREEN_LINES, 'more kind')} of warnings (--json has all)", err=True)
    for rejected in prepared.rejected[:SCREEN_LINES]:
        say(f"rejected: {rejected['path']}: {rejected['reason']}", err=True)
    if len(prepared.rejected) > SCREEN_LINES:
        more = f"{len(prepared.rejected) - SCREEN_LINES} more"
        say(f"… and {more}; all are in {rejected_file(prepared.manifest)}", err=True)
    for absent in prepared.missing[:SCREEN_LINES]:
        say(f"missing: {absent['name']} ({absent['label']})", err=True)
    if len(prepared.missing) > SCREEN_LINES:
        more = f"{len(prepared.missing) - SCREEN_LINES} more"
        say(f"… and {more}; all are in {missing_file(prepared.manifest)}", err=True)
    lines = [
        [name, *(str(counts.get(split, 0)) for split in ("train", "val", "test", "unused"))]
        for name, counts in list(prepared.splits.items())[:SCREEN_LINES]
    ]
    table(["split", "train", "val", "test", "unused"], lines, numeric=(1, 2, 3, 4))
    if len(prepared.splits) > SCREEN_LINES:
        say(f"… and {len(prepared.splits) - SCREEN_LINES} more folds")
    groups = f", {plural(prepared.groups, 'group')}" if prepared.groups else ""
    counts_text = f"{plural(prepared.videos, 'video')}, {plural(len(prepared.classes), 'class')}{groups}"
    missing = f", {len(prepared.missing)} of the lists missing" if prepared.missing else ""
    excluded = f", {prepared.excluded} excluded" if prepared.excluded else ""
    say(f"{counts_text}, {len(prepared.rejected)} rejected{excluded}{missing}: {prepared.manifest}")
    if prepared.mirror is None:
        say("mirroring is off: no left-right flips in training")
    elif prepared.mirror:
        swaps = [f"{a} ↔ {b}" for a, b in prepared.mirror.items() if a <= b]
        more = f" and {len(swaps) - SCREEN_LINES} more" if len(swaps) > SCREEN_LINES else ""
        say(
            f"mirroring swaps {', '.join(swaps[:SCREEN_LINES])}{more}; the other classes stay as they are (--mirror off: never "
            "mirror)"
        )


def _kind_of(warning: str) -> str:
    """Kind of a warning: without the file that it names first, and without numbers."""
    return re.sub(r"\d+([.,]\d+)*", "#", warning.partition(": ")[2] or warning)


def _print_checkup(found: Any) -> None:
    from muybridge.reporting.doctor import title_of

    lines: dict[str, tuple[str, str]] = {}
    shown = counted((finding.check, f"{finding.rank}: {finding.text}") for finding in found.findings)
    for finding in found.findings:
        lines.setdefault(finding.check, (title_of(finding), found.command(finding)))
    for line, (title, command) in zip(shown, lines.values(), strict=True):
        say(f"{title}\n  {line}" + (f"\n  → {command}" if command else ""))
    say(str(found))
    if found.page is not None:
        say(f"page: {found.page}")


def _print_packed(packed: Any, dry_run: bool) -> None:
    if not packed.finished and not dry_run:
        say(f"its part is packed, other shares are missing: {packed.path}")
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
