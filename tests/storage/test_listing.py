"""`muybridge runs`: which runs there are, and where each stands."""

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from made_runs import make_run
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.errors import UserError
from muybridge.recipe import to_json
from muybridge.recipe.schedule import budget
from muybridge.storage import run as runs
from muybridge.storage.listing import find, standing
from muybridge.storage.run import Run

FIELDS = {
    "path", "name", "model", "data", "seed", "fold", "state", "epoch", "epochs", "max_hours", "split", "video_top1",
    "train_seconds", "changed", "reason", "fused",
}  # fmt: skip
HOURS = {"optim.epochs": None, "optim.schedule": "constant", "stop.max_hours": 2.5}


def call(*words, code=0):
    result = CliRunner().invoke(app, ["runs", *map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def listed(*words):
    return json.loads(call(*words, "--json").stdout)


def save(run, step):
    """A checkpoint, as far as a listing looks at it."""
    folder = run.checkpoints / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    (run.checkpoints / "last").write_text(folder.name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def held():
    """Holds a run's lock in another process until the test is over."""
    holding = []

    def hold(run):
        words = (
            "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n print('held', flush=True)\n sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", words, run.path / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        holding.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in holding:
        process.communicate()


def test_every_state(here, held):
    make_run(here / "a", accuracy=0.8)
    held(make_run(here / "b", finished=False))
    save(make_run(here / "deep" / "er" / "c", finished=False, seed=3), 20)
    make_run(here / "d", finished=False)
    (make_run(here / "e").path / "recipe.json").write_text("{")
    result = call("--json")
    rows = json.loads(result.stdout)["runs"]
    assert [(row["path"], row["state"], row["epoch"]) for row in rows] == [
        ("a", "finished", 4), ("b", "training", 4), ("d", "begun", 0), ("deep/er/c", "stopped", 2), ("e", "damaged", None),
    ]  # fmt: skip
    assert [(row["split"], row["video_top1"]) for row in rows] == [
        ("test", 0.8), ("val", pytest.approx(0.8 * 0.9)), (None, None), ("val", pytest.approx(0.4 * 0.9)), (None, None),
    ]  # fmt: skip
    assert all(set(row) == FIELDS for row in rows)
    assert (rows[3]["name"], rows[3]["seed"], rows[3]["epochs"], rows[3]["train_seconds"]) == ("c", 3, 30, 4.0)
    assert "e/recipe.json: not valid JSON" in rows[4]["reason"]
    assert "e/recipe.json: not valid JSON" in result.stderr
    assert rows[0]["reason"] is None


def test_the_lock_is_tried_and_nothing_else(here, held):
    run = make_run(here / "a", finished=False)
    save(run, 10)
    assert standing(run).state == "stopped"
    assert not (run.path / ".lock").exists()
    process = held(run)
    assert standing(run).state == "training"
    process.communicate()  # gone, its file is still there
    assert (run.path / ".lock").exists()
    assert standing(run).state == "stopped"
    with run.lock():  # it was let go at once
        assert standing(run).state == "training"


def test_a_run_that_ends_while_it_is_looked_at_is_finished(here, monkeypatch):
    run = make_run(here / "a", finished=False)
    save(run, 40)

    def ends(self):
        self.finish({"steps": 40, "test": {"video_top1": 0.5, "videos": 60}})
        return False

    monkeypatch.setattr(Run, "is_in_use", ends)
    assert standing(run).state == "finished"


def test_a_real_run_finished_and_cut_short(run, tmp_path):
    known = standing(run)
    assert (known.state, known.epoch, known.epochs, known.split) == ("finished", 2, 2, "test")
    assert known.video_top1 == run.result()["test"]["video_top1"]
    assert known.train_seconds == pytest.approx(sum(line["train_seconds"] for line in run.timing()))
    shutil.copytree(run.path, tmp_path / "cut")
    (tmp_path / "cut" / "result.json").unlink()
    cut = standing(Run(tmp_path / "cut"))
    assert (cut.state, cut.epoch, cut.split) == ("stopped", 2, "val")
    assert cut.video_top1 == run.metrics("val")[-1]["video_top1"]


def spoil(name, text):
    return lambda run: (run.path / name).write_text(text)


DAMAGES = {
    "a recipe of no fields": (spoil("recipe.json", '{"format_version": 1, "optm": {}}'), "Did you mean"),
    "a result that is cut off": (spoil("result.json", '{"test": {'), "result.json: not valid JSON"),
    "a result that is none": (spoil("result.json", "[]"), "result.json: it is damaged: input should be a valid dictionary"),
    "a result without its figure": (spoil("result.json", '{"test": {}}'), "result.json: it is damaged: steps: field required"),
    "measurements in pieces": (spoil("metrics.jsonl", '{"kind"\n{"kind": "val"}\n'), "metrics.jsonl, line 1: not valid JSON"),
    "measurements without a kind": (spoil("metrics.jsonl", "{}\n"), "metrics.jsonl, line 1: it is damaged: kind: field required"),
    "measurements that are no file": (
        lambda run: (run.metrics_file.unlink(), run.metrics_file.mkdir()), "metrics.jsonl: it cannot be read",
    ),
    "timing that is none": (spoil("timing.jsonl", "3\n"), "timing.jsonl, line 1: it is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_run_is_listed_with_the_reason(what, here):
    harm, reason = DAMAGES[what]
    run = make_run(here / "bad")
    make_run(here / "good")
    harm(run)
    result = call("--json")
    bad, good = json.loads(result.stdout)["runs"]
    assert (bad["state"], good["state"]) == ("damaged", "finished")
    assert reason in bad["reason"]
    assert f"damaged: {bad['reason']}" in result.stderr.replace("\n", "")
    assert bad["changed"] is not None
    assert bad["model"] == (None if "recipe" in what else "tsm_resnet_tiny")


def test_a_checkpoint_that_is_gone_is_damage(here):
    run = make_run(here / "a", finished=False)
    save(run, 20)
    shutil.rmtree(run.checkpoints / "step-00000020")
    assert standing(run).state == "damaged"
    assert "last: it names 'step-00000020'" in standing(run).reason


def test_a_lock_that_may_not_be_tried_is_told(here):
    run = make_run(here / "a", finished=False)
    (run.path / ".lock").mkdir()
    assert "nobody can tell whether a process is at work there" in standing(run).reason
    with pytest.raises(UserError, match="cannot be opened for writing"):
        run.state()


def test_a_torn_last_line_is_no_damage(here):
    run = make_run(here / "a", finished=False)
    save(run, 40)
    with run.metrics_file.open("a") as file:
        file.write('{"kind": "train", "epo')
    assert (standing(run).state, standing(run).epoch) == ("stopped", 4)


@pytest.mark.parametrize("changes", [
    {}, {"optim.min_steps": 500}, {"optim.min_steps": 5}, {"optim.steps_per_epoch": 7, "optim.min_steps": 300},
    {"optim.batch_size": 50, "optim.min_steps": 61}, {"optim.steps": 10}, HOURS,
])  # fmt: skip
def test_epochs_are_planned_as_in_training(changes, here):
    run = make_run(here / "a", videos=51, changes=changes)
    assert run.planned_epochs() == budget(run.recipe(), run.dataset()["split_sizes"]["train"]).epochs


def test_hours_where_they_end_it(here):
    run = make_run(here / "a", changes=HOURS)
    run.write_timing({"epoch": 5, "train_seconds": 3720.0, "train_clips_per_s": 1.0})
    row = listed()["runs"][0]
    assert (row["epochs"], row["max_hours"], row["train_seconds"]) == (None, 2.5, 3724.0)
    assert "4 (1:02 of 2:30 h)" in call().stdout


def test_trials_of_searches_are_counted_and_listed_when_asked(here):
    for name in ("runs/a-seed0", "search/a/trial-0", "tuning/a/trial-1"):
        make_run(here / "study" / name)
    few, all_of_them = listed(), listed("--trials")
    assert [row["name"] for row in few["runs"]] == ["a-seed0"]
    assert (few["left_out"], all_of_them["left_out"]) == (2, 0)
    assert len(all_of_them["runs"]) == 3
    assert "left out: 2 trials of searches" in call().stdout
    assert "left out" not in call("--trials").stdout


def test_filter_by_state(here):
    make_run(here / "a")
    make_run(here / "b", finished=False)
    save(make_run(here / "c", finished=False), 10)
    assert [row["path"] for row in listed("--state", "stopped,finished")["runs"]] == ["a", "c"]
    assert listed("--state", "training")["runs"] == []
    assert "No training runs below ." in call("--state", "training").stderr
    wrong = call("--state", "stoped", code=2)
    assert "--state: 'stoped' is unknown. Did you mean 'stopped'?" in wrong.stderr


def test_no_run_is_an_answer_and_no_folder_a_mistake(here):
    (here / "empty").mkdir()
    (here / "file").write_text("")
    result = call("empty")
    assert (result.stdout, result.stderr) == ("", "No runs below empty\n")
    assert listed("empty") == {"runs": [], "left_out": 0}
    assert "nowhere: it does not exist. Name a folder" in call("nowhere", code=2).stderr
    assert "file: it is a file. Name a folder" in call("file", code=2).stderr
    assert "nowhere: it does not exist" in json.loads(call("empty", "nowhere", "--json", code=2).stdout)["error"]


def test_what_is_a_run_and_where_none_is_looked_for(here):
    run = make_run(here / "a")
    for inside in ("a/checkpoints/x", "a/source/x", ".hidden/x", "scores/b", "a/more"):
        make_run(here / inside)
    (here / "recipes").mkdir()
    (here / "recipes" / "recipe.json").write_text(to_json(run.recipe()))  # a recipe alone
    assert [row["path"] for row in listed()["runs"]] == ["a", "a/more", "scores/b"]
    assert [row["path"] for row in listed(".hidden")["runs"]] == [".hidden/x"]
    assert [row["path"] for row in listed("a")["runs"]] == ["a", "a/more"]


def test_links_are_followed_once(here, tmp_path_factory):
    make_run(here / "z" / "a")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_run(elsewhere / "b")
    (here / "z" / "round").symlink_to(here)
    for name in ("first", "zz"):  # comes before it, or after; neither is its own path
        (here / name).symlink_to(here / "z" / "a")
    for name in ("far", "farther"):
        (here / name).symlink_to(elsewhere)
    (here / "broken").symlink_to(here / "nothing")
    assert [row["path"] for row in listed()["runs"]] == ["far/b", "z/a"]
    assert [row["path"] for row in listed("z", "z/a", here)["runs"]] == ["far/b", "z/a"]


def test_a_folder_that_cannot_be_read_is_told(here, monkeypatch):
    make_run(here / "a")
    (here / "shut").mkdir()

    def scandir(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return os_scandir(path)

    os_scandir = os.scandir
    monkeypatch.setattr(runs.os, "scandir", scandir)
    result = call("--json")
    assert [row["path"] for row in json.loads(result.stdout)["runs"]] == ["a"]
    assert "warning: shut: the folder cannot be read: Permission denied" in result.stderr
    with pytest.raises(PermissionError):
        find(here)


def test_the_table(here, tmp_path_factory):
    make_run(here / "sets" / "a", changes={"data.manifest": "/data/gestures/manifest.csv"})
    other = make_run(tmp_path_factory.mktemp("other") / "b", seed=7)
    lines = call(".", other.path).stdout.splitlines()
    cells = [line.split() for line in lines]
    assert ["run", "model", "data", "seed", "state", "epoch", "video", "top-1", "trained", "for", "changed"] in cells
    row = next(line for line in cells if line and line[0] == "sets/a")
    assert row[1:10] == ["tsm_resnet_tiny", "gestures", "0", "finished", "4", "of", "30", "0.800", "test"]
    assert any(line and line[0] == str(other.path) for line in cells), "a run elsewhere has its whole path"
    make_run(here / "c", fold=2)
    row = next(line.split() for line in call().stdout.splitlines() if line.split()[:1] == ["c"])
    assert row[:6] == ["c", "tsm_resnet_tiny", "set", "0", "2", "finished"]


def test_changed_is_when_training_last_wrote(here):
    run = make_run(here / "a")
    for file in run.path.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    os.utime(run.metrics_file, (1_200_000_000, 1_200_000_000))
    run.save_speed({})
    (run.path / ".lock").touch()
    assert datetime.fromisoformat(listed()["runs"][0]["changed"]).timestamp() == 1_200_000_000


def test_standing_in_a_run(here, monkeypatch):
    monkeypatch.chdir(make_run(here / "a").path)
    (row,) = listed()["runs"]
    assert (row["path"], row["name"]) == (".", "a")


def test_listing_needs_no_torch(here):
    make_run(here / "a")
    code = (
        "import sys\nfrom muybridge.cli.app import app\n"
        "try:\n app(['runs'])\nexcept SystemExit as ended:\n assert not ended.code\n"
        "print(sorted({'torch', 'scipy', 'altair', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "finished" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_measured_beginning_is_no_beginning_any_more(here):
    run = make_run(here / "a", finished=False)
    assert run.holds_only_beginnings()
    standing(run)
    assert run.holds_only_beginnings()
    run.save_speed({})
    assert not run.holds_only_beginnings(), "another run must not take it over with its speed"


def test_speed_is_kept_whole(here):
    run = make_run(here / "a")
    assert run.speed() is None
    run.save_speed({"size": 112})
    assert run.speed() == {"format_version": 2, "size": 112}
    (run.path / "speed.json").write_text('{"format_version": 1, "device": "cpu", "peak_memory_bytes": 9e9}')
    known = run.speed()
    assert known["peak_memory_bytes"] is None, "it may be that of the command"
    assert known["memory_is_unknown"]
    (run.path / "speed.json").write_text('{"format_version": 1, "device": "cuda", "peak_memory_bytes": 9e9}')
    assert run.speed()["peak_memory_bytes"] == 9e9
    (run.path / "speed.json").write_text("{")
    with pytest.raises(UserError, match=r"speed\.json: not valid JSON"):
        run.speed()
