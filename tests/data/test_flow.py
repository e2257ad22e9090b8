"""A store of flow holds the motion that there is, stands for its manifest, survives kills, and says what is wrong with it."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
import simplejpeg
import torch
from making import write_clip, write_video

import muybridge
from muybridge import build
from muybridge.data import inputs
from muybridge.data.manifest import Manifest
from muybridge.data.prepare.prepare import prepare
from muybridge.data.stores import flow as module
from muybridge.data.stores.flow import flow
from muybridge.data.transforms import Jitter
from muybridge.errors import UserError
from muybridge.recipe import Clip, Recipe, Runtime, replace
from muybridge.reporting.disagreements import Frames
from muybridge.video import DecodeError, FileReader, fields, packs
from muybridge.video import flow as methods
from muybridge.video.jpeg import decode_jpeg

cv2 = pytest.importorskip("cv2")

CODECS = ["jpeg", "h264", "png"]
every_codec = pytest.mark.parametrize("codec", CODECS)
HEIGHT, WIDTH = 120, 160
CENTRE = (WIDTH / 2, HEIGHT / 2)


def affine(degrees=0.0, scale=1.0, moved=(0.0, 0.0)):
    """The motion of a step, as a matrix (3,3)."""
    turned = np.vstack([cv2.getRotationMatrix2D(CENTRE, degrees, scale), [0, 0, 1]])
    return np.array([[1, 0, moved[0]], [0, 1, moved[1]], [0, 0, 1]]) @ turned


MOTIONS = {
    "moved": affine(moved=(3.0, -2.0)),
    "scaled": affine(scale=1.04),
    "rotated": affine(degrees=2.0),
    "all": affine(degrees=1.0, scale=0.98, moved=(1.5, 1.0)),
}


def texture(seed, side=512):
    """Smooth random colours (side,side,3)."""
    noise = np.random.default_rng(seed).normal(size=(side, side, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5) + 3 * cv2.GaussianBlur(noise, (0, 0), 6)
    low, high = np.percentile(smooth, (1, 99))
    return np.clip((smooth - low) / (high - low) * 255, 0, 255)


def moving(step_33, frames, seed=0):
    """Frames (T,H,W,3) of a texture that moves by one matrix a frame."""
    picture, clip = texture(seed), []
    middle = np.array([[1, 0, -180.0], [0, 1, -190.0], [0, 0, 1]])
    for number in range(frames):
        at = np.linalg.matrix_power(step_33, number) @ middle
        clip.append(cv2.warpPerspective(picture, at, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC))
    return np.clip(np.rint(clip), 0, 255).astype(np.uint8)


def field_of(step_33, x, y):
    """The true motion (…,2) at places."""
    to = np.stack([x, y, np.ones_like(x)], axis=-1) @ step_33.T
    return to[..., :2] - np.stack([x, y], axis=-1)


@pytest.fixture(scope="module")
def known_set(tmp_path_factory):
    """A manifest of clips of known motion, as arrays: nothing is lost before the flow is computed."""
    folder = tmp_path_factory.mktemp("known")
    np.save(folder / "clips.npy", np.stack([moving(step, 5) for step in MOTIONS.values()]))
    made = prepare(arrays=folder / "clips.npy", labels=np.arange(4), out=folder / "set.csv", all_as="train")
    return made.manifest


@pytest.fixture(scope="module")
def stores(known_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {codec: flow(known_set, out=folder / codec, codec=codec, jobs=2).path for codec in CODECS}


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def off(found_THW2, expected_HW2):
    """Median distance to the true motion, in pixels."""
    return float(np.median(np.linalg.norm(found_THW2 - expected_HW2, axis=-1)))


def seen(store, row, box, size, flip):
    """The fields that a network sees of all of a row, back in pixels (T,H,W,2)."""
    shown = inputs.find("flow").stacked(1)
    codes = shown.reader(FileReader()).read(row, np.arange(row.num_frames))
    clip = torch.from_numpy(shown.fitted(codes, box, size))[None]
    x_BCTHW = shown.to_model(clip, torch.tensor([flip]), mean=(0.5,) * 2, std=(0.226,) * 2)
    return x_BCTHW[0].permute(1, 2, 3, 0).numpy() * 0.226 * 255 * 20 / 127


@every_codec
@pytest.mark.parametrize("number", range(4), ids=list(MOTIONS))
def test_known_motion_is_read_back(stores, codec, number):
    """Within .25 pixels: computed, stored, read, scaled while it is read, cropped and resized, mirrored."""
    step = list(MOTIONS.values())[number]
    row = Manifest.load(stores[codec]).row(number)
    assert row.num_frames == 4
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    codes = FileReader().read(row, np.arange(4))
    assert codes.shape == (4, HEIGHT, WIDTH, 2)
    assert codes.dtype == np.uint8
    assert off(fields.vectors_of(codes, 20), field_of(step, x, y)) < 0.25

    half = fields.vectors_of(FileReader(short_side=HEIGHT // 2).read(row, np.arange(4)), 20)
    y, x = np.mgrid[: HEIGHT // 2, : WIDTH // 2] * 2 + 0.5
    assert off(half, field_of(step, x, y) / 2) < 0.25

    for box, size in (((10, 20, 96, 96), 96), ((4, 30, 112, 84), 96), ((0, 0, 80, 80), 112)):
        top, left, height, width = box
        rows, columns = np.mgrid[:size, :size]
        x, y = left + (columns + 0.5) * width / size - 0.5, top + (rows + 0.5) * height / size - 0.5
        expected = field_of(step, x, y) * (size / width, size / height)
        assert off(seen(stores[codec], row, box, size, flip=False), expected) < 0.25
        mirrored = expected[:, ::-1] * (-1, 1)
        assert off(seen(stores[codec], row, box, size, flip=True), mirrored) < 0.25


@pytest.mark.parametrize("method", ["farneback", "tvl1"])
def test_other_methods_find_the_same_motion(method):
    how, clip = methods.method(method), moving(MOTIONS["moved"], 2)
    field = how.between(*map(how.image, clip))
    assert off(field[None, 8:-8, 8:-8], np.array([3.0, -2.0])) < 0.25


@every_codec
def test_what_stands_still_is_exactly_zero(tmp_path, codec):
    still = np.repeat(moving(affine(), 1), 6, axis=0)
    np.save(tmp_path / "clips.npy", np.stack([still, still[:, ::-1]]))
    prepare(arrays=tmp_path / "clips.npy", labels=[0, 1], out=tmp_path / "set.csv", all_as="train")
    done = flow(tmp_path / "set.csv", out=tmp_path / "s", codec=codec)
    assert (done.clipped, done.error_pixels) == (0, {"mean": 0, "most": 0})
    row = Manifest.load(done.path).row(0)
    assert not seen(done.path, row, (0, 0, 110, 110), 64, flip=True).any()


def test_codes_by_their_definition():
    """The bound is the last code, no motion the middle; opposite vectors are opposite; longer ones are cut and counted."""
    vectors = np.array([[0.0, 20.0], [-20.0, 0.05], [31.0, -3.0]])
    codes = fields.coded(vectors, 20)
    assert codes.tolist() == [[128, 255], [1, 128], [255, 109]]
    assert np.allclose(fields.vectors_of(codes, 20), [[0, 20], [-20, 0], [20, -19 * 20 / 127]])
    assert fields.num_clipped(vectors, 20) == 1
    draw = np.random.default_rng(0).uniform(-9, 9, (50, 2))
    assert np.array_equal(fields.vectors_of(fields.coded(-draw, 9), 9), -fields.vectors_of(fields.coded(draw, 9), 9))
    assert np.abs(fields.vectors_of(fields.coded(draw, 9), 9) - draw).max() <= 9 / 127 / 2 + 1e-6


def test_a_field_that_is_enlarged_is_not_cut_at_the_bound():
    """12 pixels on frames of twice the size are 24, whatever the bound of the store."""
    codes = fields.coded(np.full((6, 8, 2), (12.0, -19.0)), 20)
    twice = fields.resized(codes, (16, 12))
    np.testing.assert_allclose(fields.vectors_of(twice, 20), np.broadcast_to((24.0, -38.0), (12, 16, 2)), atol=0.2)
    shown = inputs.find("flow").stacked(1)
    clip = torch.from_numpy(shown.fitted(twice[None], (0, 0, 12, 12), 12)).float() * 20 / 127
    np.testing.assert_allclose(clip[0, 5, 5], (24.0, -38.0), atol=0.2)
    assert fields.resized(codes, (8, 6)) is codes


def test_turning_a_field_turns_its_vectors():
    """Counter-clockwise, as frames are turned: what moves to the right then moves up."""
    shown = inputs.find("flow").stacked(1)
    clip = torch.zeros(1, 1, 9, 9, 2)
    clip[0, 0, 4, 8] = torch.tensor([10.0, 0.0])  # at the right edge, to the right
    x = shown.to_model(
        clip.half(), None, mean=(0.5,) * 2, std=(1 / 255,) * 2, jitter=Jitter(rotation_degrees_B=torch.tensor([90.0]))
    )
    assert torch.allclose(x[0, :, 0, 0, 4], torch.tensor([0.0, -10.0]), atol=1e-3)
    assert x.abs().sum() == pytest.approx(10, abs=1e-2)


def test_stacks_are_channels():
    """TSN's order: x and y of a field, then of the next; colours of a difference, then of the next."""
    five = inputs.find("flow")
    assert (five.step_frames, five.channels) == (5, 10)
    clip = torch.arange(2 * 5 * 2).reshape(1, 10, 1, 1, 2).half()
    x = five.to_model(clip, None, mean=(0.5,) * 10, std=(1 / 255,) * 10)
    assert x[0, :, :, 0, 0].T.tolist() == [list(range(10)), list(range(10, 20))]
    differences = inputs.find("rgb_differences")
    assert (differences.step_frames, differences.channels) == (6, 15)
    frames = torch.tensor([0, 1, 3, 6, 10, 15], dtype=torch.uint8)[:, None] + torch.tensor(
        [0, 50, 100], dtype=torch.uint8
    )
    frames = (frames * torch.tensor([1, 1, 2], dtype=torch.uint8))[None, :, None, None]
    x = differences.to_model(frames, None, mean=(0.5,) * 15, std=(1 / 255,) * 15)
    wanted = [value for step in range(1, 6) for value in (step, step, 2 * step)]
    assert torch.allclose(x[0, :, 0, 0, 0], torch.tensor(wanted, dtype=torch.float32), atol=1e-4)
    two = differences.stacked(2)
    assert (two.step_frames, two.channels) == (3, 6)


