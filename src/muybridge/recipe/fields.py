"""Dotted fields of a recipe or runtime: change, compare, hash, write as JSON and read back."""

import ast
import functools
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from muybridge.data import inputs
from muybridge.errors import UserError, nearest
from muybridge.recipe.sections import Recipe, Section
from muybridge.runtime.console import log
from muybridge.runtime.files import read_json

FORMAT_VERSION = 2

RENAMED: Mapping[str, tuple[str, Mapping[Any, Any]]] = {
    "clip.target_fps": ("clip.fps", {}),
    "model.pretrained_part": ("model.strict", {"whole": True, "agreeing": False}),
    "optim.clock": ("optim.schedule_unit", {}),
    "stop.quantity": ("stop.metric", {}),
}
"""Fields of format version 1: their present names, and the present names of their values."""


LATER: Mapping[str, Any] = {
    "clip.order": "ordered", "clip.stack": None, "data.balanced_sampling": False, "data.train_share": 1.0,
    "evaluation.size": None, "evaluation.whole": False, "model.weights_sha256": None, "optim.backbone_lr": None,
    "optim.class_weights": None, "optim.layer_decay": None, "optim.logit_adjustment": 0.0, "optim.lr_grid": (),
    "optim.steps": None,
    "optim.weight_decay_grid": (),
}  # fmt: skip
"""Fields that recipes of earlier versions lack, and the values that mean what was done then."""

MODEL = ("model.name", "model.source_sha256", "model.weights_sha256")
"""Fields that identify the network of a run."""

S = TypeVar("S", bound=Section)


def validated(kind: type[S], values: Mapping[str, Any], *, where: str | None = None) -> S:
    """Build a section from plain values. Raises UserError that names field, value and nearest name."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(_explain(error, kind, where or kind.__name__.lower())) from None


def replace(recipe: S, changes: Mapping[str, Any]) -> S:
    """Copy of a section with dotted fields changed (`{"optim.lr": 0.1}`), validated as a whole."""
    values = recipe.model_dump()
    for dotted, value in changes.items():
        _set(values, type(recipe), dotted, value)
    return validated(type(recipe), values)


def with_network(recipe: Recipe, model: str) -> Recipe:
    """The recipe with another network. How it draws the weights of the one it names is not for others."""
    changes: dict[str, Any] = dict.fromkeys(MODEL) | {"model.name": model}
    if recipe.model.name not in ("", model):
        changes["model.init_std"] = None
    return replace(recipe, changes)


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """Parse `["optim.lr=0.1", …]` into `{"optim.lr": 0.1, …}`; values are JSON, and a bare word is a string."""
    changes: dict[str, Any] = {}
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        if not equals or not dotted.strip():
            raise UserError(f"--set: '{setting}' is not section.field=value. For example: --set optim.lr=0.02")
        try:
            value = json.loads(text, object_pairs_hook=functools.partial(_once, dotted.strip()))
        except UserError:
            raise
        except (ValueError, RecursionError):
            value = {"None": None, "none": None, "True": True, "False": False}.get(text, _number(text))
        changes[dotted.strip()] = value
    return changes


def _once(dotted: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object of a field's value. Raises UserError for a name that it has twice."""
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise UserError(f"{dotted}: it names '{twice[0]}' twice. Name it once")
    return dict(pairs)


def _number(text: str) -> float | str:
    """Number in a spelling that JSON does not have (.01, 1., +2), or the text itself."""
    try:
        return float(text) if any(digit.isdigit() for digit in text) else text
    except ValueError:
        return text


def diff(a: Section, b: Section) -> dict[str, tuple[Any, Any]]:
    """Dotted fields in which two sections differ, with both values."""
    flat_a, flat_b = flat(a), flat(b)
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in sorted(flat_a.keys() | flat_b.keys())
        if flat_a.get(name) != flat_b.get(name)
    }


def flat(section: Section, prefix: str = "") -> dict[str, Any]:
    """Map of dotted fields to values; each model option is a field."""
    return _flat(section.model_dump(), prefix)


def fingerprint(recipe: Recipe) -> str:
    """Hash (16 hex digits) of everything that changes a result.

    The manifest and a file of weights count by their content, not by their path.
    """
    values = recipe.model_dump()
    if values["data"]["sha256"] is not None:
        values["data"].pop("manifest")
    if values["model"]["pretrained_sha256"] is not None:
        values["model"].pop("pretrained")
    for dotted, default in LATER.items():
        section, _, name = dotted.partition(".")
        if values[section][name] == default:
            values[section].pop(name)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def to_json(section: Section) -> str:
    """Text of a recipe or runtime file."""
    return json.dumps({"format_version": FORMAT_VERSION, **section.model_dump()}, indent=2) + "\n"


