"""A loaded network made ready to answer: all that makes it faster and leaves its scores as they are, to 1e-4.

By rule, and told: batch norms are folded into convolutions, and 3D convolutions of single clips go to oneDNN, where a network
computes in the precision of its weights. In mixed precision the weights of convolutions are rounded once instead of in
every call; then bits stay, while a folded weight would be rounded otherwise. A network is compiled where that was asked for,
or where an evaluation is long and a trial shows that it pays.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median

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


def made_ready(
    model: VideoModel, recipe: Recipe, where: Placement, runtime: Runtime, *, num_clips: int | None = None
) -> str:
    """Make a network ready in place, which is on its device and will not be trained. Returns what computes, for people.

    `num_clips`: about how many clips are to come; None: not known, and nothing is compiled by itself.
    """
    model.eval()
    on = [where.device.type, recipe.precision if where.autocast_dtype else "fp32"]
    if where.device.type == "cpu":
        on.append(plural(torch.get_num_threads(), "thread"))
    if runtime.inference == "plain":
        return ", ".join([*on, "as trained"])
    clip = (recipe.clip.num_frames, recipe.test_size)
    if where.autocast_dtype is None:
        on.append(f"{plural(fold_norms(model, *clip), 'norm')} folded")
        if where.device.type == "cpu" and single_clips_by_onednn(model):
            on.append("single clips by oneDNN")
    else:
        rounded = round_weights(model, *clip, where.autocast_dtype)
        on.append(f"weights of {plural(rounded, 'convolution')} rounded beforehand")
    if runtime.compile or (num_clips is not None and num_clips >= MANY_CLIPS and _has_compiler(where)):
        told = _compiled(model, recipe, where, num_clips=num_clips, is_asked=runtime.compile)
        on += [told] if told else []
    return ", ".join(on)


def _has_compiler(where: Placement) -> bool:
    """Whether torch.compile finds the C++ compiler that it needs for a CPU."""
    if where.device.type != "cpu":  # nothing was measured there: compiled if asked
        return False
    with suppress(Exception):  # a module of torch's that is not public, and says in its own ways that there is none
        from torch._inductor.cpp_builder import get_cpp_compiler

        return shutil.which(get_cpp_compiler()) is not None
    return False


def _compiled(model: VideoModel, recipe: Recipe, where: Placement, *, num_clips: int | None, is_asked: bool) -> str:
    """Compile a network in place if it was asked for, or pays. Returns words for it; empty: it is not compiled."""
    x = model.zeros(recipe.clip.num_frames, recipe.test_size, device=where.device)

    def seconds() -> float:
        start = time.perf_counter()
        with torch.inference_mode(), where.autocast():
            _ = model.features(x) if model.looks_at == "frame" else answer(model, x)
        return time.perf_counter() - start

    seconds()
    plain = seconds()
    if not is_asked and (num_clips or 0) * plain < LONG_SECONDS:
        return ""
    undo = _compile(model)
    try:
        took = seconds()
    except Exception as error:  # a backend's, of any kind
        undo()
        line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        log(f"not compiled, as torch cannot do it here ({line}); the network answers without")
        return ""
    if is_asked:
        return "compiled"
    compiled = [seconds() for _ in range(TRIALS)]
    undo()
    plain = median(seconds() for _ in range(TRIALS))
    share = median(compiled) / plain
    if share > PAYS:
        log(f"not compiled: a trial took {duration(took)}, and then {share:.0%} of the time without")
        return ""
    _compile(model)
    return f"compiled ({share:.0%} of the time without)"


def _compile(model: VideoModel) -> Callable[[], None]:
    """Compile what scoring calls, in place. Returns what undoes it."""
    if model.looks_at == "frame":
        model.features = torch.compile(model.features)  # type: ignore[method-assign]
        return lambda: delattr(model, "features")
    model.compile()
    return lambda: setattr(model, "_compiled_call_impl", None)
