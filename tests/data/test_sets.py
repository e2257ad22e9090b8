"""Standard sets by name: their real lists and layouts become items, splits, groups, and a manifest that trains."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_server import Server
from making import write_clip
from making_sets import (
    SPLITS_OF_UCF101,
    TEMPLATES,
    WRITERS,
    Films,
    hmdb51_names,
    ucf101_names,
    write_hmdb51_lists,
    write_json,
    write_lines,
    write_ucf101_lists,
)

import muybridge
from muybridge.data.manifest import Manifest
from muybridge.data.prepare.mirroring import mirror_map
from muybridge.data.prepare.prepare import missing_file
from muybridge.data.sets import SETS, base
from muybridge.data.sets.archives import Archive
from muybridge.data.sets.hmdb51 import group as hmdb51_group
from muybridge.errors import UserError

pytestmark = pytest.mark.usefixtures("one_job")


def touch(path):
    """Instead of a video, where nothing opens it; a folder with one image where the path has no ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.suffix:
        path.mkdir()
        (path / "00001.jpg").touch()
        return
    path.touch()


def listed(name, root):
    return base.listed(SETS[name], root)


def message(**arguments):
    with pytest.raises(UserError) as caught:
        muybridge.prepare(**arguments)
    return str(caught.value)


def by_path(found):
    return {item.path: item for item in found.items}


def manifest_of(prepared):
    manifest = Manifest.load(prepared.manifest)
    return {
        path: {name: manifest.text(name)[i] for name in ("label", "group", *manifest.split_columns)}
        for i, path in enumerate(manifest.text("path").tolist())
    }, manifest


# --- counts of the whole lists, by names made from the published numbers


def test_ucf101_has_its_published_counts_and_no_group_on_two_sides(tmp_path):
    names = ucf101_names()
    write_ucf101_lists(tmp_path / "ucfTrainTestlist", names)
    (tmp_path / "UCF-101").mkdir()
    for name, _ in names:
        (tmp_path / "UCF-101" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "UCF-101" / name).touch()
    found = listed("ucf101", tmp_path)
    assert len(found.items) == 13_320
    assert len(found.classes) == 101
    assert len({item.group for item in found.items}) == 2_525
    assert not [warning for warning in found.warnings if "published" in warning]
    group_of = {item.path: item.group for item in found.items}
    for split, (train, test) in SPLITS_OF_UCF101.items():
        assert Counter(found.folds[split].values()) == {"train": train, "test": test}
        sides = {side: {group_of[p] for p, s in found.folds[split].items() if s == side} for side in ("train", "test")}
        assert not sides["train"] & sides["test"]
        tested = {path for path, side in found.folds[split].items() if side == "test"}
        for other in {1, 2, 3} - {split}:
            assert {found.folds[other][path] for path in tested} == {"train"}, "each test lies in the others' train"


def test_hmdb51_has_its_published_counts(tmp_path):
    names = hmdb51_names()
    write_hmdb51_lists(tmp_path / "lists", names)
    for name, (label, _) in names.items():
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / name).touch()
    found = listed("hmdb51", tmp_path)
    assert len(found.items) == 6_766
    for split in (1, 2, 3):
        assert Counter(found.folds[split].values()) == {"train": 3_570, "test": 1_530, "unused": 1_666}
    assert not [warning for warning in found.warnings if "published" in warning]


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_a_shortened_official_list_is_told(tmp_path, name):
    WRITERS[name](tmp_path, touch)
    warnings = "\n".join(listed(name, tmp_path).warnings)
    assert f"published are {SETS[name].num_classes}" in warnings
    assert f"published are {SETS[name].counts['videos']:,}" in warnings
    assert "list 1 has" in warnings


# --- groups by names


def test_groups_of_hmdb51_are_class_and_film():
    def group(name, label):
        return hmdb51_group(base.Item(name, label))

    assert group("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair") == "brush_hair/April_09"
    assert (
        group("(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi", "cartwheel") == "cartwheel/(Rad)Schlag_die_Bank!"
    )
    assert group("metacafe_coolsoccer_run_f_cm_np10_le_bad_2.avi", "run") == "", "people are one digit"


def test_a_name_of_another_form_is_a_group_of_its_own(tmp_path):
    WRITERS["hmdb51"](tmp_path, touch)
    odd = "metacafe_coolsoccer_class_00_f_cm_np10_le_bad_2.avi"
    for split in (1, 2, 3):
        with (tmp_path / "testTrainMulti_7030_splits" / f"class_00_test_split{split}.txt").open("a") as file:
            file.write(f"{odd} 1 \n")
    touch(tmp_path / "hmdb51_org" / "class_00" / odd)
    found = listed("hmdb51", tmp_path)
    assert [item.group for item in found.items if item.path.endswith(odd)] == [f"class_00/{odd.removesuffix('.avi')}"]
    assert any("1 name (the first: metacafe_coolsoccer" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("ucf11", {f"{label}/{n:02d}" for label in ("basketball", "golf_swing", "walking") for n in range(1, 5)}),
        ("ucf50", {f"{label}/g{n:02d}" for label in ("BaseballPitch", "YoYo") for n in range(1, 6)}),
        ("kth", {f"person{n:02d}" for n in (2, 11, 12, 19, 22)}),
        ("something_something_v2", {""}),
        ("jester", {""}),
    ],
)
def test_groups_come_from_names(tmp_path, name, groups):
    WRITERS[name](tmp_path, touch)
    assert {item.group for item in listed(name, tmp_path).items} == groups


