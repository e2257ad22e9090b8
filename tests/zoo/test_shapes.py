"""Shapes and dtypes are torch's, whatever is skipped on the meta device."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from muybridge.zoo.shapes import Shapes

CASES = {
    "add": lambda x, b, i: x + b,
    "the smaller first": lambda x, b, i: b + x,
    "by keyword": lambda x, b, i: b.add(other=x),
    "a function by keyword": lambda x, b, i: torch.add(b, other=x),
    "all by keyword": lambda x, b, i: torch.add(input=x, other=b),
    "a number first": lambda x, b, i: torch.add(1, x),
    "a number": lambda x, b, i: x + 1,
    "alpha": lambda x, b, i: torch.add(x, x, alpha=2),
    "integers divided": lambda x, b, i: i / 2,
    "integers and a float": lambda x, b, i: i + 0.5,
    "integers and floats": lambda x, b, i: i + x,
    "halves and floats": lambda x, b, i: x.half() + x,
    "in place": lambda x, b, i: x.add_(b),
    "in place, too small": lambda x, b, i: b.add_(x),
    "copied": lambda x, b, i: x.copy_(b),
    "copied, too small": lambda x, b, i: b.copy_(x),
    "relu": lambda x, b, i: F.relu(x),
    "silu": lambda x, b, i: F.silu(x, inplace=True),
    "a norm": lambda x, b, i: F.batch_norm(x, b, b),
    "a norm by keyword": lambda x, b, i: F.batch_norm(x, running_mean=b, running_var=b),
    "a norm that does not fit": lambda x, b, i: F.batch_norm(x, b[:2], b[:2]),
    "zeros": lambda x, b, i: torch.zeros(2, 3, dtype=torch.int64, device="meta"),
}


def outcome(case):
    x, b, i = torch.empty(2, 3, device="meta"), torch.empty(3, device="meta"), torch.empty(2, 3, device="meta").long()
    try:
        out = case(x, b, i)
    except (RuntimeError, ValueError) as error:
        return type(error).__name__
    return tuple(out.shape), out.dtype


@pytest.mark.parametrize("name", CASES)
def test_a_skipped_operation_gives_torchs_shape_and_dtype(name):
    expected = outcome(CASES[name])
    with Shapes():
        assert outcome(CASES[name]) == expected


VALUES = {
    "zeros": lambda x: torch.zeros(1000),
    "ones": lambda x: torch.ones(1000, dtype=torch.int64),
    "drawn": lambda x: torch.nn.init.constant_(x, 3.0),
    "filled": lambda x: x.fill_(2.0),
    "copied": lambda x: x.copy_(torch.full_like(x, 5.0)),
    "added": lambda x: x.add_(1.0),
    "a sum": lambda x: x + x,
    "relu": lambda x: F.relu(-x, inplace=True),
    "a norm": lambda x: F.batch_norm(x, torch.full((3,), 0.5), torch.ones(3)),
}


@pytest.mark.parametrize("name", VALUES)
def test_tensors_with_values_keep_them(name):
    """A network's table of positions, say, which it makes in its first pass and keeps."""
    expected = VALUES[name](torch.full((2, 3), 7.0))
    with Shapes():
        assert torch.equal(VALUES[name](torch.full((2, 3), 7.0)), expected)


class Dispatched(TorchDispatchMode):
    """Names of the operations that reach torch."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_layers_without_multiply_adds_do_not_reach_torch():
    """Decomposing them in Python would take most of the time."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.SiLU())
    with Dispatched() as plain, torch.no_grad():
        net.eval()(torch.empty(1, 3, 8, 8, device="meta"))
    assert any("norm" in name for name in plain.names)
    with Dispatched() as skipped, torch.no_grad(), Shapes():
        net(torch.empty(1, 3, 8, 8, device="meta"))
    assert any("convolution" in name for name in skipped.names)
    assert not [name for name in skipped.names if "norm" in name or "relu" in name or "silu" in name]
