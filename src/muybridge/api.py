"""The Python API: the commands as functions (`muybridge.prepare`, `pack`, `frames`, `train`, `resume`, …)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muybridge import recipes, study, training
from muybridge.data.frames import frames
from muybridge.data.pack import pack
from muybridge.data.prepare import prepare
from muybridge.errors import UserError
from muybridge.evaluation import evaluate
from muybridge.predict import Predictor
from muybridge.recipe import Recipe, Runtime, replace, shortened
from muybridge.runs import Run
from muybridge.study import Study
from muybridge.training import resume


def recipe_of(
    recipe: str | Recipe | None = None,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    fold: int | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
) -> Recipe:
    """A recipe from a name (see `muybridge.recipes.load`), its schedule shortened to a share of it, with a model, a
    manifest, weights to start from (`pretrained`: whole; `init`: what agrees) and dotted changes put in."""
    base = recipe if isinstance(recipe, Recipe) else recipes.load(recipe or recipes.DEFAULT)
    if shorten is not None:
        base = shortened(base, shorten)
    named: dict[str, Any] = {}
    if model is not None:
        named |= {"model.name": model, "model.source_sha256": None}
    if data is not None:
        named |= {"data.manifest": str(data), "data.sha256": None}
    if fold is not None:
        named["data.fold"] = fold
    if pretrained is not None and init is not None:
        raise UserError("Weights are taken whole (--pretrained) or as far as they agree (--init): give one of the two")
    weights = pretrained if init is None else init
    if weights is not None:
        named |= {
            "model.pretrained": None if weights == "none" else str(weights), "model.pretrained_sha256": None,
            "model.pretrained_part": "whole" if init is None else "agreeing",
        }  # fmt: skip
    return replace(base, named | dict(changes or {}))


def train(
    recipe: str | Recipe | None = None,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    out: str | Path,
    fold: int | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    runtime: Runtime | None = None,
) -> Run:
    """Train one model into the run folder `out`. See `muybridge train --help`."""
    return training.train(
        recipe_of(
            recipe,
            model=model,
            data=data,
            fold=fold,
            pretrained=pretrained,
            init=init,
            changes=changes,
            shorten=shorten,
        ),
        out=out,
        runtime=runtime,
    )


def compare(
    models: Sequence[str],
    *,
    data: str | Path,
    out: str | Path,
    recipe: str | Recipe | None = None,
    seeds: int | Sequence[int] = 1,
    folds: Sequence[int] | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    title: str | None = None,
    runtime: Runtime | None = None,
) -> Study:
    """Train and score models × seeds × folds by one recipe and write the report."""
    if not models:
        raise UserError("compare needs at least one model")
    taken = {"model.name": "models", "seed": "seeds", "data.fold": "folds", "data.manifest": "data"}
    for name in changes or {}:
        if name in taken:
            raise UserError(f"{name} is what compare varies or takes by itself; say it with {taken[name]}")
    return study.compare(
        list(models),
        recipe=recipe_of(recipe, data=data, pretrained=pretrained, init=init, changes=changes),
        out=out,
        seeds=list(range(seeds)) if isinstance(seeds, int) else list(seeds),
        folds=folds,
        title=title,
        runtime=runtime,
    )


load = Predictor
"""A run, ready to label videos: `load("runs/tsm")("some.mp4")`."""

__all__ = ["compare", "evaluate", "frames", "load", "pack", "prepare", "recipe_of", "resume", "train"]
