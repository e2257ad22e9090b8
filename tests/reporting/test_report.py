"""The report's files and what its sections say. (Charts: test_charts.py; the page in a browser: test_page.py.)"""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_runs import CLASSES, PAIRS, foreign, make_run

from muybridge.analysis.comparison import compared, compared_runs
from muybridge.analysis.findings import findings
from muybridge.analysis.verdict import study_verdict, verdict_on
from muybridge.data.sampling import ORDERS
from muybridge.data.sets.motions import motions
from muybridge.errors import UserError
from muybridge.recipe import Recipe, fields
from muybridge.reporting import report, sections
from muybridge.reporting.report import Report, markdown_table
from muybridge.reporting.sections import Chapter, Section, Table, parts, result
from muybridge.text import markdown


class Page(HTMLParser):
    """What a page fetches, and its elements by tag."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.tags, self.ids, self.headings, self.labels = [], [], [], [], []
        self.heading = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.heading = tag == "h2"
        self.ids += [value for name, value in attrs if name == "id"]
        self.labels += [value for name, value in attrs if name in ("aria-label", "alt")]
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data", "action", "xlink:href")]

    def handle_data(self, data):
        if self.heading:
            self.headings.append(data.strip())
            self.heading = False


def page_of(runs, **asked):
    return Report.of({"set": compared(runs)}, **asked).page()


def section_of(runs, title, **asked):
    """The section of that title; none behind it is made."""
    chapter = Chapter(compared(runs), **asked)
    return next(section for make in sections.SECTIONS if (section := make(chapter)) and section.title == title)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs, which no test changes."""
    folder = tmp_path_factory.mktemp("two")
    return [
        make_run(folder / m, model=m, accuracy=a, pairs=PAIRS)
        for m, a in (("tsn_resnet18", 0.6), ("tam_resnet18", 0.9))
    ]


@pytest.fixture(scope="module")
def report_of_two(two):
    return Report.of({"set": compared(two)})


@pytest.fixture(scope="module")
def page_of_two(report_of_two):
    return report_of_two.page()


# --- files


@pytest.mark.drawings
def test_everything_lies_beside_the_page(tmp_path, report_of_two):
    out = tmp_path / "deep" / "report.html"
    made = report_of_two
    comparison = made.comparisons["set"]
    made.write(out)
    folder = out.with_suffix(".files")
    rows = comparison.table()[1]
    [head, *lines] = csv.reader((folder / "result.csv").read_text().splitlines())
    assert head[:4] == ["model", "video top-1", "video top-1 low", "video top-1 high"]
    best = comparison.models[0].accuracy
    assert [float(cell) for cell in lines[0][1:4]] == pytest.approx([best.value, best.low, best.high], abs=5e-4)
    assert [line[0] for line in lines] == [*(row[0] for row in rows), "chance", "majority class"]
    confused = list(csv.reader((folder / "confusion.csv").read_text().splitlines()))[1:]
    assert sum(int(line[3]) for line in confused) == sum(model.num_videos for model in comparison.models)
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["models"][0]["model"] == rows[0][0]
    assert told["findings"] == findings(comparison)
    assert sorted(told["files"]) == sorted(file.name for file in folder.iterdir())
    first = comparison.models[0]
    shares = dict(zip(comparison.classes, first.class_accuracy_K.tolist(), strict=True))
    assert told["models"][0]["class_accuracy"] == pytest.approx(shares)
    assert sum(count for _, _, count in told["models"][0]["confusion"]) == first.num_videos
    text = out.with_suffix(".md").read_text()
    for section in made.chapters[0].sections:
        assert f"## {section.title}\n" in text
        for figure in section.figures:
            assert (folder / f"{figure.name}.svg").read_text().startswith("<svg")
            assert (folder / f"{figure.name}.png").read_bytes().startswith(b"\x89PNG")
            assert f"](report.files/{figure.name}.svg)" in text
        for table in section.tables:
            assert (folder / f"{table.name}.csv").exists()
    for named in re.findall(r"\]\(report\.files/([^)]+)\)", text):
        assert (folder / named).exists()
    for finding in findings(comparison):
        assert finding.replace("[", "\\[").replace("]", "\\]") in text
        assert finding.split(":")[0] in out.read_text()
    assert "<title>2 settings on set</title>" in out.read_text()


def test_files_of_an_earlier_report_go_and_yours_stay(tmp_path, two, report_of_two):
    folder = tmp_path / "report.files"
    folder.mkdir()
    (folder / "mine.csv").write_text("mine")
    report_of_two.write(tmp_path / "report.html")
    assert (folder / "confusion-2-tsn_resnet18.svg").exists()
    Report.of({"set": compared(two[:1])}).write(tmp_path / "report.html")
    assert not (folder / "confusion-2-tsn_resnet18.svg").exists()
    assert (folder / "mine.csv").read_text() == "mine"


