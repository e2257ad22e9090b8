"""Every registered model keeps the contract."""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from on_meta import on_meta

from muybridge.errors import UserError
from muybridge.zoo import VideoModel, WeightedLogits, create, entries, entry
from muybridge.zoo.families import METHODS
from muybridge.zoo.registry import register

NAMES = [about.name for about in entries()]
LIGHT = {
    *(f"{method}_resnet_tiny" for method in METHODS), "tam_inceptionv1", "s3d_inceptionv1", "nln_inceptionv1",
    "i3d_resnet18", "tsn_inceptionv3", "slowfast_resnet50", "r2plus1d_resnet18", "x3d_s", "vgg9", "cnn_lstm",
}  # fmt: skip
WITH_VALUES = [pytest.param(name, marks=[] if name in LIGHT else pytest.mark.slow) for name in NAMES]
"""All models, for tests that compute: large ones are slow. What needs shapes only runs on the meta device, for all."""


def make(name, **arguments):
    torch.manual_seed(0)
    return create(name, **{"num_classes": 5, "num_frames": frames_for(name), "dropout": 0.0, **arguments})


def frames_for(name):
    return max(8, entry(name).min_frames)


def can_pool(name):
    return "_" in name and name.partition("_")[0] in METHODS and name not in ("i3d_resnet50_kinetics",)


POOLABLE = [(name, pooled) for name in NAMES for pooled in ((False, True) if can_pool(name) else (False,))]


def clip(model, *, batch=2, frames=8, size=32):
    torch.manual_seed(1)
    frames = model.fixed_frames or max(frames, model.min_frames)
    size = model.fixed_size or max(size, model.min_size)
    device = next(model.parameters()).device
    return torch.randn(batch, model.in_channels, frames, size, size, device=device)


@pytest.mark.parametrize(("name", "temporal_pooling"), POOLABLE)
def test_shapes(name, temporal_pooling):
    model = on_meta(name, temporal_pooling)
    x_BCTHW = clip(model)
    f_BTD = model.features(x_BCTHW)
    assert f_BTD.shape == (2, f_BTD.shape[1], model.num_features)
    if can_pool(name):
        assert f_BTD.shape[1] == (1 if temporal_pooling else 8)
    assert model(x_BCTHW).shape == model.head(f_BTD).shape == (2, 5)


@pytest.mark.parametrize("name", [name for name in NAMES if not can_pool(name)])
def test_models_without_temporal_pooling_say_so(name):
    with torch.device("meta"), pytest.raises(UserError, match="no temporal pooling"):
        make(name, temporal_pooling=True)


@pytest.mark.parametrize(
    "frames", [pytest.param(16, marks=pytest.mark.slow), pytest.param(32, marks=pytest.mark.slow), 64]
)
@pytest.mark.parametrize("method", METHODS)
def test_longer_clips_and_pooling_to_an_eighth(method, frames):
    with torch.device("meta"):
        for backbone in ("resnet50", "inceptionv1", "vgg16"):
            name = f"{method}_{backbone}"
            x_BCTHW = torch.empty(1, 3, frames, 96, 96)
            assert make(name).features(x_BCTHW).shape[1] == frames
            assert make(name, temporal_pooling=True).features(x_BCTHW).shape[1] == frames // 8


@pytest.mark.parametrize("name", WITH_VALUES)
def test_every_parameter_gets_a_finite_gradient(name):
    model = make(name).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any():
            torch.nn.init.ones_(module.weight)  # a branch that starts as nothing has no gradient behind it yet
    out = model(clip(model, batch=3))
    heads = out.logits_NBK if isinstance(out, WeightedLogits) else out[None]
    sum(F.cross_entropy(logits_BK, torch.tensor([0, 1, 2])) for logits_BK in heads).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", WITH_VALUES)
def test_clips_of_a_batch_do_not_touch_each_other(name):
    model = make(name).eval()
    x_BCTHW = clip(model, batch=3)
    with torch.no_grad():
        together, alone = model(x_BCTHW), torch.cat([model(x[None]) for x in x_BCTHW])
    scale = together.abs().max()  # untrained deep networks give logits of any size
    assert torch.allclose(together / scale, alone / scale, atol=1e-5)


@pytest.mark.parametrize("name", WITH_VALUES)
def test_weights_survive_a_round_trip(name, tmp_path):
    model = make(name).eval()
    x_BCTHW = clip(model)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(99)
    other = create(name, num_classes=5, num_frames=frames_for(name), dropout=0.0).eval()
    assert not torch.equal(other(x_BCTHW), model(x_BCTHW))
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(x_BCTHW), model(x_BCTHW))


@pytest.mark.parametrize("name", WITH_VALUES)
def test_reset_classifier(name):
    model = make(name).eval()
    x_BCTHW = clip(model)
    with torch.no_grad():
        before = model.features(x_BCTHW)
        model.reset_classifier(7)
        assert model(x_BCTHW).shape == (2, 7)
        assert torch.equal(model.features(x_BCTHW), before)


@pytest.mark.parametrize(("name", "temporal_pooling"), POOLABLE)
def test_clips_that_do_not_fit_name_what_would(name, temporal_pooling):
    model = on_meta(name, temporal_pooling)
    with torch.device("meta"):
        good = clip(model, batch=1)
        channels, frames, size, _ = good.shape[1:]
        if model.fixed_frames is not None:
            with pytest.raises(UserError, match=f"clips of {model.fixed_frames} frames; got {frames + 1}"):
                model(torch.empty(1, channels, frames + 1, size, size))
        elif model.min_frames > 1:
            with pytest.raises(UserError, match=f"at least {model.min_frames} frames; got {model.min_frames - 1}"):
                model(torch.empty(1, channels, model.min_frames - 1, size, size))
            with pytest.raises(UserError, match=f"at least {model.min_frames} frames"):
                make(name, temporal_pooling=temporal_pooling, num_frames=model.min_frames - 1)
        if model.fixed_size is not None:
            with pytest.raises(UserError, match=f"takes {size}x{size} pixels; got {size + 1}x{size}"):
                model(torch.empty(1, channels, frames, size + 1, size))
        else:
            with pytest.raises(UserError, match=f"at least {model.min_size}x{model.min_size}"):
                model(torch.empty(1, channels, frames, model.min_size - 1, 64))
        with pytest.raises(UserError, match="clips"):
            model(torch.empty(3, 64, 64))
        with pytest.raises(UserError, match=f"takes {channels} channels; got 5"):
            model(torch.empty(1, 5, frames, size, size))


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_minimum_is_enough(name):
    model = on_meta(name)
    least = clip(model, frames=model.min_frames, size=model.min_size, batch=1)
    assert model(least).shape == (1, 5)
    assert (model.fixed_frames or model.min_frames) == entry(name).min_frames
    assert (model.fixed_size or model.min_size) == entry(name).min_size


@pytest.mark.parametrize("name", NAMES)
def test_a_model_says_what_its_input_is(name):
    model = on_meta(name)
    assert isinstance(model, VideoModel)
    assert model.input_kind == "clip"
    assert len(model.preprocessing.mean) == len(model.preprocessing.std) == 3


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
