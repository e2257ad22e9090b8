"""Clips of other than three channels, and models of stored vectors."""

import sys
from types import SimpleNamespace

import foreign_networks
import pytest
import torch
from test_hub import FRAMES, saved
from torch import nn

from muybridge import build
from muybridge.data import inputs
from muybridge.errors import UserError
from muybridge.recipe import Recipe, replace
from muybridge.user_code import allow
from muybridge.zoo import Preprocessing, VideoModel, create, load_weights
from muybridge.zoo.base import IMAGENET
from muybridge.zoo.count import count, layers, natural_input
from muybridge.zoo.freezing import call_order
from muybridge.zoo.registry import entry, user_builder

USER_MODELS = """
import torch
from torch import nn
from muybridge.zoo import VideoModel

class Net(VideoModel):
    min_size = 8

    def __init__(self, num_classes, in_channels, says_so=True):
        super().__init__(6, num_classes, dropout=0.0, in_channels=in_channels if says_so else None)
        self.conv = nn.Conv2d(in_channels, 6, 3)

    def features(self, x_BCTHW):
        f = self.conv(x_BCTHW.transpose(1, 2).flatten(0, 1)).mean((2, 3))
        return f.unflatten(0, (x_BCTHW.shape[0], -1))

class Vectors(VideoModel):
    input_kind = "features"

    def __init__(self, num_classes, in_channels):
        super().__init__(8, num_classes, dropout=0.0, in_channels=in_channels)
        self.rnn = nn.GRU(in_channels, 8, batch_first=True)

    def features(self, f_BTD):
        return self.rnn(f_BTD)[0]

def takes(num_classes, num_frames, temporal_pooling, dropout, in_channels, wide: bool = False):
    return Net(num_classes, in_channels)

def takes_all(**arguments):
    return Net(arguments["num_classes"], arguments["in_channels"])

def takes_none(num_classes, num_frames, temporal_pooling, dropout):
    return Net(num_classes, 3)

def is_for_two(num_classes, num_frames, temporal_pooling, dropout):
    return Net(num_classes, 2)

def forgets(num_classes, num_frames, temporal_pooling, dropout, in_channels):
    return Net(num_classes, in_channels, says_so=False)

def vectors(num_classes, num_frames, temporal_pooling, dropout, in_channels):
    return Vectors(num_classes, in_channels)

def four_channels():
    return nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
"""


