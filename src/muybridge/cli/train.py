"""Commands that train and list runs: `train`, `causal`, `runs`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    AllowCode,
    Data,
    Epochs,
    Init,
    Json,
    Pretrained,
    Settings,
    Shorten,
    Steps,
    allow_named,
    parsed_settings,
    runtime_with,
    split_list,
)
from muybridge.cli.output import answer, answering, print_epochs, print_result, say, table
from muybridge.errors import UserError
from muybridge.text import duration


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Shipped recipe, mine.py:function, or RUN/recipe.json.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name from `muybridge models`, or module:function.")] = None,
    data: Data = None,
    fold: Annotated[int | None, typer.Option(help="Fold of the manifest.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Run folder to write.")] = None,
    pretrained: Pretrained = None,
    init: Init = None,
    shorten: Shorten = None,
    epochs: Epochs = None,
    steps: Steps = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell the steps, epochs and estimated time; train nothing.")
    ] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Continue a stopped run.")] = None,
    checkpoint: Annotated[
        str, typer.Option(help="With --resume: last, best, or step-NUMBER; later progress is discarded.")
    ] = "last",
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Train nothing: try rising learning rates in 100 steps, and draw their losses (--out NAME.svg, .png or .html).",
        ),
    ] = False,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Train a model. Ctrl-C saves; --resume continues with the same results to the bit.

    For several GPUs or machines: torchrun --nproc-per-node N -m muybridge train …
    """
    with answering(as_json):
        import muybridge
        from muybridge.storage.run import Run

        changes, runtime = parsed_settings(settings)
        allow_named(model, recipe, allow_code=allow_code)
        if resume is not None:
            options = {
                "RECIPE": recipe, "--model": model, "--fold": fold, "--out": out, "--pretrained": pretrained,
                "--init": init, "--set": changes, "--shorten": shorten, "--epochs": epochs, "--steps": steps,
                "--dry-run": dry_run, "--find-lr": find_lr,
            }  # fmt: skip
            extra = [name for name, value in options.items() if value]
            if extra:
                raise UserError(
                    f"{extra[0]}: it does not apply to --resume, which continues a run with its own settings. Leave it out"
                )
            run = muybridge.resume(
                resume, checkpoint=checkpoint, data=data, allow_code=allow_code,
                runtime=runtime_with(settings, Run.open(resume).runtime()),
            )  # fmt: skip
        else:
            asked: dict[str, Any] = {
                "model": model, "data": data, "fold": fold, "pretrained": pretrained, "init": init, "changes": changes,
                "shorten": shorten, "epochs": epochs, "steps": steps, "allow_code": allow_code, "runtime": runtime,
            }  # fmt: skip
            if checkpoint != "last":
                raise UserError("--checkpoint: it applies only to a continued run. Add --resume RUN")
            if dry_run and find_lr:
                raise UserError("--find-lr: --dry-run is given, too. Give one of them")
            if dry_run:
                planned = muybridge.estimate(recipe, **asked)
                answer(as_json, planned.length, lambda: _print_length(planned))
                return
            if out is None:
                raise UserError(
                    "--out: it is missing. Name the run folder to write: --out RUN (or continue one: --resume RUN)"
                )
            if find_lr:
                found = muybridge.find_lr(recipe, out=out, **asked)
                answer(
                    as_json, lambda: {"picture": str(out), **found.as_json()}, lambda: say(f"{found.verdict}\n{out}")
                )
                return
            run = muybridge.train(recipe, out=out, **asked)
        answer(as_json, lambda: {"run": str(run.path), **run.result()}, lambda: _print_run(run))


