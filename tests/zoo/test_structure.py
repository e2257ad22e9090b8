"""The structure that is found in a model: figures of the papers, and sums that are the model's."""

from collections import Counter
from contextlib import suppress

import pytest
import torch
from torch import nn

from muybridge.zoo import VideoModel, entries
from muybridge.zoo.count import count_module, natural_input, outline
from muybridge.zoo.families import METHODS, grow
from muybridge.zoo.structure import Volume, structure


def found(name, *, num_frames=None, size=None, **options):
    frames, side = natural_input(name, **options)
    frames, side = num_frames or frames, size or side
    return structure(outline(name, num_classes=10, num_frames=frames, **options), num_frames=frames, size=side)


def kinds(shown):
    return Counter(look.kind for look in shown.looks)


def labels(shown, stage):
    return [op.label for block in named(shown, stage).blocks for op in block.branches[0]]


def named(shown, stage):
    return next(each for each in shown.stages if each.name == stage)


def test_a_tsn_meets_its_frames_in_the_mean_alone():
    shown = found("tsn_resnet50")
    assert kinds(shown) == {"mean": 1}
    assert [(s.behind, s.ahead) for s in shown.stages] == [(0, 0)] * (len(shown.stages) - 1) + [(7, 7)]


def test_a_resnet50_has_its_blocks_and_feature_maps():
    """He et al. 2016, table 1."""
    shown = found("tsn_resnet50", size=224)
    blocks = {stage.name: [len(b.names) for b in stage.blocks if b.kind] for stage in shown.stages}
    assert blocks == {"conv1": [], "layer1": [3], "layer2": [4], "layer3": [6], "layer4": [3], "fc": [], "answer": []}
    assert [stage.out.size for stage in shown.stages[:5]] == [(112, 112), (56, 56), (28, 28), (14, 14), (7, 7)]
    assert [stage.out.channels for stage in shown.stages[:5]] == [64, 256, 512, 1024, 2048]
    assert labels(shown, "layer4") == ["1×1", "3×3", "1×1"]


def test_tsm_shifts_in_each_of_the_sixteen_blocks():
    shown = found("tsm_resnet50")
    shifts = [look for look in shown.looks if look.kind == "shift"]
    assert len(shifts) == len({look.name for look in shifts}) == 3 + 4 + 6 + 3
    assert named(shown, "layer1").behind == named(shown, "layer1").ahead == 3  # a frame each way in each of 3 blocks


def test_a_tsm_that_looks_back_sees_nothing_ahead():
    shown = found("tsm_resnet_tiny", direction="past")
    assert [(s.behind, s.ahead) for s in shown.stages[:5]] == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]


def test_tam_and_the_dense_convolution_stand_in_each_block():
    for name in ("tam_resnet50", "tconv_resnet50"):
        assert kinds(found(name)) == {"conv": 16, "mean": 1}


def test_non_local_blocks_stand_where_they_are_published():
    """Wang et al. 2018, section 4.1: five, two behind every other block of res3 and three of res4."""
    shown = found("nln_resnet50")
    assert kinds(shown) == {"attention": 5, "mean": 1}
    assert [labels(shown, stage).count("non-local") for stage in ("layer1", "layer2", "layer3", "layer4")] == [
        0,
        2,
        3,
        0,
    ]
    assert (named(shown, "layer1").behind, named(shown, "layer2").behind) == (0, 7)


def test_the_kernels_of_the_published_i3d_alternate():
    """Wang et al. 2018, section 4.1: 3 x 1 x 1 in the first of every two blocks."""
    shown = found("i3d_resnet50_kinetics")
    first = {
        stage.name: [block.branches[0][0].label for block in stage.blocks if block.kind for _ in block.names]
        for stage in shown.stages
    }
    three, one = "3×1×1", "1×1"
    assert first["layer1"] == [three] * 3
    assert first["layer2"] == [three, one] * 2
    assert first["layer3"] == [three, one] * 3
    assert first["layer4"] == [one, three, one]
    assert labels(shown, "conv1") == ["5×7×7"]


