"""Former names of muybridge's modules, by which users' code and runs' stored sources may import them."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from threading import Lock
from types import ModuleType
from typing import Any

from muybridge.runtime.console import log

_NETWORKS = ("c3d", "hub", "inception_volumes", "s3dv3", "slowfast", "small_clips", "video_resnets", "x3d")

FORMER_NAMES = {
    "muybridge.models": "muybridge.zoo",
    "muybridge.models.contract": "muybridge.zoo.base",
    "muybridge.models.weights.own": "muybridge.zoo.weights.muybridge",
    **{f"muybridge.models.{name}": f"muybridge.zoo.networks.{name}" for name in _NETWORKS},
    "muybridge.recipes": "muybridge.recipe.shipped",
    "muybridge.recipes.plan": "muybridge.studies.plan",
    "muybridge.recipes.studies": "muybridge.studies.shipped",
    "muybridge.scores": "muybridge.storage.scores",
}
"""Modules that runs' stored sources and users' files may import by an earlier name. Names below one follow it."""

_former_lock = Lock()
_former_depth = 0
_former_noted: set[str] = set()


@contextmanager
def resolve_former_names() -> Iterator[None]:
    """Let modules of muybridge be imported by their former names in the block. For user code, also pickled.

    The package's attributes stay: `muybridge.models` and `muybridge.recipes` are functions now.
    """
    global _former_depth
    with _former_lock:
        _former_depth += 1
        if _former_depth == 1:
            sys.meta_path.insert(0, _former_finder)
            tops = [name for name in FORMER_NAMES if name.count(".") == 1]
            sys.modules.update({name: _Former(name) for name in tops})  # an import would set the package's attribute
    try:
        yield
    finally:
        with _former_lock:
            _former_depth -= 1
            if _former_depth == 0:
                sys.meta_path.remove(_former_finder)
                for name in [name for name, module in list(sys.modules.items()) if isinstance(module, _Former)]:
                    del sys.modules[name]


def _present_name(name: str) -> str | None:
    """The present name of a module, from its former one; None for other modules."""
    prefix, rest = name, ""
    while prefix not in FORMER_NAMES:
        prefix, dot, last = prefix.rpartition(".")
        if not dot:
            return None
        rest = f".{last}{rest}"
    return FORMER_NAMES[prefix] + rest


class _Former(ModuleType):
    """A module under its former name; its attributes are those of the present module, which they import."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # there may be modules below it

    def __getattr__(self, name: str) -> Any:
        present = _present_name(self.__name__)
        if present is None or (name.startswith("__") and name != "__all__"):  # whoever walks through all modules asks
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        value = getattr(importlib.import_module(present), name)
        if self.__name__ not in _former_noted:
            _former_noted.add(self.__name__)
            log(f"note: {self.__name__} is called {present} now; new code should import it by this name")
        return value


class _FormerFinder:
    """Finds modules below those whose names have changed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Spec of a module under its former name, or None."""
        present = _present_name(name)
        if present is None or importlib.util.find_spec(present) is None:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Stand-in for the present module."""
        return _Former(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: attributes import the present module."""


_former_finder = _FormerFinder()
