"""Reading by time stamps gives the frames that counting gives, without decoding what no wanted frame is made of."""

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from making import B_FRAMES, KINDS, NUM_FRAMES, coded, codes_of, write_h264_b, write_video

from muybridge.video import (
    FileReader,
    ForwardReader,
    RamCache,
    Row,
    frames,
    probe,
    read_frames,
)
from muybridge.video.decode import SEEK_PACKETS, times_seconds

LONG = 400
"""Frames; far more than are run up to instead of sought."""


def write_long(path, *, codec="libx264", options=None, num_frames=LONG, **more):
    return write_video(path, [coded(i) for i in range(num_frames)], codec=codec, options=options, **more)


LONG_KINDS = {
    "gop250_b.mp4": {"options": {**B_FRAMES, "g": "250"}},
    "gop12_b.mp4": {"options": {**B_FRAMES, "g": "12"}},
    "open_gop.mp4": {"options": {**B_FRAMES, "g": "30", "x264-params": "b-adapt=0:scenecut=0:open-gop=1:b-pyramid=normal"}},
    "gop12.avi": {"codec": "mpeg4", "options": {"qscale": "3", "g": "12"}},
    "gop25_b.mkv": {"options": {**B_FRAMES, "g": "25"}},
    "all_keys.mkv": {"codec": "ffv1", "pixels": "bgr0"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "40", "lag-in-frames": "8"}},
    "hevc.mp4": {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "keyint=40:bframes=3:log-level=none"}},
    "uneven.mp4": {"options": {**B_FRAMES, "g": "30"}, "times_ms": [40 * i + (i * 7919) % 33 for i in range(LONG)]},
}  # fmt: skip


@pytest.fixture(scope="module")
def long_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    for name, how in LONG_KINDS.items():
        write_long(folder / name, **how)
    return folder


@pytest.fixture(scope="module")
def short_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    for name, write in KINDS.items():
        write(folder / name)
    return folder


INDEX_SETS = [
    [LONG - 1], [0], [0, LONG - 1], [260, 255, 255, 260, 3], list(range(100, 132)), list(range(38, 102, 2)),
    [24, 25, 26, 27, 28, 29, 30, 31], [7, 57, 107, 157, 207, 257, 307, 357],
]  # fmt: skip


@pytest.mark.parametrize("name", LONG_KINDS)
def test_frames_are_the_same_bits_as_by_counting(long_files, name):
    path = long_files / name
    assert probe(path).seekable
    draws = np.random.default_rng(1)
    for indices in [*INDEX_SETS, *(draws.integers(0, LONG, 8).tolist() for _ in range(4))]:
        sought = read_frames(path, indices, seekable=True)
        assert codes_of(sought) == indices
        assert np.array_equal(sought, read_frames(path, indices))


@pytest.mark.parametrize("name", KINDS)
def test_short_files_of_every_kind(short_files, name):
    path = short_files / name
    draws = np.random.default_rng(2)
    for indices in ([39], [0, 1, 2], [20, 19, 20], draws.integers(0, NUM_FRAMES, 12).tolist()):
        assert codes_of(read_frames(path, indices, seekable=True)) == indices  # also where `seekable` is a lie
    info = probe(path)
    assert info.seekable == (name != "raw.h264")  # without time stamps a frame can only be counted


