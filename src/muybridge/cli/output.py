"""Output of commands: results on standard output, errors for people, tables, one JSON document."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import typer

from muybridge.errors import Interrupted, UserError
from muybridge.runtime.launch import launched
from muybridge.text import duration, printable


def _check_current_folder() -> None:
    """Raise UserError where the current folder is gone, before a library fails with an error of its own."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("current folder: it is gone (deleted or renamed). Change to another one") from None


@contextmanager
def answering(as_json: bool, *, lines: bool = False) -> Iterator[None]:
    """Print errors of a command in one line and exit with 2; `--json` prints them as a document, too.

    `lines`: `--json` prints lines that have a kind.
    """
    fail = partial(_fail, lines=lines)
    try:
        _check_current_folder()
        yield
    except Interrupted as stopped:
        fail(as_json, str(stopped), 130)
    except KeyboardInterrupt:
        fail(as_json, "stopped", 130)
    except UserError as error:
        fail(as_json, str(error), 2)
    except BrokenPipeError:  # `muybridge models | head`: the reader is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except MemoryError as error:
        fail(
            as_json, f"not enough memory{f': {error}' if str(error) else ''}. Use smaller batches or fewer processes", 2
        )
    except OSError as error:  # a full disk, a folder that may not be written
        remedy = "Check that the path is right and may be written, and that the disk is not full"
        fail(as_json, f"{error.filename or 'the system'}: {error.strerror or error}. {remedy}", 2)


answered: list[bool] = []
"""Filled once a result or an error was printed."""


def _fail(as_json: bool, message: str, code: int, *, lines: bool) -> None:
    """Print an error and exit with `code`."""
    answered.append(True)
    rank = launched().rank
    if rank and code == 130:  # process 0 prints it
        raise typer.Exit(code)
    message = f"process {rank}: {message}" if rank else message
    if as_json and not (lines and code == 130):  # a stream's last line says by itself that it was stopped
        with suppress(OSError):  # standard output itself may be full
            typer.echo(json.dumps({"kind": "error", "error": message} if lines else {"error": message}))
    say(message if code == 130 else f"error: {message}", err=True)
    raise typer.Exit(code)


def answer(as_json: bool, value: Callable[[], Any], show: Callable[[], None]) -> None:
    """Print a result: as JSON, or by `show`; only process 0 prints."""
    answered.append(True)
    if launched().rank > 0:  # process 0 prints
        return
    if as_json:
        typer.echo(json.dumps(value(), indent=2))
    else:
        show()


EPOCH_LINES = 20
"""Most lines of the table of epochs."""
SCREEN_LINES = 6
"""Most lines of each kind that `prepare` prints."""


METRICS = {
    "video_top1": "video top-1", "video_top5": "video top-5", "video_top10": "video top-10", "clip_top1": "clip top-1",
    "mean_class": "mean class", "kinetics_error": "Kinetics error",
}  # fmt: skip
"""Column headers of metrics, in order."""


def print_result(run: str, result: dict[str, Any]) -> None:
    """Print a table of metrics per split."""
    splits = {name: result[name] for name in ("train", "val", "test", "unused", "scores") if name in result}
    names = [name for name in METRICS if any(name in metrics for metrics in splits.values())]
    lines = []
    for split, metrics in splits.items():
        seen = metrics.get("trained_on")
        name = f"{split} (training accuracy: {seen:.0f} of {metrics['videos']:.0f} trained on)" if seen else split
        views = f"{metrics['views']:.0f} view{'s' if metrics['views'] > 1 else ''}"
        lines.append([name, *metric_cells(metrics, names), f"{metrics['videos']:.0f}", views])
    header = ["split", *(METRICS[name] for name in names), "videos", "of"]
    table(header, lines, numeric=tuple(range(1, len(header) - 1)))
    skipped = result.get("skipped") or sum(metrics.get("skipped", 0) for metrics in splits.values())
    if skipped:
        say(f"{skipped} video(s) could not be read and were left out")
    say(run)


def print_epochs(train: list[dict[str, Any]], val: list[dict[str, Any]], timing: list[dict[str, Any]]) -> None:
    """Print a table of epochs: those that were validated, evenly thinned out to a screen, with the best and the last."""
    validated, seconds = (
        {line["epoch"]: line for line in val},
        {line["epoch"]: line["train_seconds"] for line in timing},
    )
    chosen = [line for line in train if line["epoch"] in validated] or train
    best = max(validated, key=lambda epoch: validated[epoch]["video_top1"], default=None)
    if len(chosen) > EPOCH_LINES:
        every = -(-len(chosen) // (EPOCH_LINES - 1))
        chosen = [
            line for number, line in enumerate(chosen, start=1)
            if number % every == 0 or line["epoch"] == best or number == len(chosen)
        ]  # fmt: skip
    lines, done, at = [], 0.0, 0
    by_epoch = sorted(seconds)
    for line in chosen:
        while at < len(by_epoch) and by_epoch[at] <= line["epoch"]:
            done += seconds[by_epoch[at]]
            at += 1
        of_val = validated.get(line["epoch"])
        lines.append([
            str(line["epoch"]), str(line["step"]), f"{line['lr']:.2g}", f"{line['loss']:.3f}", f"{line['clip_top1']:.3f}",
            *(["–", "–"] if of_val is None else [f"{of_val['loss']:.3f}", f"{of_val['video_top1']:.3f}"]),
            duration(done), "best" if line["epoch"] == best else "",
        ])  # fmt: skip
    header = ["epoch", "step", "lr", "train loss", "clip top-1", "val loss", "val top-1", "trained for", ""]
    if lines:
        table(header, lines, numeric=tuple(range(len(header) - 1)))
        if len(lines) < len(train):
            say(f"{len(lines)} of {len(train)} epochs; all are in metrics.jsonl")


def metric_cells(metrics: dict[str, float], names: list[str]) -> list[str]:
    """Cells of a table of metrics: accuracies as 0.123, the Kinetics error as 12.3 %."""
    shown = {name: f"{metrics[name]:.3f}" for name in names if name in metrics}
    if "kinetics_error" in shown:
        shown["kinetics_error"] = f"{metrics['kinetics_error']:.1f} %"
    return [shown.get(name, "-") for name in names]


def clock(seconds: float) -> str:
    """Time in a video as MM:SS.ss."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02d}:{rest:05.2f}"


def table(header: list[str], lines: list[list[str]], *, numeric: tuple[int, ...] = ()) -> None:
    """Print a table; the columns `numeric` are aligned to the right."""
    from muybridge.cli.table import render

    typer.echo(render(header, lines, numeric=numeric))


def say(text: str, *, err: bool = False) -> None:
    """Print a line of text; control characters in names are made visible."""
    typer.echo(printable(text), err=err)
