"""The command that makes a run know what it does not know: `calibrate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import AllowCode, Data, Json, Settings, runtime_only
from muybridge.cli.output import answer, answering, say, table
from muybridge.text import plural


def calibrate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help='Answer "unknown" below a probability: precision=0.95, or cost_wrong=5,cost_unknown=1; none removes it.',
        ),
    ] = None,
    data: Data = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Fit a temperature to a run's probabilities on val, so that it is right as often as it says.

    `predict`, `evaluate` and the report use it then. Test is never read. --data, --set runtime.FIELD and --allow-code are
    for a run whose val scores are not there any more: val is scored again.
    """
    with answering(as_json):
        import muybridge

        found = muybridge.calibrate(
            run, threshold=threshold, data=data, allow_code=allow_code, runtime=runtime_only(settings)
        )
        value = found.as_json()
        answer(as_json, lambda: value, lambda: _print(value))


def _print(value: dict[str, Any]) -> None:
    lines = [
        [name, f"{value[f'{key}_before']:.3f}", f"{value[key]:.3f}"]
        for name, key in (("loss", "loss"), ("calibration error", "calibration_error"))
    ]
    table(["on val", "before", "after"], lines, numeric=(1, 2))
    say(f"{value['run']}: {temperature_words(value)}")
    if value["threshold"] is not None:
        say(threshold_words(value["threshold"]))


def temperature_words(value: dict[str, Any]) -> str:
    """Sentence on a temperature by the content of calibration.json."""
    from muybridge.analysis.calibration import FEWEST, is_at_edge

    videos = plural(value["videos"], "val video")
    if value["low"] is None and value["temperature"] == 1:
        return f"temperature 1, as all {videos} are right, which says nothing of how sure to be"
    interval = "" if value["low"] is None else f" [{value['low']:.2f}, {value['high']:.2f}]"
    words = f"temperature {value['temperature']:.2f}{interval} by {videos}"
    if value["sources"] < value["videos"]:
        words += f" of {plural(value['sources'], 'source')}"
    if value["low"] is None:
        words += f", too few for an interval, which takes {FEWEST} independent ones"
    elif value["low"] <= 1 <= value["high"]:
        words += "; 1, which changes nothing, lies in its interval"
    if is_at_edge(value["temperature"]):
        words += "; it is an end of what is tried, so val is too small, or nearly all wrong: do not rely on it"
    return words


def threshold_words(kept: dict[str, Any]) -> str:
    """Sentence on a threshold by its entry in calibration.json."""
    words = (
        f'"unknown" below {kept["value"]:.3f} ({kept["rule"]}): {kept["answered"]:.1%} of val get an answer, and '
        f"{kept['precision']:.3f} of these are right (at least {kept['precision_low']:.3f}, {kept['method']})"
    )
    if kept["cost"] is None:
        return words
    return f"{words}; a video costs {kept['cost']:.3g}, and {kept['cost_of_all']:.3g} if all get an answer"
