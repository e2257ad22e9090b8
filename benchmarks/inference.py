"""Networks that answer: as trained, made ready (`muybridge.evaluation.ready`), compiled, and in bfloat16, by turns.

    OMP_NUM_THREADS=2 python benchmarks/inference.py [NETWORK…] [--size N] [--clips N] [--rounds N] [--ways WAY…] [--json]
    OMP_NUM_THREADS=2 python benchmarks/inference.py --run RUN [--data MANIFEST]

Ways: plain, auto, compiled, bf16-plain, bf16-auto. Times are those of one batch of `clips`, medians over the rounds; a ratio
is the median of those to the first way within a round. `processor` is the ratio of user and system time of all threads, which
a busy machine changes less. `ready_s` is what making ready and the first batch took: of `compiled` that is compiling, which is
shorter with what inductor has kept on disk. Norms have statistics as after training.

With `--run`, a finished run is scored in fp32, in fp32 as trained and in bf16: how far scores are apart, and accuracy.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import muybridge
from muybridge import build
from muybridge.evaluation.ready import Work, made_ready
from muybridge.evaluation.score import answer
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime.device import to_device

NETWORKS = ("tsm_resnet_tiny", "tsn_resnet18", "i3d_resnet18", "tsm_resnet50", "tsn_mobilenet_v2", "x3d_s")
WAYS = {
    "plain": ("fp32", Runtime(device="cpu", inference="plain")),
    "auto": ("fp32", Runtime(device="cpu")),
    "compiled": ("fp32", Runtime(device="cpu", compile=True)),
    "bf16-plain": ("bf16", Runtime(device="cpu", inference="plain")),
    "bf16-auto": ("bf16", Runtime(device="cpu")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["plain", "auto", "bf16-plain", "bf16-auto"])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    if arguments.run is not None:
        rows = of_run(arguments.run, arguments.data)
    for name in () if arguments.run is not None else arguments.networks:
        rows += timed(name, arguments.ways, arguments.frames, arguments.size, arguments.clips, arguments.rounds)
    print(json.dumps(rows, indent=2) if arguments.json else "\n".join(map(_line, rows)))


def timed(name: str, ways: list[str], frames: int, size: int, clips: int, rounds: int) -> list[dict[str, Any]]:
    """Times of a batch in each way, and how far its logits are from those of the first way."""
    calls: dict[str, Callable[[], torch.Tensor]] = {}
    rows = []
    for way in ways:
        precision, runtime = WAYS[way]
        recipe = replace(
            Recipe(), {"model.name": name, "clip.num_frames": frames, "clip.size": size, "precision": precision}
        )
        where = build.placement(recipe, runtime)
        torch.manual_seed(0)
        model = build.model(recipe, 10, pretrained=False).eval()
        _trained(model)
        to_device(model, where)
        x = torch.randn(model.zeros(frames, size, batch_size=clips).shape, generator=torch.Generator().manual_seed(1))
        if x.dim() == 5:
            x = x.to(memory_format=torch.channels_last_3d)

        def call(model: Any = model, x: torch.Tensor = x, where: Any = where) -> torch.Tensor:
            with torch.inference_mode(), where.autocast():
                out = model.head(model.features(x)) if model.looks_at == "frame" else answer(model, x)
                return out.float()

        start = time.perf_counter()
        told = str(made_ready(model, recipe, where, runtime, Work((clips,))))
        call()
        rows.append({"network": name, "size": size, "clips": clips, "way": way, "answered_by": told})
        rows[-1]["ready_s"] = time.perf_counter() - start
        calls[way] = call
    wall: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, call in calls.items():
            start, used = time.perf_counter(), time.process_time()
            call()
            wall[way].append(time.perf_counter() - start)
            processor[way].append(time.process_time() - used)
    first = calls[ways[0]]()
    for row in rows:
        way = row["way"]
        row["ms"] = 1000 * statistics.median(wall[way])
        row["ratio"] = _ratio(wall[way], wall[ways[0]])
        row["processor"] = _ratio(processor[way], processor[ways[0]])
        row["logits_apart"] = float((calls[way]() - first).abs().max() / first.abs().max())
    return rows


def of_run(run: Path, data: Path | None) -> list[dict[str, Any]]:
    """Scores of a run in each way, against those in fp32 as trained."""
    rows, first = [], None
    for way in ("plain", "auto", "bf16-plain", "bf16-auto"):
        precision, runtime = WAYS[way]
        start = time.perf_counter()
        scores = muybridge.evaluate(run, data=data, changes={"precision": precision}, runtime=runtime)
        seconds = time.perf_counter() - start
        probabilities = scores.video_probabilities()
        first = probabilities if first is None else first
        apart = np.abs(probabilities - first)
        rows.append({
            "run": str(run), "way": way, "answered_by": scores.answered_by, "seconds": seconds,
            "largest_apart": float(apart.max()), "mean_apart": float(apart.mean()),
            "other_answers": int((probabilities.argmax(1) != first.argmax(1)).sum()), "videos": len(probabilities),
            "accuracy": scores.video_accuracy(),
        })  # fmt: skip
    return rows


@torch.no_grad()
def _trained(model: nn.Module) -> None:
    """Draw norms' statistics as after training."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 2)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _line(row: dict[str, Any]) -> str:
    if "run" in row:
        return (
            f"{row['way']:10}  {row['seconds']:6.2f} s  probabilities apart: {row['largest_apart']:.1e} at most, "
            f"{row['mean_apart']:.1e} on average; {row['other_answers']} of {row['videos']} other answers; accuracy "
            f"{row['accuracy']:.3f}; {row['answered_by']}"
        )
    return (
        f"{row['network']:18} {row['size']:3} x {row['clips']}  {row['way']:10}  {row['ms']:7.1f} ms  ratio {row['ratio']:.2f}  "
        f"processor {row['processor']:.2f}  apart {row['logits_apart']:.0e}  ready {row['ready_s']:.1f} s  {row['answered_by']}"
    )


if __name__ == "__main__":
    main()