def test_kinetics_groups_are_youtube_ids(tmp_path):
    WRITERS["kinetics400"](tmp_path, touch)
    assert "-a_train03" in {item.group for item in listed("kinetics400", tmp_path).items}


# --- layouts on disk


@pytest.mark.parametrize(
    "place",
    [
        "{label}/{id}_000012_000022.mp4",
        "{under}/{id}_000012_000022.mkv",
        "{id}_12_22.webm",
        "{id}.mp4",
        "train/{label}/{id}.mp4",
        "some/where/{under}/{id}_000012_000022/",
    ],
)
def test_kinetics_in_every_usual_layout(tmp_path, place):
    write_lines(tmp_path / "train.csv", [
        "label,youtube_id,time_start,time_end,split", "air drumming,aaaaaaaaaaa,12,22,train", "zumba,_b-bbbbbbbb,12,22,train",
    ])  # fmt: skip
    expected = {}
    for label, id_ in (("air drumming", "aaaaaaaaaaa"), ("zumba", "_b-bbbbbbbb")):
        path = place.format(label=label, under=label.replace(" ", "_"), id=id_)
        touch(tmp_path / path.rstrip("/"))
        expected[path.rstrip("/")] = (label, id_, "train")
    found = listed("kinetics400", tmp_path)
    assert {item.path: (item.label, item.group, item.split) for item in found.items} == expected
    assert not found.missing


def test_kinetics_json_says_the_same_as_its_csv(tmp_path):
    WRITERS["kinetics400"](tmp_path, touch)
    before = listed("kinetics400", tmp_path).items
    for split in ("train", "val"):
        file = tmp_path / "annotations" / f"{split}.csv"
        with file.open(newline="") as rows:
            content = {
                row["youtube_id"]: {
                    "annotations": {"label": row["label"], "segment": [float(row["time_start"]), float(row["time_end"])]},
                    "duration": 10.0, "subset": split, "url": f"https://www.youtube.com/watch?v={row['youtube_id']}",
                }
                for row in csv.DictReader(rows)
            }  # fmt: skip
        write_json(file.with_suffix(".json"), content)
        file.unlink()
    assert listed("kinetics400", tmp_path).items == before


def test_kinetics_without_lists_is_read_by_its_folders(tmp_path):
    for split in ("train", "val"):
        touch(tmp_path / split / "air_drumming" / f"{split}aaaaaaa_000001_000011.mp4")
        touch(tmp_path / split / "zumba" / f"{split}bbbbbbb.mp4")
    found = listed("kinetics400", tmp_path)
    assert {(item.label, item.split, item.group) for item in found.items} == {
        ("air drumming", "train", "trainaaaaaaa"), ("air drumming", "val", "valaaaaaaa"),
        ("zumba", "train", "trainbbbbbbb"), ("zumba", "val", "valbbbbbbb"),
    }  # fmt: skip
    assert any("no list with labels" in warning for warning in found.warnings)


def test_a_whole_video_is_cut_by_its_seconds_and_a_clip_is_not(tmp_path):
    """`ID.mp4` may be either, and its length tells."""
    write_lines(tmp_path / "train.csv", ["label,youtube_id,time_start,time_end,split"] + [
        f"{label},{kind}{n},2,4,train" for label in ("a", "b") for kind in ("whole", "clip") for n in range(2)
        for n in [f"{label}{n}"]
    ])  # fmt: skip
    for label in ("a", "b"):
        for n in range(2):
            write_clip(tmp_path / f"whole{label}{n}.avi", 100 * n + ord(label), 60, fps=10)
            write_clip(tmp_path / f"clip{label}{n}.avi", 200 * n + ord(label), 20, fps=10)
    prepared = muybridge.prepare(set="kinetics400", root=tmp_path, out=tmp_path / "m.csv")
    manifest = Manifest.load(prepared.manifest)
    starts, counts = (manifest.columns[name].tolist() for name in ("start_frame", "num_frames"))
    parts = dict(zip(manifest.text("id").tolist(), zip(starts, counts, strict=True), strict=True))
    assert parts["wholea0.avi#2-4"] == (20, 20)
    assert parts["clipa0.avi"] == (0, 20)


def test_one_clip_of_two_parts_of_a_video_is_rejected(tmp_path):
    """`ID.mp4` that is no longer than a part: of which part?"""
    lines = ["a,one,2,4,train", "b,one,8,10,train", "a,two,2,4,train", "b,three,2,4,train"]
    write_lines(tmp_path / "train.csv", ["label,youtube_id,time_start,time_end,split", *lines])
    for n, name in enumerate(("one", "two", "three")):
        write_clip(tmp_path / f"{name}.avi", 50 * n, 20, fps=10)
    prepared = muybridge.prepare(set="kinetics400", root=tmp_path, out=tmp_path / "m.csv", val=0)
    assert [row["path"] for row in prepared.rejected] == ["one.avi", "one.avi"]
    assert "the list names 2 parts" in prepared.rejected[0]["reason"]
    assert prepared.videos == 2


def test_a_video_that_lists_name_twice_is_kept_once_and_tested(tmp_path):
    WRITERS["kinetics400"](tmp_path, touch)
    with (tmp_path / "annotations" / "train.csv").open("a") as file:
        file.write("zumba,-z_val00,0,10,train,0\nzumba,-z_train00,0,10,train,0\n")
    found = listed("kinetics400", tmp_path)
    assert Counter(item.split for item in found.items) == {"train": 12, "val": 4}
    assert any("named again by another row, and left out there: 2 videos" in warning for warning in found.warnings)


