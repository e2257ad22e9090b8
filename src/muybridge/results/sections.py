"""The parts of a report, each a function from a chapter (a comparison, and what was asked for) to a Section, or none where it
has nothing to say. To add one, write a function and put it into SECTIONS. How a page looks is in page/; charts are in
figures/.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from muybridge.recipe import Recipe, fields
from muybridge.results.changed import Changed, Frames, changed_sides, said_of
from muybridge.results.comparison import COMPARED, Comparison, listed, plural
from muybridge.results.figures import accuracy, classes, cost, curves, settings, time
from muybridge.results.figures.style import Chart, themed
from muybridge.results.findings import findings
from muybridge.results.published import DATA_SETS, Published, published
from muybridge.results.rows import ModelResult
from muybridge.video.strips import heated, jpeg_bytes, strip

MOST_MATRICES = 8
"""Confusion matrices drawn, those of the best models."""
MOST_LINES = 24
"""Lines of a chart that still can be told from each other, with a click."""
MOST_PAIRS = 66
"""Pairs in the table on the page (all of 12 models); files have all."""
MOST_STRIPS = 6
"""Videos of each kind that are shown."""
MOST_SALIENT = 12


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]
    kind: Literal["numbers", "words"] = "numbers"
    """numbers: all columns but the first stand to the right and do not wrap."""
    name: str = ""
    """Of its CSV file; empty: it gets none."""
    most: int | None = None
    """Rows on the page; files have all."""


@dataclass(frozen=True)
class Figure:
    name: str
    """Of its files."""
    description: str
    """For those who cannot see it."""
    chart: Chart

    @cached_property
    def spec(self) -> dict[str, Any]:
        """As Vega-Lite."""
        return themed(self.chart)


@dataclass(frozen=True)
class Picture:
    """Frames of a video, and what is said of them."""

    name: str
    caption: str
    jpeg: bytes


@dataclass(frozen=True)
class Section:
    """A part of the page, in this order: text, tables, key, figures, pictures, details, caption."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    pictures: tuple[Picture, ...] = ()
    has_key: bool = False
    """Whether the charts need the key of the models' colours."""
    details: tuple[tuple[str, str], ...] = ()
    """(summary, preformatted text), folded away."""
    caption: str = ""
    kind: Literal["plain", "warning", "folded"] = "plain"
    """warning: set apart; folded: the tables are shown on a click."""


@dataclass(frozen=True)
class Chapter:
    """One data set of a report."""

    comparison: Comparison
    beside: str | None = None
    """Whose published results are shown, a key of `published.DATA_SETS`."""
    pair: tuple[int, int] = (0, 1)
    """The two models that are held against each other class by class and video by video, by their places."""
    with_frames: bool = True
    """Whether frames of videos are shown."""

    @property
    def published(self) -> tuple[Published, ...]:
        return published(self.beside) if self.beside else ()


def sections(chapter: Chapter) -> list[Section]:
    return [section for make in SECTIONS if (section := make(chapter)) is not None]


def _verdict(chapter: Chapter) -> Section:
    c = chapter.comparison
    header, rows = c.table()
    settings_differ = c.differences or c.varied
    clip, evaluation = c.protocol.clip, c.protocol.evaluation
    sampling = clip.sampling if clip.sampling == "uniform" else f"dense, stride {clip.stride_frames}"
    methods = listed(sorted({model.accuracy.method for model in c.models}))
    tested = sorted({model.num_videos for model in c.models})
    return Section(
        title="Result",
        text=tuple(findings(c)) + c.notes,
        tables=(Table(header, rows, name="result"),),
        figures=(
            Figure("accuracy", "Video accuracy with its interval: " + _spoken(c), accuracy.accuracies(c)),
        ),
        caption=(
            f"{'The first run' if settings_differ else 'Every model'}: {clip.num_frames} frames ({sampling}) of "
            f"{clip.size} × {clip.size}; a video's score is the mean of the {evaluation.average} of "
            f"{plural(evaluation.num_clips, 'clip')} × {plural(evaluation.num_crops, 'crop')}; "
            f"{evaluation.checkpoint} checkpoint; {listed([str(count) for count in tested])} test videos. Clip top-1 counts "
            "every view alone; mean class is the mean of the classes' accuracies. Conv MACs are the "
            "multiply-adds of convolutions only, of one clip. Train clips/s is the median over epochs on the machine that "
            f"trained. {'Those that share a letter (group) cannot be told apart. ' if c.verdicts else ''}Intervals: 95 %, "
            f"{methods}."
        ),
    )  # fmt: skip


