"""What the levers against imbalance do: 40, 6 and 3 training clips, tested on 30 of each class, over five seeds.

    python benchmarks/imbalance.py --out imbalance      # ten minutes of one core; --seeds 1 --epochs 2: a try

Three classes of `muybridge motions`. All runs have the same clips, network, steps and test; only the lever differs.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np

import muybridge
from muybridge.analysis.comparison import compared_runs
from muybridge.recipe import Runtime

TRAINED = {"move_left": 40, "grow": 6, "turn_clockwise": 3}
LEVERS = {
    "none": {}, "class weights": {"optim.class_weights": "balanced"},
    "balanced sampling": {"data.balanced_sampling": True}, "logit adjustment": {"optim.logit_adjustment": 1.0},
}  # fmt: skip
SETTINGS = {
    "clip.num_frames": 4, "clip.size": 32, "optim.optimizer": "adamw", "optim.lr": 0.003, "optim.batch_size": 8,
    "precision": "fp32", "augment.flip_probability": 0.0,
}  # fmt: skip


def uneven_set(out: Path, clips: int, trained: dict[str, int]) -> Path:
    """The manifest of an uneven training split and an even test: the clips beyond those of the largest class."""
    made = muybridge.motions(out / "made", clips=clips, seed=1).manifest
    seen: Counter[str] = Counter()
    rows = [("path", "label", "split")]
    for row in csv.DictReader(made.open()):
        label = row["label"]
        if label in trained:
            seen[label] += 1
            if seen[label] <= trained[label] or seen[label] > max(trained.values()):
                split = "train" if seen[label] <= trained[label] else "test"
                rows.append((f"made/{row['path']}", label, split))
    with (out / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return muybridge.prepare(csv=out / "list.csv", out=out / "set.csv", val=0).manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder to make")
    parser.add_argument("--clips", type=int, default=700, help="clips of all ten classes that are made")
    parser.add_argument("--times", type=int, default=1, help="so many times 40, 6 and 3 training clips")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True)
    trained = {name: asked.times * count for name, count in TRAINED.items()}
    manifest = uneven_set(asked.out, asked.clips, trained)
    print(
        "| lever | "
        + " | ".join(f"recall, {name} ({count})" for name, count in trained.items())
        + " | mean class | of seeds |"
    )
    print("| --- " * (len(trained) + 3) + "|")
    for lever, changes in LEVERS.items():
        study = muybridge.compare(
            ["tsm_resnet_tiny"], data=manifest, out=asked.out / lever.replace(" ", "_"), seeds=asked.seeds,
            epochs=asked.epochs, changes={**SETTINGS, **changes}, runtime=Runtime(threads=1),
        )  # fmt: skip
        [comparison] = compared_runs(list(study.runs)).values()
        model = comparison.models[0]
        recall = dict(zip(model.classes, model.class_accuracy_K, strict=True))
        of_seeds = [
            float(np.mean([c[model.labels_N == k].mean() for k in range(len(trained))])) for c in model.correct_SN
        ]
        cells = [f"{recall[name]:.2f}" for name in trained]
        spread = " ".join(f"{value:.2f}" for value in of_seeds)
        print(f"| {lever} | {' | '.join(cells)} | {model.mean_class_interval} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