def test_frames_stand_for_videos_and_capitals_do_not_matter(tmp_path):
    """UCF101's lists say v_HandStandPushups in the folder HandstandPushups; copies differ."""
    lists = tmp_path / "lists"
    lines = [f"HandstandPushups/v_HandStandPushups_g{g:02d}_c01" for g in (1, 8)] + [
        f"Archery/v_Archery_g{g:02d}_c01" for g in (1, 8)
    ]
    write_lines(lists / "testlist01.txt", [f"{line}.avi" for line in lines if "g01" in line])
    write_lines(lists / "trainlist01.txt", [f"{line}.avi 1" for line in lines if "g08" in line])
    for line in lines:
        touch(tmp_path / "rawframes" / line.replace("v_HandStand", "v_Handstand"))
    found = listed("ucf101", tmp_path)
    assert len(found.items) == 4
    assert not found.missing
    assert {item.group for item in found.items} == {
        f"{label}/g{g:02d}" for label in ("HandstandPushups", "Archery") for g in (1, 8)
    }
    assert any("official split 2, 3: its lists are not there" in warning for warning in found.warnings)


def test_of_several_files_that_of_the_class_is_taken(tmp_path):
    WRITERS["kinetics400"](tmp_path, touch)
    clip = next((tmp_path / "train" / "zumba").iterdir())
    touch(tmp_path / "train" / "air drumming" / clip.name)
    found = listed("kinetics400", tmp_path)
    assert {item.path for item in found.items if clip.name in item.path} == {f"train/zumba/{clip.name}"}
    assert any("more than once" in warning and clip.name[:8] in warning for warning in found.warnings)


def test_clips_of_the_two_labels_of_a_name_are_kept_apart(tmp_path):
    """Moments in Time has the same file name under several verbs."""
    folder = tmp_path / "Moments_in_Time_Raw"
    write_lines(folder / "trainingSet.csv", [f"{label}/yt-x_{n}.mp4,{label},3,0" for label in "ab" for n in (1, 2)])
    for label in "ab":
        for n in (1, 2):
            touch(folder / "training" / label / f"yt-x_{n}.mp4")
    found = listed("moments_in_time", tmp_path)
    assert all(f"/{item.label}/" in item.path for item in found.items)
    assert {item.group for item in found.items} == {"yt-x"}


# --- the whole way, to a manifest


def test_ucf101_becomes_three_official_folds_with_val_cut_by_group(tmp_path):
    WRITERS["ucf101"](tmp_path, Films())
    prepared = muybridge.prepare(set="ucf101", root=tmp_path, out=tmp_path / "m.csv")
    rows, manifest = manifest_of(prepared)
    assert manifest.official_splits
    assert manifest.folds == (1, 2, 3)
    for split in (1, 2, 3):
        tested = {path for path, row in rows.items() if row[f"split_{split}"] == "test"}
        wanted = (tmp_path / "ucfTrainTestlist" / f"testlist{split:02d}.txt").read_text().split()
        assert tested == {f"UCF-101/{name}" for name in wanted}
        assert {row[f"split_{split}"] for row in rows.values()} == {"train", "val", "test"}
    sides = {(row["group"], split, row[f"split_{split}"]) for row in rows.values() for split in (1, 2, 3)}
    assert len(sides) == len({(group, split) for group, split, _ in sides}), "a group lies on one side of each split"


def test_what_is_unused_in_one_split_of_hmdb51_is_used_in_others(tmp_path):
    WRITERS["hmdb51"](tmp_path, Films())
    rows, _ = manifest_of(muybridge.prepare(set="hmdb51", root=tmp_path, out=tmp_path / "m.csv"))
    names = hmdb51_names(classes=2, train=6, test=3, unused=2)
    for path, row in rows.items():
        marks = names[path.rpartition("/")[2]][1]
        for split in (1, 2, 3):
            allowed = {"0": {"unused"}, "1": {"train", "val"}, "2": {"test"}}[marks[split - 1]]
            assert row[f"split_{split}"] in allowed


def test_the_official_validation_split_is_the_test_where_papers_report_on_it(tmp_path):
    WRITERS["something_something_v2"](tmp_path, Films())
    prepared = muybridge.prepare(set="something_something_v2", root=tmp_path, out=tmp_path / "m.csv")
    rows, manifest = manifest_of(prepared)
    official = {entry["id"] for entry in json.loads((tmp_path / "something-something-v2-validation.json").read_text())}
    assert {path for path, row in rows.items() if row["split"] == "test"} == {
        f"20bn-something-something-v2/{n}.webm" for n in official
    }
    assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
    assert any("official validation split (6 videos) is the test" in warning for warning in prepared.warnings)
    assert manifest.classes == (
        "Pulling something from left to right", "Pulling something from right to left",
        "Pretending to put something on a surface",
    )  # fmt: skip
    assert prepared.mirror == {manifest.classes[0]: manifest.classes[1], manifest.classes[1]: manifest.classes[0]}
    assert any("left out, as no list names them: 1 video" in warning for warning in prepared.warnings), (
        "the hidden test"
    )


def test_a_labelled_test_list_of_kinetics_is_the_test(tmp_path):
    WRITERS["kinetics400"](tmp_path, touch)
    lines = ["label,youtube_id,time_start,time_end,split", "zumba,tested00000,0,10,test"]
    write_lines(tmp_path / "annotations" / "test.csv", lines)
    touch(tmp_path / "tested00000_000000_000010.mp4")
    found = base.reported(listed("kinetics400", tmp_path), SETS["kinetics400"])
    assert Counter(item.split for item in found.items) == {"train": 12, "val": 4, "test": 1}
    assert any("remove that list" in warning for warning in found.warnings)


