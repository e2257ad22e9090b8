"""Further evaluations that a run keeps: other views, another size, another split; clips of none of its classes.

RUN/evaluations/NAME/
  scores.npz         per-view scores
  evaluation.json    split, checkpoint, the fields that differ from the run's recipe, and the cost of a view; written last

NAME says what differs from the run's own evaluation, so that two different evaluations have two names. Clips of no class,
which are of another data set, are in `unknown-DATA-HASH`: `unknown` of evaluation.json names that set.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from muybridge.errors import UserError
from muybridge.recipe import Recipe, diff, replace
from muybridge.runtime.files import read_as, within, write_json
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores

FORMAT_VERSION = 1
OPEN_FIELDS = ("evaluation.", "clip.", "data.on_error", "precision")
"""Beginnings of the fields of a recipe that an evaluation may change."""
LONGEST_NAME = 100
"""Most characters of a folder's name; a longer one ends in a hash."""

_Count = Annotated[int, Field(ge=0)]


@with_config(ConfigDict(extra="allow"))
class _Kept(TypedDict):
    format_version: Literal[1]
    split: str
    checkpoint: str
    changes: dict[str, Any]
    unknown: NotRequired[str]
    answered_by: NotRequired[str]
    params: _Count
    conv_macs: _Count
    macs: _Count


@dataclass(frozen=True)
class Kept:
    """One further evaluation of a run."""

    run: Run
    name: str
    split: str
    checkpoint: str
    changes: Mapping[str, Any]
    """Dotted fields of the recipe that differ from the run's, by their values here."""
    recipe: Recipe
    """The run's recipe with these changes."""
    cost: Mapping[str, int]
    """Parameters, and multiply-adds of one view."""
    unknown: str = ""
    """Name of another data set, whose clips are of none of the run's classes; empty for the run's own."""

    @property
    def scores_file(self) -> str:
        """Name of its scores, relative to the run."""
        return f"evaluations/{self.name}/scores.npz"

    def scores(self) -> Scores:
        """Per-view scores. Raises UserError."""
        return Scores.load(self.run.path / self.scores_file)


def name_of(run: Run, recipe: Recipe, *, split: str, checkpoint: str) -> str:
    """Name of an evaluation by what differs from the run's own: `test-num_clips=10-clip.num_frames=16`, `train`.

    Raises UserError for the evaluation that the run made itself.
    """
    own = run.recipe()
    parts = {name.removeprefix("evaluation."): value for name, (_, value) in diff(own, recipe).items()}
    if checkpoint != own.evaluation.checkpoint:
        parts["checkpoint"] = checkpoint
    if not parts and run.scores_file(split).exists():
        raise UserError(
            f"--keep: {run.scores_file(split)} holds this evaluation already. Change it, for example --set "
            "evaluation.num_clips=10"
        )
    ordered = sorted(parts.items(), key=lambda part: ("." in part[0], part[0]))
    name = "-".join([split, *(f"{field}={value}" for field, value in ordered)])
    plain = re.sub(r"[^\w=.-]+", "_", name)
    if plain == name and len(name) <= LONGEST_NAME:
        return name
    return f"{plain[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def name_of_unknown(data: str, sha256: str) -> str:
    """Name of the evaluation of clips of no class, by their data set's name and the hash of its manifest."""
    plain = re.sub(r"[^\w=.-]+", "_", data)
    return f"unknown-{plain[:LONGEST_NAME]}-{sha256[:8]}"


def check_new(run: Run, name: str) -> None:
    """Check, before anything is computed, that the run does not have this evaluation. Raises UserError."""
    run.check_finished()
    folder = within(run.path, f"evaluations/{name}")
    if (folder / "evaluation.json").exists():
        raise UserError(f"{folder}: this evaluation is kept already. Delete that folder to make it again")


def keep(
    run: Run,
    name: str,
    scores: Scores,
    recipe: Recipe,
    *,
    split: str,
    checkpoint: str,
    cost: Mapping[str, int],
    unknown: str = "",
) -> Kept:
    """Store an evaluation in the run. It is there when its evaluation.json is. Raises UserError.

    `unknown`: the data set of clips of no class.
    """
    check_new(run, name)
    changes = {field: value for field, (_, value) in diff(run.recipe(), recipe).items()}
    kept = Kept(run, name, split, checkpoint, changes, recipe, cost, unknown)
    run.folder(f"evaluations/{name}")
    scores.save(run.file(kept.scores_file))
    write_json(run.file(f"evaluations/{name}/evaluation.json"), {
        "format_version": FORMAT_VERSION, "split": split, "checkpoint": checkpoint, "changes": changes,
        **({"unknown": unknown} if unknown else {}),
        **({"answered_by": scores.answered_by} if scores.answered_by else {}), **cost,
    })  # fmt: skip
    return kept


def kept(run: Run, name: str) -> Kept:
    """Read evaluation.json of one evaluation. Raises UserError that names the file and its fault."""
    file = run.path / "evaluations" / name / "evaluation.json"
    content: dict[str, Any] = read_as(_Kept, file)
    wrong = [field for field in content["changes"] if not field.startswith(OPEN_FIELDS)]
    if wrong:
        raise UserError(f"{file}: it is damaged: changes: an evaluation cannot change {wrong[0]}. Delete its folder")
    try:
        recipe = replace(run.recipe(), content["changes"])
    except UserError as error:
        raise UserError(f"{file}: it is damaged: changes: {error}") from None
    cost = {key: content[key] for key in ("params", "conv_macs", "macs")}
    return Kept(
        run, name, content["split"], content["checkpoint"], content["changes"], recipe, cost, content.get("unknown", "")
    )


def names(run: Run) -> list[str]:
    """Names of the evaluations that a run keeps, sorted."""
    folder = run.path / "evaluations"
    return sorted(file.parent.name for file in folder.glob("*/evaluation.json")) if folder.is_dir() else []


def val_file(run: Run) -> Path | None:
    """Scores of val: the run's own, or an evaluation that it keeps; None without either. Raises UserError."""
    kept_ones = (kept(run, name) for name in names(run))
    files = [run.scores_file("val"), *(run.path / one.scores_file for one in kept_ones if _is_val(one))]
    return next((file for file in files if file.exists()), None)


def _is_val(one: Kept) -> bool:
    is_own = one.split == "val" and not one.unknown
    return is_own and not one.changes and one.checkpoint == one.run.recipe().evaluation.checkpoint
