"""A plan: the runs of a study as data. Functions make plans (`muybridge.studies.shipped`), `muybridge.studies.run` runs them.

A run has a recipe, **axes** (what tells it from the plan's other runs: model, num_frames, seed, …) and, where it starts
from another run of the plan, that one's name. A plan also says which fields of the recipe each axis sets on purpose: a
report warns of every other field in which runs differ.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from muybridge.analysis.results import method_and_backbone
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError, nearest
from muybridge.recipe import Recipe, flat, replace
from muybridge.recipe.fields import MODEL, with_network
from muybridge.recipe.schedule import Budget, resized
from muybridge.storage.run import data_name
from muybridge.storage.study import STREAM

Value = str | int | float | bool

START = ("model.pretrained", "model.pretrained_sha256", "model.strict")
"""The fields that say what a run starts from."""

VARIES: Mapping[str, tuple[str, ...]] = {
    "data": ("data.manifest", "data.sha256"),
    STREAM: ("clip.modality", "data.manifest", "data.sha256"),
    "model": MODEL,
    "method": MODEL,
    "backbone": MODEL,
    "temporal_pooling": ("model.temporal_pooling",),
    "num_frames": ("clip.num_frames",),
    "sampling": ("clip.sampling",),
    "pretrained": START,
    "start": START,
    "seed": ("seed",),
    "fold": ("data.fold",),
    "train_share": ("data.train_share",),
}
"""The recipe fields that each usual axis sets."""


@dataclass(frozen=True)
class Planned:
    """One run of a plan."""

    recipe: Recipe
    axes: Mapping[str, Value]
    starts_from: str | None = None
    """Name of the run of the same plan whose last weights, whole, this one begins with."""
    budget: Budget | None = None
    """Length of its training; None before the plan has met its data."""
    seconds: float | None = None
    """Estimate of its computing time, by a measured step; None: not estimated."""

    def length(self) -> dict[str, int | float | str | None]:
        """Length of its training: steps, epochs, hours at most, and the estimate in seconds, as far as they are known."""
        known = self.budget
        return {
            "steps": None if known is None else known.steps,
            "epochs": self.recipe.optim.epochs if known is None else known.epochs,
            "steps_per_epoch": None if known is None else known.steps_per_epoch,
            "length_by": None if known is None else known.reason,
            "max_hours": self.recipe.stop.max_hours, "estimated_seconds": self.seconds,
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Named runs. Raises UserError where one starts from none of them, or from itself on the way."""

    title: str
    runs: Mapping[str, Planned]
    varies: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(VARIES))
    """The recipe fields that each axis sets on purpose."""
    needs: tuple[str, ...] = ()
    """Fields that no run's recipe may leave open, once all changes are made."""
    has_streams: bool = False
    """Whether runs that differ in the axis `stream` alone are fused when they are finished."""
    searches: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Cost of the search of each setting, once the plan has met its data; empty without a search."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError(f"{self.title}: no run is planned. Give at least one run")
        for name, planned in self.runs.items():
            if planned.starts_from is not None and planned.starts_from not in self.runs:
                raise UserError(
                    f"run {name}: it starts from '{planned.starts_from}', which the plan does not have. "
                    f"{nearest(planned.starts_from, self.runs)}"
                )
        for name in self.runs:
            self.chain(name)

    def chain(self, name: str) -> list[str]:
        """The runs that a run builds on, the first one first, and itself."""
        names = [name]
        while (base := self.runs[names[0]].starts_from) is not None:
            if base in names:
                raise UserError(
                    f"run {base}: it starts from itself, by way of {', '.join(names)}. Change what it starts from"
                )
            names.insert(0, base)
        return names

    def order(self) -> list[str]:
        """Names as the plan has them, but each after the one that it starts from."""
        return list(dict.fromkeys(link for name in self.runs for link in self.chain(name)))

    def fused(self) -> list[list[str]]:
        """Names of the runs that are fused with each other, once they are finished."""
        if not self.has_streams:
            return []
        groups: dict[Any, list[str]] = {}
        for name, planned in self.runs.items():
            shared = tuple(sorted((axis, value) for axis, value in planned.axes.items() if axis != STREAM))
            groups.setdefault(shared, []).append(name)
        return [names for names in groups.values() if len(names) > 1]

    def as_json(self) -> dict[str, Any]:
        """The plan as `muybridge compare --dry-run --json` prints it."""
        return {
            "title": self.title,
            "runs": [
                {
                    "name": name, "axes": dict(self.runs[name].axes), "starts_from": self.runs[name].starts_from,
                    **self.runs[name].length(),
                }
                for name in self.order()
            ],
            "fused": self.fused(),
            **({"searches": {name: dict(search) for name, search in self.searches.items()}} if self.searches else {}),
        }  # fmt: skip

    def manifests(self) -> list[str]:
        """Paths of the manifests, each once."""
        return list(dict.fromkeys(planned.recipe.data.manifest for planned in self.runs.values()))

    def settings(self) -> dict[str, list[str]]:
        """Runs that differ in nothing but the seed, by their name without it."""
        settings: dict[str, list[str]] = {}
        for name in self.order():
            settings.setdefault(setting_name(name, self.runs[name].axes.get("seed")), []).append(name)
        return settings

    def check_needs(self) -> None:
        """Raises UserError."""
        for name, planned in self.runs.items():
            for needed in self.needs:
                if flat(planned.recipe).get(needed) is None:
                    raise UserError(
                        f"{self.title}: the recipe of {name} leaves {needed} open. Give it: --set {needed}=…"
                    )

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same runs, under other names where one is given."""
        return dataclasses.replace(self, runs={
            names.get(name, name): dataclasses.replace(
                planned, starts_from=None if planned.starts_from is None else names.get(planned.starts_from, planned.starts_from)
            )
            for name, planned in self.runs.items()
        })  # fmt: skip

    def with_lengths(self, lengths: Mapping[str, tuple[Budget, float | None]]) -> Self:
        """The same runs with the lengths of their trainings, and estimates of their computing times in seconds."""
        return dataclasses.replace(self, runs={
            name: dataclasses.replace(planned, budget=lengths[name][0], seconds=lengths[name][1])
            for name, planned in self.runs.items()
        })  # fmt: skip

    def with_recipes(self, recipes: Mapping[str, Recipe]) -> Self:
        """The same runs, some by other recipes."""
        return dataclasses.replace(self, runs={
            name: dataclasses.replace(planned, recipe=recipes.get(name, planned.recipe))
            for name, planned in self.runs.items()
        })  # fmt: skip

    def changed(
        self,
        changes: Mapping[str, Any],
        *,
        shorten: float | None = None,
        epochs: int | None = None,
        steps: int | None = None,
    ) -> Self:
        """Every run with its schedule of another length (see `resized`), and then dotted fields changed.

        Raises UserError for a field that an axis sets.
        """
        for name in changes:
            axis = name.rpartition(".")[2]
            if self.has_streams and name in self.varies[STREAM]:
                raise UserError(f"{name}: the streams of this study say it. Leave it out")
            if name in self.varies.get(axis, ()) and any(axis in planned.axes for planned in self.runs.values()):
                raise UserError(f"{name}: this study varies it. Choose among its runs: --only {axis}=…")
        return self.with_recipes({
            name: replace(resized(planned.recipe, shorten=shorten, epochs=epochs, steps=steps), changes)
            for name, planned in self.runs.items()
        })  # fmt: skip

    def budgeted(self, shares: Sequence[float]) -> Self:
        """Every run on every share of its training videos. A run starts from the one of the same share.

        Raises UserError for numbers that are not shares, and for too few of them.
        """
        for share in shares:
            if not 0 < share <= 1:
                raise UserError(f"--label-budget: {share:g} is not a share. Give numbers above 0 and at most 1")
        if len(set(shares)) < max(2, len(shares)):
            raise UserError("--label-budget: a curve takes two or more different shares. For example: 0.25,0.5,1")
        runs = {}
        for name, planned in self.runs.items():
            for share in shares:
                base = None if planned.starts_from is None else run_name(planned.starts_from, f"share{share:g}")
                recipe = replace(planned.recipe, {"data.train_share": share})
                axes = {**planned.axes, "train_share": share}
                runs[run_name(name, f"share{share:g}")] = Planned(recipe, axes, base)
        varies = {**self.varies, "train_share": VARIES["train_share"]}
        return dataclasses.replace(self, runs=runs, varies=varies)

    def repeated(self, *, seeds: Sequence[int], folds: Mapping[str, Sequence[int | None]]) -> Self:
        """Every run with every seed on every fold of its manifest (`folds`, by manifest).

        A run starts from the one of the same seed and fold; where that has another manifest, from its first fold.
        """
        if len(set(seeds)) != len(seeds):
            raise UserError("--seeds: a seed is given twice. Give different seeds")
        runs = {}
        for name, planned in self.runs.items():
            manifest = planned.recipe.data.manifest
            for seed in seeds:
                for fold in folds[manifest]:
                    base = planned.starts_from
                    if base is not None:
                        theirs = self.runs[base].recipe.data.manifest
                        base = repeat_name(base, seed, fold if theirs == manifest else folds[theirs][0])
                    axes = {**planned.axes, "seed": seed, **({} if fold is None else {"fold": fold})}
                    recipe = replace(planned.recipe, {"seed": seed, "data.fold": fold})
                    runs[repeat_name(name, seed, fold)] = Planned(recipe, axes, base)
        return dataclasses.replace(self, runs=runs)

    def only(self, chosen: Mapping[str, Sequence[Value]]) -> tuple[Self, list[str]]:
        """The runs with these values of these axes, and those that they start from; the names of the latter, too.

        Raises UserError for an axis or a value that no run has.
        """
        values: dict[str, set[str]] = {}
        for planned in self.runs.values():
            for axis, value in planned.axes.items():
                values.setdefault(axis, set()).add(shown(value))
        wanted_by_axis = {axis: [shown(value) for value in wanted] for axis, wanted in chosen.items()}
        for axis, wanted in wanted_by_axis.items():
            if axis not in values:
                raise UserError(f"--only: this study has no axis '{axis}'. {nearest(axis, values)}")
            for value in wanted:
                if value not in values[axis]:
                    raise UserError(f"--only: no run of this study has {axis}={value}. {nearest(value, values[axis])}")
        names = [
            name
            for name, planned in self.runs.items()
            if all(
                axis in planned.axes and shown(planned.axes[axis]) in wanted for axis, wanted in wanted_by_axis.items()
            )
        ]
        if not names:
            asked = " and ".join(f"{axis}={','.join(wanted)}" for axis, wanted in wanted_by_axis.items())
            raise UserError(f"--only: no run of this study has {asked} at once. Choose fewer of them")
        with_bases = {link for name in names for link in self.chain(name)}
        runs = {name: planned for name, planned in self.runs.items() if name in with_bases}
        return dataclasses.replace(self, runs=runs), [name for name in runs if name not in names]


def shown(value: Value) -> str:
    """A value of an axis as people write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_only(filters: Sequence[str]) -> dict[str, list[str]]:
    """`["method=tsn,tam", …]` as `{"method": ["tsn", "tam"], …}`. Raises UserError."""
    chosen: dict[str, list[str]] = {}
    for text in filters:
        axis, equals, values = text.partition("=")
        wanted = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not wanted:
            raise UserError(f"--only: '{text}' is not AXIS=VALUE,…. For example: --only num_frames=8,16")
        chosen.setdefault(axis.strip(), []).extend(
            value.lower() if value.lower() in ("true", "false") else value for value in wanted
        )
    return chosen


