"""A damaged file of a run or a study: every command names it, or has no need of it."""

import json
import shutil
import struct

import pytest
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.data.manifest import Manifest
from muybridge.diagnosis import diagnose
from muybridge.recipe import replace
from muybridge.study import compare

DAMAGES = {
    "not UTF-8": lambda data: b"\xff" + data[1:],
    "half": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "null": lambda data: b"null\n",
    "a list": lambda data: b"[]\n",
    "a number": lambda data: b"5\n",
    "another object": lambda data: b'{"format_version": 1}\n',
    "an object of odd values": lambda data: odd(data),
    "nested": lambda data: b"[" * 100_000,
    "a long number": lambda data: b'{"format_version": ' + b"1" * 10_000 + b"}",
    "zeros": lambda data: bytes(len(data)),
}


def odd(data):
    """Every value of a JSON object another kind; what is no JSON, noise."""
    try:
        values = json.loads(data.splitlines()[0])
    except (ValueError, IndexError):
        return struct.pack("<10d", *range(10))
    return json.dumps({name: 7 if isinstance(value, str) else "odd" for name, value in values.items()}).encode()


@pytest.fixture(scope="module")
def study(recipe, tmp_path_factory):
    """Two runs, one of them diagnosed, and the report of both."""
    folder = tmp_path_factory.mktemp("damaged") / "study"
    small = replace(
        recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0, "evaluation.num_clips": 1, "evaluation.num_crops": 1}
    )
    compare(["tsn_resnet_tiny", "tsm_resnet_tiny"], recipe=small, out=folder)
    diagnose(folder / "runs" / RUN)
    return folder


RUN = "tsm_resnet_tiny-seed0"
NAMES = [
    *(f"runs/{RUN}/{name}" for name in (
        "recipe.json", "runtime.json", "environment.json", "dataset.json", "trained_on.npz", "cost.json", "metrics.jsonl",
        "timing.jsonl", "checkpoints/last", "checkpoints/best", "checkpoints/*/model.safetensors", "checkpoints/*/state.json",
        "checkpoints/*/optimizer.safetensors", "scores/test.npz", "scores/val.npz", "diagnosis/diagnosis.json",
        "diagnosis/shuffled.npz", "result.json",
    )),
    "study.json", "report.files/*", "report.json",
]  # fmt: skip


def commands(study, video):
    run = str(study / "runs" / RUN)
    return {
        "runs": ["runs", str(study)], "report": ["report", str(study)], "predict": ["predict", run, str(video)],
        "evaluate": ["evaluate", run], "diagnose": ["diagnose", run],
        "resume": ["train", "--resume", run],
    }  # fmt: skip


def check(study, folder, name, damage, command, video):
    shutil.copytree(study, folder)
    paths = sorted(folder.glob(name))
    assert paths, f"{name} is not there"
    for path in paths:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    if command == "resume" and "result.json" not in name:  # or there is nothing to go on with
        (folder / "runs" / RUN / "result.json").unlink()
    result = CliRunner().invoke(app, commands(folder, video)[command])
    what = f"{name} {damage}: {command} {result.exit_code} {result.output[-500:]}"
    assert result.exception is None or isinstance(result.exception, SystemExit), what
    assert result.exit_code in (0, 2), what
    if result.exit_code == 2:
        assert paths[0].name in result.output.replace("\n", ""), what
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", ["not UTF-8", "another object", "an object of odd values"])
def test_a_list_of_runs_names_the_file_or_has_no_need_of_it(study, tmp_path, damage):
    faults = []
    for number, name in enumerate(NAMES):
        try:
            check(study, tmp_path / str(number), name, damage, "runs", "")
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["runs", "report", "predict", "evaluate", "diagnose", "resume"])
@pytest.mark.parametrize("name", NAMES)
def test_every_command_names_the_file_or_has_no_need_of_it(study, made_set, tmp_path, name, command):
    video = Manifest.load(made_set).row(0).path
    faults = []
    for number, damage in enumerate(DAMAGES):
        try:
            check(study, tmp_path / str(number), name, damage, command, video)
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, "\n".join(faults)
