"""Command about the machine: `check`."""

from typing import Annotated, Any

import typer

from muybridge.cli.options import Json
from muybridge.cli.output import answer, answering, say


def check(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder to work in.")] = ".",
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure nothing: no disk, memory, decoding or training.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at this machine: packages, GPU and driver, decoding, disk, memory, what fits. Say what to install.

    Exits with 1 where something is missing or broken that muybridge needs. Nothing is left in the folder, and --json names no
    host, user or folder: paste it where you report a problem.
    """
    with answering(as_json):
        import muybridge

        checked = muybridge.check(folder, quick=quick)
        answer(as_json, checked.as_json, lambda: _print_checked(checked))
        if not checked.works:
            raise typer.Exit(1)


def _print_checked(checked: Any) -> None:
    for finding in checked.findings:
        say(f"{finding.rank:6}{finding.look:11}{finding.text}")
        if finding.remedy:
            say(f"{'':17}-> {finding.remedy}")
    say(f"{checked}. It took {checked.seconds:.0f} seconds")
