"""Score rows as one of several processes, and save what this process was given.

    torchrun --nproc-per-node 3 score_driver.py MANIFEST OUT ROW,ROW,… [ROW,ROW,… …]

Of each list of rows process r writes OUT/LIST-r.npz, and the ids of the videos that were skipped to its standard output.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from muybridge.data.manifest import Manifest
from muybridge.data.sampling import ClipSpec
from muybridge.data.views import VideoViews
from muybridge.evaluation.score import score
from muybridge.runtime import distributed
from muybridge.runtime.device import Placement
from muybridge.video import FileReader
from muybridge.zoo import create


def scored(manifest, rows, processes=distributed.ALONE, skip=None):
    """By a network that is the same in every process."""
    torch.manual_seed(0)
    model = create("tsm_resnet_tiny", num_classes=len(manifest.classes), num_frames=4)
    torch.nn.init.normal_(model.fc.weight)
    views = VideoViews(
        manifest, FileReader(), ClipSpec(num_frames=4), size=32, num_clips=2, num_crops=10, crop_fraction=0.8
    )
    return score(
        model, views, rows, where=Placement(torch.device("cpu")), labels_N=manifest.labels()[rows],
        classes=manifest.classes, average="logits", batch_size=4, processes=processes, skip=skip,
    )["ordered"]  # fmt: skip


def main() -> None:
    manifest, out = Manifest.load(Path(sys.argv[1])), Path(sys.argv[2])
    processes = distributed.join(torch.device("cpu"))
    torch.set_num_threads(1)
    for number, text in enumerate(sys.argv[3:]):
        rows = np.array([int(row) for row in text.split(",")])
        told = []
        found = scored(manifest, rows, processes, lambda failure, told=told: told.append(failure.row))
        found.save(out / f"{number}-{processes.rank}.npz")
        (out / f"{number}-{processes.rank}.skipped").write_text(repr(told))


if __name__ == "__main__":
    main()
