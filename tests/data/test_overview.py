"""The overview of a data set: the numbers of a made manifest, counted by hand."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

import muybridge
from muybridge.cli.app import app
from muybridge.data.manifest import from_columns
from muybridge.errors import UserError


def manifest_of(path: Path, *, folds: bool = False) -> Path:
    """Six videos of three classes; `c` has none in train."""
    rows = [
        # id, frames, label, group, fps, width, height, split
        ("1", 50, "a", "p", 25.0, 320, 240, "train"),
        ("2", 100, "a", "p", 25.0, 320, 240, "train"),
        ("3", 300, "b", "q", 30.0, 640, 480, "train"),
        ("4", 75, "c", "r", 25.0, 320, 240, "val"),
        ("5", 36000, "b", "", 10.0, 320, 240, "test"),
        ("6", 25, "a", "s", 25.0, 100, 100, "unused"),
    ]
    ids, frames, labels, groups, fps, widths, heights, splits = zip(*rows, strict=True)
    columns = {
        "id": ids, "path": [f"{one}.mp4" for one in ids], "start_frame": [0] * 6, "num_frames": frames, "label": labels,
        "group": groups, "fps": fps, "width": widths, "height": heights, "sha256": ids,
    }  # fmt: skip
    moved = ["test" if split == "train" else "train" if split == "test" else split for split in splits]
    columns |= {"split_1": splits, "split_2": moved} if folds else {"split": splits}
    from_columns(columns, classes=("a", "b", "c"), root=path.parent, mirror={}, where=str(path)).save(path)
    return path


def test_every_number_of_a_split(tmp_path):
    described = muybridge.describe(manifest_of(tmp_path / "set.csv"))
    assert [split.split for split in described.splits] == ["train", "val", "test", "unused", "all"]
    assert asdict(described.splits[0]) == {
        "split": "train", "videos": 3, "classes": 2, "groups": 2, "hours": pytest.approx(16 / 3600), "median_seconds": 4.0,
        "shortest_seconds": 2.0, "longest_seconds": 10.0, "lowest_fps": 25.0, "highest_fps": 30.0, "smallest": (320, 240),
        "largest": (640, 480), "sizes": 2, "fewest_a_class": 0, "most_a_class": 2,
    }  # fmt: skip
    whole = described.splits[-1]
    assert (whole.videos, whole.classes, whole.groups, whole.sizes, whole.smallest) == (6, 3, 4, 3, (100, 100))
    assert described.splits[2].hours == pytest.approx(1.0)
    assert described.class_sizes == {"train": [2, 1, 0], "val": [0, 0, 1], "test": [0, 1, 0]}
    assert described.splits[0].cells() == [
        "train", "3", "2", "0.00", "4.0", "2.0 – 10.0", "25 – 30", "320 × 240 – 640 × 480 (2)", "2", "0 – 2",
    ]  # fmt: skip


def test_a_fold_is_named(tmp_path):
    path = manifest_of(tmp_path / "set.csv", folds=True)
    with pytest.raises(UserError, match="this manifest has 2 folds"):
        muybridge.describe(path)
    assert muybridge.describe(path, fold=2).splits[0].videos == 1
    with pytest.raises(UserError, match="no fold 3"):
        muybridge.describe(path, fold=3)


def test_the_command_prints_what_the_verb_returns(tmp_path):
    path = manifest_of(tmp_path / "set.csv")
    printed = CliRunner().invoke(app, ["describe", str(path)])
    assert printed.exit_code == 0
    for word in ("train", "2.0 – 10.0", "320 × 240", "6 videos of 3 classes"):
        assert word in printed.stdout
    told = json.loads(CliRunner().invoke(app, ["describe", str(path), "--json"]).stdout)
    assert told == json.loads(json.dumps(muybridge.describe(path).as_json()))
    missing = CliRunner().invoke(app, ["describe", str(tmp_path / "none.csv")])
    assert missing.exit_code == 2
    assert "no such manifest" in missing.stderr