def test_a_report_is_an_html_file(tmp_path, report_of_two):
    with pytest.raises(UserError, match=r"'.*out\.pdf' is not one \.html file\. Name one, for example out-1\.html"):
        report_of_two.write(tmp_path / "out.pdf")
    (tmp_path / "dir.html").mkdir()
    with pytest.raises(UserError, match=r"for example dir-1\.html"):
        report_of_two.write(tmp_path / "dir.html")


def test_what_markdown_would_read_is_escaped(tmp_path):
    runs = [make_run(tmp_path / m, model=m, classes=("<x>", "*bold*", "`c`"), videos=30) for m in "ab"]
    Report.of({"set": compared(runs)}).write(tmp_path / "my (1).html")
    text = (tmp_path / "my (1).md").read_text()
    assert "&lt;x>" in text
    assert "\\*bold\\*" in text
    assert "](my%20%281%29.files/accuracy.svg)" in text


def test_sections_appear_where_they_have_something_to_say(tmp_path):
    plain = Page(page_of([make_run(tmp_path / "a", epochs=0)])).headings
    assert plain == [
        "Verdict",
        "Questions",
        "Accuracy",
        "Cost",
        "Per-class accuracy",
        "Confusion matrix",
        "Calibration",
        "Risk and coverage",
        "Data",
        "Protocol",
    ]
    runs = [
        make_run(tmp_path / "b", pairs=PAIRS),
        make_run(tmp_path / "c", model="m", pairs=PAIRS, changes={"optim.lr": 0.5}),
    ]
    assert Page(page_of(runs)).headings == [
        "Verdict", "Questions", "Accuracy", "Protocol differences", "Significance", "Cost",
        "Time-reversed classes", "Per-class accuracy", "Per-class gains", "Confusion matrix",
        "Disagreements", "Calibration", "Risk and coverage", "Data", "Training health", "Learning curves", "Protocol",
    ]  # fmt: skip


def test_the_page_is_one_file_that_fetches_nothing(page_of_two):
    text = page_of_two
    page = Page(text)
    assert page.fetched, "the icon at least, so that no browser asks for /favicon.ico"
    assert all(address.startswith(("data:", "#")) for address in page.fetched)
    assert 'rel="icon"' in text
    assert {"iframe", "object", "link rel=stylesheet"}.isdisjoint(page.tags)
    assert "@import" not in text.split("</style>")[0]
    assert not re.search(r"url\(\s*['\"]?(https?:)?//", text.split("</style>")[0])


def test_every_chart_has_its_place_and_its_words(two, page_of_two):
    text = page_of_two
    charts = json.loads(re.search(r"^const charts = (.*);$", text, re.MULTILINE)[1])
    page = Page(text)
    assert [name for name in page.ids if name.startswith("chart")] == [f"chart{i}" for i in range(len(charts))]
    described = [label for label in page.labels if not label.startswith("Sections")]
    assert len(described) == len(charts)
    assert all(len(label) > 20 for label in described)
    comparison = compared(two)
    assert any(str(comparison.models[0].accuracy) in label for label in described)  # the figures, not the chart's kind


def test_every_link_of_the_page_leads_somewhere(page_of_two):
    page = Page(page_of_two)
    assert {address[1:] for address in page.fetched if address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_names_are_text_never_markup(tmp_path):
    evil = "<img src=x onerror=alert(1)></script><script>"
    runs = [make_run(tmp_path / m, model=f"{m}:{evil}", classes=(evil, "b"), videos=20) for m in "mn"]
    made = Report.of({evil: compared(runs)}, title=evil)
    text = made.page()
    page = Page(text)
    assert "img" not in page.tags
    assert page.tags.count("script") == 2
    assert "&lt;img" in text
    made.write(tmp_path / "report.html")
    assert all(re.fullmatch(r"[\w.-]+", file.name) for file in (tmp_path / "report.files").iterdir())


@pytest.mark.drawings
def test_characters_that_no_drawing_can_show_are_drawn_as_escapes(tmp_path):
    """The renderer ends the process at some of them."""
    odd = ("\x1b[31mA\x07", "\x00b", "c\ufffe", "\u202ed", "e\x9b")
    run = make_run(tmp_path / "run", model="\x1b[2J:f", classes=odd, accuracy=0.5)
    Report.of({"\x1bset": compared([run, make_run(tmp_path / "b", classes=odd)])}, title="\x1b]0;T\x07").write(
        tmp_path / "r.html"
    )
    for file in [tmp_path / "r.html", tmp_path / "r.md", *(tmp_path / "r.files").glob("*.svg")]:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ufffe]", file.read_text())
    assert "\\x1b[31mA\\x07" in (tmp_path / "r.html").read_text()


