"""A predictor takes videos in every form, gives the same answer for each, and stays as it was under any number of threads."""

import errno
import gc
import io
import itertools
import os
import pickle
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from making_images import encoded

import muybridge
from muybridge.data.manifest import Manifest
from muybridge.data.sets.motions import encode, render
from muybridge.errors import UserError
from muybridge.inference.predictor import READY_BYTES, Predictor
from muybridge.inference.results import Prediction, Predictions
from muybridge.recipe import replace
from muybridge.video import DecodeError, FileReader, Row, decode, frames, probe
from muybridge.video.kept import KeptFrames
from muybridge.video.limits import Limits
from muybridge.video.safe import MachineFault, SafeReader
from muybridge.video.worker import Worker


@pytest.fixture(scope="module")
def predictor(run):
    with run.predictor() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def video(made_set):
    return Manifest.load(made_set).row(0).path


def pixels(path):
    return np.stack(list(frames(path)))


# --- sources


def test_every_form_of_a_video_gets_the_same_answer(predictor, video, tmp_path):
    """To the bit: all are the same frames on the same way."""
    alone = predictor(video)
    clip_THW3 = pixels(video)
    data = Path(video).read_bytes()
    np.save(tmp_path / "one.npy", clip_THW3)
    fps = probe(video).fps
    forms = {
        "an array": clip_THW3, "a tensor": torch.from_numpy(clip_THW3), "bytes": data, "a bytearray": bytearray(data),
        "a view of bytes": memoryview(data), "a file in memory": io.BytesIO(data), "a file of an array": tmp_path / "one.npy",
        "bytes of an array": (tmp_path / "one.npy").read_bytes(), "a path as text": str(video),
    }  # fmt: skip
    with open(video, "rb") as file:
        answers = {"a file": predictor(file)}
    answers |= {name: predictor(form, fps=fps) for name, form in forms.items()}
    for name, answer in answers.items():
        assert answer[0].scores == alone[0].scores, name
        assert answer[0].labels == alone[0].labels, name
        assert answer[0].end_seconds == alone[0].end_seconds, name
    assert answers["an array"][0].path == "array"
    assert answers["bytes"][0].path == "bytes"
    assert answers["a file"][0].path == str(video)
    row = Manifest.load(predictor.answering.recipe.data.manifest).row(0)
    assert predictor(row)[0].scores == alone[0].scores


def test_arrays_have_the_rate_that_is_given(run, predictor, video, monkeypatch, tmp_path):
    clip_THW3 = pixels(video)
    assert predictor(clip_THW3)[0].end_seconds == pytest.approx(len(clip_THW3) / 25)
    assert predictor(clip_THW3, fps=12.5)[0].end_seconds == pytest.approx(len(clip_THW3) / 12.5)
    monkeypatch.setattr(predictor.answering, "recipe", replace(run.recipe(), {"clip.fps": 12.0}))
    assert predictor(clip_THW3)[0].end_seconds == pytest.approx(len(clip_THW3) / 12)
    for rate in (0, -1, 1e-300, 1e300, float("nan"), float("inf"), "5"):
        with pytest.raises(UserError, match="not a frame rate"):
            predictor(clip_THW3, fps=rate)
        with pytest.raises(UserError, match="not a frame rate"):
            predictor.annotate(clip_THW3, predictor(clip_THW3), tmp_path / "copy.mp4", fps=rate)
    assert not list(tmp_path.iterdir())


class Gone:
    def read(self, num_bytes):
        raise OSError(errno.ESTALE, "Stale file handle")


