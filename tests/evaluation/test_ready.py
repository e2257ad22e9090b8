"""A network that is made ready to answer gives the scores of the trained one to 1e-4, and tells what computes them."""

import json
import shutil
import time

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import muybridge
from muybridge import build
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.evaluation import ready
from muybridge.evaluation.ready import Work, made_ready
from muybridge.evaluation.trained import of_run
from muybridge.inference.answering import TrainedNetwork
from muybridge.recipe import Runtime, replace
from muybridge.storage import evaluations
from muybridge.storage.run import Run
from muybridge.storage.scores import Scores

PLAIN = Runtime(inference="plain")


@pytest.fixture(scope="module")
def video(made_set):
    return Manifest.load(made_set).row(0).path


def test_plain_is_what_training_scored_to_the_bit_and_auto_is_it_to_1e_4(run):
    stored = run.scores("test")
    plain = muybridge.evaluate(run, runtime=PLAIN)
    auto = muybridge.evaluate(run)
    assert np.array_equal(plain.logits_VK, stored.logits_VK)
    assert not np.array_equal(auto.logits_VK, stored.logits_VK)  # so that what follows compares two ways
    assert np.abs(auto.logits_VK - stored.logits_VK).max() < 1e-4
    assert np.abs(auto.video_probabilities() - stored.video_probabilities()).max() < 1e-4
    threads = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    assert (plain.answered_by, auto.answered_by) == (
        f"cpu, fp32, {threads}, as trained", f"cpu, fp32, {threads}, 12 norms folded"
    )  # fmt: skip


def test_what_answered_is_told_everywhere(run, video, tmp_path):
    def call(*words):
        result = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert result.exit_code == 0, result.stderr
        assert result.stderr.count("12 norms folded") == 1
        return json.loads(result.stdout)

    told = call("predict", run.path, video)["answered_by"]
    assert told.endswith("12 norms folded")
    with run.predictor() as predictor:
        assert predictor.answered_by == told
    shutil.copytree(run.path, tmp_path / "run")
    own = Run(tmp_path / "run")
    assert call("evaluate", own.path, "--keep", "--set", "evaluation.num_clips=1")["answered_by"] == told
    assert call("events", run.path, video, "--out", tmp_path / "events.json")["answered_by"] == told
    assert json.loads((tmp_path / "events.json").read_text())["answered_by"] == told
    assert call("diagnose", own.path)["answered_by"] == told
    assert json.loads((own.path / "diagnosis" / "diagnosis.json").read_text())["answered_by"] == told
    assert own.diagnosed_scores("reversed").answered_by == told
    call("evaluate", own.path, "--out", tmp_path / "scores.npz")
    assert Scores.load(tmp_path / "scores.npz").answered_by == told
    stored = CliRunner().invoke(app, ["evaluate", str(tmp_path / "scores.npz"), "--json"])  # without any network
    assert json.loads(stored.stdout)["answered_by"] == told
    assert own.scores("test").answered_by == ""  # training's, by the network as it is
    (name,) = evaluations.names(own)
    assert json.loads((own.path / "evaluations" / name / "evaluation.json").read_text())["answered_by"] == told


def test_a_folded_network_has_the_name_of_the_trained_one(run):
    auto, plain = TrainedNetwork(run), TrainedNetwork(run, runtime=PLAIN)
    assert auto.sha256 == plain.sha256
    assert sum(isinstance(module, nn.Identity) for module in auto.model.modules()) == 12
    assert TrainedNetwork(run, changes={"precision": "bf16"}).sha256 != plain.sha256


def test_another_precision_is_only_used_when_asked_for_and_told(run, video):
    scores = muybridge.evaluate(run)
    rounded = muybridge.evaluate(run, changes={"precision": "bf16"})
    assert "bf16" in rounded.answered_by
    assert "bf16" not in scores.answered_by
    difference = np.abs(rounded.video_probabilities() - scores.video_probabilities()).max()
    assert 1e-5 < difference < 0.05  # 8 bits of mantissa
    predictions, _ = muybridge.predict(run, [video], changes={"precision": "bf16"})
    assert "bf16" in predictions.answered_by
    with pytest.raises(UserError, match=r"'clip\.size' cannot be set.*Set precision or runtime\.FIELD alone"):
        muybridge.predict(run, [video], changes={"clip.size": 48})


