"""Two made-up inputs from outside, one of pictures and one of vectors, go the whole way without another file."""

import numpy as np
import pytest
import torch

import muybridge
from muybridge.data import inputs
from muybridge.errors import UserError
from muybridge.recipe import Clip, Recipe, Runtime, replace
from muybridge.training.job import Jobs
from muybridge.zoo import VideoModel, registry

D = 6


class WithGray:
    """Frames of four channels: red, green, blue and their mean."""

    def __init__(self, pixels):
        self.pixels = pixels

    def read(self, row, indices):
        frames_THW3 = self.pixels.read(row, indices)
        gray_THW1 = frames_THW3.mean(3, keepdims=True).round().astype(np.uint8)
        return np.concatenate([frames_THW3, gray_THW1], axis=3)


class FourChannels(inputs.Input):
    name = "four"
    about = "frames and their gray"
    meaning = "red, green, blue and gray"
    channels = read_channels = 4

    def reader(self, pixels):
        return WithGray(pixels)


class Colours:
    """Vectors of six values: mean and spread of each colour of a frame."""

    def __init__(self, pixels):
        self.pixels = pixels

    def read(self, row, indices):
        frames_THW3 = self.pixels.read(row, indices) / 255
        return np.concatenate([frames_THW3.mean((1, 2)), frames_THW3.std((1, 2))], axis=1).astype(np.float32)


class ColourVectors(inputs.Vectors):
    name = "colours"
    about = "colours of frames"
    meaning = "mean and spread of the colours of a frame"
    channels = read_channels = D

    def reader(self, pixels):
        return Colours(pixels)


class Probe(VideoModel):
    """A linear layer a frame, and the mean over time: it looks at single frames."""

    input_kind = "features"
    looks_at = "frame"

    def __init__(self, in_channels, num_classes, dropout):
        super().__init__(in_channels, num_classes, dropout=dropout)
        self.in_channels = in_channels

    def features(self, x):
        return x


class Memory(Probe):
    """A recurrent network over the vectors."""

    looks_at = "clip"

    def __init__(self, in_channels, num_classes, dropout):
        super().__init__(in_channels, num_classes, dropout)
        self.lstm = torch.nn.LSTM(in_channels, in_channels, batch_first=True)

    def features(self, x):
        return self.lstm(x)[0][:, -1:]


def probe(*, num_classes, num_frames, temporal_pooling, dropout, in_channels):
    return Probe(in_channels, num_classes, dropout)


def memory(*, num_classes, num_frames, temporal_pooling, dropout, in_channels):
    return Memory(in_channels, num_classes, dropout)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    """In the tables while these tests run: other tests count what is in them."""
    for made in (FourChannels(), ColourVectors()):
        inputs.register(made)
    for name, build in (("test_probe", probe), ("test_memory", memory)):
        registry.register(name, family="test", paper="none", build=build)
    yield
    for name in ("four", "colours"):
        inputs.INPUTS.pop(name)
    for name in ("test_probe", "test_memory"):
        registry._ENTRIES.pop(name)


