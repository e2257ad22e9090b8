"""Prepare: what is broken is told, nothing is lost, and no split leaks."""

import csv
import json
import shutil
import tracemalloc

import numpy as np
import pytest
from making import code_of, coded, codes_of, uneven_times_ms, write_clip, write_vfr
from making_images import write_images
from making_odd import ODD, write_odd
from typer.testing import CliRunner

from muybridge.cli.app import app
from muybridge.data.manifest import Manifest
from muybridge.data.prepare import inspection
from muybridge.data.prepare import prepare as prepare_module
from muybridge.data.prepare.folders import Item
from muybridge.data.prepare.prepare import prepare
from muybridge.errors import UserError
from muybridge.video import FileReader, VideoInfo
from muybridge.video.safe import Looked, SafeReader

PARTS = ("train", "val", "test")

pytestmark = pytest.mark.usefixtures("one_job")


def write_set(root, classes=("jump", "run", "walk"), groups=6, clips=2, first=0):
    """CLASS/v_gGG_cCC.avi, every file with pictures of its own."""
    for label in classes:
        for g in range(groups):
            for c in range(clips):
                write_clip(root / label / f"v_g{g:02d}_c{c:02d}.avi", first % 1000, 5)
                first += 1
    return root


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "videos")


@pytest.fixture(scope="module")
def inspections():
    """What was inspected in this module so far."""
    return {}


@pytest.fixture
def inspected_once(inspections, monkeypatch):
    """Decode the same items once in this module, where a test is about what happens to them afterwards."""

    def inspect(root, items, **settings):
        key = (root, tuple(items), *(value for name, value in settings.items() if name != "jobs"))
        if key not in inspections:
            inspections[key] = inspection.inspect(root, items, **settings)
        known = inspections[key]
        return inspection.Inspection([*known.rows], [*known.rejected], [*known.warnings])

    monkeypatch.setattr(prepare_module, "inspect", inspect)


def load(prepared):
    return Manifest.load(prepared.manifest)


def message(*arguments, **settings):
    with pytest.raises(UserError) as caught:
        prepare(*arguments, **settings)
    return str(caught.value)


def assert_whole(manifest, column="split"):
    """No group on two sides; every class in train and test."""
    splits, groups, labels = manifest.text(column), manifest.text("group"), manifest.text("label")
    for group in set(groups.tolist()) - {""}:
        assert len(set(splits[groups == group].tolist())) == 1, group
    for part in ("train", "test"):
        assert set(labels[splits == part].tolist()) == set(manifest.classes)


def write_csv(path, header, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_a_folder_of_class_folders(videos, tmp_path):
    prepared = prepare(videos, out=tmp_path / "m.csv", group=r"_(g\d+)_")
    manifest = load(prepared)
    assert prepared.manifest == tmp_path / "m.csv"
    assert prepared.videos == len(manifest) == 36
    assert prepared.rejected == []
    assert prepared.warnings == []
    assert prepared.classes == {"jump": 12, "run": 12, "walk": 12}
    assert prepared.groups == 6
    assert sum(prepared.splits["split"].values()) == 36
    assert set(prepared.splits["split"]) == set(PARTS)
    assert prepared.sha256 == manifest.sha256()
    assert manifest.classes == ("jump", "run", "walk")
    assert manifest.mirror == {}
    assert set(manifest.text("group").tolist()) == {f"g{g:02d}" for g in range(6)}
    for i in range(36):
        row = manifest.row(i)
        assert row.path == str(videos / row.id)
        assert (row.start_frame, row.num_frames, row.fps) == (0, 5, 25.0)
        assert row.id.split("/")[0] == manifest.text("label")[i]
    assert set(manifest.columns["width"].tolist()) == {64}
    assert set(manifest.columns["height"].tolist()) == {48}
    assert_whole(manifest)
    assert prepared.as_json()["manifest"] == str(tmp_path / "m.csv")


def test_a_group_never_straddles_over_20_seeds(videos, tmp_path, inspected_once):
    seen = set()
    for seed in range(20):
        manifest = load(prepare(videos, out=tmp_path / "m.csv", group=r"_(g\d+)_", seed=seed, jobs=1))
        assert_whole(manifest)
        assert [len(manifest.split(part)) for part in PARTS] == [24, 6, 6]
        seen.add(manifest.columns["split"].tobytes())
    assert len(seen) > 5, "the seed decides which groups are held out"


def test_the_same_arguments_give_the_same_bytes(videos, tmp_path):
    one = prepare(videos, out=tmp_path / "a.csv", seed=4, jobs=1)
    other = prepare(videos, out=tmp_path / "b.csv", seed=4, jobs=3)
    assert one.manifest.read_bytes() == other.manifest.read_bytes()
    assert one.sha256 == other.sha256
    assert one.sha256 != prepare(videos, out=tmp_path / "c.csv", seed=5).sha256


def test_calls_that_share_a_set_write_the_same_manifest(tmp_path):
    """Broken files, warnings and all; in any order, and with options that are the same."""
    root = write_set(tmp_path / "set", groups=4)
    (root / "run" / "broken.avi").write_bytes(b"not a video")
    shutil.copy(root / "run" / "v_g00_c00.avi", root / "walk" / "copy.avi")
    whole = prepare(root, out=tmp_path / "one.csv", group=r"_(g\d+)_|copy()")
    asked = {"group": r"_(g\d+)_|copy()", "out": tmp_path / "three.csv"}
    for shard in ("2/3", "3/3"):
        assert not prepare(root, shard=shard, **asked).finished
    assert not prepare(root, shard="1/3", min_frames=2, **asked).finished, "other options share nothing with these"
    assert not (tmp_path / "three.csv").exists()
    last = prepare(root, shard="1/3", **asked)
    for ending in (".csv", ".csv.json", ".rejected.csv"):
        assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"three{ending}").read_bytes()
    assert (last.warnings, last.rejected, last.splits) == (whole.warnings, whole.rejected, whole.splits)
    assert whole.rejected
    assert {path.name for path in tmp_path.iterdir()} == {
        "set", *(f"{name}{ending}" for name in ("one", "three") for ending in (".csv", ".csv.json", ".rejected.csv")),
    }  # fmt: skip
    with pytest.raises(UserError, match="it is there already"):
        prepare(root, shard="1/3", **asked)


