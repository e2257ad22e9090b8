"""Decoding: frame i is the i-th frame of a full decode, upright, whatever the container says."""

import copy
import gc
import logging
import pickle
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame
from making import KINDS, NUM_FRAMES, code_of, coded, codes_of, uneven_times_ms, write_clip, write_video

from muybridge.errors import UserError
from muybridge.video import (
    DecodeError,
    FileReader,
    ForwardReader,
    RamCache,
    Row,
    frames,
    probe,
    read_frames,
)

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one file of every kind."""
    folder = tmp_path_factory.mktemp("made")
    for name, write in KINDS.items():
        write(folder / name)
    return folder


def picture_types(path):
    with av.open(str(path)) as container:
        return [PictureType(frame.pict_type).name for frame in container.decode(video=0)]


def test_the_files_are_what_they_are_for(made):
    """B-frames where they are wanted, and times that jump."""
    for name in ("h264_b.mp4", "mpeg4_b.avi", "vfr.mp4", "rotated.mp4"):
        assert "B" in picture_types(made / name), name
    assert set(picture_types(made / "ffv1.mkv")) == {"I"}
    assert np.ptp(np.diff(probe(made / "vfr.mp4").times_seconds)) > 0.05


@every_kind
def test_frame_i_holds_picture_i(made, kind):
    assert codes_of(read_frames(made / kind, range(NUM_FRAMES))) == list(range(NUM_FRAMES))
    assert codes_of(frames(made / kind)) == list(range(NUM_FRAMES))


@every_kind
def test_any_order_and_repeats(made, kind):
    random = np.random.default_rng(0)
    for indices in ([17], [39, 0], [5, 5, 5], [0], [39], random.integers(0, NUM_FRAMES, 30).tolist()):
        found = read_frames(made / kind, indices)
        assert codes_of(found) == indices
        assert found.dtype == np.uint8
        assert found.flags["C_CONTIGUOUS"]
    assert np.array_equal(read_frames(made / kind, np.array([3, 1])), read_frames(made / kind, [3, 1]))


@every_kind
def test_pixels_are_those_of_a_sequential_decode(made, kind):
    with av.open(str(made / kind)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if kind == "rotated.mp4":
        plain = [np.rot90(picture, -1) for picture in plain]  # a quarter turn clockwise, as it was written
    assert np.array_equal(read_frames(made / kind, range(NUM_FRAMES)), np.stack(plain))
    assert np.array_equal(np.stack(list(frames(made / kind))), np.stack(plain))
    assert np.array_equal(read_frames(made / kind, [31, 2, 31]), np.stack([plain[31], plain[2], plain[31]]))


@every_kind
def test_probe_counts_what_decodes(made, kind):
    info = probe(made / kind)
    [first] = read_frames(made / kind, [0])
    assert info.num_frames == NUM_FRAMES
    assert (info.height, info.width) == first.shape[:2]
    assert info.declared_frames in (0, NUM_FRAMES)
    assert info.times_seconds.shape == (NUM_FRAMES,)
    assert info.times_seconds[0] == 0
    assert (np.diff(info.times_seconds) > 0).all()
    if kind != "vfr.mp4":
        assert info.fps == pytest.approx(25, rel=0.01)
        np.testing.assert_allclose(info.times_seconds, np.arange(NUM_FRAMES) / 25, atol=0.002)


def test_probe_knows_when_each_frame_is_shown(made):
    times_seconds = np.array(uneven_times_ms(NUM_FRAMES)) / 1000
    info = probe(made / "vfr.mp4")
    np.testing.assert_allclose(info.times_seconds, times_seconds, atol=0.001)
    assert info.fps == pytest.approx((NUM_FRAMES - 1) / times_seconds[-1], rel=1e-3)


@every_kind
@pytest.mark.parametrize("short_side", [24, 37, 96])
def test_short_side_keeps_the_aspect(made, kind, short_side):
    info = probe(made / kind)
    found = read_frames(made / kind, [7, 30, 7], short_side=short_side)
    height, width = found.shape[1:3]
    assert min(height, width) == short_side
    scale = short_side / min(info.height, info.width)
    assert abs(height - info.height * scale) <= 0.5
    assert abs(width - info.width * scale) <= 0.5
    assert codes_of(found) == [7, 30, 7]
    assert np.array_equal(
        next(frames(made / kind, short_side=short_side)), read_frames(made / kind, [0], short_side=short_side)[0]
    )


def displayed(path, stored_HW3):
    """What the file's display matrix makes of a stored picture: the matrix read from the bytes of `tkhd`, applied by its
    definition (x' = a x + c y, y' = b x + d y)."""
    content = path.read_bytes()
    start = content.index(b"tkhd") + 4
    matrix = start + 4 + (20 if content[start] == 0 else 32) + 16
    a, b, _, c, d = (value // 65536 for value in struct.unpack(">5i", content[matrix : matrix + 20]))
    y_HW, x_HW = np.indices(stored_HW3.shape[:2])
    right_HW, down_HW = a * x_HW + c * y_HW, b * x_HW + d * y_HW
    shown = np.zeros((np.ptp(down_HW) + 1, np.ptp(right_HW) + 1, 3), np.uint8)
    shown[down_HW - down_HW.min(), right_HW - right_HW.min()] = stored_HW3
    return shown


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_come_upright(tmp_path, degrees, mirrored):
    """All eight ways in which a camera may have been held."""
    upright = {"degrees": degrees, "hflip": mirrored}
    path = write_video(tmp_path / "a.mp4", [coded(i, height=48, width=96) for i in range(3)], upright=upright)
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = np.stack([displayed(path, picture) for picture in stored])
    assert np.array_equal(read_frames(path, [0, 1, 2]), expected)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[1:3]


def test_decoded_frames_are_gone_once_they_are_read(made):
    """Frames in reference cycles would stay, with their pixels, until Python looks for cycles."""
    gc.collect()
    gc.disable()
    try:
        for kind in KINDS:
            probe(made / kind)
            list(frames(made / kind))
        left = sum(isinstance(one, VideoFrame) for one in gc.get_objects())
    finally:
        gc.enable()
    assert left == 0


def test_asking_past_the_end_names_the_file_and_both_numbers(made):
    path = made / "h264_b.mp4"
    with pytest.raises(DecodeError) as caught:
        read_frames(path, [0, NUM_FRAMES])
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert "frame 40 " in caught.value.reason
    assert "40 frames" in caught.value.reason


@pytest.mark.parametrize("indices", [[], [-1], [3, -2]])
def test_indices_that_cannot_be_are_a_mistake_of_the_caller(made, indices):
    with pytest.raises(ValueError, match="frame indices"):
        read_frames(made / "mpeg4.avi", indices)


def test_a_file_that_cannot_be_opened_is_a_decode_error(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    for path, reason in (
        (tmp_path / "none.mp4", "No such file"),
        (tmp_path, "folder"),
        (tmp_path / "text.mp4", "nvalid"),
    ):
        for call in (probe, lambda path: list(frames(path)), lambda path: read_frames(path, [0])):
            with pytest.raises(DecodeError, match=reason) as caught:
                call(path)
            assert caught.value.path == str(path)


def test_decode_error_crosses_process_borders():
    error = DecodeError("a/b.mp4", "broken")
    for copied in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(copied) is DecodeError
        assert (copied.path, copied.reason, str(copied)) == ("a/b.mp4", "broken", "a/b.mp4: broken")
    assert isinstance(error, UserError)


@pytest.mark.parametrize("name", ["a:b.avi", "http:x.avi", "läuft %03d 日本.avi", "it's [1].avi"])
def test_a_name_is_a_name(tmp_path, monkeypatch, name):
    """Not an address, a pattern, or an option of FFmpeg's; also where the path is relative."""
    write_clip(tmp_path / "plain.avi", 5, 3)
    (tmp_path / "plain.avi").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert codes_of(read_frames(name, [2, 0])) == [7, 5]
    assert probe(tmp_path / name).num_frames == 3


