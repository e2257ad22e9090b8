"""3D ResNets, SlowFast and X3D: published figures, what sees which frames, and weights of other code bases."""

import pytest
import torch
import torch.nn.functional as F
from peer_keys import peer_state
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo import create, load_weights
from muybridge.zoo.base import IMAGENET
from muybridge.zoo.count import count
from muybridge.zoo.networks.video_resnets import MaxOfPairs
from muybridge.zoo.networks.x3d import SqueezeExcitation
from muybridge.zoo.temporal.frames import FrameAxis

PUBLISHED = {
    "r3d_resnet18": (33_371_472, 16, 112, 40.697),  # torchvision's num_params and _ops
    "mc3_resnet18": (11_695_440, 16, 112, 43.343),
    "r2plus1d_resnet18": (31_505_325, 16, 112, 40.519),
    "slowfast_resnet50": (34_566_488, 32, 256, 65.71),  # PyTorchVideo's model zoo
    "slow_resnet50": (32_454_096, 8, 256, 54.52),
    "x3d_s": (3_794_322, 13, 160, 1.96),  # table 4 of the paper
    "x3d_m": (3_794_322, 16, 224, 4.73),
}


def make(name, **options):
    with torch.device("meta"):
        return create(name, **{"num_classes": 400, "num_frames": 32, **options}).eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_and_multiply_adds(name):
    params, frames, size, giga_macs = PUBLISHED[name]
    cost = count(name, num_classes=400, num_frames=frames, size=size)
    assert cost.params == params
    assert cost.conv_macs / 1e9 == pytest.approx(giga_macs, rel=1e-3)


def test_published_parameters_alone():
    assert count("i3d_resnet50_kinetics", num_classes=400, num_frames=8, size=64).params == 28_043_472
    assert count("i3d_resnet50_kinetics", num_classes=101, num_frames=8, size=64).params == 27_430_821
    assert count("slowfast_resnet50_4x16", num_classes=400, num_frames=32, size=64).params == 34_480_216


@pytest.mark.parametrize(
    ("name", "frames_in", "frames_out"),
    [
        ("r3d_resnet18", 16, 2), ("r2plus1d_resnet18", 16, 2), ("r3d_resnet18", 10, 2), ("mc3_resnet18", 16, 16),
        ("slow_resnet50", 8, 8), ("i3d_resnet50_kinetics", 8, 4), ("i3d_resnet50_gluoncv", 32, 4),
        ("i3d_resnet50_gluoncv", 5, 1), ("slowfast_resnet50", 32, 1), ("x3d_s", 13, 1),
    ],
)  # fmt: skip
def test_frames_that_are_left(name, frames_in, frames_out):
    model = make(name)
    f_BTD = model.features(torch.empty(2, 3, frames_in, 64, 64, device="meta"))
    assert f_BTD.shape == (2, frames_out, model.num_features)


def test_time_is_halved_in_the_last_three_stages():
    model = make("r3d_resnet18")
    strides = [model.backbone.get_submodule(f"layer{stage}.0.conv1").stride for stage in range(1, 5)]
    assert model.backbone.conv1.stride == (1, 2, 2)
    assert strides == [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]


def test_the_middle_widths_of_r2plus1d():
    net = make("r2plus1d_resnet18").backbone
    assert net.conv1[0].out_channels == 45
    assert [net.layer1[0].conv1[0].out_channels, net.layer1[1].conv2[0].out_channels] == [144, 144]
    assert [net.layer2[0].conv1[0].out_channels, net.layer2[0].conv2[0].out_channels] == [230, 230]
    assert net.layer2[1].conv1[0].out_channels == 288


@pytest.mark.parametrize("frames", [4, 5])
def test_pairs_of_frames_leave_their_maximum(frames):
    x_BTCHW = torch.randn(2, frames, 3, 4, 5)
    axis = FrameAxis()
    axis.clips = 2
    out = MaxOfPairs(axis)(x_BTCHW.flatten(0, 1)).unflatten(0, (2, -1))
    assert torch.equal(out, F.max_pool3d(x_BTCHW.transpose(1, 2), (2, 1, 1)).transpose(1, 2))


