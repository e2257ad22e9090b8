"""What was meant is what is read: folders, columns and lists as the field has them; where that is open, the question."""

import pytest
from making import write_clip
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.cli.output import SCREEN_LINES
from muybridge.data.manifest import Manifest
from muybridge.data.prepare.folders import COLUMNS, class_folders, csv_list
from muybridge.data.prepare.lists import listed_videos
from muybridge.data.prepare.prepare import prepare
from muybridge.errors import UserError
from muybridge.recipe import replace
from muybridge.training.loop import train

pytestmark = pytest.mark.usefixtures("one_job")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def labelled(items):
    return {item.path: (item.label, item.group, item.split) for item in items}


def message(call, *arguments, **named):
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def write(path, text):
    path.write_text(text)
    return path


# Folders


@pytest.mark.parametrize(
    "tops",
    [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "Test"), ("train", "valid"), ("test",)],
)
def test_folders_of_splits_hold_the_classes(tmp_path, tops):
    touch(tmp_path, *(f"{top}/{label}/{n}.avi" for top in tops for label in ("run", "walk") for n in range(3)))
    items, strays = class_folders(tmp_path)
    assert {item.label for item in items} == {"run", "walk"}
    meaning = {"tr": "train", "va": "val", "te": "test"}
    assert all(item.split == meaning[item.path[:2].lower()] for item in items)
    assert strays == []


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, *(f"{label}/{n}.avi" for label in ("train", "bus") for n in range(3)))
    assert {item.label for item in class_folders(tmp_path)[0]} == {"train", "bus"}


def test_folders_of_splits_without_classes_are_a_question(tmp_path):
    touch(tmp_path, *(f"{top}/{n}.avi" for top in ("train", "test") for n in range(3)))
    assert "--csv" in message(class_folders, tmp_path)
    assert {item.label for item in class_folders(tmp_path, "class")[0]} == {"train", "test"}


def test_names_that_repeat_under_most_folders_are_a_question(tmp_path):
    people = ("anna", "bo", "chi", "dee")
    touch(tmp_path, *(f"{person}/{label}/{n}.avi" for person in people for label in ("run", "walk") for n in range(2)))
    (tmp_path / "bo" / "walk" / "0.avi").rename(tmp_path / "bo" / "0.avi")
    said = message(class_folders, tmp_path)
    for part in ("(run, walk)", "anna, bo, chi, dee", "--layout group/class", "--layout class/group"):
        assert part in said
    of_people, strays = class_folders(tmp_path, "group/class")
    assert labelled(of_people)["anna/run/0.avi"] == ("run", "anna", "")
    assert strays == [("bo/0.avi", "lies above the folders of --layout group/class")]
    assert labelled(class_folders(tmp_path, "class/group")[0])["anna/run/0.avi"] == ("anna", "run", "")
    assert labelled(class_folders(tmp_path, "class")[0])["anna/run/0.avi"] == ("anna", "", "")
    assert labelled(class_folders(tmp_path, "-/class")[0])["anna/run/0.avi"] == ("run", "", "")


@pytest.mark.parametrize("deeper", ["day1", "cam0/day1"])
def test_folders_below_a_class_that_differ_are_no_question(tmp_path, deeper):
    touch(tmp_path, f"run/{deeper}/a.avi", "run/b.avi", "run/c.avi", f"walk/{deeper}/a.avi", "walk/b.avi", "walk/c.avi")
    assert {item.label for item in class_folders(tmp_path)[0]} == {"run", "walk"}


def test_splits_of_people_of_classes(tmp_path):
    touch(tmp_path, "train/anna/run/0.avi", "test/bo/walk/0.avi")
    items, _ = class_folders(tmp_path, "split/group/class")
    assert labelled(items) == {
        "train/anna/run/0.avi": ("run", "anna", "train"),
        "test/bo/walk/0.avi": ("walk", "bo", "test"),
    }


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("clas", "Did you mean 'class'"),
        ("split/group", "Name one folder as the class"),
        ("class/class", "one folder"),
        ("", ""),
    ],
)
def test_a_layout_that_says_nothing_is_told(tmp_path, layout, said):
    touch(tmp_path, "run/a.avi")
    assert said in message(class_folders, tmp_path, layout)


