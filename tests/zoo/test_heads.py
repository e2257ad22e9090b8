"""Heads over vectors of frames: what they compute, what absent steps may not change, and what training takes."""

import math

import foreign_networks
import pytest
import torch
import torch.nn.functional as F
from on_meta import on_meta
from torch import nn

import muybridge
from muybridge import build
from muybridge.build.weights import weights_file
from muybridge.data.views import Batch
from muybridge.errors import UserError
from muybridge.recipe import Clip, Recipe, replace
from muybridge.runtime.device import Placement
from muybridge.training.step import mean_loss, network_input, training_step
from muybridge.zoo import WeightedLogits, create, load_weights
from muybridge.zoo.count import count, count_parameters, layers, outline
from muybridge.zoo.families import BACKBONES
from muybridge.zoo.freezing import Frozen, call_order
from muybridge.zoo.heads import HEADS

B, T, D = 3, 6, 16
OPTIONS = {
    "attentive": {"heads": 4, "depth": 2}, "lstm": {"width": 5}, "gru": {"width": 5}, "tcn": {"width": 5},
    "transformer": {"width": 8}, "early_fusion": {"width": 5}, "late_fusion": {"width": 5}, "slow_fusion": {"width": 5},
}  # fmt: skip
"""Small heads, for tests of values."""
VARIANTS = [
    *((name, {}) for name in HEADS),
    *(
        (name, more)
        for name in ("lstm", "gru")
        for more in ({"bidirectional": True, "num_layers": 2}, {"batch_norm": True}, {"hidden": 4}, {"late": 2.0},
                     {"last": True}, {"truncate": 2})
    ),
]  # fmt: skip
NAMES = [f"{name} {', '.join(more)}" for name, more in VARIANTS]
IGNORE_ORDER = {"mean_pool", "max_pool", "attentive"}
FIXED = {name for name, kind in HEADS.items() if kind.fixed_frames}


def make(name, *, steps=T, **options):
    """A head with weights of a size at which an error shows."""
    torch.manual_seed(0)
    fixed = {"num_frames": steps} if name in FIXED else {}
    head = HEADS[name].build(D, **{**OPTIONS.get(name, {}), **options}, **fixed).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.3)
        for norm in (module for module in head.modules() if isinstance(module, nn.BatchNorm1d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return head


def vectors(batch=B, steps=T, width=D):
    torch.manual_seed(1)
    return torch.randn(batch, steps, width, dtype=torch.float64)


def answer(head, f_BTD, present_BT=None):
    g_BSE, weights_BS = head(f_BTD, present_BT)
    assert g_BSE.shape[2] == head.num_features
    assert torch.allclose(weights_BS.sum(1), torch.ones(len(f_BTD), dtype=weights_BS.dtype))
    return (weights_BS[..., None] * g_BSE).sum(1)


# Steps that are not there


@pytest.mark.parametrize(("name", "more"), [v for v in VARIANTS if v[0] not in FIXED],
                         ids=[n for n, v in zip(NAMES, VARIANTS, strict=True) if v[0] not in FIXED])  # fmt: skip
def test_a_padded_batch_gives_each_video_its_own_answer(name, more):
    """Wherever the steps are missing, the answer is that of the others side by side."""
    head, f_BTD = make(name, **more), vectors(4, 11)
    present_BT = torch.ones(4, 11, dtype=torch.bool)
    present_BT[1, 7:], present_BT[2, 1:], present_BT[3, [0, 3, 4, 9]] = False, False, False
    together_BE = answer(head, f_BTD, present_BT)
    for f_TD, present_T, together_E in zip(f_BTD, present_BT, together_BE, strict=True):
        assert torch.allclose(answer(head, f_TD[None, present_T])[0], together_E, atol=1e-9)


@pytest.mark.parametrize(("name", "more"), VARIANTS, ids=NAMES)
def test_what_stands_in_an_absent_step_changes_not_a_bit(name, more):
    head, f_BTD = make(name, **more), vectors()
    present_BT = torch.ones(B, T, dtype=torch.bool)
    present_BT[0, 4:], present_BT[1, 2] = False, False
    outs = []
    for value in (0.0, -3e5, float("nan")):
        outs.append(answer(head, f_BTD.masked_fill(~present_BT[..., None], value), present_BT))
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])
    assert torch.allclose(answer(head, f_BTD, torch.ones_like(present_BT)), answer(head, f_BTD), atol=1e-12)


