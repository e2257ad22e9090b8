"""An exported file answers as its run does, or is not written; and a stranger's file is nothing but numbers."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from command import call, document
from onnx import TensorProto, helper

import muybridge
from muybridge import build
from muybridge.data.manifest import Manifest
from muybridge.errors import UserError
from muybridge.evaluation.trained import of_run
from muybridge.inference import export as exporting
from muybridge.inference import exported as inference
from muybridge.inference import lower
from muybridge.inference.answering import TrainedNetwork, answering
from muybridge.inference.clips import Tried, of_split
from muybridge.inference.export import PARITY, TOLERANCE, export, parity
from muybridge.inference.exported import ExportedNetwork, ExportedSteps, checked, frames_of
from muybridge.inference.metadata import KEY
from muybridge.inference.predictor import Predictor
from muybridge.inference.stream import Stream
from muybridge.recipe import Runtime, replace, to_json
from muybridge.runtime import device, processors
from muybridge.runtime.processors import Processors
from muybridge.storage.run import Run
from muybridge.training.loop import train
from muybridge.zoo.steps import steps as by_steps


def with_changes(run, folder, changes):
    """A copy of a run whose evaluation is another."""
    shutil.copytree(run.path, folder)
    (folder / "recipe.json").write_text(to_json(replace(run.recipe(), changes)))
    return Run(folder)


@pytest.fixture(scope="module")
def mirrored(run, tmp_path_factory):
    """A run of ten crops, of which five are mirror images, whose answer is a mean of probabilities at a temperature."""
    changes = {"evaluation.num_crops": 10, "evaluation.average": "probabilities"}
    made = with_changes(run, tmp_path_factory.mktemp("runs") / "mirrored", changes)
    weights = (made.checkpoints / "last").read_text().strip()
    (made.path / "calibration.json").write_text(json.dumps({
        "format_version": 1, "temperature": 0.4, "low": 0.3, "high": 0.6, "videos": 6, "sources": 6, "loss": 1.0,
        "loss_before": 2.0, "calibration_error": 0.1, "calibration_error_before": 0.2, "checkpoint": "last",
        "weights": weights, "scores_sha256": "a" * 64, "threshold": None,
    }))  # fmt: skip
    return made


@pytest.fixture(scope="module")
def exported(mirrored, tmp_path_factory):
    """The file of that run, and what the export says."""
    out = tmp_path_factory.mktemp("exported") / "model.onnx"
    return export(mirrored, out=out)


def test_the_file_answers_as_the_run_does(mirrored, exported):
    """Each view's logits, with the labels of mirror images put back, and the probabilities at the run's temperature."""
    assert exported.difference.keys() == {1, PARITY}
    assert max(exported.difference.values()) < 1e-5
    manifest = Manifest.load(mirrored.recipe().data.manifest)
    rows = manifest.split("test")[:3]
    file = Predictor(exported.path)
    assert isinstance(file.answering, ExportedNetwork)
    with file, Predictor(mirrored) as predictor:
        for row in rows:
            path = manifest.row(int(row)).path
            assert np.allclose(file(path).probabilities_K, predictor(path).probabilities_K, atol=1e-6)
    ours, theirs = answering(exported.path), TrainedNetwork(mirrored)
    recipe = theirs.recipe
    part = of_split(of_run(mirrored), recipe, None, "test").views.manifest
    views = build.video_views(recipe, part, build.file_reader(recipe))
    one, other = ours.scores(views), theirs.scores(views)
    assert np.allclose(one.logits_VK, other.logits_VK, atol=1e-5)
    assert np.array_equal(one.crop_V, other.crop_V)
    assert np.array_equal(one.clip_start_V, other.clip_start_V)
    assert one.ids_N.tolist() == other.ids_N.tolist()


def test_the_graph_itself_gives_the_calibrated_probabilities(mirrored, exported):
    """Without muybridge, too: uint8 frames in, the run's probabilities out, for any number of videos."""
    import onnxruntime

    loaded = onnxruntime.InferenceSession(exported.path)
    network = of_run(mirrored)
    tried = of_split(network, network.recipe, None, "test")
    items = [item for _, item in tried.items(3)]
    given = loaded.run(["probabilities_BK"], {"frames_BVTHWC": np.stack([frames_of(item) for item in items])})[0]
    with Predictor(mirrored) as predictor:
        for answer, row in zip(given, tried.rows, strict=False):
            assert np.allclose(answer, predictor(tried.views.manifest.row(int(row))).probabilities_K, atol=1e-6)
    assert given.shape == (3, len(network.classes))


