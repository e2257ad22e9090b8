"""What a command answers: results on standard output, errors for people, tables, one JSON document."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from muybridge.errors import Interrupted, UserError
from muybridge.runtime.launch import launched
from muybridge.text import printable


def _check_place() -> None:
    """Raises UserError where the user stands in a folder that is gone: half of all libraries would say so in their own way."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError(
            "the folder that you stand in is gone (deleted, renamed?): go to another, and call again"
        ) from None


@contextmanager
def answering(as_json: bool) -> Iterator[None]:
    """Errors for people: one line, exit 2; with --json the document says it too."""
    try:
        _check_place()
        yield
    except Interrupted as stopped:
        fail(as_json, str(stopped), 130)
    except KeyboardInterrupt:
        fail(as_json, "stopped", 130)
    except UserError as error:
        fail(as_json, str(error), 2)
    except BrokenPipeError:  # `muybridge models | head`: who listened has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except MemoryError as error:
        fail(as_json, f"this asks for more memory than there is{f': {error}' if str(error) else ''}", 2)
    except OSError as error:  # a full disk, a folder that may not be written
        fail(as_json, f"{error.filename or 'the system'}: {error.strerror or error}", 2)


answered: list[bool] = []


def fail(as_json: bool, message: str, code: int) -> None:
    answered.append(True)
    rank = launched().rank
    if rank and code == 130:  # the first process says it
        raise typer.Exit(code)
    message = f"process {rank}: {message}" if rank else message
    if as_json:
        with suppress(OSError):  # it may be standard output that is full
            typer.echo(json.dumps({"error": message}))
    say(message if code == 130 else f"error: {message}", err=True)
    raise typer.Exit(code)


def answer(as_json: bool, value: Callable[[], Any], show: Callable[[], None]) -> None:
    answered.append(True)
    if launched().rank > 0:  # of several processes the first speaks
        return
    if as_json:
        typer.echo(json.dumps(value(), indent=2))
    else:
        show()


SCREEN_LINES = 6
"""Of each kind that `prepare` prints."""


METRICS = {
    "video_top1": "video top-1", "video_top5": "video top-5", "video_top10": "video top-10", "clip_top1": "clip top-1",
    "mean_class": "mean class", "kinetics_error": "Kinetics error",
}  # fmt: skip
"""Headers of what an evaluation counts, in order."""


def print_result(run: str, result: dict[str, Any]) -> None:
    splits = {name: result[name] for name in ("train", "val", "test", "unused", "scores") if name in result}
    known = [name for name in METRICS if any(name in figures for figures in splits.values())]
    lines = []
    for split, figures in splits.items():
        seen = figures.get("trained_on")
        name = f"{split} (training accuracy: {seen:.0f} of {figures['videos']:.0f} trained on)" if seen else split
        views = f"{figures['views']:.0f} view{'s' if figures['views'] > 1 else ''}"
        lines.append([name, *metric_cells(figures, known), f"{figures['videos']:.0f}", views])
    header = ["split", *(METRICS[name] for name in known), "videos", "of"]
    table(header, lines, numeric=tuple(range(1, len(header) - 1)))
    skipped = result.get("skipped") or sum(figures.get("skipped", 0) for figures in splits.values())
    if skipped:
        say(f"{skipped} video(s) could not be read and were left out")
    say(run)


def metric_cells(figures: dict[str, float], names: list[str]) -> list[str]:
    """Shares as 0.123, the error as 12.3 %."""
    shown = {name: f"{figures[name]:.3f}" for name in names if name in figures}
    if "kinetics_error" in shown:
        shown["kinetics_error"] = f"{figures['kinetics_error']:.1f} %"
    return [shown.get(name, "-") for name in names]


def clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02d}:{rest:05.2f}"


def table(header: list[str], lines: list[list[str]], *, numeric: tuple[int, ...] = ()) -> None:
    from muybridge.cli.table import drawn

    typer.echo(drawn(header, lines, numeric=numeric))


def say(text: str, *, err: bool = False) -> None:
    """A line for a person; names in it stay text, whatever they are made of."""
    typer.echo(printable(text), err=err)
