"""What the documents say runs."""

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
import torch
from typer.main import get_command

import muybridge
from muybridge.cli.app import app
from muybridge.recipe import Recipe, Runtime, fields, parse_overrides

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "muybridge"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


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
    changed = parse_overrides(context.params.get("settings") or [])
    assert {name for name in changed if not name.startswith("model.options.")} <= known
    for model in (context.params.get("models") or context.params.get("model") or "").split(","):
        if "@" in model:
            from muybridge.zoo.families import METHODS
            from muybridge.zoo.heads import HEADS

            assert model.partition("@")[0] in {**METHODS, **HEADS}
        elif model and ":" not in model:
            from muybridge.zoo import entry

            entry(model)


def slugs(page):
    """Anchors of a page's headings, as forges make them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)
    found = {}
    for heading in re.findall(r"^#+ +(.+?) *$", text, flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if number == 0 else f"{slug}-{number}" for slug, last in found.items() for number in range(last + 1)}


def linked():
    """Relative links of pages and of the text in notebooks."""
    for page in [*PAGES, *NOTEBOOKS]:
        if page.suffix == ".ipynb":
            cells = nbformat.read(page, as_version=4).cells
            text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        else:
            text = page.read_text()
        text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
        found = re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text)
        yield pytest.param(page, found, id=page.relative_to(ROOT).as_posix())


@pytest.mark.parametrize(("page", "targets"), list(linked()))
def test_links_lead_somewhere(page, targets):
    for target in targets:
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in slugs(there), f"{page.name} links to {target}: there is no such heading"


def test_the_index_has_every_page():
    """Pages in a folder that has a page of its own name are listed there."""
    docs = ROOT / "docs"

    def names(page):
        return {
            (page.parent / name).resolve() for name in re.findall(r"\]\(([^)#]+\.(?:md|ipynb))\)", page.read_text())
        }

    for page in [*PAGES[2:], *NOTEBOOKS]:
        door = (
            page.parent.with_suffix(".md") if page.parent != docs and page.parent.with_suffix(".md").exists() else None
        )
        index = door or docs / "index.md"
        assert page == docs / "index.md" or page in names(index), f"{index} lacks {page.name}"


def named_paths():
    for page in PAGES:
        for name in sorted(set(re.findall(r"`((?:src|tests|docs|parity|benchmarks)/[\w/.-]*\w/?)`", page.read_text()))):
            yield pytest.param(name, id=f"{page.name}: {name}")


@pytest.mark.parametrize("name", list(named_paths()))
def test_files_that_a_page_names_are_there(name):
    assert (ROOT / name).exists()


def test_the_pages_name_no_module_that_is_gone():
    rooms = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")}
    for page in (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"):
        named = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)+\.py)`", page.read_text()))
        named = {name for name in named if not (ROOT / name).exists()}
        assert named <= rooms, f"{page.name} names {sorted(named - rooms)}"


@pytest.mark.parametrize("room", ["reference", "results"])
def test_generated_pages_are_what_their_programs_write(room):
    """To write them again: python docs/reference/make.py, python docs/results/make.py."""
    make = ROOT / "docs" / room / "make.py"
    done = subprocess.run([sys.executable, str(make), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_reference_has_every_field_command_verb_and_model():
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}
    for field in [*fields(Recipe), *(f"runtime.{field}" for field in fields(Runtime))]:
        assert f"| `{field}` |" in pages["fields"]
    for name, command in get_command(app).commands.items():
        part = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", pages["commands"], flags=re.M | re.S)[1]
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help" and not option.hidden:
                assert f"`{max(option.opts, key=len)}" in part, f"{name} {option.opts}"
    for verb in muybridge.__all__:
        assert f"\n### {verb}\n" in pages["api"]
    for row in muybridge.models()["models"]:
        assert f"| `{row['name']}` |" in pages["models"]


def test_stored_reports_hold_no_path_and_their_figures_are_in_the_table():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reports = sorted((ROOT / "docs" / "results").glob("*.json"))
    assert reports
    for file in reports:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"[\"' ](?:/|[A-Z]:)\w", text), file.name
        for model in json.loads(text)["models"]:
            assert f"| {model['video_top1']:.3f} [{model['low']:.3f}, {model['high']:.3f}] |" in readme
            assert abs(sum(model["of_seeds"]) / model["seeds"] - model["video_top1"]) < 1e-9


def snippets():
    """Python that pages show. (Those of the reference are signatures.)"""
    for page in PAGES:
        blocks = re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(), flags=re.M | re.S)
        if page.parent.name != "reference" and blocks:
            yield pytest.param(blocks, id=page.relative_to(ROOT).as_posix())


@pytest.mark.parametrize("blocks", list(snippets()))
def test_snippets_are_python_and_what_they_import_is_there(blocks):
    for block in blocks:
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "muybridge":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "muybridge":
                assert hasattr(muybridge, node.attr), f"muybridge has no {node.attr}"


def test_drawings_and_costs_of_networks_are_what_their_program_writes():
    """To write them again: python docs/networks/make.py."""
    make = ROOT / "docs" / "networks" / "make.py"
    assert subprocess.run([sys.executable, str(make), "--check"], check=False).returncode == 0, f"python {make}"
    shown = " ".join(page.read_text() for page in make.parent.glob("*.md"))
    for drawing in make.parent.glob("*.svg"):
        assert f"]({drawing.name})" in shown, f"no chapter shows {drawing.name}"


def contributed():
    """Python that CONTRIBUTING.md shows, by the name that it is about."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", text, flags=re.M | re.S)
    return {
        name: textwrap.dedent(code)
        for code in blocks
        for name in ("blend", "Gated", "plain", "Gray")
        if f" {name}(" in code
    }


