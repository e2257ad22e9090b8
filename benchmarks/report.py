"""How long a report of many runs takes, and how large it is: runs with made scores, the command as a user calls it.

python benchmarks/report.py                                  # 100 settings, one seed each: 4,950 pairs
python benchmarks/report.py --settings 20 --seeds 5 --json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from made_runs import make_run

from muybridge.storage.study import RunRecord, SetRecord, StudyRecord

METHODS = ("tsn", "tsm", "tam", "i3d", "s3d", "nln", "tconv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--videos", type=int, default=3800)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=75)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    classes = [f"class_{k:03d}" for k in range(asked.classes)]
    with tempfile.TemporaryDirectory() as folder:
        study, known = Path(folder) / "study", {}
        for number in range(asked.settings):
            method, frames = METHODS[number % len(METHODS)], 8 * 2 ** (number // len(METHODS) % 4)
            backbone, pooling = ("resnet18", "resnet50", "inceptionv1")[number // 28 % 3], number >= 84
            for seed in range(asked.seeds):
                name = f"{method}_{backbone}-{frames}f{'-tp' * pooling}-{number}-seed{seed}"
                make_run(
                    study / "runs" / name, model=f"{method}_{backbone}", seed=seed, videos=asked.videos, views=asked.views,
                    classes=classes, epochs=asked.epochs, macs=1e9 * (1 + number), params=1e6 * (10 + number),
                    accuracy=0.3 + 0.6 * number / asked.settings,
                    changes={
                        "clip.num_frames": frames, "model.temporal_pooling": pooling, "optim.momentum": 0.9 - number / 1e6,
                        "evaluation.num_clips": asked.views,
                    },
                )  # fmt: skip
                known[name] = RunRecord({"data": "set", "number": number, "num_frames": frames, "seed": seed})
        varies = {
            "number": ("optim.momentum", "model.name", "model.temporal_pooling"),
            "num_frames": ("clip.num_frames",),
        }
        StudyRecord(study, "made", known, varies, {"set": SetRecord(tuple(known))}).save()
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "muybridge", "report", str(study), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - started
        files = list((study / "report.files").iterdir())
        found = {
            "runs": len(known), "settings": len(json.loads(done.stdout)["models"]), "videos": asked.videos,
            "classes": asked.classes, "views": asked.views, "seconds": round(seconds, 1),
            "page_megabytes": round((study / "report.html").stat().st_size / 1e6, 2), "files": len(files),
            "files_megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 2),
        }  # fmt: skip
    print(json.dumps(found, indent=2) if asked.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
