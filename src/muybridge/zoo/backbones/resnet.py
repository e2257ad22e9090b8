"""ResNet (He et al. 2016) as a 2D feature extractor, parameter names as torchvision's (stride on a bottleneck's 3x3)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from muybridge.zoo.anatomy import Site, Sites
from muybridge.zoo.backbones.published import torchvision_imagenet
from muybridge.zoo.base import IMAGENET, Published


def _conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)


def _conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3x3(c_in, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3x3(width, width), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(c_in, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map to feature map."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1."""

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.conv1, self.bn1 = _conv1x1(c_in, width), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3x3(width, width, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv1x1(width, c_out), nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(c_in, c_out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map to feature map."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _downsample(c_in: int, c_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and c_in == c_out:
        return None
    return nn.Sequential(_conv1x1(c_in, c_out, stride), nn.BatchNorm2d(c_out))


class ResNet(nn.Module):
    """Images (N,C,H,W) to a feature map (N,num_features,H/32,W/32)."""

    preprocessing = IMAGENET
    published: Mapping[str, Published] = {}
    inflated_stem_frames = 3

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        width: int = 64,
        in_channels: int = 3,
        pooled_stem: bool = True,
        lateral_channels: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        """`pooled_stem`: a max-pool after the first convolution.

        `lateral_channels`: channels that enter each stage beside those of the one before, for a network that joins others
        to it.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pooled_stem else nn.Identity()
        stages: list[nn.Sequential] = []
        channels = width
        for stage, (depth, lateral) in enumerate(zip(depths, lateral_channels, strict=True), start=1):
            stage_width = width * 2 ** (stage - 1)
            blocks: list[nn.Module] = []
            channels += lateral
            for index in range(depth):
                blocks.append(block(channels, stage_width, 2 if stage > 1 and index == 0 else 1))
                channels = stage_width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.num_features = channels
        residual = tuple(
            Site(f"layer{stage}.{index}.conv1") for stage, depth in enumerate(depths, start=1) for index in range(depth)
        )
        self.sites = Sites(
            shift=residual,
            aggregation=residual,
            non_local=tuple(
                Site(f"layer{stage}.{index}", after=True)
                for stage in (2, 3)
                for index in range(0, depths[stage - 1], 2)
            ),
        )

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) to the feature map that enters the first stage."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) to a feature map (N,num_features,H/32,W/32)."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))


_SIZES: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int], int]] = {
    "resnet_tiny": (BasicBlock, (1, 1, 1, 1), 16),  # ours: for demos and small clips on a CPU
    "resnet18": (BasicBlock, (2, 2, 2, 2), 64),
    "resnet34": (BasicBlock, (3, 4, 6, 3), 64),
    "resnet50": (Bottleneck, (3, 4, 6, 3), 64),
    "resnet101": (Bottleneck, (3, 4, 23, 3), 64),
}
KINDS = tuple(_SIZES)
_PUBLISHED = {
    kind: torchvision_imagenet(f"{kind}-{sha256}.pth", IMAGENET)
    for kind, sha256 in (
        ("resnet18", "f37072fd"), ("resnet34", "b627a593"), ("resnet50", "0676ba61"), ("resnet101", "63fe2227"),
    )
}  # fmt: skip


def resnet(kind: str, **options: Any) -> ResNet:
    """One of KINDS; `options` as ResNet takes them."""
    block, depths, width = _SIZES[kind]
    net = ResNet(block, depths, **{"width": width, **options})
    net.published = _PUBLISHED.get(kind, {})
    return net
