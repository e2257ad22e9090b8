"""What the doctor finds of planted faults, what it misses, and what it says falsely; its time and memory.

    python benchmarks/doctor.py                                 # 400 made videos and the faults among them, in a minute
    python benchmarks/doctor.py --features RUN                  # also wrong labels, by a probe over what a run computes
    python benchmarks/doctor.py --tiny 13320                    # as many files as UCF101 has: time and memory
    python benchmarks/doctor.py --folder made --json

The planted set is that of tests/making_planted.py: 20 videos coded again at other sizes and rates (5 across splits), 10
mirrored, 8 frozen, 4 black, a class with its own frame size, a mark in one class, 12 wrong labels.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import muybridge
from muybridge.data.manifest import from_columns

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from making import write_video
from making_planted import MARKED, SIZED, Planted, planted


def counted(planted_ones: set, found: set) -> dict[str, int]:
    """How many were planted, found, missed, and found falsely."""
    return {
        "planted": len(planted_ones), "found": len(planted_ones & found), "missed": len(planted_ones - found),
        "false alarms": len(found - planted_ones),
    }  # fmt: skip


def judged(truth: Planted, answer: dict) -> dict[str, dict[str, int]]:
    """Counts of every planted fault against what `doctor --json` says."""
    by_check = {finding["check"]: finding for finding in answer["findings"]}

    def listed(check: str) -> set:
        return set(by_check.get(check, {}).get("listed", []))

    def classes(check: str) -> set:
        figures = by_check.get(check, {}).get("figures", {})
        return set(figures.get("classes", []))

    def pairs(*checks: str) -> set:
        """Copies that are named: each list names all but one of each cluster."""
        return set().union(*(listed(check) for check in checks))

    either = {name: pair for pair in (*truth.copies, *truth.mirrored) for name in pair}
    inside = pairs("copies-within-a-split", "copies-across-splits")
    named = {either.get(name, name) for name in inside}
    # the list of copies across splits has those within a split, too
    across, within = (
        {either.get(name, name) for name in listed(f"copies-{where}")} for where in ("across-splits", "within-a-split")
    )
    marked = {finding["figures"]["class"] for finding in answer["findings"] if finding["check"].startswith("a-mark")}
    return {
        "coded again at another size and rate": counted(set(truth.copies), named - set(truth.mirrored)),
        "of these across splits": counted(set(truth.across), across - within),
        "mirrored": counted(set(truth.mirrored), named & set(truth.mirrored)),
        "frozen": counted(set(truth.frozen), listed("frozen") | listed("mostly-static")),
        "black": counted(set(truth.black), listed("black")),
        "a frame size of its own (classes)": counted({SIZED}, classes("a-size-of-its-own")),
        "a mark in a corner (classes)": counted({MARKED}, marked),
    }


def of_labels(truth: Planted, manifest: Path, store: Path) -> dict[str, int]:
    """Wrong labels that a probe over stored features tells."""
    found = muybridge.doctor(manifest, features=store).as_json()
    listed = next(one for one in found["findings"] if one["check"] == "suspicious-labels")["listed"]
    return counted(set(truth.mislabelled), set(listed))


def tiny(folder: Path, count: int) -> Path:
    """A manifest of so many files of eight frames of 32 x 32 pixels, each of a pattern of its own, in 101 classes."""
    draw = np.random.default_rng(0)
    names = [f"{number:05d}.avi" for number in range(count)]
    for name in names:
        coarse = draw.integers(0, 256, (2, 4, 4, 3)).astype(np.float64)
        shares = np.linspace(0, 1, 8)[:, None, None, None]
        frames = (coarse[0] * (1 - shares) + coarse[1] * shares).repeat(8, 1).repeat(8, 2)
        write_video(folder / name, list(frames.astype(np.uint8)), codec="mpeg4", options={"qscale": "5"})
    labels = [f"class {number % 101:03d}" for number in range(count)]
    columns = {
        "id": names, "path": names, "start_frame": [0] * count, "num_frames": [8] * count, "label": labels,
        "group": [f"{number // 5}" for number in range(count)], "fps": [25.0] * count, "width": [32] * count,
        "height": [32] * count, "sha256": [f"{number:064x}" for number in range(count)],
        "split": ["train" if number // 5 % 4 else "test" for number in range(count)], "seekable": [0] * count,
    }  # fmt: skip
    from_columns(columns, classes=sorted(set(labels)), root=folder, mirror={}).save(folder / "set.csv")
    return folder / "set.csv"


def measured(manifest: Path, jobs: int | None) -> tuple[dict, dict]:
    """Answer of the doctor, and its time and memory; the second call finds the looks of the first."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        answer = muybridge.doctor(manifest, jobs=jobs).as_json()
        seconds.append(round(time.monotonic() - started, 1))
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    return answer, {
        "videos": answer["videos"], "seconds": seconds[0], "again_seconds": seconds[1],
        "cpu_seconds_of_both": round(cpu.ru_utime + cpu.ru_stime, 1), "largest_mib": round(cpu.ru_maxrss / 1024),
        "largest_before_mib": round(before_kib / 1024),
        "findings": [f"{finding['rank']}: {finding['text']}" for finding in answer["findings"]],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", type=Path, help="run that was trained on other videos, for wrong labels")
    parser.add_argument("--tiny", type=int, help="this many tiny files instead, for time and memory")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        if asked.tiny:
            print(json.dumps(measured(tiny(folder, asked.tiny), asked.jobs)[1], indent=2))
            return
        truth = planted(folder, clips=asked.clips, seed=asked.seed)
        manifest = muybridge.prepare(csv=truth.csv, out=folder / "set.manifest.csv", jobs=asked.jobs).manifest
        answer, results = measured(manifest, asked.jobs)
        results = {"faults": judged(truth, answer), **results}
        if asked.features is not None:
            source = muybridge.features(asked.features, data=manifest, out=folder / "store").path
            results["faults"]["wrong labels, by a probe"] = of_labels(truth, manifest, source)
    if asked.json:
        print(json.dumps(results, indent=2))
        return
    print("| planted fault | planted | found | missed | false alarms |\n| --- | --- | --- | --- | --- |")
    for name, counts in results["faults"].items():
        print(
            f"| {name} | "
            + " | ".join(str(counts[key]) for key in ("planted", "found", "missed", "false alarms"))
            + " |"
        )
    print({name: value for name, value in results.items() if name != "faults"})


if __name__ == "__main__":
    main()
