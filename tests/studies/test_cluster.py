"""A study on a Ray cluster: lost machines and killed drivers lose nothing, and the answer is that of one process."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from ray_nodes import two_nodes
from test_work import Results, said, scores

import muybridge
from muybridge.data.sets.motions import motions
from muybridge.errors import UserError
from muybridge.recipe import replace, to_json
from muybridge.runtime import cluster as clusters
from muybridge.runtime.cluster import Cluster, Node
from muybridge.runtime.leases import Leases
from muybridge.studies import work as working
from muybridge.studies.cluster import Board, Share, share_of, trial

MODELS = ("tsn_resnet_tiny", "tsm_resnet_tiny", "tam_resnet_tiny")


def node(name, cpus, gpus=0.0, **versions):
    return Node(name, name, cpus, gpus, clusters.versions() | versions)


def test_a_runs_share_of_a_machine():
    alike = Cluster(None, [node("a", 16.0, 4.0), node("b", 24.0, 8.0), node("c", 64.0)])
    assert share_of(alike, None, None) == Share(1, 3.0), "a GPU's share of the machine that has fewest CPUs for each"
    assert share_of(alike, 4, None) == Share(4, 12.0)
    assert share_of(alike, 8, None) == Share(8, 24.0), "on the one machine that has them"
    assert share_of(alike, 0, 6) == Share(0, 6.0)
    with pytest.raises(UserError, match="--gpus-per-run: 9 GPUs are wanted, and no machine has more than 8"):
        share_of(alike, 9, None)
    with pytest.raises(UserError, match="--cpus-per-run: no machine has 65 CPUs"):
        share_of(alike, None, 65)
    assert share_of(Cluster(None, [node("c", 64.0)]), None, None) == Share(0, 1.0)


def test_other_versions_are_named_before_anything_starts(capsys):
    clusters._check_versions([node("a", 1.0)], False)
    assert capsys.readouterr().err == ""
    clusters._check_versions([node("a", 1.0, python="3.99.0")], False)
    assert "warning: a has other versions: python 3.99.0, here" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"a: it has other versions \(torch 1\.0, here .*--mixed-versions"):
        clusters._check_versions([node("a", 1.0, torch="1.0")], False)
    clusters._check_versions([node("a", 1.0, torch="1.0")], True)
    assert "torch 1.0" in capsys.readouterr().err


class FakeRay:
    """Machines as plain functions: the second sees another disk."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, answers):
        self.answers = answers

    def nodes(self):
        return [{"Alive": True, "NodeID": f"{number:056x}", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 2.0}}
                for number in range(len(self.answers))]  # fmt: skip

    def remote(self, **options):
        def decorated(function):
            def call(*arguments):
                return self.answers.pop(0)(function(*arguments))

            return SimpleNamespace(options=lambda **where: SimpleNamespace(remote=call))

        return decorated

    def get(self, references, timeout):
        return references


def test_every_machine_must_see_the_folder(tmp_path):
    pytest.importorskip("ray")
    nodes = clusters._proven(FakeRay([lambda answer: answer] * 2), tmp_path, "ray", False)
    assert [one.cpus for one in nodes] == [2.0, 2.0]
    missing = clusters.probe(str(tmp_path / "elsewhere"))["token"]
    blind = FakeRay([lambda answer: answer, lambda answer: answer | {"token": missing, "host": "far"}])
    with pytest.raises(UserError, match=r"the machine far .* does not see this folder.*No such file"):
        clusters._proven(blind, tmp_path, "ray", False)
    assert list(tmp_path.iterdir()) == [], "the token is taken away"


def test_the_board_shows_who_is_at_work(recipe, tmp_path):
    study = muybridge.compare(MODELS[:2], data=recipe.data.manifest, recipe=recipe, out=tmp_path / "s", plan_only=True)
    leases, board = Leases(study.path / working.FOLDER), Board(study.path)
    assert (board.rows(), board.left(), board.is_over()) == ([], 2, False)
    first, second = (run.name for run in study.runs)
    with leases.hold(first, leases.standing()):
        study.runs[0].path.mkdir(parents=True)
        study.runs[0].write_metrics({"kind": "train", "epoch": 3, "step": 9, "loss": 1.0, "clip_top1": 0.2, "lr": 0.1})
        study.runs[0].write_metrics(
            {"kind": "val", "epoch": 3, "step": 9, "loss": 1.0, "clip_top1": 0.2, "video_top1": 0.25}
        )
        board.refresh()
        (row,) = board.rows()
        assert row[:4] == [first, "at work", "3", "0.250"]
        leases.finish(first)
    with leases.hold(second, leases.standing()):
        leases.fail(second, "it diverged")
    board.refresh()
    assert (board.rows(), board.left()) == ([[second, "failed", "", "", "it diverged"]], 0)