@pytest.mark.parametrize(("name", "more"), VARIANTS, ids=NAMES)
def test_no_gradient_comes_from_an_absent_step(name, more):
    head, f_BTD = make(name, **more).train(), vectors().requires_grad_()
    present_BT = torch.ones(B, T, dtype=torch.bool)
    present_BT[0, 4:], present_BT[1, 2] = False, False
    answer(head, f_BTD, present_BT).square().sum().backward()
    assert not f_BTD.grad[~present_BT].any()
    assert f_BTD.grad.isfinite().all()


def test_the_batch_norm_sees_the_steps_that_are_there_alone():
    head, f_BTD = make("lstm", batch_norm=True).train(), vectors()
    present_BT = torch.rand(B, T) < 0.6
    present_BT[:, 0] = True
    head.norm.reset_running_stats()
    head.norm.momentum = 1.0
    head(f_BTD.masked_fill(~present_BT[..., None], 1e3), present_BT)
    assert torch.allclose(head.norm.running_mean, f_BTD[present_BT].mean(0))
    assert torch.allclose(head.norm.running_var, f_BTD[present_BT].var(0))


# Order


@pytest.mark.parametrize("name", HEADS)
def test_heads_that_know_the_order_and_those_that_do_not(name):
    head, f_BTD = make(name), vectors()
    order = torch.tensor([5, 4, 3, 2, 1, 0])
    same = torch.allclose(answer(head, f_BTD), answer(head, f_BTD[:, order]), atol=1e-9)
    assert same == (name in IGNORE_ORDER)
    if name == "late_fusion":  # what lies between does not count
        assert torch.equal(answer(head, f_BTD), answer(head, f_BTD[:, [0, 3, 2, 1, 4, 5]]))


# Formulae


def attention(q, k, v, heads, present_T):
    """By loops over heads and queries of one video."""
    out, width = torch.zeros_like(q), q.shape[1] // heads
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for i in range(len(q)):
            scores_T = (k[:, part] @ q[i, part]) / math.sqrt(width)
            share_T = torch.where(present_T, (scores_T - scores_T[present_T].max()).exp(), 0.0)
            out[i, part] = (share_T / share_T.sum()) @ v[:, part]
    return out


def norm(x, about):
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return (x - mean) / (var + 1e-5).sqrt() * about.weight + about.bias


def mlp(x, about):
    x = x @ about.fc1.weight.T + about.fc1.bias
    x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return x @ about.fc2.weight.T + about.fc2.bias