def test_deepminds_i3d_halves_time_where_its_figure_does():
    """Carreira and Zisserman 2017, figure 3."""
    shown = found("i3d", num_frames=64, size=224)
    assert [(s.out.frames, s.out.size) for s in shown.stages[:5]] == [
        (32, (112, 112)), (32, (56, 56)), (32, (28, 28)), (16, (14, 14)), (8, (7, 7)),
    ]  # fmt: skip
    inception = [block for stage in shown.stages for block in stage.blocks if block.kind]
    assert sum(len(block.names) for block in inception) == 9
    assert {len(block.branches) for block in inception} == {4}
    assert {block.joined for block in inception} == {"channels"}
    kernels = [op.label for op in inception[0].branches[1]]
    assert kernels == ["1×1×1", "3×3×3"]


def test_s3d_takes_each_kernel_apart():
    """Xie et al. 2018, section 4.3."""
    for name, whole in (("s3d", ["1×1×1", "1×3×3", "3×1×1"]), ("s3d_inceptionv1", ["1×1", "3×3", "3×1×1"])):
        shown = found(name)
        block = next(block for stage in shown.stages for block in stage.blocks if block.kind)
        assert [op.label for op in block.branches[1]] == whole
        assert [bool(op.looks) for op in block.branches[1]] == [False, False, True]


def test_slowfast_has_two_pathways_and_four_connections():
    """Feichtenhofer et al. 2019, table 1: alpha 4 and beta 1/8 of the 8x8 network."""
    shown = found("slowfast_resnet50", num_frames=32, size=224)
    slow, fast = ([s for s in shown.stages if s.pathway == lane] for lane in ("slow", "fast"))
    assert [s.out.channels for s in slow[:5]] == [64, 256, 512, 1024, 2048]
    assert [8 * s.out.channels for s in fast[:5]] == [s.out.channels for s in slow[:5]]
    assert {s.out.frames for s in slow[:5]} == {8}
    assert {s.out.frames for s in fast[:5]} == {32}
    assert [(c.source, c.target, c.before) for c in shown.laterals] == [
        ("fast", "slow", f"layer{stage}") for stage in (1, 2, 3, 4)
    ]
    assert [c.ops[0].looks[0].stride for c in shown.laterals] == [4] * 4
    assert slow[0].blocks[0].branches[0][0].label == "8 of 32 frames"
    assert kinds(shown) == {"conv": 1 + 16 + (6 + 3) + 4, "mean": 2, "stride": 1}


def test_c3d_and_the_heads_of_small_networks():
    assert kinds(found("c3d")) == {"conv": 8, "pool": 4}  # the first pool keeps time
    assert [s.out.frames for s in found("c3d").stages] == [16, 16, 8, 4, 2, 1]
    assert kinds(found("cnn_lstm")) == {"recurrence": 1, "joined": 1}
    assert kinds(found("vgg9")) == {"joined": 1}
    assert kinds(found("vgg9", fusion="mean")) == {"mean": 1}


def test_heads_over_vectors():
    assert found("lstm").clip == Volume(8, (), 1024)
    assert kinds(found("lstm")) == {"recurrence": 1, "mean": 1}
    lstm = named(found("lstm"), "sequence")
    assert (lstm.behind, lstm.ahead) == (7, 0)
    assert named(found("lstm", bidirectional=True), "sequence").ahead == 7
    assert "last of 8 frames" in labels(found("lstm", last=True), "fc")
    assert kinds(found("attentive")) == {"attention": 1}
    assert "2 of 8 frames side by side" in labels(found("late_fusion"), "sequence – fc")
    assert kinds(found("slow_fusion"))["conv"] == 3


def test_temporal_pooling_is_seen():
    assert [s.out.frames for s in found("tsn_resnet50", temporal_pooling=True).stages[:5]] == [8, 8, 4, 2, 1]
    assert kinds(found("tsn_resnet50", temporal_pooling=True)) == {"pool": 3}


