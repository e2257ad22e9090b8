"""Layers over volumes x_BCTHW, for networks that are 3D from the start; kernels and strides are (time, height, width)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError

Sides = tuple[int, int, int]
Padding = Literal["same", "half", "valid"]
"""Zeros around a volume. The first two differ where the stride is above 1.

"same": TensorFlow's, which leaves ⌈size / stride⌉; an odd one is larger behind. "half": (kernel - 1) // 2 on each side.
"valid": none.
"""


def padding_around(size: int, kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Padding along one axis: (in front, behind)."""
    if padding == "same":
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2
    half = (kernel - 1) // 2 if padding == "half" else 0
    return half, half


def convolve(conv: nn.Conv3d, x_BCTHW: torch.Tensor, pads: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Apply a convolution with `pads` zeros in front of and behind each axis, instead of its own padding.

    Where the kernel is longer than an axis, the zeros are put there beforehand. Otherwise oneDNN computes the gradient of
    bfloat16 weights from unset memory, and may write out of bounds (seen with torch 2.13 on AVX512-BF16, for example
    3 x 3 x 3 on two frames).
    """
    spans = [(k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    is_longer = any(size < span for size, span in zip(x_BCTHW.shape[2:], spans, strict=True))
    if is_longer or any(front != behind for front, behind in pads):
        x_BCTHW = F.pad(x_BCTHW, [side for pair in reversed(pads) for side in pair])
        pads = [(0, 0)] * 3
    around = tuple(front for front, _ in pads)
    if getattr(conv, "by_onednn", False) and len(x_BCTHW) == 1 and not torch.compiler.is_compiling():
        return torch.mkldnn_convolution(
            x_BCTHW, conv.weight, conv.bias, around, conv.stride, conv.dilation, conv.groups
        )  # fmt: skip
    return F.conv3d(x_BCTHW, conv.weight, conv.bias, conv.stride, around, conv.dilation, conv.groups)


def single_clips_by_onednn(net: nn.Module) -> int:
    """Let oneDNN convolve single clips, too, in a network in fp32 on a CPU that only answers.

    torch itself takes a plain loop there where the feature map is small, two to three times slower (torch 2.13). Batches of
    several clips go to oneDNN anyway. Returns the number of convolutions: of those that `convolve` computes.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    own: list[Any] = [each for each in net.modules() if hasattr(each, "by_onednn")]
    for conv in own:
        conv.by_onednn = conv.weight.dtype == torch.float32
    return sum(conv.by_onednn for conv in own)


class Conv(nn.Conv3d):
    """A 3D convolution, padded with zeros."""

    by_onednn = False
    """Whether oneDNN convolves single clips, too (`single_clips_by_onednn`)."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Sides,
        stride: Sides = (1, 1, 1),
        *,
        padding: Padding = "same",
        bias: bool = False,
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, bias=bias)
        self._padding: Padding = padding

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Convolve x_BCTHW."""
        axes = zip(x_BCTHW.shape[2:], self.kernel_size, self.stride, strict=True)
        pads = [padding_around(size, kernel, stride, self._padding) for size, kernel, stride in axes]
        return convolve(self, x_BCTHW, pads)


class ConvUnit(nn.Module):
    """A convolution without bias (or several, one after the other), norm, ReLU."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm3d(channels, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Apply the three to x_BCTHW."""
        return self.relu(self.bn(self.conv(x_BCTHW)))


class Pool(nn.Module):
    """Maximum or mean of a window, over the pixels of each frame, then over frames. Padding counts for neither.

    (The gradient of torch's 3D pools is not repeatable on CUDA; that of the 2D ones is.)
    """

    def __init__(
        self,
        kernel: Sides,
        stride: Sides = (1, 1, 1),
        *,
        padding: Padding | Sides = "same",
        kind: Literal["max", "mean"] = "max",
    ) -> None:
        """`padding` as three numbers is that on each side of each axis."""
        super().__init__()
        self.kernel, self.stride, self.padding, self.kind = kernel, stride, padding, kind

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Pool x_BCTHW."""
        (kt, *pixels), (st, *steps) = self.kernel, self.stride
        before_t, *before = self._before(x_BCTHW)
        clips = x_BCTHW.shape[0]
        x_NCHW = self._pool(x_BCTHW.transpose(1, 2).flatten(0, 1), pixels, steps, before)
        y_BCTHW = x_NCHW.unflatten(0, (clips, -1)).transpose(1, 2)
        if kt == st == 1:
            return y_BCTHW
        y_BTHWC = y_BCTHW.permute(0, 2, 3, 4, 1)
        y_B1TP = self._pool(y_BTHWC.flatten(2).unsqueeze(1), [kt, 1], [st, 1], [before_t, 0])
        return y_B1TP.squeeze(1).unflatten(2, y_BTHWC.shape[2:]).permute(0, 4, 1, 2, 3)

    def _before(self, x_BCTHW: torch.Tensor) -> list[int]:
        padding = self.padding
        if not isinstance(padding, str):
            return list(padding)
        axes = zip(x_BCTHW.shape[2:], self.kernel, self.stride, strict=True)
        return [padding_around(size, kernel, stride, padding)[0] for size, kernel, stride in axes]

    def _pool(self, x: torch.Tensor, kernel: list[int], stride: list[int], before: list[int]) -> torch.Tensor:
        more_behind = self.padding == "same"  # windows may run over the far edge: by one, where the padding is odd
        if self.kind == "max":
            return F.max_pool2d(x, kernel, stride, before, ceil_mode=more_behind)
        return F.avg_pool2d(x, kernel, stride, before, ceil_mode=more_behind, count_include_pad=False)


def refuse_temporal_pooling(name: str, temporal_pooling: bool) -> None:
    """Raise UserError if temporal pooling is asked of a network that halves time where its paper says."""
    if temporal_pooling:
        raise UserError(
            f"{name}: it has no temporal pooling, as where it halves time is part of it. Set "
            "model.temporal_pooling=false"
        )
