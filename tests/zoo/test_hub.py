"""Video classifiers of Hugging Face's transformers, from folders with small random ones."""

import json
import sys

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from transformers.utils import logging

from muybridge.errors import UserError
from muybridge.recipe import replace
from muybridge.training.loop import train
from muybridge.user_code import resolved_name
from muybridge.zoo import create, load_weights
from muybridge.zoo.count import count, natural_input

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 5}
FRAMES = 4
CONFIGS = {
    "videomae": transformers.VideoMAEConfig(
        image_size=16, patch_size=8, num_frames=FRAMES, intermediate_size=32, **SMALL
    ),
    "timesformer": transformers.TimesformerConfig(
        image_size=16, patch_size=8, num_frames=FRAMES, intermediate_size=32, **SMALL
    ),
    "vivit": transformers.VivitConfig(
        image_size=16, tubelet_size=[2, 8, 8], num_frames=FRAMES, intermediate_size=32, **SMALL
    ),
    "vjepa2": transformers.VJEPA2Config(
        crop_size=16, patch_size=8, frames_per_clip=FRAMES, pred_hidden_size=24, pred_num_attention_heads=2,
        pred_num_hidden_layers=1, num_pooler_layers=1, **{**SMALL, "hidden_size": 24},
    ),
}  # fmt: skip
PROBES = ("own", "linear", "attentive")


@pytest.fixture(autouse=True)
def _no_bars():
    logging.disable_progress_bar()


@pytest.fixture(
    params=[pytest.param(kind, marks=() if kind in ("videomae", "vjepa2") else pytest.mark.slow) for kind in CONFIGS]
)
def kind(request):
    return request.param


def saved(folder, kind, seed=0):
    """A network of transformers', and the folder it lies in."""
    torch.manual_seed(seed)
    net = transformers.AutoModelForVideoClassification.from_config(CONFIGS[kind]).eval()
    torch.nn.init.normal_(net.classifier.weight)  # or all logits would be near zero
    net.save_pretrained(folder)
    return net


def make(folder, **options):
    return create(f"hf:{folder}", **{"num_classes": 5, "num_frames": FRAMES, "dropout": 0.0, **options})


def clip(batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, 3, FRAMES, 16, 16)


def rewrite(folder, change):
    """Change the tensors of a saved network."""
    file = folder / "model.safetensors"
    state = safetensors.torch.load_file(file)
    change(state)
    safetensors.torch.save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_are_those_of_transformers(kind, tmp_path):
    net = saved(tmp_path, kind)
    model = make(tmp_path).eval()
    x_BCTHW = clip()
    with torch.no_grad():
        assert not torch.allclose(model(x_BCTHW), net(x_BCTHW.transpose(1, 2)).logits)  # fresh weights
        load_weights(model, "hub")
        assert torch.equal(model(x_BCTHW), net(x_BCTHW.transpose(1, 2)).logits)


@pytest.mark.parametrize("probe", PROBES)
def test_shapes_gradients_and_the_meta_device(kind, probe, tmp_path):
    saved(tmp_path, kind)
    model = make(tmp_path, num_classes=7, probe=probe).train()
    x_BCTHW = clip(3)
    f_BTD = model.features(x_BCTHW)
    assert f_BTD.shape == (3, 1, model.num_features)
    logits_BK = model(x_BCTHW)
    assert logits_BK.shape == (3, 7)
    assert torch.allclose(logits_BK, model.head(f_BTD), atol=1e-6)
    F.cross_entropy(logits_BK, torch.tensor([0, 1, 2])).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert all(".predictor." in name for name in without), without  # V-JEPA 2's plays no part in classification
    cost = count(f"hf:{tmp_path}", num_classes=7, num_frames=FRAMES, size=16, probe=probe)
    assert cost.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("probe", PROBES)
def test_frozen_means_that_only_the_head_learns(kind, probe, tmp_path):
    config = CONFIGS[kind].to_dict()
    saved(tmp_path, kind)
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.5}))
    model = make(tmp_path, probe=probe, frozen=True).train()
    load_weights(model, "hub")
    assert not any(module.training for module in model.encoder.modules())
    assert model.fc.training
    x_BCTHW = clip()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert torch.equal(model.features(x_BCTHW), model.features(x_BCTHW))  # no dropout inside
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    F.cross_entropy(model(x_BCTHW), torch.tensor([0, 1])).backward()
    optimizer.step()
    inside = {f"network.{name}" for name, _ in model.network.named_parameters()} if probe != "own" else {
        name for name in before if name.startswith(f"network.{model.network.base_model_prefix}.")
    }  # fmt: skip
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name in inside), name
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in inside)
    assert not torch.equal(after["fc.weight"], before["fc.weight"])
    assert inside


