"""Training throughput, against the bare network's: what the loader and the loop cost.

    python benchmarks/train.py [--data MANIFEST|PACK] [--models a,b] [--rounds N] [--json]

Without --data `motions` videos are made and packed. All in one process; the ways take turns, so many steps each; medians
of clips a second, and of the ratios of neighbours.

bare     the network alone: forward, loss, backward and update on one batch of numbers, in plain torch
memory   `training_step` on batches that were collated before: pixels to input, mirroring, counting
train    `train` as a user calls it: from the pack, through the cache (or with --no-cache decoding in every step), crops,
         collation, the loop

loop     share of the time that `train` spends neither on waiting for a batch nor in `training_step`
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from muybridge import build
from muybridge.data.loader import train_batches
from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import motions
from muybridge.data.stores.pack import pack
from muybridge.data.views import Batch
from muybridge.recipe import Clip, Evaluation, Model, Optim, Recipe, Runtime, replace
from muybridge.runtime.device import to_device
from muybridge.training import loop as training
from muybridge.zoo import WeightedLogits

MODELS = ("tsn_resnet18", "tsm_resnet18", "i3d_resnet18")


class Turn(NamedTuple):
    """One of the loop."""

    started: float
    waited_seconds: float
    step_seconds: float
    clips: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12, help="of each way, a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-cache", action="store_true", help="decode from the files in every step")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or made_pack(Path(folder))
        rows = [measure(name, data, arguments) for name in arguments.models.split(",")]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':20}{'bare':>9}{'memory':>9}{'train':>9}  clips/s{'train ÷ bare':>15}{'loop':>8}")
    for row in rows:
        print(
            f"{row['model']:20}{row['bare_clips_per_s']:9.1f}{row['memory_clips_per_s']:9.1f}"
            f"{row['train_clips_per_s']:9.1f}{row['train_to_bare']:24.3f}{row['loop_share']:8.2%}"
        )


def made_pack(folder: Path) -> Path:
    manifest = motions(folder / "set", clips=200).manifest
    pack(manifest, out=folder / "pack", short_side=128)
    return folder / "pack"


def measure(name: str, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    runtime = Runtime(cache_gib=0, num_workers=0) if arguments.no_cache else Runtime()
    manifest = Manifest.load(data)
    recipe = Recipe(
        clip=Clip(num_frames=arguments.frames, size=arguments.size, short_side=128),
        model=Model(name=name),
        optim=Optim(batch_size=arguments.batch_size, steps_per_epoch=arguments.steps, epochs=1),
        evaluation=Evaluation(score_test=False),
    )
    recipe = build.resolve(replace(recipe, {"data.manifest": str(data)}), runtime, manifest)
    where = build.placement(recipe, runtime)
    rows = manifest.split("train", manifest.folds[0] if manifest.folds else None)
    if manifest.folds:
        recipe = replace(recipe, {"data.fold": manifest.folds[0]})
    reader, num_workers = build.reader_and_workers(recipe, runtime, manifest, rows)
    model = build.model(recipe, len(manifest.classes))
    to_device(model, where)
    optimizer = build.optimizer(recipe, model)
    model.train()
    source = train_batches(
        build.train_clips(recipe, manifest, reader), rows, batch_size=arguments.batch_size, first_step=0,
        num_workers=num_workers, pin_memory=False,
    )  # fmt: skip
    batches = list(islice(source, 8))
    source.close()
    x_BCTHW = torch.randn(arguments.batch_size, arguments.frames, arguments.size, arguments.size, 3)
    x_BCTHW = x_BCTHW.to(where.device).permute(0, 4, 1, 2, 3)
    labels_B = torch.randint(len(manifest.classes), (arguments.batch_size,), device=where.device)

    def bare(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            with where.autocast():
                out = model(x_BCTHW)
            logits_BK = out.logits_NBK[0] if isinstance(out, WeightedLogits) else out
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits_BK.float(), labels_B).backward()
            optimizer.step()
        if where.device.type == "cuda":
            torch.cuda.synchronize()
        return steps * arguments.batch_size / (time.perf_counter() - started)

    def memory(steps: int) -> float:
        started, clips = time.perf_counter(), 0
        for batch in islice(cycle(batches), steps):
            training.training_step(model, optimizer, batch, where, recipe)
            clips += len(batch.rows_B)
        return clips / (time.perf_counter() - started)

    bare(3)
    memory(3)
    rates: dict[str, list[float]] = {"bare": [], "memory": [], "train": []}
    loop_shares = []
    for _ in range(arguments.rounds):
        rates["bare"].append(bare(arguments.steps))
        rates["memory"].append(memory(arguments.steps))
        rate, loop_share = trained(recipe, manifest, runtime)
        rates["train"].append(rate)
        loop_shares.append(loop_share)
    ratios = [ours / theirs for ours, theirs in zip(rates["train"], rates["bare"], strict=True)]
    return {
        "model": name, "frames": arguments.frames, "size": arguments.size, "batch_size": arguments.batch_size,
        "precision": recipe.precision, "rounds": arguments.rounds, "steps": arguments.steps,
        **{f"{way}_clips_per_s": statistics.median(values) for way, values in rates.items()},
        "train_to_bare": statistics.median(ratios), "loop_share": statistics.median(loop_shares),
    }  # fmt: skip


def trained(recipe: Recipe, manifest: Manifest, runtime: Runtime) -> tuple[float, float]:
    """Clips a second of the steps of a real run without validation, and the share of its time that is the loop's own.
    The first two steps do not count."""
    step, batches_of = training.training_step, training.train_batches
    turns: list[Turn] = []
    asked = [0.0, 0.0]  # when a batch was asked for, and how long it took

    def watched_batches(*arguments: Any, **named: Any) -> Iterator[Batch]:
        source = batches_of(*arguments, **named)
        try:
            while True:
                started = time.perf_counter()
                batch = next(source)
                asked[:] = started, time.perf_counter() - started
                yield batch
        finally:
            source.close()

    def watched_step(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = step(*arguments, **named)
        turns.append(Turn(*asked, time.perf_counter() - started, len(arguments[2].rows_B)))
        return result

    with tempfile.TemporaryDirectory() as folder:
        training.training_step, training.train_batches = watched_step, watched_batches  # type: ignore[assignment]
        try:
            longer = replace(recipe, {"optim.steps_per_epoch": (recipe.optim.steps_per_epoch or 0) + 3})
            training.train(longer, out=Path(folder) / "run", runtime=runtime)
        finally:
            training.training_step, training.train_batches = step, batches_of
    *whole, last = turns[2:]  # a turn of the loop ends where the next one asks for a batch
    seconds = last.started - whole[0].started
    elsewhere = sum(turn.waited_seconds + turn.step_seconds for turn in whole)
    return sum(turn.clips for turn in whole) / seconds, 1 - elsewhere / seconds


if __name__ == "__main__":
    main()
