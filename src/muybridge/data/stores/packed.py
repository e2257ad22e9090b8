"""Finish and verify a folder whose frames lie in files of a pack: what `pack` and `flow` have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muybridge.data.manifest import Manifest, from_columns
from muybridge.errors import UserError
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import sync_folder, within
from muybridge.video import packs


def close(writer: packs.Writer) -> Path:
    """Finish a file and check it by reading it again. Raises DecodeError."""
    writer.close()
    sync_folder(writer.path.parent)
    packs.check(writer.path)
    return writer.path


def placed(
    out: Path, source: Manifest, *, made_by: str = ""
) -> tuple[Manifest, list[dict[str, Any]], list[dict[str, Any]]]:
    """Manifest of the source's rows where they lie in the files; entries of the files, and of their videos."""
    columns = source.plain_columns()
    index_of = {name: index for index, name in enumerate(columns["id"])}
    files, videos = [], []
    for path in sorted(out.glob(f"frames-*{packs.SUFFIX}")):
        described = packs.about(path)
        for video in described["videos"]:
            for row in video["rows"]:
                changed = {
                    **row, "path": path.name, "start_frame": video["first_frame"] + row["start_frame"],
                    "width": video["width"], "height": video["height"], "seekable": 0,
                }  # fmt: skip
                for name, value in changed.items():
                    columns[name][index_of[row["id"]]] = value
        videos += described["videos"]
        num_frames = sum(video["num_frames"] for video in described["videos"])
        files.append({
            "name": path.name, "bytes": path.stat().st_size, "frames": num_frames, "sha256": described["sha256"],
        })  # fmt: skip
    manifest = from_columns(
        columns, classes=source.classes, root=out, mirror=source.mirror, reversed_pairs=source.reversed_pairs,
        made_by=made_by, official_splits=source.official_splits, where=str(out),
    )  # fmt: skip
    return manifest, files, videos


def check_bytes(out: Path, names: Sequence[str]) -> None:
    """Read every byte of the files again. Raises DecodeError."""
    with progress("checking", len(names)) as bar:
        for name in names:
            packs.check(within(out, name))
            bar.advance()


def check_manifest(out: Path, manifest: Manifest) -> None:
    """Compare the written manifest with where the rows lie; a missing one is written again.

    Raises UserError for rows that lie elsewhere (labels and splits may have been edited).
    """
    if not (out / "manifest.csv").exists() or not (out / "manifest.csv.json").exists():
        log(f"{out / 'manifest.csv'} was missing and is written again")
        manifest.save(within(out, "manifest.csv"))
    written = Manifest.load(out / "manifest.csv")
    index_of = {name: index for index, name in enumerate(manifest.columns["id"].tolist())}
    for column in ("path", "start_frame", "num_frames", "width", "height"):
        for name, value in zip(written.columns["id"].tolist(), written.columns[column].tolist(), strict=True):
            if name not in index_of or manifest.columns[column][index_of[name]] != value:
                raise UserError(
                    f"{out / 'manifest.csv'}: {column} of '{name.decode()}' is not what the pack's files say. Delete it and "
                    "rerun the same command to write it again"
                )
