"""One predictor under threads, and the latency of a call, beside that of another version.

    OMP_NUM_THREADS=1 python benchmarks/predict.py RUN VIDEO… [--calls N] [--threads N] [--rounds N] [--before SRC] [--json]

- threads: `calls` calls by `threads` threads, videos by turns as a path, an array and bytes. Counted are answers that differ
  from the single-threaded ones in any bit, and tensors of the network that changed. Memory is that of this process and of
  those that decode, after each twentieth of the calls; the growth is that from the median of the second quarter to that of
  the last.
- latency: medians over the rounds of a call of each video by its path. With `--before`, the folder `src` of another version
  answers in a process of its own, by turns, and the ratio is the median of those within a round.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import muybridge
from muybridge.video import frames, probe

SERVER = """
import json, sys, time
import muybridge
predictor = muybridge.load(sys.argv[1])
print(flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    [answer] = predictor(line.rstrip("\\n"), window_seconds=0)
    print(json.dumps([time.perf_counter() - start, answer.labels, answer.scores]), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {
        "latency": latency(arguments.run, arguments.videos, arguments.rounds, arguments.before),
        "threads": under_threads(arguments.run, arguments.videos, arguments.calls, arguments.threads),
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for row in found["latency"]:
        beside = f", before {row['before_ms']:.1f} ms, ratio {row['ratio']:.2f}" if "ratio" in row else ""
        print(f"{Path(row['video']).name}: {row['ms']:.1f} ms{beside}")
    row = found["threads"]
    print(
        f"{row['calls']} calls by {row['threads']} threads: {row['different']} different answers, {row['changed']} changed "
        f"tensors, {row['processes']} processes, memory {', '.join(f'{mib:.0f}' for mib in row['memory_mib'])} MiB, "
        f"growth {row['growth_mib']:.1f} MiB, {row['calls_per_s']:.1f} calls/s"
    )


def latency(run: str, videos: list[str], rounds: int, before: Path | None) -> list[dict[str, Any]]:
    """Milliseconds of a call of each video, and of the version before."""
    here = str(Path(muybridge.__file__).parent.parent)
    servers = {name: _server(run, src) for name, src in (("ms", here), ("before_ms", before)) if src is not None}
    rows = []
    for video in videos:
        taken: dict[str, list[float]] = {name: [] for name in servers}
        said = {}
        for number in range(rounds + 2):
            for name in list(servers)[:: 1 if number % 2 else -1]:
                seconds, labels, scores = _asked(servers[name], video)
                said[name] = labels, scores
                if number >= 2:  # the first ones start processes
                    taken[name].append(1e3 * seconds)
        assert len({json.dumps(answer) for answer in said.values()}) == 1, f"{video}: the versions answer differently"
        row: dict[str, Any] = {"video": video, **{name: statistics.median(ms) for name, ms in taken.items()}}
        if before is not None:
            row["ratio"] = statistics.median(a / b for a, b in zip(taken["ms"], taken["before_ms"], strict=True))
        rows.append(row)
    for server in servers.values():
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
    return rows


def _server(run: str, src: str | Path) -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(src)},
    )  # fmt: skip
    assert server.stdout is not None
    server.stdout.readline()
    return server


def _asked(server: "subprocess.Popen[str]", video: str) -> Any:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{video}\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


def under_threads(run: str, videos: list[str], calls: int, threads: int) -> dict[str, Any]:
    """Answers, network and memory over many calls."""
    given: list[tuple[Any, float | None]] = [(video, None) for video in videos]
    given += [(np.stack(list(frames(video))), probe(video).fps) for video in videos]
    given += [(Path(video).read_bytes(), None) for video in videos]
    with muybridge.load(run) as predictor:

        def call(number: int) -> Any:
            video, fps = given[number % len(given)]
            return predictor(video, fps=fps)

        alone = [call(number) for number in range(len(given))]
        state = {name: tensor.clone() for name, tensor in predictor.answering.model.state_dict().items()}
        different, memory = 0, []
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(call, range(2 * threads)))
            start = time.perf_counter()
            for part in np.array_split(np.arange(calls), 20):
                answers = pool.map(call, part.tolist())
                for number, answer in zip(part.tolist(), answers, strict=True):
                    expected = alone[number % len(given)]
                    same = answer == expected and np.array_equal(answer.probabilities_WK, expected.probabilities_WK)
                    different += not same
                memory.append(_memory_mib())
            seconds = time.perf_counter() - start
        after = predictor.answering.model.state_dict()
        changed = sum(not torch.equal(tensor, after[name]) for name, tensor in state.items())
        processes = len(psutil.Process().children())
    growth = statistics.median(memory[15:]) - statistics.median(memory[5:10])
    return {
        "calls": calls, "threads": threads, "different": different, "changed": changed, "processes": processes,
        "memory_mib": memory[1::2], "growth_mib": growth, "calls_per_s": calls / seconds,
    }  # fmt: skip


def _memory_mib() -> float:
    gc.collect()
    process = psutil.Process()
    return sum(one.memory_info().rss for one in (process, *process.children())) / 2**20


if __name__ == "__main__":
    main()
