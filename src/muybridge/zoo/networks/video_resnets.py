"""3D ResNets as published with weights, each grown from the 2D ResNet on folded frames.

`r3d_resnet18`, `mc3_resnet18`, `r2plus1d_resnet18`: Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions,
section 3, as in torchvision: no pool behind the stem, clips of 16 frames of 112 x 112.

`slow_resnet50`: the slow pathway alone (Feichtenhofer et al. 2019, SlowFast, table 1). `i3d_resnet50_kinetics`: I3D with
temporal kernels on the first convolutions of blocks (Wang et al. 2018, Non-local Neural Networks, section 4.1), as in
PyTorchVideo. Both take clips of 8 frames, every eighth of the video. `i3d_resnet50_gluoncv`: the same parameters, for clips
of 32 frames, every second; its stem and its first pool halve time, too (GluonCV's I3D-ResNet50 v1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from muybridge.zoo.anatomy import Site, survey
from muybridge.zoo.backbones.resnet import BasicBlock, ResNet, resnet
from muybridge.zoo.base import IMAGENET, KINETICS, Clips, Preprocessing, Published, VideoModel
from muybridge.zoo.kinetics import of_kinetics
from muybridge.zoo.registry import register
from muybridge.zoo.temporal.frames import (
    EverySecondFrame,
    FrameAxis,
    FramesNet,
    TimeConv,
    draw_weights,
    put,
)
from muybridge.zoo.temporal.inflation import inflate, replace_conv
from muybridge.zoo.volumes import refuse_temporal_pooling

GREY = Preprocessing((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
"""PySlowFast's and PyTorchVideo's."""

Cycles = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Frames that the blocks' first convolutions look at, in each stage, block by block and over again."""
SLOW: Cycles = ((1,), (1,), (3,), (3,))
I3D: Cycles = ((3,), (3, 1), (3, 1), (1, 3))


def torchvision_kinetics(file: str) -> dict[str, Published]:
    """Weights of torchvision; `file` as torchvision names it, with the first digits of its SHA-256."""
    network, _, sha256 = file.removesuffix(".pth").rpartition("-")
    return {
        "kinetics400": of_kinetics(
            f"https://download.pytorch.org/models/{file}", sha256, KINETICS, f"torchvision's {network}",
            Clips(16, 112, 1, fps=15),
        )
    }  # fmt: skip


def pytorchvideo_kinetics(file: str, clips: Clips) -> dict[str, Published]:
    """PyTorchVideo's weights; `clips`: those that they were trained on. No hash is published."""
    url = f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/{file}"
    return {"kinetics400": of_kinetics(url, "", GREY, f"PyTorchVideo's {file.removesuffix('.pyth')}", clips)}


def gluoncv_kinetics(file: str) -> dict[str, Published]:
    """GluonCV's weights for PyTorch; `file` as GluonCV names it. It publishes SHA-1 sums, no SHA-256."""
    url = f"https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/torch/models/{file}"
    return {"kinetics400": of_kinetics(url, "", IMAGENET, f"GluonCV's {file.rpartition('-')[0]}", Clips(32, 224, 2))}


def lengthen(net: ResNet, axis: FrameAxis, *, stem_frames: int, cycles: Cycles, stem_stride_frames: int = 1) -> None:
    """Make the stem and the first convolutions of bottlenecks look along time."""
    if stem_frames > 1:
        replace_conv(net, "conv1", axis, frames=stem_frames, stride_frames=stem_stride_frames)
    stages = zip((net.layer1, net.layer2, net.layer3, net.layer4), cycles, strict=True)
    for stage, (blocks, cycle) in enumerate(stages, start=1):
        for index in range(len(blocks)):
            frames = cycle[index % len(cycle)]
            if frames > 1:
                replace_conv(net, f"layer{stage}.{index}.conv1", axis, frames=frames)


