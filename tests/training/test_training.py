"""The loop: it learns, it says what it did, it stops and goes on."""

import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from same_bits import everything

import muybridge
from muybridge import build
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.evaluation.trained import of_run
from muybridge.recipe import Runtime, replace, to_json
from muybridge.recipe.schedule import Schedule, budget, peak_lr, resized
from muybridge.storage.run import Run
from muybridge.training import loop as training
from muybridge.training import session
from muybridge.training.job import Jobs
from muybridge.training.loop import finish, resume, train


def test_a_run_folder_is_whole(run, recipe):
    assert run.is_finished
    assert run.recipe().data.sha256 == Manifest.load(recipe.data.manifest).sha256()
    assert [line["epoch"] for line in run.metrics("train")] == [1, 2]
    assert {"epoch", "loss", "video_top1", "clip_top1"} <= run.metrics("val")[-1].keys()
    scores = run.scores("test")
    assert scores.num_views == 6
    assert sorted(scores.ids_N) == sorted(Manifest.load(recipe.data.manifest).text("id", slice(None))[
        Manifest.load(recipe.data.manifest).split("test")])  # fmt: skip
    assert run.result()["test"]["video_top1"] == scores.video_accuracy()
    assert run.cost()["params"] > 300_000
    assert set(run.trained_on()) == {"id", "group", "sha256"}
    assert len(run.timing()) == 2
    sizes = run.dataset()["class_sizes"]
    assert sizes == muybridge.describe(recipe.data.manifest).class_sizes
    assert {split: sum(counts) for split, counts in sizes.items()} == run.dataset()["split_sizes"]


def test_nothing_measured_depends_on_time(run):
    for line in map(json.loads, run.metrics_file.read_text().splitlines()):
        assert not [key for key in line if "second" in key or "per_s" in key]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_the_same_recipe_gives_the_same_bits(recipe, tmp_path, precision):
    recipe = replace(recipe, {"precision": precision})
    first, second = train(recipe, out=tmp_path / "a"), train(recipe, out=tmp_path / "b")
    assert everything(first) == everything(second)
    other = train(replace(recipe, {"seed": 1}), out=tmp_path / "c")
    assert everything(other)["metrics.jsonl"] != everything(first)["metrics.jsonl"]


def test_workers_and_cache_change_no_bit(run, recipe, tmp_path):
    for name, runtime in {"files": Runtime(cache_gib=0, num_workers=0), "workers": Runtime(num_workers=2)}.items():
        assert everything(train(recipe, out=tmp_path / name, runtime=runtime)) == everything(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"brightness": 0.4}, {"contrast": 0.4}, {"saturation": 0.4}, {"hue": 0.1}, {"rotation_degrees": 10.0},
        {"flip_probability": 0.0}, {"crop": "center"}, {"crop": "random"},
    ],
    ids=lambda changes: "-".join(changes),
)  # fmt: skip
def test_every_augmentation_reaches_the_model(run, recipe, tmp_path, changes):
    short = {"optim.epochs": 2} | {f"augment.{name}": value for name, value in changes.items()}
    other = train(replace(recipe, short), out=tmp_path / "run")
    assert other.metrics("train")[0]["loss"] != run.metrics("train")[0]["loss"]
    if changes.get("crop") == "random":
        scaled = train(replace(recipe, {**short, "augment.short_sides": [32, 40]}), out=tmp_path / "scaled")
        assert scaled.metrics("train")[0]["loss"] != other.metrics("train")[0]["loss"]


def test_another_process_finishes_a_run_that_it_is_given(recipe, run, tmp_path):
    """A job is a value: pickled here, trained there, to the same bits."""
    (tmp_path / "job").write_bytes(pickle.dumps(Jobs(Runtime()).job(recipe)))
    code = (
        "import pickle, sys\nfrom pathlib import Path\nfrom muybridge.recipe import Runtime\n"
        "from muybridge.storage.run import Run\nfrom muybridge.training.loop import finish\n"
        "job = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "print(finish(finish(Run(Path(sys.argv[2])), job, runtime=Runtime()), job, runtime=Runtime()).is_finished)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "job"), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"], "and a second call leaves it as it is"
    assert everything(Run(tmp_path / "run")) == everything(run)


