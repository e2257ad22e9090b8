"""The space of a search: fields of the recipe with their ranges or choices, and functions of the user's.

optim.lr=1e-4..1e-1:log      a range, log-uniform
model.dropout=0..0.8         a range; of whole numbers where the field takes whole numbers
model.dropout=0..0.8:5       five values, evenly spaced
clip.num_frames=8,16         choices
mine.py:space                a function of an Optuna trial that returns fields and values (conditions, dependent ranges)

Functions run as the user's own code: they are named by the user, never by a file.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from muybridge.analysis.searching import MOST_TRIALS
from muybridge.errors import UserError
from muybridge.recipe import Recipe, flat, parse_overrides
from muybridge.recipe.sections import Section
from muybridge.runtime.files import sha256_file
from muybridge.user_code import function_in_file

TAKEN = {"model.name": "--models", "seed": "--seeds", "data.fold": "--folds", "data.manifest": "--data"}
"""Fields that a study takes by itself, and its options for them."""
FIXED = (
    "data.sha256",
    "model.source_sha256",
    "model.weights_sha256",
    "model.pretrained_sha256",
    "evaluation.score_test",
)
"""Fields that are filled in, or that a search sets itself."""
MOST_VALUES = 1000
"""Most values of a field, each of which is tried on every recipe before a search."""
MOST_WHOLE = 2**53
"""Largest whole number that a range may end with: up to it they are exact."""


@dataclass(frozen=True)
class Choices:
    """A field that takes one of some values."""

    name: str
    values: tuple[Any, ...]

    def suggest(self, trial: Any) -> Any:
        """Value of an Optuna trial."""
        by_label = {_label(value): value for value in self.values}
        return by_label[trial.suggest_categorical(self.name, list(by_label))]


@dataclass(frozen=True)
class Range:
    """A field that takes any value from `low` to `high`, both included."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool

    @property
    def values(self) -> tuple[float, ...]:
        """Both ends, with which a recipe is tried."""
        return self.low, self.high

    def suggest(self, trial: Any) -> Any:
        """Value of an Optuna trial."""
        suggest = trial.suggest_int if self.whole else trial.suggest_float
        return suggest(self.name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Code:
    """A function of the user's, `file.py:function`: it gets an Optuna trial and returns fields with their values."""

    name: str
    function: Callable[..., Any]

    def fields(self, trial: Any) -> dict[str, Any]:
        """Fields and values of an Optuna trial. Raises UserError for anything else."""
        made = self.function(trial)
        if not isinstance(made, Mapping) or not all(isinstance(name, str) for name in made):
            raise UserError(
                f"{self.name}: it returned '{type(made).__name__}'. Return fields with values, as {{'optim.lr': 0.1}}"
            )
        for name in made:
            _check_free(name)
        return {name: self._plain(name, value) for name, value in made.items()}

    def _plain(self, name: str, value: Any) -> Any:
        """A value as JSON holds it; a scalar of NumPy as a number."""
        if isinstance(value, np.generic):
            value = value.item()
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            raise UserError(
                f"{self.name}: it returned a '{type(value).__name__}' for {name}, which a recipe cannot hold. Return a number, "
                "text or a list of these"
            ) from None
        return value


@dataclass(frozen=True)
class Space:
    """All that a search varies."""

    texts: tuple[str, ...]
    """Text as it was written, which tells two searches apart."""
    dimensions: tuple[Choices | Range, ...]
    code: tuple[Code, ...] = ()

    @staticmethod
    def parse(texts: Sequence[str]) -> "Space":
        """Read `FIELD=LOW..HIGH[:log][:COUNT]`, `FIELD=A,B,…` and `file.py:function`, all of the user's. Raises UserError."""
        dimensions: list[Choices | Range] = []
        code: list[Code] = []
        for text in texts:
            name, equals, values = (part.strip() for part in text.partition("="))
            if not equals and ".py:" in text:
                code.append(Code(text, function_in_file(text, "space of a search")))
                continue
            if not equals or not name or not values:
                raise UserError(
                    f"--search: '{text}' is not FIELD=LOW..HIGH, FIELD=A,B,… or mine.py:function. For example: --search "
                    "optim.lr=1e-4..1e-1:log"
                )
            _check_free(name)
            dimensions.append(_dimension(name, values, text))
        names = [dimension.name for dimension in dimensions]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f"--search: {twice[0]} is given twice. Give all its values at once")
        return Space(tuple(texts), tuple(dimensions), tuple(code))

    def code_sha256(self) -> str:
        """Hash of the files of its functions, in their order."""
        files = [sha256_file(Path(code.name.rpartition(":")[0])) for code in self.code]
        return hashlib.sha256(" ".join(files).encode()).hexdigest()

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Fields and values of an Optuna trial. Raises UserError where two parts set the same field."""
        fields = {dimension.name: dimension.suggest(trial) for dimension in self.dimensions}
        for code in self.code:
            made = code.fields(trial)
            twice = fields.keys() & made.keys()
            if twice:
                raise UserError(f"{code.name}: {min(twice)} is searched by another --search, too. Give it once")
            fields |= made
        return fields

    def check(self, changes: Any) -> None:
        """Raise ValueError where what a journal holds for a trial cannot be of this space; None: nothing yet."""
        if changes is None:
            return
        own = {dimension.name for dimension in self.dimensions}
        if not isinstance(changes, dict) or not (own <= changes.keys() if self.code else own == changes.keys()):
            raise ValueError("not the fields of the space")
        for name in changes:
            _check_free(name)

    def points(self) -> list[dict[str, Any]]:
        """All points of a grid. Raises UserError where a part has not a finite number of values."""
        if self.code:
            raise UserError(f"--search-by grid: {self.code[0].name} says no values beforehand. Use random or tpe")
        sides = []
        for dimension in self.dimensions:
            if isinstance(dimension, Range) and not dimension.whole:
                raise UserError(
                    f"--search-by grid: {dimension.name} is a range without a number of values. Give it, for example "
                    f"{dimension.name}={dimension.low:g}..{dimension.high:g}{':log' if dimension.log else ''}:5"
                )
            whole = isinstance(dimension, Range)
            sides.append(range(int(dimension.low), int(dimension.high) + 1) if whole else dimension.values)  # type: ignore[union-attr]
        count = math.prod(map(len, sides))
        if count > MOST_TRIALS:
            raise UserError(f"--search-by grid: it has {count:,} points. Give fewer values, or use random or tpe")
        names = [dimension.name for dimension in self.dimensions]
        return [dict(zip(names, values, strict=True)) for values in product(*sides)]

    def tries(self) -> list[dict[str, Any]]:
        """Each end of a range and each choice by itself, to be tried before anything is trained."""
        return [{dimension.name: value} for dimension in self.dimensions for value in dimension.values]


def _check_free(name: str) -> None:
    if name in TAKEN:
        raise UserError(f"--search: {name} is what a study compares or takes by itself. Use {TAKEN[name]}")
    if name in FIXED:
        raise UserError(f"--search: {name} is filled in by the search. Leave it out")


_SHOWN = 80
"""Characters of a `--search` that an error shows."""
_RANGE = re.compile(r"(?P<low>[^:,\[\]]+?)\.\.(?P<high>[^:,\[\]]+?)(?P<log>:log)?(?::(?P<count>[0-9]{1,9}))?")


def _dimension(name: str, values: str, text: str) -> Choices | Range:
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    match = _RANGE.fullmatch(values)
    if match is None:
        if ".." in values:
            raise UserError(
                f"--search: '{text}' is not FIELD=LOW..HIGH[:log][:COUNT]. For example: {name}=1e-4..1e-1:log"
            )
        return _choices(name, values, text)
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        raise UserError(f"--search: '{text}' has ends that are not numbers. Give numbers, or choices: A,B,…") from None
    log, count = match["log"] is not None, match["count"]
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--search: '{text}' has no value between its ends. Give the lower one first")
    if log and low <= 0:
        raise UserError(f"--search: '{text}' has no logarithm at {low:g}. Begin above 0, or leave out :log")
    whole = _is_whole(name, match["low"], match["high"])
    if whole and max(abs(low), abs(high)) > MOST_WHOLE:
        raise UserError(f"--search: '{text}' has ends that are too large for whole numbers. Give smaller ones")
    if count is None:
        if whole and not (low.is_integer() and high.is_integer()):
            raise UserError(f"--search: '{text}': {name} takes whole numbers. Give whole ends")
        return Range(name, int(low) if whole else low, int(high) if whole else high, log, whole)
    if int(count) > MOST_VALUES:
        raise UserError(
            f"--search: '{text}' has more than {MOST_VALUES:,} values. Give fewer, or leave their number out"
        )
    if int(count) < 2:
        raise UserError(f"--search: '{text}' has fewer than two values. Give a number of at least 2")
    shares = [step / (int(count) - 1) for step in range(int(count))]
    spaced = [low * (high / low) ** share if log else low + share * (high - low) for share in shares]
    return Choices(name, tuple(dict.fromkeys(round(value) if whole else float(f"{value:.6g}") for value in spaced)))


def _choices(name: str, text_of_values: str, text: str) -> Choices:
    try:
        listed_values = json.loads(f"[{text_of_values}]")
    except (ValueError, RecursionError):
        listed_values = [parse_overrides([f"{name}={part.strip()}"])[name] for part in text_of_values.split(",")]
    values = tuple({_label(value): value for value in listed_values}.values())
    if len(values) > MOST_VALUES:
        raise UserError(f"--search: '{text}' has more than {MOST_VALUES:,} values. Give fewer, or a range")
    if len(values) < len(listed_values):
        raise UserError(f"--search: '{text}' has a value twice. Give different values")
    return Choices(name, values)


def _label(value: Any) -> Any:
    """The value as Optuna keeps it: lists as JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _is_whole(name: str, low: str, high: str) -> bool:
    """Whether a field takes whole numbers alone; an option of a model, which has no type, by how its ends are written."""
    kind: Any = Recipe
    for part in name.split("."):
        known = kind.model_fields.get(part) if isinstance(kind, type) and issubclass(kind, Section) else None
        kind = None if known is None else known.annotation
    if kind is None:
        return all(re.fullmatch(r"\s*[+-]?\d+\s*", end) for end in (low, high))
    return float not in (kind, *get_args(kind))


def values_of(recipe: Recipe, names: Sequence[str]) -> dict[str, Any]:
    """Values of dotted fields of a recipe; None for a model option that it does not give."""
    values = flat(recipe)
    return {name: values.get(name) for name in names}


def shown(fields: Mapping[str, Any]) -> str:
    """Fields and values in a line: "optim.lr 0.02, clip.num_frames 16"."""
    return ", ".join(f"{name} {_number(value)}" for name, value in fields.items())


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
