"""What the documents say runs."""

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from typer.main import get_command

import muybridge
from muybridge.cli.app import app
from muybridge.recipe import Recipe, Runtime, fields, parse_overrides

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "muybridge"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_has_every_page():
    listed = set(re.findall(r"\]\(([^)#]+\.(?:md|ipynb))\)", (ROOT / "docs" / "index.md").read_text()))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[2:]} - {"index.md"}
    assert pages <= listed, f"docs/index.md lacks {sorted(pages - listed)}"


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


def test_the_page_of_fields_is_what_its_program_writes():
    """To write it again: python docs/reference/make.py."""
    make = ROOT / "docs" / "reference" / "make.py"
    assert subprocess.run([sys.executable, str(make), "--check"], check=False).returncode == 0, f"python {make}"
    text = (ROOT / "docs" / "reference" / "fields.md").read_text(encoding="utf-8")
    for field in [*fields(Recipe), *(f"runtime.{field}" for field in fields(Runtime))]:
        assert f"| `{field}` |" in text


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
