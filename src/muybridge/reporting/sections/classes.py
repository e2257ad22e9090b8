"""Sections by class and video: per-class gains, confusion matrices, disagreements."""

from collections.abc import Sequence

import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.datasets import FEW
from muybridge.analysis.results import ModelResult
from muybridge.reporting.charts import classes
from muybridge.reporting.disagreements import Changed, Frames, answer_of, changed_sides
from muybridge.reporting.sections.parts import MOST_MATRICES, Chapter, Figure, Picture, Section, Table, share
from muybridge.text import listed, plural
from muybridge.video import flow_colours
from muybridge.video.strips import jpeg_bytes

MOST_CLASSES = 16
"""Classes in the table on the page."""
MOST_SIDE_BY_SIDE = 6
"""Models in the table on the page, the best."""
KEY_SIDE = 96
"""Pixels of the sides of the key of flow's colours."""
MOST_STRIPS = 6
"""Videos of each kind that are shown."""


def by_class(chapter: Chapter) -> Section:
    """Section with the accuracy of every class, and the classes that have too few videos to say much.

    One model has recall, precision and F1. Of several the page has the best ones' accuracies; the file has all figures.
    """
    c = chapter.comparison
    several = len(c.models) > 1
    rows = [
        [*([model.name] * several), c.classes[k], str(model.videos_K[k]), share(model.class_accuracy_K[k]),
         share(model.precision_K[k]), share(model.f1_K[k])]
        for model in c.models
        for k in _hardest_first(model)
    ]  # fmt: skip
    header = [*(["model"] * several), "class", "test videos", "recall", "precision", "F1"]
    every = Table(header, rows, name="per-class", most=0 if several else MOST_CLASSES)
    if not several:
        return Section(
            title="Per-class accuracy",
            text=tuple(_few_videos(c)),
            tables=(every,),
            caption=(
                "Recall: the share of a class's videos that is right. Precision: the share of its answers that is right. F1: "
                "their harmonic mean. Means over seeds; the class with the lowest recall first."
            ),
        )
    best = c.models[:MOST_SIDE_BY_SIDE]
    of_whom = f", of the {len(best)} best of {len(c.models)}" if len(best) < len(c.models) else ""
    beside = [
        [c.classes[k], str(best[0].videos_K[k]), *(share(model.class_accuracy_K[k]) for model in best)]
        for k in _hardest_first(best[0])
    ]
    names = [c.short_name(rank) for rank in range(len(best))]
    uneven = any(not np.array_equal(model.videos_K, best[0].videos_K) for model in best)
    return Section(
        title="Per-class accuracy",
        text=(
            f"The share of each class's test videos that is right{of_whom}: the class that is hardest for the best first.",
            *(["They were not all tested on the same videos: the numbers of videos are the best one's."] * uneven),
            *_few_videos(c),
            "Precision and F1 of all models are in the file named below.",
        ),
        tables=(Table(["class", "test videos", *names], beside, name="class-accuracy", most=MOST_CLASSES), every),
        caption="Accuracy of a class is its recall. Means over seeds.",
    )


def _hardest_first(model: ModelResult) -> list[int]:
    """Classes by their accuracy; those without test videos last."""
    order: list[int] = np.argsort(np.nan_to_num(model.class_accuracy_K, nan=2.0), kind="stable").tolist()
    return order


def _few_videos(c: Comparison) -> list[str]:
    """Sentence on the classes with too few test videos; none where all have enough."""
    videos_K = c.models[0].videos_K
    few = [int(k) for k in np.argsort(videos_K, kind="stable") if videos_K[k] < FEW]
    if not few:
        return []
    names = listed([f"{c.classes[k]} ({videos_K[k]})" for k in few])
    return [
        f"{plural(len(few), 'class')} of {len(c.classes)} {'has' if len(few) == 1 else 'have'} fewer than {FEW} test videos, and "
        f"a figure of so few says little: {names}."
    ]


