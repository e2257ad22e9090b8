"""Weights of others: found, read, recognised, and put in their places; or nothing changes."""

import argparse
import http.server
import io
import os
import pickle
import re
import socket
import tarfile
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
from on_meta import on_meta
from peer_keys import peer_state

from muybridge.errors import UserError
from muybridge.runtime.files import sha256_file
from muybridge.storage import checkpoints as checkpoint
from muybridge.zoo import Preprocessing, create, load_weights
from muybridge.zoo.base import HALF, IMAGENET, LibraryWeights, Published
from muybridge.zoo.families import METHODS, grow
from muybridge.zoo.weights import SOURCES, download


def tiny(method="tsn", num_classes=5, **options):
    return create(f"{method}_resnet_tiny", num_classes=num_classes, **options)


def picture_state(num_classes=1000):
    """A checkpoint of an image network as torchvision would name it, of the tiny ResNet, every value random."""
    torch.manual_seed(3)
    state = tiny(num_classes=num_classes).state_dict()
    return {
        name.removeprefix("backbone."): torch.rand_like(t) + 0.1 if t.is_floating_point() else t
        for name, t in state.items()
    }


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# Recognised, and every name has its place


@pytest.mark.parametrize(
    ("keys", "model", "num_classes", "whose", "preprocessing"),
    [
        ("torchvision_resnet18", "tsn_resnet18", 1000, "torchvision's ResNet", IMAGENET),
        ("torchvision_googlenet", "tsn_inceptionv1", 1000, "torchvision's GoogLeNet", HALF),
        ("torchvision_inception_v3", "tsn_inceptionv3", 1000, "torchvision's InceptionV3", HALF),
        ("torchvision_vgg16", "tsn_vgg16", 1000, "torchvision's VGG16", IMAGENET),
        ("study_tam_resnet18", "tam_resnet18", 7, "the 2021 study's ResNet", IMAGENET),
        ("study_i3d_resnet18", "i3d_resnet18", 7, "the 2021 study's ResNet", IMAGENET),
        ("study_s3d_resnet18", "s3d_resnet18", 7, "the 2021 study's ResNet", IMAGENET),
        ("study_s3d_resnet50", "s3d_resnet50", 7, "the 2021 study's ResNet", IMAGENET),
        ("study_tam_inceptionv1", "tam_inceptionv1", 7, "the 2021 study's InceptionV1", HALF),
        ("study_i3d_inceptionv1", "i3d_inceptionv1", 7, "the 2021 study's InceptionV1", HALF),
        ("study_s3d_inceptionv1", "s3d_inceptionv1", 7, "the 2021 study's InceptionV1", HALF),
        ("mit_tsm_resnet50", "tsm_resnet50", 7, "TSM's authors", IMAGENET),
        ("mit_nln_resnet50", "nln_resnet50", 7, "TSM's authors", IMAGENET),
    ],
)
def test_every_tensor_of_a_peer_has_its_place(keys, model, num_classes, whose, preprocessing):
    ours = on_meta(model, num_classes=num_classes)
    ours.preprocessing = Preprocessing((0.0,) * 3, (9.0,) * 3)
    loaded = load_weights(ours, peer_state(keys))
    assert loaded.source == whose
    assert loaded.fresh == ()
    assert loaded.matched == len(ours.state_dict())
    assert loaded.inflated == 0
    assert {name.split(".")[0] for name in loaded.left_out} <= {"aux1", "aux2", "AuxLogits"}
    assert ours.preprocessing == loaded.preprocessing == preprocessing


@pytest.mark.parametrize("keys", ["torchvision_googlenet", "torchvision_inception_v3"])
def test_auxiliary_heads_are_told_of(keys):
    name = {"torchvision_googlenet": "i3d_inceptionv1", "torchvision_inception_v3": "tsn_inceptionv3"}[keys]
    ours = on_meta(name, num_classes=5)
    state = peer_state(keys)
    loaded = load_weights(ours, state)
    heads = {key for key in state if key.lower().startswith("aux") and not key.endswith("num_batches_tracked")}
    assert len(heads) > 4
    assert set(loaded.left_out) == {*heads, "fc.weight", "fc.bias"}
    assert "left out: " in str(loaded)


def test_the_studys_tam_becomes_taps_in_their_order():
    state = peer_state("study_tam_resnet18", device="cpu")
    ours = create("tam_resnet18", num_classes=7)
    load_weights(ours, state)
    weight_C1T1 = ours.backbone.layer2[1].conv1.before.conv.weight
    for tap, frame in enumerate(("prev", "curr", "next")):
        assert torch.equal(weight_C1T1[:, :, tap, 0], state[f"layer2.1.tam.{frame}_se.fc1.weight"][..., 0, 0])


