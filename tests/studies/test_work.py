"""Workers: any number of them, started and killed at any time, make the study that one process makes."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command import call, document

import muybridge
from muybridge.errors import Diverged, Interrupted, UserError
from muybridge.recipe import replace
from muybridge.runtime.leases import Leases
from muybridge.storage.plan import StoredPlan
from muybridge.storage.run import Run
from muybridge.studies import work as working
from muybridge.training import loop

MODELS = ("tsn_resnet_tiny", "tsm_resnet_tiny")
TIMES = re.compile(r"seconds|_per_s$|^(train_)?hours$")


@pytest.fixture(scope="module")
def short(recipe):
    return replace(
        recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0, "evaluation.num_clips": 1, "evaluation.num_crops": 1}
    )


@pytest.fixture(scope="module")
def serial(short, tmp_path_factory):
    """The study as one process makes it."""
    return muybridge.compare(
        MODELS, data=short.data.manifest, recipe=short, seeds=2, out=tmp_path_factory.mktemp("serial") / "study"
    )


def planned(short, out, **more):
    return muybridge.compare(
        MODELS, data=short.data.manifest, recipe=short, seeds=2, out=out, plan_only=True, **more
    )  # fmt: skip


@pytest.fixture(scope="module")
def a_plan(short, tmp_path_factory):
    return planned(short, tmp_path_factory.mktemp("unworked") / "s").path


@pytest.fixture
def unworked(a_plan, tmp_path):
    """Folder of a planned study that nobody has begun."""
    return Path(shutil.copytree(a_plan, tmp_path / "unworked"))


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if not TIMES.search(key)}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def said(study):
    """Numbers of a report, but for times."""
    text = (Path(study) / "report.json").read_text().replace(str(study), "STUDY")
    numbers = without_times(json.loads(text))
    numbers.pop("muybridge", None)
    return numbers


def scores(study):
    return {run.name: run.metrics_file.read_bytes() for run in map(Run, sorted((Path(study) / "runs").iterdir()))}


def worker(study, *more, **options):
    command = [sys.executable, "-m", "muybridge", "work", str(study), "--lost-after", "6", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)


def test_a_planned_study_is_worked_off_and_is_that_of_one_process(short, serial, tmp_path):
    study = planned(short, tmp_path / "s")
    assert (study.comparisons, [run.is_finished for run in study.runs]) == ({}, [False] * 4)
    plan = StoredPlan.load(study.path)
    assert plan.recipe("tsm_resnet_tiny-seed1").model.name == "tsm_resnet_tiny"
    assert plan.recipe("tsm_resnet_tiny-seed1").seed == 1
    first = muybridge.work(study.path, max_runs=1)
    assert (first.finished, first.done, first.report) == (("tsn_resnet_tiny-seed0",), 1, None)
    second = document(call("work", study.path, "--json"))
    assert second["finished"] == ["tsn_resnet_tiny-seed1", "tsm_resnet_tiny-seed0", "tsm_resnet_tiny-seed1"]
    assert second["report"] == str(study.path / "report.html")
    assert said(study.path) == said(serial.path)
    assert scores(study.path) == scores(serial.path)
    stamp = (study.path / "report.html").stat().st_mtime_ns
    assert muybridge.work(study.path).finished == ()
    assert (study.path / "report.html").stat().st_mtime_ns == stamp, "written once"


def test_a_run_that_fails_is_recorded_and_the_others_are_done(short, tmp_path, monkeypatch):
    study = planned(short, tmp_path / "s")
    real, calls = working.Workplace.finish, []

    def finish(self, folder, recipe, text):
        calls.append(folder.name)
        if folder.name == "tsm_resnet_tiny-seed0":
            raise Diverged("loss: it became nan at step 3. Lower optim.lr")
        real(self, folder, recipe, text)

    monkeypatch.setattr(working.Workplace, "finish", finish)
    with pytest.raises(UserError, match=r"1 run of 4 failed.*tsm_resnet_tiny-seed0: loss: it became nan.*--retry"):
        muybridge.work(study.path)
    assert calls == [run.name for run in study.runs]
    assert "Not finished, and left out: tsm_resnet_tiny-seed0" in (study.path / "report.md").read_text()
    with pytest.raises(UserError, match="1 run of 4 failed"):
        muybridge.work(study.path)
    assert len(calls) == 4, "not taken again"
    monkeypatch.setattr(working.Workplace, "finish", real)
    again = muybridge.work(study.path, retry=True)
    assert (again.finished, again.failed) == (("tsm_resnet_tiny-seed0",), {})
    assert "Not finished" not in (study.path / "report.md").read_text(), "the report is written again"


def test_the_machines_fault_fails_no_run(short, tmp_path, monkeypatch):
    study = planned(short, tmp_path / "s")

    def finish(self, folder, recipe, text):
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise UserError("runs: No space left on device. Free some") from error

    monkeypatch.setattr(working.Workplace, "finish", finish)
    with pytest.raises(UserError, match="No space left"):
        muybridge.work(study.path)
    standing = Leases(study.path / working.FOLDER).standing()
    assert (standing.done, standing.failed) == (frozenset(), frozenset())
    monkeypatch.undo()
    assert muybridge.work(study.path, max_runs=1).finished == ("tsn_resnet_tiny-seed0",), "given back"


def test_a_removed_run_is_trained_again(short, serial, tmp_path):
    shutil.copytree(serial.path, tmp_path / "s")
    lost = tmp_path / "s" / "runs" / "tsn_resnet_tiny-seed1"
    shutil.rmtree(lost)
    (tmp_path / "s" / working.FOLDER / f"{working.REPORT}.done").unlink()
    assert muybridge.work(tmp_path / "s").finished == (lost.name,)
    assert scores(tmp_path / "s") == scores(serial.path)


def test_compare_takes_part_beside_a_worker(short, serial, tmp_path, monkeypatch):
    """A run that a worker holds is left to it; the others are trained meanwhile."""
    study = planned(short, tmp_path / "s")
    leases = Leases(study.path / working.FOLDER)
    name, began, trained = "tsn_resnet_tiny-seed0", threading.Event(), []

    def hold():
        with leases.hold(name, leases.standing()):
            began.set()
            while len(trained) < 3:
                time.sleep(0.05)
            shutil.copytree(serial.path / "runs" / name, study.path / "runs" / name)
            leases.finish(name)

    real = working.Workplace.finish

    def finish(self, folder, recipe, text):
        real(self, folder, recipe, text)
        trained.append(folder.name)

    monkeypatch.setattr(working.Workplace, "finish", finish)
    other = threading.Thread(target=hold)
    other.start()
    began.wait()
    made = muybridge.compare(MODELS, data=short.data.manifest, recipe=short, seeds=2, out=study.path)
    other.join()
    assert trained == ["tsn_resnet_tiny-seed1", "tsm_resnet_tiny-seed0", "tsm_resnet_tiny-seed1"]
    assert all(run.is_finished for run in made.runs)
    assert said(study.path) == said(serial.path)


def test_a_run_waits_for_the_one_it_starts_from(made_set, short, tmp_path, monkeypatch):
    asked = {
        "models": MODELS[:1], "study": "mini", "data": made_set, "out": tmp_path / "s", "only": {"num_frames": [8, 16]},
        "pretrained": "none", "shorten": 0.04, "plan_only": True,
        "changes": {"clip.size": 32, "optim.batch_size": 16, "evaluation.num_clips": 1, "evaluation.num_crops": 1},
    }  # fmt: skip
    study = muybridge.compare(**asked)
    plan = StoredPlan.load(study.path)
    (base, none), (then, start) = plan.runs.items()
    assert (none, start) == (None, base)
    leases = Leases(study.path / working.FOLDER)
    worker = working.Worker(working.Workplace.at(study.path, plan.runtime))
    assert worker._open(plan, leases.standing()) == ([base], 1)
    with leases.hold(base, leases.standing()):
        leases.fail(base, "it diverged")
    assert worker._open(plan, leases.standing()) == ([working.REPORT], 0), "nothing can be trained any more"
    assert worker.worked().blocked == (then,)
    leases.forget(base, "failed")
    with leases.hold(base, leases.standing()):
        leases.finish(base)
    assert worker._open(plan, leases.standing()) == ([then], 0)


def test_what_cannot_be_planned_is_refused(short, tmp_path):
    with pytest.raises(UserError, match="--search, --tune, --race: what they train follows from what they see"):
        planned(short, tmp_path / "s", tune=2)
    with pytest.raises(UserError, match="has not been planned"):
        muybridge.work(tmp_path)
    with pytest.raises(UserError, match=r"--cluster: 'slrm' is unknown. Did you mean 'slurm'"):
        planned(short, tmp_path / "s", cluster="slrm")
    for option, value in (("time", "1:00:00"), ("jobs", 2), ("mixed_versions", True)):
        with pytest.raises(UserError, match=f"--{option.replace('_', '-')}: it is for runs on a cluster"):
            planned(short, tmp_path / "s", **{option: value})
    assert not (tmp_path / "s").exists()


@pytest.mark.slow  # four whole processes
def test_the_users_code_travels_with_its_hash(short, tmp_path, monkeypatch):
    """A worker elsewhere, without that file on its path, trains by the copy; another copy is refused."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "travelling.py").write_text(
        "from muybridge.zoo import VideoModel\n"
        "from torch import nn\n"
        "class Net(VideoModel):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(4, num_classes, dropout=0.0)\n"
        "        self.mix = nn.Linear(3, 4)\n"
        "    def features(self, x_BCTHW):\n"
        "        return self.mix(x_BCTHW.mean((3, 4)).transpose(1, 2))\n"
        "def net(*, num_classes, num_frames, temporal_pooling, dropout):\n"
        "    return Net(num_classes)\n"
    )
    set_path = short.data.manifest
    command = [
        sys.executable, "-m", "muybridge", "compare", "--data", set_path, "--models", "travelling:net", "--epochs", "1",
        "--out", str(tmp_path / "s"), "--plan-only", "--set", "clip.size=32", "--set", "evaluation.num_clips=1",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path / "here")
    shutil.rmtree(tmp_path / "here")
    refused = subprocess.run(
        [sys.executable, "-m", "muybridge", "work", str(tmp_path / "s")], capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "--allow-code" in refused.stderr
    (kept,) = (tmp_path / "s" / "code").glob("*/source/travelling.py")
    text = kept.read_text()
    kept.write_text(text + "\n# changed\n")
    changed = call("work", tmp_path / "s", "--allow-code")
    assert (changed.exit_code, "holds other files" in changed.stderr) == (2, True)
    kept.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "muybridge", "work", str(tmp_path / "s"), "--allow-code", "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 1


class Results:
    """Watches the results of runs: each may come once, and never change."""

    def __init__(self, study):
        self.seen, self._study, self._ended = {}, study, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def look(self):
        for file in self._study.glob("runs/*/result.json"):
            stat = file.stat()
            self.seen.setdefault(file.parent.name, set()).add((stat.st_ino, stat.st_mtime_ns))

    def _watch(self):
        while not self._ended.wait(0.02):
            self.look()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *raised):
        self._ended.set()
        self._thread.join()
        self.look()


