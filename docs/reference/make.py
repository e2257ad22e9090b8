"""Write the pages of docs/reference from the code: fields.md, commands.md, api.md and models.md.

    python docs/reference/make.py            # writes the pages
    python docs/reference/make.py --check    # exits with 1 where a page differs from what it would write

The text is that of the code: meanings of fields (`muybridge.recipe.sections`), help of commands, docstrings of verbs, and
the table of models that is shipped.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

import muybridge
from muybridge.cli.app import app
from muybridge.recipe import Recipe, Runtime
from muybridge.recipe.fields import RENAMED
from muybridge.recipe.sections import Section

HERE = Path(__file__).parent
FIELDS = """\
# Fields

Every field of a recipe and of the runtime. This page is generated: `python docs/reference/make.py`.

`muybridge recipes --fields` prints the same, and `muybridge recipes NAME --fields` the values of one recipe.
`--set SECTION.FIELD=VALUE` changes a field of a recipe, and `--set runtime.FIELD=VALUE` one of the runtime.
Values are JSON, and `none` means `null`."""
COMMANDS = """\
# Commands

Every command with its arguments and options. This page is generated: `python docs/reference/make.py`.

`muybridge COMMAND --help` prints the same. Each command is a function in Python with the same arguments: [api.md](api.md).
A dash means that an option has no default. [The tour](../tour.md) shows them at work."""
API = """\
# Python

Every verb with its arguments and what it returns, and the objects that verbs return. This page is generated:
`python docs/reference/make.py`. `help(muybridge.train)` prints the same.

[Python by task](../api.md) has a line of each that runs. Paths are texts or `Path`, a run is its folder or a `Run`. A
mistake of the user raises `muybridge.errors.UserError`, whose text says what to do."""
MODELS = """\
# Models

Every model that is built in. This page is generated: `python docs/reference/make.py`.

`muybridge models` prints the same, and `muybridge models NAME` a network layer by layer. Parameters are those with 10
classes. Convolution multiply-adds are for one clip of the input that is given, which is the smallest usual one. Another
input costs more: `muybridge measure NAME --frames 32 --size 224`. Weights are public ones, for `--pretrained`: [how they
load](../models.md#weights-to-start-from). Which one to take: [which.md](../which.md)."""

FAMILIES = {
    "tsn": "Temporal segments",
    "tsm": "Temporal shift",
    "tam": "Temporal aggregation",
    "tconv": "Dense temporal convolutions",
    "nln": "Non-local network",
    "i3d": "Inflated 3D network",
    "s3d": "Separable 3D network",
    "s3dv3": "Separable 3D network on Inception-v3",
    "slowfast": "Two pathways",
    "slow": "The slow pathway alone",
    "x3d": "Expanded 3D network",
    "c3d": "3D convolutions",
    "r3d": "Video ResNet, 3D",
    "mc3": "Video ResNet, mixed",
    "r2plus1d": "Video ResNet, (2+1)D",
    "small clips": "Networks for small clips",
    "heads": "Heads over stored vectors",
}
"""Families in the order of the page, with their names in words. Others are heads over image networks."""


def fields_page() -> str:
    """Every field of a recipe and of the runtime."""
    fields = muybridge.recipes(fields=True)["fields"]
    sections = {"": "The recipe as a whole", **_sections(), "runtime": _title("runtime", Runtime)}
    parts = [FIELDS]
    for section, title in sections.items():
        rows = [
            [f"`{name}`", f"`{json.dumps(field['value'], ensure_ascii=False)}`", _cell(field["meaning"])]
            for name, field in fields.items()
            if name.rpartition(".")[0] == section
        ]
        parts += [f"## {title}", _table(["field", "default", "meaning"], rows)]
    renamed = [[f"`{old}`", f"`{new}`"] for old, (new, _) in RENAMED.items() if new != old]
    note = "Files and options with these names are still read, with a note."
    return _joined([*parts, "## Names of earlier versions", note, _table(["before", "now"], renamed)])


def _sections() -> dict[str, str]:
    """The sections of a recipe with their titles."""
    kinds = {name: info.annotation for name, info in Recipe.model_fields.items()}
    return {
        name: _title(name, kind) for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)
    }


def _title(name: str, kind: type[Section]) -> str:
    return f"`{name}`: {' '.join((kind.__doc__ or '').split()).rstrip('.')}"


