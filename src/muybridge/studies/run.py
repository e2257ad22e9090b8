"""A study: the runs of a plan, one after the other, scored alike, and what they show.

STUDY/
  study.json       names and axes of the runs; the reports
  plan.json        the recipe of every run, for workers; leases/ says who does which (`muybridge.studies.work`)
  runs/NAME/       one run folder each; a finished run is not run again
  search/ …        trials of a search, on val alone, and the journal of who proposed them
  search.json      what was tried, and what was chosen
  race.json        who got no more seeds, and why
  report.html …    what it shows a person (`muybridge.reporting.report`)
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from muybridge import build
from muybridge.analysis.comparison import Comparison, compared_study
from muybridge.analysis.doctor.checkup import warnings
from muybridge.errors import UserError
from muybridge.recipe import Runtime, replace
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import clear_partials, within
from muybridge.runtime.leases import LOST_SECONDS
from muybridge.runtime.locks import locked
from muybridge.runtime.shown import ShownSets
from muybridge.storage.plan import FILE as PLAN_FILE
from muybridge.storage.plan import StoredPlan
from muybridge.storage.run import Run
from muybridge.storage.study import StudyRecord
from muybridge.studies.asked import Search
from muybridge.studies.batch import Submitted
from muybridge.studies.fusing import check_streams
from muybridge.studies.names import named, study_record
from muybridge.studies.plan import Plan
from muybridge.studies.race import check_race, raced
from muybridge.studies.search import budgets, check_searches, searched
from muybridge.studies.work import FOLDER as LEASES
from muybridge.studies.work import Worker, store
from muybridge.studies.workplace import Workplace
from muybridge.text import listed
from muybridge.training.estimate import Estimates
from muybridge.training.speed import Measuring


@dataclass(frozen=True)
class Study(ShownSets):
    """A finished study on disk."""

    path: Path
    runs: tuple[Run, ...]
    comparisons: Mapping[str, Comparison] = field(repr=False)
    """The comparison of each data set, by its name; empty while nothing was trained."""
    submitted: Submitted | None = None
    """The job array that trains the runs, where there is one."""

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"


def run(
    plan: Plan,
    *,
    out: str | Path,
    search: Search | None = None,
    race_from: int | None = None,
    measure: bool = False,
    largest: bool = False,
    diagnose: bool = False,
    plan_only: bool = False,
    lost_after: float = LOST_SECONDS,
    runtime: Runtime | None = None,
) -> Study:
    """Carry out a plan in the folder `out`, and write the report.

    A finished run is not run again, a stopped one is continued; called again with more runs, it adds them. Workers
    (`muybridge.work`) may be at work on the same study: each run is trained by one of them. `search`: trials on val that
    choose fields of each setting's recipe first. `race_from`: seeds after which models that are worse on val get no more.
    `measure`: then measure the first run of every setting (speed, memory). `largest`: measure, and search for the largest
    batch. `diagnose`: score every run with its frames in other orders, too. `plan_only`: write the plan for workers, and
    train nothing. `lost_after`: seconds without a sign of life after which another worker's run is taken over. Raises
    UserError, Interrupted.
    """
    workplace = Workplace.of(plan, out, runtime)
    processes = workplace.processes
    measure = measure or largest
    if measure and processes.count > 1:
        raise UserError(
            "--measure, --largest: speed is measured by one process, alone. Measure afterwards: muybridge measure STUDY"
        )
    if processes.is_first:
        for path in plan.manifests():
            for warning in warnings(path, workplace.jobs.manifest(path)):
                log(f"warning: {warning}")
    with processes.report_failure(), ExitStack() as held:
        if processes.is_first and workplace.out.is_dir():
            held.enter_context(_locked(workplace.out))
        plan = processes.broadcast(named(plan, workplace.out))
        workplace.check(plan, searched=search is not None)
        check_streams(plan, workplace)
        _check(plan, search, race_from, workplace)
        workplace.check_whole(plan, searched=search is not None)
        if processes.is_first and not workplace.out.is_dir():
            workplace.out.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(workplace.out))
            if (workplace.out / "runs").exists() or (workplace.out / "study.json").exists():
                raise UserError(f"{workplace.out}: another process began a study there meanwhile. Repeat the command")
        if search is not None:
            plan = searched(plan, search, workplace)
        if plan_only:
            record = _planned(plan, workplace, measure=measure, largest=largest, diagnose=diagnose)
            return Study(workplace.out, tuple(record.run(name) for name in record.runs), {})
        worker = Worker(workplace, lost_seconds=lost_after, stops_at_failure=True)

        def train(part: Plan, *, is_round: bool = False) -> None:
            """Train what is left of a part of the plan; report it, unless it is a round of a race."""
            _planned(part, workplace, measure=measure, largest=largest, diagnose=diagnose, is_round=is_round)
            if race_from is None:
                worker.say_done()
            worker.run()

        def train_round(part: Plan) -> None:
            """Train what is left of a race's rounds until now."""
            if not all(Run(workplace.out / "runs" / name).is_finished for name in part.runs):
                train(part, is_round=True)

        if race_from is not None:
            plan = raced(plan, race_from, workplace, train_round)
        train(plan)
        record = processes.broadcast(StudyRecord.load(workplace.out))
        if len(record.runs) > len(plan.runs):
            log(f"the study holds {len(record.runs) - len(plan.runs)} runs of earlier calls, too")
        comparisons = worker.comparisons or compared_study(record)
        processes.broadcast(None)
    return Study(workplace.out, tuple(record.run(name) for name in record.runs), comparisons)