@pytest.mark.parametrize("probe", ["linear", "attentive"])
def test_a_probe_reads_the_tokens_of_the_encoder(kind, probe, tmp_path):
    net = saved(tmp_path, kind)
    model = make(tmp_path, probe=probe).eval()
    loaded = load_weights(model, "hub")
    assert {name.partition(".")[0] for name in loaded.fresh} == {"linear": {"fc"}, "attentive": {"fc", "pool"}}[probe]
    x_BCTHW = clip()
    with torch.no_grad():
        tokens_BLD = net.base_model(x_BCTHW.transpose(1, 2)).last_hidden_state
        expected_BD = tokens_BLD.mean(1) if probe == "linear" else model.pool(tokens_BLD)[0][:, 0]
        assert torch.allclose(model.features(x_BCTHW)[:, 0], expected_BD, atol=1e-6)
        # the attentive pool weighs tokens by what they are, not by where they stand
        if probe == "attentive":
            assert torch.allclose(model.pool(tokens_BLD.flip(1))[0][:, 0], expected_BD, atol=1e-5)
            assert not torch.allclose(model.pool(tokens_BLD[:, :1])[0][:, 0], expected_BD, atol=1e-5)


def test_blocks_of_an_attentive_probe(tmp_path):
    saved(tmp_path, "vjepa2")
    one, four = make(tmp_path, probe="attentive"), make(tmp_path, probe="attentive", probe_blocks=3)
    width = one.num_features
    block = 12 * width**2 + 13 * width  # attention, MLP of four times the width, two norms
    assert sum(p.numel() for p in four.parameters()) - sum(p.numel() for p in one.parameters()) == 3 * block
    with pytest.raises(UserError, match="probe_blocks are the attentive probe's"):
        make(tmp_path, probe_blocks=3)


def test_other_classes_leave_the_classifier_fresh(tmp_path):
    net = saved(tmp_path, "videomae")
    model = make(tmp_path, num_classes=9)
    fresh = model.fc.weight.clone()
    assert load_weights(model, "hub").fresh == ("fc.weight", "fc.bias")
    assert torch.equal(model.fc.weight, fresh)
    assert torch.equal(model.network.fc_norm.weight, net.fc_norm.weight)


def test_a_trained_probe_is_kept_for_other_classes(tmp_path):
    saved(tmp_path, "videomae")
    torch.manual_seed(2)
    trained = make(tmp_path, probe="attentive", probe_blocks=1)
    torch.manual_seed(3)
    model = make(tmp_path, num_classes=9, probe="attentive", probe_blocks=1)
    assert load_weights(model, trained.state_dict()).fresh == ("fc.weight", "fc.bias")
    for name, tensor in model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, trained.state_dict()[name]), name
    partial = {name: tensor for name, tensor in trained.state_dict().items() if name != "pool.query"}
    with pytest.raises(UserError, match=r"without a weight: pool\.query"):
        load_weights(model, partial)


def test_a_missing_classifier_is_an_error_for_the_same_classes(kind, tmp_path):
    saved(tmp_path, kind)
    rewrite(tmp_path, lambda state: [state.pop(f"classifier.{part}") for part in ("weight", "bias")])
    with pytest.raises(UserError, match=r"missing: 2 \(classifier\.bias, classifier\.weight\).*probe='linear'"):
        load_weights(make(tmp_path), "hub")
    assert load_weights(make(tmp_path, num_classes=9), "hub").fresh == ("fc.weight", "fc.bias")


@pytest.mark.parametrize("probe", PROBES)
def test_a_missing_weight_is_an_error(kind, probe, tmp_path):
    saved(tmp_path, kind)
    prefix = CONFIGS[kind].model_type

    def drop(state):
        del state[next(name for name in sorted(state) if name.startswith(prefix) and name.endswith("bias"))]

    rewrite(tmp_path, drop)
    with pytest.raises(UserError, match="missing: 1"):
        load_weights(make(tmp_path, probe=probe), "hub")