def test_a_source_on_both_sides_of_an_official_split_is_told_and_the_split_kept(tmp_path):
    """Diving48 and Moments in Time split clips, not videos."""
    WRITERS["diving48"](tmp_path, touch)
    train = json.loads((tmp_path / "Diving48_V2_train.json").read_text())
    train[0]["vid_name"] = "-mmq_train00_00099"
    tested = json.loads((tmp_path / "Diving48_V2_test.json").read_text())
    tested[0]["vid_name"] = "-mmq_train00_00098"
    for split, entries in (("train", train), ("test", tested)):
        write_json(tmp_path / f"Diving48_V2_{split}.json", entries)
        touch(tmp_path / "rgb" / f"{entries[0]['vid_name']}.mp4")
    found = base.reported(listed("diving48", tmp_path), SETS["diving48"])
    sides = {(item.group, item.split) for item in found.items}
    assert len(sides) == len({group for group, _ in sides}), "a manifest refuses a group on two sides"
    assert Counter(item.split for item in found.items) == {"train": 12, "test": 4}
    assert any("come from a source that training" in warning for warning in found.warnings)


def test_kth_is_cut_into_its_sequences_and_split_by_person(tmp_path):
    WRITERS["kth"](tmp_path, Films())
    prepared = muybridge.prepare(set="kth", root=tmp_path, out=tmp_path / "m.csv", min_frames=6)
    manifest = Manifest.load(prepared.manifest)
    assert len(manifest) == 20
    assert set(manifest.columns["start_frame"].tolist()) == {0, 8}
    assert set(manifest.columns["num_frames"].tolist()) == {6}
    people = dict(zip(manifest.text("group").tolist(), manifest.text("split").tolist(), strict=True))
    assert people == {
        "person11": "train", "person12": "train", "person19": "val", "person22": "test", "person02": "test",
    }  # fmt: skip


def test_jester_swaps_left_and_right():
    names = ["Swiping Left", "Swiping Right", "Turning Hand Clockwise", "Turning Hand Counterclockwise", "Thumb Up"]
    names += ["Sliding Two Fingers Left", "Sliding Two Fingers Right"]
    mirrored, alone = mirror_map(names)
    assert not alone
    assert mirrored["Swiping Left"] == "Swiping Right"
    assert mirrored["Turning Hand Clockwise"] == "Turning Hand Counterclockwise"
    assert "Thumb Up" not in mirrored


def test_turns_in_names_without_blanks_are_swapped():
    names = ["MoveLeft", "MoveRight", "TurnClockwise", "TurnCounterclockwise", "Typing"]
    assert mirror_map(names) == (
        {names[0]: names[1], names[1]: names[0], names[2]: names[3], names[3]: names[2]}, []
    )  # fmt: skip
    assert mirror_map(["TurnClockwise", "TurnOtherwise"]) == ({}, ["TurnClockwise"])


def test_templates_that_name_a_side_are_swapped():
    names = ["Moving something to the left of something", "Moving something to the right of something"]
    assert mirror_map(names)[0] == {names[0]: names[1], names[1]: names[0]}


def test_at_once_is_not_a_side():
    """A template of Something-Something V2, which would forbid mirroring for all."""
    at_once = "Plugging something into something but pulling it right out as you remove your hand"
    assert mirror_map([at_once, "Pulling something from left to right"]) == (
        {},
        ["Pulling something from left to right"],
    )


def test_other_files_are_passed_over_with_the_true_reason(tmp_path):
    WRITERS["ucf11"](tmp_path, Films())
    prepared = muybridge.prepare(set="ucf11", root=tmp_path, out=tmp_path / "m.csv")
    assert prepared.videos == 24
    assert not prepared.rejected, "annotations are no broken videos"
    (told,) = [warning for warning in prepared.warnings if warning.startswith("passed over")]
    assert "24 files with .xgtf" in told
    assert "3 files with .db" in told
    assert "1 file with no ending" in told


def test_missing_videos_are_counted_and_listed(tmp_path):
    WRITERS["ucf101"](tmp_path, Films())
    gone = sorted((tmp_path / "UCF-101" / "Class001").iterdir())[:3]
    for path in gone:
        path.unlink()
    prepared = muybridge.prepare(set="ucf101", root=tmp_path, out=tmp_path / "m.csv")
    assert {row["name"] for row in prepared.missing} == {f"Class001/{path.name}" for path in gone}
    with missing_file(prepared.manifest).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in prepared.missing]
    assert {row["label"] for row in rows} == {"Class001"}
    Films()(gone[0])
    Films()(gone[1])
    Films()(gone[2])
    assert not muybridge.prepare(set="ucf101", root=tmp_path, out=tmp_path / "m.csv").missing
    assert not missing_file(prepared.manifest).exists(), "the list of an earlier call is not left behind"


def test_the_page_of_a_set_is_the_answer_to_a_missing_root(tmp_path):
    for name in SETS:
        for root in (None, tmp_path / "nothing", tmp_path):
            said = message(set=name, root=root, out=tmp_path.parent / f"{tmp_path.name}.csv")
            assert SETS[name].title in said
            assert SETS[name].page.strip() in said
            assert f"--set {name} --root" in said
    assert "Did you mean 'ucf101'" in message(set="ucf10l", root=tmp_path, out=tmp_path / "m.csv")


