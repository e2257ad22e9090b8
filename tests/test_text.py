"""Text from data is text everywhere: in a terminal, in Markdown, in a spreadsheet, in tables of a given width."""

import csv
import io
import re

import numpy as np
import pytest
from made_runs import make_run
from markdown_it import MarkdownIt
from rich.cells import cell_len
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.cli.table import render as table_text
from muybridge.data.manifest import from_columns
from muybridge.reporting.report import markdown_table
from muybridge.runtime.console import log
from muybridge.text import markdown, plural, printable, spreadsheet

ODD = [
    "[/b]run", "[red]jack", "run [left]", "[link=http://evil]x", ":smile:", "a|b", "a\\|b", "*a*", "__a__", "`a`", "~~a~~", "$a$",
    "# a", "1. a", "12) a", "- a", "+ a", "> a", "= a", "---", "| a |", "<b>a</b>", "<img src=x onerror=alert(1)>", "&lt;a&gt;",
    "[a](javascript:alert(1))", "![a](http://evil/x.png)", "<http://evil>", "http://evil", "www.evil.org", "a@b.org", "a\nb",
    "a\r\n\r\n# b", "    a", "\ta", "a  \nb", "[a]: http://evil", "{{7*7}}", "{% if 1 %}", "^a^", "==a==", "a_b_c", "_a_", "\\",
    "\\*a",
    "-----", "***", "a ![", "`` a", "&#60;b&#62;", "run (left)", "snake_case_name", "2 + 2 = 4",
]  # fmt: skip
CONTROLS = [
    "\x1b[31mA", "\x1b]0;PWNED\x07", "\x1b[2Jx", "a\x00b", "\x9b31mA", "a\x08b", "\u202eabc", "a\u2066b", "\r overwritten",
]  # fmt: skip


def rendered(text):
    """What a reader of Markdown sees, and the tags around it but for paragraphs and tables."""
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    tags = set(re.findall(r"<(\w+)", html)) - {"p", "table", "thead", "tbody", "tr", "th", "td"}
    words = re.sub(r"<[^>]+>", " ", html)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        words = words.replace(entity, character)
    return " ".join(words.split()), tags


@pytest.mark.parametrize("text", ODD + CONTROLS)
def test_markdown_shows_the_text_and_nothing_else(text):
    expected = " ".join(printable(text).split())
    assert rendered(markdown(text)) == (expected, set())
    words, tags = rendered(markdown_table(["class", "n"], [[text, "1"], ["next", "2"]]))
    assert (words, tags) == (f"class n {expected} 1 next 2", set())


def test_markdown_of_any_characters():
    rng = np.random.default_rng(0)
    alphabet = list("ab1 \\`*_{}[]()<>#+-.!|~$&;:@/=^\"'\n")
    for _ in range(3000):
        text = "".join(rng.choice(alphabet, rng.integers(1, 9)))
        if text.strip():
            assert rendered(markdown(text)) == (" ".join(text.split()), set()), repr(text)


