"""Image networks that are brought along: `module:function` of your own, `timm:NAME` (the extra `[timm]`)."""

import inspect

from torch import nn

from muybridge.errors import UserError
from muybridge.models.contract import Preprocessing
from muybridge.models.own import own_errors, own_function


def image_network(name: str) -> nn.Module:
    """The network of `module:function`, called without arguments, or `timm:NAME` with random weights.

    It takes pictures (N,3,H,W) to a feature map (N,D,h,w), vectors (N,D) or tokens (N,L,D), without a classifier. Its
    weights are kept: a function may load what it likes. Raises UserError.
    """
    module_name, _, function = name.partition(":")
    if module_name == "timm":
        return _timm(function)
    build = own_function(name)
    if any(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        for p in inspect.signature(build).parameters.values()
    ):
        raise UserError(f"The image network '{name}': the function must be callable without arguments")
    with own_errors(name):
        net = build()
    if not isinstance(net, nn.Module):
        raise UserError(
            f"The image network '{name}' is a {type(net).__name__}; the function must return a torch.nn.Module"
        )
    return net


def _timm(name: str) -> nn.Module:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"timm:{name} needs timm (pip install 'muybridge[timm]'), which does not import here: {error}"
        ) from None
    if name not in timm.list_models(name):
        close = ", ".join(timm.list_models(f"*{name}*")[:5])
        raise UserError(f"timm has no network '{name}'" + (f"; it has {close}" if close else ""))
    net = timm.create_model(name, num_classes=0, global_pool="")
    mean, std = net.pretrained_cfg["mean"], net.pretrained_cfg["std"]
    net.preprocessing = Preprocessing(tuple(mean), tuple(std))
    return net
