"""Shortcuts: how far a classifier gets that sees no motion at all, but only what a file says of itself, or a tiny still.

A network may learn whatever tells classes apart. Each classifier is a linear probe, scored on groups (and copies) that it
was not fitted to, and held against the better of chance and the most common class.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from muybridge.analysis.doctor.probe import binned, folds_of, out_of_fold
from muybridge.analysis.statistics import Interval, accuracy_interval
from muybridge.data.doctor.finding import Case, Example, Finding
from muybridge.text import listed, plural

CONFIDENCE = 0.99
"""Confidence of the interval that must lie above a guess."""
LEAST_GAIN = 0.05
"""Accuracy above a guess from which a shortcut is worth a word."""
LEAST_RECALL = 0.5
"""Recall of a class above the shares of others from which it is named."""
FEW = 5
MARK_EFFECT, MARK_CHANCE, MARK_SHARE = 1.0, 4.5, 0.12
"""A mark: cells of a class's stills that are this many deviations from the others' (plus standard errors of a mean, as the
largest of some hundred cells is off by chance), on at most this share of cells."""
FEW_MARKED, MARKED = 12, 0.8
"""Least videos of a class in which a mark is looked for, and the share of them that must have it (of the others, lack it)."""
MOST_STILLS = 1000
"""Stills of a class, and of all others, whose medians are taken, evenly picked."""
CODING = 4.0
"""Levels of 255 below which a difference is coding."""
FORM = ("width", "height", "frame rate", "codec", "container", "audio")
"""Form of a file; bit rate and duration follow from what is filmed as well."""


def units_of(case: Case) -> np.ndarray:
    """Unit of each row that is never cut by a fold: its group, or without one its file, and all its copies, (N,)."""
    columns = case.manifest.text
    groups, hashes = columns("group"), columns("sha256")
    own = np.array([f"row {row}" for row in range(len(case.manifest))])
    units_N = np.where(
        groups != "", np.char.add("group ", groups), np.where(hashes != "", np.char.add("file ", hashes), own)
    )
    by_name: dict[str, str] = {}
    for rows in case.copies.clusters():
        for row in rows:
            by_name[str(units_N[row])] = str(units_N[rows[0]])

    def root(name: str) -> str:
        seen = {name}
        while (above := by_name.get(name, name)) not in seen:
            seen.add(above)
            name = above
        return name

    return np.array([root(name) for name in units_N.tolist()])


def metadata(case: Case) -> Iterator[Finding]:
    """Finding on what file metadata alone tells of the class."""
    if case.looks_N is None:
        return
    columns, looks_N = case.manifest.columns, case.looks_N
    seconds_N = columns["num_frames"] / columns["fps"]
    named = {
        "width": columns["width"], "height": columns["height"], "frame rate": np.round(columns["fps"], 2),
        "duration": np.round(seconds_N, 2), "bit rate": np.round(looks_N["bytes"] / np.maximum(seconds_N, 1e-3), -2),
        "codec": looks_N["codec"], "container": looks_N["container"], "audio": looks_N["has_audio"].astype(np.int64),
    }  # fmt: skip
    varied = {name: values for name, values in named.items() if len(np.unique(values)) > 1}
    if not varied or not _can_be_judged(case):
        return
    folds_N = folds_of(units_of(case), case.labels_N)

    def scored(names: Iterable[str]) -> np.ndarray:
        return out_of_fold(binned([varied[name] for name in names]), case.labels_N, folds_N, len(case.manifest.classes))

    alone = {name: float((scored([name]).argmax(1) == case.labels_N).mean()) for name in varied}
    form = [name for name in varied if name in FORM]
    for names, is_form in ((form, True), (list(varied), False)):
        if not names:
            continue
        scores_NK = scored(names)
        accuracy, guess, is_shortcut = _judged(case, scores_NK)
        if not is_shortcut and (is_form or names == form):
            continue
        best = ", ".join(f"{name} {alone[name]:.3f}" for name in sorted(names, key=lambda name: -alone[name])[:3])
        said = (
            ". That may be luck." if not is_shortcut
            else f" (alone: {best}){_by_class(case, scores_NK)}. "
            + ("The form of a file should tell nothing: a network may use its traces." if is_form
               else "Bit rate and duration follow from what is filmed, too.")
        )  # fmt: skip
        yield Finding(
            "metadata-tells-the-class", "doubt" if is_shortcut and is_form else "note",
            f"What the files say of themselves ({', '.join(names)}) names the class of {accuracy} of the videos, a guess that "
            f"of {guess:.3f}{said}",
            "muybridge pack … --short-side 128 --fps 12" if is_shortcut and is_form else "",
            figures={**_figures(accuracy, guess), "alone": {name: alone[name] for name in names}},
        )  # fmt: skip
        return


def still(case: Case) -> Iterator[Finding]:
    """Finding on what a still of 16 x 12 cells tells of the class."""
    if case.looks_N is None or not _can_be_judged(case):
        return
    stills_NHW3 = case.looks_N["still"]
    count, height, width = len(stills_NHW3), stills_NHW3.shape[1] // 2, stills_NHW3.shape[2] // 2
    values_ND = stills_NHW3.reshape(count, height, 2, width, 2, 3).mean((2, 4)).reshape(count, -1)
    scores_NK = out_of_fold(
        values_ND, case.labels_N, folds_of(units_of(case), case.labels_N), len(case.manifest.classes)
    )
    accuracy, guess, is_shortcut = _judged(case, scores_NK)
    recall_K = _recalls(case, scores_NK)
    shown = [int(k) for k in np.argsort(-np.nan_to_num(recall_K)) if recall_K[k] >= LEAST_RECALL][:3]
    yield Finding(
        "still-tells-the-class", "doubt" if is_shortcut else "note",
        f"The median picture in {width} × {height} cells names the class of {accuracy} of the videos, a guess that of "
        f"{guess:.3f}" + (
            f"{_by_class(case, scores_NK)}. Scenes may do that honestly, but these classes need no motion to be told."
            if is_shortcut else ". That may be luck."
        ),
        "muybridge diagnose STUDY" if is_shortcut else "",
        examples=tuple(_example(case, k, _effect(stills_NHW3, case.labels_N == k)[0]) for k in shown if is_shortcut),
        figures=_figures(accuracy, guess),
    )  # fmt: skip


def marks(case: Case) -> Iterator[Finding]:
    """Findings on marks: something small at one place of nearly all stills of a class, and of hardly any others."""
    if case.looks_N is None:
        return
    stills_NHW3 = case.looks_N["still"]
    for k, name in enumerate(case.manifest.classes):
        own_N = case.labels_N == k
        if own_N.sum() < FEW_MARKED or own_N.all():
            continue
        _, effect_HW = _effect(stills_NHW3, own_N)
        least = MARK_EFFECT + MARK_CHANCE / float(own_N.sum()) ** 0.5
        strong_HW = effect_HW >= max(least, float(effect_HW.max()) / 2)
        if not strong_HW.any() or strong_HW.mean() > MARK_SHARE:
            continue
        off_N = np.abs(stills_NHW3[:, strong_HW] - np.median(stills_NHW3[own_N][:, strong_HW], axis=0)).mean((1, 2))
        has_N = off_N <= 3 * (np.median(off_N[own_N]) + CODING)
        with_mark, without = float(has_N[own_N].mean()), float(has_N[~own_N].mean())
        if with_mark < MARKED or without > 1 - MARKED:
            continue
        where = _place(strong_HW)
        yield Finding(
            "a-mark", "fault",
            f"{name} has something {where} that other classes lack: {plural(int(strong_HW.sum()), 'cell')} of "
            f"{strong_HW.size} that look alike in {with_mark:.0%} of its videos and in {without:.0%} of the others. A network "
            "that reads a logo learns no action: cut it off, or cover it in all videos.",
            "", (), (_example(case, k, effect_HW),), {"class": name, "where": where, "effect": float(effect_HW.max())},
        )  # fmt: skip


def _can_be_judged(case: Case) -> bool:
    """Whether there are enough units and classes to score out of fold."""
    return len(case.manifest.classes) > 1 and len(np.unique(units_of(case))) >= 3


def _judged(case: Case, scores_NK: np.ndarray) -> tuple[Interval, float, bool]:
    """Accuracy with its interval, that of a guess, and whether the first is clearly above."""
    correct_N = scores_NK.argmax(1) == case.labels_N
    counts_K = np.bincount(case.labels_N)
    guess = max(1 / len(case.manifest.classes), float(counts_K.max() / counts_K.sum()))
    interval = accuracy_interval(correct_N[None], units_of(case), confidence=CONFIDENCE)
    return interval, guess, interval.low > guess and interval.value >= guess + LEAST_GAIN


def _recalls(case: Case, scores_NK: np.ndarray) -> np.ndarray:
    """Share of each class that is named right, less the share of the others that is called so; NaN of a class of few."""
    answers_N, labels_N = scores_NK.argmax(1), case.labels_N
    recalls = []
    for k in range(scores_NK.shape[1]):
        own_N = labels_N == k
        enough = own_N.sum() >= FEW and not own_N.all()
        recalls.append((answers_N[own_N] == k).mean() - (answers_N[~own_N] == k).mean() if enough else np.nan)
    return np.array(recalls)


def _by_class(case: Case, scores_NK: np.ndarray) -> str:
    recall_K = np.nan_to_num(_recalls(case, scores_NK))
    order = [k for k in np.argsort(-recall_K, kind="stable") if recall_K[k] >= LEAST_RECALL]
    return f". Best told: {listed([f'{case.manifest.classes[k]} ({recall_K[k]:.2f})' for k in order])}" if order else ""


def _figures(accuracy: Interval, guess: float) -> dict[str, float]:
    return {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high, "guess": guess}


def _effect(stills_NHW3: np.ndarray, own_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (H,W) of a class's stills from those of the others, and the part of it (H,W) that a mark may make.

    In deviations, of the colour that differs most; by medians, which a few wrong labels do not move. A mark is the same in all
    videos of its class: it varies no more than what others have in its place, as a person there would.
    """
    middles, spreads = [], []
    for of_part in (own_N, ~own_N):
        rows = np.flatnonzero(of_part)
        part = stills_NHW3[rows[:: -(-len(rows) // MOST_STILLS)]].astype(np.float32)
        middle = np.median(part, axis=0)
        middles.append(middle)
        spreads.append(1.4826 * np.median(np.abs(part - middle), axis=0))
    apart, (own, others) = np.abs(middles[0] - middles[1]), spreads
    distance_HW3 = apart / (np.minimum(own, others) + CODING)
    mark_HW3 = np.where(own <= others + CODING, apart / (own + CODING), 0.0)
    return distance_HW3.max(-1), mark_HW3.max(-1)


def _place(strong_HW: np.ndarray) -> str:
    """Words for where most of the cells lie."""
    rows, columns = np.nonzero(strong_HW)
    high, wide = strong_HW.shape
    up = ("at the top", "in the middle", "at the bottom")[min(2, int(3 * (rows.mean() + 0.5) / high))]
    side = ("on the left", "", "on the right")[min(2, int(3 * (columns.mean() + 0.5) / wide))]
    return f"{up} {side}".strip()


def _example(case: Case, k: int, where_HW: np.ndarray) -> Example:
    """A video of a class, with where the class differs from the others laid over it."""
    rows = np.flatnonzero(case.labels_N == k)
    return Example(
        tuple(int(row) for row in rows[np.linspace(0, len(rows) - 1, min(3, len(rows))).astype(int)]),
        f"{case.manifest.classes[k]}: bright is where its stills differ from those of all other classes",
        where_HW,
    )
