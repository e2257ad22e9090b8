"""Imports go one way, and what must start fast imports nothing slow."""

import ast
import gc
import subprocess
import sys
from pathlib import Path

import pytest

import muybridge
from muybridge.data import inputs

ROOT = Path(muybridge.__file__).parent

ALLOWED = {
    "errors": set(),
    "text": set(),
    "runtime": {"__init__", "errors", "text"},
    "former_names": {"runtime"},
    "user_code": {"errors", "former_names", "runtime"},
    "video": {"errors", "runtime"},
    "data": {"errors", "runtime", "text", "video"},
    "zoo": {"errors", "former_names", "runtime", "user_code"},
    "recipe": {"data", "errors", "runtime", "text", "user_code"},
    "storage": {"__init__", "errors", "recipe", "runtime", "text", "user_code", "zoo"},
    "analysis": {"__init__", "data", "errors", "recipe", "runtime", "storage", "text"},
    "build": {"data", "errors", "recipe", "runtime", "storage", "text", "user_code", "video", "zoo"},
    "evaluation": {"analysis", "build", "data", "errors", "recipe", "runtime", "storage", "text", "user_code", "video", "zoo"},
    "reporting": {"__init__", "analysis", "data", "errors", "recipe", "runtime", "storage", "text", "video"},
    "inference": {
        "__init__", "analysis", "build", "data", "errors", "evaluation", "recipe", "runtime", "storage", "text", "user_code",
        "video", "zoo",
    },
    "training": {
        "__init__", "analysis", "build", "data", "errors", "evaluation", "recipe", "runtime", "storage", "text",
        "user_code", "video", "zoo",
    },
    "studies": {
        "analysis", "build", "data", "errors", "evaluation", "recipe", "reporting", "runtime", "storage", "text",
        "training", "user_code", "video",
    },
    "machine": {"__init__", "errors", "runtime", "text", "training", "video", "zoo"},
    "api": {
        "analysis", "data", "errors", "evaluation", "recipe", "reporting", "runtime", "storage", "studies", "training",
        "user_code", "zoo",
    },
    "cli": {
        "__init__", "analysis", "api", "data", "errors", "recipe", "reporting", "runtime", "storage",
        "studies", "text", "user_code", "video",
    },
    "__init__": {"api", "data", "evaluation", "inference", "machine", "reporting", "studies", "training"},
    "__main__": {"cli"},
}  # fmt: skip
"""What each room imports of the others: no more, and no less."""


NAMES_OF_VERBS = {"__init__.py", "data/manifest.py", "data/stores/flow.py", "machine/packages.py"}
"""Files that name the verb `flow`, which is called as its input is."""


def parts():
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).parts[0].removesuffix(".py"), path


def imported(path):
    """Parts of muybridge that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "muybridge":
                yield from (
                    n.name if (ROOT / n.name).is_dir() or (ROOT / f"{n.name}.py").exists() else "__init__"
                    for n in node.names
                )
            elif (node.module or "").startswith("muybridge."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "muybridge":
                    yield [*name.name.split("."), "__init__"][1]


def test_imports_are_those_of_the_table():
    found = {part: set() for part, _ in parts()}
    for part, path in parts():
        found[part] |= set(imported(path)) - {part}
    assert found == ALLOWED


def test_the_table_has_no_cycles_and_no_dead_entries():
    order, rest = [], dict(ALLOWED)
    rest["__init__"] = set()  # the lazy door to the verbs: nothing below asks it for anything when it is imported
    while rest:
        free = [part for part, needs in rest.items() if not needs - set(order)]
        assert free, f"a cycle among {sorted(rest)}"
        order += free
        for part in free:
            del rest[part]
    assert set(ALLOWED) == {part for part, _ in parts()}


def loaded_by(statement):
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_command_line_starts_without_torch():
    slow = {"torch", "scipy", "altair", "av", "pydantic", "jinja2", "numpy"}
    assert not loaded_by("import muybridge.cli.app") & slow


@pytest.mark.parametrize(
    "module",
    ["reporting.report", "data.prepare.prepare", "data.sets.motions", "data.inputs", "recipe.schedule", "recipe.shipped",
     "analysis.comparison", "analysis.judging", "storage.predictions", "storage.listing", "api", "video",
     "reporting.notebook", "reporting.card", "reporting.figures", "machine.check", "machine.look"],
)  # fmt: skip
def test_what_needs_no_torch_loads_none(module):
    assert "torch" not in loaded_by(f"import muybridge.{module}")


def test_a_trial_loads_nothing_that_only_a_report_needs():
    found = loaded_by("import muybridge.api, muybridge.training.loop")
    assert "torch" in found
    assert not found & {"scipy", "altair", "jinja2", "vl_convert"}


def test_what_answers_loads_no_compiler_of_torch():
    found = loaded_by("import muybridge.inference.predictor")
    assert "torch" in found
    assert "torch._dynamo" not in found


@pytest.mark.parametrize("enabled", [True, False])
def test_importing_a_verb_leaves_the_garbage_collector_as_it_was(enabled):
    try:
        (gc.enable if enabled else gc.disable)()
        assert callable(muybridge.recipes)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_no_room_has_the_name_of_a_verb():
    assert not {part for part, _ in parts()} & set(muybridge.__all__)


def test_one_module_knows_what_a_clip_is_made_of():
    """No other names an input: neither in a comparison, nor as a default, nor in a table."""
    names = set(inputs.INPUTS)
    assert {"rgb", "rgb_difference", "rgb_differences", "flow", "warped_flow"} <= names
    for part, path in parts():
        if path.parent in {ROOT / "data" / "inputs", ROOT / "recipe" / "shipped"}:  # a paper's recipe names its own
            continue
        if part == "video":  # a file's pixel format is called rgb, too
            continue
        strings = {
            node.value for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }  # fmt: skip
        verbs = {"flow"} if path.relative_to(ROOT).as_posix() in NAMES_OF_VERBS else set()
        assert not strings & names - verbs, f"{path.relative_to(ROOT)} ({part}) names an input"
        text = path.read_text()
        assert "step_frames == " not in text, path
        assert "modality ==" not in text, path
