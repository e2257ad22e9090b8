"""A pack gives the frames that the videos give, survives kills, and says what is wrong with it."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from making import KINDS, code_of, coded, codes_of, uneven_times_ms, write_clip, write_video
from making_images import write_images
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.data import sampling
from muybridge.data.manifest import Manifest
from muybridge.data.prepare.prepare import prepare
from muybridge.data.random import generator
from muybridge.data.sampling import ClipSpec
from muybridge.data.stores import common
from muybridge.data.stores import pack as module
from muybridge.data.stores.common import kept_frames
from muybridge.data.stores.jpegs import frames
from muybridge.data.stores.pack import pack, psnr
from muybridge.errors import UserError
from muybridge.video import (
    DecodeError,
    FileReader,
    ForwardReader,
    RamCache,
    Row,
    packs,
)

CODECS = ["jpeg", "h264"]
every_codec = pytest.mark.parametrize("codec", CODECS)


@pytest.fixture(scope="module")
def kinds_set(tmp_path_factory):
    """A manifest of one file of every kind, under two labels, with parts of some: 40 numbered frames each."""
    folder = tmp_path_factory.mktemp("kinds")
    lines = ["path,label,start,end"]
    for number, (name, write) in enumerate(KINDS.items()):
        write(folder / name)
        lines.append(f"{name},{'ab'[number % 2]},,")
    write_clip(folder / "parts.avi", 100, 90)
    lines += ["parts.avi,a,0,1.6", "parts.avi,b,2.0,2.8", "parts.avi,a,1.2,2.4"]  # two of them overlap
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    prepare(csv=folder / "list.csv", out=folder / "set.csv", val=0, test=0.4)
    return folder / "set.csv"


@pytest.fixture(scope="module")
def packed(kinds_set, tmp_path_factory):
    """A pack for each codec, of whole size."""
    folder = tmp_path_factory.mktemp("packs")
    return {codec: pack(kinds_set, out=folder / codec, short_side=None, codec=codec).path for codec in CODECS}


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@every_codec
def test_a_pack_stands_for_its_manifest(kinds_set, packed, codec):
    source, stored = Manifest.load(kinds_set), Manifest.load(packed[codec])
    assert len(stored) == len(source) == len(KINDS) + 3
    for column in ("id", "label", "group", "sha256", "split", "num_frames", "fps", "width", "height"):
        assert stored.columns[column].tolist() == source.columns[column].tolist(), column
    assert (stored.classes, stored.mirror) == (source.classes, source.mirror)
    assert stored.sha256() != source.sha256()


@every_codec
def test_the_same_indices_give_the_same_frames(kinds_set, packed, codec):
    source, stored, reader = Manifest.load(kinds_set), Manifest.load(packed[codec]), FileReader()
    spec = ClipSpec(num_frames=4, sampling="dense", stride_frames=3)
    for index in range(len(source)):
        before, after = source.row(index), stored.row(index)
        indices = sampling.train_indices(before.num_frames, before.fps, spec, generator(0, "clip", 1, before.id))[:, 0]
        again = sampling.train_indices(after.num_frames, after.fps, spec, generator(0, "clip", 1, after.id))[:, 0]
        assert indices.tolist() == again.tolist()
        views = sampling.test_indices(after.num_frames, after.fps, spec, num_clips=3).reshape(-1)
        for wanted in (indices, views, np.array([before.num_frames - 1, 0, 0])):
            expected, found = reader.read(before, wanted), reader.read(after, wanted)
            assert found.shape == expected.shape
            assert codes_of(found) == codes_of(expected)


@every_codec
def test_parts_of_a_video_share_its_frames(packed, codec):
    stored = Manifest.load(packed[codec])
    videos = [v for path in sorted(packed[codec].glob("*.pack")) for v in packs.about(path)["videos"]]
    [parts] = [video for video in videos if len(video["rows"]) > 1]
    assert parts["num_frames"] == 70  # 0 to 2.8 s of 90 frames, once
    rows = [stored.row(i) for i in range(len(stored)) if stored.row(i).id.startswith("parts.avi")]
    firsts = [code_of(FileReader().read(row, np.array([0]))[0]) for row in rows]
    assert sorted(firsts) == [100, 130, 150]


@every_codec
def test_every_reader_reads_packs(packed, codec):
    stored = Manifest.load(packed[codec])
    rows = [stored.row(i) for i in range(len(stored))]
    for short_side in (None, 24, 96):
        reader = FileReader(short_side=short_side)
        cache, forward = RamCache(reader), ForwardReader(short_side=short_side)
        cache.fill(rows, threads=2)
        for row in rows:
            wanted = np.array([0, 3, 3, row.num_frames - 1])
            plain = reader.read(row, wanted)
            assert min(plain.shape[1:3]) == (short_side or min(plain.shape[1:3]))
            assert np.array_equal(cache.read(row, wanted), plain)
            assert np.array_equal(forward.read(row, wanted), plain)


def natural(seed, num_frames, height=120, width=160):
    """Smooth moving pictures with a little noise, as cameras make them."""
    draw = np.random.default_rng(seed)
    y_HW, x_HW = np.mgrid[:height, :width]
    waves = [(draw.uniform(0.02, 0.15, 2), draw.uniform(-0.3, 0.3), draw.uniform(10, 40, 3)) for _ in range(6)]
    for t in range(num_frames):
        picture = np.full((height, width, 3), 128.0)
        for (ky, kx), speed, amplitude_3 in waves:
            picture += np.sin(ky * y_HW + kx * x_HW + speed * t)[..., None] * amplitude_3 / 2
        yield np.clip(picture + draw.normal(0, 1.5, (height, width, 1)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def natural_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("natural")
    for number in range(6):
        write_video(folder / "ab"[number % 2] / f"{number}.mp4", list(natural(number, 30)), options={"g": "12"})
    prepare(folder, out=folder / "set.csv", val=0, test=0.4)
    return folder / "set.csv"


@pytest.mark.parametrize("short_side", [None, 64])
def test_jpeg_frames_are_within_35_db_of_the_source(natural_set, tmp_path, short_side):
    told = pack(natural_set, out=tmp_path / "p", short_side=short_side).psnr_db
    source, stored, reader = Manifest.load(natural_set), Manifest.load(tmp_path / "p"), FileReader(short_side)
    found = []
    for index in range(len(source)):
        row = source.row(index)
        every = np.arange(row.num_frames)
        before, after = reader.read(row, every), FileReader().read(stored.row(index), every)
        found += [psnr(a, b) for a, b in zip(before, after, strict=True)]
    assert min(found) >= 35
    assert told["least"] == pytest.approx(min(found), abs=1.0)
    assert told["mean"] == pytest.approx(np.mean(found), abs=0.5)


def test_psnr_by_its_definition():
    a, b = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 16, np.uint8)
    assert psnr(a, b) == pytest.approx(20 * np.log10(255 / 16), abs=1e-4)
    assert psnr(b, b) == 100


def test_h264_takes_a_quarter_of_the_bytes(natural_set, tmp_path):
    jpeg = pack(natural_set, out=tmp_path / "jpeg", short_side=None)
    h264 = pack(natural_set, out=tmp_path / "h264", short_side=None, codec="h264")
    assert h264.bytes <= jpeg.bytes / 4
    assert h264.psnr_db["least"] > 33


def test_quality_is_the_codecs_own(natural_set, tmp_path):
    sizes = {}
    for codec, low, high in (("jpeg", 40, 95), ("h264", 35, 15)):
        for quality in (low, high):
            out = tmp_path / f"{codec}{quality}"
            sizes[quality] = pack(natural_set, out=out, codec=codec, quality=quality, short_side=None).bytes
        assert sizes[low] < 0.6 * sizes[high]


@every_codec
def test_any_number_of_jobs_gives_the_same_bytes(kinds_set, tmp_path, monkeypatch, codec):
    monkeypatch.setattr(module, "FILE_BYTES", 60_000 if codec == "jpeg" else 9_000)
    for jobs in (1, 3):
        pack(kinds_set, out=tmp_path / str(jobs), short_side=32, codec=codec, jobs=jobs)
    assert digests(tmp_path / "1") == digests(tmp_path / "3")
    assert len(list((tmp_path / "1").glob("*.pack"))) > 2


@every_codec
def test_calls_that_share_a_pack_write_the_same_bytes(kinds_set, tmp_path, monkeypatch, codec):
    """In any order, one of them stopped and repeated; each video is coded once."""
    monkeypatch.setattr(module, "FILE_BYTES", 60_000 if codec == "jpeg" else 9_000)
    monkeypatch.setattr(module, "PART_BYTES", 20_000 if codec == "jpeg" else 3_000)
    asked = {"short_side": 32, "codec": codec, "jobs": 1}
    pack(kinds_set, out=tmp_path / "one", **asked)
    real, coded_names, out = module._code, [], tmp_path / "three"

    def code(source, indices, *others):
        coded_names.append(common.video_name(source, indices))
        if len(coded_names) == 3 and "stopped" not in coded_names:
            coded_names.append("stopped")
            raise KeyboardInterrupt
        return real(source, indices, *others)

    monkeypatch.setattr(module, "_code", code)
    with pytest.raises(KeyboardInterrupt, match="Rerun the same command"):
        pack(kinds_set, out=out, shard="2/3", **asked)
    for shard in ("3/3", "2/3", "2/3"):
        assert not pack(kinds_set, out=out, shard=shard, **asked).finished
    last = pack(kinds_set, out=out, shard="1/3", **asked)
    assert last.finished
    assert digests(out) == digests(tmp_path / "one")
    assert not list(out.glob(".parts*"))
    assert pack(kinds_set, out=out, shard="2/3", **asked).bytes == last.bytes, "late, and nothing is done again"
    assert len(coded_names) <= len(set(coded_names)) + 3, "what was finished before the stop is not coded again"
    with pytest.raises(UserError, match="--shard: '4/3' is not i/n"):
        pack(kinds_set, out=out, shard="4/3", **asked)
    with pytest.raises(UserError, match="Give fewer shares"):
        pack(kinds_set, out=tmp_path / "many", shard="1/999", **asked)


# Frame rates


def row_of(num_frames, fps, start=0, *, path="none", seekable=False):
    return Row("r", str(path), start, num_frames, fps, seekable)


def test_of_every_interval_the_first_frame_is_kept():
    assert kept_frames([row_of(20, 25.0)], 10).tolist() == [0, 3, 5, 8, 10, 13, 15, 18]
    assert kept_frames([row_of(12, 30.0)], 10).tolist() == [0, 3, 6, 9]
    assert kept_frames([row_of(5, 10.0)], 30).tolist() == [0, 1, 2, 3, 4]  # never more than there are
    assert kept_frames([row_of(6, 30.0, start=7)], 15).tolist() == [7, 9, 11]
    assert kept_frames([row_of(4, 25.0), row_of(3, 25.0, start=2)], None).tolist() == [0, 1, 2, 3, 4]


def test_what_lies_between_parts_is_not_stored(tmp_path):
    rows = [row_of(3, 30.0, start=100), row_of(4, 30.0, start=2)]
    assert kept_frames(rows, None).tolist() == [2, 3, 4, 5, 100, 101, 102]
    assert kept_frames(rows, 15).tolist() == [2, 4, 100, 102]
    write_clip(tmp_path / "v.avi", 0, 200)
    lines = ["path,label,split,start,end"]
    lines += [f"v.avi,{'ab'[i % 2]},{'train' if i < 2 else 'test'},{2 * i},{2 * i + 0.4}" for i in range(4)]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    prepare(csv=tmp_path / "l.csv", out=tmp_path / "s.csv", val=0)
    assert pack(tmp_path / "s.csv", out=tmp_path / "p", short_side=None).frames == 40
    source, stored = Manifest.load(tmp_path / "s.csv"), Manifest.load(tmp_path / "p")
    for index in range(4):
        wanted = np.array([9, 0])
        assert codes_of(FileReader().read(stored.row(index), wanted)) == [50 * index + 9, 50 * index]
        assert source.row(index).start_frame == 50 * index


def test_times_count_where_frame_rates_vary(tmp_path):
    times_ms = uneven_times_ms(40)
    path = write_video(tmp_path / "v.mp4", [coded(i) for i in range(40)], times_ms=times_ms, options={"bf": "2"})
    expected, last = [], -1
    for i, ms in enumerate(times_ms):
        if ms * 5 // 1000 > last:
            expected.append(i)
            last = ms * 5 // 1000
    assert kept_frames([row_of(40, 16.0, path=path, seekable=True)], 5).tolist() == expected


@every_codec
def test_fewer_frames_a_second(kinds_set, tmp_path, codec):
    done = pack(kinds_set, out=tmp_path / "p", short_side=None, fps=5, codec=codec)
    source, stored = Manifest.load(kinds_set), Manifest.load(done.path)
    assert done.frames < source.columns["num_frames"].sum() / 3
    for index in range(len(source)):
        before, after = source.row(index), stored.row(index)
        seconds = before.num_frames / before.fps
        assert after.num_frames == pytest.approx(5 * seconds, abs=1.01)
        assert after.num_frames / after.fps == pytest.approx(seconds, rel=0.02)
        codes = codes_of(FileReader().read(after, np.arange(after.num_frames)))
        whole = codes_of(FileReader().read(before, np.arange(before.num_frames)))
        assert codes == [code for code in whole if code in codes]  # a part of the source, in order
        if before.start_frame == 0 and not before.path.endswith("vfr.mp4"):
            assert codes == whole[::5]


def test_a_part_shorter_than_the_interval_keeps_a_frame_of_its_own(tmp_path):
    write_clip(tmp_path / "v.avi", 0, 60)
    (tmp_path / "l.csv").write_text(
        "path,label,split,start,end\nv.avi,a,train,0,1\nv.avi,b,train,1.1,1.3\nv.avi,a,test,1.5,2.4\nv.avi,b,test,0.5,2\n"
    )
    prepare(csv=tmp_path / "l.csv", out=tmp_path / "s.csv", val=0)
    pack(tmp_path / "s.csv", out=tmp_path / "p", fps=1, short_side=None)
    source, stored = Manifest.load(tmp_path / "s.csv"), Manifest.load(tmp_path / "p")
    for index in range(len(stored)):
        first, row = source.row(index).start_frame, stored.row(index)
        codes = codes_of(FileReader().read(row, np.arange(row.num_frames)))
        assert codes
        assert all(first <= code < first + source.row(index).num_frames for code in codes)


# Stopped, and what is wrong


def command(*arguments):
    return [sys.executable, "-m", "muybridge", "pack", *map(str, arguments)]


def many(folder, count=24, num_frames=30):
    for number in range(count):
        write_clip(folder / "v" / "ab"[number % 2] / f"{number}.avi", number, num_frames, height=96, width=128)
    prepare(folder / "v", out=folder / "set.csv", val=0, test=0.3)
    return folder / "set.csv"


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A manifest of six videos."""
    return many(tmp_path_factory.mktemp("six"), count=6)


