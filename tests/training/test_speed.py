"""The process that measures models, one after the other."""

import os
import signal
import sys

import psutil
import pytest

from muybridge.errors import UserError
from muybridge.recipe import Clip, Model, Recipe, Runtime
from muybridge.training.speed import Measuring

JOB = {
    "recipe": Recipe(clip=Clip(num_frames=2, size=32), model=Model(name="tsn_resnet_tiny", pretrained=None)).model_dump(),
    "runtime": Runtime(device="cpu", threads=1).model_dump(),
    "num_classes": 3,
    "budget_bytes": 2e9,
}  # fmt: skip
STEP = {"what": "train", "batch": 2, "repetitions": 1}


def process_of_the_model(process):
    child = psutil.Process(process._process.pid)
    return child.children()[0] if sys.platform == "linux" else child


@pytest.mark.slow
def test_a_process_that_has_loaded_torch_measures_each_model_in_a_fresh_one():
    with Measuring() as process:
        assert process.begin(JOB)["threads"] == 1
        started, first = process._process.pid, process_of_the_model(process)
        assert process.ask(STEP)["fits"]
        assert process.begin(JOB)["threads"] == 1
        second = process_of_the_model(process)
        assert second != first
        os.kill(second.pid, signal.SIGKILL)  # as a system does that has no memory left
        second.wait(10)
        assert process.ask(STEP) is None
        assert process.begin(JOB)["threads"] == 1
        assert process.ask(STEP)["fits"]
        if sys.platform == "linux":
            assert process._process.pid == started
        last = process_of_the_model(process)
        with pytest.raises(UserError, match="it cannot be measured: TypeError"):
            process.ask({**STEP, "repetitions": "one"})
        last.wait(10)
        assert not psutil.pid_exists(started)
        assert process.begin(JOB)["threads"] == 1  # in a new one
