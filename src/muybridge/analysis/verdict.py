"""The verdict on a study: one sentence for whoever never saw the tool, at most three figures, and what to do next.

**Who may be the best.** Rows than which no other was found to be better, by the pairs' verdicts (Holm). A higher figure
alone counts for nothing. One such row is the winner.

**Which of several to take.** The cheapest of those that may be the best. "Cannot be told apart" is not "as good": where too
few videos were tested, anything passes for anything. So a row is taken only if the pairs' intervals exclude that another is
better by more than `MUCH`. If none is left, the videos are too few, and the verdict says what it takes.

**A guess comes first.** With m rows, one of them beats a guess if its interval of level 1 - 5 % / m lies above it.

**Runs and models.** Where a pair that decides has fewer than three seeds, the verdict is one on these runs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.learning import symptoms
from muybridge.analysis.results import RunsResult
from muybridge.analysis.statistics import SEEDS_OF_A_CLAIM, Interval, Takes, Verdict, takes
from muybridge.text import in_words, listed, plural

MUCH = 0.1
"""Difference of two accuracies that matters to anyone; below it the cheaper of two may be taken."""
MUCH_WORDS = "ten points"
MOST_NUMBERS = 3
MOST_NAMED = 3
"""Most models that a headline names."""
OF_MODELS = "only then can it be said of the models"
"""Reason for more seeds."""
_AGAIN = "Run the commands that trained them once more, with further seeds."
"""Advice where no one command trains all rows."""
SAME_COST = 0.95
"""Ratio of two costs from which they are called the same."""
MOST_TIMES = 10.0
"""Largest test, in times of the one there is, that is asked for where models may be better than a guess."""
TESTED_TWICE = 1.5
"""Ratio of all videos to the test's from which folds are worth it."""

SHARES = {
    0.05: "one of twenty", 0.1: "one of ten", 0.2: "one of five", 0.25: "one of four", 1 / 3: "one of three",
    0.4: "two of five", 0.5: "one of two", 0.6: "three of five", 2 / 3: "two of three", 0.75: "three of four",
    0.8: "four of five", 0.9: "nine of ten", 0.95: "nineteen of twenty",
}  # fmt: skip
"""Shares in words."""
FRACTIONS = {
    0.01: "a hundredth", 0.02: "a fiftieth", 0.05: "a twentieth", 0.1: "a tenth", 0.125: "an eighth", 1 / 6: "a sixth",
    0.2: "a fifth", 0.25: "a quarter", 1 / 3: "a third", 0.4: "two fifths", 0.5: "half", 0.6: "three fifths",
    2 / 3: "two thirds", 0.75: "three quarters", 0.8: "four fifths", 0.9: "nine tenths",
}  # fmt: skip
"""Ratios of costs in words."""

Kind = Literal["winner", "tie", "too_few", "guess", "single", "nothing_common", "by_data_set"]


@dataclass(frozen=True)
class Number:
    """One figure of a verdict, with its interval where it is an estimate."""

    value: float
    unit: Literal["share", "points", "times", "count"]
    """Shares and points are held as fractions of 1."""
    about: str
    """Words that follow the figure."""
    low: float | None = None
    high: float | None = None

    @property
    def figure(self) -> str:
        """The figure as it is read, without its interval."""
        if self.unit == "share":
            return f"{100 * self.value:.1f} %"
        if self.unit == "points":
            return f"{100 * self.value:.1f} points"
        if self.unit == "times":
            return f"{self.value:.2g} ×" if self.value < 10 else f"{self.value:.0f} ×"
        return f"{self.value:.0f}"

    @property
    def interval(self) -> str:
        """The 95 % interval as it is read; empty for a figure that has no interval."""
        return "" if self.low is None or self.high is None else f"[{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.figure, self.interval, self.about)))


