"""The one place where recipe sections become objects. Below it, parts take plain keyword arguments."""

import ctypes
import functools
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from muybridge import checkpoint
from muybridge.console import log, progress
from muybridge.data.loader import TrainClips, VideoViews, num_batches
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec, Order
from muybridge.draws import torch_seed
from muybridge.errors import UserError
from muybridge.files import sha256_file
from muybridge.freezing import Frozen, call_order
from muybridge.launch import launched
from muybridge.measure import outline
from muybridge.models import Loaded, VideoModel, load_weights
from muybridge.models.registry import assemble, user_builder
from muybridge.models.user_network import brought_sha256
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runs import Run
from muybridge.schedules import Schedule
from muybridge.tracking import Trackers, check_installed
from muybridge.user_code import is_kept, resolved_name, source_sha256
from muybridge.video import DecodeError, FileReader, RamCache, Reader

GIB = 2**30
PUBLIC = ("imagenet", "kinetics400", "hub")
"""Names of public weights, whatever files are called."""

SNIPPET_FRAMES = {"rgb": 1, "difference": 2}
"""Frames that make one time step of a model's input."""


@dataclass(frozen=True)
class Placement:
    """Where and how a model computes."""

    device: torch.device
    autocast_dtype: torch.dtype | None = None
    """What matrix products and convolutions are computed in; none: in the weights' own."""

    @property
    def non_blocking(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Of the loss, so that small gradients are not lost in fp16; it does nothing for other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.autocast_dtype == torch.float16)


def device(runtime: Runtime) -> torch.device:
    """Raises UserError for a device that is not there. Of several processes each takes a GPU of its own."""
    name = runtime.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched().count > 1:
        name = f"cuda:{launched().local_rank}"
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"runtime.device '{name}' cannot be used: {str(error).splitlines()[0]}") from None
    if chosen.type == "meta":
        raise UserError("runtime.device 'meta' has shapes and no values: nothing can be computed there")
    return chosen


def placement(recipe: Recipe, runtime: Runtime) -> Placement:
    """Of a resolved recipe; sets the number of threads and torch's reproducible choices."""
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    chosen = device(runtime)
    if chosen.type == "cpu":
        keep_memory()
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what repeatable matrix products need
        torch.use_deterministic_algorithms(True, warn_only=True)
    return Placement(chosen, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.precision))


def keep_memory() -> None:
    """Let glibc keep what tensors have used. Else it gives large ones back to the system and gets them anew, page by page,
    in every step: a tenth of the time of a ResNet50 in fp32, more where large tensors are copied (TSM)."""
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # another C library
            return
        mallopt(-4, 0)  # M_MMAP_MAX: no allocation of its own for anything
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def resolve(recipe: Recipe, runtime: Runtime, manifest: Manifest) -> Recipe:
    """The recipe with nothing left open: precision by rule, what to start from, hashes of the manifest, of a model of
    your own and of a file of weights. Raises UserError where a hash is given and differs, or a tracker's library is not
    there."""
    check_installed(runtime.trackers)
    precision = recipe.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device(runtime)) else "fp32"
    pretrained = _starts_from(recipe)
    weights = weights_file(pretrained)
    weights_sha256 = None if weights is None else sha256_file(weights)
    if weights is None and pretrained and Path(pretrained).is_absolute():  # gone; a run that goes on does not need it
        weights_sha256 = recipe.model.pretrained_sha256
    found = {
        "data.sha256": manifest.sha256(),
        "model.source_sha256": source_sha256(recipe.model.name),
        "model.weights_sha256": _brought(recipe, len(manifest.classes)),
        "model.pretrained_sha256": weights_sha256,
    }
    given = {
        "data.sha256": (recipe.data.sha256, "manifest"),
        "model.source_sha256": (recipe.model.source_sha256, "code of the model"),
        "model.weights_sha256": (recipe.model.weights_sha256, "network that the model's function returns"),
        "model.pretrained_sha256": (recipe.model.pretrained_sha256, "file of weights"),
    }
    for name, (value, what) in given.items():
        if value is not None and value != found[name]:
            raise UserError(
                f"The {what} is not the one this recipe was resolved with ({name} differs): it was changed since"
            )
    return replace(recipe, {
        "precision": precision, "data.manifest": str(Path(recipe.data.manifest).resolve()),
        "model.name": resolved_name(recipe.model.name),
        "model.pretrained": pretrained if weights is None else str(weights), **found,
    })  # fmt: skip