def _differences(chapter: Chapter) -> Section | None:
    c = chapter.comparison
    if not c.differences:
        return None
    rows = [[name, " · ".join(map(str, values))] for name, values in c.differences.items()]
    return Section(
        title="What differs beside the model",
        text=("These runs did not follow one protocol. What they differ in, beside model, seed and fold:",),
        tables=(Table(["field", "values"], rows, "words", "differences"),),
        kind="warning",
    )


def _told_apart(chapter: Chapter) -> Section | None:
    c = chapter.comparison
    if not c.verdicts:
        return None
    noun = "model" if c.about_models else "run"
    rows = [
        [c.models[a].name, c.models[b].name, str(verdict), _p(verdict.p), "yes" if verdict.apart else "no"]
        for (a, b), verdict in c.verdicts.items()
    ]
    of_first = [verdict for (a, _), verdict in c.verdicts.items() if a == 0]
    count = sum(verdict.apart for verdict in of_first)
    spoken = (
        f"How far {plural(len(of_first), noun)} {'lies' if len(of_first) == 1 else 'lie'} behind {c.models[0].name}, with "
        f"intervals; {count} of them lie clear of 0."
    )
    over = (
        "Over seeds and videos: another seed and other videos of the same kind would give a difference in this interval"
        if c.about_models
        else "Over videos alone: it holds for these runs, and says nothing of other seeds"
    )
    return Section(
        title="Who can be told apart" if c.about_models else "Which of these runs can be told apart",
        tables=(Table(["A", "B", "A minus B [corrected]", "p", "told apart"], rows, "words", "pairs", MOST_PAIRS),),
        figures=(Figure("differences", spoken, accuracy.from_the_best(c)),),
        caption=(
            f"Accuracy on the same videos, A minus B. {over}. Corrected for {plural(len(c.verdicts), 'pair')} (Holm): in 95 % of "
            "studies in which nothing differs, nothing is told apart. docs/statistics.md has the formulae and how well they keep "
            "that."
        ),
    )  # fmt: skip


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _settings(chapter: Chapter) -> Section | None:
    """Accuracy over two of a study's axes at once: where numbers of frames differ, those across; else the last axis."""
    c = chapter.comparison
    by_axis = {
        axis: list(dict.fromkeys(model.axes.get(axis) for model in c.models))
        for axis in dict.fromkeys(axis for model in c.models for axis in model.axes)
        if axis not in ("data", "model", "method", "backbone")
    }
    varied = [axis for axis, values in by_axis.items() if len(values) > 1]
    if not varied:
        return None
    across = "num_frames" if "num_frames" in varied else varied[-1]
    columns = by_axis[across] if across != "num_frames" else sorted(by_axis[across], key=lambda value: value or 0)
    cells: dict[tuple[str, ...], dict[Any, list[str]]] = {}
    down = [axis for axis in varied if axis != across]
    for model in c.models:
        row = (model.model, *(f"{axis}={model.axes.get(axis)}" for axis in down))
        cells.setdefault(row, {}).setdefault(model.axes.get(across), []).append(str(model.accuracy))
    rows = [
        [", ".join(row), *("; ".join(of_row.get(value, ["–"])) for value in columns)]
        for row, of_row in sorted(cells.items())
    ]
    return Section(
        title=f"Video accuracy by {across}",
        tables=(Table(["", *(f"{across}={value}" for value in columns)], rows, name="settings"),),
        caption="The same figures as above, with their 95 % intervals, settings that differ in one thing side by side.",
    )


def _training(chapter: Chapter) -> Section | None:
    """How long each model was trained, where time or a figure ended it, or where that differs."""
    c = chapter.comparison
    stop = c.protocol.stop
    if (
        stop.max_hours is None
        and stop.quantity is None
        and len({steps for model in c.models for steps in model.steps}) == 1
    ):
        return None

    def span(values: Sequence[float], digits: int) -> str:
        low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
        return low if low == high else f"{low} – {high}"

    rows = []
    for model in c.models:
        ended = dict.fromkeys(run.result().get("ended", "") for run in model.runs)
        rows.append([
            model.name, span(model.steps, 0), span(model.epochs, 1), span(model.train_hours, 3), "; ".join(ended)
        ])  # fmt: skip
    return Section(
        title="How long each was trained",
        tables=(Table(["model", "updates", "epochs", "hours", "ended by"], rows, "words", "training"),),
        caption="Of every run of a model. Hours of training, validation not counted, on the machine that trained.",
    )


