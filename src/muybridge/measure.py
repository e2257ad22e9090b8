"""What a model costs: parameters and multiply-adds, counted on the meta device (next to no memory or time).

`conv_macs` counts convolutions only, as the 2021 study's "FLOPs" do; `macs` counts linear layers and matrix products
too. Both are for one clip, by torch's own FLOP counter (two FLOPs a multiply-add).
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from muybridge.models import VideoModel, create
from muybridge.models.registry import builds_on_meta


@dataclass(frozen=True)
class Cost:
    """For one clip of `num_frames` x `size` x `size`."""

    model: str
    num_classes: int
    num_frames: int
    size: int
    temporal_pooling: bool
    params: int
    conv_macs: int
    macs: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def count(
    name: str, *, num_classes: int, num_frames: int, size: int, temporal_pooling: bool = False, **options: Any
) -> Cost:
    """Parameters and multiply-adds of a model by name. Raises UserError for an unknown name or too short a clip."""
    # a model of the user's own may compute values as it is built, which the meta device has none of
    with torch.device("meta" if builds_on_meta(name) else "cpu"):
        model = create(
            name, num_classes=num_classes, num_frames=num_frames, temporal_pooling=temporal_pooling, **options
        )
    params, conv_macs, macs = count_module(model, num_frames=num_frames, size=size)
    return Cost(name, num_classes, num_frames, size, temporal_pooling, params, conv_macs, macs)


def count_module(model: VideoModel, *, num_frames: int, size: int) -> tuple[int, int, int]:
    """(params, conv_macs, macs) of a model, on the device it is on."""
    counter = FlopCounterMode(display=False)
    device = next(model.parameters()).device
    with torch.no_grad(), counter:
        model.eval()(torch.zeros(1, 3, num_frames, size, size, device=device))
    flops = counter.get_flop_counts()["Global"]
    conv = sum(n for operation, n in flops.items() if "convolution" in str(operation))
    return sum(p.numel() for p in model.parameters()), conv // 2, sum(flops.values()) // 2
