"""The command line: one command a verb, which parses its arguments and prints its answer.

Results go to standard output, everything else to standard error. `--json` prints one JSON document instead. What a
person can mend is said in a line and exits with 2; Ctrl-C exits with 130.
"""

import io
import json
import sys
from typing import Annotated

import typer

from muybridge import __version__
from muybridge.cli import data, evaluate, models, study, train, use
from muybridge.cli.output import answered

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
    """(Nothing is imported from the folder where the user stands, unless they name it: `user_code.from_here`.)"""


for _command in (
    study.demo, data.motions, data.prepare, data.pack, data.frames, train.train, evaluate.evaluate, evaluate.diagnose,
    study.compare, study.report, use.predict, models.models, models.recipes, models.measure, train.runs,
):  # fmt: skip
    app.command()(_command)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal has no letter for is written as an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as ended:
        if ended.code == 2 and "--json" in sys.argv and not answered:  # words that no command understands
            typer.echo(json.dumps({"error": "usage: see standard error, or --help"}))
        raise