def _planned(
    plan: Plan, workplace: Workplace, *, measure: bool, largest: bool, diagnose: bool, is_round: bool = False
) -> StudyRecord:
    """Write the record of a plan, and the plan for workers. `is_round`: it is a round of a race."""
    processes = workplace.processes
    record = processes.broadcast(study_record(plan, workplace.out))
    if processes.is_first:
        if not is_round:
            _say_left_out(record, workplace.out)
        record.save()
        wanted = {"measure": measure and not is_round, "largest": largest and not is_round, "diagnose": diagnose}
        store(stored(plan, workplace, **wanted, is_round=is_round))
    processes.broadcast(None)
    return record


def stored(
    plan: Plan, workplace: Workplace, *, measure: bool, largest: bool, diagnose: bool, is_round: bool = False
) -> StoredPlan:
    """The plan as it is written for workers: hashes of data, code and weights filled in, the precision left to them."""
    recipes = {}
    for name in plan.order():
        recipe = plan.runs[name].recipe
        if plan.runs[name].starts_from is not None:
            recipe = replace(recipe, {"model.pretrained": None})
        recipes[name] = replace(workplace.jobs.resolved(recipe), {"precision": recipe.precision})
    return StoredPlan.of(
        workplace.out, plan.title, recipes, {name: plan.runs[name].starts_from for name in recipes}, plan.settings(),
        fused=plan.fused(), is_round=is_round, runtime=workplace.runtime, measure=measure, largest=largest, diagnose=diagnose,
    )  # fmt: skip


def _say_left_out(record: StudyRecord, out: Path) -> None:
    """Log runs of an earlier plan that this one leaves out; workers leave them alone from now on."""
    if (out / PLAN_FILE).exists():
        left_out = [name for name in StoredPlan.load(out).runs if name not in record.runs]
        if left_out:
            log(f"not planned any more: {listed(left_out)}. Repeat the call that planned them to add them again")


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One process carries out a study."""
    with locked(out, "compares in it"):
        clear_partials(out, of=("study.json", "search.json", "race.json", "tuning.json", PLAN_FILE))
        for name in ("runs", "search", "tuning", "code", LEASES):
            within(out, name)
        yield


def dry_run(
    plan: Plan,
    *,
    out: str | Path,
    search: Search | None = None,
    race_from: int | None = None,
    estimate: bool = False,
    runtime: Runtime | None = None,
) -> Plan:
    """The plan as `run` would carry it out, with the names and lengths that its runs will have in the folder `out`.

    Every model's name, clip length, fold and split is checked, and nothing is written. `estimate`: measure a step of each
    setting, and estimate computing times by it. Raises UserError.
    """
    workplace = Workplace.of(plan, out, runtime)
    with workplace.processes.report_failure():
        plan = named(plan, workplace.out)
        workplace.check(plan, searched=search is not None)
        check_streams(plan, workplace)
        _check(plan, search, race_from, workplace)
        seconds = _estimated(plan, workplace) if estimate else {}
        lengths = {name: (workplace.budget(planned.recipe), seconds.get(name)) for name, planned in plan.runs.items()}
        searches = {} if search is None else budgets(plan, search, workplace)
    return dataclasses.replace(plan.with_lengths(lengths), searches=searches)


def _check(plan: Plan, search: Search | None, race_from: int | None, workplace: Workplace) -> None:
    """Check that a search and a race can be. Raises UserError."""
    if search is not None:
        check_searches(plan, search, workplace)
    if race_from is not None:
        check_race(plan, race_from, workplace)


def _estimated(plan: Plan, workplace: Workplace) -> dict[str, float | None]:
    """Computing time of each run in seconds, by a step that is measured."""
    seconds: dict[str, float | None] = {}
    with progress("measuring steps", len(plan.runs)) as bar, Measuring() as process:
        estimates, jobs = Estimates(workplace.runtime, process), workplace.jobs
        for name, planned in plan.runs.items():
            manifest = jobs.manifest(planned.recipe.data.manifest)
            recipe = build.with_stored_input(planned.recipe, manifest)
            seconds[name] = estimates.seconds(recipe, manifest, macs=jobs.cost(recipe)["macs"])
            bar.advance()
    return seconds
