"""`calibrate`: what a run keeps, who uses it, that test is never read, and clips of no class."""

import json
import shutil

import numpy as np
import pytest
from made_runs import CLASSES, made_scores, make_run
from typer.testing import CliRunner

import muybridge
from muybridge.analysis.comparison import compared
from muybridge.analysis.coverage import told_apart
from muybridge.analysis.statistics import calibration
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import motions
from muybridge.errors import UserError
from muybridge.reporting.report import Report
from muybridge.storage import evaluations
from muybridge.storage.calibration import Calibrated
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def own(run, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(run.path, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def made(tmp_path):
    """A made run, too sure: half of 200 val videos are right, all with the same probability."""
    run = make_run(tmp_path / "made", videos=90)
    run.save_scores("val", made_scores(np.arange(200) % 2 == 0))
    (run.checkpoints / "step-00000040").mkdir(parents=True)
    (run.checkpoints / "last").write_text("step-00000040")
    return run


@pytest.fixture(scope="module")
def others(tmp_path_factory, made_set):
    """A manifest of clips of other classes: made videos with other names of their classes."""
    folder = tmp_path_factory.mktemp("others")
    manifest = motions(folder / "set", clips=50, seed=11).manifest
    text = manifest.read_text()
    for name in Manifest.load(manifest).classes:
        text = text.replace(f",{name},", f",odd {name},")
    manifest.write_text(text)
    about = manifest.with_suffix(".csv.json")
    content = json.loads(about.read_text())
    content["classes"] = [f"odd {name}" for name in content["classes"]]
    content["mirror"] = None
    content["reversed_pairs"] = []
    about.write_text(json.dumps(content))
    return manifest


# --- what is kept


def test_the_temperature_is_that_of_the_accuracy(made):
    """Where all are as sure, the likeliest probability is the accuracy: 1/2 = 1 / (1 + (K - 1) e^(-4/T))."""
    found = muybridge.calibrate(made)
    likeliest = 4 / np.log(len(CLASSES) - 1)
    assert found.temperature == pytest.approx(likeliest, rel=1e-4)
    assert found.content["calibration_error"] == pytest.approx(0, abs=1e-4)
    assert found.content["calibration_error_before"] == pytest.approx(
        np.exp(4) / (np.exp(4) + len(CLASSES) - 1) - 0.5, rel=1e-5
    )
    assert found.content["loss"] < found.content["loss_before"]
    assert found.content["low"] > 1


def test_again_gives_the_same_bytes_and_test_is_never_read(made, tmp_path):
    file = made.path / "calibration.json"
    muybridge.calibrate(made, threshold="cost_wrong=5,cost_unknown=3")
    first = file.read_bytes()
    made.scores_file("test").write_bytes(b"damaged")
    muybridge.calibrate(made)
    assert file.read_bytes() == first, "and the rule is kept"
    made.scores_file("test").unlink()
    file.unlink()
    muybridge.calibrate(made, threshold={"cost_wrong": 5, "cost_unknown": 3})
    assert file.read_bytes() == first
    muybridge.calibrate(made, threshold="none")
    assert json.loads(file.read_text())["threshold"] is None
    assert Calibrated.of(made).threshold == 0


def test_what_is_refused_changes_nothing(made):
    with pytest.raises(UserError, match=r"val cannot promise a precision of 0\.9"):
        muybridge.calibrate(made, threshold="precision=0.9")
    assert made.calibration() is None
    muybridge.calibrate(made)
    before = (made.path / "calibration.json").read_bytes()
    for wrong in ("precision=2", "sure", "cost_wrong=1"):
        call("calibrate", made.path, "--threshold", wrong, code=2)
    assert (made.path / "calibration.json").read_bytes() == before
    with pytest.raises(UserError, match="has the val scores already"):
        muybridge.calibrate(made, data="set.csv")
    call("calibrate", made.path, "--set", "clip.size=32", code=2)


def test_a_run_without_val_is_told(tmp_path):
    run = make_run(tmp_path / "run")
    content = json.loads((run.path / "dataset.json").read_text())
    content["split_sizes"]["val"] = 0
    (run.path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="no val videos, and test decides nothing"):
        muybridge.calibrate(run)


def test_missing_val_scores_are_made_again(own):
    first = muybridge.calibrate(own).content
    kept = own.scores("val").logits_VK
    own.scores_file("val").unlink()
    again = muybridge.calibrate(own).content
    np.testing.assert_allclose(own.scores("val").logits_VK, kept, atol=1e-5)
    assert again["temperature"] == pytest.approx(first["temperature"], rel=1e-3)


# --- who uses it


def test_predictions_are_at_the_temperature_and_unknown_below_the_threshold(own, made_set):
    manifest = Manifest.load(made_set)
    videos = [manifest.row(int(row)).path for row in manifest.split("test")[:6]]
    plain, _ = muybridge.predict(own, videos, top=100)
    muybridge.calibrate(own)
    content = own.calibration()
    middle = sorted(Calibrated(content["temperature"]).probabilities(np.array([one.scores for one in plain])).max(1))[3]
    rule = {"rule": "precision=0.5", "value": middle, "answered": 0.5, "precision": 0.5, "precision_low": 0.5,
            "method": "made", "cost": None, "cost_of_all": None}  # fmt: skip
    (own.path / "calibration.json").write_text(json.dumps(content | {"temperature": 2.5, "threshold": rule}))
    after, _ = muybridge.predict(own, videos, top=100)
    for before, one in zip(plain, after, strict=True):
        assert one.labels == before.labels, "the order stays"
        powers = np.array(before.scores) ** (1 / 2.5)
        np.testing.assert_allclose(one.scores, powers / powers.sum(), rtol=1e-6)
        assert one.is_unknown == (one.scores[0] < middle)
        assert one.label == ("unknown" if one.is_unknown else one.labels[0])
        assert one.as_json()["label"] == one.label
    assert any(one.is_unknown for one in after)
    shown = call("predict", own.path, *videos).stdout
    assert shown.count("unknown, as") == sum(one.is_unknown for one in after)


def test_a_calibration_of_other_weights_is_not_used(own):
    muybridge.calibrate(own)
    content = own.calibration()
    (own.path / "calibration.json").write_text(json.dumps(content | {"weights": "step-00000001"}))
    with pytest.raises(
        UserError, match=r"it is of step-00000001, but the run answers with step-\d+\. Use muybridge calibrate"
    ):
        muybridge.load(own)


def test_the_commands_say_what_was_found(own):
    told = call("calibrate", own.path).stdout
    assert "temperature" in told
    assert f"by {own.calibration()['videos']} val videos" in told
    value = json.loads(call("calibrate", own.path, "--json").stdout)
    assert value["temperature"] == own.calibration()["temperature"]
    evaluated = json.loads(call("evaluate", own.path, "--split", "val", "--json").stdout)["calibrated"]
    assert evaluated["loss"] == pytest.approx(value["loss"], rel=1e-4)
    assert evaluated["loss_before"] == pytest.approx(value["loss_before"], rel=1e-4)
    assert "at its temperature of" in call("evaluate", own.path).stdout


@pytest.mark.parametrize("temperature", [1e-308, 0.049, 20.1, 1e308, True, "1", float("nan")])
def test_a_temperature_that_no_calibration_gives_is_damage(made, temperature):
    """It would make answers that are not numbers. The file may be made again."""
    muybridge.calibrate(made)
    file = made.path / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": temperature}))
    with pytest.raises(UserError, match=r"calibration\.json: .* Or remove it, and use muybridge calibrate"):
        made.calibration()
    muybridge.calibrate(made, threshold="none")
    assert made.calibration()["temperature"] > 1


def test_a_temperature_that_is_not_to_be_relied_on_is_told(made):
    made.save_scores("val", made_scores(np.zeros(200, bool)))
    assert "do not rely on it" in call("calibrate", made.path).stdout
    made.save_scores("val", made_scores(np.arange(10) % 2 == 0))
    told = call("calibrate", made.path).stdout
    assert "too few for an interval, which takes 20" in told
    assert "[" not in told
    assert made.calibration()["low"] is None


# --- the report


def test_the_report_shows_the_test_before_and_after(made, tmp_path):
    """The test is right in 8 of 10, val in half: a temperature of val is too shy there, and the report says so."""
    muybridge.calibrate(made, threshold="cost_wrong=1,cost_unknown=2")
    (model,) = compared([made]).models
    scores, calibrated = made.scores("test"), Calibrated.of(made)
    after_NK = calibrated.probabilities(scores.video_probabilities())
    assert model.calibrated.error == pytest.approx(calibration(after_NK.max(1), scores.correct()).error)
    assert model.loss == pytest.approx(scores.cross_entropy())
    assert model.loss_calibrated == pytest.approx(-np.log(after_NK[np.arange(90), scores.labels_N]).mean())
    assert model.above_threshold[1:] == (1.0, pytest.approx(scores.video_accuracy()))
    assert model.risk_coverage.accuracy(1.0) == pytest.approx(scores.video_accuracy())
    assert model.as_json(())["calibrated"]["temperatures"] == [calibrated.temperature]
    Report.of({"set": compared([made])}).write(tmp_path / "r.html")
    text = (tmp_path / "r.md").read_text()
    assert "calibrated on val" in text
    assert "threshold of val" in text


def test_each_run_of_a_row_has_its_own_temperature(tmp_path):
    """Two folds: answers of each at its own temperature, whatever the order of their videos."""
    runs = []
    for fold, right in ((1, 2), (2, 4)):
        run = make_run(tmp_path / str(fold), fold=fold, videos=30)
        run.save_scores("val", made_scores(np.arange(80) % right > 0, fold=fold))
        (run.checkpoints / "step-00000040").mkdir(parents=True)
        (run.checkpoints / "last").write_text("step-00000040")
        runs.append(run)
    muybridge.calibrate(runs[0])
    half = compared(runs)
    assert half.models[0].calibrated is None
    assert any("1 of 2 runs are calibrated" in note for note in half.notes)
    muybridge.calibrate(runs[1])
    (model,) = compared(runs[::-1]).models
    assert len(set(model.temperatures)) == 2
    by_hand = [
        -np.log(Calibrated.of(run).probabilities(run.scores("test").video_probabilities())[
            np.arange(30), run.scores("test").labels_N]).mean()
        for run in runs
    ]  # fmt: skip
    assert model.loss_calibrated == pytest.approx(np.mean(by_hand))
    runs[0].save_scores("val", made_scores(np.arange(80) % 5 > 0, fold=1))
    assert any("by other val scores than it has" in note for note in compared(runs).notes)


# --- clips of no class


def test_clips_of_no_class_are_kept_and_told_apart(own, others, tmp_path):
    muybridge.calibrate(own)
    scores = muybridge.evaluate(own, data=others, unknown=True)
    assert len(scores.ids_N) == 50, "all of them, whatever their split"
    assert set(scores.labels_N.tolist()) == {-1}
    (name,) = evaluations.names(own)
    assert name.startswith("unknown-")
    assert evaluations.kept(own, name).unknown
    calibrated = Calibrated.of(own)
    known_N, unknown_N = (
        calibrated.probabilities(one.video_probabilities()).max(1) for one in (own.scores("test"), scores)
    )
    comparison = compared([own])
    (model,) = comparison.models
    assert model.further == ()
    assert model.unknown[0].apart == told_apart(known_N, unknown_N)
    Report.of({"set": comparison}).write(tmp_path / "r.html")
    assert "clips of no class" in (tmp_path / "r.md").read_text()
    with pytest.raises(UserError, match="kept already"):
        muybridge.evaluate(own, data=others, unknown=True)
    shutil.rmtree(own.path / "evaluations")
    told = json.loads(call("evaluate", own.path, "--data", others, "--unknown", "--json").stdout)
    assert told["unknown"]["auroc"] == model.unknown[0].apart.auroc
    shutil.rmtree(own.path / "evaluations")
    assert "AUROC" in call("evaluate", own.path, "--data", others, "--unknown").stdout


def test_what_is_no_clip_of_no_class_is_refused(own, others, made_set):
    with pytest.raises(UserError, match=r"60 of 60 videos are of classes that .* knows"):
        muybridge.evaluate(own, data=made_set, unknown=True)
    with pytest.raises(UserError, match="--unknown: it is for clips of none"):
        muybridge.evaluate(own, unknown=True)
    with pytest.raises(UserError, match=r"evaluation\.num_clips: clips of no class are scored as"):
        muybridge.evaluate(own, data=others, unknown=True, changes={"evaluation.num_clips": 1})
    with pytest.raises(UserError, match="--unknown: it does not apply to stored scores"):
        muybridge.evaluate(own.scores_file("test"), unknown=True)
    assert evaluations.names(own) == []


def test_scores_of_val_are_not_taken_from_clips_of_no_class(own, others):
    muybridge.evaluate(own, data=others, unknown=True, split="val")
    own.scores_file("val").unlink()
    assert evaluations.val_file(own) is None
    assert isinstance(Scores.load(own.path / evaluations.kept(own, evaluations.names(own)[0]).scores_file), Scores)
