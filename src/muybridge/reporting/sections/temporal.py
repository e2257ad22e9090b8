"""Does it use time, and where and when does it look."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.rows import Diagnosed, ModelResult
from muybridge.analysis.statistics import judged
from muybridge.data import inputs
from muybridge.reporting.charts import accuracy
from muybridge.reporting.charts import temporal as time
from muybridge.reporting.sections.parts import Chapter, Figure, Picture, Section, Table
from muybridge.storage.run import Run
from muybridge.text import listed
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
    diagnosed = _diagnosed(c)
    if not diagnosed:
        return None
    orders = list(dict.fromkeys(order for _, found in diagnosed for order in found.correct))
    rows = []
    for model, found in diagnosed:
        cells = [f"{found.accuracy(order):.3f}" if order in found.correct else "–" for order in orders]
        lost = found.change("shuffled")
        partner = [_partner(c, found)] if c.pairs else []
        rows.append(
            [model.name, *cells, *partner, f"{0.0 - lost.difference.value:+.3f} [{-lost.high:+.3f}, {-lost.low:+.3f}]"]
        )
    text = [_dependence(c)]
    blind = [model.name for model, found in diagnosed if found.largest_change.get("shuffled", 1.0) <= 1e-5]
    if blind:
        text.append(
            f"{listed(blind)}: scores are equal to 1e-5 whether frames are shuffled or not. Such a model sees a set of frames "
            "and no order."
        )
    changes = judged([found.difference("shuffled") for _, found in diagnosed])
    users = [
        model.name for (model, _), verdict in zip(diagnosed, changes, strict=True) if verdict.apart and verdict.high < 0
    ]
    if users:
        corrected = f" (corrected for {len(diagnosed)} {c.noun}s)" if len(diagnosed) > 1 else ""
        text.append(f"Less accurate with shuffled frames, by more than chance{corrected}: {listed(users)}.")
    partial = [
        f"{model.name} {len(found.predicted_SN)} of {found.num_seeds_of_row}"
        for model, found in diagnosed
        if len(found.predicted_SN) < found.num_seeds_of_row
    ]
    if partial:
        text.append(f"Not all seeds were diagnosed: {listed(partial)}.")
    missing = [model.name for model in c.models if model.diagnosed is None]
    if missing:
        text.append(f"Not diagnosed: {listed(missing)} (muybridge diagnose RUN).")
    spoken = "; ".join(
        f"{model.name}: " + ", ".join(f"{time.ORDERS.get(o, o)} {found.accuracy(o):.3f}" for o in found.correct)
        for model, found in diagnosed
    )
    partner = ["backwards, taken for the partner"] if c.pairs else []
    header = ["model", *(time.ORDERS.get(order, order) for order in orders), *partner, "order is worth [95 %]"]
    return Section(
        title="Does it use time?",
        text=tuple(text),
        tables=(
            Table(header, rows, name="time"),
            Table(["class", "model", "videos", *(time.ORDERS.get(o, o) for o in orders), "backwards, it is called"],
                  _by_class(c, diagnosed, orders), "words", "time-by-class", 30),
        ),
        figures=(Figure("time", "Accuracy with frames in other orders. " + spoken, time.orders(c)),),
        caption=(
            "The same test clips with their frames in other orders (docs/diagnosis.md). What order is worth: accuracy as "
            "evaluated minus accuracy with frames shuffled, on the same videos. No model was trained on shuffled or held frames: "
            "a loss says what this model leans on, not what could be learnt without it."
        ),
    )  # fmt: skip


def _diagnosed(c: Comparison) -> list[tuple[ModelResult, Diagnosed]]:
    return [
        (model, model.diagnosed)
        for model in c.models
        if model.diagnosed is not None and {"shuffled", "single_frame"} <= model.diagnosed.correct.keys()
    ]


def _partner(c: Comparison, found: Diagnosed) -> str:
    """Of the videos of classes that are each other's reversal: how many are taken for the other one when they run
    backwards."""
    partner = {c.classes.index(a): c.classes.index(b) for pair in c.pairs for a, b in (pair, pair[::-1])}
    chosen_N = np.isin(found.labels_N, list(partner))
    wanted_N = np.array([partner.get(int(label), -1) for label in found.labels_N])
    return f"{(found.predicted_SN == wanted_N)[:, chosen_N].mean():.3f}"


def _dependence(c: Comparison) -> str:
    """The data set's temporal dependence, as far as these models show it: how far one frame gets."""
    diagnosed = _diagnosed(c)
    found = [(model, one) for model, one in diagnosed if _shows_stills(model)]
    others = [model.name for model, one in diagnosed if not _shows_stills(model)]
    shown = listed(
        sorted({inputs.find(model.recipe.clip.modality).about for model, _ in diagnosed} - {inputs.RGB.about})
    )
    if not found:
        return (
            f"Temporal dependence of the data set is not known here: these {c.noun}s are shown {shown}, of which a "
            f"held frame has none, so what one frame would tell cannot be seen (compare with clip.modality={inputs.DEFAULT})."
        )
    these = f"those of these {c.noun}s that are shown frames, not {shown}," if others else f"these {c.noun}s"
    still_model, still = max(found, key=lambda one: one[1].accuracy("single_frame"))
    best_model, best = max(found, key=lambda one: one[1].accuracy("ordered"))
    one_frame, whole = still.accuracy("single_frame"), best.accuracy("ordered")
    chance = float(np.bincount(best.labels_N).max() / len(best.labels_N))
    words = (
        f"Temporal dependence of the data set, as far as {these} show it: the best answer from one frame is right on "
        f"{one_frame:.3f} of the videos ({still_model.name}), the best from whole clips on {whole:.3f} ({best_model.name}); "
        f"always saying the most frequent class gives {chance:.3f}."
    )
    lost = best.change("single_frame")
    if lost.apart and lost.high < 0 and whole > max(one_frame, chance):
        share = min(1.0, (whole - one_frame) / (whole - chance))
        words += f" Of what the best knows beyond that guess, {share:.0%} takes more than one frame."
    else:
        words += " That more than one frame is needed is not shown."
    if any(model.recipe.clip.num_frames == 1 for model, _ in found):
        return f"{words} Among them are {c.noun}s that were trained on single frames."
    return (
        f"{words} None of them was trained on single frames; one that was might get further (--set clip.num_frames=1)."
    )