# Columns


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in COLUMNS.items() for name in names])
def test_columns_are_read_by_their_usual_names(tmp_path, role, name):
    values = {"path": "a.avi", "label": "run"}
    values |= {"start": "1.5", "end": "2.5"} if role in ("start", "end") else {}
    values |= {"start_frame": "5", "end_frame": "9"} if role.endswith("_frame") else {}
    values |= {"split": "test"} if role == "split" else {"group": "anna"} if role == "group" else {}
    header = [(name.title() if part == role else part) for part in values]
    other = ["b.avi" if part == "path" else "bo" if part == "group" else value for part, value in values.items()]
    text = "\n".join(",".join(row) for row in (header, list(values.values()), other))
    items, notes = csv_list(write(tmp_path / "a.csv", text))
    first = items[0]
    assert (first.path, first.label) == ("a.avi", "run")
    assert first.group == values.get("group", "")
    assert first.split == values.get("split", "")
    assert (first.start_seconds, first.end_seconds) == ((1.5, 2.5) if "start" in values else (None, None))
    assert (first.first_number, first.last_number) == ((5, 9) if "start_frame" in values else (None, None))
    said = any(f"column {name.title()} is read as {role}" in note for note in notes)
    assert said == (name != role)


@pytest.mark.parametrize("columns", ["start", "end", "start_time", "stop_frame", "start_frame", "start,stop_frame"])
def test_half_a_pair_is_refused(tmp_path, columns):
    path = write(tmp_path / "a.csv", f"path,label,{columns}\na.avi,run,1,2\n"[: 100 if "," in columns else -3] + "\n")
    assert "Give a part both, or neither" in message(csv_list, path)


def test_two_columns_for_one_thing_are_a_question(tmp_path):
    assert "each of class and action may be the label" in message(
        csv_list, write(tmp_path / "a.csv", "path,class,action\na,b,c\n")
    )
    both = write(tmp_path / "b.csv", "path,label,start,end,start_frame,end_frame\na,b,1,2,25,50\n")
    assert "Leave one of the two out" in message(csv_list, both)


