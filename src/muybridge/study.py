"""A study: the runs of a plan, one after the other, scored alike, and what they show.

STUDY/
  study.json       names and axes of the runs; the reports
  runs/NAME/       one run folder each; a finished run is not run again
  tuning/ …        trials that chose learning rate and weight decay, on val alone
  tuning.json      what was tried, and what was chosen
  report.html …    what it shows a person (`muybridge.results.report`)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from scipy.stats import qmc
from typing_extensions import TypedDict

from muybridge import build, diagnosis, distributed
from muybridge.console import log
from muybridge.data.manifest import Manifest
from muybridge.distributed import Processes
from muybridge.errors import Diverged, UserError
from muybridge.files import clear_partials, read_as, within, write_atomic, write_json
from muybridge.locks import locked
from muybridge.measure import outline
from muybridge.recipe import Recipe, Runtime, diff, fingerprint, replace, to_json
from muybridge.recipes.plan import (
    START,
    Plan,
    Planned,
    data_name,
    of_models,
    repeat_name,
    run_name,
    setting_name,
)
from muybridge.results.comparison import Comparison, compared_study, listed
from muybridge.results.record import RunRecord, SetRecord, StudyRecord
from muybridge.results.report import Report
from muybridge.results.rows import REPEATED
from muybridge.runs import Run
from muybridge.speed import measure_run
from muybridge.text import plural
from muybridge.training import check, resume, train
from muybridge.user_code import allow

TUNING_SEED = 1_000_000
"""Of all trials; the runs that are compared have others."""

TUNED = ("optim.lr", "optim.weight_decay", "optim.warmup_lr")
"""What trials vary."""


@dataclass(frozen=True)
class Study:
    """A finished study on disk."""

    path: Path
    runs: tuple[Run, ...]
    comparisons: Mapping[str, Comparison] = field(repr=False)
    """By data set."""

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def comparison(self) -> Comparison:
        """Of the first data set."""
        return next(iter(self.comparisons.values()))


def compare(
    models: Sequence[str],
    *,
    recipe: Recipe,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    folds: Sequence[int] | None = None,
    title: str | None = None,
    tune: int = 0,
    measure: bool = False,
    diagnose: bool = False,
    runtime: Runtime | None = None,
) -> Study:
    """Train every model with every seed on every fold by one recipe, score all alike, write the report.

    `folds`: none takes every fold the manifest has. `tune`, `measure`, `diagnose`: as in `run`. Raises UserError,
    Interrupted.
    """
    for model in models:
        allow(model)
    plan = of_models(models, recipe=recipe, data=[recipe.data.manifest], title=title)
    plan = repeated(plan, seeds=seeds, folds=folds)
    return run(plan, out=out, tune=tune, measure=measure, diagnose=diagnose, runtime=runtime)


def repeated(plan: Plan, *, seeds: Sequence[int], folds: Sequence[int] | None = None) -> Plan:
    """A plan with every seed on every fold; none takes every fold that a manifest has. Raises UserError."""
    by_manifest: dict[str, Sequence[int | None]] = {}
    for path in plan.manifests():
        own = Manifest.load(path).folds
        by_manifest[path] = folds or own or (None,)
    return plan.repeated(seeds=seeds, folds=by_manifest)


def run(
    plan: Plan,
    *,
    out: str | Path,
    tune: int = 0,
    measure: bool = False,
    diagnose: bool = False,
    runtime: Runtime | None = None,
) -> Study:
    """Carry out a plan in the folder `out`, and write the report.

    A run that is finished is not run again, one that was stopped is continued; called again with more runs, it adds them.
    `tune`: before that, every setting gets so many trials on val to choose its learning rate and weight decay. `measure`:
    then the first run of every setting is measured (speed, memory); `diagnose`: then every run is scored with its frames in
    other orders; what was, is not again. Raises UserError, Interrupted.
    """
    place = _place(plan, out, runtime)
    processes = place.processes
    if measure and processes.count > 1:
        raise UserError("Speed is measured by one process, alone: muybridge measure STUDY, afterwards")
    with processes.telling(), ExitStack() as held:
        if processes.is_first and place.out.is_dir():
            held.enter_context(_locked(place.out))
        plan = processes.firsts(_named(plan, place.out))
        place.check(plan, tune)
        place.check_whole(plan, tuned=tune > 0)
        if processes.is_first and not place.out.is_dir():
            place.out.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(place.out))
            if (place.out / "runs").exists() or (place.out / "study.json").exists():
                raise UserError(f"{place.out}: another process began a study there meanwhile; repeat the command")
        if tune:
            plan = _tuned(plan, tune, place)
        record = processes.firsts(_record(plan, place.out))
        if processes.is_first:
            record.save()
        order = plan.order()
        for number, name in enumerate(order, start=1):
            planned = plan.runs[name]
            base = None if planned.starts_from is None else record.run(planned.starts_from)
            place.finish(record.run(name), _started(planned.recipe, base), f"[{number}/{len(order)}] {name}")
        first_of = [record.run(names[0]) for names in plan.settings().values()] if measure else []
        for trained in first_of:
            known = trained.speed()
            if known is None or known.get("memory_is_unknown"):
                measure_run(trained, runtime=place.runtime, allow_code="mine")
        for trained in map(record.run, order if diagnose else []):
            if processes.firsts(trained.diagnosis() is None):
                log(f"diagnosing {trained.name}")
                diagnosis.diagnose(trained, runtime=place.runtime, allow_code="mine")
        if len(record.runs) > len(plan.runs):
            log(f"the study holds {len(record.runs) - len(plan.runs)} runs of earlier calls, too")
        comparisons = compared_study(record)
        if processes.is_first:
            Report.of(comparisons, title=record.title).write(place.out / "report.html")
        processes.firsts(None)
    return Study(place.out, tuple(record.run(name) for name in record.runs), comparisons)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One process carries out a study."""
    with locked(out, "compares in it"):
        clear_partials(out)
        for name in ("runs", "tuning"):
            within(out, name)
        yield


