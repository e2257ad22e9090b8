"""`muybridge models` and `muybridge measure`, as commands; and the search for the largest batch."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import psutil
import pytest
from made_runs import make_run
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.errors import UserError
from muybridge.runtime.files import sha256_file
from muybridge.storage.run import Run
from muybridge.storage.study import RunRecord, StudyRecord
from muybridge.training import bench as measuring
from muybridge.training import speed
from muybridge.zoo import entries

COUNTS = {"model", "num_classes", "num_frames", "size", "temporal_pooling", "params", "conv_macs", "macs"}
SPEEDS = {
    "forward_clips_per_s", "train_clips_per_s", "max_batch_size", "peak_memory_bytes", "device", "dtype", "threads",
}  # fmt: skip


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def document(result):
    return json.loads(result.stdout)


def test_models_lists_all_with_input_and_parameters():
    assert "tsm_resnet50" in call("models").stdout
    rows = {row["name"]: row for row in document(call("models", "--json"))["models"]}
    assert set(rows) == {entry.name for entry in entries()}
    assert rows["tsm_resnet50"]["params"] == 23_686_295 - 77 * 2049  # 10 classes, not 87
    assert (rows["c3d"]["num_frames"], rows["c3d"]["size"]) == (16, 112)


def test_one_model_layer_by_layer():
    found = document(call("models", "tam_resnet_tiny", "--num-frames", 16, "--size", 64, "--json"))
    by_name = {layer["name"]: layer for layer in found["layers"]}
    assert by_name["backbone.layer3.0.conv1.before.conv"]["params"] == 3 * 32
    assert by_name["fc"]["macs"] == 16 * 128 * 10
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
    shown = call("models", "tam_resnet_tiny").stdout
    assert "backbone.layer3.0.conv1.before.conv" in shown


def test_heads_over_image_networks_have_a_line_a_head_and_all_of_them_in_json():
    listed = call("models").stdout
    assert re.search(r"lstm +heads +8 vectors", listed)
    assert re.search(r"lstm_NETWORK +lstm +8x112 +0\.71-138\.72 M", listed)
    assert "lstm_resnet18" not in listed
    assert re.search(r"NETWORK: efficientnet_lite0, .*, vgg16", listed)
    rows = {row["name"]: row for row in document(call("models", "--json"))["models"]}
    assert (rows["lstm"]["size"], rows["lstm"]["in_channels"]) == (0, 1024)
    assert (rows["lstm_resnet18"]["size"], rows["lstm_resnet18"]["in_channels"]) == (112, 3)


def test_a_model_of_vectors_has_no_size():
    assert "one video of 8 vectors of 1,024 values" in call("models", "lstm").stdout
    assert "8 vectors" in call("measure", "lstm", "--no-speed").stdout
    for words in (("models", "lstm", "--size", "64"), ("measure", "lstm", "--no-speed", "--size", "64")):
        assert "which have no height and width" in call(*words, code=2).stderr
    assert "Measure a run of it, or count only: --no-speed" in call("measure", "lstm", code=2).stderr


def test_options_change_the_layers():
    thin, wide = (
        document(call("models", "tam_resnet_tiny", "--set", f"model.options.taps={taps}", "--json")) for taps in (3, 5)
    )
    assert wide["params"] - thin["params"] == 2 * (16 + 16 + 32 + 64)
    assert "cannot be set here" in call("models", "tam_resnet_tiny", "--set", "optim.lr=1", code=2).stderr


def test_an_image_network_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_image_net.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 5, 3, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = document(call("models", "tsn@my_image_net:net", "--json"))
    assert found["params"] == 3 * 6 * 9 + 6 + 6 * 5 * 9 + 5 + 5 * 10 + 10


@pytest.mark.parametrize("command", ["models", "measure"])
def test_an_unknown_name_names_the_nearest(command):
    result = call(command, "tsm_resnt50", "--json", code=2)
    assert "tsm_resnet50" in document(result)["error"]


def test_measure_counts_with_the_models_own_input():
    one = document(call("measure", "c3d", "--num-classes", 101, "--no-speed", "--json"))
    assert set(one) == COUNTS
    assert (one["num_frames"], one["size"], one["params"]) == (16, 112, 78_409_573)
    two = document(call("measure", "tsn_resnet_tiny", "tsm_resnet_tiny", "--no-speed", "--json"))
    assert [row["model"] for row in two] == ["tsn_resnet_tiny", "tsm_resnet_tiny"]
    assert two[0]["macs"] == two[1]["macs"]


@pytest.mark.slow
def test_measure_times_and_finds_the_largest_batch(monkeypatch):
    monkeypatch.setattr(speed, "LARGEST", 16)
    result = call(
        "measure", "tsm_resnet_tiny", "--size", 32, "--batch-size", 4, "--precision", "fp32", "--json",
        "--set", "runtime.threads=1",
    )  # fmt: skip
    found = document(result)
    assert set(found) >= COUNTS | SPEEDS
    assert min(found["forward_clips_per_s"], found["train_clips_per_s"], found["peak_memory_bytes"]) > 0
    assert (found["dtype"], found["threads"], found["max_batch_size"]) == ("fp32", 1, 16)
    assert "training" in result.stderr


@pytest.mark.slow
def test_memory_is_the_networks_not_its_parents():
    held = np.ones(2**30, np.uint8)  # pages of this process, touched
    result = call(
        "measure", "tsn_resnet_tiny", "--size", 32, "--batch-size", 1, "--no-largest", "--set", "runtime.threads=1"
    )
    assert held[-1] == 1
    peak = re.search(r" ([\d,.]+) MiB", result.stdout)
    assert 0 < float(peak[1].replace(",", "")) < 256
    assert "1 thread\n" in result.stdout


@pytest.mark.slow
def test_too_little_memory_is_no_crash(monkeypatch):
    monkeypatch.setattr(speed, "free_bytes", lambda: 400 * 2**20)
    found = speed.measure_model(
        "tsm_resnet_tiny", num_classes=5, num_frames=8, size=112, batch_size=4, precision="fp32"
    )
    assert 4 <= found.max_batch_size < 64
    assert min(found.max_batch_train_clips_per_s, found.max_batch_forward_clips_per_s) > 0
    none = speed.measure_model(
        "tsm_resnet_tiny", num_classes=5, num_frames=8, size=112, batch_size=900, precision="fp32"
    )
    assert none.train_clips_per_s is None
    assert none.peak_memory_bytes is None
    assert 1 <= none.max_batch_size < 64


@pytest.mark.parametrize("largest", [0, 1, 2, 5, 8, 9, 31, 1024, 5000])
@pytest.mark.parametrize("start", [1, 8])
def test_doubling_and_bisection_find_the_largest(largest, start):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= largest

    known = start if start <= largest else 0
    assert speed.largest_batch(fits, known, start if known else 1) == min(largest, 1024)
    assert len(tried) < 24


@pytest.mark.slow
def test_the_process_that_measures_ends_with_the_one_that_asked():
    words = ["measure", "tsm_resnet_tiny", "--size", "64", "--set", "runtime.threads=1"]
    asking = subprocess.Popen([sys.executable, "-m", "muybridge", *words], stderr=subprocess.PIPE, text=True)
    assert "training" in asking.stderr.readline()
    measuring = psutil.Process(asking.pid).children()
    assert len(measuring) == 1
    asking.kill()
    asking.communicate()
    _, alive = psutil.wait_procs(measuring, timeout=20)
    assert not alive


# --- runs


@pytest.fixture
def jobs(monkeypatch):
    """What would be measured: (job, batch size, whether the largest batch is searched for)."""
    asked = []

    def measured(job, batch_size, repetitions, *, search, process=None):
        asked.append((job, batch_size, search))
        return speed.Speed(batch_size, 2.0, 1.0, 9 if search else None, None, None, 5, "cpu", "made", "fp32", 1)

    monkeypatch.setattr(speed, "_measured", measured)
    return asked


def test_a_run_is_measured_as_it_was_trained_and_keeps_it(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    result = call("measure", tmp_path / "run", "--device", "cpu", "--set", "runtime.threads=1", "--json")
    found = document(result)
    assert set(found) >= COUNTS | SPEEDS | {"run"}
    assert {name: found[name] for name in run.cost()} == run.cost()
    assert (found["batch_size"], found["dtype"], found["threads"], found["device"]) == (16, "fp32", 1, "cpu")
    assert min(found["forward_clips_per_s"], found["train_clips_per_s"], found["peak_memory_bytes"]) > 0
    unsearched = ("max_batch_size", "max_batch_forward_clips_per_s", "max_batch_train_clips_per_s")
    assert [found[name] for name in unsearched] == [None] * 3
    assert "with a batch of" not in result.stderr
    kept = Run(tmp_path / "run").speed()
    assert kept.pop("format_version") == 2
    assert kept == {name: found[name] for name in kept}
    assert set(kept) >= SPEEDS | {"num_frames", "size"}
    assert not list((tmp_path / "run").glob(".*.partial"))


def test_the_recipe_says_what_is_measured(tmp_path, jobs):
    changes = {
        "clip.num_frames": 16, "clip.size": 64, "model.temporal_pooling": True, "model.options": {"fold_div": 4},
        "optim.batch_size": 24, "optim.micro_batch_size": 6, "optim.optimizer": "adamw", "precision": "bf16",
    }  # fmt: skip
    run = make_run(tmp_path / "run", changes=changes)
    found = document(call("measure", run.path, "--json"))
    job, batch_size, search = jobs[0]
    recipe = run.recipe().model_dump()
    recipe["optim"]["micro_batch_size"] = None
    assert (job["recipe"], job["num_classes"], job["source"]) == (recipe, 6, None)
    assert (batch_size, search) == (6, False)
    assert found["run"] == str(run.path)
    assert (run.speed()["num_frames"], run.speed()["size"]) == (16, 64)
    shown = call("measure", run.path).stdout
    assert str(run.path)[-20:] in shown.replace("\n", "")
    assert "None" not in shown


def test_the_largest_batch_is_searched_for_names_and_when_asked(tmp_path, jobs):
    run = make_run(tmp_path / "run").path
    for words in (["tsm_resnet_tiny"], [run], ["tsm_resnet_tiny", "--no-largest"], [run, "--largest"]):
        call("measure", *words)
    assert [search for _, _, search in jobs] == [True, False, False, True]
    assert Run(run).speed()["max_batch_size"] == 9


def test_no_speed_of_a_run_leaves_nothing(tmp_path, jobs):
    run = make_run(tmp_path / "run")
    assert set(document(call("measure", run.path, "--no-speed", "--json"))) == COUNTS | {"run"}
    assert jobs == []
    assert run.speed() is None


@pytest.mark.parametrize("words", [
    ["--size", 64], ["--num-classes", 10], ["--batch-size", 8], ["--precision", "auto"], ["--num-frames", 8],
    ["--temporal-pooling"], ["--set", "model.options.fold_div=4"],
])  # fmt: skip
def test_what_goes_with_names_is_refused_for_runs(words, tmp_path, jobs):
    run = make_run(tmp_path / "run")
    result = call("measure", "tsm_resnet_tiny", run.path, *words, code=2)
    assert f"{words[0]}" in result.stderr
    assert "Use it with names of models" in " ".join(result.stderr.split())
    assert jobs == []


def test_names_and_folders_are_told_apart(tmp_path, jobs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "tsn_resnet_tiny", model="tsm_resnet_tiny")
    (tmp_path / "empty").mkdir()
    named, run = document(call("measure", "tsn_resnet_tiny", "./tsn_resnet_tiny", "--no-speed", "--json"))
    assert ("run" in named, named["model"]) == (False, "tsn_resnet_tiny")
    assert (run["run"], run["model"]) == ("tsn_resnet_tiny", "tsm_resnet_tiny")
    assert "empty: no such run, as it has no recipe.json" in call("measure", "empty", code=2).stderr
    assert "runs/a: no such run, as it does not exist" in call("measure", "runs/a", code=2).stderr


def test_of_a_study_one_finished_run_of_every_setting(tmp_path, jobs):
    names = {"a-seed0": False, "a-seed1": True, "a-seed2": True, "b-seed0-fold1": True, "b-seed0-fold2": True}
    for name, finished in names.items():
        seed, _, fold = name[len("a-seed") :].partition("-fold")
        make_run(tmp_path / "runs" / name, seed=int(seed), fold=int(fold) if fold else None, finished=finished)
    record = StudyRecord(tmp_path, "t", {name: RunRecord() for name in [*names, "c-seed0"]})
    record.save()
    result = call("measure", tmp_path, "--json")
    assert [row["run"] for row in document(result)] == [
        str(tmp_path / "runs" / name) for name in ("a-seed1", "b-seed0-fold1")
    ]
    assert "left out, as not finished: a-seed0, c-seed0" in " ".join(result.stderr.split())
    assert [name for name in names if record.run(name).speed()] == ["a-seed1", "b-seed0-fold1"]
    StudyRecord(tmp_path, "t", {"a-seed0": RunRecord()}).save()
    assert "no run of this study is finished" in call("measure", tmp_path, code=2).stderr


def test_a_beginning_keeps_no_speed_and_can_be_begun_again(tmp_path, jobs):
    run = make_run(tmp_path / "run", finished=False)
    result = call("measure", run.path, "--json")
    assert document(result)["train_clips_per_s"] == 1.0
    assert "not kept in a speed.json" in " ".join(result.stderr.split())
    assert run.holds_only_beginnings()


OWN = """
import torch
from muybridge.zoo import VideoModel

