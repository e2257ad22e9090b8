"""`muybridge.show`: the videos that are asked for, in their frames, wherever they are looked at."""

import json
import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from making import write_video
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.data.manifest import Manifest, from_columns
from muybridge.errors import UserError
from muybridge.video.jpeg import decode_jpeg
from muybridge.video.readers import FileReader

EVIL = '<script>alert("1")</script>'


class Tags(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_a_class_gets_as_many_as_asked_and_more_begin_with_the_same(made_set):
    manifest = Manifest.load(made_set)
    one, three = muybridge.show(made_set), muybridge.show(made_set, videos=3)
    label_of = dict(zip(manifest.text("id").tolist(), manifest.text("label").tolist(), strict=True))
    train = set(manifest.text("id", manifest.split("train")).tolist())
    assert [clip.label for clip in one.clips] == list(manifest.classes)
    assert all(clip.label == label_of[clip.id] and clip.id in train for clip in three.clips)
    firsts = {clip.label: clip.id for clip in reversed(three.clips)}
    assert firsts == {clip.label: clip.id for clip in one.clips}
    assert len({clip.id for clip in three.clips}) == len(three.clips) == 3 * len(manifest.classes)
    assert muybridge.show(made_set) == one
    others = {tuple(clip.id for clip in muybridge.show(made_set, seed=seed).clips) for seed in range(4)}
    assert len(others) == 4
    assert {clip.id for clip in muybridge.show(made_set, split="test", videos=9).clips} == set(
        manifest.text("id", manifest.split("test")).tolist()
    )


def test_a_strip_is_the_frames_of_its_video_evenly_from_first_to_last(made_set):
    manifest = Manifest.load(made_set)
    name = str(manifest.text("id")[7])
    [clip] = muybridge.show(made_set, ids=[name], frames=4, height=64).clips
    strip = decode_jpeg(clip.jpeg).astype(float)
    assert strip.shape == (64, 4 * 64 + 3 * 2, 3)
    row = manifest.row(7)
    frames = FileReader(short_side=64).read(row, np.array([0, 8, 15, 23])).astype(float)
    for number, frame in enumerate(frames):
        errors = [np.abs(strip[:, place * 66 : place * 66 + 64] - frame).mean() for place in range(4)]
        assert np.argmin(errors) == number
        assert errors[number] < 8


def test_ids_come_in_their_order_and_labels_alone(made_set):
    manifest = Manifest.load(made_set)
    names = manifest.text("id")[[40, 3, 22]].tolist()
    assert [clip.id for clip in muybridge.show(made_set, ids=names).clips] == names
    shown = muybridge.show(made_set, labels=["shrink", "grow"], videos=2)
    assert [clip.label for clip in shown.clips] == ["shrink"] * 2 + ["grow"] * 2
    assert [row["id"] for row in shown.as_rows()] == [clip.id for clip in shown.clips]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"labels": ["shrik"]}, "'shrik' is not a class.*'shrink'"),
        ({"ids": ["none.mp4"]}, "no video 'none.mp4'"),
        ({"ids": []}, "none is given"),
        ({"ids": ["a"], "labels": ["grow"]}, "one of the two"),
        ({"split": "tset"}, "'tset' is unknown"),
        ({"split": "unused"}, "no video of these classes"),
        ({"fold": 1}, "no fold 1"),
        ({"videos": 0}, "--videos 0"),
        ({"frames": 65}, "--frames 65"),
        ({"height": 0}, "--height 0"),
        ({"out": "clips.txt"}, "not one .html file"),
    ],
)
def test_mistakes_are_named(made_set, asked, told):
    with pytest.raises(UserError, match=told):
        muybridge.show(made_set, **asked)


@pytest.fixture
def odd(tmp_path):
    """A set of two classes whose names are markup; of four videos one is gone and one is no video."""
    label = [EVIL, EVIL, "b", "b"]
    names = [f"{number}.mp4" for number in range(4)]
    for name in (names[0], names[2]):
        write_video(tmp_path / name, np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), np.uint8))
    (tmp_path / names[3]).write_bytes(b"no video at all")
    columns = {
        "id": [f"{EVIL}{name}" for name in names], "path": names, "start_frame": [0] * 4, "num_frames": [9] * 4, "label": label,
        "group": [""] * 4, "fps": [25.0] * 4, "width": [64] * 4, "height": [48] * 4, "sha256": names, "split": ["train"] * 4,
    }  # fmt: skip
    path = tmp_path / "set.csv"
    from_columns(columns, classes=(EVIL, "b"), root=tmp_path, mirror={}, where="set").save(path)
    return path


def test_a_video_that_cannot_be_read_is_named_everywhere(odd, tmp_path):
    shown = muybridge.show(odd, videos=2, out=tmp_path / "clips.html")
    assert sorted(clip.id for clip in shown.unread) == [f"{EVIL}1.mp4", f"{EVIL}3.mp4"]
    page = Tags(re.sub(r"<script.*?</script>", "", (tmp_path / "clips.html").read_text(), flags=re.S))
    for text in (Tags(shown._repr_html_()).text, page.text.replace("\u200b", ""), str(shown)):
        for name in ("1.mp4", "3.mp4"):
            assert name in text
    assert sum(tag == "img" for tag, _ in Tags(shown._repr_html_()).tags) == 2
    with pytest.raises(UserError, match="no video can be shown"):
        muybridge.show(odd, ids=[clip.id for clip in shown.unread])


