"""The command of workers: `work`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import AllowCode, Json, LostAfter, Settings, parsed_settings, runtime_with
from muybridge.cli.output import answer, answering, say
from muybridge.errors import UserError
from muybridge.text import plural


def work(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder that `compare --plan-only` wrote.")],
    max_runs: Annotated[
        int | None, typer.Option(min=1, help="End after this number of runs; none: none is open.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Take runs that failed, too.")] = False,
    lost_after: LostAfter = 60.0,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Train the open runs of a planned study, one after the other; the last worker writes the report.

    Start any number of workers, on any machines that share the folder, and stop them at any time.
    """
    with answering(as_json):
        import muybridge

        runtime = None
        if settings:
            from muybridge.storage.plan import StoredPlan

            changes, _ = parsed_settings(settings)
            if changes:
                raise UserError(f"--set: {next(iter(changes))} is settled by the plan. Set runtime.FIELD")
            runtime = runtime_with(settings, StoredPlan.load(study).runtime)
        worked = muybridge.work(
            study, max_runs=max_runs, retry=retry, lost_after=lost_after, allow_code=allow_code, runtime=runtime
        )
        answer(as_json, worked.as_json, lambda: _print_worked(worked))


def _print_worked(worked: Any) -> None:
    say(f"{plural(len(worked.finished), 'run')} finished here; {worked.done} of {worked.runs} of the study are done")
    if worked.report is not None:
        say(f"report: {worked.report}")


def answer_planned(study: Any, as_json: bool) -> None:
    """Print what was planned, and how it is begun."""
    submitted = study.submitted

    def as_dict() -> dict[str, Any]:
        array = submitted and {
            "script": str(submitted.script), "command": list(submitted.command), "elements": submitted.elements,
            "runs_each": submitted.runs_each, "answer": submitted.answer,
        }  # fmt: skip
        return {"study": str(study.path), "runs": [run.name for run in study.runs], "array": array}

    def show() -> None:
        say(f"{plural(len(study.runs), 'run')} planned: {study.path}")
        if submitted is None:
            say(f"train them, in as many shells as you like: {shlex.join(['muybridge', 'work', str(study.path)])}")
            return
        each = f" of up to {submitted.runs_each} runs each" if submitted.runs_each > 1 else ""
        array = f"an array of {plural(submitted.elements, 'element')}{each}"
        if submitted.answer is None:
            say(f"{array}; submit it: {shlex.join(submitted.command)}")
        else:
            say(f"{array}: {submitted.answer} ({submitted.script})")

    answer(as_json, as_dict, show)
