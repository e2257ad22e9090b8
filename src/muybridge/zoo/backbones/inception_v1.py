"""InceptionV1 (Szegedy et al. 2014) with batch norm, as torchvision's googlenet, whose parameter names it keeps.

The "5x5" branch is 3x3; no auxiliary heads.
"""

import torch
from torch import nn

from muybridge.zoo.anatomy import Site, Sites
from muybridge.zoo.backbones.published import torchvision_imagenet
from muybridge.zoo.base import HALF

WIDTHS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Widths of each block: 1x1; 3x3 reduce, 3x3; "5x5" reduce, "5x5"; pool."""


Sides = int | tuple[int, int]
"""One number for height and width, or two."""


class ConvUnit(nn.Module):
    """Convolution without bias, norm, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: Sides, *, stride: int = 1, padding: Sides = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the three to (N,C,H,W)."""
        return self.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side; `widths` as in WIDTHS."""

    def __init__(self, c_in: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branch1 = ConvUnit(c_in, one, 1)
        self.branch2 = nn.Sequential(ConvUnit(c_in, reduce3, 1), ConvUnit(reduce3, three, 3, padding=1))
        self.branch3 = nn.Sequential(ConvUnit(c_in, reduce5, 1), ConvUnit(reduce5, five, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), ConvUnit(c_in, pool, 1))
        self.out_channels = one + three + five + pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map (N,C,H,W) to (N,out_channels,H,W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionV1(nn.Module):
    """Images (N,C,H,W) to a feature map (N,1024,H/32,W/32)."""

    preprocessing = HALF
    published = torchvision_imagenet("googlenet-1378be20.pth", preprocessing)
    inflated_stem_frames = 7
    factorised_bias = True
    """The 2021 study's temporal convolutions have one here, and none in its ResNets."""
    sites = Sites(
        shift=tuple(Site(f"inception{name}") for name in WIDTHS),
        aggregation=tuple(
            Site(name, after=True) for name in ("conv1", "conv2", "conv3", *(f"inception{name}" for name in WIDTHS))
        ),
        non_local=tuple(Site(f"inception{name}", after=True) for name in ("3b", "4b", "4d")),
    )

    def __init__(self, *, in_channels: int = 3, padded_pools: bool = False) -> None:
        """`padded_pools`: pools between the blocks of 3 x 3, padded by a pixel, as in the 2021 study's 3D networks.

        torchvision's run over the right and lower edge instead; the sizes are the same.
        """
        super().__init__()

        def pool(kernel: int) -> nn.MaxPool2d:
            return nn.MaxPool2d(3, 2, padding=1) if padded_pools else nn.MaxPool2d(kernel, 2, ceil_mode=True)

        self.conv1 = ConvUnit(in_channels, 64, 7, stride=2, padding=3)
        self.maxpool1 = pool(3)
        self.conv2, self.conv3 = ConvUnit(64, 64, 1), ConvUnit(64, 192, 3, padding=1)
        self.maxpool2 = pool(3)
        channels = 192
        for name, widths in WIDTHS.items():
            block = Inception(channels, widths)
            setattr(self, f"inception{name}", block)
            channels = block.out_channels
            if name in ("3b", "4e"):
                setattr(self, "maxpool3" if name == "3b" else "maxpool4", pool(3 if name == "3b" else 2))
        self.num_features = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) to a feature map (N,1024,H/32,W/32)."""
        for child in self.children():  # in the order in which they were set
            x = child(x)
        return x
