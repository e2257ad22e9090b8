"""A stranger's run, study, recipe or set: no code of theirs runs without consent, and nothing leaves its folder."""

import hashlib
import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import made_scores, make_run
from torch import nn
from typer.testing import CliRunner

import muybridge
from muybridge import user_code
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.stores.flow import flow
from muybridge.data.stores.jpegs import frames
from muybridge.data.stores.pack import pack
from muybridge.errors import UserError
from muybridge.recipe import Runtime, replace, to_json
from muybridge.runtime.files import sha256_file
from muybridge.storage.run import Run
from muybridge.storage.study import StudyRecord
from muybridge.training.job import Jobs
from muybridge.training.loop import finish, resume, train
from muybridge.user_code import parsed
from muybridge.zoo.user_network import brought_sha256

TRAP = """
from pathlib import Path
Path({mark!r}).touch()
def network(**_):
    raise SystemExit("code of the stranger ran")
net = f = network
"""

NAMES = (
    "evil:net", "tsm@evil:network", "i3d@evil:f", "tsm@hf:network", "tsn@timm:network", "hf:evil", "timm:network",
    "os:system", "tsm@os:getcwd", "evil.sub:net", "./evil.py:net", "evil.py:net", "HF:network", "@evil:net", "a@tsm@evil:net",
    "tsm@evil:net:more", "hf:./evil", "tsm@hf:./evil",
)  # fmt: skip
"""Ways to name code; some mean none, and are errors of another kind."""
NAMES_IN_CI = {
    "evil:net",
    "tsm@evil:network",
    "./evil.py:net",
    "hf:./evil",
}
"""One of each kind. What every name means is in `test_what_a_name_means`."""


@pytest.fixture(autouse=True)
def nothing_is_allowed(monkeypatch):
    """Each test begins as a process does."""
    monkeypatch.setattr(user_code, "_allowed", set())
    path, meta, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, meta
    for name in set(sys.modules) - modules:
        if name.split(".")[0] in ("evil", "mine", "helper", "hf"):
            del sys.modules[name]


@pytest.fixture
def stranger(run, tmp_path, monkeypatch):
    """A folder with a stranger's run in it, where the user stands; traps lie wherever code might be looked for. Gives what
    makes the run name something, and the mark that a trap leaves."""
    mark = tmp_path / "SPRUNG"
    here = tmp_path / "stranger"
    shutil.copytree(run.path, here)
    trap = TRAP.format(mark=str(mark))
    for name in (
        "evil.py",
        "hf.py",
        "timm.py",
        "transformers_modules.py",
        "muybridge.py",
        "torch.py",
        "random.py",
        "yaml.py",
    ):
        (here / name).write_text(trap)
    (here / "evil").mkdir()
    (here / "evil" / "sub.py").write_text(trap)
    (here / "evil" / "code.py").write_text(trap)
    config = {
        "model_type": "evil", "auto_map": {"AutoConfig": "code.Config", "AutoModelForVideoClassification": "code.Model"},
    }  # fmt: skip
    (here / "evil" / "config.json").write_text(json.dumps(config))
    (here / "source").mkdir()
    (here / "source" / "evil.py").write_text(trap)
    monkeypatch.chdir(here)

    def names(name, *, finished=True):
        values = json.loads((run.path / "recipe.json").read_text())
        values["model"] |= {"name": name, "source_sha256": sha256_file(here / "source" / "evil.py")}
        (here / "recipe.json").write_text(json.dumps(values))
        if not finished:
            (here / "result.json").unlink(missing_ok=True)

    return names, mark