def test_the_camera_is_taken_out():
    """A shape that moves by (2,1) over a background that the camera moves by (-1.6,.8) and turns by half a degree."""
    camera = affine(degrees=0.5, moved=(-1.6, 0.8))
    clip, patch = moving(camera, 6), texture(7)[:36, :36].astype(np.uint8)
    tops = [40 + t for t in range(6)]
    for t, top in enumerate(tops):
        clip[t, top : top + 36, 50 + 2 * t : 86 + 2 * t] = patch
    how = methods.method("dis")
    images = [how.image(frame) for frame in clip]
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    around, left, own, expected = [], [], [], []
    for t in range(5):
        before, after = how.between(images[t], images[t + 1]), methods.without_camera(how, images[t], images[t + 1])
        shape = np.zeros((HEIGHT, WIDTH), bool)
        shape[tops[t] + 4 : tops[t] + 32, 54 + 2 * t : 82 + 2 * t] = True
        outside = ~cv2.dilate(shape.astype(np.uint8), np.ones((25, 25))).astype(bool)
        outside[:8], outside[-8:], outside[:, :8], outside[:, -8:] = (False,) * 4
        around.append(np.median(np.linalg.norm(before[outside], axis=1)))
        left.append(np.median(np.linalg.norm(after[outside], axis=1)))
        own.append(np.median(after[shape], axis=0))
        back = np.linalg.inv(camera) @ np.stack([x[shape] + 2, y[shape] + 1, np.ones(shape.sum())])
        expected.append(np.median(back[:2].T - np.stack([x[shape], y[shape]], axis=1), axis=0))
    assert np.mean(around) > 1.5
    assert np.mean(left) < 0.2 * np.mean(around)
    assert np.abs(np.array(own) - expected).max() < 0.3  # its own motion beside the camera's is kept: (3.6,.2) here


