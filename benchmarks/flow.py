"""Optical flow: how fast each method is, what a store of it takes, and how exact it is.

    OMP_NUM_THREADS=1 python benchmarks/flow.py [--videos N] [--rounds N] [--only methods,store,exactness]

Made clips of a moving texture, one process. Each round gives everything its turn; given are medians over the rounds.

- methods: frames a second of one thread, by CPU time, at 160 x 120 and 340 x 256, and with the camera's motion taken out;
- store: bytes a video and frames a second of `muybridge flow`, decoding and coding included, for each codec, and of reading
  8 stacks of 5 fields back;
- exactness: median distance to the known motion, in pixels, as it is stored and as a network sees a crop that is resized.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import muybridge
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.video import FileReader, fields
from muybridge.video import flow as methods

SIZES = ((160, 120), (340, 256))
CODECS = ("jpeg", "h264", "png")
FRAMES = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="methods,store,exactness")
    arguments = parser.parse_args()
    parts = {"methods": of_methods, "store": of_store, "exactness": exactness}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only.split(","):
            print(json.dumps({name: parts[name](Path(folder), arguments.videos, arguments.rounds)}), flush=True)


def moving(step_33: np.ndarray, frames: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Frames (T,H,W,3) of a smooth random texture that moves by one matrix a frame."""
    noise = np.random.default_rng(seed).normal(size=(700, 700, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5) + 3 * cv2.GaussianBlur(noise, (0, 0), 6)
    low, high = np.percentile(smooth, (1, 99))
    picture = np.clip((smooth - low) / (high - low) * 255, 0, 255)
    middle = np.array([[1, 0, -180.0], [0, 1, -190.0], [0, 0, 1]])
    clip = [
        cv2.warpPerspective(picture, np.linalg.matrix_power(step_33, t) @ middle, size, flags=cv2.INTER_CUBIC)
        for t in range(frames)
    ]
    return np.clip(np.rint(clip), 0, 255).astype(np.uint8)


def motion(degrees: float, scale: float, moved: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    turned = np.vstack([cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), degrees, scale), [0, 0, 1]])
    return np.array([[1, 0, moved[0]], [0, 1, moved[1]], [0, 0, 1]]) @ turned


def of_methods(folder: Path, videos: int, rounds: int) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for size in SIZES:
            clip = moving(motion(0.3, 1.0, (1.5, -1.0), size), 6, size, 0)
            for name in ("dis", "farneback", "tvl1"):
                how = methods.method(name)
                images = [how.image(frame) for frame in clip]
                pairs = list(pairwise(images))[: 1 if name == "tvl1" else 5]
                kinds = {name: how.between, f"{name} warped": lambda a, b, how=how: methods.without_camera(how, a, b)}
                for kind, compute in kinds.items():
                    if kind == "tvl1 warped":  # twice that of tvl1
                        continue
                    started = time.process_time()
                    for first, second in pairs:
                        compute(first, second)
                    seconds = time.process_time() - started
                    speeds.setdefault(f"{kind} {size[0]}x{size[1]}", []).append(len(pairs) / seconds)
    return {name: round(statistics.median(each), 2) for name, each in speeds.items()}


def of_store(folder: Path, videos: int, rounds: int) -> dict[str, Any]:
    size = SIZES[1]
    clips = [moving(motion(0.2 * n, 1 + 0.004 * n, (n % 3, -n % 2), size), FRAMES, size, n) for n in range(videos)]
    np.save(folder / "clips.npy", np.stack(clips))
    labels = np.arange(videos) % 2
    made = muybridge.prepare(
        arrays=folder / "clips.npy", labels=labels, out=folder / "set.csv", all_as="train"
    ).manifest
    found: dict[str, dict[str, list[float]]] = {codec: {"write": [], "read": []} for codec in CODECS}
    sizes = {}
    for number in range(rounds):
        for codec in CODECS:
            started = time.process_time()
            done = muybridge.flow(made, out=folder / f"{codec}{number}", codec=codec, jobs=1)
            found[codec]["write"].append(done.computed / (time.process_time() - started))
            sizes[codec] = done.bytes / done.videos
            rows, reader = Manifest.load(done.path), FileReader()
            stacks = (np.linspace(0, FRAMES - 7, 8).astype(int)[:, None] + np.arange(5)).reshape(-1)
            started = time.process_time()
            for index in range(len(rows)):
                reader.read(rows.row(index), stacks)
            found[codec]["read"].append(len(rows) / (time.process_time() - started))
    return {
        codec: {
            "bytes_per_field": round(sizes[codec] / (FRAMES - 1)), "bytes_per_video": round(sizes[codec]),
            "fields_written_per_second": round(statistics.median(times["write"]), 1),
            "clips_read_per_second": round(statistics.median(times["read"]), 1),
        }
        for codec, times in found.items()
    }  # fmt: skip


def exactness(folder: Path, videos: int, rounds: int) -> dict[str, Any]:
    size = SIZES[0]
    steps = {
        "moved by (3,-2)": motion(0, 1, (3, -2), size), "scaled by 1.04": motion(0, 1.04, (0, 0), size),
        "turned by 2 degrees": motion(2, 1, (0, 0), size),
    }  # fmt: skip
    np.save(folder / "known.npy", np.stack([moving(step, 5, size, 0) for step in steps.values()]))
    made = muybridge.prepare(
        arrays=folder / "known.npy", labels=np.arange(3), out=folder / "known.csv", all_as="train"
    ).manifest
    shown, box, side = inputs.find("flow").stacked(1), (4, 30, 112, 84), 96
    y, x = np.mgrid[: size[1], : size[0]].astype(float)
    rows, columns = np.mgrid[:side, :side]
    crop_y, crop_x = box[0] + (rows + 0.5) * box[2] / side - 0.5, box[1] + (columns + 0.5) * box[3] / side - 0.5
    found: dict[str, Any] = {}
    for codec in CODECS:
        store = Manifest.load(muybridge.flow(made, out=folder / f"known-{codec}", codec=codec).path)
        for index, (name, step) in enumerate(steps.items()):
            codes = FileReader().read(store.row(index), np.arange(4))
            as_stored = _off(fields.vectors_of(codes, 20), _field(step, x, y))
            fitted = shown.fitted(codes, box, side).astype(np.float32) * 20 / 127
            expected = _field(step, crop_x, crop_y) * (side / box[3], side / box[2])
            found[f"{codec}, {name}"] = [round(as_stored, 3), round(_off(fitted, expected), 3)]
    return found


def _field(step_33: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    to = np.stack([x, y, np.ones_like(x)], axis=-1) @ step_33.T
    return to[..., :2] - np.stack([x, y], axis=-1)


def _off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(found - expected, axis=-1)))


if __name__ == "__main__":
    main()
