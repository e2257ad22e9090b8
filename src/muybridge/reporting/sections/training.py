"""Sections on training: durations, learning curves, protocol."""

import json
from collections.abc import Sequence
from typing import Any

from muybridge.analysis.comparison import COMPARED, Comparison
from muybridge.recipe import Recipe, fields
from muybridge.reporting.charts import curves
from muybridge.reporting.sections.parts import MOST_MATRICES, Chapter, Figure, Section, Table, share
from muybridge.text import listed, plural


def durations(chapter: Chapter) -> Section | None:
    """Section on how long each model was trained, if time or a metric ended training, or if durations differ."""
    c = chapter.comparison
    if c.protocol is None:
        return None
    stop = c.protocol.stop
    if (
        stop.max_hours is None
        and stop.metric is None
        and len({steps for model in c.of_runs if not model.fused for steps in model.steps}) == 1
    ):
        return None

    def span(values: Sequence[float], digits: int) -> str:
        low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
        return low if low == high else f"{low} – {high}"

    rows = []
    for model in c.of_runs:
        ended = dict.fromkeys(run.result().get("ended", "") for run in model.runs)
        rows.append([
            model.name, span(model.steps, 0), span(model.epochs, 1), span(model.train_hours, 3), "; ".join(ended)
        ])  # fmt: skip
    return Section(
        title="Training duration",
        tables=(Table(["model", "steps", "epochs", "hours", "ended by"], rows, "words", "training"),),
        caption="Of every run of a model; of fused scores the sums over their parts. Hours of training, validation not "
        "counted, on the machine that trained.",
    )


def learning_curves(chapter: Chapter) -> Section | None:
    """Section with loss and accuracy over the epochs and the hours of training; hours first where time ends training."""
    c = chapter.comparison
    if c.protocol is None or not any(points for model in c.of_runs for points in model.curves.values()):
        return None

    def spoken(quantity: str, over: str) -> str:
        ends = []
        for model in c.of_runs[:MOST_MATRICES]:
            value = getattr(points[-1], quantity) if (points := model.curves["val"]) else None
            if value is not None:
                ends.append(f"{model.name} {value:.3f}")
        at_end = f"; at the end on val: {', '.join(ends)}" if ends else ""
        return f" over the {over} of training, training and validation{at_end}"

    longest = max(len(points) for model in c.of_runs for points in model.curves.values())
    if longest < 2:
        return Section(
            title="Learning curves",
            text=(f"One epoch was measured, which makes no curve. {_at_the_end(c)}".strip(),),
        )
    ends_by_time = c.protocol.stop.max_hours is not None or c.protocol.optim.schedule_unit == "hours"
    axes: tuple[curves.Over, ...] = ("hours", "epoch") if ends_by_time else ("epoch", "hours")
    quantities: tuple[tuple[str, curves.Quantity], ...] = (("loss", "loss"), ("training", "accuracy"))
    timed = any(point.hours for model in c.of_runs for points in model.curves.values() for point in points)
    return Section(
        title="Learning curves",
        figures=tuple(
            Figure(
                name if over == "epoch" else f"{name}-hours",
                quantity.capitalize() + spoken(quantity, "epochs" if over == "epoch" else "hours"),
                curves.curves(c, quantity, MOST_MATRICES, over=over),
            )
            for over in axes
            if over == "epoch" or timed
            for name, quantity in quantities
        ),
        has_key=True,
        caption=(
            "Mean over the runs of a model. Solid: validation videos; dashed: training clips, augmented and measured while "
            "the weights move; dotted: chance and the majority class of the test. Time is that of training on the machine "
            "that trained, without validation."
            + (f" Drawn for the {MOST_MATRICES} best." if len(c.of_runs) > MOST_MATRICES else "")
        ),
    )  # fmt: skip


def _at_the_end(c: Comparison) -> str:
    """Loss and accuracy on val after the last epoch, of the best models."""
    said = []
    for model in c.of_runs[:MOST_MATRICES]:
        last = model.curves["val"][-1] if model.curves["val"] else None
        if last is not None:
            said.append(f"{model.name} loss {share(last.loss)}, accuracy {share(last.accuracy)}")
    return f"After it, on val: {'; '.join(said)}." if said else ""


def _starts(c: Comparison) -> str:
    """Sentence on the weights that training started from."""
    starts: dict[str, list[str]] = {}
    for model in c.of_runs:
        if model.fused:
            continue
        m = model.recipe.model
        part = "" if m.strict else ", matching tensors only"
        words = "fresh weights" if m.pretrained in (None, "auto") else f"{m.pretrained}{part}"
        if m.weights_sha256 is not None:
            words = (
                f"the network that {m.name} returned (hash {m.weights_sha256[:12]}, weights that it brought included)"
                + ("" if m.pretrained in (None, "auto") else f", then {words}")
            )
        starts.setdefault(words, []).append(model.name)
    if not starts:
        return ""
    if len(starts) == 1:
        return f"Every run started from {next(iter(starts))}."
    return "Started from " + "; ".join(f"{words}: {listed(names)}" for words, names in starts.items()) + "."


def protocol(chapter: Chapter) -> Section | None:
    """Section with every field of the recipe, the splits and the machines; None without a run."""
    c = chapter.comparison
    if c.protocol is None:
        return None
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
    runs = [run for model in c.of_runs for run in model.trained_runs] or list(c.of_runs[0].runs)
    sizes = runs[0].dataset()["split_sizes"]
    machines = {
        "{processor}, {device}, {cpu_threads}, torch {torch}, Python {python}".format(
            **(about := run.environment()), cpu_threads=plural(about["threads"], "thread")
        ): None
        for run in runs
    }
    return Section(
        title="Protocol",
        text=(
            f"{plural(len(runs), 'run')}; videos in train, val, test: {sizes['train']}, {sizes['val']}, {sizes['test']}"
            + (" (of the first run's fold)." if c.protocol.data.fold else ".")
            + f" Trained on {'; '.join(machines)}.",
            *filter(None, [_starts(c)]),
        ),
        tables=(Table(["field", "value", "meaning"], rows, "words", "protocol"),),
        details=(("Runs", "\n".join(str(run.path) for run in runs)),),
        kind="folded",
    )
