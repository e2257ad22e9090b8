"""Commands about models and recipes: `models`, `recipes`, `measure`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import (
    AllowCode,
    Json,
    NumFrames,
    Settings,
    Size,
    TemporalPooling,
    allow_named,
    model_options,
)
from muybridge.cli.output import answer, answering, say, table
from muybridge.text import plural


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Model to show layer by layer; none: list all models.")
    ] = None,
    num_classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 10,
    num_frames: NumFrames = None,
    size: Size = None,
    temporal_pooling: TemporalPooling = False,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.svg", help="Draw the model's structure, and where it looks along time, as a new SVG."
        ),
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """List all models with their smallest usual input and public weights, or show one model layer by layer for one clip.

    Heads over image networks have a line a head: its name, and NETWORK for that of any of the networks below the table.

    --set model.options.NAME=VALUE sets an option of the model.
    """
    with answering(as_json):
        import muybridge

        allow_named(name)
        options, _ = model_options(settings)
        value = muybridge.models(
            name, num_classes=num_classes, num_frames=num_frames, size=size, temporal_pooling=temporal_pooling,
            draw=draw, options=options,
        )  # fmt: skip
        answer(as_json, lambda: value, lambda: _print_models(value["models"]) if name is None else _print_layers(value))


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Recipe to show in full, as `train` takes it; none: list the shipped ones."
        ),
    ] = None,
    fields: Annotated[
        bool, typer.Option("--fields", help="Show every field (--set SECTION.FIELD=VALUE) with its value and meaning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List all shipped recipes with their sources and published results, or show one recipe."""
    with answering(as_json):
        import muybridge

        value = muybridge.recipes(name, fields=fields)

        def show() -> None:
            if fields:
                _print_fields(value["fields"])
            elif name is None:
                _print_recipes(value["recipes"])
            else:
                _print_recipe(value)

        answer(as_json, lambda: value, show)


