"""Composed models, METHOD_BACKBONE: every temporal method over every image network.

`METHOD@module:function` is a method over the user's image network, `METHOD@timm:NAME` over one of timm's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.anatomy import Anatomy, survey
from muybridge.zoo.backbones import foreign, inception_v1, inception_v3, mobile, resnet, vgg16
from muybridge.zoo.base import IMAGENET, VideoModel
from muybridge.zoo.registry import register, register_method
from muybridge.zoo.temporal.aggregation import aggregate
from muybridge.zoo.temporal.factorisation import factorise
from muybridge.zoo.temporal.frames import FrameAxis, FramesNet, draw_weights, halve_time
from muybridge.zoo.temporal.inflation import inflate
from muybridge.zoo.temporal.non_local import non_local
from muybridge.zoo.temporal.shift import shift

MIN_FRAMES = 4
"""The shortest clip that the 2021 study's grid takes (8 with temporal pooling); TSN takes single frames."""
SMALLEST = 32
"""The smallest height and width, where an image network says nothing else."""


@dataclass(frozen=True)
class Method:
    """A way to make a video network from an image network."""

    paper: str
    apply: Callable[..., nn.Module | None]
    """apply(net, anatomy, axis, *, temporal_pooling, **options) changes the image network in place.

    TSN's may return a layer for the vector of every frame.
    """
    is_3d: bool = False
    looks_along_time: bool = True
    """Whether it does so without temporal pooling, too."""
    starts_as_identity: bool = False
    """Whether a fresh network answers as the image network alone, by norms whose weights start at zero."""
    min_frames: int = MIN_FRAMES
    sites: str | None = None
    """The kind of an image network's `sites` that it needs at least one of."""


def segments(
    net: nn.Module, anatomy: Anatomy, axis: FrameAxis, *, temporal_pooling: bool, width: int = 0
) -> nn.Module | None:
    """TSN: only the mean of the logits looks along time, and temporal pooling if asked for.

    `width`: units of a further layer, with a ReLU, between the vector of every frame and the classifier; 0: none. Returns
    that layer. Raises UserError for a width below 0.
    """
    if width < 0:
        raise UserError(
            f"model.options.width: it is {width}, but counts units. Give 1 or more, or 0 for no further layer"
        )
    if temporal_pooling:
        halve_time(net, anatomy, axis)
    return nn.Sequential(nn.Linear(anatomy.num_features, width), nn.ReLU()) if width else None


METHODS = {
    "tsn": Method("Wang et al. 2016, Temporal Segment Networks", segments, looks_along_time=False, min_frames=1),
    "tsm": Method("Lin et al. 2019, Temporal Shift Module", shift, sites="shift"),
    "tam": Method("Fan et al. 2019, Temporal Aggregation Module", aggregate, sites="aggregation"),
    "tconv": Method('Chen et al. 2021, "Conv."', partial(aggregate, dense=True), sites="aggregation"),
    "nln": Method("Wang et al. 2018, Non-local Neural Networks", non_local, sites="non_local", starts_as_identity=True),
    "i3d": Method("Carreira and Zisserman 2017, inflated 3D", inflate, is_3d=True),
    "s3d": Method("Xie et al. 2018, separable 3D", factorise, is_3d=True),
}


def _resnet(kind: str, *, in_channels: int = 3, is_3d: bool) -> nn.Module:
    return resnet.resnet(kind, in_channels=in_channels)


def _inception_v1(*, in_channels: int = 3, is_3d: bool) -> nn.Module:
    return inception_v1.InceptionV1(in_channels=in_channels, padded_pools=is_3d)


def _inception_v3(*, in_channels: int = 3, is_3d: bool) -> nn.Module:
    return inception_v3.InceptionV3(in_channels=in_channels)


def _vgg16(*, in_channels: int = 3, is_3d: bool) -> nn.Module:
    return vgg16.VGG16(in_channels=in_channels)


def _mobilenet_v2(*, in_channels: int = 3, is_3d: bool) -> nn.Module:
    return mobile.MobileNetV2(in_channels=in_channels)