def test_one_frame_meets_none():
    assert not found("tsn_resnet50", num_frames=1).looks


def check_sums(name):
    frames, size = natural_input(name)
    model = outline(name, num_classes=10, num_frames=frames)
    shown = structure(model, num_frames=frames, size=size)
    parts = [*shown.stages, *shown.laterals, shown.outside]
    sums = [sum(getattr(part, key) for part in parts) for key in ("params", "conv_macs", "macs")]
    sums[0] += shown.training_params
    assert tuple(sums) == count_module(model, num_frames=frames, size=size)
    assert sum(len(block.names) for stage in shown.stages for block in stage.blocks) > 0


@pytest.mark.parametrize(
    "name",
    ["tsm_resnet18", "i3d_inceptionv1", "s3d_inceptionv3", "nln_mobilenet_v2", "slowfast_resnet50", "x3d_s", "c3d",
     "cnn_lstm", "s3dv3", "r2plus1d_resnet18", "attentive", "transformer", "lstm_vgg16", "tam_efficientnet_lite0"],
)  # fmt: skip
def test_costs_of_stages_add_up(name):
    check_sums(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_costs_of_stages_add_up_in_every_model(name):
    check_sums(name)


def test_the_auxiliary_head_works_in_training_alone():
    with_head, without = found("s3dv3"), found("s3dv3", aux=False)
    assert without.training_params == 0
    assert with_head.training_params == sum(
        p.numel() for p in outline("s3dv3", num_classes=10, num_frames=56).aux.parameters()
    )
    assert [s.params for s in with_head.stages] == [s.params for s in without.stages]


class Wide(nn.Module):
    """Two branches that are added, and a shortcut past them, by functions alone."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 5, padding=2)

    def forward(self, x):
        return torch.relu(torch.add(self.one(x), self.two(torch.relu(x)))) + x


class Net(nn.Module):
    """An image network of a user's."""

    def __init__(self):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 7, 4, padding=3), nn.Sequential(Wide(), Wide())

    def forward(self, x):
        return self.body(torch.relu(self.stem(x)))


def test_branches_are_found_by_what_flows_not_by_names():
    model = grow(METHODS["tsn"], Net(), num_classes=3, temporal_pooling=False, dropout=0.0, fresh=True)
    shown = structure(model, num_frames=4, size=64)
    (block,) = [block for stage in shown.stages for block in stage.blocks if block.kind]
    assert block.kind == "Wide"
    assert len(block.names) == 2
    assert [[op.label for op in branch] for branch in block.branches] == [["3×3"], ["5×5"]]
    assert block.joined == "sum"


class Own(VideoModel):
    """A video network of a user's: 3D convolutions, and a function that leaves frames out."""

    def __init__(self):
        super().__init__(8, 3, dropout=0.0)
        self.conv, self.pool = nn.Conv3d(3, 8, (5, 3, 3), padding=(2, 1, 1)), nn.MaxPool3d((2, 2, 2))

    def features(self, x_BCTHW):
        return self.pool(torch.relu(self.conv(x_BCTHW[:, :, ::2]))).mean((3, 4)).transpose(1, 2)


def test_a_network_of_a_users_own():
    shown = structure(Own().eval(), num_frames=8, size=16)
    assert kinds(shown) == {"stride": 1, "conv": 1, "pool": 1, "mean": 1}
    assert [look.frames for look in shown.looks if look.kind in ("conv", "pool")] == [5, 2]
    assert shown.stages[-1].out == Volume(1, (), 3)


class Body(VideoModel):
    """A video network of a user's around a body that gives (B,C,T,H,W)."""

    def __init__(self, body, channels=8):
        super().__init__(channels, 3, dropout=0.0)
        self.body = body

    def features(self, x_BCTHW):
        return self.body(x_BCTHW).mean((3, 4)).transpose(1, 2)