def own_network(recipe: Recipe, num_classes: int) -> Callable[[], nn.Module] | None:
    """What makes the network of a recipe by the user's own function; none where it is not theirs."""
    m = recipe.model
    return user_builder(
        m.name, num_classes=num_classes, num_frames=recipe.clip.num_frames, temporal_pooling=m.temporal_pooling,
        dropout=m.dropout, **m.options,
    )  # fmt: skip


def _brought(recipe: Recipe, num_classes: int) -> str | None:
    """Hash of the weights that the user's function brings along. (A run that goes on has its weights itself.)"""
    build = own_network(recipe, num_classes)
    if build is None or is_kept(recipe.model.name):
        return recipe.model.weights_sha256
    return brought_sha256(build)


def _starts_from(recipe: Recipe) -> str | None:
    """What `model.pretrained` means where it is auto."""
    if recipe.model.pretrained != "auto":
        return recipe.model.pretrained
    return "hub" if recipe.model.name.startswith("hf:") else None


def weights_file(pretrained: str | None) -> Path | None:
    """The file of weights that `model.pretrained` means, where it is a file, a run folder (its last checkpoint's) or one of
    a run's checkpoints (`RUN/checkpoints/best`), and no name of public weights. Raises UserError for a folder without, and
    where a recipe names no run yet ("the run of 8 frames")."""
    if (pretrained or "").startswith("the run "):
        raise UserError(f"This recipe starts from {pretrained}; name it: --pretrained RUN")
    if not pretrained or pretrained in PUBLIC or not Path(pretrained).expanduser().exists():
        return None
    path = Path(pretrained).expanduser().resolve()
    if (path / "model.safetensors").is_file():
        file = path / "model.safetensors"
    elif path.parent.name == "checkpoints" and path.name in ("last", "best"):
        file = checkpoint.model_file(path.parent, path.name)
    elif path.is_dir():
        run = Run.open(path)
        if not checkpoint.exists(run.checkpoints):
            raise UserError(f"{run.path} holds no weights yet: its training was stopped before its first checkpoint")
        file = checkpoint.model_file(run.checkpoints)
    else:
        return path
    checkpoint.check_hash(file)
    return file


def _run_of(weights: Path | None) -> Run | None:
    """The run that a file of weights lies in; none for other files."""
    if weights is None:
        return None
    checkpoints = weights.parent.parent
    run = Run(checkpoints.parent)
    is_of_a_run = checkpoints == run.checkpoints and (run.path / "dataset.json").exists()
    return run if is_of_a_run else None


def base_run(recipe: Recipe) -> Run | None:
    """The run whose weights a recipe starts from, if they are a run's."""
    run = _run_of(weights_file(_starts_from(recipe)))
    return run if run is not None and (run.path / "trained_on.npz").exists() else None


def check_unseen(recipe: Recipe, manifest: Manifest) -> None:
    """Raises UserError where a run would be tested on videos that what it starts from was trained on (by their content, and
    beside its own training videos)."""
    base = base_run(recipe)
    if base is None or not recipe.evaluation.score_test:
        return
    own, tested = (manifest.text("sha256", manifest.split(split, recipe.data.fold)) for split in ("train", "test"))
    seen_N = np.isin(tested, np.setdiff1d(base.seen_sha256(), own))
    if seen_N.any():
        raise UserError(
            f"{base.path}, whose weights this run would start from, was trained on {seen_N.sum()} of the {len(tested)} test "
            "videos; what is measured on them would flatter the model. Take another split, or weights of another run"
        )


def has_bf16(chosen: torch.device) -> bool:
    """Does the hardware compute in bfloat16 itself?"""
    if chosen.type == "cuda":
        return torch.cuda.get_device_capability(chosen) >= (8, 0)
    if chosen.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def model(
    recipe: Recipe,
    num_classes: int,
    *,
    pretrained: bool = True,
    classes: Sequence[str] | None = None,
    tell: Callable[[Loaded], None] = lambda loaded: log(str(loaded)),
) -> VideoModel:
    """A model with fresh weights, drawn by the recipe's seed, then those that it starts from, unless a checkpoint will
    fill it (`pretrained=False`); `tell` hears what became of them. `classes`: the names, where they are known: the
    classifier of a run that knows others is not taken. Raises UserError for weights that do not fit."""
    torch.manual_seed(torch_seed(recipe.seed, "weights"))
    net = assemble(
        recipe.model.name,
        num_classes=num_classes,
        num_frames=recipe.clip.num_frames,
        temporal_pooling=recipe.model.temporal_pooling,
        dropout=recipe.model.dropout,
        **recipe.model.options,
    )
    net.check_frames(recipe.clip.num_frames)
    if recipe.model.init_std is not None:
        for parameter in net.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=recipe.model.init_std)
    source = _starts_from(recipe)
    if pretrained and source is not None:
        try:
            file = weights_file(source)
            run = _run_of(file)
            theirs = None if run is None else run.dataset()["classes"]
            loaded = load_weights(
                net, file or source, part=recipe.model.pretrained_part, inflation=recipe.model.inflation,
                other_classes=classes is not None and theirs not in (None, list(classes)),
            )  # fmt: skip
            tell(loaded)
        except UserError as error:
            raise UserError(f"{recipe.model.name}, model.pretrained '{source}': {error}") from None
    return net


