"""`prepare`: decode every video once, list broken ones, split without leaks, write a manifest."""

import hashlib
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.doctor.cheap import CHEAP, found_by
from muybridge.data.doctor.finding import Case
from muybridge.data.manifest import SPLITS, Manifest, from_columns
from muybridge.data.prepare.arrays import Values, labelled_clips
from muybridge.data.prepare.exclusion import remaining
from muybridge.data.prepare.folders import AUTO, Item, Listed, grouped
from muybridge.data.prepare.inspection import Inspection, VideoRow, inspect, no_frame_rate
from muybridge.data.prepare.listing import Part, listing
from muybridge.data.prepare.mirroring import mirror_map
from muybridge.data.prepare.splits import check_splits, official_folds, split_columns
from muybridge.data.sets import known
from muybridge.data.sets.base import checked_root, downloaded
from muybridge.data.stores.common import check_shard
from muybridge.errors import UserError, nearest
from muybridge.runtime.cluster import map_shards
from muybridge.runtime.files import csv_text, within, write_atomic
from muybridge.runtime.locks import locked
from muybridge.text import plural, spreadsheet
from muybridge.video.limits import Limits


@dataclass(frozen=True)
class Prepared:
    """Result of `prepare`."""

    manifest: Path
    videos: int
    """Number of rows in the manifest."""
    rejected: list[dict[str, str]]
    """Files left out: path and reason."""
    warnings: list[str]
    classes: dict[str, int]
    """Number of rows of each class."""
    splits: dict[str, dict[str, int]]
    """Number of rows of each split, for each split column."""
    groups: int
    mirror: dict[str, str] | None
    """Classes that mirroring changes, with their mirrored class; None: training will not mirror."""
    sha256: str
    missing: list[dict[str, str]] = field(default_factory=list)
    """Videos of official lists that are not there: name, label, and split where there is one."""
    excluded: int = 0
    """Number of videos that the list of `exclude` leaves out."""
    finished: bool = True
    """Whether the manifest is written: not before the last of several calls has ended."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "manifest": str(self.manifest)}


def prepare(
    folder: str | Path | None = None,
    *,
    out: str | Path,
    csv: str | Path | None = None,
    column: Mapping[str, str] | None = None,
    set: str | None = None,
    root: str | Path | None = None,
    download: bool = False,
    subset: str | None = None,
    half: int | None = None,
    num_classes: int | None = None,
    train_per_class: int | None = None,
    val_per_class: int | None = None,
    arrays: str | Path | np.ndarray | None = None,
    labels: Values | None = None,
    groups: Values | None = None,
    classes: str | Path | Sequence[str] | None = None,
    layout: str = AUTO,
    group: str | None = None,
    train_list: str | Path | None = None,
    val_list: str | Path | None = None,
    test_list: str | Path | None = None,
    folds: int | None = None,
    all_as: str | None = None,
    val: float = 0.15,
    test: float = 0.2,
    min_frames: int = 4,
    image_fps: float = 25.0,
    exclude: str | Path | Sequence[str | Path] | None = None,
    mirror: str = "auto",
    limits: Limits | None = None,
    seed: int = 0,
    jobs: int | None = None,
    shard: str | None = None,
    cluster: str | None = None,
) -> Prepared:
    """Write the manifest `out` for a folder of class folders, a standard set, a CSV, or arrays of clips.

    `set` names a standard set (`muybridge.data.sets.SETS`), whose lists and videos lie below `root`. `download`: get its
    public archives first, unless they are there. Its official splits and groups are taken; `val` is cut from train. Several
    official splits are folds. Videos of the lists that are not there are in `NAME.missing.csv` beside the manifest.

    A CSV has columns path,label[,group,split,start,end]; a `.json` list has them, too. `column` says which columns these
    are ({"path": "youtube_id"}). A path may then be the name or id of a video anywhere below `root`, or below the list's
    folder. Arrays (N,T,H,W,3) come with their `labels` (and `groups`), as files or in memory. A video is a file, or a
    folder of numbered images. Each is decoded once, in parallel, in separate processes. One that fails, is shorter than
    `min_frames` or exceeds one of the `limits` is left out, and listed with the reason. Images and arrays get the frame
    rate `image_fps`.

    `layout` gives the meaning of the folders above a video, from the top: "class", "split/class" (recognised where the
    top folders are called train, val, test), "group/class", …. Splits follow official lists (`train_list`, `val_list`,
    `test_list`; a video in no list is unused) or the CSV's column split. Without them they follow `group` (a regular
    expression over the path, or the CSV's column), or are random where no group is known. Lists may bring the labels, too
    (`path label`, `path start end label`, `path num_frames label`); the folder needs no class folders then. `classes`
    (names, or a file with a line for each) names labels that are numbers; where labels are names, only these classes are
    kept. So do `subset` (a published part of a standard set), `half` (half of the classes, drawn by this seed) and
    `num_classes`. `train_per_class` and `val_per_class` are the most videos of a class in the official split, drawn by
    `seed`. `folds` cuts K test folds instead of one.
    `all_as` puts every video into one split ("test" for a set to evaluate on). `val` is cut from train, by group too;
    `val` and `test` are shares of the whole.

    `exclude`: files of videos to leave out, by their ids or paths, one a line or in a column `id` or `path` of a CSV.

    `mirror`: the effect of mirroring on labels. "same": none; "off": never mirror; "auto": classes that name left and
    right are swapped where both exist, and mirroring is off where only one does.

    `shard`: "i/n", the i-th of n calls that share the decoding, on any machines that see the set and the folder of `out`
    under the same paths; the last one writes the manifest, the same as one call would. `cluster`: "ray" or
    "ray://HOST:PORT", whose machines share it.

    Raises UserError for mistakes in the set or the options.
    """
    asked = {
        name: value for name, value in locals().items() if name not in ("folder", "out", "jobs", "shard", "cluster")
    }
    out = Path(out)
    number, count = check_shard(shard)
    if out.suffix != ".csv":
        raise UserError(
            f"--out: '{out}' is not a .csv file, which a manifest is. Name one, for example --out {out.name}.csv"
        )
    if [folder is None, csv is None, arrays is None, set is None].count(False) != 1:
        raise UserError(
            "FOLDER, --set, --csv or --arrays: not exactly one is given. Give a folder of class folders, or --set NAME, or "
            "--csv FILE, or --arrays FILE"
        )
    if root is not None and set is None and csv is None:
        raise UserError("--root: it is the folder of a standard set or of a CSV's videos. Give --set or --csv with it")
    if column and csv is None:
        raise UserError("--column: it says what the columns of a list are. Give --csv FILE with it")
    part = Part(subset, half, num_classes, train_per_class, val_per_class, seed)
    if part.is_asked_for and arrays is not None:
        raise UserError("--arrays: it is taken whole. Leave --half, --num-classes and the numbers of videos out")
    lists = {
        split: Path(path)
        for split, path in (("train", train_list), ("val", val_list), ("test", test_list))
        if path is not None
    }
    if download and (set is None or root is None):
        raise UserError("--download: it gets the archives of a standard set. Give --set NAME and --root DIR with it")
    if set is not None:
        if download and root is not None:
            downloaded(known(set), Path(root))
        checked_root(known(set), root)
    if set is not None and lists:
        raise UserError(f"--set {set}: its official lists are read below --root. Leave the other lists out")
    if arrays is not None and (lists or group is not None):
        raise UserError(
            "--arrays: it has no paths in which a list or --group could find its clips. Give their groups by --groups"
        )
    if arrays is None and (labels is not None or groups is not None):
        raise UserError(
            f"{'--labels' if labels is not None else '--groups'}: it belongs to --arrays. Leave it out, or give "
            "--arrays"
        )
    if not 0 <= val < 1 or not 0 < test < 1 or val + test >= 1:
        raise UserError(
            f"--val {val}, --test {test}: not shares of the whole. Give 0 ≤ val, 0 < test, together below 1"
        )
    if all_as is not None and all_as not in SPLITS:
        raise UserError(f"--all: '{all_as}' is unknown. {nearest(all_as, SPLITS)}")
    if all_as is not None and (lists or folds is not None):
        raise UserError("--all: it puts every video into one split. Leave out lists and --folds")
    if layout != AUTO and folder is None:
        raise UserError(f"--layout {layout}: it gives the meaning of the folders in FOLDER. Name a FOLDER")
    if folds is not None and folds < 2:
        raise UserError(f"--folds {folds}: too few. Give at least two")
    if min_frames < 1:
        raise UserError(f"--min-frames {min_frames}: too few. Give at least one")
    if not (image_fps > 0 and math.isfinite(image_fps)):
        raise UserError(f"--image-fps {image_fps}: not a frame rate. Give frames a second, a number above 0")
    if mirror not in ("auto", "same", "off"):
        raise UserError(f"--mirror: '{mirror}' is unknown. Choose auto, same or off")
    if arrays is not None and (count > 1 or cluster is not None):
        raise UserError("--arrays: they are read at once, and not shared. Leave out --shard and --cluster")
    inputs = [
        path
        for path in (csv, arrays, labels, groups, classes, exclude, *lists.values())
        if isinstance(path, str | Path)
    ]
    _check_out(out, [Path(path) for path in inputs])
    out.parent.mkdir(parents=True, exist_ok=True)
    if cluster is not None:
        return _on_cluster(cluster, folder, out, asked | {"download": False})  # it is there by now
    if count > 1 and out.exists():
        raise UserError(f"{out}: it is there already. Remove it before it is prepared by several calls")
    own = f".{out.name}.lock" if count == 1 else f".{out.name}.{number + 1}-of-{count}.lock"
    with locked(out.parent, f"prepares {out.name} there", name=own, keep=False):
        if arrays is not None:
            clips = labelled_clips(
                arrays, labels, groups=groups, classes=classes, min_frames=min_frames, image_fps=image_fps, out=out
            )
            listed = Listed(clips.root, [], clips.classes)
            rows = remaining(clips.rows, exclude)
            excluded = len(clips.rows) - len(rows)
            inspected = Inspection(rows, [], [no_frame_rate(image_fps)])
        else:
            listed = listing(
                folder=folder, csv=csv, column=column, standard=set, root=root, lists=lists, classes=classes, layout=layout,
                part=part,
            )  # fmt: skip
            items = listed.items
            if group is not None:
                items, ungrouped = grouped(items, group)
                listed.strays.extend(ungrouped)
            kept = remaining(items, exclude)
            items, excluded = kept, len(items) - len(kept)
            _check_items(items, folds, all_as, has_folds=bool(listed.folds))
            _check_out(out, [listed.root / item.path for item in items])
            about = (str(listed.root.resolve()), min_frames, image_fps, limits, [astuple(item) for item in items])
            parts = None if count == 1 else _parts_folder(out, str(about))
            found = inspect(
                listed.root, items, min_frames=min_frames, image_fps=image_fps, limits=limits, jobs=jobs,
                shard=(number, count), parts=parts,
            )  # fmt: skip
            if found is None:
                return Prepared(out, 0, [], [], {}, {}, 0, None, "", finished=False)
            inspected = found
            inspected.rejected.extend({"path": path, "reason": reason} for path, reason in listed.strays)
            inspected.warnings[:0] = listed.warnings  # those of the whole list before those of single files
        warnings = inspected.warnings
        missing = [_named(item, listed.folds) for item in listed.missing]
        _save_missing(out, missing)  # also where their absence is the next error
        with _naming_rejected(inspected.rejected, out):
            columns, names = _columns(inspected, listed.classes, all_as)
            if all_as is not None:
                columns["split"] = np.full(len(columns["id"]), all_as)
            is_given = bool((columns["split"] != "").any()) or bool(listed.folds)
            val_share = 0.0 if all_as else val
            if listed.folds:
                columns |= official_folds(columns, listed.folds, val=val_share, seed=seed)
            else:
                columns |= split_columns(columns, folds=folds, val=val_share, test=test, seed=seed, warnings=warnings)
            mirrored = _mirror(mirror, names, warnings)
            manifest = from_columns(
                columns, classes=names, root=listed.root, mirror=mirrored, official_splits=len(listed.folds) > 1,
                where=str(out),
            )  # fmt: skip
            check_splits(manifest, warnings, is_given=is_given)
            warnings += [finding.text for finding in found_by(CHEAP, Case(manifest))]
        with locked(
            out.parent, f"prepares {out.name} there", name=f".{out.name}.joining.lock", keep=False, wait_seconds=600
        ):
            manifest.save(out)
            _save_rejected(out, inspected.rejected)
            if count > 1:
                shutil.rmtree(within(out.parent, f"{out.name}{PARTS}"), ignore_errors=True)
        return summary(
            out, manifest, rejected=inspected.rejected, warnings=warnings, missing=missing, excluded=excluded
        )


PARTS = ".parts"
"""Ending of the folder of what several calls have seen."""


def _parts_folder(out: Path, about: str) -> Path:
    """Folder of the parts of a set: of these videos and options alone."""
    name = hashlib.sha256(about.encode()).hexdigest()[:16]
    folder = within(out.parent, f"{out.name}{PARTS}") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _on_cluster(cluster: str, folder: str | Path | None, out: Path, asked: Mapping[str, Any]) -> Prepared:
    """Let the machines of a cluster share the decoding."""
    if out.exists():
        raise UserError(f"{out}: it is there already. Remove it before it is prepared by several machines")
    paths = {
        name: str(Path(value).resolve()) if name in _FILES and isinstance(value, str | Path) else value
        for name, value in asked.items()
    }
    root = None if folder is None else str(Path(folder).resolve())
    answers = map_shards(cluster, out.parent, partial(_share, root, str(out.resolve()), paths), most=MOST_SHARES)
    return replace(next(answer for answer in answers if answer is not None and answer.finished), manifest=out)


def _share(folder: str | None, out: str, asked: Mapping[str, Any], *, shard: str, jobs: int) -> Prepared | None:
    """One of the calls; None where its machine was lost after the last one had ended."""
    return None if Path(out).exists() else prepare(folder, out=out, **asked, shard=shard, jobs=jobs)


_FILES = ("csv", "root", "classes", "exclude", "train_list", "val_list", "test_list")
"""Arguments of `prepare` that name files."""
MOST_SHARES = 1000


@contextmanager
def _naming_rejected(rejected: Sequence[dict[str, str]], out: Path) -> Iterator[None]:
    """Add the files rejected before to an error about the set, as they may be its cause, and list them in a file."""
    try:
        yield
    except UserError as error:
        if not rejected:
            raise
        _save_rejected(out, rejected)
        first = rejected[0]
        raise UserError(
            f"{str(error).rstrip('.')}. Before that {plural(len(rejected), 'file')} of the set could not be used (the "
            f"first: {first['path']}: {first['reason']}). See {rejected_file(out)}, which lists all"
        ) from None


def rejected_file(out: Path) -> Path:
    """Path of the list of rejected files; absent where none was rejected."""
    return out.with_name(f"{out.stem}.rejected.csv")


def _save_rejected(out: Path, rejected: Sequence[dict[str, str]]) -> None:
    file = rejected_file(out)
    if rejected:
        rows = ((spreadsheet(r["path"]), spreadsheet(r["reason"])) for r in rejected)
        write_atomic(within(out.parent, file.name), csv_text([("path", "reason"), *rows]).encode("utf-8", "replace"))
    elif file.exists() and file.read_bytes().startswith(b"path,reason\n"):
        file.unlink()


def missing_file(out: Path) -> Path:
    """Path of the list of videos that official lists name and that are not there; absent where there are all."""
    return out.with_name(f"{out.stem}.missing.csv")


def _named(item: Item, folds: Mapping[int, Mapping[str, str]]) -> dict[str, str]:
    """Name, class and split of a missing video; of several official splits it has no single one."""
    return {"name": item.id, "label": item.label, "split": "" if folds else item.split}


def _save_missing(out: Path, missing: Sequence[dict[str, str]]) -> None:
    file, header = missing_file(out), ("name", "label", "split")
    if missing:
        rows = (tuple(spreadsheet(row[name]) for name in header) for row in missing)
        write_atomic(within(out.parent, file.name), csv_text([header, *rows]).encode("utf-8", "replace"))
    elif file.exists() and file.read_bytes().startswith(b"name,label,split\n"):
        file.unlink()


def _columns(inspected: Inspection, order: list[str], all_as: str | None) -> tuple[dict[str, Any], list[str]]:
    """Columns of the usable rows (`split` as given, or empty), and their classes in order.

    Raises UserError where too few classes are usable.
    """
    rows, rejected = inspected.rows, inspected.rejected
    usable = {row.label for row in rows}
    is_trained_on = all_as in (None, "train") and {row.split for row in rows} & {"", "train"}
    if len(usable) < (2 if is_trained_on else 1):
        raise UserError(
            f"videos: {len(rows)} of {len(rows) + len(rejected)} could be used, of {len(usable)} class(es). Add "
            "videos until two classes are left"
        )
    lost = [name for name in order if name not in usable]
    if lost:
        shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
        inspected.warnings.append(f"no video of {shown} could be used; the classes are left out")
    columns = {column.name: np.array([getattr(row, column.name) for row in rows]) for column in fields(VideoRow)}
    return columns, [name for name in order if name in usable]


def summary(
    out: Path,
    manifest: Manifest,
    *,
    rejected: list[dict[str, str]],
    warnings: list[str],
    missing: Sequence[dict[str, str]] = (),
    excluded: int = 0,
) -> Prepared:
    """Summarise a manifest that was just written."""
    return Prepared(
        manifest=out,
        videos=len(manifest),
        rejected=rejected,
        warnings=warnings,
        classes=dict(Counter(manifest.text("label").tolist())),
        splits={column: dict(Counter(manifest.text(column).tolist())) for column in manifest.split_columns},
        groups=len(set(manifest.columns["group"].tolist()) - {b""}),
        mirror=None if manifest.mirror is None else dict(manifest.mirror),
        sha256=manifest.sha256(),
        missing=list(missing),
        excluded=excluded,
    )


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    if out.exists() and out.resolve() in {path.resolve() for path in inputs}:
        raise UserError(f"--out {out}: it would overwrite one of the files to prepare. Choose another name")
    if out.exists() and not out.with_suffix(".csv.json").exists():
        raise UserError(f"--out {out}: it exists and is not a manifest. Choose another name, or remove it")


def _check_items(items: Sequence[Item], folds: int | None, all_as: str | None, *, has_folds: bool) -> None:
    """Raises UserError for mistakes that need no decoding to be seen."""
    labels = {item.label for item in items}
    is_trained_on = all_as in (None, "train") and any(item.split in ("", "train") for item in items)
    if len(labels) < 2 and is_trained_on:
        raise UserError(
            f"classes: only one ('{items[0].label}') was found, and a classifier needs at least two. Add another, or "
            "prepare a set to evaluate on: --all test"
        )
    for label in labels:
        parts = {part.strip() for part in re.split(r"[|;]", label)}
        if len(parts) > 1 and parts & labels:
            raise UserError(
                f"label '{label}': it is several in one ({', '.join(sorted(parts & labels))} is a class by itself), "
                "and a video has one label here. Choose one, or list the video's parts with one label each "
                "(start,end)"
            )
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise UserError(f"'{twice[0]}': it is listed more than once. Give each part a start or end of its own")
    num_split = len(items) if has_folds else sum(item.split != "" for item in items)
    if num_split and all_as is not None:
        raise UserError(
            "--all: it puts every video into one split, and does not go with an official split. Leave --all out"
        )
    if num_split and folds is not None:
        raise UserError("--folds: it cuts folds by itself, and does not go with an official split. Leave --folds out")
    if 0 < num_split < len(items):
        raise UserError(f"split: the column is filled in {num_split} of {len(items)} rows. Fill all or none")


def _mirror(mirror: str, classes: list[str], warnings: list[str]) -> dict[str, str] | None:
    if mirror == "same":
        return {}
    if mirror == "off":
        return None
    mirrored, alone = mirror_map(classes)
    if alone:
        warnings.append(
            f"class '{alone[0]}' names a side or a turn and has no counterpart, so training will not mirror (--mirror same "
            "to allow)"
        )
        return None
    return mirrored