def test_the_studys_factorised_convolutions_and_their_norms():
    state = peer_state("study_s3d_resnet18", device="cpu")
    ours = create("s3d_resnet18", num_classes=7)
    load_weights(ours, state)
    _, conv, norm = ours.backbone.layer3[0].bn2.after
    assert torch.equal(conv.weight[..., 0], state["layer3.0.conv2_t.weight"][..., 0, 0])
    assert torch.equal(norm.running_var, state["layer3.0.bn2_t.running_var"])
    assert torch.equal(ours.backbone.layer3[0].conv2.weight, state["layer3.0.conv2.weight"][:, :, 0])


def test_non_local_blocks_of_tsms_authors():
    state = peer_state("mit_nln_resnet50", device="cpu")
    ours = create("nln_resnet50", num_classes=7)
    load_weights(ours, state)
    block = ours.backbone.layer3[2].after
    assert torch.equal(block.phi.weight[..., 0, 0], state["base_model.layer3.2.nl.phi.0.weight"][..., 0, 0, 0])
    assert torch.equal(block.theta.bias, state["base_model.layer3.2.nl.theta.bias"])
    assert torch.equal(block.norm.weight, state["base_model.layer3.2.nl.W.1.weight"])
    assert torch.equal(ours.fc.weight, state["new_fc.weight"])


@pytest.mark.parametrize("model", ["tsn_resnet50", "i3d_resnet50", "tam_resnet50"])
def test_weights_of_a_tsm_are_for_a_network_that_shifts_alike(model):
    ours = on_meta(model, num_classes=7)
    with pytest.raises(UserError, match="shifts in 16 blocks, and the model shifts in 0"):
        load_weights(ours, peer_state("mit_tsm_resnet50"))


def test_weights_of_a_tsm_that_shifts_in_other_blocks():
    state = peer_state("mit_tsm_resnet50")
    state["base_model.layer1.1.conv1.weight"] = state.pop("base_model.layer1.1.conv1.net.weight")
    ours = on_meta("tsm_resnet50", num_classes=7)
    with pytest.raises(UserError, match="in 15 blocks, and the model shifts in 16"):
        load_weights(ours, state)


# What may stay fresh


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {}) for method in ("tsn", "tsm", "tam", "tconv", "nln", "i3d", "s3d")),
        *((method, {"dilation": 2}) for method in ("tam", "tconv", "i3d", "s3d")),
    ],
)
def test_image_weights_fill_every_method(method, options):
    ours, state = tiny(method, **options), picture_state()
    before = copy_of(ours)
    loaded = load_weights(ours, state)
    after = ours.state_dict()
    temporal = {n for n in after if re.search(r"\.(before|after)\.", n) and not n.endswith("num_batches_tracked")}
    assert set(loaded.fresh) == temporal | {"fc.weight", "fc.bias"}
    assert bool(temporal) == (method in ("tam", "tconv", "nln", "s3d"))
    assert all(torch.equal(after[name], before[name]) for name in loaded.fresh)
    assert torch.equal(after["backbone.layer2.0.bn2.running_var"], state["layer2.0.bn2.running_var"])
    assert torch.equal(
        after["backbone.layer2.0.downsample.0.weight"].squeeze(), state["layer2.0.downsample.0.weight"].squeeze()
    )
    assert loaded.inflated == {"i3d": 9, "s3d": 1}.get(method, 0)
    assert "fresh: " in str(loaded)


def test_a_classifier_of_as_many_classes_is_taken_whole():
    ours, state = tiny(num_classes=1000), picture_state()
    assert load_weights(ours, state).fresh == ()
    assert torch.equal(ours.fc.weight, state["fc.weight"])
    few = tiny(num_classes=10)
    loaded = load_weights(few, state)
    assert loaded.fresh == loaded.left_out == ("fc.weight", "fc.bias")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("fc.bias"), "1 of the model's without a weight: fc.bias"),
        (
            lambda state: state.update({"fc.weight": torch.zeros(1000, 77)}),
            r"of the wrong shape: fc.weight: \(1000, 77\)",
        ),
        (lambda state: state.update({"fc.bias": torch.zeros(7)}), r"of the wrong shape: .*fc.bias: \(7,\)"),
    ],
)
@pytest.mark.parametrize("num_classes", [10, 1000])
def test_a_damaged_classifier_is_not_left_fresh(spoil, message, num_classes):
    ours, state = tiny(num_classes=num_classes), picture_state()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    spoil(state)
    with pytest.raises(UserError, match=message):
        load_weights(ours, state)
    assert unchanged(ours, before)


def test_weights_without_a_classifier():
    state = {name: tensor for name, tensor in picture_state().items() if not name.startswith("fc.")}
    assert load_weights(tiny(), state).fresh == ("fc.weight", "fc.bias")


def test_counters_of_norms_are_optional():
    state = {name: tensor for name, tensor in picture_state().items() if not name.endswith("num_batches_tracked")}
    loaded = load_weights(tiny(num_classes=1000), state)
    assert loaded.fresh == ()
    state["extra.num_batches_tracked"] = torch.tensor(3)
    assert load_weights(tiny(num_classes=1000), state).matched == loaded.matched == len(state) - 1


