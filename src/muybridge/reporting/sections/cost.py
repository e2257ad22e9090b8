"""Sections on cost, views and frames, published results, and the overview of several data sets."""

from collections.abc import Mapping, Sequence

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.published import DATA_SETS
from muybridge.analysis.rows import ModelResult
from muybridge.reporting.charts import cost, settings
from muybridge.reporting.sections.parts import (
    MOST_LINES,
    Chapter,
    Figure,
    Section,
    Table,
    published_words,
    spoken,
)
from muybridge.text import listed, plural

COST_WORDS = {
    "macs": "Multiply-adds", "train_speed": "Clips a second in training", "forward_speed": "Clips a second forward",
    "memory": "Peak memory of training",
}  # fmt: skip


MACS_WORDS = {
    False: "convolutions alone, as the 2021 study counts",
    True: "all of them, as convolutions alone would leave out most of what some of these models compute",
}


def pareto(chapter: Chapter) -> Section:
    """Section with accuracy against multiply-adds, speed and memory, and the Pareto fronts."""
    c = chapter.comparison
    figures, fronts = [], []
    for one in cost.costs_of([c]):
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
    machines = {tuple((model.speed or {}).get(key) for key in ("device_name", "dtype", "threads")) for model in speeds}
    unknown = [model.name for model in speeds if (model.speed or {}).get("memory_is_unknown")]
    if unknown:
        text.append(
            f"Memory of {listed(unknown)} was measured by an earlier version, which may have told the command's instead, and is "
            "left out: muybridge measure STUDY measures anew."
        )
    if len(machines) > 1:
        text.append("Not all were measured on one machine, in one precision: their speed and memory do not compare.")
    tables: tuple[Table, ...] = ()
    if speeds:
        tables = (_speeds(c, speeds),)
    else:
        text.append("Clips a second of the forward pass and memory: muybridge measure STUDY, then the report again.")
    return Section(
        title="Cost",
        text=tuple(text),
        tables=tables,
        figures=tuple(figures),
        caption=(
            "Colour: method; symbol: backbone; area: parameters; hollow: with temporal pooling; grey line: Pareto front of the "
            "accuracies as measured, whatever their intervals. MACs: multiply-adds of one clip, not times its views, "
            f"{MACS_WORDS[cost.costs_of([c])[0] is cost.ALL_MACS]}. Clips/s in training: median over epochs on the machine that "
            "trained, waiting for data included. Forward clips/s and peak memory: muybridge measure, one process, the batch of "
            "the table; memory is that of training, on a CPU what the whole process takes beyond its start, on CUDA what tensors "
            "take."
            + published_words(chapter)
        ),
    )  # fmt: skip


def _speeds(c: Comparison, measured: Sequence[ModelResult]) -> Table:
    rows = []
    for model in measured:
        s = model.speed or {}
        rows.append([
            model.name, str(s.get("batch_size", "–")), _number(s.get("forward_clips_per_s")),
            _number(s.get("train_clips_per_s")), _number(s.get("peak_memory_bytes"), 1e6) + " MB",
            f"{s.get('device_name', '?')}, {s.get('dtype', '?')}, {plural(s.get('threads', '?'), 'thread')}",
        ])  # fmt: skip
    header = ["model", "batch", "forward clips/s", "training clips/s", "peak memory", "measured on"]
    return Table(header, rows, name="speed")


def _number(value: float | None, unit: float = 1.0) -> str:
    return "–" if value is None else f"{value / unit:.0f}"


def views_and_frames(chapter: Chapter) -> Section | None:
    """Section with accuracy over the number of clips, and of frames."""
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
        figures.append(Figure("frames", "Video accuracy against the frames of a clip: " + spoken(c), frames))
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
            "(of clips), temporal pooling (of frames)." + published_words(chapter)
        ),
    )  # fmt: skip


def literature(chapter: Chapter) -> Section | None:
    """Section with published results, if the report was asked for them."""
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
            "of this report for orientation and are not part of any comparison in it. "
            f"This data set has {len(chapter.comparison.classes)} classes and {chapter.comparison.models[0].num_videos} test "
            "videos.",
        ),
        tables=(Table(["published", "top-1", "top-5", "clips x crops", "split", "source", "note"], rows, "words", "published"),),
        kind="folded",
    )  # fmt: skip


def overview(comparisons: Mapping[str, Comparison]) -> Section:
    """Section on several data sets: a panel each, as in the 2021 study's figure 2, and accuracies side by side."""
    every = list(comparisons.values())
    names = list(dict.fromkeys(model.name for c in every for model in c.models))
    by_name = {data: {model.name: model for model in c.models} for data, c in comparisons.items()}
    rows = [[name, *(str(of[name].accuracy) if name in of else "–" for of in by_name.values())] for name in names]
    macs = cost.costs_of(every)[0]
    figures = tuple(
        Figure(f"macs-{data}", f"{data}: " + spoken(c), cost.accuracy_against(c, macs, beside=every, title=data))
        for data, c in comparisons.items()
    )
    return Section(
        title="All data sets",
        tables=(Table(["video top-1 [95 %]", *comparisons], rows, name="all"),),
        figures=figures,
        caption=(
            "A panel a data set: accuracy against the multiply-adds of one clip. Colour: method; symbol: "
            "backbone; area: parameters; hollow: with temporal pooling; grey line: Pareto front. Models are compared within a "
            "data set only: below."
        ),
    )
