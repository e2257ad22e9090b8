"""Every value of the sources is ours, or another for a reason that the page tells."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "parity"))

import sources  # noqa: E402

VALUES = sources.values()


def test_no_value_of_a_source_is_another_without_a_reason():
    assert [(value.place, value.what, value.printed, value.ours()) for value in sources.unexplained()] == []


def test_a_value_that_is_another_is_found(monkeypatch):
    """Each line of which ours is compared fails as soon as ours is another."""
    monkeypatch.setattr(sources, "_ours", lambda where: "something else")
    compared = [value for value in VALUES if value.expected and not value.reason]
    assert len(compared) > 200
    assert len(sources.unexplained()) == len(compared)


def test_every_line_says_where_and_what():
    for value in VALUES:
        assert all((value.source, value.place, value.what, value.printed)), value
        kind, _, name = value.where.partition(" ")
        assert kind == "none" or name, value
        assert value.expected or value.reason, f"nothing is compared, and it does not say why: {value}"
        if value.expected:
            json.loads(value.expected)


def test_the_page_is_what_the_script_writes():
    page = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
    assert page == sources.page(), "docs/sources.md is out of date: python parity/sources.py"
    assert ", and 0 are unexplained." in page
