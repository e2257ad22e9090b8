"""`features`: what a network computes of every frame or clip of a set, once, into a store that stands for a manifest.

Every frame is decoded once and goes through the network once. The network is one that was trained here, or one with public
weights. Heads are then trained on the store in seconds (docs/two-stages.md).
"""

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
import torch

from muybridge.data.manifest import Manifest
from muybridge.data.stores import layouts
from muybridge.data.stores import vectors as store
from muybridge.data.stores.common import check_shard, check_sources, resume_hint
from muybridge.data.stores.layouts import check_layout
from muybridge.errors import UserError, nearest
from muybridge.evaluation.drift import accuracy, change
from muybridge.evaluation.score import testing
from muybridge.evaluation.vectors import Work, source_of
from muybridge.recipe import Runtime
from muybridge.runtime import processors
from muybridge.runtime.cluster import map_shards
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import read_as, within, write_json
from muybridge.runtime.locks import locked
from muybridge.storage.run import Run
from muybridge.text import duration, gib, plural
from muybridge.user_code import Consent

DRY_ROWS = 3
"""Rows that a dry run computes, to tell how long all take."""


@dataclass(frozen=True)
class Extracted:
    """Result of `features`: a store, a part of one (`shard`), or an estimate (`dry_run`)."""

    path: Path
    finished: bool
    rows: int
    vectors: int
    width: int
    bytes: int
    frames: int
    """Frames that went through the network in this call."""
    seconds: float
    accuracy: dict[str, Any]
    """Accuracy of a frame (or clip) and of a video, by split, where the network has a classifier of these classes."""
    clip_frames: int
    """Frames of which a vector is computed."""
    checked: bool = False
    """Whether this call read a finished store again, and found it as it was written."""

    def pace(self) -> str:
        """The speed of this call, in words."""
        if not self.frames:
            return "checked: every vector is as it was written" if self.checked else "nothing was left to compute"
        return f"{self.frames / self.seconds:.0f} frames a second, {duration(self.seconds)}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def features(
    source: str | Path | Run,
    *,
    data: str | Path,
    out: str | Path,
    pretrained: str | Path | None = None,
    checkpoint: str | None = None,
    layer: str | None = None,
    tokens: bool = False,
    clip_frames: int | None = None,
    stride: int | None = None,
    dtype: str = "float32",
    shard: str | None = None,
    cluster: str | None = None,
    format: str | None = None,
    changes: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    jobs: int | None = None,
    allow_code: Consent = False,
    runtime: Runtime | None = None,
) -> Extracted:
    """Compute the vectors of every frame, or clip, of a manifest into the folder `out`, which stands for a manifest.

    `source`: a run, or the name of a model with `pretrained` weights that nobody trained here. `checkpoint`: of a run.
    `layer`: a module, or several separated by commas, whose outputs are stored in place of what the classifier takes;
    `tokens`: all that it puts out, not their mean. `clip_frames`: frames of a clip (1: single frames); `stride`: frames
    between the starts of two clips. `dtype`: "float32" or "float16". `shard`: "i/n", every n-th file, beginning with the
    i-th; the call that completes the store joins them. `cluster`: "ray" or
    "ray://HOST:PORT", whose machines share the files. `format`: "npy" or "hdf5", a layout in which the finished store is written
    once more (`muybridge.data.stores.layouts`). `changes`: fields of the recipe (`clip.size`). `jobs`: threads that
    decode. `dry_run`: estimate bytes and time, and write nothing.

    The same call resumes a stopped one, and checks a finished store and its videos. Raises UserError, DecodeError, Interrupted.
    """
    started = time.monotonic()
    source = source.path if isinstance(source, Run) else source
    out, runtime = Path(out), runtime or Runtime()
    if dtype not in ("float32", "float16"):
        raise UserError(f"--dtype: '{dtype}' is unknown. {nearest(dtype, ('float32', 'float16'))}")
    first, step = check_shard(shard)
    check_layout(format)
    manifest = Manifest.load(data)
    with ExitStack() as entered:
        weights = None if pretrained is None else str(pretrained)
        found = source_of(source, weights, checkpoint, changes or {}, allow_code, runtime)
        work = Work(found, manifest, data, layer, tokens, clip_frames, stride, dtype, runtime)
        entered.enter_context(testing(work.model))
        entered.enter_context(torch.inference_mode())
        about = work.about()
        stored = _stored(out, about)
        parts = work.parts()
        estimate = sum(part.length for part in parts) * work.vector_bytes
        if dry_run:
            frames, seconds = work.timed(DRY_ROWS)
            total = work.num_frames()
            return Extracted(
                out, False, len(manifest), sum(p.length for p in parts), work.width, estimate, total,
                seconds / frames * total, {}, work.spec.num_frames,
            )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        if cluster is not None:
            share = functools.partial(
                features, str(Path(source).resolve()) if Path(source).exists() else source, data=str(Path(data).resolve()),
                out=str(out.resolve()), pretrained=pretrained, checkpoint=checkpoint, layer=layer, tokens=tokens,
                clip_frames=clip_frames, stride=stride, dtype=dtype, changes=changes, allow_code=allow_code, runtime=runtime,
            )  # fmt: skip
            map_shards(cluster, out, share, most=len(parts), gpus=True)
            stored = _stored(out, about)
        with resume_hint(out, smaller="--dtype float16 or a larger --stride"):
            whole = all(store.is_written(out, part, work.kinds) for part in parts)
            is_checked = bool(stored.get("finished")) and whole and (out / "manifest.csv.json").exists()
            done = 0
            if is_checked:
                log(f"{out} is finished already; reading it again to check it")
                for part in parts:
                    store.check(out, part, manifest, work.kinds)
                check_sources(manifest, jobs=jobs or processors.left().jobs)
            else:
                _announce(out, parts, work, estimate)
                write_json(within(out, "features.json"), about)
                done = _write(out, work, parts[first::step], jobs or processors.left().jobs)
                stored = _join(out, work, parts, about)
            if format is not None and stored.get("finished"):
                log(f"--format {format}: {layouts.write(out, format)}")
    return Extracted(
        out, bool(stored.get("finished")), len(manifest), sum(p.length for p in parts), work.width, estimate, done,
        time.monotonic() - started, stored.get("accuracy", {}), work.spec.num_frames, is_checked,
    )  # fmt: skip


