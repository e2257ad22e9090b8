"""Sections on cost, views and frames, published results, and the overview of several data sets."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from muybridge.analysis.answers import OwnEvaluation
from muybridge.analysis.comparison import Comparison
from muybridge.analysis.further import Further, views_words
from muybridge.analysis.published import DATA_SETS
from muybridge.analysis.results import ModelResult
from muybridge.analysis.verdict import is_same
from muybridge.reporting.charts import cost, settings
from muybridge.reporting.sections.parts import (
    MOST_LINES,
    MOST_MATRICES,
    Chapter,
    Figure,
    Section,
    Table,
    published_words,
    share,
    spoken,
)
from muybridge.text import giga, listed, millions, plural

COST_WORDS = {
    "macs": "Multiply-adds", "train_speed": "Clips a second in training", "forward_speed": "Clips a second forward",
    "memory": "Peak memory of training",
}  # fmt: skip


MACS_WORDS = {
    False: "convolutions alone, as the 2021 study counts",
    True: "all of them, as convolutions alone would leave out most of what some of these models compute",
}


def pareto(chapter: Chapter) -> Section | None:
    """Section with accuracy against multiply-adds, speed and memory, and the Pareto fronts.

    None without a run of muybridge's: of other predictions no cost is known.
    """
    c = chapter.comparison
    if not c.of_runs:
        return None
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
    speeds = [model for model in c.of_runs if model.speed is not None]
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
    if _speeds_differ_alone(c):
        text.append(
            "Models with equally many multiply-adds trained at different clips a second. That tells how fast the machine was "
            "while each trained, reading of videos included; muybridge measure STUDY compares the models themselves."
        )
    tables = [_costs(c)]
    if speeds:
        tables.append(_speeds(speeds))
    else:
        text.append("Clips a second of the forward pass and memory: muybridge measure STUDY, then the report again.")
    if not any((model.speed or {}).get("max_batch_size") for model in c.of_runs):
        text.append("The largest batch and the speed at it: muybridge measure STUDY --largest, then the report again.")
    return Section(
        title="Cost",
        text=tuple(text),
        tables=tuple(tables),
        figures=tuple(figures),
        caption=(
            "Colour: method; symbol: backbone; area: parameters; hollow: with temporal pooling; grey line: Pareto front of the "
            "accuracies as measured, whatever their intervals; dotted: chance and the majority class. MACs: multiply-adds of one "
            f"clip (a view), {MACS_WORDS[cost.counted([c]) == 'macs']}. Clips/s in training: median over epochs on the "
            "machine that trained, waiting for data included. Forward clips/s, peak memory and the largest batch: muybridge "
            "measure, one process; memory is that of training with the batch of the table on speed, on a CPU what the whole "
            "process takes beyond its start, on CUDA what tensors take. Rows with views in their names are further evaluations "
            "(evaluate --keep), in no ranking."
            + published_words(chapter)
        ),
    )  # fmt: skip


def _speeds_differ_alone(c: Comparison) -> bool:
    """Whether two rows cost as many multiply-adds and trained at speeds that differ."""
    known = [(model.cost["macs"], rate) for model in c.of_runs if (rate := model.train_clips_per_s) is not None]
    return any(macs == others and not is_same(rate / other) for (macs, rate), (others, other) in combinations(known, 2))


def _costs(c: Comparison) -> Table:
    """Table of what each row costs and reaches, as the 2021 study's table 1, with its further evaluations and the baselines."""
    key = cost.counted([c])
    rows = []
    for model in c.of_runs:
        s = model.speed or {}
        for one in (each for each in (model, *model.further) if each.split == "test"):
            measured = [
                *map(_number, (s.get("max_batch_size"), s.get("max_batch_train_clips_per_s"),
                               s.get("max_batch_forward_clips_per_s"))),
                _megabytes(s.get("peak_memory_bytes")),
            ] if one is model else ["–"] * 4  # fmt: skip
            rows.append([
                one.name, millions(one.cost["params"]), giga(one.cost[key]), str(one.num_views),
                giga(one.num_views * one.cost[key]), *measured, str(one.accuracy),
            ])  # fmt: skip
    header = [
        "model", "parameters", "MACs a view", "views", "MACs × views", "largest batch", "training clips/s at it",
        "forward clips/s at it", "peak memory", "video top-1 [95 %]",
    ]  # fmt: skip
    foot = c.baseline_rows(header)
    return Table(header, rows + foot, name="costs", foot=len(foot), foot_in_files=True)


def _speeds(measured: Sequence[ModelResult]) -> Table:
    rows = []
    for model in measured:
        s = model.speed or {}
        rows.append([
            model.name, str(s.get("batch_size", "–")), _number(s.get("forward_clips_per_s")),
            _number(s.get("train_clips_per_s")), _megabytes(s.get("peak_memory_bytes")),
            f"{s.get('device_name', '?')}, {s.get('dtype', '?')}, {plural(s.get('threads', '?'), 'thread')}",
        ])  # fmt: skip
    header = ["model", "batch", "forward clips/s", "training clips/s", "peak memory", "measured on"]
    return Table(header, rows, name="speed")


def _megabytes(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e6:.0f} MB"