def _cost(chapter: Chapter) -> Section:
    c = chapter.comparison
    figures, fronts = [], []
    for one in cost.COSTS:
        if not cost.known(c, one):
            continue
        front = cost.pareto(c, one)
        missing = len(c.models) - len(cost.known(c, one))
        lacking = f" ({missing} of {len(c.models)} are not measured)" if missing else ""
        fronts.append(f"{COST_WORDS[one.name]}: {listed([model.name for model in front])}{lacking}.")
        spoken = (
            f"Video accuracy against {COST_WORDS[one.name]}. On the Pareto front: {listed([m.name for m in front])}"
        )
        figures.append(Figure(f"cost-{one.name}", spoken, cost.accuracy_against(c, one, published=chapter.published)))
    speeds = [model for model in c.models if model.speed is not None]
    text = [
        "On the Pareto front, where nothing else is both cheaper and better: " + fronts[0][0].lower() + fronts[0][1:],
        *(f"By {line[0].lower()}{line[1:]}" for line in fronts[1:]),
    ]
    tables: tuple[Table, ...] = ()
    if speeds:
        tables = (_speeds(c, speeds),)
    else:
        text.append("Clips a second of the forward pass and memory: muybridge measure STUDY, then the report again.")
    return Section(
        title="At what cost",
        text=tuple(text),
        tables=tables,
        figures=tuple(figures),
        caption=(
            "Colour: method; symbol: backbone; area: parameters; hollow: with temporal pooling; grey line: Pareto front of the "
            "accuracies as measured, whatever their intervals. Models of nearly the same cost are moved apart to be seen; "
            "hovering and the table have their figures. MACs: multiply-adds of the convolutions alone, of one clip, not times "
            "its views. Clips/s in training: median over epochs on the machine that trained, waiting for data included."
            + _published_words(chapter)
        ),
    )  # fmt: skip


COST_WORDS = {
    "macs": "Multiply-adds", "train_speed": "Clips a second in training", "forward_speed": "Clips a second forward",
    "memory": "Peak memory of training",
}  # fmt: skip


def _speeds(c: Comparison, measured: Sequence[ModelResult]) -> Table:
    rows = []
    for model in measured:
        s = model.speed or {}
        rows.append([
            model.name, str(s.get("batch_size", "–")), _number(s.get("forward_clips_per_s")),
            _number(s.get("train_clips_per_s")), _number(s.get("peak_memory_bytes"), 2**20) + " MiB",
            f"{s.get('device_name', '?')}, {s.get('dtype', '?')}, {s.get('threads', '?')} threads",
        ])  # fmt: skip
    header = ["model", "batch", "forward clips/s", "training clips/s", "peak memory", "measured on"]
    return Table(header, rows, name="speed")


def _number(value: float | None, unit: float = 1.0) -> str:
    return "–" if value is None else f"{value / unit:.0f}"


def _views_and_frames(chapter: Chapter) -> Section | None:
    c = chapter.comparison
    figures = []
    clips = settings.over_clips(c, MOST_LINES)
    tables = []
    if clips is not None:
        numbers = sorted({number for model in c.models for number in model.by_clips})
        rows = [
            [model.name, *(f"{model.by_clips[n]:.3f}" if n in model.by_clips else "–" for n in numbers)]
            for model in c.models
        ]
        tables.append(Table(["clips a video", *map(str, numbers)], rows, name="clips"))
        gain = max(
            (max(m.by_clips.values()) - m.by_clips[min(m.by_clips)] for m in c.models if m.by_clips), default=0.0
        )
        figures.append(
            Figure(
                "clips",
                f"Video accuracy against the number of clips; the most that more clips bring is {gain:.3f}",
                clips,
            )
        )
    frames = settings.over_frames(c, chapter.published)
    if frames is not None:
        figures.append(Figure("frames", "Video accuracy against the frames of a clip: " + _spoken(c), frames))
    if not figures:
        return None
    drawn = f" Clips are drawn for the {MOST_LINES} best." if clips is not None and len(c.models) > MOST_LINES else ""
    return Section(
        title="Views and frames",
        tables=tuple(tables),
        figures=tuple(figures),
        has_key=clips is not None,
        caption=(
            "Fewer clips are picked from the same scores: they are those that an evaluation of so few looks at "
            f"(docs/evaluation.md); other numbers would look at other frames.{drawn} Solid: uniform clips; dashed: dense ones "
            "(of clips), temporal pooling (of frames)." + _published_words(chapter)
        ),
    )  # fmt: skip