def attentive(head, x_TD, present_T, heads):
    """V-JEPA's probe of one video, with plain operations."""
    for block in head.blocks:
        q, k, v = (norm(x_TD, block.norm1) @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(D, dim=1)
        x_TD = x_TD + attention(q, k, v, heads, present_T) @ block.attn.proj.weight.T + block.attn.proj.bias
        x_TD = x_TD + mlp(norm(x_TD, block.norm2), block.mlp)
    k, v = (norm(x_TD, head.cross.norm1) @ head.cross.xattn.kv.weight.T + head.cross.xattn.kv.bias).split(D, dim=1)
    query = head.query[0]
    q = query @ head.cross.xattn.q.weight.T + head.cross.xattn.q.bias
    query = query + attention(q, k, v, heads, present_T)
    return query + mlp(norm(query, head.cross.norm2), head.cross.mlp)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_attentive_probe_is_v_jepas(depth):
    head, f_BTD = make("attentive", depth=depth), vectors()
    present_BT = torch.tensor([[True] * T, [True] * 4 + [False] * 2, [False, True] * 3])
    for mask_BT in (None, present_BT):
        found_BE = answer(head, f_BTD, mask_BT)
        for video in range(B):
            there_T = present_BT[0] if mask_BT is None else mask_BT[video]
            assert torch.allclose(attentive(head, f_BTD[video], there_T, 4)[0], found_BE[video], atol=1e-9)


def test_parameters_of_the_attentive_probe_are_v_jepas():
    sizes = [count_parameters(on_meta("attentive", depth=depth).sequence) for depth in (1, 4)]
    assert sizes[0] == 11_547_648
    assert sizes[1] - sizes[0] == 3 * (12 * 1024**2 + 13 * 1024)


def test_initial_weights_of_the_attentive_probe():
    torch.manual_seed(0)
    head = HEADS["attentive"].build(64, depth=4)

    def std(tensor):
        return pytest.approx(tensor.std().item(), rel=0.05)

    plain = torch.nn.init.trunc_normal_(torch.empty(200_000), std=0.02).std().item()
    assert plain == std(head.cross.xattn.kv.weight)
    assert plain == std(head.cross.mlp.fc1.weight)
    for number, block in enumerate(head.blocks, start=1):
        assert plain == std(block.attn.qkv.weight)
        assert plain / math.sqrt(2 * number) == std(block.attn.proj.weight)
        assert plain / math.sqrt(2 * number) == std(block.mlp.fc2.weight)
    assert plain / math.sqrt(2 * 4) == std(head.cross.mlp.fc2.weight)
    linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
    assert not any(module.bias.any() for module in linear)
    assert head.query.abs().max() < 0.1


def lstm_step(x, h, c, about):
    gates = x @ about.weight_ih_l0.T + about.bias_ih_l0 + h @ about.weight_hh_l0.T + about.bias_hh_l0
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def test_the_lstm_with_its_sigmoid_layer_by_hand():
    head, f_BTD = make("lstm", hidden=4), vectors()
    g_BTE, weights_BT = head(f_BTD)
    assert weights_BT.tolist() == [[1 / 6] * 6] * B
    h = c = torch.zeros(5, dtype=torch.float64)
    for step in range(T):
        h, c = lstm_step(f_BTD[1, step], h, c, head.rnn)
        expected_E = (h @ head.hidden[0].weight.T + head.hidden[0].bias).sigmoid()
        assert torch.allclose(g_BTE[1, step], expected_E, atol=1e-9)


def test_the_gru_by_hand():
    head, f_BTD = make("gru"), vectors()
    h, rnn = torch.zeros(5, dtype=torch.float64), head.rnn
    for step in range(T):
        of_x = (f_BTD[2, step] @ rnn.weight_ih_l0.T + rnn.bias_ih_l0).chunk(3)
        of_h = (h @ rnn.weight_hh_l0.T + rnn.bias_hh_l0).chunk(3)
        reset, keep = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
        h = keep * h + (1 - keep) * (of_x[2] + reset * of_h[2]).tanh()
        assert torch.allclose(head(f_BTD)[0][2, step], h, atol=1e-9)


def test_the_convolutions_by_hand():
    head, f_BTD = make("tcn", levels=2), vectors(1)
    x_TD = f_BTD[0]
    for level, block in enumerate(head.blocks):
        y_TD = x_TD
        for conv in (block.conv1, block.conv2):
            rows = []
            for t in range(T):
                seen = [(tap, t + (tap - 1) * 2**level) for tap in range(3)]
                rows.append(conv.bias + sum(conv.weight[:, :, tap] @ y_TD[at] for tap, at in seen if 0 <= at < T))
            y_TD = torch.stack(rows).relu()
        short_TD = x_TD if block.shortcut is None else x_TD @ block.shortcut.weight[:, :, 0].T + block.shortcut.bias
        x_TD = (short_TD + y_TD).relu()
    assert torch.allclose(answer(head, f_BTD)[0], x_TD.mean(0), atol=1e-9)


def test_the_transformer_by_hand():
    head, f_BTD = make("transformer", num_layers=1), vectors(1)
    x = f_BTD[0] @ head.embed.weight.T + head.embed.bias
    for t in range(T):
        for i in range(4):
            angle = t / 10_000 ** (2 * i / 8)
            x[t, 2 * i] += math.sin(angle)
            x[t, 2 * i + 1] += math.cos(angle)
    (block,) = head.blocks
    q, k, v = (norm(x, block.norm1) @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(8, dim=1)
    x = x + attention(q, k, v, 4, torch.ones(T, dtype=torch.bool)) @ block.attn.proj.weight.T + block.attn.proj.bias
    x = x + mlp(norm(x, block.norm2), block.mlp)
    assert torch.allclose(answer(head, f_BTD)[0], norm(x, head.norm).mean(0), atol=1e-6)  # positions are float32


def test_slow_fusion_of_the_studys_ten_frames():
    head, f_BTD = make("slow_fusion"), vectors(1, 10)
    x_TD, lengths = f_BTD[0], []
    for conv, taps in zip(head.convs, (4, 2, 2), strict=True):
        windows = range(0, len(x_TD) - taps + 1, 2)
        rows = [conv.bias + sum(conv.weight[:, :, tap] @ x_TD[at + tap] for tap in range(taps)) for at in windows]
        x_TD = torch.stack(rows).relu()
        lengths.append(len(x_TD))
    assert lengths == [4, 2, 1]
    assert torch.allclose(answer(head, f_BTD)[0], x_TD[0], atol=1e-9)


def test_pools_and_fusions_by_hand():
    f_BTD = vectors()
    assert torch.allclose(answer(make("mean_pool"), f_BTD), f_BTD.sum(1) / T)
    assert torch.equal(answer(make("max_pool"), f_BTD), f_BTD.max(1).values)
    assert torch.equal(answer(make("linear"), f_BTD), f_BTD.reshape(B, T * D))
    early, late = make("early_fusion"), make("late_fusion")
    assert torch.allclose(answer(early, f_BTD), (f_BTD.flatten(1) @ early.hidden.weight.T + early.hidden.bias).relu())
    ends = torch.cat([f_BTD[:, 0], f_BTD[:, -1]], 1)
    assert torch.allclose(answer(late, f_BTD), (ends @ late.hidden.weight.T + late.hidden.bias).relu())


# Weights of steps


@pytest.mark.parametrize(
    ("options", "present", "expected"),
    [({}, [1, 1, 1, 1], [0.25, 0.25, 0.25, 0.25]), ({"late": 1}, [1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4]),
     ({"late": 2.0}, [1, 1, 1, 0], [1 / 14, 4 / 14, 9 / 14, 0]), ({"late": 1}, [0, 1, 0, 1], [0, 1 / 3, 0, 2 / 3]),
     ({"last": True}, [1, 1, 1, 1], [0, 0, 0, 1]), ({"last": True}, [1, 0, 1, 0], [0, 0, 1, 0])],
    ids=str,
)  # fmt: skip
def test_later_steps_count_more(options, present, expected):
    head, f_BTD = make("gru", **options), vectors(1, 4)
    weights_BT = head(f_BTD, torch.tensor([present], dtype=torch.bool))[1]
    assert weights_BT[0].tolist() == pytest.approx(expected, abs=1e-12)
    if all(present):
        assert torch.equal(head(f_BTD)[1], weights_BT)


# Truncated back-propagation


def gradients(head, f_BTD, present_BT=None):
    head.zero_grad()
    out_BTE = head(f_BTD, present_BT)[0]
    out_BTE.square().sum().backward()
    return out_BTE, torch.cat([p.grad.flatten() for p in head.parameters()])


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_truncation_changes_gradients_beyond_its_window_alone(name):
    f_BTD = vectors()
    full, cut, wide = (make(name, num_layers=2, truncate=steps).train() for steps in (0, 2, T))
    (out, whole), (cut_out, cut_whole), (wide_out, wide_whole) = (gradients(h, f_BTD) for h in (full, cut, wide))
    assert torch.allclose(out, cut_out, rtol=0, atol=1e-14)  # products of fewer rows may round otherwise
    assert torch.equal(out, wide_out)
    with torch.no_grad():  # nothing is cut where no gradient is asked for
        assert torch.equal(full(f_BTD)[0], cut(f_BTD)[0])
    assert torch.equal(whole, wide_whole)
    assert not torch.allclose(whole, cut_whole, rtol=1e-3)
    within = gradients(full, f_BTD[:, :2])[1], gradients(cut, f_BTD[:, :2])[1]
    assert torch.equal(*within)
    # the first step has no influence on the third but through the state, which is cut
    given_BTD = f_BTD.clone().requires_grad_()
    cut(given_BTD)[0][:, 2].sum().backward()
    assert not given_BTD.grad[:, :2].any()
    assert given_BTD.grad[:, 2].any()


# Options that make no sense


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("lstm", {"num_layers": 6}, "num_layers: it is 6, .* 1 to 5"), ("gru", {"num_layers": 0}, "from 1 to 5"),
     ("lstm", {"truncate": 4, "bidirectional": True}, "truncate: .*Set bidirectional=false"),
     ("lstm", {"rnn_dropout": 0.5}, "there is one. Set num_layers=2"),
     ("lstm", {"rnn_dropout": 1.0, "num_layers": 2}, "below 1"), ("lstm", {"width": 0}, "width: it is 0"),
     ("lstm", {"late": -1}, "late: it is -1"), ("lstm", {"late": float("inf")}, "last=true"),
     ("gru", {"late": 1, "last": True}, "one step alone"), ("gru", {"hidden": -1}, "hidden"),
     ("attentive", {"heads": 5}, "5 heads do not divide vectors of 16 numbers. Give 4"), ("attentive", {"depth": 0}, "depth"),
     ("transformer", {"width": 10, "heads": 4}, "Give 2"), ("tcn", {"taps": 2}, "taps: .*odd"),
     ("tcn", {"levels": 0}, "levels"), ("late_fusion", {"width": 0}, "width")],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        make(name, **options)


# Models over stored vectors


def over_vectors(name, **options):
    torch.manual_seed(0)
    options = {**OPTIONS.get(name, {}), **options}
    return create(name, num_classes=4, num_frames=T, in_channels=D, dropout=0.0, **options).double()


@pytest.mark.parametrize("name", HEADS)
def test_a_vector_with_a_nan_is_not_there(name):
    model, f_BTD = over_vectors(name).eval(), vectors()
    assert model.input_kind == "features"
    assert model(f_BTD).shape == (B, 4)
    gone_BTD = f_BTD.clone()
    gone_BTD[0, 2], gone_BTD[1, 4:] = float("nan"), float("nan")
    out_BK = model(gone_BTD)
    assert torch.allclose(out_BK[2], model(f_BTD)[2], atol=1e-12)
    if name not in FIXED:
        kept = [0, 1, 3, 4, 5]
        assert torch.allclose(out_BK[0], model(f_BTD[:1, kept])[0], atol=1e-6)
        assert torch.allclose(out_BK[1], model(f_BTD[1:2, :4])[0], atol=1e-6)
    gone_BTD[1] = float("nan")
    with pytest.raises(UserError, match=f"{name}: a video has no vector without a NaN"):
        model(gone_BTD)


def test_vectors_are_standardised_by_what_the_weights_keep():
    model, f_BTD = over_vectors("gru").eval(), vectors()
    before = model(f_BTD)
    assert {"mean_D", "std_D"} <= set(model.state_dict())
    model.mean_D.copy_(torch.randn(D))
    model.std_D.copy_(torch.rand(D) + 0.5)
    assert torch.allclose(model(f_BTD * model.std_D + model.mean_D), before, atol=1e-9)
    other = over_vectors("gru").eval()
    assert load_weights(other, model.state_dict()).fresh == ()
    assert torch.equal(other(f_BTD), model(f_BTD))


def test_models_for_one_length_refuse_another():
    for name in sorted(FIXED):
        with pytest.raises(UserError, match=f"takes clips of {T} frames, but got {T + 1}"):
            over_vectors(name)(vectors(steps=T + 1))


# Training


@pytest.mark.parametrize(("name", "more"), VARIANTS, ids=NAMES)
def test_the_whole_gradient(name, more):
    """By differences, of a model over stored vectors, of which some are missing."""
    model, f_BTD = over_vectors(name, **more).train(), vectors()
    f_BTD[0, 4:], f_BTD[1, 2] = float("nan"), float("nan")
    labels_B = torch.tensor([0, 3, 1])
    if more.get("truncate"):
        f_BTD[:, 2:] = float("nan")  # beyond its window the gradient is another on purpose
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]

    def loss():
        out = model(f_BTD)
        weighted = out if isinstance(out, WeightedLogits) else WeightedLogits(out[None], out.new_ones(1))
        return mean_loss(weighted, labels_B)

    if name in FIXED | {"tcn", "slow_fusion", "early_fusion", "late_fusion"}:
        for parameter in model.sequence.parameters():
            nn.init.normal_(parameter, std=0.3)
    assert bool(norms) == bool(more.get("batch_norm"))
    loss().backward()
    torch.manual_seed(5)
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        way = torch.randn_like(parameter)
        way /= way.norm()
        with torch.no_grad():
            parameter += 1e-6 * way
            up = loss()
            parameter -= 2e-6 * way
            down = loss()
            parameter += 1e-6 * way
        slope = (parameter.grad * way).sum()
        assert ((up - down) / 2e-6).item() == pytest.approx(slope.item(), abs=1e-7, rel=1e-4), parameter_name


