"""Results show themselves: as HTML that runs nothing, as a DataFrame, as a chart that can be drawn."""

import builtins
import sys
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import vl_convert
from made_runs import CLASSES, made_scores, make_run

import muybridge
from muybridge.analysis.comparison import compared, compared_runs
from muybridge.analysis.verdict import study_verdict, verdict_on
from muybridge.api import WrittenReport
from muybridge.errors import UserError
from muybridge.inference.results import Prediction, PredictionList
from muybridge.storage.run import Run

EVIL = "<script>alert(1)</script>"


class Cells(HTMLParser):
    """Texts of a table's cells, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        make_run(folder / model, model=model, accuracy=accuracy)
        for model, accuracy in (("tsn_resnet18", 0.6), ("tam_resnet18", 0.9))
    ]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A run of other classes."""
    return make_run(tmp_path_factory.mktemp("other") / "run", model="tsn_resnet18", classes=("a", EVIL), epochs=2)


class Frames:
    """pandas, as far as it is used."""

    DataFrame = staticmethod(lambda rows: rows)


def test_a_comparison_is_its_table(runs):
    comparison = compared(runs)
    rows = comparison.as_rows()
    assert [row["model"] for row in rows] == ["tam_resnet18", "tsn_resnet18"]
    assert [row["video_top1"] for row in rows] == [0.9, 0.6]
    assert all(row["low"] < row["video_top1"] < row["high"] for row in rows)
    assert {type(value) for row in rows for value in row.values()} <= {str, float, int, bool, type(None)}
    shown = Cells(comparison._repr_html_())
    header, lines = comparison.table()
    assert shown.rows[: 1 + len(lines)] == [header, *lines]


def test_a_run_is_its_epochs_and_its_result(runs, tmp_path):
    rows = runs[0].as_rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["val_video_top1"] for row in rows] == pytest.approx([0.135, 0.27, 0.405, 0.54])
    assert "0.6" in Cells(runs[0]._repr_html_()).rows[1]
    begun = make_run(tmp_path / "begun", finished=False, epochs=3)
    assert "not finished" in begun._repr_html_()
    empty = make_run(tmp_path / "empty", finished=False, epochs=0)
    with pytest.raises(UserError, match="no epoch was trained yet"):
        empty.plot()


def test_scores_are_their_videos():
    correct_N = np.array([True, False, True, True, True, False])
    scores = made_scores(correct_N)
    rows = scores.as_rows()
    assert [row["correct"] for row in rows] == correct_N.tolist()
    assert [row["label"] for row in rows] == list(CLASSES)
    assert all((row["label"] == row["predicted"]) is row["correct"] for row in rows)
    [drawn] = scores.plot().to_dict()["datasets"].values()
    bars = {bar["class"]: bar["accuracy"] for bar in drawn}
    assert bars == dict(zip(CLASSES, correct_N.astype(float).tolist(), strict=True))


def test_scores_show_which_class_gets_which_answer():
    correct_N = np.array([True, False, True, True, True, False])
    scores = made_scores(correct_N)
    layers = scores.plot("confusion").to_dict()
    drawn = next(rows for rows in layers["datasets"].values())
    counts = {(cell["true"], cell["predicted"]): cell["count"] for cell in drawn if cell["count"]}
    rows = scores.as_rows()
    assert counts == dict(Counter((row["label"], row["predicted"]) for row in rows))
    with pytest.raises(UserError, match=r"no figure 'confusio'.*'confusion'"):
        scores.plot("confusio")


@pytest.mark.slow
def test_every_chart_can_be_drawn(runs, other):
    comparison = compared(runs)
    both = WrittenReport("r.html", compared_runs([*runs, other]))
    for chart in (runs[0].plot(), comparison.plot(), comparison.plot("cost-macs"), runs[0].scores().plot(), both.plot(),
                  runs[0].scores().plot("confusion"),
                  muybridge.plot(comparison, "differences")):  # fmt: skip
        assert "<path" in vl_convert.vegalite_to_svg(chart.to_dict())
    drawn = vl_convert.vegalite_to_svg(both.plot().to_dict())
    assert all(name in drawn for name in both.comparisons)
    with pytest.raises(UserError, match=r"no figure 'cost-mac'.*'cost-macs'"):
        comparison.plot("cost-mac")


