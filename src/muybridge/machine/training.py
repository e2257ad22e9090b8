"""Room and speed: the largest batches by estimate, and a short training step, measured."""

from collections.abc import Iterator
from typing import Any

from muybridge.machine.finding import Asked, Finding, imported, reason
from muybridge.text import duration, gib, plural

MODELS = (
    ("tsm_resnet_tiny", 8, 112),
    ("tsm_resnet50", 8, 224),
    ("i3d_resnet50", 8, 224),
    ("slowfast_resnet50", 32, 224),
)
"""Networks with the frames and the pixels of their clips."""
MEASURED = "tsm_resnet_tiny"
MEASURED_ON_CUDA = "tsm_resnet50"
BATCH_SIZE = 8
REPETITIONS = 3
SHARE = 0.8
"""The share of what is free that a batch may take."""
UCF101_CLIPS, EPOCHS = 9537, 50
"""Training videos of UCF101's first split, and the passes of the example."""


def look(asked: Asked) -> Iterator[Finding]:
    """Estimate the largest batches, and measure a training step of the tiny network (on CUDA of a large one, too)."""
    torch, _ = imported("torch")
    if torch is None:  # which the look at GPUs says
        return
    try:
        on_cuda = bool(torch.cuda.is_available())
        yield from _room(torch, on_cuda)
        if not asked.is_quick:
            for name in (MEASURED, MEASURED_ON_CUDA) if on_cuda else (MEASURED,):
                yield from _speed(name)
    except Exception as error:  # whatever a broken machine raises
        yield Finding(
            "training-fails",
            "fault",
            f"A training step fails: {reason(error)}.",
            f"See what else stands here; then try it alone: muybridge measure {MEASURED}",
        )


def _room(torch: Any, on_cuda: bool) -> Iterator[Finding]:
    from muybridge.runtime.cgroups import free_bytes
    from muybridge.zoo.count import training_bytes

    free = torch.cuda.mem_get_info()[0] if on_cuda else free_bytes()
    models: dict[str, Any] = {}
    for name, frames, size in MODELS:
        fixed, a_clip = training_bytes(name, num_classes=101, num_frames=frames, size=size)
        batch = max(0, int((SHARE * free - fixed) / a_clip))
        models[name] = {
            "num_frames": frames,
            "size": size,
            "clip_bytes": int(a_clip),
            "fixed_bytes": fixed,
            "batch_size": batch,
        }
    told = ", ".join(
        f"{name} of {one['num_frames']}x{one['size']} pixels {one['batch_size']:,}" for name, one in models.items()
    )
    where = "the GPU's memory" if on_cuda else "memory"
    yield Finding(
        "batches",
        "note",
        f"Clips in a batch that {gib(free)} of {where} hold in fp32 (estimated; in bf16 more): {told}.",
        figures={"free_bytes": int(free), "models": models},
    )


def _speed(name: str) -> Iterator[Finding]:
    from muybridge.training.speed import measure_here

    frames, size = next(one[1:] for one in MODELS if one[0] == name)
    speed = measure_here(
        name, num_classes=101, num_frames=frames, size=size, batch_size=BATCH_SIZE, repetitions=REPETITIONS
    )
    rate = speed.train_clips_per_s
    if rate is None:
        yield Finding(
            "training-does-not-fit",
            "doubt",
            f"A batch of {BATCH_SIZE} clips of {name} does not fit in memory.",
            "Use smaller batches",
        )
        return
    seconds = UCF101_CLIPS * EPOCHS / rate
    threads = "" if speed.device.startswith("cuda") else f", {plural(speed.threads, 'thread')}"
    yield Finding(
        "training",
        "good",
        f"{name} trains {rate:,.1f} clips a second on {speed.device} ({speed.dtype}{threads}; measured, {frames} frames of "
        f"{size}x{size}). {EPOCHS} epochs of UCF101 would compute for {duration(seconds)} (estimated from it, without reading).",
        figures={
            **speed.as_json(),
            "model": name,
            "num_frames": frames,
            "size": size,
            "ucf101_seconds": round(seconds),
            "ucf101_epochs": EPOCHS,
        },
    )
