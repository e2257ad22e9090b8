"""A damaged file of a run or a study: every command names it, or has no need of it."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import muybridge
from muybridge import build
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.evaluation.diagnose import diagnose
from muybridge.inference.predictor import Predictor
from muybridge.recipe import replace
from muybridge.storage import checkpoints as checkpoint
from muybridge.storage.run import Run

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
    """Two runs, one of them diagnosed and with a kept evaluation, both fused, and the report of both."""
    folder = tmp_path_factory.mktemp("damaged") / "study"
    small = replace(
        recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0, "evaluation.num_clips": 1, "evaluation.num_crops": 1}
    )
    muybridge.compare(["tsn_resnet_tiny", "tsm_resnet_tiny"], data=small.data.manifest, recipe=small, out=folder)
    diagnose(folder / "runs" / RUN)
    muybridge.evaluate(folder / "runs" / RUN, changes={"evaluation.num_crops": 3}, keep=True)
    muybridge.calibrate(folder / "runs" / RUN)
    muybridge.fuse(folder)
    (folder / "search.json").write_text('{"format_version": 1, "seed": 1000000, "settings": {}}')
    (folder / "race.json").write_text('{"format_version": 1, "sets": {}}')
    return folder


RUN = "tsm_resnet_tiny-seed0"
FUSED = "tsn_resnet_tiny+tsm_resnet_tiny-seed0"
NAMES = [
    *(f"runs/{RUN}/{name}" for name in (
        "recipe.json", "runtime.json", "environment.json", "dataset.json", "trained_on.npz", "cost.json", "metrics.jsonl",
        "timing.jsonl", "checkpoints/last", "checkpoints/best", "checkpoints/*/model.safetensors", "checkpoints/*/state.json",
        "checkpoints/*/optimizer.safetensors", "scores/test.npz", "scores/val.npz", "diagnosis/diagnosis.json",
        "diagnosis/shuffled.npz", "evaluations/*/evaluation.json", "evaluations/*/scores.npz", "calibration.json", "result.json",
    )),
    *(f"runs/{FUSED}/{name}" for name in (
        "fused.json", "recipe.json", "dataset.json", "environment.json", "cost.json", "scores/test.npz", "result.json",
    )),
    "study.json", "plan.json", "leases/*", "search.json", "race.json", "report.files/*", "report.json",
]  # fmt: skip


def commands(study, video):
    run = str(study / "runs" / RUN)
    return {
        "runs": ["runs", str(study)], "report": ["report", str(study)],
        "judge": ["judge", str(study), "--out", str(study / "judge.html")], "predict": ["predict", run, str(video)],
        "bundle": ["bundle", run, "--out", str(study / "b.muy")],
        "events": ["events", run, str(video)],
        "evaluate": ["evaluate", run], "diagnose": ["diagnose", run],
        "resume": ["train", "--resume", run], "fuse": ["fuse", str(study)], "calibrate": ["calibrate", run],
        "work": ["work", str(study), "--retry"],
        "causal": ["causal", run, "--out", str(study / "new"), "--steps", "1", "--set", "clip.sampling=dense",
                   "--set", "clip.fps=24"],
        "doctor": ["doctor", str(Path(video).parent.parent / "manifest.csv"), "--study", run, "--out", str(study / "d.html")],
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


@pytest.mark.parametrize(
    ("name", "command"), [("plan.json", "work"), ("search.json", "report"), ("race.json", "report")]
)
def test_what_a_study_is_made_by_is_named(study, tmp_path, name, command):
    for number, damage in enumerate(DAMAGES):
        shutil.copytree(study, tmp_path / str(number))
        file = tmp_path / str(number) / name
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
        told = CliRunner().invoke(app, commands(file.parent, "")[command])
        assert (told.exit_code, name in told.output) == (2, True), (damage, told.output)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "runs",
        "report",
        "judge",
        "predict",
        "events",
        "evaluate",
        "diagnose",
        "resume",
        "causal",
        "doctor",
        "fuse",
        "calibrate",
        "work",
    ],
)
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


NOT_READ = """
import sys
from pathlib import Path
from muybridge.errors import UserError
from muybridge.inference.predictor import Predictor
from muybridge.analysis.comparison import compared
from muybridge.storage.listing import standing
from muybridge.storage.run import Run

def told(call):
    try:
        call()
    except UserError as error:
        return str(error)
    return ""

for line in sys.stdin.read().splitlines():
    name, folder = line.split("|")
    run = Run(folder)
    said = [str(standing(run).reason), told(lambda: compared([run])), told(lambda: Predictor(run).close()), told(run.scores),
            told(run.diagnosis), told(lambda: run.metrics("train"))]
    print(name, Path(name).name in " ".join(said), flush=True)
