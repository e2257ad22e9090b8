"""Files of annotated events: their columns, their faults by line, and which video a name means."""

import json

import pytest

from muybridge.data.annotations import Annotation, read_annotations
from muybridge.errors import UserError

CLASSES = ("run", "jump")


def read(tmp_path, text, name="truth.csv"):
    (tmp_path / name).write_text(text)
    return read_annotations(tmp_path / name, CLASSES)


def test_events_by_video(tmp_path):
    found = read(tmp_path, "video,start_seconds,end_seconds,label\na,1,2.5,run\nb,0,1,jump\na,3,3,jump\nc,,,\n")
    assert found.events == {
        "a": [Annotation(1, 2.5, "run"), Annotation(3, 3, "jump")],
        "b": [Annotation(0, 1, "jump")],
        "c": [],
    }


def test_other_names_of_columns_and_other_separators(tmp_path):
    assert read(tmp_path, "label;path;start;end\nrun;a;1;2\n").events == {"a": [Annotation(1, 2, "run")]}


def test_activitynet_json(tmp_path):
    database = {"v1": {"subset": "validation", "annotations": [
        {"label": "run", "segment": [1.5, 2.0]}, {"label": "jump", "segment": [4, 5]},
    ]}}  # fmt: skip
    found = read(tmp_path, json.dumps({"version": "1.3", "database": database}), "truth.json")
    assert found.events == {"v1": [Annotation(1.5, 2, "run"), Annotation(4, 5, "jump")]}


@pytest.mark.parametrize(
    ("line", "message"),
    [("a,1,2,runn", "line 3: class 'runn'.*Did you mean 'run'"), ("a,2,1,run", "line 3: it ends at 1 s, before"),
     ("a,x,2,run", "line 3: start: 'x' is not a time"), ("a,1,nan,run", "line 3: end: 'nan' is not a time"),
     ("a,-1,2,run", "line 3: start: '-1'"), (",1,2,run", "line 3: it names no video"), ("a,,2,run", "line 3: start: ''"),
     ("a,1,2,", "line 3: class ''"), ("a,1", "line 3: class ''")],
)  # fmt: skip
def test_faults_are_named_by_their_line(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, f"video,start,end,label\na,1,2,run\n{line}\n")


def test_a_file_without_columns_or_rows(tmp_path):
    with pytest.raises(UserError, match="it lacks the column end_seconds, label"):
        read(tmp_path, "video,start\na,1\n")
    with pytest.raises(UserError, match="no rows"):
        read(tmp_path, "video,start,end,label\n")
    with pytest.raises(UserError, match=r"none\.csv: it cannot be read"):
        read_annotations(tmp_path / "none.csv", CLASSES)


def test_a_video_is_named_by_its_path_its_name_or_its_stem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = read(tmp_path, "video,start,end,label\nday/a.mp4,1,2,run\nb.mp4,2,3,run\nc,3,4,run\n")
    videos = [str(tmp_path / "day" / "a.mp4"), "else/b.mp4", "/x/c.avi", "d.mp4"]
    assert [None if e is None else e[0].start_seconds for e in found.of(videos)] == [1, 2, 3, None]


def test_a_path_goes_from_the_files_folder_too(tmp_path):
    (tmp_path / "long").mkdir()
    found = read(tmp_path, "video,start,end,label\na.mp4,1,2,run\n", "long/truth.csv")
    assert found.of([str(tmp_path / "long" / "a.mp4")]) == [[Annotation(1, 2, "run")]]


def test_a_name_that_fits_two_videos_is_refused(tmp_path):
    found = read(tmp_path, "video,start,end,label\na.mp4,1,2,run\n")
    with pytest.raises(UserError, match=r"'a\.mp4' may be /x/a\.mp4 or /y/a\.mp4"):
        found.of(["/x/a.mp4", "/y/a.mp4"])


def test_a_file_of_other_videos_is_refused(tmp_path):
    found = read(tmp_path, "video,start,end,label\na.mp4,1,2,run\n")
    with pytest.raises(UserError, match=r"names none of the videos, but 'a\.mp4'"):
        found.of(["/x/b.mp4"])