def commands(manifest):
    video = Manifest.load(manifest).row(0).path
    return {
        "export": ["export", ".", "--out", "../new.onnx"],
        "predict": ["predict", ".", video], "events": ["events", ".", video],
        "stream": ["stream", ".", video],
        "evaluate": ["evaluate", "."], "diagnose": ["diagnose", "."],
        "predict with its weights": ["predict", "tsn_resnet_tiny", video, "--pretrained", "."],
        "predict with its hub folder": ["predict", "hf:./evil", video, "--pretrained", "hub"],
        "evaluate its weights": ["evaluate", "tsn_resnet_tiny", "--pretrained", ".", "--data", manifest],
        "evaluate its hub folder": ["evaluate", "hf:./evil", "--pretrained", "hub", "--data", manifest],
        "measure": ["measure", "."], "resume": ["train", "--resume", "."],
        "causal": ["causal", ".", "--out", "../new", "--set", "clip.sampling=dense"],
        "train by its recipe": ["train", "recipe.json", "--data", manifest, "--out", "../new"],
        "train by its folder": ["train", ".", "--data", manifest, "--out", "../new"],
        "find a rate": ["train", "recipe.json", "--data", manifest, "--find-lr", "--out", "../new.svg"],
        "start from it": ["train", "small", "--model", "tsn_resnet_tiny", "--init", ".", "--data", manifest, "--out", "../new",
                          "--set", "optim.epochs=1", "--set", "optim.min_steps=0", "--set", "optim.warmup_epochs=0"],
        "compare by its recipe": ["compare", "--recipe", "recipe.json", "--models", "tsn_resnet_tiny", "--data", manifest,
                                  "--out", "../study", "--dry-run"],
        "calibrate": ["calibrate", "."], "evaluate clips of no class": ["evaluate", ".", "--data", manifest, "--unknown"],
        "evaluate to keep": ["evaluate", ".", "--split", "train", "--keep"], "describe": ["describe", manifest],
        "show": ["show", manifest, "--out", "../new.html"],
        "doctor by its recipe": ["doctor", manifest, "--recipe", "recipe.json", "--quick"], "verify": ["verify", manifest],
        "doctor by its answers": ["doctor", manifest, "--study", ".", "--out", "../new.html"],
        "fuse": ["fuse", ".", ".", "--weights", "equal", "--out", "../fused"],
        "report": ["report", ".", "--out", "../report.html"],
        "figures": ["report", ".", "--out", "../report.html", "--figures", "../new", "--card", "../new/card.json"],
        "judge": ["judge", ".", "--out", "../judge.html"],
        "runs": ["runs", "."], "recipes": ["recipes", "recipe.json"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in NAMES_IN_CI else pytest.mark.slow) for name in NAMES]
)
def test_no_command_runs_code_that_a_file_names(stranger, made_set, name):
    names, mark = stranger
    for what, words in commands(made_set).items():
        names(name, finished="resume" not in what)
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert not mark.exists(), f"{what}: code of the stranger ran"
        assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit), what
        if what in (
            "predict",
            "events",
            "stream",
            "predict with its weights",
            "predict with its hub folder",
            "evaluate",
            "evaluate its weights",
            "evaluate its hub folder",
            "evaluate to keep",
            "measure",
            "resume",
            "causal",
            "train by its recipe",
            "train by its folder",
            "find a rate",
        ):
            assert result.exit_code == 2, (what, result.output)
        shutil.rmtree("../new", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["muybridge", "-m muybridge"])
def test_no_command_runs_code_from_where_the_user_stands(stranger, made_set, way):
    """As whole processes: what Python itself and the libraries look for is not taken from the current folder."""
    names, mark = stranger
    start = (
        [sys.executable, "-m", "muybridge"]
        if way.startswith("-m")
        else [str(Path(sys.executable).parent / "muybridge")]
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    for name in ("tsm@hf:network", "evil:net", "tsn@timm:network"):
        for what, words in commands(made_set).items():
            names(name, finished="resume" not in what)
            if way.startswith("-m"):
                Path("muybridge.py").unlink(missing_ok=True)  # Python would take it for the command itself
            subprocess.run([*start, *map(str, words)], capture_output=True, env=environment, timeout=300)
            assert not mark.exists(), f"{what}: code of the stranger ran"


@pytest.mark.slow
def test_worker_processes_look_for_nothing_where_the_user_stands(run, made_set, tmp_path, monkeypatch):
    mark = tmp_path / "SPRUNG"
    monkeypatch.chdir(tmp_path)
    for name in ("multiprocessing", "pickle", "struct", "av", "simplejpeg", "numpy"):
        (tmp_path / f"{name}.py").write_text(TRAP.format(mark=str(mark)))
    command = [str(Path(sys.executable).parent / "muybridge"), "evaluate", str(run.path), "--set", "runtime.num_workers=1",
               "--set", "runtime.cache_gib=0"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not mark.exists()


def test_a_recipe_in_python_needs_consent_as_well(stranger, made_set, tmp_path):
    names, mark = stranger
    names("evil:net")
    theirs = replace(Run(Path()).recipe(), {"data.manifest": str(made_set)})
    for call in (
        lambda: muybridge.train(theirs, out=tmp_path / "new"), lambda: train(theirs, out=tmp_path / "new"),
        lambda: muybridge.train("recipe.json", data=made_set, out=tmp_path / "new"), lambda: resume(Path()),
        lambda: muybridge.load(Path()), lambda: muybridge.evaluate(Path()), lambda: muybridge.diagnose(Path()),
    ):  # fmt: skip
        Path("result.json").unlink(missing_ok=True)
        with pytest.raises(UserError, match=r"allow_code=True|is not finished"):
            call()
    assert not mark.exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tsm_resnet18", None), ("hf:MCG-NJU/videomae-base", None), ("tsm@timm:resnet50", None), ("hf:/home/a@b/net", None),
        ("mine:net", "mine:net"), ("tsm@mine:net", "mine:net"), ("a.b:net", "a.b:net"), ("Timm:net", "Timm:net"),
        ("timm.models:net", "timm.models:net"), ("tsm@hf.x:net", "hf.x:net"),
    ],
)  # fmt: skip
def test_what_a_name_means(name, code):
    assert parsed(name).code == code


