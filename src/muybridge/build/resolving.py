"""From a recipe to a resolved one, with every field set, and to the device it computes on."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from muybridge.build.clips import with_stored_input
from muybridge.build.networks import arguments
from muybridge.build.weights import starts_from, weights_file
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.recipe import Recipe, Runtime, replace
from muybridge.runtime import device
from muybridge.runtime.device import Placement, find_device, has_bf16
from muybridge.runtime.files import sha256_file
from muybridge.runtime.trackers import check_installed
from muybridge.user_code import is_kept, resolved_name, source_sha256
from muybridge.zoo.registry import user_builder
from muybridge.zoo.user_network import brought_sha256


def placement(recipe: Recipe, runtime: Runtime) -> Placement:
    """Device, precision and threads of a resolved recipe's network."""
    return device.placement(
        runtime.device, precision=recipe.precision, threads=runtime.threads, deterministic=runtime.deterministic
    )


def resolve(recipe: Recipe, runtime: Runtime, manifest: Manifest) -> Recipe:
    """Recipe with every field set: precision, pretrained weights, and hashes of the data, the code and the weights.

    Raises UserError where a stored hash differs, or a tracker's library is missing.
    """
    check_installed(runtime.trackers)
    recipe = with_stored_input(recipe, manifest)
    pretrained = starts_from(recipe)
    weights = weights_file(pretrained)
    weights_sha256 = None if weights is None else sha256_file(weights)
    if weights is None and pretrained and Path(pretrained).is_absolute():  # gone; a resumed run does not need it
        weights_sha256 = recipe.model.pretrained_sha256
    present = {
        "data.sha256": manifest.sha256(),
        "model.source_sha256": source_sha256(recipe.model.name),
        "model.weights_sha256": _brought(recipe, len(manifest.classes)),
        "model.pretrained_sha256": weights_sha256,
    }
    stored = {
        "data.sha256": (recipe.data.sha256, "manifest"),
        "model.source_sha256": (recipe.model.source_sha256, "code of the model"),
        "model.weights_sha256": (recipe.model.weights_sha256, "network that the model's function returns"),
        "model.pretrained_sha256": (recipe.model.pretrained_sha256, "file of weights"),
    }
    for name, (value, what) in stored.items():
        if value is not None and value != present[name]:
            raise UserError(
                f"{name}: the {what} was changed since this recipe was resolved. Restore it, or start a new run"
            )
    return replace(recipe, {
        "precision": settled_precision(recipe, runtime), "data.manifest": str(Path(recipe.data.manifest).resolve()),
        "model.name": resolved_name(recipe.model.name),
        "model.pretrained": pretrained if weights is None else str(weights), **present,
    })  # fmt: skip


def settled_precision(recipe: Recipe, runtime: Runtime) -> str:
    """Precision of a recipe, with "auto" resolved for a device."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if has_bf16(find_device(runtime.device)) else "fp32"


def user_network(recipe: Recipe, num_classes: int) -> Callable[[], nn.Module] | None:
    """Builder of a recipe's network by the user's function; None for networks of other kinds."""
    m = recipe.model
    return user_builder(m.name, num_classes=num_classes, dropout=m.dropout, **arguments(recipe))


def _brought(recipe: Recipe, num_classes: int) -> str | None:
    """Hash of the weights that the user's network comes with; a run's kept code is not asked again."""
    build = user_network(recipe, num_classes)
    if build is None or is_kept(recipe.model.name):
        return recipe.model.weights_sha256
    return brought_sha256(build)
