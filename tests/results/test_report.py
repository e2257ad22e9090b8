"""The report's files, its charts as drawn (vl-convert), and, marked slow, the page in a real browser."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import vl_convert
from made_runs import CLASSES, PAIRS, make_run

from muybridge.recipe import Recipe, fields
from muybridge.results import figures, report
from muybridge.results.comparison import compared
from muybridge.results.report import Section, Table, markdown, render, write_report


class Page(HTMLParser):
    """What a page fetches, and its elements by tag."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.tags, self.ids, self.headings = [], [], [], []
        self.heading = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.heading = tag == "h2"
        self.ids += [value for name, value in attrs if name == "id"]
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data", "action", "xlink:href")]

    def handle_data(self, data):
        if self.heading:
            self.headings.append(data.strip())
            self.heading = False


@pytest.fixture
def near_equal(tmp_path):
    """Five models of nearly the same cost, two seeds, two folds, groups, pairs."""
    macs = {"tsn": 50.0e6, "tsm": 50.7e6, "tea": 51.5e6, "tdn": 52e6, "ctnet": 50.2e6}
    return [
        make_run(
            tmp_path / f"{model}-{seed}-{fold}", model=model, seed=seed, fold=fold, groups=4, pairs=PAIRS,
            macs=count, params=count / 150, accuracy=0.6 + 0.05 * place,
        )
        for place, (model, count) in enumerate(macs.items()) for seed in (0, 1) for fold in (1, 2)
    ]  # fmt: skip


def drawn_texts(chart):
    """Every text of the chart that is seen."""
    found = re.findall(r"<text([^>]*)>([^<]*)</text>", vl_convert.vegalite_to_svg(chart.to_dict()))
    return [text for attributes, text in found if 'opacity="0"' not in attributes]


def numbers(texts):
    return [float(text) for text in texts if re.fullmatch(r"\d+(\.\d+)?", text)]


def rows_of(chart):
    """The rows that a layered chart's layers share, or the last layer's."""
    spec = chart.to_dict()
    return spec["data"]["values"] if "data" in spec else spec["layer"][-1]["data"]["values"]


# --- files


def test_the_page_and_its_tables(tmp_path, near_equal):
    out = tmp_path / "deep" / "report.html"
    comparison = write_report(near_equal, out=out)
    header, rows = comparison.table()
    assert list(csv.reader(out.with_suffix(".table.csv").read_text().splitlines())) == [header, *rows]
    assert json.loads(out.with_suffix(".results.json").read_text())["models"][0]["model"] == rows[0][0]
    assert out.with_suffix(".table.md").read_text().splitlines()[2].startswith(f"| {rows[0][0]} | {rows[0][1]} |")
    text = out.read_text()
    for cell in rows[0]:
        assert cell in text
    for finding in comparison.findings():
        assert finding.split(":")[0] in text
    assert "<title>5 models on set</title>" in text


def test_sections_appear_where_they_have_something_to_say(tmp_path):
    plain = Page(render(compared([make_run(tmp_path / "a", epochs=0)]), title="t")).headings
    assert plain == ["Result", "Accuracy against cost", "Confusion", "Protocol"]
    runs = [
        make_run(tmp_path / "b", pairs=PAIRS),
        make_run(tmp_path / "c", model="m", pairs=PAIRS, changes={"optim.lr": 0.5}),
    ]
    full = Page(render(compared(runs), title="t")).headings
    assert full == [
        "Result", "What differs beside the model", "Accuracy against cost", "Does it use time?", "Training and validation",
        "Confusion", "Protocol",
    ]  # fmt: skip


def test_the_page_is_one_file_that_fetches_nothing(tmp_path, near_equal):
    text = render(compared(near_equal), title="t")
    page = Page(text)
    assert page.fetched, "the icon at least, so that no browser asks for /favicon.ico"
    assert all(address.startswith(("data:", "#")) for address in page.fetched)
    assert 'rel="icon"' in text
    assert {"iframe", "img", "object"}.isdisjoint(page.tags)
    assert "@import" not in text
    assert not re.search(r"url\(\s*['\"]?(https?:)?//", text.split("</style>")[0])


def test_every_chart_has_its_figure(near_equal):
    text = render(compared(near_equal), title="t")
    charts = json.loads(re.search(r"^const charts = (.*);$", text, re.MULTILINE)[1])
    page = Page(text)
    assert page.tags.count("figure") == len(charts) == 1 + 1 + 1 + 2 + 5
    assert [name for name in page.ids if name.startswith("chart")] == [f"chart{i}" for i in range(len(charts))]
    assert text.count("aria-label=") == len(charts)


def test_names_are_text_never_markup(tmp_path):
    evil = "<img src=x onerror=alert(1)></script><script>"
    run = make_run(tmp_path / "a", model=f"m:{evil}", classes=(evil, "b"), videos=20)
    text = render(compared([run]), title=evil)
    page = Page(text)
    assert "img" not in page.tags
    assert page.tags.count("script") == 2
    assert "&lt;img" in text