def test_a_camera_that_too_few_points_show_stands_still():
    plain = np.full((HEIGHT, WIDTH), 90, np.uint8)
    assert methods.homography(plain, plain, np.zeros((HEIGHT, WIDTH, 2), np.float32)) is None
    how = methods.method("dis")
    assert not methods.without_camera(how, plain, plain).any()


# A store


@pytest.fixture(scope="module")
def parts_set(tmp_path_factory):
    """A manifest of whole videos, and of parts of one: two that overlap, and one of a single frame."""
    folder = tmp_path_factory.mktemp("parts")
    for number in range(4):
        write_clip(folder / f"{number}.avi", 10 * number, 12)
    write_clip(folder / "parts.avi", 100, 40)
    lines = [
        "path,label,split,start,end",
        *(f"{n}.avi,{'ab'[n % 2]},{'train' if n < 3 else 'test'},," for n in range(4)),
    ]
    lines += ["parts.avi,a,train,0,0.4", "parts.avi,b,train,0.2,0.8", "parts.avi,a,train,1.2,1.24"]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return prepare(csv=folder / "list.csv", out=folder / "set.csv", val=0, min_frames=1).manifest


@pytest.fixture(scope="module")
def parts_store(parts_set, tmp_path_factory):
    return flow(parts_set, out=tmp_path_factory.mktemp("store") / "s", codec="png")


