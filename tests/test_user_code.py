"""User code that was written for earlier versions: what it imports by a former name is found under the present one."""

import importlib
import inspect
import shutil
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import muybridge
from muybridge import former_names, user_code
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.former_names import FORMER_NAMES, resolve_former_names
from muybridge.recipe import replace
from muybridge.recipe.shipped import load, small
from muybridge.training.loop import train
from muybridge.user_code import function_in_file
from muybridge.zoo import create, user_network

NETWORK = """
from muybridge.models import VideoModel
from muybridge.models.anatomy import Site
from muybridge.models.contract import WeightedLogits
from torch import nn

class Net(VideoModel):
    def __init__(self, num_classes):
        super().__init__(4, num_classes, dropout=0.0)
        self.mix = nn.Linear(3, 4)

    def features(self, x_BCTHW):
        return self.mix(x_BCTHW.mean((3, 4)).transpose(1, 2))

def net(*, num_classes, num_frames, temporal_pooling, dropout):
    from muybridge.models import families  # a function imports when it is called
    return Net(num_classes)
"""
PRESENT = (
    NETWORK.replace("muybridge.models.contract", "muybridge.zoo.base")
    .replace("muybridge.models.anatomy", "muybridge.zoo.anatomy")
    .replace("muybridge.models", "muybridge.zoo")
)


@pytest.fixture(autouse=True)
def as_a_process_begins(monkeypatch):
    monkeypatch.setattr(former_names, "_former_noted", set())
    monkeypatch.setattr(user_code, "_allowed", set())
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    assert not any(name in FORMER_NAMES for name in sys.modules), "former names are found in user code alone"
    assert {"models", "recipes", "scores"}.isdisjoint(vars(muybridge))
    assert inspect.isfunction(muybridge.models)
    assert inspect.isfunction(muybridge.recipes)
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("formernet", "presentnet"):
            del sys.modules[name]


def test_a_run_whose_source_has_former_names_gives_the_same_scores(recipe, tmp_path, monkeypatch, capsys):
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    brief, runs = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0}), {}
    for name, text in (("formernet", NETWORK), ("presentnet", PRESENT)):
        (tmp_path / "code" / f"{name}.py").write_text(text)
        runs[name] = train(replace(brief, {"model.name": f"{name}:net"}), out=tmp_path / name, allow_code=True)
    assert capsys.readouterr().err.count("muybridge.models is called muybridge.zoo now") == 1
    assert runs["formernet"].result()["test"] == runs["presentnet"].result()["test"]
    shutil.rmtree(tmp_path / "code")
    video = Manifest.load(recipe.data.manifest).row(0).path
    former, present = (muybridge.load(run, allow_code=True)(video) for run in runs.values())
    assert former == present
    assert inspect.isfunction(muybridge.models)


FILE = """
from muybridge.recipe import replace
from muybridge.recipes import small
from muybridge.recipes.plan import Plan, data_name, run_name
from muybridge.recipes.studies import SHIPPED
from muybridge.scores import Scores
from muybridge.recipes import plan

assert plan.Plan is Plan

def mine():
    from muybridge.models import create
    return replace(small(), {"seed": 7})

def study(data):
    return Scores, Plan
"""


def test_files_with_former_names_work(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(FILE)
    assert load(f"{tmp_path / 'mine.py'}:mine") == replace(small(), {"seed": 7})
    from muybridge.storage.scores import Scores
    from muybridge.studies.plan import Plan

    assert function_in_file(f"{tmp_path / 'mine.py'}:study", "study")([]) == (Scores, Plan)
    err = " ".join(capsys.readouterr().err.split())
    for former, present in (("recipes", "recipe.shipped"), ("scores", "storage.scores"), ("models", "zoo")):
        assert err.count(f"note: muybridge.{former} is called muybridge.{present} now") == 1
    assert CliRunner().invoke(app, ["recipes", f"{tmp_path / 'mine.py'}:mine", "--json"]).exit_code == 0


def test_every_former_name_has_its_module():
    with resolve_former_names():
        for former, present in FORMER_NAMES.items():
            module = importlib.import_module(present)
            names = [name for name in vars(module) if not name.startswith("_")]
            assert getattr(importlib.import_module(former), names[0]) is getattr(module, names[0])
        from muybridge.models.temporal import shift  # below one

        assert importlib.import_module("muybridge.zoo.temporal.shift").shift is shift.shift
        with resolve_former_names(), pytest.raises(ModuleNotFoundError, match=r"muybridge\.models\.nothing"):
            importlib.import_module("muybridge.models.nothing")
        assert "muybridge.models" in sys.modules, "one block in another ends nothing"


def test_what_is_in_no_module_is_an_error_of_the_users_line(tmp_path):
    (tmp_path / "mine.py").write_text("\nfrom muybridge.models import Nothing\n")
    with pytest.raises(UserError, match=r"mine\.py, line 2: ImportError: cannot import name 'Nothing'"):
        function_in_file(f"{tmp_path / 'mine.py'}:f", "recipe")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("muybridge.models.anatomy")


def test_a_stored_network_of_former_modules_is_restored(tmp_path, monkeypatch):
    net = create("tsm_resnet_tiny", num_classes=3, num_frames=8, temporal_pooling=False, dropout=0.0)
    kinds = {type(module) for module in net.modules() if type(module).__module__.startswith("muybridge.zoo")}
    assert kinds
    with monkeypatch.context() as patched, resolve_former_names():
        for kind in kinds:
            former = {present: name for name, present in FORMER_NAMES.items()}
            name = kind.__module__
            patched.setattr(kind, "__module__", former.get(name, name.replace("zoo", "models")))
        (tmp_path / "network.pickle").write_bytes(user_network.keep(net))
    assert b"muybridge.models" in (tmp_path / "network.pickle").read_bytes()
    restored = user_network._restored(tmp_path / "network.pickle")
    assert {type(module) for module in restored.modules()} >= kinds
    restored.load_state_dict(net.state_dict())
    x = torch.from_numpy(np.random.default_rng(0).random((1, 3, 8, 32, 32), np.float32))
    assert torch.equal(restored.eval()(x), net.eval()(x))