@pytest.mark.parametrize("probe", PROBES)
def test_a_weight_without_a_home_is_an_error(kind, probe, tmp_path):
    saved(tmp_path, kind)
    rewrite(tmp_path, lambda state: state.update({f"{CONFIGS[kind].model_type}.extra.weight": torch.zeros(3)}))
    with pytest.raises(UserError, match=r"without a place in the network: 1 \(.*extra.weight\)"):
        load_weights(make(tmp_path, probe=probe), "hub")


def test_a_weight_of_another_shape_is_an_error(tmp_path):
    saved(tmp_path, "videomae")
    rewrite(tmp_path, lambda state: state.update({"fc_norm.weight": torch.zeros(3)}))
    with pytest.raises(UserError, match=r"of another shape: 1 \(fc_norm\.weight\)"):
        load_weights(make(tmp_path), "hub")


def test_an_encoder_without_a_head_takes_a_probe(tmp_path):
    torch.manual_seed(0)
    encoder = transformers.VJEPA2Model(CONFIGS["vjepa2"]).eval()
    encoder.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"missing: .*pooler.*probe='linear' or 'attentive'"):
        load_weights(make(tmp_path), "hub")
    model = make(tmp_path, probe="linear").eval()
    load_weights(model, "hub")
    x_BCTHW = clip()
    with torch.no_grad():
        tokens_BLD = encoder(x_BCTHW.transpose(1, 2), skip_predictor=True).last_hidden_state
        assert torch.allclose(model.features(x_BCTHW)[:, 0], tokens_BLD.mean(1), atol=1e-6)
    rewrite(tmp_path, lambda state: state.update({"encoder.extra.weight": torch.zeros(3)}))
    with pytest.raises(UserError, match=r"without a place in the network: 1 \(.*extra.weight\)"):
        load_weights(model, "hub")


def test_a_probe_leaves_out_what_is_no_encoder_and_says_so(tmp_path, capfd):
    """VideoMAE's pre-training leaves a decoder beside the encoder."""
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        image_size=16, patch_size=8, num_frames=FRAMES, intermediate_size=32, decoder_num_attention_heads=2,
        decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_intermediate_size=16, **SMALL,
    )  # fmt: skip
    net = transformers.VideoMAEForPreTraining(config)
    net.save_pretrained(tmp_path)
    model = make(tmp_path, probe="linear")
    capfd.readouterr()
    load_weights(model, "hub")
    decoder = [name for name in net.state_dict() if not name.startswith("videomae.")]
    assert f"left out for the probe: {len(decoder)} (decoder." in capfd.readouterr().err
    for name, tensor in net.videomae.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor), name
    with pytest.raises(UserError, match="decoder"):
        load_weights(make(tmp_path), "hub")


def test_clips_that_do_not_fit_name_what_would(kind, tmp_path):
    saved(tmp_path, kind)
    if kind in ("videomae", "vivit"):
        with pytest.raises(UserError, match="takes clips of 4 frames, but got 8"):
            make(tmp_path, num_frames=8)
    model = make(tmp_path)
    fault = "takes clips of 4 frames, but got 3"
    if kind == "vjepa2":
        fault = "a multiple of 2 frames, but got 3. Set clip.num_frames=2 or 4"
    with pytest.raises(UserError, match=fault):
        model(torch.zeros(1, 3, 3, 16, 16))
    with pytest.raises(UserError, match="takes 16x16 pixels, but got 16x24"):
        model(torch.zeros(1, 3, 4, 16, 24))
    with pytest.raises(UserError, match="no temporal pooling"):
        make(tmp_path, temporal_pooling=True)