def dry_run(plan: Plan, *, out: str | Path, tune: int = 0, runtime: Runtime | None = None) -> Plan:
    """The plan as `run` would carry it out, with the names that its runs have in the folder `out`, and the epochs that they
    will be trained for; every model's name, clip length, fold and split is checked, and nothing is written. Raises
    UserError."""
    place = _place(plan, out, runtime)
    with place.processes.telling():
        plan = _named(plan, place.out)
        place.check(plan, tune)
    return plan.with_recipes({name: place.with_epochs(planned.recipe) for name, planned in plan.runs.items()})


@dataclass(frozen=True)
class _Place:
    """Where and with what runs are trained."""

    out: Path
    runtime: Runtime
    processes: Processes
    manifests: Mapping[str, Manifest]

    def with_epochs(self, recipe: Recipe) -> Recipe:
        """A recipe with as many epochs as its least number of steps takes on its set."""
        rows = self.manifests[recipe.data.manifest].split("train", recipe.data.fold)
        return replace(recipe, {"optim.epochs": build.num_epochs(recipe, len(rows))})

    def _check_folds(self, plan: Plan) -> None:
        """The folds of a set are pooled as one test: no video may be in two."""
        for path, manifest in self.manifests.items():
            folds = {p.recipe.data.fold for p in plan.runs.values() if p.recipe.data.manifest == path}
            tested = np.concatenate([manifest.split("test", fold) for fold in folds])
            twice = len(tested) - len(np.unique(tested))
            if twice:
                raise UserError(
                    f"{path}: the folds test {twice} videos more than once, and cannot be pooled as one test. Compare on one "
                    "fold at a time: --folds 1"
                )

    def check(self, plan: Plan, trials: int) -> None:
        """Names, clip lengths and splits, and the searches that were made before. Raises UserError."""
        plan.check_needs()
        self._check_folds(plan)
        built = set()
        for name, planned in plan.runs.items():
            recipe = planned.recipe
            manifest = self.manifests[recipe.data.manifest]
            if not len(manifest.split("test", recipe.data.fold)):
                raise UserError(f"{recipe.data.manifest} has no test videos to compare models on")
            if trials and not len(manifest.split("val", recipe.data.fold)):
                raise UserError(
                    f"{recipe.data.manifest} has no validation videos to tune on, and the test split is never tuned on; "
                    "`muybridge prepare --val 0.15` cuts some from train"
                )
            if planned.starts_from is not None:
                self._check_unseen(plan, name)
            m, frames = recipe.model, recipe.clip.num_frames
            key = (m.name, frames, m.temporal_pooling, str(m.options))
            if key not in built:
                outline(
                    m.name, num_classes=len(manifest.classes), num_frames=frames, temporal_pooling=m.temporal_pooling,
                    **m.options,
                )  # fmt: skip
            built.add(key)
        if trials:
            self._check_searches(plan, trials)

    def _check_searches(self, plan: Plan, trials: int) -> None:
        """What runs were trained by stays what the search says, and no trial is spent on what cannot be used."""
        if any(planned.recipe.seed == TUNING_SEED for planned in plan.runs.values()):
            raise UserError(f"Seed {TUNING_SEED} is that of the trials; compare with others")
        known = _searches(self.out)
        begun: dict[str, list[str]] = {}
        for name, run in _begun(self.out).items():
            begun.setdefault(setting_name(name, run.recipe().seed), []).append(name)
        for setting, names in plan.settings().items():
            before = len(known.get(setting, {}).get("trials", []))
            if setting in begun and before != trials:
                how = (
                    f"after a search of {before} trials (--tune {before} goes on with it)"
                    if before
                    else "without a search"
                )
                raise UserError(
                    f"{self.out / 'runs' / begun[setting][0]} was trained {how}; {trials} trials now might choose otherwise. "
                    "Choose another --out, or remove the runs of this setting"
                )
            planned = plan.runs[names[0]]
            if planned.starts_from is None:
                for number, trial in enumerate(_trials(planned.recipe, trials)):
                    resolved = build.resolve(trial, self.runtime, self.manifests[trial.data.manifest])
                    _state(_trial_run(self.out, setting, number), resolved)

    def check_whole(self, plan: Plan, *, tuned: bool) -> None:
        """Whatever else can be told before the first minute is spent: weights are fetched, and fit. Raises UserError."""
        checked = set()
        for name, planned in plan.runs.items():
            recipe = planned.recipe
            manifest = self.manifests[recipe.data.manifest]
            if planned.starts_from is not None:
                recipe = replace(recipe, {"model.pretrained": None})
            resolved = build.resolve(recipe, self.runtime, manifest)
            folder = Run(self.out / "runs" / name)
            if planned.starts_from is None and not tuned:
                _state(folder, resolved)
            key = fingerprint(replace(resolved, {"seed": 0}))
            if key not in checked and not folder.is_finished and self.processes.is_first:
                check(resolved, manifest, processes=self.processes.count)
            checked.add(key)
        self.processes.firsts(None)

    def _check_unseen(self, plan: Plan, name: str) -> None:
        """No run is tested on videos that a run was trained on which it builds upon."""
        *bases, own = (plan.runs[link].recipe.data for link in plan.chain(name))
        tested = self.manifests[own.manifest]
        hashes = set(tested.text("sha256", tested.split("test", own.fold)).tolist())
        start = build.base_run(plan.runs[plan.chain(name)[0]].recipe)
        if start is not None:
            trained = set(tested.text("sha256", tested.split("train", own.fold)).tolist())
            both = hashes & set(start.seen_sha256().tolist()) - trained
            if both:
                raise UserError(
                    f"{name} would be tested on {len(both)} videos that {start.path} was trained on, with whose weights its "
                    "chain of runs starts"
                )
        for base in bases:
            if (base.manifest, base.fold) == (own.manifest, own.fold):
                continue
            seen = self.manifests[base.manifest]
            both = hashes & set(seen.text("sha256", seen.split("train", base.fold)).tolist())
            if both:
                raise UserError(
                    f"{name} would be tested on {len(both)} videos that it was trained on before, as part of {base.manifest}"
                )

    def finish(self, folder: Run, recipe: Recipe, text: str) -> None:
        """Let a run be finished, whatever of it is there."""
        within(self.out, folder.path.relative_to(self.out))
        manifest = self.manifests[recipe.data.manifest]
        resolved = build.resolve(recipe, self.runtime, manifest)
        state = self.processes.firsts(_state(folder, resolved))
        if state == "finished":
            log(f"{text}: finished before")
            return
        log(text)
        if state == "begun":
            if self.processes.is_first:  # what it starts from may lie elsewhere by now
                write_atomic(folder.file("recipe.json"), to_json(resolved))
            self.processes.firsts(None)
            resume(folder, data=recipe.data.manifest, runtime=self.runtime, allow_code="mine")
        else:
            train(resolved, out=folder.path, runtime=self.runtime)
        result = folder.result()
        split = "test" if "test" in result else "val"
        if split in result:
            log(f"    video accuracy {result[split]['video_top1']:.3f} on {result[split]['videos']} {split} videos")