@pytest.mark.parametrize("text", CONTROLS)
def test_a_terminal_is_given_no_orders(text, capsys):
    shown = printable(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    log(text)
    assert capsys.readouterr().err.strip() == shown.strip()
    assert shown in table_text(["class", "n"], [[text, "1"]])


@pytest.mark.parametrize("text", ["Müller", "走る", "🏃 run", "naïve a\u0301", "שלום", "a b", "tab\tbed"])
def test_words_of_any_language_stay(text):
    assert printable(text) == text


@pytest.mark.parametrize("text", ['=HYPERLINK("http://evil")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=1", "-a"])
def test_a_spreadsheet_computes_nothing(text):
    out = io.StringIO()
    csv.writer(out).writerow([spreadsheet(text)])
    (back,) = next(csv.reader(io.StringIO(out.getvalue())))
    assert back == f"'{printable(text)}"


@pytest.mark.parametrize("text", ["-0.5", "+1", "-1e-5", "-12.5%", ".5", "-.5", "run", "a=b", "", "a-b"])
def test_numbers_and_names_are_as_they_are_in_a_spreadsheet(text):
    assert spreadsheet(text) == text


@pytest.mark.parametrize("noun", ["thread", "video"])
def test_one_is_no_plural(noun):
    assert [plural(count, noun) for count in (0, 1, 2)] == [f"0 {noun}s", f"1 {noun}", f"2 {noun}s"]


# Tables

HEADER = ["run", "model", "accuracy", "standard_deviation", "seconds", "when it began"]
ROWS = [
    ["base/study/runs/tsm_resnet_tiny-seed1", "tsm_resnet_tiny", "0.333", "0.012", "12", "2026-11-29 08:55"],
    ["short", "a_very_long_name_of_a_network_that_somebody_gave", "0.5", "0.1", "1", "2026-11-29 08:56"],
]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_words_stay_whole_and_what_has_no_room_is_named(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    drawn = table_text(HEADER, ROWS, numeric=(2, 3))
    assert all(cell_len(line) <= max(width, 60) for line in drawn.splitlines())
    named = re.search(r"have no room for (.*); --json has all", " ".join(drawn.split()))
    left_out = named[1].split(", ") if named else []
    assert left_out == HEADER[len(HEADER) - len(left_out) :]
    for column in range(len(HEADER) - len(left_out)):
        for cell in (HEADER[column], *(row[column] for row in ROWS)):
            for word in re.split(r" |(?<=/)", cell):
                assert word in drawn, word
    if width == 160:
        assert not left_out


@pytest.mark.parametrize(
    "name", ["a" * 300, "pretending_to_put_something_onto_something_but_" * 3, "走" * 90, "a/" + "b" * 100]
)
def test_a_long_name_leaves_room_for_the_figures(monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    drawn = table_text(
        ["class", "videos", "ordered", "shuffled"], [[name, "12", "0.500", "0.250"], ["run", "3", "0.1", "0.2"]]
    )
    assert all(cell_len(line) <= 80 for line in drawn.splitlines())
    assert "no room" not in drawn
    assert {"12", "0.500", "0.250", "run"} <= set(drawn.split())
    whole = "".join(line[: line.find("12")] if "12" in line else line for line in drawn.splitlines()[2:-1])
    assert name in "".join(whole.split())


@pytest.mark.parametrize("columns", ["80", "120"])
def test_tables_of_the_commands_fit_the_terminal(tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    for seed in (0, 1):
        make_run(tmp_path / "study" / "runs" / f"tsm_resnet_tiny-seed{seed}", seed=seed)
    out = ["--out", str(tmp_path / "r.html")]
    for arguments in (
        ["runs", str(tmp_path)],
        ["models"],
        ["report", *map(str, (tmp_path / "study" / "runs").iterdir()), *out],
        ["judge", *map(str, (tmp_path / "study" / "runs").iterdir()), *out],
        [
            "fuse",
            *map(str, (tmp_path / "study" / "runs").iterdir()),
            "--weights",
            "equal",
            "--out",
            str(tmp_path / "fused"),
        ],
        ["describe", str(odd_manifest(tmp_path / "set.csv"))],
        ["doctor", str(odd_manifest(tmp_path / "set.csv")), "--quick"],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        tables = [line for line in result.stdout.splitlines() if "  " in line.strip()]
        assert all(cell_len(line) <= int(columns) for line in tables), arguments


def odd_manifest(path):
    """A manifest of two videos, whose classes are markup."""
    columns = {
        "id": ["1", "2"], "path": ["1.mp4", "2.mp4"], "start_frame": [0, 0], "num_frames": [9, 9], "label": ["[/b]", "\x1b[31mA"],
        "group": ["", ""], "fps": [25.0, 25.0], "width": [64, 64], "height": [64, 64], "sha256": ["1", "2"],
        "split": ["train", "test"],
    }  # fmt: skip
    from_columns(columns, classes=("[/b]", "\x1b[31mA"), root=path.parent, mirror={}, where=str(path)).save(path)
    return path


def test_names_in_the_tables_of_commands_are_no_markup(tmp_path):
    odd = tmp_path / "d [/x]"
    make_run(odd / "run[/b]", model="[bold]m:f[/bold]", classes=("[/b]run", "\x1b[31mA\x07"))
    result = CliRunner().invoke(app, ["runs", str(odd)])
    assert result.exit_code == 0
    assert "run[/b]" in result.stdout
    assert "[bold]m:f[/bold]" in result.stdout
    (odd / "[b]").mkdir()
    described = CliRunner().invoke(app, ["describe", str(odd_manifest(odd / "[b]" / "set.csv"))])
    assert described.exit_code == 0, described.output
    assert "[b]/set.csv" in described.stdout
    make_run(odd / "other[/i]", model="[i]m:g[/i]", classes=("[/b]run", "\x1b[31mA\x07"))
    words = ["fuse", str(odd / "run[/b]"), str(odd / "other[/i]"), "--weights", "equal", "--out", str(odd / "[u]fused")]
    fused = CliRunner().invoke(app, words)
    assert fused.exit_code == 0, fused.output
    assert "[u]fused" in fused.stdout
    assert "[i]m:g[/i]" in fused.stdout
    made = CliRunner().invoke(app, ["report", str(odd / "run[/b]"), "--out", str(tmp_path / "[red]r.html")])
    assert made.exit_code == 0
    assert "[red]r.html" in made.output
    assert "\x1b" not in made.output