def _shows_stills(model: ModelResult) -> bool:
    return inputs.find(model.recipe.clip.modality).shows_stills


def _by_class(
    c: Comparison, diagnosed: Sequence[tuple[ModelResult, Diagnosed]], orders: Sequence[str]
) -> list[list[str]]:
    rows = []
    for k in np.unique(diagnosed[0][1].labels_N).tolist():
        for model, found in diagnosed:
            of_class = found.labels_N == k
            called = np.bincount(found.predicted_SN[:, of_class].ravel(), minlength=len(c.classes))
            top = [i for i in np.argsort(-called, kind="stable")[:2] if called[i]]
            rows.append([
                c.classes[k], model.name, str(int(of_class.sum())),
                *(f"{found.correct[order][:, of_class].mean():.2f}" if order in found.correct else "–" for order in orders),
                ", ".join(f"{c.classes[i]} {called[i] / called.sum():.0%}" for i in top),
            ])  # fmt: skip
    return rows


def looks(chapter: Chapter) -> Section | None:
    """Saliency of the videos that `diagnose --video` was asked for."""
    if not chapter.with_frames:
        return None
    pictures, problems = [], []
    for model in chapter.comparison.models:
        for run in model.runs:
            for file in sorted((run.diagnosis_folder / "saliency").glob("*.npz")):
                try:
                    pictures.append(_salient(run, file))
                except (OSError, ValueError, LookupError, zipfile.BadZipFile, zlib.error) as error:
                    problems.append(f"{file} cannot be read and is left out: {error}")
    if not pictures and not problems:
        return None
    left = len(pictures) - MOST_SALIENT
    return Section(
        title="Where and when it looks",
        text=tuple(problems),
        pictures=tuple(pictures[:MOST_SALIENT]),
        caption=(
            "Upper row: the frames as the network saw them; lower row: how much the log probability of its answer falls when a "
            "cell is hidden, bright where it falls most. Below: when a whole time step is hidden."
            + (f" {left} more lie in the runs' folders diagnosis/saliency." if left > 0 else "")
        ),
    )


def _salient(run: Run, file: Path) -> Picture:
    with np.load(file, allow_pickle=False) as arrays:
        frames, drop_TGG, drop_T = arrays["frames_THWC"], arrays["drop_TGG"], arrays["drop_T"]
        label, predicted, probability = str(arrays["label"]), str(arrays["predicted"]), float(arrays["probability"])
        video = str(arrays["id"])
    frames = frames[
        len(frames) // len(drop_TGG) - 1 :: len(frames) // len(drop_TGG)
    ]  # a step's last one, of differences
    rows = [strip(part, height=HEIGHT) for part in (frames, heated(frames, drop_TGG))]
    steps = ", ".join(f"{drop:.2f}" for drop in drop_T)
    caption = (
        f"{run.name} on {video}: {predicted} ({probability:.2f}), is {label}. Hiding one time step after the other costs "
        f"{steps}."
    )
    return Picture(f"saliency-{run.name}-{file.stem}", caption, jpeg_bytes(np.concatenate(rows), quality=80))
