"""The same search of learning rate and weight decay for every setting, on val alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any, NotRequired

from scipy.stats import qmc
from typing_extensions import TypedDict

from muybridge.errors import Diverged, UserError
from muybridge.recipe import Recipe, fingerprint, replace
from muybridge.runtime.console import log
from muybridge.runtime.files import read_as, within, write_json
from muybridge.storage.run import Run
from muybridge.studies.plan import Plan, Planned, setting_name
from muybridge.studies.workplace import Workplace, begun, started
from muybridge.text import listed, plural

TUNING_SEED = 1_000_000
"""The seed of all trials; the runs that are compared have others."""

TUNED = ("optim.lr", "optim.weight_decay", "optim.warmup_lr")
"""The recipe fields that trials vary."""


# --- the same search for every setting


def factors(trials: int) -> list[tuple[float, float]]:
    """Factors of the learning rate and the weight decay of each trial: 1 at first, then .1 to 10, spread evenly.

    They are a Halton sequence, log-uniform: more trials continue where fewer ended. No two trials share a learning rate,
    as a weight decay of 0 stays 0.
    """
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
    """The content of tuning.json."""

    settings: dict[str, _Search]


def searches(out: Path) -> dict[str, Any]:
    """Trials and choice of each setting."""
    file = out / "tuning.json"
    settings: dict[str, Any] = read_as(_Tuning, file)["settings"] if file.exists() else {}
    return settings


def tuned(plan: Plan, trials: int, workplace: Workplace) -> Plan:
    """The plan with the learning rate and weight decay that were best on val for each setting and fold.

    A setting's trials start from the best trial of the setting that it starts from.
    """
    searched = workplace.processes.broadcast(searches(workplace.out))
    best: dict[str, Run] = {}
    recipes: dict[str, Recipe] = {}
    setting_of = {name: setting for setting, names in plan.settings().items() for name in names}
    for setting, names in plan.settings().items():
        planned = plan.runs[names[0]]
        base = None if planned.starts_from is None else best[setting_of[planned.starts_from]]
        before = searched.get(setting, {}).get("trials", [])
        tried: list[dict[str, Any]] = []
        for number, trial in enumerate(_trials(planned.recipe, trials)):
            label = f"{setting}: trial {number + 1} of {trials}"
            folder = _trial_run(workplace.out, setting, number)
            tried.append(_outcome(folder, started(trial, base), label, before, workplace))
            all_trials = [*tried, *before[number + 1 : trials]]
            searched[setting] = {
                "axes": _apart_from_seed(planned),
                "trials": all_trials,
                "chosen": best_trial(all_trials),
            }
            if workplace.processes.is_first:
                record = {"format_version": 1, "seed": TUNING_SEED, "settings": searched}
                write_json(within(workplace.out, "tuning.json"), record)
        chosen = best_trial(tried)
        if chosen is None:
            raise UserError(
                f"{setting}: not one of {trials} trials came to an end. Mend the cause of the last: "
                f"{tried[-1]['failed']}"
            )
        best[setting] = Run(workplace.out / tried[chosen]["run"])
        lr, decay = factors(trials)[chosen]
        recipes |= {name: _times(plan.runs[name].recipe, lr, decay) for name in names}
        log(_note(setting, searched[setting]))
    axes = {axis for planned in plan.runs.values() for axis in planned.axes} - {"seed"}
    varies = dict(plan.varies) | {axis: (*plan.varies.get(axis, ()), *TUNED) for axis in axes}
    return replace_fields(plan.with_recipes(recipes), varies=varies)


def _note(setting: str, search: Mapping[str, Any]) -> str:
    """The result of a search, in a sentence."""
    number, trials = search["chosen"], search["trials"]
    best = trials[number]
    return (
        f"{setting}: lr {best['lr']:.3g}, weight decay {best['weight_decay']:.3g} (trial {number + 1} of {len(trials)}), "
        f"video accuracy {best['val_video_top1']:.3f} on val."
    )


def notes(searches: Mapping[str, Any], called: str, recipes: Mapping[str, Recipe]) -> list[str]:
    """Sentences of a data set's report about the searches that chose its recipes, and about runs without one."""
    used_searches = {
        setting: search
        for setting, search in searches.items()
        if search["axes"].get("data") == called and search["chosen"] is not None
    }
    used: dict[str, int] = {}
    without: list[str] = []
    begins: dict[tuple[float, float], list[str]] = {}  # the values of the recipe itself, before any search
    for name, recipe in recipes.items():
        setting = setting_name(name, recipe.seed)
        own = (recipe.optim.lr, recipe.optim.weight_decay)
        trials = used_searches.get(setting, {"trials": []})["trials"]
        if trials and own == _values(trials[used_searches[setting]["chosen"]]):
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
    sentences = [
        f"Learning rate and, where it is not 0, weight decay were chosen on val, {budget}: the recipe's values, and those times "
        f"the same factors between 0.1 and 10, with a seed of their own ({TUNING_SEED}). No trial saw the test split."
    ]
    if without:
        sentences.append(
            f"Trained without a search, by the recipe's values: {listed(without)}. The comparison favours the others."
        )
    if len(begins) > 1:
        values = [f"lr {lr:.3g} and weight decay {decay:.3g} for {listed(list(dict.fromkeys(names)))}"
                  for (lr, decay), names in begins.items()]  # fmt: skip
        sentences.append(f"The recipes' values, with which the searches begin, differ: {'; '.join(values)}.")
    return [*sentences, *(_note(setting, used_searches[setting]) for setting in used)]


