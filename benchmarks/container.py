"""Training where a container leaves little: some of the processors, 2 GiB of memory, 64 MB of /dev/shm. Linux, as root.

    python benchmarks/container.py [--cpus 1.5] [--gib 2] [--rounds N] [--quick] [--json]

`motions` videos are made, and `muybridge train` trains on them, in three places by turns:

free        as this machine is
shm         with a /dev/shm of 64 MB, in a mount namespace of its own (`unshare -m`)
container   the same, in cgroups (version 1 or 2) of so many processors and so much memory

What a machine does not allow is told, and left out. Given are clips a second, the median over epochs and rounds, each run's
first epoch left out; the number of threads that the run chose; of a container the most memory, which counts files that may
be dropped, and the share of its time for which the quota stopped it.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from muybridge.data.sets.motions import motions
from muybridge.runtime.processors import left
from muybridge.storage.run import Run

MODEL = "tsm_resnet_tiny"
GROUPS = Path("/sys/fs/cgroup")
SMALL_SHM = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh")
PERIOD_MICROSECONDS = 100_000
FILES = "runtime.cache_gib=0"
WAYS = {
    "memory, by rule": (),
    "memory, 1 thread": ("runtime.threads=1",),
    "memory, 2 threads": ("runtime.threads=2",),
    "files, by rule": (FILES,),
    "files, 2 threads, 1 worker": (FILES, "runtime.threads=2", "runtime.num_workers=1"),
    "files, 2 threads, 2 workers": (FILES, "runtime.threads=2", "runtime.num_workers=2"),
}


class Group(NamedTuple):
    """Folders of a cgroup; of version 2 they are one."""

    cpu: Path
    memory: Path
    is_second: bool

    def limit(self, cpus: float, gib: float) -> None:
        """Set its quota and its memory."""
        quota, size = round(cpus * PERIOD_MICROSECONDS), round(gib * 2**30)
        if self.is_second:
            (self.cpu / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
            (self.memory / "memory.max").write_text(str(size))
        else:
            (self.cpu / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
            (self.cpu / "cpu.cfs_quota_us").write_text(str(quota))
            (self.memory / "memory.limit_in_bytes").write_text(str(size))

    def enter(self) -> None:
        """Move this process into it."""
        for folder in {self.cpu, self.memory}:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def figures(self) -> dict[str, float]:
        """The most memory, and the time for which the quota stopped it."""
        name, unit = ("throttled_usec", 1e6) if self.is_second else ("throttled_time", 1e9)
        stopped = dict(line.split() for line in (self.cpu / "cpu.stat").read_text().splitlines())[name]
        most = (self.memory / ("memory.peak" if self.is_second else "memory.max_usage_in_bytes")).read_text()
        return {"memory_gib": int(most) / 2**30, "stopped_s": int(stopped) / unit}


@contextmanager
def group(cpus: float, gib: float) -> Iterator[Group]:
    """A cgroup of its own. Raises OSError where the machine allows none."""
    is_second = (GROUPS / "cgroup.controllers").exists()
    name = f"muybridge-{os.getpid()}"
    if is_second:
        (GROUPS / "cgroup.subtree_control").write_text("+cpu +memory")
    made = Group(
        *(GROUPS / name, GROUPS / name) if is_second else (GROUPS / "cpu" / name, GROUPS / "memory" / name), is_second
    )
    folders = sorted({made.cpu, made.memory})
    try:
        for folder in folders:
            folder.mkdir()
        made.limit(cpus, gib)
        yield made
    finally:
        for folder in folders:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a group; its last processes may take a moment to end."""
    for attempt in range(50):
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if attempt == 49:
                raise
            time.sleep(0.1)


def places(arguments: argparse.Namespace) -> dict[str, str]:
    """What the machine does not allow, by place: '' or why not."""
    lacks = dict.fromkeys(("free", "shm", "container"), "")
    try:
        tried = subprocess.run([*SMALL_SHM, "true"], capture_output=True, text=True)
        lacks["shm"] = f"no mount namespace ({tried.stderr.strip()})" if tried.returncode else ""
    except OSError as error:
        lacks["shm"] = f"no mount namespace ({error})"
    try:
        with group(arguments.cpus, arguments.gib):
            lacks["container"] = lacks["shm"]
    except OSError as error:
        lacks["container"] = f"no cgroup of cpu and memory ({error}); it takes root outside of a container"
    return lacks