@dataclass(frozen=True)
class StudyVerdict:
    """A verdict on a study."""

    kind: Kind
    headline: str
    """One sentence. It holds no digits but those of names."""
    recommendation: str
    command: str | None
    """Command that a user types next; None where muybridge has none for it."""
    numbers: tuple[Number, ...] = ()
    """At most three."""
    rests_on: tuple[str, ...] = ()
    """Sentences on what was tested, and on what may explain the figures otherwise."""
    model: str | None = None
    """Whole name of the row that is recommended, or that these runs speak for; None where none is."""
    about: Literal["models", "runs"] = "models"
    """Whether it holds for models, or for these runs alone."""

    def lines(self) -> list[str]:
        """Lines for a terminal."""
        return [
            self.headline, *(f"  {number}" for number in self.numbers), self.recommendation,
            *([] if self.command is None else [f"  {self.command}"]), *self.rests_on,
        ]  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Entry `verdict` of report.json."""
        return asdict(self)


def study_verdict(comparisons: Mapping[str, Comparison]) -> StudyVerdict:
    """Verdict on a study, of one data set or several, by their names."""
    standings = {name: Standing(comparison) for name, comparison in comparisons.items()}
    return _of_sets(standings) if len(standings) > 1 else _with_names(next(iter(standings.values())))


def verdict_on(comparison: Comparison) -> StudyVerdict:
    """Verdict on one data set."""
    return _with_names(Standing(comparison))


@dataclass(frozen=True)
class Standing:
    """Places of the rows of a comparison, by the pairs' verdicts."""

    c: Comparison

    @cached_property
    def able(self) -> set[int]:
        """Ranks of the rows that beat a guess, or than which one that does is worse."""
        looks = len(self.c.models)
        own = {rank for rank, model in enumerate(self.c.models) if self.c.beats_a_guess(model, looks=looks)}
        return own | {_better(pair, of) for pair, of in self.c.verdicts.items() if of.apart and _worse(pair, of) in own}

    @cached_property
    def unbeaten(self) -> list[int]:
        """Ranks of the rows than which no other was found to be better."""
        beaten = {_worse(pair, of) for pair, of in self.c.verdicts.items() if of.apart}
        return [rank for rank in range(len(self.c.models)) if rank not in beaten]

    def most_lost(self, rank: int) -> float:
        """Most by which another unbeaten row may be better, by the upper ends of the pairs' intervals."""
        others = [self.c.minus(other, rank) for other in self.unbeaten if other != rank]
        return max((verdict.high for verdict in others if verdict is not None), default=0.0)

    @cached_property
    def widest(self) -> Verdict | None:
        """Verdict on the two unbeaten rows whose difference is known worst; None without two."""
        pairs = [of for pair in combinations(self.unbeaten, 2) if (of := self.c.minus(*pair)) is not None]
        return max(pairs, key=lambda of: of.high - of.low, default=None)

    @cached_property
    def to_take(self) -> list[int]:
        """Ranks of the unbeaten rows that may be taken: better than a guess, and not worse than another by `MUCH`."""
        return [rank for rank in self.unbeaten if rank in self.able and self.most_lost(rank) <= MUCH]

    @cached_property
    def is_of_runs(self) -> bool:
        """Whether a pair that decides has too few seeds for a claim about models."""
        deciding = set(self.unbeaten)
        return any(not of.difference.over_seeds for pair, of in self.c.verdicts.items() if deciding & set(pair))

    def costs(self, ranks: Sequence[int]) -> tuple[dict[int, float], str]:
        """Cost of answering a video, of those rows of which it is known, by rank; and what is counted.

        Measured time where all of them were measured on one machine, in one precision; else multiply-adds, over all views.
        """
        own = {rank: model for rank in ranks if isinstance(model := self.c.models[rank], RunsResult)}
        speeds = {rank: model.speed for rank, model in own.items() if model.speed is not None}
        rates = {rank: speed.get("forward_clips_per_s") for rank, speed in speeds.items()}
        machines = {tuple(speed.get(key) for key in ("device_name", "dtype", "threads")) for speed in speeds.values()}
        if own and len(machines) == 1 and rates.keys() == own.keys() and all(rates.values()):
            seconds = {rank: own[rank].num_views / float(rate) for rank, rate in rates.items() if rate}
            return seconds, "the time to answer a video, as measured"
        macs = {rank: float(model.num_views * model.cost["macs"]) for rank, model in own.items()}
        return {rank: cost for rank, cost in macs.items() if cost}, "the multiply-adds to answer a video"

    def cost_against(self, rank: int, other: int) -> Number | None:
        """Cost of a row in times of another's; None where either is not known."""
        costs, counted = self.costs([rank, other])
        if len(costs) < 2:
            return None
        return Number(costs[rank] / costs[other], "times", f"{counted}, against {self.name(other)}")

    def name(self, rank: int) -> str:
        """Name of a row, for a sentence."""
        return self.c.short_name(rank)

    def predict(self, rank: int) -> str | None:
        """Command that labels videos with a row's first run; None where it has no network of muybridge's."""
        model = self.c.models[rank]
        own = model.trained_runs if isinstance(model, RunsResult) else ()
        return f"muybridge predict {quote(str(own[0].path))} VIDEO" if own else None


