"""A study: recipes that differ only in what is being compared (model, seed, fold), run one after another.

STUDY/
  study.json       names of the runs, and the protocol they share
  runs/NAME/       one run folder each; a finished run is not run again
  report.html …    what it shows a person
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muybridge import build
from muybridge.console import log
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.files import read_json, write_json
from muybridge.recipe import Recipe, Runtime, diff, fingerprint, replace
from muybridge.results.comparison import Comparison
from muybridge.results.report import write_report
from muybridge.runs import Run
from muybridge.training import check, resume, train

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Study:
    """A finished comparison on disk."""

    path: Path
    runs: tuple[Run, ...]
    comparison: Comparison = field(repr=False)

    @property
    def report(self) -> Path:
        return self.path / "report.html"


def compare(
    models: Sequence[str],
    *,
    recipe: Recipe,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    folds: Sequence[int] | None = None,
    title: str | None = None,
    runtime: Runtime | None = None,
) -> Study:
    """Train every model with every seed on every fold by one recipe, score all alike, write the report.

    `folds`: none takes every fold the manifest has. A run that is finished is not run again; one that was stopped is
    continued. Called again with more models, seeds or folds, it adds them. Raises UserError, Interrupted.
    """
    out = Path(out)
    runtime = runtime or Runtime()
    manifest = Manifest.load(recipe.data.manifest)
    chosen_folds: Sequence[int | None] = folds or manifest.folds or (None,)
    for fold in chosen_folds:
        if not len(manifest.split("test", fold)):
            raise UserError(f"{recipe.data.manifest} has no test videos to compare models on")
    if len(set(models)) != len(models) or len(set(seeds)) != len(seeds):
        raise UserError("Models and seeds of a comparison must differ from each other")
    plan = plan_recipes(models, recipe=recipe, seeds=seeds, folds=chosen_folds)
    plan = {name: build.resolve(planned, runtime, manifest) for name, planned in plan.items()}
    for planned in plan.values():  # every name, clip length and split is checked before the first minute is spent
        if planned.seed == seeds[0]:
            check(planned, manifest)
    states = {name: _state(out / "runs" / name, planned) for name, planned in plan.items()}
    out.mkdir(parents=True, exist_ok=True)
    title = title or f"Models on {Path(recipe.data.manifest).stem}"
    earlier = read_json(out / "study.json")["runs"] if (out / "study.json").exists() else []
    names = [*(name for name in earlier if name not in plan and Run(out / "runs" / name).is_finished), *plan]
    write_json(out / "study.json", {
        "format_version": FORMAT_VERSION, "title": title, "runs": names, "protocol": recipe.model_dump(),
    })  # fmt: skip
    for number, (name, planned) in enumerate(plan.items(), start=1):
        folder = out / "runs" / name
        if states[name] == "finished":
            log(f"[{number}/{len(plan)}] {name}: finished before")
            continue
        log(f"[{number}/{len(plan)}] {name}")
        run = (
            resume(folder, data=recipe.data.manifest, runtime=runtime)
            if states[name] == "begun"
            else train(planned, out=folder, runtime=runtime)
        )
        test = run.result().get("test", {})
        log(f"    video accuracy {test.get('video_top1', float('nan')):.3f} on {test.get('videos', 0):.0f} test videos")
    if len(names) > len(plan):
        log(f"the report holds {len(names) - len(plan)} runs of earlier calls, too")
    runs = tuple(Run(out / "runs" / name) for name in names)
    return Study(out, runs, write_report(runs, out=out / "report.html", title=title))


def plan_recipes(
    models: Sequence[str], *, recipe: Recipe, seeds: Sequence[int], folds: Sequence[int | None]
) -> dict[str, Recipe]:
    """Run names to recipes: every model × seed × fold, differing in nothing else."""
    plan = {}
    for model in models:
        for seed in seeds:
            for fold in folds:
                name = f"{re.sub(r'[^A-Za-z0-9_.+-]+', '.', model)}-seed{seed}" + (
                    "" if fold is None else f"-fold{fold}"
                )
                plan[name] = replace(recipe, {"model.name": model, "seed": seed, "data.fold": fold})
    return plan


def _state(folder: Path, planned: Recipe) -> str:
    """ "new", "begun" or "finished". Raises UserError for a folder that holds a run of another recipe."""
    run = Run(folder)
    if not (folder / "recipe.json").exists() or not (run.is_finished or (run.checkpoints / "last").exists()):
        return "new"
    if fingerprint(run.recipe()) != fingerprint(planned):
        changes = "; ".join(f"{name} was {a}, is {b}" for name, (a, b) in list(diff(run.recipe(), planned).items())[:4])
        raise UserError(
            f"{folder} holds a run of another recipe ({changes}). Choose another --out, or remove that folder"
        )
    return "finished" if run.is_finished else "begun"
