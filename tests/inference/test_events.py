"""Events in long videos: windows in one pass, true times, files for programs and players, agreement with annotations."""

import csv
import json
import re
from contextlib import contextmanager
from types import SimpleNamespace

import av
import numpy as np
import pytest
from making import write_video
from typer.testing import CliRunner

import muybridge
from muybridge.analysis.events import Event
from muybridge.cli.app import app
from muybridge.data.sampling import ClipSpec
from muybridge.data.sets.motions import encode, render
from muybridge.errors import UserError
from muybridge.inference import predictor as predicting
from muybridge.inference.event_files import COLUMNS, srt, vtt
from muybridge.inference.over_time import centres, usual_window_seconds, window_starts
from muybridge.inference.predictor import Predictor
from muybridge.storage.calibration import Calibrated
from muybridge.storage.scores import Scores
from muybridge.video import Row, decode
from muybridge.video.limits import Limits
from muybridge.video.overlapping import Overlapping
from muybridge.video.worker import Worker

FPS = 24


# ---- windows ----


@pytest.mark.parametrize(
    ("num_frames", "length", "overlap", "expected"),
    [(10, 4, 0.5, [0, 2, 4, 6]), (11, 4, 0.5, [0, 2, 4, 6, 7]), (12, 4, 0, [0, 4, 8]), (3, 4, 0.5, [0]),
     (4, 4, 0.9, [0]), (7, 4, 0.99, [0, 1, 2, 3])],
)  # fmt: skip
def test_windows_overlap_and_the_last_ends_the_video(num_frames, length, overlap, expected):
    assert window_starts(num_frames, length, overlap).tolist() == expected


def test_centres_are_those_of_the_time_stamps():
    times_F = np.array([0.0, 0.1, 0.5, 1.0])
    assert centres(times_F, 1.2, np.array([0, 1, 2]), 2).tolist() == pytest.approx([0.25, 0.55, 0.85])
    assert centres(times_F, 1.2, np.array([0]), 9).tolist() == pytest.approx([0.6])


def test_windows_are_as_long_as_what_was_trained_on():
    dense = ClipSpec(num_frames=8, sampling="dense", stride_frames=2, fps=12.5)
    assert usual_window_seconds(dense, 25.0, 10.0) == pytest.approx(8 * 4 / 25)
    assert usual_window_seconds(dense, 25.0, 1.0) == 1.0
    assert usual_window_seconds(ClipSpec(num_frames=8), 25.0, 10.0) == 10.0
    with pytest.raises(UserError, match="--window-seconds: how long"):
        usual_window_seconds(ClipSpec(num_frames=8), 25.0, float("inf"))


