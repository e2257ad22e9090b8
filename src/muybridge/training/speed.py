"""Speed of a model on this machine, and the largest batch that its training takes.

Everything runs in a process of its own (`python -m muybridge.training.speed`, told what to do in lines of JSON), a fresh one for
each model, so that one model's memory does not count as another's, and so that running out of memory ends nothing but
that process. On CUDA the device refuses, and doubling and bisection find the largest batch. A CPU's system would not
refuse, but end whatever it likes: there the memory of two small batches says which should be the largest; it is tried
under a limit of memory, and less where it fails; the process asks the system to be the first to be ended.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import psutil
import torch

from muybridge import build
from muybridge.data import inputs
from muybridge.data.views import Batch
from muybridge.errors import UserError
from muybridge.recipe import Clip, Model, Recipe, Runtime, replace
from muybridge.runtime.cgroups import free_bytes
from muybridge.runtime.console import log
from muybridge.runtime.device import find_device, has_bf16, to_device
from muybridge.runtime.launch import end_with_parent, module_process
from muybridge.runtime.waiting import share_with_others
from muybridge.storage.run import Run
from muybridge.training.step import training_step
from muybridge.user_code import Consent, allow, use_source

SHARE = 0.8
"""The share of a CPU's free memory that may be used."""
LARGEST = 1024
"""Clips; no larger batch is tried."""
REPETITIONS = 7
PATIENCE_SECONDS = 30
"""No more repetitions after so long."""


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
) -> Speed:
    """Measure a model as `train` would run it: device, precision and memory format by the same rules.

    `largest`: search for the largest batch, too, which takes longest. Raises UserError.
    """
    allow(name)
    recipe = replace(
        Recipe(
            clip=Clip(num_frames=num_frames, size=size),
            model=Model(name=name, temporal_pooling=temporal_pooling, pretrained=None, options=options or {}),
        ),
        {"precision": precision},
    )
    return _measured(_job(recipe, num_classes, runtime), batch_size, repetitions, search=largest)


def _job(recipe: Recipe, num_classes: int, runtime: Runtime | None) -> dict[str, Any]:
    return {"recipe": recipe.model_dump(), "runtime": (runtime or Runtime()).model_dump(), "num_classes": num_classes}


def measure_here(
    name: str, *, num_classes: int, num_frames: int, size: int, batch_size: int, repetitions: int = REPETITIONS
) -> Speed:
    """Measure training steps of a model in this process, which should be one of its own: a full memory may end it."""
    recipe = Recipe(clip=Clip(num_frames=num_frames, size=size), model=Model(name=name, pretrained=None))
    bench = _Bench({**_job(recipe, num_classes, None), "budget_bytes": SHARE * free_bytes()})
    answer = bench.answer("train", batch_size, repetitions)
    train = answer if answer["fits"] else None
    return Speed(batch_size, None, _rate(train), None, None, None, _peak(train), **bench.about())


def measure_recipe(
    recipe: Recipe, *, num_classes: int, batch_size: int, runtime: Runtime | None = None, repetitions: int = REPETITIONS
) -> Speed:
    """Measure a network as a recipe trains it, with batches of `batch_size` clips. Raises UserError."""
    at_once = replace(recipe, {"optim.micro_batch_size": None})  # whatever batch is asked for
    return _measured(_job(at_once, num_classes, runtime), batch_size, repetitions, search=False)