@pytest.mark.parametrize(
    "name", ["ucf101", "hmdb51", "something_something_v2", "jester", "moments_in_time", "diving48"]
)
def test_a_root_without_the_lists_says_which(tmp_path, name):
    touch(tmp_path / "x" / "y.mp4")
    assert f"the lists of {name} are not there" in message(set=name, root=tmp_path, out=tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "said"),
    [
        ("ucf101", "ucfTrainTestlist/trainlist01.txt", "Class000/v", "v", "is not CLASS/v_CLASS_gNN_cNN.avi"),
        (
            "hmdb51",
            "testTrainMulti_7030_splits/class_00_test_split1.txt",
            " 1 ",
            " 7 ",
            "is not NAME.avi and 0, 1 or 2",
        ),
        ("jester", "jester-v1-train.csv", ";", ",", "is not `ID;label`"),
        ("kinetics400", "annotations/train.csv", ",0,10,", ",soon,10,", "line 2: its times are not numbers"),
        ("kinetics400", "annotations/train.csv", ",0,10,", ",nan,10,", "line 2: its times are not numbers"),
        ("kinetics400", "annotations/train.csv", ",0,10,", ",0,inf,", "line 2: its times are not numbers"),
        ("kinetics400", "annotations/train.csv", "-a_train00", "", "line 2: it has no youtube_id"),
        ("kinetics400", "annotations/train.csv", "time_start", "begin", "it has no column time_start"),
        ("diving48", "Diving48_V2_train.json", '"label": 1', '"label": 48', "no label from 0 to 1"),
        ("diving48", "Diving48_V2_train.json", '"label": 1', '"label": "²"', "no label from 0 to 1"),
        ("diving48", "Diving48_V2_train.json", '"label": 1', f'"label": "{"9" * 5000}"', "no label from 0 to 1"),
        ("kth", "00sequences.txt", "1-6", f"1-{'9' * 3000}", "line 6: '1…-999999999…' are no frames"),
        ("kth", "00sequences.txt", "1-6", f"1-{'9' * 5000}", "line 6: it has 5,0"),
        ("jester", "jester-v1-train.csv", "1;", ";", "line 1: ';Swiping Left' is not `ID;label`"),
        ("ucf101", "ucfTrainTestlist/trainlist01.txt", "c01.avi 1", "c01.avi 99", "and Class000 has 1 in "),
        (
            "ucf101",
            "ucfTrainTestlist/trainlist01.txt",
            "c01.avi 1",
            "c01.avi ²",
            "with or without the number of its class",
        ),
        ("ucf101", "ucfTrainTestlist/trainlist01.txt", "Class000/v", "/etc/v", "is not CLASS/v_CLASS_gNN_cNN.avi"),
        ("ucf101", "ucfTrainTestlist/trainlist01.txt", "Class000/v", "../../v", "is not CLASS/v_CLASS_gNN_cNN.avi"),
        ("something_something_v2", "something-something-v2-train.json", '"id": "1", ', "", "entry 1: it has no id"),
        (
            "something_something_v2",
            "something-something-v2-train.json",
            f'"{TEMPLATES[0]}"',
            "null",
            "entry 1: it has no id",
        ),
        (
            "something_something_v2",
            "something-something-v2-train.json",
            f'"{TEMPLATES[0]}"',
            '{"text": "a"}',
            "entry 1: it has no id, or no template that is text",
        ),
        ("moments_in_time", "Moments_in_Time_Raw/trainingSet.csv", ",clapping", ",", "it is not `path,label,…`"),
        (
            "something_something_v2",
            "something-something-v2-labels.json",
            "Pulling",
            "Pushing",
            "does not name 'Pulling",
        ),
    ],
)
def test_a_damaged_list_is_told_with_its_place(tmp_path, name, file, old, new, said):
    WRITERS[name](tmp_path, touch)
    path = tmp_path / file
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new).encode())
    told = message(set=name, root=tmp_path, out=tmp_path / "m.csv")
    assert path.name in told
    assert said in told


def test_times_of_a_json_list_are_numbers(tmp_path):
    touch(tmp_path / "v5.mp4")
    (tmp_path / "train.json").write_text('{"v5": {"annotations": {"label": "a", "segment": [0, Infinity]}}}')
    told = message(set="kinetics400", root=tmp_path, out=tmp_path / "m.csv")
    assert "train.json, entry 1: its times are not numbers" in told


def test_numbers_of_ucf101_agree_without_a_file_of_classes_too(tmp_path):
    WRITERS["ucf101"](tmp_path, touch)
    (tmp_path / "ucfTrainTestlist" / "classInd.txt").unlink()
    before = listed("ucf101", tmp_path).items
    path = tmp_path / "ucfTrainTestlist" / "trainlist02.txt"
    path.write_text(path.read_text().replace("c01.avi 2", "c01.avi 1", 1))
    told = message(set="ucf101", root=tmp_path, out=tmp_path / "m.csv")
    assert "has the number 1, and Class001 has 2 in" in told
    assert "trainlist01.txt, line" in told
    path.write_text("".join(f"{line.split()[0]}\n" for line in path.read_text().splitlines()))
    assert listed("ucf101", tmp_path).items == before, "numbers may be left out"