def test_the_file_tells_what_it_is_and_nothing_of_this_machine(mirrored, exported):
    _, about = checked(exported.path)
    recipe = mirrored.recipe()
    assert about.dataset["classes"] == mirrored.dataset()["classes"]
    assert about.recipe == replace(recipe, {"data.manifest": "manifest.csv"})
    assert about.values["sampling"] == {
        "rule": "uniform", "num_frames": recipe.clip.num_frames, "frames_a_step": 1, "num_clips": recipe.evaluation.num_clips,
    }  # fmt: skip
    assert about.calibrated.temperature == 0.4
    data = exported.path.read_bytes()
    for path in (str(mirrored.path), str(mirrored.path.parent), recipe.data.manifest, muybridge.__file__):
        assert path.encode() not in data


def test_what_differs_is_not_written(mirrored, tmp_path, monkeypatch):
    def shifted(to, file):
        asked = load(to, file)

        def answer(frames):
            probabilities, logits = asked(frames)
            return probabilities + 3 * TOLERANCE, logits

        return answer

    load = exporting.load
    monkeypatch.setattr(exporting, "load", shifted)
    monkeypatch.setitem(
        exporting.WRITERS, "onnx", lambda graph, recipe, about, file: shutil.copyfile(tmp_path / "good", file)
    )
    shutil.copyfile(export_of(mirrored, tmp_path, monkeypatch, load), tmp_path / "good")
    with pytest.raises(UserError, match="no file is written"):
        export(mirrored, out=tmp_path / "model.onnx")
    assert {file.name for file in tmp_path.iterdir()} == {"good", "first.onnx"}


def export_of(run, folder, monkeypatch, load):
    """A file of the run by the real parts."""
    with monkeypatch.context() as patch:
        from muybridge.inference import formats

        patch.setattr(exporting, "load", load)
        patch.setitem(exporting.WRITERS, "onnx", formats.write_onnx)
        return export(run, out=folder / "first.onnx").path


def test_parity_looks_at_every_video_and_at_batches():
    """A graph that is right for one video and mixes up those of a batch is found, as one that answers one class is."""
    rng = np.random.default_rng(0)
    reference = [(np.full(4, 0.25), rng.standard_normal((2, 4)).astype(np.float32)) for _ in range(3)]
    frames = [np.full((2, 1), number) for number in range(3)]

    def right(x):
        numbers = x[:, 0, 0]
        return np.stack([reference[n][0] for n in numbers]), np.stack([reference[n][1] for n in numbers])

    assert parity(right, frames, reference, where="it") == {1: 0.0, PARITY: 0.0}
    for wrong in (
        lambda x: tuple(part[::-1] for part in right(x)),
        lambda x: right(np.zeros_like(x)),
        lambda x: (right(x)[0] * np.nan, right(x)[1]),
    ):
        with pytest.raises(UserError, match="no file is written"):
            parity(wrong, frames, reference, where="it")


@pytest.mark.parametrize("name", ["model.onnx", "model.txt", "gone/model.onnx"])
def test_no_file_is_overwritten(run, tmp_path, name):
    (tmp_path / "model.onnx").write_text("mine")
    result = call("export", run.path, "--out", tmp_path / name)
    assert result.exit_code == 2
    assert (tmp_path / "model.onnx").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


# --- files of strangers


def changed(file, folder, change):
    """A copy of a file, changed as a stranger may."""
    model = onnx.load(file)
    change(model)
    out = folder / "theirs.onnx"
    onnx.save(model, out)
    return out


