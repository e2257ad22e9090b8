"""Several processes train and score as one would, and none is lost in silence. Real processes, over gloo."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import float64_driver
import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
from same_bits import everything

import muybridge
from muybridge.data.loader import micro_batches
from muybridge.data.manifest import Manifest
from muybridge.data.order import pass_batches
from muybridge.data.sets.motions import motions
from muybridge.data.views import Batch
from muybridge.errors import UserError
from muybridge.recipe import Runtime, replace
from muybridge.runtime.distributed import Processes
from muybridge.runtime.launch import Launch, launched
from muybridge.storage.run import Run
from muybridge.training.job import Jobs
from muybridge.training.loop import resume

ALONE = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "RANK", "WORLD"))}
ENVIRONMENT = ALONE | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def odd_set(tmp_path_factory):
    """A manifest with 7 test and 5 validation videos, which two or three processes cannot share evenly."""
    manifest = Manifest.load(motions(tmp_path_factory.mktemp("odd") / "set", clips=60, seed=3).manifest)
    split = manifest.columns["split"].copy()
    for name, count in ((b"test", 7), (b"val", 5)):
        split[np.flatnonzero(split == name)[count:]] = b"train"
    path = manifest.root / "odd.csv"
    Manifest({**manifest.columns, "split": split}, manifest.classes, manifest.root, manifest.mirror).save(path)
    return path


def torchrun(count, *words):
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *words]


def trained(out, manifest, *settings, processes=1):
    """Train, alone in this process, or in several of their own; the run, and the loss of each update."""
    words = [str(out), str(manifest), *settings]
    if processes == 1:
        float64_driver.main(words)
    else:
        command = torchrun(processes, float64_driver.__file__, *words)
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    return Run(out), np.array(json.loads((out / "losses.json").read_text()))


def weights(run):
    return safetensors.torch.load_file(next(run.checkpoints.glob("step-*")) / "model.safetensors")


def same_answers(a, b):
    for split in ("val", "test"):
        ours, theirs = a.scores(split), b.scores(split)
        assert ours.ids_N.tolist() == theirs.ids_N.tolist()
        assert ours.labels_N.tolist() == theirs.labels_N.tolist()
        assert np.allclose(ours.logits_VK, theirs.logits_VK, atol=1e-5)
        assert a.result()[split] == pytest.approx(b.result()[split])


@pytest.fixture(scope="module")
def one(odd_set, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("one") / "run", odd_set)


@pytest.mark.parametrize("epochs", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_two_processes_train_as_one(odd_set, tmp_path, epochs):
    """14 updates in CI, more than 50 in the slow one."""
    settings = [f"optim.epochs={epochs}", f"evaluation.every_epochs={epochs}"]
    alone, alone_losses = trained(tmp_path / "one", odd_set, *settings)
    both, losses = trained(tmp_path / "two", odd_set, *settings, processes=2)
    assert len(losses) == len(alone_losses) >= (14 if epochs == 2 else 50)
    assert epochs == 2 or losses[-1] < losses[0], "something was learnt"
    assert len(set(losses.tolist())) == len(losses)
    assert np.abs(losses - alone_losses).max() < 1e-6
    assert len(alone.scores("test").ids_N) == 7
    same_answers(alone, both)
    assert both.environment()["processes"] == 2
    assert both.metrics("train")[-1]["clip_top1"] == pytest.approx(alone.metrics("train")[-1]["clip_top1"])


@pytest.mark.slow
def test_three_processes_that_share_unevenly_train_as_one(one, odd_set, tmp_path):
    (alone, alone_losses), (three, losses) = one, trained(tmp_path / "three", odd_set, processes=3)
    assert np.abs(losses - alone_losses).max() < 1e-6
    same_answers(alone, three)


@pytest.mark.slow
def test_synced_batch_norms_see_the_clips_of_all_processes(odd_set, tmp_path):
    """One process with plain batch norms is what synced ones over two must equal, running statistics, too."""
    short = ["optim.epochs=3", "evaluation.every_epochs=3"]
    one, alone_losses = trained(tmp_path / "one", odd_set, *short, "optim.batch_norm=local")
    two, losses = trained(tmp_path / "two", odd_set, *short, "optim.batch_norm=synced", processes=2)
    assert np.abs(losses - alone_losses).max() < 1e-9
    for (name, ours), theirs in zip(weights(one).items(), weights(two).values(), strict=True):
        assert (ours - theirs).abs().max() < 1e-9, name
    same_answers(one, two)


@pytest.mark.slow
def test_local_batch_norms_do_differ_and_are_averaged_before_scoring(odd_set, tmp_path):
    short = ["optim.epochs=3", "evaluation.every_epochs=3"]
    _, alone_losses = trained(tmp_path / "one", odd_set, *short, "optim.batch_norm=local")
    two, losses = trained(tmp_path / "two", odd_set, *short, "optim.batch_norm=local", processes=2)
    assert np.abs(losses - alone_losses).max() > 1e-6
    again = muybridge.evaluate(two)
    assert np.allclose(two.scores("test").logits_VK, again.logits_VK, atol=1e-4)


@pytest.mark.slow
def test_micro_batches_make_the_number_of_processes_indifferent(odd_set, tmp_path):
    """Batch norms see two clips at a time, whoever computes them."""
    settings = ["optim.epochs=3", "evaluation.every_epochs=3", "optim.batch_norm=local", "optim.micro_batch_size=2"]
    settings += ["optim.batch_size=12"]
    manifest = Manifest.load(odd_set)
    assert len(manifest.split("train")) == 48
    _, alone = trained(tmp_path / "one", odd_set, *settings)
    _, three = trained(tmp_path / "three", odd_set, *settings, processes=3)
    assert np.abs(three - alone).max() < 1e-6


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("micro", [None, 1, 2, 3, 5])
def test_every_process_goes_through_the_network_equally_often_and_no_clip_is_lost(processes, micro):
    for total in range(max(processes, 2), 14):
        shares = np.array_split(np.arange(total), processes)
        cut = []
        for share in shares:
            clips = torch.tensor(share)
            batch = Batch(clips, clips, None, None, tuple(share.tolist()))
            parts = list(micro_batches(batch, micro, largest=-(-total // processes)))
            assert [row for part in parts for row in part.rows_B] == share.tolist()
            assert all(part.labels_B.tolist() == list(part.rows_B) for part in parts)
            assert micro is None or max(len(part.rows_B) for part in parts) <= micro
            cut.append(len(parts))
        assert micro == 1 or len(set(cut)) == 1


def test_each_item_goes_to_one_process():
    for count in (1, 2, 3, 5):
        shares = [Processes(Launch(rank, count)).shard(list(range(7))) for rank in range(count)]
        assert sorted(item for share in shares for item in share) == list(range(7))


def command(manifest, out, *settings):
    words = ["train", "--model", "tsm_resnet_tiny", "--data", str(manifest), "--out", str(out)]
    small = ["clip.size=32", "clip.short_side=null", "evaluation.num_clips=1", "precision=fp32", *settings]
    return ["-m", "muybridge", *words, *[part for setting in small for part in ("--set", setting)]]


def wait_for(path, process, *, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "failed", "asked"])
def test_a_process_that_ends_ends_the_run_which_can_be_continued(how, odd_set, tmp_path):
    out = tmp_path / "run"
    settings = ["optim.epochs=300", "optim.warmup_epochs=0", "evaluation.every_epochs=1", "optim.min_steps=0"]
    manifest = odd_set
    if how == "failed":  # read from the files, one of which vanishes on the way
        manifest = motions(tmp_path / "set", clips=60, seed=4).manifest
        settings += ["runtime.cache_gib=0", "runtime.num_workers=0"]
    words = torchrun(2, *command(manifest, out, *settings))
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(out / "checkpoints" / "last", process)
        if how == "failed":
            rows = Manifest.load(manifest)
            (rows.root / rows.row(int(rows.split("train")[0])).path).unlink()
        elif how == "asked":
            process.terminate()
        else:
            ranks = [p for p in psutil.Process(process.pid).children() if "muybridge" in p.cmdline()]
            next(p for p in ranks if p.environ()["RANK"] == "1").kill()
        _, told = process.communicate(timeout=120)
    assert process.returncode != 0
    last = (out / "checkpoints" / "last").read_text()
    if how == "asked":
        assert re.search(r"Stopped at step \d+ of \d+; saved", told)
    else:
        assert f"The last good checkpoint is {out / 'checkpoints' / last}" in told
        assert f"muybridge train --resume {out}" in told
        assert "another of the 2 ended" in told
        assert ("No such file" in told) if how == "failed" else ("it reported no cause" in told)
    assert not Run(out).is_finished
    if how == "killed":
        step = int(last.removeprefix("step-"))
        recipe = json.loads((out / "recipe.json").read_text())
        recipe["optim"]["epochs"] = step // 3 + 1  # one more epoch is enough to see
        (out / "recipe.json").write_text(json.dumps(recipe))
        assert resume(out).result()["steps"] == recipe["optim"]["epochs"] * 3


@pytest.mark.slow
def test_a_slurm_step_is_met_without_torchrun(odd_set, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        *command(odd_set, tmp_path / "run", "optim.epochs=1", "optim.warmup_epochs=0", "optim.min_steps=0"),
    ]
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost"}
    ranks = [
        subprocess.Popen(
            words, env=ENVIRONMENT | slurm | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "MASTER_PORT": str(port)}
        )
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=240) for process in ranks] == [0, 0]
    assert Run(tmp_path / "run").environment()["processes"] == 2


def test_who_it_is_is_read_from_the_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == Launch()
    slurm = {"PROCID": "5", "STEP_NUM_TASKS": "8", "LOCALID": "1", "STEP_TASKS_PER_NODE": "4(x2)"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert launched() == Launch(5, 8, 1, 4)
    for name, value in {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert launched() == Launch(2, 3, 2, 3)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # an allocation of many, in which this is a step of one
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert launched() == Launch()


def test_more_processes_than_clips_are_refused(recipe):
    with pytest.raises(UserError, match=r"optim\.batch_size: 4 cuts .* too few for 8 processes"):
        Jobs(Runtime(), processes=8).job(replace(recipe, {"optim.batch_size": 4}))


def test_a_fault_of_its_own_is_not_taken_for_a_lost_process():
    both = Processes(Launch(0, 2))
    with pytest.raises(RuntimeError, match="out of memory"), both.explain_lost_process():
        raise RuntimeError("CUDA out of memory")


UNUSED = """
import torch
from torch import nn
from muybridge.zoo import VideoModel


