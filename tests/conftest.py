"""What several tests share: a small made set, a recipe that trains on it in seconds, and one finished run."""

import gc
import os
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["COLUMNS"] = "160"  # of a terminal, for tables

import pytest
import torch

from muybridge.data.sets.motions import motions
from muybridge.recipe import Augment, Clip, Evaluation, Model, Optim, Recipe, replace
from muybridge.training.loop import train

torch.set_num_threads(1)

os.fsync = lambda descriptor: None
"""No test pulls the plug: flushing took a third of every small run. Processes that tests start flush as ever."""


def pytest_collection_finish():
    """Collect garbage rarely: going through all that was imported took a seventh of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@contextmanager
def _empty(drawings):
    yield
    for path, _ in drawings:
        for ending in (".svg", ".png"):
            path.with_name(f"{path.name}{ending}").write_bytes(b"")


@pytest.fixture(autouse=True)
def _quick_drawings(request, monkeypatch):
    """Empty drawings, but for tests marked `drawings` or `slow`: the renderer takes most of a report's time."""
    if not any(request.node.get_closest_marker(name) for name in ("drawings", "slow")):
        monkeypatch.setattr("muybridge.reporting.report.drawn", _empty)


@pytest.fixture(scope="session")
def made_set(tmp_path_factory):
    """Path of a manifest of 60 made videos."""
    return motions(tmp_path_factory.mktemp("motions") / "set", clips=60, seed=3).manifest


@pytest.fixture(scope="session")
def recipe(made_set):
    """Two epochs of three steps, with everything random switched on."""
    return replace(
        Recipe(
            clip=Clip(num_frames=4, size=32),
            augment=Augment(crop="multiscale"),
            model=Model(name="tsm_resnet_tiny", dropout=0.5),
            optim=Optim(lr=0.02, batch_size=16, epochs=2, warmup_epochs=1, clip_grad_norm=5.0),
            evaluation=Evaluation(num_clips=2, num_crops=3),
            precision="fp32",
        ),
        {"data.manifest": str(made_set)},
    )


@pytest.fixture(scope="session")
def run(recipe, tmp_path_factory):
    """A finished run."""
    return train(recipe, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def one_job(monkeypatch):
    """`prepare` looks at files in one process, where it is asked for no other number: each starts in half a second."""
    monkeypatch.setattr("muybridge.data.prepare.inspection.os.cpu_count", lambda: 1)