def test_every_column_that_is_not_read_is_named(tmp_path):
    path = write(tmp_path / "a.csv", "path,label,weather,camera_id\na.avi,run,sun,3\nb.avi,run,rain,4\n")
    assert csv_list(path)[1] == [f"{path}: columns that are not read: weather, camera_id"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_spreadsheets_of_other_countries(tmp_path, mark):
    path = write(tmp_path / "a.csv", "path,label,subset\na.avi,run,train\nb.avi,walk,test\n".replace(",", mark))
    assert labelled(csv_list(path)[0]) == {"a.avi": ("run", "", "train"), "b.avi": ("walk", "", "test")}


@pytest.mark.parametrize("first", [0, 1])
def test_frame_numbers_are_frames(tmp_path, first):
    """Counted from 0 where one of them is 0; the last one belongs to the part."""
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.avi", 100 * (name == "b"), 20)
    rows = [f"a.avi,run,{first},{first + 4}", f"a.avi,walk,{first + 5},{first + 9}", f"b.avi,run,{first},{first + 19}"]
    write(tmp_path / "l.csv", "video,action,start_frame,stop_frame\n" + "\n".join(rows))
    made = prepare(csv=tmp_path / "l.csv", out=tmp_path / "set.csv", all_as="test")
    manifest = Manifest.load(made.manifest)
    found = {(row.path[-5:], row.start_frame, row.num_frames) for row in map(manifest.row, range(3))}
    assert found == {("a.avi", 0, 5), ("a.avi", 5, 5), ("b.avi", 0, 20)}


@pytest.mark.parametrize("address", ["https://example.org/a.mp4", "s3://bucket/a.mp4", "rtsp://camera/1", "http://a"])
def test_an_address_is_told(tmp_path, address):
    path = write(tmp_path / "a.csv", f"path,label\n{address},run\n")
    assert "is an address" in message(csv_list, path)
    assert "Download it" in message(csv_list, path)


def test_a_label_with_a_bar_in_it_is_read_or_told(tmp_path):
    """It may stand for several labels, which a set does not have."""
    for number in range(4):
        write_clip(tmp_path / f"{number}.avi", number * 7)
    lines = "\n".join(f"{number}.avi,{'a|b' if number % 2 else 'c'}" for number in range(4))
    write(tmp_path / "l.csv", f"path,label\n{lines}\n")
    result = CliRunner().invoke(
        app, ["prepare", "--csv", str(tmp_path / "l.csv"), "--out", str(tmp_path / "s.csv"), "--all", "test"]
    )
    assert result.exit_code in (0, 2)
    assert "Traceback" not in result.output
    if result.exit_code == 0:
        assert "a|b" in Manifest.load(tmp_path / "s.csv").classes
    else:
        assert "a|b" in result.output


# Lists of `path label`

TREE = ("run/a.avi", "run/b.avi", "run/c.avi", "walk/a.avi", "walk/b.avi", "walk/c.avi")


def lists(root, train, test):
    return {"train": write(root / "train.txt", train), "test": write(root / "test.txt", test)}


@pytest.mark.parametrize("first", [0, 1])
def test_labels_that_go_with_the_folders_have_their_names(tmp_path, first):
    root = touch(tmp_path / "v", *TREE)
    found = lists(
        tmp_path, f"run/a.avi {first}\nrun/b.avi {first}\nwalk/a.avi {first + 1}\n", f"walk/b.avi {first + 1}\n"
    )
    items, order, _, _ = listed_videos(root, found, None)
    assert order == ["run", "walk"]
    assert labelled(items)["walk/b.avi"] == ("walk", "", "test")
    assert labelled(items)["run/c.avi"] == ("run", "", "unused")


def test_labels_in_folders_that_are_no_classes_are_the_classes(tmp_path):
    root = touch(tmp_path / "v", "part_0/a.avi", "part_0/b.avi", "part_1/c.avi", "part_1/d.avi")
    found = lists(tmp_path, "part_0/a.avi 0\npart_1/c.avi 0\npart_0/b.avi 1\n", "part_1/d.avi 1\n")
    items, order, _, _ = listed_videos(root, found, None)
    assert order == ["class_000", "class_001"]
    assert {path: label for path, (label, _, _) in labelled(items).items()} == {
        "part_0/a.avi": "class_000", "part_1/c.avi": "class_000", "part_0/b.avi": "class_001", "part_1/d.avi": "class_001",
    }  # fmt: skip
    named, order, _, _ = listed_videos(root, found, {0: "hop", 1: "skip"})
    assert order == ["hop", "skip"]
    assert labelled(named)["part_1/d.avi"] == ("skip", "", "test")


def test_labels_may_be_words_and_paths_may_hold_blanks(tmp_path):
    root = touch(tmp_path / "v", "x/a b.avi", "x/c.avi", "y/d.avi", "y/e.avi")
    found = lists(tmp_path, "x/a b.avi hop\ny/d.avi skip\n", "x/c.avi skip\ny/e.avi hop\n")
    items, order, _, _ = listed_videos(root, found, None)
    assert order == ["hop", "skip"]
    assert labelled(items)["x/a b.avi"] == ("hop", "", "train")


def test_a_label_that_contradicts_its_folder_stops(tmp_path):
    root = touch(tmp_path / "v", *TREE)
    found = lists(tmp_path, "run/a.avi 0\nrun/b.avi 0\nrun/c.avi 1\nwalk/a.avi 1\nwalk/b.avi 1\n", "walk/c.avi 1\n")
    said = message(listed_videos, root, found, None)
    assert "train.txt, line 3: 'run/c.avi' lies in run, but has the label 1" in said
    assert "Correct one of the two" in said
    swapped = lists(tmp_path, "run/a.avi 0\nrun/b.avi 0\nwalk/a.avi 1\nwalk/b.avi 0\n", "run/c.avi 0\nwalk/c.avi 1\n")
    assert "Correct one of the two" in message(listed_videos, root, swapped, {0: "run", 1: "walk"})


def test_labels_that_contradict_every_folder_stop_too(tmp_path):
    """The more lines are wrong, the surer it is."""
    root = touch(tmp_path / "v", *TREE)
    other = {"run": "walk", "walk": "run"}
    names = lists(
        tmp_path, "".join(f"{c}/{n}.avi {other[c]}\n" for c in other for n in "ab"), "run/c.avi walk\nwalk/c.avi run\n"
    )
    assert "'run/a.avi' has the label of walk, but lies in run (5 more lines" in message(
        listed_videos, root, names, None
    )
    numbers = lists(tmp_path, "run/a.avi 0\nrun/b.avi 0\nwalk/a.avi 1\nwalk/b.avi 1\n", "run/c.avi 0\nwalk/c.avi 1\n")
    assert "Correct one of the two" in message(listed_videos, root, numbers, ["walk", "run"])
    items, _, _, _ = listed_videos(root, numbers, ["run", "walk"])
    assert labelled(items)["run/a.avi"] == ("run", "", "train")


def test_whole_numbers_with_a_point_are_numbers(tmp_path):
    root = touch(tmp_path / "v", *TREE)
    found = lists(
        tmp_path, "run/a.avi 0.0\nrun/b.avi 0.0\nwalk/a.avi 1.0\nwalk/b.avi 1.0\n", "run/c.avi 0.0\nwalk/c.avi 1.0\n"
    )
    items, order, _, _ = listed_videos(root, found, None)
    assert order == ["run", "walk"]
    assert labelled(items)["walk/c.avi"] == ("walk", "", "test")


@pytest.mark.parametrize("mark", ["|", ":"])
def test_another_mark_before_the_label_is_told(tmp_path, mark):
    root = touch(tmp_path / "v", *TREE)
    said = message(listed_videos, root, lists(tmp_path, f"run/a.avi{mark}0\nwalk/a.avi{mark}1\n", "run/b.avi\n"), None)
    assert "train.txt, line 1" in said
    assert "Write `path` or `path label`" in said


def test_an_empty_list_is_told(tmp_path):
    root = touch(tmp_path / "v", *TREE)
    assert "test.txt: it is empty" in message(listed_videos, root, lists(tmp_path, "run/a.avi\nwalk/a.avi\n", ""), None)


def test_a_label_that_no_class_has_is_told_with_its_line(tmp_path):
    root = touch(tmp_path / "v", "x/a.avi", "x/b.avi", "x/c.avi")
    found = lists(tmp_path, "x/a.avi 0\nx/b.avi 1\n", "x/c.avi 2\n")
    assert "test.txt, line 1: label 2 is out of range" in message(listed_videos, root, found, {0: "a", 1: "b"})


def test_lists_of_path_and_label_on_the_command_line(tmp_path):
    for part, label, number in [(p, k, n) for p in (0, 1) for k in (0, 1) for n in range(3)]:
        write_clip(tmp_path / "v" / f"part_{part}" / f"{label}_{number}.avi", 12 * (6 * part + 3 * label + number))
    names = sorted(path.relative_to(tmp_path / "v").as_posix() for path in (tmp_path / "v").rglob("*.avi"))
    lines = [f"{name} {name.split('/')[1][0]}" for name in names]
    lists(tmp_path, "\n".join(lines[::2]), "\n".join(lines[1::2]))
    write(tmp_path / "classes.txt", "hop\nskip\n")
    for classes in ([], ["--classes", str(tmp_path / "classes.txt")]):
        result = CliRunner().invoke(app, [
            "prepare", str(tmp_path / "v"), "--train-list", str(tmp_path / "train.txt"), "--test-list",
            str(tmp_path / "test.txt"), "--out", str(tmp_path / "set.csv"), "--val", "0", *classes,
        ])  # fmt: skip
        assert result.exit_code == 0, result.output
        manifest = Manifest.load(tmp_path / "set.csv")
        assert manifest.classes == (("hop", "skip") if classes else ("class_000", "class_001"))
        wanted = {name: manifest.classes[int(name.split("/")[1][0])] for name in names}
        assert dict(zip(manifest.text("id").tolist(), manifest.text("label").tolist(), strict=True)) == wanted


# Splits


@pytest.mark.parametrize("splits", [("train", "val"), ("test",), ("train",), ("val", "test")])
def test_sets_with_some_splits_only(tmp_path, splits):
    for split in splits:
        for label in ("run", "walk"):
            for number in range(3):
                write_clip(
                    tmp_path / "v" / split / label / f"{number}.avi",
                    7 * number + 30 * (label == "run") + 100 * ("train", "val", "test").index(split),
                )
    result = CliRunner().invoke(app, ["prepare", str(tmp_path / "v"), "--out", str(tmp_path / "s.csv"), "--val", "0"])
    assert result.exit_code == 0, result.output
    manifest = Manifest.load(tmp_path / "s.csv")
    assert {name: len(manifest.split(name)) for name in splits} == dict.fromkeys(splits, 6)
    for missing in {"train", "test"} - set(splits):
        assert f"the set has no {missing} split" in " ".join(
            result.output.split()
        ) or "to evaluate on, not to train" in " ".join(result.output.split())


def test_a_run_is_evaluated_on_a_set_that_is_all_test(run, tmp_path, made_set):
    """Videos of some of its classes; the messages name the cause where it is none."""
    source = Manifest.load(made_set)
    classes = source.classes[:3]
    for number, label in enumerate(classes):
        for copy in range(2):
            write_clip(tmp_path / "v" / label / f"{copy}.avi", 50 * number + 9 * copy, 12)
    made = prepare(tmp_path / "v", out=tmp_path / "new.csv", all_as="test")
    scores = muybridge.evaluate(run, data=made.manifest)
    assert len(scores.ids_N) == 6
    assert tuple(scores.classes) == tuple(source.classes)
    assert message(muybridge.evaluate, run, data=made.manifest, split="val")
    said = message(muybridge.evaluate, run, data=made.manifest, split="val")
    assert "val" in said
    assert "test" in said


def test_training_on_a_set_that_is_all_test_names_the_cause(recipe, tmp_path):
    for label in ("run", "walk"):
        for number in range(3):
            write_clip(tmp_path / "v" / label / f"{number}.avi", 7 * number + 50 * (label == "run"))
    made = prepare(tmp_path / "v", out=tmp_path / "new.csv", all_as="test")
    said = message(train, replace(recipe, {"data.manifest": str(made.manifest)}), out=tmp_path / "run")
    assert "train" in said
    assert str(made.manifest) in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("counts", [(45, 4), (9, 9)])
def test_a_class_that_most_videos_are_of_is_told(tmp_path, counts):
    number = 0
    for label, count in zip(("fall", "normal"), counts, strict=True):
        for _ in range(count):
            write_clip(tmp_path / "v" / label / f"{number:03d}.avi", number * 6, 4, height=24, width=32)
            number += 1
    made = prepare(tmp_path / "v", out=tmp_path / "s.csv")
    told = [warning for warning in made.warnings if "whoever always says" in warning]
    assert bool(told) == (counts[0] != counts[1])
    if told:
        assert "45 clips of fall, 4 of normal: whoever always says fall is right on 92%" in told[0]


# Images


def test_numbered_images_by_their_usual_names(tmp_path):
    from making_images import write_images

    names = ["frame_{:04d}_rgb.png", "{:05d}.tif", "img_{:05d}.jpg", "{}.bmp", "a-{:03d}.tiff", "frame ({}).png"]
    for number, name in enumerate(names):
        write_images(tmp_path / "ab"[number % 2] / f"v{number}", 20 * number, 12, name=name)
    made = prepare(tmp_path, out=tmp_path / "set.csv", all_as="test")
    manifest = Manifest.load(made.manifest)
    assert {manifest.row(index).id[2:]: manifest.row(index).num_frames for index in range(len(manifest))} == {
        f"v{number}": 12 for number in range(len(names))
    }
    assert made.rejected == []


def test_the_found_is_told_in_a_screen(tmp_path):
    """However many classes there are and files are rejected; all of them are in a file."""
    for number in range(60):
        folder = tmp_path / "v" / f"class_with_a_name_{number:03d}"
        write_clip(folder / "a.avi", number * 6, 4, height=24, width=32)
        (folder / "broken.avi").write_bytes(b"no video" * (number + 1))
    result = CliRunner().invoke(
        app, ["prepare", str(tmp_path / "v"), "--out", str(tmp_path / "s.csv"), "--all", "test"]
    )
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) <= 50
    assert len((tmp_path / "s.rejected.csv").read_text().splitlines()) == 61


