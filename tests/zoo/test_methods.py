"""What each temporal method does to a clip."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo import create
from muybridge.zoo.backbones import inception_v1
from muybridge.zoo.count import count_module, outline
from muybridge.zoo.families import BACKBONES, METHODS, grow
from muybridge.zoo.temporal.aggregation import TemporalAggregation
from muybridge.zoo.temporal.frames import EverySecondFrame, FrameAxis, TemporalPool, VolumeConv
from muybridge.zoo.temporal.non_local import NonLocal
from muybridge.zoo.temporal.shift import TemporalShift


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
def test_a_shift_from_the_past_leaves_the_present_where_the_next_frame_would_be(channels_last):
    x_BTCHW = torch.randn(2, 5, 16, 3, 4)
    module = TemporalShift(axis_of(2), 16, direction="past")
    out = module(folded(x_BTCHW, channels_last=channels_last)).unflatten(0, (2, 5))
    assert torch.equal(out[:, :, :2], x_BTCHW[:, :, :2])
    assert torch.equal(out[:, 1:, 2:4], x_BTCHW[:, :-1, 2:4])
    assert torch.equal(out[:, 0, 2:4], torch.zeros(2, 2, 3, 4))
    assert torch.equal(out[:, :, 4:], x_BTCHW[:, :, 4:])


@pytest.mark.parametrize("direction", ["both", "past"])
def test_the_gradient_of_a_shift_is_that_of_its_slices(direction):
    x_BTCHW = torch.randn(2, 4, 8, 1, 2, dtype=torch.float64, requires_grad=True)
    module = TemporalShift(axis_of(2), 8, share=4, direction=direction)
    assert torch.autograd.gradcheck(lambda x: module(x.flatten(0, 1)), x_BTCHW)


def test_weights_of_a_tsm_keep_their_meaning_when_it_looks_back_only():
    """On a still video both directions see the same frame everywhere, far from the ends of the clip."""
    torch.manual_seed(0)
    both = create("tsm_resnet_tiny", num_classes=5, num_frames=16).eval()
    past = create("tsm_resnet_tiny", num_classes=5, num_frames=16, direction="past").eval()
    past.load_state_dict(both.state_dict())
    x_BCTHW = torch.randn(1, 3, 1, 32, 32).expand(-1, -1, 16, -1, -1)
    with torch.no_grad():
        one, other = both.features(x_BCTHW), past.features(x_BCTHW)
    assert torch.allclose(one[:, 6:10], other[:, 6:10], atol=1e-5)
    assert not torch.allclose(one[:, -1], other[:, -1], atol=1e-3)  # where zeros come from behind the end


def test_a_direction_that_is_none_or_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"^model\.options\.direction: 'future' is unknown. Choose both or past"):
        create("tsm_resnet_tiny", num_classes=5, direction="future")
    with pytest.raises(UserError, match=r"^model\.options\.direction: temporal pooling looks ahead"):
        create("tsm_resnet_tiny", num_classes=5, direction="past", temporal_pooling=True)


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


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].starts_as_identity])
def test_a_method_that_looks_along_time_is_not_blind_to_the_order_of_frames(method):
    x_BCTHW = torch.randn(2, 3, 8, 32, 32)
    same = torch.allclose(
        logits(f"{method}_resnet_tiny", x_BCTHW), logits(f"{method}_resnet_tiny", x_BCTHW.flip(2)), atol=1e-5
    )
    assert same != METHODS[method].looks_along_time


def test_non_local_blocks_are_the_identity_at_their_start():
    """NLN is TSN until its norms move, then it is not, and looks at all frames alike."""
    torch.manual_seed(0)
    tsn, nln = (create(f"{method}_resnet_tiny", num_classes=5).eval() for method in ("tsn", "nln"))
    assert nln.load_state_dict(tsn.state_dict(), strict=False).unexpected_keys == []
    x_BCTHW = torch.randn(2, 3, 8, 64, 64)
    with torch.no_grad():
        assert torch.equal(nln(x_BCTHW), tsn(x_BCTHW))
        for module in nln.modules():
            if isinstance(module, NonLocal):
                module.norm.weight.fill_(1.0)
        before = nln.features(x_BCTHW)
        x_BCTHW[:, :, 7] = 0
        after = nln.features(x_BCTHW)
    assert (before[:, 0] - after[:, 0]).abs().max() > 1e-4  # the first frame has seen that the last one changed


@pytest.mark.parametrize("subsample", [False, True])
def test_a_non_local_block_is_softmax_attention_over_the_clip(subsample):
    torch.manual_seed(0)
    block = NonLocal(axis_of(2), 6, subsample=subsample).eval()
    torch.nn.init.ones_(block.norm.weight)
    x_BCTHW = torch.randn(2, 6, 4, 4, 6)
    with torch.no_grad():
        out = block(x_BCTHW.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 4)).transpose(1, 2)

        def positions(conv, pooled):
            y_BCTHW = F.conv3d(x_BCTHW, conv.weight[:, :, None], conv.bias)
            return (F.max_pool3d(y_BCTHW, (1, 2, 2)) if pooled else y_BCTHW).flatten(2)

        theta_BCP, phi_BCQ, g_BCQ = (
            positions(conv, pooled and subsample)
            for conv, pooled in ((block.theta, False), (block.phi, True), (block.g, True))
        )
        attention_BPQ = torch.softmax(theta_BCP.transpose(1, 2) @ phi_BCQ, dim=2)
        y_BCTHW = (attention_BPQ @ g_BCQ.transpose(1, 2)).transpose(1, 2).unflatten(2, (4, 4, 6))
        z_BCTHW = F.conv3d(y_BCTHW, block.out.weight[:, :, None], block.out.bias)
        reference = x_BCTHW + z_BCTHW / (1 + block.norm.eps) ** 0.5
    assert torch.allclose(out, reference, atol=1e-5)


def test_conv_is_a_dense_temporal_convolution_and_relu():
    x_BCTHW = torch.randn(2, 8, 6, 3, 5)
    module = TemporalAggregation(axis_of(2), 8, dense=True)
    out = module(x_BCTHW.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 6)).transpose(1, 2)
    reference = F.relu(F.conv3d(x_BCTHW, module.conv.weight[..., None], padding=(1, 0, 0)))
    assert torch.allclose(out, reference, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_volume_convolution_on_folded_frames_is_one_on_the_clip(stride):
    x_BCTHW = torch.randn(2, 4, 6, 5, 5)
    conv = VolumeConv(axis_of(2), 4, 8, (3, 3, 3), stride=(stride, 2, 2), padding=(1, 1, 1))
    out = conv(x_BCTHW.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 6 // stride)).transpose(1, 2)
    reference = F.conv3d(x_BCTHW, conv.weight, stride=(stride, 2, 2), padding=1)
    assert torch.allclose(out, reference, atol=1e-5)


@pytest.mark.parametrize(("backbone", "frames", "size"), [("resnet_tiny", 25, 32), ("inceptionv1", 61, 32)])
def test_a_still_clip_through_a_divided_inflation_gives_the_picture_s_response(backbone, frames, size):
    """At the middle frame, where no frame beyond the clip's ends is in sight."""
    torch.manual_seed(0)
    net = BACKBONES[backbone](is_3d=True).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    picture = torch.randn(1, 3, size, size, dtype=torch.double)
    with torch.no_grad():
        response_D = net(picture).mean((2, 3))[0]
        model = (
            grow(METHODS["i3d"], net, num_classes=2, temporal_pooling=False, dropout=0.0, fresh=False).double().eval()
        )
        f_BTD = model.features(picture[:, :, None].expand(-1, -1, frames, -1, -1))
    assert torch.allclose(f_BTD[0, frames // 2], response_D, rtol=1e-9)
    assert not torch.allclose(f_BTD[0, 0], response_D, rtol=1e-3)  # zeros before the first frame are seen


def test_temporal_strides_of_the_3d_resnet_sit_in_the_convolutions_that_halve_the_picture():
    model = create("i3d_resnet50", num_classes=5, temporal_pooling=True)
    strided = {name for name, m in model.named_modules() if isinstance(m, VolumeConv) and m.stride[0] == 2}
    assert strided == {f"backbone.layer{stage}.0.conv2" for stage in (2, 3, 4)}
    thinned = {name for name, m in model.named_modules() if isinstance(m, EverySecondFrame)}
    assert thinned == {f"backbone.layer{stage}.0.downsample.0.before" for stage in (2, 3, 4)}


def test_s3d_keeps_the_picture_s_convolutions_and_adds_temporal_ones():
    model = create("s3d_resnet50", num_classes=5)
    image = create("tsn_resnet50", num_classes=5).state_dict()
    own = model.state_dict()
    assert {name for name in image if name not in own} == set()
    assert {name for name in image if own[name].shape != image[name].shape} == {"backbone.conv1.weight"}
    assert own["backbone.conv1.weight"].shape == (64, 3, 3, 7, 7)
    assert all(".after." in name for name in own if name not in image)


def test_tsm_on_inception_shifts_every_block_s_input():
    model = create("tsm_inceptionv1", num_classes=5)
    sites = [name for name, module in model.named_modules() if isinstance(module, TemporalShift)]
    assert sites == [f"backbone.inception{name}.before" for name in inception_v1.WIDTHS]


def test_tam_on_inception_has_twelve_sites():
    model = create("tam_inceptionv1", num_classes=5)
    assert sum(isinstance(module, TemporalAggregation) for module in model.modules()) == 12


def test_segments_of_vgg16_are_averaged_before_the_last_layer():
    """The answer is the same as the mean of logits, and dropout falls on one vector a clip."""
    with torch.device("meta"):
        assert create("tsn_vgg16", num_classes=5).averages_features
    model = create("tsn_resnet_tiny", num_classes=5, dropout=0.5)
    f_BTD = torch.randn(3, 8, model.num_features)
    logits = model.eval().head(f_BTD)
    model.averages_features = True
    assert torch.allclose(model.head(f_BTD), logits, atol=1e-6)
    seen = []
    model.dropout.register_forward_hook(lambda module, args, out: seen.append(args[0].shape))
    model.train().head(f_BTD)
    assert seen == [(3, 1, model.num_features)]


def test_a_copy_of_a_model_is_whole():
    """Modules put into a network, and its frame axis, are copied with it (EMA, DDP)."""
    model = create("tam_resnet_tiny", num_classes=5, temporal_pooling=True).eval()
    other = copy.deepcopy(model)
    x_BCTHW = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = model(x_BCTHW)
        for parameter in model.parameters():
            parameter.zero_()
        model(x_BCTHW[:1])
        assert torch.equal(other(x_BCTHW), expected)


def test_threads_may_share_a_model():
    model = create("tsm_resnet_tiny", num_classes=5).eval()
    clips = [torch.randn(batch, 3, 8, 32, 32) for batch in (1, 2, 4)]
    with torch.no_grad():
        expected = [model(x_BCTHW) for x_BCTHW in clips]
    wrong = []

    def use(index):
        with torch.no_grad():
            for _ in range(25):
                if not torch.allclose(model(clips[index]), expected[index], atol=1e-5):
                    wrong.append(index)

    threads = [threading.Thread(target=use, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("size", [(5, 7), (7, 7), (1, 1), (1, 3)])
def test_a_non_local_block_leaves_out_an_odd_last_row_but_never_all(size):
    block = NonLocal(axis_of(1), 4)
    sampled = block._sampled(torch.zeros(2, 2, *size))
    assert sampled.shape[2:] == tuple(max(1, side // 2) if min(size) > 1 else -(-side // 2) for side in size)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("tsm_resnet_tiny", "share", 0),
        ("tsm_resnet_tiny", "share", -4),
        ("tsm_resnet_tiny", "share", 64),
        ("tsm_resnet_tiny", "share", "abc"),
        ("tsm_resnet_tiny", "share", True),
        ("tam_resnet_tiny", "taps", 2),
        ("tam_resnet_tiny", "taps", 0),
        ("tam_resnet_tiny", "taps", 3.0),
        ("tam_resnet_tiny", "dilation", 0),
        ("tconv_resnet_tiny", "dilation", -1),
        ("i3d_resnet_tiny", "dilation", 0),
        ("s3d_resnet_tiny", "dilation", 0),
        ("s3d_resnet_tiny", "dilation", 2.0),
        ("nln_resnet_tiny", "subsample", "no"),
        ("s3dv3", "aux", 0),
    ],
)
def test_options_of_the_wrong_kind_or_size_are_refused(name, option, value):
    with torch.device("meta"), pytest.raises(UserError, match=rf"{option}|one channel in"):
        create(name, num_classes=5, num_frames=64, **{option: value})


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_impossible_heads_are_refused(arguments):
    with pytest.raises(UserError, match="num_classes, in_channels or dropout is out of range"):
        create("tsm_resnet_tiny", **{"num_classes": 5, **arguments})


def test_modules_take_the_image_network_s_type():
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))

    x_BCTHW = torch.randn(2, 3, 8, 64, 64, dtype=torch.double)
    for method in METHODS.values():
        model = grow(method, Net().double(), num_classes=5, temporal_pooling=False, dropout=0.0, fresh=False)
        assert model.backbone(x_BCTHW.transpose(1, 2).flatten(0, 1)).dtype == torch.double


def test_convolutions_that_share_their_weight_share_it_in_3d():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    net[3].weight = net[1].weight
    model = grow(METHODS["i3d"], net, num_classes=5, temporal_pooling=False, dropout=0.0, fresh=False)
    assert model.backbone[1].weight is model.backbone[3].weight
    assert model.backbone[1].weight.shape == (8, 8, 3, 3, 3)


@pytest.mark.parametrize("method", ["i3d", "s3d"])
def test_a_convolution_that_is_not_met_is_told(method):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

        def forward(self, x):
            return self.b(input=self.a(x))

    with pytest.raises(UserError, match="Net: its convolution 'b' is not met"):
        grow(METHODS[method], Net(), num_classes=5, temporal_pooling=False, dropout=0.0, fresh=False)


DILATED = ["tam", "tconv", "i3d", "s3d"]
"""Methods with the option `dilation`."""


def frames_seen(model, frame, num_frames=12):
    """The frames of a clip that the features at one of them depend on."""
    x_BCTHW = torch.rand(2, 3, num_frames, 32, 32, requires_grad=True)
    features_BTD = model.eval().features(x_BCTHW)
    assert features_BTD.shape[1] == num_frames
    [gradient] = torch.autograd.grad(features_BTD[:, frame].sum(), x_BCTHW)
    return set(gradient.abs().sum((0, 1, 3, 4)).nonzero().flatten().tolist())


@pytest.mark.parametrize("method", DILATED)
@pytest.mark.parametrize("dilation", [1, 3])
def test_dilation_spreads_the_taps_along_time(method, dilation):
    """One temporal convolution: its three taps, fewer at the ends of the clip. A stem of one pixel is none."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    model = grow(
        METHODS[method], net, num_classes=2, temporal_pooling=False, dropout=0.0, fresh=True, dilation=dilation
    )
    assert frames_seen(model, 5) == {5 - dilation, 5, 5 + dilation}
    assert frames_seen(model, 0) == {0, dilation}
    assert frames_seen(model, 11) == {11 - dilation, 11}


@pytest.mark.parametrize("method", ["i3d", "s3d"])
def test_dilation_spreads_the_stem_and_leaves_the_picture_alone(method):
    net = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.Conv2d(8, 8, 1))
    model = grow(METHODS[method], net, num_classes=2, temporal_pooling=False, dropout=0.0, fresh=True, dilation=4)
    assert frames_seen(model, 5) == {1, 5, 9}
    stem = model.backbone[0]
    assert (stem.dilation, stem.padding, stem.stride) == ((4, 1, 1), (4, 3, 3), (1, 4, 4))


@pytest.mark.parametrize("method", DILATED)
@pytest.mark.parametrize("temporal_pooling", [False, True])
def test_dilation_changes_no_parameter_no_count_and_no_length(method, temporal_pooling):
    plain, dilated = (
        outline(f"{method}_resnet18", num_classes=5, num_frames=9, temporal_pooling=temporal_pooling, **options)
        for options in ({}, {"dilation": 3})
    )
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in dilated.state_dict().items()}
    assert count_module(plain, num_frames=9, size=64) == count_module(dilated, num_frames=9, size=64)
    lengths = {model.features(torch.empty(1, 3, 9, 64, 64, device="meta")).shape[1] for model in (plain, dilated)}
    assert lengths == {2 if temporal_pooling else 9}


def test_a_dilation_of_one_is_none_to_the_bit():
    x_BCTHW = torch.randn(1, 3, 8, 32, 32)
    for method in DILATED:
        torch.manual_seed(0)
        model = create(f"{method}_resnet_tiny", num_classes=5, dilation=1).eval()
        assert torch.equal(model(x_BCTHW), logits(f"{method}_resnet_tiny", x_BCTHW))


def test_temporal_pooling_needs_three_halvings():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1))
    with pytest.raises(UserError, match="needs three halvings of the image, and this image network has 2"):
        grow(METHODS["tsm"], net, num_classes=5, temporal_pooling=True, dropout=0.0, fresh=False)


def test_the_shortcut_of_tsm_is_unshifted():
    """With its residual branch silenced, a block passes on what it was given."""
    torch.manual_seed(0)
    block = create("tsm_resnet_tiny", num_classes=5).backbone.layer1[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)
    block.conv1.before._axis.clips = 2
    x_NCHW = torch.rand(8, 16, 4, 4)
    assert torch.allclose(block(x_NCHW), x_NCHW)