def test_training_takes_every_step_by_its_weight_in_each_video():
    model, f_BTD = over_vectors("lstm", late=1.0).train(), vectors()
    f_BTD[1, 4:] = float("nan")
    out = model(f_BTD)
    assert isinstance(out, WeightedLogits)
    assert out.logits_NBK.shape == (1 + T, B, 4)
    assert out.weights_N.shape == (1 + T, B)
    assert out.weights_N[:, 1].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0, 0])
    assert out.weights_N.sum(0).tolist() == pytest.approx([1.0] * B)
    with torch.no_grad():
        assert torch.allclose(out.logits_NBK[0], model.eval()(f_BTD), atol=1e-12)
    labels = [2, 0, 1]
    losses = []
    for video, label in enumerate(labels):
        steps = 4 if video == 1 else T
        chances_SK = out.logits_NBK[1 : steps + 1, video].softmax(1)
        smooth_S = 0.9 * -chances_SK[:, label].log() + 0.1 * -chances_SK.log().mean(1)
        losses.append(sum((t + 1) * smooth_S[t] for t in range(steps)) / sum(range(steps + 1)))
    found = mean_loss(out, torch.tensor(labels), label_smoothing=0.1)
    assert found.item() == pytest.approx((sum(losses) / B).item(), rel=1e-9)


