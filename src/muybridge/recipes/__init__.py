"""The shipped recipes: Python functions that return a recipe. A variant is `replace`, not a file that inherits.

A recipe is named three ways: a shipped one by its function's name (`small`), one of your own as `mine.py:name`, and that
of a run by its `recipe.json`.
"""

import importlib.util
import traceback
from collections.abc import Callable
from pathlib import Path

from muybridge.errors import UserError, nearest
from muybridge.recipe import Recipe, from_json
from muybridge.recipes.demo import demo
from muybridge.recipes.small import small

SHIPPED: dict[str, Callable[[], Recipe]] = {"small": small, "demo": demo}
DEFAULT = "small"


def load(name: str) -> Recipe:
    """A recipe by name, as `file.py:function`, or from a JSON file. Raises UserError."""
    if name in SHIPPED:
        return SHIPPED[name]()
    if name.endswith(".json"):
        return from_json(Recipe, Path(name))
    if (Path(name) / "recipe.json").exists():
        return from_json(Recipe, Path(name) / "recipe.json")
    file, colon, function = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise UserError(
            f"There is no recipe '{name}'. {nearest(name, SHIPPED)} Or name one of your own (mine.py:function) or a run's "
            "(RUN/recipe.json)"
        )
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"There is no file {path} to take the recipe '{function}' from")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}{_line(error)}: {type(error).__name__}: {error}") from error
    make = getattr(module, function, None)
    if not callable(make):
        found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{path} has no function '{function}'. {nearest(function, found)}")
    try:
        recipe = make()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}:{function}{_line(error)}: {type(error).__name__}: {error}") from error
    if not isinstance(recipe, Recipe):
        raise UserError(f"{path}:{function} returned a {type(recipe).__name__}; a muybridge.recipe.Recipe is needed")
    return recipe


def _line(error: Exception) -> str:
    number = error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
    return f", line {number}"
