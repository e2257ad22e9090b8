"""Streams: milliseconds from frame to answer, frame by frame against the whole window each time, and memory over hours.

    python benchmarks/streaming.py [--models A,B] [--frames N] [--size S] [--threads N] [--cpu] [--memory] [--json]

Networks have weights that nobody trained, as speed does not depend on them. A clip is 8 frames, and an answer is due at each
frame. Both ways get the same frames in turn, in one process, so a busy machine slows both. Times are medians over the frames
after the first window: from a decoded frame to the answer, cropping included. `frames_a_second` is one over the median.
`--cpu` counts the processor's time in place of the clock's, as on a machine that others use; with one thread both are one.

`--memory` pushes 54,000 frames, half an hour at 30 a second, and prints what the process holds on the way.
"""

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import torch

from muybridge import build
from muybridge.inference.answering import FrameByFrame, TrainedNetwork
from muybridge.inference.stream import Stream
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.storage.calibration import Calibrated

MODELS = (
    "tsn_resnet_tiny", "tsm_resnet_tiny", "tsn_resnet18", "tsm_resnet18", "tsn_mobilenet_v2", "tsm_mobilenet_v2",
    "i3d_resnet_tiny",
)  # fmt: skip
NUM_FRAMES, CLASSES, FPS = 8, 10, 30
HALF_AN_HOUR = 54_000


class Untrained(TrainedNetwork):
    """A network that nobody trained."""

    def __init__(self, name: str, size: int, threads: int) -> None:
        changes: dict[str, Any] = {
            "model.name": name, "clip.num_frames": NUM_FRAMES, "clip.sampling": "dense", "clip.stride_frames": 1,
            "clip.size": size, "precision": "fp32",
        }  # fmt: skip
        if name.startswith("tsm"):
            changes["model.options.direction"] = "past"
        self.recipe = replace(Recipe(), changes)
        self.name, self.calibrated = name, Calibrated()
        self.dataset = {
            "classes": [f"class {k}" for k in range(CLASSES)], "mirror": {}, "longest_trained_seconds": 1.0,
        }  # fmt: skip
        self.where = build.placement(self.recipe, replace(Runtime(), {"threads": threads, "device": "cpu"}))
        self.model = build.model(self.recipe, num_classes=CLASSES).eval()


class ByWindows(Untrained):
    """The same, given the whole window each time."""

    def frame_by_frame(self, window_frames: int) -> FrameByFrame | None:
        """None, whatever the network is."""
        return None


def speed(name: str, size: int, frames: int, threads: int, now: Callable[[], float]) -> dict[str, Any]:
    """Median milliseconds of both ways."""
    ways = {"frame_by_frame": Stream(Untrained(name, size, threads), every_seconds=1 / FPS)}
    if not ways["frame_by_frame"].is_frame_by_frame:
        ways = {}
    ways["window"] = Stream(ByWindows(name, size, threads), every_seconds=1 / FPS)
    rng, times = np.random.default_rng(0), {way: [] for way in ways}
    for number in range(NUM_FRAMES + frames):
        pixels = rng.integers(0, 255, (size, size * 4 // 3, 3), dtype=np.uint8)
        for way, stream in ways.items():
            started = now()
            answer = stream.push(pixels, number / FPS)
            if answer is not None and number > NUM_FRAMES:
                times[way].append(1000 * (now() - started))
    found = {f"{way}_ms": statistics.median(taken) for way, taken in times.items()}
    if "frame_by_frame_ms" in found:
        found["times_as_fast"] = statistics.median(
            window / step for window, step in zip(times["window"], times["frame_by_frame"], strict=True)
        )
    fastest = found.get("frame_by_frame_ms", found["window_ms"])
    return {"model": name, "size": size, **found, "frames_a_second": 1000 / fastest}


def memory(name: str, threads: int, frames: int) -> dict[str, Any]:
    """MiB that the process holds after each sixth of the frames."""
    stream = Stream(Untrained(name, 32, threads), every_seconds=1.0)
    process, rng, held = psutil.Process(os.getpid()), np.random.default_rng(0), []
    pixels = rng.integers(0, 255, (64, 32, 42, 3), dtype=np.uint8)
    started = time.monotonic()
    for number in range(frames):
        stream.push(pixels[number % len(pixels)], number / FPS)
        if number % (frames // 6) == frames // 6 - 1:
            gc.collect()
            held.append(round(process.memory_info().rss / 2**20, 1))
    return {"model": name, "frames": frames, "mib": held, "seconds": time.monotonic() - started}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    now = time.process_time if asked.cpu else time.perf_counter
    for name in asked.models.split(","):
        if asked.memory:
            found = memory(name, asked.threads, HALF_AN_HOUR)
        else:
            found = speed(name, asked.size, asked.frames, asked.threads, now)
        if asked.json:
            print(json.dumps(found), flush=True)
        else:
            cells = (
                f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items()
            )
            print("  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
