"""Every registered model keeps the contract.

In CI: every method on at least two image networks, every image network with two methods, every head alone and over the
tiny image network, and all networks that are published as such. The full product is slow.
"""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from on_meta import on_meta

from muybridge.errors import UserError
from muybridge.zoo import VideoModel, WeightedLogits, create, entries, entry, load_weights
from muybridge.zoo.families import BACKBONES, METHODS
from muybridge.zoo.heads import HEADS
from muybridge.zoo.registry import register
from muybridge.zoo.weights import muybridge

NAMES = [about.name for about in entries()]
COMPOSED = {f"{method}_{backbone}": (method, backbone) for method in METHODS for backbone in BACKBONES}
ROUNDS = [
    {
        f"{list(METHODS)[i % len(METHODS)]}_{list(BACKBONES)[(i + shift) % len(BACKBONES)]}"
        for i in range(max(len(METHODS), len(BACKBONES)))
    }
    for shift in (0, 4)
]
"""Each has every method and every image network at least once."""
PAIRS = ROUNDS[0] | ROUNDS[1]
OVER_NETWORKS = {f"{head}_{backbone}" for head in HEADS for backbone in BACKBONES}
FIXED_HEADS = tuple(head for head, kind in HEADS.items() if kind.fixed_frames)
TINY_HEADS = {f"{head}_resnet_tiny" for head in HEADS}
IN_CI = {*PAIRS, *TINY_HEADS, *(name for name in NAMES if name not in COMPOSED and name not in OVER_NETWORKS)}
COMPUTED_IN_CI = {
    *(f"{method}_resnet_tiny" for method in METHODS), *HEADS, *TINY_HEADS, "slowfast_resnet50", "cnn_lstm",
}  # fmt: skip
CHANNELS = 4
CLASSES, OTHER_CLASSES = 53, 59
"""Numbers that no layer has for a width or a kernel."""


def marked(names, in_ci):
    return [pytest.param(name, marks=[] if name in in_ci else pytest.mark.slow) for name in names]


def make(name, **arguments):
    torch.manual_seed(0)
    frames = max(8, entry(name).min_frames)
    return create(name, **{"num_classes": 5, "num_frames": frames, "dropout": 0.0, **arguments})


def clip(model, *, batch=2, frames=8, size=32):
    torch.manual_seed(1)
    frames = model.fixed_frames or max(frames, model.min_frames)
    size = model.fixed_size or max(size, model.min_size)
    device = next(model.parameters()).device
    return torch.randn(model.zeros(frames, size, batch_size=batch).shape, device=device)


def test_ci_has_every_method_and_every_image_network_twice():
    for position, names in enumerate((METHODS, BACKBONES)):
        for name in names:
            assert sum(COMPOSED[pair][position] == name for pair in PAIRS) >= 2, name
            assert sum(COMPOSED[pair][position] == name for pair in POOLED_IN_CI) >= 1, name
    assert set(NAMES) >= IN_CI | COMPUTED_IN_CI


@pytest.mark.parametrize("name", marked(NAMES, IN_CI))
def test_contract(name):
    """With four channels, or 64 values: other tests have others."""
    channels = 64 if name in HEADS else CHANNELS
    model = on_meta(name, num_classes=CLASSES, in_channels=channels)
    assert isinstance(model, VideoModel)
    assert (model.input_kind, model.in_channels) == ("features" if name in HEADS else "clip", channels)
    if name not in HEADS:
        assert len(model.preprocessing.mean) == len(model.preprocessing.std) == CHANNELS
    if not name.startswith(FIXED_HEADS):  # they take as many frames as the recipe says
        assert (model.fixed_frames or model.min_frames) == entry(name).min_frames
    assert (model.fixed_size or model.min_size) == entry(name).min_size

    # the declared minimum is enough
    x_BCTHW = clip(model, frames=model.min_frames, size=model.min_size)
    features, given = model.features, []
    model.features = lambda x: given.append(features(x)) or given[-1]
    assert model(x_BCTHW).shape == (2, CLASSES)
    (f_BTD,) = given
    assert f_BTD.shape == (2, f_BTD.shape[1], model.num_features)
    if name in COMPOSED:
        assert f_BTD.shape[1] == model.min_frames
    (refuses_what_does_not_fit if name not in HEADS else refuses_vectors_that_do_not_fit)(model, x_BCTHW)

    # nothing but the classifier depends on the classes
    assert sides(model, CLASSES) == set(model.classifier_names())
    loaded = load_weights(model, model.state_dict())
    assert (loaded.source, loaded.fresh, loaded.left_out) == (muybridge.SOURCE.name, (), ())
    model.reset_classifier(OTHER_CLASSES)
    assert sides(model, OTHER_CLASSES) == set(model.classifier_names())
    assert model.head(f_BTD).shape == (2, OTHER_CLASSES)

    if name not in COMPOSED:
        with pytest.raises(UserError, match="no temporal pooling"):
            on_meta(name, temporal_pooling=True)


def sides(model, length):
    """The tensors with a side of this length."""
    return {name for name, tensor in model.state_dict().items() if length in tensor.shape}