def metadata(model, **changes):
    entry = next(entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = json.dumps(json.loads(entry.value) | changes)


def custom(model):
    model.graph.node[0].domain = "evil.ops"
    model.opset_import.append(helper.make_opsetid("evil.ops", 1))


def external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_constant(model):
    tensor = TensorProto(name="c", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def looped(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body))


def function(model):
    model.functions.append(helper.make_function("evil", "f", ["x"], ["y"], [], [helper.make_opsetid("", 18)]))


THEIRS = {
    "a custom operator": (custom, "operator"),
    "weights elsewhere": (external, "another file"),
    "a constant elsewhere": (external_constant, "another file"),
    "a loop": (looped, "another graph"),
    "a function": (function, "functions"),
    "no metadata": (lambda model: model.ClearField("metadata_props"), "no metadata"),
    "two of them": (lambda model: model.metadata_props.add(key=KEY, value="{}"), "no metadata"),
    "no JSON": (lambda model: setattr(model.metadata_props[0], "value", "{"), "not valid JSON"),
    "a list": (lambda model: setattr(model.metadata_props[0], "value", "[]"), "format_version"),
    "a later version": (lambda model: metadata(model, format_version=2), "format_version"),
    "a label twice": (lambda model: metadata(model, labels=["a", "a"]), "twice"),
    "a foreign mirror": (lambda model: metadata(model, mirror={"a": "b"}), "mirror"),
    "another input": (lambda model: metadata(model, shape=[None, 1, 2, 3, 3, 3]), "input"),
    "no length": (lambda model: metadata(model, longest_trained_seconds=float("inf")), "longest_trained_seconds"),
    "a wrong recipe": (lambda model: metadata(model, recipe={"clip": {"num_frames": "many"}}), "num_frames"),
    "an output more": (lambda model: model.graph.output.append(model.graph.output[0]), "outputs"),
}


@pytest.mark.parametrize("what", THEIRS)
def test_what_a_stranger_changes_is_refused(exported, tmp_path, what):
    change, message = THEIRS[what]
    with pytest.raises(UserError, match=message):
        ExportedNetwork(changed(exported.path, tmp_path, change))


def test_labels_that_are_not_those_of_the_graph_are_refused(exported, tmp_path, made_set):
    """So is a graph whose logits have another shape than its labels and views make."""
    labels = checked(exported.path)[1].values["labels"]
    video = Manifest.load(made_set).row(0).path

    def views_away(model):
        (node,) = (node for node in model.graph.node if "logits_BVK" in node.output)
        node.output[list(node.output).index("logits_BVK")] = "inner"
        model.graph.initializer.append(helper.make_tensor("first", TensorProto.INT64, [1], [0]))
        for other in model.graph.node:
            for place, name in enumerate(other.input):
                if name == "logits_BVK":
                    other.input[place] = "inner"
        model.graph.node.append(helper.make_node("Gather", ["inner", "first"], ["logits_BVK"], axis=1))
        model.graph.output[1].type.tensor_type.ClearField("shape")

    for change in (
        lambda model: metadata(model, labels=labels[:-1], mirror={}),
        lambda model: metadata(model, labels=[*labels, "one more"], mirror={}),
        views_away,
    ):
        result = call("predict", changed(exported.path, tmp_path, change), video)
        assert result.exit_code == 2, result.output
        assert "labels and views" in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "damage", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: b"\xff" * 1000, lambda d: d[:100]]
)
def test_a_damaged_file_is_named(exported, tmp_path, damage, made_set):
    file = tmp_path / "damaged.onnx"
    file.write_bytes(damage(exported.path.read_bytes()))
    video = Manifest.load(made_set).row(0).path
    result = call("predict", file, video)
    assert result.exit_code == 2
    assert "damaged.onnx" in result.stderr
    assert "Traceback" not in result.output


# --- fewer bits


def test_a_loss_on_val_is_found(run, recipe):
    """Of a graph that answers one class, as int8 may by accident; and none where the answers are the same."""
    network = of_run(run)
    train_split = of_split(network, recipe, None, "train")
    labels = train_split.views.manifest.labels()[train_split.rows]
    numbers = iter(range(10**6))

    def right(frames):
        answer = np.eye(len(network.classes))[[labels[next(numbers) % len(labels)]]]
        return answer, answer[:, None]

    def constant(frames):
        answer = np.eye(len(network.classes))[[0]]
        return answer, answer[:, None]

    lost = lower.judged("int8", right, constant, train_split, network)
    assert lost.loses
    assert lost.full_accuracy == 1
    assert lost.accuracy == pytest.approx((labels == 0).mean())
    assert lost.same == lost.accuracy
    kept = lower.judged("int8", constant, constant, train_split, network)
    assert not kept.loses
    assert kept.low < 0 < kept.high


def test_a_small_val_judges_nothing(run, tmp_path):
    result = call("export", run.path, "--out", tmp_path / "m.onnx", "--int8")
    assert result.exit_code == 2
    assert "too few to find a loss" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("videos", "right", "of_full", "high", "loses"),
    [(30, 25, 29, 0.28, True), (30, 28, 29, 0.2, False), (1000, 940, 946, 0.01, False), (1000, 940, 946, -0.001, True)],
)
def test_a_loss_that_a_small_val_cannot_show_is_none_that_passes(videos, right, of_full, high, loses):
    verdict = lower.Verdict("int8", videos, right / videos, of_full / videos, low=-0.5, high=high, same=0.9)
    assert verdict.loses is loses


