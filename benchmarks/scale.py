"""A set of UCF101's size: memory and time of `prepare` and `pack`, and what starts an epoch.

    python benchmarks/scale.py [--files N] [--workdir DIR] [--rounds N] [--quick] [--json]

Makes N small video files (`motions`, kept in the working folder), then runs the two commands on a quarter, a half and all of
them, each in a process of its own whose memory is watched, together with its children's. An epoch is started with two
workers for manifests of 100, N and 240,000 rows, in turn; medians. What the lines mean: docs/benchmarks.md.
"""

import argparse
import csv
import dataclasses
import json
import math
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from muybridge.data.loader import train_batches
from muybridge.data.manifest import Manifest
from muybridge.data.order import num_batches
from muybridge.data.sampling import ClipSpec
from muybridge.data.sets.motions import CLASSES, motions
from muybridge.data.views import TrainClips
from muybridge.video import FileReader

UCF101_FILES = 13_320
KINETICS400_FILES = 240_000
SMALL_FILES = 100
WORKERS = 2
BATCH = 16
POLL_SECONDS = 0.01
MIB = 2**20


def watched(command: Sequence[str]) -> tuple[float, int]:
    """Seconds that a command takes, and the most memory (bytes resident) that it and its children have at one time."""
    with tempfile.TemporaryFile() as log:
        started, peak = time.perf_counter(), 0
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        while process.poll() is None:
            used = 0
            try:
                for each in [process, *process.children(recursive=True)]:
                    used += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            peak = max(peak, used)
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{log.read().decode()[-2000:]}")
    return seconds, peak


