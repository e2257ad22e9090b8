"""What the doctor finds of planted faults, what it misses, and what it says falsely; its time and memory.

    python benchmarks/doctor.py                                 # 400 made videos and the faults among them, in a minute
    python benchmarks/doctor.py --clips 1200 --labels           # also wrong labels: three folds are trained, in ten minutes
    python benchmarks/doctor.py --clips 13278                   # 13,320 files, as UCF101 has: time and memory
    python benchmarks/doctor.py --folder made --json

The planted set is that of tests/making_planted.py: 20 videos coded again at other sizes and rates (5 across splits), 10
mirrored, 8 frozen, 4 black, a class with its own frame size, a mark in one class, 12 wrong labels.
"""

import argparse
import csv
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import muybridge

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
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
    across = {either.get(name, name) for name in listed("copies-across-splits")}
    marked = {finding["figures"]["class"] for finding in answer["findings"] if finding["check"].startswith("a-mark")}
    return {
        "coded again at another size and rate": counted(set(truth.copies), named - set(truth.mirrored)),
        "of these across splits": counted(set(truth.across), across),
        "mirrored": counted(set(truth.mirrored), named & set(truth.mirrored)),
        "frozen": counted(set(truth.frozen), listed("frozen") | listed("mostly-static")),
        "black": counted(set(truth.black), listed("black")),
        "a frame size of its own (classes)": counted({SIZED}, classes("a-size-of-its-own")),
        "a mark in a corner (classes)": counted({MARKED}, marked),
    }


def of_labels(folder: Path, truth: Planted, epochs: int | None) -> dict[str, int]:
    """Wrong labels that the tests of a study with three folds tell."""
    bare = folder / "folds.csv"
    with truth.csv.open() as given, bare.open("w", newline="") as file:
        csv.writer(file).writerows(row[:2] for row in csv.reader(given))
    manifest = muybridge.prepare(csv=bare, out=folder / "folded.csv", folds=3).manifest
    study = folder / "study"
    muybridge.compare(["tsm_resnet_tiny"], data=manifest, out=study, recipe="demo", folds=[1, 2, 3], epochs=epochs)
    found = muybridge.doctor(manifest, study=study).as_json()
    listed = next(one for one in found["findings"] if one["check"] == "suspicious-labels")["listed"]
    return {
        **counted(set(truth.mislabelled), set(listed)),
        "first 12 right": len(set(truth.mislabelled) & set(listed[:12])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labels", action="store_true", help="also train three folds, and look for wrong labels")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        truth = planted(folder, clips=asked.clips, seed=asked.seed)
        manifest = muybridge.prepare(csv=truth.csv, out=folder / "set.manifest.csv", jobs=asked.jobs).manifest
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = []
        for _ in range(2):  # the second call finds the looks of the first
            started = time.monotonic()
            answer = muybridge.doctor(manifest, jobs=asked.jobs).as_json()
            seconds.append(round(time.monotonic() - started, 1))
        results = {
            "faults": judged(truth, answer), "videos": answer["videos"], "seconds": seconds[0], "again_seconds": seconds[1],
            "largest_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "largest_before_mib": round(before_kib / 1024),
        }  # fmt: skip
        if asked.labels:
            results["faults"]["wrong labels, by a study"] = of_labels(folder, truth, asked.epochs)
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
