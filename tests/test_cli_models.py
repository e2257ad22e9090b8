"""`muybridge models` and `muybridge measure`, as commands; and the search for the largest batch."""

import json
import subprocess
import sys

import psutil
import pytest
from typer.testing import CliRunner

from muybridge import speed
from muybridge.cli import app
from muybridge.models import entries

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


def test_too_little_memory_is_no_crash(monkeypatch):
    monkeypatch.setattr(speed.build, "free_bytes", lambda: 400 * 2**20)
    found = speed.measure("tsm_resnet_tiny", num_classes=5, num_frames=8, size=112, batch_size=4, precision="fp32")
    assert 4 <= found.max_batch_size < 64
    assert min(found.max_batch_train_clips_per_s, found.max_batch_forward_clips_per_s) > 0
    none = speed.measure("tsm_resnet_tiny", num_classes=5, num_frames=8, size=112, batch_size=900, precision="fp32")
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