CLOSED = io.BytesIO(b"x")
CLOSED.close()
CLIP = np.zeros((4, 32, 48, 3), np.uint8)
UNUSABLE = {
    "floats from 0 to 1": (CLIP / np.float32(255), "float32 from 0 to 1; give uint8"),
    "other floats": (CLIP + 3.5, "its values are float64; give uint8"),
    "other integers": (CLIP.astype(np.int64), "its values are int64"),
    "one frame": (CLIP[0], "it is one frame"),
    "several videos": (CLIP[None], "it holds several videos; give them one by one"),
    "channels first": (CLIP.transpose(0, 3, 1, 2), "its colours come before its rows"),
    "channels first, a tensor": (torch.zeros(4, 3, 32, 48, dtype=torch.uint8), "its colours come before its rows"),
    "gray": (CLIP[..., :1], "it has 1 values a pixel"),
    "vectors": (np.zeros((4, 7), np.float32), "it is not a video"),
    "no frames": (CLIP[:0], "it is empty"),
    "no pixels": (CLIP[:, :0], "it is empty"),
    "a ribbon": (np.zeros((2, 1, 600, 3), np.uint8), "too narrow"),
    "no bytes": (b"", "is empty"),
    "bytes of no video": (b"nothing" * 99, "bytes: Invalid data"),
    "bytes of an array of objects": (b"\x93NUMPY" + b"\x01\x00" + b"v" * 40, "bytes: not a complete .npy file"),
    "a file of text": (io.StringIO("nothing"), "it is open as text; open it as binary"),
    "a file that is closed": (CLOSED, "closed file"),
    "a file whose share went away": (Gone(), "Stale file handle"),
    "a tensor of no place": (torch.empty(4, 32, 48, 3, dtype=torch.uint8, device="meta"), "it cannot be read"),
    "a tensor of bfloat16": (torch.zeros(4, 32, 48, 3, dtype=torch.bfloat16), "give a dense tensor of uint8"),
    "a sparse tensor": (torch.zeros(4, 32, 48, 3, dtype=torch.uint8).to_sparse(), "give a dense tensor of uint8"),
    "a name with a zero byte": ("a\0.mp4", "its name holds a zero byte"),
    "a number": (7, "int: not a video; give a path"),
    "nothing": (None, "NoneType: not a video"),
    "a name of other bytes": ("b\udcff.mp4", "its name is not UTF-8 text"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_is_not_a_video_is_said_plainly(predictor, what):
    given, reason = UNUSABLE[what]
    with pytest.raises(DecodeError) as caught:
        predictor(given)
    assert reason in str(caught.value)
    assert tempfile.gettempdir() not in str(caught.value)
    [answer] = predictor([given])
    assert str(answer) == str(caught.value), "in a list it is the answer of its place"


def test_bytes_are_opened_in_another_process_and_leave_no_file(predictor, video, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(decode, "_opened", lambda *args: pytest.fail("decoded in this process"))
    data = Path(video).read_bytes()
    assert predictor(data)[0].labels
    assert not list(tmp_path.iterdir())
    with pytest.raises(DecodeError):
        predictor(data[:200])
    gc.collect()
    assert not list(tmp_path.iterdir())
    modes = []
    monkeypatch.setattr(
        predictor._files, "held", lambda side: modes.extend(p.stat().st_mode & 0o77 for p in tmp_path.iterdir())
    )
    with pytest.raises(TypeError):
        predictor(data)
    assert modes == [0], "nobody else may read it"


def test_limits_hold_for_arrays(run):
    with Predictor(run, limits=Limits(frames=2)) as predictor, pytest.raises(DecodeError, match="at most 2"):
        predictor(CLIP)
    with Predictor(run, limits=Limits(pixels=100)) as predictor, pytest.raises(DecodeError, match="at most 100"):
        predictor(CLIP)


# --- one pass


def passes(monkeypatch):
    """Number of times that a file is opened by this process's decoder."""
    opened, real = [], decode._opened
    monkeypatch.setattr(decode, "_opened", lambda path, limits=None: opened.append(path) or real(path, limits))
    return opened


def test_a_file_is_decoded_once(monkeypatch, video):
    opened = passes(monkeypatch)
    worker = Worker(Limits(), lambda: None)
    about, _ = worker.look(video, 25.0, False, keep=True, short_side=32)
    assert len(opened) == 1
    row = ["v", video, 3, about["num_frames"] - 3, 24.0, False]
    shape, data = worker.read(row, [0, 5, 2, 5], 32)
    assert len(opened) == 1
    read = np.frombuffer(data, np.uint8).reshape(shape["shape"])
    assert np.array_equal(read, FileReader(32).read(Row("v", video, 0, 24, 24.0), np.array([3, 8, 5, 8])))
    opened.clear()
    shape, data = worker.read(row, [0], 24)
    assert shape["shape"][1] == 24, "frames of another size are decoded"
    assert len(opened) == 1
    worker.forget()
    worker.read(row, [0], 32)
    assert len(opened) == 2


def test_looking_with_frames_kept_finds_the_same_properties(video, tmp_path):
    clip_THW3 = pixels(video)
    (tmp_path / "v").mkdir()
    for number, picture in enumerate(clip_THW3):
        (tmp_path / "v" / f"{number:05d}.png").write_bytes(encoded(picture, ".png"))
    for path in (video, str(tmp_path / "v")):
        kept = KeptFrames(path, 24, 2**30)
        found, usual = probe(path, keep=kept), probe(path)
        for name in ("num_frames", "declared_frames", "fps", "width", "height", "odd"):
            assert getattr(found, name) == getattr(usual, name)
        assert np.array_equal(found.times_seconds, usual.times_seconds)
        every = np.arange(found.num_frames)
        row = Row("r", path, 0, found.num_frames, found.fps)
        assert np.array_equal(kept.read(path, every, 24), FileReader(24).read(row, every))


def test_frames_that_do_not_fit_are_read_again(monkeypatch, video):
    monkeypatch.setattr("muybridge.video.worker.KEPT_BYTES", 32 * 32 * 3 * 5)
    opened = passes(monkeypatch)
    worker = Worker(Limits(), lambda: None)
    about, _ = worker.look(video, 25.0, False, keep=True, short_side=32)
    assert worker._kept.read(video, np.array([0]), 32) is None
    shape, data = worker.read(["v", video, 0, about["num_frames"], 24.0, False], [1, 7], 32)
    whole = np.stack(list(frames(video, short_side=32)))
    assert np.array_equal(np.frombuffer(data, np.uint8).reshape(shape["shape"]), whole[[1, 7]])
    assert len(opened) == 2 + 1  # the look, the read, and the whole of this test


def test_windows_that_are_not_ready_are_read_as_they_come(predictor, tmp_path, monkeypatch):
    long_THW3 = np.concatenate([render("grow", seed=0, index=i) for i in range(5)])
    encode(tmp_path / "long.mp4", long_THW3)
    usual = predictor(tmp_path / "long.mp4", window_seconds=1.0), predictor(long_THW3, window_seconds=1.0)
    assert [len(answer) for answer in usual] == [5, 5]
    monkeypatch.setattr("muybridge.inference.predictor.READY_BYTES", 1)
    assert (predictor(tmp_path / "long.mp4", window_seconds=1.0), predictor(long_THW3, window_seconds=1.0)) == usual
    several = list(predictor([tmp_path / "long.mp4", long_THW3], window_seconds=1.0))
    for answer, alone in zip(several, usual, strict=True):
        assert np.allclose(answer.probabilities_WK, alone.probabilities_WK, atol=1e-6)
    assert READY_BYTES > 1


def test_a_video_that_fails_late_takes_no_other_with_it(predictor, tmp_path, monkeypatch, video):
    """A file that is cut off between its first window and its last."""
    long_THW3 = np.concatenate([render("grow", seed=0, index=i) for i in range(5)])
    encode(tmp_path / "long.mp4", long_THW3)
    monkeypatch.setattr("muybridge.inference.predictor.READY_BYTES", 1)
    monkeypatch.setattr(Predictor, "_num_together", lambda self: 3)
    made = Predictor._made

    def made_then_cut(self, rows, size, reader):
        found = made(self, rows, size, reader)
        if "long" in rows[0].path:
            os.truncate(tmp_path / "long.mp4", 1000)
        return found

    monkeypatch.setattr(Predictor, "_made", made_then_cut)
    first, failed, last = predictor([video, tmp_path / "long.mp4", video], window_seconds=1.0)
    assert isinstance(failed, DecodeError)
    assert failed.path == str(tmp_path / "long.mp4")
    assert first[0].labels
    assert first[0].labels == last[0].labels


# --- several


def test_a_list_is_answered_in_order_lazily_and_read_ahead_by_a_bounded_number(predictor, made_set):
    manifest = Manifest.load(made_set)
    paths = [manifest.row(index).path for index in range(60)]
    drawn = []
    together = predictor._num_together()

    def coming():
        for path in paths:
            drawn.append(path)
            yield path

    answers = predictor(coming())
    assert drawn == [], "nothing is done before it is asked for"
    seen = [next(answers)]
    ends = time.monotonic() + 30
    while len(drawn) < 2 * together and time.monotonic() < ends:  # a thread draws them
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(drawn) == 2 * together < len(paths)
    seen += list(answers)
    assert drawn == paths
    assert [answer[0].path for answer in seen] == paths
    for path, answer in list(zip(paths, seen, strict=True))[::7]:
        alone = predictor(path)
        assert np.allclose(answer.probabilities_WK, alone.probabilities_WK, atol=1e-6)
    again = list(predictor(tuple(paths)))
    assert again == seen, "the same list gives the same bits"
    assert all(np.array_equal(a.probabilities_WK, b.probabilities_WK) for a, b in zip(again, seen, strict=True))
    names, _ = zip(*predictor.each(iter(paths[:3])), strict=True)
    assert list(names) == paths[:3]


def test_videos_of_a_list_go_through_the_network_together(predictor, made_set, monkeypatch):
    paths = [Manifest.load(made_set).row(index).path for index in range(4)]
    sizes, real = [], predictor.answering.scores
    monkeypatch.setattr(predictor.answering, "scores", lambda views: sizes.append(len(views.manifest)) or real(views))
    monkeypatch.setattr(Predictor, "_num_together", lambda self: 3)
    assert len(list(predictor(paths))) == 4
    assert sizes == [3, 1]


def test_an_iterator_without_end_can_be_left(predictor, video):
    before = threading.active_count()
    answers = predictor(itertools.repeat(video))
    assert [next(answers)[0].path for _ in range(3)] == [video] * 3
    answers.close()
    for thread in threading.enumerate():
        if thread.name.startswith("muybridge-read"):
            thread.join(30)
    assert threading.active_count() <= before


def test_what_the_callers_iterator_raises_reaches_the_caller(predictor, video):
    def coming():
        yield video
        raise RuntimeError("theirs")

    answers = predictor(coming())
    assert next(answers)[0].path == video, "what came before is answered"
    with pytest.raises(RuntimeError, match="theirs"):
        next(answers)
    assert list(predictor([])) == []


def test_an_iterator_may_use_its_frames_and_its_files_again(predictor, made_set, tmp_path):
    paths = [Manifest.load(made_set).row(index).path for index in range(6)]

    def frames_of_one_buffer():
        buffer_THW3 = np.empty_like(pixels(paths[0]))
        for path in paths:
            buffer_THW3[:] = pixels(path)
            yield buffer_THW3 if path != paths[1] else torch.from_numpy(buffer_THW3)

    def files_that_are_closed():
        for path in paths:
            with open(path, "rb") as file:
                yield file

    for coming in (frames_of_one_buffer(), files_that_are_closed()):
        for path, answer in zip(paths, predictor(coming), strict=True):
            assert np.allclose(answer.probabilities_WK, predictor(path).probabilities_WK, atol=1e-6)


def test_an_answer_does_not_wait_for_the_next_video(predictor, video):
    answered = threading.Event()

    def coming():
        yield video
        assert answered.wait(60), "the answer waits for a video that comes after it"
        yield video

    answers = predictor(coming())
    assert next(answers)[0].path == video
    answered.set()
    assert len(list(answers)) == 1


def test_a_fault_of_the_machine_takes_no_other_video_with_it(predictor, video, monkeypatch):
    """Of three that go together; alone the second gives it again."""
    real, faults = predictor.answering.scores, [True, False, True, False]

    def scores(views):
        if faults.pop(0):
            raise MachineFault("the process that opens videos ends before it begins")
        return real(views)

    monkeypatch.setattr(predictor.answering, "scores", scores)
    first, failed, last = predictor([video] * 3)
    assert isinstance(failed, DecodeError)
    assert failed.path == video
    assert first[0].label == last[0].label


def test_wrong_arguments_are_said_plainly(predictor, video, tmp_path):
    for top in (0, 1.5, "3"):
        with pytest.raises(UserError, match="not a number of labels"):
            predictor(video, top=top)
    with pytest.raises(UserError, match="not a length"):
        predictor(video, window_seconds="1")
    with pytest.raises(UserError, match="the answer is empty"):
        predictor.annotate(video, [], tmp_path / "a.mp4")


def test_no_more_processes_than_allowed(video):
    with SafeReader(most_processes=2) as files, ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: files.look(video, with_hash=False).video.num_frames, range(12)))
        assert len(set(found)) == 1
        assert len(files._all) <= 2


def memory_bytes(process):
    gc.collect()
    everyone = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in everyone)


