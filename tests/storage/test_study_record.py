"""What a study says of its runs, and what follows for rows, their names, and what is called unfair."""

import json

import pytest
from made_runs import make_run

from muybridge.analysis.comparison import compared, compared_study, find_runs
from muybridge.analysis.findings import findings
from muybridge.errors import UserError
from muybridge.reporting.report import Report
from muybridge.storage.study import RunRecord, SetRecord, StudyRecord

VARIES = {"model": ("model.name",), "num_frames": ("clip.num_frames", "optim.epochs"), "seed": (), "fold": ()}


def studied(folder, runs, varies=VARIES):
    """A study of runs by name: what `make_run` takes, their axes, and what they start from."""
    made = {name: make_run(folder / "runs" / name, **how) for name, (how, _, _) in runs.items()}
    known = {name: RunRecord(axes, base) for name, (_, axes, base) in runs.items()}
    return list(made.values()), StudyRecord(folder, "a study", known, varies, {})


def frames(count, **changes):
    return {"changes": {"clip.num_frames": count, "optim.epochs": 10 * count, **changes}}


def test_what_an_axis_sets_is_no_unfairness_and_all_else_is(tmp_path):
    runs, study = studied(tmp_path / "fair", {
        "8": (frames(8), {"num_frames": 8}, None),
        "16": (frames(16), {"num_frames": 16}, None),
    })  # fmt: skip
    fair = compared(runs, study=study)
    assert fair.differences == {}
    assert fair.varied == {"clip.num_frames": [8, 16], "optim.epochs": [80, 160]}
    assert "differ in more" not in " ".join(findings(fair))
    assert compared(runs).differences == fair.varied, "without the study nothing is on purpose"

    runs, study = studied(tmp_path / "lr", {
        "8": (frames(8), {"num_frames": 8}, None),
        "16": (frames(16, **{"optim.lr": 0.5}), {"num_frames": 16}, None),
    })  # fmt: skip
    assert compared(runs, study=study).differences == {"optim.lr": [0.01, 0.5]}

    runs, study = studied(tmp_path / "epochs", {
        "a": (frames(8), {"model": "a", "num_frames": 8}, None),
        "b": ({"model": "b", **frames(8, **{"optim.epochs": 99})}, {"model": "b", "num_frames": 8}, None),
        "c": ({"model": "b", **frames(16)}, {"model": "b", "num_frames": 16}, None),
    })  # fmt: skip
    told = compared(runs, study=study)
    assert told.differences == {"optim.epochs": [80, 99, 160]}, "two runs of 8 frames were trained differently"
    assert set(told.varied) == {"clip.num_frames"}


def test_rows_are_named_by_axes_and_where_these_agree_by_fields(tmp_path):
    runs, study = studied(tmp_path, {
        "8": (frames(8), {"model": "m", "num_frames": 8}, None),
        "16": (frames(16), {"model": "m", "num_frames": 16}, None),
        "16x": (frames(16, **{"optim.lr": 0.5}), {"model": "m", "num_frames": 16}, None),
    })  # fmt: skip
    assert {model.name for model in compared(runs, study=study).models} == {
        "tsm_resnet_tiny (num_frames=8)",
        "tsm_resnet_tiny (num_frames=16, lr=0.01)",
        "tsm_resnet_tiny (num_frames=16, lr=0.5)",
    }