def measure(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME|RUN|STUDY", help="Models as `train` takes them, or folders of runs or studies."),
    ],
    num_classes: Annotated[int | None, typer.Option(min=1, help="Number of classes; none: 10.")] = None,
    num_frames: NumFrames = None,
    size: Size = None,
    temporal_pooling: TemporalPooling = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Clips per batch; none: 8.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16, or auto (bf16 where the hardware supports it); none: auto.")
    ] = None,
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Count parameters and multiply-adds only.")] = False,
    largest: Annotated[
        bool | None,
        typer.Option(
            "--largest/--no-largest",
            help="Search for the largest batch, the slowest part; none: for models, not for runs.",
        ),
    ] = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Measure the cost of models: parameters, multiply-adds per clip, clips per second, memory, largest batch.

    --json prints one object, or a list for several models. --set model.options.NAME=VALUE sets an option of the model,
    --set runtime.threads=N the number of threads.

    A run is measured as its recipe trains it, and the result kept in its speed.json. For a study, one finished run per
    setting is measured. Peak memory is that of training: of tensors on CUDA; on a CPU, of the process, less its memory
    before the model is built.
    """
    with answering(as_json):
        import muybridge
        from muybridge.api import is_folder
        from muybridge.recipe import replace

        options, runtime = model_options(settings)
        allow_named(*(name for name in names if not is_folder(name)))
        rows = muybridge.measure(
            names, num_classes=num_classes, num_frames=num_frames, size=size, temporal_pooling=temporal_pooling,
            batch_size=batch_size, precision=precision, options=options, speed=not no_speed, largest=largest,
            allow_code=allow_code, runtime=replace(runtime, {"device": device}),
        )  # fmt: skip
        answer(as_json, lambda: rows if len(rows) > 1 else rows[0], lambda: _print_measured(rows))


def _print_models(rows: list[dict[str, Any]]) -> None:
    heads = [row["name"] for row in rows if row["family"] == "heads"]
    groups: dict[str, list[dict[str, Any]]] = {}  # a head's networks together, every other model alone
    for row in rows:
        groups.setdefault(f"{row['family']}_NETWORK" if row["family"] in heads else row["name"], []).append(row)
    lines = []
    for name, group in groups.items():
        row, millions = group[0], sorted(each["params"] / 1e6 for each in group)
        sizes = sorted({each["size"] for each in group if each["size"]})
        params = f"{millions[0]:.2f} M" if len(group) == 1 else f"{millions[0]:.2f}-{millions[-1]:.2f} M"
        lines.append([
            name, row["family"], _input(row["num_frames"], "-".join(map(str, sizes))), params,
            ", ".join(sorted({kind for each in group for kind in each["weights"]})) or "–", row["paper"],
        ])  # fmt: skip
    table(["model", "family", "input", "parameters", "weights", "paper"], lines, numeric=(3,))
    if heads:
        networks = [r["name"].removeprefix(f"{heads[0]}_") for r in rows if r["family"] == heads[0]]
        widths = ", ".join(f"{each:,}" for each in sorted({r["in_channels"] for r in rows if not r["size"]}))
        say(f"NETWORK: {', '.join(networks)}. Heads alone take stored vectors, here of {widths} values")


def _input(num_frames: int, size: str) -> str:
    return f"{num_frames}x{size}" if size else f"{num_frames} vectors"


def _print_recipes(rows: list[dict[str, Any]]) -> None:
    names: dict[tuple[str, str, str], list[str]] = {}  # one function may make several recipes
    for about in rows:
        names.setdefault((about["summary"], about["source"], about["published"]), []).append(about["name"])
    lines = [["\n".join(same), *texts] for texts, same in names.items()]
    table(["recipe", "what it trains", "source", "published"], lines)


def _print_recipe(value: dict[str, Any]) -> None:
    from muybridge.recipe import Recipe, diff, flat, validated

    if "summary" in value:
        say(f"{value['name']}: {value['summary']}\nSource: {value['source']}\nPublished: {value['published']}")
    recipe = validated(Recipe, value["recipe"])
    changed = diff(Recipe(), recipe)
    lines = [[name, json.dumps(value), "" if name in changed else "default"] for name, value in flat(recipe).items()]
    table(["field", "value", ""], lines)


def _print_fields(fields: dict[str, dict[str, Any]]) -> None:
    table(["field", "value", "meaning"], [[name, json.dumps(f["value"]), f["meaning"]] for name, f in fields.items()])


def _print_layers(value: dict[str, Any]) -> None:
    lines = [
        [
            layer["name"] or "(the model)",
            layer["kind"],
            "x".join(map(str, layer["shape"])),
            f"{layer['params']:,}",
            f"{layer['macs']:,}",
        ]
        for layer in value["layers"]
    ]
    lines.append(["", "", "", f"{value['params']:,}", f"{value['macs']:,}"])
    table(["layer", "kind", "output", "parameters", "MACs"], lines, numeric=(3, 4))
    shown = (
        f"one clip of {value['num_frames']}x{value['size']}x{value['size']}" if value["size"]
        else f"one video of {value['num_frames']} vectors of {value['in_channels']:,} values"
    )  # fmt: skip
    say(
        f"{value['model']}: {shown}, {value['num_classes']} classes; convolutions take {value['conv_macs']:,} of the "
        f"multiply-adds; public weights: {', '.join(value['weights']) or 'none'}"
    )
    if "drawing" in value:
        say(f"Drawn: {value['drawing']}")


def _print_measured(rows: list[dict[str, Any]]) -> None:
    def number(value: float | None, unit: float = 1.0, digits: int = 1) -> str:
        return "-" if value is None else f"{value / unit:.{digits}f}"

    lines = [
        [
            r.get("run", r["model"]), _input(r["num_frames"], str(r["size"] or "")), number(r["params"], 1e6, 2) + " M",
            number(r["conv_macs"], 1e9, 2) + " G", number(r["macs"], 1e9, 2) + " G",
        ]
        for r in rows
    ]  # fmt: skip
    table(["model", "input", "parameters", "conv MACs", "MACs"], lines, numeric=(2, 3, 4))
    timed = [r for r in rows if "device" in r]
    if not timed:
        return
    lines = [
        [
            r.get("run", r["model"]), str(r["batch_size"]), number(r["forward_clips_per_s"]),
            number(r["train_clips_per_s"]), number(r["peak_memory_bytes"], 2**20, 0) + " MiB",
            number(r["max_batch_size"], digits=0),
            number(r["max_batch_forward_clips_per_s"]), number(r["max_batch_train_clips_per_s"]),
        ]
        for r in timed
    ]  # fmt: skip
    header = [
        "model",
        "batch",
        "forward clips/s",
        "training clips/s",
        "peak memory",
        "largest batch",
        "forward",
        "training",
    ]
    table(header, lines, numeric=tuple(range(1, len(header))))
    first = timed[0]
    say(f"{first['device']} ({first['device_name']}), {first['dtype']}, {plural(first['threads'], 'thread')}")
