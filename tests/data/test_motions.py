"""Motions: real files in which only time tells the classes of a pair apart."""

import av
import numpy as np
import pytest

import muybridge
from muybridge.data.manifest import Manifest
from muybridge.data.random import generator
from muybridge.data.sets import motions as made
from muybridge.data.sets.layouts import laid_out
from muybridge.data.sets.motions import (
    CLASSES,
    MIRROR,
    NUM_FRAMES,
    PAIRS,
    SIZE,
    encode,
    motions,
    render,
    render_forward,
)
from muybridge.errors import UserError
from muybridge.video import FileReader, probe, read_frames


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return motions(tmp_path_factory.mktemp("motions") / "set", clips=50, seed=5, jobs=2)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_jobs(prepared, tmp_path):
    first = contents(prepared.manifest.parent)
    again = motions(tmp_path / "again", clips=50, seed=5, jobs=1)
    assert contents(tmp_path / "again") == first
    assert again.sha256 == prepared.sha256


def test_every_clip_is_another_and_so_is_another_seed():
    rendered = [render("move_left", seed=seed, index=index) for seed in (0, 1) for index in (0, 1)]
    for i, one in enumerate(rendered):
        for other in rendered[:i]:
            assert (one != other).mean() > 0.5


def test_the_manifest_says_what_was_made(prepared):
    manifest = Manifest.load(prepared.manifest)
    assert manifest.classes == CLASSES
    assert len(CLASSES) == 10
    assert manifest.reversed_pairs == PAIRS
    assert manifest.mirror == MIRROR
    assert prepared.videos == len(manifest) == 50
    assert prepared.classes == dict.fromkeys(CLASSES, 5)
    assert prepared.rejected == []
    assert manifest.sha256() == prepared.sha256
    assert len(set(manifest.columns["sha256"].tolist())) == 50
    for i in range(0, 50, 7):
        row, info = manifest.row(i), probe(manifest.row(i).path)
        assert (row.num_frames, info.num_frames) == (NUM_FRAMES, NUM_FRAMES)
        assert row.fps == pytest.approx(info.fps)
        assert (info.height, info.width) == (SIZE, SIZE)
        assert row.id.startswith(manifest.text("label")[i])


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_class_is_in_train_and_test(prepared, part):
    manifest = Manifest.load(prepared.manifest)
    assert set(manifest.text("label")[manifest.split(part)].tolist()) == set(CLASSES)


def test_mirroring_swaps_sides_and_leaves_the_rest():
    manifest_labels = {label: MIRROR.get(label, label) for label in CLASSES}
    assert {manifest_labels[partner] for partner in manifest_labels.values()} == set(CLASSES)
    assert all(manifest_labels[manifest_labels[label]] == label for label in CLASSES)
    assert {label for label in CLASSES if manifest_labels[label] != label} == {
        "move_left", "move_right", "turn_clockwise", "turn_counterclockwise",
    }  # fmt: skip


@pytest.mark.parametrize(("forward", "backward"), PAIRS)
def test_the_second_of_a_pair_is_the_reversal_of_the_first(forward, backward):
    for index in range(2):
        reversed_THWC = render_forward(forward, generator(3, "motions", index, backward))[::-1]
        assert np.array_equal(render(backward, seed=3, index=index), reversed_THWC)
        assert not np.array_equal(render(backward, seed=3, index=index), render(forward, seed=3, index=index)[::-1])


def test_files_hold_what_was_rendered(prepared):
    manifest = Manifest.load(prepared.manifest)
    for index in range(10):
        found = FileReader().read_all([manifest.row(index)])[0].astype(float)
        rendered = render(manifest.text("label")[index], seed=5, index=index).astype(float)
        assert found.shape == rendered.shape == (NUM_FRAMES, SIZE, SIZE, 3)
        assert np.abs(found - rendered).mean() < 8
        backwards = np.abs(found - rendered[::-1]).mean()
        assert backwards > np.abs(found - rendered).mean()


@pytest.mark.parametrize("label", ["move_right", "move_left", "crowd"])
def test_every_frame_is_a_key_frame(prepared, label):
    for path in sorted((prepared.manifest.parent / label).iterdir())[:2]:
        with av.open(str(path)) as container:
            assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
        with av.open(str(path)) as container:
            assert [frame.key_frame for frame in container.decode(video=0)] == [True] * NUM_FRAMES


def test_the_codec_carries_no_arrow_of_time(tmp_path):
    """Coding the reversal is the same as reversing the coded, to the pixel."""
    frames_THWC = render("move_right", seed=1, index=0)
    encode(tmp_path / "forward.mp4", frames_THWC)
    encode(tmp_path / "backward.mp4", frames_THWC[::-1])
    forward = read_frames(tmp_path / "forward.mp4", range(NUM_FRAMES))
    backward = read_frames(tmp_path / "backward.mp4", range(NUM_FRAMES))
    assert np.array_equal(forward[::-1], backward)