def _place(plan: Plan, out: str | Path, runtime: Runtime | None) -> _Place:
    runtime = runtime or Runtime()
    manifests = {path: Manifest.load(path) for path in plan.manifests()}
    return _Place(Path(out), runtime, distributed.join(build.device(runtime)), manifests)


def _started(recipe: Recipe, base: Run | None) -> Recipe:
    """A recipe that starts from the run `base`, whole; as it is, where there is none."""
    if base is None:
        return recipe
    weights = str(base.path.resolve())
    return replace(recipe, dict.fromkeys(START) | {"model.pretrained": weights, "model.pretrained_part": "whole"})


def _state(run: Run, resolved: Recipe) -> str:
    """ "new", "begun" or "finished". Raises UserError for a folder that holds a run of another recipe."""
    if not (run.path / "recipe.json").exists() or not (run.is_finished or (run.checkpoints / "last").exists()):
        return "new"
    if fingerprint(run.recipe()) != fingerprint(resolved):
        changes = "; ".join(
            f"{name} was {a}, is {b}" for name, (a, b) in list(diff(run.recipe(), resolved).items())[:4]
        )
        raise UserError(
            f"{run.path} holds a run of another recipe ({changes}). Choose another --out, or remove that folder"
        )
    return "finished" if run.is_finished else "begun"


