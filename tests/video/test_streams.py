"""Which stream of a file is the video, and what its header may say wrongly of it."""

import json
import re
import struct

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from making import B_FRAMES, coded, codes_of, write_clip, write_video
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.video import DecodeError, FileReader, decode, packs, probe
from muybridge.video.readers import Row

COVER = np.full((240, 320, 3), 200, np.uint8)


def write_with_cover(path, *, disposition, codec="mjpeg", pixels="yuvj420p", first=True):
    """Six pictures of ours, and a picture of another size in a stream beside them: before them, if it is `first`."""
    with av.open(str(path), "w") as container:

        def stream(codec, pixels, height, width):
            made = container.add_stream(codec, rate=25)
            made.height, made.width, made.pix_fmt = height, width, pixels
            return made

        pair = [(codec, pixels, 240, 320), ("mpeg4", "yuv420p", 48, 64)]
        made = [stream(*about) for about in (pair if first else pair[::-1])]
        cover, video = made if first else made[::-1]
        cover.disposition, video.disposition = disposition, Disposition.default
        container.mux(cover.encode(av.VideoFrame.from_ndarray(COVER, format="rgb24")))
        container.mux(cover.encode())
        for number in range(6):
            container.mux(video.encode(av.VideoFrame.from_ndarray(coded(number), format="rgb24")))
        container.mux(video.encode())
    return path


def boxes(data):
    start = 0
    while start < len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, data[start : start + length]
        start += length


def tags_before_tracks(path):
    """The same MP4 with its tags, the cover among them, before its tracks: the cover is stream 0."""
    whole = b""
    for kind, box in boxes(path.read_bytes()):
        if kind == b"moov":
            inner = sorted(boxes(box[8:]), key=lambda part: {b"mvhd": 0, b"udta": 1}.get(part[0], 2))
            box = box[:8] + b"".join(part for _, part in inner)
        whole += box
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("name", ["tagged.mp4", "attached.mkv", "larger.mkv"])
def test_a_cover_picture_is_not_the_video(tmp_path, name):
    path = tmp_path / name
    if name == "tagged.mp4":
        tags_before_tracks(write_with_cover(path, disposition=Disposition.attached_pic, first=False))
    else:
        write_with_cover(path, disposition=Disposition.attached_pic if name == "attached.mkv" else Disposition(0))
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == 320  # or the case isn't one
    info = probe(path)
    assert (info.num_frames, info.width, info.height) == (6, 64, 48)
    assert codes_of(FileReader().read(Row("a", str(path), 0, 6, 25.0, info.seekable), np.arange(6))) == list(range(6))
    assert codes_of(list(decode.frames(str(path)))) == list(range(6))


def test_a_cover_picture_alone_is_no_video(tmp_path):
    path = write_with_cover(tmp_path / "a.mp4", disposition=Disposition.attached_pic, first=False)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"vide", b"soun"))  # what was the video's track
    with pytest.raises(DecodeError, match="only a cover image"):
        probe(path)


def test_a_codec_that_no_decoder_knows_is_told(tmp_path):
    write_clip(tmp_path / "a.avi", 0)
    with av.open(str(tmp_path / "a.avi")) as container:
        (code,) = {stream.codec_context.codec_tag.encode() for stream in container.streams.video}
    (tmp_path / "a.avi").write_bytes((tmp_path / "a.avi").read_bytes().replace(code, b"zqzq"))
    with pytest.raises(DecodeError, match="no decoder is known for its video stream"):
        probe(tmp_path / "a.avi")


def test_pixels_that_only_later_frames_do_not_give_are_found(tmp_path):
    write_video(tmp_path / "a.mov", [coded(n) for n in range(6)], codec="prores_ks", pixels="yuv422p10le")
    data = bytearray((tmp_path / "a.mov").read_bytes())
    third = [found.start() for found in re.finditer(b"icpf", data)][2]
    data[third + 20] = 182  # its matrix of colours, which there is none of
    (tmp_path / "a.mov").write_bytes(data)
    assert len(list(zip(range(2), decode.frames(str(tmp_path / "a.mov")), strict=False))) == 2
    with pytest.raises(DecodeError, match="pixels of format yuv422p10le cannot be converted"):
        probe(tmp_path / "a.mov")