def longer(folder, kind, frames):
    """A network of transformers' whose configuration has other frames, with the weights of `folder`."""
    config = json.loads((folder / "config.json").read_text())
    config["frames_per_clip" if kind == "vjepa2" else "num_frames"] = frames
    net = transformers.AutoModelForVideoClassification.from_config(
        type(CONFIGS[kind]).from_dict(config), dtype=torch.float32
    ).eval()
    state = safetensors.torch.load_file(folder / "model.safetensors")
    name = "timesformer.embeddings.time_embeddings"
    if name in state:  # each place takes the embedding of the nearest one
        state[name] = state[name][:, torch.arange(frames) * FRAMES // frames]
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("frames", [2, 4, 6, 8])
@pytest.mark.parametrize("kind", ["vjepa2", "timesformer"])
def test_other_lengths_are_those_of_a_network_made_for_them(kind, frames, tmp_path):
    net = saved(tmp_path, kind)
    if kind == "timesformer":  # its embeddings begin as zeros
        torch.nn.init.normal_(net.timesformer.embeddings.time_embeddings)
        net.save_pretrained(tmp_path)
    model = make(tmp_path, num_frames=frames)
    load_weights(model, "hub")
    x_BCTHW = torch.randn(2, 3, frames, 16, 16)
    model.eval()
    with torch.no_grad():
        expected_BK = longer(tmp_path, kind, frames)(x_BCTHW.transpose(1, 2)).logits
        assert torch.allclose(model(x_BCTHW), expected_BK, atol=1e-6)
        assert not torch.allclose(model(x_BCTHW.flip(2)), expected_BK, atol=1e-4)
    F.cross_entropy(model.train()(x_BCTHW), torch.tensor([0, 1])).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert all(".predictor." in name for name in without), without


@pytest.mark.parametrize("attention", ["divided_space_time", "joint_space_time"])
def test_timesformer_takes_any_length_with_each_kind_of_attention(attention, tmp_path):
    config = CONFIGS["timesformer"].to_dict() | {"attention_type": attention}
    transformers.TimesformerConfig.from_dict(config).save_pretrained(tmp_path)
    for frames in (1, 3, 4, 7):
        logits_BK = make(tmp_path, num_frames=frames).eval()(torch.randn(2, 3, frames, 16, 16))
        assert logits_BK.shape == (2, 5)
        assert logits_BK.isfinite().all()


def test_a_network_that_answers_for_frames_alone_is_refused(tmp_path):
    config = CONFIGS["timesformer"].to_dict() | {"attention_type": "space_only"}
    transformers.TimesformerConfig.from_dict(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no answer for a clip"):
        make(tmp_path)


def test_the_usual_clip_is_the_configurations(kind, tmp_path):
    saved(tmp_path, kind)
    assert natural_input(f"hf:{tmp_path}") == (FRAMES, 16)


def test_v_jepa_refuses_a_part_of_a_tubelet(tmp_path):
    saved(tmp_path, "vjepa2")
    with pytest.raises(UserError, match=r"a multiple of 2 frames, but got 5\. Set clip.num_frames=4 or 6"):
        make(tmp_path, num_frames=5)
    with pytest.raises(UserError, match="at least 2 frames, but got 1"):
        make(tmp_path, num_frames=1)


def test_names_and_options_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=f"hf:{tmp_path}"):
        make(tmp_path)
    saved(tmp_path, "vivit")
    with pytest.raises(UserError, match=r"probe 'knn' is unknown\. Choose own, linear or attentive"):
        make(tmp_path, probe="knn")
    with pytest.raises(UserError, match="no option 'freeze'"):
        make(tmp_path, freeze=True)
    with pytest.raises(UserError, match="frozen is 'yes'"):
        make(tmp_path, frozen="yes")
    with pytest.raises(UserError, match=r"probe_blocks is -1, not a number of blocks\. Give 0 or more"):
        make(tmp_path, probe="attentive", probe_blocks=-1)
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"'bert', which classifies no videos \(.*videomae"):
        make(tmp_path)