@pytest.mark.parametrize(
    ("name", "seen"),
    [("slowfast_resnet50", [0, 4, 8, 13, 17, 22, 26, 31]), ("slowfast_resnet50_4x16", [0, 10, 20, 31])],
)
def test_the_slow_pathway_sees_frames_from_the_first_to_the_last(name, seen):
    model = create(name, num_classes=5, num_frames=32).eval()
    x_BCTHW = torch.randn(2, 3, 32, 32, 32)
    stems = {}
    for pathway in ("slow", "fast"):
        conv = model.get_submodule(f"{pathway}.conv1")
        conv.register_forward_pre_hook(lambda conv, args, pathway=pathway: stems.update({pathway: args[0]}))
    with torch.no_grad():
        model(x_BCTHW)
    assert torch.equal(stems["slow"].unflatten(0, (2, -1)).transpose(1, 2), x_BCTHW[:, :, seen])
    assert torch.equal(stems["fast"].unflatten(0, (2, -1)).transpose(1, 2), x_BCTHW)


@pytest.mark.parametrize(("name", "frames", "taps"), [("slowfast_resnet50", 8, 7), ("slowfast_resnet50_4x16", 4, 5)])
def test_the_fast_pathway_joins_the_slow_one_before_each_stage(name, frames, taps):
    model, joined, entering = make(name), [], []
    for stage, lateral in enumerate(model.lateral, start=1):
        lateral.register_forward_hook(lambda module, args, out: joined.append(out.shape))
        first = model.slow.get_submodule(f"layer{stage}.0")
        first.register_forward_pre_hook(lambda module, args: entering.append(args[0].shape))
        assert lateral.conv.kernel_size == (taps, 1)
    model(torch.empty(3, 3, 32, 64, 64, device="meta"))
    assert [tuple(shape) for shape in joined] == [
        (3 * frames, 16, 16, 16), (3 * frames, 64, 16, 16), (3 * frames, 128, 8, 8), (3 * frames, 256, 4, 4),
    ]  # fmt: skip
    assert [shape[1] for shape in entering] == [64 + 16, 256 + 64, 512 + 128, 1024 + 256]


def test_clips_that_slowfast_cannot_divide_are_told_what_would_do():
    with pytest.raises(UserError, match="at least 4 frames, but got 3"):
        make("slowfast_resnet50", num_frames=3)
    with pytest.raises(UserError, match=r"multiple of 4 frames.*got 10"):
        make("slowfast_resnet50", num_frames=10)
    with pytest.raises(UserError, match="at least 8 frames, but got 4"):
        make("slowfast_resnet50_4x16", num_frames=4)
    with pytest.raises(UserError, match="at least 2 frames, but got 1"):
        make("i3d_resnet50_kinetics", num_frames=1)


def test_x3d_squeezes_in_every_other_block():
    net = make("x3d_s").backbone
    stages = [net.get_submodule(f"layer{stage}") for stage in range(1, 5)]
    assert [len(stage) for stage in stages] == [3, 5, 11, 7]
    for stage, squeezed in zip(stages, (8, 8, 16, 32), strict=True):
        widths = [block.se.fc1.out_channels if hasattr(block.se, "fc1") else None for block in stage]
        assert widths == [None if index % 2 else squeezed for index in range(len(stage))]


def test_channels_are_weighed_by_their_means_over_the_clip():
    x_BTCHW = torch.randn(2, 3, 6, 4, 5)
    axis = FrameAxis()
    axis.clips = 2
    module = SqueezeExcitation(axis, 6, 8)
    means_BC = x_BTCHW.mean((1, 3, 4))
    hidden = F.relu(F.linear(means_BC, module.fc1.weight.flatten(1), module.fc1.bias))
    weights_BC = torch.sigmoid(F.linear(hidden, module.fc2.weight.flatten(1), module.fc2.bias))
    out = module(x_BTCHW.flatten(0, 1)).unflatten(0, (2, 3))
    assert torch.allclose(out, x_BTCHW * weights_BC[:, None, :, None, None], atol=1e-6)