def refuses_what_does_not_fit(model, good_BCTHW):
    """A clip that does not fit is refused with what would."""
    channels, frames, size, _ = good_BCTHW.shape[1:]

    def refused(shape, message):
        with pytest.raises(UserError, match=message):
            model(torch.empty(shape, device="meta"))

    other = 3 if channels != 3 else 5
    refused((1, other, frames, size, size), f"takes {channels} channels, but got {other}")
    refused((3, 64, 64), "clips")
    if model.fixed_frames is not None:
        refused((1, channels, frames + 1, size, size), f"clips of {frames} frames, but got {frames + 1}")
    elif model.min_frames > 1:
        short = model.min_frames - 1
        refused((1, channels, short, size, size), f"at least {model.min_frames} frames, but got {short}")
        with pytest.raises(UserError, match=f"at least {model.min_frames} frames"):
            model.check_frames(short)
    if model.fixed_size is not None:
        refused((1, channels, frames, size + 1, size), f"takes {size}x{size} pixels, but got {size + 1}x{size}")
    else:
        refused((1, channels, frames, model.min_size - 1, 64), f"at least {model.min_size}x{model.min_size}")


def refuses_vectors_that_do_not_fit(model, good_BTD):
    """As clips are."""
    frames, width = good_BTD.shape[1:]
    for shape in ((1, frames, width + 1), (frames, width), (0, frames, width)):
        with pytest.raises(UserError, match=rf"Give vectors \(B,T,{width}\)"):
            model(torch.empty(shape, device="meta"))
    if model.fixed_frames is not None:
        with pytest.raises(UserError, match=f"clips of {frames} frames, but got {frames + 1}"):
            model(torch.empty((1, frames + 1, width), device="meta"))


POOLED_IN_CI = ROUNDS[1]


@pytest.mark.parametrize("name", marked(COMPOSED, POOLED_IN_CI))
def test_temporal_pooling_leaves_an_eighth(name):
    model = on_meta(name, temporal_pooling=True)
    x_BCTHW = clip(model)
    assert model(x_BCTHW).shape == (2, 5)
    assert model.features(x_BCTHW).shape == (2, 1, model.num_features)
    assert model.features(clip(model, frames=24, batch=1)).shape == (1, 3, model.num_features)
    refuses_what_does_not_fit(model, x_BCTHW)
    assert model.min_frames == 8


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_longer_clips_and_pooling_to_an_eighth(method):
    for backbone in ("resnet50", "inceptionv1", "vgg16"):
        name = f"{method}_{backbone}"
        plain, pooled = on_meta(name), on_meta(name, temporal_pooling=True)
        for frames in (16, 32, 64):
            x_BCTHW = torch.empty(1, 3, frames, 96, 96, device="meta")
            assert plain.features(x_BCTHW).shape[1] == frames, (name, frames)
            assert pooled.features(x_BCTHW).shape[1] == frames // 8, (name, frames)


@pytest.mark.parametrize("name", marked(NAMES, COMPUTED_IN_CI))
def test_values(name, tmp_path):
    """Clips do not touch each other, weights survive a file, a new classifier leaves features, gradients are finite."""
    model = make(name).eval()
    x_BCTHW = clip(model, batch=3)
    if (
        name in OVER_NETWORKS
    ):  # features of untrained deep networks are in the thousands, and gates enlarge rounding errors
        model, x_BCTHW = model.double(), x_BCTHW.double()
    middle_BCTHW = x_BCTHW[1:2]
    with torch.no_grad():
        together_BK, alone_BK = model(x_BCTHW), model(middle_BCTHW)
        scale = together_BK.abs().max()  # untrained deep networks give logits of any size
        assert torch.allclose(together_BK[1:2] / scale, alone_BK / scale, atol=1e-5)

        safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.01)
        assert not torch.equal(model(middle_BCTHW), alone_BK)
        model.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
        before = model.features(middle_BCTHW)
        assert torch.equal(model.head(before), alone_BK)
        model.reset_classifier(3)
        assert torch.equal(model.features(middle_BCTHW), before)
        assert model.head(before).shape == (1, 3)

    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any():
            torch.nn.init.ones_(module.weight)  # a branch that starts as nothing has no gradient behind it yet
    out = model(x_BCTHW)
    heads = out.logits_NBK if isinstance(out, WeightedLogits) else out[None]
    sum(F.cross_entropy(logits_BK, torch.tensor([0, 1, 2])) for logits_BK in heads).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_unknown_names_and_options_name_the_nearest():
    with pytest.raises(UserError, match="tsm_resnet18"):
        create("tsm_resnt18", num_classes=5)
    with pytest.raises(UserError, match="no option 'shift'"):
        create("tsm_resnet_tiny", num_classes=5, shift=2)
    with pytest.raises(UserError, match="no option 'backbone'"):
        create("tsm_resnet_tiny", num_classes=5, backbone="resnet50")
    with pytest.raises(UserError, match="is not found on Python's path"):
        create("no_such_module:net", num_classes=5)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="twice"):
        register(NAMES[0], family="", paper="", build=lambda: None)