@pytest.fixture
def tables():
    """The tables of models and inputs, which stay as they were."""
    from muybridge.data import inputs
    from muybridge.zoo import registry

    kept = dict(inputs.INPUTS), dict(registry._ENTRIES)
    yield
    for table, before in zip((inputs.INPUTS, registry._ENTRIES), kept, strict=True):
        table.clear()
        table.update(before)


def test_the_method_of_contributing_grows_a_network():
    from muybridge.zoo.families import BACKBONES, Method, grow

    found = {}
    exec(contributed()["blend"], found)
    net = BACKBONES["resnet_tiny"](in_channels=3, is_3d=False)
    method = Method("Author et al. 2030, Blend", found["blend"], sites="aggregation")
    model = grow(method, net, num_classes=5, temporal_pooling=False, dropout=0.0, fresh=True, taps=3).eval()
    x_BCTHW = torch.randn(2, 3, 8, 32, 32)
    logits_BK = model(x_BCTHW)
    assert logits_BK.shape == (2, 5)
    assert not torch.equal(logits_BK, model(x_BCTHW.flip(2)))  # it looks along time


def test_the_head_of_contributing_pools_what_is_there():
    found = {"__name__": __name__}
    exec(contributed()["Gated"], found)
    head, f_BTD = found["Gated"](5), torch.randn(2, 4, 5)
    g_BSE, weights_BS = head(f_BTD, torch.tensor([[True] * 4, [True, False, True, False]]))
    assert g_BSE.shape == (2, 4, head.num_features)
    alone_BS = head(f_BTD[1:, ::2])[1]
    assert not weights_BS[1, 1::2].any()
    assert torch.allclose(weights_BS[1, ::2], alone_BS[0])


@pytest.mark.usefixtures("tables")
def test_the_network_and_the_input_of_contributing_train_together(made_set, tmp_path):
    from muybridge.data import inputs

    found = {"__name__": __name__}
    for name in ("plain", "Gray"):
        exec(contributed()[name], found)
    inputs.register(found["INPUT"])
    changes = {
        "clip.modality": "rgb_gray", "clip.num_frames": 4, "clip.size": 32,
        "optim.epochs": 1, "optim.warmup_epochs": 0, "optim.min_steps": 0,
        "evaluation.num_clips": 1, "model.options.width": 8,
    }  # fmt: skip
    run = muybridge.train(
        model="plain", data=made_set, out=tmp_path / "run", changes=changes,
        runtime=Runtime(cache_gib=1.0, num_workers=0),
    )  # fmt: skip
    num_classes = run.scores("test").logits_VK.shape[1]
    assert run.cost()["params"] == (4 * 27 + 1) * 8 + (8 + 1) * num_classes


def test_verbs_in_the_documents_are_exported():
    for page in PAGES:
        for name in re.findall(r"\bmuybridge\.([a-z_]+)\(", page.read_text()):
            assert name in muybridge.__all__, f"{page.name} calls muybridge.{name}"
