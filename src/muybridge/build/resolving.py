"""A recipe with nothing left open, and where it computes."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

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
    """Where and how the network of a resolved recipe computes."""
    return device.placement(runtime.device, precision=recipe.precision, threads=runtime.threads)


def resolve(recipe: Recipe, runtime: Runtime, manifest: Manifest) -> Recipe:
    """The recipe with nothing left open: precision by rule, what to start from, hashes of the manifest, of a model of
    your own and of a file of weights. Raises UserError where a hash is given and differs, or a tracker's library is not
    there."""
    check_installed(runtime.trackers)
    precision = recipe.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(find_device(runtime.device)) else "fp32"
    pretrained = starts_from(recipe)
    weights = weights_file(pretrained)
    weights_sha256 = None if weights is None else sha256_file(weights)
    if weights is None and pretrained and Path(pretrained).is_absolute():  # gone; a run that goes on does not need it
        weights_sha256 = recipe.model.pretrained_sha256
    found = {
        "data.sha256": manifest.sha256(),
        "model.source_sha256": source_sha256(recipe.model.name),
        "model.weights_sha256": _brought(recipe, len(manifest.classes)),
        "model.pretrained_sha256": weights_sha256,
    }
    given = {
        "data.sha256": (recipe.data.sha256, "manifest"),
        "model.source_sha256": (recipe.model.source_sha256, "code of the model"),
        "model.weights_sha256": (recipe.model.weights_sha256, "network that the model's function returns"),
        "model.pretrained_sha256": (recipe.model.pretrained_sha256, "file of weights"),
    }
    for name, (value, what) in given.items():
        if value is not None and value != found[name]:
            raise UserError(
                f"The {what} is not the one this recipe was resolved with ({name} differs): it was changed since"
            )
    return replace(recipe, {
        "precision": precision, "data.manifest": str(Path(recipe.data.manifest).resolve()),
        "model.name": resolved_name(recipe.model.name),
        "model.pretrained": pretrained if weights is None else str(weights), **found,
    })  # fmt: skip


def own_network(recipe: Recipe, num_classes: int) -> Callable[[], nn.Module] | None:
    """What makes the network of a recipe by the user's own function; none where it is not theirs."""
    m = recipe.model
    return user_builder(m.name, num_classes=num_classes, dropout=m.dropout, **arguments(recipe))


def _brought(recipe: Recipe, num_classes: int) -> str | None:
    """Hash of the weights that the user's function brings along. (A run that goes on has its weights itself.)"""
    build = own_network(recipe, num_classes)
    if build is None or is_kept(recipe.model.name):
        return recipe.model.weights_sha256
    return brought_sha256(build)