# Inflation


def test_inflated_by_division_a_still_clip_gives_the_pictures_response():
    torch.manual_seed(0)
    state = picture_state()
    flat, deep, loud = (tiny(method).eval() for method in ("tsn", "i3d", "i3d"))
    load_weights(flat, state)
    assert load_weights(deep, state).inflation == "divide"
    load_weights(loud, state, inflation="repeat")
    still_BCTHW = torch.randn(2, 3, 1, 32, 32).expand(-1, -1, 25, -1, -1)
    with torch.no_grad():
        picture_B1D, middle_BD = flat.features(still_BCTHW[:, :, :1]), deep.features(still_BCTHW)[:, 12]
        loud_BD = loud.features(still_BCTHW)[:, 12]
    scale = picture_B1D.abs().max()
    assert torch.allclose(middle_BD / scale, picture_B1D[:, 0] / scale, atol=1e-5)
    assert not torch.allclose(loud_BD / scale, picture_B1D[:, 0] / scale, atol=0.1)


@pytest.mark.parametrize(("how", "factor"), [("divide", 1 / 3), ("repeat", 1.0)])
def test_inflated_kernels(how, factor):
    ours, state = tiny("i3d"), picture_state()
    load_weights(ours, state, inflation=how)
    weight_OITHW, weight_OIHW = ours.backbone.layer1[0].conv2.weight, state["layer1.0.conv2.weight"]
    for frame in range(3):
        assert torch.allclose(weight_OITHW[:, :, frame], weight_OIHW * factor)


def test_an_unknown_inflation_is_told():
    with pytest.raises(UserError, match="divide or repeat"):
        load_weights(tiny("i3d"), picture_state(), inflation="mean")


# Own checkpoints


def test_own_checkpoints_come_back_whole_with_their_preprocessing(tmp_path):
    ours = tiny("tam")
    ours.preprocessing = HALF
    checkpoint.save(tmp_path, ours, torch.optim.SGD(ours.parameters(), lr=0.1), checkpoint.State(step=1))
    torch.manual_seed(7)
    other = tiny("tam")
    loaded = load_weights(other, tmp_path / "step-00000001" / "model.safetensors")
    assert unchanged(other, ours.state_dict())
    assert (loaded.source, loaded.fresh, other.preprocessing) == ("muybridge's tam_resnet_tiny", (), HALF)


def test_own_image_weights_start_any_other_method():
    start = tiny("tsn")
    deep, blended = tiny("i3d", num_classes=9), tiny("tam")
    assert load_weights(deep, start.state_dict()).inflated == 9
    assert torch.allclose(deep.backbone.conv1.weight.sum(2), start.backbone.conv1.weight, atol=1e-6)
    assert all("before" in name for name in load_weights(blended, start.state_dict()).fresh)


# What does not fit changes nothing


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("method", "spoil", "message"),
    [
        ("tsn", lambda s: without(s, "layer3.0.conv1.weight"), r"1 of the model's without a weight: backbone\.layer3"),
        ("tsn", lambda s: {**s, "layer9.weight": torch.ones(2)}, r"1 without a place in the model: backbone\.layer9\.weight"),
        ("tsn", lambda s: {**s, "bn1.bias": torch.ones(3)}, r"1 of the wrong shape: backbone\.bn1\.bias: \(3,\) for \(16,\)"),
        ("i3d", lambda s: {**s, "conv1.weight": torch.ones(16, 3, 5, 5)}, r"\(16, 3, 5, 5\) for \(16, 3, 3, 7, 7\)"),
        ("tsn", lambda s: {**s, "conv1.weight": torch.ones(3, 16, 7, 7)}, r"conv1\.weight: \(3, 16, 7, 7\)"),
        ("tam", lambda s: {**s, "layer1.0.tam.prev_se.fc1.weight": torch.ones(16, 1, 1, 1)}, "3 of the model's without"),
        ("tsn", lambda s: {f"net.{name}": tensor for name, tensor in s.items()}, "has such names: 122 .*net.conv1.weight"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_and_changes_nothing(method, spoil, message):
    ours = tiny(method)
    ours.preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3)
    before = copy_of(ours)
    with pytest.raises(UserError, match=message.replace("122", r"\d+")):
        load_weights(ours, spoil(picture_state()))
    assert unchanged(ours, before)
    assert ours.preprocessing == Preprocessing((0.0,) * 3, (1.0,) * 3)


def test_a_network_of_another_depth_is_told_in_a_few_lines():
    ours = on_meta("tsn_resnet50", num_classes=5)
    with pytest.raises(UserError, match="of the wrong shape") as error:
        load_weights(ours, peer_state("torchvision_resnet18"))
    assert "without a weight: backbone.layer1.0.conv3.weight, " in str(error.value)
    assert len(str(error.value)) < 1000


def test_own_weights_of_another_method():
    with pytest.raises(UserError, match=r"4 without a place in the model: backbone\.layer1\.0\.conv1\.before"):
        load_weights(tiny("tsn"), tiny("tam").state_dict())


# What agrees


def written(folder, name, *, seed=5, **options):
    """A model of random weights and statistics, and the file that its run would leave."""
    torch.manual_seed(seed)
    model = create(name, **{"num_classes": 5, **options})
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) * 0.1 + 0.01)
    checkpoint.save(folder, model, torch.optim.SGD(model.parameters(), lr=0.1), checkpoint.State(step=1))
    return model.state_dict(), folder / "step-00000001" / "model.safetensors"