SMALL_FILES = "import muybridge.data.stores.pack as p; p.FILE_BYTES = 150_000; import muybridge.cli.app as c; c.main()"
"""The command with files so small that there are several."""


def killed(manifest, out, options, moments):
    """The command that was killed, seconds after it began, as often as there are moments; and the number of kills."""
    started = [sys.executable, "-c", SMALL_FILES, "pack", str(manifest), "--out", str(out), *options]
    kills = 0
    for seconds in moments:
        process = subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (out / "pack.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(seconds)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    return started, kills


def killed_and_finished(manifest, out, options, moments, undisturbed):
    started, kills = killed(manifest, out, options, moments)
    assert subprocess.run(started, capture_output=True).returncode == 0
    assert digests(out) == undisturbed
    return kills


@pytest.mark.slow
@every_codec
def test_ten_kills_leave_no_trace(tmp_path, codec):
    manifest, options = many(tmp_path, count=240, num_frames=60), ["--codec", codec, "--short-side", "128"]
    started = [sys.executable, "-c", SMALL_FILES, "pack", str(manifest), *options, "--out"]
    before = time.monotonic()
    subprocess.run([*started, str(tmp_path / "whole")], check=True, capture_output=True)
    took = time.monotonic() - before
    undisturbed = digests(tmp_path / "whole")
    assert len(list((tmp_path / "whole").glob("*.pack"))) > 5
    draw, kills = random.Random(0), 0
    for attempt in range(10):
        moments = [draw.uniform(0, took - 0.4)]
        kills += killed_and_finished(manifest, tmp_path / str(attempt), options, moments, undisturbed)
    assert kills >= 8  # the others came too late
    kills = killed_and_finished(
        manifest, tmp_path / "often", options, [draw.uniform(0, took / 5) for _ in range(10)], undisturbed
    )
    assert kills >= 5


def test_a_kill_leaves_no_trace(tmp_path, monkeypatch):
    manifest = many(tmp_path)
    assert killed(manifest, tmp_path / "killed", [], [0.05])[1] == 1
    monkeypatch.setattr(module, "FILE_BYTES", 150_000)
    for name in ("killed", "whole"):
        pack(manifest, out=tmp_path / name)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_whole_files_are_kept_and_the_rest_is_done_again(tmp_path, monkeypatch):
    """A stop between any two files, and in the middle of one."""
    monkeypatch.setattr(module, "FILE_BYTES", 120_000)
    manifest = many(tmp_path, count=12)
    pack(manifest, out=tmp_path / "whole")
    undisturbed = digests(tmp_path / "whole")
    num_files = len(list((tmp_path / "whole").glob("*.pack")))
    assert num_files > 3
    coded_videos = []
    code = module._code
    for stop_after in range(num_files):
        out = tmp_path / f"p{stop_after}"
        shutil.copytree(tmp_path / "whole", out)
        for path in (*sorted(out.glob("*.pack"))[stop_after:], out / "manifest.csv", out / "manifest.csv.json"):
            path.unlink()
        about = json.loads((out / "pack.json").read_text())
        for name in ("frames", "bytes", "psnr_db", "files"):
            del about[name]
        (out / "pack.json").write_text(json.dumps({**about, "finished": False}))
        (out / f".frames-{stop_after:05d}.pack.partial").write_bytes(b"half a file")
        coded_videos.clear()
        monkeypatch.setattr(module, "_code", lambda *args: coded_videos.append(1) or code(*args))
        pack(manifest, out=out)
        monkeypatch.setattr(module, "_code", code)
        assert digests(out) == undisturbed
        assert (len(coded_videos) == 12) == (stop_after == 0)


def test_ctrl_c_says_how_to_go_on(tmp_path):
    manifest = many(tmp_path, count=24, num_frames=120)
    out = tmp_path / "p"
    process = subprocess.Popen(command(manifest, "--out", out, "--codec", "h264"), stderr=subprocess.PIPE, text=True)
    while not (out / "pack.json").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Rerun the same command to resume" in said
    assert "Traceback" not in said


def test_a_finished_pack_is_checked(six, tmp_path):
    manifest = six
    first = pack(manifest, out=tmp_path / "p")
    before = digests(tmp_path / "p")
    again = pack(manifest, out=tmp_path / "p")
    assert (again.frames, again.bytes, again.psnr_db) == (first.frames, first.bytes, first.psnr_db)
    assert digests(tmp_path / "p") == before
    path = tmp_path / "p" / "frames-00000.pack"
    whole = path.read_bytes()
    table = whole.index(b'{"format_version"') - 100
    for place, told in (
        (5000, "not those that were written"),
        (table, "not those"),
        (len(whole) - 40, "damaged|not the"),
    ):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(UserError, match=told):
            pack(manifest, out=tmp_path / "p")


def test_a_finished_pack_whose_manifest_is_gone_or_wrong(six, tmp_path):
    manifest = six
    pack(manifest, out=tmp_path / "p")
    before = digests(tmp_path / "p")
    (tmp_path / "p" / "manifest.csv").unlink()
    with pytest.raises(UserError, match=r"`muybridge pack` has not finished it"):
        Manifest.load(tmp_path / "p")
    pack(manifest, out=tmp_path / "p")
    assert digests(tmp_path / "p") == before
    written = (tmp_path / "p" / "manifest.csv").read_text()
    (tmp_path / "p" / "manifest.csv").write_text(written.replace(",30,30,", ",60,30,"))
    with pytest.raises(UserError, match=r"start_frame of '.*' is not what the pack's files say"):
        pack(manifest, out=tmp_path / "p")
    (tmp_path / "p" / "manifest.csv").write_text(written.replace("train", "val", 1))  # edited by hand, as it may be
    pack(manifest, out=tmp_path / "p")


def test_a_kill_before_the_first_file_is_whole(six, tmp_path):
    manifest = six
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / ".pack.json.partial").write_text("{")
    (tmp_path / "p" / ".lock").touch()
    assert pack(manifest, out=tmp_path / "p").finished
    (tmp_path / "p" / "pack.json").write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        pack(manifest, out=tmp_path / "p")


