"""How much two habits flatter a probe: choosing the best of twenty on the test set, and folds that ignore who is filmed.

    OMP_NUM_THREADS=1 python benchmarks/flattery.py STORE [--heads mean_pool,gru] [--seeds N] [--folder DIR]

STORE: vectors of a set with folds by group, as `muybridge features` writes them. Each head is trained by the recipe `heads`
(20 settings at once, 150 steps, 32 vectors) on every fold. Then all twenty copies are scored on the test split, which the
toolkit itself never does. The same is done with as many folds of the same sizes, drawn by class without regard to groups.
Given are means over folds and seeds of the accuracy of the copy that val chose, of the best on test, and of all twenty.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge import build
from muybridge.data.manifest import Manifest, from_columns
from muybridge.evaluation.score import score
from muybridge.evaluation.trained import of_run
from muybridge.recipe import Runtime, replace
from muybridge.recipe.shipped import load
from muybridge.runtime.device import Placement
from muybridge.storage.run import Run
from muybridge.training.loop import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--heads", default="mean_pool")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        grouped = Manifest.load(arguments.store)
        folder = Path(temporary)
        for kind, path in (("grouped", arguments.store), ("ungrouped", ungrouped(grouped, arguments.store, folder))):
            for head in arguments.heads.split(","):
                found = [
                    accuracies(path, head, fold, seed, folder / f"{kind}-{head}-{fold}-{seed}")
                    for fold in grouped.folds for seed in range(arguments.seeds)
                ]  # fmt: skip
                means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
                print(json.dumps({"folds": kind, "head": head, "runs": len(found), **means}), flush=True)


def ungrouped(grouped: Manifest, store: Path, folder: Path) -> Path:
    """A manifest of the same vectors whose folds ignore groups: as many of each class, val and test drawn at random."""
    out = folder / "ungrouped"
    shutil.copytree(store, out)
    columns = grouped.plain_columns()
    columns["group"] = np.full(len(grouped), "", dtype=object)
    generator = np.random.default_rng(0)
    labels = grouped.labels()
    order = np.empty(len(labels), dtype=int)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order[generator.permutation(rows)] = np.arange(len(rows))
    folds = grouped.folds
    for fold in folds:
        sides = np.where(order % len(folds) == fold - 1, "test", "train").astype(object)
        for label in np.unique(labels):  # one of each class to choose on, as the grouped folds have
            sides[generator.choice(np.flatnonzero((labels == label) & (sides == "train")))] = "val"
        columns[f"split_{fold}"] = sides
    manifest = from_columns(columns, classes=grouped.classes, root=out, mirror=grouped.mirror, made_by=grouped.made_by)
    manifest.save(out / "manifest.csv")
    return out


def accuracies(data: Path, head: str, fold: int, seed: int, out: Path) -> dict[str, float]:
    """Test accuracy of the copy that val chose, of the best of all, and the mean of all."""
    recipe = replace(load("heads"), {
        "data.manifest": str(data / "manifest.csv"), "data.fold": fold, "model.name": head, "seed": seed, "optim.steps": 150,
        "optim.batch_size": 16, "clip.num_frames": 32, "clip.stride_frames": 2, "precision": "fp32",
    })  # fmt: skip
    run: Run = train(recipe, out=out, runtime=Runtime(threads=1))
    model: Any = of_run(run).load("last")
    manifest = Manifest.load(data)
    rows = manifest.split("test", fold)
    views = build.video_views(run.recipe(), manifest, build.file_reader(run.recipe()))
    chosen, tried = model.chosen, []
    for index in range(model.num_copies):
        model.chosen = index
        scores = score(
            model, views, rows, where=Placement(torch.device("cpu")), labels_N=manifest.labels()[rows],
            classes=manifest.classes, average="logits", batch_size=16,
        )["ordered"]  # fmt: skip
        tried.append(scores.video_accuracy())
    return {"chosen_on_val": tried[chosen], "best_on_test": max(tried), "mean_of_all": float(np.mean(tried))}


if __name__ == "__main__":
    main()
