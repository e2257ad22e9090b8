"""Write docs/reference/fields.md: every field of a recipe and of the runtime, its default and its meaning.

    python docs/reference/make.py            # writes the page
    python docs/reference/make.py --check    # exits with 1 where the page differs from what it would write

The text is that of the fields themselves (`muybridge.recipe.sections`), as `muybridge recipes --fields` prints it.
"""

import json
import sys
from pathlib import Path

import muybridge
from muybridge.recipe import Recipe, Runtime
from muybridge.recipe.fields import RENAMED
from muybridge.recipe.sections import Section

PAGE = Path(__file__).parent / "fields.md"
OPENING = """\
# Fields

Every field of a recipe and of the runtime. This page is generated: `python docs/reference/make.py`.

`muybridge recipes --fields` prints the same, and `muybridge recipes NAME --fields` the values of one recipe.
`--set SECTION.FIELD=VALUE` changes a field of a recipe, and `--set runtime.FIELD=VALUE` one of the runtime.
Values are JSON, and `none` means `null`."""


def page() -> str:
    """The whole page."""
    fields = muybridge.recipes(fields=True)["fields"]
    sections = {"": "The recipe as a whole", **_sections(), "runtime": _title("runtime", Runtime)}
    parts = [OPENING]
    for section, title in sections.items():
        rows = [
            f"| `{name}` | `{json.dumps(field['value'], ensure_ascii=False)}` | {_cell(field['meaning'])} |"
            for name, field in fields.items()
            if name.rpartition(".")[0] == section
        ]
        parts.append("\n".join([f"## {title}", "", "| field | default | meaning |", "| --- | --- | --- |", *rows]))
    renamed = [f"| `{old}` | `{new}` |" for old, (new, _) in RENAMED.items() if new != old]
    note = "Files and options with these names are still read, with a note."
    head = ["## Names of earlier versions", "", note, "", "| before | now |", "| --- | --- |"]
    return "\n\n".join([*parts, "\n".join([*head, *renamed])]) + "\n"


def _sections() -> dict[str, str]:
    """The sections of a recipe with their titles."""
    kinds = {name: info.annotation for name, info in Recipe.model_fields.items()}
    return {
        name: _title(name, kind) for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)
    }


def _title(name: str, kind: type[Section]) -> str:
    return f"`{name}`: {' '.join((kind.__doc__ or '').split()).rstrip('.')}"


def _cell(text: str) -> str:
    """Text that stays within its cell of a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
