"""`predict` and `evaluate` are one code path, and neither flatters."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from making_images import encoded
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import encode, render
from muybridge.errors import UserError
from muybridge.inference.predict import predict
from muybridge.inference.predictor import Predictor
from muybridge.recipe import replace
from muybridge.training.loop import train
from muybridge.video import decode, frames
from muybridge.video.limits import Limits
from muybridge.video.safe import Held, MachineFault
from muybridge.video.worker import Worker


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    """A run that has learned enough to have opinions."""
    more = {
        "optim.epochs": 20,
        "optim.optimizer": "adamw",
        "optim.lr": 3e-3,
        "model.dropout": 0.0,
        "evaluation.every_epochs": 20,
        "evaluation.num_crops": 10,
    }
    learned = train(replace(recipe, more), out=tmp_path_factory.mktemp("runs") / "learned")
    assert np.ptp(learned.scores("test").logits_VK, axis=1).min() > 1
    return learned


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor(run.path)


def test_predictions_are_the_scores_of_the_evaluation(run, predictor, recipe):
    """Of mirrored crops, too, whose labels the run knows how to put back."""
    manifest = Manifest.load(recipe.data.manifest)
    assert manifest.mirror
    scores = run.scores("test")
    rows = manifest.split("test")
    for place, row in enumerate(rows[:6]):
        (prediction,) = predictor(manifest.row(int(row)).path, top=10)
        by_name = dict(zip(prediction.labels, prediction.scores, strict=True))
        found = np.array([by_name[name] for name in manifest.classes])
        assert np.allclose(found, scores.video_probabilities()[place], atol=1e-5)
        assert prediction.label == manifest.classes[scores.video_scores()[place].argmax()]
        assert list(prediction.scores) == sorted(prediction.scores, reverse=True)


def test_evaluating_again_gives_the_stored_scores(run):
    again = muybridge.evaluate(run)
    assert np.allclose(again.logits_VK, run.scores("test").logits_VK, atol=1e-5)
    assert (again.clip_start_V == run.scores("test").clip_start_V).all()


def test_views_can_be_changed_after_training(run, tmp_path):
    one = muybridge.evaluate(
        run, changes={"evaluation.num_clips": 1, "evaluation.num_crops": 1}, out=tmp_path / "s.npz"
    )
    assert one.num_views == 1
    assert one.video_accuracy() == one.clip_accuracy()
    assert (tmp_path / "s.npz").exists()
    with pytest.raises(UserError, match="an evaluation cannot change it"):
        muybridge.evaluate(run, changes={"optim.lr": 1.0})


def test_averaging_probabilities_differs_from_averaging_logits(run):
    logits = muybridge.evaluate(run)
    probabilities = muybridge.evaluate(run, changes={"evaluation.average": "probabilities"})
    assert np.array_equal(logits.logits_VK, probabilities.logits_VK)
    assert not np.allclose(logits.video_probabilities(), probabilities.video_probabilities())


def test_testing_on_what_was_trained_on_is_refused(run, recipe, tmp_path):
    manifest = Manifest.load(recipe.data.manifest)
    swapped = manifest.columns["split"].copy()
    swapped[manifest.split("train")] = b"test"
    other = Manifest({**manifest.columns, "split": swapped}, manifest.classes, manifest.root, manifest.mirror)
    other.save(tmp_path / "swapped.csv")
    with pytest.raises(UserError, match="would flatter"):
        muybridge.evaluate(run, data=tmp_path / "swapped.csv")
    assert len(muybridge.evaluate(run, split="train").ids_N) == len(manifest.split("train"))


def test_a_split_that_is_not_there(run):
    with pytest.raises(UserError, match="no video is in 'unused'"):
        muybridge.evaluate(run, split="unused")
    with pytest.raises(UserError, match="no fold 2"):
        muybridge.evaluate(run, fold=2)


def test_a_manifest_with_other_classes_is_refused(run, recipe, tmp_path):
    manifest = Manifest.load(recipe.data.manifest)
    labels = np.char.encode(np.where(manifest.text("label") == "crowd", "crowds", manifest.text("label")))
    classes = tuple("crowds" if name == "crowd" else name for name in manifest.classes)
    Manifest({**manifest.columns, "label": labels}, classes, manifest.root, {}).save(tmp_path / "other.csv")
    with pytest.raises(UserError, match=r"class .crowds.: the run does not know it\. Did you mean .crowd."):
        muybridge.evaluate(run, data=tmp_path / "other.csv", split="val")


def test_a_long_video_gives_windows(predictor, tmp_path):
    long = np.concatenate([render("grow", seed=0, index=i) for i in range(5)])  # 120 frames; trained on 24
    encode(tmp_path / "long.mp4", long)
    windows = predictor(tmp_path / "long.mp4")
    assert [round(w.start_seconds, 2) for w in windows] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert windows[-1].end_seconds == pytest.approx(5.0)
    assert len(predictor(tmp_path / "long.mp4", window_seconds=0)) == 1
    assert len(predictor(tmp_path / "long.mp4", window_seconds=2.0)) == 3
    short = predictor(tmp_path / "long.mp4", window_seconds=2.2)  # the rest of .6 s joins the second window
    assert [round(w.end_seconds, 1) for w in short] == [2.2, 5.0]


def test_all_windows_of_a_video_cost_one_pass(monkeypatch, tmp_path):
    encode(tmp_path / "long.mp4", np.concatenate([render("grow", seed=0, index=i) for i in range(5)]))
    passes, frames = [], decode.frames
    monkeypatch.setattr(decode, "frames", lambda path, **options: passes.append(path) or frames(path, **options))
    worker = Worker(Limits(), lambda: None)
    for start in range(0, 120, 24):
        about, _ = worker.read(["w", str(tmp_path / "long.mp4"), start, 24, 24.0, False], [0, 5, 23], None)
        assert about["shape"] == [3, 64, 64, 3]
    assert len(passes) == 1


def test_a_window_scores_as_the_same_frames_in_a_file_of_their_own(predictor, tmp_path):
    parts = [render(label, seed=0, index=i) for i, label in enumerate(["grow", "crowd", "move_left"])]
    encode(tmp_path / "long.mp4", np.concatenate(parts))
    encode(tmp_path / "part.mp4", parts[1])
    window = predictor(tmp_path / "long.mp4", window_seconds=1.0)[1]
    (alone,) = predictor(tmp_path / "part.mp4")
    assert window.labels == alone.labels
    assert np.allclose(window.scores, alone.scores, atol=1e-4)


def test_wrong_inputs_are_said_plainly(run, tmp_path):
    assert predict(run.path, [tmp_path / "none.mp4"])[1][0].reason == "No such file or directory"
    (tmp_path / "text.mp4").write_text("no video")
    found, failed = predict(run.path, [tmp_path / "text.mp4", Manifest.load(run.recipe().data.manifest).row(0).path])
    assert len(found) == 1
    assert (failed[0].path, "Invalid data" in failed[0].reason) == (str(tmp_path / "text.mp4"), True)
    with pytest.raises(UserError, match="no such run"):
        predict(tmp_path / "none", [tmp_path / "text.mp4"])


MODULE = """
import torch
from muybridge.zoo import create