@pytest.mark.parametrize("precision", ["int8", pytest.param("fp16", marks=pytest.mark.slow)])
def test_fewer_bits_are_kept_where_val_shows_no_loss(run, made_set, tmp_path, precision, monkeypatch):
    monkeypatch.setattr(lower, "FEWEST_VIDEOS", 1)
    made = document(call("export", run.path, "--out", tmp_path / "m.onnx", f"--{precision}", "--json"))
    assert made["precision"] == precision
    assert made["verdict"]["videos"] == len(Manifest.load(made_set).split("val"))
    assert checked(tmp_path / "m.onnx")[1].values["precision"]["precision"] == precision
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert (TensorProto.INT8 if precision == "int8" else TensorProto.FLOAT16) in kinds
    assert isinstance(answering(tmp_path / "m.onnx"), ExportedNetwork)


# --- one frame at a time


@pytest.fixture(scope="module")
def past(recipe, tmp_path_factory):
    """A TSM that looks back only."""
    changes = {
        "model.options.direction": "past", "clip.sampling": "dense", "clip.stride_frames": 1, "evaluation.num_crops": 1,
        "evaluation.num_clips": 1,
    }  # fmt: skip
    return train(replace(recipe, changes), out=tmp_path_factory.mktemp("runs") / "past")


