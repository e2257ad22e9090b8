"""Evaluation with 10 clips × 3 crops: the time of `score` against the least it could be, and against each view alone.

    OMP_NUM_THREADS=2 python benchmarks/evaluate.py [--manifest FILE.csv] [--models a,b] [--videos N] [--rounds N] [--cpu-time]
        [--json]

Makes `motions` videos unless a manifest is given. Networks with random weights, 8 frames of 112 x 112 (the short side 128),
uniform sampling, one process, fp32. In every round each has its turn:

- ours: `score`, from the files, as `muybridge evaluate` calls it;
- the bound, in two parts: each distinct frame decoded once; each distinct input (a clip, or a frame where a network looks
  at single frames), cut and normalised beforehand, forwarded once in batches of the same size;
- naive: each view a clip of its own, decoded and forwarded, in batches, as toolkits do in which a view is a sample.

Given are medians over the rounds, of times and of the ratios within a round, and the largest difference of a score.
`--cpu-time` counts the process's CPU time instead: for a machine with other work, and OMP_NUM_THREADS=1.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge.data.inputs import RGB
from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec, test_indices
from muybridge.data.sets.motions import motions
from muybridge.data.transforms import crop_resize, test_boxes
from muybridge.data.views import VideoViews
from muybridge.evaluation.score import score
from muybridge.recipe import Runtime
from muybridge.runtime.device import Placement, find_device, keep_memory, to_device
from muybridge.video import FileReader
from muybridge.zoo import VideoModel, create

FRAMES, SIZE, SHORT_SIDE = 8, 112, 128
SPEC = ClipSpec(num_frames=FRAMES, sampling="uniform")
LARGEST_RATIO, LARGEST_DIFFERENCE = 1.15, 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--models", default="tsn_resnet18,i3d_resnet18")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--crops", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest.load(arguments.manifest or motions(Path(folder) / "set", clips=60).manifest)
        rows = np.linspace(0, len(manifest) - 1, arguments.videos).astype(int)
        found = [
            measure(
                name,
                manifest,
                rows,
                arguments.clips,
                arguments.crops,
                arguments.batch_size,
                arguments.rounds,
                time.process_time if arguments.cpu_time else time.perf_counter,
            )
            for name in arguments.models.split(",")
        ]
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{'model':16} {'ours s':>7} {'bound s':>8} {'decode':>7} {'ratio':>6} {'naive s':>8} {'ratio':>6} {'difference':>11}"
    )
    for row in found:
        print(
            f"{row['model']:16} {row['ours_seconds']:7.2f} {row['bound_seconds']:8.2f} {row['decode_seconds']:7.2f} "
            f"{row['ratio_to_bound']:6.3f} {row['naive_seconds']:8.2f} {row['naive_to_ours']:6.2f} "
            f"{row['largest_difference']:11.1e}  {'pass' if row['pass'] else 'FAIL'}"
        )


def measure(
    name: str, manifest: Manifest, rows: np.ndarray, num_clips: int, num_crops: int, batch_size: int, rounds: int,
    clock: Callable[[], float],
) -> dict[str, Any]:  # fmt: skip
    where = Placement(find_device(Runtime().device))
    keep_memory()
    torch.manual_seed(0)
    model = create(name, num_classes=len(manifest.classes), num_frames=FRAMES).eval()
    to_device(model, where)
    reader = FileReader(short_side=SHORT_SIDE)
    views = VideoViews(
        manifest, reader, SPEC, size=SIZE, num_clips=num_clips, num_crops=num_crops, crop_fraction=SIZE / SHORT_SIDE
    )
    by_frame = model.looks_at == "frame"
    inputs = distinct_inputs(model, manifest, rows, reader, num_clips, num_crops, where, by_frame=by_frame)
    at_a_time = batch_size * FRAMES if by_frame else batch_size

    def ours() -> np.ndarray:
        return score(
            model, views, rows, where=where, labels_N=manifest.labels()[rows], classes=manifest.classes,
            average="logits", batch_size=batch_size,
        )["ordered"].logits_VK  # fmt: skip

    def decoding() -> None:
        for row in map(manifest.row, rows.tolist()):
            reader.read(row, np.unique(test_indices(row.num_frames, row.fps, SPEC, num_clips=num_clips)))

    def forwarding() -> None:
        with torch.inference_mode():
            for x_BCTHW in inputs.split(at_a_time):
                (model.features(x_BCTHW) if by_frame else model(x_BCTHW)).cpu()

    def naive() -> np.ndarray:
        return one_by_one(model, manifest, rows, reader, num_clips, num_crops, where, batch_size)

    turns: dict[str, Callable[[], Any]] = {"ours": ours, "decode": decoding, "forward": forwarding, "naive": naive}
    difference = float(np.abs(turns["ours"]() - turns["naive"]()).max())  # (this warms them, too)
    forwarding()
    seconds: dict[str, list[float]] = {turn: [] for turn in turns}
    for number in range(rounds):
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
        for turn in np.roll(list(turns), number).tolist():
            started = clock()
            turns[turn]()
            seconds[turn].append(clock() - started)
    bound = [a + b for a, b in zip(seconds["decode"], seconds["forward"], strict=True)]
    ratio = statistics.median(a / b for a, b in zip(seconds["ours"], bound, strict=True))
    return {
        "model": name, "videos": len(rows), "num_clips": num_clips, "num_crops": num_crops, "batch_size": batch_size,
        "distinct_inputs": len(inputs), "looks_at": model.looks_at, "threads": torch.get_num_threads(),
        "device": where.device.type, "rounds": rounds, "clock": clock.__name__,
        **{f"{turn}_seconds": statistics.median(values) for turn, values in seconds.items()},
        "bound_seconds": statistics.median(bound), "ratio_to_bound": ratio,
        "naive_to_ours": statistics.median(a / b for a, b in zip(seconds["naive"], seconds["ours"], strict=True)),
        "largest_difference": difference, "largest_score": float(np.abs(naive()).max()),
        "pass": ratio <= LARGEST_RATIO and difference <= LARGEST_DIFFERENCE,
    }  # fmt: skip


def distinct_inputs(
    model: VideoModel, manifest: Manifest, rows: np.ndarray, reader: FileReader, num_clips: int, num_crops: int,
    where: Placement, *, by_frame: bool,
) -> torch.Tensor:  # fmt: skip
    """Normalised, on the device: every distinct clip of each video and crop, or every distinct frame."""
    found = []
    for row in map(manifest.row, rows.tolist()):
        indices_MT = test_indices(row.num_frames, row.fps, SPEC, num_clips=num_clips)[..., 0]
        indices_MT = np.unique(indices_MT)[:, None] if by_frame else np.unique(indices_MT, axis=0)
        frames = reader.read(row, indices_MT.reshape(-1))
        boxes = test_boxes(*frames.shape[1:3], num_crops=num_crops, crop_fraction=SIZE / SHORT_SIDE)
        for box in dict.fromkeys(boxes):
            clips_MTHWC = crop_resize(frames, box, SIZE).reshape(*indices_MT.shape, SIZE, SIZE, 3)
            found.append(normalised(model, clips_MTHWC, where))
    return torch.cat([x_BCTHW.permute(0, 2, 3, 4, 1) for x_BCTHW in found]).permute(0, 4, 1, 2, 3)


def one_by_one(
    model: VideoModel, manifest: Manifest, rows: np.ndarray, reader: FileReader, num_clips: int, num_crops: int,
    where: Placement, batch_size: int,
) -> np.ndarray:  # fmt: skip
    """(V,K): every view is read, cut and forwarded as if there were no other."""
    logits: list[np.ndarray] = []
    waiting: list[np.ndarray] = []

    def forward() -> None:
        with torch.inference_mode():
            logits.append(model(normalised(model, np.stack(waiting), where)).float().cpu().numpy())
        waiting.clear()

    for row in map(manifest.row, rows.tolist()):
        for clip in range(num_clips):
            for crop in range(num_crops):
                indices_T = test_indices(row.num_frames, row.fps, SPEC, num_clips=num_clips)[clip, :, 0]
                frames = reader.read(row, indices_T)
                boxes = test_boxes(*frames.shape[1:3], num_crops=num_crops, crop_fraction=SIZE / SHORT_SIDE)
                waiting.append(crop_resize(frames, boxes[crop], SIZE))
                if len(waiting) == batch_size:
                    forward()
    if waiting:
        forward()
    return np.concatenate(logits)


def normalised(model: VideoModel, clips_BTHWC: np.ndarray, where: Placement) -> torch.Tensor:
    mean, std = model.preprocessing.mean, model.preprocessing.std
    return RGB.to_model(torch.from_numpy(clips_BTHWC).to(where.device), None, mean=mean, std=std)


if __name__ == "__main__":
    main()