def norms(model):
    return {name for name, tensor in model.state_dict().items() if tensor.dim() == 1 and name != "fc.bias"}


def spatial(model):
    """Convolutions of more than one pixel."""
    return {name for name, tensor in model.state_dict().items() if tensor.dim() > 3 and tensor.shape[-1] > 1}


@pytest.mark.parametrize(
    ("theirs", "ours", "inflated", "fresh", "left_out"),
    [
        ("tsm_resnet_tiny", "i3d_resnet_tiny", 9, "", ""),
        ("tsn_resnet_tiny", "tam_resnet_tiny", 0, "before", ""),
        ("tam_resnet_tiny", "tsn_resnet_tiny", 0, "", "before"),
        ("tsm_resnet_tiny", "nln_resnet_tiny", 0, "after", ""),
        ("tsn_inceptionv1", "i3d_inceptionv1", 20, "", ""),
        ("i3d_resnet_tiny", "tsn_resnet_tiny", 0, "spatial", "spatial"),
        pytest.param("tsn_resnet18", "tsm_resnet18", 0, "", "", marks=pytest.mark.slow),
        pytest.param("tsm_resnet18", "i3d_resnet18", 17, "", "", marks=pytest.mark.slow),
        pytest.param("tsn_resnet50", "tam_resnet50", 0, "before", "", marks=pytest.mark.slow),
        ("tsn_resnet18", "tsn_resnet34", 0, "deeper", ""),
        pytest.param("slow_resnet50", "i3d_resnet50_kinetics", 6, "longer", "longer", marks=pytest.mark.slow),
    ],
)
def test_a_run_of_another_network_gives_what_agrees(tmp_path, theirs, ours, inflated, fresh, left_out):
    state, file = written(tmp_path, theirs)
    model = create(ours, num_classes=5)
    before, sets = copy_of(model), {"": set(), "spatial": spatial(model)}
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    for word in ("before", "after"):
        sets[word] = {n for n in {*before, *state} - counters if re.search(rf"\.{word}\.", n)}
    sets["deeper"] = before.keys() - state.keys() - counters
    sets["longer"] = {
        n for n in before.keys() & state.keys() if state[n].dim() == 5 and before[n].shape != state[n].shape
    }
    loaded = load_weights(model, file, part="agreeing")
    after = model.state_dict()
    assert loaded.source == f"muybridge's {theirs}"
    assert (set(loaded.fresh), set(loaded.left_out)) == (sets[fresh], sets[left_out])
    assert set(loaded.taken) == (before.keys() & state.keys()) - set(loaded.fresh)
    assert len(loaded.taken) > 40
    assert loaded.inflated == inflated
    assert all(torch.equal(after[name], before[name]) for name in loaded.fresh)
    for name in loaded.taken:
        if after[name].dim() == state[name].dim() + 1 and after[name].shape[2] > 1:
            frames = after[name].shape[2]
            assert torch.equal(after[name], (state[name] / frames)[:, :, None].expand_as(after[name]))
        else:
            assert torch.equal(after[name], state[name].reshape(after[name].shape))


@pytest.mark.parametrize(
    ("name", "few", "many"), [("i3d", 16, 32), ("i3d_resnet_tiny", 4, 8), ("tsn_resnet_tiny", 8, 16)]
)
def test_a_network_for_half_the_frames_gives_all_it_has(tmp_path, name, few, many):
    state, file = written(tmp_path, name, num_frames=few)
    for part in ("agreeing", "whole"):
        model = create(name, num_classes=5, num_frames=many)
        loaded = load_weights(model, file, part=part)
        assert (loaded.fresh, loaded.left_out, loaded.matched) == ((), (), len(state))
        assert unchanged(model, state)