def _literature(chapter: Chapter) -> Section | None:
    if not chapter.beside:
        return None
    rows = [
        [one.name, f"{one.top1:.3f}", "–" if one.top5 is None else f"{one.top5:.3f}", one.views or "–", one.split or "–",
         one.source, one.note or ""]
        for one in chapter.published
    ]  # fmt: skip
    return Section(
        title=f"Published: {DATA_SETS[chapter.beside]}",
        text=(
            "Other people's results, by their code, their schedules and their copy of the data. They stand beside the figures "
            "of this report for orientation and are not part of any comparison in it.",
        ),
        tables=(Table(["published", "top-1", "top-5", "clips x crops", "split", "source", "note"], rows, "words", "published"),),
        kind="folded",
    )  # fmt: skip


def _published_words(chapter: Chapter) -> str:
    return (
        f" Grey crosses: published results on {DATA_SETS[chapter.beside]}, not measured here." if chapter.beside else ""
    )


def _direction(chapter: Chapter) -> Section | None:
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


def _uses_time(chapter: Chapter) -> Section | None:
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


def _by_class(c: Comparison, diagnosed: Sequence[tuple[ModelResult, Any]], orders: Sequence[str]) -> list[list[str]]:
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


def _looks(chapter: Chapter) -> Section | None:
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


def _salient(model: ModelResult, file: Any) -> Picture:
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


HEIGHT = 72
"""Pixels of a frame in a picture."""


def _classes(chapter: Chapter) -> Section | None:
    c = chapter.comparison
    if len(c.models) < 2:
        return None
    a, b = chapter.pair
    first, second = c.models[a], c.models[b]
    gain_K = first.class_accuracy_K - second.class_accuracy_K
    known = [int(k) for k in np.argsort(-gain_K, kind="stable") if np.isfinite(gain_K[k])]
    videos_K = np.bincount(first.labels_N, minlength=len(c.classes))
    rows = [
        [c.classes[k], str(videos_K[k]), _share(first.class_accuracy_K[k]), _share(second.class_accuracy_K[k]),
         f"{gain_K[k]:+.3f}"]
        for k in known
    ]  # fmt: skip
    ups = [f"{c.classes[k]} {gain_K[k]:+.2f}" for k in known[:3] if gain_K[k] > 0]
    downs = [f"{c.classes[k]} {gain_K[k]:+.2f}" for k in known[::-1][:3] if gain_K[k] < 0]
    spoken = (
        f"{first.name} (A) against {second.name} (B), class by class. Gains: {listed(ups) if ups else 'none'}; losses: "
        f"{listed(downs) if downs else 'none'}."
    )
    every = [
        [c.classes[k], str(videos_K[k]), *(_share(model.class_accuracy_K[k]) for model in c.models)] for k in known
    ]
    return Section(
        title="Where: class by class",
        text=(spoken,),
        tables=(
            Table(["class", "videos", first.name, second.name, "A minus B"], rows, name="gains", most=16),
            Table(["class", "videos", *(model.name for model in c.models)], every, name="classes", most=0),
        ),
        figures=(Figure("gains", spoken, classes.gains(c, a, b)),),
        caption=(
            "Accuracy of the videos of a class, mean over seeds. On the page A and B are chosen below the chart: the "
            f"{classes.MOST_GAINS} largest gains and losses are drawn. With few videos a class, a single one moves much. All "
            "classes of all models: the file classes.csv."
        ),
    )  # fmt: skip


