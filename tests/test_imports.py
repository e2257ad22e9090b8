"""Imports go one way, and what must start fast imports nothing slow."""

import ast
import subprocess
import sys
from pathlib import Path

import muybridge

ROOT = Path(muybridge.__file__).parent

BASE = {
    "errors",
    "text",
    "table",
    "draws",
    "files",
    "launch",
    "console",
    "locks",
    "user_code",
    "recipe",
    "scores",
    "runs",
}
"""Under all others; NumPy at most."""

ALLOWED = {
    "errors": set(),
    "draws": set(),
    "text": set(),
    "table": {"text"},
    "launch": set(),
    "console": {"launch", "text"},
    "files": {"errors"},
    "locks": {"console", "errors", "files"},
    "user_code": {"errors", "files"},
    "recipe": {"errors", "files"},
    "scores": {"errors", "files"},
    "runs": {"errors", "files", "locks", "recipe", "scores"},
    "video": {"errors", "launch"},
    "data": {"video", *BASE} - {"runs", "recipe", "scores", "user_code"},
    "models": {"errors", "files", "console", "user_code"},
    "measure": {"models"},
    "checkpoint": {"errors", "files", "models", "runs"},
    "freezing": {"errors", "models"},
    "schedules": set(),
    "tracking": {"errors", "console", "files"},
    "distributed": {"errors", "launch"},
    "build": {"checkpoint", "data", "models", "video", "freezing", "measure", "schedules", "tracking", *BASE}
    - {"scores"},
    "evaluation": {"build", "checkpoint", "distributed", "data", "models", "video", *BASE},
    "saliency": {"evaluation", "build", "data", "models", "video", *BASE},
    "diagnosis": {"saliency", "results", "evaluation", "build", "data", *BASE},
    "speed": {"training", "build", "data", "models", *BASE},
    "signals": {"console"},
    "description": {"__init__", "build", "data", "models", *BASE},
    "training": {
        "evaluation",
        "measure",
        "build",
        "checkpoint",
        "description",
        "distributed",
        "freezing",
        "signals",
        "data",
        "models",
        "video",
        *BASE,
    },
    "results": {"__init__", "data", "video", *BASE} - {"draws", "console"},
    "recipes": {"recipe", "errors", "user_code"},
    "study": {"training", "build", "diagnosis", "speed", "measure", "distributed", "data", "results", "recipes", *BASE},
    "demo": {"study", "recipes", "data", *BASE},
    "predict": {"evaluation", "build", "data", "video", *BASE},
    "api": {"study", "training", "evaluation", "diagnosis", "predict", "recipes", "data", *BASE},
    "cli": {
        "__init__",
        "api",
        "demo",
        "predict",
        "evaluation",
        "diagnosis",
        "results",
        "measure",
        "speed",
        "models",
        "recipes",
        "video",
        "data",
        *BASE,
    },
    "__init__": {"api"},
    "__main__": {"cli"},
}


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


def test_imports_follow_the_table():
    for part, path in parts():
        beyond = set(imported(path)) - ALLOWED[part] - {part}
        assert not beyond, f"{path.relative_to(ROOT)} imports {sorted(beyond)}"


def test_the_table_has_no_cycles_and_no_dead_entries():
    order, rest = [], dict(ALLOWED)
    rest["__init__"] = set()  # the lazy door to the API: nothing below asks it for more than the version
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
    assert not loaded_by("import muybridge.cli") & slow


def test_reports_and_preparation_need_no_torch():
    assert "torch" not in loaded_by("import muybridge.results.report, muybridge.data.prepare, muybridge.data.motions")


def test_video_needs_no_torch():
    assert "torch" not in loaded_by("import muybridge.video")
