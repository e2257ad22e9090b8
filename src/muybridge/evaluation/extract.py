"""`features`: what a network computes of every frame or clip of a set, once, into a store that stands for a manifest.

Every frame is decoded once and goes through the network once. The network is one that was trained here, or one with public
weights. Heads are then trained on the store in seconds (docs/two-stages.md).
"""

import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any, NamedTuple

import numpy as np
import torch

from muybridge import build
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec, sliding_indices
from muybridge.data.stores import layouts
from muybridge.data.stores import vectors as store
from muybridge.data.stores.common import check_unchanged, gib, resume_hint
from muybridge.data.stores.layouts import check_layout
from muybridge.data.stores.parallel import in_order
from muybridge.data.transforms import test_boxes
from muybridge.errors import Diverged, UserError, nearest
from muybridge.evaluation.drift import accuracy, change
from muybridge.evaluation.score import testing
from muybridge.evaluation.trained import of_run
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.recipe.fields import with_network
from muybridge.runtime.console import log, progress
from muybridge.runtime.device import Placement, to_device
from muybridge.runtime.files import read_as, within, write_json
from muybridge.runtime.locks import locked
from muybridge.storage.run import Run
from muybridge.text import duration, plural
from muybridge.user_code import Consent, allow, parsed
from muybridge.video import Reader, Row
from muybridge.zoo import VideoModel
from muybridge.zoo.count import natural_input
from muybridge.zoo.registry import entries

FRAMES_AT_ONCE = 64
"""Frames in one pass through the network."""
READ_FRAMES = 512
"""Frames of a video that are decoded at a time."""
OPEN_FIELDS = ("evaluation.size", "evaluation.crop_fraction", "clip.", "precision")
"""Beginnings of the fields of the recipe that may be changed."""
MOST_FRAMES = 2**16
"""Most frames of a clip, and of a stride."""
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


class _Source(NamedTuple):
    """A network that computes vectors, and how."""

    name: str
    model: VideoModel
    recipe: Recipe
    classes: tuple[str, ...] | None
    """Classes of its classifier, if that was trained."""
    trained_on: np.ndarray
    """Hashes of its training videos."""


