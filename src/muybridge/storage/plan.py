"""A plan on disk, plan.json: the recipe of every run of a study, and what shall be done with it (format: docs/formats.md).

It is all that a worker needs to train a run of the study, on any machine that sees the folder.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, Self

from pydantic import Field
from typing_extensions import TypedDict

from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime
from muybridge.recipe.fields import validated
from muybridge.runtime.files import as_kind, check_format, read_as, within, write_atomic
from muybridge.storage.run import check_name
from muybridge.user_code import parsed

FILE = "plan.json"
FORMAT_VERSION = 1


class _Run(TypedDict):
    recipe: dict[str, Any]
    starts_from: NotRequired[str | None]


class _Stored(TypedDict):
    title: str
    runtime: dict[str, Any]
    measure: bool
    largest: bool
    diagnose: bool
    recipe: dict[str, Any]
    runs: dict[str, _Run]
    settings: dict[str, Annotated[list[str], Field(min_length=1)]]
    fused: NotRequired[list[Annotated[list[str], Field(min_length=2)]]]
    is_round: NotRequired[bool]


@dataclass(frozen=True)
class StoredPlan:
    """The runs of a study that are wanted, in the order in which they are trained."""

    path: Path
    """Folder of the study."""
    title: str
    runs: Mapping[str, str | None]
    """Names of the runs, each with the run that it starts from; that one comes before it."""
    settings: Mapping[str, list[str]]
    """Names of the runs that differ in nothing but the seed."""
    runtime: Runtime
    measure: bool = False
    largest: bool = False
    diagnose: bool = False
    fused: Sequence[Sequence[str]] = ()
    """Names of runs that are fused with each other once they are finished."""
    is_round: bool = False
    """Whether more runs will follow, as a race's rounds do: no report is written yet, which would look at the test."""
    _common: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        path: Path,
        title: str,
        recipes: Mapping[str, Recipe],
        starts: Mapping[str, str | None],
        settings: Mapping[str, list[str]],
        *,
        runtime: Runtime,
        measure: bool = False,
        largest: bool = False,
        diagnose: bool = False,
        fused: Sequence[Sequence[str]] = (),
        is_round: bool = False,
    ) -> Self:
        """Make it of recipes: what all share is kept once."""
        dumped = {name: recipe.model_dump(mode="json") for name, recipe in recipes.items()}
        common = next(iter(dumped.values()))
        return cls(
            path, title, dict(starts), dict(settings), runtime, measure, largest, diagnose, fused, is_round, common,
            {name: _changes(common, values) for name, values in dumped.items()},
        )  # fmt: skip

    def distinct_code(self) -> list[Recipe]:
        """A recipe for each model in the user's own code."""
        of_code: dict[tuple[str, str | None], str] = {}
        for name, changes in self._recipes.items():
            model = {**self._common["model"], **changes.get("model", {})}
            if ":" in str(model.get("name")):
                of_code.setdefault((str(model["name"]), model.get("source_sha256")), name)
        return [recipe for recipe in map(self.recipe, of_code.values()) if parsed(recipe.model.name).code is not None]

    def recipe(self, name: str) -> Recipe:
        """Recipe of a run, without the weights of the run that it starts from. Raises UserError."""
        values = dict(self._common)
        for section, changed in self._recipes[name].items():
            values[section] = {**values[section], **changed} if isinstance(changed, dict) else changed
        return validated(Recipe, values, where=f"{self.path / FILE}, {name}")

    def save(self) -> None:
        """Write plan.json."""
        runs = {
            name: {"recipe": self._recipes[name], **({} if base is None else {"starts_from": base})}
            for name, base in self.runs.items()
        }
        content = {
            "format_version": FORMAT_VERSION, "title": self.title, "runtime": self.runtime.model_dump(mode="json"),
            "measure": self.measure, "largest": self.largest, "diagnose": self.diagnose, "recipe": self._common,
            "settings": self.settings, "fused": [list(names) for names in self.fused],
            "is_round": self.is_round, "runs": runs,
        }  # fmt: skip
        write_atomic(within(self.path, FILE), json.dumps(content, indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "StoredPlan":
        """Read plan.json of a study's folder; a file that has not changed is not read again. Raises UserError."""
        file = path / FILE
        if path.is_file():
            raise UserError(f"{path}: it is a file. Give the folder of a study")
        try:
            stat = os.stat(file)
        except FileNotFoundError:
            raise UserError(
                f"{file}: the study has not been planned. Write its plan: muybridge compare … --out {path} --plan-only"
            ) from None
        return _load(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@functools.lru_cache(maxsize=4)
def _load(path: Path, _stamp: tuple[int, int, int]) -> StoredPlan:
    file = path / FILE
    values: dict[str, Any] = read_as(dict[str, Any], file)
    check_format(values, FORMAT_VERSION, file)
    stored = as_kind(_Stored, values, str(file))
    runs = {name: run.get("starts_from") for name, run in stored["runs"].items()}
    seen: set[str] = set()
    for name, base in runs.items():
        check_name(name, file)
        if base is not None and base not in seen:
            raise UserError(f"{file}: it is damaged: {name} starts from '{base}', which is not before it. Restore it")
        seen.add(name)
    if any(name not in runs for names in (*stored["settings"].values(), *stored.get("fused", ())) for name in names):
        raise UserError(f"{file}: it is damaged: a setting has a run that is not planned. Restore it")
    common = validated(Recipe, stored["recipe"], where=str(file)).model_dump()
    if missing := common.keys() - stored["recipe"].keys():
        raise UserError(f"{file}: it is damaged: recipe has no '{min(missing)}'. Restore it")
    for name, run in stored["runs"].items():
        for section, changed in run["recipe"].items():
            if isinstance(changed, dict) != isinstance(common.get(section), dict):
                raise UserError(f"{file}: it is damaged: recipe of {name}: '{section}' has not its kind. Restore it")
    return StoredPlan(
        path, stored["title"], runs, stored["settings"], validated(Runtime, stored["runtime"], where=str(file)),
        stored["measure"], stored["largest"], stored["diagnose"], stored.get("fused", []), stored.get("is_round", False),
        stored["recipe"],
        {name: run["recipe"] for name, run in stored["runs"].items()},
    )  # fmt: skip


def _changes(common: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a recipe that differ from the common ones, by section."""
    changes: dict[str, Any] = {}
    for section, of_section in values.items():
        if not isinstance(of_section, dict):
            if of_section != common[section]:
                changes[section] = of_section
            continue
        differing = {name: value for name, value in of_section.items() if value != common[section].get(name)}
        if differing:
            changes[section] = differing
    return changes
