"""From a recipe to its network, frozen modules, optimizer and averaged weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from muybridge.build.weights import run_of, starts_from, weights_file
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.data.random import torch_seed
from muybridge.data.stores import vectors
from muybridge.errors import UserError
from muybridge.recipe import Recipe
from muybridge.runtime.console import log
from muybridge.zoo import Loaded, VideoModel, count, load_weights
from muybridge.zoo.candidates import Candidates
from muybridge.zoo.count import Cost
from muybridge.zoo.freezing import Frozen, call_order
from muybridge.zoo.layer_groups import lr_factors
from muybridge.zoo.registry import COMMON, assemble


def model(
    recipe: Recipe,
    num_classes: int,
    *,
    pretrained: bool = True,
    classes: Sequence[str] | None = None,
    tell: Callable[[Loaded], None] = lambda loaded: log(str(loaded)),
) -> VideoModel:
    """Network with fresh weights, drawn by the recipe's seed, then filled with its pretrained weights.

    `pretrained=False`: fresh weights only, as a checkpoint will fill it. `tell` is called with the report of the loaded
    weights. `classes`: see `fill`; the network keeps them with its weights. Raises UserError for weights that do not fit.
    """
    torch.manual_seed(torch_seed(recipe.seed, "weights"))
    net = assemble(recipe.model.name, num_classes=num_classes, **arguments(recipe), dropout=recipe.model.dropout)
    net.class_names = tuple(classes or ())
    net.check_frames(recipe.clip.num_frames)
    _check_input(recipe, net)
    if recipe.model.init_std is not None:
        for parameter in net.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=recipe.model.init_std)
    if pretrained:
        _standardise(net, recipe)
        loaded = fill(net, recipe, classes)
        if loaded is not None:
            tell(loaded)
    count_copies = len(recipe.candidates)
    if count_copies == 1:
        return net
    own = (recipe.optim.lr, recipe.optim.weight_decay)  # answers until val has chosen
    return Candidates(net, count_copies, chosen=recipe.candidates.index(own) if own in recipe.candidates else 0)


def _standardise(net: VideoModel, recipe: Recipe) -> None:
    """Give a network of stored vectors the mean and deviation of its training split."""
    is_stored = bool(recipe.data.manifest) and inputs.of(recipe.clip).is_in_place
    if not is_stored or not {"mean_D", "std_D"} <= dict(net.named_buffers()).keys():
        return
    mean_D, std_D = vectors.statistics(
        Manifest.load(recipe.data.manifest), recipe.data.fold, share=recipe.data.train_share, seed=recipe.seed
    )
    net.get_buffer("mean_D").copy_(torch.from_numpy(mean_D))
    net.get_buffer("std_D").copy_(torch.from_numpy(np.where(std_D > vectors.LEAST_STD, std_D, 1.0)))


def fill(net: VideoModel, recipe: Recipe, classes: Sequence[str] | None) -> Loaded | None:
    """Load a recipe's pretrained weights into its network; None where it has none.

    `classes`: the class names, if known: the classifier of a run with other classes is not loaded. Raises UserError for
    weights that do not fit.
    """
    source = starts_from(recipe)
    if source is None:
        return None
    try:
        file = weights_file(source)
        run = run_of(file)
        run_classes = None if run is None else run.dataset()["classes"]
        return load_weights(
            net, file or source, part="whole" if recipe.model.strict else "agreeing", inflation=recipe.model.inflation,
            other_classes=classes is not None and run_classes not in (None, list(classes)),
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"{recipe.model.name}, model.pretrained '{source}': {error}") from None


def outline(recipe: Recipe, num_classes: int) -> VideoModel:
    """Network of a recipe with shapes but no values. Raises UserError for a name, options or clip that do not fit."""
    net = count.outline(recipe.model.name, num_classes=num_classes, **arguments(recipe))
    _check_input(recipe, net)
    return net


def cost(recipe: Recipe, net: VideoModel, num_classes: int) -> dict[str, Any]:
    """Content of cost.json: parameters and multiply-adds of a clip, given the network's `outline`.

    Where tests are of another size than training, those of a test clip are in `test`. Raises UserError for a size that the
    network does not take.
    """
    m, c = recipe.model, recipe.clip
    params, conv_macs, macs = count.count_module(net, num_frames=c.num_frames, size=c.size)
    of_clip = Cost(m.name, num_classes, c.num_frames, c.size, m.temporal_pooling, params, conv_macs, macs).as_json()
    if recipe.test_size == c.size:
        return of_clip
    try:
        _, conv_macs, macs = count.count_module(net, num_frames=c.num_frames, size=recipe.test_size)
    except UserError as error:
        raise UserError(f"evaluation.size: {error}") from None
    return of_clip | {"test": {"size": recipe.test_size, "conv_macs": conv_macs, "macs": macs}}


def _check_input(recipe: Recipe, net: VideoModel) -> None:
    """Check that the network takes the recipe's input. Raises UserError."""
    shown = inputs.of(recipe.clip)
    if shown.is_picture != (net.input_kind == "clip"):
        gives, takes = ("clips", "vectors") if shown.is_picture else ("vectors", "clips")
        raise UserError(
            f"clip.modality: '{shown.name}' gives {gives}, but {recipe.model.name} takes {takes}. Choose another model or input"
        )
    if shown.is_picture:
        for name, is_set in (
            ("evaluation.whole", recipe.evaluation.whole), ("clip.past_end", recipe.clip.past_end == "absent"),
        ):  # fmt: skip
            if is_set:
                raise UserError(f"{name}: it is for stored vectors, and '{shown.name}' gives pictures. Leave it out")