class Mean(VideoModel):
    def __init__(self, num_classes):
        super().__init__(3, num_classes, dropout=0.0)
        self.spare = nn.Linear(3, 3)

    def features(self, x_BCTHW):
        return x_BCTHW.mean((3, 4)).transpose(1, 2)


def network(*, num_classes, num_frames, temporal_pooling, dropout):
    return Mean(num_classes)
"""


@pytest.mark.slow
def test_a_network_of_ones_own_may_leave_a_parameter_unused(odd_set, tmp_path):
    (tmp_path / "spare.py").write_text(UNUSED)
    words = command(odd_set, tmp_path / "run", "optim.epochs=2", "optim.warmup_epochs=0", "optim.min_steps=0")
    words[words.index("tsm_resnet_tiny")] = "spare:network"
    done = subprocess.run(
        torchrun(2, *words), env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "run").is_finished


@pytest.fixture(scope="module")
def broken_set(tmp_path_factory):
    """Every third training video is no video."""
    manifest = motions(tmp_path_factory.mktemp("broken") / "set", clips=60, seed=5).manifest
    rows = Manifest.load(manifest)
    for row in rows.split("train")[::3]:
        Path(rows.row(int(row)).path).write_bytes(b"no video")
    return manifest


@pytest.mark.slow
@pytest.mark.parametrize("settings", [[], ["optim.micro_batch_size=2"]], ids=["whole", "micro-batches"])
def test_a_process_whose_videos_are_all_broken_takes_part(broken_set, tmp_path, settings):
    """Batches of four, two for each process."""
    rows = Manifest.load(broken_set).split("train")
    broken = set(rows[::3].tolist())

    def fits(seed):
        """Now and then one process has no video that can be read, and never both."""
        batches = pass_batches(rows, batch_size=4, number=0, seed=seed)
        shares = [set(share.tolist()) <= broken for batch in batches for share in np.array_split(batch, 2)]
        return sum(shares) >= 2 and not any(a and b for a, b in zip(shares[::2], shares[1::2], strict=True))

    seed = next(filter(fits, range(1000)))
    common = ["data.on_error=skip", "optim.batch_size=4", "optim.epochs=1", f"seed={seed}"]
    one, alone = trained(tmp_path / "one", broken_set, *common, *settings)
    two, losses = trained(tmp_path / "two", broken_set, *common, *settings, processes=2)
    assert np.abs(losses - alone).max() < 1e-6
    assert one.skipped().keys() == two.skipped().keys()
    assert one.result()["skipped"] == two.result()["skipped"] > 10
    same_answers(one, two)


def test_skipping_and_synced_norms_are_refused_together(recipe):
    changes = {"data.on_error": "skip", "optim.batch_norm": "synced"}
    with pytest.raises(UserError, match=r"does not go with optim\.batch_norm 'synced' on several processes"):
        Jobs(Runtime(), processes=2).job(replace(recipe, changes))


@pytest.mark.slow
def test_when_processes_save_changes_no_bit_and_nor_does_a_stop(odd_set, tmp_path):
    settings = ["optim.epochs=4", "evaluation.every_epochs=2", "optim.batch_norm=local", "optim.ema_decay=0.9"]
    settings += ["precision=bf16", "model.dropout=0.5"]
    whole, _ = trained(tmp_path / "whole", odd_set, *settings, processes=2)
    often, _ = trained(tmp_path / "often", odd_set, *settings, "checkpoint_steps=3", processes=2)
    assert everything(often) == everything(whole)
    words = [float64_driver.__file__, str(tmp_path / "stopped"), str(odd_set), *settings, "stop_after=10"]
    subprocess.run(torchrun(2, *words), env=ENVIRONMENT, capture_output=True, timeout=240)
    assert (tmp_path / "stopped" / "checkpoints" / "last").read_text() == "step-00000010"
    subprocess.run(torchrun(2, *words[:-1]), env=ENVIRONMENT, capture_output=True, timeout=240, check=True)
    assert everything(Run(tmp_path / "stopped")) == everything(whole)
