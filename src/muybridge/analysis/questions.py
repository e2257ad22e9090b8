"""Questions that a reader has of a study, each with yes, no or can't tell, why, and the command that would tell more.

"No" is said of what is shown, never of what is merely not seen: two models that cannot be told apart are "can't tell".
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from shlex import quote
from typing import Any, Literal

import numpy as np

from muybridge.analysis.comparison import Comparison
from muybridge.analysis.results import ModelResult, RunsResult
from muybridge.analysis.statistics import SEEDS_OF_A_CLAIM, Takes, accuracy_interval, change, judged, takes
from muybridge.analysis.temporal import diagnosed
from muybridge.analysis.verdict import MUCH_WORDS, Standing, seeds_command, study_of, takes_for_much, verdict_on
from muybridge.storage.run import Run
from muybridge.text import in_words, listed, plural

Reply = Literal["yes", "no", "can't tell", "not asked"]

SMALL = 0.01
"""Difference of two accuracies below which one is not better in any sense that matters."""
HONEST = 0.05
"""Distance of mean probability from accuracy within which probabilities are called honest."""
BEHIND = 0.5
"""Share of the mean class accuracy below which a class is left behind."""
MOST_CLASSES = 4
"""Most classes that an answer names."""


@dataclass(frozen=True)
class Question:
    """A question, its answer, and why."""

    question: str
    answer: Reply
    why: str
    """One clause."""
    command: str | None = None
    """Command that would tell, or tell more; None where muybridge has no such command."""

    def as_json(self) -> dict[str, Any]:
        """Entry of `questions` in report.json."""
        return asdict(self)


def questions(c: Comparison) -> list[Question]:
    """Questions of which the comparison says something, or which a command would answer."""
    name = verdict_on(c).model
    chosen = next((rank for rank, model in enumerate(c.models) if model.name == name), 0)
    found = (_is_best_better(c), _beats_a_guess(c), _time_matters(c), _more_would_tell(c), _is_fair(c),
             _is_honest(c, chosen), _is_any_left_behind(c, chosen))  # fmt: skip
    return [question for question in found if question is not None]


def _first_run(models: Sequence[ModelResult]) -> Run | None:
    return next((run for model in models if isinstance(model, RunsResult) for run in model.trained_runs), None)


def _is_best_better(c: Comparison) -> Question | None:
    if len(c.models) < 2:
        return None
    best, second = c.short_name(0), c.short_name(1)
    asked = "Is the best better than the second?"
    verdict = c.verdicts.get((0, 1))
    if verdict is None:
        return Question(asked, "can't tell", "no test video is common to all")
    told = f"{best} minus {second} is {verdict}"
    if verdict.apart and verdict.difference.value < 0:
        return Question(asked, "no", f"on the videos that all were tested on, {told}")
    if max(abs(verdict.low), abs(verdict.high)) <= SMALL and verdict.difference.over_seeds:
        return Question(asked, "no", f"they differ by less than a point: {told}")
    if verdict.apart and verdict.difference.over_seeds:
        return Question(asked, "yes", told)
    if not verdict.difference.over_seeds:
        command = seeds_command(c, SEEDS_OF_A_CLAIM) if c.of_runs else None
        these = "these runs differ" if verdict.apart else "these runs cannot be told apart"
        few = f"the models have fewer than {in_words(SEEDS_OF_A_CLAIM)} seeds"
        return Question(asked, "can't tell", f"{these} ({told}), and {few}", command)
    return Question(asked, "can't tell", told)


def _beats_a_guess(c: Comparison) -> Question:
    guess = c.baselines.guess(by_class=c.by_class)
    asked = f"Is any better than always answering {c.baselines.answer}, or guessing?"
    able = [c.short_name(rank) for rank, model in enumerate(c.models) if c.beats_a_guess(model, looks=len(c.models))]
    corrected = f" (corrected for {len(c.models)} models)" if len(c.models) > 1 else ""
    if len(able) == len(c.models):
        which = able[0] if len(able) == 1 else "both" if len(able) == 2 else f"all {in_words(len(able))}"
        return Question(asked, "yes", f"{which}{corrected}; the guess is right on {guess:.3f}")
    if able:
        return Question(asked, "yes", f"{listed(able)}{corrected}; the guess is right on {guess:.3f}")
    best = max((c.measure(model) for model in c.models), key=lambda interval: interval.value)
    if best.value <= guess:
        return Question(asked, "no", f"the highest is {best.value:.3f}, the guess {guess:.3f}")
    return Question(
        asked, "can't tell", f"the highest, {best}, does not lie clear of the guess, {guess:.3f}{corrected}"
    )


def _time_matters(c: Comparison) -> Question | None:
    """Question answered by shuffled frames where rows were diagnosed, else by classes that are each other's reversal."""
    asked = "Does the order of frames matter?"
    run = _first_run(c.models)
    command = None if run is None else f"muybridge diagnose {quote(str(study_of(c) or run.path))}"
    entries = diagnosed(c.of_runs)
    if entries:
        verdicts = judged([orders.difference("shuffled") for _, orders in entries])
        users = [row.name for (row, _), of in zip(entries, verdicts, strict=True) if of.apart and of.high < 0]
        if users:
            return Question(
                asked, "yes", f"with shuffled frames {listed(users)} {_verb(users, 'loses', 'lose')} accuracy"
            )
        if all(orders.ignores("shuffled") for _, orders in entries):
            return Question(
                asked, "no", f"to none of {listed([row.name for row, _ in entries])}: their scores stay the same"
            )
        return Question(asked, "can't tell", "what shuffled frames cost may be chance on these videos")
    if c.pairs and all(model.has_scores for model in c.models):
        within = [
            (c.short_name(rank), model.within_pairs(c.pairs, len(c.models))) for rank, model in enumerate(c.models)
        ]
        seeing = [name for name, interval in within if interval.low > 0.5]
        if seeing:
            return Question(
                asked, "yes", f"{listed(seeing)} {_verb(seeing, 'tells', 'tell')} time-reversed classes apart", command
            )
        return Question(asked, "can't tell", "none tells time-reversed classes apart better than a coin", command)
    return None if command is None else Question(asked, "not asked", "no model was shown shuffled frames", command)


