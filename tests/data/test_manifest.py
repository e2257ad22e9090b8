"""Manifest: written and read back, checked line by line, hashed by content."""

import csv
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import codes_of, write_clip

from muybridge.data import manifest as module
from muybridge.data.manifest import COLUMNS, FORMAT_VERSION, OPTIONAL, Manifest, from_columns
from muybridge.data.prepare.prepare import prepare
from muybridge.errors import UserError
from muybridge.runtime import files
from muybridge.video import FileReader

CLASSES = ("run", "walk", "wälk, slow")


def plain(**changed):
    """Columns of six rows: two of each class, three groups, and a row that stands alone."""
    return {
        "id": ["a.avi#0-1", "a.avi#1-", "b.avi", "c/ü.avi", 'd "e", f.avi', "g.avi"],
        "path": ["a.avi", "a.avi", "b.avi", "c/ü.avi", 'd "e", f.avi', "g.avi"],
        "start_frame": [0, 25, 0, 0, 0, 0],
        "num_frames": [25, 15, 30, 1, 7, 99],
        "label": ["run", "walk", "run", "walk", "wälk, slow", "wälk, slow"],
        "group": ["g1", "g1", "g2", "g2", "", "g3"],
        "fps": [25.0, 25.0, 29.97, 12.3456, 10.0, 0.5],
        "width": [64] * 6,
        "height": [48] * 6,
        "sha256": ["1" * 64, "1" * 64, "2" * 64, "3" * 64, "4" * 64, "5" * 64],
        "split": ["train", "train", "test", "test", "val", "unused"],
        **changed,
    }


def made(root=Path(), classes=CLASSES, mirror=None, pairs=(), **changed):
    mirror = {} if mirror is None else mirror
    return from_columns(plain(**changed), classes=classes, root=root, mirror=mirror, reversed_pairs=pairs)


@pytest.fixture
def saved(tmp_path):
    """A manifest on disk, to be edited by hand."""
    made(root=tmp_path, mirror={"run": "walk", "walk": "run"}, pairs=[("run", "walk")]).save(tmp_path / "m.csv")
    return tmp_path / "m.csv"


