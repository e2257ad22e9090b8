"""Commands that hand a trained network on: `export`, `bundle`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from muybridge.cli.options import AllowCode, Json
from muybridge.cli.output import answer, answering, say


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File to write: .onnx, .pt2 or .xml; never one that is there.")
    ],
    to: Annotated[Literal["onnx", "torch", "openvino"], typer.Option(help="Kind of graph.")] = "onnx",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="MANIFEST", help="Videos that graph and run are both tried on; none: the run's own val or test."
        ),
    ] = None,
    one_frame: Annotated[
        bool,
        typer.Option("--one-frame", help="One frame and its state in, the answer at it out (networks that look back)."),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit integers, kept only if val shows no loss of accuracy (onnx).")
    ] = False,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="16-bit floats, kept only if val shows no loss of accuracy (onnx).")
    ] = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Write a run's network as one file for other runtimes, if it answers as the run does.

    In go the frames of a video's views (uint8), out come its probabilities: mirrored crops, normalisation and the mean over
    views are inside. Graph and run answer the same videos first; where they differ, no file is written.
    """
    with answering(as_json):
        import muybridge
        from muybridge.runtime.signals import stop_signals

        with stop_signals():
            made = muybridge.export(
                run, out=out, to=to, data=data, one_frame=one_frame, int8=int8, fp16=fp16, allow_code=allow_code
            )
        answer(as_json, made.as_json, lambda: _print_exported(made))


def bundle(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run, or a bundle.")],
    out: Annotated[
        Path, typer.Option(metavar="NAME.muy|FOLDER", help="File or folder to write; never one that is there.")
    ],
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Licence for whoever gets it, such as CC-BY-4.0; none: not stated."),
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Take the scores of val and test along, too.")] = False,
    as_json: Json = False,
) -> None:
    """Write what is needed of a run to use it elsewhere: weights, labels, rules, results, without paths of this machine.

    It loads wherever a run does (predict, evaluate, train --init). Every file is checked by its hash, and no code runs.
    """
    with answering(as_json):
        import muybridge
        from muybridge.runtime.signals import stop_signals

        with stop_signals():
            made = muybridge.bundle(run, out=out, licence=licence, scores=scores)
        answer(
            as_json, made.as_json,
            lambda: say(f"{made.path} ({made.files} files, {made.bytes / 1e6:.1f} MB, licence: {made.licence})"),
        )  # fmt: skip


def _print_exported(made: Any) -> None:
    told = ", ".join(f"{value:.1e} at {count} video{'s' * (count > 1)}" for count, value in made.difference.items())
    say(f"tried on {made.tried_on}: largest difference to the run {told}")
    if made.verdict is not None:
        say(str(made.verdict))
    say(f"an answer takes {made.ms:.1f} ms, the run's in PyTorch {made.torch_ms:.1f} ms (decoding not counted)")
    say(f"{made.path} ({made.to}, {made.precision}, {made.bytes / 1e6:.1f} MB)")