def test_names_are_no_formulas_in_a_spreadsheet(tmp_path):
    names = ('=HYPERLINK("http://evil")', "@SUM(1)", "+1+1", "-2+3", "plain")
    runs = [
        make_run(tmp_path / "a", model="=m:f", classes=names),
        make_run(tmp_path / "b", classes=names, accuracy=0.6),
    ]
    Report.of({"set": compared(runs)}).write(tmp_path / "r.html")
    cells = set()
    for file in (tmp_path / "r.files").glob("*.csv"):
        with file.open(newline="") as lines:
            cells |= {cell for row in csv.reader(lines) for cell in row}
    assert {f"'{name}" for name in names[:4]} <= cells
    assert "plain" in cells
    numbers = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?%?")
    assert [cell for cell in cells if cell[:1] in ("=", "+", "-", "@") and not numbers.fullmatch(cell)] == []


def test_settings_that_differ_in_thirty_fields_have_files_of_short_names(tmp_path):
    changes = {
        "clip.num_frames": 16, "clip.size": 112, "clip.sampling": "dense", "clip.stride_frames": 3, "clip.past_end": "repeat",
        "augment.crop": "random", "augment.mirror": False, "augment.color_jitter": 0.3, "optim.lr": 0.0123456789,
        "optim.batch_size": 24, "optim.epochs": 77, "optim.weight_decay": 0.00012345, "optim.momentum": 0.85,
        "optim.warmup_epochs": 3, "optim.clip_grad_norm": 7.5, "optim.label_smoothing": 0.123, "optim.nesterov": True,
        "optim.ema_decay": 0.995, "optim.mixup": 0.2, "optim.cutmix": 0.3, "optim.accumulate": 2, "model.dropout": 0.33,
        "model.temporal_pooling": True, "evaluation.num_clips": 7, "evaluation.num_crops": 3,
        "evaluation.average": "probabilities", "evaluation.checkpoint": "best", "data.on_error": "skip", "precision": "bf16",
        "optim.min_steps": 1234, "checkpoint.keep": 7, "augment.erasing": 0.25,
    }  # fmt: skip
    known = fields(Recipe)
    changes = {field: value for field, value in changes.items() if field in known}
    runs = [make_run(tmp_path / name, changes=values) for name, values in (("a", {}), ("b", changes))]
    made = Report.of({"set": compared(runs)})
    made.write(tmp_path / "r.html")
    names = [file.name for file in (tmp_path / "r.files").iterdir()]
    assert len(changes) >= 20
    assert len({name.lower() for name in names}) == len(names)
    assert max(len(name.encode()) for name in names) <= 120
    assert {
        file["name"] if isinstance(file, dict) else file
        for file in json.loads((tmp_path / "r.json").read_text())["files"]
    } == set(names)


def test_long_names_may_wrap_and_short_ones_stay_whole(tmp_path):
    long = "my_research_package.models:build_the_longest_possible_network_name_v2"
    text = page_of([make_run(tmp_path / "a", model=long, accuracy=0.9), make_run(tmp_path / "b")])
    assert "longest_<wbr>possible_<wbr>network" in text
    assert "<td>tsm_resnet_tiny</td>" in text


def test_a_bar_in_a_name_does_not_break_the_markdown():
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |\n"


def test_a_loss_that_was_not_a_number_does_not_break_the_page(tmp_path):
    run = make_run(tmp_path / "a")
    run.write_metrics({"kind": "train", "epoch": 5, "step": 50, "loss": float("nan"), "clip_top1": 0.5, "lr": 0.1})
    assert "NaN" not in re.search(r"^const charts = (.*);$", page_of([run]), re.MULTILINE)[1]


