"""Layers of networks of every kind, and the factors of their learning rates."""

import pytest
import torch
from on_meta import on_meta
from torch import nn

from muybridge.zoo import VideoModel, entries
from muybridge.zoo.layer_groups import layers, lr_factors

CLASSIFIER = {"fc.weight", "fc.bias"}


def stems(model):
    """What the names of each layer have in common."""
    found = []
    for names in layers(model):
        first, *others = (name.split(".") for name in sorted(names))
        common = [part for i, part in enumerate(first) if all(other[: i + 1] == first[: i + 1] for other in others)]
        found.append(".".join(common))
    return found


class Encoder(VideoModel):
    """A transformer in the form of Hugging Face's: blocks deep inside, a class token, a norm at the end."""

    def __init__(self):
        super().__init__(8, 5, dropout=0.0)
        self.encoder = nn.Module()
        self.encoder.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.encoder.patches = nn.Conv3d(3, 8, 2, 2)
        self.encoder.body = nn.Module()
        self.encoder.body.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3)
        )
        self.encoder.norm = nn.LayerNorm(8)


@pytest.mark.parametrize(
    "name", [e.name for e in entries() if "_" not in e.name or "resnet18" in e.name or "lite0" in e.name]
)
def test_every_parameter_is_in_one_layer_or_the_classifiers(name):
    model = on_meta(name)
    found = [parameter for names in layers(model) for parameter in names]
    own = {n for n, _ in model.named_parameters()}
    inside = {n for n in own if n.startswith(f"{model.image_network}.")} or own - set(model.classifier_names())
    assert len(found) == len(set(found))
    assert set(found) == inside
    assert not set(found) & set(model.classifier_names())


def test_layers_of_a_resnet_are_its_stem_and_blocks():
    blocks = [f"backbone.layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    model = on_meta("tam_resnet18")
    assert stems(model)[1:] == blocks
    assert layers(model)[0] == ["backbone.conv1.weight", "backbone.bn1.weight", "backbone.bn1.bias"]
    assert "backbone.layer1.0.conv1.before.conv.weight" in layers(model)[1], "what a method puts in goes with its block"


def test_layers_of_other_networks():
    assert len(layers(on_meta("tsn_mobilenet_v2"))) == len(layers(on_meta("tsn_efficientnet_lite0"))) + 1 == 19
    assert stems(on_meta("tsn_inceptionv1"))[-1] == "backbone.inception5b"
    assert stems(on_meta("slowfast_resnet50"))[0] == "slow"
    assert all(name.startswith("slow.") for names in layers(on_meta("slowfast_resnet50")) for name in names)
    assert stems(on_meta("c3d"))[-2:] == ["hidden.0", "hidden.3"]


def test_a_transformers_blocks_are_found_however_deep():
    first, *blocks = layers(Encoder())
    assert first == ["encoder.token", "encoder.patches.weight", "encoder.patches.bias"]
    assert len(blocks) == 3
    assert blocks[-1][-2:] == ["encoder.norm.weight", "encoder.norm.bias"]


def test_factors_are_those_of_the_formula():
    """BEiT's: decay to the power of the number of layers above, the classifier being the last."""
    model = on_meta("tsn_resnet18")
    factors = lr_factors(model, backbone_lr=0.5, layer_decay=0.75)
    assert factors["fc.weight"] == factors["fc.bias"] == 1.0
    assert factors["backbone.layer4.1.conv2.weight"] == pytest.approx(0.5 * 0.75)
    assert factors["backbone.layer4.0.conv2.weight"] == pytest.approx(0.5 * 0.75**2)
    assert factors["backbone.conv1.weight"] == factors["backbone.bn1.bias"] == pytest.approx(0.5 * 0.75**9)
    assert set(lr_factors(model).values()) == {1.0}
    assert set(lr_factors(model, backbone_lr=0.1).values()) == {0.1, 1.0}