def _begun(out: Path) -> dict[str, Run]:
    """Runs of the folder that hold a checkpoint, or are finished."""
    runs = [Run(file.parent) for file in sorted((out / "runs").glob("*/recipe.json"))]
    return {run.name: run for run in runs if run.is_finished or (run.checkpoints / "last").exists()}


def _named(plan: Plan, out: Path) -> Plan:
    """The plan with the names that its settings have in this study already; a name that another setting has gets the set's
    in front. (A plan of one set leaves that out.)"""
    known = StudyRecord.load(out).runs if (out / "study.json").exists() else {}
    axes_of = {name: known[name].axes for name in known if known[name].axes}
    for name, run in _begun(out).items():
        axes_of.setdefault(name, _axes_of(run.recipe()))
    taken: dict[str, dict[str, Any]] = {}  # by the name without seed and fold
    for name, axes in axes_of.items():
        taken.setdefault(_stem(name, axes)[0], _apart_from_repeats(axes))
    names = {}
    for name, planned in plan.runs.items():
        stem, repeat = _stem(name, planned.axes)
        axes = _apart_from_repeats(planned.axes)
        if stem in taken and taken[stem].get("data") == axes.get("data"):
            continue
        same = [other for other, theirs in taken.items() if theirs == axes]
        if same:
            names[name] = same[0] + repeat
        elif stem in taken:
            names[name] = run_name(str(axes.get("data", "")), stem) + repeat
    return plan.renamed(names)


def _stem(name: str, axes: Mapping[str, Any]) -> tuple[str, str]:
    """A run's name without seed and fold, and these."""
    repeat = "" if "seed" not in axes else repeat_name("", axes["seed"], axes.get("fold"))
    return (name.removesuffix(repeat), repeat) if repeat and name.endswith(repeat) else (name, "")


def _apart_from_repeats(axes: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: value for axis, value in axes.items() if axis not in REPEATED}


def _axes_of(recipe: Recipe) -> dict[str, Any]:
    """Of a run that was made before studies kept axes: models were compared, and nothing else."""
    axes = {"data": data_name(recipe.data.manifest), "model": recipe.model.name, "seed": recipe.seed}
    return axes if recipe.data.fold is None else axes | {"fold": recipe.data.fold}


def _record(plan: Plan, out: Path) -> StudyRecord:
    """What is known of the plan's runs, and of those of earlier calls that are finished."""
    earlier = StudyRecord.load(out) if (out / "study.json").exists() else StudyRecord(out)
    kept = {
        name: known if known.axes else RunRecord(_axes_of(earlier.run(name).recipe()))
        for name, known in earlier.runs.items()
        if name not in plan.runs and earlier.run(name).is_finished
    }
    runs = kept | {name: RunRecord(dict(planned.axes), planned.starts_from) for name, planned in plan.runs.items()}
    varies = {
        axis: tuple(dict.fromkeys((*earlier.varies.get(axis, ()), *plan.varies.get(axis, ()))))
        for axis in dict.fromkeys(axis for known in runs.values() for axis in known.axes)
    }
    sets: dict[str, list[str]] = {}
    for name in runs:
        recipe = plan.runs[name].recipe if name in plan.runs else earlier.run(name).recipe()
        sets.setdefault(data_name(recipe.data.manifest), []).append(name)
    found = {}
    for called, names in sets.items():
        recipes = {name: plan.runs[name].recipe if name in plan.runs else earlier.run(name).recipe() for name in names}
        found[called] = SetRecord(tuple(names), tuple(_notes(_searches(out), called, recipes)))
    return StudyRecord(out, plan.title, runs, varies, found)


