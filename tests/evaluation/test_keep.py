"""Evaluations that a run keeps (`evaluate --keep`), and how its report shows them."""

import json
import shutil

import numpy as np
import pytest
from made_runs import made_scores, make_run
from typer.testing import CliRunner

import muybridge
from muybridge.analysis.comparison import compared
from muybridge.analysis.statistics import Sample, paired_difference
from muybridge.cli.app import app
from muybridge.errors import UserError
from muybridge.recipe import replace
from muybridge.reporting.charts import settings
from muybridge.reporting.report import Report
from muybridge.storage import evaluations
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores, ViewGrid

MACS = {"params": 1000, "conv_macs": 200, "macs": 220}


@pytest.fixture
def own(run, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def test_more_views_are_kept_and_shown_as_a_row_of_their_own(own, tmp_path):
    scores = muybridge.evaluate(own, changes={"evaluation.num_clips": 4, "clip.size": 48}, keep=True)
    (name,) = evaluations.names(own)
    assert name == "test-num_clips=4-clip.size=48"
    kept = evaluations.kept(own, name)
    assert np.array_equal(kept.scores().logits_VK, scores.logits_VK)
    assert kept.changes == {"evaluation.num_clips": 4, "clip.size": 48}
    assert kept.cost["conv_macs"] > own.cost()["conv_macs"]
    comparison = compared([own])
    (further,) = comparison.models[0].further
    assert further.name == "tsm_resnet_tiny, 4 x 3 views of 48"
    assert further.accuracy.value == scores.video_accuracy()
    assert further.num_views == 12
    assert comparison.table()[1][0][0] == "tsm_resnet_tiny"
    assert len(comparison.table()[1]) == 1, "never in the ranking"
    with pytest.raises(UserError, match="this evaluation is kept already"):
        muybridge.evaluate(own, changes={"clip.size": 48, "evaluation.num_clips": 4}, keep=True)


def test_training_accuracy_is_kept_and_shown(own):
    words = ["evaluate", str(own.path), "--split", "train", "--keep", "--json"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)["train"]
    assert evaluations.names(own) == ["train"]
    (model,) = compared([own]).models
    assert model.training_accuracy == told["video_top1"]
    assert model.as_json(())["training_video_top1"] == told["video_top1"]
    assert model.further[0].difference is None, "of other videos"
    assert CliRunner().invoke(app, words).exit_code == 2


def test_what_a_run_does_not_keep(own, made_set, tmp_path):
    with pytest.raises(UserError, match=r"scores/test\.npz holds this evaluation already"):
        muybridge.evaluate(own, keep=True)
    with pytest.raises(UserError, match=r"val\.npz holds this evaluation already"):
        muybridge.evaluate(own, split="val", keep=True)
    with pytest.raises(UserError, match="Choose with --checkpoint"):
        muybridge.evaluate(own, changes={"evaluation.checkpoint": "best"}, keep=True)
    with pytest.raises(UserError, match="--keep: it does not apply to stored scores"):
        muybridge.evaluate(own.scores_file("test"), keep=True)
    text = made_set.read_text().splitlines()
    for ending in (".csv", ".csv.json"):
        shutil.copy(made_set.with_suffix(ending), tmp_path / f"other{ending}")
    about = json.loads((tmp_path / "other.csv.json").read_text())
    (tmp_path / "other.csv.json").write_text(json.dumps(about | {"root": str(made_set.parent / about["root"])}))
    (tmp_path / "other.csv").write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(UserError, match="not the data set, or not the fold"):
        muybridge.evaluate(own, data=tmp_path / "other.csv", changes={"evaluation.num_clips": 3}, keep=True)
    (own.path / "result.json").unlink()
    with pytest.raises(UserError, match="it is not finished"):
        muybridge.evaluate(own, changes={"evaluation.num_clips": 3}, keep=True)
    assert not (own.path / "evaluations").exists()


def test_nothing_is_written_through_a_link(own, tmp_path):
    (tmp_path / "home").mkdir()
    (own.path / "evaluations").symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match="is a link"):
        muybridge.evaluate(own, split="train", keep=True)
    assert not list((tmp_path / "home").iterdir())


def test_names_differ_where_evaluations_do(run):
    recipe = run.recipe()
    name = lambda changes, **more: evaluations.name_of(  # noqa: E731
        run, replace(recipe, changes), **{"split": "test", "checkpoint": "last", **more}
    )
    assert name({}, checkpoint="best") == "test-checkpoint=best"
    assert name({}, split="train") == "train"
    assert name({"clip.sampling": "dense", "clip.fps": 12.5}) == "test-clip.fps=12.5-clip.sampling=dense"
    assert name({"clip.size": 48}) != name({"clip.short_side": 48})
    assert name({"clip.size": 48}) != name({"evaluation.size": 48})


# --- in the report, of made scores


def keep(run, correct_N, *, changes, fold=0, clips=1, sampling="uniform", split="test"):
    """Keep made scores in a run."""
    recipe = replace(run.recipe(), changes)
    grid = ViewGrid(sampling, clips, 1)
    made = made_scores(np.array(correct_N), views=clips, fold=fold)
    scores = Scores(**{**{name: getattr(made, name) for name in made.__dataclass_fields__}, "grid": grid})
    name = evaluations.name_of(run, recipe, split=split, checkpoint="last")
    return evaluations.keep(run, name, scores, recipe, split=split, checkpoint="last", cost=MACS)


