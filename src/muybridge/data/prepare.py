"""`prepare`: look at every video once, say what is broken, split without leaks, write a manifest."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.console import progress
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.mirroring import mirror_map
from muybridge.data.sources import Item, class_folders, csv_list, grouped, split_lists
from muybridge.data.splits import assign
from muybridge.errors import UserError
from muybridge.files import sha256_file
from muybridge.video import DecodeError, VideoInfo, probe


@dataclass(frozen=True)
class Prepared:
    """What `prepare` found and wrote."""

    manifest: Path
    videos: int
    """Rows of the manifest."""
    rejected: list[dict[str, str]]
    """Every file left out: its path and the reason."""
    warnings: list[str]
    classes: dict[str, int]
    """Rows a class."""
    splits: dict[str, dict[str, int]]
    """Rows a split, for each split column."""
    groups: int
    mirror: dict[str, str] | None
    """What mirroring makes of a class (a class not named stays as it is); none: training will not mirror."""
    sha256: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "manifest": str(self.manifest)}


def prepare(
    folder: str | Path | None = None,
    *,
    out: str | Path,
    csv: str | Path | None = None,
    group: str | None = None,
    train_list: str | Path | None = None,
    val_list: str | Path | None = None,
    test_list: str | Path | None = None,
    folds: int | None = None,
    val: float = 0.15,
    test: float = 0.2,
    min_frames: int = 4,
    mirror: str = "auto",
    seed: int = 0,
    jobs: int | None = None,
) -> Prepared:
    """Write the manifest `out` for a folder of class folders, or for a CSV of path,label[,group,split,start,end].

    Every file is decoded once, in parallel; one that fails, or is shorter than `min_frames`, is listed with the reason
    and left out. Splits are by `group` (a regular expression over the path; or the CSV's column), by official lists
    (`train_list` and `test_list`; or the CSV's column split), or random where there is no group. `folds` cuts K test
    folds instead of one. `val` is cut from train, by group too; `val` and `test` are shares of the whole.

    `mirror`: what mirroring the picture does to a label. "same": nothing; "off": never mirror; "auto": classes that
    name left and right are swapped where both exist, and mirroring is off where only one does.

    Raises UserError for what a person has to mend.
    """
    out = Path(out)
    if out.suffix != ".csv":
        raise UserError(f"--out names the manifest, a .csv file; '{out}' is not one. For example: --out {out.name}.csv")
    if (folder is None) == (csv is None):
        raise UserError("prepare takes a folder of class folders, or --csv FILE: one of them")
    if not 0 <= val < 1 or not 0 < test < 1 or val + test >= 1:
        raise UserError(f"val ({val}) and test ({test}) are shares of the whole: 0 ≤ val, 0 < test, together below 1")
    if folds is not None and folds < 2:
        raise UserError(f"--folds {folds}: at least two folds are needed")
    if min_frames < 1:
        raise UserError(f"--min-frames {min_frames}: at least one frame is needed")
    if mirror not in ("auto", "same", "off"):
        raise UserError(f"--mirror is '{mirror}'; auto, same and off are valid")
    root, items, strays = _items(folder, csv, train_list, val_list, test_list)
    if group is not None:
        items, ungrouped = grouped(items, group)
        strays += ungrouped
    _check_items(items, folds)
    inputs = [root / item.path for item in items] + [Path(p) for p in (csv, train_list, val_list, test_list) if p]
    if out.resolve() in {path.resolve() for path in inputs}:
        raise UserError(f"--out {out} would overwrite one of the files to prepare")

    kept, infos, rejected, warnings = _look(root, items, min_frames=min_frames, jobs=jobs)
    rejected += [{"path": path, "reason": reason} for path, reason in strays]
    lost = sorted({item.label for item in items} - {item.label for item in kept})
    if len({item.label for item in kept}) < 2:
        raise UserError(
            f"Of {len(items)} videos {len(kept)} could be used, of {len({i.label for i in kept})} class(es); two classes "
            "are needed. The first reasons: " + "; ".join(f"{r['path']}: {r['reason']}" for r in rejected[:3])
        )
    if folder is not None:
        empty = sorted({path.name for path in root.iterdir() if _is_class(path)} - {item.label for item in items})
        if empty:
            warnings.append(f"{', '.join(empty)}: class folders without a usable file")
    _warn_two_labels(kept, infos, warnings)
    if lost:
        warnings.append(f"no video of {', '.join(lost)} could be used; the classes are left out")

    labels = np.array([item.label for item in kept])
    classes = sorted(set(labels.tolist()))
    hashes = np.array([info.sha256 for info in infos])
    groups = np.array([item.group for item in kept])
    columns: dict[str, Any] = {
        "id": [_row_id(item) for item in kept],
        "path": [item.path for item in kept],
        "start_frame": [info.start_frame for info in infos],
        "num_frames": [info.num_frames for info in infos],
        "label": labels,
        "group": groups,
        "fps": [info.video.fps for info in infos],
        "width": [info.video.width for info in infos],
        "height": [info.video.height for info in infos],
        "sha256": hashes,
        "seekable": [int(info.video.seekable) for info in infos],
    }
    given = np.array([item.split for item in kept])
    columns |= _splits(given, groups, hashes, labels, folds=folds, val=val, test=test, seed=seed, warnings=warnings)
    mirrored = _mirror(mirror, classes, warnings)
    manifest = from_columns(columns, classes=classes, root=root, mirror=mirrored, where=str(out))
    _check_splits(manifest, warnings)
    manifest.save(out)
    return summary(out, manifest, rejected=rejected, warnings=warnings)


def summary(out: Path, manifest: Manifest, *, rejected: list[dict[str, str]], warnings: list[str]) -> Prepared:
    """Counts of a manifest that was just written."""
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
    )


def _items(
    folder: str | Path | None,
    csv: str | Path | None,
    train_list: str | Path | None,
    val_list: str | Path | None,
    test_list: str | Path | None,
) -> tuple[Path, list[Item], list[tuple[str, str]]]:
    if csv is not None:
        root = Path(csv).parent
        strays: list[tuple[str, str]] = []
        items = csv_list(Path(csv))
    else:
        root = Path(folder or "")
        items, strays = class_folders(root)
    lists = {"train": train_list, "val": val_list, "test": test_list}
    named = {split: Path(path) for split, path in lists.items() if path is not None}
    if named:
        if "train" not in named or "test" not in named:
            raise UserError("An official split needs --train-list and --test-list (and --val-list, where there is one)")
        items = split_lists(items, named)
    return root, items, strays


def _check_items(items: Sequence[Item], folds: int | None) -> None:
    """Mistakes that can be told before hours of decoding."""
    if len({item.label for item in items}) < 2:
        raise UserError(f"Only one class ('{items[0].label}') was found; a classifier needs at least two")
    twice = [name for name, count in Counter(map(_row_id, items)).items() if count > 1]
    if twice:
        raise UserError(f"'{twice[0]}' is listed more than once; a part needs its own start or end")
    num_split = sum(item.split != "" for item in items)
    if num_split and folds is not None:
        raise UserError("--folds cuts folds by itself; it does not go with an official split")
    if 0 < num_split < len(items):
        raise UserError(f"Column split is filled in {num_split} of {len(items)} rows: fill all or none")


@dataclass(frozen=True)
class _Looked:
    video: VideoInfo
    sha256: str
    start_frame: int
    num_frames: int


def _look(
    root: Path, items: Sequence[Item], *, min_frames: int, jobs: int | None
) -> tuple[list[Item], list[_Looked], list[dict[str, str]], list[str]]:
    """Decode every distinct file once; keep the items that can be used."""
    paths = sorted({item.path for item in items})
    by_path: dict[str, tuple[VideoInfo, str] | str] = {}
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool, progress("decoding", len(paths)) as bar:
        try:
            for path, result in zip(paths, pool.map(_open, [root / path for path in paths]), strict=True):
                by_path[path] = result
                bar.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    kept: list[Item] = []
    infos: list[_Looked] = []
    rejected: list[dict[str, str]] = []
    warnings: list[str] = []
    for item in items:
        result = by_path[item.path]
        if isinstance(result, str):
            rejected.append({"path": item.path, "reason": result})
            continue
        video, digest = result
        start, end = _part(item, video)
        if end - start < min_frames:
            part = "" if item.start_seconds is None and item.end_seconds is None else " in this part"
            reason = f"too short: {max(0, end - start)} frames{part}, at least {min_frames} are needed (--min-frames)"
            rejected.append({"path": item.path, "reason": reason})
            continue
        kept.append(item)
        infos.append(_Looked(video, digest, start, end - start))
    for path in paths:
        found = by_path[path]
        if not isinstance(found, str) and found[0].num_frames < found[0].declared_frames - 1:
            video = found[0]
            warnings.append(
                f"{path}: the header says {video.declared_frames} frames, {video.num_frames} can be decoded"
            )
    return kept, infos, rejected, warnings


def _open(path: Path) -> tuple[VideoInfo, str] | str:
    """What is in a file and its hash, or the reason why it cannot be used."""
    if path.exists() and not path.is_file():
        return "is no regular file"
    try:
        return probe(path), sha256_file(path)
    except DecodeError as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


def _part(item: Item, video: VideoInfo) -> tuple[int, int]:
    """First frame and the one past the last of the labelled part, by display time."""
    start = 0 if item.start_seconds is None else int(np.searchsorted(video.times_seconds, item.start_seconds - 1e-6))
    if item.end_seconds is None:
        return start, video.num_frames
    return start, int(np.searchsorted(video.times_seconds, item.end_seconds - 1e-6))


def _row_id(item: Item) -> str:
    if item.start_seconds is None and item.end_seconds is None:
        return item.path
    end = "" if item.end_seconds is None else f"{item.end_seconds:.12g}"
    return f"{item.path}#{item.start_seconds or 0:.12g}-{end}"


def _splits(
    given: np.ndarray,
    groups: np.ndarray,
    hashes: np.ndarray,
    labels: np.ndarray,
    *,
    folds: int | None,
    val: float,
    test: float,
    seed: int,
    warnings: list[str],
) -> dict[str, np.ndarray]:
    """The split columns. What may not straddle is the group; where there is none, the file and its exact copies."""
    units = np.where(groups == "", np.char.add("sha256:", hashes), np.char.add("group:", groups))
    has_groups = bool((groups != "").any())
    if (given != "").any():
        split = given.astype("<U6")
        _warn_copies(hashes, split, warnings)
        if not (split == "val").any():
            _cut_val(split, units, labels, val=val, seed=seed, purpose="val")
        return {"split": split}
    if not has_groups:
        warnings.append(
            "no group is known, so the split is random: clips cut from one recording may fall on both sides, and the "
            "test would flatter every model. Where names tell the source, give it: --group 'REGEX'"
        )
    elif (groups == "").any():
        warnings.append(f"{int((groups == '').sum())} rows have no group; each of them is taken as a source of its own")
    num_units, num_parts = len(set(units.tolist())), folds or (3 if val > 0 else 2)
    if num_units < num_parts:
        raise UserError(f"{num_units} group(s) are too few for {num_parts} parts that share none")
    if folds is None:
        part = assign(units, labels, [1 - val - test, val, test], seed=seed, purpose="split")
        split = np.array(["train", "val", "test"])[part]
        _warn_copies(hashes, split, warnings)
        return {"split": split}
    fold_N = assign(units, labels, [1.0] * folds, seed=seed, purpose="folds")
    columns = {}
    for fold in range(folds):
        split = np.where(fold_N == fold, "test", "train").astype("<U5")
        _cut_val(split, units, labels, val=val, seed=seed, purpose=f"val of fold {fold + 1}")
        columns[f"split_{fold + 1}"] = split
    _warn_copies(hashes, fold_N.astype(str), warnings)
    return columns


def _cut_val(split: np.ndarray, units: np.ndarray, labels: np.ndarray, *, val: float, seed: int, purpose: str) -> None:
    """Turn a part of train into val, in place: the share `val` of all that is used, at most half of train."""
    train = np.flatnonzero(split == "train")
    if val == 0 or len(train) == 0:
        return
    share = min(0.5, val * int((split != "unused").sum()) / len(train))
    cut = assign(units[train], labels[train], [1 - share, share], seed=seed, purpose=purpose)
    split[train[cut == 1]] = "val"


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _warn_two_labels(kept: Sequence[Item], infos: Sequence["_Looked"], warnings: list[str]) -> None:
    """The same content under two classes: one of them is wrong."""
    labels: dict[tuple[str, int, int], dict[str, str]] = {}
    for item, info in zip(kept, infos, strict=True):
        labels.setdefault((info.sha256, info.start_frame, info.num_frames), {})[item.label] = item.path
    both = [tuple(found.values()) for found in labels.values() if len(found) > 1]
    if both:
        warnings.append(
            f"{len(both)} file(s) have exact copies with another label, the first: {' and '.join(both[0][:2])}"
        )


def _warn_copies(hashes: np.ndarray, sides: np.ndarray, warnings: list[str]) -> None:
    """Files that lie on more than one side, by an official split or by a group of their own for each copy or part."""
    found: dict[str, set[str]] = {}
    for digest, side in zip(hashes.tolist(), sides.tolist(), strict=True):
        if side != "unused":
            found.setdefault(digest, set()).add(side)
    straddling = sum(len(sides) > 1 for sides in found.values())
    if straddling:
        warnings.append(f"{straddling} file(s) have exact copies, or other parts, in another split")


def _check_splits(manifest: Manifest, warnings: list[str]) -> None:
    for column in manifest.split_columns:
        split = manifest.text(column)
        labels = manifest.text("label")
        trained = set(labels[split == "train"].tolist())
        missing = [name for name in manifest.classes if name not in trained]
        if missing:
            raise UserError(
                f"Too few clips: {', '.join(missing[:5])} would have none in train ({column}). More clips or groups of "
                "these classes are needed, or a smaller --val or --test"
            )
        if not (split == "test").any():
            raise UserError(f"Too few clips: no test video is left in {column}")
        untested = [name for name in manifest.classes if name not in set(labels[split == "test"].tolist())]
        if untested:
            warnings.append(f"{column}: the test holds no video of {', '.join(untested[:8])}")
        if not (split == "val").any():
            warnings.append(f"{column}: there is no validation split; curves will show training only")


def _mirror(mirror: str, classes: list[str], warnings: list[str]) -> dict[str, str] | None:
    if mirror == "same":
        return {}
    if mirror == "off":
        return None
    found, alone = mirror_map(classes)
    if alone:
        warnings.append(
            f"class '{alone[0]}' names a side or a turn and has no counterpart, so training will not mirror (--mirror same "
            "to allow)"
        )
        return None
    return found
