"""Every method over image networks that others wrote: METHOD@module:function, METHOD@timm:NAME."""

import copy
import sys
from types import SimpleNamespace

import foreign_networks
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError
from muybridge.user_code import source_sha256
from muybridge.zoo import create, load_weights
from muybridge.zoo.base import IMAGENET, Preprocessing
from muybridge.zoo.families import METHODS as METHOD
from muybridge.zoo.families import grow
from muybridge.zoo.temporal.aggregation import TemporalAggregation
from muybridge.zoo.temporal.frames import FrameAxis, TimeConv, VolumeConv
from muybridge.zoo.temporal.inflation import FrameConvs
from muybridge.zoo.temporal.non_local import NonLocal
from muybridge.zoo.temporal.shift import TemporalShift

METHODS = ("tsn", "tsm", "tam", "tconv", "nln", "i3d", "s3d")
NETWORKS = (
    "dense", "mobile", "dilated", "next_net", "Functional", "OnePool", "Vectors", "ResNetD", "Repeated", "pre_act",
    "strange", "made_anew", "TwoBranches", "Fixed",
)  # fmt: skip
"""Where all methods have places."""
NO_POOLING = {
    "Functional": "no module of this image network does halving 3|do 0 of them",  # functional pools are no modules
    "OnePool": "no module of this image network does halving 2|do 0 of them",  # it is met at the first halving
    "TwoBranches": "branches run side by side",
    "Tokens": "no module of this image network does halving 2|do 0 of them",
}


def make(method, network, **arguments):
    torch.manual_seed(0)
    arguments = {"num_classes": 5, "num_frames": 8, "dropout": 0.0, **arguments}
    return create(f"{method}@foreign_networks:{network}", **arguments)


def image_network(network):
    """The same network, with the same weights."""
    torch.manual_seed(0)
    return getattr(foreign_networks, network)()


