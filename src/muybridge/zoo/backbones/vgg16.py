"""VGG16 (Simonyan and Zisserman 2014) up to its last 4096-wide layer, parameter names as torchvision's."""

import torch
from torch import nn

from muybridge.zoo.backbones.published import torchvision_imagenet
from muybridge.zoo.base import IMAGENET

WIDTHS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")


class VGG16(nn.Module):
    """Images (N,C,H,W) to vectors (N,4096). The feature map is averaged to 7 x 7 first, which it is at 224 pixels."""

    preprocessing = IMAGENET
    published = torchvision_imagenet("vgg16-397923af.pth", preprocessing)
    averages_features = True
    """TSN over VGG16 averages the segments' vectors before the last layer (learning report), not their logits."""

    def __init__(self, *, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for width in WIDTHS:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
        )  # fmt: skip
        self.num_features = 4096
        for module in self.classifier:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) to vectors (N,4096)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