def test_what_a_2d_network_gives_a_3d_one_answers_a_still_clip_as_the_picture(tmp_path):
    _, file = written(tmp_path, "tsm_resnet_tiny")
    flat, deep = tiny("tsn").eval(), tiny("i3d").eval()
    for model in (flat, deep):
        assert load_weights(model, file, part="agreeing").fresh == ()
    still_BCTHW = torch.randn(1, 3, 1, 32, 32).expand(-1, -1, 37, -1, -1)
    with torch.no_grad():
        picture_BD, middle_BD = flat.features(still_BCTHW[:, :, :1])[:, 0], deep.features(still_BCTHW)[:, 18]
    scale = picture_BD.abs().max()
    assert torch.allclose(middle_BD / scale, picture_BD / scale, atol=1e-5)


def test_weights_of_others_give_what_agrees():
    deep, blended = on_meta("i3d_resnet50", num_classes=7), on_meta("tam_resnet18", num_classes=7)
    loaded = load_weights(
        deep, peer_state("mit_tsm_resnet50"), part="agreeing"
    )  # whole, they are for shifting networks
    assert (loaded.source, loaded.fresh, loaded.left_out, loaded.inflated) == ("TSM's authors", (), (), 17)
    assert deep.preprocessing == IMAGENET
    loaded = load_weights(blended, peer_state("study_s3d_resnet18"), part="agreeing")
    with pytest.raises(UserError, match="do not fit the model"):
        load_weights(blended, peer_state("study_s3d_resnet18"))
    assert {name for name in loaded.fresh if ".before." not in name} == {"backbone.conv1.weight"}
    assert {name for name in loaded.left_out if ".after." not in name} == {"backbone.conv1.weight"}


def test_a_classifier_comes_whole_or_not_at_all(tmp_path):
    _, file = written(tmp_path / "narrow", "tsn_resnet18")
    wide = create("tsn_resnet50", num_classes=5)
    before = copy_of(wide)
    loaded = load_weights(wide, file, part="agreeing")
    assert {"fc.weight", "fc.bias"} <= set(loaded.fresh) & set(loaded.left_out)
    assert loaded.why("fc.weight") == "other shape: (5, 512) for (5, 2048)"
    assert torch.equal(wide.fc.bias, before["fc.bias"])
    more = create("tsn_resnet18", num_classes=6)
    assert load_weights(more, file, part="agreeing").fresh == ("fc.weight", "fc.bias")


@pytest.mark.parametrize("part", ["whole", "agreeing"])
def test_a_classifier_of_other_classes_is_left_out_even_if_it_would_fit(tmp_path, part):
    state, file = written(tmp_path, "tsn_resnet_tiny")
    model = tiny()
    before = copy_of(model)
    loaded = load_weights(model, file, part=part, other_classes=True)
    assert loaded.fresh == ("fc.weight", "fc.bias")
    assert torch.equal(model.fc.weight, before["fc.weight"])
    assert torch.equal(model.backbone.conv1.weight, state["backbone.conv1.weight"])


def test_an_image_network_comes_into_the_slow_pathway_as_far_as_it_agrees():
    source = create("tsn_resnet50", num_classes=5)
    for state in (source.state_dict(), {"fc.weight": torch.ones(5, 2048), **source.backbone.state_dict()}):
        model = create("slowfast_resnet50", num_classes=5, num_frames=32)
        model.preprocessing = HALF
        before = copy_of(model)
        loaded = load_weights(model, state, part="agreeing")
        after = model.state_dict()
        assert torch.equal(after["slow.layer2.1.conv2.weight"], source.backbone.layer2[1].conv2.weight)
        inflated = after["slow.layer3.1.conv1.weight"]
        assert torch.allclose(inflated.sum(2), source.backbone.layer3[1].conv1.weight)
        assert all(torch.equal(after[name], before[name]) for name in after if not name.startswith("slow."))
        assert set(loaded.other_shapes) - {"fc.weight"} == {
            f"slow.layer{stage}.0.{layer}.weight" for stage in (1, 2, 3, 4) for layer in ("conv1", "downsample.0")
        }
        assert loaded.inflated == 7


@pytest.mark.parametrize("part", ["whole", "agreeing"])
def test_weights_of_a_known_kind_bring_its_preprocessing(part):
    deep = create("i3d_resnet18", num_classes=5)
    deep.preprocessing = HALF
    state = {**create("tsn_resnet18", num_classes=5).backbone.state_dict()}
    assert load_weights(deep, state | {"fc.weight": torch.ones(9, 512), "fc.bias": torch.ones(9)}, part=part).fresh
    assert deep.preprocessing == IMAGENET


@pytest.mark.parametrize(("theirs", "ours"), [("tsn_vgg16", "tsn_resnet18"), ("tsn_vgg16", "slowfast_resnet50")])
def test_that_nothing_agrees_is_told_and_changes_nothing(tmp_path, theirs, ours):
    state = on_meta(theirs).state_dict()
    model = on_meta(ours, num_frames=32)
    state = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in state.items()}
    model.preprocessing = HALF
    with pytest.raises(UserError, match=rf"nothing of them agrees with {ours} in name and shape"):
        load_weights(model, state, part="agreeing")
    assert model.preprocessing == HALF


