"""Sections on what chose the runs: the search of the recipes' fields, and the race of the models."""

from typing import Any

from muybridge.analysis.searching import Searched
from muybridge.reporting.charts import search as charts
from muybridge.reporting.sections.parts import MOST_MATRICES, Chapter, Figure, Section, Table, share
from muybridge.text import duration, listed, plural


def search(chapter: Chapter) -> Section | None:
    """Section on the searches: what was spent, the winners and what they lose on fresh seeds, every trial; None without any."""
    settings = chapter.comparison.searches
    if not settings:
        return None
    fields = list(dict.fromkeys(name for one in settings for trial in one.trials for name in trial["changes"]))
    drawn = settings[:MOST_MATRICES]
    varied = [field for field in fields if len({str(v) for v in _values(drawn, field)}) > 1]
    return Section(
        title="Search",
        text=tuple(_sentence(one) for one in settings),
        tables=tuple(filter(None, (_winners(settings, fields), _importance(settings), _trials(settings, fields)))),
        figures=(
            *(Figure(
                f"search-{field}", f"Video accuracy on val of every trial over {field}; best: {_best_values(drawn, field)}",
                charts.slices(drawn, field),
            ) for field in varied[:MOST_MATRICES]),
            *(Figure(
                f"trials-{one.name}",
                f"Video accuracy on val over the epochs of {plural(len(one.trials), 'trial')} of {one.name}; "
                f"the winner ends at {one.accuracy:.3f}",
                charts.trials(one),
            ) for one in drawn),
        ),
        caption=(
            "Trials have a seed of their own and never score the test split. Steps, epochs and hours are of training; a trial "
            "that diverged counts as far as it was to go. Importance: share of a field in what tells the best trials from "
            "the others on the first rung (PED-ANOVA, Watanabe et al. 2023). Slices show the first rung, where all trials "
            "stand. Gap: the winner of many is partly lucky; fresh seeds are what the test is scored with."
        ),
    )  # fmt: skip


def _values(settings: tuple[Searched, ...], field: str) -> list[Any]:
    return [trial["changes"][field] for one in settings for trial in one.trials if field in trial["changes"]]


def _best_values(settings: tuple[Searched, ...], field: str) -> str:
    return listed([f"{one.name} {_cell(one.chosen['changes'].get(field))}" for one in settings])


def _sentence(one: Searched) -> str:
    asked = one.record["asked"]
    halving = f", halving by {asked['halving']}" if asked["halving"] else ""
    words = (
        f"{one.name}: {plural(len(one.trials), 'trial')} by {asked['by']} over {', '.join(asked['space'])}{halving} took "
        f"{one.spent}. The winner has {one.accuracy:.3f} on val in the search"
    )
    if one.gap is None:
        return f"{words}."
    seeds = "a fresh seed" if len(one.fresh) == 1 else f"{len(one.fresh)} fresh seeds (mean)"
    lost = f": {one.gap:.3f} of it did not last" if one.gap > 0 else ""
    return f"{words}, and {one.accuracy - one.gap:.3f} with {seeds}{lost}."


def _winners(settings: tuple[Searched, ...], fields: list[str]) -> Table:
    header = [
        "setting",
        *fields,
        "val in search",
        "val, fresh seeds",
        "gap",
        "trials",
        "epochs",
        "hours",
        "share of whole",
    ]
    rows = []
    for one in settings:
        spent = one.spent
        rows.append([
            one.name, *(_cell(one.chosen["changes"].get(field)) for field in fields), f"{one.accuracy:.3f}",
            " ".join(f"{value:.3f}" for value in one.fresh) or "–", "–" if one.gap is None else f"{one.gap:+.3f}",
            str(spent.trials), "–" if spent.epochs is None else f"{spent.epochs:,.4g}", f"{spent.hours:.2g}",
            share(spent.share),
        ])  # fmt: skip
    return Table(header, rows, name="search")


def _importance(settings: tuple[Searched, ...]) -> Table | None:
    known = [one for one in settings if one.record.get("importance")]
    fields = list(dict.fromkeys(name for one in known for name in one.record["importance"]))
    rows = [[one.name, *(share(one.record["importance"].get(field)) for field in fields)] for one in known]
    return Table(["importance of", *fields], rows, name="search-importance") if rows else None


def _trials(settings: tuple[Searched, ...], fields: list[str]) -> Table:
    rows = []
    for one in settings:
        for number, trial in enumerate(one.trials):
            on_rungs = " → ".join(f"{rung['val_video_top1']:.3f}" for rung in trial["rungs"])
            end = "diverged" if "failed" in trial else "winner" if trial is one.chosen else ""
            rows.append([
                one.name, str(number + 1), *(_cell(trial["changes"].get(field)) for field in fields), on_rungs or "–",
                str(trial["steps"]), end,
            ])  # fmt: skip
    return Table(["setting", "trial", *fields, "val on each rung", "steps", "end"], rows, name="search-trials", most=20)


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def race(chapter: Chapter) -> Section | None:
    """Section on the race: who got no more seeds, when, by what, and what it saved; None without one."""
    raced = chapter.comparison.race
    if raced is None:
        return None
    stopped = [one for look in raced["looks"] for one in look["stopped"]]
    looks = [look["seeds"] for look in raced["looks"]]
    saved, seconds = sum(one["saved_runs"] for one in stopped), sum(one["saved_seconds"] for one in stopped)
    text = [
        f"Models were trained seed by seed, {raced['seeds']} at most. After {listed([str(seeds) for seeds in looks]) or 'none'} "
        f"of them val was looked at, each time at a level of {raced['level']:.2%} for all pairs together, so that in at most "
        f"{raced['alpha']:.0%} of such studies of equal models any is stopped."
    ]
    if stopped:
        text.append(
            f"Stopped: {listed([one['row'] for one in stopped])}. That saved {saved} of {plural(raced['runs'], 'run')}, about "
            f"{duration(seconds)} of training."
        )
    else:
        text.append("No model was worse than the leader at any look: all have all seeds, and nothing was saved.")
    rows = [
        [one["row"], str(one["seeds"]), one["leader"], f"{one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]",
         f"{one['p']:.2g}", str(one["saved_runs"]), duration(one["saved_seconds"])]
        for one in stopped
    ]  # fmt: skip
    header = ["stopped", "seeds", "worse than", "difference on val", "p", "runs saved", "training saved"]
    return Section(
        title="Race",
        text=tuple(text),
        tables=(Table(header, rows, name="race"),) if rows else (),
        caption=(
            "Difference and p are corrected for all pairs of the look. Val alone decided; the test split did not. A stopped "
            "model is compared with the seeds that it has. Those are the seeds by which it fell behind: more of them might "
            "have come a little closer."
        ),
    )