def trained(data: Path, out: Path, place: str, changes: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Train once: clips a second of each epoch but the first, threads, and a container's figures."""
    epochs, steps = (2, 3) if arguments.quick else (4, 60)
    settings = (
        "clip.num_frames=8", "clip.size=64", "optim.batch_size=16", f"optim.steps_per_epoch={steps}",
        f"optim.steps={epochs * steps}", "evaluation.score_test=false", *changes,
    )  # fmt: skip
    command = [sys.executable, "-m", "muybridge", "train", "--model", MODEL, "--data", str(data), "--out", str(out)]
    command += [word for setting in settings for word in ("--set", setting)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}
    found: dict[str, Any] = {}
    started = time.perf_counter()
    if place == "container":
        with group(arguments.cpus, arguments.gib) as made:
            run([*SMALL_SHM, *command], own, made)
            found |= made.figures()
            found["stopped"] = found.pop("stopped_s") / (time.perf_counter() - started)
    else:
        run([*(SMALL_SHM if place == "shm" else ()), *command], own, None)
    done = Run(out)
    return {
        "clips_per_s": [line["train_clips_per_s"] for line in done.timing()[1:]],
        "threads": done.environment()["threads"],
        **found,
    }


def run(command: Sequence[str], environment: dict[str, str], within: Group | None) -> None:
    """Run a command in a group; ends this program with its last words where it fails."""
    enter = None if within is None else within.enter
    done = subprocess.run(command, env=environment, preexec_fn=enter, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}\nended with {done.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", type=float, default=1.5, help="processors of the container (%(default)s)")
    parser.add_argument("--gib", type=float, default=2.0, help="its memory in GiB (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way in each place (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of few steps: does it run?")
    parser.add_argument("--json", action="store_true", help="print all figures of all runs")
    arguments = parser.parse_args()
    for option in ("cpus", "gib", "rounds"):
        if not getattr(arguments, option) > 0:
            parser.error(f"argument --{option}: {getattr(arguments, option)} is not above 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # groups are removed then, too
    lacks = places(arguments)
    for place, why in lacks.items():
        if why:
            print(f"{place}: not measured. This machine allows {why}", file=sys.stderr)
    turns = [(place, way) for way in WAYS for place, why in lacks.items() if not why]
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {turn: [] for turn in turns}
    with tempfile.TemporaryDirectory() as folder:
        data = motions(Path(folder) / "set", clips=100).manifest
        for number in range(1 if arguments.quick else arguments.rounds):
            for place, way in turns[:: -1 if number % 2 else 1]:
                print(f"round {number + 1}: {place}, {way}", file=sys.stderr)
                out = Path(folder) / f"{place} {way} {number}".replace(" ", "-").replace(",", "")
                runs[place, way].append(trained(data, out, place, WAYS[way], arguments))
    rows = [row(place, way, runs[place, way]) for place, way in turns]
    if arguments.json:
        about = {"cpus": arguments.cpus, "gib": arguments.gib, "model": MODEL, "missing": lacks}
        print(json.dumps({**about, "processors": left().as_json(), "rows": rows}, indent=2))
        return
    print(f"{MODEL}, 16 clips of 8 x 64 x 64; a container of {arguments.cpus:g} processors and {arguments.gib:g} GiB")
    print(f"{'read from, threads':30}{'place':12}{'clips/s':>8}{'threads':>9}{'memory':>10}{'stopped':>9}")
    for each in rows:
        limited = f"{each['memory_gib']:6.2f} GiB{each['stopped']:9.0%}" if "stopped" in each else ""
        threads = ",".join(map(str, sorted({one["threads"] for one in each["runs"]})))
        print(f"{each['way']:30}{each['place']:12}{each['clips_per_s']:8.0f}{threads:>9}{limited}")


def row(place: str, way: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of a way in a place."""
    figures: dict[str, Any] = {"place": place, "way": way}
    figures["clips_per_s"] = statistics.median(rate for one in runs for rate in one["clips_per_s"])
    if place == "container":
        figures["memory_gib"] = max(one["memory_gib"] for one in runs)
        figures["stopped"] = statistics.median(one["stopped"] for one in runs)
    return {**figures, "runs": runs}


if __name__ == "__main__":
    main()