def test_without_a_group_the_split_is_random_and_says_so(videos, tmp_path, inspected_once):
    prepared = prepare(videos, out=tmp_path / "m.csv")
    [warning] = prepared.warnings
    assert "no group is known" in warning
    assert "--group" in warning
    manifest = load(prepared)
    for label in manifest.classes:
        counts = [(manifest.text("label")[manifest.split(part)] == label).sum() for part in PARTS]
        assert np.abs(np.array(counts) - 12 * np.array([0.65, 0.15, 0.2])).max() <= 1


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.2), (0.25, 0.25), (0.0, 0.5), (0.0, 0.25)])
def test_val_and_test_are_shares_of_the_whole(videos, tmp_path, inspected_once, val, test):
    prepared = prepare(videos, out=tmp_path / "m.csv", val=val, test=test)
    manifest = load(prepared)
    assert len(manifest.split("val")) == pytest.approx(36 * val, abs=2)
    assert len(manifest.split("test")) == pytest.approx(36 * test, abs=2)
    assert (val == 0) == any("no validation split" in warning for warning in prepared.warnings)


@pytest.mark.parametrize("folds", [2, 3, 6])
def test_every_video_is_in_exactly_one_test_fold_and_val_is_cut_by_group(videos, tmp_path, inspected_once, folds):
    prepared = prepare(videos, out=tmp_path / "m.csv", group=r"_(g\d+)_", folds=folds)
    manifest = load(prepared)
    assert manifest.folds == tuple(range(1, folds + 1))
    assert set(prepared.splits) == {f"split_{fold}" for fold in manifest.folds}
    tested = np.concatenate([manifest.split("test", fold) for fold in manifest.folds])
    assert sorted(tested.tolist()) == list(range(36))
    for fold in manifest.folds:
        assert_whole(manifest, f"split_{fold}")
        assert len(manifest.split("test", fold)) == 36 // folds
        assert len(manifest.split("val", fold)) == 6  # one group of six: 15 % of the whole is nearest to it
        rows = np.concatenate([manifest.split(part, fold) for part in PARTS])
        assert sorted(rows.tolist()) == list(range(36))


def test_folds_without_groups(videos, tmp_path, inspected_once):
    prepared = prepare(videos, out=tmp_path / "m.csv", folds=4, val=0.25)
    manifest = load(prepared)
    assert any("no group is known" in warning for warning in prepared.warnings)
    for fold in manifest.folds:
        assert [len(manifest.split(part, fold)) for part in PARTS] == [18, 9, 9]


def test_official_lists(videos, tmp_path):
    names = sorted(path.relative_to(videos).as_posix() for path in videos.rglob("*.avi"))
    test = [name for name in names if "_g05_" in name]
    unused = [name for name in names if "_g04_c01" in name]
    train = [name for name in names if name not in test + unused]
    (tmp_path / "train.txt").write_text("".join(f"{name} 1\n" for name in train))
    (tmp_path / "test.txt").write_text("".join(f"{name}\n" for name in test))
    prepared = prepare(
        videos, out=tmp_path / "m.csv", group=r"_(g\d+)_",
        train_list=tmp_path / "train.txt", test_list=tmp_path / "test.txt",
    )  # fmt: skip
    manifest = load(prepared)
    ids = manifest.text("id")
    assert sorted(ids[manifest.split("test")].tolist()) == test
    assert sorted(ids[manifest.split("unused")].tolist()) == unused
    assert sorted(ids[np.concatenate([manifest.split("train"), manifest.split("val")])].tolist()) == train
    assert set(manifest.text("group")[manifest.split("val")].tolist()) in [{f"g{g:02d}"} for g in range(5)]
    (tmp_path / "val.txt").write_text("".join(f"{name}\n" for name in train if "_g00_" in name))
    (tmp_path / "train.txt").write_text("".join(f"{name}\n" for name in train if "_g00_" not in name))
    manifest = load(
        prepare(
            videos, out=tmp_path / "m.csv", train_list=tmp_path / "train.txt", val_list=tmp_path / "val.txt",
            test_list=tmp_path / "test.txt",
        )
    )  # fmt: skip
    assert {name.split("_")[1] for name in manifest.text("id")[manifest.split("val")].tolist()} == {"g00"}


