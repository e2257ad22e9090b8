"""Layers of 3D networks against torch's own over volumes padded by hand."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from muybridge.zoo.volumes import Conv, Pool, convolve

CASES = [
    ((3, 3, 3), (2, 2, 2)),
    ((1, 3, 3), (1, 2, 2)),
    ((2, 2, 2), (2, 2, 2)),
    ((7, 7, 7), (2, 2, 2)),
    ((3, 3, 3), (1, 1, 1)),
    ((7, 1, 1), (2, 1, 1)),
]
SIZES = [(8, 8, 8), (9, 7, 8), (7, 9, 10)]


def volume(size, *, channels_last):
    torch.manual_seed(0)
    x_BCTHW = torch.randn(2, 4, *size, dtype=torch.float64)
    return x_BCTHW.contiguous(memory_format=torch.channels_last_3d) if channels_last else x_BCTHW


def padded_like_tensorflow(x_BCTHW, kernel, stride, value):
    pads = []
    for size, k, s in reversed(list(zip(x_BCTHW.shape[2:], kernel, stride, strict=True))):
        total = max(k - (size % s or s), 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x_BCTHW, pads, value=value)


def test_same_padding_is_tensorflows():
    for (kernel, stride), size, channels_last in product(CASES, SIZES, (False, True)):
        same_padding_is_tensorflows(kernel, stride, size, channels_last)


def same_padding_is_tensorflows(kernel, stride, size, channels_last):
    case = f"kernel {kernel}, stride {stride}, size {size}, channels last: {channels_last}"
    x_BCTHW = volume(size, channels_last=channels_last)
    conv = Conv(4, 5, kernel, stride).double()
    zeros = padded_like_tensorflow(x_BCTHW, kernel, stride, 0.0)
    reference = F.conv3d(zeros, conv.weight, stride=stride)
    assert reference.shape[2:] == tuple(-(-n // s) for n, s in zip(size, stride, strict=True)), case
    assert torch.allclose(conv(x_BCTHW), reference, atol=1e-12), case

    lowest = padded_like_tensorflow(x_BCTHW, kernel, stride, float("-inf"))
    assert torch.equal(Pool(kernel, stride)(x_BCTHW), F.max_pool3d(lowest, kernel, stride)), case

    inside = padded_like_tensorflow(torch.ones_like(x_BCTHW), kernel, stride, 0.0)
    means = F.avg_pool3d(zeros, kernel, stride) / F.avg_pool3d(inside, kernel, stride)
    assert torch.allclose(Pool(kernel, stride, kind="mean")(x_BCTHW), means, atol=1e-12), case


def test_half_and_valid_padding_are_torchs():
    for (kernel, stride), size in product(CASES, SIZES):
        half_and_valid_padding_are_torchs(kernel, stride, size)


def half_and_valid_padding_are_torchs(kernel, stride, size):
    case = f"kernel {kernel}, stride {stride}, size {size}"
    x_BCTHW = volume(size, channels_last=False)
    half = tuple((k - 1) // 2 for k in kernel)
    for padding, around in (("half", half), ("valid", (0, 0, 0))):
        conv = Conv(4, 5, kernel, stride, padding=padding, bias=True).double()
        reference = F.conv3d(x_BCTHW, conv.weight, conv.bias, stride, around)
        assert torch.allclose(conv(x_BCTHW), reference, atol=1e-12), case
        reference = nn.MaxPool3d(kernel, stride, around)(x_BCTHW)
        assert torch.equal(Pool(kernel, stride, padding=padding)(x_BCTHW), reference), case


def test_a_pool_keeps_the_memory_format_and_passes_gradients_to_the_largest():
    x_BCTHW = volume((4, 6, 6), channels_last=True).requires_grad_()
    out = Pool((2, 2, 2), (2, 2, 2))(x_BCTHW)
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    (ours,) = torch.autograd.grad(out.square().sum(), x_BCTHW)
    (reference,) = torch.autograd.grad(F.max_pool3d(x_BCTHW, 2).square().sum(), x_BCTHW)
    assert torch.equal(ours, reference)


@pytest.mark.parametrize(
    ("kernel", "size"), [((3, 3, 3), (2, 5, 5)), ((7, 1, 1), (3, 4, 4)), ((7, 7, 1), (5, 2, 6)), ((1, 5, 5), (2, 1, 1))]
)
def test_bfloat16_gradients_where_a_kernel_is_longer_than_its_axis(kernel, size):
    """On CPUs with AVX512-BF16, oneDNN leaves them unset."""
    torch.manual_seed(0)
    conv = Conv(32, 32, kernel).bfloat16()
    x_BCTHW = torch.randn(2, 32, *size).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    [torch.full((2**k,), 1e30) for k in range(4, 20) for _ in range(4)]  # what unset memory holds
    (ours,) = torch.autograd.grad(conv(x_BCTHW).float().square().sum(), conv.weight)
    exact = conv.double()
    (reference,) = torch.autograd.grad(exact(x_BCTHW.double()).square().sum(), exact.weight)
    assert (ours.double() - reference).abs().max() < 0.02 * reference.abs().max()


@pytest.mark.parametrize("size", [(2, 3, 9), (6, 8, 8)])
def test_convolve_keeps_stride_dilation_groups_and_bias(size):
    conv = nn.Conv3d(4, 6, 3, stride=(1, 2, 1), padding=2, dilation=2, groups=2).double()
    x_BCTHW = volume(size, channels_last=False)
    assert torch.allclose(convolve(conv, x_BCTHW, [(2, 2)] * 3), conv(x_BCTHW), atol=1e-12)