def commands_page() -> str:
    """Every command with its arguments and options."""
    parts = [COMMANDS]
    for name, command in get_command(app).commands.items():
        parameters = [one for one in command.params if not one.hidden and one.name != "help"]
        arguments = [one for one in parameters if one.param_type_name == "argument"]
        options = [one for one in parameters if one.param_type_name == "option"]
        usage = " ".join(
            ["muybridge", name, *(_metavar(one) for one in arguments), *(["[OPTIONS]"] if options else [])]
        )
        parts += [f"## {name}", _prose(command.help or ""), f"```text\n{usage}\n```"]
        if arguments:
            rows = [[f"`{_metavar(one)}`", _prose(one.help or "")] for one in arguments]
            parts.append(_table(["argument", "meaning"], rows))
        if options:
            rows = [[_spelled(one), _default(one), _prose(one.help or "")] for one in options]
            parts.append(_table(["option", "default", "meaning"], rows))
    return _joined(parts)


def _metavar(parameter: Any) -> str:
    """An argument as the usage line has it."""
    word = parameter.metavar or parameter.name.upper()
    return word if parameter.required or word.startswith("[") else f"[{word}]"


def _spelled(option: Any) -> str:
    """An option as it is typed, with the word for its value."""
    names = "`, `".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return f"`{names}`"
    kind = getattr(option.type_descriptor.annotation, "__name__", "text").upper()
    return f"`{names} {option.metavar or {'STR': 'TEXT', 'INT': 'N', 'FLOAT': 'X', 'BOOL': 'TEXT'}.get(kind, kind)}`"


def _default(option: Any) -> str:
    """An option's default in a cell."""
    if option.required:
        return "required"
    value = option.default
    if value is None or value is False or value == "" or value == [] or callable(value):
        return "–"
    return f"`{_cell(str(value))}`" if value is not True else "on"


def api_page() -> str:
    """Every verb by task, and the objects that verbs return."""
    parts, found = [API], {}
    for task, verbs in _tasks().items():
        parts.append(f"## {task}")
        for verb in verbs:
            function = getattr(muybridge, verb)
            call = function.__init__ if inspect.isclass(function) else function
            parts += [f"### {verb}", _signature(f"muybridge.{verb}", call)]
            parts.append(_docstring(function))
            if inspect.isclass(function):
                parts += list(_members(function))
            for kind in _classes(function):
                found[kind.__name__] = kind
    parts.append("## Objects that verbs return")
    for name, kind in sorted(found.items()):
        parts += [f"### {name}", f"From `{kind.__module__}`.", _docstring(kind), *_members(kind)]
    return _joined(parts)


def _tasks() -> dict[str, list[str]]:
    """Verbs by the headings of docs/api.md, in its order."""
    text = (HERE.parent / "api.md").read_text(encoding="utf-8")
    left, tasks = set(muybridge.__all__), {}
    for title, body in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S):
        for verb in re.findall(r"muybridge\.(\w+)\(", body):
            if verb in left:
                left.remove(verb)
                tasks.setdefault(title, []).append(verb)
    return {**tasks, **({"More": sorted(left)} if left else {})}


def _signature(name: str, function: Callable[..., Any]) -> str:
    """A call with its annotations, a line each where it is long."""
    signature = inspect.signature(function)
    given = [one for one in signature.parameters.values() if one.name != "self"]
    texts, star = [], False
    for one in given:
        if one.kind is one.KEYWORD_ONLY and not star:
            texts.append("*")
            star = True
        star = star or one.kind is one.VAR_POSITIONAL
        texts.append(_short(str(one)))
    back = signature.return_annotation
    arrow = "" if back in (inspect.Signature.empty, None, "None") else f" -> {_annotation(back)}"
    line = f"{name}({', '.join(texts)}){arrow}"
    if len(line) > 100:
        line = "\n".join([f"{name}(", *(f"    {text}," for text in texts), f"){arrow}"])
    return f"```python\n{line}\n```"