TEN = {"evaluation.num_clips": 10}


def test_seeds_and_folds_are_pooled_and_held_against_the_own_evaluation(tmp_path):
    runs = [
        make_run(tmp_path / f"{seed}{fold}", seed=seed, fold=fold, accuracy=0.5)
        for seed in (0, 1, 2)
        for fold in (1, 2)
    ]
    for run in runs:
        more_N = run.scores().correct() | (np.arange(60) % 5 == run.recipe().seed)
        keep(run, more_N, changes=TEN, fold=run.recipe().data.fold, clips=10)
    (model,) = compared(runs).models
    (further,) = model.further
    assert further.correct_SN.shape == model.correct_SN.shape == (3, 120)
    assert further.accuracy.value > model.accuracy.value
    here, there = (Sample.of(one.correct_SN, model.groups_N) for one in (further, model))
    difference = paired_difference(here, there)
    assert further.difference.difference.value == pytest.approx(difference.value)
    half = difference.half_width(0.95)
    assert (further.difference.low, further.difference.high) == pytest.approx(
        (difference.value - half, difference.value + half)
    )
    assert further.as_json()["minus_own"]["difference"] == pytest.approx(difference.value)
    assert sorted(further.by_clips) == list(range(1, 11))


def test_what_some_runs_lack_is_left_out_and_said(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    keep(runs[0], [True] * 60, changes=TEN, clips=10)
    comparison = compared(runs)
    assert comparison.models[0].further == ()
    assert any("is left out, as 1 of 2 runs keep it" in note for note in comparison.notes)


@pytest.mark.parametrize(
    ("file", "content"),
    [("evaluation.json", b"{"), ("evaluation.json", b'{"format_version": 1}'), ("scores.npz", b"no scores"),
     ("evaluation.json", json.dumps({"format_version": 1, "split": "test", "checkpoint": "last", **MACS,
                                     "changes": {"model.name": "x"}}).encode()),
     ("evaluation.json", json.dumps({"format_version": 1, "split": "test", "checkpoint": "last", **MACS,
                                     "changes": {"clip.size": "x"}}).encode())],
)  # fmt: skip
def test_a_damaged_evaluation_is_named_and_left_out(tmp_path, file, content):
    run = make_run(tmp_path / "a")
    kept = keep(run, [True] * 60, changes=TEN, clips=10)
    (run.path / "evaluations" / kept.name / file).write_bytes(content)
    comparison = compared([run])
    assert comparison.models[0].further == ()
    assert any(file in note for note in comparison.notes), comparison.notes


def test_an_evaluation_without_its_last_file_is_not_there(tmp_path):
    run = make_run(tmp_path / "a")
    kept = keep(run, [True] * 60, changes=TEN, clips=10)
    (run.path / "evaluations" / kept.name / "evaluation.json").unlink()
    assert evaluations.names(run) == []
    keep(run, [True] * 60, changes=TEN, clips=10)
    assert evaluations.names(run) == [kept.name]


def test_the_report_has_it_in_cost_views_and_no_ranking(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=a) for m, a in (("tsm", 0.5), ("tam", 0.6))]
    keep(runs[0], [True] * 60, changes=TEN, clips=10)
    keep(runs[0], [True] * 60, changes=TEN | {"clip.sampling": "dense"}, clips=10, sampling="dense")
    comparison = compared(runs)
    assert [model.name for model in comparison.models] == ["tam", "tsm"]
    assert len(comparison.verdicts) == 1
    report = Report.of({"set": comparison})
    tables = {table.name: table for section in report.chapters[0].sections for table in section.tables}
    names = ["tsm", "tsm, 10 x 1 views of 112", "tsm, 10 x 1 views of 112, dense"]
    assert [row[0] for row in tables["evaluations"].rows[:3]] == names
    assert tables["evaluations"].rows[1][4].startswith("1.000 [")
    assert tables["evaluations"].rows[1][6].startswith("+0.500 [+0.")
    assert tables["evaluations"].rows[0][6] == "–"
    costs = {row[0]: row for row in tables["costs"].rows}
    assert list(costs) == ["tam", *names, "chance", "majority class"]
    assert costs[names[1]][2:5] == ["0.0 M", "10", "0.0 M"]
    assert len(tables["result"].rows) == 2 + 2
    assert names[1] in {row[0] for row in tables["clips"].rows}
    told = comparison.as_json()["models"][1]["further"]
    assert [one["name"] for one in told] == names[1:]
    chart = settings.over_macs(comparison, 24)
    assert chart is not None
    rows = chart.layer[-1].data.to_dict()["values"]
    dense = [row for row in rows if row["sampling"] == "dense"]
    assert [row["clips"] for row in dense] == [1, 2, 4, 10]
    assert [row["macs"] for row in dense] == [200, 400, 800, 2000]
    own = [row for row in rows if row["kind"] == "its own"]
    assert {row["model"]: row["macs"] for row in own} == {"tam": 2 * 50.7e6, "tsm": 2 * 50.7e6}