def causal(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of a TSM.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder to write.")],
    data: Data = None,
    epochs: Epochs = None,
    steps: Steps = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Turn a trained TSM into one that looks back only, and fine-tune it, so that a stream is answered frame by frame.

    Without --epochs or --steps: a tenth of the run's steps, at three tenths of its learning rate. Uniform clips cannot
    stream: the error says how to turn them into dense ones.
    """
    with answering(as_json):
        import muybridge

        changes, runtime = parsed_settings(settings)
        allow_named(allow_code=allow_code)
        made = muybridge.causal(
            run, out=out, data=data, epochs=epochs, steps=steps, changes=changes, allow_code=allow_code, runtime=runtime
        )
        answer(as_json, lambda: {"run": str(made.path), **made.result()}, lambda: _print_run(made))


def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER", help="Folders to search, at any depth, hidden ones excepted; none: the current folder."
        ),
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="List only runs in these states, such as finished,stopped.")
    ] = None,
    trials: Annotated[
        bool, typer.Option("--trials", help="Also list the trials of searches (`compare --search`).")
    ] = False,
    as_json: Json = False,
) -> None:
    """List runs with their states, progress and accuracy.

    States: finished; training; stopped (`muybridge train --resume RUN` continues it); begun (no checkpoint yet); damaged
    (standard error says why). Epochs are those done, and for a stopped run those saved. Accuracy is on test, or the last on
    val until test is scored.
    """
    with answering(as_json):
        import muybridge

        def warn(error: OSError) -> None:
            say(f"warning: {error.filename}: the folder cannot be read: {error.strerror}", err=True)

        searched, states = folders or [Path(".")], None if state is None else split_list(state)
        every = muybridge.runs(searched, states=states, trials=True, unreadable=warn)
        listed = [about.as_json() for about in every if trials or not about.run.is_trial]
        left_out = 0 if trials else sum(about.run.is_trial for about in every)
        for row in listed:
            if row["reason"]:
                say(f"damaged: {row['reason']}", err=True)
        if not listed:
            kind = "" if states is None else f" {' or '.join(states)}"
            say(f"No{kind} runs below {', '.join(map(str, searched))}", err=True)
        answer(as_json, lambda: {"runs": listed, "left_out": left_out}, lambda: _print_runs(listed, left_out))


def _print_length(planned: Any) -> None:
    from muybridge.recipe.schedule import peak_lr

    say(f"training on {planned.budget}")
    say(f"peak learning rate {peak_lr(planned.recipe):.4g}, with batches of {planned.recipe.optim.batch_size}")
    if planned.seconds is None:
        say("a step does not fit into memory; no time can be told")
    else:
        say(f"about {duration(planned.seconds)} of computing on this machine, the decoding of videos not counted")
    say("nothing was written")


def _print_run(run: Any) -> None:
    print_epochs(run.metrics("train"), run.metrics("val"), run.timing())
    print_result(str(run.path), run.result())


def _print_runs(rows: list[dict[str, Any]], left_out: int) -> None:
    def hours(seconds: float) -> str:
        return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"

    def done(row: dict[str, Any]) -> str:
        if row["epochs"] is None and row["max_hours"] is not None:
            return f"{row['epoch']} ({hours(row['train_seconds'])} of {hours(3600 * row['max_hours'])} h)"
        return f"{row['epoch']} of {row['epochs']}"

    def cells(row: dict[str, Any]) -> dict[str, str]:
        top1 = row["video_top1"]
        texts = {
            "run": row["path"], "model": row["model"], "data": row["data"], "seed": row["seed"], "fold": row["fold"],
            "state": row["state"], "epoch": None if row["epoch"] is None else done(row),
            "video top-1": None if top1 is None else f"{top1:.3f} {row['split']}",
            "trained for": None if row["train_seconds"] is None else hours(row["train_seconds"]),
            "changed": row["changed"] and row["changed"][:16].replace("T", " "),
        }  # fmt: skip
        if all(row["fold"] is None for row in rows):
            texts.pop("fold")
        return {name: "–" if value is None else str(value) for name, value in texts.items()}

    if rows:
        lines = [cells(row) for row in rows]
        header = list(lines[0])
        numbers = tuple(header.index(name) for name in ("seed", "fold", "epoch", "trained for") if name in header)
        table(header, [list(line.values()) for line in lines], numeric=numbers)
    if left_out:
        say(f"left out: {left_out} trials of searches (--trials lists them)")