def test_what_was_begun_meanwhile_is_seen(six, tmp_path, monkeypatch):
    """Another call finishes between the first look and the lock."""
    manifest = six
    videos_of = module.videos_of

    def meanwhile(source):
        monkeypatch.setattr(module, "videos_of", videos_of)
        pack(manifest, out=tmp_path / "p", short_side=48)
        return videos_of(source)

    monkeypatch.setattr(module, "videos_of", meanwhile)
    with pytest.raises(UserError, match="begun with short_side 48, not 32"):
        pack(manifest, out=tmp_path / "p", short_side=32)


def test_folders_and_arrays_that_changed_are_told(tmp_path):
    for number in range(6):
        write_images(tmp_path / "v" / "ab"[number % 2] / str(number), first=number * 9, num_frames=6)
    prepare(tmp_path / "v", out=tmp_path / "images.csv", val=0, test=0.4)
    pack(tmp_path / "images.csv", out=tmp_path / "p", short_side=None)
    image = tmp_path / "v" / "a" / "4" / "img_00003.jpg"
    image.write_bytes((tmp_path / "v" / "a" / "2" / "img_00001.jpg").read_bytes())
    for write in (pack, frames):
        with pytest.raises(DecodeError, match="has changed since it was prepared"):
            write(tmp_path / "images.csv", out=tmp_path / f"again-{write.__name__}")
    clips_NTHW3 = np.stack([np.stack([coded(9 * n + t) for t in range(5)]) for n in range(6)])
    np.save(tmp_path / "clips.npy", clips_NTHW3)
    prepare(arrays=tmp_path / "clips.npy", labels=[0, 1] * 3, out=tmp_path / "arrays.csv", val=0, test=0.4)
    pack(tmp_path / "arrays.csv", out=tmp_path / "q", short_side=None)
    clips_NTHW3[3, 2] = 7
    np.save(tmp_path / "clips.npy", clips_NTHW3)
    with pytest.raises(DecodeError, match="has changed since it was prepared"):
        pack(tmp_path / "arrays.csv", out=tmp_path / "again")


