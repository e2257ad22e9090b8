"""Layers of a network from its input to its classifier, and the factors of their learning rates.

Fine-tuning moves what was learnt from many pictures less than what is new, and early layers less than late ones (BEiT, Bao
et al. 2022, appendix; MAE, He et al. 2022, table 9).
"""

from collections.abc import Iterator

from torch import nn

from muybridge.zoo.base import VideoModel

LISTS = (nn.Sequential, nn.ModuleList)
"""Modules that hold others one after another. A subclass may do something else with them, and is one layer."""


def lr_factors(
    model: VideoModel, *, backbone_lr: float | None = None, layer_decay: float | None = None
) -> dict[str, float]:
    """Learning rate of every parameter, by name, relative to the classifier's.

    `backbone_lr`: that of all `layers`. `layer_decay`: a factor for each layer from the classifier down; of L layers,
    layer i (from 0) has `layer_decay` to the power of L - i, beside `backbone_lr`. What belongs to no layer has 1.
    """
    found = layers(model)
    factors = dict.fromkeys((name for name, _ in model.named_parameters()), 1.0)
    for index, names in enumerate(found):
        factor = (1.0 if backbone_lr is None else backbone_lr) * (layer_decay or 1.0) ** (len(found) - index)
        factors.update(dict.fromkeys(names, factor))
    return factors


def layers(model: VideoModel) -> list[list[str]]:
    """Names of the parameters of each layer, from the input on.

    The layers are those of the image network that the model has grown from, its temporal modules among them. A model
    without one is taken whole, but for its classifier. It is opened from outside, in the order in which its modules were
    defined: so is every plain Sequential and ModuleList, and what holds a ModuleList somewhere inside (a transformer's
    encoder). Everything else is one layer: a residual block, an Inception block, a convolution. A norm alone belongs to the
    layer before it; parameters of an opened module itself (a class token) belong to the layer after them.
    """
    names = {name for name, _ in model.named_parameters()} - set(model.classifier_names())  # a shared one has one name
    has_grown = model.image_network in dict(model.named_modules())
    root = model.get_submodule(model.image_network) if has_grown else model
    found: list[list[str]] = []
    waiting: list[str] = []
    for is_layer, part in _parts(root, f"{model.image_network}." if has_grown else "", is_root=True):
        part = [name for name in part if name in names]
        if not part:
            continue
        if not is_layer:
            waiting += part
        elif found and not waiting and all(model.get_parameter(name).dim() <= 1 for name in part):
            found[-1] += part
        else:
            found.append(waiting + part)
            waiting = []
    return [*found, waiting] if waiting else found


def _parts(module: nn.Module, prefix: str, *, is_root: bool = False) -> Iterator[tuple[bool, list[str]]]:
    """Parameter names of each layer, and (False) those that an opened module has itself."""
    is_list = type(module) in LISTS
    holds_list = any(type(inner) is nn.ModuleList for inner in module.modules())
    if not (is_root or is_list or holds_list):
        yield True, [f"{prefix}{name}" for name, _ in module.named_parameters(remove_duplicate=False)]
        return
    yield False, [f"{prefix}{name}" for name, _ in module.named_parameters(recurse=False)]
    for name, child in module.named_children():
        yield from _parts(child, f"{prefix}{name}.")
