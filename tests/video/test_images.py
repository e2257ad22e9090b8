"""Folders of images: frame i is the i-th by number, whatever lies beside it; a broken image is named."""

import builtins
import os
import pickle
import sys

import numpy as np
import pytest
from making import coded, codes_of
from making_images import encoded, write_images

from muybridge.video import (
    DecodeError,
    FileReader,
    ForwardReader,
    RamCache,
    Row,
    images,
)
from muybridge.video.images import frames, probe, read_frames, series, sha256


def fails(call, *arguments, **settings):
    with pytest.raises(DecodeError) as caught:
        call(*arguments, **settings)
    return caught.value


NAMES = {
    "the study's": ("{:05d}.jpg", 1), "TSN's": ("img_{:05d}.jpg", 1), "from 0": ("image_{:04d}.JPG", 0),
    "no zeros": ("{}.jpeg", 7), "wider as they grow": ("frame{:02d}.png", 95), "digits in front": ("v_g01_c2_{}.Png", 3),
    "with blanks and signs": ("läuft 1 {{}} %d_{:03d}.bmp", 998), "WebP": ("{:06d}.webp", 1),
}  # fmt: skip


@pytest.mark.parametrize("naming", NAMES)
def test_frame_i_is_the_ith_by_number(tmp_path, naming):
    name, start = NAMES[naming]
    folder = write_images(tmp_path / "a b ü", 20, 12, name=name, start=start)
    assert codes_of(frames(folder)) == list(range(20, 32))
    assert codes_of(frames(str(folder), start_frame=9)) == [29, 30, 31]
    found = read_frames(folder, [11, 0, 4, 4])
    assert codes_of(found) == [31, 20, 24, 24]
    assert found.dtype == np.uint8
    assert found.flags["C_CONTIGUOUS"]
    assert series(folder).names == "", "nothing is kept but the rule of the names"
    assert list(series(folder).numbers()) == list(range(start, start + 12))


def write_codes(folder, names):
    """Images by name, each of the number that it is given."""
    folder.mkdir(exist_ok=True)
    for name, number in names.items():
        (folder / name).write_bytes(encoded(coded(number), os.path.splitext(name)[1]))
    return folder


MIXED = {
    "gaps": {"img_2.jpg": 2, "img_10.jpg": 10, "img_3.jpg": 3, "img_700.jpg": 70},
    "widths that change": {"1.jpg": 1, "02.jpg": 2, "003.jpg": 3, "10.jpg": 10},
    "endings that change": {"1.jpg": 1, "2.png": 2, "3.JPEG": 3, "4.Jpg": 4},
    "numbers beyond 64 bits": {"98765432109876543210.jpg": 2, "98765432109876543209.jpg": 1, "3.jpg": 0},
}


@pytest.mark.parametrize("what", MIXED)
def test_names_that_follow_no_rule_are_read_by_number_too(tmp_path, what):
    folder = write_codes(tmp_path / "v", MIXED[what])
    assert codes_of(frames(folder)) == sorted(MIXED[what].values())
    assert codes_of(read_frames(folder, [2, 0])) == [sorted(MIXED[what].values())[i] for i in (2, 0)]
    numbers = list(series(folder).numbers())
    assert numbers == sorted(int(name.split(".")[0].removeprefix("img_")) for name in MIXED[what])


def test_other_files_are_no_frames(tmp_path):
    folder = write_images(tmp_path / "v", 5, 3)
    for name in (
        "Thumbs.db",
        ".DS_Store",
        "._img_00001.jpg",
        ".img_00009.jpg",
        "n_frames.txt",
        "img_00004",
        "poster.jpg",
    ):
        (folder / name).write_text("x")
    (folder / "img_00005.jpg").mkdir()
    assert codes_of(frames(folder)) == [5, 6, 7]


@pytest.mark.parametrize("flow", [("flow_x_", "flow_y_"), ("Flow_",)])
def test_flow_is_left_aside(tmp_path, flow):
    folder = write_images(tmp_path / "v", 5, 3)
    for prefix in flow:
        write_images(folder, 100, 3, name=f"{prefix}{{:05d}}.jpg", kind="gray")
    assert codes_of(frames(folder)) == [5, 6, 7]


def test_several_series_are_told_apart_by_nobody(tmp_path):
    folder = write_images(tmp_path / "v", 5, 3)
    write_images(folder, 100, 2, name="mask_{:05d}.jpg")
    error = fails(read_frames, folder, [0])
    assert error.path == str(folder)
    assert "img_*: 3, mask_*: 2" in error.reason
    flow = write_images(tmp_path / "f", 5, 3, name="flow_x_{:05d}.jpg")
    write_images(flow, 5, 3, name="flow_y_{:05d}.jpg")
    assert "flow_x_*: 3, flow_y_*: 3" in fails(read_frames, flow, [0]).reason
    twice = write_codes(tmp_path / "t", {"1.jpg": 1, "2.jpg": 2, "01.png": 3})
    assert "01.png and 1.jpg have the same number" in fails(read_frames, twice, [0]).reason