@pytest.mark.parametrize("name", ["tsm@hf:network", "a@b@c:d", "@c:d", "timm:resnet50"])
def test_what_means_nothing_is_told(name):
    with pytest.raises(UserError, match=name):
        parsed(name)


# --- the user's own code


MINE = """
import torch
from torch import nn
from helper import width
from muybridge.zoo import VideoModel

class Net(VideoModel):
    def __init__(self, num_classes):
        super().__init__(width(), num_classes, dropout=0.0)
        self.mix = nn.Linear(3, width())

    def features(self, x_BCTHW):
        return self.mix(x_BCTHW.mean((3, 4)).transpose(1, 2))

def net(*, num_classes, num_frames, temporal_pooling, dropout):
    model = Net(num_classes)
    model.mix.load_state_dict(torch.load("weights.pt"))
    return model
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a model whose function reads a file of weights and imports a module beside it."""
    here = tmp_path / "mine"
    here.mkdir()
    (here / "mine.py").write_text(MINE)
    (here / "helper.py").write_text("def width():\n    return 4\n")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))

    def weights(value):
        torch.save({"weight": torch.full((4, 3), value), "bias": torch.zeros(4)}, "weights.pt")

    weights(0.5)
    return weights


def test_weights_that_a_function_loads_are_part_of_the_run(mine, recipe, tmp_path):
    """Another file of weights is another network: what was finished with the old one is not taken for it."""
    one = muybridge.compare(
        ["mine:net"], data=recipe.data.manifest, recipe=replace(recipe, {"optim.epochs": 2}), out=tmp_path / "study"
    ).runs[0]
    first = one.recipe().model.weights_sha256
    assert first is not None
    again = muybridge.compare(["mine:net"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study").runs[0]
    assert again.recipe().model.weights_sha256 == first, "fresh weights are drawn, and do not count"
    mine(0.25)
    with pytest.raises(UserError, match=r"another recipe .*weights_sha256"):
        muybridge.compare(["mine:net"], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "study")
    other = muybridge.train(recipe, model="mine:net", out=tmp_path / "other")
    assert other.recipe().model.weights_sha256 != first
    text = "\n".join(line for section in report_of(tmp_path, one, other) for line in section)
    assert first[:12] in text
    assert other.recipe().model.weights_sha256[:12] in text


@pytest.mark.parametrize(
    "what", ["a part of a weight", "a buffer that is not kept", "a plain tensor", "an array in a list"]
)
def test_all_that_a_function_brings_counts(what):
    def hashed(value):
        def build():
            net = nn.Sequential(nn.Conv2d(3, 8, 3))
            net.register_buffer(
                "mean", torch.full((3,), value if what == "a buffer that is not kept" else 0.0), persistent=False
            )
            net.scale = torch.tensor(value if what == "a plain tensor" else 0.0)
            net.parts = [{"array": np.full(2, value if what == "an array in a list" else 0.0)}]
            net.parts.append(net.parts)
            if what == "a part of a weight":
                net[0].weight.data[:7] = value
            return net

        return brought_sha256(build)

    assert hashed(0.5) == hashed(0.5), "random numbers do not count"
    assert hashed(0.5) != hashed(0.25)


def report_of(tmp_path, *runs):
    from muybridge.analysis.comparison import compared_runs
    from muybridge.reporting.sections import Chapter
    from muybridge.reporting.sections.training import protocol

    return [protocol(Chapter(comparison)).text for comparison in compared_runs(runs).values()]


def test_a_finished_run_needs_none_of_the_functions_files(mine, recipe, tmp_path, made_set, monkeypatch):
    run = muybridge.train(recipe, model="mine:net", out=tmp_path / "run")
    video = Manifest.load(made_set).row(0).path
    before = muybridge.load(run, allow_code=True)(video)
    assert sorted(path.name for path in (run.path / "source").iterdir()) == ["helper.py", "mine.py", "network.pickle"]
    for name in ("mine.py", "helper.py", "weights.pt"):
        Path(name).unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert muybridge.load(run, allow_code=True)(video) == before
    alone = subprocess.run(
        [sys.executable, "-P", "-m", "muybridge", "predict", str(run.path), video, "--allow-code", "--json"],
        capture_output=True, text=True, cwd=elsewhere,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert json.loads(alone.stdout)["predictions"][0]["labels"] == list(before[0].labels)


def test_a_run_of_ones_own_code_is_resumed_from_what_it_kept(mine, recipe, tmp_path):
    whole = muybridge.train(recipe, model="mine:net", out=tmp_path / "whole")
    run = Run(tmp_path / "run")
    shutil.copytree(whole.path, run.path)
    (run.path / "result.json").unlink()
    for name in ("mine.py", "helper.py", "weights.pt"):
        Path(name).unlink()
    with pytest.raises(UserError, match="--allow-code"):
        resume(run)
    assert resume(run, allow_code=True).result()["test"] == whole.result()["test"]
    (run.path / "source" / "helper.py").write_text("def width():\n    return 4  # changed\n")
    with pytest.raises(UserError, match="holds other files than those"):
        muybridge.load(run, allow_code=True)


def test_a_module_that_was_changed_is_imported_anew(mine, recipe, tmp_path):
    """What runs is what is hashed, also in a notebook."""
    four = muybridge.train(recipe, model="mine:net", out=tmp_path / "four")
    Path("helper.py").write_text("def width():\n    return 6\n")
    torch.save({"weight": torch.ones(6, 3), "bias": torch.zeros(6)}, "weights.pt")
    six = muybridge.train(recipe, model="mine:net", out=tmp_path / "six")
    assert four.recipe().model.source_sha256 != six.recipe().model.source_sha256
    assert six.cost()["params"] - four.cost()["params"] == 2 * 4 + 2 * 10
    assert muybridge.load(four, allow_code=True).answering.model.fc.in_features == 4
    assert muybridge.load(six, allow_code=True).answering.model.fc.in_features == 6


def test_a_job_of_ones_own_code_needs_consent_and_the_same_code(mine, recipe, tmp_path):
    """It may be finished elsewhere: by another process, later."""
    user_code.allow("mine:net")
    job = Jobs(Runtime()).job(replace(recipe, {"model.name": "mine:net"}))
    user_code._allowed.clear()
    with pytest.raises(UserError, match=r"The job: it names code.*allow_code=True"):
        finish(Run(tmp_path / "run"), job, runtime=Runtime())
    Path("helper.py").write_text("def width():\n    return 2 + 2\n")
    with pytest.raises(UserError, match=r"mine:net: its files have changed since the job was made"):
        finish(Run(tmp_path / "run"), job, runtime=Runtime(), allow_code=True)
    assert not (tmp_path / "run").exists()
    Path("helper.py").write_text("def width():\n    return 4\n")
    assert finish(Run(tmp_path / "run"), job, runtime=Runtime(), allow_code=True).is_finished


def test_bytecode_of_another_source_is_not_taken(mine, monkeypatch):
    """Python takes it where the length and the second of the source agree, as after a quick change."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for width in (4, 6):
        Path("helper.py").write_text(f"def width():\n    return {width}\n")
        os.utime("helper.py", (1e9, 1e9))
        for name in ("mine", "helper"):
            sys.modules.pop(name, None)
        monkeypatch.setattr(user_code, "_imported", {})  # as in another process
        torch.save({"weight": torch.ones(width, 3), "bias": torch.zeros(width)}, "weights.pt")
        user_code.allow("mine:net")
        net = user_code.call("mine:net", num_classes=2, num_frames=4, temporal_pooling=False, dropout=0.0)
        assert net.fc.in_features == width
        assert Path(importlib.util.cache_from_source("helper.py")).exists()


def test_what_goes_wrong_names_the_users_line(mine, recipe, tmp_path):
    Path("mine.py").write_text(MINE.replace('"weights.pt"', '"no such file.pt"'))
    line = MINE.splitlines().index('    model.mix.load_state_dict(torch.load("weights.pt"))') + 1
    with pytest.raises(UserError, match=rf"mine\.py, line {line}: FileNotFoundError"):
        muybridge.train(recipe, model="mine:net", out=tmp_path / "run")


# --- nothing leaves its folder


@pytest.fixture
def home(tmp_path):
    """A folder of the user's, and what is in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "thesis.docx").write_text("my thesis")
    (folder / "notes.txt").write_text("precious")
    (folder / "model.safetensors").write_text("mine")

    def untouched():
        return {path.name: path.read_text() for path in folder.iterdir()} == {
            "thesis.docx": "my thesis", "notes.txt": "precious", "model.safetensors": "mine",
        }  # fmt: skip

    return folder, untouched


def linked(path, target):
    """`path` is a link to `target` now."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(
    "name",
    ["report.files", "report.json", *(pytest.param(f"report.{end}", marks=pytest.mark.slow) for end in ("md", "html"))],
)
def test_a_report_is_written_through_no_link(tmp_path, home, name):
    folder, untouched = home
    make_run(tmp_path / "study" / "runs" / "a")
    StudyRecord(tmp_path / "study", None, {}, {}, {}).save()
    values = json.loads((tmp_path / "study" / "study.json").read_text())
    values |= {"runs": {"a": {}}, "sets": {"set": {"runs": ["a"]}}}
    (tmp_path / "study" / "study.json").write_text(json.dumps(values))
    assert call("report", tmp_path / "study").exit_code == 0
    told = json.loads((tmp_path / "study" / "report.json").read_text())
    told["files"] = ["thesis.docx", "notes.txt", "../../home/thesis.docx", "/etc/passwd", 7]
    (tmp_path / "study" / "report.json").write_text(json.dumps(told))
    linked(tmp_path / "study" / name, folder if name.endswith("files") else folder / "notes.txt")
    result = call("report", tmp_path / "study")
    assert result.exit_code == 2
    assert "is a link" in result.stderr
    assert untouched()


@pytest.mark.parametrize("name", ["scores", "recipe.json", "result.json", "fused.json"])
def test_fused_scores_are_written_through_no_link(tmp_path, home, name):
    folder, untouched = home
    runs = [make_run(tmp_path / model, model=f"{model}_resnet_tiny").path for model in ("tsn", "tsm")]
    words = ["fuse", *runs, "--weights", "equal", "--out", tmp_path / "fused"]
    assert call(*words).exit_code == 0
    (tmp_path / "fused" / "result.json").unlink()  # as if it had been stopped
    linked(tmp_path / "fused" / name, folder if name == "scores" else folder / "notes.txt")
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert untouched()


def test_a_calibration_is_written_through_no_link(tmp_path, home):
    folder, untouched = home
    runs = [make_run(tmp_path / model, model=f"{model}_resnet_tiny") for model in ("tsn", "tsm")]
    for run in runs:
        run.save_scores("val", made_scores(np.arange(60) % 3 > 0))
    assert call("fuse", *(run.path for run in runs), "--weights", "equal", "--out", tmp_path / "fused").exit_code == 0
    linked(tmp_path / "fused" / "calibration.json", folder / "notes.txt")
    result = call("calibrate", tmp_path / "fused")
    assert result.exit_code == 2, result.output
    assert "calibration.json" in result.stderr
    assert untouched()
    (tmp_path / "fused" / "calibration.json").unlink()
    assert call("calibrate", tmp_path / "fused").exit_code == 0


def test_names_in_a_report_delete_nothing_but_drawings_and_tables(tmp_path):
    run = make_run(tmp_path / "a")
    assert call("report", run.path, "--out", tmp_path / "r.html").exit_code == 0
    (tmp_path / "r.files" / "notes.txt").write_text("mine")
    told = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps(told | {"files": ["notes.txt", "..", "accuracy.svg", ".lock"]}))
    assert call("report", run.path, "--out", tmp_path / "r.html").exit_code == 0
    assert (tmp_path / "r.files" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.json"])
def test_a_file_that_no_report_has_written_is_kept(tmp_path, name):
    run = make_run(tmp_path / "a")
    (tmp_path / name).write_text("mine")
    result = call("report", run.path, "--out", tmp_path / "r.html")
    assert result.exit_code == 2
    assert f"{name}: it is there already" in result.stderr
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["checkpoints", "scores", "source", "diagnosis", "evaluations", "trackers", "metrics.jsonl", ".lock"]
)
def test_a_run_that_goes_on_writes_through_no_link(run, tmp_path, home, name):
    folder, untouched = home
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    if name == "checkpoints":
        shutil.move(tmp_path / "run" / name, tmp_path / "elsewhere")
        linked(tmp_path / "run" / name, tmp_path / "elsewhere")
    else:
        linked(tmp_path / "run" / name, folder / "notes.txt" if "." in name else folder)
    before = {path: path.read_bytes() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="is a link"):
        resume(tmp_path / "run")
    assert untouched()
    assert before == {path: path.read_bytes() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()}


def test_a_file_with_another_name_is_not_changed_under_it(run, tmp_path):
    """Hard links: a backup that shares its files with the run, or a file that an archive linked."""
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes() + b'{"kind": "train", "epoch": 9, "step": 9}\n'
    (tmp_path / "backup.jsonl").write_bytes(before)
    for name in ("metrics.jsonl", "timing.jsonl", ".lock"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "lock").write_text("mine")
    (tmp_path / "run" / "metrics.jsonl").hardlink_to(tmp_path / "backup.jsonl")
    (tmp_path / "run" / ".lock").hardlink_to(tmp_path / "lock")
    resume(tmp_path / "run")
    assert (tmp_path / "backup.jsonl").read_bytes() == before
    assert (tmp_path / "lock").read_text() == "mine"
    assert Run(tmp_path / "run").metrics("train") == run.metrics("train")


def test_names_in_a_kept_evaluation_lead_nowhere(run, tmp_path, home):
    """A stranger's evaluation changes no other field, and its folder may be a link without anything written through it."""
    folder, untouched = home
    shutil.copytree(run.path, tmp_path / "run")
    muybridge.evaluate(tmp_path / "run", changes={"evaluation.num_crops": 1}, keep=True)
    (file,) = (tmp_path / "run").glob("evaluations/*/evaluation.json")
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"changes": {"model.name": "evil:net", "data.manifest": "/etc/passwd"}}))
    assert call("report", tmp_path / "run", "--out", tmp_path / "r.html").exit_code == 0
    assert "an evaluation cannot change model.name" in (tmp_path / "r.md").read_text().replace("\\", "")
    shutil.rmtree(file.parent)
    linked(file.parent, folder)
    with pytest.raises(UserError, match="is a link"):
        muybridge.evaluate(tmp_path / "run", changes={"evaluation.num_crops": 1}, keep=True)
    assert untouched()