def test_a_folders_name_is_resolved_and_others_stay(tmp_path, monkeypatch):
    saved(tmp_path / "net", "videomae")
    monkeypatch.chdir(tmp_path)
    name = resolved_name("hf:net")
    assert name == f"hf:{tmp_path / 'net'}"
    for other in (
        name,
        "hf:net/config.json",
        "hf:MCG-NJU/videomae-base",
        "tsn_resnet18",
        "net",
        "net:net",
        "tsm@timm:net",
    ):
        assert resolved_name(other) == other
    monkeypatch.chdir(tmp_path / "net")
    load_weights(create(name, num_classes=5, num_frames=FRAMES), "hub")


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}, lambda p: (p / 255 - 0.5) / 0.3),
        ({"do_normalize": False, "rescale_factor": 1 / 255}, lambda p: p / 255),
        ({"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}, lambda p: (p - 120) / 60),
        (
            {"offset": True, "rescale_factor": 1 / 127.5, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
            lambda p: (p / 127.5 - 1 - 0.5) / 0.5,
        ),
    ],
)
@pytest.mark.parametrize("file_name", ["preprocessor_config.json", "video_preprocessor_config.json"])
def test_preprocessing_is_what_the_networks_own_processor_does(processor, expected, file_name, tmp_path):
    saved(tmp_path, "vivit")
    (tmp_path / file_name).write_text(json.dumps(processor))
    model = make(tmp_path)
    for pixel in (0.0, 100.0, 255.0):
        green = (pixel / 255 - model.preprocessing.mean[1]) / model.preprocessing.std[1]
        assert green == pytest.approx(expected(pixel), abs=1e-6)


def test_a_networks_reports_and_bars_are_silent_and_come_back(tmp_path, capfd):
    saved(tmp_path, "videomae")
    logging.enable_progress_bar()
    verbosity = logging.get_verbosity()
    capfd.readouterr()
    load_weights(make(tmp_path, num_classes=9), "hub")
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == verbosity


def test_a_frozen_probe_trains_in_the_one_loop(recipe, tmp_path):
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(image_size=32, patch_size=16, num_frames=4, intermediate_size=32, **SMALL)
    net = transformers.VideoMAEForVideoClassification(config)
    net.save_pretrained(tmp_path / "net")
    model = {"model.name": f"hf:{tmp_path / 'net'}", "model.options": {"probe": "attentive", "frozen": True}}
    run = train(replace(recipe, {**model, "optim.epochs": 1, "optim.warmup_epochs": 0}), out=tmp_path / "run")
    checkpoints = run.path / "checkpoints"
    trained = safetensors.torch.load_file(
        checkpoints / (checkpoints / "last").read_text().strip() / "model.safetensors"
    )
    for name, tensor in net.videomae.state_dict().items():  # the hub's weights, and not moved
        assert torch.equal(trained[f"network.{name}"], tensor), name
    assert trained["fc.bias"].abs().min() > 0  # it started as zeros


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_checkpoint_of_pretraining_is_an_encoder(probe, form, tmp_path):
    """VideoMAE's has a decoder and no classifier: with --init the encoder is taken, and what is not is listed."""
    torch.manual_seed(3)
    before = transformers.VideoMAEForPreTraining(CONFIGS["videomae"])
    before.save_pretrained(tmp_path)
    model = make(tmp_path, probe=probe)
    with pytest.raises(UserError, match="fit"):
        load_weights(make(tmp_path), "hub")
    source = "hub" if form == "folder" else tmp_path / "model.safetensors"
    loaded = load_weights(model, source, part="agreeing")
    theirs, ours = before.videomae.state_dict(), model.encoder.state_dict()
    assert ours.keys() <= theirs.keys() | {"layernorm.weight", "layernorm.bias"}
    for name in ours.keys() & theirs.keys():
        assert torch.equal(ours[name], theirs[name]), name
    assert {"fc.weight", "fc.bias"} <= set(loaded.fresh)
    assert not any("decoder" in name for name in loaded.taken)


@pytest.mark.parametrize("version", ["4.57.1", "5.8.0", "5.16.1", "5.17.0"])
def test_versions_that_load_weights_wrongly_are_refused(monkeypatch, tmp_path, version):
    saved(tmp_path, "videomae")
    monkeypatch.setattr(sys.modules["transformers"], "__version__", version)  # it puts another of itself there
    with pytest.raises(UserError, match=version):
        make(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"auto_map": {"AutoConfig": "code.Config"}, "model_type": "evil"}, "code|custom|evil"),
        ({"attn_implementation": "stranger/kernel"}, "asks for code from stranger/kernel"),
        ({"_attn_implementation": "stranger/kernel"}, "asks for code from stranger/kernel"),
    ],
)
def test_a_configuration_runs_no_code(tmp_path, change, said):
    saved(tmp_path, "videomae")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'SPRUNG')!r}, 'w')\n")
    with pytest.raises(UserError, match=said):
        make(tmp_path)
    assert not (tmp_path / "SPRUNG").exists()
