"""List files that bring labels: parts by image numbers, names of classes, and every mistake told with file and line."""

import pytest
from making import write_clip
from making_images import write_images

from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.lists import (
    class_names,
    have_labels,
    in_order,
    labelled_lists,
    numbered_classes,
    split_lists,
)
from muybridge.errors import UserError


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def message(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten images in each folder, and a video file of ten frames."""
    root = tmp_path_factory.mktemp("frames")
    for name in ("a", "deep/läuft 1", "clip 7", "x, y;z"):
        write_images(root / name, 0, 10)
    write_images(root / "from 0", 0, 10, name="{:04d}.jpg", start=0)
    write_images(root / "gap", 0, 5, name="{}.jpg", start=1)
    write_images(root / "gap", 5, 5, name="{}.jpg", start=21)
    (root / "empty").mkdir()
    write_clip(root / "v.avi", 0, 10)
    return root


def items(root, tmp_path, text, classes=None):
    found, names = labelled_lists(root, {"train": write(tmp_path / "train.txt", text)}, classes)
    assert all(item.split == "train" for item in found)
    return [(item.id, item.label) for item in found], names


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a 1 10 3", "a"),
        ("a 3 7 3", "a#3-7"),
        ("a 10 10 3", "a#10-10"),
        ("deep/läuft 1 2 10 3", "deep/läuft 1#2-10"),
        ("clip 7 1 5 3", "clip 7#1-5"),
        ("x, y;z 1 5 3", "x, y;z#1-5"),
        ("a;2;5;3", "a#2-5"),
        ("a, 2, 5, 3", "a#2-5"),
        ("a\t2\t5\t3", "a#2-5"),
        ("./a/ 2 5 3", "a#2-5"),
        ("from 0 0 9 3", "from 0"),
        ("from 0 0 4 3", "from 0#0-4"),
        ("gap 1 25 3", "gap"),
        ("gap 4 22 3", "gap#4-22"),
        ("v.avi 1 10 3", "v.avi#1-10"),
        ("v.avi 4 400 3", "v.avi#4-400"),
        ("nothing 5 9 3", "nothing#5-9"),
        ("empty 5 9 3", "empty"),
    ],
)
def test_a_part_by_the_numbers_of_its_first_and_last_image(root, tmp_path, line, expected):
    assert items(root, tmp_path, f"a 2 3 0\n{line}\n") == (
        [("a#2-3", "class_000"), (expected, "class_003")], ["class_000", "class_003"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a 10 3", "a"), ("a 4 3", "a#1-4"), ("from 0 10 3", "from 0"), ("from 0 4 3", "from 0#0-3"),
        ("gap 10 3", "gap"), ("gap 6 3", "gap#1-21"), ("v.avi 8 3", "v.avi#1-8"), ("clip 7 10 3", "clip 7"),
        ("nothing 5 3", "nothing#1-5"), ("empty 0 3", "empty"),
    ],
)  # fmt: skip
def test_a_number_of_frames_is_of_the_first_ones(root, tmp_path, line, expected):
    assert items(root, tmp_path, f"\ufeffa 2 0\r\n\r\na 3 0\r\n{line}\r\n")[0][2] == (expected, "class_003")


def test_names_that_end_in_numbers_are_found_where_they_lie(tmp_path):
    """`clip 7 10 3` is ten frames of `clip 7`, not a part of `clip`."""
    for n in (7, 8):
        write_images(tmp_path / f"clip {n}", 0, 10)
    assert items(tmp_path, tmp_path, "clip 7 10 0\nclip 8 5 1\n")[0] == [
        ("clip 7", "class_000"), ("clip 8#1-5", "class_001"),
    ]  # fmt: skip


def test_absolute_paths_lie_inside_the_root(root, tmp_path, monkeypatch):
    assert items(root, tmp_path, f"{root}/deep/läuft 1 2 5 0\n")[0][0][0] == "deep/läuft 1#2-5"
    monkeypatch.chdir(root.parent)
    assert items(type(root)(root.name), tmp_path, f"{root}/a 2 5 0\n")[0][0][0] == "a#2-5"
    said = message(items, root, tmp_path, f"a 1 2 0\n{tmp_path}/else 1 2 0\n")
    assert "train.txt, line 2" in said
    assert f"'{tmp_path}/else' does not lie in {root}" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a 7 3 0", "start 7 comes after end 3"),
        ("a 0 5 0", "images 0 to 5 are asked for, but {root}/a has 10, 1 to 10"),
        ("a 5 11 0", "images 5 to 11 are asked for"),
        ("a -3 5 0", "images -3 to 5 are asked for"),
        ("from 0 1 10 0", "has 10, 0 to 9"),
        ("v.avi 0 5 0", "Count frames of a video file from 1"),
        ("a 1 5 jump", "'a 1 5 jump' is not `path start end label`"),
        ("a 1 5 1.0", "is not `path start end label`"),
        ("a 1 5", "is not `path start end label`"),
        ("a 1 5 -1", "label -1 is out of range"),
        ("a 1 5 2", "label 2 is out of range. Count labels from 0: 0 to 1 for 2 classes"),
        ("a 2 3 1", "is in {list}, line 1 already"),
    ],
)
def test_a_wrong_line_is_told_with_list_and_line(root, tmp_path, line, said):
    told = message(items, root, tmp_path, f"a 2 3 0\n\na 3 4 0\na 4 5 1\n{line}\n", ["x", "y"])
    assert f"{tmp_path / 'train.txt'}, line 5" in told
    assert said.format(root=root, list=tmp_path / "train.txt") in told


@pytest.mark.parametrize(("count", "said"), [(11, "11 frames are asked for"), (0, "0 frames"), (-1, "-1 frames")])
def test_more_frames_than_there_are_is_told(root, tmp_path, count, said):
    told = message(items, root, tmp_path, f"a 2 0\na {count} 0\n")
    assert "train.txt, line 2" in told
    assert said in told
    if count < 1:
        assert "video file from 1" in message(items, root, tmp_path, f"a 2 0\nv.avi {count} 0\n")


def test_a_line_in_two_lists_is_told(root, tmp_path):
    lists = {split: write(tmp_path / f"{split}.txt", "a 2 3 0\n") for split in ("train", "test")}
    assert "test.txt, line 1: 'a 2 3 0' is in" in message(labelled_lists, root, lists, None)
    assert "e: it is empty" in message(labelled_lists, root, {"train": write(tmp_path / "e", "\n")}, None)


def test_lists_with_labels_are_known_by_their_numbers(tmp_path):
    def known(text):
        return have_labels({"train": write(tmp_path / "a", text)})

    assert known("a 1 10 3\nb 1 12 4\n")
    assert known("a 10 3\n\nb 12 4\nc 12 jump\n"), "one mistake does not make it another list"
    assert not known("run/v_a_g01.avi 1\nrun/v_b.avi 1\n")
    assert not known("run/v_a_g01.avi\nkick 3\n")
    assert not known("")


CLASSES = {
    "names": ("run\nkick 3 balls\nwalk, slowly\n", ["run", "kick 3 balls", "walk, slowly"]),
    "index first, from 1": ("1 run\r\n2 kick\r\n3 walk up\r\n", ["run", "kick", "walk up"]),
    "index first, from 0": ("\ufeff0,run\n1,kick\n\n\n", ["run", "kick"]),
    "index last": ("run 0\nkick high\t1\n", ["run", "kick high"]),
    "another order": ("2 walk\n0 run\n1 kick\n", ["run", "kick", "walk"]),
    "numbers that are no index": ("2 people\n3 people\n", ["2 people", "3 people"]),
    "numbers alone": ("3\n4\n", ["3", "4"]),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_class_i_is_line_i(tmp_path, kind):
    text, names = CLASSES[kind]
    assert in_order(class_names(write(tmp_path / "classes.txt", text))) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run\n\nwalk\n", "classes.txt, line 2: it is empty"),
        ("run\nwalk\nrun\n", "class 'run' more than once"),
        ("\n", "names no classes"),
        (b"l\xe4uft\n", "cannot be read"),
    ],
)
def test_a_file_of_classes_that_cannot_be_used_is_told(tmp_path, text, said):
    assert said in message(class_names, write(tmp_path / "classes.txt", text))


def test_numbered_classes_keep_their_order():
    assert numbered_classes([10, 2, 2]) == {2: "class_002", 10: "class_010"}
    names = list(numbered_classes(range(1200)).values())
    assert names == sorted(names)
    assert names[7] == "class_0007"


def test_a_list_of_videos_fits_the_folders_made_of_them(tmp_path):
    folders = [Item("run/v_a_g01", "run"), Item("walk/v_b_g01", "walk")]
    lists = {
        "train": write(tmp_path / "train.txt", "run/v_a_g01.avi 1\n"), "test": write(tmp_path / "test.txt", "v_b_g01.mp4\n"),
    }  # fmt: skip
    assert [item.split for item in split_lists(folders, lists)] == ["train", "test"]
