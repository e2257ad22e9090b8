"""The command line: JSON where asked, errors for people, exit codes."""

import json
import subprocess
import sys

import pytest
from command import call, document
from made_runs import make_run

from muybridge.analysis.comparison import compared
from muybridge.analysis.verdict import verdict_on
from muybridge.cli.app import app
from muybridge.cli.output import print_epochs
from muybridge.text import duration


@pytest.fixture(scope="module")
def videos(made_set):
    return made_set.parent


def test_help_of_every_command():
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert set(commands) >= {
        "demo",
        "motions",
        "prepare",
        "train",
        "evaluate",
        "compare",
        "report",
        "predict",
        "models",
    }
    for command in commands:
        result = call(command, "--help")
        assert result.exit_code == 0
        assert "--json" in result.stdout


def test_from_a_folder_to_a_prediction(videos, tmp_path):
    """prepare, train, evaluate, report, predict, as a user would, every one with --json."""
    manifest, run = tmp_path / "set.csv", tmp_path / "run"
    prepared = document(call("prepare", videos, "--out", manifest, "--json"))
    # the folder holds the made set's own manifest, which lies in no class folder
    assert prepared["videos"] == 60
    assert {r["path"] for r in prepared["rejected"]} == {"manifest.csv", "manifest.csv.json"}
    settings = [
        "clip.size=32",
        "clip.num_frames=4",
        "optim.epochs=1",
        "optim.min_steps=0",
        "optim.warmup_epochs=0",
        "precision=fp32",
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    trained = document(
        call("train", "--model", "tsm_resnet_tiny", "--data", manifest, "--out", run, *options, "--json")
    )
    assert trained["run"] == str(run)
    evaluated = document(call("evaluate", run, "--json"))
    assert evaluated["test"] == pytest.approx(trained["test"], abs=1e-4)
    reported = document(call("report", run, "--out", tmp_path / "report.html", "--json"))
    assert reported["models"][0]["model"] == "tsm_resnet_tiny"
    video = next(videos.glob("grow/*.mp4"))
    predicted = document(call("predict", run, video, "--top", "3", "--json"))
    assert len(predicted["predictions"][0]["labels"]) == 3
    shown = call("predict", run, video)
    assert predicted["predictions"][0]["labels"][0] in shown.stdout


def test_a_report_prints_its_verdict_first(tmp_path):
    runs = [make_run(tmp_path / m, model=m, accuracy=a) for m, a in (("a", 0.9), ("b", 0.5))]
    names = [run.path for run in runs]
    result = call("report", *names, "--no-frames", "--out", tmp_path / "report.html")
    found = verdict_on(compared(runs))
    assert result.stdout.splitlines()[: len(found.lines())] == found.lines()
    assert found.lines()[0] == found.headline
    told = document(call("report", *names, "--no-frames", "--out", tmp_path / "report.html", "--json"))
    assert told["verdict"]["command"] == found.command in found.lines()[-3]


def test_a_recipe_file_of_ones_own(made_set, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from muybridge.recipe import replace\nfrom muybridge.recipe.shipped import small\n"
        "def quick():\n    return replace(small(), {'optim.epochs': 1, 'optim.min_steps': 0, 'optim.warmup_epochs': 0,"
        " 'clip.size': 32})\n"
    )
    result = call(
        "train",
        f"{tmp_path / 'mine.py'}:quick",
        "--model",
        "tsn_resnet_tiny",
        "--data",
        made_set,
        "--out",
        tmp_path / "run",
        "--json",
    )
    assert document(result)["steps"] > 0
    again = call("train", tmp_path / "run" / "recipe.json", "--out", tmp_path / "again", "--json")
    assert document(again)["test"] == document(result)["test"]
    assert (
        "no function 'quik'. Did you mean 'quick'"
        in call("train", f"{tmp_path / 'mine.py'}:quik", "--out", tmp_path / "x").stderr
    )


WRONG = {
    "an empty folder": (["prepare", "{empty}", "--out", "{tmp}/a.csv"], "no class folders"),
    "no folder": (["prepare", "{tmp}/none", "--out", "{tmp}/a.csv"], "no such folder"),
    "one class": (["prepare", "{one}", "--out", "{tmp}/a.csv"], "at least two"),
    "too few clips": (["prepare", "{few}", "--out", "{tmp}/a.csv"], "[Tt]oo few|few for"),
    "no --out": (["prepare", "{one}"], "--out MANIFEST"),
    "an unknown model": (["train", "--model", "tsm_resnt", "--data", "{manifest}", "--out", "{tmp}/r"], "Did you mean"),
    "no manifest": (["train", "--model", "tsn_resnet_tiny", "--data", "{tmp}/none.csv", "--out", "{tmp}/r"], "no such manifest"),
    "a folder as manifest": (["train", "--model", "tsn_resnet_tiny", "--data", "{one}", "--out", "{tmp}/r"], "is a folder"),
    "a video as manifest": (["train", "--model", "tsn_resnet_tiny", "--data", "{video}", "--out", "{tmp}/r"], "not a manifest"),
    "a mistyped field": (
        ["train", "--model", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/r", "--set", "optim.learnrate=1"],
        r"optim\.learnrate: a recipe has no such field.*muybridge recipes --fields",
    ),
    "a field without section": (
        ["train", "--model", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/r", "--set", "epochs=1"],
        r"Did you mean 'optim\.epochs'",
    ),
    "a mistyped value": (
        ["train", "--model", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/r", "--set", "optim.optimizer=sdg"],
        "Did you mean 'sgd'",
    ),
    "a mistyped runtime": (
        ["train", "--model", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/r", "--set", "runtime.devise=cpu"],
        "Did you mean 'device'",
    ),
    "a device that is not there": (
        ["train", "--model", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/r", "--set", "runtime.device=cuda:7"],
        "cuda:7",
    ),
    "no model": (["train", "--data", "{manifest}", "--out", "{tmp}/r"], "model.name: the recipe leaves it open"),
    "no such recipe": (["train", "smal", "--out", "{tmp}/r"], "Did you mean 'small'"),
    "resume with more": (["train", "--resume", "{run}", "--model", "x"], "does not apply to --resume"),
    "no such run": (["evaluate", "{tmp}/none"], "no such run"),
    "a folder that is no run": (["evaluate", "{one}"], "no such run"),
    "a file that is no run": (["evaluate", "{manifest}"], "no such run, as it is a file"),
    "a path through a file": (["motions", "{video}/made"], r"\.mp4: .*\. Check that the path is right"),
    "no such split": (["evaluate", "{run}", "--split", "tset"], "no video is in 'tset'"),
    "no such checkpoint": (["evaluate", "{run}", "--checkpoint", "bset"], "no checkpoint 'bset'"),
    "a file that is no video": (["predict", "{run}", "{manifest}.json"], "manifest.csv.json: "),
    "no such video": (["predict", "{run}", "{tmp}/none.mp4"], "No such file"),
    "a report of nothing": (["report", "{tmp}/none"], "no such run"),
    "folds that are no numbers": (
        ["compare", "--models", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/s", "--folds", "one"],
        "is not a number",
    ),
    "folds in digits that are no numbers": (
        ["compare", "--models", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/s", "--folds", "²"],
        "'²' is not a number",
    ),
    "a label budget of one video": (
        ["compare", "--models", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/s", "--label-budget", "1e-9,1",
         "--dry-run"],
        "1 training video, and two are needed",
    ),
    "weights of no numbers": (
        ["train", "--model", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/r", "--set",
         "optim.class_weights=balance"],
        "'balance' is neither balanced nor numbers above 0",
    ),
    "weights too far apart": (
        ["compare", "--models", "tsn_resnet_tiny", "--data", "{manifest}", "--out", "{tmp}/s", "--dry-run", "--set",
         "optim.class_weights=[1e30,1e-30,1,1,1,1,1,1,1,1]"],
        "too large, or too far apart",
    ),
    "motions into a full folder": (["motions", "{one}"], "not empty"),
    "too few motions": (["motions", "{tmp}/m", "--clips", "3"], "too few"),
    "motions in an unknown layout": (["motions", "{tmp}/m", "--layout", "ucf10"], "'ucf10' is unknown.*ucf101"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_mistakes_exit_2_with_a_line_for_people(what, made_set, run, tmp_path):
    import shutil

    first = next(made_set.parent.glob("grow/*.mp4"))
    (tmp_path / "empty").mkdir()
    for folder in ("one/a", "few/a", "few/b"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(first, tmp_path / folder / "v.mp4")
    names = {
        "tmp": tmp_path, "empty": tmp_path / "empty", "one": tmp_path / "one", "few": tmp_path / "few",
        "manifest": made_set, "video": first, "run": run.path,
    }  # fmt: skip
    arguments, message = WRONG[what]
    arguments = [argument.format(**names) for argument in arguments]
    result = call(*arguments)
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    import re

    assert re.search(message, " ".join(result.stderr.split())), result.stderr
    as_json = call(*arguments, "--json")
    assert as_json.exit_code == 2
    assert re.search(message, json.loads(as_json.stdout)["error"])
    assert not (tmp_path / "r").exists()


def test_one_bad_file_does_not_take_the_others_answers(made_set, run, tmp_path):
    video = next(made_set.parent.glob("grow/*.mp4"))
    (tmp_path / "text.mp4").write_text("x")
    result = call("predict", run.path, tmp_path / "text.mp4", video, "--json")
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    assert [p["path"] for p in answer["predictions"]] == [str(video)]
    assert [f["path"] for f in answer["failed"]] == [str(tmp_path / "text.mp4")]


def test_a_real_process_prints_json_alone_and_no_traceback(made_set, tmp_path):
    def muybridge(*arguments):
        return subprocess.run([sys.executable, "-m", "muybridge", *map(str, arguments)], capture_output=True, text=True)

    good = muybridge("prepare", made_set.parent, "--out", tmp_path / "a.csv", "--json")
    assert json.loads(good.stdout)["videos"] == 60
    bad = muybridge("prepare", tmp_path / "none", "--out", tmp_path / "a.csv")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "Traceback" not in bad.stderr
    assert "no such folder" in bad.stderr
    usage = muybridge("prepare", "--fold", "3")
    assert usage.returncode == 2
    assert "Traceback" not in usage.stderr
    assert muybridge("--version").stdout.startswith("muybridge 0.")


def test_a_dry_run_of_a_training_tells_its_length_and_writes_nothing(made_set, tmp_path):
    words = ["train", "small", "--model", "tsm_resnet_tiny", "--data", made_set, "--set", "clip.size=32"]
    shown = call(*words, "--dry-run").stdout.splitlines()
    assert shown[0] == (
        "training on 40 videos, 3 steps an epoch; 1002 steps in 334 epochs, by optim.min_steps (the recipe's epochs would be "
        "90 steps)"
    )
    assert shown[1] == "peak learning rate 0.002, with batches of 16"
    assert shown[2].startswith("about ")
    assert shown[2].endswith("of computing on this machine, the decoding of videos not counted")
    told = document(call(*words, "--steps", 7, "--dry-run", "--json"))
    assert (told["steps"], told["epochs"], told["max_hours"]) == (7, 3, None)
    assert 0 < told["estimated_seconds"] < 600
    wrong = call(*words, "--steps", 7, "--set", "optim.epochs=3", "--dry-run")
    assert (wrong.exit_code, "--steps: optim.epochs is given, too" in wrong.stderr) == (2, True)
    wrong = call("train", "--resume", tmp_path, "--dry-run")
    assert (wrong.exit_code, "--dry-run: it does not apply to --resume" in wrong.stderr) == (2, True)


def test_a_table_of_epochs_stays_on_the_screen(made_set, tmp_path):
    settings = [
        "clip.size=32",
        "clip.num_frames=4",
        "evaluation.num_clips=1",
        "evaluation.every_epochs=2",
        "precision=fp32",
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    words = [
        "train",
        "--model",
        "tsm_resnet_tiny",
        "--data",
        made_set,
        "--epochs",
        5,
        *options,
        "--out",
        tmp_path / "run",
    ]
    lines = call(*words).stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["epoch", "step"])
    table = [line.split() for line in lines[start + 1 :]]
    rows = [row for row in table if row and row[0].isdigit() and row[1].isdigit()]
    assert [row[:2] for row in rows] == [["2", "6"], ["4", "12"], ["5", "15"]]
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    val = {str(line["epoch"]): line for line in metrics if line["kind"] == "val"}
    assert [row[6] for row in rows] == [f"{val[row[0]]['video_top1']:.3f}" for row in rows]
    assert sum("best" in row for row in rows) == 1
    assert any("3 of 5 epochs" in line for line in lines)


@pytest.mark.parametrize(("epochs", "rows"), [(0, 0), (20, 20), (21, 11), (400, 20)])
def test_a_long_table_of_epochs_is_thinned_out(capsys, epochs, rows):
    numbers = range(1, epochs + 1)
    train = [{"epoch": n, "step": n, "lr": 0.1, "loss": 1.0, "clip_top1": 0.5} for n in numbers]
    val = [{"epoch": n, "loss": 1.0, "video_top1": 0.9 if n == 7 else 0.5} for n in numbers]
    print_epochs(train, val, [{"epoch": n, "train_seconds": 60.0} for n in numbers])
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    shown = [row for row in shown if row[1].isdigit()]
    assert len(shown) in (rows, rows + 1)
    if epochs:
        assert "7" in [row[0] for row in shown], "the best is there"
        assert shown[-1][0] == str(epochs)
        assert f"{duration(60.0 * epochs)}" in " ".join(shown[-1])


def test_standard_sets_by_name_from_the_terminal(tmp_path, monkeypatch):
    """Their names, the page of one, and what is missing of it."""
    from making_sets import WRITERS, Films

    monkeypatch.chdir(tmp_path)
    assert "ucf101" in document(call("prepare", "--set", "list", "--json"))
    page = call("prepare", "--set", "ucf101")
    assert page.exit_code == 2
    assert "UCF101.rar" in page.stderr
    assert "trainlist01.txt" in page.stderr
    assert not list(tmp_path.iterdir()), "asking leaves nothing"
    WRITERS["ucf101"](tmp_path / "set", Films())
    next((tmp_path / "set" / "UCF-101" / "Class000").iterdir()).unlink()
    made = call("prepare", "--set", "ucf101", "--root", "set", "--out", "m.csv")
    assert made.exit_code == 0, made.stderr
    assert "missing: Class000/v_Class000" in made.stderr
    assert "1 of the lists missing" in made.stdout
    assert "split_3" in made.stdout


def test_a_column_is_written_with_its_role(tmp_path):
    (tmp_path / "l.csv").write_text("a,b\nx,y\n")
    said = call("prepare", "--csv", tmp_path / "l.csv", "--column", "path", "--out", tmp_path / "m.csv")
    assert said.exit_code == 2
    assert "--column path: not NAME=VALUE" in said.stderr