def test_a_diagnosis_is_written_through_no_link(run, tmp_path, home):
    folder, untouched = home
    shutil.copytree(run.path, tmp_path / "run")
    linked(tmp_path / "run" / "diagnosis", folder)
    with pytest.raises(UserError, match="is a link"):
        muybridge.diagnose(tmp_path / "run")
    assert untouched()


@pytest.mark.parametrize("name", ["../../home", "..", "/tmp", "a/b", "."])
def test_a_study_names_runs_of_its_own_only(tmp_path, name):
    (tmp_path / "study").mkdir()
    values = {"format_version": 3, "title": None, "varies": {}, "runs": {name: {}}, "sets": {"s": {"runs": [name]}}}
    (tmp_path / "study" / "study.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="not the name of a run's folder"):
        StudyRecord.load(tmp_path / "study")
    for command in ("report", "measure", "diagnose"):
        assert call(command, tmp_path / "study").exit_code == 2


def test_a_strangers_plan_runs_no_code(recipe, tmp_path, monkeypatch):
    """Neither the copy that it brings along, nor a module of that name where the user stands."""
    study, mark = tmp_path / "study", tmp_path / "mark"
    muybridge.compare(["tsn_resnet_tiny"], data=recipe.data.manifest, recipe=recipe, out=study, plan_only=True)
    trap = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    plan = json.loads((study / "plan.json").read_text())
    for name in ("evil:net", "tsm@evil:net"):
        for sha256 in (None, hashlib.sha256(trap.encode()).hexdigest()):
            for folder in (study / "code" / (sha256 or "unknown")[:16] / "source", study):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "evil.py").write_text(trap)
            plan["recipe"]["model"] |= {"name": name, "source_sha256": sha256}
            (study / "plan.json").write_text(json.dumps(plan))
            monkeypatch.chdir(study)
            refused = call("work", ".")
            assert (refused.exit_code, "--allow-code" in refused.stderr) == (2, True), refused.stderr
            assert not mark.exists()
    assert not list((study / "leases").iterdir()), "nobody's fault: the run stays open"


