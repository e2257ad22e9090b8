"""What a set of finished runs says, as numbers: rows (`rows.py`), what can be told apart, and how fair it all is.

Models are held against each other on the same videos, over seeds, corrected for the number of pairs (`statistics.py`);
with fewer than three seeds each, runs are. Where a study says by which axes its runs differ, what the axes set on purpose is
no unfairness.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from muybridge.analysis.rows import ModelResult, Pair
from muybridge.analysis.statistics import (
    SEEDS_OF_A_CLAIM,
    Sample,
    Verdict,
    groups,
    judged,
    paired_difference,
    usual_spread,
)
from muybridge.recipe import Recipe
from muybridge.storage.run import data_name
from muybridge.text import giga, millions

MOST_LETTERS = 8
"""Groups that a reader can keep apart."""

COMPARED = {"model.name", "seed", "data.fold", "model.source_sha256", "model.weights_sha256"}
"""Fields in which the runs of a comparison may differ without a word."""


@dataclass(frozen=True)
class Comparison:
    """Models side by side on one data set, the best first."""

    models: tuple[ModelResult, ...]
    classes: tuple[str, ...]
    pairs: tuple[Pair, ...]
    """Pairs of classes that nothing but the direction of time tells apart, as the manifest says; only those with test
    videos."""
    protocol: Recipe
    """The first run's recipe: what all share but for `differences`, `varied`, model, seed and fold."""
    differences: dict[str, list[Any]]
    """Fields, beyond model, seed and fold, in which the runs differ, with every value: an unfair comparison's names."""
    varied: dict[str, list[Any]]
    """Fields in which they differ as the study means them to."""
    notes: tuple[str, ...]

    @property
    def data(self) -> str:
        """The data set's name: the manifest's, or its folder's where it is called manifest.csv."""
        return data_name(self.protocol.data.manifest)

    @cached_property
    def about_models(self) -> bool:
        """Do these figures speak of models? Else of runs alone: a claim about models takes at least three seeds each."""
        return all(model.num_seeds >= SEEDS_OF_A_CLAIM for model in self.models)

    @property
    def is_mixed(self) -> bool:
        """Have some models seeds enough to be told apart as models, and others not?"""
        return not self.about_models and any(verdict.difference.over_seeds for verdict in self.verdicts.values())

    @cached_property
    def common(self) -> tuple[np.ndarray, ...]:
        """Of each model, the indices of those of its test videos that all models were tested on, with one and the same
        label, in one order."""
        told = [
            list(zip(model.answers[0].ids_N.tolist(), model.labels_N.tolist(), strict=True)) for model in self.models
        ]
        shared = set(told[0]).intersection(*told[1:])
        return tuple(np.flatnonzero([video in shared for video in of]) for of in told)

    @property
    def noun(self) -> str:
        """What a row is: a model, whose figures hold for other seeds, too; a run; or a setting, of several runs."""
        alone = all(model.num_seeds == 1 for model in self.models)
        return "model" if self.about_models else "run" if alone else "setting"

    @cached_property
    def common_groups(self) -> tuple[np.ndarray, bool]:
        """(N,) sources of the common videos, and whether all models have these; else the one's whose sources are fewest."""
        found = [model.groups_N[videos] for model, videos in zip(self.models, self.common, strict=True)]
        fewest = min(found, key=lambda of: int((of == "").sum()) + len(set(of.tolist()) - {""}))
        return fewest, all(np.array_equal(of, fewest) for of in found)

    @cached_property
    def verdicts(self) -> dict[tuple[int, int], Verdict]:
        """Of each pair of models, by their places in the ranking, on the videos that all were tested on; empty where there
        are none."""
        if not len(self.common[0]):
            return {}
        samples = [
            Sample.of(model.correct_SN[:, videos], self.common_groups[0])
            for model, videos in zip(self.models, self.common, strict=True)
        ]
        pairs = list(combinations(range(len(samples)), 2))
        usual = usual_spread(samples)
        found = judged([paired_difference(samples[a], samples[b], usual) for a, b in pairs])
        return dict(zip(pairs, found, strict=True))

    @cached_property
    def groups(self) -> list[tuple[int, ...]]:
        """The largest sets of models of which no two can be told apart, by their places in the ranking."""
        if not self.verdicts:
            return []
        return groups(len(self.models), [pair for pair, verdict in self.verdicts.items() if verdict.apart])

    def letters(self, place: int) -> str:
        """Which of the groups a model is in: a, b, …; models that share a letter cannot be told apart. Where groups are many:
        whether it can be told from the best."""
        if not self.groups or len(self.groups) > MOST_LETTERS:
            return "best" if place == 0 or not self.verdicts[0, place].apart else ""
        return " ".join(self.letter(number) for number, group in enumerate(self.groups) if place in group)

    @staticmethod
    def letter(number: int) -> str:
        """a, b, …, z, aa, ab, …"""
        more, last = divmod(number, 26)
        return (Comparison.letter(more - 1) if more else "") + chr(97 + last)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows, as printed and as in the report."""
        header = ["model", "video top-1 [95 %]"]
        if self.verdicts:
            header.append("group")
        header += ["clip top-1", "mean class"]
        if self.pairs:
            header += ["within pairs [95 %]", "other classes"]
        header += ["parameters", "conv MACs", "train clips/s", "seeds"]
        rows = []
        for place, model in enumerate(self.models):
            row = [model.name, str(model.accuracy)]
            if self.verdicts:
                row.append(self.letters(place))
            row += [f"{model.clip_accuracy:.3f}", f"{model.mean_class:.3f}"]
            if self.pairs:
                outside = model.outside_pairs(self.pairs)
                row += [str(model.within_pairs(self.pairs)), "–" if outside is None else f"{outside.value:.3f}"]
            cost, rate = model.cost, model.train_clips_per_s
            row += [millions(cost["params"]), giga(cost["conv_macs"])]
            rows.append([*row, "–" if rate is None else f"{rate:.0f}", str(model.num_seeds)])
        return header, rows

    def as_json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "about": "models" if self.about_models else "runs",
            "models": [model.as_json(self.pairs) for model in self.models],
            "verdicts": [
                {
                    "a": self.models[a].name, "b": self.models[b].name, "difference": verdict.difference.value,
                    "low": verdict.low, "high": verdict.high, "p": verdict.p, "apart": verdict.apart,
                    "about": "models" if verdict.difference.over_seeds else "runs",
                }
                for (a, b), verdict in self.verdicts.items()
            ],
            "classes": list(self.classes),
            "groups": [[self.models[place].name for place in group] for group in self.groups],
            "differences": self.differences,
            "varied": self.varied,
            "notes": list(self.notes),
        }  # fmt: skip
