"""Commands that score a trained run: `evaluate`, `diagnose`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import AllowCode, Data, Json, ReadyMade, Settings, allow_named, parsed_settings
from muybridge.cli.output import METRICS, answer, answering, metric_cells, print_result, say, table


def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE.npz|MODEL",
            help="A run folder, a score file that --out wrote, or (with --pretrained) a model.",
        ),
    ],
    pretrained: ReadyMade = None,
    data: Data = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="test, val, or train (training accuracy); none: test, or val where there are no test videos."
        ),
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Fold of --data.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="last or best; none: the recipe's.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write the per-view scores to (.npz).")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Store the evaluation in the run, for its reports: a row of its own.")
    ] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="The videos of --data are of none of the run's classes: keep how sure it is of them, for its reports.",
        ),
    ] = False,
    average: Annotated[
        str | None, typer.Option(help="Average over a video's views: logits or probabilities; none: the recipe's.")
    ] = None,
    views_curve: Annotated[
        bool,
        typer.Option("--views-curve", help="Also print the metrics of fewer clips and crops, from the same scores."),
    ] = False,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Score a run: clip and video accuracy, with any number of views (--set evaluation.num_clips=10).

    Given a score file, compute all metrics from it, without the model. With --pretrained, score public weights, where the
    manifest's classes are among theirs. With --unknown, score clips of no class, which the run should be less sure of.
    """
    with answering(as_json):
        import muybridge
        from muybridge.storage.scores import metrics

        if pretrained is not None:
            allow_named(run, allow_code=allow_code)
        changes, runtime = parsed_settings(settings)
        scores = muybridge.evaluate(
            run, pretrained=pretrained, data=data, split=split, fold=fold, checkpoint=checkpoint, average=average,
            changes=changes, out=out, keep=keep, unknown=unknown, allow_code=allow_code, runtime=runtime,
        )  # fmt: skip
        if unknown:
            _answer_unknown(run, str(data), scores, as_json=as_json)
            return
        named = {"run": run} if pretrained is None else {"run": run, "pretrained": pretrained}
        value: dict[str, Any] = {**named, scores.split or "scores": metrics(scores), "average": scores.average}
        if scores.answered_by:
            value["answered_by"] = scores.answered_by
        if scores.num_trained_on:
            value["training_accuracy"] = True
        if views_curve:
            value["views_curve"] = scores.views_curve()
        if pretrained is None and Path(run).suffix != ".npz" and checkpoint is None:
            value |= _calibrated(run, scores)
        answer(as_json, lambda: value, lambda: _print_evaluated(value, scores))


def diagnose(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN… | STUDY", help="Run folders, or a study's folder.")],
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="test, val or train; none: test, or val where there are no test videos.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Fold of --data.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="last or best; none: the recipe's.")] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID|PATH", help="Also map where and when the model looks in this video of the split; repeatable."
        ),
    ] = None,
    grid: Annotated[
        int, typer.Option(min=1, help="With --video: cells per side of a frame, hidden one at a time.")
    ] = 8,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Test if a model uses time: score it on shuffled, reversed, frozen and subsampled frames.

    Results are written to RUN/diagnosis. --json prints one object, or a list for several runs.
    """
    with answering(as_json):
        import muybridge

        changes, runtime = parsed_settings(settings)
        diagnoses = muybridge.diagnose(
            runs, data=data, split=split, fold=fold, checkpoint=checkpoint, changes=changes, videos=video or (),
            grid=grid, allow_code=allow_code, runtime=runtime,
        )  # fmt: skip
        values = [{"run": str(diagnosis.run.path), **diagnosis.as_json()} for diagnosis in diagnoses]
        answer(as_json, lambda: values if len(values) > 1 else values[0], lambda: _print_diagnoses(values))


def _calibrated(run: str, scores: Any) -> dict[str, Any]:
    """Figures of scores at a run's temperature and threshold; empty for a run that is not calibrated."""
    from muybridge.analysis.calibration import applied
    from muybridge.storage.calibration import Calibrated
    from muybridge.storage.run import Run

    opened = Run(Path(run))
    if opened.calibration() is None or not (scores.labels_N >= 0).any():
        return {}
    return {"calibrated": applied(Calibrated.of(opened), scores)}