def test_what_no_list_names_does_not_count_for_the_share_of_val(videos, tmp_path, inspected_once):
    """A small official split of a large folder: val is a share of what is used."""
    used = [path.relative_to(videos).as_posix() for path in sorted(videos.rglob("*c00.avi"))]
    (tmp_path / "train.txt").write_text("\n".join(name for name in used if "_g05_" not in name))
    (tmp_path / "test.txt").write_text("\n".join(name for name in used if "_g05_" in name))
    manifest = load(
        prepare(
            videos, out=tmp_path / "m.csv", val=0.18, train_list=tmp_path / "train.txt", test_list=tmp_path / "test.txt"
        )
    )
    assert [len(manifest.split(part)) for part in (*PARTS, "unused")] == [12, 3, 3, 18]


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_list_alone_leaves_the_rest_unused(videos, tmp_path, inspected_once, split):
    names = sorted(path.relative_to(videos).as_posix() for path in videos.rglob("*_g0[01]_*.avi"))
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    prepared = prepare(videos, out=tmp_path / "m.csv", val=0.0, **{f"{split}_list": tmp_path / "list.txt"})
    assert prepared.splits == {"split": {split: 12, "unused": 24}}
    said = {
        "train": "the set has no test split",
        "test": "all videos are in test and unused; the set serves to evaluate on",
    }
    assert any(said[split] in warning for warning in prepared.warnings)


def test_parts_of_a_video_are_its_frames_by_display_time(tmp_path):
    write_vfr(tmp_path / "vfr.mp4")
    times = np.array(uneven_times_ms(40)) / 1000
    write_clip(tmp_path / "even.avi", 100, 30, fps=10)
    rows = [
        ("vfr.mp4", "a", 0.5, 1.25), ("vfr.mp4", "b", 1.25, ""), ("vfr.mp4", "a", "", 0.5), ("even.avi", "b", 0.0, 1.0),
        ("even.avi", "a", 1.0, 2.05), ("even.avi", "b", 2.05, 99), ("vfr.mp4", "a", times[7], times[12]),
    ]  # fmt: skip
    write_csv(tmp_path / "parts.csv", "path,label,start,end", *rows)
    manifest = load(prepare(csv=tmp_path / "parts.csv", out=tmp_path / "m.csv", val=0.0, test=0.5, min_frames=1))
    assert manifest.text("id").tolist() == [
        "vfr.mp4#0.5-1.25", "vfr.mp4#1.25-", "vfr.mp4#0-0.5", "even.avi#0-1", "even.avi#1-2.05", "even.avi#2.05-99",
        f"vfr.mp4#{times[7]:g}-{times[12]:g}",
    ]  # fmt: skip
    for i, (path, _, start, end) in enumerate(rows):
        shown = times if path == "vfr.mp4" else np.arange(30) / 10
        wanted = np.flatnonzero((shown >= (start or 0)) & (shown < (end or np.inf)))
        row = manifest.row(i)
        assert (row.start_frame, row.num_frames) == (wanted[0], len(wanted)), row.id
        found = codes_of(FileReader().read(row, np.arange(row.num_frames)))
        assert found == [number + (100 if path == "even.avi" else 0) for number in wanted]
    assert len(set(manifest.text("split")[manifest.text("path") == "vfr.mp4"].tolist())) == 1
    assert len(set(manifest.text("split")[manifest.text("path") == "even.avi"].tolist())) == 1


def test_a_part_outside_its_video_is_told(tmp_path):
    for i in range(4):
        write_clip(tmp_path / f"{i}.avi", 10 * i, 10, fps=10)
    rows = [(f"{i}.avi", "ab"[i % 2], "", "") for i in range(4)]
    write_csv(tmp_path / "l.csv", "path,label,start,end", *rows, ("0.avi", "a", 2, 3), ("1.avi", "b", 0.8, 3))
    prepared = prepare(csv=tmp_path / "l.csv", out=tmp_path / "m.csv", val=0.0, test=0.5)
    assert prepared.rejected == [
        {"path": "0.avi", "reason": "too short: 0 frames in this part, at least 4 are needed (--min-frames)"},
        {"path": "1.avi", "reason": "too short: 2 frames in this part, at least 4 are needed (--min-frames)"},
    ]
    assert prepared.videos == 4


def test_parts_that_start_close_together_late_in_a_long_video_have_ids_of_their_own():
    items = [Item("a.avi", "x", "", "", 10800.125, end) for end in (10800.5, 10800.75)]
    assert len({item.id for item in items}) == 2


def test_the_columns_group_and_split_of_a_csv(videos, tmp_path):
    names = sorted(path.relative_to(videos).as_posix() for path in videos.rglob("*.avi"))
    split = {"g00": "testing", "g01": "test", "g02": "validation"}
    rows = [(f"videos/{name}", name.split("/")[0], name[-11:-8], split.get(name[-11:-8], "train")) for name in names]
    shutil.copytree(videos, tmp_path / "videos")
    write_csv(tmp_path / "l.csv", "path,label,group,split", *rows)
    manifest = load(prepare(csv=tmp_path / "l.csv", out=tmp_path / "m.csv"))
    groups = manifest.text("group")
    assert [set(groups[manifest.split(part)].tolist()) for part in PARTS] == [
        {"g03", "g04", "g05"}, {"g02"}, {"g00", "g01"},
    ]  # fmt: skip
    write_csv(tmp_path / "l.csv", "path,label,group", *[row[:3] for row in rows])
    prepared = prepare(csv=tmp_path / "l.csv", out=tmp_path / "m.csv")
    assert prepared.warnings == []
    assert_whole(load(prepared))
    assert prepared.groups == 6