def _values(trial: Mapping[str, Any]) -> tuple[float, float]:
    return trial["lr"], trial["weight_decay"]


def _times(recipe: Recipe, lr: float, weight_decay: float) -> Recipe:
    o = recipe.optim
    return replace(recipe, {
        "optim.lr": o.lr * lr, "optim.weight_decay": o.weight_decay * weight_decay,
        "optim.warmup_lr": None if o.warmup_lr is None else o.warmup_lr * lr,
    })  # fmt: skip


def _outcome(
    folder: Run, trial: Recipe, text: str, earlier_trials: list[dict[str, Any]], workplace: Workplace
) -> dict[str, Any]:
    """The validation result of one trial; a trial that diverged before is not repeated."""
    outcome = {
        "run": str(folder.path.relative_to(workplace.out)),
        "lr": trial.optim.lr,
        "weight_decay": trial.optim.weight_decay,
    }
    outcome["fingerprint"] = fingerprint(workplace.jobs.resolved(trial))
    for earlier in earlier_trials:
        if earlier["fingerprint"] == outcome["fingerprint"] and "failed" in earlier:
            return earlier
    try:
        workplace.finish(folder, trial, text)
    except Diverged as error:
        log(f"    {error}")
        workplace.processes.clear_failure()
        return {**outcome, "failed": str(error)}
    val = folder.result()["val"]
    return {**outcome, "val_video_top1": val["video_top1"], "val_loss": val["loss"]}


def best_trial(tried: Sequence[Mapping[str, Any]]) -> int | None:
    """The best trial by video accuracy on val, then by the loss there, then the earlier one."""
    whole = [number for number, trial in enumerate(tried) if "failed" not in trial]
    return min(
        whole, key=lambda number: (-tried[number]["val_video_top1"], tried[number]["val_loss"], number), default=None
    )


def _apart_from_seed(planned: Planned) -> dict[str, Any]:
    return {axis: value for axis, value in planned.axes.items() if axis != "seed"}


def check_searches(plan: Plan, trials: int, workplace: Workplace) -> None:
    """Raise UserError where trained runs and the search would disagree, before a trial is spent."""
    if any(planned.recipe.seed == TUNING_SEED for planned in plan.runs.values()):
        raise UserError(f"--seeds: {TUNING_SEED} is that of the trials. Compare with others")
    earlier = searches(workplace.out)
    trained: dict[str, list[str]] = {}
    for name, run in begun(workplace.out).items():
        trained.setdefault(setting_name(name, run.recipe().seed), []).append(name)
    for setting, names in plan.settings().items():
        before = len(earlier.get(setting, {}).get("trials", []))
        if setting in trained and before != trials:
            how = f"after a search of {before} trials (--tune {before} continues it)" if before else "without a search"
            raise UserError(
                f"{workplace.out / 'runs' / trained[setting][0]}: it was trained {how}, and {trials} trials now might "
                "choose otherwise. Choose another --out, or remove the runs of this setting"
            )
        planned = plan.runs[names[0]]
        if planned.starts_from is None:
            for number, trial in enumerate(_trials(planned.recipe, trials)):
                _trial_run(workplace.out, setting, number).state_for(workplace.jobs.resolved(trial))
