"""Answers for streams are those of `predict` for the same frames, whatever the network and the rate."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from making_streams import server, transport_stream
from typer.testing import CliRunner

from muybridge import build
from muybridge.analysis.events import Rules, events
from muybridge.cli.app import app
from muybridge.data import inputs, transforms
from muybridge.data.manifest import from_columns
from muybridge.data.sets.motions import encode, render
from muybridge.errors import UserError
from muybridge.inference.answering import TrainedNetwork
from muybridge.inference.stream import Stream, stream
from muybridge.recipe import Runtime, replace
from muybridge.training.loop import train
from muybridge.video import frames, live, probe

FPS = 24
DENSE = {
    "clip.sampling": "dense", "clip.num_frames": 4, "clip.stride_frames": 2, "clip.fps": float(FPS), "optim.epochs": 1,
    "optim.warmup_epochs": 0, "evaluation.num_clips": 1, "evaluation.num_crops": 1, "evaluation.score_test": False,
}  # fmt: skip
KINDS = {
    "tsn": {"model.name": "tsn_resnet_tiny"},
    "past": {"model.name": "tsm_resnet_tiny", "model.options.direction": "past"},
    "lstm": {"model.name": "lstm_resnet_tiny"},
    "i3d": {"model.name": "i3d_resnet_tiny"},
    "tsm, ten crops": {"model.name": "tsm_resnet_tiny", "evaluation.num_crops": 10},
    "tsn, ten crops": {
        "model.name": "tsn_resnet_tiny",
        "evaluation.num_crops": 10,
        "evaluation.average": "probabilities",
    },
    "tsn, differences": {"model.name": "tsn_resnet_tiny", "clip.modality": "rgb_differences"},
    "i3d, counted": {"model.name": "i3d_resnet_tiny", "clip.fps": None},
    "tsn, slower": {"model.name": "tsn_resnet_tiny", "clip.fps": 10.0, "clip.stride_frames": 1},
}
FRAME_BY_FRAME = [kind for kind in KINDS if not kind.startswith(("i3d", "tsm"))]


@pytest.fixture(scope="module")
def network(recipe, tmp_path_factory):
    """A trained network of each kind, made when it is first asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            run = train(replace(recipe, DENSE | KINDS[kind]), out=tmp_path_factory.mktemp("runs") / "run")
            made[kind] = TrainedNetwork(run)
            made[kind].path = run.path
        return made[kind]

    return of


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "long.mp4"
    encode(path, np.concatenate([render(label, seed=0, index=0) for label in ("grow", "crowd", "move_left")]))
    return path


def quiet(note):
    """Hears what happens to a source."""


def answers_of(network, source, **options):
    return list(stream(network, source, top=99, told=options.pop("told", quiet), **options))


def predicted(network, path, start_frame):
    """Probabilities of the clip that begins at a frame, by the evaluation's code."""
    length = probe(path).num_frames - start_frame
    classes = network.dataset["classes"]
    row = from_columns(
        {
            "id": ["x"], "path": [str(path)], "start_frame": [start_frame], "num_frames": [length], "label": [classes[0]],
            "group": [""], "fps": [float(FPS)], "width": [64], "height": [64], "sha256": [""], "split": ["unused"],
        },
        classes=classes, root=Path("/"), mirror=network.dataset["mirror"], where="x",
    )  # fmt: skip
    views = build.video_views(network.recipe, row, build.file_reader(network.recipe))
    return network.scores(views).video_probabilities()[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("past", "lstm", "tsn, slower")])