def edit(path, old, new, count=1):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def refused(path):
    """The message, which is the same whether or not the file is split at once."""
    messages = []
    for plain_table in (module._plain_table, lambda path: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_plain_table", plain_table)
            with pytest.raises(UserError) as caught:
                Manifest.load(path)
        messages.append(str(caught.value))
    assert str(path) in messages[0]
    assert messages[0] == messages[1]
    return messages[0]


def test_round_trip(saved, tmp_path):
    back = Manifest.load(saved)
    first = made(root=tmp_path)
    assert len(back) == 6
    assert set(back.columns) == set(first.columns) == {*COLUMNS, *OPTIONAL, "split"}
    for name, values in first.columns.items():
        assert back.columns[name].dtype == values.dtype, name
        assert np.array_equal(back.columns[name], values), name
    assert back.text("path").tolist() == plain()["path"]
    assert back.classes == CLASSES
    assert back.mirror == {"run": "walk", "walk": "run"}
    assert back.reversed_pairs == (("run", "walk"),)
    assert back.root.resolve() == tmp_path.resolve()
    before = saved.read_bytes(), (tmp_path / "m.csv.json").read_bytes()
    back.save(saved)
    assert (saved.read_bytes(), (tmp_path / "m.csv.json").read_bytes()) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.csv", "m.csv.json"]


def test_a_row_is_plain_values(saved, tmp_path):
    manifest = Manifest.load(saved)
    row = manifest.row(1)
    assert (row.id, row.start_frame, row.num_frames, row.fps) == ("a.avi#1-", 25, 15, 25.0)
    assert row.path == str(tmp_path / "a.avi")
    assert [type(value) for value in row] == [str, str, int, int, float, bool]
    assert manifest.row(3).path == str(tmp_path / "c" / "ü.avi")


def test_labels_and_mirrored_labels():
    manifest = made(mirror={"run": "walk", "walk": "run"})
    assert manifest.labels().tolist() == [0, 1, 0, 1, 2, 2]
    assert manifest.mirrored_labels().tolist() == [1, 0, 2]
    assert made().mirrored_labels().tolist() == [0, 1, 2]
    other = made(classes=CLASSES[::-1])
    assert other.labels().tolist() == [2, 1, 2, 1, 0, 0], "class i is classes[i]"


def test_mirroring_can_be_off(tmp_path):
    manifest = from_columns(plain(), classes=CLASSES, root=tmp_path, mirror=None)
    assert manifest.mirrored_labels() is None
    manifest.save(tmp_path / "m.csv")
    assert Manifest.load(tmp_path / "m.csv").mirror is None


def test_splits_and_what_is_unused():
    manifest = made()
    assert [manifest.split(name).tolist() for name in ("train", "val", "test", "unused")] == [[0, 1], [4], [2, 3], [5]]
    assert manifest.split_columns == ("split",)
    assert manifest.folds == ()
    with pytest.raises(UserError, match=r"no fold 1.*one split and no folds"):
        manifest.split("train", 1)


def test_a_row_that_is_unused_is_on_no_side():
    """A group may have members that an official list leaves out."""
    assert len(made(split=["train", "unused", "test", "test", "val", "unused"])) == 6


def folded():
    columns = plain()
    del columns["split"]
    columns["split_1"] = ["train", "train", "test", "test", "val", "unused"]
    columns["split_2"] = ["test", "test", "train", "train", "val", "unused"]
    columns["split_10"] = ["test", "test", "val", "val", "train", "unused"]
    return columns


def test_folds(tmp_path):
    from_columns(folded(), classes=CLASSES, root=tmp_path, mirror={}).save(tmp_path / "m.csv")
    manifest = Manifest.load(tmp_path / "m.csv")
    assert manifest.folds == (1, 2, 10)
    assert manifest.split("test", 1).tolist() == [2, 3]
    assert manifest.split("test", 10).tolist() == [0, 1]
    with pytest.raises(UserError, match=r"no fold 3.*folds 1, 2, 10"):
        manifest.split("test", 3)
    with pytest.raises(UserError, match=r"3 folds.*data\.fold"):
        manifest.split("test")


def test_official_splits_are_marked_and_are_not_by_default(tmp_path):
    for official in (True, False):
        made = from_columns(folded(), classes=CLASSES, root=tmp_path, mirror={}, official_splits=official)
        made.save(tmp_path / "m.csv")
        about = json.loads((tmp_path / "m.csv.json").read_text())
        assert about.get("official_splits", False) is official
        assert Manifest.load(tmp_path / "m.csv").official_splits is official
    assert "official_splits" not in about, "a manifest of an earlier version has no such field"


def test_columns_of_the_users_own_are_passed_over(saved):
    lines = saved.read_text(encoding="utf-8").splitlines()
    lines = [lines[0] + ",split_reason,notes"] + [line + ",x," for line in lines[1:]]
    saved.write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = Manifest.load(saved)
    assert manifest.split_columns == ("split",)
    assert manifest.folds == ()
    assert manifest.sha256() == made(mirror={"run": "walk", "walk": "run"}).sha256()


def test_a_spreadsheet_may_have_written_it(saved):
    """A byte-order mark, other line ends, quotes everywhere, an empty line at the end."""
    expected = Manifest.load(saved).sha256()
    text = saved.read_text(encoding="utf-8")
    saved.write_bytes(("\ufeff" + text.replace("\n", "\r\n") + "\r\n").encode())
    assert Manifest.load(saved).sha256() == expected


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("train", "trian", ["line 2", "split is 'trian'", "Choose from train, val, test, unused"]),
        (",run,g1", ",rnu,g1", ["line 2", "label 'rnu'", "Did you mean 'run'?"]),
        ("b.avi,b.avi,0,30", "b.avi,b.avi,0,many", ["line 4", "num_frames is 'many'"]),
        ("b.avi,b.avi,0,30", "b.avi,b.avi,0,3.5", ["line 4", "num_frames is '3.5'"]),
        ("b.avi,b.avi,0,30", "b.avi,b.avi,0,", ["line 4", "num_frames is ''"]),
        ("b.avi,b.avi,0,30", "b.avi,b.avi,0,0", ["line 4", "Give num_frames ≥ 1"]),
        ("b.avi,b.avi,0,30", "b.avi,b.avi,-1,30", ["line 4", "start_frame ≥ 0"]),
        ("b.avi,b.avi,0,30", "b.avi,b.avi,0," + "9" * 30, ["line 4", "num_frames", "too large"]),
        ("29.97", "0", ["line 4", "fps > 0"]),
        ("29.97", "nan", ["line 4", "fps > 0"]),
        ("29.97", "inf", ["line 4", "fps"]),
        ("29.97", "29,97", ["line 4", "13 fields where the header has 12"]),
        ("a.avi#1-,", "a.avi#0-1,", ["'a.avi#0-1' occurs more than once"]),
        (",fps,", ",rate,", ["lacks the column fps"]),
        (",split\n", ",part\n", ["lacks the column split"]),
        (",group,", ",label,", ["lacks the column group"]),
        (",width,height,", ",width,height,width,", ["fields where the header has"]),
    ],
)
def test_what_is_wrong_in_the_csv_is_told_with_its_line(saved, old, new, said):
    edit(saved, old, new)
    message = refused(saved)
    assert [part for part in said if part not in message] == [], message


