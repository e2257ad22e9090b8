"""The notebooks of the course: stored with the outputs of a whole run, which are those that a new run gives."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
COURSE = ROOT / "docs" / "course"
SHORTEST = "ucf101_tsn_vgg16"
"""Notebook that CI runs."""
MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_course", COURSE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = sorted(path.stem for path in COURSE.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_asks_a_question_shows_pictures_and_asserts_its_answer(make, name):
    notebook = make.stored(name)
    first, code = notebook.cells[0], [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "?" in first.source
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it whole: docs/course/make.py"
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds & {"image/svg+xml", "image/png", "image/jpeg"}
    assert re.search(r"^assert ", code[-1].source, flags=re.M), "the last cell asserts what the text claims"
    assert (COURSE / f"{name}.ipynb").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_names_no_folder_of_the_machine_that_ran_it(name):
    text = (COURSE / f"{name}.ipynb").read_text()
    assert not re.search(r"/(?:tmp|work|home|root|private|var/folders)/\w", text)


def test_the_index_of_the_course_has_every_notebook():
    page = (ROOT / "docs" / "course.md").read_text()
    assert {name for name in NAMES if f"(course/{name}.ipynb)" not in page} == set()


def test_drift_is_found(make):
    def of(text, number="1", tags=()):
        cell = nbformat.v4.new_code_cell("print()", metadata={"tags": list(tags)})
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{text} {number}\n")]
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# What?"), cell])

    assert make.differences(of("a"), of("a")) == []
    assert make.differences(of("a"), of("b"))[2:] == ["@@ -1 +1 @@", "-a 1", "+b 1"]
    assert make.differences(of("a"), of("a", "1.5e-3")) != []
    assert make.differences(of("a"), of("a", "1.5e-3"), words=True) == []
    assert make.differences(of("a"), of("b"), words=True) != []
    assert make.differences(of("a", tags=["varies"]), of("b", tags=["varies"])) == []


def test_a_run_is_whole_on_one_thread_and_leaves_nothing(make, tmp_path, monkeypatch):
    cell = nbformat.v4.new_code_cell(
        "import os, sys\nfrom pathlib import Path\nfrom tempfile import mkdtemp\n"
        "work = Path(mkdtemp())\nprint(work / 'set.csv')\nprint('progress', file=sys.stderr)\nos.environ['OMP_NUM_THREADS']"
    )
    fresh, seconds = make.run(nbformat.v4.new_notebook(cells=[cell]))
    texts = [output.get("text") or output["data"]["text/plain"] for output in fresh.cells[0].outputs]
    assert texts == ["set.csv\n", "'1'"]
    assert 0 < seconds < 600


def test_a_notebook_that_fails_is_told_and_stays_as_it_is(make, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make, "COURSE", tmp_path)
    cells = [nbformat.v4.new_code_cell("assert not 'so', 'TSN is better'")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "wrong.ipynb")
    before = (tmp_path / "wrong.ipynb").read_bytes()
    monkeypatch.setattr("sys.argv", ["make.py"])
    with pytest.raises(SystemExit) as stopped:
        make.main()
    assert stopped.value.code == 1
    assert "wrong: a cell fails" in (said := capsys.readouterr().out)
    assert "TSN is better" in said
    assert (tmp_path / "wrong.ipynb").read_bytes() == before


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one == SHORTEST else pytest.mark.slow) for one in NAMES]
)
def test_a_new_run_says_what_is_stored(make, name):
    """Words here; `python docs/course/make.py --check` compares figures, too, on the machine that stored them."""
    before = make.stored(name)
    after, _ = make.run(before)
    assert make.differences(before, after, words=True) == []
