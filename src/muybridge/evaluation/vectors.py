"""A network that computes vectors: where it comes from, what it is shown, what of it is stored."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from muybridge import build
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec, sliding_indices, sliding_starts
from muybridge.data.stores import vectors as store
from muybridge.data.stores.common import check_unchanged
from muybridge.data.stores.parallel import in_order
from muybridge.data.transforms import test_boxes
from muybridge.errors import Diverged, UserError, nearest
from muybridge.evaluation.score import testing
from muybridge.evaluation.trained import of_run
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.recipe.fields import with_network
from muybridge.runtime import processors
from muybridge.runtime.console import log
from muybridge.runtime.device import Placement, to_device
from muybridge.storage.run import Run
from muybridge.text import plural
from muybridge.user_code import Consent, allow, parsed
from muybridge.video import Reader, Row
from muybridge.zoo import VideoModel
from muybridge.zoo.count import natural_input
from muybridge.zoo.registry import entries

FRAMES_AT_ONCE = 64
"""Frames in one pass through the network."""
READ_FRAMES = 512
"""Frames of a video that are decoded at a time."""
MOST_FRAMES = 2**16
"""Most frames of a clip, and of a stride."""
OPEN_FIELDS = ("evaluation.size", "evaluation.crop_fraction", "clip.", "precision")
"""Beginnings of the fields of the recipe that may be changed."""


class Source(NamedTuple):
    """A network that computes vectors, and how."""

    name: str
    model: VideoModel
    recipe: Recipe
    classes: tuple[str, ...] | None
    """Classes of its classifier, if that was trained."""
    trained_on: np.ndarray
    """Hashes of its training videos."""


def source_of(
    source: str | Path,
    pretrained: str | None,
    checkpoint: str | None,
    changes: Mapping[str, Any],
    allow_code: Consent,
    runtime: Runtime,
) -> Source:
    """A run, or a network by its name with `pretrained` weights or its own. Raises UserError."""
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
        return Source(f"{run.name}, {which}", found.load(which), recipe, found.classes, run.seen_sha256())
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
    frames, size = natural_input(name)
    if not size:
        raise UserError(f"{name}: it takes stored vectors itself. Name a network that computes vectors of pictures")
    given = {"precision": "fp32", **changes}
    if pretrained is None and parsed(name).library != "hf":
        usual = {"clip.num_frames": frames, "clip.size": size, "clip.sampling": "dense", "clip.stride_frames": 1}
        recipe = replace(with_network(Recipe(), name), {**usual, **given})
    else:
        recipe = build.ready_made(name, pretrained or "hub", changes=given, runtime=runtime)
    model, classes = _with_classifier(recipe, has_names=pretrained is not None)
    weights = pretrained or ("hub" if parsed(name).library == "hf" else "weights of its own")
    return Source(f"{name}, {weights}", model, recipe, classes, np.array([], dtype=np.str_))


def _with_classifier(recipe: Recipe, *, has_names: bool) -> tuple[VideoModel, tuple[str, ...] | None]:
    """The network with its weights, and the classes of the weights' own classifier where they have one that answers."""
    if has_names:
        with suppress(UserError):
            model, _ = build.answering(recipe)
            return model, model.class_names
    return build.model(recipe, 2), None


def _is_a_model(name: str) -> bool:
    """Whether it names a network that comes with weights of its own: the user's, or one of the hub."""
    parts = parsed(name)
    return not Path(name).exists() and (parts.code is not None or parts.library == "hf")


class Computed(NamedTuple):
    """Vectors and scores of one row."""

    arrays: dict[str, np.ndarray]
    frames: int


class _Clips(NamedTuple):
    """A piece of a row's work: pictures, and which of them each clip shows."""

    row: int
    pictures_PHWC: np.ndarray
    picture_MF: np.ndarray
    is_last: bool


class Work:
    """A network, what of it is stored, and the clips it is shown."""

    def __init__(
        self,
        source: Source,
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
        self.input = inputs.of(self.recipe.clip)
        if self.input.is_in_place or self.model.input_kind != "clip":
            raise UserError(
                f"{source.name}: it takes stored vectors itself. Name the network that computes vectors of pictures"
            )
        if build.with_stored_input(self.recipe, manifest) != self.recipe:
            raise UserError(
                f"--data: it holds {inputs.of(build.with_stored_input(self.recipe, manifest).clip).about}, and "
                f"{source.name} takes {self.input.about}. Name the manifest of its videos, or the right --set clip.modality"
            )
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
        self._clips_N = [len(self._starts(manifest.row(index))) for index in range(len(manifest))]
        self.tokens_per_clip, self.width = self._shape()

    def _module(self, name: str) -> torch.nn.Module:
        modules = dict(self.model.named_modules())
        if name not in modules or not name:
            ends = [full for full in modules if full.endswith(f".{name}")]
            if len(ends) == 1:
                return modules[ends[0]]
            near = modules if "." in name else {full.rpartition(".")[2] for full in modules}
            raise UserError(
                f"--layer: {self.source.name} has no module '{name}'. {nearest(name, [full for full in near if full])} "
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

    def _starts(self, row: Row) -> range:
        return sliding_starts(row.num_frames, row.fps, self.spec, stride=self.stride)

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
            "past_end": self.spec.past_end, "fps": self.spec.fps, "modality": clip.modality,
            **({} if clip.stack is None else {"stack": clip.stack}), "size": self.recipe.test_size,
            "short_side": clip.short_side, "crop_fraction": self.recipe.evaluation.crop_fraction,
            "precision": self.precision, "dtype": self.dtype
        }  # fmt: skip
        trained_on = store.digest(self.trained_on.tolist())
        digest = hashlib.sha256(json.dumps([store.FORMAT_VERSION, options, self.classes, trained_on]).encode())
        fresh = () if self.classes else self.model.classifier_names()
        for name, tensor in sorted(self.model.state_dict().items()):
            if name not in fresh:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return {
            "format_version": store.FORMAT_VERSION, "source": self.source.name, "network": digest.hexdigest(),
            "source_sha256": self.manifest.sha256(), "manifest": self.data, "width": self.width, "dtype": self.dtype,
            "classes": list(self.classes) if self.classes else None, "options": options,
            "trained_on_sha256": trained_on, "finished": False,
        }  # fmt: skip

    def _shape(self) -> tuple[int, int]:
        size = self.recipe.test_size
        zeros = self.input.zeros(1, self.spec.num_frames, size)
        with testing(self.model), torch.inference_mode():
            computed = self._forward(zeros.numpy())
        vectors_MLD = computed["vectors"]
        return vectors_MLD.shape[1], vectors_MLD.shape[2]

    def compute(self, rows: Sequence[int], jobs: int) -> Iterator[Computed]:
        """Vectors and scores of each row, in order."""
        pieces = [piece for row in rows for piece in self._pieces(row)]
        held: list[dict[str, np.ndarray]] = []
        frames = 0
        for clips in in_order(self._read, pieces, jobs=jobs):
            for part in np.array_split(np.arange(len(clips.picture_MF)), self._passes(len(clips.picture_MF))):
                held.append(self._forward(clips.pictures_PHWC[clips.picture_MF[part]]))
            frames += clips.picture_MF.size // self.spec.snippet_frames
            if clips.is_last:
                yield Computed(self._joined(clips.row, held), frames)
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
        starts = self._starts(row)[first:end]
        indices_MF = sliding_indices(row.num_frames, row.fps, self.spec, starts).reshape(end - first, -1)
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
        for computed in self.compute(chosen, processors.left().jobs):
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
