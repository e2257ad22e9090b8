"""The language of the code and the documents: plain sentences in the field's words."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "muybridge").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"fidelity.md", "fields.md", "commands.md"}
"""Pages that a program writes."""

HANGING = {"of", "by", "with", "what", "which", "where", "as", "how"}
"""A docstring that begins so is no sentence: it hangs on the name above it."""

BANNED = (
    "is told",
    "are told",
    "goes on",
    "go on with",
    "gone on",
    "is no ",
    "are none",
    "is none",
    "so many",
    "of one's own",
)
MOST_WORDS = 30
MOST_SEMICOLONS = 1


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef):
            for before, after in pairwise(body):
                is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if isinstance(before, ast.Assign | ast.AnnAssign) and is_text and isinstance(after.value.value, str):
                    yield after.lineno, after.value.value


def strings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "muybridge")))
def test_docstrings_stand_alone(path):
    tree = ast.parse(path.read_text())
    found = [f"{path}:{line}: {text.splitlines()[0]}" for line, text in docstrings(tree)
             if re.split(r"\W+", text.strip(), maxsplit=1)[0].lower() in HANGING]  # fmt: skip
    found += [f"{path}:{line}: '{words}'" for line, text in strings(tree) for words in BANNED if words in text.lower()]
    assert not found, "\n".join(found)


def paragraphs(text):
    """Prose alone: no code, tables, headings."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.lstrip().startswith(("|", "#", "<", "!["))]
        for item in re.split(r"\n(?=\s*(?:[-*]|\d+\.)\s)", "\n".join(lines)):
            if item.strip():
                yield " ".join(item.split())


def sentences(paragraph):
    plain = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph))
    return re.split(r"(?<=[.!?:])\s+", plain)


@pytest.mark.parametrize("path", [page for page in PAGES if page.name not in GENERATED], ids=lambda path: path.name)
def test_pages_are_written_in_short_sentences(path):
    found = []
    for paragraph in paragraphs(path.read_text()):
        if paragraph.count(";") > MOST_SEMICOLONS:
            found.append(f"{paragraph.count(';')} semicolons: {paragraph[:90]}")
        found += [f"{len(s.split())} words: {s[:90]}" for s in sentences(paragraph) if len(s.split()) > MOST_WORDS]
        found += [f"'{words}': {paragraph[:90]}" for words in BANNED if words in paragraph.lower()]
    assert not found, "\n".join(found)