def measure_run(
    run: str | Path | Run,
    *,
    runtime: Runtime | None = None,
    repetitions: int = REPETITIONS,
    largest: bool = False,
    allow_code: Consent = False,
) -> Speed:
    """Measure a run as its recipe trains it, and keep the answer in its speed.json.

    The batch is what the run puts through the network at a time. A `module:function` model is imported only with
    `allow_code`. Raises UserError.
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
    speed = _measured(job, batch_size, repetitions, search=largest)
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


def _measured(job: dict[str, Any], batch_size: int, repetitions: int, *, search: bool) -> Speed:
    """`search`: for the largest batch."""
    name = job["recipe"]["model"]["name"]
    with _Worker(job) as worker:
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
    """The process that measures; started again where it was ended."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._process: subprocess.Popen[str] | None = None
        self._peaks: dict[int, int] = {}
        self._budget = 0.0

    def __enter__(self) -> Self:
        try:
            self.about: dict[str, Any] = self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def ask(self, what: str, batch: int, repetitions: int) -> dict[str, Any] | None:
        """None where the batch does not fit."""
        untried = what == "train" and batch not in self._peaks
        if untried and self.about["device"] == "cpu" and self._expected(batch) > self._budget:
            return None
        if self._process is None:
            self._start()
        answer = self._exchange({"what": what, "batch": batch, "repetitions": repetitions})
        if answer is None:
            self._stop()
            return None
        if not answer["fits"]:
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

    def _start(self) -> dict[str, Any]:
        self._budget = SHARE * free_bytes()
        self._process = subprocess.Popen(
            **module_process("muybridge.training.speed"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        about = self._exchange({**self._job, "budget_bytes": self._budget})
        if about is None:
            raise UserError(
                f"{self._job['recipe']['model']['name']}: the process that measures it ended before it began. Free "
                "some memory, and repeat the command"
            )
        return about

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """None where the process ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            return None
        if not line:
            return None
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None


class _Bench:
    """Inside the process: the model, and what it does."""

    def __init__(self, job: dict[str, Any]) -> None:
        runtime, recipe = Runtime(**job["runtime"]), Recipe.model_validate(job["recipe"])
        if recipe.precision == "auto":
            recipe = replace(recipe, {"precision": "bf16" if has_bf16(find_device(runtime.device)) else "fp32"})
        self.where = build.placement(recipe, runtime)
        self.recipe, self.input = recipe, inputs.of(recipe.clip)
        self.on_cuda = self.where.device.type == "cuda"
        self.num_classes = job["num_classes"]
        if job.get("source") is not None:
            use_source(Path(job["source"]), recipe.model.name, recipe.model.source_sha256, allow_code=True)
        else:
            allow(recipe.model.name)  # whoever started this process has asked
        self.memory_before = psutil.Process().memory_info().rss
        if not self.on_cuda:
            _limit_memory(int(job["budget_bytes"]))
        self.model = build.model(recipe, self.num_classes, pretrained=False)
        to_device(self.model, self.where)
        self.frozen = build.frozen(recipe, self.model)
        self.optimizer = build.optimizer(recipe, self.model)

    def about(self) -> dict[str, Any]:
        name = (
            torch.cuda.get_device_name(self.where.device) if self.on_cuda else torch.backends.cpu.get_cpu_capability()
        )
        return {
            "device": str(self.where.device),
            "device_name": name,
            "dtype": self.recipe.precision,
            "threads": torch.get_num_threads(),
        }

    def answer(self, what: str, batch: int, repetitions: int) -> dict[str, Any]:
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats(self.where.device)
        try:
            seconds = self._timed(self._train(batch) if what == "train" else self._forward(batch), repetitions)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            del error
            self.optimizer.zero_grad(set_to_none=True)
            if self.on_cuda:
                torch.cuda.empty_cache()
                return {"fits": False}
            raise MemoryError from None
        return {"fits": True, "batch": batch, "seconds": seconds, "peak_bytes": self._peak_bytes()}

    def _train(self, batch: int) -> Callable[[], Any]:
        self.frozen.train()
        clips = self._batch(batch, self.recipe.clip.size)
        return lambda: training_step(self.model, self.optimizer, clips, self.where, self.recipe)

    def _forward(self, batch: int) -> Callable[[], Any]:
        self.model.eval()
        mean, std = self.model.preprocessing.mean, self.model.preprocessing.std
        x = self.input.to_model(self._batch(batch, self.recipe.test_size).clips_BTHWC, None, mean=mean, std=std)

        def step() -> None:
            with torch.inference_mode(), self.where.autocast():
                self.model(x)

        return step

    def _batch(self, batch: int, size: int) -> Batch:
        clip, device = self.recipe.clip, self.where.device
        generator = torch.Generator(device).manual_seed(0)
        pixels = self.input.zeros(batch, clip.num_frames, size).to(device)
        pixels = torch.randint(0, 256, pixels.shape, dtype=pixels.dtype, device=device, generator=generator)
        labels = torch.randint(0, self.num_classes, (batch,), device=device, generator=generator)
        return Batch(pixels, labels, None, None, tuple(range(batch)))

    def _timed(self, step: Callable[[], Any], repetitions: int) -> float:
        """Median, after one step to warm up where there are several."""
        if repetitions > 1:
            step()
        seconds: list[float] = []
        while len(seconds) < repetitions and sum(seconds) < PATIENCE_SECONDS:
            self._synchronise()
            started = time.perf_counter()
            step()
            self._synchronise()
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)

    def _synchronise(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize(self.where.device)

    def _peak_bytes(self) -> int:
        if self.on_cuda:
            return torch.cuda.max_memory_allocated(self.where.device)
        return max(0, _most_memory() - self.memory_before)


def _most_memory() -> int:
    """The most memory that this process has taken at any moment, in bytes.

    On Linux `ru_maxrss` does not answer that: a process inherits it from the one that started it.
    """
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is CUDA's, the CPU allocator's, oneDNN's or Python's for memory that ran out."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "could not create")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _limit_memory(more_bytes: int) -> None:
    """Limit this process to `more_bytes` beyond what it uses now, and let the system end it first."""
    try:
        import resource

        used = psutil.Process().memory_info()
        limit = getattr(used, "data", used.vms) + more_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except (ImportError, OSError, ValueError):  # not Linux: what is expected of a batch is the only limit
        pass


def _serve(questions: IO[str], answers: IO[str]) -> None:
    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        bench = _Bench(json.loads(questions.readline()))
        say(bench.about())
        for line in questions:
            say(bench.answer(**json.loads(line)))
    except UserError as error:
        say({"error": str(error)})
    except MemoryError:  # what is left is nothing to measure with
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        say({"error": f"model: it cannot be measured: {type(error).__name__}: {str(error).strip()}. Mend its code"})


if __name__ == "__main__":
    share_with_others()
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    own_words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no answer
    _serve(sys.stdin, own_words)