def net(*, num_classes, num_frames, temporal_pooling, dropout, method="tsm"):
    assert torch.linspace(0, 1, 3)[1].item() == 0.5  # a builder may compute
    return create(f"{method}_resnet_tiny", num_classes=num_classes, num_frames=num_frames,
                  temporal_pooling=temporal_pooling, dropout=dropout)
"""


def test_a_model_of_ones_own_travels_with_its_run(recipe, tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mynets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    own = replace(recipe, {"model.name": "mynets:net", "model.options.method": "tam"})
    with pytest.raises(UserError, match="allow_code=True"):
        train(own, out=tmp_path / "run")
    mine = train(own, out=tmp_path / "run", allow_code=True)
    assert (mine.path / "source" / "mynets.py").read_text() == MODULE
    (tmp_path / "code" / "mynets.py").unlink()
    with pytest.raises(UserError, match="allow-code"):
        muybridge.load(mine)
    video = Manifest.load(recipe.data.manifest).row(0).path
    assert muybridge.load(mine, allow_code=True)(video)[0].label
    (mine.path / "source" / "mynets.py").write_text(MODULE + "# changed")
    with pytest.raises(UserError, match="other files than those that the run was trained with"):
        muybridge.load(mine, allow_code=True)


def test_a_folder_of_images_is_a_video(predictor, tmp_path):
    """The frames that a video's decoder gives, stored without loss, get the very same scores."""
    encode(tmp_path / "v.mp4", render("grow", seed=5, index=0))
    (tmp_path / "v").mkdir()
    for number, picture in enumerate(frames(tmp_path / "v.mp4"), start=1):
        (tmp_path / "v" / f"img_{number:05d}.png").write_bytes(encoded(picture, ".png"))
    [video], [folder] = predictor(tmp_path / "v.mp4"), predictor(tmp_path / "v")
    assert (folder.labels, folder.scores) == (video.labels, video.scores)


