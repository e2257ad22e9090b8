"""The benchmark for a GPU runs without one, as far as that goes, so that a day on a GPU is not its first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import muybridge
from muybridge.data.sets.motions import motions

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "cuda.py"
PARTS = ("environment", "answers", "resume", "precisions", "speed", "settings", "demo")


def call(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True)


def test_its_help_needs_no_torch():
    done = call("--help")
    assert done.returncode == 0, done.stderr
    assert all(part in done.stdout for part in PARTS)


@pytest.mark.slow
def test_every_part_of_a_day_on_a_gpu_runs_on_a_cpu(tmp_path):
    file, page = tmp_path / "cuda.json", tmp_path / "cuda.md"
    done = call("--device", "cpu", "--quick", "--minutes", 30, "--out", file)
    results = json.loads(file.read_text())
    assert list(results["parts"]) == list(PARTS)
    for name, part in results["parts"].items():
        assert part["error"] is None, f"{name}: {part['error']}"
        assert part["ok"], f"{name}: {[check for check in part['checks'] if not check['ok']]}"
        assert part["left_out"], f"{name} says nothing of what it leaves out"
    assert done.returncode == 0, done.stderr

    assert call("--page", file).returncode == 2  # figures of a CPU are not for the documents
    assert call("--page", file, "--out", page).returncode == 0
    lines = page.read_text().splitlines()
    assert "benchmarks/cuda.py" in lines[0]
    assert [line.removeprefix("## ").lower() for line in lines if line.startswith("## ")] == list(PARTS)


@pytest.mark.slow
def test_a_part_that_fails_is_kept_and_leaves_the_others(tmp_path):
    file = tmp_path / "cuda.json"
    done = call("--device", "nowhere", "--quick", "--minutes", 30, "--only", "environment", "--out", file)
    part = json.loads(file.read_text())["parts"]["environment"]
    assert done.returncode == 1
    assert not part["ok"]
    assert "Traceback" in part["error"]
    assert "runtime.device: 'nowhere'" in part["error"]
    has_passed = ("--minutes", -1)  # so that no machine is fast enough
    done = call("--device", "cpu", "--quick", *has_passed, "--only", "environment", "--out", file)
    assert done.returncode == 1
    assert "limit of time" in json.loads(file.read_text())["parts"]["environment"]["error"]


@pytest.mark.slow
def test_the_service_holds_under_load(tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    made = motions(tmp_path / "set", clips=60, seed=0)
    run = muybridge.train(model="tsn_resnet_tiny", data=made.manifest, out=tmp_path / "run", steps=1)
    video = next((tmp_path / "set").rglob("*.mp4"))
    words = [sys.executable, str(SCRIPT.with_name("service.py")), str(run.path), str(video), "--requests", "80"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differ from the predictor's: 0; statuses other than expected: []" in done.stdout
