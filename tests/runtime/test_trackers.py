"""Trackers: what arrives in TensorBoard, MLflow and Weights & Biases, of runs that go on and of trackers that fail."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.recipe import Runtime, fields, replace
from muybridge.runtime.trackers import Trackers
from muybridge.storage import checkpoints as checkpoint
from muybridge.storage.run import Run
from muybridge.training import loop as training
from muybridge.training.loop import resume, train
from muybridge.training.session import trackers as trackers_of


def measured(run):
    """(KIND/NAME, step) to the number, of all that should arrive."""
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    lines.append({"kind": "result", "step": run.result()["steps"], **run.result()["test"]})
    return {
        (f"{line['kind']}/{key}", line["step"]): pytest.approx(value, rel=1e-6)
        for line in lines
        for key, value in line.items()
        if key not in ("kind", "step")
    }


def stopped(recipe, out, monkeypatch, *, at, trackers):
    """A run that is killed in its step `at`, after its first checkpoint."""
    step, steps = training.training_step, []

    def kill(*arguments, **keywords):
        steps.append(1)
        if len(steps) == at:
            raise KeyboardInterrupt
        return step(*arguments, **keywords)

    runtime = Runtime(trackers=trackers, tracker_project="motions", checkpoint_steps=2)
    with monkeypatch.context() as patched:
        patched.setattr(training, "training_step", kill)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=out, runtime=runtime)
    assert checkpoint.exists(out / "checkpoints")


@pytest.fixture(scope="module")
def rarely(recipe):
    """Six steps, two epochs, and no checkpoint when the first ends: at its end, step 3 is measured, and step 2 saved."""
    return replace(recipe, {"evaluation.every_epochs": 2})


def test_tensorboard_has_every_number_once_though_the_run_was_killed(rarely, tmp_path, monkeypatch):
    stopped(rarely, tmp_path / "run", monkeypatch, at=4, trackers=("tensorboard",))
    run = resume(tmp_path / "run")
    assert len(list((run.path / "trackers" / "tensorboard").glob("events.*"))) == 2
    events = EventAccumulator(str(run.path / "trackers" / "tensorboard")).Reload()
    found = [(tag, event.step, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    assert len(found) == len({(tag, step) for tag, step, _ in found})
    expected = measured(run)
    assert {(tag, step): value for tag, step, value in found} == expected
    assert {("train/loss", 3), ("train/loss", 6), ("val/video_top1", 6), ("result/video_top1", 6)} <= expected.keys()
    recipe_text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    model.name: tsm_resnet_tiny\n" in recipe_text
    names = {line.partition(":")[0].strip() for line in recipe_text.splitlines()}
    assert names == fields(type(rarely)).keys() - {"model.options"}  # there are none


@pytest.mark.slow  # the next but one tells as much of a tracker that works for an epoch
def test_trackers_change_nothing_of_a_run(recipe, run, tmp_path):
    tracked = train(recipe, out=tmp_path / "run", runtime=Runtime(trackers=("tensorboard",)))
    assert tracked.metrics_file.read_bytes() == run.metrics_file.read_bytes()
    assert not (run.path / "trackers").exists()


def test_only_the_first_process_tracks(recipe, tmp_path):
    runtime = Runtime(trackers=("tensorboard",))
    for first in (False, True):
        out = Run(tmp_path / str(first))
        with trackers_of(out, recipe, runtime, first=first, step=0) as trackers:
            trackers.log({"kind": "train", "step": 1, "loss": 0.5})
        assert (out.path / "trackers" / "tensorboard").exists() is first


def test_a_tracker_that_cannot_start_is_told_once(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("a file where its folder would be")
    with Trackers(("tensorboard",), project="p", name="run", folder=tmp_path, config={}) as trackers:
        for step in (1, 2):
            trackers.log({"kind": "train", "step": step, "loss": 0.5})
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("TensorBoard failed") == said.count("warning") == 1


def test_a_run_whose_tracker_fails_in_the_middle_is_the_same_run(recipe, run, tmp_path, capsys, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    write, written = SummaryWriter.add_scalar, []

    def full(self, name, value, step):
        written.append(name)
        if name == "val/loss":
            raise OSError(28, "No space left on device")
        write(self, name, value, step)

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    tracked = train(recipe, out=tmp_path / "run", runtime=Runtime(trackers=("tensorboard",)))
    assert tracked.is_finished
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("TensorBoard failed") == 1
    assert "No space left on device" in said
    assert written[-1] == "val/loss"
    assert written.count("train/loss") == 1
    assert tracked.metrics_file.read_bytes() == run.metrics_file.read_bytes()


def test_a_library_that_is_missing_is_told_before_anything_is_written(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["train", run.path / "recipe.json", "--out", tmp_path / "run", "--set", 'runtime.trackers=["wandb"]']
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert "pip install 'muybridge[track]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_nobody_knows_is_told_with_the_nearest(run, tmp_path):
    arguments = ["train", run.path / "recipe.json", "--out", tmp_path / "run", "--set", 'runtime.trackers=["wandbd"]']
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert "'wandb'" in result.stderr


def test_the_extra_holds_every_tracker():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    names = {re.match(r"\w+", text)[0] for text in project["optional-dependencies"]["track"]}
    assert names == set(get_args(get_args(Runtime.model_fields["trackers"].annotation)[0]))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of MLflow's own libraries
def test_mlflow_goes_on_in_the_same_run(rarely, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    stopped(rarely, tmp_path / "run", monkeypatch, at=4, trackers=("mlflow",))
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("motions")
    (begun,) = client.search_runs([experiment.experiment_id])
    assert begun.info.status == "KILLED"
    run = resume(tmp_path / "run")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_id, found.info.status, found.info.run_name) == (begun.info.run_id, "FINISHED", "run")
    assert found.data.params["optim.lr"] == "0.02"
    assert found.data.params.keys() == fields(type(rarely)).keys() - {"model.options"}
    arrived = {
        (name, metric.step): metric.value
        for name in found.data.metrics
        for metric in client.get_metric_history(found.info.run_id, name)
    }
    assert arrived == measured(run)


def logged(file):
    """Records of a log as Weights & Biases keeps it: LevelDB's format, seven bytes before it."""
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # nothing begins in the last bytes of a block
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of its parts
            yield parts
            parts = b""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_weights_and_biases_goes_on_in_the_same_run(rarely, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    stopped(rarely, tmp_path / "run", monkeypatch, at=4, trackers=("wandb",))
    run = resume(tmp_path / "run")
    name = (run.path / "trackers" / "wandb.id").read_text()
    files = sorted((run.path / "trackers" / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{name}.wandb"] * 2
    arrived, projects = {}, set()
    for file in files:
        for data in logged(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                projects.add((record.run.project, record.run.display_name))
            values = {
                (item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item
            }
            arrived |= {(key, values["step"]): value for key, value in values.items() if "/" in key}
    assert projects == {("motions", "run")}
    assert arrived == measured(run)