def test_a_run_in_bf16_keeps_its_bits(run):
    changes = {"precision": "bf16"}
    auto, plain = (muybridge.evaluate(run, changes=changes, runtime=each) for each in (Runtime(), PLAIN))
    assert "rounded beforehand" in auto.answered_by
    assert np.array_equal(auto.logits_VK, plain.logits_VK)


@pytest.fixture
def answering(run):
    recipe = run.recipe()
    model = of_run(run).load("last")
    return model, recipe, build.placement(recipe, Runtime())


def slower(model, ready):
    forward = model.forward
    model.forward = lambda x: (time.sleep(0.05), forward(x))[1]
    return lambda: delattr(model, "forward")


def faster(model, ready):
    forward, kept = model.forward, {}
    model.forward = lambda x: kept[len(x)] if len(x) in kept else kept.setdefault(len(x), forward(x))
    return lambda: delattr(model, "forward")


@pytest.mark.parametrize(("compiled", "num_clips", "long_seconds", "told"), [
    (faster, 10**6, 0.001, True), (faster, 10**6, 10**9, False), (faster, ready.MANY_CLIPS - 1, 0.001, False),
    (faster, None, 0.001, False), (slower, 10**6, 0.001, False),
])  # fmt: skip
def test_a_long_evaluation_is_compiled_where_a_trial_shows_that_it_pays(
    answering, monkeypatch, compiled, num_clips, long_seconds, told
):
    monkeypatch.setattr(ready, "_has_compiler", lambda where: True)
    monkeypatch.setattr(ready, "_compile", compiled)
    monkeypatch.setattr(ready, "LONG_SECONDS", long_seconds)
    assert ("compiled (" in str(made_ready(*answering, Runtime(), Work((3, 1), num_clips)))) is told
    assert ("forward" in vars(answering[0])) is told


def test_the_trial_has_the_batches_of_the_work(answering, monkeypatch):
    """A network that gains with batches alone is compiled for batches alone."""

    def of_batches(model, ready):
        forward = model.forward
        model.forward = lambda x: x.new_zeros(len(x), 5) if len(x) > 1 else (time.sleep(0.05), forward(x))[1]
        return lambda: delattr(model, "forward")

    monkeypatch.setattr(ready, "_has_compiler", lambda where: True)
    monkeypatch.setattr(ready, "_compile", of_batches)
    monkeypatch.setattr(ready, "LONG_SECONDS", 0.0)
    assert "compiled (" not in str(made_ready(*answering, Runtime(), Work((1,), 10**6)))
    assert "compiled (" in str(made_ready(*answering, Runtime(), Work((16, 4), 10**6)))


@pytest.mark.parametrize("views", [(1, 1), (2, 1), (3, 1)])
def test_the_trial_has_the_shapes_that_scoring_asks(run, monkeypatch, views):
    shapes = []

    def compile(model):
        model._compiled_call_impl = lambda x: (shapes.append(tuple(x.shape)), model._call_impl(x))[1]

    def marked(*args):
        made = made_ready(*args)
        shapes.append("ready")
        return made

    monkeypatch.setattr(nn.Module, "compile", compile)
    monkeypatch.setattr("muybridge.evaluation.evaluate.made_ready", marked)
    changes = dict(zip(("evaluation.num_clips", "evaluation.num_crops"), views, strict=True))
    scores = muybridge.evaluate(run, split="train", changes=changes, runtime=Runtime(compile=True))
    asked = shapes[shapes.index("ready") + 1 :]
    assert sum(shape[0] for shape in asked) == len(scores.logits_VK)
    assert set(shapes[: shapes.index("ready")]) == set(asked)
    assert shapes[0] == max(asked, key=asked.count)


def test_the_trial_asks_single_frames_of_a_network_that_looks_at_them(run, monkeypatch):
    shapes, recipe = [], replace(run.recipe(), {"model.name": "tsn_resnet_tiny"})
    monkeypatch.setattr(torch, "compile", lambda features: lambda x: (shapes.append(tuple(x.shape)), features(x))[1])
    model = build.model(recipe, 5, pretrained=False)
    made_ready(model, recipe, build.placement(recipe, Runtime()), Runtime(compile=True), Work((3, 2)))
    assert shapes == [(12, 3, 1, 32, 32), (8, 3, 1, 32, 32)]