@pytest.mark.parametrize(("threads", "policy", "number", "spinning"), [
    (None, None, 3, "0"), (2, None, 2, "0"), (None, "active", 3, "1"), (None, "passive", 3, "0"),
])  # fmt: skip
def test_the_runtime_has_as_many_threads_as_torch_and_they_do_not_spin(
    exported, monkeypatch, threads, policy, number, spinning
):
    for name in (*processors.THREADS_SET_BY, "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setattr(processors, "left", lambda: Processors(usable=8, cores=8, quota=3.2))
    monkeypatch.setattr(device, "BY_ITSELF", 8)
    monkeypatch.setattr(device.os, "cpu_count", lambda: 8)
    with device.threads_kept():
        torch.set_num_threads(8)
        loaded = inference._loaded(exported.path.read_bytes(), "model.onnx", Runtime(threads=threads))
    options = loaded.get_session_options()
    assert options.intra_op_num_threads == number
    try:
        asked = options.get_session_config_entry(inference.SPINNING)
    except RuntimeError:  # not set: its own default
        asked = "1"
    assert asked == spinning


def test_a_graph_of_one_frame_is_the_network_step_by_step(past, tmp_path):
    """Over more frames than its window, for two streams by turns."""
    made = export(past, out=tmp_path / "step.onnx", one_frame=True)
    assert made.difference[1] < 1e-5
    asked, network = ExportedSteps(made.path), of_run(past)
    model, recipe = network.load("last"), network.recipe
    each = by_steps(model, recipe.clip.num_frames)
    rng = np.random.default_rng(0)
    streams = rng.integers(0, 256, (2, 11, recipe.test_size, recipe.test_size, 3), dtype=np.uint8)
    there, here = [each.start(), each.start()], [asked.start(), asked.start()]
    for number in range(11):
        for stream in (0, 1):
            frames = streams[stream, number][None]
            pixels = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
            mean, std = (torch.tensor(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std))
            logits, there[stream] = each.step((pixels - mean) / std, there[stream])
            probabilities, given, here[stream] = asked.step(frames, here[stream])
            assert np.allclose(given, logits[0].numpy(), atol=1e-5)
            assert np.allclose(probabilities, logits[0].softmax(0).numpy(), atol=1e-5)


def pushed(network, frames, **options):
    """Probabilities of the answers for frames that are pushed, at 24 a second."""
    streamed = Stream(network, **options)
    answers = [streamed.push(frame, number / 24) for number, frame in enumerate(frames)]
    return np.array([answer.probabilities_K for answer in answers if answer is not None])


FRAMES = np.random.default_rng(1).integers(0, 256, (30, 72, 96, 3), dtype=np.uint8)


@pytest.mark.parametrize("crops", [1, 10])
def test_a_file_of_one_frame_streams_as_its_run_does(past, made_set, tmp_path, crops):
    """Each crop with a state of its own, mirror images among them, and a state that is saved goes on."""
    made = export(past, out=tmp_path / "step.onnx", one_frame=True)
    asked = answering(made.path)
    assert Stream(asked).is_frame_by_frame
    expected = pushed(TrainedNetwork(past), FRAMES, crops=crops)
    assert len(expected) > 5
    assert np.allclose(pushed(asked, FRAMES, crops=crops), expected, atol=1e-5)
    if crops == 1:
        first, second = Stream(asked), Stream(asked)
        for number in range(20):
            first.push(FRAMES[number], number / 24)
        first.save_state(tmp_path / "state")
        second.load_state(tmp_path / "state")
        found = [second.push(FRAMES[number], number / 24) for number in range(20, 30)]
        assert np.allclose([answer.probabilities_K for answer in found], expected[-10:], atol=1e-6)
        with pytest.raises(UserError, match="fixed in the file"):
            Stream(asked, window_frames=2)
        with pytest.raises(UserError, match="other weights"):
            Stream(TrainedNetwork(past)).load_state(tmp_path / "state")
    result = call("predict", made.path, Manifest.load(made_set).row(0).path)
    assert result.exit_code == 2
    assert "no clips" in result.stderr


@pytest.mark.parametrize(
    "crops", [None, pytest.param(1, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
)
def test_a_file_of_several_clips_streams_as_its_run_does(past, tmp_path, crops):
    """A stream asks for one clip, and for fewer crops: the graph's other views change nothing."""
    changes = {
        "evaluation.num_clips": 3, "evaluation.num_crops": 10, "evaluation.average": "probabilities",
        "model.options.direction": "both",
    }  # fmt: skip
    run = with_changes(past, tmp_path / "run", changes)
    made = export(run, out=tmp_path / "clips.onnx")
    expected = pushed(TrainedNetwork(run), FRAMES, crops=crops)
    assert len(expected) > 2
    assert np.allclose(pushed(answering(made.path), FRAMES, crops=crops), expected, atol=1e-5)


def test_a_file_says_what_views_it_lacks(past, tmp_path):
    made = export(past, out=tmp_path / "clips.onnx")
    with pytest.raises(UserError, match="it takes 1 clip of 1 crop, as its run is evaluated, and not 1 of 10"):
        pushed(answering(made.path), FRAMES, crops=10)


def test_what_takes_clips_has_no_graph_of_one_frame(run, tmp_path):
    with pytest.raises(UserError, match="takes whole clips"):
        export(run, out=tmp_path / "step.onnx", one_frame=True)
    assert not list(tmp_path.iterdir())


# --- other formats, other networks


@pytest.mark.slow
@pytest.mark.parametrize(("to", "suffix"), [("torch", ".pt2"), ("openvino", ".xml")])
def test_other_formats(mirrored, tmp_path, to, suffix):
    made = export(mirrored, out=tmp_path / f"model{suffix}", to=to)
    assert max(made.difference.values()) < 1e-5
    for file in tmp_path.iterdir():
        assert str(mirrored.path.parent).encode() not in file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tcn", "lstm", "late_fusion", "max_pool"])
def test_steps_that_are_not_there_are_left_out_by_the_graph_too(name):
    """Vectors with NaN: traced for both, the graph gives what the network gives."""
    from muybridge.inference import formats
    from muybridge.zoo import create

    torch.manual_seed(0)
    model = create(name, num_classes=5, num_frames=8, in_channels=16, dropout=0.0).eval()
    x_BTD = torch.randn(3, 8, 16)
    x_BTD[0, 5:], x_BTD[1, 2:4] = torch.nan, torch.nan
    videos = torch.export.Dim("videos")
    with formats.quiet():  # torch warns of an LSTM's weights
        traced = torch.export.export(model, (torch.zeros(2, 8, 16),), dynamic_shapes=({0: videos},))
    with torch.inference_mode():
        assert torch.allclose(traced.module()(x_BTD), model(x_BTD), atol=1e-6)


def test_slowfast_is_traced_for_any_number_of_clips():
    """Its slow pathway's frames are chosen while it is traced, which a list of them would not allow."""
    from muybridge.zoo.count import outline

    model = outline("slowfast_resnet50", num_classes=3, num_frames=8).eval()
    videos = torch.export.Dim("videos")
    example = torch.empty(2, 3, 8, 32, 32, device="meta")
    traced = torch.export.export(model, (example,), dynamic_shapes={"x_BCTHW": {0: videos}})
    assert traced.module()(torch.empty(7, 3, 8, 32, 32, device="meta")).shape == (7, 3)


def test_clips_are_made_where_no_video_is_left(run, recipe):
    from muybridge.inference.clips import tried

    network = of_run(run)
    gone = replace(recipe, {"data.manifest": "/gone.csv"})
    made = tried(network, gone, None)
    assert isinstance(made, Tried)
    assert "made clips" in made.about
    pictures = [item.pictures_PHWC for _, item in made.items()]
    assert len(pictures) == PARITY
    assert len({picture.numpy().tobytes() for picture in pictures}) == PARITY