def test_reasons_are_the_same_from_many_threads(tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.mp4").write_text(f"not a video {i}")

    def reason(path):
        with pytest.raises(DecodeError) as caught:
            probe(path)
        return caught.value.path, caught.value.reason

    paths = sorted(tmp_path.iterdir()) * 5
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(reason, paths))
    assert [path for path, _ in found] == [str(path) for path in paths]
    assert all(told.startswith("Invalid data found when processing input") for _, told in found)


def test_ffmpeg_does_not_talk_to_the_terminal(tmp_path, capfd, monkeypatch):
    """While one thread reads a broken file with FFmpeg's log on, what others do is not spilled."""
    (tmp_path / "text.mp4").write_text("not a video")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a program that sets up no logging
    repeated = av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with pytest.raises(DecodeError):
            read_frames(tmp_path / "text.mp4", [0])
    finally:
        av.logging.set_level(None)
        av.logging.set_skip_repeated(repeated)
    assert capfd.readouterr().err == ""


def row_of(path, start_frame, num_frames, name="r"):
    return Row(id=name, path=str(path), start_frame=start_frame, num_frames=num_frames, fps=25.0)


@every_kind
@pytest.mark.parametrize(("start", "count"), [(0, NUM_FRAMES), (0, 5), (7, 12), (39, 1), (20, 20)])
def test_a_row_counts_from_its_start(made, kind, start, count):
    reader, row = FileReader(), row_of(made / kind, start, count)
    indices = np.array([count - 1, 0, count // 2])
    assert codes_of(reader.read(row, indices)) == (indices + start).tolist()
    assert codes_of(reader.read_all([row])[0]) == list(range(start, start + count))


@pytest.mark.parametrize("short_side", [None, 32])
def test_the_cache_gives_what_the_reader_gives(made, short_side):
    reader = FileReader(short_side=short_side)
    rows = [row_of(made / kind, start, 9, f"{kind}#{start}") for kind in KINDS for start in (0, 4, 31)]
    cache, advanced = RamCache(reader), []
    assert not any(row.id in cache for row in rows)
    cache.fill(rows[:5], threads=2)
    assert [row.id in cache for row in rows] == [True] * 5 + [False] * (len(rows) - 5)
    cache.fill(rows[5:], threads=2, advance=advanced.append)
    assert sum(advanced) == len(rows) - 5
    assert all(row.id in cache for row in rows)
    for row in rows:
        for indices in ([0], [8, 0, 3, 3], list(range(9))):
            assert np.array_equal(cache.read(row, np.array(indices)), reader.read(row, np.array(indices)))


def test_what_is_read_from_the_cache_is_a_copy(made):
    row = row_of(made / "mpeg4.avi", 2, 3)
    cache = RamCache(FileReader())
    cache.fill([row], threads=1)
    cache.read(row, np.array([0, 1, 2]))[:] = 0
    assert codes_of(cache.read(row, np.array([0, 1, 2]))) == [2, 3, 4]


def test_a_row_longer_than_its_file_is_a_decode_error(made):
    for row in (row_of(made / "mpeg4.avi", 0, NUM_FRAMES + 1), row_of(made / "mpeg4.avi", 38, 3)):
        with pytest.raises(DecodeError, match="40 frames"):
            FileReader().read_all([row])
        with pytest.raises(DecodeError, match="40 frames"):
            RamCache(FileReader()).fill([row], threads=2)


def test_the_reader_travels_to_workers(made):
    reader = pickle.loads(pickle.dumps(FileReader(short_side=24)))
    assert reader.read(row_of(made / "mpeg4.avi", 0, 40), np.array([1])).shape == (1, 24, 32, 3)


def test_a_picture_that_is_turned_or_mirrored_cannot_be_read():
    """The helper itself: it would not let a wrong orientation pass."""
    picture = coded(5)
    assert code_of(picture) == 5
    for wrong in (picture[::-1], picture[:, ::-1], np.rot90(picture, 2), np.rot90(picture), 255 - picture):
        try:
            assert code_of(wrong) != 5
        except AssertionError as error:
            assert "block" in str(error) or "neither" in str(error)  # noqa: PT017


def test_a_file_can_be_read_after_it_was_moved(tmp_path):
    write_clip(tmp_path / "a.avi", 3, 4)
    reader = FileReader()
    assert codes_of(reader.read_all([row_of(tmp_path / "a.avi", 0, 4)])[0]) == [3, 4, 5, 6]
    shutil.move(tmp_path / "a.avi", tmp_path / "b.avi")
    assert codes_of(reader.read_all([row_of(tmp_path / "b.avi", 0, 4)])[0]) == [3, 4, 5, 6]
    with pytest.raises(DecodeError, match="No such file"):
        reader.read_all([row_of(tmp_path / "a.avi", 0, 4)])


def test_the_forward_reader_agrees_with_the_file_reader(tmp_path):
    path = tmp_path / "v.mp4"
    KINDS["h264_b.mp4"](path)
    forward, plain = ForwardReader(short_side=16), FileReader(short_side=16)
    for start, indices in [(0, [0, 2, 2]), (3, [4, 0]), (8, [0, 1]), (2, [1, 1, 5]), (30, [9]), (0, [0])]:
        row = Row("v", str(path), start, 10, 25.0)
        assert np.array_equal(forward.read(row, np.array(indices)), plain.read(row, np.array(indices)))
    with pytest.raises(DecodeError, match="decoding gives 40 frames"):
        forward.read(Row("v", str(path), 38, 10, 25.0), np.array([1, 2]))