def test_hard_colours_are_told(tmp_path, capsys):
    draw = np.random.default_rng(0)
    for number in range(4):
        noise = [draw.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(4)]
        write_video(tmp_path / "v" / "ab"[number % 2] / f"{number}.mkv", noise, codec="ffv1", pixels="bgr0")
    prepare(tmp_path / "v", out=tmp_path / "s.csv", val=0, test=0.5)
    assert pack(tmp_path / "s.csv", out=tmp_path / "p").psnr_db["least"] < 35
    assert "warning: the worst of the compared frames" in " ".join(capsys.readouterr().err.split())


def test_the_estimate_is_near_and_writes_nothing(natural_set, tmp_path):
    told = pack(natural_set, out=tmp_path / "p", dry_run=True)
    assert not (tmp_path / "p").exists()
    done = pack(natural_set, out=tmp_path / "p")
    assert not told.finished
    assert (told.videos, told.rows, told.frames) == (done.videos, done.rows, done.frames)
    assert told.bytes == pytest.approx(done.bytes, rel=0.1)


def test_a_full_disk_is_told_before(natural_set, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"needed\. Use a smaller --short-side"):
        pack(natural_set, out=tmp_path / "p")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"codec": "jpg"}, "Did you mean 'jpeg'"),
        ({"quality": 0}, "Give 1 to 100 for jpeg"),
        ({"codec": "h264", "quality": 90}, "Give 0 to 51 for h264"),
        ({"short_side": 0}, "Give 1 to 4096 pixels"),
        ({"fps": 0.0}, "above 0"),
        ({"fps": float("nan")}, "above 0"),
        ({"fps": float("inf")}, "above 0"),
        ({"short_side": 100_000}, "Give 1 to 4096 pixels"),
    ],
)
def test_what_cannot_be_is_told(natural_set, tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        pack(natural_set, out=tmp_path / "p", **options)
    assert not (tmp_path / "p").exists()


def test_another_folder_or_form_is_refused(natural_set, kinds_set, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="not empty and holds no pack"):
        pack(natural_set, out=tmp_path / "mine")
    with pytest.raises(UserError, match="is a file"):
        pack(natural_set, out=tmp_path / "mine" / "thesis.txt")
    pack(natural_set, out=tmp_path / "p", short_side=32)
    with pytest.raises(UserError, match="begun with short_side 32, not 48"):
        pack(natural_set, out=tmp_path / "p", short_side=48)
    with pytest.raises(UserError, match="begun with another manifest"):
        pack(kinds_set, out=tmp_path / "p", short_side=32)
    with pytest.raises(UserError, match="no such manifest"):
        pack(tmp_path / "none.csv", out=tmp_path / "q")


def test_a_video_that_vanished_or_changed_stops_it_until_it_is_mended(tmp_path):
    manifest = many(tmp_path, count=8)
    victim = tmp_path / "v" / "a" / "4.avi"
    kept = victim.read_bytes()
    victim.unlink()
    with pytest.raises(DecodeError, match=r"4\.avi: No such file"):
        pack(manifest, out=tmp_path / "p")
    write_clip(victim, 500, 30, height=96, width=128)
    with pytest.raises(DecodeError, match="has changed since it was prepared"):
        pack(manifest, out=tmp_path / "p")
    victim.write_bytes(kept)
    assert pack(manifest, out=tmp_path / "p").videos == 8


def test_a_file_of_a_pack_says_what_is_wrong_with_it(packed, tmp_path):
    [path, *_] = sorted(packed["jpeg"].glob("*.pack"))
    whole = path.read_bytes()
    row = Row("r", str(tmp_path / "x.pack"), 0, 10, 25.0)
    for content, told in (
        (whole[:-1], "an incomplete one"),
        (b"", "an incomplete one"),
        (whole[: len(whole) // 2], "an incomplete one"),
    ):
        (tmp_path / "x.pack").write_bytes(content)
        with pytest.raises(DecodeError, match=told):
            FileReader().read(row, np.array([0]))
    (tmp_path / "x.pack").write_bytes(bytes(300) + whole[300:])
    with pytest.raises(DecodeError, match=r"x\.pack: frames \[0\] cannot be decoded"):
        FileReader().read(row, np.array([0]))
    (tmp_path / "x.pack").unlink()
    with pytest.raises(DecodeError, match="No such file"):
        FileReader().read(row, np.array([0]))
    with pytest.raises(DecodeError, match=r"frame 9999 was asked for, but it holds \d+ frames"):
        packs.read_frames(str(path), [9999])
    with pytest.raises(ValueError, match="frame indices"):
        packs.read_frames(str(path), [-1])


def test_open_files_are_few(packed):
    """Files of packs that are not read any more are closed."""
    [path, *_] = sorted(packed["jpeg"].glob("*.pack"))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(300):
        os.utime(path)
        packs.read_frames(str(path), [0])
    packs._cached_file.cache_clear()
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after <= before + 2


def test_a_pack_can_be_packed_again(natural_set, tmp_path):
    pack(natural_set, out=tmp_path / "large", short_side=96)
    pack(tmp_path / "large", out=tmp_path / "small", short_side=48)
    source, stored = Manifest.load(natural_set), Manifest.load(tmp_path / "small")
    assert stored.columns["height"].tolist() == [48] * 6
    for index in range(6):
        before = FileReader(48).read(source.row(index), np.array([0, 29]))
        after = FileReader().read(stored.row(index), np.array([0, 29]))
        assert min(psnr(a, b) for a, b in zip(before, after, strict=True)) > 28


def test_json_and_exit_codes(natural_set, tmp_path):
    def call(*options):
        return CliRunner().invoke(app, ["pack", str(natural_set), "--out", str(tmp_path / "p"), "--json", *options])

    done = call()
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert told["finished"]
    assert {"videos", "rows", "frames", "bytes", "files", "psnr_db", "seconds", "path"} <= told.keys()
    wrong = call("--codec", "h265")
    assert wrong.exit_code == 2
    assert "h264" in json.loads(wrong.stdout)["error"]
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("value", [10**13, 2**63 + 1, 2**64 - 1])
def test_a_table_of_frames_that_lies_is_told(packed, tmp_path, value):
    """It would ask for terabytes, or for less than nothing."""
    path = Path(shutil.copy(next(packed["jpeg"].glob("*.pack")), tmp_path))
    num_frames, json_bytes, _ = packs._TAIL.unpack(path.read_bytes()[-packs._TAIL.size :])
    data = bytearray(path.read_bytes())
    table = len(data) - packs._TAIL.size - json_bytes - (8 * (num_frames + 1) + num_frames)
    for index in range(0, num_frames, 2):
        data[table + 8 * index : table + 8 * index + 8] = value.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(DecodeError, match="its table of frames is damaged"):
        packs.read_frames(str(path), [0])
    with pytest.raises(DecodeError, match="its table of frames is damaged"):
        packs.read_frames(str(path), [1])
