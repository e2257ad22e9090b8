"""A set with planted faults: made clips (`motions`), and among them copies, frozen and black ones, marks and wrong labels.

What is planted where is written down, so that what a check finds can be counted against it.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from muybridge.data.sets.motions import CLASSES as ALL
from muybridge.data.sets.motions import FPS, MIRROR, render

CLASSES = tuple(name for name in ALL if name != "empty")  # a scene in which nothing moves may rightly be called frozen
SIZED, MARKED = "grow", "turn_clockwise"
"""The class with a frame size of its own, and the one with a mark in a corner."""


@dataclass
class Planted:
    """The list of the set for `prepare --csv`, and the truth."""

    csv: Path
    copies: list[tuple[str, str]] = field(default_factory=list)
    """Pairs of paths: an original and what was made of it."""
    across: list[tuple[str, str]] = field(default_factory=list)
    mirrored: list[tuple[str, str]] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    black: list[str] = field(default_factory=list)
    mislabelled: list[str] = field(default_factory=list)


def resized(frames_THWC, height, width):
    frames = [av.VideoFrame.from_ndarray(np.ascontiguousarray(f), format="rgb24") for f in frames_THWC]
    return np.stack([f.reformat(width=width, height=height, interpolation="BICUBIC").to_ndarray() for f in frames])


def written(path, frames_THWC, *, fps=FPS, crf=23, codec="libx264"):
    """A video as people's tools write them: predicted frames, a rate factor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = (side // 2 * 2 for side in frames_THWC.shape[1:3])
        stream.pix_fmt = "yuv420p"
        stream.thread_type = "NONE"
        stream.options = (
            {"crf": str(crf), "preset": "veryfast", "threads": "1"} if codec == "libx264" else {"qscale": "4"}
        )
        for pixels in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())


def reencoded(frames_THWC, draw):
    """The same frames at another size and rate, a little cut at an end: (frames, rate, rate factor)."""
    count = len(frames_THWC)
    first, last = int(draw.integers(0, 3)), count - int(draw.integers(0, 3))
    fps = int(draw.choice([12, 15, 30]))
    times = np.arange(first / FPS, last / FPS, 1 / fps)
    side = int(draw.choice([40, 48, 80, 96]))
    picked = frames_THWC[np.clip(np.rint(times * FPS).astype(int), 0, count - 1)]
    return resized(picked, side, side), fps, int(draw.integers(20, 31))


def planted(
    folder,
    *,
    clips=400,
    seed=0,
    copies=20,
    across=5,
    mirrored=10,
    frozen=8,
    black=4,
    mislabelled=12,
    own_size=True,
    mark=True,
):
    """Write the set below `folder`."""
    draw = np.random.default_rng(seed)
    truth = Planted(folder / "set.csv")
    rows, frames_of = [], {}
    for index in range(clips):
        label = CLASSES[index % len(CLASSES)]
        frames = render(label, seed=seed + 1000, index=index)
        if mark and label == MARKED:
            frames = frames.copy()
            frames[:, 2:9, 52:62] = [230, 40, 40]
            frames[:, 4:7, 54:60] = 255
        if own_size and label == SIZED:
            frames = resized(frames, 64, 86)
        name = f"{label}/{index:05d}.mp4"
        written(folder / name, frames)
        frames_of[name] = frames
        rows.append([name, label, ("train", "train", "train", "val", "test")[index // len(CLASSES) % 5]])
    chosen = iter(draw.permutation(clips).tolist())

    def other(split):
        return "test" if split != "test" else "train"

    for number in range(copies + mirrored):
        name, label, split = rows[next(chosen)]
        is_mirrored = number >= copies
        frames, fps, crf = reencoded(frames_of[name][:, :, ::-1] if is_mirrored else frames_of[name], draw)
        copy = f"{label}/copy{number:03d}.mp4"
        written(folder / copy, frames, fps=fps, crf=crf)
        is_across = number < across
        shown = MIRROR.get(label, label) if is_mirrored else label
        rows.append([copy, shown, other(split) if is_across else split])
        (truth.mirrored if is_mirrored else truth.copies).append((name, copy))
        if is_across:
            truth.across.append((name, copy))
    for number in range(frozen + black):
        name, label, split = rows[next(chosen)]
        still = frames_of[name][5:6] if number < frozen else draw.integers(4, 10, (1, 64, 64, 3)).astype(np.uint8)
        new = f"{label}/still{number:03d}.mp4"
        written(folder / new, np.repeat(still, 24, axis=0))
        rows.append([new, label, split])
        (truth.frozen if number < frozen else truth.black).append(new)
    for _ in range(mislabelled):
        row = rows[next(chosen)]
        row[1] = str(draw.choice([name for name in CLASSES if name != row[1]]))
        truth.mislabelled.append(row[0])
    with truth.csv.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])
    return truth