@pytest.mark.parametrize("pointer", ["../../../home", "/home", "step-00000006/../../..", "", "\udcff", "step-6"])
def test_a_pointer_names_a_checkpoint_beside_it(run, tmp_path, pointer):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "checkpoints" / "last").write_bytes(pointer.encode("utf-8", "surrogateescape"))
    for attempt in (resume, muybridge.load, muybridge.evaluate):
        with pytest.raises(UserError, match="last"):
            attempt(tmp_path / "run")


def test_packs_and_folders_of_frames_are_written_through_no_link(made_set, tmp_path, home):
    folder, untouched = home
    shutil.copytree(made_set.parent, tmp_path / "made")
    made_set = tmp_path / "made" / made_set.name
    made_set.write_text("".join(made_set.read_text().splitlines(keepends=True)[:9]))  # eight videos are enough
    source = Manifest.load(made_set)
    first = source.text("path")[0].split("/")[0]
    for write, name in ((pack, "pack"), (frames, "frames"), (flow, "flow")):
        out = tmp_path / name
        write(made_set, out=out, short_side=16)
        whole = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
        inner = {"pack": (".lock",), "frames": (".lock", first), "flow": ()}[name]
        for inside in ("manifest.csv", f"{name}.json", *inner):
            shutil.rmtree(out)
            write(made_set, out=out, short_side=16)
            (out / "manifest.csv").unlink()
            if inside.endswith(".json"):
                (out / inside).rename(tmp_path / "kept.json")
                linked(out / inside, tmp_path / "kept.json")
                kept = (tmp_path / "kept.json").read_bytes()
            else:
                linked(out / inside, folder if inside == first else folder / "notes.txt")
            if inside.endswith(".json") and name != "frames":  # a finished pack is read, and not written
                write(made_set, out=out, short_side=16)
            else:
                with pytest.raises(UserError, match=r"is a link|manifest\.csv: it lacks"):
                    write(made_set, out=out, short_side=16)
            assert untouched(), (name, inside)
            if inside.endswith(".json"):
                assert (tmp_path / "kept.json").read_bytes() == kept
        assert whole


