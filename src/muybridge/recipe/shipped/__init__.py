"""Shipped recipes: functions that return a recipe, one module per source; variants are made with `replace`.

A recipe is named in three ways: a shipped one by its function's name (`small`), a user's as `mine.py:name`, and that of a
run by its `recipe.json`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from muybridge.errors import UserError, nearest
from muybridge.recipe.fields import from_json
from muybridge.recipe.sections import Recipe
from muybridge.recipe.shipped.course_assignment_2016 import frame_ucf101, lstm_ucf101
from muybridge.recipe.shipped.course_project_2019 import ucf11, ucf11_c3d, ucf11_vgg9
from muybridge.recipe.shipped.deep_analysis_2021 import kinetics_full, mini, ssv2_full, transfer
from muybridge.recipe.shipped.demo import demo
from muybridge.recipe.shipped.finetune import finetune
from muybridge.recipe.shipped.heads import heads
from muybridge.recipe.shipped.learning_report_2020 import (
    i3d_resnet50_hmdb51,
    i3d_resnet50_ucf101,
    tsn_resnet50_hmdb51,
    tsn_vgg16_ucf101,
    tsn_vgg16_ucf101_second,
)
from muybridge.recipe.shipped.reproduction_2018 import five_class, five_class_shuffled
from muybridge.recipe.shipped.small import small
from muybridge.user_code import allow, function_in_file

LEARNING_REPORT = (
    tsn_vgg16_ucf101, tsn_vgg16_ucf101_second, tsn_resnet50_hmdb51, i3d_resnet50_ucf101, i3d_resnet50_hmdb51,
)  # fmt: skip

SHIPPED: dict[str, Callable[[], Recipe]] = {
    "small": small,
    "finetune": finetune,
    "heads": heads,
    "demo": demo,
    **{f"mini_{frames}": partial(mini, frames) for frames in (8, 16, 32, 64)},
    **{f"mini_kinetics_{frames}": partial(mini, frames, kinetics=True) for frames in (8, 16, 32, 64)},
    "mini_32_large": partial(mini, 32, large=True),
    "mini_kinetics_32_large": partial(mini, 32, kinetics=True, large=True),
    **{f"mini_{frames}_as_coded": partial(mini, frames, as_coded=True) for frames in (8, 16, 32, 64)},
    **{
        f"mini_kinetics_{frames}_as_coded": partial(mini, frames, kinetics=True, as_coded=True)
        for frames in (8, 16, 32, 64)
    },
    "kinetics_full": kinetics_full,
    "ssv2_full": ssv2_full,
    "transfer": transfer,
    **{make.__name__: make for make in LEARNING_REPORT},
    "frame_ucf101": frame_ucf101,
    "lstm_ucf101": lstm_ucf101,
    "five_class": five_class,
    "five_class_shuffled": five_class_shuffled,
    "ucf11": ucf11,
    "ucf11_c3d": ucf11_c3d,
    "ucf11_vgg9": ucf11_vgg9,
}
DEFAULT = "small"


@dataclass(frozen=True)
class About:
    """Documentation of a shipped recipe, from its function's docstring."""

    name: str
    summary: str
    source: str
    """Source of the protocol, and the choices that were made here."""
    published: str
    """Result that the source publishes."""


def about(name: str) -> About:
    """Documentation of a shipped recipe. Raises UserError with the nearest name."""
    if name not in SHIPPED:
        raise UserError(f"recipe '{name}': no shipped recipe has this name. {nearest(name, SHIPPED)}")
    make = SHIPPED[name]
    text = inspect.getdoc(make.func if isinstance(make, partial) else make) or ""
    summary, *others = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    entries = {key: value for key, colon, value in (paragraph.partition(": ") for paragraph in others) if colon}
    for key in ("Source", "Published"):
        if key not in entries:
            raise UserError(f"{name}: the docstring of its function lacks a paragraph '{key}: …'. Write it")
    return About(name, summary, entries["Source"], entries["Published"])


def load(name: str) -> Recipe:
    """Load a recipe by name, as `file.py:function`, or from a JSON file or run folder. Raises UserError."""
    if name in SHIPPED:
        return SHIPPED[name]()
    if name.endswith(".json"):
        return from_json(Recipe, Path(name))
    if (Path(name) / "fused.json").exists():
        raise UserError(f"recipe '{name}': it holds fused scores, and each of the runs has a recipe. Name one of these")
    if (Path(name) / "recipe.json").exists():
        return from_json(Recipe, Path(name) / "recipe.json")
    file, colon, _ = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise UserError(
            f"recipe '{name}': no such recipe. {nearest(name, SHIPPED)} Or name your own (mine.py:function) or a "
            "run's (RUN/recipe.json)"
        )
    recipe = function_in_file(name, "recipe")()
    if not isinstance(recipe, Recipe):
        raise UserError(f"{name}: it returned a {type(recipe).__name__}. Return a muybridge.recipe.Recipe")
    allow(recipe.model.name)  # the user's own file names it
    return recipe