def _better(pair: tuple[int, int], verdict: Verdict) -> int:
    return pair[0] if verdict.difference.value > 0 else pair[1]


def _worse(pair: tuple[int, int], verdict: Verdict) -> int:
    return pair[1] if verdict.difference.value > 0 else pair[0]


def _with_names(s: Standing) -> StudyVerdict:
    """The verdict on one data set; of rows that it calls by their place it has the whole name, too."""
    found = _of_one(s)
    said = " ".join([found.headline, found.recommendation, *map(str, found.numbers), *found.rests_on])
    named = [
        f"{_capital(place)} is {model.name}."
        for place, model in zip(s.c.short_names, s.c.models, strict=True)
        if place not in (model.brief, model.name) and re.search(rf"\b{place}\b", said)
    ]
    headline = _capital(found.headline) if found.headline.startswith(s.c.short_names) else found.headline
    return replace(found, headline=headline, rests_on=(*found.rests_on, *named))


def _capital(text: str) -> str:
    """A place in a row with which a sentence begins; names stay as they are."""
    return re.sub(r"^(the|this|number)\b", lambda match: match[0].capitalize(), text)


def _of_one(s: Standing) -> StudyVerdict:
    if not s.able:
        return _no_better_than_a_guess(s)
    if len(s.c.models) == 1:
        return _single(s)
    if not s.c.verdicts:
        return StudyVerdict(
            "nothing_common",
            "Which is better cannot be said: no test video, with its label, is common to all.",
            "Test them on the same videos.",
            None,
            about="models" if s.c.about_models else "runs",
        )
    if len(s.unbeaten) == 1:
        return _winner(s)
    return _tie(s) if s.to_take else _too_few(s)


def _winner(s: Standing) -> StudyVerdict:
    [best] = s.unbeaten
    others = [rank for rank in range(len(s.c.models)) if rank != best]
    leads = {rank: verdict for rank in others if (verdict := s.c.minus(best, rank)) is not None}
    nearest = min(leads, key=lambda rank: leads[rank].low)
    lead, name = leads[nearest], s.name(best)
    beaten = s.name(nearest) if len(others) == 1 else f"every other {'run' if s.is_of_runs else 'model'} here"
    right = _right_on(s.c, best)
    number = Number(
        lead.difference.value, "points",
        f"more than {s.name(nearest)}" + (", the nearest of the others" if len(others) > 1 else ""), lead.low, lead.high,
    )  # fmt: skip
    cost = s.cost_against(best, nearest)
    numbers = (_accuracy(s, best), number, *([] if cost is None or is_same(cost.value) else [cost]))
    return _of_runs_or_models(
        s, best, "winner", f"{name} is better than {beaten}, and right on {right}.",
        f"Use {name}: it is right on {right}, and better than {beaten}.", "", numbers,
    )  # fmt: skip


def is_same(ratio: float) -> bool:
    """Whether two costs of this ratio are called the same."""
    return SAME_COST <= ratio <= 1 / SAME_COST


def _tie(s: Standing) -> StudyVerdict:
    costs, _ = s.costs(s.unbeaten)
    priced = [rank for rank in s.to_take if rank in costs]
    chosen = min(priced, key=lambda rank: (costs[rank], rank)) if priced else s.to_take[0]
    name, others = s.name(chosen), [rank for rank in s.unbeaten if rank != chosen]
    other = next((rank for rank in others if rank in costs), None)
    numbers, why = [_accuracy(s, chosen)], "any of them will do"
    cost = s.cost_against(chosen, other) if priced and other is not None else None
    if cost is None:
        words = "what they cost is not known here"
    elif is_same(cost.value):
        words = "they cost about the same"
    elif cost.value > 1:
        words = f"{s.name(other or 0)} would cost less"
    else:
        of_other = "" if len(others) == 1 else f" of {s.name(other or 0)}"
        words, why = f"{name} costs about {_nearest(FRACTIONS, cost.value)}{of_other}", "of those it costs least"
        numbers.append(cost)
    worst = max(others, key=lambda rank: -1.0 if (of := s.c.minus(rank, chosen)) is None else of.high)
    numbers.append(Number(s.most_lost(chosen), "points", f"at most by which {s.name(worst)} may be better than {name}"))
    skipped = [rank for rank in others if rank not in s.to_take and costs.get(rank, 0.0) < costs.get(chosen, 0.0)]
    notes = []
    if skipped:
        which, why = _few([s.name(rank) for rank in skipped]), "of those that are surely close to it, it costs least"
        notes = [f"{which} would cost less, but may be worse by more than {MUCH_WORDS}, as far as these videos tell."]
    headline = f"{_few([s.name(rank) for rank in s.unbeaten])} cannot be told apart; {words}."
    advice = f"Use {name}: no other is shown to be better, and {why}."
    return _of_runs_or_models(s, chosen, "tie", headline, headline, advice, tuple(numbers), notes)


