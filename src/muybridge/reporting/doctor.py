"""The doctor's page: one HTML file with pictures that opens from disk, and beside it the lists that its commands name."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from muybridge.analysis.doctor.checkup import Checkup
from muybridge.data.doctor.finding import RANKS, Example, Finding
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.reporting.disagreements import FRAMES, HEIGHT
from muybridge.reporting.report import check_page, page_of
from muybridge.reporting.sections.parts import Picture, Section, Table
from muybridge.runtime.files import csv_text, within, write_atomic
from muybridge.text import plural
from muybridge.video import DecodeError, FileReader
from muybridge.video.strips import PAPER, heated, jpeg_bytes, strip

ROWS = 20
"""Rows of a list on the page; its file has all."""
TITLES = {
    "copies-across-splits": "Copies in another split", "copies-with-another-label": "Copies with another label",
    "copies-within-a-split": "Copies within a split", "files-across-splits": "Files with parts in several splits",
    "pairs-left-out": "Pairs that were not compared", "no-test": "No test", "no-val": "No validation split",
    "uneven-classes": "Uneven classes", "mixed-rates": "Mixed frame rates", "shorter-than-a-clip": "Shorter than a clip",
    "long-videos": "Long videos", "header-frames": "Headers that miscount", "unreadable": "Not to be read", "black": "Black",
    "frozen": "Frozen", "mostly-static": "Mostly static", "metadata-tells-the-class": "What files tell of the class",
    "still-tells-the-class": "What a still tells of the class", "suspicious-labels": "Suspicious labels",
    "absent-from-train": "Classes without training", "absent-from-val": "Classes without validation",
    "absent-from-test": "Classes without a test", "a-mark": "A mark in the picture",
    "a-size-of-its-own": "Sizes of their own", "a-rate-of-its-own": "Rates of their own",
}  # fmt: skip
"""Titles of the sections, by the check."""
HEADER = b"id,path,label"
"""Beginning of a list."""


def check_free(page: Path) -> None:
    """Refuse a page that cannot be written, or that would overwrite a file which is not ours. Raises UserError."""
    check_page(page, "doctor")
    for check in TITLES:
        file = page.with_suffix(".files") / f"{check}.csv"
        if file.is_file() and not file.read_bytes().startswith(HEADER):
            raise UserError(f"{file}: it is there already, and is not a list of muybridge's. Choose another --out")


def files_of(page: Path) -> Path:
    """Folder of the files beside a page, which is made."""
    page.parent.mkdir(parents=True, exist_ok=True)
    folder = within(page.parent, page.with_suffix(".files").name)
    folder.mkdir(exist_ok=True)
    return folder


def write(checkup: Checkup, page: Path) -> Checkup:
    """Write the page and its lists; the checkup knows then where they are. Raises UserError."""
    check_free(page)
    folder = files_of(page)
    listed = {finding.check: finding for finding in checkup.findings if finding.listed}
    for check in TITLES.keys() | listed.keys():
        file = within(folder, f"{check}.csv")
        lines = [
            *_left_out(file, checkup.manifest),
            *(_lines(checkup.manifest, listed[check]) if check in listed else []),
        ]
        if lines:
            write_atomic(file, csv_text([("id", "path", "label", *checkup.manifest.split_columns), *lines]))
        else:
            file.unlink(missing_ok=True)
    checkup = replace(checkup, page=page, lists={check: folder / f"{check}.csv" for check in listed})
    sections = [_summary(checkup), *(_section(checkup, finding) for finding in checkup.findings)]
    title = f"Checkup of {checkup.path.name}: {plural(len(checkup.manifest), 'video')}"
    write_atomic(within(page.parent, page.name), page_of(sections, title, folder.name, "doctor"))
    return checkup


def title_of(finding: Finding) -> str:
    """Title of a finding's section."""
    return TITLES.get(finding.check) or finding.check.replace("-", " ").capitalize()


def _lines(manifest: Manifest, finding: Finding) -> list[tuple[str, ...]]:
    """A finding's videos, with ids and paths as the manifest has them, as `prepare --exclude` reads them."""
    rows = np.array(finding.listed)
    columns = [manifest.text(name, rows).tolist() for name in ("id", "path", "label", *manifest.split_columns)]
    return list(zip(*columns, strict=True))


