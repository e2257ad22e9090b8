"""Image networks that are brought along: the user's `module:function`, `timm:NAME` (the extra `[timm]`)."""

import inspect
from functools import partial
from typing import Any

import torch
from torch import nn

from muybridge.errors import UserError, nearest
from muybridge.user_code import explained, function
from muybridge.zoo.anatomy import TRIAL_SIZE, takes, trial
from muybridge.zoo.base import LibraryWeights, Preprocessing
from muybridge.zoo.user_network import network

OTHER_SIZE = 256
"""Pixels of a second trial image's sides: at least any smallest size, and also a multiple of 32."""


def image_network(name: str, *, in_channels: int = 3) -> nn.Module:
    """The network of `module:function`, called without arguments, or `timm:NAME` with random weights.

    It takes images (N,C,H,W), C = `in_channels`, to a feature map (N,D,h,w), vectors (N,D) or tokens (N,L,D), without a
    classifier. Its weights are kept: a function may load what it likes. `fixed_size` is found by trying where the network
    does not say. Raises UserError.
    """
    module_name, _, network_name = name.partition(":")
    net: Any = _timm(network_name) if module_name == "timm" else _users(name)
    if (
        not hasattr(net, "fixed_size")
        and takes(net, in_channels, TRIAL_SIZE)
        and not takes(net, in_channels, OTHER_SIZE)
    ):
        net.fixed_size = TRIAL_SIZE
    return net


def _users(name: str) -> nn.Module:
    if any(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        for p in inspect.signature(function(name)).parameters.values()
    ):
        raise UserError(f"image network '{name}': the function needs arguments. Make it callable without arguments")
    net = network(name)
    if not isinstance(net, nn.Module):
        raise UserError(
            f"image network '{name}': the function returned a {type(net).__name__}. Return a torch.nn.Module"
        )
    usual = torch.get_default_dtype()
    other = next((p.dtype for p in net.parameters() if p.is_floating_point() and p.dtype != usual), None)
    if other is not None:
        raise UserError(
            f"image network '{name}': it has weights of {other}, but models here are of {usual}. Convert them"
        )
    return net


def check_eighth(net: nn.Module, *, in_channels: int = 3) -> None:
    """Raise UserError for a network with temporal pooling that does not leave an eighth of the frames."""
    size = getattr(net, "fixed_size", None) or TRIAL_SIZE
    advice = "Set model.temporal_pooling=false"
    try:
        frames = trial(net, (16, in_channels, size, size)).shape[0]
    except Exception as error:
        raise UserError(
            f"{type(net).__name__}: it cannot take temporal pooling: where its image is halved, branches run side by "
            f"side, and not all of them would halve time ({(str(error).splitlines() or [''])[0]}). {advice}"
        ) from error
    if frames != 2:
        raise UserError(
            f"{type(net).__name__}: it cannot take temporal pooling: of 16 frames {frames} would be left, not 2. "
            f"{advice}"
        )


def _timm(name: str) -> nn.Module:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"timm:{name}: timm does not import here: {error}. Install it: pip install 'muybridge[timm]'"
        ) from None
    if not timm.is_model(name):
        raise UserError(f"timm:{name}: timm has no network '{name}'. {nearest(name, timm.list_models())}")
    build = partial(timm.create_model, name, num_classes=0)  # vectors, as its own classifier would be given them
    with explained(f"timm:{name}"):
        net = build()
    about = net.pretrained_cfg
    net.preprocessing = Preprocessing(tuple(about["mean"]), tuple(about["std"]))
    if about.get("fixed_input_size"):
        net.fixed_size = about["input_size"][-1]
    if about.get("url") or about.get("hf_hub_id"):
        net.published = {
            "imagenet": LibraryWeights(
                url=about.get("url") or f"https://huggingface.co/{about['hf_hub_id']}",
                sha256="",
                preprocessing=net.preprocessing,
                about=f"timm's {name}, {about.get('tag') or 'default weights'}",
                fetch=partial(_timm_weights, build),
            )
        }
    return net


def _timm_weights(build: Any, whole: bool) -> dict[str, torch.Tensor]:
    with explained("timm"):
        return {f"backbone.{name}": tensor for name, tensor in build(pretrained=True).state_dict().items()}
