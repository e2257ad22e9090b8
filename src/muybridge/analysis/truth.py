"""Truth: what the videos of a test show, and by which names other tools may call them.

It comes from a manifest, from a table or a list, from the test scores of runs, or from the predictions themselves.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from muybridge.analysis.answers import official_splits
from muybridge.analysis.datasets import Dataset
from muybridge.analysis.naming import ARRAYS, Names, class_numbers
from muybridge.analysis.temporal import Pair
from muybridge.data.manifest import SPLITS, Manifest
from muybridge.data.overview import overview
from muybridge.data.prepare.lists import numbered_lines
from muybridge.data.prepare.tables import read_table
from muybridge.errors import UserError, nearest
from muybridge.storage.predictions import Columns, Predictions, check_order, read, read_list
from muybridge.storage.run import Run, data_name
from muybridge.text import listed, plural

NAMES: Mapping[str, tuple[str, ...]] = {
    "video": ("video", "video_id", "id", "path", "file", "filename", "file_name", "clip", "name"),
    "label": ("label", "truth", "true_label", "target", "gt", "gt_label", "class", "y_true", "ground_truth"),
    "group": ("group", "person", "subject", "actor", "recording", "source"),
}
"""Usual names of the columns of a table of the truth."""
LISTS = (".txt", ".list", ".lst")
"""Endings of list files: a line a video, `path label` or `path num_frames label`."""
TABLES = (".csv", ".tsv", ".json")


Classes = Callable[[np.ndarray], tuple[str, ...]]
"""Classes in their order, for a truth that has labels and no list of classes."""


@dataclass(frozen=True, repr=False)
class Truth:
    """N videos of a test; of official splits, whose tests may share videos, one for each split that tests a video."""

    where: str
    """Its origin, for messages."""
    data: str
    """Name of the data set."""
    classes: tuple[str, ...]
    ids_N: np.ndarray
    labels_N: np.ndarray
    """Class indices; -1 where the label is not known."""
    groups_N: np.ndarray
    """Group of each video; the empty string where it has none."""
    split_N: np.ndarray
    """Number of the official split; 0 where the set has none."""
    folds: tuple[tuple[int, Dataset, np.ndarray], ...]
    """Number of each fold (0 where there is one test), its data set, and the indices of its test videos."""
    paths: tuple[tuple[str, ...], ...] = ()
    """Further names of each video: its path as the manifest has it, and from the root; empty without a manifest."""
    pairs: tuple[Pair, ...] = ()
    """Pairs of classes that only the direction of time tells apart."""
    manifest: str | None = None
    is_numbered: bool = False
    """Whether its videos have no names but their numbers in the test list."""

    @cached_property
    def of_split(self) -> Mapping[int, "Names"]:
        """Names of the videos of each official split; of all by 0 where the set has none."""
        of: dict[int, Names] = {}
        for split in np.unique(self.split_N).tolist():
            rows = np.flatnonzero(self.split_N == split)
            of[split] = Names(rows, [(str(self.ids_N[row]), *(self.paths[row] if self.paths else ())) for row in rows])
        return of

    def tested(self, rows: np.ndarray) -> tuple[tuple[Dataset, np.ndarray], ...]:
        """Data set of each fold, and (K,) how many of these rows each class has in it."""
        counts = [
            (dataset, np.bincount(self.labels_N[np.intersect1d(rows, of_fold)], minlength=len(self.classes)))
            for _, dataset, of_fold in self.folds
        ]
        return tuple((dataset, counts_K) for dataset, counts_K in counts if counts_K.any())

    def in_order(self, split: int) -> np.ndarray:
        """Indices of the videos in the order of the test list: of one fold or official split, or of all."""
        return next((rows for number, _, rows in self.folds if number == split), np.arange(len(self.ids_N)))

    def __repr__(self) -> str:
        return f"Truth({self.where}: {len(self.ids_N)} videos, {len(self.classes)} classes)"


def is_manifest(path: str | Path) -> bool:
    """Whether a file, or a folder such as a pack, is a manifest."""
    path = Path(path)
    return path.is_dir() or (path.with_suffix(".csv.json").exists() and path.suffix == ".csv")


def of_manifest(
    path: str | Path, *, split: str = "test", fold: int | None = None, classes: tuple[str, ...] | None = None
) -> Truth:
    """Truth by a manifest: the videos of a split, of one fold or of all. `classes`: another list of classes.

    Raises UserError.
    """
    manifest = Manifest.load(path)
    if split not in SPLITS:
        raise UserError(f"--split: '{split}' is not a split. {nearest(split, SPLITS)}")
    folds: list[int | None] = [fold] if fold is not None or not manifest.folds else list(manifest.folds)
    rows_of = [manifest.split(split, one) for one in folds]
    rows = np.concatenate(rows_of)
    if not len(rows):
        raise UserError(f"--split: {path} has no {split} videos. Name another split, or another manifest")
    if not manifest.official_splits and len(np.unique(rows)) < len(rows):
        raise UserError(
            f"--fold: folds of {path} share {split} videos. Say which fold the predictions are of: --fold N"
        )
    names = manifest.text("label", rows)
    known = classes or manifest.classes
    ends = np.cumsum([0, *map(len, rows_of)])
    return Truth(
        where=f"the {split} split of {path}", data=data_name(path), classes=known, ids_N=manifest.text("id", rows),
        labels_N=class_numbers(names, known, str(path)), groups_N=manifest.text("group", rows),
        split_N=np.repeat([one or 0 for one in folds], list(map(len, rows_of)))
        if manifest.official_splits
        else np.zeros(len(rows), dtype=np.int64),
        folds=tuple(
            (one or 0, _dataset(manifest, Path(path), one), np.arange(ends[number], ends[number + 1]))
            for number, one in enumerate(folds)
        ),
        paths=_paths(manifest, rows),
        pairs=tuple(pair for pair in manifest.reversed_pairs if set(pair) <= set(known)), manifest=str(path),
    )  # fmt: skip


def _paths(manifest: Manifest, rows: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """Path of each row as the manifest has it, and from the root of the file system."""
    root = manifest.root.absolute()
    return tuple((path, str(root / path)) for path in manifest.text("path", rows).tolist())


def _dataset(manifest: Manifest, path: Path, fold: int | None) -> Dataset:
    about = overview(manifest, path, fold)
    counts = {split: np.array(sizes) for split, sizes in about.class_sizes.items()}
    return Dataset(
        {split: int(of_split.sum()) for split, of_split in counts.items()}, counts, about, "", manifest.sha256(), None,
        manifest.folds if manifest.official_splits else (),
    )  # fmt: skip


def of_runs(runs: Iterable[Run]) -> Truth:
    """Truth by the test scores of runs: all videos that any of them was tested on. Raises UserError."""
    named = list(runs)
    runs = [run for run in named if run.is_finished and run.has_test_scores]
    if not runs:
        raise UserError(
            f"--truth: {named[0].path} is not finished with test scores, which would tell what videos show. Give a truth, or "
            "a finished run"
        )
    entries: dict[tuple[str, int], tuple[int, str]] = {}
    tests: dict[int | None, tuple[Dataset, set[tuple[str, int]]]] = {}
    for run in runs:
        scores, fold = run.scores("test"), run.recipe().data.fold
        split = (fold or 0) if official_splits(run) else 0
        of_run = [(name, split) for name in scores.ids_N.tolist()]
        for entry, label, group in zip(of_run, scores.labels_N.tolist(), scores.groups_N.tolist(), strict=True):
            entries.setdefault(entry, (label, group))
        tests.setdefault(fold, (Dataset.of(run), set()))[1].update(of_run)
    order = list(entries)
    place = {entry: number for number, entry in enumerate(order)}
    manifest, paths = _manifest_of(runs[0], [name for name, _ in order])
    return Truth(
        where=f"the test scores of {runs[0].path}" + (" and others" if len(runs) > 1 else ""),
        data=data_name(runs[0].recipe().data.manifest), classes=tuple(runs[0].dataset()["classes"]),
        ids_N=np.array([name for name, _ in order]), labels_N=np.array([entries[entry][0] for entry in order]),
        groups_N=np.array([entries[entry][1] for entry in order]), split_N=np.array([split for _, split in order]),
        folds=tuple(
            (fold or 0, dataset, np.sort([place[entry] for entry in of_fold]))
            for fold, (dataset, of_fold) in sorted(tests.items(), key=lambda one: one[0] or 0)
        ),
        paths=paths, manifest=manifest,
    )  # fmt: skip


def _manifest_of(run: Run, ids: Sequence[str]) -> tuple[str | None, tuple[tuple[str, ...], ...]]:
    """Manifest of a run, and the further names that it has for videos; nothing where it is not what the run was trained on."""
    path, sha256 = run.recipe().data.manifest, run.recipe().data.sha256
    try:
        manifest = Manifest.load(path)
    except (UserError, OSError):
        return None, ()
    row_of = {name: row for row, name in enumerate(manifest.text("id").tolist())}
    if manifest.sha256() != sha256 or not set(ids) <= row_of.keys():
        return None, ()
    return str(path), _paths(manifest, np.array([row_of[name] for name in ids]))


def of_table(
    path: str | Path,
    *,
    split: str = "test",
    columns: Columns,
    classes: tuple[str, ...] | None,
    first: int,
    guess: Classes,
) -> Truth:
    """Truth by a table (a video and a label a row), or by a list file.

    `first`: number of the first class, where labels are numbers. `guess`: classes where no list is given. Raises UserError.
    """
    path = Path(path)
    if path.suffix.lower() in LISTS or _has_no_header(path):
        ids, labels, groups = _of_list(path)
    elif path.suffix.lower() in TABLES:
        ids, labels, groups = _of_rows(path, split, columns)
    else:
        (told, *more) = read(path, columns=columns)
        if more or told.labels_R is None:
            raise UserError(
                f"--truth: {path} does not have one label a video. Give a manifest, a table or a list of labels"
            )
        return of_predictions([told], classes=classes, guess=guess, where=str(path))
    return _plain(str(path), path.stem, ids, labels, groups, classes=classes, first=first, guess=guess)


def of_predictions(
    parts: Sequence[Predictions], *, classes: tuple[str, ...] | None, guess: Classes, where: str = ""
) -> Truth:
    """Truth by the labels that predictions have beside their answers. Raises UserError where two files disagree."""
    entries: dict[str, tuple[str, str, str]] = {}
    told = [part for part in parts if part.labels_R is not None]
    for part in told:
        assert part.labels_R is not None
        labels = part.labels_R
        if labels.dtype.kind in "iu" and part.classes is not None:
            names = np.array([*part.classes, ""])
            labels = names[np.where((labels >= 0) & (labels < len(part.classes)), labels, len(part.classes))]
        groups = [""] * len(labels) if part.groups_R is None else part.groups_R.tolist()
        for video, label, group in zip(part.videos_R.tolist(), labels.tolist(), groups, strict=True):
            known = entries.setdefault(video, (str(label), group, part.path))
            if known[0] != str(label):
                places = part.path if known[2] == part.path else f"{known[2]} and {part.path}"
                raise UserError(
                    f"{places}: '{video}' is {known[0]} in one row and {label} in another. Give the truth alone: --truth FILE"
                )
    where = where or (told[0].path + (f" and {plural(len(told) - 1, 'other file')}" if len(told) > 1 else ""))
    return _plain(
        where, Path(told[0].path).stem, list(entries), [label for label, *_ in entries.values()],
        [group for _, group, _ in entries.values()], classes=classes, first=0, guess=guess,
        is_numbered=all(part.is_numbered for part in told),
        are_numbers=any(
            part.labels_R is not None and part.labels_R.dtype.kind in "iu" and part.classes is None and not part.are_text
            for part in told
        ),
    )  # fmt: skip


def of_arrays(
    labels_N: np.ndarray,
    ids: Sequence[str],
    groups: Sequence[str] | None,
    *,
    classes: tuple[str, ...] | None,
    guess: Classes,
) -> Truth:
    """Truth by labels in the order of the predictions. Raises UserError."""
    are_numbers = labels_N.dtype.kind in "iuf"
    if labels_N.dtype.kind == "f" and np.isfinite(labels_N).all() and (labels_N == np.floor(labels_N)).all():
        labels_N = labels_N.astype(np.int64)  # whole numbers, as tables keep them
    labels = [str(label) for label in labels_N.tolist()]
    return _plain(
        ARRAYS, "arrays", list(ids), labels, [""] * len(labels) if groups is None else [str(group) for group in groups],
        classes=classes, first=0, guess=guess, are_numbers=are_numbers,
    )  # fmt: skip


def _plain(
    where: str,
    data: str,
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    classes: tuple[str, ...] | None,
    first: int,
    guess: Classes,
    is_numbered: bool = False,
    are_numbers: bool = False,
) -> Truth:
    """Truth of which no manifest is known. `are_numbers`: its labels are numbers that were never text."""
    if not ids:
        raise UserError(f"{where}: it has no video. Give a row a video")
    if len(set(ids)) < len(ids):
        twice = next(name for number, name in enumerate(ids) if name in ids[:number])
        raise UserError(f"{where}: the video '{twice}' is there more than once. Remove all but one of its rows")
    numbers = np.array(labels, dtype=np.str_)
    if first and all(re.fullmatch("[0-9]{1,9}", label) for label in labels):
        numbers = np.array([int(label) - first for label in labels])
    known = classes or guess(numbers)
    if are_numbers:
        check_order(known, where)
    labels_N = class_numbers(numbers, known, where)
    if (labels_N < 0).all():
        raise UserError(f"{where}: no video has a label. Give the class of each")
    counts_K = np.bincount(labels_N[labels_N >= 0], minlength=len(known))
    dataset = Dataset({"test": len(ids)}, {"test": counts_K}, None, "no manifest was given (--truth manifest.csv)")
    return Truth(
        where=where, data=data, classes=known, ids_N=np.array(ids, dtype=np.str_), labels_N=labels_N,
        groups_N=np.array(groups, dtype=np.str_), split_N=np.zeros(len(ids), dtype=np.int64),
        folds=((0, dataset, np.arange(len(ids))),), is_numbered=is_numbered,
    )  # fmt: skip


def _of_list(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Videos, labels and (empty) groups of a list file, whose labels are numbers or names."""
    told = read_list(path)
    if told.labels_N is not None:
        return list(told.names), list(map(str, told.labels_N.tolist())), [""] * len(told.names)
    parts = [name.rsplit(maxsplit=1) for name in told.names]
    without = next((name for name, part in zip(told.names, parts, strict=True) if len(part) < 2), None)
    if without is not None:
        raise UserError(
            f"--truth: {path} has no label of '{without}'. Write a video and its class a line: clips/a.mp4 3"
        )
    return [part[0] for part in parts], [part[1] for part in parts], [""] * len(parts)


