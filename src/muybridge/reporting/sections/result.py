"""Sections on accuracy: result, protocol differences, significance, settings."""

from typing import Any

from muybridge.analysis.answers import MORE_ANSWERS
from muybridge.analysis.comparison import Comparison
from muybridge.analysis.findings import findings
from muybridge.analysis.results import RunsResult
from muybridge.data import inputs
from muybridge.reporting.charts import accuracy
from muybridge.reporting.sections.parts import Chapter, Section, Table, figures, share, spoken
from muybridge.text import listed, plural

MOST_PAIRS = 66
"""Pairs in the table on the page (all of 12 models); files have all."""


def summary(chapter: Chapter) -> Section:
    """Section with the findings and the table of all metrics."""
    c = chapter.comparison
    header, lines = c.table()
    baselines = c.baseline_rows(header)
    chart = accuracy.accuracies(c)
    nothing = (
        [] if chart else ["No chart is drawn: all test videos are of one source, and the intervals reach from 0 to 1."]
    )
    methods = listed(sorted({c.measure(model).method for model in c.models}))
    tested = sorted({model.num_videos for model in c.models})
    return Section(
        title="Accuracy",
        text=(*findings(c), *c.notes, *nothing),
        tables=(Table(header, lines + baselines, name="result", foot=len(baselines)), _metrics(c)),
        figures=figures("accuracy", f"{c.measured.capitalize()} with its interval: " + spoken(c), chart),
        caption=(
            f"{_how_tested(c)}{listed([str(count) for count in tested])} test videos. Mean class is the mean of the classes' "
            "accuracies. Top-5 and top-10: the label is among the first answers; the error beside them is the mean of top-1 and "
            "top-5 error (Kinetics challenge). "
            f"Baselines, thin dotted lines in charts (a mark at the left end, where they lie below the axis): {c.baselines}. "
            f"{'Those that share a letter cannot be told apart. ' if c.verdicts else ''}Intervals: 95 %, "
            f"{methods}."
        ),
    )  # fmt: skip


def _how_tested(c: Comparison) -> str:
    """Sentences on the test of muybridge's own runs and the columns that they alone have; empty without any."""
    if c.protocol is None:
        return ""
    clip, evaluation = c.protocol.clip, c.protocol.evaluation
    shown = inputs.of(clip)
    size = f" of {c.protocol.test_size} × {c.protocol.test_size}" if shown.is_picture else ""
    sampling = clip.sampling if clip.sampling == "uniform" else f"dense, stride {clip.stride_frames}"
    return (
        f"{'The first run' if c.differences or c.varied else 'Every run'}: {clip.num_frames} {shown.about} ({sampling}){size}"
        f"; a video's score is the mean of the {evaluation.average} of "
        f"{plural(evaluation.num_clips, 'clip')} × {plural(evaluation.num_crops, 'crop')}; "
        f"{evaluation.checkpoint} checkpoint. Clip top-1 counts every view alone. Conv MACs are the multiply-adds of "
        "convolutions only, of one clip. Train clips/s is the median over epochs on the machine that trained. Training clips "
        "are the augmented ones of the last epoch, measured while the weights move; training videos are scored as the test, "
        "by evaluate --split train --keep. "
    )


def _metrics(c: Comparison) -> Table:
    """Table of every further metric of accuracy, with the baselines."""
    tops = [k for k in MORE_ANSWERS if c.models[0].top(k) is not None]
    errors = ["top-1, top-5 error"] * (5 in tops)
    header = ["model", "top-1", *(f"top-{k}" for k in tops), *errors, "mean class", "macro F1", "clip top-1"]
    header += ["training clips, while training", "training videos"] * bool(c.of_runs)
    rows = []
    for model in c.models:
        values = [model.accuracy.value, *(model.top(k) for k in tops)]
        later: list[float | None] = [model.mean_class, model.macro_f1, model.clip_accuracy]
        if c.of_runs:
            later += [model.training_clip_accuracy if isinstance(model, RunsResult) else None, model.training_accuracy]
        error = [f"{model.kinetics_error:.1f} %"] if model.kinetics_error is not None else []
        rows.append([model.name, *map(share, values), *error, *map(share, later)])
    foot = c.baseline_rows(header)
    return Table(header, rows + foot, name="metrics", foot=len(foot))


def differences(chapter: Chapter) -> Section | None:
    """Section that warns of recipe fields in which the runs differ beside model, seed and fold."""
    c = chapter.comparison
    if not c.differences:
        return None
    lines = [[name, " · ".join(map(str, values))] for name, values in c.differences.items()]
    return Section(
        title="Protocol differences",
        text=("These runs did not follow one protocol. What they differ in, beside model, seed and fold:",),
        tables=(Table(["field", "values"], lines, "words", "differences"),),
        kind="warning",
    )


def significance(chapter: Chapter) -> Section | None:
    """Section with the verdict on each pair of models."""
    c = chapter.comparison
    if not c.verdicts:
        return None
    lines = [
        [c.models[a].name, c.models[b].name, str(verdict), _p(verdict.p), "yes" if verdict.apart else "no"]
        + ["models" if verdict.difference.over_seeds else "runs"] * c.is_mixed
        for (a, b), verdict in c.verdicts.items()
    ]
    of_first = [verdict for (a, _), verdict in c.verdicts.items() if a == 0]
    count = sum(verdict.apart for verdict in of_first)
    spoken = (
        f"How far {plural(len(of_first), c.noun)} {'lies' if len(of_first) == 1 else 'lie'} from {c.models[0].name}, with "
        f"intervals; {count} of them lie clear of 0."
    )
    over = (
        "Over seeds and videos: another seed and other videos of the same kind would give a difference in this interval"
    )
    if not c.about_models:
        of_runs = "over videos alone: it holds for these runs and says nothing of other seeds"
        over = f"{over}; of a pair of runs (see the last column) {of_runs}" if c.is_mixed else f"O{of_runs[1:]}"
    chart = accuracy.from_the_best(c)
    header = ["A", "B", "A minus B [corrected]", "p", "told apart"]
    return Section(
        title="Significance",
        tables=(Table([*header, "of"] if c.is_mixed else header, lines, "words", "pairs", MOST_PAIRS),),
        text=() if chart else ("No chart is drawn: the differences may be anything from -1 to 1, as far as these videos tell.",),
        figures=figures("differences", spoken, chart),
        caption=(
            f"{c.measured.capitalize()} on the same videos, A minus B. {over}. Corrected for "
            f"{plural(len(c.verdicts), 'pair')} (Holm): in 95 % of studies in which nothing differs, nothing is called "
            "different. docs/statistics.md has the formulae and how well they keep that."
        ),
    )  # fmt: skip


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def by_setting(chapter: Chapter) -> Section | None:
    """Section with accuracy over two of a study's axes: numbers of frames across if they differ, else the last axis."""
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
        cells.setdefault(row, {}).setdefault(model.axes.get(across), []).append(str(c.measure(model)))
    lines = [
        [", ".join(row), *("; ".join(of_row.get(value, ["–"])) for value in columns)]
        for row, of_row in sorted(cells.items())
    ]
    foot = [
        [one.name, *[f"{one.mean_class if c.by_class else one.top1:.3f}"] * len(columns)] for one in c.baselines.both
    ]
    header = ["", *(f"{across}={value}" for value in columns)]
    return Section(
        title=f"{c.measured.capitalize()} by {across}",
        tables=(Table(header, lines + foot, name="settings", foot=len(foot)),),
        caption="The same accuracies as above, with their 95 % intervals, settings that differ in one thing side by side.",
    )