def _left_out(file: Path, manifest: Manifest) -> list[tuple[str, ...]]:
    """Lines of an earlier list whose videos the manifest lacks: whoever left them out needs them in the list again."""
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            earlier = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error):  # edited, and not a list any more
        return []
    known = set(manifest.text("id").tolist())
    blank = [""] * len(manifest.split_columns)
    return [
        (line["id"], line.get("path") or line["id"], line.get("label") or "", *blank)
        for line in earlier
        if line.get("id") and line["id"] not in known
    ]


def _summary(checkup: Checkup) -> Section:
    rows = [
        [finding.rank, title_of(finding), str(len(finding.listed) or "–"), checkup.command(finding) or "–"]
        for finding in checkup.findings
    ]
    counts = {rank: sum(finding.rank == rank for finding in checkup.findings) for rank in RANKS}
    said = ", ".join(plural(count, rank) for rank, count in counts.items() if count) or "nothing found"
    ranks = "; ".join(f"{rank}: {meaning}" for rank, meaning in RANKS.items())
    return Section(
        title="Summary",
        text=(f"{checkup.path}: {said}. The worst comes first.",),
        tables=(Table(["rank", "finding", "videos", "command"], rows, kind="words", name="summary"),) if rows else (),
        caption=f"{ranks}. In a command, … stands for the options that made the manifest or the run. The manifest's sha256 "
        f"is {checkup.manifest.sha256()}.",
    )


def _section(checkup: Checkup, finding: Finding) -> Section:
    """A finding with its command, its pictures and the first of its list."""
    manifest, command = checkup.manifest, checkup.command(finding)
    rows = np.array(finding.listed, dtype=np.int64)
    splits = [manifest.text(name, rows) for name in manifest.split_columns]
    cells = [
        [name, label, "/".join(dict.fromkeys(of_row))]
        for name, label, of_row in zip(
            manifest.text("id", rows).tolist(),
            manifest.text("label", rows).tolist(),
            zip(*splits, strict=True),
            strict=True,
        )
    ]
    pictures, unread = [], 0
    for number, example in enumerate(finding.examples):
        picture = _picture(manifest, example, f"{finding.check}-{number}")
        if picture is None:
            unread += 1
        else:
            pictures.append(picture)
    return Section(
        title=title_of(finding),
        text=(
            finding.text,
            *([f"All are listed in {checkup.lists[finding.check]}."] if finding.check in checkup.lists else []),
            *([f"Not shown, as not readable: {plural(unread, 'example')}."] if unread else []),
        ),
        code=(command,) if command else (),
        tables=(Table(["video", "label", "split"], cells, kind="words", name=finding.check, most=ROWS),)
        if cells
        else (),
        pictures=tuple(pictures),
        kind="warning" if finding.rank in ("leak", "fault") else "plain",
    )


def _picture(manifest: Manifest, example: Example, name: str) -> Picture | None:
    """Strips of an example's videos, one below the other; None where none can be read."""
    strips, counts = [], set()
    for row in map(manifest.row, example.rows):
        indices = np.round(np.linspace(0, row.num_frames - 1, min(FRAMES, row.num_frames))).astype(np.int64)
        try:
            frames = FileReader(short_side=HEIGHT).read(row, indices)
        except (DecodeError, OSError):
            continue
        if example.where is not None:
            frames = heated(frames, np.repeat(example.where[None], len(frames), axis=0))
        strips.append(strip(frames, height=HEIGHT, most=FRAMES))
        counts.add((len(frames), strips[-1].shape[1]))
    if not strips:
        return None
    width = max(one.shape[1] for one in strips)
    padded = [np.pad(one, ((0, 4), (0, width - one.shape[1]), (0, 0)), constant_values=PAPER) for one in strips]
    jpeg = jpeg_bytes(np.concatenate(padded)[:-4], quality=75)
    return Picture(name, example.caption, jpeg, min(counts)[0] if len(counts) == 1 else 0)
