"""Sections on time: time-reversed classes, frame order, saliency."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from muybridge.analysis import temporal
from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult
from muybridge.analysis.temporal import LABELS, FrameOrders
from muybridge.reporting.charts import accuracy, frame_orders
from muybridge.reporting.sections.parts import Chapter, Figure, Picture, Section, Table, figures
from muybridge.storage.run import Run
from muybridge.video.strips import heated, jpeg_bytes, strip

MOST_SALIENT = 12

HEIGHT = 72
"""Pixels of a frame in a picture."""

MOST_STEPS = 8
"""Frames in a picture."""


def direction(chapter: Chapter) -> Section | None:
    """Section on accuracy between classes that are each other's reversal in time."""
    c = chapter.comparison
    if not c.pairs:
        return None
    lines = [
        [model.name, *(str(model.within_pairs([pair])) for pair in c.pairs), str(model.within_pairs(c.pairs))]
        for model in c.models
    ]
    spoken = "; ".join(f"{model.name} {model.within_pairs(c.pairs).value:.3f}" for model in c.models)
    chart = accuracy.direction(c)
    nothing = (
        ()
        if chart
        else ("No chart is drawn: all of these videos are of one source, and the intervals reach from 0 to 1.",)
    )
    return Section(
        title="Time-reversed classes",
        text=(
            "The classes of each pair are each other's reversal in time. A video of the pair is shown, and only the two "
            "may be answered: 0.5 is chance.",
            *nothing,
        ),
        tables=(
            Table(
                ["model", *(f"{a} / {b}" for a, b in c.pairs), "all pairs"],
                [*lines, ["chance", *["0.500"] * (len(c.pairs) + 1)]],
                name="direction",
                foot=1,
            ),
        ),
        figures=figures("direction", "Accuracy between time-reversed classes: " + spoken, chart),
    )


def frame_order(chapter: Chapter) -> Section | None:
    """Section on accuracy with frames in other orders, and what that says of models and data set."""
    c = chapter.comparison
    entries = temporal.diagnosed(c.of_runs)
    if not entries:
        return None
    orders = list(dict.fromkeys(order for _, answers in entries for order in answers.predicted))
    lines = []
    for model, answers in entries:
        cells = [f"{answers.accuracy(order):.3f}" if order in answers.predicted else "–" for order in orders]
        partner = [f"{answers.taken_for_partner(c.pairs):.3f}"] if c.pairs else []
        change = answers.change("shuffled")
        worth = f"{0.0 - change.difference.value:+.3f} [{-change.high:+.3f}, {-change.low:+.3f}]"
        lines.append([model.name, *cells, *partner, worth])
    spoken = "; ".join(
        f"{model.name}: "
        + ", ".join(f"{LABELS.get(order, order)} {answers.accuracy(order):.3f}" for order in answers.predicted)
        for model, answers in entries
    )
    width = len(orders), len(lines[0]) - len(orders) - 1
    foot = [[one.name, *[f"{one.top1:.3f}"] * width[0], *["–"] * width[1]] for one in c.baselines.both]
    labels = [LABELS.get(order, order) for order in orders]
    partner = ["backwards, taken for the partner"] if c.pairs else []
    return Section(
        title="Frame order",
        text=tuple(temporal.sentences(c.of_runs, c.noun)),
        tables=(
            Table(["model", *labels, *partner, "order is worth [95 %]"], lines + foot, name="time", foot=len(foot)),
            Table(["class", "model", "videos", *labels, "backwards, it is called"], _by_class(c, entries, orders), "words",
                  "time-by-class", 30),
        ),
        figures=(Figure("time", "Accuracy with frames in other orders. " + spoken, frame_orders.orders(c)),),
        caption=(
            "The same test clips with their frames in other orders (docs/diagnosis.md). Where a time step "
            "shows motion, whole steps are shuffled, and the motion inside stays. What order is worth: accuracy as evaluated "
            "minus accuracy with frames shuffled, on the same videos. No model was trained on shuffled or held frames: "
            "a loss says what this model leans on, not what could be learnt without it."
        ),
    )  # fmt: skip


def _by_class(
    c: Comparison, entries: Sequence[tuple[ModelResult, FrameOrders]], orders: Sequence[str]
) -> list[list[str]]:
    """Lines of the table by class: accuracy in each order, and the two most frequent answers to reversed videos."""
    lines = []
    for name in (name for name in c.classes if name in entries[0][1].per_class):
        for model, answers in entries:
            if name not in answers.per_class:
                continue
            accuracies, called = answers.per_class[name], answers.reversed_as[name]
            lines.append([
                name, model.name, str(accuracies["videos"]),
                *(f"{accuracies[order]:.2f}" if order in accuracies else "–" for order in orders),
                ", ".join(f"{other} {count / sum(called.values()):.0%}" for other, count in list(called.items())[:2]),
            ])  # fmt: skip
    return lines


def saliency(chapter: Chapter) -> Section | None:
    """Section with the saliency of the videos that were named to `diagnose --video`."""
    if not chapter.with_frames:
        return None
    pictures, problems = [], []
    for model in chapter.comparison.models:
        for run in model.runs:
            for file in sorted(run.saliency_folder.glob("*.npz")):
                try:
                    pictures.append(_salient(run, file))
                except (OSError, ValueError, LookupError, zipfile.BadZipFile, zlib.error) as error:
                    problems.append(f"{file} cannot be read and is left out: {error}")
    if not pictures and not problems:
        return None
    left = len(pictures) - MOST_SALIENT
    return Section(
        title="Saliency",
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
    step_frames = len(frames) // len(drop_TGG)
    frames = frames[step_frames - 1 :: step_frames]  # the last of each step
    strips = [strip(part, height=HEIGHT, most=MOST_STEPS) for part in (frames, heated(frames, drop_TGG))]
    shown = min(len(frames), MOST_STEPS)
    steps = ", ".join(f"{drop:.2f}" for drop in drop_T)
    caption = (
        f"{run.name} on {video}: {predicted} ({probability:.2f}), is {label}. Hiding one time step after the other costs "
        f"{steps}."
    )
    return Picture(f"saliency-{run.name}-{file.stem}", caption, jpeg_bytes(np.concatenate(strips), quality=80), shown)
