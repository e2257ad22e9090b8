"""What a set of finished runs says, as numbers: one row a model, over its seeds and folds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from muybridge.errors import UserError
from muybridge.files import read_json
from muybridge.recipe import Recipe, diff
from muybridge.results.statistics import Interval, accuracy_interval
from muybridge.runs import Run
from muybridge.scores import Scores, concatenate

COMPARED = {"model.name", "seed", "data.fold", "model.source_sha256"}
"""Fields in which the runs of a comparison may differ without a word."""


@dataclass(frozen=True)
class ModelResult:
    """A model's runs, pooled over folds, one `Scores` a seed; all seeds scored the same videos."""

    name: str
    family: str
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]
    cost: dict[str, Any]

    @cached_property
    def correct_SN(self) -> np.ndarray:
        return np.stack([scores.correct() for scores in self.scores])

    @cached_property
    def accuracy(self) -> Interval:
        """Video accuracy."""
        return accuracy_interval(self.correct_SN, self.scores[0].groups_N)

    @property
    def clip_accuracy(self) -> float:
        return float(np.mean([scores.clip_accuracy() for scores in self.scores]))

    @property
    def mean_class(self) -> float:
        return float(np.mean([scores.mean_class_accuracy() for scores in self.scores]))

    @property
    def confusion(self) -> np.ndarray:
        """(K,K) counts, summed over seeds."""
        return np.sum([scores.confusion() for scores in self.scores], axis=0)

    @property
    def train_clips_per_s(self) -> float:
        """Median over epochs and runs, on the machine that trained."""
        rates = [line["train_clips_per_s"] for run in self.runs for line in run.timing()]
        return float(median(rates)) if rates else float("nan")

    def within_pairs(self, pairs: Sequence[Sequence[str]]) -> Interval:
        """Two-class accuracy over the videos of all pairs."""
        parts_S = [[scores.within(a, b) for a, b in pairs] for scores in self.scores]
        correct_SN = np.stack([np.concatenate([right for _, right in parts]) for parts in parts_S])
        videos_N = np.concatenate([chosen for chosen, _ in parts_S[0]])
        return accuracy_interval(correct_SN, self.scores[0].groups_N[videos_N])

    def outside_pairs(self, pairs: Sequence[Sequence[str]]) -> Interval | None:
        """Accuracy on the videos of the classes that are in no pair; none where there are none."""
        scores = self.scores[0]
        paired = [scores.classes.index(name) for pair in pairs for name in pair]
        rest_N = ~np.isin(scores.labels_N, paired)
        if not rest_N.any():
            return None
        return accuracy_interval(self.correct_SN[:, rest_N], scores.groups_N[rest_N])

    def as_json(self, pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
        first = self.scores[0]
        value: dict[str, Any] = {
            "model": self.name, "family": self.family, "runs": [str(run.path) for run in self.runs],
            "seeds": len(self.scores), "videos": len(first.ids_N), "views": first.num_views,
            "video_top1": self.accuracy.value, "low": self.accuracy.low, "high": self.accuracy.high,
            "interval": self.accuracy.method, "clip_top1": self.clip_accuracy, "mean_class": self.mean_class,
            "params": self.cost["params"], "conv_macs": self.cost["conv_macs"], "macs": self.cost["macs"],
            "train_clips_per_s": self.train_clips_per_s,
        }  # fmt: skip
        if pairs:
            value["pairs"] = {f"{a}/{b}": self.within_pairs([(a, b)]).value for a, b in pairs}
            value["within_pairs"] = self.within_pairs(pairs).value
            outside = self.outside_pairs(pairs)
            value["outside_pairs"] = None if outside is None else outside.value
        return value


@dataclass(frozen=True)
class Comparison:
    """Models side by side, the best first."""

    models: tuple[ModelResult, ...]
    classes: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    """Pairs of classes that nothing but the direction of time tells apart, as the manifest says."""
    protocol: Recipe
    """What all runs share."""
    differences: dict[str, list[Any]]
    """Fields, beyond model, seed and fold, in which the runs differ, with every value: an unfair comparison's names."""
    notes: tuple[str, ...]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows, as printed and as in the report."""
        header = ["model", "video top-1 [95 %]", "clip top-1", "mean class"]
        if self.pairs:
            header += ["within pairs [95 %]", "other classes"]
        header += ["parameters", "conv MACs", "train clips/s"]
        rows = []
        for model in self.models:
            row = [model.name, str(model.accuracy), f"{model.clip_accuracy:.3f}", f"{model.mean_class:.3f}"]
            if self.pairs:
                outside = model.outside_pairs(self.pairs)
                row += [str(model.within_pairs(self.pairs)), "–" if outside is None else f"{outside.value:.3f}"]
            cost = model.cost
            rows.append([*row, millions(cost["params"]), giga(cost["conv_macs"]), f"{model.train_clips_per_s:.0f}"])
        return header, rows

    def findings(self) -> list[str]:
        """What the figures say, in sentences; every word depends on the data."""
        return [*self._who_won(), *self._who_sees_time()]

    def _who_won(self) -> list[str]:
        best = self.models[0]
        count, seeds = len(best.scores[0].ids_N), len(best.scores)
        views = best.scores[0].num_views
        said = [
            f"{best.name} has the highest video accuracy: {best.accuracy} on {count} test videos, "
            f"{views} view{'s' if views > 1 else ''} each ({best.accuracy.method})."
        ]
        if len(self.models) == 1:
            return said
        close = [model.name for model in self.models[1:] if model.accuracy.high >= best.accuracy.low]
        apart = [model.name for model in self.models[1:] if model.accuracy.high < best.accuracy.low]
        if close:
            said.append(f"Its interval overlaps with that of {listed(close)}: these figures do not tell them apart.")
        if apart:
            said.append(f"It lies clearly above {listed(apart)}.")
        if seeds < 3:
            said.append(
                f"With {seeds} seed{'s' if seeds > 1 else ''} a model this compares these runs; a claim about the models needs at least 3."
            )
        return said

    def _who_sees_time(self) -> list[str]:
        if not self.pairs:
            return []
        found = {model.name: model.within_pairs(self.pairs) for model in self.models}
        blind = [f"{name} ({i.value:.2f})" for name, i in found.items() if i.low <= 0.5]
        seeing = [f"{name} ({i.value:.2f})" for name, i in found.items() if i.low > 0.5]
        said = []
        if blind:
            said.append(
                f"Asked only which of two time-reversed classes a video shows, {listed(blind)} "
                f"{'is' if len(blind) == 1 else 'are'} no better than a coin: chance, 0.50, lies in the interval."
            )
        if seeing:
            verb = "tells" if len(seeing) == 1 else "tell"
            said.append(f"{listed(seeing)} {verb} the direction of time (the intervals lie above 0.50).")
        outside = [model.outside_pairs(self.pairs) for model in self.models]
        known = [interval.value for interval in outside if interval is not None]
        if known:
            low, high = min(known), max(known)
            span = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
            said.append(f"On the other classes the models reach {span}.")
        return said

    def as_json(self) -> dict[str, Any]:
        return {
            "models": [model.as_json(self.pairs) for model in self.models],
            "findings": self.findings(),
            "differences": self.differences,
            "notes": list(self.notes),
        }


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], Path | None]:
    """Runs named by their folders, or by a study's folder; and that folder. Raises UserError."""
    paths = list(paths)
    if len(paths) == 1 and (paths[0] / "study.json").exists():
        names = read_json(paths[0] / "study.json")["runs"]
        return [Run(paths[0] / "runs" / name) for name in names], paths[0]
    return [Run.open(path) for path in paths], None


def compared(runs: Sequence[Run]) -> Comparison:
    """Raises UserError where no run is finished, or where runs were tested on different classes."""
    finished = [run for run in runs if run.is_finished and (run.path / "scores" / "test.npz").exists()]
    notes = []
    left_out = [run.name for run in runs if run not in finished]
    if left_out:
        notes.append(f"Not finished, and left out: {listed(left_out)}.")
    if not finished:
        raise UserError("None of these runs is finished with test scores: " + ", ".join(str(run.path) for run in runs))
    datasets = {run: run.dataset() for run in finished}
    first = datasets[finished[0]]
    for run, dataset in datasets.items():
        if dataset["classes"] != first["classes"]:
            raise UserError(f"{run.path} and {finished[0].path} have different classes and cannot be compared")
    recipes = {run: run.recipe() for run in finished}
    by_name: dict[str, list[Run]] = {}
    for run in finished:
        by_name.setdefault(recipes[run].model.name, []).append(run)
    models = [_model(name, found, recipes, notes) for name, found in by_name.items()]
    models.sort(key=lambda model: -model.accuracy.value)
    videos = {frozenset(model.scores[0].ids_N.tolist()) for model in models}
    if len(videos) > 1:
        notes.append("The models were not tested on the same videos: compare their figures with care.")
    return Comparison(
        models=tuple(models),
        classes=tuple(first["classes"]),
        pairs=tuple((a, b) for a, b in first["reversed_pairs"]),
        protocol=recipes[finished[0]],
        differences=_differences(list(recipes.values())),
        notes=tuple(notes),
    )


def _model(name: str, runs: list[Run], recipes: dict[Run, Recipe], notes: list[str]) -> ModelResult:
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(recipes[run].seed, []).append(run)
    pooled = []
    for seed, of_seed in sorted(by_seed.items()):
        try:
            pooled.append(_sorted(concatenate([run.scores("test") for run in of_seed])))
        except ValueError as error:
            names = ", ".join(run.name for run in of_seed)
            raise UserError(f"{names} cannot be pooled as folds of {name}, seed {seed}: {error}") from None
    common = set(pooled[0].ids_N.tolist()).intersection(*(set(p.ids_N.tolist()) for p in pooled))
    if any(len(p.ids_N) != len(common) for p in pooled):
        complete = [p for p in pooled if len(p.ids_N) == max(len(q.ids_N) for q in pooled)]
        notes.append(f"{name}: {len(pooled) - len(complete)} of {len(pooled)} seeds lack folds and are left out.")
        pooled = complete
    family = name.split("_")[0]
    return ModelResult(name, family, tuple(runs), tuple(pooled), runs[0].cost())


def _sorted(scores: Scores) -> Scores:
    """Videos by id, so that seeds line up."""
    order = np.argsort(scores.ids_N, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Scores(
        scores.classes, scores.ids_N[order], scores.labels_N[order], scores.groups_N[order], rank[scores.video_V],
        scores.clip_start_V, scores.crop_V, scores.logits_VK, scores.average,
    )  # fmt: skip


def _differences(recipes: list[Recipe]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for recipe in recipes[1:]:
        for name in diff(recipes[0], recipe):
            if name not in COMPARED:
                found.setdefault(name, [])
    for name in found:
        for recipe in recipes:
            value: Any = recipe
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else getattr(value, part)
            if value not in found[name]:
                found[name].append(value)
    return found


def listed(names: Sequence[str]) -> str:
    """ "a, b and c" """
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def millions(count: float) -> str:
    return f"{count / 1e6:.2f} M"


def giga(count: float) -> str:
    return f"{count / 1e9:.2f} G" if count >= 1e8 else f"{count / 1e6:.1f} M"