def test_a_cluster_that_is_not_there(recipe, tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(UserError, match="--cluster: 'slrm' does not share data sets"):
        muybridge.pack(recipe.data.manifest, out=tmp_path / "p", cluster="slrm")


def compare(nodes, long, out, tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(to_json(long))
    command = [
        sys.executable, "-m", "muybridge", "compare", "--models", ",".join(MODELS), "--seeds", "2", "--recipe", str(file),
        "--data", long.data.manifest, "--out", str(out), "--cluster", f"ray://{nodes.address}", "--lost-after", "8",
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        env=nodes.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def long(recipe):
    return replace(recipe, {"optim.epochs": 12, "evaluation.num_clips": 1, "evaluation.num_crops": 1})


@pytest.fixture(scope="module")
def serial(long, tmp_path_factory):
    return muybridge.compare(
        MODELS, data=long.data.manifest, recipe=long, seeds=2, out=tmp_path_factory.mktemp("serial") / "s"
    )


@pytest.mark.slow
def test_a_lost_machine_loses_no_run(long, serial, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "s"
    with two_nodes() as nodes, Results(out) as results:
        driver = compare(nodes, long, out, tmp_path)
        while len(results.seen) < 2:
            assert driver.poll() is None, driver.stderr.read()
            time.sleep(0.1)
        at_work = list(Leases(out / working.FOLDER).standing().numbers)
        nodes.kill("second")
        assert not nodes.private["second"].exists()
        told = driver.communicate(timeout=400)[1]
    assert driver.returncode == 0, told
    print(f"at work when the machine was lost: {at_work}")
    assert {name: len(stamps) for name, stamps in results.seen.items()} == {run.name: 1 for run in serial.runs}
    assert scores(out) == scores(serial.path)
    assert said(out) == said(serial.path)


@pytest.mark.slow
def test_a_driver_may_be_killed_and_started_again(long, serial, tmp_path):
    pytest.importorskip("ray")
    out, draw, killed = tmp_path / "s", random.Random(1), []
    with two_nodes() as nodes, Results(out) as results:
        for _ in range(10):
            driver = compare(nodes, long, out, tmp_path)
            with suppress(subprocess.TimeoutExpired):
                driver.wait(timeout=draw.uniform(12, 30))
            killed.append(driver.poll() is None)
            os.killpg(driver.pid, signal.SIGKILL) if killed[-1] else None
            driver.communicate()
        driver = compare(nodes, long, out, tmp_path)
        told = driver.communicate(timeout=400)[1]
    assert driver.returncode == 0, told
    print(f"{sum(killed)} drivers killed")
    assert {name: len(stamps) for name, stamps in results.seen.items()} == {run.name: 1 for run in serial.runs}
    assert scores(out) == scores(serial.path)
    assert said(out) == said(serial.path)


@pytest.mark.slow
def test_a_run_of_several_processes_is_started_by_torchrun(long, tmp_path):
    study = muybridge.compare(MODELS[:1], data=long.data.manifest, recipe=long, out=tmp_path / "s", plan_only=True)
    assert trial(str(study.path), 2, False, 8.0) == []
    (run,) = study.runs
    assert run.is_finished
    assert run.environment()["processes"] == 2


@pytest.mark.slow
def test_ctrl_c_saves_and_frees_the_runs(long, serial, tmp_path):
    pytest.importorskip("ray")
    endless, out = replace(long, {"optim.epochs": 400}), tmp_path / "s"
    with two_nodes() as nodes:
        driver = compare(nodes, endless, out, tmp_path)
        while len(list(out.glob("runs/*/checkpoints/last"))) < 2:
            assert driver.poll() is None, driver.stderr.read()
            time.sleep(0.1)
        os.killpg(driver.pid, signal.SIGINT)
        told = driver.communicate(timeout=200)[1]
    assert driver.returncode == 130, told
    assert "Repeat the command to resume" in told
    leases = Leases(out / working.FOLDER)
    standing = leases.standing()
    assert (standing.done, standing.failed) == (frozenset(), frozenset())
    assert len(standing.numbers) >= 2
    assert all(leases.holder(key, standing) is None for key in standing.numbers), "given back, not left to be lost"


@pytest.mark.slow
def test_two_machines_make_the_stores_that_one_makes(tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("cv2")
    made = motions(tmp_path / "set", clips=120, seed=1)
    run = muybridge.train(model="tsn_resnet_tiny", data=made.manifest, out=tmp_path / "run", steps=1)
    muybridge.pack(made.manifest, out=tmp_path / "pack-one")
    muybridge.flow(made.manifest, out=tmp_path / "flow-one")
    muybridge.features(run.path, data=made.manifest, out=tmp_path / "features-one")
    muybridge.prepare(tmp_path / "set", out=tmp_path / "one.csv", group=None)
    with two_nodes() as nodes:
        for words in (
            ["pack", str(made.manifest), "--out", str(tmp_path / "pack-two")],
            ["flow", str(made.manifest), "--out", str(tmp_path / "flow-two")],
            ["features", str(run.path), "--data", str(made.manifest), "--out", str(tmp_path / "features-two")],
            ["prepare", str(tmp_path / "set"), "--out", str(tmp_path / "two.csv")],
        ):
            command = [sys.executable, "-m", "muybridge", *words, "--cluster", f"ray://{nodes.address}", "--json"]
            done = subprocess.run(command, env=nodes.environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout).get("finished") is True, words
    for kind in ("pack", "flow", "features"):
        one, two = (
            {f.name: f.read_bytes() for f in (tmp_path / f"{kind}-{name}").glob("*") if f.is_file()}
            for name in ("one", "two")
        )
        assert one == two, kind
    for ending in (".csv", ".csv.json"):
        assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()