def test_a_study_has_the_rows_of_all_its_sets(runs, other):
    both = WrittenReport("r.html", compared_runs([*runs, other]))
    assert [(row["data"], row["model"]) for row in both.as_rows()] == [
        (name, model.name) for name, comparison in both.comparisons.items() for model in comparison.models
    ]
    assert both._repr_html_().count("<table>") == 2
    assert "no run is finished" in WrittenReport("r.html", {})._repr_html_()


def test_the_answer_comes_first(runs, other):
    """A verdict that is known by its own tests stands before all else, and is what `print` says."""
    comparisons = compared_runs([*runs, other])
    for shown in (compared(runs), WrittenReport("r.html", {"set": compared(runs)})):
        found = verdict_on(compared(runs))
        assert shown._repr_html_().startswith(f"<p><b>{found.headline}</b><br>{found.recommendation}<br>")
    both, on_all = WrittenReport("r.html", comparisons), study_verdict(comparisons)
    assert both._repr_html_().startswith(f"<p><b>{on_all.headline}</b><br>{on_all.recommendation}</p>")
    assert str(both) == f"r.html\n{on_all.headline}"
    assert str(WrittenReport("r.html", {})) == "r.html"


def test_names_run_nothing(runs, other, tmp_path):
    comparison = compared([other])
    evil = Run(tmp_path / EVIL.replace("/", "-"))
    make_run(evil.path, model="tsn_resnet18")
    answer = PredictionList([Prediction(EVIL, 0.0, 1.0, (EVIL,), (1.0,))])
    for shown in (comparison, evil, other.scores(), answer, WrittenReport("r.html", {EVIL: comparison})):
        assert "script" not in Cells(shown._repr_html_()).tags


def test_answers_of_many_videos_are_one_table():
    answer = PredictionList(Prediction(f"{n}.mp4", 0.0, 1.0, ("ab"[n % 3 == 0],), (0.5,)) for n in range(60))
    shown = Cells(answer._repr_html_())
    assert len(shown.rows) == 51
    assert "10 more" in answer._repr_html_()
    assert {bar["label"]: bar["count"] for bar in answer.plot().to_dict()["data"]["values"]} == {"a": 40, "b": 20}


def test_a_frame_needs_pandas_and_says_so(runs, monkeypatch):
    comparison, answer = compared(runs), PredictionList([Prediction("a.mp4", 0.0, 1.0, ("a",), (1.0,))])
    shown = (comparison, runs[0], runs[0].scores(), WrittenReport("r.html", {"set": comparison}), answer)
    monkeypatch.setitem(sys.modules, "pandas", Frames)
    for one in shown:
        assert one.frame() == one.as_rows()
    assert answer.to_frame() == answer.frame()
    monkeypatch.setitem(sys.modules, "pandas", None)
    for one in shown:
        with pytest.raises(UserError, match="pip install pandas"):
            one.frame()


def test_a_dataframe_of_pandas_itself(runs):
    pandas = pytest.importorskip("pandas")
    frame = compared(runs).frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.set_index("model").loc["tam_resnet18", "video_top1"] == 0.9
    assert len(runs[0].frame()) == 4
    assert runs[0].scores().frame()["correct"].mean() == pytest.approx(0.6)


def test_nothing_here_needs_torch(runs, monkeypatch):
    """A comparison that is shown imports no torch, even where it was not imported before."""
    real = builtins.__import__

    def without_torch(name, *more, **named):
        assert name.partition(".")[0] != "torch"
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    comparison = compared(runs)
    comparison._repr_html_()
    comparison.plot("cost-macs")
    runs[0].plot()
    runs[0].scores().plot()