def place(net: nn.Module, where: Placement) -> None:
    """Move to the device, convolution weights channels-last (2.8 times faster on CPUs, and what GPUs like)."""
    net.to(where.device)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in net.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.to(memory_format=formats[parameter.dim()])


def optimizer(recipe: Recipe, net: nn.Module) -> torch.optim.Optimizer:
    """Over what is not frozen. Raises UserError where that is nothing."""
    o = recipe.optim
    exempt = _exempt(net, o.weight_decay_exempt)
    trained = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    if not trained:
        raise UserError(f"{recipe.model.name}: every parameter is frozen, nothing is left to train")
    groups = [
        {"params": [p for name, p in trained if name not in exempt], "weight_decay": o.weight_decay},
        {"params": [p for name, p in trained if name in exempt], "weight_decay": 0.0},
    ]
    if o.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=o.lr, momentum=o.momentum)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[o.optimizer](groups, lr=o.lr)


def _exempt(net: nn.Module, which: str) -> set[str]:
    """Names of the parameters that weight decay leaves alone. (A norm is what has none but vectors.)"""
    if which == "norms_and_biases":
        return {name for name, parameter in net.named_parameters() if parameter.dim() <= 1}
    norms = [
        module
        for module in net.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)
    ]
    of_norms = {id(parameter) for module in norms for parameter in module.parameters(recurse=False)}
    return {name for name, p in net.named_parameters() if id(p) in of_norms} if which == "norms" else set()


def frozen(recipe: Recipe, net: VideoModel) -> Frozen:
    """Freezes what the recipe says."""
    c, m = recipe.clip, recipe.model
    called: list[str] = []
    if recipe.optim.train_from is not None:
        plan = outline(m.name, num_classes=2, num_frames=c.num_frames, temporal_pooling=m.temporal_pooling, **m.options)
        called = call_order(plan, num_frames=c.num_frames, size=c.size)
    return Frozen(net, train_from=recipe.optim.train_from, called=called, batch_norm=recipe.optim.batch_norm)


def averaged(recipe: Recipe, net: VideoModel) -> AveragedModel | None:
    """A running mean of the weights, where the recipe asks for one; statistics of norms are those of the network."""
    if recipe.optim.ema_decay is None:
        return None
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(recipe.optim.ema_decay))


def peak_lr(recipe: Recipe) -> float:
    """SGD's learning rate is quoted with a batch size and scaled linearly to the one used."""
    return recipe.optim.lr * _lr_scale(recipe)


def warmup_lr(recipe: Recipe) -> float:
    """Where the warm-up starts."""
    given = recipe.optim.warmup_lr
    return peak_lr(recipe) * 0.01 if given is None else given * _lr_scale(recipe)


def _lr_scale(recipe: Recipe) -> float:
    o = recipe.optim
    return o.batch_size / o.lr_batch_size if o.optimizer == "sgd" and o.lr_batch_size is not None else 1.0


def steps_per_epoch(recipe: Recipe, num_rows: int) -> int:
    return recipe.optim.steps_per_epoch or num_batches(num_rows, recipe.optim.batch_size)


def num_epochs(recipe: Recipe, num_rows: int) -> int | None:
    """What the recipe says, or as many as its `min_steps` take on so small a set; none where hours end training."""
    if recipe.optim.epochs is None:
        return None
    return max(recipe.optim.epochs, math.ceil(recipe.optim.min_steps / steps_per_epoch(recipe, num_rows)))


def schedule(recipe: Recipe, num_rows: int) -> Schedule:
    """In steps, or in seconds of training."""
    o = recipe.optim
    if o.clock == "hours":
        assert recipe.stop.max_hours is not None
        unit, end = 3600.0, recipe.stop.max_hours
    else:
        unit, end = float(steps_per_epoch(recipe, num_rows)), float(num_epochs(recipe, num_rows) or math.inf)
    return Schedule(
        o.schedule,
        peak=peak_lr(recipe),
        end=end * unit,
        warmup=round(o.warmup_epochs * unit),
        warmup_lr=warmup_lr(recipe),
        milestones=tuple(milestone * unit for milestone in o.milestones),
        factor=o.milestone_factor,
    )