@pytest.mark.parametrize("steps", [(3,), (2, 4), (1, 3, 5)])
def test_a_training_that_pauses_ends_with_the_same_bits(recipe, run, tmp_path, steps):
    """Whether in the midst of an epoch or at its end: the schedule is that of the full length."""
    paused, job = Run(tmp_path / "run"), Jobs(Runtime()).job(recipe)
    for step in steps:
        finish(paused, job, runtime=Runtime(), until_step=step)
        assert not paused.is_finished
        assert paused.saved_step() == step
        assert list(paused.pauses())[-1] == step
    kept = paused.pauses()
    assert list(kept) == list(steps)
    if 3 in kept:  # the end of the first epoch, where every training looks at val
        at_epoch = next(line for line in run.metrics("val") if line["step"] == 3)
        assert {name: kept[3][name] for name in ("video_top1", "loss")} == {
            n: at_epoch[n] for n in ("video_top1", "loss")
        }
    finish(paused, job, runtime=Runtime(), until_step=100)
    assert paused.is_finished, "it ended before"
    assert everything(paused) == everything(run)
    assert paused.pauses() == kept


def test_with_everything_on_no_bit_depends_on_workers_or_on_a_stop(recipe, tmp_path, monkeypatch):
    names = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "rotation_degrees": 10.0}
    changes = {"crop": "random", "short_sides": [32, 40], **names}
    full = replace(recipe, {f"augment.{name}": value for name, value in changes.items()})
    whole = train(full, out=tmp_path / "whole")
    assert everything(train(full, out=tmp_path / "workers", runtime=Runtime(num_workers=2))) == everything(whole)
    step, steps = training.training_step, []

    def until(*arguments, **named):
        steps.append(None)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(training, "training_step", until)
        with pytest.raises(KeyboardInterrupt):
            train(full, out=tmp_path / "stopped", runtime=Runtime(checkpoint_steps=2))
    assert (tmp_path / "stopped" / "checkpoints" / "last").read_text() == "step-00000004"
    assert everything(resume(tmp_path / "stopped")) == everything(whole)


def test_it_learns(recipe, tmp_path):
    learned = train(
        replace(recipe, {
            "optim.epochs": 25, "optim.optimizer": "adamw", "optim.lr": 3e-3, "model.dropout": 0.0,
            "augment.crop": "center", "evaluation.every_epochs": 25, "augment.flip_probability": 0.0,
        }),
        out=tmp_path / "run",
    )  # fmt: skip
    losses = [line["loss"] for line in learned.metrics("train")]
    assert losses[-1] < 0.5 * losses[0]


def test_min_steps_lengthens_a_small_set(recipe):
    longer = replace(recipe, {"optim.min_steps": 100})
    assert budget(longer, 42).epochs == 34  # 3 steps an epoch
    assert budget(longer, 42_000).epochs == 2


def test_a_run_of_a_number_of_steps_ends_there_and_says_so_first(recipe, tmp_path, capsys):
    run = train(resized(recipe, steps=5), out=tmp_path / "run")
    assert (run.result()["steps"], run.result()["ended"]) == (5, "all 5 steps")
    assert [(line["epoch"], line["step"]) for line in run.metrics("val")] == [(1, 3), (2, 5)]
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("training on 40 videos, 3 steps an epoch; 5 steps in 2 epochs, by optim.steps")