def test_the_protocol_lists_every_field_that_is_not_compared(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", model="m", changes={"optim.lr": 0.5})]
    section = section_of(runs, "Protocol")
    listed = {row[0]: row[1] for row in section.tables[0].rows}
    assert set(listed) == set(fields(Recipe)) - {
        "model.name",
        "seed",
        "data.fold",
        "model.source_sha256",
        "model.weights_sha256",
    }
    assert listed["optim.lr"] == "0.01 · 0.5"
    assert str(tmp_path / "a") in section.details[0][1]


def test_a_section_is_one_function(two, monkeypatch):
    def videos(chapter):
        return Section("Mine", text=("I was here.",), tables=(Table(["x"], [["41"]]),))

    monkeypatch.setattr(sections, "SECTIONS", (*sections.SECTIONS[-1:], videos))
    text = page_of(two)
    assert Page(text).headings == ["Protocol", "Mine"]
    assert "I was here." in text


def test_the_title_says_what_was_compared(tmp_path):
    a = make_run(tmp_path / "a", changes={"data.manifest": "/data/ucf101/manifest.csv"})
    b = make_run(tmp_path / "b", model="m")
    assert report.default_title({"x": compared([a])}) == "tsm_resnet_tiny on ucf101"
    assert report.default_title({"x": compared([b, a])}) == "2 settings on set"
    judged = foreign(compared([b, a]))
    assert report.default_title({"x": judged}) == "2 models on set"
    [alone] = foreign(compared([a])).models
    of_itself = replace(judged, models=(replace(alone, name="llm2"),), data="llm2")
    assert report.default_title({"x": of_itself}) == "llm2", "predictions with a column of labels name no set"
    other = make_run(tmp_path / "c", classes=("x", "y"), changes={"data.manifest": "/data/two.csv"})
    assert report.default_title(compared_runs([b, other])) == "2 settings on set, two"


@pytest.mark.slow
def test_reports_need_no_torch(tmp_path):
    make_run(tmp_path / "a", pairs=PAIRS)
    code = (
        "import sys; from pathlib import Path; from muybridge.storage.run import Run; "
        "from muybridge.analysis.comparison import compared_runs; from muybridge.reporting import report; "
        "from contextlib import nullcontext; report.drawn = lambda drawings: nullcontext(); "
        "report.Report.of(compared_runs([Run(Path(sys.argv[1]))])).write(Path(sys.argv[1]) / 'report.html'); "
        "print([name for name in sys.modules if name.split('.')[0] == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the answer first


def test_the_verdict_comes_first_on_page_in_text_and_in_figures(tmp_path, two):
    comparison = compared(two)
    found = verdict_on(comparison)
    made = Report.of({"set": comparison})
    first, second = made.chapters[0].sections[:2]
    assert (first.kind, second.kind) == ("verdict", "questions")
    assert (first.headline, first.code) == (found.headline, (found.command,))
    page = made.page()
    assert page.index(f'<p class="headline">{found.headline}') < page.index("<table")
    assert page.count("<dt>") == len(found.numbers) <= 3
    made.write(tmp_path / "r.html")
    text = (tmp_path / "r.md").read_text()
    assert text.splitlines()[:5] == [f"# {made.title}", "", "## Verdict", "", f"**{markdown(found.headline)}**"]
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["verdict"]["headline"] == found.headline
    assert [one["question"] for one in told["questions"]] == [row[0] for row in second.tables[0].rows]


def test_several_data_sets_have_a_verdict_on_all_and_one_each(tmp_path):
    one = [make_run(tmp_path / f"a{m}", model=m, accuracy=a) for m, a in (("m", 0.9), ("n", 0.5))]
    two = [
        make_run(
            tmp_path / f"b{m}", model=m, accuracy=a, classes=("x", "y", "z"), changes={"data.manifest": "/data/b.csv"}
        )
        for m, a in (("m", 0.9), ("n", 0.5))
    ]
    comparisons = compared_runs([*one, *two])
    made = Report.of(comparisons)
    kinds = [[section.kind for section in chapter.sections].count("verdict") for chapter in made.chapters]
    assert kinds == [1, 1, 1]
    assert made.chapters[0].sections[0].headline == study_verdict(comparisons).headline
    told = report.document(comparisons)
    assert told["verdict"]["kind"] == "by_data_set"
    assert [one["verdict"]["model"] for one in told["sets"]] == ["m", "m"]


def test_what_says_nothing_is_a_sentence_in_place_of_a_chart(tmp_path):
    same = np.arange(60) % 10 > 0
    runs = [make_run(tmp_path / m, model=m, correct_N=same, groups=1, epochs=1, pairs=PAIRS) for m in "ab"]
    said = {
        "Accuracy": "intervals reach from 0 to 1", "Significance": "anything from -1 to 1",
        "Time-reversed classes": "intervals reach from 0 to 1", "Per-class gains": "right on the same share of every class",
        "Calibration": "No line is drawn of a (1 bin) and b (1 bin)", "Learning curves": "One epoch was measured",
    }  # fmt: skip
    for title, words in said.items():
        section = section_of(runs, title)
        assert section.figures == ()
        assert words in " ".join(section.text)
        assert not section.has_key
    assert "a loss 0.560, accuracy 0.720" in section_of(runs, "Learning curves").text[0]
    right = [make_run(tmp_path / "right", accuracy=1.0)]
    covered = section_of(right, "Risk and coverage")
    assert covered.figures == ()
    assert covered.text == ("Every answer is right, so leaving the least sure ones out changes nothing.",)
    drawn = [make_run(tmp_path / f"drawn{m}", model=m, accuracy=a, pairs=PAIRS) for m, a in (("a", 0.9), ("b", 0.6))]
    for title in (
        "Accuracy",
        "Significance",
        "Time-reversed classes",
        "Per-class gains",
        "Learning curves",
        "Risk and coverage",
    ):
        assert section_of(drawn, title).figures


# --- what sections say


def test_hours_come_first_where_they_end_training(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", changes={"stop.max_hours": 1.0})]
    by_epochs, by_hours = (section_of([run], "Learning curves") for run in runs)
    assert [figure.name for figure in by_epochs.figures] == ["loss", "training", "loss-hours", "training-hours"]
    assert [figure.name for figure in by_hours.figures] == ["loss-hours", "training-hours", "loss", "training"]


def test_the_page_shows_where_each_model_fails(two, tmp_path):
    section = section_of(two, "Per-class accuracy")
    shown, every = section.tables
    best, second = compared(two).models
    assert shown.header == ["class", "test videos", best.name, second.name]
    assert (shown.most, len(shown.rows)) == (16, len(CLASSES))
    accuracies = [float(row[2]) for row in shown.rows]
    assert accuracies == sorted(accuracies)
    for name, videos, of_best, of_second in shown.rows:
        k = CLASSES.index(name)
        assert (videos, of_best, of_second) == (
            "10", f"{best.class_accuracy_K[k]:.3f}", f"{second.class_accuracy_K[k]:.3f}",
        )  # fmt: skip
    assert every.header == ["model", "class", "test videos", "recall", "precision", "F1"]
    assert (len(every.rows), every.most) == (2 * len(CLASSES), 0)
    assert section.text[-1] == "Precision and F1 of all models are in the file named below."
    many = [make_run(tmp_path / f"m{i}", model=f"m{i}", accuracy=0.9 - i / 20) for i in range(8)]
    of_many = section_of(many, "Per-class accuracy")
    assert of_many.tables[0].header[2:] == [f"m{i}" for i in range(6)]
    assert "of the 6 best of 8" in of_many.text[0]


def test_few_videos_of_a_class_are_those_of_the_test(tmp_path):
    few = make_run(tmp_path / "few", videos=21)
    stored = few.dataset() | {
        "class_sizes": {"train": [63, 0, 0, 0, 0, 0], "val": [4, 5, 5, 5, 2, 0], "test": [4, 4, 4, 3, 3, 3]}
    }
    (few.path / "dataset.json").write_text(json.dumps(stored))
    [alone] = section_of([few], "Per-class accuracy").text
    assert alone.startswith("6 classes of 6 have fewer than 5 test videos")
    assert alone.endswith(": close (3), sit (3), wave (3), left (4), right (4) and open (4).")
    assert section_of([make_run(tmp_path / "enough")], "Per-class accuracy").text == ()


def test_data_is_that_of_the_manifest_or_of_the_runs(filmed, tmp_path):
    runs, _, manifest = filmed
    section = section_of(runs, "Data")
    assert "cannot be used" in section.text[0], "a made run knows another hash"
    assert [row[0] for row in section.tables[0].rows] == ["train", "val", "test"]
    recipe = runs[0].path / "recipe.json"
    values = json.loads(recipe.read_text())
    values["data"]["sha256"] = manifest.sha256()
    known = make_run(tmp_path / "known", model="k", classes=manifest.classes)
    (known.path / "recipe.json").write_text(json.dumps(values))
    known.save_scores("test", runs[0].scores())
    section = section_of([known], "Data")
    assert section.text == ()
    assert [row[0] for row in section.tables[0].rows] == ["train", "val", "test", "all"]
    assert section.tables[0].rows[-1][1] == str(len(manifest))


def test_costs_name_the_front_and_what_is_not_measured(tmp_path):
    runs = [
        make_run(
            tmp_path / "a", model="a", macs=1e7, accuracy=0.7, speed={"forward_clips_per_s": 90.0, "peak_memory_bytes": 2**30}
        ),
        make_run(tmp_path / "b", model="b", macs=2e7, accuracy=0.6),
        make_run(tmp_path / "c", model="c", macs=3e7, accuracy=0.9),
    ]  # fmt: skip
    section = section_of(runs, "Cost")
    assert "multiply-adds: a and c." in section.text[0]
    assert any("peak memory of training: a (2 of 3 are not measured)." in line for line in section.text)
    assert section.tables[1].rows == [["a", "8", "90", "10", "1074 MB", "made, fp32, 2 threads"]]
    assert [figure.name for figure in section.figures] == [
        "cost-macs", "cost-train_speed", "cost-forward_speed", "cost-memory",
    ]  # fmt: skip
    unmeasured = section_of(runs[1:], "Cost")
    assert "muybridge measure STUDY" in unmeasured.text[-1]


def test_what_is_not_known_of_any_row_is_in_the_files_alone(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=a) for m, a in (("a", 0.9), ("b", 0.6))]
    Report.of({"set": compared(runs)}).write(tmp_path / "r.html")
    with (tmp_path / "r.files" / "costs.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [row["model"] for row in stored] == ["a", "b", "chance", "majority class"]
    assert {row["largest batch"] for row in stored} == {"–"}
    text = (tmp_path / "r.md").read_text()
    cost = text[text.index("## Cost") : text.index("## Per-class")]
    assert "| model | parameters | MACs a view | views | MACs × views | video top-1" in cost
    assert "| chance |" not in cost
    assert "| chance |" in text[text.index("## Accuracy") : text.index("## Significance")]
    page = (tmp_path / "r.html").read_text()
    assert ">largest batch<" not in page
    one = make_run(tmp_path / "c", model="c", accuracy=0.5, speed={"max_batch_size": 64})
    shown = section_of([*runs, one], "Cost").tables[0].on_page
    assert "largest batch" in shown.header, "a dash beside a figure says that it is not known"


def test_speeds_of_equal_models_are_those_of_the_machine(tmp_path):
    """b trains twice as fast as a with as many multiply-adds."""
    runs = [make_run(tmp_path / m, model=m, macs=macs) for m, macs in (("a", 1e7), ("b", 1e7), ("c", 2e7))]
    said = "Models with equally many multiply-adds trained at different clips a second"
    assert not any(said in line for line in section_of(runs, "Cost").text)
    timing = runs[1].path / "timing.jsonl"
    lines = [json.loads(line) for line in timing.read_text().splitlines()]
    timing.write_text(
        "".join(json.dumps(line | {"train_clips_per_s": 2 * line["train_clips_per_s"]}) + "\n" for line in lines)
    )
    assert any(said in line for line in section_of(runs, "Cost").text)
    assert not any(said in line for line in section_of(runs[1:], "Cost").text)


def test_published_results_stand_apart(two, page_of_two):
    section = section_of(two, "Published: UCF101, 101 classes", beside="ucf101")
    training = [row for row in section.tables[0].rows if row[4] == "train"]
    assert training
    assert all("training videos" in row[0] for row in training)
    assert "not part of any comparison" in section.text[0]
    assert "Published" not in page_of_two
    with pytest.raises(UserError, match="Did you mean 'ucf101'"):
        Report.of({"set": compared(two)}, beside="ucf_101")


def test_any_two_can_be_held_against_each_other(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=a) for m, a in (("a", 0.9), ("b", 0.7), ("c", 0.5))]
    comparison = compared(runs)
    section = section_of(runs, "Per-class gains", pair=(2, 0))
    gain_K = comparison.models[2].class_accuracy_K - comparison.models[0].class_accuracy_K
    assert section.text[0].startswith("c (A) against a (B), class by class.")
    found = {row[0]: float(row[4]) for row in section.tables[0].rows}
    assert found == pytest.approx(dict(zip(CLASSES, gain_K, strict=True)), abs=1e-3)
    assert [float(row[4]) for row in section.tables[0].rows] == sorted(found.values(), reverse=True)
    text = page_of(runs, pair=("c", "a"))
    assert "c (A) is right and a (B) wrong on" in text
    with pytest.raises(UserError, match=r"--pair: no row 'x' .*Valid: a, b, c"):
        page_of(runs, pair=("a", "x"))
    for pair in (("a",), ("a", "a")):
        with pytest.raises(UserError, match="are not two different rows"):
            page_of(runs, pair=pair)


def test_the_pairs_most_confused_by_hand(tmp_path):
    run = make_run(tmp_path / "a", classes=("x", "y", "z"), videos=30)
    scores = run.scores()
    answer = scores.labels_N.copy()
    answer[:12] = np.array([1, 0, 2, 1, 0, 2, 1, 1, 0, 0, 1, 2])  # labels go 0 1 2 0 1 2 …
    logits = np.repeat(4.0 * np.eye(3, dtype=np.float32)[answer], scores.num_views, 0)
    run.save_scores("test", type(scores)(**{**scores.__dict__, "logits_VK": logits}))
    section = section_of([run], "Confusion matrix")
    rows = {tuple(row[1:3]): row[3:] for row in section.tables[0].rows}
    assert rows["x", "y"] == ["5 of 20", "3", "2"]
    assert rows[("x", "z")] == ["1 of 20", "0", "1"]


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A real set, and two runs with made scores on its test videos: a is right on all, b wrong on those of one class."""
    folder = tmp_path_factory.mktemp("filmed")
    made = motions(folder / "set", clips=60, seed=3)
    from muybridge.data.manifest import Manifest
    from muybridge.storage.scores import Scores

    manifest = Manifest.load(made.manifest)
    rows = manifest.split("test")
    labels_N, ids_N = manifest.labels()[rows], manifest.text("id", rows)
    runs = []
    for model, wrong in (("a", None), ("b", 3)):
        run = make_run(
            folder / model, model=model, classes=manifest.classes, changes={"data.manifest": str(made.manifest)}
        )
        answer = np.where(labels_N == wrong, 0, labels_N)
        run.save_scores("test", Scores(
            manifest.classes, ids_N, labels_N, np.full(len(rows), ""), np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64),
            np.zeros(len(rows), dtype=np.int64), 4.0 * np.eye(len(manifest.classes), dtype=np.float32)[answer],
        ))  # fmt: skip
        runs.append(run)
    return runs, ids_N[labels_N == 3].tolist(), manifest


def test_videos_that_changed_sides_are_shown_with_what_was_said(filmed):
    runs, changed, manifest = filmed
    assert changed
    section = section_of(runs, "Disagreements")
    assert section.text == (
        f"a (A) is right and b (B) wrong on {len(changed)} video{'s' * (len(changed) > 1)}; the other way round on 0.",
    )
    assert sorted(row[0] for row in section.tables[0].rows) == sorted(changed)
    assert len(section.pictures) == len(changed)
    for picture in section.pictures:
        assert picture.jpeg.startswith(b"\xff\xd8")
        assert f"is {manifest.classes[3]}. a: {manifest.classes[3]} (" in picture.caption
        assert f"b: {manifest.classes[0]} (" in picture.caption
    assert section_of(runs, "Disagreements", with_frames=False).pictures == ()


def test_flow_is_named_below_the_frames_and_its_colours_have_one_key(filmed, tmp_path):
    pytest.importorskip("cv2")
    from muybridge.data.stores.flow import flow

    runs, changed, manifest = filmed
    store = flow(runs[0].recipe().data.manifest, out=tmp_path / "flow").path
    of_flow = []
    for run in runs:
        changes = {"data.manifest": str(store), "clip.modality": "flow"}
        of_flow.append(make_run(tmp_path / run.name, model=run.name, classes=manifest.classes, changes=changes))
        of_flow[-1].save_scores("test", run.scores())
    pictures = section_of(of_flow, "Disagreements").pictures
    assert [picture.name for picture in pictures[-1:]] == ["colours-of-flow"]
    assert len(pictures) == len(changed) + 1
    assert all(picture.caption.endswith("From above: frames, flow.") for picture in pictures[:-1])


def test_videos_that_are_gone_are_told_and_the_rest_is_there(filmed, tmp_path):
    runs, changed, _ = filmed
    gone = [make_run(tmp_path / run.name, model=run.name, classes=run.dataset()["classes"]) for run in runs]
    for run, known in zip(gone, runs, strict=True):
        run.save_scores("test", known.scores())
    section = section_of(gone, "Disagreements")
    assert section.pictures == ()
    assert len(section.tables[0].rows) == len(changed)
    assert "Not all frames can be shown: /data/set.csv: no such manifest" in section.text[1]


def diagnosed(folder, **changes):
    """Made scores: `blind` answers alike in every order, `sees` loses all but a fifth when frames are shuffled."""
    runs = []
    for model, kept in (("sees", 0.2), ("blind", 0.5)):
        run = make_run(
            folder / model, model=model, videos=60, accuracy=1.0 if model == "sees" else 0.5, changes=changes
        )
        ordered = run.scores()
        run.diagnosis_folder.mkdir()
        right = ordered.correct()
        for order in ORDERS:
            scores = ordered
            if model == "sees" and order != "ordered":
                answer = np.where(np.arange(60) < kept * 60, ordered.labels_N, (ordered.labels_N + 1) % 6)
                logits = np.repeat(4.0 * np.eye(6, dtype=np.float32)[answer], ordered.num_views, 0)
                scores = replace(ordered, logits_VK=logits)
            scores.save(run.diagnosis_folder / f"{order}.npz")
        change = 4.0 if model == "sees" else 0.0
        told = {
            "format_version": 2, "split": "test", "num_frames": 8, "accuracy": dict.fromkeys(ORDERS, float(right.mean())),
            "largest_change": {order: change for order in ORDERS if order != "ordered"},
        }  # fmt: skip
        (run.diagnosis_folder / "diagnosis.json").write_text(json.dumps(told))
        runs.append(run)
    return runs


def test_of_frame_differences_nothing_is_said_of_a_still(tmp_path):
    """A held frame has none: every model guesses, which tells nothing of the data set."""
    runs = diagnosed(tmp_path, **{"clip.modality": "rgb_difference"})
    text = " ".join(section_of(runs, "Frame order").text)
    assert "Temporal dependence of the data set is not known here: these runs are shown frame differences" in text
    assert "takes more than one frame" not in text
    assert "from one frame is right" not in text
    assert "frame differences (" in section_of(runs, "Accuracy").caption


def test_a_field_of_motion_is_no_still(tmp_path):
    text = " ".join(section_of(diagnosed(tmp_path, **{"clip.modality": "flow"}), "Frame order").text)
    assert "these runs are shown stacks of optical flow, of which a held frame has none" in text
    assert "from one frame is right" not in text
    assert "Such a model sees a set of stacks of 5 fields, no order; the motion inside a stack is not shuffled." in text


def test_a_still_tells_only_of_runs_that_are_shown_frames(tmp_path):
    shown = diagnosed(tmp_path / "rgb")[1]
    text = " ".join(
        section_of([diagnosed(tmp_path / "d", **{"clip.modality": "rgb_difference"})[0], shown], "Frame order").text
    )
    assert "as far as those of these runs that are shown frames, not frame differences, show it" in text
    assert "the best from whole clips on 0.500 (blind)" in text


def test_order_is_told_where_runs_were_diagnosed(tmp_path):
    runs = diagnosed(tmp_path)
    section = section_of([*runs, make_run(tmp_path / "other", model="other")], "Frame order")
    text = " ".join(section.text)
    assert (
        "the best answer from one frame is right on 0.500 of the videos (blind), "
        "the best from whole clips on 1.000 (sees)" in text
    )
    assert "60% takes more than one frame" in text  # chance is a sixth: (1 - 1/2) / (1 - 1/6)
    assert "blind: scores are equal to 1e-5 whether frames are shuffled or not" in text
    assert "Less accurate with shuffled frames, by more than chance (corrected for 2 runs): sees." in text
    assert "Not diagnosed: other" in text
    rows = {row[0]: row[1:] for row in section.tables[0].rows}
    assert rows["sees"][:5] == ["1.000", "0.200", "0.200", "0.200", "0.200"]
    assert rows["sees"][5].startswith("+0.800 [+0.")
    assert rows["blind"][5].startswith("+0.000 [-0.")
    by_class = [row for row in section.tables[1].rows if row[1] == "sees"]
    assert sum(int(row[2]) for row in by_class) == 60
    assert by_class[0][-1] == "right 80%, left 20%"


def test_a_diagnosis_of_other_clips_is_left_out_and_said(tmp_path):
    run = make_run(tmp_path / "a", accuracy=0.9)
    run.diagnosis_folder.mkdir()
    other = make_run(tmp_path / "b", accuracy=0.2).scores()
    for order in ORDERS:
        other.save(run.diagnosis_folder / f"{order}.npz")
    told = {"largest_change": dict.fromkeys(ORDERS[1:], 0.0)}
    (run.diagnosis_folder / "diagnosis.json").write_text(json.dumps(told))
    comparison = compared([run])
    assert comparison.models[0].diagnosed is None
    assert any("1 of 1 seeds were diagnosed on other clips" in note for note in comparison.notes)
    assert "Frame order" not in page_of([run])


def test_which_published_results_lie_beside_which_of_several_sets(tmp_path, two):
    other = make_run(tmp_path / "o", classes=("x", "y"), changes={"data.manifest": "/data/other.csv"})
    comparisons = compared_runs([*two, other])
    with pytest.raises(UserError, match="Say for which of them: --beside set=SET --beside other=SET"):
        Report.of(comparisons, beside="ucf101")
    with pytest.raises(UserError, match=r"no data set 'sett' is here\. Did you mean 'set'"):
        Report.of(comparisons, beside={"sett": "ucf101"})
    page = Report.of(comparisons, beside={"other": "ucf101"}).page()
    assert page.count("Published: UCF101, 101 classes") == 2  # a section, and the link to it
    assert "This data set has 2 classes" in page


def test_calibration_says_who_is_too_sure(tmp_path):
    section = section_of([make_run(tmp_path / "a", accuracy=0.5)], "Calibration")
    [(name, error, over, confidence, right, _)] = section.tables[0].rows
    sure = np.exp(4) / (np.exp(4) + 5)
    assert (name, right) == ("tsm_resnet_tiny", "0.500")
    assert float(confidence) == pytest.approx(sure, abs=1e-3)
    assert float(error) == float(over) == pytest.approx(sure - 0.5, abs=1e-3)


def test_a_hundred_settings_stay_readable(tmp_path):
    """Tables are cut on the page and whole in their files; no more matrices than can be read."""
    runs = [
        make_run(tmp_path / f"r{i}", model=f"m{i % 10}_resnet18", accuracy=0.3 + i / 100, videos=30, epochs=2,
                 changes={"clip.num_frames": 8 + i // 10})
        for i in range(30)
    ]  # fmt: skip
    pairs = section_of(runs, "Significance").tables[0]
    assert (len(pairs.rows), pairs.most) == (435, result.MOST_PAIRS)
    assert len(section_of(runs, "Confusion matrix").figures) == parts.MOST_MATRICES
    text = page_of(runs)
    assert f"The first {result.MOST_PAIRS} of 435 rows; all are in report.files/pairs.csv." in text