@pytest.mark.parametrize("fails_at", ["trial", "evaluation"])
def test_a_compiled_network_that_fails_goes_on_without(run, monkeypatch, capsys, fails_at):
    """With one line, and the same scores."""
    expected = muybridge.evaluate(run)
    assert "not compiled" not in capsys.readouterr().err
    calls = []

    def compile(model):
        def compiled(x):
            calls.append(len(x))
            if fails_at == "trial" or len(calls) > 2:
                raise RuntimeError("no kernel for this shape\nand more")
            return model._call_impl(x)

        model._compiled_call_impl = compiled

    monkeypatch.setattr(nn.Module, "compile", compile)
    scores = muybridge.evaluate(run, runtime=Runtime(compile=True))
    assert len(calls) == (1 if fails_at == "trial" else 3)  # not asked again
    assert np.array_equal(scores.logits_VK, expected.logits_VK)
    assert scores.answered_by == expected.answered_by
    lines = [line for line in capsys.readouterr().err.splitlines() if "not compiled" in line]
    assert lines == ["not compiled, as torch cannot do it here (no kernel for this shape); the network answers without"]


def test_a_network_of_frames_that_fails_goes_on_without(run, monkeypatch):
    recipe = replace(run.recipe(), {"model.name": "tsn_resnet_tiny"})
    model = build.model(recipe, 5, pretrained=False).eval()
    x = torch.randn(3, 3, 1, 32, 32)

    def compile(features):
        return lambda x: features(x) if len(x) == 4 else (_ for _ in ()).throw(ValueError("another shape"))

    monkeypatch.setattr(torch, "compile", compile)
    made = made_ready(model, recipe, build.placement(recipe, Runtime()), Runtime(compile=True))
    assert str(made).endswith("compiled")
    answer = model.features(x)
    assert not str(made).endswith("compiled")
    assert "features" not in vars(model)
    assert torch.equal(answer, model.features(x))


def test_what_is_wrong_with_the_input_is_no_fault_of_compiling(answering, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda model: setattr(model, "_compiled_call_impl", model._call_impl))
    made = made_ready(*answering, Runtime(compile=True))
    with pytest.raises(UserError):
        answering[0](torch.zeros(1, 3, 4, 1, 1))
    assert str(made).endswith("compiled")


def test_torch_that_cannot_begin_to_compile(answering, monkeypatch, capsys):
    def compile(model):
        raise PermissionError("no place for its cache")

    monkeypatch.setattr(nn.Module, "compile", compile)
    assert "compiled" not in str(made_ready(*answering, Runtime(compile=True)))
    assert capsys.readouterr().err.count("not compiled") == 1


def test_no_compiler_no_trial(answering, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "none_such")
    monkeypatch.setattr(ready, "_compile", None)
    monkeypatch.setattr(ready, "LONG_SECONDS", 0.0)
    assert "compiled" not in str(made_ready(*answering, Runtime(), Work((1,), 10**6)))


def test_what_cannot_be_compiled_answers_without(answering, monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(nn.Module, "compile", lambda model: setattr(model, "_compiled_call_impl", broken))
    model, recipe, where = answering
    assert "compiled" not in str(made_ready(model, recipe, where, Runtime(compile=True)))
    lines = [line for line in capsys.readouterr().err.splitlines() if "not compiled" in line]
    assert lines == ["not compiled, as torch cannot do it here (no compiler here); the network answers without"]
    assert model(model.zeros(4, 32)).isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it loads its compiler
@pytest.mark.parametrize("name", ["tsm_resnet_tiny", "tsn_resnet_tiny", "i3d_resnet_tiny"])
def test_compiled_networks_give_the_same_scores(run, name):
    """`tsn` is asked for the features of frames, the others for the answers of clips."""
    recipe = replace(run.recipe(), {"model.name": name})
    torch.manual_seed(0)
    model = build.model(recipe, 5, pretrained=False).eval()
    x = torch.randn(3, 3, 4, 32, 32)
    with torch.inference_mode():
        expected = model(x)
        made = made_ready(model, recipe, build.placement(recipe, Runtime()), Runtime(compile=True))
        assert str(made).endswith("compiled")
        assert (model.head(model.features(x)) - expected).abs().max() < 1e-4
        assert (model(x) - expected).abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it loads its compiler
def test_a_compiled_evaluation_gives_the_same_scores(run):
    compiled = muybridge.evaluate(run, runtime=Runtime(compile=True))
    assert compiled.answered_by.endswith("compiled")
    assert np.abs(compiled.logits_VK - run.scores("test").logits_VK).max() < 1e-4