def _annotation(annotation: Any) -> str:
    """An annotation in few words."""
    return _short(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


def _short(text: str) -> str:
    """Text of annotations without modules and quotes, and of objects without their place in memory."""
    text = re.sub(r": '([^']*)'", r": \1", text)
    text = re.sub(r"\b(?:[A-Za-z_]\w*\.)+([A-Za-z_]\w*)", r"\1", text)
    return re.sub(r"<(?:function|class) '?(\w+)[^>]*>", r"\1", text)


def _classes(verb: Callable[..., Any]) -> Iterator[type]:
    """Classes of muybridge that a verb returns, also where its module imports them for annotations alone."""
    annotation = inspect.signature(verb).return_annotation
    module = sys.modules[verb.__module__]
    imported = {
        alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for path in re.findall(r"[A-Za-z_][\w.]*", text):
        home, _, name = path.rpartition(".")
        home = home or imported.get(name, module.__name__)
        kind = getattr(importlib.import_module(home), name, None) if home.startswith("muybridge") else None
        if inspect.isclass(kind):
            yield kind


def _members(kind: type) -> Iterator[str]:
    """Public attributes and methods of a class, with their first paragraphs."""
    attributes = [one.name for one in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    attributes = [f"`{name}`" for name in attributes if not name.startswith("_")]
    if attributes:
        yield f"Attributes: {', '.join(attributes)}."
    rows = []
    for name, member in sorted(inspect.getmembers(kind)):
        is_ours = any(name in base.__dict__ for base in kind.__mro__ if base.__module__.startswith("muybridge"))
        if name.startswith("_") or not is_ours or not inspect.getdoc(member) or inspect.isclass(member):
            continue
        if isinstance(member, property | functools.cached_property):
            rows.append([f"`.{name}`", _first(member)])
        elif callable(member):
            texts = [one for one in inspect.signature(member).parameters if one not in ("self", "cls")]
            rows.append([f"`.{name}({', '.join(texts)})`", _first(member)])
    if rows:
        yield _table(["member", "meaning"], rows)


def _first(thing: Any) -> str:
    """The first paragraph of a docstring."""
    return _cell(_prose((inspect.getdoc(thing) or "").split("\n\n")[0]))


def _docstring(thing: Any) -> str:
    """A docstring as Markdown: indented lines are code."""
    parts = []
    for block in re.split(r"\n\s*\n", inspect.getdoc(thing) or ""):
        is_code = all(line.startswith("    ") for line in block.splitlines())
        parts.append(f"```python\n{inspect.cleandoc(block)}\n```" if is_code and block else _prose(block))
    return "\n\n".join(parts)


def models_page() -> str:
    """Every model by family."""
    rows = muybridge.models()["models"]
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    parts = [MODELS]
    for family in [*FAMILIES, *(name for name in families if name not in FAMILIES)]:
        members = families[family]
        name = FAMILIES.get(family) or "Head over an image network"
        parts.append(f"## {name}: `{family}`")
        papers = sorted({row["paper"] for row in members})
        if len(papers) == 1:
            parts.append(_prose(papers[0]) + ".")
        head = ["model", "input", "parameters", "conv MACs", "weights", *([] if len(papers) == 1 else ["paper"])]
        body = [
            [
                f"`{row['name']}`", _input(row), f"{row['params'] / 1e6:.2f} M", _macs(row["conv_macs"]),
                ", ".join(row["weights"]) or "–", *([] if len(papers) == 1 else [_prose(row["paper"])]),
            ]
            for row in members
        ]  # fmt: skip
        parts.append(_table(head, body))
        options = {key: value for row in members for key, value in row["options"].items()}
        if options:
            told = ", ".join(_option(key, value, members) for key, value in options.items())
            parts.append(f"Options (`--set model.options.NAME=VALUE`): {told}.")
    return _joined(parts)


def _option(key: str, value: object, members: list[dict[str, Any]]) -> str:
    """An option with its default, and the models that have it where not all do."""
    having = [f"`{row['name']}`" for row in members if key in row["options"]]
    return f"`{key}={json.dumps(value)}`" + ("" if len(having) == len(members) else f" (of {', '.join(having)})")


def _input(row: dict[str, Any]) -> str:
    """A model's usual input in a cell."""
    if row["size"] == 0:
        return f"{row['num_frames']} vectors of {row['in_channels']}"
    return f"{row['num_frames']} × {row['size']} × {row['size']}"


def _macs(macs: int) -> str:
    """Multiply-adds in a cell."""
    return "–" if macs == 0 else f"{macs / 1e9:.2f} G" if macs >= 1e9 else f"{macs / 1e6:.1f} M"


def _prose(text: str) -> str:
    """Text of the code as Markdown: what is not code in backticks has no marks."""
    text = re.sub(r"\[/?(?:bold|italic)\]", "", " ".join(text.split()))
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*<>\[\]_])", r"\\\1", part) for part in parts)


def _cell(text: str) -> str:
    """Text that stays within its cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


PAGES = {"fields.md": fields_page, "commands.md": commands_page, "api.md": api_page, "models.md": models_page}

if __name__ == "__main__":
    written = {HERE / name: page() for name, page in PAGES.items()}
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in written.items() if not path.is_file() or path.read_text("utf-8") != text]
        print(*(f"docs/reference/{name} is out of date: python docs/reference/make.py" for name in stale), sep="\n")
        sys.exit(bool(stale))
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
