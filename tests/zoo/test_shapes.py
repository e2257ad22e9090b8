"""Shapes and dtypes are torch's, whatever is skipped on the meta device."""

import pytest
import torch
import torch.nn.functional as F

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
