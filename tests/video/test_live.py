"""Sources of streams: frames in order, lost connections, damage, changed sizes, drops by rule, recordings."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from making_streams import server, transport_stream

from muybridge.data.sets.motions import encode, render
from muybridge.errors import UserError
from muybridge.video import DecodeError, frames, live, probe
from muybridge.video.limits import Limits
from muybridge.video.live import LiveFrame, LiveFrames, Note
from muybridge.video.live_worker import Clock
from muybridge.video.source import source_of


@pytest.fixture(scope="module")
def clip():
    return np.concatenate([render(label, seed=0, index=0) for label in ("grow", "crowd")])


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "two.mp4"
    encode(path, clip)
    return path


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(live, "FIRST_BACKOFF_SECONDS", 0.05)


def parts(items):
    """Frames and notes."""
    items = list(items)
    return [one for one in items if isinstance(one, LiveFrame)], [one for one in items if isinstance(one, Note)]


def test_a_file_gives_every_frame_as_the_reader_does(video):
    with LiveFrames(source_of(video), short_side=32) as source:
        got, notes = parts(source)
    expected = list(frames(video, short_side=32))
    assert len(got) == len(expected) == 48
    assert all(np.array_equal(one.pixels_HW3, pixels) for one, pixels in zip(got, expected, strict=True))
    assert [one.number for one in got] == list(range(48))
    assert np.allclose([one.time_seconds for one in got], np.arange(48) / 24)
    assert [one.begins for one in got] == [True] + [False] * 47
    assert [note.kind for note in notes] == ["opened"]
    assert source.dropped == 0


def test_a_file_waits_for_a_slow_reader_in_bounded_memory(video, monkeypatch):
    monkeypatch.setattr(live, "QUEUE_FRAMES", 64)
    with LiveFrames(source_of(video)) as source:
        most = 0
        count = 0
        for item in source:
            time.sleep(0.01)
            most = max(most, source.behind())
            count += isinstance(item, LiveFrame)
    assert count == 48
    assert most <= 4
    assert source.dropped == 0


def test_a_live_source_drops_the_oldest_and_counts_them(video):
    with LiveFrames(source_of(video), real_time=True, max_delay_seconds=0.2) as source:
        seen = []
        for item in source:
            if isinstance(item, LiveFrame):
                seen.append(item)
                if len(seen) == 3:
                    time.sleep(1.0)
                if len(seen) > 3:
                    assert time.monotonic() - item.arrived < 0.4 or source.behind() == 0
    numbers = [one.number for one in seen]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] == 47
    assert source.dropped == 48 - len(seen) > 5


def test_what_has_begun_is_told_where_the_first_frame_was_dropped(video):
    with LiveFrames(source_of(video), real_time=True, max_delay_seconds=0.2) as source:
        time.sleep(2.5)
        first = next(item for item in source if isinstance(item, LiveFrame))
    assert first.number > 0
    assert first.begins


def test_a_stream_over_http_that_is_lost_is_opened_again(clip):
    first, second = transport_stream(clip[:30]), transport_stream(clip[:20], first_seconds=500.0)
    with (
        server(lambda send: send(first), lambda send: send(second)) as address,
        LiveFrames(source_of(address), retries=1) as source,
    ):
        notes = []
        got, reason = drained(source, notes)
    assert "it is lost" in reason
    assert len(got) == 50
    assert [one.number for one in got if one.begins] == [0, 30]
    times = [one.time_seconds for one in got]
    assert (np.diff(times) > 0).all()
    assert times[-1] < 30  # of the clock, not of the time stamps
    assert [note.kind for note in notes] == ["opened", "lost", "opened", "lost"]
    assert notes[1].about["reason"] in ("the stream ended", "Input/output error")


def test_a_pause_is_waited_out_and_a_longer_one_is_a_lost_connection(clip):
    data = transport_stream(clip)
    half = len(data) // 2

    def pausing(seconds):
        def act(send):
            send(data[:half])
            time.sleep(seconds)
            send(data[half:])

        return act

    with server(pausing(1.0)) as address, LiveFrames(source_of(address), retries=0, stall_seconds=3.0) as source:
        got, reason = drained(source)
    assert len(got) == 48
    assert "no data came" not in reason
    with (
        server(pausing(5.0), lambda send: send(data)) as address,
        LiveFrames(source_of(address), retries=1, stall_seconds=1.0) as source,
    ):
        notes = []
        got, _ = drained(source, notes)
    assert len(got) > 48
    assert any("no data came for 1 seconds" in note.text for note in notes if note.kind == "lost")


def drained(source, notes=None):
    """The frames of a source until it is lost for good, and why."""
    got = []
    try:
        for item in source:
            if isinstance(item, LiveFrame):
                got.append(item)
            elif notes is not None:
                notes.append(item)
    except DecodeError as error:
        return got, str(error)
    raise AssertionError("it ended")


def test_garbage_is_skipped_and_counted(clip):
    first, second = transport_stream(clip[:24]), transport_stream(clip[24:], first_seconds=1.0)
    noise = np.random.default_rng(0).bytes(50_000)
    with (
        server(lambda send: send(first + noise + second)) as address,
        LiveFrames(source_of(address), retries=0) as source,
    ):
        got, _ = drained(source)
    assert len(got) >= 44
    assert source.damaged > 0
    with (
        server(lambda send: send(np.random.default_rng(1).bytes(300_000))) as address,
        LiveFrames(source_of(address)) as source,
        pytest.raises(DecodeError, match=r"Invalid data|Input/output error"),
    ):
        list(source)


def test_a_stream_whose_size_changes_goes_on(clip):
    small, large = transport_stream(clip[:24]), transport_stream(clip[24:].repeat(2, 1).repeat(2, 2), first_seconds=1.0)
    with (
        server(lambda send: send(small + large)) as address,
        LiveFrames(source_of(address), retries=0, short_side=48) as source,
    ):
        notes = []
        got, _ = drained(source, notes)
    assert {one.pixels_HW3.shape for one in got} == {(48, 48, 3)}
    assert len(got) >= 46
    assert [note.about["resized"] for note in notes if note.kind == "resized"] == [[128, 128]]


def test_an_address_that_never_gave_a_frame_is_an_error_without_its_password(clip):
    with (
        LiveFrames(source_of("http://me:secret@127.0.0.1:9/x")) as source,
        pytest.raises(DecodeError, match="Connection refused") as error,
    ):
        list(source)
    assert "secret" not in str(error.value)


def test_a_playlist_of_a_stranger_reads_no_file_of_this_machine(video):
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{video}\n#EXT-X-ENDLIST\n".encode()
    with (
        server(*[lambda send: send(playlist)] * 3) as address,
        LiveFrames(source_of(address.replace(".ts", ".m3u8")), retries=0) as source,
        pytest.raises(DecodeError),
    ):
        assert not [item for item in source if isinstance(item, LiveFrame)]


def test_a_frame_that_is_too_large_ends_the_stream(video):
    with (
        LiveFrames(source_of(video), limits=Limits(pixels=64)) as source,
        pytest.raises(DecodeError, match="--max-pixels"),
    ):
        list(source)


def test_the_end_of_the_process_is_the_end_of_the_connection(clip):
    data = transport_stream(clip)

    def endless(send):
        while True:
            send(data)
            time.sleep(0.2)

    with server(endless, lambda send: send(data)) as address, LiveFrames(source_of(address), retries=1) as source:
        notes = [next(iter(source))]
        for _ in range(10):
            source.take()
        source._process.kill()
        drained(source, notes)
    assert [note.kind for note in notes if note.kind in ("opened", "lost")][:3] == ["opened", "lost", "opened"]
    assert "crashed" in next(note.text for note in notes if note.kind == "lost")


def test_a_recording_is_whole_and_overwrites_nothing(video, tmp_path):
    with LiveFrames(source_of(video), short_side=16, record=tmp_path / "r.mp4") as source:
        parts(source)
    assert (probe(tmp_path / "r.mp4").num_frames, probe(tmp_path / "r.mp4").width) == (48, 64)
    recorded, original = list(frames(tmp_path / "r.mp4")), list(frames(video))
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(recorded, original, strict=True)]) < 6
    with pytest.raises(UserError, match="nothing is overwritten"):
        LiveFrames(source_of(video), record=tmp_path / "r.mp4")
    with pytest.raises(UserError, match=r"ends in \.mp4"):
        LiveFrames(source_of(video), record=tmp_path / "r.txt")


def test_a_recording_that_is_stopped_is_closed_and_goes_on_in_a_further_file(video, clip, tmp_path):
    with LiveFrames(source_of(video), real_time=True, record=tmp_path / "r.mkv") as source:
        seen = 0
        for item in source:
            seen += isinstance(item, LiveFrame)
            if seen == 12:
                break
    assert 12 <= probe(tmp_path / "r.mkv").num_frames < 48
    data = transport_stream(clip[:24])
    with (
        server(lambda send: send(data), lambda send: send(data)) as address,
        LiveFrames(source_of(address), retries=1, record=tmp_path / "h.mp4") as source,
    ):
        drained(source)
    assert source.recordings == [tmp_path / "h.mp4", tmp_path / "h-2.mp4"]
    assert all(probe(path).num_frames == 24 for path in source.recordings)


def test_standard_input_is_a_container_or_raw_frames(video, clip, tmp_path):
    code = """
