"""torchvision's video ResNets; SlowFast, Slow, I3D and X3D of PyTorchVideo and of PySlowFast.

PyTorchVideo's and PySlowFast's heads average windows of the size that images have in training; here, where images are
smaller, windows are what is there.
"""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from unittest.mock import MagicMock

import peers
import torch
from case import Case, Pair
from torch import nn

from muybridge.zoo import create

CLASSES = 400
SIZE = 64


def _pair(name: str, peer: nn.Module, frames: int, answer: Callable[..., torch.Tensor]) -> Pair:
    clip_BCTHW = torch.randn(2, 3, frames, SIZE, SIZE)
    clip_BCTHW[1] = 3 * clip_BCTHW[1] + 1  # averages over clips of the same noise would hardly differ
    return Pair(peer, create(name, num_classes=CLASSES), clip_BCTHW, answer)


def _one_pathway(peer: nn.Module, clip_BCTHW: torch.Tensor) -> torch.Tensor:
    return peer(clip_BCTHW)


def _leave_out(*modules: str) -> None:
    """Let imports of modules succeed that are not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            sys.modules[module] = MagicMock(__spec__=None)


def _torchvision(name: str, network: str) -> Pair:
    peer = getattr(peers.torchvision().models.video, network)(weights=None)
    return _pair(name, peer, 10, _one_pathway)  # 10: halved to 5, to 3, to 2 frames


def _pytorchvideo(name: str, frames: int, alpha: int) -> Pair:
    peers.torchvision()
    _leave_out(
        "torchvision.transforms.functional_tensor"
    )  # gone from newer versions; what is used here needs none of it
    from pytorchvideo.models.hub import i3d_r50, slow_r50, slowfast_r50, x3d_m, x3d_s
    from pytorchvideo.transforms.functional import uniform_temporal_subsample_repeated

    makes: dict[str, Callable[[], nn.Module]] = {
        "slowfast_resnet50": slowfast_r50,
        "slowfast_resnet50_4x16": partial(slowfast_r50, fusion_builder=_fusion_4x16),
        "slow_resnet50": slow_r50,
        "i3d_resnet50_kinetics": i3d_r50,
        "x3d_s": x3d_s,
        "x3d_m": x3d_m,
    }

    def two_pathways(peer: nn.Module, clip_BCTHW: torch.Tensor) -> torch.Tensor:
        return peer(list(uniform_temporal_subsample_repeated(clip_BCTHW, (alpha, 1))))

    peer = makes[name]()
    peer.blocks[-1].activation = None  # logits, not probabilities
    return _pair(name, _any_size(peer), frames, two_pathways if alpha > 1 else _one_pathway)


def _any_size(peer: nn.Module) -> nn.Module:
    for module in list(peer.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool3d):
                setattr(module, name, nn.AdaptiveAvgPool3d(1))
    return peer


def _fusion_4x16(fusion_dim_in: int, stage_idx: int) -> nn.Module:
    from pytorchvideo.models.slowfast import FastToSlowFusionBuilder

    builder = FastToSlowFusionBuilder(
        slowfast_channel_reduction_ratio=8, conv_fusion_channel_ratio=2, conv_kernel_size=(5, 1, 1),
        conv_stride=(8, 1, 1), max_stage_idx=3,
    )  # fmt: skip
    return builder.create_module(fusion_dim_in, stage_idx)


_NOT_NEEDED = (
    "slowfast.utils.logging", "slowfast.utils.distributed", "slowfast.models.contrastive", "slowfast.models.masked",
    "slowfast.models.ptv_model_builder", "detectron2", "detectron2.layers", "cv2", "scipy", "scipy.ndimage", "pandas",
    "av",
)  # fmt: skip
"""Modules that PySlowFast's package imports and its convolutional networks do not need."""


def _pyslowfast(name: str, config: str, frames: int) -> Pair:
    peers.torchvision()
    folder = peers.path("SlowFast")
    _leave_out(*_NOT_NEEDED)
    from slowfast.config.defaults import get_cfg
    from slowfast.datasets.utils import pack_pathway_output
    from slowfast.models import video_model_builder

    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "configs/Kinetics" / f"{config}.yaml"))
    peer = getattr(video_model_builder, cfg.MODEL.MODEL_NAME)(cfg)
    peer.head.act = nn.Identity()  # logits, not probabilities

    def answer(peer: nn.Module, clip_BCTHW: torch.Tensor) -> torch.Tensor:
        pathways = [pack_pathway_output(cfg, clip) for clip in clip_BCTHW]
        return peer([torch.stack(clips) for clips in zip(*pathways, strict=True)])

    return _pair(name, _any_size(peer), frames, answer)


CASES = [
    *(
        Case(name, f"torchvision {network}", partial(_torchvision, name, network))
        for name, network in (("r3d_resnet18", "r3d_18"), ("mc3_resnet18", "mc3_18"), ("r2plus1d_resnet18", "r2plus1d_18"))
    ),
    *(
        Case(name, "PyTorchVideo", partial(_pytorchvideo, name, frames, alpha))
        for name, frames, alpha in (
            ("slowfast_resnet50", 32, 4), ("slowfast_resnet50_4x16", 32, 8), ("slow_resnet50", 8, 1),
            ("i3d_resnet50_kinetics", 8, 1), ("x3d_s", 13, 1), ("x3d_m", 16, 1),
        )
    ),
    *(
        Case(name, f"facebookresearch/SlowFast, {config}", partial(_pyslowfast, name, config, frames))
        for name, config, frames in (
            ("slowfast_resnet50", "SLOWFAST_8x8_R50", 32), ("slowfast_resnet50_4x16", "SLOWFAST_4x16_R50", 32),
            ("slow_resnet50", "SLOW_8x8_R50", 8), ("i3d_resnet50_kinetics", "I3D_8x8_R50", 8),
            ("x3d_s", "X3D_S", 13), ("x3d_m", "X3D_M", 16),
        )
    ),
]  # fmt: skip