def test_an_update_is_by_the_loss_of_every_step():
    """Through the one step of all trainings, in parts, and of another weight in the first and the last step."""
    torch.manual_seed(0)
    model = create("gru_resnet_tiny", num_classes=3, num_frames=4, dropout=0.0, late=2.0)
    recipe = replace(
        Recipe(clip=Clip(num_frames=4, size=32)), {"optim.micro_batch_size": 2, "optim.label_smoothing": 0.0}
    )
    labels = [0, 1, 2, 2]
    batch = Batch(
        torch.randint(255, (4, 4, 32, 32, 3), dtype=torch.uint8), torch.tensor(labels), None, None, (0, 1, 2, 3)
    )
    losses = []
    for part in (slice(0, 2), slice(2, 4)):
        alone = Batch(batch.clips_BTHWC[part], batch.labels_B[part], None, None, (0, 1))
        g_BSE, _ = model.train().steps(network_input(alone, model, recipe))
        for g_SE, label in zip(g_BSE, labels[part], strict=True):
            chances_SK = (g_SE @ model.fc.weight.T + model.fc.bias).softmax(1)
            losses += [sum((t + 1) ** 2 * -chances_SK[t, label].log() for t in range(4)) / 30]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.sequence.rnn.weight_hh_l0.clone()
    expected = sum(losses) / 4
    (gradient,) = torch.autograd.grad(expected, [model.sequence.rnn.weight_hh_l0])
    loss_sum, _ = training_step(model, optimizer, batch, Placement(torch.device("cpu")), recipe)
    assert loss_sum == pytest.approx(4 * expected.item(), rel=1e-5)
    assert torch.allclose(model.sequence.rnn.weight_hh_l0, before - 0.1 * gradient, atol=1e-7)
    assert not torch.equal(model.sequence.rnn.weight_hh_l0, before)