def _of_runs_or_models(
    s: Standing, chosen: int, kind: Kind, of_runs: str, of_models: str, advice: str, numbers: tuple[Number, ...],
    notes: Sequence[str] = (),
) -> StudyVerdict:  # fmt: skip
    """A verdict that recommends a model; of too few seeds, what these runs say, and to train more.

    `advice`: sentence that names the model; empty where the headline does.
    """
    rests, name = (*_rests_on(s), *notes), s.c.models[chosen].name
    if s.is_of_runs:
        recommendation, command = _more_seeds(s.c, SEEDS_OF_A_CLAIM, OF_MODELS)
        return StudyVerdict(kind, f"These runs say: {of_runs}", recommendation, command, numbers, rests, name, "runs")
    recommendation, command = _label(s, chosen, advice)
    return StudyVerdict(kind, of_models, recommendation, command, numbers, rests, name)


def _too_few(s: Standing) -> StudyVerdict:
    widest = s.widest
    assert widest is not None
    c, sources = s.c, "source" if widest.difference.is_grouped else "test video"
    of_sources = " (groups of test videos)" if widest.difference.is_grouped else ""
    most = max(-widest.low, widest.high)
    shares_few = any(model.num_videos > len(c.common[0]) for model in c.models)
    tested = Number(widest.difference.num_units, "count", f"{sources}s{of_sources} were tested")
    if shares_few:
        tested = Number(len(c.common[0]), "count", "test videos are all that they share")
    numbers = [
        tested,
        Number(most, "points", "at most may lie between two of them, as far as these tell"),
    ]
    needed, lacking = takes_for_much(c, widest), f"too few {sources}s were tested"
    recommendation, command = f"Test on videos of many more {sources}s.", None
    if not widest.difference.is_grouped:
        recommendation = "Test on far more videos."
    if needed is not None and needed.times_videos == 1:
        lacking = "too few seeds were trained"
        recommendation, command = _more_seeds(s.c, needed.seeds, f"that would show a difference of {MUCH_WORDS}")
    elif needed is not None:
        each = f", with {in_words(needed.seeds)} seeds each" if needed.seeds <= 12 else ", with many seeds each"
        numbers.append(
            Number(needed.times_videos, "times", f"as many {sources}s would show a difference of {MUCH_WORDS}{each}")
        )
        recommendation, command = more_videos(s.c)
    if shares_few:
        lacking, recommendation, command = (
            "they share too few test videos",
            "Test all of them on the same videos.",
            None,
        )
    what = "These runs do not tell" if s.is_of_runs else "It cannot be told"
    return StudyVerdict(
        "too_few", f"{what} which of {_few([s.name(rank) for rank in s.unbeaten])} is best: {lacking}.",
        recommendation, command, tuple(numbers), _rests_on(s), about="runs" if s.is_of_runs else "models",
    )  # fmt: skip


def takes_for_much(c: Comparison, verdict: Verdict) -> Takes | None:
    """Seeds and videos that would show a difference of `MUCH` between two rows; None: out of reach."""
    return takes(replace(verdict.difference, value=MUCH), pairs=len(c.verdicts))


def _single(s: Standing) -> StudyVerdict:
    model = s.c.models[0]
    right = _right_on(s.c, 0)
    guess = s.c.baselines.guess(by_class=s.c.by_class)
    recommendation, command = _label(s, 0)
    return StudyVerdict(
        "single", f"{s.name(0)} is right on {right}; nothing is compared with it.", recommendation, command,
        (_accuracy(s, 0), Number(guess, "share", _guess_words(s.c))), _rests_on(s), model.name,
        "models" if s.c.about_models else "runs",
    )  # fmt: skip


