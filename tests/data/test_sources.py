"""Sources: names out of folders, lists and CSV files, with mistakes told by line."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from muybridge.data.prepare.folders import Item, class_folders, csv_list, grouped
from muybridge.data.prepare.lists import labelled_lists, split_lists
from muybridge.errors import UserError


def message(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_the_first_folder_is_the_class(tmp_path):
    touch(tmp_path, "walk/b.avi", "walk/a.avi", "run/deep/er/c.MP4", "run/läuft 1.avi")
    items, strays = class_folders(tmp_path)
    assert items == [
        Item("run/deep/er/c.MP4", "run"), Item("run/läuft 1.avi", "run"),
        Item("walk/a.avi", "walk"), Item("walk/b.avi", "walk"),
    ]  # fmt: skip
    assert strays == []


def test_hidden_files_are_passed_over_and_strays_are_told(tmp_path):
    touch(tmp_path, "run/.DS_Store", ".git/x/y", "run/.cache/z.avi", "run/a.avi", "readme.txt", ".hidden")
    items, strays = class_folders(tmp_path)
    assert [item.path for item in items] == ["run/a.avi"]
    assert strays == [("readme.txt", "lies in no class folder")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_text_is_told(tmp_path):
    touch(tmp_path, "run/a.avi")
    with open(os.fsencode(tmp_path) + b"/run/l\xe4uft.avi", "w"):
        pass
    items, strays = class_folders(tmp_path)
    assert [item.path for item in items] == ["run/a.avi"]
    [(name, reason)] = strays
    assert name == "run/l\N{REPLACEMENT CHARACTER}uft.avi"
    assert "UTF-8" in reason


def test_links_are_followed(tmp_path):
    touch(tmp_path, "elsewhere/a.avi", "set/run/b.avi")
    (tmp_path / "set" / "walk").symlink_to(tmp_path / "elsewhere")
    items, _ = class_folders(tmp_path / "set")
    assert items == [Item("run/b.avi", "run"), Item("walk/a.avi", "walk")]


def test_folders_with_nothing_to_find(tmp_path):
    assert str(tmp_path / "none") in message(class_folders, tmp_path / "none")
    touch(tmp_path, "a.avi")
    assert "is a file" in message(class_folders, tmp_path / "a.avi")
    assert "no class folders" in message(class_folders, tmp_path)


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_of_paths_and_labels(tmp_path):
    path = write(tmp_path / "a.csv", 'path,label\nx/a.avi,run\n"b, c.avi",walk\n')
    assert csv_list(path) == ([Item("x/a.avi", "run"), Item("b, c.avi", "walk")], [])


def test_a_csv_with_everything(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "\ufeff label ,path,actor,split,start,end,group\r\n"
        "run,./a.avi,jim,train,0.5,2,g1\r\n"
        "\r\n"
        " walk , a.avi ,kim,validation,2,,g1\r\n"
        "walk,b.avi,kim,testing,,3.25,\r\n",
    )
    items, notes = csv_list(path)
    assert notes == [
        f"{path}: columns that are not read: actor",
        f"{path}: end is empty in 1 row with a part (the first: line 4): the video is read to its end",
        f"{path}: start is empty in 1 row with a part (the first: line 5): the video is read from its beginning",
    ]
    assert items == [
        Item("a.avi", "run", "g1", "train", 0.5, 2.0),
        Item("a.avi", "walk", "g1", "val", 2.0, None),
        Item("b.avi", "walk", "", "test", None, 3.25),
    ]


@pytest.mark.parametrize("column", ["date", "rate", "place", "index", "age", "scene", "id", "notes", "hash"])
def test_columns_of_the_users_own_are_passed_over_and_named(tmp_path, column):
    path = write(tmp_path / "a.csv", f"path,label,{column}\na.avi,run,1\n")
    assert csv_list(path) == ([Item("a.avi", "run")], [f"{path}: columns that are not read: {column}"])


@pytest.mark.parametrize(
    ("column", "nearest"), [("gruop", "group"), ("splits", "split"), ("strat", "start"), ("ends", "end")]
)
def test_a_mistyped_column_is_told(tmp_path, column, nearest):
    path = write(tmp_path / "a.csv", f"path,label,{column}\na.avi,run,1\n")
    said = message(csv_list, path)
    assert f"'{column}'" in said
    assert f"Did you mean '{nearest}'" in said


def test_a_column_near_one_that_is_there_is_the_users_own(tmp_path):
    path = write(tmp_path / "a.csv", "path,label,group,groups\na.avi,run,g1,1\n")
    assert csv_list(path)[0] == [Item("a.avi", "run", "g1")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (",run", "path or label is empty"),
        ("b.avi,", "path or label is empty"),
        ("b.avi", "path or label is empty"),
        ("b.avi,run,,,soon", "start is 'soon'"),
        ("b.avi,run,,,nan", "start is 'nan'"),
        ("b.avi,run,,,1,inf", "end is 'inf'"),
        ("b.avi,run,,,2,1", "start 2.0 and end 1.0"),
        ("b.avi,run,,,2,2", "start 2.0 and end 2.0"),
        ("b.avi,run,,,-1,2", "start -1.0"),
        ("b.avi,run,,,,0", "end 0.0"),
        ("b.avi,run,,tset", "Did you mean 'test'"),
        ("b,1.avi,run,,test,0,1", "more fields than the header"),
    ],
)
def test_a_wrong_row_is_told_with_its_line(tmp_path, row, said):
    path = write(tmp_path / "a.csv", f"path,label,group,split,start,end\na.avi,run\n\n{row}\n")
    told = message(csv_list, path)
    assert f"{path}, line 4" in told
    assert said in told


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,label\na,b\n", "needs the columns path,label, and has name,label"),
        ("path,kind\na,b\n", "needs the columns path,label"),
        ("", "and has none"),
        ("path,label\n", "has no rows"),
        (b"path,label\nl\xe4uft.avi,run\n", "not a CSV text file"),
        (None, "cannot be read"),
    ],
)
def test_a_csv_that_cannot_be_used_is_told(tmp_path, content, said):
    path = tmp_path / "a.csv"
    if content is not None:
        write(path, content)
    told = message(csv_list, path)
    assert str(path) in told
    assert said in told


ITEMS = [
    Item("run/v_a_g01.avi", "run"), Item("run/v_b_g02.avi", "run"), Item("walk/v_c_g01.avi", "walk"),
    Item("walk/kick 3.avi", "walk"), Item("walk/same.avi", "walk"), Item("run/same.avi", "run"),
]  # fmt: skip


def test_official_lists(tmp_path):
    train = write(tmp_path / "train.txt", "run/v_a_g01.avi 1\r\n\r\nwalk/v_c_g01 2\r\nrun/same.avi\r\n")
    test = write(tmp_path / "test.txt", "\ufeffv_b_g02.avi\nkick 3\n")
    found = split_lists(ITEMS, {"train": train, "test": test})
    assert [item.split for item in found] == ["train", "test", "train", "test", "unused", "train"]
    assert [(item.path, item.label) for item in found] == [(item.path, item.label) for item in ITEMS]


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"train": "nothing.avi\n"}, "train, line 1: 'nothing.avi' matches no videos"),
        ({"train": "v_a_g01\nsame\n"}, "train, line 2: 'same' matches 2 videos"),
        (
            {"train": "v_a_g01\n", "test": "\nrun/v_a_g01.avi 1\n"},
            "test, line 2: 'run/v_a_g01.avi' is in the list of train",
        ),
    ],
)
def test_a_line_of_a_list_that_fits_no_video_is_told(tmp_path, lists, said):
    files = {split: write(tmp_path / split, text) for split, text in lists.items()}
    assert said in message(split_lists, ITEMS, files)


def test_a_list_that_cannot_be_read_is_told(tmp_path):
    assert str(tmp_path / "none") in message(split_lists, ITEMS, {"train": tmp_path / "none"})
    assert str(tmp_path / "bad") in message(split_lists, ITEMS, {"train": write(tmp_path / "bad", b"\xff\xfe")})


def test_groups_by_expression():
    assert [item.group for item in grouped(ITEMS[:3], r"_g\d+")[0]] == ["_g01", "_g02", "_g01"]
    assert [item.group for item in grouped(ITEMS[:3], r"v_\w_(g\d+)")[0]] == ["g01", "g02", "g01"]
    assert [item.group for item in grouped(ITEMS[:3], r"^(\w+)/.*(g\d+)")[0]] == ["run", "run", "walk"]


def test_a_path_without_a_group_is_listed():
    found, without = grouped(ITEMS, r"_g\d+")
    assert len(found) + len(without) == len(ITEMS)
    assert ("walk/kick 3.avi", r"--group '_g\d+' finds nothing in its path") in without


def test_a_group_expression_that_does_not_fit_is_told():
    assert "finds nothing in any of" in message(grouped, ITEMS, "_person_")
    assert "not a regular expression" in message(grouped, ITEMS, "(g")


def test_a_folder_of_numbered_images_is_one_video(tmp_path):
    touch(
        tmp_path, "run/a.avi", "run/v 1/img_00001.jpg", "run/v 1/img_00002.jpg", "run/v 1/Thumbs.db", "run/v 1/n.txt",
        "run/deep/er/1.PNG", "run/deep/b.avi", "walk/v/00001.jpeg", "walk/v/.hidden.jpg", "walk/v/extra.mp4",
        "walk/v/flow/flow_x_00001.jpg",
    )  # fmt: skip
    items, strays = class_folders(tmp_path)
    assert [(item.path, item.label) for item in items] == [
        ("run/a.avi", "run"), ("run/deep/b.avi", "run"), ("run/deep/er", "run"), ("run/v 1", "run"), ("walk/v", "walk"),
        ("walk/v/extra.mp4", "walk"), ("walk/v/flow", "walk"),
    ]  # fmt: skip
    assert strays == []


def test_images_that_are_nobodys_frames_are_told(tmp_path):
    touch(
        tmp_path, "run/a.avi", "run/1.jpg", "run/2.jpg", "run/v/1.jpg", "run/v/cover.jpg", "run/covers/front.png",
        "9.jpg", "run/covers/b.avi",
    )  # fmt: skip
    items, strays = class_folders(tmp_path)
    assert [item.path for item in items] == ["run/a.avi", "run/covers/b.avi", "run/v"]
    told = dict(strays)
    assert set(told) == {".", "run", "run/v", "run/covers"}
    assert told["run"].startswith("2 image(s) lie in a class folder (the first: 1.jpg); the frames of a video need")
    assert "in no class folder (the first: 9.jpg)" in told["."]
    assert told["run/v"].startswith("1 image(s) are no frames, as their names do not end in a number")
    assert "cover.jpg" in told["run/v"]
    assert "front.png" in told["run/covers"]


def test_folders_of_frames_without_classes_are_told(tmp_path):
    touch(tmp_path, "v1/1.jpg", "v1/2.jpg", "v2/1.jpg")
    said = message(class_folders, tmp_path)
    assert "no class folders with videos (v1: 2 image(s) lie in a class folder" in said
    assert "--train-list" in said


def test_a_folder_is_read_by_its_own_name(tmp_path):
    """Links to each other would be walked for ever; what a link leads to is read once."""
    touch(tmp_path / "set", "a/1.avi", "b/2.avi")
    for here, there in ("ab", "ba"):
        for number in range(3):
            (tmp_path / "set" / here / f"x{number}").symlink_to(f"../{there}")
    (tmp_path / "set" / "a" / "up").symlink_to("../..")
    touch(tmp_path / "out", "3.avi")
    (tmp_path / "set" / "c").symlink_to("../out")
    (tmp_path / "set" / "d").symlink_to("../out")
    items, strays = class_folders(tmp_path / "set")
    assert [(item.label, item.path) for item in items] == [("a", "a/1.avi"), ("b", "b/2.avi"), ("c", "c/3.avi")]
    assert len(strays) == 8
    assert dict(strays)["a/x0"] == "is a link to b, which is read by its own name"
    assert dict(strays)["d"] == "is a link to a folder that is read already"


def test_folders_may_be_deep():
    """As deep as paths may be long."""
    with subprocess.Popen(["mktemp", "-d"], stdout=subprocess.PIPE, text=True) as made:
        root = Path(made.stdout.read().strip())
    try:
        folder = os.open(root, os.O_RDONLY)
        for name in ("a", *["d"] * 1100):
            os.mkdir(name, dir_fd=folder)
            folder, above = os.open(name, os.O_RDONLY, dir_fd=folder), folder
            os.close(above)
        os.close(os.open("1.avi", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.close(folder)
        touch(root, "b/2.avi")
        items, _ = class_folders(root)
        assert [item.label for item in items] == ["a", "b"]
        assert items[0].path.endswith("d/d/1.avi")
    finally:
        subprocess.run(["rm", "-rf", root], check=True)  # Python's own way is too deep for it, and pytest's


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_may_not_be_read_is_told(tmp_path):
    touch(tmp_path, "a/1.avi", "b/2.avi", "b/closed/3.avi")
    (tmp_path / "b" / "closed").chmod(0)
    _, strays = class_folders(tmp_path)
    (tmp_path / "b" / "closed").chmod(0o700)
    assert strays == [("b/closed", "this folder cannot be read: Permission denied")]


@pytest.mark.parametrize("row", [
    "a.avi,x,g," + ":".join(["1"] * 300) + ",9e9", "a.avi,x,g,1,1e400", f"a.avi,x,{'g' * 5000},1,2",
])  # fmt: skip
def test_numbers_and_texts_without_measure_are_told_with_their_line(tmp_path, row):
    file = write(tmp_path / "list.csv", f"path,label,group,start,end\n{row}\n")
    assert "list.csv, line 2" in message(csv_list, file)


def test_a_frame_beyond_all_numbers_is_told(tmp_path):
    file = write(tmp_path / "list.csv", "path,label,start_frame,end_frame\na.avi,x,1,1e300\n")
    assert "list.csv, line 2: end_frame is '1e300'" in message(csv_list, file)


@pytest.mark.parametrize("line", [
    "v.avi " + "9" * 5000, f"v.avi 1 5 {'9' * 5000}", f"v.avi {'9' * 5000} 0", "x" + "," * 30_000 + " y z",
])  # fmt: skip
def test_lines_of_lists_without_measure_are_told_at_once(tmp_path, line):
    touch(tmp_path, "a/v.avi", "b/w.avi")
    (tmp_path / "train.txt").write_text(f"{line}\nw.avi 1\n")
    started = time.monotonic()
    items, _ = class_folders(tmp_path)
    for call in (lambda: labelled_lists(tmp_path, {"train": tmp_path / "train.txt"}, None),
                 lambda: split_lists(items, {"train": tmp_path / "train.txt"})):  # fmt: skip
        with suppress(UserError):
            call()
    assert time.monotonic() - started < 5
