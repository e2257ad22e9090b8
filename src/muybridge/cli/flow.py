"""The command that computes optical flow of a set: `flow`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muybridge.cli.options import DataCluster, Fps, Jobs, Json
from muybridge.cli.output import answer, answering, say
from muybridge.errors import UserError
from muybridge.text import plural


def flow(
    manifest: Annotated[
        Path | None, typer.Argument(metavar="[MANIFEST]", help="Manifest that `prepare` wrote, or a pack.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Folder to write; it is used like a manifest.")
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option(
            metavar="VIDEO", help="Instead: draw frames of this video with their flow into --out, a .jpg file."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="dis: fast; tvl1: the papers', about 50 times as slow; farneback; raft: a network, on a GPU."
        ),
    ] = "dis",
    bound: Annotated[float, typer.Option(help="Longest motion that is stored, in pixels along x and along y.")] = 20.0,
    codec: Annotated[str, typer.Option(help="jpeg; h264: the smallest; png: without loss.")] = "jpeg",
    quality: Annotated[
        int | None, typer.Option(help="JPEG quality (1 to 100, usually 95) or H.264 CRF (0 to 51, usually 18).")
    ] = None,
    short_side: Annotated[
        int, typer.Option(min=0, metavar="PIXELS", help="Scale larger frames to this short side; 0: keep their size.")
    ] = 256,
    frame_distance: Annotated[int, typer.Option(help="Frames from a field's first frame to its second.")] = 1,
    fps: Fps = None,
    warped: Annotated[bool, typer.Option("--warped", help="Take the camera's motion out.")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Compute every N-th file only, for N calls at once.")
    ] = None,
    cluster: DataCluster = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate size and time by a few videos; write nothing.")
    ] = False,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Compute the optical flow of a set once, and store it; networks then train on motion (clip.modality=flow).

    Repeat the command to resume a stopped one; a finished store is verified.
    """
    with answering(as_json):
        import muybridge

        if show is not None:
            if manifest is not None:
                raise UserError("--show: it draws one video, and a manifest is named, too. Leave one of the two out")
            picture = muybridge.flow_picture(
                show, out=out or Path(f"{show.stem}-flow.jpg"), method=method, short_side=short_side or None,
                frame_distance=frame_distance, warped=warped,
            )  # fmt: skip
            answer(as_json, lambda: {"path": str(picture)}, lambda: say(str(picture)))
            return
        if manifest is None or out is None:
            raise UserError("MANIFEST, --out: one of them is missing. Give both, or --show VIDEO for a picture")
        computed = muybridge.flow(
            manifest, out=out, method=method, bound=bound, codec=codec, quality=quality, short_side=short_side or None,
            frame_distance=frame_distance, fps=fps, warped=warped, shard=shard, cluster=cluster, dry_run=dry_run, jobs=jobs,
        )  # fmt: skip
        answer(as_json, computed.as_json, lambda: _print_computed(computed, dry_run))


def _print_computed(computed: Any, dry_run: bool) -> None:
    from muybridge.text import duration, gib

    counts = f"{plural(computed.rows, 'clip')}, {plural(computed.fields, 'field')} of motion"
    if dry_run:
        speed = computed.fields / computed.seconds
        say(f"{counts}: about {gib(computed.bytes)}, {duration(computed.seconds)} ({speed:.1f} frames a second)")
        return
    if not computed.finished:
        say(f"{counts}; {computed.pace()}; other files are still to be computed: {computed.path}")
        return
    say(f"{counts}, {gib(computed.bytes)}; {computed.pace()}: {computed.path}")
    error = computed.error_pixels
    say(
        f"{computed.clipped:.2%} of the vectors are beyond {computed.bound:g} pixels and were cut; read back they are off by "
        f"{error['mean']:.2f} pixels, at the most {error['most']:.2f} (means of fields)"
    )
    say(f"train with --data {computed.path}, for example --model tsn_resnet18")