def test_a_store_stands_for_its_manifest(parts_set, parts_store):
    source, stored = Manifest.load(parts_set), Manifest.load(parts_store.path)
    for column in ("id", "label", "group", "sha256", "split", "fps", "width", "height"):
        assert stored.columns[column].tolist() == source.columns[column].tolist(), column
    assert (stored.classes, stored.mirror) == (source.classes, source.mirror)
    assert stored.sha256() != source.sha256()
    assert muybridge.describe(parts_store.path).splits[-1].videos == len(source)


def test_a_part_has_the_fields_between_its_own_frames(parts_set, parts_store):
    source, stored = Manifest.load(parts_set), Manifest.load(parts_store.path)
    how, reader = methods.method("dis"), FileReader()
    for index in range(len(source)):
        before, after = source.row(index), stored.row(index)
        frames = reader.read(before, np.arange(before.num_frames))
        found = reader.read(after, np.arange(after.num_frames))
        images = [how.image(frame) for frame in frames]
        expected = [fields.coded(how.between(a, b), 20) for a, b in pairwise(images)]
        if len(frames) == 1:  # nothing moves in it
            expected = [np.full((*images[0].shape, 2), fields.ZERO)]
        assert np.array_equal(found, np.stack(expected))
    assert parts_store.still_rows == 1
    [parts] = [v for v in packs.about(parts_store.path / "frames-00000.pack")["videos"] if len(v["rows"]) == 3]
    assert parts["num_frames"] == 20  # 9 + 14 fields of which 4 are shared, and one without motion


def test_distance_and_frame_rate(parts_set, tmp_path):
    source = Manifest.load(parts_set)
    three = Manifest.load(flow(parts_set, out=tmp_path / "d", frame_distance=3, codec="png").path)
    slow = Manifest.load(flow(parts_set, out=tmp_path / "f", fps=5, codec="png").path)
    how, reader = methods.method("dis"), FileReader()
    assert three.columns["num_frames"][:4].tolist() == [9] * 4
    assert three.columns["fps"].tolist() == source.columns["fps"].tolist()
    images = [how.image(frame) for frame in reader.read(source.row(0), np.arange(12))]
    found = reader.read(three.row(0), np.arange(9))
    assert np.array_equal(found[2], fields.coded(how.between(images[2], images[5]), 20))
    assert slow.columns["num_frames"][:4].tolist() == [2] * 4  # of frames 0, 5 and 10
    assert np.allclose(slow.columns["fps"][:4], 6.25)
    found = reader.read(slow.row(0), np.arange(2))
    assert np.array_equal(found[1], fields.coded(how.between(images[5], images[10]), 20))