def test_many_calls_of_many_threads_change_nothing(run, made_set):
    """Answers to the bit, the network's state, the number of processes, and (roughly) the memory."""
    paths = [Manifest.load(made_set).row(index).path for index in range(8)]
    given = [path if number % 2 else pixels(path) for number, path in enumerate(paths)]
    process = psutil.Process()
    with Predictor(run) as predictor:
        alone = [predictor(video) for video in given]
        state = {name: tensor.clone() for name, tensor in predictor.answering.model.state_dict().items()}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(predictor, given * 4))
            before = memory_bytes(process)
            calls = 10 * len(given)
            for answer, expected in zip(pool.map(predictor, given * 10), alone * 10, strict=True):
                assert answer == expected
                assert np.array_equal(answer.probabilities_WK, expected.probabilities_WK)
            growth = memory_bytes(process) - before
        after = predictor.answering.model.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in state.items())
        assert len(predictor._files._all) <= max(4, os.cpu_count())
    assert growth / calls < 2**18, "a call keeps less than a clip"


# --- results


@pytest.fixture
def answer():
    probabilities_WK = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    one = Prediction("a.mp4", 0.0, 1.0, ("x", "y"), (0.5, 0.3))
    two = Prediction("a.mp4", 1.0, 4.0, ("y", "x"), (0.8, 0.1))
    return Predictions([one, two], classes=("x", "y", "z"), probabilities_WK=probabilities_WK)