def _stored(out: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Content of features.json in `out`; empty without one. Raises UserError for a store of another network, set or version."""
    file = out / "features.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: it is a file. Name the folder to make by --out")
    if not file.exists():
        if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise UserError(f"{out}: it is not empty and holds no store of vectors. Choose another --out")
        return {}
    stored: dict[str, Any] = read_as(store.About, file)
    for name, what in (("source_sha256", "another set"), ("network", _difference(stored, about))):
        if stored[name] != about[name]:
            raise UserError(
                f"{out}: it is a store of {what}: {name} {stored[name]}, not {about[name]}. Choose another --out, or "
                "delete it"
            )
    return stored


def _difference(stored: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Words for what distinguishes the network of a store, or its options, from those of this call."""
    if stored["source"] != about["source"]:
        return f"another network ({stored['source']}, not {about['source']})"
    options = [
        f"{name} {stored['options'].get(name)}, not {value}"
        for name, value in about["options"].items()
        if stored["options"].get(name) != value
    ]
    return f"other options ({'; '.join(options)})" if options else "other weights or other classes"


def _announce(out: Path, parts: Sequence[store.Part], work: "Work", num_bytes: int) -> None:
    missing = [part for part in parts if not store.is_written(out, part, work.kinds)]
    needed_bytes = sum(part.length for part in missing) * work.vector_bytes - store.begun_bytes(out, missing)
    free_bytes = disk_usage(out).free
    before = f" ({len(parts) - len(missing)} of them by an earlier call)" if len(missing) < len(parts) else ""
    log(
        f"{plural(len(work.manifest), 'video')}, {sum(p.length for p in parts)} vectors of {work.width}: {gib(num_bytes)} in "
        f"{plural(len(parts), 'file')}{before}; {gib(free_bytes)} are free"
    )
    if needed_bytes > free_bytes:
        raise UserError(
            f"{out}: {gib(free_bytes)} are free there, and {gib(needed_bytes)} are needed. Use --dtype float16, or a larger "
            "--stride"
        )


def _write(out: Path, work: "Work", parts: Sequence[store.Part], jobs: int) -> int:
    """Compute what is missing of these files; returns the number of frames that went through the network."""
    frames = 0
    widths = dict(zip(work.kinds, (work.width, len(work.classes or ())), strict=False))
    with progress("features", sum(len(part.counts) for part in parts)) as bar:
        for part in parts:
            if store.is_written(out, part, work.kinds):
                bar.advance(len(part.counts))
                continue
            with locked(out, "computes vectors", name=f".{part.name}.lock", keep=False):
                if store.is_written(out, part, work.kinds):  # another call was faster
                    bar.advance(len(part.counts))
                    continue
                with store.PartWriter(out, part, widths=widths, dtype=work.dtype) as writer:
                    bar.advance(writer.rows_done)
                    rows = range(part.first_row + writer.rows_done, part.first_row + len(part.counts))
                    begun = time.monotonic()
                    for computed in work.compute(rows, jobs):
                        writer.add(**computed.arrays)
                        frames += computed.frames
                        bar.advance()
                        bar.describe(f"features  {frames / max(1e-9, time.monotonic() - begun):.0f} frames/s")
                    writer.close()
    return frames


def _join(out: Path, work: "Work", parts: Sequence[store.Part], about: dict[str, Any]) -> dict[str, Any]:
    """Finish the store where all of its files are there; else say how many are."""
    written = sum(store.is_written(out, part, work.kinds) for part in parts)
    if written < len(parts):
        log(f"{written} of {len(parts)} files are written; the call that writes the last one joins them")
        return about
    with locked(out, "finishes the store", wait_seconds=600):
        done: dict[str, Any] = read_as(store.About, out / "features.json")
        if done.get("finished") and (out / "manifest.csv.json").exists():
            return done
        store.save_trained_on(out, work.trained_on.tolist())
        manifest = store.finish(out, work.manifest, about, parts, fps_N=work.fps())
        for fold in manifest.folds or (None,):
            if len(manifest.split("train", fold)):
                store.statistics(manifest, fold)
        measured: dict[str, Any] = {"change": change(manifest, store.each_row(out, parts))}
        if work.classes == manifest.classes:
            seen_N = np.isin(manifest.text("sha256"), work.trained_on)
            measured["accuracy"] = accuracy(manifest, store.each_row(out, parts, "scores"), seen_N)
        finished = {**about, **measured, "finished": True}
        write_json(within(out, "features.json"), finished)
    return finished
