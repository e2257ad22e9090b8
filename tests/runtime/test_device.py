"""Where and how a network computes."""

import os

import pytest
import torch

from muybridge import build
from muybridge.recipe import Recipe, Runtime
from muybridge.runtime import device


@pytest.fixture
def settings(monkeypatch):
    """What a placement on CUDA sets, on a machine without CUDA. All is as before afterwards."""
    monkeypatch.setattr(device, "find_device", torch.device)
    monkeypatch.setattr(torch.cuda, "set_device", lambda chosen: None)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32

    def found():
        return {
            "benchmark": cudnn.benchmark, "cudnn": cudnn.deterministic, "tf32": cudnn.allow_tf32,
            "algorithms": torch.are_deterministic_algorithms_enabled(),
            "workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        }  # fmt: skip

    yield found
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_a_gpu_computes_the_same_bits_unless_asked_otherwise(settings):
    recipe = Recipe(precision="fp32")
    build.placement(recipe, Runtime(device="cuda"))
    assert settings() == {
        "benchmark": False, "cudnn": True, "tf32": False, "algorithms": True, "workspace": ":4096:8",
    }  # fmt: skip
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG")
    build.placement(recipe, Runtime(device="cuda", deterministic=False))
    assert settings() == {
        "benchmark": False, "cudnn": False, "tf32": False, "algorithms": False, "workspace": None,
    }  # fmt: skip


def test_a_cpu_is_left_as_it_is(settings):
    before = settings()
    build.placement(Recipe(precision="fp32"), Runtime(device="cpu", deterministic=False))
    assert settings() == before