def stir(net, seed=0):
    """Statistics of norms as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return net


PAIRS = {(METHODS[(2 * i + j) % len(METHODS)], network) for i, network in enumerate(NETWORKS) for j in (0, 5)}
"""In CI: every network with two methods, every method with four networks. The full product is slow."""
PRODUCT = [
    pytest.param(method, network, marks=[] if (method, network) in PAIRS else pytest.mark.slow)
    for method in METHODS
    for network in NETWORKS
]


def test_ci_has_every_network_twice_and_every_method_four_times():
    for position, names, least in ((0, METHODS, 4), (1, NETWORKS, 2)):
        for name in names:
            assert sum(pair[position] == name for pair in PAIRS) >= least, name
    assert all(sum(pair[0] == name for pair in POOLED_IN_CI) >= 2 for name in METHODS)
    assert all({"i3d", "s3d"} & {m for m, n in PAIRS if n == network} for network in ("strange", "made_anew"))


@pytest.mark.parametrize(("method", "network"), PRODUCT)
def test_names_weights_gradients_and_shapes(method, network):
    """Weights are the network's as they are, or inflated and divided by the length."""
    model = make(method, network)
    assert not any(p.is_meta for p in model.parameters())
    state, inflated = model.backbone.state_dict(), set()
    for name, tensor in image_network(network).state_dict().items():
        if state[name].dim() == 5:
            expected = (tensor / state[name].shape[2])[:, :, None].expand_as(state[name])
            assert torch.equal(state[name], expected), name
            inflated.add(name)
        else:
            assert torch.equal(state[name], tensor), name
    if method == "i3d":
        assert len(inflated) > 2
    else:
        assert len(inflated) == (method == "s3d")  # the stem

    logits_BK = model.train()(torch.randn(2, 3, 8, 64, 64))
    assert logits_BK.shape == (2, 5)
    F.cross_entropy(logits_BK, torch.tensor([0, 1])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    f_BTD = model.to("meta").eval().features(torch.empty(2, 3, 16, 64, 64, device="meta"))
    assert f_BTD.shape == (2, 16, model.num_features)


POOLED_IN_CI = {(METHODS[(2 * i) % len(METHODS)], network) for i, network in enumerate(NETWORKS)}
POOLED = [
    pytest.param(method, network, marks=[] if (method, network) in POOLED_IN_CI else pytest.mark.slow)
    for method in METHODS
    for network in NETWORKS
]
"""In CI: every network once, every method twice."""


@pytest.mark.parametrize(("method", "network"), [*POOLED, *((method, "Tokens") for method in ("tsn", "i3d", "s3d"))])
def test_temporal_pooling_leaves_an_eighth_or_says_why_not(method, network):
    if network in NO_POOLING:
        with pytest.raises(UserError, match=NO_POOLING[network]):
            make(method, network, temporal_pooling=True)
        return
    model = make(method, network, temporal_pooling=True).to("meta").eval()
    f_BTD = model.features(torch.empty(2, 3, 16, 64, 64, device="meta"))
    assert f_BTD.shape == (2, 2, model.num_features)
    plain = sum(p.numel() for p in make(method, network).parameters())
    assert sum(p.numel() for p in model.parameters()) == plain


@pytest.fixture
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def reach(net):
    """Frames on each side that a frame of the output can depend on, at most."""
    lengths = (m.kernel_size[0] if isinstance(m, VolumeConv) else m.frames if isinstance(m, FrameConvs) else 3
               for m in net.modules() if hasattr(m, "_axis"))  # fmt: skip
    return sum(length // 2 for length in lengths)


STILL_IN_CI = ("dense", "next_net", "strange", "made_anew", "Tokens")
"""One of each kind of layer; the others are slow."""


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=[] if name in STILL_IN_CI else pytest.mark.slow) for name in (*NETWORKS, "Tokens")],
)
def test_a_still_clip_gives_i3d_the_pictures_response(network):
    volume, frames_net = (make(method, network).eval() for method in ("i3d", "tsn"))
    for model in (volume, frames_net):
        stir(model.backbone)
    frames = 2 * 2 * reach(volume.backbone) + 1  # (a module may be used twice)
    assert frames > 3
    picture_1C1HW = torch.rand(1, 3, 1, 64, 64)
    with torch.no_grad():
        f_BTD = volume.features(picture_1C1HW.expand(-1, -1, frames, -1, -1))
        assert f_BTD.shape[1] == frames
        assert torch.allclose(f_BTD[:, frames // 2], frames_net.features(picture_1C1HW)[:, 0], rtol=1e-9, atol=1e-12)


def test_tsn_is_the_network_and_a_head():
    """And its size is found by trying: these take any but one, which says so."""
    for network in (*NETWORKS, "Tokens"):
        net, model = image_network(network).eval(), make("tsn", network).eval()
        x_BCTHW = torch.rand(2, 3, 1, 64, 64)
        with torch.no_grad():
            f = net(x_BCTHW[:, :, 0])
            f_BD = f.mean((2, 3)) if f.dim() == 4 else f.mean(1) if f.dim() == 3 else f
            assert torch.equal(model.features(x_BCTHW)[:, 0], f_BD), network
            assert torch.allclose(model(x_BCTHW), model.fc(f_BD), atol=1e-6), network
        if network != "Tokens":
            assert model.fixed_size == (64 if network == "Fixed" else None), network


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("network", ["strange", "made_anew"])
@pytest.mark.parametrize("method", ["i3d", "s3d"])
def test_an_image_networks_state_loads_by_its_names(method, network):
    """After that, too, a still clip gives the picture's response, whatever the convolutions do with their weights."""
    model = make(method, network).eval()
    torch.manual_seed(5)
    net = stir(getattr(foreign_networks, network)()).eval()
    loaded = load_weights(model, {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()})
    assert {name for name in loaded.fresh if ".after." not in name} == {"fc.weight", "fc.bias"}
    frames = 2 * reach(model.backbone) + 1
    picture_1C1HW = torch.rand(1, 3, 1, 64, 64)
    clip_1CTHW = picture_1C1HW.expand(-1, -1, frames, -1, -1)
    with torch.no_grad():
        f_BTD = model.features(clip_1CTHW)
        stem_TDHW = model.backbone[0](clip_1CTHW[0].transpose(0, 1))
        assert torch.allclose(stem_TDHW[frames // 2], net[0](picture_1C1HW[:, :, 0])[0], rtol=1e-9, atol=1e-12)
        if method == "i3d":
            expected_BD = net(picture_1C1HW[:, :, 0]).mean((2, 3))
            assert torch.allclose(f_BTD[:, frames // 2], expected_BD, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("network", ["hook_spectral", "new_spectral"])
def test_a_spectral_norm_is_left_alone_or_refused_by_name(network):
    for method in ("tsn", "tsm", "s3d"):
        model = make(method, network, num_classes=2)
        assert not any(value.is_meta for module in model.modules() for value in vars(module).values()
                       if isinstance(value, torch.Tensor))  # fmt: skip
        model.to(torch.float64).train()(torch.rand(1, 3, 8, 32, 32, dtype=torch.float64)).sum().backward()
    with pytest.raises(UserError, match=r"Sequential: its convolution '1' cannot be made 3D: .*_u'"):
        make("i3d", network)


@pytest.mark.parametrize("method", ["i3d", "s3d"])
def test_stride_dilation_and_groups_are_kept(method):
    net, model = image_network("dilated"), make(method, "dilated")
    seen = set()
    for name, conv in net.named_modules():
        if isinstance(conv, nn.Conv2d) and max(conv.kernel_size) > 1:
            grown = model.backbone.get_submodule(name)
            if isinstance(grown, VolumeConv):
                grown_sides = (grown.stride[1:], grown.dilation[1:], grown.padding[1:], grown.kernel_size[1:])
                assert (grown.stride[0], grown.dilation[0], grown.kernel_size[0]) == (1, 1, 3)
            else:
                grown_sides = (grown.stride, grown.dilation, grown.padding, grown.kernel_size)
            assert grown_sides == (conv.stride, conv.dilation, conv.padding, conv.kernel_size)
            assert grown.groups == conv.groups
            seen.add((conv.stride, conv.dilation, conv.groups))
    assert {dilation for _, dilation, _ in seen} == {(1, 1), (2, 2), (4, 4)}


def test_what_follows_a_depthwise_convolution_in_s3d_is_depthwise():
    temporal = [m for m in make("s3d", "mobile").backbone.modules() if isinstance(m, TimeConv)]
    assert len(temporal) == 5
    assert all(conv.groups == conv.in_channels for conv in temporal)


def test_convolutions_that_do_more_than_convolve_run_frame_by_frame():
    net = make("i3d", "strange").backbone
    kinds = [type(net[i]).__name__ for i in (0, 3, 5, 7, 9, 11)]
    assert kinds == ["FrameConvs"] * 5 + ["VolumeConv"]
    assert [net[i].frames for i in (0, 3, 5, 7, 9)] == [3] * 5


@pytest.mark.parametrize("network", ["strange", "Vectors"])
def test_what_is_frozen_stays_frozen(network, monkeypatch):
    def frozen():
        return image_network(network).requires_grad_(False)

    monkeypatch.setattr(foreign_networks, "frozen", frozen, raising=False)
    model = make("i3d", "frozen")
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}


def test_a_convolution_of_two_names_stays_one():
    net = make("i3d", "OnePool").backbone
    assert isinstance(net.conv, VolumeConv)
    assert net.again is net.conv


@pytest.mark.parametrize("dilation", [1, 2])
def test_frame_by_frame_a_plain_convolution_is_the_3d_one(dilation):
    """Borders of the clip and gradients included; stride and dilation along time, too."""
    torch.manual_seed(0)
    axis, conv = FrameAxis(), nn.Conv2d(4, 6, 3, 2, 1)
    axis.clips = 2
    grown = FrameConvs(axis, conv, 3, stride=2, dilation=dilation)
    assert {name: tuple(p.shape) for name, p in grown.named_parameters()} == {"weight": (6, 4, 3, 3, 3), "bias": (6,)}
    nn.init.normal_(grown.weight)
    x_BCTHW = torch.randn(2, 4, 7, 9, 9)
    expected_BCTHW = F.conv3d(x_BCTHW, grown.weight, grown.bias, (2, 2, 2), (dilation, 1, 1), (dilation, 1, 1))
    y_BCTHW = axis.unfold(grown(axis.fold(x_BCTHW)))
    assert torch.allclose(y_BCTHW, expected_BCTHW, atol=1e-4)
    gradient = torch.randn_like(y_BCTHW)
    for mine, expected in zip(
        *(torch.autograd.grad(y, (grown.weight, grown.bias), gradient) for y in (y_BCTHW, expected_BCTHW)), strict=True
    ):
        assert torch.allclose(mine, expected, atol=1e-3)


def test_a_copy_of_a_model_is_its_own():
    model = make("i3d", "strange").eval()
    other = copy.deepcopy(model)
    x_BCTHW = torch.rand(1, 3, 4, 32, 32)
    with torch.no_grad():
        before = model(x_BCTHW)
        for parameter in other.backbone.parameters():
            parameter.zero_()
        assert torch.equal(model(x_BCTHW), before)
        assert not torch.equal(other(x_BCTHW), before)


def test_a_network_may_say_where_modules_sit():
    assert isinstance(make("tsm", "with_sites").backbone.body[1][0].before, TemporalShift)
    assert isinstance(make("tam", "with_sites").backbone.body[2][-1].after, TemporalAggregation)
    assert isinstance(make("nln", "with_sites").backbone.body[3][0].before, NonLocal)
    for method, kind in (("tsm", TemporalShift), ("tam", TemporalAggregation), ("nln", NonLocal)):
        assert sum(isinstance(m, kind) for m in make(method, "with_sites").modules()) == 1
    with pytest.raises(UserError, match="no module 'layer9'"):
        make("tsm", "with_a_wrong_site")
    with pytest.raises(UserError, match=r"Vectors: it has no place .* Temporal Aggregation Module\. .*`sites`"):
        make("tam", "with_a_wrong_site")


@pytest.mark.parametrize("method", ["tsm", "tam", "tconv", "nln"])
def test_a_method_without_a_place_is_no_tsn_in_silence(method):
    with pytest.raises(UserError, match="Tokens: it has no place"):
        make(method, "Tokens")


def test_modes_and_sizes_are_the_networks():
    model = make("tsm", "already_in_eval_mode")
    assert not any(module.training for module in model.backbone.body.modules() if isinstance(module, nn.BatchNorm2d))
    model.train()
    assert all(module.training for module in model.modules())
    assert make("tsm", "Vectors").backbone.training
    assert make("tsn", "Fixed").fixed_size == 64
    with pytest.raises(UserError, match="takes 64x64 pixels, but got 96x96"):
        make("tsn", "Fixed")(torch.zeros(1, 3, 8, 96, 96))


def test_a_network_for_one_size_is_known_by_trying():
    model = make("tsm", "OneSize")
    assert model.fixed_size == 224
    with pytest.raises(UserError, match=r"takes 224x224 pixels, but got 112x112\. Set clip\.size=224"):
        model(torch.zeros(1, 3, 8, 112, 112))
    assert model.to("meta")(torch.empty(1, 3, 8, 224, 224, device="meta")).shape == (1, 5)


def test_trials_leave_no_trace():
    net = make("i3d", "Remembers").backbone
    assert net.last is None
    assert not hasattr(net, "scale")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("foreign_networks:no_such", "'foreign_networks' has no function 'no_such'"),
        ("no_such_module:net", "the module 'no_such_module' is not found on Python's path"),
        ("foreign_networks:needs", "Make it callable without arguments"),
        ("foreign_networks:gives_no_module", r"returned a dict\. Return a torch\.nn\.Module"),
        ("foreign_networks:raises", r"foreign_networks\.py, line \d+: ZeroDivisionError: in the user's file"),
        ("foreign_networks:Fails", r"Fails: it does not take images of \(3,224,224\): LookupError: no weights here"),
        ("foreign_networks:Lists", r"Lists: it gives a list\. Give a feature map \(N,D,h,w\)"),
        (
            "foreign_networks:ChannelsLast",
            r"ChannelsLast: it gives shape \(1, 7, 7, 16\)\. Give a feature",
        ),
        ("foreign_networks:linear_only", "Sequential: it has no 2D convolution"),
        (
            "foreign_networks:OneSmallSize",
            r"does not take images of \(3,224,224\): .*say so by its attribute `fixed_size`",
        ),
        ("resnet18", "METHOD@module:function or METHOD@timm:NAME, or tsn_resnet18"),
        ("mynets", "METHOD@module:function or METHOD@timm:NAME$"),
        ("./mynets.py:small", r"'\./mynets\.py' is not a valid module name\. Write 'mynets' for mynets\.py in"),
    ],
)
def test_what_a_person_may_get_wrong(network, message):
    with pytest.raises(UserError, match=message):
        create(f"tsn@{network}", num_classes=5)


def test_a_path_is_no_module():
    for name in ("./mynets.py:small", "tsm@../mynets.py:small"):
        for look_for in (source_sha256, lambda name: create(name, num_classes=5)):
            with pytest.raises(UserError, match=r"mynets\.py' is not a valid module name.*'mynets' for mynets\.py"):
                look_for(name)


def test_a_module_that_cannot_be_read_or_run_names_the_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_written.py").write_text("import torch\n\ndef net(:\n")
    (tmp_path / "runs_wild.py").write_text("import torch\n\n1 / 0\n")
    (tmp_path / "lacks_one.py").write_text("import no_such_library\n")
    with pytest.raises(UserError, match=r"half_written\.py, line 3: SyntaxError"):
        create("tsn@half_written:net", num_classes=5)
    with pytest.raises(UserError, match=r"runs_wild\.py, line 3: ZeroDivisionError"):
        create("runs_wild:net", num_classes=5)
    with pytest.raises(
        UserError, match=r"lacks_one\.py, line 1: ModuleNotFoundError: No module named 'no_such_library'"
    ):
        create("lacks_one:net", num_classes=5)


class LikeTimm(nn.Module):
    pretrained_cfg = {  # noqa: RUF012
        "mean": [0.5, 0.4, 0.3], "std": (0.2, 0.2, 0.1), "fixed_input_size": True, "input_size": (3, 64, 64),
        "hf_hub_id": "timm/", "tag": "in1k",
    }  # fmt: skip

    def __init__(self):
        super().__init__()
        self.body = image_network("Vectors").body

    def forward(self, x):
        return self.body(x).mean((2, 3))


def timm_with(create_model):
    return SimpleNamespace(is_model=lambda name: name == "net", list_models=lambda: ["net"], create_model=create_model)


def test_timm_networks_bring_their_preprocessing_size_and_weights(monkeypatch):
    def create_model(name, *, num_classes, pretrained=False):
        assert (name, num_classes) == ("net", 0)
        net = LikeTimm()
        for parameter in net.parameters():
            nn.init.constant_(parameter, 3.0 if pretrained else 1.0)
        return net

    monkeypatch.setitem(sys.modules, "timm", timm_with(create_model))
    for method in METHODS:
        model = create(f"{method}@timm:net", num_classes=5)
        assert model.num_features == 16
        assert model.preprocessing == Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)) != IMAGENET
        assert model.fixed_size == 64
        assert model.features(torch.rand(1, 3, 8, 64, 64)).shape == (1, 8, 16)
        assert float(model.backbone.body[1][1].weight[0].detach()) == 1
        loaded = load_weights(model, "imagenet")
        assert float(model.backbone.body[1][1].weight[0].detach()) == 3
        weight = model.backbone.body[1][0].weight.detach()
        assert torch.allclose(weight.sum(2) if weight.dim() == 5 else weight, torch.full((8, 8, 3, 3), 3.0))
        assert loaded.inflated == {"i3d": 5, "s3d": 1}.get(method, 0)
    with pytest.raises(UserError, match=r"timm has no network 'nett'\. Did you mean 'net'\?"):
        create("tsn@timm:nett", num_classes=5)


def test_what_timm_complains_of_and_its_absence(monkeypatch):
    def create_model(name, **options):
        raise RuntimeError("Invalid pretrained tag (x) for net.")

    monkeypatch.setitem(sys.modules, "timm", timm_with(create_model))
    with pytest.raises(UserError, match="Invalid pretrained tag"):
        create("tsn@timm:net", num_classes=5)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"timm does not import here: .*pip install 'muybridge\[timm\]'"):
        create("tsn@timm:net", num_classes=5)
    with pytest.raises(UserError, match="for example tsm@timm:net"):
        create("timm:net", num_classes=5)


def test_several_normed_convolutions_in_3d():
    norm = torch.nn.utils.parametrizations.weight_norm
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), norm(nn.Conv2d(8, 8, 3, 2, 1)), norm(nn.Conv2d(8, 16, 3, 2, 1)))
    model = grow(METHOD["i3d"], net, num_classes=2, temporal_pooling=True, dropout=0.0, fresh=False)
    assert model.features(torch.randn(1, 3, 8, 32, 32)).shape == (1, 1, 16)