def grow(folder: Path, num_files: int) -> list[dict[str, Any]]:
    """`prepare` and `pack` of a quarter, a half and all files; the last pack stays."""
    rows = []
    for files in (num_files // 4, num_files // 2, num_files):
        listed, manifest = folder / "set" / f"list-{files}.csv", folder / f"set-{files}.csv"
        with listed.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"])
            for i in range(files):  # the names that `motions` gives
                writer.writerow([f"{CLASSES[i % len(CLASSES)]}/{i:05d}.mp4", CLASSES[i % len(CLASSES)]])
        packed = folder / "pack"
        if packed.exists():
            shutil.rmtree(packed)
        commands = {
            "prepare": ["prepare", "--csv", str(listed), "--out", str(manifest)],
            "pack": ["pack", str(manifest), "--out", str(packed), "--short-side", "64"],
        }
        for name, command in commands.items():
            say(f"{name}, {files} files")
            seconds, peak = watched([sys.executable, "-m", "muybridge", *command])
            rows.append({"command": name, "files": files, "seconds": seconds, "peak_bytes": peak})
    return rows


def mib_per_1000(rows: list[dict[str, Any]], command: str) -> float:
    """How peak memory grows from the fewest files to the most."""
    few, *_, many = (row for row in rows if row["command"] == command)
    return (many["peak_bytes"] - few["peak_bytes"]) / MIB / (many["files"] - few["files"]) * 1000


def sized(manifest: Manifest, num_rows: int) -> Manifest:
    """The same rows, cut or repeated under other ids."""
    times = math.ceil(num_rows / len(manifest))
    columns = {name: np.tile(column, times)[:num_rows] for name, column in manifest.columns.items()}
    copy = np.repeat(np.arange(times), len(manifest))[:num_rows].astype("S")
    columns["id"] = np.char.add(np.char.add(columns["id"], b"#"), copy)
    return dataclasses.replace(manifest, columns=columns)


def clips_of(manifest: Manifest) -> TrainClips:
    return TrainClips(
        manifest, FileReader(64), ClipSpec(num_frames=8), size=56, crop="multiscale", flip_probability=0.5,
        crop_fraction=0.875, seed=0,
    )  # fmt: skip


def batches(manifest: Manifest, *, first_step: int, num_workers: int) -> Any:
    return train_batches(
        clips_of(manifest), np.arange(len(manifest)), batch_size=BATCH, first_step=first_step, num_workers=num_workers,
        pin_memory=False,
    )  # fmt: skip


def first_batch(manifest: Manifest, num_workers: int) -> float:
    """Seconds from nothing to the first batch."""
    started = time.perf_counter()
    with closing(batches(manifest, first_step=0, num_workers=num_workers)) as source:
        next(source)
        return time.perf_counter() - started


def next_epoch(manifest: Manifest) -> float:
    """The longest wait for a batch where one epoch ends and the next begins, workers running."""
    per_epoch = num_batches(len(manifest), BATCH)
    with closing(batches(manifest, first_step=max(0, per_epoch - 32), num_workers=WORKERS)) as source:
        for _ in range(4 * WORKERS):
            next(source)
        waits, last = [], time.perf_counter()
        for _ in islice(source, 64 - 4 * WORKERS):
            now = time.perf_counter()
            waits.append(now - last)
            last = now
    return max(waits)


def start(manifest: Manifest, rounds: int) -> list[dict[str, Any]]:
    """What the number of rows does to the start of an epoch."""
    sizes = {rows: sized(manifest, rows) for rows in sorted({SMALL_FILES, len(manifest), KINETICS400_FILES})}
    measured: dict[int, dict[str, list[float]]] = {rows: {} for rows in sizes}
    for _ in range(rounds):
        for rows, each in sizes.items():
            say(f"starting an epoch of {rows} rows")
            ways: dict[str, Callable[[], float]] = {
                "first_batch_seconds": lambda m=each: first_batch(m, WORKERS),  # type: ignore[misc]
                "without_workers_seconds": lambda m=each: first_batch(m, 0),  # type: ignore[misc]
                "next_epoch_seconds": lambda m=each: next_epoch(m),  # type: ignore[misc]
                "worker_unpickles_seconds": lambda m=each: unpickling(m)[1],  # type: ignore[misc]
            }
            for name, way in ways.items():
                measured[rows].setdefault(name, []).append(way())
    return [
        {"rows": rows, "pickled_bytes": unpickling(each)[0]}
        | {name: statistics.median(values) for name, values in measured[rows].items()}
        for rows, each in sizes.items()
    ]


def unpickling(manifest: Manifest) -> tuple[int, float]:
    """Bytes of what a worker is sent at its start, and the seconds that it takes to send and to unpack."""
    clips = clips_of(manifest)
    started = time.perf_counter()
    data = bytes(ForkingPickler.dumps(clips))
    pickle.loads(data)
    return len(data), time.perf_counter() - started


def bars(grown: list[dict[str, Any]], started: list[dict[str, Any]], num_files: int) -> list[dict[str, Any]]:
    """What muybridge wants to reach."""
    found = [
        (f"{command}: MiB more for 1,000 files more", mib_per_1000(grown, command), 10.0)
        for command in ("prepare", "pack")
    ]
    small, full = (next(s for s in started if s["rows"] == rows) for rows in (SMALL_FILES, num_files))
    found += [
        ("first batch of an epoch, workers started, s", full["first_batch_seconds"], 2.0),
        ("next epoch, the longest wait for a batch, s", full["next_epoch_seconds"], 2.0),
        (f"first batch, {num_files} rows ÷ {SMALL_FILES} rows",
         full["first_batch_seconds"] / small["first_batch_seconds"], 1.1),
    ]  # fmt: skip
    return [
        {"bar": text, "figure": figure, "needed": needed, "passed": figure <= needed} for text, figure, needed in found
    ]


_STARTED = time.perf_counter()


def say(text: str) -> None:
    print(f"[{time.perf_counter() - _STARTED:5.0f} s] {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=UCF101_FILES)
    parser.add_argument("--workdir", type=Path, default=Path("build/benchmark-scale"), help="videos are kept here")
    parser.add_argument("--rounds", type=int, default=5, help="starts of an epoch")
    parser.add_argument("--quick", action="store_true", help="400 files, 1 round: does it run? No figure to trust")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    num_files, rounds = (400, 1) if arguments.quick else (arguments.files, arguments.rounds)
    if num_files < 400 or rounds < 1:
        parser.error("at least 400 files and 1 round are needed")
    folder = arguments.workdir.resolve() / f"{num_files}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "set").exists():
        say(f"making {num_files} video files")
        motions(folder / "set", clips=num_files)
    grown = grow(folder, num_files)
    started = start(Manifest.load(folder / "pack"), rounds)
    found = bars(grown, started, num_files)
    say("done")
    if arguments.json:
        growth = {command: mib_per_1000(grown, command) for command in ("prepare", "pack")}
        document = {
            "files": num_files,
            "commands": grown,
            "mib_per_1000_files": growth,
            "start": started,
            "bars": found,
        }
        print(json.dumps(document, indent=2))
        return
    print(f"{'command':10} {'files':>8} {'s':>8} {'files/s':>8} {'peak MiB':>9}")
    for row in grown:
        rate, peak = row["files"] / row["seconds"], row["peak_bytes"] / MIB
        print(f"{row['command']:10} {row['files']:8,} {row['seconds']:8.1f} {rate:8.0f} {peak:9.0f}")
    print(
        f"\n{'rows':>8} {'first batch, s':>15} {'no workers, s':>14} {'next epoch, s':>14} {'pickled kB':>11} {'s':>7}"
    )
    for s in started:
        print(
            f"{s['rows']:8,} {s['first_batch_seconds']:15.2f} {s['without_workers_seconds']:14.3f} "
            f"{s['next_epoch_seconds']:14.3f} {s['pickled_bytes'] / 1e3:11.1f} {s['worker_unpickles_seconds']:7.4f}"
        )
    print()
    for bar in found:
        word = "pass" if bar["passed"] else "FAIL"
        print(f"{word}  {bar['bar']:50} {bar['figure']:8.3g}  ≤ {bar['needed']:g}")


if __name__ == "__main__":
    main()
