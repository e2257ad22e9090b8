"""Options that several commands share, and what `--set` means."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.FIELD=VALUE", help="Change a field of the recipe or (runtime.FIELD) of the runtime."
    ),
]
Data = Annotated[Path | None, typer.Option("--data", metavar="MANIFEST", help="A manifest that `prepare` wrote.")]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Run the code that a run or recipe names for its model. Only for those you trust."
    ),
]
MaxPixels = Annotated[int, typer.Option(help="Larger frames are not decoded (width times height).")]
MaxFrames = Annotated[int, typer.Option(help="Longer videos are not decoded.")]
MaxSeconds = Annotated[float, typer.Option(help="Decoding one file may take so long.")]
MaxMemory = Annotated[float, typer.Option("--max-memory-gib", help="Memory that decoding one file may take.")]


ShortSide = Annotated[
    int, typer.Option(min=0, metavar="PIXELS", help="Scale frames to this short side; 0: keep their size.")
]
Fps = Annotated[
    float | None, typer.Option(help="Keep so many frames a second (a video with fewer keeps all); none: every frame.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Threads; none: one a core.")]
Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        help="Start from public weights (imagenet, kinetics400, hub), a run folder, a file, or a URL; all must fit.",
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS", help="Start from as much of such weights as agrees; says what came and what did not."
    ),
]
Shorten = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", help="Shorten the schedule as a whole (epochs, warm-up, milestones, hours): 0.1, say."
    ),
]
NumFrames = Annotated[int | None, typer.Option(min=1, help="Frames of a clip; none: what suits the model.")]
Size = Annotated[int | None, typer.Option(min=1, help="Height and width, pixels; none: what suits the model.")]
TemporalPooling = Annotated[bool, typer.Option("--temporal-pooling", help="Halve time three times inside the network.")]


LIMITS: dict[str, Any] = {"pixels": 2**26, "frames": 2_000_000, "seconds": 1800.0, "memory_gib": 4.0}
"""Those of `muybridge.video.limits.Limits`, which a test holds equal: the command line starts without NumPy."""


def parsed_settings(settings: list[str] | None) -> tuple[dict[str, Any], Any]:
    """--set for the recipe, and the runtime with its own."""
    from muybridge.recipe import Runtime, parse_overrides

    changes = {n: value for n, value in parse_overrides(settings or []).items() if not n.startswith("runtime.")}
    return changes, runtime_with(settings, Runtime())


def runtime_with(settings: list[str] | None, base: Any) -> Any:
    """A runtime with --set runtime.FIELD put in."""
    from muybridge.recipe import parse_overrides, replace

    parsed = parse_overrides(settings or [])
    return replace(base, {n.removeprefix("runtime."): v for n, v in parsed.items() if n.startswith("runtime.")})


def model_options(settings: list[str] | None) -> tuple[dict[str, Any], Any]:
    """--set model.options.NAME for a model, and the runtime."""
    changes, runtime = parsed_settings(settings)
    prefix = "model.options."
    others = [name for name in changes if not name.startswith(prefix)]
    if others:
        raise UserError(f"'{others[0]}' cannot be set here; {prefix}NAME and runtime.FIELD can")
    return {name.removeprefix(prefix): value for name, value in changes.items()}, runtime


def limits_of(pixels: int, frames: int, seconds: float, memory_gib: float) -> Any:
    from muybridge.video.limits import Limits

    return Limits(pixels=pixels, frames=frames, seconds=seconds, memory_gib=memory_gib)


def typed(*names: str | None, allow_code: bool = False) -> None:
    """The user has named these models, recipes and studies where they stand: code among them may run, and is looked for
    there, too."""
    from muybridge.user_code import from_here, look_here

    for name in filter(None, names):
        if ".py:" in name:
            look_here()
        elif not name.endswith(".json") and not Path(name).is_dir():
            from_here(name)
    if allow_code:
        look_here()


def listed_in(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def number_in(text: str, option: str) -> int:
    if not text.isdigit():
        raise UserError(f"{option} takes numbers, not '{text}'")
    return int(text)