def test_a_column_that_occurs_twice_is_refused(saved):
    lines = saved.read_text(encoding="utf-8").splitlines()
    saved.write_text("\n".join([lines[0] + ",split"] + [line + ",train" for line in lines[1:]]), encoding="utf-8")
    assert "split more than once" in refused(saved)


@pytest.mark.parametrize("line", [2, 3])
def test_a_hand_edit_that_puts_a_group_on_both_sides_is_refused(saved, line):
    lines = saved.read_text(encoding="utf-8").splitlines()
    lines[line - 1] = lines[line - 1].replace(",train", ",test")
    saved.write_text("\n".join(lines) + "\n", encoding="utf-8")
    message = refused(saved)
    for part in ("group 'g1'", "line 2", "line 3", "train", "test"):
        assert part in message


def test_a_group_is_checked_in_every_fold(tmp_path):
    columns = folded()
    columns["split_10"] = ["test", "train", "val", "val", "train", "unused"]
    with pytest.raises(UserError, match=r"group 'g1'.*split_10"):
        from_columns(columns, classes=CLASSES, root=tmp_path, mirror={})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ["run", "walk"]}, "'wälk, slow' is not among the classes"),
        ({"classes": ["run"]}, "at least two classes"),
        ({"classes": ["run", "walk", "wälk, slow", "run"]}, "named twice"),
        ({"classes": [1, 2, 3]}, "Put names in quotes"),
        ({"classes": "run"}, "'classes' is missing or of the wrong type"),
        ({"mirror": {"rnu": "walk"}}, "Did you mean 'run'"),
        ({"mirror": {"run": 3}}, "Put names in quotes"),
        ({"mirror": []}, "'mirror' is missing or of the wrong type"),
        ({"reversed_pairs": [["run", "wlak"]]}, "Did you mean 'walk'"),
        ({"reversed_pairs": [["run"]]}, "reversed_pairs"),
        ({"reversed_pairs": ["ab"]}, "reversed_pairs"),
        ({"official_splits": "yes"}, "'official_splits' is not true or false"),
        ({"root": None}, "'root' is missing or of the wrong type"),
        ({"format_version": 2}, "format_version 1"),
        ({"format_version": None}, "format_version 1"),
    ],
)
def test_what_is_wrong_in_the_json_is_told(saved, change, said):
    beside = saved.with_suffix(".csv.json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **change}))
    assert said in refused(saved)


@pytest.mark.parametrize("field", ["format_version", "root", "classes", "mirror", "reversed_pairs"])
def test_a_field_that_is_missing_in_the_json_is_told(saved, field):
    beside = saved.with_suffix(".csv.json")
    values = json.loads(beside.read_text())
    del values[field]
    beside.write_text(json.dumps(values))
    assert field in refused(saved)


def test_what_is_no_manifest_says_how_to_make_one(saved, tmp_path):
    with pytest.raises(UserError, match="muybridge prepare FOLDER"):
        Manifest.load(tmp_path / "none.csv")
    with pytest.raises(UserError, match="is a folder"):
        Manifest.load(tmp_path)
    (tmp_path / "list.csv").write_text("path,label\na.avi,run\n")
    with pytest.raises(UserError, match="prepare --csv"):
        Manifest.load(tmp_path / "list.csv")
    with pytest.raises(UserError, match="not a manifest"):
        Manifest.load(saved.with_suffix(".csv.json"))
    for content in (b"\xff\xfe\x00", b""):
        saved.write_bytes(content)
        refused(saved)
    saved.write_text(",".join([*COLUMNS, "split"]) + "\n")
    assert "no rows" in refused(saved)
    saved.with_suffix(".csv.json").write_text("[]")
    refused(saved)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": ["x", "a.avi#1-", "b.avi", "c/ü.avi", "d", "g.avi"]},
        {"start_frame": [1, 25, 0, 0, 0, 0]},
        {"num_frames": [24, 15, 30, 1, 7, 99]},
        {"label": ["walk", "walk", "run", "walk", "run", "wälk, slow"]},
        {"group": ["g1", "g1", "g2", "g2", "g4", "g3"]},
        {"fps": [25.0, 25.0, 29.97, 12.3457, 10.0, 0.5]},
        {"sha256": ["1" * 64, "1" * 64, "2" * 64, "3" * 64, "4" * 64, "6" * 64]},
        {"split": ["train", "train", "test", "test", "val", "val"]},
        {"classes": CLASSES[::-1]},
        {"mirror": {"run": "walk", "walk": "run"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_hash_changes_with_all_that_can_change_a_result(changed):
    assert made(**changed).sha256() != made().sha256()


def test_the_hash_does_not_change_with_the_place():
    columns = {"path": ["other/" + name for name in plain()["path"]]}
    assert made(root=Path("/elsewhere"), **columns).sha256() == made(root=Path("here")).sha256()
    assert made().sha256() != from_columns(plain(), classes=CLASSES, root=Path(), mirror=None).sha256()


def straightforward_sha256(manifest):
    """The definition, value by value."""
    digest = hashlib.sha256(json.dumps([manifest.classes, manifest.mirror, FORMAT_VERSION]).encode())
    for name in sorted(manifest.columns.keys() - {"path", "seekable"}):
        digest.update(name.encode() + b"\0" + b"\0".join(str(v).encode() for v in manifest.columns[name].tolist()))
    return digest.hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"id": ["it's", 'say "it"', 'it\'s "it"', "back\\slash", "tab\t", "ü"]},
        {"group": ["'"] * 2 + ["~ !"] * 2 + ["", "\x7f"]},
        {"group": [""] * 6},
        {"group": ["a\0b", "a\0b", "", "", "", "c\0"]},
        {"start_frame": [2**53, 0, 7, 7, 10, 0], "fps": [1e-300, 1e300, 0.1, 1 / 3, 24000 / 1001, 1.0]},
    ],
    ids=["plain", "escapes", "quotes", "empty", "zero bytes", "numbers"],
)
def test_the_hash_is_that_of_the_straightforward_computation(changed):
    manifest = made(**changed)
    assert manifest.sha256() == straightforward_sha256(manifest)


