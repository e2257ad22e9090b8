"""Recipe and runtime: settings that change a result, and settings that do not.

A **recipe** is one frozen value with everything that changes a result: data, clip, augmentation, model, optimisation,
evaluation, precision, seed. A **runtime** holds the rest: device, workers, caches, how often to save. Recipes are
written in Python (`muybridge.recipe.shipped`), varied with `replace`, and stored as JSON in every run folder.

Only `build` and the verbs (train, evaluate, …) see a recipe; every part below takes plain keyword arguments.
"""

from muybridge.recipe.fields import (
    diff,
    fields,
    fingerprint,
    flat,
    from_json,
    parse_overrides,
    replace,
    to_json,
    validated,
)
from muybridge.recipe.sections import (
    Augment,
    Clip,
    Data,
    Evaluation,
    Model,
    Optim,
    Precision,
    Recipe,
    Runtime,
    Section,
    Stop,
)

__all__ = [
    "Augment",
    "Clip",
    "Data",
    "Evaluation",
    "Model",
    "Optim",
    "Precision",
    "Recipe",
    "Runtime",
    "Section",
    "Stop",
    "diff",
    "fields",
    "fingerprint",
    "flat",
    "from_json",
    "parse_overrides",
    "replace",
    "to_json",
    "validated",
]