def test_weights_alike_for_all_clips_give_the_loss_they_gave_to_the_bit():
    torch.manual_seed(0)
    logits_NBK, labels_B, weights_N = torch.randn(2, 5, 7), torch.tensor([0, 6, 3, 2, 2]), torch.tensor([1.0, 0.3])
    before = (torch.stack([F.cross_entropy(each, labels_B) for each in logits_NBK]) * weights_N).sum()
    assert torch.equal(mean_loss(WeightedLogits(logits_NBK, weights_N), labels_B), before)
    per_clip = WeightedLogits(logits_NBK, weights_N[:, None].expand(2, 5))
    assert mean_loss(per_clip, labels_B).item() == pytest.approx(before.item(), rel=1e-6)


def test_heads_that_pool_return_their_answer_in_training():
    for name in set(HEADS) - {"lstm", "gru"}:
        assert over_vectors(name).train()(vectors()).shape == (B, 4)


# End to end


@pytest.mark.parametrize("name", HEADS)
def test_a_head_over_an_image_network_is_the_head_over_its_vectors(name):
    torch.manual_seed(0)
    model = create(f"{name}_resnet_tiny", num_classes=4, num_frames=T, dropout=0.0).eval()
    vectors_of = create("tsn_resnet_tiny", num_classes=4, num_frames=T, dropout=0.0).eval()
    vectors_of.backbone.load_state_dict(model.backbone.state_dict())
    alone = create(name, num_classes=4, num_frames=T, dropout=0.0, in_channels=128).eval()
    alone.sequence.load_state_dict(model.sequence.state_dict())
    alone.fc.load_state_dict(model.fc.state_dict())
    x_BCTHW = torch.randn(2, 3, T, 32, 32)
    with torch.no_grad():
        assert torch.allclose(alone(vectors_of.features(x_BCTHW)), model(x_BCTHW), atol=1e-5)
        assert torch.equal(model.head(model.features(x_BCTHW)), model(x_BCTHW))
    with pytest.raises(UserError, match="no temporal pooling"):
        on_meta(f"{name}_resnet_tiny", temporal_pooling=True)


