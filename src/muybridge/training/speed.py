"""Speed of a model on this machine, and the largest batch that its training takes.

Everything runs in a process of its own (`muybridge.training.bench`), a fresh one for each model, so that one model's
memory does not count as another's, and so that running out of memory ends nothing but that process. On CUDA the device
refuses, and doubling and bisection find the largest batch. A CPU's system would not refuse, but end whatever it likes:
there the memory of two small batches says which should be the largest; it is tried under a limit of memory, and less
where it fails; the process asks the system to be the first to be ended.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from muybridge.errors import UserError
from muybridge.recipe import Clip, Model, Recipe, Runtime, replace
from muybridge.runtime.cgroups import free_bytes
from muybridge.runtime.console import log
from muybridge.runtime.launch import module_process
from muybridge.storage.run import Run
from muybridge.training.bench import ENDED, Bench
from muybridge.user_code import Consent, allow, use_source

SHARE = 0.8
"""The share of a CPU's free memory that may be used."""
LARGEST = 1024
"""Clips; no larger batch is tried."""
REPETITIONS = 7


@dataclass(frozen=True)
class Speed:
    """Medians. None: the batch does not fit."""

    batch_size: int
    forward_clips_per_s: float | None
    """Clips a second of scoring, at the size of tests."""
    train_clips_per_s: float | None
    """Clips a second of whole steps: pixels to input, forward, loss, backward, update."""
    max_batch_size: int | None
    """The largest in training, at most LARGEST. None, as its rates: it was not searched for."""
    max_batch_forward_clips_per_s: float | None
    max_batch_train_clips_per_s: float | None
    peak_memory_bytes: int | None
    """The most at any moment of training with `batch_size`: on CUDA what tensors take; on a CPU of the whole process,
    without what Python and torch take before there is a model."""
    device: str
    device_name: str
    dtype: str
    """bf16 (autocast) or fp32."""
    threads: int

    def as_json(self) -> dict[str, Any]:
        """The fields of speed.json."""
        return asdict(self)


class Measuring:
    """The process that measures models, one after the other (`muybridge.training.bench`). It starts when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.has_model = False
        """Whether it holds a model that can be asked about."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """Build a model there, in place of an earlier one: its answer as that of `ask`."""
        if self.has_model:
            self._exchange("")
        if self._process is None:
            self._process = subprocess.Popen(
                **module_process("muybridge.training.bench"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.has_model = True
        return self.ask(job)

    def ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of the model's process. None where the system has ended it. Raises UserError."""
        answer = self._exchange(json.dumps(message))
        if answer is not None and "error" in answer:
            self.close()
            raise UserError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process, whatever it is at."""
        if self._process is not None:
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
            self._process.communicate()
        self._process, self.has_model = None, False

    def _exchange(self, line: str) -> dict[str, Any] | None:
        """None where the model's process ended, as it does after an empty line."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.close()
            return None
        told: dict[str, Any] = json.loads(answer)
        self.has_model = told != ENDED
        return told if self.has_model else None


def measure_model(
    name: str,
    *,
    num_classes: int,
    num_frames: int,
    size: int,
    temporal_pooling: bool = False,
    batch_size: int = 8,
    precision: str = "auto",
    runtime: Runtime | None = None,
    repetitions: int = REPETITIONS,
    options: dict[str, Any] | None = None,
    largest: bool = True,
    process: Measuring | None = None,
) -> Speed:
    """Measure a model as `train` would run it: device, precision and memory format by the same rules.

    `largest`: search for the largest batch, too, which takes longest. `process` measures several, one after the other.
    Raises UserError.
    """
    allow(name)
    recipe = replace(
        Recipe(
            clip=Clip(num_frames=num_frames, size=size),
            model=Model(name=name, temporal_pooling=temporal_pooling, pretrained=None, options=options or {}),
        ),
        {"precision": precision},
    )
    return _measured(_job(recipe, num_classes, runtime), batch_size, repetitions, search=largest, process=process)


def _job(recipe: Recipe, num_classes: int, runtime: Runtime | None) -> dict[str, Any]:
    return {"recipe": recipe.model_dump(), "runtime": (runtime or Runtime()).model_dump(), "num_classes": num_classes}


def measure_here(
    name: str, *, num_classes: int, num_frames: int, size: int, batch_size: int, repetitions: int = REPETITIONS
) -> Speed:
    """Measure training steps of a model in this process, which should be one of its own: a full memory may end it."""
    recipe = Recipe(clip=Clip(num_frames=num_frames, size=size), model=Model(name=name, pretrained=None))
    bench = Bench({**_job(recipe, num_classes, None), "budget_bytes": SHARE * free_bytes()})
    answer = bench.answer("train", batch_size, repetitions)
    train = answer if answer["fits"] else None
    return Speed(batch_size, None, _rate(train), None, None, None, _peak(train), **bench.about())


def measure_recipe(
    recipe: Recipe,
    *,
    num_classes: int,
    batch_size: int,
    runtime: Runtime | None = None,
    repetitions: int = REPETITIONS,
    process: Measuring | None = None,
) -> Speed:
    """Measure a network as a recipe trains it, with batches of `batch_size` clips.

    `process` measures several, one after the other. Raises UserError.
    """
    at_once = replace(recipe, {"optim.micro_batch_size": None})  # whatever batch is asked for
    return _measured(_job(at_once, num_classes, runtime), batch_size, repetitions, search=False, process=process)


