"""Racing: the seeds of a study in rounds, and no more seeds for models that val shows to be worse.

What is decided is a function of the finished runs' scores on val: a study that was stopped decides alike when it continues.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from muybridge.analysis.racing import ALPHA, LEAST_SEEDS, level, look, validated
from muybridge.errors import UserError
from muybridge.runtime.console import log
from muybridge.storage import searches
from muybridge.storage.run import Run
from muybridge.studies.plan import Plan, Value, repeat_name
from muybridge.studies.workplace import Workplace
from muybridge.text import duration, plural


def check_race(plan: Plan, start: int, workplace: Workplace) -> None:
    """Raises UserError where models cannot race."""
    seeds = _seeds(plan)
    if start < LEAST_SEEDS:
        raise UserError(f"--race-from: {start} seeds say nothing of a model. Give at least {LEAST_SEEDS}")
    if len(seeds) <= start:
        raise UserError(
            f"--race: it looks first after {plural(start, 'seed')}, and there are {len(seeds)}: nothing could be saved. Give "
            f"more: --seeds {start + 2}"
        )
    alone = [data for data, rows in _rows_of_sets(plan).items() if len(rows) < 2]
    if alone:
        raise UserError(f"--race: one model alone on {alone[0]} has nobody to race with. Compare several")
    chained = [name for name, planned in plan.runs.items() if planned.starts_from is not None]
    if chained:
        raise UserError(
            f"--race: {chained[0]} starts from another run of the study, which must not stop. Leave --race out"
        )
    for planned in plan.runs.values():
        data = planned.recipe.data
        if not len(workplace.jobs.manifest(data.manifest).split("val", data.fold)):
            raise UserError(
                f"{data.manifest}: it has no validation videos to race on, and the test split decides nothing. Cut some from "
                "train: muybridge prepare --val 0.15"
            )


def raced(plan: Plan, start: int, workplace: Workplace, train: Callable[[Plan], None]) -> Plan:
    """Carry out a plan round by round, and return the part of it that was trained.

    `train` is given what is trained until then, and the next round. A look follows each round from `start` on, but for the
    last.
    """
    seeds, sets = _seeds(plan), _rows_of_sets(plan)
    stopped_after: dict[str, int] = {}  # rows, and the number of seeds that they have
    races: dict[str, searches.Raced] = {
        data: {
            "seeds": len(seeds), "start": start, "alpha": ALPHA, "level": level(len(seeds), start), "looks": [],
            "runs": sum(len(of_row[seeds[0]]) for of_row in rows.values()) * len(seeds),
        }
        for data, rows in sets.items()
    }  # fmt: skip
    part = plan
    for number in range(1, len(seeds) + 1):
        names = [
            name
            for rows in sets.values()
            for row, of_row in rows.items()
            for seed in seeds[: stopped_after.get(row, number)]
            for name in of_row[seed]
        ]
        part = replace(plan, runs={name: plan.runs[name] for name in plan.runs if name in set(names)})
        train(part)
        if start <= number < len(seeds):
            for data, rows in sets.items():
                _look(data, rows, seeds, number, stopped_after, races[data], workplace)
            if workplace.processes.is_first:
                searches.save_races(workplace.out, races)
    return part


def _look(
    data: str,
    rows: Mapping[str, Mapping[Value, Sequence[str]]],
    seeds: Sequence[Value],
    number: int,
    stopped_after: dict[str, int],
    race: searches.Raced,
    workplace: Workplace,
) -> None:
    """Look at val of a data set's rows after a round, and note who stops."""
    active = [row for row in rows if row not in stopped_after]
    if len(active) < 2:
        return
    runs = {
        row: [
            [Run(workplace.out / "runs" / name) for name in of_row[seed]]
            for seed in seeds[: stopped_after.get(row, number)]
        ]
        for row, of_row in rows.items()
    }  # fmt: skip
    seen = look(validated(runs), active=active, at=race["level"])
    stopped: list[searches.Stopped] = []
    for row, verdict in seen.worse.items():
        stopped_after[row] = number
        trained = [run for of_seed in runs[row] for run in of_seed]
        seconds = sum(lines[-1]["seconds"] if (lines := run.timing()) else 0.0 for run in trained)
        left = [name for seed in seeds[number:] for name in rows[row][seed]]
        saved = sum(not Run(workplace.out / "runs" / name).is_finished for name in left)
        stopped.append({
            "row": row, "leader": seen.leader, "difference": verdict.difference.value, "low": verdict.low,
            "high": verdict.high, "p": verdict.p, "seeds": number, "saved_runs": saved,
            "saved_seconds": saved * seconds / len(trained),
        })  # fmt: skip
        log(
            f"{row}: stopped after {plural(number, 'seed')}, as it is worse than {seen.leader} on val: {verdict}; saves "
            f"{plural(saved, 'run')}, about {duration(stopped[-1]['saved_seconds'])} of training"
        )
    if not stopped:
        log(f"{data}: after {plural(number, 'seed')} nobody is stopped: none is worse than {seen.leader} on val")
    race["looks"].append(
        {"seeds": number, "leader": seen.leader, "accuracy": dict(seen.accuracy), "stopped": stopped}
    )  # fmt: skip


def _seeds(plan: Plan) -> list[Value]:
    return list(dict.fromkeys(planned.axes["seed"] for planned in plan.runs.values()))


def _rows_of_sets(plan: Plan) -> dict[str, dict[str, dict[Value, list[str]]]]:
    """Data sets, their rows (runs that differ in seed and fold alone), and each seed's runs of a row."""
    sets: dict[str, dict[str, dict[Value, list[str]]]] = {}
    for name, planned in plan.runs.items():
        fold, seed = planned.recipe.data.fold, planned.axes["seed"]
        row = name.removesuffix(repeat_name("", planned.recipe.seed, fold))
        of_set = sets.setdefault(str(planned.axes.get("data", "")), {})
        of_set.setdefault(row, {}).setdefault(seed, []).append(name)
    return sets