def test_a_folder_without_frames_is_told(tmp_path):
    (tmp_path / "poster.jpg").write_bytes(encoded(coded(1), ".jpg"))
    for call in (
        lambda path: list(frames(path)),
        lambda path: read_frames(path, [0]),
        lambda path: probe(path, fps=25),
    ):
        error = fails(call, tmp_path)
        assert error.path == str(tmp_path)
        assert "without numbered images" in error.reason
        assert "No such file" in fails(call, tmp_path / "none").reason


def test_pixels_are_those_of_the_files(tmp_path):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, 31, 47, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture, ".png"))
    assert np.array_equal(read_frames(tmp_path, [2, 1, 0]), pictures[::-1])


@pytest.mark.parametrize(("ending", "kind"), [(".jpg", "gray"), (".png", "gray"), (".jpg", "cmyk"), (".png", "rgba")])
def test_grey_ink_and_transparent_images_become_rgb(tmp_path, ending, kind):
    picture = coded(77)
    if kind in ("cmyk", "rgba"):
        picture[..., 1] //= 2  # colours stay what they are
    (tmp_path / f"1{ending}").write_bytes(encoded(picture, ending, kind=kind))
    [found] = read_frames(tmp_path, [0])
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - picture).mean() < 3


def test_contents_count_not_names(tmp_path):
    (tmp_path / "1.jpg").write_bytes(encoded(coded(3), ".png"))
    (tmp_path / "2.png").write_bytes(encoded(coded(4), ".jpg"))
    assert codes_of(frames(tmp_path)) == [3, 4]


@pytest.mark.parametrize("short_side", [12, 24, 37, 48, 96])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_short_side_keeps_the_aspect(tmp_path, short_side, ending):
    folder = write_images(tmp_path / "v", 7, 4, name=f"{{}}.{ending}", height=61, width=97)
    found = read_frames(folder, [0, 3], short_side=short_side)
    height, width = found.shape[1:3]
    assert height == short_side
    assert abs(width - 97 * short_side / 61) <= 0.5
    assert codes_of(found) == [7, 10]
    assert np.array_equal(np.stack(list(frames(folder, short_side=short_side)))[[0, 3]], found)


def test_a_picture_decoded_small_is_the_picture(tmp_path):
    """At half its size a JPEG needs less work; what comes out is near to what scaling the whole gives."""
    y_HW, x_HW = np.mgrid[:240, :320]
    smooth = np.stack([y_HW, x_HW * 0.7, 255 - y_HW * 0.5], axis=2).astype(np.uint8)
    for ending in (".jpg", ".png"):
        (tmp_path / ending[1:]).mkdir()
        (tmp_path / ending[1:] / f"1{ending}").write_bytes(encoded(smooth, ending))
    [by_jpeg], [by_png] = (read_frames(tmp_path / kind, [0], short_side=80).astype(int) for kind in ("jpg", "png"))
    assert by_jpeg.shape == by_png.shape == (80, 107, 3)
    assert np.abs(by_jpeg - by_png).mean() < 2


@pytest.mark.parametrize("short_side", [None, 24, 96])
def test_all_frames_have_the_size_of_the_first(tmp_path, short_side):
    write_images(tmp_path, 5, 2, height=48, width=64)
    write_images(tmp_path, 7, 2, start=3, height=120, width=90)
    write_images(tmp_path, 9, 1, start=5, height=30, width=40)
    height = short_side or 48
    whole = np.stack(list(frames(tmp_path, short_side=short_side)))
    assert whole.shape == (5, height, height * 4 // 3, 3)
    assert codes_of(whole) == [5, 6, 7, 8, 9]
    assert np.array_equal(read_frames(tmp_path, [4, 2], short_side=short_side), whole[[4, 2]])
    assert np.array_equal(np.stack(list(frames(tmp_path, start_frame=3, short_side=short_side))), whole[3:])


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.97])
def test_a_broken_image_is_named(tmp_path, ending, kept):
    folder = write_images(tmp_path / "v", 0, 5, name=f"{{}}{ending}")
    broken = folder / f"3{ending}"
    broken.write_bytes(broken.read_bytes()[: int(len(broken.read_bytes()) * kept)])
    for call in (lambda: list(frames(folder)), lambda: read_frames(folder, [1, 2]), lambda: probe(folder, fps=25)):
        error = fails(call)
        assert error.path == str(broken)
        assert error.reason
    assert codes_of(read_frames(folder, [0, 1, 3])) == [0, 1, 3]


def test_a_file_that_is_no_image_is_named(tmp_path):
    folder = write_images(tmp_path / "v", 0, 3)
    (folder / "img_00001.jpg").write_text("<html>404</html>")
    assert fails(read_frames, folder, [2]).path == str(folder / "img_00001.jpg"), "the first says the size of all"
    assert "not a JPEG, PNG, BMP, WebP or TIFF" in fails(read_frames, folder, [0]).reason
    (folder / "img_00001.jpg").unlink()
    (folder / "img_00001.jpg").symlink_to(folder / "nothing")
    assert codes_of(frames(folder)) == [1, 2], "a link to nothing is no file"


