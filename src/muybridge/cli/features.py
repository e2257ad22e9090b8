"""The command that stores vectors of a set: `features`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import AllowCode, DataCluster, Jobs, Json, Settings, Shard, parsed_settings
from muybridge.cli.output import answer, answering, say, table
from muybridge.text import gib, plural


def features(
    source: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="A run, or a model whose public weights --pretrained names.")
    ],
    data: Annotated[Path, typer.Option("--data", metavar="MANIFEST", help="Manifest that `prepare` wrote, or a pack.")],
    out: Annotated[Path, typer.Option(metavar="STORE", help="Folder to write; it is used like a manifest.")],
    pretrained: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="Public weights of MODEL (imagenet, kinetics400, hub), a file or a URL."),
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Of a run: last or best; none: the recipe's.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Modules whose outputs to store; none: what the classifier takes."),
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Store every token (or place) of a layer, not their mean.")
    ] = False,
    clip_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames per clip; none: 1 for networks of single frames, else the recipe's clip."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="Frames from a clip to the next; none: every frame, or clips side by side."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, or float16 for half the bytes.")] = "float32",
    shard: Shard = None,
    cluster: DataCluster = None,
    format: Annotated[
        str | None,
        typer.Option(help="Also write it as npy (STORE/npy, a file a video) or hdf5 (STORE/hdf5, a dataset a video)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate size and time by a few videos; write nothing.")
    ] = False,
    jobs: Jobs = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Compute what a network says of every frame or clip, once, and store it; heads then train on it in seconds.

    Repeat the command to resume a stopped one; a finished store is verified.
    """
    with answering(as_json):
        import muybridge
        from muybridge.cli.options import allow_named

        changes, runtime = parsed_settings(settings)
        allow_named(*([] if Path(source).exists() else [source]), allow_code=allow_code)
        extracted = muybridge.features(
            source, data=data, out=out, pretrained=pretrained, checkpoint=checkpoint, layer=layer, tokens=tokens,
            clip_frames=clip_frames, stride=stride, dtype=dtype, shard=shard, cluster=cluster, format=format, changes=changes,
            dry_run=dry_run, jobs=jobs,
            allow_code=allow_code, runtime=runtime,
        )  # fmt: skip
        answer(as_json, extracted.as_json, lambda: _print_extracted(extracted, dry_run))


def _print_extracted(extracted: Any, dry_run: bool) -> None:
    from muybridge.text import duration

    size = f"{extracted.vectors} vectors of {extracted.width} numbers, {plural(extracted.rows, 'video')}, {gib(extracted.bytes)}"
    if dry_run:
        say(f"{size}: {extracted.frames} frames, about {duration(extracted.seconds)}")
        return
    for column, splits in extracted.accuracy.items():
        keys = [key for key in next(iter(splits.values())) if "_top" in key]
        of = "clip" if extracted.clip_frames > 1 else "frame"
        named = [key.replace("frame", of).replace("_top", " top-") for key in keys]
        lines = [
            [name, str(found["videos"]), str(found["trained_on"]), *(f"{found[key]:.3f}" for key in keys)]
            for name, found in splits.items()
        ]
        header = [column, "videos", "trained on", *named]
        table(header, lines, numeric=tuple(range(1, len(header))))
    say(f"{size}; {extracted.pace()}: {extracted.path}")
    if extracted.finished:
        say(f"train a head with --data {extracted.path}, for example --model lstm")
