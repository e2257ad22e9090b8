"""Arrays of clips: what a course hands out becomes a manifest, in place where it can be, and read back right."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from making import coded, codes_of

from muybridge.data.manifest import Manifest
from muybridge.data.prepare.prepare import prepare
from muybridge.errors import UserError
from muybridge.video import FileReader

N, T = 12, 5
CLIPS = np.stack([coded(i) for i in range(N * T)]).reshape(N, T, 48, 64, 3)
LABELS = np.arange(N) % 2


def write(path, array):
    np.save(path, array)
    return path


def prepared_in(tmp_path, arrays, labels=LABELS, **settings):
    return prepare(arrays=arrays, labels=labels, out=tmp_path / "set.csv", **{"val": 0.0, "test": 0.25, **settings})


def shown(tmp_path):
    """Every row of the manifest, read as training reads it."""
    manifest = Manifest.load(tmp_path / "set.csv")
    rows = [manifest.row(i) for i in range(len(manifest))]
    assert [row.num_frames for row in rows] == [T] * len(rows)
    return [codes_of(FileReader().read(row, np.arange(T))) for row in rows], rows


EXPECTED = [list(range(T * n, T * n + T)) for n in range(N)]


def message(tmp_path, *arguments, **settings):
    with pytest.raises(UserError) as caught:
        prepared_in(tmp_path, *arguments, **settings)
    assert not (tmp_path / "set.csv").exists()
    assert not list(tmp_path.glob(".*")), "nothing half-made stays"
    return str(caught.value)


def test_uint8_is_read_in_place(tmp_path):
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data" / "clips.npy", CLIPS)
    prepared = prepared_in(tmp_path, path, write(tmp_path / "labels.npy", LABELS), image_fps=12.5)
    codes, rows = shown(tmp_path)
    assert codes == EXPECTED
    assert [row.id for row in rows] == [f"clips#{n}" for n in range(N)]
    assert {row.path for row in rows} == {str(path)}
    assert {row.fps for row in rows} == {12.5}
    assert not list(tmp_path.glob("*.frames.npy"))
    assert any("12.5 frames a second" in warning for warning in prepared.warnings)
    manifest = Manifest.load(tmp_path / "set.csv")
    assert manifest.classes == ("class_000", "class_001")
    assert manifest.labels().tolist() == LABELS.tolist()
    assert manifest.text("sha256").tolist() == [hashlib.sha256(clip.tobytes()).hexdigest() for clip in CLIPS]
    assert {(w, h) for w, h in zip(manifest.columns["width"], manifest.columns["height"], strict=True)} == {(64, 48)}


CONVERTED = {
    "in memory": CLIPS,
    "0 to 1": (CLIPS / 255).astype(np.float32),
    "0 to 1, half precision": (CLIPS / 255).astype(np.float16),
    "0 to 255": CLIPS.astype(np.float64),
    "wide integers": CLIPS.astype(np.int64),
    "black and white": CLIPS > 127,
    "another order in memory": np.asfortranarray(CLIPS),
    "no colour": CLIPS[..., 0],
    "one channel": CLIPS[..., :1],
    "one channel from 0 to 1": (CLIPS[..., :1] / 255).astype(np.float32),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_what_is_not_uint8_rgb_is_converted(tmp_path, kind, capfd):
    clips = CONVERTED[kind]
    given = clips if kind == "in memory" else write(tmp_path / "clips.npy", clips)
    prepared_in(tmp_path, given)
    codes, rows = shown(tmp_path)
    assert codes == EXPECTED
    assert {row.path for row in rows} == {str(tmp_path / "set.frames.npy")}
    assert rows[3].id == ("set#3" if kind == "in memory" else "clips#3")
    written = np.load(tmp_path / "set.frames.npy")
    assert written.dtype == np.uint8
    assert np.array_equal(written, CLIPS)
    assert "set.frames.npy" in " ".join(capfd.readouterr().err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {"set.csv", "set.csv.json", "set.frames.npy"} | ({"clips.npy"} if kind != "in memory" else set())
    )


def test_the_range_is_that_of_the_whole_array(tmp_path):
    """Only the last clip is brighter than 1."""
    clips = np.zeros((N, T, 8, 8, 3), np.float32)
    clips[:-1] = np.random.default_rng(0).random((N - 1, T, 8, 8, 3))
    clips[-1] = 200.6
    prepared_in(tmp_path, clips)
    written = np.load(tmp_path / "set.frames.npy")
    assert written[:-1].max() == 1
    assert (written[-1] == 201).all()


def test_archives_may_bring_the_labels(tmp_path):
    for save, names in (
        (np.savez, ("clips", "labels")),
        (np.savez_compressed, ("X", "y")),
        (np.savez, ("mine", "Label")),
    ):
        save(tmp_path / "set.npz", **{names[0]: CLIPS, names[1]: LABELS})
        prepare(arrays=tmp_path / "set.npz", out=tmp_path / "set.csv", val=0.0, test=0.25)
        assert shown(tmp_path)[0] == EXPECTED
        assert Manifest.load(tmp_path / "set.csv").labels().tolist() == LABELS.tolist()
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "set.csv", "set.csv.json", "set.frames.npy", "set.npz",
        ]  # fmt: skip
    np.savez(tmp_path / "set.npz", (CLIPS / 255).astype(np.float32))
    prepared_in(tmp_path, tmp_path / "set.npz", 1 - LABELS)
    assert shown(tmp_path)[0] == EXPECTED
    assert Manifest.load(tmp_path / "set.csv").labels().tolist() == (1 - LABELS).tolist()


def test_an_archive_that_leaves_open_what_is_meant_is_told(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=CLIPS, x_test=CLIPS, y_train=LABELS)
    assert "holds the arrays x_train, x_test, y_train" in message(tmp_path, tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", clips=CLIPS)
    assert "--labels" in message(tmp_path, tmp_path / "b.npz", None)
    np.savez(tmp_path / "c.npz", clips=np.array([None, {}], dtype=object), y=LABELS)
    said = message(tmp_path, tmp_path / "c.npz", None)
    assert "c.npz" in said
    assert "pickles" in said
    whole = (tmp_path / "b.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    (tmp_path / "d.npz").write_bytes(damaged)
    assert "clips is damaged" in message(tmp_path, tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("clips", "said"),
    [
        (np.moveaxis(CLIPS, -1, 1), "clips.transpose(0, 2, 3, 4, 1)"),
        (np.moveaxis(CLIPS, -1, 2), "clips.transpose(0, 1, 3, 4, 2)"),
        (np.moveaxis(CLIPS[..., :1], -1, 2), "clips.transpose(0, 1, 3, 4, 2)"),
        (CLIPS[0], "clips[None]"),
        (CLIPS[0, 0], "not (N,T,H,W,3)"),
        (CLIPS[:0], "is empty"),
        (np.zeros((4, 5, 8, 8, 4), np.uint8), "has the shape (4, 5, 8, 8, 4)"),
        (CLIPS / 127.5 - 1, "values from -1 to 1"),
        (CLIPS.astype(np.int32) * 2, "values from 0 to 510"),
        (CLIPS / 200, "values from 0 to 1.275"),
        (np.where(CLIPS == 0, np.nan, 1.0), "values from nan"),
        (CLIPS.astype(complex), "is of type complex128"),
        (CLIPS[:, :3], "clips have 3 frames, and at least 4 are needed"),
        (np.array([CLIPS[0], None], dtype=object), "pickles"),
    ],
)
def test_arrays_that_cannot_be_meant_are_told(tmp_path, clips, said):
    path = tmp_path / "clips.npy"
    np.save(path, clips, allow_pickle=True)
    told = message(tmp_path, path)
    assert str(path) in told
    assert said in told


def test_the_transposition_that_is_named_is_right(tmp_path):
    for axis in (1, 2):
        first = np.moveaxis(CLIPS, -1, axis)
        said = message(tmp_path, first)
        axes = tuple(int(number) for number in said.split("transpose(")[1].split(")")[0].split(","))
        assert np.array_equal(first.transpose(axes), CLIPS)


LABEL_KINDS = {
    "a list": (LABELS.tolist(), ["class_000", "class_001"]),
    "small integers": (LABELS.astype(np.uint8), ["class_000", "class_001"]),
    "a column": (LABELS[:, None], ["class_000", "class_001"]),
    "whole floats": (LABELS * 2.0, ["class_000", "class_002"]),
    "one-hot": (np.eye(3)[LABELS], ["class_000", "class_001"]),
    "true and false": (LABELS == 1, ["class_000", "class_001"]),
    "names": (np.array(["jump", "läuft"])[LABELS], ["jump", "läuft"]),
    "bytes": (np.array([b"jump", b"walk"])[LABELS], ["jump", "walk"]),
    "a list of names": ([["b", "a"][label] for label in LABELS], ["b", "a"]),
}


@pytest.mark.parametrize("kind", LABEL_KINDS)
@pytest.mark.parametrize("in_file", [False, True])
def test_labels_are_numbers_one_hot_rows_or_names(tmp_path, kind, in_file):
    labels, names = LABEL_KINDS[kind]
    if in_file:
        labels = write(tmp_path / "labels.npy", np.asarray(labels))
    prepared_in(tmp_path, CLIPS, labels)
    manifest = Manifest.load(tmp_path / "set.csv")
    assert manifest.text("label").tolist() == [names[label] for label in LABELS]
    assert manifest.classes == tuple(sorted(names))


@pytest.mark.parametrize("in_file", [False, True])
def test_classes_name_the_numbers(tmp_path, in_file):
    classes = ["walk", "still", "jump"]
    if in_file:
        (tmp_path / "classes.txt").write_text("0 walk\n1 still\n2 jump\n")
        classes = tmp_path / "classes.txt"
    prepared = prepared_in(tmp_path, CLIPS, LABELS * 2, classes=classes)
    manifest = Manifest.load(tmp_path / "set.csv")
    assert manifest.classes == ("walk", "jump")
    assert manifest.text("label").tolist() == ["walk", "jump"] * (N // 2)
    assert any("no video of still" in warning for warning in prepared.warnings)
    prepared_in(tmp_path, CLIPS, [["walk", "jump"][label] for label in LABELS], classes=classes)
    assert Manifest.load(tmp_path / "set.csv").classes == ("walk", "jump"), "in the order that was given"


@pytest.mark.parametrize(
    ("labels", "settings", "said"),
    [
        (LABELS[:-1], {}, "labels: their shape is (11,), and there are 12 clips"),
        (np.eye(2)[LABELS][:5], {}, "there are 12 clips"),
        (LABELS - 1, {}, "the label of clip 0 is -1. Count labels from 0"),
        (LABELS + 1, {"classes": ["a", "b"]}, "the label of clip 1 is 2. Count labels from 0 to 1 for 2 classes"),
        (LABELS + 0.5, {}, "labels: they are of type float64"),
        (np.eye(2)[LABELS] * 0.5, {}, "labels: row 0 of shape"),
        (np.ones((N, 2)), {}, "labels: row 0 of shape"),
        (["jump", "wlak"] * 6, {"classes": ["jump", "walk"]}, "Did you mean 'walk'"),
        ([[0, 1], [1]] * 6, {}, "labels"),
        ([None, "a"] * 6, {}, "labels: they are of type object"),
        (LABELS * 0, {}, "Add videos until two classes are left"),
        (None, {}, "--labels"),
        (LABELS, {"groups": LABELS[:3]}, "groups: their shape is (3,)"),
    ],
)
def test_labels_that_do_not_fit_are_told(tmp_path, labels, settings, said):
    told = message(tmp_path, write(tmp_path / "clips.npy", CLIPS), labels, **settings)
    assert said in told


def test_labels_in_a_pickle_are_never_loaded(tmp_path):
    np.save(tmp_path / "labels.npy", np.array(["a", None], dtype=object), allow_pickle=True)
    said = message(tmp_path, CLIPS, tmp_path / "labels.npy")
    assert "labels.npy" in said
    assert "pickles" in said


@pytest.mark.parametrize("groups", [np.arange(N) // 2 % 3, [f"p{n // 2 % 3}" for n in range(N)]])
def test_groups_do_not_straddle(tmp_path, groups):
    for seed in range(5):
        prepared = prepared_in(tmp_path, CLIPS, groups=groups, test=0.33, seed=seed)
        assert not any("no group" in warning for warning in prepared.warnings)
        manifest = Manifest.load(tmp_path / "set.csv")
        assert prepared.groups == 3
        assert manifest.text("group").tolist() == [str(group) for group in groups]


def test_folds_and_copies(tmp_path):
    clips = CLIPS.copy()
    clips[[2, 4]] = clips[0]  # the same clip three times
    clips[1] = clips[3]
    clips[5] = clips[6]  # of another class
    path = write(tmp_path / "clips.npy", clips)
    prepared = prepared_in(tmp_path, path, folds=3)
    manifest = Manifest.load(tmp_path / "set.csv")
    assert manifest.folds == (1, 2, 3)
    for fold in (1, 2, 3):
        sides = manifest.text(f"split_{fold}")
        assert len({str(sides[n]) for n in (0, 2, 4)}) == 1
        assert sides[1] == sides[3]
    assert any(
        warning.startswith("Copies among 2 videos have different labels")
        and "The first: clips#5 and clips#6." in warning
        for warning in prepared.warnings
    )
    assert "--groups FILE" in " ".join(prepared.warnings)


def test_a_file_is_not_converted_onto_itself(tmp_path):
    path = write(tmp_path / "set.frames.npy", CLIPS / 255)
    assert "converted onto itself" in message(tmp_path, path)
    path = write(tmp_path / "set.frames.npy", CLIPS)
    prepared_in(tmp_path, path)
    assert shown(tmp_path)[0] == EXPECTED
    with pytest.raises(UserError, match="no such file"):
        prepared_in(tmp_path, tmp_path / "none.npy")


def test_memory_stays_flat(tmp_path):
    """A large array of floats is converted a few clips at a time, also out of an archive."""
    clips = np.lib.format.open_memmap(tmp_path / "clips.npy", "w+", np.float32, (200, 4, 128, 128, 3))
    clips[:] = np.random.default_rng(0).random((1, 1, 128, 128, 3), dtype=np.float32)
    clips[:, 0, 0, 0, 0] = np.arange(200) / 200
    clips.flush()
    size_bytes = clips.nbytes
    np.savez(tmp_path / "clips.npz", clips=clips)
    del clips
    assert size_bytes > 150 * 10**6
    for name in ("clips.npy", "clips.npz"):
        tracemalloc.start()
        try:
            prepared_in(tmp_path, tmp_path / name, np.arange(200) % 2)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 60 * 10**6, name
