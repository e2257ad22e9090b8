"""Findings of a comparison in sentences. Every word depends on the data."""

import numpy as np

from muybridge.analysis.comparison import MOST_LETTERS, Comparison
from muybridge.analysis.statistics import MOST_SEEDS, SEEDS_OF_A_CLAIM, TIMES, Takes, takes
from muybridge.text import listed, plural

MOST_NAMED = 12
"""Most models whose letters are listed by name."""


def findings(comparison: Comparison) -> list[str]:
    """Sentences on who won and how sure that is, what else may explain it, and who sees time's direction."""
    return [
        *_who_won(comparison), *_no_better_than_a_guess(comparison), *_what_fusing_adds(comparison), *_how_fair(comparison),
        *_who_sees_time(comparison),
    ]  # fmt: skip


def _no_better_than_a_guess(c: Comparison) -> list[str]:
    """Sentences on models that are no better than a guess: none is, or by their intervals some are not."""
    baselines = c.baselines
    best = c.measure(c.models[0]).value
    if best <= baselines.guess(by_class=c.by_class) and c.by_class:
        of_guess = f"A guess has a mean class accuracy of {baselines.guess(by_class=True):.3f}"
        one = len(c.models) == 1
        return [
            f"{of_guess}: {c.models[0].name} does no better."
            if one
            else f"{of_guess}: none of these {c.noun}s does better."
        ]
    if best <= baselines.guess() and not c.by_class:
        source = "" if baselines.from_training else " (the most common class of the test)"
        guess = f"Always answering {baselines.answer}{source} would be right on {baselines.majority.top1:.3f}"
        if baselines.chance.top1 > baselines.majority.top1:
            guess = f"Guessing would be right on {baselines.chance.top1:.3f}"
        one = len(c.models) == 1
        return [
            f"{guess}: {c.models[0].name} does no better." if one else f"{guess}: none of these {c.noun}s does better."
        ]
    close = [model.name for model in c.models if not c.beats_a_guess(model)]
    if not close:
        return []
    intervals = "interval does" if len(close) == 1 else "intervals do"
    guess = f"mean class {baselines.guess(by_class=True):.3f}" if c.by_class else str(baselines)
    return [f"No better than a guess ({guess}): {listed(close)}, whose {intervals} not lie above."]


def _who_won(c: Comparison) -> list[str]:
    best = c.measure(c.models[0])
    views = c.models[0].answers[0].num_views
    first = [model for model in c.models if c.measure(model).value == best.value]
    counts = sorted({model.num_videos for model in first})
    of_views = f", {plural(views, 'view')} each" if views else ""
    tested = f"on {' or '.join(map(str, counts))} test videos{of_views}"
    why = _why_by_class(c)
    if len(c.models) == 1:
        return [*why, f"{c.models[0].name} has {c.measured} {best} {tested} ({best.method})."]
    if len(first) == 1:
        sentences = [*why, f"{first[0].name} has the highest {c.measured}: {best} {tested} ({best.method})."]
    else:
        sentences = [
            *why,
            f"{listed([model.name for model in first])} share the highest {c.measured}, {best.value:.3f} {tested}.",
        ]
    if not c.verdicts:
        return [*sentences, "Which is better cannot be said: no test video, with its label, is common to all."]
    return [*sentences, *_about_models(c), *_about_runs(c), *_what_it_takes(c)]


def _why_by_class(c: Comparison) -> list[str]:
    """Sentence that says by what models of an uneven test are compared."""
    if not c.by_class:
        return []
    videos_K = c.models[0].videos_K
    most, least = int(videos_K.argmax()), int(np.where(videos_K > 0, videos_K, videos_K.max() + 1).argmin())
    return [
        f"The test is uneven ({c.classes[most]} {videos_K[most]}, {c.classes[least]} {videos_K[least]}), so models are compared "
        "by the mean over classes, in which each class counts the same, and not by video accuracy."
    ]


def _beside_the_best(c: Comparison, *, over_seeds: bool) -> tuple[list[str], list[str], list[str]]:
    """Names of models that are worse than the best, that cannot be told from it, and that are better.

    Better is possible on the videos that all were tested on, if the best was tested on others, too. `over_seeds`: pairs
    that hold for models, or those that hold for runs alone.
    """
    places: tuple[list[str], list[str], list[str]] = ([], [], [])
    for (a, b), verdict in c.verdicts.items():
        if a == 0 and verdict.difference.over_seeds is over_seeds:
            place = 1 if not verdict.apart else 0 if verdict.difference.value > 0 else 2
            places[place].append(c.models[b].name)
    return places


def _corrected(c: Comparison) -> str:
    return f", corrected for {len(c.verdicts)} pairs" if len(c.verdicts) > 1 else ""