def data_names(manifests: Sequence[str]) -> dict[str, str]:
    """Names by manifest. Raises UserError where two share a name, or where no manifest is given."""
    if not manifests:
        raise UserError("--data: a study needs a data set. Name one: --data MANIFEST")
    names = {manifest: data_name(manifest) for manifest in manifests}
    for manifest in manifests:
        twins = [other for other in manifests if names[other] == names[manifest]]
        if len(twins) > 1:
            raise UserError(
                f"--data: {' and '.join(twins)} are both called '{names[manifest]}'. Give each a name of its own"
            )
    return names


def run_name(*parts: str) -> str:
    """A folder's name of these parts, the empty ones left out."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.+-]+", ".", part) for part in parts if part)


def repeat_name(name: str, seed: int, fold: int | None) -> str:
    """A run's name with its seed and fold."""
    return f"{name}-seed{seed}" + ("" if fold is None else f"-fold{fold}")


def setting_name(name: str, seed: Value | None) -> str:
    """A run's name without its seed."""
    return name.replace(f"-seed{seed}", "")


def of_models(
    models: Sequence[str], *, recipe: Recipe | Sequence[Recipe], data: Sequence[str], title: str | None = None
) -> Plan:
    """Every model on every set by one recipe, or by its own (one recipe for each model)."""
    if not models:
        raise UserError("models: compare has none. Name at least one model")
    if len(set(models)) != len(models):
        raise UserError("models: one is given twice. Give different models")
    names = data_names(data)
    recipes = [recipe] * len(models) if isinstance(recipe, Recipe) else recipe
    return Plan(title or f"Models on {', '.join(names.values())}", {
        run_name(name if len(data) > 1 else "", model): Planned(
            replace(with_network(own, model), {"data.manifest": manifest}), {"data": name, "model": model}
        )
        for manifest, name in names.items() for model, own in zip(models, recipes, strict=True)
    })  # fmt: skip


def repeated(plan: Plan, *, seeds: Sequence[int], folds: Sequence[int] | None = None) -> Plan:
    """A plan with every seed on every fold; none takes every fold that a manifest has. Raises UserError."""
    by_manifest: dict[str, Sequence[int | None]] = {}
    for path in plan.manifests():
        by_manifest[path] = folds or Manifest.load(path).folds or (None,)
    return plan.repeated(seeds=seeds, folds=by_manifest)


def model_axes(model: str) -> dict[str, Value]:
    """Method and backbone of a name that has both."""
    method, backbone = method_and_backbone(model)
    return {"method": method, "backbone": backbone} if backbone else {"method": method}


def starting_from(pretrained: str) -> dict[str, Any]:
    """Fields of the recipe for what `--pretrained` names."""
    return {"model.pretrained": None if pretrained == "none" else pretrained, "model.pretrained_sha256": None}