@pytest.fixture
def _user_models(tmp_path, monkeypatch):
    (tmp_path / "channel_models.py").write_text(USER_MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("channel_models", None)


@pytest.fixture
def four(monkeypatch):
    """The name of an input of four channels, and one of vectors of twelve numbers."""

    class Four(inputs.Input):
        name, about, meaning = "four", "frames", "frames of four channels"
        channels = read_channels = 4

    class Twelve(inputs.Vectors):
        name, about, meaning = "twelve", "vectors", "vectors of twelve numbers"
        channels = read_channels = 12

    monkeypatch.setattr(inputs, "INPUTS", {**inputs.INPUTS, "four": Four(), "twelve": Twelve()})


def make(name, in_channels, **options):
    return create(name, num_classes=5, in_channels=in_channels, **options)


@pytest.mark.usefixtures("_user_models")
@pytest.mark.parametrize("function", ["takes", "takes_all"])
def test_a_users_function_gets_the_channels_where_it_takes_them(function):
    for channels in (3, 4):
        model = make(f"channel_models:{function}", channels)
        assert model.in_channels == model.conv.in_channels == channels
        assert model(torch.rand(2, channels, 8, 16, 16)).shape == (2, 5)
        assert len(model.preprocessing.mean) == channels
        net = user_builder(
            f"channel_models:{function}", num_classes=5, num_frames=8, temporal_pooling=False, dropout=0.5,
            in_channels=channels,
        )()  # fmt: skip
        assert net.in_channels == channels
    assert make(f"channel_models:{function}", 3).preprocessing == IMAGENET


@pytest.mark.usefixtures("_user_models")
def test_a_users_function_that_makes_a_model_for_other_channels_is_refused():
    assert make("channel_models:takes_none", 3).in_channels == 3
    assert make("channel_models:is_for_two", 2).in_channels == 2
    with pytest.raises(
        UserError,
        match=r"Model 'channel_models:takes_none': it takes 3 channels, but a clip has 4 here\. The function "
        r"takes no in_channels\. Add that argument",
    ):
        make("channel_models:takes_none", 4)
    with pytest.raises(UserError, match="takes 2 channels, but a clip has 3 here"):
        make("channel_models:is_for_two", 3)
    with pytest.raises(
        UserError, match=r"takes 3 channels, but a clip has 4 .* takes in_channels.* VideoModel\.__init__"
    ):
        make("channel_models:forgets", 4)
    with pytest.raises(UserError, match=r"in_channels or dropout is out of range \(5, 0"):
        make("channel_models:takes", 0)


@pytest.mark.usefixtures("_user_models")
@pytest.mark.parametrize("method", ["tsn", "i3d"])
def test_an_image_network_that_is_brought_along_has_its_own_channels(method):
    model = make(f"{method}@channel_models:four_channels", 4)
    assert model(torch.rand(2, 4, 8, 32, 32)).shape == (2, 5)
    assert (model.in_channels, model.preprocessing) == (4, Preprocessing((0.5,) * 4, (0.5,) * 4))
    with pytest.raises(UserError, match=r"Sequential: it takes images of 4 channels, but a clip has 3 here"):
        make(f"{method}@channel_models:four_channels", 3)
    with pytest.raises(UserError, match=r"Vectors: it takes images of 3 channels, but a clip has 4 here"):
        make(f"{method}@foreign_networks:Vectors", 4)


def test_a_network_of_timm_has_three_channels(monkeypatch):
    class LikeTimm(foreign_networks.Vectors):
        pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.2,) * 3}  # noqa: RUF012

    timm = SimpleNamespace(is_model=lambda name: True, create_model=lambda name, **options: LikeTimm())
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert make("tsm@timm:net", 3).in_channels == 3
    with pytest.raises(UserError, match="LikeTimm: it takes images of 3 channels, but a clip has 4 here"):
        make("tsm@timm:net", 4)


def test_a_network_of_the_hub_has_the_channels_of_its_configuration(tmp_path):
    saved(tmp_path, "videomae")
    assert make(f"hf:{tmp_path}", 3, num_frames=FRAMES).in_channels == 3
    with pytest.raises(UserError, match=r"hf:.* takes clips of 3 channels, but a clip has 4 here"):
        make(f"hf:{tmp_path}", 4, num_frames=FRAMES)


@pytest.mark.parametrize(
    "name", ["tsm_resnet_tiny", "i3d_resnet_tiny", "tsn_inceptionv1", "s3d_mobilenet_v2", "tsn_vgg16"]
)
@pytest.mark.parametrize("channels", [2, 10])
def test_image_weights_cross_to_other_channels(name, channels):
    """Wang et al. 2016, section 3.2: the first layer averaged over red, green and blue, and repeated; nothing is scaled."""
    backbone = name.partition("_")[2]
    image_net = create(f"tsn_{backbone}", num_classes=5)
    state = {f"backbone.{name}": tensor for name, tensor in image_net.backbone.state_dict().items()}
    model = make(name, channels)
    loaded = load_weights(model, {name.removeprefix("backbone."): tensor for name, tensor in state.items()})
    [(first, told)] = loaded.crossed.items()
    assert told == channels
    assert first not in loaded.fresh
    ours, theirs = model.state_dict()[first], state[first]
    expected = theirs.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    if ours.dim() == 5:
        expected = expected[:, :, None].expand_as(ours) / ours.shape[2]
    assert torch.equal(ours, expected)
    assert f"{first}: averaged over red, green and blue, and repeated for {channels} channels" in str(loaded)
    assert loaded.as_json()["crossed"] == {first: channels}


