"""Frames folded into the batch, so that every image network runs on clips unchanged.

TSN (Wang et al. 2016) is just that. The other methods put modules into the image network that look along time, or put
3D convolutions in the place of its 2D ones; such a module must know how the N images of a folded batch fall into
clips, and asks `FrameAxis`. Batch norms over folded frames are those over volumes, 1x1 convolutions and pools of
single frames, too, so that nothing else of the image network has to change.
"""

import threading
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo.anatomy import Anatomy, Site
from muybridge.zoo.base import VideoModel
from muybridge.zoo.volumes import convolve


class FrameAxis(threading.local):
    """The division of a folded batch into clips.

    Each clip's frames lie side by side; how many they are may change on the way through the network, how many clips there
    are does not.

    Every thread has its own number of clips, so that several may use one model at a time. (Activation checkpointing of a
    part of the network computes that part again, later: batches of one size only, until the gradients are there.)
    """

    clips = 1

    def __reduce__(self) -> tuple[type["FrameAxis"], tuple[()]]:
        return FrameAxis, ()  # a copy starts anew: the number is set with each clip that comes in

    def unfold(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(B·T,C,H,W) as x_BCTHW; no copy."""
        return x_NCHW.unflatten(0, (self.clips, -1)).transpose(1, 2)

    def fold(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """x_BCTHW as (B·T,C,H,W); no copy where x is channels-last."""
        return x_BCTHW.transpose(1, 2).flatten(0, 1)

    def pixels(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """(B·T,C,H,W) as x_BTSC, S = H·W; no copy where x is channels-last."""
        frames = x_NCHW.shape[0] // self.clips
        return x_NCHW.permute(0, 2, 3, 1).reshape(self.clips, frames, -1, x_NCHW.shape[1])

    def images(self, x_BTSC: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """x_BTSC as (B·T,C,H,W), for any T."""
        return x_BTSC.reshape(-1, height, width, x_BTSC.shape[-1]).permute(0, 3, 1, 2)


class FramesNet(VideoModel):
    """An image network on every frame. Its output may be a feature map (N,D,h,w), vectors (N,D) or tokens (N,L,D)."""

    def __init__(
        self,
        backbone: nn.Module,
        axis: FrameAxis,
        *,
        num_features: int,
        num_classes: int,
        dropout: float,
        min_frames: int = 1,
        min_size: int = 32,
        in_channels: int = 3,
        top: nn.Module | None = None,
    ) -> None:
        """`top`: a module on the vector of every frame, to `num_features` values."""
        super().__init__(num_features, num_classes, dropout=dropout, in_channels=in_channels)
        self.backbone = backbone
        self.top = top
        self.min_frames, self.min_size = min_frames, min_size
        self._axis = axis

    def features(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips x_BCTHW to f_BTD."""
        self._axis.clips = x_BCTHW.shape[0]
        f = self.backbone(x_BCTHW.transpose(1, 2).flatten(0, 1))
        if f.dim() == 4:
            f = f.mean((2, 3))
        elif f.dim() == 3:
            f = f.mean(1)
        if self.top is not None:
            f = self.top(f)
        return f.unflatten(0, (x_BCTHW.shape[0], -1))

    def fresh_names(self) -> tuple[str, ...]:
        """Parameters of the module on every frame's vector: weights of an image network have none."""
        return () if self.top is None else tuple(f"top.{name}" for name in self.top.state_dict())


class TimeConv(nn.Conv2d):
    """A convolution of k x 1 x 1, on folded frames.

    It is a 2D one over (time, pixels): in channels-last far faster on a CPU than a 3D one where it is depthwise.
    """

    def __init__(
        self,
        axis: FrameAxis,
        c_in: int,
        c_out: int,
        taps: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        relu: bool = False,
    ) -> None:
        """`dilation`: frames from tap to tap; `relu`: rectify the output in place (a copy, once it is a view)."""
        padding = dilation * (taps // 2)
        super().__init__(c_in, c_out, (taps, 1), (stride, 1), (padding, 0), (dilation, 1), groups=groups, bias=bias)
        self._axis, self.relu = axis, relu

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames."""
        y_BCTS = super().forward(self._axis.pixels(x_NCHW).permute(0, 3, 1, 2))
        if self.relu:
            y_BCTS = F.relu(y_BCTS, inplace=True)
        return self._axis.images(y_BCTS.permute(0, 2, 3, 1), *x_NCHW.shape[2:])


class VolumeConv(nn.Conv3d):
    """A 3D convolution on folded frames."""

    by_onednn = False
    """Whether oneDNN convolves single clips, too (`muybridge.zoo.volumes.single_clips_by_onednn`)."""

    def __init__(
        self,
        axis: FrameAxis,
        c_in: int,
        c_out: int,
        kernel: tuple[int, int, int],
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        padding: tuple[int, int, int] = (0, 0, 0),
        dilation: tuple[int, int, int] = (1, 1, 1),
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, padding, dilation, groups, bias)
        self._axis = axis

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames to folded frames."""
        pads = [(int(pad), int(pad)) for pad in self.padding]
        return self._axis.fold(convolve(self, self._axis.unfold(x_NCHW), pads))


class TemporalPool(nn.Module):
    """The maximum, or the mean, of three frames: stride 1 keeps T, stride 2 leaves ⌈T/2⌉."""

    def __init__(self, axis: FrameAxis, *, stride: int = 2, kind: Literal["max", "mean"] = "max") -> None:
        super().__init__()
        self._axis, self.stride, self.kind = axis, stride, kind

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames, T to ⌈T/stride⌉."""
        x_BTSC = self._axis.pixels(x_NCHW)
        x_B1TP = x_BTSC.flatten(2).unsqueeze(1)  # columns as channels would be huge: a window of 3 x 1 over (T, P)
        # (max_pool3d's gradient is not repeatable on CUDA, max_pool2d's is)
        pool = F.max_pool2d if self.kind == "max" else partial(F.avg_pool2d, count_include_pad=False)
        y_B1TP = pool(x_B1TP, (3, 1), (self.stride, 1), (1, 0))
        y_BTSC = y_B1TP.squeeze(1).unflatten(2, x_BTSC.shape[2:])
        return self._axis.images(y_BTSC, *x_NCHW.shape[2:])


class EverySecondFrame(nn.Module):
    """Every second frame of each clip, the effect of a stride of 2 along time on a 1x1x1 convolution."""

    def __init__(self, axis: FrameAxis) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Folded frames, T to ⌈T/2⌉."""
        return x_NCHW.unflatten(0, (self._axis.clips, -1))[:, ::2].flatten(0, 1)


def check_dilation(dilation: int) -> None:
    """Raises UserError for a dilation below 1 frame."""
    if dilation < 1:
        raise UserError(f"model.options.dilation: it is {dilation}, but counts frames from tap to tap. Give 1 or more")


def put(net: nn.Module, site: Site, module: nn.Module, *, kind: str = "") -> None:
    """Run `module` in front of a module of `net`, or after it; a later one lies further out.

    No name of `net` changes, so that published weights fit; new parameters are those of `….before` or `….after` (a second
    `kind` of module at the same site: `….KIND_before`). Raises UserError where the site is taken.
    """
    target = net.get_submodule(site.name)
    while isinstance(target, nn.Sequential):  # it would take the new module for one of its own
        target = target[-1] if site.after else target[0]
    slot = ("after" if site.after else "before") if not kind else f"{kind}_{'after' if site.after else 'before'}"
    if hasattr(target, slot):
        raise UserError(f"'{site.name}': it has a module {slot} already. Name another site")
    weight = next(net.parameters(), None)
    setattr(target, slot, module if weight is None else module.to(weight.device, weight.dtype))
    if site.after:
        target.register_forward_hook(partial(_run_after, slot))
    else:
        target.register_forward_pre_hook(partial(_run_before, slot), prepend=True)


def halve_time(net: nn.Module, anatomy: Anatomy, axis: FrameAxis) -> None:
    """Put in temporal pooling of the 2D family (2021 study, supplement).

    A max-pool of 3 frames with stride 2 at each of the last three halvings of the image.
    """
    for site in anatomy.halving_sites():
        put(net, site, TemporalPool(axis), kind="pool")


def draw_weights(net: nn.Module) -> None:
    """Draw fresh weights for all dense convolutions (He et al. 2015)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.groups == 1:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _run_before(slot: str, module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (getattr(module, slot)(args[0]), *args[1:])


def _run_after(slot: str, module: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
    return getattr(module, slot)(out)
