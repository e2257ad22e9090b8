"""Racing: who may stop training with more seeds, by looks at val.

After a round of seeds every pair of models is compared on val (`muybridge.analysis.statistics`), and a model that is worse
than the leader gets no more seeds. A study that is looked at L times is wrong more often than one that is looked at once:
each look therefore has a level of 5 % / L (Bonferroni), and within a look the pairs share that level by Holm's rule. All
pairs count at every look, also those of models that were stopped. So in at most 5 % of studies of equal models is any
stopped, whatever the looks have in common. Nothing is left to decide after the last round, which is not looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from muybridge.analysis.statistics import (
    CONFIDENCE,
    SEEDS_OF_A_CLAIM,
    Sample,
    Verdict,
    judged,
    paired_difference,
    usual_spread,
)
from muybridge.storage.run import Run

ALPHA = round(1 - CONFIDENCE, 6)
"""Largest share of studies of equal models in which any may be stopped."""
LEAST_SEEDS = SEEDS_OF_A_CLAIM
"""Rounds before the first look, at least: with fewer seeds nothing is said of a model."""


@dataclass(frozen=True)
class Looked:
    """A look at val."""

    leader: str
    accuracy: Mapping[str, float]
    """Mean accuracy on val of each model."""
    worse: Mapping[str, Verdict]
    """Models that are worse than the leader, each with the verdict on its difference to it."""


def level(seeds: int, start: int) -> float:
    """Level of one look: there is one after each round from `start` on, but for the last."""
    return ALPHA / max(1, seeds - start)


def look(samples: Mapping[str, Sample], *, active: Sequence[str], at: float) -> Looked:
    """Compare all models on val at a level. The leader is the best of the `active` ones."""
    names = list(samples)
    accuracy = {name: samples[name].value for name in names}
    leader = max(active, key=lambda name: (accuracy[name], -names.index(name)))
    pairs = list(combinations(names, 2))
    usual = usual_spread(list(samples.values()))
    differences = [paired_difference(samples[a], samples[b], usual) for a, b in pairs]
    worse = {}
    for (a, b), verdict in zip(pairs, judged(differences, alpha=at), strict=True):
        other, sign = (b, -1) if a == leader else (a, 1)
        if leader in (a, b) and other in active and verdict.apart and sign * verdict.difference.value < 0:
            worse[other] = verdict if sign == 1 else verdict.mirrored()
    return Looked(leader, accuracy, worse)


def validated(models: Mapping[str, Sequence[Sequence[Run]]]) -> dict[str, Sample]:
    """Right answers on val of each model, whose seeds have a run a fold; of the videos that all of them have answered.

    A video may be in val of several folds: its answers there are one unit, as those of a group are.
    """
    answers = {name: [_answers(runs) for runs in seeds] for name, seeds in models.items()}
    every = [of_seed for of_model in answers.values() for of_seed in of_model]
    common = sorted(set(every[0]).intersection(*every[1:]))
    has_folds = len({fold for fold, _ in common}) > 1
    groups_N = np.array([every[0][key][1] or (key[1] if has_folds else "") for key in common])
    return {
        name: Sample.of(np.array([[of_seed[key][0] for key in common] for of_seed in of_model]), groups_N)
        for name, of_model in answers.items()
    }


def _answers(runs: Sequence[Run]) -> dict[tuple[int, str], tuple[bool, str]]:
    """Whether each video of val is answered right, and its group; by fold and id."""
    found = {}
    for run in runs:
        scores, fold = run.scores("val"), run.recipe().data.fold or 0
        right_N = scores.video_scores().argmax(1) == scores.labels_N
        for index in scores.labelled():
            found[fold, str(scores.ids_N[index])] = bool(right_N[index]), str(scores.groups_N[index])
    return found