def spoiled(path, first, last):
    """Overwrite the packets of frames first … last - 1 (in coding order) of an MP4."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in places[first:last]:
        content[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(content)


def test_what_no_wanted_frame_is_made_of_is_not_decoded(tmp_path):
    """Spoil all packets but those of the group of pictures that is wanted: it is read all the same."""
    path = write_long(tmp_path / "a.mp4", options={"preset": "fast", "bf": "0", "g": "20", "sc_threshold": "0"})
    before = read_frames(path, [300, 305], seekable=True)
    spoiled(path, 20, 300)
    spoiled(path, 320, LONG)
    assert np.array_equal(read_frames(path, [300, 305], seekable=True), before)
    assert codes_of(before) == [300, 305]


def test_near_key_frames_are_run_up_to_and_far_ones_sought(tmp_path, monkeypatch):
    path = write_long(tmp_path / "a.mp4", options={"preset": "fast", "bf": "0", "g": "20", "sc_threshold": "0"})
    seeks = []
    opened = av.open

    class Watched:
        def __init__(self, container):
            self._container = container

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._container.close()

        def __getattr__(self, name):
            return getattr(self._container, name)

        def seek(self, *args, **options):
            seeks.append(args)
            return self._container.seek(*args, **options)

    read_frames(path, [0], seekable=True)
    monkeypatch.setattr(av, "open", lambda *args, **options: Watched(opened(*args, **options)))
    assert codes_of(read_frames(path, [5, SEEK_PACKETS - 1], seekable=True)) == [5, SEEK_PACKETS - 1]
    assert seeks == []
    assert codes_of(read_frames(path, [5, 390, 395], seekable=True)) == [5, 390, 395]
    assert len(seeks) == 1


def test_frames_that_nothing_refers_to_are_skipped(tmp_path):
    """Spoil the B-frames that are no references: the others are decoded without them."""
    path = write_long(
        tmp_path / "a.mp4",
        options={**B_FRAMES, "g": "250", "x264-params": "b-adapt=0:b-pyramid=none:scenecut=0"},
        num_frames=60,
    )
    with av.open(str(path)) as container:
        kinds = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
    wanted = [i for i, kind in enumerate(kinds) if kind != "B"]
    before = read_frames(path, wanted, seekable=True)
    with av.open(str(path)) as container:
        packets = [(packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    shown = sorted(pts for pts, _, _ in packets)
    content = bytearray(path.read_bytes())
    for pts, position, size in packets:
        if kinds[shown.index(pts)] == "B":
            content[position + 5 : position + size] = bytes(size - 5)
    path.write_bytes(content)
    assert codes_of(before) == wanted
    assert np.array_equal(read_frames(path, wanted, seekable=True), before)


def test_a_file_whose_packets_give_no_frames_is_counted(tmp_path):
    """Packets that hold nothing: what they promise is believed neither by probe nor by the reader."""
    path = write_long(tmp_path / "a.avi", codec="mpeg4", options={"qscale": "3", "g": "10"}, num_frames=60)
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    not_coded = b"\x00\x00\x01\xb6\x52\x47"  # a VOP header with vop_coded = 0
    for position, size in places[29], places[39]:  # the last of a group: no other frame is made of it
        start = content.index(b"\x00\x00\x01\xb6", position)
        assert start < position + size
        content[start : position + size] = not_coded.ljust(position + size - start, b"\x00")
    path.write_bytes(content)
    info = probe(path)
    assert info.num_frames == 58
    assert not info.seekable
    whole = codes_of(read_frames(path, range(58)))
    assert whole == [i for i in range(60) if i not in (29, 39)]
    for indices in ([57], [0, 30, 40]):
        assert codes_of(read_frames(path, indices, seekable=info.seekable)) == [whole[i] for i in indices]


def test_a_file_that_was_replaced_is_scanned_anew(tmp_path):
    path = write_h264_b(tmp_path / "a.mp4", 40)
    assert codes_of(read_frames(path, [39], seekable=True)) == [39]
    write_video(path, [coded(100 + i) for i in range(30)], options=B_FRAMES)
    assert codes_of(read_frames(path, [29, 0], seekable=True)) == [129, 100]


def test_a_row_says_whether_its_file_was_tried(short_files):
    row = Row("a", str(short_files / "vfr.mp4"), 5, 30, 25.0, seekable=True)
    assert codes_of(FileReader().read(row, np.array([29, 0]))) == [34, 5]


def test_times_without_decoding(long_files, short_files):
    for path in (
        long_files / "uneven.mp4",
        short_files / "vfr.mp4",
        short_files / "mpeg4.avi",
        long_files / "gop25_b.mkv",
    ):
        np.testing.assert_allclose(times_seconds(path), probe(path).times_seconds, atol=1e-6)
    assert times_seconds(short_files / "raw.h264") is None


def test_where_a_picture_only_builds_up_again_nothing_is_sought(tmp_path):
    """Intra refresh: its recovery points are marked as key frames, and are none."""
    options = {"preset": "veryfast", "bf": "0", "x264-params": "intra-refresh=1:keyint=20"}
    path = write_long(tmp_path / "a.mp4", options=options, num_frames=120)
    with av.open(str(path)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) > 2
    info = probe(path)
    assert not info.seekable
    assert codes_of(read_frames(path, [95, 99], seekable=info.seekable)) == [95, 99]


def test_a_file_that_the_decoder_has_to_mend_is_counted(tmp_path):
    """What is put in the place of damage depends on what was decoded before."""
    whole, path = (
        write_long(tmp_path / "whole.mp4", options={**B_FRAMES, "g": "20"}, num_frames=100),
        tmp_path / "a.mp4",
    )
    assert probe(whole).seekable
    with av.open(str(whole)) as container:
        shown = [(frame.pts, PictureType(frame.pict_type).name) for frame in container.decode(video=0)]
    lost = next(pts for pts, kind in shown[45:] if kind == "P")  # others refer to it
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.pts != lost:
                packet.stream = stream
                target.mux(packet)
    info = probe(path)
    assert info.num_frames in (99, 100)
    assert not info.seekable


def test_a_clip_has_the_size_of_the_files_first_frame(tmp_path):
    """Whichever frames are asked for, where a stream changes its size; through every reader."""
    large = write_video(tmp_path / "1.h264", [coded(i, height=48, width=96) for i in range(20)], options={"bf": "0"})
    small = write_video(
        tmp_path / "2.h264", [coded(20 + i, height=96, width=64) for i in range(20)], options={"bf": "0"}
    )
    path = tmp_path / "both.h264"
    path.write_bytes(large.read_bytes() + small.read_bytes())
    info = probe(path)
    assert (info.num_frames, info.width, info.height, info.seekable) == (40, 96, 48, False)
    row = Row("r", str(path), 0, 40, 25.0, info.seekable)
    part = row._replace(id="p", start_frame=25, num_frames=10)
    cache, forward = RamCache(FileReader(24)), ForwardReader(short_side=24)
    cache.fill([row, part], threads=1)
    for indices in ([30], [0, 30], [39]):
        for reader in (FileReader(24), cache, forward):
            assert reader.read(row, np.array(indices)).shape == (len(indices), 24, 48, 3)
    for reader in (FileReader(24), cache, forward):
        assert np.array_equal(reader.read(part, np.array([5])), FileReader(24).read(row, np.array([30])))
    assert {frame.shape for frame in frames(path, start_frame=25)} == {(48, 96, 3)}
