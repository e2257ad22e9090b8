"""torchvision's image networks, EfficientNet-Lite's, the 2021 study's video networks over them, those of TSM's authors."""

import contextlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import peers
import torch
import torch.nn.functional as F
from case import Case, Pair
from torch import nn

from muybridge.zoo import VideoModel, create
from muybridge.zoo.base import IMAGENET

FRAMES, SIZE = 8, 80
"""80 pixels halve to 5, so that paddings and rounding at the edges are proved, too."""


def _images(ours: str, network: str, size: int, *, transforms: bool = False, **options: Any) -> Case:
    """The whole image network, its classifier too, on clips of one frame.

    `transforms`: the peer gets images in ImageNet's preprocessing, and ours in its own.
    """

    def answer(peer: nn.Module, clip_BCTHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = clip_BCTHW[:, :, 0]
        if transforms:
            mean, std = (
                torch.tensor(values, dtype=x_BCHW.dtype)[:, None, None] for values in (IMAGENET.mean, IMAGENET.std)
            )
            x_BCHW = (x_BCHW * 0.5 + 0.5 - mean) / std
        return peer(x_BCHW)

    def make() -> Pair:
        peer = getattr(peers.torchvision().models, network)(weights=None, **options)
        return Pair(peer, create(ours, num_classes=1000, num_frames=1), torch.randn(2, 3, 1, size, size), answer)

    return Case(ours, f"torchvision {network}", make)


def _lite(size: int) -> Pair:
    """The package's network with borders that depend on the image, as TensorFlow's do; it fixes those of one size else."""
    from efficientnet_lite_pytorch import EfficientNet

    peer = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    ours = create("tsn_efficientnet_lite0", num_classes=1000, num_frames=1)
    return Pair(peer, ours, torch.randn(2, 3, 1, size, size), lambda peer, x_BCTHW: peer(x_BCTHW[:, :, 0]))


def _pair(name: str, peer: nn.Module, temporal_pooling: bool, *, size: int = SIZE, folded: bool = False) -> Pair:
    """A video network against ours; `folded`: the peer takes (B,T·C,H,W)."""
    ours: VideoModel = create(name, num_classes=7, num_frames=FRAMES, temporal_pooling=temporal_pooling)
    clip_BCTHW = torch.randn(2, 3, FRAMES, size, size)
    if folded:
        return Pair(peer, ours, clip_BCTHW, lambda peer, x_BCTHW: peer(x_BCTHW.transpose(1, 2).flatten(1, 2)))
    return Pair(peer, ours, clip_BCTHW, lambda peer, x_BCTHW: peer(x_BCTHW))


def _study_2d(name: str, depth: int | None, tam: bool, pooling: bool) -> Pair:
    peers.path("action-recognition-pytorch")
    from models.twod_models.inception_v1 import inception_v1
    from models.twod_models.resnet import resnet

    options: dict[str, Any] = {
        "num_classes": 7, "without_t_stride": not pooling, "groups": FRAMES, "dropout": 0.5, "pooling_method": "max",
        "temporal_module_name": "TAM" if tam else None, "dw_conv": not name.startswith("tconv"), "blending_frames": 3,
        "blending_method": "sum", "imagenet_pretrained": False,
    }  # fmt: skip
    peer = inception_v1(**options) if depth is None else resnet(depth, **options)
    return _pair(name, peer, pooling, folded=True)


def _study_3d(name: str, depth: int | None, pooling: bool) -> Pair:
    peers.path("action-recognition-pytorch")
    from models.threed_models.i3d import I3D
    from models.threed_models.i3d_resnet import I3D_ResNet
    from models.threed_models.s3d import S3D
    from models.threed_models.s3d_resnet import S3D_ResNet

    separable = name.startswith("s3d")
    options = {"num_classes": 7, "without_t_stride": not pooling}
    if depth is not None:
        return _pair(name, (S3D_ResNet if separable else I3D_ResNet)(depth, **options), pooling)
    peer = (S3D if separable else I3D)(**options)
    if separable:
        peer.pooling_functor = _padded
    return _pair(name, peer, pooling)


def _padded(x_BCTHW: torch.Tensor, kernel_size: Any, stride: Any, padding: Any = 0) -> torch.Tensor:
    """Replace the last pool of the study's S3D on InceptionV1 by one of 3x3x3, padded by 1, like the others.

    It is 2x2x2 without padding, which loses a frame.
    """
    if kernel_size == 2:
        kernel_size, padding = 3, 1
    return F.max_pool3d(x_BCTHW, kernel_size, stride, padding)


def _study(name: str, pooling: bool) -> Case:
    method, backbone = name.split("_")
    depth = int(backbone.removeprefix("resnet")) if backbone.startswith("resnet") else None
    make: Callable[[], Pair]
    if method in ("i3d", "s3d"):
        make = partial(_study_3d, name, depth, pooling)
    else:
        make = partial(_study_2d, name, depth, method != "tsn", pooling)
    mended = ", its last pool padded" if name == "s3d_inceptionv1" else ""
    return Case(name, f"IBM/action-recognition-pytorch{', temporal pooling' if pooling else ''}{mended}", make)


def _tsm(name: str) -> Pair:
    peers.torchvision()
    peers.path("temporal-shift-module")
    from ops.models import TSN

    with contextlib.redirect_stdout(io.StringIO()):
        peer = TSN(
            7, FRAMES, "RGB", base_model=name.split("_")[1], pretrain="", partial_bn=False,
            is_shift=name.startswith("tsm"), non_local=name.startswith("nln"),
        )  # fmt: skip
    return _pair(name, peer, False, size=112, folded=True)  # layer3's maps are odd: non-local blocks leave out a row


CASES = [
    _images("tsn_resnet18", "resnet18", SIZE),
    _images("tsn_resnet50", "resnet50", SIZE),
    _images("tsn_inceptionv1", "googlenet", SIZE, transforms=True, transform_input=True, init_weights=False),
    _images("tsn_inceptionv3", "inception_v3", 99, transforms=True, transform_input=True, init_weights=False),
    _images("tsn_vgg16", "vgg16", 96),
    _images("tsn_mobilenet_v2", "mobilenet_v2", SIZE),
    *(
        Case("tsn_efficientnet_lite0", f"efficientnet-lite-pytorch, {size} pixels", partial(_lite, size))
        for size in (SIZE, 97)
    ),
    *(
        _study(f"{method}_{backbone}", pooling)
        for method in ("tsn", "tam", "tconv", "i3d", "s3d")
        for backbone in ("resnet18", "resnet50", "inceptionv1")
        for pooling in (False, True)
    ),
    *(Case(name, "mit-han-lab/temporal-shift-module", partial(_tsm, name)) for name in (
        "tsn_resnet50", "tsm_resnet18", "tsm_resnet50", "nln_resnet50",
    )),
]  # fmt: skip
