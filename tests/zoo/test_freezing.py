"""What of a network is frozen: whole stages, and batch norms."""

import pytest
import torch
from torch import nn

from muybridge import build
from muybridge.errors import UserError
from muybridge.recipe import Recipe, replace
from muybridge.zoo import VideoModel
from muybridge.zoo.count import layers, outline
from muybridge.zoo.freezing import Frozen, call_order

FRAMES, SIZE = 8, 64


def planned(name, frames=FRAMES):
    return outline(name, num_classes=4, num_frames=frames, temporal_pooling=False, dropout=0.5)


def freeze(name, train_from, size=SIZE, frames=FRAMES, **more):
    net = planned(name, frames)
    called = call_order(planned(name, frames), num_frames=frames, size=size)
    return net, Frozen(net, train_from=train_from, called=called, **more)


def trained(net):
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


NETS = [
    "tsn_resnet18",
    "tam_resnet_tiny",
    "nln_resnet_tiny",
    "slowfast_resnet50",
    "s3dv3",
    "tsn_vgg16",
    "i3d_inceptionv1",
]


@pytest.mark.parametrize("name", NETS)
def test_only_the_classifier_is_trained(name):
    net, frozen = freeze(name, "head", size=112, frames=64 if name == "s3dv3" else FRAMES)
    assert trained(net) == set(net.classifier_names()), "S3D-v3's second head, which only training has, neither"
    frozen.train()
    assert not any(m.training for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    assert net.dropout.training


@pytest.mark.parametrize(
    ("name", "begin", "first"),
    [
        ("tsn_resnet18", "layer4", "backbone.layer4.0.conv1"),
        ("tsn_resnet18", "backbone.layer3.1", "backbone.layer3.1.conv1"),
        (
            "tam_resnet_tiny",
            "layer3",
            "backbone.layer3.0.conv1.before.conv",
        ),  # a temporal module put before a convolution
        ("tam_resnet_tiny", "layer3.0.conv1", "backbone.layer3.0.conv1.before.conv"),
        ("tam_resnet_tiny", "layer3.0.bn1", "backbone.layer3.0.bn1"),
        ("nln_resnet_tiny", "layer4", "backbone.layer4.0.conv1"),
        ("slowfast_resnet50", "fast.conv1", "fast.conv1"),
        ("slowfast_resnet50", "lateral.2", "lateral.2.conv"),  # built last, met in the middle
        ("slowfast_resnet50", "slow.layer4", "slow.layer4.0.conv1"),
        ("tsn_vgg16", "classifier", "backbone.classifier.0"),
        ("tsn_resnet18", "fc", "fc"),  # built first, met last
    ],
)
def test_what_the_list_of_layers_names_before_is_frozen(name, begin, first):
    """`muybridge models NAME` prints `layers`: the parameters of all from `first` on are trained, and no others."""
    net, _ = freeze(name, begin)
    listed = [layer.name for layer in layers(planned(name), num_frames=FRAMES, size=SIZE)]
    assert first in listed
    later = listed[listed.index(first) :]
    owner = {key: key.rpartition(".")[0] for key, _ in net.named_parameters()}
    assert trained(net) == {key for key, module in owner.items() if module in later}
    assert trained(net)
    assert len(trained(net)) < len(owner) or first == listed[0]


def test_frozen_stages_keep_their_mode():
    net, frozen = freeze("tsn_resnet18", "layer4")
    frozen.train()
    modes = {
        name: module.training
        for name, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    assert {name for name, training in modes.items() if training} == {name for name in modes if "layer4" in name}


def test_norms_that_were_exchanged_for_synced_ones_stay_frozen():
    net, frozen = freeze("tsn_resnet18", "layer2")
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    frozen.train()
    assert synced.get_submodule("backbone.layer2.0.bn1").training
    assert not synced.get_submodule("backbone.bn1").training
    assert not synced.get_submodule("backbone.layer1.0.bn1").training


class Tokens(nn.Module):
    """A vision transformer's way to hold parameters: some by the whole, some in a module that is not called itself."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.patches = nn.Linear(3, 8)
        self.first = nn.MultiheadAttention(8, 2, batch_first=True)
        self.second = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x_BTC):
        x = torch.cat([self.token.expand(len(x_BTC), -1, -1), self.patches(x_BTC)], 1)
        for block in (self.first, self.second):
            x = x + block(x, x, x)[0]
        return self.norm(x)


class TokenVideo(VideoModel):
    def __init__(self):
        super().__init__(8, 4, dropout=0.5)
        self.net = Tokens()

    def features(self, x_BCTHW):
        return self.net(x_BCTHW.mean((3, 4)).transpose(1, 2))


def test_parameters_that_modules_hold_themselves_are_frozen_with_what_follows_them():
    net = TokenVideo()
    called = call_order(TokenVideo(), num_frames=4, size=8)
    Frozen(net, train_from="second", called=called)
    assert trained(net) == {
        "net.second.in_proj_weight", "net.second.in_proj_bias", "net.second.out_proj.weight", "net.second.out_proj.bias",
        "net.norm.weight", "net.norm.bias", "fc.weight", "fc.bias",
    }  # fmt: skip


def test_names_that_are_not_there_or_not_alone():
    with pytest.raises(UserError, match=r"has no module 'layer5'\. Did you mean .*layer"):
        freeze("tsn_resnet18", "layer5")
    with pytest.raises(UserError, match=r"'layer4' may be slow\.layer4 or fast\.layer4\. Give the whole name"):
        freeze("slowfast_resnet50", "layer4")
    with pytest.raises(UserError, match=r"'conv1' may be backbone\.conv1 or "):
        freeze("tsn_resnet18", "conv1")


def test_a_wrong_name_is_told_before_the_first_file(recipe, tmp_path):
    from muybridge.training.loop import train

    with pytest.raises(UserError, match=r"optim\.train_from: tsm_resnet_tiny has no module 'layre3'.*layer3"):
        train(replace(recipe, {"optim.train_from": "layre3"}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_which_batch_norms_are_frozen():
    net, frozen = freeze("tsn_resnet18", None, batch_norm="partial")
    norms = [(name, m) for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    frozen.train()
    assert [name for name, norm in norms if norm.training] == ["backbone.bn1"]
    assert [name for name, norm in norms if norm.weight.requires_grad] == ["backbone.bn1"]
    assert {name for name, _ in net.named_parameters()} - trained(net) == {
        f"{name}.{key}" for name, _ in norms[1:] for key in ("weight", "bias")
    }
    net, frozen = freeze("tsn_resnet18", None, batch_norm="frozen")
    frozen.train()
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert trained(net) == {name for name, _ in net.named_parameters() if not (".bn" in name or "downsample.1" in name)}


def test_nothing_left_to_train_is_an_error():
    recipe = replace(Recipe(), {"model.name": "tsn_resnet_tiny"})
    net = planned("tsn_resnet_tiny")
    net.requires_grad_(False)
    with pytest.raises(UserError, match="every parameter is frozen"):
        build.optimizer(recipe, net)