@pytest.mark.parametrize("wide", [False, True], ids=["ASCII", "not ASCII"])
def test_a_file_without_quotes_is_read_as_any_other(tmp_path, monkeypatch, wide):
    ids = ["a.avi", "b  .avi", "c/ü.avi" if wide else "c/u.avi", "d;e", " f", "g'"]
    made(id=ids, path=ids, label=["run", "walk"] * 3, classes=CLASSES[:2], root=tmp_path).save(tmp_path / "m.csv")
    assert module._plain_table(tmp_path / "m.csv") is not None
    at_once = Manifest.load(tmp_path / "m.csv")
    monkeypatch.setattr(module, "_plain_table", lambda path: None)
    by_line = Manifest.load(tmp_path / "m.csv")
    assert at_once.columns.keys() == by_line.columns.keys()
    for name, column in by_line.columns.items():
        assert at_once.columns[name].dtype == column.dtype
        assert np.array_equal(at_once.columns[name], column), name
    assert at_once.text("id").tolist() == ids
    assert at_once.sha256() == by_line.sha256() == straightforward_sha256(by_line)


def test_values_do_not_run_together_in_the_hash():
    one = made(group=["g1", "g1", "g", "g", "2x", "g3"])
    other = made(group=["g1", "g1", "g", "g2", "x", "g3"], split=plain()["split"])
    assert one.sha256() != other.sha256()


def test_folder_and_manifest_move_together(tmp_path):
    here = tmp_path / "here"
    write_clip(here / "videos" / "run" / "a.avi", 3, 4)
    columns = {name: values[:2] for name, values in plain(split=["train", "test"]).items()}
    columns |= {"path": ["run/a.avi"] * 2, "group": ["", ""], "start_frame": [0, 1], "num_frames": [4, 3]}
    manifest = from_columns(columns, classes=CLASSES, root=here / "videos", mirror={})
    manifest.save(here / "m.csv")
    manifest.save(here / "videos" / "m.csv")
    shutil.move(here, tmp_path / "there")
    for place in ("m.csv", "videos/m.csv"):
        moved = Manifest.load(tmp_path / "there" / place)
        assert moved.sha256() == manifest.sha256()
        assert codes_of(FileReader().read(moved.row(1), np.array([2, 0]))) == [6, 4]


