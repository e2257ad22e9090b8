"""A loaded network made ready to answer: all that makes it faster and leaves its scores as they are, to 1e-4.

By rule, and told: batch norms are folded into convolutions, and 3D convolutions of single clips go to oneDNN, where a network
computes in the precision of its weights. In mixed precision the weights of convolutions are rounded once instead of in
every call; then bits stay, while a folded weight would be rounded otherwise. A network is compiled where that was asked for,
or where an evaluation is long and a trial shows that it pays. Where a compiled one fails, the plain one answers.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from muybridge.evaluation.score import answer
from muybridge.recipe import Recipe, Runtime
from muybridge.runtime.console import log
from muybridge.runtime.device import Placement
from muybridge.text import duration, plural
from muybridge.zoo import VideoModel
from muybridge.zoo.folding import fold_norms, round_weights
from muybridge.zoo.volumes import single_clips_by_onednn

MANY_CLIPS = 200
"""Fewer clips are never compiled for, nor timed."""
LONG_SECONDS = 1200.0
"""A shorter evaluation is never compiled for: a cold start takes up to a minute, a second shape as long again."""
PAYS = 0.9
"""A compiled network is kept by itself where it takes no more of the time than this."""
TRIALS = 3


@dataclass(eq=False)
class Ready:
    """A network that is ready. Its `str` says what computes, for people."""

    on: tuple[str, ...]
    """Device, precision, threads, and what was done to the network."""
    compiled: str = ""
    """Words for a network that is compiled; empty: it is not, or not any more."""

    def __str__(self) -> str:
        return ", ".join([*self.on, *([self.compiled] if self.compiled else [])])


@dataclass(frozen=True)
class Work:
    """Clips that a network is made ready for."""

    batches: Sequence[int] = (1,)
    """Numbers of clips that go through it together, that of most batches first."""
    num_clips: int | None = None
    """About how many clips are to come; None: not known, and nothing is compiled by itself."""


def made_ready(
    model: VideoModel, recipe: Recipe, where: Placement, runtime: Runtime, work: Work | None = None
) -> Ready:
    """Make a network ready in place, which is on its device and will not be trained. `work`: what it is to answer."""
    model.eval()
    on = [where.device.type, recipe.precision if where.autocast_dtype else "fp32"]
    if where.device.type == "cpu":
        on.append(plural(torch.get_num_threads(), "thread"))
    if runtime.inference == "plain":
        return Ready((*on, "as trained"))
    clip = (recipe.clip.num_frames, recipe.test_size)
    if where.autocast_dtype is None:
        on.append(f"{plural(fold_norms(model, *clip), 'norm')} folded")
        if where.device.type == "cpu" and single_clips_by_onednn(model):
            on.append("single clips by oneDNN")
    else:
        rounded = round_weights(model, *clip, where.autocast_dtype)
        on.append(f"weights of {plural(rounded, 'convolution')} rounded beforehand")
    ready, work = Ready(tuple(on)), work or Work()
    if runtime.compile or (work.num_clips is not None and work.num_clips >= MANY_CLIPS and _has_compiler(where)):
        _compile_if_good(model, recipe, where, work, ready, is_asked=runtime.compile)
    return ready


def _has_compiler(where: Placement) -> bool:
    """Whether torch.compile finds the C++ compiler that it needs for a CPU."""
    if where.device.type != "cpu":  # nothing was measured there: compiled if asked
        return False
    with suppress(Exception):  # a module of torch's that is not public, and says in its own ways that there is none
        from torch._inductor.cpp_builder import get_cpp_compiler

        return shutil.which(get_cpp_compiler()) is not None
    return False


def _compile_if_good(
    model: VideoModel, recipe: Recipe, where: Placement, work: Work, ready: Ready, *, is_asked: bool
) -> None:
    """Compile a network in place if it was asked for, or pays for the batches that are to come; `ready` then says so."""

    def seconds(clips: int) -> float:
        if model.looks_at == "frame":  # as `score` asks it
            x = model.zeros(1, recipe.test_size, batch_size=clips * recipe.clip.num_frames, device=where.device)
        else:
            x = model.zeros(recipe.clip.num_frames, recipe.test_size, batch_size=clips, device=where.device)
        start = time.perf_counter()
        with torch.inference_mode(), where.autocast():
            _ = model.features(x) if model.looks_at == "frame" else answer(model, x)
        return time.perf_counter() - start

    usual, num_clips = work.batches[0], work.num_clips or 0
    if not is_asked:
        for clips in dict.fromkeys((1, usual)):  # (alone a clip takes as long as in a batch, or longer)
            seconds(clips)
            if num_clips * seconds(clips) / clips < LONG_SECONDS:
                return
    ready.compiled = "compiled"
    undo = _compile(model, ready)
    took = sum(seconds(clips) for clips in work.batches)
    if is_asked or not ready.compiled:
        return
    compiled = [seconds(usual) for _ in range(TRIALS)]
    undo()
    share = median(compiled) / median(seconds(usual) for _ in range(TRIALS))
    if share > PAYS:
        ready.compiled = ""
        log(f"not compiled: a trial took {duration(took)}, and then {share:.0%} of the time without")
        return
    ready.compiled = f"compiled ({share:.0%} of the time without)"
    _compile(model, ready)


def _compile(model: VideoModel, ready: Ready) -> Callable[[], None]:
    """Compile what scoring calls, in place, until it fails. Returns what undoes it."""
    net: Any = model
    of_frames = model.looks_at == "frame"
    plain = net.features if of_frames else net._call_impl

    def undo() -> None:
        if of_frames:
            vars(net).pop("features", None)
        else:
            net._compiled_call_impl = None

    def fail(error: Exception) -> None:
        undo()
        told, ready.compiled = ready.compiled, ""
        if told:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            log(f"not compiled, as torch cannot do it here ({line}); the network answers without")

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled(*args, **kwargs)
        except Exception as error:  # a backend's, of any kind, at any shape that is new to it
            out = plain(*args, **kwargs)  # which raises what is the network's own fault
            fail(error)
            return out

    try:
        if of_frames:
            compiled, net.features = torch.compile(plain), call
        else:
            net.compile()
            compiled, net._compiled_call_impl = net._compiled_call_impl, call
    except Exception as error:  # as where torch finds no folder to write to
        fail(error)
    return undo