def _verb(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several


def _more_would_tell(c: Comparison) -> Question | None:
    """Question answered by the first pair of the best that is not told apart as models.

    It names two targets: the difference as it is seen, and that of the verdict.
    """
    if not c.verdicts:
        return None
    asked = "Would more seeds or test videos tell more about the best?"
    open_pairs = [
        pair for pair, of in c.verdicts.items() if pair[0] == 0 and not (of.apart and of.difference.over_seeds)
    ]
    if not open_pairs:
        return Question(asked, "no", "the best differs from every other already")
    difference = c.verdicts[open_pairs[0]].difference
    best, other = c.short_name(0), c.short_name(open_pairs[0][1])
    sources = "sources (groups)" if difference.is_grouped else "test videos"
    if difference.num_units < 2:
        return Question(asked, "can't tell", f"all test videos are of one source; it takes other {sources}")
    if abs(difference.value) < 1e-9:
        return Question(asked, "can't tell", f"{best} and {other} are equal here")
    points = f"{100 * abs(difference.value):.1f} points"
    needed = takes(difference, pairs=len(c.verdicts))
    widest = Standing(c).widest or c.verdicts[open_pairs[0]]
    for_much = takes_for_much(c, widest)
    if needed is not None:
        command = seeds_command(c, needed.seeds) if needed.times_videos == 1 and c.of_runs else None
        told = f"{_amount(needed, sources)} would tell {best} from {other}, if they differ as they do here ({points})"
        much = "" if for_much is None else f"; a difference of {MUCH_WORDS} takes {_amount(for_much, sources)}"
        return Question(asked, "yes", told + much, command)
    small = f"one as small as here ({points} between {best} and {other}) is out of reach"
    if for_much is None:
        return Question(asked, "no", f"a difference of {MUCH_WORDS} is out of reach, and {small}")
    least = min(model.num_seeds for model in c.models)
    if for_much.times_videos == 1 and for_much.seeds <= least:
        return Question(asked, "no", f"one of {MUCH_WORDS} would most likely show already; {small}")
    command = seeds_command(c, for_much.seeds) if for_much.times_videos == 1 and c.of_runs else None
    return Question(
        asked, "yes", f"{_amount(for_much, sources)} would show a difference of {MUCH_WORDS}; {small}", command
    )


def _amount(needed: Takes, sources: str) -> str:
    where = "these videos" if needed.times_videos == 1 else f"{needed.times_videos:g} times as many {sources}"
    return f"roughly {needed.seeds} seeds each on {where}"


def _is_fair(c: Comparison) -> Question | None:
    if len(c.models) < 2:
        return None
    asked = "Is it a fair comparison?"
    against = []
    if c.differences:
        against.append(f"the runs differ in {listed(list(c.differences))}")
    if any(len(model.answers[0].ids_N) != len(c.common[0]) for model in c.models):
        against.append(f"not all were tested on the same videos ({plural(len(c.common[0]), 'video')} in common)")
    seeds = {model.num_seeds for model in c.models}
    if len(seeds) > 1:
        against.append(f"some have {plural(min(seeds), 'seed')}, others {max(seeds)}")
    if against:
        return Question(asked, "no", ", and ".join(against))
    if len(c.of_runs) < len(c.models):
        return Question(asked, "can't tell", "the same test videos, but how other tools trained is not known")
    meant = f", but for what is compared ({listed(list(c.varied))})" if c.varied else ""
    return Question(asked, "yes", f"one protocol{meant}, the same test videos, {plural(seeds.pop(), 'seed')} each")


def _is_honest(c: Comparison, rank: int) -> Question | None:
    """Mean probability of the answers against the share that is right, over videos and seeds."""
    model = c.models[rank]
    if not model.has_scores:
        return None
    asked = f"Are the probabilities of {c.short_name(rank)} honest?"
    sure_SN = np.stack([answers.sure_N for answers in model.answers])
    verdict = judged([change(model.correct_SN, sure_SN, model.units_N)])[0]
    if verdict.difference.num_units < 2:
        return None
    mean, right = float(sure_SN.mean()), float(model.correct_SN.mean())
    told = f"on average they are {mean:.3f}, and {right:.3f} of the answers are right"
    if verdict.low >= -HONEST and verdict.high <= HONEST:
        return Question(asked, "yes", told)
    if not verdict.apart:
        return Question(asked, "can't tell", f"{told}: too few videos")
    runs = model.trained_runs
    command = f"muybridge calibrate {quote(str(runs[0].path))}" if runs and not model.calibrations else None
    return Question(asked, "no", f"too {'high' if verdict.difference.value > 0 else 'low'}: {told}", command)


def _is_any_left_behind(c: Comparison, rank: int) -> Question | None:
    """Classes that are right less than half as often as the mean over classes, by intervals corrected for their number."""
    model = c.models[rank]
    present = np.flatnonzero(model.videos_K)
    if len(present) < 2:
        return None
    asked = f"Does {c.short_name(rank)} leave a class behind?"
    least = BEHIND * model.mean_class
    level = 1 - 0.05 / len(present)
    intervals = {
        int(k): accuracy_interval(model.correct_SN[:, of_class_N], model.units_N[of_class_N], level)
        for k in present
        for of_class_N in [model.labels_N == k]
    }
    behind = sorted((k for k, of in intervals.items() if of.high < least), key=lambda k: intervals[k].value)
    run = _first_run([model])
    manifests = model.manifests
    command = f"muybridge doctor {quote(manifests[0])}" if run is not None and manifests else None
    if behind:
        named = [f"{model.classes[k]} ({intervals[k].value:.2f})" for k in behind]
        return Question(asked, "yes", f"{_some(named)} of a mean of {model.mean_class:.2f}", command)
    unclear = sorted((k for k, of in intervals.items() if of.low < least), key=lambda k: intervals[k].low)
    if unclear:
        named = [
            f"{model.classes[k]} ({intervals[k].value:.2f} of {plural(int(model.videos_K[k]), 'video')})"
            for k in unclear
        ]
        return Question(asked, "can't tell", f"too few test videos of {_some(named)}")
    return Question(
        asked, "no", f"each is right at least half as often as the mean over classes, {model.mean_class:.2f}"
    )


def _some(names: Sequence[str]) -> str:
    """Names; of many, the first and how many others."""
    if len(names) <= MOST_CLASSES:
        return listed(names)
    return f"{', '.join(names[: MOST_CLASSES - 1])} and {len(names) - MOST_CLASSES + 1} others"
