"""muybridge: train many video architectures under one protocol, compare them honestly, use the best.

import muybridge
muybridge.prepare("videos/", out="set.csv")
run = muybridge.train("small", model="tsm_resnet_tiny", data="set.csv", out="runs/tsm")
scores = muybridge.evaluate(run)
study = muybridge.compare(["tsn_resnet_tiny", "tsm_resnet_tiny"], data="set.csv", out="study")
print(muybridge.load(run)("some.mp4"))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muybridge.api import compare, diagnose, evaluate, frames, load, pack, prepare, resume, train

__version__ = "0.1.0"
__all__ = ["compare", "diagnose", "evaluate", "frames", "load", "pack", "prepare", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Importing muybridge is instant; torch is loaded by the first call that needs it."""
    if name in __all__:
        from muybridge import api

        return getattr(api, name)
    raise AttributeError(f"module 'muybridge' has no attribute '{name}'")