@pytest.mark.parametrize("network", BACKBONES)
def test_a_head_over_every_image_network(network):
    model = outline(f"lstm_{network}", num_classes=4, num_frames=8)
    tsn = outline(f"tsn_{network}", num_classes=4, num_frames=8)
    assert set(model.backbone.state_dict()) == set(tsn.backbone.state_dict())
    assert (model.min_size, model.preprocessing, model.published) == (tsn.min_size, tsn.preprocessing, tsn.published)
    assert model(model.zeros(8, model.min_size, device="meta")).shape == (1, 4)
    assert model.sequence.num_inputs == tsn.num_features


@pytest.mark.parametrize("network", ["Vectors", "Tokens", "Functional", "Fixed"])
def test_a_head_over_a_network_that_is_brought_along(network):
    torch.manual_seed(0)
    model = create(f"lstm@foreign_networks:{network}", num_classes=4, dropout=0.0).eval()
    torch.manual_seed(0)
    net = getattr(foreign_networks, network)().eval()  # its own weights are kept
    size = model.fixed_size or 64
    x_BCTHW = torch.randn(2, 3, 8, size, size)
    f_N = net(x_BCTHW.transpose(1, 2).flatten(0, 1))
    f_ND = f_N.mean((2, 3)) if f_N.dim() == 4 else f_N.mean(1) if f_N.dim() == 3 else f_N
    g_BTE = model.sequence.rnn(f_ND.unflatten(0, (2, 8)))[0]
    assert torch.allclose(model(x_BCTHW), model.fc(g_BTE).mean(1), atol=1e-6)
    with pytest.raises(UserError, match="no option 'depth'"):
        create(f"lstm@foreign_networks:{network}", num_classes=4, depth=2)