def gains(chapter: Chapter) -> Section | None:
    """Section with the accuracy of two models class by class."""
    c = chapter.comparison
    if len(c.models) < 2:
        return None
    a, b = chapter.pair
    first, second = c.models[a], c.models[b]
    gain_K = first.class_accuracy_K - second.class_accuracy_K
    finite = [int(k) for k in np.argsort(-gain_K, kind="stable") if np.isfinite(gain_K[k])]
    videos_K = np.bincount(first.labels_N, minlength=len(c.classes))
    rows = [
        [c.classes[k], str(videos_K[k]), share(first.class_accuracy_K[k]), share(second.class_accuracy_K[k]),
         f"{gain_K[k]:+.3f}"]
        for k in finite
    ]  # fmt: skip
    ups = [f"{c.classes[k]} {gain_K[k]:+.2f}" for k in finite[:3] if gain_K[k] > 0]
    downs = [f"{c.classes[k]} {gain_K[k]:+.2f}" for k in finite[::-1][:3] if gain_K[k] < 0]
    equal = not ups and not downs
    spoken = (
        f"{first.name} and {second.name} are right on the same share of every class."
        if equal
        else (
            f"{first.name} (A) against {second.name} (B), class by class. Gains: {listed(ups) if ups else 'none'}; losses: "
            f"{listed(downs) if downs else 'none'}."
        )
    )
    every = [
        [c.classes[k], str(videos_K[k]), *(share(model.class_accuracy_K[k]) for model in c.models)] for k in finite
    ]
    return Section(
        title="Per-class gains",
        text=(spoken,),
        tables=(
            Table(["class", "videos", first.name, second.name, "A minus B"], rows, name="gains", most=16),
            Table(["class", "videos", *(model.name for model in c.models)], every, name="classes", most=0),
        ),
        figures=() if equal else (Figure("gains", spoken, classes.gains(c, a, b)),),
        caption=(
            "Accuracy of the videos of a class, mean over seeds. "
            + (
                "Another pair: muybridge report --pair A,B. "
                if equal
                else "On the page A and B are chosen below the chart: the "
                f"{classes.MOST_GAINS} largest gains and losses are drawn. "
            )
            + "With few videos a class, a single one moves much."
        ),
    )  # fmt: skip


def confusion(chapter: Chapter) -> Section:
    """Section with the most confused classes and a matrix a model."""
    c = chapter.comparison
    order = classes.order_of_classes(c)
    drawn = c.models[:MOST_MATRICES]
    rows = [[model.name, *error] for model in c.models for error in _errors(c, model)]
    every = [
        [model.name, c.classes[i], c.classes[j], str(model.confusion[i, j])]
        for model in c.models
        for i, j in np.argwhere(model.confusion).tolist()
    ]
    of_whom = f" Drawn for the {len(drawn)} best of {len(c.models)}." if len(drawn) < len(c.models) else ""
    return Section(
        title="Confusion matrix",
        text=("The pairs of classes that are most often confused, either way: how many answers of how many (videos × seeds).",),
        tables=(
            Table(["model", "class", "class", "confused", "as the second", "as the first"], rows or [["all", *"––0––"]],
                  "words", "confused", 3 * MOST_MATRICES),
            Table(["model", "true class", "predicted class", "answers"], every, name="confusion", most=0),
        ),
        figures=tuple(
            Figure(
                f"confusion-{number}-{model.name}",
                f"Confusion matrix of {model.name}. Most confused: "
                + (listed([f"{e[0]} and {e[1]} ({e[2]})" for e in _errors(c, model)]) if _errors(c, model) else "none"),
                classes.confusion(c, model, order),
            )
            for number, model in enumerate(drawn, start=1)
        ),
        caption=(
            "Test videos, summed over seeds and folds. Shade: share of the true class's videos (a row sums to 1), white for "
            f"none, dark blue for all. Classes stand so that those that are confused lie together.{of_whom}"
        ),
    )  # fmt: skip


