"""InceptionV3 (Szegedy et al. 2015), as torchvision's inception_v3, whose parameter names it keeps; no auxiliary head."""

import torch
from torch import nn

from muybridge.zoo.anatomy import Site, Sites
from muybridge.zoo.backbones.inception_v1 import ConvUnit
from muybridge.zoo.backbones.published import torchvision_imagenet
from muybridge.zoo.base import HALF


def _wide(c_in: int, c_out: int) -> ConvUnit:
    return ConvUnit(c_in, c_out, (1, 7), padding=(0, 3))


def _high(c_in: int, c_out: int) -> ConvUnit:
    return ConvUnit(c_in, c_out, (7, 1), padding=(3, 0))


class InceptionA(nn.Module):
    """1x1; 5x5; two 3x3; pool."""

    def __init__(self, c_in: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = ConvUnit(c_in, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = ConvUnit(c_in, 48, 1), ConvUnit(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvUnit(c_in, 64, 1), ConvUnit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, padding=1)
        self.pool, self.branch_pool = nn.AvgPool2d(3, 1, padding=1), ConvUnit(c_in, pool, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map to feature map, the branches' channels joined."""
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(branches, 1)


class InceptionB(nn.Module):
    """Half the size: 3x3; two 3x3; pool."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch3x3 = ConvUnit(c_in, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvUnit(c_in, 64, 1), ConvUnit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvUnit(96, 96, 3, stride=2)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map to feature map, the branches' channels joined."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, self.pool(x)], 1)


class InceptionC(nn.Module):
    """1x1; 7x7 as 1x7 and 7x1; that twice; pool."""

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = ConvUnit(c_in, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = ConvUnit(c_in, width, 1), _wide(width, width)
        self.branch7x7_3 = _high(width, 192)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = ConvUnit(c_in, width, 1), _high(width, width)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _wide(width, width), _high(width, width)
        self.branch7x7dbl_5 = _wide(width, 192)
        self.pool, self.branch_pool = nn.AvgPool2d(3, 1, padding=1), ConvUnit(c_in, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map to feature map, the branches' channels joined."""
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branches = [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(branches, 1)


class InceptionD(nn.Module):
    """Half the size: 3x3; 7x7 as 1x7 and 7x1, 3x3; pool."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = ConvUnit(c_in, 192, 1), ConvUnit(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = ConvUnit(c_in, 192, 1), _wide(192, 192)
        self.branch7x7x3_3, self.branch7x7x3_4 = _high(192, 192), ConvUnit(192, 192, 3, stride=2)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map to feature map, the branches' channels joined."""
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), self.pool(x)], 1)


class InceptionE(nn.Module):
    """1x1; 1x3 beside 3x1; 3x3, then 1x3 beside 3x1; pool."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch1x1 = ConvUnit(c_in, 320, 1)
        self.branch3x3_1 = ConvUnit(c_in, 384, 1)
        self.branch3x3_2a = ConvUnit(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvUnit(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = ConvUnit(c_in, 448, 1), ConvUnit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvUnit(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvUnit(384, 384, (3, 1), padding=(1, 0))
        self.pool, self.branch_pool = nn.AvgPool2d(3, 1, padding=1), ConvUnit(c_in, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map to feature map, the branches' channels joined."""
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(branches, 1)


STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


class InceptionV3(nn.Module):
    """Images (N,C,H,W) of at least 75 pixels to a feature map (N,2048,h,w), 8 x 8 for 299 pixels.

    Temporal modules sit as in InceptionV1 (our choice: no source says).
    """

    preprocessing = HALF
    published = torchvision_imagenet("inception_v3_google-0cc3c7bd.pth", preprocessing, size=299)
    min_size = 75
    sites = Sites(
        shift=tuple(Site(f"Mixed_{name}") for name in BLOCKS),
        aggregation=tuple(Site(name, after=True) for name in (*STEM, *(f"Mixed_{name}" for name in BLOCKS))),
        non_local=tuple(Site(f"Mixed_{name}", after=True) for name in ("5d", "6b", "6d")),
    )

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvUnit(in_channels, 32, 3, stride=2)
        self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = ConvUnit(32, 32, 3), ConvUnit(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = ConvUnit(64, 80, 1), ConvUnit(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = InceptionA(192, 32), InceptionA(256, 64), InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b, self.Mixed_6c = InceptionC(768, 128), InceptionC(768, 160)
        self.Mixed_6d, self.Mixed_6e = InceptionC(768, 160), InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b, self.Mixed_7c = InceptionE(1280), InceptionE(2048)
        self.num_features = 2048

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) to a feature map (N,2048,h,w)."""
        for child in self.children():  # in the order in which they were set
            x = child(x)
        return x
