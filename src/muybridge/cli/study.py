"""Commands that compare: `demo`, `compare`, `report`."""

import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    AllowCode,
    Init,
    Json,
    Pretrained,
    Settings,
    Shorten,
    listed_in,
    number_in,
    parsed_settings,
    typed,
)
from muybridge.cli.output import answer, answering, say, table
from muybridge.text import plural


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Where videos, runs and the report go; none: demo, or demo-quick.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the videos and of the training.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A taste in under a minute: fewer videos, two models.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """From nothing to an answer: make real video files, train five architectures under one recipe, write the report.

    Most classes differ only in the direction of time: which architectures can tell?
    """
    with answering(as_json):
        import muybridge

        changes, runtime = parsed_settings(settings)
        study = muybridge.demo(
            out or Path("demo-quick" if quick else "demo"), seed=seed, quick=quick, changes=changes, runtime=runtime
        )
        _answer_study(study, as_json)


def compare(
    data: Annotated[
        list[str], typer.Option("--data", metavar="MANIFEST", help="A manifest that `prepare` wrote; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(metavar="STUDY", help="Where runs and the report go.")],
    models: Annotated[str | None, typer.Option(metavar="A,B,…", help="Names from `muybridge models`.")] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="study_2021, mini, pretraining, transfer, equal_time, or mine.py:function; none: the models by one recipe."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=VALUE,…", help="Only these runs of a study (num_frames=8,16); may be repeated."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="The protocol: a recipe as `train` takes it.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds a model.")] = 1,
    folds: Annotated[str | None, typer.Option(metavar="1,2,…", help="Folds of the manifest; none: all it has.")] = None,
    tune: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="TRIALS",
            help="Before: as many trials for each model, on val, of learning rate and weight decay.",
        ),
    ] = 0,
    pretrained: Pretrained = None,
    init: Init = None,
    shorten: Shorten = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also measure speed and memory of every setting, for the report.")
    ] = False,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Also score every run with its frames in other orders, for the report.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs; train nothing.")] = False,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Train models × seeds × folds under one protocol, or the runs of a study, score all alike, write the report. A
    finished run is not run again, a stopped one goes on."""
    with answering(as_json):
        from muybridge import api
        from muybridge.studies.plan import parse_only

        changes, runtime = parsed_settings(settings)
        typed(*listed_in(models or ""), recipe, study, allow_code=allow_code)
        made = api.plan(
            listed_in(models) if models is not None else None,
            data=[path for paths in data for path in ([paths] if Path(paths).exists() else listed_in(paths))],
            study=study, recipe=recipe, seeds=seeds, only=parse_only(only or []),
            folds=[number_in(fold, "--folds") for fold in listed_in(folds)] if folds else None,
            pretrained=pretrained, init=init, changes=changes, shorten=shorten, title=title, allow_code=allow_code,
        )  # fmt: skip
        from muybridge.studies import run as studies  # with all that training needs

        if dry_run:
            made = studies.dry_run(made, out=out, tune=tune, runtime=runtime)
            trials = {"trials": dict.fromkeys(made.settings(), tune)} if tune else {}
            answer(as_json, lambda: made.as_json() | trials, lambda: _print_plan(made, tune))
        else:
            done = studies.run(made, out=out, tune=tune, measure=measure, diagnose=diagnose, runtime=runtime)
            _answer_study(done, as_json)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN… | STUDY", help="Run folders, or a study's folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The HTML file; none: in the study's folder.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DATA=]SET",
            help="Show published results, as such: mini_ssv2, mini_kinetics, mini_moments, kinetics400, kinetics5, ucf101, "
            "hmdb51, ucf11.",
        ),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Two rows to hold against each other, by class and video; none: the two best."
        ),
    ] = None,
    no_frames: Annotated[bool, typer.Option("--no-frames", help="Show no frames of videos.")] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write the report of finished runs: one HTML file that works offline; beside it the same as Markdown, JSON, CSV, SVG
    and PNG."""
    with answering(as_json):
        import muybridge

        known = dict(one.partition("=")[::2] for one in beside or [])
        written = muybridge.report(
            runs,
            out=out,
            title=title,
            beside=beside[0] if beside and not any(known.values()) else known or None,
            pair=None if pair is None else listed_in(pair),
            with_frames=not no_frames,
        )
        if open_it:
            webbrowser.open(written.path.resolve().as_uri())
        answer(
            as_json,
            lambda: _report_json(written.path, written.comparisons),
            lambda: _print_report(written.path, written.comparisons),
        )


def _answer_study(study: Any, as_json: bool) -> None:
    answer(
        as_json,
        lambda: {"study": str(study.path), **_report_json(study.report, study.comparisons)},
        lambda: _print_report(study.report, study.comparisons),
    )


def _report_json(path: Path, comparisons: Mapping[str, Any]) -> dict[str, Any]:
    from muybridge.reporting.report import document

    return {"report": str(path), **document(comparisons)}


def _print_report(path: Path, comparisons: Mapping[str, Any]) -> None:
    from muybridge.analysis.findings import findings

    for name, comparison in comparisons.items():
        if len(comparisons) > 1:
            say(f"\n{name}")
        header, lines = comparison.table()
        table(header, lines, numeric=tuple(range(1, len(header))))
        for line in (*findings(comparison), *comparison.notes):
            say(line)
    say(f"report: {path}")


def _print_plan(plan: Any, trials: int) -> None:
    listed = plan.as_json()
    lines = [
        [run["name"], run["starts_from"] or "–", "–" if run["epochs"] is None else str(run["epochs"]),
         "–" if run["max_hours"] is None else f"{run['max_hours']:g}"]
        for run in listed["runs"]
    ]  # fmt: skip
    table(["run", "starts from", "epochs", "hours at most"], lines, numeric=(2, 3))
    count, settings = len(lines), len(plan.settings())
    before = f"; before that, {trials} trials for each of {settings} settings" if trials else ""
    say(f"{listed['title']}: {plural(count, 'run')}{before}")