def trackers(run: Run, recipe: Recipe, runtime: Runtime, *, first: bool, step: int) -> Trackers:
    """What the runtime asks for, at the first process, of a run that stands at a step."""
    return Trackers(
        runtime.trackers if first else (),
        project=runtime.tracker_project,
        name=run.name,
        folder=run.path / "trackers",
        config=recipe.model_dump(),
        step=step,
    )


def scoring_batch_size(recipe: Recipe) -> int:
    """Clips that are scored at a time: what one process is known to hold in training; without gradients there is room for
    more, but no need."""
    return recipe.optim.micro_batch_size or -(-recipe.optim.batch_size // launched().count)


def clip_spec(recipe: Recipe) -> ClipSpec:
    c = recipe.clip
    return ClipSpec(
        num_frames=c.num_frames,
        sampling=c.sampling,
        jitter=c.jitter,
        stride_frames=c.stride_frames,
        target_fps=c.target_fps,
        past_end=c.past_end,
        snippet_frames=SNIPPET_FRAMES[c.modality],
    )


def train_clips(recipe: Recipe, manifest: Manifest, reader: Reader) -> TrainClips:
    a = recipe.augment
    return TrainClips(
        manifest,
        reader,
        clip_spec(recipe),
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
    recipe: Recipe, manifest: Manifest, reader: Reader, *, orders: Sequence[Order] = ("ordered",)
) -> VideoViews:
    e = recipe.evaluation
    return VideoViews(
        manifest,
        reader,
        clip_spec(recipe),
        size=recipe.clip.size,
        num_clips=e.num_clips,
        num_crops=e.num_crops,
        crop_fraction=e.crop_fraction,
        orders=orders,
        seed=recipe.seed,
    )


def file_reader(recipe: Recipe) -> FileReader:
    return FileReader(short_side=recipe.clip.short_side)


def reader_and_workers(recipe: Recipe, runtime: Runtime, manifest: Manifest, rows: np.ndarray) -> tuple[Reader, int]:
    """How frames are read, and by how many processes: from a RAM cache where the rows' frames fit, else from the files.
    What was decided is said."""
    files = file_reader(recipe)
    where = sha256(manifest.columns["path"].tobytes()).hexdigest()
    cache = _ram_cache(manifest.sha256(), where, str(manifest.root.resolve()), files)
    missing = rows[[name not in cache for name in manifest.text("id", rows).tolist()]]
    needed = _decoded_bytes(manifest, missing, recipe.clip.short_side)
    limit = free_bytes() / 4 / launched().local_count if runtime.cache_gib is None else runtime.cache_gib * GIB
    if needed <= limit and limit > 0 and not runtime.num_workers:
        if len(missing):
            log(f"decoding {len(missing)} videos once into memory ({needed / GIB:.2f} GiB)")
            with progress("decoding", len(missing)) as bar:
                wanted = [manifest.row(int(index)) for index in missing]
                failed: list[DecodeError] = []
                cache.fill(
                    wanted, threads=os.cpu_count() or 1, advance=bar.advance,
                    failed=failed.append if recipe.data.on_error == "skip" else None,
                )  # fmt: skip
            if failed:
                log(
                    f"{len(failed)} videos cannot be decoded whole; what can be read of them is read from their files each "
                    f"time. The first: {failed[0]}"
                )
        return cache, 0
    cores = max(1, (os.cpu_count() or 1) // launched().local_count)
    workers = min(8, cores) if runtime.num_workers is None else runtime.num_workers
    if runtime.num_workers is None:
        log(
            f"reading from files with {workers} processes: decoded, the set takes {needed / GIB:.1f} GiB, more than the "
            f"{limit / GIB:.1f} GiB of the cache (runtime.cache_gib)"
        )
    return files, workers


@functools.lru_cache(maxsize=1)  # the runs of a study read one set
def _ram_cache(manifest_sha256: str, paths_sha256: str, root: str, files: FileReader) -> RamCache:
    return RamCache(files)


def free_bytes() -> float:
    """Memory that may be used, also inside a container."""
    free = float(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no such limit ("max")
        return free
    return min(free, max(0.0, limit - used))


def _decoded_bytes(manifest: Manifest, rows: np.ndarray, short_side: int | None) -> float:
    columns = {name: manifest.columns[name][rows].astype(np.float64) for name in ("num_frames", "width", "height")}
    short = np.minimum(columns["width"], columns["height"])
    scale = 1.0 if short_side is None else short_side / short
    return float((columns["num_frames"] * columns["width"] * columns["height"] * scale**2 * 3).sum())