def test_videos_whose_names_lead_out_get_folders_inside(made_set, tmp_path, home):
    folder, untouched = home
    text = Path(made_set).read_text().splitlines()
    shutil.copytree(Path(made_set).parent, tmp_path / "set")
    lines = [text[0]]
    for number, line in enumerate(text[1:13]):
        cells = line.split(",")
        path = tmp_path / "set" / cells[1]
        name = ["../../home", str(folder / "thesis.docx"), f"a\nb{number}", "x" * 240, "manifest.csv", "train.txt"][
            number % 6
        ]
        cells[0] = f'"{name}{number if number >= 6 else ""}"'
        cells[1] = str(path)
        lines.append(",".join(cells))
    (tmp_path / "set" / "manifest.csv").write_text("\n".join(lines) + "\n")
    done = frames(tmp_path / "set" / "manifest.csv", out=tmp_path / "frames", short_side=16)
    assert done.videos == 12
    assert untouched()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "home", "set"]
    written = Manifest.load(tmp_path / "frames")
    for index in range(len(written)):
        assert Path(written.row(index).path).is_dir()


class Trap:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("names", ["scores/*.npz", pytest.param("**/*", marks=pytest.mark.slow)])
def test_no_file_of_a_run_is_unpickled(run, tmp_path, names):
    mark, trap = tmp_path / "SPRUNG", None
    trap = pickle.dumps(Trap(mark))
    shutil.copytree(run.path, tmp_path / "run")
    buffer = tmp_path / "trap.npz"
    np.savez(buffer, ids=np.array([Trap(mark)], dtype=object))
    paths = [path for path in (tmp_path / "run").glob(names) if path.is_file() and path.name != "recipe.json"]
    assert paths
    for path in paths:
        for content in (trap, buffer.read_bytes()):
            kept = path.read_bytes()
            path.write_bytes(content)
            for words in (["evaluate"], ["predict"], ["report", "--out", str(tmp_path / "r.html")]):
                video = (
                    [Manifest.load(Run(run.path).recipe().data.manifest).row(0).path] if words[0] == "predict" else []
                )
                result = call(words[0], tmp_path / "run", *words[1:], *video)
                assert result.exception is None or isinstance(result.exception, SystemExit), (
                    path,
                    words,
                    result.exception,
                )
                assert not mark.exists(), path
            path.write_bytes(kept)