def features(frames_THWC):
    """What single frames show, pooled over a clip's frames: brightness, contrast, colour, edges, middle against rim."""
    gray_THW = frames_THWC.mean(-1, dtype=np.float32)
    return [
        gray_THW.mean(),
        gray_THW.std((1, 2)).mean(),
        frames_THWC.std(-1, dtype=np.float32).mean(),
        np.abs(np.diff(gray_THW, axis=2)).mean() - np.abs(np.diff(gray_THW, axis=1)).mean(),
        gray_THW[:, 16:48, 16:48].std() - gray_THW.std(),
    ]


@pytest.mark.parametrize(("forward", "backward"), PAIRS)
def test_the_two_of_a_pair_have_the_same_single_frames(forward, backward):
    count = 24
    one, other = (
        np.array([features(render(label, seed=9, index=index)) for index in range(count)])
        for label in (forward, backward)
    )
    error = np.sqrt((one.var(0) + other.var(0)) / count)
    assert (np.abs(one.mean(0) - other.mean(0)) < 4.5 * error).all()


def test_motion_goes_where_the_name_says():
    """x grows to the right, y downwards, and the angle clockwise on the screen."""
    for index in range(20):
        paths = {label: made._MOTIONS[label](generator(0, "test of motions", index)) for label, _ in PAIRS}
        assert (np.diff(paths["move_right"].x_T) > 0).all()
        assert np.ptp(paths["move_right"].y_T) == 0
        assert (np.diff(paths["move_down"].y_T) > 0).all()
        assert np.ptp(paths["move_down"].x_T) == 0
        assert (np.diff(paths["grow"].radius_T) > 0).all()
        assert (np.diff(paths["turn_clockwise"].angle_T) > 0).all()


def sideways(frames_THWC):
    """Where the moving object is, left to right, in the first and in the last frames."""
    gray_THW = frames_THWC.mean(-1, dtype=np.float32)
    change_THW = np.abs(gray_THW - np.median(gray_THW, axis=0))
    change_THW[change_THW < 25] = 0
    weight_TW = change_THW.sum(1) + 1e-6
    places_T = (weight_TW * np.arange(SIZE)).sum(1) / weight_TW.sum(1)
    return places_T[:4].mean(), places_T[-4:].mean()


@pytest.mark.parametrize(("label", "sign"), [("move_right", 1), ("move_left", -1)])
def test_objects_are_seen_to_move_to_their_side(label, sign):
    moved = [np.subtract(*sideways(render(label, seed=2, index=index))[::-1]) for index in range(20)]
    assert np.mean(np.sign(moved) == sign) >= 0.8


def test_too_few_clips_and_a_folder_in_use_are_told(tmp_path):
    with pytest.raises(UserError, match="--clips 49: too few"):
        motions(tmp_path / "set", clips=49)
    assert not (tmp_path / "set").exists()
    (tmp_path / "something").touch()
    with pytest.raises(UserError, match="not empty"):
        motions(tmp_path, clips=50)


