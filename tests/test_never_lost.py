"""No work is lost: what stops a run says why and where it can go on, and then it ends as if nothing had been."""

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from same_bits import everything
from torch.optim.swa_utils import AveragedModel
from typer.testing import CliRunner

import muybridge
from muybridge import build
from muybridge.cli.app import app
from muybridge.data.inputs import RGB
from muybridge.data.manifest import Manifest
from muybridge.errors import Diverged, Interrupted, UserError
from muybridge.evaluation import evaluate as evaluation
from muybridge.recipe import Runtime, replace
from muybridge.storage import checkpoints as checkpoint
from muybridge.storage.run import Run
from muybridge.storage.scores import metrics
from muybridge.training import loop as training
from muybridge.training import session
from muybridge.training.loop import resume, train
from muybridge.training.step import training_step
from muybridge.video import DecodeError


@pytest.fixture(scope="session")
def short(recipe):
    """Four epochs of three steps, one view a video; validated, and saved, every second epoch."""
    return replace(recipe, {
        "optim.epochs": 4, "evaluation.num_clips": 1, "evaluation.num_crops": 1, "evaluation.every_epochs": 2,
    })  # fmt: skip


@pytest.fixture(scope="session")
def whole(short, tmp_path_factory):
    """The undisturbed run."""
    return train(short, out=tmp_path_factory.mktemp("whole") / "run")


def before_step(monkeypatch, number, act):
    """Do something before step `number`, from 1."""
    calls = []

    def step(*arguments, **named):
        calls.append(None)
        if len(calls) == number:
            act()
        return training_step(*arguments, **named)

    monkeypatch.setattr(training, "training_step", step)


def ctrl_c_twice():
    raise KeyboardInterrupt


def stopped_at(step, recipe, out, monkeypatch, *, checkpoint_steps):
    with monkeypatch.context() as patched:
        before_step(patched, step + 1, ctrl_c_twice)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=out, runtime=Runtime(checkpoint_steps=checkpoint_steps))
    return Run(out)


def kept(run):
    return sorted(path.name for path in run.checkpoints.iterdir() if path.is_dir())


# --- a full disk


