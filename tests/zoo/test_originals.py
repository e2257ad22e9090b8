"""Networks as their authors published them: I3D, S3D, S3D on Inception-v3, C3D, and those for small clips."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from muybridge.errors import UserError
from muybridge.zoo import Preprocessing, WeightedLogits, create, load_weights
from muybridge.zoo.count import outline
from muybridge.zoo.networks.s3dv3 import AuxHead
from muybridge.zoo.volumes import Conv, Pool
from muybridge.zoo.weights import pytorch_i3d, torchvision_s3d

KEYS = Path(__file__).parent / "keys"


def on_meta(name, *, num_classes=5, num_frames=64, **options):
    """In evaluation mode."""
    return outline(name, num_classes=num_classes, num_frames=num_frames, **options)


def test_i3d_for_flow_has_another_first_layer_and_no_more():
    rgb, flow = on_meta("i3d", num_classes=400), on_meta("i3d", num_classes=400, in_channels=2)
    assert sum(p.numel() for p in flow.parameters()) == 12_675_312
    of_flow = flow.state_dict()
    different = [name for name, tensor in rgb.state_dict().items() if tensor.shape != of_flow[name].shape]
    assert different == ["backbone.conv1.conv.weight"]
    assert flow(torch.empty(1, 2, 16, 224, 224, device="meta")).shape == (1, 400)
    assert len(flow.preprocessing.mean) == 2
    assert rgb.published["kinetics400"].url.endswith("rgb_imagenet.pt")
    assert flow.published["kinetics400"].url.endswith("flow_imagenet.pt")


@pytest.mark.parametrize(("name", "frames_left"), [("i3d", 7), ("s3d", 7), ("s3dv3", 1), ("s3dv3_topheavy", 15)])
def test_frames_that_are_left_of_64(name, frames_left):
    model = on_meta(name)
    assert model.features(torch.empty(1, 3, 64, 224, 224, device="meta")).shape == (1, frames_left, model.num_features)


@pytest.mark.parametrize("name", ["i3d", "s3d", "s3dv3", "s3dv3_topheavy", "s3dv3_inflated"])
def test_below_the_minimum_nothing_is_left(name):
    model = on_meta(name)
    least = (1, 3, model.min_frames, model.min_size, model.min_size)
    assert model.features(torch.empty(least, device="meta")).numel() == model.num_features
    for axis in (2, 3, 4):
        with pytest.raises(RuntimeError):
            model.features(torch.empty([side - (i == axis) for i, side in enumerate(least)], device="meta"))


def shapes_THWC(modules, run):
    """Of what each module gives."""
    shapes = []
    hooks = [
        module.register_forward_hook(lambda _, __, out: shapes.append((*out.shape[2:], out.shape[1])))
        for module in modules
    ]
    run()
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize("name", ["s3dv3", "s3dv3_inflated"])
def test_s3dv3_layer_by_layer(name):
    model = on_meta(name).eval()
    x_BCTHW = torch.empty(1, 3, 64, 224, 224, device="meta")
    assert shapes_THWC([*model.stem, *model.middle, *model.top], lambda: model(x_BCTHW)) == [
        (32, 112, 112, 32), (32, 112, 112, 32), (32, 112, 112, 64), (16, 56, 56, 64), (16, 56, 56, 80),
        (16, 56, 56, 192), (8, 28, 28, 192),
        (8, 28, 28, 256), (8, 28, 28, 288), (8, 28, 28, 288),
        (3, 13, 13, 480), (3, 13, 13, 768), (3, 13, 13, 768), (3, 13, 13, 768), (3, 13, 13, 768),
        (1, 6, 6, 1280), (1, 6, 6, 2048), (1, 6, 6, 2048),
    ]  # fmt: skip


def test_topheavy_keeps_all_frames_to_mixed2_and_looks_along_time_from_there():
    model = on_meta("s3dv3_topheavy", aux=False)
    x_BCTHW = torch.empty(1, 3, 64, 224, 224, device="meta")
    shapes = shapes_THWC([*model.stem, *model.middle, *model.top], lambda: model(x_BCTHW))
    assert [shape[0] for shape in shapes] == [64] * 10 + [31] * 5 + [15] * 3
    assert [shape[1:] for shape in shapes[7:]] == [
        (28, 28, 256), (28, 28, 288), (28, 28, 288), (13, 13, 480), *[(13, 13, 768)] * 4, (6, 6, 1280), *[(6, 6, 2048)] * 2,
    ]  # fmt: skip
    temporal = {
        ".".join(name.split(".")[:2])
        for name, module in model.named_modules()
        if isinstance(module, Conv | Pool)
        and (module.kernel_size if isinstance(module, Conv) else module.kernel)[0] > 1
    }
    assert temporal == {"middle.2", "middle.3", "top.0", "top.1", "top.2"}
    of_top = {m.kernel_size for m in model.top.modules() if isinstance(m, Conv) and m.kernel_size[0] > 1}
    assert of_top == {(3, 1, 1)}


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("s3dv3", {(7, 1, 1), (1, 7, 1), (1, 1, 7)}),
        ("s3dv3_inflated", {(7, 1, 7), (7, 7, 1)}),
        ("s3dv3_topheavy", {(1, 1, 7), (1, 7, 1)}),
    ],
)
def test_what_stands_for_the_7_long_convolutions(name, kernels):
    found = [m.kernel_size for m in on_meta(name).modules() if isinstance(m, Conv) and 7 in m.kernel_size]
    assert set(found) == kernels
    # three times in each of four blocks (one branch has two rounds), once in the reduction
    assert all(found.count(kernel) == 4 * 3 + 1 for kernel in kernels)


@pytest.mark.parametrize("name", ["s3dv3", pytest.param("s3dv3_topheavy", marks=pytest.mark.slow)])
def test_the_auxiliary_head_works_in_training_only(name):
    plain, model = on_meta(name, aux=False), on_meta(name)
    x_BCTHW = torch.empty(2, 3, 64, 224, 224, device="meta")
    aux_params = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters())
    assert aux_params == 768 * 128 + 2 * 128 + 128 * 768 * 27 + 2 * 768 + 768 * 5 + 5
    assert model.eval()(x_BCTHW).shape == plain.train()(x_BCTHW).shape == (2, 5)
    out = model.train()(x_BCTHW)
    assert isinstance(out, WeightedLogits)
    assert out.logits_NBK.shape == (2, 2, 5)
    model.reset_classifier(7)
    assert model(x_BCTHW).logits_NBK.shape == (2, 2, 7)


def test_the_auxiliary_head_sees_all_that_64_frames_of_224_leave():
    head = AuxHead(768, 5)
    x_BCTHW = torch.randn(2, 768, 3, 13, 13, requires_grad=True)
    F.cross_entropy(head(x_BCTHW), torch.tensor([0, 1])).backward()
    assert (x_BCTHW.grad.abs().sum((0, 1))[:, :11, :11] > 0).all()  # (three windows of five, three apart)
    assert head(torch.randn(2, 768, 3, 17, 17)).shape == (2, 5)


def test_the_auxiliary_head_takes_all_that_the_network_takes():
    model = on_meta("s3dv3").train()
    for size in (49, 112, 176, 177):
        logits_NBK = model(torch.empty(2, 3, model.min_frames, size, size, device="meta")).logits_NBK
        assert logits_NBK.shape == (2, 2, 5), size


@pytest.mark.slow
def test_the_loss_weighs_the_auxiliary_head_and_the_answer_is_the_first():
    torch.manual_seed(0)
    model = create("s3dv3", num_classes=5, num_frames=49, dropout=0.0).train()
    x_BCTHW = torch.randn(2, 3, 49, 177, 177)
    out = model(x_BCTHW)
    assert out.weights_N.tolist() == pytest.approx([1.0, 0.3])
    assert torch.allclose(out.logits_NBK[0], model.head(model.features(x_BCTHW)), atol=1e-5)
    assert not torch.allclose(out.logits_NBK[0], out.logits_NBK[1], atol=1e-3)
    out.logits_NBK.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_c3d_takes_16_frames_of_112_and_leaves_8192_features():
    model = on_meta("c3d", num_frames=16)
    assert model.hidden[0].in_features == 8192
    with pytest.raises(UserError, match="clips of 16 frames, but got 8"):
        on_meta("c3d", num_frames=8)


def test_c3d_small_has_six_convolutions_four_pools_and_two_layers_of_1024():
    model = on_meta("c3d_small", num_frames=30)
    assert [m.kernel_size for m in model.convs if isinstance(m, Conv)] == [(3, 3, 3)] * 6
    assert [m.kernel for m in model.convs if isinstance(m, Pool)] == [(1, 2, 2)] + [(2, 2, 2)] * 3
    assert [m.out_features for m in model.modules() if isinstance(m, nn.Linear)] == [5, 1024, 1024]


def test_vgg9_has_nine_layers_and_500_outputs_a_frame():
    model = on_meta("vgg9", num_frames=30)
    layers = [m for part in (model.convs, model.rest) for m in part if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 9
    assert [m.out_channels for m in layers[:6]] == [64, 128, 256, 256, 512, 512]
    assert [m.out_features for m in layers[6:]] == [2048, 2048, 500]
    assert model.fc.in_features == 30 * 500


def test_cnn_lstm_has_convolutions_of_2_3_and_5_and_all_outputs_of_its_lstm():
    model = on_meta("cnn_lstm", num_frames=30)
    assert [m.kernel_size for m in model.convs if isinstance(m, nn.Conv2d)] == [(2, 2), (3, 3), (5, 5)]
    per_frame, lstm = model.rest
    assert (per_frame.in_features, per_frame.out_features) == (8 * 8 * 128, 500)
    assert lstm.input_size == 500
    assert model.fc.in_features == 30 * lstm.hidden_size


def test_cnn_lstms_biases_begin_as_zero():
    model = create("cnn_lstm", num_classes=5)
    per_frame, lstm = model.rest
    biases = [p for name, p in lstm.named_parameters() if "bias" in name] + [per_frame.bias, model.fc.bias]
    assert len(biases) == 4
    assert all((bias == 0).all() for bias in biases)


SMALL = [("c3d_small", {}), ("vgg9", {}), ("vgg9", {"fusion": "mean"}), ("cnn_lstm", {})]


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_small_clips_of_other_lengths_and_sizes(name, options):
    torch.manual_seed(0)
    model = create(name, num_classes=5, num_frames=9, size=32, **options).eval()
    x_BCTHW = torch.randn(2, 3, 9, 32, 32)
    with torch.no_grad():
        logits_BK, backwards_BK = model(x_BCTHW), model(x_BCTHW.flip(2))
        assert torch.allclose(model.head(model.features(x_BCTHW)), logits_BK, atol=1e-6)
    blind_to_order = torch.allclose(logits_BK, backwards_BK, rtol=1e-4, atol=1e-6)
    assert blind_to_order == (options.get("fusion") == "mean")
    with pytest.raises(UserError, match="takes 32x32 pixels"):
        model(torch.empty(2, 3, 9, 64, 64))
    if options.get("fusion") == "mean":
        assert model(torch.randn(1, 3, 4, 32, 32)).shape == (1, 5)
    else:
        with pytest.raises(UserError, match="clips of 9 frames, but got 10"):
            model(torch.empty(2, 3, 10, 32, 32))


def test_small_clips_that_leave_nothing():
    with pytest.raises(UserError, match="at least 8 frames of 16x16 pixels, but got 7 frames"):
        on_meta("c3d_small", num_frames=7)
    with pytest.raises(UserError, match="leave nothing of 15x15 pixels"):
        on_meta("vgg9", num_frames=7, size=15)
    with pytest.raises(UserError, match=r"fusion 'max' is unknown\. Choose linear or mean"):
        on_meta("vgg9", fusion="max")


SOURCES = {"i3d": (pytorch_i3d.SOURCE, "pytorch_i3d"), "s3d": (torchvision_s3d.SOURCE, "torchvision_s3d")}


def published_state(name):
    """Names and shapes of the published file's tensors."""
    shapes = json.loads((KEYS / f"{SOURCES[name][1]}.json").read_text())
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("classes", [400, 157], ids=["flow_imagenet", "flow_charades"])
def test_published_weights_of_flow_load_into_i3d(classes):
    """pytorch-i3d's files of flow are those of frames with a first layer of two channels, and Charades' have 157 classes."""
    shapes = json.loads((KEYS / "pytorch_i3d.json").read_text())
    shapes["Conv3d_1a_7x7.conv3d.weight"][1] = 2
    for name in ("logits.conv3d.weight", "logits.conv3d.bias"):
        shapes[name][0] = classes
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    state["Conv3d_1a_7x7.conv3d.weight"] = torch.rand(64, 2, 7, 7, 7)
    model = create("i3d", num_classes=classes, num_frames=16, in_channels=2)
    loaded = load_weights(model, state)
    assert (loaded.source, loaded.fresh, loaded.left_out, dict(loaded.crossed)) == ("pytorch-i3d", (), (), {})
    assert torch.equal(model.state_dict()["backbone.conv1.conv.weight"], state["Conv3d_1a_7x7.conv3d.weight"])
    assert model.preprocessing == Preprocessing((0.5, 0.5), (0.5, 0.5))  # the authors' -1 … 1
    for channels in (3, 10):
        with pytest.raises(UserError, match=rf"of 2 channels, and this network takes {channels}\. .* clip\.stack=1"):
            load_weights(on_meta("i3d", num_classes=classes, in_channels=channels), state)


