"""The Python API: the commands as functions (`muybridge.prepare`, `pack`, `frames`, `train`, `resume`, …)."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muybridge import recipes, training
from muybridge.console import log
from muybridge.data.frames import frames
from muybridge.data.pack import pack
from muybridge.data.prepare import prepare
from muybridge.diagnosis import diagnose
from muybridge.errors import UserError
from muybridge.evaluation import evaluate
from muybridge.predict import Predictor
from muybridge.recipe import Recipe, Runtime, replace, shortened
from muybridge.recipes import studies
from muybridge.recipes.plan import Plan, Value, of_models, of_network
from muybridge.runs import Run
from muybridge.study import Study, dry_run, repeated, run
from muybridge.training import resume
from muybridge.user_code import allow, check_consent


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
    allow_code: bool = False,
) -> Recipe:
    """A recipe from a name (see `muybridge.recipes.load`), its schedule shortened to a share of it, with a model, a
    manifest, weights to start from (`pretrained`: whole; `init`: what agrees) and dotted changes put in. A model of the
    user's own that a file names, and not `model`, needs `allow_code`. Raises UserError."""
    base = recipe if isinstance(recipe, Recipe) else recipes.load(recipe or recipes.DEFAULT)
    if shorten is not None:
        base = shortened(base, shorten)
    named: dict[str, Any] = {}
    if model is not None:
        allow(model)
        named |= of_network(model)
    if data is not None:
        named |= {"data.manifest": str(data), "data.sha256": None}
    if fold is not None:
        named["data.fold"] = fold
    if pretrained is not None and init is not None:
        raise UserError("Weights are taken whole (--pretrained) or as far as they agree (--init): give one of the two")
    weights = pretrained if init is None else init
    if weights is not None:
        if not str(weights).strip():
            raise UserError(
                "--pretrained and --init name weights to start from: imagenet, a run folder, a file, … An empty name is none; "
                "to start from scratch: --pretrained none"
            )
        named |= {
            "model.pretrained": None if weights == "none" else str(weights), "model.pretrained_sha256": None,
            "model.pretrained_part": "whole" if init is None else "agreeing",
        }  # fmt: skip
    made = replace(base, named | dict(changes or {}))
    if "model.name" in (changes or {}):
        allow(made.model.name)
    where = "The recipe" if recipe is None or isinstance(recipe, Recipe) else recipe
    check_consent(made.model.name, where=where, allow_code=allow_code)
    return made


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
    allow_code: bool = False,
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
            allow_code=allow_code,
        ),
        out=out,
        runtime=runtime,
    )


def plan(
    models: Sequence[str] | None = None,
    *,
    data: str | Path | Sequence[str | Path],
    study: str | Plan | None = None,
    recipe: str | Recipe | None = None,
    seeds: int | Sequence[int] = 1,
    folds: Sequence[int] | None = None,
    only: Mapping[str, Sequence[Value]] | None = None,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    title: str | None = None,
    allow_code: bool = False,
) -> Plan:
    """The runs that `compare` would train: models × seeds × folds by one recipe, or those of a `study` (its name,
    mine.py:function, or a Plan), of which `only` picks some by their axes. A model of the user's own that is named neither in
    `models` nor by such a function needs `allow_code`."""
    taken = {"model.name": "models", "seed": "seeds", "data.fold": "folds", "data.manifest": "data"}
    for name in changes or {}:
        if name in taken:
            raise UserError(f"{name} is what compare varies or takes by itself; say it with {taken[name]}")
    for model in models or ():
        allow(model)
    manifests = [str(path) for path in ([data] if isinstance(data, str | Path) else data)]
    if study is None:
        if not models:
            raise UserError("compare needs at least one model, or a study")
        base = recipe_of(recipe, model=models[0], pretrained=pretrained, init=init, changes=changes, shorten=shorten)
        made = of_models(list(models), recipe=base, data=manifests)
    else:
        if init is not None:
            raise UserError("A study says itself what its runs start from; --init goes with models alone")
        given = {
            "models": None if models is None else tuple(models),
            "pretrained": None if pretrained is None else str(pretrained),
            "recipe": recipes.load(recipe) if isinstance(recipe, str) else recipe,
        }
        given = {name: value for name, value in given.items() if value is not None}
        made = studies.of(study, data=manifests, **given).changed(changes or {}, shorten=shorten)
    for planned in made.runs.values():
        check_consent(planned.recipe.model.name, where=made.title, allow_code=allow_code)
    made.check_needs()
    made = repeated(made, seeds=range(seeds) if isinstance(seeds, int) else seeds, folds=folds)
    if only:
        made, kept = made.only(only)
        if kept:
            log(f"kept, as others start from them: {', '.join(kept)}")
    return made if title is None else dataclasses.replace(made, title=title)


def compare(
    models: Sequence[str] | None = None,
    *,
    data: str | Path | Sequence[str | Path],
    out: str | Path,
    study: str | Plan | None = None,
    recipe: str | Recipe | None = None,
    seeds: int | Sequence[int] = 1,
    folds: Sequence[int] | None = None,
    only: Mapping[str, Sequence[Value]] | None = None,
    tune: int = 0,
    pretrained: str | Path | None = None,
    init: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    shorten: float | None = None,
    measure: bool = False,
    diagnose: bool = False,
    title: str | None = None,
    allow_code: bool = False,
    runtime: Runtime | None = None,
) -> Study:
    """Train and score the runs of a `plan` into the folder `out`, and write the report. `tune`: trials on val for the
    learning rate and weight decay of each setting. `measure`: also speed and memory of each; `diagnose`: also what every run
    answers with its frames in other orders."""
    made = plan(
        models, data=data, study=study, recipe=recipe, seeds=seeds, folds=folds, only=only, pretrained=pretrained,
        init=init, changes=changes, shorten=shorten, title=title, allow_code=allow_code,
    )  # fmt: skip
    return run(made, out=out, tune=tune, measure=measure, diagnose=diagnose, runtime=runtime)


load = Predictor
"""A run, ready to label videos: `load("runs/tsm")("some.mp4")`."""

__all__ = [
    "compare",
    "diagnose",
    "dry_run",
    "evaluate",
    "frames",
    "load",
    "pack",
    "plan",
    "prepare",
    "recipe_of",
    "resume",
    "train",
]
