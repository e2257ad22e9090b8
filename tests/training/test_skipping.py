"""Videos that cannot be read: a run stops at the first, or goes on without them and says so; and what a run starts, ends."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from making import write_video
from processes import worker_processes
from same_bits import everything
from typer.testing import CliRunner

import muybridge
from muybridge import build
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.views import Batch
from muybridge.errors import Interrupted, UserError
from muybridge.recipe import Runtime, replace
from muybridge.storage.scores import Scores
from muybridge.training import loop as training
from muybridge.training import session
from muybridge.training.loop import resume, train
from muybridge.video import DecodeError, FileReader, frames

RUNTIMES = {"cache": Runtime(), "files": Runtime(cache_gib=0, num_workers=0), "workers": Runtime(num_workers=2)}


@pytest.fixture(scope="module")
def broken(made_set, tmp_path_factory):
    """The made set with files that went bad after it was prepared: what happened to which id."""
    folder = tmp_path_factory.mktemp("broken") / "set"
    shutil.copytree(made_set.parent, folder)
    manifest = Manifest.load(folder / "manifest.csv")
    ids = {split: manifest.text("id", manifest.split(split)).tolist() for split in ("train", "val", "test")}
    lost = {"gone": ids["train"][3], "noise": ids["train"][10], "val": ids["val"][2], "test": ids["test"][1]}
    paths = {what: folder / name for what, name in lost.items()}
    paths["gone"].unlink()
    paths["test"].unlink()
    for what in ("noise", "val"):
        paths[what].write_bytes(np.random.default_rng(1).bytes(3000))
    short = folder / ids["train"][20]  # ends early: some clips of it can be read, some cannot
    pictures = list(frames(short))
    short.unlink()
    write_video(short, pictures[:-4])
    return {"manifest": folder / "manifest.csv", "short": ids["train"][20], **lost}


@pytest.fixture(scope="module")
def skipping(recipe, broken):
    changes = {"data.manifest": str(broken["manifest"]), "data.on_error": "skip", "optim.epochs": 4}
    return replace(recipe, changes)


@pytest.fixture(scope="module")
def skipped_run(skipping, tmp_path_factory):
    return train(skipping, out=tmp_path_factory.mktemp("skipped") / "run", runtime=RUNTIMES["files"])


def videos(run):
    return json.loads((run.path / "skipped.json").read_text())["videos"]


def test_a_run_goes_on_without_them_and_says_so(skipped_run, broken, recipe):
    run, manifest = skipped_run, Manifest.load(broken["manifest"])
    named = videos(run)
    assert set(named) == {broken[what] for what in ("gone", "noise", "val", "test", "short")}
    assert list(named) == sorted(named)
    assert all(video["path"] == str(manifest.root / name) for name, video in named.items())
    assert named[broken["gone"]]["cause"] == "No such file or directory"
    assert named[broken["noise"]]["cause"].startswith("Invalid data")
    assert "was asked for, but decoding gives" in named[broken["short"]]["cause"]
    result = run.result()
    assert result["skipped"] == 5
    for split in ("val", "test"):
        left = [name for name in manifest.text("id", manifest.split(split)) if name != broken[split]]
        scores = run.scores(split)
        assert scores.ids_N.tolist() == left
        assert scores.skipped_ids.tolist() == [broken[split]]
        assert (result[split]["videos"], result[split]["skipped"]) == (len(left), 1)
        labels = dict(zip(manifest.text("id").tolist(), manifest.labels().tolist(), strict=True))
        assert scores.labels_N.tolist() == [labels[name] for name in left]
    assert [line["skipped"] for line in run.metrics("val")] == [1] * 4
    assert run.recipe().data.on_error == "skip"


@pytest.mark.parametrize("how", ["cache", "workers"])
def test_what_is_skipped_depends_on_neither_cache_nor_workers(skipping, skipped_run, tmp_path, how, capsys):
    """A file that ends early can be read for some clips: the cache, which reads it whole, must not lose those."""
    run = train(skipping, out=tmp_path / "run", runtime=RUNTIMES[how])
    assert everything(run) == everything(skipped_run)
    assert videos(run) == videos(skipped_run)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert sorted(told) == sorted(f"skipped: {video['path']}: {video['cause']}" for video in videos(run).values())


def test_some_clips_of_a_file_that_ends_early_are_trained_on(skipping, broken):
    """Else the test above would not hold what it says."""
    manifest = Manifest.load(broken["manifest"])
    clips = build.train_clips(skipping, manifest, build.file_reader(skipping))
    row = manifest.text("id").tolist().index(broken["short"])
    kinds = {type(clips[clips.key(epoch, row)]).__name__ for epoch in range(4)}
    assert kinds == {"_Clip", "Unreadable"}


@pytest.mark.parametrize("how", ["cache", "files"])
def test_without_leave_to_skip_the_first_one_stops_the_run(skipping, tmp_path, how):
    with pytest.raises(DecodeError, match=r"\.mp4: "):
        train(replace(skipping, {"data.on_error": "stop"}), out=tmp_path / "run", runtime=RUNTIMES[how])
    assert not (tmp_path / "run" / "skipped.json").exists()


def test_a_fault_while_the_cache_is_filled_names_the_file(recipe, tmp_path, monkeypatch):
    def faulty(reader, rows):
        raise ValueError("odd header")

    monkeypatch.setattr(FileReader, "read_all", faulty)
    fresh = replace(recipe, {"clip.short_side": 33})
    with pytest.raises(DecodeError, match=r"\.mp4: cannot be read: ValueError: odd header"):
        train(fresh, out=tmp_path / "run")


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(
    skipping, skipped_run, tmp_path, monkeypatch, capsys
):
    step, steps = training.training_step, []

    def until(*arguments, **named):
        steps.append(None)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(training, "training_step", until)
        with pytest.raises(KeyboardInterrupt):
            train(skipping, out=tmp_path / "run", runtime=Runtime(cache_gib=0, num_workers=0, checkpoint_steps=5))
    before = capsys.readouterr().err.count("skipped: ")
    run = resume(tmp_path / "run")
    assert everything(run) == everything(skipped_run)
    assert (run.path / "skipped.json").read_bytes() == (skipped_run.path / "skipped.json").read_bytes()
    assert run.result() == skipped_run.result()
    assert before + capsys.readouterr().err.count("skipped: ") == 5, "each is said once"


def test_a_new_run_does_not_inherit_the_list_of_a_stopped_beginning(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "skipped.json").write_text('{"format_version": 1, "videos": {"x": {}}}')
    done = train(replace(recipe, {"optim.epochs": 1, "optim.warmup_epochs": 0}), out=tmp_path / "run")
    assert not (done.path / "skipped.json").exists()
    assert "skipped" not in done.result()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_leaves_them_out_and_counts_them(skipped_run, broken, tmp_path, capsys, num_workers):
    runtime = Runtime(num_workers=num_workers, inference="plain")
    scores = muybridge.evaluate(skipped_run, out=tmp_path / "test.npz", runtime=runtime)
    known = skipped_run.scores("test")
    assert scores.skipped_ids.tolist() == [broken["test"]] == Scores.load(tmp_path / "test.npz").skipped_ids.tolist()
    assert scores.ids_N.tolist() == known.ids_N.tolist()
    assert np.array_equal(scores.logits_VK, known.logits_VK)
    told = " ".join(capsys.readouterr().err.split())
    assert f"skipped: {broken['manifest'].parent / broken['test']}: No such file" in told
    assert f"scored without 1 of the {len(known.ids_N) + 1} videos" in told
    if num_workers == 0:
        with pytest.raises(DecodeError, match="No such file"):
            muybridge.evaluate(skipped_run, changes={"data.on_error": "stop"}, runtime=runtime)


def test_the_command_line_prints_how_many(skipped_run):
    shown = CliRunner().invoke(app, ["evaluate", str(skipped_run.path)])
    assert shown.exit_code == 0, shown.stderr
    assert "1 video(s) could not be read and were left out" in shown.stdout
    asked = CliRunner().invoke(app, ["evaluate", str(skipped_run.path), "--json"])
    assert json.loads(asked.stdout)["test"]["skipped"] == 1
    again = CliRunner().invoke(app, ["train", "--resume", str(skipped_run.path)])
    assert "5 video(s) could not be read and were left out" in again.stdout


def test_scores_of_nothing_are_an_error(skipped_run, made_set, tmp_path):
    manifest = Manifest.load(made_set)
    Manifest(manifest.columns, manifest.classes, tmp_path / "elsewhere", manifest.mirror).save(tmp_path / "lost.csv")
    with pytest.raises(UserError, match=r"videos: none of \d+ could be read\. Check the first: .*elsewhere"):
        muybridge.evaluate(skipped_run, data=tmp_path / "lost.csv")


def test_one_clip_alone_that_no_batch_norm_takes_is_said(recipe):
    small = replace(recipe, {"model.name": "i3d_resnet_tiny", "model.temporal_pooling": True, "clip.num_frames": 8})
    model = build.model(small, 10)
    where = build.placement(small, Runtime())
    clips = torch.zeros(1, 8, 32, 32, 3, dtype=torch.uint8)
    batch = Batch(clips, torch.tensor([0]), None, None, (0,))
    with pytest.raises(UserError, match="one clip alone in a batch is too few for this model's batch norm"):
        training.training_step(model, build.optimizer(small, model), batch, where, small)


def test_validation_keeps_its_processes_and_a_run_ends_all(recipe, tmp_path, monkeypatch):
    score, seen = session.score, []

    def watched(*arguments, **options):
        scores = score(*arguments, **options)
        seen.append({process.pid for process in worker_processes()})
        return scores

    monkeypatch.setattr(session, "score", watched)
    train(recipe, out=tmp_path / "run", runtime=RUNTIMES["workers"])
    first, second, test = seen
    assert len(first) == 4, "two for training, two for validation"
    assert first == second
    assert len(test) == 2
    assert test < first, "the test is scored by those of validation, when training has ended its own"
    assert worker_processes() == []


@pytest.mark.parametrize("how", [pytest.param("error", marks=pytest.mark.slow), "interrupt"])
def test_a_run_that_is_cut_short_leaves_no_process(recipe, tmp_path, monkeypatch, how):
    step, steps = training.training_step, []

    def until(*arguments, **named):
        steps.append(None)
        if len(steps) == 4:  # after the first validation
            assert len(worker_processes()) == 4
            if how == "error":
                raise RuntimeError("a fault")
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments, **named)

    monkeypatch.setattr(training, "training_step", until)
    with pytest.raises((RuntimeError, Interrupted), match=r"a fault|Stopped at step 4") as caught:
        train(recipe, out=tmp_path / "run", runtime=RUNTIMES["workers"])
    assert caught.traceback, "the error, and the frames it passed, are still held"
    assert worker_processes() == []