def test_what_came_is_told_as_json(tmp_path):
    _, file = written(tmp_path, "i3d_resnet_tiny")
    about = load_weights(tiny(), file, part="agreeing").as_json()
    assert about["fresh"].keys() == about["left_out"].keys()
    assert about["fresh"]["backbone.conv1.weight"] == "other shape: (16, 3, 3, 7, 7) for (16, 3, 7, 7)"
    assert len(about["fresh"]) == 9
    assert norms(tiny()) < set(about["taken"])


def test_an_unknown_part_is_told():
    with pytest.raises(UserError, match="whole or agreeing"):
        load_weights(tiny(), picture_state(), part="half")


# Files


WRAPPED = [
    lambda state: state,
    lambda state: {"epoch": 3, "arch": "resnet", "state_dict": state, "best_prec1": np.float64(71.2)},
    lambda state: {"model_state": state, "cfg": "A: 1", "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    lambda state: {"model_state_dict": {f"module.{name}": t for name, t in state.items()}, "acc": np.float32(0.5)},
    lambda state: {"model": {f"module.module.{name}": t for name, t in state.items()}},
    lambda state: {"model": {"state_dict": {f"_orig_mod.module.{name}": t for name, t in state.items()}}},
]  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_files_as_training_scripts_leave_them(tmp_path, wrap, zipped):
    state = picture_state()
    file = tmp_path / "weights.pth.tar"
    torch.save(wrap(state), file, _use_new_zipfile_serialization=zipped)
    ours = tiny(num_classes=1000)
    assert load_weights(ours, file).fresh == ()
    assert torch.equal(ours.backbone.layer4[0].conv1.weight, state["layer4.0.conv1.weight"])


def test_a_file_by_its_name_as_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file(picture_state(), "weights.safetensors")
    assert load_weights(tiny(), "weights.safetensors").source == "torchvision's ResNet"


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_unpickling_runs_nothing(tmp_path, zipped):
    mark, file = tmp_path / "mark", tmp_path / "weights.pth"
    torch.save({"state_dict": picture_state(), "more": Hostile(mark)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"holds more than tensors \((posix|nt)\.mkdir\).*convert it once"):
        load_weights(tiny(), file)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()  # or the file would prove nothing


def test_the_way_that_is_told_to_convert_a_file_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": picture_state(), "args": argparse.Namespace(lr=0.1)}, "old.pth")
    with pytest.raises(UserError, match=r"argparse\.Namespace") as error:
        load_weights(tiny(), "old.pth")
    exec(str(error.value).partition("convert it once: ")[2])
    assert load_weights(tiny(), "weights.pt").source == "torchvision's ResNet"


def test_pytorchs_oldest_format(tmp_path):
    with tarfile.open(tmp_path / "old.pth", "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps({} if name != "storages" else 0)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match="oldest format"):
        load_weights(tiny(), tmp_path / "old.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>Not found</html>", "not a file of weights that PyTorch can read"),
        (b"", "not a file of weights that PyTorch can read"),
        ("cut", "not a file of weights that PyTorch can read"),
        ([1, 2], r"holds a list\. Give a dictionary of tensors"),
        ({}, "Give a dictionary of tensors by name"),
        ({"weights": {"a": 1}, "epoch": 3}, r"'weights' is a dict\. Save the weights alone, if they are deeper"),
        ({"conv1.weight": torch.ones(2), "epoch": 3}, "'epoch' is a int"),
    ],
)
def test_broken_files_are_told(tmp_path, content, message):
    file = tmp_path / "weights.pth"
    if content == "cut":
        torch.save(picture_state(), file)
        file.write_bytes(file.read_bytes()[:5000])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=f"weights.pth.*{message}"):
        load_weights(tiny(), file)


