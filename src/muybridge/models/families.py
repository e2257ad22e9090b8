"""Names compose: METHOD_BACKBONE, every temporal method over every image network."""

from collections.abc import Callable
from functools import partial

from torch import nn

from muybridge.models.backbones import resnet
from muybridge.models.contract import VideoModel
from muybridge.models.registry import register
from muybridge.models.temporal.aggregation import TemporalAggregation
from muybridge.models.temporal.frames import FrameAxis, FramesNet, MakeModule, TemporalMaxPool
from muybridge.models.temporal.shift import TemporalShift
from muybridge.models.temporal.volume import MakeConv, VolumeNet, factorised, grow, inflated

MIN_FRAMES = 4
"""The shortest clip that the 2021 study's grid takes (8 with temporal pooling); TSN takes single frames."""


def frames_net(
    backbone: str,
    make: MakeModule | None,
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
) -> VideoModel:
    """An image network on folded frames, with `make`'s module in every residual branch."""
    axis = FrameAxis()

    def pool() -> nn.Module:
        return TemporalMaxPool(axis) if temporal_pooling else nn.Identity()

    def temporal(channels: int) -> nn.Module:
        return nn.Identity() if make is None else make(axis, channels)

    net = resnet.resnet(backbone, temporal=temporal, pool=pool)
    return FramesNet(
        net,
        axis,
        num_features=net.num_features,
        num_classes=num_classes,
        dropout=dropout,
        min_frames=8 if temporal_pooling else (1 if make is None else MIN_FRAMES),
    )


def volume_net(
    backbone: str,
    make_conv: MakeConv,
    *,
    num_classes: int,
    num_frames: int,
    temporal_pooling: bool,
    dropout: float,
) -> VideoModel:
    """An image network grown into time by `make_conv`."""
    net = resnet.resnet(backbone)
    grow(net, make_conv, stem=net.stem, stem_frames=net.stem_frames, temporal_pooling=temporal_pooling)
    return VolumeNet(
        net,
        num_features=net.num_features,
        num_classes=num_classes,
        dropout=dropout,
        min_frames=8 if temporal_pooling else MIN_FRAMES,
    )


METHODS: dict[str, tuple[str, Callable[..., VideoModel]]] = {
    "tsn": ("Wang et al. 2016, Temporal Segment Networks", partial(frames_net, make=None)),
    "tsm": ("Lin et al. 2019, Temporal Shift Module", partial(frames_net, make=TemporalShift)),
    "tam": ("Fan et al. 2019, Temporal Aggregation Module", partial(frames_net, make=TemporalAggregation)),
    "i3d": ("Carreira and Zisserman 2017, inflated 3D", partial(volume_net, make_conv=inflated)),
    "s3d": ("Xie et al. 2018, separable 3D", partial(volume_net, make_conv=factorised)),
}

for _method, (_paper, _build) in METHODS.items():
    for _kind in resnet.KINDS:
        register(f"{_method}_{_kind}", family=_method, paper=_paper, build=partial(_build, backbone=_kind))