def test_crossed_weights_bring_the_mean_deviation_of_their_colours():
    """TSN's .226 for ImageNet; no motion stays at .5, the middle."""
    state = create("tsn_resnet_tiny", num_classes=5).backbone.state_dict()
    for part in ("whole", "agreeing"):
        model = make("tsm_resnet_tiny", 10)
        assert set(load_weights(model, state, part=part).fresh) == {"fc.weight", "fc.bias"}
        assert model.preprocessing.mean == (0.5,) * 10
        assert model.preprocessing.std == pytest.approx((0.226,) * 10, abs=1e-6)
    alike = make("tsm_resnet_tiny", 3)
    assert not load_weights(alike, state).crossed
    assert alike.preprocessing == IMAGENET


def test_channels_are_no_option():
    assert all("in_channels" not in entry(name).options() for name in ("i3d", "tsm_resnet18", "vgg9"))
    recipe = replace(Recipe(), {"model.name": "i3d", "model.options": {"in_channels": 2}})
    with pytest.raises(UserError, match=r"model\.options\.in_channels: not an option"):
        build.outline(recipe, 5)


@pytest.mark.usefixtures("four")
def test_a_recipes_network_takes_the_channels_of_its_input():
    recipe = replace(Recipe(), {"model.name": "tsm_resnet_tiny", "clip.size": 32, "clip.modality": "rgb"})
    for modality, channels in (("rgb", 3), ("rgb_difference", 3), ("four", 4)):
        used = recipe.model_copy(update={"clip": recipe.clip.model_copy(update={"modality": modality})})
        plan, net = build.outline(used, 5), build.model(used, 5)
        assert plan.in_channels == net.in_channels == channels
        assert build.cost(used, plan, 5)["params"] == sum(p.numel() for p in net.parameters())


@pytest.mark.usefixtures("_user_models", "four")
def test_a_model_of_vectors():
    name = "channel_models:vectors"
    allow(name)
    cost = count(name, num_classes=5, num_frames=6, size=1, in_channels=12)
    assert (cost.conv_macs, cost.params) == (0, 3 * 8 * (12 + 8 + 2) + 8 * 5 + 5)
    assert natural_input(name, in_channels=12)[0] == 8
    model = make(name, 12)
    assert model.zeros(6, 1, batch_size=2).shape == (2, 6, 12)
    assert model(torch.rand(2, 6, 12)).shape == (2, 5)
    assert call_order(model, num_frames=6, size=1) == ["", "rnn", "dropout", "fc"]
    assert [layer.name for layer in layers(model, num_frames=6, size=1)] == ["rnn", "fc"]
    for wrong in (torch.rand(2, 6, 11), torch.rand(2, 3, 6, 32, 32)):
        with pytest.raises(UserError, match=r"Give vectors \(B,T,12\)"):
            model(wrong)
    recipe = replace(Recipe(), {"model.name": "tsm_resnet_tiny"})
    recipe = recipe.model_copy(update={
        "clip": recipe.clip.model_copy(update={"modality": "twelve"}),
        "model": recipe.model.model_copy(update={"name": name}),
    })  # fmt: skip
    assert build.outline(recipe, 5).in_channels == build.model(recipe, 5).in_channels == 12


def test_the_models_that_are_described_can_be_written():
    """The example of VideoModel's docstring."""
    code = VideoModel.__doc__.partition("::\n")[2]
    scope = {"nn": nn, "VideoModel": VideoModel}
    indent = min(len(line) - len(line.lstrip()) for line in code.splitlines() if line.strip())
    exec("\n".join(line[indent:] for line in code.splitlines()), scope)
    model = scope["Recurrent"](num_classes=5, in_channels=12)
    assert model(torch.rand(2, 6, 12)).shape == (2, 5)