def _answer_unknown(run: str, data: str, scores: Any, *, as_json: bool) -> None:
    from muybridge.analysis.unknown import known_scores, unknown_by
    from muybridge.storage.run import Run, data_name

    opened = Run(Path(run))
    found = unknown_by([opened], [scores], data=data_name(data))
    known = known_scores(opened)

    def show() -> None:
        apart = found.apart
        lines = [[found.data, str(found.videos), *(f"{value:.3f}" for value in (apart.auroc, apart.aupr, apart.fpr95))]]
        table(["clips of no class", "videos", "AUROC", "AUPR", "FPR at 95 %"], lines, numeric=(1, 2, 3, 4))
        say(f"held against {len(known.ids_N)} videos of {known.split}, by the highest probability; chance: AUROC 0.5")
        if found.refused is not None:
            say(f'answered "unknown": {found.refused:.1%} of them, and {found.refused_known:.1%} of {known.split}')
        say(f"kept in {run}, for its reports")

    value = {"run": run, "unknown": found.as_json(), "known": known.split, "answered_by": scores.answered_by}
    answer(as_json, lambda: value, show)


def _print_evaluated(value: dict[str, Any], scores: Any) -> None:
    print_result(value["run"], value)
    grid = scores.grid
    if grid is not None:
        say(f"mean {scores.average} of {grid.num_clips} {grid.sampling} clip(s) × {grid.num_crops} crop(s)")
    if "calibrated" in value:
        of = value["calibrated"]
        words = (
            f"at its temperature of {of['temperature']:.2f}: loss {of['loss_before']:.3f} becomes {of['loss']:.3f}, calibration "
            f"error {of['calibration_error_before']:.3f} becomes {of['calibration_error']:.3f}"
        )
        if of["threshold"] is not None:
            right = "" if of["precision"] is None else f", and {of['precision']:.3f} of the answers are right"
            words += f'; "unknown" below {of["threshold"]:.3f}: {of["answered"]:.1%} get an answer{right}'
        say(words)
    if "views_curve" not in value:
        return
    rows, left_out = value["views_curve"]["rows"], value["views_curve"]["left_out"]
    names = [name for name in METRICS if name in rows[0] and name != "clip_top1"]
    lines = [[str(row["num_clips"]), str(row["num_crops"]), *metric_cells(row, names)] for row in rows]
    header = ["clips", "crops", *(METRICS[name] for name in names)]
    table(header, lines, numeric=tuple(range(len(header))))
    for name, unit in (("num_clips", "clips"), ("num_crops", "crops")):
        if left_out[name]:
            numbers = ", ".join(map(str, left_out[name]))
            say(f"left out, as their views were not scored: {numbers} {unit}")


def _print_diagnoses(values: list[dict[str, Any]]) -> None:
    for value in values:
        _print_diagnosis(value)


def _print_diagnosis(value: dict[str, Any]) -> None:
    from muybridge.data.sampling import ORDERS

    accuracy, largest = value["accuracy"], value["largest_change"]
    lines = [["ordered", f"{accuracy['ordered']:.3f}", "", ""]]
    for order in ORDERS[1:]:
        change = accuracy[order] - accuracy["ordered"]
        lines.append([order, f"{accuracy[order]:.3f}", f"{change:+.3f}", f"{largest[order]:.2g}"])
    table(["frames", "accuracy", "change", "largest change of a score"], lines, numeric=(1, 2, 3))
    lines = []
    for name, shares in value["per_class"].items():
        taken_for, count = next(iter(value["reversed_as"][name].items()))
        cells = [str(shares["videos"]), *(f"{shares[order]:.3f}" for order in ORDERS)]
        lines.append([name, *cells, f"{taken_for} ({count})"])
    header = ["class", "videos", *ORDERS, "reversed, mostly taken for"]
    table(header, lines, numeric=tuple(range(1, len(header) - 1)))
    if value["pairs"]:
        names = ("ordered_within", "shuffled_within", "reversed_partner")
        lines = [
            [" ↔ ".join(pair["classes"]), str(pair["videos"]), *(f"{pair[name]:.3f}" for name in names)]
            for pair in value["pairs"]
        ]
        header = ["pair", "videos", "right within, ordered", "shuffled", "reversed, taken for the partner"]
        table(header, lines, numeric=(1, 2, 3, 4))
    for finding in value["findings"]:
        say(finding)
    kind = " (training accuracy)" if value["split"] == "train" else ""
    say(f"{value['run']}: {value['videos']} videos of {value['split']}{kind}, {value['views']} view(s) each")
