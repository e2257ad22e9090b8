"""Stored features: how fast they are made, read and trained on, and what twenty heads at once cost.

    OMP_NUM_THREADS=1 python benchmarks/features.py [--videos N] [--rounds N] [--folder DIR] [--only extraction,epoch,heads]

Made videos and random weights, one process, fp32. Each round gives everything its turn; given are medians over the rounds.

- extraction: frames per second of `features` (decoding, network, writing) over those of the network alone on the same
  batches, in CPU seconds of the process (decoding is done by threads of it);
- epoch: a store of `--videos` videos x 120 x 1,024 in float32, random numbers. An epoch of an LSTM on it, by the training
  loop, against an epoch of an image network (`tsn_resnet18`, one frame of 112 pixels a video), by the clips a second of
  its training steps. Memory of the process that is not a file's, at five moments of the epoch;
- heads: training steps of twenty copies at once over those of one, by the loop, from the same store.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import muybridge
from muybridge.data.manifest import Manifest, from_columns
from muybridge.data.sets.motions import motions
from muybridge.data.stores import vectors as store
from muybridge.evaluation.vectors import Work, source_of
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.recipe.shipped import load
from muybridge.training import loop
from muybridge.user_code import allow

FRAMES, WIDTH, CLASSES = 120, 1024, 101
RUNTIME = Runtime(threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=13_320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", default="extraction,epoch,heads")
    arguments = parser.parse_args()
    parts = {"extraction": extraction, "epoch": epoch, "heads": heads}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.only.split(","):
            print(json.dumps({name: parts[name](Path(folder), arguments.videos, arguments.rounds)}), flush=True)


def extraction(folder: Path, videos: int, rounds: int) -> dict[str, Any]:
    made = motions(folder / "motions", clips=60, seed=0).manifest
    run = muybridge.train(
        "small", model="tsn_resnet18", data=made, out=folder / "run", steps=1, runtime=RUNTIME,
        changes={"clip.num_frames": 1, "evaluation.num_clips": 1, "clip.size": 112, "clip.short_side": 128},
    )  # fmt: skip
    manifest = Manifest.load(made)
    source = source_of(run.path, None, None, {}, False, RUNTIME)
    work = Work(source, manifest, made, None, False, None, None, "float32", RUNTIME)
    ratios, speeds = [], []
    with torch.inference_mode():
        work.model.eval()
        next(work.compute([0], 1))
        for number in range(rounds):
            ours = _cpu(lambda: muybridge.features(
                run.path, data=made, out=folder / f"store{number}", jobs=1, runtime=RUNTIME  # noqa: B023
            ))  # fmt: skip
            counts = manifest.columns["num_frames"].tolist()
            batches = [work.input.zeros(count, 1, 112).numpy() for count in counts]
            bare = _cpu(lambda: [work._forward(batch) for batch in batches])  # noqa: B023
            ratios.append(bare / ours)
            speeds.append(sum(counts) / ours)
    return {
        "of_the_bare_network": statistics.median(ratios),
        "frames_per_cpu_second": statistics.median(speeds),
        "all": ratios,
    }


def _cpu(call: Any) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def made_store(folder: Path, videos: int) -> Path:
    """A store of random vectors, as `features` writes one."""
    out = folder / f"vectors-{videos}"
    if out.exists():
        return out
    out.mkdir(parents=True)
    generator = np.random.default_rng(0)
    labels = [f"class{i % CLASSES:03d}" for i in range(videos)]
    split = np.array(["train", "train", "train", "train", "train", "train", "train", "val", "test", "test"])
    splits = split[np.arange(videos) // CLASSES % 10].tolist()
    columns: dict[str, Any] = {
        "id": [f"video{i:05d}" for i in range(videos)], "path": ["x.mp4"] * videos, "start_frame": [0] * videos,
        "num_frames": [FRAMES] * videos, "label": labels, "group": [""] * videos, "fps": [25.0] * videos,
        "width": [320] * videos, "height": [240] * videos, "sha256": [f"{i:064x}" for i in range(videos)], "split": splits,
    }  # fmt: skip
    source = from_columns(columns, classes=sorted(set(labels)), root=folder, mirror=None)
    parts = store.parts_of([FRAMES] * videos, WIDTH, "float32")
    for part in parts:
        with store.PartWriter(out, part, widths={"vectors": WIDTH}, dtype="float32") as writer:
            for count in part.counts:
                writer.add(vectors=generator.standard_normal((count, WIDTH), dtype=np.float32))
            writer.close()
    about = {
        "format_version": 1, "source": "random numbers", "network": "0" * 64, "source_sha256": source.sha256(),
        "manifest": "none", "width": WIDTH, "dtype": "float32", "classes": None, "options": {},
        "trained_on_sha256": store.digest([]), "finished": True,
    }  # fmt: skip
    store.finish(out, source, about, parts, fps_N=np.full(videos, 25.0))
    store.save_trained_on(out, [])
    (out / "features.json").write_text(json.dumps(about))
    return out


def _recipe(data: Path, model: str, **changes: Any) -> Recipe:
    allow(model)
    return replace(load("heads"), {
        "data.manifest": str(data), "model.name": model, "optim.lr_grid": [], "optim.weight_decay_grid": [],
        "optim.min_steps": 0, "optim.epochs": 1, "optim.batch_size": 64, "evaluation.score_test": False,
        "precision": "fp32", **changes,
    })  # fmt: skip


def _clips_per_second(recipe: Recipe, out: Path) -> float:
    run = loop.train(recipe, out=out, runtime=RUNTIME)
    return float(run.timing()[-1]["train_clips_per_s"])


def epoch(folder: Path, videos: int, rounds: int) -> dict[str, Any]:
    data = made_store(folder, videos)
    anonymous: list[float] = []
    step, process = loop.training_step, psutil.Process()

    def watched(*given: Any, **named: Any) -> Any:
        memory = process.memory_info()
        anonymous.append((memory.rss - memory.shared) / 2**20)
        return step(*given, **named)

    loop.training_step = watched
    try:
        of_store = _clips_per_second(_recipe(data, "lstm"), folder / "lstm")
    finally:
        loop.training_step = step
    made = motions(folder / "frames", clips=400, seed=1).manifest
    frames = replace(load("small"), {
        "data.manifest": str(made), "model.name": "tsn_resnet18", "clip.num_frames": 1, "clip.size": 112,
        "clip.short_side": 112, "optim.min_steps": 0, "optim.epochs": 1, "optim.warmup_epochs": 0,
        "evaluation.score_test": False, "evaluation.num_clips": 1, "precision": "fp32",
    })  # fmt: skip
    of_frames = _clips_per_second(frames, folder / "network") / FRAMES  # a video's frames, one at a time
    moments = np.linspace(0, len(anonymous) - 1, 5).astype(int)
    return {
        "store_videos_per_second": of_store, "network_videos_per_second": of_frames, "times_as_fast": of_store / of_frames,
        "one_frame_a_video_times_as_fast": of_store / (of_frames * FRAMES),
        "anonymous_mib": [round(anonymous[moment]) for moment in moments], "steps": len(anonymous),
    }  # fmt: skip


def heads(folder: Path, videos: int, rounds: int) -> dict[str, Any]:
    data = made_store(folder, min(videos, 2000))
    found: dict[str, Any] = {}
    grid = {"optim.lr_grid": [5e-3, 3e-3, 1e-3, 3e-4, 1e-4], "optim.weight_decay_grid": [0.01, 0.1, 0.4, 0.8]}
    for model in ("mean_pool", "attentive", "lstm"):
        ratios = []
        small = {"optim.steps": 12, "clip.num_frames": 30, "optim.batch_size": 32}
        for number in range(rounds if model != "attentive" else 1):
            one, all_of_them = (
                _clips_per_second(_recipe(data, model, **small, **changes), folder / f"{model}-{name}-{number}")
                for name, changes in (("one", {}), ("twenty", grid))
            )
            ratios.append(one / all_of_them)
        found[model] = {"twenty_over_one": statistics.median(ratios), "all": ratios}
    return found


if __name__ == "__main__":
    main()
