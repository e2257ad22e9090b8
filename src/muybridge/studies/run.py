"""A study: the runs of a plan, one after the other, scored alike, and what they show.

STUDY/
  study.json       names and axes of the runs; the reports
  runs/NAME/       one run folder each; a finished run is not run again
  search/ …        trials of a search, on val alone, and the journal of who proposed them
  search.json      what was tried, and what was chosen
  race.json        who got no more seeds, and why
  report.html …    what it shows a person (`muybridge.reporting.report`)
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from muybridge import build
from muybridge.analysis.comparison import Comparison, compared_study
from muybridge.errors import UserError
from muybridge.evaluation import diagnose as diagnosis
from muybridge.recipe import Runtime
from muybridge.reporting.report import Report
from muybridge.runtime.console import log, progress
from muybridge.runtime.files import clear_partials, within
from muybridge.runtime.locks import locked
from muybridge.storage.run import Run
from muybridge.studies.asked import Search
from muybridge.studies.fusing import check_streams, fused_streams
from muybridge.studies.names import named, study_record
from muybridge.studies.plan import Plan
from muybridge.studies.race import check_race, raced
from muybridge.studies.search import budgets, check_searches, searched
from muybridge.studies.workplace import Workplace, started
from muybridge.training.estimate import Estimates
from muybridge.training.speed import measure_run


@dataclass(frozen=True)
class Study:
    """A finished study on disk."""

    path: Path
    runs: tuple[Run, ...]
    comparisons: Mapping[str, Comparison] = field(repr=False)
    """The comparison of each data set, by its name."""

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def comparison(self) -> Comparison:
        """The comparison of the first data set."""
        return next(iter(self.comparisons.values()))


def run(
    plan: Plan,
    *,
    out: str | Path,
    search: Search | None = None,
    race_from: int | None = None,
    measure: bool = False,
    largest: bool = False,
    diagnose: bool = False,
    runtime: Runtime | None = None,
) -> Study:
    """Carry out a plan in the folder `out`, and write the report.

    A finished run is not run again, a stopped one is continued; called again with more runs, it adds them. `search`:
    trials on val that choose fields of each setting's recipe first. `race_from`: seeds after which models that are worse on
    val get no more. `measure`: then measure the first run of every setting (speed, memory). `largest`: measure, and search
    for the largest batch. `diagnose`: then score every run with its frames in other orders. Raises UserError, Interrupted.
    """
    workplace = Workplace.of(plan, out, runtime)
    processes = workplace.processes
    measure = measure or largest
    if measure and processes.count > 1:
        raise UserError(
            "--measure, --largest: speed is measured by one process, alone. Measure afterwards: muybridge measure STUDY"
        )
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
        done: set[str] = set()
        total = len(plan.runs)

        def train(part: Plan) -> None:
            """The runs of a part of the plan that were not come to yet."""
            record = processes.broadcast(study_record(part, workplace.out))
            if processes.is_first:
                record.save()
            for name in part.order():
                if name not in done:
                    done.add(name)
                    planned = part.runs[name]
                    base = None if planned.starts_from is None else record.run(planned.starts_from)
                    workplace.finish(record.run(name), started(planned.recipe, base), f"[{len(done)}/{total}] {name}")

        if race_from is None:
            train(plan)
        else:
            plan = raced(plan, race_from, workplace, train)
        record = processes.broadcast(study_record(plan, workplace.out))
        order = plan.order()
        first_of = [record.run(names[0]) for names in plan.settings().values()] if measure else []
        for trained in first_of:
            known = trained.speed()
            lacks_largest = largest and (known or {}).get("max_batch_size") is None
            if known is None or known.get("memory_is_unknown") or lacks_largest:
                measure_run(trained, runtime=workplace.runtime, largest=largest, allow_code="mine")
        for trained in map(record.run, order if diagnose else []):
            if processes.broadcast(trained.diagnosis() is None):
                log(f"diagnosing {trained.name}")
                diagnosis.diagnose(trained, runtime=workplace.runtime, allow_code="mine")
        if len(record.runs) > len(plan.runs):
            log(f"the study holds {len(record.runs) - len(plan.runs)} runs of earlier calls, too")
        if plan.has_streams:
            if processes.is_first:
                record = fused_streams(plan, record)
            record = processes.broadcast(record)
        comparisons = compared_study(record)
        if processes.is_first:
            Report.of(comparisons, title=record.title).write(workplace.out / "report.html")
        processes.broadcast(None)
    return Study(workplace.out, tuple(record.run(name) for name in record.runs), comparisons)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One process carries out a study."""
    with locked(out, "compares in it"):
        clear_partials(out)
        for name in ("runs", "search", "tuning"):
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
    return replace(plan.with_lengths(lengths), searches=searches)


def _check(plan: Plan, search: Search | None, race_from: int | None, workplace: Workplace) -> None:
    """Check that a search and a race can be. Raises UserError."""
    if search is not None:
        check_searches(plan, search, workplace)
    if race_from is not None:
        check_race(plan, race_from, workplace)


def _estimated(plan: Plan, workplace: Workplace) -> dict[str, float | None]:
    """Computing time of each run in seconds, by a step that is measured."""
    estimates, jobs = Estimates(workplace.runtime), workplace.jobs
    seconds: dict[str, float | None] = {}
    with progress("measuring steps", len(plan.runs)) as bar:
        for name, planned in plan.runs.items():
            manifest = jobs.manifest(planned.recipe.data.manifest)
            recipe = build.with_stored_input(planned.recipe, manifest)
            seconds[name] = estimates.seconds(recipe, manifest, macs=jobs.cost(recipe)["macs"])
            bar.advance()
    return seconds