def _about_models(c: Comparison) -> list[str]:
    """Sentences on the pairs of which both have enough seeds."""
    first = c.models[0].name
    apart, close, better = _beside_the_best(c, over_seeds=True)
    how = f"over seeds and videos{_corrected(c)}"
    sentences = []
    if apart:
        sentences.append(f"{first} is better than {listed(apart)} ({how}).")
    if close:
        sentences.append(f"{first} cannot be told from {listed(close)} ({how}).")
    if better:
        verb = "is" if len(better) == 1 else "are"
        sentences.append(f"On the videos that all were tested on, {listed(better)} {verb} better than {first} ({how}).")
    if c.about_models and 1 < len(c.letter_sets) <= MOST_LETTERS and 2 < len(c.models) <= MOST_NAMED:
        named = [f"{letter}: {listed([c.models[place].name for place in group])}" for letter, group in _named(c)]
        sentences.append(f"Groups within which no two can be told apart: {'; '.join(named)}.")
    return sentences


def _about_runs(c: Comparison) -> list[str]:
    """Sentences on the pairs of which either has too few seeds."""
    if c.about_models:
        return []
    first, corrected, many = c.models[0].name, _corrected(c), len(c.models) > 2
    apart, close, better = _beside_the_best(c, over_seeds=False)
    ahead = (
        [f"On the videos that all were tested on, the runs of {listed(better)} are better than those of {first}."]
        if better
        else []
    )
    if c.is_mixed:
        few = [model.name for model in c.models if model.num_seeds < SEEDS_OF_A_CLAIM]
        have, of_it, its = ("has", "it", "its") if len(few) == 1 else ("have", "them", "their")
        sentences = []
        if apart:
            sentences.append(
                f"The runs of {first} are better than those of {listed(apart)} (on the same videos{corrected})."
            )
        if close:
            sentences.append(
                f"The runs of {first} cannot be told from those of {listed(close)} (on the same videos{corrected})."
            )
        sentences += ahead
        return [
            *sentences,
            f"{listed(few)} {have} fewer than {SEEDS_OF_A_CLAIM} seeds: what is said of {of_it} holds for {its} runs alone; "
            f"how far another seed would move a figure is not known{_with_seeds(c)}.",
        ]
    these = f"these {len(c.models)} runs" if many else "these two runs"
    that, verb = "that", "is"
    if any(model.num_seeds > 1 for model in c.models):
        these = f"the runs of these {len(c.models)} settings" if many else "the runs of these two settings"
        that, verb = "those", "are"
    sentences = []
    if not many:
        verdict = c.verdicts[0, 1]
        words = "differ" if verdict.apart else "cannot be told apart"
        sentences.append(f"On the same videos {these} {words}: {verdict}.")
    else:
        if apart:
            sentences.append(
                f"Of {these}, {that} of {first} {verb} better than {listed(apart)} (on the same videos{corrected})."
            )
        if close:
            sentences.append(
                f"{that.capitalize()} of {first} cannot be told from {listed(close)} (on the same videos{corrected})."
            )
        sentences += ahead
    seeds = min(model.num_seeds for model in c.models)
    alike = all(model.num_seeds == seeds for model in c.models)
    with_seeds = f"With {plural(seeds, 'seed')} each" if alike else f"With no more than {plural(seeds, 'seed')} of some"
    return [
        *sentences,
        f"{with_seeds} this compares {these}: how far another seed would move a figure is not known. A "
        f"claim about the models needs at least {SEEDS_OF_A_CLAIM} seeds of each{_with_seeds(c)}.",
    ]


def _with_seeds(c: Comparison) -> str:
    """Option that trains as many seeds as a claim needs; nothing where muybridge trained no model."""
    return f" (--seeds {SEEDS_OF_A_CLAIM})" if c.of_runs else ""


def _what_it_takes(c: Comparison) -> list[str]:
    """Sentence on telling the best from the first that is not told from it as models."""
    undecided = [b for (a, b), of in c.verdicts.items() if a == 0 and not (of.apart and of.difference.over_seeds)]
    if not undecided:
        return []
    difference = c.verdicts[0, undecided[0]].difference
    if abs(difference.value) < 1e-9:  # the same, but for rounding
        return []
    names = f"{c.models[0].name} and {c.models[undecided[0]].name}"
    sources = "sources (groups)" if difference.is_grouped else "test videos"
    if difference.num_units < 2:
        return [f"To tell {names} apart takes other {sources}: of one nothing is known of how much they vary."]
    needed, points = takes(difference, pairs=len(c.verdicts)), 100 * abs(difference.value)
    needs = (
        f"more than {MOST_SEEDS} seeds each and {TIMES[-1]:g} times as many {sources}"
        if needed is None
        else _needs(needed, sources)
    )
    return [f"To tell {names} apart as models, if they differ as they do here (by {points:.1f} points), takes {needs}."]