KEYS = [
    *(f"torchvision_{name}" for name in ("r3d_resnet18", "mc3_resnet18", "r2plus1d_resnet18")),
    *(
        f"{peer}_{name}"
        for peer in ("pytorchvideo", "pyslowfast")
        for name in (
            "slowfast_resnet50", "slowfast_resnet50_4x16", "slow_resnet50", "i3d_resnet50_kinetics", "x3d_s",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("file", KEYS)
def test_every_tensor_of_a_checkpoint_finds_its_place(file):
    peer, _, name = file.partition("_")
    model = make(name)
    loaded = load_weights(model, peer_state(file))
    assert (loaded.fresh, loaded.left_out, loaded.inflated) == ((), (), 0)
    assert loaded.source.lower().startswith(peer)
    assert model.preprocessing == model.published["kinetics400"].preprocessing


class GluonCVBlock(nn.Module):
    def __init__(self, c_in, width, *, frames, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, width, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.conv2 = nn.Conv3d(width, width, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm3d(width), nn.BatchNorm3d(width), nn.BatchNorm3d(4 * width)
        self.downsample = None
        if shortcut:
            conv = nn.Conv3d(c_in, 4 * width, 1, (1, stride, stride), bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm3d(4 * width))

    def forward(self, x_BCTHW):
        y = self.bn1(self.conv1(x_BCTHW)).relu()
        y = self.bn3(self.conv3(self.bn2(self.conv2(y)).relu()))
        return (y + (x_BCTHW if self.downsample is None else self.downsample(x_BCTHW))).relu()


class GluonCVI3D(nn.Module):
    """GluonCV's I3D-ResNet50 v1 with plain 3D layers, under the names of its weights for PyTorch."""

    INFLATED = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))

    def __init__(self):
        super().__init__()
        self.first_stage = nn.Sequential(
            nn.Conv3d(3, 64, (5, 7, 7), (2, 2, 2), (2, 3, 3), bias=False), nn.BatchNorm3d(64), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (2, 2, 2), (0, 1, 1)),
        )  # fmt: skip
        self.pool2, c_in, stages = nn.MaxPool3d((2, 1, 1), (2, 1, 1)), 64, []
        for stage, inflated in enumerate(self.INFLATED):
            blocks, width = [], 64 * 2**stage
            for index, is_inflated in enumerate(inflated):
                stride, first = (2 if stage and not index else 1), not index
                blocks.append(GluonCVBlock(c_in, width, frames=3 if is_inflated else 1, stride=stride, shortcut=first))
                c_in = 4 * width
            stages.append(nn.Sequential(*blocks))
        self.res_layers = nn.Sequential(*stages)
        self.fc = nn.Linear(2048, 400)
        self.head = nn.Sequential(nn.Dropout(0.5), self.fc)

    def forward(self, x_BCTHW):
        x = self.pool2(self.res_layers[0](self.first_stage(x_BCTHW)))
        assert x.shape[2] == 4
        return self.head(self.res_layers[1:](x).mean((2, 3, 4)))


def test_gluoncvs_network_is_the_one_of_plain_layers_with_its_weights():
    torch.manual_seed(0)
    theirs = GluonCVI3D().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    model = create("i3d_resnet50_gluoncv", num_classes=400, num_frames=32, dropout=0.0).eval()
    loaded = load_weights(model, theirs.state_dict())
    assert (loaded.source, loaded.fresh, loaded.inflated) == ("GluonCV", (), 0)
    assert loaded.left_out == ("head.1.weight", "head.1.bias"), "the classifier under its second name"
    assert model.preprocessing == IMAGENET
    x_BCTHW = torch.randn(2, 3, 32, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(x_BCTHW), theirs(x_BCTHW), rtol=1e-4, atol=1e-5)


SAME = {
    "slowfast_resnet50": [
        ("blocks.0.multipathway_blocks.1.conv.weight", "s1.pathway1_stem.conv.weight", "fast.conv1.weight"),
        ("blocks.0.multipathway_fusion.norm.bias", "s1_fuse.bn.bias", "lateral.0.bn.bias"),
        ("blocks.3.multipathway_fusion.conv_fast_to_slow.weight", "s4_fuse.conv_f2s.weight", "lateral.3.conv.weight"),
        ("blocks.2.multipathway_blocks.0.res_blocks.3.branch2.norm_a.weight", "s3.pathway0_res3.branch2.a_bn.weight",
         "slow.layer2.3.bn1.weight"),
        ("blocks.4.multipathway_blocks.1.res_blocks.0.branch1_conv.weight", "s5.pathway1_res0.branch1.weight",
         "fast.layer4.0.downsample.0.weight"),
        ("blocks.6.proj.weight", "head.projection.weight", "fc.weight"),
    ],
    "i3d_resnet50_kinetics": [  # a pool is blocks.2
        ("blocks.3.res_blocks.1.branch2.conv_b.weight", "s3.pathway0_res1.branch2.b.weight",
         "backbone.layer2.1.conv2.weight"),
        ("blocks.5.res_blocks.2.branch2.norm_c.running_var", "s5.pathway0_res2.branch2.c_bn.running_var",
         "backbone.layer4.2.bn3.running_var"),
    ],
    "x3d_s": [
        ("blocks.0.conv.conv_t.weight", "s1.pathway0_stem.conv_xy.weight", "backbone.conv1.0.weight"),
        ("blocks.0.conv.conv_xy.weight", "s1.pathway0_stem.conv.weight", "backbone.conv1.1.weight"),
        ("blocks.1.res_blocks.2.branch2.norm_b.0.weight", "s2.pathway0_res2.branch2.b_bn.weight",
         "backbone.layer1.2.bn2.weight"),
        ("blocks.4.res_blocks.0.branch2.norm_b.1.block.2.bias", "s5.pathway0_res0.branch2.se.fc2.bias",
         "backbone.layer4.0.se.fc2.bias"),
        ("blocks.5.pool.post_conv.weight", "head.lin_5.weight", "backbone.linear5.weight"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_one_network_by_two_code_bases_is_one(name):
    """Tensors of the same place in PyTorchVideo's and PySlowFast's networks come to the same place here."""
    for origin, peer in enumerate(("pytorchvideo", "pyslowfast")):
        state = {key: tensor.fill_(-1) for key, tensor in peer_state(f"{peer}_{name}", device="cpu").items()}
        for value, names in enumerate(SAME[name]):
            state[names[origin]].fill_(value)
        model = create(name, num_classes=400, num_frames=32)
        load_weights(model, state)
        for value, names in enumerate(SAME[name]):
            assert (model.state_dict()[names[2]] == value).all(), names[2]


def test_the_norm_that_x3ds_first_shortcut_lacks_in_pytorchvideo_changes_nothing():
    model = create("x3d_s", num_classes=400, num_frames=13).eval()
    load_weights(model, peer_state("pytorchvideo_x3d_s", device="cpu"))
    x_NCHW = torch.randn(2, 24, 4, 4)
    conv, norm = model.backbone.layer1[0].downsample
    assert torch.allclose(norm(conv(x_NCHW)), conv(x_NCHW), rtol=1e-6)


def test_image_weights_are_where_3d_networks_start():
    for name, inflated in (
        ("slow_resnet50", 9),
        ("i3d_resnet50_kinetics", 10),
        ("i3d_resnet50_gluoncv", 10),
        ("r3d_resnet18", 17),
    ):
        model = make(name)
        loaded = load_weights(model, peer_state("torchvision_resnet18") if "18" in name else _resnet50())
        assert loaded.inflated == inflated
        assert "imagenet" in model.published
    assert "imagenet" not in make("r2plus1d_resnet18").published


def _resnet50():
    """torchvision's names and shapes."""
    image = make("tsn_resnet50", num_classes=1000)
    return {name.removeprefix("backbone."): tensor for name, tensor in image.state_dict().items()}