def test_the_whole_is_the_mean_of_its_windows_by_their_lengths(answer):
    assert answer.label == "y"
    assert answer.score == pytest.approx((0.3 + 3 * 0.8) / 4)
    assert [label for label, _ in answer.top(3)] == ["y", "x", "z"]
    assert len(answer.top(99)) == 3
    assert (answer[0].label, answer[0].score) == ("x", 0.5)
    assert answer[1].top(1) == [("y", 0.8)]
    with pytest.raises(UserError, match="holds 2 labels"):
        answer[0].top(3)
    with pytest.raises(UserError, match="at least 1"):
        answer.top(0)
    again = pickle.loads(pickle.dumps(answer))
    assert again == answer
    assert np.array_equal(again.probabilities_WK, answer.probabilities_WK)


def test_a_table_of_windows(answer, monkeypatch):
    class Frames:
        DataFrame = staticmethod(lambda rows: rows)

    monkeypatch.setitem(__import__("sys").modules, "pandas", Frames)
    assert answer.to_frame() == [
        {"path": "a.mp4", "start_seconds": 0.0, "end_seconds": 1.0, "label": "x", "score": 0.5, "label_2": "y", "score_2": 0.3},
        {"path": "a.mp4", "start_seconds": 1.0, "end_seconds": 4.0, "label": "y", "score": 0.8, "label_2": "x", "score_2": 0.1},
    ]  # fmt: skip
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        answer.to_frame()


def test_pictures_of_an_answer(answer, predictor, video):
    lines = answer.plot(2).to_dict()
    assert {(point["label"], point["seconds"]) for point in lines["data"]["values"]} == {
        (label, seconds) for label in ("x", "y") for seconds in (0.0, 1.0, 4.0)
    }
    bars = predictor(video).plot(3).to_dict()
    assert [bar["score"] for bar in bars["data"]["values"]] == [score for _, score in predictor(video).top(3)]
    hostile = Predictions(
        [Prediction("<b>", 0.0, 1.0, ("<script>",), (1.0,))], classes=("<script>",), probabilities_WK=np.ones((1, 1))
    )
    assert "<script>" not in hostile._repr_html_()
    assert "<b>" not in hostile._repr_html_()


def test_a_run_gives_its_predictor(run, video):
    with run.predictor(limits=Limits(seconds=60)) as loaded:
        assert isinstance(loaded, Predictor)
        assert loaded(video) == muybridge.load(run)(video)