def _has_no_header(path: Path) -> bool:
    """Whether a .csv is a list of PySlowFast's, `path label` from the first line on."""
    if path.suffix.lower() != ".csv":
        return False
    first = next((line for _, line in numbered_lines(path)), "")
    return re.fullmatch(r"[^,;\t]*[^\s,;][ ,][0-9]{1,9}", first) is not None


def _of_rows(path: Path, split: str, columns: Columns) -> tuple[list[str], list[str], list[str]]:
    """Videos, labels and groups of a table; of one split, where it has several."""
    table = read_table(path)
    asked = {"video": columns.video, "label": columns.label, "group": columns.group}
    column_of: dict[str, str | None] = {}
    for what, usual in NAMES.items():
        named = asked[what] if asked[what] in table.columns else None
        column_of[what] = named or next((name for name in usual if name in table.columns), None)
        if column_of[what] is None and what != "group":
            raise UserError(
                f"--truth: {path} has no column of the {what} ({listed(table.columns) if table.columns else 'no header'}). Name "
                f"it: --column {what}=COLUMN"
            )
    rows = [(place, {key: (cell or "").strip() for key, cell in row.items() if key}) for place, row in table.rows]
    if any(row.get("split") == split for _, row in rows):
        rows = [(place, row) for place, row in rows if row.get("split") == split]
    ids, labels, groups = (
        [row.get(column_of[what] or "", "") for _, row in rows] for what in ("video", "label", "group")
    )
    for (place, _), video, label in zip(rows, ids, labels, strict=True):
        if not video or not label:
            raise UserError(
                f"{path}, {place}: it has no {'video' if not video else 'label'}. Fill it, or remove the row"
            )
    return ids, labels, groups