def test_frames_are_scaled_down_before(known_set, tmp_path):
    done = flow(known_set, out=tmp_path / "s", short_side=60, codec="png")
    row = Manifest.load(done.path).row(0)
    found = fields.vectors_of(FileReader().read(row, np.arange(4)), 20)
    assert found.shape == (4, 60, 80, 2)
    assert off(found, np.array([1.5, -1.0])) < 0.25


def test_vectors_beyond_the_bound_are_cut_and_told(known_set, tmp_path):
    done = flow(known_set, out=tmp_path / "s", bound=2.5, codec="png")
    told = json.loads((done.path / "flow.json").read_text())
    assert told["bound"] == 2.5
    assert 0.25 < done.clipped == told["clipped"] < 0.7  # all of the first clip, and the outside of others
    codes = FileReader().read(Manifest.load(done.path).row(0), np.arange(4))
    assert np.median(codes[..., 0]) == 255


def test_any_jobs_stops_and_shards_give_the_same_bytes(known_set, parts_set, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RAW_BYTES", 100_000)
    flow(parts_set, out=tmp_path / "whole", jobs=1)
    whole = digests(tmp_path / "whole")
    assert sum(name.endswith(".pack") for name in whole) == 3
    flow(parts_set, out=tmp_path / "threads", jobs=3)
    assert digests(tmp_path / "threads") == whole
    assert not flow(parts_set, out=tmp_path / "shards", shard="2/2").finished
    with pytest.raises(UserError, match="`muybridge flow` has not finished it"):
        Manifest.load(tmp_path / "shards")
    assert flow(parts_set, out=tmp_path / "shards", shard="1/2").finished
    assert digests(tmp_path / "shards") == whole
    compute, done = module._Work.compute, []

    def stopping(self, video, path, stop):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(video)
        return compute(self, video, path, stop)

    monkeypatch.setattr(module._Work, "compute", stopping)
    with pytest.raises(KeyboardInterrupt, match="Rerun the same command to resume"):
        flow(parts_set, out=tmp_path / "stopped", jobs=1)
    monkeypatch.setattr(module._Work, "compute", lambda *args: done.append(args[1]) or compute(*args))
    flow(parts_set, out=tmp_path / "stopped", jobs=1)
    assert sorted(done) == [0, 1, 2, 3, 4]  # no video twice
    assert digests(tmp_path / "stopped") == whole
    again = flow(parts_set, out=tmp_path / "stopped")
    assert (again.checked, again.computed) == (True, 0)
    (tmp_path / "stopped" / "frames-00001.pack").unlink()
    flow(parts_set, out=tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == whole


def test_a_dry_run_writes_nothing(parts_set, tmp_path):
    told = flow(parts_set, out=tmp_path / "s", dry_run=True)
    assert not (tmp_path / "s").exists()
    assert told.fields == 4 * 11 + 9 + 14 + 1
    assert told.bytes > 0
    assert told.seconds > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bound": 10}, r"begun with bound 20\.0, not 10\.0"), ({"method": "farneback"}, "begun with method dis, not farneback"),
     ({"codec": "jpeg"}, "begun with codec png, not jpeg"), ({"short_side": 64}, "begun with short_side 256, not 64"),
     ({"frame_distance": 2}, "begun with frame_distance 1, not 2"), ({"warped": True}, "begun with warped False, not True"),
     ({"fps": 5.0}, r"begun with fps None, not 5\.0"), ({"bound": 0}, "--bound 0: out of range"),
     ({"method": "disk"}, r"--method: 'disk' is unknown\. Did you mean 'dis'\?"),
     ({"codec": "gif"}, "--codec: 'gif' is unknown"), ({"quality": 5}, "--quality 5: png loses nothing"),
     ({"frame_distance": 0}, "--frame-distance 0: out of range"), ({"shard": "3/2"}, "--shard: '3/2' is not i/n")],
)  # fmt: skip
def test_other_options_are_refused_by_name(parts_set, parts_store, options, message):
    with pytest.raises(UserError, match=message):
        flow(parts_set, out=parts_store.path, **{"codec": "png", **options})


