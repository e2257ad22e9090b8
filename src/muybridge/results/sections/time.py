"""Does it use time, and where and when does it look."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from muybridge.results.comparison import Comparison, listed
from muybridge.results.figures import accuracy, time
from muybridge.results.rows import Diagnosed, ModelResult
from muybridge.results.sections.parts import Chapter, Figure, Picture, Section, Table
from muybridge.video.strips import heated, jpeg_bytes, strip

MOST_SALIENT = 12

HEIGHT = 72
"""Pixels of a frame in a picture."""


def direction(chapter: Chapter) -> Section | None:
    c = chapter.comparison
    if not c.pairs:
        return None
    rows = [
        [model.name, *(str(model.within_pairs([pair])) for pair in c.pairs), str(model.within_pairs(c.pairs))]
        for model in c.models
    ]
    spoken = "; ".join(f"{model.name} {model.within_pairs(c.pairs).value:.3f}" for model in c.models)
    return Section(
        title="Can it tell forwards from backwards?",
        text=(
            "The classes of each pair are each other's reversal in time. A video of the pair is shown, and only the two "
            "may be answered: 0.5 is chance.",
        ),
        tables=(Table(["model", *(f"{a} / {b}" for a, b in c.pairs), "all pairs"], rows, name="direction"),),
        figures=(Figure("direction", "Accuracy between time-reversed classes: " + spoken, accuracy.direction(c)),),
    )


def uses_time(chapter: Chapter) -> Section | None:
    c = chapter.comparison
    diagnosed = [(model, model.diagnosed) for model in c.models if model.diagnosed is not None]
    if not diagnosed:
        return None
    orders = list(dict.fromkeys(order for _, found in diagnosed for order in found.correct))
    rows = []
    for model, found in diagnosed:
        cells = [f"{found.accuracy(order):.3f}" if order in found.correct else "–" for order in orders]
        lost = found.change("shuffled")
        rows.append([model.name, *cells, f"{0.0 - lost.difference.value:+.3f} [{-lost.high:+.3f}, {-lost.low:+.3f}]"])
    text = [_dependence(c)]
    blind = [model.name for model, found in diagnosed if found.largest_change.get("shuffled", 1.0) <= 1e-5]
    if blind:
        text.append(
            f"{listed(blind)}: scores are equal to 1e-5 whether frames are shuffled or not. Such a model sees a set of frames "
            "and no order."
        )
    users = [model.name for model, found in diagnosed if found.change("shuffled").high < 0]
    if users:
        text.append(
            f"Less accurate with shuffled frames, by more than chance: {listed(users)}. They use the order of frames."
        )
    missing = [model.name for model in c.models if model.diagnosed is None]
    if missing:
        text.append(f"Not diagnosed: {listed(missing)} (muybridge diagnose RUN).")
    spoken = "; ".join(
        f"{model.name}: " + ", ".join(f"{time.ORDERS.get(o, o)} {found.accuracy(o):.3f}" for o in found.correct)
        for model, found in diagnosed
    )
    header = ["model", *(time.ORDERS.get(order, order) for order in orders), "order is worth [95 %]"]
    return Section(
        title="Does it use time?",
        text=tuple(text),
        tables=(
            Table(header, rows, name="time"),
            Table(["model", "class", "videos", *(time.ORDERS.get(o, o) for o in orders), "backwards, it is called"],
                  _by_class(c, diagnosed, orders), "words", "time-by-class", 20),
        ),
        figures=(Figure("time", "Accuracy with frames in other orders. " + spoken, time.orders(c)),),
        caption=(
            "The same test clips with their frames in other orders (docs/diagnosis.md). What order is worth: accuracy as "
            "evaluated minus accuracy with frames shuffled, on the same videos. No model was trained on shuffled or held frames: "
            "a loss says what this model leans on, not what could be learnt without it."
        ),
    )  # fmt: skip


def _dependence(c: Comparison) -> str:
    """The data set's temporal dependence: how far one frame gets."""
    found = [(model, model.diagnosed) for model in c.models if model.diagnosed is not None]
    still_model, still = max(found, key=lambda one: one[1].accuracy("single_frame"))
    best_model, best = max(found, key=lambda one: one[1].accuracy("ordered"))
    one_frame, whole = still.accuracy("single_frame"), best.accuracy("ordered")
    chance = float(np.bincount(best.labels_N).max() / len(best.labels_N))
    words = (
        f"Temporal dependence of the data set: the best answer from one frame is right on {one_frame:.3f} of the videos "
        f"({still_model.name}), the best from whole clips on {whole:.3f} ({best_model.name}); always saying the most frequent "
        f"class gives {chance:.3f}."
    )
    if whole > one_frame and whole > chance:
        share = (whole - one_frame) / (whole - max(chance, 0.0))
        words += f" Of what is known beyond that guess, {min(1.0, share):.0%} takes more than one frame."
    else:
        words += " One frame is enough for all that these models know of it."
    return words


def _by_class(
    c: Comparison, diagnosed: Sequence[tuple[ModelResult, Diagnosed]], orders: Sequence[str]
) -> list[list[str]]:
    rows = []
    for model, found in diagnosed:
        for k in np.unique(found.labels_N):
            of_class = found.labels_N == k
            called = np.bincount(found.predicted_SN[:, of_class].ravel(), minlength=len(c.classes))
            top = [i for i in np.argsort(-called, kind="stable")[:2] if called[i]]
            rows.append([
                model.name, c.classes[k], str(int(of_class.sum())),
                *(f"{found.correct[order][:, of_class].mean():.2f}" if order in found.correct else "–" for order in orders),
                ", ".join(f"{c.classes[i]} {called[i] / called.sum():.0%}" for i in top),
            ])  # fmt: skip
    return rows


def looks(chapter: Chapter) -> Section | None:
    """Saliency of the videos that `diagnose --video` was asked for."""
    if not chapter.with_frames:
        return None
    pictures = []
    for model in chapter.comparison.models:
        for run in model.runs:
            for file in sorted((run.diagnosis_folder / "saliency").glob("*.npz")):
                pictures.append(_salient(model, file))
    if not pictures:
        return None
    left = len(pictures) - MOST_SALIENT
    return Section(
        title="Where and when it looks",
        pictures=tuple(pictures[:MOST_SALIENT]),
        caption=(
            "Upper row: the frames as the network saw them; lower row: how much the log probability of its answer falls when a "
            "cell is hidden, bright where it falls most. Below: when a whole time step is hidden."
            + (f" {left} more lie in the runs' folders diagnosis/saliency." if left > 0 else "")
        ),
    )


def _salient(model: ModelResult, file: Path) -> Picture:
    with np.load(file, allow_pickle=False) as arrays:
        frames, drop_TGG, drop_T = arrays["frames_THWC"], arrays["drop_TGG"], arrays["drop_T"]
        label, predicted, probability = str(arrays["label"]), str(arrays["predicted"]), float(arrays["probability"])
        video = str(arrays["id"])
    frames = frames[:: max(1, len(frames) // len(drop_TGG))][: len(drop_TGG)]
    rows = [strip(part, height=HEIGHT) for part in (frames, heated(frames, drop_TGG))]
    steps = ", ".join(f"{drop:.2f}" for drop in drop_T)
    caption = (
        f"{model.name} on {video}: {predicted} ({probability:.2f}), is {label}. Hiding one time step after the other costs "
        f"{steps}."
    )
    return Picture(f"saliency-{model.name}-{file.stem}", caption, jpeg_bytes(np.concatenate(rows), quality=80))