def arguments(recipe: Recipe) -> dict[str, Any]:
    """Arguments of the network's builder, except the number of classes and dropout.

    Raises UserError for an option that has the name of another argument.
    """
    m = recipe.model
    for name in COMMON:
        if name in m.options:
            raise UserError(f"model.options.{name}: not an option. Set it by the fields of clip or model")
    return {
        "num_frames": recipe.clip.num_frames, "temporal_pooling": m.temporal_pooling,
        "in_channels": inputs.of(recipe.clip).channels, **m.options,
    }  # fmt: skip


def optimizer(recipe: Recipe, net: VideoModel) -> torch.optim.Optimizer:
    """Optimizer of the parameters that are not frozen. Raises UserError where all are.

    Its groups are one for each `lr_factor`, the part of the learning rate that it has, and each weight decay.
    """
    o = recipe.optim
    exempt = _exempt(net, o.weight_decay_exempt)
    trained = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    if not trained:
        raise UserError(f"{recipe.model.name}: every parameter is frozen. Choose an earlier optim.train_from")
    factors = lr_factors(net, backbone_lr=o.backbone_lr, layer_decay=o.layer_decay)
    decays = dict.fromkeys(factors, o.weight_decay)
    if net.num_copies > 1:
        for index, (lr, decay) in enumerate(recipe.candidates):
            for name in factors:
                if name.startswith(f"copies.{index}."):
                    factors[name], decays[name] = lr / o.lr, decay
    decays |= dict.fromkeys(exempt, 0.0)
    of_name = {name: (factors[name], name in exempt, decays[name]) for name, _ in trained}
    groups = [
        {
            "params": [p for name, p in trained if of_name[name] == kind], "weight_decay": kind[2],
            "lr_factor": kind[0], "lr": o.lr * kind[0],
        }
        for kind in _kinds(of_name.values())
    ]  # fmt: skip
    if o.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=o.lr, momentum=o.momentum)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[o.optimizer](groups, lr=o.lr)


def _kinds(of_parameters: Iterable[tuple[float, bool, float]]) -> list[tuple[float, bool, float]]:
    """The kinds of parameters, those of one learning rate side by side, in the order in which they come first."""
    kinds = list(dict.fromkeys(of_parameters))
    factors = list(dict.fromkeys(factor for factor, _, _ in kinds))
    return sorted(kinds, key=lambda kind: (factors.index(kind[0]), kind[1]))


def _exempt(net: nn.Module, which: str) -> set[str]:
    """Names of the parameters without weight decay; `norms_and_biases` are those of at most one dimension."""
    if which == "norms_and_biases":
        return {name for name, parameter in net.named_parameters() if parameter.dim() <= 1}
    norms = [
        module
        for module in net.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)
    ]
    of_norms = {id(parameter) for module in norms for parameter in module.parameters(recurse=False)}
    return {name for name, p in net.named_parameters() if id(p) in of_norms} if which == "norms" else set()


def frozen(recipe: Recipe, net: VideoModel) -> Frozen:
    """Freeze modules and norms as the recipe says. Raises UserError for a module that the network lacks."""
    c = recipe.clip
    called: list[str] = []
    if recipe.optim.train_from is not None:
        plan = outline(recipe, num_classes=2)
        called = call_order(plan, num_frames=c.num_frames, size=c.size)
    return Frozen(net, train_from=recipe.optim.train_from, called=called, batch_norm=recipe.optim.batch_norm)


def averaged(recipe: Recipe, net: VideoModel) -> AveragedModel | None:
    """Exponential moving average of the weights, if the recipe has one; norms keep the network's statistics."""
    if recipe.optim.ema_decay is None:
        return None
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(recipe.optim.ema_decay))
