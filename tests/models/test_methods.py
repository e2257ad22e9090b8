"""What each temporal method does to a clip."""

import pytest
import torch
import torch.nn.functional as F

from muybridge.models import create
from muybridge.models.temporal.aggregation import TemporalAggregation
from muybridge.models.temporal.frames import FrameAxis, TemporalPool
from muybridge.models.temporal.shift import TemporalShift


def folded(x_BTCHW, *, channels_last):
    x_NCHW = x_BTCHW.flatten(0, 1)
    return x_NCHW.contiguous(memory_format=torch.channels_last) if channels_last else x_NCHW


def axis_of(clips):
    axis = FrameAxis()
    axis.clips = clips
    return axis


@pytest.mark.parametrize("channels_last", [False, True])
def test_shift_moves_an_eighth_from_the_next_and_an_eighth_from_the_previous_frame(channels_last):
    x_BTCHW = torch.randn(2, 5, 16, 3, 4)
    out = TemporalShift(axis_of(2), 16)(folded(x_BTCHW, channels_last=channels_last)).unflatten(0, (2, 5))
    assert torch.equal(out[:, :-1, :2], x_BTCHW[:, 1:, :2])
    assert torch.equal(out[:, -1, :2], torch.zeros(2, 2, 3, 4))
    assert torch.equal(out[:, 1:, 2:4], x_BTCHW[:, :-1, 2:4])
    assert torch.equal(out[:, 0, 2:4], torch.zeros(2, 2, 3, 4))
    assert torch.equal(out[:, :, 4:], x_BTCHW[:, :, 4:])


@pytest.mark.parametrize("channels_last", [False, True])
def test_aggregation_is_a_depthwise_temporal_convolution_and_relu(channels_last):
    x_BTCHW = torch.randn(2, 6, 8, 3, 5)
    module = TemporalAggregation(axis_of(2), 8)
    out = module(folded(x_BTCHW, channels_last=channels_last)).unflatten(0, (2, 6))
    weight_C1T11 = module.conv.weight[..., None]
    reference = F.relu(F.conv3d(x_BTCHW.transpose(1, 2), weight_C1T11, padding=(1, 0, 0), groups=8)).transpose(1, 2)
    assert torch.allclose(out, reference, atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
def test_temporal_pooling_takes_the_maximum_of_three_frames(channels_last):
    x_BTCHW = torch.randn(2, 7, 4, 3, 5)
    axis = axis_of(2)
    out = TemporalPool(axis)(folded(x_BTCHW, channels_last=channels_last))
    reference = F.max_pool3d(x_BTCHW.transpose(1, 2), (3, 1, 1), (2, 1, 1), (1, 0, 0)).transpose(1, 2)
    assert torch.equal(out.unflatten(0, (2, 4)), reference)


def logits(name, x_BCTHW):
    torch.manual_seed(0)
    model = create(name, num_classes=5, num_frames=8).eval()
    with torch.no_grad():
        return model(x_BCTHW)


@pytest.mark.parametrize("method", ["tsn", "tsm", "tam", "i3d", "s3d"])
def test_only_tsn_is_blind_to_the_order_of_frames(method):
    x_BCTHW = torch.randn(2, 3, 8, 32, 32)
    same = torch.allclose(
        logits(f"{method}_resnet_tiny", x_BCTHW), logits(f"{method}_resnet_tiny", x_BCTHW.flip(2)), atol=1e-5
    )
    assert same == (method == "tsn")


def test_the_shortcut_of_tsm_is_unshifted():
    """With its residual branch silenced, a block passes on what it was given."""
    torch.manual_seed(0)
    block = create("tsm_resnet_tiny", num_classes=5).backbone.layer1[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)
    block.conv1.before._axis.clips = 2
    x_NCHW = torch.rand(8, 16, 4, 4)
    assert torch.allclose(block(x_NCHW), x_NCHW)
