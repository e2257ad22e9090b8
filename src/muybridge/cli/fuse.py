"""The command that fuses scores of runs: `fuse`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import Json
from muybridge.cli.output import answer, answering, say, table
from muybridge.text import listed, ratio


def fuse(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN… | STUDY", help="Run folders, or a study's folder.")],
    weights: Annotated[
        str, typer.Option(metavar="auto|equal|1,1.5,…", help="Weight of each run's scores; auto: chosen on val.")
    ] = "auto",
    average: Annotated[
        str | None, typer.Option(help="Average logits or probabilities; none: as the runs average their views.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write the result to; none: fused, or the study's own folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fuse scores of runs on the same videos: two streams, or any ensemble of models or seeds.

    The result is a row of reports: muybridge report RUN RUN DIR, or muybridge report STUDY. Runs of several folds and seeds
    are fused within each.
    """
    with answering(as_json):
        import muybridge

        fused = muybridge.fuse(runs, weights=weights, average=average, out=out)
        values = [{"run": str(run.path), **(run.fused() or {}), **_metrics(run.result())} for run in fused.runs]
        answer(as_json, lambda: values if len(values) > 1 else values[0], lambda: _print(values, fused.comparisons))


def _metrics(result: dict[str, Any]) -> dict[str, Any]:
    return {split: result[split] for split in ("val", "test") if split in result}


def _print(values: list[dict[str, Any]], comparisons: Any) -> None:
    from muybridge.analysis.findings import findings

    for value in values:
        how = {"auto": "chosen on val", "given": "given", "equal": "equal"}[value["rule"]]
        if value["rule"] == "auto" and value["chosen"] is None:
            how = "equal, without val videos"
        names = listed([part["name"] for part in value["parts"]])
        say(f"{value['run']}: {names}, weights {ratio(value['weights'])} ({how})")
    for comparison in comparisons.values():
        header, lines = comparison.table()
        table(header, lines + comparison.baseline_rows(header), numeric=tuple(range(1, len(header))))
        for line in (*findings(comparison), *comparison.notes):
            say(line)
