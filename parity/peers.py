"""The packages and repositories that parity is proved against; `README.md` says how to get them."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import torch

_libraries: list[torch.library.Library] = []


def torchvision() -> ModuleType:
    """Import torchvision, also where its compiled part does not fit this PyTorch.

    Its networks need none of its operators, which only have to be declared for the import.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)  # what is declared lasts as long as it
        return importlib.import_module("torchvision")


def path(repository: str) -> Path:
    """Put the folder of a repository below `$PEERS` on Python's path. Raises ImportError where it is missing."""
    folder = Path(os.environ.get("PEERS", "peers")) / repository
    if not folder.is_dir():
        raise ImportError(f"{folder} is missing (PEERS={os.environ.get('PEERS')})")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return folder
