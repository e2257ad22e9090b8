"""Frames as folders of JPEGs, with the lists that other tools read."""

import json
import shutil

import numpy as np
import pytest
from making import KINDS, codes_of, write_clip
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.prepare.prepare import prepare
from muybridge.data.stores import jpegs as module
from muybridge.data.stores.jpegs import frames
from muybridge.data.stores.pack import psnr
from muybridge.errors import UserError
from muybridge.video import DecodeError, FileReader


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for number, (name, write) in enumerate(KINDS.items()):
        write(folder / "v" / "ab"[number % 2] / name)
    write_clip(folder / "v" / "a" / "mpeg4.mp4.avi", 60, 40)  # beside mpeg4.avi: another name without its ending
    write_clip(folder / "v" / "a" / "twice.avi", 70, 40)
    write_clip(folder / "v" / "a" / "twice.mkv", 80, 40)
    write_clip(folder / "v" / "b" / "with space, ünï.avi", 90, 40)
    prepare(folder / "v", out=folder / "set.csv", val=0.2, test=0.3)
    return folder / "set.csv"


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    """Their frames with a short side of 24."""
    return frames(made, out=tmp_path_factory.mktemp("written") / "f", short_side=24).path


@pytest.fixture
def copied(written, tmp_path):
    """A copy of them, to be spoiled."""
    return shutil.copytree(written, tmp_path / "f")


def test_folders_hold_the_frames(made, tmp_path):
    done = frames(made, out=tmp_path / "f", short_side=None)
    source, stored, reader = Manifest.load(made), Manifest.load(tmp_path / "f"), FileReader()
    assert done.videos == len(source)
    assert done.frames == source.columns["num_frames"].sum()
    folders = {row.path for row in map(stored.row, range(len(stored)))}
    assert len(folders) == len(source)
    for index in range(len(source)):
        before, after = source.row(index), stored.row(index)
        assert (after.id, after.num_frames, after.fps) == (before.id, before.num_frames, before.fps)
        wanted = np.array([0, 17, 39])
        expected, found = reader.read(before, wanted), reader.read(after, wanted)
        assert codes_of(found) == codes_of(expected)
        assert min(psnr(a, b) for a, b in zip(expected, found, strict=True)) > 25  # hard edges of coloured blocks
    assert (tmp_path / "f" / "a" / "twice.avi" / "00001.jpg").is_file()
    assert (tmp_path / "f" / "b" / "with space, ünï" / "00040.jpg").is_file()
    for column in ("label", "split", "sha256", "width", "height"):
        assert stored.columns[column].tolist() == source.columns[column].tolist()


def test_lists_name_path_start_end_label(written):
    stored = Manifest.load(written)
    assert (written / "classes.txt").read_text().split() == list(stored.classes)
    listed = []
    for split in ("train", "val", "test"):
        for line in (written / f"{split}.txt").read_text().splitlines():
            path, start, end, label = line.rsplit(" ", 3)
            assert (int(start), int(end)) == (1, 40)
            assert (written / path / f"{int(end):05d}.jpg").is_file()
            listed.append((path, stored.classes[int(label)], split))
    columns = [stored.text(name).tolist() for name in ("path", "label", "split")]
    assert sorted(listed) == sorted(zip(*columns, strict=True))


def test_lists_lead_back_to_the_same_set(written, tmp_path):
    lists = {f"{split}_list": written / f"{split}.txt" for split in ("train", "val", "test")}
    prepare(written, out=tmp_path / "again.csv", classes=written / "classes.txt", **lists)
    stored, again = Manifest.load(written), Manifest.load(tmp_path / "again.csv")
    columns = ("path", "label", "split", "start_frame", "num_frames", "width", "height")
    rows = [sorted(zip(*(m.columns[name].tolist() for name in columns), strict=True)) for m in (stored, again)]
    assert rows[0] == rows[1]


def test_parts_keep_their_places(tmp_path):
    write_clip(tmp_path / "v.avi", 0, 60)
    lines = [
        "path,label,split,start,end",
        "v.avi,a,train,0.4,1",
        "v.avi,b,train,0.8,2",
        "v.avi,a,test,1,2",
        "v.avi,b,test,2,2.4",
    ]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    prepare(csv=tmp_path / "l.csv", out=tmp_path / "s.csv", val=0)
    frames(tmp_path / "s.csv", out=tmp_path / "f", short_side=None)
    source, stored = Manifest.load(tmp_path / "s.csv"), Manifest.load(tmp_path / "f")
    assert len(list((tmp_path / "f" / "v").iterdir())) == 50  # 10 … 59, once
    for index in range(4):
        wanted = np.arange(source.row(index).num_frames)
        assert codes_of(FileReader().read(stored.row(index), wanted)) == codes_of(
            FileReader().read(source.row(index), wanted)
        )
    assert (tmp_path / "f" / "train.txt").read_text() == "v 1 15 0\nv 11 40 1\n"