def test_a_start_in_the_study_is_one_start_whichever_seed_it_has(tmp_path):
    def from_(seed, which):
        changes = {"model.pretrained": f"/runs/8-{which}.safetensors", "model.pretrained_sha256": str(which) * 64}
        return {"seed": seed, "changes": changes}

    runs, study = studied(tmp_path, {
        "8-0": ({"seed": 0}, {"num_frames": 8, "seed": 0}, None),
        "8-1": ({"seed": 1}, {"num_frames": 8, "seed": 1}, None),
        "16-0": (from_(0, 0), {"num_frames": 16, "seed": 0}, "8-0"),
        "16-1": (from_(1, 1), {"num_frames": 16, "seed": 1}, "8-1"),
    }, {"num_frames": ("model.pretrained",)})  # fmt: skip
    told = compared(runs, study=study)
    assert sorted(model.num_seeds for model in told.models) == [2, 2]
    assert told.differences == {}
    assert compared(runs).differences != {}
    elsewhere = StudyRecord(
        tmp_path, "a study", {**study.runs, "16-1": RunRecord(study.runs["16-1"].axes)}, study.varies
    )
    assert set(compared(runs, study=elsewhere).differences) == {"model.pretrained", "model.pretrained_sha256"}


def test_what_follows_from_the_fold_does_not_part_a_row(tmp_path):
    runs = {str(fold): ({"fold": fold, "changes": {"optim.lr": 0.1 * fold}}, {"fold": fold}, None) for fold in (1, 2)}
    made, study = studied(tmp_path, runs, {"fold": ("optim.lr",)})
    told = compared(made, study=study)
    (model,) = told.models
    assert (model.name, model.num_seeds, len(model.runs)) == ("tsm_resnet_tiny", 1, 2)
    assert told.differences == {}
    assert len(compared(made).models) == 2


def test_a_study_is_written_and_read_again(tmp_path):
    study = StudyRecord(
        tmp_path, "t", {"a": RunRecord({"num_frames": 8}), "b": RunRecord({"num_frames": 16}, "a")},
        {"num_frames": ("clip.num_frames",)}, {"set": SetRecord(("a", "b"), ("a note",))},
    )  # fmt: skip
    study.save()
    assert StudyRecord.load(tmp_path) == study
    (tmp_path / "study.json").write_text(json.dumps({"format_version": 9}))
    with pytest.raises(UserError, match="format_version 9"):
        StudyRecord.load(tmp_path)


def test_studies_of_earlier_versions_are_read(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"title": "t", "runs": ["a", "b"]}))
    assert StudyRecord.load(tmp_path).sets == {"": SetRecord(("a", "b"))}
    of_set = {"title": "t: one", "runs": ["a"], "notes": ["n"]}
    for name, known in (("report.html", ""), ("report-one.html", "one")):
        study = {"format_version": 2, "title": "t", "runs": {"a": {}}, "varies": {}, "reports": {name: of_set}}
        (tmp_path / "study.json").write_text(json.dumps(study))
        assert StudyRecord.load(tmp_path).sets == {known: SetRecord(("a",), ("n",))}


def test_a_report_has_a_chapter_for_every_set_with_its_notes(tmp_path):
    runs, study = studied(tmp_path, {
        "a": ({}, {"data": "a"}, None),
        "b": ({"changes": {"data.sha256": "b" * 64}}, {"data": "b"}, None),
        "c": ({"finished": False}, {"data": "c"}, None),
    })  # fmt: skip
    sets = {name: SetRecord((name,), (f"of {name}",)) for name in "abc"}
    study = StudyRecord(study.path, study.title, study.runs, study.varies, sets)
    study.save()
    found, folder = find_runs([tmp_path])
    assert ([run.name for run in found], folder) == ([run.name for run in runs], tmp_path)
    comparisons = compared_study(StudyRecord.load(tmp_path))
    assert list(comparisons) == ["a", "b"], "of c there is nothing to tell yet"
    assert [comparison.notes for comparison in comparisons.values()] == [("of a",), ("of b",)]
    Report.of(comparisons, title="t").write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.index("All data sets") < page.index("of a") < page.index("of b")
    assert [sets["notes"] for sets in json.loads((tmp_path / "report.json").read_text())["sets"]] == [
        ["of a"],
        ["of b"],
    ]
    files = {file.name for file in (tmp_path / "report.files").iterdir()}
    assert {"macs-a.svg", "macs-b.svg", "a-result.csv", "b-result.csv", "a-accuracy.png"} <= files, "a panel a data set"