def resumed_with_little_room(run, file_bytes):
    """`muybridge train --resume` where no file can be longer than so many bytes: its exit code, and what it says."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        done = CliRunner().invoke(app, ["train", "--resume", str(run.path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return done.exit_code, " ".join(done.stderr.split())


def resumed_as_a_process_with_little_room(run, file_bytes):
    """The same as a whole process."""
    done = subprocess.run(
        [sys.executable, "-m", "muybridge", "train", "--resume", str(run.path), "--set", "runtime.threads=1"],
        capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
    )  # fmt: skip
    return done.returncode, " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("resumed", "file_bytes", "file"),
    [
        (resumed_with_little_room, 1_000_000, "model.safetensors"),
        pytest.param(resumed_as_a_process_with_little_room, 1_000_000, "model.safetensors", marks=pytest.mark.slow),
        pytest.param(resumed_as_a_process_with_little_room, 500, "recipe.json", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_stops_with_the_cause_and_nothing_is_lost(
    short, whole, tmp_path, monkeypatch, resumed, file_bytes, file
):
    run = stopped_at(5, short, tmp_path / "run", monkeypatch, checkpoint_steps=4)
    assert kept(run) == ["step-00000004"]
    code, said = resumed(run, file_bytes)
    assert code == 2, said
    assert "Traceback" not in said
    assert file in said
    assert "File too large" in said
    if file == "model.safetensors":
        assert f"The last good checkpoint is {run.checkpoints / 'step-00000004'}" in said
        assert f"--resume {run.path}" in said
    assert kept(run) == ["step-00000004"], "no part of a checkpoint stays, it would fill the disk further"
    assert everything(resume(run)) == everything(whole)


# --- a video that vanishes


def copied(recipe, folder):
    """The recipe on a copy of its set, whose files may be deleted."""
    shutil.copytree(Path(recipe.data.manifest).parent, folder)
    return replace(recipe, {"data.manifest": str(folder / Path(recipe.data.manifest).name)})


@pytest.fixture
def vanishing(short, tmp_path):
    """A recipe on files of its own, and two functions: all but those of some splits go away, and come back."""
    recipe = copied(short, tmp_path / "set")
    manifest = Manifest.load(recipe.data.manifest)

    def move(splits, *, back=False):
        for split in splits:
            for row in manifest.split(split):
                here = Path(manifest.row(int(row)).path)
                there = here.with_name(here.name + ".away")
                there.rename(here) if back else here.rename(there)

    return recipe, move


@pytest.mark.parametrize(
    ("num_workers", "splits", "steps", "trained"),
    [(0, ["train"], 5, 5), (0, ["val"], 3, 6), pytest.param(2, ["val"], 3, 6, marks=pytest.mark.slow)],
    ids=["while training", "while validating", "in a worker"],
)
def test_a_video_that_vanishes_stops_the_run_and_what_was_trained_is_saved(
    vanishing, whole, tmp_path, monkeypatch, num_workers, splits, steps, trained
):
    recipe, move = vanishing
    with monkeypatch.context() as patched:
        before_step(patched, steps, lambda: move(splits))
        with pytest.raises(DecodeError) as raised:
            train(recipe, out=tmp_path / "run", runtime=Runtime(cache_gib=0, num_workers=num_workers))
    said, run = str(raised.value), Run(tmp_path / "run")
    assert said.startswith(str(tmp_path / "set"))
    assert "No such file" in said
    assert kept(run) == [f"step-{trained:08d}"]
    assert f"last good checkpoint is {run.checkpoints / kept(run)[0]}" in said
    with pytest.raises(DecodeError, match="last good checkpoint is"):  # it is away still
        resume(run)
    move(splits, back=True)
    assert everything(resume(run)) == everything(whole)
    assert [line["epoch"] for line in run.timing()] == [1, 2, 3, 4]


@pytest.mark.parametrize("moment", ["training", "validating"])
@pytest.mark.parametrize("last", [False, True], ids=["an epoch", "the last epoch"])
def test_a_signal_does_not_wait_for_validation(short, whole, tmp_path, monkeypatch, moment, last):
    """Where systems give seconds to end, validation may take hours."""
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patched:
        if moment == "training":
            before_step(patched, 12 if last else 6, lambda: os.kill(os.getpid(), signal.SIGTERM))
            patched.setattr(
                session, "metrics", lambda scores: pytest.fail("validated") if not last else metrics(scores)
            )
        else:
            forward, calls = RGB.to_model, []

            def at_work(*arguments, **named):
                calls.append(None)
                if len(run.metrics("train")) == (4 if last else 2):
                    os.kill(os.getpid(), signal.SIGTERM)
                return forward(*arguments, **named)

            patched.setattr(RGB, "to_model", at_work)
        with pytest.raises(Interrupted, match=f"Stopped at step {12 if last else 6} of 12; saved"):
            train(short, out=run.path)
    state = checkpoint.load_state(run.checkpoints)
    assert state.step == (12 if last else 6)
    assert state.unvalidated
    assert [line["epoch"] for line in run.metrics("val")] == ([2] if last else [])
    assert everything(resume(run)) == everything(whole)
    assert run.result() == whole.result()


# --- going on from another checkpoint


def scripted(monkeypatch, accuracies):
    """Validation accuracies by the epoch; the real ones are forgotten."""
    real, values = session.metrics, iter(accuracies)
    monkeypatch.setattr(session, "metrics", lambda scores: real(scores) | {"video_top1": next(values)})


def test_a_run_goes_on_from_its_best_checkpoint(recipe, tmp_path, monkeypatch):
    recipe = replace(recipe, {"optim.epochs": 4, "evaluation.num_clips": 1, "evaluation.num_crops": 1,
                              "optim.ema_decay": 0.5, "evaluation.score_test": False})  # fmt: skip
    accuracies = [0.1, 0.5, 0.2, 0.3]
    with monkeypatch.context() as patched:
        scripted(patched, [*accuracies, 0.3])
        whole = train(recipe, out=tmp_path / "whole")
    with monkeypatch.context() as patched:
        scripted(patched, accuracies)
        run = stopped_at(11, recipe, tmp_path / "run", patched, checkpoint_steps=1)
    assert kept(run) == ["step-00000006", "step-00000011"]
    with monkeypatch.context() as patched:
        scripted(patched, [*accuracies[2:], 0.3])
        seen = []
        before_step(patched, 1, lambda: seen.append([line["epoch"] for line in run.metrics("val")]))
        resume(run, checkpoint="best")
    assert seen == [[1, 2]]
    assert everything(run) == everything(whole)
    assert kept(run) == kept(whole)


@pytest.fixture(scope="session")
def stopped_after_11(short, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        run = stopped_at(11, short, tmp_path_factory.mktemp("stopped") / "run", patched, checkpoint_steps=1)
    assert kept(run) == ["step-00000006", "step-00000011"]
    return run


@pytest.fixture
def two_checkpoints(stopped_after_11, tmp_path):
    """A run that was stopped after step 11, whose best checkpoint is of step 6."""
    shutil.copytree(stopped_after_11.path, tmp_path / "run")
    return Run(tmp_path / "run")


def test_a_checkpoint_that_is_not_there_is_an_error_that_lists_what_is(two_checkpoints):
    for name in ("step-00000007", "bset"):
        with pytest.raises(UserError, match=rf"no checkpoint '{name}'.*step-00000011, step-00000006"):
            resume(two_checkpoints, checkpoint=name)
    assert checkpoint.load_state(two_checkpoints.checkpoints).step == 11


def test_the_command_goes_on_from_a_checkpoint_by_name(two_checkpoints, whole):

    words = ["train", "--resume", str(two_checkpoints.path), "--checkpoint"]
    wrong = CliRunner().invoke(app, [*words, "first"])
    assert wrong.exit_code == 2
    assert not two_checkpoints.is_finished
    done = CliRunner().invoke(app, [*words, "step-00000006"])
    assert done.exit_code == 0, done.output
    assert everything(two_checkpoints) == everything(whole)


# --- damaged checkpoints


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    "name", ["model.safetensors", pytest.param("optimizer.safetensors", marks=pytest.mark.slow), "state.json"]
)
@pytest.mark.parametrize("damage", [cut, Path.unlink], ids=["cut", "lost"])
def test_a_damaged_checkpoint_is_named_and_so_is_a_whole_one(two_checkpoints, whole, name, damage):
    damage(two_checkpoints.checkpoints / "step-00000011" / name)
    with pytest.raises(UserError, match=rf"step-00000011/{name}: .*step-00000006.*--checkpoint step-00000006"):
        resume(two_checkpoints)
    with pytest.raises(UserError, match=rf"step-00000011/{name}: "):
        resume(two_checkpoints, checkpoint="step-00000011")
    if damage is cut:
        assert everything(resume(two_checkpoints, checkpoint="best")) == everything(whole)


def test_where_none_is_whole_that_is_said(two_checkpoints):
    for name in kept(two_checkpoints):
        cut(two_checkpoints.checkpoints / name / "model.safetensors")
    with pytest.raises(UserError, match="No complete checkpoint is left"):
        resume(two_checkpoints)


def test_weights_that_training_goes_on_with_are_not_replaced_by_their_mean(short, tmp_path, monkeypatch):
    averaged = replace(short, {"optim.ema_decay": 0.9})
    run = stopped_at(8, averaged, tmp_path / "run", monkeypatch, checkpoint_steps=1)
    (checkpoint.directory(run.checkpoints) / "trained.safetensors").unlink()
    with pytest.raises(UserError, match=r"trained\.safetensors: it cannot be read.*step-00000006"):
        resume(run)


class Trap:
    """What a pickle may do to who loads it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_loading_a_checkpoint_runs_no_code(two_checkpoints, tmp_path):
    trap, mark = pickle.dumps(Trap(tmp_path / "sprung")), tmp_path / "sprung"
    pickle.loads(trap)
    assert mark.exists()
    mark.unlink()
    last = checkpoint.directory(two_checkpoints.checkpoints)
    for name in ("model.pt", "model.pkl", "optimizer.pt", "state.pkl", "data.pkl"):
        (last / name).write_bytes(trap)
    stored = {name: (last / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors", "state.json")}
    for name, content in stored.items():
        (last / name).write_bytes(trap)
        with pytest.raises(UserError, match=name):
            resume(two_checkpoints)
        (last / name).write_bytes(content)
    assert resume(two_checkpoints).is_finished
    assert not mark.exists()


# --- the last moments


@pytest.mark.parametrize("moment", ["the last save", "scoring the test split"])
def test_a_signal_after_the_last_step_is_heard(short, whole, tmp_path, monkeypatch, moment):
    """Scoring a large test split may take hours: the run stops, and scores when it is resumed."""
    scored, save, saves = [], checkpoint.save, []

    def watched(model, views, rows, **named):
        scored.append(len(rows))
        if moment == "scoring the test split" and len(scored) == 3:  # two validations came before
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluation.score(model, views, rows, **named)

    def saving(*arguments, **named):
        save(*arguments, **named)
        saves.append(None)
        if moment == "the last save" and len(saves) == 4:  # of the last step, validated
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(session, "score", watched)
        patched.setattr(checkpoint, "save", saving)
        with pytest.raises(Interrupted, match=r"Stopped at step 12 of 12; saved. Continue"):
            train(short, out=tmp_path / "run")
    assert len(scored) == (3 if moment == "scoring the test split" else 2)
    assert everything(resume(tmp_path / "run")) == everything(whole)


def test_a_signal_before_the_first_step_ends_in_words(short, tmp_path, monkeypatch):
    def asked(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not stopped")

    monkeypatch.setattr(training, "describe", asked)
    with pytest.raises(Interrupted, match="Stopped before anything was trained"):
        train(short, out=tmp_path / "run")


def test_a_kill_in_validation_costs_no_training(short, whole, tmp_path, monkeypatch):
    """What is trained is saved before it is validated."""

    def killed(*arguments, **named):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(session, "score", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(short, out=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last").read_text() == "step-00000006"
    assert everything(resume(tmp_path / "run")) == everything(whole)


# --- numbers that are none


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_statistics_that_are_no_numbers_are_never_saved(short, tmp_path, monkeypatch, value):
    steps = []

    def step(model, *arguments, **named):
        done = training_step(model, *arguments, **named)
        if len(steps) == 7:
            next(buffer for name, buffer in model.named_buffers() if name.endswith("running_var"))[0] = value
        steps.append(None)
        return done

    monkeypatch.setattr(training, "training_step", step)
    with pytest.raises(Diverged, match=r"not finite any more at step 12.*step-00000006"):
        train(short, out=tmp_path / "run")
    assert kept(Run(tmp_path / "run")) == ["step-00000006"]


def test_a_validation_loss_that_is_no_number_stops_the_run(short, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "metrics", lambda scores: metrics(scores) | {"loss": float("nan")})
    with pytest.raises(Diverged, match=r"validation loss: it became nan at step 6"):
        train(short, out=tmp_path / "run")
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_a_finished_run_has_no_other_checkpoint_to_go_on_from(whole):
    with pytest.raises(UserError, match=r"it is finished, and there is nothing to continue.*--init .*checkpoints/best"):
        resume(whole.path, checkpoint="best")
    with pytest.raises(UserError, match=r"holds no checkpoint 'foo'"):
        resume(whole.path, checkpoint="foo")


def test_averaged_weights_that_are_no_numbers_are_never_saved(short, tmp_path, monkeypatch):
    update = AveragedModel.update_parameters

    def spoilt(average, model):
        update(average, model)
        average.module.fc.weight.data[0, 0] = float("inf")

    monkeypatch.setattr(AveragedModel, "update_parameters", spoilt)
    with pytest.raises(Diverged, match=r"not finite any more at step 6"):
        train(replace(short, {"optim.ema_decay": 0.9}), out=tmp_path / "run")


def test_a_video_that_vanished_before_a_run_goes_on_names_the_checkpoint(vanishing, tmp_path, monkeypatch):
    """Also where the set is decoded into memory before the first step."""
    recipe, move = vanishing
    run = stopped_at(7, recipe, tmp_path / "run", monkeypatch, checkpoint_steps=2)
    move(["train"])
    build.clips._ram_cache.cache_clear()
    with pytest.raises(DecodeError, match=r"No such file.*last good checkpoint is .*step-00000006"):
        resume(run)


def test_the_best_checkpoint_is_what_is_scored(recipe, tmp_path, monkeypatch):
    """Not the last, whose validation was the last that was done."""
    with monkeypatch.context() as patched:
        scripted(patched, [0.9, 0.1, 0.5, 0.5])
        run = train(replace(recipe, {"evaluation.checkpoint": "best"}), out=tmp_path / "run")
    assert (run.checkpoints / "best").read_text() == "step-00000003"
    best, last = (muybridge.evaluate(run, split="val", checkpoint=which) for which in ("best", "last"))
    assert not np.allclose(best.logits_VK, last.logits_VK)
    assert np.allclose(run.scores("val").logits_VK, best.logits_VK, atol=1e-5)
    assert np.allclose(run.scores("test").logits_VK, muybridge.evaluate(run, checkpoint="best").logits_VK, atol=1e-5)
