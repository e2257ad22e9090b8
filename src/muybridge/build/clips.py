"""From a recipe to clips: readers of frames, worker processes, training clips and test views."""

import functools
from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from muybridge.data import inputs
from muybridge.data.inputs import Input
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec, Order
from muybridge.data.stores.vectors import CheckedReader
from muybridge.data.views import TrainClips, VideoViews, Views
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime import processors
from muybridge.runtime.cgroups import free_bytes
from muybridge.runtime.console import log, progress
from muybridge.runtime.device import find_device
from muybridge.runtime.launch import launched
from muybridge.video import DecodeError, FileReader, RamCache, Reader

GIB = 2**30


def scoring_batch_size(recipe: Recipe) -> int:
    """Clips per forward pass in scoring: as many as one process holds in training."""
    return recipe.optim.micro_batch_size or -(-recipe.optim.batch_size // launched().count)


def with_stored_input(recipe: Recipe, manifest: Manifest) -> Recipe:
    """The recipe with the input that its data holds, where that is a store. Raises UserError where it names another."""
    named = inputs.find(recipe.clip.modality)
    stored = inputs.held_by(manifest)
    if stored is None:
        if named.store:
            raise UserError(
                f"clip.modality: '{named.name}' is read from a store of it, but {recipe.data.manifest} lists pictures. Make "
                f"the store: muybridge {named.store.replace('MANIFEST', recipe.data.manifest or 'MANIFEST')}"
            )
        return recipe
    if named.name not in (inputs.DEFAULT, stored.name):
        raise UserError(
            f"clip.modality: {recipe.data.manifest} holds '{stored.name}', not '{named.name}'. Leave it out, or name the "
            "right store"
        )
    return replace(recipe, {"clip.modality": stored.name})


def clip_spec(recipe: Recipe) -> ClipSpec:
    """Frame sampling of a recipe."""
    c = recipe.clip
    return ClipSpec(
        num_frames=c.num_frames,
        sampling=c.sampling,
        jitter=c.jitter,
        stride_frames=c.stride_frames,
        fps=c.fps,
        past_end=c.past_end,
        snippet_frames=inputs.of(c).step_frames,
        order=c.order,
        whole=recipe.evaluation.whole,
    )


def train_clips(recipe: Recipe, manifest: Manifest, reader: Reader) -> TrainClips:
    """Training clips of a recipe, sampled and augmented."""
    a = recipe.augment
    return TrainClips(
        manifest,
        reader,
        clip_spec(recipe),
        input=inputs.of(recipe.clip),
        size=recipe.clip.size,
        crop=a.crop,
        flip_probability=a.flip_probability,
        crop_fraction=recipe.evaluation.crop_fraction,
        seed=recipe.seed,
        short_sides=a.short_sides,
        brightness=a.brightness,
        contrast=a.contrast,
        saturation=a.saturation,
        hue=a.hue,
        rotation_degrees=a.rotation_degrees,
    )


def video_views(
    recipe: Recipe,
    manifest: Manifest,
    reader: Reader,
    *,
    orders: Sequence[Order] = ("ordered",),
    ready: Mapping[int, Views] | None = None,
) -> VideoViews:
    """Test views of a recipe (clips × crops), with frames in each of `orders`. `ready`: those that were made before."""
    e = recipe.evaluation
    return VideoViews(
        manifest,
        reader,
        clip_spec(recipe),
        input=inputs.of(recipe.clip),
        size=recipe.test_size,
        num_clips=e.num_clips,
        num_crops=e.num_crops,
        crop_fraction=e.crop_fraction,
        orders=orders,
        seed=recipe.seed,
        ready=ready,
    )


def file_reader(recipe: Recipe) -> Reader:
    """Reader of a recipe's input from the videos' files."""
    wanted, files = inputs.of(recipe.clip), FileReader(short_side=recipe.clip.short_side)
    return wanted.reader(CheckedReader(files) if wanted.is_in_place else files)


def reader_and_workers(recipe: Recipe, runtime: Runtime, manifest: Manifest, rows: np.ndarray) -> tuple[Reader, int]:
    """Reader of frames and its number of processes; the choice is logged.

    Frames are read from a RAM cache where those of `rows` fit into it, else from the files.
    """
    files = file_reader(recipe)
    if inputs.of(recipe.clip).is_in_place:
        return files, runtime.num_workers or 0
    paths_sha256 = sha256(manifest.columns["path"].tobytes()).hexdigest()
    cache = _ram_cache(
        manifest.sha256(), paths_sha256, str(manifest.root.resolve()), recipe.clip.modality, recipe.clip.short_side
    )
    missing = rows[[name not in cache for name in manifest.text("id", rows).tolist()]]
    needed = _decoded_bytes(manifest, missing, recipe.clip.short_side, inputs.of(recipe.clip))
    limit = free_bytes() / 4 / launched().local_count if runtime.cache_gib is None else runtime.cache_gib * GIB
    if needed <= limit and limit > 0 and not runtime.num_workers:
        if len(missing):
            log(f"decoding {len(missing)} videos once into memory ({needed / GIB:.2f} GiB)")
            with progress("decoding", len(missing)) as bar:
                wanted = [manifest.row(int(index)) for index in missing]
                failed: list[DecodeError] = []
                cache.fill(
                    wanted, threads=processors.left().jobs, advance=bar.advance,
                    failed=failed.append if recipe.data.on_error == "skip" else None,
                )  # fmt: skip
            if failed:
                log(
                    f"{len(failed)} videos cannot be decoded whole; their readable frames are read from the files each time. "
                    f"The first: {failed[0]}"
                )
        return cache, 0
    computes = find_device(runtime.device).type == "cpu"
    workers = processors.left().workers(computes=computes) if runtime.num_workers is None else runtime.num_workers
    if runtime.num_workers is None:
        log(
            f"reading from files with {workers} processes: the decoded set takes {needed / GIB:.1f} GiB, more than the "
            f"{limit / GIB:.1f} GiB of the cache (runtime.cache_gib)"
        )
    return files, workers


@functools.lru_cache(maxsize=1)  # the runs of a study share one set
def _ram_cache(manifest_sha256: str, paths_sha256: str, root: str, modality: str, short_side: int | None) -> RamCache:
    return RamCache(inputs.find(modality).reader(FileReader(short_side)))


def _decoded_bytes(manifest: Manifest, rows: np.ndarray, short_side: int | None, input: Input) -> float:
    columns = {name: manifest.columns[name][rows].astype(np.float64) for name in ("num_frames", "width", "height")}
    short = np.minimum(columns["width"], columns["height"])
    scale = 1.0 if short_side is None else short_side / short
    frame_bytes_N = input.frame_bytes(columns["width"] * scale, columns["height"] * scale)
    wider = np.dtype(input.scaled_dtype or input.dtype).itemsize / np.dtype(input.dtype).itemsize
    return float((columns["num_frames"] * frame_bytes_N * np.where(scale == 1, 1, wider)).sum())