def test_threads_get_the_answer_of_one(predictor):
    """And leave the network as it was: a batch norm that trains for a moment changes its statistics for good."""
    rows = [Manifest.load(predictor.answering.recipe.data.manifest).row(index) for index in range(4)]
    alone = [predictor(row.path) for row in rows]
    before = {name: tensor.clone() for name, tensor in predictor.answering.model.state_dict().items()}
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            answers = list(pool.map(predictor, [row.path for row in rows] * 4))
            assert answers == alone * 4
    after = predictor.answering.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(module.training for module in predictor.answering.model.modules())


def test_a_predictor_is_in_evaluation_mode_from_the_start_and_stays(run):
    loaded = muybridge.load(run)
    assert not any(module.training for module in loaded.answering.model.modules())
    switched = []
    for module in loaded.answering.model.modules():
        module.train = lambda mode=True: switched.append(mode)
    loaded(Manifest.load(run.recipe().data.manifest).row(0).path)
    assert switched == []


def test_what_cannot_be_read_is_told_and_the_next_is_answered_as_it_comes(run, tmp_path):
    """By the command: an answer is printed before the last file is there."""
    good = Manifest.load(run.recipe().data.manifest).row(0).path
    (tmp_path / "tag.avi").write_bytes(b"RIFF" + bytes(range(256)) * 4)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    files = [
        tmp_path / "tag.avi",
        tmp_path / "empty.mp4",
        good,
        tmp_path / "folder",
        tmp_path / "pipe",
        tmp_path / "none.mp4",
        good,
    ]
    with Predictor(run) as predictor:
        answers = predictor.each(files)
        seen = [next(answers) for _ in range(3)]
        assert [type(answer).__name__ for _, answer in seen] == ["DecodeError", "DecodeError", "Predictions"]
        rest = list(answers)
        assert [path for path, _ in [*seen, *rest]] == [str(file) for file in files]
        assert rest[-1][1] == seen[2][1]
    result = CliRunner().invoke(app, ["predict", str(run.path), *map(str, files)])
    assert result.exit_code == 2
    assert result.stdout.count(good) == 2
    for file in (*files[:2], *files[3:6]):
        assert str(file) in result.stderr
    heard = []
    predictions, failed = predict(run, files, ready=heard.append)
    assert predictions == [one for answer in heard if isinstance(answer, list) for one in answer]
    assert failed == [answer for answer in heard if not isinstance(answer, list)]
    assert [type(answer).__name__ for answer in heard[:3]] == ["DecodeError", "DecodeError", "Predictions"], "in order"
    assert predict(run, good) == (predict(run, [good])[0], []), "one file may be given alone"
    assert "is empty (0 bytes)" in result.stderr


def test_one_document_has_the_answers_and_the_failures(run, tmp_path):
    good = Manifest.load(run.recipe().data.manifest).row(0).path
    (tmp_path / "empty.mp4").touch()
    result = CliRunner().invoke(app, ["predict", str(run.path), str(tmp_path / "empty.mp4"), good, "--json"])
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert [one["path"] for one in found["predictions"]] == [good]
    assert found["failed"] == [{"path": str(tmp_path / "empty.mp4"), "reason": "is empty (0 bytes)"}]


def test_a_share_that_goes_away_is_told_of_each_file(run, monkeypatch):
    good = Manifest.load(run.recipe().data.manifest).row(0).path
    read, calls = Held.read, []

    def gone_once(self, row, indices):
        calls.append(row)
        if len(calls) == 1:
            raise MachineFault(f"{row.path}: Stale file handle")
        return read(self, row, indices)

    monkeypatch.setattr(Held, "read", gone_once)
    found, failed = predict(run, [good, good])
    assert [error.path for error in failed] == [good]
    assert "Stale file handle" in failed[0].reason
    assert len(found) == 1


def test_a_file_over_a_limit_is_told(run, tmp_path):
    good = Manifest.load(run.recipe().data.manifest).row(0).path
    found, failed = predict(run, [good], limits=Limits(frames=2))
    assert found == []
    assert "more than 2 frames (--max-frames)" in failed[0].reason


def test_a_name_that_is_no_text_is_told_and_the_next_is_answered(predictor, tmp_path):
    encode(tmp_path / "a.mp4", render("grow", seed=5, index=0))
    os.link(tmp_path / "a.mp4", os.fsencode(tmp_path) + b"/b\xff.mp4")
    names = [os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.mp4"), str(tmp_path / "a.mp4")]
    (_, first), (_, second) = predictor.each(names)
    assert "its name is not UTF-8 text" in str(first)
    assert second[0].labels
