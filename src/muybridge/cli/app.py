"""Command line: one command per verb, which parses its arguments and prints its result.

Results go to standard output, everything else to standard error. `--json` prints one JSON document instead. An error that
the user can fix is one line and exits with 2; Ctrl-C exits with 130.
"""

import atexit
import gc
import io
import json
import sys
from typing import Annotated

import typer

from muybridge import __version__
from muybridge.cli import (
    calibrate,
    data,
    evaluate,
    events,
    export,
    features,
    flow,
    fuse,
    machine,
    models,
    stream,
    study,
    train,
    use,
    work,
)
from muybridge.cli.output import answered
from muybridge.runtime.waiting import share_with_others

app = typer.Typer(
    name="muybridge",
    help="Video action recognition: train many architectures under one protocol, compare them honestly, use the best.\n\n"
    "Start with [bold]muybridge demo[/bold], or with a folder of videos: "
    "[bold]muybridge prepare FOLDER --out set.csv[/bold], then "
    "[bold]muybridge compare --data set.csv --models tsn_resnet_tiny,tsm_resnet_tiny --out study[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"muybridge {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Print the version; nothing is imported from the current folder unless the user names it."""


for _command in (
    machine.check, study.demo, data.motions, data.prepare, data.describe, data.show, data.doctor, data.verify, data.pack,
    data.frames,
    features.features, flow.flow, train.train, train.causal, evaluate.evaluate, evaluate.diagnose, calibrate.calibrate,
    study.compare, work.work, fuse.fuse, study.report, study.judge, use.predict, events.events, stream.stream, export.export,
    export.bundle, models.models, models.recipes, models.measure, train.runs,
):  # fmt: skip
    app.command()(_command)


def main() -> None:
    """Entry point of the command line."""
    atexit.register(gc.freeze)  # else Python ends with a look for garbage in all that torch has made: a second
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):  # characters that the terminal lacks are written as escapes
            output.reconfigure(errors="backslashreplace")
    share_with_others()
    try:
        app()
    except SystemExit as ended:
        if ended.code == 2 and "--json" in sys.argv and not answered:  # arguments that cannot be parsed
            typer.echo(json.dumps({"error": "usage: see standard error, or --help"}))
        raise
