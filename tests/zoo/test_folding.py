"""Folded norms leave every network's answer as it is, but for rounding; what is no plain pair is left alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from muybridge.zoo import VideoModel, create, entries, entry
from muybridge.zoo.folding import fold_norms, round_weights
from muybridge.zoo.volumes import single_clips_by_onednn

COUNTS = {
    "tsn_resnet18": (20, 20), "tam_resnet18": (20, 20), "i3d_resnet18": (20, 20), "s3d_resnet18": (36, 36),
    "nln_resnet_tiny": (14, 14), "tsm_resnet50": (53, 53), "r2plus1d_resnet18": (37, 37), "slowfast_resnet50": (110, 110),
    "x3d_s": (84, 84), "s3dv3": (111, 113), "tsn_mobilenet_v2": (52, 52), "tsn_inceptionv1": (57, 57), "tsm_vgg16": (0, 0),
    "c3d_small": (0, 0), "lstm_resnet_tiny": (12, 12), "transformer": (0, 0),
    "tsn@foreign_networks:dense": (8, 18), "s3d@foreign_networks:dense": (15, 25),
    "tsn@foreign_networks:Repeated": (10, 10), "i3d@foreign_networks:strange": (0, 1),
    "tsm@foreign_networks:made_anew": (2, 2), "tsn@foreign_networks:new_spectral": (1, 1),
}  # fmt: skip
"""Norms that are folded, of how many: all that a convolution alone feeds.

A ResNet-18 has 17 convolutions of more than a pixel and 3 of one, each with a norm (He et al. 2016, table 1). In a DenseNet
seven layers' first norms and three transitions' follow joins. In S3D (version 3) two norms follow joins.
"""
OTHERS = [about.name for about in entries() if about.name not in COUNTS]


def stirred(net):
    """Statistics and weights of norms as after some training."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.3, 2, generator=generator)
            if module.weight is not None:
                with torch.no_grad():
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.1, generator=generator)
    return net.eval()


def made(name):
    torch.manual_seed(0)
    frames = 8 if "@" in name else max(8, entry(name).min_frames)
    model = stirred(create(name, num_classes=5, num_frames=frames))
    frames = model.fixed_frames or max(frames, model.min_frames)
    size = model.fixed_size or max(64, model.min_size)
    return model, torch.randn(model.zeros(frames, size, batch_size=2).shape), (frames, size)


def num_norms(model):
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def assert_same_answer(name, folded, before, *, share=5e-5, dtype=torch.float32):
    """`share`: largest difference, of the largest logit."""
    model, x, clip = made(name)
    model, x = model.to(dtype), x.to(dtype)
    with torch.inference_mode():
        expected = model(x)
    assert num_norms(model) == before or before is None
    count = fold_norms(model, *clip)
    assert count == folded or folded is None
    with torch.inference_mode():
        answer = model(x)
    assert (answer - expected).abs().max() <= share * expected.abs().max()
    return model, x


