"""What the documents say runs."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from typer.main import get_command

from muybridge.cli.app import app
from muybridge.recipe import Recipe, Runtime, fields, parse_overrides

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("muybridge "):
                    yield pytest.param(shlex.split(line, comments=True)[1:], id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_in_the_documents_parses(words):
    name, *rest = words
    command = get_command(app).commands[name]
    context = command.make_context(name, rest)  # raises for an option or argument that is not there
    known = fields(Recipe).keys() | {f"runtime.{field}" for field in fields(Runtime)}
    assert parse_overrides(context.params.get("settings") or []).keys() <= known
    for model in (context.params.get("models") or context.params.get("model") or "").split(","):
        if "@" in model:
            from muybridge.zoo.families import METHODS

            assert model.partition("@")[0] in METHODS
        elif model and ":" not in model:
            from muybridge.zoo import entry

            entry(model)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "walkthrough.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert notebook.cells[-1].outputs
