"""Training throughput through the loader, against the same loop fed from memory.

    python benchmarks/train.py [--manifest DIR/manifest.csv] [--models a,b] [--rounds N] [--json]

Makes `motions` videos unless a manifest is given. One process; the two ways take turns, a whole epoch each; medians.
"Loader" is what `train` does by default (RAM cache, sampling, crops, collation); "memory" repeats the first batches,
collated once. The training step is the same function.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from muybridge import build
from muybridge.data.loader import Batch, train_batches
from muybridge.data.manifest import Manifest
from muybridge.data.motions import motions
from muybridge.demo import CLIPS, MODELS
from muybridge.recipe import Runtime, replace
from muybridge.recipes import demo
from muybridge.training import training_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest_file = arguments.manifest or motions(Path(folder) / "set", clips=CLIPS).manifest
        rows = [measure(name, manifest_file, arguments.rounds) for name in arguments.models.split(",")]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':20} {'loader clips/s':>15} {'memory clips/s':>15} {'ratio':>7}")
    for row in rows:
        print(
            f"{row['model']:20} {row['loader_clips_per_s']:15.0f} {row['memory_clips_per_s']:15.0f} {row['ratio']:7.3f}"
        )


def measure(name: str, manifest_file: Path, rounds: int) -> dict[str, float | str]:
    """Medians over `rounds` epochs, and the median of the ratios of neighbours."""
    runtime = Runtime()
    manifest = Manifest.load(manifest_file)
    recipe = replace(demo(), {"data.manifest": str(manifest_file), "model.name": name})
    recipe = build.resolve(recipe, runtime, manifest)
    where = build.placement(recipe, runtime)
    rows = manifest.split("train")
    reader, num_workers = build.reader_and_workers(recipe, runtime, manifest, rows)
    model = build.model(recipe, len(manifest.classes))
    build.place(model, where)
    optimizer = build.optimizer(recipe, model)
    model.train()
    per_epoch = build.steps_per_epoch(recipe, len(rows))

    def batches(epoch: int) -> Iterator[Batch]:
        return train_batches(
            build.train_clips(recipe, manifest, reader), rows, batch_size=recipe.optim.batch_size,
            first_step=epoch * per_epoch, num_steps=(epoch + 1) * per_epoch, num_workers=num_workers, pin_memory=False,
        )  # fmt: skip

    def rate(source: Iterator[Batch]) -> float:
        started, clips = time.perf_counter(), 0
        for batch in source:
            training_step(model, optimizer, batch, where, recipe)
            clips += len(batch.rows_B)
        return clips / (time.perf_counter() - started)

    memory = list(islice(batches(0), 8))
    rate(iter(memory))  # warm
    loader_rates, memory_rates = [], []
    for epoch in range(rounds):
        loader_rates.append(rate(batches(epoch)))
        memory_rates.append(rate(islice(cycle(memory), per_epoch)))
    ratios = [a / b for a, b in zip(loader_rates, memory_rates, strict=True)]
    return {
        "model": name,
        "loader_clips_per_s": statistics.median(loader_rates),
        "memory_clips_per_s": statistics.median(memory_rates),
        "ratio": statistics.median(ratios),
    }


if __name__ == "__main__":
    main()