def as_avi(source, path):
    """Packets copied as they are: H.264 with B-frames in AVI has time stamps that say nothing."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        change = BitStreamFilterContext("h264_mp4toannexb", stream, copy)
        for packet in old.demux(stream):
            for part in change.filter(packet if packet.dts is not None else None):
                part.stream = copy
                new.mux(part)
    return path


def test_the_frame_rate_agrees_with_the_length(tmp_path):
    root, pictures, rates = tmp_path / "videos", [coded(number) for number in range(60)], {"a": 10, "b": 25, "c": 60}
    for label, fps in rates.items():
        mp4 = write_video(tmp_path / f"{label}.mp4", pictures, fps=fps, options=B_FRAMES)
        (root / label).mkdir(parents=True)
        as_avi(mp4, root / label / "a.avi")
        with av.open(str(root / label / "a.avi")) as container:
            assert container.streams.video[0].average_rate != fps  # or the case isn't one
    words = ["prepare", str(root), "--out", str(tmp_path / "set.csv"), "--all", "test", "--jobs", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "(and 2 more like it)" in result.output
    as_json = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert all(
        any(f"its length {fps}, which is taken" in line for line in as_json["warnings"]) for fps in rates.values()
    )
    manifest = Manifest.load(tmp_path / "set.csv")
    assert [manifest.row(index).fps for index in range(3)] == list(rates.values())
    made = CliRunner().invoke(app, ["pack", str(tmp_path / "set.csv"), "--out", str(tmp_path / "pack"), "--fps", "5"])
    assert made.exit_code == 0, made.output
    kept = Manifest.load(tmp_path / "pack")
    for index, fps in enumerate(rates.values()):
        row = kept.row(index)
        assert abs(row.num_frames - np.round(60 * 5 / fps)) <= 1
        assert row.fps == 5
        assert row.path.endswith(packs.SUFFIX)


def test_the_frame_rate_of_a_variable_one_without_order_is_that_of_the_time_stamps(tmp_path):
    """Packets of a rate that varies, copied into AVI: its header says hundreds of frames a second, and time stamps fall."""
    times_ms = np.cumsum(np.random.default_rng(0).integers(20, 90, 60)).tolist()
    mp4 = write_video(tmp_path / "a.mp4", [coded(number) for number in range(60)], options=B_FRAMES, times_ms=times_ms)
    true = 59000 / (times_ms[-1] - times_ms[0])
    found = probe(as_avi(mp4, tmp_path / "a.avi"))
    assert "it declares 600 frames a second" in found.odd
    assert found.num_frames == 60
    assert found.fps == pytest.approx(true, rel=0.05)
    assert found.times_seconds[-1] == pytest.approx(59 / found.fps, rel=1e-4)
    assert (np.diff(found.times_seconds) > 0).all()


@pytest.mark.parametrize("tag", ["Café Müller".encode("latin-1"), "咖啡".encode("gbk"), b"\xff\xfe\x00\x80"])
def test_tags_are_text_in_whatever_code(tmp_path, tag):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "T" * len(tag)
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(coded(number), format="rgb24")))
        container.mux(stream.encode())
    whole = path.read_bytes()
    assert whole.count(b"T" * len(tag)) == 1
    path.write_bytes(whole.replace(b"T" * len(tag), tag))
    assert probe(path).num_frames == 6


def test_a_rate_that_only_the_time_stamps_say_is_kept(tmp_path):
    path = write_clip(tmp_path / "slow.avi", fps=3, num_frames=9)
    assert (probe(path).fps, probe(path).odd) == (3.0, "")