def test_another_set_and_changed_videos_are_refused(known_set, parts_store, tmp_path):
    with pytest.raises(UserError, match="begun with another manifest"):
        flow(known_set, out=parts_store.path, codec="png")
    for number in range(2):
        write_clip(tmp_path / "v" / "ab"[number] / f"{number}.avi", number, 8)
    prepare(tmp_path / "v", out=tmp_path / "set.csv", all_as="train")
    write_clip(tmp_path / "v" / "a" / "0.avi", 5, 8)
    with pytest.raises(DecodeError, match="has changed since it was prepared"):
        flow(tmp_path / "set.csv", out=tmp_path / "s")


def test_a_finished_store_is_refused_once_its_videos_change(tmp_path, capsys):
    for number in range(2):
        write_clip(tmp_path / "v" / "ab"[number] / f"{number}.avi", number, 8)
    prepare(tmp_path / "v", out=tmp_path / "set.csv", all_as="train")
    makers = {write: tmp_path / write.__name__ for write in (flow, muybridge.pack, muybridge.frames)}
    for write, out in makers.items():
        write(tmp_path / "set.csv", out=out)
    kept = (tmp_path / "v" / "a" / "0.avi").read_bytes()
    write_clip(tmp_path / "v" / "a" / "0.avi", 5, 8)
    for write, out in makers.items():
        with pytest.raises(DecodeError, match=r"a/0\.avi: .*has changed since it was prepared"):
            write(tmp_path / "set.csv", out=out)
    (tmp_path / "v" / "a" / "0.avi").write_bytes(kept)
    (tmp_path / "v" / "b" / "1.avi").unlink()
    assert flow(tmp_path / "set.csv", out=makers[flow]).checked
    assert "1 video of 2 is gone, so whether it changed is not known" in capsys.readouterr().err


@every_codec
def test_a_changed_frame_is_refused_where_it_is_read(known_set, stores, tmp_path, codec):
    path = tmp_path / "frames-00000.pack"
    content = bytearray((stores[codec] / "frames-00000.pack").read_bytes())
    content[40] ^= 1  # of the first field
    path.write_bytes(content)
    row = Manifest.load(stores[codec]).row(0)._replace(path=str(path))
    with pytest.raises(DecodeError, match="frame 0 is not as it was written"):
        FileReader().read(row, np.array([0]))
    if codec == "jpeg":
        FileReader().read(row, np.array([1]))
        with pytest.raises(DecodeError, match="not those that were written"):
            packs.check(path)


def test_nothing_is_written_through_a_link(parts_set, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0000000.pack").write_text("mine")
    flow(parts_set, out=tmp_path / "s")
    for name in ("frames-00000.pack", "manifest.csv"):
        (tmp_path / "s" / name).unlink()
    for name, to in ((".frames-00000", "elsewhere"), ("frames-00000.pack", "elsewhere/0000000.pack")):
        (tmp_path / "s" / name).symlink_to(tmp_path / to)
        with pytest.raises(UserError):
            flow(parts_set, out=tmp_path / "s")
        (tmp_path / "s" / name).unlink()
        assert [path.read_text() for path in (tmp_path / "elsewhere").iterdir()] == ["mine"]


def test_without_opencv_it_says_how_to_install_it(parts_set, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"OpenCV: it is not installed.* pip install 'muybridge\[flow\]'"):
        flow(parts_set, out=tmp_path / "s")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"--method raft: torchvision is not installed.* 'muybridge\[raft\]'"):
        flow(parts_set, out=tmp_path / "s", method="raft")
    assert not (tmp_path / "s").exists()


def test_no_torch_is_loaded(parts_set, tmp_path):
    code = "import sys, muybridge; muybridge.flow(sys.argv[1], out=sys.argv[2]); assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code, str(parts_set), str(tmp_path / "s")], check=True, capture_output=True)


# Into a network


def recipe_of(store, **changes):
    return replace(Recipe(clip=Clip(num_frames=2, size=32)), {
        "model.name": "tsn_resnet_tiny", "data.manifest": str(store), "optim.epochs": 1, "optim.warmup_epochs": 0.0,
        "precision": "fp32", **changes,
    })  # fmt: skip