class Forwards:
    """A reader of frames that say their numbers, and that remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def read(self, row, indices):
        self.asked += (np.asarray(indices) + row.start_frame).tolist()
        return (np.asarray(indices) + row.start_frame)[:, None, None, None]


@pytest.mark.parametrize("indices", [[0, 3, 3, 6], [1, 2], [0, 1, 2, 3, 4, 5, 6, 7], [5, 1]])
@pytest.mark.parametrize("step", [1, 3, 8, 11])
def test_each_frame_is_asked_for_once_and_in_order(indices, step):
    starts_W, inner = np.arange(5, 60, step), Forwards()
    windows = Overlapping(inner, starts_W, np.array(indices))
    for start in starts_W.tolist():
        shown = windows.read(Row("w", "v", start, 8, 25.0), np.array(indices))
        assert shown[:, 0, 0, 0].tolist() == [start + i for i in indices]
        assert len(windows._kept) <= 16
    wanted = sorted({start + i for start in starts_W.tolist() for i in indices})
    assert inner.asked == wanted
    assert not windows._kept


def test_windows_out_of_order_are_read_all_the_same():
    windows = Overlapping(Forwards(), np.array([0, 4]), np.array([0, 5]))
    for start in (4, 0, 4):
        assert windows.read(Row("w", "v", start, 8, 25.0), np.array([0, 5]))[:, 0, 0, 0].tolist() == [start, start + 5]


# ---- scores over time ----


@pytest.fixture(scope="module")
def predictor(run):
    with Predictor(run.path) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def parts():
    return [render(label, seed=0, index=i) for i, label in enumerate(["grow", "crowd", "move_left", "empty"])]


@pytest.fixture(scope="module")
def long_video(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    encode(path, np.concatenate(parts))
    return path


def test_windows_without_overlap_are_those_of_predict(predictor, long_video):
    answer = predictor(long_video, window_seconds=1.0)
    scores = predictor.over_time(long_video, window_seconds=1.0, overlap=0.0)
    assert np.allclose(scores.probabilities_NK, answer.probabilities_WK, atol=1e-6)
    assert scores.times_N.tolist() == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert (scores.start_seconds, scores.end_seconds) == pytest.approx((0.0, 4.0))


def test_a_window_between_two_scores_as_those_frames_alone(predictor, parts, long_video):
    frames = np.concatenate(parts)
    scores = predictor.over_time(long_video, window_seconds=1.0, overlap=0.75)
    assert len(scores.times_N) == 13
    for window in (1, 6, 12):
        start = 6 * window
        (row,) = predictor(Row("w", str(long_video), start, 24, 24.0), window_seconds=0, top=10)
        by_name = dict(zip(row.labels, row.scores, strict=True))
        assert np.allclose(scores.probabilities_NK[window], [by_name[name] for name in scores.classes], atol=1e-6)
        assert scores.times_N[window] == pytest.approx((start + 12) / FPS)
    from_array = predictor.over_time(frames, window_seconds=1.0, overlap=0.75, fps=FPS)
    assert from_array.times_N == pytest.approx(scores.times_N)


def test_a_part_of_a_file_has_the_times_of_the_file(predictor, long_video):
    whole = predictor.over_time(long_video, window_seconds=1.0)
    part = predictor.over_time(Row("p", str(long_video), 24, 48, 24.0), window_seconds=1.0)
    assert part.times_N.tolist() == pytest.approx([1.5, 2.0, 2.5])
    assert (part.start_seconds, part.end_seconds) == pytest.approx((1.0, 3.0))
    assert np.allclose(part.probabilities_NK, whole.probabilities_NK[2:5], atol=1e-6)


class InProcess:
    """A worker in this process that keeps no frames, as of a video that is too long for that."""

    limits = Limits()

    def __init__(self):
        self.worker = Worker(self.limits, lambda: None)

    @contextmanager
    def held(self, short_side):
        yield self

    def close(self):
        pass

    def look(self, path, **options):
        about, payload = self.worker.look(str(path), 25.0, with_hash=False)
        shown = {name: about[name] for name in ("num_frames", "fps", "width", "height")}
        return SimpleNamespace(video=SimpleNamespace(times_seconds=np.frombuffer(payload), **shown))

    def read(self, row, indices):
        about, payload = self.worker.read(list(row), indices.tolist(), None)
        return np.frombuffer(payload, dtype=np.uint8).reshape(about["shape"])


def test_overlapping_windows_of_a_file_that_is_not_kept_cost_one_pass(run, long_video, monkeypatch):
    passes, frames = [], decode.frames
    monkeypatch.setattr(decode, "frames", lambda path, **options: passes.append(path) or frames(path, **options))
    monkeypatch.setattr(predicting, "Held", InProcess)
    with Predictor(run.path) as loaded:
        monkeypatch.setattr(loaded, "_files", InProcess())
        scores = loaded.over_time(long_video, window_seconds=1.0, overlap=0.75)
    assert len(scores.times_N) == 13
    assert len(passes) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"window_seconds": 0.0}, "--window-seconds 0"), ({"window_seconds": float("nan")}, "--window-seconds nan"),
     ({"overlap": 1.0}, "--overlap 1"), ({"overlap": -0.1}, "--overlap -0.1")],
)  # fmt: skip
def test_windows_that_cannot_be_laid_are_refused(predictor, long_video, options, words):
    with pytest.raises(UserError, match=re.escape(words)):
        predictor.over_time(long_video, **options)


# ---- events, of a network that tells bright from dark ----

CLASSES = ("bright", "dark", "middling")


class Brightness:
    """Answers by the mean brightness of a window: white is "bright", black is "dark"."""

    calibrated = Calibrated()
    answered_by = "the mean brightness"

    def __init__(self, like):
        self.name, self.recipe = like.name, like.recipe
        self.dataset = {**like.dataset, "classes": list(CLASSES), "mirror": {}}

    def scores(self, views):
        found = [views[views.key(index)].pictures_PHWC.float().mean() / 255 for index in range(len(views.manifest))]
        shares_N = np.array(found, dtype=np.float32)
        probabilities_NK = np.column_stack([shares_N, 1 - shares_N, np.zeros_like(shares_N)]) + 1e-6
        count = len(shares_N)
        return Scores(
            classes=CLASSES, ids_N=np.array([str(i) for i in range(count)]), labels_N=np.full(count, -1),
            groups_N=np.full(count, ""), video_V=np.arange(count), clip_start_V=np.zeros(count, dtype=np.int64),
            crop_V=np.zeros(count, dtype=np.int64), logits_VK=np.log(probabilities_NK),
        )  # fmt: skip


@pytest.fixture
def by_brightness(run, monkeypatch):
    answering = predicting.answering
    monkeypatch.setattr(predicting, "answering", lambda *given, **options: Brightness(answering(*given, **options)))
    return str(run.path)


def gray(levels, size=64):
    return [np.full((size, size, 3), level, dtype=np.uint8) for level in levels]


def test_events_are_where_they_are(by_brightness, tmp_path):
    """White from second 3 to 6 of 10: windows of half a second, so either end is right to a step."""
    write_video(tmp_path / "v.mp4", gray([0] * 60 + [255] * 60 + [0] * 80), fps=20)
    found = muybridge.events(by_brightness, tmp_path / "v.mp4", window_seconds=0.5, overlap=0.8, end_below=0.5)
    (video,) = found.videos
    assert [e.label for e in video.events] == ["dark", "bright", "dark"]
    edges = [video.events[0].start_seconds, *(e.end_seconds for e in video.events)]
    assert edges == pytest.approx([0.0, 3.0, 6.0, 10.0], abs=0.1)
    quiet = muybridge.events(by_brightness, [tmp_path / "v.mp4"], window_seconds=0.5, background="dark").videos[0]
    assert [e.label for e in quiet.events] == ["bright"]


def test_what_the_run_calls_unknown_is_no_event(by_brightness, tmp_path, monkeypatch):
    """Light gray is bright with 0.7, which is not sure enough."""
    write_video(tmp_path / "v.mp4", gray([255] * 40 + [178] * 40 + [255] * 40), fps=20)
    words = {"window_seconds": 0.5, "overlap": 0.8}
    (all_bright,) = muybridge.events(by_brightness, tmp_path / "v.mp4", **words).videos
    assert len(all_bright.events) == 1
    monkeypatch.setattr(Brightness, "calibrated", Calibrated(threshold=0.8))
    (sure,) = muybridge.events(by_brightness, tmp_path / "v.mp4", **words).videos
    assert [e.label for e in sure.events] == ["bright", "bright"]
    assert (sure.events[0].end_seconds, sure.events[1].start_seconds) == pytest.approx((2.0, 4.0), abs=0.25)
    monkeypatch.setattr(Brightness, "calibrated", Calibrated(temperature=2.0))
    (mild,) = muybridge.events(by_brightness, tmp_path / "v.mp4", **words).videos
    at_3s = np.abs(mild.over_time.times_N - 3.0).argmin()
    share = mild.over_time.probabilities_NK[at_3s, 0] / mild.over_time.probabilities_NK[at_3s, 1]
    assert share == pytest.approx((0.7 / 0.3) ** 0.5, rel=0.05)


def test_times_are_those_of_the_time_stamps_not_of_counting(by_brightness, tmp_path):
    """40 dark frames in 4 s, then 40 bright ones in 1 s."""
    times_ms = [*range(0, 4000, 100), *range(4000, 5000, 25)]
    write_video(tmp_path / "vfr.mp4", gray([0] * 40 + [255] * 40), times_ms=times_ms)
    found = muybridge.events(by_brightness, tmp_path / "vfr.mp4", window_seconds=0.25, overlap=0.75)
    bright = [e for e in found.videos[0].events if e.label == "bright"]
    assert len(bright) == 1
    assert bright[0].start_seconds == pytest.approx(4.0, abs=0.15)
    assert bright[0].end_seconds == pytest.approx(5.0, abs=0.1)


@pytest.fixture
def two(tmp_path):
    """Two videos of 4 s, white in the second second, or the third; and what is annotated."""
    for name, first in (("a", 20), ("b", 40)):
        levels = np.zeros(80, dtype=int)
        levels[first : first + 20] = 255
        write_video(tmp_path / f"{name}.mp4", gray(levels), fps=20)
    truth = "video,start_seconds,end_seconds,label\na.mp4,1,2,bright\nb,2.0,3.0,bright\na.mp4,0,1,dark\n"
    (tmp_path / "truth.csv").write_text(truth)
    return tmp_path


def invoke(*words):
    return CliRunner().invoke(app, ["events", *map(str, words)])


SHORT = ("--window-seconds", 0.5, "--overlap", 0.8, "--background", "dark", "--end-below", 0.5)


def test_one_csv_holds_all_videos_and_is_read_as_truth(by_brightness, two):
    result = invoke(by_brightness, two / "a.mp4", two / "b.mp4", *SHORT, "--out", two / "events.csv")
    assert result.exit_code == 0, result.output
    with (two / "events.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["path"], row["label"]) for row in rows] == [(str(two / name), "bright") for name in ("a.mp4", "b.mp4")]
    assert float(rows[1]["start_seconds"]) == pytest.approx(2.0, abs=0.1)
    assert "bright" in result.output
    again = invoke(by_brightness, two, *SHORT, "--truth", two / "events.csv", "--json")
    assert json.loads(again.stdout)["truth"]["event_map"]["0.7"]["value"] == 1.0


def test_nothing_is_overwritten(by_brightness, two):
    (two / "events.csv").write_text("mine")
    result = invoke(by_brightness, two / "a.mp4", *SHORT, "--out", two / "events.csv")
    assert result.exit_code == 2
    assert "it is there already" in result.output
    assert (two / "events.csv").read_text() == "mine"


@pytest.mark.parametrize("name", ["events.csv", "a.srt"])
def test_of_two_commands_at_once_neither_replaces_the_others_file(by_brightness, two, monkeypatch, name):
    """The other one ends between the first check and the write."""
    over_time = Predictor.over_time

    def meanwhile(self, *args, **options):
        (two / name).write_text("theirs")
        return over_time(self, *args, **options)

    monkeypatch.setattr(Predictor, "over_time", meanwhile)
    result = invoke(by_brightness, two / "a.mp4", *SHORT, "--out", two / name)
    assert result.exit_code == 2
    assert "it is there already" in result.output
    assert (two / name).read_text() == "theirs"
    assert not [path for path in two.iterdir() if "partial" in path.name]


def test_a_place_for_a_name_is_for_files_of_one_video(by_brightness, two):
    result = invoke(by_brightness, two / "a.mp4", *SHORT, "--out", two / "{name}.json")
    assert result.exit_code == 2
    assert "holds the events of all videos" in result.output


def test_subtitles_are_a_file_a_video_that_players_read(by_brightness, two):
    for ending in ("srt", "vtt"):
        refused = invoke(by_brightness, two / "a.mp4", two / "b.mp4", *SHORT, "--out", two / f"all.{ending}")
        assert refused.exit_code == 2
        assert "{name}" in refused.output
        result = invoke(by_brightness, two / "a.mp4", two / "b.mp4", *SHORT, "--out", two / ("{name}." + ending))
        assert result.exit_code == 0, result.output
        with av.open(str(two / f"b.{ending}")) as container:
            packets = [packet for packet in container.demux() if packet.size]
        assert len(packets) == 1
        start = float(packets[0].pts * packets[0].time_base)
        assert start == pytest.approx(2.0, abs=0.1)
        assert float(packets[0].duration * packets[0].time_base) == pytest.approx(1.0, abs=0.1)
        assert b"bright" in bytes(packets[0])


def test_two_videos_never_share_a_file(by_brightness, two):
    (two / "more").mkdir()
    (two / "more" / "a.mp4").write_bytes((two / "a.mp4").read_bytes())
    result = invoke(by_brightness, two / "a.mp4", two / "more" / "a.mp4", "--out", two / "{name}.srt")
    assert result.exit_code == 2
    assert "would both be" in result.output
    assert not (two / "a.srt").exists()
    twice = invoke(by_brightness, two / "a.mp4", two / "a.mp4")
    assert twice.exit_code == 2
    assert "given twice" in twice.output


def test_a_name_that_is_a_formula_is_read_back_and_events_after_the_end_are_told(by_brightness, two, monkeypatch):
    monkeypatch.chdir(two)
    (two / "a.mp4").rename(two / "=1+1.mp4")
    assert invoke(by_brightness, "=1+1.mp4", *SHORT, "--out", "events.csv").exit_code == 0
    assert "'=1+1.mp4" in (two / "events.csv").read_text()
    with (two / "events.csv").open("a") as file:
        file.write("'=1+1.mp4,9000,9001,bright,1\n")
    found = json.loads(invoke(by_brightness, "=1+1.mp4", *SHORT, "--truth", "events.csv", "--json").stdout)
    assert found["truth"]["videos"] == 1
    assert ["1 event of =1+1.mp4 after its end" in note for note in found["notes"]] == [True]


def test_truth_is_held_against_the_events(by_brightness, two):
    result = invoke(by_brightness, two / "a.mp4", two / "b.mp4", *SHORT, "--truth", two / "truth.csv", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["truth"]["event_map"]["0.5"] == {"value": 1.0, "low": None, "high": None}
    assert content["truth"]["frame_map"]["value"] > 0.9
    assert content["truth"]["classes"]["bright"]["true"] == 2
    assert any("'dark', the background" in note for note in content["notes"])
    shown = invoke(by_brightness, two / "a.mp4", *SHORT, "--truth", two / "truth.csv")
    assert "frames, calibrated" in shown.output
    assert "names 1 more, which were not given" in shown.output


def test_a_faulty_truth_is_refused_before_a_video_is_opened(by_brightness, two, monkeypatch):
    monkeypatch.setattr(Predictor, "over_time", lambda *given, **options: pytest.fail("a video was opened"))
    (two / "truth.csv").write_text("video,start,end,label\na.mp4,1,2,bright\na.mp4,1,2,brigt\n")
    result = invoke(by_brightness, two / "a.mp4", "--truth", two / "truth.csv")
    assert result.exit_code == 2
    assert "truth.csv, line 3: class 'brigt'" in result.output
    assert "Did you mean 'bright'" in result.output


def test_a_file_that_cannot_be_read_is_reported_and_the_others_done(by_brightness, two):
    (two / "text.mp4").write_text("no video")
    result = invoke(by_brightness, two / "text.mp4", two / "b.mp4", *SHORT, "--out", two / "events.csv")
    assert result.exit_code == 2
    assert "text.mp4" in result.output
    assert "b.mp4" in (two / "events.csv").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--background", "drak"), "Did you mean 'dark'"), (("--start-above", 2), "not a probability"),
     (("--smooth-seconds", -1), "--smooth-seconds -1"), (("--out", "x.txt"), "not a kind of file"),
     (("--end-below", 0.9), "above --start-above"), (("--set", "optim.lr=1"), "cannot be set")],
)  # fmt: skip
def test_wrong_options_are_said_plainly(by_brightness, two, words, message):
    result = invoke(by_brightness, two / "a.mp4", *words)
    assert result.exit_code == 2
    assert message in result.output


# ---- subtitles ----


def test_subtitles_by_hand():
    events = [Event(1.0, 2.5, "run", 0.914), Event(3723.0004, 3724.9996, "a < b\n\n--> & \x1b[0m", 0.5)]
    assert srt(events) == (
        "1\n00:00:01,000 --> 00:00:02,500\nrun (0.91)\n\n"
        "2\n01:02:03,000 --> 01:02:05,000\na < b -> & \\x1b[0m (0.50)\n"
    )  # fmt: skip
    assert vtt(events) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nrun (0.91)\n\n"
        "01:02:03.000 --> 01:02:05.000\na &lt; b -&gt; &amp; \\x1b[0m (0.50)\n"
    )  # fmt: skip
    marked = Event(0.0, 1.0, "<b>{\\an8}", 0.5)
    assert "\n< b>{ \\an8} (0.50)\n" in srt([marked])
    assert (srt([]), vtt([])) == ("", "WEBVTT\n")
