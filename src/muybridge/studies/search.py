"""The same search for every setting: trials on val alone, and fresh seeds for what was best.

Proposals come from Optuna, from a grid, or (`--tune`) from a Halton sequence around the recipe. With halving, trials are
compared on the rungs of a ladder (`muybridge.analysis.searching`), and the best go on from where they paused.
"""

import math
from collections.abc import Mapping
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

from muybridge.analysis.searching import MOST_TRIALS, Spent, best_trial, follows, ranked
from muybridge.errors import Diverged, UserError
from muybridge.recipe import Recipe, fingerprint, flat, replace
from muybridge.recipe.schedule import Budget
from muybridge.runtime.console import log
from muybridge.storage import searches
from muybridge.storage.run import Run
from muybridge.studies.asked import Search
from muybridge.studies.plan import Plan, Planned, setting_name
from muybridge.studies.proposals import Listed, Proposals, Proposed, drawn, imported
from muybridge.studies.space import shown
from muybridge.studies.workplace import Workplace, begun, started
from muybridge.text import listed, plural

SEARCH_SEED = 1_000_000
"""The seed of all trials; the runs that are compared have others."""


def _trial(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    return replace(recipe, {**changes, "seed": SEARCH_SEED, "evaluation.score_test": False})


def _folder(out: Path, setting: str, number: int) -> Run:
    return Run(searches.folder(out) / setting / f"trial-{number}")


# --- the search


def searched(plan: Plan, search: Search, workplace: Workplace) -> Plan:
    """The plan with what was best on val for each setting and fold.

    A setting's trials start from the best trial of the setting that it starts from.
    """
    records = workplace.processes.broadcast(searches.load(workplace.out))
    best: dict[str, Run] = {}
    recipes: dict[str, Recipe] = {}
    fields: dict[str, None] = {}
    setting_of = {name: setting for setting, names in plan.settings().items() for name in names}
    for setting, names in plan.settings().items():
        planned = plan.runs[names[0]]
        base = None if planned.starts_from is None else best[setting_of[planned.starts_from]]
        log(stated(setting, search, workplace.budget(planned.recipe)))
        of_setting = _SettingSearch(setting, planned, base, search, workplace, records)
        winner = of_setting.run()
        best[setting] = Run(workplace.out / winner["run"])
        recipes |= {name: replace(plan.runs[name].recipe, winner["changes"]) for name in names}
        fields |= dict.fromkeys(winner["changes"])
        log(f"{_note(setting, records[setting])} Spent: {Spent.of(records[setting])}.")
    axes = {axis for planned in plan.runs.values() for axis in planned.axes} - {"seed"}
    varies = dict(plan.varies) | {axis: (*plan.varies.get(axis, ()), *fields) for axis in axes}
    return replace_fields(plan.with_recipes(recipes), varies=varies)


class _SettingSearch:
    """The search of one setting, and its record, which is written after every trial."""

    def __init__(
        self,
        setting: str,
        planned: Planned,
        base: Run | None,
        search: Search,
        workplace: Workplace,
        records: dict[str, searches.Search],
    ) -> None:
        self.setting, self.base, self.search, self.workplace, self.records = setting, base, search, workplace, records
        self.recipe, self.length = planned.recipe, workplace.budget(planned.recipe)
        self.count, self.ladder = search.count(self.length), search.ladder(self.length)
        self.before = records[setting]["trials"] if setting in records else []
        self.tried: list[searches.Trial] = []
        self.record: searches.Search = {
            "axes": apart_from_seed(planned), "asked": search.asked(), "steps_per_epoch": self.length.steps_per_epoch,
            "trials": [], "chosen": None,
        }  # fmt: skip
        points, self.proposals = search.points(planned.recipe), None
        if workplace.processes.is_first:
            self.proposals = _proposals(workplace.out, setting, search, points)

    def run(self) -> searches.Trial:
        """The best trial. Raises UserError where none came to an end."""
        share = self.workplace.processes.broadcast
        while self._goes_on():
            number = len(self.tried)
            changes = share(self.proposals.changes(number) if self.proposals else {})
            self.tried.append(self._begun(number, changes))
            self._train(number, rung=0)
            if self.proposals:
                rungs = self.tried[number]["rungs"]
                self.proposals.tell(number, rungs[0]["val_video_top1"] if rungs else None)
        for rung in range(1, self.ladder.levels + 1):
            reached, wanted = 0, self.ladder.kept(rung, len(self.tried))
            for number in ranked(self.tried, rung - 1):
                if reached < wanted and "failed" not in self.tried[number]:
                    self._train(number, rung=rung)
                    reached += "failed" not in self.tried[number]
        if self.proposals:
            self.record["importance"] = self.proposals.importance()
        self._save()
        chosen = best_trial(self.tried)
        if chosen is None:
            raise UserError(
                f"{self.setting}: not one of {plural(len(self.tried), 'trial')} came to an end. Mend the cause of the last: "
                f"{self.tried[-1]['failed']}"
            )
        return self.tried[chosen]

    def _goes_on(self) -> bool:
        """Whether another trial is begun: by their number, or by the hours that all would take at the pace until now."""
        done = len(self.tried)
        if self.count is not None:
            return done < self.count
        if not done:
            return True
        seconds, steps = (sum(trial[what] for trial in self.tried) for what in ("seconds", "steps"))
        of_all = seconds / done * (done + 1)
        if self.ladder.levels and steps:
            of_all = seconds / steps * self.ladder.steps(done + 1, self.length)
        return of_all <= (self.search.hours or 0.0) * 3600 and done < MOST_TRIALS

    def _begun(self, number: int, changes: dict[str, Any]) -> searches.Trial:
        """A trial that was not trained yet."""
        try:
            made = started(_trial(self.recipe, changes), self.base)
        except UserError as error:
            raise UserError(f"{self.setting}: trial {number + 1} ({shown(changes)}): {error}") from None
        full = self.workplace.budget(made)
        _check_length(self.setting, self.search, full, self.length)
        if self.ladder.levels and full.steps is None:
            raise UserError(
                f"{self.setting}: --halving: trial {number + 1} has no number of steps. Leave the option out"
            )
        return {
            "run": str(_folder(self.workplace.out, self.setting, number).path.relative_to(self.workplace.out)),
            "changes": changes, "fingerprint": fingerprint(self.workplace.jobs.resolved(made)), "rungs": [], "steps": 0,
            "full_steps": full.steps, "steps_per_epoch": full.steps_per_epoch, "seconds": 0.0,
        }  # fmt: skip

    def _train(self, number: int, *, rung: int) -> None:
        """Train a trial as far as a rung, and note its val there. One that diverged before is not repeated."""
        trial, workplace = self.tried[number], self.workplace
        made = started(_trial(self.recipe, trial["changes"]), self.base)
        step = self.ladder.step(rung, workplace.budget(made))
        for earlier in self.before:
            if earlier["fingerprint"] == trial["fingerprint"] and "failed" in earlier and len(earlier["rungs"]) == rung:
                self.tried[number] = earlier
                return
        folder = Run(workplace.out / trial["run"])
        of_all = "" if self.count is None else f" of {self.count}"
        text = f"{self.setting}: trial {number + 1}{of_all}" + (f", to step {step}" if step is not None else "")
        try:
            workplace.finish(folder, made, text, until_step=step)
        except Diverged as error:
            log(f"    {error}")
            workplace.processes.clear_failure()
            trial["failed"] = str(error)
            trial["steps"] = step or trial["full_steps"] or trial["steps"]  # at most
            trial["seconds"] = max(trial["seconds"], _seconds(folder))
            self._save()
            return
        workplace.processes.broadcast(None)  # the first has written all
        paused = folder.pauses()
        if step in paused:
            val, trial["steps"], trial["seconds"] = paused[step], step, paused[step]["seconds"]
        else:  # its end, which a rule of `stop` may have brought before the rung
            result = folder.result()
            val, trial["steps"], trial["seconds"] = result["val"], result["steps"], _seconds(folder)
        trial["rungs"].append(
            {"step": trial["steps"], "val_video_top1": val["video_top1"], "val_loss": val["loss"]}
        )  # fmt: skip
        self._save()

    def _save(self) -> None:
        """Write the record, with the trials of an earlier call that were not come to yet."""
        self.record["trials"] = [*self.tried, *self.before[len(self.tried) : self.count]]
        self.record["chosen"] = best_trial(self.record["trials"])
        self.records[self.setting] = self.record
        if self.workplace.processes.is_first:
            searches.save(self.workplace.out, self.records, seed=SEARCH_SEED)


def _proposals(out: Path, setting: str, search: Search, points: list[dict[str, Any]] | None) -> Proposals:
    return Listed(points) if points is not None else Proposed(out, setting, search.space, search.by, SEARCH_SEED)


def _seconds(folder: Run) -> float:
    lines = folder.timing()
    return lines[-1]["seconds"] if lines else 0.0


def apart_from_seed(planned: Planned) -> dict[str, Any]:
    """The axes of a run without its seed."""
    return {axis: value for axis, value in planned.axes.items() if axis != "seed"}


# --- what is said


def stated(setting: str, search: Search, length: Budget) -> str:
    """Sentence on what the search of a setting will take."""
    count, ladder = search.count(length), search.ladder(length)
    if count is None:
        at_most = f"trials for {search.hours:g} hours of training"
    else:
        at_most = plural(count, "trial")
        if length.steps is not None:
            steps = ladder.steps(count, length)
            at_most += (
                f", {steps / length.steps_per_epoch:,.4g} epochs at most: {steps / (count * length.steps):.0%} of {count} whole "
                "trainings"
            )
    rungs = [ladder.step(rung, length) for rung in range(ladder.levels)]
    how = f"; compared after {listed([str(step) for step in rungs])} of {length.steps} steps" if rungs else ""
    return f"{setting}: a search by {search.by}: {at_most}{how}."


def _note(setting: str, search: Mapping[str, Any]) -> str:
    """The result of a search, in a sentence."""
    number, trials = search["chosen"], search["trials"]
    best = trials[number]
    return (
        f"{setting}: {shown(best['changes'])} (trial {number + 1} of {len(trials)}), video accuracy "
        f"{best['rungs'][-1]['val_video_top1']:.3f} on val."
    )


def notes(known: Mapping[str, searches.Search], called: str, recipes: Mapping[str, Recipe]) -> list[str]:
    """Sentences of a data set's report about the searches that chose its recipes, and about runs without one."""
    used_searches = {
        setting: search
        for setting, search in known.items()
        if search["axes"].get("data") == called and search["chosen"] is not None
    }
    used: dict[str, searches.Search] = {}
    without: list[str] = []
    begins: dict[str, list[str]] = {}  # the values of the recipe itself, before any search
    fields = list(dict.fromkeys(
        name for search in used_searches.values() if search["asked"]["by"] == "halton"
        for name in search["trials"][0]["changes"]
    ))  # fmt: skip
    for name, recipe in recipes.items():
        setting, own = setting_name(name, recipe.seed), flat(recipe)
        search = used_searches.get(setting)
        chosen = {} if search is None else search["trials"][search["chosen"] or 0]["changes"]
        if search is not None and follows(recipe, chosen):
            used[setting] = search
            own = own | search["trials"][0]["changes"]
        else:
            without.append(name)
        if fields:
            begins.setdefault(shown({field: own.get(field) for field in fields}), []).append(setting)
    if not used:
        return []
    numbers = sorted({len(search["trials"]) for search in used.values()})
    if len(numbers) == 1:
        budget = f"with the same {plural(numbers[0], 'trial')} for each"
    else:
        by_number = [f"{n} for {listed([s for s in used if len(used[s]['trials']) == n])}" for n in numbers]
        budget = f"with unequal numbers of trials ({'; '.join(by_number)}): more find better values"
    asked = [search["asked"] for search in used.values()]
    if all(one["by"] == "halton" for one in asked):
        what = (
            f"Learning rate and, where it is not 0, weight decay were chosen on val, {budget}: the recipe's values, and "
            "those times the same factors between 0.1 and 10"
        )
    else:
        spaces = list(dict.fromkeys(f"{', '.join(one['space'])} by {one['by']}" for one in asked))
        what = f"Fields of the recipe were chosen on val, {budget}: {'; '.join(spaces)}"
    sentences = [f"{what}, with a seed of their own ({SEARCH_SEED}). No trial saw the test split."]
    if len({(tuple(one["space"]), one["by"], one["halving"]) for one in asked}) > 1:
        sentences.append(
            "The searches were not the same for all: the comparison favours those that were searched better."
        )
    if without:
        sentences.append(
            f"Trained without a search, by the recipe's values: {listed(without)}. The comparison favours the others."
        )
    if len(begins) > 1:
        values = [f"{words} for {listed(list(dict.fromkeys(names)))}" for words, names in begins.items()]
        sentences.append(f"The recipes' values, with which the searches begin, differ: {'; '.join(values)}.")
    return [*sentences, *(_note(setting, used_searches[setting]) for setting in used)]


# --- before a trial is spent


def check_searches(plan: Plan, search: Search, workplace: Workplace) -> None:
    """Raise UserError where the search cannot be, and where trained runs would disagree with it, before a trial is spent."""
    if any(planned.recipe.seed == SEARCH_SEED for planned in plan.runs.values()):
        raise UserError(f"--seeds: {SEARCH_SEED} is that of the trials. Compare with others")
    if search.by not in ("grid", "halton"):
        imported()
    earlier = searches.load(workplace.out)
    trained: dict[str, list[str]] = {}
    for name, run in begun(workplace.out).items():
        trained.setdefault(setting_name(name, run.recipe().seed), []).append(name)
    for setting, names in plan.settings().items():
        planned = plan.runs[names[0]]
        _check_fields(plan, planned, search, workplace)
        _check_budget(setting, search, workplace.budget(planned.recipe))
        first = workplace.out / "runs" / trained[setting][0] if setting in trained else None
        _check_earlier(
            setting, search, earlier.get(setting), first, count=search.count(workplace.budget(planned.recipe))
        )
        if planned.starts_from is None:
            points = search.points(planned.recipe)
            if points is None:
                points = [trial["changes"] for trial in earlier[setting]["trials"]] if setting in earlier else []
            for number, changes in enumerate(points):
                _folder(workplace.out, setting, number).state_for(
                    workplace.jobs.resolved(_trial(planned.recipe, changes))
                )


def _check_fields(plan: Plan, planned: Planned, search: Search, workplace: Workplace) -> None:
    """Every end and choice fits the recipe, and no axis of the study sets it."""
    tries = search.space.tries()
    if search.space.code:
        tries.append(drawn(search.space, SEARCH_SEED))
    for changes in tries:
        for name in changes:
            axes = [axis for axis, fields in plan.varies.items() if name in fields and axis in planned.axes]
            if axes:
                raise UserError(f"--search: this study varies {name} itself ({axes[0]}). Choose another field")
        try:
            made = _trial(planned.recipe, changes)
            workplace.jobs.cost(made)
        except UserError as error:
            raise UserError(f"--search {shown(changes)}: {error}") from None
        _check_length(shown(changes), search, workplace.budget(made), workplace.budget(planned.recipe))


def _check_length(what: str, search: Search, own: Budget, usual: Budget) -> None:
    """Raise UserError for a trial of another number of epochs, where a budget in epochs was turned into a number of trials."""
    if search.epochs is not None and own.epochs != usual.epochs:
        raise UserError(
            f"--search-epochs: a trial may take {own.epochs:g} epochs instead of {usual.epochs:g} ({what}), so their number "
            "is not known beforehand. Give --trials or --search-hours"
        )


def _check_budget(setting: str, search: Search, length: Budget) -> None:
    if length.steps is None and (search.halving or search.epochs is not None):
        option = "--halving" if search.halving else "--search-epochs"
        raise UserError(
            f"{setting}: {option}: hours end its training, which has no number of steps. Leave it out, or give --epochs"
        )
    count = search.count(length)
    if count is not None and count > MOST_TRIALS:
        raise UserError(
            f"{setting}: --search-epochs: {search.epochs:g} epochs are more than {MOST_TRIALS:,} trials. Give fewer"
        )
    if count == 0:
        raise UserError(
            f"{setting}: --search-epochs: {search.epochs:g} epochs are fewer than one trial takes ({length.epochs}). Give more"
        )
    if search.halving and not search.ladder(length).levels:
        raise UserError(
            f"{setting}: --halving {search.halving}: {plural(count or 1, 'trial')} of {plural(length.steps or 0, 'step')} "
            "cannot be cut into rungs. Leave it out, or search with more trials or a longer training"
        )


def _check_earlier(
    setting: str, search: Search, earlier: searches.Search | None, trained: Path | None, *, count: int | None
) -> None:
    """Check that earlier trials and runs fit what is asked for now. Raises UserError."""
    asked, before = search.asked(), 0 if earlier is None else len(earlier["trials"])
    if trained is not None and (earlier is None or (count is not None and before != count)):
        again = f" (--{'tune' if search.by == 'halton' else 'trials'} {before} continues it)"
        how = f"after a search of {before} trials{again}" if before else "without a search"
        raise UserError(
            f"{trained}: it was trained {how}, and {'a search' if count is None else f'{count} trials'} now might choose "
            "otherwise. Choose another --out, or remove the runs of this setting"
        )
    if earlier is None or earlier["asked"] == asked:
        return
    longer = {**earlier["asked"], "budget": asked["budget"]} == asked and not asked["halving"]
    if not longer or trained is not None:
        was = earlier["asked"]
        if was["space"] == asked["space"] and was.get("code_sha256") != asked.get("code_sha256"):
            raise UserError(
                f"{setting}: the file of {', '.join(code.name for code in search.space.code)} has changed since the search "
                "began. Restore it, or choose another --out"
            )
        halving = f", halving {was['halving']}" if was["halving"] else ""
        raise UserError(
            f"{setting}: it was searched otherwise here ({', '.join(was['space'])}, by {was['by']}, {was['budget']}{halving}). "
            "Repeat that search, or choose another --out"
        )


def budgets(plan: Plan, search: Search, workplace: Workplace) -> dict[str, dict[str, Any]]:
    """Cost of the search of each setting: trials, epochs and steps of its rungs (None: not known beforehand)."""
    made = {}
    for setting, names in plan.settings().items():
        length = workplace.budget(plan.runs[names[0]].recipe)
        count, ladder = search.count(length), search.ladder(length)
        known = count is not None and length.steps is not None
        made[setting] = {
            "trials": count, "hours": search.hours, "said": stated(setting, search, length),
            "epochs": math.ceil(ladder.steps(count or 0, length) / length.steps_per_epoch) if known else None,
            "rungs": [ladder.step(rung, length) for rung in range(ladder.levels)],
        }  # fmt: skip
    return made