@pytest.mark.parametrize("name", COUNTS)
def test_folded_norms_leave_the_answer(name):
    folded, before = COUNTS[name]
    model, x = assert_same_answer(name, folded, before)
    assert num_norms(model) == before - folded
    if not folded:
        return
    with torch.inference_mode():
        kept = model(x)
        bias = next(m.bias for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d) and m.bias is not None)
        bias += 1  # what was folded counts
        assert not torch.allclose(model(x), kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_folded_norms_leave_the_answer_of_every_network(name):
    assert_same_answer(name, None, None, share=1e-9, dtype=torch.float64)  # (fresh non-local blocks magnify rounding)


class Net(VideoModel):
    """Frames through a convolution, what a test puts behind it, and a mean over pixels."""

    def __init__(self, run, norm=None, **parts):
        super().__init__(4, 3, dropout=0.0)
        self.conv, self.norm, self._run = nn.Conv2d(3, 4, 3, bias=False), norm or nn.BatchNorm2d(4), run
        for name, part in parts.items():
            setattr(self, name, part)

    def features(self, x_BCTHW):
        y = self._run(self, x_BCTHW.transpose(1, 2).flatten(0, 1))
        return y.mean((2, 3)).unflatten(0, (len(x_BCTHW), -1))


class Biasless(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight)


class More(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).sigmoid()


def other_use(net, x):
    y = net.conv(x)
    return net.norm(y) + y


def weight_used(net, x):
    return net.norm(net.conv(x)) * net.conv.weight.sum()


def by_function(net, x):
    n = net.norm
    return F.batch_norm(net.conv(x), n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps)


def swapped(net, x):
    """Rows lie where the norm looks for channels."""
    return net.norm(net.conv(x[..., :6, :6]).transpose(1, 2)).transpose(1, 2)


def by_value(net, x):
    return net.norm(net.conv(x)) if x.mean() > -9 else net.conv(x)


def asks(net, x):
    return net.norm(net.conv(x)) * net.norm.num_features * net.norm.running_var.new_ones(())


LEFT = {
    "another use of the convolution's output": Net(other_use),
    "another use of its weight": Net(weight_used),
    "another call of the norm": Net(lambda net, x: net.norm(net.norm(net.conv(x)))),
    "another call of the convolution": Net(lambda net, x: net.norm(net.conv(x)) + net.conv(x)),
    "something between": Net(lambda net, x: net.norm(net.conv(x).relu())),
    "other channels": Net(swapped),
    "a function, not a module": Net(by_function),
    "values that decide": Net(by_value),
    "a norm that does more": Net(lambda net, x: net.norm(net.conv(x)), More(4)),
    "no running statistics": Net(
        lambda net, x: net.norm(net.conv(x)), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "two names": Net(lambda net, x: net.again[0](net.conv(x)), norm := nn.BatchNorm2d(4), again=nn.ModuleList([norm])),
    "a convolution without a place for a bias": Net(lambda net, x: net.norm(net.conv(x)), conv=Biasless(3, 4, 3, bias=False)),
    "the norm's own values": Net(asks),
    "a norm for several clips alone": Net(lambda net, x: net.norm(net.conv(x)) if len(x) > 4 else net.conv(x)),
    "a norm for a single clip alone": Net(lambda net, x: net.norm(net.conv(x)) if len(x) <= 4 else net.conv(x)),
    "a question for the norm's class": Net(
        lambda net, x: net.norm(net.conv(x)) if isinstance(net.norm, nn.BatchNorm2d) else net.conv(x) * 3
    ),
    "a question for the bias": Net(lambda net, x: net.norm(net.conv(x)) * (1 if net.conv.bias is None else 2)),
    "a question for the norm's parameters": Net(
        lambda net, x: net.norm(net.conv(x)) * sum(p.numel() for p in net.norm.parameters())
    ),
    "a transposed convolution": Net(lambda net, x: net.norm(net.conv(x)), conv=nn.ConvTranspose2d(3, 4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("why", LEFT)
def test_what_is_no_plain_pair_is_left_to_the_bit(why):
    model = LEFT[why]
    if model.norm.track_running_stats:
        stirred(model)
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    clips = torch.randn(1, 3, 4, 8, 8), torch.randn(2, 3, 4, 8, 8)
    expected = [model(x) for x in clips]
    assert fold_norms(model, 4, 8) == 0
    assert all(map(torch.equal, map(model, clips), expected))
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_hooks_of_a_norm_still_run():
    model = stirred(Net(lambda net, x: net.norm(net.conv(x))))
    model.norm.register_forward_hook(lambda module, args, out: out.sigmoid())
    model.norm.register_forward_pre_hook(lambda module, args: None)
    x = torch.randn(2, 3, 4, 8, 8)
    expected = model(x)
    assert fold_norms(model, 4, 8) == 1
    assert isinstance(model.norm, nn.Identity)
    assert torch.allclose(model(x), expected, atol=1e-6)


class Remembers(Net):
    """Keeps what it makes for a length of clips in a dictionary, as positions and masks often are."""

    def __init__(self, run, **parts):
        super().__init__(run, **parts)
        self.kept = {}

    def features(self, x_BCTHW):
        if x_BCTHW.shape[-1] not in self.kept:
            self.kept[x_BCTHW.shape[-1]] = torch.linspace(0, 1, x_BCTHW.shape[-1], device=x_BCTHW.device)
        return super().features(x_BCTHW + self.kept[x_BCTHW.shape[-1]])


@pytest.mark.parametrize("rounded", [False, True])
def test_a_trace_leaves_nothing_in_what_a_network_remembers(rounded):
    model = stirred(Remembers(lambda net, x: net.norm(net.conv(x))))
    plain, x = copy.deepcopy(model), torch.randn(2, 3, 4, 8, 8)
    assert (round_weights(model, 4, 8, torch.bfloat16) if rounded else fold_norms(model, 4, 8)) == 1
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=rounded):
        assert torch.allclose(model(x), plain(x), atol=1e-6)


def without_autocast(net, x):
    with torch.autocast("cpu", enabled=False):
        return net.norm(net.conv(x.float()))


def by_its_weight(net, x):
    with torch.autocast("cpu", enabled=False):
        return net.norm(net.conv(x.to(net.conv.weight.dtype)).float())


@pytest.mark.parametrize("run", [without_autocast, by_its_weight])
def test_weights_stay_where_a_network_switches_mixed_precision_off(run):
    """Rounded, the first would end in an error, and the second have other bits."""
    torch.manual_seed(0)
    model = stirred(Net(run))
    plain, x = copy.deepcopy(model), torch.randn(2, 3, 4, 8, 8)
    weight = model.conv.weight
    assert round_weights(model, 4, 8, torch.bfloat16) == 0
    assert model.conv.weight is weight
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(x), plain(x))


def test_the_old_tensors_stay_as_they_were_for_others_who_hold_them():
    model = stirred(Net(lambda net, x: net.norm(net.conv(x))))
    held = model.conv.weight
    kept = held.detach().clone()
    fold_norms(model, 4, 8)
    assert torch.equal(held, kept)
    assert not torch.equal(model.conv.weight, kept)


@pytest.mark.parametrize("name", ["tsm_resnet_tiny", "i3d_resnet_tiny", "tsm@foreign_networks:made_anew"])
def test_weights_rounded_beforehand_give_the_same_bits(name):
    model, x, clip = made(name)
    rounded = copy.deepcopy(model) if "made_anew" not in name else made(name)[0]
    count = round_weights(rounded, *clip, torch.bfloat16)
    convs = [module for module in rounded.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    assert 0 < count == sum(conv.weight.dtype == torch.bfloat16 for conv in convs if "weight" in conv._parameters)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rounded(x), model(x))


def test_onednn_convolves_single_clips_alike(monkeypatch):
    model, x, _ = made("i3d_resnet_tiny")
    convolve, seen = torch.mkldnn_convolution, []
    monkeypatch.setattr(torch, "mkldnn_convolution", lambda *args: seen.append(len(args[0])) or convolve(*args))
    convs = sum(isinstance(module, nn.Conv3d) for module in model.modules())
    with torch.inference_mode():
        expected = model(x[:1])
        assert not seen
        assert single_clips_by_onednn(model) == convs
        assert torch.allclose(model(x[:1]), expected, rtol=1e-4, atol=1e-5)
        assert seen == [1] * convs
        assert torch.equal(model(x), made("i3d_resnet_tiny")[0](x))  # batches take torch's own way
        assert len(seen) == convs