@pytest.mark.parametrize("name", SOURCES)
def test_every_published_tensor_has_its_place(name):
    source, model, state = SOURCES[name][0], on_meta(name, num_classes=400), published_state(name)
    assert source.recognises(state, model)
    converted = {key: tuple(tensor.shape) for key, tensor in source.convert(state, model).items()}
    own = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert converted == own
    (other,) = (SOURCES[n] for n in SOURCES if n != name)
    assert not other[0].recognises(state, model)


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("i3d", "Conv3d_2c_3x3.bn.running_var", "backbone.conv3.bn.running_var"),
        ("i3d", "Mixed_3b.b1b.conv3d.weight", "backbone.inception3a.branch2.1.conv.weight"),
        ("i3d", "Mixed_4f.b2a.bn.bias", "backbone.inception4e.branch3.0.bn.bias"),
        ("i3d", "Mixed_5c.b3b.conv3d.weight", "backbone.inception5b.branch4.1.conv.weight"),
        ("i3d", "logits.conv3d.bias", "fc.bias"),
        ("i3d", "Mixed_5c.b4.conv3d.weight", "Mixed_5c.b4.conv3d.weight"),
        ("s3d", "features.0.1.0.weight", "backbone.conv1.after.conv.weight"),
        ("s3d", "features.2.1.running_mean", "backbone.conv2.bn.running_mean"),
        ("s3d", "features.5.branch0.0.weight", "backbone.inception3a.branch1.conv.weight"),
        ("s3d", "features.12.branch2.0.1.bias", "backbone.inception4e.branch3.0.bn.bias"),
        ("s3d", "features.15.branch1.1.0.0.weight", "backbone.inception5b.branch2.1.conv.weight"),
        ("s3d", "features.15.branch1.1.1.1.weight", "backbone.inception5b.branch2.1.after.bn.weight"),
        ("s3d", "features.14.branch3.1.0.weight", "backbone.inception5a.branch4.1.conv.weight"),
        ("s3d", "classifier.1.bias", "fc.bias"),
        ("s3d", "features.7.weight", "features.7.weight"),
    ],
)
def test_where_a_published_tensor_goes(name, theirs, ours):
    tensor = torch.randn(3)
    converted = SOURCES[name][0].convert({theirs: tensor}, on_meta(name))
    assert list(converted) == [ours]
    assert torch.equal(converted[ours], tensor)
