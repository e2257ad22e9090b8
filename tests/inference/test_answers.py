"""`predict` over many videos: what names stand for, files of answers that survive a kill, studies, and copies with labels."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import call as run_command
from made_runs import make_run
from making_images import encoded
from safetensors.torch import load_file, save_file

import muybridge
from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import encode, render
from muybridge.errors import InUse, UserError
from muybridge.inference import annotate as annotating
from muybridge.inference import answers
from muybridge.inference.answering import best_on_val
from muybridge.inference.listing import listed
from muybridge.inference.predict import predict
from muybridge.inference.results import Prediction, Predictions
from muybridge.runtime.files import partial_name, sha256_file
from muybridge.runtime.locks import locked
from muybridge.storage.study import RunRecord, SetRecord, StudyRecord
from muybridge.video import DecodeError, frames, probe


def call(*words, code=0):
    result = run_command(*words)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def folder(made_set, tmp_path_factory):
    """Three videos at two depths, a folder of images, and what is none."""
    place = tmp_path_factory.mktemp("day")
    manifest = Manifest.load(made_set)
    (place / "in").mkdir()
    for index, name in enumerate(("b.mp4", "in/a.mp4", "c [1].MP4")):
        shutil.copy(manifest.row(index).path, place / name)
    (place / "pictures").mkdir()
    for number, picture in enumerate(frames(place / "b.mp4")):
        (place / "pictures" / f"{number:03d}.png").write_bytes(encoded(picture, ".png"))
    (place / "notes.txt").write_text("x")
    (place / "more.txt").write_text("x")
    (place / ".hidden.mp4").write_bytes(b"x")
    (place / ".cache").mkdir()
    (place / ".cache" / "x.mp4").write_bytes(b"x")
    return place


def names(listing):
    return [str(video) for video in listing.videos]


# --- names


def test_a_folder_is_its_videos_and_what_is_left_out_is_counted(folder):
    found = listed([folder])
    assert found.total == 4
    assert sorted(names(found)) == sorted(str(folder / name) for name in ("b.mp4", "in/a.mp4", "c [1].MP4", "pictures"))
    assert found.told() == ["left out: 2 files (not videos by their names, .txt)", "left out: 2 files (hidden)"]


def test_a_folder_of_images_is_one_video_unless_videos_lie_in_it(folder, tmp_path):
    assert names(listed([folder / "pictures"])) == [str(folder / "pictures")]
    shutil.copytree(folder / "pictures", tmp_path / "mixed")
    shutil.copy(folder / "b.mp4", tmp_path / "mixed")
    found = listed([tmp_path / "mixed"])
    assert names(found) == [str(tmp_path / "mixed" / "b.mp4")]
    assert "24 image(s) lie in no class folder" in found.told()[0]
    (tmp_path / "empty").mkdir()
    assert names(listed([tmp_path / "empty"])) == [str(tmp_path / "empty")], "its error is told with the others"


def test_patterns_lists_and_names(folder, tmp_path, monkeypatch):
    assert names(listed([f"{folder}/**/*.mp4"])) == [f"{folder}/b.mp4", f"{folder}/in/a.mp4"]
    assert names(listed([folder / "c [1].MP4"])) == [f"{folder}/c [1].MP4"], "a file's own name is not a pattern"
    with pytest.raises(UserError, match="no file has such a name"):
        listed([f"{folder}/*.avi"])
    (tmp_path / "list.txt").write_text(f"{folder}/b.mp4\n\n  near.mp4\n")
    assert names(listed([tmp_path / "list.txt", "x.mp4"])) == [f"{folder}/b.mp4", str(tmp_path / "near.mp4"), "x.mp4"]
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UserError, match="it lists no video"):
        listed([tmp_path / "none.txt"])


def test_a_manifest_is_its_rows_and_parts_are_told_apart(run, made_set, tmp_path):
    manifest = Manifest.load(made_set)
    columns = manifest.plain_columns()
    first = {name: values[:3].copy() for name, values in columns.items()}
    first["path"][1], first["id"][1] = first["path"][0], "part"
    first["start_frame"][1], first["num_frames"][1] = 12, 8
    from muybridge.data.manifest import from_columns

    from_columns(first, classes=manifest.classes, root=manifest.root, mirror=manifest.mirror).save(tmp_path / "m.csv")
    found, failed = predict(run, tmp_path / "m.csv")
    assert failed == []
    paths = [manifest.row(index).path for index in range(3)]
    assert [one.path for one in found] == [f"{paths[0]}#0-23", f"{paths[0]}#12-19", paths[2]]
    assert (found[1].start_seconds, found[1].end_seconds) == (12 / 24, 20 / 24)
    part_THW3 = np.stack(list(frames(paths[0])))[12:20]
    [alone] = muybridge.load(run)(part_THW3, fps=24.0)
    assert alone.labels == found[1].labels
    assert np.allclose(alone.scores, found[1].scores, atol=1e-6)
    assert predict(run, paths[2])[0][0].labels == found[2].labels


def test_a_manifest_that_is_named_from_the_current_folder(run, made_set, monkeypatch):
    monkeypatch.chdir(made_set.parent.parent)
    found, failed = predict(run.path, f"{made_set.parent.name}/{made_set.name}")
    assert (len(found), failed) == (60, [])
    paths = [one.path for one in found]
    monkeypatch.chdir(made_set.parent)
    [alone] = predict(run.path, f"../{paths[7]}")[0]
    assert alone.labels == found[7].labels
    assert alone.scores == pytest.approx(found[7].scores, abs=1e-6)


def test_paths_on_standard_input(run, folder):
    given = f"{folder}/b.mp4\n\n{folder}/none.mp4\n{folder}/in/a.mp4"
    words = [sys.executable, "-m", "muybridge", "predict", str(run.path), "-", "--json"]
    result = subprocess.run(words, input=given, capture_output=True, text=True)
    found = json.loads(result.stdout)
    assert result.returncode == 2
    assert [one["path"] for one in found["predictions"]] == [f"{folder}/b.mp4", f"{folder}/in/a.mp4"]
    assert [one["path"] for one in found["failed"]] == [f"{folder}/none.mp4"]


def test_an_open_standard_input_delays_no_answer_and_can_be_left(run, folder):
    words = [sys.executable, "-u", "-m", "muybridge", "predict", str(run.path), "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:
        process.stdin.write(f"{folder}/b.mp4\n")
        process.stdin.flush()
        assert "b.mp4" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) == 130
        finally:
            process.kill()
        assert "Fatal" not in process.stderr.read()


# --- files of answers


def rows_of(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_answers_are_written_and_continued(run, folder, tmp_path, ending):
    out = tmp_path / f"answers{ending}"
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    videos = [folder / "b.mp4", tmp_path / "bad.mp4", folder / "in" / "a.mp4"]
    found, failed = predict(run, videos[:2], out=out, top=2)
    assert (len(found), len(failed)) == (1, 1)
    first = out.read_bytes()
    assert [(row["path"], bool(row.get("error"))) for row in rows_of(out)] == [
        (str(videos[0]), False),
        (str(videos[1]), True),
    ]
    found, failed = predict(run, videos, out=out, top=2)
    assert ([one.path for one in found], failed) == ([str(videos[2])], [])
    assert out.read_bytes().startswith(first)
    rows = rows_of(out)
    assert [row["path"] for row in rows] == list(map(str, videos))
    last = rows[-1]
    if ending == ".jsonl":
        assert (last["labels"], last["scores"]) == (list(found[0].labels), list(found[0].scores))
    else:
        assert [last["label"], last["label_2"]] == list(found[0].labels)
        assert [float(last["score"]), float(last["score_2"])] == pytest.approx(list(found[0].scores), abs=1e-6)
    whole = out.read_bytes()
    assert predict(run, [*videos, *videos], out=out, top=2) == ([], [])
    assert out.read_bytes() == whole


def windows(path, count, classes=("x", "y")):
    seconds = [(float(start), float(start + 1)) for start in range(count)]
    predictions = [Prediction(path, *each, classes, (0.75, 0.25)) for each in seconds]
    return Predictions(predictions, classes=classes, probabilities_WK=np.tile([0.75, 0.25], (count, 1)))


HOSTILE = ["=cmd()", 'a"b,c.mp4', "new\nline.mp4", "tab\t.mp4", "ü\r.mp4", "-x.mp4"]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_file_that_was_cut_off_anywhere_is_mended(tmp_path, ending):
    """At every byte: what is whole stays, the rest is answered again, and the file ends as one that was never cut."""
    whole = tmp_path / f"whole{ending}"
    videos = [*HOSTILE[:3], "long.mp4", *HOSTILE[3:]]

    def write(path):
        asked = []
        with answers.opened(path, call_sha256="a" * 16, top=2) as file:
            for name in videos:
                if file.key(name) not in file.done:
                    asked.append(name)
                    bad = name.startswith("-")
                    file.add(name, DecodeError(name, "bad\nfile") if bad else windows(name, 3 if "long" in name else 1))
        return asked

    assert write(whole) == videos
    assert write(whole) == []
    data = whole.read_bytes()
    cut = tmp_path / f"cut{ending}"
    last = len(videos)
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        asked = write(cut)
        assert cut.read_bytes() == data, length
        assert asked == videos[len(videos) - len(asked) :]
        assert len(asked) <= last, "a longer file holds no fewer"
        last = len(asked)
    assert last == 1


def test_no_file_of_others_is_touched(run, folder, tmp_path):
    video = folder / "b.mp4"
    out = tmp_path / "a.csv"
    predict(run, video, out=out)
    before = out.read_bytes()
    with pytest.raises(UserError, match="answers of another run, or by other options"):
        predict(run, video, out=out, window_seconds=0.5)
    with pytest.raises(UserError, match="not written by this command"):
        predict(run, video, out=out, top=3)
    assert out.read_bytes() == before
    for name, text in {
        "other.csv": "path,label\na.mp4,x\n", "own.jsonl": '{"a": 1}\n', "text.jsonl": "hello\n", "list.jsonl": "[]\n",
        "open.jsonl": "hello", "open_own.jsonl": '{"label": "mine", "x": 1}',
        "deep.jsonl": "[" * 100_000 + "\n", "half.csv": before.decode()[:20] + "\nx",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="Choose another --out"):
            predict(run, video, out=tmp_path / name)
        assert (tmp_path / name).read_text() == text
    for name in ("a.txt", "a", "a.mp4"):
        with pytest.raises(UserError, match="does not end as answers do"):
            predict(run, video, out=tmp_path / name)
    with pytest.raises(UserError, match="has no name"):
        predict(run, [np.zeros((4, 32, 32, 3), np.uint8)], out=tmp_path / "new.csv")
    with locked(tmp_path, "writes a.csv", name=".a.csv.lock"), pytest.raises(InUse):
        predict(run, video, out=out)


def test_a_copy_of_a_run_continues_its_answers(run, folder, tmp_path):
    """The name of a folder decides nothing, the weights do."""
    shutil.copytree(run.path, tmp_path / "copy")
    predict(run, folder / "b.mp4", out=tmp_path / "a.jsonl")
    assert predict(tmp_path / "copy", folder / "b.mp4", out=tmp_path / "a.jsonl") == ([], [])
    for file in (tmp_path / "copy" / "checkpoints").glob("*/model.safetensors"):
        weights = load_file(file)
        weights["fc.bias"] += 1
        save_file(weights, file)
        hashes = json.loads(file.with_name("sha256.json").read_text())
        file.with_name("sha256.json").write_text(json.dumps(hashes | {file.name: sha256_file(file)}))
    assert muybridge.load(tmp_path / "copy").answering.sha256 != muybridge.load(run).answering.sha256


def test_a_killed_command_is_continued_by_the_same_one(run, made_set, tmp_path):
    manifest = Manifest.load(made_set)
    (tmp_path / "v").mkdir()
    for index in range(24):
        shutil.copy(manifest.row(index).path, tmp_path / "v" / f"{index:02d}.mp4")
    (tmp_path / "v" / "bad.mp4").write_bytes(b"bad")
    out = tmp_path / "answers.jsonl"
    words = [sys.executable, "-m", "muybridge", "predict", str(run.path), str(tmp_path / "v"), "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not out.exists() or out.stat().st_size == 0):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = rows_of(out)
    with out.open("ab") as file:
        file.write(b'{"path": "half')
    result = call("predict", run.path, tmp_path / "v", "--out", out, code=2)
    found = rows_of(out)
    assert found[: len(begun)] == begun
    assert [Path(row["path"]).name for row in found] == [*(f"{index:02d}.mp4" for index in range(24)), "bad.mp4"]
    assert "1 video could not be read" in result.stdout
    assert f"holds the answers of {len(begun)} video" in result.stderr
    predict(run, tmp_path / "v", out=tmp_path / "once.jsonl")
    for row, once in zip(found, rows_of(tmp_path / "once.jsonl"), strict=True):
        assert row["path"] == once["path"]
        assert row.get("scores", []) == pytest.approx(once.get("scores", []), abs=1e-6)


# --- studies


def a_study(path, vals, *, sets=None):
    runs = {}
    for name, val in vals.items():
        run = make_run(path / "runs" / name)
        if val is not None:
            run.finish({"steps": 40, "checkpoint": "last", "val": {"video_top1": val, "videos": 12}})
        runs[name] = RunRecord({})
    StudyRecord(path, "made", runs, {}, sets or {"": SetRecord(tuple(runs))}).save()
    return path


def test_a_study_answers_by_its_best_run_on_val(tmp_path, capsys):
    study = a_study(tmp_path / "s", {"a": 0.5, "b": 0.75, "c": 0.75, "d": None})
    assert best_on_val(study).name == "b"
    said = " ".join(capsys.readouterr().err.split())
    assert "b answers, whose val accuracy is the highest of 3 finished runs: 0.750 (12 videos)" in said
    (study / "runs" / "b" / "result.json").unlink()
    assert best_on_val(study).name == "c"
    with pytest.raises(UserError, match="no finished run of this study was scored on val"):
        best_on_val(a_study(tmp_path / "none", {"a": None}))
    two = {"x": SetRecord(("a",)), "y": SetRecord(("b",))}
    with pytest.raises(UserError, match="on 2 data sets, whose accuracies cannot be compared"):
        best_on_val(a_study(tmp_path / "two", {"a": 0.1, "b": 0.2}, sets=two))


def test_predict_takes_a_study(run, folder, tmp_path):
    shutil.copytree(run.path, tmp_path / "runs" / "only")
    StudyRecord(tmp_path, "made", {"only": RunRecord({})}, {}, {"": SetRecord(("only",))}).save()
    result = call("predict", tmp_path, folder / "b.mp4", "--json")
    assert json.loads(result.stdout)["predictions"] == [
        one.as_json() | {"labels": list(one.labels), "scores": list(one.scores)}
        for one in predict(run, str(folder / "b.mp4"))[0]
    ]
    assert "only answers" in result.stderr


# --- copies with labels


def test_a_copy_has_the_labels_of_each_window_and_the_frames_around_them(run, tmp_path):
    long_THW3 = np.repeat(np.repeat(np.concatenate([render("grow", seed=0, index=i) for i in range(3)]), 5, 1), 5, 2)
    encode(tmp_path / "long.mp4", long_THW3)
    with run.predictor() as predictor:
        answer = predictor(tmp_path / "long.mp4", window_seconds=1.0)
        predictor.annotate(tmp_path / "long.mp4", answer, tmp_path / "out.mp4")
        predictor.annotate(long_THW3, answer, tmp_path / "array.mp4", fps=24.0)
        with pytest.raises(UserError, match="it exists already"):
            predictor.annotate(long_THW3, answer, tmp_path / "out.mp4")
        with pytest.raises(UserError, match="does not end as a video does"):
            predictor.annotate(long_THW3, answer, tmp_path / "out.gif")
    for name in ("out.mp4", "array.mp4"):
        info = probe(tmp_path / name)
        assert (info.num_frames, info.width, info.height) == (72, 320, 320)
        assert info.times_seconds == pytest.approx(probe(tmp_path / "long.mp4").times_seconds, abs=1e-4)
        copy_THW3 = np.stack(list(frames(tmp_path / name))).astype(int)
        original_THW3 = np.stack(list(frames(tmp_path / "long.mp4"))).astype(int)
        below = np.abs(copy_THW3 - original_THW3)[:, 120:]
        assert below.mean() < 4, "what is below the labels is the video"
        boxes = copy_THW3[:, :60, :120].astype(float)
        within = max(np.abs(boxes[t + 1] - boxes[t]).mean() for t in range(72) if t + 1 not in (24, 48, 72))
        between = [np.abs(boxes[t] - boxes[t - 1]).mean() for t in (24, 48)]
        assert min(between) > 3 * within, "the labels change with the windows, and only then"
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_small_and_odd_frames_are_enlarged(run, tmp_path):
    with run.predictor() as predictor:
        clip_THW3 = np.zeros((4, 33, 51, 3), np.uint8)
        predictor.annotate(clip_THW3, predictor(clip_THW3), tmp_path / "small.mp4")
    info = probe(tmp_path / "small.mp4")
    assert (info.num_frames, info.height, info.width) == (4, 264, 408)


@pytest.mark.parametrize("shape", [(2, 180), (16, 4000)])
def test_a_ribbon_is_not_enlarged_beyond_what_the_format_takes(run, tmp_path, shape):
    with run.predictor() as predictor:
        clip_THW3 = np.zeros((2, *shape, 3), np.uint8)
        predictor.annotate(clip_THW3, predictor(clip_THW3), tmp_path / "wide.mp4")
    info = probe(tmp_path / "wide.mp4")
    assert info.num_frames == 2
    assert info.width <= annotating.LONGEST_SIDE


def test_a_copy_that_cannot_be_encoded_is_an_error_of_its_video(run, folder, tmp_path, monkeypatch):
    enlarged = annotating._enlarged
    too_wide_HW3 = np.zeros((2, 20_000, 3), np.uint8)
    monkeypatch.setattr(annotating, "_enlarged", lambda frame: too_wide_HW3 if calls.pop() else enlarged(frame))
    calls = [False] * 200 + [True]
    found, failed = predict(run, [folder / "b.mp4", folder / "in" / "a.mp4"], annotate=tmp_path / "o")
    assert [(error.path, "H.264" in error.reason) for error in failed] == [(str(folder / "b.mp4"), True)]
    assert [one.path for one in found] == [str(folder / "in" / "a.mp4")]
    assert os.listdir(tmp_path / "o") == ["a.mp4"]


def test_copies_are_called_the_same_when_answers_are_continued(run, folder, tmp_path):
    (tmp_path / "A").mkdir()
    (tmp_path / "B").mkdir()
    videos = [Path(shutil.copy(folder / "b.mp4", tmp_path / place / "x.mp4")) for place in "AB"]
    predict(run, videos[0], out=tmp_path / "a.csv", annotate=tmp_path / "o")
    predict(run, videos, out=tmp_path / "a.csv", annotate=tmp_path / "o")
    assert sorted(os.listdir(tmp_path / "o")) == ["x-2.mp4", "x.mp4"]


def test_what_a_killed_command_left_of_a_copy_is_cleared_and_no_other_copy_is_replaced(run, folder, tmp_path):
    left = tmp_path / partial_name(tmp_path / "a.mp4").name
    other = tmp_path / partial_name(tmp_path / "a.mp4.mp4").name
    left.write_bytes(b"x")
    other.write_bytes(b"x")
    with run.predictor() as predictor:
        answer = predictor(folder / "b.mp4")

        def frames_of_a_slow_one():
            yield np.zeros((240, 240, 3), np.uint8)
            (tmp_path / "a.mp4").write_bytes(b"theirs")

        with pytest.raises(UserError, match="it is there already"):
            annotating.write_annotated(tmp_path / "a.mp4", frames_of_a_slow_one(), np.zeros(1), answer, fps=24.0)
        with locked(tmp_path, "writes b.mp4", name=".b.mp4.lock"), pytest.raises(InUse):
            predictor.annotate(folder / "b.mp4", answer, tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == b"theirs"
    assert not left.exists()
    assert other.exists(), "it is of another file"


def test_copies_by_the_command(run, folder, tmp_path):
    call("predict", run.path, folder / "b.mp4", "--annotate", tmp_path / "b.mp4")
    assert probe(tmp_path / "b.mp4").num_frames == 24
    before = (tmp_path / "b.mp4").read_bytes()
    result = call("predict", run.path, folder / "b.mp4", "--annotate", tmp_path / "b.mp4", code=2)
    assert "it exists already" in result.stderr
    result = call("predict", run.path, folder, "--annotate", tmp_path / "b.mp4", code=2)
    assert "Name a folder" in result.stderr
    assert (tmp_path / "b.mp4").read_bytes() == before
    (tmp_path / "bad").mkdir()
    shutil.copy(folder / "b.mp4", tmp_path / "bad" / "b.mp4")
    (tmp_path / "bad" / "c.mp4").write_bytes(b"bad")
    result = call(
        "predict",
        run.path,
        folder / "b.mp4",
        tmp_path / "bad",
        folder / "pictures",
        "--annotate",
        tmp_path / "o",
        code=2,
    )
    assert sorted(os.listdir(tmp_path / "o")) == ["b-2.mp4", "b.mp4", "pictures.mp4"]
    result = call("predict", run.path, folder / "b.mp4", folder / "pictures", "--annotate", tmp_path / "o")
    assert "it exists already, and is left as it is" in result.stderr.replace("\n", " ")