class Net(VideoModel):
    def __init__(self, num_classes):
        super().__init__(3, num_classes, dropout=0.0)
        self.mix = torch.nn.Linear(3, 3)

    def features(self, x_BCTHW):
        return self.mix(x_BCTHW.mean((3, 4)).transpose(1, 2))

def net(*, num_classes, num_frames, temporal_pooling, dropout):
    return Net(num_classes)
"""


def answers(job, batch, monkeypatch):
    """What the process that measures says, without the process."""
    monkeypatch.setattr(measuring, "_limit_memory", lambda more_bytes: None)
    bench = measuring.Bench(json.loads(json.dumps(job | {"budget_bytes": 0})))
    return bench, [bench.answer(what, batch, 1) for what in ("train", "forward")]


def test_code_of_ones_own_runs_only_where_it_is_allowed(tmp_path, jobs, monkeypatch):
    run = make_run(tmp_path / "run", model="my_measured_net:net")
    file = run.path / "source" / "my_measured_net.py"
    file.parent.mkdir()
    file.write_text(OWN)
    recipe = json.loads((run.path / "recipe.json").read_text())
    recipe["model"]["source_sha256"] = sha256_file(file)
    (run.path / "recipe.json").write_text(json.dumps(recipe))
    refused = call("measure", run.path, code=2)
    assert "--allow-code" in refused.stderr
    assert (jobs, run.speed()) == ([], None)
    call("measure", run.path, "--allow-code")
    _, found = answers(jobs[0][0], 4, monkeypatch)
    assert [answer["fits"] for answer in found] == [True, True]
    file.write_text(OWN + "# changed")
    with pytest.raises(UserError, match="other files than those that the run was trained with"):
        answers(jobs[0][0], 4, monkeypatch)


def test_steps_are_those_of_the_recipe(tmp_path, jobs, monkeypatch):
    """What is frozen stays so, frame differences get their frames, and a whole batch goes through at once."""
    changes = {
        "clip.num_frames": 4, "clip.size": 32, "clip.modality": "difference", "optim.train_from": "head",
        "optim.optimizer": "adamw", "optim.micro_batch_size": 2,
    }  # fmt: skip
    call("measure", make_run(tmp_path / "run", changes=changes).path)
    passed = []

    def step(model, optimizer, batch, where, recipe):
        passed.append(tuple(batch.clips_BTHWC.shape[:2]))
        assert recipe.optim.micro_batch_size is None
        return real(model, optimizer, batch, where, recipe)

    real = measuring.training_step
    monkeypatch.setattr(measuring, "training_step", step)
    bench, found = answers(jobs[0][0], 6, monkeypatch)
    assert [answer["fits"] for answer in found] == [True, True]
    assert passed == [(6, 8)]
    assert type(bench.optimizer).__name__ == "AdamW"
    trained = [name for name, parameter in bench.model.named_parameters() if parameter.requires_grad]
    assert trained == ["fc.weight", "fc.bias"]