"""


@pytest.mark.parametrize("kind", ["pipe", pytest.param("device", marks=pytest.mark.slow)])
def test_a_pipe_or_a_device_in_place_of_a_file_is_not_read(study, tmp_path, kind):
    """Reading it would never end."""
    names = [
        "recipe.json", "metrics.jsonl", "dataset.json", "result.json", "scores/test.npz", "model.safetensors", "checkpoints/last",
        "timing.jsonl", "diagnosis/diagnosis.json",
    ]  # fmt: skip
    for number, name in enumerate(names):
        shutil.copytree(study / "runs" / RUN, tmp_path / str(number))
        (path,) = (tmp_path / str(number)).glob(name if "model" not in name else f"checkpoints/*/{name}")
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
    ran = subprocess.run(
        [sys.executable, "-c", NOT_READ], capture_output=True, text=True, timeout=300, check=False,
        input="\n".join(f"{name}|{tmp_path / str(number)}" for number, name in enumerate(names)),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines() == [f"{name} True" for name in names]


def test_a_byte_of_the_weights_is_told(study, tmp_path):
    shutil.copytree(study / "runs" / RUN, tmp_path / RUN)
    (path,) = (tmp_path / RUN).glob("checkpoints/*/model.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)
    for call in (
        lambda: Predictor(tmp_path / RUN), lambda: muybridge.evaluate(tmp_path / RUN),
        lambda: build.weights_file(str(tmp_path / RUN)),
    ):  # fmt: skip
        with pytest.raises(
            UserError, match=r"model\.safetensors: it is damaged, as its bytes are not those that were written"
        ):
            call()


@pytest.mark.parametrize("damage", ["half", "nothing", "gone"])
def test_a_finished_run_has_all_its_lines(study, tmp_path, damage):
    shutil.copytree(study / "runs" / RUN, tmp_path / RUN)
    path = tmp_path / RUN / "metrics.jsonl"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        Run(tmp_path / RUN).metrics("train")


@pytest.mark.parametrize(("field", "value"), [
    ("step", "x"), ("step", -5), ("step", 10**18), ("best", "a"), ("metrics_bytes", -1), ("metrics_bytes", 1.5), ("ended", 3),
])  # fmt: skip
def test_where_training_stood_is_checked(study, tmp_path, field, value):
    shutil.copytree(study / "runs" / RUN, tmp_path / RUN)
    (path,) = (tmp_path / RUN).glob("checkpoints/*/state.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UserError, match=r"state\.json"):
        checkpoint.load_state(tmp_path / RUN / "checkpoints")


def test_a_file_of_metrics_is_never_lengthened(study, tmp_path):
    shutil.copytree(study / "runs" / RUN, tmp_path / RUN)
    file = tmp_path / RUN / "metrics.jsonl"
    have = file.stat().st_size
    assert Run(tmp_path / RUN).truncate_metrics(10**13) == 10**13 - have
    assert file.stat().st_size == have


@pytest.mark.parametrize(("field", "value"), [
    ("classes", []), ("classes", ["a", "a"]), ("mirror", {"nix": "nix"}), ("longest_trained_seconds", -5.0),
    ("longest_trained_seconds", float("nan")), ("longest_trained_seconds", float("inf")),
    ("class_sizes", {"train": [1]}), ("class_sizes", {}),
])  # fmt: skip
def test_what_a_run_knows_of_its_set_is_checked(study, tmp_path, field, value):
    shutil.copytree(study / "runs" / RUN, tmp_path / RUN)
    path = tmp_path / RUN / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UserError, match=r"dataset\.json: it is damaged"):
        Predictor(tmp_path / RUN)


@pytest.mark.parametrize(("name", "place", "value"), [
    ("dataset.json", "split_sizes", {}), ("dataset.json", "split_sizes.train", 0), ("cost.json", "params", -5),
    ("environment.json", "threads", -1), ("result.json", "test.video_top1", 7), ("result.json", "val.mean_class", -0.1),
    ("metrics.jsonl", "clip_top1", 7), ("timing.jsonl", "train_clips_per_s", -3), ("timing.jsonl", "train_seconds", -1),
    ("speed.json", "peak_memory_bytes", -1), ("speed.json", "train_clips_per_s", 0),
    ("diagnosis/diagnosis.json", "largest_change", {}), ("diagnosis/diagnosis.json", "accuracy", None),
    ("diagnosis/diagnosis.json", "accuracy.ordered", 2),
])  # fmt: skip
def test_figures_that_cannot_be_are_damage(study, tmp_path, name, place, value):
    shutil.copytree(study / "runs" / RUN, tmp_path / RUN)
    path = tmp_path / RUN / name
    if name == "speed.json":
        Run(tmp_path / RUN).save_speed({"train_clips_per_s": 1.0, "peak_memory_bytes": 1})
    first, *others = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    document = json.loads(first)
    *above, last = place.split(".")
    inside = document
    for part in above:
        inside = inside[part]
    inside[last] = value
    path.write_text("\n".join([json.dumps(document), *others]) + "\n")
    result = CliRunner().invoke(app, ["report", str(tmp_path / RUN), "--no-frames", "--out", str(tmp_path / "r.html")])
    told = result.output.replace("\n", "")
    if name in ("speed.json", "diagnosis/diagnosis.json"):  # a report goes without
        assert result.exit_code == 0, result.output
        told = (tmp_path / "r.md").read_text()
    else:
        assert result.exit_code == 2, result.output
    assert name.rpartition("/")[2] in told
    assert last in told