def features(
    source: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    pretrained: str | None = None,
    checkpoint: str | None = None,
    layer: str | None = None,
    tokens: bool = False,
    clip_frames: int | None = None,
    stride: int | None = None,
    dtype: str = "float32",
    shard: str | None = None,
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
    i-th; the call that completes the store joins them. `format`: "npy" or "hdf5", a layout in which the finished store is
    written once more (`muybridge.data.stores.layouts`). `changes`: fields of the recipe (`clip.size`). `jobs`: threads that
    decode. `dry_run`: estimate bytes and time, and write nothing.

    The same call resumes a stopped one and checks a finished store. Raises UserError, DecodeError, Interrupted.
    """
    started = time.monotonic()
    out, runtime = Path(out), runtime or Runtime()
    if dtype not in ("float32", "float16"):
        raise UserError(f"--dtype: '{dtype}' is unknown. {nearest(dtype, ('float32', 'float16'))}")
    first, step = _shard(shard)
    check_layout(format)
    manifest = Manifest.load(data)
    with ExitStack() as entered:
        found = _source(source, pretrained, checkpoint, changes or {}, allow_code, runtime)
        work = _Work(found, manifest, data, layer, tokens, clip_frames, stride, dtype, runtime)
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
                seconds / frames * total, {},
            )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        with resume_hint(out, smaller="--dtype float16 or a larger --stride"):
            whole = all(store.is_written(out, part, work.kinds) for part in parts)
            is_checked = bool(stored.get("finished")) and whole and (out / "manifest.csv.json").exists()
            done = 0
            if is_checked:
                log(f"{out} is finished already; reading it again to check it")
                for part in parts:
                    store.check(out, part, manifest, work.kinds)
            else:
                _announce(out, parts, work, estimate)
                write_json(within(out, "features.json"), about)
                done = _write(out, work, parts[first::step], jobs or os.cpu_count() or 1)
                stored = _join(out, work, parts, about)
            if format is not None and stored.get("finished"):
                log(f"--format {format}: {layouts.write(out, format)}")
    return Extracted(
        out, bool(stored.get("finished")), len(manifest), sum(p.length for p in parts), work.width, estimate, done,
        time.monotonic() - started, stored.get("accuracy", {}), is_checked,
    )  # fmt: skip


def _shard(text: str | None) -> tuple[int, int]:
    """First file and step of `i/n`."""
    if text is None:
        return 0, 1
    number, slash, count = text.partition("/")
    are_numbers = all(re.fullmatch("[0-9]{1,6}", part) for part in (number, count))
    if not (slash and are_numbers and 1 <= int(number) <= int(count)):
        raise UserError(f"--shard: '{text}' is not i/n. For the second of four calls: --shard 2/4")
    return int(number) - 1, int(count)


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
    for name, what in (("source_sha256", "another set"), ("network", "another network, or with other options")):
        if stored[name] != about[name]:
            raise UserError(
                f"{out}: it is a store of {what}: {name} {stored[name]}, not {about[name]}. Choose another --out, or "
                "delete it"
            )
    return stored


def _announce(out: Path, parts: Sequence[store.Part], work: "_Work", num_bytes: int) -> None:
    missing = [part for part in parts if not store.is_written(out, part, work.kinds)]
    needed_bytes = sum(part.length for part in missing) * work.vector_bytes - store.begun_bytes(out, missing)
    free_bytes = disk_usage(out).free
    log(
        f"{plural(len(work.manifest), 'video')}, {sum(p.length for p in parts)} vectors of {work.width}: {gib(num_bytes)} in "
        f"{plural(len(parts), 'file')}, {len(parts) - len(missing)} of them written; {gib(free_bytes)} are free"
    )
    if needed_bytes > free_bytes:
        raise UserError(
            f"{out}: {gib(free_bytes)} are free there, and {gib(needed_bytes)} are needed. Use --dtype float16, or a larger "
            "--stride"
        )


def _write(out: Path, work: "_Work", parts: Sequence[store.Part], jobs: int) -> int:
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


def _join(out: Path, work: "_Work", parts: Sequence[store.Part], about: dict[str, Any]) -> dict[str, Any]:
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


# --- the network


def _source(
    source: str | Path,
    pretrained: str | None,
    checkpoint: str | None,
    changes: Mapping[str, Any],
    allow_code: Consent,
    runtime: Runtime,
) -> _Source:
    wrong = [name for name in changes if not name.startswith(OPEN_FIELDS)]
    if wrong:
        raise UserError(f"{wrong[0]}: vectors do not depend on it. Set only clip.…, evaluation.size and precision")
    if pretrained is None and not _is_a_model(str(source)):
        if not Path(source).exists() and str(source) in {entry.name for entry in entries()}:
            raise UserError(
                f"{source}: a model, not a run, and it has no weights of its own. Name some: --pretrained imagenet, or name a run"
            )
        run = Run.open(source)
        found = of_run(run, allow_code=allow_code)
        recipe = replace(found.recipe, {"precision": "fp32", **changes})
        which = checkpoint or recipe.evaluation.checkpoint
        return _Source(f"{run.name}, {which}", found.load(which), recipe, found.classes, run.seen_sha256())
    name = str(source)
    if checkpoint is not None:
        raise UserError(f"--checkpoint: {name} is not a run. Leave it out")
    run_of_weights = build.run_of(build.weights_file(pretrained))
    if run_of_weights is not None:
        raise UserError(
            f"--pretrained: {pretrained} is of the run {run_of_weights.path}, which knows the videos it was trained on. Name "
            "the run alone, without --pretrained"
        )
    allow(name)
    if pretrained is None and parsed(name).library != "hf":
        frames, size = natural_input(name)
        if not size:
            raise UserError(f"{name}: it takes stored vectors itself. Name a network that computes vectors of pictures")
        usual: dict[str, Any] = {"clip.num_frames": frames, "clip.size": size, "clip.sampling": "dense"}
        recipe = replace(
            with_network(Recipe(), name), {**usual, "clip.stride_frames": 1, "precision": "fp32", **changes}
        )
    else:
        if not natural_input(name)[1]:
            raise UserError(f"{name}: it takes stored vectors itself. Name a network that computes vectors of pictures")
        recipe = build.ready_made(name, pretrained or "hub", changes={"precision": "fp32", **changes}, runtime=runtime)
    model = build.model(recipe, 2)
    weights = pretrained or ("hub" if parsed(name).library == "hf" else "weights of its own")
    return _Source(f"{name}, {weights}", model, recipe, None, np.array([], dtype=np.str_))


def _is_a_model(name: str) -> bool:
    """Whether it names a network that comes with weights of its own: the user's, or one of the hub."""
    parts = parsed(name)
    return not Path(name).exists() and (parts.code is not None or parts.library == "hf")


class _Computed(NamedTuple):
    """Vectors and scores of one row."""

    arrays: dict[str, np.ndarray]
    frames: int


class _Clips(NamedTuple):
    """A piece of a row's work: pictures, and which of them each clip shows."""

    row: int
    pictures_PHWC: np.ndarray
    picture_MF: np.ndarray
    is_last: bool


class _Work:
    """A network, what of it is stored, and the clips it is shown."""

    def __init__(
        self,
        source: _Source,
        manifest: Manifest,
        data: str | Path,
        layer: str | None,
        tokens: bool,
        clip_frames: int | None,
        stride: int | None,
        dtype: str,
        runtime: Runtime,
    ) -> None:
        self.source, self.manifest, self.dtype = source, manifest, dtype
        self.data = str(Path(data).resolve())
        self.model, self.recipe, self.trained_on = source.model, source.recipe, source.trained_on
        self.input = inputs.find(self.recipe.clip.modality)
        if self.input.is_in_place or self.model.input_kind != "clip":
            raise UserError(
                f"{source.name}: it takes stored vectors itself. Name the network that computes vectors of pictures"
            )
        if build.with_stored_input(self.recipe, manifest) != self.recipe:
            raise UserError("--data: it is a store of vectors already. Name the manifest of its videos")
        looks_at_frames = self.model.looks_at == "frame"
        frames = clip_frames or (1 if looks_at_frames else self.recipe.clip.num_frames)
        if not 1 <= frames <= MOST_FRAMES or (stride is not None and not 1 <= stride <= MOST_FRAMES):
            raise UserError(f"--clip-frames, --stride: out of range. Give 1 to {MOST_FRAMES} frames")
        self.model.check_frames(frames)
        spec = build.clip_spec(self.recipe)
        spacing = spec.stride_frames if spec.sampling == "dense" and frames > 1 else 1
        self.spec: ClipSpec = dataclasses.replace(
            spec, num_frames=frames, sampling="dense", stride_frames=spacing, order="ordered", whole=False
        )
        self.stride = stride or (1 if frames == 1 else frames * spacing)
        self.layers = [name.strip() for name in (layer or "").split(",") if name.strip()]
        if layer is not None and not self.layers:
            raise UserError("--layer: it names no module. Name one, or leave it out for what the classifier takes")
        self.tokens = tokens
        self.precision = "fp32" if self.recipe.precision == "auto" else self.recipe.precision
        self.where: Placement = build.placement(replace(self.recipe, {"precision": self.precision}), runtime)
        to_device(self.model, self.where)
        self._taps = [self._module(name) for name in self.layers]
        self.classes = source.classes
        self._reader: Reader = build.file_reader(self.recipe)
        self._clips_N = [len(self._indices(manifest.row(index))) for index in range(len(manifest))]
        self.tokens_per_clip, self.width = self._shape()

    def _module(self, name: str) -> torch.nn.Module:
        modules = dict(self.model.named_modules())
        if name not in modules or not name:
            ends = [full for full in modules if full.endswith(f".{name}")]
            if len(ends) == 1:
                return modules[ends[0]]
            raise UserError(
                f"--layer: {self.source.name} has no module '{name}'. {nearest(name, [full for full in modules if full])} "
                "List them: muybridge models NAME"
            )
        return modules[name]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of numbers that are stored of a row."""
        return ("vectors", "scores") if self.classes else ("vectors",)

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector and its scores."""
        scores = 4 * len(self.classes) if self.classes else 0
        return self.width * np.dtype(self.dtype).itemsize + scores

    def _indices(self, row: Row) -> np.ndarray:
        return sliding_indices(row.num_frames, row.fps, self.spec, stride=self.stride)

    def parts(self) -> list[store.Part]:
        """The files of the store."""
        return store.parts_of([count * self.tokens_per_clip for count in self._clips_N], self.width, self.dtype)

    def num_frames(self) -> int:
        """Frames that go through the network, for all rows."""
        return sum(self._clips_N) * self.spec.num_frames

    def fps(self) -> np.ndarray:
        """Vectors per second of each row."""
        return np.asarray(self.manifest.columns["fps"] / self.stride * self.tokens_per_clip)

    def about(self) -> dict[str, Any]:
        """Content of features.json before the first vector."""
        clip = self.recipe.clip
        options = {
            "model": self.recipe.model.name, "layer": ",".join(self.layers) or None, "tokens": self.tokens,
            "clip_frames": self.spec.num_frames, "stride": self.stride, "spacing": self.spec.stride_frames,
            "past_end": self.spec.past_end, "fps": self.spec.fps, "modality": clip.modality, "size": self.recipe.test_size,
            "short_side": clip.short_side, "crop_fraction": self.recipe.evaluation.crop_fraction,
            "precision": self.precision, "dtype": self.dtype, "trained_on": store.digest(self.trained_on.tolist()),
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps([store.FORMAT_VERSION, options, self.classes]).encode())
        fresh = () if self.classes else self.model.classifier_names()
        for name, tensor in sorted(self.model.state_dict().items()):
            if name not in fresh:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return {
            "format_version": store.FORMAT_VERSION, "source": self.source.name, "network": digest.hexdigest(),
            "source_sha256": self.manifest.sha256(), "manifest": self.data, "width": self.width, "dtype": self.dtype,
            "classes": list(self.classes) if self.classes else None, "options": options,
            "trained_on_sha256": options["trained_on"], "finished": False,
        }  # fmt: skip

    def _shape(self) -> tuple[int, int]:
        size = self.recipe.test_size
        zeros = self.input.zeros(1, self.spec.num_frames, size)
        with testing(self.model), torch.inference_mode():
            computed = self._forward(zeros.numpy())
        vectors_MLD = computed["vectors"]
        return vectors_MLD.shape[1], vectors_MLD.shape[2]

    def compute(self, rows: Sequence[int], jobs: int) -> Iterator[_Computed]:
        """Vectors and scores of each row, in order."""
        pieces = [piece for row in rows for piece in self._pieces(row)]
        held: list[dict[str, np.ndarray]] = []
        frames = 0
        for clips in in_order(self._read, pieces, jobs=jobs):
            for part in np.array_split(np.arange(len(clips.picture_MF)), self._passes(len(clips.picture_MF))):
                held.append(self._forward(clips.pictures_PHWC[clips.picture_MF[part]]))
            frames += clips.picture_MF.size // self.spec.snippet_frames
            if clips.is_last:
                yield _Computed(self._joined(clips.row, held), frames)
                held, frames = [], 0

    def _passes(self, clips: int) -> int:
        return -(-clips // max(1, FRAMES_AT_ONCE // self.spec.num_frames))

    def _joined(self, row: int, held: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        vectors_MLD = np.concatenate([part["vectors"] for part in held])
        arrays = {"vectors": vectors_MLD.reshape(-1, self.width)}
        if self.classes:
            scores_MK = np.concatenate([part["scores"] for part in held])
            arrays["scores"] = scores_MK.repeat(self.tokens_per_clip, axis=0)
        if not all(np.isfinite(values).all() for values in arrays.values()):
            raise Diverged(
                f"{self.manifest.text('id', np.array([row]))[0]}: the network's vectors are not finite, as its weights are "
                "damaged or need another precision. Use another checkpoint"
            )
        if self.dtype == "float16" and np.abs(arrays["vectors"]).max() > np.finfo(np.float16).max:
            raise UserError("--dtype: a number is too large for float16. Use --dtype float32")
        return arrays

    def _pieces(self, index: int) -> list[tuple[int, int, int, bool]]:
        """(row, first clip, end, is it the last) of pieces of at most READ_FRAMES frames."""
        clips = self._clips_N[index]
        size = max(1, (READ_FRAMES - self.spec.num_frames * self.spec.stride_frames) // self.stride)
        return [(index, first, min(first + size, clips), first + size >= clips) for first in range(0, clips, size)]

    def _read(self, piece: tuple[int, int, int, bool], stop: Callable[[], bool]) -> _Clips:
        index, first, end, is_last = piece
        row = self.manifest.row(index)
        if first == 0:
            check_unchanged(row, str(self.manifest.text("sha256", np.array([index]))[0]))
        indices_MF = self._indices(row)[first:end].reshape(end - first, -1)
        distinct, position = np.unique(indices_MF, return_inverse=True)
        frames_PHWC = self._reader.read(row, distinct)
        box = None
        if self.input.is_picture:
            fraction = self.recipe.evaluation.crop_fraction
            box = test_boxes(*frames_PHWC.shape[1:3], num_crops=1, crop_fraction=fraction)[0]
        fitted_PHWC = self.input.fitted(frames_PHWC, box, self.recipe.test_size)
        return _Clips(index, fitted_PHWC, position.reshape(indices_MF.shape), is_last)

    def _forward(self, clips_MFHWC: np.ndarray) -> dict[str, np.ndarray]:
        """Vectors (M,L,D) of M clips, L tokens each, and scores (M,K)."""
        normal = self.model.preprocessing
        x = self.input.to_model(
            torch.from_numpy(clips_MFHWC).to(self.where.device), None, mean=normal.mean, std=normal.std
        )
        outs: list[torch.Tensor] = []
        handles = [
            module.register_forward_hook(lambda module, args, out: outs.append(_tensor(out))) for module in self._taps
        ]
        try:
            with self.where.autocast():
                self.model.check_input(x)
                f_MTD = self.model.features(x)
                scores_MK = self.model.head(f_MTD)
        finally:
            for handle in handles:
                handle.remove()
        if self._taps and len(outs) != len(self._taps):
            raise UserError(
                f"--layer: of {', '.join(self.layers)}, {len(outs)} outputs were seen for a clip, not one of each. Name modules "
                "that a clip goes through once"
            )
        found = [_tokens(out, len(clips_MFHWC)) for out in outs] if self._taps else [f_MTD]
        if not self.tokens:
            vectors_MLD = torch.cat([tokens_MLD.mean(1, keepdim=True) for tokens_MLD in found], dim=2)
        elif len({tokens_MLD.shape[2] for tokens_MLD in found}) > 1:
            raise UserError(
                f"--tokens: the tokens of {', '.join(self.layers)} differ in length. Name layers of one length"
            )
        else:
            vectors_MLD = torch.cat(found, dim=1)
        return {"vectors": vectors_MLD.float().cpu().numpy(), "scores": scores_MK.float().cpu().numpy()}

    def timed(self, rows: int) -> tuple[int, float]:
        """Frames and seconds of the first rows of the set."""
        chosen = list(range(min(rows, len(self.manifest))))
        next(self.compute(chosen[:1], 1))  # the first pass takes longer
        started, frames = time.monotonic(), 0
        for computed in self.compute(chosen, os.cpu_count() or 1):
            frames += computed.frames
        log(f"{frames / (time.monotonic() - started):.0f} frames a second, by {plural(len(chosen), 'video')}")
        return frames, time.monotonic() - started


def _tensor(out: Any) -> torch.Tensor:
    while isinstance(out, tuple | list) and len(out):
        out = out[0]
    if not isinstance(out, torch.Tensor):
        out = getattr(out, "last_hidden_state", out)
    if not isinstance(out, torch.Tensor) or not out.is_floating_point() or not out.numel():
        what = f"{out.dtype} of shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise UserError(f"--layer: its output is {what}, not numbers of a tensor. Name another module")
    return out


def _tokens(out: torch.Tensor, clips: int) -> torch.Tensor:
    """(M,L,D) of a module's output: a feature map of folded frames or of clips, tokens, or vectors."""
    if out.dim() == 5:  # (M,D,T,H,W)
        return out.flatten(2).transpose(1, 2)
    if out.dim() == 4:  # (M·T,D,H,W)
        out = out.flatten(2).transpose(1, 2)
    elif out.dim() == 2:  # (M·T,D)
        out = out[:, None]
    if out.dim() != 3 or out.shape[0] % clips:
        raise UserError(
            f"--layer: its output of shape {tuple(out.shape)} is not one of clips or frames. Name another module"
        )
    return out.reshape(clips, -1, out.shape[-1])