def test_a_strangers_runtime_imports_nothing_from_here(run, tmp_path, monkeypatch):
    """Trackers are libraries of the user's, if they have them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wandb.py").write_text(TRAP.format(mark=str(tmp_path / "SPRUNG")))
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "runtime.json").write_text(to_json(Runtime(trackers=("wandb",))))
    result = call("train", "--resume", "run")
    assert result.exit_code == 2
    assert "wandb is not installed" in result.stderr
    assert not (tmp_path / "SPRUNG").exists()


@pytest.mark.slow
def test_the_guide_for_a_network_of_ones_own_works_from_the_command_line(made_set, tmp_path):
    """What the user types is looked for where they stand."""
    (tmp_path / "mynets.py").write_text(
        textwrap.dedent("""
        from torch import nn

        def network():
            return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        """)
    )
    words = ["train", "--model", "tsn@mynets:network", "--data", str(made_set), "--out", "run", "--shorten", "0.01",
             "--set", "optim.min_steps=0", "--set", "clip.size=32", "--set", "clip.num_frames=4"]  # fmt: skip
    start = [str(Path(sys.executable).parent / "muybridge"), *words]
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "run").is_finished


@pytest.mark.parametrize("trap", [pytest.param("network.pickle", marks=pytest.mark.slow), "bytecode"])
def test_naming_ones_own_code_runs_none_that_a_study_keeps(mine, recipe, tmp_path, trap):
    """`compare --models mine:net --out STUDY` is consent to mine.py, and not to what lies in a stranger's study."""
    (tmp_path / "mine" / "mine.py").write_text(
        "from torch import nn\ndef net(*, num_classes, num_frames, temporal_pooling, dropout):\n    raise SystemExit\n"
        "def image():\n    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())\n"
    )
    small = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0})
    run = muybridge.compare(["tsn@mine:image"], data=small.data.manifest, recipe=small, out=tmp_path / "study").runs[0]
    source, mark = run.path / "source", tmp_path / "ran"
    if trap == "network.pickle":
        (source / "network.pickle").write_bytes(pickle.dumps(Touch(mark)))
    else:
        lines = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n{(source / 'mine.py').read_text()}"
        code = importlib._bootstrap_external._code_to_hash_pyc(
            compile(lines, "mine.py", "exec"), b"12345678", checked=False
        )
        cached = Path(importlib.util.cache_from_source(str(source / "mine.py")))
        cached.parent.mkdir()
        cached.write_bytes(code)
    muybridge.compare(["tsn@mine:image"], data=small.data.manifest, recipe=small, out=tmp_path / "study", diagnose=True)
    (run.path / "result.json").unlink()  # it goes on, and is finished again
    muybridge.compare(["tsn@mine:image"], data=small.data.manifest, recipe=small, out=tmp_path / "study")
    assert not mark.exists()
    if trap == "bytecode":  # nor where the run's own code is allowed: what runs is what is hashed
        user_code._allowed.clear()
        muybridge.evaluate(run, allow_code=True)
        assert not mark.exists()


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)