def test_long_videos_show_what_their_table_says(tmp_path):
    motions(tmp_path / "one", clips=50, long=2, seed=5, jobs=2)
    motions(tmp_path / "two", clips=50, long=2, seed=5, jobs=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    lines = (tmp_path / "one" / "long" / "events.csv").read_text().splitlines()
    assert lines[0] == "video,start_seconds,end_seconds,label"
    for number in range(2):
        path = tmp_path / "one" / "long" / f"{number:02d}.mp4"
        frames_THW3, happens = made.render_long(seed=5, index=50 + 1000 * number)
        assert probe(path).num_frames == len(frames_THW3)
        rows = [line.split(",") for line in lines[1:] if line.startswith(path.name)]
        assert [(round(float(a) * 24), round(float(b) * 24), label) for _, a, b, label in rows] == happens
        assert len({start % NUM_FRAMES for start, _, _ in happens}) > 3  # they begin anywhere
        assert {label for _, _, label in happens} == set(CLASSES) - {"empty"}
        ends = [0, *(end for _, end, _ in happens)]
        assert all(end < start for end, (start, _, _) in zip(ends, happens, strict=False))


def test_long_videos_show_clips_that_are_in_no_split():
    frames_THW3, happens = made.render_long(seed=5, index=50)
    shown = frames_THW3[happens[0][0] :][:NUM_FRAMES]
    assert any(np.array_equal(shown, render(happens[0][2], seed=5, index=index)) for index in range(50, 100))
    assert not any(np.array_equal(shown, render(happens[0][2], seed=5, index=index)) for index in range(50))


# --- in the layout of a standard set


@pytest.fixture(scope="module", params=["ucf101", "hmdb51", "ucf11"])
def laid(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("laid") / request.param
    return request.param, motions(folder, clips=250, layout=request.param, seed=5, jobs=2)


def rows(manifest):
    return {
        path: tuple(manifest.text(name)[i] for name in ("label", "group", "sha256", *manifest.split_columns))
        for i, path in enumerate(manifest.text("path").tolist())
    }


def test_a_layout_is_prepared_as_the_published_set(laid, tmp_path):
    layout, made_set = laid
    again = muybridge.prepare(set=layout, root=made_set.manifest.parent, out=tmp_path / "set.csv", seed=5, jobs=1)
    manifest = Manifest.load(again.manifest)
    assert rows(manifest) == rows(Manifest.load(made_set.manifest))
    assert len(manifest) == 250
    assert len(manifest.classes) == len(CLASSES)
    assert len(manifest.split_columns) == (1 if layout == "ucf11" else 3)
    assert again.groups == 250
    assert any("published are" in warning for warning in again.warnings)
    assert not [warning for warning in again.warnings if "no list names them" in warning or "several sides" in warning]
    assert len(again.mirror) == len(MIRROR)


@pytest.mark.slow
def test_a_layout_is_the_same_bytes_with_any_number_of_jobs(laid, tmp_path):
    layout, made_set = laid
    motions(tmp_path / "again", clips=250, layout=layout, seed=5, jobs=1)
    again, first = contents(tmp_path / "again"), contents(made_set.manifest.parent)
    assert again.keys() == first.keys()
    assert [name for name in again if again[name] != first[name]] == []


def test_a_layout_that_is_stopped_while_it_is_prepared_can_be_repeated(tmp_path, monkeypatch):
    def stopped(**_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(made, "prepare", stopped)
        with pytest.raises(KeyboardInterrupt):
            motions(tmp_path / "set", clips=50, layout="ucf11", jobs=1)
    assert not (tmp_path / "set").exists()
    motions(tmp_path / "set", clips=50, layout="ucf11", jobs=1)
    motions(tmp_path / "whole", clips=50, layout="ucf11", jobs=1)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "whole"]


@pytest.mark.parametrize("clips", [50, 170, 500])
def test_official_splits_tear_no_recording_apart_and_test_every_class(clips):
    labels = [CLASSES[i % len(CLASSES)] for i in range(clips)]
    ucf101 = laid_out("ucf101", labels)
    hmdb51 = laid_out("hmdb51", labels)
    whose = {path.rpartition("/")[2]: path.rpartition("_c")[0] for path in ucf101.names}
    tests = []
    for split in "123":
        sides = {}
        for side in ("train", "test"):
            lines = ucf101.lists[f"ucfTrainTestlist/{side}list0{split}.txt"].splitlines()
            sides[side] = {whose[line.split()[0].rpartition("/")[2]] for line in lines}
        assert not sides["train"] & sides["test"]
        assert len({recording.split("/")[1] for recording in sides["test"]}) == len(CLASSES)
        tests.append(sides["test"])
        for label in CLASSES:
            marks = {}
            for line in hmdb51.lists[f"testTrainMulti_7030_splits/{label}_test_split{split}.txt"].splitlines():
                name, mark = line.split()
                marks.setdefault(name.partition(f"_{label}_")[0], set()).add(mark)
            assert all(len(found) == 1 for found in marks.values())
            assert {"1", "2"} <= set.union(*marks.values())
    assert not tests[0] & tests[1]
    assert not tests[1] & tests[2]


def test_names_are_those_of_the_published_sets():
    labels = [CLASSES[i % len(CLASSES)] for i in range(500)]
    ucf101, hmdb51, ucf11 = (laid_out(layout, labels) for layout in ("ucf101", "hmdb51", "ucf11"))
    assert ucf101.names[0] == "UCF-101/MoveRight/v_MoveRight_g01_c01.avi"
    assert ucf101.lists["ucfTrainTestlist/classInd.txt"].startswith("1 Crowd\r\n2 Empty\r\n")
    assert "MoveRight/v_MoveRight_g08_c02.avi 6\r\n" in ucf101.lists["ucfTrainTestlist/trainlist01.txt"]
    assert "MoveRight/v_MoveRight_g08_c02.avi\r\n" in ucf101.lists["ucfTrainTestlist/testlist02.txt"]
    assert hmdb51.names[0] == "hmdb51_org/move_right/Made_Film_01_move_right_f_cm_np1_fr_med_0.avi"
    assert ucf11.names[0] == "UCF11_updated_mpg/move_right/v_move_right_01/v_move_right_01_01.mpg"
    assert not ucf11.lists


def test_clips_of_a_place_have_one_background():
    one, other = (render("empty", seed=1, index=i, place="1").astype(float) for i in (0, 10))
    elsewhere = render("empty", seed=1, index=10, place="2").astype(float)
    assert np.abs(one.mean((0, 3)) - other.mean((0, 3))).max() < 5  # noise and coding alone
    assert np.abs(one.mean((0, 3)) - elsewhere.mean((0, 3))).max() > 10


def test_an_unknown_layout_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="--layout: 'ucf10' is unknown"):
        motions(tmp_path / "set", clips=50, layout="ucf10")
    assert not (tmp_path / "set").exists()