class MaxOfPairs(nn.Module):
    """A max-pool of 2 x 1 x 1 with stride 2; an odd last frame is dropped."""

    def __init__(self, axis: FrameAxis) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames, T to ⌊T/2⌋."""
        x_BTCHW = x_NCHW.unflatten(0, (self._axis.clips, -1))
        return torch.maximum(x_BTCHW[:, :-1:2], x_BTCHW[:, 1::2]).flatten(0, 1)


def _slow(net: ResNet, axis: FrameAxis) -> None:
    lengthen(net, axis, stem_frames=1, cycles=SLOW)


def _i3d_kinetics(net: ResNet, axis: FrameAxis, *, stem_stride_frames: int = 1) -> None:
    lengthen(net, axis, stem_frames=5, cycles=I3D, stem_stride_frames=stem_stride_frames)
    put(net, Site("layer1", after=True), MaxOfPairs(axis))


def _i3d_gluoncv(net: ResNet, axis: FrameAxis) -> None:
    """Time is halved by the stem, by the pool behind it, and after the first stage: 32 frames end as 4."""
    _i3d_kinetics(net, axis, stem_stride_frames=2)
    put(net, Site("maxpool"), EverySecondFrame(axis))  # a max-pool of 1 x 3 x 3 with strides of 2 x 2 x 2


def _r3d(net: ResNet, axis: FrameAxis) -> None:
    """All 3x3x3; time is halved with the image in the last three stages."""
    inflate(net, survey(net, in_channels=net.conv1.in_channels), axis, temporal_pooling=True)


def _mc3(net: ResNet, axis: FrameAxis) -> None:
    """Mixed convolutions: 3D in the stem and the first stage, 2D after."""
    replace_conv(net, "conv1", axis, frames=3)
    for index in range(len(net.layer1)):
        for conv in ("conv1", "conv2"):
            replace_conv(net, f"layer1.{index}.{conv}", axis, frames=3)


def _r2plus1d(net: ResNet, axis: FrameAxis) -> None:
    """R3D with a spatial and a temporal convolution for each 3D one, together of as many parameters (section 3.5)."""
    net.add_module("conv1", _factorised(net.conv1, axis, middle=45))
    for block in [module for module in net.modules() if isinstance(module, BasicBlock)]:
        c_in, c_out = block.conv1.in_channels, block.conv1.out_channels
        middle = c_in * c_out * 27 // (c_in * 9 + 3 * c_out)  # for both; the paper has more for the second
        halves = block.conv1.stride[0] == 2
        block.add_module("conv1", _factorised(block.conv1, axis, middle=middle, stride_frames=2 if halves else 1))
        block.add_module("conv2", _factorised(block.conv2, axis, middle=middle))
        if halves:
            put(block, Site("downsample"), EverySecondFrame(axis))
    net.published = {}  # an image network's weights do not fit


def _factorised(conv: nn.Conv2d, axis: FrameAxis, *, middle: int, stride_frames: int = 1) -> nn.Sequential:
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    spatial = nn.Conv2d(conv.in_channels, middle, kernel, stride, kernel // 2, bias=False)
    temporal = TimeConv(axis, middle, conv.out_channels, 3, stride=stride_frames)
    return nn.Sequential(spatial, nn.BatchNorm2d(middle), nn.ReLU(inplace=True), temporal)


@dataclass(frozen=True)
class VideoResNet:
    """Recipe of a video ResNet: the image network, and how it is changed."""

    paper: str
    make: Callable[..., ResNet]
    grow: Callable[[ResNet, FrameAxis], None]
    """Changes it in place."""
    published: dict[str, Published]
    min_frames: int = 1
    min_size: int = 32


_TRAN = "Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions"
_resnet18 = partial(resnet, "resnet18", pooled_stem=False)
_resnet50 = partial(resnet, "resnet50")

VIDEO_RESNETS = {
    "r3d_resnet18": VideoResNet(_TRAN, _resnet18, _r3d, torchvision_kinetics("r3d_18-b3b3357e.pth"), min_size=16),
    "mc3_resnet18": VideoResNet(_TRAN, _resnet18, _mc3, torchvision_kinetics("mc3_18-a90a0ba3.pth"), min_size=16),
    "r2plus1d_resnet18": VideoResNet(
        _TRAN, _resnet18, _r2plus1d, torchvision_kinetics("r2plus1d_18-91a641e6.pth"), min_size=16
    ),
    "slow_resnet50": VideoResNet(
        "Feichtenhofer et al. 2019, SlowFast Networks", _resnet50, _slow,
        pytorchvideo_kinetics("SLOW_8x8_R50.pyth", Clips(8, 224, 8, fps=30)),
    ),
    "i3d_resnet50_kinetics": VideoResNet(
        "Wang et al. 2018, Non-local Neural Networks", _resnet50, _i3d_kinetics,
        pytorchvideo_kinetics("I3D_8x8_R50.pyth", Clips(8, 224, 8, fps=30)), min_frames=2,
    ),
    "i3d_resnet50_gluoncv": VideoResNet(
        "Carreira and Zisserman 2017, Quo Vadis, Action Recognition?", _resnet50, _i3d_gluoncv,
        gluoncv_kinetics("i3d_resnet50_v1_kinetics400-18545497.pth"), min_frames=5,
    ),
}  # fmt: skip


def _build(
    *, num_classes: int, num_frames: int, temporal_pooling: bool, dropout: float, in_channels: int, name: str
) -> VideoModel:
    refuse_temporal_pooling(name, temporal_pooling)
    kind, axis = VIDEO_RESNETS[name], FrameAxis()
    net = kind.make(in_channels=in_channels)
    kind.grow(net, axis)
    draw_weights(net)
    model = FramesNet(
        net, axis, num_features=net.num_features, num_classes=num_classes, dropout=dropout,
        min_frames=kind.min_frames, min_size=kind.min_size, in_channels=in_channels,
    )  # fmt: skip
    model.averages_features = True
    model.published = {**net.published, **kind.published}
    model.preprocessing = kind.published["kinetics400"].preprocessing
    return model


for _name, _kind in VIDEO_RESNETS.items():
    register(
        _name, family=_name.partition("_")[0], paper=_kind.paper, build=partial(_build, name=_name),
        min_frames=_kind.min_frames, min_size=_kind.min_size,
    )  # fmt: skip
