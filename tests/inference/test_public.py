"""Public weights without training: `evaluate` and `predict` take `MODEL --pretrained WEIGHTS`."""

import json
import math
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from test_damaged import DAMAGES
from typer.testing import CliRunner

import muybridge
from muybridge import build
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest, from_columns
from muybridge.errors import UserError
from muybridge.recipe import Runtime, replace
from muybridge.storage import checkpoints
from muybridge.training.loop import train
from muybridge.zoo import create, kinetics
from muybridge.zoo.count import outline
from muybridge.zoo.weights import load
from muybridge.zoo.weights.tag import read_tag

NAMES = {0: "Left", 1: "right", 2: "grow", 3: "shrink", 4: "Some Thing"}


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder of the hub with a small VideoMAE and names of its classes."""
    folder = tmp_path_factory.mktemp("hub") / "net"
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, id2label=NAMES, label2id={name: index for index, name in NAMES.items()},
    )  # fmt: skip
    net = transformers.VideoMAEForVideoClassification(config)
    torch.nn.init.normal_(net.classifier.weight)
    net.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def learned(recipe, tmp_path_factory):
    """A run whose scores are of one view, and its weights copied out of its folder."""
    folder = tmp_path_factory.mktemp("learned")
    run = train(
        replace(recipe, {"evaluation.num_clips": 1, "evaluation.num_crops": 1, "optim.lr": 0.1}), out=folder / "run"
    )
    shutil.copy(checkpoints.model_file(run.checkpoints), folder / "weights.safetensors")
    return run, folder / "weights.safetensors"


@pytest.fixture
def video(made_set):
    return Manifest.load(made_set).row(0).path


SHOWN = {"clip.num_frames": 4, "clip.size": 32, "precision": "fp32"}
"""What the run of `learned` was shown, which its weights alone do not say."""


def relabelled(manifest, path, names):
    """A manifest with the label `names(label)` for each; videos whose label becomes None are left out."""
    whole = Manifest.load(manifest)
    kept = np.array([names(label) is not None for label in whole.text("label")])
    columns = {name: column[kept] for name, column in whole.plain_columns().items()}
    columns["label"] = np.array([names(label) for label in columns["label"]], dtype=object)
    classes = dict.fromkeys(name for name in map(names, whole.classes) if name is not None)
    from_columns(columns, classes=classes, root=whole.root, mirror={}).save(path)
    return path


def test_weights_copied_out_of_a_run_answer_as_the_run_does(learned, video, made_set, capfd):
    run, weights = learned
    [there] = muybridge.load(run)(video, top=10)
    [here] = muybridge.load("tsm_resnet_tiny", pretrained=weights, changes=SHOWN)(video, top=10)
    assert here.labels == there.labels  # their names are in the file
    assert np.allclose(here.scores, there.scores, atol=1e-6)
    capfd.readouterr()
    scores = muybridge.evaluate("tsm_resnet_tiny", pretrained=weights, data=made_set, changes=SHOWN)
    assert np.allclose(scores.logits_VK, run.scores("test").logits_VK, atol=1e-5)
    assert scores.video_accuracy() == run.scores("test").video_accuracy()
    said = capfd.readouterr().err
    assert "clip(s) of 4 frames, 1 crop(s) of 32x32 pixels" in said.splitlines()[0]
    assert "what the weights were trained on is not known here; if these videos are among theirs" in said


def test_checkpoints_keep_the_names_of_the_classes(learned):
    run, weights = learned
    with safetensors.safe_open(weights, framework="pt") as file:
        assert read_tag(file.metadata(), "").classes == tuple(run.dataset()["classes"])


def test_labels_are_matched_but_for_case_spaces_and_underscores(learned, made_set, tmp_path):
    run, weights = learned
    spelled = relabelled(made_set, tmp_path / "spelled.csv", lambda name: f"_{name.upper()}")
    scores = muybridge.evaluate("tsm_resnet_tiny", pretrained=weights, data=spelled, changes=SHOWN)
    assert (scores.labels_N == run.scores("test").labels_N).all()
    assert list(scores.classes) == run.dataset()["classes"]


def test_a_class_that_the_weights_do_not_know_names_the_nearest(learned, made_set, tmp_path):
    _, weights = learned
    classes = Manifest.load(made_set).classes
    other = relabelled(made_set, tmp_path / "other.csv", lambda name: {classes[0]: f"{classes[0]}x"}.get(name, name))
    with pytest.raises(UserError) as caught:
        muybridge.evaluate("tsm_resnet_tiny", pretrained=weights, data=other, changes=SHOWN)
    assert f"'{classes[0]}x' (nearest: '{classes[0]}')" in str(caught.value)
    assert f"does not know 1 of the {len(classes)} classes" in str(caught.value)
    assert f"muybridge train --model tsm_resnet_tiny --pretrained {weights}" in str(caught.value)


def test_two_classes_that_are_one_to_the_weights_are_refused(learned, made_set, tmp_path):
    _, weights = learned
    first, second = Manifest.load(made_set).classes[:2]
    merged = relabelled(made_set, tmp_path / "merged.csv", lambda name: {second: first.upper()}.get(name, name))
    with pytest.raises(UserError, match=f"are one class to it, '{first}'"):
        muybridge.evaluate("tsm_resnet_tiny", pretrained=weights, data=merged, changes=SHOWN)


def test_a_classifier_of_the_hub_answers_by_its_own_names(hub, video):
    """Probabilities are those of transformers for the clip that the recipe cuts."""
    found = json.loads(call("predict", f"hf:{hub}", video, "--pretrained", "hub", "--json").stdout)
    [prediction] = found["predictions"]
    assert found["pretrained"] == "hub"
    assert set(prediction["labels"]) == set(NAMES.values())
    predictor = muybridge.load(f"hf:{hub}", pretrained="hub", changes={"precision": "fp32"})
    net = transformers.AutoModelForVideoClassification.from_pretrained(hub).eval()
    clips = []
    predictor.answering.model.register_forward_pre_hook(lambda module, args: clips.append(args[0]))
    [answer] = predictor(video)
    with torch.no_grad():
        expected_K = net(clips[0].transpose(1, 2)).logits.softmax(-1)[0]
    assert clips[0].shape == (1, 3, 4, 32, 32)  # the configuration's frames and size
    assert answer.labels == tuple(NAMES[index] for index in expected_K.argsort(descending=True).tolist())
    assert np.allclose(answer.scores, expected_K.sort(descending=True).values, atol=1e-5)


def test_the_first_line_says_what_is_shown(hub, video):
    said = call("predict", f"hf:{hub}", video, "--pretrained", "hub", "--set", "evaluation.num_crops=3").stderr
    first = said.splitlines()[0]
    assert f"hf:{hub} with hub" in first
    assert "5 classes; 1 uniform clip(s) of 4 frames, 3 crop(s) of 32x32 pixels" in first.replace("\n", " ")


def test_a_configuration_without_names_gives_numbers(hub, tmp_path, video):
    shutil.copytree(hub, tmp_path / "net")
    config = json.loads((hub / "config.json").read_text())
    config |= {"id2label": {str(i): f"LABEL_{i}" for i in range(5)}, "label2id": {f"LABEL_{i}": i for i in range(5)}}
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    result = call("predict", f"hf:{tmp_path / 'net'}", video, "--pretrained", "hub", "--json")
    assert set(json.loads(result.stdout)["predictions"][0]["labels"]) == set("01234")
    assert "called 0 to 4" in " ".join(result.stderr.split())


def test_a_label_of_a_stranger_gives_the_terminal_no_orders(hub, tmp_path, video):
    shutil.copytree(hub, tmp_path / "net")
    config = json.loads((hub / "config.json").read_text())
    names = {str(i): f"\x1b[31m{i}" for i in range(5)}
    (tmp_path / "net" / "config.json").write_text(json.dumps(config | {"id2label": names}))
    result = call("predict", f"hf:{tmp_path / 'net'}", video, "--pretrained", "hub")
    assert "\x1b" not in result.output


def test_scores_of_the_weights_own_classifier_are_stored_with_their_vectors(learned, hub, made_set, tmp_path):
    run, weights = learned
    words = {"data": made_set, "changes": {key: SHOWN[key] for key in ("clip.num_frames", "clip.size")}}
    of_run = muybridge.features(run.path, data=made_set, out=tmp_path / "run")
    alone = muybridge.features(run.recipe().model.name, pretrained=weights, out=tmp_path / "alone", **words)
    assert alone.width == of_run.width
    for kind in ("vectors", "scores"):
        read = [np.load(made.path / f"{kind}-00000.npy") for made in (alone, of_run)]
        assert read[0].shape[1] == read[1].shape[1]
    assert alone.accuracy["split"]["test"]["trained_on"] == 0  # a file of weights does not know
    muybridge.features(f"hf:{hub}", data=made_set, out=tmp_path / "hub", allow_code=True)
    about = json.loads((tmp_path / "hub" / "features.json").read_text())
    assert about["classes"] is None  # without --pretrained only its encoder was asked for
    named = muybridge.features(f"hf:{hub}", pretrained="hub", data=made_set, out=tmp_path / "named")
    assert json.loads((named.path / "features.json").read_text())["classes"] == list(NAMES.values())
    assert np.load(named.path / "scores-00000.npy").shape == (named.vectors, len(NAMES))


def test_classes_of_a_set_are_scored_among_all_of_the_weights(hub, made_set, tmp_path):
    index = {"left": 0, "right": 1, "grow": 2, "shrink": 3}
    part = relabelled(made_set, tmp_path / "part.csv", lambda name: name if name in index else None)
    result = call("evaluate", f"hf:{hub}", "--pretrained", "hub", "--data", part, "--out", tmp_path / "s.npz", "--json")
    scores = muybridge.evaluate(tmp_path / "s.npz")
    assert list(scores.classes) == list(NAMES.values())
    manifest = Manifest.load(part)
    wanted = [index[name] for name in manifest.text("label", manifest.split("test"))]
    assert json.loads(result.stdout)["test"]["video_top1"] == np.mean(scores.video_scores().argmax(1) == wanted)


@pytest.fixture
def images(tmp_path):
    """torchvision's ResNet18, ImageNet's classifier and all, by its own names, with random weights."""
    torch.manual_seed(4)
    state = create("tsn_resnet18", num_classes=1000).state_dict()
    file = tmp_path / "resnet18.pt"
    torch.save({name.removeprefix("backbone."): tensor for name, tensor in state.items()}, file)
    return file


def test_an_image_network_answers_for_single_frames_alone(images, video, monkeypatch):
    monkeypatch.setattr(load, "download", lambda url, sha256="": images)
    shown = {"clip.size": 64}
    predictor = muybridge.load("tsn_resnet18", pretrained="imagenet", changes=shown)
    assert predictor.classes == tuple(map(str, range(1000)))
    assert len(predictor(video)[0].labels) == 5
    for model in ("tsm_resnet18", "i3d_resnet18"):
        with pytest.raises(UserError, match=r"know nothing of time.*muybridge train --model .*tsn"):
            muybridge.load(model, pretrained="imagenet", changes=shown)
    with pytest.raises(UserError, match="would stay random"):
        muybridge.load("tam_resnet18", pretrained=images, changes=shown)


def test_weights_without_a_classifier_say_how_to_train_one(images, tmp_path):
    state = {name: tensor for name, tensor in torch.load(images).items() if not name.startswith("fc.")}
    torch.save(state, tmp_path / "bare.pt")
    with pytest.raises(UserError, match=r"they have no classifier.*muybridge train --model tsn_resnet18 --pretrained"):
        muybridge.load("tsn_resnet18", pretrained=tmp_path / "bare.pt")


def test_names_of_another_number_of_classes_are_refused(learned, tmp_path):
    _, weights = learned
    tensors = safetensors.torch.load_file(weights)
    with safetensors.safe_open(weights, framework="pt") as file:
        about = json.loads(file.metadata()["muybridge"])
    for classes, fault in ((about["classes"][:2], "they name 2 classes"), (["a", "a"], "cannot be understood")):
        metadata = {"muybridge": json.dumps(about | {"classes": classes})}
        safetensors.torch.save_file(tensors, tmp_path / "w.safetensors", metadata=metadata)
        with pytest.raises(UserError, match=fault):
            muybridge.load("tsm_resnet_tiny", pretrained=tmp_path / "w.safetensors", changes=SHOWN)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "MODEL", "--pretrained", "FILE"], "--data: public weights bring no videos"),
        (["evaluate", "MODEL", "--pretrained", "FILE", "--data", "SET", "--checkpoint", "best"], "have no checkpoints"),
        (["evaluate", "MODEL", "--pretrained", "FILE", "--data", "SET", "--keep", "--set", "clip.num_frames=4"],
         "only a run keeps evaluations"),
        (["evaluate", "MODEL", "--pretrained", "none", "--data", "SET"], "it names no weights"),
        (["evaluate", "MODEL", "--pretrained", "auto", "--data", "SET"], "it names no weights of tsm_resnet_tiny"),
        (["evaluate", "MODEL", "--pretrained", "kinetics400", "--data", "SET"], "not among those published"),
        (["evaluate", "MODEL", "--pretrained", "FILE", "--data", "SET", "--set", "optim.lr=1"], "nothing is trained here"),
        (["evaluate", "MODEL", "--pretrained", "RUN", "--data", "SET"], "Name the run alone"),
        (["evaluate", "scores.npz", "--pretrained", "FILE"], "--pretrained: it does not apply to stored scores"),
        (["predict", "tsm_resnt_tiny", "VIDEO", "--pretrained", "FILE"], "tsm_resnet_tiny"),
        (["predict", "RUN", "VIDEO", "--set", "clip.num_frames=8"], "the run's own recipe is used"),
        (["predict", "MODEL", "VIDEO", "--pretrained", "FILE", "--set", "clip.num_frames=2"], "at least 4 frames"),
    ],
)  # fmt: skip
def test_refused(learned, made_set, video, words, said):
    run, weights = learned
    values = {"MODEL": "tsm_resnet_tiny", "FILE": weights, "SET": made_set, "RUN": run.path, "VIDEO": video}
    result = call(*(values.get(word, word) for word in words), code=2)
    assert said in " ".join(result.output.split())


def test_kinetics_names_are_in_the_order_of_the_weights():
    """Figures of PyTorchVideo's kinetics_classnames.json; DeepMind's label_map.txt is alphabetical, too."""
    numbers = {
        "abseiling": 0, "archery": 5, "bench pressing": 19, "changing wheel": 53, "cutting nails": 81, "deadlifting": 88,
        "eating carrots": 111, "marching": 192, "passing American football (in game)": 208, "playing flute": 231,
        "sharpening knives": 290, "skiing (not slalom or crosscountry)": 308, "throwing discus": 358, "zumba": 399,
    }  # fmt: skip
    assert {name: kinetics.CLASSES.index(name) for name in numbers} == numbers
    assert len(set(kinetics.CLASSES)) == 400
    assert list(kinetics.CLASSES) == sorted(kinetics.CLASSES)


def test_all_of_kinetics_are_shown_the_clips_that_they_are_made_for():
    seen = {}
    for name in [row["name"] for row in muybridge.models()["models"] if "kinetics400" in row["weights"]]:
        recipe = build.ready_made(name, "kinetics400", changes={}, runtime=Runtime(device="cpu"))
        net = outline(name, num_classes=400, num_frames=recipe.clip.num_frames)
        net.check_input(torch.empty(1, 3, recipe.clip.num_frames, recipe.test_size, recipe.test_size, device="meta"))
        assert net.published["kinetics400"].classes == kinetics.CLASSES
        seen[name] = (recipe.clip.num_frames, recipe.clip.stride_frames, recipe.clip.size)
        assert recipe.clip.sampling == "dense"
    assert seen["slowfast_resnet50"] == (32, 2, 224)  # Feichtenhofer et al. 2019, section 4
    assert seen["x3d_s"] == (13, 6, 160)  # Feichtenhofer 2020, table 3
    assert seen["i3d"] == (64, 1, 224)  # Carreira and Zisserman 2017, section 2.5
    assert len(seen) == 12


def test_long_videos_are_cut_where_the_length_of_the_training_videos_is_known(learned):
    from muybridge.evaluation import trained

    assert trained.KINETICS_SECONDS == 10
    network = trained.trained("tsm_resnet_tiny", pretrained=learned[1], changes=SHOWN)
    assert network.dataset["longest_trained_seconds"] == math.inf


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_hub_folder_is_named(hub, tmp_path, video, name, damage):
    shutil.copytree(hub, tmp_path / "net")
    file = tmp_path / "net" / name
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    result = call("predict", f"hf:{tmp_path / 'net'}", video, "--pretrained", "hub", code=2)
    assert str(tmp_path / "net") in result.output.replace("\n", "")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_weights_is_named(learned, tmp_path, video, damage):
    file = tmp_path / "w.safetensors"
    file.write_bytes(DAMAGES[damage](learned[1].read_bytes()))
    result = call("predict", "tsm_resnet_tiny", video, "--pretrained", file, code=2)
    assert file.name in result.output.replace("\n", "")


def test_public_weights_answer_in_fp32_unless_asked_otherwise(monkeypatch):
    monkeypatch.setattr("muybridge.build.resolving.has_bf16", lambda device: True)
    for changes, precision in (({}, "fp32"), ({"precision": "bf16"}, "bf16"), ({"precision": "auto"}, "bf16")):
        recipe = build.ready_made("x3d_s", "kinetics400", changes=changes, runtime=Runtime(device="cpu"))
        assert recipe.precision == precision