@pytest.mark.parametrize(
    ("label", "said"), [("class_00", "has two marks in this list"), ("class_01", "a list of class_00, too")]
)
def test_a_video_of_hmdb51_has_one_class_and_one_mark(tmp_path, label, said):
    WRITERS["hmdb51"](tmp_path, touch)
    lists = tmp_path / "testTrainMulti_7030_splits"
    name = (lists / "class_00_test_split1.txt").read_text().split()[0]
    with (lists / f"{label}_test_split1.txt").open("a") as file:
        file.write(f"{name} 0 \n")
    told = message(set="hmdb51", root=tmp_path, out=tmp_path / "m.csv")
    assert f"{label}_test_split1.txt, line " in told
    assert f"'{name}'" in told
    assert said in told


def test_a_video_that_lists_name_with_two_labels_is_told_with_the_one_that_is_taken(tmp_path):
    write_lines(
        tmp_path / "train.csv", ["label,youtube_id,time_start,time_end", "a,one,0,10", "b,one,0,10", "b,two,0,10"]
    )
    write_lines(tmp_path / "val.csv", ["label,youtube_id,time_start,time_end", "a,two,0,10"])
    for name in ("one", "two"):
        touch(tmp_path / f"{name}_000000_000010.mp4")
    found = listed("kinetics400", tmp_path)
    assert {item.path[:3]: (item.label, item.split) for item in found.items} == {
        "one": ("a", "train"),
        "two": ("a", "val"),
    }
    [told] = [warning for warning in found.warnings if "two labels" in warning]
    assert "2 videos (the first: one_000000_000010.mp4, as a, not b)" in told


# --- subsets


def kept(tmp_path, name, **part):
    from muybridge.data.prepare.listing import Part, listing

    return listing(
        folder=None, csv=None, column=None, standard=name, root=tmp_path, lists={}, classes=part.pop("classes", None),
        layout="auto", part=Part(**part),
    )  # fmt: skip


def test_classes_restrict_a_set_by_names_in_any_spelling(tmp_path):
    WRITERS["kinetics400"](tmp_path, touch)
    write_lines(tmp_path / "few.txt", ["Air_Drumming"])
    found = kept(tmp_path, "kinetics400", classes=tmp_path / "few.txt")
    assert found.classes == ["air drumming"]
    assert {item.label for item in found.items} == {"air drumming"}
    write_lines(tmp_path / "wrong.txt", ["zumbo"])
    with pytest.raises(UserError, match="Did you mean 'zumba'"):
        kept(tmp_path, "kinetics400", classes=tmp_path / "wrong.txt")


def test_class_files_with_numbers_restrict_too(tmp_path):
    WRITERS["ucf101"](tmp_path, touch)
    write_lines(tmp_path / "few.txt", ["1 Class001"])
    assert {item.label for item in kept(tmp_path, "ucf101", classes=tmp_path / "few.txt").items} == {"Class001"}


def test_half_of_the_classes_is_drawn_by_its_seed(tmp_path):
    labels = [f"c{k:02d}" for k in range(20)]
    write_lines(tmp_path / "train.csv", ["label,youtube_id,time_start,time_end,split"] + [
        f"{label},{label}xxxxxxxx,0,10,train" for label in labels
    ])  # fmt: skip
    for label in labels:
        touch(tmp_path / f"{label}xxxxxxxx.mp4")
    halves = [kept(tmp_path, "kinetics400", half=seed).classes for seed in (0, 0, 1)]
    assert len(halves[0]) == 10
    assert halves[0] == halves[1] == sorted(halves[0])
    assert halves[0] != halves[2]
    assert kept(tmp_path, "kinetics400", num_classes=7, seed=3).classes != halves[0][:7]
    assert len(kept(tmp_path, "kinetics400", num_classes=7).classes) == 7
    with pytest.raises(UserError, match="21 classes of 20"):
        kept(tmp_path, "kinetics400", num_classes=21)
    with pytest.raises(UserError, match="--half, --num-classes: each says how many"):
        kept(tmp_path, "kinetics400", half=0, num_classes=7)
    with pytest.raises(UserError, match="--half 0: the set has 3 classes, and a half is fewer than two"):
        kept(tmp_path, "kinetics400", classes=labels[:3], half=0)
    assert len(kept(tmp_path, "kinetics400", classes=labels[:4], half=0).classes) == 2


def test_videos_of_a_class_are_limited_before_validation_becomes_the_test(tmp_path):
    WRITERS["kinetics400"](tmp_path, touch)
    found = kept(tmp_path, "kinetics400", train_per_class=4, val_per_class=1, seed=1)
    assert Counter((item.label, item.split) for item in found.items) == {
        (label, split): count for label in ("air drumming", "zumba") for split, count in (("train", 4), ("test", 1))
    }
    again = kept(tmp_path, "kinetics400", train_per_class=4, val_per_class=1, seed=1)
    assert [item.path for item in found.items] == [item.path for item in again.items]
    assert any("2 classes with fewer" in w for w in kept(tmp_path, "kinetics400", train_per_class=50).warnings)


def test_videos_of_a_class_are_not_limited_where_splits_overlap_or_are_missing(tmp_path):
    WRITERS["ucf101"](tmp_path / "ucf101", touch)
    WRITERS["ucf50"](tmp_path / "ucf50", touch)
    with pytest.raises(UserError, match="several official splits"):
        kept(tmp_path / "ucf101", "ucf101", train_per_class=4)
    with pytest.raises(UserError, match="no train split of its own"):
        kept(tmp_path / "ucf50", "ucf50", train_per_class=4)