def test_it_goes_on_where_it_stopped(made, written, copied, tmp_path, monkeypatch):
    assert copied == tmp_path / "f"
    (tmp_path / "f" / "a" / "portrait").rename(tmp_path / "f" / "a" / ".portrait.partial")
    for name in ("manifest.csv", "manifest.csv.json", "train.txt"):
        (tmp_path / "f" / name).unlink()
    coded = []
    encode = module.encode_jpeg
    monkeypatch.setattr(module, "encode_jpeg", lambda *args: coded.append(1) or encode(*args))
    frames(made, out=tmp_path / "f", short_side=24)
    assert len(coded) == 40
    contents = [
        {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}
        for root in (written, tmp_path / "f")
    ]
    assert contents[0] == contents[1]
    with pytest.raises(UserError, match="begun with short_side 24, not 32"):
        frames(made, out=tmp_path / "f", short_side=32)


def test_every_video_has_a_folder_of_its_own(tmp_path):
    """Names that are others' without their ending, or that others lie below."""
    paths = ["a/x.avi", "a/x.mkv", "a/x.avi.mkv", "b/v.avi", "b/v/w.avi", "b/v/w.mkv"]
    for number, path in enumerate(paths):
        write_clip(tmp_path / "v" / path, 10 * number, 6)
    prepare(tmp_path / "v", out=tmp_path / "s.csv", val=0, test=0.4)
    for jobs in (1, 2):
        frames(tmp_path / "s.csv", out=tmp_path / f"f{jobs}", jobs=jobs, short_side=None)
        stored = Manifest.load(tmp_path / f"f{jobs}")
        rows = [stored.row(index) for index in range(len(paths))]
        assert len({row.path for row in rows}) == len(paths)
        codes = {row.id: codes_of(FileReader().read(row, np.array([0, 5]))) for row in rows}
        assert codes == {path: [10 * number, 10 * number + 5] for number, path in enumerate(paths)}


def test_a_folder_that_is_not_whole_is_written_again(made, copied, tmp_path):
    folder = copied / "a" / "portrait"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / ".DS_Store").write_text("a visitor")
    frames(made, out=tmp_path / "f", short_side=24)
    for spoil in (
        lambda: (folder / "00003.jpg").unlink(),
        lambda: (folder / "00001.jpg").write_bytes(b""),
        lambda: [path.unlink() for path in folder.iterdir()],
    ):
        spoil()
        frames(made, out=tmp_path / "f", short_side=24)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_video_that_was_replaced_is_told(tmp_path):
    for number in range(4):
        write_clip(tmp_path / "v" / "ab"[number % 2] / f"{number}.avi", 10 * number, 6)
    prepare(tmp_path / "v", out=tmp_path / "s.csv", val=0, test=0.5)
    write_clip(tmp_path / "v" / "b" / "3.avi", 77, 6)
    with pytest.raises(DecodeError, match="has changed since it was prepared"):
        frames(tmp_path / "s.csv", out=tmp_path / "f")


def test_nothing_is_written_outside(tmp_path):
    for name in ("one", "two"):
        write_clip(tmp_path / "away" / f"{name}.avi", len(name) * 9 + ord(name[0]), 8)
    (tmp_path / "lists").mkdir()
    lines = ["path,label,split"]
    for name, path in (("one", "../away/one.avi"), ("two", str(tmp_path / "away" / "two.avi"))):
        lines += [f"{path},{name},{'train'}"]
    lines += ["../away/three.avi,one,test", "../away/four.avi,two,test"]
    for name in ("three", "four"):
        write_clip(tmp_path / "away" / f"{name}.avi", len(name) * 9 + ord(name[0]), 8)
    (tmp_path / "lists" / "l.csv").write_text("\n".join(lines))
    prepare(csv=tmp_path / "lists" / "l.csv", out=tmp_path / "s.csv", val=0)
    before = {path for path in tmp_path.rglob("*") if path.name != "f"}
    frames(tmp_path / "s.csv", out=tmp_path / "f")
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "f") for path in new)
    assert len(list((tmp_path / "f").rglob("00008.jpg"))) == 4


def test_the_command(made, tmp_path):
    command = ["frames", str(made), "--out", str(tmp_path / "f"), "--short-side", "16"]
    done = CliRunner().invoke(app, [*command, "--fps", "5", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["videos"] == len(Manifest.load(made))
    wrong = CliRunner().invoke(app, [*command, "--quality", "101"])
    assert wrong.exit_code == 2
    assert "1 to 100" in wrong.stderr
    assert "Traceback" not in wrong.stderr