def test_names_run_nothing_and_nothing_is_fetched(odd, tmp_path):
    shown = muybridge.show(odd, videos=2, out=tmp_path / "clips.html")
    page = (tmp_path / "clips.html").read_text()
    assert EVIL not in page
    for text in (shown._repr_html_(), page):
        for tag, values in Tags(text).tags:
            assert not {"onclick", "onload", "onerror"} & values.keys()
            for name in ("src", "href"):
                assert values.get(name, "#").startswith(("data:image/", "#")), (tag, values)
    assert "script" not in {tag for tag, _ in Tags(shown._repr_html_()).tags}


def test_a_page_is_written_over_ours_only(made_set, tmp_path):
    page = tmp_path / "new" / "clips.html"
    muybridge.show(made_set, out=page, labels=["grow"])
    assert muybridge.show(made_set, labels=["grow", "shrink"]).save(page) == page
    assert page.read_text().count("data:image/jpeg") == 2
    theirs = tmp_path / "mine.html"
    theirs.write_text("mine")
    with pytest.raises(UserError, match="not such a page of muybridge's"):
        muybridge.show(made_set, out=theirs)
    assert theirs.read_text() == "mine"


def test_a_store_of_vectors_shows_its_videos_and_a_pack_its_frames(made_set, run, tmp_path):
    name = str(Manifest.load(made_set).text("id")[0])
    muybridge.features(run.path, data=made_set, out=tmp_path / "vectors")
    muybridge.pack(made_set, out=tmp_path / "packed", short_side=64)
    [video], [vector], [packed] = (
        muybridge.show(data, ids=[name], height=64).clips
        for data in (made_set, tmp_path / "vectors", tmp_path / "packed")
    )
    assert vector.jpeg == video.jpeg
    difference = decode_jpeg(packed.jpeg).astype(float) - decode_jpeg(video.jpeg)
    assert np.abs(difference).mean() < 4


def test_the_command_writes_what_the_verb_shows(made_set, tmp_path):
    out = tmp_path / "clips.html"
    words = ["show", str(made_set), "--out", str(out), "--label", "grow", "--label", "shrink", "--videos", "2"]
    printed = CliRunner().invoke(app, words)
    assert printed.exit_code == 0, printed.output
    shown = muybridge.show(made_set, labels=["grow", "shrink"], videos=2)
    assert all(clip.id in printed.stdout for clip in shown.clips)
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert told == {**json.loads(json.dumps(shown.as_json())), "page": str(out)}
    assert out.read_text().count("data:image/jpeg") == 4


def test_a_page_that_is_not_of_show_is_kept(made_set, tmp_path):
    mine = tmp_path / "thesis.html"
    for text in ("<html>Made by muybridge? my thesis</html>", "<!doctype html>\n<p><footer>Made by muybridge "):
        mine.write_text(text)
        if "footer" in text:  # another page of ours
            mine.write_text(f'<!doctype html>\n<meta name="generator" content="muybridge report"><style>{text}')
        before = mine.read_bytes()
        with pytest.raises(UserError, match="it is there already"):
            muybridge.show(made_set, out=mine)
        assert mine.read_bytes() == before
    page = tmp_path / "clips.html"
    muybridge.show(made_set, out=page)
    muybridge.show(made_set, videos=2, out=page)  # its own is written again


def test_a_pipe_is_named_and_never_read(made_set, tmp_path):
    os.mkfifo(tmp_path / "clips.html")
    with pytest.raises(UserError, match="not a regular file"):
        muybridge.show(made_set, out=tmp_path / "clips.html")
    shutil.copytree(made_set.parent, tmp_path / "set")
    name = muybridge.show(made_set).clips[0].id
    (tmp_path / "set" / name).unlink()
    os.mkfifo(tmp_path / "set" / name)
    shown = muybridge.show(tmp_path / "set" / made_set.name)
    assert "not a regular file" in shown.clips[0].problem
    assert not any(clip.problem for clip in shown.clips[1:])


def test_a_strip_that_no_jpeg_holds_is_named_and_others_are_shown(tmp_path):
    for name, shape in (("sound", (9, 48, 64, 3)), ("wide", (9, 2, 180, 3))):
        write_video(tmp_path / "videos" / "a" / f"{name}.mp4", np.zeros(shape, np.uint8))
    muybridge.prepare(tmp_path / "videos", out=tmp_path / "set.csv", all_as="test")
    sound, wide = muybridge.show(tmp_path / "set.csv", split="all", ids=["a/sound.mp4", "a/wide.mp4"]).clips
    assert sound.jpeg
    assert "pixels wide, more than a JPEG may be" in wide.problem