def test_broken_safetensors_are_told(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(UserError, match=r"w\.safetensors: it cannot be read"):
        load_weights(tiny(), tmp_path / "w.safetensors")
    safetensors.torch.save_file(picture_state(), tmp_path / "w.safetensors", {"muybridge": "grey"})
    with pytest.raises(UserError, match="of itself cannot be understood"):
        load_weights(tiny(), tmp_path / "w.safetensors")


def test_places_where_there_are_no_weights(tmp_path):
    with pytest.raises(UserError, match=r"missing\.pth: it does not exist"):
        load_weights(tiny(), tmp_path / "missing.pth")
    with pytest.raises(UserError, match="is a folder"):
        load_weights(tiny(), tmp_path)
    ours = create("tsn_resnet18", num_classes=5)
    with pytest.raises(UserError, match=r"weights 'imagnet': .*published for this model \(imagenet\)"):
        load_weights(ours, "imagnet")
    with pytest.raises(UserError, match=r"published for this model \(none\)"):
        load_weights(tiny(), "imagenet")


# Published


def test_image_networks_name_their_published_weights():
    for backbone, file in {
        "resnet18": "resnet18-f37072fd", "resnet34": "resnet34-b627a593", "resnet50": "resnet50-0676ba61",
        "resnet101": "resnet101-63fe2227", "inceptionv1": "googlenet-1378be20",
        "inceptionv3": "inception_v3_google-0cc3c7bd", "vgg16": "vgg16-397923af",
        "mobilenet_v2": "mobilenet_v2-b0353104",
    }.items():  # fmt: skip
        published = on_meta(f"i3d_{backbone}").published["imagenet"]
        assert published.url == f"https://download.pytorch.org/models/{file}.pth"
        assert published.sha256 == file.rpartition("-")[2]


class Server:
    """A web server on this machine: `files` by name, and what was asked for. `behave`: "", "cut" or "silent"."""

    def __init__(self):
        self.files, self.asked, self.behave = {}, [], ""
        self.ended = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append((self.path, self.headers.get("Range")))
                if server.behave == "silent":
                    server.ended.wait(10)
                    return
                data = server.files.get(self.path.lstrip("/"))
                if data is None:
                    self.send_error(404, "Not Found")
                    return
                start = int(self.headers.get("Range", "bytes=0-")[6:-1])
                if start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                self.wfile.write(data[start:] if server.behave != "cut" else data[start : (start + len(data)) // 2])

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, name):
        return f"http://127.0.0.1:{self._http.server_port}/{name}"

    def close(self):
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Torch's cache, elsewhere."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


DATA = bytes(range(256)) * 12_000
"""Some three chunks."""


@pytest.fixture
def sha256(tmp_path):
    (tmp_path / "data").write_bytes(DATA)
    return sha256_file(tmp_path / "data")


@pytest.mark.parametrize("digits", [64, 8])
def test_download_once(server, cache, sha256, digits):
    server.files["net.pth"] = DATA
    file = download.download(server.url("net.pth"), sha256=sha256[:digits])
    assert file == cache / "net.pth"
    assert file.read_bytes() == DATA
    assert download.download(server.url("net.pth"), sha256=sha256[:digits]) == file
    assert len(server.asked) == 1
    assert not [path for path in cache.iterdir() if path.suffix == ".partial"]


def test_the_digest_in_a_files_name_is_checked(server, cache, sha256, capsys):
    server.files[f"net-{sha256[:8]}.pth"] = server.files["net-0000000a.pth"] = server.files["net.pth"] = DATA
    download.download(server.url(f"net-{sha256[:8]}.pth"))
    with pytest.raises(UserError, match=f"its SHA-256 is {sha256}, and should begin with 0000000a"):
        download.download(server.url("net-0000000a.pth"))
    assert "no checksum" not in capsys.readouterr().err
    download.download(server.url("net.pth"))
    assert "net.pth: no checksum is published, so it was not checked" in capsys.readouterr().err
    assert {path.name.rpartition(".net")[2] for path in cache.glob("*net*.pth")} == {f"net-{sha256[:8]}.pth", ".pth"}


def test_files_of_one_name_and_two_addresses_are_two(server, cache):
    server.files["a/net.pth"], server.files["b/net.pth"] = DATA, DATA[::-1]
    first, second = (download.download(server.url(f"{folder}/net.pth")) for folder in "ab")
    assert (first.read_bytes(), second.read_bytes()) == (DATA, DATA[::-1])


def test_a_file_that_nothing_vouches_for_and_that_is_no_weights_is_not_kept(server, cache, tmp_path):
    torch.save(picture_state(), tmp_path / "net.pth")
    whole = (tmp_path / "net.pth").read_bytes()
    server.files["net.pth"] = whole[:1000]
    with pytest.raises(UserError, match=r"gave no weights .* the file was removed"):
        load_weights(tiny(), server.url("net.pth"))
    server.files["net.pth"] = whole
    assert load_weights(tiny(), server.url("net.pth")).matched


def test_a_wrong_checksum_leaves_nothing(server, cache):
    server.files["net.pth"] = DATA
    with pytest.raises(UserError, match="wrong file"):
        download.download(server.url("net.pth"), sha256="0" * 64)
    assert not list(cache.glob("net.pth*"))


def test_a_wrong_file_in_the_cache_is_told_and_kept(server, cache, sha256):
    cache.mkdir(parents=True)
    (cache / "net.pth").write_bytes(b"else")
    with pytest.raises(UserError, match=r"net\.pth: it is not the file published.*Remove it"):
        download.download(server.url("net.pth"), sha256=sha256)
    assert (cache / "net.pth").read_bytes() == b"else"


def test_a_cut_connection_is_told_and_gone_on_with(server, cache, sha256):
    server.files["net.pth"], server.behave = DATA, "cut"
    with pytest.raises(UserError, match=f"ended after {len(DATA) // 2} of {len(DATA)} bytes.*put it at .*net.pth"):
        download.download(server.url("net.pth"), sha256=sha256)
    assert not (cache / "net.pth").exists()
    server.behave = ""
    assert download.download(server.url("net.pth"), sha256=sha256).read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, f"bytes={len(DATA) // 2}-"]


def test_without_a_checksum_a_part_is_not_gone_on_with(server, cache):
    server.files["net.pth"], server.behave = DATA, "cut"
    with pytest.raises(UserError, match="ended after"):
        download.download(server.url("net.pth"))
    server.behave = ""
    assert download.download(server.url("net.pth")).read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_part_that_is_the_whole_already(server, cache, sha256):
    cache.mkdir(parents=True)
    (cache / "net.pth.partial").write_bytes(DATA)
    server.files["net.pth"] = DATA
    assert download.download(server.url("net.pth"), sha256=sha256).read_bytes() == DATA


def test_what_the_server_does_not_have(server, cache):
    with pytest.raises(UserError, match="answers 404 Not Found"):
        download.download(server.url("net.pth"))


def test_a_silent_server_is_not_waited_for(server, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    server.behave = "silent"
    with pytest.raises(UserError, match="timed out"):
        download.download(server.url("net.pth"))


def test_offline_says_what_to_do_by_hand(cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/net.pth"
        with pytest.raises(UserError, match=rf"{url}: it cannot be downloaded: .*put it at {cache}/[0-9a-f]*.net.pth"):
            download.download(url)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/net.pth", "https://host/"])
def test_addresses_that_are_none(cache, url):
    with pytest.raises(UserError, match=r"not an address|names no file"):
        download.download(url)


def test_published_weights_by_name(server, cache, tmp_path):
    torch.save(picture_state(), tmp_path / "net.pth")
    server.files["net.pth"] = (tmp_path / "net.pth").read_bytes()
    odd = Preprocessing((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    published = Published(server.url("net.pth"), sha256_file(tmp_path / "net.pth")[:8], odd, "somebody's tiny network")
    ours = tiny("tam")
    ours.published = {"imagenet": published}
    loaded = load_weights(ours, "imagenet")
    assert ours.preprocessing == loaded.preprocessing == odd
    assert str(loaded).startswith("somebody's tiny network: ")
    assert load_weights(tiny(), server.url("net.pth")).preprocessing == IMAGENET
    assert load_weights(tiny(), server.url("net.pth")).preprocessing == IMAGENET
    assert len(server.asked) == 2  # the address alone vouches for nothing: another place in the cache


def test_weights_that_a_library_fetches():
    ours, start = tiny("i3d"), tiny("tsn")
    ours.published = {"imagenet": LibraryWeights("", "", HALF, "a library's", lambda whole: start.state_dict())}
    loaded = load_weights(ours, "imagenet")
    assert (loaded.source, loaded.inflated, ours.preprocessing) == ("a library's", 9, HALF)


def test_sources_have_names_of_their_own():
    assert len({source.name for source in SOURCES}) == len(SOURCES)


def test_pytorchvideos_norms_are_not_made_up():
    """Only X3D's first shortcut has none there."""
    state = peer_state("pytorchvideo_slow_resnet50")
    slow = on_meta("slow_resnet50", num_classes=400)
    for name in [name for name in state if "branch1_norm" in name]:
        rest = {key: tensor for key, tensor in state.items() if key != name}
        if not name.endswith("num_batches_tracked"):
            with pytest.raises(UserError, match="1 of the model's without a weight"):
                load_weights(slow, rest)


def test_video_resnets_without_a_pool_are_for_networks_without_one():
    ours = on_meta("i3d_resnet18", num_classes=400)
    with pytest.raises(UserError, match="without a pool behind its stem"):
        load_weights(ours, peer_state("torchvision_r3d_resnet18"))


def test_an_image_networks_own_weights_by_its_own_names():
    def network():
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 8, 3, 2, 1)
        )

    picture = network()
    ours = grow(METHODS["tam"], network(), num_classes=5, temporal_pooling=False, dropout=0.0, fresh=False)
    loaded = load_weights(ours, picture.state_dict())
    assert loaded.source == "the image network alone"
    assert set(loaded.fresh) == {"backbone.3.before.conv.weight", "fc.weight", "fc.bias"}
    state = ours.state_dict()
    assert all(torch.equal(state[f"backbone.{name}"], tensor) for name, tensor in picture.state_dict().items())


@pytest.mark.parametrize("source", [None, 3, torch.nn.Linear(1, 1)])
def test_what_is_no_source_is_told(source):
    with pytest.raises(UserError, match="they cannot come from"):
        load_weights(tiny(), source)


def test_weights_are_numbers_with_a_point():
    state = {**picture_state(), "fc.bias": torch.zeros(1000, dtype=torch.int8)}
    with pytest.raises(UserError, match=r"'fc\.bias': it is of type int8"):
        load_weights(tiny(), state)