def _number(value: float | None) -> str:
    """Rounded to a whole number; a rate below ten to one digit more."""
    return "–" if value is None else f"{value:.1f}" if value < 10 and value != int(value) else f"{value:.0f}"


def views_and_frames(chapter: Chapter) -> Section | None:
    """Section with accuracy over the number of clips, what they cost, and over the number of frames."""
    c = chapter.comparison
    if not c.of_runs:
        return None
    figures: list[Figure] = []
    tables: list[Table] = []
    by_macs = settings.over_macs(c, MOST_LINES)
    if by_macs is not None:
        figures.append(
            Figure("views", "Video accuracy against multiply-adds times views: " + _views_spoken(c), by_macs)
        )
    if any(len(one.by_clips) > 1 for one in _tested(c)):
        tables.append(_by_clips(c))
    clips = settings.over_clips(c, MOST_LINES)
    if clips is not None:
        gain = max(
            (max(m.by_clips.values()) - m.by_clips[min(m.by_clips)] for m in c.of_runs if m.by_clips), default=0.0
        )
        figures.append(
            Figure(
                "clips",
                f"Video accuracy against the number of clips; the most that more clips bring is {gain:.3f}",
                clips,
            )
        )
    if any(model.further for model in c.of_runs):
        tables.append(_further(c))
    frames = settings.over_frames(c, chapter.published)
    if frames is not None:
        figures.append(Figure("frames", "Video accuracy against the frames of a clip: " + spoken(c), frames))
    if not figures and not tables:
        return None
    lines = clips is not None or by_macs is not None
    drawn = f" Clips are drawn for the {MOST_LINES} best." if lines and len(c.of_runs) > MOST_LINES else ""
    return Section(
        title="Views and frames",
        tables=tuple(tables),
        figures=tuple(figures),
        has_key=lines,
        caption=(
            "Fewer clips are picked from the same scores: they are those that an evaluation of so few looks at "
            f"(docs/evaluation.md); other numbers would look at other frames.{drawn} Solid: uniform clips; dashed: dense ones "
            "(of clips), temporal pooling (of frames). Hollow, and rows of their own: further evaluations that all runs of a "
            "model keep (evaluate --keep), each against the model's own evaluation on the same videos; they are in no ranking "
            "and in no verdict on pairs. Dotted: chance and the majority class." + published_words(chapter)
        ),
    )  # fmt: skip


def _tested(c: Comparison) -> list[OwnEvaluation]:
    """Every model's own evaluation, and its further ones of the test split."""
    return [one for model in c.of_runs for one in (model, *model.further) if one.split == "test"]


def _views_spoken(c: Comparison) -> str:
    """The cheapest and the dearest evaluation of each model in words."""
    words = []
    for model in c.of_runs[:MOST_MATRICES]:
        points = [point for one in (model, *model.further) if one.split == "test" for point in one.by_views]
        (_, fewest, low), (_, most, high) = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
        words.append(f"{model.name} {low:.3f} with {plural(fewest, 'view')}, {high:.3f} with {most}")
    return "; ".join(words)


def _by_clips(c: Comparison) -> Table:
    every = _tested(c)
    numbers = sorted({number for one in every for number in one.by_clips})
    rows = [[one.name, *(f"{one.by_clips[n]:.3f}" if n in one.by_clips else "–" for n in numbers)] for one in every]
    foot = [[one.name, *[f"{one.top1:.3f}"] * len(numbers)] for one in c.baselines.both]
    return Table(["clips a video", *map(str, numbers)], rows + foot, name="clips", foot=len(foot), foot_in_files=True)


def _further(c: Comparison) -> Table:
    """Table of the further evaluations, each below its model's own."""
    key = cost.counted([c])
    rows = []
    for model in c.of_runs:
        for one in (model, *model.further) if model.further else ():
            difference = one.difference if isinstance(one, Further) else None
            rows.append([
                one.name, one.split, views_words(one), giga(one.num_views * one.cost[key]), str(one.accuracy),
                share(one.top(5)), "–" if difference is None else str(difference),
            ])  # fmt: skip
    header = ["evaluation", "split", "views", "MACs × views", "video top-1 [95 %]", "top-5", "minus its own [95 %]"]
    foot = c.baseline_rows(header)
    return Table(header, rows + foot, name="evaluations", foot=len(foot), foot_in_files=True)


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
    baselines = [c.baselines for c in every]
    foot = [
        [name, *(f"{one.top1:.3f}" for one in of_sets)]
        for name, of_sets in (
            ("chance", [one.chance for one in baselines]), ("majority class", [one.majority for one in baselines])
        )
    ]  # fmt: skip
    macs = cost.costs_of(every)[0]
    figures = tuple(
        Figure(f"macs-{data}", f"{data}: " + spoken(c), cost.accuracy_against(c, macs, beside=every, title=data))
        for data, c in comparisons.items()
    )
    return Section(
        title="All data sets",
        tables=(Table(["video top-1 [95 %]", *comparisons], rows + foot, name="all", foot=len(foot)),),
        figures=figures,
        caption=(
            "A panel a data set: accuracy against the multiply-adds of one clip. Colour: method; symbol: "
            "backbone; area: parameters; hollow: with temporal pooling; grey line: Pareto front. Models are compared within a "
            "data set only: below."
        ),
    )