def _no_better_than_a_guess(s: Standing) -> StudyVerdict:
    c = s.c
    guess = c.baselines.guess(by_class=c.by_class)
    highest = max(range(len(c.models)), key=lambda rank: c.measure(c.models[rank]).value)
    best = c.measure(c.models[highest])
    alone = s.name(0) if len(c.models) == 1 else ""
    answer = "guessing" if _is_chance(c) else f"always answering {c.baselines.answer}"
    if best.value <= guess:
        headline = f"{alone or 'No model'} {'does not beat' if alone else 'beats'} {answer}."
    else:
        headline = f"{f'{alone} is not' if alone else 'No model is'} shown to beat {answer}."
    recommendation, command, *evidence = _what_fits(c, best, guess)
    about = _measured(c) if alone else f"{_measured(c)}, the highest here"
    if c.models[highest].unanswered:
        about = _accuracy(s, highest).about
    return StudyVerdict(
        "guess", headline, recommendation, command,
        (
            Number(best.value, "share", about, best.low, best.high),
            Number(guess, "share", _guess_words(c)),
        ),
        (*_rests_on(s), *evidence), about="models" if c.about_models else "runs",
    )  # fmt: skip


def _what_fits(c: Comparison, best: Interval, guess: float) -> tuple[str, str | None] | tuple[str, None, str]:
    """Advice where nothing beats a guess, its command, and the evidence of a failed training.

    Mend the training, look at time, test on more videos, or look at the data.
    """
    runs = [run for model in c.of_runs for run in model.trained_runs]
    found = [symptom for run in runs for symptom in symptoms(run)]
    if found:
        return "Mend the training first.", None, str(found[0])
    blind = [model.within_pairs(c.pairs, len(c.models)).low <= 0.5 for model in c.models] if c.pairs else []
    if blind and all(blind) and runs:
        return (
            "Most likely they do not see the direction of time: ask whether they use the order of frames.",
            f"muybridge diagnose {quote(str(runs[0].path))}",
        )
    if best.value > guess and ((best.value - best.low) / (best.value - guess)) ** 2 <= MOST_TIMES:
        return more_videos(c)
    if not runs:
        return "Look at the labels, the order of the classes and the matching of videos first.", None
    return (
        "Look for what is wrong with the data before you train more.",
        f"muybridge doctor {quote(c.of_runs[0].manifests[0])}",
    )


def _of_sets(standings: Mapping[str, Standing]) -> StudyVerdict:
    """Verdict on several data sets. Models are compared within each, never across."""
    is_of_runs = any(s.is_of_runs for s in standings.values())
    verdicts = {name: _of_one(s) for name, s in standings.items()}
    rank_of = {
        name: {s.c.models[rank].name: rank for rank in (s.to_take if s.c.verdicts or len(s.c.models) == 1 else ())}
        for name, s in standings.items()
    }
    everywhere = [row for row in next(iter(rank_of.values())) if all(row in of for of in rank_of.values())]
    rests = ["Models are compared within a data set only; each has its verdict below."]
    if is_of_runs:
        rests.append(
            f"Some have fewer than {in_words(SEEDS_OF_A_CLAIM)} seeds: what is said holds for these runs alone."
        )
    say = "These runs say: " if is_of_runs else ""
    about: Literal["models", "runs"] = "runs" if is_of_runs else "models"
    if everywhere:
        first_name, first = next(iter(standings.items()))
        costs, _ = first.costs(list(rank_of[first_name].values()))
        model = min(everywhere, key=lambda one: costs.get(rank_of[first_name][one], float("inf")))
        chosen = {name: rank_of[name][model] for name in standings}
        of_first = first.c.models[chosen[first_name]]
        row = of_first.brief or of_first.name
        if all(of.kind == "winner" for of in verdicts.values()):
            headline = f"{row} is better than every other on each of the {in_words(len(standings))} data sets."
        elif all(of.kind == "single" for of in verdicts.values()):
            headline = f"{row} was tested on {in_words(len(standings))} data sets; nothing is compared with it."
        else:
            headline = f"On none of the {in_words(len(standings))} data sets is another shown to be better than {row}."
        numbers = [_accuracy(s, chosen[name], f"{row}, on {name}") for name, s in standings.items()]
        numbers.sort(key=lambda number: number.value)
        if len(numbers) > MOST_NUMBERS:
            numbers = [numbers[0], numbers[-1]]
        advice, command = _label(first, chosen[first_name], f"Use {row}.")
        if is_of_runs:
            advice, command = f"{_seeds_words(SEEDS_OF_A_CLAIM, OF_MODELS)} {_AGAIN}", None
        return StudyVerdict("by_data_set", say + headline, advice, command, tuple(numbers), tuple(rests), model, about)
    briefs = {name: {model.name: model.brief or model.name for model in s.c.models} for name, s in standings.items()}
    named = [f"{briefs[name][of.model]} on {name}" for name, of in verdicts.items() if of.model is not None]
    unclear = [name for name, of in verdicts.items() if of.model is None]
    parts = [f"no one model is the choice on every data set: {listed(named)}" if named else ""]
    parts.append(f"on {listed(unclear)} none can be recommended" if unclear else "")
    words = "; ".join(filter(None, parts))
    return StudyVerdict(
        "by_data_set", f"{say}{words if say else words[0].upper() + words[1:]}.",
        "Go by the data set that is most like your videos: the verdict on each is below.", None,
        tuple(of.numbers[0] for of in verdicts.values() if of.model is not None)[:MOST_NUMBERS], tuple(rests), None, about,
    )  # fmt: skip


