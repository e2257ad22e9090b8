"""Options that several commands share, and the parsing of `--set`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.FIELD=VALUE", help="Change a field of the recipe, or of the runtime (runtime.FIELD)."
    ),
]
Data = Annotated[Path | None, typer.Option("--data", metavar="MANIFEST", help="Manifest that `prepare` wrote.")]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Allow the code that a run or recipe names for its model. Only for sources you trust."
    ),
]
MaxPixels = Annotated[int, typer.Option(help="Largest frame to decode (width times height).")]
MaxFrames = Annotated[int, typer.Option(help="Longest video to decode, in frames.")]
MaxSeconds = Annotated[float, typer.Option(help="Longest decoding time per file.")]
MaxMemory = Annotated[float, typer.Option("--max-memory-gib", help="Largest memory for decoding one file.")]


ShortSide = Annotated[
    int, typer.Option(min=0, metavar="PIXELS", help="Scale frames to this short side; 0: keep their size.")
]
Fps = Annotated[
    float | None, typer.Option(help="Frame rate to keep (a slower video keeps all frames); none: every frame.")
]
LostAfter = Annotated[
    float,
    typer.Option(min=6.0, metavar="SECONDS", help="Take over a run whose worker gave no sign of life for this long."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Do the I-th of N shares of the work, for N calls at once; the last one joins them."
    ),
]
DataCluster = Annotated[
    str | None, typer.Option("--cluster", metavar="RAY", help="Share the work among machines: ray or ray://HOST:PORT.")
]
Answerer = Annotated[
    str,
    typer.Argument(
        metavar="RUN|STUDY|MODEL",
        help="A run folder, a bundle, a study (its best run on val), an exported .onnx file, or (with --pretrained) a model.",
    ),
]
StartAbove = Annotated[float, typer.Option(help="An event begins where its score is at least this.")]
EndBelow = Annotated[float, typer.Option(help="An event ends where its score falls below this.")]
MinSeconds = Annotated[float, typer.Option(help="Drop events shorter than this, after merging.")]
MergeSeconds = Annotated[float, typer.Option(help="Merge events of a class that are at most this apart.")]
Background = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Class that stands for nothing: it makes no events.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Threads; none: one per core.")]
Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        help="Start from public weights (imagenet, kinetics400, hub), a run folder, a file or a URL; all tensors must match.",
    ),
]
ReadyMade = Annotated[
    str | None,
    typer.Option(
        "--pretrained", metavar="WEIGHTS",
        help="Use a model with weights as they are, untrained here: kinetics400, hub, imagenet, a file or a URL.",
    ),
]  # fmt: skip
Init = Annotated[
    str | None,
    typer.Option(metavar="WEIGHTS", help="Like --pretrained, but load matching tensors only and list the rest."),
]
Shorten = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", help="Shorten the whole schedule (epochs, warm-up, milestones, hours) to this fraction."
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train exactly this number of epochs (unless a stop rule ends it before); warm-up and milestones keep their share.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train exactly this number of steps (unless a stop rule ends it before); warm-up and milestones keep their share.",
    ),
]
NumFrames = Annotated[int | None, typer.Option(min=1, help="Frames per clip; none: the model's usual number.")]
Size = Annotated[int | None, typer.Option(min=1, help="Height and width in pixels; none: the model's usual size.")]
TemporalPooling = Annotated[
    bool, typer.Option("--temporal-pooling", help="Halve the time axis three times inside the network.")
]


LIMITS: dict[str, Any] = {"pixels": 2**26, "frames": 2_000_000, "seconds": 1800.0, "memory_gib": 4.0}
"""Defaults of `muybridge.video.limits.Limits`, which a test keeps equal: the command line starts without NumPy."""


def parsed_settings(settings: list[str] | None) -> tuple[dict[str, Any], Any]:
    """Changes of the recipe by `--set`, and the runtime with its changes."""
    from muybridge.recipe import Runtime, parse_overrides

    changes = {n: value for n, value in parse_overrides(settings or []).items() if not n.startswith("runtime.")}
    return changes, runtime_with(settings, Runtime())


def recipe_changes(settings: list[str] | None) -> dict[str, Any]:
    """Changes of the recipe by `--set`, where nothing is run. Raises UserError for a field of the runtime."""
    from muybridge.recipe import parse_overrides

    changes = parse_overrides(settings or [])
    of_runtime = [name for name in changes if name.startswith("runtime.")]
    if of_runtime:
        raise UserError(f"--set: '{of_runtime[0]}' changes nothing here. Leave it out")
    return changes


def runtime_only(settings: list[str] | None) -> Any:
    """The runtime by `--set runtime.FIELD`. Raises UserError for a field of the recipe."""
    changes, runtime = parsed_settings(settings)
    if changes:
        raise UserError(
            f"--set: '{next(iter(changes))}' cannot be set here, as the run's recipe holds. Set runtime.FIELD"
        )
    return runtime


def runtime_with(settings: list[str] | None, base: Any) -> Any:
    """Runtime with the changes of `--set runtime.FIELD=VALUE`."""
    from muybridge.recipe import parse_overrides, replace

    parsed = parse_overrides(settings or [])
    return replace(base, {n.removeprefix("runtime."): v for n, v in parsed.items() if n.startswith("runtime.")})


def model_options(settings: list[str] | None) -> tuple[dict[str, Any], Any]:
    """Model options by `--set model.options.NAME=VALUE`, and the runtime. Raises UserError for other fields."""
    changes, runtime = parsed_settings(settings)
    prefix = "model.options."
    others = [name for name in changes if not name.startswith(prefix)]
    if others:
        raise UserError(f"--set: '{others[0]}' cannot be set here. Set {prefix}NAME or runtime.FIELD")
    return {name.removeprefix(prefix): value for name, value in changes.items()}, runtime


def decode_limits(pixels: int, frames: int, seconds: float, memory_gib: float) -> Any:
    """Limits of decoding, from their options."""
    from muybridge.video.limits import Limits

    return Limits(pixels=pixels, frames=frames, seconds=seconds, memory_gib=memory_gib)


def allow_named(*names: str | None, allow_code: bool = False) -> None:
    """Allow the code that the user named on the command line, and import it from the current folder, too.

    `names`: models, recipes and studies; those without code are ignored.
    """
    from muybridge.user_code import from_here, look_here

    for name in filter(None, names):
        if ".py:" in name:
            look_here()
        elif not name.endswith(".json") and not Path(name).is_dir():
            from_here(name)
    if allow_code:
        look_here()


def pairs(option: str, texts: list[str] | None) -> dict[str, str] | None:
    """Parse NAME=VALUE, given once or several times. Raises UserError that names the option."""
    for text in texts or []:
        if not all(text.partition("=")):
            raise UserError(f"{option} {text}: not NAME=VALUE. Give both")
    return {name: value for name, _, value in (text.partition("=") for text in texts)} if texts else None


def split_list(text: str) -> list[str]:
    """Split a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_number(text: str, option: str) -> int:
    """Parse a whole number. Raises UserError that names the option."""
    if not re.fullmatch("[0-9]{1,15}", text):
        raise UserError(f"{option}: '{text}' is not a number. Give whole numbers")
    return int(text)


def parse_share(text: str) -> float:
    """Parse a share of the training videos. Raises UserError."""
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--label-budget: '{text}' is not a number. Give shares, for example 0.25,0.5,1") from None
