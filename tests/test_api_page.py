"""docs/api.md: every verb has a line there, and the lines run, one after the other."""

import ast
import builtins
import inspect
import re
from pathlib import Path

import pytest

import muybridge

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
CODE = "".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.S))

SHOWN = {"demo"}
"""Verbs that the page names in its text: they take minutes."""


def verbs_of(node):
    return [
        call for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name) and call.func.value.id == "muybridge"
    ]  # fmt: skip


def test_every_verb_has_a_line_with_arguments_that_it_takes():
    calls = verbs_of(ast.parse(CODE))
    assert {call.func.attr for call in calls} | SHOWN == set(muybridge.__all__)
    assert all(f"`muybridge.{verb}(" in PAGE for verb in SHOWN)
    for call in calls:
        signature = inspect.signature(getattr(muybridge, call.func.attr))
        signature.bind(*[None] * len(call.args), **{one.arg: None for one in call.keywords})


@pytest.mark.slow
def test_its_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "print", lambda *values: [str(value) for value in values])
    names = {}
    exec(compile(CODE, "docs/api.md", "exec"), names)
    assert (tmp_path / "study" / "report.html").exists()
    assert (tmp_path / "figures" / "README.md").exists()
    assert names["predictor"].answering is not None
    assert (tmp_path / "tsm.onnx").exists()