def _seeds_words(seeds: int, why: str) -> str:
    return f"Train {in_words(seeds) if seeds <= 12 else 'many'} seeds each: {why}."


def _more_seeds(c: Comparison, seeds: int, why: str) -> tuple[str, str | None]:
    """Words and the command that trains more seeds."""
    words = _seeds_words(seeds, why)
    if len(c.of_runs) < len(c.models):
        return f"{words} Add their predictions.", None
    command = seeds_command(c, seeds)
    if command is not None:
        return words, command
    study = study_of(c)
    again = _AGAIN if study is None else f"Run the command that made {study} once more, with --seeds {seeds}."
    return f"{words} {again}", None


def seeds_command(c: Comparison, seeds: int) -> str | None:
    """The command that trains more seeds of all rows; None where rows differ in more than their model."""
    models = [model for model in c.of_runs if not model.fused]
    names = [model.model for model in models]
    simple = not (c.differences or c.varied or c.searches or c.race) and len(models) == len(c.models)
    if not simple or len(set(names)) < len(names) or any(":" in name for name in names):
        return None
    recipe = models[0].runs[0].path / "recipe.json"
    return (
        f"muybridge compare --data {quote(models[0].manifests[0])} --models {quote(','.join(names))} --recipe "
        f"{quote(str(recipe))} --seeds {seeds} --out {quote(str(study_of(c) or 'STUDY'))}"
    )


def study_of(c: Comparison) -> Path | None:
    """Folder of the study whose runs are compared; None where they are of none, or of several."""
    folders = {run.path.parent for model in c.of_runs for run in model.runs}
    study = next(iter(folders)).parent if len(folders) == 1 else None
    return study if study is not None and (study / "study.json").exists() else None


def more_videos(c: Comparison) -> tuple[str, str | None]:
    """Words and, where folds would do, the command by which more videos are tested."""
    if any(model.unanswered for model in c.models):
        return "Have all test videos answered first.", None
    sizes = c.dataset.split_sizes
    test, every = sizes.get("test", 0), sum(sizes.values())
    in_folds = c.protocol is not None and c.protocol.data.fold is None
    grouped = (c.common_groups[0] != "").any()
    if in_folds and test and every / test >= TESTED_TWICE:
        words = "Test on more videos: with folds each of those you have is tested once."
        overview = c.dataset.overview
        if not grouped and (overview is None or not overview.splits[-1].groups):
            return words, "muybridge prepare FOLDER --folds 5 --out FOLDS.csv"
        known = "" if overview is None else f" (it names {plural(overview.splits[-1].groups, 'source')})"
        return (
            f"{words} Prepare them again as {c.of_runs[0].manifests[0]} was made{known}, with --folds 5 and the same --group or "
            "column of groups: else a source lies in two folds.",
            None,
        )
    others = "some of other people or recordings" if grouped else "others"
    return f"Test on more videos: collect and label {others}.", None


