"""`muybridge judge`: a report of files, and errors that a person can act on."""

import json
import os
import pickle

import pytest
from command import call, document
from made_runs import make_run

CLASSES = ("left", "right", "open")
VIDEOS = [f"{name}/{i}.mp4" for name in CLASSES for i in range(4)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a truth and the predictions of two seeds of one model, and of another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.csv").write_text("video,label\n" + "".join(f"{name},{name.split('/')[0]}\n" for name in VIDEOS))
    for seed in (0, 1):
        rows = [f"{name},{1.5 * ('left' in name)},{1.5 * ('right' in name)},{0.1 + seed}\n" for name in VIDEOS]
        (tmp_path / f"net_seed{seed}.csv").write_text(f"video,{','.join(CLASSES)}\n" + "".join(rows))
    (tmp_path / "theirs.csv").write_text("file,prediction\n" + "".join(f"{name},left\n" for name in VIDEOS))
    return tmp_path


def test_files_of_two_tools_in_one_report(folder):
    words = ["net_seed0.csv", "net_seed1.csv", "always left=theirs.csv", "--truth", "test.csv", "--out", "r.html"]
    told = document(call("judge", *words, "--scores", "logits", "--json"))
    assert [(model["model"], model["seeds"]) for model in told["models"]] == [("net", 2), ("always left", 1)]
    assert told["models"][1]["video_top1"] == pytest.approx(1 / 3)
    assert told["models"][0]["files"] == ["net_seed0.csv", "net_seed1.csv"]
    assert {one["figures"].split(",")[0] for one in told["missing"] if one["models"] == ["always left"]} == {"top-5"}
    assert json.loads((folder / "r.json").read_text())["models"] == told["models"]
    printed = call("judge", *words, "--scores", "logits")
    assert printed.exit_code == 0
    assert "always left" in printed.stdout
    assert "report: r.html" in printed.stdout


def test_the_report_is_judge_html_and_no_file_of_the_users_is_overwritten(folder):
    assert call("judge", "theirs.csv", "--truth", "test.csv").exit_code == 0
    assert (folder / "judge.html").exists()
    (folder / "mine.html").write_text("mine")
    result = call("judge", "theirs.csv", "--truth", "test.csv", "--out", "mine.html")
    assert result.exit_code == 2
    assert (folder / "mine.html").read_text() == "mine"


def test_runs_and_files_stand_in_one_report(folder):
    run = make_run(folder / "run", classes=CLASSES, videos=12, views=1)
    ids = run.scores("test").ids_N.tolist()
    (folder / "b.csv").write_text("video,prediction\n" + "".join(f"{name},open\n" for name in ids))
    told = document(call("judge", "run", "b.csv", "--json"))
    assert {model["model"]: len(model["runs"]) for model in told["models"]} == {"tsm_resnet_tiny": 1, "b": 0}
    assert told["dataset"]["split_sizes"]["test"] == 12


ERRORS = {
    "no such file": (["nothing.csv", "--truth", "test.csv"], "nothing.csv"),
    "a folder without a run": ([".", "--truth", "test.csv"], "."),
    "no truth": (["net_seed0.csv"], "--truth"),
    "no such truth": (["net_seed0.csv", "--truth", "nothing.csv"], "nothing.csv"),
    "a truth without labels": (["net_seed0.csv", "--truth", "net_seed1.csv"], "--truth"),
    "an empty file": (["empty.csv", "--truth", "test.csv"], "empty.csv"),
    "an unknown format": (["net_seed0.csv", "--truth", "test.csv", "--format", "xls"], "--format"),
    "an unknown kind of scores": (["net_seed0.csv", "--truth", "test.csv", "--scores", "log"], "--scores"),
    "no probabilities": (["logits.csv", "--truth", "test.csv", "--scores", "probabilities"], "--scores"),
    "an unknown column": (["net_seed0.csv", "--truth", "test.csv", "--column", "video=clip"], "clip"),
    "an unknown role": (["net_seed0.csv", "--truth", "test.csv", "--column", "when=video"], "--column"),
    "a column without a name": (["net_seed0.csv", "--truth", "test.csv", "--column", "video"], "--column"),
    "a pattern without a group": (["net_seed0.csv", "--truth", "test.csv", "--seed-pattern", "seed"], "--seed-pattern"),
    "a name without a file": (["ours=", "--truth", "test.csv"], "ours="),
    "an unknown class": (["theirs.csv", "--truth", "test.csv", "--classes", "two.txt"], "open"),
    "a classes file that is not there": (["theirs.csv", "--truth", "test.csv", "--classes", "no.txt"], "no.txt"),
    "one file twice": (["net_seed0.csv", "net_seed0.csv", "--truth", "test.csv"], "net_seed0.csv"),
    "an unknown pair": (["net_seed0.csv", "theirs.csv", "--truth", "test.csv", "--pair", "net,x"], "--pair"),
    "a pickle that runs code": (["hostile.pkl", "--truth", "test.csv"], "hostile.pkl"),
    "videos of another set": (["others.csv", "--truth", "test.csv"], "others.csv"),
    "no html": (["theirs.csv", "--truth", "test.csv", "--out", "r.pdf"], "--out"),
}


class Hostile:
    """Unpickled, it would make a folder."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_judged_is_one_line_that_names_it(folder, case):
    (folder / "empty.csv").write_text("")
    (folder / "two.txt").write_text("left\nright\n")
    (folder / "logits.csv").write_text("video,left,right,open\n" + "".join(f"{name},-1.5,2.5,3.5\n" for name in VIDEOS))
    (folder / "others.csv").write_text("video,prediction\nx.mp4,left\n")
    (folder / "hostile.pkl").write_bytes(pickle.dumps([{"pred_score": Hostile()}]))
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    words, named = ERRORS[case]
    result = call("judge", *words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.stderr.startswith("error: ")
    assert named in result.stderr
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert not (folder / "ran").exists()