def test_asking_past_the_end_names_the_folder_and_both_numbers(tmp_path):
    folder = write_images(tmp_path / "v", 0, 40)
    error = fails(read_frames, folder, [0, 40])
    assert error.path == str(folder)
    assert error.reason == "frame 40 was asked for, but decoding gives 40 frames"
    for row in (Row("r", str(folder), 38, 3, 25.0), Row("r", str(folder), 0, 41, 25.0)):
        for call in (FileReader().read_all, lambda rows: RamCache(FileReader()).fill(rows, threads=2)):
            assert "decoding gives 40 frames" in fails(call, [row]).reason


@pytest.mark.parametrize("indices", [[], [-1], [3, -2]])
def test_indices_that_cannot_be_are_a_mistake_of_the_caller(tmp_path, indices):
    with pytest.raises(ValueError, match="frame indices"):
        read_frames(write_images(tmp_path / "v"), indices)


def test_only_the_wanted_files_are_read_and_the_folder_is_listed_once(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "v", 0, 30)
    opened, listed = [], []
    real_open, real_scandir = builtins.open, os.scandir
    monkeypatch.setattr(builtins, "open", lambda path, *a: opened.append(os.path.basename(path)) or real_open(path, *a))
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or real_scandir(path))
    read_frames(folder, [3])
    opened.clear()
    for _ in range(5):
        read_frames(folder, [29, 11, 11], short_side=24)
    assert opened == ["img_00012.jpg", "img_00030.jpg"] * 5
    assert len(listed) == 1


def test_a_folder_that_changes_is_listed_again(tmp_path):
    folder = write_images(tmp_path / "v", 0, 3)
    assert len(series(folder)) == 3
    write_images(folder, 3, 2, start=4)
    os.utime(folder, ns=(0, 10**18))
    assert codes_of(frames(folder)) == [0, 1, 2, 3, 4]


def test_what_is_kept_of_a_folder_is_small(tmp_path):
    """Tens of thousands of folders are open at once in a process."""
    folder = tmp_path / "v"
    folder.mkdir()
    for i in range(2000):
        (folder / f"img_{i + 1:05d}.jpg").touch()
    assert len(series(folder)) == 2000
    assert len(pickle.dumps(series(folder))) < 300
    (folder / "img_01000.jpg").unlink()
    os.utime(folder, ns=(0, 10**18))
    with_gap = series(folder)
    assert len(with_gap) == 1999
    assert sum(sys.getsizeof(getattr(with_gap, name)) for name in with_gap.__slots__) < 16 * 2000


def test_probe_counts_and_measures(tmp_path):
    folder = write_images(tmp_path / "v", 0, 7, height=61, width=97)
    info = probe(folder, fps=12.5)
    assert (info.num_frames, info.declared_frames, info.fps, info.seekable) == (7, 0, 12.5, False)
    assert (info.height, info.width) == (61, 97)
    np.testing.assert_allclose(info.times_seconds, np.arange(7) / 12.5)


def test_the_hash_is_of_names_and_contents_in_order(tmp_path):
    a = write_images(tmp_path / "a", 0, 11, name="{}.jpg")
    b = write_images(tmp_path / "b", 0, 11, name="{}.jpg")
    (b / "Thumbs.db").write_text("not a frame")
    assert sha256(a) == sha256(b)
    hashes = {sha256(a)}
    (b / "11.jpg").unlink()
    hashes.add(sha256(b))
    hashes.add(sha256(write_images(tmp_path / "c", 0, 11, name="{:02d}.jpg")))
    hashes.add(sha256(write_images(tmp_path / "d", 1, 11, name="{}.jpg")))
    os.rename(a / "1.jpg", a / "x")
    os.rename(a / "2.jpg", a / "1.jpg")
    os.rename(a / "x", a / "2.jpg")
    hashes.add(sha256(a))
    assert len(hashes) == 5


@pytest.mark.parametrize("short_side", [None, 24])
def test_all_readers_give_the_same_frames(tmp_path, short_side):
    folder = write_images(tmp_path / "v", 0, 20, height=61, width=97)
    reader, forward = FileReader(short_side=short_side), ForwardReader(short_side=short_side)
    rows = [Row("v", str(folder), 0, 20, 25.0), Row("v#5", str(folder), 4, 9, 25.0)]
    cache = RamCache(reader)
    cache.fill(rows, threads=2)
    for row in rows:
        for indices in ([0], [8, 0, 3, 3], list(range(9))):
            wanted = np.array(indices)
            found = pickle.loads(pickle.dumps(reader)).read(row, wanted)
            assert codes_of(found) == (wanted + row.start_frame).tolist()
            assert np.array_equal(cache.read(row, wanted), found)
            assert np.array_equal(forward.read(row, wanted), found)


def test_names_that_are_frames():
    for name in ("1.jpg", "img_00001.JPEG", "a.b_2.png", "x1.WebP", "ü 3.bmp"):
        assert images.is_frame(name), name
    for name in ("jpg", ".1.jpg", "._1.jpg", "a.jpg", "1a.jpg", "1.avi", "1.jpg.txt", "1.", "Thumbs.db", "1٣x.jpg"):
        assert not images.is_frame(name), name
    assert images.is_image("poster.jpg")