import sys
from muybridge.video.live import LiveFrame, LiveFrames
from muybridge.video.source import source_of
with LiveFrames(source_of("-", raw=sys.argv[1] if len(sys.argv) > 1 else None)) as source:
    items = list(source)
got = [item for item in items if isinstance(item, LiveFrame)]
damaged = [item.about["damaged"] for item in items if not isinstance(item, LiveFrame) and item.kind == "damaged"]
print(len(got), round(got[-1].time_seconds, 3), int(got[-1].pixels_HW3.sum()), *damaged)
"""
    run = lambda data, *more: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code, *more], input=data, capture_output=True, check=True, timeout=120
    ).stdout.split()
    assert run(transport_stream(clip))[0] == b"48"
    pixels = list(frames(video))
    count, seconds, total = run(b"".join(frame.tobytes() for frame in pixels), "64x64@24")
    assert (count, float(seconds), int(total)) == (b"48", round(47 / 24, 3), int(pixels[-1].sum()))
    cut = b"".join(frame.tobytes() for frame in pixels[:5])[:-100]
    count, _, _, damaged = run(cut, "64x64@24")
    assert (count, int(damaged) > 0) == (b"4", True)


def test_a_file_without_a_frame_says_what_to_do(tmp_path):
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    with LiveFrames(source_of(path)) as source, pytest.raises(DecodeError, match="Check that it is a video"):
        list(source)


def test_what_names_no_source_is_said(tmp_path):
    for name, words in {
        "ftp://x/y": "addresses of kind 'ftp'", str(tmp_path / "none.mp4"): "No such file", str(tmp_path): "neither a file",
        "camera:": "names no camera",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words):
            source_of(name)
    for raw in ("640x480", "0x4@25", "640x480@x", "4x4@0"):
        with pytest.raises(UserError, match="--raw"):
            source_of("-", raw=raw)
    with pytest.raises(UserError, match="--raw"):
        source_of("x.mp4", raw="4x4@25")
    with pytest.raises(UserError, match="--real-time"):
        LiveFrames(source_of("http://x/y"), real_time=True)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are named by the system")
def test_cameras_by_number_and_by_path():
    assert source_of("camera:2").opened == "/dev/video2"
    assert (source_of("camera:0").format, source_of("camera:0").is_live) == ("v4l2", True)
    assert source_of(os.devnull).kind == "camera"
    with LiveFrames(source_of(os.devnull)) as source, pytest.raises(DecodeError):
        list(source)


def test_a_clock_rises_whatever_the_time_stamps_say():
    now = [0.0]
    clock = Clock(10.0, True, lambda: now[0])
    read = []
    for passed, stamp in (
        (0, 7.0),
        (0.1, 7.1),
        (0.1, None),
        (0.1, 7.1),
        (0.1, 2.0),
        (0.1, 2.1),
        (0.1, 900.0),
        (5.0, 905.0),
    ):
        now[0] += passed
        read.append(clock.at(stamp))
    assert [round(seconds, 3) for seconds, _ in read] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 5.6]
    assert [jumps for _, jumps in read] == [False, False, False, False, True, False, True, False]
    of_file = Clock(10.0, False)
    of_file.at(0.0)
    assert of_file.at(3600.0) == (3600.0, False)  # a still that is shown for an hour
