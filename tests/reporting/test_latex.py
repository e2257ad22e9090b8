"""Tables as LaTeX: escaped, of one width, and accepted by LaTeX itself where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_runs import PAIRS, make_run

from muybridge.analysis.comparison import compared
from muybridge.reporting.latex import PACKAGES, escaped, tabular
from muybridge.reporting.report import Report

ODD = "tsm & co_1 {x} $5 # ~ ^ \\ <b> | \"q\" 'z' `c` -- --- [a] *b* 3 % × – …"


def fault_of(text):
    """What LaTeX would refuse in a `tabular`, or print otherwise than it is written; empty if nothing."""
    opening, *lines, closing = [line for line in text.splitlines() if not line.startswith("%")]
    found = re.fullmatch(r"\\begin\{tabular\}\{((?:[lr]|p\{7cm\})+)\}", opening)
    if not found or closing != r"\end{tabular}":
        return "the environment"
    columns = len(re.findall(r"[lr]|p\{7cm\}", found[1]))
    for line in lines:
        if line in (r"\toprule", r"\midrule", r"\bottomrule"):
            continue
        bare = re.sub(r"\\[{}$&#%_]", "", line.removesuffix(r" \\"))
        if not line.endswith(r" \\") or bare.count("&") != columns - 1:
            return f"{bare.count('&') + 1} of {columns} columns: {line}"
        if bare.count("{") != bare.count("}") or bare.count("$") % 2:
            return f"a brace or a formula is open: {line}"
        if re.search(r"[#%^~<>|\"]|(?<![_\\])_", bare):
            return f"a character has a meaning: {line}"
        if re.match(r"[*\[]", line):
            return f"an option of the line before: {line}"
    return ""


def test_text_is_escaped_and_every_row_has_every_column():
    text = tabular(["model", "a_b", "c"], [[ODD, "0.1", "x"], ["[first]", "–", "*"]])
    assert fault_of(text) == ""
    assert r"tsm \& co\_1 \{x\} \$5 \# \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}b" in text
    assert "{-}{-} {-}{-}{-} {[}a{]} {*}b{*} 3 \\% $\\times$ -- \\dots{}" in text


@pytest.mark.parametrize(
    ("broken", "told"),
    [("a & b", "columns"), ("a {", "open"), ("a $b", "open"), ("50 %", "meaning"), ("a_b", "meaning"), ("[a", "option")],
)  # fmt: skip
def test_the_checker_finds_what_latex_would_refuse(broken, told):
    assert told in fault_of(f"\\begin{{tabular}}{{l}}\n\\toprule\n{broken} \\\\\n\\bottomrule\n\\end{{tabular}}\n")


def test_signs_of_numbers_are_mathematics_and_those_of_names_are_not():
    assert escaped("+0.800 [-0.123, +1,234.5]") == "$+0.800$ {[}$-0.123$, $+1{,}234.5${]}"
    assert escaped("i3d-r50 of 2-3") == "i3d-r50 of 2-3"
    assert escaped("0.812 [0.700, 0.900]") == "0.812 {[}0.700, 0.900{]}"


def test_numbers_are_to_the_right_and_baselines_below_a_rule():
    rows = [["a", "0.912 [0.9, 0.95]", "yes", "1.80 G", "< 0.001"], ["chance", "0.100", "–", "–", "–"]]
    text = tabular(["model", "top-1", "guess", "MACs", "p"], rows, foot=1)
    assert r"\begin{tabular}{lrlrr}" in text
    assert text.splitlines()[-5:-2] == [
        text.splitlines()[-5], r"\midrule", r"chance & 0.100 & -- & -- & -- \\"
    ]  # fmt: skip
    assert text.splitlines()[-5].startswith("a & 0.912")


def test_letters_that_pdflatex_lacks_are_said():
    assert "LuaLaTeX" not in tabular(["a"], [["Müller, Łódź"]])
    assert "LuaLaTeX or XeLaTeX with a font that has る 走" in tabular(["a"], [["走る"]])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The tables of a report of odd names."""
    folder = tmp_path_factory.mktemp("latex")
    classes = (ODD, "left", "right", "open", "close", "100% #1", "a_b^c", "é")
    runs = [
        make_run(folder / m, model=f"{m}_resnet18", classes=classes, accuracy=a, videos=80, pairs=PAIRS, views=1,
                 speed={"max_batch_size": 512, "max_batch_train_clips_per_s": 10.25})
        for m, a in (("tsm", 0.9), ("tam", 0.6))
    ]  # fmt: skip
    Report.of({"set": compared(runs)}, beside="ucf101").write(folder / "report.html")
    return folder / "report.files"


def test_every_table_lies_beside_its_csv(written):
    tables = sorted(written.glob("*.tex"))
    assert [file.stem for file in tables] == sorted(file.stem for file in written.glob("*.csv"))
    assert {"result", "metrics", "costs", "per-class", "pairs", "data", "protocol"} <= {file.stem for file in tables}
    faults = {file.name: fault for file in tables if (fault := fault_of(file.read_text()))}
    assert not faults


@pytest.mark.slow
def test_latex_compiles_every_table(written, tmp_path):
    compiler = next(filter(None, map(shutil.which, ("pdflatex", "tectonic", "lualatex"))), None)
    if compiler is None:
        pytest.skip("no LaTeX here (Debian: texlive-latex-base and texlive-latex-recommended)")
    body = "\n\n".join(rf"\input{{{file.with_suffix('')}}}" for file in sorted(written.glob("*.tex")))
    document = rf"\documentclass{{article}}\usepackage[T1]{{fontenc}}{PACKAGES}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "all.tex").write_text(document)
    options = [] if Path(compiler).name == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    ran = subprocess.run([compiler, *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 1000