def _efficientnet_lite0(*, in_channels: int = 3, is_3d: bool) -> nn.Module:
    return mobile.EfficientNetLite0(in_channels=in_channels)


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    **{kind: partial(_resnet, kind) for kind in resnet.KINDS},
    "inceptionv1": _inception_v1,
    "inceptionv3": _inception_v3,
    "vgg16": _vgg16,
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet_lite0": _efficientnet_lite0,
}
"""Image networks by name; called with `in_channels` and `is_3d`, whether they are to become 3D."""


def grow(
    method: Method,
    net: nn.Module,
    *,
    num_classes: int,
    temporal_pooling: bool,
    dropout: float,
    fresh: bool,
    in_channels: int = 3,
    **options: Any,
) -> FramesNet:
    """Make a video network from an image network, which is changed in place.

    `fresh`: draw all weights anew; otherwise its own are kept, or inflated. `in_channels`: of the images that it takes.
    Raises UserError for a network that the method cannot change.
    """
    anatomy, axis = survey(net, in_channels=in_channels), FrameAxis()
    if method.sites and not getattr(anatomy.sites, method.sites):
        raise UserError(f"{type(net).__name__}: it has no place for {method.paper}. Name one in its `sites`")
    width = int(options.get("width", 0)) if method.apply is segments else 0
    top = method.apply(net, anatomy, axis, temporal_pooling=temporal_pooling, **options)
    if fresh:
        draw_weights(net)
    model = FramesNet(
        net,
        axis,
        num_features=width or anatomy.num_features,
        num_classes=num_classes,
        dropout=dropout,
        min_frames=8 if temporal_pooling else method.min_frames,
        in_channels=in_channels,
        top=top,
    )
    model.averages_features = getattr(net, "averages_features", False)
    model.looks_at = "clip" if method.looks_along_time or temporal_pooling else "frame"
    if options.get("direction") == "past":
        model.looks_at = "past"
    return introduced(model, net)


def introduced(model: FramesNet, net: nn.Module) -> FramesNet:
    """The model, which takes over what its image network says about itself."""
    model.min_size = getattr(net, "min_size", SMALLEST)
    model.preprocessing = getattr(net, "preprocessing", IMAGENET)
    model.published = getattr(net, "published", {})
    model.fixed_size = getattr(net, "fixed_size", None)
    return model


def image_network(name: str, *, in_channels: int, is_3d: bool = False) -> nn.Module:
    """An image network: of BACKBONES with fresh weights, or one that is brought along, whose weights are kept."""
    if name in BACKBONES:
        return BACKBONES[name](in_channels=in_channels, is_3d=is_3d)
    return foreign.image_network(name, in_channels=in_channels)


def smallest(backbone: str) -> int:
    """The smallest height and width that an image network of BACKBONES takes."""
    return inception_v3.InceptionV3.min_size if backbone == "inceptionv3" else SMALLEST


def _build(
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
    in_channels: int,
    method: str,
    backbone: str,
    **options: Any,
) -> VideoModel:
    """`backbone`: a name in BACKBONES, or an image network that is brought along, whose weights are kept."""
    kind, is_registered = METHODS[method], backbone in BACKBONES
    net = image_network(backbone, in_channels=in_channels, is_3d=kind.is_3d)
    model = grow(
        kind, net, num_classes=num_classes, temporal_pooling=temporal_pooling, dropout=dropout, in_channels=in_channels,
        fresh=is_registered, **options,
    )  # fmt: skip
    if temporal_pooling and not is_registered:
        foreign.check_eighth(model.backbone, in_channels=in_channels)
    return model


for _method, _about in METHODS.items():
    register_method(_method, build=partial(_build, method=_method), takes=_about.apply)
    for _backbone in BACKBONES:
        register(
            f"{_method}_{_backbone}", family=_method, paper=_about.paper,
            build=partial(_build, method=_method, backbone=_backbone), takes=_about.apply, min_frames=_about.min_frames,
            min_size=smallest(_backbone),
        )  # fmt: skip
