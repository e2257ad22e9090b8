"""Cut a set into parts without leaks: whole groups, classes as even as the groups allow."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.random import generator
from muybridge.errors import UserError
from muybridge.text import plural

_CHUNK = 1024
"""Units whose counts of all classes are in memory at once."""


def assign(units_N: np.ndarray, labels_N: np.ndarray, shares: list[float], *, seed: int, purpose: str) -> np.ndarray:
    """Assign each of N rows to a part (an index into `shares`), (N,).

    All rows of a unit go together, and every part gets about its share of every class. Units are assigned one after
    another, the least even first, ties at random by the seed: each where the squared distance of all class counts from
    their targets grows least.
    """
    _, units_N = np.unique(units_N, return_inverse=True)
    classes, labels_N = np.unique(labels_N, return_inverse=True)
    num_units, num_classes = int(units_N.max()) + 1, len(classes)
    # (unit, class) pairs with rows, by unit: a table of all would take gigabytes for the largest sets
    pairs_M, counts_M = np.unique(units_N * num_classes + labels_N, return_counts=True)
    unit_M, class_M = np.divmod(pairs_M, num_classes)
    first_U = np.searchsorted(unit_M, np.arange(num_units + 1))
    spread_U = np.empty(num_units)
    for start in range(0, num_units, _CHUNK):
        stop = min(start + _CHUNK, num_units)
        rows = slice(first_U[start], first_U[stop])
        counts_CK = np.zeros((stop - start, num_classes))
        counts_CK[unit_M[rows] - start, class_M[rows]] = counts_M[rows]
        spread_U[start:stop] = counts_CK.std(1)
    shares_P = np.array(shares) / np.sum(shares)
    target_PK = shares_P[:, None] * np.bincount(labels_N, minlength=num_classes).astype(np.float64)
    scale_PK = np.maximum(target_PK, 1e-9)  # relative to the target, so that a small part is not starved by a large one
    shuffled_U = generator(seed, purpose).permutation(num_units)
    order_U = shuffled_U[np.argsort(-spread_U[shuffled_U], kind="stable")]
    filled_PK = np.zeros_like(target_PK)
    part_U = np.zeros(num_units, dtype=np.int64)
    for unit in order_U:
        rows = slice(first_U[unit], first_U[unit + 1])
        own, counts = class_M[rows], counts_M[rows]  # other classes' distances do not change
        lack_PC = filled_PK[:, own] - target_PK[:, own]
        error_P = (((lack_PC + counts) ** 2 - lack_PC**2) / scale_PK[:, own]).sum(1)
        nearest = np.flatnonzero(error_P <= error_P.min() + 1e-9)  # of these, the part that lacks most rows
        part = nearest[np.argmax((target_PK - filled_PK)[nearest].sum(1))] if len(nearest) > 1 else nearest[0]
        part_U[unit] = part
        filled_PK[part, own] += counts
    return part_U[units_N]


def split_columns(
    columns: dict[str, Any], *, folds: int | None, val: float, test: float, seed: int, warnings: list[str]
) -> dict[str, np.ndarray]:
    """Split columns, in place of `split` as given.

    The rows of a group stay together; without a group, those of a file and its exact copies.
    """
    given, groups, hashes, labels = (columns.pop("split"), *(columns[name] for name in ("group", "sha256", "label")))
    units = np.where(groups == "", np.char.add("sha256:", hashes), np.char.add("group:", groups))
    has_groups = bool((groups != "").any())
    if (given != "").any():
        split = given.astype("<U6")
        if not (split == "val").any():
            _cut_val(split, units, labels, val=val, seed=seed, purpose="val")
        return {"split": split}
    if not has_groups:
        warnings.append(
            "no group is known, so the split is random: clips cut from one recording may fall on both sides, and the "
            "test would flatter every model. Where names tell the source, give it: --group 'REGEX' (of arrays: --groups FILE)"
        )
    elif (groups == "").any():
        warnings.append(f"{int((groups == '').sum())} rows have no group; each of them is taken as a source of its own")
    num_units, num_parts = len(set(units.tolist())), folds or (3 if val > 0 else 2)
    if num_units < num_parts:
        what = plural(num_units, "group" if has_groups else "different video")
        raise UserError(f"videos: {what} are too few for {num_parts} parts. Give each part at least one")
    if folds is None:
        part = assign(units, labels, [1 - val - test, val, test], seed=seed, purpose="split")
        split = np.array(["train", "val", "test"])[part]
        return {"split": split}
    fold_N = assign(units, labels, [1.0] * folds, seed=seed, purpose="folds")
    by_fold = {}
    for fold in range(folds):
        split = np.where(fold_N == fold, "test", "train").astype("<U5")
        _cut_val(split, units, labels, val=val, seed=seed, purpose=f"val of fold {fold + 1}")
        by_fold[f"split_{fold + 1}"] = split
    return by_fold


def official_folds(
    columns: dict[str, Any], folds: Mapping[int, Mapping[str, str]], *, val: float, seed: int
) -> dict[str, np.ndarray]:
    """Split columns of several official splits, in place of `split`; val is cut from train in each, by group."""
    columns.pop("split")
    units = np.where(
        columns["group"] == "",
        np.char.add("sha256:", columns["sha256"]),
        np.char.add("group:", columns["group"]),
    )
    by_fold = {}
    for number, splits in folds.items():
        split = np.array([splits.get(path, "unused") for path in columns["path"].tolist()], dtype="<U6")
        _cut_val(split, units, columns["label"], val=val, seed=seed, purpose=f"val of fold {number}")
        by_fold[f"split_{number}"] = split
    return by_fold


def _cut_val(split: np.ndarray, units: np.ndarray, labels: np.ndarray, *, val: float, seed: int, purpose: str) -> None:
    """Turn a part of train into val, in place: the share `val` of all that is used, at most half of train."""
    train = np.flatnonzero(split == "train")
    if val == 0 or len(train) == 0:
        return
    share = min(0.5, val * int((split != "unused").sum()) / len(train))
    cut = assign(units[train], labels[train], [1 - share, share], seed=seed, purpose=purpose)
    split[train[cut == 1]] = "val"


def check_splits(manifest: Manifest, warnings: list[str], *, is_given: bool) -> None:
    """Check that the split serves training. Raises UserError.

    `is_given`: the split is the user's.
    """
    for column in manifest.split_columns:
        split = manifest.text(column)
        labels = manifest.text("label")
        trained = set(labels[split == "train"].tolist())
        if not trained and is_given:
            present = [part for part in ("val", "test", "unused") if (split == part).any()]
            warnings.append(
                f"{column}: all videos are in {' and '.join(present)}; the set serves to evaluate on, not to train"
            )
            continue
        missing = [name for name in manifest.classes if name not in trained]
        if missing and is_given:
            where = [f"{name} ({', '.join(sorted(set(split[labels == name].tolist())))})" for name in missing[:5]]
            raise UserError(
                f"{column}: it has no training video of {', '.join(where)}, which no model can learn then. Change the "
                "split, add the videos that are missing, or leave these classes out"
            )
        if missing:
            raise UserError(
                f"{column}: too few clips, as {', '.join(missing[:5])} would have none in train. Add clips or groups "
                "of these classes, or give a smaller --val or --test"
            )
        if not (split == "test").any() and not is_given:
            raise UserError(f"{column}: too few clips, as no test video is left. Add clips, or give a larger --test")