def test_classes_of_a_folder_are_restricted_too(tmp_path):
    for label in ("run", "walk", "sit", "jump"):
        for n in range(3):
            touch(tmp_path / "videos" / label / f"{n}.mp4")
    from muybridge.data.prepare.listing import Part, listing

    def of(**part):
        return listing(
            folder=tmp_path / "videos", csv=None, column=None, standard=None, root=None, lists={},
            classes=part.pop("classes", None), layout="auto", part=Part(**part),
        )  # fmt: skip

    assert of(classes=["walk", "run"]).classes == ["run", "walk"]
    assert len({item.label for item in of(half=0).items}) == 2


def test_numbers_of_a_csv_get_their_names(tmp_path):
    for n in range(6):
        write_clip(tmp_path / f"{n}.avi", 20 * n)
    write_lines(tmp_path / "l.csv", ["path,label", *(f"{n}.avi,{n % 2}" for n in range(6))])
    write_lines(tmp_path / "names.txt", ["sit", "run"])
    prepared = muybridge.prepare(csv=tmp_path / "l.csv", classes=tmp_path / "names.txt", out=tmp_path / "m.csv")
    rows, manifest = manifest_of(prepared)
    assert manifest.classes == ("sit", "run")
    assert {path: row["label"] for path, row in rows.items()}["3.avi"] == "run"
    write_lines(tmp_path / "l.csv", ["path,label", *(f"{n}.avi,{'²³'[n % 2]}" for n in range(6))])
    told = message(csv=tmp_path / "l.csv", classes=tmp_path / "names.txt", out=tmp_path / "m.csv")
    assert "--classes: 'sit' is not a class of the set" in told, "and no number"


def test_published_subsets_take_their_list_and_say_where_it_is(tmp_path):
    WRITERS["something_something_v2"](tmp_path, touch)
    with pytest.raises(UserError, match=r"mini_ssv2\.txt.*IBM/action-recognition-pytorch"):
        kept(tmp_path, "something_something_v2", subset="mini_ssv2")
    write_lines(tmp_path / "lists" / "mini_ssv2.txt", ["Pulling something from left to right"])
    assert kept(tmp_path, "something_something_v2", subset="mini_ssv2").classes == [
        "Pulling something from left to right"
    ]
    with pytest.raises(UserError, match="Give --set kinetics400"):
        kept(tmp_path, "something_something_v2", subset="kinetics5")


def test_a_subset_without_a_published_list_says_that_it_is_drawn(tmp_path):
    folder = tmp_path / "Moments_in_Time_Raw"
    labels = [f"verb{k:03d}" for k in range(210)]
    write_lines(folder / "trainingSet.csv", [f"{label}/a_1.mp4,{label},1,0" for label in labels])
    write_lines(folder / "validationSet.csv", [f"{label}/b_1.mp4,{label},1,0" for label in labels])
    for label in labels:
        touch(folder / "training" / label / "a_1.mp4")
        touch(folder / "validation" / label / "b_1.mp4")
    found = kept(tmp_path, "moments_in_time", subset="mini_moments")
    assert len(found.classes) == 200
    assert any("published no list" in warning for warning in found.warnings)
    assert found.classes != kept(tmp_path, "moments_in_time", subset="mini_moments", seed=1).classes


# --- other people's lists


@pytest.fixture
def clips(tmp_path):
    films = Films()
    for label in ("air drumming", "zumba"):
        for i in range(4):
            films(tmp_path / "videos" / f"-{label[0]}{i}_000010_000020.mp4")
    return tmp_path


def rows_of_kinetics():
    return [
        {"action": label, "youtube": f"-{label[0]}{i}", "from": 10, "to": 20, "part": "validate" if i == 3 else "train"}
        for label in ("air drumming", "zumba") for i in range(4)
    ]  # fmt: skip


COLUMN = {"path": "youtube", "label": "action", "start": "from", "end": "to", "split": "part"}


@pytest.mark.parametrize("form", ["csv", "list", "by key", "database"])
def test_a_list_of_any_form_by_its_columns(clips, form):
    rows, column = rows_of_kinetics(), dict(COLUMN)
    path = clips / ("list.csv" if form == "csv" else "list.json")
    if form == "csv":
        write_lines(path, [";".join(rows[0]), *(";".join(map(str, row.values())) for row in rows)])
    elif form == "list":
        write_json(path, rows)
    else:
        content = {
            row["youtube"]: {"subset": row["part"], "annotations": [{"label": row["action"], "segment": [10.0, 20.0]}]}
            for row in rows
        }
        write_json(path, {"version": "1.3", "database": content} if form == "database" else content)
        column = {
            "path": "key", "label": "annotations.label", "start": "annotations.segment.0", "end": "annotations.segment.1",
            "split": "subset",
        }  # fmt: skip
    prepared = muybridge.prepare(csv=path, column=column, root=clips / "videos", out=clips / "m.csv")
    assert prepared.videos == 8
    assert prepared.splits["split"] == {"train": 6, "val": 2}
    rows_made, _ = manifest_of(prepared)
    assert rows_made["-z1_000010_000020.mp4"]["label"] == "zumba"