def test_mistakes_are_told_before_anything_is_decoded(videos, tmp_path, monkeypatch):
    def decode(*arguments, **settings):
        raise AssertionError("a video was looked at")

    monkeypatch.setattr(prepare_module, "inspect", decode)
    out = tmp_path / "m.csv"
    header, a, b = "path,label,split", ("a.avi", "x", "train"), ("b.avi", "y", "")
    (tmp_path / "l.txt").write_text("v_g00_c00\n")
    half = write_csv(tmp_path / "half.csv", header, a, b)
    twice = write_csv(tmp_path / "twice.csv", "path,label", a[:2], b[:2], a[:2])
    one = write_csv(tmp_path / "one.csv", "path,label", a[:2], ("b.avi", "x"))
    full = write_csv(tmp_path / "full.csv", header, a, ("b.avi", "y", "test"))
    assert "split: the column is filled in 1 of 2 rows" in message(csv=half, out=out)
    assert "'a.avi': it is listed more than once" in message(csv=twice, out=out)
    assert "only one ('x')" in message(csv=one, out=out)
    assert "official split" in message(csv=full, out=out, folds=2)
    assert "--mirror: 'sme'" in message(videos, out=out, mirror="sme")
    assert "--min-frames 0" in message(videos, out=out, min_frames=0)
    assert "--folds 1" in message(videos, out=out, folds=1)
    assert "--out" in message(videos, out=tmp_path / "m.txt")
    assert "would overwrite" in message(csv=full, out=full)
    assert "not exactly one is given" in message(videos, csv=full, out=out)
    assert "not exactly one is given" in message(out=out)
    assert "finds nothing" in message(videos, out=out, group="g99")
    for val, test in ((0.5, 0.5), (-0.1, 0.2), (0.1, 0.0), (1.0, 0.2)):
        assert "shares of the whole" in message(videos, out=out, val=val, test=test)
    assert not out.exists()


def test_one_class_an_empty_folder_and_too_few_clips(videos, tmp_path):
    out = tmp_path / "m.csv"
    (tmp_path / "empty").mkdir()
    assert "no class folders" in message(tmp_path / "empty", out=out)
    shutil.copytree(videos / "run", tmp_path / "single" / "run")
    assert "only one ('run')" in message(tmp_path / "single", out=out)
    write_set(tmp_path / "few", groups=1, clips=1)
    assert "too few clips" in message(tmp_path / "few", out=out)
    assert "2 groups are too few for 3 parts" in message(
        write_set(tmp_path / "two", groups=2), out=out, group=r"_(g\d+)_"
    )
    assert not out.exists()
    assert prepare(tmp_path / "two", out=out, group=r"_(g\d+)_", val=0.0, test=0.5).splits["split"] == {
        "train": 6, "test": 6,
    }  # fmt: skip


def test_a_split_of_the_users_own_may_lack_test_or_train(videos, tmp_path, inspected_once):
    shutil.copytree(videos, tmp_path / "videos")
    paths = [(f"videos/{p.relative_to(videos)}", p.parent.name, p.name[2:5]) for p in sorted(videos.rglob("*.avi"))]

    def prepared(split_of):
        write_csv(
            tmp_path / "l.csv", "path,label,split", *[(path, label, split_of(group)) for path, label, group in paths]
        )
        return prepare(csv=tmp_path / "l.csv", out=tmp_path / "m.csv")

    done = prepared(lambda group: "val" if group == "g05" else "train")
    assert done.splits["split"] == {"train": 30, "val": 6}
    assert any("the set has no test split" in warning for warning in done.warnings)
    done = prepared(lambda group: "test")
    assert done.splits["split"] == {"test": 36}
    assert any("to evaluate on, not to train" in warning for warning in done.warnings)
    rows = [(path, label, "test" if label == "run" else "train") for path, label, _ in paths]
    write_csv(tmp_path / "l.csv", "path,label,split", *rows)
    said = message(csv=tmp_path / "l.csv", out=tmp_path / "m.csv")
    assert "split: it has no training video of run (test)" in said
    everything = prepare(videos, out=tmp_path / "m.csv", all_as="test")
    assert everything.splits["split"] == {"test": 36}
    one_class = prepare(videos / "..", out=tmp_path / "one.csv", all_as="test", layout="-/class")
    assert one_class.videos == 36


def test_broken_and_short_files_are_told_and_left_out(videos, tmp_path):
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    (root / "run" / "notes.txt").write_text("these are not pictures")
    (root / "run" / "empty.avi").touch()
    write_clip(root / "walk" / "short.avi", 500, 3)
    (root / "readme.md").write_text("stray")
    (root / "sit").mkdir()
    (root / "sit" / "broken.mp4").write_bytes(b"\0" * 100)
    prepared = prepare(root, out=tmp_path / "m.csv", val=0.0)
    told = {entry["path"]: entry["reason"] for entry in prepared.rejected}
    assert set(told) == {"run/notes.txt", "run/empty.avi", "walk/short.avi", "readme.md", "sit/broken.mp4"}
    assert all(told.values())
    assert told["walk/short.avi"].startswith("too short: 3 frames, at least 4")
    assert prepared.videos == 36
    assert any("no video of sit" in warning for warning in prepared.warnings)
    assert load(prepared).classes == ("jump", "run", "walk")
    assert prepare(root, out=tmp_path / "m.csv", val=0.0, min_frames=3).videos == 37


