"""From a trained TSM to one that looks back only: `muybridge causal`.

The channels that would look ahead hold the present instead (`muybridge.zoo.temporal.shift`), so that every weight keeps
its meaning, and a short training at a lower learning rate makes good what the missing future costs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.recipe import Recipe, replace
from muybridge.recipe.schedule import peak_lr, resized
from muybridge.runtime.console import log
from muybridge.storage.run import Run
from muybridge.user_code import parsed
from muybridge.zoo.registry import entry

STEPS_SHARE = 0.1
"""Share of the run's steps that the fine-tuning has."""
LR_SHARE = 0.3
"""Share of the run's learning rate that the fine-tuning begins with (docs/causal.md has the measurement)."""
OPTION = "model.options.direction"


def looking_back(
    run: Run,
    *,
    data: str | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe that fine-tunes a finished run as a network that looks back only, from the weights that it scored.

    It is the run's with `direction=past`, a tenth of its steps unless `epochs` or `steps` say how many, and a lower
    learning rate. `data`: the manifest, where it was moved or is another. `changes`: fields that differ further. Raises
    UserError for a run of another family, and for clips that no stream has (`clip.sampling=uniform`).
    """
    run.check_finished()
    recipe = run.recipe()
    _check_network(run, recipe)
    optim, changes = recipe.optim, dict(changes or {})
    length: dict[str, Any] = {"epochs": epochs, "steps": steps}
    length |= {name: changes[f"optim.{name}"] for name in length if isinstance(changes.get(f"optim.{name}"), int)}
    if set(length.values()) == {None}:
        kept = max(1, round(STEPS_SHARE * run.result()["steps"]))
        length = {"shorten": STEPS_SHARE} if optim.schedule_unit == "hours" else {"steps": kept}
    weights = run.checkpoints / recipe.evaluation.checkpoint
    named = {
        OPTION: "past", "model.pretrained": str(weights), "model.pretrained_sha256": None, "model.strict": True,
        "optim.lr": optim.lr * LR_SHARE,
        "optim.warmup_lr": None if optim.warmup_lr is None else optim.warmup_lr * LR_SHARE,
        **({} if data is None else {"data.manifest": data, "data.sha256": None}),
    }  # fmt: skip
    made = replace(resized(recipe, **length), named | changes)
    return _with_a_rate(run, made)


def tell(run: Run, recipe: Recipe) -> None:
    """Log what the fine-tuning begins with."""
    log(
        f"{recipe.model.name} of {run.path} looks back only; it is trained further at a learning rate of "
        f"{peak_lr(recipe):.4g} (it began with {peak_lr(run.recipe()):.4g})"
    )


def _check_network(run: Run, recipe: Recipe) -> None:
    """Raise UserError for a run that is causal already, or cannot be."""
    name = recipe.model.name
    if _is_tsm(name):
        if recipe.model.options.get("direction") == "past":
            raise UserError(
                f"{run.path}: it looks back only already. Use it as it is: muybridge stream {run.path} SOURCE"
            )
        if recipe.model.temporal_pooling:
            raise UserError(
                f"{run.path}: its temporal pooling looks ahead. Train a {name} with --set model.temporal_pooling=false"
            )
        return
    advice = f"Use it as it is: muybridge stream {run.path} SOURCE"
    if name.startswith("tcn"):
        advice = "Train one with --set model.options.causal=true"
    raise UserError(f"{run.path}: {name} cannot be turned to look back only, as tsm can. {advice}")


def _is_tsm(name: str) -> bool:
    parts = parsed(name)
    if parts.method:
        return parts.method == "tsm"
    return parts.code is None and not parts.library and entry(name).family == "tsm"


def _with_a_rate(run: Run, recipe: Recipe) -> Recipe:
    """The recipe with a frame rate, which a stream is read at. Raises UserError where it has none that would do."""
    clip = recipe.clip
    if clip.sampling == "dense" and clip.fps is not None:
        return recipe
    manifest = Manifest.load(recipe.data.manifest)
    rows_N = manifest.split("train", recipe.data.fold)
    fps_N, length_N = (manifest.columns[name][rows_N] for name in ("fps", "num_frames"))
    fps = float(np.median(fps_N))
    if clip.sampling == "uniform":
        stride = max(1, round(float(np.median(length_N / fps_N)) * fps / clip.num_frames))
        raise UserError(
            f"clip.sampling: {run.path} was trained on uniform clips, and a stream has no end to spread them over. Set dense "
            f"ones, here as long as the videos: --set clip.sampling=dense --set clip.fps={fps:g} --set "
            f"clip.stride_frames={stride}"
        )
    if len(np.unique(fps_N)) > 1:
        raise UserError(
            f"clip.fps: {run.path} counts its stride in each video's own frames, and their rates go from {fps_N.min():g} to "
            f"{fps_N.max():g} a second. Say at which rate a stream is to be read: --set clip.fps={fps:g}"
        )
    log(f"clip.fps={fps:g}: the rate of all training videos, at which a stream is read")
    return replace(recipe, {"clip.fps": fps})