def test_training_says_what_the_store_holds_and_which_stacks_are_filled(parts_store, parts_set, tmp_path, capsys):
    """The default modality cannot be told from none, so nobody is told "rgb" and shown flow in silence."""
    muybridge.train(recipe_of(parts_store.path, **{"clip.modality": "rgb", "clip.stack": 10}), out=tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert f"the input is stacks of optical flow, as {parts_store.path} holds it (clip.modality=flow)" in said
    assert (
        "2 videos of 7 are too short for stacks of 10 fields: frames start over from the first (clip.past_end=wrap)"
        in said
    )
    muybridge.train(recipe_of(parts_set, **{"clip.past_end": "repeat"}), out=tmp_path / "rgb")
    said = " ".join(capsys.readouterr().err.split())
    assert "the input is" not in said
    assert "too short" not in said


@pytest.mark.parametrize(("stack", "rotation"), [(None, 10.0), (1, 0.0)])
def test_a_run_takes_the_flow_of_its_store(parts_store, parts_set, tmp_path, stack, rotation):
    recipe = recipe_of(parts_store.path, **{"clip.stack": stack, "augment.rotation_degrees": rotation})
    run = muybridge.train(recipe, out=tmp_path / "run")
    assert run.recipe().clip.modality == "flow"
    assert build.outline(run.recipe(), 2).in_channels == (10 if stack is None else 2)
    scores = muybridge.evaluate(run, runtime=Runtime(inference="plain"))
    assert np.array_equal(scores.logits_VK, run.scores("test").logits_VK)
    assert muybridge.diagnose(run).as_json()["videos"] == 1
    video = Manifest.load(parts_set).row(0).path
    with muybridge.load(run) as predictor, pytest.raises(DecodeError, match="takes flow that is computed beforehand"):
        predictor(video)
    refused = r"it holds videos, but .* was trained on flow computed by \{.*\"dis\".*store that was made like that"
    with pytest.raises(UserError, match=refused):
        muybridge.evaluate(run, data=parts_set)
    extracted = muybridge.features(run.path, data=parts_store.path, out=tmp_path / "features")
    assert extracted.rows == 7


def test_what_does_not_fit_a_store_is_refused(parts_set, parts_store, tmp_path):
    refused = {
        r"holds 'flow', not 'warped_flow'": recipe_of(parts_store.path, **{"clip.modality": "warped_flow"}),
        r"holds 'flow', not 'rgb_difference'": recipe_of(parts_store.path, **{"clip.modality": "rgb_difference"}),
        rf"'flow' is read from a store of it.*Make the store: muybridge flow {parts_set} --out STORE": recipe_of(
            parts_set, **{"clip.modality": "flow"}
        ),
        r"clip\.stack: input 'rgb' has no stacks\. Leave it out": recipe_of(parts_set, **{"clip.stack": 3}),
        r"augment\.hue: input 'flow' has no colours": recipe_of(parts_store.path, **{"augment.hue": 0.1}),
    }
    for message, recipe in refused.items():
        with pytest.raises(UserError, match=message):
            muybridge.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for write in (muybridge.pack, muybridge.frames, muybridge.flow):
        with pytest.raises(
            UserError, match=r"it is a store that holds stacks of optical flow.*Name the manifest of the"
        ):
            write(parts_store.path, out=tmp_path / "again")
    with pytest.raises(UserError, match=r"clip\.stack: input 'rgb_difference' has no stacks"):
        recipe_of(parts_set, **{"clip.stack": 3, "clip.modality": "rgb_difference"})


def test_a_warped_store_says_what_it_is(known_set, tmp_path):
    done = flow(known_set, out=tmp_path / "w", warped=True)
    assert inputs.held_by(Manifest.load(done.path)).name == "warped_flow"
    codes = FileReader().read(Manifest.load(done.path).row(0), np.arange(4))
    assert off(fields.vectors_of(codes, 20), np.zeros(2)) < 0.25  # all of it was the camera's


# Kills

SMALL_FILES = "import muybridge.data.stores.flow as f; f.RAW_BYTES = 4_000_000; import muybridge.cli.app as c; c.main()"


@pytest.mark.slow
@every_codec
def test_ten_kills_leave_no_trace(tmp_path, codec):
    for number in range(60):
        write_clip(tmp_path / "v" / "ab"[number % 2] / f"{number}.avi", number, 30, height=96, width=128)
    prepare(tmp_path / "v", out=tmp_path / "set.csv", val=0, test=0.3)
    command = [sys.executable, "-c", SMALL_FILES, "flow", str(tmp_path / "set.csv"), "--codec", codec, "--out"]
    started = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    took = time.monotonic() - started
    draw, out, kills = random.Random(0), tmp_path / "often", 0
    for _ in range(10):
        process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (out / "flow.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(draw.uniform(0.2, took / 3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 3
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    assert digests(out) == digests(tmp_path / "whole")
    assert len(list(out.glob("*.pack"))) > 2


@pytest.mark.slow
def test_motion_tells_what_frames_do_not(tmp_path):
    """TSN on `motions`: at chance within pairs by frames, right by stacked differences and by flow."""
    from muybridge.data.sets.motions import PAIRS

    made = muybridge.motions(tmp_path / "m", clips=1000).manifest
    shown = {"rgb": made, "rgb_differences": made, "flow": flow(made, out=tmp_path / "flow").path}
    within = {}
    for name, data in shown.items():
        run = muybridge.train(
            "demo", model="tsn_resnet_tiny", data=data, out=tmp_path / "runs" / name, changes={"clip.modality": name}
        )
        scores = run.scores("test")
        within[name] = np.concatenate([scores.within(*pair)[1] for pair in PAIRS]).mean()
    assert within["rgb"] <= 0.65
    assert within["rgb_differences"] >= 0.9
    assert within["flow"] >= 0.9


def test_a_picture_shows_a_video_and_its_flow(tmp_path):
    video = tmp_path / "moving.mp4"
    write_video(video, list(moving(next(iter(MOTIONS.values())), 5)), codec="mpeg4", fps=25, options={"qscale": "3"})
    picture = muybridge.flow_picture(video, out=tmp_path / "flow.jpg")
    assert simplejpeg.is_jpeg(picture.read_bytes())
    image = simplejpeg.decode_jpeg(picture.read_bytes()).astype(int)
    height = image.shape[0] // 2
    colours = np.ptp(image[height + 10 :, : image.shape[1] // 2], axis=-1)
    assert np.median(colours) > 40, "all of the frame moves, so its flow has a colour"
    with pytest.raises(UserError, match=r"is not a \.jpg file"):
        muybridge.flow_picture(video, out=tmp_path / "flow.png")
    with pytest.raises(UserError, match="too few for flow over a distance of 500"):
        muybridge.flow_picture(video, out=tmp_path / "far.jpg", frame_distance=500)
    assert not (tmp_path / "far.jpg").exists()


def test_a_report_on_flow_alone_shows_the_videos_too(parts_set, parts_store, tmp_path):
    name = Manifest.load(parts_set).text("id")[0]
    alone, both = Frames([str(parts_set)]), Frames([str(parts_store.path)])
    heights = [decode_jpeg(found.strip(name).jpeg).shape[0] for found in (alone, both)]
    assert heights[1] > 1.8 * heights[0]
    moved = tmp_path / "moved"
    shutil.copytree(parts_store.path, moved)
    about = json.loads((moved / "flow.json").read_text())
    (moved / "flow.json").write_text(json.dumps({**about, "manifest": str(tmp_path / "gone.csv")}))
    without = Frames([str(moved)])
    assert decode_jpeg(without.strip(name).jpeg).shape[0] < heights[1]
    assert "gone.csv" in without.problem
    assert str(alone.strip(name)) == ""


def test_a_strip_shows_and_names_both_kinds_of_flow(parts_set, parts_store, tmp_path):
    name = Manifest.load(parts_set).text("id")[0]
    warped = flow(parts_set, out=tmp_path / "w", warped=True).path
    shown = Frames([str(warped), str(parts_store.path)]).strip(name)
    assert str(shown) == "From above: frames, flow, warped flow."
    assert decode_jpeg(shown.jpeg).shape[0] == 3 * 72 + 2 * 2