def _label(s: Standing, rank: int, advice: str = "") -> tuple[str, str | None]:
    """Words on how to label videos with a row, after `advice`; and the command, where muybridge has its network."""
    command = s.predict(rank)
    if command is not None:
        return advice or "Label videos with it.", command
    if s.c.models[rank].fused:
        how = "Label videos with it by fusing the scores of its parts (muybridge fuse)."
    else:
        how = "Label videos with the tool that made its predictions."
    return f"{advice} {how}".strip(), None


def _rests_on(s: Standing) -> tuple[str, ...]:
    """Sentences on the test, and on what else may explain the figures."""
    c = s.c
    seeds = {model.num_seeds for model in c.models}
    each = f"{in_words(min(seeds))} seed{'s' * (min(seeds) > 1)}" + (" each" if len(c.models) > 1 else "")
    if len(seeds) > 1:
        each = f"{in_words(min(seeds))} to {in_words(max(seeds))} seeds each"
    videos = len(c.common[0])
    groups = set(c.common_groups[0].tolist()) - {""}
    of_groups = f" from {plural(len(groups), 'source')}" if groups else ""
    shared = " that all were tested on" if any(model.num_videos > videos for model in c.models) else ""
    tested = f"It rests on {plural(videos, 'test video')}{shared}{of_groups}, {each}"
    if len(c.models) > 1:
        pairs = f", corrected for {len(c.verdicts)} pairs" if len(c.verdicts) > 1 else ""
        tested += f"; differences are taken on the same videos{pairs}"
    sentences = [f"{tested}. Brackets are 95 % intervals."]
    lacking = [rank for rank, model in enumerate(c.models) if model.unanswered]
    if lacking:
        answered = [f"{s.name(rank)} {c.models[rank].num_videos} of {c.models[rank].truth_videos}" for rank in lacking]
        sentences.append(f"Not all videos were answered ({listed(answered)}): nothing is known of the others.")
    if c.by_class:
        sentences.append("The test is uneven, so each class counts the same.")
    if min(seeds) < SEEDS_OF_A_CLAIM:
        sentences.append(
            f"Below {in_words(SEEDS_OF_A_CLAIM)} seeds it is not known how far another seed would move a figure."
        )
    if c.differences:
        sentences.append(
            f"The runs differ in more than the model ({listed(list(c.differences))}): what is seen here may come from that."
        )
    return tuple(sentences)


def _accuracy(s: Standing, rank: int, of: str = "") -> Number:
    """Accuracy of a row. `of`: its name, where the words shall have another than in sentences on its data set."""
    interval = s.c.measure(s.c.models[rank])
    name, model = of or s.name(rank), s.c.models[rank]
    about = f"{_measured(s.c)} with {name}"
    if model.unanswered and s.c.by_class:
        about += f", which answered {model.num_videos} of {model.truth_videos}"
    elif model.unanswered:
        about = f"of the {model.num_videos} test videos that {name} answered, of {model.truth_videos}, are right"
    return Number(interval.value, "share", about, interval.low, interval.high)


def _measured(c: Comparison) -> str:
    return (
        "of a class's test videos are right, on average over the classes,"
        if c.by_class
        else "of the test videos are right"
    )


def _is_chance(c: Comparison) -> bool:
    """Whether drawing a class evenly is the better of the two guesses."""
    chance, majority = c.baselines.both
    return chance.mean_class > majority.mean_class if c.by_class else chance.top1 > majority.top1


def _guess_words(c: Comparison) -> str:
    return "by guessing" if _is_chance(c) else f"by always answering {c.baselines.answer}"


def _right_on(c: Comparison, rank: int) -> str:
    """Accuracy of a row in words, e.g. "about nine of ten test videos"."""
    share, of = c.measure(c.models[rank]).value, " of a class, on average" if c.by_class else ""
    of += " that it answered" if c.models[rank].unanswered else ""
    if share == 1:
        return f"every test video{of}"
    if share >= 0.975:
        return f"nearly every test video{of}"
    if share < 0.025:
        return f"hardly any test video{of}"
    return f"about {_nearest(SHARES, share)} test videos{of}"


def _nearest(words: Mapping[float, str], value: float) -> str:
    return words[min(words, key=lambda one: abs(one - value))]


def _few(names: Sequence[str]) -> str:
    """Names as in "a, b and c"; of more, two and how many others."""
    if len(names) <= MOST_NAMED:
        return listed(names)
    others = len(names) - 2
    return f"{names[0]}, {names[1]} and {in_words(others) if others <= 12 else 'many'} others"