def test_nothing_usable_gives_the_reasons(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.mp4").write_text("text")
    said = message(tmp_path, out=tmp_path / "m.csv")
    assert "videos: 0 of 2 could be used" in said
    assert "a/x.mp4: Invalid data" in said


def test_videos_and_rejected_are_all(tmp_path):
    names, folder = sorted(ODD), write_odd(tmp_path / "odd")
    for i, name in enumerate(names):
        (tmp_path / "set" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (folder / name).rename(tmp_path / "set" / "ab"[i % 2] / name)
    prepared = prepare(tmp_path / "set", out=tmp_path / "m.csv")
    manifest = load(prepared)
    long_enough = [name for name in names if ODD[name].num_frames >= 4]
    assert (prepared.videos, len(prepared.rejected)) == (len(long_enough), len(names) - len(long_enough)) == (17, 19)
    told = [entry["path"] for entry in prepared.rejected] + manifest.text("path").tolist()
    assert sorted(path.split("/")[1] for path in told) == names
    assert all(entry["reason"] for entry in prepared.rejected)
    assert any("truncated.avi: the header says 84 frames, 38 can be decoded" in w for w in prepared.warnings)
    for i in range(len(manifest)):
        row = manifest.row(i)
        assert FileReader(short_side=16).read(row, np.array([row.num_frames - 1])).shape[0] == 1
    assert prepare(tmp_path / "set", out=tmp_path / "m.csv", min_frames=1).videos == 27


@pytest.mark.parametrize("group", [None, r"_(g\d+)_"])
def test_copies_of_a_file_go_to_one_side(videos, tmp_path, inspected_once, group):
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    for i in range(5):
        shutil.copy(root / "run" / "v_g00_c00.avi", root / "run" / f"v_g00_copy{i}.avi".replace("_copy", "_c9"))
    for seed in range(10):
        manifest = load(prepare(root, out=tmp_path / "m.csv", seed=seed, group=group, jobs=1))
        copies = manifest.text("sha256") == manifest.text("sha256")[manifest.text("id") == "run/v_g00_c00.avi"][0]
        assert copies.sum() == 6
        assert len(set(manifest.text("split")[copies].tolist())) == 1


def test_copies_on_both_sides_are_told(videos, tmp_path, inspected_once):
    """Where an official split, or groups that are said to differ, part what is the same."""
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    shutil.copy(root / "run" / "v_g00_c00.avi", root / "run" / "v_g05_c09.avi")
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.avi"))
    (tmp_path / "train.txt").write_text("\n".join(name for name in names if "_g05_" not in name))
    (tmp_path / "test.txt").write_text("\n".join(name for name in names if "_g05_" in name))
    lists = {"train_list": tmp_path / "train.txt", "test_list": tmp_path / "test.txt"}
    prepared = prepare(root, out=tmp_path / "m.csv", **lists)
    assert any(
        warning.startswith("Copies of 1 video are in another split (1 the same file)") for warning in prepared.warnings
    )
    told, parted = [], []
    for seed in range(6):
        prepared = prepare(root, out=tmp_path / "m.csv", group=r"_(g\d+)_", seed=seed, jobs=1)
        manifest = load(prepared)
        sides = dict(zip(manifest.text("id").tolist(), manifest.text("split").tolist(), strict=True))
        parted.append(sides["run/v_g00_c00.avi"] != sides["run/v_g05_c09.avi"])
        told.append(any("in another split" in warning for warning in prepared.warnings))
    assert told == parted
    assert any(parted)
    prepared = prepare(root, out=tmp_path / "m.csv", group=r"_(g\d+)_", folds=6)
    assert any("in another split" in warning for warning in prepared.warnings)


def mirrored(classes, mirror="auto"):
    warnings = []
    return prepare_module._mirror(mirror, classes, warnings), warnings


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["jump", "walk"], {}),
        (["move_left", "move_right", "wave"], {"move_left": "move_right", "move_right": "move_left"}),
        (["TurnLeft", "TurnRight"], {"TurnLeft": "TurnRight", "TurnRight": "TurnLeft"}),
        (["LEFT", "RIGHT"], {"LEFT": "RIGHT", "RIGHT": "LEFT"}),
        (
            ["Pushing something from left to right", "Pushing something from right to left"],
            {
                "Pushing something from left to right": "Pushing something from right to left",
                "Pushing something from right to left": "Pushing something from left to right",
            },
        ),
    ],
)
def test_classes_that_name_sides_are_swapped_when_mirrored(classes, expected):
    assert mirrored(classes) == (expected, [])


def test_a_side_without_counterpart_switches_mirroring_off():
    found, [warning] = mirrored(["swipe left", "wave"])
    assert found is None
    assert "'swipe left'" in warning
    assert "--mirror same" in warning
    assert mirrored(["swipe left", "wave"], "same") == ({}, [])
    assert mirrored(["move_left", "move_right"], "off") == (None, [])


def test_mirroring_gets_into_the_manifest(tmp_path, inspected_once):
    root = write_set(tmp_path / "videos", classes=("move_left", "move_right"), groups=3)
    manifest = load(prepare(root, out=tmp_path / "m.csv", val=0.0, test=0.4))
    assert manifest.mirrored_labels().tolist() == [1, 0]
    manifest = load(prepare(root, out=tmp_path / "m.csv", val=0.0, test=0.4, mirror="off"))
    assert manifest.mirrored_labels() is None
    manifest = load(prepare(root, out=tmp_path / "m.csv", val=0.0, test=0.4, mirror="same"))
    assert manifest.mirrored_labels().tolist() == [0, 1]


