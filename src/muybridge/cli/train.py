"""Commands that train: `train`, and `runs`, which lists what was trained."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    AllowCode,
    Data,
    Init,
    Json,
    Pretrained,
    Settings,
    Shorten,
    listed_in,
    parsed_settings,
    runtime_with,
    typed,
)
from muybridge.cli.output import answer, answering, print_result, say, table
from muybridge.errors import UserError


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A shipped recipe, mine.py:function, or RUN/recipe.json.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A name from `muybridge models`, or module:function.")] = None,
    data: Data = None,
    fold: Annotated[int | None, typer.Option(help="Which fold of the manifest.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The run folder to make.")] = None,
    pretrained: Pretrained = None,
    init: Init = None,
    shorten: Shorten = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue a run that was stopped.")] = None,
    checkpoint: Annotated[
        str, typer.Option(help="With --resume: from last, best, or a step's; what came after it is forgotten.")
    ] = "last",
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Train a model. Ctrl-C saves; --resume continues, to the same bits as if never stopped.

    Several GPUs or machines: torchrun --nproc-per-node N -m muybridge train …
    """
    with answering(as_json):
        import muybridge
        from muybridge.storage.run import Run

        changes, runtime = parsed_settings(settings)
        typed(model, recipe, allow_code=allow_code)
        if resume is not None:
            given = {
                "RECIPE": recipe, "--model": model, "--fold": fold, "--out": out, "--pretrained": pretrained,
                "--init": init, "--set": changes, "--shorten": shorten,
            }  # fmt: skip
            extra = [name for name, value in given.items() if value]
            if extra:
                raise UserError(f"--resume continues a run as it was begun; {extra[0]} does not go with it")
            run = muybridge.resume(
                resume, checkpoint=checkpoint, data=data, allow_code=allow_code,
                runtime=runtime_with(settings, Run.open(resume).runtime()),
            )  # fmt: skip
        else:
            if checkpoint != "last":
                raise UserError("--checkpoint says where --resume continues from; it needs --resume RUN")
            if out is None:
                raise UserError("train needs --out RUN, the folder to make (or --resume RUN)")
            run = muybridge.train(
                recipe, model=model, data=data, fold=fold, out=out, pretrained=pretrained, init=init,
                changes=changes, shorten=shorten, allow_code=allow_code, runtime=runtime,
            )  # fmt: skip
        answer(
            as_json, lambda: {"run": str(run.path), **run.result()}, lambda: print_result(str(run.path), run.result())
        )


def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Where to look, at any depth (not in hidden folders); none: here."),
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Only the runs in these states (finished,stopped, say).")
    ] = None,
    trials: Annotated[bool, typer.Option("--trials", help="Also the trials of searches (`compare --tune`).")] = False,
    as_json: Json = False,
) -> None:
    """List runs, and where each stands: finished; training (a process is at it); stopped (`muybridge train --resume RUN`
    goes on); begun (nothing is saved yet); or damaged (standard error says why).

    Epochs are those that are done, and of a stopped run saved; the accuracy is the test's, or where that is still to come
    the last on val.
    """
    with answering(as_json):
        import muybridge

        def tell(error: OSError) -> None:
            say(f"warning: {error.filename} cannot be looked into: {error.strerror}", err=True)

        places, states = folders or [Path(".")], None if state is None else listed_in(state)
        every = muybridge.runs(places, states=states, trials=True, unreadable=tell)
        listed = [about.as_json() for about in every if trials or not about.run.is_trial]
        left_out = 0 if trials else sum(about.run.is_trial for about in every)
        for row in listed:
            if row["reason"]:
                say(f"damaged: {row['reason']}", err=True)
        if not listed:
            kind = "" if states is None else f" {' or '.join(states)}"
            say(f"No{kind} runs below {', '.join(map(str, places))}", err=True)
        answer(as_json, lambda: {"runs": listed, "left_out": left_out}, lambda: _print_runs(listed, left_out))


def _print_runs(rows: list[dict[str, Any]], left_out: int) -> None:
    def hours(seconds: float) -> str:
        return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"

    def done(row: dict[str, Any]) -> str:
        if row["epochs"] is None and row["max_hours"] is not None:
            return f"{row['epoch']} ({hours(row['train_seconds'])} of {hours(3600 * row['max_hours'])} h)"
        return f"{row['epoch']} of {row['epochs']}"

    def cells(row: dict[str, Any]) -> dict[str, str]:
        top1 = row["video_top1"]
        known = {
            "run": row["path"], "model": row["model"], "data": row["data"], "seed": row["seed"], "fold": row["fold"],
            "state": row["state"], "epoch": None if row["epoch"] is None else done(row),
            "video top-1": None if top1 is None else f"{top1:.3f} {row['split']}",
            "trained for": None if row["train_seconds"] is None else hours(row["train_seconds"]),
            "changed": row["changed"] and row["changed"][:16].replace("T", " "),
        }  # fmt: skip
        if all(row["fold"] is None for row in rows):
            known.pop("fold")
        return {name: "–" if value is None else str(value) for name, value in known.items()}

    if rows:
        lines = [cells(row) for row in rows]
        header = list(lines[0])
        numbers = tuple(header.index(name) for name in ("seed", "fold", "epoch", "trained for") if name in header)
        table(header, [list(line.values()) for line in lines], numeric=numbers)
    if left_out:
        say(f"trials of searches, left out: {left_out} (--trials lists them, too)")
