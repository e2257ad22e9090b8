"""muybridge: train many video architectures under one protocol, compare them honestly, use the best.

import muybridge
muybridge.prepare("videos/", out="set.csv")
run = muybridge.train("small", model="tsm_resnet_tiny", data="set.csv", out="runs/tsm")
scores = muybridge.evaluate(run)
study = muybridge.compare(["tsn_resnet_tiny", "tsm_resnet_tiny"], data="set.csv", out="study")
print(muybridge.load(run)("some.mp4"))
"""

import gc
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muybridge.api import (
        causal,
        compare,
        doctor,
        estimate,
        evaluate,
        find_lr,
        judge,
        measure,
        models,
        plan,
        recipe_of,
        recipes,
        report,
        runs,
        train,
        verify,
    )
    from muybridge.data.flow_picture import flow_picture
    from muybridge.data.overview import describe
    from muybridge.data.prepare.prepare import prepare
    from muybridge.data.sets.motions import motions
    from muybridge.data.stores.flow import flow
    from muybridge.data.stores.jpegs import frames
    from muybridge.data.stores.pack import pack
    from muybridge.evaluation.calibrate import calibrate
    from muybridge.evaluation.diagnose import diagnose
    from muybridge.evaluation.extract import features
    from muybridge.evaluation.fuse import fuse
    from muybridge.inference.bundle import bundle
    from muybridge.inference.events import events
    from muybridge.inference.export import export
    from muybridge.inference.predict import load, predict
    from muybridge.inference.stream import stream
    from muybridge.machine.check import check
    from muybridge.reporting.clips import show
    from muybridge.reporting.notebook import plot
    from muybridge.studies.demo import demo
    from muybridge.studies.work import work
    from muybridge.training.loop import resume

__version__ = "0.1.0"

_MODULES = {
    "bundle": "inference.bundle",
    "calibrate": "evaluation.calibrate",
    "causal": "api",
    "check": "machine.check",
    "compare": "api",
    "demo": "studies.demo",
    "describe": "data.overview",
    "diagnose": "evaluation.diagnose",
    "doctor": "api",
    "estimate": "api",
    "evaluate": "api",
    "events": "inference.events",
    "export": "inference.export",
    "features": "evaluation.extract",
    "find_lr": "api",
    "flow": "data.stores.flow",
    "flow_picture": "data.flow_picture",
    "frames": "data.stores.jpegs",
    "fuse": "evaluation.fuse",
    "judge": "api",
    "load": "inference.predict",
    "measure": "api",
    "models": "api",
    "motions": "data.sets.motions",
    "pack": "data.stores.pack",
    "plan": "api",
    "plot": "reporting.notebook",
    "predict": "inference.predict",
    "prepare": "data.prepare.prepare",
    "recipe_of": "api",
    "recipes": "api",
    "report": "api",
    "resume": "training.loop",
    "runs": "api",
    "show": "reporting.clips",
    "stream": "inference.stream",
    "train": "api",
    "verify": "api",
    "work": "studies.work",
}
"""Every verb and the module that defines it. (No package of muybridge has the name of a verb.)"""

__all__ = [
    "bundle",
    "calibrate",
    "causal",
    "check",
    "compare",
    "demo",
    "describe",
    "diagnose",
    "doctor",
    "estimate",
    "evaluate",
    "events",
    "export",
    "features",
    "find_lr",
    "flow",
    "flow_picture",
    "frames",
    "fuse",
    "judge",
    "load",
    "measure",
    "models",
    "motions",
    "pack",
    "plan",
    "plot",
    "predict",
    "prepare",
    "recipe_of",
    "recipes",
    "report",
    "resume",
    "runs",
    "show",
    "stream",
    "train",
    "verify",
    "work",
]


def __getattr__(name: str) -> Any:
    """Importing muybridge is instant; a verb imports what it needs when it is asked for."""
    if name in _MODULES:
        return getattr(_imported(f"muybridge.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'muybridge' has no attribute '{name}'")


def _imported(module: str) -> ModuleType:
    """Import a module. What torch and others make stays: looking for garbage in it meanwhile takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if was_enabled:
            gc.enable()


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