def _share(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _confusion(chapter: Chapter) -> Section:
    c = chapter.comparison
    order = classes.order_of_classes(c)
    drawn = c.models[:MOST_MATRICES]
    rows = [[model.name, *error] for model in c.models for error in _errors(c, model)]
    of_whom = f" Drawn for the {len(drawn)} best of {len(c.models)}." if len(drawn) < len(c.models) else ""
    return Section(
        title="Where: what is taken for what",
        text=("The pairs of classes that are most often confused, either way, and how many of their videos.",),
        tables=(
            Table(["model", "class", "class", "confused", "as the second", "as the first"], rows or [["all", *"––0––"]],
                  "words", "confused", 3 * MOST_MATRICES),
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
    videos_K = counts_KK.sum(1)
    found = []
    for index in np.argsort(-both_KK, axis=None, kind="stable")[:most]:
        i, j = divmod(int(index), len(c.classes))
        if both_KK[i, j]:
            found.append([
                c.classes[i], c.classes[j], f"{both_KK[i, j]} of {videos_K[i] + videos_K[j]}", str(counts_KK[i, j]),
                str(counts_KK[j, i]),
            ])  # fmt: skip
    return found


def _changed(chapter: Chapter) -> Section | None:
    """The videos on which the two models part."""
    c = chapter.comparison
    a, b = chapter.pair
    if len(c.models) < 2 or not np.array_equal(c.models[a].answers[0].ids_N, c.models[b].answers[0].ids_N):
        return None
    sides = changed_sides(c, a, b)
    first, second = c.models[a], c.models[b]
    rows = []
    for side in sides:
        for video in side.videos:
            rows.append([
                str(first.answers[0].ids_N[video]), c.classes[first.labels_N[video]], said_of(first, video),
                said_of(second, video), "A" if side.right is first else "B",
            ])  # fmt: skip
    pictures, problem = _strips(chapter, sides) if chapter.with_frames else ([], "")
    text = [
        f"{first.name} (A) is right and {second.name} (B) wrong on {plural(len(sides[0].videos), 'video')}; the other way "
        f"round on {len(sides[1].videos)}."
    ]
    if problem:
        text.append(f"Not all frames can be shown: {problem}")
    return Section(
        title="Where: the videos that changed sides",
        text=tuple(text),
        tables=(Table(["video", "true class", f"A: {first.name}", f"B: {second.name}", "right"], rows, "words", "changed", 12),)
        if rows
        else (),
        pictures=tuple(pictures),
        caption=(
            f"Right in most seeds of one and wrong in half of the other's or more; the clearest first, at most {MOST_STRIPS} of "
            "each kind shown. In brackets the probability that the answer was given. Another pair: muybridge report --pair A,B."
        ),
    )  # fmt: skip


def _strips(chapter: Chapter, sides: Sequence[Changed]) -> tuple[list[Picture], str]:
    c = chapter.comparison
    frames = Frames([run.recipe().data.manifest for run in sides[0].right.runs])
    pictures: list[Picture] = []
    for side in sides:
        for video in side.videos[:MOST_STRIPS]:
            name = str(side.right.answers[0].ids_N[video])
            jpeg = frames.strip(name)
            if jpeg is None:
                continue
            truth = c.classes[side.right.labels_N[video]]
            caption = (
                f"{name} is {truth}. {side.right.name}: {said_of(side.right, video)}, right; {side.wrong.name}: "
                f"{said_of(side.wrong, video)}, wrong."
            )
            pictures.append(Picture(f"changed-{len(pictures) + 1}", caption, jpeg))
    return pictures, frames.problem


def _calibration(chapter: Chapter) -> Section:
    c = chapter.comparison
    rows = [
        [model.name, f"{model.calibration.error:.3f}", f"{model.calibration.overconfidence:+.3f}",
         f"{model.accuracy.value + model.calibration.overconfidence:.3f}", f"{model.accuracy.value:.3f}"]
        for model in c.models
    ]  # fmt: skip
    drawn = f" Drawn for the {MOST_MATRICES} best." if len(c.models) > MOST_MATRICES else ""
    spoken = "Accuracy over confidence. " + "; ".join(
        f"{model.name}: error {model.calibration.error:.3f}, "
        f"{'over' if model.calibration.overconfidence > 0 else 'under'}confident by {abs(model.calibration.overconfidence):.3f}"
        for model in c.models
    )
    header = ["model", "calibration error", "overconfidence", "mean confidence", "accuracy"]
    return Section(
        title="Can its confidence be trusted?",
        tables=(Table(header, rows, name="calibration"),),
        figures=(Figure("calibration", spoken, accuracy.reliability(c, MOST_MATRICES)),),
        has_key=True,
        caption=(
            "A model whose points lie on the dashed line is right as often as it says; below the line it is too sure. "
            "Calibration error: the mean over videos of the distance from the line, in 15 bins of equal width (expected "
            f"calibration error, Guo et al. 2017). Videos of all seeds together.{drawn}"
        ),
    )


def _curves(chapter: Chapter) -> Section | None:
    c = chapter.comparison
    if not any(run.metrics(part) for model in c.models for run in model.runs for part in ("train", "val")):
        return None
    last = [
        f"{model.name} {run[-1]['video_top1']:.3f}"
        for model in c.models
        for run in [model.runs[0].metrics("val")]
        if run
    ]
    spoken = " over the epochs, training and validation" + (
        f"; at the end on val: {', '.join(last[:12])}" if last else ""
    )
    return Section(
        title="Training and validation",
        figures=(
            Figure("loss", "Loss" + spoken, curves.curves(c, "loss", MOST_LINES)),
            Figure("training", "Accuracy" + spoken, curves.curves(c, "accuracy", MOST_LINES)),
        ),
        has_key=True,
        caption=(
            "Mean over the runs of a model. Solid: validation videos; dashed: training clips, augmented and measured while "
            "the weights move." + (f" Drawn for the {MOST_LINES} best." if len(c.models) > MOST_LINES else "")
        ),
    )


def _protocol(chapter: Chapter) -> Section:
    c = chapter.comparison
    values = c.protocol.model_dump()
    rows = []
    for name, description in fields(Recipe).items():
        if name in COMPARED:
            continue
        value: Any = values
        for part in name.split("."):
            value = value[part]
        shown = (c.differences | c.varied).get(name, [value])
        rows.append([name, " · ".join(json.dumps(value) for value in shown), description])
    runs = [run for model in c.models for run in model.runs]
    sizes = runs[0].dataset()["split_sizes"]
    machines = {
        "{processor}, {device}, {threads} threads, torch {torch}, Python {python}".format(**run.environment()): None
        for run in runs
    }
    return Section(
        title="Protocol",
        text=(
            f"{plural(len(runs), 'run')}; videos in train, val, test: {sizes['train']}, {sizes['val']}, {sizes['test']}"
            + (" (of the first run's fold)." if c.protocol.data.fold else ".")
            + f" Trained on {'; '.join(machines)}.",
        ),
        tables=(Table(["field", "value", "meaning"], rows, "words", "protocol"),),
        details=(("Runs", "\n".join(str(run.path) for run in runs)),),
        kind="folded",
    )


def overview(comparisons: Mapping[str, Comparison]) -> Section:
    """Of several data sets: a panel each, as the 2021 study's figure 2 has them, and their accuracies side by side."""
    every = list(comparisons.values())
    names = list(dict.fromkeys(model.name for c in every for model in c.models))
    by_name = {data: {model.name: model for model in c.models} for data, c in comparisons.items()}
    rows = [[name, *(str(of[name].accuracy) if name in of else "–" for of in by_name.values())] for name in names]
    macs = next(one for one in cost.COSTS if one.name == "macs")
    figures = tuple(
        Figure(f"macs-{data}", f"{data}: " + _spoken(c), cost.accuracy_against(c, macs, beside=every, title=data))
        for data, c in comparisons.items()
    )
    return Section(
        title="All data sets",
        tables=(Table(["video top-1 [95 %]", *comparisons], rows, name="all"),),
        figures=figures,
        caption=(
            "A panel a data set: accuracy against the multiply-adds of the convolutions of one clip. Colour: method; symbol: "
            "backbone; area: parameters; hollow: with temporal pooling; grey line: Pareto front. Models are compared within a "
            "data set only: below."
        ),
    )


SECTIONS: tuple[Callable[[Chapter], Section | None], ...] = (
    _verdict,
    _differences,
    _told_apart,
    _settings,
    _training,
    _cost,
    _views_and_frames,
    _literature,
    _direction,
    _uses_time,
    _looks,
    _classes,
    _confusion,
    _changed,
    _calibration,
    _curves,
    _protocol,
)


def _spoken(c: Comparison) -> str:
    return "; ".join(f"{model.name} {model.accuracy}" for model in c.models)
