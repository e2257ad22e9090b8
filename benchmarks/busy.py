"""Training steps beside busy neighbours: what they cost, against a fair share of the processors.

    python benchmarks/busy.py [--models A B] [--neighbours 0 1 2 4] [--rounds N] [--seconds S] [--json]

A neighbour is a process that never rests. Two trainings take turns, each in a process of its own:

before   threads as torch and its library of threads have them: one a core, which spin for each other
after    as `muybridge train` has them: short waits and slices (`muybridge.runtime.waiting`), and the number of threads that
         the first batch decides on, beside these neighbours (`muybridge.training.threads`)

On P processors, n neighbours and P threads get 1/(P + n) each, so a fair step beside them takes (P + n)/P times as long as
a quiet one of `before`. `ratio` is the time of a step by that; 1 is fair. A time is the median over rounds of means. Who
begins changes from round to round. `trial` is the time in which the first batch decides, once a run; no step counts it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from muybridge.runtime.processors import left
from muybridge.runtime.waiting import share_with_others

PROCESS_START = "--steps-of"
FRAMES = 8


class Setting(NamedTuple):
    """What a model is trained on."""

    batch_size: int
    size: int


MODELS = {"tsm_resnet_tiny": Setting(16, 64), "tsm_resnet18": Setting(8, 112), "tsm_resnet50": Setting(4, 112)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="networks (all)")
    parser.add_argument("--neighbours", nargs="+", type=int, default=[0, 1, 2, 4], help="numbers of them (0 1 2 4)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each number (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print all figures of all rounds")
    parser.add_argument(PROCESS_START, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps_of:
        serve(*arguments.steps_of)
        return
    for option, value, least in (
        ("neighbours", min(arguments.neighbours), 0), ("rounds", arguments.rounds, 1), ("seconds", arguments.seconds, 0),
    ):  # fmt: skip
        if not value >= least:
            parser.error(f"argument --{option}: {value} is less than {least}")
    if not arguments.json:
        print(f"{left().usable} processors, {FRAMES} frames; ms a step, steps a second, ratio to a fair share")
        print(f"{'model':18}{'neighbours':>11}{'before':>29}{'after':>29}{'trial':>8}  threads")
    rows = []
    for name in arguments.models:
        of_model = measure(name, arguments.neighbours, arguments.rounds, arguments.seconds)
        rows += of_model
        if not arguments.json:
            tell(of_model)
    if arguments.json:
        print(json.dumps({"processors": left().as_json(), "rows": rows}, indent=2))


def tell(rows: list[dict[str, Any]]) -> None:
    """Print the rows of a model."""
    for row in rows:
        cells = "".join(
            f"{row[f'{way}_ms']:11.1f} ms{1000 / row[f'{way}_ms']:8.2f}/s{row[f'{way}_ratio']:6.2f}"
            for way in ("before", "after")
        )
        print(f"{row['model']:18}{row['neighbours']:11}{cells}{row['trial_s']:6.1f} s  {row['threads']}", flush=True)


def measure(name: str, numbers: list[int], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """A row for each number of neighbours."""
    times: dict[tuple[str, int], list[float]] = {}
    chosen: dict[int, list[dict[str, Any]]] = {}
    with trainer("before", name) as before, trainer("after", name) as after:
        for turn in range(rounds):
            for number in sorted({0, *numbers}):
                with neighbours(number):
                    chosen.setdefault(number, []).append(ask(after, "choose", 0))
                    for way, process in (("before", before), ("after", after))[:: -1 if turn % 2 else 1]:
                        times.setdefault((way, number), []).append(ask(process, "step", seconds)["ms"])
    medians = {key: statistics.median(values) for key, values in times.items()}
    processors = left().usable
    fair = {number: medians["before", 0] * (processors + number) / processors for number in numbers}
    return [
        {
            "model": name, "neighbours": number,
            **{f"{way}_ms": medians[way, number] for way in ("before", "after")},
            **{f"{way}_ratio": medians[way, number] / fair[number] for way in ("before", "after")},
            "threads": [one["threads"] for one in chosen[number]],
            "trial_s": statistics.median(one["s"] for one in chosen[number]),
            "rounds_ms": {way: times[way, number] for way in ("before", "after")},
        }
        for number in numbers
    ]  # fmt: skip


@contextmanager
def neighbours(number: int) -> Iterator[None]:
    """So many processes that never rest, until the block or this process ends."""
    never_rest = f"import os\nwhile os.getppid() == {os.getpid()}:\n    for _ in range(1_000_000): pass"
    processes = [subprocess.Popen([sys.executable, "-c", never_rest]) for _ in range(number)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def trainer(way: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that trains when it is asked to."""
    process = subprocess.Popen(
        [sys.executable, __file__, PROCESS_START, way, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str], what: str, seconds: float) -> dict[str, Any]:
    """Let a process train for some seconds, or choose its number of threads."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what} {seconds}\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def serve(way: str, name: str) -> None:
    """Inside the process: steps on a batch of random numbers."""
    if way == "after":
        share_with_others()
    import torch

    from muybridge import build
    from muybridge.data import inputs
    from muybridge.data.views import Batch
    from muybridge.recipe import Clip, Model, Recipe, Runtime
    from muybridge.runtime.device import to_device
    from muybridge.training import threads
    from muybridge.training.step import training_step

    batch_size, size = MODELS[name]
    recipe = Recipe(clip=Clip(num_frames=FRAMES, size=size), model=Model(name=name, pretrained=None), precision="fp32")
    where = build.placement(recipe, Runtime(device="cpu"))
    full = torch.get_num_threads()
    torch.manual_seed(0)
    model = build.model(recipe, 10, pretrained=False)
    to_device(model, where)
    model.train()
    optimizer = build.optimizer(recipe, model)
    pixels = torch.randint_like(inputs.of(recipe.clip).zeros(batch_size, FRAMES, size), 256)
    batch = Batch(pixels, torch.arange(batch_size) % 10, None, None, tuple(range(batch_size)))

    def step() -> None:
        training_step(model, optimizer, batch, where, recipe)

    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        what, text = line.split()
        started = time.perf_counter()
        if what == "choose":
            torch.set_num_threads(full)
            print(json.dumps({"threads": threads.choose(step).number, "s": time.perf_counter() - started}), flush=True)
            continue
        steps = 0
        while steps < 2 or time.perf_counter() - started < float(text):
            step()
            steps += 1
        print(json.dumps({"ms": 1000 * (time.perf_counter() - started) / steps}), flush=True)


if __name__ == "__main__":
    main()