def test_long_names_may_wrap_and_short_ones_stay_whole(tmp_path):
    long = "my_research_package.models:build_the_longest_possible_network_name_v2"
    runs = [make_run(tmp_path / "a", model=long, accuracy=0.9), make_run(tmp_path / "b")]
    text = render(compared(runs), title="t")
    assert "longest_<wbr>possible_<wbr>network" in text
    assert "<td>tsm_resnet_tiny</td>" in text


def test_a_bar_in_a_name_does_not_break_the_markdown():
    assert markdown(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |\n"


def test_the_protocol_lists_every_field_that_is_not_compared(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", model="m", changes={"optim.lr": 0.5})]
    (section,) = [s for make in report.SECTIONS if (s := make(compared(runs))) and s.title == "Protocol"]
    listed = {row[0]: row[1] for row in section.tables[0].rows}
    assert set(listed) == set(fields(Recipe)) - {"model.name", "seed", "data.fold", "model.source_sha256"}
    assert listed["optim.lr"] == "0.01 · 0.5"
    assert str(tmp_path / "a") in section.details[0][1]


def test_a_section_is_one_function(tmp_path, monkeypatch):
    def videos(comparison):
        return Section("Mine", text=("I was here.",), tables=(Table(["x"], [["41"]]),))

    monkeypatch.setattr(report, "SECTIONS", (*report.SECTIONS, videos))
    text = render(compared([make_run(tmp_path / "a")]), title="t")
    assert Page(text).headings[-1] == "Mine"
    assert "I was here." in text


def test_the_title_says_what_was_compared(tmp_path):
    a = make_run(tmp_path / "a", changes={"data.manifest": "/data/ucf101/manifest.csv"})
    assert report.default_title(compared([a])) == "tsm_resnet_tiny on ucf101"
    b = make_run(tmp_path / "b", model="m")
    assert report.default_title(compared([b, a])) == "2 models on set"
    write_report([a], out=tmp_path / "report.html", title="Mine & yours")
    assert "<title>Mine &amp; yours</title>" in (tmp_path / "report.html").read_text()


def test_reports_need_no_torch(tmp_path):
    make_run(tmp_path / "a", pairs=PAIRS)
    code = (
        "import sys; from pathlib import Path; from muybridge.runs import Run; "
        "from muybridge.results.report import write_report; "
        "write_report([Run(Path(sys.argv[1]))], out=Path(sys.argv[1]) / 'report.html'); "
        "print([name for name in sys.modules if name.split('.')[0] == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- charts, as drawn


def test_accuracy_ticks_never_pass_1(tmp_path):
    accuracies = {"a": 1.0, "b": 0.995}
    runs = [make_run(tmp_path / name, model=name, videos=400, accuracy=value) for name, value in accuracies.items()]
    comparison = compared(runs)
    for chart in (figures.accuracy_against_macs(comparison), figures.accuracies(comparison)):
        ticks = numbers(drawn_texts(chart))
        assert len(ticks) >= 3
        assert max(ticks) == 1.0


def test_multiply_adds_are_written_with_m_and_g(tmp_path):
    macs = {"small": 40e6, "large": 2.4e9}
    comparison = compared([make_run(tmp_path / name, model=name, macs=count) for name, count in macs.items()])
    texts = drawn_texts(figures.accuracy_against_macs(comparison))
    assert {"50M", "500M", "2G"} <= set(texts)
    assert not any(re.fullmatch(r"[\d.]+[mB]", text) for text in texts)


def test_the_parameter_key_shows_no_zero(tmp_path):
    runs = [make_run(tmp_path / str(count), model=str(count), params=count) for count in (310_746, 11_200_000)]
    texts = drawn_texts(figures.accuracy_against_macs(compared(runs)))
    assert {"310k", "11M"} <= set(texts)
    assert {"0", "0.0", "0M"}.isdisjoint(texts)


def test_models_of_the_same_cost_are_moved_apart_and_others_stay(near_equal, tmp_path):
    rows = rows_of(figures.accuracy_against_macs(compared(near_equal)))
    drawn = sorted((row["drawn"], row["MACs"]) for row in rows)
    assert [macs for _, macs in drawn] == sorted(row["MACs"] for row in rows)  # the order stays
    gaps = [math.log(b / a) for (a, _), (b, _) in pairwise(drawn)]
    whole = math.log(52 * 1.7 / (50 / 1.7))
    assert min(gaps) / whole * figures.WIDTH > 25  # pixels: about a bubble
    macs = {"a": 1e6, "b": 1e9}
    far = compared([make_run(tmp_path / name, model=name, macs=count) for name, count in macs.items()])
    for row in rows_of(figures.accuracy_against_macs(far)):
        assert row["drawn"] == pytest.approx(row["MACs"])


def test_a_hundred_models_stay_inside_the_chart():
    positions = np.concatenate([np.full(60, 10.0), np.full(40, 500.0)])
    moved = figures._apart(positions, gap=0.2)
    assert moved.min() > 0
    assert np.diff(np.sort(moved)).min() == pytest.approx(0.2)
    assert moved[:60].mean() == pytest.approx(10)


def test_empty_cells_are_white_and_full_ones_dark(tmp_path):
    comparison = compared([make_run(tmp_path / "a", accuracy=1.0)])
    svg = vl_convert.vegalite_to_svg(figures.confusion(comparison, comparison.models[0]).to_dict())
    fills = re.findall(r'aria-roledescription="rect mark"[^>]*fill="([^"]+)"', svg)
    assert len(fills) == len(CLASSES) ** 2
    assert fills.count("white") == len(CLASSES) ** 2 - len(CLASSES)
    assert fills.count("rgb(8, 48, 107)") == len(CLASSES)


def test_a_matrix_of_101_classes_stays_small_and_legible(tmp_path):
    classes = [f"class_{i:03d}" for i in range(101)]
    comparison = compared([make_run(tmp_path / "a", classes=classes, videos=202)])
    chart = figures.confusion(comparison, comparison.models[0])
    assert chart.to_dict()["width"] <= 440
    assert len(rows_of(chart)) <= 202
    named = [text for text in drawn_texts(chart) if text.startswith("class_")]
    assert 20 < len(named) < 101  # labels that would overlap are left out


@pytest.mark.parametrize("epochs", [1, 2, 14, 100])
def test_curves_show_every_epoch_from_one_on(tmp_path, epochs):
    comparison = compared([make_run(tmp_path / "a", epochs=epochs)])
    for quantity in ("loss", "accuracy"):
        chart = figures.curves(comparison, quantity)
        texts = drawn_texts(chart)
        assert {"1", str(epochs)} <= set(texts)
        assert len({row["epoch"] for row in rows_of(chart)}) == epochs
        assert any("val" in text and "train" in text for text in texts)  # the axis says what is plotted


def test_a_loss_that_was_not_a_number_is_not_drawn(tmp_path):
    run = make_run(tmp_path / "a")
    run.write_metrics({"kind": "train", "epoch": 5, "step": 50, "loss": float("nan"), "clip_top1": 0.5, "lr": 0.1})
    rows = rows_of(figures.curves(compared([run]), "loss"))
    assert all(math.isfinite(row["value"]) for row in rows)
    assert "NaN" not in render(compared([run]), title="t").split("const charts")[1]


def test_long_names_are_shortened_in_charts_and_stay_distinct(tmp_path):
    base = "package_with_a_long_name.module:"
    models = [base + "build_first_long_network_name", base + "build_other_long_network_name", base + "x" * 60]
    runs = [make_run(tmp_path / str(i), model=model) for i, model in enumerate(models)]
    shown = [row["name"] for row in rows_of(figures.accuracies(compared(runs)))]
    assert len(set(shown)) == 3
    assert len(min(shown, key=len)) <= figures.LONGEST_NAME


# --- in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

PROBE = """<script type="module">
while (document.body.dataset.ready !== "yes") await new Promise(done => setTimeout(done, 20));
const wide = box => box.scrollWidth - box.clientWidth;
const figures = [...document.querySelectorAll("figure")];
parent.postMessage({
  ready: document.body.dataset.ready,
  width: innerWidth,
  overflow: wide(document.documentElement),
  figures: figures.length,
  empty: figures.filter(figure => !(figure.querySelector("svg")?.getBoundingClientRect().width > 50)).length,
  cut: [...document.querySelectorAll(".scroll")].filter(box => wide(box) > 1).length,
}, "*");
</script>
</body>"""

FRAME = """<body><iframe src="report.html" style="border: 0; width: {width}px; height: 4000px"></iframe>
<script>onmessage = message => Object.assign(document.body.dataset, message.data);</script></body>"""
"""A browser's window has a least width, above a telephone's; a frame has none."""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("width", [1280, 800, 390])
@pytest.mark.parametrize("case", ["near_equal", "long"])
def test_the_page_in_a_browser(tmp_path, request, case, width):
    if case == "near_equal":
        runs = request.getfixturevalue("near_equal")
    else:
        classes = [f"class_{i:03d}" for i in range(101)]
        long = "my_research_package.models:build_the_longest_possible_network_name_v2"
        runs = [
            make_run(tmp_path / m[:3], model=m, classes=classes, videos=202, epochs=1) for m in (long, "tsm_resnet50")
        ]
    page = tmp_path / "report.html"
    write_report(runs, out=page)
    before, _, after = page.read_text().rpartition("</body>")
    page.write_text(before + PROBE + after)
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr", "--v=0", "--window-size=1400,2000", "--virtual-time-budget=20000", "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    found = dict(re.findall(r'data-(\w+)="(\w+)"', re.search(r"<body[^>]*>", done.stdout)[0]))
    assert found.pop("cut") == "0" or width < 1280 or case == "long"  # every column is seen
    charts = 10 if case == "near_equal" else 6
    assert found == {"ready": "yes", "width": str(width), "overflow": "0", "figures": str(charts), "empty": "0"}