def test_tied_biases_stay_tied_and_what_cannot_be_tied_is_told():
    def net(kernel):
        layers = nn.Sequential(
            nn.Conv2d(3, 3, kernel, 2, kernel // 2), nn.Conv2d(3, 3, kernel, 1, kernel // 2), nn.Conv2d(3, 3, 3, 1, 1)
        )
        return layers

    tied = net(3)
    tied[2].weight, tied[2].bias = tied[1].weight, tied[1].bias
    model = grow(METHOD["i3d"], tied, num_classes=2, temporal_pooling=False, dropout=0.0, fresh=False)
    assert model.backbone[1].weight is model.backbone[2].weight
    assert model.backbone[1].bias is model.backbone[2].bias
    long = net(5)
    long[1].weight = long[0].weight
    with pytest.raises(UserError, match="Sequential: its '0' and '1' share their weight, but would look at different"):
        grow(METHOD["i3d"], long, num_classes=2, temporal_pooling=False, dropout=0.0, fresh=False)


def test_a_network_of_another_type_is_told(tmp_path, monkeypatch):
    (tmp_path / "doubles.py").write_text("from torch import nn\ndef net():\n    return nn.Conv2d(3, 8, 3).double()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"has weights of torch\.float64, but models here are of"):
        create("tsn@doubles:net", num_classes=2)