@pytest.mark.slow
def test_three_workers_of_which_two_are_killed_ten_times_each(short, tmp_path):
    long = replace(short, {"optim.epochs": 6})
    models, options = (
        ("tsn_resnet_tiny", "tsm_resnet_tiny", "tam_resnet_tiny"),
        {"data": long.data.manifest, "seeds": 4},
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    study = muybridge.compare(models, recipe=long, out=tmp_path / "s", plan_only=True, **options).path
    draw, kills = random.Random(0), 0
    steady = worker(study, env=environment)
    with Results(study) as results:
        restless = [worker(study, env=environment, start_new_session=True) for _ in range(2)]
        for _ in range(10):
            for number in range(2):
                time.sleep(draw.uniform(1.0, 8.0))
                if restless[number].poll() is None:
                    kills += 1
                    os.killpg(restless[number].pid, signal.SIGKILL)
                restless[number].communicate()
                restless[number] = worker(study, env=environment, start_new_session=True)
        logs = [process.communicate(timeout=300)[1] for process in (steady, *restless)]
    assert [process.returncode for process in (steady, *restless)] == [0, 0, 0], logs
    print(f"{kills} kills of workers that were at work or waited")
    assert {name: len(stamps) for name, stamps in results.seen.items()} == {
        f"{model}-seed{seed}": 1 for model in models for seed in range(4)
    }
    whole = muybridge.compare(models, recipe=long, out=tmp_path / "serial", **options)
    assert scores(study) == scores(whole.path)
    assert said(study) == said(whole.path)


@pytest.mark.slow
def test_a_worker_that_was_asleep_stops_without_writing(short, tmp_path):
    """SIGSTOP, as a suspended machine: another worker takes its run over, or waits for its folder."""
    long = replace(short, {"optim.epochs": 40})
    study = muybridge.compare(MODELS[:1], data=long.data.manifest, recipe=long, out=tmp_path / "s", plan_only=True).path
    sleeper = worker(study)
    last = study / "runs" / "tsn_resnet_tiny-seed0" / "checkpoints" / "last"
    while not last.exists():
        assert sleeper.poll() is None
        time.sleep(0.05)
    os.kill(sleeper.pid, signal.SIGSTOP)
    other = worker(study)
    leases = Leases(study / working.FOLDER)
    while leases.standing().numbers.get("tsn_resnet_tiny-seed0", 0) < 2:
        assert other.poll() is None
        time.sleep(0.1)
    os.kill(sleeper.pid, signal.SIGCONT)
    said_by_sleeper = sleeper.communicate(timeout=200)[1]
    assert "gave no sign of life, and another has taken it" in said_by_sleeper
    said_by_other = other.communicate(timeout=200)[1]
    assert other.returncode == 0, said_by_other
    assert Run(last.parents[1]).is_finished
    assert sum(file.name.endswith(".done") for file in (study / working.FOLDER).iterdir()) == 2


def damaged(study, *path, to):
    """Another value in plan.json, at a path of keys."""
    file = study / "plan.json"
    values = json.loads(file.read_text())
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    file.write_text(json.dumps(values))


FIRST = "tsn_resnet_tiny-seed0"


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("runs", ""), {"recipe": {}}, "it is damaged: '' is not the name of a run's folder. Restore it"),
        (("runs", "x\n"), {"recipe": {}}, "is not the name of a run's folder"),
        (("runs", "x\0"), {"recipe": {}}, "is not the name of a run's folder"),
        (("runs", "x" * 300), {"recipe": {}}, "is not the name of a run's folder"),
        (("recipe",), {"model": 5}, "model"),
        (("recipe",), {}, "recipe has no 'augment'. Restore it"),
        (("recipe", "model"), [1], "model"),
        (("recipe", "zz"), {"a": 1}, "zz"),
        (("runs", FIRST, "recipe"), {"model": 5}, f"recipe of {FIRST}: 'model' has not its kind. Restore it"),
        (("runs", FIRST, "recipe"), {"zz": {"a": 1}}, f"recipe of {FIRST}: 'zz' has not its kind. Restore it"),
        (("fused",), [["../../x", "y"]], "a run that is not planned. Restore it"),
        (("settings",), {"x": []}, "it is damaged: settings.x"),
        (("runtime", "threads"), 10**30, "threads"),
        (("format_version",), "1", 'it has format_version "1", but this muybridge reads 1'),
        (("runs", "../../home"), {"recipe": {}}, "'../../home' is not the name of a run's folder"),
        (("runs", "@report"), {"recipe": {}}, "'@report' is not the name of a run's folder"),
        (("runs", FIRST, "starts_from"), "x", "starts from 'x', which is not before"),
        (("settings", "other"), ["none"], "a setting has a run that is not planned"),
        (("recipe", "optim", "lr"), -1.0, r"optim\.lr is -1\.0"),
        (("runs",), None, "it is damaged: runs"),
        (("format_version",), 2, "it has format_version 2, but this muybridge reads 1"),
    ],
)  # fmt: skip
def test_a_damaged_plan_is_named_before_anything_is_done(unworked, path, to, message):
    damaged(unworked, *path, to=to)
    told = call("work", unworked)
    assert (told.exit_code, told.stderr.count("\n")) == (2, 1), told.stderr
    assert re.search(rf"plan\.json.*{message}", told.stderr), told.stderr
    assert list((unworked / "leases").iterdir()) == []


def test_a_plan_is_looked_for_in_a_folder(unworked):
    with pytest.raises(UserError, match=r"plan\.json: it is a file. Give the folder of a study"):
        muybridge.work(unworked / "plan.json")


def test_leases_behind_a_link_are_not_written(unworked, tmp_path):
    (unworked / "leases").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (unworked / "leases").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leases: it is a link"):
        muybridge.work(unworked)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_run_that_was_stopped_is_continued_by_a_worker(short, unworked, tmp_path, monkeypatch):
    """Not by `train --resume`, which holds no lease."""
    step, calls = loop.training_step, []

    def stopping(*arguments, **named):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(loop, "training_step", stopping)
    runtime = replace(StoredPlan.load(unworked).runtime, {"checkpoint_steps": 1})
    with pytest.raises(Interrupted, match=rf"Continue: repeat the command, or muybridge work {unworked}$"):
        muybridge.work(unworked, runtime=runtime)
    alone = Run(tmp_path / "my run")
    assert alone.how_to_continue == f"Continue: muybridge train --resume '{alone.path}'"
    assert Run(unworked / "search" / "a" / "trial-0").how_to_continue == "Continue: repeat the command"