def test_a_manifest_elsewhere_finds_its_videos(tmp_path, monkeypatch):
    write_clip(tmp_path / "videos" / "a.avi", 3, 4)
    monkeypatch.chdir(tmp_path)
    columns = {name: values[:2] for name, values in plain(split=["train", "test"]).items()}
    columns |= {"path": ["a.avi"] * 2, "group": ["", ""], "start_frame": [0, 0], "num_frames": [4, 4]}
    from_columns(columns, classes=CLASSES, root=Path("videos"), mirror={}).save(tmp_path / "lists" / "m.csv")
    monkeypatch.chdir(tmp_path / "lists")
    assert codes_of(FileReader().read(Manifest.load("m.csv").row(0), np.array([0]))) == [3]


def many(count):
    numbers = np.arange(count)
    return from_columns(
        {
            "id": [f"class {i % 400:03d}/video_{i:07d}.mp4" for i in numbers],
            "path": [f"class {i % 400:03d}/video_{i:07d}.mp4" for i in numbers],
            "start_frame": numbers % 7, "num_frames": numbers % 300 + 1,
            "label": [f"class {i % 400:03d}" for i in numbers], "group": [f"source {i // 4}" for i in numbers],
            "fps": np.full(count, 25.0), "width": np.full(count, 340), "height": np.full(count, 256),
            "sha256": [f"{i:064x}" for i in numbers], "split": [("train", "test")[i // 4 % 2] for i in numbers],
        },
        classes=[f"class {k:03d}" for k in range(400)], root=Path(), mirror={},
    )  # fmt: skip


def test_rows_cost_little_and_travel_as_arrays():
    """So that 240,000 take 120 MB at most."""
    manifest = many(24_000)
    pickled = pickle.dumps(manifest)
    assert len(pickled) < 500 * 24_000
    assert all(isinstance(column, np.ndarray) and column.dtype.kind in "Sif" for column in manifest.columns.values())
    back = pickle.loads(pickled)
    assert len(back) == 24_000
    assert back.row(23_999) == manifest.row(23_999)
    assert np.array_equal(back.columns["sha256"], manifest.columns["sha256"])


def test_a_pickled_manifest_is_the_same():
    manifest = made(mirror={"run": "walk", "walk": "run"}, pairs=[("run", "walk")])
    back = pickle.loads(pickle.dumps(manifest))
    assert back.sha256() == manifest.sha256()
    assert (back.classes, back.mirror, back.reversed_pairs) == (CLASSES, dict(manifest.mirror), (("run", "walk"),))


@pytest.mark.parametrize("moment", ["writing the second", "between the two", "replacing the second"])
def test_a_csv_never_goes_with_the_json_of_another(tmp_path, monkeypatch, moment):
    """Whatever ends it: the old pair, the new pair, or none that loads."""
    old, new = made(root=tmp_path / "old"), made(root=tmp_path / "new")
    old.save(tmp_path / "set.csv")
    root = Manifest.load(tmp_path / "set.csv").root.resolve()
    calls = []

    def failing(name, whole, at):
        def call(*arguments):
            calls.append(name)
            if calls.count(name) == at:
                raise OSError(28, "No space left on device")
            return whole(*arguments)

        return call

    if moment == "writing the second":
        monkeypatch.setattr(files, "write_durable", failing("write", files.write_durable, 2))
    else:
        monkeypatch.setattr(os, "replace", failing("replace", os.replace, 1 if moment == "between the two" else 2))
    with pytest.raises(OSError, match="No space left"):
        new.save(tmp_path / "set.csv")
    assert not list(tmp_path.glob(".*.partial"))
    if moment == "writing the second":
        assert Manifest.load(tmp_path / "set.csv").root.resolve() == root
    else:
        with pytest.raises(UserError, match=r"not a manifest, which is NAME\.csv with NAME\.csv\.json beside it"):
            Manifest.load(tmp_path / "set.csv")
    monkeypatch.undo()
    new.save(tmp_path / "set.csv")
    assert Manifest.load(tmp_path / "set.csv").root.resolve() == new.root.resolve()


def test_names_of_files_survive_a_round_trip(tmp_path):
    names = ["a\rb.avi", "a\nb.avi", 'a",b.avi', "\r.avi", " a .avi"]
    for number, name in enumerate(["0.avi", "1.avi", *names]):
        write_clip(tmp_path / "a" / name, 7 * number)
    for number, name in enumerate(["0.avi", *names]):
        write_clip(tmp_path / "b" / f"{number}.avi", 7 * number + 100)
        (tmp_path / "b" / f"broken{name}").write_bytes(b"x")
    prepare(tmp_path, out=tmp_path / "set.csv", all_as="test")
    manifest = Manifest.load(tmp_path / "set.csv")
    assert {f"a/{name}" for name in names} < set(manifest.text("path").tolist())
    with (tmp_path / "set.rejected.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 7