def test_predictions_of_a_one_class_set_are_scores(run, tmp_path, made_set):
    label = Manifest.load(made_set).classes[0]
    write_clip(tmp_path / "v" / label / "a.avi", 0, 12)
    made = prepare(tmp_path / "v", out=tmp_path / "s.csv", all_as="test")
    assert muybridge.evaluate(run, data=made.manifest).labels_N.tolist() == [0]


def test_splits_of_people_of_classes_are_a_question(tmp_path):
    touch(
        tmp_path, *(f"{s}/{p}/{c}/x.avi" for s in ("train", "test") for p in ("anna", "bo") for c in ("wave", "jump"))
    )
    said = message(class_folders, tmp_path)
    assert "--layout split/group/class" in said
    assert {item.label for item in class_folders(tmp_path, "split/group/class")[0]} == {"wave", "jump"}


def test_half_a_pair_in_a_row_of_frames_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text("path,label,start_frame,end_frame\na.avi,x,1,2\nb.avi,y,1,\n")
    assert "line 3: only one of start_frame and end_frame is filled in" in message(csv_list, tmp_path / "list.csv")


def test_what_was_rejected_is_told_with_what_fails_afterwards(tmp_path):
    for number in range(4):
        write_clip(tmp_path / "set" / "train" / "ab"[number % 2] / f"{number}.avi", number)
        write_clip(tmp_path / "set" / "test" / "ab"[number % 2] / f"{number}.avi", number + 9)
    for path in (tmp_path / "set" / "train" / "b").iterdir():
        path.write_bytes(b"broken")
    said = message(prepare, tmp_path / "set", out=tmp_path / "set.csv")
    assert "no training video of b" in said
    assert "2 files of the set could not be used (the first: train/b/1.avi: " in said
    assert len((tmp_path / "set.rejected.csv").read_text().splitlines()) == 3
    assert not (tmp_path / "set.csv").exists()


