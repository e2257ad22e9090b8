"""`muybridge.show`: frames of some videos of every class, as strips that a notebook or a page shows."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.data.overview import EVERY
from muybridge.data.random import generator
from muybridge.errors import UserError, nearest
from muybridge.reporting.disagreements import Frames
from muybridge.reporting.report import check_page, page_of
from muybridge.reporting.sections.parts import Picture, Section
from muybridge.runtime.files import within, write_atomic
from muybridge.runtime.shown import MOST_ROWS, Shown, escaped, heading
from muybridge.text import plural


@dataclass(frozen=True)
class ShownClip:
    """A video as its frames, or the reason why it has none."""

    id: str
    label: str
    seconds: float
    jpeg: bytes = field(repr=False)
    """Strip of its frames; empty where it cannot be read."""
    frames: int = 0
    """Frames side by side, of one width; 0 where rows of the strip differ."""
    problem: str = ""
    """Reason why it cannot be read; empty for one that can."""


@dataclass(frozen=True)
class ShownClips(Shown):
    """Videos of a set as strips of frames, by class: a notebook shows them, `save` writes them as a page."""

    title: str
    clips: tuple[ShownClip, ...]

    @property
    def unread(self) -> tuple[ShownClip, ...]:
        """Videos that cannot be read."""
        return tuple(clip for clip in self.clips if clip.problem)

    def as_rows(self) -> list[dict[str, Any]]:
        """Rows of the videos: id, label, seconds, and the reason where one cannot be read."""
        return [
            {"id": clip.id, "label": clip.label, "seconds": clip.seconds, "problem": clip.problem or None}
            for clip in self.clips
        ]

    def as_json(self) -> dict[str, Any]:
        """Content as `muybridge show --json` prints it, without the pictures."""
        return {"title": self.title, "clips": self.as_rows()}

    def save(self, page: str | Path) -> Path:
        """Write one HTML page that opens offline, over an older one of ours only. Returns its path. Raises UserError."""
        page = Path(page)
        check_page(page, "clips")
        page.parent.mkdir(parents=True, exist_ok=True)
        sections = [
            Section(
                title=label,
                text=tuple(f"Not to be read: {clip.id}: {clip.problem}" for clip in clips if clip.problem),
                pictures=tuple(
                    Picture(clip.id, f"{clip.id}, {clip.seconds:.1f} s", clip.jpeg, clip.frames)
                    for clip in clips
                    if clip.jpeg
                ),
            )
            for label, clips in self._by_label()
        ]
        write_atomic(
            within(page.parent, page.name), page_of(sections, self.title, page.with_suffix(".files").name, "clips")
        )
        return page

    def __str__(self) -> str:
        lines = [self.title]
        for label, clips in self._by_label():
            lines.append(f"{label}: {', '.join(clip.id for clip in clips if not clip.problem) or 'none can be read'}")
        return "\n".join(lines + [f"not to be read: {clip.id}: {clip.problem}" for clip in self.unread])

    def _by_label(self) -> Iterator[tuple[str, list[ShownClip]]]:
        for label in dict.fromkeys(clip.label for clip in self.clips):
            yield label, [clip for clip in self.clips if clip.label == label]

    def _repr_html_(self) -> str:
        parts = [heading(self.title)]
        for clip in self.clips[:MOST_ROWS]:
            name = f"<b>{escaped(clip.label)}</b> {escaped(clip.id)}"
            if clip.jpeg:
                address = base64.b64encode(clip.jpeg).decode()
                what = escaped(f"frames of {clip.id}, {clip.label}")
                picture = f'<img style="max-width:100%" alt="{what}" src="data:image/jpeg;base64,{address}">'
            else:
                picture = f"cannot be read: {escaped(clip.problem)}"
            parts.append(f"<p>{name}<br>{picture}</p>")
        if len(self.clips) > MOST_ROWS:
            parts.append(f"<p>and {len(self.clips) - MOST_ROWS} more</p>")
        return "".join(parts)


def show(
    data: str | Path,
    *,
    split: str = "train",
    fold: int | None = None,
    labels: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    videos: int = 1,
    frames: int = 8,
    height: int = 96,
    seed: int = 0,
    out: str | Path | None = None,
) -> ShownClips:
    """Show frames of some videos of every class as strips: in a notebook, or as a page (`out`).

    `data`: a manifest, a pack or a store of flow; of stored vectors, their videos are shown. `split`: train, val, test,
    unused, or all; `fold`: of a set with folds. `labels`: these classes alone. `ids`: these videos, in this order,
    whatever their split and class. `videos`: how many of a class, drawn by `seed`. `frames` of each, evenly from the first to
    the last, are `height` pixels high. A video that cannot be read is named. Raises UserError.
    """
    for option, value, most in (("--videos", videos, 1000), ("--frames", frames, 64), ("--height", height, 1080)):
        if not 1 <= value <= most:
            raise UserError(f"{option} {value}: out of range. Give 1 to {most}")
    if out is not None:
        check_page(Path(out), "clips")
    manifest = Manifest.load(data)
    rows = _drawn(manifest, split, fold, labels, videos, seed) if ids is None else _named(manifest, ids, labels)
    reader = Frames([str(data)], frames=frames, height=height)
    shown = tuple(_shown(manifest, row, reader) for row in rows)
    if all(clip.problem for clip in shown):
        raise UserError(
            f"{data}: no video can be shown ({shown[0].id}: {shown[0].problem}). Check the files: muybridge verify"
        )
    found = ShownClips(f"{plural(len(shown), 'video')} of {Path(data).name}", shown)
    if out is not None:
        found.save(out)
    return found


def _named(manifest: Manifest, ids: Sequence[str], labels: Sequence[str] | None) -> list[int]:
    """Rows of videos by their ids."""
    if labels is not None:
        raise UserError("labels: ids name the videos already. Give one of the two")
    known = {name: row for row, name in enumerate(manifest.text("id").tolist())}
    if not ids:
        raise UserError("ids: none is given, so there is nothing to show. Name videos, or leave it out")
    for name in ids:
        if name not in known:
            raise UserError(f"ids: the set has no video '{name}'. {nearest(name, known)}")
    return [known[name] for name in ids]


def _drawn(
    manifest: Manifest, split: str, fold: int | None, labels: Sequence[str] | None, videos: int, seed: int
) -> list[int]:
    """Rows of some videos of every class, class by class; more of them begin with the same."""
    splits = ("train", "val", "test", "unused", EVERY)
    if split not in splits:
        raise UserError(f"--split: '{split}' is unknown. Choose from {', '.join(splits)}")
    for label in labels or ():
        if label not in manifest.classes:
            raise UserError(f"labels: '{label}' is not a class of the set. {nearest(label, manifest.classes)}")
    rows = np.arange(len(manifest)) if split == EVERY else manifest.split(split, fold)
    names = manifest.text("id", rows)
    rows, of_rows = rows[np.argsort(names)], manifest.labels()[rows][np.argsort(names)]
    drawn: list[int] = []
    for label in manifest.classes if labels is None else dict.fromkeys(labels):
        of_class = rows[of_rows == manifest.classes.index(label)]
        drawn += generator(seed, "show", label).permutation(of_class)[:videos].tolist()
    if not drawn:
        raise UserError(f"--split {split}: it has no video of these classes. Choose another split, or all")
    return drawn


def _shown(manifest: Manifest, index: int, reader: Frames) -> ShownClip:
    row = manifest.row(index)
    label, seconds = manifest.columns["label"][index].decode(), round(row.num_frames / row.fps, 3)
    strip = reader.strip(row.id)
    if strip is None:
        return ShownClip(row.id, label, seconds, b"", problem=reader.problem)
    return ShownClip(row.id, label, seconds, strip.jpeg, strip.frames)