def test_the_manifest_may_lie_anywhere(videos, tmp_path, monkeypatch):
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    monkeypatch.chdir(tmp_path)
    hashes = set()
    for out in ("m.csv", "videos/m.csv", "deep/er/m.csv"):
        prepared = prepare("videos", out=out, seed=2, val=0.0)
        hashes.add(prepared.sha256)
        manifest = Manifest.load(out)
        row = manifest.row(0)
        assert code_of(FileReader().read(row, np.array([2]))[0]) == 2
    assert len(hashes) == 1, "a manifest that lies among the videos is no video"


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["turn_clockwise", "turn_counterclockwise"], True),
        (["Turn Clockwise", "Turn Anti-Clockwise"], False),  # the case of the second word differs from the first's
        (["spin_cw", "spin_ccw"], True),
        (["move_left", "move_right"], True),
        (["bright", "upright"], None),
    ],
)
def test_names_of_sides_and_turns_are_swapped(classes, expected):
    from muybridge.data.prepare.mirroring import mirror_map

    found, alone = mirror_map(classes)
    if expected:
        assert found == {classes[0]: classes[1], classes[1]: classes[0]}
    assert bool(alone) == (expected is False)


def test_the_made_set_gets_the_mirror_map_it_was_made_with():
    from muybridge.data.prepare.mirroring import mirror_map
    from muybridge.data.sets.motions import CLASSES, MIRROR

    assert mirror_map(list(CLASSES)) == (MIRROR, [])


IMAGE_RATE = "images and arrays say no frame rate: 25 frames a second are taken (--image-fps)"


def codes_in(manifest):
    """What each row shows, by id, read as training reads it."""
    rows = [manifest.row(i) for i in range(len(manifest))]
    return {row.id: codes_of(FileReader().read(row, np.arange(row.num_frames))) for row in rows}


def write_frames(root, classes=("run", "walk"), clips=4, first=0):
    """CLASS/v_c/img_00001.jpg …: six frames a folder, all with numbers of their own."""
    for label in classes:
        for c in range(clips):
            write_images(root / label / f"v_{c}", first, 6)
            first += 6
    return root


def test_folders_of_images_are_videos_beside_video_files(tmp_path):
    root = write_frames(tmp_path / "set ü")
    write_clip(root / "walk" / "v_4.avi", 500, 5)
    write_images(root / "run" / "deep" / "er", 600, 5, name="{}.png", height=61, width=97)
    prepared = prepare(root, out=tmp_path / "m.csv", val=0.0, test=0.3)
    manifest = load(prepared)
    assert prepared.rejected == []
    assert IMAGE_RATE in prepared.warnings
    shown = {f"{label}/v_{c}": 6 * (4 * i + c) for i, label in enumerate(("run", "walk")) for c in range(4)}
    expected = {name: list(range(first, first + 6)) for name, first in shown.items()}
    expected |= {"walk/v_4.avi": [500, 501, 502, 503, 504], "run/deep/er": [600, 601, 602, 603, 604]}
    assert codes_in(manifest) == expected
    about = {manifest.row(i).id: i for i in range(len(manifest))}
    columns = manifest.columns
    assert [columns[side][about["run/deep/er"]] for side in ("width", "height")] == [97, 61]
    assert set(columns["fps"].tolist()) == {25.0}
    assert columns["seekable"][about["run/v_0"]] == 0
    faster = prepare(root, out=tmp_path / "m.csv", val=0.0, test=0.3, image_fps=12.5)
    fps = dict(zip(load(faster).text("id").tolist(), load(faster).columns["fps"].tolist(), strict=True))
    assert (fps["run/v_0"], fps["walk/v_4.avi"]) == (12.5, 25.0)
    assert any("12.5 frames a second" in warning for warning in faster.warnings)


def test_videos_alone_say_nothing_of_images(videos, tmp_path, inspected_once):
    assert not any("images" in warning for warning in prepare(videos, out=tmp_path / "m.csv").warnings)


def test_broken_and_odd_folders_of_images_are_told(tmp_path):
    root = write_frames(tmp_path / "set")
    broken = root / "run" / "v_1" / "img_00004.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    write_images(root / "run" / "v_2", 0, 3, name="depth_{:05d}.jpg")
    write_images(root / "walk" / "short", 0, 3)
    write_images(root / "walk", 0, 2)
    (root / "walk" / "v_0" / "Thumbs.db").write_text("x")
    prepared = prepare(root, out=tmp_path / "m.csv", val=0.0, test=0.3)
    told = {entry["path"]: entry["reason"] for entry in prepared.rejected}
    assert set(told) == {"run/v_1", "run/v_2", "walk/short", "walk"}
    assert told["run/v_1"].startswith("img_00004.jpg: ")
    assert "depth_*: 3, img_*: 6" in told["run/v_2"]
    assert told["walk/short"].startswith("too short: 3 frames, at least 4")
    assert "lie in a class folder" in told["walk"]
    assert prepared.videos == 6


def test_copies_of_a_folder_go_to_one_side(tmp_path):
    root = write_frames(tmp_path / "set", clips=6)
    for c in range(3):
        shutil.copytree(root / "run" / "v_0", root / "run" / f"copy_{c}")
    hashes = set()
    for seed in range(2):
        prepared = prepare(root, out=tmp_path / "m.csv", val=0.0, test=0.4, seed=seed)
        manifest = load(prepared)
        copies = manifest.text("sha256") == manifest.text("sha256")[manifest.text("id") == "run/v_0"][0]
        assert copies.sum() == 4
        assert len(set(manifest.text("split")[copies].tolist())) == 1
        hashes.add(tuple(manifest.text("sha256").tolist()))
    assert len(hashes) == 1