def test_the_time_to_go_is_told_once_and_where_it_is_long(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(session, "PACE_STEPS", 2)
    train(replace(recipe, {"stop.max_hours": 1}), out=tmp_path / "short")
    assert "to go" not in capsys.readouterr().err
    monkeypatch.setattr(session, "WORTH_TELLING_SECONDS", 0)
    train(recipe, out=tmp_path / "long")
    [told] = [line for line in capsys.readouterr().err.splitlines() if "to go" in line]
    assert re.fullmatch(r"about \d+ s to go: 3 steps of [\d.e-]+ s each, validation not counted", told)


def test_the_learning_rate_scales_with_the_batch_and_says_so(recipe, tmp_path, capsys):
    scaled = replace(recipe, {"optim.lr": 0.04, "optim.lr_batch_size": 64, "optim.epochs": 1, "optim.warmup_epochs": 0})
    assert peak_lr(scaled) == pytest.approx(0.01)
    done = train(scaled, out=tmp_path / "run")
    assert done.metrics("train")[0]["lr"] < 0.01
    assert "learning rate 0.01: 0.04 is meant for batches of 64" in " ".join(capsys.readouterr().err.split())
    assert peak_lr(replace(scaled, {"optim.optimizer": "adamw"})) == 0.04


@pytest.mark.parametrize(("step", "expected"), [(0, 0.01), (5, 0.505), (10, 1.0), (60, 0.5), (110, 0.0)])
def test_cosine_after_a_linear_warm_up(step, expected):
    schedule = Schedule("cosine", peak=1.0, warmup=10, warmup_lr=0.01, end=110)
    assert schedule.lr(step) == pytest.approx(expected, abs=1e-9)


def test_norms_and_biases_are_not_decayed(recipe):
    model = build.model(recipe, 10)
    decayed, exempt = build.optimizer(recipe, model).param_groups
    assert decayed["weight_decay"] == recipe.optim.weight_decay
    assert exempt["weight_decay"] == 0
    assert {p.dim() for p in exempt["params"]} == {1}
    assert sum(len(group["params"]) for group in (decayed, exempt)) == len(list(model.parameters()))


def test_best_is_chosen_on_val_and_can_be_scored(recipe, tmp_path):
    best = train(replace(recipe, {"evaluation.checkpoint": "best", "optim.epochs": 4}), out=tmp_path / "run")
    accuracies = [line["video_top1"] for line in best.metrics("val")]
    pointed = (best.checkpoints / "best").read_text()
    step = best.metrics("val")[accuracies.index(max(accuracies))]["step"]
    assert pointed == f"step-{step:08d}"
    assert best.result()["val"]["video_top1"] == max(accuracies)
    assert len([folder for folder in best.checkpoints.iterdir() if folder.is_dir()]) <= 2


def test_a_loss_that_is_no_number_stops_with_the_cause(recipe, tmp_path):
    with pytest.raises(UserError, match=r"became nan at step \d+ .*last good checkpoint is .*step-"):
        train(
            replace(
                recipe, {"optim.lr": 1e18, "optim.clip_grad_norm": None, "optim.epochs": 8, "optim.warmup_epochs": 6}
            ),
            out=tmp_path / "run",
            runtime=Runtime(checkpoint_steps=1),
        )


def test_a_checkpoint_never_holds_a_weight_that_is_no_number(recipe, tmp_path, monkeypatch):
    """The loss of the last step is finite, its update is not: the checkpoint before it stays the last good one."""
    step, calls = training.training_step, []

    def poisoned(model, *arguments, **named):
        result = step(model, *arguments, **named)
        calls.append(result)
        if len(calls) == 6:  # the last of the second epoch
            model.fc.bias.data[0] = float("nan")
        return result

    monkeypatch.setattr(training, "training_step", poisoned)
    with pytest.raises(UserError, match=r"not finite any more at step 6.*last good checkpoint is .*step-00000003"):
        train(recipe, out=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last").read_text() == "step-00000003"


def test_best_without_validation_is_refused_before_training(recipe, tmp_path):
    manifest = Manifest.load(recipe.data.manifest)
    rows = manifest.columns["split"].copy()
    rows[rows == b"val"] = b"train"
    Manifest({**manifest.columns, "split": rows}, manifest.classes, manifest.root, {}).save(tmp_path / "no-val.csv")
    changes = {"data.manifest": str(tmp_path / "no-val.csv"), "evaluation.checkpoint": "best"}
    with pytest.raises(UserError, match="'best' needs a validation split"):
        train(replace(recipe, changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_stopped_beginning_leaves_is_no_obstacle(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    for name in (".lock", "dataset.json", ".cost.json.partial"):
        (tmp_path / "run" / name).write_text("")
    assert train(replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0}), out=tmp_path / "run").is_finished


def test_a_run_can_be_continued_from_another_folder(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(os.path.dirname(recipe.data.manifest))
    run = train(
        replace(recipe, {"data.manifest": "manifest.csv", "optim.epochs": 1, "optim.warmup_epochs": 0}),
        out=tmp_path / "run",
    )
    monkeypatch.chdir(tmp_path)
    (run.path / "result.json").unlink()
    assert resume("run").is_finished


def test_weights_carry_their_preprocessing(run):
    last = run.checkpoints / (run.checkpoints / "last").read_text()
    with safetensors.safe_open(last / "model.safetensors", "pt") as file:
        about = json.loads(file.metadata()["muybridge"])["preprocessing"]
    assert about["mean"] == pytest.approx([0.485, 0.456, 0.406])


def test_a_folder_that_is_in_use_is_refused(run, recipe, tmp_path):
    with pytest.raises(UserError, match="holds a run already"):
        train(recipe, out=run.path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        train(recipe, out=tmp_path / "mine")
    with Run(tmp_path / "locked").lock(), pytest.raises(UserError, match="in use"), Run(tmp_path / "locked").lock():
        pass


def test_a_changed_manifest_is_not_resumed(recipe, tmp_path):
    run = train(recipe, out=tmp_path / "run")
    (run.path / "result.json").unlink()
    copy = Manifest.load(recipe.data.manifest)
    rows = copy.columns["split"].copy()
    rows[rows == b"val"] = b"test"
    Manifest({**copy.columns, "split": rows}, copy.classes, copy.root, copy.mirror).save(tmp_path / "changed.csv")
    text = (run.path / "recipe.json").read_text().replace(recipe.data.manifest, str(tmp_path / "changed.csv"))
    (run.path / "recipe.json").write_text(text)
    with pytest.raises(UserError, match="the manifest was changed"):
        resume(run.path)


def test_a_finished_run_is_returned_as_it_is(run):
    before = everything(run)
    assert resume(run.path).path == run.path
    assert everything(run) == before


def test_a_run_that_need_not_repeat_says_so(recipe, tmp_path, capsys):
    loose = Runtime(deterministic=False)
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0.0, "evaluation.score_test": False})
    run = train(short, out=tmp_path / "run", runtime=loose)
    assert capsys.readouterr().err.count("runtime.deterministic is false: ") == 1
    assert run.environment()["deterministic"] is False

    (run.path / "result.json").unlink()
    resume(run.path)
    said = capsys.readouterr().err
    assert "warning:" not in said
    assert "runtime.deterministic is false: " in said

    (run.path / "result.json").unlink()
    resume(run.path, runtime=Runtime())
    said = capsys.readouterr().err
    assert "warning: deterministic was False, is True: " in said
    assert "runtime.deterministic is false" not in said


def test_a_run_of_before_there_was_a_choice_is_resumed_without_a_warning(recipe, tmp_path, capsys):
    short = replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0.0, "evaluation.score_test": False})
    run = train(short, out=tmp_path / "run")
    about = run.environment()
    assert about.pop("deterministic") is True
    (run.path / "environment.json").write_text(json.dumps(about))
    (run.path / "result.json").unlink()
    capsys.readouterr()
    resume(run.path)
    assert "warning" not in capsys.readouterr().err
    (run.path / "result.json").unlink()
    resume(run.path, runtime=Runtime(deterministic=False))
    assert "warning: deterministic was True, is False: " in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_an_error(run):
    from muybridge.storage import checkpoints as checkpoint

    other = build.model(replace(run.recipe(), {"model.name": "i3d_resnet_tiny"}), 10)
    with pytest.raises(UserError, match=r"does not fit the model: \d+ tensors differ"):
        checkpoint.load_model(run.checkpoints, other)


def start(recipe_file, out):
    command = [
        sys.executable,
        "-m",
        "muybridge",
        "train",
        str(recipe_file),
        "--out",
        str(out),
        "--set",
        "runtime.threads=1",
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def long_recipe(recipe, tmp_path):
    long = replace(recipe, {"optim.epochs": 8})
    (tmp_path / "long.json").write_text(to_json(long))
    return long, tmp_path / "long.json"


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert path.exists(), process.communicate()[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_saves_and_resume_ends_alike(long_recipe, tmp_path, number):
    long, file = long_recipe
    whole = train(long, out=tmp_path / "whole")
    process = start(file, tmp_path / "stopped")
    wait_for(tmp_path / "stopped" / "checkpoints" / "last", process)
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    stopped = Run(tmp_path / "stopped")
    assert not stopped.is_finished
    assert everything(resume(stopped.path)) == everything(whole)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 10])
def test_kills_at_random_moments_change_no_bit(recipe, tmp_path, kills):
    """Every kill hits a process that is at work: starting, decoding, training, validating or saving."""
    long = replace(recipe, {"optim.epochs": 60 + 12 * kills})
    (tmp_path / "long.json").write_text(to_json(long))
    whole = train(long, out=tmp_path / "whole")
    draw = random.Random(kills)
    out = tmp_path / "killed"
    resumed = [sys.executable, "-m", "muybridge", "train", "--resume", str(out)]
    process, reached = start(tmp_path / "long.json", out), []
    wait_for(out / "recipe.json", process)
    for _ in range(kills):
        time.sleep(draw.uniform(0.5, 4.0))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it had ended before"
        pointer = out / "checkpoints" / "last"
        reached.append(pointer.read_text() if pointer.exists() else "")
        process = subprocess.Popen(resumed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.kill()
    process.communicate()
    assert reached[-1] > ""
    assert everything(resume(out, runtime=Runtime(threads=1))) == everything(whole)


@pytest.mark.parametrize("which", [pytest.param("every", marks=pytest.mark.slow), "last"])
def test_a_kill_at_a_file_operation_of_a_checkpoint_changes_no_bit(recipe, tmp_path, which):
    """In a process of its own, which forks a child for every operation, kills it there, and resumes."""
    quick = replace(recipe, {"evaluation.num_clips": 1, "evaluation.num_crops": 1})
    (tmp_path / "recipe.json").write_text(to_json(quick))
    driver = str(Path(__file__).parents[1] / "kill_driver.py")
    command = [sys.executable, driver, str(tmp_path / "recipe.json"), str(tmp_path / "runs"), which]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert len(report["kinds"]) >= 20
    assert {"write", "fsync", "rename", "replace"} <= {report["kinds"][number] for number in report["killed_at"]}
    assert len(report["killed_at"]) == len(report["kinds"]) or which == "last"
    assert report["different"] == []


def test_optimizer_state_is_stored_by_name(run):
    last = run.checkpoints / (run.checkpoints / "last").read_text()
    names = set(safetensors.torch.load_file(last / "optimizer.safetensors"))
    model = of_run(run).load("last")
    assert names == {f"{name}/momentum_buffer" for name, _ in model.named_parameters()}
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_moved_set_is_named_anew(recipe, tmp_path):
    import shutil

    shutil.copytree(os.path.dirname(recipe.data.manifest), tmp_path / "here")
    short = {"data.manifest": str(tmp_path / "here" / "manifest.csv"), "optim.epochs": 1, "optim.warmup_epochs": 0}
    run = train(replace(recipe, short), out=tmp_path / "run")
    (run.path / "result.json").unlink()
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UserError, match=r"not there any more\. Say where it is"):
        resume(run)
    assert resume(run, data=tmp_path / "there" / "manifest.csv").is_finished
    assert muybridge.evaluate(run).num_views == 6


def test_a_run_without_a_checkpoint_gives_way(recipe, tmp_path):
    with pytest.raises(UserError, match="became"):
        train(replace(recipe, {"optim.lr": 1e18, "optim.clip_grad_norm": None}), out=tmp_path / "run")
    assert train(replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0}), out=tmp_path / "run").is_finished