def test_several_annotations_of_a_video_are_several_parts(tmp_path):
    write_clip(tmp_path / "a.avi", 0, 40, fps=10)
    write_clip(tmp_path / "b.avi", 50, 40, fps=10)
    parts = [{"label": "jump", "segment": [0, 1]}, {"label": "run", "segment": [2, 3.5]}]
    write_json(tmp_path / "l.json", {"database": {name: {"annotations": parts} for name in ("a", "b")}})
    column = {
        "path": "key", "label": "annotations.label", "start": "annotations.segment.0", "end": "annotations.segment.1",
    }  # fmt: skip
    prepared = muybridge.prepare(csv=tmp_path / "l.json", column=column, all_as="test", out=tmp_path / "m.csv")
    manifest = Manifest.load(prepared.manifest)
    assert sorted(manifest.text("id").tolist()) == ["a.avi#0-1", "a.avi#2-3.5", "b.avi#0-1", "b.avi#2-3.5"]
    assert manifest.columns["num_frames"].tolist().count(15) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"path": "a", "label": "b", "x": [{"y": 1}] * 9, "z": [{"y": 1}] * 9}], "x and z are both lists of objects"),
        ([["a", "b"]], "not a list of entries"),
        ("text", "not a list of entries"),
    ],
)
def test_a_json_file_that_is_no_list_of_videos_is_told(tmp_path, content, said):
    write_json(tmp_path / "l.json", content)
    assert said in message(csv=tmp_path / "l.json", out=tmp_path / "m.csv")


def test_a_json_file_nested_without_end_is_told(tmp_path):
    (tmp_path / "l.json").write_text("[" + '{"a":' * 900 + "1" + "}" * 900 + "]")
    assert "l.json: " in message(csv=tmp_path / "l.json", out=tmp_path / "m.csv")


def test_a_test_without_labels_is_left_out_and_told(clips):
    rows = [*rows_of_kinetics(), {"action": "", "youtube": "hidden", "from": 1, "to": 2, "part": "test"}]
    write_json(clips / "list.json", rows)
    prepared = muybridge.prepare(csv=clips / "list.json", column=COLUMN, root=clips / "videos", out=clips / "m.csv")
    assert prepared.videos == 8
    assert any("1 row of the test without a label" in warning for warning in prepared.warnings)


def test_what_a_list_names_and_is_not_there_is_missing(clips):
    (clips / "videos" / "-z0_000010_000020.mp4").unlink()
    write_json(clips / "list.json", rows_of_kinetics())
    prepared = muybridge.prepare(csv=clips / "list.json", column=COLUMN, root=clips / "videos", out=clips / "m.csv")
    assert prepared.missing == [{"name": "-z0#10-20", "label": "zumba", "split": "train"}]
    shutil.rmtree(clips / "videos")
    (clips / "videos").mkdir()
    said = message(csv=clips / "list.json", column=COLUMN, root=clips / "videos", out=clips / "m.csv")
    assert "none of its 8 videos is below" in said


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"pth": "youtube"}, "'pth' is unknown. Did you mean 'path'"),
        ({"path": "yutube", "label": "action"}, "has no column 'yutube'. Did you mean 'youtube'"),
        ({"path": "youtube"}, "it needs the columns path,label"),
    ],
)
def test_a_wrong_column_is_told(clips, column, said):
    write_json(clips / "list.json", [{"youtube": "x", "verb": "y"}] if "label" not in column else rows_of_kinetics())
    assert said in message(csv=clips / "list.json", column=column, out=clips / "m.csv")


def test_options_that_do_not_go_together_are_told(tmp_path, clips):
    out = tmp_path / "m.csv"
    assert "--root: it is the folder of a standard set" in message(folder=clips, root=clips, out=out)
    assert "--column: it says" in message(folder=clips, column={"path": "x"}, out=out)
    assert "not exactly one is given" in message(folder=clips, set="kth", root=clips, out=out)
    assert "Leave the other lists out" in message(set="kth", root=clips, train_list="a.txt", out=out)
    assert "--subset mini_ssv2: it is a part of a standard set" in message(folder=clips, subset="mini_ssv2", out=out)


# --- trained


def test_a_set_is_downloaded_unpacked_and_prepared_by_one_call(tmp_path, monkeypatch):
    WRITERS["ucf101"](tmp_path / "site", Films())
    archive = shutil.make_archive(tmp_path / "ucf101", "zip", tmp_path / "site")
    server = Server()
    server.files["ucf101.zip"] = Path(archive).read_bytes()
    served = replace(SETS["ucf101"], archives=(Archive((server.url("ucf101.zip"),), ""),))
    monkeypatch.setitem(SETS, "ucf101", served)
    try:
        words = {"set": "ucf101", "root": tmp_path / "root", "download": True}
        prepared = muybridge.prepare(out=tmp_path / "m.csv", **words)
        again = muybridge.prepare(out=tmp_path / "again.csv", **words)
    finally:
        server.close()
    assert len(server.asked) == 1
    assert (
        prepared.sha256
        == again.sha256
        == muybridge.prepare(set="ucf101", root=tmp_path / "site", out=tmp_path / "site.csv").sha256
    )
    assert "no archive of jester is public" in message(
        set="jester", root=tmp_path, download=True, out=tmp_path / "j.csv"
    )
    assert "Give --set NAME and --root DIR" in message(folder=tmp_path, download=True, out=tmp_path / "j.csv")


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_every_set_trains_from_its_fixture(tmp_path, name):
    from muybridge.data.manifest import Manifest

    WRITERS[name](tmp_path / "set", Films())
    prepared = muybridge.prepare(set=name, root=tmp_path / "set", out=tmp_path / "m.csv")
    assert not prepared.rejected
    assert not prepared.missing
    folds = Manifest.load(prepared.manifest).folds
    run = muybridge.train(
        model="tsn_resnet_tiny", data=prepared.manifest, out=tmp_path / "run", fold=folds[0] if folds else None, epochs=1,
        changes={"clip.num_frames": 4, "clip.size": 32, "optim.batch_size": 8, "precision": "fp32"},
    )  # fmt: skip
    assert run.result()["test"]["videos"] == next(iter(prepared.splits.values()))["test"]