def test_parts_of_folders_and_videos_by_the_studys_lists(tmp_path):
    root = tmp_path / "frames"
    for n in range(4):
        write_images(root / f"v {n}", 100 * n, 20)
    write_images(root / "from 0", 500, 20, name="{:05d}.jpg", start=0)
    write_clip(root / "v.avi", 600, 20)
    (root / "empty").mkdir()
    (tmp_path / "train.txt").write_text(
        "v 0 1 20 2\nv 1 1 10 0\nv 1 11 20 2\nfrom 0 5 9 0\nnothing 1 9 2\nempty 1 9 2\n"
    )
    (tmp_path / "test.txt").write_text(f"{root}/v 2 3 7 0\nv.avi 3 7 2\nv.avi 18 25 2\nv 3 1 3 2\n")
    (tmp_path / "classes.txt").write_text("still\nsit\njump\n")
    lists = {"train_list": tmp_path / "train.txt", "test_list": tmp_path / "test.txt"}
    prepared = prepare(root, out=tmp_path / "m.csv", val=0.0, min_frames=3, classes=tmp_path / "classes.txt", **lists)
    manifest = load(prepared)
    assert manifest.classes == ("still", "jump")
    assert codes_in(manifest) == {
        "v 0": list(range(20)), "v 1#1-10": list(range(100, 110)), "v 1#11-20": list(range(110, 120)),
        "from 0#5-9": list(range(505, 510)), "v 2#3-7": list(range(202, 207)), "v.avi#3-7": list(range(602, 607)),
        "v.avi#18-25": [617, 618, 619], "v 3#1-3": [300, 301, 302],
    }  # fmt: skip
    assert manifest.text("split").tolist() == ["train"] * 4 + ["test"] * 4
    assert manifest.text("label").tolist() == ["jump", "still", "jump", "still", "still", "jump", "jump", "jump"]
    told = {entry["path"]: entry["reason"] for entry in prepared.rejected}
    assert set(told) == {"nothing", "empty"}
    assert "No such file" in told["nothing"]
    assert "without numbered images" in told["empty"]
    assert any("no video of sit" in warning for warning in prepared.warnings)
    assert "v.avi#18-25: the list ends with frame 25, 20 can be decoded" in prepared.warnings
    named = load(prepare(root, out=tmp_path / "m.csv", val=0.0, min_frames=3, **lists))
    assert named.classes == ("class_000", "class_002")


def test_whole_videos_by_lists_of_frame_counts(tmp_path):
    root = tmp_path / "frames"
    for n in range(6):
        write_images(root / f"v_{n}", 10 * n, 8)
    write_clip(root / "v.avi", 100, 8)
    (tmp_path / "train.txt").write_text("v_0 8 0\nv_1 8 1\nv_2 5 0\nv_3 8 1\nv.avi 8 1\n")
    (tmp_path / "test.txt").write_text("v_4 8 0\nv_5 8 1\n")
    manifest = load(
        prepare(
            root, out=tmp_path / "m.csv", val=0.0, train_list=tmp_path / "train.txt", test_list=tmp_path / "test.txt"
        )
    )
    assert codes_in(manifest) == {
        **{f"v_{n}": list(range(10 * n, 10 * n + 8)) for n in (0, 1, 3, 4, 5)}, "v_2#1-5": list(range(20, 25)),
        "v.avi": list(range(100, 108)),
    }  # fmt: skip


def test_what_frames_writes_is_prepared_again(tmp_path):
    """Videos to folders of images with the study's lists, and back: the same rows show the same."""
    from muybridge.data.stores.jpegs import frames

    videos = write_set(tmp_path / "videos", classes=("run", "walk"), groups=3)
    first = load(prepare(videos, out=tmp_path / "a.csv", group=r"_(g\d+)_", val=0.0, test=0.34))
    frames(tmp_path / "a.csv", out=tmp_path / "frames", short_side=None, quality=95)
    lists = {f"{split}_list": tmp_path / "frames" / f"{split}.txt" for split in ("train", "test")}
    again = load(
        prepare(
            tmp_path / "frames", out=tmp_path / "b.csv", classes=tmp_path / "frames" / "classes.txt", **lists, val=0.0
        )
    )
    assert again.classes == first.classes
    assert {name.removesuffix(".avi"): codes for name, codes in codes_in(first).items()} == codes_in(again)
    for column in ("label", "split"):
        sides = [dict(zip((i.removesuffix(".avi") for i in m.text("id").tolist()), m.text(column).tolist(), strict=True))
                 for m in (first, again)]  # fmt: skip
        assert sides[0] == sides[1]


def test_a_csv_names_folders_of_images_and_their_parts_in_seconds(tmp_path):
    for n in range(4):
        write_images(tmp_path / "frames" / f"v{n}", 100 * n, 20)
    rows = [(f"frames/v{n}", "ab"[n % 2], "", "") for n in range(3)]
    write_csv(
        tmp_path / "l.csv", "path,label,start,end", *rows, ("frames/v3/", "a", 0.5, 1.5), ("frames/v3", "b", 1.5, "")
    )
    manifest = load(prepare(csv=tmp_path / "l.csv", out=tmp_path / "m.csv", val=0.0, test=0.5, image_fps=10))
    codes = codes_in(manifest)
    assert codes["frames/v0"] == list(range(20))
    assert codes["frames/v3#0.5-1.5"] == list(range(305, 315))
    assert codes["frames/v3#1.5-"] == list(range(315, 320))


def test_one_clip_an_array_file_is_a_video_too(tmp_path):
    for n in range(6):
        (tmp_path / "set" / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "set" / "ab"[n % 2] / f"{n}.npy", np.stack([coded(10 * n + t) for t in range(5)]))
    np.save(tmp_path / "set" / "a" / "many.npy", np.zeros((3, 5, 8, 8, 3), np.uint8))
    prepared = prepare(tmp_path / "set", out=tmp_path / "m.csv", val=0.0, test=0.4)
    assert codes_in(load(prepared))["b/3.npy"] == [30, 31, 32, 33, 34]
    assert [entry["path"] for entry in prepared.rejected] == ["a/many.npy"]
    assert "--arrays" in prepared.rejected[0]["reason"]
    assert IMAGE_RATE in prepared.warnings


