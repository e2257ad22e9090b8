"""The process that measures: `python -m muybridge.training.bench`, told what to do in lines of JSON.

It loads torch once. On Linux it forks for each model; elsewhere it measures one model and ends.
"""

import json
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil
import torch

from muybridge import build
from muybridge.data import inputs
from muybridge.data.views import Batch
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime.device import find_device, has_bf16, to_device
from muybridge.runtime.launch import end_with_parent
from muybridge.runtime.waiting import share_with_others
from muybridge.training.step import training_step
from muybridge.user_code import allow, use_source

PATIENCE_SECONDS = 30
"""No more repetitions after so long."""
FORKS = sys.platform == "linux"
"""Whether a process that has loaded torch, and computed nothing, may be forked."""
LOOK_SECONDS = 0.02
"""Time between two looks at a fork."""
ENDED: dict[str, Any] = {"ended": True}
"""The answer when a fork has ended."""


class Bench:
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
        """Device, precision and threads, as they are kept with the figures."""
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
        """Seconds of a step that trains, or of a `forward`, and the most memory. Raises MemoryError on a CPU."""
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


def _each_in_a_fork(questions: IO[str], answers: IO[str]) -> None:
    """Measure one model after the other, each in a fork; say after each that it has ended, however it has."""
    started_by = os.getppid()
    for job in questions:
        if '"recipe"' not in job:  # a question about a model that has ended meanwhile
            continue
        child = os.fork()
        if not child:
            _measure(job, questions, answers)
            os._exit(0)
        while not os.waitpid(child, os.WNOHANG)[0]:
            if os.getppid() != started_by:  # nobody waits for an answer any more
                os.kill(child, signal.SIGKILL)
                os._exit(1)
            time.sleep(LOOK_SECONDS)
        _say(answers, ENDED)


def _measure(job: str, questions: IO[str], answers: IO[str]) -> None:
    """Answer questions about a model until there is an empty one."""
    try:
        bench = Bench(json.loads(job))
        _say(answers, bench.about())
        for line in iter(questions.readline, ""):
            if not line.strip():
                return
            _say(answers, bench.answer(**json.loads(line)))
    except UserError as error:
        _say(answers, {"error": str(error)})
    except MemoryError:  # what is left is nothing to measure with
        os._exit(1)
    except Exception as error:
        traceback.print_exc()
        words = f"model: it cannot be measured: {type(error).__name__}: {str(error).strip()}. Mend its code"
        _say(answers, {"error": words})


def _say(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    share_with_others()
    own_words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no answer
    if FORKS:
        _each_in_a_fork(sys.stdin, own_words)
    else:
        threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
        _measure(sys.stdin.readline(), sys.stdin, own_words)