def from_json(kind: type[S], path: Path) -> S:
    """Read a recipe or runtime file. Raises UserError that names the file and the fault."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a recipe. Give a JSON object with sections")
    version = values.pop("format_version", None)
    if version not in (1, FORMAT_VERSION):
        raise UserError(
            f"{path}: it has format_version {version}, but this muybridge reads {FORMAT_VERSION}. Use the muybridge "
            "that wrote it"
        )
    if version == 1:
        _rename(values)
    return validated(kind, values, where=str(path))


def names(kind: type[Section]) -> list[str]:
    """Every dotted field."""
    dotted: list[str] = []
    for name, info in kind.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            dotted += [f"{name}.{inner}" for inner in names(section)]
        else:
            dotted.append(name)
    return dotted


def fields(kind: type[Section], prefix: str = "") -> dict[str, str]:
    """Every dotted field with its documentation, as `muybridge recipes --fields` prints it."""
    meanings: dict[str, str] = {}
    docstrings = _docstrings(kind)
    for name, info in kind.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            meanings |= fields(section, f"{prefix}{name}.")
        else:
            meanings[prefix + name] = docstrings[name]
            if prefix + name == "clip.modality":
                meanings[prefix + name] += "".join(f" {name}: {meaning}." for name, meaning in inputs.described())
    return meanings


@functools.cache
def _docstrings(kind: type[Section]) -> dict[str, str]:
    """The docstring below each field of a section, on one line."""
    [section] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(section, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(section.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }  # fmt: skip


def _rename(values: dict[str, Any]) -> None:
    """Rename the fields of a recipe of format version 1 to the present names."""
    for old, (new, meanings) in RENAMED.items():
        section, _, name = old.partition(".")
        fields_of = values.get(section)
        if isinstance(fields_of, dict) and name in fields_of:
            value = fields_of.pop(name)
            if new.partition(".")[2] in fields_of:
                raise UserError(f"{old}: {new} is its present name, and is given, too. Give one of them")
            fields_of[new.partition(".")[2]] = meanings.get(value, value) if isinstance(value, str) else value
            _note_renamed(old, new)


ELSEWHERE = {
    "learning_rate": "optim.lr", "bs": "optim.batch_size", "wd": "optim.weight_decay", "backbone": "model.name",
    "arch": "model.name", "frames": "clip.num_frames", "resolution": "clip.size", "label_smooth": "optim.label_smoothing",
}  # fmt: skip
"""Names of fields in other tools, and the fields that they mean."""


@functools.cache
def _note_renamed(old: str, new: str) -> None:
    """Log a renamed field, once per process."""
    log(f"note: {old} of an earlier version is read as {new}")


def _set(values: dict[str, Any], kind: type[Section], dotted: str, value: Any) -> None:
    valid = names(kind)
    if dotted in RENAMED and kind is Recipe:
        new, meanings = RENAMED[dotted]
        _note_renamed(dotted, new)
        dotted, value = new, meanings.get(value, value) if isinstance(value, str) else value
    is_option = dotted.startswith("model.options.") and dotted.count(".") == 2 and not dotted.endswith(".")
    if dotted not in valid and not is_option:
        spoken = dotted.rsplit(".", 1)[-1]
        wanted = ELSEWHERE.get(spoken, dotted)
        endings = [name for name in valid if name == wanted or name.rsplit(".", 1)[-1] == wanted]
        hint = f"Did you mean '{endings[0]}'?" if endings else nearest(dotted, valid)
        everything = " See all: muybridge recipes --fields" if kind is Recipe else ""
        raise UserError(f"{dotted}: a {kind.__name__.lower()} has no such field. {hint}{everything}")
    *sections, name = dotted.split(".")
    for section in sections:
        values = values[section]
    values[name] = value


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    dotted: dict[str, Any] = {}
    for name, value in values.items():
        dotted |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return dotted


def _explain(error: ValidationError, kind: type[Section], where: str) -> str:
    lines = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        value = problem["input"]
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown field '{name}'. {nearest(name, names(kind))}")
        elif problem["type"] == "literal_error":
            expected = problem.get("ctx", {}).get("expected", "")
            valid = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
            close = nearest(value, valid) if isinstance(value, str) else "Choose one of them"
            lines.append(f"{name} is {value!r}, but takes {expected}. {close}")
        elif problem["type"] == "value_error":
            lines.append(problem["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{name} is {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}. Give another value")
    return f"{where}: " + "; ".join(lines)
