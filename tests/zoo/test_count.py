"""Parameters and multiply-adds: every published figure, and that the layers' sum is the model's."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from muybridge.api import models
from muybridge.errors import UserError
from muybridge.zoo import VideoModel, create, entries
from muybridge.zoo.count import (
    SAVED_SHARE,
    count,
    count_module,
    count_parameters,
    layers,
    listed_conv_macs,
    listing,
    natural_input,
    outline,
    training_bytes,
)
from muybridge.zoo.families import BACKBONES, METHODS
from muybridge.zoo.heads import HEADS

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "parity"))

import fidelity  # noqa: E402

FIGURES = fidelity.figures()
NAMES = [entry.name for entry in entries()]
COMPOSED = {f"{method}_{backbone}" for method in (*METHODS, *HEADS) for backbone in BACKBONES}
FEW = [name for name in NAMES if name.endswith("_tiny") or name not in COMPOSED]
TABLE_3 = sorted({f.model for f in FIGURES if f.source == "2021 study, table 3"})


def test_published_costs_are_counted_and_the_page_tells_them():
    """In one test, as both count the same networks."""
    assert FIGURES
    for figure in FIGURES:
        assert figure.ours_as_published() == figure.published, figure
    page = (ROOT / "docs" / "fidelity.md").read_text()
    assert page.startswith(fidelity.page()[: len(fidelity.HEAD)])
    missing = [line for line in fidelity.page().splitlines() if line not in page]
    assert missing == [], "docs/fidelity.md is out of date: python parity/fidelity.py"


@pytest.mark.slow
def test_the_table_that_is_shipped_is_what_is_counted():
    """`muybridge models` shows it without torch; `python parity/fidelity.py` writes it anew."""
    shipped, counted = models(num_classes=7)["models"], json.loads(json.dumps(listing(num_classes=7)))
    for row in counted:
        row["conv_macs"] = listed_conv_macs(row)
    assert shipped == counted, "zoo/table.json is out of date: python parity/fidelity.py"


def test_the_table_that_is_shipped_has_every_model():
    """Parameters of a composed one a method, and of all others; the slow test counts the whole table."""
    shipped = {row["name"]: row for row in models(num_classes=7)["models"]}
    assert list(shipped) == NAMES, "zoo/table.json is out of date: python parity/fidelity.py"
    for name in FEW:
        frames = max(8, shipped[name]["num_frames"])
        params = count_parameters(outline(name, num_classes=7, num_frames=frames))
        assert shipped[name]["params"] == params, f"{name}: zoo/table.json is out of date: python parity/fidelity.py"
        if name.endswith("_tiny"):
            assert shipped[name]["conv_macs"] == listed_conv_macs(shipped[name]), f"{name}: python parity/fidelity.py"


@pytest.mark.parametrize(
    "names", [[name for name in TABLE_3 if name.endswith("inceptionv1")], pytest.param(TABLE_3, marks=pytest.mark.slow)],
    ids=["one network", "all"],
)  # fmt: skip
def test_temporal_pooling_costs_no_parameters_and_the_classifier_is_counted_for_every_frame(names):
    assert names
    for name in names:
        arguments = {"num_classes": 87, "num_frames": 8, "size": 224}
        plain, pooled = count(name, **arguments), count(name, **arguments, temporal_pooling=True)
        assert pooled.params == plain.params, name
        assert pooled.conv_macs < plain.conv_macs, name
        if not name.startswith("nln"):
            assert plain.macs - plain.conv_macs == 8 * (2048 if "resnet50" in name else 1024) * 87, name


@pytest.mark.parametrize(
    "name", ["tsm_resnet_tiny", "nln_inceptionv1", "slowfast_resnet50", "s3dv3", "cnn_lstm", "c3d"]
)
def test_layers_add_up(name):
    num_frames, size = natural_input(name)
    model = outline(name, num_classes=10, num_frames=num_frames)
    found = layers(model, num_frames=num_frames, size=size)
    sums = tuple(sum(getattr(layer, key) for layer in found) for key in ("params", "conv_macs", "macs"))
    assert sums == count_module(model, num_frames=num_frames, size=size)
    assert all(layer.shape for layer in found if not layer.name.startswith("aux."))  # a head that is not asked


def test_layers_of_a_network_by_hand():
    model = outline("tam_resnet_tiny", num_classes=10, num_frames=8)
    by_name = {layer.name: layer for layer in layers(model, num_frames=8, size=112)}
    stem, blend, fc = (by_name[n] for n in ("backbone.conv1", "backbone.layer2.0.conv1.before.conv", "fc"))
    assert (stem.shape, stem.params, stem.conv_macs) == ((8, 16, 56, 56), 16 * 3 * 49, 8 * 16 * 56 * 56 * 3 * 49)
    assert (blend.params, blend.conv_macs) == (3 * 16, 8 * 28 * 28 * 16 * 3)
    assert by_name["backbone.layer2.0.conv1"].conv_macs == 8 * 14 * 14 * 32 * 16 * 9  # its own, without what is before
    assert (fc.params, fc.conv_macs, fc.macs) == (128 * 10 + 10, 0, 8 * 128 * 10)


def test_heads_for_training_count_as_parameters_only():
    plain, trained = (count("s3dv3", num_classes=5, num_frames=64, size=224, aux=aux) for aux in (False, True))
    assert trained.params > plain.params
    assert trained.macs == plain.macs
    model = outline("s3dv3", num_classes=5, num_frames=64, aux=True)
    assert sum(layer.params for layer in layers(model, num_frames=64, size=224)) == trained.params


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_recurrent_layers_count(device):
    class Recurrent(VideoModel):
        def __init__(self):
            super().__init__(7, 3, dropout=0.0)
            self.lstm = nn.LSTM(3, 7, num_layers=2, batch_first=True)

        def features(self, x_BCTHW):
            return self.lstm(x_BCTHW.mean((3, 4)).transpose(1, 2))[0]

    with torch.device(device):
        params, conv_macs, macs = count_module(Recurrent(), num_frames=5, size=4)
    assert params == 4 * 7 * (3 + 7 + 2) + 4 * 7 * (7 + 7 + 2) + 7 * 3 + 3
    assert (conv_macs, macs) == (0, 5 * (4 * 7 * (3 + 7) + 4 * 7 * (7 + 7) + 7 * 3))


@pytest.mark.parametrize(
    "names", [FEW,
              pytest.param(NAMES, marks=pytest.mark.slow)], ids=["a composed one a method", "all"],
)  # fmt: skip
def test_every_model_takes_its_natural_input(names):
    for name in names:
        num_frames, size = natural_input(name)
        model = outline(name, num_classes=10, num_frames=num_frames)
        assert num_frames >= model.min_frames, name
        assert size >= model.min_size if name not in HEADS else size == 0, name
        assert model.in_channels == (1024 if name in HEADS else 3), name
        assert len(model.preprocessing.mean) == len(model.preprocessing.std) == 3, name
        model.check_input(model.zeros(num_frames, size, device="meta"))


def test_natural_inputs_are_the_published_ones():
    assert natural_input("c3d") == (16, 112)
    assert natural_input("vgg9") == (30, 64)
    assert natural_input("tsm_resnet50") == (8, 112)
    assert natural_input("i3d") == (16, 224)
    assert natural_input("lstm") == natural_input("linear") == (8, 0)


def test_too_short_a_clip_is_told():
    with pytest.raises(UserError, match="at least 4 frames"):
        count("tsm_resnet_tiny", num_classes=10, num_frames=2, size=112)


def test_a_norm_of_other_channels_is_found_without_values():
    """On the meta device norms are skipped, but not one that does not fit."""

    class Wrong(VideoModel):
        def __init__(self):
            super().__init__(8, 3, dropout=0.0)
            self.conv, self.norm = nn.Conv3d(3, 8, 1), nn.BatchNorm3d(4)

        def features(self, x_BCTHW):
            return self.norm(self.conv(x_BCTHW)).mean((3, 4)).transpose(1, 2)

    with torch.device("meta"):
        model = Wrong()
    with pytest.raises((RuntimeError, IndexError)):
        count_module(model, num_frames=2, size=4)


@pytest.mark.parametrize("name", ["tsm_resnet_tiny", "i3d_resnet_tiny", "tsn_resnet18"])
def test_memory_of_a_training_is_estimated_from_what_autograd_really_keeps(name):
    """The same tensors as in a pass with values, and in proportion to the clip."""
    clip = {"num_classes": 5, "num_frames": 8, "size": 64}
    model = create(name, num_classes=5, num_frames=8).train()
    own, kept = {parameter.data_ptr() for parameter in model.parameters()}, {}

    def keep(tensor):
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(2, 3, 8, 64, 64))
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 2
    fixed, a_clip = training_bytes(name, **clip)
    assert fixed == 12 * count_parameters(model)
    assert a_clip * SAVED_SHARE == pytest.approx(real, rel=0.02)
    assert training_bytes(name, **clip | {"num_frames": 16})[1] == pytest.approx(2 * a_clip, rel=0.02)