def measure_run(
    run: str | Path | Run,
    *,
    runtime: Runtime | None = None,
    repetitions: int = REPETITIONS,
    largest: bool = False,
    allow_code: Consent = False,
    process: Measuring | None = None,
) -> Speed:
    """Measure a run as its recipe trains it, and keep the answer in its speed.json.

    The batch is what the run puts through the network at a time. A `module:function` model is imported only with
    `allow_code`. `process` measures several runs, one after the other. Raises UserError.
    """
    run = Run.open(run)
    recipe = run.recipe()
    own = use_source(run.path, recipe.model.name, recipe.model.source_sha256, allow_code=allow_code)
    batch_size = recipe.optim.micro_batch_size or recipe.optim.batch_size
    at_once = replace(recipe, {"optim.micro_batch_size": None})  # whatever batch is asked for
    job = {
        "recipe": at_once.model_dump(),
        "runtime": (runtime or Runtime()).model_dump(),
        "num_classes": len(run.dataset()["classes"]),
        "source": str(run.path) if own else None,
    }
    speed = _measured(job, batch_size, repetitions, search=largest, process=process)
    if run.is_finished or run.saved_step() is not None:
        run.save_speed(
            {
                "num_frames": recipe.clip.num_frames,
                "size": recipe.clip.size,
                **speed.as_json(),
            }
        )
    else:
        log(f"{run.path}: nothing is saved yet, and another run may be begun there; this is not kept in a speed.json")
    return speed


def _measured(
    job: dict[str, Any], batch_size: int, repetitions: int, *, search: bool, process: Measuring | None = None
) -> Speed:
    """`search`: for the largest batch."""
    name = job["recipe"]["model"]["name"]
    with Measuring() if process is None else nullcontext(process) as started:
        worker = _Worker(job, started)
        about = worker.about
        log(f"{name}: training with batches of {batch_size}")
        train = worker.ask("train", batch_size, repetitions)
        log(f"{name}: forward")
        forward = worker.ask("forward", batch_size, repetitions) if train else None

        tried: dict[int, dict[str, Any] | None] = {}

        def fits(batch: int) -> bool:
            log(f"{name}: training with a batch of {batch}")
            tried[batch] = worker.ask("train", batch, 1)
            return tried[batch] is not None

        if not search:
            return Speed(batch_size, _rate(forward), _rate(train), None, None, None, _peak(train), **about)
        if train is not None and about["device"] == "cpu":
            fits(2 * batch_size)  # two points make a line
            largest = worker.largest_expected(batch_size)
            while not fits(largest):
                largest = max(batch_size, largest * 9 // 10)
        else:
            largest = largest_batch(fits, batch_size if train else 0, batch_size if train else 1)
        log(f"{name}: training and forward with a batch of {largest}")
        large_train = worker.ask("train", largest, min(3, repetitions)) if largest else None
        large_train = large_train or tried.get(largest)  # at the edge of memory once may be all that works
        large_forward = worker.ask("forward", largest, min(3, repetitions)) if largest else None
    return Speed(
        batch_size,
        _rate(forward),
        _rate(train),
        largest,
        _rate(large_forward),
        _rate(large_train),
        _peak(train),
        **about,
    )


def largest_batch(fits: Callable[[int], bool], known: int, start: int) -> int:
    """The largest batch that fits, by doubling and bisection. `known` fits (0: nothing does); doubling begins at `start`."""
    low, high = known, start if known < start else 2 * start
    while high <= LARGEST and fits(high):
        low, high = high, 2 * high
    high = min(high, LARGEST + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _rate(answer: dict[str, Any] | None) -> float | None:
    return None if answer is None else answer["batch"] / answer["seconds"]


def _peak(answer: dict[str, Any] | None) -> int | None:
    return None if answer is None else answer["peak_bytes"]


class _Worker:
    """A model in the process that measures; begun again where the system has ended it."""

    def __init__(self, job: dict[str, Any], process: Measuring) -> None:
        self._job, self._process = job, process
        self._peaks: dict[int, int] = {}
        self._budget = 0.0
        self.about: dict[str, Any] = self._begin()

    def ask(self, what: str, batch: int, repetitions: int) -> dict[str, Any] | None:
        """None where the batch does not fit."""
        untried = what == "train" and batch not in self._peaks
        if untried and self.about["device"] == "cpu" and self._expected(batch) > self._budget:
            return None
        if not self._process.has_model:
            self._begin()
        answer = self._process.ask({"what": what, "batch": batch, "repetitions": repetitions})
        if answer is None or not answer["fits"]:
            return None
        if what == "train":
            self._peaks.setdefault(batch, answer["peak_bytes"])
        return answer

    def largest_expected(self, known: int) -> int:
        """The batch that should fit on a CPU; `known` does."""
        return largest_batch(lambda batch: self._expected(batch) <= self._budget, known, known)

    def _expected(self, batch: int) -> float:
        """Memory that a batch will take: a straight line through the two largest that were tried."""
        if not self._peaks:
            return 0.0
        tried = sorted(self._peaks)[-2:]
        last = self._peaks[tried[-1]]
        if len(tried) == 1:
            return last * max(1.0, batch / tried[0])
        a_clip = (last - self._peaks[tried[0]]) / (tried[1] - tried[0])
        return last + max(0.0, a_clip) * (batch - tried[1])

    def _begin(self) -> dict[str, Any]:
        self._budget = SHARE * free_bytes()
        about = self._process.begin({**self._job, "budget_bytes": self._budget})
        if about is None:
            raise UserError(
                f"{self._job['recipe']['model']['name']}: the process that measures it ended before it began. Free "
                "some memory, and repeat the command"
            )
        return about