def test_how_a_list_was_read_is_told_before_what_single_videos_lack(tmp_path):
    for number in range(12):
        write_clip(tmp_path / f"{number}.avi", number)
    lines = [f"{number}.avi,{'ab'[number % 2]},1,99,7" for number in range(12)]
    (tmp_path / "list.csv").write_text("path,label,start_frame,end_frame,duration\n" + "\n".join(lines))
    told = CliRunner().invoke(app, [
        "prepare", "--csv", str(tmp_path / "list.csv"), "--out", str(tmp_path / "set.csv"), "--all", "test",
    ])  # fmt: skip
    assert "columns that are not read: duration" in told.stderr
    assert "7.avi" not in told.stderr  # those of one kind are counted, with the first as an example
    assert told.stderr.count("warning: ") <= SCREEN_LINES
    assert "(and 11 more like it)" in told.stderr


def test_names_that_repeat_deeper_stop_with_the_question(tmp_path):
    root = touch(
        tmp_path / "v", *(f"s{s}/{p}/{c}/x.avi" for s, p in enumerate(("anna", "bo", "chi")) for c in ("run", "walk"))
    )
    said = message(class_folders, root)
    assert "(run, walk) lie under most of s0, s1, s2" in said
    assert "--layout group/-/class" in said
    items, _ = class_folders(root, "group/-/class")
    assert labelled(items)["s0/anna/run/x.avi"] == ("run", "s0", "")


def test_a_folder_around_the_set_is_told(tmp_path):
    root = touch(tmp_path / "v", "data/train/run/a.avi", "data/train/walk/a.avi", "data/test/run/b.avi")
    assert f"prepare {root / 'data'}" in message(class_folders, root)
    one = touch(tmp_path / "w", "run/a.avi", "run/deep/b.avi")
    assert {item.label for item in class_folders(one)[0]} == {"run"}


def test_a_part_that_ends_long_after_the_video_is_told(tmp_path):
    write_clip(tmp_path / "run.avi", 0, 20)
    write_clip(tmp_path / "walk.avi", 5, 20)
    (tmp_path / "set.csv").write_text("path,label,start,end\nrun.avi,run,0,20\nwalk.avi,walk,0,0.8\n")
    said = "\n".join(prepare(csv=tmp_path / "set.csv", out=tmp_path / "m.csv", all_as="test").warnings)
    assert "run.avi#0-20: the list ends at 20 seconds, the video at 0.8. Are these frames?" in said
    assert "walk.avi#" not in said
