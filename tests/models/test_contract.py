"""Every registered model keeps the contract."""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from muybridge.errors import UserError
from muybridge.models import VideoModel, create, entries
from muybridge.models.registry import register

NAMES = [entry.name for entry in entries()]


def make(name, **arguments):
    torch.manual_seed(0)
    return create(name, **{"num_classes": 5, "num_frames": 8, "dropout": 0.0, **arguments})


def clip(model, *, batch=2, frames=8, size=32):
    torch.manual_seed(1)
    return torch.randn(batch, 3, max(frames, model.min_frames), max(size, model.min_size), max(size, model.min_size))


@pytest.mark.parametrize("temporal_pooling", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name, temporal_pooling):
    model = make(name, temporal_pooling=temporal_pooling).eval()
    x_BCTHW = clip(model)
    with torch.no_grad():
        f_BTD = model.features(x_BCTHW)
        logits_BK = model(x_BCTHW)
    assert f_BTD.shape == (2, 1 if temporal_pooling else 8, model.num_features)
    assert logits_BK.shape == (2, 5)
    assert torch.allclose(logits_BK, model.head(f_BTD), atol=1e-6)


@pytest.mark.parametrize("frames", [16, 32])
@pytest.mark.parametrize("method", ["tsn", "tsm", "tam", "i3d", "s3d"])
def test_longer_clips_and_pooling_to_an_eighth(method, frames):
    name = f"{method}_resnet_tiny"
    with torch.no_grad():
        assert make(name).features(torch.randn(1, 3, frames, 32, 32)).shape[1] == frames
        assert make(name, temporal_pooling=True).features(torch.randn(1, 3, frames, 32, 32)).shape[1] == frames // 8


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_finite_gradient(name):
    model = make(name).train()
    F.cross_entropy(model(clip(model, batch=3)), torch.tensor([0, 1, 2])).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_a_batch_do_not_touch_each_other(name):
    model = make(name).eval()
    x_BCTHW = clip(model, batch=3)
    with torch.no_grad():
        together, alone = model(x_BCTHW), torch.cat([model(x[None]) for x in x_BCTHW])
    scale = together.abs().max()  # untrained deep networks give logits of any size
    assert torch.allclose(together / scale, alone / scale, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_a_round_trip(name, tmp_path):
    model = make(name).eval()
    x_BCTHW = clip(model)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(99)
    other = create(name, num_classes=5, num_frames=8, dropout=0.0).eval()
    assert not torch.equal(other(x_BCTHW), model(x_BCTHW))
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(x_BCTHW), model(x_BCTHW))


@pytest.mark.parametrize("name", NAMES)
def test_reset_classifier(name):
    model = make(name).eval()
    x_BCTHW = clip(model)
    with torch.no_grad():
        before = model.features(x_BCTHW)
        model.reset_classifier(7)
        assert model(x_BCTHW).shape == (2, 7)
        assert torch.equal(model.features(x_BCTHW), before)


@pytest.mark.parametrize("temporal_pooling", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_too_short_and_too_small_clips_name_the_minimum(name, temporal_pooling):
    with torch.device("meta"):
        model = make(name, temporal_pooling=temporal_pooling)
        if model.min_frames > 1:
            with pytest.raises(UserError, match=f"at least {model.min_frames} frames; got {model.min_frames - 1}"):
                model(torch.empty(1, 3, model.min_frames - 1, 64, 64))
            with pytest.raises(UserError, match=f"at least {model.min_frames} frames"):
                make(name, temporal_pooling=temporal_pooling, num_frames=model.min_frames - 1)
        with pytest.raises(UserError, match=f"at least {model.min_size}x{model.min_size}"):
            model(torch.empty(1, 3, 8, model.min_size - 1, 64))
        with pytest.raises(UserError, match="clips"):
            model(torch.empty(3, 64, 64))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_says_what_its_input_is(name):
    with torch.device("meta"):
        model = make(name)
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
    with pytest.raises(UserError, match="cannot be imported"):
        create("no_such_module:net", num_classes=5)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="twice"):
        register(NAMES[0], family="", paper="", build=lambda: None)