def test_every_answer_is_that_of_predict_for_its_window(network, video, kind):
    found = answers_of(network(kind), video)
    assert len(found) > 10
    assert Stream(network(kind)).is_frame_by_frame == (kind in FRAME_BY_FRAME)
    for answer in found[:: max(1, len(found) // 6)]:
        expected = predicted(network(kind), video, round(answer.start_seconds * FPS))
        assert np.allclose(answer.probabilities_K, expected, atol=1e-5), answer
        assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(
            dict(zip(network(kind).dataset["classes"], expected, strict=True)), abs=1e-5
        )


@pytest.mark.parametrize("kind", ["past", "lstm", "tsn, slower"])
def test_the_first_answer_of_a_network_that_looks_back_is_that_of_predict(network, video, kind):
    found = answers_of(network(kind), video)
    assert np.allclose(found[0].probabilities_K, predicted(network(kind), video, 0), atol=1e-5)
    assert not np.allclose(found[0].probabilities_K, found[-1].probabilities_K, atol=1e-4)


@pytest.mark.parametrize("kind", ["past", "lstm"])
def test_later_answers_are_those_of_the_whole_stream_as_one_clip(network, video, kind):
    """Of its last frames the mean, or their weighted mean, as the network has it for a clip of as many."""
    net = network(kind)
    found = answers_of(net, video)
    pixels = np.stack(list(frames(video))[::2])
    pictures = net_input(net, pixels)
    with torch.inference_mode():
        if kind == "past":
            logits_TK = net.model.fc(net.model.features(pictures))[0]
        else:
            values_TE = net.model.sequence(net.model.vectors(pictures)[0])[0]
            logits_TK = net.model.fc(values_TE)[0]
    whole = logits_TK.unfold(0, 4, 1).permute(0, 2, 1)  # windows (N,4,K)
    weights_4 = torch.full((4,), 0.25)
    if kind == "lstm":
        weights_4 = net.model.sequence.weights(torch.zeros(1, 4, 1), torch.ones(1, 4, dtype=torch.bool))[0]
    expected = ((weights_4[None, :, None] * whole).sum(1)).softmax(1).numpy()
    assert len(found) == len(expected)
    assert np.allclose(np.stack([answer.probabilities_K for answer in found]), expected, atol=1e-5)


def net_input(net, pixels):
    box = transforms.test_boxes(*pixels.shape[1:3], num_crops=1, crop_fraction=1.0)[0]
    x = torch.from_numpy(transforms.crop_resize(pixels, box, net.recipe.test_size))[None]
    return inputs.of(net.recipe.clip).to_model(
        x, None, mean=net.model.preprocessing.mean, std=net.model.preprocessing.std
    )


def test_steps_follow_time_stamps_and_not_the_count_of_frames(network):
    """A stream of a changing rate, and one of which frames were dropped, give the frames that were shown."""
    net, rng = network("tsn"), np.random.default_rng(0)
    pictures = rng.integers(0, 255, (300, 32, 32, 3), dtype=np.uint8)
    times = np.cumsum(rng.uniform(0.005, 0.06, 300))
    times -= times[0]
    seen = []
    one = Stream(net)
    one._pictures = lambda frame: seen.append(frame.number) or pictures[:1]
    for picture, seconds in zip(pictures, times, strict=True):
        one.push(picture, seconds)
    steps = np.arange(0, times[-1], 2 / FPS)
    expected = [int(np.flatnonzero(times <= step + 1e-3)[-1]) for step in steps]
    assert len(seen) >= len(expected) - 1 > 80
    assert seen == expected[: len(seen)]


def test_a_slow_stream_holds_its_frames(network):
    """A picture each two seconds fills the window of a third of a second, as it does a clip of `predict`."""
    one = Stream(network("tsn"))
    rng = np.random.default_rng(1)
    found = [one.push(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8), 2.03 * number) for number in range(4)]
    assert found[0] is None
    assert [answer.frame for answer in found[1:]] == [0, 1, 2]
    alone = Stream(network("tsn"))
    rng = np.random.default_rng(1)
    still = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    held = [alone.push(still, number / FPS) for number in range(7)][-1]
    assert np.allclose(held.probabilities_K, found[1].probabilities_K, atol=1e-6)


def test_a_short_window_is_the_mean_of_fewer_frames(network, video):
    """Of a TSN it is the answer for a clip of as many."""
    net = network("tsn")
    found = answers_of(net, video, window_frames=2)
    assert found[0].frame == 2
    pixels = np.stack(list(frames(video))[::2])
    with torch.inference_mode():
        logits_TK = net.model.fc(net.model.features(net_input(net, pixels)))[0]
    expected = logits_TK.unfold(0, 2, 1).mean(2).softmax(1).numpy()
    assert np.allclose(np.stack([answer.probabilities_K for answer in found]), expected, atol=1e-5)
    with pytest.raises(UserError, match="takes whole clips of 4 frames"):
        Stream(network("i3d"), window_frames=2)


def test_frames_may_change_their_size_and_begin_anew(network):
    one, rng = Stream(network("i3d")), np.random.default_rng(0)
    found = []
    for number in range(24):
        size = (40, 60, 3) if number < 12 else (90, 50, 3)
        found.append(one.push(rng.integers(0, 255, size, dtype=np.uint8), number / FPS))
    assert sum(answer is not None for answer in found) > 5
    after = [one.push(np.zeros((40, 60, 3), np.uint8), 5 + number / FPS, begins=number == 0) for number in range(7)]
    assert [answer is not None for answer in after] == [False] * 6 + [True]
    assert after[-1].start_seconds == 5


def test_wrong_frames_are_said(network):
    one = Stream(network("tsn"))
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(UserError, match="Give uint8"):
            one.push(wrong, 0.0)
    one.push(np.zeros((4, 4, 3), np.uint8), 1.0)
    with pytest.raises(UserError, match="Give rising times"):
        one.push(np.zeros((4, 4, 3), np.uint8), 0.5)
    for options in ({"top": 0}, {"every_seconds": 0.0}, {"crops": 2}):
        with pytest.raises(UserError, match="--"):
            Stream(network("tsn"), **options)


@pytest.mark.parametrize("kind", ["past", "lstm"])
def test_a_state_goes_on_in_another_process_where_it_was(network, tmp_path, kind):
    pixels = np.concatenate([render("grow", seed=0, index=0), render("crowd", seed=0, index=0)])
    whole = Stream(network(kind))
    expected = [whole.push(frame, number / FPS) for number, frame in enumerate(pixels)]
    first = Stream(network(kind))
    for number, frame in enumerate(pixels[:20]):
        first.push(frame, number / FPS)
    first.save_state(tmp_path / "state.safetensors")
    second = Stream(TrainedNetwork(network(kind).path, runtime=Runtime(inference="plain")))  # its states are the same
    second.load_state(tmp_path / "state.safetensors")
    found = [second.push(frame, number / FPS) for number, frame in enumerate(pixels[20:])]
    pairs = [(one, other) for one, other in zip(expected[20:], found, strict=True) if one is not None]
    assert len(pairs) == 14
    assert all(np.allclose(one.probabilities_K, other.probabilities_K, atol=1e-6) for one, other in pairs)
    with pytest.raises(UserError, match="another network"):
        Stream(network("tsn")).load_state(tmp_path / "state.safetensors")
    with pytest.raises(UserError, match="has no state"):
        Stream(network("i3d")).save_state(tmp_path / "other.safetensors")


def test_uniform_sampling_and_stored_inputs_cannot_stream(run, network):
    with pytest.raises(UserError, match=r"a stream has no end.*--set clip.sampling=dense .*--set clip.fps=4"):
        Stream(run)
    net = network("tsn")
    stored = type("Stored", (), {**vars(net), "recipe": replace(net.recipe, {"clip.modality": "flow"})})()
    with pytest.raises(UserError, match="made beforehand"):
        Stream(stored)


def test_each_frame_is_forwarded_once(network, video, monkeypatch):
    net, seen = network("tsn"), []
    original = type(net.model).features
    monkeypatch.setattr(type(net.model), "features", lambda self, x: seen.append(x.shape[2]) or original(self, x))
    found = answers_of(net, video)
    assert sum(seen) == len(found) + 3 == 36


def test_events_of_a_stream_are_those_of_its_scores(network, video):
    net, notes = network("past"), []
    highest = [answer.score for answer in answers_of(net, video)]
    rules = Rules(start_above=float(np.median(highest)), end_below=0.9 * float(np.median(highest)))
    found = answers_of(net, video, start_above=rules.start_above, end_below=rules.end_below, told=notes.append)
    times = np.array([(answer.start_seconds + answer.time_seconds) / 2 for answer in found])
    expected = events(
        times,
        np.stack([a.probabilities_K for a in found]),
        net.dataset["classes"],
        rules,
        start_seconds=float(times[0]),
    )
    closed = [event.as_json() for answer in found for event in answer.closed] + notes[-1].about["closed"]
    assert expected
    assert sorted(map(str, closed)) == sorted(str(event.as_json()) for event in expected)
    assert any(answer.open for answer in found)


def test_a_live_source_goes_on_over_a_lost_connection(network, monkeypatch):
    monkeypatch.setattr(live, "FIRST_BACKOFF_SECONDS", 0.05)
    clip = np.concatenate([render("grow", seed=0, index=0), render("crowd", seed=0, index=0)])
    first, second = transport_stream(clip), transport_stream(clip, first_seconds=99.0)
    notes = []
    with server(lambda send: send(first), lambda send: send(second)) as address:
        answers = stream(network("tsn"), address, retries=1, told=notes.append, max_delay_seconds=60.0)
        found = [next(answers) for _ in range(42)]
        with pytest.raises(UserError, match="it is lost"):
            next(answers)
    assert [note.kind for note in notes] == ["opened", "about", "lost", "opened", "about", "lost"]
    halves = [[answer.probabilities_K for answer in found[:21]], [answer.probabilities_K for answer in found[21:]]]
    assert np.allclose(*halves, atol=1e-5)
    assert found[21].start_seconds > found[20].time_seconds


def test_late_answers_by_windows_are_left_out_and_late_frames_dropped(network, video, monkeypatch):
    net = network("i3d")
    scores = type(net).scores
    monkeypatch.setattr(type(net), "scores", lambda self, views: time.sleep(0.5) or scores(self, views))
    notes = []
    found = answers_of(net, video, real_time=True, told=notes.append, max_delay_seconds=5.0)
    about = notes[-1].about
    assert about["skipped"] > 0
    assert about["dropped"] == 0
    assert about["answers"] == len(found) < 15
    for answer in found:
        assert np.allclose(answer.probabilities_K, predicted(net, video, round(answer.start_seconds * FPS)), atol=1e-5)


def test_a_source_that_ends_before_its_window_is_an_error(network, tmp_path):
    encode(tmp_path / "short.mp4", render("grow", seed=0, index=0)[:5])
    with pytest.raises(UserError, match=r"before the first window of 0\.25 s was full"):
        answers_of(network("tsn"), tmp_path / "short.mp4")
    assert answers_of(network("tsn"), tmp_path / "short.mp4", for_seconds=0.1) == []


def test_the_command_gives_lines_of_json(network, video, tmp_path):
    net = network("tsn")
    result = CliRunner().invoke(
        app,
        [
            "stream",
            str(net.path),
            str(video),
            "--json",
            "--every",
            "0.5",
            "--top",
            "2",
            "--record",
            str(tmp_path / "r.mp4"),
        ],
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["opened", "about", "recording", *["answer"] * 6, "ended"]
    found = [line for line in lines if line["kind"] == "answer"]
    assert all(len(line["labels"]) == len(line["scores"]) == 2 and line["milliseconds"] > 0 for line in found)
    assert np.allclose(np.diff([line["time_seconds"] for line in found]), 0.5)
    assert lines[-1]["frames"] == 72
    assert probe(tmp_path / "r.mp4").num_frames == 72
    plain = CliRunner().invoke(
        app, ["stream", str(net.path), str(video), "--every", "0.5", "--top", "1", "--for", "1.5"]
    )
    assert plain.exit_code == 0
    assert len(plain.stdout.splitlines()) == 3
    for words in (
        ["missing.mp4"],
        ["gopher://x"],
        [str(video), "--record", str(video)],
        [str(video), "--raw", "4x4@3"],
    ):
        wrong = CliRunner().invoke(app, ["stream", str(net.path), *words, "--json"])
        assert wrong.exit_code == 2
        last = json.loads(wrong.stdout.splitlines()[-1])
        assert (last["kind"], "error" in last) == ("error", True)


@pytest.mark.slow
def test_ctrl_c_ends_in_order(network, video, tmp_path):
    command = [sys.executable, "-m", "muybridge", "stream", str(network("tsn").path), str(video), "--real-time", "--json",
               "--record", str(tmp_path / "r.mp4")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if len(lines) == 8:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert [line["kind"] for line in lines if "kind" in line][-1] == "ended"
    assert 10 <= probe(tmp_path / "r.mp4").num_frames <= 72


@pytest.mark.slow
def test_memory_stays_flat_over_half_an_hour_of_frames(network):
    one, process = Stream(network("past"), every_seconds=10.0), psutil.Process(os.getpid())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    marks = []
    for number in range(54_000):
        one.push(pixels[number % 16], number / 30)
        if number % 9_000 == 8_999:
            gc.collect()
            marks.append(process.memory_info().rss)
    assert max(marks[1:]) - marks[0] < 2**24