# --- the same search for every setting


def factors(trials: int) -> list[tuple[float, float]]:
    """What the learning rate and the weight decay of each trial are multiplied with: nothing at first, then .1 to 10, spread
    evenly (a Halton sequence, log-uniform). More trials go on where fewer ended. No two have one learning rate: a weight
    decay of 0 stays 0."""
    drawn_N2 = qmc.Halton(d=2, scramble=False).random(trials)[1:]  # the first is the corner, (0, 0)
    # the learning rate takes the thirds: of the halves, the first is the middle, which changes nothing
    return [(1.0, 1.0), *((float(10 ** (2 * lr - 1)), float(10 ** (2 * decay - 1))) for decay, lr in drawn_N2)]


def _trials(recipe: Recipe, trials: int) -> list[Recipe]:
    searched = {"seed": TUNING_SEED, "evaluation.score_test": False}
    return [replace(_times(recipe, lr, decay), searched) for lr, decay in factors(trials)]


def _trial_run(out: Path, setting: str, number: int) -> Run:
    return Run(out / "tuning" / setting / f"trial-{number}")


class _Trial(TypedDict):
    run: str
    lr: float
    weight_decay: float
    fingerprint: str
    failed: NotRequired[str]
    val_video_top1: NotRequired[float]
    val_loss: NotRequired[float]


class _Search(TypedDict):
    axes: dict[str, Any]
    trials: list[_Trial]
    chosen: int | None


class _Tuning(TypedDict):
    """What tuning.json holds."""

    settings: dict[str, _Search]


def _searches(out: Path) -> dict[str, Any]:
    """By setting, what was tried and chosen."""
    file = out / "tuning.json"
    found: dict[str, Any] = read_as(_Tuning, file)["settings"] if file.exists() else {}
    return found


def _tuned(plan: Plan, trials: int, place: _Place) -> Plan:
    """The plan with the learning rate and weight decay that were best on val for each setting and fold. A setting's trials
    start from the best trial of what it starts from."""
    known = place.processes.firsts(_searches(place.out))
    best: dict[str, Run] = {}
    recipes: dict[str, Recipe] = {}
    setting_of = {name: setting for setting, names in plan.settings().items() for name in names}
    for setting, names in plan.settings().items():
        planned = plan.runs[names[0]]
        base = None if planned.starts_from is None else best[setting_of[planned.starts_from]]
        before = known.get(setting, {}).get("trials", [])
        tried: list[dict[str, Any]] = []
        for number, trial in enumerate(_trials(planned.recipe, trials)):
            said = f"{setting}: trial {number + 1} of {trials}"
            folder = _trial_run(place.out, setting, number)
            tried.append(_outcome(folder, _started(trial, base), said, before, place))
            all_known = [*tried, *before[number + 1 : trials]]
            known[setting] = {"axes": _apart_from_seed(planned), "trials": all_known, "chosen": best_trial(all_known)}
            if place.processes.is_first:
                told = {"format_version": 1, "seed": TUNING_SEED, "settings": known}
                write_json(within(place.out, "tuning.json"), told)
        chosen = best_trial(tried)
        if chosen is None:
            raise UserError(f"{setting}: not one of {trials} trials came to an end; the last: {tried[-1]['failed']}")
        best[setting] = Run(place.out / tried[chosen]["run"])
        lr, decay = factors(trials)[chosen]
        recipes |= {name: _times(plan.runs[name].recipe, lr, decay) for name in names}
        log(_note(setting, known[setting]))
    axes = {axis for planned in plan.runs.values() for axis in planned.axes} - {"seed"}
    varies = dict(plan.varies) | {axis: (*plan.varies.get(axis, ()), *TUNED) for axis in axes}
    return replace_fields(plan.with_recipes(recipes), varies=varies)