def test_inputs_that_exclude_each_other_are_told(videos, tmp_path, monkeypatch):
    def decode(*arguments, **settings):
        raise AssertionError("a video was looked at")

    monkeypatch.setattr(prepare_module, "inspect", decode)
    out, clips, labels = tmp_path / "m.csv", np.zeros((4, 5, 8, 8, 3), np.uint8), [0, 1, 0, 1]
    (tmp_path / "ucf.txt").write_text("v_g00_c00\n")
    (tmp_path / "study.txt").write_text("a 1 5 0\n")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    ucf = {"train_list": tmp_path / "ucf.txt", "test_list": tmp_path / "ucf.txt"}
    assert "not exactly one is given" in message(videos, arrays=clips, labels=labels, out=out)
    assert "not exactly one is given" in message(csv=tmp_path / "l.csv", arrays=clips, labels=labels, out=out)
    assert "--labels: it belongs to --arrays" in message(videos, labels=labels, out=out)
    assert "--groups: it belongs to --arrays" in message(videos, groups=labels, out=out)
    assert "Give their groups by --groups" in message(arrays=clips, labels=labels, group="g", out=out)
    assert "has no paths" in message(arrays=clips, labels=labels, out=out, **ucf)
    (tmp_path / "others.txt").write_text("aa\nb\n")
    assert "--classes: 'aa' is not a class of the set" in message(videos, classes=tmp_path / "others.txt", out=out)
    assert "matches 3 videos" in message(videos, classes=tmp_path / "classes.txt", out=out, **ucf)
    assert "--folds" in message(
        videos, out=out, folds=2, train_list=tmp_path / "study.txt", test_list=write_csv(tmp_path / "b.txt", "b 1 5 1")
    )
    assert "no such folder" in message(
        tmp_path / "none", out=out, train_list=tmp_path / "study.txt", test_list=tmp_path / "study.txt"
    )
    for fps in (0, -1, float("nan"), float("inf")):
        assert "--image-fps" in message(videos, out=out, image_fps=fps)
    for name in ("ucf.txt", "study.txt"):
        (tmp_path / "m.csv").write_text((tmp_path / name).read_text())
        lists = {"train_list": out, "test_list": tmp_path / name}
        assert "would overwrite" in message(videos, out=out, **lists)


def test_only_a_record_of_each_video_stays_in_memory(tmp_path, monkeypatch):
    """The display times of hundreds of thousands of files would not fit."""
    items = [Item(f"{n}.avi", "ab"[n % 2]) for n in range(200)]
    for item in items:
        (tmp_path / item.path).write_text(item.path)

    def look(self, path, *, image_fps):
        times = np.arange(2**17) / 25  # a MiB
        return Looked(VideoInfo(2**17, 0, 25.0, 4, 4, times, seekable=True), range(1, 2**17 + 1), "hash", False)

    monkeypatch.setattr(SafeReader, "look", look)
    tracemalloc.start()
    try:
        looked = inspection.inspect(tmp_path, items, min_frames=4, image_fps=25, jobs=2)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [found.num_frames for found in looked.rows] == [2**17] * 200
    assert [found.path for found in looked.rows] == [item.path for item in items]
    assert peak_bytes < 30 * 2**20


def test_lists_and_arrays_on_the_command_line(tmp_path):
    def call(*words):
        result = CliRunner().invoke(app, ["prepare", *map(str, words), "--val", "0", "--json"])
        assert result.exit_code == 0, result.stderr
        return Manifest.load(json.loads(result.stdout)["manifest"])

    root = write_frames(tmp_path / "frames", clips=3)
    (tmp_path / "train.txt").write_text("run/v_0 1 5 1\nwalk/v_1 1 6 0\n")
    (tmp_path / "test.txt").write_text("run/v_2 1 6 1\nwalk/v_0 2 6 0\n")
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    lists = ("--train-list", tmp_path / "train.txt", "--test-list", tmp_path / "test.txt")
    listed = call(root, *lists, "--classes", tmp_path / "classes.txt", "--image-fps", 10, "--out", tmp_path / "a.csv")
    assert codes_in(listed) == {
        "run/v_0#1-5": [0, 1, 2, 3, 4], "walk/v_1": list(range(24, 30)), "run/v_2": list(range(12, 18)),
        "walk/v_0#2-6": list(range(19, 24)),
    }  # fmt: skip
    assert listed.classes == ("walk", "run")
    assert set(listed.columns["fps"].tolist()) == {10.0}
    np.save(tmp_path / "clips.npy", np.stack([coded(i) for i in range(40)]).reshape(8, 5, 48, 64, 3))
    np.save(tmp_path / "labels.npy", np.arange(8) % 2)
    np.save(tmp_path / "groups.npy", np.arange(8) // 2)
    given = (
        "--arrays",
        tmp_path / "clips.npy",
        "--labels",
        tmp_path / "labels.npy",
        "--groups",
        tmp_path / "groups.npy",
    )
    array = call(*given, "--classes", tmp_path / "classes.txt", "--out", tmp_path / "b.csv")
    assert codes_in(array) == {f"clips#{n}": list(range(5 * n, 5 * n + 5)) for n in range(8)}
    assert array.text("label").tolist() == ["walk", "run"] * 4
    assert array.text("group").tolist() == [str(n // 2) for n in range(8)]