def _errors(c: Comparison, model: ModelResult, most: int = 3) -> list[list[str]]:
    """The pairs most confused: the two classes, how many videos, which way."""
    counts_KK = model.confusion
    both_KK = np.triu(counts_KK + counts_KK.T, 1)
    videos_K = model.videos_K * model.num_seeds
    rows = []
    for index in np.argsort(-both_KK, axis=None, kind="stable")[:most]:
        i, j = divmod(int(index), len(c.classes))
        if both_KK[i, j]:
            rows.append([
                c.classes[i], c.classes[j], f"{both_KK[i, j]} of {videos_K[i] + videos_K[j]}", str(counts_KK[i, j]),
                str(counts_KK[j, i]),
            ])  # fmt: skip
    return rows


def disagreements(chapter: Chapter) -> Section | None:
    """Section with the videos that one of two models gets right and the other wrong."""
    c = chapter.comparison
    a, b = chapter.pair
    if len(c.models) < 2 or not len(c.common[a]):
        return None
    sides = changed_sides(c, a, b)
    first, second = c.models[a], c.models[b]
    rows = []
    for side in sides:
        for video, of_wrong in zip(side.videos, side.of_wrong, strict=True):
            answers = {
                side.right.name: answer_of(side.right, video, right=True),
                side.wrong.name: answer_of(side.wrong, of_wrong, right=False),
            }
            truth = c.classes[side.right.labels_N[video]]
            name = str(side.right.answers[0].ids_N[video])
            rows.append([name, truth, answers[first.name], answers[second.name], "A" if side.right is first else "B"])
    pictures, problem = _strips(chapter, sides) if chapter.with_frames else ([], "")
    text = [
        f"{first.name} (A) is right and {second.name} (B) wrong on {plural(len(sides[0].videos), 'video')}; the other way "
        f"round on {len(sides[1].videos)}."
    ]
    if problem:
        text.append(f"Not all frames can be shown: {problem}")
    return Section(
        title="Disagreements",
        text=tuple(text),
        tables=(Table(["video", "true class", f"A: {first.name}", f"B: {second.name}", "right"], rows, "words", "changed", 12),)
        if rows
        else (),
        pictures=tuple(pictures),
        caption=(
            f"Right in most seeds of one and wrong in half of the other's or more; the clearest first, at most {MOST_STRIPS} of "
            "each kind shown. In brackets the probability that the answer was given. Another pair: --pair A,B."
        ),
    )  # fmt: skip


def _strips(chapter: Chapter, sides: Sequence[Changed]) -> tuple[list[Picture], str]:
    c = chapter.comparison
    frames = Frames([manifest for side in sides for manifest in side.right.manifests])
    pictures: list[Picture] = []
    has_flow = False
    for side in sides:
        for video, of_wrong in zip(side.videos[:MOST_STRIPS], side.of_wrong, strict=False):
            name = str(side.right.answers[0].ids_N[video])
            shown = frames.strip(name)
            if shown is None:
                continue
            has_flow |= shown.has_flow
            truth = c.classes[side.right.labels_N[video]]
            caption = (
                f"{name} is {truth}. {side.right.name}: {answer_of(side.right, video, right=True)}, right; {side.wrong.name}: "
                f"{answer_of(side.wrong, of_wrong, right=False)}, wrong. {shown}"
            )
            pictures.append(Picture(f"changed-{len(pictures) + 1}", caption.strip(), shown.jpeg, shown.frames))
    if has_flow:
        caption = (
            "Key of the flow's colours: each is the motion from the centre to where it stands; white: none. Full colours are a "
            "strip's longest vectors, but for the longest hundredth."
        )
        pictures.append(Picture("colours-of-flow", caption, jpeg_bytes(flow_colours.key(KEY_SIDE))))
    return pictures, frames.problem