def _note(setting: str, known: Mapping[str, Any]) -> str:
    """What a search found, in a sentence."""
    number, trials = known["chosen"], known["trials"]
    best = trials[number]
    return (
        f"{setting}: lr {best['lr']:.3g}, weight decay {best['weight_decay']:.3g} (trial {number + 1} of {len(trials)}), "
        f"video accuracy {best['val_video_top1']:.3f} on val."
    )


def _notes(searches: Mapping[str, Any], called: str, recipes: Mapping[str, Recipe]) -> list[str]:
    """What the report of a data set tells of the searches by which its runs (`recipes`) were trained, and of those without."""
    found = {
        setting: known
        for setting, known in searches.items()
        if known["axes"].get("data") == called and known["chosen"] is not None
    }
    used: dict[str, int] = {}
    without: list[str] = []
    begins: dict[tuple[float, float], list[str]] = {}  # the values of the recipe itself, before any search
    for name, recipe in recipes.items():
        setting = setting_name(name, recipe.seed)
        own = (recipe.optim.lr, recipe.optim.weight_decay)
        trials = found.get(setting, {"trials": []})["trials"]
        if trials and own == _values(trials[found[setting]["chosen"]]):
            used[setting], own = len(trials), _values(trials[0])
        else:
            without.append(name)
        begins.setdefault(own, []).append(setting)
    if not used:
        return []
    numbers = sorted(set(used.values()))
    if len(numbers) == 1:
        budget = f"with the same {plural(numbers[0], 'trial')} for each"
    else:
        by_number = [f"{n} for {listed([s for s in used if used[s] == n])}" for n in numbers]
        budget = f"with unequal numbers of trials ({'; '.join(by_number)}): more find better values"
    said = [
        f"Learning rate and, where it is not 0, weight decay were chosen on val, {budget}: the recipe's values, and those times "
        f"the same factors between 0.1 and 10, with a seed of their own ({TUNING_SEED}). No trial saw the test split."
    ]
    if without:
        said.append(
            f"Trained without a search, by the recipe's values: {listed(without)}. The comparison favours the others."
        )
    if len(begins) > 1:
        values = [f"lr {lr:.3g} and weight decay {decay:.3g} for {listed(list(dict.fromkeys(names)))}"
                  for (lr, decay), names in begins.items()]  # fmt: skip
        said.append(f"The recipes' values, with which the searches begin, differ: {'; '.join(values)}.")
    return [*said, *(_note(setting, found[setting]) for setting in used)]


def _values(trial: Mapping[str, Any]) -> tuple[float, float]:
    return trial["lr"], trial["weight_decay"]


def _times(recipe: Recipe, lr: float, weight_decay: float) -> Recipe:
    o = recipe.optim
    return replace(recipe, {
        "optim.lr": o.lr * lr, "optim.weight_decay": o.weight_decay * weight_decay,
        "optim.warmup_lr": None if o.warmup_lr is None else o.warmup_lr * lr,
    })  # fmt: skip


def _outcome(folder: Run, trial: Recipe, text: str, known: list[dict[str, Any]], place: _Place) -> dict[str, Any]:
    """What one trial gave on val; one that diverged is not tried again."""
    told = {
        "run": str(folder.path.relative_to(place.out)),
        "lr": trial.optim.lr,
        "weight_decay": trial.optim.weight_decay,
    }
    resolved = build.resolve(trial, place.runtime, place.manifests[trial.data.manifest])
    told["fingerprint"] = fingerprint(resolved)
    for earlier in known:
        if earlier["fingerprint"] == told["fingerprint"] and "failed" in earlier:
            return earlier
    try:
        place.finish(folder, trial, text)
    except Diverged as error:
        log(f"    {error}")
        place.processes.forgive()
        return {**told, "failed": str(error)}
    val = folder.result()["val"]
    return {**told, "val_video_top1": val["video_top1"], "val_loss": val["loss"]}


def best_trial(tried: Sequence[Mapping[str, Any]]) -> int | None:
    """By video accuracy on val, then by the loss there, then the earlier one."""
    whole = [number for number, trial in enumerate(tried) if "failed" not in trial]
    return min(
        whole, key=lambda number: (-tried[number]["val_video_top1"], tried[number]["val_loss"], number), default=None
    )


def _apart_from_seed(planned: Planned) -> dict[str, Any]:
    return {axis: value for axis, value in planned.axes.items() if axis != "seed"}