def recipe_of(made_set, model, modality):
    return replace(Recipe(clip=Clip(num_frames=4, size=32)), {
        "model.name": model, "data.manifest": str(made_set), "clip.modality": modality, "optim.epochs": 1,
        "optim.warmup_epochs": 0.0, "precision": "fp32", "evaluation.num_clips": 2,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("model", "modality", "workers"),
    [("tsm_resnet_tiny", "four", 0), ("i3d_resnet_tiny", "four", 1), ("test_probe", "colours", 0),
     ("test_memory", "colours", 1), ("lstm", "colours", 0)],
)  # fmt: skip
def test_an_input_from_outside_goes_the_whole_way(made_set, tmp_path, model, modality, workers):
    recipe = recipe_of(made_set, model, modality)
    runtime = muybridge.recipe.Runtime(num_workers=workers) if workers else muybridge.recipe.Runtime(cache_gib=1.0)
    run = muybridge.train(recipe, out=tmp_path / "run", runtime=runtime)
    scores = muybridge.evaluate(run, runtime=Runtime(inference="plain"))
    assert np.array_equal(scores.logits_VK, run.scores("test").logits_VK)
    diagnosis = muybridge.diagnose(run)
    assert diagnosis.as_json()["videos"] == len(scores.ids_N)
    assert (diagnosis.largest_change()["shuffled"] < 1e-5) is (model == "test_probe")  # a mean knows no order
    row = muybridge.data.manifest.Manifest.load(made_set).row(0)
    with muybridge.load(run) as predictor:
        [prediction] = predictor(row.path, top=20, window_seconds=0)
    assert sum(prediction.scores) == pytest.approx(1, abs=1e-5)
    assert run.cost()["params"] > 0


def test_the_network_gets_all_that_the_input_has(made_set, tmp_path):
    """The fourth channel is the mean of the others, also after mirroring."""
    from muybridge import build
    from muybridge.data.manifest import Manifest

    recipe = recipe_of(made_set, "tsm_resnet_tiny", "four")
    manifest = Manifest.load(made_set)
    clips = build.train_clips(recipe, manifest, build.file_reader(recipe))
    clip_THWC = clips[clips.key(0, 0)].clip_THWC
    assert clip_THWC.shape == (4, 32, 32, 4)
    shown = inputs.find("four")
    x_BCTHW = shown.to_model(
        torch.from_numpy(clip_THWC)[None], torch.tensor([True]), mean=(0.0,) * 4, std=(1.0,) * 4
    )  # fmt: skip
    assert x_BCTHW.shape == (1, 4, 4, 32, 32)
    assert torch.allclose(x_BCTHW[:, 3], x_BCTHW[:, :3].mean(1), atol=0.02)
    assert torch.equal(x_BCTHW[0, 0, 0].mul(255).round().byte(), torch.from_numpy(clip_THWC[0, :, ::-1, 0].copy()))


@pytest.mark.parametrize(
    ("model", "modality", "message"),
    [("tsm_resnet_tiny", "colours", "'colours' gives vectors, but tsm_resnet_tiny takes clips"),
     ("test_probe", "rgb", "'rgb' gives clips, but test_probe takes vectors"),
     ("tsm_resnet_tiny", "rbg", "clip.modality: 'rbg' is unknown; it takes 'rgb' or 'rgb_difference'.*Did you mean 'rgb'")],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(made_set, tmp_path, model, modality, message):
    with pytest.raises(UserError, match=message):
        muybridge.train(recipe_of(made_set, model, modality), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plan_of_several_inputs_counts_each(made_set):
    """One network over three and over four channels: its first convolution differs."""
    jobs = Jobs(muybridge.recipe.Runtime())
    three, four = (jobs.cost(recipe_of(made_set, "tsm_resnet_tiny", name))["params"] for name in ("rgb", "four"))
    assert four - three == 16 * 7 * 7


def test_vectors_have_no_crops(made_set, tmp_path):
    recipe = replace(recipe_of(made_set, "test_probe", "colours"), {"evaluation.num_crops": 3})
    with pytest.raises(UserError, match=r"num_crops: 3 are asked for, but colours has no picture to crop\. Set .*=1"):
        muybridge.train(recipe, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize(("model", "modality"), [("tsm_resnet_tiny", "four"), ("test_probe", "colours")])
def test_only_red_green_and_blue_change_their_colours(made_set, tmp_path, model, modality, name):
    recipe = recipe_of(made_set, model, modality)
    with pytest.raises(UserError, match=rf"augment.{name}: input '{modality}' has no .* Set augment.{name}=0"):
        replace(recipe, {f"augment.{name}": 0.2})
    with pytest.raises(UserError, match=rf"augment.{name}: input '{modality}' has no "):
        muybridge.train(recipe, out=tmp_path / "run", changes={f"augment.{name}": 0.2})
    assert not (tmp_path / "run").exists()


def test_vectors_cannot_be_rotated(made_set):
    with pytest.raises(UserError, match=r"augment.rotation_degrees: input 'colours' has no picture"):
        replace(recipe_of(made_set, "test_probe", "colours"), {"augment.rotation_degrees": 10.0})
    assert replace(recipe_of(made_set, "tsm_resnet_tiny", "four"), {"augment.rotation_degrees": 10.0})


def test_an_input_may_say_how_its_colours_change():
    class Recoloured(FourChannels):
        def recoloured(self, x_BTHWC, jitter):
            return x_BTHWC

    assert Recoloured().has_colours
    assert not FourChannels().has_colours
    assert inputs.RGB.has_colours


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, [10, 10, 10]), (2, [15, 15, 15]), (3, [10, 20, 30]), (4, [10, 20, 30])]
)
def test_people_see_three_channels_of_any_number(channels, expected):
    frames_THWC = np.broadcast_to(np.uint8([10, 20, 30, 40][:channels]), (4, 2, 2, channels))
    for each, steps in ((inputs.RGB, 4), (inputs.RGB_DIFFERENCE, 2)):
        shown_THW3 = each.shown(frames_THWC)
        assert shown_THW3.shape == (steps, 2, 2, 3)
        assert shown_THW3.dtype == np.uint8
        assert (shown_THW3 == expected).all()


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="registered twice"):
        inputs.register(FourChannels())


@pytest.mark.parametrize(("name", "formerly"), [("difference", ""), ("new", "rgb"), ("new", "difference"), ("", "new")])
def test_no_former_name_is_taken_again(name, formerly):
    class Clash(FourChannels):
        pass

    Clash.name, Clash.formerly = name, formerly
    before = dict(inputs.INPUTS)
    with pytest.raises(ValueError, match=r"registered twice|needs a name"):
        inputs.register(Clash())
    assert before == inputs.INPUTS


def test_an_input_of_an_earlier_version_has_its_name_of_today():
    assert Clip(modality="difference").modality == "rgb_difference"
