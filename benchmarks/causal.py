"""A TSM of both directions, by sliding windows, against one that looks back only, frame by frame, on long made videos.

    python benchmarks/causal.py BOTH PAST [--videos N] [--events N] [--windows 8,4,2] [--json]

BOTH is a run of `motions` clips, PAST what `muybridge causal` made of it. Each long video is a row of `motions` scenes of a
second, every second one empty, so that events begin and end at known frames. Answers come at each time step of the clips
and count for that moment: a sliding window has seen nothing later than its last frame. `centre` counts the same windows
for the frame in their middle, which nobody can in a live stream.

Average precision is over the time steps, a mean over the classes that move (frame mAP). An event is decided at the first
step from which the answer is right until it ends; the time to decision is counted from its first frame, over events that
are decided. `forward` is the number of frames that go through the image network for an answer.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge.analysis.detection import frame_average_precision
from muybridge.data import inputs
from muybridge.data.random import generator
from muybridge.data.sets import motions
from muybridge.evaluation.trained import trained
from muybridge.recipe import Recipe
from muybridge.storage.run import Run
from muybridge.storage.scores import softmax
from muybridge.video import FileReader, Row
from muybridge.zoo import VideoModel
from muybridge.zoo.steps import steps

SEED = 5
"""Seed of the long videos, which no set of the documents has."""
MOVING = tuple(name for pair in motions.PAIRS for name in pair)


def long_video(path: Path, index: int, events: int) -> np.ndarray:
    """Write a video of events with an empty second between each two; returns the label of every frame."""
    draw = generator(SEED, "long video", index)
    labels = [label for event in draw.choice(MOVING, events) for label in ("empty", str(event))] + ["empty"]
    scenes = [motions.render(label, seed=SEED, index=1000 * index + number) for number, label in enumerate(labels)]
    motions.encode(path, np.concatenate(scenes))
    return np.repeat(labels, motions.NUM_FRAMES)


def shown(path: Path, num_frames: int, recipe: Recipe, model: VideoModel) -> tuple[np.ndarray, torch.Tensor]:
    """Frame numbers of the time steps of a whole video, and x_1CTHW."""
    clip = recipe.clip
    assert clip.fps == motions.FPS, "a run of motions clips at their own rate"
    indices = np.arange(0, num_frames, clip.stride_frames)
    row = Row("", str(path), 0, num_frames, float(motions.FPS))
    kind = inputs.of(clip)
    frames_THWC = kind.reader(FileReader(short_side=clip.short_side)).read(row, indices)
    assert frames_THWC.shape[1] == recipe.test_size
    x = torch.from_numpy(frames_THWC)[None]
    return indices, kind.to_model(x, None, mean=model.preprocessing.mean, std=model.preprocessing.std)


@torch.no_grad()
def by_windows(model: VideoModel, x_1CTHW: torch.Tensor, length: int) -> np.ndarray:
    """Logits (T,K) of the window that ends at each time step; shorter ones at the start hold the first frame."""
    first = x_1CTHW[:, :, :1].expand(-1, -1, length - 1, -1, -1)
    windows = torch.cat([first, x_1CTHW], dim=2)[0].unfold(1, length, 1).permute(1, 0, 4, 2, 3)  # T,C,L,H,W
    return torch.cat([model(part) for part in windows.split(32)]).numpy()


def by_steps(model: VideoModel, x_1CTHW: torch.Tensor, window: int) -> np.ndarray:
    """Logits (T,K) frame by frame."""
    stepped = steps(model, window)
    assert stepped is not None
    state, answers = stepped.start(), []
    for x_1CHW in x_1CTHW.unbind(2):
        logits_1K, state = stepped.step(x_1CHW, state)
        answers.append(logits_1K[0])
    return torch.stack(answers).numpy()


def judged(
    logits: Sequence[np.ndarray], labels: Sequence[np.ndarray], classes: Sequence[str], step: int
) -> dict[str, Any]:
    """Frame mAP, the share of events that are decided, and the median seconds until they are."""
    scores_TK, labels_T = softmax(np.concatenate(logits)), np.concatenate(labels)
    precisions = [frame_average_precision(scores_TK[:, classes.index(name)], labels_T == name) for name in MOVING]
    seconds, count = [], 0
    for logits_TK, labels_T in zip(logits, labels, strict=True):
        right_T = np.array(classes)[logits_TK.argmax(1)] == labels_T
        borders = np.flatnonzero(labels_T[1:] != labels_T[:-1]) + 1
        for begin, end in zip([0, *borders], [*borders, len(labels_T)], strict=True):
            if labels_T[begin] not in MOVING:
                continue
            count += 1
            wrong = np.flatnonzero(~right_T[begin:end])
            first = wrong[-1] + 1 if len(wrong) else 0
            if begin + first < end:
                seconds.append(first * step / motions.FPS)
    return {
        "frame_map": float(np.mean(precisions)), "decided": len(seconds) / count, "events": count,
        "seconds_to_decision": float(np.median(seconds)) if seconds else None,
    }  # fmt: skip


def main() -> None:
    """Make the videos, ask both networks, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("both", type=Path)
    parser.add_argument("past", type=Path)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--events", type=int, default=30)
    parser.add_argument("--windows", default="8,4,2")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)

    recipe, other = Run.open(given.both).recipe(), Run.open(given.past).recipe()
    assert recipe.clip == other.clip, "the two runs see the same clips"
    networks = [trained(path) for path in (given.both, given.past)]
    both, past = (network.load("last").eval() for network in networks)
    classes, length, step = list(networks[0].classes), recipe.clip.num_frames, recipe.clip.stride_frames
    windows = [int(text) for text in given.windows.split(",")]
    found: dict[str, list[np.ndarray]] = {}
    labels, centred = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(given.videos):
            path = Path(folder) / f"{index}.mp4"
            labels_F = long_video(path, index, given.events)
            indices, x_1CTHW = shown(path, len(labels_F), recipe, both)
            labels.append(labels_F[indices])
            logits_TK = by_windows(both, x_1CTHW, length)
            found.setdefault(f"both, windows of {length}", []).append(logits_TK)
            late = length // 2
            centred.append(np.concatenate([logits_TK[late:], np.repeat(logits_TK[-1:], late, axis=0)]))
            for window in windows:
                found.setdefault(f"past, mean of {window}", []).append(by_steps(past, x_1CTHW, window))
    rows = [
        {"network": name, "forward": length if name.startswith("both") else 1, **judged(logits, labels, classes, step)}
        for name, logits in found.items()
    ]
    rows.append({"network": "both, centre", "forward": length, **judged(centred, labels, classes, step)})
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{rows[0]['events']} events in {given.videos} videos")
    for row in rows:
        seconds = "–" if row["seconds_to_decision"] is None else f"{row['seconds_to_decision']:.2f} s"
        print(
            f"{row['network']:24} frame mAP {row['frame_map']:.3f}  decided {row['decided']:.2f}  after {seconds}  forward "
            f"{row['forward']}"
        )


if __name__ == "__main__":
    main()