def _needs(needed: Takes, sources: str) -> str:
    where = "these videos" if needed.times_videos == 1 else f"{needed.times_videos:g} times as many {sources}"
    if needed.is_assumed:
        condition = f"if seeds of one model spread by {100 * needed.seed_sd:.1f} points, which is not known here"
    elif needed.seed_sd < 5e-4:
        condition = (
            "if seeds of one model are equally accurate, as they seem to be here, but each errs on videos of its own"
        )
    else:
        condition = f"if seeds of one model spread by {100 * needed.seed_sd:.1f} points, as they seem to do here"
    return f"roughly {needed.seeds} seeds each on {where} ({condition})"


def _what_fusing_adds(c: Comparison) -> list[str]:
    """A sentence on each row of fused scores: it against the better of its parts, by the paired test."""
    sentences = []
    for rank, fused in enumerate(c.models):
        parts, missing = c.parts_of(rank), c.missing_parts(rank)
        if missing:
            are = "is" if len(missing) == 1 else "are"
            sentences.append(
                f"What fusing adds in {fused.name} is not told: of its parts {listed(missing)} {are} not compared here."
            )
            continue
        verdict = c.minus(rank, parts[0]) if parts else None
        if verdict is None:
            continue
        best, others = c.models[parts[0]].name, [c.models[part].name for part in parts[1:]]
        what = f"its {'best' if len(others) > 1 else 'better'} part, {best}" if others else f"single runs of {best}"
        added = listed(others) if others else "averaging runs"
        these = "" if verdict.difference.over_seeds else "In these runs, "
        told = f"{verdict}, paired{_corrected(c)}"
        adds = "adds" if len(others) < 2 else "add"
        if not verdict.apart:
            sentences.append(
                f"{these}{fused.name} cannot be told from {what} ({told}): that {added} {adds} anything is not shown."
            )
        elif verdict.difference.value > 0:
            sentences.append(f"{these}{fused.name} is better than {what} ({told}): {added} {adds} to it.")
        else:
            sentences.append(f"{these}{fused.name} is worse than {what} ({told}): fusing costs accuracy.")
    return sentences


def _how_fair(c: Comparison) -> list[str]:
    sentences = []
    seeds = {model.num_seeds for model in c.models}
    if len(seeds) > 1:
        counts = listed([f"{model.name} {model.num_seeds}" for model in c.models])
        sentences.append(f"The numbers of seeds differ ({counts}): means over more seeds are surer.")
    if c.differences:
        fields = listed(list(c.differences))
        sentences.append(f"The runs differ in more than the model ({fields}): what is seen here may come from that.")
    return sentences


def _named(c: Comparison) -> list[tuple[str, tuple[int, ...]]]:
    """Sets of models with their letters."""
    return [(c.letter(number), group) for number, group in enumerate(c.letter_sets)]


def _who_sees_time(c: Comparison) -> list[str]:
    if not c.pairs:
        return []
    blind: list[str] = []
    seeing: list[str] = []
    worse: list[str] = []
    reversing: list[str] = []
    for model in c.models:
        accuracy = model.within_pairs(c.pairs, len(c.models))
        where = (
            seeing
            if accuracy.low > 0.5
            else reversing
            if accuracy.high < 0.25
            else worse
            if accuracy.high < 0.5
            else blind
        )
        where.append(f"{model.name} ({accuracy.value:.2f})")
    sentences = []
    these = "" if c.about_models else "In these runs, "
    if blind:
        intervals = "interval does" if len(blind) == 1 else "intervals do"
        asked = "In these runs, asked" if these else "Asked"
        sentences.append(
            f"{asked} only which of two time-reversed classes a video shows, {listed(blind)} cannot be told from a coin: "
            f"the {intervals} not lie above 0.50."
        )
    if worse:
        verb, intervals = ("is", "interval lies") if len(worse) == 1 else ("are", "intervals lie")
        sentences.append(
            f"{these}{listed(worse)} {verb} right less often than a coin about the direction of time: the {intervals} below 0.50."
        )
    if seeing:
        verb, intervals = ("tells", "interval lies") if len(seeing) == 1 else ("tell", "intervals lie")
        sentences.append(f"{these}{listed(seeing)} {verb} the direction of time: the {intervals} above 0.50.")
    if reversing:
        verb, intervals = ("answers", "interval lies") if len(reversing) == 1 else ("answer", "intervals lie")
        sentences.append(
            f"{these}{listed(reversing)} {verb} with the opposite direction: the {intervals} below 0.25. Labels or clips are "
            "probably reversed between training and test."
        )
    outside = [model.outside_pairs(c.pairs) for model in c.models]
    values = [f"{interval.value:.2f}" for interval in outside if interval is not None]
    if values:
        low, high = min(values), max(values)
        sentences.append(f"Accuracy on the other classes: {low if low == high else f'{low} to {high}'}.")
    return sentences