class Does(nn.Module):
    """A module that does what a function says."""

    def __init__(self, what, **modules):
        super().__init__()
        self.what = what
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.what(self, x)


def conv(channels_in=8, channels=8, side=1):
    return nn.Conv3d(channels_in, channels, side, padding=side // 2)


def read(body, channels=8):
    model = Body(body, channels).eval()
    shown = structure(model, num_frames=8, size=16)
    parts = [*shown.stages, *shown.laterals, shown.outside]
    sums = [sum(getattr(part, key) for part in parts) for key in ("params", "conv_macs", "macs")]
    sums[0] += shown.training_params
    assert tuple(sums) == count_module(model, num_frames=8, size=16)
    return shown


def test_the_cost_of_functions_is_no_layers():
    class Functions(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.weights = conv(3), nn.ParameterList([torch.zeros(8, 8, 3, 3, 3)])
            self.unused = nn.ParameterList([torch.zeros(5)])

        def forward(self, x):
            return nn.functional.conv3d(self.conv(x), self.weights[0], padding=1)

    shown = read(Functions())
    params = 8 * 8 * 27
    assert (shown.outside.params, shown.outside.macs, shown.training_params) == (params, params * 8 * 16 * 16, 5)
    assert [stage.params for stage in shown.stages if stage.params] == [8 * 3 + 8, 8 * 3 + 3]


def test_a_call_that_raises_is_left_out():
    def goes_on(module, x):
        with suppress(ValueError):
            module.bad(x)
        return module.good(x)

    def raises(module, x):
        module.conv(x)
        raise ValueError

    shown = read(Does(goes_on, bad=Does(raises, conv=conv(3)), good=conv(3, 8, 3)))
    assert kinds(shown) == {"conv": 1, "mean": 1}
    assert shown.stages[-1].out == Volume(1, (), 3)
    assert shown.outside.macs == 3 * 8 * 8 * 16 * 16
    assert "mean of 8 answers" in [op.label for stage in shown.stages for b in stage.blocks for op in b.branches[0]]


def test_branches_that_are_summed_are_no_shortcuts():
    several = {f"branch{index}": conv() for index in range(6)}
    body = Does(lambda module, x: sum(branch(x) for branch in module.children()), **several)
    (block,) = [b for s in read(nn.Sequential(conv(3), body)).stages for b in s.blocks if b.kind]
    assert (len(block.branches), block.joined, block.shortcut) == (6, "sum", "")
    for channels, body in (
        (8, Does(lambda module, x: module.main(x) + module.beside(x), main=conv(side=3), beside=conv())),
        (8, Does(lambda module, x: module.main(x) + x, main=conv(side=3))),
    ):
        (block,) = [b for s in read(nn.Sequential(conv(3), body), channels).stages for b in s.blocks if b.kind]
        assert (len(block.branches), block.joined, block.shortcut) == (1, "sum", "plain")


def test_branches_that_end_in_two_are_joined_by_channels():
    """Szegedy et al. 2016, figure 7: the last two blocks, whose branches end in 1 x 3 beside 3 x 1."""
    shown = found("tsn_inceptionv3", size=299)
    blocks = [block for stage in shown.stages for block in stage.blocks if block.kind]
    assert {block.joined for block in blocks} == {"channels"}
    assert len(blocks[-1].branches) == 4


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_module_counts_as_a_function():
    shown = read(nn.Sequential(conv(3), torch.jit.script(nn.Sequential(conv()))))
    assert shown.outside.params == 8 * 8 + 8


def test_a_network_may_have_another_last_layer():
    class Other(VideoModel):
        def __init__(self):
            super().__init__(8, 3, dropout=0.0)
            self.conv, self.fc, self.last = conv(3), nn.Identity(), nn.Linear(8, 5)

        def forward(self, x):
            return self.last(self.conv(x).mean((2, 3, 4)))

    assert structure(Other().eval(), num_frames=4, size=16).num_classes == 5