def test_a_head_trains_over_a_still_image_network(recipe, tmp_path):
    changes = {
        "model.name": "lstm_resnet_tiny", "optim.train_from": "sequence", "optim.epochs": 1, "optim.warmup_epochs": 0,
        "model.options": {"truncate": 2, "late": 1.0},
    }  # fmt: skip
    still = replace(recipe, changes)
    run = muybridge.train(still, out=tmp_path / "run")
    num_classes = len(run.dataset()["classes"])
    trained, fresh = create("lstm_resnet_tiny", num_classes=num_classes), build.model(still, num_classes)
    loaded = load_weights(trained, weights_file(str(run.path)))
    assert (loaded.fresh, loaded.left_out) == ((), ())
    before = fresh.state_dict()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("backbone."), name
    assert all(math.isfinite(row["loss"]) for row in run.metrics("train"))
    assert muybridge.evaluate(run).logits_VK.shape[1] == num_classes


@pytest.mark.parametrize("name", ["lstm", "attentive", "mean_pool"])
def test_an_image_networks_weights_leave_the_head_fresh(name):
    """Also where the classifier of the pictures would fit in shape: it looks at other features."""
    torch.manual_seed(0)
    pictures = create("tsn_resnet_tiny", num_classes=4).state_dict()
    pictures = {key.removeprefix("backbone."): torch.rand_like(t) if t.is_floating_point() else t
                for key, t in pictures.items()}  # fmt: skip
    model = create(f"{name}_resnet_tiny", num_classes=4)
    loaded = load_weights(model, pictures)
    kept = (
        {}
        if name == "mean_pool"
        else {f"sequence.{key}" for key in model.sequence.state_dict()} | {"fc.weight", "fc.bias"}
    )
    assert set(loaded.fresh) == set(kept)
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, pictures[key]), key


def test_training_from_the_head_freezes_the_image_network():
    model = create("lstm_resnet_tiny", num_classes=4)
    called = call_order(outline("lstm_resnet_tiny", num_classes=4, num_frames=8), num_frames=8, size=32)
    Frozen(model, train_from="sequence", called=called)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(("sequence.", "fc."))}


# Cost


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", ["lstm", "gru", "attentive"])
def test_multiply_adds_by_hand(name, device):
    """Two layers, both directions; or one query's attention to eight vectors."""
    if name == "attentive":
        options = {"heads": 4, "depth": 2}
        of_block = 8 * 12 * 16**2 + 2 * 8 * 8 * 16
        macs = of_block + 16**2 + 8 * 2 * 16**2 + 2 * 8 * 16 + 8 * 16**2 + 4 * 16
    else:
        options = {"width": 7, "num_layers": 2, "bidirectional": True}
        gates = {"lstm": 4, "gru": 3}[name]
        macs = 8 * 2 * gates * 7 * ((16 + 7) + (14 + 7)) + 4 * 14
    if device == "meta":
        found = count(name, num_classes=4, num_frames=8, size=0, in_channels=D, **options)
        assert (found.macs, found.conv_macs) == (macs, 0)
        clip = count(f"{name}_resnet_tiny", num_classes=4, num_frames=8, size=64, **options)
        tsn = count("tsn_resnet_tiny", num_classes=4, num_frames=8, size=64)
        more = 8 * (128 - 16) * {"lstm": 2 * 28, "gru": 2 * 21, "attentive": 0}[name]
        if name != "attentive":
            assert clip.macs - tsn.conv_macs == macs + more
        assert clip.conv_macs == tsn.conv_macs
    else:
        model = create(name, num_classes=4, in_channels=D, **options)
        assert sum(layer.macs for layer in layers(model, num_frames=8, size=0)) == macs
